//! A person at work in a directory: what is done on the disk to turn one tree into another.
//!
//! A submodule is an empty directory, as after a clone; what its commit is only git is told.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::table::{Node, Tree};

/// Moves what is only under another name now, removes what is gone, writes what changed.
pub(crate) fn act(root: &Path, from: &Tree, to: &Tree) {
    let mut person = Person {
        root: root.to_owned(),
        stands: from.clone(),
        goal: to,
    };
    person.move_directories();
    person.move_files();
    person.remove();
    person.write();
}

struct Person<'a> {
    root: PathBuf,
    stands: Tree,
    goal: &'a Tree,
}

impl Person<'_> {
    fn move_directories(&mut self) {
        for dir in directories(&self.stands) {
            let new = directories(self.goal).into_iter().find(|new| {
                !holds(self.goal, &dir)
                    && !holds(&self.stands, new)
                    && below(self.goal, new) == below(&self.stands, &dir)
            });
            if let Some(new) = new {
                fs::rename(self.root.join(&dir), self.root.join(&new)).unwrap();
                for (rest, node) in below(&self.stands, &dir) {
                    self.stands.remove(&format!("{dir}/{rest}"));
                    self.stands.insert(format!("{new}/{rest}"), node);
                }
            }
        }
    }

    fn move_files(&mut self) {
        let mut gone = self.stands.clone();
        gone.retain(|path, _| !self.goal.contains_key(path));
        for (path, node) in gone {
            let goal = self.goal.iter();
            let new = goal
                .filter(|(new, goal)| **goal == node && !holds(&self.stands, new))
                // What is to be a directory may be a file yet.
                .find(|(new, _)| new.split_once('/').is_none_or(|(dir, _)| dir != path));
            if let Some((new, _)) = new {
                let at = self.root.join(new);
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::rename(self.root.join(&path), at).unwrap();
                self.stands.remove(&path);
                self.stands.insert(new.clone(), node);
                self.tidy(&path);
            }
        }
    }

    fn remove(&mut self) {
        for (path, node) in self.stands.clone() {
            let at = self.root.join(&path);
            match (&node, self.goal.get(&path)) {
                // Written to in its place.
                (Node::File(..), Some(Node::File(..)))
                | (Node::Submodule(_), Some(Node::Submodule(_))) => continue,
                (before, now) if now == Some(before) => continue,
                (Node::Submodule(_), _) => fs::remove_dir(at).unwrap(),
                (Node::File(..) | Node::Link(_), _) => fs::remove_file(at).unwrap(),
            }
            self.stands.remove(&path);
            self.tidy(&path);
        }
    }

    fn write(&self) {
        for (path, node) in self.goal {
            let at = self.root.join(path);
            let before = self.stands.get(path);
            if before == Some(node) {
                continue;
            }
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            match node {
                Node::File(content, executable) => {
                    let same = matches!(before, Some(Node::File(was, _)) if was == content);
                    if !same {
                        fs::write(&at, content).unwrap();
                    }
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
                }
                Node::Link(target) => symlink(target, at).unwrap(),
                // Nobody asked for its contents.
                Node::Submodule(_) => fs::create_dir_all(at).unwrap(),
            }
        }
    }

    /// Removes the directories that are empty now that a path is gone.
    fn tidy(&self, path: &str) {
        let mut dir = Path::new(path).parent();
        while let Some(at) = dir.filter(|at| !at.as_os_str().is_empty()) {
            if holds(&self.stands, at.to_str().unwrap()) {
                return;
            }
            fs::remove_dir(self.root.join(at)).unwrap();
            dir = at.parent();
        }
    }
}

/// Returns what is below a directory.
fn below(tree: &Tree, dir: &str) -> Tree {
    let inside = |path: &str| Some(path.strip_prefix(dir)?.strip_prefix('/')?.to_owned());
    tree.iter()
        .filter_map(|(path, node)| Some((inside(path)?, node.clone())))
        .collect()
}

/// Returns whether something stands at a path or below it.
fn holds(tree: &Tree, path: &str) -> bool {
    tree.contains_key(path) || !below(tree, path).is_empty()
}

fn directories(tree: &Tree) -> BTreeSet<String> {
    let split = tree.keys().filter_map(|path| path.split_once('/'));
    split.map(|(dir, _)| dir.to_owned()).collect()
}
