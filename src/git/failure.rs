//! What failures of the disk and of git on this computer mean, in words for the user.
//!
//! Invariant: a disk that fails is never taken for one without files, and what is said of it says so.
//!
//! Absent: what a hub says (`refusal`).

use std::io;

use crate::engine::event::{Code, Recovery, Trouble};

/// Sorts a failure of the file system into a trouble.
pub fn io_trouble(message: &str, source: &io::Error) -> Trouble {
    let kind = source.kind();
    if kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded {
        let hint = "Free some space; syncing goes on by itself.";
        // Which file it was that found no room is no matter.
        let message = "there is no space left on the disk";
        Trouble::new(Code::DiskFull, Recovery::Hold, message, hint)
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        let hint = "Make the file system writable; syncing goes on by itself.";
        Trouble::new(Code::ReadOnly, Recovery::Hold, message, hint)
    } else if kind == io::ErrorKind::PermissionDenied {
        let hint = "Let the file, and the directory that it is in, belong to this user.";
        Trouble::new(Code::Io, Recovery::Retry, message, hint)
    } else {
        Trouble::new(Code::Io, Recovery::Retry, message, io_hint(source))
    }
}

/// Says what to do about a disk that fails: nothing is taken for deleted because of it.
fn io_hint(source: &io::Error) -> &'static str {
    use rustix::io::Errno;
    let number = source.raw_os_error().unwrap_or_default();
    let is = |all: &[Errno]| all.iter().any(|errno| errno.raw_os_error() == number);
    if is(&[Errno::IO, Errno::NXIO, Errno::NODEV]) {
        "Nothing was deleted, here or elsewhere. Check the disk and its cable (`dmesg` has what it \
         reported), and have a copy of what it still gives; syncing goes on by itself."
    } else if is(&[
        Errno::STALE,
        Errno::TIMEDOUT,
        Errno::HOSTDOWN,
        Errno::NOTCONN,
    ]) {
        "Nothing was deleted. Check the connection to the disk, or mount it again; syncing goes on by \
         itself."
    } else if is(&[Errno::MFILE, Errno::NFILE]) {
        "Close some programs, or raise the limit of open files (`ulimit -n`); syncing goes on by \
         itself."
    } else {
        "Nothing was deleted, and it is tried again by itself; if it goes on, check the disk."
    }
}

/// What the system says of a disk without room.
pub(super) const FULL: &[&str] = &["No space left on device", "Disk quota exceeded"];

/// What git says of an index that it cannot read.
const BAD_INDEX: &[&str] = &[
    "index file corrupt",
    "index file smaller than expected",
    "bad index file",
    "bad index version",
    "malformed format in the index",
    "cache entry has null sha1",
    "unordered stage entries",
];

/// What git says of objects that are not what they should be.
const DAMAGED: &[&str] = &[
    "loose object",
    "is corrupt",
    "is empty",
    "unable to read tree",
    "unable to read sha1 file",
    "packfile ",
    "inflate:",
    "hash mismatch",
    "bad tree object",
    "missing blob",
    "could not parse object",
];

pub(super) fn damaged(message: &str) -> Trouble {
    Trouble::new(
        Code::Damaged,
        Recovery::Hold,
        format!("the repository is damaged: {message}"),
        "Run `git fsck`, and move what it calls corrupt away; what the hub has comes back with \
         `git fetch --refetch`. Syncing goes on by itself then.",
    )
}

/// Returns whether the object library met something that is not what it should be, or is not there.
pub(super) fn is_damage(error: &git2::Error) -> bool {
    let of_objects = matches!(
        error.class(),
        git2::ErrorClass::Odb
            | git2::ErrorClass::Zlib
            | git2::ErrorClass::Object
            | git2::ErrorClass::Tree
    );
    of_objects && error.code() != git2::ErrorCode::Locked
}

pub(super) fn local_failure(message: &str, stderr: &str) -> Trouble {
    let has = |text: &str| stderr.contains(text);
    if FULL.iter().any(|text| has(text)) {
        io_trouble(message, &io::ErrorKind::StorageFull.into())
    } else if has("Read-only file system") {
        io_trouble(
            "the file system is read-only",
            &io::ErrorKind::ReadOnlyFilesystem.into(),
        )
    } else if has("Input/output error") {
        io_trouble(message, &rustix::io::Errno::IO.into())
    } else if has("dubious ownership") {
        Trouble::new(
            Code::Ownership,
            Recovery::Hold,
            "the repository belongs to another user, so git refuses it",
            "Change its owner, or run `git config --global --add safe.directory DIR`.",
        )
    } else if BAD_INDEX.iter().any(|text| has(text)) {
        Trouble::new(
            Code::Damaged,
            Recovery::Hold,
            "the repository's index is damaged",
            "Remove the file `index` in the git directory and run `git reset`; no file changes by that.",
        )
    } else if DAMAGED.iter().any(|text| has(text)) {
        damaged(message)
    } else if has("could not lock config file") {
        Trouble::new(
            Code::GitBusy,
            Recovery::Pause,
            "another git writes this folder's configuration",
            "If no git is at work here any more, remove `config.lock` in its git directory.",
        )
    } else if has(".lock': File exists") {
        Trouble::new(
            Code::GitBusy,
            Recovery::Pause,
            "another git works in this folder",
            "",
        )
    } else {
        Trouble::new(Code::Git, Recovery::Retry, message, "")
    }
}
