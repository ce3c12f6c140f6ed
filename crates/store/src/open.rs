//! From a location to a store that is ready to use.
//!
//! ```text
//! Directory ─ directory ┐
//! s3://     ─ s3        ├─ Limited (if asked for) ─ Retrying ─> SharedStore
//! gs:// az:// ─ clouds  ┘
//! ```
//!
//! Invariant: every store that leaves here retries and has deadlines.
//! Never here: the settings of one kind of store.

use std::sync::Arc;

use crate::directory::Directory;
use crate::limited::Limited;
use crate::retrying::{Patience, Retrying};
use crate::store::SharedStore;
use crate::{Env, Location, StoreError, StoreOptions, clouds, s3};

/// Opens the store at `location`. At most one request is sent, to learn a region or credentials.
///
/// That the location exists shows only at the first request: a folder is made by the first put.
///
/// # Errors
///
/// [`StoreError::Setting`] for wrong settings, [`StoreError::CredentialsMissing`] if none are found,
/// [`StoreError::NotADirectory`] and [`StoreError::AccessDenied`] for a folder that cannot be used.
pub async fn open_store(location: &Location, options: &StoreOptions, env: &Env) -> Result<SharedStore, StoreError> {
    let store: SharedStore = match location {
        Location::Directory(path) => Arc::new(Directory::open(path, options, env).await?),
        Location::Url(url) => {
            install_tls();
            match url.scheme() {
                "s3" => Arc::new(s3::open(url, options).await?),
                "gs" => Arc::new(clouds::open_gcs(url, options)?),
                _ => Arc::new(clouds::open_azure(url, options)?),
            }
        }
    };
    let limited = Limited::over(store, options.limit_upload, options.limit_download);
    let patience = Patience { retries_max: options.retries_max, ..Patience::default() };
    Ok(Arc::new(Retrying::new(limited, env.clone(), patience)))
}

/// Chooses the cryptography library behind TLS for the whole process. Harmless when repeated.
pub fn install_tls() {
    // An error says that one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
}
