//! What a commit by hand took out of the tree though it never was on this disk.
//!
//! Paths of the base map are hidden from the user's git, but for one case: a file of his stands
//! where a directory came in, or a directory where a file did. `git add` of the one takes the other
//! out of the index, and his commit takes it out of the tree. He cannot have meant that: he never
//! had it. So his commit is taken for what it would have been on the true base, a side commit, and
//! merged with what came in.
//!
//! What came in by an apply is another thing: there somebody else meant it. So the branch's tip is
//! noted whenever we move it while the map is not empty, and only what came after is the user's.
//!
//! Absent: the work tree. What is made here are objects; it is for an apply to write them.

use std::collections::BTreeMap;

use super::bases::Bases;
use super::merge::{self, MergeOutcome};
use super::parting::parting;
use super::{Place, RepoError, message};
use crate::clock;
use crate::engine::action::Trigger;
use crate::git::refs;
use crate::git::tree::{self, Edits, Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// The tip that we gave the branch last, as long as the base map is not empty.
const OURS: &str = "refs/worktree/autosync/ours";

/// What stands at the paths that were taken out, and what was there.
#[derive(Default)]
struct Found {
    /// What came in.
    came: BTreeMap<RepoPath, Entry>,
    /// What is in its place, with the commit that it is an edit of.
    stands: BTreeMap<RepoPath, (Entry, ObjectId)>,
}

/// Notes that the branch is about to be moved to `tip` by us.
///
/// Without a move after it, it does no harm: `tip` is then in nobody's history.
pub(super) fn note(place: &Place, bases: &Bases, tip: ObjectId) -> Result<(), RepoError> {
    let wanted = (!bases.is_empty()).then_some(tip);
    if refs::read(&place.git, &place.objects, OURS)? == wanted {
        return Ok(());
    }
    Ok(refs::set(&place.git, &place.objects, OURS, wanted)?)
}

/// Returns a commit that contains `tip` and has again what was taken out, with what is in its place
/// merged in as a side commit; `None` if nothing was taken out.
pub(super) fn put_back(
    place: &Place,
    bases: &Bases,
    tip: ObjectId,
) -> Result<Option<ObjectId>, RepoError> {
    let found = look(place, bases, tip)?;
    if found.came.is_empty() {
        return Ok(None);
    }
    let again: Edits = found
        .stands
        .keys()
        .map(|path| (path.clone(), None))
        .chain(
            found
                .came
                .iter()
                .map(|(path, it)| (path.clone(), Some(*it))),
        )
        .collect();
    let mut whole = write(place, tip, place.tree_of(Some(tip))?, &again)?;
    let mut groups: BTreeMap<ObjectId, Edits> = BTreeMap::new();
    for (path, (entry, base)) in found.stands {
        groups.entry(base).or_default().insert(path, Some(entry));
    }
    for (base, edits) in groups {
        let from = parting(place, bases, place.tree_of(Some(base))?, &edits)?;
        let side = write(place, base, from, &edits)?;
        whole = match merge::join(place, (base, from), whole, side)? {
            MergeOutcome::Created { commit, .. } => commit,
            MergeOutcome::UpToDate | MergeOutcome::FastForward | MergeOutcome::Unrelated => whole,
        };
    }
    Ok(Some(whole))
}

/// Finds the paths of the base map that gave way to something of another kind in the tip.
fn look(place: &Place, bases: &Bases, tip: ObjectId) -> Result<Found, RepoError> {
    let mut found = Found::default();
    if bases.is_empty() {
        return Ok(found);
    }
    let ours = match refs::read(&place.git, &place.objects, OURS)? {
        Some(ours) if ours != tip && place.objects.descends(tip, ours)? => ours,
        Some(_) | None => return Ok(found),
    };
    let before = Lookup::new(&place.objects, place.tree_of(Some(ours))?);
    let head = Lookup::new(&place.objects, place.tree_of(Some(tip))?);
    for (path, base) in bases.iter() {
        let mut stands = BTreeMap::new();
        match head.get(path)? {
            // A directory in the place of a file.
            Some(entry) if entry.is_tree() => {
                for below in tree::differences(&place.objects, None, Some(entry.id))? {
                    if let Some(entry) = below.new {
                        stands.insert(path.join(below.path.as_bytes())?, (entry, base.base));
                    }
                }
            }
            Some(_) => {}
            None => {
                for above in path.ancestors() {
                    if let Some(entry) = head.get(&above)?
                        && !entry.is_tree()
                    {
                        stands.insert(above, (entry, base.base));
                    }
                }
            }
        }
        if stands.is_empty() {
            continue;
        }
        if let Some(entry) = before.get(path)?
            && !entry.is_tree()
            && Some(entry) != base.have
        {
            found.came.insert(path.clone(), entry);
            found.stands.extend(stands);
        }
    }
    Ok(found)
}

/// Writes a commit with some edits of a tree on top of another.
fn write(
    place: &Place,
    parent: ObjectId,
    from: Option<ObjectId>,
    edits: &Edits,
) -> Result<ObjectId, RepoError> {
    let tree = match tree::build(&place.objects, from, edits)? {
        Some(tree) => tree,
        None => place.objects.write_tree(Vec::new())?,
    };
    let differences = tree::differences(&place.objects, from, Some(tree))?;
    let summary = message::summary(&differences);
    let host = &place.settings.host;
    let text = message::message(host, &summary, &differences, Trigger::Edit, &[]);
    let when = clock::wall_seconds_and_offset();
    Ok(place
        .objects
        .write_commit(tree, &[parent], &place.identity()?, when, &text)?)
}
