//! Locks of references that a kill left behind while the library moved them.
//!
//! The library locks a reference by a file beside it and removes that file itself, so a kill in
//! between leaves it, and nothing moves that reference any more. References of our own are locked
//! by nobody else. The tracking reference is locked by the user's `git fetch` as well: what we were
//! about to write there is noted first, and only a lock that holds that, or nothing yet, is ours.

use std::fs;
use std::path::{Path, PathBuf};

use super::publish::remove;
use super::{Place, RepoError};
use crate::git::refs;
use crate::names::ObjectId;

/// Moves the tracking reference of the hub.
pub fn set_tracking(place: &Place, name: &str, to: Option<ObjectId>) -> Result<(), RepoError> {
    let note = note(place);
    let id = to.map_or_else(|| "-".to_owned(), |id| id.to_string());
    fs::write(&note, format!("{id} {name}\n")).map_err(|error| RepoError::io(&note, error))?;
    refs::set(&place.git, &place.objects, name, to)?;
    remove(&note)
}

/// Removes what a kill left. To be called at the start, under our own lock of the folder and
/// before the network lane does anything.
pub fn remove_ref_locks(place: &Place) -> Result<(), RepoError> {
    let dir = place.git.dir().join(refs::OURS);
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "lock")
        {
            take(&path)?;
        }
    }
    let Ok(text) = fs::read_to_string(note(place)) else {
        return Ok(());
    };
    if let Some((id, name)) = text.trim_end().split_once(' ') {
        let lock = place.git.common_dir().join(format!("{name}.lock"));
        if let Ok(held) = fs::read_to_string(&lock)
            && (held.is_empty() || held.trim_end() == id)
        {
            take(&lock)?;
        }
    }
    remove(&note(place))
}

fn take(lock: &Path) -> Result<(), RepoError> {
    tracing::info!(path = %lock.display(), "removed a lock that a killed agent left");
    remove(lock)
}

fn note(place: &Place) -> PathBuf {
    place.store.join("tracking")
}
