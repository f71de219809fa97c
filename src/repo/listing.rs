//! The log as it is listed: for `autosync log`, for scripts, and over the control API.
//!
//! Absent: the folder's lanes. What is listed is read from the repository, by whoever asks, beside
//! whatever a lane does.

use std::path::Path;

use super::operation::{self, Operation};
use super::{Place, RepoError};
use crate::engine::recall::Listed;
use crate::names::{ObjectId, RepoPath, escape};

/// The paths of an operation: the first of them.
const PATHS: usize = 100;

/// Returns the operations of the folder at `root`, newest first: so many of those that touched
/// `path`, or of all.
pub fn listing(
    root: &Path,
    git_dir: Option<&Path>,
    path: Option<&RepoPath>,
    number: usize,
) -> Result<Vec<Listed>, RepoError> {
    let place = Place::to_read(root, git_dir)?;
    let mut all: Vec<Operation> = Vec::new();
    let mut lines = Vec::new();
    for operation in operation::operations(&place)? {
        if lines.len() >= number {
            break;
        }
        let operation = match (operation, all.last()) {
            (Err(error), Some(last)) => {
                lines.push(lost(last, &error));
                break;
            }
            (operation, _) => operation?,
        };
        let undone = operation::taken_back(&all).contains(&operation.number);
        if path.is_none() || operation.touches(&place, path)? {
            lines.push(listed(&place, &operation, undone)?);
        }
        all.push(operation);
    }
    Ok(lines)
}

/// Returns the line in the place of an operation that cannot be read, which `next` came after.
fn lost(next: &Operation, error: &RepoError) -> Listed {
    let what = format!("this operation and those before it cannot be read: {error}");
    Listed {
        operation: next.number.saturating_sub(1),
        kind: "lost".to_owned(),
        at: next.at(),
        host: String::new(),
        what: escape(what.as_bytes()),
        undone: false,
        undoes: None,
        only_here: false,
        commit: None,
        before: None,
        paths: Vec::new(),
        more: 0,
    }
}

fn listed(place: &Place, operation: &Operation, undone: bool) -> Result<Listed, RepoError> {
    let (paths, count) = operation.paths(place, PATHS)?;
    let id = |id: Option<ObjectId>| id.map(|id| id.to_string());
    Ok(Listed {
        operation: operation.number,
        kind: operation.kind.word().to_owned(),
        at: operation.at(),
        host: escape(operation.host.as_bytes()),
        what: escape(operation.words.as_bytes()),
        undone,
        undoes: operation.undoes,
        only_here: operation.here.is_some(),
        commit: id(operation.after),
        before: id(operation.before),
        more: count.saturating_sub(paths.len()),
        paths: paths.iter().map(ToString::to_string).collect(),
    })
}
