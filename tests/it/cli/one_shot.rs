//! `init`, `clone` and `once` when something is in the way: each says at once what it is, in words
//! for somebody whose command ends here, with its exit code.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use autosync::clock;
use autosync::lock::Lock;

use crate::network::skipped;
use crate::support::inside::{NOBODY_INSIDE, ROOT_INSIDE};
use crate::support::{PROGRAM, Ran, Sandbox, ended};

/// Shorter than the patience with what may pass: who waits that long has waited in vain.
const AT_ONCE: Duration = Duration::from_secs(9);

/// Words of an agent that stays.
const LATER: [&str; 3] = ["by itself", "commits go on", "waiting: "];

/// Runs a command that is to fail at once, and returns what it complained about.
#[track_caller]
fn complaint(mut command: Command, code: i32) -> String {
    let began = clock::now();
    let ran = ended(command.output().unwrap());
    assert!(clock::now().since(began) < AT_ONCE, "{command:?} waited");
    assert_eq!(ran.code, Some(code), "{command:?}: {ran:?}");
    for words in LATER {
        assert!(!ran.err.contains(words), "{command:?}: {}", ran.err);
    }
    let said = ran.err.strip_prefix("autosync: ").unwrap().to_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn program(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.command(PROGRAM);
    command.args(args);
    command
}

/// Makes a folder `~/Sync` with a file that is not committed, and with this hub.
fn folder(sandbox: &Sandbox, hub: &str) -> PathBuf {
    let root = sandbox.home().join("Sync");
    drop(fs::remove_dir_all(&root));
    sandbox.write("home/Sync/note", "mine");
    sandbox.git(&root, ["init", "-q"]);
    sandbox.git(&root, ["remote", "add", "origin", hub]);
    root
}

/// What all three say of one hub.
struct Hub<'a> {
    address: String,
    code: i32,
    /// What is the matter, in the words of each.
    wrong: &'a str,
    /// What to do, in the words of `once` and `init`.
    hint: &'a str,
    /// In the words of `clone`, which has made nothing.
    clone_hint: &'a str,
}

#[test]
fn a_hub_that_cannot_be_used_is_said_at_once_by_all_three() {
    let refusing = |words: &str| {
        let sandbox = Sandbox::new();
        let ssh = sandbox.write("ssh", format!("#!/bin/sh\necho '{words}' >&2\nexit 255\n"));
        fs::set_permissions(&ssh, Permissions::from_mode(0o755)).unwrap();
        sandbox.with("GIT_SSH_COMMAND", ssh.to_str().unwrap())
    };
    let stays = "What is here is committed and stays; `autosync once Sync` tries it again.";
    let nothing = "Nothing was made here. Check the address and the network, and try again.";
    let login = "Try `git ls-remote` on it by hand: the key must be loaded, or need no passphrase, \
                 and be allowed there.";
    let ssh = |code, wrong, hint, clone_hint| Hub {
        address: "ssh://hub.test/x.git".to_owned(),
        code,
        wrong,
        hint,
        clone_hint,
    };
    let nowhere = Hub {
        address: "ssh://127.0.0.1:1/x.git".to_owned(),
        code: 1,
        wrong: "the hub ssh://127.0.0.1:1/x.git does not answer: ssh: connect to host 127.0.0.1 \
                port 1: Connection refused",
        hint: stays,
        clone_hint: nothing,
    };
    let unknown = "the host key of the hub ssh://hub.test/x.git is not known here";
    let connect = "Connect once by hand with ssh and compare the key; it is never accepted unseen.";
    for (sandbox, hub) in [
        (Sandbox::new(), nowhere),
        (
            refusing("ssh: Could not resolve hostname hub.test: Name or service not known"),
            ssh(
                1,
                "the hub ssh://hub.test/x.git does not answer: ssh: Could not resolve hostname \
                 hub.test: Name or service not known",
                stays,
                nothing,
            ),
        ),
        (
            refusing("me@hub.test: Permission denied (publickey)."),
            ssh(
                12,
                "the hub ssh://hub.test/x.git refused our login",
                login,
                login,
            ),
        ),
        (
            refusing("Host key verification failed."),
            ssh(12, unknown, connect, connect),
        ),
    ] {
        let Hub { address, code, .. } = &hub;
        let root = folder(&sandbox, address);
        let said = complaint(program(&sandbox, &["once", "Sync"]), *code);
        assert_eq!(said, format!("{}. {}\n", hub.wrong, hub.hint));
        let subject = sandbox.git(&root, ["log", "--format=%s"]);
        assert_eq!(subject, "laptop: note", "it is committed all the same");

        drop(fs::remove_dir_all(&root));
        let clone = program(&sandbox, &["clone", address, "Sync"]);
        assert_eq!(
            complaint(clone, *code),
            format!("{}. {}\n", hub.wrong, hub.clone_hint)
        );
        assert!(
            !root.exists(),
            "nothing is made for a hub that is not there"
        );

        let init = program(&sandbox, &["init", "Sync", "--hub", address]);
        assert_eq!(
            complaint(init, *code),
            format!("{}. {}\n", hub.wrong, hub.hint)
        );
    }
}

