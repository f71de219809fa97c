//! Time as an argument: a [`Moment`] is what the edge says it is, and every timer of a folder is
//! in one table.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::action::Lane;

/// A point in time: how long after some fixed start of the edge's own monotonic clock, which
/// goes on during a suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// Creates the moment this many milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns how long ago `earlier` was, zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(wait))
    }
}

/// What the engine waits for. Settle windows are not in here: they follow from what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// This place may be tried again.
    Retry(Site),
    /// The push window is over.
    Push,
    /// A push no longer waits for a person's words.
    Words,
    /// The slow look at the hub that is underneath everything.
    Poll,
    /// The periodic full look.
    Rescan,
    /// A pause for a limited time ends.
    Resume,
    /// The tree lane is no longer kept free for a merge that is being pushed.
    Reserve,
    /// The bell may ring again.
    Bell,
    /// It is looked at where the user's git has moved HEAD.
    Look,
    /// A removal that may be half of a rename is old enough.
    Young,
    /// What was deferred is looked at again.
    Release,
    /// A mass delete that came in has waited long enough for a person.
    Unattended,
    /// Time to repack, if the folder is idle.
    Maintain,
}

/// The places where work can be stopped by a trouble, each with its own back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Site {
    /// The start, and committing.
    Snapshot,
    /// Merging and applying.
    Receive,
    /// Asking the hub.
    Fetch,
    /// Pushing.
    Push,
}

impl Site {
    /// Returns the lane whose jobs work at this place.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Snapshot | Self::Receive => Lane::Tree,
            Self::Fetch | Self::Push => Lane::Network,
        }
    }
}

/// Every timer that is running.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers(BTreeMap<Timer, Moment>);

impl Timers {
    /// Starts a timer, in place of one of the same kind.
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        self.0.insert(timer, at);
    }

    /// Starts a timer unless one of the same kind is due earlier.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Moment) {
        self.0
            .entry(timer)
            .and_modify(|old| *old = at.min(*old))
            .or_insert(at);
    }

    /// Stops a timer.
    pub(super) fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Returns whether the timer is running.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    /// Returns when a timer is due, if it is running.
    pub(super) fn at(&self, timer: Timer) -> Option<Moment> {
        self.0.get(&timer).copied()
    }

    /// Returns when the next timer is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.values().min().copied()
    }

    /// Takes one timer that is due, in a fixed order.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let due = *self.0.iter().find(|(_, at)| **at <= now)?.0;
        self.0.remove(&due);
        Some(due)
    }
}
