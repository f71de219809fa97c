//! The lock of a repository with reftable: one for all references, and nothing in it tells whose.
//!
//! Before a git of ours takes it, a note says which process that is. After a kill the note tells
//! our lock from others': the process is dead, the lock is no older than the note, and nobody has
//! it open. With any other store of references there is neither note nor lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Git, GitError};
use crate::process;

/// File times are read in coarse steps.
const COARSE: Duration = Duration::from_secs(1);

/// A note that a process of ours may hold the lock. It goes when this is dropped, not by a kill.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "a note of a lock is still there");
        }
    }
}

fn lock(git: &Git) -> PathBuf {
    git.common_dir().join("reftable/tables.list.lock")
}

fn note(git: &Git) -> PathBuf {
    git.dir().join("autosync/reftable.owner")
}

/// Notes, durably, that this process may take the lock. Returns `None` where there is none.
pub(super) fn write_down(git: &Git, pid: u32) -> Result<Option<Note>, GitError> {
    if !git.common_dir().join("reftable").is_dir() {
        return Ok(None);
    }
    let path = note(git);
    let start = i32::try_from(pid).ok().and_then(process::start_time);
    let text = format!(
        "{pid} {} {}\n",
        start.unwrap_or_default(),
        process::boot_id()
    );
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir)?;
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| GitError::io(&path, error))?;
    Ok(Some(Note(path)))
}

/// Returns the lock if a process of ours left it that is dead.
///
/// To be asked at the start, under our own lock of the folder; then [`forget`] the process.
pub fn left_lock(git: &Git) -> Option<PathBuf> {
    let (lock, note) = (lock(git), note(git));
    let text = fs::read_to_string(&note).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[pid, start, boot] = words.as_slice() else {
        return None;
    };
    let made = |path: &Path| fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let (locked, noted) = (made(&lock).ok()?, made(&note).ok()?);
    let lives = process::lives(pid.parse().ok()?, start.parse().ok()?, boot);
    (!lives && locked + COARSE >= noted && !process::is_open(&lock)).then_some(lock)
}

/// Forgets which process may have had the lock, unless there is one: then it may be needed.
pub fn forget(git: &Git) -> Result<(), GitError> {
    let (lock, note) = (lock(git), note(git));
    if lock.symlink_metadata().is_ok() {
        return Ok(());
    }
    match fs::remove_file(&note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(GitError::io(&note, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
