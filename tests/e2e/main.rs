//! End-to-end tests: one binary, one module per subject.

mod cost;
mod crash;
mod fidelity;
mod model;
mod tidy;
