//! Only here: this disk goes back and nobody is told.
//!
//! No branch moves. What the disk is to have is a commit of our own, and the base map says of each path
//! that it has that instead of HEAD's. That commit is in nobody's history and has none: an edit of
//! such a path is merged with what the others have as an edit of the old version, not as one that
//! takes theirs back. That ends it for the path.

use std::collections::BTreeSet;

use super::bases::{Base, Bases, Why};
use super::folder::Folder;
use super::history::{self, New};
use super::operation::{self, Kind, Operation};
use super::plan::Approval;
use super::{Place, RepoError, apply, three_way};
use crate::clock;
use crate::engine::event::Applied;
use crate::git::tree::{self, Edits};
use crate::names::{ObjectId, RepoPath};

/// The trailer that names what the disk had before.
pub(super) const FROM: &str = "Autosync-From";
/// So many operations are looked at for one that a kill left unwritten.
const LOOKED_AT: usize = 100;

/// Returns the tree that this disk is to have: the tip's, but for what is only here.
pub(super) fn standing(place: &Place, bases: &Bases, tip: ObjectId) -> Result<ObjectId, RepoError> {
    let tree = place.objects.commit(tip)?.tree;
    let edits: Edits = bases
        .iter()
        .filter(|(_, base)| base.why == Why::OnlyHere)
        .map(|(path, base)| (path.clone(), base.have))
        .collect();
    if edits.is_empty() {
        return Ok(tree);
    }
    three_way::build(place, tree, &edits)
}

impl Folder {
    /// Returns the commit that what comes next only here goes on from.
    pub(super) fn here_from(&self, tip: ObjectId, ours: ObjectId) -> Result<ObjectId, RepoError> {
        let place = &self.place;
        if place.objects.commit(tip)?.tree == ours {
            return Ok(tip);
        }
        let text = "what is only here\n";
        let when = clock::wall_seconds_and_offset();
        let who = place.identity()?;
        Ok(place.objects.write_commit(ours, &[tip], &who, when, text)?)
    }

    /// Brings the disk to a commit that is only here.
    pub(super) fn go_here(
        &mut self,
        commit: ObjectId,
        approval: &Approval,
    ) -> Result<Applied, RepoError> {
        let (bases, view) = (&mut self.bases, &mut self.view);
        apply::apply_here(&self.place, bases, view, commit, approval)
    }

    /// Ends what an operation left only here: its paths get what the branch has.
    pub(super) fn end_here(&mut self, here: ObjectId, tip: ObjectId) -> Result<Applied, RepoError> {
        let paths = paths(&self.place, here)?;
        let mut bases = self.bases.clone();
        for path in &paths {
            if let Some(base) = self.bases.get(path)
                && base.why == Why::OnlyHere
            {
                let why = Why::Kept;
                bases.insert(
                    path.clone(),
                    Base {
                        why,
                        ..base.clone()
                    },
                );
            }
        }
        // On the disk the map says so only from A4 on, if a path is kept then.
        let view = &mut self.view;
        let done = apply::apply(&self.place, &mut bases, view, tip, &Approval::Own(paths));
        if matches!(&done, Ok(done) if done.blocked.is_none()) {
            self.bases = bases;
        } else {
            self.bases = Bases::load(&self.place)?;
        }
        done
    }

    /// Writes down what was brought back only here and a kill left out of the log.
    pub(super) fn note_lost_here(&mut self) -> Result<(), RepoError> {
        let mut unknown: BTreeSet<ObjectId> = self
            .bases
            .iter()
            .filter(|(_, base)| base.why == Why::OnlyHere)
            .map(|(_, base)| base.base)
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        for operation in operation::operations(&self.place)?.take(LOOKED_AT) {
            if let Some(here) = operation?.here {
                unknown.remove(&here);
            }
        }
        for here in unknown {
            let commit = self.place.objects.commit(here)?;
            let number = |key: &str| commit.trailers(key).pop().and_then(|it| it.parse().ok());
            let undoes = number("Autosync-Undo");
            let kind = if undoes.is_some() {
                Kind::Undo
            } else {
                Kind::Restore
            };
            let words = history::subject(&self.place, &commit);
            self.note_only_here(kind, words, undoes, Some(here))?;
        }
        Ok(())
    }

    /// Writes down an operation that did not move the branch.
    pub(super) fn note_only_here(
        &mut self,
        kind: Kind,
        words: String,
        undoes: Option<u64>,
        here: Option<ObjectId>,
    ) -> Result<(), RepoError> {
        let place = &self.place;
        let tip = crate::git::refs::read(&place.git, &place.objects, &place.branch_ref())?;
        let host = place.settings.host.clone();
        self.note_here(New {
            kind,
            words,
            host,
            before: tip,
            after: tip,
            here,
            stood: None,
            undoes,
        })
    }
}

/// Returns what the disk had before it went back to this commit.
pub(super) fn from(place: &Place, here: ObjectId) -> Result<Option<ObjectId>, RepoError> {
    let from = place.objects.commit(here)?.trailers(FROM).pop();
    let from = from.and_then(|text| ObjectId::from_hex(text).ok());
    Ok(from.filter(|from| place.objects.contains(*from)))
}

/// Returns the paths that an operation left only here.
pub(super) fn paths(place: &Place, here: ObjectId) -> Result<BTreeSet<RepoPath>, RepoError> {
    let commit = place.objects.commit(here)?;
    let before = place.tree_of(from(place, here)?)?;
    let differences = tree::differences(&place.objects, before, Some(commit.tree))?;
    Ok(differences.into_iter().map(|it| it.path).collect())
}

/// Returns the tree that this disk is to have once an operation's paths are the branch's again.
pub(super) fn without(
    place: &Place,
    bases: &Bases,
    tip: ObjectId,
    operation: &Operation,
) -> Result<ObjectId, RepoError> {
    let mut rest = bases.clone();
    if let Some(here) = operation.here {
        for path in paths(place, here)? {
            rest.remove(&path);
        }
    }
    standing(place, &rest, tip)
}

/// Returns whether what an operation brought back only here still stands at one of its paths.
pub(super) fn stands(
    place: &Place,
    bases: &Bases,
    operation: &Operation,
) -> Result<bool, RepoError> {
    let Some(here) = operation.here else {
        return Ok(true);
    };
    let paths = paths(place, here)?;
    Ok(paths
        .iter()
        .any(|path| bases.get(path).is_some_and(|it| it.why == Why::OnlyHere)))
}
