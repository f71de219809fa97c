//! The one task that owns the connection: logs in, says and hears, and begins anew when it is lost.
//!
//! Invariants:
//! 1. There is one stream of stanzas, used by this task alone. The library's worker behind it asks for
//!    a new connection through a slot, and a slot that is dropped ends that worker badly: it is
//!    answered, or kept until everything ends.
//! 2. A connection is there within its time, or it is given up. It is tried again with growing waits,
//!    and not at all where only a person can help.
//! 3. What is pushed while nothing can be sent is one notice for each folder, sent to whoever turns out
//!    to be there; and so is what the server may not have got.
//! 4. Sending never waits long: a server that takes nothing is a lost one.
//!
//! Absent: fetches. After each login the engine hears that the transport is there, and fetches.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_xmpp::Stanza;
use tokio_xmpp::jid::FullJid;
use tokio_xmpp::stanzastream::{Connection, Event as Seen, StanzaStream, StreamEvent};

use super::Order;
use super::board::Board;
use super::failure::{Again, Failure};
use super::folders::Folders;
use super::login;
use super::name;
use super::pace::{BackOff, Pace, between};
use super::password;
use super::session::Session;
use super::texts::Texts;
use crate::clock::{self, SuspendDetector};
use crate::config::XmppSettings;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::notice::Notice;
use crate::engine::timer::Moment;
use crate::transport::State;

/// How long the server may take a stanza off our hands.
const SEND: Duration = Duration::from_secs(5);
/// How often it is asked whether the machine was suspended.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// How long it sleeps when only a person can help.
const IDLE: Duration = Duration::from_secs(3600);
/// So many texts for people wait until they can be sent.
const LETTERS: usize = 16;
/// So many stanzas wait in each direction inside the library.
const DEPTH: usize = 16;

type Slot = oneshot::Sender<Connection>;

/// The library's stream, and the slots for connections that its worker asks for.
pub(super) struct Wire {
    pub(super) stream: StanzaStream,
    slots: mpsc::UnboundedReceiver<Slot>,
}

impl Wire {
    fn new() -> Self {
        let (tx, slots) = mpsc::unbounded_channel();
        let ask = move |_location: Option<String>, slot: Slot| {
            // A stream that was given up asks for nothing any more.
            drop(tx.send(slot));
        };
        Self {
            stream: StanzaStream::new(Box::new(ask), DEPTH),
            slots,
        }
    }
}

/// How a try ended.
enum Try {
    /// Nobody wants a connection any more.
    Over,
    /// There was none.
    Failed(Failure),
    /// There was one for this long.
    Lost(Duration),
}

/// The task.
pub(super) struct Link {
    settings: Arc<XmppSettings>,
    pub(super) host: String,
    pub(super) board: Arc<Board>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) wire: Wire,
    slot: Option<Slot>,
    pub(super) chance: fastrand::Rng,
    back_off: BackOff,
    pub(super) pace: Pace,
    name: String,
    pub(super) suspend: SuspendDetector,
    pub(super) folders: Folders,
    /// For each folder the latest notice that nobody may have got, with its number.
    pub(super) missed: BTreeMap<String, (Notice, u64)>,
    texts: Texts,
    /// Texts for people that could not be sent yet.
    pub(super) letters: VecDeque<String>,
    was_online: bool,
}

impl Link {
    /// Creates the task. Must be called inside its runtime.
    pub(super) fn new(
        settings: XmppSettings,
        host: String,
        board: Arc<Board>,
        orders: mpsc::UnboundedReceiver<Order>,
        pace: Pace,
    ) -> Self {
        let mut chance = fastrand::Rng::new();
        let name = name::choose(settings.resource.as_deref(), &host, &mut chance, None);
        Self {
            folders: Folders::new(&settings),
            settings: Arc::new(settings),
            host,
            board,
            orders,
            wire: Wire::new(),
            slot: None,
            chance,
            back_off: BackOff::new(pace),
            pace,
            name,
            suspend: SuspendDetector::new(),
            missed: BTreeMap::new(),
            texts: Texts::default(),
            letters: VecDeque::new(),
            was_online: false,
        }
    }

