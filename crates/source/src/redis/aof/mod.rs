//! The append-only file of a Redis or Valkey server: its base, what was written since, and the manifest that says so.
//!
//! ```text
//! manifest → open all its files → manifest again: the same? → they belong together, whatever happens to their names
//! base, increments (the last one up to its last whole command) → entries below the folder's own name, manifest last
//! ```
//!
//! Servers only append to these files or replace them, so neither rewriting has to be switched off meanwhile nor the
//! server to be asked for anything. What was written while the files are read is not in the backup.
//!
//! Invariant: what is handed over is loaded by a server that refuses to load what is cut (`aof-load-truncated no`).
//! Never here: connections. Servers before version 7 keep one file without a manifest, and are refused.

mod commands;
mod manifest;
mod preflight;

pub use preflight::append_only_preflight;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;

use self::commands::Commands;
use self::manifest::{AofManifest, LEN_MAX, Part, SUFFIX};
use super::rdb::{Checksum, RdbEnd};
use crate::blocking::{Emitter, Stopped, stream_of};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, Time, escaped};
use crate::error::{Fault, SourceError};
use crate::events::{Event, Events, Layout, SourceEntry};

/// How often the files are opened anew because a rewrite changed the manifest meanwhile, as a count.
const ATTEMPTS_MAX: u32 = 50;
/// How long to wait between two of them.
const RETRY_FOR: Duration = Duration::from_millis(100);
/// Bytes per piece of content.
const PIECE_LEN: usize = 1024 * 1024;
/// Pieces that wait unread.
const PIECES_MAX: usize = 4;

/// Reads the append-only file whose manifest lies in `folder`, usually `…/appendonlydir`.
///
/// Entries are the folder under its own name and the files in it, so that they are restored into the server's `dir`.
/// Facts: `base`, `increment_count`, `command_count` (of increments), `cut_len` (bytes of a command that was being
/// written).
///
/// Must be called within a tokio runtime. The stream fails with [`SourceError::Server`].
#[must_use]
pub fn append_only(folder: PathBuf) -> Events {
    let events = stream_of("append-only file", PIECES_MAX, move |emitter| {
        if let Err(Stop::Failed(error)) = run(&folder, &emitter) {
            // If nobody reads any more, nobody wants the error.
            let _ = emitter.emit(Err(error));
        }
    });
    events.map(|event| event.unwrap_or_else(|panicked| Err(panicked.into()))).boxed()
}

