//! Three trees become one, and what lost its place in it.
//!
//! Changes to different paths are put together in process: with directory renames off, git's
//! answer depends on nothing else. As soon as one path is touched by both sides, or one side's
//! file stands above another's, `git merge-tree` follows renames and merges text, and what it could
//! not decide is decided here.
//!
//! Invariants:
//! 1. The side that changed content or type stands; if both did, the hub's does. An edit beats a
//!    delete. A loser that says what the base said makes no copy.
//! 2. No conflict marker gets into the merged tree, but with a side's own version. A version in which
//!    somebody's git left markers is not merged with another: the hub's stands, ours beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::attributes::{self, Attributes};
use super::copies::Loser;
use super::judge::Judge;
use super::merge::Prefer;
use super::merge_tree::{Helper, Report};
use super::{Place, Policy, RepoError, markers, swaps};
use crate::git::objects::Identity;
use crate::git::tree::{self, Difference, Edits, Entry};
use crate::names::{ObjectId, RepoPath};

/// The trees to merge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trees {
    /// What both started from.
    pub(super) base: ObjectId,
    /// The hub's.
    pub(super) hub: ObjectId,
    /// Ours.
    pub(super) local: ObjectId,
}

/// Where git finds the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// These two commits have exactly one best common ancestor, with the base's tree.
    One([ObjectId; 2]),
    /// They have several, because merges crossed.
    Several([ObjectId; 2]),
    /// No history is to be asked: the base is the given tree.
    Given,
}

/// What a merge of trees came to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The merged tree.
    pub(super) tree: ObjectId,
    /// Versions of the local side that are to stand beside their paths.
    pub(super) losers: Vec<Loser>,
    /// Submodules that both sides moved; the hub's stand.
    pub(super) submodules: Vec<RepoPath>,
}

/// Merges three trees; `commits` are the hub's and ours, which have the trees or nearly.
pub(super) fn resolve(
    place: &Place,
    mut trees: Trees,
    mut base: Base,
    commits: [ObjectId; 2],
    prefer: Prefer,
) -> Result<Resolved, RepoError> {
    let mut changes = Changes::between(place, trees)?;
    let several = matches!(base, Base::Several(_));
    if !several && changes.are_apart() {
        return put_together(place, trees.hub, &changes.local);
    }
    if !several && let Some(followed) = follow_swaps(place, trees, &changes)? {
        trees = followed;
        base = Base::Given;
        changes = Changes::between(place, trees)?;
        if changes.are_apart() {
            return put_together(place, trees.hub, &changes.local);
        }
    }
    let asked = ask_git(place, trees, base, &changes, commits)?;
    let (helper, report) = (asked.helper, asked.report);
    let certain = !several;
    let mut paths: Vec<RepoPath> = report.conflicts.keys().cloned().collect();
    if !paths.is_empty() {
        paths.extend(changes.both().map(|(path, _, _)| path.clone()));
    }
    let policies = helper
        .policies(&paths)?
        .into_iter()
        .filter_map(|(path, value)| Some((path, policy_named(&value)?)))
        .collect();
    let merged = report.tree.unwrap_or(trees.hub);
    Judge::new(place, (trees, changes), (merged, certain), prefer, policies)
        .never_silent_about(asked.marked)
        .decide(&helper, &report)
}

fn policy_named(value: &[u8]) -> Option<Policy> {
    match value {
        b"merge" => Some(Policy::Merge),
        b"copy" => Some(Policy::Copy),
        b"hub" => Some(Policy::Hub),
        b"local" => Some(Policy::Local),
        b"union" => Some(Policy::Union),
        _ => None,
    }
}

/// What each side changed.
pub(super) struct Changes {
    pub(super) hub: Vec<Difference>,
    pub(super) local: Vec<Difference>,
}

impl Changes {
    fn between(place: &Place, trees: Trees) -> Result<Self, RepoError> {
        let changes = |side| tree::differences(&place.objects, Some(trees.base), Some(side));
        Ok(Self {
            hub: changes(trees.hub)?,
            local: changes(trees.local)?,
        })
    }

    /// Returns the paths that both sides changed.
    pub(super) fn both(&self) -> impl Iterator<Item = (&RepoPath, &Difference, &Difference)> {
        let local: BTreeMap<&RepoPath, &Difference> = self
            .local
            .iter()
            .map(|change| (&change.path, change))
            .collect();
        self.hub
            .iter()
            .filter_map(move |hub| Some((&hub.path, hub, *local.get(&hub.path)?)))
    }

    /// Returns whether no change of one side can meet a change of the other.
    ///
    /// A rename takes part only by its two names, and both are changed paths. Equal changes are
    /// no meeting, but for equal removals: both sides may have moved the file elsewhere.
    fn are_apart(&self) -> bool {
        let met = self
            .both()
            .any(|(_, hub, local)| hub.new != local.new || hub.new.is_none());
        if met {
            return false;
        }
        let above = |side: &[Difference], other: &[Difference]| {
            let paths: BTreeSet<&RepoPath> = side.iter().map(|change| &change.path).collect();
            other
                .iter()
                .any(|change| change.path.ancestors().any(|dir| paths.contains(&dir)))
        };
        !above(&self.hub, &self.local) && !above(&self.local, &self.hub)
    }

    fn ids(&self) -> BTreeSet<ObjectId> {
        let all = self.hub.iter().chain(&self.local);
        all.flat_map(|change| [change.old, change.new])
            .flatten()
            .map(|entry| entry.id)
            .collect()
    }
}

fn put_together(place: &Place, hub: ObjectId, local: &[Difference]) -> Result<Resolved, RepoError> {
    let edits: Edits = local
        .iter()
        .map(|change| (change.path.clone(), change.new))
        .collect();
    Ok(Resolved {
        tree: build(place, hub, &edits)?,
        losers: Vec::new(),
        submodules: Vec::new(),
    })
}

