//! Which packs are read: those of a part, a shard, a snapshot, and those that were verified longest ago.
//!
//! ```text
//! sound packs ─ shard, snapshot ─► candidates ─ subset ─ max age ─► in the order in which they are read
//! ```
//!
//! Costs in memory: 48 bytes for each sound pack.
//!
//! Invariant: which packs a part N/T or a shard K/N holds depends on their ids alone, so that on every machine all of them
//! together are every pack once.
//! Never here: reading, and what earlier checks wrote down (see `verified`).

use pack::PackId;
use store::index_cache::{PackInfo, PackNo, PackSet};

use super::request::{Shard, Subset};
use crate::snapshots::TIME_OFF_MAX;

/// A pack that nobody is known to have verified.
pub(super) const NEVER: i64 = i64::MIN;

/// A pack that is there, named and of the right length.
#[derive(Clone, Copy)]
pub(super) struct Sound {
    pub(super) number: PackNo,
    pub(super) len: u64,
    /// The first half of its id, by which packs are sorted here.
    pub(super) half: [u8; 16],
    /// When it was last read whole and hashed to its name.
    pub(super) read_at: i64,
    /// When its blobs were opened, too, and its chunks named again.
    pub(super) opened_at: i64,
}

/// What is to be read.
pub(super) struct Wanted {
    pub(super) subset: Subset,
    pub(super) shard: Option<Shard>,
    /// The packs that a snapshot needs.
    pub(super) of_snapshot: Option<PackSet>,
    /// Only what was not verified since then.
    pub(super) unless_since: Option<i64>,
    /// Those first that were verified longest ago, instead of by lot.
    pub(super) oldest_first: bool,
    /// Whether only what was opened counts as verified.
    pub(super) opens_content: bool,
    /// Now, by this host's clock.
    pub(super) now: i64,
}

impl Sound {
    pub(super) fn new(number: PackNo, info: &PackInfo) -> Self {
        Self { number, len: info.len, half: PackId::half(&info.id), read_at: NEVER, opened_at: NEVER }
    }

    /// Whether it falls into part `n` (from 1) of `of`.
    fn is_in(&self, n: u32, of: u32) -> bool {
        let start = self.half.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        start % of.max(1) == n.saturating_sub(1)
    }

    /// When it was last verified as far as this key verifies. What claims to be of the future was never.
    pub(super) fn verified_at(&self, opens_content: bool, now: i64) -> i64 {
        let at = if opens_content { self.opened_at } else { self.read_at.max(self.opened_at) };
        if at.saturating_sub(now) > TIME_OFF_MAX { NEVER } else { at }
    }

    /// Notes that it was verified.
    pub(super) fn verify(&mut self, at: i64, is_opened: bool) {
        self.read_at = self.read_at.max(at);
        if is_opened {
            self.opened_at = self.opened_at.max(at);
        }
    }

    /// Notes that it is not right, whatever was known.
    pub(super) const fn forget(&mut self) {
        (self.read_at, self.opened_at) = (NEVER, NEVER);
    }
}

