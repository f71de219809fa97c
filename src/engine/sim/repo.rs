//! The tree jobs of the model, step by step: snapshot, merge, apply and what a kill leaves.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Lines, Mutant, Tree};
use super::host::{Host, Shared, SnapshotRun, TreeRun};
use crate::engine::event::{
    Applied, Change, ChangeKind, Code, Committed, Event, Merged, Recovered, Recovery, Trouble,
    Waiting,
};
use crate::names::{ObjectId, RepoPath};

/// A path whose content in the tree deliberately differs from HEAD.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    have: Option<Lines>,
    commit: Option<ObjectId>,
}

/// An apply that was begun. It survives a kill.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    from: Option<ObjectId>,
    target: ObjectId,
    /// What is to be there, what must be there before, and what came of it.
    plan: BTreeMap<String, Planned>,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    expected: Option<Lines>,
    new: Option<Lines>,
    result: Option<Result>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Result {
    Done,
    Kept,
    Deferred,
}

fn rebase() -> Trouble {
    Trouble::new(Code::Rebase, Recovery::Pause, "a rebase is in progress", "")
}

fn waiting(path: &str, why: &str) -> Waiting {
    Waiting {
        path: RepoPath::new(path).unwrap(),
        why: why.to_owned(),
    }
}

impl Host {
    /// Does one step of the tree job. Returns what it says to the engine.
    pub(super) fn step_tree(&mut self, shared: &mut Shared) -> Option<Event> {
        match self.tree_run.take()? {
            TreeRun::Recover => self.step_recover(shared),
            TreeRun::Merge { hub } => Some(Event::Merged(self.merge(shared, hub))),
            TreeRun::Apply { target } => self.step_apply(shared, target),
            TreeRun::Snapshot(run) => self.step_snapshot(shared, run),
        }
    }

    fn step_snapshot(&mut self, shared: &mut Shared, mut run: Box<SnapshotRun>) -> Option<Event> {
        if run.stored {
            self.head = self.pending.take();
            run.outcome.tip = self.head;
            return Some(Event::Snapshotted(run.outcome));
        }
        if self.rebase {
            run.outcome.blocked = Some(rebase());
            return Some(Event::Snapshotted(run.outcome));
        }
        if let Some(path) = run.todo.pop() {
            let name = RepoPath::new(&path).unwrap();
            if self.open.contains(&path) && !run.even_open.contains(&name) {
                run.outcome.busy.push(waiting(&path, "open for writing"));
            } else {
                let content = self.tree.get(&path).copied();
                run.seen.insert(path, content);
            }
            self.tree_run = Some(TreeRun::Snapshot(run));
            return None;
        }
        let commit = self.commit_seen(shared, &run.seen);
        run.outcome.deferred = self.deferred();
        let Some(commit) = commit else {
            run.outcome.tip = self.head;
            return Some(Event::Snapshotted(run.outcome));
        };
        let paths = run.seen.keys().map(|path| RepoPath::new(path).unwrap());
        run.outcome.committed = Some(Committed {
            id: commit,
            summary: String::new(),
            paths: paths.collect(),
            count: run.seen.len(),
        });
        self.pending = Some(commit);
        run.stored = true;
        self.tree_run = Some(TreeRun::Snapshot(run));
        Some(Event::Stored { commit })
    }

    fn deferred(&self) -> Vec<Waiting> {
        let why = "differs on purpose";
        self.bases.keys().map(|path| waiting(path, why)).collect()
    }

