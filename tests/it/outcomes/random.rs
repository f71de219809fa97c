//! Random edits on both sides: nothing that somebody wrote is lost, nothing is made up, and where
//! git finds no conflict, our tree is git's.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use autosync::names::ObjectId;
use autosync::repo::merge::{Prefer, merge};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::lab::{Lab, created};
use super::table::{Node, Tree};

/// The names that operations choose from: files, and files below other names.
const NAMES: &[&str] = &["a", "b", "c/x", "c/y", "c/d/z", "e", "e/f", "a/g", "n", "m"];

/// One operation of one side.
#[derive(Debug, Clone)]
enum Op {
    Edit(usize, usize),
    Delete(usize),
    Rename(usize, usize),
    Chmod(usize),
    Link(usize),
    Add(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), 0..8_usize).prop_map(|(at, line)| Op::Edit(at, line)),
        2 => name.clone().prop_map(Op::Delete),
        3 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => name.clone().prop_map(Op::Chmod),
        1 => name.clone().prop_map(Op::Link),
        2 => name.prop_map(Op::Add),
    ]
}

fn lines(text: &str) -> Vec<u8> {
    (0..8)
        .flat_map(|line| format!("{text} line {line} of {text}\n").into_bytes())
        .collect()
}

fn base() -> Tree {
    let file = |name: &&str| {
        let node = Node::File(lines(name), false);
        ((*name).to_owned(), node)
    };
    let mut tree: Tree = NAMES[..6].iter().map(file).collect();
    tree.insert("o".to_owned(), Node::File(lines("o"), false));
    tree
}

/// Makes room for a name: whatever is above or below it goes.
fn make_room(tree: &mut Tree, name: &str) {
    tree.retain(|path, _| {
        !path.starts_with(&format!("{name}/")) && !name.starts_with(&format!("{path}/"))
    });
}

fn apply(tree: &mut Tree, side: &str, number: usize, op: &Op) {
    match op {
        Op::Edit(at, line) => {
            if let Some(Node::File(content, _)) = tree.get_mut(NAMES[*at]) {
                let text = String::from_utf8(content.clone()).unwrap();
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                if let Some(line) = lines.get_mut(*line) {
                    *line = format!("written by {side} as its operation {number}");
                }
                *content = (lines.join("\n") + "\n").into_bytes();
            }
        }
        Op::Delete(at) => {
            tree.remove(NAMES[*at]);
        }
        Op::Rename(from, to) => {
            if from != to
                && let Some(node) = tree.remove(NAMES[*from])
            {
                make_room(tree, NAMES[*to]);
                tree.insert(NAMES[*to].to_owned(), node);
            }
        }
        Op::Chmod(at) => {
            if let Some(Node::File(_, executable)) = tree.get_mut(NAMES[*at]) {
                *executable = true;
            }
        }
        Op::Link(at) => {
            make_room(tree, NAMES[*at]);
            let target = format!("target-of-{side}-{number}");
            tree.insert(NAMES[*at].to_owned(), Node::Link(target));
        }
        Op::Add(at) => {
            make_room(tree, NAMES[*at]);
            let content = lines(&format!("new by {side} {number}"));
            tree.insert(NAMES[*at].to_owned(), Node::File(content, false));
        }
    }
}

fn side(name: &str, ops: &[Op]) -> Tree {
    let mut tree = base();
    for (number, op) in ops.iter().enumerate() {
        apply(&mut tree, name, number, op);
    }
    tree
}

/// Returns every line of every file, and every link.
fn tokens(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for node in tree.values() {
        match node {
            Node::File(content, _) => {
                let text = String::from_utf8(content.clone()).unwrap();
                found.extend(text.lines().map(str::to_owned));
            }
            Node::Link(target) => {
                found.insert(target.clone());
            }
            Node::Submodule(_) => {}
        }
    }
    found
}

/// Returns git's own merged tree, if it finds no conflict.
fn by_git(lab: &Lab, hub: ObjectId, local: ObjectId) -> Option<ObjectId> {
    let git = &lab.place.git;
    git.set_config("merge.directoryRenames", "false").unwrap();
    let args = ["--write-tree", "-z", &hub.to_string(), &local.to_string()];
    let done = git.ask("merge-tree", args, b"").unwrap();
    let tree = done.stdout.split(|b| *b == 0).next().unwrap_or_default();
    match done.status.code() {
        Some(0) => ObjectId::from_hex(tree).ok(),
        Some(1) => None,
        other => panic!("{other:?}"),
    }
}

