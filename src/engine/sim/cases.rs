//! What is asked of the model.

use super::history::Mutant;
use super::plan::{Op, Plan, Strike, Turn};
use super::{World, runner};

/// With every notice heard and nothing out of order, hosts agree within the windows, which a
/// burst and a restless file make longer, and five seconds.
const PROMISED: u64 = 15;

/// How long until a world agrees after it was mended.
fn patience(plan: &Plan) -> u64 {
    let ops = || {
        plan.turns
            .iter()
            .map(|turn| turn.op)
            .chain(plan.strikes.iter().map(|it| it.op))
    };
    // A lost notice costs a poll, a link that was down a back-off, a hold five minutes; and a
    // mass delete waits until somebody sees it.
    let is_held = |op| matches!(op, Op::Full | Op::DeleteAll | Op::DeleteBelow { .. });
    let is_fault = |op| {
        matches!(
            op,
            Op::Kill { .. } | Op::Link | Op::Rebase | Op::Suspend | Op::Prank | Op::Pause
        )
    };
    if plan.lossy > 0 || ops().any(|op| op == Op::Bell) {
        3_000
    } else if ops().any(is_held) {
        400
    } else if ops().any(is_fault) || plan.words {
        90
    } else {
        PROMISED + plan.late.div_ceil(1_000)
    }
}

/// Plays a plan to its end and returns what is wrong.
fn play(world: &mut World, plan: &Plan) -> Vec<String> {
    world.play(&plan.turns);
    world.mend();
    let alone = (plan.writers == 1).then(|| world.hosts[0].tree.clone());
    world.run_until_synced(patience(plan));
    let mut wrong = world.judge();
    if alone.is_some_and(|tree| world.shared.history.tree(world.shared.hub) != tree) {
        wrong.push("one user alone did not get what they have".to_owned());
    }
    if wrong.is_empty() {
        let before = world.work();
        for _ in 0..3 {
            world.look_everywhere();
            world.run_for(900);
        }
        let after = world.work();
        if after != before {
            wrong.push(format!("work without a cause: {before:?}, {after:?}"));
        }
        // Whoever has just begun to look comes to the end of it.
        world.run_until_synced(5);
        wrong.append(&mut world.judge());
    }
    wrong
}

fn run(plan: &Plan, mutant: Mutant) -> Vec<String> {
    play(&mut World::new(plan, mutant), plan)
}

/// Returns what engines were told and said, and what they made of it.
fn trace(plan: &Plan, change: impl Fn(&mut World)) -> Vec<String> {
    let mut world = World::new(plan, Mutant::None);
    world.trace = Some(Vec::new());
    change(&mut world);
    let wrong = play(&mut world, plan);
    let mut trace = world.trace.take().unwrap_or_default();
    trace.extend(world.shared.history.lines(&world.shared.names));
    trace.extend(wrong);
    trace
}

/// Errors with all that is known of a case that goes wrong.
fn is_well(plan: &Plan) -> Result<(), String> {
    let wrong = run(plan, Mutant::None);
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join("\n");
    Err(format!("{wrong}\n{}", trace(plan, |_| ()).join("\n")))
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "for whoever writes down how many there were"
)]
fn nothing_is_lost_all_agree_and_it_ends_quiet() {
    let cases = runner::play_all(is_well);
    println!("{cases} cases, 0 lost");
}

#[test]
fn what_went_wrong_once_goes_well() {
    for plan in runner::kept() {
        if let Err(wrong) = is_well(&plan) {
            panic!("{wrong}");
        }
    }
}

#[test]
fn the_same_plan_gives_the_same_trace() {
    for plan in runner::sample(1, 60, 80) {
        assert_eq!(trace(&plan, |_| ()), trace(&plan, |_| ()));
    }
}

#[test]
fn clocks_that_are_years_off_change_nothing() {
    for right in runner::sample(2, 60, 80) {
        let right = Plan {
            wrong_clocks: false,
            ..right
        };
        let wrong = Plan {
            wrong_clocks: true,
            ..right.clone()
        };
        assert_eq!(trace(&wrong, |_| ()), trace(&right, |_| ()));
    }
}

/// Whether the oracle notices a mutant within so many cases.
fn is_noticed(mutant: Mutant) -> bool {
    let is_well = |plan: &Plan| match run(plan, mutant).as_slice() {
        [] => Ok(()),
        wrong => Err(wrong.join("\n")),
    };
    runner::play(3, 400, 60, is_well).is_err()
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

#[test]
fn the_oracle_notices_a_mass_delete_that_nobody_approved() {
    assert!(is_noticed(Mutant::NoMassGuard));
}

#[test]
fn the_oracle_notices_a_hub_that_takes_whatever_is_pushed() {
    assert!(is_noticed(Mutant::ForcedPush));
}

/// A conflict between two hosts, and one thing that happens just before a certain step of a job.
fn strike(step: usize, host: usize, op: Option<Op>) -> (Vec<String>, usize) {
    let turns = [
        (0, 0, Op::Write { file: 0, line: 3 }),
        (0, 0, Op::Write { file: 1, line: 3 }),
        (3_000, 0, Op::Write { file: 0, line: 0 }),
        (20, 1, Op::Write { file: 0, line: 1 }),
        (0, 1, Op::Write { file: 1, line: 2 }),
        (0, 0, Op::Write { file: 1, line: 2 }),
        (0, 0, Op::Write { file: 2, line: 3 }),
    ];
    let plan = Plan {
        seed: 7,
        hosts: 2,
        writers: 2,
        lossy: 0,
        late: 400,
        prompt: false,
        words: false,
        wrong_clocks: false,
        turns: turns
            .map(|(wait, host, op)| Turn { wait, host, op })
            .to_vec(),
        strikes: op.map(|op| Strike { step, host, op }).into_iter().collect(),
    };
    let mut world = World::new(&plan, Mutant::None);
    world.play(&plan.turns);
    world.run_for(4);
    world.mend();
    world.run_until_synced(400);
    (world.judge(), world.steps)
}

#[test]
fn whatever_happens_before_any_one_step_nothing_is_lost() {
    let (wrong, steps) = strike(0, 0, None);
    assert_eq!(wrong, [""; 0]);
    assert!(steps > 40, "{steps}");
    for step in 0..steps {
        for host in 0..2 {
            for op in [
                Op::Write { file: 0, line: 0 },
                Op::Write { file: 1, line: 3 },
                Op::WriteOpen { file: 0, line: 2 },
                Op::Swap { file: 0 },
                Op::Delete { file: 1 },
                Op::Rename { file: 0, to: 2 },
                Op::Kill { down: 100 },
                Op::Suspend,
                Op::Full,
                Op::Link,
            ] {
                let (wrong, _) = strike(step, host, Some(op));
                assert_eq!(wrong, [""; 0], "{op:?} on {host} before step {step}");
            }
        }
    }
}
