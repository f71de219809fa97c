//! A hub that is away, one that says no, and hosts that slept: what waits is not forgotten.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use autosync::engine::status::State;

use crate::support::host::{Host, Pair};

fn holds(root: &Path, name: &str, text: &str) -> bool {
    fs::read(root.join(name)).is_ok_and(|found| found == text.as_bytes())
}

#[test]
fn a_commit_made_without_a_hub_is_pushed_when_it_is_back_though_nothing_new_changed() {
    let pair = Pair::new();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let away = pair.hub.with_extension("away");
    fs::rename(&pair.hub, &away).unwrap();
    pair.laptop.write("a", "2\n");
    pair.laptop
        .until("status says that the hub is gone", |host| {
            let status = host.folder_status();
            let said = ["hub-unreachable", "hub-missing"].contains(&status.code.as_str());
            said && status.counters.commits == 2
        });
    let status = pair.laptop.folder_status();
    assert_eq!(status.pending.commits, 1);
    assert!(!status.published);
    assert!(!status.hub.unwrap().reachable);
    assert!(!status.message.is_empty() && !status.hint.is_empty());
    let page = pair.laptop.run(["status"]);
    assert_eq!(page.code, Some(3), "{page:?}");

    fs::rename(&away, &pair.hub).unwrap();
    pair.server.sees("what was committed meanwhile", |root| {
        holds(root, "a", "2\n")
    });
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1);
    let status = pair.laptop.folder_status();
    assert_eq!((status.code.as_str(), status.state), ("ok", State::Idle));
    assert!(status.hub.unwrap().reachable);
    assert_eq!(pair.laptop.commits().len(), 2, "no commit without a cause");
}

#[test]
fn both_work_on_without_a_hub_and_merge_when_it_is_back() {
    let pair = Pair::new();
    pair.laptop.write("plan", "one\n\ntwo\n\nthree\n");
    pair.equal();
    let away = pair.hub.with_extension("away");
    fs::rename(&pair.hub, &away).unwrap();
    pair.laptop.write("plan", "ONE\n\ntwo\n\nthree\n");
    pair.laptop.write("laptop", "l\n");
    pair.server.write("plan", "one\n\ntwo\n\nTHREE\n");
    pair.server.write("server", "s\n");
    for host in pair.hosts() {
        host.until("both changes are committed", |host| {
            // A status that takes the index's lock all the time lets nobody commit.
            let args = ["--no-optional-locks", "status", "--porcelain"];
            host.git(args).is_empty() && host.folder_status().pending.commits > 0
        });
    }
    fs::rename(&away, &pair.hub).unwrap();
    for host in pair.hosts() {
        host.sees("the merge", |root| {
            holds(root, "plan", "ONE\n\ntwo\n\nTHREE\n")
        });
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 3, "{tree:?}");
}

