//! Repair: what verifies is kept or copied, what is lost is named, and nothing that is right is removed.
//!
//! ```text
//! index       packs that no segment names     ─► new segments          damaged segments ─► quarantine/
//! packs       blobs of damaged packs          ─► new packs, segments   damaged packs    ─► named by no segment any more
//! snapshots   snapshots that miss content     ─► new, partial ones     damaged ones     ─► hidden, if that is asked for
//! ```
//!
//! Each is a plan that changes nothing, and the doing of that plan as a writer (W1 to W6), so that no collector takes away
//! what is being repaired. Whatever is not as it should be is read again before anything is done about it.
//!
//! Invariant: no object that verifies is removed but segments whose every true entry another one holds (L15).
//! Invariant: doing it again finds nothing to do.
//! Never here: finding damage (see `check`), deciding for the person.

mod index;
mod packs;
mod rewrite;
mod salvage;
mod snapshots;
mod survey;

use std::collections::HashSet;

use pack::{PackId, Role};
use tokio_util::sync::CancellationToken;

pub use index::{IndexRepair, IndexRepaired};
pub use packs::{PackRepair, PacksRepair, PacksRepaired};
pub use snapshots::{ComponentLoss, SnapshotRepair, SnapshotsRepair, SnapshotsRepaired};

use crate::EngineError;
use crate::repository::Repository;

/// Objects that a plan names one by one; all are counted.
const NAMED_MAX: usize = 100;

/// Names some, and counts all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The first hundred, each with what is wrong.
    pub named: Vec<(String, String)>,
    /// All of them.
    pub count: u64,
}

impl Told {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, name: impl Into<String>, what: impl ToString) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push((name.into(), what.to_string()));
        }
    }
}

impl Repository {
    /// Does `work` as a writer that commits no snapshot: what it stores is safe from collectors until it has ended.
    async fn as_writer<T>(
        &self,
        host: &str,
        cancel: &CancellationToken,
        work: impl AsyncFnOnce(HashSet<PackId>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let writer = self.announce(host).await?;
        let stop = cancel.child_token();
        let done = writer.keep_alive(&stop, async {
            let condemned = writer.see_condemned().await?;
            work(condemned).await
        });
        match done.await {
            Ok(done) => {
                if let Err(error) = writer.withdraw().await {
                    self.cache.warn(format!("the record of this repair stays in the repository: {error}"));
                }
                Ok(done)
            }
            Err(error) => Err(writer.fail(error).await),
        }
    }

    /// Refuses all but owners.
    fn require_owner(&self, what: &'static str) -> Result<(), EngineError> {
        self.keyring.require(&[Role::Owner], what)
    }
}
