//! Random numbers that are the same for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

const SEED: u64 = 2_026;

/// The numbers.
pub struct Chance(u64);

impl Chance {
    /// The numbers of `CUSTOS_TEST_SEED`, which is told.
    ///
    /// # Errors
    /// It is no number.
    pub fn from_environment() -> anyhow::Result<Self> {
        let seed = std::env::var("CUSTOS_TEST_SEED").ok().map(|seed| seed.parse()).transpose()?.unwrap_or(SEED);
        eprintln!("CUSTOS_TEST_SEED={seed}");
        Ok(Self(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % bound.max(1)
    }

    /// Yes, so many times of a hundred.
    pub fn percent(&mut self, yes: u64) -> bool {
        self.below(100) < yes
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
        usize::try_from(self.below(count)).ok().and_then(|index| all.get(index).copied())
    }
}

/// The host's clock, in milliseconds since 1970: also the log's, whose broker runs on this host.
#[must_use]
pub fn host_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