#[test]
fn a_path_without_a_repository_is_said_before_anything_is_made() {
    let sandbox = Sandbox::new();
    sandbox.write("docs/letter", "no repository");
    for name in ["gone.git", "docs", "docs/letter"] {
        let hub = sandbox.root().join(name);
        let hub = hub.to_str().unwrap();
        folder(&sandbox, hub);
        assert_eq!(
            complaint(program(&sandbox, &["once", "Sync"]), 10),
            format!(
                "there is no repository at {hub}. Check the address; if it is on a disk that is \
                 not plugged in, plug it in, then run `autosync once Sync`.\n"
            )
        );
        let wanted = if name == "gone.git" {
            format!(
                "there is no hub at `{hub}`. Check the path; `autosync init DIR --hub PATH` makes \
                 a new one.\n"
            )
        } else {
            let init = program(&sandbox, &["init", "new", "--hub", hub]);
            let said = complaint(init, 10);
            assert!(
                said.starts_with(&format!("there is no repository at {hub}. ")),
                "{said}"
            );
            said
        };
        let clone = program(&sandbox, &["clone", hub, "new"]);
        assert_eq!(complaint(clone, 10), wanted);
        assert!(!sandbox.home().join("new").exists());
    }
}

#[test]
fn a_folder_in_another_repository_is_made_and_said() {
    let sandbox = Sandbox::new();
    let home = sandbox.home();
    sandbox.git(&home, ["init", "-q", "outer"]);
    sandbox.git(&home, ["init", "-q", "--bare", "hub.git"]);
    let outer = home.join("outer").canonicalize().unwrap();
    for args in [
        &["init", "outer/in"][..],
        &["clone", "hub.git", "outer/other"],
    ] {
        let said = sandbox.run(args).ok();
        let inside = outer.join(args.last().unwrap().strip_prefix("outer/").unwrap());
        let wanted = format!(
            "`{}` lies in the repository `{}`, which does not look into it from now on.\n",
            inside.display(),
            outer.display()
        );
        assert!(said.contains(&wanted), "{said}");
        // Said once: from now on it is known.
        let again = sandbox.run(["init", args.last().unwrap()]).ok();
        assert!(!again.contains("lies in"), "{again}");
    }
    let said = sandbox.run(["once", "outer"]).ok();
    assert!(
        said.contains("Left as it is: `in`, a repository of its own.\n"),
        "{said}"
    );
    fs::create_dir(outer.join("plain")).unwrap();
    let plain = outer.join("plain");
    let plain = plain.display();
    assert_eq!(
        complaint(program(&sandbox, &["once", "outer/plain"]), 10),
        format!("`{plain}` is no git repository. Make it one with `autosync init {plain}`.\n")
    );
}

#[test]
fn a_folder_that_somebody_cares_for_is_left_alone() {
    let sandbox = Sandbox::new();
    let home = sandbox.home().canonicalize().unwrap();
    sandbox.git(&home, ["init", "-q", "--bare", "other.git"]);
    let made = sandbox.run(["init", "Sync"]).ok();
    assert!(made.contains("In sync.\n"), "{made}");
    let lock = Lock::acquire(&home.join("Sync/.git/autosync/lock")).unwrap();
    let config = fs::read(home.join("Sync/.git/config")).unwrap();
    for args in [
        &["once", "Sync"][..],
        &["init", "Sync"],
        &["init", "Sync", "--hub", "other.git"],
        &["clone", "other.git", "Sync"],
    ] {
        // Nothing is said to have been done.
        let said = sandbox.run(args).fails(11);
        assert_eq!(
            said,
            format!(
                "autosync: process {} cares for `{}/Sync` already. Ask it with `autosync sync`, or \
                 stop it with `autosync stop`.\n",
                std::process::id(),
                home.display()
            )
        );
        assert_eq!(fs::read(home.join("Sync/.git/config")).unwrap(), config);
    }
    drop(lock);
}

