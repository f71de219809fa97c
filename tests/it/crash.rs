//! kill -9 at every step of the protocol: the next start needs nobody.

mod config;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use autosync::process;
use autosync::repo::records;

use crate::pair::{Host, Pair};
use crate::support::{PROGRAM, Ran, Sandbox, ended};

/// A killed process ends so.
const KILLED: Option<i32> = Some(128 + 9);

/// Steps that no sync on this machine's disks passes, and why.
const UNREACHABLE: &[(&str, &str)] = &[
    (
        "A3.linked",
        "only on a disk without RENAME_EXCHANGE; `apply::plain` kills there",
    ),
    (
        "A3.renamed",
        "only on a disk without RENAME_EXCHANGE; `apply::plain` kills there",
    ),
    (
        "R1.made",
        "only for who describes a commit; `desktop::describe` kills there",
    ),
    (
        "R2.moved",
        "only for who describes a commit; `desktop::describe` kills there",
    ),
    (
        "N0.asked",
        "only for who describes a commit; `desktop::describe` kills there",
    ),
    (
        "N1.together",
        "only for who describes a commit; `desktop::describe` kills there",
    ),
    (
        "L1.dead-holder",
        "only right after a kill, with nothing begun; `lock` has the test",
    ),
];

/// Committing an edit, a deletion, a new file and a new mode.
const SNAPSHOT: &[&str] = &[
    "S1.record",
    "S2.candidates",
    "S3.bytes",
    "S3.read",
    "S4.pending",
    "S5.stored",
    "S6.index",
    "S7.index-locked",
    "S7.prepared",
    "S8.index",
    "S8.branch",
    "S8.done",
    "P0.objects",
    "P0.prepared",
    "P1",
];

/// The same with something of every kind coming in, and a conflict.
const RECEIVE: &[&str] = &[
    "F1",
    "merge-tree",
    "merge-commit",
    "A1.planned",
    "A2.staged",
    "A2.synced",
    "A2.journal",
    "A3.found",
    "A3.found#2",
    "A3.dressed",
    "A3.checked",
    "A3.checked#2",
    "A3.exchanged",
    "A3.moved",
    "A3.verified",
    "A3.settled",
    "A3.settled#2",
    "A3.parent",
    "A3.free",
    "A3.created",
    "A3.aside",
    "A3.changed",
    "A3.path",
    "A3.path#2",
    "A3.path#4",
    "A3.path#6",
    "A3.emptied",
    "A3.done",
    "A4.bases",
    "A5.synced",
    "S6.index#2",
    "S7.index-locked#2",
    "S7.prepared#2",
    "S8.index#2",
    "S8.branch#2",
    "A5.published",
    "A6.index",
    "A6.kept",
    "A6.closed",
];

/// Taking git's lock of the index on a disk without hard links.
const NO_LINKS: &[&str] = &["S7.owner", "S7.made", "S7.owned"];

/// Committing what the user wrote at a path of the base map.
const SIDES: &[&str] = &["B1.side", "A2.journal", "A4.bases", "A5.published"];

/// Removing the locks that a kill left.
const LOCKS: &[&str] = &["L2.head-free"];

/// Steps that only a user who interferes makes us pass; see the tests of that name.
const INTERFERED: &[&str] = &["A3.back", "A3.taken-back"];

/// Steps of writing the configuration; see `config`.
const CONFIG: &[&str] = &["C1.written", "C2.locked"];

/// Steps of an undo and of the log of operations; see the tests of those.
const RECALL: &[&str] = &[
    "O1.written",
    "O2.turned",
    "O3.noted",
    "O4.approving",
    "O5.approved",
    "U1.commit",
    "U2.applied",
];

#[test]
fn every_step_of_the_source_is_killed_here() {
    let mut found = BTreeSet::new();
    steps(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut found,
    );
    assert!(found.len() > 40, "{found:?}");
    let mut covered: BTreeSet<String> = UNREACHABLE
        .iter()
        .map(|(step, _)| (*step).to_owned())
        .collect();
    for list in [
        SNAPSHOT, RECEIVE, NO_LINKS, SIDES, LOCKS, INTERFERED, RECALL, CONFIG,
    ] {
        for step in list {
            let name = step.split('#').next().unwrap();
            covered.insert(name.to_owned());
        }
    }
    assert_eq!(found, covered);
}

/// Finds the names of all steps in the source.
fn steps(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            steps(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split("fault::at(\"").skip(1) {
                found.insert(part.split('"').next().unwrap().to_owned());
            }
        }
    }
}

