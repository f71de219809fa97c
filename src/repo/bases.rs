//! The base map: paths whose content on the disk deliberately differs from HEAD.
//!
//! An apply that may not write a path (the user saved meanwhile, the file is open, a guard holds
//! it) moves HEAD over it all the same and notes here what the disk has instead, and in which
//! commit. Every later look compares the disk with that, never with HEAD: so what came in is not
//! taken back by the next commit, and what the user writes is merged with its true base.
//!
//! Invariants:
//! 1. `base:path` is `have`, and a reference below `refs/worktree/autosync/` keeps `base`.
//! 2. The map is durable before the reference that needs it moves. An entry whose `have` is what
//!    HEAD has is void: so a kill between the two is harmless.
//! 3. Index entries of these paths are HEAD's, with skip-worktree set by us.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::records::{self, Fields, damaged};
use super::{Place, RepoError};
use crate::engine::event::{Code, Waiting};
use crate::git::gate::Stamp;
use crate::git::refs;
use crate::git::tree::Entry;
use crate::names::{ObjectId, RepoPath};

/// The kind and version of the file.
pub(super) const KIND: &str = "autosync bases 1";
/// How many fields an entry has in the file.
pub(super) const FIELDS: usize = 6;

/// Why a path on the disk differs from HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The user saved while we applied.
    Kept,
    /// It cannot be written now, in words: `open for writing`, `several links`.
    Deferred(String),
    /// A guard holds it.
    Held(Code),
    /// This host cannot have a file of that name, or such a link.
    NotRepresentable,
    /// The disk has another name that it takes for this one.
    Twin,
    /// It is part of a mass delete that nobody has approved.
    RemovalWaits,
    /// A person brought an older version back on this computer alone.
    OnlyHere,
}

impl Why {
    /// Returns the reason in words.
    pub fn words(&self) -> String {
        match self {
            Self::Kept => "saved here while a change came in; both are merged".to_owned(),
            Self::Deferred(words) => words.clone(),
            Self::Held(Code::Filter) => "its filter is missing or failed".to_owned(),
            Self::Held(code) => format!("held: {}", word(*code)),
            Self::NotRepresentable => "this computer cannot have such a name or link".to_owned(),
            Self::Twin => "this disk has another name that it takes for this one".to_owned(),
            Self::RemovalWaits => "its removal waits for approval".to_owned(),
            Self::OnlyHere => "brought back on this computer only".to_owned(),
        }
    }

    /// Returns the reason as our own files have it.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Kept => "kept".to_owned(),
            Self::Deferred(words) => format!("deferred {}", words.replace(['\t', '\0'], " ")),
            Self::Held(code) => format!("held {}", word(*code)),
            Self::NotRepresentable => "not-representable".to_owned(),
            Self::Twin => "twin".to_owned(),
            Self::RemovalWaits => "removal-waits".to_owned(),
            Self::OnlyHere => "only-here".to_owned(),
        }
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(super) fn read(text: &str) -> Option<Self> {
        Some(match text.split_once(' ') {
            Some(("deferred", words)) => Self::Deferred(words.to_owned()),
            Some(("held", code)) => Self::Held(*HOLDS.iter().find(|hold| word(**hold) == code)?),
            None if text == "kept" => Self::Kept,
            None if text == "not-representable" => Self::NotRepresentable,
            None if text == "twin" => Self::Twin,
            None if text == "removal-waits" => Self::RemovalWaits,
            None if text == "only-here" => Self::OnlyHere,
            _ => return None,
        })
    }
}

/// The guards that can hold a path of an apply.
const HOLDS: &[Code] = &[
    Code::Filter,
    Code::TooBig,
    Code::DangerousName,
    Code::Nested,
    Code::UncleanBoot,
    Code::DiskFull,
    Code::Io,
    Code::Internal,
];

/// Returns a code as scripts name it.
fn word(code: Code) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "internal".to_owned(),
    }
}

/// What the disk has at a path instead of what HEAD has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What the disk has, as git would store it; `None` for nothing.
    pub have: Option<Entry>,
    /// A commit that has `have` at this path.
    pub base: ObjectId,
    /// Why it was not written.
    pub why: Why,
    /// The stamp of the file when it was last seen to be `have`, if it was.
    pub stat: Option<Stamp>,
}

/// The base map of one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases {
    entries: BTreeMap<RepoPath, Base>,
    /// The commits that a reference of ours keeps.
    kept: BTreeSet<ObjectId>,
}

impl Bases {
    /// Loads the map of a folder; empty if there is none.
    pub fn load(place: &Place) -> Result<Self, RepoError> {
        let path = file(place);
        let mut bases = Self::default();
        for fields in records::read(&path, KIND, FIELDS)?.unwrap_or_default() {
            let (name, base) = read_entry(&path, &fields)?;
            bases.kept.insert(base.base);
            bases.entries.insert(name, base);
        }
        Ok(bases)
    }

    /// Returns what stands at a path instead of what HEAD has, if it is not HEAD's.
    pub fn get(&self, path: &RepoPath) -> Option<&Base> {
        self.entries.get(path)
    }

    /// Returns an entry above or below a path that has none itself: what stands there is an edit
    /// of the same commit.
    pub fn near(&self, path: &RepoPath) -> Option<&Base> {
        let above = path.ancestors().find_map(|dir| self.entries.get(&dir));
        above.or_else(|| {
            // No name is smaller than this one, so it stands before everything below the path.
            let first = path.join("\u{1}").ok()?;
            let (other, base) = self.entries.range(first..).next()?;
            other.is_within(path).then_some(base)
        })
    }

