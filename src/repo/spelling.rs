//! How names are spelled on disks that take several spellings for one name: those of macOS and
//! Windows, and directories of Linux that fold case.
//!
//! There a look at `readme` finds `README`. git and we tell them apart, so a name counts as there
//! only if the directory lists it as we spell it. What else it leads to is its *twin*.
//!
//! Invariants:
//! 1. No rule of any file system is known here. Whether two spellings are one name is asked of the
//!    disk: the file at another spelling is the same one.
//! 2. A directory that tells names apart is not listed: it costs one look.
//!
//! Absent: disks that fold the writing of accents but not case, outside macOS.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

use super::bases::{Base, Bases, Why};
use super::disk::{Seen, look};
use super::stable::{self, Found};
use super::{Place, RepoError};
use crate::git::tree::{self, Lookup};
use crate::names::RepoPath;

/// What one directory was found to do.
#[derive(Debug)]
enum Telling {
    /// It tells names apart.
    Apart,
    /// It folds them, and lists these.
    Folds(BTreeSet<OsString>),
}

/// What directories were found to do, each looked at once. They are told by whatever the owner
/// has at hand.
#[derive(Debug)]
pub(super) struct Spellings<K> {
    folds: bool,
    known: BTreeMap<K, Telling>,
}

/// Returns whether the disk of our own directory takes a name in another case, and so, it is
/// assumed, does the work tree's.
pub(super) fn folds(place: &Place) -> bool {
    *place.folds.get_or_init(|| store_folds(place))
}

fn store_folds(place: &Place) -> bool {
    let dir = place.store.as_path();
    let (Some(above), Some(name)) = (dir.parent(), dir.file_name().and_then(OsStr::to_str)) else {
        return false;
    };
    let at = |name: &OsStr| look(CWD, above.join(name).as_os_str()).ok().flatten();
    let here = at(OsStr::new(name));
    here.is_some() && here.map(|it| it.which) == at(&respelled(name)).map(|it| it.which)
}

/// Returns the name in another case: of its ASCII letters, or else of all.
fn respelled(name: &str) -> OsString {
    let is_plain = name.bytes().any(|byte| byte.is_ascii_alphabetic());
    let turn = |letter: char| -> char {
        let lower = letter.is_lowercase();
        let mut upper = letter.to_uppercase();
        let mut down = letter.to_lowercase();
        let turned = match (is_plain, lower) {
            (true, _) if !letter.is_ascii() => None,
            (_, true) if upper.len() == 1 => upper.next(),
            (_, false) if down.len() == 1 => down.next(),
            (_, _) => None,
        };
        turned.unwrap_or(letter)
    };
    name.chars().map(turn).collect::<String>().into()
}

/// Returns whether a name could be spelled in no other way.
fn is_the_only_spelling(name: &OsStr, folds: bool) -> bool {
    let folds = folds || cfg!(target_os = "macos");
    let may = |text: &str| respelled(text) != name || folds && !text.is_ascii();
    !name.to_str().is_some_and(may)
}

/// Returns whether a name that was found may be another one's, as far as one look tells; `None`
/// if that name says nothing about its directory.
fn may_fold(dir: impl AsFd, name: &OsStr, seen: &Seen, folds: bool) -> io::Result<Option<bool>> {
    let Some(text) = name.to_str() else {
        return Ok(None);
    };
    let other = respelled(text);
    if other != name {
        let other = look(dir, &other)?;
        if other.is_some_and(|other| other.which == seen.which) {
            return Ok(Some(true));
        }
        if text.is_ascii() || !cfg!(target_os = "macos") {
            return Ok(Some(false));
        }
    }
    let may = !text.is_ascii() && (folds || cfg!(target_os = "macos"));
    Ok(may.then_some(true))
}

/// Returns the names that a directory lists.
fn list(dir: impl AsFd) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        names.insert(OsString::from_vec(name));
    }
    Ok(names)
}

/// Returns whether a directory lists a name, at which `seen` was found, in this very spelling.
pub(super) fn is_so(dir: impl AsFd, name: &OsStr, seen: &Seen, folds: bool) -> io::Result<bool> {
    match may_fold(&dir, name, seen, folds)? {
        Some(true) => Ok(list(dir)?.contains(name)),
        Some(false) | None => Ok(true),
    }
}