#[test]
fn what_the_user_began_is_said_at_once_and_a_lock_of_git_is_waited_for() {
    let sandbox = Sandbox::new();
    sandbox.run(["init", "Sync"]).ok();
    let root = sandbox.home().join("Sync");
    sandbox.write("home/Sync/note", "1");
    sandbox.run(["once", "Sync"]).ok();

    fs::create_dir(root.join(".git/rebase-merge")).unwrap();
    assert_eq!(
        complaint(program(&sandbox, &["once", "Sync"]), 1),
        "a rebase is in progress. Finish it with `git rebase --continue` or `--abort`.\n"
    );
    fs::remove_dir(root.join(".git/rebase-merge")).unwrap();
    sandbox.git(&root, ["checkout", "-q", "--detach"]);
    let said = complaint(program(&sandbox, &["once", "Sync"]), 1);
    assert!(said.contains("is detached. Go to a branch with "), "{said}");
    sandbox.git(&root, ["checkout", "-q", "main"]);

    // A lock may be gone in a moment, and then it was no trouble.
    sandbox.write("home/Sync/note", "2");
    let lock = sandbox.write("home/Sync/.git/index.lock", "");
    let mut command = program(&sandbox, &["once", "Sync"]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Who looks at it sees why nothing happens, once.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let lock_there = lock.canonicalize().unwrap();
    let waits = format!(
        "autosync: waiting: another git holds `index.lock`. If no git is at work here any more, \
         remove `{}`.",
        lock_there.display()
    );
    assert_eq!(lines.next().unwrap().unwrap(), waits);
    fs::remove_file(&lock).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert!(status.success() && rest.is_empty(), "{rest:?}");
    assert_eq!(sandbox.git(&root, ["show", "HEAD:note"]), "2");

    // One that stays is said no second time when nobody waits any longer.
    sandbox.write("home/Sync/note", "3");
    fs::write(lock, "").unwrap();
    let ran = sandbox.run(["once", "Sync"]);
    assert_eq!((ran.code, ran.err.trim_end()), (Some(1), &*waits));
    assert_eq!(
        ran.out,
        "Not in sync yet; `autosync once Sync` tries again.\n"
    );
}

/// The program in namespaces of its own, after what a shell does there with `$1`.
fn inside(
    sandbox: &Sandbox,
    namespaces: &[&str],
    first: &str,
    dir: &Path,
    args: &[&str],
) -> Command {
    let mut command = sandbox.command("unshare");
    let script = format!("{first} && shift && exec \"$@\"");
    command.args(namespaces).args(["sh", "-c", &script, "sh"]);
    command.arg(dir).arg(PROGRAM).args(args);
    command
}

fn may(sandbox: &Sandbox, test: &str, namespaces: &[&str]) -> bool {
    let mut command = sandbox.command("unshare");
    let ran = ended(command.args(namespaces).arg("true").output().unwrap());
    if ran.code != Some(0) {
        skipped(test, "no user namespaces here");
    }
    ran.code == Some(0)
}

#[test]
fn a_full_disk_is_said_at_once_whoever_it_is_that_has_it() {
    let sandbox = Sandbox::new();
    let test = "a_full_disk_is_said_at_once_whoever_it_is_that_has_it";
    if !may(&sandbox, test, ROOT_INSIDE) {
        return;
    }
    let home = sandbox.home();
    let small = home.join("small");
    fs::create_dir(&small).unwrap();
    let noise = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| fastrand::u8(..)).collect() };
    let source = folder(&sandbox, home.join("hub.git").to_str().unwrap());
    sandbox.git(&home, ["init", "-q", "--bare", "hub.git"]);
    fs::write(source.join("big"), noise(4 << 20)).unwrap();
    let done: Ran = sandbox.run(["once", "Sync"]);
    assert_eq!(done.code, Some(0), "{done:?}");

    let mount = |prepare: &str| format!("mount -t tmpfs -o size=3m none \"$1\"{prepare}");
    let again = "then run `autosync once small/Sync`.\n";
    let full = |prepare: &str, args: &[&str]| {
        complaint(
            inside(&sandbox, ROOT_INSIDE, &mount(prepare), &small, args),
            1,
        )
    };
    assert_eq!(
        full("", &["clone", "hub.git", "small/Sync"]),
        format!(
            "there is no space left on the disk for what the hub has. Free some space, {again}"
        )
    );
    sandbox.write("home/two", noise(2 << 20));
    let fill = " && mkdir small/Sync && cp two small/Sync";
    let bare = program(&sandbox, &["init", "small/Sync", "--hub", "new.git"]);
    assert_eq!(
        complaint(bare, 1),
        "there is no remote and no hub `new.git`. Give a URL, the name of a remote of the folder, or \
         a path: `./new.git`.\n"
    );
    assert_eq!(
        full(fill, &["init", "small/Sync", "--hub", "./new.git"]),
        format!("there is no space left on the disk. Free some space, {again}")
    );
    // The hub's disk is the full one.
    sandbox.write("home/Other/big", noise(4 << 20));
    sandbox.git(&home, ["init", "-q", "Other"]);
    let small_hub = small.join("hub.git");
    let small_hub = small_hub.to_str().unwrap();
    assert_eq!(
        full(
            " && git init -q --bare small/hub.git",
            &["once", "Other", "--remote", small_hub]
        ),
        format!(
            "there is no space left on the disk of the hub {small_hub}. Free some space there, then \
             run `autosync once Other`.\n"
        )
    );
}

