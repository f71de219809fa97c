//! Snapshots on real repositories: what is committed, what is not, and what stays the user's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::{Code, Event, Snapshotted};
use autosync::names::RepoPath;
use autosync::repo::folder::Folder;
use autosync::repo::{Policy, Settings};

use crate::git_bench::Bench;

mod approval;
mod choice;
mod disks;
mod packs;

pub(crate) fn settings(root: &Path) -> Settings {
    Settings {
        root: root.to_owned(),
        git_dir: None,
        hub: None,
        branch: "main".to_owned(),
        host: "laptop".to_owned(),
        max_file: 1 << 20,
        exclude: vec!["*.local".to_owned()],
        only: Vec::new(),
        conflict: Policy::Merge,
        mass_delete_files: 5,
        mass_delete_percent: 25,
        guards: autosync::repo::Guards::default(),
    }
}

struct Lab {
    bench: Bench,
    folder: Folder,
}

impl Lab {
    fn new() -> Self {
        let bench = Bench::new();
        let folder = Folder::open(settings(bench.root())).unwrap();
        Self { bench, folder }
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.bench.write(path, text)
    }

    fn look(&mut self, scope: Scope, even_open: &[&str], approved: bool) -> Snapshotted {
        let even_open = even_open
            .iter()
            .map(|path| RepoPath::new(path).unwrap())
            .collect();
        let job = Job::Snapshot {
            scope,
            even_open,
            trigger: Trigger::Edit,
            approved,
        };
        let Event::Snapshotted(outcome) = self.folder.run(job, &mut |_| {}) else {
            panic!("a snapshot ends as one");
        };
        outcome
    }

    fn paths(&mut self, paths: &[&str]) -> Snapshotted {
        let paths: BTreeSet<_> = paths
            .iter()
            .map(|path| RepoPath::new(path).unwrap())
            .collect();
        self.look(Scope::Paths(paths), &[], false)
    }

    fn everything(&mut self) -> Snapshotted {
        self.look(Scope::Everything, &[], false)
    }

    fn git(&self, args: &[&str]) -> String {
        self.bench.git(args)
    }

