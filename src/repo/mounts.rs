//! What is mounted below the folder's root, and whether it was there when its files were taken.
//!
//! A file system that appears over a directory hides its files, and one that goes takes its files
//! along: neither is a deletion, and what is written there meanwhile belongs elsewhere. So which
//! mounts are part of the folder is written down, and a directory at which that changed waits, with
//! all that is below it, for the mount to be as it was or for a person.
//!
//! Invariant: a path below a directory that waits is neither committed nor written.
//!
//! Absent: the root itself (`root`), and systems without `/proc/self/mountinfo`, where every mount
//! counts as part of the folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::statvfs;

use super::bases::Bases;
use super::{Place, RepoError, records};
use crate::engine::event::{Code, Held};
use crate::git::tree::Lookup;
use crate::names::RepoPath;

/// Everything that is mounted for this process.
const TABLE: &str = "/proc/self/mountinfo";
/// Our list of the mounts that are part of the folder.
const FILE: &str = "mounts";
const KIND: &str = "autosync mounts 1";

/// Which file system is mounted somewhere, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Which {
    id: u64,
    top: u64,
}

/// Why a directory waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Something is mounted over it that was not.
    Covered,
    /// What was mounted there is not.
    Away,
}

/// The mounts below the root of a folder.
#[derive(Debug, Default)]
pub struct Mounts {
    /// Those that are part of the folder; `None` before the first look.
    known: Option<BTreeMap<RepoPath, Which>>,
    waiting: BTreeMap<RepoPath, Wait>,
}

impl Mounts {
    /// Looks at the mounts again, against what HEAD and the base map have below them. `approved`
    /// accepts what is there now.
    pub fn look(
        &mut self,
        place: &Place,
        head: &Lookup,
        bases: &Bases,
        approved: bool,
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
        let has_files = |dir: &RepoPath| -> Result<bool, RepoError> {
            Ok(head.get(dir)?.is_some_and(|entry| entry.is_tree())
                || bases.iter().any(|(path, _)| path.is_within(dir)))
        };
        for (dir, which) in &now {
            if known.get(dir) == Some(which) {
                continue;
            }
            if !approved && has_files(dir)? {
                self.waiting.insert(dir.clone(), Wait::Covered);
            } else {
                known.insert(dir.clone(), *which);
            }
        }
        let gone: Vec<RepoPath> = known
            .keys()
            .filter(|dir| !now.contains_key(*dir))
            .cloned()
            .collect();
        for dir in gone {
            if !approved && has_files(&dir)? {
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
            Wait::Covered => "something is mounted over its directory",
            Wait::Away => "its disk is not mounted",
        })
    }

    /// Returns the directories that wait, for status.
    pub fn held(&self) -> Vec<Held> {
        let group = |wanted: Wait, words: &str, hint: &str| {
            let dirs: Vec<&RepoPath> = self
                .waiting
                .iter()
                .filter(|(_, wait)| **wait == wanted)
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
            Wait::Covered,
            "something is mounted over",
            "Unmount it, and syncing goes on by itself; if it is to be part of the folder, run \
             `autosync approve`: what it hides is then deleted everywhere.",
        );
        let away = group(
            Wait::Away,
            "the disk is not mounted that belongs at",
            "Mount it, and syncing goes on by itself; if its files are gone for good, run \
             `autosync approve`: they are then deleted everywhere.",
        );
        covered.into_iter().chain(away).collect()
    }
}

fn read(place: &Place) -> Result<Option<BTreeMap<RepoPath, Which>>, RepoError> {
    let Some(records) = records::read(&place.store.join(FILE), KIND, 3)? else {
        return Ok(None);
    };
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let mount = |record: records::Fields| {
        let [id, top, dir] = &record[..] else {
            return None;
        };
        let which = Which {
            id: number(id)?,
            top: number(top)?,
        };
        Some((RepoPath::new(dir).ok()?, which))
    };
    Ok(Some(records.into_iter().filter_map(mount).collect()))
}

fn write(place: &Place, known: &BTreeMap<RepoPath, Which>) -> Result<(), RepoError> {
    let records: Vec<records::Fields> = known
        .iter()
        .map(|(dir, which)| {
            let number = |number: u64| number.to_string().into_bytes();
            vec![number(which.id), number(which.top), dir.as_bytes().to_vec()]
        })
        .collect();
    records::write(&place.store.join(FILE), KIND, &records)
}

/// Returns what is mounted below a directory, `.git` left out.
fn mounted_below(root: &Path) -> BTreeMap<RepoPath, Which> {
    // Where there is no such table nothing is known of mounts.
    let table = fs::read(TABLE).unwrap_or_default();
    points_below(&table, root)
        .into_iter()
        .map(|dir| {
            let disk = dir.under(root);
            let which = Which {
                id: statvfs(&disk).map_or(0, |about| about.f_fsid),
                top: super::root::seen(&disk).map_or(0, |(_, inode)| inode),
            };
            (dir, which)
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
