//! Names, contents and trees of the model: small enough to be compared and copied all the time.
//!
//! Invariant: a [`Tree`] never holds a path and something below it.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::names::RepoPath;

/// What one write of a user left in one line: unique, so that it can be followed.
pub(super) type Token = u32;

/// A name that exists in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(u16);

/// What is at a path: three lines, so that two edits may touch or not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) lines: [Token; 3],
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Executable,
    /// Its first line is where it leads.
    Link,
}

/// Every name of a world, and what lies above each.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<Name>,
    known: BTreeMap<String, Path>,
}

#[derive(Debug)]
struct Name {
    text: String,
    path: RepoPath,
    above: Vec<Path>,
}

impl Names {
    /// Returns the path of this name.
    pub(super) fn path(&mut self, text: &str) -> Path {
        if let Some(path) = self.known.get(text) {
            return *path;
        }
        let above = match text.rsplit_once('/') {
            Some((parent, _)) => {
                let parent = self.path(parent);
                let mut above = self.list[usize::from(parent.0)].above.clone();
                above.push(parent);
                above
            }
            None => Vec::new(),
        };
        let path = Path(u16::try_from(self.list.len()).unwrap());
        self.list.push(Name {
            text: text.to_owned(),
            path: RepoPath::new(text).unwrap(),
            above,
        });
        self.known.insert(text.to_owned(), path);
        path
    }

    pub(super) fn known(&self, path: &RepoPath) -> Option<Path> {
        let text = std::str::from_utf8(path.as_bytes()).unwrap();
        self.known.get(text).copied()
    }

    pub(super) fn text(&self, path: Path) -> &str {
        &self.list[usize::from(path.0)].text
    }

    pub(super) fn repo_path(&self, path: Path) -> RepoPath {
        self.list[usize::from(path.0)].path.clone()
    }

    /// Returns whether `path` lies below `dir`.
    pub(super) fn is_below(&self, path: Path, dir: Path) -> bool {
        self.list[usize::from(path.0)].above.contains(&dir)
    }

    /// Returns the path that lies below `to` as `path` does below `from`.
    pub(super) fn moved(&mut self, path: Path, from: Path, to: &str) -> Path {
        let rest = &self.text(path)[self.text(from).len()..];
        let text = format!("{to}{rest}");
        self.path(&text)
    }
}

/// What is at every path. A copy costs nothing until it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tree(Rc<Vec<(Path, Content)>>);

impl Tree {
    pub(super) fn get(&self, path: Path) -> Option<Content> {
        for (at, content) in self.0.iter() {
            if *at == path {
                return Some(*content);
            }
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Path, Content)> {
        self.0.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts something, or nothing, at a path. What cannot be beside it must be gone before.
    pub(super) fn put(&mut self, path: Path, content: Option<Content>) -> Option<Content> {
        let entries = Rc::make_mut(&mut self.0);
        let mut at = 0;
        while at < entries.len() && entries[at].0 < path {
            at += 1;
        }
        let there = at < entries.len() && entries[at].0 == path;
        match (there, content) {
            (true, Some(new)) => Some(std::mem::replace(&mut entries[at].1, new)),
            (true, None) => Some(entries.remove(at).1),
            (false, Some(new)) => {
                entries.insert(at, (path, new));
                None
            }
            (false, None) => None,
        }
    }

    /// Returns what cannot be beside a file at this path: the file that is a directory above it,
    /// and all that is below it.
    pub(super) fn in_the_way(&self, names: &Names, path: Path) -> Vec<(Path, Content)> {
        self.iter()
            .filter(|(other, _)| names.is_below(*other, path) || names.is_below(path, *other))
            .collect()
    }

    /// Puts something at a path, in place of all that cannot be beside it.
    pub(super) fn put_over(&mut self, names: &Names, path: Path, content: Option<Content>) {
        if content.is_some() {
            for (other, _) in self.in_the_way(names, path) {
                self.put(other, None);
            }
        }
        self.put(path, content);
    }

    pub(super) fn has_token(&self, token: Token) -> bool {
        for (_, content) in self.0.iter() {
            if content.lines.contains(&token) {
                return true;
            }
        }
        false
    }

    /// Returns a hash of all that is in it.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = Hash::default();
        for (path, content) in self.0.iter() {
            hash.take(u64::from(path.0));
            hash.take(content.kind as u64);
            for line in content.lines {
                hash.take(u64::from(line));
            }
        }
        hash.0
    }

    /// Returns it in words.
    pub(super) fn show(&self, names: &Names) -> String {
        let show = |(path, content): (Path, Content)| {
            format!("{}={:?}{:?}", names.text(path), content.kind, content.lines)
        };
        self.iter().map(show).collect::<Vec<_>>().join(" ")
    }
}

/// FNV, a word at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(pub(super) u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(super) fn take(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }
}

impl Tree {
    /// Returns whether there is anything below a directory.
    pub(super) fn any_below(&self, names: &Names, dir: Path) -> bool {
        self.0.iter().any(|(path, _)| names.is_below(*path, dir))
    }
}
