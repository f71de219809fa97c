//! Which paths count: the rules of git's ignore files, our own `exclude` and `only`, and the
//! names that editors use for a moment.
//!
//! The order is git's: `exclude` first, then every `.gitignore` from the path's own directory
//! upwards, then `info/exclude`, then the user's global file; the first that has an opinion
//! decides. Nothing inside an ignored directory can come back, except the files that are
//! tracked although ignored.
//!
//! Invariants:
//! 1. Where git's reading of a pattern is not certain (a line that is no UTF-8, a glob that does
//!    not parse) the path counts: a hint too many costs a look, a hint too few costs an edit.
//!
//! Absent: whether a path is tracked. The agent says which tracked paths the rules would hide.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{Mode, OFlags};

use super::tree::{NodeId, Tree};
pub use crate::names::transient::{Transient, transient};
use crate::names::{LONGEST_RULES, RepoPath};

/// The patterns of one file.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    set: Gitignore,
    print: u64,
}

impl Rules {
    /// Creates the rules from a file's bytes; `None` if it says nothing.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.trim_start_matches('\u{feff}').lines();
        Self::of(lines).map(|rules| Self {
            print: print(bytes),
            ..rules
        })
    }

    /// Creates the rules from single patterns; `None` if there is none.
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            if let Err(error) = builder.add_line(None, pattern) {
                tracing::warn!(%error, "an ignore pattern is not understood and hides nothing");
            }
        }
        let set = builder.build().ok()?;
        (!set.is_empty()).then_some(Self { set, print: 0 })
    }

    /// Reads the rules of a file; `None` if it is not there, no regular file, or says nothing.
    /// Like git, does not follow a symbolic link inside a work tree.
    pub(super) fn read(file: &Path) -> Option<Self> {
        Self::read_with(file, OFlags::NOFOLLOW)
    }

    /// Reads the rules of a file outside the work tree, which may be a symbolic link.
    pub(super) fn read_outside(file: &Path) -> Option<Self> {
        Self::read_with(file, OFlags::empty())
    }

    fn read_with(file: &Path, flags: OFlags) -> Option<Self> {
        // Without NONBLOCK a FIFO of that name would stop the watcher for ever.
        let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(file, flags, Mode::empty()).ok()?;
        let mut opened = std::fs::File::from(opened);
        if !opened.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        opened
            .by_ref()
            .take(LONGEST_RULES + 1)
            .read_to_end(&mut bytes)
            .ok()?;
        if bytes.len() as u64 > LONGEST_RULES {
            // More is watched than need be; git has the last word on what is ignored.
            return None;
        }
        Self::parse(&bytes)
    }

    /// Returns whether two readings of a file say the same.
    pub(super) fn same(one: Option<&Self>, other: Option<&Self>) -> bool {
        one.map(|rules| rules.print) == other.map(|rules| rules.print)
    }

    /// Returns whether these rules ignore the path, relative to where the rules stand, or `None`
    /// if they say nothing about it.
    fn opinion(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        match self.set.matched(as_path(path), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

fn print(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The one list of what is wanted, if the folder is only about some of its files.
#[derive(Debug)]
struct Only {
    set: Gitignore,
    /// The literal beginnings of the patterns, by component; an empty one reaches everywhere.
    beginnings: Vec<Vec<Vec<u8>>>,
}

impl Only {
    fn new(patterns: &[String]) -> Option<Self> {
        let set = Rules::of(patterns.iter().map(String::as_str))?.set;
        let wanted = patterns
            .iter()
            .filter(|pattern| !pattern.starts_with(['!', '#']));
        Some(Self {
            set,
            beginnings: wanted.map(|pattern| beginning(pattern)).collect(),
        })
    }

    /// Returns whether the path or a directory above it is wanted.
    fn wants(&self, path: &[u8], is_dir: bool) -> bool {
        self.set
            .matched_path_or_any_parents(as_path(path), is_dir)
            .is_ignore()
    }

    /// Returns whether something below the directory may be wanted.
    fn reaches(&self, dir: &[u8]) -> bool {
        self.wants(dir, true)
            || self.beginnings.iter().any(|beginning| {
                let mut parts = dir.split(|byte| *byte == b'/');
                beginning
                    .iter()
                    .all(|want| parts.next().is_none_or(|part| part == want))
            })
    }
}

fn beginning(pattern: &str) -> Vec<Vec<u8>> {
    let trimmed = pattern.trim_end().trim_end_matches('/');
    if !trimmed.contains('/') {
        return Vec::new();
    }
    trimmed
        .trim_start_matches('/')
        .split('/')
        .take_while(|part| !part.contains(['*', '?', '[', '\\']))
        .map(|part| part.as_bytes().to_vec())
        .collect()
}

/// All rules that do not stand in a directory of the tree.
#[derive(Debug, Default)]
pub(super) struct Filter {
    exclude: Option<Rules>,
    only: Option<Only>,
    /// `info/exclude` of the repository.
    pub(super) info: Option<Rules>,
    /// The user's global file.
    pub(super) global: Option<Rules>,
    /// Tracked paths that count although a rule or a transient name would hide them.
    pub(super) tracked: BTreeSet<RepoPath>,
}

impl Filter {
    /// Creates the filter with the folder's own lists.
    pub(super) fn new(exclude: &[String], only: &[String]) -> Self {
        Self {
            exclude: Rules::of(exclude.iter().map(String::as_str)),
            only: Only::new(only),
            ..Self::default()
        }
    }

    /// Returns whether the file `path`, an entry of the directory `dir`, counts.
    pub(super) fn counts(&self, tree: &Tree, dir: NodeId, path: &[u8]) -> bool {
        self.is_tracked(path)
            || (!self.hides(tree, dir, path, false)
                && self
                    .only
                    .as_ref()
                    .is_none_or(|only| only.wants(path, false)))
    }

    /// Returns whether `path` is among the tracked paths that count whatever the rules say.
    pub(super) fn is_tracked(&self, path: &[u8]) -> bool {
        !self.tracked.is_empty() && self.tracked.contains(path)
    }

    /// Returns how the directory `path`, an entry of the directory `dir`, is to be taken.
    pub(super) fn way(&self, tree: &Tree, dir: NodeId, path: &[u8]) -> Way {
        let wanted = self.only.as_ref().is_none_or(|only| only.reaches(path));
        if wanted && !self.hides(tree, dir, path, true) {
            Way::Open
        } else if self.holds_tracked(path) {
            Way::TrackedOnly
        } else {
            Way::Closed
        }
    }

    fn holds_tracked(&self, dir: &[u8]) -> bool {
        if self.tracked.is_empty() {
            return false;
        }
        let mut first = dir.to_vec();
        first.push(b'/');
        self.tracked
            .range::<[u8], _>((
                std::ops::Bound::Included(first.as_slice()),
                std::ops::Bound::Unbounded,
            ))
            .next()
            .is_some_and(|path| path.as_bytes().starts_with(&first))
    }

    fn hides(&self, tree: &Tree, dir: NodeId, path: &[u8], is_dir: bool) -> bool {
        if tree.is_tracked_only(dir) {
            return true;
        }
        let outer = |rules: &Option<Rules>| rules.as_ref()?.opinion(path, is_dir);
        outer(&self.exclude)
            .or_else(|| {
                tree.rules_upwards(dir, path)
                    .find_map(|(rules, rest)| rules.opinion(rest, is_dir))
            })
            .or_else(|| outer(&self.info))
            .or_else(|| outer(&self.global))
            .unwrap_or(false)
    }
}

/// How a directory is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It counts, and what is in it.
    Open,
    /// Only the tracked files in it count.
    TrackedOnly,
    /// It does not count.
    Closed,
}

#[cfg(test)]
mod tests;
