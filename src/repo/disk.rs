//! Looking at the work tree, and reaching into it, without ever following a symbolic link.
//!
//! Invariants:
//! 1. A directory of the work tree is opened from the root, by one call that follows no link and
//!    never leaves the root. What is done in it is done through that descriptor.
//! 2. A file is told from another by device, inode and birth: inode numbers are used again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, StatxTimestamp, mkdirat,
    openat, openat2, readlinkat, statx,
};
use rustix::io::Errno;

use super::{Place, RepoError, spelling};
use crate::git::tree::{EXECUTABLE, FILE, SYMLINK};
use crate::names::RepoPath;

/// What kind of thing stands somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    Special,
}

impl Kind {
    /// Returns the kind of a file with this mode of git's; `None` for what is no file or link.
    pub fn of_mode(mode: u32) -> Option<Self> {
        match mode {
            FILE | EXECUTABLE => Some(Self::File),
            SYMLINK => Some(Self::Symlink),
            _ => None,
        }
    }
}

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The device it is on.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not say.
    pub born: i128,
}

impl Identity {
    /// Returns whether it is the same file, also after a reboot that numbered devices anew.
    pub fn is(&self, other: Self) -> bool {
        self.inode == other.inode && self.born == other.born
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What kind of thing.
    pub kind: Kind,
    /// Which one.
    pub which: Identity,
    /// Its permission bits.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Its owner.
    pub owner: u32,
    /// Its group.
    pub group: u32,
    /// Its modification time in nanoseconds since 1970.
    pub modified: i128,
    /// Its change time in nanoseconds since 1970.
    pub changed: i128,
    /// Whether it is immutable or may only be appended to.
    pub fixed: bool,
    /// Whether something is mounted on it.
    pub mount: bool,
}

impl Seen {
    /// Returns whether its owner may execute it.
    pub fn executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Returns whether it is the same thing with the same content as far as a stat can tell;
    /// a rename moves the change time, so that does not count.
    pub fn stands_like(&self, other: &Self) -> bool {
        self.which == other.which && self.size == other.size && self.modified == other.modified
    }
}

fn nanoseconds(time: StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Looks at a name in a directory without following a link; `None` if nothing is there.
pub fn look(dir: impl AsFd, name: &OsStr) -> io::Result<Option<Seen>> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let at = match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, mask) {
        Ok(at) => at,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(seen(&at)))
}

/// Looks at an open file or directory.
pub fn look_at(fd: impl AsFd) -> io::Result<Seen> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(seen(&statx(fd, "", AtFlags::EMPTY_PATH, mask)?))
}

fn seen(at: &rustix::fs::Statx) -> Seen {
    let kind = match u32::from(at.stx_mode) & 0o170_000 {
        0o100_000 => Kind::File,
        0o120_000 => Kind::Symlink,
        0o040_000 => Kind::Directory,
        _ => Kind::Special,
    };
    let has = |flag| at.stx_attributes.contains(flag);
    Seen {
        kind,
        which: Identity {
            device: u64::from(at.stx_dev_major) << 32 | u64::from(at.stx_dev_minor),
            inode: at.stx_ino,
            born: nanoseconds(at.stx_btime),
        },
        mode: u32::from(at.stx_mode) & 0o7777,
        size: at.stx_size,
        links: at.stx_nlink,
        owner: at.stx_uid,
        group: at.stx_gid,
        modified: nanoseconds(at.stx_mtime),
        changed: nanoseconds(at.stx_ctime),
        fixed: has(StatxAttributes::IMMUTABLE) || has(StatxAttributes::APPEND),
        mount: has(StatxAttributes::MOUNT_ROOT),
    }
}

/// Returns the mount that a path is on, as far as the kernel tells: device and mount id.
pub fn mount_of(path: &Path) -> io::Result<(u64, u64)> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let at = statx(CWD, path, AtFlags::empty(), mask)?;
    let device = u64::from(at.stx_dev_major) << 32 | u64::from(at.stx_dev_minor);
    let known = at.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok((device, if known { at.stx_mnt_id } else { 0 }))
}

/// Opens a directory for what is done below it.
pub fn open_directory(path: &Path) -> Result<OwnedFd, RepoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|error| RepoError::io(path, error.into()))
}

