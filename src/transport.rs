//! Transports: what carries notices between the hosts of one person.
//!
//! A [`Transport`] watches over any number of folders and reports into a [`Sink`], in the
//! engine's own events and nothing else: a notice came, or notices can (no longer) come. Any
//! number of transports runs at once, and losing every notice costs time, never content: there is
//! always a slow poll underneath.
//!
//! Invariants:
//! 1. A notice is only a hint. Nothing of it is executed, and nothing is fetched from anywhere but
//!    the configured hub.
//! 2. Whatever comes from outside went through [`wire`], which checks its form.
//! 3. Dropping a transport ends its threads and children, here and on the server.
//!
//! Absent: deciding whether a notice is news, and rate limits. Both are the engine's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::engine::action::Tell;
use crate::engine::event::{Event, Trouble};
use crate::engine::notice::{Circle, Notice};
use crate::engine::status::TransportStatus;
use crate::engine::timer::Moment;
use crate::git::hub::Kind;

pub mod fanout;
pub mod hub;
mod hub_path;
mod hub_ssh;
mod mail;
pub mod poll;
pub mod reflector;
mod watch;
pub mod wire;
pub mod xmpp;

pub use fanout::FanoutTransport;
pub use hub::HubTransport;
pub use poll::PollTransport;
pub use xmpp::XmppTransport;

/// Where events go: the key of the folder, as given to [`Transport::watch`], and the event.
///
/// Called from the transports' own threads; it must not block.
pub type Sink = Arc<dyn Fn(&str, Event) + Send + Sync>;

/// Where it goes that a transport as a whole needs a person, or that it does no longer: the name
/// of the transport and what is the matter. A transport says each once; the user is told then.
///
/// Called from the transports' own threads; it must not block.
pub type Herald = Arc<dyn Fn(&'static str, Option<Trouble>) + Send + Sync>;

/// A folder as a transport knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// What the events of this folder are marked with.
    pub key: String,
    /// Its identity, `autosync.id`; empty before the first contact with the hub. Notices of a
    /// transport that knows the folder without it carry it as it is here.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Its root.
    pub root: PathBuf,
    /// The branch that is kept identical.
    pub branch: String,
    /// The address of its hub without secrets.
    pub url: String,
    /// People whose hosts may tell of its pushes.
    pub peers: Vec<String>,
    /// How its hub is reached.
    pub hub: Kind,
    /// The user's `core.sshCommand` in this folder, if set.
    pub ssh_command: Option<String>,
}

/// Carries notices.
pub trait Transport: Send {
    /// Returns its name as in the status schema.
    fn name(&self) -> &'static str;

    /// Begins to report on a folder; replaces what was given for the same key before.
    fn watch(&mut self, folder: &Folder);

    /// Reports on a folder no longer.
    fn unwatch(&mut self, key: &str);

    /// Tells the other hosts. Returns at once; a notice that cannot be sent is lost.
    fn announce(&self, notice: &Notice);

    /// Lets this person's other hosts know that a commit is in the tree here, if this transport
    /// can. Returns at once.
    fn confirm(&self, _notice: &Notice) {}

    /// Hears what the user is told about a folder, for those who are told over this transport. The
    /// key is empty for what is about a transport.
    fn tell(&self, _key: &str, _tell: &Tell) {}

    /// Waits until somebody has taken what was announced, at most this long. Returns whether that
    /// is so. It blocks: for a command that ends, never for the agent.
    fn flush(&self, _within: Duration) -> bool {
        false
    }

    /// Tries again now what it waits to try again: a person asked, or the network is back.
    fn retry(&self);

    /// Returns how it is.
    fn status(&self) -> TransportStatus;
}

/// How a transport is for one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Notices can arrive.
    Online,
    /// Not yet.
    Connecting,
    /// A passing fault.
    Retry(Trouble),
    /// It will not be without a person's help.
    Held(Trouble),
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Connecting => "connecting",
            Self::Retry(_) => "retry",
            Self::Held(_) => "held",
        }
    }

    fn badness(&self) -> u8 {
        match self {
            Self::Online => 0,
            Self::Connecting => 1,
            Self::Retry(_) => 2,
            Self::Held(_) => 3,
        }
    }
}

/// The states of all folders of a transport, and the way to the sink.
struct Board {
    name: &'static str,
    sink: Sink,
    since: Moment,
    states: Mutex<BTreeMap<String, (State, Moment)>>,
}

impl Board {
    fn new(name: &'static str, sink: Sink) -> Self {
        Self {
            name,
            sink,
            since: clock::now(),
            states: Mutex::default(),
        }
    }

    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (State, Moment)>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of a folder; the sink hears of it if notices can arrive now or no longer.
    fn set(&self, key: &str, state: State) {
        let online = state == State::Online;
        let mut states = self.states();
        let old = states.get(key);
        if old.is_some_and(|(old, _)| *old == state) {
            return;
        }
        let was_online = old.is_some_and(|(old, _)| *old == State::Online);
        if let State::Retry(trouble) | State::Held(trouble) = &state {
            tracing::info!(
                transport = self.name,
                key,
                trouble.message,
                "transport is down"
            );
        } else {
            tracing::debug!(transport = self.name, key, state = state.word());
        }
        states.insert(key.to_owned(), (state, clock::now()));
        drop(states);
        if online != was_online {
            let name = self.name;
            (self.sink)(key, Event::Transport { name, online });
        }
    }

    fn forget(&self, key: &str) {
        let was_online =
            matches!(self.states().remove(key), Some((state, _)) if state == State::Online);
        if was_online {
            let (name, online) = (self.name, false);
            (self.sink)(key, Event::Transport { name, online });
        }
    }

    fn notice(&self, key: &str, notice: Notice) {
        (self.sink)(key, Event::Noticed(notice, Circle::Own));
    }

    /// Returns the worst state of all folders.
    fn status(&self) -> TransportStatus {
        let states = self.states();
        let worst = states.values().max_by_key(|(state, _)| state.badness());
        let (state, since) = match worst {
            Some((state, since)) => (state.clone(), *since),
            None => (State::Online, self.since),
        };
        drop(states);
        let (message, hint) = match &state {
            State::Online | State::Connecting => (String::new(), String::new()),
            State::Retry(trouble) | State::Held(trouble) => {
                (trouble.message.clone(), trouble.hint.clone())
            }
        };
        TransportStatus {
            name: self.name.to_owned(),
            state: state.word().to_owned(),
            message,
            hint,
            since: clock::wall_at(since),
            peers: Vec::new(),
            folders: Vec::new(),
        }
    }
}
