//! The repository's configuration file: written so that a kill leaves no lock that nobody knows.
//!
//! `git config` locks by a file beside the one that it writes, and removes it itself. Killed in
//! between, together with us, it left that lock: nobody could write there any more, we no more than
//! the user. So git writes into a copy of ours, and the copy is linked to the lock: it is known by its
//! inode, as `index.lock` is.
//!
//! Invariants:
//! 1. A lock that is no second name of our copy is never touched.
//! 2. What somebody else wrote after the copy was made is never written over.
//!
//! Absent: disks without hard links, and a configuration that is a link elsewhere. There the git
//! program writes as ever.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Git, GitError};
use crate::fault;

/// How often it is tried again when somebody else writes there as well.
const TRIES: u32 = 5;

/// What tells one state of a file from the next.
fn stamp(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn remove(path: &Path) -> Result<(), GitError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrong(path, error)),
        _ => Ok(()),
    }
}

fn wrong(path: &Path, source: io::Error) -> GitError {
    GitError::io(path, source)
}

impl Git {
    fn config_file(&self) -> PathBuf {
        self.common_dir().join("config")
    }

    fn config_lock(&self) -> PathBuf {
        self.common_dir().join("config.lock")
    }

    /// Our copy of the configuration.
    fn config_copy(&self) -> PathBuf {
        self.dir().join("autosync").join("config.new")
    }

    /// Writes a configuration key of the repository.
    pub fn set_config(&self, key: &str, value: &str) -> Result<(), GitError> {
        self.remove_config_lock()?;
        let (file, lock, copy) = (self.config_file(), self.config_lock(), self.config_copy());
        let is_plain = fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file());
        if !is_plain || !copy.parent().is_some_and(Path::is_dir) {
            return self.set_config_there(&file, key, value);
        }
        for _ in 0..TRIES {
            let before = stamp(&file).map_err(|error| wrong(&file, error))?;
            fs::copy(&file, &copy).map_err(|error| wrong(&copy, error))?;
            self.set_config_there(&copy, key, value)?;
            fault::at("C1.written");
            match fs::hard_link(&copy, &lock) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
                // No hard links, or another disk.
                Err(_) => {
                    remove(&copy)?;
                    return self.set_config_there(&file, key, value);
                }
            }
            fault::at("C2.locked");
            if stamp(&file).map_err(|error| wrong(&file, error))? == before {
                fs::rename(&lock, &file).map_err(|error| wrong(&file, error))?;
                return remove(&copy);
            }
            remove(&lock)?;
        }
        remove(&copy)?;
        // Whoever has the lock is named by git.
        self.set_config_there(&file, key, value)
    }

    fn set_config_there(&self, file: &Path, key: &str, value: &str) -> Result<(), GitError> {
        let file = file.as_os_str();
        let args = ["--file".as_ref(), file, key.as_ref(), value.as_ref()];
        self.call("config", args, b"").map(drop)
    }

    /// Removes the lock of the configuration that a killed agent left; nobody else's.
    pub fn remove_config_lock(&self) -> Result<(), GitError> {
        let (lock, copy) = (self.config_lock(), self.config_copy());
        let which = |path: &Path| {
            let meta = fs::symlink_metadata(path).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        if let Some(ours) = which(&copy) {
            if which(&lock) == Some(ours) {
                tracing::info!(path = %lock.display(), "removed a lock that a killed agent left");
                remove(&lock)?;
            }
            remove(&copy)?;
        }
        // Of the git that wrote the copy.
        remove(&copy.with_extension("new.lock"))
    }
}
