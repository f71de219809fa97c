//! The pure core: decides what happens next and never does it.
//!
//! One [`Engine`] belongs to one folder. [`Event`]s go in, [`Action`]s come out, and time is an
//! argument. Nothing here opens a file, spawns a task or asks the clock, so every behaviour of
//! the agent can be replayed in a test.
//!
//! Invariants:
//! 1. At most one job is in flight per lane (tree, network); its outcome comes back as an event.
//! 2. A notice is announced only for a commit of ours that the hub said it has.
//! 3. No event is ever muted. What an apply wrote comes back from the watcher as ordinary
//!    changes, and the snapshot that follows finds nothing to commit.
//! 4. No snapshot starts while the journal of an apply is open.
//! 5. Every retry has a bound and jitter; without a cause nothing is committed, pushed or
//!    announced.
//! 6. The same settings, seed and events give the same actions.
//!
//! Absent: plans that survive a restart. After one the engine knows nothing and looks again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub mod action;
mod asking;
mod chance;
mod committing;
mod describing;
pub mod event;
pub mod guard;
mod lanes;
pub mod notice;
mod publishing;
pub mod recall;
mod receiving;
mod report;
pub mod settings;
pub mod settle;
#[cfg(test)]
mod sim;
pub mod status;
#[cfg(test)]
mod tests;
pub mod timer;
mod trouble;

pub use report::FolderBasics;
pub use settings::{Mode, PushWindows, Settings};

use action::{Action, Trigger};
use describing::Describing;
use event::{ConflictCopy, Event, Request, Trouble};
use lanes::Lanes;
use notice::{Bell, Circle};
use recall::Recalls;
use receiving::{Made, Receiving};
use report::Record;
use settle::Settle;
use status::Counters;
use timer::{Moment, Site, Timer, Timers};
use trouble::Outages;

use crate::names::{ObjectId, RepoPath};

/// The state machine of one folder.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: Settings,
    rng: chance::Chance,
    actions: VecDeque<Action>,
    timers: Timers,
    lanes: Lanes,
    settle: Settle,
    outages: Outages,
    bell: Bell,
    receiving: Receiving,
    /// What waited here has been committed for the merge that comes next.
    flushed: bool,
    /// The merge that was made last and is not on the hub yet.
    made: Option<Made>,
    /// Since when a full look waits for young removals.
    young_since: Option<Moment>,
    record: Record,
    counters: Counters,

    /// Whether the start, or the end of an interrupted apply, is behind us.
    recovered: bool,
    id: Option<String>,
    /// The tip of the branch here.
    tip: Option<ObjectId>,
    /// What the hub said last.
    hub: Hub,
    /// The hub's tip that our tip is known to contain.
    contained: Option<ObjectId>,

    /// A full look is wanted, and why.
    scan: Option<Trigger>,
    /// The user's git moved, and no snapshot has seen since where HEAD is.
    look: bool,
    /// A fetch is wanted, and why.
    fetch: Option<FetchWhy>,
    /// A push may start: its window is over.
    push_now: bool,
    /// Since when the hub lacks our tip, and how many commits came since.
    unpushed_since: Option<Moment>,
    unpushed: usize,
    /// How often the hub refused us because others were first.
    rejections: u32,
    /// The copies in the merge that was made last, and in merges that will be applied.
    made_copies: Vec<ConflictCopy>,
    coming_copies: Vec<ConflictCopy>,
    /// The commit that the bell rang for last.
    announced: Option<ObjectId>,
    /// A confirmed push that could not be announced before the identity was known.
    unannounced: Option<ObjectId>,
    /// How many commits came since the last maintenance, and when the last one did.
    since_maintenance: u32,

    paused: bool,
    stopping: bool,
    /// A person asked for a push and a receive that are otherwise manual.
    asked_push: bool,
    asked_receive: bool,
    /// What the guards hold may pass with the next job of its kind.
    approved_snapshot: bool,
    approved_apply: bool,
    /// What waits now, and nothing that comes in meanwhile, has waited for a person long enough.
    overdue: bool,
    /// Deferred paths are to be looked at again, and how long to wait for the time after.
    release: bool,
    release_soon: bool,
    release_wait: Duration,

    describing: Describing,
    recalls: Recalls,

    /// The transports over which notices can arrive now.
    live: BTreeSet<&'static str>,
}

/// What we know of the hub's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hub {
    /// It was not asked yet.
    Unknown,
    /// This was its tip at an earlier start.
    Seen(ObjectId),
    /// It refused a push, so it has something else than this by now.
    Stale(Option<ObjectId>),
    /// It has no such branch.
    Empty,
    /// It had a branch and has none now: nothing is pushed until a person says so.
    Emptied,
    /// This is its tip.
    At(ObjectId),
}

