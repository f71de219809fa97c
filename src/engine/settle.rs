//! When a change is ripe for a commit: the settle rules, usable alone.
//!
//! A lone file is ripe one quiet window after its close. Everything else in here is about what
//! must not be committed yet: a file that is still being written, half of a burst, a delete that
//! is the first half of a rename, the hundredth autosave of the same minute.
//!
//! Invariants:
//! 1. Nothing closed waits longer than [`Windows::max_wait`] after its first change, nothing
//!    open longer than [`Windows::max_wait_open`].
//! 2. A removal is never taken before a whole window has passed without its name coming back.
//! 3. At most [`MAX_PATHS`] paths are remembered; beyond that it is "everything".
//! 4. With [`Windows::quiet`] at zero every rule is off and each change is ripe at once.
//!
//! Absent: any knowledge of what is in a file. A change that ends as it began is the business of
//! the comparison with HEAD, and counts for nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::action::Scope;
use super::event::{Change, ChangeKind};
use super::timer::Moment;
use crate::names::RepoPath;

mod motion;
mod pace;

use motion::Motion;
use pace::Pace;
pub(super) use pace::stretch;

/// How many paths are remembered one by one.
pub const MAX_PATHS: usize = 5_000;

/// For how long a file in motion holds up others that are ripe. A log that is written for hours
/// must not delay a letter, but the next file of a copy must keep the copy together.
const COMPANY: u32 = 3;

/// An open file without any event for this long is offered to the snapshot, which can tell
/// whether somebody still has it open: its close may have been missed.
const PROBE: Duration = Duration::from_secs(10);

/// A path that was in motion so often is not going to be done soon.
const SOON: u32 = 3;

/// The longest wait before a path that was in motion is looked at again.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// The windows of one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Quiet time of a lone file; zero switches settling off.
    pub quiet: Duration,
    /// What the quiet time grows to in a burst.
    pub quiet_max: Duration,
    /// The longest that a closed file waits.
    pub max_wait: Duration,
    /// The longest that an open file waits.
    pub max_wait_open: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(150),
            quiet_max: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            max_wait_open: Duration::from_secs(60),
        }
    }
}

/// Changes that wait for their commit.
#[derive(Debug, Clone)]
pub struct Settle {
    windows: Windows,
    paths: BTreeMap<RepoPath, Motion>,
    everything: Option<Motion>,
    pace: Pace,
}

/// What is taken for one snapshot. It remembers since when its paths wait, so that it can be
/// given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where the snapshot looks.
    pub scope: Scope,
    /// Files that waited so long that they are committed although they are open.
    pub even_open: BTreeSet<RepoPath>,
    motions: BTreeMap<RepoPath, Motion>,
    since: Moment,
}

impl Batch {
    /// Returns when the oldest change in it was seen.
    pub fn since(&self) -> Moment {
        self.since
    }
}

impl Settle {
    /// Creates a settle with nothing in it.
    pub fn new(windows: Windows) -> Self {
        Self {
            windows,
            paths: BTreeMap::new(),
            everything: None,
            pace: Pace::default(),
        }
    }

    /// Takes other windows from now on.
    pub fn set_windows(&mut self, windows: Windows) {
        self.windows = windows;
    }

    /// Notes one change.
    pub fn note(&mut self, now: Moment, change: &Change) {
        if let Some(everything) = &mut self.everything {
            // A file that is still open would be busy anyhow: it holds nothing up.
            if change.kind != ChangeKind::Written {
                everything.last = now;
            }
            return;
        }
        if let Some(motion) = self.paths.get_mut(&change.path) {
            motion.note(now, change.kind);
        } else {
            if self.paths.len() >= MAX_PATHS {
                self.note_everything(now);
                return;
            }
            self.pace.path_changed(now);
            let mut motion = Motion::new(now);
            motion.note(now, change.kind);
            self.paths.insert(change.path.clone(), motion);
        }
        if change.kind != ChangeKind::Written {
            self.pace.touched(now, &change.path);
        }
    }

