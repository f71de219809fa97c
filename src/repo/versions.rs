//! The versions of a path, newest first: of the branch, of our own references, and of the files that
//! applies moved out of the way and that are nowhere else yet.
//!
//! Invariants:
//! 1. Among the commits of the branch their order is the history's, whatever the clocks said; only
//!    what is not in it is sorted in by time.
//! 2. A displaced file becomes an object only if it is no secret, or one that was let through.
//!
//! Absent: displaced files below a directory: they are versions of their own paths.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;

use super::displaced::{self, Lying};
use super::restore::entry_of;
use super::{Place, RepoError, filter, operation, three_way};
use crate::clock;
use crate::engine::recall::VersionListed;
use crate::git::refs;
use crate::git::tree::{Edits, Entry};
use crate::names::secret::Secret;
use crate::names::{ObjectId, RepoPath, escape};

/// So many commits that changed a path are looked at.
const LOOKED_AT: usize = 5000;
/// So many versions are listed.
const LISTED: usize = 100;

/// A version of a path.
pub(super) struct Version {
    /// A commit that has it; for a displaced file one in nobody's history.
    pub(super) commit: ObjectId,
    /// What stands there; `None` is nothing.
    pub(super) entry: Option<Entry>,
}

/// What may be a version.
pub(super) enum Candidate {
    /// A commit that changed the path.
    Commit(ObjectId),
    /// A file that was displaced.
    Lying(Box<Lying>),
}

/// What a displaced file came to.
pub(super) enum Found {
    /// A version.
    Version(Version),
    /// A secret that nobody let through.
    Secret(Secret),
}

/// Everything that may be a version of a path, newest first.
pub(super) struct Candidates<'a> {
    place: &'a Place,
    commits: [Commits; 2],
    lying: VecDeque<Lying>,
}

/// Commits in an order of their own.
struct Commits {
    left: VecDeque<ObjectId>,
    next: Option<(i64, ObjectId)>,
}

/// Returns everything that may be a version of a path, or of the whole folder.
pub(super) fn candidates<'a>(
    place: &'a Place,
    path: Option<&RepoPath>,
    tip: ObjectId,
) -> Result<Candidates<'a>, RepoError> {
    let of = |elsewhere| {
        Ok::<_, RepoError>(Commits {
            left: changed(place, path, tip, elsewhere)?.into(),
            next: None,
        })
    };
    let lying = match path {
        Some(path) => displaced::lying(place, path)?,
        None => Vec::new(),
    };
    Ok(Candidates {
        place,
        commits: [of(false)?, of(true)?],
        lying: lying.into(),
    })
}

impl Commits {
    /// Returns the next commit and its time, without taking it.
    fn peek(&mut self, place: &Place) -> Result<Option<(i64, ObjectId)>, RepoError> {
        while self.next.is_none() {
            let Some(id) = self.left.pop_front() else {
                break;
            };
            let commit = place.objects.commit(id)?;
            // What the log of operations has, other commits have.
            if !operation::is_one(&commit) {
                self.next = Some((commit.seconds, id));
            }
        }
        Ok(self.next)
    }
}

impl Candidates<'_> {
    /// Returns the next one.
    pub(super) fn next(&mut self) -> Result<Option<(i64, Candidate)>, RepoError> {
        let place = self.place;
        let [branch, others] = &mut self.commits;
        let mut newest = branch.peek(place)?.map(|it| (it, false));
        if let Some(other) = others.peek(place)?
            && newest.is_none_or(|(it, _)| other.0 > it.0)
        {
            newest = Some((other, true));
        }
        let is_newer = |it: &Lying| newest.is_none_or(|((seconds, _), _)| it.seconds >= seconds);
        if self.lying.front().is_some_and(is_newer)
            && let Some(lying) = self.lying.pop_front()
        {
            return Ok(Some((lying.seconds, Candidate::Lying(Box::new(lying)))));
        }
        let Some(((seconds, commit), is_other)) = newest else {
            return Ok(None);
        };
        self.commits[usize::from(is_other)].next = None;
        Ok(Some((seconds, Candidate::Commit(commit))))
    }
}

impl Candidate {
    /// Returns what the path was then.
    pub(super) fn version(
        &self,
        place: &Place,
        path: Option<&RepoPath>,
    ) -> Result<Found, RepoError> {
        match (self, path) {
            (Self::Lying(lying), Some(path)) => match lying.store(place)? {
                Ok(entry) => Ok(Found::Version(Version {
                    commit: lone(place, path, lying, entry)?,
                    entry: Some(entry),
                })),
                Err(secret) => Ok(Found::Secret(secret)),
            },
            (Self::Lying(lying), None) => Ok(Found::Version(Version {
                commit: lying.base,
                entry: None,
            })),
            (Self::Commit(commit), path) => Ok(Found::Version(Version {
                commit: *commit,
                entry: entry_of(place, *commit, path)?,
            })),
        }
    }
}

