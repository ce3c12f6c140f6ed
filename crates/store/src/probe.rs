//! Finds out what a store is able to do, by doing it.
//!
//! ```text
//! probe/<random>   create ─ create again ─ read ─ ranges ─ list ─ delete ─ head
//! ```
//!
//! Abilities written down once go stale: this is for `init` and for people. Each writer and collector
//! proves conditional creation again with its own announcement.
//!
//! Invariant: nothing stays behind, unless the store refuses to delete.
//! Never here: what follows from a missing ability. The engine decides that.

use bytes::Bytes;
use futures::stream::TryStreamExt;

use crate::store::{Put, Store};
use crate::{Env, StoreError};

/// What was seen to hold. A `false` was seen to fail, not merely left untried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// A second create of one name is refused, and the first one's bytes stay.
    pub creates_conditionally: bool,
    /// An object reads back as it was written.
    pub reads_back: bool,
    /// A range reads back as that range, and one past the end is an error.
    pub reads_ranges: bool,
    /// An object is listed as soon as it is written, with its length.
    pub lists_after_write: bool,
    /// A deleted object is gone from reads and listings.
    pub deletes: bool,
}

impl Abilities {
    /// Whether everything holds that the engine relies on.
    pub fn are_complete(&self) -> bool {
        self.creates_conditionally && self.reads_back && self.reads_ranges && self.lists_after_write && self.deletes
    }
}

const FIRST: &[u8] = b"backstay probe: the first to come";
const SECOND: &[u8] = b"backstay probe: second, and refused";

/// Tries out `store` with one small object of a random name below `probe/`. About nine requests.
///
/// # Errors
///
/// Any [`StoreError`]: the store cannot be used at all, or not by us. An [`StoreError::AccessDenied`]
/// for the deletion is none: writers may have no right to delete, and then the object stays.
pub async fn probe(store: &dyn Store, env: &Env) -> Result<Abilities, StoreError> {
    let folder = format!("probe/{}", hex(env.random_id()));
    let name = format!("{folder}/object");
    let seen = try_out(store, &folder, &name).await;
    let deleted = store.delete(&name).await;
    let mut abilities = seen?;
    abilities.deletes = match deleted {
        Ok(()) => store.head(&name).await?.is_none() && !is_listed(store, &folder, &name).await?,
        Err(StoreError::AccessDenied { .. }) => false,
        Err(error) => return Err(error),
    };
    Ok(abilities)
}

async fn try_out(store: &dyn Store, folder: &str, name: &str) -> Result<Abilities, StoreError> {
    store.put_new(name, vec![Bytes::from_static(FIRST)]).await?;
    let second = store.put_new(name, vec![Bytes::from_static(SECOND)]).await?;
    let bytes = store.get(name).await?;
    Ok(Abilities {
        creates_conditionally: second == Put::AlreadyThere && bytes == FIRST,
        reads_back: bytes == FIRST || (second == Put::Created && bytes == SECOND),
        reads_ranges: reads_ranges(store, name, &bytes).await?,
        lists_after_write: is_listed(store, folder, name).await?,
        deletes: false,
    })
}

async fn reads_ranges(store: &dyn Store, name: &str, bytes: &Bytes) -> Result<bool, StoreError> {
    let len = bytes.len() as u64;
    let middle = match store.get_range(name, 9..14).await {
        Ok(middle) => middle == bytes.get(9..14).unwrap_or_default(),
        Err(StoreError::Truncated { .. } | StoreError::Unsupported { .. } | StoreError::Other { .. }) => false,
        Err(error) => return Err(error),
    };
    let past_end = store.get_range(name, len - 1..len + 1).await;
    Ok(middle && matches!(past_end, Err(StoreError::Truncated { .. })))
}

async fn is_listed(store: &dyn Store, folder: &str, name: &str) -> Result<bool, StoreError> {
    let items: Vec<_> = store.list(folder).try_collect().await?;
    Ok(items.iter().any(|item| item.name == name && item.len > 0))
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};

    fn faulty() -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()))
    }

    #[tokio::test]
    async fn server_that_ignores_the_condition_is_told_apart_and_cleaned_up() {
        let store = faulty();
        store.inject(Trigger::next().of(Verb::Put).always(), Fault::IgnoreCondition);
        let abilities = probe(&store, &Env::system()).await.expect("probes");
        assert!(!abilities.creates_conditionally && !abilities.are_complete());
        assert!(abilities.reads_back && abilities.deletes);
        assert!(store.list("").try_next().await.expect("lists").is_none());
    }

    #[tokio::test]
    async fn account_that_may_not_delete_is_no_error() {
        let store = faulty();
        store.inject(Trigger::next().of(Verb::Delete), Fault::Deny);
        let abilities = probe(&store, &Env::system()).await.expect("probes");
        assert!(abilities.creates_conditionally && !abilities.deletes);
    }

    #[tokio::test]
    async fn object_of_a_probe_that_fails_is_deleted() {
        let store = faulty();
        store.inject(Trigger::next().of(Verb::Get), Fault::Deny);
        probe(&store, &Env::system()).await.expect_err("access is denied");
        assert!(store.list("").try_next().await.expect("lists").is_none());
    }

    #[tokio::test]
    async fn wrong_bytes_are_seen() {
        let store = faulty();
        store.inject(Trigger::next().of(Verb::Get), Fault::ReadWrong);
        assert!(!probe(&store, &Env::system()).await.expect("probes").reads_back);
    }
}
