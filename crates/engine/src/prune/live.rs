//! The ids that snapshots reach, in eight bytes each.
//!
//! ```text
//! 256 shards by an id's first byte, each: | sorted, each once | as they came |  ─ the rest has doubled ─► sorted again
//! ```
//!
//! Ids are keyed hashes, so their first eight bytes are as good as random. Two ids that agree in them count as one, which can
//! only keep what nobody needs: among ten million ids that happens once in some hundred thousand repositories.
//!
//! Invariant: what was inserted is contained.
//! Never here: which snapshots, and where chunks lie.

use seal::ChunkId;

const SHARDS: usize = 256;
/// Unsorted ids that a shard always has room for.
const FRESH_MIN: usize = 1024;

/// A set of chunk ids: ten million take 80 to 160 MB.
#[derive(Clone)]
pub(super) struct LiveSet(Vec<Shard>);

#[derive(Default, Clone)]
struct Shard {
    ids: Vec<u64>,
    /// How many of them are sorted and different.
    settled_count: usize,
}

impl LiveSet {
    pub(super) fn new() -> Self {
        Self(vec![Shard::default(); SHARDS])
    }

    pub(super) fn insert(&mut self, id: &ChunkId) {
        let (shard, short) = place(id);
        let Some(shard) = self.0.get_mut(shard) else { return };
        if shard.ids.len() >= 2 * shard.settled_count + FRESH_MIN {
            shard.settle();
        }
        shard.ids.push(short);
    }

    /// Must follow the last insertion before anything is asked.
    pub(super) fn settle(&mut self) {
        self.0.iter_mut().for_each(Shard::settle);
    }

    /// Whether an id was inserted, or one that begins like it.
    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        let (shard, short) = place(id);
        self.0.get(shard).is_some_and(|shard| shard.ids.binary_search(&short).is_ok())
    }

    /// How many ids there are, once settled.
    #[cfg(test)]
    fn len(&self) -> u64 {
        self.0.iter().map(|shard| shard.ids.len() as u64).sum()
    }
}

impl Shard {
    fn settle(&mut self) {
        if self.ids.len() > self.settled_count {
            self.ids.sort_unstable();
            self.ids.dedup();
            self.settled_count = self.ids.len();
        }
    }
}

/// The shard of an id, and its first eight bytes.
fn place(id: &ChunkId) -> (usize, u64) {
    let short = id.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    ((short >> 56) as usize, short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        let mut bytes = [0; 20];
        let hash = blake3::hash(&number.to_le_bytes());
        bytes.copy_from_slice(&hash.as_bytes()[..20]);
        ChunkId::from_bytes(bytes)
    }

    #[test]
    fn set_contains_what_was_inserted_however_often_and_nothing_else() {
        let mut set = LiveSet::new();
        for round in 0..3 {
            (0..600_000).step_by(round + 1).for_each(|number| set.insert(&id(number)));
        }
        set.settle();
        assert_eq!(set.len(), 600_000);
        assert!((0..600_000).all(|number| set.contains(&id(number))));
        assert!(!(600_000..700_000).any(|number| set.contains(&id(number))));
    }
}
