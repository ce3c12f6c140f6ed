//! How the system's allocator shares memory among threads, and gives it back.
//!
//! ```text
//! long piece, once `give_back` was called ─► from the system for itself alone ─► freed: back to it at once
//! any other                               ─► cut out of a heap                ─► freed: stays the heap's
//! ```
//!
//! A process reads packs on one thread, opens them on another and writes them out on a third. glibc gives each thread a heap and
//! gives back the end of each whenever something long there is freed, so that the next read gets pages which the system
//! clears first. With [`HEAPS_MAX`] heaps that keep [`KEPT_LEN`] a gibibyte of noise is restored with 42 thousand page faults
//! instead of 165 thousand, a seventh faster and in 143 MiB instead of 185.
//!
//! What is freed then stays in heaps, full of holes that fit nothing: of the 315 MiB of a prune that moved a million chunks this
//! was 135. Where it does not, each long piece comes as pages that the system clears first: a backup of a dump took
//! 5.9 s instead of 4.3, and 3.5 instead of 1.5 where nothing had changed. So only a prune asks for it, whose memory grows with
//! what it moves.
//!
//! Source: mallopt(3).
//!
//! Invariant: nothing but speed and memory depends on it.
//! Never here: how much memory anything may take.

#[cfg(target_env = "gnu")]
use std::ffi::c_int;

/// Heaps of all threads together. One would do on two cores; of more, some wait for each other.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: c_int = 2;
/// Free bytes at the end of a heap that it keeps: a few packs.
#[cfg(target_env = "gnu")]
const KEPT_LEN: c_int = 64 << 20;
/// Bytes of a piece that lies apart from others: as glibc sets it by itself once such a piece was freed, the most that it
/// takes.
#[cfg(target_env = "gnu")]
const LONG_LEN_MIN: c_int = 32 << 20;
/// The same once memory is to be given back. Blobs are four times as long; what is shorter comes and goes too often.
#[cfg(target_env = "gnu")]
const HELD_APART_LEN_MIN: c_int = 256 << 10;
/// What the end of a heap keeps then, which holds short pieces only: as glibc begins.
#[cfg(target_env = "gnu")]
const KEPT_OF_SHORT_LEN: c_int = 128 << 10;

/// Lets threads use few heaps, which keep what is freed for the next one who asks. Called before there are threads. Other
/// allocators do as they do.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    for (what, value) in
        [(libc::M_ARENA_MAX, HEAPS_MAX), (libc::M_TRIM_THRESHOLD, KEPT_LEN), (libc::M_MMAP_THRESHOLD, LONG_LEN_MIN)]
    {
        set(what, value);
    }
}

/// From here on lets long pieces go back to the system whenever they are freed.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [(libc::M_MMAP_THRESHOLD, HELD_APART_LEN_MIN), (libc::M_TRIM_THRESHOLD, KEPT_OF_SHORT_LEN)] {
        set(what, value);
    }
}

#[cfg(target_env = "gnu")]
fn set(what: c_int, value: c_int) {
    #[allow(unsafe_code)] // there is no safe way to say it
    // SAFETY: `mallopt` takes two numbers and looks at no memory of ours; it takes glibc's own locks.
    // What it refuses, such as 32 MiB where addresses have 32 bits, stays as it is.
    let _ = unsafe { libc::mallopt(what, value) };
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
