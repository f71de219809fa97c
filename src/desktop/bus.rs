//! The thread that talks to the notification server.
//!
//! One call at a time, each with a limit. What the limit cuts off is taken up if it is answered
//! after all, so that nothing stays on the screen that nobody knows of.
//!
//! Invariant: answers and clicks are taken in the order in which the server sent them. So a click is
//! one on the card that was on the screen then, not on the one before or after it.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use zbus::message::{Sequence, Type};
use zbus::zvariant::Value;
use zbus::{Connection, MatchRule, MessageStream};

use super::board::{Call, Click, Slot, Wish};
use super::card::{Card, without_markup};
use super::{Deed, Shared, describe};
use crate::clock;
use crate::engine::timer::Moment;

/// The name, the interface and the object of the server.
const SERVER: &str = "org.freedesktop.Notifications";
const OBJECT: &str = "/org/freedesktop/Notifications";

/// No call takes longer.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a server that did not answer, or a bus that could not be reached, is left alone.
const REST: Duration = Duration::from_secs(10);
/// So many calls may be without an answer before no more are made.
const UNANSWERED: usize = 4;
/// So many clicks wait for the answer to a call.
const CLICKS: usize = 64;
/// How long the farewell may take in all.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a call came to.
enum Answer {
    /// The server can do this.
    Can(Can),
    /// It shows this card.
    Shown(Slot, OnScreen, Card),
    /// It could not show it, or say what it can do.
    Failed(Option<Slot>, zbus::Error),
    /// It took a notification away.
    Withdrawn,
}

/// What the server said of a card that it shows.
#[derive(Debug, Clone, Copy)]
struct OnScreen {
    id: u32,
    /// When it was said, among all that comes from the bus.
    said: Sequence,
}

/// What the server can do, as far as it matters.
#[derive(Debug, Clone, Copy, Default)]
struct Can {
    markup: bool,
    actions: bool,
}

/// A call that is not answered yet.
struct Flight {
    ticket: u64,
    slot: Option<Slot>,
    until: Moment,
}

/// Shows what the board has, until the agent leaves.
pub(super) fn run(shared: &Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let overdue = async {
                shared.left.notified().await;
                tokio::time::sleep(FAREWELL * 2).await;
            };
            tokio::select! {
                () = work(shared) => {}
                () = overdue => {}
            }
        }),
        Err(error) => tracing::warn!(%error, "nothing is shown on the desktop"),
    }
    shared.let_go();
}

async fn work(shared: &Arc<Shared>) {
    let mut told = false;
    let mut rest: Option<Moment> = None;
    while !shared.is_leaving() {
        let Some(address) = address() else {
            if !std::mem::replace(&mut told, true) {
                tracing::info!("there is no session bus, so nothing is shown on a desktop");
            }
            shared.let_go();
            shared.changed.notified().await;
            continue;
        };
        if rest.is_some_and(|until| until > clock::now()) {
            shared.let_go();
            if !has_work(shared) {
                rest = None;
                shared.changed.notified().await;
            } else if let Some(until) = rest {
                let woken = tokio::time::timeout(clock::until(until), shared.changed.notified());
                // Woken or not: the rest is looked at again.
                drop(woken.await);
            }
            continue;
        }
        let connected = async {
            zbus::connection::Builder::address(address.as_str())?
                .build()
                .await
        };
        let connected = tokio::time::timeout(LIMIT, connected).await;
        let served = match connected {
            Ok(Ok(bus)) => serve(shared, &bus).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(zbus::Error::Failure("no answer".to_owned())),
        };
        if let Err(error) = served {
            if std::mem::replace(&mut told, true) {
                tracing::debug!(%error, "the session bus is away");
            } else {
                tracing::info!(%error, "the session bus cannot be reached, so nothing is shown");
            }
            shared.board().lost();
        }
        rest = Some(clock::now() + REST);
    }
}

/// Returns whether something is to be shown now or soon.
fn has_work(shared: &Shared) -> bool {
    let mut board = shared.board();
    board.due().is_some() || board.next(clock::now()).is_some()
}

/// Returns the address of the session bus: as the environment says, else where it usually is.
fn address() -> Option<String> {
    let set = std::env::var("DBUS_SESSION_BUS_ADDRESS");
    if let Some(set) = set.ok().filter(|set| !set.is_empty()) {
        return Some(set);
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let runtime = runtime.map_or_else(
        || PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw())),
        PathBuf::from,
    );
    let bus = runtime.join("bus");
    bus.exists().then(|| format!("unix:path={}", bus.display()))
}

