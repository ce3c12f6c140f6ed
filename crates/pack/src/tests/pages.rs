//! Trees and content lists: order, bounds, and what a change costs.
//!
//! Invariant: what a builder hands out is enough to walk everything again, and every id in it is right.
//! Never here: bodies of entries beyond their place (see `round_trip`).

use std::collections::HashMap;

use proptest::prelude::*;
use seal::ChunkId;

use super::samples::{self, chunk_id, namer};
use crate::manifest::{
    CONTENT_INLINE_MAX, Child, ChildKind, Content, ContentBuilder, EntriesBody, Entry, EntryKind, KeysBody, MetaChunk,
    PageKind, Spans, Structure, TreeBuilder, TreeRoot, sort_key,
};
use crate::{BlobKind, codec};

/// Pages by id, as a store has them.
#[derive(Default)]
struct Pages(HashMap<ChunkId, MetaChunk>);

impl Pages {
    fn of(chunks: Vec<MetaChunk>) -> Self {
        for chunk in &chunks {
            assert_eq!(chunk.kind.name(&namer(), &chunk.bytes), chunk.id);
            assert!(chunk.bytes.len() <= 2 << 20, "{} bytes are too long for a page", chunk.bytes.len());
        }
        Self(chunks.into_iter().map(|chunk| (chunk.id, chunk)).collect())
    }

    fn structure(&self, id: ChunkId) -> Structure {
        let chunk = &self.0[&id];
        assert_eq!(chunk.kind, BlobKind::Structure);
        Structure::decode(&chunk.bytes).expect("a page")
    }

    fn body(&self, page: &Structure) -> &[u8] {
        let chunk = &self.0[&page.body().expect("a body")];
        assert_eq!(chunk.kind, BlobKind::Body);
        &chunk.bytes
    }

    /// Pages which `before` does not have.
    fn new_since(&self, before: &Self) -> usize {
        self.0.keys().filter(|id| !before.0.contains_key(*id)).count()
    }

    fn leaves(&self, children: &[Child], leaves: &mut Vec<Child>) {
        for child in children {
            if child.kind != ChildKind::Page {
                leaves.push(*child);
                continue;
            }
            let page = self.structure(child.id);
            assert_eq!(page.kind, PageKind::Content);
            assert!((1..=2048).contains(&page.children.len()), "{} children", page.children.len());
            assert_eq!(page.children.iter().map(|child| child.len).sum::<u64>(), child.len);
            self.leaves(&page.children, leaves);
        }
    }

    /// All entries with their children, and how many levels of pages there are.
    fn entries(&self, id: ChunkId, entries: &mut Vec<(Entry, Vec<Child>)>) -> usize {
        let page = self.structure(id);
        if page.kind == PageKind::Directory {
            let keys: KeysBody = codec::decode(self.body(&page)).expect("keys");
            assert!((1..=512).contains(&keys.first_keys.len()));
            assert_eq!(keys.first_keys.len(), page.content().len());
            let mut levels = 0;
            for (key, child) in keys.first_keys.iter().zip(page.content()) {
                let first = entries.len();
                levels = levels.max(self.entries(child.id, entries));
                assert_eq!(entries[first].0.sort_key(), *key);
                let below = entries[first..].iter().flat_map(|(_, children)| children);
                assert_eq!(below.map(|child| child.len).sum::<u64>(), child.len);
            }
            return levels + 1;
        }
        assert_eq!(page.kind, PageKind::Entries);
        let body = EntriesBody::decode(self.body(&page)).expect("entries");
        assert!((1..=2048).contains(&body.entries.len()), "{} entries", body.entries.len());
        let mut children = page.content();
        for entry in body.entries {
            let own = children.split_off(..entry.child_count as usize).expect("children");
            entries.push((entry, own.to_vec()));
        }
        assert!(children.is_empty());
        1
    }
}

fn content(children: &[Child], spans: Spans) -> (Content, Pages) {
    let mut builder = ContentBuilder::new(spans);
    let mut pages = Vec::new();
    for child in children {
        builder.push(*child, &namer()).expect("pushes");
        pages.extend(builder.take_pages());
    }
    let mut content = builder.finish(&namer()).expect("finishes");
    pages.append(&mut content.pages);
    (content, Pages::of(pages))
}

fn leaves_of(content: &Content, pages: &Pages) -> Vec<Child> {
    assert!(content.children.len() <= CONTENT_INLINE_MAX);
    let mut leaves = Vec::new();
    pages.leaves(&content.children, &mut leaves);
    leaves
}

fn chunks(numbers: std::ops::Range<u64>) -> Vec<Child> {
    numbers.map(|at| if at % 97 == 5 { Child::hole(at + 1) } else { Child::chunk(chunk_id(at), at + 1) }).collect()
}

type Listed = Vec<(Entry, Vec<Child>)>;

