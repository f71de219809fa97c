//! What the rest of the program sees of the connection: its state, who is there, what was said.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::engine::event::{Event, Trouble};
use crate::engine::status::{NoticedStatus, PeerStatus, TransportStatus};
use crate::engine::timer::Moment;
use crate::transport::{Herald, Sink, State};

/// The name of the transport.
pub(super) const NAME: &str = "xmpp";

/// What both sides know: the thread writes it, the agent reads it.
pub(super) struct Board {
    sink: Sink,
    herald: Herald,
    inner: Mutex<Inner>,
    taken: Condvar,
}

struct Inner {
    state: State,
    since: Moment,
    /// What the user was told of.
    told: Option<String>,
    hosts: BTreeMap<String, Moment>,
    folders: BTreeMap<String, Line>,
    /// How many notices were given to us, and how many of them the server has.
    announced: u64,
    proven: u64,
}

/// The latest notices of a folder.
struct Line {
    name: String,
    sent: Option<Moment>,
    received: Option<Moment>,
}

impl Board {
    pub(super) fn new(sink: Sink, herald: Herald) -> Self {
        Self {
            sink,
            herald,
            inner: Mutex::new(Inner {
                state: State::Connecting,
                since: clock::now(),
                told: None,
                hosts: BTreeMap::new(),
                folders: BTreeMap::new(),
                announced: 0,
                proven: 0,
            }),
            taken: Condvar::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports on a folder.
    pub(super) fn report(&self, key: &str, event: Event) {
        (self.sink)(key, event);
    }

    /// Takes how the connection is. Online ends what the user was told of.
    pub(super) fn set(&self, state: State) {
        let mut inner = self.inner();
        if inner.state == state {
            return;
        }
        match &state {
            State::Retry(trouble) if inner.told.as_ref() != Some(&trouble.message) => {
                tracing::info!(transport = NAME, "{}", trouble.message);
            }
            // What the user is told of is in the log by that.
            State::Online | State::Connecting | State::Retry(_) | State::Held(_) => {
                tracing::debug!(transport = NAME, state = state.word());
            }
        }
        let is_solved = state == State::Online && inner.told.take().is_some();
        inner.state = state;
        inner.since = clock::now();
        drop(inner);
        if is_solved {
            (self.herald)(NAME, None);
        }
    }

    /// Lets the user know of a trouble, once.
    pub(super) fn tell(&self, trouble: &Trouble) {
        let mut inner = self.inner();
        if inner.told.as_ref() == Some(&trouble.message) {
            return;
        }
        inner.told = Some(trouble.message.clone());
        drop(inner);
        (self.herald)(NAME, Some(trouble.clone()));
    }

    /// Takes who is there.
    pub(super) fn hosts(&self, hosts: BTreeMap<String, Moment>) {
        self.inner().hosts = hosts;
    }

    /// Lists a folder.
    pub(super) fn folder(&self, key: &str, name: &str) {
        let mut inner = self.inner();
        let line = inner.folders.entry(key.to_owned()).or_insert(Line {
            name: String::new(),
            sent: None,
            received: None,
        });
        name.clone_into(&mut line.name);
    }

    /// Lists a folder no longer.
    pub(super) fn forget(&self, key: &str) {
        self.inner().folders.remove(key);
    }

    /// Takes that a notice of a folder was sent to somebody.
    pub(super) fn sent(&self, key: &str) {
        if let Some(line) = self.inner().folders.get_mut(key) {
            line.sent = Some(clock::now());
        }
    }

    /// Takes that a notice of a folder came in.
    pub(super) fn received(&self, key: &str) {
        if let Some(line) = self.inner().folders.get_mut(key) {
            line.received = Some(clock::now());
        }
    }

    /// Returns the number of a notice that is to be sent.
    pub(super) fn number(&self) -> u64 {
        let mut inner = self.inner();
        inner.announced += 1;
        inner.announced
    }

    /// Takes that the server has this notice and all before it.
    pub(super) fn prove(&self, number: u64) {
        let mut inner = self.inner();
        inner.proven = inner.proven.max(number);
        drop(inner);
        self.taken.notify_all();
    }

    /// Waits until the server has every notice that was given to us. Returns whether it has.
    pub(super) fn wait(&self, within: Duration) -> bool {
        let inner = self.inner();
        let waits = |inner: &mut Inner| inner.proven < inner.announced;
        let (inner, _) = self
            .taken
            .wait_timeout_while(inner, within, waits)
            .unwrap_or_else(PoisonError::into_inner);
        inner.proven >= inner.announced
    }

    /// Returns what `status` says.
    pub(super) fn status(&self) -> TransportStatus {
        let inner = self.inner();
        let (message, hint) = match &inner.state {
            State::Online | State::Connecting => (String::new(), String::new()),
            State::Retry(trouble) | State::Held(trouble) => {
                (trouble.message.clone(), trouble.hint.clone())
            }
        };
        let at = |moment: Option<Moment>| moment.map(clock::wall_at).unwrap_or_default();
        TransportStatus {
            name: NAME.to_owned(),
            state: inner.state.word().to_owned(),
            message,
            hint,
            since: clock::wall_at(inner.since),
            peers: inner
                .hosts
                .iter()
                .map(|(host, heard)| PeerStatus {
                    host: host.clone(),
                    heard: clock::wall_at(*heard),
                })
                .collect(),
            folders: inner
                .folders
                .values()
                .map(|line| NoticedStatus {
                    name: line.name.clone(),
                    sent: at(line.sent),
                    received: at(line.received),
                })
                .collect(),
        }
    }
}
