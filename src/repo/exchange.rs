//! One path at a time, from its slot into the work tree, without ever overwriting an edit (A3).
//!
//! A new version is exchanged with the old one in one call of the kernel; then what came out is
//! looked at. If it is not what was expected, somebody saved in between, and it goes back. So a
//! save before the exchange comes out, and a save after it is an edit of the new version.
//!
//! Invariants:
//! 1. The slot is the record: with the staged file still in it a step is not done, with another
//!    one (created: none; deleted: any) it is. The content at the path is never asked for that.
//! 2. Nothing is unlinked. What leaves the tree is in a slot.
//! 3. The directory above is held open; after each exchange its path must still lead to it, or the
//!    user has moved it, and what was done is taken back.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, fchmod, mkdirat, unlinkat};
use rustix::io::Errno;

use super::bases::Why;
use super::disk::{self, Identity, Kind, Root, Seen, Unreachable, look, name_of, open_file};
use super::journal::{Op, Step};
use super::metadata::{self, Given};
use super::moves::Slots;
use super::open::Writer;
use super::slots::{Area, slot};
use super::spelling::Spellings;
use super::{Place, RepoError, verify};
use crate::fault;
use crate::git::tree::{EXECUTABLE, Entry, GITLINK};
use crate::names::ObjectId;

/// How often a path is tried again when somebody interferes.
const TRIES: usize = 4;

/// What is left in a slot when a path is finished, and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The commit that has the expected content at this path.
    pub base: ObjectId,
    /// The id of the bytes that are expected; others are an edit of `base`.
    pub bytes: ObjectId,
    /// Whether somebody had the file open for writing when it left the tree.
    pub writer: Writer,
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Why the disk keeps what it has; `None` if it now has what the commit has.
    pub why: Option<Why>,
    /// Whether anything was written or removed.
    pub wrote: bool,
    /// What is left in the slot, if it is worth a look later.
    pub left: Option<Left>,
}

impl Report {
    fn done() -> Self {
        Self::default()
    }

    fn waits(why: Why) -> Self {
        Self {
            why: Some(why),
            ..Self::default()
        }
    }

    fn kept(left: Option<Left>) -> Self {
        Self {
            why: Some(Why::Kept),
            wrote: false,
            left,
        }
    }

    fn wrote(left: Option<Left>) -> Self {
        Self {
            why: None,
            wrote: true,
            left,
        }
    }
}

/// What carries out the operations of one apply.
#[derive(Debug)]
pub struct Hands<'a> {
    pub(super) place: &'a Place,
    pub(super) root: Root,
    /// What directories list, as of their first look here.
    spellings: RefCell<Spellings<(u64, u64)>>,
    slots: Slots,
    to: ObjectId,
    pub(super) area: Area,
    trust_mode: bool,
    /// Whether the rules of what is ignored change on the way.
    pub(super) rules_move: bool,
}

impl<'a> Hands<'a> {
    /// Opens what is needed to carry out the operations of a stage.
    pub fn new(
        place: &'a Place,
        stage: &Path,
        to: ObjectId,
        trust_mode: bool,
        rules_move: bool,
    ) -> Result<Self, RepoError> {
        Ok(Self {
            place,
            root: Root::open(place)?,
            spellings: RefCell::new(Spellings::new(place)),
            slots: Slots::open(stage)?,
            to,
            area: Area::of(place)?,
            trust_mode,
            rules_move,
        })
    }

    /// Returns whether the disk turned out not to exchange two files in one call.
    pub fn is_basic(&self) -> bool {
        self.slots.is_basic()
    }

