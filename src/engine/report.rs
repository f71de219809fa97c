//! What the engine remembers for people, and how it says it in the status schema.
//!
//! Invariant: every list in here is bounded; what is cut is counted.

use std::collections::BTreeSet;

use super::action::Scope;
use super::event::{
    Applied, Code, Committed, ConflictCopy, Held, Marked, Recovery, Trouble, Waiting,
};
use super::receiving::hub_emptied;
use super::status::{
    ConflictStatus, DeferredStatus, FolderStatus, HeldStatus, HubStatus, Last, Moment as At,
    Pending, State,
};
use super::timer::{Moment, Site, Timer};
use super::{Engine, Hub, Reasons};
use crate::names::{ObjectId, RepoPath};

/// So many skipped, deferred and conflicting paths are remembered each.
const MOST: usize = 1_000;
/// So many hosts are remembered as having the latest push.
const HOSTS: usize = 64;

/// What the edge knows about a folder and the engine does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderBasics {
    /// Its name.
    pub name: String,
    /// Its root.
    pub path: String,
    /// The hub's address without secrets; `None` without a hub.
    pub hub_url: Option<String>,
}

/// What happened last, and what stands now.
#[derive(Debug, Clone)]
pub(super) struct Record {
    commit: Option<(ObjectId, Moment)>,
    push: Option<(ObjectId, Moment)>,
    /// Which hosts said that they have the latest push.
    arrived: BTreeSet<String>,
    receive: Option<(ObjectId, Moment, Option<String>)>,
    hub_ok: Option<Moment>,
    held_here: Vec<Held>,
    held_incoming: Vec<Held>,
    skipped: Reasons,
    busy: Reasons,
    deferred: Reasons,
    conflicts: Vec<ConflictCopy>,
    marked: Vec<Marked>,
    state: (State, Code),
    since: Moment,
}

impl Record {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            commit: None,
            push: None,
            arrived: BTreeSet::new(),
            receive: None,
            hub_ok: None,
            held_here: Vec::new(),
            held_incoming: Vec::new(),
            skipped: Reasons::new(),
            busy: Reasons::new(),
            deferred: Reasons::new(),
            conflicts: Vec::new(),
            marked: Vec::new(),
            state: (State::Working, Code::Ok),
            since: now,
        }
    }

    pub(super) fn committed(&mut self, now: Moment, committed: &Committed) {
        self.commit = Some((committed.id, now));
        self.settle_conflicts(&committed.paths);
    }

    pub(super) fn pushed(&mut self, now: Moment, commit: ObjectId) {
        self.push = Some((commit, now));
        self.arrived.clear();
        self.hub_ok = Some(now);
    }

    /// Takes that a host has a commit. Returns all that have it if it is the latest push and the
    /// host is new.
    pub(super) fn arrived(&mut self, commit: ObjectId, host: String) -> Option<Vec<String>> {
        let latest = self.push.is_some_and(|(pushed, _)| pushed == commit);
        let new = latest && self.arrived.len() < HOSTS && self.arrived.insert(host);
        new.then(|| self.arrived.iter().cloned().collect())
    }

    pub(super) fn reached(&mut self, now: Moment) {
        self.hub_ok = Some(now);
    }

    pub(super) fn applied(
        &mut self,
        now: Moment,
        target: ObjectId,
        moved: bool,
        outcome: &Applied,
    ) {
        if moved {
            self.receive = Some((target, now, outcome.host.clone()));
        }
        self.settle_conflicts(&outcome.paths);
        self.conflicts.extend(outcome.copies.iter().cloned());
        let surplus = self.conflicts.len().saturating_sub(MOST);
        self.conflicts.drain(..surplus);
    }

    /// Takes the conflict copies that an earlier run left in the tree.
    pub(super) fn stand(&mut self, copies: Vec<ConflictCopy>) {
        for copy in copies.into_iter().take(MOST) {
            if self.conflicts.iter().all(|known| known.copy != copy.copy) {
                self.conflicts.push(copy);
            }
        }
    }

    /// Takes which files hold markers of somebody's git. Returns those that did not before.
    pub(super) fn mark(&mut self, mut marked: Vec<Marked>) -> Vec<Marked> {
        marked.truncate(MOST);
        let before = std::mem::replace(&mut self.marked, marked);
        let is_new = |now: &&Marked| !before.iter().any(|old| old.path == now.path);
        self.marked.iter().filter(is_new).cloned().collect()
    }

    /// A copy that somebody touched has been seen to.
    fn settle_conflicts(&mut self, paths: &[RepoPath]) {
        self.conflicts
            .retain(|conflict| !paths.contains(&conflict.copy));
    }

    /// Takes what a snapshot left out, within what it looked at.
    pub(super) fn skipped(&mut self, scope: &Scope, skipped: Vec<Waiting>, busy: &[Waiting]) {
        for reasons in [&mut self.skipped, &mut self.busy] {
            match scope {
                Scope::Everything => reasons.clear(),
                Scope::Paths(paths) => {
                    reasons.retain(|path, _| {
                        !paths.contains(path)
                            && !path.ancestors().any(|parent| paths.contains(&parent))
                    });
                }
            }
        }
        remember(&mut self.skipped, skipped);
        remember(&mut self.busy, busy.to_vec());
    }

    /// Takes what deliberately differs from HEAD. Returns whether something is new in it.
    pub(super) fn defer(&mut self, deferred: Vec<Waiting>) -> bool {
        let before = std::mem::take(&mut self.deferred);
        remember(&mut self.deferred, deferred);
        self.deferred.keys().any(|path| !before.contains_key(path))
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    pub(super) fn is_deferred(&self, path: &RepoPath) -> bool {
        self.deferred.contains_key(path)
    }

    pub(super) fn has_held_here(&self) -> bool {
        !self.held_here.is_empty()
    }

    pub(super) fn has_incoming_held(&self) -> bool {
        !self.held_incoming.is_empty()
    }

    /// Takes what guards hold back here. Returns what was not held before.
    pub(super) fn hold_here(&mut self, held: Vec<Held>) -> Vec<Held> {
        replace(&mut self.held_here, held)
    }

    /// Takes what guards hold back of what came in. Returns what was not held before.
    pub(super) fn hold_incoming(&mut self, held: Vec<Held>) -> Vec<Held> {
        replace(&mut self.held_incoming, held)
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        self.held_here.iter().chain(&self.held_incoming)
    }

    fn mass_delete(&self) -> Option<&Held> {
        self.held().find(|held| held.code == Code::MassDelete)
    }
}

