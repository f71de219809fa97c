//! kill -9, a full disk and a disk that fails at the system calls of a sync of the real program.
//!
//! `crash` strikes at the named steps of the protocol; here is what lies below them. A plain run
//! under strace tells which calls a job makes that change a disk; then the same job is done again
//! and again, and each time another one of them does not come back: the process is killed in it
//! (`Deed::Kill`), or it fails (`Deed::Fail`): with ENOSPC what adds something, and so does every
//! such call after it, with EIO the others. The git programs that the agent starts are struck in
//! the same way (`children`).
//!
//! What must hold after each strike: the next run needs nobody and ends with 0, both hosts and the
//! hub are the same and whole, no lock is left, the user's git commits, and the outcome is the one
//! of a run that nobody disturbed: the same tree, no commit more, no deletion more, no content
//! that nobody wrote, every token. A run that was refused something says so in one sentence, or has done
//! all the same.
//!
//! Every third point is struck; `AUTOSYNC_TEST_CRASH_POINTS=all` strikes all of them, with both
//! errors, once and for good:
//!
//! ```text
//! AUTOSYNC_TEST_CRASH_POINTS=all cargo test --test it -- crash_points:: --nocapture
//! ```
//!
//! Absent: kills in fsync, which leave on the disk what the kill before the next call leaves
//! (`power` has what an fsync is for); calls that change nothing.

mod children;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use crate::network::skipped;
use crate::pair::{Host, Pair, Tree};
use crate::support::strace::{self, Call, Trace, Whose};
use crate::support::{Ran, Sandbox, ended};

/// What a strike does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// The process is killed when it makes the call.
    Kill,
    /// The call fails; for good: and so do all later ones of its name in its thread.
    Fail { error: &'static str, for_good: bool },
}

impl Deed {
    /// What strace is asked for.
    fn inject(self, call: &Call) -> String {
        let Call { name, nth, .. } = call;
        match self {
            Self::Kill => format!("inject={name}:signal=KILL:when={nth}"),
            Self::Fail { error, for_good } => {
                let more = if for_good { "+" } else { "" };
                format!("inject={name}:error={error}:when={nth}{more}")
            }
        }
    }
}

/// A killed process ends so.
const KILLED: Option<i32> = Some(128 + 9);

/// Something that the laptop's sync has to do.
#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    prepare: fn(&Pair),
    /// What must be known in the end.
    tokens: &'static [&'static str],
}

const FILES: &[(&str, &str)] = &[
    ("edit", "edit 1\n"),
    ("gone", "gone 1\n"),
    ("script", "run 1\n"),
    ("both", "both 1\n"),
    ("text", "one\ntwo\nthree\nfour\nfive\n"),
    ("to-dir", "to-dir 1\n"),
    ("dir/gone", "dir/gone 1\n"),
    ("mine-gone", "mine-gone 1\n"),
];

/// A commit of an edit, a deletion, a new file, a new mode and a link, and its push.
const SNAPSHOT: Job = Job {
    name: "snapshot",
    prepare: |pair| {
        let here = &pair.laptop;
        here.write("edit", "TOKEN-edit\n");
        here.remove("gone");
        here.write("new/file", "TOKEN-new\n");
        here.chmod("script", 0o755);
        symlink("edit", here.at("link")).unwrap();
    },
    tokens: &["TOKEN-edit", "TOKEN-new", "gone 1", "edit 1"],
};

/// A push of what the user committed.
const PUSH: Job = Job {
    name: "push",
    prepare: |pair| {
        let here = &pair.laptop;
        here.write("edit", "TOKEN-edit\n");
        here.write("new/file", "TOKEN-new\n");
        here.git(&["add", "edit", "new"]);
        here.git(&["commit", "-q", "-m", "by hand"]);
    },
    tokens: &["TOKEN-edit", "TOKEN-new", "edit 1"],
};

