//! Is the whole history of a fetched commit here?
//!
//! What a reference holds is complete, by git's own rule. So only what is new must be looked at:
//! the commits that no known reference contains, and of each the difference to its first parent.

use std::collections::BTreeSet;

use git2::{DiffOptions, ErrorCode, Oid, Repository, Sort};

use crate::git::GitError;
use crate::git::objects::Objects;
use crate::names::ObjectId;

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
        let mut options = DiffOptions::new();
        options.skip_binary_check(true).include_typechange(true);
        // Reading the difference reads every new tree; the files are only looked for.
        let diff =
            repo.diff_tree_to_tree(before.as_ref(), Some(&commit.tree()?), Some(&mut options))?;
        for delta in diff.deltas() {
            let file = delta.new_file();
            let submodule = file.mode() == git2::FileMode::Commit;
            let id = file.id();
            if !submodule && !id.is_zero() && seen.insert(id) && !odb.exists(id) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
