//! What `git merge-tree` could not decide, decided path by path.
//!
//! Invariants:
//! 1. A stage is believed only if it is the version that its side has at that path, or had at the
//!    name from which the other side moved it. Else the paths involved are decided from the three
//!    trees without renames: both names stay.
//! 2. What stands at a conflicted path comes from a side's tree, or from a merge of contents that
//!    was clean; never from git's merged tree.
//! 3. Of a file and a directory at one path, the one that goes moves whole.

use std::collections::{BTreeMap, BTreeSet};

use super::copies::Loser;
use super::merge::Prefer;
use super::merge_tree::{Helper, Report, Stages};
use super::three_way::{Changes, Resolved, Trees, Triple, build, merge_contents};
use super::verdict::{Verdict, Versions, merged_mode};
use super::{Place, Policy, RepoError, markers};
use crate::git::tree::{self, Difference, Edits, Entry};
use crate::names::{ObjectId, RepoPath};

/// One of the two sides.
#[derive(Debug, Clone, Copy)]
enum Side {
    Hub,
    Local,
}

/// What a stage tells about its side.
enum Belief {
    /// This is the side's own version.
    Version(Entry),
    /// The side has nothing at the path.
    Nothing,
    /// The stage's blob may be anything.
    Doubt,
}

/// Decides what git could not.
pub(super) struct Judge<'a> {
    place: &'a Place,
    trees: Trees,
    changes: Changes,
    prefer: Prefer,
    policies: BTreeMap<RepoPath, Policy>,
    /// git's merged tree.
    merged: ObjectId,
    /// Whether there is no other base; else nobody can say who changed what, and both count.
    certain: bool,
    edits: Edits,
    /// Files that stand where another side has a directory.
    deferred: Vec<(RepoPath, Versions)>,
    losers: Vec<Loser>,
    submodules: Vec<RepoPath>,
    /// Files of which the hub's version stands, and ours beside it, whichever is preferred.
    marked: BTreeSet<RepoPath>,
}

impl<'a> Judge<'a> {
    /// Creates a judge of three trees, what changed in them, and git's merge of them; `certain`
    /// says whether the base is the only one.
    pub(super) fn new(
        place: &'a Place,
        (trees, changes): (Trees, Changes),
        (merged, certain): (ObjectId, bool),
        prefer: Prefer,
        policies: BTreeMap<RepoPath, Policy>,
    ) -> Self {
        Self {
            place,
            trees,
            changes,
            prefer,
            policies,
            merged,
            certain,
            edits: Edits::new(),
            deferred: Vec::new(),
            losers: Vec::new(),
            submodules: Vec::new(),
            marked: BTreeSet::new(),
        }
    }

    /// Sets files that no preference may decide silently, because git could have merged them.
    pub(super) fn never_silent_about(mut self, marked: BTreeSet<RepoPath>) -> Self {
        self.marked = marked;
        self
    }

    fn prefers(&self, path: &RepoPath) -> Prefer {
        if self.marked.contains(path) {
            Prefer::Hub
        } else {
            self.prefer
        }
    }

    /// Decides everything that the report left open.
    pub(super) fn decide(
        mut self,
        helper: &Helper,
        report: &Report,
    ) -> Result<Resolved, RepoError> {
        let done = self.two_names(helper, report)?;
        let mut involved = BTreeSet::new();
        for (path, stages) in &report.conflicts {
            for label in &stages.labels {
                self.edits.insert(label.clone(), None);
            }
            if done.contains(path) {
                continue;
            }
            if let Some(versions) = self.believed(path, stages)? {
                self.settle(path, versions)?;
            } else {
                involved.extend(self.sources(helper, report, path, stages)?);
                involved.insert(path.clone());
            }
        }
        for path in involved {
            let versions = Versions {
                base: self.before(&path)?,
                hub: self.at(self.trees.hub, &path)?,
                local: self.at(self.trees.local, &path)?,
            };
            self.settle(&path, versions)?;
        }
        self.clear_the_way()?;
        let mut tree = build(self.place, self.merged, &self.edits)?;
        let deferred = std::mem::take(&mut self.deferred);
        for (path, versions) in deferred.into_iter().rev() {
            tree = self.file_or_directory(tree, &path, versions)?;
        }
        Ok(Resolved {
            tree,
            losers: self.losers,
            submodules: self.submodules,
        })
    }

