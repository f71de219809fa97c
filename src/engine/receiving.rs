//! From the bell to the tree: notices, fetches, merges and applies.
//!
//! A merge is pushed before it is applied, so that what a host applies is always what the hub
//! has. If the hub moved or a commit was made here meanwhile, the merge is made again.

use std::time::Duration;

use super::action::{Action, Tell};
use super::event::{Applied, Code, Fetched, Merged, Recovery, Trouble};
use super::lanes::{NetworkWork, TreeWork};
use super::notice::{Circle, Notice};
use super::timer::{Moment, Site, Timer};
use super::{Engine, FetchWhy, Hub, Mode, TRANSPORT_POLL};
use crate::names::ObjectId;

/// For how long the tree lane is kept free for a merge that is being pushed.
const RESERVE: Duration = Duration::from_secs(1);

/// Where we are between a tip of the hub and the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing is under way.
    Idle,
    /// The merge is in flight.
    Merging,
    /// This merge, made from our tip `onto` and the hub's `hub`, is to be on the hub first.
    Publishing {
        commit: ObjectId,
        onto: Option<ObjectId>,
        hub: ObjectId,
    },
    /// This commit is to be applied; it contains `hub`.
    Ready { target: ObjectId, hub: ObjectId },
    /// It is being applied.
    Applying { hub: ObjectId },
}

/// A merge commit that waits for the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) commit: ObjectId,
    onto: Option<ObjectId>,
    hub: ObjectId,
}

impl Engine {
    /// Whether what the hub has is taken in now.
    pub(super) fn receives(&self) -> bool {
        match self.settings.receive {
            Mode::Auto => true,
            Mode::Manual => self.asked_receive,
            Mode::Off => false,
        }
    }

    /// Whether the hub has something that we lack.
    pub(super) fn wants_merge(&self) -> bool {
        let Hub::At(hub) = self.hub else {
            return false;
        };
        self.settings.has_hub
            && self.receives()
            && self.tip != Some(hub)
            && self.contained != Some(hub)
    }

    /// Whether a merge may start on the tree lane.
    pub(super) fn may_merge(&self) -> bool {
        self.wants_merge()
            && self.receiving == Receiving::Idle
            && self.lanes.tree_is_free()
            && !self.timers.is_set(Timer::Young)
            && !self.timers.is_set(Timer::Retry(Site::Receive))
            && !self.timers.is_set(Timer::Retry(Site::Snapshot))
            && !(self.made.is_some() && self.timers.is_set(Timer::Retry(Site::Push)))
    }

    pub(super) fn on_noticed(&mut self, now: Moment, notice: &Notice, circle: Circle) {
        self.counters.notices_received += 1;
        let (branch, host) = (&self.settings.branch, &self.settings.host);
        if self.settings.receive != Mode::Auto
            || !self.bell.is_news(notice, self.id.as_deref(), branch, host)
        {
            return;
        }
        // Somebody reached the hub, so perhaps we can too.
        if self.timers.is_set(Timer::Retry(Site::Fetch)) && self.bell.next(now, circle) <= now {
            self.bell.charge(now, circle);
            self.retry_at_once(&[Site::Fetch], true);
        }
        self.want_fetch(FetchWhy::Rung(notice.commit, circle));
    }

    /// Takes that a host has a commit in its tree. That of the latest push is worth telling.
    pub(super) fn on_arrived(&mut self, host: String, commit: ObjectId) {
        if host == self.settings.host {
            return;
        }
        if let Some(hosts) = self.record.arrived(commit, host) {
            self.actions
                .push_back(Action::Tell(Tell::Arrived { commit, hosts }));
        }
    }

    pub(super) fn on_transport(&mut self, now: Moment, name: &'static str, online: bool) {
        let was_live = !self.live.is_empty();
        if online && name != TRANSPORT_POLL {
            if self.live.insert(name) {
                self.retry_at_once(&[Site::Fetch, Site::Push], true);
                self.want_fetch(FetchWhy::Rung(None, Circle::Own));
            }
        } else {
            self.live.remove(name);
        }
        if was_live == self.live.is_empty() {
            self.arm_poll(now);
        }
    }

