//! The checksum at the end of an RDB: CRC-64 by Jones, eight bytes at a time.
//!
//! Never here: where it stands.

/// Reflected polynomial.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[k][b]`: the checksum of byte `b` and `k` zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

/// CRC-64 of the bytes that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc64(u64);

impl Crc64 {
    /// The next bytes.
    pub fn push(&mut self, data: &[u8]) {
        let (words, rest) = data.as_chunks::<8>();
        for word in words {
            let mixed = (self.0 ^ u64::from_le_bytes(*word)).to_le_bytes();
            self.0 = mixed.iter().zip(TABLES.iter().rev()).fold(0, |crc, (&byte, table)| crc ^ at(table, byte));
        }
        for &byte in rest {
            let [low, ..] = self.0.to_le_bytes();
            self.0 = at(&TABLES[0], low ^ byte) ^ (self.0 >> 8);
        }
    }

    /// The checksum so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

fn at(table: &[u64; 256], byte: u8) -> u64 {
    table[usize::from(byte)]
}

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one_however_it_is_cut() {
        let crc_of = |pieces: &[&[u8]]| {
            let mut crc = Crc64::default();
            pieces.iter().for_each(|piece| crc.push(piece));
            crc.value()
        };
        assert_eq!(crc_of(&[b"123456789"]), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc_of(&[b"123", b"4", b"56789"]), 0xe9c6_d914_c4b8_d9ca);
        let long: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let by_byte: Vec<&[u8]> = long.chunks(1).collect();
        assert_eq!(crc_of(&[&long]), crc_of(&by_byte));
    }
}
