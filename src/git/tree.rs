//! Trees as values: reading git's tree objects and building new ones from an old one and edits.
//!
//! The form is that of gitformat-pack(5) and git's `tree.c`: entries `MODE SP NAME NUL ID`, in the
//! order of their names, where a directory sorts as if its name ended in `/`.
//!
//! Invariants:
//! 1. A mode is one of five: others, which git takes, become what git takes them for in [`parse`].
//! 2. No tree is walked out of proportion to what a person has, however few objects it is made of.
//!
//! Absent: any check of names. Dangerous names are refused before they get here.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::objects::Objects;
use super::{GitError, unparsable};
use crate::names::{DEEPEST, NotARepoPath, ObjectId, RepoPath, escape};

/// The mode of a directory entry.
pub const DIRECTORY: u32 = 0o040_000;
/// The mode of an ordinary file.
pub const FILE: u32 = 0o100_644;
/// The mode of an executable file.
pub const EXECUTABLE: u32 = 0o100_755;
/// The mode of a symbolic link.
pub const SYMLINK: u32 = 0o120_000;
/// The mode of a submodule (a commit of another repository).
pub const GITLINK: u32 = 0o160_000;

/// What stands at a path: a mode and an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// git's mode, one of the five above.
    pub mode: u32,
    /// The blob, tree, or commit of a submodule.
    pub id: ObjectId,
}

impl Entry {
    /// Returns whether this is a directory.
    pub fn is_tree(&self) -> bool {
        self.mode == DIRECTORY
    }

    /// Returns whether this is a regular file, executable or not.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

impl Entry {
    /// Returns whether both hold the same bytes as the same kind of thing; a file's executable
    /// bit does not count.
    pub fn same_content(&self, other: &Self) -> bool {
        let kind = |mode: u32| mode & 0o170_000;
        self.id == other.id && kind(self.mode) == kind(other.mode)
    }
}

/// One path that differs between two trees. Directories are never listed, only what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: RepoPath,
    /// What the old tree has, if anything.
    pub old: Option<Entry>,
    /// What the new tree has, if anything.
    pub new: Option<Entry>,
}

/// One line of a tree object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name, one component.
    pub name: Vec<u8>,
    /// What it names.
    pub entry: Entry,
}

/// Reads a tree object. `width` is the length of an id in bytes.
pub fn parse(mut raw: &[u8], width: usize) -> Result<Vec<Line>, GitError> {
    let mut lines = Vec::new();
    while !raw.is_empty() {
        let bad = || unparsable("tree", raw);
        let space = raw.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let nul = raw
            .iter()
            .position(|b| *b == 0)
            .filter(|nul| *nul > space)
            .ok_or_else(bad)?;
        let mode = mode(&raw[..space]).ok_or_else(bad)?;
        let id = raw.get(nul + 1..nul + 1 + width).ok_or_else(bad)?;
        lines.push(Line {
            name: raw[space + 1..nul].to_vec(),
            entry: Entry {
                mode,
                id: ObjectId::from_bytes(id)?,
            },
        });
        raw = &raw[nul + 1 + width..];
    }
    Ok(lines)
}

/// Reads a mode as git does (`canon_mode`): it takes `100664` and the like, which old programs
/// wrote, for one of the five modes, and so must we. A mode that nobody knows is neither file nor
/// directory; not having it on the disk would be taken for its deletion.
fn mode(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return None;
    }
    let mode = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?;
    Some(match mode & 0o170_000 {
        0o100_000 if mode & 0o100 != 0 => EXECUTABLE,
        0o100_000 => FILE,
        SYMLINK => SYMLINK,
        DIRECTORY => DIRECTORY,
        _ => GITLINK,
    })
}

/// Writes a tree object; the lines may come in any order.
pub fn serialise(mut lines: Vec<Line>) -> Vec<u8> {
    lines.sort_by(order);
    let mut raw = Vec::with_capacity(lines.len() * 40);
    for line in lines {
        raw.extend_from_slice(format!("{:o} ", line.entry.mode).as_bytes());
        raw.extend_from_slice(&line.name);
        raw.push(0);
        raw.extend_from_slice(line.entry.id.as_bytes());
    }
    raw
}

/// git's order of tree entries (`base_name_compare`).
fn order(a: &Line, b: &Line) -> Ordering {
    let tail = |line: &Line| line.entry.is_tree().then_some(b'/');
    a.name
        .iter()
        .copied()
        .chain(tail(a))
        .cmp(b.name.iter().copied().chain(tail(b)))
}

/// Changes to a tree: what each path becomes, `None` where it goes.
pub type Edits = BTreeMap<RepoPath, Option<Entry>>;

/// Edits below some directory, by the rest of their paths.
type Below<'a> = Vec<(&'a [u8], Option<Entry>)>;

