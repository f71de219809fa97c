//! The notes beside commits: brought together with those on the hub, by git's union of lines.
//!
//! Nothing is asked of git while neither side has any, and of a hub on a path not even then if
//! both are equal. Absent: the branch; notes move by themselves.

use super::{FETCHED, Kind, Remote, SILENCE, Terms, connected_command, refusal, run};
use crate::fault;
use crate::git::objects::Objects;
use crate::git::{self, Git, GitError, hub, refs};
use crate::names::ObjectId;
use crate::repo::reword::{NOTES, show_notes};
use crate::repo::{Place, RepoError};

/// How often it is begun again when somebody else was first.
const TRIES: usize = 3;

/// Brings the notes here and on the hub together.
pub fn exchange(place: &Place, remote: &Remote, terms: &Terms<'_>) -> Result<(), RepoError> {
    for _ in 0..TRIES {
        let ours = refs::read(&place.git, &place.objects, NOTES)?;
        let theirs = on_hub(place, remote, terms)?;
        if ours == theirs {
            return Ok(());
        }
        if let Some(theirs) = theirs {
            take(place, remote, terms, ours, theirs)?;
        }
        let ours = refs::read(&place.git, &place.objects, NOTES)?;
        fault::at("N1.together");
        match ours {
            Some(ours) if theirs != Some(ours) => {
                if give(place, remote, terms, ours)? {
                    return Ok(());
                }
            }
            Some(_) | None => return Ok(()),
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
    let (done, words) = run(&mut command, SILENCE, "notes", terms)?;
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

/// Brings the hub's notes and puts them together with ours.
fn take(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
    ours: Option<ObjectId>,
    theirs: ObjectId,
) -> Result<(), RepoError> {
    if !place.objects.contains(theirs) {
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
        let (done, words) = run(&mut command, SILENCE, "notes", terms)?;
        if !done.status.success() {
            return Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)));
        }
    }
    if ours.is_none() {
        refs::set(&place.git, &place.objects, NOTES, Some(theirs))?;
    } else {
        let who = place.identity()?;
        let mut command = place.git.command("notes");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), &who.name);
            command.env(format!("GIT_{role}_EMAIL"), &who.email);
        }
        let notes = format!("--ref={NOTES}");
        command.args([&notes, "merge", "-q", "-s", "union", &theirs.to_string()]);
        git::run(&mut command, b"", git::LOCAL, "notes")?;
    }
    if refs::read(&place.git, &place.objects, FETCHED)?.is_some() {
        refs::set(&place.git, &place.objects, FETCHED, None)?;
    }
    show_notes(place)
}

/// Pushes our notes. Returns whether the hub took them: else somebody else was first.
fn give(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
    ours: ObjectId,
) -> Result<bool, RepoError> {
    let mut command = connected_command(place, remote, terms, "push");
    command.args(["--porcelain", "--no-signed", "--"]);
    command.args([&remote.url, &format!("{ours}:{NOTES}")]);
    let (done, words) = run(&mut command, SILENCE, "notes", terms)?;
    if done.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if said.lines().any(|line| line.starts_with('!')) {
        return Ok(false);
    }
    Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)))
}