fn tree(listed: &Listed) -> (TreeRoot, Pages) {
    let mut builder = TreeBuilder::new();
    let mut pages = Vec::new();
    for (entry, children) in listed {
        builder.push(entry.clone(), children, &namer()).expect("pushes");
        pages.extend(builder.take_pages());
    }
    let (root, rest) = builder.finish(&namer()).expect("finishes");
    pages.extend(rest);
    (root, Pages::of(pages))
}

fn walk(root: TreeRoot, pages: &Pages) -> (Listed, usize) {
    let mut listed = Vec::new();
    let levels = root.root.map_or(0, |root| pages.entries(root, &mut listed));
    assert_eq!(listed.len() as u64, root.entry_count);
    let content_len: u64 = listed.iter().flat_map(|(_, children)| children).map(|child| child.len).sum();
    assert_eq!(content_len, root.content_len);
    (listed, levels)
}

/// `count` files in some directories, in order.
fn files(count: u64) -> Listed {
    let mut listed: Listed = (0..count)
        .map(|at| {
            let children = chunks(at..at + at % 3);
            let path = format!("dir{}/sub{}/file{at}", at % 7, at % 31);
            let mut entry =
                samples::entry(&path, EntryKind::File { len: children.iter().map(|child| child.len).sum() });
            entry.child_count = children.len() as u32;
            (entry, children)
        })
        .collect();
    listed.sort_by_key(|(entry, _)| entry.sort_key());
    listed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn leaves_of_a_content_are_its_chunks_in_order(count in 0u64..9000, is_fixed: bool) {
        let spans = if is_fixed { Spans::Fixed } else { Spans::Content };
        let children = chunks(0..count);
        let (content, pages) = content(&children, spans);
        prop_assert_eq!(leaves_of(&content, &pages), children);
    }

    #[test]
    fn a_chunk_more_or_less_changes_a_few_pages(count in 100u64..9000, at: prop::sample::Index) {
        let before = chunks(0..count);
        let at = at.index(before.len());
        let (_, pages_before) = content(&before, Spans::Content);
        let mut after = before.clone();
        after.insert(at, Child::chunk(chunk_id(1 << 40), 77));
        let (inserted, pages) = content(&after, Spans::Content);
        prop_assert_eq!(leaves_of(&inserted, &pages), after);
        prop_assert!(pages.new_since(&pages_before) <= 6, "{} new pages", pages.new_since(&pages_before));
        let mut after = before;
        after.remove(at);
        let (removed, pages) = content(&after, Spans::Content);
        prop_assert_eq!(leaves_of(&removed, &pages), after);
        prop_assert!(pages.new_since(&pages_before) <= 6, "{} new pages", pages.new_since(&pages_before));
    }

    #[test]
    fn a_chunk_overwritten_in_place_changes_one_span(count in 100u64..9000, at: prop::sample::Index) {
        let before = chunks(0..count);
        let mut after = before.clone();
        after[at.index(before.len())] = Child::chunk(chunk_id(1 << 40), 77);
        let (_, pages_before) = content(&before, Spans::Fixed);
        let (changed, pages) = content(&after, Spans::Fixed);
        prop_assert_eq!(leaves_of(&changed, &pages), after);
        prop_assert!(pages.new_since(&pages_before) <= 1, "{} new pages", pages.new_since(&pages_before));
    }

    #[test]
    fn entries_of_a_tree_are_those_pushed_in_order(count in 0u64..6000) {
        let listed = files(count);
        let (root, pages) = tree(&listed);
        prop_assert_eq!(walk(root, &pages).0, listed);
    }

    #[test]
    fn an_entry_more_or_less_changes_a_few_pages(count in 500u64..6000, at: prop::sample::Index) {
        let before = files(count);
        let (_, pages_before) = tree(&before);
        let mut after = before.clone();
        let (mut entry, children) = after[at.index(before.len())].clone();
        entry.path.extend_from_slice(b"-copy");
        let place = after.partition_point(|(other, _)| other.sort_key() < entry.sort_key());
        after.insert(place, (entry, children));
        let (root, pages) = tree(&after);
        prop_assert_eq!(walk(root, &pages).0, after);
        prop_assert!(pages.new_since(&pages_before) <= 14, "{} new pages", pages.new_since(&pages_before));
        let mut after = before.clone();
        after.remove(at.index(before.len()));
        let (root, pages) = tree(&after);
        prop_assert_eq!(walk(root, &pages).0, after);
        prop_assert!(pages.new_since(&pages_before) <= 14, "{} new pages", pages.new_since(&pages_before));
    }

    #[test]
    fn sort_keys_keep_directories_and_subtrees_together(
        paths in prop::collection::btree_set("[ab-]{1,2}(/[ab-]{1,2}){0,3}", 2..40),
    ) {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_by_key(|path| sort_key(path.as_bytes()));
        let keys: Vec<_> = paths.iter().map(|path| sort_key(path.as_bytes())).collect();
        prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "different paths have different keys");
        let parents: Vec<_> = paths.iter().map(|path| path.rsplit_once('/').map_or("", |(parent, _)| parent)).collect();
        for directory in &paths {
            let inside = format!("{directory}/");
            prop_assert!(is_one_range(paths.iter().map(|path| path.starts_with(&inside))), "subtree of {directory}");
            prop_assert!(is_one_range(parents.iter().map(|parent| parent == directory)), "entries of {directory}");
        }
    }
}

