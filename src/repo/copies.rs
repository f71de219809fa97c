//! Conflict copies: how they are named, where they stand, and which are still there.
//!
//! A copy is called `stem (conflict HOST YYYY-MM-DD oid7).ext`. HOST and date are those of the
//! commit that lost, the date in that commit's own zone, so every host names it alike. Where files
//! are loaded by merely being there (`*.d/`, `systemd/`, hidden names), `.conflict` comes last.
//!
//! Invariants:
//! 1. A copy never replaces anything: neither in the merged tree, nor in either side's, nor on
//!    this disk.
//! 2. The trailers `Autosync-Conflict: path -> copy` of the merge commits are the record; a name
//!    alone makes no conflict.

use std::collections::BTreeSet;

use super::copy_name::{Origin, copy_name, fit_for_a_name, is_loaded, suffix, without_suffix};
use super::{Place, RepoError, filter};
use crate::clock;
use crate::engine::event::ConflictCopy;
use crate::git::objects::Commit;
use crate::git::tree::{Edits, Entry};
use crate::git::{LOCAL, run, unparsable};
use crate::names::{ObjectId, RepoPath};

/// The trailer that names a path and its copy.
pub const TRAILER: &str = "Autosync-Conflict";

/// How far back the commit that made a version is looked for.
const DEPTH: usize = 1000;

/// A version that lost its place and is to stand beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loser {
    /// The path that both sides changed.
    pub(super) path: RepoPath,
    /// The version: a file, a link, a submodule, or a whole directory.
    pub(super) entry: Entry,
}

/// Finds the commit that brought a version to a path, going back from `tip`.
pub(super) fn origin(
    place: &Place,
    tip: ObjectId,
    path: &RepoPath,
    entry: Entry,
) -> Result<Origin, RepoError> {
    let has = |commit: &Commit| -> Result<bool, RepoError> {
        let found = place.objects.entry(commit.tree, path)?;
        Ok(found.is_some_and(|found| found.id == entry.id))
    };
    let mut commit = place.objects.commit(tip)?;
    if has(&commit)? {
        'back: for _ in 0..DEPTH {
            for parent in &commit.parents {
                // A shallow clone names parents that it does not have.
                let Ok(older) = place.objects.commit(*parent) else {
                    continue;
                };
                if has(&older)? {
                    commit = older;
                    continue 'back;
                }
            }
            break;
        }
    }
    let host = commit.trailers("Autosync-Host").pop();
    let host = host.unwrap_or_else(|| String::from_utf8_lossy(&commit.author).into_owned());
    Ok(Origin {
        host: fit_for_a_name(&host),
        since: clock::wall_in_zone(commit.seconds, commit.offset),
    })
}

/// Puts each loser beside its path.
///
/// Returns the edits to make to `tree` and what to tell about them. A loser of which there is
/// such a copy already makes none; but a copy that was there before both sides began does not
/// count: who brought its version back from there (by a rename, say, of which only the one half is
/// committed) may be about to remove it there.
pub(super) fn put_beside(
    place: &Place,
    tree: ObjectId,
    base: ObjectId,
    sides: &[ObjectId],
    local: ObjectId,
    losers: &[Loser],
) -> Result<(Edits, Vec<ConflictCopy>), RepoError> {
    let mut edits = Edits::new();
    let mut told = Vec::new();
    for loser in losers {
        let origin = origin(place, local, &loser.path, loser.entry)?;
        let at = standing_place(place, tree, &edits, &loser.path)?;
        let is_old = || already_there(place, base, &Edits::new(), &at, loser.entry);
        if already_there(place, tree, &edits, &at, loser.entry)? && !is_old()? {
            continue;
        }
        let copy = free_name(place, (tree, sides), &edits, &at, loser.entry, &origin)?;
        edits.insert(copy.clone(), Some(loser.entry));
        told.push(ConflictCopy {
            path: loser.path.clone(),
            copy,
            host: origin.host,
            since: origin.since,
        });
    }
    Ok((edits, told))
}

