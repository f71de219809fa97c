//! One connection from its name to its end: who is there, what is said, what is heard.
//!
//! Invariants:
//! 1. A notice goes to each sibling that is there, and for a short while after the login to each that
//!    turns up; who comes later fetches by itself.
//! 2. The server answers a question that follows each notice. What it did not answer when the
//!    connection is lost, it may not have got: that is said again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::sleep;
use tokio_xmpp::Stanza;
use tokio_xmpp::jid::{BareJid, FullJid, Jid};
use tokio_xmpp::parsers::iq::Iq;
use tokio_xmpp::parsers::message::Message;
use tokio_xmpp::stanzastream::{Event as Seen, StreamEvent};

use super::Order;
use super::folders;
use super::legacy;
use super::siblings::Siblings;
use super::stanza::{self, Ears, Heard, Whose};
use super::stream::{Link, TICK};
use crate::clock::{self, SuspendDetector};
use crate::config::XmppSettings;
use crate::engine::event::Event;
use crate::engine::notice::{Circle, Notice};
use crate::engine::timer::Moment;

/// How long a notice is kept for other people's hosts: a presence from another server may take its
/// time, and who is there already does not fetch because we came.
const LATELY: Duration = Duration::from_secs(60);
/// How long a stream that is doubted has to answer.
const DOUBT: Duration = Duration::from_secs(5);

/// A question that the server did not answer yet.
struct Question {
    id: u64,
    until: Moment,
}

/// How the connection goes on.
enum Then {
    Stay,
    Lost,
    Over,
}

/// One connection.
pub(super) struct Session {
    ears: Ears,
    siblings: Siblings,
    /// When the engines hear that notices can come; `None` once they did.
    go_live: Option<Moment>,
    /// Until when newcomers get what was said before they were seen.
    greeting: Option<Moment>,
    questions: VecDeque<Question>,
    next_question: u64,
    /// Tells our questions from those that the library asks.
    mark: u32,
    /// For each folder the latest notice, with its number and the question that follows it.
    unproven: BTreeMap<String, (Notice, u64, u64)>,
    /// For each folder the latest notice, and when it was said.
    lately: BTreeMap<String, (Notice, Moment)>,
    tick: Moment,
    also_notify: Vec<BareJid>,
}

impl Session {
    /// Creates it for a connection that just got its name.
    pub(super) fn new(
        me: FullJid,
        settings: &XmppSettings,
        go_live: Moment,
        greeting: Duration,
    ) -> Self {
        let now = clock::now();
        let own = me.to_bare();
        // What goes to the account, old hosts would answer to everybody.
        let fine = |bare: &BareJid| !settings.legacy || *bare != own;
        let people = folders::addresses(&settings.also_notify);
        Self {
            ears: Ears {
                me,
                peers: folders::addresses(&settings.peers),
                legacy: settings.legacy,
            },
            siblings: Siblings::default(),
            go_live: Some(go_live),
            greeting: Some(now + greeting),
            questions: VecDeque::new(),
            next_question: 0,
            mark: fastrand::u32(..),
            unproven: BTreeMap::new(),
            lately: BTreeMap::new(),
            tick: now + TICK,
            also_notify: people.into_iter().filter(fine).collect(),
        }
    }

    /// Runs until the connection is lost, or given up. Returns whether another one is wanted.
    pub(super) async fn run(&mut self, link: &mut Link) -> bool {
        link.suspend = SuspendDetector::new();
        if !self.begin(link).await {
            link.abandon();
            return true;
        }
        loop {
            let due = self.due();
            let then = tokio::select! {
                seen = link.wire.stream.next() => self.seen(link, seen).await,
                order = link.orders.recv() => match order {
                    Some(order) => self.order(link, order).await,
                    None => Then::Over,
                },
                () = sleep(clock::until(due)) => self.time(link).await,
            };
            match then {
                Then::Stay => {}
                Then::Lost => return true,
                Then::Over => return false,
            }
        }
    }

