//! How fast changes and commits come: bursts stretch the windows, a restless path backs off.
//!
//! Invariants:
//! 1. A burst doubles the windows at most once a second, and five seconds without one put them
//!    back.
//! 2. A path is restless only after three commits within ten seconds, never by events alone.
//! 3. A restless path that keeps still for five seconds waits no longer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::engine::timer::Moment;
use crate::names::RepoPath;

/// So many changed paths within a second are a burst.
const BURST_PATHS: usize = 5;
/// So many commits within [`CALM`] are a burst.
const BURST_COMMITS: usize = 3;
/// Without a burst for this long, windows fall back.
const CALM: Duration = Duration::from_secs(5);
/// A doubling needs this long after the one before.
const STEP: Duration = Duration::from_secs(1);
/// The push window reaches its longest with six doublings, the settle window with three.
const MAX_DOUBLINGS: u32 = 6;

/// So many commits of one path within [`RESTLESS_SPAN`] make it restless.
const RESTLESS_COMMITS: usize = 3;
const RESTLESS_SPAN: Duration = Duration::from_secs(10);
/// The interval between commits of a restless path, first and longest.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(30);
/// So many paths are watched for restlessness; a folder has few programs that save all the time.
const MAX_WATCHED: usize = 1_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    paths: Recent,
    commits: Recent,
    doublings: u32,
    last_burst: Moment,
    last_step: Option<Moment>,
    watched: BTreeMap<RepoPath, Habit>,
}

/// How often one path is committed.
#[derive(Debug, Clone, Default)]
struct Habit {
    commits: Recent,
    last_commit: Moment,
    last_touch: Moment,
    /// Zero while the path is not restless.
    interval: Duration,
}

impl Pace {
    /// Notes that one more path changed.
    pub(super) fn path_changed(&mut self, now: Moment) {
        if self.paths.note(now, BURST_PATHS, Duration::from_secs(1)) {
            self.burst(now);
        } else {
            self.calm_down(now);
        }
    }

    /// Notes a change of a path that may be restless.
    pub(super) fn touched(&mut self, now: Moment, path: &RepoPath) {
        if let Some(habit) = self.watched.get_mut(path) {
            if !habit.interval.is_zero() {
                habit.interval = if now.since(habit.last_touch) >= CALM {
                    Duration::ZERO
                } else {
                    habit.interval.saturating_mul(2).min(INTERVAL_MAX)
                };
            }
            habit.last_touch = now;
        }
    }

    /// Notes a commit of these paths.
    pub(super) fn committed<'a>(
        &mut self,
        now: Moment,
        paths: impl IntoIterator<Item = &'a RepoPath>,
    ) {
        if self.commits.note(now, BURST_COMMITS, CALM) {
            self.burst(now);
        } else {
            self.calm_down(now);
        }
        let forgotten = INTERVAL_MAX + RESTLESS_SPAN;
        self.watched
            .retain(|_, habit| now.since(habit.last_commit) <= forgotten);
        for path in paths {
            if self.watched.len() >= MAX_WATCHED && !self.watched.contains_key(path) {
                continue;
            }
            let habit = self.watched.entry(path.clone()).or_default();
            let restless = habit.commits.note(now, RESTLESS_COMMITS, RESTLESS_SPAN);
            if restless && habit.interval.is_zero() {
                habit.interval = INTERVAL;
            }
            habit.last_commit = now;
            habit.last_touch = habit.last_touch.max(now);
        }
    }

    /// Returns from when on a path that was last touched at `last` may be committed again.
    pub(super) fn not_before(&self, path: &RepoPath, last: Moment) -> Moment {
        self.watched
            .get(path)
            .filter(|habit| !habit.interval.is_zero())
            .map_or(Moment::default(), |habit| {
                (habit.last_commit + habit.interval).min(last + CALM)
            })
    }

    /// Returns how often windows are doubled at `now`.
    pub(super) fn doublings(&self, now: Moment) -> u32 {
        if now.since(self.last_burst) >= CALM {
            0
        } else {
            self.doublings
        }
    }

    /// Returns a window stretched by the burst that is going on.
    pub(super) fn stretch(&self, window: Duration, max: Duration) -> Duration {
        stretch(window, max, self.doublings)
    }

    fn burst(&mut self, now: Moment) {
        self.calm_down(now);
        self.last_burst = now;
        if self.last_step.is_none_or(|at| now.since(at) >= STEP) {
            self.last_step = Some(now);
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        }
    }

    fn calm_down(&mut self, now: Moment) {
        if now.since(self.last_burst) >= CALM {
            self.doublings = 0;
            self.last_step = None;
        }
    }
}

/// Returns `window` doubled so many times, at most `max` unless it was longer from the start.
pub(in crate::engine) fn stretch(window: Duration, max: Duration, doublings: u32) -> Duration {
    window
        .saturating_mul(1 << doublings.min(16))
        .min(max.max(window))
}

/// The last few moments of something, to see how dense they are.
#[derive(Debug, Clone, Default)]
struct Recent(VecDeque<Moment>);

impl Recent {
    /// Notes one more and returns whether the last `count` of them lie within `span`.
    fn note(&mut self, now: Moment, count: usize, span: Duration) -> bool {
        self.0.push_back(now);
        while self.0.len() > count {
            self.0.pop_front();
        }
        self.0.len() == count
            && self
                .0
                .front()
                .is_some_and(|first| now.since(*first) <= span)
    }
}
