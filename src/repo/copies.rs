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

use super::{Place, RepoError, filter};
use crate::clock;
use crate::engine::event::ConflictCopy;
use crate::git::objects::Commit;
use crate::git::tree::{Edits, Entry};
use crate::git::{LOCAL, run, unparsable};
use crate::names::{ObjectId, RepoPath};

/// The trailer that names a path and its copy.
pub const TRAILER: &str = "Autosync-Conflict";

/// The longest name that a disk takes, in bytes.
const LONGEST: usize = 255;

/// How far back the commit that made a version is looked for.
const DEPTH: usize = 1000;

/// The mark at which a copy's name departs from the original's.
const MARK: &[u8] = b" (conflict ";

/// What loading directories do not load.
const INERT: &[u8] = b".conflict";

/// A version that lost its place and is to stand beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loser {
    /// The path that both sides changed.
    pub(super) path: RepoPath,
    /// The version: a file, a link, a submodule, or a whole directory.
    pub(super) entry: Entry,
}

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The host, fit for a file name.
    pub(super) host: String,
    /// When it was committed, RFC 3339 in the commit's own zone.
    pub(super) since: String,
}

impl Origin {
    fn date(&self) -> &str {
        self.since.get(..10).unwrap_or("0000-00-00")
    }
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

/// Returns a host's name without what no disk, or no copy's name, can hold.
fn fit_for_a_name(host: &str) -> String {
    let fit = |c: char| {
        let bad = c.is_control() || r#"/\<>:"|?*()"#.contains(c);
        if bad || crate::names::escape(c.to_string().as_bytes()).len() > c.len_utf8() {
            '-'
        } else {
            c
        }
    };
    let mut text: String = host.chars().map(fit).collect();
    while text.len() > 64 {
        text.pop();
    }
    let text = text.trim_matches([' ', '.']);
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

/// Puts each loser beside its path.
///
/// Returns the edits to make to `tree` and what to tell about them. A loser of which there is
/// such a copy already makes none.
pub(super) fn put_beside(
    place: &Place,
    tree: ObjectId,
    sides: &[ObjectId],
    local: ObjectId,
    losers: &[Loser],
) -> Result<(Edits, Vec<ConflictCopy>), RepoError> {
    let mut edits = Edits::new();
    let mut told = Vec::new();
    for loser in losers {
        let origin = origin(place, local, &loser.path, loser.entry)?;
        let at = standing_place(place, tree, &edits, &loser.path)?;
        if already_there(place, tree, &edits, &at, loser.entry)? {
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

/// Returns whether what appears beside this path may be loaded for being there.
fn is_loaded(path: &RepoPath) -> bool {
    let dirs = path.parent();
    let loading = |name: &[u8]| name == b"systemd" || name.ends_with(b".d");
    path.components().any(|name| name.starts_with(b"."))
        || dirs.is_some_and(|dirs| dirs.components().any(loading))
}

fn copy_name(name: &[u8], entry: Entry, origin: &Origin, inert: bool, nth: usize) -> Vec<u8> {
    let (plain, rest) = without_suffix(name);
    let (mut stem, ext) = match rest {
        Some(ext) => (plain, ext),
        None if entry.is_tree() => (plain, Vec::new()),
        None => split_extension(&plain),
    };
    let count = if nth > 1 {
        format!(" {nth}")
    } else {
        String::new()
    };
    let (host, date, short) = (&origin.host, origin.date(), entry.id.short());
    let mut tail = MARK.to_vec();
    tail.extend(format!("{host} {date} {short}{count})").bytes());
    tail.extend(ext);
    if inert {
        tail.extend_from_slice(INERT);
    }
    let room = LONGEST.saturating_sub(tail.len());
    if stem.len() > room {
        let inside = |at: usize| stem[at] & 0xc0 == 0x80;
        let at = (room.saturating_sub(3)..=room)
            .rev()
            .find(|at| !inside(*at))
            .unwrap_or(room);
        stem.truncate(at);
    }
    stem.extend(tail);
    stem
}

/// Splits `name.ext`; the extension keeps its dot and is empty where there is none.
fn split_extension(name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let at = name.iter().rposition(|b| *b == b'.').unwrap_or(0);
    let ext = &name[at..];
    let plausible = at > 0 && ext.len() > 1 && ext.len() <= 32 && !ext.contains(&b' ');
    if plausible {
        (name[..at].to_vec(), ext.to_vec())
    } else {
        (name.to_vec(), Vec::new())
    }
}

/// Returns a name without the suffix that made it a copy's: the stem, and the extension if the
/// name was a copy's and so told it.
fn without_suffix(name: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let Some((start, end)) = suffix(name) else {
        return (name.to_vec(), None);
    };
    let ext = &name[end..];
    let ext = ext.strip_suffix(INERT).unwrap_or(ext);
    (name[..start].to_vec(), Some(ext.to_vec()))
}

/// Returns where ` (conflict HOST DATE oid7)` begins and ends.
fn suffix(name: &[u8]) -> Option<(usize, usize)> {
    let start = name.windows(MARK.len()).rposition(|part| part == MARK)?;
    let inside = &name[start + MARK.len()..];
    let length = inside.iter().position(|b| *b == b')')?;
    let rest = &inside[length + 1..];
    let mut words: Vec<&[u8]> = inside[..length].split(|b| *b == b' ').collect();
    let digits = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let is_id = |word: &[u8]| word.len() == 7 && word.iter().all(u8::is_ascii_hexdigit);
    if words.len() > 3 && digits(words[words.len() - 1]) && is_id(words[words.len() - 2]) {
        words.pop();
    }
    let (id, date) = (words.pop()?, words.pop()?);
    let dated = date.len() == 10 && date.iter().all(|b| b.is_ascii_digit() || *b == b'-');
    let whole = is_id(id) && dated && !words.is_empty();
    (whole && (rest.is_empty() || rest[0] == b'.'))
        .then_some((start, start + MARK.len() + length + 1))
}

/// Returns the value of the trailer for a copy.
pub(super) fn trailer(path: &RepoPath, copy: &RepoPath) -> String {
    format!("{} -> {}", quote(path), quote(copy))
}

/// Reads the value of the trailer: the path and its copy.
fn read_trailer(value: &str) -> Option<(RepoPath, RepoPath)> {
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
    use crate::git::tree::{DIRECTORY, FILE};

    fn named(name: &[u8], mode: u32, inert: bool, nth: usize) -> Vec<u8> {
        let id = ObjectId::from_hex("0123456789".repeat(4)).unwrap();
        let origin = Origin {
            host: "my.host".to_owned(),
            since: "2026-11-20T21:42:54+01:00".to_owned(),
        };
        copy_name(name, Entry { mode, id }, &origin, inert, nth)
    }

    fn text(name: &str, mode: u32, inert: bool, nth: usize) -> String {
        String::from_utf8(named(name.as_bytes(), mode, inert, nth)).unwrap()
    }

    #[test]
    fn a_copy_keeps_stem_and_extension() {
        let mark = "(conflict my.host 2026-11-20 0123456)";
        assert_eq!(text("a.txt", FILE, false, 1), format!("a {mark}.txt"));
        assert_eq!(text("a", FILE, false, 1), format!("a {mark}"));
        assert_eq!(text("a.d", DIRECTORY, false, 1), format!("a.d {mark}"));
        assert_eq!(
            text("Mr. Smith", FILE, false, 1),
            format!("Mr. Smith {mark}")
        );
        assert_eq!(
            text(".bashrc", FILE, true, 1),
            format!(".bashrc {mark}.conflict")
        );
        assert_eq!(
            text("a.conf", FILE, true, 1),
            format!("a {mark}.conf.conflict")
        );
        assert_eq!(
            text("a.txt", FILE, false, 3),
            "a (conflict my.host 2026-11-20 0123456 3).txt"
        );
    }

    #[test]
    fn a_copy_of_a_copy_replaces_the_suffix() {
        for name in ["a.txt", ".bashrc", "a", "x.tar.gz"] {
            for inert in [false, true] {
                let once = text(name, FILE, inert, 2);
                assert_eq!(
                    text(&once, FILE, inert, 1),
                    text(name, FILE, inert, 1),
                    "{once}"
                );
            }
        }
        let not_ours = "a (conflict of interest).txt";
        assert!(text(not_ours, FILE, false, 1).starts_with("a (conflict of interest) (conflict "));
    }

    #[test]
    fn a_long_name_is_cut_at_the_border_of_a_character() {
        let long = format!("{}.txt", "\u{20ac}".repeat(90));
        let cut = text(&long, FILE, true, 10);
        assert!(cut.len() <= 255 && cut.len() > 252, "{}", cut.len());
        assert!(cut.ends_with("0123456 10).txt.conflict"));
        let raw = named(&[0xbf; 300], FILE, false, 1);
        assert_eq!(raw.len(), 255);
    }

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

    #[test]
    fn a_hosts_name_cannot_leave_its_place() {
        assert_eq!(fit_for_a_name("../a/b (x)\n\u{202e}"), "-a-b -x---");
        assert_eq!(fit_for_a_name(" . "), "unknown");
        assert!(fit_for_a_name(&"\u{20ac}".repeat(90)).len() <= 64);
    }

    #[test]
    fn files_that_are_loaded_by_being_there_are_known() {
        let loaded = |text: &str| is_loaded(&RepoPath::new(text).unwrap());
        for yes in [
            "conf.d/a",
            ".bashrc",
            ".config/a",
            "etc/systemd/x/a",
            "a/.b/c",
        ] {
            assert!(loaded(yes), "{yes}");
        }
        for no in ["a.d", "notes/a.txt", "systemd", "a.b/c"] {
            assert!(!loaded(no), "{no}");
        }
    }
}
