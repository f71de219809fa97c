//! How often something may happen: so many times at once, then one in a while.

use std::time::Duration;

use crate::engine::timer::Moment;

/// A bucket that fills again with time. It remembers one moment only: when it will be full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    full: Moment,
    every: Duration,
    depth: Duration,
}

impl Bucket {
    /// Creates a full bucket.
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self {
            full: Moment::default(),
            every,
            depth: every * burst,
        }
    }

    /// Takes one, be there any or not.
    pub(super) fn take(&mut self, now: Moment) {
        self.full = self.full.max(now) + self.every;
    }

    /// Returns when there is one: now or later.
    pub(super) fn next(&self, now: Moment) -> Moment {
        (self.full + self.every - self.depth).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_in_a_while() {
        let at = Moment::from_millis;
        let mut bucket = Bucket::new(3, Duration::from_millis(100));
        let start = at(10_000);
        for _ in 0..3 {
            assert_eq!(bucket.next(start), start);
            bucket.take(start);
        }
        assert_eq!(bucket.next(start), at(10_100));
        bucket.take(at(10_100));
        assert_eq!(bucket.next(at(10_100)), at(10_200));
        assert_eq!(bucket.next(at(10_250)), at(10_250));
        // Full again, and no fuller than that.
        let later = at(20_000);
        for _ in 0..3 {
            assert_eq!(bucket.next(later), later);
            bucket.take(later);
        }
        assert_eq!(bucket.next(later), at(20_100));
    }
}