    /// Wants a fetch; several wishes become one.
    pub(super) fn want_fetch(&mut self, why: FetchWhy) {
        if !self.settings.has_hub {
            return;
        }
        self.fetch = Some(match (self.fetch, why) {
            (None, why) => why,
            (Some(old), new) if old == new => old,
            // What this person's own hosts ask for waits for nobody else's.
            (Some(FetchWhy::Rung(_, one)), FetchWhy::Rung(_, other)) => {
                FetchWhy::Rung(None, one.min(other))
            }
            (Some(_), _) => FetchWhy::Due,
        });
    }

    /// Whether a fetch for this reason may start, or else starts the timer for when it may.
    pub(super) fn may_ring(&mut self, now: Moment, why: FetchWhy) -> bool {
        let at = match why {
            FetchWhy::Due => now,
            FetchWhy::Rung(_, circle) => self.bell.next(now, circle),
        };
        if at > now {
            self.timers.set(Timer::Bell, at);
        }
        at <= now
    }

    pub(super) fn arm_poll(&mut self, now: Moment) {
        if !self.settings.has_hub {
            self.timers.clear(Timer::Poll);
            return;
        }
        let wait = if self.live.is_empty() {
            self.settings.poll
        } else {
            self.settings.poll_live
        };
        let wait = self.rng.jitter(wait, 0.9, 1.1);
        self.timers.set(Timer::Poll, now + wait);
    }

    pub(super) fn on_fetched(&mut self, now: Moment, outcome: Fetched) {
        let Some(NetworkWork::Fetch { rung }) = self.lanes.end_network_if(|work| match work {
            NetworkWork::Fetch { .. } => true,
            NetworkWork::Push { .. } | NetworkWork::Notes => false,
        }) else {
            return;
        };
        self.arm_poll(now);
        match outcome {
            Fetched::Failed(trouble) => {
                if let Some(circle) = rung {
                    self.bell.charge(now, circle);
                }
                self.failed(now, Site::Fetch, trouble);
                self.want_fetch(FetchWhy::Due);
                return;
            }
            Fetched::Tip(tip) => {
                self.counters.fetches += 1;
                self.record.reached(now);
                self.went_well(Site::Fetch);
                self.hub_answers();
                if let Some(circle) = rung
                    && tip.is_some()
                    && tip == self.hub.tip()
                {
                    self.bell.charge(now, circle);
                }
                self.take_hub_tip(now, tip);
            }
        }
        if let Some(FetchWhy::Rung(Some(commit), _)) = self.fetch
            && self.bell.is_known(commit)
        {
            self.fetch = None;
        }
    }

    /// The hub answered, so a push that failed for want of it need not wait.
    fn hub_answers(&mut self) {
        let passing = self.outages.at(Site::Push).is_some_and(|trouble| {
            trouble.recovery == Recovery::Retry && trouble.code != Code::Contended
        });
        if passing {
            self.timers.clear(Timer::Retry(Site::Push));
        }
    }

    fn take_hub_tip(&mut self, now: Moment, tip: Option<ObjectId>) {
        let before = self.hub;
        match tip {
            Some(tip) => {
                self.hub = Hub::At(tip);
                self.bell.know(tip);
                if before.tip() != Some(tip) {
                    self.flushed = false;
                    self.retry_at_once(&[Site::Receive], false);
                }
                if before == Hub::Emptied {
                    self.went_well(Site::Push);
                }
                let ours =
                    self.tip == Some(tip) || self.made.is_some_and(|made| made.commit == tip);
                if ours && before.tip() != Some(tip) {
                    // The hub took a push whose answer we never got: nobody was told.
                    self.announce(tip);
                }
                self.hub_moved_under_merge(tip);
            }
            None if before.tip().is_some() || before == Hub::Emptied => {
                self.hub = Hub::Emptied;
                self.contained = None;
                self.troubled(now, Site::Push, hub_emptied());
            }
            None => self.hub = Hub::Empty,
        }
        if self.tip == self.hub.tip() {
            self.contained = self.tip;
            self.plan_push(now);
        } else if !self.timers.is_set(Timer::Push) {
            self.push_now = true;
        }
    }

