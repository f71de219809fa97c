//! The user's git that takes its time, or stages, while an apply stands at one of its steps.

use std::io::Write;
use std::process::Stdio;
use std::sync::mpsc::channel;

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::{Applied, Event, Snapshotted};
use autosync::fault;
use autosync::names::ObjectId;
use autosync::repo::folder::Folder;

use super::{APPLY, LINES, Standing, assert_arrived, before_an_apply, fine, pair};
use crate::pair::{Host, Pair};
use crate::snapshot::settings;
use crate::support::ended;

/// Where staged content is kept that an index of ours has something else for.
const STAGED: &str = "refs/worktree/autosync/staged";

/// Does a job of the tree lane, which stands still at a step while `deed` is done.
fn job_with<T>(here: &Host, job: Job, step: &'static str, deed: impl FnOnce() -> T) -> (Event, T) {
    let (at_step, reached) = channel();
    let (go, told) = channel::<()>();
    std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            let mut folder = Folder::open(settings(&here.root)).unwrap();
            let mut told = Some(told);
            let hook = move |at: &str| {
                if at == step
                    && let Some(told) = told.take()
                {
                    at_step.send(()).unwrap();
                    told.recv().unwrap();
                }
            };
            fault::with_hook(hook, || folder.run(job, &mut |_| {}))
        });
        reached.recv().unwrap();
        let done = deed();
        go.send(()).unwrap();
        (running.join().unwrap(), done)
    })
}

/// Applies what the hub has, standing still at a step.
pub(super) fn apply_with<T>(
    here: &Host,
    step: &'static str,
    deed: impl FnOnce() -> T,
) -> (Applied, T) {
    here.git(&["fetch", "-q", "origin"]);
    let target = ObjectId::from_hex(here.git(&["rev-parse", "origin/main"])).unwrap();
    let job = Job::Apply {
        target,
        approved: false,
    };
    let (Event::Applied(applied), done) = job_with(here, job, step, deed) else {
        panic!("an apply ends as one");
    };
    (applied, done)
}

fn look() -> Job {
    Job::Snapshot {
        scope: Scope::Everything,
        even_open: [].into(),
        trigger: Trigger::Edit,
        approved: false,
    }
}

/// Commits what the folder has, standing still at a step.
pub(super) fn snapshot_with<T>(
    here: &Host,
    step: &'static str,
    deed: impl FnOnce() -> T,
) -> (Event, T) {
    job_with(here, look(), step, deed)
}

/// Looks at everything once.
fn snapshot(here: &Host) -> Snapshotted {
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let Event::Snapshotted(outcome) = folder.run(look(), &mut |_| {}) else {
        panic!("a snapshot ends as one");
    };
    outcome
}

/// A commit of the user's with an open editor, of what is staged or of everything.
fn editor(here: &Host, args: &[&str]) -> Standing {
    Standing::begin(here, args, |command, wait| {
        let script = format!("echo 'by hand' >\"$1\"; {wait}");
        let script = here.sandbox.write("editor.sh", script);
        command.env("GIT_EDITOR", format!("sh {}", script.display()));
    })
}

#[test]
fn a_commit_with_an_open_editor_in_an_apply() {
    let pair = before_an_apply();
    let here = &pair.laptop;
    for all in [false, true] {
        for step in APPLY {
            pair.restore();
            let note = format!("{step}, all: {all}");
            let before = here.git(&["rev-parse", "HEAD"]);
            let (applied, commit) = apply_with(here, step, || {
                here.write("a", "TOKEN-a\n");
                if all {
                    editor(here, &["-a"])
                } else {
                    here.git(&["add", "a"]);
                    editor(here, &[])
                }
            });
            // The branch waits for the message, and while it does everything else waits as well.
            if *step != "A5.published" {
                assert!(applied.blocked.is_some(), "{note}: {applied:?}");
                assert_eq!(here.git(&["rev-parse", "HEAD"]), before, "{note}");
            }
            let looked = snapshot(here);
            assert!(looked.blocked.is_some(), "{note}: {looked:?}");
            commit.end();
            assert_eq!(here.git(&["log", "-1", "--format=%s"]), "by hand", "{note}");
            pair.converge(&note);
            pair.assert_settled(&note);
            let tree = here.tree();
            assert_eq!(tree["a"], "TOKEN-a\n", "{note}");
            assert_arrived(&tree, &note);
        }
    }
}

