//! One host of the model: a tree that a user works in, an engine, a link to the hub, and jobs
//! that are done in steps between which anything may happen.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::Journal;
use super::history::{Author, History, Mutant, Number};
use super::oracle::Ledger;
use super::repo::{Base, SnapshotRun};
use super::tree::{Names, Path, Tree};
use crate::engine::action::{Job, Lane, Scope};
use crate::engine::event::{Change, Code, Described, Event, Fetched, Pushed, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::engine::{Engine, Settings};
use crate::names::ObjectId;

/// A tree job under way.
#[derive(Debug)]
pub(super) enum TreeRun {
    Recover,
    Snapshot(Box<SnapshotRun>),
    Merge {
        hub: ObjectId,
    },
    Apply {
        target: Number,
        approved: bool,
    },
    Reword {
        commit: ObjectId,
        may: bool,
    },
    /// It has both lanes.
    Maintain,
}

/// A network job under way.
#[derive(Debug, Clone, Copy)]
pub(super) enum NetRun {
    /// Asked or not yet, and then what the hub said.
    Fetch {
        asked: bool,
        answer: Option<Number>,
    },
    Push {
        commit: Number,
        answer: Option<bool>,
    },
    Notes,
}

/// What is shared by all hosts.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) names: Names,
    pub(super) history: History,
    pub(super) ledger: Ledger,
    pub(super) hub: Option<Number>,
    pub(super) mutant: Mutant,
    pub(super) rng: fastrand::Rng,
    /// What time it is, but for the clocks of the hosts.
    pub(super) now: Moment,
    /// The merges with the hub that were made.
    pub(super) merges: Vec<Number>,
    /// The commits that snapshots made.
    pub(super) snapshots: Vec<Number>,
    /// What the oracle saw that must not be.
    pub(super) violations: Vec<String>,
}

impl Shared {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        Self {
            names: Names::default(),
            history: History::default(),
            ledger: Ledger::default(),
            hub: None,
            mutant,
            rng: fastrand::Rng::with_seed(seed),
            now: Moment::default(),
            merges: Vec::new(),
            snapshots: Vec::new(),
            violations: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) number: usize,
    pub(super) engine: Option<Engine>,
    pub(super) settings: Settings,
    pub(super) tree: Tree,
    pub(super) open: BTreeSet<Path>,
    pub(super) head: Option<Number>,
    pub(super) pending: Option<Number>,
    pub(super) journal: Option<Journal>,
    pub(super) bases: BTreeMap<Path, Base>,
    /// Deletions that wait for approval.
    pub(super) held_deletes: BTreeSet<Path>,
    /// Whether a person let a snapshot, or an apply, pass what the guards hold.
    pub(super) may_approve: [bool; 2],
    pub(super) hub_seen: Option<Number>,
    pub(super) tree_run: Option<TreeRun>,
    pub(super) net_run: Option<NetRun>,
    /// Grows with every kill: what was on its way to the one that was killed never arrives.
    pub(super) life: u32,
    pub(super) link: bool,
    pub(super) bell: bool,
    pub(super) full: bool,
    pub(super) asleep: bool,
    pub(super) paused: bool,
    /// The user is in the middle of a rebase.
    pub(super) rebase: bool,
    /// What the watcher saw and did not say yet.
    pub(super) watched: Vec<Change>,
    /// How far the agent's clock is ahead of the world's: it goes on while the machine sleeps.
    pub(super) ahead: Moment,
    /// How far the wall clock is off, in seconds.
    pub(super) skew: i64,
    /// When the engine wants to be called.
    pub(super) timeout: Option<Moment>,
}

pub(super) fn unreachable() -> Trouble {
    let message = "the hub does not answer";
    Trouble::new(Code::HubUnreachable, Recovery::Retry, message, "")
}

impl Host {
    pub(super) fn new(number: usize, settings: Settings) -> Self {
        Self {
            number,
            engine: None,
            settings,
            tree: Tree::default(),
            open: BTreeSet::new(),
            head: None,
            pending: None,
            journal: None,
            bases: BTreeMap::new(),
            held_deletes: BTreeSet::new(),
            may_approve: [false; 2],
            hub_seen: None,
            tree_run: None,
            net_run: None,
            life: 0,
            link: true,
            bell: true,
            full: false,
            asleep: false,
            paused: false,
            rebase: false,
            watched: Vec::new(),
            ahead: Moment::default(),
            skew: 0,
            timeout: None,
        }
    }

    pub(super) fn author(&self, shared: &Shared) -> Author {
        let seconds = i64::try_from(shared.now.0.as_secs()).unwrap();
        Author {
            host: self.number,
            date: seconds + self.skew,
        }
    }

    pub(super) fn kill(&mut self) {
        self.engine = None;
        self.tree_run = None;
        self.net_run = None;
        self.watched.clear();
        self.may_approve = [false; 2];
        self.paused = false;
        self.life += 1;
        self.timeout = None;
    }

    pub(super) fn wrong(&self, shared: &mut Shared, what: &str) {
        let what = format!("{}: {what}", self.number);
        shared.violations.push(what);
    }

