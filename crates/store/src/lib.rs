//! The object store as backstay sees it, and the seam to clock and randomness.
//!
//! ```text
//! engine ─> Retrying ─> Limited ─> Directory | Backend (S3, GCS, Azure, memory) ─> disk or network
//!              one Store trait all the way; tests put Counted and FaultyStore anywhere between
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`store`](Store) | the trait and what it says |
//! | [`location`](Location), [`options`](StoreOptions), [`open`](open_store) | where, how, and the way in |
//! | `backend`, `directory`, `exclusive`, `s3`, `clouds` | the stores themselves |
//! | [`retrying`](Retrying), [`limited`](Limited), [`counted`](Counted) | layers |
//! | [`probe`](probe()) | what a store is able to do |
//! | [`index_cache`] | which pack holds which chunk, kept on this host |
//! | [`env`](Env) | clock and randomness |
//! | [`error`](StoreError), `classify` | what went wrong |
//!
//! Invariant: an object, once created, is never changed; no request runs for ever.
//! Never here: what is in an object.

mod aws_profile;
mod backend;
mod classify;
mod clouds;
mod counted;
mod directory;
mod env;
mod error;
mod exclusive;
pub mod index_cache;
mod limited;
mod location;
mod open;
mod options;
mod probe;
mod retrying;
mod s3;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use bytes::Bytes;
pub use counted::{Counted, RequestCounts};
pub use env::{Env, Timestamp};
pub use error::{Cause, Kind, Obstacle, Reason, StoreError};
pub use limited::Limited;
pub use location::Location;
pub use open::{install_tls, open_store};
pub use options::{S3Options, StoreOptions, Variables};
pub use probe::{Abilities, probe};
pub use retrying::{Patience, Retrying};
pub use store::{OBJECT_LEN_MAX, ObjectInfo, Put, PutReport, SharedStore, Store, StoreTime};