/// All of it in one sync: a commit, a fetch, a merge with a conflict and with a file that is put
/// together, its push, and an apply of changes of every kind.
const WHOLE: Job = Job {
    name: "whole",
    prepare: |pair| {
        let (here, there) = (&pair.laptop, &pair.server);
        there.write("both", "TOKEN-hub\n");
        there.write("text", "ONE\ntwo\nthree\nfour\nfive\n");
        (APPLY.prepare)(pair);
        here.write("both", "TOKEN-local\n");
        here.write("text", "one\ntwo\nthree\nfour\nFIVE\n");
        here.write("mine/file", "TOKEN-mine\n");
        here.remove("mine-gone");
    },
    tokens: &[
        "TOKEN-hub",
        "TOKEN-local",
        "TOKEN-incoming",
        "TOKEN-mine",
        "TOKEN-x",
        "TOKEN-new",
        "ONE\ntwo\nthree\nfour\nFIVE",
        "both 1",
        "mine-gone 1",
    ],
};

/// A fetch and an apply of changes of every kind.
const APPLY: Job = Job {
    name: "apply",
    prepare: |pair| {
        let there = &pair.server;
        there.write("edit", "TOKEN-incoming\n");
        there.remove("gone");
        there.remove("dir/gone");
        there.chmod("script", 0o755);
        there.remove("to-dir");
        there.write("to-dir/x", "TOKEN-x\n");
        there.write("new/file", "TOKEN-new\n");
        symlink("edit", there.at("link")).unwrap();
        let _ran = there.once().ok();
    },
    tokens: &[
        "TOKEN-incoming",
        "TOKEN-x",
        "TOKEN-new",
        "gone 1",
        "to-dir 1",
    ],
};

/// What a run comes to that nobody disturbs.
struct Outcome {
    tree: Tree,
    commits: usize,
    deleted: BTreeSet<String>,
    contents: BTreeSet<String>,
}

impl Outcome {
    fn of(pair: &Pair) -> Self {
        let here = &pair.laptop;
        let count = here.git(&["rev-list", "--count", "HEAD"]);
        Self {
            tree: here.tree(),
            commits: count.parse().unwrap(),
            deleted: deleted(here),
            contents: contents(pair),
        }
    }

    /// Asserts that a run that was disturbed came to the same.
    fn assert_same(&self, pair: &Pair, note: &str) {
        let now = Self::of(pair);
        assert_eq!(now.tree, self.tree, "{note}");
        assert_eq!(now.commits, self.commits, "{note}: commits");
        assert_eq!(now.deleted, self.deleted, "{note}: deletions");
        let foreign: Vec<&String> = now.contents.difference(&self.contents).collect();
        assert!(foreign.is_empty(), "{note}: written by nobody: {foreign:?}");
    }
}

/// Returns every path that some commit of the branch deletes.
fn deleted(host: &Host) -> BTreeSet<String> {
    let args = [
        "log",
        "-m",
        "--diff-filter=D",
        "--no-renames",
        "--name-only",
        "--format=",
        "HEAD",
    ];
    host.git(&args).lines().map(str::to_owned).collect()
}

/// Returns the ids of all trees and files in the history of any repository.
fn contents(pair: &Pair) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in [&pair.laptop.root, &pair.server.root, &pair.hub] {
        let all = pair
            .laptop
            .sandbox
            .git(dir, ["rev-list", "--objects", "--all"]);
        // A commit has no name.
        let named = all.lines().filter_map(|line| line.split_once(' '));
        found.extend(named.map(|(id, _)| id.to_owned()));
    }
    found
}

/// A job that is done again and again, and its outcome.
struct Bench {
    pair: Pair,
    job: Job,
    trace: Trace,
    usual: Outcome,
}

