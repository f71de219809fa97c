//! Which file system is at a place, as far as it tells.
//!
//! One that keeps a name of its own is known by that: by the UUID under which the system lists its
//! device, or by the id that some kinds make of theirs. Of the others (FAT, exFAT, XFS, FUSE) the kernel
//! makes an id of the device's number: the next stick in the same port has the same one, and the same
//! stick has another after a boot. What is *there* decides then.
//!
//! Absent: any wish to know more than whether it is the same.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Place, RepoError};
use crate::names::ObjectId;

/// Where the system lists the devices by the UUIDs of their file systems.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// A file system, and which of its directories is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Its name, or what the kernel makes of the device's number.
    pub(super) id: String,
    /// The inode of that directory.
    pub(super) top: u64,
}

impl Volume {
    /// Returns what is at a place.
    pub(super) fn at(place: &Path) -> Self {
        let meta = fs::symlink_metadata(place).ok();
        let uuid = || uuid(Path::new(BY_UUID), meta.as_ref()?.dev());
        Self {
            id: own_id(place).or_else(uuid).unwrap_or_else(|| number(place)),
            top: meta.as_ref().map_or(0, MetadataExt::ino),
        }
    }

    /// Returns whether it has a name of its own.
    pub(super) fn is_named(&self) -> bool {
        is_name(&self.id)
    }
}

/// Returns whether an id is a name of the file system's own.
pub(super) fn is_name(id: &str) -> bool {
    id.contains(':')
}

/// Returns the id of a file system that makes it of a name of its own.
#[cfg(target_os = "linux")]
fn own_id(place: &Path) -> Option<String> {
    /// The numbers of statfs(2): ext2 to ext4, Btrfs, tmpfs, ZFS.
    const NAMED: [u32; 4] = [0xef53, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1];
    let found = rustix::fs::statfs(place).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number has 32 bits"
    )]
    let kind = found.f_type as u32;
    let id = rustix::fs::statvfs(place).ok()?.f_fsid;
    (NAMED.contains(&kind) && id != 0).then(|| format!("id:{id}"))
}

/// Returns the id of a file system that makes it of a name of its own: not known here.
#[cfg(not(target_os = "linux"))]
fn own_id(_place: &Path) -> Option<String> {
    None
}

/// Returns the UUID under which a device is listed.
fn uuid(list: &Path, device: u64) -> Option<String> {
    fs::read_dir(list).ok()?.flatten().find_map(|entry| {
        let is_it = fs::metadata(entry.path()).is_ok_and(|meta| meta.rdev() == device);
        is_it.then(|| format!("uuid:{}", entry.file_name().to_string_lossy()))
    })
}

/// Returns what the kernel says where nothing better is known.
fn number(place: &Path) -> String {
    rustix::fs::statvfs(place)
        .map_or(0, |about| about.f_fsid)
        .to_string()
}

/// Returns whether nothing of a tree's files is in a directory, though it has some.
pub(super) fn nothing_is_there(
    place: &Place,
    tree: ObjectId,
    dir: &Path,
) -> Result<bool, RepoError> {
    let (there, all) = there(place, tree, dir, 1)?;
    Ok(there == 0 && all > 0)
}

/// Returns whether most of a tree's files are in a directory.
pub(super) fn most_is_there(place: &Place, tree: ObjectId, dir: &Path) -> Result<bool, RepoError> {
    let (there, all) = there(place, tree, dir, usize::MAX)?;
    Ok(there * 2 > all)
}

/// Returns how many of a tree's files are in a directory, and of how many; not further than `enough`.
fn there(
    place: &Place,
    tree: ObjectId,
    dir: &Path,
    enough: usize,
) -> Result<(usize, usize), RepoError> {
    let (mut there, mut all) = (0, 0);
    let mut open = vec![(tree, dir.to_owned())];
    while let Some((tree, dir)) = open.pop() {
        for line in place.objects.tree(tree)? {
            let disk = dir.join(OsStr::from_bytes(&line.name));
            if line.entry.is_tree() {
                open.push((line.entry.id, disk));
                continue;
            }
            all += 1;
            there += usize::from(fs::symlink_metadata(&disk).is_ok());
            if there >= enough {
                return Ok((there, all));
            }
        }
    }
    Ok((there, all))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_is_known_by_the_name_that_links_to_it() {
        let list = tempfile::tempdir().unwrap();
        symlink("/dev/zero", list.path().join("other")).unwrap();
        symlink("/dev/null", list.path().join("12AB-34CD")).unwrap();
        symlink("/dev/not-there", list.path().join("dangles")).unwrap();
        let device = fs::metadata("/dev/null").unwrap().rdev();
        let found = uuid(list.path(), device).unwrap();
        assert_eq!(found, "uuid:12AB-34CD");
        assert!(is_name(&found) && !is_name("2065"));
        assert_eq!(uuid(list.path(), device + 1_000_000), None);
        assert_eq!(uuid(&list.path().join("none"), device), None);
    }
}