    /// A merge that waits for the hub is of no use once the hub has something else.
    fn hub_moved_under_merge(&mut self, tip: ObjectId) {
        let Receiving::Publishing { commit, hub, .. } = self.receiving else {
            return;
        };
        if tip == commit {
            self.merge_is_on_hub(commit);
        } else if tip != hub {
            self.receiving = Receiving::Idle;
            self.made = None;
        }
    }

    pub(super) fn on_merged(&mut self, now: Moment, outcome: Merged) {
        let merged = self.lanes.end_tree(|work| match work {
            TreeWork::Merge { hub } => Some(hub),
            TreeWork::Recover
            | TreeWork::Snapshot(_)
            | TreeWork::Apply { .. }
            | TreeWork::Reword { .. }
            | TreeWork::Recall { .. } => None,
        });
        let Some(hub) = merged else {
            return;
        };
        self.receiving = Receiving::Idle;
        if !matches!(outcome, Merged::Blocked(_)) {
            self.end_pause(Site::Snapshot);
        }
        match outcome {
            Merged::UpToDate { tip } => {
                self.went_well(Site::Receive);
                self.set_tip(now, tip);
                self.contained = Some(hub);
                self.made = None;
                self.push_now = self.tip != self.hub.tip();
            }
            Merged::FastForward { target } => {
                self.made = None;
                self.receiving = Receiving::Ready { target, hub };
            }
            Merged::Created { commit, copies } => {
                self.counters.merges += 1;
                self.made_copies = copies;
                self.publish_or_apply(now, commit, hub);
            }
            Merged::Blocked(trouble) => self.failed(now, Site::Receive, trouble),
        }
    }

    fn publish_or_apply(&mut self, now: Moment, commit: ObjectId, hub: ObjectId) {
        if self.hub.tip() != Some(hub) {
            // The hub moved while we merged: make it again from there.
            return;
        }
        if !self.publishes() {
            self.coming_copies.append(&mut self.made_copies);
            self.receiving = Receiving::Ready {
                target: commit,
                hub,
            };
            return;
        }
        let onto = self.tip;
        self.made = Some(Made { commit, onto, hub });
        self.receiving = Receiving::Publishing { commit, onto, hub };
        self.timers.set(Timer::Reserve, now + RESERVE);
    }

    /// Takes up the merge that was made before, if it is still the right one.
    pub(super) fn take_up_merge(&mut self, now: Moment) -> bool {
        let Some(Made { commit, onto, hub }) = self.made else {
            return false;
        };
        let still_right = self.tip == onto && self.hub.tip() == Some(hub) && self.publishes();
        if still_right {
            self.receiving = Receiving::Publishing { commit, onto, hub };
            self.timers.set(Timer::Reserve, now + RESERVE);
        }
        still_right
    }

    pub(super) fn on_applied(&mut self, now: Moment, outcome: Applied) {
        let ended = self.lanes.end_tree(|work| match work {
            TreeWork::Apply { target, approved } => Some((target, approved)),
            TreeWork::Recover
            | TreeWork::Snapshot(_)
            | TreeWork::Merge { .. }
            | TreeWork::Reword { .. }
            | TreeWork::Recall { .. } => None,
        });
        let Some((target, approved)) = ended else {
            return;
        };
        let hub = match self.receiving {
            Receiving::Applying { hub } => Some(hub),
            Receiving::Idle
            | Receiving::Merging
            | Receiving::Publishing { .. }
            | Receiving::Ready { .. } => None,
        };
        if hub.is_some() {
            self.receiving = Receiving::Idle;
        }
        let moved = outcome.tip.is_some_and(|tip| self.tip != Some(tip));
        // Before the first one there is nothing to go back to.
        let undo = outcome.tip.filter(|_| moved && self.tip.is_some());
        if let Some(tip) = outcome.tip {
            self.set_tip(now, tip);
        }
        self.look_after_kept(now, &outcome.kept);
        let mut trouble = outcome.blocked.clone();
        if outcome.unfinished {
            self.recovered = false;
            let why = trouble
                .take()
                .unwrap_or_else(|| internal("an apply did not end"));
            self.failed(now, Site::Snapshot, why);
            return;
        }
        if trouble.is_none() && hub.is_some() && self.tip != Some(target) {
            trouble = Some(internal("an apply did not arrive at its commit"));
        }
        if let Some(trouble) = trouble {
            self.release |= hub.is_none();
            self.failed(now, Site::Receive, trouble);
            return;
        }
        self.went_well(Site::Receive);
        self.end_pause(Site::Snapshot);
        if let Some(hub) = hub {
            self.contained = Some(hub);
        }
        if approved || outcome.held_grew {
            self.approved_apply = false;
        }
        let ours = outcome.host.as_ref() == Some(&self.settings.host);
        if moved && ours && self.tip == self.hub.tip() && self.announced != self.tip {
            // A merge of ours whose push was answered to nobody, because the agent was killed.
            self.announce(target);
        }
        if moved {
            self.counters.applies += 1;
            self.count_towards_maintenance(now);
        }
        let waited = outcome.waited;
        self.tell_applied(now, target, (moved, undo), outcome);
        self.wait_unattended(now, waited);
    }