enum Stop {
    Unwanted,
    Failed(SourceError),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for Stop {
    fn from(_: Stopped) -> Self {
        Self::Unwanted
    }
}

type EventEmitter = Emitter<Result<Event, SourceError>>;

/// Files that belong together.
struct Set {
    manifest: AofManifest,
    manifest_name: String,
    /// As in the manifest, each with its length at one moment.
    files: Vec<(File, u64)>,
}

fn run(folder: &Path, emitter: &EventEmitter) -> Result<(), Stop> {
    let (place, own_name) = place_of(folder)?;
    let Set { manifest, manifest_name, files } = open(&place, folder)?;
    let metadata = folder.metadata().map_err(|error| unreadable(&place, &own_name, &error))?;
    begin(emitter, &own_name, EntryKind::Directory, metadata_of(&metadata), Layout::Unknown)?;
    emitter.emit(Ok(Event::End))?;
    let (mut command_count, mut cut_len) = (0, 0);
    let last = files.len().saturating_sub(1);
    for (index, ((name, part), (mut file, len))) in manifest.files.iter().zip(files).enumerate() {
        let failed = |error: io::Error| unreadable(&place, name, &error);
        let metadata = file.metadata().map_err(failed)?;
        let is_last = index == last && *part == Part::Increment;
        let whole_len = if is_last { whole_len(&place, name, &mut file, len)? } else { len };
        cut_len += len - whole_len;
        let layout = if *part == Part::Base { Layout::Records } else { Layout::Unknown };
        let kind = EntryKind::File { len: whole_len };
        begin(emitter, &format!("{own_name}/{name}"), kind, metadata_of(&metadata), layout)?;
        let mut seen = Seen::of(*part);
        copy(&mut file, whole_len, |data| {
            seen.push(&data);
            emitter.emit(Ok(Event::Data(data.freeze())))
        })
        .map_err(|broken| broken.stop(&place, name))?;
        let (count, warning) = seen.finish(&place, name, whole_len)?;
        command_count += count;
        emitter.emit(Ok(Event::End))?;
        if let Some(warning) = warning {
            emitter.emit(Ok(Event::Warning(warning)))?;
        }
    }
    let kind = EntryKind::File { len: manifest.text.len() as u64 };
    let own = Metadata { mode: 0o600, ..metadata_of(&metadata) };
    begin(emitter, &format!("{own_name}/{manifest_name}"), kind, own, Layout::Unknown)?;
    emitter.emit(Ok(Event::Data(manifest.text.into())))?;
    emitter.emit(Ok(Event::End))?;
    let base = manifest.files.iter().find(|(_, part)| *part == Part::Base).map_or("", |(name, _)| name);
    let increment_count = manifest.files.iter().filter(|(_, part)| *part == Part::Increment).count();
    for (name, value) in [
        ("base", base.to_owned()),
        ("increment_count", increment_count.to_string()),
        ("command_count", command_count.to_string()),
        ("cut_len", cut_len.to_string()),
    ] {
        emitter.emit(Ok(Event::Fact { name: name.to_owned(), value }))?;
    }
    Ok(())
}

/// What messages call it, and its folder's own name.
fn place_of(folder: &Path) -> Result<(String, String), SourceError> {
    let place = format!("append-only file in {}", escaped(folder.as_os_str().as_encoded_bytes()));
    match folder.file_name() {
        Some(name) => Ok((place, name.to_string_lossy().into_owned())),
        None => Err(SourceError::server(place, Fault::Setting, "the folder has no name")),
    }
}

/// Opens all files of the manifest. They belong together if it still says the same afterwards.
fn open(place: &str, folder: &Path) -> Result<Set, SourceError> {
    for _ in 0..ATTEMPTS_MAX {
        let (manifest_name, text) = read_manifest(place, folder)?;
        let manifest = AofManifest::parse(&text);
        let manifest = manifest.ok_or_else(|| {
            SourceError::server(place, Fault::Protocol, format!("{manifest_name} is not a manifest of Redis"))
        })?;
        let opened = manifest.files.iter().map(|(name, _)| {
            let file = File::open(folder.join(name))?;
            let len = file.metadata()?.len();
            Ok((name, (file, len)))
        });
        let mut files = Vec::new();
        let mut missing = None;
        for (opened, (name, _)) in opened.zip(&manifest.files) {
            match opened {
                Ok((_, file)) => files.push(file),
                Err(error) => missing = Some((name.clone(), error)),
            }
        }
        let is_same = read_manifest(place, folder).is_ok_and(|(_, again)| again == text);
        match missing {
            None if is_same => return Ok(Set { manifest, manifest_name, files }),
            Some((name, error)) if is_same => return Err(unreadable(place, &name, &error)),
            _ => std::thread::sleep(RETRY_FOR),
        }
    }
    Err(SourceError::server(place, Fault::Busy, "it is rewritten again and again"))
}

fn read_manifest(place: &str, folder: &Path) -> Result<(String, Vec<u8>), SourceError> {
    let listed = folder.read_dir().map_err(|error| unreadable(place, "the folder", &error))?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(SUFFIX) && !name.starts_with("temp")).collect();
    let name = match (names.pop(), names.is_empty()) {
        (Some(name), true) => name,
        (Some(_), false) => return Err(SourceError::server(place, Fault::Setting, "it has more than one manifest")),
        (None, _) => {
            let what = "it has no manifest; is appendonly on, and the server of version 7 or later?";
            return Err(SourceError::server(place, Fault::Missing, what));
        }
    };
    let mut text = Vec::new();
    let read = File::open(folder.join(&name)).and_then(|file| file.take(LEN_MAX).read_to_end(&mut text));
    read.map_err(|error| unreadable(place, &name, &error))?;
    Ok((name, text))
}

/// Bytes up to the end of the last whole command among the first `len`.
fn whole_len(place: &str, name: &str, file: &mut File, len: u64) -> Result<u64, Stop> {
    let mut commands = Commands::default();
    let mut is_sound = true;
    let read = copy(file, len, |data| {
        is_sound &= commands.push(&data).is_ok();
        if is_sound { Ok(()) } else { Err(Stopped) }
    });
    match read {
        Err(Broken::Stopped) | Ok(()) if !is_sound => Err(no_commands(place, name).into()),
        Ok(()) => {
            let rewound = file.seek(SeekFrom::Start(0));
            rewound.map_err(|error| unreadable(place, name, &error))?;
            Ok(commands.whole_len())
        }
        Err(broken) => Err(broken.stop(place, name)),
    }
}

