//! Who may use the folder, and what becomes of what should not be in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::index_cache::database::{Batch, Database, Family};
use crate::index_cache::{CacheError, Place, clear};

fn repository_folder(options: &CacheOptions) -> PathBuf {
    options.folder.join(REPOSITORY.to_string())
}

fn fill(cache: &IndexCache) {
    let packs = (0..20).map(|number| pack(number, 20, 10_000)).collect();
    cache.apply(segment_id(0), &segment(packs)).unwrap();
}

fn fill_and_close(options: &CacheOptions) {
    let cache = open(options);
    fill(&cache);
    drop(cache);
    // A second opening writes the log out into tables.
    drop(open(options));
}

fn names(options: &CacheOptions) -> Vec<String> {
    let entries = fs::read_dir(&options.folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn has_private(options: &CacheOptions) -> bool {
    names(options).iter().any(|name| name.contains("private"))
}

#[test]
fn second_handle_works_on_a_private_cache_which_is_gone_when_dropped() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let first = open(&options);
    let (second, third) = (open(&options), open(&options));
    assert_eq!([&first, &second, &third].map(IndexCache::is_private), [false, true, true]);
    fill(&second);
    assert_eq!(second.stats().unwrap().packs, 20);
    assert_eq!((first.stats().unwrap().packs, third.stats().unwrap().packs), (0, 0));
    assert!(has_private(&options));
    drop((second, third));
    assert!(!has_private(&options), "{:?}", names(&options));
    drop(first);
    assert!(!open(&options).is_private());
}

#[test]
fn folders_are_for_their_owner_alone() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let (_first, _second) = (open(&options), open(&options));
    for name in names(&options) {
        let mode = fs::metadata(options.folder.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is open to others: {mode:o}");
    }
}

#[test]
fn process_holds_and_is_killed() {
    let Some(options) = child_options() else { return };
    let cache = open(&options);
    fill(&cache);
    println!("private: {}. ready", cache.is_private());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn other_process_works_on_a_private_cache_and_takes_over_when_the_first_is_killed() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let mut holder = child("folder::process_holds_and_is_killed", &options);
    wait_for(&mut holder, "private: false. ready");
    assert!(open(&options).is_private());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let cache = open(&options);
    assert!(!cache.is_private());
    assert_eq!(cache.stats().unwrap().packs, 20, "what the killed process applied is still there");
}

#[test]
fn private_cache_of_a_killed_process_is_removed_at_the_next_opening() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let first = open(&options);
    let mut other = child("folder::process_holds_and_is_killed", &options);
    wait_for(&mut other, "private: true. ready");
    drop(open(&options));
    assert!(has_private(&options), "the other process is alive");
    other.kill().unwrap();
    other.wait().unwrap();
    drop(first);
    let _cache = open(&options);
    assert!(!has_private(&options), "{:?}", names(&options));
}

#[test]
fn cache_of_another_repository_or_version_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    fill_and_close(&options);
    let other = RepositoryId([1; 16]);
    fs::rename(repository_folder(&options), options.folder.join(other.to_string())).unwrap();
    let cache = IndexCache::open(&options, other).unwrap();
    assert_eq!((cache.stats().unwrap().packs, cache.is_private()), (0, false));
    fill(&cache);
    assert_eq!(cache.stats().unwrap().packs, 20);
}

#[test]
fn junk_in_the_folder_is_removed() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let place = repository_folder(&options);
    fs::create_dir_all(&options.folder).unwrap();
    fs::write(&place, "a file where the folder belongs").unwrap();
    fill_and_close(&options);
    fs::remove_file(place.join("CURRENT")).unwrap();
    assert_eq!(open(&options).stats().unwrap().packs, 0, "without CURRENT nothing is believed");
    for junk in ["CURRENT", "MANIFEST-000001", "000009.log", "000010.sst"] {
        fill_and_close(&options);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(junk), "junk\n").unwrap();
        let cache = open(&options);
        fill(&cache);
        assert_eq!(cache.stats().unwrap().packs, 20, "after junk in {junk}");
    }
}

