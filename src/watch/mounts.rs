//! The table of mounts: what is mounted over, under or away from a folder makes no file event.
//!
//! One thread waits for the kernel to say that `/proc/self/mountinfo` changed (proc(5)), reads
//! it again and tells the inbox if it changed for this folder. Before an echo it is read as well.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::source::Inbox;

/// Everything that is mounted for this process.
const TABLE: &str = "/proc/self/mountinfo";

/// Waits for mounts. Dropping it stops and joins its thread.
pub(super) struct Mounts {
    known: Arc<Known>,
    stop: Arc<OwnedFd>,
    waiter: Option<JoinHandle<()>>,
}

impl Mounts {
    /// Starts to wait for mounts that concern `root`: for every one after this call.
    pub(super) fn start(root: PathBuf, inbox: Arc<Inbox>) -> io::Result<Self> {
        let table = File::open(TABLE)?;
        // Here and not in the thread: what is mounted until that runs would count as old.
        let lines = Mutex::new(read(&root)?);
        let known = Arc::new(Known { root, inbox, lines });
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let waiter = std::thread::Builder::new()
            .name("watch-mounts".into())
            .spawn({
                let (known, stop) = (Arc::clone(&known), Arc::clone(&stop));
                move || {
                    if let Err(error) = wait_on(&table, &known, &stop) {
                        tracing::warn!(%error, "mounts are not noticed any more");
                    }
                }
            })?;
        Ok(Self {
            known,
            stop,
            waiter: Some(waiter),
        })
    }

    /// Looks at the table now: what was mounted before this call is in the inbox after it.
    pub(super) fn look(&self) {
        if let Err(error) = self.known.look() {
            tracing::warn!(%error, "cannot look at the mounts");
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()) {
            tracing::error!(%error, "cannot stop waiting for mounts");
            return;
        }
        if let Some(waiter) = self.waiter.take()
            && waiter.join().is_err()
        {
            tracing::error!("the wait for mounts had ended early");
        }
    }
}

/// What was told of the table so far.
struct Known {
    root: PathBuf,
    inbox: Arc<Inbox>,
    lines: Mutex<BTreeSet<Vec<u8>>>,
}

impl Known {
    /// Tells the inbox if the table changed for this folder.
    fn look(&self) -> io::Result<()> {
        // Held until it is told: who finds nothing new here may rely on that.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = read(&self.root)?;
        if *lines != now {
            *lines = now;
            self.inbox.mounts_changed();
        }
        Ok(())
    }
}

fn wait_on(table: &File, known: &Known, stop: &OwnedFd) -> io::Result<()> {
    loop {
        let mut ready = [
            PollFd::new(table, PollFlags::PRI),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !ready[1].revents().is_empty() {
            return Ok(());
        }
        known.look()?;
    }
}

fn read(root: &Path) -> io::Result<BTreeSet<Vec<u8>>> {
    Ok(concerning(
        &std::fs::read(TABLE)?,
        root.as_os_str().as_bytes(),
    ))
}

/// Returns the lines of the table whose mount point is the root, above it or below it.
fn concerning(table: &[u8], root: &[u8]) -> BTreeSet<Vec<u8>> {
    let within = |path: &[u8], dir: &[u8]| {
        let dir = dir.strip_suffix(b"/").unwrap_or(dir);
        path.strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    table
        .split(|byte| *byte == b'\n')
        .filter(|line| {
            let point = line.split(|byte| *byte == b' ').nth(4).map(unescape);
            point.is_some_and(|point| within(&point, root) || within(root, &point))
        })
        .map(<[u8]>::to_vec)
        .collect()
}

/// Returns a field of the table as it is meant: blanks and backslashes stand there in octal.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_above_and_below_the_root_concern_it() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /home/a\\040b rw - tmpfs t rw\n\
            3 1 0:6 / /home/a\\040b/sub/deep rw - tmpfs t rw\n\
            4 1 0:7 / /home/a rw - tmpfs t rw\n\
            5 1 0:8 / /home/a\\040bc rw - tmpfs t rw\n";
        let found = concerning(table, b"/home/a b");
        let first: Vec<_> = found.iter().map(|line| char::from(line[0])).collect();
        assert_eq!(first, ['1', '2', '3']);
    }

    #[test]
    fn octal_is_read_and_other_backslashes_are_kept() {
        assert_eq!(unescape(b"a\\040b\\134c\\x"), b"a b\\c\\x");
        assert_eq!(unescape(b"\\04"), b"\\04");
    }
}
