//! Keeps secrets out of core dumps and away from debuggers of the same user.
//!
//! Invariant: done before the first secret is read.
//! Never here: secrets.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps of this process and what it starts. A system that refuses this is used nevertheless.
pub(crate) fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
