//! Moving files between the slots of a stage and the work tree.
//!
//! The kernel exchanges two names in one call (renameat2(2)). Where a disk cannot, the old file is
//! linked into the stage first and the new one renamed over it: less safe, and said so.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::RepoError;
use super::disk::{self, Kind, Seen, look, open_file};
use super::open::{Writer, writer};
use super::slots::slot;
use crate::fault;

#[cfg(feature = "faults")]
thread_local! {
    static PRETENDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` as on a disk that cannot exchange, for this thread.
#[cfg(feature = "faults")]
pub fn without_exchange<T>(body: impl FnOnce() -> T) -> T {
    PRETENDED.set(true);
    let result = body();
    PRETENDED.set(false);
    result
}

#[cfg(feature = "faults")]
fn pretended() -> bool {
    PRETENDED.get() || fault::asked("AUTOSYNC_NO_EXCHANGE").is_some()
}

#[cfg(not(feature = "faults"))]
fn pretended() -> bool {
    false
}

/// The slots of one stage.
#[derive(Debug)]
pub struct Slots {
    dir: OwnedFd,
    /// Whether the disk cannot exchange.
    basic: Cell<bool>,
}

impl Slots {
    /// Opens the slots of a stage.
    pub fn open(stage: &Path) -> Result<Self, RepoError> {
        Ok(Self {
            dir: disk::open_directory(stage)?,
            basic: Cell::new(pretended()),
        })
    }

    /// Returns whether the disk of an empty stage exchanges two files in one call.
    pub fn try_exchange(stage: &Path) -> io::Result<bool> {
        let slots = Self::open(stage).map_err(io::Error::other)?;
        slots.mark(0)?;
        slots.mark(1)?;
        if slots.is_basic() {
            return Ok(false);
        }
        match slots.swap(0, &slots.dir, &slot(1)) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether the disk is known not to exchange two files in one call.
    pub fn is_basic(&self) -> bool {
        self.basic.get()
    }

    /// Returns the directory of the slots.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Looks into a slot.
    pub fn look(&self, number: usize) -> io::Result<Option<Seen>> {
        look(&self.dir, &slot(number))
    }

    /// Opens the file in a slot for reading.
    pub fn file(&self, number: usize) -> io::Result<OwnedFd> {
        open_file(&self.dir, &slot(number))
    }

    /// Returns whether somebody has the file in a slot open for writing.
    pub fn writer(&self, number: usize, seen: &Seen) -> Writer {
        if seen.kind != Kind::File {
            return Writer::No;
        }
        self.file(number).map_or(Writer::Unknown, writer)
    }

    /// Fills a slot with an empty file, as the sign of something done.
    pub fn mark(&self, number: usize) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, slot(number), flags, Mode::from_raw_mode(0o600))?;
        Ok(())
    }

    /// Moves what stands at a path into a slot.
    pub fn take(&self, number: usize, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        renameat(parent, name, &self.dir, slot(number))
    }

    /// Exchanges the slot with the path. Returns whether it did; without an exchange, the file
    /// may turn out to be another one in time.
    pub fn exchange(
        &self,
        number: usize,
        parent: &OwnedFd,
        name: &OsStr,
        seen: &Seen,
    ) -> Result<bool, Errno> {
        if !self.basic.get() {
            match self.swap(number, parent, name) {
                Ok(()) => return Ok(true),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    tracing::warn!("this disk cannot exchange files; writing is less safe here");
                    self.basic.set(true);
                }
                Err(error) => return Err(error),
            }
        }
        self.link_and_rename(number, parent, name, seen)
    }

    /// Exchanges the slot with the path, whatever is in either.
    pub fn swap(&self, number: usize, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        if self.basic.get() {
            // Out into a third name, in, and into the slot: nothing is overwritten unseen.
            let (slot, third) = (slot(number), format!("{number}.out"));
            renameat(parent, name, &self.dir, &third)?;
            self.put(number, parent, name)?;
            return renameat(&self.dir, &third, &self.dir, &slot);
        }
        let flags = RenameFlags::EXCHANGE;
        renameat_with(&self.dir, slot(number), parent, name, flags)
    }

    /// The way without an exchange: the old file gets a second name in the stage, is looked at
    /// again, and the new one is renamed over the first.
    fn link_and_rename(
        &self,
        number: usize,
        parent: &OwnedFd,
        name: &OsStr,
        seen: &Seen,
    ) -> Result<bool, Errno> {
        let link = format!("{number}.old");
        self.drop_link(number)?;
        match linkat(parent, name, &self.dir, &link, AtFlags::empty()) {
            Ok(()) => {}
            // A disk without links either.
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                return self.swap(number, parent, name).map(|()| true);
            }
            Err(error) => return Err(error),
        }
        fault::at("A3.linked");
        let linked = look(&self.dir, OsStr::new(&link)).ok().flatten();
        let there = look(parent, name).ok().flatten();
        let still = |now: Option<Seen>| now.is_some_and(|now| now.stands_like(seen));
        if !still(linked) || !still(there) {
            unlinkat(&self.dir, &link, AtFlags::empty())?;
            return Ok(false);
        }
        renameat(&self.dir, slot(number), parent, name)?;
        fault::at("A3.renamed");
        self.take_link(number).map_err(|_| Errno::IO)?;
        Ok(true)
    }

    /// Removes the second name of an old file that is not replaced yet: it is still in the tree,
    /// or the user has replaced it himself.
    pub fn drop_link(&self, number: usize) -> Result<(), Errno> {
        match unlinkat(&self.dir, format!("{number}.old"), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves the second name of an old file into its slot, if there is one.
    pub fn take_link(&self, number: usize) -> io::Result<()> {
        for third in [format!("{number}.old"), format!("{number}.out")] {
            match renameat(&self.dir, &third, &self.dir, slot(number)) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Moves the slot's file to a name where nothing is.
    pub fn put(&self, number: usize, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let slot = slot(number);
        if !self.basic.get() {
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&self.dir, &slot, parent, name, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                done => return done,
            }
        }
        // A link never replaces anything either.
        match linkat(&self.dir, &slot, parent, name, AtFlags::empty()) {
            Ok(()) => unlinkat(&self.dir, &slot, AtFlags::empty()),
            Err(Errno::PERM | Errno::OPNOTSUPP) => match look(parent, name) {
                Ok(None) => renameat(&self.dir, &slot, parent, name),
                Ok(Some(_)) => Err(Errno::EXIST),
                Err(_) => Err(Errno::IO),
            },
            Err(error) => Err(error),
        }
    }
}
