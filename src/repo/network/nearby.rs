//! Brings a few new commits from one repository of this machine to another without starting a
//! process: from a hub on a path, and to it.
//!
//! It reads the objects there, checks them at least as strictly as git would, and writes them
//! here, children before parents. Whatever is not plain and small is left to git: merges of foreign
//! roots, many or large objects, names that git looks at more closely, a hub of another user.
//!
//! Invariants:
//! 1. An object is written only when everything it names is here, so a kill leaves nothing that
//!    looks complete and is not.
//! 2. Nothing of the other repository but its objects is read, and an object is what its id says.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use git2::{ObjectType, Odb, Oid};

use crate::git::objects::{Gathering, Kind, Objects};
use crate::git::tree::{self, Entry, Line};
use crate::names::ObjectId;

/// The most objects that are brought this way: beyond it a pack is quicker to write and to fsync.
const OBJECTS: usize = 48;
/// The largest of them, in bytes.
const SIZE: usize = 4 << 20;
/// The deepest tree.
const DEPTH: usize = 64;

/// Brings `tip` from the repository whose shared part is at `dir`, provided that the history of the commits in `known` is
/// here. Returns false if that is for git to do.
pub(super) fn bring(objects: &Rc<Objects>, dir: &Path, tip: ObjectId, known: &[ObjectId]) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    if !dir.metadata().is_ok_and(|found| found.uid() == ours) {
        return false;
    }
    let opened = || {
        let theirs = Odb::new().ok()?;
        theirs
            .add_disk_alternate(dir.join("objects").to_str()?)
            .ok()?;
        Some(theirs)
    };
    let Some(theirs) = opened() else {
        return false;
    };
    let mut bringing = Bringing {
        objects,
        theirs,
        known,
        left: OBJECTS,
        whole: BTreeSet::new(),
    };
    let gathering = Gathering::start(objects);
    bringing.commits(tip).is_some() && gathering.finish(|| Ok(())).is_ok()
}

struct Bringing<'a> {
    objects: &'a Objects,
    theirs: Odb<'static>,
    known: &'a [ObjectId],
    left: usize,
    /// The trees that were brought with all that is in them: one may stand in many places.
    whole: BTreeSet<ObjectId>,
}

