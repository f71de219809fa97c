//! A person's words for a commit: its message while nobody else can have it, else a note.
//!
//! A reworded commit has the same tree, parents, author and dates, and what our own message says
//! below its first line. Branch and index move as for any other commit (S6-S8), the index to what
//! it is. A kill before that leaves the old commit on the branch, one after it the new one.
//!
//! Absent: rewording what is not the tip, what is on any hub as far as we know, what has another
//! commit's edits in the base map, and what somebody else made.

use super::folder::Folder;
use super::publish::{Published, publish};
use super::shown::Shown;
use super::{Place, RepoError, notes};
use crate::engine::event::Described;
use crate::fault;
use crate::git::objects::Kind;
use crate::git::refs;
use crate::names::ObjectId;

/// The commit that the branch is about to move to: by it our locks are known after a kill.
pub(super) const REWORD: &str = "refs/worktree/autosync/reword";

/// Puts a person's words down. `may_reword` is the engine's leave to change the commit.
pub(super) fn describe(
    folder: &mut Folder,
    commit: ObjectId,
    message: &str,
    may_reword: bool,
) -> Result<Described, RepoError> {
    let record = folder.begin(&Shown::default())?;
    let is_ours_alone = may_reword
        && record.tip == Some(commit)
        && folder.bases.is_empty()
        && !folder.is_published(commit)?;
    let new = if is_ours_alone {
        reworded(&folder.place, commit, message)?
    } else {
        None
    };
    let Some(new) = new else {
        notes::add(&folder.place, commit, message)?;
        return Ok(Described::Noted);
    };
    if new == commit {
        return Ok(Described::Reworded {
            from: commit,
            to: new,
        });
    }
    let place = &folder.place;
    refs::set(&place.git, &place.objects, REWORD, Some(new))?;
    fault::at("R1.made");
    let reason = "autosync: described";
    let done = publish(place, &mut folder.view, &record, new, &[], reason);
    fault::at("R2.moved");
    refs::set(&place.git, &place.objects, REWORD, None)?;
    Ok(match done? {
        Published::Done => {
            folder.view_tip = Some(new);
            Described::Reworded {
                from: commit,
                to: new,
            }
        }
        Published::Blocked(trouble) => Described::Blocked(trouble),
    })
}

/// Writes the commit with another first line. Returns `None` if it is not one of ours, is signed,
/// or is the first of all: by that one a folder is known.
fn reworded(place: &Place, commit: ObjectId, message: &str) -> Result<Option<ObjectId>, RepoError> {
    let old = place.objects.commit(commit)?;
    if old.parents.len() != 1 || old.trailers("Autosync-Host").is_empty() {
        return Ok(None);
    }
    let (Kind::Commit, raw) = place.objects.read(commit)? else {
        return Ok(None);
    };
    let header = raw.len().checked_sub(old.message.len());
    let Some(header) = header.filter(|at| raw.get(*at..) == Some(&old.message[..])) else {
        return Ok(None);
    };
    // The signature is of the old words.
    let is_signed = raw[..header]
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"gpgsig"));
    if is_signed {
        return Ok(None);
    }
    let below = old.message.iter().position(|byte| *byte == b'\n');
    let mut new = raw[..header].to_vec();
    new.extend_from_slice(message.as_bytes());
    new.extend_from_slice(&old.message[below.unwrap_or(old.message.len())..]);
    Ok(Some(place.objects.write(Kind::Commit, &new)?))
}
