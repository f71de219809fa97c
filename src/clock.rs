//! The one clock: every time in the program comes from here.
//!
//! Two kinds are kept apart. A [`Moment`] is how long the machine has been up, suspends
//! included: all waiting is done in moments, so that setting the wall clock moves no timer. Wall
//! time is only ever text for a person, as RFC 3339 in the local zone's offset.
//!
//! Absent: any decision. No content ever depends on a wall clock.

use std::time::Duration;

use jiff::{
    Timestamp, Zoned,
    tz::{Offset, TimeZone},
};
use rustix::time::{ClockId, clock_gettime};

use crate::engine::timer::Moment;
use crate::fault;

/// The clock that goes on during a suspend.
#[cfg(target_os = "linux")]
const THROUGH_SUSPEND: ClockId = ClockId::Boottime;
/// The clock that goes on during a suspend.
#[cfg(not(target_os = "linux"))]
const THROUGH_SUSPEND: ClockId = ClockId::Monotonic;

/// A suspend shorter than this is taken for noise between two readings.
const NOTEWORTHY: Duration = Duration::from_secs(2);

/// Returns the present moment, from the clock that goes on during a suspend.
pub fn now() -> Moment {
    Moment(read(THROUGH_SUSPEND))
}

/// Returns how long it is from now to `moment`, zero if that is past.
pub fn until(moment: Moment) -> Duration {
    moment.since(now())
}

/// Returns the present wall time as RFC 3339 text with whole seconds, such as
/// `2026-11-20T21:42:54+01:00`.
pub fn wall() -> String {
    text(Timestamp::now())
}

/// Returns the wall time of a moment, as the wall clock stands now, in the form of [`wall`].
pub fn wall_at(moment: Moment) -> String {
    let now = now();
    let at = if moment > now {
        Timestamp::now().checked_add(moment.since(now))
    } else {
        Timestamp::now().checked_sub(now.since(moment))
    };
    at.map_or_else(|_| wall(), text)
}

/// Returns the wall time of a number of seconds since 1970, in the form of [`wall`]; empty if
/// no calendar has that second.
pub fn wall_of_seconds(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), text)
}

/// Returns the present wall time in whole seconds since 1970.
pub fn wall_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// Returns the present wall time in the local zone, to read a person's words for a time by.
pub fn zoned() -> Zoned {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    Zoned::new(Timestamp::now(), zone)
}

/// Returns how far the local zone is ahead of UTC now, in minutes.
pub fn wall_offset() -> i32 {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    zone.to_offset(Timestamp::now()).seconds() / 60
}

/// Returns a number of seconds since 1970 in a zone that many minutes ahead of UTC, in the form
/// of [`wall`]; empty if no calendar has that second.
pub fn wall_in_zone(seconds: i64, offset: i32) -> String {
    let (Ok(at), Ok(offset)) = (
        Timestamp::from_second(seconds),
        Offset::from_seconds(offset.saturating_mul(60)),
    ) else {
        return String::new();
    };
    Zoned::new(at, TimeZone::fixed(offset))
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

/// Returns how much processor time the calling thread has used.
pub fn thread_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Returns the present wall time as git writes it: seconds since 1970, and the local offset from
/// UTC in minutes.
pub fn wall_seconds_and_offset() -> (i64, i32) {
    (wall_seconds(), wall_offset())
}

fn text(at: Timestamp) -> String {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    Zoned::new(at, zone)
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

fn read(clock: ClockId) -> Duration {
    let at = clock_gettime(clock);
    Duration::new(
        u64::try_from(at.tv_sec).unwrap_or(0),
        u32::try_from(at.tv_nsec).unwrap_or(0),
    )
}

/// Notices afterwards that the machine was suspended: the clock that goes on then moves away
/// from the one that stands still.
#[derive(Debug, Clone)]
pub struct SuspendDetector {
    asleep: Duration,
}

impl SuspendDetector {
    /// Creates a detector that knows of every suspend until now.
    pub fn new() -> Self {
        Self {
            asleep: time_asleep(),
        }
    }

    /// Returns how long the machine was suspended since the last question, if that was more
    /// than two seconds. Cheap: two clock readings.
    pub fn slept(&mut self) -> Option<Duration> {
        self.compare(time_asleep() + pretended())
    }

    fn compare(&mut self, asleep: Duration) -> Option<Duration> {
        let slept = asleep.saturating_sub(self.asleep);
        if slept <= NOTEWORTHY {
            return None;
        }
        self.asleep = asleep;
        Some(slept)
    }
}

impl Default for SuspendDetector {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns for how long a test wants the machine to have been suspended beside that: the seconds
/// in the file that a variable of the tests names.
fn pretended() -> Duration {
    let Some(file) = fault::asked("AUTOSYNC_TEST_ASLEEP") else {
        return Duration::ZERO;
    };
    let seconds = std::fs::read_to_string(file).ok();
    let seconds = seconds.and_then(|text| text.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Returns for how long the machine was suspended since its boot.
#[cfg(target_os = "linux")]
fn time_asleep() -> Duration {
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}

/// Returns for how long the machine was suspended since its boot; unknown on this system, whose
/// clock that stands still has no portable name.
#[cfg(not(target_os = "linux"))]
fn time_asleep() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_go_back() {
        let first = now();
        let second = now();
        assert!(second >= first);
        assert_eq!(until(first), Duration::ZERO);
        assert!(until(second + Duration::from_secs(60)) > Duration::from_secs(50));
    }

    #[test]
    fn wall_time_is_rfc_3339_and_follows_the_moments() {
        let parse = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        let seconds = parse(&wall());
        assert!((wall_seconds() - seconds).abs() <= 2);
        let before = parse(&wall_at(now() - Duration::from_secs(100)));
        let after = parse(&wall_at(now() + Duration::from_secs(100)));
        assert!((after - before - 200).abs() <= 2);
        assert_eq!(parse(&wall_of_seconds(1_234_567_890)), 1_234_567_890);
        assert_eq!(wall().len(), "2026-11-20T21:42:54+01:00".len());
        assert_eq!(wall_of_seconds(i64::MAX), "");
    }

    #[test]
    fn a_commit_is_dated_in_its_own_zone() {
        assert_eq!(
            wall_in_zone(1_234_567_890, -330),
            "2009-02-13T18:01:30-05:30"
        );
        assert_eq!(wall_in_zone(0, 60), "1970-01-01T01:00:00+01:00");
        assert_eq!(wall_in_zone(i64::MAX, 0), "");
        assert!(wall_offset().abs() <= 26 * 60);
    }

    #[test]
    fn a_suspend_is_noticed_once_and_noise_never() {
        let mut detector = SuspendDetector {
            asleep: Duration::from_secs(10),
        };
        let at = Duration::from_millis;
        assert_eq!(detector.compare(at(11_900)), None);
        assert_eq!(detector.compare(at(13_000)), Some(at(3_000)));
        assert_eq!(detector.compare(at(13_100)), None);
        assert_eq!(SuspendDetector::new().slept(), None);
    }
}
