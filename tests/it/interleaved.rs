//! Random work on three hosts in one process, with their agents' steps in any order: the
//! production engine and jobs on real work trees and a real bare hub, in memory-backed storage.
//!
//! A case is a dozen operations: people at work, hosts that sync, two hosts whose steps are
//! interleaved, jobs that a person or another host interrupts at any named point of the write
//! protocol, agents that are killed there. The oracle is the ledger of `random`: every version has
//! a token, and a token leaves the tree only through somebody who had it there. Then the hosts
//! must be equal, quiet, and (one case in ten) without damage.
//!
//! `AUTOSYNC_TEST_CASES` is how many cases there are, 300 if not set. A case that fails is shrunk,
//! and its seed kept in `tests/regressions/`, from where it is repeated first.
//!
//! ```text
//! AUTOSYNC_TEST_CASES=50000 cargo test --test it -- interleaved::random_work
//! ```

mod op;
mod tables;
mod verdict;
mod world;

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestRunner};

use crate::network::skipped;
use crate::random::actor::{Actor, MANY};
use op::{Op, People, carry_out, op};
use verdict::verdict;
use world::{HOSTS, Template, World};

/// Operations of a case.
const OPERATIONS: usize = 12;

/// Failing seeds, each a line.
const SEEDS: &str = "tests/regressions/interleaved.txt";

fn people(world: &World) -> People {
    let actor = |host: &world::Host| {
        let trash = world.dir().join(format!("{}-trash", host.name));
        RefCell::new(Actor::new(host.name, host.root(), &trash, MANY))
    };
    Rc::new(world.hosts.iter().map(actor).collect())
}

/// Runs one case. Returns what is wrong in the end.
fn check(template: &Template, windows: bool, ops: &[Op], fsck: bool) -> Result<(), String> {
    let world = template.world(&HOSTS, windows);
    let people = people(&world);
    for op in ops {
        carry_out(&world, &people, op);
    }
    verdict(&world, &people, fsck)
}

/// Runs cases on this thread.
fn cases(template: &Template, cases: u32) -> Result<(), String> {
    let config = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        max_shrink_iters: 300,
        max_shrink_time: 90_000,
        ..ProptestConfig::default()
    };
    let count = Cell::new(0_u32);
    let ops = (any::<bool>(), prop::collection::vec(op(), OPERATIONS));
    let outcome = TestRunner::new(config).run(&ops, |(windows, ops)| {
        count.set(count.get() + 1);
        let fsck = count.get() % 10 == 1;
        check(template, windows, &ops, fsck).map_err(TestCaseError::fail)
    });
    outcome.map_err(|error| error.to_string())
}

/// Returns whether there is no memory-backed storage, which is said then.
fn skipped_without_memory(test: &str) -> bool {
    let is_there = Path::new("/dev/shm").is_dir();
    if !is_there {
        skipped(test, "there is no memory-backed storage");
    }
    !is_there
}

#[test]
fn random_work_of_three_hosts_in_any_order_of_their_steps_loses_nothing() {
    let test = "random_work_of_three_hosts_in_any_order_of_their_steps_loses_nothing";
    if skipped_without_memory(test) {
        return;
    }
    let all = std::env::var("AUTOSYNC_TEST_CASES");
    let all: u32 = all.map_or(300, |all| all.parse().unwrap());
    let template = Template::new(&HOSTS);
    let threads = std::thread::available_parallelism().unwrap().get();
    let each = all.div_ceil(u32::try_from(threads).unwrap());
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let run = || scope.spawn(|| cases(&template, each));
        let running: Vec<_> = (0..threads).map(|_| run()).collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap());
        ended.filter_map(Result::err).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What a broken agent might do to a folder.
type Sabotage = fn(&Path);

#[test]
fn the_oracle_sees_what_a_broken_agent_would_do() {
    let test = "the_oracle_sees_what_a_broken_agent_would_do";
    if skipped_without_memory(test) {
        return;
    }
    let template = Template::new(&HOSTS);
    let cases: [(&str, Sabotage); 5] = [
        ("", |_| {}),
        // The last writer wins: what stood there is gone.
        ("lost, it is nowhere", |root| {
            fs::write(root.join("a/one"), "base a/one 0\n").unwrap();
        }),
        ("lost, it is nowhere", |root| {
            fs::remove_file(root.join("a/one")).unwrap();
        }),
        ("was written by nobody", |root| {
            fs::write(root.join("o"), "<<<<<<< HEAD\nbase\n").unwrap();
        }),
        ("on server says", |root| {
            fs::write(root.parent().unwrap().join("server/left~"), "left\n").unwrap();
        }),
    ];
    for (wanted, sabotage) in cases {
        let world = template.world(&HOSTS, false);
        let people = people(&world);
        let random = &mut fastrand::Rng::with_seed(1);
        people[0]
            .borrow_mut()
            .save_in_place("a/one", random)
            .unwrap();
        sabotage(world.hosts[0].root());
        let found = verdict(&world, &people, true).err().unwrap_or_default();
        assert!(found.contains(wanted), "{wanted}: {found}");
        assert_eq!(found.is_empty(), wanted.is_empty(), "{found}");
    }
}
