//! Undo, redo, restore and the log of operations.
//!
//! What is random prints its seed; `AUTOSYNC_TEST_SEED` repeats it, and `AUTOSYNC_TEST_UNDO_CASES` says
//! how many sequences of operations there are (8).

use std::fs;
use std::path::Path;

use crate::pair;
use crate::support::host::{Host, Pair};
use crate::support::{PROGRAM, Ran, ended};

mod approved;
mod asked;
mod held;
mod here;
mod kills;
mod log;
mod random;
mod restore;

const NO_WINDOWS: &str = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n";

/// Runs the program in a folder, as somebody who has gone there does.
fn run_in(host: &Host, dir: &Path, args: &[&str]) -> Ran {
    let mut command = host.sandbox.command(PROGRAM);
    ended(command.args(args).current_dir(dir).output().unwrap())
}

/// The same in a folder without an agent.
fn alone(host: &pair::Host, args: &[&str]) -> Ran {
    let mut command = host.sandbox.command(PROGRAM);
    ended(command.args(args).current_dir(&host.root).output().unwrap())
}

/// Returns the log as JSON, newest first.
fn listed(host: &pair::Host) -> Vec<serde_json::Value> {
    let out = alone(host, &["log", "--json", "-n", "100000"]).ok();
    let lines: serde_json::Value = serde_json::from_str(&out).unwrap();
    lines.as_array().unwrap().clone()
}

/// Returns the words of the operations, newest first.
fn words(host: &pair::Host) -> Vec<String> {
    let what = |line: &serde_json::Value| line["what"].as_str().unwrap().to_owned();
    listed(host).iter().map(what).collect()
}

/// Returns a name in a folder that is a copy because of a conflict.
fn copies(host: &pair::Host) -> Vec<String> {
    let names = host.tree().into_keys();
    names.filter(|name| name.contains(" (conflict ")).collect()
}

#[test]
fn an_undo_on_one_host_reaches_the_other_and_a_redo_too() {
    let pair = Pair::configured(NO_WINDOWS);
    let (here, there) = (&pair.laptop, &pair.server);
    here.write("a.txt", "one\n");
    pair.quiet();
    here.write("a.txt", "two\n");
    pair.quiet();
    let before = pair.equal();
    let said = run_in(here, &here.folder, &["undo", "--yes"]).ok();
    assert_eq!(said, "Done. `autosync log` shows it.\n");
    pair.quiet();
    assert_eq!(there.read("a.txt").as_deref(), Some("one\n"));
    let log = run_in(here, &here.folder, &["log"]).ok();
    let first: Vec<&str> = log.lines().collect();
    assert!(first[0].ends_with("undo 3: edited a.txt"), "{log}");
    assert!(first[1].ends_with("edited a.txt (undone)"), "{log}");
    let _said = run_in(here, &here.folder, &["redo", "-y"]).ok();
    assert_eq!(pair.ends_well(), before);
    // The other host can take back what came in, too.
    let _said = run_in(there, &there.folder, &["undo", "-y"]).ok();
    pair.quiet();
    assert_eq!(here.read("a.txt").as_deref(), Some("one\n"));
    pair.ends_well();
}

