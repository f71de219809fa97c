//! What is mounted below the folder's root, and whether it was there when its files were taken.
//!
//! A file system that appears over a directory hides its files, and one that goes takes its files
//! along: neither is a deletion, and what is written there meanwhile belongs elsewhere. So which
//! mounts are part of the folder is written down, and a directory at which that changed waits, with
//! all that is below it, for the mount to be as it was or for a person. A disk without a name of its
//! own (`volume`) is the one that was there if it is what the kernel says and has something of what
//! was on it, or if it has most of that.
//!
//! Invariant: a path below a directory that waits is neither committed nor written.
//!
//! Absent: the root itself (`root`), and systems without `/proc/self/mountinfo`, where every mount
//! counts as part of the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bases::Bases;
use super::volume::{self, Volume};
use super::{Place, RepoError, records};
use crate::engine::event::{Code, Held};
use crate::git::tree::{Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// Everything that is mounted for this process.
const TABLE: &str = "/proc/self/mountinfo";
/// Our list of the mounts that are part of the folder.
const FILE: &str = "mounts";
const KIND: &str = "autosync mounts 1";

/// Why a directory waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wait {
    /// Something is mounted over it that was not.
    Covered(Volume),
    /// Another disk seems to be mounted there than the one that was.
    Other(Volume),
    /// What was mounted there is not.
    Away,
}

/// The directories that wait.
pub(super) type Waits = BTreeMap<RepoPath, Wait>;

/// The mounts below the root of a folder.
#[derive(Debug, Default)]
pub struct Mounts {
    /// Those that are part of the folder; `None` before the first look.
    known: Option<BTreeMap<RepoPath, Volume>>,
    waiting: Waits,
    /// Where nothing is left of what was there, and a person said that this is right.
    emptied: BTreeSet<RepoPath>,
}

impl Mounts {
    /// Looks at the mounts again, against what HEAD and the base map have below them. What is
    /// `granted` is accepted if it is still so.
    pub(super) fn look(
        &mut self,
        place: &Place,
        head: &Lookup,
        bases: &Bases,
        granted: &Waits,
    ) -> Result<(), RepoError> {
        let now = mounted_below(place.root());
        self.waiting.clear();
        let is_first = self.known.is_none();
        let mut known = match self.known.take() {
            Some(known) => known,
            None => match read(place)? {
                Some(known) => known,
                // Nobody looked before: what is mounted was part of what was taken.
                None => now.clone(),
            },
        };
        let before = known.clone();
        let tree = |dir: &RepoPath| -> Result<Option<ObjectId>, RepoError> {
            let entry = head.get(dir)?.filter(Entry::is_tree);
            Ok(entry.map(|entry| entry.id))
        };
        let has_files = |dir: &RepoPath| -> Result<bool, RepoError> {
            Ok(tree(dir)?.is_some() || bases.iter().any(|(path, _)| path.is_within(dir)))
        };
        for (dir, volume) in &now {
            let was = known.get(dir);
            let is_same = was == Some(volume);
            if is_same && volume.is_named() || !has_files(dir)? {
                known.insert(dir.clone(), volume.clone());
                continue;
            }
            let disk = place.on_disk(dir);
            let tree = tree(dir)?;
            let is_right = if is_same {
                let is_empty = tree.map(|tree| volume::nothing_is_there(place, tree, &disk));
                let is_empty = is_empty.transpose()?.unwrap_or(false);
                if !is_empty {
                    self.emptied.remove(dir);
                }
                !is_empty || self.emptied.contains(dir)
            } else if let (Some(was), Some(tree)) = (was, tree) {
                // Two names that differ are two disks; a number may be another of the same one.
                !(was.is_named() && volume.is_named()) && volume::most_is_there(place, tree, &disk)?
            } else {
                false
            };
            let wait = match was {
                Some(_) => Wait::Other(volume.clone()),
                None => Wait::Covered(volume.clone()),
            };
            if is_right {
                known.insert(dir.clone(), volume.clone());
            } else if granted.get(dir) == Some(&wait) {
                known.insert(dir.clone(), volume.clone());
                self.emptied.insert(dir.clone());
            } else {
                self.waiting.insert(dir.clone(), wait);
            }
        }
        let gone: Vec<RepoPath> = known
            .keys()
            .filter(|dir| !now.contains_key(*dir))
            .cloned()
            .collect();
        for dir in gone {
            if granted.get(&dir) != Some(&Wait::Away) && has_files(&dir)? {
                self.waiting.insert(dir, Wait::Away);
            } else {
                known.remove(&dir);
            }
        }
        if known != before || (is_first && read(place)?.as_ref() != Some(&known)) {
            write(place, &known)?;
        }
        self.known = Some(known);
        Ok(())
    }

