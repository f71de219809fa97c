//! One operation of the log: what it says, and how its commit says it.

use std::collections::BTreeSet;

use super::history::{LOG, LOG_BEFORE};
use super::{Place, RepoError, here, message};
use crate::clock;
use crate::git::objects::Commit;
use crate::git::refs;
use crate::git::tree::{self, Difference};
use crate::names::{ObjectId, RepoPath};

/// What kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The log begins: there is nothing before it.
    Begin,
    /// What was written here was committed.
    Snapshot,
    /// What others pushed came in.
    Received,
    /// What was written here and what came in were put together.
    Merge,
    /// A person approved a delete.
    Approval,
    /// An operation was undone.
    Undo,
    /// An undo was undone.
    Redo,
    /// An older version of a path was brought back.
    Restore,
    /// The user's own git moved the branch.
    Git,
}

impl Kind {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Begin, "begin"),
        (Self::Snapshot, "snapshot"),
        (Self::Received, "received"),
        (Self::Merge, "merge"),
        (Self::Approval, "approval"),
        (Self::Undo, "undo"),
        (Self::Redo, "redo"),
        (Self::Restore, "restored"),
        (Self::Git, "git"),
    ];

    /// Returns the word for scripts.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, word)| word)
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(kind, _)| *kind)
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number on this host.
    pub number: u64,
    /// What kind.
    pub kind: Kind,
    /// What it was, in words: `edited notes/todo.txt`.
    pub words: String,
    /// The host that it came from.
    pub host: String,
    /// The branch before it; `None` for no commit.
    pub before: Option<ObjectId>,
    /// The branch after it; `None` for no commit.
    pub after: Option<ObjectId>,
    /// What the disk was to have after it, where that was for this host alone.
    pub here: Option<ObjectId>,
    /// What stood on the disk before it, where that was more than the branch had: removals that
    /// came in and waited for a person.
    pub(super) stood: Option<ObjectId>,
    /// The number of the operation that it takes back.
    pub undoes: Option<u64>,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// The offset from UTC then, in minutes.
    pub offset: i32,
    /// When its chain began, in seconds since 1970.
    pub(super) since: i64,
    /// The commit of the operation before it, if that is in the same chain.
    pub(super) previous: Option<ObjectId>,
}

/// Reads an operation.
pub(super) fn read(place: &Place, id: ObjectId) -> Result<Operation, RepoError> {
    let commit = place.objects.commit(id)?;
    parse(&commit).ok_or_else(|| RepoError::State {
        file: LOG.to_owned(),
        why: format!("{} is no operation", id.short()),
    })
}

/// Returns whether a commit is an operation.
pub(super) fn is_one(commit: &Commit) -> bool {
    !commit.trailers("Autosync-Operation").is_empty()
}

fn parse(commit: &Commit) -> Option<Operation> {
    let trailer = |key: &str| commit.trailers(key).pop();
    let object = |key: &str| match trailer(key)?.as_str() {
        "-" => Some(None),
        hex => ObjectId::from_hex(hex).ok().map(Some),
    };
    let text = String::from_utf8_lossy(&commit.message).into_owned();
    Some(Operation {
        number: trailer("Autosync-Operation")?.parse().ok()?,
        kind: Kind::read(&trailer("Autosync-Kind")?)?,
        words: text.lines().next()?.to_owned(),
        host: trailer("Autosync-Host")?,
        before: object("Autosync-Before")?,
        after: object("Autosync-After")?,
        here: object("Autosync-Here").flatten(),
        stood: object("Autosync-Stood").flatten(),
        undoes: trailer("Autosync-Undoes").and_then(|text| text.parse().ok()),
        seconds: commit.seconds,
        offset: commit.offset,
        since: trailer("Autosync-Since")?.parse().ok()?,
        previous: object("Autosync-Previous")?,
    })
}

/// The operations of a folder, newest first.
pub struct Operations<'a> {
    place: &'a Place,
    next: Option<ObjectId>,
    turned: bool,
}

/// Returns the operations of a folder, newest first.
pub fn operations(place: &Place) -> Result<Operations<'_>, RepoError> {
    Ok(Operations {
        place,
        next: refs::read(&place.git, &place.objects, LOG)?,
        turned: false,
    })
}

