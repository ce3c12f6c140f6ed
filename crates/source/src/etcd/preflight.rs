//! Whether an etcd member could be read now.
//!
//! Whether the user may take a snapshot is asked by beginning one: the member reads a few pages, and stops when we
//! leave after the first.
//!
//! Invariant: nothing is asked that needs a leader.
//! Never here: the snapshot.

use tokio::time::timeout;

use super::read::{EtcdSnapshot, choose, refused, silent};
use crate::error::{Fault, SourceError};
use crate::preflight::{Preflight, size};

/// Asks each member, chooses as a backup does, and begins a snapshot.
pub async fn preflight(request: &EtcdSnapshot) -> Preflight {
    let mut told = Preflight::default();
    if let Err(error) = look(request, &mut told).await {
        told.refused(&error, advice);
    }
    told
}

async fn look(request: &EtcdSnapshot, told: &mut Preflight) -> Result<(), SourceError> {
    let (mut chosen, warnings) = choose(request).await?;
    for warning in warnings {
        told.warn(warning, "repair the member, or leave it out; `etcdctl alarm list` tells of alarms");
    }
    let place = chosen.place.clone();
    let role = if chosen.is_leader() { "leader" } else { "follower" };
    let version = chosen.status.version.clone();
    if chosen.status.leader == 0 {
        let what = format!("{place}: knows no leader: what it has may be older than what others have");
        told.warn(what, "bring back enough members for a quorum");
    }
    if chosen.status.is_learner {
        told.warn(format!("{place}: is a learner, which may be far behind"), "name voting members as endpoints");
    }
    let begun = timeout(request.idle_for, async {
        let mut blobs = chosen.member.snapshot().await?;
        blobs.message().await
    });
    let first = begun.await.map_err(|_| silent(&place, request.idle_for))?.map_err(|error| refused(&place, &error))?;
    let len = first.map_or(0, |answer| answer.remaining_bytes + answer.blob.len() as u64);
    told.fine(format!("{place}: {role} of version {version}, lets us take a snapshot of {}", size(len)));
    Ok(())
}

fn advice(fault: Fault, _what: &str) -> Option<String> {
    match fault {
        Fault::Right | Fault::Login => Some(
            "give user and password of a user with the role root, which snapshots take: etcdctl user grant-role NAME root"
                .to_owned(),
        ),
        _ => None,
    }
}
