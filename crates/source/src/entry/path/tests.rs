//! Paths: what is refused, how they compare, how they are shown.

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn path(bytes: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::try_from(bytes.as_ref().to_vec()).unwrap()
}

/// Paths of few letters, so that prefixes and equal parents are common; `!` is less than `/`.
fn any_path() -> impl Strategy<Value = EntryPath> {
    let name = prop::collection::vec(prop::sample::select(b"ab!\x01\xff.-".to_vec()), 1..3);
    prop::collection::vec(name, 1..4)
        .prop_map(|names| EntryPath::try_from(names.join(&b'/')))
        .prop_filter_map("dots", Result::ok)
}

proptest! {
    #[test]
    fn paths_compare_like_their_sort_keys(one in any_path(), other in any_path()) {
        prop_assert_eq!(one.cmp(&other), one.sort_key().cmp(&other.sort_key()));
    }

    #[test]
    fn paths_compare_by_parent_components_then_name(one in any_path(), other in any_path()) {
        let naive = |path: &EntryPath| {
            let mut parents: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
            let name = parents.pop();
            (parents, name)
        };
        prop_assert_eq!(one.cmp(&other), naive(&one).cmp(&naive(&other)));
    }

    #[test]
    fn shown_paths_are_one_line_and_differ_when_the_paths_do(one in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
        let shown = escaped(&one).to_string();
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert_eq!(shown == escaped(&other).to_string(), one == other);
    }
}

#[test]
fn a_subtree_is_one_contiguous_range() {
    let mut paths: Vec<_> =
        ["a", "a!", "a/k", "a/m", "a/k/1", "a!/x", "b", "b/2", "a/k/1/deep", "z"].map(path).to_vec();
    paths.sort();
    let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a", "a!", "b", "z", "a/k", "a/m", "a/k/1", "a/k/1/deep", "a!/x", "b/2"]);
}

#[test]
fn paths_that_could_leave_their_component_are_refused() {
    let hostile = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "a/./b", "a\0b"];
    for bytes in hostile {
        let refused = EntryPath::try_from(bytes.as_bytes().to_vec()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{bytes:?}");
    }
    assert!(EntryPath::try_from(vec![b'x'; 256]).is_err());
    assert!(EntryPath::try_from(vec![b'x'; 255]).is_ok());
    assert!(path("a").join(b"b/c").is_err());
    assert!(path("a").join(b"..").is_err());
}

#[test]
fn a_path_knows_its_parts() {
    let deep = path("a/b/...");
    assert_eq!((deep.parent(), deep.name()), (Some(path("a/b")), b"...".as_slice()));
    assert_eq!(deep.components().collect::<Vec<_>>(), [b"a".as_slice(), b"b", b"..."]);
    assert_eq!(path("a").parent(), None);
    assert_eq!(path("a").join(b"b").unwrap(), path("a/b"));
}

#[test]
fn shown_paths_escape_what_is_not_text() {
    let odd = path(b"new\nline\\tab\t\xff\xfe\x1b[31m\xe2\x80\xaetxt-\xc3\xa9");
    assert_eq!(odd.to_string(), "new\\nline\\\\tab\\t\\xff\\xfe\\x1b[31m\\xe2\\x80\\xaetxt-é");
}

#[test]
fn a_shown_path_is_read_back_and_what_no_path_is_shown_as_is_none() {
    for bytes in [b"plain".as_slice(), b"a\nb\\n\t\r", b"\xff\x1b\xe2\x80\xae\xc3\xa9", b"'\"$ ", b""] {
        assert_eq!(unescaped(escaped(bytes).to_string().as_bytes()).as_deref(), Some(bytes));
    }
    for shown in ["\\", "a\\q", "\\x1", "\\xzz", "\\x41", "\\xFF", "a\nb", "\\xc3\\xa9"] {
        assert_eq!(unescaped(shown.as_bytes()), None, "{shown:?}");
    }
}
