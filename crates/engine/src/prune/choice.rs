//! Which packs go, which are repacked, and which stay as they are: pure.
//!
//! ```text
//! nothing in use                 ─► goes
//! part of it in use              ─► repacked, emptiest first, until what is unused is within the limit
//! small, and many fill one pack  ─► repacked together
//! everything else                ─► stays
//! ```
//!
//! Invariant: what is younger than the oldest running backup stays: that backup may refer to it.
//! Never here: reading or writing anything.

use pack::{PackClass, PackId};
use store::StoreTime;

use super::usage::{BlobUse, PackUse};

/// A pack shorter than this part of a full one is small: more is not moved for one object less.
const SMALL_PART: u64 = 16;
/// So many small packs of a class are put together to one, even if they do not fill it.
const SMALL_COUNT_MIN: usize = 16;
/// A blob of which less than this many hundredths is live is sealed anew without the rest, where the key allows it; where
/// nothing may stay unused, every blob that is not wholly live.
const RECUT_BELOW_PERCENT: u64 = 80;

/// What may stay unused, and what may be moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PruneLimits {
    /// Part of all that is kept which may be unused, in percent.
    pub max_unused_percent: f64,
    /// The same in bytes: the lower of both holds.
    pub max_unused_len: Option<u64>,
    /// Bytes that may be moved at most.
    pub max_repack_len: Option<u64>,
}

impl Default for PruneLimits {
    fn default() -> Self {
        Self { max_unused_percent: 5.0, max_unused_len: None, max_repack_len: None }
    }
}

/// What is known besides how much is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// When the oldest running backup announced itself.
    pub(super) oldest_writer_at: Option<StoreTime>,
    /// Bytes of a full pack.
    pub(super) pack_len: u64,
    /// Whether the key can seal a blob anew without its dead chunks.
    pub(super) can_recut: bool,
}

/// What becomes of a blob in a pack that is repacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobFate {
    /// Nothing in it is needed.
    Dropped,
    /// It is moved byte for byte.
    Carried,
    /// What is live in it is sealed anew.
    Recut,
}

/// A pack that is repacked.
#[derive(Debug, Clone)]
pub(super) struct Repacked {
    pub(super) id: PackId,
    pub(super) len: u64,
    pub(super) fates: Vec<BlobFate>,
    /// About as many bytes are written for it.
    pub(super) moved_len: u64,
}

/// What was chosen.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// Nothing in them is needed.
    pub(super) gone: Vec<(PackId, u64)>,
    pub(super) repacked: Vec<Repacked>,
    /// Bytes in use.
    pub(super) used_len: u64,
    /// Bytes of kept packs that stay unused.
    pub(super) left_unused_len: u64,
    /// Of these, dead chunks within live blobs, which only a key that opens content frees.
    pub(super) sealed_in_len: u64,
    /// Packs that were left alone because a backup is running.
    pub(super) young_count: u64,
}

/// Sealed bytes of a blob that stay needed, if it is treated so.
fn used_len(blob: &BlobUse, recut_below: u64) -> u64 {
    match fate(blob, recut_below) {
        BlobFate::Dropped => 0,
        BlobFate::Carried => u64::from(blob.sealed_len),
        BlobFate::Recut => u64::from(blob.sealed_len) * u64::from(blob.live_len) / u64::from(blob.plain_len.max(1)),
    }
}

/// Below which hundredths of what is live a blob is sealed anew: 0 with a key that cannot.
fn recut_below(limits: &PruneLimits, can_recut: bool) -> u64 {
    let keeps_nothing = limits.max_unused_percent <= 0.0 || limits.max_unused_len == Some(0);
    match (can_recut, keeps_nothing) {
        (false, _) => 0,
        (true, false) => RECUT_BELOW_PERCENT,
        (true, true) => 100,
    }
}

fn fate(blob: &BlobUse, recut_below: u64) -> BlobFate {
    let live = u64::from(blob.live_len) * 100;
    match blob.live_len {
        0 => BlobFate::Dropped,
        _ if live < u64::from(blob.plain_len) * recut_below => BlobFate::Recut,
        _ => BlobFate::Carried,
    }
}

/// One pack under consideration.
struct Candidate<'a> {
    pack: &'a PackUse,
    used_len: u64,
    unused_len: u64,
}

