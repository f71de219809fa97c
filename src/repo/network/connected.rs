//! Is the whole history of a fetched commit here?
//!
//! What a reference holds is complete, by git's own rule. So only what is new must be looked at:
//! the commits that no known reference contains, and of each the difference to its first parent.

use std::collections::BTreeSet;

use git2::{ErrorCode, Odb, Oid, Repository, Sort};

use crate::git::GitError;
use crate::git::objects::Objects;
use crate::names::ObjectId;

/// The part of a mode that says what it is, and two of its values.
const KIND: i32 = 0o170_000;
const DIRECTORY: i32 = 0o040_000;
const SUBMODULE: i32 = 0o160_000;

/// Beyond this many new commits git's own check is as fast, and needs less memory.
const MANY: usize = 5_000;

/// Returns whether `tip` and everything that it names is here, provided that this holds for the
/// commits in `known`. Says no if it would take too long to find out.
pub(super) fn is_whole(
    objects: &Objects,
    tip: ObjectId,
    known: &[ObjectId],
) -> Result<bool, GitError> {
    let Some(repo) = objects.library() else {
        return Ok(false);
    };
    match walk(repo, tip, known) {
        Ok(whole) => Ok(whole),
        Err(error) if error.code() == ErrorCode::NotFound => {
            tracing::debug!(%error, "a fetched history is not complete");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn walk(repo: &Repository, tip: ObjectId, known: &[ObjectId]) -> Result<bool, git2::Error> {
    let odb = repo.odb()?;
    // Another process wrote what we look for.
    odb.refresh()?;
    let mut revisions = repo.revwalk()?;
    revisions.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    revisions.push(Oid::from_bytes(tip.as_bytes())?)?;
    for id in known {
        revisions.hide(Oid::from_bytes(id.as_bytes())?)?;
    }
    let mut seen = BTreeSet::new();
    for (count, id) in revisions.enumerate() {
        if count >= MANY {
            return Ok(false);
        }
        let commit = repo.find_commit(id?)?;
        let before = match commit.parents().next() {
            Some(parent) => Some(parent.tree()?),
            None if commit.parent_count() == 0 => None,
            None => return Ok(false),
        };
        let before = before.map(|tree| tree.id());
        if !has_tree(repo, &odb, before, commit.tree_id(), &mut seen)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether everything in `new` that `old` does not have at the same place is here.
///
/// Each object is looked at once, though it may be in the tree a million times.
fn has_tree(
    repo: &Repository,
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Oid,
    seen: &mut BTreeSet<Oid>,
) -> Result<bool, git2::Error> {
    let mut todo = vec![(old, new)];
    while let Some((old, new)) = todo.pop() {
        if old == Some(new) || !seen.insert(new) {
            continue;
        }
        // Every new tree is read; the files are only looked for.
        let tree = repo.find_tree(new)?;
        let before = old.map(|old| repo.find_tree(old)).transpose()?;
        for entry in &tree {
            let known = before
                .as_ref()
                .and_then(|before| before.get_name_bytes(entry.name_bytes()));
            let known = known.map(|known| (known.filemode_raw() & KIND, known.id()));
            let id = entry.id();
            match entry.filemode_raw() & KIND {
                DIRECTORY => {
                    let old = known.filter(|known| known.0 == DIRECTORY);
                    todo.push((old.map(|known| known.1), id));
                }
                SUBMODULE => {}
                _ if known.is_some_and(|known| known.1 == id) => {}
                _ => {
                    if seen.insert(id) && !odb.exists(id) {
                        return Ok(false);
                    }
                }
            }
        }
    }
    Ok(true)
}
