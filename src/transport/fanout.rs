//! The `fanout` transport: notices over a server of `SparkleShare`'s line protocol.
//!
//! One connection for all folders, on a thread of its own. It subscribes to the channels of every
//! folder ([`mod@channel`]), says what we pushed and hears what the others did. The server repeats
//! everything to whoever said it, too; that is how we know that it was taken.
//!
//! Invariants:
//! 1. Of what was pushed while there was no connection, each folder says the newest, once.
//! 2. What the server has not repeated is said again on the next connection.
//! 3. Whatever the server does, nothing waits for it but this thread.
//!
//! Absent: TLS. With a key each line is sealed ([`seal`]), and nothing in it is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Board, Folder, Herald, Sink, State, Transport};
use crate::clock;
use crate::config::FanoutSettings;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::notice::Notice;
use crate::engine::status::{NoticedStatus, PeerStatus, TransportStatus};
use crate::engine::timer::Moment;
use crate::names::ObjectId;

pub mod channel;
pub mod line;
pub mod seal;

mod session;
mod talk;

use channel::Channel;
use seal::{Key, KeyError};
use session::End;

/// How patient the client is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until a connection stands and the server has said what it is.
    pub login: Duration,
    /// How often the server is asked whether it lives.
    pub ping: Duration,
    /// How long it may take to answer, and to take what we say.
    pub answer: Duration,
    /// After a failure: at most this long, then doubling...
    pub away: Duration,
    /// ...up to this.
    pub away_max: Duration,
    /// After a failure that a person has to mend.
    pub held: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            login: Duration::from_secs(20),
            ping: Duration::from_secs(60),
            answer: Duration::from_secs(20),
            away: Duration::from_secs(1),
            away_max: Duration::from_secs(60),
            held: Duration::from_secs(600),
        }
    }
}

/// A connection that lived this long was one.
const SUCCESS: Duration = Duration::from_secs(60);
/// So many hosts are remembered as heard.
const PEERS: usize = 64;
/// A commit that came on one channel of a folder is not told again within this time when it comes
/// on the other.
const TWIN: Duration = Duration::from_secs(10);

/// What the thread is told.
enum Order {
    Watch(Box<Folder>),
    Unwatch(String),
    Announce(Notice),
    /// Something new is in a tree.
    Look,
    Retry,
    /// Somebody waits until everything was taken.
    Flush(Sender<()>),
}

/// What the status tells beside how the connection is.
#[derive(Default)]
struct Seen {
    /// When a host was heard last.
    peers: BTreeMap<String, Moment>,
    /// By the keys of the folders.
    folders: BTreeMap<String, Noticed>,
}

/// The latest notices of a folder.
#[derive(Default)]
struct Noticed {
    name: String,
    sent: Option<Moment>,
    received: Option<Moment>,
}

/// The server as a transport.
pub struct FanoutTransport {
    board: Arc<Board>,
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl FanoutTransport {
    /// Creates the transport, which does nothing until it has a folder. `host` is this host's name.
    /// What a person has to mend goes to the herald.
    pub fn new(
        sink: Sink,
        herald: Herald,
        settings: &FanoutSettings,
        host: &str,
        pace: Pace,
    ) -> Self {
        let board = Arc::new(Board::new("fanout", sink));
        let seen = Arc::new(Mutex::default());
        let (orders, taken) = unbounded_channel();
        let worker = Worker {
            settings: settings.clone(),
            host: host.to_owned(),
            pace,
            board: Arc::clone(&board),
            seen: Arc::clone(&seen),
            herald,
            heralded: false,
            orders: taken,
            rooms: BTreeMap::new(),
            waiting: Vec::new(),
            failures: 0,
        };
        let thread = std::thread::Builder::new()
            .name("fanout".into())
            .spawn(move || worker.work());
        if let Err(error) = &thread {
            tracing::error!(%error, "there is no thread for fanout");
        }
        Self {
            board,
            orders: Some(orders),
            thread: thread.ok(),
            seen,
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::debug!("the thread of fanout has ended");
        }
    }
}

impl Transport for FanoutTransport {
    fn name(&self) -> &'static str {
        "fanout"
    }

    fn watch(&mut self, folder: &Folder) {
        self.order(Order::Watch(Box::new(folder.clone())));
    }

    fn unwatch(&mut self, key: &str) {
        self.order(Order::Unwatch(key.to_owned()));
    }

