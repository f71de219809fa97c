//! Root identity: is what stands at the folder's path the folder?
//!
//! Asked before each snapshot, each apply and each talk with the hub. Device, inode and boot are
//! written down in the git directory, which is itself the sentinel: an empty mount point has none.
//!
//! Invariant: a root that is gone, unmounted, mounted over or unreadable is a trouble, never a
//! folder without files.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::folder::Folder;
use super::volume::{self, Volume};
use super::{Place, RepoError};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::git::refs;
use crate::process;

/// Looks whether the folder and its repository are there at all.
///
/// Errors with a hold if not.
pub fn here(place: &Place) -> Result<Metadata, RepoError> {
    let root = place.root();
    let meta = match fs::symlink_metadata(root) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            let hint = "Put the directory back; syncing goes on by itself.";
            return hold(
                Code::RootChanged,
                "the folder is no directory any more",
                hint,
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = "Mount it or put it back; syncing goes on by itself.";
            return hold(Code::RootMissing, "the folder is not there", hint);
        }
        Err(error) => return Err(RepoError::io(root, error)),
    };
    // What cannot be listed looks empty, and its repository gone.
    match fs::read_dir(root) {
        Ok(mut entries) => {
            if let Some(Err(error)) = entries.next() {
                return Err(RepoError::io(root, error));
            }
        }
        Err(error) => return Err(RepoError::io(root, error)),
    }
    if place.store.is_dir() {
        return Ok(meta);
    }
    if place.seen.is_some_and(|seen| seen != which(&meta)) {
        let hint =
            "Unmount what is in its place, or mount the folder's disk; syncing goes on by itself.";
        return hold(
            Code::RootMissing,
            "the folder is not there: something else is in its place",
            hint,
        );
    }
    let hint = "If its `.git` was moved, put it back; nothing was committed meanwhile.";
    hold(
        Code::NoRepository,
        "the folder's repository is not there",
        hint,
    )
}

/// Returns which directory the root is now; `None` if it cannot be looked at.
pub(super) fn seen(place: &std::path::Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(place).ok().as_ref().map(which)
}

fn which(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn hold<T>(code: Code, message: &str, hint: &str) -> Result<T, RepoError> {
    Err(RepoError::Blocked(Trouble::new(
        code,
        Recovery::Hold,
        message,
        hint,
    )))
}

impl Folder {
    /// Checks that the folder's root is the directory that it was.
    ///
    /// Within one boot device and inode must be the same, but that a disk with a name of its own may
    /// come back as another device. Over a boot the device may get another number. If the repository,
    /// which is a sentinel, is elsewhere, the disk's name must be the same, or something of what the
    /// branch has must be there. The one that is `granted` is accepted. Errors with a hold otherwise.
    pub(super) fn check_root(&self, granted: Option<&str>) -> Result<(), RepoError> {
        // First of all: where the root cannot be looked at, nor can the references.
        let meta = here(&self.place)?;
        let root = self.place.root();
        let file = self.place.store.join("root");
        let volume = Volume::at(root);
        let boot = process::boot_id();
        let now = format!("{} {} {boot} {}\n", meta.dev(), meta.ino(), volume.id);
        let before = fs::read_to_string(&file).unwrap_or_default();
        let is_elsewhere = !self.place.store.starts_with(root);
        let mut is_other = false;
        if let [device, inode, ran, id @ ..] =
            &before.split_ascii_whitespace().collect::<Vec<_>>()[..]
        {
            let was_named = id.first().is_some_and(|id| volume::is_name(id));
            let is_named_alike = was_named && id.first() == Some(&volume.id.as_str());
            let is_same_device = *device == meta.dev().to_string() || is_named_alike;
            is_other = *inode != meta.ino().to_string()
                || (*ran == boot && !is_same_device)
                || (is_elsewhere && was_named && volume.is_named() && !is_named_alike);
        }
        let accepted = self.accepted.borrow().as_deref() == Some(&now);
        if !is_other
            && !accepted
            && is_elsewhere
            && !volume.is_named()
            && let tip = refs::read(
                &self.place.git,
                &self.place.objects,
                &self.place.branch_ref(),
            )?
            && let Some(tree) = self.place.tree_of(tip)?
        {
            is_other = volume::nothing_is_there(&self.place, tree, root)?;
        }
        if is_other && granted == Some(&now) {
            self.accepted.replace(Some(now.clone()));
        } else if is_other {
            self.doubted.replace(Some(now));
            let hint = "If this is right, run `autosync approve`; else mount the right disk.";
            return hold(
                Code::RootChanged,
                "another directory is where the folder was",
                hint,
            );
        }
        if before != now {
            fs::write(&file, now).map_err(|error| RepoError::io(&file, error))?;
        }
        Ok(())
    }
}
