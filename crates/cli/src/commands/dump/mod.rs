//! `dump`: a folder of a snapshot as one archive on stdout.
//!
//! ```text
//! entries with their content ─► form (tar, zip) ─► pieces ─► stdout
//! ```
//!
//! Invariant: what is missing from the archive, or zeros in it in place of what is lost, is named, and the exit code says so.
//! Invariant: nothing is kept but the names of files with several links whose other names are still to come.
//! Never here: how an archive is laid out (see `tar` and `zip`).

mod access_list;
mod tar;
mod zip;

use std::io::IsTerminal as _;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use engine::{Archived, EngineError, Kind, Repository};
use futures::TryStreamExt as _;
use pack::SnapshotId;
use pack::manifest::{Entry, EntryKind};

use crate::commands::losses::Losses;
use crate::commands::selection::SelectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};

use self::tar::TarForm;
use self::zip::ZipForm;

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay dump [OPTIONS] SNAPSHOT[:PATH]
       backstay dump [OPTIONS] --at TIME [:PATH]";

const EXAMPLES: &str = "\
Examples:
  backstay dump latest:/srv/www > www.tar
  backstay dump latest:/srv | tar -x --xattrs --xattrs-include='*' -C /mnt   # as root, with owners and attributes
  backstay dump latest:/srv/www --format zip > www.zip
  backstay dump --at yesterday :/srv | ssh web2 tar -x -C /srv";

/// Bytes, and pieces, that are gathered before they are written.
const GATHERED_LEN: usize = 1 << 20;
const GATHERED_COUNT: usize = 256;
const ZEROS_LEN: usize = 64 << 10;
static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];

/// Write a folder of a snapshot to standard output as a tar or zip archive
///
/// Names in the archive begin below the path, as a restore places them. A tar has everything: owners, times to the nanosecond,
/// links, devices, holes and extended attributes (all but sockets). A zip has files, folders and symbolic links, with
/// permissions and times to two seconds. A file whose content is lost is left out and named; where that is found too late, zeros
/// stand in place of what is lost. The exit code is then 1.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct DumpArgs {
    /// The form of the archive
    #[arg(long, value_enum, default_value_t = FormWord::Tar)]
    format: FormWord,

    #[command(flatten)]
    selection: SelectionArgs,
}

/// A form of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormWord {
    Tar,
    Zip,
}

/// What an archive is written by.
enum Form {
    Tar(TarForm),
    Zip(Box<ZipForm>),
}

/// What a form makes of an entry.
enum Begun {
    /// Its content is wanted.
    Content(Vec<Bytes>),
    /// It is complete; content that comes is left out.
    Whole(Vec<Bytes>),
    /// The form has no place for such a thing.
    Unfit,
}

/// The entry that is being written.
struct Current {
    path: String,
    takes_content: bool,
    takes_holes: bool,
    /// Bytes of it that are lost.
    lost_len: u64,
}

/// Writes it.
pub(crate) async fn run(args: &DumpArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    if std::io::stdout().is_terminal() {
        return Err(CommandError::ArchiveOnTerminal);
    }
    let repository = ctx.open_repository().await?;
    let snapshot = args.selection.select(&repository, ctx).await?;
    let form = match args.format {
        FormWord::Tar => Form::Tar(TarForm::default()),
        FormWord::Zip => Form::Zip(Box::default()),
    };
    let path = args.selection.path();
    let has_several = snapshot.snapshot.structure.components.len() > 1;
    let mut archive = repository.archived(&snapshot, path, args.format == FormWord::Tar).await?;
    let mut dump =
        Dump { path, has_several, form, current: None, losses: Losses::default(), out: Vec::new(), out_len: 0, ctx };
    let mut count = 0_u64;
    while let Some(next) = archive.try_next().await? {
        count += 1;
        dump.take(next).await?;
    }
    if count == 0 && !path.is_empty() {
        let (path, snapshot) = (escaped(path).to_string(), human::short(&snapshot.id));
        return Err(EngineError::NoEntry { path, snapshot }.into());
    }
    dump.finish(&repository, snapshot.id).await
}

struct Dump<'a> {
    path: &'a [u8],
    has_several: bool,
    form: Form,
    current: Option<Current>,
    losses: Losses,
    out: Vec<Bytes>,
    out_len: usize,
    ctx: &'a Context,
}