impl Hub {
    fn tip(self) -> Option<ObjectId> {
        match self {
            Self::Seen(tip) | Self::At(tip) => Some(tip),
            Self::Stale(tip) => tip,
            Self::Unknown | Self::Empty | Self::Emptied => None,
        }
    }

    fn was_asked(self) -> bool {
        match self {
            Self::Unknown | Self::Seen(_) | Self::Stale(_) => false,
            Self::Empty | Self::Emptied | Self::At(_) => true,
        }
    }
}

/// Why a fetch is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FetchWhy {
    /// Somebody rang: for this commit, if they said which, and whose host it was.
    Rung(Option<ObjectId>, Circle),
    /// Start, poll, a refused push, a transport that came up, a person.
    Due,
}

impl Engine {
    /// Creates the engine of a folder. Its first action is to recover, then it looks at
    /// everything and asks the hub.
    ///
    /// `seed` decides the jitter; equal seeds and events give equal actions.
    pub fn new(settings: Settings, seed: u64, now: Moment) -> Self {
        let fetch = settings.has_hub.then_some(FetchWhy::Due);
        let mut engine = Self {
            settle: Settle::new(settings.settle),
            describing: Describing::new(settings.notes),
            recalls: Recalls::default(),
            settings,
            rng: chance::Chance::new(seed),
            actions: VecDeque::new(),
            timers: Timers::default(),
            lanes: Lanes::default(),
            outages: Outages::default(),
            bell: Bell::new(now),
            receiving: Receiving::Idle,
            flushed: false,
            made: None,
            young_since: None,
            record: Record::new(now),
            counters: Counters::default(),
            recovered: false,
            id: None,
            tip: None,
            hub: Hub::Unknown,
            contained: None,
            scan: Some(Trigger::Start),
            look: false,
            fetch,
            push_now: false,
            unpushed_since: None,
            unpushed: 0,
            rejections: 0,
            made_copies: Vec::new(),
            coming_copies: Vec::new(),
            announced: None,
            unannounced: None,
            since_maintenance: 0,
            paused: false,
            stopping: false,
            asked_push: false,
            asked_receive: false,
            approved_snapshot: false,
            approved_apply: false,
            overdue: false,
            release: false,
            release_soon: false,
            release_wait: RELEASE_FIRST,
            live: BTreeSet::new(),
        };
        engine.arm_poll(now);
        engine.arm_rescan(now);
        engine.advance(now);
        engine
    }

    /// Takes in one thing that happened.
    pub fn handle_event(&mut self, now: Moment, event: Event) {
        match event {
            Event::Changed(changes) => self.on_changed(now, &changes),
            Event::Rescan(why) => self.on_rescan(now, why),
            Event::GitMoved => self.on_git_moved(now),
            Event::Recovered(recovered) => self.on_recovered(now, recovered),
            Event::Stored { commit } => self.on_stored(now, commit),
            Event::Snapshotted(outcome) => self.on_snapshotted(now, outcome),
            Event::Merged(outcome) => self.on_merged(now, outcome),
            Event::Applied(outcome) => self.on_applied(now, outcome),
            Event::Fetched(outcome) => self.on_fetched(now, outcome),
            Event::Pushed(outcome) => self.on_pushed(now, outcome),
            Event::Maintained(_) => self.on_maintained(),
            Event::Described(outcome) => self.on_described(now, outcome),
            Event::NotesExchanged(_) => self.on_notes_exchanged(),
            Event::RecallAsked { ticket, recall } => self.on_recall(ticket, recall),
            Event::Recalled(outcome) => self.on_recalled(now, *outcome),
            Event::Answered { commit, message } => self.on_answered(commit, message),
            Event::Identified(id) => self.on_identified(id),
            Event::Noticed(notice, circle) => self.on_noticed(now, &notice, circle),
            Event::Confirmed { host, commit } => self.on_arrived(host, commit),
            Event::Transport { name, online } => self.on_transport(now, name, online),
            Event::Asked(request) => self.on_asked(now, request),
            Event::Woke => self.on_woke(now),
        }
        self.advance(now);
    }