impl Bringing<'_> {
    /// Brings a commit and what it needs, parents first.
    fn commits(&mut self, tip: ObjectId) -> Option<()> {
        let mut brought = BTreeSet::new();
        let mut stack = vec![tip];
        while let Some(&id) = stack.last() {
            if brought.contains(&id) || self.is_known(id)? {
                stack.pop();
                continue;
            }
            let raw = self.read(id, ObjectType::Commit)?;
            let (tree, parents) = commit_of(&raw)?;
            let mut missing = Vec::new();
            for parent in &parents {
                if !brought.contains(parent) && !self.is_known(*parent)? {
                    missing.push(*parent);
                }
            }
            if !missing.is_empty() {
                if stack.len() > OBJECTS {
                    return None;
                }
                stack.extend(missing);
                continue;
            }
            let first = self.objects.commit(*parents.first()?).ok()?;
            self.tree(tree, Some(first.tree), 0)?;
            self.write(id, Kind::Commit, &raw)?;
            brought.insert(id);
            stack.pop();
        }
        Some(())
    }

    /// Whether a commit is part of a history that is here whole.
    fn is_known(&self, id: ObjectId) -> Option<bool> {
        if self.known.contains(&id) {
            return Some(true);
        }
        if !self.objects.contains(id) {
            return Some(false);
        }
        for known in self.known {
            if self.objects.descends(*known, id).ok()? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Brings a tree; what `old` has of it is here.
    fn tree(&mut self, id: ObjectId, old: Option<ObjectId>, depth: usize) -> Option<()> {
        if Some(id) == old || self.whole.contains(&id) {
            return Some(());
        }
        if depth > DEPTH {
            return None;
        }
        let raw = self.read(id, ObjectType::Tree)?;
        let lines = tree::parse(&raw, self.objects.width()).ok()?;
        let names: BTreeSet<&[u8]> = lines.iter().map(|line| line.name.as_slice()).collect();
        if names.len() != lines.len() || tree::serialise(lines.clone()) != raw {
            return None;
        }
        let old: BTreeMap<Vec<u8>, Entry> = match old {
            Some(old) => self
                .objects
                .tree(old)
                .ok()?
                .into_iter()
                .map(|line| (line.name, line.entry))
                .collect(),
            None => BTreeMap::new(),
        };
        for line in &lines {
            let before = old.get(&line.name);
            if before != Some(&line.entry) {
                self.line(line, before, depth)?;
            }
        }
        self.write(id, Kind::Tree, &raw)?;
        self.whole.insert(id);
        Some(())
    }

    fn line(&mut self, line: &Line, before: Option<&Entry>, depth: usize) -> Option<()> {
        if !is_plain(&line.name) {
            return None;
        }
        match line.entry.mode {
            tree::DIRECTORY => {
                let old = before.filter(|entry| entry.is_tree()).map(|entry| entry.id);
                self.tree(line.entry.id, old, depth + 1)
            }
            tree::FILE | tree::EXECUTABLE | tree::SYMLINK => {
                if self.objects.contains(line.entry.id) {
                    return Some(());
                }
                let raw = self.read(line.entry.id, ObjectType::Blob)?;
                self.write(line.entry.id, Kind::Blob, &raw)
            }
            _ => None,
        }
    }

    fn read(&self, id: ObjectId, kind: ObjectType) -> Option<Vec<u8>> {
        let oid = Oid::from_bytes(id.as_bytes()).ok()?;
        let (size, _) = self.theirs.read_header(oid).ok()?;
        if size > SIZE {
            return None;
        }
        let object = self.theirs.read(oid).ok()?;
        (object.kind() == kind).then(|| object.data().to_vec())
    }

    fn write(&mut self, id: ObjectId, kind: Kind, raw: &[u8]) -> Option<()> {
        if self.objects.contains(id) {
            return Some(());
        }
        self.left = self.left.checked_sub(1)?;
        (self.objects.write(kind, raw).ok()? == id).then_some(())
    }
}

/// Whether git's checks have nothing to say about a name of a tree.
fn is_plain(name: &[u8]) -> bool {
    let ascii: Vec<u8> = name
        .iter()
        .filter(|b| b.is_ascii())
        .map(u8::to_ascii_lowercase)
        .collect();
    let is_git = ascii.starts_with(b".git") && !matches!(name, b".gitignore" | b".gitkeep");
    let is_short = ascii.starts_with(b"git~") || ascii.starts_with(b"gi");
    let is_odd = name.is_empty() || matches!(name, b"." | b"..");
    let splits = name.iter().any(|b| matches!(b, b'/' | b'\\' | 0));
    !(is_git || is_odd || splits || (is_short && name.contains(&b'~')) || name.len() > 255)
}

/// Reads a commit of the strict form: tree, parents, author, committer. Returns the tree and the
/// parents.
fn commit_of(raw: &[u8]) -> Option<(ObjectId, Vec<ObjectId>)> {
    let end = raw.windows(2).position(|pair| pair == b"\n\n")?;
    let head = std::str::from_utf8(&raw[..end]).ok()?;
    let mut lines = head.lines();
    let id = |hex: &str| {
        let strict = matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        strict.then(|| ObjectId::from_hex(hex).ok())?
    };
    let tree = id(lines.next()?.strip_prefix("tree ")?)?;
    let mut parents = Vec::new();
    let mut line = lines.next()?;
    while let Some(hex) = line.strip_prefix("parent ") {
        parents.push(id(hex)?);
        line = lines.next()?;
    }
    let named = is_person(line.strip_prefix("author ")?)
        && is_person(lines.next()?.strip_prefix("committer ")?);
    (named && !raw.contains(&0)).then_some((tree, parents))
}

/// Whether this is `NAME <MAIL> SECONDS ZONE`.
fn is_person(text: &str) -> bool {
    let Some((name, rest)) = text.split_once(" <") else {
        return false;
    };
    let Some((mail, when)) = rest.split_once("> ") else {
        return false;
    };
    let Some((seconds, zone)) = when.split_once(' ') else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let signed = zone.strip_prefix(['+', '-']);
    !name.contains(['<', '>'])
        && !mail.contains(['<', '>'])
        && digits(seconds)
        && (seconds == "0" || !seconds.starts_with('0'))
        && seconds.len() < 18
        && signed.is_some_and(|zone| zone.len() == 4 && digits(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_looks_at_are_left_to_git() {
        for name in [
            &b".git"[..],
            b".GIT",
            b".g\xe2\x80\x8cit",
            b"git~1",
            b"GIT~2",
            b"gi7eba~1",
            b".gitmodules",
            b".gitattributes",
            b"..",
            b"a\\b",
            b"a/b",
            b"",
        ] {
            assert!(!is_plain(name), "{}", String::from_utf8_lossy(name));
        }
        for name in [
            &b".gitignore"[..],
            b"a",
            b"git",
            b"gimp",
            b"x~",
            b"\xff",
            b"-rf",
        ] {
            assert!(is_plain(name), "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn commits_of_any_other_form_are_left_to_git() {
        let tree = "0123456789abcdef0123456789abcdef01234567";
        let good = format!(
            "tree {tree}\nparent {tree}\nauthor a <b> 1 +0000\ncommitter A B <> 0 -1234\n\
             gpgsig x\n\nmessage\n"
        );
        assert_eq!(commit_of(good.as_bytes()).unwrap().1.len(), 1);
        for (from, to) in [
            ("tree 0", "tree -"),
            ("parent 0", "parent "),
            ("author a", "author"),
            ("author a <b>", "author <b>"),
            ("a <b> 1", "a <<b> 1"),
            ("> 1 +", "> 01 +"),
            ("+0000", "0000"),
            ("committer", "comitter"),
            ("message", "mess\0age"),
            ("\n\n", "\n"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(commit_of(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