#[test]
fn the_newest_is_undone_without_an_agent() {
    let pair = pair::Pair::new(&[("a", "1\n"), ("b", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    let said = alone(here, &["undo", "--dry-run"]).ok();
    assert!(said.contains("change back  a\n"), "{said}");
    assert!(said.contains("on all your computers"), "{said}");
    assert_eq!(here.read("a"), "2\n");
    // Nobody is there to be asked, so nothing is done.
    let said = alone(here, &["undo"]).fails(2);
    assert!(said.contains("Say `--yes` if it is meant"), "{said}");
    assert_eq!(here.read("a"), "2\n");
    let _said = alone(here, &["undo", "--yes"]).ok();
    assert_eq!(here.read("a"), "1\n");
    let _said = alone(here, &["redo", "--yes"]).ok();
    assert_eq!(here.read("a"), "2\n");
    assert_eq!(
        words(here)[..3],
        ["redo 3: edited a", "undo 3: edited a", "edited a"]
    );
    pair.converge("after redo");
    pair.assert_settled("after redo");
}

#[test]
fn what_is_not_committed_yet_is_the_newest() {
    let pair = pair::Pair::new(&[("a", "1\n"), ("b", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    here.remove("b");
    let _said = alone(here, &["undo", "--yes"]).ok();
    assert_eq!(
        (here.read("a"), here.read("b")),
        ("2\n".into(), "1\n".into())
    );
}

#[test]
fn again_and_again_goes_back_to_the_beginning_and_forward_to_the_end() {
    let pair = pair::Pair::new(&[("a", "0\n")]);
    let here = &pair.laptop;
    let mut trees = vec![here.tree()];
    for number in 1..5 {
        here.write("a", format!("{number}\n"));
        here.write(&format!("n{number}"), "x");
        let _ran = here.once().ok();
        trees.push(here.tree());
    }
    for tree in trees.iter().rev().skip(1) {
        let _said = alone(here, &["undo", "-y"]).ok();
        assert_eq!(here.tree(), *tree);
    }
    for tree in trees.iter().skip(1) {
        let _said = alone(here, &["redo", "-y"]).ok();
        assert_eq!(here.tree(), *tree);
    }
    let said = alone(here, &["redo", "-y"]).fails(1);
    assert_eq!(said, "autosync: there is no undo to take back\n");
    pair.converge("forward again");
    pair.assert_settled("forward again");
}

#[test]
fn an_older_operation_is_undone_around_what_came_since() {
    let text = |a: &str, z: &str| format!("{a}\n2\n3\n4\n5\n6\n7\n8\n{z}\n");
    let pair = pair::Pair::new(&[("notes", &text("1", "9")), ("other", "1\n")]);
    let here = &pair.laptop;
    here.write("notes", text("ONE", "9"));
    here.write("other", "2\n");
    let _ran = here.once().ok();
    here.write("notes", text("ONE", "NINE"));
    here.write("other", "TOKEN-3\n");
    let _ran = here.once().ok();
    let plan = alone(here, &["undo", "3", "--dry-run", "--json"]).ok();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["operation"], "3");
    assert_eq!(plan["changes"][0]["path"], "notes");
    let _said = alone(here, &["undo", "3", "-y"]).ok();
    // Other lines were touched since: both changes are there.
    assert_eq!(here.read("notes"), text("1", "NINE"));
    // The same line: the file keeps its name, and the old version stands beside it.
    assert_eq!(here.read("other"), "TOKEN-3\n");
    let beside = copies(here);
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(here.read(&beside[0]), "1\n");
    pair.converge("an older one");
    pair.assert_settled("an older one");
    let said = alone(here, &["undo", "3", "-y"]).fails(1);
    assert!(said.contains("operation 3 is undone already"), "{said}");
    let _said = alone(here, &["redo", "-y"]).ok();
    assert_eq!(here.read("notes"), text("ONE", "NINE"));
    assert_eq!(copies(here), [""; 0]);
}

#[test]
fn an_undo_that_deletes_very_many_files_wants_a_word_of_its_own_and_that_travels() {
    let pair = pair::Pair::new(&[("a", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    for number in 0..60 {
        here.write(&format!("many/{number}"), format!("{number}\n"));
    }
    let _ran = here.once().ok();
    let _ran = there.once().ok();
    let plan = alone(here, &["undo", "--dry-run"]).ok();
    assert!(plan.contains("That deletes 60 files."), "{plan}");
    let said = alone(here, &["undo", "--yes"]).fails(1);
    let expected =
        "that would delete 60 files on all your computers. If that is meant, say it with";
    assert!(said.contains(expected), "{said}");
    assert!(here.at("many/0").exists());
    let _said = alone(here, &["undo", "--yes", "--approve"]).ok();
    assert!(!here.at("many").exists());
    pair.converge("approved");
    assert!(!there.at("many").exists(), "the word counts there, too");
    pair.assert_settled("approved");
    let message = here.git(&["log", "-1", "--format=%B"]);
    assert!(message.contains("\nAutosync-Approved: laptop"), "{message}");
    let _said = alone(here, &["redo", "--yes"]).ok();
    assert_eq!(here.read("many/59"), "59\n");
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    let pair = pair::Pair::new(&[("a", "1\n")]);
    let here = &pair.server;
    for (args, code, said) in [
        (&["undo", "-y"][..], 1, "there is nothing to undo"),
        (&["undo", "99", "-y"], 1, "there is no operation `99`"),
        (&["undo", "1", "-y"], 1, "that is where the log begins"),
        (&["redo", "-y"], 1, "there is no undo to take back"),
        (&["undo", "--approve"], 2, "--yes"),
        (
            &["restore", "nobody", "-y"],
            1,
            "there never was a `nobody` in this folder",
        ),
        (
            &["restore", "a", "-y"],
            1,
            "there is no other version of `a`",
        ),
        (
            &["restore", "a", "--at", "HEAD~7", "-y"],
            1,
            "neither a time nor a commit here",
        ),
        (
            &["restore", "a", "--at", "the day", "-y"],
            2,
            "neither a time nor a commit",
        ),
        (
            &["restore", "a", "--at", "2199-01-01", "-y"],
            2,
            "is in the future",
        ),
        (
            &["restore", "a", "--at", "1990-01-01", "-y"],
            1,
            "had no version at 1990-01-0",
        ),
        (
            &["restore", "a", "--at", "HEAD", "-y"],
            1,
            "that is how it is now",
        ),
        (&["restore", "../x", "-y"], 10, "there is no folder here"),
        (&["log", "/nowhere/at/all"], 10, "there is no folder here"),
    ] {
        let ran = alone(here, args);
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
    pair.assert_settled("nothing was done");
}

#[test]
fn a_pause_and_a_rebase_of_the_user_are_in_the_way_and_say_so() {
    let pair = Pair::configured(NO_WINDOWS);
    let here = &pair.laptop;
    here.write("a", "1\n");
    pair.quiet();
    here.write("a", "2\n");
    pair.quiet();
    let _ran = here.run(["pause"]).ok();
    let said = run_in(here, &here.folder, &["undo", "-y"]).fails(1);
    assert_eq!(
        said,
        "autosync: the folder is paused as you asked. Run `autosync resume` first.\n"
    );
    let _ran = here.run(["resume"]).ok();
    here.git(["checkout", "-q", "--detach"]);
    let said = run_in(here, &here.folder, &["undo", "-y"]).fails(1);
    assert!(said.contains("HEAD"), "{said}");
    assert_eq!(here.read("a").as_deref(), Some("2\n"));
    here.git(["checkout", "-q", "main"]);
    let _ran = run_in(here, &here.folder, &["undo", "-y"]).ok();
    pair.quiet();
    assert_eq!(here.read("a").as_deref(), Some("1\n"));
    pair.ends_well();
}

#[test]
fn a_held_delete_comes_back_with_undo_though_nothing_was_committed() {
    let files: Vec<(String, String)> = (0..70)
        .map(|number| (format!("d/{number}"), format!("{number}\n")))
        .collect();
    let mut all: Vec<(&str, &str)> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
    all.push(("a", "1\n"));
    let pair = pair::Pair::new(&all);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    let (before, tip) = (here.tree(), here.git(&["rev-parse", "HEAD"]));
    for back in [
        &["undo", "-y"][..],
        &["restore", ".", "-y"],
        &["restore", "d", "-y"],
    ] {
        fs::remove_dir_all(here.at("d")).unwrap();
        let ran = here.once();
        assert_eq!(ran.code, Some(3), "held: {ran:?}");
        let _said = alone(here, back).ok();
        assert_eq!(here.tree(), before, "{back:?}");
        assert_eq!(here.git(&["rev-parse", "HEAD"]), tip, "no commit is needed");
    }
    pair.converge("back");
    pair.assert_settled("back");
}