    fn announce(&self, notice: &Notice) {
        self.order(Order::Announce(notice.clone()));
    }

    fn confirm(&self, _notice: &Notice) {
        // Nobody is told, but what came in may have brought or changed the file with the channel.
        self.order(Order::Look);
    }

    fn flush(&self, within: Duration) -> bool {
        let (done, taken) = channel();
        self.order(Order::Flush(done));
        taken.recv_timeout(within).is_ok()
    }

    fn retry(&self) {
        self.order(Order::Retry);
    }

    fn status(&self) -> TransportStatus {
        let mut status = self.board.status();
        let seen = lock(&self.seen);
        let peer = |(host, heard): (&String, &Moment)| PeerStatus {
            host: host.clone(),
            heard: clock::wall_at(*heard),
        };
        let wall = |at: Option<Moment>| at.map_or_else(String::new, clock::wall_at);
        let folder = |noticed: &Noticed| NoticedStatus {
            name: noticed.name.clone(),
            sent: wall(noticed.sent),
            received: wall(noticed.received),
        };
        status.peers = seen.peers.iter().map(peer).collect();
        status.folders = seen.folders.values().map(folder).collect();
        status
    }
}

impl Drop for FanoutTransport {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of fanout had ended early");
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a folder.
struct Room {
    folder: Folder,
    channels: Vec<Channel>,
    owed: Option<Owed>,
    /// The latest commit that was told, on which channel and when.
    latest: Option<(String, ObjectId, Moment)>,
}

/// What the server has not repeated yet.
struct Owed {
    notice: Notice,
    /// On which channels; empty until it was said on this connection.
    left: BTreeSet<String>,
    said: bool,
}

impl Room {
    fn new(folder: Folder) -> Self {
        Self {
            channels: channel::channels(&folder),
            folder,
            owed: None,
            latest: None,
        }
    }

    /// Takes a message on a channel. Returns the notice if the folder is to hear of it.
    fn hear(&mut self, channel: &str, message: &str) -> Option<Notice> {
        self.repeated(channel, message);
        let notice = channel::notice(message, &self.folder)?;
        if let Some(commit) = notice.commit {
            let now = clock::now();
            let twin = self.latest.as_ref().is_some_and(|(other, known, at)| {
                other != channel && *known == commit && now.since(*at) < TWIN
            });
            if twin {
                return None;
            }
            self.latest = Some((channel.to_owned(), commit, now));
        }
        Some(notice)
    }

