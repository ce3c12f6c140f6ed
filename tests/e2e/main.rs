//! End-to-end tests: one binary, one module per subject.

mod advice;
mod bad_input;
mod cache;
mod check;
mod cli;
mod cost;
mod crash;
mod damage;
mod fidelity;
mod golden;
mod jobs;
mod lease;
mod model;
mod moved;
mod postgres;
mod reader;
mod resumed;
mod roles;
mod s3;
mod segments;
mod streams;
mod target;
mod tidy;
mod vanished;