impl Bench {
    fn new(job: Job, laptop: Sandbox) -> Self {
        let pair = Pair::of(laptop, Sandbox::in_memory("server"), FILES);
        (job.prepare)(&pair);
        pair.save();
        let log = pair.laptop.sandbox.root().join("strace.log");
        let trace = format!("trace=execve,{}", strace::CHANGING);
        let options = ["-e", &trace, "-o", log.to_str().unwrap()];
        let here = &pair.laptop;
        let mut command = strace::program(&here.sandbox, Whose::All, &options, &here.root);
        let ran = ended(command.output().unwrap());
        assert_eq!(ran.code, Some(0), "{}: {ran:?}", job.name);
        assert_eq!(pair.server.once().code, Some(0));
        pair.assert_settled(job.name);
        Self {
            trace: Trace::read(&fs::read_to_string(log).unwrap()),
            usual: Outcome::of(&pair),
            pair,
            job,
        }
    }

    /// Does the job with a deed at a call. Returns how it ended, `None` if the call was not made.
    fn strike(&self, call: &Call, deed: Deed) -> Option<Ran> {
        self.pair.restore();
        let host = &self.pair.laptop;
        let log = host.sandbox.root().join("strace.log");
        let file = log.display().to_string();
        let (trace, inject) = (format!("trace={}", call.name), deed.inject(call));
        let options = ["-e", &trace, "-e", &inject, "-o", &file];
        // strace's filter lets no signal through.
        let whose = match deed {
            Deed::Kill => Whose::Program,
            Deed::Fail { .. } => self.trace.whose(call),
        };
        let mut command = strace::program(&host.sandbox, whose, &options, &host.root);
        let mut ran = ended(command.output().unwrap());
        let log = fs::read_to_string(log).unwrap_or_default();
        let struck = match deed {
            Deed::Kill => ran.code == KILLED,
            Deed::Fail { .. } => log.contains("(INJECTED)"),
        };
        // Every thread has a count of its own, so it can be the sentence itself that is refused; what
        // a git of ours writes to its descriptor 2 is none.
        let is_said = |line: &str| {
            line.contains("write(2<")
                && line.contains("\"autosync: ")
                && line.contains("(INJECTED)")
        };
        if ran.err.is_empty() && log.lines().any(is_said) {
            "autosync: (refused)\n".clone_into(&mut ran.err);
        }
        struck.then_some(ran)
    }