    fn repeated(&mut self, channel: &str, message: &str) {
        let Some(owed) = &mut self.owed else {
            return;
        };
        let ours = |it: &Channel| {
            it.name == channel && channel::message(&owed.notice, it).as_deref() == Some(message)
        };
        if self.channels.iter().any(ours) {
            owed.left.remove(channel);
            if owed.said && owed.left.is_empty() {
                self.owed = None;
            }
        }
    }
}

struct Worker {
    settings: FanoutSettings,
    host: String,
    pace: Pace,
    board: Arc<Board>,
    seen: Arc<Mutex<Seen>>,
    herald: Herald,
    /// Whether a person was told of something to mend.
    heralded: bool,
    orders: UnboundedReceiver<Order>,
    rooms: BTreeMap<String, Room>,
    waiting: Vec<Sender<()>>,
    failures: u32,
}

impl Worker {
    fn work(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.run());
                // A name that is still being looked up must not keep anybody waiting.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "fanout cannot be started"),
        }
    }

    async fn run(mut self) {
        loop {
            while self.rooms.is_empty() {
                match self.orders.recv().await {
                    Some(order) => self.obey(order),
                    None => return,
                }
            }
            for key in self.rooms.keys() {
                self.board.set(key, State::Connecting);
            }
            let began = clock::now();
            let end = match self.key() {
                Ok(key) => self.converse(key).await,
                Err(error) => End::Held(Trouble::new(
                    Code::Auth,
                    Recovery::Hold,
                    error.to_string(),
                    error.hint(),
                )),
            };
            let (state, wait) = match end {
                End::Stop => return,
                End::Alone => continue,
                End::Failed(trouble) => {
                    if clock::now().since(began) >= SUCCESS {
                        self.failures = 0;
                    }
                    let most = self.pace.away * 2_u32.saturating_pow(self.failures.min(10));
                    self.failures = self.failures.saturating_add(1);
                    let most = most.min(self.pace.away_max);
                    (State::Retry(trouble), most.mul_f64(fastrand::f64()))
                }
                End::Held(trouble) => {
                    if !self.heralded {
                        self.heralded = true;
                        (self.herald)("fanout", Some(trouble.clone()));
                    }
                    (State::Held(trouble), self.pace.held)
                }
            };
            for room in self.rooms.values_mut() {
                self.board.set(&room.folder.key, state.clone());
                if let Some(owed) = &mut room.owed {
                    owed.said = false;
                }
            }
            if !self.rest(&state, clock::now() + wait).await {
                return;
            }
        }
    }

    /// Takes that the server and we agree.
    fn agreed(&mut self) {
        tracing::info!(server = self.place(), "fanout is online");
        if std::mem::take(&mut self.heralded) {
            (self.herald)("fanout", None);
        }
    }

    /// Waits for the next try, or for somebody who wants one now. Returns false at the end.
    async fn rest(&mut self, state: &State, until: Moment) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep(clock::until(until).min(session::LOOK)) => {
                    if clock::now() >= until {
                        return true;
                    }
                }
                order = self.orders.recv() => match order {
                    None => return false,
                    Some(Order::Retry) => return true,
                    Some(order) => {
                        if let Order::Watch(folder) = &order {
                            self.board.set(&folder.key, state.clone());
                        }
                        self.obey(order);
                    }
                }
            }
        }
    }

    fn key(&self) -> Result<Option<Key>, KeyError> {
        let file = self.settings.key_file.as_deref();
        file.map(|file| Key::read(file, None)).transpose()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Watch(folder) => {
                let mut room = Room::new(*folder);
                let Folder { key, name, .. } = &room.folder;
                let mut seen = lock(&self.seen);
                let noticed = seen.folders.entry(key.clone()).or_default();
                noticed.name.clone_from(name);
                drop(seen);
                if let Some(old) = self.rooms.remove(&room.folder.key) {
                    room.owed = old.owed;
                    room.latest = old.latest;
                }
                self.rooms.insert(room.folder.key.clone(), room);
            }
            Order::Unwatch(key) => {
                self.rooms.remove(&key);
                lock(&self.seen).folders.remove(&key);
                self.board.forget(&key);
            }
            Order::Announce(notice) => {
                self.look();
                for room in self.rooms.values_mut() {
                    if room.folder.id == notice.folder {
                        room.owed = Some(Owed {
                            notice: notice.clone(),
                            left: BTreeSet::new(),
                            said: false,
                        });
                    }
                }
            }
            Order::Look => self.look(),
            Order::Retry => {}
            Order::Flush(done) => self.waiting.push(done),
        }
        self.answer_waiting();
    }

    /// Looks again which channels the folders have.
    fn look(&mut self) {
        for room in self.rooms.values_mut() {
            room.channels = channel::channels(&room.folder);
        }
    }

    /// Lets those go who wait until everything was taken.
    fn answer_waiting(&mut self) {
        if self.rooms.values().all(|room| room.owed.is_none()) {
            for done in self.waiting.drain(..) {
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits any more");
                }
            }
        }
    }

    /// Takes a message that came on a channel.
    fn message(&mut self, channel: &str, message: &str) {
        for room in self.rooms.values_mut() {
            if room.channels.iter().all(|known| known.name != channel) {
                continue;
            }
            let Some(notice) = room.hear(channel, message) else {
                continue;
            };
            if notice.host != self.host {
                let now = clock::now();
                let mut seen = lock(&self.seen);
                if let Some(noticed) = seen.folders.get_mut(&room.folder.key) {
                    noticed.received = Some(now);
                }
                let known = seen.peers.len() < PEERS || seen.peers.contains_key(&notice.host);
                if !notice.host.is_empty() && known {
                    seen.peers.insert(notice.host.clone(), now);
                }
            }
            self.board.notice(&room.folder.key, notice);
        }
        self.answer_waiting();
    }

    fn place(&self) -> String {
        let FanoutSettings { host, port, .. } = &self.settings;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    fn failed(&self, error: &io::Error) -> End {
        let message = format!(
            "the fanout server {} cannot be reached: {error}",
            self.place()
        );
        let hint = "Nothing to do if you are offline: the hub is asked from time to time.";
        End::Failed(Trouble::new(
            Code::HubUnreachable,
            Recovery::Retry,
            message,
            hint,
        ))
    }
}
