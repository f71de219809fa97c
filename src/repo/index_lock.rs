//! The user's `index.lock`: taken, given back, and known again after a kill (S7).
//!
//! Where the disk has hard links, the lock is a second name of `autosync/index.new` and known by
//! that. Elsewhere it is a file of its own, and a record beside `index.new` says whose it is: which
//! process made it in which boot, and which file it is.
//!
//! Invariants:
//! 1. The record is durable before the lock is made, and names the file before anything is written
//!    into it.
//! 2. A lock is ours only if the record names that very file; or, killed between the two, if it is
//!    empty, as old as the record to a second, and no git is at work here.
//! 3. What a process has that lives is never touched, nor what nobody wrote down.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::disk::{self, Identity, Seen};
use super::publish::remove;
use super::{Place, RepoError, records};
use crate::fault;
use crate::git::gate;
use crate::process;

/// The kind and version of the record.
const KIND: &str = "autosync index lock 1";
/// How many fields it has.
const FIELDS: usize = 6;
/// A lock and its record are made within this time, in nanoseconds.
const TOGETHER: i128 = 1_000_000_000;

fn lock(place: &Place) -> PathBuf {
    place.git.dir().join("index.lock")
}

fn record(place: &Place) -> PathBuf {
    place.store.join("index.lock.owner")
}

/// Takes the lock, with the content of `new`. Returns whether it was free.
pub(super) fn take(place: &Place, new: &Path) -> Result<bool, RepoError> {
    let lock = lock(place);
    let failed = |error| RepoError::io(&lock, error);
    match link(new, &lock) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error)
            if error.raw_os_error().is_some_and(|code| {
                [libc::EPERM, libc::EOPNOTSUPP, libc::EMLINK, libc::EXDEV].contains(&code)
            }) => {}
        Err(error) => return Err(failed(error)),
    }
    write_down(place, None)?;
    fault::at("S7.owner");
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&lock);
    let file = match made {
        Ok(file) => file,
        Err(error) => {
            forget(place)?;
            let taken = error.kind() == io::ErrorKind::AlreadyExists;
            return if taken { Ok(false) } else { Err(failed(error)) };
        }
    };
    fault::at("S7.made");
    let filled = fill(place, file, new);
    if filled.is_err() {
        give_back(place)?;
    }
    filled.map(|()| true)
}

/// Writes down which file the lock is, and then what is to be the index.
fn fill(place: &Place, mut file: fs::File, new: &Path) -> Result<(), RepoError> {
    let lock = lock(place);
    write_down(place, look(&lock)?.map(|seen| seen.which))?;
    fault::at("S7.owned");
    let mut write = || -> io::Result<()> {
        file.write_all(&fs::read(new)?)?;
        // Any later time would let what was changed since pass as clean.
        let meta = fs::metadata(new)?;
        let time = Timespec {
            tv_sec: meta.mtime(),
            tv_nsec: meta.mtime_nsec(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, &lock, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        file.sync_all()
    };
    write().map_err(|error| RepoError::io(&lock, error))
}

fn link(new: &Path, lock: &Path) -> io::Result<()> {
    if fault::asked("AUTOSYNC_NO_LINKS").is_some() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    fs::hard_link(new, lock)
}

/// Gives the lock back that we took.
pub(super) fn give_back(place: &Place) -> Result<(), RepoError> {
    remove(&lock(place))?;
    forget(place)
}

/// Forgets whose the lock was, once it is none any more.
pub(super) fn forget(place: &Place) -> Result<(), RepoError> {
    remove(&record(place))
}

fn write_down(place: &Place, which: Option<Identity>) -> Result<(), RepoError> {
    let pid = std::process::id();
    let start = i32::try_from(pid).ok().and_then(process::start_time);
    let which = which.map(|it| {
        [
            it.device.to_string(),
            it.inode.to_string(),
            it.born.to_string(),
        ]
    });
    let which = which.unwrap_or_else(|| ["-", "-", "-"].map(str::to_owned));
    let fields = [
        pid.to_string(),
        start.unwrap_or_default().to_string(),
        process::boot_id(),
    ];
    let fields = fields.into_iter().chain(which).map(String::into_bytes);
    records::write(&record(place), KIND, &[fields.collect()])
}

pub(super) fn look(at: &Path) -> Result<Option<Seen>, RepoError> {
    let dir = disk::open_directory(at.parent().unwrap_or(at))?;
    let name = at.file_name().unwrap_or_default();
    disk::look(&dir, name).map_err(|error| RepoError::io(at, error))
}

/// Returns the lock if there is one and a killed agent left it. To be asked under our own lock of
/// the folder.
pub(super) fn left_behind(place: &Place) -> Result<Option<PathBuf>, RepoError> {
    let Some(seen) = look(&lock(place))? else {
        return Ok(None);
    };
    let new = look(&place.store.join("index.new"))?;
    let linked = new.is_some_and(|new| new.which == seen.which);
    let ours = linked || is_written_down(place, &seen)?;
    Ok(ours.then(|| lock(place)))
}

fn is_written_down(place: &Place, seen: &Seen) -> Result<bool, RepoError> {
    let path = record(place);
    let all = match records::read(&path, KIND, FIELDS) {
        Ok(all) => all.unwrap_or_default(),
        // What cannot be read names nothing.
        Err(RepoError::State { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let Some(fields) = all.first() else {
        return Ok(false);
    };
    let words: Vec<&str> = fields
        .iter()
        .map(|field| std::str::from_utf8(field).unwrap_or_default())
        .collect();
    if lives(words[0], words[1], words[2]) {
        return Ok(false);
    }
    if let (Ok(device), Ok(inode), Ok(born)) =
        (words[3].parse(), words[4].parse(), words[5].parse())
    {
        let which = Identity {
            device,
            inode,
            born,
        };
        return Ok(seen.which.is(which));
    }
    let meta = fs::metadata(&path).map_err(|error| RepoError::io(&path, error))?;
    let written = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(seen.size == 0
        && (seen.changed - written).abs() < TOGETHER
        && gate::foreign_writers(&place.git).is_empty())
}

/// Returns whether the process that wrote the record lives, and is another one than this.
fn lives(pid: &str, start: &str, boot: &str) -> bool {
    let (Ok(pid), Ok(start)) = (pid.parse::<i32>(), start.parse::<u64>()) else {
        return false;
    };
    let here = i32::try_from(std::process::id()) == Ok(pid);
    !here && process::lives(pid, start, boot)
}
