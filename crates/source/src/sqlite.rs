//! A SQLite file, copied page by page at one moment while others go on using it.
//!
//! ```text
//! file (opened read-only, in one read transaction) ── online backup ──→ scratch file
//! scratch file: integrity_check, then its bytes → one entry, in pages
//! ```
//!
//! The copy keeps the pages where they were, so that a page that did not change is found again. What lies in a
//! write-ahead log is in the copy. Writers wait meanwhile only if the file is not in WAL mode.
//!
//! Invariant: the file is never created, changed or repaired, and its companions (`-wal`, `-shm`, `-journal`) are never
//! copied by hand.
//! Invariant: what fails SQLite's own check is an error, not a backup.
//! Never here: async; all of it runs on a blocking thread.

mod preflight;
mod restore;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::blocking::{Emitter, stream_of};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, Time, escaped};
use crate::error::{Fault, SourceError};
use crate::events::{Event, Events, Layout, SourceEntry};
use crate::preflight::free_len;
use crate::scratch::Scratch;

pub use preflight::preflight;
pub use restore::SqliteRestore;

/// Where less is free, a failure to write is taken for a lack of room; bytes.
const ROOM_LEN_MIN: u64 = 64 << 10;
/// Pages copied between two looks whether anybody still wants them.
const STEP_PAGES: i32 = 1024;
/// How many of the check's complaints are named.
const COMPLAINTS_MAX: usize = 10;
/// Bytes per piece of content.
const PIECE_LEN: usize = 1024 * 1024;
/// Pieces that wait unread.
const PIECES_MAX: usize = 4;
/// How long to wait between two tries to lock the file.
const RETRY_FOR: Duration = Duration::from_millis(50);
/// What SQLite keeps beside a file; a stale one destroys a restored file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Which file to copy, and how.
#[derive(Debug, Clone)]
pub struct SqliteBackup {
    /// The file.
    pub path: PathBuf,
    /// Where the copy is made, which needs room for all of it; beside the file if `None`.
    pub scratch: Option<PathBuf>,
    /// How long to wait for others that lock the file.
    pub busy_for: Duration,
}

/// Copies the file, checks the copy, and hands it over as one entry with the file's own name.
///
/// Facts: `page_len`, `page_count`, `journal_mode`, `user_version`, `sqlite_version` (ours).
///
/// Must be called within a tokio runtime. The stream fails with [`SourceError::Server`].
#[must_use]
pub fn backup(request: SqliteBackup) -> Events {
    let events = stream_of("sqlite", PIECES_MAX, move |emitter| {
        if let Err(Stop::Failed(error)) = run(&request, &emitter) {
            // If nobody reads any more, nobody wants the error.
            let _ = emitter.emit(Err(error));
        }
    });
    events.map(|event| event.unwrap_or_else(|panicked| Err(panicked.into()))).boxed()
}

/// Files beside `path` which must be gone before a restored file is opened there.
#[must_use]
pub fn stale_companions(path: &Path) -> Vec<PathBuf> {
    let companions = COMPANIONS.map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    });
    companions.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect()
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

impl From<crate::blocking::Stopped> for Stop {
    fn from(_: crate::blocking::Stopped) -> Self {
        Self::Unwanted
    }
}

type EventEmitter = Emitter<Result<Event, SourceError>>;

