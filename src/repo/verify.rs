//! What stands at a path: is it what was expected, and may it be replaced now?

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;

use rustix::io::Errno;

use super::Place;
use super::bases::Why;
use super::disk::{self, Kind, Seen, look, open_file};
use super::journal::Step;
use super::open::{Writer, writer};
use super::stable::IN_MEMORY;
use crate::git::tree::{EXECUTABLE, Entry};
use crate::names::ObjectId;
use crate::process::Running;

/// Returns whether a file is what it should be: kind, executable bit, bytes.
///
/// `trust_mode` says whether the disk's executable bits mean anything.
pub fn is(
    place: &Place,
    trust_mode: bool,
    (dir, name, seen): (impl AsFd, &OsStr, &Seen),
    entry: Option<Entry>,
    bytes: Option<ObjectId>,
) -> io::Result<bool> {
    let (Some(entry), Some(bytes)) = (entry, bytes) else {
        return Ok(false);
    };
    if Kind::of_mode(entry.mode) != Some(seen.kind) {
        return Ok(false);
    }
    if seen.kind == Kind::File && trust_mode && seen.executable() != (entry.mode == EXECUTABLE) {
        return Ok(false);
    }
    Ok(hash(place, dir, name, seen)? == Some(bytes))
}

/// Returns the id of the bytes of a file or link as they are on the disk; `None` if it is gone.
pub fn hash(
    place: &Place,
    dir: impl AsFd,
    name: &OsStr,
    seen: &Seen,
) -> io::Result<Option<ObjectId>> {
    let id = |content: &[u8]| place.objects.hash_blob(content).map_err(io::Error::other);
    match seen.kind {
        Kind::Symlink => match disk::read_link(dir, name) {
            Ok(target) => id(&target).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        },
        Kind::File => {
            let file = match open_file(dir, name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
                Err(error) => return Err(error),
            };
            let now = disk::look_at(&file)?;
            if now.kind != Kind::File {
                return Ok(None);
            }
            if now.size > IN_MEMORY && place.objects.width() != 20 {
                return hash_with_git(place, file).map(Some);
            }
            if now.size > IN_MEMORY {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                let oid =
                    git2::Oid::hash_file(git2::ObjectType::Blob, path).map_err(io::Error::other)?;
                return ObjectId::from_bytes(oid.as_bytes())
                    .map(Some)
                    .map_err(io::Error::other);
            }
            let mut content = Vec::with_capacity(usize::try_from(now.size).unwrap_or(0) + 1);
            std::fs::File::from(file).read_to_end(&mut content)?;
            id(&content).map(Some)
        }
        Kind::Directory | Kind::Special => Ok(None),
    }
}

/// Returns the id of the bytes of an open file, as a blob, whatever their number.
pub(super) fn hash_with_git(place: &Place, file: OwnedFd) -> io::Result<ObjectId> {
    let mut command = place.git.command("hash-object");
    command
        .args(["--stdin", "--no-filters"])
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command)?;
    let mut id = String::new();
    if let Some(mut out) = running.child().stdout.take() {
        out.read_to_string(&mut id)?;
    }
    running.wait()?;
    ObjectId::from_hex(id).map_err(io::Error::other)
}

/// Returns what a failure says about one path alone; `None` if the apply cannot go on.
pub fn refusal(error: &io::Error, step: Step) -> Option<Why> {
    let why = match Errno::from_io_error(error)? {
        Errno::ACCESS | Errno::PERM => "not permitted",
        Errno::XDEV => "on another file system",
        Errno::BUSY => "a mount point",
        Errno::NAMETOOLONG | Errno::ILSEQ => return Some(Why::NotRepresentable),
        Errno::INVAL if step == Step::Create => return Some(Why::NotRepresentable),
        _ => return None,
    };
    Some(Why::Deferred(why.to_owned()))
}

/// Returns why a file cannot be replaced now, if it cannot.
pub fn hindrance(
    parent: &OwnedFd,
    name: &OsStr,
    seen: &Seen,
    replaced: bool,
) -> io::Result<Option<Why>> {
    let fixed = fixture(seen, replaced);
    if fixed.is_some() || seen.kind != Kind::File {
        return Ok(fixed);
    }
    if companion(parent, name)? {
        let why = "another program has it open".to_owned();
        return Ok(Some(Why::Deferred(why)));
    }
    let file = match open_file(parent, name) {
        Ok(file) => file,
        // It moved: the check that follows finds that as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if disk::look_at(&file)?.kind == Kind::File && writer(&file) == Writer::Yes {
        return Ok(Some(Why::Deferred("open for writing".to_owned())));
    }
    Ok(None)
}

/// Returns why a file can never be replaced as it is, if so.
pub fn fixture(seen: &Seen, replaced: bool) -> Option<Why> {
    let why = if seen.mount {
        "a mount point"
    } else if seen.fixed {
        "immutable"
    } else if replaced && seen.kind == Kind::File && seen.links > 1 {
        "several links"
    } else {
        return None;
    };
    Some(Why::Deferred(why.to_owned()))
}

/// Returns whether a file stands beside one that says that a program works on it: the log of a
/// database, the lock of an editor.
fn companion(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let name = name.as_encoded_bytes();
    let around: [(&[u8], &[u8]); 4] = [
        (b"", b"-wal"),
        (b"", b"-journal"),
        (b".~lock.", b"#"),
        (b".#", b""),
    ];
    for (before, after) in around {
        let full = [before, name, after].concat();
        if full.len() <= 255
            && look(parent, std::os::unix::ffi::OsStrExt::from_bytes(&full))?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
