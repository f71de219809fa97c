//! The engine's only chance: seeded, so that a run can be repeated.

use std::time::Duration;

/// A source of jitter.
#[derive(Debug, Clone)]
pub(super) struct Chance(fastrand::Rng);

impl Chance {
    /// Creates a source that always gives the same sequence for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a duration between `low` and `high` times `wait`.
    pub(super) fn jitter(&mut self, wait: Duration, low: f64, high: f64) -> Duration {
        wait.mul_f64(low + (high - low) * self.0.f64())
    }
}
