//! History that the user rewrote here: an amended commit, a branch set back behind what was
//! published.
//!
//! The branch's reflog is the witness: it once was at a commit that the hub has, and no longer
//! contains it. Then the local version of a conflict is the one that the user wants.

use super::{Place, RepoError};
use crate::git::{GitError, failed, unparsable};
use crate::names::ObjectId;

/// How many moves of the branch are looked at, newest first.
const MOVES: usize = 200;

/// Returns whether the user took something out of the branch that the hub has.
pub fn rewritten(place: &Place, hub: ObjectId, tip: ObjectId) -> Result<bool, RepoError> {
    let objects = &place.objects;
    let Some(base) = objects.merge_base(hub, tip)? else {
        return Ok(false);
    };
    if base == hub || base == tip {
        return Ok(false);
    }
    for was in moves(place)? {
        if was == tip || !objects.contains(was) {
            continue;
        }
        // What lies further back was settled when the base was merged.
        if objects.descends(base, was)? {
            return Ok(false);
        }
        if objects.descends(hub, was)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns where the branch was, newest first.
fn moves(place: &Place) -> Result<Vec<ObjectId>, RepoError> {
    let name = place.branch_ref();
    if let Some(repo) = place.objects.library() {
        let log = repo.reflog(&name).map_err(GitError::from)?;
        let ids = log.iter().take(MOVES);
        let ids = ids.map(|entry| ObjectId::from_bytes(entry.id_new().as_bytes()));
        return Ok(ids.collect::<Result<_, _>>().map_err(GitError::from)?);
    }
    let count = format!("--max-count={MOVES}");
    let args = ["--walk-reflogs", "--format=%H", &count, &name, "--"];
    let done = place.git.ask("log", args, b"")?;
    match done.status.code() {
        Some(0) => {}
        // There is no branch yet.
        Some(128) => return Ok(Vec::new()),
        _ => return Err(failed("log", &done).into()),
    }
    let lines = done.stdout.split(|b| *b == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| ObjectId::from_hex(line).map_err(|_| unparsable("log", line).into()))
        .collect()
}
