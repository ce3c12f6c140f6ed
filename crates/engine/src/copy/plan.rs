//! Which snapshots are copied, and which need not be.
//!
//! Invariant: what is here already is never copied again; what was copied and is here no more only if it is named.
//! Never here: copying.

use std::collections::HashSet;

use pack::SnapshotId;

use crate::copy::Copy;
use crate::repository::Repository;
use crate::{EngineError, SnapshotFilter, SnapshotInfo};

/// Why a snapshot is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It is copied already.
    Here(SnapshotId),
    /// It stands in for one that is copied, and that copy still has what was removed.
    Outdated(SnapshotId),
    /// It was copied before, and is no more in the repository that is copied to.
    LetGo,
    /// Its key was removed, or never vouched for.
    NotTrusted,
}

/// What a copy will do.
#[derive(Debug, Clone)]
pub struct CopyPlan {
    /// What will be copied, the oldest first.
    pub wanted: Vec<SnapshotInfo>,
    /// What will not, and why.
    pub passed: Vec<(SnapshotInfo, Passed)>,
    pub(super) listed: Vec<SnapshotInfo>,
    pub(super) copies: Vec<Copy>,
    pub(super) known: HashSet<SnapshotId>,
}

impl Repository {
    /// Decides which of `from`'s snapshots are copied into this repository: those of `named`, or those that fit the filter.
    ///
    /// Lists the snapshots of both.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if either key may not do its part; [`EngineError::Request`] if both are one repository; those
    /// of the stores.
    pub async fn plan_copy(
        &self,
        from: &Self,
        filter: &SnapshotFilter,
        named: &[SnapshotId],
    ) -> Result<CopyPlan, EngineError> {
        self.may_copy(from)?;
        let listed = from.snapshots(&SnapshotFilter::default()).await?;
        let (copies, known) = self.copies_of(from).await?;
        let (mut wanted, mut passed) = (Vec::new(), Vec::new());
        for info in &listed {
            let is_named = named.contains(&info.id);
            let is_meant = if named.is_empty() { filter.fits(&info.snapshot) } else { is_named };
            let here = copies.iter().find_map(|(of, here)| is_here(info, *of, here));
            match here {
                _ if !is_meant => {}
                Some(passed_over) => passed.push((info.clone(), passed_over)),
                None if !is_named && known.contains(&info.id) => passed.push((info.clone(), Passed::LetGo)),
                None if !is_named && !info.trusted => passed.push((info.clone(), Passed::NotTrusted)),
                None => wanted.push(info.clone()),
            }
        }
        let own = self.keyring.identity().identity();
        let copies = copies.into_iter().map(|(of, here)| {
            let own = (here.signer == own).then_some(here.snapshot.structure);
            Copy { of, own }
        });
        Ok(CopyPlan { wanted, passed, listed, copies: copies.collect(), known })
    }

    /// The copies of `from`'s snapshots that are here, and all that were ever copied, as far as those tell.
    async fn copies_of(
        &self,
        from: &Self,
    ) -> Result<(Vec<(SnapshotId, SnapshotInfo)>, HashSet<SnapshotId>), EngineError> {
        let (mut copies, mut known) = (Vec::new(), HashSet::new());
        for here in self.snapshots(&SnapshotFilter::default()).await?.into_iter().filter(|here| here.trusted) {
            let origin = here.origin.clone().filter(|origin| origin.repository == from.config.repository.0);
            let Some(origin) = origin else { continue };
            known.insert(origin.snapshot);
            known.extend(origin.copied);
            copies.push((origin.snapshot, here));
        }
        Ok((copies, known))
    }
}

/// Whether `here`, a copy of the snapshot `of`, is one of `info`: by its id, by the one that it had before it was forgotten and
/// brought back, or by one that it had before it was rewritten.
fn is_here(info: &SnapshotInfo, of: SnapshotId, here: &SnapshotInfo) -> Option<Passed> {
    let is_same = info.id == of || info.undeleted.is_some_and(|before| before.snapshot == of);
    let was_rewritten = info.rewritten.as_ref().is_some_and(|rewritten| rewritten.from.contains(&of));
    match (is_same, was_rewritten, &here.rewritten) {
        (true, _, _) | (_, true, Some(_)) => Some(Passed::Here(here.id)),
        (false, true, None) => Some(Passed::Outdated(here.id)),
        _ => None,
    }
}
