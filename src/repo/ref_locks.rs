//! Locks of references that a kill left behind while the library moved them.
//!
//! The library locks a reference by a file beside it and removes that file itself, so a kill in
//! between leaves it, and nothing moves that reference any more. References of our own are locked
//! by nobody else. The tracking reference is locked by the user's `git fetch` as well: what we were
//! about to write there is noted first, and only a lock that holds that, or nothing yet, is ours.
//!
//! The branch of a hub on a path is locked by the git program, which lets go when we die, but not
//! when it is killed as well: then nobody can push there any more. So that is noted, too.
//!
//! A note is the target of a symlink. That is written in one with its name, in the order in which the
//! locks come after it: a power cut left notes that were files there without their words, beside the
//! lock. To wait for the disk each time would cost more than the whole rest.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::publish::remove;
use super::{Place, RepoError};
use crate::git::refs;
use crate::names::ObjectId;
use crate::{clock, process};

/// How long a git that we had started before we were killed may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often that is looked at.
const BREATH: Duration = Duration::from_millis(5);

/// Moves the tracking reference of the hub.
pub fn set_tracking(place: &Place, name: &str, to: Option<ObjectId>) -> Result<(), RepoError> {
    let note = note(place);
    let id = to.map_or_else(|| "-".to_owned(), |id| id.to_string());
    write_note(&note, format!("{id} {name}\n").as_bytes())?;
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
    place.git.remove_config_lock()?;
    remove_hub_locks(place)?;
    let Some(text) = read_note(&note(place)) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&text);
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

/// Notes that a git of ours, by its process id, is about to move a branch of the hub in `dir`.
pub fn note_delivery(
    place: &Place,
    dir: &Path,
    name: &str,
    to: ObjectId,
    git: i32,
) -> Result<(), RepoError> {
    let note = delivering(place);
    let mut text = format!("{to} {git} {} {name}\n", process::boot_id()).into_bytes();
    text.extend_from_slice(dir.as_os_str().as_bytes());
    write_note(&note, &text)
}

/// Takes the note back: the branch was moved, or was not.
pub fn delivered(place: &Place) -> Result<(), RepoError> {
    remove(&delivering(place))
}

/// Removes the locks that a git of ours left in the hub when it was killed.
pub fn remove_hub_locks(place: &Place) -> Result<(), RepoError> {
    let Some(text) = read_note(&delivering(place)) else {
        return Ok(());
    };
    let (head, dir) = match text.iter().position(|b| *b == b'\n') {
        Some(end) => (&text[..end], Path::new(OsStr::from_bytes(&text[end + 1..]))),
        None => return delivered(place),
    };
    let head = String::from_utf8_lossy(head);
    let words: Vec<&str> = head.split(' ').collect();
    let [to, git, boot, name] = words[..] else {
        return delivered(place);
    };
    let lives =
        || boot == process::boot_id() && git.parse().is_ok_and(|git| !process::is_gone(git));
    let deadline = clock::now() + PATIENCE;
    while lives() && clock::now() < deadline {
        std::thread::sleep(BREATH);
    }
    if lives() || !dir.is_dir() {
        // The next start looks again.
        return Ok(());
    }
    let lock = dir.join(format!("{name}.lock"));
    if fs::read_to_string(&lock).is_ok_and(|held| held.is_empty() || held.trim_end() == to) {
        // git locks the HEAD that names a branch together with it, by an empty file.
        let head = dir.join("HEAD.lock");
        if fs::metadata(&head).is_ok_and(|meta| meta.len() == 0) {
            take(&head)?;
        }
        take(&lock)?;
    }
    delivered(place)
}

fn delivering(place: &Place) -> PathBuf {
    place.store.join("delivering")
}

fn take(lock: &Path) -> Result<(), RepoError> {
    tracing::info!(path = %lock.display(), "removed a lock that a killed agent left");
    remove(lock)
}

fn write_note(note: &Path, text: &[u8]) -> Result<(), RepoError> {
    remove(note)?;
    // A disk without links, and words too long for one, have to do with a file.
    symlink(OsStr::from_bytes(text), note)
        .or_else(|_| fs::write(note, text))
        .map_err(|error| RepoError::io(note, error))
}

fn read_note(note: &Path) -> Option<Vec<u8>> {
    match fs::read_link(note) {
        Ok(text) => Some(text.into_os_string().into_vec()),
        Err(_) => fs::read(note).ok(),
    }
}

fn note(place: &Place) -> PathBuf {
    place.store.join("tracking")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_with_its_words_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("note");
        assert_eq!(read_note(&at), None);
        for text in [&b"id refs/heads/main\n"[..], b"\xff/a\nb", &[b'x'; 2000]] {
            write_note(&at, text).unwrap();
            assert!(at.is_symlink(), "a file has its name before its words");
            assert_eq!(read_note(&at).as_deref(), Some(text));
        }
        // What no link can hold, and what older versions wrote.
        let long = [b'x'; 10_000];
        write_note(&at, &long).unwrap();
        assert_eq!(read_note(&at).as_deref(), Some(&long[..]));
        remove(&at).unwrap();
        assert_eq!(read_note(&at), None);
    }
}