    /// Leaves what the next connection needs.
    pub(super) fn end(mut self, link: &mut Link) {
        for (id, (notice, number, _)) in std::mem::take(&mut self.unproven) {
            link.missed.entry(id).or_insert((notice, number));
        }
        self.siblings.clear();
        link.board.hosts(BTreeMap::new());
        if self.go_live.is_none() {
            report(link, false);
        }
    }

    fn due(&self) -> Moment {
        let question = self.questions.front().map(|question| question.until);
        [self.go_live, self.greeting, question]
            .into_iter()
            .flatten()
            .fold(self.tick, Moment::min)
    }

    async fn begin(&mut self, link: &mut Link) -> bool {
        if !self.greet(link).await {
            return false;
        }
        while let Some(text) = link.letters.pop_front() {
            if !self.write(link, &text).await {
                link.letters.push_front(text);
                return false;
            }
        }
        true
    }

    /// Lets everybody know that we are here, and for which folders.
    async fn greet(&self, link: &mut Link) -> bool {
        let ids: BTreeSet<&str> = link.folders.iter().map(|it| it.id.as_str()).collect();
        let presence = stanza::presence(&link.host, ids.into_iter(), self.ears.legacy);
        link.send(presence).await
    }

    /// Lets the engines know that notices can come: each fetches once.
    fn go_live(&mut self, link: &Link) {
        self.go_live = None;
        report(link, true);
    }

    async fn seen(&mut self, link: &mut Link, seen: Option<Seen>) -> Then {
        match seen {
            Some(Seen::Stanza(Stanza::Message(message))) => {
                self.message(link, &message);
                Then::Stay
            }
            Some(Seen::Stanza(Stanza::Presence(presence))) => {
                let newcomer = self.siblings.take(&presence, &self.ears);
                link.board.hosts(self.siblings.hosts());
                match newcomer {
                    Some(jid) => self.newcomer(link, jid).await,
                    None => Then::Stay,
                }
            }
            Some(Seen::Stanza(Stanza::Iq(iq))) => self.iq(link, iq).await,
            Some(Seen::Stream(StreamEvent::Resumed)) => Then::Stay,
            Some(Seen::Stream(StreamEvent::Suspended | StreamEvent::Reset { .. })) => Then::Lost,
            None => {
                link.abandon();
                Then::Lost
            }
        }
    }

    fn message(&mut self, link: &Link, message: &Message) {
        let (from, heard) = match self.ears.hear(message) {
            Ok(heard) => heard,
            Err(why) => {
                tracing::trace!(%why, "a message is no notice");
                return;
            }
        };
        self.siblings.heard(&from);
        link.board.hosts(self.siblings.hosts());
        match heard {
            Heard::Push(notice, whose) => {
                let circle = match whose {
                    Whose::Own => Circle::Own,
                    Whose::Peer(_) => Circle::Peers,
                };
                for folder in link.folders.told(&notice.folder, &whose) {
                    link.board.received(&folder.key);
                    let event = Event::Noticed(notice.clone(), circle);
                    link.board.report(&folder.key, event);
                }
            }
            Heard::Have(notice) => {
                let Some(commit) = notice.commit else { return };
                for folder in link.folders.of(&notice.folder) {
                    let host = notice.host.clone();
                    let event = Event::Confirmed { host, commit };
                    link.board.report(&folder.key, event);
                }
            }
            Heard::Old(url) => {
                let host = legacy::host(from.resource());
                // An old host on this very machine is none of our own echoes.
                let host = if host == link.host { "" } else { host };
                for folder in link.folders.meant(&url) {
                    link.board.received(&folder.key);
                    let notice = Notice {
                        folder: folder.id.clone(),
                        branch: folder.branch.clone(),
                        commit: None,
                        host: host.to_owned(),
                        sequence: 0,
                    };
                    link.board
                        .report(&folder.key, Event::Noticed(notice, Circle::Own));
                }
            }
        }
    }

