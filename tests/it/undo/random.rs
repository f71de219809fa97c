//! Random operations on two hosts: undo of the newest is the tree before, undo then redo nothing.

use super::{alone, listed};
use crate::pair::{Host, Pair, Tree};

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

/// Does something to the files of a folder.
fn act(rng: &mut fastrand::Rng, host: &Host, token: &str) {
    let name = |rng: &mut fastrand::Rng| {
        let dir = ["", "d/", "d/e/"][rng.usize(..3)];
        format!("{dir}{}", ["a", "b", "c"][rng.usize(..3)])
    };
    for _ in 0..rng.usize(1..4) {
        let path = name(rng);
        let at = host.at(&path);
        match rng.u8(..6) {
            0..=2 => {
                host.write(&path, format!("1\n2\n{token}\n4\n5\n"));
            }
            3 if at.is_file() => host.remove(&path),
            4 if at.is_file() => {
                let to = host.at(&name(rng));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::rename(at, to).unwrap();
            }
            5 if at.is_file() => host.chmod(&path, if rng.bool() { 0o755 } else { 0o644 }),
            _ => {}
        }
    }
}

#[test]
fn undo_of_the_newest_is_the_tree_before_and_a_redo_the_tree_after() {
    let cases = number("AUTOSYNC_TEST_UNDO_CASES").unwrap_or(8);
    let first = number("AUTOSYNC_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    for case in 0..cases {
        let seed = first.wrapping_add(case);
        run(seed);
    }
}

fn run(seed: u64) {
    let note = &format!("AUTOSYNC_TEST_SEED={seed} AUTOSYNC_TEST_UNDO_CASES=1");
    let mut rng = fastrand::Rng::with_seed(seed);
    // A folder that is emptied is asked about.
    let pair = Pair::new(&[
        ("a", "1\n2\n3\n4\n5\n"),
        ("d/b", "1\n2\n3\n4\n5\n"),
        ("stays", "1\n"),
    ]);
    let here = &pair.laptop;
    let mut states: Vec<Tree> = vec![here.tree()];
    let mut last = top(here);
    for turn in 0..rng.usize(2..5) {
        if rng.bool() {
            act(&mut rng, &pair.server, &format!("TOKEN-s{turn}"));
            let _ran = pair.server.once();
        }
        act(&mut rng, here, &format!("TOKEN-l{turn}"));
        let ran = here.once();
        assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
        let now = top(here);
        // What was written here and what came in are operations of their own.
        if now == last + 1 {
            states.push(here.tree());
        } else if now > last {
            states = vec![here.tree()];
        }
        last = now;
    }
    let after = here.tree();
    for before in states.iter().rev().skip(1) {
        let was = here.tree();
        let _said = alone(here, &["undo", "-y", "--approve"]).ok();
        assert_eq!(here.tree(), *before, "{note}: undo");
        let _said = alone(here, &["redo", "-y", "--approve"]).ok();
        assert_eq!(here.tree(), was, "{note}: undo and redo");
        let _said = alone(here, &["undo", "-y", "--approve"]).ok();
    }
    for _ in states.iter().skip(1) {
        let _said = alone(here, &["redo", "-y", "--approve"]).ok();
    }
    assert_eq!(here.tree(), after, "{note}: forward to the end");
    pair.converge(note);
    pair.assert_settled(note);
}

fn top(host: &Host) -> u64 {
    listed(host)[0]["operation"].as_u64().unwrap()
}
