//! Paths whose content deliberately differs from HEAD, through two hosts: nobody's change is ever
//! taken back, and what the disk has instead is never committed as a change.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use autosync::engine::action::Job;
use autosync::engine::event::Event;
use autosync::fault;
use autosync::git::tree::{Entry, FILE};
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::bases::{Base, Why};
use autosync::repo::folder::Folder;

use crate::network::skipped;
use crate::pair::{Host, Pair};
use crate::snapshot::settings;

mod by_hand;
mod held;
mod never_seen;

const OLD: &str = "one\ntwo\nthree\nfour\nfive\n";
const NEW: &str = "ONE\ntwo\nthree\nfour\nfive\n";

/// A pair whose hub has a new version of `path`.
fn incoming(path: &str) -> Pair {
    let pair = Pair::new(&[(path, OLD), ("other", "1\n")]);
    pair.server.write(path, NEW);
    let _ran = pair.server.once().ok();
    pair
}

/// Asserts that syncing again commits nothing and that git sees nothing to do.
fn assert_quiet(here: &Host, tip: &str, note: &str) {
    let ran = here.once();
    assert!(!ran.out.contains("Committed"), "{note}: {ran:?}");
    assert_eq!(here.git(&["rev-parse", "HEAD"]), tip, "{note}");
    // What HEAD no longer has and the disk still has is untracked for git.
    let status = here.git(&["status", "--porcelain"]);
    assert!(
        status.lines().all(|line| line.starts_with("?? ")),
        "{note}: {status}"
    );
    here.assert_sound(note);
}

/// Asserts that no commit after the first that has the new version takes it back.
fn assert_never_reverted(pair: &Pair, path: &str) {
    let since = pair
        .server
        .git(&["log", "--first-parent", "--reverse", "--format=%H", "main"]);
    let mut came = false;
    for commit in since.lines() {
        let text = pair
            .server
            .try_git(&["show", &format!("{commit}:{path}")])
            .out;
        came |= text.starts_with("ONE\n");
        assert!(!came || text.starts_with("ONE\n"), "{commit}: {text}");
    }
    assert!(came);
}

#[test]
fn kept_what_is_saved_during_an_apply_is_merged_with_what_came() {
    for in_place in [true, false] {
        for step in [
            "A1.planned",
            "A2.journal",
            "A3.found",
            "A3.checked",
            "A3.exchanged",
        ] {
            let pair = incoming("file");
            let here = &pair.laptop;
            let mine = OLD.replace("five", "TOKEN-five");
            let stopped = here.once_until(step);
            if in_place {
                here.write("file", &mine);
            } else {
                fs::rename(here.write("file.new", &mine), here.at("file")).unwrap();
            }
            let ran = stopped.go_on();
            pair.converge(step);
            pair.assert_settled(step);
            let log = here.git(&["log", "--graph", "--stat", "--format=%h %s"]);
            let step = &format!("{step}, in place: {in_place}\n{log}\n{ran:?}");
            let text = here.read("file");
            if step.starts_with("A3.exchanged") {
                // The editor replaced the new version by one that knows nothing of it.
                assert_eq!(text, mine, "{step}");
            } else {
                assert_eq!(text, NEW.replace("five", "TOKEN-five"), "{step}");
                assert_never_reverted(&pair, "file");
            }
        }
    }
}

#[test]
fn deferred_a_file_that_is_open_for_writing() {
    let pair = incoming("log");
    let here = &pair.laptop;
    let mut open = fs::File::options()
        .append(true)
        .open(here.at("log"))
        .unwrap();
    let ran = here.once();
    assert!(
        ran.out.contains("Left as it is: `log`, open for writing"),
        "{ran:?}"
    );
    let tip = here.git(&["rev-parse", "HEAD"]);
    assert_eq!(tip, pair.server.git(&["rev-parse", "HEAD"]), "HEAD goes on");
    assert_eq!(here.read("log"), OLD);
    assert_quiet(here, &tip, "open");
    open.write_all(b"TOKEN-six\n").unwrap();
    drop(open);
    pair.converge("closed");
    pair.assert_settled("closed");
    assert_eq!(here.read("log"), format!("{NEW}TOKEN-six\n"));
    assert_never_reverted(&pair, "log");
}

