//! The same in the git programs that the agent starts: each of their calls that changes a disk is
//! struck in its turn, and for kills the agent dies with its child every other time.
//!
//! A script stands in for git and starts the one that is meant under strace. A child is named by
//! its command and by how often there was one before in the same run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Bench, Deed, KILLED, WHOLE, assert_said, chosen, failures, report, skips};
use crate::support::strace::{self, Call, Trace};
use crate::support::{PROGRAM, Ran, Sandbox, ended};

/// The commands of git that change something.
const COMMANDS: &str = "update-index|update-ref|hash-object|merge-tree|read-tree|fetch|fetch-pack|\
    index-pack|unpack-objects|push|commit-tree|mktree|pack-objects|symbolic-ref|config";

/// Stands in for git. `STRIKE` is where it keeps count, `STRIKE_AT` which child is struck (or `all`,
/// to list them), `STRIKE_WITH` what strace does, `STRIKE_BOTH` whether the agent dies as well.
fn script() -> String {
    format!(
        "#!/bin/sh\n\
         [ -n \"$STRIKE\" ] || exec git \"$@\"\n\
         name=\n\
         for word; do case $word in {COMMANDS}) name=$word; break;; esac; done\n\
         [ -n \"$name\" ] || exec git \"$@\"\n\
         n=1; until mkdir \"$STRIKE/$name.$n\" 2>/dev/null; do n=$((n + 1)); done\n\
         [ \"$STRIKE_AT\" = all ] || [ \"$STRIKE_AT\" = \"$name.$n\" ] || exec git \"$@\"\n\
         strace -f -qq -y -o \"$STRIKE/$name.$n/log\" $STRIKE_WITH git \"$@\"; code=$?\n\
         [ $code = 137 ] || exit $code\n\
         [ -z \"$STRIKE_BOTH\" ] || kill -KILL $PPID\n\
         kill -KILL $$\n"
    )
}

/// A call of a child.
struct Point {
    child: String,
    call: Call,
}

/// What the agent's git is asked to do.
struct Strike<'a> {
    at: &'a str,
    with: &'a str,
    both: bool,
}

/// Does the job with a strike at a child.
fn run(bench: &Bench, strike: &Strike) -> (Ran, PathBuf) {
    let host = &bench.pair.laptop;
    let place = host.sandbox.root().join("strike");
    bench.pair.restore();
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir(&place).unwrap();
    let mut command = host.sandbox.command(PROGRAM);
    command
        .arg("once")
        .arg(&host.root)
        .env("STRIKE", &place)
        .env("STRIKE_AT", strike.at)
        .env("STRIKE_WITH", strike.with)
        .env("STRIKE_BOTH", if strike.both { "yes" } else { "" });
    (ended(command.output().unwrap()), place)
}

/// Returns every call of a child that changes something, and how many more are behind one of these.
fn points(bench: &Bench) -> (Vec<Point>, usize) {
    let with = format!("-e trace={}", strace::CHANGING);
    let (at, both) = ("all", false);
    let (ran, place) = run(
        bench,
        &Strike {
            at,
            with: &with,
            both,
        },
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut children: Vec<PathBuf> = fs::read_dir(place)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    children.sort();
    let (mut found, mut shadowed) = (Vec::new(), 0);
    for path in children {
        let child = path.file_name().unwrap().to_str().unwrap().to_owned();
        let trace = Trace::read(&fs::read_to_string(path.join("log")).unwrap());
        shadowed += trace.shadowed;
        found.extend(trace.changes.into_iter().map(|call| Point {
            child: child.clone(),
            call,
        }));
    }
    (found, shadowed)
}

fn bench() -> Bench {
    let laptop = Sandbox::in_memory("laptop");
    let git = laptop.write("git-that-is-struck", script());
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    Bench::new(WHOLE, laptop.with("AUTOSYNC_GIT", git.to_str().unwrap()))
}

fn sweep(kills: bool) {
    let bench = bench();
    let (mut points, shadowed) = points(&bench);
    if kills {
        points.retain(|point| !point.call.waits());
    }
    let (count, mut struck, mut missed) = (points.len(), 0, 0);
    for (number, point) in chosen(points, usize::from(!kills)).iter().enumerate() {
        let deeds = if kills {
            vec![Deed::Kill]
        } else {
            failures(&point.call)
        };
        for deed in deeds {
            let with = format!(
                "-e trace={} -e {}",
                point.call.name,
                deed.inject(&point.call)
            );
            let both = kills && number % 2 == 1;
            let note = format!(
                "{deed:?} in {} at {:?}, both: {both}",
                point.child, point.call
            );
            let at = &point.child;
            let (ran, place) = run(
                &bench,
                &Strike {
                    at,
                    with: &with,
                    both,
                },
            );
            let log = fs::read_to_string(place.join(at).join("log")).unwrap_or_default();
            let hit = log.contains("(INJECTED)") || log.contains("killed by SIGKILL");
            if hit {
                struck += 1;
                if both {
                    assert_eq!(ran.code, KILLED, "{note}: {ran:?}");
                } else {
                    assert_said(&ran, &note);
                }
            } else {
                missed += 1;
            }
            bench.assert_recovers(&note);
        }
    }
    let what = if kills {
        "kills of children"
    } else {
        "failures in children"
    };
    report(what, [count, shadowed], struck, missed);
}

#[test]
fn a_lock_of_head_or_the_branch_that_a_killed_git_left_empty_is_known_as_ours() {
    if skips("a_lock_of_head_or_the_branch_that_a_killed_git_left_empty_is_known_as_ours") {
        return;
    }
    let bench = bench();
    let (mut points, _) = points(&bench);
    // Once the lock holds something it is known by that.
    points.retain(|point| point.call.text.contains("main.lock") && point.call.name == "write");
    points.dedup_by_key(|point| point.child.clone());
    assert!(!points.is_empty());
    for Point { child, call } in points {
        let with = format!("-e trace={} -e {}", call.name, Deed::Kill.inject(&call));
        let (at, both) = (child.as_str(), true);
        let (ran, _) = run(
            &bench,
            &Strike {
                at,
                with: &with,
                both,
            },
        );
        assert_eq!(ran.code, KILLED, "{child}, {call:?}: {ran:?}");
        let locks = [
            "tree/.git/refs/heads/main.lock",
            "hub.git/refs/heads/main.lock",
        ];
        let root = bench.pair.laptop.sandbox.root();
        let empty = |lock: &&str| fs::metadata(root.join(lock)).is_ok_and(|meta| meta.len() == 0);
        assert!(locks.iter().any(empty), "{child}, {call:?}");
        bench.assert_recovers(&format!("{child}, {call:?}"));
    }
}

#[test]
fn a_kill_at_the_calls_of_a_git_of_ours_needs_nobody() {
    if !skips("a_kill_at_the_calls_of_a_git_of_ours_needs_nobody") {
        sweep(true);
    }
}

#[test]
fn a_full_or_broken_disk_at_the_calls_of_a_git_of_ours_loses_nothing() {
    if !skips("a_full_or_broken_disk_at_the_calls_of_a_git_of_ours_loses_nothing") {
        sweep(false);
    }
}
