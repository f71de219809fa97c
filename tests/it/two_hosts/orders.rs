//! What a person tells an agent, and what an agent tells a person.

use std::fs;
use std::path::Path;
use std::time::Duration;

use autosync::engine::status::{FolderStatus, State};
use rustix::process::Signal;

use crate::support::host::{Host, Pair};

/// More files than may vanish at once without a question.
const MASS: usize = 60;

fn fill(host: &Host) {
    for number in 0..MASS {
        host.write(
            format!("photos/{number:02}.jpg"),
            format!("photo {number}\n"),
        );
    }
    host.write("other", "1\n");
}

fn photos(root: &Path) -> usize {
    fs::read_dir(root.join("photos")).map_or(0, Iterator::count)
}

#[test]
fn a_paused_folder_keeps_its_changes_until_it_goes_on() {
    let pair = Pair::new();
    pair.laptop.run(["pause"]).ok();
    pair.laptop.write("a", "a\n");
    let status = pair.laptop.barrier();
    assert_eq!(status.state, State::Paused);
    assert_eq!(status.counters.commits, 0);
    pair.server.write("b", "b\n");
    pair.server.synced();
    assert!(pair.laptop.read("b").is_none());
    pair.laptop.run(["resume"]).ok();
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 2);
}

#[test]
fn a_pause_with_an_end_ends() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.run(["pause", "--for", "500ms"]).ok();
    laptop.write("a", "a\n");
    assert_eq!(laptop.folder_status().state, State::Paused);
    laptop.until("the commit", |host| {
        host.folder_status().counters.commits == 1
    });
}

#[test]
fn status_waits_until_the_hub_has_everything() {
    let pair = Pair::new();
    pair.laptop.write("a", "a\n");
    let said = pair
        .laptop
        .run(["status", "--json", "--wait", "synced", "--timeout", "60s"])
        .ok();
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    let folder = &status["folders"][0];
    assert_eq!(folder["published"], true);
    assert_eq!(folder["pending"]["commits"], 0);
    assert_eq!(folder["state"], "idle");
    assert_eq!(pair.tip(), folder["head"].as_str().unwrap());
    assert_eq!(pair.laptop.git(["show", "main:a"]), "a");
}

#[test]
fn a_person_may_ask_for_a_look_now() {
    let pair = Pair::new();
    let before = pair.laptop.counters();
    pair.laptop.run(["sync"]).ok();
    let after = pair.laptop.counters();
    assert!(after.fetches > before.fetches, "{after:?}");
    assert!(after.rescans > before.rescans, "{after:?}");
    assert_eq!(after.commits, before.commits);
}

#[test]
fn a_mass_delete_is_held_until_it_is_approved_once() {
    let pair = Pair::new();
    fill(&pair.laptop);
    pair.equal();
    fs::remove_dir_all(pair.laptop.folder.join("photos")).unwrap();
    pair.laptop.write("other", "2\n");
    pair.server.sees("what is no delete", |root| {
        fs::read(root.join("other")).is_ok_and(|text| text == b"2\n")
    });
    let held = pair.laptop.barrier();
    assert!(
        held.held.iter().any(|held| held.code == "mass-delete"),
        "{held:#?}"
    );
    assert_eq!(photos(&pair.server.folder), MASS);
    let page = pair.laptop.run(["status"]);
    assert_eq!(page.code, Some(3), "{page:?}");
    assert!(page.out.contains("autosync approve"), "{page:?}");

    pair.laptop.run(["approve"]).ok();
    pair.server.sees("the deletes", |root| photos(root) == 0);
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert!(pair.server.folder_status().held.is_empty());
    let last = pair.server.git(["log", "--format=%B", "-n", "3"]);
    assert!(last.contains("Autosync-Approved: laptop"), "{last}");
}