/// The positions of the packs to read, in order. `lot` draws a number.
pub(super) fn choose(sound: &[Sound], wanted: &Wanted, mut lot: impl FnMut() -> u64) -> Vec<usize> {
    let in_shard = |pack: &Sound| wanted.shard.is_none_or(|shard| pack.is_in(shard.k, shard.n));
    let in_snapshot = |pack: &Sound| wanted.of_snapshot.as_ref().is_none_or(|packs| packs.contains(pack.number));
    let in_part = |pack: &Sound| match wanted.subset {
        Subset::Part { n, of } => pack.is_in(n, of),
        _ => true,
    };
    let fits = |pack: &Sound| in_shard(pack) && in_snapshot(pack) && in_part(pack);
    let verified_at = |pack: &Sound| pack.verified_at(wanted.opens_content, wanted.now);
    let mut drawn: Vec<(i64, u64, usize)> = Vec::new();
    let mut total = 0;
    for (at, pack) in sound.iter().enumerate().filter(|(_, pack)| fits(pack)) {
        total += pack.len;
        let age = if wanted.oldest_first { verified_at(pack) } else { NEVER };
        if wanted.unless_since.is_none_or(|since| verified_at(pack) < since) {
            drawn.push((age, lot(), at));
        }
    }
    drawn.sort_unstable();
    let wanted_len = match wanted.subset {
        Subset::All | Subset::Part { .. } => u64::MAX,
        Subset::Percent(percent) => (total as f64 * percent / 100.0) as u64,
        Subset::Len(len) => len,
    };
    let mut len = 0;
    let is_wanted = |at: &usize| {
        let is_wanted = len < wanted_len;
        len += sound.get(*at).map_or(0, |pack| pack.len);
        is_wanted
    };
    drawn.into_iter().map(|(_, _, at)| at).take_while(is_wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

    fn sound(start: u32, len: u64, opened_at: i64) -> Sound {
        let mut half = [0; 16];
        half[..4].copy_from_slice(&start.to_be_bytes());
        Sound { number: start, len, half, read_at: opened_at, opened_at }
    }

    fn all() -> Wanted {
        Wanted {
            subset: Subset::All,
            shard: None,
            of_snapshot: None,
            unless_since: None,
            oldest_first: true,
            opens_content: true,
            now: 100 * DAY,
        }
    }

    #[test]
    fn shards_together_are_every_pack_once_and_the_same_as_the_parts() {
        let packs: Vec<_> = (0..1000).map(|at| sound(at * 7919, 1, NEVER)).collect();
        let mut seen = Vec::new();
        for k in 1..=16 {
            let shard = choose(&packs, &Wanted { shard: Some(Shard { k, n: 16 }), ..all() }, || 0);
            let part = choose(&packs, &Wanted { subset: Subset::Part { n: k, of: 16 }, ..all() }, || 0);
            assert_eq!(shard, part);
            seen.extend(shard);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn packs_verified_longest_ago_come_first_and_those_within_the_age_not_at_all() {
        let packs = [sound(0, 1, 90 * DAY), sound(1, 1, NEVER), sound(2, 1, 50 * DAY), sound(3, 1, 70 * DAY)];
        assert_eq!(choose(&packs, &all(), || 0), [1, 2, 3, 0]);
        let aged = Wanted { unless_since: Some(70 * DAY), ..all() };
        assert_eq!(choose(&packs, &aged, || 0), [1, 2]);
        let half = Wanted { subset: Subset::Percent(50.0), ..all() };
        assert_eq!(choose(&packs, &half, || 0), [1, 2]);
        assert_eq!(choose(&packs, &Wanted { subset: Subset::Len(3), ..all() }, || 0), [1, 2, 3]);
    }

    #[test]
    fn what_was_only_hashed_counts_for_a_key_that_opens_nothing_and_the_future_for_none() {
        let hashed = Sound { opened_at: NEVER, ..sound(0, 1, 90 * DAY) };
        assert_eq!((hashed.verified_at(false, 100 * DAY), hashed.verified_at(true, 100 * DAY)), (90 * DAY, NEVER));
        let future = sound(0, 1, 102 * DAY);
        assert_eq!((future.verified_at(true, 100 * DAY), future.verified_at(true, 101 * DAY)), (NEVER, 102 * DAY));
    }

    #[test]
    fn packs_of_a_snapshot_alone_are_read_in_each_shard() {
        let packs: Vec<_> = (0..8).map(|at| sound(at, 1, NEVER)).collect();
        let of_snapshot: PackSet = [1, 2, 4].into_iter().collect();
        let wanted = Wanted { of_snapshot: Some(of_snapshot), shard: Some(Shard { k: 1, n: 2 }), ..all() };
        assert_eq!(choose(&packs, &wanted, || 0), [2, 4]);
    }
}
