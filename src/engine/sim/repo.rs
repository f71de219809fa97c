//! The snapshots and merges of the model, step by step.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Mutant, Number};
use super::host::{Host, Shared, TreeRun};
use super::tree::{Content, Path, Tree};
use crate::engine::action::Scope;
use crate::engine::event::{
    Code, Committed, Event, Held, Merged, Recovery, Snapshotted, Trouble, Waiting,
};
use crate::engine::guard::MassDelete;
use crate::names::{ObjectId, RepoPath};

/// What is a mass delete in folders as small as these.
pub(super) const MASS: MassDelete = MassDelete {
    files: 3,
    percent: 25,
};

/// A path whose content in the tree deliberately differs from HEAD.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub(super) have: Option<Content>,
    /// The commit that has it.
    pub(super) commit: Option<Number>,
    /// It is part of a mass delete that nobody has approved.
    pub(super) removal_waits: bool,
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct SnapshotRun {
    /// HEAD as it was at the beginning.
    record: Option<Number>,
    todo: Vec<Path>,
    seen: BTreeMap<Path, Option<Content>>,
    even_open: BTreeSet<Path>,
    everything: bool,
    approved: bool,
    outcome: Snapshotted,
    stored: bool,
}

impl SnapshotRun {
    pub(super) fn new(
        host: &Host,
        shared: &Shared,
        scope: &Scope,
        even_open: &BTreeSet<RepoPath>,
        approved: bool,
    ) -> Self {
        Self {
            record: host.head,
            todo: host.scope(shared, scope),
            seen: BTreeMap::new(),
            even_open: even_open
                .iter()
                .filter_map(|it| shared.names.known(it))
                .collect(),
            everything: *scope == Scope::Everything,
            approved,
            outcome: Snapshotted::default(),
            stored: false,
        }
    }
}

pub(super) fn rebase() -> Trouble {
    Trouble::new(Code::Rebase, Recovery::Pause, "a rebase is in progress", "")
}

pub(super) fn full() -> Trouble {
    Trouble::new(Code::DiskFull, Recovery::Hold, "the disk is full", "")
}

fn moved() -> Trouble {
    let message = "the user's git moved HEAD";
    Trouble::new(Code::GitBusy, Recovery::Pause, message, "")
}

pub(super) fn mass_delete(shared: &Shared, paths: impl Iterator<Item = Path>) -> Vec<Held> {
    let paths: Vec<RepoPath> = paths.map(|path| shared.names.repo_path(path)).collect();
    if paths.is_empty() {
        return Vec::new();
    }
    vec![Held {
        code: Code::MassDelete,
        paths,
        more: 0,
        message: "many files were deleted at once".to_owned(),
        hint: String::new(),
    }]
}

/// Returns what the step from one tree to the other takes away without bringing it elsewhere.
pub(super) fn removals(old: &Tree, new: &Tree) -> BTreeSet<Path> {
    let elsewhere = |content: Content| {
        new.iter()
            .any(|(path, is)| old.get(path).is_none() && is.lines == content.lines)
    };
    old.iter()
        .filter(|(path, content)| new.get(*path).is_none() && !elsewhere(*content))
        .map(|(path, _)| path)
        .collect()
}

/// A file and what is below its name were not there together: as the program does, neither is taken.
fn leave_out_torn(shared: &Shared, run: &mut SnapshotRun) {
    let present = run.seen.iter().filter(|(_, content)| content.is_some());
    let present: Vec<Path> = present.map(|(path, _)| *path).collect();
    let is_torn = |path: Path| {
        let mut others = present.iter();
        others.any(|it| shared.names.is_below(path, *it) || shared.names.is_below(*it, path))
    };
    for path in present.iter().copied().filter(|path| is_torn(*path)) {
        run.seen.remove(&path);
        run.outcome.busy.push(Waiting {
            path: shared.names.repo_path(path),
            why: "it moved while the folder was looked at".to_owned(),
        });
    }
}

impl Host {
    /// Does one step of the tree job. Returns what it says to the engine.
    pub(super) fn step_tree(&mut self, shared: &mut Shared) -> Option<Event> {
        match self.tree_run.take()? {
            TreeRun::Recover => self.step_recover(shared),
            TreeRun::Merge { hub } => Some(Event::Merged(self.merge(shared, hub))),
            TreeRun::Apply { target, approved } => self.step_apply(shared, target, approved),
            TreeRun::Snapshot(run) => self.step_snapshot(shared, run),
            TreeRun::Reword { commit, may } => Some(self.reword(shared, commit, may)),
            TreeRun::Maintain => Some(Event::Maintained(Ok(()))),
        }
    }

