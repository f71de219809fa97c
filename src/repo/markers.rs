//! Conflict markers that somebody's git left in a file and committed.
//!
//! No host of ours writes markers, but a host without autosync may: a person who commits a
//! merge unsolved, or an older program that commits whatever a pull left. Such a file is shown as a
//! conflict, and its text is not mixed with anybody's edits. The versions before are in the history.
//!
//! The file `autosync/marked` names each: path, blob, and the commit that brought the markers. It
//! is written before the tree is touched, and an entry counts while the branch has that very blob at
//! that path. So it is void before the branch moves, and any change that a person makes here
//! settles it, also where the markers belong into the text.
//!
//! Invariants:
//! 1. What a host of ours committed, by its trailer, is a person's decision and left alone. So is
//!    what was there already.
//! 2. While all commits that come in are of hosts of ours, no content is looked at.
//!
//! Absent: a look at the tree as it is at first contact. What is there then is the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::records::{self, damaged};
use super::three_way::Changes;
use super::{Place, RepoError, plan};
use crate::clock;
use crate::engine::event::Marked;
use crate::git::objects::Commit;
use crate::git::tree::{self, Entry};
use crate::names::{ObjectId, RepoPath};

/// The kind and version of the file.
const KIND: &str = "autosync marked 1";

/// Larger files are not looked at, in bytes: no person reads them for markers, and they are
/// never merged as text.
const LIMIT: u64 = 5 * 1024 * 1024;

/// So many files are remembered.
const MOST: usize = 1_000;

/// The trailer of every commit of a host of ours.
const OURS: &str = "Autosync-Host";

/// What is remembered: of each path the blob with the markers, and the commit that brought them.
type Known = BTreeMap<RepoPath, (ObjectId, ObjectId)>;

/// Where the markers of a version come from.
enum Source {
    /// A commit of a host of ours.
    Ours,
    /// They are no news: this blob had them before.
    Before(ObjectId),
    /// This commit, of nobody's host.
    Plain(ObjectId),
    /// The version is not that of its side.
    Unknown,
}

/// Returns whether a text has a conflict as git writes it: lines that open, part and close it,
/// in this order.
fn has_markers(content: &[u8]) -> bool {
    if content.contains(&0) {
        return false;
    }
    let mut lines = content.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(b"<<<<<<< "))
        && lines.any(|line| line.strip_suffix(b"\r").unwrap_or(line) == b"=======")
        && lines.any(|line| line.starts_with(b">>>>>>> "))
}

/// As [`has_markers`], of a blob.
fn marked(place: &Place, blob: ObjectId) -> Result<bool, RepoError> {
    let objects = &place.objects;
    Ok(objects.size(blob)? <= LIMIT && has_markers(&objects.blob(blob)?))
}

/// As [`marked`], of what stands somewhere, if that is a file.
fn is_marked(place: &Place, entry: Option<Entry>) -> Result<bool, RepoError> {
    match entry.filter(Entry::is_file) {
        Some(entry) => marked(place, entry.id),
        None => Ok(false),
    }
}

fn is_ours(commit: &Commit) -> bool {
    !commit.trailers(OURS).is_empty()
}

/// Finds where the markers of a version come from, going back from `tip` through `range`.
fn source(
    place: &Place,
    tip: ObjectId,
    range: &BTreeSet<ObjectId>,
    path: &RepoPath,
    blob: ObjectId,
) -> Result<Source, RepoError> {
    let objects = &place.objects;
    let at = |commit: &Commit| -> Result<Option<Entry>, RepoError> {
        Ok(objects.entry(commit.tree, path)?.filter(Entry::is_file))
    };
    let (mut id, mut commit, mut blob) = (tip, objects.commit(tip)?, blob);
    if at(&commit)?.is_none_or(|entry| entry.id != blob) {
        return Ok(Source::Unknown);
    }
    'back: while range.contains(&id) {
        let mut edited = None;
        for parent in &commit.parents {
            // A shallow clone names parents that it does not have.
            let Ok(older) = objects.commit(*parent) else {
                continue;
            };
            match at(&older)? {
                Some(entry) if entry.id == blob => {
                    (id, commit) = (*parent, older);
                    continue 'back;
                }
                Some(entry) if edited.is_none() && marked(place, entry.id)? => {
                    edited = Some((*parent, older, entry.id));
                }
                Some(_) | None => {}
            }
        }
        if is_ours(&commit) {
            return Ok(Source::Ours);
        }
        match edited {
            Some(older) => (id, commit, blob) = older,
            None => return Ok(Source::Plain(id)),
        }
    }
    Ok(Source::Before(blob))
}

