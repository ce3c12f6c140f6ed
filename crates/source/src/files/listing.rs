//! The names in one directory, sorted.
//!
//! Invariant: names are sorted by their bytes, each once, without `.` and `..`.
//! Never here: what the names stand for.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;

/// How much of a directory is asked for at a time, in bytes.
pub(crate) const LISTING_READ_LEN: usize = 64 * 1024;

/// The names in one directory: one run of bytes and where each name lies in it, 16 bytes a name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Each name followed by a zero.
    bytes: Vec<u8>,
    spans: Vec<Range<u32>>,
}

impl Listing {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Adds all names of a freshly opened directory. On an error, those read before it have been added.
    pub(crate) fn read(&mut self, directory: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        let mut names = RawDir::new(directory, buffer);
        while let Some(name) = names.next() {
            match name?.file_name().to_bytes() {
                b"." | b".." => {}
                name => self.add(name)?,
            }
        }
        Ok(())
    }

    /// Adds one name, which has no zero in it.
    pub(crate) fn add(&mut self, name: &[u8]) -> io::Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        match (u32::try_from(start), u32::try_from(self.bytes.len())) {
            (Ok(start), Ok(end)) => self.spans.push(start..end),
            _ => return Err(io::Error::other("the names in one directory are longer than 4 GiB together")),
        }
        Ok(())
    }

    /// To be called when all names were added.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|one, other| name_in(bytes, one).cmp(name_in(bytes, other)));
        self.spans.dedup_by(|one, other| name_in(bytes, one) == name_in(bytes, other));
    }

    /// Whether the sorted listing has this name.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| name_in(&self.bytes, span).cmp(name)).is_ok()
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.spans.retain(|span| is_kept(name_in(bytes, span)));
    }

    pub(crate) fn get(&self, index: usize) -> Option<&CStr> {
        let span = self.spans.get(index)?;
        CStr::from_bytes_with_nul(self.bytes.get(span.start as usize..span.end as usize)?).ok()
    }

    pub(crate) fn count(&self) -> usize {
        self.spans.len()
    }
}

/// The name without its zero.
fn name_in<'a>(bytes: &'a [u8], span: &Range<u32>) -> &'a [u8] {
    bytes.get(span.start as usize..(span.end as usize).saturating_sub(1)).unwrap_or_default()
}
