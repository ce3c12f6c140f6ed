//! A Kubernetes cluster's objects through kubectl: one file for each, in a form that changes only when they do.
//!
//! ```text
//! kubectl version, api-resources --verbs=list → for each type: kubectl get TYPE -A -o json
//! → objects one by one → canonical JSON → NAMESPACE/KIND.GROUP/NAME.json   (_cluster/… without a namespace)
//! ```
//!
//! What controllers make again by themselves is left out, and so are volumes: this is what was declared, not what
//! runs. Secrets are in it, in clear.
//!
//! Invariant: a type that cannot be listed is an error, never left out unless it was excluded by name.
//! Invariant: memory is bounded by the largest object, not by how many there are.
//! Never here: the cluster's own etcd.

mod canonical;
#[cfg(fuzzing)]
pub mod fuzzing;
mod items;
mod preflight;
mod read;

pub use canonical::{canonical, is_derived};
pub use items::Items;
pub use preflight::preflight;
pub use read::{Cluster, manifests};
