//! The notes beside commits: brought together with those on the hub.
//!
//! Invariants:
//! 1. Notes that were made meanwhile, here or there, are not overwritten: it is begun again.
//! 2. What was put together is ours only when the hub has it, or wants nothing of ours. So no two hosts put the same notes
//!    together in two ways, and what is said once stays said once.
//!
//! Nothing is asked of git while neither side has any, and of a hub on a path not even then if
//! both are equal. Absent: the branch; notes move by themselves.

use super::said::{self, Verdict};
use super::{FETCHED, Kind, Remote, Terms, connected_command, refusal, run, silence};
use crate::engine::event::Code;
use crate::fault;
use crate::git::objects::Objects;
use crate::git::{Git, GitError, hub, refs};
use crate::names::ObjectId;
use crate::repo::notes::{self, NOTES, TRIES};
use crate::repo::{Place, RepoError};

/// Brings the notes here and on the hub together.
///
/// `refused` is which notes of ours the hub did not want: they are not pushed again until there is
/// another of ours. Errors once with what it said.
pub fn exchange(
    place: &Place,
    remote: &Remote,
    refused: &mut Option<ObjectId>,
    terms: &Terms<'_>,
) -> Result<(), RepoError> {
    for _ in 0..TRIES {
        let ours = notes::read(place)?;
        let theirs = on_hub(place, remote, terms)?;
        fault::at("N0.asked");
        if let Some(theirs) = theirs
            && !place.objects.contains(theirs)
        {
            fetch(place, remote, terms)?;
        }
        let wanted = match (ours, theirs) {
            (None, None) => return Ok(()),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(ours), Some(theirs)) => notes::together(place, ours, theirs)?,
        };
        fault::at("N1.together");
        let keeps_to_itself = ours.is_some() && ours == *refused;
        let verdict = if theirs == Some(wanted) || keeps_to_itself {
            Verdict::Done
        } else {
            give(place, remote, terms, wanted)?
        };
        let not_wanted = match verdict {
            Verdict::Done => None,
            Verdict::Behind => continue,
            Verdict::Refused(trouble) if trouble.code == Code::Declined => Some(trouble),
            Verdict::Refused(trouble) => return Err(RepoError::Blocked(trouble)),
        };
        let is_taken =
            ours == Some(wanted) || refs::swap(&place.git, &place.objects, NOTES, ours, wanted)?;
        if is_taken {
            if theirs.is_some() {
                notes::show(place)?;
            }
            // What was fetched is ours by now, so nothing else need keep it.
            if refs::read(&place.git, &place.objects, FETCHED)?.is_some() {
                refs::set(&place.git, &place.objects, FETCHED, None)?;
            }
            if keeps_to_itself || not_wanted.is_some() {
                *refused = Some(wanted);
            }
            return not_wanted.map_or(Ok(()), |trouble| Err(RepoError::Blocked(trouble)));
        }
    }
    Ok(())
}

/// Returns what the hub has, `None` if it has no notes.
fn on_hub(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
) -> Result<Option<ObjectId>, RepoError> {
    if let Kind::Path(path) = &remote.kind
        && let Some(dir) = hub::locate(path)
        && let Ok(objects) = Objects::open(&Git::bare(&dir))
        && objects.library().is_some()
    {
        return Ok(refs::read(&Git::bare(&dir), &objects, NOTES)?);
    }
    let mut command = connected_command(place, remote, terms, "ls-remote");
    command.args(["--refs", "--", &remote.url, NOTES]);
    let (done, words) = run(&mut command, silence(), "notes", terms)?;
    if !done.status.success() {
        return Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)));
    }
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once('\t'));
    match line {
        Some((id, NOTES)) => Ok(Some(ObjectId::from_hex(id).map_err(GitError::from)?)),
        Some(_) | None => Ok(None),
    }
}

/// Brings the hub's notes.
fn fetch(place: &Place, remote: &Remote, terms: &Terms<'_>) -> Result<(), RepoError> {
    let mut command = connected_command(place, remote, terms, "fetch");
    command.args([
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--no-auto-maintenance",
        "--",
        &remote.url,
        &format!("+{NOTES}:{FETCHED}"),
    ]);
    let (done, words) = run(&mut command, silence(), "notes", terms)?;
    if !done.status.success() {
        return Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)));
    }
    Ok(())
}

/// Pushes our notes.
fn give(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
    ours: ObjectId,
) -> Result<Verdict, RepoError> {
    let mut command = connected_command(place, remote, terms, "push");
    command.args(["--porcelain", "--no-signed", "--"]);
    command.args([&remote.url, &format!("{ours}:{NOTES}")]);
    let (done, words) = run(&mut command, silence(), "notes", terms)?;
    let success = done.status.success();
    Ok(said::verdict(remote, NOTES, success, &done.stdout, &words))
}