impl<'a> Candidate<'a> {
    fn new(pack: &'a PackUse, recut_below: u64) -> Self {
        let used_len: u64 = pack.blobs.iter().map(|blob| used_len(blob, recut_below)).sum();
        let sealed_len: u64 = pack.blobs.iter().map(|blob| u64::from(blob.sealed_len)).sum();
        Self { pack, used_len, unused_len: sealed_len.saturating_sub(used_len) }
    }

    fn repacked(&self, recut_below: u64) -> Repacked {
        let fates = self.pack.blobs.iter().map(|blob| fate(blob, recut_below)).collect();
        Repacked { id: self.pack.id, len: self.pack.len, fates, moved_len: self.used_len }
    }
}

/// Chooses. `packs` are all that may be used.
pub(super) fn choose(packs: &[PackUse], limits: &PruneLimits, around: Surroundings) -> Choice {
    let mut choice = Choice::default();
    let is_young = |pack: &&PackUse| around.oldest_writer_at.is_some_and(|at| pack.modified_at >= at);
    let (young, old): (Vec<&PackUse>, Vec<&PackUse>) = packs.iter().partition(is_young);
    choice.young_count = young.len() as u64;
    let recut_below = recut_below(limits, around.can_recut);
    let all = old.into_iter().map(|pack| Candidate::new(pack, recut_below));
    let (mut kept, gone): (Vec<_>, Vec<_>) = all.partition(|candidate| candidate.used_len > 0);
    choice.gone = gone.iter().map(|candidate| (candidate.pack.id, candidate.pack.len)).collect();
    choice.used_len = kept.iter().map(|candidate| candidate.used_len).sum();
    let mut unused_len: u64 = kept.iter().map(|candidate| candidate.unused_len).sum();
    let share = (choice.used_len as f64 * limits.max_unused_percent / 100.0) as u64;
    let allowed_len = limits.max_unused_len.map_or(share, |len| len.min(share));
    let mut room = limits.max_repack_len.unwrap_or(u64::MAX);
    kept.sort_by(|one, other| emptiness(other).total_cmp(&emptiness(one)).then(one.pack.id.cmp(&other.pack.id)));
    let mut stays = Vec::new();
    for candidate in kept {
        if unused_len > allowed_len && candidate.unused_len > 0 && candidate.used_len <= room {
            unused_len -= candidate.unused_len;
            room -= candidate.used_len;
            choice.repacked.push(candidate.repacked(recut_below));
        } else {
            stays.push(candidate);
        }
    }
    for class in [PackClass::Data, PackClass::Metadata] {
        merge_small(&mut stays, class, &mut room, (around.pack_len, recut_below), &mut choice);
    }
    choice.left_unused_len = stays.iter().map(|candidate| candidate.unused_len).sum();
    choice.sealed_in_len = packs.iter().flat_map(|pack| &pack.blobs).map(sealed_in_len).sum();
    choice
}

/// The part of a candidate that is not used.
fn emptiness(candidate: &Candidate<'_>) -> f64 {
    candidate.unused_len as f64 / (candidate.unused_len + candidate.used_len).max(1) as f64
}

/// Sealed bytes of dead chunks in a live blob, about.
fn sealed_in_len(blob: &BlobUse) -> u64 {
    let dead_len = blob.plain_len.saturating_sub(blob.live_len);
    if blob.live_len == 0 {
        0
    } else {
        u64::from(blob.sealed_len) * u64::from(dead_len) / u64::from(blob.plain_len.max(1))
    }
}

/// Takes small packs of a class out of those that stay, in groups that each become one pack.
fn merge_small(
    stays: &mut Vec<Candidate<'_>>,
    class: PackClass,
    room: &mut u64,
    (pack_len, recut_below): (u64, u64),
    choice: &mut Choice,
) {
    let small_len = pack_len / SMALL_PART;
    let is_small = |candidate: &Candidate<'_>| candidate.pack.class == class && candidate.pack.len < small_len;
    let (mut small, others): (Vec<_>, Vec<_>) = std::mem::take(stays).into_iter().partition(is_small);
    small.sort_by_key(|candidate| (candidate.used_len, candidate.pack.id));
    *stays = others;
    for group in groups(small, pack_len) {
        let len: u64 = group.iter().map(|candidate| candidate.used_len).sum();
        if group.len() >= SMALL_COUNT_MIN && len <= *room {
            *room -= len;
            choice.repacked.extend(group.iter().map(|candidate| candidate.repacked(recut_below)));
        } else {
            stays.extend(group);
        }
    }
}