    /// Does what is due. To be called when [`poll_timeout`](Self::poll_timeout) has come; a call
    /// too early or too often does nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Retry(_) | Timer::Reserve | Timer::Bell | Timer::Young => {}
                Timer::Push => self.push_now = true,
                Timer::Look => self.look = true,
                Timer::Words => self.ask_no_more(),
                Timer::Poll => {
                    self.arm_poll(now);
                    if self.settings.receive == Mode::Auto {
                        self.want_fetch(FetchWhy::Due);
                        self.want_notes();
                    }
                }
                Timer::Rescan => {
                    self.arm_rescan(now);
                    self.want_scan(Trigger::Scan);
                }
                Timer::Resume => self.on_asked(now, Request::Resume),
                Timer::Release => {
                    self.release = true;
                    self.release_soon = false;
                }
                Timer::Unattended => self.pass_unattended(),
                Timer::Maintain => self.maintain(now),
            }
        }
        self.advance(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    ///
    /// May change with every call that takes `&mut self`.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let timers = self.timers.next();
        let settle = self.may_snapshot().then(|| self.settle.ripe_at()).flatten();
        timers.into_iter().chain(settle).min()
    }

    /// Returns the next thing to do, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns whether nothing is going on and nothing is about to: both lanes idle, no change
    /// and no push waiting. The slow timers (poll, rescan, maintenance) do not count, and what
    /// is held, paused or waits for somebody to close a file is not about to happen.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty() && self.is_quiet()
    }

    /// Returns whether no job is in flight and none is about to be handed out: what is left to do
    /// waits for a timer or for somebody.
    pub fn rests(&self) -> bool {
        self.actions.is_empty() && self.lanes.is_free()
    }

    /// Whether the engine itself waits for nothing, whoever may still have to carry out what it
    /// asked for.
    fn is_quiet(&self) -> bool {
        if !self.lanes.is_free() {
            return false;
        }
        if self.paused || self.stopping {
            return true;
        }
        if !self.recovered || self.outages.is_retrying() {
            return self.is_held_up();
        }
        let tree = self.settle.waits_for_others() && self.scan.is_none()
            || self.is_stopped(Site::Snapshot);
        let receive = !self.wants_merge()
            && self.receiving == Receiving::Idle
            && !self.release
            && !self.release_soon
            || self.is_stopped(Site::Receive)
            || self.is_stopped(Site::Push);
        let fetch = self.fetch.is_none() || self.is_stopped(Site::Fetch);
        let push = !self.wants_push() || self.is_stopped(Site::Push) || self.wants_merge();
        let words = !self.has_words() && !self.may_exchange_notes() && !self.has_recalls();
        tree && receive && fetch && push && words
    }

    /// Returns whether the folder is idle, the hub has all that we have and we have all that it
    /// has, as far as it told us.
    pub fn is_synced(&self) -> bool {
        let published = !self.settings.has_hub
            || self.hub.was_asked() && self.tip == self.hub.tip() && self.outages.worst().is_none();
        self.is_idle() && !self.paused && self.trouble().is_none() && published
    }

    /// Returns the gravest trouble that goes on.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.outages.worst().map(|(trouble, _)| trouble)
    }

    /// Returns whether something could not be done because the folder is not there.
    pub fn misses_folder(&self) -> bool {
        self.outages.misses_folder()
    }

    /// Returns the folder's identity, once it is known.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Takes other settings from now on.
    pub fn reconfigure(&mut self, now: Moment, settings: Settings) {
        self.settle.set_windows(settings.settle);
        let other_hub = settings.has_hub != self.settings.has_hub;
        // How long what waits has done so is for the next look to say.
        self.release |= settings.unattended != self.settings.unattended;
        let auto_push = settings.push_mode == Mode::Auto && self.settings.push_mode != Mode::Auto;
        self.settings = settings;
        if other_hub {
            self.hub = Hub::Unknown;
            self.contained = None;
        }
        self.want_fetch(FetchWhy::Due);
        if auto_push {
            self.push_now = true;
        }
        self.arm_poll(now);
        self.arm_rescan(now);
        self.advance(now);
    }

    /// Whether a place is stopped until a person acts or a long time has passed.
    fn is_stopped(&self, site: Site) -> bool {
        self.outages
            .at(site)
            .is_some_and(|trouble| trouble.recovery != event::Recovery::Retry)
    }

    /// Whether the start itself is stopped, not merely being tried again.
    fn is_held_up(&self) -> bool {
        !self.outages.is_retrying() && self.is_stopped(Site::Snapshot)
    }
}

/// The first wait before deferred paths are looked at again; doubles up to [`RELEASE_MAX`].
const RELEASE_FIRST: Duration = Duration::from_secs(10);
const RELEASE_MAX: Duration = Duration::from_secs(300);

/// The name of the transport that is no bell: the slow poll.
const TRANSPORT_POLL: &str = "poll";

/// Paths that wait and why, by path.
type Reasons = BTreeMap<RepoPath, String>;