fn remember(reasons: &mut Reasons, waiting: Vec<Waiting>) {
    let room = MOST.saturating_sub(reasons.len());
    for Waiting { path, why } in waiting.into_iter().take(room) {
        reasons.insert(path, why);
    }
}

/// Puts `new` in the place of `old` and returns the groups that are new. A group that only grew
/// is the same group: it is told once. But of secrets and junk each is a matter of its own.
fn replace(old: &mut Vec<Held>, new: Vec<Held>) -> Vec<Held> {
    let before: BTreeSet<_> = old
        .iter()
        .flat_map(|held| held.paths.iter().map(|path| (held.code, path.clone())))
        .collect();
    let codes: BTreeSet<_> = old.iter().map(|held| held.code).collect();
    let is_old = |held: &Held| {
        let mut paths = held.paths.iter();
        let known = |path: &RepoPath| before.contains(&(held.code, path.clone()));
        let old = if matches!(held.code, Code::Secret | Code::Junk) {
            paths.all(known)
        } else {
            held.paths.is_empty() || paths.any(known)
        };
        codes.contains(&held.code) && old
    };
    let news = new.iter().filter(|held| !is_old(held)).cloned().collect();
    *old = new;
    news
}

impl Engine {
    /// Returns the folder's status. `render` makes RFC 3339 text of a moment; `progress` is
    /// left to the edge that runs the job.
    pub fn status(&self, base: FolderBasics, render: &dyn Fn(Moment) -> String) -> FolderStatus {
        let (state, code, message, mut hint) = self.state();
        if code == Code::MassDelete
            && !self.record.has_held_here()
            && let Some(at) = self.timers.at(Timer::Unattended)
        {
            hint = format!("{hint} Without a word they go here at {}.", render(at));
        }
        let at = |entry: &(ObjectId, Moment)| At {
            oid: entry.0.to_string(),
            at: render(entry.1),
            host: None,
        };
        let record = &self.record;
        let receive = record.receive.as_ref().map(|(commit, moment, host)| At {
            oid: commit.to_string(),
            at: render(*moment),
            host: host.clone(),
        });
        let conflicts = record.conflicts.iter().map(|conflict| ConflictStatus {
            path: conflict.path.to_string(),
            copy: conflict.copy.to_string(),
            host: conflict.host.clone(),
            since: conflict.since.clone(),
        });
        FolderStatus {
            name: base.name,
            path: base.path,
            id: self.id.clone().unwrap_or_default(),
            branch: self.settings.branch.clone(),
            state,
            code: code.word(),
            message,
            hint,
            since: render(self.record.since),
            hub: base.hub_url.map(|url| HubStatus {
                url,
                reachable: self.hub_is_reachable(),
                last_ok: record.hub_ok.map(render).unwrap_or_default(),
            }),
            head: self.tip.map(|tip| tip.to_string()).unwrap_or_default(),
            published: self.is_published(),
            pending: Pending {
                paths: self.settle.len(),
                commits: if self.settings.has_hub {
                    self.unpushed
                } else {
                    0
                },
            },
            held: record
                .held_here
                .iter()
                .map(|held| held_status(held, false))
                .chain(
                    record
                        .held_incoming
                        .iter()
                        .map(|held| held_status(held, true)),
                )
                .collect(),
            deferred: record
                .deferred
                .iter()
                .chain(&record.busy)
                .chain(&record.skipped)
                .map(|(path, why)| DeferredStatus {
                    path: path.to_string(),
                    why: why.clone(),
                })
                .collect(),
            conflicts: conflicts.collect(),
            marked: record.marked.iter().map(Into::into).collect(),
            aside: Vec::new(),
            last: Last {
                commit: record.commit.as_ref().map(at),
                push: record.push.as_ref().map(at),
                receive,
            },
            progress: None,
            counters: self.counters,
        }
    }