/// Returns the ids of commits.
fn ids(commits: &[(ObjectId, Commit)]) -> BTreeSet<ObjectId> {
    commits.iter().map(|(id, _)| *id).collect()
}

/// Writes down which files come with markers of somebody's git when the branch goes from `from`
/// to `to`, which `incoming` leads to. To be called before the branch moves.
pub(super) fn note(
    place: &Place,
    from: ObjectId,
    to: ObjectId,
    incoming: &[(ObjectId, Commit)],
) -> Result<(), RepoError> {
    let before = read(place)?;
    let plain = incoming.iter().any(|(_, commit)| !is_ours(commit));
    if before.is_empty() && !plain {
        return Ok(());
    }
    let objects = &place.objects;
    let old_tree = objects.commit(from)?.tree;
    let new_tree = objects.commit(to)?.tree;
    let mut now = Known::new();
    for (path, known) in &before {
        for tree in [old_tree, new_tree] {
            let entry = objects.entry(tree, path)?;
            if entry.is_some_and(|entry| entry.id == known.0) {
                now.insert(path.clone(), *known);
            }
        }
    }
    if plain && objects.descends(to, from)? {
        let range = ids(incoming);
        for change in tree::differences(objects, Some(old_tree), Some(new_tree))? {
            let path = &change.path;
            let Some(new) = change.new.filter(Entry::is_file) else {
                continue;
            };
            if change.old.is_some_and(|old| old.id == new.id) || !marked(place, new.id)? {
                continue;
            }
            let known = before.get(path);
            let was_known =
                |blob: ObjectId| known.filter(|(known, _)| *known == blob).map(|(_, by)| *by);
            let by = match source(place, to, &range, path, new.id)? {
                Source::Plain(by) if !is_marked(place, change.old)? => Some(by),
                // Somebody went on in a file that is listed, and the markers are still there.
                Source::Before(blob) => was_known(blob),
                Source::Plain(_) | Source::Ours | Source::Unknown => None,
            };
            if let Some(by) = by.filter(|_| now.len() < MOST || now.contains_key(path)) {
                now.insert(path.clone(), (new.id, by));
            }
        }
    }
    if now != before {
        write(place, &now)?;
    }
    Ok(())
}

/// Returns the files with markers of somebody's git that the tree of `tip` has.
pub(super) fn standing(place: &Place, tip: Option<ObjectId>) -> Result<Vec<Marked>, RepoError> {
    let known = read(place)?;
    let (Some(tip), false) = (tip, known.is_empty()) else {
        return Ok(Vec::new());
    };
    let tree = place.objects.commit(tip)?.tree;
    let mut found = Vec::new();
    for (path, (blob, by)) in known {
        let entry = place.objects.entry(tree, &path)?;
        if entry.is_none_or(|entry| entry.id != blob) {
            continue;
        }
        let Ok(commit) = place.objects.commit(by) else {
            continue;
        };
        // Not those that a shallow clone lacks, nor those without such a file.
        let has_it = |parent: &ObjectId| {
            let parent = place.objects.commit(*parent);
            let entry = parent.and_then(|parent| place.objects.entry(parent.tree, &path));
            entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.is_file()))
        };
        let before = commit.parents.iter().copied().filter(has_it).collect();
        found.push(Marked {
            path,
            commit: by,
            before,
            author: String::from_utf8_lossy(&commit.author).into_owned(),
            since: clock::wall_in_zone(commit.seconds, commit.offset),
        });
    }
    Ok(found)
}

/// Returns whether a text that git mixed out of two sides must not stand: it has markers that
/// somebody's git left on one of the sides, or in the version that both started from.
///
/// `sides` are the commits of the hub and ours.
pub(super) fn spoil(
    place: &Place,
    path: &RepoPath,
    mixed: ObjectId,
    changes: &Changes,
    sides: [ObjectId; 2],
) -> Result<bool, RepoError> {
    if !marked(place, mixed)? {
        return Ok(false);
    }
    let known = read(place)?;
    let [hub, local] = sides;
    // Where a side moved the file, only git knows which two versions it mixed.
    let met = changes.both().any(|(both, _, _)| both == path);
    for (changes, tip, other) in [(&changes.hub, hub, local), (&changes.local, local, hub)] {
        let mut range = None;
        for change in changes {
            if met && change.path != *path {
                continue;
            }
            let base = change.old.map(|old| old.id);
            if base.is_some_and(|base| known.get(&change.path).is_some_and(|it| it.0 == base)) {
                return Ok(true);
            }
            let Some(new) = change.new.filter(Entry::is_file) else {
                continue;
            };
            if is_marked(place, change.old)? || !marked(place, new.id)? {
                continue;
            }
            if range.is_none() {
                let ends = plan::Ends {
                    here: false,
                    from: other,
                    to: tip,
                };
                range = Some(ids(&plan::incoming(place, ends)?));
            }
            let Some(range) = &range else {
                continue;
            };
            match source(place, tip, range, &change.path, new.id)? {
                Source::Plain(_) | Source::Unknown => return Ok(true),
                Source::Ours | Source::Before(_) => {}
            }
        }
    }
    Ok(false)
}

