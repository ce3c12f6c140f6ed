//! What every durable format promises: it comes back, damage is an error, and its bytes never change.
//!
//! ```text
//! samples      one of each object, the same in every run
//! round_trip   whatever is written is read back, and reads back to the same bytes
//! damage       truncations, flips and absurd counts: an error, never a panic
//! golden       bytes which never change
//! trust        keys, signers and slots that must not be believed
//! packs        a pack from its end to its chunks; what a chunk costs
//! pages        trees and content lists: order, bounds, and what a change costs
//! ```
//!
//! Invariant: nothing here is random unless proptest draws it, so a failure replays.
//! Never here: sealing itself (see `seal`).

mod damage;
mod golden;
mod packs;
mod pages;
mod round_trip;
mod samples;
mod trust;