/// Returns the path itself, or, if something above it is no directory, the same name beside that.
fn standing_place(
    place: &Place,
    tree: ObjectId,
    edits: &Edits,
    path: &RepoPath,
) -> Result<RepoPath, RepoError> {
    let mut at = path.clone();
    for dir in path.ancestors() {
        let there = match edits.get(&dir) {
            Some(entry) => *entry,
            None => place.objects.entry(tree, &dir)?,
        };
        if there.is_some_and(|entry| !entry.is_tree()) {
            at = match dir.parent() {
                Some(parent) => parent.join(path.file_name())?,
                None => RepoPath::new(path.file_name())?,
            };
        }
    }
    Ok(at)
}

/// Returns whether a copy of this very version stands beside the path.
fn already_there(
    place: &Place,
    tree: ObjectId,
    edits: &Edits,
    path: &RepoPath,
    entry: Entry,
) -> Result<bool, RepoError> {
    let original = |name: &[u8]| {
        let (stem, ext) = without_suffix(name);
        [stem, ext.unwrap_or_default()].concat()
    };
    let wanted = original(path.file_name());
    let same = |name: &[u8]| suffix(name).is_some() && original(name) == wanted;
    let kind = |mode: u32| mode & 0o170_000;
    let equal = |other: Entry| other.id == entry.id && kind(other.mode) == kind(entry.mode);
    let planned = edits.iter().any(|(other, planned)| {
        planned.is_some_and(equal) && other.parent() == path.parent() && same(other.file_name())
    });
    let dir = match path.parent() {
        Some(parent) => place.objects.entry(tree, &parent)?,
        None => Some(Entry {
            mode: crate::git::tree::DIRECTORY,
            id: tree,
        }),
    };
    let Some(dir) = dir.filter(|dir| !planned && dir.is_tree()) else {
        return Ok(planned);
    };
    let lines = place.objects.tree(dir.id)?;
    Ok(lines
        .iter()
        .any(|line| equal(line.entry) && same(&line.name)))
}

/// Returns a name for the copy at which nothing stands yet.
fn free_name(
    place: &Place,
    (tree, sides): (ObjectId, &[ObjectId]),
    edits: &Edits,
    path: &RepoPath,
    entry: Entry,
    origin: &Origin,
) -> Result<RepoPath, RepoError> {
    let mut inert = is_loaded(path);
    let mut nth = 1;
    loop {
        let name = copy_name(path.file_name(), entry, origin, inert, nth);
        let copy = match path.parent() {
            Some(parent) => parent.join(name)?,
            None => RepoPath::new(name)?,
        };
        let mut taken = edits.contains_key(&copy);
        for tree in std::iter::once(&tree).chain(sides) {
            taken |= place.objects.entry(*tree, &copy)?.is_some();
        }
        if taken || place.on_disk(&copy).symlink_metadata().is_ok() {
            nth += 1;
        } else if !inert && is_ignored(place, &copy) {
            inert = true;
        } else {
            return Ok(copy);
        }
    }
}

/// Returns whether git would ignore a new file of this name.
fn is_ignored(place: &Place, path: &RepoPath) -> bool {
    // A name beyond a link is an error for git; there is nothing to ignore then.
    filter::ignored(place, &[path]).is_ok_and(|ignored| !ignored.is_empty())
}

/// Returns the value of the trailer for a copy.
pub(super) fn trailer(path: &RepoPath, copy: &RepoPath) -> String {
    format!("{} -> {}", quote(path), quote(copy))
}

/// Reads the value of the trailer: the path and its copy.
pub(super) fn read_trailer(value: &str) -> Option<(RepoPath, RepoPath)> {
    let (path, rest) = unquote(value)?;
    let (copy, rest) = unquote(rest.strip_prefix(" -> ")?)?;
    let paths = (RepoPath::new(path).ok()?, RepoPath::new(copy).ok()?);
    rest.is_empty().then_some(paths)
}

