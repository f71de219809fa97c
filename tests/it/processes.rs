//! Three agents in processes of their own, a hub over real ssh on loopback, a real Prosody: twelve
//! scenarios of what happens to people.
//!
//! Each ends with all folders equal, quiet and without damage. The servers are started once and
//! shared, but by scenarios that stop, slow or restart one.

mod stage;
mod with_servers_of_their_own;

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;

use crate::support::host::{Host, Stands, Tree};
use crate::support::trio::Trio;
use stage::{Wish, hub, sshd, usual};

/// Waits until what is in a host's folder is committed there.
fn committed(host: &Host) {
    host.until("everything is committed", |host| {
        host.git(["--no-optional-locks", "status", "--porcelain"])
            .is_empty()
    });
}

/// Writes ten lines.
fn lines(first: &str, last: &str) -> String {
    let middle = "a line that nobody touches\n".repeat(8);
    format!("{first}\n{middle}{last}\n")
}

/// Returns every line that stands in some file.
fn standing(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for stands in tree.values() {
        if let Stands::File { content, .. } = stands {
            let text = String::from_utf8_lossy(content).into_owned();
            found.extend(text.lines().map(str::to_owned));
        }
    }
    found
}

/// Returns the conflict copies, which must be the same on all hosts.
fn copies(trio: &Trio) -> Vec<String> {
    let [first, others @ ..] = trio.hosts.each_ref().map(Host::copies);
    for other in others {
        assert_eq!(other, first);
    }
    first
}

#[test]
fn a_conflict_of_two_hosts_while_the_third_is_away_is_one_copy_on_all_three() {
    let test = "a_conflict_of_two_hosts_while_the_third_is_away_is_one_copy_on_all_three";
    let Some(mut trio) = usual(test, Wish::default()) else {
        return;
    };
    trio.hosts[0].write("letter.txt", lines("Dear all,", "Yours"));
    trio.equal();
    trio.hosts[2].stop();
    let [laptop, server, _] = &trio.hosts;
    for host in [laptop, server] {
        host.run(["pause"]).ok();
    }
    laptop.write("letter.txt", lines("Dear laptop,", "Yours"));
    server.write("letter.txt", lines("Dear server,", "Yours"));
    laptop.run(["resume"]).ok();
    laptop.synced();
    server.run(["resume"]).ok();
    server.until("there is a copy", |host| !host.copies().is_empty());
    trio.hosts[2].start();
    trio.ends_well();
    let copies = copies(&trio);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(
        copies[0].starts_with("letter (conflict server "),
        "{copies:?}"
    );
    for host in &trio.hosts {
        assert_eq!(
            host.read("letter.txt").unwrap(),
            lines("Dear laptop,", "Yours")
        );
        assert_eq!(
            host.read(&copies[0]).unwrap(),
            lines("Dear server,", "Yours")
        );
        assert_eq!(host.folder_status().conflicts.len(), 1);
    }
}

#[test]
fn a_conflict_of_all_three_keeps_the_first_version_and_a_copy_of_each_other() {
    let test = "a_conflict_of_all_three_keeps_the_first_version_and_a_copy_of_each_other";
    let Some(trio) = usual(test, Wish::default()) else {
        return;
    };
    trio.hosts[0].write("plan.txt", lines("the plan", "end"));
    trio.equal();
    for host in &trio.hosts {
        host.run(["pause"]).ok();
    }
    let plan = |name: &str| lines(&format!("the plan of {name}"), "end");
    for (host, name) in trio.hosts.iter().zip(["laptop", "server", "desktop"]) {
        host.write("plan.txt", plan(name));
    }
    trio.hosts[0].run(["resume"]).ok();
    trio.hosts[0].synced();
    // These two race for the hub.
    for host in &trio.hosts[1..] {
        host.run(["resume"]).ok();
    }
    trio.ends_well();
    let copies = copies(&trio);
    assert_eq!(copies.len(), 2, "{copies:?}");
    for name in ["server", "desktop"] {
        let mut of = copies.iter();
        let copy = of.find(|copy| copy.contains(&format!(" (conflict {name} ")));
        assert_eq!(trio.hosts[0].read(copy.unwrap()).unwrap(), plan(name));
    }
    assert_eq!(trio.hosts[2].read("plan.txt").unwrap(), plan("laptop"));
}

