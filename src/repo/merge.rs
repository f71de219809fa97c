//! Two commits become one, without a look at the work tree.
//!
//! The side already on the hub keeps the name, the other becomes a conflict copy: the hub
//! arbitrates, no clock does, and two hosts never have to compute the same thing. What is
//! published is never rewritten: the result is a commit on top of both, the hub's first.
//!
//! Absent: the work tree, the index and the branch. A merge only writes objects; it is pushed by
//! its id and applied by `apply`.

use super::copies::{self, TRAILER};
use super::three_way::{self, Base, Trees};
use super::{Place, RepoError, message};
use crate::clock;
use crate::engine::action::Trigger;
use crate::engine::event::ConflictCopy;
use crate::fault;
use crate::git::tree;
use crate::names::{ObjectId, RepoPath};

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    /// Ours already contains the hub's.
    UpToDate,
    /// The hub's contains ours.
    FastForward,
    /// A commit with both as parents was written.
    Created {
        /// The commit.
        commit: ObjectId,
        /// The conflict copies that it makes.
        copies: Vec<ConflictCopy>,
    },
    /// They share no history.
    Unrelated,
}

/// Whose version stands where both sides changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The hub's; the local one becomes a conflict copy.
    Hub,
    /// The local one, without a copy: the user rewrote this history, or it is this host's later
    /// version of what it pushed itself.
    LocalSilently,
}

/// Merges our tip with the hub's; the base is their best common ancestor.
pub fn merge(
    place: &Place,
    hub: ObjectId,
    local: ObjectId,
    prefer: Prefer,
) -> Result<MergeOutcome, RepoError> {
    let bases = place.objects.merge_bases(hub, local)?;
    let Some(first) = bases.first() else {
        return Ok(MergeOutcome::Unrelated);
    };
    if bases.contains(&hub) {
        return Ok(MergeOutcome::UpToDate);
    }
    if bases.contains(&local) {
        return Ok(MergeOutcome::FastForward);
    }
    let commits = [hub, local];
    let base = if bases.len() == 1 {
        Base::One(commits)
    } else {
        Base::Several(commits)
    };
    create(place, Some(*first), base, hub, local, prefer)
}

/// Merges our tip with the hub's as if they parted at `base`; `None` is the empty tree.
pub fn merge_with_base(
    place: &Place,
    base: Option<ObjectId>,
    hub: ObjectId,
    local: ObjectId,
    prefer: Prefer,
) -> Result<MergeOutcome, RepoError> {
    if hub == local {
        return Ok(MergeOutcome::UpToDate);
    }
    create(place, base, Base::Given, hub, local, prefer)
}

/// Merges a side commit into the tip: what was written, on `base`, at paths that had not gone along.
///
/// `from` is the tree that was there when it was written: the base's, or nearly. Where the base's
/// history gave way at first contact, the result goes on from `tip` alone: that history is nobody's.
pub(super) fn join(
    place: &Place,
    (base, from): (ObjectId, Option<ObjectId>),
    tip: ObjectId,
    side: ObjectId,
) -> Result<MergeOutcome, RepoError> {
    let from = match from {
        Some(tree) => tree,
        None => place.objects.write_tree(Vec::new())?,
    };
    let related = !place.objects.merge_bases(tip, side)?.is_empty();
    if related && from == place.objects.commit(base)?.tree {
        return merge(place, tip, side, Prefer::Hub);
    }
    let trees = Trees {
        base: from,
        hub: place.objects.commit(tip)?.tree,
        local: place.objects.commit(side)?.tree,
    };
    let both = [tip, side];
    let merged = merge_trees(place, trees, Base::Given, both, Prefer::Hub)?;
    let parents = if related { &both[..] } else { &both[..1] };
    if !related && merged.tree == trees.hub {
        return Ok(MergeOutcome::FastForward);
    }
    let commit = write(place, &merged, trees.hub, parents)?;
    let copies = merged.copies;
    Ok(MergeOutcome::Created { commit, copies })
}

fn create(
    place: &Place,
    base: Option<ObjectId>,
    history: Base,
    hub: ObjectId,
    local: ObjectId,
    prefer: Prefer,
) -> Result<MergeOutcome, RepoError> {
    let tree = |commit| Ok::<_, RepoError>(place.objects.commit(commit)?.tree);
    let trees = Trees {
        base: match base {
            Some(base) => tree(base)?,
            None => place.objects.write_tree(Vec::new())?,
        },
        hub: tree(hub)?,
        local: tree(local)?,
    };
    let merged = merge_trees(place, trees, history, [hub, local], prefer)?;
    fault::at("merge-tree");
    let commit = write(place, &merged, trees.hub, &[hub, local])?;
    fault::at("merge-commit");
    let copies = merged.copies;
    Ok(MergeOutcome::Created { commit, copies })
}

/// A merged tree with its conflict copies.
pub(super) struct MergedTree {
    /// The tree.
    pub(super) tree: ObjectId,
    /// The copies in it.
    pub(super) copies: Vec<ConflictCopy>,
    /// Submodules that both sides moved; the hub's stand.
    submodules: Vec<RepoPath>,
}

/// Merges trees and puts the copies in; `commits` are the hub's and ours, from which the losers come.
pub(super) fn merge_trees(
    place: &Place,
    trees: Trees,
    history: Base,
    commits: [ObjectId; 2],
    prefer: Prefer,
) -> Result<MergedTree, RepoError> {
    let resolved = three_way::resolve(place, trees, history, commits, prefer)?;
    let [_, local] = commits;
    for path in &resolved.submodules {
        tracing::warn!(%path, "both sides moved a submodule; the hub's stands");
    }
    let sides = [trees.hub, trees.local];
    let (edits, copies) = copies::put_beside(
        place,
        resolved.tree,
        trees.base,
        &sides,
        local,
        &resolved.losers,
    )?;
    let tree = if edits.is_empty() {
        resolved.tree
    } else {
        three_way::build(place, resolved.tree, &edits)?
    };
    Ok(MergedTree {
        tree,
        copies,
        submodules: resolved.submodules,
    })
}

/// Writes the commit of a merged tree; the message tells what it brings to the hub's history.
pub(super) fn write(
    place: &Place,
    merged: &MergedTree,
    hub_tree: ObjectId,
    parents: &[ObjectId],
) -> Result<ObjectId, RepoError> {
    let MergedTree { tree, copies, .. } = merged;
    let changes = tree::differences(&place.objects, Some(hub_tree), Some(*tree))?;
    let mut summary = format!("merge {}", message::summary(&changes));
    let added = match copies.len() {
        0 => String::new(),
        1 => ", 1 conflict copy".to_owned(),
        many => format!(", {many} conflict copies"),
    };
    summary.push_str(&added);
    let kept_twice = copies
        .iter()
        .map(|made| (TRAILER, copies::trailer(&made.path, &made.copy)));
    let submodules = merged
        .submodules
        .iter()
        .map(|path| ("Autosync-Submodule", path.to_string()));
    let trailers: Vec<(&str, String)> = kept_twice.chain(submodules).collect();
    let host = &place.settings.host;
    let text = message::message(host, &summary, &changes, Trigger::Merge, &trailers);
    let now = (clock::wall_seconds(), clock::wall_offset());
    Ok(place
        .objects
        .write_commit(*tree, parents, &place.identity()?, now, &text)?)
}
