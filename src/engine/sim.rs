//! The model simulation: engines as they are built, on hosts, trees and a hub that are models.
//!
//! Jobs are done in steps with the users at work between any two; notices get lost, doubled, late
//! and out of order; links go down, disks are full, agents are killed at any moment and machines
//! sleep for a week. Then everything is mended, and the oracle asks: do all hosts agree, is
//! anything lost, does it stay quiet?
//!
//! The oracle is causal. Every line that a user writes carries a token of its own, and a token
//! may leave the tree only through somebody who had it before their eyes, through a clean
//! merge, or into a conflict copy; and what was committed once stays in the history.
//!
//! Invariants:
//! 1. A run is decided by its plan alone.
//! 2. No clock of a host decides anything about contents: with clocks that are years off a plan
//!    runs the same.
//!
//! Absent: what only a disk can do. How files are read and exchanged is tested on real ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::{Action, Lane, Tell};
use super::event::{Event, RescanWhy};
use super::notice::{Circle, Notice};
use super::settle::Windows;
use super::timer::Moment;
use super::{Engine, PushWindows, Settings};
use crate::names::ObjectId;

mod apply;
mod cases;
mod history;
mod host;
mod oracle;
mod plan;
mod repo;
mod runner;
mod tree;
mod user;

use history::Mutant;
use host::{Host, Shared};
use plan::{Op, Plan, Strike, Turn};

/// What the hosts are called.
const HOSTS: [&str; 4] = ["laptop", "server", "phone", "desk"];

/// A year, in seconds.
const YEAR: u64 = 365 * 24 * 3_600;

/// So long a machine sleeps, by its own clock.
const SLEEP: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is on its way.
#[derive(Debug, Clone)]
enum Item {
    Turn(usize, Op),
    StepTree(usize, u32),
    StepNet(usize, u32),
    Watched(usize, u32),
    Moved(usize, u32),
    Ring(usize, Notice),
    Answer(usize, u32, ObjectId),
    Start(usize),
    Wake(usize),
}

impl Item {
    fn host(&self) -> usize {
        match self {
            Self::Turn(host, _)
            | Self::StepTree(host, _)
            | Self::StepNet(host, _)
            | Self::Watched(host, _)
            | Self::Moved(host, _)
            | Self::Ring(host, _)
            | Self::Answer(host, _, _)
            | Self::Start(host)
            | Self::Wake(host) => *host,
        }
    }
}

/// The whole model.
struct World {
    now: Moment,
    shared: Shared,
    hosts: Vec<Host>,
    items: BTreeMap<(Moment, u64), Item>,
    /// What arrives at machines that sleep, when they wake.
    late_items: Vec<Item>,
    next_item: u64,
    lossy: u64,
    late: u64,
    words: bool,
    announced: usize,
    /// How many steps of jobs were done, and what happens just before some of them.
    steps: usize,
    strikes: Vec<Strike>,
    /// What engines were told and said, if somebody wants to know.
    trace: Option<Vec<String>>,
}

impl World {
    fn new(plan: &Plan, mutant: Mutant) -> Self {
        let mut settings = Settings {
            maintain_commits: 6,
            ask: plan.words,
            notes: plan.words,
            ..Settings::default()
        };
        if plan.prompt {
            settings.settle = Windows {
                quiet: Duration::ZERO,
                ..settings.settle
            };
            settings.push = PushWindows {
                quiet: Duration::ZERO,
                ..settings.push
            };
        }
        let host = |number: usize| {
            let host = HOSTS[number].to_owned();
            Host::new(
                number,
                Settings {
                    host,
                    ..settings.clone()
                },
            )
        };
        let mut world = Self {
            now: Moment::default(),
            hosts: (0..plan.hosts).map(host).collect(),
            items: BTreeMap::new(),
            late_items: Vec::new(),
            next_item: 0,
            lossy: plan.lossy,
            late: plan.late,
            words: plan.words,
            announced: 0,
            steps: 0,
            strikes: plan.strikes.clone(),
            trace: None,
            shared: Shared::new(plan.seed, mutant),
        };
        if plan.wrong_clocks {
            for (number, host) in world.hosts.iter_mut().enumerate() {
                let years = number as u64 * 10;
                host.ahead = Moment::from_millis(years * YEAR * 1_000);
                let off = i64::try_from(years * YEAR).unwrap_or(0);
                host.skew = if number % 2 == 0 { off } else { -off };
            }
        }
        world
            .strikes
            .sort_by_key(|strike| std::cmp::Reverse(strike.step));
        for host in 0..plan.hosts {
            world.send_in(0, 5, Item::Start(host));
        }
        world
    }

