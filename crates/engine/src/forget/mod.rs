//! Forgetting: snapshots are hidden at once, and nothing is deleted.
//!
//! ```text
//! snapshots, holds → groups → policy → plan ── the person agrees ─► forgotten/<id> for each
//! forgotten/<id> ── until prune has run ─► undelete: the same content under a new id
//! ```
//!
//! Invariant: what is done is what was planned; nothing is decided anew.
//! Invariant: an empty policy forgets nothing, and no group loses its last snapshot unless that was asked for.
//! Never here: freeing space.

mod holds;
#[cfg(test)]
mod oracle;
mod plan;
mod policy;
#[cfg(test)]
mod tests;
mod undelete;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{Timestamp, Zoned};
use pack::{Forgotten, Role, SnapshotId, names};

pub use self::holds::{Held, Holds};
pub use self::plan::{Decision, Group, GroupBy};
pub use self::policy::{Class, Count, Policy};
pub use self::undelete::ForgottenSnapshot;
use crate::objects::create;
use crate::repository::Repository;
use crate::{EngineError, SnapshotFilter, SnapshotInfo};

/// How many records are created at the same time.
pub(super) const AT_ONCE_MAX: usize = 16;

/// What shall go.
#[derive(Debug, Clone)]
pub enum Forget {
    /// Whatever a policy does not keep, of the snapshots that fit.
    ByPolicy(Policy, SnapshotFilter),
    /// These.
    Named(Vec<SnapshotId>),
}

/// What would be forgotten, and why each of the others stays.
#[derive(Debug, Clone)]
pub struct ForgetPlan {
    /// The groups.
    pub groups: Vec<Group>,
}

impl ForgetPlan {
    /// What goes.
    pub fn going(&self) -> impl Iterator<Item = &SnapshotInfo> {
        let decisions = self.groups.iter().flat_map(|group| &group.decisions);
        decisions.filter(|decision| !decision.is_kept).map(|decision| &decision.info)
    }

    /// The groups of which nothing would be left.
    pub fn emptied(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.would_be_empty())
    }
}

impl Repository {
    /// Decides what goes; nothing is done. `now` says in which zone days begin.
    ///
    /// # Errors
    ///
    /// Those of the store; [`EngineError::NoSnapshot`] if a named one is not there.
    pub async fn plan_forget(&self, what: &Forget, by: GroupBy, now: &Zoned) -> Result<ForgetPlan, EngineError> {
        let holds = &self.holds().await?;
        let groups = match what {
            Forget::ByPolicy(policy, filter) => {
                let snapshots = self.snapshots(filter).await?;
                plan::grouped(snapshots, by, |members| plan::by_policy(members, policy, holds, now))
            }
            Forget::Named(named) => {
                let snapshots = self.snapshots(&SnapshotFilter::default()).await?;
                if let Some(missing) = named.iter().find(|id| !snapshots.iter().any(|info| info.id == **id)) {
                    return Err(EngineError::NoSnapshot { what: format!("{missing}") });
                }
                let mut groups = plan::grouped(snapshots, by, |members| plan::by_name(members, named, holds, now));
                groups.retain(|group| group.decisions.iter().any(|decision| named.contains(&decision.info.id)));
                groups
            }
        };
        Ok(ForgetPlan { groups })
    }

    /// Whether this key may forget at all.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if not.
    pub fn may_forget(&self) -> Result<(), EngineError> {
        self.keyring.require(&[Role::Owner, Role::Maintenance], "forget snapshots")
    }

    /// Hides what a plan lets go. What was done before an error stays done, and doing it again is harmless.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key may not forget; [`EngineError::Request`] if something is held that was not when it
    /// was planned; those of the store.
    pub async fn forget(&self, plan: &ForgetPlan) -> Result<(), EngineError> {
        self.may_forget()?;
        let (holds, now) = (self.holds().await?, Timestamp::from_nanosecond(self.env.now().as_nanos()));
        let now = now.unwrap_or(Timestamp::UNIX_EPOCH);
        if let Some(info) = plan.going().find(|info| holds.of(info, now).is_some()) {
            let what = format!("snapshot {} was held since this was planned; nothing was forgotten", info.id);
            return Err(EngineError::Request { what });
        }
        let hide = |id: SnapshotId| async move { self.hide(id).await };
        stream::iter(plan.going().map(|info| hide(info.id))).buffer_unordered(AT_ONCE_MAX).try_collect().await
    }

    /// Hides one snapshot; harmless if it is hidden already.
    pub(crate) async fn hide(&self, snapshot: SnapshotId) -> Result<(), EngineError> {
        let name = names::forgotten(&snapshot);
        let record = Forgotten { snapshot, extension: Vec::new() };
        let bytes = self
            .seal(&name, |key, epoch, salt, signer, repository| record.encode(key, epoch, salt, signer, repository))?;
        // Another one's record of the same name does the same, if it is believed.
        if create(&*self.store, &name, bytes).await? || self.read_forgotten().await?.contains_key(&snapshot.to_string())
        {
            return Ok(());
        }
        Err(EngineError::Request { what: format!("{name} is there already, and hides nothing; check tells more") })
    }
}