    /// Commits what a snapshot saw: plainly on HEAD, or on the commit that a kept path is
    /// really based on, merged with HEAD.
    fn commit_seen(
        &mut self,
        shared: &mut Shared,
        seen: &BTreeMap<String, Option<Lines>>,
    ) -> Option<ObjectId> {
        let head = shared.history.tree(self.head);
        self.bases
            .retain(|path, base| head.get(path).copied() != base.have);
        let mut tree = head.clone();
        let mut aside: BTreeMap<Option<ObjectId>, Vec<(String, Option<Lines>)>> = BTreeMap::new();
        for (path, content) in seen {
            let head_has = head.get(path).copied();
            match self.bases.get(path) {
                Some(_) if *content == head_has => {
                    self.bases.remove(path);
                }
                Some(base) if *content == base.have => {}
                Some(base) if shared.mutant != Mutant::NoBases => aside
                    .entry(base.commit)
                    .or_default()
                    .push((path.clone(), *content)),
                Some(_) | None => {
                    self.bases.remove(path);
                    put(&mut tree, path, *content);
                }
            }
        }
        let mut tip = self.head;
        if tree != head {
            let parents: Vec<_> = tip.into_iter().collect();
            tip = Some(shared.history.commit(&parents, tree, &self.name));
        }
        for (base, changes) in aside {
            let mut side_tree = shared.history.tree(base);
            for (path, content) in &changes {
                put(&mut side_tree, path, *content);
            }
            let parents: Vec<_> = base.into_iter().collect();
            let side = shared.history.commit(&parents, side_tree, &self.name);
            let before = shared.history.tree(tip);
            let merged = match tip {
                Some(tip) => {
                    let (name, mutant) = (self.name.clone(), shared.mutant);
                    shared.history.merge(tip, side, &name, mutant)
                }
                None => side,
            };
            let after = shared.history.tree(Some(merged));
            for (path, have) in changes {
                if after.get(&path).copied() == have {
                    self.bases.remove(&path);
                } else {
                    let commit = Some(side);
                    self.bases.insert(path, Base { have, commit });
                }
            }
            for path in after.keys().filter(|path| !before.contains_key(*path)) {
                if !self.tree.contains_key(path) {
                    let (have, commit) = (None, base);
                    self.bases.insert(path.clone(), Base { have, commit });
                }
            }
            tip = Some(merged);
        }
        tip.filter(|_| tip != self.head)
    }

    fn merge(&mut self, shared: &mut Shared, hub: ObjectId) -> Merged {
        if self.rebase {
            return Merged::Blocked(rebase());
        }
        let Some(tip) = self.head else {
            return Merged::FastForward { target: hub };
        };
        if shared.history.contains(tip, hub) {
            return Merged::UpToDate { tip };
        }
        if shared.history.contains(hub, tip) {
            return Merged::FastForward { target: hub };
        }
        let (name, mutant) = (self.name.clone(), shared.mutant);
        let commit = shared.history.merge(hub, tip, &name, mutant);
        let copies = Vec::new();
        Merged::Created { commit, copies }
    }

    fn blocked(&self, code: Code, recovery: Recovery) -> Event {
        Event::Applied(Applied {
            tip: self.head,
            deferred: self.deferred(),
            blocked: Some(Trouble::new(code, recovery, "not now", "")),
            ..Applied::default()
        })
    }

    fn step_apply(&mut self, shared: &mut Shared, target: ObjectId) -> Option<Event> {
        if self.journal.is_none() {
            if self.rebase {
                return Some(self.blocked(Code::Rebase, Recovery::Pause));
            }
            if self
                .head
                .is_some_and(|head| !shared.history.contains(target, head))
            {
                return Some(self.blocked(Code::GitBusy, Recovery::Retry));
            }
            self.journal = Some(self.plan(shared, target));
            self.tree_run = Some(TreeRun::Apply { target });
            return None;
        }
        let Some(journal) = self.step_journal(shared) else {
            self.tree_run = Some(TreeRun::Apply { target });
            return None;
        };
        let count = |result| {
            journal
                .plan
                .iter()
                .filter(move |(_, planned)| planned.result == Some(result))
                .map(|(path, _)| RepoPath::new(path).unwrap())
        };
        let paths: Vec<RepoPath> = count(Result::Done).collect();
        Some(Event::Applied(Applied {
            tip: self.head,
            count: paths.len(),
            paths,
            kept: count(Result::Kept).collect(),
            deferred: self.deferred(),
            host: Some(shared.history.host(target).to_owned()),
            ..Applied::default()
        }))
    }

