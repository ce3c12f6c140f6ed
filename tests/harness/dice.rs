//! Choices that replay from a seed.
//!
//! Invariant: equal seeds give equal choices, whatever else runs.
//! Never here: which seed.

use store::{Env, Timestamp};

/// The environment variable that sets the seed.
const SEED_VARIABLE: &str = "BACKSTAY_SEED";

/// A stream of choices. Says its seed when a test fails.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    env: Env,
}

impl Dice {
    /// Dice with the seed in `BACKSTAY_SEED`, or else a fresh one.
    #[must_use]
    pub fn new() -> Self {
        let given = std::env::var(SEED_VARIABLE).ok().map(|text| text.parse().expect("BACKSTAY_SEED is a number"));
        Self::of_seed(given.unwrap_or_else(|| Env::system().random_u64() >> 32))
    }

    /// Dice with this seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, env: Env::fixed(Timestamp::from_secs(0), seed) }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`; 0 if the limit is 0.
    #[must_use]
    pub fn below(&self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("fits");
        usize::try_from(self.env.random_u64() % limit).expect("fits")
    }

    /// True once in `times`.
    #[must_use]
    pub fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these, if there is one.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Bytes that do not compress.
    #[must_use]
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.env.fill_random(&mut bytes);
        bytes
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Dice {
    #[allow(clippy::print_stderr)] // a failing test says how to replay it
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with {SEED_VARIABLE}={}", self.seed);
        }
    }
}
