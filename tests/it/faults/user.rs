//! The user at work with git of his own: it is waited for, said, and never meddled with.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use autosync::engine::status::State;

use super::{Told, host, well};
use crate::support::host::Host;

/// A host with two commits of the user's own, at its hub.
fn with_history() -> Host {
    let host = host();
    for text in ["1\n", "2\n"] {
        host.write("a", text);
        host.synced();
    }
    host
}

/// Returns the tip of the host's hub.
fn hub(host: &Host) -> String {
    let hub = host.sandbox.paths().hubs().join("Sync.git");
    host.sandbox.git(&hub, ["rev-parse", "main"])
}

/// Saves something, and asserts that it waits with this code until what is in the way is over: it is
/// in no commit, the hub is as it was, and no word of a problem reaches the person who is at it.
#[track_caller]
fn waits(host: &Host, code: &str, words: &[&str], over: impl FnOnce()) {
    let (before, told) = (hub(host), Told::by(host));
    host.write(code, "saved meanwhile\n");
    host.until(code, |host| {
        let status = host.folder_status();
        status.code == code && status.state == State::Paused
    });
    let status = host.folder_status();
    for word in words {
        let said = format!("{} {}", status.message, status.hint);
        assert!(said.contains(word), "{word}: {status:#?}");
    }
    // Asked for, it is tried once more and waits again.
    let _asked = host.run(["sync"]);
    host.barrier();
    let all = host.git(["log", "--all", "--format=", "--name-only"]);
    assert!(!all.lines().any(|name| name == code), "{all}");
    assert_eq!(hub(host), before);
    told.catch_up(host);
    assert_eq!(told.codes(), [""; 0], "his own doing is no problem");
    over();
    well(host);
    host.synced();
    let hub = host.sandbox.paths().hubs().join("Sync.git");
    let there = host.sandbox.git(&hub, ["show", &format!("main:{code}")]);
    assert_eq!(there, "saved meanwhile");
}

#[test]
fn a_rebase_is_waited_for_and_said() {
    let host = with_history();
    host.sandbox.git(
        &host.folder,
        [
            "-c",
            "sequence.editor=sed -i s/^pick/edit/",
            "rebase",
            "-q",
            "-i",
            "HEAD~1",
        ],
    );
    waits(&host, "rebase", &["rebase", "--continue"], || {
        host.git(["rebase", "--abort"]);
    });
}

#[test]
fn a_detached_head_and_another_branch_are_waited_for_and_said() {
    let host = with_history();
    host.git(["switch", "-q", "--detach"]);
    waits(&host, "detached", &["detached", "git switch main"], || {
        host.git(["switch", "-q", "main"]);
    });
    host.git(["switch", "-q", "-c", "topic"]);
    waits(
        &host,
        "other-branch",
        &["`topic`", "git switch main"],
        || {
            host.git(["switch", "-q", "main"]);
        },
    );
    let topic = host.git(["log", "--format=%an %s", "main..topic"]);
    assert_eq!(topic, "", "nothing is committed to a branch of his");
}

#[test]
fn a_lock_of_somebody_who_lives_is_waited_for_and_never_removed() {
    let host = with_history();
    let lock = host.folder.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    waits(&host, "git-busy", &["index.lock", "remove"], || {
        assert!(lock.exists(), "not ours to remove");
        fs::remove_file(&lock).unwrap();
    });
    // A git that writes is named with its process.
    let ready = host.sandbox.root().join("ready");
    let hook = host.folder.join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\nmkfifo '{0}'; read -r _ < '{0}'\n",
        ready.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let mut commit = host.sandbox.command("git");
    commit.args(["commit", "-q", "--allow-empty", "-m", "by hand"]);
    let mut child = commit.current_dir(&host.folder).spawn().unwrap();
    host.until("it is in its hook", |_| ready.exists());
    host.write("b", "1\n");
    let named = format!("`git commit` (pid {})", child.id());
    host.until("it is named", |host| {
        let status = host.folder_status();
        status.code == "git-busy" && status.message.contains(&named)
    });
    fs::write(&ready, "\n").unwrap();
    assert!(child.wait().unwrap().success());
    well(&host);
    host.synced();
}
