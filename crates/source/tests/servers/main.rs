//! Sources against real servers: private processes on sockets and ports of their own, in temporary folders.

#[path = "../../../../tests/harness/servers/postgres.rs"]
#[allow(dead_code, unreachable_pub)] // what other suites use
mod postgres_server;

#[path = "../../../../tests/harness/servers/patroni.rs"]
#[allow(dead_code, unreachable_pub)] // what other suites use
mod patroni_cluster;

#[path = "../../../../tests/harness/servers/stores.rs"]
#[allow(dead_code, unreachable_pub)] // what other suites use
mod stores;

#[path = "../../../../tests/harness/servers/kubernetes.rs"]
#[allow(dead_code, unreachable_pub)] // what other suites use
mod kubernetes_cluster;

#[cfg(test)]
mod choice;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod running;
#[cfg(test)]
mod sink;
#[cfg(test)]
mod sqlite;