    /// Runs until nobody wants a connection any more.
    pub(super) async fn run(mut self) {
        loop {
            let wait = match self.attempt().await {
                Try::Over => return,
                Try::Failed(failure) => self.failed(&failure),
                Try::Lost(online) => Some(self.lost(online)),
            };
            if !self.pause(wait).await {
                return;
            }
        }
    }

    fn failed(&mut self, failure: &Failure) -> Option<Duration> {
        let trouble = failure.trouble();
        match failure.again() {
            Again::Soon => {
                self.board.set(State::Retry(trouble));
                Some(self.back_off.failed(&mut self.chance))
            }
            Again::Later => {
                self.board.set(State::Retry(trouble.clone()));
                self.board.tell(&trouble);
                Some(BackOff::refused(&mut self.chance))
            }
            Again::Never => {
                self.board.set(State::Held(trouble.clone()));
                self.board.tell(&trouble);
                None
            }
        }
    }

    fn lost(&mut self, online: Duration) -> Duration {
        let (wait, thrown_out) = self.back_off.lost(online, &mut self.chance);
        let mut message = "the connection to the XMPP server was lost";
        if thrown_out {
            let taken = self.name.clone();
            let wanted = self.settings.resource.as_deref();
            self.name = name::choose(wanted, &self.host, &mut self.chance, Some(&taken));
            message = "the XMPP server ends each connection soon; another program may use its name";
            tracing::warn!(resource = self.name, "{message}; it has another name now");
        }
        let trouble = Trouble::new(Code::Declined, Recovery::Retry, message, "");
        self.board.set(State::Retry(trouble));
        wait
    }

