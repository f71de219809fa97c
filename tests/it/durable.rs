//! What has to be on the disk before what: the order of fsync and rename, as the kernel sees it.
//!
//! A power cut shows what was not waited for. That is not tried here; but every wait that the
//! protocol asks for is looked for in the system calls of a real sync, in its place.

use std::collections::BTreeMap;
use std::path::Path;

use crate::network::skipped;
use crate::pair::{Host, Pair};
use crate::support::PROGRAM;

/// One thing that was done to the disk, when its call came back.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    /// A file or directory was made durable.
    Synced(String),
    /// A name went to another.
    Renamed(String, String),
}

/// Runs a sync of this host and returns what it did to the disk, in order; `None` without strace.
fn traced(host: &Host, test: &str) -> Option<Vec<Done>> {
    let log = host.sandbox.root().join("strace.log");
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2";
    let mut command = host.sandbox.command("strace");
    command.args(["-f", "-y", "-s", "4096", "-qq", "-e", calls, "-o"]);
    command.arg(&log).arg(PROGRAM).arg("once").arg(&host.root);
    let Ok(out) = command.output() else {
        skipped(test, "there is no strace");
        return None;
    };
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if said.contains("Operation not permitted") {
        skipped(test, "nobody may trace here");
        return None;
    }
    assert!(out.status.success(), "{out:?}");
    Some(parse(&std::fs::read_to_string(log).unwrap()))
}

fn parse(log: &str) -> Vec<Done> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut done = Vec::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, begin.to_owned());
            continue;
        }
        let whole = match call.split_once(" resumed>") {
            Some((_, rest)) => begun.remove(pid).unwrap_or_default() + rest,
            None => call.to_owned(),
        };
        if !whole.trim_end().ends_with("= 0") {
            continue;
        }
        let name = whole.split('(').next().unwrap_or_default();
        match name {
            "fsync" | "fdatasync" => {
                let path = whole
                    .split_once('<')
                    .and_then(|(_, rest)| rest.rsplit_once(">)"));
                done.push(Done::Synced(path.unwrap().0.to_owned()));
            }
            "rename" | "renameat" | "renameat2" => {
                let mut names = whole.split('"').skip(1).step_by(2);
                let (from, to) = (names.next().unwrap(), names.next().unwrap());
                done.push(Done::Renamed(from.to_owned(), to.to_owned()));
            }
            _ => {}
        }
    }
    done
}

/// Returns where something got this name first.
fn renamed(done: &[Done], to: &Path) -> usize {
    let is = |it: &Done| matches!(it, Done::Renamed(_, name) if Path::new(name) == to);
    let at = done.iter().position(is);
    at.unwrap_or_else(|| panic!("nothing became {}: {done:#?}", to.display()))
}

/// Whether a file or directory was made durable somewhere in a part of it all.
fn synced(part: &[Done], path: &Path) -> bool {
    part.iter()
        .any(|it| matches!(it, Done::Synced(name) if Path::new(name) == path))
}

/// Asserts that every object was durable before it had its name, and its name before `end`.
fn assert_objects(done: &[Done], end: usize, below: &Path) -> usize {
    let mut count = 0;
    for (at, it) in done[..end].iter().enumerate() {
        let Done::Renamed(from, to) = it else {
            continue;
        };
        if !from.contains("tmp_obj_") || !Path::new(to).starts_with(below) {
            continue;
        }
        count += 1;
        assert!(synced(&done[..at], Path::new(from)), "{from}: {done:#?}");
        let dir = Path::new(to).parent().unwrap();
        assert!(synced(&done[at..end], dir), "{to}: {done:#?}");
    }
    count
}

const FILES: &[(&str, &str)] = &[("dir/edit", "1\n"), ("gone", "1\n"), ("other", "1\n")];