/// Talks to the server until the bus is gone or the agent leaves.
async fn serve(shared: &Arc<Shared>, bus: &Connection) -> zbus::Result<()> {
    let clicks = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVER)?
        .interface(SERVER)?
        .build();
    let owners = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")?
        .interface("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .add_arg(SERVER)?
        .build();
    let mut clicks = MessageStream::for_match_rule(clicks, bus, None).await?;
    let mut owners = MessageStream::for_match_rule(owners, bus, None).await?;
    let (tell, answers) = mpsc::unbounded_channel();
    let mut desk = Desk {
        shared: Arc::clone(shared),
        bus: bus.clone(),
        tell,
        answers,
        can: None,
        flight: None,
        clicks: VecDeque::new(),
        unanswered: 0,
        ticket: 0,
        rest: None,
        told: false,
    };
    loop {
        if shared.is_leaving() {
            desk.leave().await;
            return Ok(());
        }
        desk.advance();
        let wake = desk.wake().map_or(Duration::from_secs(3600), clock::until);
        tokio::select! {
            // What was clicked before an answer came is here before it, and is looked at first.
            biased;
            signal = clicks.next() => match signal {
                Some(Ok(signal)) => desk.clicked(signal),
                Some(Err(error)) => tracing::debug!(%error, "a signal was lost"),
                None => return Err(zbus::Error::Failure("the bus is gone".to_owned())),
            },
            Some((ticket, answer)) = desk.answers.recv() => desk.heard(ticket, answer),
            () = shared.changed.notified() => {}
            owner = owners.next() => match owner {
                Some(Ok(signal)) => desk.another_server(&signal),
                Some(Err(error)) => tracing::debug!(%error, "a signal was lost"),
                None => return Err(zbus::Error::Failure("the bus is gone".to_owned())),
            },
            () = tokio::time::sleep(wake) => {}
        }
    }
}

/// A connection, and what is known of the server behind it.
struct Desk {
    shared: Arc<Shared>,
    bus: Connection,
    tell: mpsc::UnboundedSender<(u64, Answer)>,
    answers: mpsc::UnboundedReceiver<(u64, Answer)>,
    can: Option<Can>,
    flight: Option<Flight>,
    /// What was clicked while a card was on its way, which may be on the screen already.
    clicks: VecDeque<zbus::Message>,
    unanswered: usize,
    ticket: u64,
    /// Until when the server is left alone.
    rest: Option<Moment>,
    told: bool,
}

impl Desk {
    /// Makes the next call, if one is due and none is under way.
    fn advance(&mut self) {
        let now = clock::now();
        if let Some(flight) = self.flight.take_if(|flight| flight.until <= now) {
            self.unanswered += 1;
            self.take_clicks(None);
            self.failed(flight.slot.as_ref(), "it does not answer");
        }
        if self.flight.is_some()
            || self.unanswered >= UNANSWERED
            || self.rest.is_some_and(|until| until > now)
        {
            return;
        }
        self.rest = None;
        let Some(call) = self.shared.board().next(now) else {
            return;
        };
        let (bus, answers) = (self.bus.clone(), self.tell.clone());
        self.ticket += 1;
        let ticket = self.ticket;
        let slot = match &call {
            Call::Show { slot, .. } => Some(slot.clone()),
            Call::Withdraw(_) => None,
        };
        self.flight = Some(Flight {
            ticket,
            slot,
            until: now + LIMIT,
        });
        let can = self.can;
        tokio::spawn(async move {
            let answer = match (call, can) {
                (Call::Withdraw(id), _) => withdraw(&bus, id).await,
                // Nothing can be shown well before this is known.
                (Call::Show { slot, .. }, None) => match capabilities(&bus).await {
                    Ok(can) => Answer::Can(can),
                    Err(error) => Answer::Failed(Some(slot), error),
                },
                (
                    Call::Show {
                        slot,
                        replaces,
                        card,
                    },
                    Some(can),
                ) => match show(&bus, replaces, &card, can).await {
                    Ok(on_screen) => Answer::Shown(slot, on_screen, card),
                    Err(error) => Answer::Failed(Some(slot), error),
                },
            };
            // Nobody wants to know any more: the agent left.
            drop(answers.send((ticket, answer)));
        });
    }

    /// Returns when something is due though nothing happens.
    fn wake(&self) -> Option<Moment> {
        if let Some(flight) = &self.flight {
            return Some(flight.until);
        }
        if self.unanswered >= UNANSWERED {
            return None;
        }
        match (self.rest, self.shared.board().due()) {
            (Some(rest), due) => Some(due.map_or(rest, |due| due.max(rest))),
            (None, due) => due,
        }
    }

