//! Named points in the write protocol where a test may stop, kill or interfere.
//!
//! `AUTOSYNC_FAULT=STEP:kill` ends the process there as `kill -9` does; `STEP:stop` stops it, as
//! SIGSTOP does, until somebody continues it; `STEP#3:kill` means the third time; a comma separates
//! several. Inside one process, `with_hook` runs a closure at every step of this thread. Without
//! the feature `faults` (every build but the tests') [`at`] only says in the log where it is:
//! `AUTOSYNC_LOG=autosync::fault=trace` shows how long each step takes.

use std::time::Duration;

/// Passes the named step.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn at(step: &str) {
    tracing::trace!(step);
}

/// Returns what a variable of the tests asks for: nothing.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn asked(_variable: &str) -> Option<String> {
    None
}

/// Returns what a variable of the tests asks for.
#[cfg(feature = "faults")]
pub fn asked(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// Returns how long a variable of the tests asks for, in milliseconds.
pub fn millis(variable: &str) -> Option<Duration> {
    let millis = asked(variable)?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// Passes the named step.
#[cfg(feature = "faults")]
pub fn at(step: &str) {
    tracing::trace!(step);
    let hook = HOOK.with_borrow_mut(Option::take);
    if let Some(mut hook) = hook {
        hook(step);
        HOOK.set(Some(hook));
    }
    let Ok(wanted) = std::env::var("AUTOSYNC_FAULT") else {
        return;
    };
    let faults = || wanted.split(',').map(parse);
    if !faults().any(|(name, _, _)| name == step) {
        return;
    }
    let count = {
        let mut counts = COUNTS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = counts.entry(step.to_owned()).or_insert(0_u32);
        *count += 1;
        *count
    };
    for (name, nth, deed) in faults() {
        if name == step && nth.parse() == Ok(count) {
            crate::sys::signal_self(if deed == "stop" {
                libc::SIGSTOP
            } else {
                libc::SIGKILL
            });
        }
    }
}

/// Returns the step, how often it is passed before, and what happens there.
#[cfg(feature = "faults")]
fn parse(fault: &str) -> (&str, &str, &str) {
    let (name, deed) = fault.rsplit_once(':').unwrap_or((fault, "kill"));
    let (name, nth) = name.split_once('#').unwrap_or((name, "1"));
    (name, nth, deed)
}

/// A closure that is called with the name of every step.
#[cfg(feature = "faults")]
type Hook = Box<dyn FnMut(&str)>;

#[cfg(feature = "faults")]
thread_local! {
    static HOOK: std::cell::RefCell<Option<Hook>> = const { std::cell::RefCell::new(None) };
}

#[cfg(feature = "faults")]
static COUNTS: std::sync::Mutex<std::collections::BTreeMap<String, u32>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

/// Runs `body` with `hook` called at every step that this thread passes.
#[cfg(feature = "faults")]
pub fn with_hook<T>(hook: impl FnMut(&str) + 'static, body: impl FnOnce() -> T) -> T {
    HOOK.set(Some(Box::new(hook)));
    let result = body();
    HOOK.set(None);
    result
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn a_hook_sees_every_step_in_order() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        with_hook(
            move |step| log.borrow_mut().push(step.to_owned()),
            || {
                at("one");
                at("two");
            },
        );
        at("three");
        assert_eq!(*seen.borrow(), ["one", "two"]);
    }
}
