//! What the user's index says, as far as a snapshot must know it.
//!
//! [`IndexView`] is read by the program when the index was changed by somebody else, and carried
//! forward by ourselves when it was changed by our own step S8, so that no snapshot pays for the
//! size of the index.

use std::collections::{BTreeMap, BTreeSet};

use super::gate::Stamp;
use super::tree::Entry;
use super::{Git, GitError, unparsable};
use crate::names::{ObjectId, RepoPath};

/// The parts of an index that a snapshot must respect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexView {
    /// The index file that this was read from; `None` if there is none.
    pub stamp: Option<Stamp>,
    /// Paths with skip-worktree or assume-unchanged set.
    pub flagged: BTreeSet<RepoPath>,
    /// Paths whose staged entry differs from HEAD's, with what is staged (`None`: removed).
    pub staged: BTreeMap<RepoPath, Option<Entry>>,
    /// Whether there are unmerged entries.
    pub unmerged: bool,
}

impl IndexView {
    /// Reads the index and compares it with a commit.
    pub fn read(git: &Git, head: Option<ObjectId>) -> Result<Self, GitError> {
        let stamp = Stamp::of(&git.dir().join("index"));
        let mut view = Self {
            stamp,
            ..Self::default()
        };
        if stamp.is_none() {
            return Ok(view);
        }
        for line in records(&git.call("ls-files", ["-v", "-z"], b"")?) {
            let (tag, path) = (line.first().copied(), line.get(2..));
            let (Some(tag), Some(path)) = (tag, path) else {
                return Err(unparsable("ls-files", line));
            };
            match tag {
                b'H' => {}
                b'M' => view.unmerged = true,
                // `S` is skip-worktree; a small letter is assume-unchanged.
                _ => {
                    view.flagged.insert(RepoPath::new(path)?);
                }
            }
        }
        match head {
            Some(head) => {
                let args = [
                    "--cached",
                    "--raw",
                    "-z",
                    "--no-renames",
                    "--no-abbrev",
                    &head.to_string(),
                    "--",
                ];
                let out = git.call("diff-index", args, b"")?;
                let mut parts = records(&out);
                while let (Some(change), Some(path)) = (parts.next(), parts.next()) {
                    let (path, entry) = raw_change(change, path)?;
                    view.staged.insert(path, entry);
                }
            }
            None => {
                for (path, entry) in entries(git, &[])? {
                    view.staged.insert(path, Some(entry));
                }
            }
        }
        Ok(view)
    }
}

/// Returns the entries of the index (stage 0) at these paths, or all of them for no paths.
pub fn entries(git: &Git, paths: &[RepoPath]) -> Result<BTreeMap<RepoPath, Entry>, GitError> {
    entries_of(git.command("ls-files"), paths)
}

/// As [`entries`], of another index file.
pub fn entries_of(
    mut command: std::process::Command,
    paths: &[RepoPath],
) -> Result<BTreeMap<RepoPath, Entry>, GitError> {
    use std::os::unix::ffi::OsStrExt;
    command.args(["--stage", "-z", "--"]);
    for path in paths {
        command.arg(std::ffi::OsStr::from_bytes(path.as_bytes()));
    }
    let out = super::run(&mut command, b"", super::LOCAL, "ls-files")?.stdout;
    let mut found = BTreeMap::new();
    for line in records(&out) {
        let bad = || unparsable("ls-files", line);
        let tab = line.iter().position(|b| *b == b'\t').ok_or_else(bad)?;
        let mut words = line[..tab].split(|b| *b == b' ');
        let mode = words.next().and_then(octal).ok_or_else(bad)?;
        let id = ObjectId::from_hex(words.next().ok_or_else(bad)?)?;
        if words.next() == Some(b"0") {
            found.insert(RepoPath::new(&line[tab + 1..])?, Entry { mode, id });
        }
    }
    Ok(found)
}

/// Reads one change of git's raw diff form (`:MODE MODE ID ID STATUS`) with its path.
///
/// Returns what the new side has.
pub fn raw_change(change: &[u8], path: &[u8]) -> Result<(RepoPath, Option<Entry>), GitError> {
    let bad = || unparsable("diff", change);
    let mut words = change
        .strip_prefix(b":")
        .ok_or_else(bad)?
        .split(|b| *b == b' ');
    let (_, mode, _) = (words.next(), words.next(), words.next());
    let mode = mode.and_then(octal).ok_or_else(bad)?;
    let id = ObjectId::from_hex(words.next().ok_or_else(bad)?)?;
    Ok((
        RepoPath::new(path)?,
        (mode != 0).then_some(Entry { mode, id }),
    ))
}

/// Splits `-z` output.
pub fn records(out: &[u8]) -> impl Iterator<Item = &[u8]> {
    out.split(|b| *b == 0).filter(|record| !record.is_empty())
}

fn octal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}