    /// Returns what stops the folder and passes once a person approves it, all of it: the status
    /// names only the gravest.
    pub fn stopped(&self) -> Vec<Trouble> {
        let emptied = (self.hub == Hub::Emptied).then(hub_emptied);
        let others = self.outages.all().filter(|trouble| {
            trouble.recovery == Recovery::Hold
                && trouble.code != Code::HubEmptied
                && Code::APPROVABLE.contains(&trouble.code)
        });
        emptied.into_iter().chain(others.cloned()).collect()
    }

    /// Whether the hub has our tip.
    fn is_published(&self) -> bool {
        self.tip.is_some() && self.tip == self.hub.tip()
    }

    fn hub_is_reachable(&self) -> bool {
        [Site::Fetch, Site::Push].into_iter().all(|site| {
            self.outages
                .at(site)
                .is_none_or(|trouble| matches!(trouble.code, Code::Contended | Code::Declined))
        }) && self.record.hub_ok.is_some()
    }

    /// What the folder is doing, which trouble, a sentence and what to do.
    fn state(&self) -> (State, Code, String, String) {
        if self.paused {
            let hint = "Run `autosync resume` to go on.".to_owned();
            let message = "paused as you asked".to_owned();
            return (State::Paused, Code::Paused, message, hint);
        }
        if let Some((trouble, _)) = self.outages.worst() {
            let state = match trouble.recovery {
                Recovery::Retry => State::Retry,
                Recovery::Pause => State::Paused,
                Recovery::Hold => State::Held,
            };
            let trouble = trouble.clone();
            return (state, trouble.code, trouble.message, trouble.hint);
        }
        if let Some(held) = self.record.mass_delete() {
            let held = held.clone();
            return (State::Held, held.code, held.message, held.hint);
        }
        let state = if self.is_quiet() {
            State::Idle
        } else {
            State::Working
        };
        (state, Code::Ok, String::new(), String::new())
    }

    /// Notes since when the folder is in its state.
    pub(super) fn note_state(&mut self, now: Moment) {
        let (state, code, _, _) = self.state();
        if self.record.state != (state, code) {
            self.record.state = (state, code);
            self.record.since = now;
        }
    }
}

fn held_status(held: &Held, incoming: bool) -> HeldStatus {
    HeldStatus {
        code: held.code.word(),
        paths: held.paths.iter().map(ToString::to_string).collect(),
        more: held.more,
        message: held.message.clone(),
        hint: held.hint.clone(),
        incoming,
    }
}