    /// Sets the entry of a path.
    pub fn insert(&mut self, path: RepoPath, base: Base) {
        self.entries.insert(path, base);
    }

    /// Drops the entry of a path; returns it.
    pub fn remove(&mut self, path: &RepoPath) -> Option<Base> {
        self.entries.remove(path)
    }

    /// Returns every path with its entry, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&RepoPath, &Base)> {
        self.entries.iter()
    }

    /// Returns how many paths differ.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no path differs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops the entries that say what a commit, the tip, has anyway. Returns whether any did.
    pub fn drop_void(&mut self, place: &Place, tip: ObjectId) -> Result<bool, RepoError> {
        if self.entries.is_empty() {
            return Ok(false);
        }
        let tree = place.objects.commit(tip)?.tree;
        let mut void = Vec::new();
        for (path, base) in &self.entries {
            if place.objects.entry(tree, path)? == base.have {
                void.push(path.clone());
            }
        }
        for path in &void {
            self.entries.remove(path);
        }
        Ok(!void.is_empty())
    }

    /// Stores the map; it is durable when this returns, and every base is kept by a reference.
    pub fn save(&mut self, place: &Place) -> Result<(), RepoError> {
        let needed: BTreeSet<ObjectId> = self.entries.values().map(|base| base.base).collect();
        for id in needed.difference(&self.kept) {
            refs::set(&place.git, &place.objects, &keeper(*id), Some(*id))?;
        }
        let path = file(place);
        if self.entries.is_empty() {
            records::remove(&path)?;
        } else {
            let all: Vec<Fields> = self.entries.iter().map(write_entry).collect();
            records::write(&path, KIND, &all)?;
        }
        for id in self.kept.difference(&needed) {
            refs::set(&place.git, &place.objects, &keeper(*id), None)?;
        }
        self.kept = needed;
        Ok(())
    }

    /// Removes references that keep a base of no entry: what a kill inside [`save`](Self::save)
    /// leaves.
    pub fn drop_strays(&self, place: &Place) -> Result<(), RepoError> {
        for (name, id) in refs::list(&place.git, &format!("{}base-*", refs::OURS))? {
            if !self.kept.contains(&id) || name != keeper(id) {
                refs::set(&place.git, &place.objects, &name, None)?;
            }
        }
        Ok(())
    }

    /// Returns the paths that wait, with the reasons in words, for `status`.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.entries
            .iter()
            .map(|(path, base)| Waiting {
                path: path.clone(),
                why: base.why.words(),
            })
            .collect()
    }
}

fn file(place: &Place) -> PathBuf {
    place.store.join("bases")
}

/// The reference that keeps a base.
fn keeper(id: ObjectId) -> String {
    format!("{}base-{id}", refs::OURS)
}

pub(super) fn write_entry((path, base): (&RepoPath, &Base)) -> Fields {
    let id = base
        .have
        .map_or_else(|| "-".to_owned(), |e| e.id.to_string());
    let stat = base.stat.map_or_else(
        || "-".to_owned(),
        |stat| format!("{} {} {}", stat.mtime, stat.size, stat.inode),
    );
    vec![
        format!("{:o}", base.have.map_or(0, |e| e.mode)).into_bytes(),
        id.into_bytes(),
        base.base.to_string().into_bytes(),
        base.why.write().into_bytes(),
        stat.into_bytes(),
        path.as_bytes().to_vec(),
    ]
}

pub(super) fn read_entry(file: &Path, fields: &Fields) -> Result<(RepoPath, Base), RepoError> {
    let [mode, id, base, why, stat, path] = fields.as_slice() else {
        return Err(damaged(file, "a record is too short"));
    };
    let mode = std::str::from_utf8(mode)
        .ok()
        .and_then(|mode| u32::from_str_radix(mode, 8).ok())
        .ok_or_else(|| damaged(file, "a mode is none"))?;
    let why = std::str::from_utf8(why).ok().and_then(Why::read);
    let stat = match stat.as_slice() {
        b"-" => None,
        text => {
            let mut words = text.split(|b| *b == b' ');
            let mut next = || words.next().unwrap_or_default();
            Some(Stamp {
                mtime: records::number(file, next())?,
                size: records::number(file, next())?,
                inode: records::number(file, next())?,
            })
        }
    };
    Ok((
        RepoPath::new(path)?,
        Base {
            have: records::id(file, id)?.map(|id| Entry { mode, id }),
            base: records::id(file, base)?.ok_or_else(|| damaged(file, "a base is missing"))?,
            why: why.ok_or_else(|| damaged(file, "a reason is unknown"))?,
            stat,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written_for_every_reason() {
        let id = ObjectId::from_bytes(&[7; 20]).unwrap();
        let entry = Entry {
            mode: 0o100_755,
            id,
        };
        let stat = Stamp {
            mtime: -1_500_000_000,
            size: 12,
            inode: u64::MAX,
        };
        let mut whys = vec![
            Why::Kept,
            Why::Deferred("open for writing".to_owned()),
            Why::NotRepresentable,
            Why::Twin,
            Why::RemovalWaits,
            Why::OnlyHere,
        ];
        whys.extend(HOLDS.iter().map(|code| Why::Held(*code)));
        for why in whys {
            for (have, stat) in [(None, None), (Some(entry), Some(stat))] {
                let path = RepoPath::new(b"a\tb\n\xff/c").unwrap();
                let base = Base {
                    have,
                    base: id,
                    why: why.clone(),
                    stat,
                };
                let fields = write_entry((&path, &base));
                let read = read_entry(Path::new("bases"), &fields).unwrap();
                assert_eq!(read, (path, base));
                assert!(!why.words().is_empty());
            }
        }
    }
}