#[test]
fn a_hub_that_rejects_for_ever_is_asked_less_and_less_and_its_words_are_shown() {
    let pair = Pair::new();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let hook = pair.hub.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let count = pair.hub.join("asked");
    let script = format!(
        "#!/bin/sh\necho x >> '{}'\necho 'closed for the night' >&2\nexit 1\n",
        count.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    pair.laptop.write("a", "2\n");
    pair.laptop.until("status has the hook's words", |host| {
        host.folder_status()
            .message
            .contains("closed for the night")
    });
    let status = pair.laptop.folder_status();
    assert!(
        matches!(status.state, State::Retry | State::Held),
        "{status:?}"
    );
    assert!(!status.published);
    assert_eq!(status.counters.commits, 2);
    let asked = || fs::read_to_string(&count).map_or(0, |text| text.lines().count());
    assert!(asked() <= 3, "{} times already", asked());
    // A change on top is committed, and does not make it hammer.
    pair.laptop.write("b", "1\n");
    pair.laptop.until("the next commit", |host| {
        host.folder_status().counters.commits == 3
    });
    assert!(asked() <= 5, "{} times", asked());

    fs::remove_file(&hook).unwrap();
    pair.laptop.run(["sync"]).ok();
    pair.server.sees("both changes", |root| {
        holds(root, "a", "2\n") && holds(root, "b", "1\n")
    });
    pair.ends_well();
}

#[test]
fn what_changed_while_stopped_is_pushed_at_the_start_and_what_came_is_fetched() {
    let mut pair = Pair::new();
    pair.laptop.write("a", "1\n");
    pair.laptop.write("gone", "x\n");
    pair.laptop.write("dir/b", "1\n");
    pair.equal();
    pair.laptop.stop();
    pair.laptop.write("a", "2\n");
    pair.laptop.write("new", "n\n");
    fs::remove_file(pair.laptop.folder.join("gone")).unwrap();
    fs::rename(
        pair.laptop.folder.join("dir"),
        pair.laptop.folder.join("moved"),
    )
    .unwrap();
    pair.server.write("meanwhile", "m\n");
    pair.server.synced();
    pair.laptop.start();
    pair.laptop.sees("what came meanwhile", |root| {
        holds(root, "meanwhile", "m\n")
    });
    pair.server.sees("what changed meanwhile", |root| {
        holds(root, "a", "2\n")
            && holds(root, "new", "n\n")
            && holds(root, "moved/b", "1\n")
            && !root.join("gone").exists()
            && !root.join("dir").exists()
    });
    assert_eq!(pair.ends_well().len(), 4);
}

#[test]
fn an_agent_that_was_killed_in_the_middle_of_a_burst_goes_on_where_it_was() {
    let mut pair = Pair::new();
    for number in 0..200 {
        pair.laptop
            .write(format!("{number}"), format!("{number}\n"));
    }
    pair.laptop.until("something is under way", |host| {
        host.folder_status().counters.snapshots > 1 || host.folder_status().pending.paths > 0
    });
    pair.laptop.kill();
    pair.laptop.start();
    pair.equal();
    for number in 200..400 {
        pair.laptop
            .write(format!("{number}"), format!("{number}\n"));
    }
    pair.server
        .until("something arrives", |host| host.folder.join("200").exists());
    pair.server.kill();
    pair.server.start();
    assert_eq!(pair.ends_well().len(), 400);
}

#[test]
fn without_notices_the_poll_brings_it() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.write("a", "1\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let mut server = Host::new("server").with_args::<&str>([]);
    let ran = server.run(["clone".as_ref(), hub.as_os_str(), "Sync".as_ref()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    server.sandbox.config(
        "[notice]\ntransports = [\"poll\"]\n\n[[folder]]\npath = \"~/Sync\"\npoll = \"2s\"\n",
    );
    server.start();
    assert_eq!(server.status().transports[0].name, "poll");
    let pair = Pair {
        laptop,
        server,
        hub,
    };
    pair.quiet();
    let before = pair.server.counters();
    pair.laptop.write("a", "2\n");
    pair.server
        .sees("the change", |root| holds(root, "a", "2\n"));
    pair.equal();
    let after = pair.server.counters();
    assert_eq!(
        after.notices_received, before.notices_received,
        "nobody rang"
    );
    assert!(after.fetches > before.fetches);
}

#[test]
fn after_a_suspend_everything_is_looked_at_again_and_the_hub_is_asked() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.write("a", "1\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let mut server = Host::new("server").with_args::<&str>([]);
    server
        .run(["clone".as_ref(), hub.as_os_str(), "Sync".as_ref()])
        .ok();
    // Nothing rings, and it is long until the next poll.
    server.sandbox.config(
        "[notice]\ntransports = [\"poll\"]\n\n[[folder]]\npath = \"~/Sync\"\npoll = \"10h\"\n",
    );
    let asleep = server.sandbox.root().join("asleep");
    server
        .sandbox
        .set("AUTOSYNC_TEST_ASLEEP", asleep.to_str().unwrap());
    server.start();
    server.synced();
    laptop.write("a", "2\n");
    let tip = laptop.synced().head;
    let before = server.counters();
    assert_eq!(server.read("a").as_deref(), Some("1\n"), "nobody told");

    fs::write(&asleep, "1\n").unwrap();
    assert_eq!(server.counters(), before, "noise between two readings");
    fs::write(&asleep, "3600\n").unwrap();
    server.barrier();
    server.sees("what came meanwhile", |root| holds(root, "a", "2\n"));
    let after = server.barrier();
    assert_eq!(after.head, tip);
    assert_eq!(after.counters.rescans, before.rescans + 1, "{after:#?}");
    assert_eq!(after.counters.fetches, before.fetches + 1, "{after:#?}");
    assert_eq!(after.counters.commits, before.commits, "{after:#?}");
    server.assert_quiet();
    // Once more.
    fs::write(&asleep, "7200\n").unwrap();
    server.until("the next look", |host| {
        host.counters().rescans == before.rescans + 2
    });
}
