//! What a person was shown as held, and so what an approval lets through.
//!
//! Invariants:
//! 1. An approval is for what the last outcome of a job said, and for nothing that came after it.
//! 2. Of several things one approval is not for all: a disk that is another or away is a matter of
//!    its own beside deletes, and so is a root that is another directory beside everything.
//! 3. What an accepted disk or root then lacks is asked about as ever.
//!
//! Absent: what came in; which removals wait for a person is in the base map.

use std::collections::{BTreeMap, BTreeSet};

use super::bases::Why;
use super::folder::Folder;
use super::mounts::Waits;
use crate::names::{ObjectId, RepoPath};

/// What was held when a person saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Removals.
    pub(super) removals: BTreeSet<RepoPath>,
    /// Files that a power cut may have emptied, with what they hold.
    pub(super) suspects: BTreeMap<RepoPath, ObjectId>,
    /// Directories that wait for a disk.
    pub(super) mounts: Waits,
    /// The directory that is in the folder's place.
    pub(super) root: Option<String>,
}

impl Shown {
    /// Returns what a folder holds now.
    pub(super) fn by(folder: &Folder) -> Self {
        Self {
            removals: folder.held_deletes.clone(),
            suspects: folder.boot.suspects.clone(),
            mounts: folder.place.mounts.borrow().waiting().clone(),
            root: None,
        }
    }

    /// Returns whether there is something in it that was not in `before`.
    pub(super) fn is_more_than(&self, before: &Self) -> bool {
        let suspects = |(path, id)| before.suspects.get(path) == Some(id);
        let mounts = |(dir, wait)| before.mounts.get(dir) == Some(wait);
        !(self.removals.is_subset(&before.removals)
            && self.suspects.iter().all(suspects)
            && self.mounts.iter().all(mounts)
            && (self.root.is_none() || self.root == before.root))
    }
}

impl Folder {
    /// Takes up that the root was found to be another directory. Returns whether that is news.
    pub(super) fn note_doubt(&mut self) -> bool {
        let Some(root) = self.doubted.take() else {
            return false;
        };
        let is_news = self.shown.root.as_ref() != Some(&root);
        self.shown.root = Some(root);
        is_news
    }

    /// Returns what an approval lets through now.
    pub(super) fn granted(&self) -> Shown {
        let shown = &self.shown;
        if shown.root.is_some() {
            return Shown {
                root: shown.root.clone(),
                ..Shown::default()
            };
        }
        let incoming = self.bases.iter().any(|(_, it)| it.why == Why::RemovalWaits);
        let mut granted = shown.clone();
        if incoming || !(shown.removals.is_empty() && shown.suspects.is_empty()) {
            granted.mounts.clear();
        }
        granted
    }
}