/// Whether a file is what its part of the set has to be.
enum Seen {
    Base(Box<(RdbEnd, Option<u8>)>, Commands, bool),
    Increment(Commands, bool),
}

impl Seen {
    fn of(part: Part) -> Self {
        match part {
            Part::Base => Self::Base(Box::default(), Commands::default(), true),
            Part::Increment => Self::Increment(Commands::default(), true),
        }
    }

    fn push(&mut self, data: &[u8]) {
        match self {
            Self::Base(rdb, commands, is_sound) => {
                rdb.0.push(data);
                rdb.1 = rdb.1.or(data.first().copied());
                *is_sound = *is_sound && commands.push(data).is_ok();
            }
            Self::Increment(commands, is_sound) => *is_sound = *is_sound && commands.push(data).is_ok(),
        }
    }

    /// How many commands it has, and what people should know of it.
    fn finish(self, place: &str, name: &str, len: u64) -> Result<(u64, Option<String>), SourceError> {
        match self {
            Self::Increment(commands, true) if commands.whole_len() == len => Ok((commands.count(), None)),
            Self::Base(_, commands, true) if commands.whole_len() == len => Ok((0, None)),
            Self::Base(rdb, _, _) if matches!(rdb.1, Some(b'R' | b'V')) => match rdb.0.finish() {
                Ok(Checksum::Right) => Ok((0, None)),
                Ok(Checksum::Off) => Ok((0, Some(format!("{place}: {name} has no checksum (rdbchecksum no)")))),
                // The one file of a server before version 7: an RDB, and commands behind it.
                Err(_) if !name.ends_with(".rdb") => {
                    Ok((0, Some(format!("{place}: {name} is of an older server, and was not verified"))))
                }
                Err(why) => Err(SourceError::server(place, Fault::Damaged, format!("{name}: {why}"))),
            },
            _ => Err(no_commands(place, name)),
        }
    }
}

fn no_commands(place: &str, name: &str) -> SourceError {
    SourceError::server(place, Fault::Damaged, format!("{name} holds something else than whole commands"))
}

enum Broken {
    Stopped,
    Io(io::Error),
}

impl Broken {
    fn stop(self, place: &str, name: &str) -> Stop {
        match self {
            Self::Stopped => Stop::Unwanted,
            Self::Io(error) => unreadable(place, name, &error).into(),
        }
    }
}

/// Hands over the first `len` bytes in pieces.
fn copy(file: &mut File, len: u64, mut take: impl FnMut(BytesMut) -> Result<(), Stopped>) -> Result<(), Broken> {
    let mut left = len;
    while left > 0 {
        let mut piece = BytesMut::zeroed(usize::try_from(left).unwrap_or(PIECE_LEN).min(PIECE_LEN));
        file.read_exact(&mut piece).map_err(Broken::Io)?;
        left -= piece.len() as u64;
        take(piece).map_err(|_| Broken::Stopped)?;
    }
    Ok(())
}

fn begin(emitter: &EventEmitter, path: &str, kind: EntryKind, metadata: Metadata, layout: Layout) -> Result<(), Stop> {
    let entry = Entry { path: EntryPath::try_from(path.as_bytes().to_vec())?, kind, metadata };
    Ok(emitter.emit(Ok(Event::Begin(SourceEntry { entry, layout, base: None })))?)
}

fn metadata_of(stat: &std::fs::Metadata) -> Metadata {
    let time = |secs, nanos: i64| Time { secs, nanos: u32::try_from(nanos).unwrap_or_default() };
    Metadata {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        modified_at: time(stat.mtime(), stat.mtime_nsec()),
        changed_at: time(stat.ctime(), stat.ctime_nsec()),
        ..Metadata::default()
    }
}

fn unreadable(place: &str, name: &str, error: &io::Error) -> SourceError {
    let fault = match error.kind() {
        io::ErrorKind::PermissionDenied => Fault::Right,
        io::ErrorKind::NotFound => Fault::Missing,
        io::ErrorKind::UnexpectedEof => Fault::Damaged,
        _ => Fault::Interrupted,
    };
    SourceError::server(place, fault, format!("{name} cannot be read: {error}"))
}