    /// Starts a job that the engine ordered.
    pub(super) fn start(&mut self, shared: &mut Shared, job: Job) {
        let lane = job.lane();
        let busy = match lane {
            Lane::Tree => self.tree_run.is_some(),
            Lane::Network => self.net_run.is_some() || self.maintains(),
            Lane::Both => self.tree_run.is_some() || self.net_run.is_some(),
        };
        if busy {
            self.wrong(shared, &format!("two jobs in a lane: {job:?}"));
        }
        let is_tree_job = matches!(job, Job::Snapshot { .. } | Job::Apply { .. });
        if is_tree_job && self.journal.is_some() {
            self.wrong(shared, &format!("{job:?} while a journal is open"));
        }
        match job {
            Job::Fetch => {
                let (asked, answer) = (false, None);
                self.net_run = Some(NetRun::Fetch { asked, answer });
            }
            Job::Push { commit } => {
                let (commit, answer) = (shared.history.number(commit), None);
                self.net_run = Some(NetRun::Push { commit, answer });
            }
            Job::Notes => self.net_run = Some(NetRun::Notes),
            Job::Recover => self.tree_run = Some(TreeRun::Recover),
            Job::Merge { hub } => self.tree_run = Some(TreeRun::Merge { hub }),
            Job::Apply { target, approved } => {
                if approved && !self.may_approve[1] {
                    self.wrong(shared, "an apply that nobody approved");
                }
                let target = shared.history.number(target);
                self.tree_run = Some(TreeRun::Apply { target, approved });
            }
            Job::Snapshot {
                scope,
                even_open,
                approved,
                ..
            } => {
                if approved && !self.may_approve[0] {
                    self.wrong(shared, "a snapshot that nobody approved");
                }
                let run = SnapshotRun::new(self, shared, &scope, &even_open, approved);
                self.tree_run = Some(TreeRun::Snapshot(Box::new(run)));
            }
            Job::Reword {
                commit, may_reword, ..
            } => {
                let may = may_reword;
                self.tree_run = Some(TreeRun::Reword { commit, may });
            }
            Job::Maintain => self.tree_run = Some(TreeRun::Maintain),
            Job::Recall(_) => self.wrong(shared, "nobody wanted anything back"),
        }
    }

    fn maintains(&self) -> bool {
        matches!(self.tree_run, Some(TreeRun::Maintain))
    }

    /// Returns the paths that a snapshot looks at.
    pub(super) fn scope(&self, shared: &Shared, scope: &Scope) -> Vec<Path> {
        let head = shared.history.tree(self.head);
        let tree = self.tree.iter().map(|it| it.0);
        let all = tree.chain(head.iter().map(|it| it.0));
        let all: BTreeSet<Path> = all.chain(self.bases.keys().copied()).collect();
        let Scope::Paths(paths) = scope else {
            return all.into_iter().collect();
        };
        let named: Vec<Path> = paths
            .iter()
            .filter_map(|it| shared.names.known(it))
            .collect();
        let is_in = |path: &Path| {
            named
                .iter()
                .any(|it| it == path || shared.names.is_below(*path, *it))
        };
        all.into_iter().filter(is_in).collect()
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
                let tip = answer.map(|tip| shared.history.id(tip));
                Some(Event::Fetched(Fetched::Tip(tip)))
            }
            NetRun::Push {
                commit,
                answer: None,
            } if self.link => {
                let follows = |hub| shared.history.contains(commit, hub);
                let taken = shared.hub.is_none_or(follows) || shared.mutant == Mutant::ForcedPush;
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
                let commit = shared.history.id(commit);
                Pushed::Confirmed { commit }
            } else {
                Pushed::Rejected
            })),
            NetRun::Notes if self.link => Some(Event::NotesExchanged(Ok(()))),
            NetRun::Notes => Some(Event::NotesExchanged(Err(unreachable()))),
            NetRun::Fetch { .. } => Some(Event::Fetched(Fetched::Failed(unreachable()))),
            NetRun::Push { .. } => Some(Event::Pushed(Pushed::Failed(unreachable()))),
        }
    }

    /// Puts down a user's words: in a new commit in the place of the tip, if that may be.
    pub(super) fn reword(&mut self, shared: &mut Shared, from: ObjectId, may: bool) -> Event {
        let number = shared.history.number(from);
        let is_tip = self.head == Some(number) && self.pending.is_none() && self.journal.is_none();
        if !may || !is_tip || self.rebase {
            return Event::Described(Described::Noted);
        }
        if shared
            .hub
            .is_some_and(|hub| shared.history.contains(hub, number))
        {
            self.wrong(shared, "a commit that the hub has gets another message");
        }
        let old = shared.history.get(number);
        let (parents, tree, approved) = (old.parents.clone(), old.tree.clone(), old.approved);
        let author = self.author(shared);
        let commit = shared.history.commit(&parents, tree, author, approved);
        self.head = Some(commit);
        let to = shared.history.id(commit);
        Event::Described(Described::Reworded { from, to })
    }
}