#[test]
fn a_snapshot_and_its_push_wait_for_the_disk_before_each_name_that_counts() {
    let test = "a_snapshot_and_its_push_wait_for_the_disk_before_each_name_that_counts";
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("dir/edit", "2\n");
    let Some(done) = traced(here, test) else {
        return;
    };
    // The reference is linked or renamed into its place; then its directory is waited for.
    let ours = here.at(".git/refs/worktree/autosync");
    let pending = done
        .iter()
        .position(|it| *it == Done::Synced(ours.display().to_string()));
    let pending = pending.unwrap();
    // S3 and S4: what was read, its directory, and the new objects.
    assert!(synced(&done[..pending], &here.at("dir/edit")), "{done:#?}");
    assert!(synced(&done[..pending], &here.at("dir")), "{done:#?}");
    let objects = here.at(".git/objects");
    assert_eq!(assert_objects(&done, pending, &objects), 4, "{done:#?}");
    let first = done
        .iter()
        .position(|it| matches!(it, Done::Renamed(from, _) if from.contains("tmp_obj_")));
    // Before the first object that names it has its name.
    assert!(synced(&done[..first.unwrap()], &here.at("dir/edit")));
    // S5: the hub has the objects before its branch names them.
    let hub = &pair.hub;
    let published = renamed(&done, &hub.join("refs/heads/main"));
    assert_eq!(assert_objects(&done, published, &hub.join("objects")), 4);
    assert!(synced(
        &done[..published],
        &hub.join("refs/heads/main.lock")
    ));
    // And the hub keeps it there, before anybody is told: a rename alone may be lost.
    assert!(
        synced(&done[published..], &hub.join("refs/heads")),
        "{done:#?}"
    );
    // S6 to S8: the index, then the branch, both after `pending`.
    let index = renamed(&done, &here.at(".git/index"));
    let branch = renamed(&done, &here.at(".git/refs/heads/main"));
    assert!(pending < index && index < branch, "{done:#?}");
    assert!(synced(
        &done[..branch],
        &here.at(".git/refs/heads/main.lock")
    ));
    assert!(synced(&done[..pending], &ours.join("pending.lock")));
}

#[test]
fn an_apply_waits_for_the_disk_before_its_journal_and_before_its_branch() {
    let test = "an_apply_waits_for_the_disk_before_its_journal_and_before_its_branch";
    let pair = Pair::new(FILES);
    let there = &pair.server;
    there.write("dir/edit", "3\n");
    there.remove("gone");
    there.write("new/file", "3\n");
    let _ran = there.once().ok();
    let here = &pair.laptop;
    let Some(done) = traced(here, test) else {
        return;
    };
    let journal = renamed(&done, &here.at(".git/autosync/journal"));
    let branch = renamed(&done, &here.at(".git/refs/heads/main"));
    let index = renamed(&done, &here.at(".git/index"));
    let path = |from: &str| -> Vec<usize> {
        let is = |it: &Done| matches!(it, Done::Renamed(_, to) if to.ends_with(from));
        (0..done.len()).filter(|at| is(&done[*at])).collect()
    };
    // A2: what is staged is durable before the journal names it, and the journal before it is one.
    let stage = here.at(".git/autosync/stage/1");
    for place in [stage.join("0"), stage.join("2"), stage] {
        assert!(synced(&done[..journal], &place), "{done:#?}");
    }
    let Done::Renamed(aside, _) = &done[journal] else {
        unreachable!("found as one")
    };
    assert!(synced(&done[..journal], Path::new(aside)), "{done:#?}");
    let (edit, new) = (path("edit"), path("file"));
    let first = *edit.iter().chain(&new).min().unwrap();
    assert!(journal < first, "{done:#?}");
    assert!(
        synced(&done[journal..first], &here.at(".git/autosync")),
        "{done:#?}"
    );
    // A5: the tree is durable before index and branch say what it is.
    let last = *edit.iter().chain(&new).max().unwrap();
    assert!(last < index && index < branch, "{done:#?}");
    for place in ["dir/edit", "dir", "new/file", "new", ""] {
        assert!(
            synced(&done[last..index], &here.at(place)),
            "{place}: {done:#?}"
        );
    }
    assert!(assert_objects(&done, branch, &here.at(".git/objects")) > 0);
}