fn run(request: &SqliteBackup, emitter: &EventEmitter) -> Result<(), Stop> {
    let place = format!("sqlite at {}", escaped(request.path.as_os_str().as_encoded_bytes()));
    let metadata = look(&place, &request.path)?;
    let said = |error: rusqlite::Error| fault_of(&place, folder(request), &error);
    let scratch = scratch_folder(&place, request)?;
    let copy = scratch.path().join("copy");
    let facts = copy_pages(request, &place, &copy, emitter)?;
    if fs::metadata(&copy).is_ok_and(|metadata| metadata.len() > 0) {
        let opened = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(said)?;
        check(&place, folder(request), &opened)?;
    }
    let path = EntryPath::try_from(request.path.file_name().unwrap_or_default().as_encoded_bytes().to_vec())?;
    let failed = |source| SourceError::Unreadable { path: copy.clone(), source };
    let file = File::open(&copy).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let entry = Entry { path, kind: EntryKind::File { len }, metadata };
    emitter.emit(Ok(Event::Begin(SourceEntry { entry, layout: Layout::Pages(facts.page_len), base: None })))?;
    let read = hand_over(file, emitter).map_err(|stop| stop.of(&copy))?;
    if read != len {
        return Err(SourceError::ChangedWhileRead { path: copy }.into());
    }
    emitter.emit(Ok(Event::End))?;
    for (name, value) in facts.named() {
        emitter.emit(Ok(Event::Fact { name: name.to_owned(), value }))?;
    }
    Ok(())
}

/// Looks at the file without opening it: closing it would release locks that this process holds on it.
fn look(place: &str, path: &Path) -> Result<Metadata, SourceError> {
    let refused = |fault, what: &str| SourceError::server(place, fault, what);
    let stat = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => refused(Fault::Right, "its folder may not be read"),
        _ => refused(Fault::Missing, "there is no such file"),
    })?;
    if !stat.is_file() {
        return Err(refused(Fault::Setting, "it is not a file"));
    }
    match access(path, Access::READ_OK) {
        Ok(()) => {}
        Err(Errno::ACCESS) => return Err(refused(Fault::Right, "it may not be read")),
        Err(error) => return Err(refused(Fault::Missing, &error.to_string())),
    }
    let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or_default();
    Ok(Metadata {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        modified_at: Time { secs: stat.mtime(), nanos: nanos(stat.mtime_nsec()) },
        changed_at: Time { secs: stat.ctime(), nanos: nanos(stat.ctime_nsec()) },
        ..Metadata::default()
    })
}

/// A folder of ours, which vanishes with all that is in it.
fn scratch_folder(place: &str, request: &SqliteBackup) -> Result<Scratch, SourceError> {
    let parent = folder(request);
    Scratch::make_in(parent).map_err(|error| {
        let (fault, advice) = match error.kind() {
            std::io::ErrorKind::StorageFull => (Fault::Full, ""),
            _ => (Fault::Setting, "; this folder must be there and take new files"),
        };
        let what = format!("no copy can be made in {}: {error}{advice}", parent.display());
        SourceError::server(place, fault, what)
    })
}

/// Where the copy is made: beside the file, unless another folder is named.
fn folder(request: &SqliteBackup) -> &Path {
    let beside = request.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    request.scratch.as_deref().or(beside).unwrap_or(Path::new("."))
}

/// What is known of the copy.
struct Facts {
    page_len: u32,
    page_count: u64,
    journal_mode: String,
    user_version: i64,
}

