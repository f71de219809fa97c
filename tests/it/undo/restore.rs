//! Restore: one file or directory as it was.

use std::fs;
use std::os::unix::fs::symlink;

use super::{alone, copies};
use crate::pair::{Host, Pair};
use crate::support::Sandbox;

#[test]
fn a_file_comes_back_from_before_its_deletion_and_an_edited_one_as_it_was_before() {
    let pair = Pair::new(&[("d/a", "1\n"), ("b", "1\n")]);
    let here = &pair.laptop;
    here.write("d/a", "2\n");
    let _ran = here.once().ok();
    here.chmod("d/a", 0o755);
    let _ran = here.once().ok();
    fs::remove_dir_all(here.at("d")).unwrap();
    here.write("b", "2\n");
    let _ran = here.once().ok();
    let plan = alone(here, &["restore", "d/a", "--dry-run"]).ok();
    assert!(plan.contains("bring back   d/a\n"), "{plan}");
    let _said = alone(here, &["restore", "d/a", "-y"]).ok();
    assert_eq!(here.read("d/a"), "2\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(here.at("d/a")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o755);
    let _said = alone(here, &["restore", "./b", "-y"]).ok();
    assert_eq!(here.read("b"), "1\n");
    let _said = alone(here, &["undo", "-y"]).ok();
    assert_eq!(here.read("b"), "2\n", "a restore is undone like everything");
    pair.converge("restored");
    pair.assert_settled("restored");
    let there = alone(&pair.server, &["restore", "b", "--at", "HEAD~1", "-y"]);
    assert_eq!(there.code, Some(0), "{there:?}");
}

#[test]
fn a_directory_comes_back_and_what_came_since_stays() {
    let pair = Pair::new(&[
        ("d/a", "1\n"),
        ("d/b", "1\n"),
        ("d/s/c", "1\n"),
        ("e", "1\n"),
    ]);
    let here = &pair.laptop;
    let old = here.git(&["rev-parse", "HEAD"]);
    here.write("d/a", "2\n");
    here.write("e", "2\n");
    here.remove("d/b");
    fs::remove_dir_all(here.at("d/s")).unwrap();
    here.write("d/new", "n\n");
    let _ran = here.once().ok();
    let _said = alone(here, &["restore", "d", "--at", &old[..8], "-y"]).ok();
    assert_eq!(here.read("d/a"), "1\n");
    assert_eq!(here.read("d/b"), "1\n");
    assert_eq!(here.read("d/s/c"), "1\n");
    assert_eq!(here.read("d/new"), "n\n");
    assert_eq!(here.read("e"), "2\n", "that is elsewhere");
    let _said = alone(here, &["restore", ".", "--at", "HEAD~2", "-y"]).ok();
    assert_eq!(here.read("e"), "1\n");
    pair.converge("a directory");
    pair.assert_settled("a directory");
}

/// Commits a version of `a` by plain git, at a time of the past.
fn commit_by_hand(here: &Host, text: &str, day: &str) {
    here.write("a", text);
    let mut command = here.sandbox.command("git");
    let ran = command
        .args(["commit", "-q", "-a", "-m", "by hand"])
        .env("GIT_COMMITTER_DATE", day)
        .env("GIT_AUTHOR_DATE", day)
        .current_dir(&here.root)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn a_time_is_that_of_the_log_and_before_it_that_of_the_commits() {
    let pair = Pair::new(&[("a", "now\n")]);
    let here = &pair.laptop;
    // Two versions from before there was a log here, by dates.
    for (text, day) in [
        ("old\n", "2020-05-01T10:00:00Z"),
        ("older\n", "2020-05-03T10:00:00Z"),
    ] {
        commit_by_hand(here, text, day);
    }
    here.git(&["update-ref", "-d", "refs/worktree/autosync/log"]);
    here.write("a", "new\n");
    let _ran = here.once().ok();
    let _said = alone(here, &["restore", "a", "--at", "2020-05-02", "-y"]).ok();
    assert_eq!(here.read("a"), "old\n");
    let _said = alone(here, &["restore", "a", "--at", "2020-05-03 10:00", "-y"]).ok();
    assert_eq!(here.read("a"), "older\n");
    let said = alone(here, &["restore", "a", "--at", "2020-04-30", "-y"]).fails(1);
    assert!(
        said.contains("this folder had no version at 2020-05-01T00:00:00"),
        "{said}"
    );
    pair.converge("by time");
    pair.assert_settled("by time");
}

#[test]
fn links_types_and_names_come_back_as_they_were() {
    let pair = Pair::new(&[("file", "1\n"), ("plain", "1\n")]);
    let here = &pair.laptop;
    symlink("file", here.at("link")).unwrap();
    here.write("-dash", "1\n");
    here.write("*", "star\n");
    let _ran = here.once().ok();
    fs::remove_file(here.at("link")).unwrap();
    here.write("link/inside", "1\n");
    here.write("-dash", "2\n");
    here.write("*", "2\n");
    let _ran = here.once().ok();
    let plan = alone(here, &["restore", "link", "--dry-run"]).ok();
    assert!(plan.contains("delete       link/inside"), "{plan}");
    let _said = alone(here, &["restore", "link", "-y"]).ok();
    let target = fs::read_link(here.at("link")).unwrap();
    assert_eq!(target, std::path::Path::new("file"));
    let _said = alone(here, &["restore", "-y", "--", "-dash"]).ok();
    assert_eq!(here.read("-dash"), "1\n");
    let _said = alone(here, &["restore", "*", "-y"]).ok();
    assert_eq!(here.read("*"), "star\n");
    assert_eq!(here.read("plain"), "1\n");
    pair.converge("types");
    pair.assert_settled("types");
}

#[test]
fn a_file_in_the_way_of_an_edit_that_is_not_committed_loses_nothing() {
    // The file is ignored now, so its content is in no commit; the old version is tracked.
    let pair = Pair::new(&[("a", "1\n"), ("b", "1\n")]);
    let here = &pair.laptop;
    here.remove("a");
    here.write(".gitignore", "a\n");
    let _ran = here.once().ok();
    here.write("a", "TOKEN-private\n");
    let _ran = here.once().ok();
    let _said = alone(here, &["restore", "a", "-y"]).ok();
    let everywhere = fs::read_dir(here.at(".git/autosync/aside"))
        .map(Iterator::count)
        .unwrap_or_default();
    let beside = copies(here);
    let stands = here.read("a");
    assert!(
        stands == "TOKEN-private\n" || everywhere > 0 || !beside.is_empty(),
        "{stands} {everywhere} {beside:?}"
    );
    here.assert_sound("in the way");
}

/// A pair whose laptop got another version of `a` while a program went on writing to its old one:
/// that lies among what was displaced, and nowhere else yet.
fn written_late(text: &str) -> Pair {
    let stays = Sandbox::named("laptop").with("AUTOSYNC_GRACE", "86400000");
    let pair = Pair::of(
        stays,
        Sandbox::named("server"),
        &[("a", "1\n"), ("b", "1\n")],
    );
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("a", "2\n");
    let _ran = there.once().ok();
    let _ran = here.once().ok();
    assert_eq!(here.read("a"), "2\n");
    let stores = fs::read_dir(here.at(".git/autosync/displaced")).unwrap();
    let slots = stores.flat_map(|store| fs::read_dir(store.unwrap().path()).unwrap());
    let slots = slots.map(|slot| slot.unwrap().path());
    let mut slots: Vec<_> = slots
        .filter(|slot| slot.file_name().unwrap() != "index")
        .collect();
    assert_eq!(slots.len(), 1, "{slots:?}");
    fs::write(slots.remove(0), text).unwrap();
    pair
}

#[test]
fn what_was_written_to_a_file_that_had_made_room_is_a_version_by_its_time() {
    let pair = written_late("TOKEN-late\n");
    let here = &pair.laptop;
    let list = alone(here, &["restore", "a", "--list"]).ok();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(
        lines[0].ends_with("  written to the old file after it was replaced"),
        "{list}"
    );
    assert!(lines[1].ends_with("  server: a (as it is now)"), "{list}");
    assert!(lines[2].contains("laptop: "), "{list}");
    let json = alone(here, &["restore", "a", "--list", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json[0]["displaced"], &json[1]["is_now"]),
        (&true.into(), &true.into())
    );
    // It is the newest other version; the one before is there by its commit.
    let _said = alone(here, &["restore", "a", "-y"]).ok();
    assert_eq!(here.read("a"), "TOKEN-late\n");
    let first = lines[2].split("  ").nth(1).unwrap();
    let _said = alone(here, &["restore", "a", "--at", first, "-y"]).ok();
    assert_eq!(here.read("a"), "1\n");
    let late = json[0]["commit"].as_str().unwrap();
    let _said = alone(here, &["restore", "a", "--at", late, "-y"]).ok();
    assert_eq!(here.read("a"), "TOKEN-late\n");
    pair.converge("late");
    pair.assert_settled("late");
    assert_eq!(pair.server.read("a"), "TOKEN-late\n");
}

#[test]
fn a_late_version_that_is_a_secret_comes_back_only_once_it_is_let_through() {
    let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nTOKEN+x/";
    let key =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n");
    let pair = written_late(&key);
    let here = &pair.laptop;
    let list = alone(here, &["restore", "a", "--list"]).ok();
    let first = list.lines().next().unwrap();
    assert!(
        first.contains("  -         it looks like a private "),
        "{list}"
    );
    let said = alone(here, &["restore", "a", "-y"]).fails(1);
    assert!(
        said.contains("the newest other version of `a` looks like"),
        "{said}"
    );
    let objects = here.git(&["cat-file", "--batch-all-objects", "--batch-check"]);
    for line in objects.lines().filter(|line| line.contains(" blob ")) {
        let blob = here.git(&["cat-file", "blob", line.split(' ').next().unwrap()]);
        assert!(!blob.contains("TOKEN"), "it became an object");
    }
    let _said = alone(here, &["allow", "a"]).ok();
    let _said = alone(here, &["restore", "a", "-y"]).ok();
    assert_eq!(here.read("a"), key);
    pair.converge("allowed");
    assert_eq!(pair.server.read("a"), key);
}

#[test]
fn what_is_in_no_branch_any_more_is_sorted_in_by_time() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    commit_by_hand(here, "old\n", "2020-05-01T10:00:00Z");
    here.write("a", "TOKEN-2\n");
    let _ran = here.once().ok();
    // Somebody's git throws it away, so it is only in the log.
    here.git(&["reset", "-q", "--hard", "HEAD~1"]);
    commit_by_hand(here, "older\n", "2020-05-03T10:00:00Z");
    let list = alone(here, &["restore", "a", "--list"]).ok();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 4, "{list}");
    assert!(lines[0].ends_with("  laptop: a"), "{list}");
    assert!(lines[1].starts_with("2020-05-03 10:00  "), "{list}");
    assert!(lines[2].starts_with("2020-05-01 10:00  "), "{list}");
    let _said = alone(here, &["restore", "a", "-y"]).ok();
    assert_eq!(here.read("a"), "TOKEN-2\n");
}
