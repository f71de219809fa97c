//! A lock that dies with its holder: one agent per user, one per folder.
//!
//! Invariants:
//! 1. The lock is the kernel's (`flock`), held by an open descriptor. A killed holder leaves no
//!    lock, and a reused process id cannot look like one.
//! 2. The file is never removed: who removes a lock file can take it away from somebody who has
//!    just locked it.
//! 3. The text in the file is for messages and for finding the holder, never for deciding.
//!
//! Absent: waiting for a holder that lives. Who does not get the lock is told who has it. Only what a
//! killed holder's last child still holds, until it begins its own program, is waited for.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::{clock, fault, process};

/// How long the lock of a holder that is dead is waited for. Its child needs a millisecond; on a
/// machine that is overloaded, more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often that lock is tried.
const BREATH: Duration = Duration::from_millis(5);

/// A lock that we hold until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(transparent)]
    Held(Held),
    /// The file cannot be opened, locked or written.
    #[error("cannot lock `{}`: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Somebody else holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is locked by {}", path.display(), self.who())]
pub struct Held {
    /// The holder's process id, `None` in the moment in which it has not said.
    pub pid: Option<u32>,
    /// The lock file.
    pub path: PathBuf,
}

impl Held {
    /// Returns the holder in words: `process 123`, or `another process`.
    pub fn who(&self) -> String {
        self.pid
            .map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
    }
}

/// What the last holder of a lock wrote into it. It says nothing about whether it still lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its process id.
    pub pid: u32,
    /// What it had to say to those who look for it, empty if nothing.
    pub note: String,
}

impl Lock {
    /// Acquires the lock file at `path`, made with mode 0600 if it is not there, and writes our
    /// process id into it.
    ///
    /// Errors at once if somebody who lives holds it, if it is a symbolic link, or if its directory
    /// is missing.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
        let file = File::from(fd);
        let deadline = clock::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let pid = trace(path).map(|trace| trace.pid);
            if !pid.is_some_and(process::is_gone) || clock::now() >= deadline {
                let path = path.to_owned();
                return Err(LockError::Held(Held { pid, path }));
            }
            // A child that was forked and has not yet begun its own program has a copy of the
            // killed holder's descriptor, and with it the lock (flock(2)).
            fault::at("L1.dead-holder");
            std::thread::sleep(BREATH);
        }
        let lock = Self {
            file,
            path: path.to_owned(),
        };
        lock.note("")?;
        Ok(lock)
    }

    /// Writes a note for those who look for the holder, one line, in place of the one before.
    pub fn note(&self, note: &str) -> Result<(), LockError> {
        let text = format!("{}\n{}\n", std::process::id(), note.replace('\n', " "));
        let mut file = &self.file;
        let mut write = || {
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            self.file.set_len(text.len() as u64)
        };
        write().map_err(|source| LockError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Returns the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    /// Empties the file, so that nobody is named who is gone, and lets the lock go.
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(path = %self.path.display(), %error, "cannot empty a lock file");
        }
        // Closing alone is not enough: a child that was forked and has not yet begun its own
        // program still has the descriptor, and with it the lock (flock(2)).
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(path = %self.path.display(), %error, "cannot let a lock go");
        }
    }
}

/// Returns what the last holder wrote into the lock file, `None` if there is nothing.
///
/// The lock itself is not touched: trying it could make somebody who acquires it fail.
pub fn trace(path: &Path) -> Option<Trace> {
    read_trace(File::open(path).ok()?)
}

fn read_trace(file: File) -> Option<Trace> {
    let mut text = String::new();
    // A lock file is two short lines; more is not ours and not read.
    file.take(8192).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    Some(Trace {
        pid: lines.next()?.parse().ok()?,
        note: lines.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_gets_it_afterwards() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let first = Lock::acquire(&path).unwrap();
        let Err(LockError::Held(held)) = Lock::acquire(&path) else {
            panic!("two holders");
        };
        assert_eq!(held.pid, Some(std::process::id()));
        assert!(
            held.to_string()
                .ends_with(&format!("is locked by process {}", std::process::id()))
        );
        drop(first);
        assert_eq!(trace(&path), None);
        Lock::acquire(&path).unwrap();
    }

    #[test]
    fn a_copy_of_the_descriptor_in_a_child_does_not_keep_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let lock = Lock::acquire(&path).unwrap();
        let in_child = lock.file.try_clone().unwrap();
        drop(lock);
        Lock::acquire(&path).unwrap();
        drop(in_child);
    }

    #[test]
    fn what_a_killed_holder_s_child_still_has_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let mut command = process::command("true");
        let mut gone = process::Running::start(&mut command).unwrap();
        let pid = gone.pid();
        gone.wait().unwrap();
        fs::write(&path, format!("{pid}\n\n")).unwrap();
        let in_child = File::open(&path).unwrap();
        flock(&in_child, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut in_child = Some(in_child);
        let begins = move |step: &str| {
            if step == "L1.dead-holder" {
                drop(in_child.take());
            }
        };
        fault::with_hook(begins, || Lock::acquire(&path)).unwrap();
    }

    #[test]
    fn a_note_is_found_without_touching_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        assert_eq!(trace(&path), None);
        let lock = Lock::acquire(&path).unwrap();
        lock.note("/a/rather/long/path").unwrap();
        lock.note("/short\npath").unwrap();
        assert_eq!(
            trace(&path),
            Some(Trace {
                pid: std::process::id(),
                note: "/short path".into()
            })
        );
    }

    #[test]
    fn a_link_is_not_followed_and_a_text_left_behind_is_no_lock() {
        let place = tempfile::tempdir().unwrap();
        let (target, link) = (place.path().join("target"), place.path().join("link"));
        fs::write(&target, "4194304\nstale\n").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(Lock::acquire(&link), Err(LockError::Io { .. })));
        Lock::acquire(&target).unwrap();
    }
}