/// Reads a symbolic link.
pub fn read_link(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<u8>> {
    Ok(readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// The root of a work tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// Whether the disk is known to take several spellings for one name.
    folds: bool,
    /// Directories that are spelled as they were asked for.
    spelled: RefCell<BTreeSet<RepoPath>>,
}

/// Why a directory could not be reached.
#[derive(Debug)]
pub enum Unreachable {
    /// A component is not there.
    Missing,
    /// This path is no directory but something else, such as a symbolic link.
    Obstacle(RepoPath),
    /// A component is there under another spelling alone.
    Twin,
    /// Something failed.
    Failed(io::Error),
}

impl Root {
    /// Opens the root.
    pub fn open(place: &Place) -> Result<Self, RepoError> {
        Ok(Self {
            fd: open_directory(place.root())?,
            folds: spelling::folds(place),
            spelled: RefCell::default(),
        })
    }

    /// Opens the directory that holds a path.
    pub fn parent(&self, path: &RepoPath) -> Result<OwnedFd, Unreachable> {
        match path.parent() {
            Some(dir) => self.directory(&dir),
            None => self.fd.try_clone().map_err(Unreachable::Failed),
        }
    }

    /// Opens a directory below the root.
    pub fn directory(&self, dir: &RepoPath) -> Result<OwnedFd, Unreachable> {
        let fd = self.reach(dir)?;
        if self.spelled.borrow().contains(dir) {
            return Ok(fd);
        }
        // The one above first; what is gone by now comes again.
        let (above, name) = (self.parent(dir)?, name_of(dir));
        match look(&above, &name).map_err(Unreachable::Failed)? {
            Some(seen) => self.is_spelled(&above, &name, &seen)?,
            None => return Err(Unreachable::Missing),
        }
        self.spelled.borrow_mut().insert(dir.clone());
        Ok(fd)
    }

    fn is_spelled(&self, dir: &OwnedFd, name: &OsStr, seen: &Seen) -> Result<(), Unreachable> {
        match self.spells(dir, name, seen) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unreachable::Twin),
            Err(error) => Err(Unreachable::Failed(error)),
        }
    }

    /// Returns whether a name at which `seen` was found is listed in this very spelling.
    pub(super) fn spells(&self, dir: &OwnedFd, name: &OsStr, seen: &Seen) -> io::Result<bool> {
        spelling::is_so(dir, name, seen, self.folds)
    }

    /// Opens a directory below the root, however it is spelled.
    fn reach(&self, dir: &RepoPath) -> Result<OwnedFd, Unreachable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.fd, dir.as_path(), flags, Mode::empty(), within) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => Err(Unreachable::Missing),
            // Which component it is, or a kernel or sandbox without that call: step by step.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {
                self.walk(dir, false)
            }
            Err(error) => Err(Unreachable::Failed(error.into())),
        }
    }

    /// Opens the directory that holds a path, making what is missing with the default mode.
    pub fn make_parent(&self, path: &RepoPath) -> Result<OwnedFd, Unreachable> {
        match (self.parent(path), path.parent()) {
            (Err(Unreachable::Missing), Some(dir)) => self.walk(&dir, true),
            (reached, _) => reached,
        }
    }

    fn walk(&self, dir: &RepoPath, make: bool) -> Result<OwnedFd, Unreachable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self.fd.try_clone().map_err(Unreachable::Failed)?;
        let mut length = 0;
        for name in dir.components() {
            length += name.len() + usize::from(length > 0);
            let name = OsStr::from_bytes(name);
            let mut opened = openat(&at, name, flags, Mode::empty());
            if make && matches!(opened, Err(Errno::NOENT)) {
                match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(Unreachable::Failed(error.into())),
                }
                opened = openat(&at, name, flags, Mode::empty());
            }
            if let Some(seen) = look(&at, name).map_err(Unreachable::Failed)? {
                self.is_spelled(&at, name, &seen)?;
            }
            at = match opened {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Err(Unreachable::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let obstacle = RepoPath::new(&dir.as_bytes()[..length])
                        .map_err(|error| Unreachable::Failed(io::Error::other(error)))?;
                    return Err(Unreachable::Obstacle(obstacle));
                }
                Err(error) => return Err(Unreachable::Failed(error.into())),
            };
        }
        Ok(at)
    }

    /// Returns whether a path's directory, looked up again, is the one that is open as `dir`.
    pub fn still_holds(&self, path: &RepoPath, dir: impl AsFd) -> io::Result<bool> {
        match self.parent(path) {
            Ok(again) => Ok(look_at(again)?.which == look_at(dir)?.which),
            Err(Unreachable::Missing | Unreachable::Obstacle(_) | Unreachable::Twin) => Ok(false),
            Err(Unreachable::Failed(error)) => Err(error),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the last component of a path as the operating system wants it.
pub fn name_of(path: &RepoPath) -> OsString {
    OsStr::from_bytes(path.file_name()).to_owned()
}

/// Opens a file for reading without following a link and without waiting for a FIFO.
pub fn open_file(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}
