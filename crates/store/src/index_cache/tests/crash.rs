//! The cache after its process was killed, at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const PACKS_PER_SEGMENT: u64 = 10;
const BLOBS_PER_PACK: u64 = 900;
const CHUNKS_BELOW: u64 = 50_000;

fn crash_pack(number: u64) -> PackEntry {
    pack(number, BLOBS_PER_PACK, CHUNKS_BELOW)
}

/// Segment `number` takes two batches; each run numbers its packs otherwise, so a number given twice would show.
#[test]
fn process_applies_until_it_is_killed() {
    let Some(options) = child_options() else { return };
    let cache = open(&options);
    let first = 1_000 * u64::from(std::process::id());
    for number in first.. {
        let packs = (0..PACKS_PER_SEGMENT).map(|index| crash_pack(number * PACKS_PER_SEGMENT + index)).collect();
        println!("applying");
        cache.apply(segment_id(number), &segment(packs)).unwrap();
    }
}

#[test]
fn cache_is_consistent_whenever_its_process_is_killed() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let mut packs_before = 0;
    let mut by_id = BTreeMap::new();
    for round in 0..4 {
        let mut process = child("crash::process_applies_until_it_is_killed", &options);
        wait_for(&mut process, "applying");
        std::thread::sleep(Duration::from_millis(150 + 170 * round));
        process.kill().unwrap();
        let first = 1_000 * u64::from(process.id());
        process.wait().unwrap();
        for number in (first..first + 100).flat_map(|segment| (0..PACKS_PER_SEGMENT).map(move |index| (segment, index)))
        {
            by_id.insert(pack_id(number.0 * PACKS_PER_SEGMENT + number.1), number);
        }
        let cache = open(&options);
        assert!(!cache.is_private());
        packs_before = check(&cache, &by_id, packs_before);
    }
    assert!(packs_before > 0, "no process got so far as to apply anything");
}

/// Every pack is what it was made as, every place is in a pack that holds the chunk there, none is missing, and every
/// applied segment has all its packs.
fn check(cache: &IndexCache, by_id: &BTreeMap<PackId, (u64, u64)>, packs_before: usize) -> usize {
    let known = packs(cache);
    assert!(known.len() >= packs_before, "packs were lost although the machine kept running");
    let mut expected = Places::new();
    let mut packs_of = BTreeMap::<u64, u64>::new();
    for (_, info) in &known {
        let (segment, index) = by_id.get(&info.id).expect("a pack that was applied");
        let entry = crash_pack(segment * PACKS_PER_SEGMENT + index);
        assert_eq!((&info.blobs, &info.seals), (&entry.trailer.blobs, &entry.trailer.seals));
        add(&mut expected, &entry);
        *packs_of.entry(*segment).or_default() += 1;
    }
    let found = places(cache, (0..CHUNKS_BELOW).map(chunk_id));
    assert!(found == expected, "places differ from what {} packs hold", known.len());
    let applied = cache.applied_segments().unwrap();
    let whole = packs_of.iter().filter(|(segment, _)| applied.contains(&segment_id(**segment)));
    assert!(whole.clone().all(|(_, count)| *count == PACKS_PER_SEGMENT));
    assert_eq!(whole.count(), applied.len());
    known.len()
}
