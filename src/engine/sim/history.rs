//! Commits and trees of the model: a history as a graph, trees as maps, merges by line.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::ObjectId;

/// What one write of a user left in one line: unique, so that it can be followed.
pub(super) type Token = u32;

/// The content of a file: three lines, so that two edits may touch or not touch.
pub(super) type Lines = [Token; 3];

pub(super) type Tree = BTreeMap<String, Lines>;

/// What the merge does wrong on purpose, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Nothing.
    None,
    /// In a conflict the later commit wins and the other is gone.
    LastWriterWins,
    /// Apply does not look at what it replaces.
    BlindApply,
    /// A path that was kept is committed on HEAD as if it were based on it.
    NoBases,
}

#[derive(Debug, Clone)]
struct Commit {
    parents: Vec<ObjectId>,
    tree: Tree,
    host: String,
    /// Grows with every commit, so an ancestor has the smaller number.
    number: u32,
}

/// Every commit that anybody made.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    commits: BTreeMap<ObjectId, Commit>,
}

impl History {
    pub(super) fn commit(&mut self, parents: &[ObjectId], tree: Tree, host: &str) -> ObjectId {
        let number = u32::try_from(self.commits.len()).unwrap() + 1;
        let mut raw = [0; 20];
        // Its short form, too, tells one from the other.
        raw[..3].copy_from_slice(&number.to_be_bytes()[1..]);
        let id = ObjectId::from_bytes(&raw).unwrap();
        let commit = Commit {
            parents: parents.to_vec(),
            tree,
            host: host.to_owned(),
            number,
        };
        self.commits.insert(id, commit);
        id
    }

    /// Returns a line per commit, to read beside the trace of a failure.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(id, commit): (&ObjectId, &Commit)| {
            let (parents, tree) = (&commit.parents, &commit.tree);
            format!("{id:?} {parents:?} by {} {tree:?}", commit.host)
        };
        self.commits.iter().map(line).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn tree(&self, commit: Option<ObjectId>) -> Tree {
        commit
            .map(|commit| self.commits[&commit].tree.clone())
            .unwrap_or_default()
    }

    pub(super) fn host(&self, commit: ObjectId) -> &str {
        &self.commits[&commit].host
    }

    fn ancestors(&self, commit: ObjectId) -> BTreeSet<ObjectId> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![commit];
        while let Some(commit) = todo.pop() {
            if seen.insert(commit) {
                todo.extend(&self.commits[&commit].parents);
            }
        }
        seen
    }

    /// Returns whether `commit` is `other` or came after it.
    pub(super) fn contains(&self, commit: ObjectId, other: ObjectId) -> bool {
        self.ancestors(commit).contains(&other)
    }

    /// Returns the newest commit that both have.
    fn base(&self, one: ObjectId, other: ObjectId) -> Option<ObjectId> {
        let others = self.ancestors(other);
        self.ancestors(one)
            .into_iter()
            .filter(|commit| others.contains(commit))
            .max_by_key(|commit| self.commits[commit].number)
    }

    /// Merges two commits; `keeps` keeps the name where both changed the same line.
    pub(super) fn merge(
        &mut self,
        keeps: ObjectId,
        other: ObjectId,
        host: &str,
        mutant: Mutant,
    ) -> ObjectId {
        let base = self.tree(self.base(keeps, other));
        let (ours, theirs) = (&self.commits[&keeps], &self.commits[&other]);
        let later_wins = (mutant == Mutant::LastWriterWins).then_some(theirs.number > ours.number);
        let tree = merge_trees(&base, &ours.tree, &theirs.tree, &theirs.host, later_wins);
        self.commit(&[keeps, other], tree, host)
    }
}

/// Returns the merged tree. With `other_wins` given, conflicts make no copy.
fn merge_trees(
    base: &Tree,
    keeps: &Tree,
    other: &Tree,
    other_host: &str,
    other_wins: Option<bool>,
) -> Tree {
    let paths: BTreeSet<&String> = base
        .keys()
        .chain(keeps.keys())
        .chain(other.keys())
        .collect();
    let mut merged = Tree::new();
    let mut copies = Tree::new();
    for path in paths {
        let (b, h, l) = (base.get(path), keeps.get(path), other.get(path));
        let stands = if h == l || b == l {
            h.copied()
        } else if b == h {
            l.copied()
        } else {
            match (h, l) {
                (Some(h), Some(l)) => match b.and_then(|b| merge_lines(b, h, l)) {
                    Some(lines) => Some(lines),
                    None if other_wins.is_some() => {
                        Some(if other_wins == Some(true) { *l } else { *h })
                    }
                    None => {
                        copies.insert(copy_name(path, other_host, l), *l);
                        Some(*h)
                    }
                },
                // An edit beats a delete.
                (one, None) | (None, one) => one.copied(),
            }
        };
        if let Some(lines) = stands {
            merged.insert(path.clone(), lines);
        }
    }
    for (name, lines) in copies {
        // An older copy of the same version may have been edited since: it is not overwritten.
        let mut free = name.clone();
        for number in 2.. {
            if merged.get(&free).is_none_or(|there| *there == lines) {
                break;
            }
            free = format!("{name} {number}");
        }
        merged.insert(free, lines);
    }
    merged
}

fn merge_lines(base: &Lines, keeps: &Lines, other: &Lines) -> Option<Lines> {
    let mut merged = *keeps;
    for (at, line) in merged.iter_mut().enumerate() {
        if keeps[at] == other[at] || base[at] == other[at] {
            continue;
        }
        if base[at] != keeps[at] {
            return None;
        }
        *line = other[at];
    }
    Some(merged)
}

fn copy_name(path: &str, host: &str, lines: &Lines) -> String {
    let stem = path.split(" (conflict").next().unwrap_or(path);
    let [a, b, c] = lines;
    format!("{stem} (conflict {host} {a}-{b}-{c})")
}