/// Kills the laptop's sync at a step, starts it again, and asserts that nothing is left to do.
fn kill_and_start_again(pair: &Pair, fault: &str, tokens: &[&str]) {
    let ran = pair.laptop.once_with(&format!("{fault}:kill"));
    assert_eq!(ran.code, KILLED, "`{fault}` was not passed: {ran:?}");
    assert_recovers(pair, fault, tokens);
}

fn assert_recovers(pair: &Pair, fault: &str, tokens: &[&str]) {
    let note = format!("killed at {fault}");
    let ran = pair.laptop.once();
    assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
    let ran = pair.server.once();
    assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
    pair.assert_settled(&note);
    pair.assert_known(tokens, &note);
}

const FILES: &[(&str, &str)] = &[
    ("edit", "edit 1\n"),
    ("gone", "gone 1\n"),
    ("script", "run 1\n"),
    ("both", "both 1\n"),
    ("text", "one\ntwo\nthree\nfour\nfive\n"),
    ("to-dir", "to-dir 1\n"),
    ("from-dir/a", "from-dir/a 1\n"),
    ("dir/gone", "dir/gone 1\n"),
    ("mine", "mine 1\n"),
    (".gitignore", "*.key\n"),
];

#[test]
fn a_kill_in_a_snapshot() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    here.remove("gone");
    here.write("new/file", "TOKEN-new\n");
    here.chmod("script", 0o755);
    pair.save();
    for step in SNAPSHOT {
        pair.restore();
        kill_and_start_again(&pair, step, &["TOKEN-edit", "TOKEN-new", "gone 1"]);
        assert_eq!(here.read("edit"), "TOKEN-edit\n");
        assert!(!here.at("gone").exists(), "{step}: a deletion came back");
        let log = here.git(&["log", "--format=%s", "--", "new/file"]);
        assert_eq!(log.lines().count(), 1, "{step}: committed twice\n{log}");
    }
}

/// Syncs the laptop once as on a disk without hard links; a fault kills it, if one is given.
fn once_without_links(pair: &Pair, fault: &str) -> Ran {
    let mut command = pair.laptop.sandbox.command(PROGRAM);
    command.arg("once").arg(&pair.laptop.root);
    command.env("AUTOSYNC_NO_LINKS", "1");
    if !fault.is_empty() {
        command.env("AUTOSYNC_FAULT", format!("{fault}:kill"));
    }
    ended(command.output().unwrap())
}

#[test]
fn a_kill_on_a_disk_without_hard_links() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    here.remove("gone");
    pair.save();
    let after = ["S7.index-locked", "S7.prepared", "S8.index", "S8.branch"];
    for step in NO_LINKS.iter().chain(&after) {
        pair.restore();
        let ran = once_without_links(&pair, step);
        assert_eq!(ran.code, KILLED, "`{step}` was not passed: {ran:?}");
        let ran = once_without_links(&pair, "");
        assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
        assert_recovers(&pair, step, &["TOKEN-edit", "gone 1"]);
        let left = here.at(".git/autosync/index.lock.owner");
        assert!(!left.exists(), "{step}");
    }
}

#[test]
fn a_lock_of_the_index_that_nobody_wrote_down_is_left_alone() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    pair.save();
    let lock = here.at(".git/index.lock");
    for step in NO_LINKS {
        pair.restore();
        assert_eq!(once_without_links(&pair, step).code, KILLED, "{step}");
        // Ours is gone, and another git of the user died with its own.
        let _ours = fs::remove_file(&lock);
        fs::write(here.at(".git/theirs"), "theirs").unwrap();
        fs::rename(here.at(".git/theirs"), &lock).unwrap();
        let ran = once_without_links(&pair, "");
        assert_ne!(ran.code, Some(0), "{step}: {ran:?}");
        assert!(ran.err.contains("index.lock"), "{step}: {ran:?}");
        assert_eq!(fs::read_to_string(&lock).unwrap(), "theirs", "{step}");
        fs::remove_file(&lock).unwrap();
        assert_recovers(&pair, step, &["TOKEN-edit"]);
    }
}