/// As [`tree::build`], with the empty tree for nothing.
pub(super) fn build(place: &Place, base: ObjectId, edits: &Edits) -> Result<ObjectId, RepoError> {
    match tree::build(&place.objects, Some(base), edits)? {
        Some(tree) => Ok(tree),
        None => Ok(place.objects.write_tree(Vec::new())?),
    }
}

fn follow_swaps(
    place: &Place,
    trees: Trees,
    changes: &Changes,
) -> Result<Option<Trees>, RepoError> {
    let mut now = trees;
    let (hub, local) = (&changes.hub, &changes.local);
    if let Some([base, other]) = swaps::follow(place, hub, local, now.base, now.local)? {
        (now.base, now.local) = (base, other);
    }
    let changes = Changes::between(place, now)?;
    let (hub, local) = (&changes.hub, &changes.local);
    if let Some([base, other]) = swaps::follow(place, local, hub, now.base, now.hub)? {
        (now.base, now.hub) = (base, other);
    }
    let followed = now.base != trees.base;
    Ok(followed.then_some(now))
}

/// What git made of the trees.
struct Asked {
    helper: Helper,
    report: Report,
    /// Files that it could have merged, into a text with somebody's conflict markers.
    marked: BTreeSet<RepoPath>,
}

fn ask_git(
    place: &Place,
    trees: Trees,
    base: Base,
    changes: &Changes,
    commits: [ObjectId; 2],
) -> Result<Asked, RepoError> {
    let paths = changes.hub.iter().chain(&changes.local).map(|c| &c.path);
    let mut attributes = Attributes::of(place, trees.hub, paths)?;
    for path in attributes::whole_only(place, &changes.hub, &changes.local)? {
        attributes.keep_whole(&path);
    }
    let [hub, local] = match base {
        Base::One(commits) | Base::Several(commits) => commits,
        Base::Given => stand_ins(place, trees)?,
    };
    let known = changes.ids();
    let mut kept = BTreeSet::new();
    let mut marked = BTreeSet::new();
    loop {
        let helper = Helper::prepare(place, &attributes)?;
        let report = helper.merge(hub, local)?;
        // A file that one side moved and the other edited is seen here only.
        let mut again = false;
        for change in tree::differences(&place.objects, Some(trees.hub), report.tree)? {
            let Some(new) = change.new.filter(Entry::is_file) else {
                continue;
            };
            let decided_by_git = !known.contains(&new.id)
                && !report.conflicts.contains_key(&change.path)
                && !report.is_label(&change.path);
            if !decided_by_git {
                continue;
            }
            let spoilt = markers::spoil(place, &change.path, new.id, changes, commits)?;
            if spoilt {
                marked.insert(change.path.clone());
            }
            if (spoilt || !attributes::is_text(place, new.id)?) && kept.insert(change.path.clone())
            {
                attributes.keep_whole(&change.path);
                again = true;
            }
        }
        if !again {
            return Ok(Asked {
                helper,
                report,
                marked,
            });
        }
    }
}

/// Writes commits of these trees whose only common history is the base's tree.
fn stand_ins(place: &Place, trees: Trees) -> Result<[ObjectId; 2], RepoError> {
    let nobody = Identity {
        name: "autosync".to_owned(),
        email: "autosync".to_owned(),
    };
    let write = |tree, parents: &[ObjectId]| {
        let zero = (0, 0);
        place
            .objects
            .write_commit(tree, parents, &nobody, zero, "stand-in\n")
    };
    let base = write(trees.base, &[])?;
    Ok([write(trees.hub, &[base])?, write(trees.local, &[base])?])
}

/// A file with three versions that is merged by itself.
pub(super) struct Triple {
    /// Where it stands meanwhile; says which attributes count.
    pub(super) at: RepoPath,
    /// The base's, the hub's and ours.
    pub(super) versions: [Entry; 3],
}

/// Merges files by their contents alone. Returns those that merged cleanly.
pub(super) fn merge_contents(
    place: &Place,
    helper: &Helper,
    triples: &[Triple],
) -> Result<BTreeMap<RepoPath, ObjectId>, RepoError> {
    let mut clean = BTreeMap::new();
    let mut sides = [Edits::new(), Edits::new(), Edits::new()];
    for triple in triples {
        let [base, hub, local] = triple.versions;
        let mut whole = !triple.versions.iter().all(Entry::is_file);
        for version in triple.versions.iter().filter(|v| v.is_file()) {
            whole |= !attributes::is_text(place, version.id)?;
        }
        if hub.id == base.id || hub.id == local.id {
            clean.insert(triple.at.clone(), local.id);
        } else if local.id == base.id {
            clean.insert(triple.at.clone(), hub.id);
        } else if !whole {
            for (edits, version) in sides.iter_mut().zip(triple.versions) {
                edits.insert(triple.at.clone(), Some(version));
            }
        }
    }
    if sides[0].is_empty() {
        return Ok(clean);
    }
    let empty = place.objects.write_tree(Vec::new())?;
    let [base, hub, local] = sides;
    let trees = Trees {
        base: build(place, empty, &base)?,
        hub: build(place, empty, &hub)?,
        local: build(place, empty, &local)?,
    };
    let [a, b] = stand_ins(place, trees)?;
    let report = helper.merge(a, b)?;
    for path in base.keys() {
        if let Some(tree) = report.tree
            && !report.conflicts.contains_key(path)
            && let Some(entry) = place.objects.entry(tree, path)?
        {
            clean.insert(path.clone(), entry.id);
        }
    }
    Ok(clean)
}
