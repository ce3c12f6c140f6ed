//! The ends of an RDB: its first bytes and its last nine.
//!
//! ```text
//! "REDIS" 4 digits │ … │ FF │ CRC-64 of all before, little-endian; 0: the server writes none
//! "VALKEY" 3 digits
//! ```
//!
//! Never here: records.

use super::crc::Crc64;

const MAGIC_LEN: usize = 9;
const CRC_LEN: usize = 8;
const END: u8 = 0xff;

/// Whether an RDB vouches for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It was there and right.
    Right,
    /// The server is set up to write none (`rdbchecksum no`).
    Off,
}

/// An RDB passing by; keeps its first and last bytes and the checksum of all but the last eight.
#[derive(Debug, Default)]
pub struct RdbEnd {
    head: Vec<u8>,
    last: Vec<u8>,
    end: Option<u8>,
    crc: Crc64,
}

impl RdbEnd {
    /// The next bytes.
    pub fn push(&mut self, data: &[u8]) {
        let room = MAGIC_LEN - self.head.len();
        self.head.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        // What is held back is at most eight bytes; the rest of it and of the data goes into the checksum.
        let surplus = (self.last.len() + data.len()).saturating_sub(CRC_LEN);
        let from_last = surplus.min(self.last.len());
        let (passed, kept) = data.split_at(surplus - from_last);
        let held: Vec<u8> = self.last.drain(..from_last).collect();
        self.crc.push(&held);
        self.crc.push(passed);
        self.end = passed.last().or(held.last()).copied().or(self.end);
        self.last.extend_from_slice(kept);
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// Why it is not a whole RDB.
    pub fn finish(self) -> Result<Checksum, &'static str> {
        let digits = self.head.strip_prefix(b"REDIS").or_else(|| self.head.strip_prefix(b"VALKEY"));
        if !digits.is_some_and(|digits| digits.len() >= 3 && digits.iter().all(u8::is_ascii_digit)) {
            return Err("it does not begin like an RDB");
        }
        let stored: [u8; CRC_LEN] = self.last.try_into().map_err(|_| "it is too short for an RDB")?;
        if self.end != Some(END) {
            return Err("the RDB's end mark is missing");
        }
        match u64::from_le_bytes(stored) {
            0 => Ok(Checksum::Off),
            stored if stored == self.crc.value() => Ok(Checksum::Right),
            _ => Err("the RDB fails its checksum"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdb(body: &[u8], with_crc: bool) -> Vec<u8> {
        let mut rdb = [b"REDIS0011", body, &[END]].concat();
        let mut crc = Crc64::default();
        crc.push(&rdb);
        rdb.extend(if with_crc { crc.value() } else { 0 }.to_le_bytes());
        rdb
    }

    fn finish(bytes: &[u8], piece_len: usize) -> Result<Checksum, &'static str> {
        let mut end = RdbEnd::default();
        bytes.chunks(piece_len).for_each(|piece| end.push(piece));
        end.finish()
    }

    #[test]
    fn a_whole_rdb_is_believed_however_it_is_cut() {
        let whole = rdb(&[7; 100], true);
        for piece_len in [1, 3, 8, 9, 4096] {
            assert_eq!(finish(&whole, piece_len), Ok(Checksum::Right));
        }
        assert_eq!(finish(&rdb(&[7; 100], false), 5), Ok(Checksum::Off));
        assert_eq!(finish(&[b"VALKEY080".as_slice(), &rdb(b"x", false)].concat(), 5), Ok(Checksum::Off));
    }

    #[test]
    fn an_rdb_that_is_cut_or_changed_anywhere_is_not_believed() {
        let whole = rdb(&[7; 100], true);
        for index in 0..whole.len() {
            assert!(finish(&whole[..index], 16).is_err(), "cut at {index}");
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert!(finish(&changed, 16).is_err(), "changed at {index}");
        }
    }
}
