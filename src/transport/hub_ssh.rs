//! Watches the references of hubs on one ssh server, over one held session for all of them.
//!
//! A script for plain `sh` goes over standard input (`watch.sh`); nothing is installed there and
//! no file is written. Both sides beat, so that each notices within seconds when the other is
//! gone. A server that runs no commands (a forge) is asked once and then left to the poll.
//!
//! Invariants:
//! 1. One session at a time per server; a folder that is added or removed makes a new one.
//! 2. The session is the first to connect, so the shared connection is there before a fetch or
//!    push needs it.
//! 3. Whatever the server says is checked: an order's number, a commit's id. Nothing else of it
//!    is used.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::hub::Pace;
use super::mail::Mailbox;
use super::watch::{Known, Order, Watch};
use super::{Board, State};
use crate::clock;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::git::hub::Kind;
use crate::git::refusal;
use crate::git::ssh::{Client, Server};
use crate::names::ObjectId;

mod session;

use session::{Heard, Session};

/// The longest wait between two tries to connect.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long after a refused login the next try is made: servers lock out who tries too often.
const RETRY_LOGIN: Duration = Duration::from_secs(900);
/// A session that lived this long was a success.
const SUCCESS: Duration = Duration::from_secs(60);

/// Starts the thread of one server; it connects once it has a folder.
pub(super) fn start(
    board: Arc<Board>,
    pace: Pace,
    runtime: PathBuf,
    server: Server,
    configured: Option<String>,
) -> io::Result<Watch> {
    let mut watcher = Watcher {
        board,
        pace,
        runtime,
        server,
        configured,
        folders: BTreeMap::new(),
        session: None,
        client: None,
        next: Some(clock::now()),
        failures: 0,
        changed: false,
    };
    Watch::start("hub-ssh", move |mailbox| watcher.run(mailbox))
}

/// A folder on this server.
struct Watched {
    known: Known,
    path: String,
}

struct Watcher {
    board: Arc<Board>,
    pace: Pace,
    runtime: PathBuf,
    server: Server,
    configured: Option<String>,
    folders: BTreeMap<String, Watched>,
    session: Option<Session>,
    client: Option<Client>,
    /// When to connect; `None`: not before somebody asks.
    next: Option<Moment>,
    failures: u32,
    /// Whether the session knows other folders than we do.
    changed: bool,
}

impl Watcher {
    fn run(&mut self, mailbox: &Mailbox<Order>) {
        while let Some(orders) = mailbox.take() {
            for order in orders {
                self.obey(order);
            }
            if self.changed {
                // What moves until the new session reports is seen by its first report.
                self.session = None;
            }
            let due = self.next.is_some_and(|next| next <= clock::now());
            if self.session.is_none() && !self.folders.is_empty() && (self.changed || due) {
                self.connect();
            }
            self.changed = false;
            if let Err(error) = self.wait(mailbox) {
                tracing::error!(%error, "ssh hubs are no longer watched");
                return;
            }
            self.step();
        }
        self.session = None;
        if let Some(client) = &self.client {
            client.close();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Watch(folder) => {
                let Kind::Ssh(_, path) = folder.hub.clone() else {
                    return;
                };
                let watched = Watched {
                    path,
                    known: Known::new(*folder),
                };
                let key = watched.known.folder.key.clone();
                self.folders.insert(key, watched);
                // Without a session, what keeps the others waiting keeps this one too.
                self.changed |= self.session.is_some();
            }
            Order::Unwatch(key) => {
                self.folders.remove(&key);
                self.changed |= self.session.is_some();
            }
            Order::Retry => {
                if self.session.is_none() {
                    self.next = Some(clock::now());
                }
            }
        }
    }

    fn connect(&mut self) {
        let client = Client::new(self.configured.as_deref(), &self.server, &self.runtime);
        if !client.is_openssh() {
            let message = format!(
                "no session can be held with {}: its ssh program is not OpenSSH",
                self.server
            );
            return self.give_up(&message);
        }
        tracing::debug!(server = %self.server, folders = self.folders.len(), "connecting");
        match Session::start(&client, self.pace) {
            Ok(session) => self.session = Some(session),
            Err(error) => {
                let message = format!("ssh could not be started: {error}");
                self.fail(&Trouble::new(Code::Io, Recovery::Retry, message, ""));
            }
        }
        self.client = Some(client);
    }

