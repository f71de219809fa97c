//! The two lanes, and what is started on them next.
//!
//! Local edits are committed before anything is merged over them; a merge that came in is
//! applied before anything else touches the tree; what others pushed is fetched before we push.

use std::collections::BTreeSet;
use std::time::Duration;

use super::action::{Action, Job, Lane, Scope, Trigger};
use super::event::Code;
use super::notice::Circle;
use super::receiving::Receiving;
use super::settle::Batch;
use super::timer::{Moment, Site, Timer};
use super::{Engine, FetchWhy, RELEASE_MAX};
use crate::names::ObjectId;

/// What is in flight.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    tree: Option<TreeWork>,
    network: Option<NetworkWork>,
    maintaining: bool,
}

/// A job on the tree lane.
#[derive(Debug, Clone)]
pub(super) enum TreeWork {
    Recover,
    Snapshot(Flight),
    Merge { hub: ObjectId },
    Apply { target: ObjectId, approved: bool },
    Reword { commit: ObjectId, message: String },
    Recall { ticket: u64 },
}

/// A snapshot in flight.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// The changes it was started for; `None` for a full look that nothing but a timer asked for.
    pub(super) batch: Option<Batch>,
    pub(super) scope: Scope,
    pub(super) trigger: Trigger,
    pub(super) approved: bool,
}

/// A job on the network lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkWork {
    /// `rung`: started because of a notice alone, and whose it was.
    Fetch {
        rung: Option<Circle>,
    },
    Push {
        commit: ObjectId,
    },
    Notes,
}

impl Lanes {
    pub(super) fn is_free(&self) -> bool {
        self.tree.is_none() && self.network.is_none() && !self.maintaining
    }

    pub(super) fn tree_is_free(&self) -> bool {
        self.tree.is_none() && !self.maintaining
    }

    pub(super) fn network_is_free(&self) -> bool {
        self.network.is_none() && !self.maintaining
    }

    pub(super) fn has_free(&self, lane: Lane) -> bool {
        match lane {
            Lane::Tree => self.tree_is_free(),
            Lane::Network => self.network_is_free(),
            Lane::Both => self.is_free(),
        }
    }

    pub(super) fn tree(&self) -> Option<&TreeWork> {
        self.tree.as_ref()
    }

    pub(super) fn exchanges_notes(&self) -> bool {
        self.network == Some(NetworkWork::Notes)
    }

    /// Takes the tree job off its lane if it is of the kind that `is` picks. An outcome that
    /// belongs to no job in flight is a leftover of before a restart and changes nothing.
    pub(super) fn end_tree<T>(&mut self, is: impl FnOnce(TreeWork) -> Option<T>) -> Option<T> {
        let ended = is(self.tree.clone()?)?;
        self.tree = None;
        Some(ended)
    }

    /// Takes the network job off its lane if it is of the kind that `is` says.
    pub(super) fn end_network_if(
        &mut self,
        is: impl FnOnce(NetworkWork) -> bool,
    ) -> Option<NetworkWork> {
        self.network.take_if(|work| is(*work))
    }
}

impl Engine {
    /// Starts whatever may start now.
    pub(super) fn advance(&mut self, now: Moment) {
        if !self.stopping && !self.paused {
            self.advance_tree(now);
            self.advance_network(now);
        }
        self.end_asking();
        self.note_state(now);
    }

    /// Whether a snapshot of what is ripe may start.
    pub(super) fn may_snapshot(&self) -> bool {
        !self.stopping
            && !self.paused
            && self.recovered
            && self.lanes.tree_is_free()
            && !self.timers.is_set(Timer::Retry(Site::Snapshot))
            && !self.timers.is_set(Timer::Young)
            && !self.is_reserved()
            && !matches!(self.receiving, Receiving::Ready { .. })
    }

    /// Whether the tree lane is kept free for a merge that is being pushed: so that one who
    /// types all the time receives all the same.
    fn is_reserved(&self) -> bool {
        matches!(self.receiving, Receiving::Publishing { .. })
            && self.timers.is_set(Timer::Reserve)
            && !self.timers.is_set(Timer::Retry(Site::Push))
    }

