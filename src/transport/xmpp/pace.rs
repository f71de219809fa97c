//! When the server is tried again, and how one tells that something throws us out.
//!
//! Invariants: the wait is drawn anew each time from a range that doubles, so hosts that lost the
//! server together do not come back together; a connection that did not hold does not shorten it.

use std::time::Duration;

use tokio_xmpp::xmlstream::Timeouts;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Everything from the name of the server to the bound session.
    pub setup: Duration,
    /// After this long without a word the server is asked whether it is there...
    pub silence: Duration,
    /// ...and then it may take this long to answer.
    pub answer: Duration,
    /// No wait for another try is shorter...
    pub again: Duration,
    /// ...and none is longer.
    pub again_max: Duration,
    /// All hosts are back at once when a server is: they fetch within this time, not at its beginning.
    pub spread: Duration,
    /// Presences of those who are there take this long at most.
    pub greeting: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            setup: Duration::from_secs(25),
            silence: Duration::from_secs(60),
            answer: Duration::from_secs(20),
            again: Duration::from_secs(1),
            again_max: Duration::from_secs(60),
            spread: Duration::from_secs(5),
            greeting: Duration::from_secs(3),
        }
    }
}

impl Pace {
    /// Returns what the library is to know of it.
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            read_timeout: self.silence,
            response_timeout: self.answer,
        }
    }
}

/// A connection that held this long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// A connection that did not hold this long was perhaps ended on purpose.
const SHORT: Duration = Duration::from_secs(30);
/// So many short ones in a row are no weather.
const SUSPICIOUS: u32 = 3;
/// From this try on the range is the full one.
const FULL: u32 = 6;
/// What is refused for its certificate is tried again after this long at least...
const CERTIFICATE: Duration = Duration::from_secs(600);
/// ...and this long at most: a portal of a hotel goes away, a certificate is renewed.
const CERTIFICATE_MAX: Duration = Duration::from_secs(900);

/// What is known of the tries so far.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    pace: Pace,
    tries: u32,
    short: u32,
}

impl BackOff {
    /// Creates it for a connection that was never there.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// Takes that a try failed; returns how long to wait.
    pub(super) fn failed(&mut self, chance: &mut fastrand::Rng) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let Pace {
            again, again_max, ..
        } = self.pace;
        let longest = again
            .saturating_mul(1 << self.tries.min(FULL))
            .min(again_max);
        between(again, longest, chance)
    }

    /// Takes that a connection was lost that was there this long. Returns how long to wait, and
    /// whether it looks as if somebody else uses our name at the account.
    pub(super) fn lost(
        &mut self,
        online: Duration,
        chance: &mut fastrand::Rng,
    ) -> (Duration, bool) {
        if online >= GOOD {
            self.tries = 0;
        }
        self.short = if online < SHORT { self.short + 1 } else { 0 };
        let thrown_out = self.short >= SUSPICIOUS;
        if thrown_out {
            self.short = 0;
            self.tries = FULL;
        }
        (self.failed(chance), thrown_out)
    }

    /// Returns how long to wait after a certificate that was refused.
    pub(super) fn refused(chance: &mut fastrand::Rng) -> Duration {
        between(CERTIFICATE, CERTIFICATE_MAX, chance)
    }
}

/// Draws a time between two.
pub(super) fn between(least: Duration, most: Duration, chance: &mut fastrand::Rng) -> Duration {
    least + most.saturating_sub(least).mul_f64(chance.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_wait_is_drawn_from_a_range_that_doubles_up_to_a_minute() {
        let mut longest = [Duration::ZERO; 10];
        let mut shortest = [seconds(100); 10];
        for seed in 0..200 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let mut back_off = BackOff::default();
            for nth in 0..10 {
                let wait = back_off.failed(&mut chance);
                longest[nth] = longest[nth].max(wait);
                shortest[nth] = shortest[nth].min(wait);
            }
        }
        for (nth, most) in [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
            .into_iter()
            .enumerate()
        {
            assert!(longest[nth] <= seconds(most), "{nth}: {longest:?}");
            assert!(
                longest[nth] > seconds(most).mul_f64(0.9),
                "{nth}: {longest:?}"
            );
            assert!(shortest[nth] >= seconds(1) && shortest[nth] < seconds(3));
        }
    }

    #[test]
    fn a_connection_that_did_not_hold_does_not_shorten_the_wait() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut back_off = BackOff::default();
        for _ in 0..5 {
            back_off.failed(&mut chance);
        }
        back_off.lost(seconds(45), &mut chance);
        assert_eq!(back_off.tries, 6);
        let (wait, _) = back_off.lost(seconds(61), &mut chance);
        assert_eq!(back_off.tries, 1);
        assert!(wait <= seconds(2));
    }

    #[test]
    fn three_short_connections_in_a_row_are_suspicious() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut back_off = BackOff::default();
        let mut lost = |online| back_off.lost(seconds(online), &mut chance).1;
        assert!(!lost(5) && !lost(5) && !lost(40));
        assert!(!lost(5) && !lost(29) && lost(0));
        assert!(!lost(5));
    }

    #[test]
    fn a_refused_certificate_is_looked_at_again_after_ten_to_fifteen_minutes() {
        for seed in 0..50 {
            let wait = BackOff::refused(&mut fastrand::Rng::with_seed(seed));
            assert!((seconds(600)..=seconds(900)).contains(&wait));
        }
    }
}
