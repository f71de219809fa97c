//! One host of the model: a tree that a user works in, an engine, a link to the hub, and jobs
//! that are done in steps between which anything may happen.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Lines, Mutant, Token, Tree};
use super::repo::{Base, Journal};
use crate::engine::action::{Job, Scope};
use crate::engine::event::{
    Change, ChangeKind, Code, Event, Fetched, Pushed, Recovery, Snapshotted, Trouble,
};
use crate::engine::{Engine, Settings};
use crate::names::{ObjectId, RepoPath};

/// A tree job under way.
#[derive(Debug, Clone)]
pub(super) enum TreeRun {
    Recover,
    Snapshot(Box<SnapshotRun>),
    Merge { hub: ObjectId },
    Apply { target: ObjectId },
}

/// A snapshot under way.
#[derive(Debug, Clone)]
pub(super) struct SnapshotRun {
    pub(super) todo: Vec<String>,
    pub(super) seen: BTreeMap<String, Option<Lines>>,
    pub(super) even_open: BTreeSet<RepoPath>,
    pub(super) outcome: Snapshotted,
    pub(super) stored: bool,
}

/// A network job under way.
#[derive(Debug, Clone, Copy)]
pub(super) enum NetRun {
    /// Asked or not yet, and then what the hub said.
    Fetch {
        asked: bool,
        answer: Option<ObjectId>,
    },
    Push {
        commit: ObjectId,
        answer: Option<bool>,
    },
}

/// What is shared by all hosts.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) history: History,
    pub(super) hub: Option<ObjectId>,
    pub(super) mutant: Mutant,
    pub(super) rng: fastrand::Rng,
    next_token: Token,
    /// Every token that a user wrote.
    pub(super) written: BTreeSet<Token>,
    /// Tokens that were overwritten or deleted by somebody who had them before their eyes.
    pub(super) superseded: BTreeSet<Token>,
    /// Tokens that are in the tree of another host than the one that makes a step now.
    pub(super) in_trees: BTreeSet<Token>,
    /// What the oracle saw that must not be.
    pub(super) violations: Vec<String>,
}

impl Shared {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        Self {
            history: History::default(),
            hub: None,
            mutant,
            rng: fastrand::Rng::with_seed(seed),
            next_token: 0,
            written: BTreeSet::new(),
            superseded: BTreeSet::new(),
            in_trees: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.written.insert(self.next_token);
        self.next_token
    }
}

#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) engine: Option<Engine>,
    pub(super) settings: Settings,
    pub(super) tree: Tree,
    pub(super) open: BTreeSet<String>,
    pub(super) head: Option<ObjectId>,
    pub(super) pending: Option<ObjectId>,
    pub(super) journal: Option<Journal>,
    pub(super) bases: BTreeMap<String, Base>,
    pub(super) hub_seen: Option<ObjectId>,
    pub(super) tree_run: Option<TreeRun>,
    pub(super) net_run: Option<NetRun>,
    /// Grows with every kill: what was on its way to the one that was killed never arrives.
    pub(super) life: u32,
    pub(super) link: bool,
    /// The user is in the middle of a rebase.
    pub(super) rebase: bool,
    /// What the watcher saw and did not say yet.
    pub(super) watched: Vec<Change>,
}

fn unreachable() -> Trouble {
    let message = "the hub does not answer";
    Trouble::new(Code::HubUnreachable, Recovery::Retry, message, "")
}

