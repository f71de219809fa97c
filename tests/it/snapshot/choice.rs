//! What a snapshot leaves alone because somebody said so: the user's index, `only`, and a root that
//! cannot be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use autosync::clock;
use autosync::engine::action::Job;
use autosync::engine::event::{Code, Event, Recovery};
use autosync::engine::timer::Moment;
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::folder::Folder;

use super::{Lab, settings};
use crate::git_bench::{Bench, git_command};
use crate::support::inside::{NOBODY_INSIDE, inside};

#[test]
fn unmerged_entries_wait_for_the_user_and_nothing_is_lost() {
    let mut lab = Lab::new();
    lab.write("a", "base\n");
    lab.write("other", "1\n");
    lab.everything();
    lab.write("a", "TOKEN-stashed\n");
    lab.git(&["stash", "-q"]);
    lab.write("a", "TOKEN-saved\n");
    lab.everything();
    // No merge is in progress, and yet the index has three versions of one file.
    let popped = git_command()
        .args(["stash", "pop", "-q"])
        .current_dir(lab.bench.root())
        .output()
        .unwrap();
    assert_eq!(popped.status.code(), Some(1));
    let unmerged = lab.git(&["ls-files", "-u"]);
    assert_eq!(unmerged.lines().count(), 3, "{unmerged}");
    lab.write("other", "2\n");
    let (head, stands) = (lab.git(&["rev-parse", "HEAD"]), lab.git(&["status", "-z"]));
    for outcome in [lab.paths(&["a"]), lab.paths(&["other"]), lab.everything()] {
        let trouble = outcome.blocked.unwrap();
        assert_eq!(trouble.code, Code::Unmerged);
        assert_eq!(trouble.recovery, Recovery::Pause);
        assert!(trouble.message.contains("unmerged"), "{trouble:?}");
        assert!(trouble.hint.contains("git add"), "{trouble:?}");
    }
    assert_eq!(lab.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(lab.git(&["ls-files", "-u"]), unmerged);
    assert_eq!(lab.git(&["status", "-z"]), stands);

    lab.write("a", "TOKEN-stashed\nTOKEN-saved\n");
    lab.git(&["add", "a"]);
    let outcome = lab.everything();
    assert_eq!(outcome.blocked, None);
    assert_eq!(lab.git(&["show", "HEAD:a"]), "TOKEN-stashed\nTOKEN-saved");
    assert_eq!(lab.git(&["show", "HEAD:other"]), "2");
}

#[test]
fn unmerged_entries_hold_up_what_comes_in() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.write("b", "1\n");
    lab.everything();
    let before = lab.git(&["rev-parse", "HEAD"]);
    lab.write("b", "2\n");
    lab.everything();
    let target = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    lab.git(&["reset", "-q", "--hard", &before]);
    let blob = lab.git(&["rev-parse", "HEAD:a"]);
    let mut command = git_command();
    command.args(["update-index", "--index-info"]);
    let entries = format!("0 {blob} 0\ta\n100644 {blob} 2\ta\n100644 {blob} 3\ta\n");
    feed(&mut command, lab.bench.root(), &entries);
    let job = Job::Apply {
        target,
        approved: false,
    };
    let Event::Applied(applied) = lab.folder.run(job, &mut |_| {}) else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked.unwrap().code, Code::Unmerged);
    assert_eq!(lab.git(&["rev-parse", "HEAD"]), before);
    assert_eq!(lab.git(&["ls-files", "-u"]).lines().count(), 2);
    let b = fs::read_to_string(lab.bench.root().join("b")).unwrap();
    assert_eq!(b, "1\n");
}