    /// Carries out one operation, from whatever state a kill left it in.
    ///
    /// Errors if the apply cannot go on; the journal then stays open.
    pub fn carry_out(&self, number: usize, op: &Op) -> Result<Report, RepoError> {
        let result = match op.step {
            // An empty slot says that it is done, so there must have been something in it.
            Step::Replace | Step::Create if op.staged.is_none() => {
                Ok(Report::waits(Why::NotRepresentable))
            }
            Step::Replace => self.replace(number, op),
            Step::Create => self.create(number, op),
            Step::Delete => self.delete(number, op),
            Step::Mode => self.change_mode(number, op),
            Step::Submodule => self.submodule(op),
            Step::Nothing => Ok(op.why.clone().map_or_else(Report::done, Report::waits)),
        };
        match result {
            Ok(report) => Ok(report),
            Err(error) => match verify::refusal(&error, op.step) {
                Some(why) => Ok(Report::waits(why)),
                None => Err(RepoError::io(op.path.as_path(), error)),
            },
        }
    }

    fn replace(&self, number: usize, op: &Op) -> io::Result<Report> {
        let name = name_of(&op.path);
        match self.slots.look(number)? {
            Some(seen) if op.staged.is_some_and(|staged| staged.is(seen.which)) => {
                self.slots.drop_link(number)?;
            }
            Some(_) => {
                let parent = self.root.parent(&op.path).ok();
                return self.after_exchange(number, op, parent);
            }
            None => {
                // A kill in the middle of the way without an exchange.
                self.slots.take_link(number)?;
                let parent = self.root.parent(&op.path).ok();
                return self.after_exchange(number, op, parent);
            }
        }
        for _ in 0..TRIES {
            let parent = match self.root.parent(&op.path) {
                Ok(parent) => parent,
                Err(Unreachable::Missing | Unreachable::Obstacle(_)) => {
                    return Ok(Report::kept(None));
                }
                Err(Unreachable::Twin) => return Ok(Report::waits(Why::Twin)),
                Err(Unreachable::Failed(error)) => return Err(error),
            };
            let Some(seen) = look(&parent, &name)? else {
                return Ok(Report::kept(None));
            };
            if !self.is_so(&parent, &name, &seen)? {
                return Ok(Report::waits(Why::Twin));
            }
            fault::at("A3.found");
            if !self.is((&parent, &name, &seen), op.old, op.expected())? {
                let same = self.is((&parent, &name, &seen), op.new, op.new_bytes)?;
                return Ok(if same {
                    Report::done()
                } else {
                    Report::kept(None)
                });
            }
            if let Some(why) = verify::hindrance(&parent, &name, &seen, true)? {
                return Ok(Report::waits(why));
            }
            if !self.dress(number, op, &parent, &name, &seen)? {
                let why = "its owner or attributes cannot be kept".to_owned();
                return Ok(Report::waits(Why::Deferred(why)));
            }
            fault::at("A3.dressed");
            if look(&parent, &name)? != Some(seen) {
                continue;
            }
            fault::at("A3.checked");
            match self.slots.exchange(number, &parent, &name, &seen) {
                Ok(true) => {}
                Ok(false) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            fault::at("A3.exchanged");
            return self.after_exchange(number, op, Some(parent));
        }
        Ok(Report::kept(None))
    }

    /// Looks at what came out and decides whether it was to come out.
    fn after_exchange(
        &self,
        number: usize,
        op: &Op,
        parent: Option<OwnedFd>,
    ) -> io::Result<Report> {
        let Some(seen) = self.slots.look(number)? else {
            return Ok(Report::wrote(None));
        };
        // The writer is looked for first: what nobody writes any more can be verifyd for good.
        let writer = self.slots.writer(number, &seen);
        let right = self.is(
            (self.slots.dir(), &slot(number), &seen),
            op.old,
            op.expected(),
        )?;
        fault::at("A3.verified");
        let left = op.expected().map(|bytes| Left {
            base: op.base,
            bytes,
            writer,
        });
        let Some(parent) = parent else {
            return Ok(if right {
                Report::wrote(left)
            } else {
                Report::kept(left)
            });
        };
        if right && self.root.still_holds(&op.path, &parent)? {
            fault::at("A3.settled");
            return Ok(Report::wrote(left));
        }
        self.put_back(number, op, &parent, seen.which, left)
    }

    /// Puts what came out back to where it was. If something newer stands there by now, that comes
    /// out, and goes back in its turn.
    fn put_back(
        &self,
        number: usize,
        op: &Op,
        parent: &OwnedFd,
        out: Identity,
        left: Option<Left>,
    ) -> io::Result<Report> {
        let name = name_of(&op.path);
        let mut here = out;
        let mut there = op.staged;
        for _ in 0..TRIES * 4 {
            match self.slots.swap(number, parent, &name) {
                Ok(()) => {}
                // The user deleted it: what is in the slot is an edit from before that.
                Err(Errno::NOENT) => return Ok(Report::kept(left)),
                Err(error) => return Err(error.into()),
            }
            fault::at("A3.back");
            let Some(seen) = self.slots.look(number)? else {
                return Ok(Report::kept(None));
            };
            if there.is_some_and(|there| there.is(seen.which)) {
                break;
            }
            there = Some(here);
            here = seen.which;
        }
        let Some(seen) = self.slots.look(number)? else {
            return Ok(Report::kept(None));
        };
        let staged = op.staged.is_some_and(|staged| staged.is(seen.which));
        let writer = self.slots.writer(number, &seen);
        let left = if staged {
            // It was in the tree for a moment: somebody may have written into it.
            op.new_bytes.map(|bytes| Left {
                base: self.to,
                bytes,
                writer,
            })
        } else {
            left.map(|left| Left { writer, ..left })
        };
        Ok(Report::kept(left))
    }

    fn create(&self, number: usize, op: &Op) -> io::Result<Report> {
        let name = name_of(&op.path);
        match self.slots.look(number)? {
            None => return Ok(Report::wrote(None)),
            Some(seen) if op.staged.is_some_and(|staged| staged.is(seen.which)) => {}
            Some(_) => {
                // Taken back out of a directory that the user moved, and not ours any more.
                return self.give_back(number, op, self.root.parent(&op.path).ok());
            }
        }
        for _ in 0..TRIES {
            let parent = match self.root.make_parent(&op.path) {
                Ok(parent) => parent,
                Err(Unreachable::Missing) => continue,
                Err(Unreachable::Obstacle(path)) => {
                    if self.make_way(&path, false)? {
                        continue;
                    }
                    return Ok(Report::kept(None));
                }
                Err(Unreachable::Twin) => return Ok(Report::waits(Why::Twin)),
                Err(Unreachable::Failed(error)) => return Err(error),
            };
            fault::at("A3.parent");
            if let Some(seen) = look(&parent, &name)? {
                if !self.root.spells(&parent, &name, &seen)? {
                    return Ok(Report::waits(Why::Twin));
                }
                if self.is((&parent, &name, &seen), op.new, op.new_bytes)? {
                    return Ok(Report::done());
                }
                if seen.kind == Kind::Directory {
                    match self.clear_directory(&op.path, &parent, &name)? {
                        None => continue,
                        Some(why) => return Ok(Report::waits(why)),
                    }
                }
                if self.make_way(&op.path, op.ignored)? {
                    continue;
                }
                return Ok(Report::kept(None));
            }
            if op.new.and_then(|new| Kind::of_mode(new.mode)) == Some(Kind::File) {
                metadata::adopt(&parent, self.slots.file(number)?)?;
            }
            fault::at("A3.free");
            match self.slots.put(number, &parent, &name) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            }
            fault::at("A3.created");
            if self.root.still_holds(&op.path, &parent)? {
                return Ok(Report::wrote(None));
            }
            // The user moved the directory: out of there again, and into the one of that name.
            match self.slots.take(number, &parent, &name) {
                Ok(()) => {}
                Err(Errno::NOENT) => return Ok(Report::kept(None)),
                Err(error) => return Err(error.into()),
            }
            fault::at("A3.taken-back");
            let out = self.slots.look(number)?;
            if !out.is_some_and(|out| op.staged.is_some_and(|staged| staged.is(out.which))) {
                return self.give_back(number, op, Some(parent));
            }
        }
        Ok(Report::kept(None))
    }

