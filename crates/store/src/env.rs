//! The seam through which time and randomness enter.
//!
//! ```text
//! Env::system()           the operating system's clock and random bytes
//! Env::fixed(time, seed)  a clock that stands until moved, bytes that replay from the seed
//! ```
//!
//! Invariant: only this file asks the operating system for the time or for random bytes.
//! Never here: the store's clock. What a store says about time is a [`StoreTime`](crate::StoreTime).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// An instant on this host's clock: whole seconds since the Unix epoch, and nanoseconds into that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since the Unix epoch, negative before it.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The instant `secs` seconds after the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.secs) * NANOS_PER_SEC + i128::from(self.nanos)
    }

    /// This instant moved on by `step`, at most to the end of time.
    #[must_use]
    pub fn plus(self, step: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_add_unsigned(step.as_nanos()))
    }

    fn from_nanos(nanos: i128) -> Self {
        let secs = nanos.div_euclid(NANOS_PER_SEC);
        let rest = nanos.rem_euclid(NANOS_PER_SEC);
        Self { secs: i64::try_from(secs).unwrap_or(i64::MAX), nanos: u32::try_from(rest).unwrap_or(0) }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => 0_i128.saturating_add_unsigned(after.as_nanos()),
            Err(before) => 0_i128.saturating_sub_unsigned(before.duration().as_nanos()),
        };
        Self::from_nanos(nanos)
    }
}

const NANOS_PER_SEC: i128 = 1_000_000_000;

/// Where time and randomness come from. Cheap to clone; clones share one clock and one stream.
#[derive(Clone)]
pub struct Env(Origin);

#[derive(Clone)]
enum Origin {
    System,
    Fixed(Arc<Mutex<Replay>>),
}

struct Replay {
    now: watch::Sender<Timestamp>,
    bytes: blake3::OutputReader,
}

impl Env {
    /// The operating system's clock and random bytes.
    pub fn system() -> Self {
        Self(Origin::System)
    }

    /// A clock that stands at `now` until [`advance`](Self::advance), and bytes that follow from `seed`.
    ///
    /// For tests and replays only: the bytes are predictable.
    pub fn fixed(now: Timestamp, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("backstay 2026 replayable randomness");
        hasher.update(&seed.to_le_bytes());
        let bytes = hasher.finalize_xof();
        Self(Origin::Fixed(Arc::new(Mutex::new(Replay { now: watch::Sender::new(now), bytes }))))
    }

    /// This host's idea of now. Never compare it with a store's.
    #[allow(clippy::disallowed_methods)] // this is the seam
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Origin::System => SystemTime::now().into(),
            Origin::Fixed(replay) => *lock(replay).now.borrow(),
        }
    }

    /// Moves a fixed clock on. The system's clock does not heed this.
    pub fn advance(&self, step: Duration) {
        if let Origin::Fixed(replay) = &self.0 {
            lock(replay).now.send_modify(|now| *now = now.plus(step));
        }
    }

    /// Waits until this much time has passed: on a fixed clock, until it has been advanced so far.
    pub async fn sleep(&self, len: Duration) {
        match &self.0 {
            Origin::System => tokio::time::sleep(len).await,
            Origin::Fixed(replay) => {
                let mut now = lock(replay).now.subscribe();
                let due_at = now.borrow().plus(len);
                // An error would say that the clock is gone, and we hold it.
                drop(now.wait_for(|now| *now >= due_at).await.map(|_| ()));
            }
        }
    }

    /// Fills `buffer` with random bytes fit for keys.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes. Nothing can safely go on without them.
    #[allow(clippy::disallowed_methods)] // this is the seam
    pub fn fill_random(&self, buffer: &mut [u8]) {
        match &self.0 {
            Origin::System => {
                getrandom::fill(buffer).expect("the operating system gives random bytes");
            }
            Origin::Fixed(replay) => lock(replay).bytes.fill(buffer),
        }
    }

    /// Sixteen random bytes: a name nobody else will choose.
    pub fn random_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.fill_random(&mut id);
        id
    }

    /// A random number, for jitter and sampling.
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Origin::System => "Env::system",
            Origin::Fixed(_) => "Env::fixed",
        })
    }
}

fn lock(replay: &Mutex<Replay>) -> std::sync::MutexGuard<'_, Replay> {
    replay.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_environments_with_one_seed_give_the_same_bytes() {
        let at = Timestamp::from_secs(1_000);
        let (a, b, other) = (Env::fixed(at, 7), Env::fixed(at, 7), Env::fixed(at, 8));
        let first = a.random_id();
        assert_eq!(first, b.random_id());
        assert_ne!(first, a.random_id());
        assert_ne!(first, other.random_id());
    }

    #[test]
    fn fixed_clock_stands_until_it_is_advanced_and_clones_share_it() {
        let env = Env::fixed(Timestamp::from_secs(5), 1);
        let clone = env.clone();
        assert_eq!(env.now(), env.now());
        env.advance(Duration::from_millis(1_500));
        let moved = Timestamp { secs: 6, nanos: 500_000_000 };
        assert_eq!(clone.now(), moved);
    }

    #[tokio::test]
    async fn sleep_on_a_fixed_clock_ends_when_the_clock_was_advanced_far_enough_and_not_before() {
        let env = Env::fixed(Timestamp::from_secs(5), 1);
        let mut sleep = std::pin::pin!(env.sleep(Duration::from_secs(10)));
        let mut is_over = async || {
            let soon = tokio::time::timeout(Duration::from_millis(5), &mut sleep);
            soon.await.is_ok()
        };
        assert!(!is_over().await);
        env.advance(Duration::from_millis(9_999));
        assert!(!is_over().await);
        env.advance(Duration::from_millis(1));
        assert!(is_over().await);
    }

    #[test]
    fn system_bytes_differ_from_call_to_call() {
        let env = Env::system();
        assert_ne!(env.random_id(), env.random_id());
        assert!(env.now() > Timestamp::from_secs(1_700_000_000));
    }

    #[test]
    fn instant_before_the_epoch_keeps_its_nanoseconds_positive() {
        let time = UNIX_EPOCH - Duration::from_nanos(1);
        let expected = Timestamp { secs: -1, nanos: 999_999_999 };
        assert_eq!(Timestamp::from(time), expected);
    }
}