    fn tracked(&self) -> Vec<String> {
        self.git(&["ls-tree", "-r", "--name-only", "HEAD"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_lone_file_becomes_a_commit_and_the_users_git_sees_a_clean_tree() {
    let mut lab = Lab::new();
    lab.write("notes/todo.txt", "milk\n");
    let outcome = lab.paths(&["notes/todo.txt"]);
    let commit = outcome
        .committed
        .clone()
        .unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(outcome.blocked, None);
    assert_eq!(lab.git(&["rev-parse", "HEAD"]), commit.id.to_string());
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
    let message = lab.git(&["log", "-1", "--format=%B"]);
    assert!(
        message.starts_with("laptop: notes/todo.txt\n\nadd notes/todo.txt\n"),
        "{message}"
    );
    assert!(
        message.contains("Autosync-Host: laptop\nAutosync-Trigger: edit"),
        "{message}"
    );
    let ours = lab.git(&["for-each-ref", "--format=%(refname)", "refs/worktree"]);
    assert_eq!(ours, "refs/worktree/autosync/log");

    let again = lab.paths(&["notes/todo.txt"]);
    assert_eq!(again.committed, None);
    assert!(again.busy.is_empty());
}

#[test]
fn many_files_modes_links_and_deletions_are_one_commit() {
    let mut lab = Lab::new();
    for number in 0..120 {
        lab.write(&format!("many/{number}.txt"), format!("{number}\n"));
    }
    let script = lab.write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/", lab.bench.root().join("link")).unwrap();
    let outcome = lab.everything();
    assert_eq!(outcome.committed.unwrap().count, 122);
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
    assert!(
        lab.git(&["ls-tree", "HEAD", "run.sh", "link"])
            .contains("100755 blob")
    );
    assert!(
        lab.git(&["ls-tree", "HEAD", "link"])
            .starts_with("120000 blob")
    );

    fs::remove_file(lab.bench.root().join("many/7.txt")).unwrap();
    fs::remove_file(&script).unwrap();
    lab.write("run.sh/inside", "a directory now\n");
    let outcome = lab.paths(&["many/7.txt", "run.sh"]);
    assert!(outcome.committed.is_some());
    assert!(!lab.tracked().contains(&"many/7.txt".to_owned()));
    assert!(lab.tracked().contains(&"run.sh/inside".to_owned()));
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
    lab.git(&["fsck", "--strict"]);
}

#[test]
fn what_is_ignored_excluded_transient_special_or_nested_is_not_committed() {
    let mut lab = Lab::new();
    lab.write(".gitignore", ".env\n/build/\n");
    lab.write(".env", "SECRET");
    lab.write("build/out", "x");
    lab.write("mine.local", "x");
    lab.write(".todo.txt.swp", "x");
    lab.write("todo.txt", "x");
    Bench::run_in(&lab.bench.root().join("other"), &["init", "-q"]);
    lab.write("other/file", "x");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        lab.bench.root().join("pipe"),
        rustix::fs::Mode::RUSR,
    )
    .unwrap();
    let hints = [
        ".gitignore",
        ".env",
        "build/out",
        "mine.local",
        ".todo.txt.swp",
        "todo.txt",
        "pipe",
    ];
    lab.paths(&hints);
    assert_eq!(lab.tracked(), [".gitignore", "todo.txt"]);
    let outcome = lab.paths(&["other/file", "other", "pipe"]);
    assert_eq!(outcome.committed, None);
    assert!(
        outcome
            .skipped
            .iter()
            .any(|skip| skip.why == "a repository of its own")
    );
    assert!(
        outcome
            .skipped
            .iter()
            .any(|skip| skip.why == "no file, directory or link")
    );
    lab.everything();
    assert_eq!(lab.tracked(), [".gitignore", "todo.txt"]);
}

#[test]
fn staging_of_other_paths_survives_and_is_not_committed() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.write("b", "1\n");
    lab.everything();
    lab.write("b", "staged\n");
    lab.git(&["add", "b"]);
    lab.write("a", "2\n");
    let outcome = lab.paths(&["a"]);
    assert!(outcome.committed.is_some());
    assert_eq!(lab.git(&["show", "HEAD:b"]), "1");
    assert_eq!(lab.git(&["show", ":b"]), "staged");
    assert_eq!(lab.git(&["status", "--porcelain"]), "M  b");
}

#[test]
fn a_path_staged_in_part_waits() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.everything();
    lab.write("a", "staged\n");
    lab.git(&["add", "a"]);
    lab.write("a", "more\n");
    let outcome = lab.paths(&["a"]);
    assert_eq!(outcome.committed, None);
    assert_eq!(outcome.busy.len(), 1);
    assert_eq!(lab.git(&["show", ":a"]), "staged");
}

#[test]
fn removed_from_the_index_and_ignored_leaves_the_history_and_stays_on_disk() {
    let mut lab = Lab::new();
    lab.write("secret", "x\n");
    lab.everything();
    lab.git(&["rm", "-q", "--cached", "secret"]);
    lab.write(".gitignore", "secret\n");
    lab.everything();
    assert_eq!(lab.tracked(), [".gitignore"]);
    assert!(lab.bench.root().join("secret").exists());
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_file_too_big_is_held_and_the_rest_goes_on() {
    let mut lab = Lab::new();
    lab.write("big", vec![0; (1 << 20) + 1]);
    lab.write("small", "x");
    let outcome = lab.everything();
    assert_eq!(lab.tracked(), ["small"]);
    assert_eq!(outcome.held[0].code, Code::TooBig);
    fs::remove_file(lab.bench.root().join("big")).unwrap();
    assert!(lab.paths(&["big"]).held.is_empty());
}

#[test]
fn a_mass_delete_is_held_until_it_is_approved_and_moves_are_none() {
    let mut lab = Lab::new();
    for number in 0..40 {
        lab.write(&format!("d/{number}"), format!("{number}\n"));
    }
    lab.everything();
    fs::rename(lab.bench.root().join("d"), lab.bench.root().join("e")).unwrap();
    let outcome = lab.paths(&["d", "e"]);
    assert!(outcome.committed.is_some() && outcome.held.is_empty());

    fs::remove_dir_all(lab.bench.root().join("e")).unwrap();
    lab.write("new", "x");
    let outcome = lab.everything();
    assert_eq!(outcome.held[0].code, Code::MassDelete);
    assert_eq!(
        lab.tracked().len(),
        41,
        "the deletions wait, the new file goes on"
    );

    let outcome = lab.look(Scope::Everything, &[], true);
    assert!(outcome.held.is_empty());
    assert_eq!(lab.tracked(), ["new"]);
    assert!(
        lab.git(&["log", "-1", "--format=%B"])
            .contains("Autosync-Approved: laptop")
    );
}

#[test]
fn a_mass_delete_in_small_batches_is_held_as_well() {
    let mut lab = Lab::new();
    for number in 0..40 {
        lab.write(&format!("d/{number}"), format!("{number}\n"));
    }
    lab.everything();
    let mut held = false;
    for number in 0..40 {
        fs::remove_file(lab.bench.root().join(format!("d/{number}"))).unwrap();
        held |= !lab.paths(&[&format!("d/{number}")]).held.is_empty();
    }
    assert!(held);
    assert!(lab.tracked().len() >= 30, "{} left", lab.tracked().len());
}

#[test]
fn the_gate_is_closed_while_the_user_is_in_the_middle_of_something() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.everything();
    let git = lab.bench.root().join(".git");
    let before = lab.git(&["rev-parse", "HEAD"]);
    lab.write("a", "2\n");
    for (name, code) in [
        ("MERGE_HEAD", Code::Merge),
        ("CHERRY_PICK_HEAD", Code::CherryPick),
        ("REVERT_HEAD", Code::Revert),
        ("BISECT_LOG", Code::Bisect),
        ("rebase-merge", Code::Rebase),
        ("rebase-apply", Code::Rebase),
        ("index.lock", Code::GitBusy),
        ("HEAD.lock", Code::GitBusy),
        ("refs/heads/main.lock", Code::GitBusy),
    ] {
        fs::write(git.join(name), "").unwrap();
        let outcome = lab.paths(&["a"]);
        assert_eq!(outcome.blocked.unwrap().code, code, "{name}");
        assert!(git.join(name).exists(), "{name} is not ours to remove");
        fs::remove_file(git.join(name)).unwrap();
    }
    lab.git(&["checkout", "-q", "--detach"]);
    assert_eq!(lab.paths(&["a"]).blocked.unwrap().code, Code::Detached);
    lab.git(&["checkout", "-q", "-b", "other"]);
    assert_eq!(lab.paths(&["a"]).blocked.unwrap().code, Code::OtherBranch);
    lab.git(&["checkout", "-q", "main"]);
    assert_eq!(lab.git(&["rev-parse", "HEAD"]), before);
    assert!(lab.paths(&["a"]).committed.is_some());
}

#[test]
fn a_directory_that_became_a_link_is_committed_as_a_link_and_nothing_behind_it() {
    let mut lab = Lab::new();
    lab.write("d/f", "1\n");
    lab.write("else/f", "secret\n");
    lab.paths(&["d/f"]);
    fs::remove_dir_all(lab.bench.root().join("d")).unwrap();
    symlink("else", lab.bench.root().join("d")).unwrap();
    let outcome = lab.paths(&["d/f"]);
    assert!(outcome.committed.is_some());
    assert_eq!(lab.tracked(), ["d"]);
}

#[test]
fn a_missing_file_in_an_unreadable_directory_is_no_deletion() {
    if rustix::process::geteuid().is_root() {
        // Root reads everything: the directory is made a file system loop instead.
        let mut lab = Lab::new();
        lab.write("d/f", "1\n");
        lab.everything();
        fs::remove_dir_all(lab.bench.root().join("d")).unwrap();
        symlink("d", lab.bench.root().join("d")).unwrap();
        lab.paths(&["d/f"]);
        assert_eq!(lab.tracked(), ["d"], "the link is what the user put there");
        return;
    }
    let mut lab = Lab::new();
    lab.write("d/f", "1\n");
    lab.everything();
    let dir = lab.bench.root().join("d");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o0)).unwrap();
    let outcome = lab.paths(&["d/f"]);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome.committed, None);
    assert!(!outcome.skipped.is_empty());
}

