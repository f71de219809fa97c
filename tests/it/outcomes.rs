//! What must come out of every pair of operations, at the level of merges.

pub(crate) mod agents;
mod contact;
pub(crate) mod hosts;
pub(crate) mod lab;
mod markers;
mod names;
pub(crate) mod person;
mod random;
mod rewritten;
mod rules;
pub(crate) mod table;

use std::path::Path;

use autosync::names::ObjectId;
use autosync::repo::merge::{Prefer, merge};

use lab::{Lab, created};
use table::{Cell, Node, cells};

/// Runs one cell; returns what is wrong with its outcome.
fn check(lab: &Lab, cell: &Cell) -> Option<String> {
    let base = lab.commit("server", &cell.base, &[]);
    let hub = lab.commit("server", &cell.h, &[base]);
    let local = lab.commit("laptop", &cell.l, &[base]);
    // Where a side did nothing at all, its own commit still makes it a merge.
    let merged = || created(&merge(&lab.place, hub, local, Prefer::Hub).unwrap());
    let (commit, copies) = merged();
    let found = lab.list(commit);
    if found != cell.expect {
        return Some(format!(
            "found {}, wanted {}",
            names(&found),
            names(&cell.expect)
        ));
    }
    let made = found.keys().filter(|path| path.contains("{copy}"));
    let mut made: Vec<&str> = made
        .map(|path| path.split("{copy}").next().unwrap())
        .collect();
    made.dedup();
    if made.len() != copies.len() {
        return Some(format!("{} copies told, {} made", copies.len(), made.len()));
    }
    for (path, node) in &found {
        if let Node::File(content, _) = node
            && (content.starts_with(b"<<<<<<<") || content.windows(8).any(|w| w == b"\n<<<<<<<"))
        {
            return Some(format!("conflict markers in {path}"));
        }
    }
    if lab.place.objects.commit(commit).unwrap().parents != [hub, local] {
        return Some("the versions are not all in the history".to_owned());
    }
    let tree = |id: ObjectId| lab.place.objects.commit(id).unwrap().tree;
    (tree(merged().0) != tree(commit)).then(|| "not deterministic".to_owned())
}

pub(crate) fn names(tree: &table::Tree) -> String {
    let show = |node: &Node| match node {
        Node::File(content, executable) => {
            let text = String::from_utf8_lossy(content);
            let edited: Vec<&str> = text.lines().filter(|l| l.contains("edited")).collect();
            let first = text.lines().next().unwrap_or_default();
            format!("{first:?}{edited:?}{}", if *executable { "+x" } else { "" })
        }
        Node::Link(_) | Node::Submodule(_) => format!("{node:?}"),
    };
    let all: Vec<String> = tree
        .iter()
        .filter(|(path, _)| *path != "o")
        .map(|(path, node)| format!("{path}={}", show(node)))
        .collect();
    format!("[{}]", all.join(" "))
}

fn whole_table(program: &Path, format: &str, wanted: impl Fn(&Cell) -> bool) {
    let lab = Lab::with(program, format);
    let mut wrong = Vec::new();
    let mut count = 0;
    for cell in cells().iter().filter(|cell| wanted(cell)) {
        count += 1;
        if let Some(what) = check(&lab, cell) {
            wrong.push(format!("{}: {what}", cell.name));
        }
    }
    assert!(count > 5);
    assert!(
        wrong.is_empty(),
        "{} of {count} with {}:\n{}",
        wrong.len(),
        program.display(),
        wrong.join("\n")
    );
    lab.fsck();
}

#[test]
fn every_cell_comes_out_as_written_with_every_git() {
    for program in lab::programs() {
        whole_table(&program, "sha1", |_| true);
    }
}

#[test]
fn merges_come_out_the_same_in_a_sha256_repository() {
    let some = [
        "file: edit / edit, lines apart",
        "file: edit / edit, same line",
        "file: edit / directory",
        "file: symlink / directory",
        "directory: file p / edit p/a",
        "rename: rename + edit / rename + edit, two names, lines apart",
        "rename: swap / edit",
        "more: submodule moved / moved",
    ];
    whole_table(Path::new("git"), "sha256", |cell| {
        some.contains(&cell.name.as_str())
    });
}