    /// Waits for an order, a word of the server, or until something is due.
    fn wait(&self, mailbox: &Mailbox<Order>) -> Result<(), Errno> {
        let due = match &self.session {
            Some(session) => Some(session.due()),
            None if self.folders.is_empty() => None,
            None => self.next,
        };
        let mut fds = vec![PollFd::new(mailbox.bell(), PollFlags::IN)];
        if let Some(session) = &self.session {
            session.join(&mut fds);
        }
        match poll(&mut fds, super::mail::timeout(due).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes what the server said, and notices when it said nothing for too long.
    fn step(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let orders = || {
            self.folders
                .values()
                .map(|watched| (watched.known.folder.branch.as_str(), watched.path.as_str()))
        };
        for heard in session.step(orders) {
            match heard {
                Heard::Tip(number, tip) => self.tip(number, tip),
                Heard::Missing(number) => self.missing(number),
                Heard::Refused => {
                    let message = format!(
                        "{} runs no commands for us, so its hubs are polled",
                        self.server
                    );
                    return self.give_up(&message);
                }
                Heard::Stalled => {
                    // A connection that is dead is not to be shared any longer.
                    self.session = None;
                    if let Some(client) = &self.client {
                        client.close();
                    }
                    let message = format!("the session with {} stalled", self.server);
                    return self.fail(&Trouble::new(Code::Stalled, Recovery::Retry, message, ""));
                }
                Heard::Ended(words) => {
                    let trouble = if words.trim().is_empty() {
                        let message = format!("the session with {} ended", self.server);
                        Trouble::new(Code::HubUnreachable, Recovery::Retry, message, "")
                    } else {
                        refusal::trouble(&self.server.to_string(), &words)
                    };
                    return self.fail(&trouble);
                }
            }
        }
    }

    /// Returns the folder that was given to the session as this number, counted from 1.
    fn numbered(&mut self, number: usize) -> Option<(&mut Watched, &Board)> {
        let watched = self.folders.values_mut().nth(number.checked_sub(1)?)?;
        Some((watched, &self.board))
    }

    fn tip(&mut self, number: usize, tip: Option<ObjectId>) {
        if let Some((watched, board)) = self.numbered(number) {
            watched.known.tip(board, tip);
        }
    }

    fn missing(&mut self, number: usize) {
        let server = self.server.to_string();
        let Some((watched, board)) = self.numbered(number) else {
            return;
        };
        let message = format!("there is no repository at {server}:{}", watched.path);
        let hint = "Check the address, or make it there with `git init --bare`.";
        let trouble = Trouble::new(Code::HubMissing, Recovery::Retry, message, hint);
        watched.known.away(board, State::Retry(trouble));
    }

    /// Gives up the session for now and says why.
    fn fail(&mut self, trouble: &Trouble) {
        let lived = self.session.take().map(|session| session.age());
        if lived.is_some_and(|age| age >= SUCCESS) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = if trouble.code == Code::Auth {
            RETRY_LOGIN
        } else {
            let most = self.pace.away * 2_u32.saturating_pow(self.failures.min(10) - 1);
            most.min(RETRY_MAX).mul_f64(0.5 + fastrand::f64() / 2.0)
        };
        self.next = Some(clock::now() + wait);
        for watched in self.folders.values_mut() {
            let state = match trouble.recovery {
                Recovery::Retry | Recovery::Pause => State::Retry(trouble.clone()),
                Recovery::Hold => State::Held(trouble.clone()),
            };
            watched.known.away(&self.board, state);
        }
    }

    /// Leaves this server to the poll until somebody asks for another try.
    fn give_up(&mut self, message: &str) {
        self.session = None;
        self.next = None;
        let hint = "Nothing to do, but changes of other hosts come with the next poll.";
        let trouble = Trouble::new(Code::Declined, Recovery::Hold, message, hint);
        for watched in self.folders.values_mut() {
            let state = State::Held(trouble.clone());
            watched.known.away(&self.board, state);
        }
    }
}
