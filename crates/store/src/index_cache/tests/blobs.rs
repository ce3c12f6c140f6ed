//! Sealed blobs kept on this host.

use super::*;

const BLOB_LEN: usize = 256 << 10;
const LEN_MAX: u64 = 24 << 20;

fn keeping(folder: &TempDir, blobs_len_max: u64) -> CacheOptions {
    CacheOptions { blobs_len_max, ..options(folder) }
}

fn blob(number: u64) -> Vec<u8> {
    (0..BLOB_LEN as u64 / 8).flat_map(|at| (at ^ number << 32).to_le_bytes()).collect()
}

fn files_len(cache: &IndexCache) -> u64 {
    let tables = std::fs::read_dir(cache.folder()).unwrap().map(|entry| entry.unwrap());
    let tables = tables.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sst"));
    tables.map(|entry| entry.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn blob_comes_back_from_its_place_alone_also_after_the_cache_was_closed() {
    let folder = TempDir::new().unwrap();
    let cache = open(&keeping(&folder, LEN_MAX));
    cache.put_blob(&pack_id(1), 7, &blob(1));
    cache.put_blob(&pack_id(1), 8, b"");
    drop(cache);
    let cache = open(&keeping(&folder, LEN_MAX));
    assert_eq!(cache.blob(&pack_id(1), 7).unwrap(), Some(blob(1)));
    assert_eq!(cache.blob(&pack_id(1), 8).unwrap(), Some(vec![]));
    assert_eq!(cache.blob(&pack_id(1), 9).unwrap(), None);
    assert_eq!(cache.blob(&pack_id(2), 7).unwrap(), None);
}

#[test]
fn blobs_on_disk_come_below_their_limit_and_those_put_last_stay() {
    const COUNT: u64 = 400;
    let folder = TempDir::new().unwrap();
    let cache = open(&keeping(&folder, LEN_MAX));
    for number in 0..COUNT {
        // A disk that is too slow just now may leave one out.
        while cache.blob(&pack_id(number), 0).unwrap().is_none() {
            cache.put_blob(&pack_id(number), 0, &blob(number));
        }
    }
    drop(cache);
    let cache = open(&keeping(&folder, LEN_MAX));
    // Files are dropped in the background, whenever that gets its turn.
    while files_len(&cache) > LEN_MAX {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kept: Vec<_> = (0..COUNT).filter(|number| cache.blob(&pack_id(*number), 0).unwrap().is_some()).collect();
    let least = COUNT - kept.len() as u64;
    assert_eq!(kept, (least..COUNT).collect::<Vec<_>>(), "the oldest went first");
    assert!(kept.len() > 20, "{}", kept.len());
}

#[test]
fn cache_without_room_for_blobs_keeps_none_and_drops_those_that_were_kept() {
    let folder = TempDir::new().unwrap();
    let cache = open(&keeping(&folder, LEN_MAX));
    for number in 0..40 {
        cache.put_blob(&pack_id(number), 0, &blob(number));
    }
    drop(cache);
    let cache = open(&options(&folder));
    cache.put_blob(&pack_id(99), 0, &blob(99));
    assert_eq!(cache.blob(&pack_id(99), 0).unwrap(), None);
    drop(cache);
    let cache = open(&keeping(&folder, LEN_MAX));
    assert!((0..40).all(|number| cache.blob(&pack_id(number), 0).unwrap().is_none()));
    assert!(files_len(&cache) < BLOB_LEN as u64, "{}", files_len(&cache));
}
