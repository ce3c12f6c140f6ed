//! The tar form: POSIX headers, with PAX records for whatever a header cannot say.
//!
//! ```text
//! [ header 'x' | records, padded ]  header | content, padded     …     two empty blocks
//! of a file with holes, content is:  count \n (offset \n len \n)… padded | stretches of data     (GNU, version 1.0)
//! ```
//!
//! Attributes go into records as `SCHILY.xattr.NAME`; access lists as text too, which is where tools look for them first.
//!
//! Invariant: what follows a header is as long as the header says, padded to blocks.
//! Never here: reading.

use std::collections::HashMap;
use std::ops::Range;

use ::tar::{EntryType, Header};
use bytes::Bytes;
use pack::manifest::{Entry, EntryKind, Time};

use super::{Begun, access_list};
use crate::commands::entry_shown::nanos;

const BLOCK_LEN: usize = 512;
/// What octal digits of a header can say.
const NUMBER_MAX: u64 = 0o7_777_777;
const LONG_NUMBER_MAX: u64 = 0o77_777_777_777;
const NAME_LEN_MAX: usize = 100;
const OWNER_LEN_MAX: usize = 31;

/// What tells that two names are one file.
type Inode = (u64, u64, i64, i64);

/// A tar in the making.
#[derive(Default)]
pub(super) struct TarForm {
    component: String,
    /// The first name of each file with several, and how many may still come.
    first_names: HashMap<Inode, (Vec<u8>, u64)>,
    /// Bytes of content written since the header.
    len: u64,
}

impl TarForm {
    /// The header of an entry; of one with holes also the list of its stretches.
    pub(super) fn begin(&mut self, component: &str, place: &[u8], entry: &Entry, data: Option<&[Range<u64>]>) -> Begun {
        self.len = 0;
        if self.component != component {
            self.first_names.clear();
            component.clone_into(&mut self.component);
        }
        let mut name = if place.is_empty() { b".".to_vec() } else { place.to_vec() };
        if matches!(entry.kind, EntryKind::Socket) {
            return Begun::Unfit;
        }
        if let Some(first) = self.first_name(&name, entry) {
            return Begun::Whole(head(EntryType::Link, &name, entry, Some(&first), 0, Vec::new()));
        }
        let whole =
            |kind, target: Option<&[u8]>, name: &[u8]| Begun::Whole(head(kind, name, entry, target, 0, Vec::new()));
        match &entry.kind {
            EntryKind::File { len } => Begun::Content(match data {
                None => head(EntryType::Regular, &name, entry, None, *len, Vec::new()),
                Some(data) => self.sparse(&name, entry, data, *len),
            }),
            EntryKind::Directory => {
                name.push(b'/');
                whole(EntryType::Directory, None, &name)
            }
            EntryKind::Symlink { target } => whole(EntryType::Symlink, Some(target), &name),
            EntryKind::Fifo => whole(EntryType::Fifo, None, &name),
            EntryKind::CharDevice { .. } => whole(EntryType::Char, None, &name),
            EntryKind::BlockDevice { .. } => whole(EntryType::Block, None, &name),
            EntryKind::Socket => Begun::Unfit,
        }
    }

    /// The name of a file that is in the archive already and of which this is another.
    fn first_name(&mut self, name: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        if entry.links < 2 || !matches!(entry.kind, EntryKind::File { .. }) {
            return None;
        }
        let inode = (entry.device, entry.inode, nanos(entry.modified_at), nanos(entry.changed_at));
        let Some((first, left)) = self.first_names.get_mut(&inode) else {
            self.first_names.insert(inode, (name.to_vec(), entry.links - 1));
            return None;
        };
        *left = left.saturating_sub(1);
        let (first, is_last) = (first.clone(), *left == 0);
        if is_last {
            self.first_names.remove(&inode);
        }
        Some(first)
    }

    /// A file with holes: its header, and where its data is.
    fn sparse(&mut self, name: &[u8], entry: &Entry, data: &[Range<u64>], len: u64) -> Vec<Bytes> {
        let ends_in_hole = data.last().is_none_or(|last| last.end != len);
        let mut map = format!("{}\n", data.len() + usize::from(ends_in_hole));
        for stretch in data {
            map.push_str(&format!("{}\n{}\n", stretch.start, stretch.end - stretch.start));
        }
        if ends_in_hole {
            map.push_str(&format!("{len}\n0\n"));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK_LEN), 0);
        let data_len: u64 = data.iter().map(|stretch| stretch.end - stretch.start).sum();
        let mut records = record(b"GNU.sparse.major", b"1");
        records.extend(record(b"GNU.sparse.minor", b"0"));
        records.extend(record(b"GNU.sparse.name", name));
        records.extend(record(b"GNU.sparse.realsize", len.to_string().as_bytes()));
        let mut pieces = head(EntryType::Regular, name, entry, None, map.len() as u64 + data_len, records);
        self.len = map.len() as u64;
        pieces.push(map.into());
        pieces
    }

    /// Content as it is.
    pub(super) fn content(&mut self, bytes: Bytes) -> Vec<Bytes> {
        self.len += bytes.len() as u64;
        vec![bytes]
    }

    /// What fills the last block of an entry.
    pub(super) fn end(&mut self) -> Vec<Bytes> {
        let rest = (self.len % BLOCK_LEN as u64) as usize;
        if rest == 0 { Vec::new() } else { vec![vec![0; BLOCK_LEN - rest].into()] }
    }

    /// What ends a tar.
    pub(super) fn finish() -> Vec<Bytes> {
        vec![vec![0; 2 * BLOCK_LEN].into()]
    }
}