#[test]
fn deferred_a_file_with_several_names_comes_when_it_has_one() {
    let pair = incoming("file");
    let here = &pair.laptop;
    let second = here.sandbox.root().join("second");
    fs::hard_link(here.at("file"), &second).unwrap();
    let ran = here.once();
    assert!(ran.out.contains("Left as it is: `file`"), "{ran:?}");
    assert_quiet(here, &here.git(&["rev-parse", "HEAD"]), "linked");
    // Other paths go on meanwhile, in both directions.
    here.write("other", "TOKEN-mine\n");
    pair.server.write("third", "TOKEN-third\n");
    let _ran = here.once();
    let _ran = pair.server.once().ok();
    let _ran = here.once();
    assert_eq!(here.read("third"), "TOKEN-third\n");
    assert_eq!(pair.server.read("other"), "TOKEN-mine\n");
    assert_eq!(here.read("file"), OLD);
    assert_never_reverted(&pair, "file");
    fs::remove_file(second).unwrap();
    pair.converge("one name");
    pair.assert_settled("one name");
    assert_eq!(here.read("file"), NEW);
}

#[test]
fn deferred_a_live_database_is_not_replaced_under_its_owner() {
    let pair = Pair::new(&[(".gitignore", "*-wal\n*-shm\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    let sql = |host: &Host, words: &str| {
        let mut command = host.sandbox.command("sqlite3");
        let out = command.arg(host.at("db")).arg(words).output();
        out.map(|out| String::from_utf8(out.stdout).unwrap())
    };
    if let Err(error) = sql(
        here,
        "create table t (word); insert into t values ('first');",
    ) {
        skipped("deferred_a_live_database", &format!("sqlite3: {error}"));
        return;
    }
    pair.converge("made");
    sql(there, "insert into t values ('TOKEN-there');").unwrap();
    let _ran = there.once().ok();

    let mut command = here.sandbox.command("sqlite3");
    let mut owner = command
        .arg(here.at("db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = owner.stdin.take().unwrap();
    words
        .write_all(
            b"pragma journal_mode=wal; insert into t values ('TOKEN-here'); select 'ready';\n",
        )
        .unwrap();
    let mut answer = std::io::BufReader::new(owner.stdout.take().unwrap());
    for line in ["wal\n", "ready\n"] {
        let mut said = String::new();
        std::io::BufRead::read_line(&mut answer, &mut said).unwrap();
        assert_eq!(said, line);
    }
    let ran = here.once();
    assert!(ran.out.contains("Left as it is: `db`"), "{ran:?}");
    assert!(here.at("db-wal").exists());
    words.write_all(b"select count(*) from t;\n").unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut answer, &mut said).unwrap();
    assert_eq!(said, "2\n", "its owner sees its own database");
    drop(words);
    assert!(owner.wait().unwrap().success());
    pair.converge("closed");
    pair.assert_settled("closed");
    // Both databases are there: the hub's by its name, this one as a copy.
    assert_eq!(
        sql(here, "select * from t;").unwrap(),
        "first\nTOKEN-there\n"
    );
    let copies = here
        .tree()
        .into_keys()
        .filter(|name| name.contains("(conflict "));
    let copies: Vec<String> = copies.collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let mut command = here.sandbox.command("sqlite3");
    let out = command
        .arg(here.at(&copies[0]))
        .arg("select * from t;")
        .output()
        .unwrap();
    assert_eq!(out.stdout, b"first\nTOKEN-here\n");
}

#[test]
fn removals_wait_for_a_person_and_go_through_once_approved() {
    let names: Vec<String> = (0..80).map(|n| format!("many/{n}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x\n")).collect();
    let pair = Pair::new(&files);
    let (here, there) = (&pair.laptop, &pair.server);
    there.git(&["rm", "-q", "-r", "many"]);
    there.write("kept", "TOKEN-kept\n");
    there.git(&["add", "kept"]);
    there.git(&["commit", "-qm", "by plain git"]);
    there.git(&["push", "-q", "origin", "main"]);
    let ran = here.once();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.out.contains("80 files were deleted elsewhere"),
        "{ran:?}"
    );
    assert_eq!(here.read("many/7"), "x\n");
    assert_eq!(here.read("kept"), "TOKEN-kept\n", "the rest goes on");
    let tip = here.git(&["rev-parse", "HEAD"]);
    assert_eq!(tip, there.git(&["rev-parse", "HEAD"]));
    assert_quiet(here, &tip, "held");
    // One that the user edits is not removed.
    here.write("many/7", "TOKEN-seven\n");
    let ran = here.once();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.out.contains("79 files were deleted elsewhere"),
        "{ran:?}"
    );
    assert_eq!(here.read("many/8"), "x\n", "nobody has approved anything");

    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let tip = ObjectId::from_hex(here.git(&["rev-parse", "HEAD"])).unwrap();
    let job = Job::Apply {
        target: tip,
        approved: true,
    };
    let Event::Applied(applied) = folder.run(job, &mut |_| {}) else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked, None);
    drop(folder);
    pair.converge("approved");
    pair.assert_settled("approved");
    let tree = here.tree();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["kept", "many/7"]);
    assert_eq!(tree["many/7"], "TOKEN-seven\n");
}

