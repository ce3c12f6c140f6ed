//! The cache against a plain map.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::index_cache::{PLACES_COUNT_MAX, PackSet};

const CHUNKS_BELOW: u64 = 3000;

#[test]
fn cache_says_what_a_map_says_after_random_operations_and_the_same_when_rebuilt() {
    for seed in 0..8 {
        println!("seed {seed}");
        let folder = TempDir::new().unwrap();
        let mut run = Run::new(seed, options(&folder));
        (0..60).for_each(|_| run.step());
        run.compare();
        run.rebuild_and_compare();
    }
}

/// One sequence of operations, on the cache and on the model.
struct Run {
    numbers: Numbers,
    options: CacheOptions,
    cache: Option<IndexCache>,
    segments: Vec<(SegmentId, Segment)>,
    applied: HashSet<SegmentId>,
    places: Places,
    packs: BTreeSet<PackId>,
}

impl Run {
    fn new(seed: u64, options: CacheOptions) -> Self {
        let cache = Some(open(&options));
        let (segments, applied, places, packs) = Default::default();
        Self { numbers: Numbers(seed), options, cache, segments, applied, places, packs }
    }

    fn cache(&self) -> &IndexCache {
        self.cache.as_ref().unwrap()
    }

    fn step(&mut self) {
        match self.numbers.next(12) {
            0..5 => self.apply_new(),
            5 if !self.segments.is_empty() => self.apply_again(),
            6 => self.apply_merged(),
            7 => self.retain(),
            8 => self.reopen(),
            9 => self.compare(),
            _ => {}
        }
    }

    fn apply_new(&mut self) {
        let first = self.segments.len() as u64 * 10;
        let count = self.numbers.next(6);
        let packs = (first..first + count).map(|number| pack(number, number % 7, CHUNKS_BELOW)).collect();
        self.apply(segment(packs));
    }

    fn apply_again(&mut self) {
        let index = self.numbers.next(self.segments.len() as u64) as usize;
        let (id, content) = self.segments[index].clone();
        self.cache().apply(id, &content).unwrap();
        self.applied.insert(id);
    }

    fn apply_merged(&mut self) {
        let fresh = pack(1_000_000 + self.segments.len() as u64, 3, CHUNKS_BELOW);
        let old = self.segments.iter().rev().take(5).flat_map(|(_, content)| content.packs.clone());
        self.apply(segment(old.chain([fresh.clone(), fresh.clone()]).collect()));
    }

    fn apply(&mut self, content: Segment) {
        let id = segment_id(self.segments.len() as u64);
        self.cache().apply(id, &content).unwrap();
        self.applied.insert(id);
        for pack in &content.packs {
            add(&mut self.places, pack);
            self.packs.insert(pack.id);
        }
        self.segments.push((id, content));
    }

    fn retain(&mut self) {
        for _ in 0..self.numbers.next(4) {
            let gone = segment_id(self.numbers.next(self.segments.len() as u64 + 1));
            self.applied.remove(&gone);
        }
        self.cache().retain_segments(&self.applied).unwrap();
    }

    fn reopen(&mut self) {
        self.cache = None;
        self.cache = Some(open(&self.options));
    }