#[test]
fn filters_and_line_endings_store_what_git_would_store() {
    let mut lab = Lab::new();
    lab.write(".gitattributes", "*.crlf text eol=crlf\n*.sec filter=rot\n*.u16 working-tree-encoding=UTF-16LE\n*.lost filter=missing\n");
    lab.git(&["config", "filter.rot.clean", "tr a-z n-za-m"]);
    lab.git(&["config", "filter.rot.smudge", "tr a-z n-za-m"]);
    lab.write("a.crlf", "one\r\ntwo\r\n");
    lab.write("a.sec", "secret\n");
    lab.write("a.u16", b"h\0i\0");
    lab.write("a.lost", "plain");
    let outcome = lab.everything();
    assert_eq!(lab.git(&["cat-file", "blob", "HEAD:a.crlf"]), "one\ntwo");
    assert_eq!(lab.git(&["cat-file", "blob", "HEAD:a.sec"]), "frperg");
    assert_eq!(lab.git(&["cat-file", "blob", "HEAD:a.u16"]), "hi");
    assert!(!lab.tracked().contains(&"a.lost".to_owned()));
    assert_eq!(outcome.held[0].code, Code::Filter);
    assert_eq!(lab.git(&["status", "--porcelain"]), "?? a.lost");
}

#[test]
fn a_file_open_for_writing_waits_unless_it_waited_long_enough() {
    let mut lab = Lab::new();
    let path = lab.write("log", "1\n");
    let open = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let outcome = lab.paths(&["log"]);
    assert_eq!(outcome.committed, None);
    assert_eq!(outcome.busy[0].why, "open for writing");
    let scope = Scope::Paths([RepoPath::new("log").unwrap()].into());
    assert!(lab.look(scope, &["log"], false).committed.is_some());
    drop(open);
}

