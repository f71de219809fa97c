//! The user's own git at every step of a snapshot and of an apply.
//!
//! The agent stands still at a step, the user's command runs, the agent goes on. The command never
//! fails because of us while no lock is held; what the user has afterwards is what stays; and both
//! hosts end up the same.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use autosync::clock;
use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::Event;
use autosync::fault;
use autosync::git::{Git, gate};
use autosync::names::RepoPath;
use autosync::repo::folder::Folder;

use crate::pair::{Host, Pair, Tree};
use crate::snapshot::settings;
use crate::support::ended;

mod applying;
mod living;

/// Steps of a snapshot at which git's locks are free.
const SNAPSHOT: &[&str] = &[
    "S1.record",
    "S3.read",
    "S4.pending",
    "S5.stored",
    "S6.index",
    "S8.done",
];

/// Steps of an apply at which git's locks are free.
const APPLY: &[&str] = &[
    "A2.staged",
    "A2.journal",
    "A3.checked",
    "A3.exchanged",
    "A4.bases",
    "A5.synced",
    "A5.published",
];

const LINES: &str = "one\ntwo\nthree\nfour\nfive\n";

/// Two hosts with a history of two commits.
fn pair() -> Pair {
    let pair = Pair::new(&[("a", "a 1\n"), ("b", LINES), ("gone", "gone 1\n")]);
    pair.laptop.write("a", "a 2\n");
    pair.converge("two commits");
    pair
}

/// A pair whose laptop has an edit that is not committed.
fn before_a_snapshot() -> Pair {
    let pair = pair();
    pair.laptop.write("a", "TOKEN-a\n");
    pair.laptop.write("new", "TOKEN-new\n");
    pair.save();
    pair
}

/// A pair whose hub has something for the laptop.
fn before_an_apply() -> Pair {
    let pair = pair();
    let there = &pair.server;
    there.write("b", LINES.replace("one", "ONE"));
    there.write("c", "TOKEN-c\n");
    there.remove("gone");
    let _ran = there.once().ok();
    pair.save();
    pair
}

/// What the user does; may look at the step's name.
type Deed<'a> = &'a dyn Fn(&Host);

/// Does a deed at every step of a snapshot: what it leaves is what both hosts end up with.
fn during_a_snapshot(deed: Deed<'_>, tokens: &[&str]) {
    let pair = before_a_snapshot();
    for step in SNAPSHOT {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        deed(here);
        let left = here.tree();
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(tokens, step);
        assert_eq!(here.tree(), left, "{step}");
    }
}

/// Does a deed at every step of an apply, after an edit of `a`: what it leaves of `a` is what both
/// hosts end up with, and everything that came in is there.
fn during_an_apply(deed: Deed<'_>, tokens: &[&str]) {
    let pair = before_an_apply();
    for step in APPLY {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        here.write("a", "TOKEN-a\n");
        deed(here);
        let left = here.tree();
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(tokens, step);
        let tree = here.tree();
        assert_eq!(tree["a"], left["a"], "{step}");
        assert_arrived(&tree, step);
    }
}

fn assert_arrived(tree: &Tree, step: &str) {
    assert_eq!(tree["b"], LINES.replace("one", "ONE"), "{step}");
    assert_eq!(tree["c"], "TOKEN-c\n", "{step}");
    assert!(!tree.contains_key("gone"), "{step}: a deletion came back");
    assert_eq!(tree.len(), 3, "{step}: {tree:?}");
}

/// Runs git, which succeeds and complains about no lock.
fn fine(here: &Host, args: &[&str]) {
    let ran = here.try_git(args);
    assert!(
        ran.code == Some(0) && !ran.err.contains("lock"),
        "{args:?}: {ran:?}"
    );
}

#[test]
fn checkout_of_a_file() {
    let deed = |here: &Host| fine(here, &["checkout", "-q", "--", "a"]);
    during_a_snapshot(&deed, &["TOKEN-new"]);
    during_an_apply(&deed, &["TOKEN-c"]);
}

#[test]
fn commit_of_everything_in_a_snapshot() {
    let deed = |here: &Host| {
        let ran = here.try_git(&["commit", "-qam", "by hand"]);
        // After S8 there is nothing left to commit, and git says so with 1.
        assert!(
            matches!(ran.code, Some(0 | 1)) && ran.err.is_empty(),
            "{ran:?}"
        );
    };
    during_a_snapshot(&deed, &["TOKEN-a", "TOKEN-new"]);
}

#[test]
fn commit_of_everything_in_an_apply() {
    let deed = |here: &Host| fine(here, &["commit", "-qam", "by hand"]);
    during_an_apply(&deed, &["TOKEN-a", "TOKEN-c"]);
}

