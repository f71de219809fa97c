//! How many cases are played, with which seeds, and what is kept of those that failed.
//!
//! `AUTOSYNC_TEST_CASES` is how many cases there are, `AUTOSYNC_TEST_SEED` where their seeds begin
//! (other seeds, other cases). Five million take half an hour of one processor:
//!
//! ```sh
//! AUTOSYNC_TEST_CASES=5000000 cargo test --release --lib engine::sim -- --nocapture
//! ```
//!
//! A case that fails is shrunk and printed as a line of JSON. Put into `tests/cases/sim.jsonl` it
//! is played again by every run, before all others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::plan::{Plan, plan};

/// So many cases are played when nobody says how many.
const CASES: u64 = 20_000;
/// So many cases have one seed. The others of it are played by the same thread.
const CHUNK: u32 = 250;

/// The cases that failed once.
const KEPT: &str = include_str!("../../../tests/cases/sim.jsonl");

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

/// The chance of one seed. Not proptest's usual one, on which more time would go without
/// optimisation than on the cases.
fn rng(seed: u64) -> TestRng {
    let mut raw = [0x5a; 16];
    raw[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::XorShift, &raw)
}

/// Returns the cases that failed once.
pub(super) fn kept() -> Vec<Plan> {
    KEPT.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Plays so many cases with this seed. Returns the smallest that fails, in words.
pub(super) fn play(
    seed: u64,
    cases: u32,
    turns: usize,
    is_well: impl Fn(&Plan) -> Result<(), String>,
) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 5_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng(seed));
    let outcome = runner.run(&plan(turns), |plan| {
        is_well(&plan).map_err(|wrong| {
            let plan = serde_json::to_string(&plan).unwrap();
            TestCaseError::fail(format!("{wrong}\n{plan}"))
        })
    });
    outcome.map_err(|failure| failure.to_string())
}

/// Plays as many cases as are asked for, on all processors. Returns how many there were.
pub(super) fn play_all(is_well: fn(&Plan) -> Result<(), String>) -> u64 {
    let cases = number("AUTOSYNC_TEST_CASES", CASES);
    let seed = number("AUTOSYNC_TEST_SEED", 0);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let begin = next.fetch_add(CHUNK.into(), Ordering::Relaxed);
            if begin >= cases {
                break;
            }
            let many = u32::try_from(cases - begin).map_or(CHUNK, |left| left.min(CHUNK));
            if let Err(wrong) = play(seed + begin, many, 80, is_well) {
                failed.store(true, Ordering::Relaxed);
                return Err(wrong);
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut outcomes = hands.into_iter().map(|hand| hand.join().unwrap());
        outcomes.find_map(Result::err)
    });
    if let Some(wrong) = wrong {
        panic!("{wrong}");
    }
    cases
}

/// Returns a plan of a strategy, always the same.
pub(super) fn sample(seed: u64, count: usize, turns: usize) -> Vec<Plan> {
    let mut runner = TestRunner::new_with_rng(Config::default(), rng(seed));
    let plans = plan(turns);
    (0..count)
        .map(|_| {
            let tree = plans.new_tree(&mut runner).unwrap();
            proptest::strategy::ValueTree::current(&tree)
        })
        .collect()
}