    /// Plans when the removals that wait for a person's word go without one, if ever.
    fn wait_unattended(&mut self, now: Moment, waited: Option<Duration>) {
        self.timers.clear(Timer::Unattended);
        // What is overdue now is for this look to say.
        self.overdue = false;
        if let (Some(limit), Some(waited)) = (self.settings.unattended, waited) {
            let left = limit.saturating_sub(waited);
            if left.is_zero() {
                self.pass_unattended();
            } else {
                self.timers.set(Timer::Unattended, now + left);
            }
        }
    }

    /// Lets pass what has waited for a person long enough.
    pub(super) fn pass_unattended(&mut self) {
        self.overdue = true;
        self.release = true;
    }

    fn tell_applied(
        &mut self,
        now: Moment,
        target: ObjectId,
        (moved, undo): (bool, Option<ObjectId>),
        mut outcome: Applied,
    ) {
        // Copies that this host made itself are told when they are in the tree.
        let ours = if moved {
            std::mem::take(&mut self.coming_copies)
        } else {
            Vec::new()
        };
        for copy in ours {
            // What the tree tells of it may have another time: that of the adoption.
            outcome.copies.retain(|told| told.copy != copy.copy);
            outcome.copies.push(copy);
        }
        self.record.applied(now, target, moved, &outcome);
        if let (true, Some(id), Some(commit)) = (moved, &self.id, self.hub.tip()) {
            self.actions.push_back(Action::Confirm(Notice {
                folder: id.clone(),
                branch: self.settings.branch.clone(),
                commit: Some(commit),
                host: self.settings.host.clone(),
                sequence: 0,
            }));
        }
        if outcome.count > 0 {
            self.actions.push_back(Action::Tell(Tell::Received {
                host: outcome.host.take(),
                paths: std::mem::take(&mut outcome.paths),
                count: outcome.count,
                undo,
            }));
        }
        self.tell_what_stands(now, outcome);
    }

    /// Tells what an apply left in the tree beside its files.
    pub(super) fn tell_what_stands(&mut self, now: Moment, outcome: Applied) {
        if !outcome.copies.is_empty() {
            self.actions
                .push_back(Action::Tell(Tell::Conflict(outcome.copies)));
        }
        let marked = self.record.mark(outcome.marked);
        if !marked.is_empty() {
            self.actions.push_back(Action::Tell(Tell::Marked(marked)));
        }
        self.note_deferred(now, outcome.deferred);
        for held in self.record.hold_incoming(outcome.held) {
            self.actions.push_back(Action::Tell(Tell::Held(held)));
        }
    }
}

/// Returns the trouble of something that should not happen.
pub(super) fn internal(message: &str) -> Trouble {
    Trouble::new(Code::Internal, Recovery::Retry, message, "")
}

/// Returns what is said of a hub without its branch.
pub(super) fn hub_emptied() -> Trouble {
    Trouble::new(
        Code::HubEmptied,
        Recovery::Hold,
        "the hub lost the branch that it had",
        "Run `autosync approve` to push it again from here.",
    )
}