    /// Returns why a path waits, in words; `None` if it does not.
    pub fn hindrance(&self, path: &RepoPath) -> Option<&'static str> {
        let (_, wait) = self.waiting.iter().find(|(dir, _)| path.is_within(dir))?;
        Some(match wait {
            Wait::Covered(_) => "something is mounted over its directory",
            Wait::Other(_) => "another disk is at its directory",
            Wait::Away => "its disk is not mounted",
        })
    }

    /// Returns the directories that wait.
    pub(super) fn waiting(&self) -> &Waits {
        &self.waiting
    }

    /// Returns the directories that wait, for status.
    pub fn held(&self) -> Vec<Held> {
        let group = |wanted: &dyn Fn(&Wait) -> bool, words: &str, hint: &str| {
            let dirs: Vec<&RepoPath> = self
                .waiting
                .iter()
                .filter(|(_, wait)| wanted(wait))
                .map(|(dir, _)| dir)
                .collect();
            let message = match dirs.as_slice() {
                [] => return None,
                [dir] => format!("{words} `{dir}`; what is below it waits"),
                many => format!(
                    "{words} {} directories; what is below them waits",
                    many.len()
                ),
            };
            Some(Held {
                code: Code::Mounted,
                paths: dirs.iter().take(20).map(|dir| (*dir).clone()).collect(),
                more: dirs.len().saturating_sub(20),
                message,
                hint: hint.to_owned(),
            })
        };
        let covered = group(
            &|wait| matches!(wait, Wait::Covered(_)),
            "something is mounted over",
            "Unmount it, and syncing goes on by itself; if it is to be part of the folder, run \
             `autosync approve`: what it hides is then deleted everywhere.",
        );
        let other = group(
            &|wait| matches!(wait, Wait::Other(_)),
            "another disk than before is mounted at",
            "Mount the one that was there, and syncing goes on by itself; if this one is right, run \
             `autosync approve`: what it does not have is then deleted everywhere.",
        );
        let away = group(
            &|wait| *wait == Wait::Away,
            "the disk is not mounted that belongs at",
            "Mount it, and syncing goes on by itself; if its files are gone for good, run \
             `autosync approve`: they are then deleted everywhere.",
        );
        [covered, other, away].into_iter().flatten().collect()
    }
}

fn read(place: &Place) -> Result<Option<BTreeMap<RepoPath, Volume>>, RepoError> {
    let Some(records) = records::read(&place.store.join(FILE), KIND, 3)? else {
        return Ok(None);
    };
    let mount = |record: records::Fields| {
        let [id, top, dir] = &record[..] else {
            return None;
        };
        let volume = Volume {
            id: String::from_utf8(id.clone()).ok()?,
            top: std::str::from_utf8(top).ok()?.parse().ok()?,
        };
        Some((RepoPath::new(dir).ok()?, volume))
    };
    Ok(Some(records.into_iter().filter_map(mount).collect()))
}

fn write(place: &Place, known: &BTreeMap<RepoPath, Volume>) -> Result<(), RepoError> {
    let records: Vec<records::Fields> = known
        .iter()
        .map(|(dir, volume)| {
            let id = volume.id.clone().into_bytes();
            let top = volume.top.to_string().into_bytes();
            vec![id, top, dir.as_bytes().to_vec()]
        })
        .collect();
    records::write(&place.store.join(FILE), KIND, &records)
}

/// Returns what is mounted below a directory, `.git` left out.
fn mounted_below(root: &Path) -> BTreeMap<RepoPath, Volume> {
    // Where there is no such table nothing is known of mounts.
    let table = fs::read(TABLE).unwrap_or_default();
    points_below(&table, root)
        .into_iter()
        .map(|dir| {
            let volume = Volume::at(&dir.under(root));
            (dir, volume)
        })
        .collect()
}

/// Returns the mount points of a table that lie below a directory, `.git` left out.
fn points_below(table: &[u8], root: &Path) -> Vec<RepoPath> {
    let root = root.as_os_str().as_bytes();
    let point = |line: &[u8]| {
        let point = unescape(line.split(|b| *b == b' ').nth(4)?);
        let below = point.strip_prefix(root)?.strip_prefix(b"/")?;
        RepoPath::new(below).ok()
    };
    table
        .split(|b| *b == b'\n')
        .filter_map(point)
        .filter(|dir| dir.components().all(|name| name != b".git"))
        .collect()
}

/// Reads the octal form in which the kernel writes spaces, tabs, line breaks and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0_u8, |value, digit| {
                let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
                value.checked_mul(8)?.checked_add(digit)
            })
        });
        if let Some(value) = value {
            out.push(value);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_the_root_are_read_from_the_table() {
        let line = |point: &str| format!("1 2 0:3 / {point} rw shared:1 - tmpfs tmpfs rw\n");
        let table = [
            "/",
            "/home",
            "/home/me/Sync",
            "/home/me/Sync/a\\040b",
            "/home/me/Sync/d/e",
            "/home/me/Sync/.git/autosync",
            "/home/me/Sync2/x",
        ]
        .map(line)
        .concat();
        let found = points_below(table.as_bytes(), Path::new("/home/me/Sync"));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a b", "d/e"]);
    }

    #[test]
    fn a_backslash_that_is_no_octal_stays() {
        assert_eq!(unescape(b"a\\134b\\9\\04"), b"a\\b\\9\\04");
    }
}