/// Returns whether one of these versions has markers that their base has not.
pub(super) fn gained(place: &Place, base: Entry, sides: [Entry; 2]) -> Result<bool, RepoError> {
    let [hub, local] = sides;
    let one = is_marked(place, Some(hub))? || is_marked(place, Some(local))?;
    Ok(one && !is_marked(place, Some(base))?)
}

fn file(place: &Place) -> PathBuf {
    place.store.join("marked")
}

fn read(place: &Place) -> Result<Known, RepoError> {
    let path = file(place);
    let mut known = Known::new();
    let all = match records::read(&path, KIND, 3) {
        Err(error @ RepoError::State { .. }) => {
            // What is listed is no reason to stop.
            tracing::warn!(%error, "which files hold conflict markers is forgotten");
            None
        }
        all => all?,
    };
    for fields in all.unwrap_or_default() {
        let id = |field: &[u8]| -> Result<ObjectId, RepoError> {
            records::id(&path, field)?.ok_or_else(|| damaged(&path, "an object id is none"))
        };
        let (blob, by) = (id(&fields[0])?, id(&fields[1])?);
        known.insert(RepoPath::new(&fields[2])?, (blob, by));
    }
    Ok(known)
}

fn write(place: &Place, known: &Known) -> Result<(), RepoError> {
    if known.is_empty() {
        return records::remove(&file(place));
    }
    let fields = |(path, (blob, by)): (&RepoPath, &(ObjectId, ObjectId))| {
        let [blob, by] = [blob, by].map(|id| id.to_string().into_bytes());
        vec![blob, by, path.as_bytes().to_vec()]
    };
    let all: Vec<_> = known.iter().map(fields).collect();
    records::write(&file(place), KIND, &all)
}

#[cfg(test)]
mod tests {
    use super::has_markers;

    #[test]
    fn a_conflict_as_git_writes_it_is_seen_in_every_style() {
        for text in [
            "a\n<<<<<<< HEAD\none\n=======\ntwo\n>>>>>>> theirs\nb\n",
            "<<<<<<< ours\none\n||||||| 1234567\nold\n=======\ntwo\n>>>>>>> theirs",
            "<<<<<<< HEAD\r\none\r\n=======\r\ntwo\r\n>>>>>>> theirs\r\n",
            "<<<<<<< HEAD\n=======\n>>>>>>> \n",
            "caf\u{e9}\n<<<<<<< x\n=======\n>>>>>>> y\n",
        ] {
            assert!(has_markers(text.as_bytes()), "{text}");
        }
        assert!(has_markers(b"caf\xe9\n<<<<<<< HEAD\n=======\n>>>>>>> b\n"));
    }

    #[test]
    fn a_text_that_only_looks_like_a_conflict_is_none() {
        for text in [
            "",
            "Title\n=======\n",
            "<<<<<<< HEAD\none\n=======\ntwo\n",
            "<<<<<<< HEAD\none\n>>>>>>> theirs\n",
            "=======\n<<<<<<< HEAD\n>>>>>>> theirs\n",
            ">>>>>>> theirs\n=======\n<<<<<<< HEAD\n",
            " <<<<<<< HEAD\n=======\n>>>>>>> theirs\n",
            "> <<<<<<< HEAD\n> =======\n> >>>>>>> theirs\n",
            "<<<<<<<HEAD\n=======\n>>>>>>> theirs\n",
            "<<<<<<<< HEAD\n========\n>>>>>>>> theirs\n",
            "<<<<<<< HEAD\n======= x\n>>>>>>> theirs\n",
        ] {
            assert!(!has_markers(text.as_bytes()), "{text}");
        }
        assert!(!has_markers(b"\0<<<<<<< HEAD\n=======\n>>>>>>> theirs\n"));
    }
}