/// Small packs, the shortest first, in groups that fill at most one pack. None is as long as the others of its group
/// together, so that what is merged lies in a pack of twice the length then: a byte is moved a few times at most, however often packs
/// are merged. One that is too long for its group is a group of its own.
fn groups(small: Vec<Candidate<'_>>, pack_len: u64) -> Vec<Vec<Candidate<'_>>> {
    let mut groups: Vec<Vec<Candidate<'_>>> = Vec::new();
    let mut len = 0;
    for candidate in small {
        len += candidate.used_len;
        match groups.last_mut().filter(|_| len <= pack_len) {
            Some(group) => group.push(candidate),
            None => {
                len = candidate.used_len;
                groups.push(vec![candidate]);
            }
        }
    }
    let mut alone = Vec::new();
    for group in &mut groups {
        let mut rest: u64 = group.iter().map(|candidate| candidate.used_len).sum();
        while let Some(longest) = group.pop() {
            rest -= longest.used_len;
            if longest.used_len <= rest {
                group.push(longest);
                break;
            }
            alone.push(vec![longest]);
        }
    }
    groups.extend(alone);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = 16 << 20;

    /// A pack of 16 blobs of 1 MiB of which the first `live` are wholly live.
    fn pack(number: u8, live: usize, at: i64) -> PackUse {
        let blob = |index| BlobUse {
            sealed_len: 1 << 20,
            plain_len: 2 << 20,
            live_len: if index < live { 2 << 20 } else { 0 },
        };
        PackUse {
            id: PackId([number; 32]),
            len: FULL,
            class: PackClass::Data,
            modified_at: StoreTime::from_nanos(at),
            blobs: (0..16).map(blob).collect(),
        }
    }

    fn around() -> Surroundings {
        Surroundings { oldest_writer_at: None, pack_len: FULL, can_recut: false }
    }

    fn limits(percent: f64) -> PruneLimits {
        PruneLimits { max_unused_percent: percent, ..PruneLimits::default() }
    }

    fn ids(choice: &Choice) -> (Vec<u8>, Vec<u8>) {
        (choice.gone.iter().map(|(id, _)| id.0[0]).collect(), choice.repacked.iter().map(|pack| pack.id.0[0]).collect())
    }

    #[test]
    fn pack_in_which_nothing_is_live_goes_and_the_emptiest_are_repacked_until_the_limit_holds() {
        let packs = [pack(1, 16, 0), pack(2, 0, 0), pack(3, 8, 0), pack(4, 15, 0), pack(5, 2, 0)];
        assert_eq!(ids(&choose(&packs, &limits(0.0), around())), (vec![2], vec![5, 3, 4]));
        // 41 are in use and 23 are not: without the emptiest 9 are left, and 22 % of 41 allow just that.
        assert_eq!(ids(&choose(&packs, &limits(22.0), around())), (vec![2], vec![5]));
        assert_eq!(ids(&choose(&packs, &limits(21.0), around())), (vec![2], vec![5, 3]));
        assert_eq!(ids(&choose(&packs, &limits(100.0), around())), (vec![2], vec![]));
    }

    #[test]
    fn no_more_is_moved_than_allowed() {
        let packs = [pack(1, 8, 0), pack(2, 9, 0), pack(3, 2, 0)];
        let limited = PruneLimits { max_repack_len: Some(10 << 20), ..limits(0.0) };
        let choice = choose(&packs, &limited, around());
        assert_eq!(ids(&choice), (vec![], vec![3, 1]));
        assert_eq!(choice.repacked.iter().map(|pack| pack.moved_len).sum::<u64>(), 10 << 20);
        assert_eq!((choice.used_len, choice.left_unused_len), (19 << 20, 7 << 20));
    }

    #[test]
    fn pack_younger_than_a_running_backup_stays_whatever_is_live() {
        let packs = [pack(1, 0, 9), pack(2, 0, 10), pack(3, 1, 11)];
        let running = Surroundings { oldest_writer_at: Some(StoreTime::from_nanos(10)), ..around() };
        let choice = choose(&packs, &limits(0.0), running);
        assert_eq!((ids(&choice), choice.young_count), ((vec![1], vec![]), 2));
    }

    #[test]
    fn blob_that_is_partly_dead_is_sealed_anew_only_by_a_key_that_can() {
        let mut half = pack(1, 16, 0);
        half.blobs[0].live_len /= 2;
        let choice = choose(std::slice::from_ref(&half), &limits(0.0), around());
        assert_eq!((ids(&choice), choice.sealed_in_len), ((vec![], vec![]), 1 << 19));
        let choice = choose(&[half], &limits(0.0), Surroundings { can_recut: true, ..around() });
        assert_eq!(choice.repacked[0].fates[..2], [BlobFate::Recut, BlobFate::Carried]);
        assert_eq!(choice.repacked[0].moved_len, (15 << 20) + (1 << 19));
    }

    #[test]
    fn blob_that_is_nearly_live_is_sealed_anew_where_nothing_may_stay_unused() {
        let mut nearly = pack(1, 2, 0);
        nearly.blobs[0].live_len -= 1;
        let can = Surroundings { can_recut: true, ..around() };
        let choice = choose(std::slice::from_ref(&nearly), &limits(0.0), can);
        assert_eq!(choice.repacked[0].fates[..2], [BlobFate::Recut, BlobFate::Carried]);
        let none = PruneLimits { max_unused_len: Some(0), ..limits(f64::INFINITY) };
        assert_eq!(choose(std::slice::from_ref(&nearly), &none, can).repacked[0].fates[0], BlobFate::Recut);
        assert_eq!(choose(&[nearly], &limits(1.0), can).repacked[0].fates[0], BlobFate::Carried);
    }

    /// A pack with one live blob of so many bytes.
    fn small(number: u8, len: u32) -> PackUse {
        let blob = BlobUse { sealed_len: len, plain_len: len, live_len: len };
        PackUse { len: u64::from(len), blobs: vec![blob], ..pack(number, 16, 0) }
    }

    #[test]
    fn many_small_packs_are_put_together_and_few_are_not() {
        let few: Vec<_> = (0..15).map(|number| small(number, 1_000_000)).collect();
        assert!(choose(&few, &limits(0.0), around()).repacked.is_empty());
        let many: Vec<_> = (0..16).map(|number| small(number, 1_000_000)).collect();
        assert_eq!(choose(&many, &limits(0.0), around()).repacked.len(), 16);
    }

    #[test]
    fn packs_of_which_few_fill_one_are_left_alone_and_shorter_ones_put_together() {
        let days: Vec<_> = (0..30).map(|number| small(number, 1 << 20)).collect();
        assert!(choose(&days, &limits(0.0), around()).repacked.is_empty());
        let short = (30..50).map(|number| small(number, 100_000));
        let both: Vec<_> = days.into_iter().chain(short).collect();
        let mut repacked = ids(&choose(&both, &limits(0.0), around())).1;
        repacked.sort_unstable();
        assert_eq!(repacked, (30..50).collect::<Vec<_>>());
    }

    #[test]
    fn pack_that_was_merged_is_merged_again_only_with_as_many_bytes_of_others() {
        let merged = small(99, 1_000_000);
        let with = |count: u8, len: u32| -> Vec<PackUse> {
            (0..count).map(|number| small(number, len)).chain([merged.clone()]).collect()
        };
        assert!(!ids(&choose(&with(16, 60_000), &limits(0.0), around())).1.contains(&99));
        assert!(ids(&choose(&with(17, 60_000), &limits(0.0), around())).1.contains(&99));
        // A backup each hour: what is moved stays within a few times of what was backed up.
        let (mut packs, mut moved_len) = (Vec::new(), 0);
        for hour in 0..2000 {
            packs.push(small((hour % 200) as u8, 20_000));
            packs.iter_mut().zip(0..).for_each(|(pack, number)| pack.id = PackId([number; 32]));
            let repacked = choose(&packs, &limits(0.0), around()).repacked;
            let len: u64 = repacked.iter().map(|pack| pack.moved_len).sum();
            packs.retain(|pack| !repacked.iter().any(|gone| gone.id == pack.id));
            packs.extend((len > 0).then(|| small(200, len as u32)));
            moved_len += len;
        }
        assert!(moved_len < 4 * 2000 * 20_000, "{moved_len}");
        assert!(packs.len() < 60, "{}", packs.len());
    }
}