    /// Notes that anything may have changed.
    pub fn note_everything(&mut self, now: Moment) {
        let first = self.paths.values().map(|motion| motion.first).min();
        let motion = self.everything.get_or_insert(Motion::new(now));
        motion.first = motion.first.min(first.unwrap_or(now));
        motion.last = now;
        self.paths.clear();
    }

    /// Starts every window again: the user's own git is at work. The caps stay.
    pub fn restart(&mut self, now: Moment) {
        for motion in self.paths.values_mut().chain(&mut self.everything) {
            motion.last = now;
        }
    }

    /// Notes a commit and the paths in it: only what really changed lets windows grow.
    pub fn note_commit<'a>(&mut self, now: Moment, paths: impl IntoIterator<Item = &'a RepoPath>) {
        self.pace.committed(now, paths);
    }

    /// Returns how often windows have been doubled for the burst that is going on.
    pub fn doublings(&self, now: Moment) -> u32 {
        self.pace.doublings(now)
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.everything.is_none()
    }

    /// Returns whether all that waits are files that somebody else has open or in motion.
    pub fn waits_for_others(&self) -> bool {
        self.motions().all(|(_, m)| m.open || m.busy > SOON)
    }

    /// Returns how many paths wait; "everything" counts as one.
    pub fn len(&self) -> usize {
        self.paths.len() + usize::from(self.everything.is_some())
    }

    /// Returns when [`take_ripe`](Self::take_ripe) will have something if nothing more happens.
    ///
    /// May change after every call that takes `&mut self`.
    pub fn ripe_at(&self) -> Option<Moment> {
        if self.is_off() {
            let due = self.motions().map(|(_, m)| m.last.max(m.busy_until));
            return due.min();
        }
        let (mut ripe, mut held, mut cap): (Option<Moment>, _, Option<Moment>) =
            (None, Moment::default(), None);
        for (path, m) in self.motions() {
            let ready = self.ready(path, m);
            ripe = Some(ripe.map_or(ready, |at| at.min(ready)));
            held = held.max(self.holds_until(m));
            let at = self.cap(m);
            cap = Some(cap.map_or(at, |cap| cap.min(at)));
        }
        Some(ripe?.max(held).min(cap?))
    }

    /// Takes what is ripe, if anything is.
    pub fn take_ripe(&mut self, now: Moment) -> Option<Batch> {
        if self.ripe_at().is_none_or(|at| at > now) {
            return None;
        }
        if let Some(motion) = self.everything.take() {
            return Some(self.batch_of_everything(motion));
        }
        let off = self.is_off();
        let mut ripe: BTreeMap<_, _> = self
            .paths
            .iter()
            .filter(|(path, m)| {
                if off {
                    m.busy_until <= now
                } else {
                    self.ready(Some(path), m) <= now || self.cap(m) <= now
                }
            })
            .map(|(path, m)| (path.clone(), *m))
            .collect();
        if ripe.values().any(|m| m.removed) {
            // A restless path may be where the removed one went: both are one rename.
            let quiet = self.quiet();
            let still = |m: &&Motion| !m.open && m.last.max(m.busy_until) + quiet <= now;
            let along = self.paths.iter().filter(|(_, m)| still(m));
            ripe.extend(along.map(|(path, m)| (path.clone(), *m)));
        }
        self.paths.retain(|path, _| !ripe.contains_key(path));
        Some(self.batch(now, ripe))
    }

    /// Takes everything that waits, ripe or not, but for removals inside their window.
    ///
    /// Used before a merge and for a full look. `None` if nothing is left to take.
    pub fn take_all(&mut self, now: Moment) -> Option<Batch> {
        if let Some(motion) = self.everything.take() {
            return Some(self.batch_of_everything(motion));
        }
        let quiet = self.quiet();
        let (young, all): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.paths)
            .into_iter()
            .partition(|(_, m)| m.removed && m.last + quiet > now);
        self.paths = young;
        (!all.is_empty()).then(|| self.batch(now, all))
    }

    /// Returns until when a removal might still be half of a rename; `None` if none is young.
    pub fn young_removal(&self, now: Moment) -> Option<Moment> {
        let quiet = self.quiet();
        self.paths
            .values()
            .filter(|m| m.removed)
            .map(|m| m.last + quiet)
            .filter(|until| *until > now)
            .max()
    }

    /// Gives back a batch whose snapshot could not run: everything in it still waits.
    pub fn give_back(&mut self, batch: Batch) {
        if batch.scope == Scope::Everything {
            let first = batch.since;
            let motion = self.everything.get_or_insert(Motion::new(first));
            motion.first = motion.first.min(first);
            self.paths.clear();
            return;
        }
        for (path, old) in batch.motions {
            if self.everything.is_some() {
                return;
            }
            self.paths
                .entry(path)
                .and_modify(|m| m.first = m.first.min(old.first))
                .or_insert(old);
        }
    }

    /// Gives back one path of a batch that the snapshot found in motion.
    pub fn give_back_busy(&mut self, now: Moment, batch: Option<&Batch>, path: &RepoPath) {
        if self.everything.is_some() {
            return;
        }
        let old = batch
            .and_then(|batch| batch.motions.get(path))
            .copied()
            .unwrap_or(Motion::new(now));
        let base = self.windows.quiet.max(Duration::from_millis(50));
        let wait = base.saturating_mul(1 << old.busy.min(12)).min(BUSY_MAX);
        let seen_since = self.paths.get(path).copied();
        let motion = self.paths.entry(path.clone()).or_insert(Motion {
            last: now,
            probed: old.open,
            ..old
        });
        motion.first = motion.first.min(old.first);
        if seen_since.is_some_and(|m| !m.open) {
            // It was closed while the snapshot looked: what was busy is over.
            return;
        }
        motion.busy = old.busy.saturating_add(1);
        motion.busy_until = now + wait;
    }

    fn is_off(&self) -> bool {
        self.windows.quiet.is_zero()
    }

    /// The window as it is now.
    fn quiet(&self) -> Duration {
        self.pace
            .stretch(self.windows.quiet, self.windows.quiet_max)
    }

    /// Everything that waits; "everything" has no path.
    fn motions(&self) -> impl Iterator<Item = (Option<&RepoPath>, &Motion)> {
        let paths = self.paths.iter().map(|(path, m)| (Some(path), m));
        paths.chain(self.everything.iter().map(|m| (None, m)))
    }

    /// From when on this path may be committed, if nothing more happens to it.
    fn ready(&self, path: Option<&RepoPath>, m: &Motion) -> Moment {
        let at = if m.open {
            if m.probed {
                self.cap(m)
            } else {
                m.last + PROBE
            }
        } else {
            let not_before = path.map(|path| self.pace.not_before(path, m.last));
            (m.last + self.quiet()).max(not_before.unwrap_or_default())
        };
        at.max(m.busy_until)
    }

    /// Until when this path holds up others because it may belong to them.
    fn holds_until(&self, m: &Motion) -> Moment {
        let company = m.first + self.windows.quiet_max.saturating_mul(COMPANY);
        if m.open {
            company
        } else {
            company.min(m.last + self.quiet())
        }
    }

    /// When this path is taken whatever happens.
    fn cap(&self, m: &Motion) -> Moment {
        let wait = if m.open {
            self.windows.max_wait_open
        } else {
            self.windows.max_wait
        };
        let at = (m.first + wait).max(m.busy_until);
        if m.removed {
            at.max(m.last + self.quiet())
        } else {
            at
        }
    }

    fn batch(&self, now: Moment, motions: BTreeMap<RepoPath, Motion>) -> Batch {
        let even_open = motions
            .iter()
            .filter(|(_, m)| (m.open || m.busy > 0) && m.first + self.windows.max_wait_open <= now)
            .map(|(path, _)| path.clone())
            .collect();
        Batch {
            scope: Scope::Paths(motions.keys().cloned().collect()),
            even_open,
            since: motions.values().map(|m| m.first).min().unwrap_or(now),
            motions,
        }
    }

    fn batch_of_everything(&mut self, motion: Motion) -> Batch {
        Batch {
            scope: Scope::Everything,
            even_open: BTreeSet::new(),
            since: motion.first,
            motions: std::mem::take(&mut self.paths),
        }
    }
}

#[cfg(test)]
mod tests;