#[test]
fn a_foreign_directory_in_the_place_of_the_root_is_never_committed() {
    let mut lab = Lab::new();
    lab.write("a", "1\n");
    lab.everything();
    let root = lab.bench.root().to_owned();
    let aside = root.with_extension("aside");
    fs::rename(&root, &aside).unwrap();
    fs::create_dir(&root).unwrap();
    assert_eq!(lab.everything().blocked.unwrap().code, Code::RootMissing);
    fs::remove_dir(&root).unwrap();
    assert_eq!(lab.everything().blocked.unwrap().code, Code::RootMissing);
    fs::rename(&aside, &root).unwrap();
    assert_eq!(lab.everything().blocked, None);
}

#[test]
fn a_new_path_below_a_kept_one_never_takes_back_what_came_in() {
    use autosync::repo::bases::{Base, Why};
    let mut lab = Lab::new();
    lab.write("p", "old\n");
    lab.everything();
    let base = autosync::names::ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    let have = autosync::names::ObjectId::from_hex(lab.git(&["rev-parse", "HEAD:p"])).unwrap();
    // As an apply leaves it that may not write `p`: HEAD has the new content, the disk the old.
    lab.write("p", "came in\n");
    lab.everything();
    lab.write("p", "old\n");
    let path = RepoPath::new("p").unwrap();
    let have = Some(autosync::git::tree::Entry {
        mode: autosync::git::tree::FILE,
        id: have,
    });
    lab.folder.bases.insert(
        path,
        Base {
            have,
            base,
            why: Why::Kept,
            stat: None,
        },
    );
    lab.folder.bases.save(&lab.folder.place).unwrap();

    fs::remove_file(lab.bench.root().join("p")).unwrap();
    lab.write("p/x", "a directory now\n");
    let outcome = lab.paths(&["p", "p/x"]);
    assert_eq!(outcome.blocked, None);
    let text = lab.git(&["log", "-p", "--all", "-m", "--format=%H"]);
    assert!(text.contains("came in"));
    let tree = lab.git(&[
        "grep",
        "-h",
        "-e",
        "came in",
        "-e",
        "a directory now",
        "HEAD",
    ]);
    assert!(
        tree.contains("came in") && tree.contains("a directory now"),
        "{tree}"
    );
    assert_eq!(lab.everything().committed, None);
}

#[test]
fn a_path_that_head_does_not_have_is_never_taken_for_hidden_by_the_user() {
    use autosync::git::gate::record;
    use autosync::repo::publish::{IndexEdit, Published, publish};
    let mut lab = Lab::new();
    lab.write("other", "1\n");
    lab.everything();
    // As an apply publishes that leaves a path to the base map which the new commit does not have.
    let folder = &mut lab.folder;
    let record = record(&folder.place.git, &folder.place.objects, "main").unwrap();
    let edit = IndexEdit {
        path: RepoPath::new("a").unwrap(),
        entry: None,
        refresh: false,
        skip_worktree: true,
    };
    let tip = record.tip.unwrap();
    let done = publish(
        &folder.place,
        &mut folder.view,
        &record,
        tip,
        &[edit],
        "test",
    )
    .unwrap();
    assert_eq!(done, Published::Done);
    lab.write("a", "the user's\n");
    assert!(lab.paths(&["a"]).committed.is_some());
}

