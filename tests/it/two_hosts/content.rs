//! Every kind of change travels, both ways, and nothing travels without a change.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::host::{Host, Pair, Stands};

fn file(text: &str) -> Stands {
    Stands::File {
        content: text.into(),
        executable: false,
    }
}

fn gone(path: impl AsRef<Path>) -> bool {
    fs::symlink_metadata(path).is_err()
}

#[test]
fn an_edit_here_is_there_in_both_directions() {
    let pair = Pair::new();
    pair.laptop.write("notes/todo.txt", "milk\n");
    pair.server.sees("the new file", |root| {
        fs::read(root.join("notes/todo.txt")).is_ok_and(|text| text == b"milk\n")
    });
    pair.server.write("notes/todo.txt", "milk\nbread\n");
    pair.laptop.sees("the edit", |root| {
        fs::read(root.join("notes/todo.txt")).is_ok_and(|text| text == b"milk\nbread\n")
    });
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1);
    let subjects = pair.laptop.git(["log", "--format=%s|%an"]);
    let subjects: Vec<&str> = subjects.lines().collect();
    assert_eq!(subjects.len(), 2, "one commit for each edit: {subjects:?}");
    assert!(
        subjects[0].starts_with("server: notes/todo.txt"),
        "{subjects:?}"
    );
    assert!(
        subjects[1].starts_with("laptop: notes/todo.txt"),
        "{subjects:?}"
    );
}

#[test]
fn modes_links_deletes_and_renames_travel() {
    let pair = Pair::new();
    pair.laptop.write("tool", "#!/bin/sh\n");
    pair.laptop.write("dir/sub/a", "a\n");
    pair.laptop.write("dir/sub/b", "b\n");
    symlink("dir/sub/a", pair.laptop.folder.join("link")).unwrap();
    symlink("/nowhere/at all", pair.laptop.folder.join("dangling")).unwrap();
    pair.laptop.write("empty", "");
    let tree = pair.equal();
    assert_eq!(tree[OsStr::new("link")], Stands::Link("dir/sub/a".into()));
    assert_eq!(
        tree[OsStr::new("dangling")],
        Stands::Link("/nowhere/at all".into())
    );
    assert_eq!(tree[OsStr::new("empty")], file(""));

    let here = &pair.server.folder;
    fs::set_permissions(here.join("tool"), Permissions::from_mode(0o755)).unwrap();
    fs::rename(here.join("dir"), here.join("moved")).unwrap();
    fs::remove_file(here.join("link")).unwrap();
    symlink("moved/sub/b", here.join("link")).unwrap();
    fs::remove_file(here.join("empty")).unwrap();
    fs::remove_file(here.join("dangling")).unwrap();
    fs::create_dir(here.join("dangling")).unwrap();
    pair.server.write("dangling/now a directory", "x\n");
    let tree = pair.ends_well();
    let tool = Stands::File {
        content: b"#!/bin/sh\n".into(),
        executable: true,
    };
    assert_eq!(tree[OsStr::new("tool")], tool);
    assert_eq!(tree[OsStr::new("moved/sub/a")], file("a\n"));
    assert_eq!(tree[OsStr::new("link")], Stands::Link("moved/sub/b".into()));
    assert_eq!(tree[OsStr::new("dangling/now a directory")], file("x\n"));
    assert!(
        gone(pair.laptop.folder.join("dir")),
        "an emptied directory goes"
    );
    assert!(gone(pair.laptop.folder.join("empty")));
    assert_eq!(tree.len(), 5);
}

#[test]
fn an_empty_directory_stays_where_it_is_and_makes_no_commit() {
    let pair = Pair::new();
    pair.laptop.write("a", "a\n");
    pair.equal();
    let before = pair.laptop.counters();
    fs::create_dir_all(pair.laptop.folder.join("empty/inside")).unwrap();
    assert_eq!(pair.laptop.counters().commits, before.commits);
    assert!(gone(pair.server.folder.join("empty")));
    pair.laptop.write("empty/inside/file", "x\n");
    let tree = pair.ends_well();
    assert_eq!(tree[OsStr::new("empty/inside/file")], file("x\n"));
}

#[test]
fn names_may_be_any_bytes() {
    let pair = Pair::new();
    let names: Vec<OsString> = [
        &b"caf\xe9 latin1"[..],
        b"new\nline",
        b" leading and trailing ",
        b"tab\there",
        b"-dash",
        b":(glob)*",
        b"quo\"te\\back",
        b"b\xff/\xfe/c",
    ]
    .into_iter()
    .map(|name| OsString::from_vec(name.to_vec()))
    .collect();
    for name in &names {
        pair.laptop.write(name, "1\n");
    }
    let tree = pair.equal();
    assert_eq!(tree.len(), names.len());
    for name in &names {
        assert_eq!(tree[name], file("1\n"), "{name:?}");
        pair.server.write(name, "2\n");
    }
    let tree = pair.equal();
    for name in &names {
        assert_eq!(tree[name], file("2\n"), "{name:?}");
        fs::remove_file(pair.laptop.folder.join(name)).unwrap();
    }
    // An emptied folder is a question.
    pair.laptop.write("last", "3\n");
    assert_eq!(pair.ends_well().len(), 1);
}

#[test]
fn two_thousand_files_at_once_are_at_most_five_commits() {
    let pair = Pair::new();
    for number in 0..2000 {
        let name = format!("many/{:02}/{number:04}.txt", number % 40);
        pair.laptop.write(name, format!("number {number}\n"));
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 2000);
    let commits = pair.laptop.commits().len();
    assert!((1..=5).contains(&commits), "{commits} commits");
}