fn feed(command: &mut std::process::Command, dir: &Path, input: &str) {
    use std::io::Write;
    let mut child = command
        .current_dir(dir)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn outside_of_only_nothing_is_taken_and_what_comes_in_is_written() {
    let mut lab = Lab::new();
    let mut only = settings(lab.bench.root());
    only.only = vec!["notes".to_owned(), "*.md".to_owned()];
    lab.write("notes/deep/a", "1\n");
    lab.write("readme.md", "1\n");
    lab.write("elsewhere/b", "TOKEN-mine\n");
    lab.git(&["add", "-A"]);
    lab.git(&["commit", "-q", "-m", "by hand"]);
    let before = lab.git(&["rev-parse", "HEAD"]);
    lab.write("elsewhere/b", "came in\n");
    lab.write("elsewhere/c", "came in\n");
    lab.write("notes/deep/a", "came in\n");
    lab.git(&["add", "-A"]);
    lab.git(&["commit", "-q", "-m", "comes in"]);
    let target = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    lab.git(&["reset", "-q", "--hard", &before]);
    lab.folder = Folder::open(only).unwrap();

    lab.write("notes/deep/new", "2\n");
    lab.write("elsewhere/new", "2\n");
    lab.write("elsewhere/b", "TOKEN-later\n");
    lab.write("new.md", "2\n");
    fs::remove_file(lab.bench.root().join("readme.md")).unwrap();
    for outcome in [
        lab.paths(&["elsewhere/b", "elsewhere/new", "elsewhere"]),
        lab.everything(),
        lab.everything(),
    ] {
        assert_eq!(outcome.blocked, None);
    }
    assert_eq!(
        lab.tracked(),
        ["elsewhere/b", "new.md", "notes/deep/a", "notes/deep/new"]
    );
    let head = lab.git(&["rev-parse", "HEAD"]);
    assert_eq!(lab.git(&["rev-parse", "HEAD~1"]), before, "one commit");
    assert_eq!(lab.git(&["show", "HEAD:elsewhere/b"]), "TOKEN-mine");

    // What comes in outside of it is written where nothing of the user's is, and where something
    // is, that stays.
    let merged = lab.folder.run(Job::Merge { hub: target }, &mut |_| {});
    let Event::Merged(autosync::engine::event::Merged::Created { commit, .. }) = merged else {
        panic!("both sides moved: {merged:?}");
    };
    let job = Job::Apply {
        target: commit,
        approved: false,
    };
    let Event::Applied(applied) = lab.folder.run(job, &mut |_| {}) else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked, None);
    let read = |name: &str| fs::read_to_string(lab.bench.root().join(name)).unwrap();
    assert_eq!(read("notes/deep/a"), "came in\n");
    assert_eq!(read("elsewhere/c"), "came in\n");
    assert_eq!(read("elsewhere/b"), "TOKEN-later\n");
    assert_eq!(lab.git(&["show", "HEAD:elsewhere/b"]), "came in");
    assert_ne!(lab.git(&["rev-parse", "HEAD"]), head);
}

#[test]
fn what_the_user_assumes_unchanged_is_neither_committed_nor_written() {
    let mut lab = Lab::new();
    lab.write("config", "shared\n");
    lab.write("a", "1\n");
    lab.everything();
    let base = lab.git(&["rev-parse", "HEAD"]);
    lab.write("config", "shared 2\n");
    lab.everything();
    let target = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    lab.git(&["reset", "-q", "--hard", &base]);

    for flag in ["--assume-unchanged", "--skip-worktree"] {
        lab.git(&["update-index", flag, "config"]);
        lab.write("config", "TOKEN-private\n");
        for outcome in [lab.paths(&["config"]), lab.everything()] {
            assert_eq!((outcome.committed, outcome.blocked), (None, None), "{flag}");
        }
        // Nor is it deleted, whoever takes it away.
        fs::remove_file(lab.bench.root().join("config")).unwrap();
        for outcome in [lab.paths(&["config"]), lab.everything()] {
            assert_eq!((outcome.committed, outcome.blocked), (None, None), "{flag}");
        }
        lab.write("config", "TOKEN-private\n");
        assert_eq!(lab.git(&["rev-parse", "HEAD"]), base);
        let flags = lab.git(&["ls-files", "-v", "config"]);
        assert!(!flags.starts_with('H'), "{flag}: {flags}");
    }
    lab.git(&["update-index", "--no-skip-worktree", "config"]);
    lab.git(&["update-index", "--assume-unchanged", "config"]);
    let job = Job::Apply {
        target,
        approved: false,
    };
    let Event::Applied(applied) = lab.folder.run(job, &mut |_| {}) else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked, None);
    assert_eq!(lab.git(&["show", "HEAD:config"]), "shared 2");
    let config = lab.bench.root().join("config");
    let read = || fs::read_to_string(&config).unwrap();
    assert_eq!(read(), "TOKEN-private\n");
    let flags = lab.git(&["ls-files", "-v", "config"]);
    assert!(!flags.starts_with('H'), "it stays hidden: {flags}");
    assert_eq!(lab.everything().committed, None);
    // A stash of the user's knows nothing of it either.
    lab.write("a", "2\n");
    lab.git(&["stash", "-q"]);
    assert_eq!(read(), "TOKEN-private\n");
}

