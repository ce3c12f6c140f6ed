//! What `backup` can be told, and the request that it comes to.
//!
//! Invariant: the repository's own folder and the cache are never backed up.
//! Never here: doing it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use chunk::CutterKind;
use clap::Args;
use engine::{BackupRequest, ComponentRequest, Input};
use source::command::CommandLine;
use source::files::{FilesOptions, FilesSource};
use store::Location;

use crate::context::{Context, temporary_cache_folders};
use crate::error::CommandError;
use crate::human;
use crate::words::{size, until};

/// How long the names of several paths may be together before only the first is named, in bytes.
const SOURCE_LEN_MAX: usize = 120;

const EXAMPLES: &str = "\
Examples:
  backstay backup /etc /srv --exclude '*.tmp' --exclude-caches
  backstay backup /home -x --exclude-file /etc/backstay/exclude --tag nightly
  backstay backup --name shop.sql --command -- pg_dump --no-sync shop
  mysqldump --single-transaction shop | backstay backup --stdin --name shop.sql";

/// Back up files and directories, standard input, or what a command prints
///
/// A file that cannot be read, or that changes while it is read, is reported, as is a PATH that is not there; the rest is
/// backed up, and the exit code is 1. If no PATH is there, nothing is committed, and the exit code is 2. The output of a command is committed only if the command ends with exit status 0.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct BackupArgs {
    /// Files and directories
    #[arg(value_name = "PATH", required_unless_present_any = ["stdin", "command", "words"])]
    #[arg(conflicts_with_all = ["stdin", "command"])]
    paths: Vec<PathBuf>,

    /// The command and its arguments, after --
    #[arg(value_name = "CMD", last = true, hide = true, conflicts_with = "stdin")]
    words: Vec<OsString>,

    /// Back up standard input
    #[arg(long, requires = "name", conflicts_with = "command")]
    stdin: bool,

    /// Back up what the command after -- prints; no shell is involved
    #[arg(long, requires_all = ["name", "words"])]
    command: bool,

    /// What the stream is called in the snapshot: a file name
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    name: Option<String>,

    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    snapshot: SnapshotArgs,
    #[command(flatten)]
    storing: StoringArgs,
}

const USAGE: &str = "\
backstay backup [OPTIONS] PATH...
       backstay backup [OPTIONS] --name NAME --command -- CMD [ARG]...
       backstay backup [OPTIONS] --name NAME --stdin";

#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out")]
struct FilesArgs {
    /// Leave out what matches, as in .gitignore, against absolute paths
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Read such patterns from a file, one a line; they win over --exclude
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// Keep only files which match, or are below a directory that matches
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,

    /// Leave out the content of directories marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,

    /// Leave out the content of directories which hold this file, beginning with HEADER
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<String>,

    /// Leave out files larger than this, such as 500M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    exclude_larger_than: Option<u64>,

    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Snapshot")]
struct SnapshotArgs {
    /// Tag the snapshot; may be given several times
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// The host's name, if not its own
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// What retention groups by [default: the paths, or --component, or --name]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,

    /// The component's name [default: `files`, or --name]
    #[arg(long, value_name = "NAME")]
    component: Option<String>,

    /// Let nothing forget the snapshot before this time: 2033-11-19, or for so long: 7y
    #[arg(long, value_name = "TIME")]
    keep_until: Option<String>,

    /// A remark for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,

    /// Commit also if there is nothing to back up
    #[arg(long)]
    allow_empty: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Reading and storing")]
struct StoringArgs {
    /// Read every file, also those which have not changed since the last snapshot
    #[arg(long)]
    force: bool,

    /// Read and count, but store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// How hard to compress, from 1 (fast) to 19
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,

    /// Cut all content this way, such as cdc-16k, pages-8192 or tar, instead of by what it is
    #[arg(long, value_name = "CUTTER")]
    cutter: Option<CutterKind>,
}

impl BackupArgs {
    /// Whether nothing is to be stored.
    pub(crate) const fn is_dry_run(&self) -> bool {
        self.storing.dry_run
    }

    /// What the engine is to do.
    pub(crate) fn request(&self, ctx: &Context) -> Result<BackupRequest, CommandError> {
        let (snapshot, storing) = (&self.snapshot, &self.storing);
        let keep_until = snapshot.keep_until.as_deref().map(|text| until(text, &ctx.now())).transpose();
        let keep_until = keep_until.map_err(|what| CommandError::UntilWhen { option: "--keep-until", what })?;
        let input = self.input(ctx)?;
        Ok(BackupRequest {
            source: snapshot.source.clone().or_else(|| self.source_by_paths(&input)),
            components: vec![ComponentRequest {
                input,
                name: snapshot.component.clone(),
                cutter: storing.cutter,
                force: storing.force,
                allow_empty: snapshot.allow_empty,
                shrink: None,
            }],
            at_once: 1,
            host: snapshot.host.clone().unwrap_or_else(human::host_name),
            tags: snapshot.tag.clone(),
            keep_until: keep_until.map(|at| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)),
            description: snapshot.description.clone(),
            level: storing.compression,
            dry_run: storing.dry_run,
        })
    }

    /// What a backup of files is of, if nobody named it: two backups of different folders thin each other out only if
    /// somebody wants that. None for streams, and for a component that was named.
    fn source_by_paths(&self, input: &Input) -> Option<String> {
        let Input::Files { roots, options } = input else { return None };
        if self.snapshot.component.is_some() {
            return None;
        }
        let absolute = |root: &PathBuf| FilesSource::root_by_text(&options.cwd, root);
        let roots: BTreeSet<PathBuf> = roots.iter().map(absolute).collect();
        let shown: Vec<String> =
            roots.iter().map(|root| human::escaped(root.as_os_str().as_bytes()).to_string()).collect();
        let all = shown.join(", ");
        match shown.split_first() {
            Some((first, more)) if all.len() > SOURCE_LEN_MAX && !more.is_empty() => {
                let blake3 = blake3::hash(all.as_bytes()).to_hex();
                Some(format!("{first} and {} more ({})", more.len(), blake3.get(..8).unwrap_or_default()))
            }
            _ => Some(all),
        }
    }

    fn input(&self, ctx: &Context) -> Result<Input, CommandError> {
        let name = self.name.clone().unwrap_or_default();
        if self.stdin {
            return Ok(Input::Stdin { name });
        }
        if self.command
            && let Some((program, args)) = self.words.split_first()
        {
            let mut command = CommandLine::new(program, args);
            command.env_hidden.push("BACKSTAY_PASSWORD".into());
            return Ok(Input::Command { name, command });
        }
        if self.name.is_some() {
            return Err(CommandError::NotACommand);
        }
        // `backup -- -x` names a file.
        let roots = self.paths.iter().cloned().chain(self.words.iter().map(PathBuf::from)).collect();
        Ok(Input::Files { roots, options: self.files.options(ctx)? })
    }
}

impl FilesArgs {
    fn options(&self, ctx: &Context) -> Result<FilesOptions, CommandError> {
        let mut forbidden = vec![ctx.cache_folder()?];
        forbidden.extend(temporary_cache_folders());
        if let Location::Directory(folder) = ctx.location()? {
            forbidden.push(folder);
        }
        Ok(FilesOptions {
            cwd: std::env::current_dir().map_err(|source| CommandError::CurrentDirectory { source })?,
            exclude: self.exclude.clone(),
            exclude_files: self.exclude_file.clone(),
            include: self.include.clone(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: self.exclude_if_present.clone(),
            one_file_system: self.one_file_system,
            exclude_larger_than: self.exclude_larger_than,
            forbidden,
            needs_all_roots: false,
        })
    }
}
