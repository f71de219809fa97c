//! The applies of the model, step by step, and what a kill leaves.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Mutant, Number};
use super::host::{Host, Shared, TreeRun};
use super::repo::{self, Base, MASS, mass_delete, removals};
use super::tree::{Content, Path};
use crate::engine::event::{Applied, ChangeKind, Code, Event, Recovered, Recovery, Trouble};

/// An apply that was begun. It survives a kill.
#[derive(Debug)]
pub(super) struct Journal {
    from: Option<Number>,
    target: Number,
    /// In this order: what goes makes room for what comes.
    plan: Vec<Planned>,
}

/// What is to be at a path, what must be there before, and what came of it.
#[derive(Debug, Clone, Copy)]
struct Planned {
    path: Path,
    expected: Option<Content>,
    new: Option<Content>,
    result: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Kept,
    Deferred,
    Waits,
}

impl Host {
    /// Returns the commit that an apply which was begun is bringing.
    pub(super) fn applying(&self) -> Option<Number> {
        self.journal.as_ref().map(|journal| journal.target)
    }

    fn blocked(&self, shared: &Shared, trouble: Trouble, unfinished: bool) -> Event {
        Event::Applied(Applied {
            tip: self.head.map(|head| shared.history.id(head)),
            deferred: self.deferred(shared),
            held: self.waiting_removals(shared),
            blocked: Some(trouble),
            unfinished,
            ..Applied::default()
        })
    }

    fn waiting_removals(&self, shared: &Shared) -> Vec<crate::engine::event::Held> {
        let waits = self.bases.iter().filter(|(_, base)| base.removal_waits);
        mass_delete(shared, waits.map(|(path, _)| *path))
    }

    pub(super) fn step_apply(
        &mut self,
        shared: &mut Shared,
        target: Number,
        approved: bool,
    ) -> Option<Event> {
        let again = TreeRun::Apply { target, approved };
        if self.journal.is_none() {
            if self.rebase {
                return Some(self.blocked(shared, repo::rebase(), false));
            }
            if self.full {
                return Some(self.blocked(shared, repo::full(), false));
            }
            let is_behind = |head| shared.history.contains(target, head);
            if !self.head.is_none_or(is_behind) {
                let message = "the user's git moved HEAD";
                let trouble = Trouble::new(Code::GitBusy, Recovery::Retry, message, "");
                return Some(self.blocked(shared, trouble, false));
            }
            self.journal = Some(self.plan(shared, target, approved));
            self.tree_run = Some(again);
            return None;
        }
        if self.full {
            let message = "writing failed";
            let trouble = Trouble::new(Code::Io, Recovery::Retry, message, "");
            return Some(self.blocked(shared, trouble, true));
        }
        let Some(journal) = self.step_journal(shared) else {
            self.tree_run = Some(again);
            return None;
        };
        if approved {
            self.may_approve[1] = false;
        }
        let with = |outcome| {
            let is = move |it: &&Planned| it.result == Some(outcome);
            let planned = journal.plan.iter().filter(is);
            planned.map(|it| shared.names.repo_path(it.path))
        };
        let paths: Vec<_> = with(Outcome::Done).collect();
        let author = shared.history.get(target).author;
        Some(Event::Applied(Applied {
            tip: self.head.map(|head| shared.history.id(head)),
            count: paths.len(),
            paths,
            kept: with(Outcome::Kept).collect(),
            deferred: self.deferred(shared),
            held: self.waiting_removals(shared),
            host: Some(super::HOSTS[author.host].to_owned()),
            ..Applied::default()
        }))
    }

