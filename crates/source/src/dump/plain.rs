//! The end of a plain dump: the words that `pg_dump` and `pg_dumpall` write last.
//!
//! ```text
//! … -- PostgreSQL database dump complete   --   \unrestrict TOKEN
//!                                               └ from the versions on that know \restrict
//! ```
//!
//! Invariant: memory is bounded by a kibibyte or so.

/// What `pg_dump` writes last.
pub const PLAIN_END_MARK: &str = "-- PostgreSQL database dump complete";
/// What `pg_dumpall` writes last.
pub const CLUSTER_END_MARK: &str = "-- PostgreSQL database cluster dump complete";

/// How much of the end is kept, in bytes.
const TAIL_LEN_MAX: usize = 1024;

/// Watches a plain dump pass by.
#[derive(Debug, Default)]
pub struct PlainEnd {
    tail: Vec<u8>,
}

impl PlainEnd {
    /// The next bytes of the dump.
    pub fn push(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data.get(data.len().saturating_sub(TAIL_LEN_MAX)..).unwrap_or_default());
        let surplus = self.tail.len().saturating_sub(TAIL_LEN_MAX);
        self.tail.drain(..surplus);
    }

    /// Whether all that passed ends in a line `mark`, and nothing but what belongs to it follows.
    #[must_use]
    pub fn is_complete(&self, mark: &str) -> bool {
        let Some(without_newline) = self.tail.strip_suffix(b"\n") else { return false };
        let mut lines = without_newline.split(|&byte| byte == b'\n').rev();
        let last = lines.find(|line| !(line.is_empty() || *line == b"--" || line.starts_with(b"\\unrestrict ")));
        last == Some(mark.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_complete(text: &str) -> bool {
        let mut end = PlainEnd::default();
        text.as_bytes().chunks(7).for_each(|data| end.push(data));
        end.is_complete(PLAIN_END_MARK)
    }

    #[test]
    fn a_plain_dump_is_complete_if_its_mark_comes_last() {
        let rows = "1\tone\n".repeat(1000);
        assert!(is_complete(&format!("{rows}\\.\n\n--\n{PLAIN_END_MARK}\n--\n\n")));
        assert!(is_complete(&format!("{rows}--\n{PLAIN_END_MARK}\n--\n\n\\unrestrict Abc123\n\n")));
        assert!(!is_complete(&format!("{rows}--\n{PLAIN_END_MARK}\n--\n\ncreate table t ();\n")));
        assert!(!is_complete(&format!("{rows}--\n{CLUSTER_END_MARK}\n--\n\n")));
        assert!(!is_complete(&format!("{rows}--\n{PLAIN_END_MARK}")));
        assert!(!is_complete(&rows));
        assert!(!is_complete(""));
    }
}