impl<K: Ord> Spellings<K> {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            folds: folds(place),
            known: BTreeMap::new(),
        }
    }

    /// As [`is_so`], of a directory that may have been looked at before.
    pub(super) fn is_so(
        &mut self,
        key: K,
        dir: impl AsFd,
        name: &OsStr,
        seen: &Seen,
    ) -> io::Result<bool> {
        if let Some(answer) = self.known_so(&key, name) {
            return Ok(answer);
        }
        match may_fold(&dir, name, seen, self.folds)? {
            Some(true) => {
                let names = list(dir)?;
                let answer = names.contains(name);
                self.known.insert(key, Telling::Folds(names));
                Ok(answer)
            }
            Some(false) => {
                self.known.insert(key, Telling::Apart);
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Returns what is known without a look.
    fn known_so(&self, key: &K, name: &OsStr) -> Option<bool> {
        if is_the_only_spelling(name, self.folds) {
            return Some(true);
        }
        match self.known.get(key)? {
            Telling::Apart if cfg!(target_os = "macos") && !name.as_bytes().is_ascii() => None,
            Telling::Apart => Some(true),
            Telling::Folds(names) => Some(names.contains(name)),
        }
    }
}

/// Opens a directory of the work tree to look into it; `None` if that may not be.
fn open(place: &Place, dir: Option<&RepoPath>) -> Option<OwnedFd> {
    let path = dir.map_or_else(|| place.root().to_owned(), |dir| place.on_disk(dir));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &path, flags, Mode::empty()).ok()
}

/// Returns whether a directory of the work tree, that was found there, is listed in this spelling.
pub(super) fn directory_is_so(place: &Place, dir: &RepoPath) -> bool {
    let name = OsStr::from_bytes(dir.file_name());
    if is_the_only_spelling(name, folds(place)) {
        return true;
    }
    let Some(above) = open(place, dir.parent().as_ref()) else {
        return true;
    };
    match look(&above, name) {
        Ok(Some(seen)) => is_so(&above, name, &seen, folds(place)).unwrap_or(true),
        Ok(None) | Err(_) => true,
    }
}

/// Returns whether something that was left out for a twin's sake has room by now.
pub(super) fn is_freed(place: &Place, bases: &Bases) -> bool {
    let waits = |base: &Base| base.why == Why::Twin && base.have.is_none();
    let mut spellings = Spellings::new(place);
    // Directories whose own twins are in the way of all below them.
    let mut barred = BTreeSet::new();
    bases.iter().any(|(path, base)| {
        if !waits(base)
            || barred.contains(&path.parent())
            || !matches!(stable::look(&place.on_disk(path)), Ok(Found::Missing))
        {
            return false;
        }
        let is_free = spellings.twin(place, path).is_none();
        if !is_free {
            barred.insert(path.parent());
        }
        is_free
    })
}

impl Spellings<Option<RepoPath>> {
    /// Returns whether a path at which something was found is spelled so in its directory.
    pub(super) fn path_is_so(&mut self, place: &Place, path: &RepoPath) -> bool {
        let (dir, name) = (path.parent(), OsStr::from_bytes(path.file_name()));
        if let Some(answer) = self.known_so(&dir, name) {
            return answer;
        }
        // What cannot be listed cannot be told, and nothing is missing there anyhow.
        let Some(above) = open(place, dir.as_ref()) else {
            return true;
        };
        match look(&above, name) {
            Ok(Some(seen)) => self.is_so(dir, &above, name, &seen).unwrap_or(true),
            Ok(None) | Err(_) => true,
        }
    }

    /// Looks at a path whose directory is there: what stands at this very spelling, and what else it
    /// leads to.
    pub(super) fn look(
        &mut self,
        place: &Place,
        path: &RepoPath,
    ) -> (io::Result<Found>, Option<RepoPath>) {
        match stable::look(&place.on_disk(path)) {
            Ok(Found::Missing) => (Ok(Found::Missing), None),
            Ok(_) if !self.path_is_so(place, path) => (Ok(Found::Missing), self.twin(place, path)),
            found => (found, None),
        }
    }

    /// Returns what a path that is not listed in its spelling leads to all the same, as the disk
    /// spells it: itself, or the last above it that is there. `None` if nothing is in its way.
    pub(super) fn twin(&mut self, place: &Place, path: &RepoPath) -> Option<RepoPath> {
        let mut at: Option<RepoPath> = None;
        let mut is_twin = false;
        for name in path.components() {
            let Ok(here) = at
                .as_ref()
                .map_or_else(|| RepoPath::new(name), |at| at.join(name))
            else {
                break;
            };
            let Some(dir) = open(place, at.as_ref()) else {
                break;
            };
            let name = OsStr::from_bytes(name);
            let Some(seen) = look(&dir, name).ok().flatten() else {
                break;
            };
            if self.is_so(at.clone(), &dir, name, &seen).unwrap_or(true) {
                at = Some(here);
                continue;
            }
            let names = list(&dir).ok()?;
            let is = |other: &&OsString| {
                let found = look(&dir, other.as_os_str()).ok().flatten();
                found.is_some_and(|found| found.which == seen.which)
            };
            let spelled = names.iter().find(is)?;
            let spelled = spelled.as_bytes();
            let there = at
                .as_ref()
                .map_or_else(|| RepoPath::new(spelled), |at| at.join(spelled));
            at = Some(there.ok()?);
            is_twin = true;
        }
        at.filter(|_| is_twin)
    }

    /// Returns the files of HEAD that may have been where a new file is, or where one went, under
    /// another spelling of its name or of a directory above it. Each directory is told of once.
    pub(super) fn respelled(
        &mut self,
        place: &Place,
        head: &Lookup,
        path: &RepoPath,
        told: &mut BTreeSet<Option<RepoPath>>,
    ) -> Result<Vec<RepoPath>, RepoError> {
        let mut found = Vec::new();
        let mut at = path.clone();
        loop {
            let dir = at.parent();
            // This also learns what the directory does, if something is there.
            self.path_is_so(place, &at);
            if self.folds
                && !self.known.contains_key(&dir)
                && let Some(names) = open(place, dir.as_ref()).and_then(|it| list(it).ok())
            {
                self.known.insert(dir.clone(), Telling::Folds(names));
            }
            if let Some(Telling::Folds(names)) = self.known.get(&dir)
                && told.insert(dir.clone())
            {
                let tree = match &dir {
                    Some(dir) => head.get(dir)?.filter(tree::Entry::is_tree).map(|it| it.id),
                    None => head.root(),
                };
                for line in tree.map_or_else(|| Ok(Vec::new()), |id| place.objects.tree(id))? {
                    if names.contains(OsStr::from_bytes(&line.name)) {
                        continue;
                    }
                    let gone = match &dir {
                        Some(dir) => dir.join(&line.name)?,
                        None => RepoPath::new(&line.name)?,
                    };
                    if line.entry.is_tree() {
                        let below = tree::differences(&place.objects, None, Some(line.entry.id))?;
                        for file in below {
                            found.push(gone.join(file.path.as_bytes())?);
                        }
                    } else {
                        found.push(gone);
                    }
                }
            }
            match dir {
                Some(dir) => at = dir,
                None => return Ok(found),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_is_in_another_case() {
        for (name, other) in [
            ("README", "readme"),
            ("a-é", "A-é"),
            ("é", "É"),
            ("1.2", "1.2"),
            ("ß", "ß"),
            ("が", "が"),
        ] {
            assert_eq!(respelled(name), OsString::from(other), "{name}");
        }
    }

    #[test]
    fn a_name_with_several_links_is_spelled_as_it_is_listed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a"), "").unwrap();
        std::fs::hard_link(place.path().join("a"), place.path().join("A")).unwrap();
        let dir = std::fs::File::open(place.path()).unwrap();
        for name in ["a", "A"] {
            let seen = look(&dir, OsStr::new(name)).unwrap().unwrap();
            assert!(is_so(&dir, OsStr::new(name), &seen, false).unwrap());
        }
    }
}
