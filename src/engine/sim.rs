//! The model simulation: engines as they are built, on hosts, trees and a hub that are models.
//!
//! Applies are done in steps with the user at work between any two, notices get lost, doubled
//! and late, links go down, agents are killed at any moment. Then everything is mended, and the
//! oracle asks: do all hosts agree, is anything lost, does it stay quiet?
//!
//! The oracle is causal. Every line that a user writes carries a token of its own, and a token
//! may leave the tree only through somebody who had it before their eyes, through a clean
//! merge, or into a conflict copy.
//!
//! Invariant: a run is decided by its plan and its seed alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::Action;
use super::event::{Event, RescanWhy};
use super::notice::{Circle, Notice};
use super::timer::Moment;
use super::{Engine, Settings};
mod cases;
mod history;
mod host;
mod repo;

use history::Mutant;
use host::{Host, Shared};

/// What a user, or fate, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// Writes one line of a file; line 3 is the whole file.
    Write {
        file: usize,
        line: usize,
    },
    /// The same, but the file stays open for writing.
    WriteOpen {
        file: usize,
        line: usize,
    },
    /// Closes every open file.
    Close,
    Delete {
        file: usize,
    },
    Rename {
        file: usize,
        to: usize,
    },
    /// Commits with their own git.
    Commit,
    /// Begins or ends a rebase.
    Rebase,
    /// The agent is killed and started again after a while.
    Kill,
    /// The link to the hub goes down or comes back.
    Link,
    /// The watcher loses events and says so.
    Overflow,
}

/// One operation, how long after the one before it comes, and on which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    wait: u64,
    host: usize,
    op: Op,
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Item {
    Turn(usize, Op),
    StepTree(usize, u32),
    StepNet(usize, u32),
    Watched(usize, u32),
    Ring(usize, Notice),
    Start(usize),
}

/// The whole model.
struct World {
    now: Moment,
    shared: Shared,
    hosts: Vec<Host>,
    items: BTreeMap<(Moment, u64), Item>,
    next_item: u64,
    /// How many notices of a hundred are lost.
    lossy: u64,
    trace: Vec<String>,
    announced: usize,
    /// How many steps of jobs were done, and what happens just before a certain one.
    steps: usize,
    strike: Option<(usize, usize, Op)>,
}