    fn delete(&self, number: usize, op: &Op) -> io::Result<Report> {
        let name = name_of(&op.path);
        if self.slots.look(number)?.is_some() {
            return self.after_removal(number, op, self.root.parent(&op.path).ok());
        }
        for _ in 0..TRIES {
            let parent = match self.root.parent(&op.path) {
                Ok(parent) => parent,
                Err(Unreachable::Missing | Unreachable::Obstacle(_) | Unreachable::Twin) => {
                    return self.follow_up(op, Report::done());
                }
                Err(Unreachable::Failed(error)) => return Err(error),
            };
            let seen = match look(&parent, &name)? {
                Some(seen) if seen.kind != Kind::Directory => seen,
                Some(_) | None => return self.follow_up(op, Report::done()),
            };
            if !self.is_so(&parent, &name, &seen)? {
                return self.follow_up(op, Report::done());
            }
            fault::at("A3.found");
            if !self.is((&parent, &name, &seen), op.old, op.expected())? {
                return Ok(Report::kept(None));
            }
            if let Some(why) = verify::hindrance(&parent, &name, &seen, false)? {
                return Ok(Report::waits(why));
            }
            if look(&parent, &name)? != Some(seen) {
                continue;
            }
            fault::at("A3.checked");
            match self.slots.take(number, &parent, &name) {
                Ok(()) => {}
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            fault::at("A3.moved");
            return self.after_removal(number, op, Some(parent));
        }
        Ok(Report::kept(None))
    }

    fn after_removal(&self, number: usize, op: &Op, parent: Option<OwnedFd>) -> io::Result<Report> {
        let Some(seen) = self.slots.look(number)? else {
            return Ok(Report::done());
        };
        let writer = self.slots.writer(number, &seen);
        let right = self.is(
            (self.slots.dir(), &slot(number), &seen),
            op.old,
            op.expected(),
        )?;
        fault::at("A3.verified");
        let moved = match &parent {
            Some(parent) => !self.root.still_holds(&op.path, parent)?,
            None => false,
        };
        if right && !moved {
            fault::at("A3.settled");
            let left = op.expected().map(|bytes| Left {
                base: op.base,
                bytes,
                writer,
            });
            return self.follow_up(op, Report::wrote(left));
        }
        self.give_back(number, op, parent)
    }

    /// Puts what is in the slot to where it came from, unless something new is there.
    fn give_back(&self, number: usize, op: &Op, parent: Option<OwnedFd>) -> io::Result<Report> {
        let name = name_of(&op.path);
        if let Some(parent) = parent {
            match self.slots.put(number, &parent, &name) {
                Ok(()) => {
                    fault::at("A3.back");
                    return Ok(Report::kept(None));
                }
                Err(Errno::EXIST | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let writer = match self.slots.look(number)? {
            Some(seen) => self.slots.writer(number, &seen),
            None => return Ok(Report::kept(None)),
        };
        // What it is an edit of: of what we deleted, or of what we had created.
        let (base, bytes) = match op.step {
            Step::Create => (self.to, op.new_bytes),
            Step::Replace | Step::Delete | Step::Mode | Step::Submodule | Step::Nothing => {
                (op.base, op.expected())
            }
        };
        Ok(Report::kept(bytes.map(|bytes| Left {
            base,
            bytes,
            writer,
        })))
    }

    /// A submodule that takes the place of a file gets its empty directory.
    fn follow_up(&self, op: &Op, report: Report) -> io::Result<Report> {
        if op.new.is_some_and(|new| new.mode == GITLINK) {
            self.submodule(op)?;
        }
        Ok(report)
    }

    fn change_mode(&self, number: usize, op: &Op) -> io::Result<Report> {
        if self.slots.look(number)?.is_some() {
            // Done before a kill; what the user did to the mode since is not ours to undo.
            return Ok(Report::wrote(None));
        }
        let name = name_of(&op.path);
        let executable = op.new.is_some_and(|new| new.mode == EXECUTABLE);
        for _ in 0..TRIES {
            let parent = match self.root.parent(&op.path) {
                Ok(parent) => parent,
                Err(Unreachable::Missing | Unreachable::Obstacle(_) | Unreachable::Twin) => {
                    return Ok(Report::kept(None));
                }
                Err(Unreachable::Failed(error)) => return Err(error),
            };
            let file = match look(&parent, &name)? {
                Some(seen) if seen.kind == Kind::File => open_file(&parent, &name)?,
                Some(_) | None => return Ok(Report::kept(None)),
            };
            fault::at("A3.found");
            let seen = disk::look_at(&file)?;
            if seen.kind != Kind::File {
                continue;
            }
            if seen.executable() != executable {
                if let Some(why) = verify::fixture(&seen, true) {
                    return Ok(Report::waits(why));
                }
                let mode = metadata::with_executable(seen.mode, executable);
                fchmod(&file, Mode::from_raw_mode(mode))?;
            }
            fault::at("A3.changed");
            // A save by rename in between put another file there, with the old mode.
            let again = look(&parent, &name)?;
            if again.is_some_and(|again| again.which == seen.which)
                && self.root.still_holds(&op.path, &parent)?
            {
                self.slots.mark(number)?;
                return Ok(Report::wrote(None));
            }
        }
        Ok(Report::kept(None))
    }

    fn submodule(&self, op: &Op) -> io::Result<Report> {
        let name = name_of(&op.path);
        if op.new.is_none() {
            let Ok(parent) = self.root.parent(&op.path) else {
                return Ok(Report::done());
            };
            return match unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
                // Its files are its own affair.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                    Ok(Report::done())
                }
                Err(error) => Err(error.into()),
            };
        }
        let parent = match self.root.make_parent(&op.path) {
            Ok(parent) => parent,
            Err(Unreachable::Missing | Unreachable::Obstacle(_)) => {
                return Ok(Report::kept(None));
            }
            Err(Unreachable::Twin) => return Ok(Report::waits(Why::Twin)),
            Err(Unreachable::Failed(error)) => return Err(error),
        };
        match mkdirat(&parent, &name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(Report::done()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether what was found at a name is listed in this very spelling.
    fn is_so(&self, parent: &OwnedFd, name: &OsStr, seen: &Seen) -> io::Result<bool> {
        let dir = disk::look_at(parent)?.which;
        let mut spellings = self.spellings.borrow_mut();
        spellings.is_so((dir.device, dir.inode), parent, name, seen)
    }

    fn is(
        &self,
        at: (impl AsFd, &OsStr, &Seen),
        entry: Option<Entry>,
        bytes: Option<ObjectId>,
    ) -> io::Result<bool> {
        verify::is(self.place, self.trust_mode, at, entry, bytes)
    }

    /// Gives the staged file everything that the old one has besides its content.
    fn dress(
        &self,
        number: usize,
        op: &Op,
        parent: &OwnedFd,
        name: &OsStr,
        seen: &Seen,
    ) -> io::Result<bool> {
        let new = op.new.and_then(|new| Kind::of_mode(new.mode));
        match (seen.kind, new) {
            (Kind::File, Some(Kind::File)) => {
                let old = open_file(parent, name)?;
                if disk::look_at(&old)?.which != seen.which {
                    // The check that follows finds that as well.
                    return Ok(true);
                }
                let staged = self.slots.file(number)?;
                let executable = op.new.is_some_and(|new| new.mode == EXECUTABLE);
                Ok(metadata::inherit(old, seen, staged, executable)? == Given::All)
            }
            (_, Some(Kind::File)) => {
                metadata::adopt(parent, self.slots.file(number)?)?;
                Ok(true)
            }
            _ => {
                metadata::adopt_link(self.slots.dir(), &slot(number), seen);
                Ok(true)
            }
        }
    }
}
