//! Where a chunk lies, and the sixteen bytes that say so.
//!
//! ```text
//! pack number u32 | pack tag u32 | u64: blob (19 bits) · offset (22 bits) · len (23 bits)      little endian
//! ```
//!
//! The tag is the start of the pack's id. A place whose tag is not that of the pack with its number is a ghost: left by
//! a disk that lied about writing, or by half a copied folder. Pointing at a wrong pack would lose the chunk.
//!
//! Invariant: a chunk's value is its places end to end, the oldest first; at most [`PLACES_COUNT_MAX`].
//! Never here: whether a pack may be used.

use std::ops::Deref;

use rocksdb::MergeOperands;

/// A pack's number in one index cache. Another cache numbers otherwise.
pub type PackNo = u32;

/// How many places of one chunk are kept; of more, the newest. Each is one more pack holding the same chunk.
pub const PLACES_COUNT_MAX: usize = 64;

const PLACE_LEN: usize = 16;
const OFFSET_BITS: u32 = 22;
const LEN_BITS: u32 = 23;
const BLOB_BITS: u32 = 64 - OFFSET_BITS - LEN_BITS;
const _: () = assert!(seal::BLOB_PLAIN_LEN_MAX <= 1 << OFFSET_BITS, "an offset fits");

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The pack's number in this cache.
    pub pack: PackNo,
    /// The blob's row in the pack's trailer.
    pub blob: u32,
    /// Bytes of the blob's plaintext before the chunk.
    pub offset: u32,
    /// Bytes of the chunk.
    pub len: u32,
}

impl Place {
    /// The stored form, or none if a number does not fit, which no readable trailer holds.
    pub(super) fn encode(self, tag: u32) -> Option<[u8; PLACE_LEN]> {
        let fits = |number: u32, bits: u32| u64::from(number) < 1 << bits;
        if !(fits(self.blob, BLOB_BITS) && fits(self.offset, OFFSET_BITS) && fits(self.len, LEN_BITS)) {
            return None;
        }
        let position =
            u64::from(self.blob) << (OFFSET_BITS + LEN_BITS) | u64::from(self.offset) << LEN_BITS | u64::from(self.len);
        let bits = u128::from(self.pack) | u128::from(tag) << 32 | u128::from(position) << 64;
        Some(bits.to_le_bytes())
    }

    fn decode(bytes: [u8; PLACE_LEN]) -> (Self, u32) {
        let bits = u128::from_le_bytes(bytes);
        let low = |shift: u32, count: u32| (bits >> shift & ((1 << count) - 1)) as u32;
        let place = Self {
            pack: low(0, 32),
            blob: low(64 + OFFSET_BITS + LEN_BITS, BLOB_BITS),
            offset: low(64 + LEN_BITS, OFFSET_BITS),
            len: low(64, LEN_BITS),
        };
        (place, low(32, 32))
    }
}

/// The places of one chunk: a slice that allocates only from two on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Shape);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Shape {
    #[default]
    None,
    One(Place),
    Many(Box<[Place]>),
}

impl Deref for Places {
    type Target = [Place];

    fn deref(&self) -> &[Place] {
        match &self.0 {
            Shape::None => &[],
            Shape::One(place) => std::slice::from_ref(place),
            Shape::Many(places) => places,
        }
    }
}

impl<'a> IntoIterator for &'a Places {
    type Item = &'a Place;
    type IntoIter = std::slice::Iter<'a, Place>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Place> for Places {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut places = places.into_iter();
        let (first, second) = (places.next(), places.next());
        Self(match (first, second) {
            (None, _) => Shape::None,
            (Some(only), None) => Shape::One(only),
            (Some(first), Some(second)) => Shape::Many([first, second].into_iter().chain(places).collect()),
        })
    }
}

/// Reads a chunk's value; none if it is not whole places. `tag_of` gives a known pack's tag.
pub(super) fn read(value: &[u8], tag_of: impl Fn(PackNo) -> Option<u32>) -> Option<Places> {
    let (places, rest) = value.as_chunks::<PLACE_LEN>();
    let true_places =
        places.iter().map(|bytes| Place::decode(*bytes)).filter(|(at, tag)| tag_of(at.pack) == Some(*tag));
    rest.is_empty().then(|| true_places.map(|(place, _)| place).collect())
}

/// RocksDB's merge: places end to end, the newest [`PLACES_COUNT_MAX`].
pub(super) fn merge(_id: &[u8], existing: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(existing.map_or(0, <[u8]>::len) + added.len() * PLACE_LEN);
    existing.into_iter().chain(added).for_each(|places| value.extend_from_slice(places));
    value.drain(..value.len().saturating_sub(PLACES_COUNT_MAX * PLACE_LEN));
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_survives_its_stored_form_at_both_ends_of_every_range() {
        let largest = Place { pack: u32::MAX, blob: (1 << 19) - 1, offset: (1 << 22) - 1, len: 4 << 20 };
        let smallest = Place { pack: 0, blob: 0, offset: 0, len: 0 };
        for (place, tag) in [(largest, 0), (smallest, u32::MAX), (Place { pack: 7, ..smallest }, 1)] {
            assert_eq!(Place::decode(place.encode(tag).unwrap()), (place, tag));
        }
    }

    #[test]
    fn place_beyond_a_range_has_no_stored_form() {
        let place = Place { pack: 0, blob: 0, offset: 0, len: 0 };
        assert_eq!(Place { blob: 1 << 19, ..place }.encode(0), None);
        assert_eq!(Place { offset: 1 << 22, ..place }.encode(0), None);
        assert_eq!(Place { len: 1 << 23, ..place }.encode(0), None);
    }

    #[test]
    fn place_with_the_tag_of_another_pack_is_not_returned() {
        let place = Place { pack: 3, blob: 1, offset: 2, len: 4 };
        let value = [place.encode(10).unwrap(), place.encode(11).unwrap()].concat();
        assert_eq!(&*read(&value, |_| Some(11)).unwrap(), [place]);
        assert!(read(&value, |_| None).unwrap().is_empty());
    }

    #[test]
    fn value_that_is_not_whole_places_is_refused() {
        assert_eq!(read(&[0; 17], |_| Some(0)), None);
    }
}
