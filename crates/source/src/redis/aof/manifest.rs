//! The manifest of an append-only file: which files it is made of, in which order.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b     what all began with
//! file appendonly.aof.4.incr.aof seq 4 type i     what was written since, in one file or several
//! file appendonly.aof.3.incr.aof seq 3 type h     no longer needed, about to be removed
//! ```
//!
//! Invariant: a name leads nowhere but into the folder of the manifest.
//! Never here: the files.

/// How the name of a manifest ends.
pub(super) const SUFFIX: &str = ".manifest";
/// The longest manifest that we take, in bytes.
pub(super) const LEN_MAX: u64 = 1024 * 1024;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Base,
    Increment,
}

/// The files that have to be loaded, in this order, and the lines that say so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AofManifest {
    pub(super) files: Vec<(String, Part)>,
    pub(super) text: Vec<u8>,
}

impl AofManifest {
    /// Reads a manifest; `None` if it is none, or names a file elsewhere.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut manifest = Self::default();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let words = std::str::from_utf8(line).ok()?.trim();
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let (name, rest) = name_of(words.strip_prefix("file ")?)?;
            let pairs: Vec<&str> = rest.split_whitespace().collect();
            let kind = pairs.chunks_exact(2).find_map(|pair| match pair {
                ["type", kind] => Some(*kind),
                _ => None,
            })?;
            let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
            let part = match kind {
                "b" if manifest.files.is_empty() => Part::Base,
                "i" => Part::Increment,
                "h" => continue,
                _ => return None,
            };
            if !is_plain || !line.ends_with(b"\n") || manifest.files.iter().any(|(known, _)| *known == name) {
                return None;
            }
            manifest.files.push((name, part));
            manifest.text.extend_from_slice(line);
        }
        (!manifest.files.is_empty()).then_some(manifest)
    }
}

/// A name, in quotes if it has spaces, and what follows it.
fn name_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (name, rest) = text.split_once(' ')?;
        return Some((name.to_owned(), rest));
    };
    let (name, rest) = quoted.split_once('"')?;
    // Names with escapes are nobody's.
    (!name.contains('\\')).then(|| (name.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_what_is_no_longer_needed_is_dropped() {
        let text = b"file \"my aof.2.base.rdb\" seq 2 type b\nfile a.3.incr.aof seq 3 type h\n\
            file a.4.incr.aof seq 4 type i\nfile a.5.incr.aof seq 5 type i startoffset 7\n";
        let manifest = AofManifest::parse(text).unwrap();
        let names: Vec<_> = manifest.files.iter().map(|(name, part)| (name.as_str(), *part)).collect();
        let increments = [("a.4.incr.aof", Part::Increment), ("a.5.incr.aof", Part::Increment)];
        assert_eq!(names, [[("my aof.2.base.rdb", Part::Base)].as_slice(), &increments].concat());
        assert!(!String::from_utf8(manifest.text).unwrap().contains("type h"));
    }

    #[test]
    fn what_is_no_manifest_or_leads_elsewhere_is_refused() {
        for text in [
            "",
            "file a seq 1 type b",
            "file ../a seq 1 type b\n",
            "file a/b seq 1 type b\n",
            "file a seq 1 type x\n",
            "file a seq 1\n",
            "file a seq 1 type i\nfile b seq 1 type b\n",
            "file a seq 1 type b\nfile a seq 1 type i\n",
            "REDIS0011",
        ] {
            assert_eq!(AofManifest::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
