//! Notes beside commits, in `refs/notes/autosync`: read, put together and moved by
//! compare-and-swap.
//!
//! git's own `notes append` and `notes merge` move the reference to whatever they made, also over
//! what came in between; and its union takes each side whole, so that what both have is there
//! twice. Here a note is its paragraphs: those of the hub, then those that are ours alone.
//!
//! Absent: the network. A merge is to be on the hub before it is ours, so that no two ever cross.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, RepoError};
use crate::clock;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::git::objects::Kind;
use crate::git::refs;
use crate::git::tree::{self, Edits, Entry};
use crate::names::{ObjectId, RepoPath};

/// Where the words are for commits that others may have.
pub(super) const NOTES: &str = "refs/notes/autosync";

/// How often it is begun again when somebody else was first.
pub(super) const TRIES: usize = 4;

/// Every note by what it is about, with its path: git spreads many of them over directories.
type Notes = BTreeMap<Vec<u8>, (RepoPath, Entry)>;

/// Returns where the notes stand.
pub(super) fn read(place: &Place) -> Result<Option<ObjectId>, RepoError> {
    Ok(refs::read(&place.git, &place.objects, NOTES)?)
}

/// Adds a note to a commit; one that it has stays above.
pub(super) fn add(place: &Place, commit: ObjectId, words: &str) -> Result<(), RepoError> {
    for _ in 0..TRIES {
        let ours = read(place)?;
        let notes = notes_in(place, ours)?;
        let id = commit.to_string();
        let (path, text) = match notes.get(id.as_bytes()) {
            Some((path, note)) => {
                let above = place.objects.blob(note.id)?;
                (path.clone(), [above.trim_ascii_end(), b"\n\n"].concat())
            }
            None => (RepoPath::new(id.as_bytes())?, Vec::new()),
        };
        let text = [&text, words.trim_end().as_bytes(), b"\n"].concat();
        let edits = Edits::from([(path, Some(note(place, &text)?))]);
        let parents: Vec<ObjectId> = ours.into_iter().collect();
        let made = commit_of(place, ours, &edits, &parents)?;
        if refs::swap(&place.git, &place.objects, NOTES, ours, made)? {
            return show(place);
        }
    }
    Err(RepoError::Blocked(Trouble::new(
        Code::GitBusy,
        Recovery::Pause,
        "waiting: the notes are being changed",
        "",
    )))
}

/// Returns the notes of both sides in one: one of them if it has all of the other.
pub(super) fn together(
    place: &Place,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<ObjectId, RepoError> {
    if place.objects.descends(ours, theirs)? {
        return Ok(ours);
    }
    if place.objects.descends(theirs, ours)? {
        return Ok(theirs);
    }
    let base = notes_in(place, place.objects.merge_base(ours, theirs)?)?;
    let (here, there) = (notes_in(place, Some(ours))?, notes_in(place, Some(theirs))?);
    let mut edits = Edits::new();
    let about: BTreeSet<&Vec<u8>> = base.keys().chain(here.keys()).collect();
    for id in about {
        let at = |notes: &Notes| notes.get(id).map(|(_, note)| *note);
        let (was, here_is, there_is) = (at(&base), at(&here), at(&there));
        if here_is == was || here_is == there_is {
            continue;
        }
        let becomes = match (here_is, there_is) {
            (Some(a), Some(b)) if there_is != was => Some(union(place, a, b)?),
            // Taken back here, said more of there.
            (None, Some(_)) if there_is != was => continue,
            (here_is, _) => here_is,
        };
        let place_of = |notes: &Notes| notes.get(id).map(|(path, _)| path.clone());
        if let Some(path) = place_of(&there).or_else(|| place_of(&here)) {
            edits.insert(path, becomes);
        }
    }
    commit_of(place, Some(theirs), &edits, &[theirs, ours])
}

/// Lets `git log` show the notes, unless the user has chosen which notes it shows.
pub(super) fn show(place: &Place) -> Result<(), RepoError> {
    const KEY: &str = "notes.displayRef";
    if place.git.config(KEY)?.is_none() {
        place.git.set_config(KEY, NOTES)?;
    }
    Ok(())
}

fn notes_in(place: &Place, commit: Option<ObjectId>) -> Result<Notes, RepoError> {
    let tree = place.tree_of(commit)?;
    let found = tree::differences(&place.objects, None, tree)?;
    let notes = found.into_iter().filter_map(|found| {
        let about = found.path.as_bytes().iter().filter(|byte| **byte != b'/');
        Some((about.copied().collect(), (found.path.clone(), found.new?)))
    });
    Ok(notes.collect())
}

/// Returns their note with the paragraphs of ours that it lacks.
fn union(place: &Place, ours: Entry, theirs: Entry) -> Result<Entry, RepoError> {
    let (ours, theirs) = (place.objects.blob(ours.id)?, place.objects.blob(theirs.id)?);
    let known = paragraphs(&theirs);
    let mut text = theirs.trim_ascii_end().to_vec();
    for more in paragraphs(&ours) {
        if !known.contains(&more) {
            text.extend_from_slice(b"\n\n");
            text.extend_from_slice(&more);
        }
    }
    text.push(b'\n');
    note(place, &text)
}

/// Splits a note where lines are empty.
fn paragraphs(text: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines
        .split(|line| line.trim_ascii().is_empty())
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join(&b'\n'))
        .collect()
}

fn note(place: &Place, text: &[u8]) -> Result<Entry, RepoError> {
    Ok(Entry {
        mode: tree::FILE,
        id: place.objects.write(Kind::Blob, text)?,
    })
}

fn commit_of(
    place: &Place,
    base: Option<ObjectId>,
    edits: &Edits,
    parents: &[ObjectId],
) -> Result<ObjectId, RepoError> {
    let objects = &place.objects;
    let tree = match tree::build(objects, place.tree_of(base)?, edits)? {
        Some(tree) => tree,
        None => objects.write_tree(Vec::new())?,
    };
    let when = clock::wall_seconds_and_offset();
    let who = place.identity()?;
    Ok(objects.write_commit(tree, parents, &who, when, "Notes of autosync\n")?)
}