#[test]
fn a_mass_delete_that_is_approved_on_one_host_reaches_the_two_without_a_question() {
    let test = "a_mass_delete_that_is_approved_on_one_host_reaches_the_two_without_a_question";
    let Some(trio) = usual(test, Wish::default()) else {
        return;
    };
    let [laptop, server, desktop] = &trio.hosts;
    for number in 0..80 {
        laptop.write(format!("photos/{number}.jpg"), format!("photo {number}\n"));
    }
    trio.equal();
    laptop.take_away("photos");
    laptop.until("the delete is held", |host| {
        let status = host.folder_status();
        status.held.iter().any(|held| held.code == "mass-delete")
    });
    // What else happens goes on.
    laptop.write("other.txt", "other\n");
    server.sees("other.txt", |root| root.join("other.txt").exists());
    for host in [server, desktop] {
        assert!(host.folder.join("photos/79.jpg").exists());
    }
    assert_eq!(laptop.run(["approve"]).code, Some(0));
    for host in [server, desktop] {
        host.sees("the photos are gone", |root| {
            !root.join("photos/79.jpg").exists()
        });
    }
    let tree = trio.ends_well();
    assert!(
        !tree
            .keys()
            .any(|name| name.to_string_lossy().contains("photos"))
    );
    for host in &trio.hosts {
        assert!(host.folder_status().held.is_empty());
    }
    assert_eq!(server.git(["show", "HEAD~1:photos/7.jpg"]), "photo 7");
}

#[test]
fn a_storm_of_renames_on_one_host_takes_the_edits_of_another_along() {
    let test = "a_storm_of_renames_on_one_host_takes_the_edits_of_another_along";
    let Some(trio) = usual(test, Wish::default()) else {
        return;
    };
    let [laptop, server, _] = &trio.hosts;
    let text = |number: usize| {
        let line = |at: usize| format!("file {number} line {at} of file {number}\n");
        (0..8).map(line).collect::<String>()
    };
    for number in 0..200 {
        laptop.write(format!("tree/d{}/f{number}", number % 10), text(number));
    }
    trio.equal();
    for host in [laptop, server] {
        host.run(["pause"]).ok();
    }
    fs::create_dir(laptop.folder.join("grove")).unwrap();
    for number in 0..200 {
        let from = laptop
            .folder
            .join(format!("tree/d{}/f{number}", number % 10));
        let to = laptop.folder.join(format!("grove/{number}.txt"));
        fs::rename(from, to).unwrap();
    }
    fs::remove_dir_all(laptop.folder.join("tree")).unwrap();
    for number in (0..200).step_by(9) {
        let name = format!("tree/d{}/f{number}", number % 10);
        server.write(name, format!("{}edited {number}\n", text(number)));
    }
    for host in [laptop, server] {
        host.run(["resume"]).ok();
    }
    let tree = trio.ends_well();
    for number in 0..200 {
        let edit = if number % 9 == 0 {
            format!("edited {number}\n")
        } else {
            String::new()
        };
        let content = format!("{}{edit}", text(number)).into_bytes();
        let stands = &tree[std::ffi::OsStr::new(&format!("grove/{number}.txt"))];
        let wanted = Stands::File {
            content,
            executable: false,
        };
        assert_eq!(*stands, wanted, "{number}");
    }
    assert!(
        !tree
            .keys()
            .any(|name| name.to_string_lossy().starts_with("tree"))
    );
    for host in &trio.hosts {
        assert!(host.folder_status().held.is_empty());
    }
}