#[test]
fn what_this_user_may_not_do_is_said_with_whose_it_has_to_be() {
    let sandbox = Sandbox::new();
    let test = "what_this_user_may_not_do_is_said_with_whose_it_has_to_be";
    if !may(&sandbox, test, NOBODY_INSIDE) {
        return;
    }
    let home = sandbox.home();
    let shown = home.canonicalize().unwrap();
    let shown = shown.display();
    let hub = home.join("hub.git");
    let address = hub.to_str().unwrap();
    sandbox.git(&home, ["init", "-q", "--bare", "hub.git"]);
    folder(&sandbox, address);
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let fails =
        |args: &[&str], code| complaint(inside(&sandbox, NOBODY_INSIDE, "true", &home, args), code);
    let closed = format!(
        "this user may not read or write the hub {address}. Give this user access to all files of \
         the hub, or make it anew with `git init --bare --shared`.\n"
    );
    // It may be read only.
    set(&hub.join("objects"), 0o555);
    assert_eq!(fails(&["once", "Sync"], 12), closed);
    set(&hub.join("objects"), 0o755);
    set(&hub, 0);
    assert_eq!(fails(&["once", "Sync"], 12), closed);
    assert_eq!(fails(&["clone", address, "new"], 12), closed);
    assert_eq!(fails(&["init", "new", "--hub", address], 12), closed);
    assert!(!home.join("new").exists());
    set(&hub, 0o755);

    let locked = home.join("locked");
    fs::create_dir(&locked).unwrap();
    set(&locked, 0o555);
    assert_eq!(
        fails(&["init", "locked"], 1),
        format!(
            "this user may not write in `{shown}/locked`. Choose another directory, or let it \
             belong to this user.\n"
        )
    );
    assert_eq!(
        fails(&["clone", address, "locked/new"], 1),
        format!("`{shown}/locked/new` cannot be made: Permission denied (os error 13)\n")
    );
    let said = fails(&["init", "new", "--hub", "locked/hub.git"], 1);
    let wanted = format!("the hub `{shown}/locked/hub.git` cannot be made: ");
    assert!(
        said.starts_with(&wanted) && said.contains("belong to this user"),
        "{said}"
    );
    set(&locked, 0o755);

    let store = home.join("Sync/.git/autosync");
    set(&store.join("lock"), 0o444);
    assert_eq!(
        fails(&["once", "Sync"], 1),
        format!(
            "cannot lock `{shown}/Sync/.git/autosync/lock`: Permission denied (os error 13). It \
             belongs to another user; let it, and what is beside it, be this user's.\n"
        )
    );
    fs::remove_dir_all(&store).unwrap();
    set(&home.join("Sync/.git"), 0o555);
    assert_eq!(
        fails(&["once", "Sync"], 1),
        format!(
            "`{shown}/Sync/.git/autosync`: Permission denied (os error 13). Let the file, and the \
             directory that it is in, belong to this user.\n"
        )
    );
    set(&home.join("Sync/.git"), 0o755);
}
