//! Which user of this machine a connection belongs to.
//!
//! ```text
//! connection on the loopback interface ─► the other end's line in the kernel's table of sockets ─► its user
//! ```
//!
//! Invariant: whoever cannot be found out is not welcome.
//! Never here: connections from elsewhere; nobody listens to those unless everybody is welcome.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use source::blocking;

/// The kernel's tables of sockets.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
/// States in which somebody holds the other end: established, and closed for writing.
const HELD: [&str; 3] = ["01", "04", "05"];
const ROOT: u32 = 0;

/// Whether the other end of a connection belongs to the user who runs this, or to root.
pub(super) async fn is_welcome(peer: SocketAddr, own: Option<SocketAddr>) -> bool {
    let Some(own) = own else { return false };
    let user = blocking::run(move || {
        TABLES.iter().find_map(|path| user_in(&fs::read_to_string(path).unwrap_or_default(), peer, own))
    });
    let user = user.await.ok().flatten();
    user.is_some_and(|user| user == ROOT || user == rustix::process::geteuid().as_raw())
}

/// The user in a table's line of the socket that has these two ends, seen from `peer`.
fn user_in(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (near, far) = (written(peer), written(own));
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, inode, ..] = words.as_slice() else { return None };
        // A socket that no process has any more is shown as root's, without an inode.
        let is_held = HELD.contains(state) && *inode != "0";
        let is_it = is_held && near.iter().any(|near| near == local) && far.iter().any(|far| far == remote);
        is_it.then(|| user.parse().ok()).flatten()
    })
}

/// An address as the kernel writes it: words of 32 bits in the machine's order; also as one of IPv6.
fn written(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    let words = |bytes: &[u8]| -> String {
        let words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk().copied());
        words.map(|word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
    };
    let long = |ip: Ipv6Addr| format!("{}:{port:04X}", words(&ip.octets()));
    match address.ip() {
        IpAddr::V4(ip) => vec![format!("{}:{port:04X}", words(&ip.octets())), long(ip.to_ipv6_mapped())],
        IpAddr::V6(ip) => vec![long(ip)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_of_a_connection_is_that_of_the_socket_at_its_other_end() {
        let (peer, own) = (SocketAddr::from(([127, 0, 0, 1], 40_000)), SocketAddr::from(([127, 0, 0, 1], 8080)));
        let [near, mapped] = written(peer).try_into().expect("two ways to write it");
        let [far, far_mapped] = written(own).try_into().expect("two ways to write it");
        let line = |local: &str, remote: &str, state: &str, user: u32| {
            format!("   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {user}        0 12345 1\n")
        };
        let ours = line(&far, &near, "01", 0);
        assert_eq!(user_in(&ours, peer, own), None, "that is the server's own end");
        assert_eq!(user_in(&(ours.clone() + &line(&near, &far, "01", 1000)), peer, own), Some(1000));
        assert_eq!(user_in(&(ours + &line(&mapped, &far_mapped, "05", 7)), peer, own), Some(7));
        assert_eq!(user_in(&line(&near, &far, "06", 0), peer, own), None, "nobody holds it any more");
        let orphan = line(&near, &far, "05", 0).replace("12345", "0");
        assert_eq!(user_in(&orphan, peer, own), None, "nor this one");
    }

    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        let expected = if cfg!(target_endian = "little") { "0100007F:1F90" } else { "7F000001:1F90" };
        assert_eq!(written(SocketAddr::from(([127, 0, 0, 1], 8080)))[0], expected);
        let long = written(SocketAddr::from((Ipv6Addr::LOCALHOST, 1)));
        assert_eq!((long.len(), long[0].len()), (1, 37));
    }
}
