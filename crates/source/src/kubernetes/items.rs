//! A list of objects as kubectl prints it, taken apart object by object.
//!
//! ```text
//! { "apiVersion": …, "items": [ {object}, {object}, … ], "kind": "List", … }
//! ```
//!
//! Invariant: at most one object is held, of at most 32 MiB.
//! Never here: what objects say.

/// The longest object, in bytes as printed. etcd takes 1.5 MiB by default, printing adds spaces.
pub(super) const OBJECT_LEN_MAX: usize = 32 * 1024 * 1024;

/// How deep an item's own brace is: in the list's object, in its array.
const ITEM_DEPTH: usize = 3;

/// A list passing by.
#[derive(Debug, Default)]
pub struct Items {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Whether what is open at depth 2 is an array.
    in_array: bool,
    is_begun: bool,
    object: Vec<u8>,
}

impl Items {
    /// The next bytes; gives the objects that end in them.
    ///
    /// # Errors
    ///
    /// Why this is not a list of objects.
    pub fn push(&mut self, data: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        let mut whole = Vec::new();
        for &byte in data {
            self.take(byte, &mut whole)?;
        }
        Ok(whole)
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// If the list has no end.
    pub fn finish(self) -> Result<(), &'static str> {
        if self.is_begun && self.depth == 0 { Ok(()) } else { Err("the list of objects has no end") }
    }

    fn take(&mut self, byte: u8, whole: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
        let is_opening = !self.in_string && matches!(byte, b'{' | b'[');
        if self.depth == 0 && !byte.is_ascii_whitespace() && (self.is_begun || byte != b'{') {
            return Err("kubectl printed something else than one list");
        }
        if is_opening {
            self.is_begun = true;
            self.depth += 1;
            if self.depth == ITEM_DEPTH - 1 {
                self.in_array = byte == b'[';
            }
        }
        if self.in_array && self.depth >= ITEM_DEPTH {
            self.object.push(byte);
            if self.object.len() > OBJECT_LEN_MAX {
                return Err("an object is too large");
            }
        }
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            self.in_string = true;
        } else if matches!(byte, b'}' | b']') {
            self.depth -= 1;
            if self.in_array && self.depth == ITEM_DEPTH - 1 {
                whole.push(std::mem::take(&mut self.object));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items_of(text: &str, piece_len: usize) -> Result<Vec<String>, &'static str> {
        let mut items = Items::default();
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(piece_len) {
            found.extend(items.push(piece)?.into_iter().map(|object| String::from_utf8(object).unwrap()));
        }
        items.finish().map(|()| found)
    }

    #[test]
    fn objects_are_taken_out_however_the_list_is_cut() {
        let list = r#" {"apiVersion":"v1","metadata":{"a":{"b":[]}},"items":[{"k":"}]\"{"},
            {"k":[{"deep":[1]}], "s":"\\"}],"kind":"List"} "#;
        for piece_len in [1, 5, 1000] {
            let expected = [r#"{"k":"}]\"{"}"#, r#"{"k":[{"deep":[1]}], "s":"\\"}"#];
            assert_eq!(items_of(list, piece_len).unwrap(), expected);
        }
        assert!(items_of(r#"{"items":[]}"#, 3).unwrap().is_empty());
    }

    #[test]
    fn what_is_cut_or_no_list_is_refused() {
        let list = r#"{"items":[{"k":"v"}]}"#;
        for len in 0..list.len() {
            assert!(items_of(&list[..len], 4).is_err(), "{len}");
        }
        assert!(items_of("No resources found", 4).is_err());
        assert!(items_of(r#"{"items":[]}{"#, 4).is_err());
    }
}
