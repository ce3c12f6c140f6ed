//! Names of owners and groups, both ways, remembered.
//!
//! A lookup may ask a directory service over the network, so each number and name is asked for once.
//!
//! Invariant: at most [`OWNERS_MAX`] answers are remembered per table.
//! Never here: what is done with an owner.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::Hash;
use std::os::unix::ffi::OsStrExt as _;

/// Answers remembered per table, as a count; a full table is emptied.
const OWNERS_MAX: usize = 4096;

/// Remembers which number has which name, and the reverse.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<u32, Option<Vec<u8>>>,
    groups: HashMap<u32, Option<Vec<u8>>>,
    user_ids: HashMap<Vec<u8>, Option<u32>>,
    group_ids: HashMap<Vec<u8>, Option<u32>>,
}

impl Owners {
    pub(crate) fn user(&mut self, uid: u32) -> Option<Vec<u8>> {
        remembered(&mut self.users, uid, |&uid| Some(uzers::get_user_by_uid(uid)?.name().as_bytes().to_vec()))
    }

    pub(crate) fn group(&mut self, gid: u32) -> Option<Vec<u8>> {
        remembered(&mut self.groups, gid, |&gid| Some(uzers::get_group_by_gid(gid)?.name().as_bytes().to_vec()))
    }

    pub(crate) fn uid(&mut self, user: &[u8]) -> Option<u32> {
        remembered(&mut self.user_ids, user.to_vec(), |user| {
            Some(uzers::get_user_by_name(OsStr::from_bytes(user))?.uid())
        })
    }

    pub(crate) fn gid(&mut self, group: &[u8]) -> Option<u32> {
        remembered(&mut self.group_ids, group.to_vec(), |group| {
            Some(uzers::get_group_by_name(OsStr::from_bytes(group))?.gid())
        })
    }
}

fn remembered<K: Eq + Hash, V: Clone>(table: &mut HashMap<K, V>, key: K, ask: impl FnOnce(&K) -> V) -> V {
    if let Some(answer) = table.get(&key) {
        return answer.clone();
    }
    if table.len() >= OWNERS_MAX {
        table.clear();
    }
    let answer = ask(&key);
    table.insert(key, answer.clone());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_both_ways_and_an_unused_number_has_no_name() {
        let mut owners = Owners::default();
        assert_eq!(owners.user(0).as_deref(), Some(b"root".as_slice()));
        assert_eq!(owners.group(0).as_deref(), Some(b"root".as_slice()));
        assert_eq!((owners.uid(b"root"), owners.gid(b"root")), (Some(0), Some(0)));
        assert_eq!(owners.user(3_999_999_999), None);
        assert_eq!(owners.uid(b"no such user"), None);
    }
}