#[test]
fn a_path_staged_in_part_is_committed_after_a_minute_and_the_part_is_kept() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.everything();
    lab.write("a", "staged\n");
    lab.git(&["add", "a"]);
    lab.write("a", "more\n");
    assert_eq!(lab.paths(&["a"]).busy.len(), 1);
    let path = RepoPath::new("a").unwrap();
    let ago = |seconds| Moment(clock::now().0.saturating_sub(Duration::from_secs(seconds)));
    let since = lab.folder.staged_since.get_mut(&path).unwrap();
    *since = ago(55);
    assert_eq!(lab.paths(&["a"]).busy.len(), 1, "not a minute yet");
    *lab.folder.staged_since.get_mut(&path).unwrap() = ago(61);
    let outcome = lab.paths(&["a"]);
    assert!(outcome.committed.is_some(), "{outcome:?}");
    assert_eq!(lab.git(&["show", "HEAD:a"]), "more");
    let staged = "refs/worktree/autosync/staged";
    assert_eq!(lab.git(&["show", &format!("{staged}:a")]), "staged");
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
    assert!(lab.folder.staged_since.is_empty());
    // And nothing collects it.
    lab.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(lab.git(&["show", &format!("{staged}:a")]), "staged");
}

#[test]
fn a_root_that_cannot_be_read_is_no_deletion() {
    let test = "snapshot::choice::a_root_that_cannot_be_read_is_no_deletion";
    if !inside(NOBODY_INSIDE, test) {
        return;
    }
    for mode in [0o000, 0o111, 0o300] {
        for elsewhere in [false, true] {
            let bench = Bench::new();
            let mut wanted = settings(bench.root());
            if elsewhere {
                let dir = bench.root().parent().unwrap().join("elsewhere.git");
                fs::rename(bench.root().join(".git"), &dir).unwrap();
                bench.write(".git", format!("gitdir: {}\n", dir.display()));
                Bench::run_in(
                    bench.root(),
                    &["config", "core.worktree", bench.root().to_str().unwrap()],
                );
                wanted.git_dir = Some(dir);
            }
            let folder = Folder::open(wanted).unwrap();
            let mut lab = Lab { bench, folder };
            for number in 0..3 {
                lab.write(&format!("f{number}"), format!("{number}\n"));
            }
            lab.write("dir/a", "1\n");
            lab.everything();
            let head = lab.git(&["rev-parse", "HEAD"]);
            let root = lab.bench.root().to_owned();
            fs::remove_file(root.join("f1")).unwrap();
            let chmod = |mode| fs::set_permissions(&root, PermissionsExt::from_mode(mode)).unwrap();
            chmod(mode);
            assert!(fs::read_dir(&root).is_err(), "nobody may list it");
            let outcomes = [
                lab.paths(&["f0", "f1", "dir", "dir/a"]),
                lab.everything(),
                lab.look(autosync::engine::action::Scope::Everything, &[], true),
            ];
            chmod(0o755);
            for outcome in outcomes {
                assert_eq!(outcome.committed, None, "{mode:o}, {elsewhere}");
                let trouble = outcome.blocked.unwrap();
                assert_eq!(trouble.code, Code::Io, "{mode:o}: {trouble:?}");
                assert!(trouble.message.contains(root.to_str().unwrap()));
            }
            assert_eq!(lab.git(&["rev-parse", "HEAD"]), head, "{mode:o}");
            assert_eq!(lab.tracked().len(), 4);
            let outcome = lab.everything();
            assert_eq!(outcome.blocked, None);
            assert_eq!(lab.tracked(), ["dir/a", "f0", "f2"], "and this is one");
        }
    }
}
