//! What git ignores and had to make room for a file that came in.
//!
//! Ignored bytes never leave this host and no time or size limit drops them. `aside/N/` holds what
//! stood there, under its own name; `aside/N.path` says where.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, RenameFlags, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::bases::Why;
use super::disk::{Unreachable, name_of};
use super::exchange::Hands;
use super::slots::{Area, make_directory, numbers};
use super::{Place, RepoError, filter, records};
use crate::fault;
use crate::names::RepoPath;

/// More files than this in a directory that is in the way are not looked at one by one.
const LOOKED_AT: usize = 10_000;

/// Something that git ignores and that had to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it stood.
    pub path: RepoPath,
    /// Where it is now.
    pub now: PathBuf,
}

/// Returns everything that had to make room, oldest first.
pub fn set_aside(place: &Place) -> Result<Vec<Aside>, RepoError> {
    let mut found = Vec::new();
    for area in Area::all(place) {
        let dir = area.aside();
        for number in numbers(&dir)? {
            let record = dir.join(format!("{number}.path"));
            let path = fs::read(&record).map_err(|error| RepoError::io(&record, error))?;
            let path = RepoPath::new(path)?;
            let now = dir
                .join(number.to_string())
                .join(OsStr::from_bytes(path.file_name()));
            if now.symlink_metadata().is_ok() {
                found.push(Aside { path, now });
            }
        }
    }
    Ok(found)
}

impl Hands<'_> {
    /// Moves what stands at a path aside if git ignores it. Returns whether it did.
    ///
    /// `ignored` says that it was found to be ignored before anything was written.
    pub(super) fn make_way(&self, path: &RepoPath, ignored: bool) -> io::Result<bool> {
        // With the rules themselves on the move, what they say now is neither old nor new.
        let ignored = ignored
            || !self.rules_move
                && filter::ignored(self.place, &[path])
                    .map_err(io::Error::other)?
                    .contains(path);
        if !ignored {
            return Ok(false);
        }
        let parent = match self.root.parent(path) {
            Ok(parent) => parent,
            Err(Unreachable::Missing | Unreachable::Obstacle(_) | Unreachable::Twin) => {
                return Ok(true);
            }
            Err(Unreachable::Failed(error)) => return Err(error),
        };
        self.move_aside(path, &parent)?;
        Ok(true)
    }

    fn move_aside(&self, path: &RepoPath, parent: &OwnedFd) -> io::Result<()> {
        let dir = self.area.aside();
        let state = |error: RepoError| io::Error::other(error);
        make_directory(&dir).map_err(state)?;
        let next = numbers(&dir).map_err(state)?.last().unwrap_or(&0) + 1;
        let record = dir.join(format!("{next}.path"));
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&record)?;
        file.write_all(path.as_bytes())?;
        file.sync_all()?;
        let home = dir.join(next.to_string());
        make_directory(&home).map_err(state)?;
        records::sync_parent(&home)?;
        fault::at("A3.aside");
        let name = name_of(path);
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(parent, &name, CWD, home.join(&name), flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                Ok(renameat(parent, &name, CWD, home.join(&name))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Clears away a directory that stands where a file belongs, if nothing is lost by it: it is
    /// empty, or git ignores all that is in it. Returns why it stays, if it does.
    pub(super) fn clear_directory(
        &self,
        path: &RepoPath,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<Option<Why>> {
        let mut open = vec![path.clone()];
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        while let Some(dir) = open.pop() {
            let fd = match self.root.directory(&dir) {
                Ok(fd) => fd,
                Err(Unreachable::Missing | Unreachable::Obstacle(_) | Unreachable::Twin) => {
                    continue;
                }
                Err(Unreachable::Failed(error)) => return Err(error),
            };
            for entry in rustix::fs::Dir::read_from(&fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                if name == b".git" {
                    let why = "another repository is in its place".to_owned();
                    return Ok(Some(Why::Deferred(why)));
                }
                let below = dir.join(name).map_err(io::Error::other)?;
                let seen = super::disk::look(&fd, OsStr::from_bytes(name))?;
                match seen.map(|seen| seen.kind) {
                    Some(super::disk::Kind::Directory) => open.push(below),
                    Some(_) => files.push(below),
                    None => {}
                }
            }
            directories.push(dir);
            if files.len() > LOOKED_AT {
                return Ok(Some(Why::Kept));
            }
        }
        if !files.is_empty() {
            let all: Vec<&RepoPath> = files.iter().collect();
            let ignored = filter::ignored(self.place, &all).map_err(io::Error::other)?;
            if self.rules_move || ignored.len() != files.len() {
                return Ok(Some(Why::Kept));
            }
            self.move_aside(path, parent)?;
            return Ok(None);
        }
        // The deepest first; what is not empty any more stays.
        directories.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
        for dir in directories.iter().filter(|dir| *dir != path) {
            if let Ok(above) = self.root.parent(dir) {
                match unlinkat(&above, name_of(dir), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                        return Ok(Some(Why::Kept));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(Some(Why::Kept)),
            Err(error) => Err(error.into()),
        }
    }
}
