//! Troubles: which one is going on where, when to try again, and when to say so.
//!
//! Invariants:
//! 1. Every retry has a bound and jitter, so that hosts that failed together do not come back
//!    together.
//! 2. A problem is told once per outage and place, its end once; what a person can approve is told
//!    again when it comes again, whatever else goes on.
//! 3. A hold is looked at again now and then: a freed disk goes on by itself. A folder that is not
//!    there is looked for every few seconds: nothing tells that what is above it was put back.
//! 4. What says that a fault may be over counts for a job that is in flight as for one that waits: if
//!    that fails for what it saw before, it is tried again at once, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use super::action::{Action, Lane, Tell};
use super::event::{Code, Recovery, Trouble};
use super::timer::{Moment, Site, Timer};

/// The user knows of their own rebase, but may have forgotten it after this long.
const TELL_PAUSE: Duration = Duration::from_secs(45);
/// After a change, a hold is looked at again at most this often.
const HOLD_GAP: Duration = Duration::from_secs(10);
/// What is the matter if the folder is not there, whoever looks for it.
const OF_THE_FOLDER: &[Code] = &[Code::RootMissing, Code::RootChanged, Code::NoRepository];
/// What asking again soon would make worse.
const OF_THE_LOGIN: &[Code] = &[Code::Auth, Code::HostKey];
/// From so many refused pushes in a row on, it is a trouble and not the weather.
pub(super) const CONTENDED: u32 = 8;

/// Everything that is in the way now.
#[derive(Debug, Clone, Default)]
pub(super) struct Outages {
    sites: BTreeMap<Site, Outage>,
    told: BTreeSet<Code>,
    /// What was said of the jobs in flight.
    spurs: BTreeSet<(Site, Spur)>,
}

/// What says, while a job is in flight, that what it may fail for is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spur {
    /// Whatever it is: a disk came, or a person asks.
    Any,
    /// If it needs no person: the hub may be there again.
    Passing,
    /// If it was the folder, which was found.
    Folder,
    /// Something changed, so a hold is looked at soon.
    Change,
}

/// One trouble that goes on.
#[derive(Debug, Clone)]
struct Outage {
    trouble: Trouble,
    since: Moment,
    last_try: Moment,
    tries: u32,
}

impl Outages {
    /// Returns the gravest trouble and since when it is there.
    pub(super) fn worst(&self) -> Option<(&Trouble, Moment)> {
        self.sites
            .values()
            .max_by_key(|outage| outage.trouble.recovery)
            .map(|outage| (&outage.trouble, outage.since))
    }

    /// Returns every trouble.
    pub(super) fn all(&self) -> impl Iterator<Item = &Trouble> {
        self.sites.values().map(|outage| &outage.trouble)
    }

    /// Returns the trouble at this place.
    pub(super) fn at(&self, site: Site) -> Option<&Trouble> {
        self.sites.get(&site).map(|outage| &outage.trouble)
    }

    /// Returns whether something failed because the folder is not there.
    pub(super) fn misses_folder(&self) -> bool {
        self.all()
            .any(|trouble| OF_THE_FOLDER.contains(&trouble.code))
    }

    /// Forgets what was said of earlier jobs of a lane: another begins.
    pub(super) fn begin(&mut self, lane: Lane) {
        self.spurs.retain(|(site, _)| site.lane() != lane);
    }

    /// Takes what was said of the job that failed here. Returns what is a reason not to wait as
    /// long as usual.
    fn take_spur(&mut self, site: Site, trouble: &Trouble) -> Option<Spur> {
        let is_hold = trouble.recovery == Recovery::Hold;
        let counts = |spur: Spur| match spur {
            Spur::Any => true,
            Spur::Passing => !is_hold,
            Spur::Folder => OF_THE_FOLDER.contains(&trouble.code),
            Spur::Change => is_hold && !OF_THE_LOGIN.contains(&trouble.code),
        };
        let (here, others): (BTreeSet<_>, _) =
            self.spurs.iter().copied().partition(|(at, _)| *at == site);
        self.spurs = others;
        here.into_iter()
            .map(|(_, spur)| spur)
            .find(|spur| counts(*spur))
    }

    /// Returns whether a passing fault is being tried again.
    pub(super) fn is_retrying(&self) -> bool {
        self.sites
            .values()
            .any(|outage| outage.trouble.recovery == Recovery::Retry)
    }
}

impl Engine {
    /// Notes that something failed here, plans the next try, and says so when it is time.
    pub(super) fn failed(&mut self, now: Moment, site: Site, trouble: Trouble) {
        if site == Site::Snapshot {
            self.refuse_recalls(&trouble);
        }
        let outage = self.outages.sites.entry(site).or_insert_with(|| Outage {
            trouble: trouble.clone(),
            since: now,
            last_try: now,
            tries: 0,
        });
        if outage.trouble.recovery != trouble.recovery {
            outage.tries = 0;
        }
        outage.tries = outage.tries.saturating_add(1);
        outage.last_try = now;
        let (recovery, code, tries) = (trouble.recovery, trouble.code, outage.tries);
        let spur = self.outages.take_spur(site, &trouble);
        if let Some(outage) = self.outages.sites.get_mut(&site) {
            outage.trouble = trouble;
        }
        self.note_over();
        let wait = self.retry_wait(recovery, code, tries);
        match spur {
            Some(Spur::Any | Spur::Passing | Spur::Folder) => {
                self.timers.clear(Timer::Retry(site));
            }
            Some(Spur::Change) => {
                self.timers.set(Timer::Retry(site), now + wait);
                self.look_again_after_change(now, site);
            }
            None => self.timers.set(Timer::Retry(site), now + wait),
        }
        self.tell_trouble(now, site);
    }