/// Returns a path as git quotes it: in quotes with octal escapes if anything needs them.
fn quote(path: &RepoPath) -> String {
    let plain = std::str::from_utf8(path.as_bytes()).ok().filter(|text| {
        *text == crate::names::escape(text.as_bytes())
            && !text.contains(['"', '\\'])
            && !text.contains(" -> ")
            && text.trim() == *text
    });
    if let Some(text) = plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for byte in path.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.extend(format!("\\{byte:03o}").chars()),
        }
    }
    out.push('"');
    out
}

/// Reads one quoted or plain path off the front; returns it and the rest.
fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(" -> ").unwrap_or(text.len());
        return Some((text.as_bytes()[..end].to_vec(), &text[end..]));
    };
    let (mut out, bytes) = (Vec::new(), quoted.as_bytes());
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some((out, &quoted[at + 1..])),
            b'\\' => {
                if let byte @ (b'"' | b'\\') = *bytes.get(at + 1)? {
                    out.push(byte);
                    at += 2;
                } else {
                    let digits = quoted.get(at + 1..at + 4)?;
                    out.push(u8::from_str_radix(digits, 8).ok()?);
                    at += 4;
                }
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Returns the conflict copies that merges made and that still stand in the tree of `tip`, newest
/// first.
pub fn conflicts(place: &Place, tip: ObjectId) -> Result<Vec<ConflictCopy>, RepoError> {
    conflicts_since(place, tip, None)
}

/// As [`conflicts`], of the merges that `tip` contains and `since` does not. Costs what lies
/// between them, not the whole history.
pub fn conflicts_since(
    place: &Place,
    tip: ObjectId,
    since: Option<ObjectId>,
) -> Result<Vec<ConflictCopy>, RepoError> {
    let mut command = place.git.command("log");
    command.args(["--format=%H", "--fixed-strings"]);
    command.arg(format!("--grep={TRAILER}: "));
    command.arg(tip.to_string());
    command.args(since.map(|since| format!("^{since}")));
    command.arg("--");
    let out = run(&mut command, b"", LOCAL, "log")?.stdout;
    let tree = place.objects.commit(tip)?.tree;
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for line in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let merge = ObjectId::from_hex(line).map_err(|_| unparsable("log", line))?;
        let commit = place.objects.commit(merge)?;
        for value in commit.trailers(TRAILER) {
            let Some((path, copy)) = read_trailer(&value) else {
                continue;
            };
            let there = place.objects.entry(tree, &copy)?;
            let made = place.objects.entry(commit.tree, &copy)?;
            let (Some(_), Some(made)) = (there, made) else {
                continue;
            };
            if !seen.insert(copy.clone()) {
                continue;
            }
            // What lost came from the second parent, or from before the first contact.
            let loser = commit.parents.get(1).copied().unwrap_or(merge);
            let at = if commit.parents.len() > 1 {
                &path
            } else {
                &copy
            };
            let origin = origin(place, loser, at, made)?;
            found.push(ConflictCopy {
                path,
                copy,
                host: origin.host,
                since: origin.since,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_says_any_path_and_is_read_back() {
        let names: &[&[u8]] = &[
            b"a b",
            b"a -> b",
            b"\"q\"",
            b"\xff\n\\",
            "\u{e4}\u{202e}".as_bytes(),
            b" x",
        ];
        for a in names {
            for b in names {
                let (a, b) = (RepoPath::new(a).unwrap(), RepoPath::new(b).unwrap());
                let value = trailer(&a, &b);
                assert!(!value.contains('\n'));
                assert_eq!(read_trailer(&value), Some((a, b)), "{value}");
            }
        }
        assert_eq!(read_trailer("nothing"), None);
        assert_eq!(read_trailer("\"\\x"), None);
    }
}
