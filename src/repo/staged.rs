//! What the user staged and an index of ours has something else for.
//!
//! It is the only copy: `git add -p` takes a part of a file, and a file may be saved again after
//! `git add`. So before an entry takes the place of another, that one becomes a commit below our
//! references.

use std::collections::BTreeMap;
use std::process::Command;

use super::publish::IndexEdit;
use super::{Place, RepoError};
use crate::clock;
use crate::git::index::{self, IndexView};
use crate::git::refs;
use crate::git::tree::{self, Edits, Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// Where staged content is kept that something else took the place of.
const STAGED: &str = "refs/worktree/autosync/staged";

/// As many paths are asked for by name; for more the whole index is read.
const BY_NAME: usize = 200;

/// Keeps what is staged at the paths of `edits` and is neither in `tip` nor what they set.
///
/// `list` is `git ls-files` on the index that is about to be edited; it runs only if that is not
/// the one that `view` was read from.
pub(super) fn keep_replaced(
    place: &Place,
    (view, is_view): (&IndexView, bool),
    list: Command,
    tip: Option<ObjectId>,
    edits: &[IndexEdit],
) -> Result<(), RepoError> {
    let all;
    let staged = if is_view {
        if view.staged.is_empty() {
            return Ok(());
        }
        &view.staged
    } else {
        let paths: Vec<RepoPath> = edits.iter().map(|edit| edit.path.clone()).collect();
        let named = if paths.len() > BY_NAME {
            &[]
        } else {
            &paths[..]
        };
        let found = index::entries_of(list, named)?.into_iter();
        all = found.map(|(path, entry)| (path, Some(entry))).collect();
        &all
    };
    let head = Lookup::new(&place.objects, place.tree_of(tip)?);
    let mut replaced = BTreeMap::new();
    for edit in edits {
        if let Some(Some(entry)) = staged.get(&edit.path)
            && edit.entry != Some(*entry)
            && head.get(&edit.path)? != Some(*entry)
        {
            replaced.insert(edit.path.clone(), *entry);
        }
    }
    keep(place, &replaced)
}

/// Keeps staged content as a commit on top of what was kept before.
pub(super) fn keep(place: &Place, staged: &BTreeMap<RepoPath, Entry>) -> Result<(), RepoError> {
    let edits: Edits = staged
        .iter()
        // Of what is only announced (`git add -N`) and of a submodule there is no content.
        .filter(|(_, entry)| place.objects.contains(entry.id))
        .map(|(path, entry)| (path.clone(), Some(*entry)))
        .collect();
    let Some(tree) = tree::build(&place.objects, None, &edits)? else {
        return Ok(());
    };
    let before = refs::read(&place.git, &place.objects, STAGED)?;
    if let Some(before) = before
        && place.objects.commit(before)?.tree == tree
    {
        return Ok(());
    }
    let parents: Vec<ObjectId> = before.into_iter().collect();
    let text = "autosync: staged by hand, before the tree was committed\n";
    let when = clock::wall_seconds_and_offset();
    let id = place
        .objects
        .write_commit(tree, &parents, &place.identity()?, when, text)?;
    Ok(refs::set(&place.git, &place.objects, STAGED, Some(id))?)
}
