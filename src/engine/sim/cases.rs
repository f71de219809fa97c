//! What is asked of the model.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::history::Mutant;
use super::{Op, Turn, World};

/// With every notice heard and nothing out of order, hosts agree within the windows, which a
/// burst and a restless file make longer, and five seconds.
const PROMISED: u64 = 15;

/// One case: the turns, how many hosts there are and at how many of them somebody works.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    hosts: usize,
    writers: usize,
    lossy: u64,
    turns: Vec<Turn>,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..6_usize, 0..5_usize).prop_map(|(file, line)| Op::Write { file, line }),
        3 => (0..5_usize, 0..4_usize).prop_map(|(file, line)| Op::WriteOpen { file, line }),
        3 => Just(Op::Close),
        3 => (0..6_usize).prop_map(|file| Op::Delete { file }),
        2 => (0..6_usize, 0..6_usize).prop_map(|(file, to)| Op::Rename { file, to }),
        1 => Just(Op::Commit),
        1 => Just(Op::Rebase),
        2 => Just(Op::Kill),
        2 => Just(Op::Link),
        1 => Just(Op::Overflow),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let wait = prop_oneof![4 => 0..60_u64, 4 => 60..600_u64, 1 => 600..8_000_u64];
    (wait, 0..3_usize, op()).prop_map(|(wait, host, op)| Turn { wait, host, op })
}

fn plan() -> impl Strategy<Value = Plan> {
    let lossy = prop_oneof![3 => Just(0_u64), 2 => Just(30), 1 => Just(100)];
    let turns = prop::collection::vec(turn(), 1..40);
    (any::<u64>(), 2..=3_usize, 1..=3_usize, lossy, turns).prop_map(
        |(seed, hosts, writers, lossy, mut turns)| {
            for turn in &mut turns {
                turn.host %= writers.min(hosts);
            }
            Plan {
                seed,
                hosts,
                writers,
                lossy,
                turns,
            }
        },
    )
}

/// Plays a plan to its end and returns what is wrong, and the world.
fn run(plan: &Plan, mutant: Mutant) -> (Vec<String>, World) {
    let mut world = World::new(plan.seed, plan.hosts, plan.lossy, mutant);
    world.play(&plan.turns);
    world.mend();
    // A lost notice costs a poll, a link that was down a back-off.
    let faults = |turn: &Turn| matches!(turn.op, Op::Kill | Op::Link | Op::Rebase);
    let patience = if plan.lossy > 0 {
        800
    } else if plan.turns.iter().any(faults) {
        90
    } else {
        PROMISED
    };
    world.run_until_synced(patience);
    let alone = (plan.writers == 1).then(|| world.hosts[0].tree.clone());
    let mut wrong = world.judge();
    if alone.is_some_and(|tree| world.shared.history.tree(world.shared.hub) != tree) {
        wrong.push("one user alone did not get what they have".to_owned());
    }
    let before = world.work();
    for _ in 0..3 {
        world.run_for(1_800);
    }
    if world.work() != before {
        let after = world.work();
        wrong.push(format!("work without a cause: {before:?}, {after:?}"));
    }
    (wrong, world)
}

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 5_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn nothing_is_lost_all_agree_and_it_ends_quiet() {
    let outcome = runner(600).run(&plan(), |plan| {
        let (wrong, world) = run(&plan, Mutant::None);
        if wrong.is_empty() {
            Ok(())
        } else {
            let commits = world.shared.history.lines().join("\n");
            let trace = world.trace.join("\n");
            Err(TestCaseError::fail(format!(
                "{wrong:#?}\n{commits}\n{trace}"
            )))
        }
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let outcome = runner(20).run(&plan(), |plan| {
        let (_, one) = run(&plan, Mutant::None);
        let (_, other) = run(&plan, Mutant::None);
        prop_assert_eq!(one.trace, other.trace);
        Ok(())
    });
    outcome.unwrap();
}

/// Whether the oracle notices a mutant within so many cases.
fn is_noticed(mutant: Mutant) -> bool {
    let mut runner = runner(150);
    let outcome = runner.run(&plan(), |plan| {
        let (wrong, _) = run(&plan, mutant);
        prop_assert!(wrong.is_empty());
        Ok(())
    });
    outcome.is_err()
}

#[test]
fn the_oracle_notices_that_the_last_writer_wins() {
    assert!(is_noticed(Mutant::LastWriterWins));
}

#[test]
fn the_oracle_notices_an_apply_that_does_not_look() {
    assert!(is_noticed(Mutant::BlindApply));
}

#[test]
fn the_oracle_notices_that_a_kept_path_reverts_what_came() {
    assert!(is_noticed(Mutant::NoBases));
}

/// A conflict between two hosts, and one thing that happens just before a certain step of a job.
fn strike(step: usize, host: usize, op: Option<Op>) -> (Vec<String>, usize) {
    let mut world = World::new(7, 2, 0, Mutant::None);
    world.strike = op.map(|op| (step, host, op));
    let turns = [
        (0, 0, Op::Write { file: 0, line: 3 }),
        (0, 0, Op::Write { file: 1, line: 3 }),
        (3_000, 0, Op::Write { file: 0, line: 0 }),
        (20, 1, Op::Write { file: 0, line: 1 }),
        (0, 1, Op::Write { file: 1, line: 2 }),
        (0, 0, Op::Write { file: 1, line: 2 }),
        (0, 0, Op::Write { file: 2, line: 3 }),
    ];
    let turns = turns.map(|(wait, host, op)| Turn { wait, host, op });
    world.play(&turns);
    world.run_for(4);
    world.mend();
    world.run_until_synced(90);
    (world.judge(), world.steps)
}

#[test]
fn whatever_happens_before_any_one_step_nothing_is_lost() {
    let (wrong, steps) = strike(0, 0, None);
    assert_eq!(wrong, [""; 0]);
    assert!(steps > 60, "{steps}");
    for step in 0..steps {
        for host in 0..2 {
            for op in [
                Op::Write { file: 0, line: 0 },
                Op::Write { file: 1, line: 3 },
                Op::WriteOpen { file: 0, line: 2 },
                Op::Delete { file: 1 },
                Op::Rename { file: 0, to: 2 },
                Op::Kill,
            ] {
                let (wrong, _) = strike(step, host, Some(op));
                assert_eq!(wrong, [""; 0], "{op:?} on {host} before step {step}");
            }
        }
    }
}