    /// Returns what a tree has at a path, unless it is a directory.
    fn at(&self, tree: ObjectId, path: &RepoPath) -> Result<Option<Entry>, RepoError> {
        let entry = self.place.objects.entry(tree, path)?;
        Ok(entry.filter(|entry| !entry.is_tree()))
    }

    /// Returns what both sides started from at a path.
    fn before(&self, path: &RepoPath) -> Result<Option<Entry>, RepoError> {
        if self.certain {
            self.at(self.trees.base, path)
        } else {
            Ok(None)
        }
    }

    fn policy(&self, path: &RepoPath) -> Policy {
        let default = self.place.settings.conflict;
        self.policies.get(path).copied().unwrap_or(default)
    }

    /// Returns the versions that stages tell, if they can be believed.
    fn believed(&self, path: &RepoPath, stages: &Stages) -> Result<Option<Versions>, RepoError> {
        let before = self.before(path)?;
        let sides = [
            (stages.hub, self.trees.hub, &self.changes.local),
            (stages.local, self.trees.local, &self.changes.hub),
        ];
        let mut versions = [None; 2];
        for (version, (stage, side, other_side)) in versions.iter_mut().zip(sides) {
            match self.belief(path, stages.base, stage, side, other_side)? {
                Belief::Version(entry) => *version = Some(entry),
                Belief::Nothing => {}
                Belief::Doubt => return Ok(None),
            }
        }
        let [hub, local] = versions;
        // What one side moved and the other deleted is told with the content of the old name, but
        // to have moved it is to have changed it.
        let both = hub.is_some() && local.is_some();
        Ok(Some(Versions {
            base: if both { stages.base.or(before) } else { before },
            hub,
            local,
        }))
    }

    /// Returns whether the stage of one side is the side's own version.
    fn belief(
        &self,
        path: &RepoPath,
        base: Option<Entry>,
        stage: Option<Entry>,
        side: ObjectId,
        other_side: &[Difference],
    ) -> Result<Belief, RepoError> {
        let (stage, here) = match (stage, self.at(side, path)?) {
            (None, None) => return Ok(Belief::Nothing),
            (Some(stage), here) => (stage, here),
            // The side's version takes part under another name, or not at all.
            (None, Some(_)) => return Ok(Belief::Doubt),
        };
        if let Some(here) = here {
            let own = here.id == stage.id;
            return Ok(if own {
                Belief::Version(here)
            } else {
                Belief::Doubt
            });
        }
        // The other side moved it here, and this side has it, unmerged, at the old name.
        for change in other_side {
            let was_base = change.old.map(|old| old.id) == base.map(|base| base.id);
            if change.new.is_none()
                && was_base
                && let Some(there) = self.at(side, &change.path)?
                && there.id == stage.id
            {
                return Ok(Belief::Version(there));
            }
        }
        Ok(Belief::Doubt)
    }

    /// Writes down what stands at a path and what loses.
    fn settle(&mut self, path: &RepoPath, versions: Versions) -> Result<(), RepoError> {
        let there = self.place.objects.entry(self.merged, path)?;
        let verdict = Verdict::of(versions, self.prefers(path), self.policy(path));
        if there.is_some_and(|there| there.is_tree()) {
            if verdict.stands.is_some() {
                self.deferred.push((path.clone(), versions));
            }
            return Ok(());
        }
        if verdict.submodule {
            self.submodules.push(path.clone());
        }
        self.edits.insert(path.clone(), verdict.stands);
        self.losers.extend(verdict.loser.map(|entry| Loser {
            path: path.clone(),
            entry,
        }));
        Ok(())
    }

