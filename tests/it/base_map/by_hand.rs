//! The user's own `git add -A` and `git commit` where something of his stands in the way of what
//! came in: what he never had on his disk is not taken out by it.

use autosync::engine::action::Job;
use autosync::engine::event::{Event, Merged};
use autosync::fault;
use autosync::names::ObjectId;
use autosync::repo::folder::Folder;

use crate::pair::{Host, Pair};
use crate::snapshot::settings;

/// Applies what the hub has; at a step something is written that is in the way. The agent looks no
/// more, and the user commits everything.
fn committed_over(pair: &Pair, step: &'static str, name: &str) {
    let here = &pair.laptop;
    here.git(&["fetch", "-q", "origin"]);
    let target = ObjectId::from_hex(here.git(&["rev-parse", "origin/main"])).unwrap();
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let at = here.at(name);
    let write = move |passed: &str| {
        if passed == step && !at.exists() {
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(&at, "TOKEN-mine\n").unwrap();
        }
    };
    let job = Job::Apply {
        target,
        approved: false,
    };
    let done = fault::with_hook(write, || folder.run(job, &mut |_| {}));
    let Event::Applied(applied) = done else {
        panic!("an apply ends as one");
    };
    assert_eq!((applied.blocked, applied.tip), (None, Some(target)));
    assert!(!folder.bases.is_empty(), "it was in the way");
    drop(folder);
    here.git(&["add", "-A"]);
    here.git(&["commit", "-q", "-m", "by hand"]);
}

fn assert_both_are_there(pair: &Pair, came: &[(&str, &str)], note: &str) {
    for host in [&pair.laptop, &pair.server] {
        let tree = host.tree();
        for (path, text) in came {
            assert_eq!(tree.get(*path).map(String::as_str), Some(*text), "{note}");
        }
        let mine = tree.values().filter(|text| *text == "TOKEN-mine\n").count();
        assert_eq!(mine, 1, "{note}: {tree:#?}");
        assert_eq!(tree.len(), came.len() + 1, "{note}: {tree:#?}");
    }
    let log = pair.laptop.git(&["log", "--format=%s"]);
    assert!(log.contains("by hand"), "{note}: {log}");
}

const CAME: &[(&str, &str)] = &[
    ("d/deep/x", "TOKEN-x\n"),
    ("d/y", "TOKEN-y\n"),
    ("other", "1\n"),
];

/// A pair whose hub has a new directory.
fn with_a_directory() -> Pair {
    let pair = Pair::new(&[("other", "1\n")]);
    pair.server.write("d/deep/x", "TOKEN-x\n");
    pair.server.write("d/y", "TOKEN-y\n");
    let _ran = pair.server.once().ok();
    pair
}

#[test]
fn kept_a_file_where_a_directory_came_in_takes_nothing_out_when_it_is_committed_by_hand() {
    let pair = with_a_directory();
    committed_over(&pair, "A2.journal", "d");
    let out = pair.laptop.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    assert_eq!(out, "d\nother", "git took the directory out");
    pair.converge("by hand");
    pair.assert_settled("by hand");
    assert_both_are_there(&pair, CAME, "by hand");
}

#[test]
fn kept_a_directory_where_a_file_came_in_takes_nothing_out_when_it_is_committed_by_hand() {
    let pair = Pair::new(&[("other", "1\n")]);
    pair.server.write("d", "TOKEN-file\n");
    let _ran = pair.server.once().ok();
    committed_over(&pair, "A2.journal", "d/mine");
    pair.converge("by hand");
    pair.assert_settled("by hand");
    let came = [("d", "TOKEN-file\n"), ("other", "1\n")];
    assert_both_are_there(&pair, &came, "by hand");
}

#[test]
fn kept_what_a_commit_by_hand_took_out_is_not_removed_by_a_merge_before_it_is_back() {
    let pair = with_a_directory();
    committed_over(&pair, "A2.journal", "d");
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("other", "2\n");
    let _ran = there.once().ok();
    here.git(&["fetch", "-q", "origin"]);
    let hub = ObjectId::from_hex(here.git(&["rev-parse", "origin/main"])).unwrap();
    let merged = job(here, Job::Merge { hub });
    let Event::Merged(Merged::Created { commit, .. }) = merged else {
        panic!("both sides moved: {merged:?}");
    };
    let files = here.git(&["ls-tree", "-r", "--name-only", &commit.to_string()]);
    assert!(
        files.contains("d/deep/x\n") && files.contains("d/y\n"),
        "{files}"
    );
    pair.converge("merged");
    pair.assert_settled("merged");
    let came = [CAME[0], CAME[1], ("other", "2\n")];
    assert_both_are_there(&pair, &came, "merged");
}

fn job(here: &Host, job: Job) -> Event {
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    folder.run(job, &mut |_| {})
}

#[test]
fn what_a_person_takes_out_knowingly_stays_out() {
    let pair = with_a_directory();
    committed_over(&pair, "A2.journal", "d");
    pair.converge("back");
    let here = &pair.laptop;
    assert_eq!(here.read("d/y"), "TOKEN-y\n");
    here.git(&["rm", "-q", "-r", "d"]);
    here.write("d", "TOKEN-instead\n");
    here.git(&["add", "d"]);
    here.git(&["commit", "-q", "-m", "knowingly"]);
    pair.converge("knowingly");
    pair.assert_settled("knowingly");
    assert_eq!(pair.server.read("d"), "TOKEN-instead\n");
}

#[test]
fn deferred_what_another_host_took_out_knowingly_does_not_come_back() {
    // A file is open here; there its directory becomes a file, and the other way round.
    for (old, new) in [("d/x", "d"), ("d", "d/x")] {
        let pair = Pair::new(&[(old, "old\n"), ("other", "1\n")]);
        let (here, there) = (&pair.laptop, &pair.server);
        there.write(old, "TOKEN-newer\n");
        let _ran = there.once().ok();
        let open = std::fs::File::options().append(true).open(here.at(old));
        let open = open.unwrap();
        let ran = here.once();
        assert!(ran.out.contains("open for writing"), "{ran:?}");
        there.git(&["rm", "-q", "-r", "d"]);
        there.write(new, "TOKEN-instead\n");
        there.git(&["add", "-A"]);
        there.git(&["commit", "-q", "-m", "knowingly"]);
        let _ran = there.once().ok();
        let tip = there.git(&["rev-parse", "HEAD"]);
        for _ in 0..3 {
            let _ran = here.once();
            assert_eq!(here.git(&["rev-parse", "HEAD"]), tip, "{old}: taken back");
            assert_eq!(here.read(old), "old\n", "it is open");
        }
        drop(open);
        pair.converge(old);
        pair.assert_settled(old);
        assert_eq!(here.git(&["rev-parse", "HEAD"]), tip, "{old}");
        assert_eq!(here.read(new), "TOKEN-instead\n");
    }
}