#[test]
fn an_approval_is_for_the_removals_that_waited_and_not_for_what_comes_later() {
    let names = |dir: &str| (0..80).map(|n| format!("{dir}/{n}")).collect::<Vec<_>>();
    let all = [names("many"), names("other")].concat();
    let files: Vec<(&str, &str)> = all.iter().map(|name| (name.as_str(), "x\n")).collect();
    let pair = Pair::new(&files);
    let (here, there) = (&pair.laptop, &pair.server);
    let away = |dir: &str| {
        there.git(&["rm", "-q", "-r", dir]);
        there.git(&["commit", "-qm", "by plain git"]);
        there.git(&["push", "-q", "origin", "main"]);
    };
    away("many");
    assert_eq!(here.once().code, Some(3));
    // The person saw that; this comes before the approval does its work.
    away("other");
    here.git(&["fetch", "-q", "origin"]);
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let job = Job::Apply {
        target: ObjectId::from_hex(here.git(&["rev-parse", "origin/main"])).unwrap(),
        approved: true,
    };
    let Event::Applied(applied) = folder.run(job, &mut |_| {}) else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked, None);
    assert_eq!(applied.held.len(), 1, "{applied:?}");
    assert_eq!(applied.held[0].message, "80 files were deleted elsewhere");
    drop(folder);
    let tree = here.tree();
    assert_eq!(tree.len(), 80);
    assert!(tree.keys().all(|name| name.starts_with("other/")));
}