impl Facts {
    fn named(self) -> [(&'static str, String); 5] {
        [
            ("page_len", self.page_len.to_string()),
            ("page_count", self.page_count.to_string()),
            ("journal_mode", self.journal_mode),
            ("user_version", self.user_version.to_string()),
            ("sqlite_version", rusqlite::version().to_owned()),
        ]
    }
}

fn copy_pages(request: &SqliteBackup, place: &str, copy: &Path, emitter: &EventEmitter) -> Result<Facts, Stop> {
    let said = |error: rusqlite::Error| fault_of(place, folder(request), &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(&request.path, flags).map_err(said)?;
    from.busy_timeout(request.busy_for).map_err(said)?;
    // One read transaction for all steps: nobody's write makes the copy begin again.
    from.execute_batch("begin; select count(*) from sqlite_schema").map_err(said)?;
    let pragma = |name: &str| from.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(said);
    let journal_mode = from.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(said)?;
    let facts = Facts {
        page_len: u32::try_from(pragma("page_size")?).unwrap_or_default(),
        page_count: u64::try_from(pragma("page_count")?).unwrap_or_default(),
        journal_mode,
        user_version: pragma("user_version")?,
    };
    let mut to = Connection::open(copy).map_err(said)?;
    // The copy is ours alone and worthless until it is whole.
    to.execute_batch("pragma journal_mode = off; pragma synchronous = off").map_err(said)?;
    let backup = Backup::new(&from, &mut to).map_err(said)?;
    let mut waited = Duration::ZERO;
    loop {
        match backup.step(STEP_PAGES).map_err(said)? {
            StepResult::Done => return Ok(facts),
            StepResult::More => {}
            _ if waited < request.busy_for => {
                std::thread::sleep(RETRY_FOR);
                waited += RETRY_FOR;
            }
            _ => return Err(SourceError::server(place, Fault::Busy, "it stays locked by others").into()),
        }
        if emitter.is_stopped() {
            return Err(Stop::Unwanted);
        }
    }
}

/// SQLite's own check of every page, row and index.
fn check(place: &str, folder: &Path, copy: &Connection) -> Result<(), SourceError> {
    let said = |error: rusqlite::Error| fault_of(place, folder, &error);
    let mut statement = copy.prepare(&format!("pragma integrity_check({COMPLAINTS_MAX})")).map_err(said)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(said)?;
    let complaints: Vec<String> = rows.collect::<Result<_, _>>().map_err(said)?;
    if complaints == ["ok"] {
        return Ok(());
    }
    let what = format!("it fails its integrity check: {}", complaints.join("; ").replace('\n', "; "));
    Err(SourceError::server(place, Fault::Damaged, what))
}

enum Broken {
    Unwanted,
    Io(std::io::Error),
}

impl Broken {
    fn of(self, path: &Path) -> Stop {
        match self {
            Self::Unwanted => Stop::Unwanted,
            Self::Io(source) => SourceError::Unreadable { path: path.to_owned(), source }.into(),
        }
    }
}

fn hand_over(mut file: File, emitter: &EventEmitter) -> Result<u64, Broken> {
    let mut total = 0;
    loop {
        let mut piece = BytesMut::zeroed(PIECE_LEN);
        let mut len = 0;
        while let Some(room) = piece.get_mut(len..).filter(|room| !room.is_empty()) {
            match file.read(room).map_err(Broken::Io)? {
                0 => break,
                read => len += read,
            }
        }
        if len == 0 {
            return Ok(total);
        }
        piece.truncate(len);
        total += len as u64;
        emitter.emit(Ok(Event::Data(piece.freeze()))).map_err(|_| Broken::Unwanted)?;
    }
}

/// What SQLite's words mean for who has to act; `folder` is where it writes.
fn fault_of(place: &str, folder: &Path, error: &rusqlite::Error) -> SourceError {
    let code = error.sqlite_error_code();
    let has_no_room = || free_len(folder).is_some_and(|free| free < ROOM_LEN_MIN);
    if code == Some(ErrorCode::DiskFull) || (code == Some(ErrorCode::SystemIoFailure) && has_no_room()) {
        let what = format!("no room is left in {}, where the copy is made: {error}", folder.display());
        return SourceError::server(place, Fault::Full, what);
    }
    let (fault, advice) = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (Fault::Busy, ""),
        Some(ErrorCode::DatabaseCorrupt) => (Fault::Damaged, ""),
        Some(ErrorCode::NotADatabase) => (Fault::Damaged, "; it is no SQLite file, or an encrypted one"),
        Some(ErrorCode::PermissionDenied) => (Fault::Right, ""),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => (
            Fault::Setting,
            "; it has to be recovered, or its folder cannot be written while it is in WAL mode: open it once by its \
             own application",
        ),
        Some(ErrorCode::SystemIoFailure) => (Fault::Damaged, "; its disk did not do what was asked"),
        _ => (Fault::Protocol, ""),
    };
    SourceError::server(place, fault, format!("{error}{advice}"))
}