impl Iterator for Operations<'_> {
    type Item = Result<Operation, RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.next.take()?;
        let operation = match read(self.place, id) {
            Ok(operation) => operation,
            Err(error) => return Some(Err(error)),
        };
        self.next = operation.previous;
        if self.next.is_none() && !self.turned {
            self.turned = true;
            let place = self.place;
            self.next = match refs::read(&place.git, &place.objects, LOG_BEFORE) {
                Ok(before) => before.filter(|before| *before != id),
                Err(error) => return Some(Err(error.into())),
            };
        }
        Some(Ok(operation))
    }
}

impl Operation {
    /// Returns the commit that an undo goes back to; `None` for nothing.
    pub(super) fn old(&self) -> Option<ObjectId> {
        self.stood.or(self.before)
    }

    /// Returns whether it changed the tree, or what stands below `path` of it.
    pub fn touches(&self, place: &Place, path: Option<&RepoPath>) -> Result<bool, RepoError> {
        let (old, new) = match self.here {
            Some(here) => {
                let before = here::from(place, here)?;
                (place.tree_of(before)?, place.tree_of(Some(here))?)
            }
            None => (place.tree_of(self.old())?, place.tree_of(self.after)?),
        };
        let Some(path) = path else {
            let empty = |tree: Option<ObjectId>| {
                tree.map_or_else(|| place.objects.write_tree(Vec::new()), Ok)
            };
            return Ok(empty(old)? != empty(new)?);
        };
        let at = |tree: Option<ObjectId>| match tree {
            Some(tree) => place.objects.entry(tree, path),
            None => Ok(None),
        };
        Ok(at(old)? != at(new)?)
    }

    /// Returns when it was, RFC 3339 in the zone of then.
    pub fn at(&self) -> String {
        clock::wall_in_zone(self.seconds, self.offset)
    }

    /// Returns the paths that it changed: the first `limit`, and how many there are.
    pub fn paths(&self, place: &Place, limit: usize) -> Result<(Vec<RepoPath>, usize), RepoError> {
        let found = match self.here {
            Some(here) => {
                let before = here::from(place, here)?;
                differences(place, before, Some(here))?
            }
            None => differences(place, self.old(), self.after)?,
        };
        Ok((message::first_paths(&found, limit), found.len()))
    }
}

/// Returns the numbers of the operations that were taken back and not brought again.
pub fn taken_back<'a>(newest_first: impl IntoIterator<Item = &'a Operation>) -> BTreeSet<u64> {
    let mut undone = BTreeSet::new();
    for operation in newest_first {
        if let Some(number) = operation.undoes
            && !undone.contains(&operation.number)
        {
            undone.insert(number);
        }
    }
    undone
}

/// Writes an operation; it is durable when this returns.
pub(super) fn write(place: &Place, operation: &Operation) -> Result<ObjectId, RepoError> {
    let objects = &place.objects;
    let tree = match place.tree_of(operation.here.or(operation.after))? {
        Some(tree) => tree,
        None => objects.write_tree(Vec::new())?,
    };
    let mut parents: Vec<ObjectId> = Vec::new();
    let from = operation
        .here
        .map(|here| here::from(place, here))
        .transpose()?;
    let kept = [
        operation.previous,
        operation.here,
        from.flatten(),
        operation.stood,
        operation.after,
        operation.before,
    ];
    for id in kept.into_iter().flatten() {
        if !parents.contains(&id) {
            parents.push(id);
        }
    }
    let id = |id: Option<ObjectId>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let mut text = format!(
        "{}\n\nAutosync-Operation: {}\nAutosync-Kind: {}\nAutosync-Host: {}\n\
         Autosync-Before: {}\nAutosync-After: {}\nAutosync-Since: {}\nAutosync-Previous: {}\n",
        line(&operation.words),
        operation.number,
        operation.kind.word(),
        line(&operation.host),
        id(operation.before),
        id(operation.after),
        operation.since,
        id(operation.previous),
    );
    let here = operation
        .here
        .map(|here| format!("Autosync-Here: {here}\n"));
    let stood = operation
        .stood
        .map(|stood| format!("Autosync-Stood: {stood}\n"));
    let undoes = operation.undoes;
    let undoes = undoes.map(|number| format!("Autosync-Undoes: {number}\n"));
    text.extend(here.into_iter().chain(stood).chain(undoes));
    let when = (operation.seconds, operation.offset);
    Ok(objects.write_commit(tree, &parents, &place.identity()?, when, &text)?)
}

/// Returns what differs between two commits; none is nothing.
pub(super) fn differences(
    place: &Place,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
) -> Result<Vec<Difference>, RepoError> {
    let (old, new) = (place.tree_of(before)?, place.tree_of(after)?);
    Ok(tree::differences(&place.objects, old, new)?)
}
