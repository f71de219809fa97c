//! Step S3: reading a file so that what is read is what was there.
//!
//! A file is looked at, opened without following links, read, and looked at again. If anything
//! moved in between it is *busy* and comes with a later snapshot; nothing half-written is ever
//! committed. What was read is made durable before a commit can refer to it: editors do not, and a
//! tree older than a pushed commit would come back after a power cut as an edit.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Place, RepoError};
use crate::fault;
use crate::git::objects::Kind;
use crate::git::tree::{EXECUTABLE, Entry, FILE, SYMLINK};
use crate::names::ObjectId;

/// Files up to this size are read into memory, in bytes; larger ones are streamed.
pub const IN_MEMORY: u64 = 32 << 20;

/// What stands at a path on the disk.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A regular file.
    File(Metadata),
    /// A symbolic link.
    Symlink(Metadata),
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    Special,
}

/// Looks at a path without following a link. Errors other than absence are errors.
pub fn look(path: &Path) -> io::Result<Found> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.kind() == io::ErrorKind::NotADirectory =>
        {
            return Ok(Found::Missing);
        }
        Err(error) => return Err(error),
    };
    let kind = meta.file_type();
    Ok(if kind.is_file() {
        Found::File(meta)
    } else if kind.is_symlink() {
        Found::Symlink(meta)
    } else if kind.is_dir() {
        Found::Directory
    } else {
        Found::Special
    })
}

/// Everything a stat can say about whether a file moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Still {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Still {
    /// Takes the picture of a file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// A file that stood still while it was read.
#[derive(Debug)]
pub struct Reading {
    /// git's mode.
    pub mode: u32,
    /// The id of its content as it is on the disk.
    pub id: ObjectId,
    /// The content, unless it was large and is already an object.
    pub content: Option<Vec<u8>>,
}

/// Returns the mode of a file: executable or not, or what it was where the disk cannot say.
pub fn mode_of(meta: &Metadata, trust: bool, before: Option<Entry>) -> u32 {
    let executable = if trust {
        meta.mode() & 0o100 != 0
    } else {
        before.is_some_and(|entry| entry.mode == EXECUTABLE)
    };
    if executable { EXECUTABLE } else { FILE }
}

/// Opens a file for reading without following a link and without waiting for a FIFO.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Returns the beginning of a file, at most so many bytes; nothing of one that is gone or no file.
pub fn first_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    match open(path) {
        Ok(file) => file.take(most).read_to_end(&mut head)?,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ELOOP) =>
        {
            0
        }
        Err(error) => return Err(error),
    };
    Ok(head)
}

/// Reads a symbolic link; `None` if it moved.
pub fn read_link(
    place: &Place,
    path: &Path,
    seen: &Metadata,
) -> Result<Option<Reading>, RepoError> {
    let Ok(target) = fs::read_link(path) else {
        return Ok(None);
    };
    match look(path) {
        Ok(Found::Symlink(after)) if Still::of(&after) == Still::of(seen) => {}
        _ => return Ok(None),
    }
    let content = target.as_os_str().as_bytes().to_vec();
    let id = place.objects.hash_blob(&content)?;
    Ok(Some(Reading {
        mode: SYMLINK,
        id,
        content: Some(content),
    }))
}

/// Reads a regular file; `None` if it moved while it was read, or vanished.
///
/// Errors if it cannot be read at all.
pub fn read_file(
    place: &Place,
    path: &Path,
    seen: &Metadata,
    mode: u32,
) -> Result<Option<Reading>, RepoError> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RepoError::io(path, error)),
    };
    let wrong = |error| RepoError::io(path, error);
    let before = Still::of(&file.metadata().map_err(wrong)?);
    if before != Still::of(seen) {
        return Ok(None);
    }
    let (id, content) = if seen.len() <= IN_MEMORY {
        let mut content = Vec::with_capacity(usize::try_from(seen.len()).unwrap_or(0) + 1);
        file.read_to_end(&mut content).map_err(wrong)?;
        (place.objects.hash_blob(&content)?, Some(content))
    } else {
        match place.objects.write_blob_from(&mut file, seen.len(), path)? {
            Some(id) => (id, None),
            None => return Ok(None),
        }
    };
    fault::at("S3.bytes");
    let after = Still::of(&file.metadata().map_err(wrong)?);
    let still_there = matches!(look(path), Ok(Found::File(meta)) if Still::of(&meta) == before);
    if after != before || !still_there {
        return Ok(None);
    }
    Ok(Some(Reading { mode, id, content }))
}

/// Writes a reading's content as a blob, if it is not one yet.
pub fn store(place: &Place, reading: &Reading) -> Result<(), RepoError> {
    if let Some(content) = &reading.content {
        place.objects.write(Kind::Blob, content)?;
    }
    Ok(())
}

/// Makes a directory's entries durable; that it vanished is no error.
pub fn sync_directory(path: &Path) -> Result<(), RepoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => rustix::fs::fsync(dir).map_err(|error| RepoError::io(path, error.into())),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(error) => Err(RepoError::io(path, error.into())),
    }
}

/// Makes everything on the file system of `path` durable.
pub fn sync_file_system(path: &Path) -> Result<(), RepoError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| RepoError::io(path, error.into()))?;
    rustix::fs::syncfs(dir).map_err(|error| RepoError::io(path, error.into()))
}

/// Makes a file's content durable; that it vanished or is a link is no error.
pub fn sync_file(path: &Path) -> Result<(), RepoError> {
    match open(path) {
        Ok(file) => file.sync_data().map_err(|error| RepoError::io(path, error)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.kind() == io::ErrorKind::NotADirectory
                || error.raw_os_error() == Some(libc::ELOOP) =>
        {
            Ok(())
        }
        Err(error) => Err(RepoError::io(path, error)),
    }
}