/// The names that users write to; more exist once there are conflict copies.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    fn new(seed: u64, hosts: usize, lossy: u64, mutant: Mutant) -> Self {
        let names = ["laptop", "server", "phone"];
        let mut world = Self {
            now: Moment::default(),
            hosts: names[..hosts]
                .iter()
                .map(|name| {
                    Host::new(Settings {
                        host: (*name).to_owned(),
                        maintain_commits: u32::MAX,
                        ..Settings::default()
                    })
                })
                .collect(),
            items: BTreeMap::new(),
            next_item: 0,
            lossy,
            trace: Vec::new(),
            announced: 0,
            steps: 0,
            strike: None,
            shared: Shared::new(seed, mutant),
        };
        for host in 0..hosts {
            world.send_in(0, 5, Item::Start(host));
        }
        world
    }

    /// Sends something that arrives between `least` and `most` milliseconds from now.
    fn send_in(&mut self, least: u64, most: u64, item: Item) {
        let wait = self.shared.rng.u64(least..=most);
        self.next_item += 1;
        let at = self.now + Duration::from_millis(wait);
        self.items.insert((at, self.next_item), item);
    }

    /// Returns when the next thing happens.
    fn next(&self) -> Option<Moment> {
        let timeouts = self
            .hosts
            .iter()
            .filter_map(|host| host.engine.as_ref()?.poll_timeout());
        let item = self.items.keys().next().map(|key| key.0);
        timeouts.chain(item).min()
    }

    /// Goes on until then.
    fn run_until(&mut self, end: Moment) {
        while let Some(next) = self.next()
            && next <= end
        {
            self.now = self.now.max(next);
            if let Some(entry) = self.items.first_entry()
                && entry.key().0 <= self.now
            {
                let item = entry.remove();
                self.arrive(item);
            } else {
                for host in 0..self.hosts.len() {
                    if let Some(engine) = &mut self.hosts[host].engine
                        && engine.poll_timeout().is_some_and(|at| at <= self.now)
                    {
                        engine.handle_timeout(self.now);
                        self.carry_out(host);
                    }
                }
            }
        }
        self.now = end;
    }

    fn run_for(&mut self, seconds: u64) {
        self.run_until(self.now + Duration::from_secs(seconds));
    }

    fn arrive(&mut self, item: Item) {
        if matches!(item, Item::StepTree(..) | Item::StepNet(..)) {
            self.steps += 1;
            if let Some((_, host, op)) = self.strike.take_if(|strike| strike.0 + 1 == self.steps) {
                self.turn(host, op);
            }
        }
        match item {
            Item::Turn(host, op) => self.turn(host, op),
            Item::Start(host) => self.start(host),
            Item::StepTree(host, life) if self.hosts[host].life == life => {
                let others = self.hosts.iter().enumerate();
                self.shared.in_trees = others
                    .filter(|(at, _)| *at != host)
                    .flat_map(|(_, other)| other.tree.values().flatten().copied())
                    .collect();
                let event = self.hosts[host].step_tree(&mut self.shared);
                self.after_watch(host);
                if self.hosts[host].tree_run.is_some() {
                    self.send_in(1, 30, Item::StepTree(host, life));
                }
                self.tell(host, event);
            }
            Item::StepNet(host, life) if self.hosts[host].life == life => {
                let event = self.hosts[host].step_net(&mut self.shared);
                if self.hosts[host].net_run.is_some() {
                    self.send_in(1, 60, Item::StepNet(host, life));
                }
                self.tell(host, event);
            }
            Item::Watched(host, life) if self.hosts[host].life == life => {
                let changes = std::mem::take(&mut self.hosts[host].watched);
                if !changes.is_empty() {
                    self.tell(host, Some(Event::Changed(changes)));
                }
            }
            Item::Ring(host, notice) => self.tell(host, Some(Event::Noticed(notice, Circle::Own))),
            Item::StepTree(..) | Item::StepNet(..) | Item::Watched(..) => {}
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].engine.is_none() {
            let seed = self.shared.rng.u64(..);
            let settings = self.hosts[host].settings.clone();
            self.hosts[host].engine = Some(Engine::new(settings, seed, self.now));
            self.carry_out(host);
            let event = Event::Transport {
                name: "hub",
                online: true,
            };
            self.tell(host, Some(event));
        }
    }

    /// Tells the engine of a host, if it lives.
    fn tell(&mut self, host: usize, event: Option<Event>) {
        let (Some(event), Some(engine)) = (event, &mut self.hosts[host].engine) else {
            return;
        };
        self.trace
            .push(format!("{:?} {host} {event:?}", self.now.0));
        engine.handle_event(self.now, event);
        self.carry_out(host);
    }

    fn carry_out(&mut self, host: usize) {
        let life = self.hosts[host].life;
        while let Some(action) = self.hosts[host]
            .engine
            .as_mut()
            .and_then(Engine::poll_action)
        {
            self.trace
                .push(format!("{:?} {host} {action:?}", self.now.0));
            match action {
                Action::Run(job) => {
                    let lane = job.lane();
                    self.hosts[host].start(&mut self.shared, job);
                    match lane {
                        super::action::Lane::Tree => {
                            self.send_in(1, 30, Item::StepTree(host, life));
                        }
                        super::action::Lane::Network => {
                            self.send_in(1, 60, Item::StepNet(host, life));
                        }
                        super::action::Lane::Both => {}
                    }
                }
                Action::Announce(notice) => self.ring(host, &notice),
                Action::Tell(_) | Action::Confirm(_) => {}
            }
        }
    }

    /// Carries a notice to everybody else: late, doubled, or not at all.
    fn ring(&mut self, from: usize, notice: &Notice) {
        self.announced += 1;
        let on_hub = |commit| {
            let hub = self.shared.hub;
            hub.is_some_and(|hub| self.shared.history.contains(hub, commit))
        };
        if !notice.commit.is_some_and(on_hub) {
            let what = format!("{notice:?} was announced and is not on the hub");
            self.shared.violations.push(what);
        }
        for host in 0..self.hosts.len() {
            let copies = if self.shared.rng.u64(0..100) < self.lossy {
                0
            } else {
                1 + usize::from(self.shared.rng.u64(0..10) == 0)
            };
            for _ in 0..copies {
                if host != from {
                    self.send_in(1, 400, Item::Ring(host, notice.clone()));
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
        let name = |host: &Host, file: usize| {
            let copies = host.tree.keys().filter(|path| path.contains('('));
            let names: Vec<String> = NAMES
                .iter()
                .map(ToString::to_string)
                .chain(copies.cloned())
                .collect();
            names[file % names.len()].clone()
        };
        let host = &mut self.hosts[at];
        let shared = &mut self.shared;
        match op {
            Op::Write { file, line } => {
                let path = name(host, file);
                host.write(shared, &path, line);
            }
            Op::WriteOpen { file, line } => {
                let path = name(host, file);
                host.open.insert(path.clone());
                host.write(shared, &path, line);
            }
            Op::Close => host.close_all(),
            Op::Delete { file } => {
                let path = name(host, file);
                host.delete(shared, &path);
            }
            Op::Rename { file, to } => {
                let (path, to) = (name(host, file), name(host, to));
                host.rename(shared, &path, &to);
            }
            Op::Commit => {
                if host.user_commit(shared) {
                    self.tell(at, Some(Event::GitMoved));
                }
            }
            Op::Rebase => {
                host.rebase = !host.rebase;
                self.tell(at, Some(Event::GitMoved));
            }
            Op::Kill => {
                host.kill();
                self.send_in(0, 3_000, Item::Start(at));
            }
            Op::Link => host.link = !host.link,
            Op::Overflow => {
                host.watched.clear();
                self.tell(at, Some(Event::Rescan(RescanWhy::Overflow)));
            }
        }
        self.after_watch(at);
    }

    /// Lets the users play their turns.
    fn play(&mut self, turns: &[Turn]) {
        self.run_for(2);
        let mut at = self.now;
        for turn in turns {
            at = at + Duration::from_millis(turn.wait);
            self.next_item += 1;
            let item = Item::Turn(turn.host % self.hosts.len(), turn.op);
            self.items.insert((at, self.next_item), item);
        }
        self.run_until(at);
    }

    /// Mends everything: links are up, files closed, agents alive.
    fn mend(&mut self) {
        for host in 0..self.hosts.len() {
            self.hosts[host].link = true;
            if std::mem::take(&mut self.hosts[host].rebase) {
                self.tell(host, Some(Event::GitMoved));
            }
            self.hosts[host].close_all();
            self.after_watch(host);
            self.start(host);
        }
    }

    /// Goes on until every host says that it is synced with what the hub has, or for so many
    /// seconds.
    fn run_until_synced(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.run_until(self.now + Duration::from_millis(500));
            let hub = self.shared.hub;
            let synced = |host: &Host| {
                let engine = host.engine.as_ref();
                host.head == hub && engine.is_some_and(Engine::is_synced)
            };
            if self.hosts.iter().all(synced) && self.items.is_empty() {
                return;
            }
        }
    }

    /// Returns what is wrong with the world after it has been mended and left alone.
    fn judge(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.shared.violations);
        let agreed = self.shared.history.tree(self.shared.hub);
        for host in &self.hosts {
            if host.head != self.shared.hub {
                let (head, hub) = (host.head, self.shared.hub);
                wrong.push(format!("{} is at {head:?}, the hub at {hub:?}", host.name));
            }
            if host.tree != agreed {
                let tree = &host.tree;
                wrong.push(format!("{} has {tree:?}, the hub {agreed:?}", host.name));
            }
            let synced = host.engine.as_ref().is_some_and(Engine::is_synced);
            if !synced && self.shared.hub.is_some() {
                wrong.push(format!("{} does not think that it is synced", host.name));
            }
        }
        for token in &self.shared.written {
            let alive = agreed.values().any(|lines| lines.contains(token));
            if !alive && !self.shared.superseded.contains(token) {
                wrong.push(format!("{token} is lost"));
            }
        }
        wrong
    }

    /// Returns how much work was done so far: commits and notices.
    fn work(&self) -> (usize, usize) {
        (self.shared.history.len(), self.announced)
    }
}