    fn advance_tree(&mut self, now: Moment) {
        if !self.lanes.tree_is_free() {
            return;
        }
        if !self.recovered {
            if !self.timers.is_set(Timer::Retry(Site::Snapshot)) {
                self.run_tree(TreeWork::Recover, Job::Recover);
            }
            return;
        }
        if let Receiving::Ready { target, hub } = self.receiving
            && !self.timers.is_set(Timer::Retry(Site::Receive))
        {
            self.receiving = Receiving::Applying { hub };
            self.run_apply(target, false);
            return;
        }
        let is_ready = matches!(self.receiving, Receiving::Ready { .. });
        if !is_ready && !self.timers.is_set(Timer::Retry(Site::Snapshot)) && self.put_down_words() {
            return;
        }
        if self.may_snapshot() {
            let flush = self.may_merge() && !self.flushed;
            if self.scan.is_some() || flush && !self.settle.is_empty() {
                if let Some(until) = self.settle.young_removal(now)
                    && !self.has_waited_for_young(now)
                {
                    self.timers.set(Timer::Young, until);
                    return;
                }
                self.young_since = None;
                if self.snapshot_all(now, flush) {
                    return;
                }
            }
        }
        if self.start_recall() {
            return;
        }
        if self.may_merge() {
            if !self.take_up_merge(now) {
                self.run_merge();
            }
            return;
        }
        if self.may_snapshot()
            && let Some(batch) = self.settle.take_ripe(now)
        {
            self.run_snapshot(Some(batch), Trigger::Edit);
            return;
        }
        if self.look && self.may_snapshot() {
            self.start_snapshot(None, Scope::Paths(BTreeSet::new()), Trigger::Scan);
            return;
        }
        if self.release && !self.timers.is_set(Timer::Retry(Site::Receive)) {
            self.release = false;
            if let Some(tip) = self.tip
                && (self.record.has_deferred() || self.record.has_incoming_held())
            {
                self.release_wait = (self.release_wait * 2).min(RELEASE_MAX);
                let overdue = std::mem::take(&mut self.overdue);
                self.run_apply(tip, overdue);
            }
        }
    }

    /// Whether enough has been waited for removals that may be half of a rename: one longest
    /// window, however many follow each other.
    fn has_waited_for_young(&mut self, now: Moment) -> bool {
        let since = *self.young_since.get_or_insert(now);
        now.since(since) >= self.settings.settle.quiet_max
    }

    /// Commits all that waits, for a full look or before a merge. Returns whether it started.
    fn snapshot_all(&mut self, now: Moment, flush: bool) -> bool {
        let batch = self.settle.take_all(now);
        match (self.scan.take(), batch) {
            (Some(trigger), batch) => {
                self.counters.rescans += 1;
                self.start_snapshot(batch, Scope::Everything, trigger);
                true
            }
            (None, Some(batch)) => {
                let trigger = if flush { Trigger::Merge } else { Trigger::Edit };
                self.run_snapshot(Some(batch), trigger);
                true
            }
            (None, None) => false,
        }
    }

    fn run_snapshot(&mut self, batch: Option<Batch>, trigger: Trigger) {
        let scope = batch
            .as_ref()
            .map_or(Scope::Everything, |batch| batch.scope.clone());
        self.start_snapshot(batch, scope, trigger);
    }

    fn start_snapshot(&mut self, batch: Option<Batch>, scope: Scope, trigger: Trigger) {
        self.counters.snapshots += u64::from(!scope.is_nothing());
        self.look = false;
        self.timers.clear(Timer::Look);
        let approved = self.approved_snapshot && scope == Scope::Everything;
        let job = Job::Snapshot {
            scope: scope.clone(),
            even_open: batch
                .as_ref()
                .map(|batch| batch.even_open.clone())
                .unwrap_or_default(),
            trigger,
            approved,
        };
        let flight = Flight {
            batch,
            scope,
            trigger,
            approved,
        };
        self.run_tree(TreeWork::Snapshot(flight), job);
    }

