//! How fast, beside a bare git loop in the same run: prints a Markdown table.
//!
//! `cargo bench` measures on trees of 100, 10,000 and 100,000 files; `AUTOSYNC_BENCH_SIZES=100,1000`
//! names others, `AUTOSYNC_BENCH_ROUNDS=20` the number of edits of each kind,
//! `AUTOSYNC_BENCH_PARTS=edits,ssh,contact,age` what is measured. Everything happens in a temporary
//! directory (`TMPDIR`), between two agents on this machine, with a hub on a path, or behind an
//! sshd of its own.
//!
//! Absolute times belong to the machine; the ratio to the loop, taken in turns with it, is what can
//! be compared.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops at the first surprise"
)]
#![expect(clippy::print_stdout, reason = "the table is its output")]

#[path = "speed/contact.rs"]
mod contact;
#[path = "speed/far.rs"]
mod far;
#[path = "speed/hosts.rs"]
mod hosts;
#[path = "speed/table.rs"]
mod table;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hosts::{Agent, Lab, Loop};
use table::{Row, median, millis, percentile, print, print_head};

fn main() {
    let sizes: Vec<usize> = std::env::var("AUTOSYNC_BENCH_SIZES")
        .unwrap_or_else(|_| "100,10000,100000".to_owned())
        .split(',')
        .map(|size| size.trim().parse().unwrap())
        .collect();
    let rounds: usize =
        std::env::var("AUTOSYNC_BENCH_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
    let parts = std::env::var("AUTOSYNC_BENCH_PARTS");
    let parts = parts.unwrap_or_else(|_| "edits,ssh,contact,age".to_owned());
    let is_part = |name: &str| parts.split(',').any(|part| part.trim() == name);
    print_head();
    print(&fsync_row());
    for size in sizes {
        say_size(size);
        if is_part("edits") {
            measure(size, rounds);
        }
        if is_part("ssh") {
            far::measure(size, rounds);
        }
        if is_part("contact") {
            contact::measure(size);
        }
        if is_part("age") {
            age(size, rounds);
        }
    }
}

/// Measures whether edits get slower as the history grows.
fn age(size: usize, rounds: usize) {
    let edits = |commits: usize| {
        let lab = Lab::new(size);
        if commits > 0 {
            lab.age(commits);
        }
        let (laptop, server) = (lab.host("laptop", "0"), lab.host("server", "0"));
        let (first, second) = (Agent::start(&laptop), Agent::start(&server));
        first.wait_synced();
        second.wait_synced();
        let times = repeat(rounds, |round| {
            let took = visible(&laptop.tree, &server.tree, "age", round);
            second.wait_synced();
            took
        });
        first.stop();
        second.stop();
        times
    };
    let (young, old) = (edits(0), edits(10_000));
    print(&Row::new(
        size,
        "edit -> visible there, windows 0, beside itself 10,000 commits ago",
        &old,
        Some(&young),
    ));
}

/// Measures everything on one tree size with a hub on a path.
fn measure(size: usize, rounds: usize) {
    let lab = Lab::new(size);
    let bare = Loop::new(&lab);
    let loop_times = repeat(rounds, |round| bare.edit(round));

    let (laptop, server) = (lab.host("laptop", "0"), lab.host("server", "0"));
    let (first, second) = (Agent::start(&laptop), Agent::start(&server));
    first.wait_synced();
    second.wait_synced();
    // Tens of thousands of files were just written, and every fsync would wait for them.
    rustix::fs::sync();
    // What one edit leaves to do, on both hosts of this one machine, is not part of the next.
    let both = || {
        second.wait_synced();
        first.wait_synced();
    };
    let events = first.events();
    let stored = repeat(rounds, |round| {
        let start = edit(&laptop.tree, "stored", round);
        let begun = events.until(start, "\"job\":\"push\"");
        both();
        begun
    });
    print(&Row::new(
        size,
        "edit -> commit stored, push begun",
        &stored,
        None,
    ));
    let head = laptop.tree.join(".git/refs/heads/main");
    let indexed = repeat(rounds, |round| {
        let before = fs::read(&head).unwrap();
        let start = edit(&laptop.tree, "indexed", round);
        wait_until(|| fs::read(&head).unwrap() != before);
        let took = start.elapsed();
        both();
        took
    });
    print(&Row::new(size, "edit -> HEAD and index", &indexed, None));
    let at_once = repeat(rounds, |round| {
        let took = visible(&laptop.tree, &server.tree, "at-once", round);
        both();
        took
    });
    print(&Row::new(
        size,
        "edit -> visible there, windows 0",
        &at_once,
        Some(&loop_times),
    ));
    second.stop();
    first.stop();

    let (laptop, server) = (laptop.with_windows(None), server.with_windows(None));
    let (first, second) = (Agent::start(&laptop), Agent::start(&server));
    first.wait_synced();
    second.wait_synced();
    let defaults = repeat(rounds, |round| {
        let took = visible(&laptop.tree, &server.tree, "default", round);
        // The edits of a person are some seconds apart.
        pause(Duration::from_secs(3).saturating_sub(took));
        took
    });
    print(&Row::new(
        size,
        "edit -> visible there, defaults",
        &defaults,
        Some(&loop_times),
    ));

    if size <= 10_000 {
        let (commits, cpu) = (
            lab.commits(),
            first.cpu_with_children() + second.cpu_with_children(),
        );
        let untar = many(&laptop.tree, &server.tree, 10_000);
        first.wait_synced();
        second.wait_synced();
        let cpu = (first.cpu_with_children() + second.cpu_with_children()).saturating_sub(cpu);
        print(&Row::new(
            size,
            "10,000 files at once -> all there",
            &[untar],
            Some(&[bare.many(10_000)]),
        ));
        print(&Row::text(
            size,
            "  processor time of both hosts, commits",
            format!("{}, {}", millis(cpu), lab.commits() - commits),
        ));
    }
    let cpu = first.cpu();
    pause(Duration::from_secs(20));
    let idle = first.cpu().saturating_sub(cpu) * 3;
    print(&Row::new(
        size,
        "idle, processor time a minute",
        &[idle],
        None,
    ));
    print(&Row::text(
        size,
        "PSS of an agent",
        format!("{} KiB", first.pss()),
    ));

    second.stop();
    edit(&laptop.tree, "while-stopped", 0);
    first.wait_synced();
    let start = now();
    let second = Agent::start(&server);
    wait_until(|| same(&laptop.tree, &server.tree, "while-stopped"));
    print(&Row::new(
        size,
        "start -> what came while stopped is there",
        &[start.elapsed()],
        None,
    ));
    second.wait_synced();
    first.stop();
    edit(&laptop.tree, "made-while-stopped", 0);
    let start = now();
    let first = Agent::start(&laptop);
    wait_until(|| same(&laptop.tree, &server.tree, "made-while-stopped"));
    print(&Row::new(
        size,
        "start -> what was edited while stopped is on the other host",
        &[start.elapsed()],
        None,
    ));
    second.stop();
    first.stop();

    let dirs = hosts::directories(&laptop.tree);
    let watching = repeat(3, |_| {
        let start = now();
        let agent = Agent::start(&laptop);
        wait_until(|| agent.watches() >= dirs);
        let took = start.elapsed();
        agent.wait_synced();
        agent.stop();
        took
    });
    print(&Row::new(size, "start -> watching", &watching, None));
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
fn say_size(size: usize) {
    eprintln!("measuring on {size} files ...");
}

fn fsync_row() -> Row {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(dir.path().join("f")).unwrap();
    let times = repeat(50, |_| {
        file.write_all(b"x").unwrap();
        let start = now();
        file.sync_all().unwrap();
        start.elapsed()
    });
    Row::new(0, "one fsync on this disk", &times, None)
}

fn repeat(rounds: usize, mut one: impl FnMut(usize) -> Duration) -> Vec<Duration> {
    (0..rounds).map(&mut one).collect()
}

/// Edits a file of its own; returns when the edit was done.
fn edit(tree: &Path, kind: &str, round: usize) -> Instant {
    let path = tree.join(format!("p0/d0/{kind}"));
    fs::write(path, format!("{kind} {round}\n")).unwrap();
    now()
}

fn visible(from: &Path, to: &Path, kind: &str, round: usize) -> Duration {
    let name = format!("{kind}-{round}");
    let start = edit(from, &name, round);
    wait_until(|| same(from, to, &name));
    start.elapsed()
}

fn same(from: &Path, to: &Path, kind: &str) -> bool {
    let name = format!("p0/d0/{kind}");
    fs::read(to.join(&name)).is_ok_and(|there| there == fs::read(from.join(&name)).unwrap())
}

/// Makes many files at once and waits until they are all there.
fn many(from: &Path, to: &Path, count: usize) -> Duration {
    let start = now();
    hosts::fill(&from.join("many"), count, "new");
    let last = |tree: &Path| hosts::count(&tree.join("many"));
    wait_until(|| last(to) == count);
    start.elapsed()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with the clock itself"
)]
fn now() -> Instant {
    Instant::now()
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(300), "it never came");
        pause(Duration::from_micros(300));
    }
}

fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// What a row says of its times.
fn say(times: &[Duration]) -> (String, String) {
    (millis(median(times)), millis(percentile(times, 95)))
}