    fn compare(&self) {
        let cache = self.cache();
        assert_eq!(places(cache, (0..CHUNKS_BELOW + 500).map(chunk_id)), self.places);
        assert_eq!(cache.applied_segments().unwrap(), self.applied);
        let known = packs(cache);
        assert_eq!(known.iter().map(|(_, info)| info.id).collect::<BTreeSet<_>>(), self.packs);
        let ids: Vec<_> = known.iter().map(|(_, info)| info.id).chain([pack_id(u64::MAX)]).collect();
        let numbers: Vec<_> = known.iter().map(|(number, _)| Some(*number)).chain([None]).collect();
        assert_eq!(cache.pack_numbers(&ids).unwrap(), numbers);
        let named = cache.named_packs(&self.applied).unwrap();
        let named: BTreeSet<_> =
            known.iter().filter(|(number, _)| named.contains(*number)).map(|(_, info)| info.id).collect();
        assert_eq!(named, self.named(), "a pack is named by a segment that is still listed, or it is not");
        let listed: Vec<_> =
            known.iter().flat_map(|(_, info)| [(info.id, info.len), (info.id, info.len + 1)]).collect();
        let fits: Vec<_> = known.iter().flat_map(|(number, _)| [Some(*number), None]).collect();
        assert_eq!(cache.numbers_of_length(&listed).unwrap(), fits);
        let stats = cache.stats().unwrap();
        assert_eq!((stats.packs, stats.segments), (self.packs.len() as u64, self.applied.len() as u64));
    }

    /// The packs of the segments that were applied and are still listed.
    fn named(&self) -> BTreeSet<PackId> {
        let listed = self.segments.iter().filter(|(id, _)| self.applied.contains(id));
        listed.flat_map(|(_, content)| content.packs.iter().map(|pack| pack.id)).collect()
    }

    fn rebuild_and_compare(mut self) {
        self.cache = None;
        crate::index_cache::clear(&self.options, REPOSITORY).unwrap();
        let cache = open(&self.options);
        assert_eq!(cache.stats().unwrap().packs, 0, "a cleared cache is empty");
        for (id, content) in self.segments.iter().rev() {
            cache.apply(*id, content).unwrap();
        }
        self.applied = self.segments.iter().map(|(id, _)| *id).collect();
        self.cache = Some(cache);
        self.compare();
    }
}

/// A prune merges segments: at each moment of it, what it keeps stays named, and what it drops does not.
#[test]
fn merged_segment_takes_over_the_packs_that_it_names_in_whatever_order_it_is_seen() {
    let (a, b, merged) = (segment_id(1), segment_id(2), segment_id(3));
    let content = |numbers: &[u64]| segment(numbers.iter().map(|number| pack(*number, 1, 100)).collect());
    for merged_comes_first in [false, true] {
        let folder = TempDir::new().unwrap();
        let cache = open(&options(&folder));
        let named = || {
            let named = cache.named_packs(&cache.applied_segments().unwrap()).unwrap();
            let ids: Vec<_> = (0..6).map(pack_id).collect();
            let numbers = cache.pack_numbers(&ids).unwrap();
            let is_named = |number: &Option<PackNo>| number.is_some_and(|number| named.contains(number));
            numbers.iter().zip(0..).filter(|(number, _)| is_named(number)).map(|(_, at)| at).collect::<Vec<u64>>()
        };
        if merged_comes_first {
            cache.apply(merged, &content(&[1, 3])).unwrap();
        }
        cache.apply(a, &content(&[0, 1])).unwrap();
        cache.apply(b, &content(&[1, 2, 3])).unwrap();
        cache.apply(merged, &content(&[1, 3])).unwrap();
        assert_eq!(named(), [0, 1, 2, 3]);
        cache.retain_segments(&HashSet::from([b, merged])).unwrap();
        assert_eq!(named(), [1, 2, 3]);
        cache.retain_segments(&HashSet::from([merged])).unwrap();
        assert_eq!(named(), [1, 3]);
        cache.retain_segments(&HashSet::new()).unwrap();
        assert!(named().is_empty());
        cache.apply(a, &content(&[0, 1])).unwrap();
        assert_eq!(named(), [0, 1], "a segment that is back names its packs again");
    }
}

