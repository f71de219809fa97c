//! From a change to a commit: what the watcher, the user's git and the snapshots say.

use std::time::Duration;

use super::action::{Action, Scope, Tell, Trigger};
use super::event::{Change, ChangeKind, Recovered, Recovery, RescanWhy, Snapshotted, Waiting};
use super::lanes::{Flight, TreeWork};
use super::timer::{Moment, Site, Timer};
use super::{Engine, Hub, RELEASE_FIRST};
use crate::names::{ObjectId, RepoPath};

/// So long after the user's git has moved it is looked where HEAD is, if nothing else looked: our
/// own commits move it too, and a burst of them is looked at once.
const LOOK: Duration = Duration::from_secs(2);

impl Engine {
    pub(super) fn on_changed(&mut self, now: Moment, changes: &[Change]) {
        for change in changes {
            self.settle.note(now, change);
            if self.record.is_deferred(&change.path) {
                self.release_soon(now);
            }
        }
        self.look_again_after_change(now, Site::Snapshot);
    }

    pub(super) fn on_rescan(&mut self, now: Moment, why: RescanWhy) {
        match why {
            RescanWhy::Start => self.want_scan(Trigger::Start),
            RescanWhy::Asked => self.want_scan(Trigger::Asked),
            // Whatever filled the queue is still going on: it settles like other changes.
            RescanWhy::Overflow => self.settle.note_everything(now),
            RescanWhy::Remount => {
                self.retry_at_once(&[Site::Snapshot, Site::Receive], false);
                self.want_scan(Trigger::Scan);
                // What waited for a disk may be written now.
                self.release = true;
            }
            RescanWhy::Resume | RescanWhy::Periodic | RescanWhy::Rules => {
                self.want_scan(Trigger::Scan);
            }
        }
    }

    pub(super) fn on_git_moved(&mut self, now: Moment) {
        self.settle.restart(now);
        // A commit by hand of what was no change for us: no snapshot would come across it.
        self.timers.set(Timer::Look, now + LOOK);
        // Perhaps the user's rebase has just ended; one quiet window later we shall see.
        for site in [Site::Snapshot, Site::Receive] {
            let is_pause = self
                .outages
                .at(site)
                .is_some_and(|trouble| trouble.recovery == Recovery::Pause);
            if is_pause && self.timers.is_set(Timer::Retry(site)) {
                let at = now + self.settings.settle.quiet;
                self.timers.set_earlier(Timer::Retry(site), at);
            }
        }
    }

    pub(super) fn on_recovered(&mut self, now: Moment, recovered: Recovered) {
        let ended = self.lanes.end_tree(|work| match work {
            TreeWork::Recover => Some(()),
            TreeWork::Snapshot(_)
            | TreeWork::Merge { .. }
            | TreeWork::Apply { .. }
            | TreeWork::Reword { .. }
            | TreeWork::Recall { .. } => None,
        });
        if ended.is_none() {
            return;
        }
        if let Some(trouble) = recovered.blocked {
            self.failed(now, Site::Snapshot, trouble);
            return;
        }
        self.recovered = true;
        self.record.stand(recovered.copies);
        self.record.mark(recovered.marked);
        self.went_well(Site::Snapshot);
        if let Some(id) = recovered.id {
            self.on_identified(id);
        }
        if let (Hub::Unknown, Some(hub)) = (self.hub, recovered.hub) {
            self.hub = Hub::Seen(hub);
            self.bell.know(hub);
        }
        if let Some(tip) = recovered.tip {
            self.set_tip(now, tip);
            // What an earlier run left unpushed has waited long enough.
            self.timers.clear(Timer::Push);
            self.push_now = true;
        }
        self.want_scan(Trigger::Start);
    }

    pub(super) fn on_stored(&mut self, now: Moment, commit: ObjectId) {
        if matches!(self.lanes.tree(), Some(TreeWork::Snapshot(_))) {
            self.ask_for_words(now, commit);
            self.set_tip(now, commit);
        }
    }

