//! From a commit to the hub, and the bell.
//!
//! Invariants:
//! 1. Nothing is pushed while the hub is known to have something that we lack.
//! 2. Nothing is pushed before the hub was asked once, unless the folder knows its identity.
//! 3. The bell rings once per push that the hub confirmed.

use std::time::Duration;

use super::action::{Action, Tell};
use super::event::{Code, Pushed, Recovery, Trouble};
use super::lanes::NetworkWork;
use super::notice::Notice;
use super::receiving::Receiving;
use super::settle::stretch;
use super::timer::{Moment, Site, Timer};
use super::trouble::CONTENDED;
use super::{Engine, FetchWhy, Hub, Mode};
use crate::names::ObjectId;

/// Back-off after a refused push: full jitter up to this, doubled each time.
const REJECTED: Duration = Duration::from_secs(1);
const REJECTED_MAX: Duration = Duration::from_secs(30);

impl Engine {
    /// Whether the hub is to get our tip.
    pub(super) fn wants_push(&self) -> bool {
        self.settings.has_hub
            && self.tip.is_some()
            && self.tip != self.hub.tip()
            && !matches!(self.hub, Hub::Emptied | Hub::Stale(_))
            && (self.id.is_some() || self.hub.was_asked())
            && self.publishes()
    }

    /// Whether commits are pushed now.
    pub(super) fn publishes(&self) -> bool {
        match self.settings.push_mode {
            Mode::Auto => true,
            Mode::Manual => self.asked_push,
            Mode::Off => false,
        }
    }

    /// Starts the push window of a new tip.
    pub(super) fn plan_push(&mut self, now: Moment) {
        if self.tip == self.hub.tip() {
            self.unpushed_since = None;
            self.unpushed = 0;
            self.push_now = false;
            self.timers.clear(Timer::Push);
            self.rejections = 0;
            self.went_well(Site::Push);
            self.went_well(Site::Receive);
            return;
        }
        let since = *self.unpushed_since.get_or_insert(now);
        let windows = self.settings.push;
        let window = stretch(windows.quiet, windows.quiet_max, self.settle.doublings(now));
        let at = (now + window).min(since + windows.max_wait.max(windows.quiet));
        if self.asked_push || at <= now {
            self.push_now = true;
            self.timers.clear(Timer::Push);
        } else {
            self.timers.set(Timer::Push, at);
        }
        let may_depend_on_content = self
            .outages
            .at(Site::Push)
            .is_some_and(|trouble| matches!(trouble.code, Code::Declined | Code::TooBig));
        if may_depend_on_content {
            self.look_again_after_change(now, Site::Push);
        }
    }

    pub(super) fn on_pushed(&mut self, now: Moment, outcome: Pushed) {
        let Some(NetworkWork::Push { commit }) = self.lanes.end_network_if(|work| match work {
            NetworkWork::Push { .. } => true,
            NetworkWork::Fetch { .. } | NetworkWork::Notes => false,
        }) else {
            return;
        };
        match outcome {
            Pushed::Confirmed { commit } => self.on_confirmed(now, commit),
            Pushed::Rejected => self.on_rejected(now),
            Pushed::Failed(trouble) => {
                if let Receiving::Publishing { commit: merge, .. } = self.receiving
                    && merge == commit
                {
                    // It is made again from whatever the hub has when it can be reached.
                    self.receiving = Receiving::Idle;
                }
                self.failed(now, Site::Push, trouble);
            }
        }
    }

    fn on_confirmed(&mut self, now: Moment, commit: ObjectId) {
        self.counters.pushes += 1;
        self.rejections = 0;
        self.timers.clear(Timer::Reserve);
        self.went_well(Site::Push);
        self.went_well(Site::Fetch);
        self.hub = Hub::At(commit);
        self.bell.know(commit);
        self.record.pushed(now, commit);
        self.actions.push_back(Action::Tell(Tell::Pushed(commit)));
        self.announce(commit);
        self.merge_is_on_hub(commit);
        self.unpushed_since = (self.tip != Some(commit)).then_some(now);
        self.unpushed = self.unpushed.min(1);
        if self.tip == Some(commit) {
            self.plan_push(now);
        }
    }

    /// Takes in that the hub's tip is this commit of ours.
    pub(super) fn merge_is_on_hub(&mut self, commit: ObjectId) {
        match self.receiving {
            Receiving::Publishing {
                commit: merge,
                onto,
                ..
            } if merge == commit => {
                self.made = None;
                self.coming_copies.append(&mut self.made_copies);
                self.receiving = if self.tip == onto {
                    Receiving::Ready {
                        target: commit,
                        hub: commit,
                    }
                } else {
                    // Something was committed meanwhile: it is merged with what the hub has now.
                    Receiving::Idle
                };
            }
            Receiving::Idle
            | Receiving::Merging
            | Receiving::Publishing { .. }
            | Receiving::Ready { .. }
            | Receiving::Applying { .. } => {
                if self.made.is_some_and(|made| made.commit == commit) {
                    self.made = None;
                    self.coming_copies.append(&mut self.made_copies);
                } else {
                    self.contained = Some(commit);
                }
            }
        }
    }

    fn on_rejected(&mut self, now: Moment) {
        self.rejections = self.rejections.saturating_add(1);
        if matches!(self.receiving, Receiving::Publishing { .. }) {
            self.receiving = Receiving::Idle;
        }
        self.hub = Hub::Stale(self.hub.tip());
        self.made = None;
        self.contained = None;
        self.timers.clear(Timer::Reserve);
        if !self.receives() {
            let trouble = Trouble::new(
                Code::Contended,
                Recovery::Hold,
                "the hub has changes that are not received here, so nothing can be pushed",
                "Run `autosync sync`, or set `receive` to `auto`.",
            );
            self.failed(now, Site::Push, trouble);
            return;
        }
        self.push_now = true;
        self.want_fetch(FetchWhy::Due);
        if self.rejections > 1 {
            let doublings = (self.rejections - 2).min(10);
            let most = REJECTED.saturating_mul(1 << doublings).min(REJECTED_MAX);
            let wait = self.rng.jitter(most, 0.0, 1.0);
            self.timers.set(Timer::Retry(Site::Fetch), now + wait);
        }
        if self.rejections >= CONTENDED {
            let trouble = Trouble::new(
                Code::Contended,
                Recovery::Retry,
                format!("the hub refused {} pushes in a row", self.rejections),
                "Others push faster than this host can merge, or a rule of the hub refuses it.",
            );
            self.troubled(now, Site::Push, trouble);
        }
    }

    /// What a person asked for is done once everything was looked at, here and at the hub.
    pub(super) fn end_asking(&mut self) {
        let looked = self.lanes.is_free() && self.scan.is_none() && self.fetch.is_none();
        if looked && self.tip == self.hub.tip() {
            self.asked_push = false;
        }
        if looked && !self.wants_merge() && self.receiving == Receiving::Idle {
            self.asked_receive = false;
        }
    }

    /// Rings the bell for a push that was confirmed.
    pub(super) fn announce(&mut self, commit: ObjectId) {
        let Some(id) = &self.id else {
            self.unannounced = Some(commit);
            return;
        };
        let notice = Notice {
            folder: id.clone(),
            branch: self.settings.branch.clone(),
            commit: Some(commit),
            host: self.settings.host.clone(),
            sequence: self.bell.next_sequence(),
        };
        self.announced = Some(commit);
        self.counters.notices_sent += 1;
        self.actions.push_back(Action::Announce(notice));
    }
}