    /// Gives files that got two names the merged text at both, or each its own.
    ///
    /// Returns the paths that this decided.
    fn two_names(
        &mut self,
        helper: &Helper,
        report: &Report,
    ) -> Result<BTreeSet<RepoPath>, RepoError> {
        let mut found = Vec::new();
        let no_stages = Stages::default();
        for names in &report.two_names {
            let stages = |path| report.conflicts.get(path).unwrap_or(&no_stages);
            let (source, hub, local) = (
                stages(&names.source),
                stages(&names.hub),
                stages(&names.local),
            );
            let alone = [source, hub, local].iter().all(|s| s.labels.is_empty())
                && (source.hub, source.local) == (None, None)
                && (hub.base, hub.local) == (None, None)
                && (local.base, local.hub) == (None, None);
            let versions = (
                source.base,
                self.at(self.trees.hub, &names.hub)?,
                self.at(self.trees.local, &names.local)?,
            );
            if let (true, (Some(base), Some(hub), Some(local))) = (alone, versions) {
                found.push((names, [base, hub, local]));
            }
        }
        let triples: Vec<Triple> = found
            .iter()
            .map(|(names, versions)| Triple {
                at: names.hub.clone(),
                versions: *versions,
            })
            .collect();
        let clean = merge_contents(self.place, helper, &triples)?;
        let mut done = BTreeSet::new();
        for (names, [base, mut hub, mut local]) in found {
            if let Some(id) = clean.get(&names.hub)
                && !markers::gained(self.place, base, [hub, local])?
            {
                let mode = merged_mode(Some(base), hub, local);
                hub = Entry { mode, id: *id };
                local = hub;
            }
            self.edits.insert(names.source.clone(), None);
            self.edits.insert(names.hub.clone(), Some(hub));
            self.edits.insert(names.local.clone(), Some(local));
            done.extend([&names.source, &names.hub, &names.local].map(RepoPath::clone));
        }
        Ok(done)
    }

    /// Returns the old names of files whose edit went into a stage that cannot be believed.
    fn sources(
        &self,
        helper: &Helper,
        report: &Report,
        path: &RepoPath,
        stages: &Stages,
    ) -> Result<Vec<RepoPath>, RepoError> {
        let mut found = Vec::new();
        for (stage, side) in [(stages.hub, Side::Hub), (stages.local, Side::Local)] {
            let tree = match side {
                Side::Hub => self.trees.hub,
                Side::Local => self.trees.local,
            };
            let here = self.at(tree, path)?;
            if here.map(|here| here.id) != stage.map(|stage| stage.id) {
                found.extend(self.moved_here(helper, report, path, (stage, here), side)?);
            }
        }
        Ok(found)
    }

    /// Returns the old names of what one side moved to a path while the other side edited it;
    /// rather one too many than one too few.
    fn moved_here(
        &self,
        helper: &Helper,
        report: &Report,
        path: &RepoPath,
        (stage, here): (Option<Entry>, Option<Entry>),
        side: Side,
    ) -> Result<Vec<RepoPath>, RepoError> {
        let mut candidates = BTreeMap::new();
        for (old, hub, local) in self.changes.both() {
            let (mover, editor) = match side {
                Side::Hub => (hub, local),
                Side::Local => (local, hub),
            };
            if let (None, Some(edited), Some(base)) = (mover.new, editor.new, editor.old)
                && self.at(self.merged, old)?.is_none()
            {
                candidates.insert(old.clone(), (base, edited));
            }
        }
        let named: Vec<RepoPath> = candidates
            .keys()
            .filter(|old| {
                let with = |paths: &Vec<RepoPath>| paths.contains(path) && paths.contains(old);
                report.together.iter().any(with)
            })
            .cloned()
            .collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let triples: Vec<Triple> = candidates
            .iter()
            .filter_map(|(old, (base, edited))| {
                let versions = match side {
                    Side::Hub => [*base, here?, *edited],
                    Side::Local => [*base, *edited, here?],
                };
                let at = old.clone();
                Some(Triple { at, versions })
            })
            .collect();
        let exact: Vec<RepoPath> = merge_contents(self.place, helper, &triples)?
            .into_iter()
            .filter(|(_, id)| stage.is_some_and(|stage| stage.id == *id))
            .map(|(old, _)| old)
            .collect();
        if exact.is_empty() {
            return Ok(candidates.into_keys().collect());
        }
        Ok(exact)
    }

