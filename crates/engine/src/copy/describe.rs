//! What a copy says of itself: what its original says, and where that is.
//!
//! Invariant: a component in the copy has as many entries and bytes as in the original, or nothing is committed.
//! Never here: reading anything.

use pack::{Component, Origin, SnapshotBody, SnapshotExtension, SnapshotId, SnapshotStructure, names};

use crate::backup::component::{AllRan, Ran};
use crate::copy::{Copying, is_read};
use crate::{EngineError, SnapshotInfo};

/// Snapshots copied before that a copy names, 16 bytes each; of more, the newest.
const COPIED_MAX: usize = 4096;

impl Copying<'_> {
    /// Both halves of the copy.
    pub(super) fn describe(
        &self,
        info: &SnapshotInfo,
        ran: &AllRan,
        id: SnapshotId,
    ) -> Result<(SnapshotStructure, SnapshotBody), EngineError> {
        let original = &info.snapshot.structure;
        let parent = ran.components.iter().find_map(|ran| ran.produced.parent);
        let mut ran = ran.components.iter();
        let components = original.components.iter().map(|component| match is_read(component) {
            true => ran.next().map_or_else(|| Err(short(&component.name)), |ran| copied(component, ran)),
            false => Ok(Component { new_len: 0, stored_len: 0, ..component.clone() }),
        });
        let extension = SnapshotExtension { origin: Some(self.origin(info)), ..SnapshotExtension::default() };
        let structure = SnapshotStructure {
            id,
            parent,
            components: components.collect::<Result<_, _>>()?,
            domain: self.into.keyring.certificate.domain,
            extension: extension.encode().map_err(EngineError::object(names::snapshot(&id)))?,
            ..original.clone()
        };
        let body = info.snapshot.body.clone().ok_or_else(|| {
            self.from.keyring.refuse("open what is to be copied", &[pack::Role::Owner, pack::Role::Reader])
        })?;
        Ok((structure, body))
    }

    /// Where the original is, and what of the same host and source was copied before.
    fn origin(&self, info: &SnapshotInfo) -> Origin {
        let of = &info.snapshot.structure;
        let is_same = |there: &&SnapshotInfo| {
            let there = &there.snapshot.structure;
            (&there.host, &there.source) == (&of.host, &of.source)
        };
        let same = self.listed.iter().rev().filter(is_same).map(|there| there.id);
        let copied = same.filter(|id| *id != info.id && self.known.contains(id)).take(COPIED_MAX);
        Origin { repository: self.from.config.repository.0, snapshot: info.id, copied: copied.collect() }
    }
}

/// A component as it was copied.
fn copied(original: &Component, ran: &Ran) -> Result<Component, EngineError> {
    let is_same = ran.root.entry_count == original.entry_count && ran.root.content_len == original.content_len;
    if !is_same || ran.produced.lost_count > 0 {
        return Err(short(&original.name));
    }
    let (new_len, stored_len) = (ran.new_len, ran.stored_len);
    Ok(Component { root: ran.root.root, new_len, stored_len, ..original.clone() })
}

fn short(component: &str) -> EngineError {
    let what = source::entry::escaped(component.as_bytes()).to_string();
    let reason = "it has not as many entries and bytes as its snapshot says".to_owned();
    let source = Box::new(EngineError::Lost { chunk: format!("of {what}"), reason });
    EngineError::NotCopied { what, source }
}