/// A header, and before it the records it needs.
fn head(
    kind: EntryType,
    name: &[u8],
    entry: &Entry,
    target: Option<&[u8]>,
    len: u64,
    mut records: Vec<u8>,
) -> Vec<Bytes> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    let is_sparse = !records.is_empty();
    if !is_sparse && !fits(name, NAME_LEN_MAX) {
        records.extend(record(b"path", name));
    }
    if let Some(target) = target.filter(|target| !fits(target, NAME_LEN_MAX)) {
        records.extend(record(b"linkpath", target));
    }
    for (key, number, most) in [
        (&b"size"[..], len, LONG_NUMBER_MAX),
        (b"uid", entry.uid.into(), NUMBER_MAX),
        (b"gid", entry.gid.into(), NUMBER_MAX),
    ] {
        if number > most {
            records.extend(record(key, number.to_string().as_bytes()));
        }
    }
    header.set_size(if len > LONG_NUMBER_MAX { 0 } else { len });
    header.set_uid(u64::from(entry.uid).min(NUMBER_MAX));
    header.set_gid(u64::from(entry.gid).min(NUMBER_MAX));
    let secs = u64::try_from(entry.modified_at.secs).ok().filter(|secs| *secs <= LONG_NUMBER_MAX);
    header.set_mtime(secs.unwrap_or_default());
    if secs.is_none() || entry.modified_at.nanos != 0 {
        records.extend(record(b"mtime", decimal(entry.modified_at).as_bytes()));
    }
    if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind {
        let is_short = header.set_device_major(major).is_ok() && header.set_device_minor(minor).is_ok();
        if !is_short {
            records.extend(record(b"SCHILY.devmajor", major.to_string().as_bytes()));
            records.extend(record(b"SCHILY.devminor", minor.to_string().as_bytes()));
        }
    }
    for (key, owner) in [(&b"uname"[..], &entry.user), (b"gname", &entry.group)] {
        if let Some(owner) = owner.as_ref().filter(|owner| !fits(owner, OWNER_LEN_MAX)) {
            records.extend(record(key, owner));
        }
    }
    if !matches!(kind, EntryType::Link) {
        for (name, value) in &entry.xattrs {
            records.extend(record(&[b"SCHILY.xattr.".as_slice(), &keyword(name)].concat(), value));
            if let Some((keyword, text)) = access_list::of_attribute(name, value) {
                records.extend(record(keyword, text.as_bytes()));
            }
        }
    }
    if let Some(fields) = header.as_ustar_mut() {
        put(&mut fields.name, name);
        put(&mut fields.linkname, target.unwrap_or_default());
        put(&mut fields.uname, entry.user.as_deref().unwrap_or_default());
        put(&mut fields.gname, entry.group.as_deref().unwrap_or_default());
    }
    header.set_cksum();
    let mut bytes = if records.is_empty() { Vec::new() } else { extended(records) };
    bytes.extend_from_slice(header.as_bytes());
    vec![bytes.into()]
}

/// Records with a header of their own.
fn extended(mut records: Vec<u8>) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_size(records.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if let Some(fields) = header.as_ustar_mut() {
        put(&mut fields.name, b"PaxHeaders/records");
    }
    header.set_cksum();
    records.resize(records.len().next_multiple_of(BLOCK_LEN), 0);
    [header.as_bytes().as_slice(), &records].concat()
}

/// `LEN KEY=VALUE\n`, where LEN counts all of it.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest_len = key.len() + value.len() + 3;
    let mut len = rest_len + 1;
    while rest_len + len.to_string().len() != len {
        len = rest_len + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// An attribute's name as a part of a key, which ends at the first `=`.
fn keyword(name: &[u8]) -> Vec<u8> {
    let written = |byte: &u8| match byte {
        b'=' => b"%3D".to_vec(),
        b'%' => b"%25".to_vec(),
        byte => vec![*byte],
    };
    name.iter().flat_map(written).collect()
}

/// Whether a header can hold the text: short enough, and of letters that everybody reads alike.
fn fits(text: &[u8], len_max: usize) -> bool {
    text.len() <= len_max && text.is_ascii()
}

/// Puts as much of a text into a field as it holds.
fn put(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(text) {
        *place = *byte;
    }
}

/// Seconds since 1970 as a decimal number.
fn decimal(time: Time) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, nanos) = if nanos < 0 { ("-", -nanos) } else { ("", nanos) };
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_counts_its_own_length() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        for len in [1, 85, 86, 87, 88, 89, 90, 980, 985, 990, 9_990] {
            let made = record(b"path", &vec![b'x'; len]);
            let said: usize = made
                .split(|byte| *byte == b' ')
                .next()
                .map(|text| String::from_utf8_lossy(text).parse().unwrap_or(0))
                .unwrap_or(0);
            assert_eq!(said, made.len());
        }
    }

    #[test]
    fn times_before_1970_are_negative_numbers() {
        assert_eq!(decimal(Time { secs: -2, nanos: 500_000_000 }), "-1.500000000");
        assert_eq!(decimal(Time { secs: 1, nanos: 7 }), "1.000000007");
    }
}