#[test]
fn a_lock_of_another_boot_or_of_somebody_who_lives_is_told_from_ours() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    pair.save();
    let (lock, record) = (
        here.at(".git/index.lock"),
        here.at(".git/autosync/index.lock.owner"),
    );
    let kind = "autosync index lock 1";
    let me = std::process::id();
    let start = process::start_time(i32::try_from(me).unwrap()).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for (boot, lives) in [(boot.trim(), true), ("another-boot", false)] {
        pair.restore();
        let ran = once_without_links(&pair, "S7.prepared");
        assert_eq!(ran.code, KILLED, "{ran:?}");
        // As if this process, which lives, had it; in the other boot it does not.
        let mut all = records::read(&record, kind, 6).unwrap().unwrap();
        let whose = [me.to_string(), start.to_string(), boot.to_owned()];
        for (field, word) in all[0].iter_mut().zip(whose) {
            *field = word.into_bytes();
        }
        records::write(&record, kind, &all).unwrap();
        let ran = once_without_links(&pair, "");
        assert_eq!(lock.exists(), lives, "{ran:?}");
        if lives {
            fs::remove_file(&lock).unwrap();
        }
        assert_recovers(&pair, boot, &["TOKEN-edit"]);
    }
}

#[test]
fn a_kill_in_the_first_commit() {
    let laptop = Sandbox::named("laptop");
    // The first commit of all is git's to push.
    for step in SNAPSHOT.iter().filter(|step| !step.starts_with("P0")) {
        // Places of its own: the push of a killed sync may live on for a moment.
        let place = laptop.root().join(step);
        let (root, hub) = (place.join("tree"), place.join("hub.git"));
        fs::create_dir(&place).unwrap();
        laptop.git(&place, ["init", "-q", "--bare", "hub.git"]);
        laptop.git(&place, ["init", "-q", "tree"]);
        laptop.git(&root, ["remote", "add", "origin", hub.to_str().unwrap()]);
        fs::write(root.join("first"), "TOKEN-first\n").unwrap();
        let mut command = laptop.command(PROGRAM);
        command.arg("once").arg(&root);
        command.env("AUTOSYNC_FAULT", format!("{step}:kill"));
        assert!(!command.output().unwrap().status.success(), "{step}");
        let ran = laptop.run([Path::new("once"), &root]);
        assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
        assert_eq!(laptop.git(&root, ["status", "--porcelain"]), "", "{step}");
        assert_eq!(
            laptop.git(&hub, ["show", "main:first"]),
            "TOKEN-first",
            "{step}"
        );
        assert_eq!(laptop.git(&hub, ["rev-list", "--count", "main"]), "1");
        laptop.git(&root, ["fsck", "--strict", "--no-dangling"]);
    }
}

#[test]
fn a_kill_in_a_merge_and_an_apply() {
    let pair = Pair::new(FILES);
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("edit", "TOKEN-incoming\n");
    there.remove("gone");
    there.remove("dir/gone");
    there.chmod("script", 0o755);
    there.write("both", "TOKEN-hub\n");
    there.write("text", "ONE\ntwo\nthree\nfour\nfive\n");
    there.remove("to-dir");
    there.write("to-dir/x", "TOKEN-x\n");
    there.remove("from-dir/a");
    fs::remove_dir(there.at("from-dir")).unwrap();
    there.write("from-dir", "TOKEN-file\n");
    there.write("new/file", "TOKEN-new\n");
    symlink("edit", there.at("link")).unwrap();
    there.write("a.key", "TOKEN-tracked-key\n");
    there.git(&["add", "-f", "a.key"]);
    let _ran = there.once().ok();
    here.write("both", "TOKEN-local\n");
    here.write("text", "one\ntwo\nthree\nfour\nFIVE\n");
    here.write("mine", "TOKEN-mine\n");
    here.write("a.key", "TOKEN-secret-key\n");
    pair.save();
    let tokens = [
        "TOKEN-incoming",
        "TOKEN-hub",
        "TOKEN-local",
        "TOKEN-mine",
        "TOKEN-x",
        "TOKEN-file",
        "TOKEN-new",
        "TOKEN-tracked-key",
        "ONE\ntwo\nthree\nfour\nFIVE",
    ];
    for step in RECEIVE {
        pair.restore();
        kill_and_start_again(&pair, step, &tokens);
        let tree = here.tree();
        assert_eq!(tree["edit"], "TOKEN-incoming\n", "{step}");
        assert_eq!(tree["script"], "x run 1\n", "{step}");
        assert_eq!(tree["from-dir"], "TOKEN-file\n", "{step}");
        assert_eq!(tree["link"], "-> edit", "{step}");
        assert_eq!(tree["both"], "TOKEN-hub\n", "{step}");
        assert!(!tree.contains_key("gone") && !tree.contains_key("dir/gone"));
        let copies = tree.keys().filter(|name| name.contains("(conflict "));
        assert_eq!(copies.count(), 1, "{step}: {tree:?}");
        // What git ignored here never left this host, and is still here.
        assert!(!here.history().contains("TOKEN-secret-key"), "{step}");
        let aside = here.at(".git/autosync/aside");
        let kept = here
            .sandbox
            .git(&aside, ["grep", "--no-index", "-l", "TOKEN-secret-key"]);
        assert_eq!(kept.lines().count(), 1, "{step}");
    }
}

