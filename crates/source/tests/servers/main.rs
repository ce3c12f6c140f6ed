//! Sources against real servers: private processes on sockets and ports of their own, in temporary folders.

#[cfg(test)]
mod running;

#[cfg(test)]
mod dump;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod sqlite;
