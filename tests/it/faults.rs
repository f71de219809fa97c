//! Faults that a person meets: each is made to happen under a living agent.
//!
//! `tests/FAULTS.md` has a row for each, with the test that goes through it. A test says three things:
//! the code that `status --json` has, what the person is told and that it is told once, and what must
//! hold meanwhile: nothing becomes a deletion, nothing is forced, and it goes on by itself when the
//! fault is over.

use std::cell::RefCell;
use std::fs;
use std::sync::mpsc::Receiver;

use autosync::control::{Happening, What};
use autosync::engine::status::{FolderStatus, State};

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
    let mut host = Host::new("laptop");
    host.sandbox.config(AT_ONCE);
    host.start();
    host
}

/// What a person is told of a host from now on.
struct Told {
    heard: Receiver<Happening>,
    all: RefCell<Vec<What>>,
}

impl Told {
    /// Begins to listen.
    fn by(host: &Host) -> Self {
        Self {
            heard: host.listen(),
            all: RefCell::default(),
        }
    }

    /// Returns the codes of all problems and holds that were told so far, in their order.
    fn codes(&self) -> Vec<String> {
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

    /// Waits until everything that was told before is heard: it comes by a stream of its own, in its
    /// order, and a pause is told, too.
    fn catch_up(&self, host: &Host) {
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
    fn only(&self, host: &Host, code: &str) {
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
fn the_table_has_every_fault_and_names_tests_that_exist() {
    let place = env!("CARGO_MANIFEST_DIR");
    let table = fs::read_to_string(format!("{place}/tests/FAULTS.md")).unwrap();
    let mut named = Vec::new();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(2).collect();
    assert_eq!(rows.len(), FAULTS);
    for (number, line) in rows.into_iter().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [at, fault, tests, _] = cells[..] else {
            panic!("{line}");
        };
        assert_eq!(at, (number + 1).to_string(), "{fault}");
        assert!(tests.contains("::") || tests.ends_with('.'), "{fault}");
        for test in tests.split(", ").filter(|test| test.starts_with('`')) {
            let test = test.trim_matches('`');
            assert!(exists(test), "{test} of the row `{fault}` is no test");
            named.push(test.to_owned());
        }
    }
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
