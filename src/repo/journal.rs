//! The journal of an apply: what is being written, in which slots, durable before the first write.
//!
//! While it is open no snapshot starts, and after a kill the apply is finished from it. It says
//! what was meant; what was done is in the slots (see `exchange`).

use std::path::{Path, PathBuf};

use super::bases::Why;
use super::disk::Identity;
use super::records::{self, Fields, damaged};
use super::{Place, RepoError};
use crate::git::refs;
use crate::git::tree::Entry;
use crate::names::{ObjectId, RepoPath};

/// The kind and version of the file.
pub(super) const KIND: &str = "autosync journal 1";
/// Keeps the commit of an open journal.
const KEEPER: &str = "refs/worktree/autosync/applying";
/// How many fields a record has.
pub(super) const FIELDS: usize = 12;

/// What is to be done with a path on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A file or link takes the place of another.
    Replace,
    /// A file or link is put where nothing is.
    Create,
    /// A file or link goes.
    Delete,
    /// Only the executable bit changes.
    Mode,
    /// A submodule comes or goes: an empty directory at most.
    Submodule,
    /// Nothing: the path was decided before anything was written.
    Nothing,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Replace,
        Self::Create,
        Self::Delete,
        Self::Mode,
        Self::Submodule,
        Self::Nothing,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Mode => "mode",
            Self::Submodule => "submodule",
            Self::Nothing => "nothing",
        }
    }
}

/// What becomes of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The path.
    pub path: RepoPath,
    /// What is to be done.
    pub step: Step,
    /// What the disk is expected to have, as git would store it.
    pub old: Option<Entry>,
    /// What the new commit has.
    pub new: Option<Entry>,
    /// A commit that has `old` at this path.
    pub base: ObjectId,
    /// The id of the bytes that the disk is expected to have, where git stores other bytes.
    pub old_bytes: Option<ObjectId>,
    /// The id of the bytes that were staged.
    pub new_bytes: Option<ObjectId>,
    /// The staged file.
    pub staged: Option<Identity>,
    /// Whether what stands in the way there, if anything does, is ignored by git.
    pub ignored: bool,
    /// Whether the user hid the path from git: a sparse checkout, or by a flag.
    pub hidden: bool,
    /// Why the path is not written at all, in the form of the base map.
    pub why: Option<Why>,
}

impl Op {
    /// Returns the id of the bytes that the disk is expected to have.
    pub fn expected(&self) -> Option<ObjectId> {
        self.old_bytes.or(self.old.map(|entry| entry.id))
    }

    /// Leaves the path as the disk has it, for a reason.
    pub(super) fn leave(&mut self, why: Why) {
        self.step = Step::Nothing;
        self.why = Some(why);
    }
}

/// An open journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The tip that the plan was made from.
    pub from: ObjectId,
    /// The commit that is applied.
    pub to: ObjectId,
    /// Whether a mass deletion is part of it, which is kept longer.
    pub mass: bool,
    /// Whether only this disk goes there: the branch stays.
    pub here: bool,
    /// The directory of the slots: slot `n` belongs to `ops[n]`.
    pub stage: PathBuf,
    /// What becomes of each path, in the order of the paths.
    pub ops: Vec<Op>,
}

impl Journal {
    /// Opens the journal: it is durable when this returns.
    ///
    /// A reference keeps its commit: not every one was pushed before, and the user may collect
    /// garbage after a kill.
    pub fn open(&self, place: &Place) -> Result<(), RepoError> {
        refs::set(&place.git, &place.objects, KEEPER, Some(self.to))?;
        records::write(&file(place), KIND, &self.to_records())
    }

    /// Returns the records of the journal.
    pub(super) fn to_records(&self) -> Vec<Fields> {
        let mut all = vec![self.header()];
        all.extend(self.ops.iter().map(write_op));
        all
    }

    /// Reads the open journal, if there is one.
    pub fn read(place: &Place) -> Result<Option<Self>, RepoError> {
        let path = file(place);
        let Some(all) = records::read(&path, KIND, FIELDS)? else {
            return Ok(None);
        };
        Self::of_records(&path, &all).map(Some)
    }