    /// Sends something that arrives between `least` and `most` milliseconds from now.
    fn send_in(&mut self, least: u64, most: u64, item: Item) {
        let wait = self.shared.rng.u64(least..=most);
        self.send_at(self.now + Duration::from_millis(wait), item);
    }

    fn send_at(&mut self, at: Moment, item: Item) {
        self.next_item += 1;
        self.items.insert((at, self.next_item), item);
    }

    /// Goes on until then.
    fn run_until(&mut self, end: Moment) {
        loop {
            let timeouts = self.hosts.iter().enumerate();
            let timeouts = timeouts.filter_map(|(at, host)| Some((host.timeout?, at)));
            let timeout = timeouts.min();
            let item = self.items.keys().next().map(|key| key.0);
            let next = timeout.map(|it| it.0).into_iter().chain(item).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.shared.now = self.now;
            if item.is_some_and(|at| at <= self.now) {
                let (_, item) = self.items.pop_first().unwrap();
                self.arrive(item);
            } else if let Some((_, host)) = timeout {
                let now = self.clock(host);
                if let Some(engine) = &mut self.hosts[host].engine {
                    engine.handle_timeout(now);
                    self.carry_out(host);
                }
            }
        }
        self.now = end;
        self.shared.now = end;
    }

    fn run_for(&mut self, seconds: u64) {
        self.run_until(self.now + Duration::from_secs(seconds));
    }

    /// What time it is for the agent of a host.
    fn clock(&self, host: usize) -> Moment {
        self.now + self.hosts[host].ahead.0
    }

    fn arrive(&mut self, item: Item) {
        let host = item.host();
        if self.hosts[host].asleep && !matches!(item, Item::Wake(_)) {
            // What others ring for is gone; the rest goes on where it stood.
            if !matches!(item, Item::Ring(..)) || self.shared.rng.bool() {
                self.late_items.push(item);
            }
            return;
        }
        if matches!(item, Item::StepTree(..) | Item::StepNet(..)) {
            self.steps += 1;
            while self.strikes.last().is_some_and(|it| it.step < self.steps) {
                if let Some(strike) = self.strikes.pop() {
                    self.turn(strike.host % self.hosts.len(), strike.op);
                }
            }
        }
        if self.hosts[host].asleep && !matches!(item, Item::Wake(_)) {
            self.late_items.push(item);
            return;
        }
        let life = self.hosts[host].life;
        match item {
            Item::Turn(_, op) => self.turn(host, op),
            Item::Start(_) => self.start(host),
            Item::Wake(_) => self.wake(host),
            Item::Ring(_, notice) => {
                if self.hosts[host].bell {
                    self.tell(host, Some(Event::Noticed(notice, Circle::Own)));
                }
            }
            Item::StepTree(_, of)
            | Item::StepNet(_, of)
            | Item::Watched(_, of)
            | Item::Moved(_, of)
                if of != life => {}
            Item::Moved(..) => self.tell(host, Some(Event::GitMoved)),
            Item::StepTree(..) => {
                let head = self.hosts[host].head;
                let event = self.hosts[host].step_tree(&mut self.shared);
                if self.hosts[host].head != head {
                    // The watcher does not know whose git it was.
                    self.send_in(0, 100, Item::Moved(host, life));
                }
                self.judge_suspects(host);
                self.after_watch(host);
                if self.hosts[host].tree_run.is_some() {
                    self.send_in(1, 30, Item::StepTree(host, life));
                }
                self.tell(host, event);
            }
            Item::StepNet(..) => {
                let event = self.hosts[host].step_net(&mut self.shared);
                if self.hosts[host].net_run.is_some() {
                    self.send_in(1, 60, Item::StepNet(host, life));
                }
                self.tell(host, event);
            }
            Item::Watched(..) => {
                let changes = std::mem::take(&mut self.hosts[host].watched);
                if !changes.is_empty() {
                    self.tell(host, Some(Event::Changed(changes)));
                }
            }
            Item::Answer(_, of, commit) => {
                if of == life {
                    let message = Some("what it is about".to_owned());
                    self.tell(host, Some(Event::Answered { commit, message }));
                }
            }
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].engine.is_none() {
            let seed = self.shared.rng.u64(..);
            let settings = self.hosts[host].settings.clone();
            let now = self.clock(host);
            self.hosts[host].engine = Some(Engine::new(settings, seed, now));
            self.carry_out(host);
            let online = self.hosts[host].bell;
            self.tell(
                host,
                Some(Event::Transport {
                    name: "hub",
                    online,
                }),
            );
        }
    }