    fn step_snapshot(&mut self, shared: &mut Shared, mut run: Box<SnapshotRun>) -> Option<Event> {
        if run.stored {
            self.head = self.pending.take();
            run.outcome.tip = self.head.map(|head| shared.history.id(head));
            return Some(Event::Snapshotted(run.outcome));
        }
        let trouble = if self.rebase {
            Some(rebase())
        } else if self.full {
            Some(full())
        } else {
            (self.head != run.record).then(moved)
        };
        if let Some(trouble) = trouble {
            run.outcome.tip = self.head.map(|head| shared.history.id(head));
            run.outcome.blocked = Some(trouble);
            return Some(Event::Snapshotted(run.outcome));
        }
        if !run.todo.is_empty() {
            for _ in 0..shared.rng.usize(1..=4) {
                let Some(path) = run.todo.pop() else { break };
                if self.open.contains(&path) && !run.even_open.contains(&path) {
                    let why = "open for writing".to_owned();
                    let path = shared.names.repo_path(path);
                    run.outcome.busy.push(Waiting { path, why });
                } else {
                    run.seen.insert(path, self.tree.get(path));
                }
            }
            self.tree_run = Some(TreeRun::Snapshot(run));
            return None;
        }
        if run.everything {
            self.held_deletes.clear();
        }
        leave_out_torn(shared, &mut run);
        let commit = self.commit_seen(shared, &run.seen, run.approved);
        run.outcome.deferred = self.deferred(shared);
        run.outcome.held = mass_delete(shared, self.held_deletes.iter().copied());
        if run.approved {
            self.may_approve[0] = false;
        }
        let Some(commit) = commit else {
            run.outcome.tip = self.head.map(|head| shared.history.id(head));
            return Some(Event::Snapshotted(run.outcome));
        };
        let paths = run.seen.keys().map(|path| shared.names.repo_path(*path));
        let id = shared.history.id(commit);
        run.outcome.committed = Some(Committed {
            id,
            summary: String::new(),
            paths: paths.collect(),
            count: run.seen.len(),
        });
        self.pending = Some(commit);
        run.stored = true;
        self.tree_run = Some(TreeRun::Snapshot(run));
        Some(Event::Stored { commit: id })
    }

    pub(super) fn deferred(&self, shared: &Shared) -> Vec<Waiting> {
        let waiting = |path: &Path| Waiting {
            path: shared.names.repo_path(*path),
            why: "differs on purpose".to_owned(),
        };
        self.bases.keys().map(waiting).collect()
    }

    /// Returns the commit that a change at this path is really based on, if that is not HEAD:
    /// what differs on purpose there, above or below it.
    fn base_of(&self, shared: &Shared, path: Path, content: Option<Content>) -> Option<Base> {
        if let Some(base) = self.bases.get(&path) {
            return Some(*base);
        }
        content?;
        let names = &shared.names;
        let near = |other: Path| names.is_below(path, other) || names.is_below(other, path);
        let mut bases = self.bases.iter();
        bases
            .find(|(other, _)| near(**other))
            .map(|(_, base)| *base)
    }

    /// Commits what a snapshot saw: plainly on HEAD, or on the commit that a kept path is
    /// really based on, merged with HEAD.
    fn commit_seen(
        &mut self,
        shared: &mut Shared,
        seen: &BTreeMap<Path, Option<Content>>,
        approved: bool,
    ) -> Option<Number> {
        let head = shared.history.tree(self.head);
        self.bases.retain(|path, base| head.get(*path) != base.have);
        let mut tree = head.clone();
        let mut aside: BTreeMap<Option<Number>, Vec<(Path, Option<Content>)>> = BTreeMap::new();
        // What is gone makes room for what came in its place.
        let gone = seen.iter().filter(|it| it.1.is_none());
        for (path, content) in gone.chain(seen.iter().filter(|it| it.1.is_some())) {
            if content.is_some() {
                self.held_deletes.remove(path);
            }
            let known = self.bases.contains_key(path);
            match self.base_of(shared, *path, *content) {
                Some(_) if *content == head.get(*path) => {
                    self.bases.remove(path);
                }
                Some(base) if known && *content == base.have => {}
                Some(base) if shared.mutant != Mutant::NoBases => aside
                    .entry(base.commit)
                    .or_default()
                    .push((*path, *content)),
                Some(_) | None => {
                    self.bases.remove(path);
                    tree.put_over(&shared.names, *path, *content);
                }
            }
        }
        let mass = self.hold_back(shared, &head, &mut tree, approved);
        let mut tip = self.head;
        if tree != head {
            let parents: Vec<_> = tip.into_iter().collect();
            let author = self.author(shared);
            let commit = shared.history.commit(&parents, tree, author, mass);
            shared.snapshots.push(commit);
            tip = Some(commit);
        }
        for (base, changes) in aside {
            tip = Some(self.commit_aside(shared, tip, base, &changes));
        }
        tip.filter(|_| tip != self.head)
    }

