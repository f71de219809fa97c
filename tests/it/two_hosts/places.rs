//! Where folders and hubs come from: `run`, `clone`, `once`, several folders.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::pair;
use crate::support::host::{Host, Pair, tree};
use crate::support::{Ran, Sandbox};

fn fetched(sandbox: &Sandbox, hub: &Path, dir: &str) -> Ran {
    sandbox.run([OsStr::new("clone"), hub.as_os_str(), OsStr::new(dir)])
}

fn text(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn run_makes_what_is_missing_and_says_what_to_type_on_the_next_computer() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    let log = laptop.log();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    for line in [
        format!("Made `{}`.", laptop.folder.display()),
        format!("Made the hub `{}`.", hub.display()),
    ] {
        assert!(log.contains(&line), "{line}: {log}");
    }
    let line = log
        .lines()
        .find(|line| line.contains("On the next computer"));
    let line = line.unwrap();
    assert!(line.contains("autosync clone ssh://"), "{line}");
    assert!(
        line.ends_with(&format!("{} ~/Sync", hub.display())),
        "{line}"
    );
    laptop.write("a", "a\n");
    laptop.synced();
    laptop.stop();
    // The second time nothing is made, and nothing has changed.
    laptop.start();
    assert_eq!(laptop.log().matches("Made the hub").count(), 1);
    assert_eq!(laptop.counters().commits, 0);
}

#[test]
fn run_takes_a_directory_with_files_that_is_no_repository() {
    let mut laptop = Host::new("laptop");
    laptop.write("old/file", "was here before\n");
    laptop.start();
    laptop.synced();
    assert_eq!(laptop.git(["show", "main:old/file"]), "was here before");
    assert_eq!(laptop.git(["status", "--porcelain"]), "");
}

#[test]
fn run_takes_a_repository_with_a_history_and_without_a_remote() {
    let mut laptop = Host::new("laptop");
    fs::create_dir(&laptop.folder).unwrap();
    laptop.git(["init", "-q", "-b", "trunk"]);
    laptop.write("a", "a\n");
    laptop.git(["add", "a"]);
    laptop.git(["commit", "-q", "-m", "by hand"]);
    laptop.start();
    let status = laptop.synced();
    assert_eq!(status.branch, "trunk");
    assert!(status.published);
    assert_eq!(laptop.git(["log", "--format=%s"]), "by hand");
}

#[test]
fn hubs_that_we_make_never_collide() {
    let sandbox = Sandbox::new();
    let dirs: Vec<PathBuf> = ["a/Sync", "b/Sync", "c/Sync"]
        .iter()
        .map(|dir| sandbox.home().join(dir))
        .collect();
    let mut laptop = Host::of(sandbox, "laptop").with_args(dirs.clone());
    laptop.start();
    for dir in &dirs {
        fs::write(dir.join("which"), format!("{}\n", dir.display())).unwrap();
    }
    laptop.until("three folders in sync", |host| {
        let folders = host.status().folders;
        folders.len() == 3 && folders.iter().all(|it| it.published && !it.head.is_empty())
    });
    let status = laptop.status();
    let mut hubs: Vec<&str> = status
        .folders
        .iter()
        .map(|folder| folder.hub.as_ref().unwrap().url.as_str())
        .collect();
    hubs.sort_unstable();
    hubs.dedup();
    assert_eq!(hubs.len(), 3, "{hubs:?}");
    let mut names: Vec<&str> = status.folders.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    for folder in &status.folders {
        let hub = Path::new(&folder.hub.as_ref().unwrap().url);
        let there = laptop.sandbox.git(hub, ["show", "main:which"]);
        assert_eq!(there, folder.path);
    }
}

#[test]
fn several_folders_in_one_agent_do_not_mix() {
    let mut laptop = Host::new("laptop").with_args(["One", "Two"]);
    laptop.start();
    let home = laptop.sandbox.home();
    fs::write(home.join("One/a"), "one\n").unwrap();
    fs::write(home.join("Two/a"), "two\n").unwrap();
    laptop
        .run(["status", "--wait", "synced", "--timeout", "60s"])
        .ok();
    laptop.run(["pause", "One"]).ok();
    fs::write(home.join("One/b"), "one\n").unwrap();
    fs::write(home.join("Two/b"), "two\n").unwrap();
    laptop.until("the second folder's commit", |host| {
        host.status().folders[1].counters.commits == 2
    });
    let status = laptop.status();
    assert_eq!(status.folders[0].counters.commits, 1, "it is paused");
    let hub = |at: usize| PathBuf::from(&status.folders[at].hub.as_ref().unwrap().url);
    laptop
        .run(["status", "--wait", "idle", "--timeout", "60s"])
        .ok();
    assert_eq!(laptop.sandbox.git(&hub(0), ["show", "main:a"]), "one");
    assert_eq!(laptop.sandbox.git(&hub(1), ["show", "main:b"]), "two");
}

#[test]
fn a_clone_onto_files_keeps_what_is_new_and_takes_what_is_newer() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    laptop.write("equal", "same\n");
    laptop.write("old", "version 1\n");
    laptop.write("differs", "laptop\n");
    laptop.synced();
    laptop.write("old", "version 2\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");

    let mut server = Host::new("server");
    server.write("equal", "same\n");
    server.write("old", "version 1\n");
    server.write("differs", "server\n");
    server.write("new", "only here\n");
    let ran = fetched(&server.sandbox, &hub, "Sync");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    server.start();
    let pair = Pair {
        laptop,
        server,
        hub,
    };
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 5, "{tree:?}");
    let root = &pair.laptop.folder;
    assert_eq!(text(root, "equal"), "same\n");
    assert_eq!(text(root, "old"), "version 2\n");
    assert_eq!(text(root, "differs"), "laptop\n");
    assert_eq!(text(root, "new"), "only here\n");
    let copies = pair.laptop.copies();
    assert_eq!(copies.len(), 1);
    assert!(
        copies[0].starts_with("differs (conflict server "),
        "{copies:?}"
    );
    assert_eq!(text(root, &copies[0]), "server\n");
}