fn check(lab: &Lab, h: &Tree, l: &Tree) -> bool {
    let base_tree = base();
    let parent = lab.commit("server", &base_tree, &[]);
    let hub = lab.commit("server", h, &[parent]);
    let local = lab.commit("laptop", l, &[parent]);
    let merged = merge(&lab.place, hub, local, Prefer::Hub).unwrap();
    let commit = created(&merged).0;
    let found: Tree = lab
        .list_raw(commit)
        .into_iter()
        .map(|(path, node)| (String::from_utf8(path).unwrap(), node))
        .collect();

    let (before, after) = (tokens(&base_tree), tokens(&found));
    let written: BTreeSet<String> = tokens(h).union(&tokens(l)).cloned().collect();
    for token in written.difference(&before) {
        assert!(after.contains(token), "lost: {token}\n{found:?}");
    }
    for token in &after {
        assert!(written.contains(token), "made up: {token}\n{found:?}");
    }

    let silent = merge(&lab.place, hub, local, Prefer::LocalSilently).unwrap();
    let (silent, copies) = created(&silent);
    assert_eq!(copies, []);
    let after = tokens(&lab.list(silent));
    for token in tokens(l).difference(&before) {
        assert!(after.contains(token), "the local side's: {token}");
    }
    assert!(after.is_subset(&written), "made up");

    let tree = lab.place.objects.commit(commit).unwrap().tree;
    let git = by_git(lab, hub, local);
    if let Some(git) = git {
        assert_eq!(tree, git, "git merges this cleanly, and otherwise");
    }
    git.is_some()
}

/// Runs `test` on random input; it says of each whether git found no conflict. Both kinds must
/// have come.
fn run<T: std::fmt::Debug>(
    strategy: &impl Strategy<Value = T>,
    least: [usize; 2],
    test: impl Fn(&Lab, T) -> bool,
) {
    let lab = Lab::new();
    let counts = [Cell::new(0), Cell::new(0)];
    let config = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(strategy, |input| {
        let count = &counts[usize::from(test(&lab, input))];
        count.set(count.get() + 1);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    for (count, least) in counts.iter().zip(least) {
        assert!(count.get() >= least, "{counts:?}");
    }
}

#[test]
fn nothing_is_lost_and_nothing_made_up() {
    let ops = || prop::collection::vec(op(), 1..6);
    run(&(ops(), ops()), [30, 15], |lab, (h, l)| {
        check(lab, &side("hub", &h), &side("laptop", &l))
    });
}

#[test]
fn an_edit_moved_into_a_directory_that_gives_way_returns_to_its_name() {
    let lab = Lab::new();
    let hub = side("hub", &[Op::Rename(1, 6)]);
    let laptop = side("laptop", &[Op::Add(5), Op::Add(1)]);
    check(&lab, &hub, &laptop);
}

#[test]
fn changes_to_different_names_come_out_as_with_git() {
    let ops = prop::collection::vec((op(), any::<bool>()), 1..8);
    run(&ops, [0, 100], |lab, ops| {
        // Each name belongs to one side, as decided by the first operation on it.
        let mut owners = BTreeMap::new();
        let (mut h, mut l) = (Vec::new(), Vec::new());
        for (op, of_hub) in ops {
            let names = match &op {
                Op::Edit(a, _) | Op::Delete(a) | Op::Chmod(a) | Op::Link(a) | Op::Add(a) => {
                    vec![*a]
                }
                Op::Rename(a, b) => vec![*a, *b],
            };
            let owned = |name: &usize| owners.get(name).is_none_or(|owner| *owner == of_hub);
            if names.iter().all(owned) {
                owners.extend(names.iter().map(|name| (*name, of_hub)));
                if of_hub { &mut h } else { &mut l }.push(op);
            }
        }
        check(lab, &side("hub", &h), &side("laptop", &l))
    });
}
