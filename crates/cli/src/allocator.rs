//! How the system's allocator gives memory back.
//!
//! ```text
//! piece of at least HELD_APART_LEN_MIN  ─► from the system for itself alone ─► freed: back to the system at once
//! shorter                               ─► cut out of a heap                ─► freed: stays the heap's, but for the heap's end
//! ```
//!
//! glibc begins like this and then raises the limit to the longest piece that was freed, up to 32 MiB. After the first long read
//! all blobs, reads and segments lie in heaps, of one thread each, full of holes that fit nothing: of the 315 MiB of a prune
//! that moved a million chunks this was 135. A limit that was set stays, also in place of one that was raised.
//!
//! It has its price: each long piece comes as pages that the system clears first. A backup of a dump took 5.9 s instead of 4.3, and
//! 3.5 instead of 1.5 where nothing had changed. So only a prune asks for it, whose memory grows with what it moves.
//!
//! Invariant: nothing but speed and memory depends on it.
//! Never here: how much memory anything may take.

/// Bytes of a piece that lies apart from others. Blobs are four times as long; what is shorter comes and goes too often.
#[cfg(target_env = "gnu")]
const HELD_APART_LEN_MIN: std::ffi::c_int = 256 << 10;

/// From here on lets long pieces go back to the system whenever they are freed. Other allocators do as they do.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)] // there is no safe way to say it
    // SAFETY: `mallopt` takes two numbers and looks at no memory of ours; it takes glibc's own locks.
    let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, HELD_APART_LEN_MIN) } == 1;
    #[cfg(target_env = "gnu")]
    debug_assert!(is_set, "glibc takes any limit up to 32 MiB");
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::hint::black_box;

    use super::give_back;

    /// Bytes of memory that this process holds.
    fn resident_len() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("reads");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
        kib.expect("a number of KiB") << 10
    }

    #[test]
    fn long_pieces_go_back_though_longer_ones_came_before_and_short_ones_lie_between() {
        const LEN: usize = 1 << 20;
        give_back();
        // By itself glibc would take what is as long as this one out of a heap from now on.
        drop(black_box(vec![1_u8; 24 * LEN]));
        let before = resident_len();
        let (long, short): (Vec<_>, Vec<_>) = (0..256).map(|_| (vec![1_u8; LEN], vec![1_u8; 64])).unzip();
        assert!(resident_len() > before + 200 * LEN, "it was all there");
        drop(black_box(long));
        assert!(resident_len() < before + 100 * LEN, "{} MiB stayed", (resident_len() - before) >> 20);
        drop(black_box(short));
    }
}
