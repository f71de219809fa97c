//! An approval is an operation of the log: where a delete was made, and where it came in and waited.

use super::held::{MASS, as_hinted, delete_at_once, delete_by_plain_git, fill, hint};
use super::{NO_WINDOWS, run_in};
use crate::support::host::{PATIENCE, Pair};

#[test]
fn an_approval_here_is_an_operation_and_its_undo_brings_the_files_back() {
    let pair = Pair::configured(NO_WINDOWS);
    let here = &pair.laptop;
    fill(here);
    let before = pair.equal();
    delete_at_once(here);
    let _hint = hint(here);
    let _ran = here.run(["approve"]).ok();
    here.until("it went", |host| host.barrier().held.is_empty());
    assert_eq!(pair.equal().len(), 1);
    let log = run_in(here, &here.folder, &["log"]).ok();
    let first = log.lines().next().unwrap();
    assert!(first.ends_with("  approved a delete of 60 files"), "{log}");
    let _said = run_in(here, &here.folder, &["undo", "-y"]).ok();
    assert_eq!(pair.ends_well(), before);
}

#[test]
fn an_approval_of_what_came_in_is_an_operation_and_its_undo_brings_the_files_back() {
    let pair = Pair::configured(NO_WINDOWS);
    let (here, there) = (&pair.laptop, &pair.server);
    fill(here);
    let before = pair.equal();
    delete_by_plain_git(&pair);
    for host in pair.hosts() {
        let _hint = hint(host);
    }
    let _ran = there.run(["approve"]).ok();
    there.until("it went", |host| host.barrier().held.is_empty());
    assert_eq!(there.tree().len(), 1);
    // What it says, in words and for scripts.
    let log = run_in(there, &there.folder, &["log"]).ok();
    let lines: Vec<&str> = log.lines().collect();
    let words = "  let through a delete of 60 files that came in";
    assert!(lines[0].ends_with(words), "{log}");
    assert!(lines[1].contains("  received 61 files from"), "{log}");
    let log = run_in(there, &there.folder, &["log", "--json", "-n", "1"]).ok();
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log[0]["kind"], "approval");
    assert_eq!(log[0]["before"], log[0]["commit"], "no branch moved");
    assert_eq!(log[0]["paths"].as_array().unwrap().len(), MASS);
    let one = run_in(there, &there.folder, &["log", "d/7", "--json"]).ok();
    assert_eq!(one.matches("\"kind\": \"approval\"").count(), 1, "{one}");

    let _said = run_in(there, &there.folder, &["undo", "-y"]).ok();
    pair.quiet();
    // The other one, who was not asked any more, keeps what he had.
    here.until("nothing waits", |host| host.barrier().held.is_empty());
    let after = pair.ends_well();
    assert_eq!(after.len(), before.len());
    assert_eq!(here.read("d/59").as_deref(), Some("59\n"));
    // A redo lets them go again, with a word for so many.
    let said = run_in(there, &there.folder, &["redo", "-y"]).fails(1);
    assert!(said.contains("would delete 60 files"), "{said}");
    let _said = run_in(there, &there.folder, &["redo", "-y", "--approve"]).ok();
    assert_eq!(pair.ends_well().len(), 1);
}

#[test]
fn what_went_after_a_hint_was_taken_is_no_approval() {
    let pair = Pair::configured(NO_WINDOWS);
    fill(&pair.laptop);
    pair.equal();
    delete_by_plain_git(&pair);
    let asks: Vec<String> = pair.hosts().iter().map(|host| hint(host)).collect();
    let _said = as_hinted(&pair.server, &asks[1]);
    pair.ends_well();
    let log = run_in(&pair.server, &pair.server.folder, &["log"]).ok();
    assert!(!log.contains("let through"), "{log}");
}

#[test]
fn a_kill_leaves_one_operation_of_an_approval_or_asks_again() {
    let mut pair = Pair::configured(NO_WINDOWS);
    fill(&pair.laptop);
    let before = pair.equal();
    pair.laptop.stop();
    for (step, goes) in [
        ("O4.approving", false),
        ("O1.written", true),
        ("O3.noted", true),
        ("O5.approved", true),
    ] {
        if pair.server.tree() == before {
            delete_by_plain_git(&pair);
            let _hint = hint(&pair.server);
        }
        let there = &mut pair.server;
        there.stop();
        there.sandbox.set("AUTOSYNC_FAULT", &format!("{step}:kill"));
        there.start();
        let _hint = hint(there);
        let _ran = there.run(["approve"]);
        assert_eq!(there.ended(PATIENCE), 128 + 9, "{step}");
        there.sandbox.set("AUTOSYNC_FAULT", "");
        there.start();
        if !goes {
            let _hint = hint(there);
            continue;
        }
        there.until("it went", |host| host.barrier().held.is_empty());
        assert_eq!(there.tree().len(), 1, "{step}");
        let log = run_in(there, &there.folder, &["log", "-n", "2"]).ok();
        assert_eq!(log.matches("let through").count(), 1, "{step}: {log}");
        let _said = run_in(there, &there.folder, &["undo", "-y"]).ok();
        there.synced();
        there.write("other", "1\n");
        there.synced();
        assert_eq!(there.tree(), before, "{step}");
    }
    pair.laptop.start();
    pair.ends_well();
}