#[test]
fn a_clone_says_when_there_is_no_hub() {
    let sandbox = Sandbox::new();
    let hub = sandbox.root().join("no such hub");
    let ran = fetched(&sandbox, &hub, "Sync");
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("no hub at"), "{ran:?}");
    assert!(!hub.exists());
}

#[test]
fn once_ends_with_0_when_all_is_there_and_with_another_code_when_not() {
    let sandbox = Sandbox::new();
    let home = sandbox.home();
    let ran = sandbox.run(["init", "Sync"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let folder = home.join("Sync");
    fs::write(folder.join("a"), "a\n").unwrap();
    let said = sandbox.run(["once", "Sync"]).ok();
    assert!(
        said.contains("Committed ") && said.ends_with("In sync.\n"),
        "{said}"
    );
    assert_eq!(sandbox.run(["once", "Sync"]).ok(), "In sync.\n");

    let hub = sandbox.paths().hubs().join("Sync.git");
    assert_eq!(sandbox.git(&hub, ["show", "main:a"]), "a");
    let away = sandbox.root().join("away.git");
    fs::rename(&hub, &away).unwrap();
    fs::write(folder.join("b"), "b\n").unwrap();
    let ran = sandbox.run(["once", "Sync"]);
    assert_eq!(ran.code, Some(10), "{ran:?}");
    assert!(ran.err.contains("hub"), "{ran:?}");
    fs::rename(&away, &hub).unwrap();
    let said = sandbox.run(["once", "Sync"]).ok();
    assert!(said.contains("Pushed "), "{said}");

    assert_eq!(sandbox.run(["once", "Nowhere"]).code, Some(10));
    fs::create_dir(home.join("Plain")).unwrap();
    assert_eq!(sandbox.run(["once", "Plain"]).code, Some(10));
}

#[test]
fn once_takes_a_hub_for_this_time_only() {
    let sandbox = Sandbox::new();
    sandbox.git(
        sandbox.root(),
        ["init", "-q", "--bare", "-b", "main", "other.git"],
    );
    let other = sandbox.root().join("other.git");
    let folder = sandbox.home().join("Sync");
    fs::create_dir(&folder).unwrap();
    sandbox.git(&folder, ["init", "-q"]);
    fs::write(folder.join("a"), "a\n").unwrap();
    let args = [
        "once".as_ref(),
        folder.as_os_str(),
        "--remote".as_ref(),
        other.as_os_str(),
    ];
    let ran = sandbox.run(args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(sandbox.git(&other, ["show", "main:a"]), "a");
    assert_eq!(sandbox.git(&folder, ["remote"]), "");
}

#[test]
fn once_holds_a_mass_delete_and_ends_with_3() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(["init", "Sync"]).code, Some(0));
    let folder = sandbox.home().join("Sync");
    for number in 0..60 {
        fs::write(folder.join(format!("{number}")), format!("{number}\n")).unwrap();
    }
    sandbox.run(["once", "Sync"]).ok();
    for number in 0..60 {
        fs::remove_file(folder.join(format!("{number}"))).unwrap();
    }
    fs::write(folder.join("new"), "x\n").unwrap();
    let ran = sandbox.run(["once", "Sync"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("Held: "), "{ran:?}");
    let hub = sandbox.paths().hubs().join("Sync.git");
    let there = sandbox.git(&hub, ["ls-tree", "--name-only", "main"]);
    assert_eq!(there.lines().count(), 61, "{there}");
    assert_eq!(tree(&folder).len(), 1);
}

#[test]
fn what_is_written_while_a_first_contact_takes_over_is_not_forgotten() {
    for theirs in ["plan", "plan/x"] {
        let server = Sandbox::named("server");
        let hub = server.root().join("hub.git");
        let laptop = pair::Host::new(Sandbox::named("laptop"));
        let server = pair::Host::new(server);
        laptop.write(theirs, "laptop's\n");
        let (here, there) = (laptop.root.to_str().unwrap(), hub.to_str().unwrap());
        assert_eq!(
            laptop.sandbox.run(["init", here, "--hub", there]).code,
            Some(0)
        );
        let plan = server.write("plan", "server's\n");
        server.git(&["init", "-q", "-b", "main"]);
        server.git(&["remote", "add", "origin", there]);

        let stopped = server.once_until("A2.journal");
        let mut file = File::options().append(true).open(&plan).unwrap();
        file.write_all(b"written meanwhile\n").unwrap();
        drop(file);
        let _ended = stopped.go_on();
        let both = pair::Pair {
            laptop,
            server,
            hub,
        };
        assert_eq!(both.server.once().code, Some(0));
        both.converge(theirs);
        both.assert_settled(theirs);
        let tree = both.laptop.tree();
        assert_eq!(tree[theirs], "laptop's\n", "{tree:?}");
        assert!(
            tree.values()
                .any(|text| text == "server's\nwritten meanwhile\n"),
            "{tree:?}"
        );
        let history = both.laptop.git(&["rev-list", "--max-parents=0", "HEAD"]);
        assert_eq!(
            history.lines().count(),
            1,
            "the history that gave way is nobody's"
        );
    }
}
