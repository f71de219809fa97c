//! What a person let through the guards of a folder, for good: `autosync allow PATH`.
//!
//! The file `autosync/allowed` in the folder's git directory, so it is for this host and outlives
//! restarts. It is written by the command and read whenever a guard is about to hold something: an
//! agent hears of it without being told.
//!
//! Invariants:
//! 1. A directory that is let through lets junk through below it, and secrets only if that was
//!    said.
//! 2. Two commands at once lose nothing: who writes holds the lock of the file.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::RepoError;
use super::records::{self, damaged};
use crate::names::RepoPath;

/// The kind and version of the file.
const KIND: &str = "autosync allowed 1";

/// How the whole folder stands in the file.
const ROOT: &[u8] = b".";

/// What is let through at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Very many new files, build output and caches.
    Junk,
    /// Secrets, too.
    Everything,
}

/// What was let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    root: Option<What>,
    paths: BTreeMap<RepoPath, What>,
}

impl Allowed {
    /// Reads what was let through in the folder whose directory of ours this is.
    pub fn load(store: &Path) -> Result<Self, RepoError> {
        let file = store.join("allowed");
        let mut allowed = Self::default();
        for fields in records::read(&file, KIND, 2)?.unwrap_or_default() {
            let what = match fields[0].as_slice() {
                b"junk" => What::Junk,
                b"all" => What::Everything,
                _ => return Err(damaged(&file, "a word is unknown")),
            };
            if fields[1] == ROOT {
                allowed.root = Some(what);
            } else {
                allowed.paths.insert(RepoPath::new(&fields[1])?, what);
            }
        }
        Ok(allowed)
    }

    /// Returns whether nothing was let through.
    pub fn is_empty(&self) -> bool {
        self.root.is_none() && self.paths.is_empty()
    }

    /// Returns whether a path may be a secret.
    pub fn lets_secret(&self, path: &RepoPath) -> bool {
        self.most(path) == Some(What::Everything)
    }

    /// Returns whether a path may be junk, or one of very many.
    pub fn lets_junk(&self, path: &RepoPath) -> bool {
        self.most(path).is_some()
    }

    /// Returns the most that is let through at a path.
    fn most(&self, path: &RepoPath) -> Option<What> {
        if self.is_empty() {
            return None;
        }
        let above = path
            .ancestors()
            .filter_map(|dir| self.paths.get(&dir).copied());
        above
            .chain(self.paths.get(path).copied())
            .chain(self.root)
            .max()
    }

    fn save(&self, file: &Path) -> Result<(), RepoError> {
        let word = |what: What| match what {
            What::Junk => b"junk".to_vec(),
            What::Everything => b"all".to_vec(),
        };
        let root = self.root.map(|what| vec![word(what), ROOT.to_vec()]);
        let paths = self.paths.iter();
        let paths = paths.map(|(path, what)| vec![word(*what), path.as_bytes().to_vec()]);
        let all: Vec<records::Fields> = root.into_iter().chain(paths).collect();
        records::write(file, KIND, &all)
    }
}

/// Lets a path through, and what is below it; `None` is the whole folder. Returns whether that is
/// more than before.
pub fn allow(store: &Path, path: Option<&RepoPath>, what: What) -> Result<bool, RepoError> {
    match DirBuilder::new().mode(0o700).create(store) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(RepoError::io(store, error)),
    }
    let lock = store.join("allowed.lock");
    let held = File::options().create(true).append(true).open(&lock);
    let held = held.map_err(|error| RepoError::io(&lock, error))?;
    // It is held for one small write.
    flock(&held, FlockOperation::LockExclusive)
        .map_err(|error| RepoError::io(&lock, error.into()))?;
    let mut allowed = Allowed::load(store)?;
    let before = allowed.clone();
    match path {
        None => allowed.root = allowed.root.max(Some(what)),
        Some(path) => {
            let known = allowed.paths.entry(path.clone()).or_insert(what);
            *known = what.max(*known);
        }
    }
    let more = allowed != before;
    if more {
        allowed.save(&store.join("allowed"))?;
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    #[test]
    fn what_is_let_through_stays_so_and_holds_below_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("autosync");
        assert!(Allowed::load(&store).unwrap().is_empty());
        assert!(allow(&store, Some(&path("a/.env")), What::Everything).unwrap());
        assert!(allow(&store, Some(&path("target")), What::Junk).unwrap());
        assert!(!allow(&store, Some(&path("a/.env")), What::Junk).unwrap());
        let allowed = Allowed::load(&store).unwrap();
        for (name, secret, junk) in [
            ("a/.env", true, true),
            ("a/.env/x", true, true),
            ("a/.envx", false, false),
            ("a", false, false),
            ("target/debug/a", false, true),
            ("targets", false, false),
        ] {
            assert_eq!(allowed.lets_secret(&path(name)), secret, "{name}");
            assert_eq!(allowed.lets_junk(&path(name)), junk, "{name}");
        }
        assert!(allow(&store, None, What::Junk).unwrap());
        let allowed = Allowed::load(&store).unwrap();
        assert!(allowed.lets_junk(&path("b")) && !allowed.lets_secret(&path("b")));
        assert!(allowed.lets_secret(&path("a/.env")));
    }

    #[test]
    fn commands_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("autosync");
        let names: Vec<String> = (0..16).map(|number| format!("f{number}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| allow(&store, Some(&path(name)), What::Everything).unwrap());
            }
        });
        let allowed = Allowed::load(&store).unwrap();
        assert!(names.iter().all(|name| allowed.lets_secret(&path(name))));
    }
}
