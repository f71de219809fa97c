//! Faults that a person meets: each is made to happen under a living agent.
//!
//! `tests/FAULTS.md` has a row for each, with the test that goes through it. A test says three things:
//! the code that `status --json` has, what the person is told and that it is told once, and what must
//! hold meanwhile: nothing becomes a deletion, nothing is forced, and it goes on by itself when the
//! fault is over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::Receiver;

use autosync::control::{Happening, What};
use autosync::engine::event::Code;
use autosync::engine::status::{FolderStatus, State};

use crate::support::Sandbox;
use crate::support::host::{Host, PATIENCE, Pair};
use crate::traps::exists;

pub(crate) mod disk;
mod hub;
mod login;
mod mounts;
mod repository;
mod strike;
mod time;
mod user;

/// A host commits and pushes at once.
const AT_ONCE: &str = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n";

/// Two hosts that lose no time.
fn pair() -> Pair {
    Pair::configured(AT_ONCE)
}

/// One host with an agent and a hub that lose no time.
fn host() -> Host {
    started(Host::new("laptop"))
}

/// The same, and of a fault that may pass a person is told at once, not after fifteen seconds.
fn impatient() -> Host {
    let sandbox = Sandbox::named("laptop").with("AUTOSYNC_TEST_TELL_MILLIS", "0");
    started(Host::of(sandbox, "laptop"))
}

fn started(mut host: Host) -> Host {
    host.sandbox.config(AT_ONCE);
    host.start();
    host
}

/// What a person is told of a host from now on.
pub(crate) struct Told {
    heard: Receiver<Happening>,
    all: RefCell<Vec<What>>,
}

impl Told {
    /// Begins to listen.
    pub(crate) fn by(host: &Host) -> Self {
        Self {
            heard: host.listen(),
            all: RefCell::default(),
        }
    }

    /// Returns the codes of all problems and holds that were told so far, in their order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let mut all = self.all.borrow_mut();
        all.extend(self.heard.try_iter().map(|event| event.what));
        all.iter()
            .filter_map(|what| match what {
                What::Problem {
                    code,
                    message,
                    hint,
                }
                | What::Held {
                    code,
                    message,
                    hint,
                    ..
                } => {
                    assert!(!message.is_empty() && !hint.is_empty(), "{what:?}");
                    Some(code.clone())
                }
                What::State { .. }
                | What::Started { .. }
                | What::Ended { .. }
                | What::Progress { .. }
                | What::Committed { .. }
                | What::Pushed { .. }
                | What::Arrived { .. }
                | What::Received { .. }
                | What::Conflict { .. }
                | What::Over { .. }
                | What::Solved
                | What::Missed { .. } => None,
            })
            .collect()
    }

    /// Waits until the host is in this state with this code, where it can be asked for nothing.
    fn until(&self, wanted: State, code: &str) {
        loop {
            let what = self.heard.recv_timeout(PATIENCE).unwrap().what;
            let is_so = matches!(&what, What::State { state, code: it, .. }
                if *state == wanted && it == code);
            self.all.borrow_mut().push(what);
            if is_so {
                return;
            }
        }
    }

    /// Waits until this problem is told.
    fn until_told(&self, wanted: &str) {
        while !self.codes().iter().any(|code| code == wanted) {
            let what = self.heard.recv_timeout(PATIENCE).unwrap().what;
            self.all.borrow_mut().push(what);
        }
    }

    /// Waits until everything that was told before is heard: it comes by a stream of its own, in its
    /// order, and a pause is told, too.
    pub(crate) fn catch_up(&self, host: &Host) {
        host.run(["pause"]).ok();
        loop {
            let what = self.heard.recv_timeout(PATIENCE).unwrap().what;
            let is_pause = matches!(&what, What::State { code, .. } if code == "paused");
            self.all.borrow_mut().push(what);
            if is_pause {
                break;
            }
        }
        host.run(["resume"]).ok();
    }

    /// Asserts that this was told once and nothing else was, though the host tries again now.
    #[track_caller]
    pub(crate) fn only(&self, host: &Host, code: &str) {
        host.run(["sync"]).ok();
        host.barrier();
        self.catch_up(host);
        assert_eq!(self.codes(), [code], "{}", host.log());
    }
}