    fn run_merge(&mut self) {
        if let Some(hub) = self.hub.tip() {
            self.receiving = Receiving::Merging;
            self.flushed = false;
            self.run_tree(TreeWork::Merge { hub }, Job::Merge { hub });
        }
    }

    fn run_apply(&mut self, target: ObjectId, overdue: bool) {
        let approved = self.approved_apply || overdue;
        self.run_tree(
            TreeWork::Apply { target, approved },
            Job::Apply { target, approved },
        );
    }

    pub(super) fn run_tree(&mut self, work: TreeWork, job: Job) {
        self.outages.begin(Lane::Tree);
        self.lanes.tree = Some(work);
        self.actions.push_back(Action::Run(job));
    }

    fn advance_network(&mut self, now: Moment) {
        if !self.settings.has_hub || !self.recovered || !self.lanes.network_is_free() {
            return;
        }
        let may_push = self.is_sound() && !self.timers.is_set(Timer::Retry(Site::Push));
        if let Receiving::Publishing { commit, .. } = self.receiving
            && may_push
        {
            self.run_push(commit);
            return;
        }
        if !self.timers.is_set(Timer::Retry(Site::Fetch))
            && let Some(why) = self.fetch
            && self.may_ring(now, why)
        {
            self.fetch = None;
            let rung = match why {
                FetchWhy::Rung(_, circle) => Some(circle),
                FetchWhy::Due => None,
            };
            self.run_network(NetworkWork::Fetch { rung }, Job::Fetch);
            return;
        }
        if may_push
            && self.push_now
            && self.wants_push()
            && !self.waits_for_words()
            && self.receiving == Receiving::Idle
            && !self.wants_merge()
            && let Some(tip) = self.tip
        {
            self.run_push(tip);
            return;
        }
        if self.may_exchange_notes() {
            self.describing.notes = false;
            self.run_network(NetworkWork::Notes, Job::Notes);
        }
    }

    /// Notes that could not be brought over come with the next poll.
    pub(super) fn on_notes_exchanged(&mut self) {
        self.lanes
            .end_network_if(|work| matches!(work, NetworkWork::Notes));
    }

    /// Whether nothing is known to be damaged here: else nothing is pushed and nothing repacked.
    fn is_sound(&self) -> bool {
        [Site::Snapshot, Site::Receive].into_iter().all(|site| {
            self.outages
                .at(site)
                .is_none_or(|trouble| trouble.code != Code::Damaged)
        })
    }

    fn run_push(&mut self, commit: ObjectId) {
        self.bell.know(commit);
        self.note_push();
        self.run_network(NetworkWork::Push { commit }, Job::Push { commit });
    }

    fn run_network(&mut self, work: NetworkWork, job: Job) {
        self.outages.begin(Lane::Network);
        self.lanes.network = Some(work);
        self.actions.push_back(Action::Run(job));
    }

    /// Repacks when the folder has been without a commit for a while and it is worth it.
    pub(super) fn maintain(&mut self, now: Moment) {
        let may = self.is_sound() && self.recovered && !self.paused && !self.stopping;
        if !self.is_quiet() || !may {
            let wait = self
                .rng
                .jitter(self.settings.maintain_after.max(A_MOMENT), 0.5, 1.0);
            self.timers.set(Timer::Maintain, now + wait);
            return;
        }
        self.since_maintenance = 0;
        self.lanes.maintaining = true;
        self.actions.push_back(Action::Run(Job::Maintain));
    }

    /// Counts a commit, made here or received, towards the next repack.
    pub(super) fn count_towards_maintenance(&mut self, now: Moment) {
        self.since_maintenance = self.since_maintenance.saturating_add(1);
        if self.since_maintenance >= self.settings.maintain_commits {
            let wait = self
                .rng
                .jitter(self.settings.maintain_after.max(A_MOMENT), 1.0, 1.2);
            self.timers.set(Timer::Maintain, now + wait);
        }
    }

    /// A repack that failed costs speed, not safety: the next commits ask for one again.
    pub(super) fn on_maintained(&mut self) {
        self.lanes.maintaining = false;
    }
}

/// A floor for waits that a person set to nothing.
const A_MOMENT: Duration = Duration::from_secs(1);