    async fn iq(&mut self, link: &mut Link, iq: Iq) -> Then {
        if let Iq::Result { id, from, .. } | Iq::Error { id, from, .. } = &iq {
            if self.is_server(from.as_ref()) {
                self.answered(link, id);
            }
            return Then::Stay;
        }
        match stanza::answer(iq) {
            Some(answer) => self.sent(link, answer).await,
            None => Then::Stay,
        }
    }

    /// Whether something was said by the server itself.
    fn is_server(&self, from: Option<&Jid>) -> bool {
        let own = self.ears.me.to_bare();
        from.is_none_or(|from| {
            let domain = from.node().is_none() && from.domain() == own.domain();
            domain || from.to_bare() == own
        })
    }

    /// The server answers in order: what was sent before this question, it has.
    fn answered(&mut self, link: &Link, id: &str) {
        let mark = format!("autosync-{:x}-", self.mark);
        let number = id.strip_prefix(&mark).and_then(|id| id.parse::<u64>().ok());
        let Some(answered) = number else { return };
        self.questions.retain(|question| question.id > answered);
        let mut proven = 0;
        self.unproven.retain(|_, (_, number, question)| {
            let is_proven = *question <= answered;
            if is_proven {
                proven = proven.max(*number);
            }
            !is_proven
        });
        link.board.prove(proven);
    }

    /// Asks the server whether it is there.
    async fn ask(&mut self, link: &mut Link, patience: Duration) -> Then {
        let id = self.next_question;
        self.next_question += 1;
        let until = clock::now() + patience;
        // Answers come in order: who doubts the last one doubts them all.
        for question in &mut self.questions {
            question.until = question.until.min(until);
        }
        self.questions.push_back(Question { id, until });
        let ping = stanza::ping(&format!("autosync-{:x}-{id}", self.mark));
        self.sent(link, ping).await
    }

    /// Sends; a server that takes nothing is lost.
    async fn sent(&self, link: &mut Link, stanza: impl Into<Stanza>) -> Then {
        if link.send(stanza).await {
            return Then::Stay;
        }
        link.abandon();
        Then::Lost
    }

    async fn write(&self, link: &mut Link, text: &str) -> bool {
        for to in &self.also_notify {
            if !link.send(stanza::text(to, text)).await {
                return false;
            }
        }
        true
    }

    async fn order(&mut self, link: &mut Link, order: Order) -> Then {
        match order {
            Order::Watch(folder) => {
                let (key, name) = (folder.key.clone(), folder.name.clone());
                let known = link.folders.get(&key).map(|known| known.id.clone());
                let same_id = known.as_ref() == Some(&folder.id);
                link.watch(*folder);
                tracing::debug!(folder = name, "told of over XMPP");
                if self.go_live.is_none() && known.is_none() {
                    let (name, online) = (super::board::NAME, true);
                    link.board.report(&key, Event::Transport { name, online });
                }
                if same_id {
                    return Then::Stay;
                }
                self.greeted(link).await
            }
            Order::Unwatch(key) => {
                if self.go_live.is_none() {
                    let (name, online) = (super::board::NAME, false);
                    link.board.report(&key, Event::Transport { name, online });
                }
                link.unwatch(&key);
                self.greeted(link).await
            }
            Order::Announce(notice, number) => self.announce(link, notice, number).await,
            Order::Confirm(notice) => {
                let agents = self.siblings.iter();
                let to: Vec<FullJid> = agents
                    .filter(|(_, sibling)| sibling.whose == Whose::Own && !sibling.is_old)
                    .map(|(jid, _)| jid.clone())
                    .collect();
                for jid in to {
                    if matches!(
                        self.sent(link, stanza::have(&jid, &notice)).await,
                        Then::Lost
                    ) {
                        return Then::Lost;
                    }
                }
                Then::Stay
            }
            Order::Tell(key, tell) => {
                let Some(text) = link.text(&key, &tell) else {
                    return Then::Stay;
                };
                if self.write(link, &text).await {
                    return Then::Stay;
                }
                link.keep(text);
                link.abandon();
                Then::Lost
            }
            Order::Retry => self.ask(link, DOUBT).await,
        }
    }

