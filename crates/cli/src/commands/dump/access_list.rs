//! Access lists of POSIX as text, which is how a tar has them.
//!
//! Source of the binary form: `linux/posix_acl_xattr.h`; of the text: POSIX 1003.1e draft 17, section 23.3.
//!
//! Invariant: users and groups are numbers; they may have other names where the tar is extracted.
//! Never here: how a tar is written.

/// The version of the binary form.
const VERSION: u32 = 2;
const NAMES: [(&[u8], &[u8]); 2] =
    [(b"system.posix_acl_access", b"SCHILY.acl.access"), (b"system.posix_acl_default", b"SCHILY.acl.default")];

/// The keyword of a PAX record for an extended attribute that is an access list, and what it says; none for any other.
pub(super) fn of_attribute(name: &[u8], value: &[u8]) -> Option<(&'static [u8], String)> {
    let (_, keyword) = NAMES.into_iter().find(|(own, _)| *own == name)?;
    Some((keyword, text(value)?))
}

/// The text of an access list: `user::rw-,user:1000:r--,…`; none if it is none.
fn text(value: &[u8]) -> Option<String> {
    let (version, rest) = value.split_first_chunk()?;
    let (entries, rest) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let all: Option<Vec<_>> = entries.iter().map(entry).collect();
    Some(all?.join(","))
}

fn entry(bytes: &[u8; 8]) -> Option<String> {
    let [tag_low, tag_high, rights_low, rights_high, id @ ..] = *bytes;
    let (who, has_id) = match u16::from_le_bytes([tag_low, tag_high]) {
        0x01 => ("user", false),
        0x02 => ("user", true),
        0x04 => ("group", false),
        0x08 => ("group", true),
        0x10 => ("mask", false),
        0x20 => ("other", false),
        _ => return None,
    };
    let id = if has_id { u32::from_le_bytes(id).to_string() } else { String::new() };
    let rights = u16::from_le_bytes([rights_low, rights_high]);
    let letters = [(4, 'r'), (2, 'w'), (1, 'x')].map(|(bit, letter)| if rights & bit == 0 { '-' } else { letter });
    Some(format!("{who}:{id}:{}", letters.iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_told_in_words_and_anything_else_is_none() {
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 5, 1234), (4, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            value.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        let expected = "user::rw-,user:1234:r-x,group::r--,mask::rwx,other::---";
        assert_eq!(text(&value).as_deref(), Some(expected));
        let found = of_attribute(b"system.posix_acl_default", &value).map(|(keyword, _)| keyword);
        assert_eq!(found, Some(&b"SCHILY.acl.default"[..]));
        assert_eq!(of_attribute(b"user.other", &value), None);
        assert_eq!(text(&value[..value.len() - 1]), None);
        assert_eq!(text(&[1, 0, 0, 0]), None, "another version");
        assert_eq!(text(&[2, 0]), None);
    }
}