#[test]
fn two_edits_of_different_lines_at_once_are_merged() {
    let pair = Pair::new();
    pair.laptop.write("plan", "one\n\ntwo\n\nthree\n\nfour\n");
    pair.equal();
    pair.laptop.write("plan", "ONE\n\ntwo\n\nthree\n\nfour\n");
    pair.server.write("plan", "one\n\ntwo\n\nthree\n\nFOUR\n");
    let merged = "ONE\n\ntwo\n\nthree\n\nFOUR\n";
    for host in pair.hosts() {
        host.sees("both edits", |root| {
            fs::read(root.join("plan")).is_ok_and(|text| text == merged.as_bytes())
        });
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert_eq!(tree[OsStr::new("plan")], file(merged));
}

#[test]
fn two_files_of_one_name_at_once_become_the_file_and_a_conflict_copy() {
    let pair = Pair::new();
    pair.laptop.write("name.txt", "laptop\n");
    pair.server.write("name.txt", "server\n");
    for host in pair.hosts() {
        host.until("both versions", |host| host.tree().len() == 2);
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 2, "{tree:?}");
    let copies = pair.laptop.copies();
    let [copy] = copies.as_slice() else {
        panic!("{copies:?}");
    };
    let stands = pair.laptop.read("name.txt").unwrap();
    let other = pair.laptop.read(copy).unwrap();
    let loser = if stands == "laptop\n" {
        "server"
    } else {
        "laptop"
    };
    assert_eq!(other, format!("{loser}\n"));
    assert!(
        copy.starts_with(&format!("name (conflict {loser} ")),
        "{copy}"
    );
    assert!(
        Path::new(copy).extension().is_some_and(|end| end == "txt"),
        "{copy}"
    );

    for host in pair.hosts() {
        let told = host.run(["conflicts"]).ok();
        assert!(
            told.contains("name.txt") && told.contains(copy.as_str()),
            "{told}"
        );
        assert_eq!(host.folder_status().conflicts.len(), 1);
    }
    fs::remove_file(pair.server.folder.join(copy)).unwrap();
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1);
    for host in pair.hosts() {
        assert!(host.folder_status().conflicts.is_empty(), "it was solved");
    }
}

#[test]
fn an_edit_beats_a_delete() {
    let pair = Pair::new();
    pair.laptop.write("a", "old\n");
    pair.equal();
    fs::remove_file(pair.laptop.folder.join("a")).unwrap();
    pair.server.write("a", "edited\n");
    pair.server.synced();
    let tree = pair.ends_well();
    assert_eq!(tree[OsStr::new("a")], file("edited\n"));
}

#[test]
fn nothing_is_committed_without_a_change() {
    let pair = Pair::new();
    pair.laptop.write("a", "a\n");
    pair.laptop.write("b/c", "c\n");
    pair.equal();
    let before = pair.hosts().map(Host::counters);
    let here = &pair.laptop.folder;
    // Touched, written again as it was, replaced by an equal file, there and gone again.
    File::options()
        .write(true)
        .open(here.join("a"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    pair.laptop.write("b/c", "c\n");
    pair.laptop.write("b/new", "c\n");
    fs::rename(here.join("b/new"), here.join("b/c")).unwrap();
    pair.laptop.write("short", "x\n");
    fs::remove_file(here.join("short")).unwrap();
    fs::rename(here.join("b"), here.join("d")).unwrap();
    fs::rename(here.join("d"), here.join("b")).unwrap();
    let after = pair.hosts().map(Host::counters);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (
                after.commits,
                after.pushes,
                after.merges,
                after.applies,
                after.notices_sent
            ),
            (
                before.commits,
                before.pushes,
                before.merges,
                before.applies,
                before.notices_sent
            )
        );
    }
    assert!(after[0].snapshots > before[0].snapshots, "it did look");
    pair.ends_well();
}

#[test]
fn what_is_ignored_here_and_had_to_make_room_is_listed_until_it_is_taken() {
    let mut pair = Pair::configured("[guards]\nsecrets = false\n");
    let info = pair.laptop.folder.join(".git/info");
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("exclude"), ".env\nkey\n").unwrap();
    pair.laptop.write(".env", "S3CRET\n");
    pair.laptop.write("key", "S3CRET key\n");
    pair.laptop.write("a", "a\n");
    pair.server.sees("a file", |root| root.join("a").exists());
    pair.quiet();
    pair.server.write(".env", "theirs\n");
    pair.laptop.sees("the file that came in", |root| {
        fs::read(root.join(".env")).is_ok_and(|text| text == b"theirs\n")
    });
    let status = pair.laptop.barrier();
    let [aside] = status.aside.as_slice() else {
        panic!("{status:#?}");
    };
    assert_eq!(aside.path, ".env");
    assert_eq!(fs::read_to_string(&aside.now).unwrap(), "S3CRET\n");
    let listed = pair.laptop.run(["conflicts"]).ok();
    assert!(listed.contains(&aside.now), "{listed}");
    let page = pair.laptop.run(["status"]).ok();
    assert!(page.contains("1 ignored file had to make room"), "{page}");

    // Without an agent, and only what is new.
    pair.laptop.stop();
    pair.server.write("key", "theirs\n");
    pair.server.synced();
    let said = pair.laptop.run(["once", "Sync"]).ok();
    assert!(said.contains("`key`, which git ignores here"), "{said}");
    assert!(!said.contains(".env"), "{said}");

    pair.laptop.start();
    fs::remove_file(&aside.now).unwrap();
    pair.laptop.run(["sync"]).ok();
    let status = pair.laptop.barrier();
    assert_eq!(status.aside.len(), 1, "{status:#?}");
    assert_eq!(status.aside[0].path, "key");
}