    async fn greeted(&self, link: &mut Link) -> Then {
        if self.greet(link).await {
            return Then::Stay;
        }
        link.abandon();
        Then::Lost
    }

    async fn announce(&mut self, link: &mut Link, notice: Notice, number: u64) -> Then {
        let there: Vec<FullJid> = self.siblings.iter().map(|(jid, _)| jid.clone()).collect();
        let id = notice.folder.clone();
        self.lately
            .insert(id.clone(), (notice.clone(), clock::now()));
        if self.greeting.is_some() {
            link.missed.insert(id.clone(), (notice.clone(), number));
        } else {
            let question = self.next_question;
            let unproven = (notice.clone(), number, question);
            self.unproven.insert(id, unproven);
        }
        for jid in there {
            if matches!(self.say(link, &jid, &notice).await, Then::Lost) {
                return Then::Lost;
            }
        }
        if self.greeting.is_some() {
            return Then::Stay;
        }
        self.ask(link, link.pace.answer).await
    }

    /// Gives somebody who was not known yet what was said lately.
    async fn newcomer(&mut self, link: &mut Link, jid: FullJid) -> Then {
        let missed: Vec<Notice> = match self.greeting {
            Some(_) => link.missed.values().map(|(it, _)| it.clone()).collect(),
            None => self.lately_for(&jid),
        };
        for notice in missed {
            if matches!(self.say(link, &jid, &notice).await, Then::Lost) {
                return Then::Lost;
            }
        }
        Then::Stay
    }

    /// Returns what was said in the last minute, if the newcomer is another person's.
    fn lately_for(&self, jid: &FullJid) -> Vec<Notice> {
        let sibling = self.siblings.get(&Jid::from(jid.clone()));
        if sibling.is_none_or(|sibling| sibling.whose == Whose::Own) {
            return Vec::new();
        }
        let now = clock::now();
        let lately = self.lately.values();
        let lately = lately.filter(|(_, said)| now.since(*said) < LATELY);
        lately.map(|(notice, _)| notice.clone()).collect()
    }

    /// Sends a notice to a sibling, if it is for it.
    async fn say(&self, link: &mut Link, jid: &FullJid, notice: &Notice) -> Then {
        let Some(sibling) = self.siblings.get(&Jid::from(jid.clone())) else {
            return Then::Stay;
        };
        if !link.folders.tells(&notice.folder, sibling) {
            return Then::Stay;
        }
        let folder = link.folders.of(&notice.folder).next();
        let key = folder.map(|folder| folder.key.clone());
        let message = if sibling.is_old {
            let Some(folder) = folder else {
                return Then::Stay;
            };
            stanza::old_push(jid, &folder.url)
        } else {
            stanza::push(jid, notice)
        };
        if let Some(key) = key {
            link.board.sent(&key);
        }
        self.sent(link, message).await
    }

    async fn time(&mut self, link: &mut Link) -> Then {
        let now = clock::now();
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if is_due(self.go_live) {
            self.go_live(link);
        }
        if is_due(self.questions.front().map(|question| question.until)) {
            tracing::info!("the XMPP server does not answer; the connection is made anew");
            link.abandon();
            return Then::Lost;
        }
        if is_due(self.greeting) {
            self.greeting = None;
            let missed = std::mem::take(&mut link.missed);
            if !missed.is_empty() {
                let question = self.next_question;
                for (id, (notice, number)) in missed {
                    self.unproven.insert(id, (notice, number, question));
                }
                return self.ask(link, link.pace.answer).await;
            }
        }
        if self.tick <= now {
            self.tick = now + TICK;
            if let Some(slept) = link.suspend.slept() {
                tracing::info!(
                    seconds = slept.as_secs(),
                    "awake again; the connection is tested"
                );
                return self.ask(link, DOUBT).await;
            }
        }
        Then::Stay
    }
}

/// Lets every folder's engine know whether notices can come.
fn report(link: &Link, online: bool) {
    let name = super::board::NAME;
    for folder in link.folders.iter() {
        link.board
            .report(&folder.key, Event::Transport { name, online });
    }
}
