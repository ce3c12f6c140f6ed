//! Small helpers around stored objects: random seeds, and creating what must be ours.
//!
//! Invariant: random bytes that become keys are wiped after use.
//! Invariant: an object that was there already counts as created only if it holds our very bytes.
//! Never here: what the objects mean.

use bytes::Bytes;
use seal::Secret;
use store::{Env, Put, Store};
use zeroize::Zeroizing;

use crate::EngineError;

/// Fresh random bytes.
pub(crate) fn random<const N: usize>(env: &Env) -> [u8; N] {
    let mut bytes = [0; N];
    env.fill_random(&mut bytes);
    bytes
}

/// A fresh random secret.
pub(crate) fn random_secret(env: &Env) -> Secret {
    Secret::filled(|bytes| env.fill_random(bytes))
}

/// Fresh random bytes that keys are made of.
pub(crate) fn random_seed<const N: usize>(env: &Env) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    env.fill_random(&mut *bytes);
    bytes
}

/// Nanoseconds since 1970 by this host's clock, for people and for change detection.
pub(crate) fn now(env: &Env) -> i64 {
    i64::try_from(env.now().as_nanos()).unwrap_or(i64::MAX)
}

/// Creates `name`; true if it now holds `bytes`, be it by this call or by an attempt whose reply was lost.
///
/// # Errors
///
/// Those of the store.
pub(crate) async fn create(store: &dyn Store, name: &str, bytes: Vec<u8>) -> Result<bool, EngineError> {
    let bytes = Bytes::from(bytes);
    match store.put_new(name, vec![bytes.clone()]).await? {
        Put::Created => Ok(true),
        Put::AlreadyThere => Ok(store.get(name).await? == bytes),
    }
}
