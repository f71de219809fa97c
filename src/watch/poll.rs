//! Directories whose events do not tell all are looked at from time to time: those for which the
//! kernel gave no watch, and those that other machines change.
//!
//! A directory that changed within the last ten minutes is looked at every ten seconds, a quiet
//! one less and less often, down to every five minutes; all of them together cost no more than
//! one percent of a processor. Every look first tries to get a watch after all. Whoever asks for an
//! echo has everything looked at first, due or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::walk::Listing;
use crate::engine::timer::Moment;

/// How long a directory that changed is looked at most often.
const LIVELY: Duration = Duration::from_secs(600);
/// The longest time between two looks.
const SELDOM: Duration = Duration::from_secs(300);
/// How much processor time one go of looks may take.
const GO: Duration = Duration::from_millis(5);
/// How many times as long as a go took nothing is looked at after it.
const REST: u32 = 99;

/// The directories that are polled, each with what was in it.
#[derive(Debug)]
pub(super) struct Poll {
    often: Duration,
    watched_for: BTreeMap<Vec<u8>, Polled>,
    queue: BTreeSet<(Moment, Vec<u8>)>,
    not_before: Moment,
}

#[derive(Debug)]
struct Polled {
    listing: Listing,
    due: Moment,
    wait: Duration,
    changed: Option<Moment>,
}

/// What is different between two looks at a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Files that are new or not what they were.
    pub(super) written: Vec<Box<[u8]>>,
    /// Files that are gone.
    pub(super) removed: Vec<Box<[u8]>>,
    /// Directories that came or went.
    pub(super) dirs: Vec<Box<[u8]>>,
    /// Whether the directory became a repository (`true`) or ceased to be one.
    pub(super) git: Option<bool>,
}

impl Difference {
    /// Returns whether nothing is different.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what is different in `now` from `before`.
    pub(super) fn between(before: &Listing, now: &Listing) -> Self {
        let is_same = |name: &[u8], print| before.files.get(name) == Some(print);
        let dirs = |list: &Listing| list.dirs.iter().cloned().collect::<BTreeSet<_>>();
        Self {
            written: now
                .files
                .iter()
                .filter(|(name, print)| !is_same(name, print))
                .map(|(name, _)| name.clone())
                .collect(),
            removed: before
                .files
                .keys()
                .filter(|name| !now.files.contains_key(*name))
                .cloned()
                .collect(),
            dirs: dirs(before)
                .symmetric_difference(&dirs(now))
                .cloned()
                .collect(),
            git: (before.has_git != now.has_git).then_some(now.has_git),
        }
    }
}

impl Poll {
    /// Creates a poll of nothing that looks at lively directories so often.
    pub(super) fn new(often: Duration) -> Self {
        Self {
            often,
            watched_for: BTreeMap::new(),
            queue: BTreeSet::new(),
            not_before: Moment::default(),
        }
    }

    /// Remembers what a look at a directory found, and returns what is different from the look
    /// before; nothing at the first look.
    pub(super) fn looked(&mut self, path: &[u8], listing: Listing, now: Moment) -> Difference {
        let before = self.forget(path);
        let difference = before.as_ref().map_or_else(Difference::default, |before| {
            Difference::between(&before.listing, &listing)
        });
        let changed = if difference.is_nothing() {
            before.as_ref().and_then(|before| before.changed)
        } else {
            Some(now)
        };
        let wait = match (&before, changed) {
            (None, _) => self.often,
            (_, Some(changed)) if now.since(changed) < LIVELY => self.often,
            (Some(before), _) => (before.wait * 2).clamp(self.often, SELDOM.max(self.often)),
        };
        let polled = Polled {
            listing,
            due: now + wait,
            wait,
            changed,
        };
        self.put(path, polled);
        difference
    }

    /// Says that a directory could not be looked at now: what is known of it stays, and it is
    /// looked at again, later each time.
    pub(super) fn failed(&mut self, path: &[u8], now: Moment) {
        if let Some(polled) = self.forget(path) {
            let wait = (polled.wait * 2).clamp(self.often, SELDOM.max(self.often));
            self.put(
                path,
                Polled {
                    due: now + wait,
                    wait,
                    ..polled
                },
            );
        }
    }

    /// Forgets a directory; returns what the last look found, if there was one.
    pub(super) fn drop_out(&mut self, path: &[u8]) -> Option<Listing> {
        self.forget(path).map(|polled| polled.listing)
    }

