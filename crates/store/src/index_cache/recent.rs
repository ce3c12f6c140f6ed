//! The packs used last, decoded.
//!
//! Two halves: what is used enters the young half; when that is full it becomes the old one, and the former old half
//! goes. Nearly the least recently used, without a list.
//!
//! Invariant: at most [`RECENT_COUNT_MAX`] packs.
//! Never here: the disk.

use std::collections::HashMap;
use std::sync::Arc;

use super::pack_info::PackInfo;
use super::place::PackNo;

/// Packs kept decoded; some 5 KB each.
pub(super) const RECENT_COUNT_MAX: usize = 1024;

/// Decoded packs by number.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashMap<PackNo, Arc<PackInfo>>,
    old: HashMap<PackNo, Arc<PackInfo>>,
}

impl Recent {
    pub(super) fn get(&mut self, number: PackNo) -> Option<Arc<PackInfo>> {
        if let Some(info) = self.young.get(&number) {
            return Some(Arc::clone(info));
        }
        let info = self.old.remove(&number)?;
        self.put(number, Arc::clone(&info));
        Some(info)
    }

    pub(super) fn put(&mut self, number: PackNo, info: Arc<PackInfo>) {
        if self.young.len() >= RECENT_COUNT_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, info);
    }
}

#[cfg(test)]
mod tests {
    use pack::{PackClass, PackId};

    use super::*;

    fn info() -> Arc<PackInfo> {
        let class = PackClass::Data;
        Arc::new(PackInfo { id: PackId([0; 32]), len: 0, class, domain: [0; 16], seals: vec![], blobs: vec![] })
    }

    #[test]
    fn pack_that_is_used_again_and_again_stays_and_the_bound_holds() {
        let mut recent = Recent::default();
        recent.put(0, info());
        for number in 1..10_000 {
            recent.put(number, info());
            assert!(recent.get(0).is_some());
            assert!(recent.young.len() + recent.old.len() <= RECENT_COUNT_MAX);
        }
        assert!(recent.get(1).is_none());
    }
}