    /// Moves out what would stand below a file.
    fn clear_the_way(&mut self) -> Result<(), RepoError> {
        let placed: Vec<(RepoPath, Entry)> = self
            .edits
            .iter()
            .filter_map(|(path, entry)| Some((path.clone(), (*entry)?)))
            .collect();
        for (path, entry) in placed {
            let dirs: Vec<RepoPath> = path.ancestors().collect();
            for dir in dirs {
                let above = match self.edits.get(&dir) {
                    Some(entry) => *entry,
                    None => self.place.objects.entry(self.merged, &dir)?,
                };
                if above.is_some_and(|above| !above.is_tree()) {
                    self.edits.remove(&path);
                    self.losers.push(Loser { path, entry });
                    break;
                }
            }
        }
        Ok(())
    }

    /// Decides between one side's file and the other side's directory at a path.
    fn file_or_directory(
        &mut self,
        tree: ObjectId,
        path: &RepoPath,
        versions: Versions,
    ) -> Result<ObjectId, RepoError> {
        let verdict = Verdict::of(versions, self.prefer, self.policy(path));
        let Some(file) = verdict.stands else {
            return Ok(tree);
        };
        let there = self.place.objects.entry(tree, path)?;
        let Some(dir) = there.filter(Entry::is_tree) else {
            let edits = Edits::from([(path.clone(), Some(file))]);
            return build(self.place, tree, &edits);
        };
        let silent = self.prefer == Prefer::LocalSilently;
        let policy = self.policy(path);
        let local_stands = silent || policy == Policy::Local;
        let is_hubs = versions.hub.is_some();
        let file_changed = versions.base.is_none_or(|base| !base.same_content(&file));
        let dir_changed = self.changed_below(path, dir)?;
        let file_stands = if local_stands {
            !is_hubs
        } else if is_hubs {
            file_changed
        } else {
            !dir_changed
        };
        let copied = !local_stands && policy != Policy::Hub;
        let lost = if file_stands { dir } else { file };
        let lost_changed = if file_stands {
            dir_changed
        } else {
            file_changed
        };
        if copied && lost_changed {
            self.losers.push(Loser {
                path: path.clone(),
                entry: lost,
            });
        }
        if let (true, Some(entry)) = (file_stands, verdict.loser) {
            self.losers.push(Loser {
                path: path.clone(),
                entry,
            });
        }
        if !file_stands {
            return Ok(tree);
        }
        let edits = Edits::from([(path.clone(), Some(file))]);
        let tree = build(self.place, tree, &edits)?;
        if local_stands {
            self.bring_back(tree)
        } else {
            Ok(tree)
        }
    }

    /// Puts local edits that the hub had moved into a directory, which gave way without a copy,
    /// back to their own names.
    fn bring_back(&self, tree: ObjectId) -> Result<ObjectId, RepoError> {
        let objects = &self.place.objects;
        let standing: BTreeSet<ObjectId> = tree::differences(objects, None, Some(tree))?
            .into_iter()
            .filter_map(|change| Some(change.new?.id))
            .collect();
        let mut edits = Edits::new();
        for change in &self.changes.local {
            let Some(local) = change.new else {
                continue;
            };
            let edited = change.old.is_none_or(|old| !old.same_content(&local));
            if !edited || standing.contains(&local.id) {
                continue;
            }
            let mut free = objects.entry(tree, &change.path)?.is_none();
            for dir in change.path.ancestors() {
                free &= objects
                    .entry(tree, &dir)?
                    .is_none_or(|above| above.is_tree());
            }
            if free {
                edits.insert(change.path.clone(), Some(local));
            }
        }
        build(self.place, tree, &edits)
    }

    /// Returns whether a directory holds anything whose content the base did not have there.
    fn changed_below(&self, path: &RepoPath, dir: Entry) -> Result<bool, RepoError> {
        let before = self.place.objects.entry(self.trees.base, path)?;
        let before = before
            .filter(|entry| self.certain && entry.is_tree())
            .map(|entry| entry.id);
        let changes = tree::differences(&self.place.objects, before, Some(dir.id))?;
        Ok(changes.iter().any(|change| match (change.old, change.new) {
            (Some(old), Some(new)) => !old.same_content(&new),
            (None, Some(_)) => true,
            (_, None) => false,
        }))
    }
}