impl Dump<'_> {
    async fn take(&mut self, next: Archived) -> Result<(), CommandError> {
        match next {
            Archived::Entry { component, entry, data } => {
                let place = self.place(&component, &entry);
                let shown = escaped(&entry.path).to_string();
                let takes_holes = data.is_none();
                let begun = match &mut self.form {
                    Form::Tar(tar) => tar.begin(&component, &place, &entry, data.as_deref()),
                    Form::Zip(zip) => zip.begin(&place, &entry).await?,
                };
                let (pieces, takes_content) = match begun {
                    Begun::Content(pieces) => (pieces, true),
                    Begun::Whole(pieces) => (pieces, false),
                    Begun::Unfit => {
                        let noun = human::kind_word(&entry.kind);
                        self.ctx
                            .ui
                            .warn(format_args!("{shown} is left out: such an archive has no place for a {noun}"));
                        (Vec::new(), false)
                    }
                };
                self.current = Some(Current { path: shown, takes_content, takes_holes, lost_len: 0 });
                self.send(pieces).await
            }
            Archived::Bytes(bytes) => self.content(bytes).await,
            Archived::Hole(len) => match self.current.as_ref().is_some_and(|current| current.takes_holes) {
                true => self.zeros(len).await,
                false => Ok(()),
            },
            Archived::LostBytes(len, error) => {
                let (path, lost_len) = match &mut self.current {
                    Some(current) => (current.path.as_str(), &mut current.lost_len),
                    None => ("", &mut 0),
                };
                *lost_len += len;
                // Told once for a file, when it is first met, since the rest of it may take long or never come.
                if *lost_len == len || error.kind() != Kind::Damaged {
                    let of = format!("{path}: zeros in place of what is lost");
                    self.losses.pass(error, &of, self.ctx)?;
                }
                self.zeros(len).await
            }
            Archived::End => {
                if let Some(Current { path, lost_len: lost_len @ 1.., .. }) = self.current.take() {
                    let bytes = human::counted(lost_len, "byte", "bytes");
                    self.ctx.ui.note(format_args!("{path}: {bytes} are lost"));
                }
                let pieces = match &mut self.form {
                    Form::Tar(tar) => tar.end(),
                    Form::Zip(_) => Vec::new(),
                };
                self.send(pieces).await
            }
            Archived::LostFile(entry, error) => {
                self.losses.pass(error, &format!("{}: left out", escaped(&entry.path)), self.ctx)
            }
            Archived::LostEntries(component, error) => {
                let of = if self.has_several { escaped(component.as_bytes()).to_string() } else { String::new() };
                self.losses.pass(error, &of, self.ctx)
            }
        }
    }

    /// Where an entry goes in the archive; empty for the folder that is dumped.
    fn place(&self, component: &str, entry: &Entry) -> Vec<u8> {
        let below = match entry.path.strip_prefix(self.path) {
            _ if self.path.is_empty() => entry.path.as_slice(),
            Some([]) if matches!(entry.kind, EntryKind::Directory) => &[],
            Some([]) => entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default(),
            Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest),
            None => entry.path.as_slice(),
        };
        match self.has_several {
            true if below.is_empty() => component.as_bytes().to_vec(),
            true => [component.as_bytes(), below].join(&b'/'),
            false => below.to_vec(),
        }
    }

    async fn content(&mut self, bytes: Bytes) -> Result<(), CommandError> {
        if !self.current.as_ref().is_some_and(|current| current.takes_content) {
            return Ok(());
        }
        let pieces = match &mut self.form {
            Form::Tar(tar) => tar.content(bytes),
            Form::Zip(zip) => zip.content(bytes).await?,
        };
        self.send(pieces).await
    }

    async fn zeros(&mut self, len: u64) -> Result<(), CommandError> {
        let mut left = len;
        while left > 0 {
            let part = left.min(ZEROS_LEN as u64) as usize;
            self.content(Bytes::from_static(ZEROS.get(..part).unwrap_or_default())).await?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Writes pieces once enough have come together.
    async fn send(&mut self, pieces: Vec<Bytes>) -> Result<(), CommandError> {
        self.out_len += pieces.iter().map(Bytes::len).sum::<usize>();
        self.out.extend(pieces);
        if self.out_len < GATHERED_LEN && self.out.len() < GATHERED_COUNT {
            return Ok(());
        }
        self.out_len = 0;
        self.ctx.ui.bytes(std::mem::take(&mut self.out)).await
    }

    async fn finish(mut self, repository: &Repository, snapshot: SnapshotId) -> Result<Outcome, CommandError> {
        let pieces = match &mut self.form {
            Form::Tar(_) => TarForm::finish(),
            Form::Zip(zip) => zip.finish().await?,
        };
        self.out.extend(pieces);
        self.ctx.ui.bytes(std::mem::take(&mut self.out)).await?;
        Ok(self.losses.outcome(repository, &[snapshot], self.ctx).await)
    }
}