    /// Asserts what must hold after a strike.
    fn assert_recovers(&self, note: &str) {
        let Pair { laptop, server, .. } = &self.pair;
        for host in [laptop, server] {
            let ran = host.once();
            assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
        }
        self.pair.assert_settled(note);
        self.pair.assert_known(self.job.tokens, note);
        self.usual.assert_same(&self.pair, note);
        let ran = laptop.try_git(&["commit", "-q", "--allow-empty", "-m", "by hand"]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{note}");
    }
}

/// Asserts that a run that was refused something says so in one sentence, or has done all the same.
fn assert_said(ran: &Ran, note: &str) {
    assert!(!ran.err.contains("panicked"), "{note}: {ran:?}");
    let said = ran
        .err
        .lines()
        .filter(|line| line.starts_with("autosync: "))
        .count();
    match ran.code {
        Some(0) => assert_eq!(said, 0, "{note}: {ran:?}"),
        // Either it failed and says why, or it lists what waits.
        Some(1 | 3) => assert!(
            said == 1 || (said == 0 && ran.out.contains("Held: ")),
            "{note}: {ran:?}"
        ),
        _ => panic!("{note}: {ran:?}"),
    }
}

/// Whether every point is struck, and not every third.
fn all() -> bool {
    std::env::var("AUTOSYNC_TEST_CRASH_POINTS").is_ok_and(|what| what == "all")
}

/// Returns every third, or all of them.
fn chosen<T>(points: Vec<T>, first: usize) -> Vec<T> {
    if all() {
        return points;
    }
    points.into_iter().skip(first).step_by(3).collect()
}

/// Returns the deeds of a kind at a call.
fn failures(call: &Call) -> Vec<Deed> {
    let fail = |error, for_good| Deed::Fail { error, for_good };
    let full = [fail("ENOSPC", true), fail("ENOSPC", false)];
    let broken = [fail("EIO", false), fail("EIO", true)];
    // No disk is so full that it cannot be read, and what is said of it is written, too.
    if call.name.starts_with("write") || call.name == "openat" {
        return if all() {
            vec![full[1], broken[0]]
        } else {
            vec![full[1]]
        };
    }
    match (all(), call.adds()) {
        (true, true) => [full, broken].concat(),
        (true, false) => broken.to_vec(),
        (false, true) => vec![full[0]],
        (false, false) => vec![broken[0]],
    }
}

/// Says how many points were struck, and how many calls are none: [`Trace::shadowed`].
#[expect(clippy::print_stdout, reason = "the figures of a run on demand")]
fn report(what: &str, [points, shadowed]: [usize; 2], struck: usize, missed: usize) {
    println!(
        "CRASH-POINTS {what}: {struck} struck of {points} points, {missed} not passed, {shadowed} \
         behind a call of another thread"
    );
    // Threads take turns as they like, but not that much.
    assert!(
        struck > 0 && missed * 5 <= struck,
        "{what}: {struck} struck, {missed} not passed"
    );
}

/// Strikes at the calls of a job, one after the other.
fn sweep(job: Job, kills: bool) {
    let bench = Bench::new(job, Sandbox::in_memory("laptop"));
    let mut points: Vec<&Call> = bench.trace.changes.iter().collect();
    if kills {
        points.retain(|call| !call.waits());
    }
    let (count, mut struck, mut missed) = (points.len(), 0, 0);
    for call in chosen(points, usize::from(!kills)) {
        let deeds = if kills {
            vec![Deed::Kill]
        } else {
            failures(call)
        };
        for deed in deeds {
            let note = format!("{}, {deed:?} at {call:?}", job.name);
            match bench.strike(call, deed) {
                Some(ran) => {
                    struck += 1;
                    if !kills {
                        assert_said(&ran, &note);
                    }
                }
                None => missed += 1,
            }
            bench.assert_recovers(&note);
        }
    }
    let what = if kills { "kills" } else { "failures" };
    let count = [count, bench.trace.shadowed];
    report(&format!("{what} in {}", job.name), count, struck, missed);
}

/// Whether nothing can be traced here, which is said.
fn skips(test: &str) -> bool {
    let why = strace::cannot(&Sandbox::in_memory("laptop"));
    if let Some(why) = why {
        skipped(test, why);
    }
    why.is_some()
}

/// The jobs whose calls are struck beside those of a push, which has a thread of its own.
fn jobs() -> Vec<Job> {
    if all() {
        vec![WHOLE, SNAPSHOT, APPLY]
    } else {
        vec![WHOLE]
    }
}

#[test]
fn a_kill_at_the_calls_of_a_snapshot_a_merge_and_an_apply_needs_nobody() {
    if !skips("a_kill_at_the_calls_of_a_snapshot_a_merge_and_an_apply_needs_nobody") {
        for job in jobs() {
            sweep(job, true);
        }
    }
}

#[test]
fn a_kill_at_the_calls_of_a_push_needs_nobody() {
    if !skips("a_kill_at_the_calls_of_a_push_needs_nobody") {
        sweep(PUSH, true);
    }
}

#[test]
fn a_full_or_broken_disk_at_the_calls_of_a_snapshot_a_merge_and_an_apply_loses_nothing() {
    if !skips("a_full_or_broken_disk_at_the_calls_of_a_snapshot_a_merge_and_an_apply_loses_nothing")
    {
        for job in jobs() {
            sweep(job, false);
        }
    }
}

#[test]
fn a_full_or_broken_disk_at_the_calls_of_a_push_loses_nothing() {
    if !skips("a_full_or_broken_disk_at_the_calls_of_a_push_loses_nothing") {
        sweep(PUSH, false);
    }
}