/// A pair whose laptop has an edit at a path of the base map: `based` has two names there.
fn with_a_base() -> Pair {
    let pair = Pair::new(&[("based", "one\ntwo\nthree\nfour\nfive\n"), ("other", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    fs::hard_link(here.at("based"), here.sandbox.root().join("second-name")).unwrap();
    there.write("based", "ONE\ntwo\nthree\nfour\nfive\n");
    let _ran = there.once().ok();
    let ran = here.once();
    assert!(ran.out.contains("Left as it is: `based`"), "{ran:?}");
    assert!(here.read("based").starts_with("one\n"));
    fs::remove_file(here.sandbox.root().join("second-name")).unwrap();
    here.write("based", "one\ntwo\nthree\nfour\nTOKEN-FIVE\n");
    pair
}

#[test]
fn a_kill_in_a_side_commit() {
    let pair = with_a_base();
    pair.save();
    for step in SIDES {
        pair.restore();
        kill_and_start_again(&pair, step, &["ONE\n", "TOKEN-FIVE\n"]);
        let text = "ONE\ntwo\nthree\nfour\nTOKEN-FIVE\n";
        assert_eq!(pair.laptop.read("based"), text, "{step}");
    }
}

#[test]
fn a_kill_while_an_exchange_is_taken_back() {
    let pair = Pair::new(&[("edit", "one\ntwo\nthree\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("edit", "ONE\ntwo\nthree\n");
    let _ran = there.once().ok();
    let stopped = here.once_until("A3.checked:stop,A3.back:kill");
    let saved = here.write("saved.tmp", "one\ntwo\nTOKEN-three\n");
    fs::rename(saved, here.at("edit")).unwrap();
    assert_eq!(stopped.go_on().code, KILLED);
    assert_recovers(&pair, "A3.back", &["ONE\n", "TOKEN-three"]);
    assert_eq!(here.read("edit"), "ONE\ntwo\nTOKEN-three\n");
}

#[test]
fn a_kill_while_a_new_file_is_taken_out_of_a_directory_that_moved() {
    let pair = Pair::new(&[("dir/old", "old\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("dir/new", "TOKEN-new\n");
    let _ran = there.once().ok();
    let stopped = here.once_until("A3.free:stop,A3.taken-back:kill");
    fs::rename(here.at("dir"), here.at("moved")).unwrap();
    assert_eq!(stopped.go_on().code, KILLED);
    assert_recovers(&pair, "A3.taken-back", &["TOKEN-new"]);
    assert_eq!(here.read("moved/old"), "old\n");
    assert_eq!(here.read("dir/new"), "TOKEN-new\n");
}

#[test]
fn the_user_collects_garbage_after_a_kill() {
    let pair = with_a_base();
    pair.save();
    for step in ["B1.side", "A2.journal", "A3.done", "A4.bases"] {
        pair.restore();
        let ran = pair.laptop.once_with(&format!("{step}:kill"));
        assert_eq!(ran.code, KILLED, "{step}: {ran:?}");
        pair.laptop
            .git(&["reflog", "expire", "--expire=now", "--all"]);
        pair.laptop.git(&["gc", "-q", "--prune=now"]);
        assert_recovers(&pair, step, &["ONE\n", "TOKEN-FIVE\n"]);
    }
}

#[test]
fn locks_of_references_that_a_kill_left_are_removed_and_no_others() {
    let pair = Pair::new(&[("edit", "edit 1\n")]);
    let here = &pair.laptop;
    let git = here.at(".git");
    let write = |name: &str, text: &str| fs::write(git.join(name), text).unwrap();
    here.write("edit", "TOKEN-edit\n");
    fs::create_dir_all(git.join("refs/worktree/autosync")).unwrap();
    write("refs/worktree/autosync/pending.lock", "");
    let tip = here.git(&["rev-parse", "HEAD"]);
    write(
        "autosync/tracking",
        &format!("{tip} refs/remotes/origin/main\n"),
    );
    write("refs/remotes/origin/main.lock", "");
    assert_recovers(&pair, "a lock", &["TOKEN-edit"]);

    // Somebody else's, who is about to write something else there.
    write(
        "autosync/tracking",
        &format!("{tip} refs/remotes/origin/main\n"),
    );
    let theirs = git.join("refs/remotes/origin/main.lock");
    fs::write(&theirs, "0123456789012345678901234567890123456789\n").unwrap();
    let _ran = here.once();
    assert!(theirs.exists());
    fs::remove_file(theirs).unwrap();
    assert_recovers(&pair, "their lock", &["TOKEN-edit"]);
}

#[test]
fn after_a_power_cut_files_that_came_back_empty_or_old_are_held() {
    let pair = Pair::new(&[
        ("emptied", "e 1\n"),
        ("older", "o 1\n"),
        ("edited", "d 1\n"),
    ]);
    let here = &pair.laptop;
    here.write("older", "o 2\n");
    assert_recovers(&pair, "before the cut", &["o 2"]);
    let tip = here.git(&["rev-parse", "HEAD"]);
    // A cut: the agent had no time to say that it stops, and the next boot is another one.
    assert_eq!(here.once_with("S2.candidates:kill").code, KILLED);
    let marker = here.at(".git/autosync/boot");
    let this_boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&marker).unwrap();
    assert!(text.contains(this_boot.trim()), "{text}");
    let another = vec![vec![b"another-boot".to_vec(), b"-".to_vec()]];
    records::write(&marker, "autosync boot 1", &another).unwrap();
    here.write("emptied", "");
    here.write("older", "o 1\n");
    here.write("edited", "TOKEN-edited\n");
    for round in ["first", "second"] {
        let ran = here.once();
        assert_eq!(ran.code, Some(3), "{round}: {ran:?}");
        assert!(ran.out.contains("after a power cut"), "{ran:?}");
    }
    let hub = |what: &str| here.sandbox.git(&pair.hub, ["show", what]);
    assert_ne!(here.git(&["rev-parse", "HEAD"]), tip, "the rest goes on");
    assert_eq!(hub("main:edited"), "TOKEN-edited");
    assert_eq!(hub("main:emptied"), "e 1");
    assert_eq!(hub("main:older"), "o 2");
    // Put back, and changed again: nothing is held any more.
    here.write("emptied", "e 1\n");
    here.write("older", "o 3\n");
    assert_recovers(&pair, "mended", &["o 3"]);
    // And the same after a clean stop is just an edit.
    here.write("emptied", "");
    assert_recovers(&pair, "emptied by the user", &["e 1"]);
    assert_eq!(here.read("emptied"), "");
}

#[test]
fn after_a_boot_in_which_no_agent_ran_files_without_their_content_are_held() {
    let pair = Pair::new(&[
        ("emptied", "e 1\n"),
        ("zeros", "z 1\n"),
        ("older", "o 1\n"),
        ("edited", "d 1\n"),
    ]);
    let here = &pair.laptop;
    here.write("older", "o 2\n");
    assert_recovers(&pair, "before", &["o 2"]);
    // The agent stopped well. Then somebody works, the power goes, and nobody was there to see it.
    let marker = here.at(".git/autosync/boot");
    let this_boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stopped = format!("-{}", this_boot.trim());
    let text = fs::read_to_string(&marker).unwrap();
    assert!(text.contains(&stopped), "{text}");
    let another = vec![vec![b"-another-boot".to_vec(), b"-".to_vec()]];
    records::write(&marker, "autosync boot 1", &another).unwrap();
    here.write("emptied", "");
    here.write("zeros", "\0\0\0\0");
    here.write("older", "o 1\n");
    here.write("edited", "TOKEN-edited\n");
    here.write("new", "");
    for round in ["first", "second"] {
        let ran = here.once();
        assert_eq!(ran.code, Some(3), "{round}: {ran:?}");
        assert!(ran.out.contains("after a power cut"), "{ran:?}");
    }
    let hub = |what: &str| here.sandbox.git(&pair.hub, ["show", what]);
    assert_eq!(hub("main:emptied"), "e 1");
    assert_eq!(hub("main:zeros"), "z 1");
    // What is committed was durable: somebody went back to that version, or to nothing new.
    assert_eq!(hub("main:older"), "o 1");
    assert_eq!(hub("main:edited"), "TOKEN-edited");
    assert_eq!(hub("main:new"), "");
    // Changed again, nothing is held any more.
    here.write("emptied", "e 2\n");
    here.write("zeros", "z 2\n");
    assert_recovers(&pair, "mended", &["e 2", "z 2"]);
}

#[test]
fn a_kill_together_with_the_git_that_writes_the_index() {
    // As when a service manager ends the whole group, or the power goes: the child's lock stays.
    let sandbox = Sandbox::named("laptop");
    let marker = sandbox.root().join("strike");
    let script = format!(
        "#!/bin/sh\n\
         if [ -e '{0}' ] && [ -n \"$GIT_INDEX_FILE\" ]; then\n\
         rm '{0}'; : > \"$GIT_INDEX_FILE.lock\"; kill -KILL $PPID; exit 1\n\
         fi\n\
         exec git \"$@\"\n",
        marker.display()
    );
    let git = sandbox.write("git-that-dies", script);
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let laptop = sandbox.with("AUTOSYNC_GIT", git.to_str().unwrap());
    let pair = Pair::of(laptop, Sandbox::named("server"), FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    fs::write(&marker, "").unwrap();
    assert_eq!(here.once().code, KILLED);
    assert!(!marker.exists());
    assert_recovers(&pair, "update-index", &["TOKEN-edit"]);
}

#[test]
fn a_kill_together_with_the_git_that_holds_the_locks() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    pair.save();
    for step in ["S7.index-locked", "S7.prepared", "S8.index", "P0.prepared"] {
        pair.restore();
        here.once_until(step).kill_all();
        assert_recovers(&pair, step, &["TOKEN-edit"]);
    }
}

#[test]
fn locks_that_a_git_of_ours_had_no_time_to_write_into_are_removed_and_no_others() {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edit", "TOKEN-edit\n");
    pair.save();
    let [head, branch] =
        ["HEAD.lock", "refs/heads/main.lock"].map(|name| here.at(".git").join(name));
    // git makes its locks one by one, and writes into the branch's only then.
    for left in [&[&head][..], &[&branch], &[&head, &branch]] {
        for again in [None, Some(LOCKS[0])] {
            pair.restore();
            here.once_until("S7.index-locked").kill_all();
            for lock in left {
                fs::write(lock, "").unwrap();
            }
            if let Some(step) = again {
                assert_eq!(here.once_with(&format!("{step}:kill")).code, KILLED);
            }
            assert_recovers(&pair, &format!("{left:?}, {again:?}"), &["TOKEN-edit"]);
        }
    }
    // Without a lock of ours they are somebody's.
    for left in [&head, &branch] {
        pair.restore();
        fs::write(left, "").unwrap();
        let ran = here.once();
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(left.exists());
        fs::remove_file(left).unwrap();
        assert_recovers(&pair, "they let go", &["TOKEN-edit"]);
    }
}

#[test]
fn the_lock_of_a_reftable_is_removed_if_a_git_of_ours_left_it_and_only_then() {
    if autosync::git::check_version().unwrap() < (2, 45) {
        crate::network::skipped(
            "the_lock_of_a_reftable_is_removed_if_a_git_of_ours_left_it_and_only_then",
            "this git has no reftable",
        );
        return;
    }
    let here = Host::new(Sandbox::named("laptop"));
    fs::create_dir(&here.root).unwrap();
    here.git(&["init", "-q", "--ref-format=reftable"]);
    here.write("a", "1\n");
    assert_eq!(here.once().code, Some(0));
    let lock = here.at(".git/reftable/tables.list.lock");

    // Killed together with its child, as when the power goes.
    here.write("a", "2\n");
    let stopped = here.once_until("S7.prepared");
    assert!(lock.exists());
    stopped.kill_all();
    assert!(lock.exists(), "nobody was left to remove it");

    // Somebody who lives has it.
    let open = fs::File::open(&lock).unwrap();
    assert_ne!(here.once().code, Some(0));
    assert!(lock.exists());
    drop(open);
    let ran = here.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(here.git(&["show", "HEAD:a"]), "2");
    assert!(!lock.exists());

    // Nobody wrote it down.
    here.write("a", "3\n");
    fs::write(&lock, "").unwrap();
    let ran = here.once();
    assert!(ran.err.contains("tables.list.lock"), "{ran:?}");
    assert!(lock.exists());
    fs::remove_file(&lock).unwrap();
    assert_eq!(here.once().code, Some(0));
    assert_eq!(here.git(&["show", "HEAD:a"]), "3");
}