/// Whether those that are true stand together.
fn is_one_range(members: impl Iterator<Item = bool>) -> bool {
    let mut runs: Vec<bool> = members.collect();
    runs.dedup();
    runs.into_iter().filter(|member| *member).count() <= 1
}

#[test]
fn an_empty_tree_has_no_root() {
    let (root, pages) = tree(&Vec::new());
    assert_eq!((root.root, pages.0.len()), (None, 0));
}

#[test]
fn a_large_tree_has_few_levels() {
    let listed = files(60_000);
    let (root, pages) = tree(&listed);
    let (walked, levels) = walk(root, &pages);
    assert_eq!(walked.len(), listed.len());
    assert!(levels <= 4, "{levels} levels");
}

#[test]
fn entries_out_of_order_are_refused_even_after_a_page_has_ended() {
    let listed = files(3000);
    let mut builder = TreeBuilder::new();
    for (entry, children) in &listed {
        builder.push(entry.clone(), children, &namer()).expect("pushes");
        assert!(builder.push(entry.clone(), children, &namer()).is_err(), "the same entry twice");
        assert!(builder.push(listed[0].0.clone(), &[], &namer()).is_err(), "an earlier entry");
    }
}

#[test]
fn long_names_targets_and_attributes_end_a_page_before_it_outgrows_a_blob() {
    let long = vec![b'x'; 4000];
    let with = |change: &dyn Fn(&mut Entry)| -> Listed {
        let entries = (0..3000).map(|at| {
            let mut entry = samples::entry(&format!("{at:05}"), EntryKind::Symlink { target: vec![] });
            entry.child_count = 0;
            change(&mut entry);
            (entry, vec![])
        });
        entries.collect()
    };
    let targets = with(&|entry| entry.kind = EntryKind::Symlink { target: long.clone() });
    let xattrs = with(&|entry| entry.xattrs = vec![(b"user.x".to_vec(), long.clone())]);
    let names = with(&|entry| entry.path.extend_from_slice(&long));
    for listed in [targets, xattrs, names] {
        let (root, pages) = tree(&listed);
        assert!(walk(root, &pages).0 == listed);
    }
}

#[test]
fn an_entry_that_is_refused_leaves_the_tree_as_it_was() {
    let mut builder = TreeBuilder::new();
    let mut huge = samples::entry("b", EntryKind::Directory);
    huge.xattrs = vec![(b"user.x".to_vec(), vec![0; 1 << 20])];
    let small = |path| samples::entry(path, EntryKind::Directory);
    builder.push(small("a"), &[], &namer()).expect("pushes");
    assert!(builder.push(huge, &[], &namer()).is_err());
    assert!(builder.push(small("../b"), &[], &namer()).is_err());
    builder.push(small("b"), &[], &namer()).expect("pushes");
    let (root, pages) = builder.finish(&namer()).expect("finishes");
    assert_eq!((root.entry_count, walk(root, &Pages::of(pages)).0.len()), (2, 2));
}

#[test]
fn the_largest_pages_stay_below_2_mib() {
    let listed: Listed = (0..600)
        .map(|at| {
            let mut entry = samples::entry(&format!("{at:05}"), EntryKind::Directory);
            entry.child_count = 0;
            let len = if at % 100 == 99 { 1000 << 10 } else { 800 };
            entry.xattrs = vec![(b"user.x".to_vec(), vec![0; len])];
            (entry, vec![])
        })
        .collect();
    let (root, pages) = tree(&listed);
    assert!(walk(root, &pages).0 == listed);
}

#[test]
fn lengths_past_64_bits_stay_at_the_most() {
    let mut builder = ContentBuilder::new(Spans::Content);
    for _ in 0..40 {
        builder.push(Child::hole(1 << 62), &namer()).expect("pushes");
    }
    let content = builder.finish(&namer()).expect("finishes");
    assert_eq!(content.children.iter().map(|child| child.len).collect::<Vec<_>>(), [u64::MAX]);
    let mut builder = TreeBuilder::new();
    let children = [Child::hole(u64::MAX), Child::hole(1)];
    builder.push(samples::entry("a", EntryKind::File { len: 0 }), &children, &namer()).expect("pushes");
    assert_eq!(builder.finish(&namer()).expect("finishes").0.content_len, u64::MAX);
}
