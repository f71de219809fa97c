//! What is held back of deletes: the hints name commands, and these bring everything back.

use std::fs;

use super::{NO_WINDOWS, alone, run_in, words};
use crate::pair;
use crate::support::host::{Host, Pair};

/// More files than may vanish at once without a question.
pub(super) const MASS: usize = 60;

pub(super) fn fill(host: &Host) {
    for number in 0..MASS {
        host.write(format!("d/{number}"), format!("{number}\n"));
    }
    host.write("other", "1\n");
}

/// Deletes the files as one change.
pub(super) fn delete_at_once(host: &Host) {
    let _ran = host.run(["pause"]).ok();
    fs::remove_dir_all(host.folder.join("d")).unwrap();
    let _ran = host.run(["resume"]).ok();
}

/// Runs the last command that a hint names, as a person does in the folder who is sure.
pub(super) fn as_hinted(host: &Host, hint: &str) -> String {
    let named: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    assert_eq!(named.len(), 2, "{hint}");
    assert_eq!(named[0], "autosync approve", "{hint}");
    let mut args: Vec<&str> = named[1].split(' ').collect();
    assert_eq!(args.remove(0), "autosync", "{hint}");
    args.push("--yes");
    run_in(host, &host.folder, &args).ok()
}

/// Returns the hint of what is held, which is also what stops the folder.
pub(super) fn hint(host: &Host) -> String {
    host.until("it is held", |host| {
        host.folder_status().code == "mass-delete"
    });
    let status = host.barrier();
    assert_eq!(status.held.len(), 1, "{status:#?}");
    assert!(status.hint.starts_with(&status.held[0].hint), "{status:#?}");
    status.held[0].hint.clone()
}

/// Deletes the files by plain git, from a clone of its own, and changes another.
pub(super) fn delete_by_plain_git(pair: &Pair) {
    let sandbox = &pair.laptop.sandbox;
    let plain = sandbox.root().join("plain");
    let hub = pair.hub.to_str().unwrap();
    drop(fs::remove_dir_all(&plain));
    sandbox.git(sandbox.root(), ["clone", "-q", hub, "plain"]);
    sandbox.git(&plain, ["rm", "-q", "-r", "d"]);
    fs::write(plain.join("other"), "2\n").unwrap();
    sandbox.git(&plain, ["commit", "-q", "-a", "-m", "away"]);
    sandbox.git(&plain, ["push", "-q"]);
}

#[test]
fn the_hint_of_a_delete_that_is_held_here_brings_it_back() {
    let pair = Pair::configured(NO_WINDOWS);
    let here = &pair.laptop;
    fill(here);
    let before = pair.equal();
    delete_at_once(here);
    let said = as_hinted(here, &hint(here));
    assert!(said.starts_with("Done."), "{said}");
    let status = here.barrier();
    assert_eq!((status.code, status.held.len()), ("ok".to_owned(), 0));
    assert_eq!(pair.ends_well(), before);
}

#[test]
fn the_hint_of_a_delete_that_came_in_brings_it_back_everywhere_and_nothing_else() {
    let pair = Pair::configured(NO_WINDOWS);
    fill(&pair.laptop);
    pair.equal();
    delete_by_plain_git(&pair);
    let asks: Vec<String> = pair.hosts().iter().map(|host| hint(host)).collect();
    // What was done since is not what is meant.
    pair.server.write("since", "1\n");
    pair.server.synced();
    let _said = as_hinted(&pair.laptop, &asks[0]);
    for host in pair.hosts() {
        host.until("nothing waits any more", |host| {
            host.barrier().held.is_empty()
        });
    }
    let after = pair.ends_well();
    assert_eq!(after.len(), MASS + 2);
    assert_eq!(pair.server.read("other").as_deref(), Some("2\n"));
    assert_eq!(pair.server.read("d/7").as_deref(), Some("7\n"));
}

#[test]
fn an_undo_of_what_deleted_elsewhere_ends_the_wait_too_and_a_part_of_it_can_come_back() {
    let files: Vec<(String, String)> = (0..MASS)
        .map(|number| (format!("d/{}/{number}", number % 2), format!("{number}\n")))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
    let pair = pair::Pair::new(&[&files[..], &[("other", "1\n")]].concat());
    let (here, there) = (&pair.laptop, &pair.server);
    let before = here.tree();
    for back in [&["undo", "-y"][..], &["restore", "d/1", "-y"]] {
        // The other one deletes with git alone.
        there.git(&["rm", "-q", "-r", "d"]);
        there.git(&["commit", "-q", "-m", "away"]);
        let hub = pair.hub.to_str().unwrap();
        there.git(&["push", "-q", hub, "HEAD:main"]);
        let ran = here.once();
        assert_eq!(ran.code, Some(3), "held: {ran:?}");
        assert_eq!(here.tree(), before);
        let _said = alone(here, back).ok();
        assert_eq!(here.tree(), before, "{back:?}: nothing goes meanwhile");
        if back[0] == "undo" {
            pair.converge("undone");
            pair.assert_settled("undone");
            assert_eq!(there.tree(), before);
        }
    }
    // The rest waits for a word still.
    let ran = here.once();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.out.contains("30 files were deleted elsewhere"),
        "{ran:?}"
    );
    assert_eq!(here.git(&["ls-files", "d"]).lines().count(), MASS / 2);
    let _said = alone(here, &["restore", ".", "-y"]).ok();
    pair.converge("all of it");
    pair.assert_settled("all of it");
    assert_eq!(there.tree(), before);
    assert!(words(here)[0].starts_with("restore everything of 20"));
}