#[test]
fn commit_amended() {
    let deed = |here: &Host| fine(here, &["commit", "-qa", "--amend", "-m", "amended"]);
    during_a_snapshot(&deed, &["TOKEN-a", "TOKEN-new"]);
    during_an_apply(&deed, &["TOKEN-a", "TOKEN-c"]);
}

#[test]
fn stash_and_pop() {
    let stash = |here: &Host| fine(here, &["stash", "-q"]);
    let pair = before_a_snapshot();
    for step in SNAPSHOT {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        stash(here);
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-a", "TOKEN-new"], step);
        if here
            .try_git(&["rev-parse", "-q", "--verify", "refs/stash"])
            .code
            == Some(0)
        {
            fine(here, &["stash", "pop", "-q"]);
        }
        pair.converge(step);
        pair.assert_settled(step);
        assert_eq!(pair.server.read("a"), "TOKEN-a\n", "{step}");
    }
}

#[test]
fn stash_in_an_apply_and_pop() {
    let pair = before_an_apply();
    for step in APPLY {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        here.write("a", "TOKEN-a\n");
        fine(here, &["stash", "-q"]);
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-a", "TOKEN-c", "ONE\n"], step);
        // What of ours was in the tree by then was stashed with the rest, and comes back with it.
        fine(here, &["stash", "pop", "-q"]);
        pair.converge(step);
        pair.assert_settled(step);
        assert_eq!(here.read("a"), "TOKEN-a\n", "{step}");
        assert_arrived(&here.tree(), step);
    }
}

#[test]
fn reset_hard_in_a_snapshot() {
    let deed = |here: &Host| fine(here, &["reset", "-q", "--hard"]);
    during_a_snapshot(&deed, &["TOKEN-new"]);
}

#[test]
fn reset_hard_in_an_apply() {
    let pair = before_an_apply();
    for step in APPLY {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        here.write("a", "TOKEN-a\n");
        fine(here, &["reset", "-q", "--hard"]);
        let left = here.tree();
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        let tree = here.tree();
        assert_eq!(tree["a"], left["a"], "{step}");
        // The user put the old version back over ours, or ours came after that: both may stand,
        // nothing else may.
        let new = LINES.replace("one", "ONE");
        assert!(tree["b"] == LINES || tree["b"] == new, "{step}: {tree:?}");
        pair.assert_known(&["ONE\n", "TOKEN-c", "gone 1"], step);
    }
}