#[test]
fn names_that_this_host_cannot_have_stay_in_the_history() {
    let pair = Pair::new(&[("file", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    // A name that no file system takes, as another kind of host may push it.
    let long = "n".repeat(300);
    let mut command = there.sandbox.command("sh");
    let script = format!(
        "set -e; blob=$(echo TOKEN-long | git hash-object -w --stdin)
         tree=$( (git ls-tree HEAD; printf '100644 blob %s\\t{long}\\n' $blob) | git mktree)
         commit=$(git commit-tree -p HEAD -m long $tree)
         git push -q origin $commit:main"
    );
    let status = command
        .args(["-c", &script])
        .current_dir(&there.root)
        .status()
        .unwrap();
    assert!(status.success());
    let ran = here.once();
    assert!(ran.out.contains("cannot exist on this computer"), "{ran:?}");
    let tip = here.git(&["rev-parse", "HEAD"]);
    assert_quiet(here, &tip, "long name");
    here.write("file", "TOKEN-mine\n");
    let _ran = here.once();
    let hub = |what: &str| here.sandbox.git(&pair.hub, ["show", what]);
    assert_eq!(hub("main:file"), "TOKEN-mine");
    assert_eq!(
        hub(&format!("main:{long}")),
        "TOKEN-long",
        "it was not deleted"
    );
}

/// Replaces a file by a submodule, as a person does, and sends it to the hub.
fn becomes_a_submodule(pair: &Pair, path: &str) {
    let server = &pair.server;
    fs::remove_file(server.at(path)).unwrap();
    fs::create_dir(server.at(path)).unwrap();
    let info = format!("160000,{},{path}", server.git(&["rev-parse", "HEAD"]));
    server.git(&["rm", "-q", "--cached", path]);
    server.git(&["update-index", "--add", "--cacheinfo", &info]);
    server.git(&["commit", "-q", "-m", "a submodule"]);
    let _ran = server.once().ok();
}

#[test]
fn kept_what_is_saved_where_a_submodule_comes_in() {
    let pair = Pair::new(&[("file", OLD), ("other", "1\n")]);
    becomes_a_submodule(&pair, "file");
    let here = &pair.laptop;
    let stopped = here.once_until("A2.journal");
    let mine = OLD.replace("five", "TOKEN-five");
    here.write("file", &mine);
    let _ran = stopped.go_on();
    pair.converge("kept");
    pair.assert_settled("kept");
    for host in [&pair.laptop, &pair.server] {
        assert!(host.at("file").is_dir());
        let copies: Vec<_> = fs::read_dir(host.at(""))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().contains("file (conflict "))
            .collect();
        assert_eq!(copies.len(), 1, "{copies:?}");
        assert_eq!(fs::read_to_string(&copies[0]).unwrap(), mine);
    }
}

#[test]
fn deferred_a_repository_where_a_file_takes_the_place_of_its_submodule() {
    let pair = Pair::new(&[("sub", OLD), ("other", "1\n")]);
    becomes_a_submodule(&pair, "sub");
    pair.converge("a submodule");
    let here = &pair.laptop;
    here.git(&["init", "-q", "sub"]);
    here.write("sub/inside", "mine\n");
    let server = &pair.server;
    server.git(&["rm", "-q", "--cached", "sub"]);
    fs::remove_dir(server.at("sub")).unwrap();
    server.write("sub", NEW);
    server.git(&["add", "sub"]);
    server.git(&["commit", "-q", "-m", "a file again"]);
    let _ran = server.once().ok();
    let ran = here.once();
    let said = "Left as it is: `sub`, another repository is in its place";
    assert!(ran.out.contains(said), "{ran:?}");
    let tip = server.git(&["rev-parse", "HEAD"]);
    assert_eq!(here.git(&["rev-parse", "HEAD"]), tip);
    assert_quiet(here, &tip, "a repository is in the way");
    assert_eq!(here.read("sub/inside"), "mine\n");

    fs::rename(here.at("sub"), here.at("elsewhere")).unwrap();
    fs::create_dir(here.at("sub")).unwrap();
    server.write("other", "2\n");
    let _ran = server.once().ok();
    pair.converge("out of the way");
    assert_eq!(here.read("sub"), NEW);
    assert_eq!(here.read("elsewhere/inside"), "mine\n");
}

#[test]
fn kept_what_is_written_where_an_apply_has_just_cleared_a_directory_is_new() {
    // Here a directory, there a file, and there was first: the directory moves. In the middle of
    // that somebody writes a file of the directory anew.
    for (name, text) in [("d/deep/x", "TOKEN-new\n"), ("d", "TOKEN-new\n")] {
        let pair = Pair::new(&[("other", "1\n")]);
        let (here, there) = (&pair.laptop, &pair.server);
        there.write("d", "TOKEN-file\n");
        let _ran = there.once().ok();
        here.write("d/deep/x", "TOKEN-old\n");
        here.write("d/y", "TOKEN-beside\n");
        let stopped = here.once_until("A3.emptied");
        here.write(name, text);
        let ran = stopped.go_on();
        pair.converge(name);
        pair.assert_settled(name);
        let tree = here.tree();
        for token in ["TOKEN-file", "TOKEN-old", "TOKEN-beside", "TOKEN-new"] {
            let stands = tree.values().any(|text| text.contains(token));
            assert!(stands, "{name}: `{token}` is gone\n{tree:#?}\n{ran:?}");
        }
        assert_eq!(tree["d"], "TOKEN-file\n", "{name}: {tree:#?}");
    }
}

#[test]
fn kept_a_removal_on_top_of_a_history_that_gave_way_gives_way_to_what_came() {
    // First contact found another version at the hub while the user was writing: the base is in
    // nobody's history. The removal says nothing against the hub's version, so that is written.
    let pair = Pair::new(&[("p", NEW), ("other", "1\n")]);
    let here = &pair.laptop;
    let mut command = here.sandbox.command("sh");
    let script = "set -e; blob=$(git hash-object -w --stdin <<'X'\none\nX\n)
                  tree=$(printf '100644 blob %s\\tp\\n' $blob | git mktree)
                  echo $blob $(git commit-tree -m 'gave way' $tree)";
    let out = command
        .args(["-c", script])
        .current_dir(&here.root)
        .output();
    let out = String::from_utf8(out.unwrap().stdout).unwrap();
    let (blob, base) = out.trim().split_once(' ').unwrap();
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let have = Some(Entry {
        mode: FILE,
        id: ObjectId::from_hex(blob).unwrap(),
    });
    let base = ObjectId::from_hex(base).unwrap();
    let entry = Base {
        have,
        base,
        why: Why::Kept,
        stat: None,
    };
    folder.bases.insert(RepoPath::new("p").unwrap(), entry);
    folder.bases.save(&folder.place).unwrap();
    drop(folder);
    here.remove("p");
    let tip = here.git(&["rev-parse", "HEAD"]);
    let ran = here.once();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(here.read("p"), NEW);
    assert!(!here.once().out.contains("Waiting"), "{ran:?}");
    assert_quiet(here, &tip, "written");
    pair.assert_settled("written");
}

#[test]
fn kept_what_a_commit_by_hand_took_of_an_apply_is_known_to_have_come_in() {
    // The user commits when the disk has what came in and the branch has not: with his edit, and
    // with our writes as if they were his.
    let pair = incoming("file");
    let here = &pair.laptop;
    pair.server.write("new", "TOKEN-new\n");
    let _ran = pair.server.once().ok();
    here.git(&["fetch", "-q", "origin"]);
    let target = here.git(&["rev-parse", "origin/main"]);
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let mut commit = here.sandbox.command("git");
    commit.args(["commit", "-q", "-a", "-m", "by hand"]);
    commit.current_dir(&here.root);
    let other = here.at("other");
    let by_hand = move |step: &str| {
        if step == "A3.done" && fs::read(&other).unwrap() != b"TOKEN-mine\n" {
            fs::write(&other, "TOKEN-mine\n").unwrap();
            assert!(commit.status().unwrap().success());
        }
    };
    let job = Job::Apply {
        target: ObjectId::from_hex(&target).unwrap(),
        approved: false,
    };
    let done = fault::with_hook(by_hand, || folder.run(job, &mut |_| {}));
    let Event::Applied(applied) = done else {
        panic!("an apply ends as one");
    };
    assert!(applied.unfinished, "the branch moved: {applied:?}");
    let Event::Recovered(recovered) = folder.run(Job::Recover, &mut |_| {}) else {
        panic!("a start ends as one");
    };
    assert_eq!(recovered.blocked, None);
    drop(folder);
    let log = here.git(&["log", "--format=%s"]);
    assert!(log.contains("by hand"), "{log}");
    here.git(&["merge-base", "--is-ancestor", &target, "HEAD"]);
    assert_eq!(here.git(&["status", "--porcelain"]), "");
    pair.converge("by hand");
    pair.assert_settled("by hand");
    let tree = here.tree();
    for (path, text) in [
        ("file", NEW),
        ("new", "TOKEN-new\n"),
        ("other", "TOKEN-mine\n"),
    ] {
        assert_eq!(tree[path], text, "{path}");
    }
}
