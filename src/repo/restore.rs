//! Restore: an older version of a path, found in the log and in the history.
//!
//! Absent: any change. What is found here is brought back as every recall is.

use super::bases::Why;
use super::folder::Folder;
use super::operation::{self, Kind};
use super::recall::{Goal, none, nothing};
use super::versions::{Found, Version, candidates};
use super::{Place, RepoError, three_way};
use crate::clock;
use crate::engine::recall::{Answer, At};
use crate::git::tree::{self, Edits, Entry};
use crate::names::secret::Secret;
use crate::names::{ObjectId, RepoPath, escape};

impl Folder {
    /// Finds the version of a path that is wanted back. `ours` is the tree as it stands.
    pub(super) fn restored(
        &self,
        path: Option<&RepoPath>,
        at: Option<&At>,
        (tip, ours): (ObjectId, ObjectId),
    ) -> Result<Goal, RepoError> {
        let place = &self.place;
        let shown = path.map_or_else(|| "everything".to_owned(), ToString::to_string);
        if at.is_none() {
            let waiting = self.waiting_removals(path);
            if !waiting.is_empty() {
                let words = format!("restore {shown}: what was deleted elsewhere and waits");
                let (commit, tree) = with(place, (tip, ours), &waiting)?;
                return Ok(goal(words, tree, commit, String::new()));
            }
            if self.missing(path).next().is_some() {
                let words = format!("restore {shown}: what was deleted and is not committed");
                return Ok(goal(words, ours, tip, String::new()));
            }
        }
        let version = match at {
            Some(At::Commit(text)) => of_commit(place, text, path)?,
            Some(At::Seconds(seconds)) => of_time(place, *seconds, tip, path)?,
            None => newest_other(place, path, tip, ours)?,
        };
        let edits = edits(place, path, ours, version.entry)?;
        let tree = three_way::build(place, ours, &edits)?;
        let commit = place.objects.commit(version.commit)?;
        let when = clock::wall_in_zone(commit.seconds, commit.offset);
        let day = when.get(..16).unwrap_or_default().replace('T', " ");
        let words = format!("restore {shown} of {day}");
        Ok(goal(words, tree, version.commit, when))
    }

    /// Returns what was deleted on the disk, is held back, and lies at a path or below it.
    pub(super) fn missing(&self, path: Option<&RepoPath>) -> impl Iterator<Item = &RepoPath> {
        let is_meant =
            move |it: &&RepoPath| path.is_none_or(|path| *it == path || it.is_within(path));
        self.held_deletes.iter().filter(is_meant)
    }

    /// Returns what was deleted elsewhere, still stands here until a person approves, and lies at a
    /// path or below it.
    pub(super) fn waiting_removals(&self, path: Option<&RepoPath>) -> Edits {
        let is_meant = |it: &RepoPath| path.is_none_or(|path| it == path || it.is_within(path));
        self.bases
            .iter()
            .filter(|(path, base)| base.why == Why::RemovalWaits && is_meant(path))
            .map(|(path, base)| (path.clone(), base.have))
            .collect()
    }
}

/// Returns a commit, in nobody's history, of the tree `ours` with these entries, and its tree.
pub(super) fn with(
    place: &Place,
    (tip, ours): (ObjectId, ObjectId),
    entries: &Edits,
) -> Result<(ObjectId, ObjectId), RepoError> {
    let tree = three_way::build(place, ours, entries)?;
    let text = "with what was deleted elsewhere\n";
    let when = clock::wall_seconds_and_offset();
    let who = place.identity()?;
    let commit = place.objects.write_commit(tree, &[tip], &who, when, text)?;
    Ok((commit, tree))
}

fn goal(words: String, tree: ObjectId, from: ObjectId, when: String) -> Goal {
    Goal {
        tree,
        copies: Vec::new(),
        kind: Kind::Restore,
        trailer: ("Autosync-Restore", from.to_string()),
        words,
        undoes: None,
        answer: Answer {
            when,
            from: from.to_string(),
            ..Answer::default()
        },
    }
}

/// Returns the edits that bring a version back. In a directory what came since stays.
fn edits(
    place: &Place,
    path: Option<&RepoPath>,
    ours: ObjectId,
    version: Option<Entry>,
) -> Result<Edits, RepoError> {
    if let (Some(path), Some(entry)) = (path, version)
        && !entry.is_tree()
    {
        return Ok(Edits::from([(path.clone(), Some(entry))]));
    }
    let whole = match (path, version) {
        (Some(path), version) => {
            let edits = Edits::from([(path.clone(), version)]);
            tree::build(&place.objects, Some(ours), &edits)?
        }
        (None, version) => version.map(|entry| entry.id),
    };
    let differences = tree::differences(&place.objects, Some(ours), whole)?;
    Ok(differences
        .into_iter()
        .filter(|it| it.new.is_some())
        .map(|it| (it.path, it.new))
        .collect())
}

