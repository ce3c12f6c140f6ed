//! A model of the protocol by which backups commit and prune deletes, searched exhaustively.
//!
//! ```text
//! setup (who runs, what is stored) ──▶ state ──▶ every step of every process ──▶ states ──▶ … until there is no new one
//!                                        └──▶ what must hold, asked of each of them
//! ```
//!
//! One step is one request to the store: whatever another process may do between two requests, it does in some path of the
//! search. A process that crashes or sleeps is one that takes no further step, so both are in it without a step of their own.
//! Clocks are not in it: a lease may be found over at any time. A request that got no answer may take effect at any later
//! time, or never. Which rule of the protocol is left out is a [`Rules`]; what there is and who runs is a [`Setup`].
//!
//! Invariant: nothing here knows how the engine does it; the protocol's text in `docs/FORMAT.md` is what is modelled.
//! Never here: content, keys, signatures, a store whose LIST or GET lags behind.

pub mod catalogue;
mod cleaner;
mod collector;
mod explore;
mod invariant;
mod model;
mod request;
mod rule;
mod setup;
mod state;
mod trace;
mod writer;

pub use explore::{Found, Outcome, Search, explore};
pub use invariant::Broken;
pub use model::Model;
pub use request::Kind;
pub use rule::{Rule, Rules};
pub use setup::{FirstMark, Initial, Setup, Want};