/// Builds the tree that `base` becomes by `edits`, writing only directories that change.
///
/// An edit of a path replaces whatever stood there or above it: a file gives way to a directory of
/// its name and the other way round. A removal of what is not there is no error. An entry may be a
/// whole tree. Returns `None` if nothing is left.
pub fn build(
    objects: &Objects,
    base: Option<ObjectId>,
    edits: &Edits,
) -> Result<Option<ObjectId>, GitError> {
    let flat: Below<'_> = edits
        .iter()
        .map(|(path, entry)| (path.as_bytes(), *entry))
        .collect();
    build_level(objects, base, &flat)
}

fn build_level(
    objects: &Objects,
    base: Option<ObjectId>,
    edits: &[(&[u8], Option<Entry>)],
) -> Result<Option<ObjectId>, GitError> {
    let mut lines: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    if let Some(base) = base {
        lines.extend(
            objects
                .tree(base)?
                .into_iter()
                .map(|line| (line.name, line.entry)),
        );
    }
    // The byte order of whole paths does not group a directory's paths (`a-b` sorts between `a`
    // and `a/x`), so they are grouped here by first component.
    let mut here: BTreeMap<&[u8], Option<Entry>> = BTreeMap::new();
    let mut below: BTreeMap<&[u8], Below<'_>> = BTreeMap::new();
    for (path, entry) in edits {
        match path.iter().position(|b| *b == b'/') {
            Some(at) => below
                .entry(&path[..at])
                .or_default()
                .push((&path[at + 1..], *entry)),
            None => {
                here.insert(path, *entry);
            }
        }
    }
    for (name, entry) in here {
        match entry {
            Some(entry) => {
                lines.insert(name.to_vec(), entry);
            }
            None => {
                lines.remove(name);
            }
        }
    }
    for (name, edits) in below {
        let old = lines.get(name).copied();
        let base = old.filter(Entry::is_tree).map(|entry| entry.id);
        if base.is_none() && edits.iter().all(|(_, entry)| entry.is_none()) {
            // Nothing is put below a file that stays, so the file stays.
            continue;
        }
        match build_level(objects, base, &edits)? {
            Some(id) => {
                lines.insert(
                    name.to_vec(),
                    Entry {
                        mode: DIRECTORY,
                        id,
                    },
                );
            }
            None => {
                lines.remove(name);
            }
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let lines = lines
        .into_iter()
        .map(|(name, entry)| Line { name, entry })
        .collect();
    objects.write_tree(lines).map(Some)
}

/// Returns every path that differs between two trees, in git's order; `None` is the empty tree.
///
/// Costs what differs, not what is there. A file that becomes a directory is listed as one removal
/// and the additions below it. Errors with [`GitError::TooLarge`] for a tree out of all proportion,
/// however few objects it is made of.
pub fn differences(
    objects: &Objects,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
) -> Result<Vec<Difference>, GitError> {
    let limit = most();
    let many = usize::try_from(limit).unwrap_or(MANY).min(MANY);
    let mut walk = Walk {
        objects,
        found: Vec::new(),
        directories: 0,
        next_count: many,
        check: &|| {
            // A folder that grew beyond it by and by can be made smaller.
            for (tree, limit) in [(new, limit), (old, limit.saturating_mul(2))] {
                if let Some(tree) = tree {
                    Size::of(objects, tree)?.refuse(limit)?;
                }
            }
            Ok(())
        },
    };
    walk.go(&mut Vec::new(), 0, [old, new])?;
    Ok(walk.found)
}

/// More files than this, or directories, are no folder of a person.
const MOST: u64 = 1_000_000;
/// So many differences, or directories that differ, are a reason to count all there are before they
/// are listed.
const MANY: usize = 20_000;

/// Returns how many files a tree may have; tests have no time for a million.
fn most() -> u64 {
    let asked = crate::fault::asked("AUTOSYNC_TEST_FILES");
    asked.and_then(|text| text.parse().ok()).unwrap_or(MOST)
}

/// How much a tree holds.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Files, links and submodules.
    files: u64,
    /// Directories.
    directories: u64,
}

impl Size {
    /// Counts a tree, reading each object once: the same directory may be in it a million times,
    /// and there may be no file in any.
    fn of(objects: &Objects, tree: ObjectId) -> Result<Self, GitError> {
        Self::below(objects, tree, 0, &mut BTreeMap::new())
    }

    fn below(
        objects: &Objects,
        tree: ObjectId,
        depth: usize,
        known: &mut BTreeMap<ObjectId, Self>,
    ) -> Result<Self, GitError> {
        if let Some(size) = known.get(&tree) {
            return Ok(*size);
        }
        if depth > DEEPEST {
            return Err(too_deep());
        }
        let mut size = Self::default();
        for line in objects.tree(tree)? {
            let mut more = Self {
                files: 1,
                directories: 0,
            };
            if line.entry.is_tree() {
                more = Self::below(objects, line.entry.id, depth + 1, known)?;
                more.directories = more.directories.saturating_add(1);
            }
            size.files = size.files.saturating_add(more.files);
            size.directories = size.directories.saturating_add(more.directories);
        }
        known.insert(tree, size);
        Ok(size)
    }

    fn refuse(self, limit: u64) -> Result<(), GitError> {
        if self.files > limit {
            Err(GitError::TooLarge("a tree has more than 1,000,000 files"))
        } else if self.directories > limit {
            let why = "a tree has more than 1,000,000 directories";
            Err(GitError::TooLarge(why))
        } else {
            Ok(())
        }
    }
}

fn too_deep() -> GitError {
    GitError::TooLarge("a tree has more than 200 directories inside each other")
}

/// A walk over two trees side by side.
struct Walk<'a> {
    objects: &'a Objects,
    found: Vec<Difference>,
    /// How many directories differ, with a file in them or not.
    directories: usize,
    /// At so many of either it is found out how many there are in all.
    next_count: usize,
    check: &'a dyn Fn() -> Result<(), GitError>,
}