    /// A machine wakes up: everything that waited for it goes on, a week later by its own clock.
    fn wake(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].asleep) {
            self.hosts[host].ahead = self.hosts[host].ahead + SLEEP;
            let (of_host, others) = std::mem::take(&mut self.late_items)
                .into_iter()
                .partition(|item| item.host() == host);
            self.late_items = others;
            for item in of_host {
                self.send_at(self.now, item);
            }
            self.look_at_timer(host);
            self.tell(host, Some(Event::Woke));
        }
    }

    /// Tells the engine of a host, if it lives.
    fn tell(&mut self, host: usize, event: Option<Event>) {
        let now = self.clock(host);
        let (Some(event), Some(engine)) = (event, &mut self.hosts[host].engine) else {
            return;
        };
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {host} {event:?}", self.now.0));
        }
        engine.handle_event(now, event);
        self.carry_out(host);
    }

    fn look_at_timer(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        let engine = host.engine.as_ref().filter(|_| !host.asleep);
        let at = engine.and_then(Engine::poll_timeout);
        host.timeout = at.map(|at| at - host.ahead.0);
    }

    fn carry_out(&mut self, host: usize) {
        let life = self.hosts[host].life;
        while let Some(action) = self.hosts[host]
            .engine
            .as_mut()
            .and_then(Engine::poll_action)
        {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:?} {host} {action:?}", self.now.0));
            }
            match action {
                Action::Run(job) => {
                    let lane = job.lane();
                    self.hosts[host].start(&mut self.shared, job);
                    match lane {
                        Lane::Tree | Lane::Both => {
                            self.send_in(1, 30, Item::StepTree(host, life));
                        }
                        Lane::Network => self.send_in(1, 60, Item::StepNet(host, life)),
                    }
                }
                Action::Announce(notice) => self.ring(host, &notice),
                Action::Tell(Tell::Committed(committed)) if self.words => {
                    self.send_in(1, 30_000, Item::Answer(host, life, committed.id));
                }
                Action::Tell(_) | Action::Confirm(_) | Action::Answer { .. } => {}
            }
        }
        self.look_at_timer(host);
    }

    /// Carries a notice to everybody else: late, doubled, or not at all.
    fn ring(&mut self, from: usize, notice: &Notice) {
        self.announced += 1;
        let on_hub = |commit| {
            let number = self.shared.history.number(commit);
            let hub = self.shared.hub;
            hub.is_some_and(|hub| self.shared.history.contains(hub, number))
        };
        if !notice.commit.is_some_and(on_hub) {
            let what = format!("{notice:?} was announced and is not on the hub");
            self.shared.violations.push(what);
        }
        self.carry(from, notice);
    }

    fn carry(&mut self, from: usize, notice: &Notice) {
        for host in 0..self.hosts.len() {
            let copies = if self.shared.rng.u64(0..100) < self.lossy {
                0
            } else {
                1 + usize::from(self.shared.rng.u64(0..10) == 0)
            };
            for _ in 0..copies {
                if host != from {
                    self.send_in(1, self.late, Item::Ring(host, notice.clone()));
                }
            }
        }
    }

    /// What the user or an apply did reaches the watcher a little later.
    fn after_watch(&mut self, host: usize) {
        if !self.hosts[host].watched.is_empty() {
            let life = self.hosts[host].life;
            self.send_in(0, 20, Item::Watched(host, life));
        }
    }

    fn turn(&mut self, at: usize, op: Op) {
        if self.hosts[at].asleep {
            return;
        }
        let event = self.hosts[at].user(&mut self.shared, op);
        self.tell(at, event);
        self.after_watch(at);
        match op {
            Op::Kill { down } => {
                self.hosts[at].kill();
                self.send_in(0, down, Item::Start(at));
            }
            Op::Suspend => {
                self.hosts[at].asleep = true;
                self.hosts[at].timeout = None;
                self.send_in(1, 3_000, Item::Wake(at));
            }
            Op::Bell => {
                self.hosts[at].bell = !self.hosts[at].bell;
                let online = self.hosts[at].bell;
                self.tell(
                    at,
                    Some(Event::Transport {
                        name: "hub",
                        online,
                    }),
                );
            }
            Op::Prank => {
                let mut raw = [0xff; 20];
                raw[4..12].copy_from_slice(&self.shared.rng.u64(..).to_be_bytes());
                let notice = Notice {
                    folder: "folder".to_owned(),
                    branch: "main".to_owned(),
                    commit: ObjectId::from_bytes(&raw).ok(),
                    host: "stranger".to_owned(),
                    sequence: 0,
                };
                self.carry(at, &notice);
            }
            Op::Write { .. }
            | Op::WriteOpen { .. }
            | Op::Close
            | Op::Chmod { .. }
            | Op::Symlink { .. }
            | Op::Swap { .. }
            | Op::Delete { .. }
            | Op::DeleteBelow { .. }
            | Op::DeleteAll
            | Op::Rename { .. }
            | Op::RenameDir { .. }
            | Op::Commit
            | Op::Rebase
            | Op::Approve
            | Op::Sync
            | Op::Pause
            | Op::Link
            | Op::Full
            | Op::Overflow => {}
        }
    }

    /// Lets the users play their turns.
    fn play(&mut self, turns: &[Turn]) {
        self.run_for(2);
        let mut at = self.now;
        for turn in turns {
            at = at + Duration::from_millis(turn.wait);
            self.send_at(at, Item::Turn(turn.host % self.hosts.len(), turn.op));
        }
        self.run_until(at);
    }

    /// Mends everything: links are up, files closed, disks have room, agents alive.
    fn mend(&mut self) {
        self.strikes.clear();
        while self.hosts.iter().any(|host| host.asleep) {
            for at in 0..self.hosts.len() {
                self.wake(at);
            }
            // What they were about to do when a machine fell asleep, be it to sleep again.
            self.run_for(1);
        }
        for at in 0..self.hosts.len() {
            self.hosts[at].link = true;
            for (is_on, op) in [
                (self.hosts[at].rebase, Op::Rebase),
                (self.hosts[at].full, Op::Full),
                (self.hosts[at].paused, Op::Pause),
                (!self.hosts[at].bell, Op::Bell),
                (true, Op::Close),
            ] {
                if is_on {
                    self.turn(at, op);
                }
            }
            self.start(at);
        }
    }

    /// Goes on until every host says that it is synced with what the hub has, or for so many
    /// seconds. Who is asked for an approval gives it.
    fn run_until_synced(&mut self, seconds: u64) {
        for round in 0..seconds * 2 {
            self.run_until(self.now + Duration::from_millis(500));
            let hub = self.shared.hub;
            let synced = |host: &Host| {
                let engine = host.engine.as_ref();
                host.head == hub
                    && host.bases.is_empty()
                    && host.held_deletes.is_empty()
                    && engine.is_some_and(Engine::is_synced)
            };
            if self.hosts.iter().all(synced) && self.items.is_empty() {
                return;
            }
            for at in 0..self.hosts.len() {
                if round % 20 == 10 && self.hosts[at].is_asked() {
                    self.turn(at, Op::Approve);
                }
            }
        }
    }

    /// Returns how much work was done so far: commits and notices.
    fn work(&self) -> (usize, usize) {
        (self.shared.history.len(), self.announced)
    }

    /// Asks everybody to look at everything, as after a queue that was full.
    fn look_everywhere(&mut self) {
        for host in 0..self.hosts.len() {
            self.tell(host, Some(Event::Rescan(RescanWhy::Asked)));
        }
    }
}
