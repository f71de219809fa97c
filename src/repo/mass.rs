//! When removals are a mass delete: many, a large part of all, or a whole directory at the top.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, RepoError};
use crate::engine::guard::MassDelete;
use crate::git::tree;
use crate::names::{ObjectId, RepoPath};

/// Returns whether these removals, between two trees, are a mass delete. `lately` is how many
/// removals there were just before.
pub(super) fn is_mass(
    place: &Place,
    old_tree: ObjectId,
    new_tree: Option<ObjectId>,
    removed: &BTreeSet<RepoPath>,
    lately: usize,
) -> Result<bool, RepoError> {
    let settings = &place.settings;
    let guard = MassDelete {
        files: settings.mass_delete_files,
        percent: u8::try_from(settings.mass_delete_percent).unwrap_or(u8::MAX),
    };
    let many = removed.len() + lately;
    // Counting the tree costs, so it is only done for what may be much.
    if guard.is_exceeded(many, 0) {
        let total = tree::count(&place.objects, old_tree)? + lately;
        if guard.is_exceeded(many, total) {
            return Ok(true);
        }
    }
    is_whole_top(place, new_tree, removed)
}

/// Returns whether a whole directory at the top goes that had many files.
fn is_whole_top(
    place: &Place,
    new_tree: Option<ObjectId>,
    removed: &BTreeSet<RepoPath>,
) -> Result<bool, RepoError> {
    let mut tops: BTreeMap<&[u8], usize> = BTreeMap::new();
    for path in removed {
        let mut parts = path.components();
        if let (Some(top), Some(_)) = (parts.next(), parts.next()) {
            *tops.entry(top).or_default() += 1;
        }
    }
    for (top, count) in tops {
        if count <= place.settings.guards.mass_delete_top {
            continue;
        }
        let stays = match new_tree {
            Some(tree) => place.objects.entry(tree, &RepoPath::new(top)?)?.is_some(),
            None => false,
        };
        if !stays {
            return Ok(true);
        }
    }
    Ok(false)
}