    /// Waits before the next try, for ever without a time. Returns whether there is to be one.
    async fn pause(&mut self, wait: Option<Duration>) -> bool {
        // What was slept before is no news.
        self.suspend = SuspendDetector::new();
        let until = wait.map(|wait| clock::now() + wait);
        loop {
            let left = until.map_or(IDLE, |until| clock::until(until).min(TICK));
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return false,
                    Some(Order::Retry) => return true,
                    Some(order) => self.offline(order),
                },
                () = sleep(left) => {}
            }
            let due = until.is_some_and(|until| clock::now() >= until);
            let woke = until.is_some() && self.suspend.slept().is_some();
            if due || woke {
                return true;
            }
        }
    }

    /// Logs in and stays as long as it goes.
    async fn attempt(&mut self) -> Try {
        let (settings, name) = (Arc::clone(&self.settings), self.name.clone());
        let pace = self.pace;
        let login = async move {
            // A person may have to unlock it: that is not the server's slowness.
            let password = password::read(&settings.password).await?;
            let deadline = clock::now() + pace.setup;
            let connection = timeout(
                pace.setup,
                login::login(&settings, &password, &name, pace.timeouts()),
            )
            .await;
            let connection = connection.unwrap_or(Err(Failure::Slow))?;
            Ok((connection, deadline))
        };
        let mut login = pin!(login);
        let (connection, deadline) = loop {
            tokio::select! {
                done = &mut login => match done {
                    Ok(done) => break done,
                    Err(failure) => return Try::Failed(failure),
                },
                order = self.orders.recv() => match order {
                    None => return Try::Over,
                    Some(order) => self.offline(order),
                },
            }
        };
        match self.bind(connection, deadline).await {
            Ok(Some(me)) => self.stay(me).await,
            Ok(None) => Try::Over,
            Err(failure) => Try::Failed(failure),
        }
    }

    /// Hands the connection over, and waits until it has its name; `None` if nobody wants it now.
    async fn bind(
        &mut self,
        connection: Connection,
        deadline: Moment,
    ) -> Result<Option<FullJid>, Failure> {
        // What is left of the connection before.
        while let Some(Some(_)) = self.wire.stream.next().now_or_never() {}
        let slot = match self.slot.take() {
            Some(slot) => Some(slot),
            None => timeout(SEND, self.wire.slots.recv()).await.ok().flatten(),
        };
        let handed = slot.is_some_and(|slot| slot.send(connection).is_ok());
        if !handed {
            self.wire = Wire::new();
            return Err(Failure::Network("the stream of messages broke".into()));
        }
        loop {
            tokio::select! {
                seen = self.wire.stream.next() => match seen {
                    Some(Seen::Stream(StreamEvent::Reset { bound_jid, .. })) => {
                        let me = bound_jid.try_into_full();
                        return me.map(Some).map_err(|_| {
                            Failure::Network("it gave no name to the connection".into())
                        });
                    }
                    Some(Seen::Stream(StreamEvent::Suspended)) => {
                        return Err(Failure::Network("it ended the session at once".into()));
                    }
                    Some(Seen::Stream(StreamEvent::Resumed) | Seen::Stanza(_)) => {}
                    None => {
                        self.abandon();
                        return Err(Failure::Network("the stream of messages broke".into()));
                    }
                },
                order = self.orders.recv() => match order {
                    None => return Ok(None),
                    Some(order) => self.offline(order),
                },
                () = sleep(clock::until(deadline)) => {
                    self.abandon();
                    return Err(Failure::Slow);
                }
            }
        }
    }

    /// Is online until that is over.
    async fn stay(&mut self, me: FullJid) -> Try {
        let begun = clock::now();
        tracing::info!(connection = %me, "online");
        self.board.set(State::Online);
        // The first time nobody else comes back with us.
        let spread = if self.was_online {
            between(Duration::ZERO, self.pace.spread, &mut self.chance)
        } else {
            Duration::ZERO
        };
        self.was_online = true;
        let mut session = Session::new(me, &self.settings, begun + spread, self.pace.greeting);
        let wanted = session.run(self).await;
        session.end(self);
        if !wanted {
            return Try::Over;
        }
        Try::Lost(clock::now().since(begun))
    }

    /// Gives up the stream, unless its worker already asks for another connection.
    pub(super) fn abandon(&mut self) {
        match self.wire.slots.try_recv() {
            Ok(slot) => self.slot = Some(slot),
            Err(_) => self.wire = Wire::new(),
        }
    }

    /// Sends a stanza; returns whether the server takes what we send.
    pub(super) async fn send(&mut self, stanza: impl Into<Stanza>) -> bool {
        let stanza = Box::new(stanza.into());
        timeout(SEND, self.wire.stream.send(stanza)).await.is_ok()
    }

    /// Does what can be done without a connection.
    fn offline(&mut self, order: Order) {
        match order {
            Order::Watch(folder) => self.watch(*folder),
            Order::Unwatch(key) => self.unwatch(&key),
            Order::Announce(notice, number) => {
                self.missed.insert(notice.folder.clone(), (notice, number));
            }
            Order::Tell(key, tell) => {
                if let Some(text) = self.text(&key, &tell) {
                    self.keep(text);
                }
            }
            Order::Confirm(_) | Order::Retry => {}
        }
    }

    /// Knows a folder from now on.
    pub(super) fn watch(&mut self, folder: crate::transport::Folder) {
        self.board.folder(&folder.key, &folder.name);
        self.folders.insert(folder);
    }

    /// Knows a folder no longer.
    pub(super) fn unwatch(&mut self, key: &str) {
        self.board.forget(key);
        if let Some(folder) = self.folders.remove(key) {
            self.texts.forget(&folder.name);
        }
    }

    /// Returns the text for people about this.
    pub(super) fn text(&mut self, key: &str, tell: &crate::engine::action::Tell) -> Option<String> {
        let name = self.folders.get(key).map_or("", |folder| &folder.name);
        self.texts.text(&self.host, name, tell)
    }

    /// Keeps a text until it can be sent.
    pub(super) fn keep(&mut self, text: String) {
        if self.letters.len() == LETTERS {
            self.letters.pop_front();
        }
        self.letters.push_back(text);
    }
}