    fn plan(&self, shared: &Shared, target: ObjectId) -> Journal {
        let (head, after) = (
            shared.history.tree(self.head),
            shared.history.tree(Some(target)),
        );
        let paths: BTreeSet<&String> = head
            .keys()
            .chain(after.keys())
            .chain(self.bases.keys())
            .collect();
        let plan = paths
            .into_iter()
            .filter_map(|path| {
                let base = self.bases.get(path);
                let in_head = head.get(path).copied();
                let expected = base.map_or(in_head, |base| base.have);
                let new = after.get(path).copied();
                let result = None;
                let planned = Planned {
                    expected,
                    new,
                    result,
                };
                (expected != new || base.is_some()).then(|| (path.clone(), planned))
            })
            .collect();
        Journal {
            from: self.head,
            target,
            plan,
        }
    }

    /// Does one step of an open journal. Returns it when it is through.
    fn step_journal(&mut self, shared: &mut Shared) -> Option<Journal> {
        let mut journal = self.journal.take()?;
        let next = journal.plan.iter_mut().find(|(_, p)| p.result.is_none());
        if let Some((path, planned)) = next {
            let there = self.tree.get(path).copied();
            let blind = shared.mutant == Mutant::BlindApply;
            planned.result = Some(if planned.expected == planned.new {
                Result::Done
            } else if self.open.contains(path) && !blind {
                Result::Deferred
            } else if there == planned.new {
                Result::Done
            } else if there == planned.expected || blind {
                put(&mut self.tree, path, planned.new);
                let kind = match planned.new {
                    Some(_) => ChangeKind::Closed,
                    None => ChangeKind::Removed,
                };
                self.watched.push(Change {
                    path: RepoPath::new(path.as_str()).unwrap(),
                    kind,
                });
                judge(shared, &self.name, path, there, journal.target);
                Result::Done
            } else {
                Result::Kept
            });
            self.journal = Some(journal);
            return None;
        }
        for (path, planned) in &journal.plan {
            if planned.result == Some(Result::Done) {
                self.bases.remove(path);
            } else {
                let commit = self.bases.get(path).map_or(journal.from, |b| b.commit);
                let have = planned.expected;
                self.bases.insert(path.clone(), Base { have, commit });
            }
        }
        self.head = Some(journal.target);
        Some(journal)
    }

    fn step_recover(&mut self, shared: &mut Shared) -> Option<Event> {
        if self.journal.is_some() {
            self.step_journal(shared);
            self.tree_run = Some(TreeRun::Recover);
            return None;
        }
        if let Some(pending) = self.pending.take() {
            let follows = self
                .head
                .is_none_or(|head| shared.history.contains(pending, head));
            if follows {
                self.head = Some(pending);
            }
        }
        Some(Event::Recovered(Recovered {
            tip: self.head,
            copies: Vec::new(),
            marked: Vec::new(),
            hub: self.hub_seen,
            id: Some("folder".to_owned()),
            blocked: None,
        }))
    }
}

fn put(tree: &mut Tree, path: &str, content: Option<Lines>) {
    match content {
        Some(lines) => tree.insert(path.to_owned(), lines),
        None => tree.remove(path),
    };
}

/// The causal rule, at the very moment: what an apply takes out of a tree is still somewhere in
/// what it brings, or somebody who had it before their eyes replaced it, or has it under
/// another name that is not committed yet.
fn judge(shared: &mut Shared, host: &str, path: &str, old: Option<Lines>, target: ObjectId) {
    let tree = shared.history.tree(Some(target));
    for token in old.into_iter().flatten() {
        let alive = tree.values().any(|lines| lines.contains(&token));
        if !alive && !shared.superseded.contains(&token) && !shared.in_trees.contains(&token) {
            let what = format!("{host}: an apply took {token} out of {path}");
            shared.violations.push(what);
        }
    }
}
