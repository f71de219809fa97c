//! How far a long job on the files of a folder is, for people who wait for it.
//!
//! Invariants: a job with fewer than [`MANY`] files says nothing; another says where it stands at
//! once, then at most every `EVERY`, and at its end. Counting costs no more than asking the clock.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::clock;
use crate::engine::status::Progress;
use crate::engine::timer::Moment;

/// With fewer files a job is over before anybody can look.
pub const MANY: usize = 1_000;

/// How often a job says where it stands.
const EVERY: Duration = Duration::from_millis(100);

/// Who hears it.
type Ear = Box<dyn Fn(Progress)>;

/// Tells where the jobs of one folder stand, once somebody listens.
#[derive(Clone, Default)]
pub struct Meter(Rc<OnceCell<Ear>>);

/// A job that counts its files.
#[derive(Debug)]
pub struct Count {
    meter: Option<Meter>,
    what: &'static str,
    done: u64,
    total: u64,
    said: Moment,
}

impl Meter {
    /// Tells everything to `ear` from now on; the first one to listen stays the only one.
    pub fn tell(&self, ear: impl Fn(Progress) + 'static) {
        if self.0.set(Box::new(ear)).is_err() {
            tracing::debug!("somebody listens to this meter already");
        }
    }

    /// Starts to count a job on so many files.
    pub fn start(&self, what: &'static str, files: usize) -> Count {
        let now = clock::now();
        let heard = files >= MANY && self.0.get().is_some();
        let count = Count {
            meter: heard.then(|| self.clone()),
            what,
            done: 0,
            total: u64::try_from(files).unwrap_or(u64::MAX),
            said: now,
        };
        count.say();
        count
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl Count {
    /// Counts so many more files that are done.
    pub fn add(&mut self, files: usize) {
        if self.meter.is_none() {
            return;
        }
        self.add_at(clock::now(), files);
    }

    fn add_at(&mut self, now: Moment, files: usize) {
        self.done += u64::try_from(files).unwrap_or(0);
        if now.since(self.said) >= EVERY || self.done == self.total {
            self.said = now;
            self.say();
        }
    }

    fn say(&self) {
        if let Some(ear) = self.meter.as_ref().and_then(|meter| meter.0.get()) {
            ear(Progress {
                what: self.what.to_owned(),
                done: self.done,
                total: self.total,
                unit: "files".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// How many were done, of how many, at every time that it was told.
    type Log = Rc<RefCell<Vec<(u64, u64)>>>;

    fn heard() -> (Meter, Log) {
        let seen = Log::default();
        let (meter, log) = (Meter::default(), Rc::clone(&seen));
        meter.tell(move |at: Progress| log.borrow_mut().push((at.done, at.total)));
        (meter, seen)
    }

    #[test]
    fn a_long_job_is_told_at_its_start_now_and_then_and_at_its_end() {
        let (meter, seen) = heard();
        let mut count = meter.start("snapshot", 1_000);
        let start = count.said;
        for number in 1..=1_000 {
            // A file each millisecond.
            count.add_at(start + Duration::from_millis(number), 1);
        }
        let tens: Vec<(u64, u64)> = (0..=10).map(|tenth| (tenth * 100, 1_000)).collect();
        assert_eq!(*seen.borrow(), tens);
    }

    #[test]
    fn a_short_job_is_not_told() {
        let (meter, seen) = heard();
        let mut count = meter.start("snapshot", MANY - 1);
        count.add(MANY - 1);
        assert!(seen.borrow().is_empty());
        Meter::default().start("snapshot", MANY).add(MANY);
    }
}
