//! What a file is besides its content: mode, owner, group, extended attributes, access lists.
//!
//! A new version takes all of it from the file that it replaces. A plain exchange would turn a
//! 0600 key into a 0644 one.
//!
//! Absent: times, and what the kernel itself takes away when a file is written to: set-user-id
//! bits and file capabilities.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Gid, Mode, Uid, XattrFlags, chownat, fchmod, fchown, fgetxattr, fgetxattr_query,
    flistxattr, flistxattr_query, fsetxattr,
};
use rustix::io::Errno;

use super::disk::{Seen, look_at};

/// The access list that new files in a directory get.
const DEFAULT_LIST: &str = "system.posix_acl_default";
/// The access list of a file.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Attributes that say something about the content, which is another one now.
const OF_CONTENT: &[&[u8]] = &[b"security.capability", b"security.ima", b"security.evm"];

/// Whether something could be given to a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// All of it.
    All,
    /// Not all: this host or this user cannot.
    NotAll,
}

/// Returns permission bits with the executable bits that git wants and all others as they were.
pub fn with_executable(mode: u32, executable: bool) -> u32 {
    let mode = mode & 0o777;
    if !executable {
        mode & !0o111
    } else if mode & 0o100 != 0 {
        mode
    } else {
        // Who may read may execute.
        mode | (mode & 0o444) >> 2 | 0o100
    }
}

/// Gives a staged file what the file that it will replace has.
///
/// `old` and `new` are regular files; `seen` is what the old one looks like.
pub fn inherit(old: impl AsFd, seen: &Seen, new: impl AsFd, executable: bool) -> io::Result<Given> {
    let (old, new) = (old.as_fd(), new.as_fd());
    let staged = look_at(new)?;
    if (staged.owner, staged.group) != (seen.owner, seen.group) {
        let owner = Some(Uid::from_raw(seen.owner));
        let group = Some(Gid::from_raw(seen.group));
        match fchown(new, owner, group) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Given::NotAll),
            Err(error) => return Err(error.into()),
        }
    }
    for (name, value) in attributes(old)? {
        match fsetxattr(new, &name, &value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return Ok(Given::NotAll);
            }
            Err(error) => return Err(error.into()),
        }
    }
    // After the access list: with one, these bits are part of it.
    let mode = with_executable(seen.mode, executable);
    fchmod(new, Mode::from_raw_mode(mode))?;
    let done = look_at(new)?;
    let same = (done.owner, done.group, done.mode) == (seen.owner, seen.group, mode);
    Ok(if same { Given::All } else { Given::NotAll })
}

/// Gives a staged file what a file made in `parent` would get: the group of a set-group-id
/// directory, and the directory's default access list.
pub fn adopt(parent: impl AsFd, new: impl AsFd) -> io::Result<()> {
    let (parent, new) = (parent.as_fd(), new.as_fd());
    let dir = look_at(parent)?;
    let staged = look_at(new)?;
    if dir.mode & 0o2000 != 0 && dir.group != staged.group {
        match fchown(new, None, Some(Gid::from_raw(dir.group))) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(list) = attribute(parent, DEFAULT_LIST)? {
        match fsetxattr(new, ACCESS_LIST, &list, XattrFlags::empty()) {
            Ok(()) => {
                // A default list never makes executable what git says is not.
                let ceiling = if staged.executable() { 0o777 } else { 0o666 };
                let mode = look_at(new)?.mode & ceiling;
                fchmod(new, Mode::from_raw_mode(mode))?;
            }
            Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives a staged link the owner of what it will replace, as far as we may.
pub fn adopt_link(dir: impl AsFd, name: &OsStr, seen: &Seen) {
    let owner = Some(Uid::from_raw(seen.owner));
    let group = Some(Gid::from_raw(seen.group));
    if let Err(error) = chownat(dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
        tracing::debug!(%error, "a link keeps our own owner");
    }
}

/// Returns whether a directory is as we would make it: it may go when it is empty.
pub fn is_plain(dir: impl AsFd, model: &Seen) -> io::Result<bool> {
    let dir = dir.as_fd();
    let seen = look_at(dir)?;
    Ok(seen.mode == model.mode
        && (seen.owner, seen.group) == (model.owner, model.group)
        && attributes(dir)?
            .iter()
            .all(|(name, _)| name.as_bytes() == b"security.selinux"))
}

/// Returns the extended attributes of a file, but for those of its content.
fn attributes(fd: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let fd = fd.as_fd();
    let mut names = Vec::new();
    loop {
        let size = match flistxattr_query(fd) {
            Ok(size) => size,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        names.clear();
        names.reserve(size + 64);
        match flistxattr(fd, spare_capacity(&mut names)) {
            Ok(_) => break,
            // One more came in between.
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if OF_CONTENT.contains(&name) {
            continue;
        }
        if let Some(value) = attribute(fd, OsStr::from_bytes(name))? {
            found.push((CString::new(name)?, value));
        }
    }
    Ok(found)
}

/// Returns the value of an extended attribute; `None` if there is none.
fn attribute(fd: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let (fd, name) = (fd.as_fd(), name.as_ref());
    loop {
        let size = match fgetxattr_query(fd, name) {
            Ok(size) => size,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut value = Vec::with_capacity(size + 64);
        match fgetxattr(fd, name, spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::NODATA) => return Ok(None),
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_decides_who_may_execute_and_the_old_file_decides_the_rest() {
        let cases = [
            (0o600, false, 0o600),
            (0o600, true, 0o700),
            (0o640, true, 0o750),
            (0o644, true, 0o755),
            (0o755, false, 0o644),
            (0o700, true, 0o700),
            (0o4755, true, 0o755),
        ];
        for (old, executable, new) in cases {
            assert_eq!(with_executable(old, executable), new, "{old:o}");
        }
    }
}