impl Walk<'_> {
    fn go(
        &mut self,
        prefix: &mut Vec<u8>,
        depth: usize,
        [old, new]: [Option<ObjectId>; 2],
    ) -> Result<(), GitError> {
        if old == new {
            return Ok(());
        }
        if depth > DEEPEST && new.is_some() {
            return Err(too_deep());
        }
        self.directories += 1;
        self.count()?;
        for (name, [old, new]) in self.pairs(old, new)? {
            let start = prefix.len();
            if start > 0 {
                prefix.push(b'/');
            }
            prefix.extend_from_slice(&name);
            if name.is_empty() || name.contains(&b'/') {
                // git would take it for another number of names, and so would we.
                return Err(NotARepoPath {
                    path: escape(prefix),
                }
                .into());
            }
            let leaf = |entry: Option<Entry>| entry.filter(|entry| !entry.is_tree());
            let dir = |entry: Option<Entry>| entry.filter(Entry::is_tree).map(|entry| entry.id);
            if leaf(old).is_some() || leaf(new).is_some() {
                self.found.push(Difference {
                    path: RepoPath::new(&*prefix)?,
                    old: leaf(old),
                    new: leaf(new),
                });
                self.count()?;
            }
            self.go(prefix, depth + 1, [dir(old), dir(new)])?;
            prefix.truncate(start);
        }
        Ok(())
    }

    /// Refuses what is out of proportion, once there are many.
    fn count(&mut self) -> Result<(), GitError> {
        if self.found.len().max(self.directories) >= self.next_count {
            self.next_count = usize::MAX;
            (self.check)()?;
        }
        Ok(())
    }

    /// Returns the names at which two directories differ.
    fn pairs(
        &self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<BTreeMap<Vec<u8>, [Option<Entry>; 2]>, GitError> {
        let read = |id: Option<ObjectId>| -> Result<BTreeMap<Vec<u8>, Entry>, GitError> {
            let Some(id) = id else {
                return Ok(BTreeMap::new());
            };
            let lines = self.objects.tree(id)?.into_iter();
            Ok(lines.map(|line| (line.name, line.entry)).collect())
        };
        let (old, mut new) = (read(old)?, read(new)?);
        let mut pairs = BTreeMap::new();
        for (name, entry) in old {
            let other = new.remove(&name);
            if other != Some(entry) {
                pairs.insert(name, [Some(entry), other]);
            }
        }
        let added = new.into_iter();
        pairs.extend(added.map(|(name, entry)| (name, [None, Some(entry)])));
        Ok(pairs)
    }
}

/// A directory by name.
type Listing = Rc<BTreeMap<Vec<u8>, Entry>>;

/// Fast look-up of many paths in one tree.
#[derive(Debug)]
pub struct Lookup {
    objects: Rc<Objects>,
    root: Option<ObjectId>,
    read: RefCell<BTreeMap<ObjectId, Listing>>,
}

impl Lookup {
    /// Looks into a tree; `None` is the empty one.
    pub fn new(objects: &Rc<Objects>, root: Option<ObjectId>) -> Self {
        Self {
            objects: Rc::clone(objects),
            root,
            read: RefCell::default(),
        }
    }

    /// Returns the tree itself.
    pub fn root(&self) -> Option<ObjectId> {
        self.root
    }

    /// Returns what stands at a path, directories included.
    pub fn get(&self, path: &RepoPath) -> Result<Option<Entry>, GitError> {
        let Some(root) = self.root else {
            return Ok(None);
        };
        let mut at = Entry {
            mode: DIRECTORY,
            id: root,
        };
        for name in path.components() {
            if !at.is_tree() {
                return Ok(None);
            }
            match self.directory(at.id)?.get(name) {
                Some(entry) => at = *entry,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn directory(&self, id: ObjectId) -> Result<Listing, GitError> {
        if let Some(known) = self.read.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let lines = self.objects.tree(id)?;
        let listing: Rc<BTreeMap<_, _>> = Rc::new(
            lines
                .into_iter()
                .map(|line| (line.name, line.entry))
                .collect(),
        );
        self.read.borrow_mut().insert(id, Rc::clone(&listing));
        Ok(listing)
    }
}

/// Returns how many files, links and submodules a tree holds.
pub fn count(objects: &Objects, tree: ObjectId) -> Result<usize, GitError> {
    let files = Size::of(objects, tree)?.files;
    Ok(usize::try_from(files).unwrap_or(usize::MAX))
}
