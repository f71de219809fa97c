//! The message from host to host: "commit C of folder F is on the hub".

use std::collections::VecDeque;
use std::time::Duration;

use super::timer::Moment;
use crate::names::ObjectId;

/// So many notices may bring nothing new before they are slowed down.
const BURST: u32 = 10;
/// How long it takes until one more may.
const REFILL: Duration = Duration::from_secs(5);
/// So many commits are remembered as known.
const KNOWN: usize = 64;

/// A hint that the hub has something new. It never carries anything that is executed or fetched
/// from unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The folder's identity, `autosync.id`.
    pub folder: String,
    /// The branch that moved.
    pub branch: String,
    /// Its new tip; `None` from senders that do not say (old hosts, a ref watch).
    pub commit: Option<ObjectId>,
    /// The host that pushed; empty if unknown.
    pub host: String,
    /// Grows with every notice of a host since its start.
    pub sequence: u64,
}

/// Whose host sent a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circle {
    /// One of this person's, or the hub itself.
    Own,
    /// One of another person, who shares the folder.
    Peers,
}

/// What the engine remembers to tell news from noise.
#[derive(Debug, Clone)]
pub(super) struct Bell {
    known: VecDeque<ObjectId>,
    own: Bucket,
    peers: Bucket,
    sequence: u64,
}

/// How many notices may still bring nothing new before they are slowed down.
#[derive(Debug, Clone)]
struct Bucket {
    tokens: u32,
    refilled: Moment,
}

impl Bell {
    /// Creates a bell that knows nothing, with a full bucket.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            known: VecDeque::new(),
            own: Bucket::new(now),
            peers: Bucket::new(now),
            sequence: 0,
        }
    }

    /// Remembers a commit that needs no fetch.
    pub(super) fn know(&mut self, commit: ObjectId) {
        if !self.is_known(commit) {
            self.known.push_back(commit);
            while self.known.len() > KNOWN {
                self.known.pop_front();
            }
        }
    }

    /// Returns whether this commit needs no fetch.
    pub(super) fn is_known(&self, commit: ObjectId) -> bool {
        self.known.contains(&commit)
    }

    /// Returns whether a notice may be about something that we do not have.
    ///
    /// Commits that we know are no news, our own echo among them; neither is another folder or
    /// branch. A notice that names no commit is told by its host: names alone say little, two
    /// machines can have the same one.
    pub(super) fn is_news(
        &self,
        notice: &Notice,
        id: Option<&str>,
        branch: &str,
        host: &str,
    ) -> bool {
        id.is_none_or(|id| notice.folder == id)
            && notice.branch == branch
            && match notice.commit {
                Some(commit) => !self.is_known(commit),
                None => notice.host != host,
            }
    }

    /// Returns when a notice of this circle may lead to a fetch: now, or when its bucket has a
    /// token again.
    pub(super) fn next(&mut self, now: Moment, circle: Circle) -> Moment {
        self.bucket(circle).next(now)
    }

    /// Charges a notice of this circle whose fetch brought nothing new.
    pub(super) fn charge(&mut self, now: Moment, circle: Circle) {
        let bucket = self.bucket(circle);
        bucket.refill(now);
        bucket.tokens = bucket.tokens.saturating_sub(1);
    }

    fn bucket(&mut self, circle: Circle) -> &mut Bucket {
        match circle {
            Circle::Own => &mut self.own,
            Circle::Peers => &mut self.peers,
        }
    }

    /// Returns the number of the next notice that we send.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

impl Bucket {
    fn new(now: Moment) -> Self {
        Self {
            tokens: BURST,
            refilled: now,
        }
    }

    fn next(&mut self, now: Moment) -> Moment {
        self.refill(now);
        if self.tokens > 0 {
            now
        } else {
            self.refilled + REFILL
        }
    }

    fn refill(&mut self, now: Moment) {
        while self.tokens < BURST && now.since(self.refilled) >= REFILL {
            self.tokens += 1;
            self.refilled = self.refilled + REFILL;
        }
        if self.tokens >= BURST {
            self.refilled = now;
        }
    }
}
