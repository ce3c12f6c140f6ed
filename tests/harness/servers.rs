//! Real servers, private to one test and stopped when it ends.

pub mod gate;
pub mod kubernetes;
pub mod patroni;
pub mod postgres;
pub mod stores;
