//! A collector's claim: that it is at work, and what time it is at the store.
//!
//! Claims lock nothing. They tell people that another prune is at work; their times are what the ages of leases are compared
//! with; and creating one twice shows whether the store refuses what is there already.
//!
//! Invariant: no decision about deleting rests on a claim being there or not.
//! Never here: leases (see `writers`).

use std::time::Duration;

use bytes::Bytes;
use pack::{Claim, ClaimId, names};
use store::{Put, StoreTime};

use crate::EngineError;
use crate::objects::{create, now, random};
use crate::repository::{Repository, list};

/// A claim that is older is of a prune that was killed, and is removed.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A claim that was made.
pub(super) struct Claimed {
    pub(super) id: ClaimId,
    /// When, by the store's clock: as good as now.
    pub(super) at: StoreTime,
    /// Other prunes that seem to be at work.
    pub(super) other_count: usize,
    /// The store let the claim be created twice.
    pub(super) is_unsafe: bool,
}

impl Repository {
    pub(super) async fn claim(&self, host: &str) -> Result<Claimed, EngineError> {
        let id = ClaimId(random(&self.env));
        let name = names::claim(&id);
        let record = Claim { claim: id, host: host.to_owned(), started_at: now(&self.env), extension: Vec::new() };
        let bytes = self
            .seal(&name, |key, epoch, salt, signer, repository| record.encode(key, epoch, salt, signer, repository))?;
        create(&*self.store, &name, bytes.clone()).await?;
        let mut other = bytes;
        other.push(0);
        let is_unsafe = self.store.put_new(&name, vec![Bytes::from(other)]).await? == Put::Created;
        let claims = list(&self.store, names::CLAIMS).await?;
        let own = claims.iter().find(|info| info.name == name);
        let vanished = || EngineError::Request { what: format!("{name} is not listed, although it was just created") };
        let at = own.ok_or_else(vanished)?.modified_at;
        let (old, young): (Vec<_>, Vec<_>) = claims
            .iter()
            .filter(|info| info.name != name)
            .partition(|info| at.since(info.modified_at) >= LEFT_BEHIND_AFTER);
        for info in old {
            self.store.delete(&info.name).await?;
        }
        Ok(Claimed { id, at, other_count: young.len(), is_unsafe })
    }

    pub(super) async fn drop_claim(&self, claimed: &Claimed) {
        if let Err(error) = self.store.delete(&names::claim(&claimed.id)).await {
            tracing::info!("{} stays: {error}", names::claim(&claimed.id));
        }
    }
}