#[test]
fn a_directory_in_the_place_of_a_kept_file_is_found_with_all_that_is_in_it() {
    use autosync::names::ObjectId;
    use autosync::repo::bases::{Base, Why};
    use autosync::repo::publish::{IndexEdit, publish};
    let mut lab = Lab::new();
    lab.write("other", "1\n");
    lab.everything();
    let base = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    lab.write("a", "came in\n");
    lab.everything();
    // As an apply leaves it that may not make `a`, because the user has a directory there.
    let tip = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    let id = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD:a"])).unwrap();
    let entry = Some(autosync::git::tree::Entry {
        mode: autosync::git::tree::FILE,
        id,
    });
    let path = RepoPath::new("a").unwrap();
    let folder = &mut lab.folder;
    folder.bases.insert(
        path.clone(),
        Base {
            have: None,
            base,
            why: Why::Kept,
            stat: None,
        },
    );
    folder.bases.save(&folder.place).unwrap();
    let record =
        autosync::git::gate::record(&folder.place.git, &folder.place.objects, "main").unwrap();
    let edit = IndexEdit {
        path,
        entry,
        refresh: false,
        skip_worktree: true,
    };
    publish(
        &folder.place,
        &mut folder.view,
        &record,
        tip,
        &[edit],
        "test",
    )
    .unwrap();
    fs::remove_file(lab.bench.root().join("a")).unwrap();
    lab.write("a/deep/mine", "the user's\n");
    let outcome = lab.paths(&["a"]);
    assert_eq!(outcome.blocked, None);
    let tree = lab.git(&["grep", "-h", "-e", "came in", "-e", "the user's", "HEAD"]);
    assert!(
        tree.contains("came in") && tree.contains("the user's"),
        "{tree}"
    );
    lab.everything();
    assert_eq!(lab.folder.waiting(), Vec::new());
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_late_edit_of_the_version_that_stands_is_an_edit_of_it() {
    use autosync::names::ObjectId;
    use autosync::repo::displaced::keep;
    use autosync::repo::exchange::Left;
    use autosync::repo::journal::Journal;
    use autosync::repo::open::Writer;
    use autosync::repo::records;
    let mut lab = Lab::new();
    let log = lab.write("log", "one\n");
    lab.everything();
    // As an apply leaves it that took the file back which it had just put there: somebody had
    // opened it in between, and wrote to it later.
    let tip = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD"])).unwrap();
    let bytes = ObjectId::from_hex(lab.git(&["rev-parse", "HEAD:log"])).unwrap();
    let store = lab.folder.place.store.clone();
    let stage = store.join("stage/1");
    fs::create_dir_all(&stage).unwrap();
    fs::create_dir_all(store.join("displaced")).unwrap();
    fs::write(stage.join("0"), "one\nlate\n").unwrap();
    let op = autosync::repo::journal::Op {
        path: RepoPath::new("log").unwrap(),
        step: autosync::repo::journal::Step::Replace,
        old: None,
        new: None,
        base: tip,
        old_bytes: None,
        new_bytes: None,
        staged: None,
        ignored: false,
        hidden: false,
        why: None,
    };
    let journal = Journal {
        from: tip,
        to: tip,
        mass: false,
        here: false,
        stage,
        ops: vec![op],
    };
    let writer = Writer::No;
    let left = Left {
        base: tip,
        bytes,
        writer,
    };
    keep(&lab.folder.place, &journal, &[(0, left)]).unwrap();
    // A boot later it is looked at without a wait.
    let index = store.join("displaced/1/index");
    let kind = "autosync displaced 1";
    let mut all = records::read(&index, kind, 7).unwrap().unwrap();
    all[0][0] = b"another boot".to_vec();
    records::write(&index, kind, &all).unwrap();

    let outcome = lab.everything();
    assert_eq!(outcome.blocked, None);
    assert_eq!(fs::read_to_string(&log).unwrap(), "one\nlate\n");
    assert_eq!(lab.git(&["show", "HEAD:log"]), "one\nlate");
    assert_eq!(lab.git(&["rev-parse", "HEAD~1"]), tip.to_string());
    lab.everything();
    assert_eq!(lab.git(&["status", "--porcelain"]), "");
    assert_eq!(
        fs::read_dir(store.join("displaced")).unwrap().count(),
        1,
        "what it replaced"
    );
}