    /// Notes a trouble that does not decide by itself when it is tried again.
    pub(super) fn troubled(&mut self, now: Moment, site: Site, trouble: Trouble) {
        let since = self.outages.sites.get(&site).map_or(now, |old| old.since);
        let outage = Outage {
            trouble,
            since,
            last_try: now,
            tries: 1,
        };
        self.outages.sites.insert(site, outage);
        self.note_over();
        self.tell_trouble(now, site);
    }

    /// Notes that work at this place went well.
    pub(super) fn went_well(&mut self, site: Site) {
        self.timers.clear(Timer::Retry(site));
        if site == Site::Snapshot {
            // The folder is there, so whoever missed it need not wait any longer.
            for other in [Site::Receive, Site::Fetch, Site::Push] {
                let missed = self.outages.at(other);
                if missed.is_some_and(|trouble| OF_THE_FOLDER.contains(&trouble.code)) {
                    self.timers.clear(Timer::Retry(other));
                }
                self.spur(other, Spur::Folder);
            }
        }
        if self.outages.sites.remove(&site).is_none() {
            return;
        }
        if !self.outages.sites.is_empty() {
            self.note_over();
        } else if !std::mem::take(&mut self.outages.told).is_empty() {
            self.actions.push_back(Action::Tell(Tell::Solved));
        }
    }

    /// Says of what a person was asked to approve that it is over, though another trouble goes on.
    /// Other troubles may blink, and are over when everything is well.
    fn note_over(&mut self) {
        let going_on: BTreeSet<Code> = self.outages.all().map(|trouble| trouble.code).collect();
        let is_over = |code: &Code| Code::APPROVABLE.contains(code) && !going_on.contains(code);
        let over: Vec<Code> = self.outages.told.iter().copied().filter(is_over).collect();
        for code in over {
            self.outages.told.remove(&code);
            self.actions.push_back(Action::Tell(Tell::Over(code)));
        }
    }

    /// Lets everything that waits for another try be tried at once, but for `only_passing`: then
    /// what needs a person keeps waiting.
    pub(super) fn retry_at_once(&mut self, sites: &[Site], only_passing: bool) {
        for site in sites {
            let held = self
                .outages
                .at(*site)
                .is_some_and(|trouble| trouble.recovery == Recovery::Hold);
            if !(held && only_passing) {
                self.timers.clear(Timer::Retry(*site));
            }
            let spur = if only_passing {
                Spur::Passing
            } else {
                Spur::Any
            };
            self.spur(*site, spur);
        }
    }

    /// Notes what was said of a job that may be in flight for this place.
    fn spur(&mut self, site: Site, spur: Spur) {
        if !self.lanes.has_free(site.lane()) {
            self.outages.spurs.insert((site, spur));
        }
    }

    /// The gate is open again for one place, so it need not wait at the other.
    pub(super) fn end_pause(&mut self, site: Site) {
        let is_pause = self
            .outages
            .at(site)
            .is_some_and(|trouble| trouble.recovery == Recovery::Pause);
        if is_pause {
            self.went_well(site);
        }
    }

    /// A change is a reason to look again at what was held, not too often.
    pub(super) fn look_again_after_change(&mut self, now: Moment, site: Site) {
        if let Some(outage) = self.outages.sites.get(&site)
            && outage.trouble.recovery == Recovery::Hold
            && self.timers.is_set(Timer::Retry(site))
        {
            let gap = self.rng.jitter(HOLD_GAP, 0.8, 1.2);
            let at = now.max(outage.last_try + gap);
            self.timers.set_earlier(Timer::Retry(site), at);
        }
        self.spur(site, Spur::Change);
    }

    fn retry_wait(&mut self, recovery: Recovery, code: Code, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(10);
        let growing = |first: Duration| first.saturating_mul(1 << doublings);
        let seconds = Duration::from_secs;
        match recovery {
            Recovery::Retry => {
                let wait = growing(seconds(1)).min(seconds(60));
                self.rng.jitter(wait, 0.5, 1.0)
            }
            Recovery::Pause => {
                let wait = growing(Duration::from_millis(200)).min(seconds(5));
                self.rng.jitter(wait, 0.7, 1.0)
            }
            Recovery::Hold if OF_THE_LOGIN.contains(&code) => {
                self.rng.jitter(seconds(15 * 60), 1.0, 1.2)
            }
            Recovery::Hold if OF_THE_FOLDER.contains(&code) => {
                // Two looks at the disk, but for another directory in its place.
                let most = if code == Code::RootChanged { 60 } else { 4 };
                let wait = growing(seconds(1)).min(seconds(most));
                self.rng.jitter(wait, 0.5, 1.0)
            }
            Recovery::Hold => self.rng.jitter(seconds(300), 0.2, 1.0),
        }
    }

    fn tell_trouble(&mut self, now: Moment, site: Site) {
        let Some(outage) = self.outages.sites.get(&site) else {
            return;
        };
        let patience = match outage.trouble.recovery {
            Recovery::Retry => self.settings.tell_after,
            Recovery::Pause => TELL_PAUSE,
            Recovery::Hold => Duration::ZERO,
        };
        if now.since(outage.since) >= patience && self.outages.told.insert(outage.trouble.code) {
            let trouble = outage.trouble.clone();
            self.actions.push_back(Action::Tell(Tell::Problem(trouble)));
        }
    }
}