/// Returns what a commit has at a path; the whole tree for none.
pub(super) fn entry_of(
    place: &Place,
    commit: ObjectId,
    path: Option<&RepoPath>,
) -> Result<Option<Entry>, RepoError> {
    let tree = place.objects.commit(commit)?.tree;
    match path {
        Some(path) => Ok(place.objects.entry(tree, path)?),
        None => Ok(Some(Entry {
            mode: tree::DIRECTORY,
            id: tree,
        })),
    }
}

fn of_commit(place: &Place, text: &str, path: Option<&RepoPath>) -> Result<Version, RepoError> {
    let shown = escape(text.as_bytes());
    let wanted = format!("{text}^{{commit}}");
    let args = ["--verify", "--quiet", "--end-of-options", &wanted];
    let done = place.git.ask("rev-parse", args, b"")?;
    let commit = ObjectId::from_hex(done.stdout.trim_ascii())
        .ok()
        .filter(|_| done.status.success());
    let Some(commit) = commit else {
        let hint = "Say it like 2h, yesterday, \"2026-11-20 14:00\", or as a commit.";
        return Err(nothing(
            &format!("`{shown}` is neither a time nor a commit here"),
            hint,
        ));
    };
    there(
        commit,
        entry_of(place, commit, path)?,
        path,
        &format!("in `{shown}`"),
    )
}

fn there(
    commit: ObjectId,
    entry: Option<Entry>,
    path: Option<&RepoPath>,
    when: &str,
) -> Result<Version, RepoError> {
    if entry.is_none()
        && let Some(path) = path
    {
        let hint = "`autosync log PATH` lists what was done to it.";
        return Err(nothing(&format!("there was no `{path}` {when}"), hint));
    }
    Ok(Version { commit, entry })
}

/// Returns the version of a time: what this disk was to have then, as far as the log goes back, else
/// what the branch had by the dates of its commits.
fn of_time(
    place: &Place,
    seconds: i64,
    tip: ObjectId,
    path: Option<&RepoPath>,
) -> Result<Version, RepoError> {
    let when = format!("at {}", clock::wall_of_seconds(seconds));
    let mut found = None;
    for operation in operation::operations(place)? {
        let operation = operation?;
        if operation.seconds <= seconds {
            found = operation.here.or(operation.after);
            break;
        }
    }
    let commit = if let Some(commit) = found {
        commit
    } else {
        let until = format!("--until=@{seconds}");
        let tip = tip.to_string();
        let args = ["--first-parent", "--max-count=1", &until, &tip, "--"];
        let out = place.git.call("rev-list", args, b"")?;
        ObjectId::from_hex(out.trim_ascii())
            .map_err(|_| none(&format!("this folder had no version {when}")))?
    };
    there(commit, entry_of(place, commit, path)?, path, &when)
}

/// Returns the newest version that is another than what stands now.
fn newest_other(
    place: &Place,
    path: Option<&RepoPath>,
    tip: ObjectId,
    ours: ObjectId,
) -> Result<Version, RepoError> {
    let mut seen_any = false;
    let mut all = candidates(place, path, tip)?;
    while let Some((_, candidate)) = all.next()? {
        let version = match candidate.version(place, path)? {
            Found::Version(version) => version,
            Found::Secret(secret) => return Err(a_secret(path, secret)),
        };
        seen_any |= version.entry.is_some();
        if version.entry.is_some() && !edits_nothing(place, path, ours, version.entry)? {
            return Ok(version);
        }
    }
    let Some(path) = path else {
        return Err(none("there is no other version of the folder"));
    };
    if seen_any {
        return Err(none(&format!("there is no other version of `{path}`")));
    }
    let aside = super::aside::set_aside(place)?.into_iter();
    if let Some(aside) = aside.rev().find(|aside| aside.path == *path) {
        let now = escape(aside.now.as_os_str().as_encoded_bytes());
        let hint = format!("It had to make room for a file that came in and is now `{now}`.");
        return Err(nothing(&format!("`{path}` was never committed"), &hint));
    }
    let hint = "`autosync log` lists what was done; a path is taken from the current directory.";
    Err(nothing(
        &format!("there never was a `{path}` in this folder"),
        hint,
    ))
}

fn edits_nothing(
    place: &Place,
    path: Option<&RepoPath>,
    ours: ObjectId,
    version: Option<Entry>,
) -> Result<bool, RepoError> {
    let edits = edits(place, path, ours, version)?;
    for (path, entry) in &edits {
        if place.objects.entry(ours, path)? != *entry {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says that the version in question is not brought into the history unasked.
fn a_secret(path: Option<&RepoPath>, secret: Secret) -> RepoError {
    let path = path.map(ToString::to_string).unwrap_or_default();
    let words = secret.words();
    nothing(
        &format!("the newest other version of `{path}` looks like {words}"),
        "`autosync allow PATH` lets it through, and `--at` takes an older one; \
         `autosync restore PATH --list` lists them.",
    )
}