#[test]
fn index_of_packs_that_are_mostly_gone_is_made_anew_and_notes_and_pages_stay() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let count = crate::index_cache::OUTGROWN_COUNT_MIN as u64;
    let (kept, gone) = (segment(vec![pack(0, 2, 50)]), segment((1..count).map(|number| pack(number, 2, 50)).collect()));
    let page = (chunk_id(7), b"a page".to_vec());
    {
        let cache = open(&options);
        cache.apply(segment_id(0), &kept).unwrap();
        cache.apply(segment_id(1), &gone).unwrap();
        cache.put_note("epoch", b"1").unwrap();
        cache.put_pages(std::slice::from_ref(&page)).unwrap();
        cache.retain_segments(&HashSet::from([segment_id(0)])).unwrap();
        assert_eq!(cache.stats().unwrap().packs, count, "numbers keep their meaning while the cache is open");
    }
    let cache = open(&options);
    assert!(!cache.is_private());
    assert_eq!((cache.stats().unwrap().packs, cache.applied_segments().unwrap().len()), (0, 0));
    assert!(places(&cache, (0..50).map(chunk_id)).is_empty());
    assert_eq!(cache.get_note("epoch").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(cache.page(&page.0).unwrap(), Some(page.1));
    cache.apply(segment_id(0), &kept).unwrap();
    let mut expected = Places::new();
    add(&mut expected, &kept.packs[0]);
    assert_eq!(places(&cache, (0..50).map(chunk_id)), expected);
    drop(cache);
    assert_eq!(open(&options).stats().unwrap().packs, 1, "it is made anew once");
}

#[test]
fn pack_comes_back_as_its_trailer_said() {
    let folder = TempDir::new().unwrap();
    let cache = open(&options(&folder));
    let entry = pack(4, 5, 100);
    cache.apply(segment_id(0), &segment(vec![entry.clone()])).unwrap();
    for _ in 0..2 {
        let info = cache.pack(0).unwrap().unwrap();
        assert_eq!((info.id, info.len, info.class, info.domain), (entry.id, entry.len, PackClass::Data, [3; 16]));
        assert_eq!((&info.seals, &info.blobs), (&entry.trailer.seals, &entry.trailer.blobs));
    }
    assert_eq!(cache.pack(1).unwrap(), None);
    assert_eq!(cache.stats().unwrap().chunks, 40);
}

#[test]
fn chunk_in_more_packs_than_are_kept_lies_in_the_newest() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let count = PLACES_COUNT_MAX as u64 + 40;
    {
        let cache = open(&options);
        let only_chunk = |number| pack(number, 1, 1);
        for number in 0..count {
            cache.apply(segment_id(number), &segment(vec![only_chunk(number)])).unwrap();
        }
    }
    let found = open(&options).lookup(&[chunk_id(0)]).unwrap();
    let packs: PackSet = found[0].iter().map(|place| place.pack).collect();
    assert!(found[0].len() <= PLACES_COUNT_MAX);
    assert!(packs.contains(count as PackNo - 1) && !packs.contains(0));
}

#[test]
fn many_threads_read_while_one_applies() {
    let folder = TempDir::new().unwrap();
    let cache = open(&options(&folder));
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..50 {
                    let below = 1 + (reader * 50 + round) % CHUNKS_BELOW;
                    places(cache, (0..below).map(chunk_id));
                }
            });
        }
        for number in 0..100 {
            cache.apply(segment_id(number), &segment(vec![pack(number, 4, CHUNKS_BELOW)])).unwrap();
        }
    });
    let mut expected = Places::new();
    (0..100).for_each(|number| add(&mut expected, &pack(number, 4, CHUNKS_BELOW)));
    assert_eq!(places(&cache, (0..CHUNKS_BELOW).map(chunk_id)), expected);
}

#[test]
fn note_is_remembered_and_replaced() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    {
        let cache = open(&options);
        assert_eq!(cache.get_note("epoch").unwrap(), None);
        cache.put_note("epoch", b"1").unwrap();
        cache.put_note("epoch", b"2").unwrap();
    }
    assert_eq!(open(&options).get_note("epoch").unwrap().as_deref(), Some(b"2".as_slice()));
}

#[test]
fn cache_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<IndexCache>();
}
