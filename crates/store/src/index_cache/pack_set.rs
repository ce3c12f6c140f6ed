//! Which packs may be used: a bit per number.
//!
//! Invariant: a pack that was never inserted is not contained, whatever its number.
//! Never here: how to decide. The engine fills it from a listing, minus what is condemned.

use super::place::PackNo;

const WORD_BITS: u32 = u64::BITS;

/// A set of pack numbers of one index cache. An eighth of a byte per known pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackSet {
    words: Vec<u64>,
    count: usize,
}

impl PackSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: Vec::new(), count: 0 }
    }

    /// Adds a pack; says whether it was new.
    pub fn insert(&mut self, number: PackNo) -> bool {
        let index = (number / WORD_BITS) as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let Some(word) = self.words.get_mut(index) else { return false };
        let bit = 1 << (number % WORD_BITS);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(is_new);
        is_new
    }

    /// Whether the pack is in the set.
    #[must_use]
    pub fn contains(&self, number: PackNo) -> bool {
        let word = self.words.get((number / WORD_BITS) as usize);
        word.is_some_and(|word| word >> (number % WORD_BITS) & 1 == 1)
    }

    /// How many packs are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Extend<PackNo> for PackSet {
    fn extend<I: IntoIterator<Item = PackNo>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|number| {
            self.insert(number);
        });
    }
}

impl FromIterator<PackNo> for PackSet {
    fn from_iter<I: IntoIterator<Item = PackNo>>(numbers: I) -> Self {
        let mut set = Self::new();
        set.extend(numbers);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_set_contains_what_was_inserted_and_nothing_else() {
        let set: PackSet = [0, 63, 64, 1000, 64].into_iter().collect();
        let contained: Vec<_> = (0..2000).filter(|number| set.contains(*number)).collect();
        assert_eq!((contained, set.len()), (vec![0, 63, 64, 1000], 4));
        assert!(!set.contains(PackNo::MAX));
    }
}
