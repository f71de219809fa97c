//! What a person or the machine asks for: look now, pause, approve, stop.

use super::action::Trigger;
use super::event::{Recovery, Request, RescanWhy};
use super::timer::{Moment, Site, Timer};
use super::{Engine, FetchWhy, Hub};

impl Engine {
    pub(super) fn on_identified(&mut self, id: String) {
        self.id = Some(id);
        if let Some(commit) = self.unannounced.take() {
            self.announce(commit);
        }
    }

    pub(super) fn on_asked(&mut self, now: Moment, request: Request) {
        const ALL: [Site; 4] = [Site::Snapshot, Site::Receive, Site::Fetch, Site::Push];
        match request {
            Request::Sync => {
                self.retry_at_once(&ALL, false);
                self.want_scan(Trigger::Asked);
                self.want_fetch(FetchWhy::Due);
                self.asked_push = true;
                self.ask_no_more();
                self.want_notes();
                self.asked_receive = true;
                self.push_now = true;
            }
            Request::Pause(limit) => {
                self.paused = true;
                self.timers.clear(Timer::Resume);
                if let Some(limit) = limit {
                    self.timers.set(Timer::Resume, now + limit);
                }
                self.recalls_end();
            }
            Request::Resume => {
                self.timers.clear(Timer::Resume);
                if std::mem::take(&mut self.paused) {
                    self.want_scan(Trigger::Scan);
                    self.want_fetch(FetchWhy::Due);
                }
                self.retry_at_once(&ALL, false);
            }
            Request::Approve => {
                self.retry_at_once(&ALL, false);
                let held = |engine: &Self, site| {
                    let trouble = engine.outages.at(site);
                    trouble.is_some_and(|t| t.recovery == Recovery::Hold)
                };
                self.approved_snapshot = self.record.has_held_here() || held(self, Site::Snapshot);
                self.approved_apply = self.record.has_incoming_held() || held(self, Site::Receive);
                self.release = true;
                self.want_scan(Trigger::Asked);
                if self.hub == Hub::Emptied {
                    self.hub = Hub::Empty;
                    self.push_now = true;
                    self.went_well(Site::Push);
                }
            }
            Request::Stop => {
                self.stopping = true;
                self.recalls_end();
            }
        }
    }

    pub(super) fn on_woke(&mut self, now: Moment) {
        self.retry_at_once(&[Site::Fetch, Site::Push], true);
        self.on_rescan(now, RescanWhy::Resume);
        self.want_fetch(FetchWhy::Due);
    }
}