    /// Puts back the removals of a mass delete that nobody approved. Returns whether one was
    /// approved.
    fn hold_back(&mut self, shared: &Shared, head: &Tree, tree: &mut Tree, approved: bool) -> bool {
        let gone = removals(head, tree);
        let waits = self.held_deletes.iter().filter(|path| !gone.contains(path));
        if !MASS.is_exceeded(gone.len() + waits.count(), head.len()) {
            return false;
        }
        if approved {
            self.held_deletes.clear();
            return true;
        }
        for path in gone {
            if tree.in_the_way(&shared.names, path).is_empty() {
                tree.put(path, head.get(path));
                self.held_deletes.insert(path);
            }
        }
        false
    }

    /// Commits changes on the commit that they are based on, and merges that with the tip.
    fn commit_aside(
        &mut self,
        shared: &mut Shared,
        tip: Option<Number>,
        base: Option<Number>,
        changes: &[(Path, Option<Content>)],
    ) -> Number {
        let mut tree = shared.history.tree(base);
        for (path, content) in changes {
            tree.put_over(&shared.names, *path, *content);
        }
        let parents: Vec<_> = base.into_iter().collect();
        let author = self.author(shared);
        let side = shared.history.commit(&parents, tree, author, false);
        shared.snapshots.push(side);
        let before = shared.history.tree(tip);
        let merged = match tip {
            Some(tip) => {
                let Shared {
                    history,
                    names,
                    mutant,
                    ..
                } = shared;
                history.merge(names, (tip, side), author, *mutant)
            }
            None => side,
        };
        let after = shared.history.tree(Some(merged));
        for (path, have) in changes {
            self.differs(*path, *have, after.get(*path), Some(side));
        }
        for (path, content) in after.iter() {
            if before.get(path).is_none() && !changes.iter().any(|it| it.0 == path) {
                let have = self.tree.get(path).filter(|have| *have == content);
                self.differs(path, have, Some(content), base);
            }
        }
        merged
    }

    /// Notes what the tree has at a path, and in which commit that is, if HEAD has something else.
    pub(super) fn differs(
        &mut self,
        path: Path,
        have: Option<Content>,
        head: Option<Content>,
        commit: Option<Number>,
    ) {
        if have == head {
            self.bases.remove(&path);
        } else {
            let removal_waits = false;
            let base = Base {
                have,
                commit,
                removal_waits,
            };
            self.bases.insert(path, base);
        }
    }

    fn merge(&mut self, shared: &mut Shared, hub: ObjectId) -> Merged {
        if self.rebase {
            return Merged::Blocked(rebase());
        }
        if self.full {
            return Merged::Blocked(full());
        }
        let number = shared.history.number(hub);
        let Some(tip) = self.head else {
            return Merged::FastForward { target: hub };
        };
        if shared.history.contains(tip, number) {
            let tip = shared.history.id(tip);
            return Merged::UpToDate { tip };
        }
        if shared.history.contains(number, tip) {
            return Merged::FastForward { target: hub };
        }
        let is_stacked = |merge: &Number| {
            let on_hub = |hub| shared.history.contains(hub, *merge);
            shared.history.contains(tip, *merge) && !shared.hub.is_some_and(on_hub)
        };
        if shared.merges.iter().any(is_stacked) {
            self.wrong(shared, "a merge on top of one that is not on the hub");
        }
        let author = self.author(shared);
        let Shared {
            history,
            names,
            mutant,
            ..
        } = shared;
        let merge = history.merge(names, (number, tip), author, *mutant);
        shared.merges.push(merge);
        let (commit, copies) = (shared.history.id(merge), Vec::new());
        Merged::Created { commit, copies }
    }
}
