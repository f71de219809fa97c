//! What is played: the operations of users and of fate, when, and on which host.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The names that users write to; more exist once there are conflict copies.
pub(super) const NAMES: [&str; 7] = ["a", "b", "d/a", "d/b", "d/e/c", "f/a", "f/b"];
/// The names that users give to whole directories.
pub(super) const DIRS: [&str; 4] = ["d", "d/e", "f", "g"];

/// What a user, or fate, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    /// Writes one line of a file; line 3 is the whole file.
    Write {
        file: usize,
        line: usize,
    },
    /// The same, but the file stays open for writing.
    WriteOpen {
        file: usize,
        line: usize,
    },
    /// Closes every open file.
    Close,
    /// Makes a file executable, or takes that back.
    Chmod {
        file: usize,
    },
    /// Puts a symbolic link in the place of a file.
    Symlink {
        file: usize,
    },
    /// Puts a directory with a file in the place of a file, or the other way round.
    Swap {
        file: usize,
    },
    Delete {
        file: usize,
    },
    /// Deletes everything below a directory.
    DeleteBelow {
        dir: usize,
    },
    /// Deletes everything.
    DeleteAll,
    Rename {
        file: usize,
        to: usize,
    },
    /// Moves everything below a directory to another.
    RenameDir {
        dir: usize,
        to: usize,
    },
    /// Commits with their own git.
    Commit,
    /// Begins or ends a rebase.
    Rebase,
    /// Lets pass what the guards hold.
    Approve,
    /// Asks to look, push and fetch now.
    Sync,
    /// Pauses the agent, or lets it go on.
    Pause,
    /// The agent is killed, and started again after so many milliseconds at most.
    Kill {
        down: u64,
    },
    /// The machine sleeps: a moment for the others, a week for itself.
    Suspend,
    /// The link to the hub goes down or comes back.
    Link,
    /// Notices cannot arrive, or can again.
    Bell,
    /// The disk is full, or has room again.
    Full,
    /// The watcher loses events and says so.
    Overflow,
    /// Somebody rings for a commit that nobody has.
    Prank,
}

/// One operation, how long after the one before it comes, and on which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) wait: u64,
    pub(super) host: usize,
    pub(super) op: Op,
}

/// One operation just before a certain step of all the jobs of all hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Strike {
    pub(super) step: usize,
    pub(super) host: usize,
    pub(super) op: Op,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Decides how long everything takes, and which notices are lost.
    pub(super) seed: u64,
    pub(super) hosts: usize,
    /// At how many of the hosts somebody works.
    pub(super) writers: usize,
    /// How many notices of a hundred are lost.
    pub(super) lossy: u64,
    /// How many milliseconds a notice may take.
    pub(super) late: u64,
    /// Whether every window is zero.
    pub(super) prompt: bool,
    /// Whether users are asked what their commits are about, and answer.
    pub(super) words: bool,
    /// Whether the hosts' clocks are years off.
    #[serde(default)]
    pub(super) wrong_clocks: bool,
    pub(super) turns: Vec<Turn>,
    pub(super) strikes: Vec<Strike>,
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0..9_usize;
    let dir = 0..DIRS.len();
    prop_oneof![
        22 => (file.clone(), 0..5_usize).prop_map(|(file, line)| Op::Write { file, line }),
        6 => (file.clone(), 0..5_usize).prop_map(|(file, line)| Op::WriteOpen { file, line }),
        5 => Just(Op::Close),
        2 => file.clone().prop_map(|file| Op::Chmod { file }),
        2 => file.clone().prop_map(|file| Op::Symlink { file }),
        3 => file.clone().prop_map(|file| Op::Swap { file }),
        5 => file.clone().prop_map(|file| Op::Delete { file }),
        2 => dir.clone().prop_map(|dir| Op::DeleteBelow { dir }),
        1 => Just(Op::DeleteAll),
        4 => (file.clone(), file).prop_map(|(file, to)| Op::Rename { file, to }),
        2 => (dir.clone(), dir).prop_map(|(dir, to)| Op::RenameDir { dir, to }),
        2 => Just(Op::Commit),
        2 => Just(Op::Rebase),
        1 => Just(Op::Approve),
        1 => Just(Op::Sync),
        1 => Just(Op::Pause),
        4 => (0..5_000_u64).prop_map(|down| Op::Kill { down }),
        1 => Just(Op::Suspend),
        4 => Just(Op::Link),
        1 => Just(Op::Bell),
        1 => Just(Op::Full),
        1 => Just(Op::Overflow),
        1 => Just(Op::Prank),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let wait = prop_oneof![8 => 0..60_u64, 8 => 60..600_u64, 1 => 600..8_000_u64];
    (wait, 0..4_usize, op()).prop_map(|(wait, host, op)| Turn { wait, host, op })
}

fn strike() -> impl Strategy<Value = Strike> {
    (0..400_usize, 0..4_usize, op()).prop_map(|(step, host, op)| Strike { step, host, op })
}

/// Returns cases of up to so many turns.
pub(super) fn plan(turns: usize) -> impl Strategy<Value = Plan> {
    let lossy = prop_oneof![3 => Just(0_u64), 2 => Just(30), 1 => Just(100)];
    let late = prop_oneof![3 => Just(400_u64), 1 => Just(20_000)];
    let hosts = prop_oneof![4 => Just(2_usize), 3 => Just(3), 1 => Just(4)];
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.25),
    );
    let turns = prop::collection::vec(turn(), 1..turns);
    let strikes = prop::collection::vec(strike(), 0..4);
    (
        any::<u64>(),
        hosts,
        1..=4_usize,
        lossy,
        late,
        flags,
        turns,
        strikes,
    )
        .prop_map(
            |(seed, hosts, writers, lossy, late, flags, mut turns, mut strikes)| {
                let (prompt, words, wrong_clocks) = flags;
                let writers = writers.min(hosts);
                for turn in &mut turns {
                    turn.host %= writers;
                }
                for strike in &mut strikes {
                    strike.host %= writers;
                }
                Plan {
                    seed,
                    hosts,
                    writers,
                    lossy,
                    late,
                    prompt,
                    words,
                    wrong_clocks,
                    turns,
                    strikes,
                }
            },
        )
}
