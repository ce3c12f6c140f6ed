//! The words people type as values: moments, sizes, parts of a repository, paths within a snapshot.
//!
//! ```text
//! text ─► value, or a sentence that says which words there are
//! ```
//!
//! Invariant: pure; what depends on the clock takes it as an argument.
//! Never here: flags, and what is done with a value.

mod moment;
mod periods;
mod reference;
mod rest;
mod size;
mod subset;
mod until;

pub(crate) use moment::{UnknownMoment, moment};
pub(crate) use periods::{duration, lasting, periods, span};
pub(crate) use reference::{NAMES, Reference, normal};
pub(crate) use rest::{RestLimit, rest_limit};
pub(crate) use size::{rate, size};
pub(crate) use subset::{shard, subset};
pub(crate) use until::until;
