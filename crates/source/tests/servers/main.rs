//! Sources against real servers.

#[path = "../../../../tests/harness/servers/postgres.rs"]
#[allow(dead_code, unreachable_pub)] // what other suites use
mod postgres_server;

#[cfg(test)]
mod postgres;
#[cfg(test)]
mod sink;
