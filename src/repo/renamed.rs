//! Which new files are what goes under another name in the same batch.
//!
//! Such a file is no news: held, it would be deleted elsewhere by its removal here. Only files as large
//! as one that goes are hashed, and only if somebody asks.

use std::collections::BTreeSet;

use super::{Place, RepoError, blobs};
use crate::git::tree::{Edits, Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// The contents that go in a batch.
pub(super) struct Renamed {
    gone: BTreeSet<ObjectId>,
    sizes: Option<BTreeSet<u64>>,
}

impl Renamed {
    /// Takes what a batch removes.
    pub(super) fn of(edits: &Edits, head: &Lookup) -> Result<Self, RepoError> {
        let mut gone = BTreeSet::new();
        for (path, _) in edits.iter().filter(|(_, entry)| entry.is_none()) {
            gone.extend(head.get(path)?.filter(Entry::is_file).map(|entry| entry.id));
        }
        Ok(Self { gone, sizes: None })
    }

    /// Returns which of these files, given with their sizes, have such a content.
    pub(super) fn among<'a>(
        &mut self,
        place: &Place,
        files: impl Iterator<Item = (&'a RepoPath, u64)>,
    ) -> Result<BTreeSet<&'a RepoPath>, RepoError> {
        if self.gone.is_empty() {
            return Ok(BTreeSet::new());
        }
        if self.sizes.is_none() {
            let sizes = self.gone.iter().map(|id| place.objects.size(*id));
            self.sizes = Some(sizes.collect::<Result<_, _>>()?);
        }
        let sizes = self.sizes.as_ref();
        let alike: Vec<&RepoPath> = files
            .filter(|(_, size)| sizes.is_some_and(|sizes| sizes.contains(size)))
            .map(|(path, _)| path)
            .collect();
        let ids = blobs::ids_of(place, &alike)?;
        let is_one = |path: &&RepoPath| ids.get(*path).is_some_and(|id| self.gone.contains(id));
        Ok(alike.into_iter().filter(is_one).collect())
    }
}
