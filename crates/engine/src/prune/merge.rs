//! Merging index segments: pure.
//!
//! ```text
//! segments ─► without the packs that go ─► each entry once ─► packed anew, in few
//! ```
//!
//! Invariant: what comes out names exactly what went in, less the packs that go: [`merge`] checks it before it answers.
//! Invariant: two entries that describe one pack differently both stay; which is true is not decided here.
//! Never here: which segments, and storing any.

use std::collections::{HashMap, HashSet};

use pack::{PackEntry, PackId, Segment, SegmentId};

use crate::EngineError;

/// Chunks in a merged segment, unless a single pack has more: about 12 MB of it.
const MERGED_CHUNKS_MAX: usize = 512 << 10;
/// Packs in a merged segment.
const MERGED_PACKS_MAX: usize = 4096;

/// Merges `inputs`, which are of one domain, without the packs in `going`. Every output names all inputs as replaced.
///
/// # Errors
///
/// [`EngineError::Panicked`] if the outputs do not name what the inputs do: a bug, and nothing may be deleted.
pub(super) fn merge(inputs: &[(SegmentId, Segment)], going: &HashSet<PackId>) -> Result<Vec<Segment>, EngineError> {
    let entries = kept(inputs.iter().map(|(_, segment)| segment), going);
    let domain = inputs.first().map(|(_, segment)| segment.domain).unwrap_or_default();
    let replaces: Vec<SegmentId> = inputs.iter().map(|(id, _)| *id).collect();
    let mut outputs: Vec<Segment> = Vec::new();
    let mut chunk_count = 0;
    for entry in entries {
        chunk_count += entry.trailer.chunks.len();
        let is_full = |segment: &Segment| chunk_count > MERGED_CHUNKS_MAX || segment.packs.len() >= MERGED_PACKS_MAX;
        match outputs.last_mut() {
            Some(segment) if !is_full(segment) => segment.packs.push(entry.clone()),
            _ => {
                chunk_count = entry.trailer.chunks.len();
                outputs.push(Segment { packs: vec![entry.clone()], replaces: replaces.clone(), domain });
            }
        }
    }
    let is_same = same(&kept(inputs.iter().map(|(_, segment)| segment), going), &kept(&outputs, &HashSet::new()));
    let is_of_one_domain = inputs.iter().all(|(_, segment)| segment.domain == domain);
    if is_same && is_of_one_domain {
        Ok(outputs)
    } else {
        Err(EngineError::Panicked { what: "merged index segments do not name what their inputs do".to_owned() })
    }
}

/// The entries of segments, each once, in order, without those of packs in `going`.
fn kept<'a>(segments: impl IntoIterator<Item = &'a Segment>, going: &HashSet<PackId>) -> Vec<&'a PackEntry> {
    let (mut kept, mut seen): (Vec<&PackEntry>, HashMap<PackId, Vec<usize>>) = (Vec::new(), HashMap::new());
    for entry in segments.into_iter().flat_map(|segment| &segment.packs).filter(|entry| !going.contains(&entry.id)) {
        let known = seen.entry(entry.id).or_default();
        if !known.iter().any(|at| kept.get(*at) == Some(&entry)) {
            known.push(kept.len());
            kept.push(entry);
        }
    }
    kept
}

/// Whether two lists hold the same entries, as often, in whatever order.
fn same(one: &[&PackEntry], other: &[&PackEntry]) -> bool {
    let mut rest: HashMap<PackId, Vec<&PackEntry>> = HashMap::new();
    one.iter().for_each(|entry| rest.entry(entry.id).or_default().push(entry));
    let all_found = other.iter().all(|entry| {
        let Some(own) = rest.get_mut(&entry.id) else { return false };
        let Some(at) = own.iter().position(|known| known == entry) else { return false };
        own.swap_remove(at);
        true
    });
    all_found && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use pack::{PackClass, Trailer};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use seal::ChunkId;

    use super::*;

    fn entry(number: u8, form: u8) -> PackEntry {
        let chunks = vec![(ChunkId::from_bytes([form; 20]), 7)];
        let trailer = Trailer { class: PackClass::Data, seals: Vec::new(), blobs: Vec::new(), chunks };
        PackEntry { id: PackId([number; 32]), len: 9, trailer }
    }

    fn named(segments: &[Segment]) -> Vec<(u8, u8)> {
        let pair = |entry: &PackEntry| (entry.id.0[0], entry.trailer.chunks[0].0.as_bytes()[0]);
        let mut named: Vec<_> = segments.iter().flat_map(|segment| &segment.packs).map(pair).collect();
        named.sort_unstable();
        named
    }

    proptest! {
        #[test]
        fn merged_segments_name_each_entry_once_but_those_of_packs_that_go(
            inputs in vec(vec((0..20_u8, 0..3_u8), 0..8), 1..8), going in vec(0..20_u8, 0..6),
        ) {
            let segment = |packs: &Vec<(u8, u8)>| Segment {
                packs: packs.iter().map(|(number, form)| entry(*number, *form)).collect(),
                ..Segment::default()
            };
            let segments: Vec<_> = (0..).zip(&inputs).map(|(at, packs)| (SegmentId([at; 32]), segment(packs))).collect();
            let gone: HashSet<_> = going.iter().map(|number| PackId([*number; 32])).collect();
            let merged = merge(&segments, &gone).expect("merges");
            let mut expected: Vec<_> = inputs.concat();
            expected.retain(|(number, _)| !going.contains(number));
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(named(&merged), expected);
            let all: Vec<_> = segments.iter().map(|(id, _)| *id).collect();
            prop_assert!(merged.iter().all(|segment| segment.replaces == all));
        }
    }

    #[test]
    fn segments_of_two_domains_are_not_merged() {
        let own = Segment { packs: vec![entry(1, 1)], ..Segment::default() };
        let other = Segment { domain: [1; 16], ..own.clone() };
        assert!(merge(&[(SegmentId([1; 32]), own), (SegmentId([2; 32]), other)], &HashSet::new()).is_err());
    }
}