/// Returns a commit of what a displaced file has, by which it can be named. The same each time.
fn lone(
    place: &Place,
    path: &RepoPath,
    lying: &Lying,
    entry: Entry,
) -> Result<ObjectId, RepoError> {
    let base = place.objects.commit(lying.base)?.tree;
    let edits = Edits::from([(path.clone(), Some(entry))]);
    let tree = three_way::build(place, base, &edits)?;
    let when = (lying.seconds, 0);
    let who = place.identity()?;
    let text = "what was written to a file after it was replaced\n";
    Ok(place
        .objects
        .write_commit(tree, &[lying.base], &who, when, text)?)
}

/// Returns the commits that changed a path, newest first: those of the branch, or of our own
/// references.
fn changed(
    place: &Place,
    path: Option<&RepoPath>,
    tip: ObjectId,
    elsewhere: bool,
) -> Result<Vec<ObjectId>, RepoError> {
    let mut args: Vec<OsString> = vec![
        "--full-history".into(),
        "--date-order".into(),
        format!("--max-count={LOOKED_AT}").into(),
    ];
    if elsewhere {
        let ours = refs::list(&place.git, refs::OURS)?;
        if ours.is_empty() {
            return Ok(Vec::new());
        }
        args.extend(ours.into_iter().map(|(_, id)| id.to_string().into()));
        args.push(format!("^{tip}").into());
    } else {
        args.push(tip.to_string().into());
    }
    args.push("--".into());
    args.extend(path.map(|path| filter::argument(path).to_owned()));
    let out = place.git.call("rev-list", args, b"")?;
    let lines = out.split(|byte| *byte == b'\n');
    let ids = lines.filter(|line| !line.is_empty());
    Ok(ids
        .map(ObjectId::from_hex)
        .collect::<Result<_, _>>()
        .map_err(crate::git::GitError::from)?)
}

/// Lists the versions of a path of the folder at `root`, newest first.
pub fn versions(
    root: &Path,
    git_dir: Option<&Path>,
    path: Option<&RepoPath>,
) -> Result<Vec<VersionListed>, RepoError> {
    let place = Place::to_read(root, git_dir)?;
    let Some(tip) = refs::read(&place.git, &place.objects, "HEAD")? else {
        return Ok(Vec::new());
    };
    let now = entry_of(&place, tip, path)?;
    let mut listed = Vec::new();
    let mut last: Option<Option<Entry>> = None;
    let mut all = candidates(&place, path, tip)?;
    while let Some((seconds, candidate)) = all.next()? {
        if listed.len() >= LISTED {
            break;
        }
        let (version, secret) = match candidate.version(&place, path)? {
            Found::Version(version) => (Some(version), None),
            Found::Secret(secret) => (None, Some(secret)),
        };
        let entry = version.as_ref().map(|it| it.entry);
        if entry.is_some() && entry == last {
            // An older commit of the same: that is when it came.
            listed.pop();
        }
        last = entry;
        listed.push(line(&place, &candidate, (seconds, version, secret), now)?);
    }
    Ok(listed)
}

fn line(
    place: &Place,
    candidate: &Candidate,
    (seconds, version, secret): (i64, Option<Version>, Option<Secret>),
    now: Option<Entry>,
) -> Result<VersionListed, RepoError> {
    let (at, what) = match candidate {
        Candidate::Commit(commit) => {
            let commit = place.objects.commit(*commit)?;
            let text = String::from_utf8_lossy(&commit.message).into_owned();
            let subject = text.lines().next().unwrap_or_default().to_owned();
            let at = clock::wall_in_zone(seconds, commit.offset);
            (at, escape(subject.as_bytes()))
        }
        Candidate::Lying(_) => {
            let what = match secret {
                Some(secret) => format!("it looks like {}, so it is held back", secret.words()),
                None => "written to the old file after it was replaced".to_owned(),
            };
            (clock::wall_in_zone(seconds, 0), what)
        }
    };
    let entry = version.as_ref().map(|version| version.entry);
    Ok(VersionListed {
        at,
        commit: version.map(|version| version.commit.to_string()),
        what,
        is_now: entry == Some(now),
        is_deleted: entry == Some(None),
        displaced: matches!(candidate, Candidate::Lying(_)),
    })
}
