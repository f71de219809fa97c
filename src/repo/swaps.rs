//! Files that changed places: an edit follows the content.
//!
//! git looks for renames only where a name went away, so it takes `a` and `b` that were exchanged
//! for two edits. Here the exchange is seen by the exact contents, and done to the base and the
//! other side too before they are merged; then the other side's edit is already where it belongs.

use std::collections::BTreeMap;

use super::{Place, RepoError};
use crate::git::tree::{self, Difference, Edits, Entry};
use crate::names::{ObjectId, RepoPath};

/// Where the content of each path came from, for paths that changed places among themselves.
type Moves = BTreeMap<RepoPath, RepoPath>;

/// Finds the paths of one side that changed places, in full circles.
fn circles(side: &[Difference]) -> Vec<Moves> {
    let mut homes: BTreeMap<ObjectId, Vec<&RepoPath>> = BTreeMap::new();
    let mut news: BTreeMap<&RepoPath, ObjectId> = BTreeMap::new();
    for change in side {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && old.is_file()
            && new.is_file()
            && old.id != new.id
        {
            homes.entry(old.id).or_default().push(&change.path);
            news.insert(&change.path, new.id);
        }
    }
    let origin = |path: &RepoPath| match homes.get(news.get(path)?)?.as_slice() {
        [one] => Some((*one).clone()),
        _ => None,
    };
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for start in news.keys() {
        let mut circle = Moves::new();
        let mut at = (*start).clone();
        while seen.insert(at.clone()) {
            let Some(from) = origin(&at) else {
                break;
            };
            circle.insert(at, from.clone());
            at = from;
        }
        if at == **start && circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

/// Makes on `base` and `other` the exchanges that one side made and that the other side's edits
/// meet.
///
/// Returns the two trees, or `None` if there is nothing to follow.
pub(super) fn follow(
    place: &Place,
    side: &[Difference],
    other_side: &[Difference],
    base: ObjectId,
    other: ObjectId,
) -> Result<Option<[ObjectId; 2]>, RepoError> {
    let touched: BTreeMap<&RepoPath, &Difference> = other_side
        .iter()
        .map(|change| (&change.path, change))
        .collect();
    let (mut of_base, mut of_other) = (Edits::new(), Edits::new());
    for circle in circles(side) {
        if !circle.keys().any(|path| touched.contains_key(path)) {
            continue;
        }
        let mut plans: Vec<(RepoPath, Entry, Entry)> = Vec::new();
        for (path, from) in &circle {
            let (Some(old), Some(edited)) = (
                place.objects.entry(base, from)?,
                place.objects.entry(other, from)?,
            ) else {
                break;
            };
            // If the other side moved contents around too, nobody can say what follows what.
            let moved = circle.keys().any(|path| {
                touched
                    .get(path)
                    .is_some_and(|change| change.old.is_some_and(|old| old.id == edited.id))
            });
            if old.is_file() && edited.is_file() && (edited.id == old.id || !moved) {
                plans.push((path.clone(), old, edited));
            }
        }
        if plans.len() == circle.len() {
            for (path, old, edited) in plans {
                of_base.insert(path.clone(), Some(old));
                of_other.insert(path, Some(edited));
            }
        }
    }
    if of_base.is_empty() {
        return Ok(None);
    }
    let base = tree::build(&place.objects, Some(base), &of_base)?;
    let other = tree::build(&place.objects, Some(other), &of_other)?;
    Ok(base.zip(other).map(|(base, other)| [base, other]))
}