#[test]
fn damaged_tables_are_never_believed_and_are_made_anew() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    fill_and_close(&options);
    for entry in fs::read_dir(repository_folder(&options)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
            fs::write(&path, bytes).unwrap();
        }
    }
    let ids: Vec<_> = (0..10_000).map(chunk_id).collect();
    if let Ok(cache) = IndexCache::open(&options, REPOSITORY) {
        match cache.lookup(&ids) {
            Ok(found) => assert!(found.iter().all(|places| places.is_empty())),
            Err(error) => assert!(matches!(error, CacheError::Damaged { .. }), "{error:?}"),
        }
    }
    assert_eq!(open(&options).stats().unwrap().packs, 0);
}

#[test]
fn cache_whose_numbers_have_a_gap_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    for (family, key) in [(Family::PackIds, pack_id(3).0.to_vec()), (Family::Packs, 19u32.to_be_bytes().to_vec())] {
        fill_and_close(&options);
        let database = Database::open(&repository_folder(&options), options.limits()).unwrap();
        let mut batch = Batch::default();
        database.delete(&mut batch, family, &key);
        database.write(batch).unwrap();
        drop(database);
        assert_eq!(open(&options).stats().unwrap().packs, 0, "{family:?}");
    }
}

#[test]
fn place_that_does_not_fit_its_pack_is_never_returned() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    fill_and_close(&options);
    let ghost = Place { pack: 0, blob: 0, offset: 0, len: 1 };
    let database = Database::open(&repository_folder(&options), options.limits()).unwrap();
    let mut batch = Batch::default();
    for (pack, tag) in [(0, 0), (1_000_000, 0)] {
        let place = Place { pack, ..ghost }.encode(tag).unwrap();
        database.merge(&mut batch, Family::Chunks, chunk_id(u64::MAX).as_bytes(), &place);
    }
    database.write(batch).unwrap();
    drop(database);
    let cache = open(&options);
    assert_eq!(cache.stats().unwrap().packs, 20);
    assert!(cache.lookup(&[chunk_id(u64::MAX)]).unwrap()[0].is_empty());
}

#[test]
fn clear_removes_the_folder_and_refuses_while_it_is_open() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    clear(&options, REPOSITORY).unwrap();
    let cache = open(&options);
    assert!(matches!(clear(&options, REPOSITORY), Err(CacheError::InUse { .. })));
    drop(cache);
    clear(&options, REPOSITORY).unwrap();
    assert!(names(&options).is_empty(), "{:?}", names(&options));
}

#[test]
fn cache_on_a_full_disk_says_so_and_stays_readable() {
    let Some(options) = child_options() else { return run_on_a_small_disk() };
    let cache = open(&options);
    let apply = |number: u64| {
        let packs = (0..20).map(|index| pack(number * 20 + index, 100, u64::MAX)).collect();
        cache.apply(segment_id(number), &segment(packs))
    };
    let (count, error) = (0..200).find_map(|number| Some((number, apply(number).err()?))).expect("the disk is full");
    assert!(matches!(error, CacheError::Full { .. }), "{error:?}");
    assert!(matches!(apply(count + 1), Err(CacheError::Full { .. })), "and goes on to say why");
    let ids: Vec<_> = pack(0, 100, u64::MAX).trailer.chunks.iter().map(|(id, _)| *id).collect();
    assert!(cache.lookup(&ids).unwrap().iter().all(|places| !places.is_empty()));
    drop(cache);
    let opened = IndexCache::open(&options, REPOSITORY);
    assert!(matches!(opened, Ok(_) | Err(CacheError::Full { .. })), "{:?}", opened.err());
    println!("full and well");
}

/// Runs the test above on a disk of 24 MiB, where this host lets us have one.
fn run_on_a_small_disk() {
    let folder = TempDir::new().unwrap();
    let name = "index_cache::tests::folder::cache_on_a_full_disk_says_so_and_stays_readable";
    let script =
        r#"mount -t tmpfs -o size=24m none "$1" || { echo no disk; exit 0; }; exec "$2" --exact "$3" --nocapture"#;
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([folder.path().as_os_str(), std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(CHILD_FOLDER, folder.path())
        .output();
    let Ok(output) = output else { return println!("unshare is not there: not tried on a full disk") };
    let said = String::from_utf8_lossy(&output.stdout);
    let is_refused = said.contains("no disk") || String::from_utf8_lossy(&output.stderr).contains("unshare: ");
    assert!(said.contains("full and well") || is_refused, "{output:?}");
}
