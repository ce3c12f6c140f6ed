//! End-to-end tests: one binary, one module per subject.

mod cost;
mod crash;
mod damage;
mod fidelity;
mod model;
mod roles;
mod streams;
mod tidy;