#[test]
fn reset_behind_what_was_published_comes_back() {
    let pair = pair();
    let here = &pair.laptop;
    fine(here, &["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(here.read("a"), "a 1\n");
    pair.converge("reset");
    pair.assert_settled("reset");
    assert_eq!(here.read("a"), "a 2\n");
}

#[test]
fn gc_that_prunes_now() {
    // Without the other lane: what it is at when the whole process stands still may be locked.
    let deed = |here: &Host| {
        here.git(&["reflog", "expire", "--expire=now", "--all"]);
        fine(here, &["gc", "-q", "--prune=now"]);
        here.tree()
    };
    let pair = before_a_snapshot();
    let here = &pair.laptop;
    for step in SNAPSHOT {
        pair.restore();
        let (_, left) = applying::snapshot_with(here, step, || deed(here));
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-a", "TOKEN-new"], step);
        assert_eq!(here.tree(), left, "{step}");
    }
    let pair = before_an_apply();
    let here = &pair.laptop;
    for step in APPLY {
        pair.restore();
        let (_, left) = applying::apply_with(here, step, || {
            here.write("a", "TOKEN-a\n");
            deed(here)
        });
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-a", "TOKEN-c"], step);
        let tree = here.tree();
        assert_eq!(tree["a"], left["a"], "{step}");
        assert_arrived(&tree, step);
    }
}

#[test]
fn rm_cached_and_ignored() {
    let pair = before_a_snapshot();
    for step in SNAPSHOT {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        fine(here, &["rm", "-q", "--cached", "gone"]);
        here.write(".gitignore", "gone\n");
        let _ran = stopped.go_on();
        pair.converge(step);
        pair.assert_settled(step);
        assert_eq!(here.git(&["ls-files", "gone"]), "", "{step}");
        for host in [here, &pair.server] {
            assert_eq!(
                host.read("gone"),
                "gone 1\n",
                "{step}: it stays on the disk"
            );
        }
    }
}

#[test]
fn another_branch_is_left_alone_until_the_user_is_back() {
    for (pair, step) in [
        (before_a_snapshot(), "S3.read"),
        (before_a_snapshot(), "S6.index"),
        (before_an_apply(), "A3.checked"),
        (before_an_apply(), "A5.synced"),
    ] {
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        fine(here, &["switch", "-q", "-c", "other"]);
        let other = here.git(&["rev-parse", "other"]);
        here.write("on-other", "TOKEN-other\n");
        here.git(&["add", "on-other"]);
        // Waiting for the user is no success.
        assert_ne!(stopped.go_on().code, Some(0), "{step}");
        assert_eq!(here.git(&["rev-parse", "HEAD"]), other, "{step}");
        assert_eq!(here.git(&["branch", "--show-current"]), "other");
        assert_eq!(here.git(&["show", ":on-other"]), "TOKEN-other", "{step}");
        fine(here, &["switch", "-q", "main"]);
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-other"], step);
    }
}

/// A `git commit` of the user that stands still until it is told to go on.
struct Standing {
    commit: std::process::Child,
    go: PathBuf,
}

impl Standing {
    /// Begins `git commit ARGS`; `script` makes the commands that stand still one of its steps.
    fn begin(here: &Host, args: &[&str], script: impl FnOnce(&mut Command, &str)) -> Self {
        let place = here.sandbox.root().to_owned();
        for fifo in ["open", "go"] {
            rustix::fs::mkfifoat(rustix::fs::CWD, place.join(fifo), rustix::fs::Mode::RWXU)
                .unwrap();
        }
        let wait = format!(
            "echo open >'{0}/open'; read word <'{0}/go'",
            place.display()
        );
        let mut command = here.sandbox.command("git");
        command.arg("commit").args(args).current_dir(&here.root);
        script(&mut command, &wait);
        let commit = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let open = fs::read_to_string(place.join("open")).unwrap();
        assert_eq!(open, "open\n");
        Self {
            commit,
            go: place.join("go"),
        }
    }

    /// Lets it end, which has to go well.
    fn end(self) {
        fs::write(&self.go, "go\n").unwrap();
        let ran = ended(self.commit.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        for fifo in ["open", "go"] {
            fs::remove_file(self.go.with_file_name(fifo)).unwrap();
        }
    }
}

/// Returns whether the gate would be closed so many minutes from now.
fn closed_after(here: &Host, minutes: u64) -> bool {
    let git = Git::discover(&here.root, None).unwrap();
    let now = clock::now() + Duration::from_secs(minutes * 60);
    let wall = clock::wall_seconds() + i64::try_from(minutes * 60).unwrap();
    gate::at_work_at(&git, "main", now, wall).is_some()
}

#[test]
fn a_commit_with_an_open_editor() {
    let pair = before_a_snapshot();
    let here = &pair.laptop;
    here.sandbox.git(here.sandbox.root(), ["version"]);
    let stopped = here.once_until("S2.candidates");
    here.git(&["add", "a"]);
    let commit = Standing::begin(here, &[], |command, wait| {
        let script = format!("echo 'by hand' >\"$1\"; {wait}");
        let script = here.sandbox.write("editor.sh", script);
        command.env("GIT_EDITOR", format!("sh {}", script.display()));
    });
    let tip = here.git(&["rev-parse", "HEAD"]);
    let ran = stopped.go_on();
    assert_ne!(ran.code, Some(0), "it waits for the editor: {ran:?}");
    assert_eq!(here.git(&["rev-parse", "HEAD"]), tip);
    assert!(closed_after(here, 9));
    assert!(!closed_after(here, 11), "an editor that somebody forgot");
    commit.end();
    assert_eq!(here.git(&["log", "-1", "--format=%s"]), "by hand");
    pair.converge("editor");
    pair.assert_settled("editor");
    pair.assert_known(&["TOKEN-a", "TOKEN-new"], "editor");
}

#[test]
fn a_commit_in_a_hook_that_takes_its_time() {
    let pair = before_a_snapshot();
    let here = &pair.laptop;
    // The message of an earlier commit is no sign of an editor.
    let message = here.root.join(".git/COMMIT_EDITMSG");
    fs::write(&message, "an old one\n").unwrap();
    let hour = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(&message).unwrap();
    file.set_modified(hour).unwrap();
    let stopped = here.once_until("S2.candidates");
    here.git(&["add", "a"]);
    let commit = Standing::begin(here, &["-q", "-m", "by hand"], |_, wait| {
        let hook = here.root.join(".git/hooks/pre-commit");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{wait}\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    });
    let tip = here.git(&["rev-parse", "HEAD"]);
    let ran = stopped.go_on();
    assert_ne!(ran.code, Some(0), "it waits for the hook: {ran:?}");
    assert_eq!(here.git(&["rev-parse", "HEAD"]), tip);
    assert!(closed_after(here, 60), "a hook is no editor");
    commit.end();
    assert_eq!(here.git(&["log", "-1", "--format=%s"]), "by hand");
    fs::remove_file(here.root.join(".git/hooks/pre-commit")).unwrap();
    pair.converge("hook");
    pair.assert_settled("hook");
    pair.assert_known(&["TOKEN-a", "TOKEN-new"], "hook");
}

#[test]
fn while_our_locks_are_held_git_fails_cleanly_and_works_right_after() {
    let pair = before_a_snapshot();
    for step in ["S7.index-locked", "S7.prepared", "S8.index"] {
        pair.restore();
        let here = &pair.laptop;
        let stopped = here.once_until(step);
        let ran = here.try_git(&["commit", "-q", "--allow-empty", "-m", "by hand"]);
        assert_eq!(ran.code, Some(128), "{step}: {ran:?}");
        assert!(ran.err.contains(".lock"), "{step}: {ran:?}");
        assert_eq!(stopped.go_on().code, Some(0), "{step}");
        fine(here, &["commit", "-q", "--allow-empty", "-m", "by hand"]);
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-a", "TOKEN-new"], step);
    }
}

#[test]
fn a_part_that_was_staged_is_never_lost() {
    for wanted in SNAPSHOT {
        let pair = pair();
        let here = &pair.laptop;
        let text = LINES
            .replace("one", "TOKEN-one")
            .replace("five", "TOKEN-five");
        here.write("b", &text);
        let mut folder = Folder::open(settings(&here.root)).unwrap();
        let (root, path) = (here.root.clone(), std::env::var_os("PATH").unwrap());
        let mut command = here.sandbox.command("git");
        command.current_dir(&root).env("PATH", path);
        command.args(["-c", "interactive.singleKey=false", "add", "-p", "b"]);
        let staged = Rc::new(Cell::new(false));
        let note = Rc::clone(&staged);
        let mut command = Some(command);
        let hook = move |step: &str| {
            if step == *wanted
                && let Some(mut command) = command.take()
            {
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
                let told = child.stdin.take().unwrap().write_all(b"s\ny\nn\n");
                // Once everything is committed it has nothing to ask, and may be gone by then.
                assert!(told.is_ok() || *wanted == "S8.done", "{told:?}");
                let ran = ended(child.wait_with_output().unwrap());
                assert!(ran.code == Some(0) && !ran.err.contains("lock"), "{ran:?}");
                note.set(true);
            }
        };
        let job = Job::Snapshot {
            scope: Scope::Everything,
            even_open: [].into(),
            trigger: Trigger::Edit,
            approved: false,
        };
        let look = job.clone();
        let outcome = fault::with_hook(hook, || folder.run(look, &mut |_| {}));
        assert!(staged.get(), "{wanted}");
        let Event::Snapshotted(outcome) = outcome else {
            panic!("a snapshot ends as one");
        };
        let _again = folder.run(job, &mut |_| {});
        let half = here.git(&["show", ":b"]);
        let head = here.git(&["show", "HEAD:b"]);
        assert_eq!(here.read("b"), text, "{wanted}");
        if *wanted == "S8.done" {
            assert_eq!(head, text.trim_end(), "everything was committed before");
            continue;
        }
        assert!(
            (half.contains("TOKEN-one") && !half.contains("TOKEN-five"))
                || here.history().contains("TOKEN-one"),
            "{wanted}: {outcome:?}\n{half}"
        );
    }
}

#[test]
fn what_is_staged_while_the_index_is_written_stays_staged() {
    let pair = pair();
    let here = &pair.laptop;
    here.write("b", "TOKEN-b\n");
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let mut command = here.sandbox.command("sh");
    command.current_dir(&here.root);
    command.args([
        "-c",
        "echo TOKEN-staged >c && git add c && echo TOKEN-later >c",
    ]);
    let mut command = Some(command);
    let hook = move |step: &str| {
        if step == "S6.index"
            && let Some(mut command) = command.take()
        {
            assert!(command.status().unwrap().success());
        }
    };
    let job = Job::Snapshot {
        scope: Scope::Paths([RepoPath::new("b").unwrap()].into()),
        even_open: [].into(),
        trigger: Trigger::Edit,
        approved: false,
    };
    fault::with_hook(hook, || folder.run(job, &mut |_| {}));
    assert_eq!(here.git(&["show", "HEAD:b"]), "TOKEN-b");
    assert_eq!(here.git(&["show", ":c"]), "TOKEN-staged");
}
