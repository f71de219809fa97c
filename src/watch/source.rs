//! What a source of raw events is, and the inbox between it and the resolver.
//!
//! A [`Source`] watches single directories, never trees, and says what happened in them. It does
//! so from its own thread into the [`Inbox`]; the resolver takes everything that is there at
//! once. Commands of the [`Watcher`](super::Watcher)'s owner come the same way.
//!
//! Invariants:
//! 1. Putting something into the inbox never waits for the resolver: a slow resolver costs
//!    memory up to [`FULL`] events, after which they are dropped and it counts as an overflow.
//! 2. A marker reaches the resolver after everything that happened before it was asked for.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::names::RepoPath;

/// More raw events than this are not kept: a re-walk is cheaper.
const FULL: usize = 65_536;

/// How long the resolver lets events gather before it looks at the first.
const GATHER: Duration = Duration::from_millis(3);

/// What a source calls a watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) i32);

impl Token {
    /// The token of every directory of a source that speaks in paths.
    pub(super) const BY_PATH: Self = Self(0);
}

/// Which watched directory an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// By the token it got.
    Watch(Token),
    /// By its absolute path.
    Path(PathBuf),
}

/// What happened to an entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It was made; a file may be still open.
    Created,
    /// It was written to.
    Written,
    /// It was closed after writing.
    Closed,
    /// It came by a rename.
    Arrived,
    /// It was deleted or renamed away.
    Removed,
    /// Its mode, times or attributes changed.
    Attributes,
    /// The watched directory itself was deleted, moved or unmounted.
    Suspect,
    /// The watch is no more.
    Ended,
}

/// Whether the entry is a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It is one.
    Directory,
    /// It is anything else.
    Other,
    /// The source does not say.
    Unknown,
}

/// One raw event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// The watched directory.
    pub(super) place: Place,
    /// The entry in it; empty for the directory itself.
    pub(super) name: Box<[u8]>,
    /// What happened.
    pub(super) what: What,
    /// To what.
    pub(super) shape: Shape,
}

/// Why a directory is not watched.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The kernel gives no more watches.
    NoMore,
    /// It is not there, or is no directory.
    Gone,
    /// Anything else, mostly permissions.
    Other(io::Error),
}

/// Runs when everything before it was delivered.
pub(super) type Marker = Box<dyn FnOnce() + Send>;

/// Something that watches single directories.
pub(super) trait Source: Send {
    /// Starts or renews the watch of one directory, without what is below it. Never follows a
    /// symbolic link. Returns what events will call it.
    fn watch(&mut self, dir: &Path) -> Result<Token, Refusal>;

    /// Ends a watch. Events of it that are under way may still come.
    fn unwatch(&mut self, token: Token);

    /// Returns whether the end of a directory that once had a name can end the watch of the one
    /// that has it now.
    fn confuses_names(&self) -> bool;

    /// Puts `marker` into the inbox after all events of what happened before this call.
    fn flush(&mut self, marker: Marker);
}

/// What the owner of the watcher wants.
pub(super) enum Command {
    /// Run this after everything that happened before was delivered.
    Echo(Marker),
    /// Walk again.
    Rewalk,
    /// What stands at the root's path is the root.
    Adopt,
    /// These files count although they are ignored or have a transient name.
    Tracked(BTreeSet<RepoPath>),
}

/// Everything that was in the inbox.
#[derive(Default)]
pub(super) struct Taken {
    /// Raw events in their order.
    pub(super) events: Vec<RawEvent>,
    /// Whether events were lost.
    pub(super) overflow: bool,
    /// Whether the table of mounts changed.
    pub(super) mounts: bool,
    /// Markers, all behind `events`.
    pub(super) markers: Vec<Marker>,
    /// Commands.
    pub(super) commands: Vec<Command>,
    /// Whether to end.
    pub(super) stop: bool,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.overflow && !self.is_urgent()
    }

    fn is_urgent(&self) -> bool {
        self.mounts || self.stop || !self.markers.is_empty() || !self.commands.is_empty()
    }
}

/// Where events, markers and commands meet.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    taken: Taken,
    gathering: bool,
}

impl Inbox {
    /// Puts raw events in, leaving `events` empty.
    pub(super) fn push(&self, events: &mut Vec<RawEvent>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.taken.events.len() + events.len() > FULL {
            state.taken.events.clear();
            state.taken.overflow = true;
            events.clear();
        } else {
            state.taken.events.append(events);
        }
        self.tell(&state);
    }

    /// Says that the source lost events.
    pub(super) fn overflow(&self) {
        let mut state = self.lock();
        state.taken.overflow = true;
        self.tell(&state);
    }

    /// Says that the table of mounts changed.
    pub(super) fn mounts_changed(&self) {
        let mut state = self.lock();
        state.taken.mounts = true;
        self.tell(&state);
    }

    /// Puts markers in, behind the events that are there.
    pub(super) fn mark(&self, markers: Vec<Marker>) {
        if markers.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.taken.markers.extend(markers);
        self.tell(&state);
    }

    /// Puts a command in.
    pub(super) fn command(&self, command: Command) {
        let mut state = self.lock();
        state.taken.commands.push(command);
        self.tell(&state);
    }

    /// Asks the resolver to end.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.taken.stop = true;
        self.tell(&state);
    }

    /// Waits until something is there or `wait` is over, lets events gather for a moment, and
    /// returns all there is, which may be nothing.
    pub(super) fn take(&self, wait: Duration) -> Taken {
        let mut state = self.lock();
        (state, _) = self
            .filled
            .wait_timeout_while(state, wait, |state| state.taken.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if !state.taken.is_empty() && !state.taken.is_urgent() {
            state.gathering = true;
            (state, _) = self
                .filled
                .wait_timeout_while(state, GATHER, |state| !state.taken.is_urgent())
                .unwrap_or_else(PoisonError::into_inner);
            state.gathering = false;
        }
        std::mem::take(&mut state.taken)
    }

    /// Wakes the resolver, unless it is only letting plain events gather.
    fn tell(&self, state: &State) {
        if !state.gathering || state.taken.is_urgent() {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: usize) -> Vec<RawEvent> {
        vec![
            RawEvent {
                place: Place::Watch(Token(1)),
                name: b"a".as_slice().into(),
                what: What::Written,
                shape: Shape::Other,
            };
            count
        ]
    }

    #[test]
    fn a_full_inbox_drops_events_and_says_so() {
        let inbox = Inbox::default();
        inbox.push(&mut events(FULL));
        inbox.push(&mut events(1));
        inbox.push(&mut events(2));
        let taken = inbox.take(Duration::ZERO);
        assert!(taken.overflow);
        assert_eq!(taken.events.len(), 2);
        assert!(inbox.take(Duration::ZERO).is_empty());
    }

    #[test]
    fn a_marker_ends_the_gathering() {
        let inbox = Inbox::default();
        inbox.push(&mut events(1));
        inbox.mark(vec![Box::new(|| {})]);
        let taken = inbox.take(Duration::from_secs(3600));
        assert_eq!((taken.events.len(), taken.markers.len()), (1, 1));
    }
}