impl Host {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            name: settings.host.clone(),
            engine: None,
            settings,
            tree: Tree::new(),
            open: BTreeSet::new(),
            head: None,
            pending: None,
            journal: None,
            bases: BTreeMap::new(),
            hub_seen: None,
            tree_run: None,
            net_run: None,
            life: 0,
            link: true,
            rebase: false,
            watched: Vec::new(),
        }
    }

    // --- the user ---

    /// The user writes one line of a file, or all of it.
    pub(super) fn write(&mut self, shared: &mut Shared, path: &str, line: usize) {
        let old = self.tree.get(path).copied();
        let mut new = old.unwrap_or_default();
        for (at, token) in new.iter_mut().enumerate() {
            if old.is_none() || line >= 3 || at == line {
                shared.superseded.extend(old.map(|old| old[at]));
                *token = shared.token();
            }
        }
        self.tree.insert(path.to_owned(), new);
        let kind = if self.open.contains(path) {
            ChangeKind::Written
        } else {
            ChangeKind::Closed
        };
        self.saw(path, kind);
    }

    pub(super) fn delete(&mut self, shared: &mut Shared, path: &str) {
        if let Some(old) = self.tree.remove(path) {
            shared.superseded.extend(old);
            self.open.remove(path);
            self.saw(path, ChangeKind::Removed);
        }
    }

    pub(super) fn rename(&mut self, shared: &mut Shared, from: &str, to: &str) {
        if from == to || self.open.contains(from) || self.open.contains(to) {
            return;
        }
        if let Some(lines) = self.tree.remove(from) {
            let replaced = self.tree.insert(to.to_owned(), lines);
            shared.superseded.extend(replaced.into_iter().flatten());
            self.saw(from, ChangeKind::Removed);
            self.saw(to, ChangeKind::Closed);
        }
    }

    pub(super) fn close_all(&mut self) {
        for path in std::mem::take(&mut self.open) {
            self.saw(&path, ChangeKind::Closed);
        }
    }

    /// The user commits everything with their own git.
    pub(super) fn user_commit(&mut self, shared: &mut Shared) -> bool {
        let idle = self.tree_run.is_none() && self.journal.is_none() && self.pending.is_none();
        if !idle || !self.bases.is_empty() || shared.history.tree(self.head) == self.tree {
            return false;
        }
        let parents: Vec<_> = self.head.into_iter().collect();
        let tree = self.tree.clone();
        self.head = Some(shared.history.commit(&parents, tree, &self.name));
        true
    }

    fn saw(&mut self, path: &str, kind: ChangeKind) {
        self.watched.push(Change {
            path: RepoPath::new(path).unwrap(),
            kind,
        });
    }

    // --- the edge ---

    pub(super) fn kill(&mut self) {
        self.engine = None;
        self.tree_run = None;
        self.net_run = None;
        self.watched.clear();
        self.life += 1;
    }

    /// Starts a job that the engine ordered.
    pub(super) fn start(&mut self, shared: &mut Shared, job: Job) {
        match job {
            Job::Fetch => self.start_net(
                shared,
                NetRun::Fetch {
                    asked: false,
                    answer: None,
                },
            ),
            Job::Push { commit } => {
                let answer = None;
                self.start_net(shared, NetRun::Push { commit, answer });
            }
            Job::Recover => self.start_tree(shared, TreeRun::Recover),
            Job::Merge { hub } => self.start_tree(shared, TreeRun::Merge { hub }),
            Job::Apply { target, .. } => self.start_tree(shared, TreeRun::Apply { target }),
            Job::Snapshot {
                scope, even_open, ..
            } => {
                if self.journal.is_some() {
                    let what = format!("{}: a snapshot while a journal is open", self.name);
                    shared.violations.push(what);
                }
                let todo = match scope {
                    Scope::Paths(paths) => paths.iter().map(ToString::to_string).collect(),
                    Scope::Everything => self.all_paths(shared),
                };
                let run = SnapshotRun {
                    todo,
                    seen: BTreeMap::new(),
                    even_open,
                    outcome: Snapshotted::default(),
                    stored: false,
                };
                self.start_tree(shared, TreeRun::Snapshot(Box::new(run)));
            }
            Job::Maintain | Job::Reword { .. } | Job::Notes => {
                shared
                    .violations
                    .push("nothing to maintain or to say".to_owned());
            }
        }
    }

    fn start_tree(&mut self, shared: &mut Shared, run: TreeRun) {
        if self.tree_run.replace(run).is_some() {
            let what = format!("{}: two jobs in the tree lane", self.name);
            shared.violations.push(what);
        }
    }

    fn start_net(&mut self, shared: &mut Shared, run: NetRun) {
        if self.net_run.replace(run).is_some() {
            let what = format!("{}: two jobs in the network lane", self.name);
            shared.violations.push(what);
        }
    }

    fn all_paths(&self, shared: &Shared) -> Vec<String> {
        let head = shared.history.tree(self.head);
        let all: BTreeSet<String> = self
            .tree
            .keys()
            .chain(head.keys())
            .chain(self.bases.keys())
            .cloned()
            .collect();
        all.into_iter().collect()
    }

    /// Does one step of the network job. Returns what it says to the engine.
    pub(super) fn step_net(&mut self, shared: &mut Shared) -> Option<Event> {
        let run = self.net_run.take()?;
        match run {
            NetRun::Fetch { asked: false, .. } if self.link => {
                let (asked, answer) = (true, shared.hub);
                self.net_run = Some(NetRun::Fetch { asked, answer });
                None
            }
            NetRun::Fetch { answer, .. } if self.link => {
                self.hub_seen = answer.or(self.hub_seen);
                Some(Event::Fetched(Fetched::Tip(answer)))
            }
            NetRun::Push {
                commit,
                answer: None,
            } if self.link => {
                let taken = shared
                    .hub
                    .is_none_or(|hub| shared.history.contains(commit, hub));
                if taken {
                    shared.hub = Some(commit);
                }
                let answer = Some(taken);
                self.net_run = Some(NetRun::Push { commit, answer });
                None
            }
            NetRun::Push {
                commit,
                answer: Some(taken),
            } if self.link => Some(Event::Pushed(if taken {
                self.hub_seen = Some(commit);
                Pushed::Confirmed { commit }
            } else {
                Pushed::Rejected
            })),
            NetRun::Fetch { .. } => Some(Event::Fetched(Fetched::Failed(unreachable()))),
            NetRun::Push { .. } => Some(Event::Pushed(Pushed::Failed(unreachable()))),
        }
    }
}
