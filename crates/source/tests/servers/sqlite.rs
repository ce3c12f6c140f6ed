//! SQLite files that others use, lock, damage or never made.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rusqlite::Connection;
use source::Fault;
use source::events::{Event, Layout};
use source::sqlite::{SqliteBackup, backup, stale_companions};
use tempfile::TempDir;

use crate::running::{failed, read, until};

mod preflight;

const ROWS: &str = "create table t (id integer primary key, name text);
with recursive n (i) as (values (1) union all select i + 1 from n where i < 30000)
insert into t select i, 'name ' || hex(i * 7919) from n;
create index by_name on t (name); pragma user_version = 42";

fn request(path: &Path) -> SqliteBackup {
    SqliteBackup { path: path.to_owned(), scratch: None, busy_for: Duration::from_millis(300) }
}

fn made(folder: &TempDir, settings: &str) -> (PathBuf, Connection) {
    let path = folder.path().join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(settings).unwrap();
    connection.execute_batch(ROWS).unwrap();
    (path, connection)
}

fn rows_of(path: &Path) -> (i64, i64) {
    let opened = Connection::open(path).unwrap();
    opened.query_row("select count(*), sum(id) from t", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn names_in(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_in_use_is_copied_with_what_lies_in_its_log() {
    for (settings, page_len) in [("pragma page_size = 8192", 8192), ("pragma journal_mode = wal", 4096)] {
        let folder = TempDir::new().unwrap();
        let (path, open) = made(&folder, settings);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = names_in(&folder);
        let read = read(backup(request(&path))).await.unwrap();
        let entry = read.entry("shop.db");
        assert_eq!(entry.layout, Layout::Pages(page_len));
        assert_eq!(read.fact("user_version"), "42");
        assert_eq!(read.fact("page_count"), (entry.data.len() / page_len as usize).to_string());
        assert_eq!(names_in(&folder), before, "the scratch file is gone and nothing else was made");
        let restored = folder.path().join("restored.db");
        std::fs::write(&restored, &entry.data).unwrap();
        assert_eq!(rows_of(&restored), (30_000, 450_015_000));
        drop(open);
    }
}

#[tokio::test]
async fn two_copies_of_an_idle_file_are_the_same_and_a_small_change_is_a_few_pages() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "pragma journal_mode = wal");
    let copy = async || read(backup(request(&path))).await.unwrap().entry("shop.db").data.clone();
    let (one, two) = (copy().await, copy().await);
    assert!(one == two);
    open.execute("update t set name = 'x' where id = 12345", []).unwrap();
    let three = copy().await;
    let differing = one.chunks(4096).zip(three.chunks(4096)).filter(|(a, b)| a != b).count();
    assert!((1..8).contains(&differing), "{differing}");
}

#[tokio::test]
async fn a_missing_file_is_not_created_and_an_empty_one_is_empty() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("none.db");
    failed(read(backup(request(&path))).await, Fault::Missing);
    assert!(names_in(&folder).is_empty());
    failed(read(backup(request(folder.path()))).await, Fault::Setting);
    std::fs::write(&path, b"").unwrap();
    let empty = read(backup(request(&path))).await.unwrap();
    let restored = folder.path().join("restored.db");
    std::fs::write(&restored, &empty.entry("none.db").data).unwrap();
    let opened = Connection::open(&restored).unwrap();
    assert_eq!(opened.query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0)), Ok(0));
    assert_eq!(std::fs::metadata(&path).unwrap().size(), 0);
}

#[tokio::test]
async fn a_locked_file_is_waited_for_and_then_busy() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "pragma journal_mode = delete");
    open.execute_batch("begin exclusive").unwrap();
    let began = Instant::now();
    let words = failed(read(backup(request(&path))).await, Fault::Busy);
    assert!(words.contains("locked") && began.elapsed() >= Duration::from_millis(250), "{words}");
    let mut patient = request(&path);
    patient.busy_for = Duration::from_secs(30);
    let waiting = tokio::spawn(read(backup(patient)));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!waiting.is_finished());
    open.execute_batch("commit").unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_no_backup() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "");
    drop(open);
    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    changed[middle..middle + 2000].fill(0xa5);
    std::fs::write(&path, &changed).unwrap();
    failed(read(backup(request(&path))).await, Fault::Damaged);
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    failed(read(backup(request(&path))).await, Fault::Damaged);
    std::fs::write(&path, "this is no database at all, ".repeat(1000)).unwrap();
    let words = failed(read(backup(request(&path))).await, Fault::Damaged);
    assert!(words.contains("encrypted"), "{words}");
    assert_eq!(names_in(&folder), ["shop.db"]);
}

#[tokio::test]
async fn a_transaction_that_was_never_finished_is_not_in_the_copy() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "pragma journal_mode = wal");
    open.execute_batch("begin; delete from t").unwrap();
    let copy = read(backup(request(&path))).await.unwrap();
    let restored = folder.path().join("restored.db");
    std::fs::write(&restored, &copy.entry("shop.db").data).unwrap();
    assert_eq!(rows_of(&restored).0, 30_000);
    assert_eq!(stale_companions(&path).len(), 2);
    assert!(stale_companions(&folder.path().join("other.db")).is_empty());
}

#[tokio::test]
async fn writers_go_on_while_a_file_in_wal_mode_is_copied_at_one_moment() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "pragma journal_mode = wal");
    open.execute_batch("create table pair (a integer, b integer); insert into pair values (0, 0)").unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let writing = std::thread::Builder::new().spawn(move || {
        let mut rounds = 0;
        while !over.load(Ordering::Relaxed) {
            // No write may find the file locked: there is no timeout here.
            let changed = "begin; update pair set a = a + 1; update t set name = name || '.' where id % 100 = 0; \
                           update pair set b = b + 1; commit";
            open.execute_batch(changed).unwrap();
            rounds += 1;
        }
        rounds
    });
    for round in 0..5 {
        let copy = read(backup(request(&path))).await.unwrap();
        let restored = folder.path().join(format!("restored{round}.db"));
        std::fs::write(&restored, &copy.entry("shop.db").data).unwrap();
        let opened = Connection::open(&restored).unwrap();
        let pair =
            opened.query_row("select a, b from pair", [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (a, b) = pair.unwrap();
        assert!(a == b, "{a} {b}");
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(writing.unwrap().join().unwrap() > 5);
}

#[tokio::test]
async fn a_reader_that_leaves_leaves_no_scratch_file() {
    let folder = TempDir::new().unwrap();
    let (path, _open) = made(&folder, "");
    let mut events = backup(request(&path));
    assert!(matches!(events.next().await, Some(Ok(Event::Begin(_)))));
    drop(events);
    until(|| !names_in(&folder).iter().any(|name| name.starts_with(".backstay-")));
}

#[tokio::test]
async fn the_scratch_folder_can_be_chosen_and_must_be_there() {
    let (folder, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (path, _open) = made(&folder, "");
    let mut elsewhere = request(&path);
    elsewhere.scratch = Some(scratch.path().to_owned());
    read(backup(elsewhere.clone())).await.unwrap();
    assert!(names_in(&scratch).is_empty());
    elsewhere.scratch = Some(scratch.path().join("missing"));
    let words = failed(read(backup(elsewhere)).await, Fault::Setting);
    assert!(words.contains("must be there and take new files"), "{words}");
}