    pub(super) fn on_snapshotted(&mut self, now: Moment, outcome: Snapshotted) {
        let flight = self.lanes.end_tree(|work| match work {
            TreeWork::Snapshot(flight) => Some(flight),
            TreeWork::Recover
            | TreeWork::Merge { .. }
            | TreeWork::Apply { .. }
            | TreeWork::Reword { .. }
            | TreeWork::Recall { .. } => None,
        });
        let Some(flight) = flight else {
            return;
        };
        if let Some(tip) = outcome.tip {
            self.set_tip(now, tip);
        }
        if outcome.held_grew {
            // A person who approves has not seen that yet.
            self.approved_snapshot = false;
        }
        let mut touched = Vec::new();
        if let Some(committed) = outcome.committed {
            touched.clone_from(&committed.paths);
            self.counters.commits += 1;
            self.settle.note_commit(now, &committed.paths);
            self.record.committed(now, &committed);
            self.count_towards_maintenance(now);
            self.actions
                .push_back(Action::Tell(Tell::Committed(committed)));
        }
        if let Some(trouble) = outcome.blocked {
            self.snapshot_failed(flight);
            self.failed(now, Site::Snapshot, trouble);
            return;
        }
        for waiting in &outcome.busy {
            self.settle
                .give_back_busy(now, flight.batch.as_ref(), &waiting.path);
        }
        self.went_well(Site::Snapshot);
        self.end_pause(Site::Receive);
        if flight.approved {
            self.approved_snapshot = false;
        }
        if flight.scope == Scope::Everything {
            self.arm_rescan(now);
        }
        self.record
            .skipped(&flight.scope, outcome.skipped, &outcome.busy);
        self.record.mark(outcome.marked);
        let news = self.note_deferred(now, outcome.deferred);
        let freed = outcome.freed;
        if news || freed || touched.iter().any(|path| self.record.is_deferred(path)) {
            // Its commit was merged with what had come in, and the tree has not got that yet.
            self.release = true;
        }
        for held in self.record.hold_here(outcome.held) {
            self.actions.push_back(Action::Tell(Tell::Held(held)));
        }
        if flight.trigger == Trigger::Merge || flight.scope == Scope::Everything {
            self.flushed = true;
        }
    }

    /// Puts back what a snapshot was started for.
    fn snapshot_failed(&mut self, flight: Flight) {
        self.look |= flight.scope.is_nothing();
        if let Some(batch) = flight.batch {
            self.settle.give_back(batch);
        }
        if flight.scope == Scope::Everything
            && matches!(
                flight.trigger,
                Trigger::Start | Trigger::Asked | Trigger::Scan
            )
        {
            self.want_scan(flight.trigger);
        }
    }

    /// Notes that the user saved this path while it was being applied: it is committed after its
    /// quiet time.
    pub(super) fn note_kept(&mut self, now: Moment, path: &RepoPath) {
        let change = Change {
            path: path.clone(),
            kind: ChangeKind::Closed,
        };
        self.settle.note(now, &change);
    }

    /// Plans that what differs from HEAD on purpose is looked at again after a short wait.
    pub(super) fn release_soon(&mut self, now: Moment) {
        self.release_wait = RELEASE_FIRST;
        self.release_soon = true;
        self.timers
            .set_earlier(Timer::Release, now + self.settings.settle.quiet_max);
    }

    /// Takes the paths that differ from HEAD on purpose, and plans when they are looked at again.
    /// Returns whether one of them is new.
    pub(super) fn note_deferred(&mut self, now: Moment, deferred: Vec<Waiting>) -> bool {
        let news = self.record.defer(deferred);
        if !self.record.has_deferred() {
            self.timers.clear(Timer::Release);
            self.release_soon = false;
            return news;
        }
        if news {
            self.release_wait = RELEASE_FIRST;
        }
        if news || !self.timers.is_set(Timer::Release) {
            let wait = self.rng.jitter(self.release_wait, 0.8, 1.2);
            self.timers.set_earlier(Timer::Release, now + wait);
        }
        news
    }

    /// Wants a full look; the more telling reason stands.
    pub(super) fn want_scan(&mut self, trigger: Trigger) {
        let stands = matches!(self.scan, Some(Trigger::Start | Trigger::Asked));
        if !stands {
            self.scan = Some(trigger);
        }
    }

    pub(super) fn arm_rescan(&mut self, now: Moment) {
        let wait = self.rng.jitter(self.settings.rescan, 0.9, 1.1);
        self.timers.set(Timer::Rescan, now + wait);
    }

    /// Takes another tip of the branch and plans its push.
    pub(super) fn set_tip(&mut self, now: Moment, tip: ObjectId) {
        if self.tip == Some(tip) {
            return;
        }
        self.tip = Some(tip);
        self.unpushed += 1;
        self.bell.know(tip);
        self.plan_push(now);
    }
}