    /// Reads the records of a journal; `path` is for messages.
    pub(super) fn of_records(path: &Path, all: &[Fields]) -> Result<Self, RepoError> {
        let mut all = all.iter();
        let head = all.next().ok_or_else(|| damaged(path, "it is empty"))?;
        let id = |field: usize| {
            records::id(path, &head[field])?.ok_or_else(|| damaged(path, "a commit is missing"))
        };
        Ok(Self {
            from: id(0)?,
            to: id(1)?,
            mass: head[2] == b"mass",
            here: head[3] == b"here",
            stage: path_of(&head[FIELDS - 1]),
            ops: all
                .map(|fields| read_op(path, fields))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Closes the journal.
    pub fn close(place: &Place) -> Result<(), RepoError> {
        records::remove(&file(place))?;
        Ok(refs::set(&place.git, &place.objects, KEEPER, None)?)
    }

    fn header(&self) -> Fields {
        let mut fields = vec![
            self.from.to_string().into_bytes(),
            self.to.to_string().into_bytes(),
            if self.mass { "mass" } else { "-" }.into(),
            if self.here { "here" } else { "-" }.into(),
        ];
        fields.resize(FIELDS - 1, b"-".to_vec());
        fields.push(self.stage.as_os_str().as_encoded_bytes().to_vec());
        fields
    }
}

/// Returns whether an apply was begun and not finished.
pub fn journal_open(place: &Place) -> bool {
    file(place).symlink_metadata().is_ok()
}

fn file(place: &Place) -> PathBuf {
    place.store.join("journal")
}

/// Returns bytes as a path of the operating system.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

fn write_op(op: &Op) -> Fields {
    let mode = |entry: Option<Entry>| format!("{:o}", entry.map_or(0, |entry| entry.mode));
    let id = |id: Option<ObjectId>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let staged = op.staged.map_or_else(
        || "-".to_owned(),
        |at| format!("{} {} {}", at.device, at.inode, at.born),
    );
    let why = op.why.as_ref().map_or_else(|| "-".to_owned(), Why::write);
    let mut fields: Fields = [
        op.step.word().to_owned(),
        mode(op.old),
        id(op.old.map(|entry| entry.id)),
        mode(op.new),
        id(op.new.map(|entry| entry.id)),
        op.base.to_string(),
        id(op.old_bytes),
        id(op.new_bytes),
        staged,
        match (op.ignored, op.hidden) {
            (true, _) => "ignored",
            (false, true) => "hidden",
            (false, false) => "-",
        }
        .to_owned(),
        why,
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    fields.push(op.path.as_bytes().to_vec());
    fields
}

fn read_op(file: &Path, fields: &Fields) -> Result<Op, RepoError> {
    let entry = |at: usize| -> Result<Option<Entry>, RepoError> {
        let mode = std::str::from_utf8(&fields[at])
            .ok()
            .and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .ok_or_else(|| damaged(file, "a mode is none"))?;
        Ok(records::id(file, &fields[at + 1])?.map(|id| Entry { mode, id }))
    };
    let step = Step::ALL
        .into_iter()
        .find(|step| step.word().as_bytes() == fields[0])
        .ok_or_else(|| damaged(file, "a step is unknown"))?;
    let staged = match fields[8].as_slice() {
        b"-" => None,
        text => {
            let mut words = text.split(|b| *b == b' ');
            let mut next = || words.next().unwrap_or_default();
            Some(Identity {
                device: records::number(file, next())?,
                inode: records::number(file, next())?,
                born: records::number(file, next())?,
            })
        }
    };
    let why = match fields[10].as_slice() {
        b"-" => None,
        text => Some(
            std::str::from_utf8(text)
                .ok()
                .and_then(Why::read)
                .ok_or_else(|| damaged(file, "a reason is unknown"))?,
        ),
    };
    Ok(Op {
        path: RepoPath::new(&fields[11])?,
        step,
        old: entry(1)?,
        new: entry(3)?,
        base: records::id(file, &fields[5])?.ok_or_else(|| damaged(file, "a base is missing"))?,
        old_bytes: records::id(file, &fields[6])?,
        new_bytes: records::id(file, &fields[7])?,
        staged,
        ignored: fields[9] == b"ignored",
        hidden: fields[9] == b"hidden",
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::bases::Why;

    #[test]
    fn an_op_reads_as_it_was_written() {
        let id = |byte| ObjectId::from_bytes(&[byte; 20]).unwrap();
        let entry = Entry {
            mode: 0o120_000,
            id: id(3),
        };
        for step in Step::ALL {
            for full in [false, true] {
                let op = Op {
                    path: RepoPath::new(b"d/\t \xff\n").unwrap(),
                    step,
                    old: full.then_some(entry),
                    new: (!full).then_some(entry),
                    base: id(9),
                    old_bytes: full.then_some(id(4)),
                    new_bytes: full.then_some(id(5)),
                    staged: full.then_some(Identity {
                        device: 1,
                        inode: u64::MAX,
                        born: -1,
                    }),
                    ignored: full,
                    hidden: !full,
                    why: full.then(|| Why::Deferred("several links".to_owned())),
                };
                let read = read_op(Path::new("journal"), &write_op(&op)).unwrap();
                assert_eq!(read, op);
            }
        }
    }
}