#[test]
fn a_host_that_starts_with_changes_on_its_disk_commits_them_before_it_takes_anything() {
    let test = "a_host_that_starts_with_changes_on_its_disk_commits_them_before_it_takes_anything";
    let Some(mut trio) = usual(test, Wish::default()) else {
        return;
    };
    for name in ["both.txt", "gone.txt", "old.txt"] {
        trio.hosts[0].write(name, lines(&format!("first of {name}"), "last"));
    }
    trio.equal();
    trio.hosts[1].stop();
    let [laptop, server, desktop] = &trio.hosts;
    server.write("both.txt", lines("first by server", "last"));
    fs::remove_file(server.folder.join("gone.txt")).unwrap();
    fs::rename(server.folder.join("old.txt"), server.folder.join("new.txt")).unwrap();
    server.write("added/by server.txt", "server\n");
    laptop.write("both.txt", lines("first of both.txt", "last by laptop"));
    laptop.write("old.txt", lines("first of old.txt", "last by laptop"));
    desktop.write("gone.txt", lines("first by desktop", "last"));
    for host in [laptop, desktop] {
        committed(host);
        host.synced();
    }
    trio.hosts[1].start();
    let tree = trio.ends_well();
    let names: Vec<String> = tree
        .keys()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let wanted = [
        "added/by server.txt",
        "both.txt",
        "first.txt",
        "gone.txt",
        "new.txt",
    ];
    assert_eq!(names, wanted);
    let host = &trio.hosts[2];
    assert_eq!(
        host.read("both.txt").unwrap(),
        lines("first by server", "last by laptop")
    );
    assert_eq!(
        host.read("new.txt").unwrap(),
        lines("first of old.txt", "last by laptop")
    );
    // An edit beats a delete.
    assert_eq!(
        host.read("gone.txt").unwrap(),
        lines("first by desktop", "last")
    );
}

#[test]
fn a_suspended_host_catches_up_with_what_it_and_the_others_did() {
    let test = "a_suspended_host_catches_up_with_what_it_and_the_others_did";
    let Some(trio) = usual(test, Wish::default()) else {
        return;
    };
    let [laptop, server, desktop] = &trio.hosts;
    laptop.write("shared.txt", lines("one", "ten"));
    trio.equal();
    desktop.signal(Signal::STOP);
    desktop.write("shared.txt", lines("one", "ten by desktop"));
    desktop.write("own.txt", "desktop\n");
    for number in 0..30 {
        laptop.write(format!("many/{number}"), format!("{number}\n"));
    }
    laptop.write("shared.txt", lines("one by laptop", "ten"));
    server.sees("what laptop wrote", |root| root.join("many/29").exists());
    for host in [laptop, server] {
        host.synced();
    }
    desktop.signal(Signal::CONT);
    let tree = trio.ends_well();
    assert_eq!(tree.len(), 33);
    assert_eq!(
        server.read("shared.txt").unwrap(),
        lines("one by laptop", "ten by desktop")
    );
}

#[test]
fn ten_files_that_go_round_ten_times_are_followed_by_silence() {
    let test = "ten_files_that_go_round_ten_times_are_followed_by_silence";
    let Some(trio) = usual(test, Wish::default()) else {
        return;
    };
    let before = trio.hosts[0].commits().len();
    for round in 0..10 {
        let host = &trio.hosts[round % 3];
        for file in 0..10 {
            host.write(format!("ball{file}"), format!("round {round}\n"));
        }
        let next = &trio.hosts[(round + 1) % 3];
        next.until("the ten files of this round came", |host| {
            let has = |file| host.read(format!("ball{file}"));
            (0..10).all(|file| has(file) == Some(format!("round {round}\n")))
        });
    }
    trio.ends_well();
    let made = trio.hosts[0].commits().len() - before;
    // At most one for each save.
    assert!((10..=100).contains(&made), "{made} commits");
    assert!(copies(&trio).is_empty());
}

#[test]
fn clone_reaches_the_hub_by_the_ssh_command_of_the_users_git() {
    let Some(sshd) = sshd("clone_reaches_the_hub_by_the_ssh_command_of_the_users_git") else {
        return;
    };
    let hub = hub(sshd);
    let url = format!("ssh://hub.test{}", hub.display());
    let [laptop, server] = ["laptop", "server"].map(Host::new);
    for host in [&laptop, &server] {
        let ssh = sshd.command();
        let home = host.sandbox.home();
        host.sandbox
            .git(&home, ["config", "--global", "core.sshCommand", &ssh]);
    }
    laptop.write("a.txt", "a\n");
    assert_eq!(laptop.run(["init", "Sync", "--hub", &url]).code, Some(0));
    let ran = server.run(["clone", &url, "Sync"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(server.read("a.txt").unwrap(), "a\n");
}