    /// Returns every directory that is polled.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.watched_for.keys().cloned().collect()
    }

    /// Returns when the next look is due.
    pub(super) fn next(&self) -> Option<Moment> {
        let (due, _) = self.queue.first()?;
        Some((*due).max(self.not_before))
    }

    /// Takes the next directory whose look is due out of the queue, if this go, which has taken
    /// `spent` of processor time, may go on.
    pub(super) fn take_due(&mut self, now: Moment, spent: Duration) -> Option<Vec<u8>> {
        if self.next()? > now || spent > GO {
            return None;
        }
        let (_, path) = self.queue.pop_first()?;
        Some(path)
    }

    /// Says that a go is over and what it took of processor time.
    pub(super) fn rest(&mut self, now: Moment, spent: Duration) {
        self.not_before = now + spent * REST;
    }

    fn put(&mut self, path: &[u8], polled: Polled) {
        self.queue.insert((polled.due, path.to_vec()));
        self.watched_for.insert(path.to_vec(), polled);
    }

    fn forget(&mut self, path: &[u8]) -> Option<Polled> {
        let polled = self.watched_for.remove(path)?;
        self.queue.remove(&(polled.due, path.to_vec()));
        Some(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, u64)], dirs: &[&str]) -> Listing {
        Listing {
            files: files
                .iter()
                .map(|(name, print)| (name.as_bytes().into(), *print))
                .collect(),
            dirs: dirs.iter().map(|name| name.as_bytes().into()).collect(),
            ..Listing::default()
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_look_tells_what_came_went_and_changed() {
        let mut poll = Poll::new(Duration::from_secs(10));
        let first = poll.looked(
            b"d",
            listing(&[("a", 1), ("b", 1), ("c", 1)], &["x"]),
            at(0),
        );
        assert!(first.is_nothing());
        let mut second = listing(&[("a", 1), ("b", 2), ("n", 1)], &["y"]);
        second.has_git = true;
        let found = poll.looked(b"d", second, at(10));
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|n| n.as_bytes().into())
                .collect::<Vec<_>>()
        };
        assert_eq!(found.written, names(&["b", "n"]));
        assert_eq!(found.removed, names(&["c"]));
        assert_eq!(found.dirs, names(&["x", "y"]));
        assert_eq!(found.git, Some(true));
    }

    #[test]
    fn a_quiet_directory_is_looked_at_less_and_less_often() {
        let mut poll = Poll::new(Duration::from_secs(10));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            poll.looked(b"d", listing(&[], &[]), now);
            let next = poll.next().unwrap();
            waits.push(next.since(now).as_secs());
            now = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        poll.looked(b"d", listing(&[("a", 1)], &[]), now);
        assert_eq!(poll.next(), Some(now + Duration::from_secs(10)));
        assert!(poll.drop_out(b"d").is_some());
        assert_eq!(poll.next(), None);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_for_a_while_has_not_lost_its_files() {
        let mut poll = Poll::new(Duration::from_secs(10));
        poll.looked(b"d", listing(&[("a", 1), ("b", 1)], &["x"]), at(0));
        assert_eq!(poll.take_due(at(10), Duration::ZERO), Some(b"d".to_vec()));
        poll.failed(b"d", at(10));
        assert_eq!(poll.next(), Some(at(30)));
        let found = poll.looked(b"d", listing(&[("a", 1), ("b", 2)], &["x"]), at(30));
        assert_eq!(found.written, [Box::from(b"b".as_slice())]);
        assert_eq!((found.removed.len(), found.dirs.len()), (0, 0));
        // What is not polled any more is not polled again for that.
        poll.drop_out(b"d");
        poll.failed(b"d", at(40));
        assert_eq!((poll.next(), poll.all()), (None, Vec::new()));
    }

    #[test]
    fn looking_takes_one_percent_of_a_processor() {
        let mut poll = Poll::new(Duration::from_secs(10));
        for name in ["a", "b", "c"] {
            poll.looked(name.as_bytes(), listing(&[], &[]), at(0));
        }
        let spent = Duration::from_millis(3);
        assert_eq!(poll.take_due(at(9), Duration::ZERO), None);
        assert!(poll.take_due(at(10), Duration::ZERO).is_some());
        assert!(poll.take_due(at(10), spent).is_some());
        assert_eq!(poll.take_due(at(10), spent * 2), None);
        poll.rest(at(10), spent * 2);
        assert_eq!(poll.next(), Some(at(10) + Duration::from_millis(594)));
    }
}