/// Waits until the folder is held with this code; returns the status, which says what to do.
#[track_caller]
fn held(host: &Host, code: &str) -> FolderStatus {
    host.until(code, |host| {
        let status = host.folder_status();
        status.code == code && status.state == State::Held
    });
    let status = host.folder_status();
    assert!(
        !status.message.is_empty() && !status.hint.is_empty(),
        "{status:#?}"
    );
    assert_eq!(host.run(["status"]).code, Some(3), "{status:#?}");
    status
}

/// Waits until nothing is in the way any more.
#[track_caller]
fn well(host: &Host) {
    host.until("all is well", |host| host.folder_status().code == "ok");
}

/// How many faults the table has.
const FAULTS: usize = 53;

#[test]
fn the_table_has_every_fault_and_names_tests_that_assert_its_codes() {
    let place = env!("CARGO_MANIFEST_DIR");
    let table = fs::read_to_string(format!("{place}/tests/FAULTS.md")).unwrap();
    let (mut named, mut silent) = (Vec::new(), Vec::new());
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(2).collect();
    assert_eq!(rows.len(), FAULTS);
    for (number, line) in rows.into_iter().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [at, fault, codes, tests, _] = cells[..] else {
            panic!("{line}");
        };
        assert_eq!(at, (number + 1).to_string(), "{fault}");
        assert!(tests.contains("::") || tests.ends_with('.'), "{fault}");
        let tests = tests.split(", ").filter(|test| test.starts_with('`'));
        let tests: Vec<&str> = tests.map(|test| test.trim_matches('`')).collect();
        for test in &tests {
            assert!(exists(test), "{test} of the row `{fault}` is no test");
            named.push((*test).to_owned());
        }
        for code in codes.split(", ").filter(|codes| *codes != "-") {
            let code = code.trim_matches('`');
            let known = serde_json::from_value::<Code>(code.into());
            let variant = format!("Code::{:?}", known.expect(code));
            let says = |test: &&str| {
                let source = source(test);
                source.contains(&format!("\"{code}\"")) || source.contains(&variant)
            };
            if !tests.iter().any(says) {
                silent.push(format!("{code} of `{fault}`"));
            }
        }
    }
    assert!(silent.is_empty(), "no test asserts {silent:#?}");
    for (module, text) in sources(place) {
        for part in text.split("#[test]\nfn ").skip(1) {
            let name = part.split('(').next().unwrap();
            if !name.starts_with("the_table") && !name.contains(' ') {
                let name = format!("{module}::{name}");
                assert!(named.contains(&name), "{name} is in no row");
            }
        }
    }
}

/// Returns the modules of this group and their text.
fn sources(place: &str) -> Vec<(String, String)> {
    let text = |file: &str| fs::read_to_string(format!("{place}/tests/it/{file}")).unwrap();
    let mut all = vec![("faults".to_owned(), text("faults.rs"))];
    for entry in fs::read_dir(format!("{place}/tests/it/faults"))
        .into_iter()
        .flatten()
    {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        all.push((format!("faults::{module}"), text(&format!("faults/{name}"))));
    }
    all
}

/// Returns the text of a test and of the functions beside it that it calls, directly or not.
fn source(test: &str) -> String {
    let (module, name) = test.rsplit_once("::").unwrap();
    let module = module.replace("::", "/");
    let text = ["tests/it", "src"].map(|place| {
        let file = format!("{}/{place}/{module}.rs", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(file).unwrap_or_default()
    });
    let text = format!("\n{}", text.concat()).replace("\npub(crate) fn ", "\nfn ");
    let mut functions = BTreeMap::new();
    for part in text.split("\nfn ").skip(1) {
        let (name, _) = part.split_once(['(', '<']).unwrap();
        let (body, _) = part.split_once("\n}\n").unwrap();
        functions.insert(name, body);
    }
    let (mut found, mut left) = (String::new(), vec![name]);
    while let Some(name) = left.pop() {
        if let Some(body) = functions.remove(name) {
            found.push_str(body);
            let called = functions.keys().copied();
            left.extend(called.filter(|name| body.contains(&format!("{name}("))));
        }
    }
    assert!(!found.is_empty(), "{test}");
    found
}

#[test]
fn the_table_is_held_to_what_a_test_says_itself_or_by_its_functions() {
    let test = "faults::login::a_login_that_was_revoked_is_held_and_asked_once";
    let source = source(test);
    assert!(source.contains("\"auth\"") && source.contains("told.only(host, code)"));
    // The test beside it has this one.
    assert!(!source.contains("\"host-key\"") && !source.contains("\"stalled\""));
}
