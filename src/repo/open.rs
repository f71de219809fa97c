//! Is a file open for writing, by anybody?
//!
//! A read lease is granted only while nobody has the file open for writing, shared writable
//! mappings included (fcntl(2), `F_SETLEASE`). It is given back at once: an opener waits while it
//! is held.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::sys;

/// Whether somebody has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Nobody has.
    No,
    /// Somebody has.
    Yes,
    /// The file system or the owner of the file does not let us know.
    Unknown,
}

/// Returns whether somebody has an open file open for writing as well.
pub fn writer(fd: impl AsFd) -> Writer {
    match sys::read_lease(fd.as_fd()) {
        Ok(()) => Writer::No,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Writer::Yes,
        Err(_) => Writer::Unknown,
    }
}

/// Returns whether somebody has the file at a path open for writing, as far as we can know.
///
/// A file that is not there, a link or a special file is open to nobody.
pub fn open_for_writing(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => writer(fd) == Writer::Yes,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    /// Directories on the disks that tests run on: the temporary directory's, and memory.
    fn disks() -> Vec<tempfile::TempDir> {
        let mut found = vec![tempfile::tempdir().unwrap()];
        found.extend(tempfile::tempdir_in("/dev/shm"));
        found
    }

    #[test]
    fn a_writer_is_seen_and_a_reader_is_not() {
        for dir in disks() {
            let path = dir.path().join("file");
            fs::write(&path, "x").unwrap();
            let reader = File::open(&path).unwrap();
            assert!(!open_for_writing(&path));
            let writer = File::options().append(true).open(&path).unwrap();
            assert!(open_for_writing(&path));
            drop(writer);
            assert!(!open_for_writing(&path));
            drop(reader);
        }
    }

    #[test]
    fn a_lease_is_given_back_at_once() {
        for dir in disks() {
            let path = dir.path().join("file");
            fs::write(&path, "x").unwrap();
            let file = File::open(&path).unwrap();
            assert_eq!(writer(&file), Writer::No);
            // With the lease still held this would wait for its break.
            fs::write(&path, "y").unwrap();
            assert_eq!(writer(&file), Writer::No);
        }
    }

    #[test]
    fn a_fifo_and_a_link_are_open_to_nobody_and_never_waited_for() {
        for dir in disks() {
            let fifo = dir.path().join("fifo");
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            assert!(!open_for_writing(&fifo));
            let link = dir.path().join("link");
            symlink(&fifo, &link).unwrap();
            assert!(!open_for_writing(&link));
            assert!(!open_for_writing(&dir.path().join("missing")));
        }
    }
}