#[test]
fn what_no_approval_lets_through_is_said_with_what_does() {
    let mut laptop = Host::new("laptop").with_args([""; 0]);
    let config = "[[folder]]\npath = \"~/Sync\"\nmax_file = \"1KB\"\n";
    laptop.sandbox.config(config);
    laptop.run(["init", "Sync"]).ok();
    laptop.start();
    laptop.write("large", vec![b'x'; 2000]);
    let held = laptop.barrier().held;
    assert!(held.iter().any(|held| held.code == "too-big"), "{held:?}");

    let ran = laptop.run(["approve"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("`large` is larger than `max_file`"),
        "{ran:?}"
    );
    assert!(ran.err.contains("Raise `max_file`"), "{ran:?}");

    // Beside what can be approved, it is not said to be.
    fill(&laptop);
    laptop.barrier();
    fs::remove_dir_all(laptop.folder.join("photos")).unwrap();
    let held = laptop.barrier().held;
    assert_eq!(held.len(), 2, "{held:?}");
    let ran = laptop.run(["approve"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("Approved"), "{ran:?}");
    assert!(ran.out.contains("Still held: `large`"), "{ran:?}");
    laptop.until("the deletes", |host| {
        let held = host.folder_status().held;
        held.len() == 1 && held[0].code == "too-big"
    });
    let page = laptop.run(["approve", "--help"]).ok();
    assert!(page.contains("max_file"), "{page}");
}

#[test]
fn an_unapproved_mass_delete_that_comes_in_waits_and_the_rest_goes_on() {
    let pair = Pair::new();
    fill(&pair.laptop);
    pair.equal();
    let plain = pair.laptop.sandbox.root().join("plain");
    let sandbox = &pair.laptop.sandbox;
    let hub = pair.hub.to_str().unwrap();
    sandbox.git(sandbox.root(), ["clone", "-q", hub, "plain"]);
    sandbox.git(&plain, ["rm", "-q", "-r", "photos"]);
    fs::write(plain.join("other"), "2\n").unwrap();
    sandbox.git(&plain, ["commit", "-q", "-a", "-m", "away"]);
    sandbox.git(&plain, ["push", "-q"]);
    for host in pair.hosts() {
        host.sees("what is no delete", |root| {
            fs::read(root.join("other")).is_ok_and(|text| text == b"2\n")
        });
        let status = host.barrier();
        assert!(
            status.held.iter().any(|held| held.code == "mass-delete"),
            "{status:#?}"
        );
        assert_eq!(photos(&host.folder), MASS);
    }
    // What waits is not committed as new files.
    assert_eq!(pair.tip(), sandbox.git(&plain, ["rev-parse", "HEAD"]));
    for host in pair.hosts() {
        host.run(["approve"]).ok();
        host.sees("the deletes", |root| photos(root) == 0);
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert!(
        pair.hosts()
            .iter()
            .all(|host| host.folder_status().held.is_empty())
    );
}

#[test]
fn approve_says_when_nothing_is_held() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    assert_eq!(
        laptop.run(["approve"]).fails(1),
        "autosync: nothing is held\n"
    );
}

#[test]
fn an_approval_of_one_folder_is_none_of_another() {
    let mut laptop = Host::new("laptop").with_args([""; 0]);
    for dir in ["One", "Two"] {
        laptop.run(["init", dir]).ok();
    }
    laptop.sandbox.config(&config(&["One", "Two"]));
    laptop.start();
    let root = |name: &str| laptop.sandbox.home().join(name);
    let all = |host: &Host, so: &dyn Fn(&FolderStatus) -> bool| {
        let folders = host.status().folders;
        folders.len() == 2 && folders.iter().all(so)
    };
    for name in ["One", "Two"] {
        fs::create_dir(root(name).join("photos")).unwrap();
        for number in 0..MASS {
            fs::write(root(name).join(format!("photos/{number}")), "x\n").unwrap();
        }
        fs::write(root(name).join("other"), "x\n").unwrap();
    }
    let settled = |host: &Host, what| host.run(["status", "--wait", what, "--timeout", "60s"]);
    laptop.until("both are there", |host| {
        settled(host, "synced").code == Some(0) && all(host, &|folder| folder.counters.commits > 0)
    });
    for name in ["One", "Two"] {
        assert_eq!(hub_files(&laptop, name), MASS + 1);
        fs::remove_dir_all(root(name).join("photos")).unwrap();
    }
    laptop.until("both are held", |host| {
        all(host, &FolderStatus::can_be_approved)
    });

    let said = laptop.run(["approve", "Two"]).ok();
    assert_eq!(said, "Approved what was held in Two.\n");
    laptop.until("the one goes", |host| hub_files(host, "Two") == 1);
    assert_eq!(settled(&laptop, "idle").code, Some(3), "the other waits");
    let held: Vec<(String, bool)> = laptop
        .status()
        .folders
        .iter()
        .map(|folder| (folder.name.clone(), folder.can_be_approved()))
        .collect();
    assert_eq!(held, [("One".to_owned(), true), ("Two".to_owned(), false)]);
    assert_eq!(hub_files(&laptop, "One"), MASS + 1, "the other does not");
    let said = laptop.run(["approve", "Two"]).fails(1);
    assert_eq!(said, "autosync: nothing is held\n");

    // A path is as good as a name.
    laptop
        .run(["approve".as_ref(), root("One").as_os_str()])
        .ok();
    laptop.until("the other goes", |host| hub_files(host, "One") == 1);
}

/// Returns how many files the hub of a folder has.
fn hub_files(host: &Host, name: &str) -> usize {
    let hub = host.sandbox.paths().hubs().join(format!("{name}.git"));
    let list = host
        .sandbox
        .git(&hub, ["ls-tree", "-r", "--name-only", "main"]);
    list.lines().count()
}

#[test]
fn a_folder_that_somebody_emptied_is_a_question_however_few_files_it_had() {
    let pair = Pair::new();
    for name in ["a", "b/c", "d"] {
        pair.laptop.write(name, "x\n");
    }
    pair.equal();
    let before = pair.tip();
    fs::remove_dir_all(pair.laptop.folder.join("b")).unwrap();
    fs::remove_file(pair.laptop.folder.join("a")).unwrap();
    fs::remove_file(pair.laptop.folder.join("d")).unwrap();
    let held = pair.laptop.barrier();
    assert!(
        held.held.iter().any(|held| held.code == "mass-delete"),
        "{held:#?}"
    );
    assert_eq!(pair.tip(), before);
    pair.laptop.run(["approve"]).ok();
    pair.server
        .sees("the deletes", |root| !root.join("a").exists());
    assert!(pair.ends_well().is_empty());
    let last = pair.server.git(["log", "--format=%B", "-n", "1"]);
    assert!(last.contains("Autosync-Approved: laptop"), "{last}");
}

#[test]
fn an_emptied_folder_never_becomes_a_commit() {
    let pair = Pair::new();
    for number in 0..5 {
        pair.laptop.write(format!("{number}"), "x\n");
    }
    pair.equal();
    // What an unmounted disk looks like: the root is there, empty, and another directory.
    let root = &pair.laptop.folder;
    let away = pair.laptop.sandbox.root().join("away");
    fs::rename(root, &away).unwrap();
    fs::create_dir(root).unwrap();
    pair.laptop.until("the agent says so", |host| {
        matches!(host.folder_status().state, State::Held | State::Retry)
    });
    assert_eq!(pair.server.tree().len(), 5);
    fs::remove_dir(root).unwrap();
    fs::rename(&away, root).unwrap();
    pair.laptop.write("back", "y\n");
    pair.server.sees("a change after the return", |root| {
        root.join("back").exists()
    });
    assert_eq!(pair.ends_well().len(), 6);
}

#[test]
fn a_second_agent_of_the_same_user_ends_with_11_and_names_the_first() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    let other = laptop.sandbox.home().join("Other");
    let said = laptop.run(["run".as_ref(), other.as_os_str()]).fails(11);
    assert!(
        said.contains(&format!("process {}", laptop.pid())),
        "{said}"
    );
    assert!(!other.exists(), "it did nothing before it ended");
    laptop.status();
}

#[test]
fn a_second_agent_on_the_same_folder_refuses() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    let other = Host::new("other");
    let ran = other.run(["run".as_ref(), laptop.folder.as_os_str()]);
    assert_eq!(ran.code, Some(11), "{ran:?}");
    assert!(
        ran.err.contains(&format!("process {}", laptop.pid())),
        "{ran:?}"
    );
    assert!(ran.err.contains("Sync"), "{ran:?}");
    laptop.status();
}