/// Stages the first of two changed places of a file by `git add -p`.
fn stage_a_part(here: &Host, path: &str) {
    let mut command = here.sandbox.command("git");
    command.current_dir(&here.root);
    command.args(["-c", "interactive.singleKey=false", "add", "-p", path]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    if let Err(error) = child.stdin.take().unwrap().write_all(b"s\ny\nn\n") {
        // Where there is nothing to ask it may be gone by then.
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let ran = ended(child.wait_with_output().unwrap());
    assert!(ran.code == Some(0) && !ran.err.contains("lock"), "{ran:?}");
}

/// What is staged at a path, what a reference of ours keeps of it, and every version in history.
fn kept_of(here: &Host, path: &str) -> [String; 3] {
    let text = |args: &[&str]| here.try_git(args).out;
    [
        text(&["show", &format!(":{path}")]),
        text(&["log", "-p", "--format=", STAGED, "--", path]),
        text(&["log", "--all", "-p", "-m", "--format=", "--", path]),
    ]
}

#[test]
fn a_part_that_is_staged_in_an_apply_is_never_lost() {
    let pair = before_an_apply();
    let here = &pair.laptop;
    for step in APPLY {
        // Of a file that comes in, and of one beside it.
        for path in ["b", "mine"] {
            pair.restore();
            here.write("mine", LINES);
            here.git(&["add", "mine"]);
            here.git(&["commit", "-q", "-m", "mine"]);
            pair.converge("mine");
            let theirs = LINES.replace("one", "ONE").replace("three", "THREE");
            pair.server.write("b", theirs);
            pair.server.write("d", "TOKEN-d\n");
            let _ran = pair.server.once().ok();
            let note = format!("{step}, {path}");
            let (_, text) = apply_with(here, step, || {
                let text = here.read(path);
                let text = text.replace("one", "TOKEN-one").replace("ONE", "TOKEN-one");
                let text = text.replace("five", "TOKEN-five");
                here.write(path, &text);
                stage_a_part(here, path);
                text
            });
            let _looked = snapshot(here);
            let kept = kept_of(here, path);
            let is_half = |text: &String| text.contains("TOKEN-one");
            assert!(kept.iter().any(is_half), "{note}: {kept:?}");
            if path == "mine" {
                let half = &kept[0];
                assert!(
                    half.contains("TOKEN-one") && !half.contains("TOKEN-five"),
                    "{note}: the part is still staged: {kept:?}"
                );
                assert_eq!(here.read(path), text, "{note}");
            }
            assert!(here.read(path).contains("TOKEN-five"), "{note}");
            assert_eq!(here.try_git(&["fsck", "--strict"]).code, Some(0), "{note}");
        }
    }
}

#[test]
fn what_is_staged_in_an_apply_and_saved_over_is_kept() {
    // `git add`, then saved again: the index has the only copy of the first version.
    let pair = before_an_apply();
    let here = &pair.laptop;
    for step in APPLY {
        pair.restore();
        let (_, ()) = apply_with(here, step, || {
            here.write("b", "TOKEN-staged\n");
            here.git(&["add", "b"]);
            here.write("b", "TOKEN-later\n");
        });
        let _looked = snapshot(here);
        let kept = kept_of(here, "b");
        let is_there = |text: &String| text.contains("TOKEN-staged");
        assert!(kept.iter().any(is_there), "{step}: {kept:?}");
        assert_eq!(here.try_git(&["fsck", "--strict"]).code, Some(0), "{step}");
        // Taken back, or committed by us after its minute: then it comes to rest.
        here.git(&["reset", "-q"]);
        pair.converge(step);
        pair.assert_settled(step);
        pair.assert_known(&["TOKEN-later"], step);
        assert_known_in_tree(&pair, "TOKEN-later", step);
    }
}

fn assert_known_in_tree(pair: &Pair, token: &str, note: &str) {
    let tree = pair.server.tree();
    assert!(
        tree.values().any(|text| text.contains(token)),
        "{note}: {tree:?}"
    );
}

#[test]
fn rm_cached_and_ignored_in_an_apply() {
    let pair = before_an_apply();
    let here = &pair.laptop;
    for step in APPLY {
        pair.restore();
        let (_, ()) = apply_with(here, step, || {
            fine(here, &["rm", "-q", "--cached", "a"]);
            here.write(".gitignore", "a\n");
        });
        pair.converge(step);
        pair.assert_settled(step);
        assert_eq!(here.git(&["ls-files", "a"]), "", "{step}");
        for host in [here, &pair.server] {
            assert_eq!(host.read("a"), "a 2\n", "{step}: it stays on the disk");
        }
        let mut tree = here.tree();
        assert_eq!(tree.remove(".gitignore").as_deref(), Some("a\n"), "{step}");
        assert_arrived(&tree, step);
    }
}

#[test]
fn rm_cached_of_what_comes_in_does_not_take_it_out() {
    let pair = before_an_apply();
    let here = &pair.laptop;
    for step in APPLY {
        pair.restore();
        let (_, ()) = apply_with(here, step, || fine(here, &["rm", "-q", "--cached", "b"]));
        // The file is there and not ignored, so what was taken out of the index comes back.
        here.git(&["reset", "-q"]);
        pair.converge(step);
        pair.assert_settled(step);
        assert_arrived(&here.tree(), step);
    }
}

/// Two hosts, and the hub has a commit of the laptop's of which the laptop knows nothing: it was
/// killed between its push and the answer, and its user committed meanwhile.
fn pushed_and_killed(by_hand: &[&str]) -> Pair {
    let pair = pair();
    let here = &pair.laptop;
    here.write("a", "TOKEN-earlier\n");
    let pending = "refs/worktree/autosync/pending";
    let (_, ()) = snapshot_with(here, "S6.index", || {
        let pushed = here.git(&["rev-parse", pending]);
        let from = here.root.to_str().unwrap();
        let to = format!("{pushed}:refs/heads/main");
        here.sandbox.git(&pair.hub, ["fetch", "-q", from, &to]);
        here.write("a", "TOKEN-later\n");
        here.git(by_hand);
    });
    let tracked = here.git(&["rev-parse", "origin/main"]);
    let hub = here.sandbox.git(&pair.hub, ["rev-parse", "main"]);
    assert_ne!(tracked, hub, "nobody has told the laptop");
    assert_eq!(here.git(&["rev-parse", pending]), hub);
    pair
}

#[test]
fn a_later_version_of_what_a_killed_agent_had_pushed_stands_without_a_copy() {
    for by_hand in [
        &["commit", "-q", "-a", "-m", "by hand"][..],
        &["commit", "-q", "-a", "--amend", "-m", "amended"],
    ] {
        let pair = pushed_and_killed(by_hand);
        let here = &pair.laptop;
        pair.converge("later");
        pair.assert_settled("later");
        pair.assert_known(&["TOKEN-earlier"], "later");
        let tree = pair.server.tree();
        assert_eq!(tree["a"], "TOKEN-later\n", "{by_hand:?}");
        assert_eq!(tree.len(), 3, "{by_hand:?}: {tree:?}");
        // What was let go is in the history now, so nothing keeps it any more.
        here.write("a", "1\n");
        pair.server.write("gone", "2\n");
        pair.converge("after");
        pair.assert_settled("after");
        assert_eq!(
            here.git(&["for-each-ref", "refs/worktree/autosync/let-go"]),
            ""
        );
    }
}

#[test]
fn what_others_made_of_what_a_killed_agent_had_pushed_is_no_earlier_version() {
    let pair = pushed_and_killed(&["commit", "-q", "-a", "-m", "by hand"]);
    let there = &pair.server;
    let _ran = there.once().ok();
    assert_eq!(there.read("a"), "TOKEN-earlier\n");
    there.write("a", "TOKEN-theirs\n");
    there.write("c", "TOKEN-c\n");
    let _ran = there.once().ok();
    pair.converge("theirs");
    pair.assert_settled("theirs");
    let tree = pair.laptop.tree();
    let all: Vec<&String> = tree.values().collect();
    for token in ["TOKEN-theirs\n", "TOKEN-later\n", "TOKEN-c\n"] {
        assert!(all.iter().any(|text| *text == token), "{token}: {tree:?}");
    }
    assert_eq!(tree["a"], "TOKEN-theirs\n", "the hub's keeps the name");
    assert!(
        !all.iter().any(|text| *text == "TOKEN-earlier\n"),
        "{tree:?}"
    );
}