    fn plan(&self, shared: &mut Shared, target: Number, approved: bool) -> Journal {
        let head = shared.history.tree(self.head);
        let after = shared.history.tree(Some(target));
        let removed = removals(&head, &after);
        let mut agreed: BTreeSet<Path> = BTreeSet::new();
        if approved {
            agreed.extend(&removed);
        } else {
            for commit in shared.history.between(self.head, target) {
                let commit = shared.history.get(commit);
                if commit.approved {
                    let before = shared.history.tree(commit.parents.first().copied());
                    agreed.extend(removals(&before, &commit.tree));
                }
            }
        }
        let unapproved = removed.difference(&agreed).count();
        let is_mass = MASS.is_exceeded(unapproved, head.len());
        let holds = is_mass && shared.mutant != Mutant::NoMassGuard;
        let paths = head.iter().chain(after.iter()).map(|it| it.0);
        let paths: BTreeSet<Path> = paths.chain(self.bases.keys().copied()).collect();
        let mut plan = Vec::new();
        for path in paths {
            let base = self.bases.get(&path);
            let expected = base.map_or(head.get(path), |base| base.have);
            let new = after.get(path);
            if expected == new && base.is_none() {
                continue;
            }
            let is_agreed = approved || agreed.contains(&path);
            let still = base.is_some_and(|base| base.removal_waits) && !is_agreed;
            let waits = new.is_none() && (still || holds && removed.contains(&path) && !is_agreed);
            plan.push(Planned {
                path,
                expected,
                new,
                result: waits.then_some(Outcome::Waits),
            });
        }
        plan.sort_by_key(|it| it.new.is_some());
        let slips = |it: &Planned| {
            let is_removal = removed.contains(&it.path) && !agreed.contains(&it.path);
            is_removal && it.result != Some(Outcome::Waits)
        };
        if is_mass && plan.iter().any(slips) {
            let what = format!("{}: nobody approved the removals of {target}", self.number);
            shared.violations.push(what);
        }
        Journal {
            from: self.head,
            target,
            plan,
        }
    }

    /// Does one step of an open journal. Returns it when it is through.
    fn step_journal(&mut self, shared: &mut Shared) -> Option<Journal> {
        let mut journal = self.journal.take()?;
        if let Some(planned) = journal.plan.iter_mut().find(|it| it.result.is_none()) {
            planned.result = Some(self.step_path(shared, *planned, journal.target));
            self.journal = Some(journal);
            return None;
        }
        let mut bases = BTreeMap::new();
        for planned in &journal.plan {
            if planned.result != Some(Outcome::Done) {
                let path = planned.path;
                let base = self.bases.get(&path);
                let base = Base {
                    have: planned.expected,
                    commit: base.map_or(journal.from, |base| base.commit),
                    removal_waits: planned.result == Some(Outcome::Waits),
                };
                bases.insert(path, base);
            }
        }
        self.bases = bases;
        self.head = Some(journal.target);
        Some(journal)
    }

    /// Writes or removes one path, if what is there is what was expected.
    fn step_path(&mut self, shared: &mut Shared, planned: Planned, target: Number) -> Outcome {
        let Planned {
            path,
            expected,
            new,
            ..
        } = planned;
        let there = self.tree.get(path);
        let blind = shared.mutant == Mutant::BlindApply;
        if expected == new {
            return Outcome::Done;
        }
        if self.open.contains(&path) && !blind {
            return Outcome::Deferred;
        }
        let beside = self.tree.in_the_way(&shared.names, path);
        let room = new.is_none() || beside.is_empty();
        if there == new && room {
            return Outcome::Done;
        }
        if !(there == expected && room || blind) {
            return Outcome::Kept;
        }
        shared.displaced(path, there, target);
        if new.is_some() {
            for (other, content) in beside {
                shared.displaced(other, Some(content), target);
            }
        }
        self.tree.put_over(&shared.names, path, new);
        let kind = match new {
            Some(_) => ChangeKind::Closed,
            None => ChangeKind::Removed,
        };
        self.saw(shared, path, kind);
        Outcome::Done
    }

    pub(super) fn step_recover(&mut self, shared: &mut Shared) -> Option<Event> {
        let mut recovered = Recovered {
            tip: None,
            copies: Vec::new(),
            marked: Vec::new(),
            hub: self.hub_seen.map(|hub| shared.history.id(hub)),
            id: Some("folder".to_owned()),
            blocked: None,
        };
        if self.journal.is_some() {
            if self.full {
                recovered.blocked = Some(repo::full());
                return Some(Event::Recovered(recovered));
            }
            self.step_journal(shared);
            self.tree_run = Some(TreeRun::Recover);
            return None;
        }
        if let Some(pending) = self.pending.take() {
            let follows = |head| shared.history.contains(pending, head);
            if self.head.is_none_or(follows) {
                self.head = Some(pending);
            }
        }
        recovered.tip = self.head.map(|head| shared.history.id(head));
        Some(Event::Recovered(recovered))
    }
}