#[test]
fn a_signal_ends_an_agent_within_five_seconds_and_leaves_no_lock() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let mut laptop = Host::new("laptop");
        laptop.start();
        for number in 0..300 {
            laptop.write(format!("{number}"), "x\n");
        }
        laptop.signal(signal);
        assert_eq!(laptop.ended(Duration::from_secs(5)), code);
        for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
            assert!(!laptop.folder.join(".git").join(lock).exists(), "{lock}");
        }
        laptop.start();
        laptop.synced();
        assert_eq!(laptop.git(["status", "--porcelain"]), "");
        laptop.stop();
    }
}

fn config(folders: &[&str]) -> String {
    let folder = |name: &&str| format!("[[folder]]\npath = \"~/{name}\"\n\n");
    folders.iter().map(folder).collect()
}

#[test]
fn a_hangup_reads_the_configuration_again_and_an_error_keeps_the_old_one() {
    let mut laptop = Host::new("laptop").with_args::<&str>([]);
    for dir in ["One", "Two"] {
        let ran = laptop.run(["init", dir]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    laptop.sandbox.config(&config(&["One"]));
    laptop.start();
    let names = |host: &Host| -> Vec<String> {
        let folders = host.status().folders.into_iter();
        folders.map(|folder| folder.name).collect()
    };
    assert_eq!(names(&laptop), ["One"]);

    laptop.sandbox.config(&config(&["One", "Two"]));
    laptop.signal(Signal::HUP);
    laptop.until("two folders", |host| names(host) == ["One", "Two"]);

    let broken = format!("{}[settle]\nquite = \"1s\"\n", config(&["One"]));
    let file = laptop.sandbox.config(&broken);
    laptop.signal(Signal::HUP);
    laptop.until("the complaint", |host| {
        host.log().contains("the old configuration stays")
    });
    let log = laptop.log();
    let line = broken.lines().count();
    assert!(
        log.contains(&format!("`{}` line {line}:", file.display())),
        "{log}"
    );
    assert!(log.contains("quite") && log.contains("quiet"), "{log}");
    assert_eq!(names(&laptop), ["One", "Two"]);

    laptop.sandbox.config(&config(&["Two"]));
    laptop.signal(Signal::HUP);
    laptop.until("one folder", |host| names(host) == ["Two"]);
    fs::write(laptop.sandbox.home().join("Two/a"), "a\n").unwrap();
    let status = laptop.synced();
    assert_eq!(status.counters.commits, 1);
}