    /// Takes an answer, whether it was waited for or not.
    fn heard(&mut self, ticket: u64, answer: Answer) {
        let in_time = self.flight.take_if(|flight| flight.ticket == ticket);
        if in_time.is_none() {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        match answer {
            Answer::Can(can) => {
                self.can = Some(can);
                self.answered();
            }
            Answer::Shown(slot, OnScreen { id, said }, card) => {
                self.take_clicks(Some(said));
                self.shared.board().shown(clock::now(), &slot, id, card);
                self.answered();
            }
            Answer::Withdrawn => self.answered(),
            Answer::Failed(slot, error) => {
                if in_time.is_some() {
                    self.take_clicks(None);
                    self.failed(slot.as_ref(), &error.to_string());
                }
            }
        }
        if self.flight.is_none() {
            self.take_clicks(None);
        }
    }

    fn answered(&mut self) {
        self.rest = None;
        if std::mem::take(&mut self.told) {
            tracing::info!("notifications are shown again");
        }
    }

    /// Leaves the server alone for a while; what pressed is tried again then.
    fn failed(&mut self, slot: Option<&Slot>, why: &str) {
        if let Some(slot) = slot {
            self.shared.board().failed(slot);
        }
        self.shared.let_go();
        self.rest = Some(clock::now() + REST);
        if !std::mem::replace(&mut self.told, true) {
            tracing::info!(why, "notifications cannot be shown");
        }
    }

    /// Takes that another server has the name now, or none: everything shown is gone.
    fn another_server(&mut self, signal: &zbus::Message) {
        let owners = signal.body().deserialize::<(String, String, String)>();
        self.can = None;
        self.rest = None;
        self.unanswered = 0;
        // One that our own call started is going to answer it.
        if owners.is_ok_and(|(_, old, _)| !old.is_empty()) {
            self.flight = None;
            self.clicks.clear();
            self.shared.board().lost();
            self.shared.let_go();
        }
    }

    /// Takes a click. While a card is on its way, only its answer tells whether the click was on that
    /// card or on the one before it.
    fn clicked(&mut self, signal: zbus::Message) {
        let shows = self.flight.as_ref().is_some_and(|it| it.slot.is_some());
        if !shows {
            self.signal(&signal);
        } else if self.clicks.len() < CLICKS {
            self.clicks.push_back(signal);
        }
    }

    /// Takes the clicks that waited; with `before` those only that came before it.
    fn take_clicks(&mut self, before: Option<Sequence>) {
        let is_due =
            |click: &zbus::Message| before.is_none_or(|before| click.recv_position() < before);
        while self.clicks.front().is_some_and(is_due) {
            if let Some(click) = self.clicks.pop_front() {
                self.signal(&click);
            }
        }
    }

    /// Takes a click, or that a notification was closed.
    fn signal(&mut self, signal: &zbus::Message) {
        let header = signal.header();
        match header.member().map(zbus::names::MemberName::as_str) {
            Some("ActionInvoked") => {
                let Ok((id, key)) = signal.body().deserialize::<(u32, String)>() else {
                    return;
                };
                let click = self.shared.board().clicked(id, &key);
                if let Some(click) = click {
                    self.act(click);
                }
            }
            Some("NotificationClosed") => {
                let Ok((id, _reason)) = signal.body().deserialize::<(u32, u32)>() else {
                    return;
                };
                let waited = self.shared.board().closed(id);
                if let Some((folder, commit)) = waited {
                    let message = None;
                    (self.shared.sink)(&folder, Deed::Describe { commit, message });
                }
            }
            Some(_) | None => {}
        }
    }

    fn act(&self, click: Click) {
        tracing::debug!(?click);
        match click.act {
            Wish::Show(place) => describe::open(&place),
            Wish::Undo(commit) => (self.shared.sink)(&click.folder, Deed::Undo(commit)),
            Wish::Approve(shown) => (self.shared.sink)(&click.folder, Deed::Approve(shown)),
            Wish::Describe { commit, summary } => {
                describe::ask(&self.shared, click.folder, &click.name, commit, &summary);
            }
        }
    }

    /// Takes everything off the screen: nobody answers a click any more.
    async fn leave(&self) {
        let living = self.shared.board().living();
        let all = async {
            for id in living {
                drop(withdraw(&self.bus, id).await);
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::debug!("the notifications stay on the screen");
        }
    }
}

async fn capabilities(bus: &Connection) -> zbus::Result<Can> {
    let words = bus
        .call_method(Some(SERVER), OBJECT, Some(SERVER), "GetCapabilities", &())
        .await?;
    let words: Vec<String> = words.body().deserialize()?;
    let can = |what: &str| words.iter().any(|word| word == what);
    Ok(Can {
        markup: can("body-markup"),
        actions: can("actions"),
    })
}

async fn show(bus: &Connection, replaces: u32, card: &Card, can: Can) -> zbus::Result<OnScreen> {
    let body = if can.markup {
        without_markup(&card.body)
    } else {
        card.body.clone()
    };
    let mut actions = Vec::new();
    if can.actions {
        for (key, label, _) in &card.buttons {
            actions.extend([*key, *label]);
        }
    }
    let mut hints = HashMap::new();
    hints.insert("urgency", Value::U8(card.urgency as u8));
    hints.insert("desktop-entry", Value::from("autosync"));
    let icon = "folder-sync";
    // The server decides how long.
    let timeout = -1_i32;
    let call = (
        "autosync",
        replaces,
        icon,
        &card.title,
        body,
        actions,
        hints,
        timeout,
    );
    let answer = bus
        .call_method(Some(SERVER), OBJECT, Some(SERVER), "Notify", &call)
        .await?;
    Ok(OnScreen {
        id: answer.body().deserialize()?,
        said: answer.recv_position(),
    })
}

async fn withdraw(bus: &Connection, id: u32) -> Answer {
    let call = bus.call_method(
        Some(SERVER),
        OBJECT,
        Some(SERVER),
        "CloseNotification",
        &(id),
    );
    match call.await {
        // A refusal means that it was closed already.
        Ok(_) | Err(zbus::Error::MethodError(..)) => Answer::Withdrawn,
        Err(error) => Answer::Failed(None, error),
    }
}
