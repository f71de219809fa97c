//! A test in namespaces of its own: it runs itself once more in there.

use autosync::process::{self, Patience};

use crate::network::skipped;
use std::time::Duration;

/// Set in the process that a test starts of itself.
const INSIDE: &str = "AUTOSYNC_TEST_INSIDE";

/// Namespaces in which a process is root and may mount.
pub(crate) const ROOT_INSIDE: &[&str] = &["--user", "--map-root-user", "--mount"];

/// A namespace in which a process is nobody, and no mode is overridden.
pub(crate) const NOBODY_INSIDE: &[&str] = &["--user"];

/// Returns whether this is the process that a test started of itself.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Returns true in a process with such namespaces; in the process that the test began in, starts
/// that one, wants it to succeed and returns false. `test` is its name with its modules.
pub(crate) fn inside(namespaces: &[&str], test: &str) -> bool {
    if is_inside() {
        return true;
    }
    let patience = Patience::Total(Duration::from_secs(120));
    let mut may = process::command("unshare");
    may.args(namespaces).arg("true");
    if !process::run(&mut may, b"", patience).is_ok_and(|done| done.status.success()) {
        let name = test.rsplit("::").next().unwrap();
        skipped(name, "no user namespaces here");
        return false;
    }
    let mut again = process::command("unshare");
    again
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    let done = process::run(&mut again, b"", patience).unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
    false
}
