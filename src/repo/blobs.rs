//! Blobs on their way into the repository: as they were read, or converted by the git program (S3).
//!
//! Absent: which files those are; `take` chooses.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::filter;
use super::pack::{Pack, WORTH_A_PACK};
use super::stable::{self, Reading};
use super::{Place, RepoError};
use crate::git::{self, GitError};
use crate::names::{ObjectId, RepoPath};

/// Blobs on their way into the repository: singly while they are few, as a pack once they are many.
#[derive(Default)]
pub(super) struct Store {
    few: Vec<Reading>,
    pack: Option<Pack>,
}

impl Store {
    /// Takes what was read; it is in the repository after [`Self::finish`].
    pub(super) fn add(&mut self, place: &Place, reading: Reading) -> Result<(), RepoError> {
        if let (Some(pack), Some(content)) = (&mut self.pack, &reading.content) {
            return pack.add(content);
        }
        self.few.push(reading);
        if self.few.len() >= WORTH_A_PACK {
            let mut pack = Pack::start(place)?;
            for content in self.few.drain(..).filter_map(|reading| reading.content) {
                pack.add(&content)?;
            }
            self.pack = Some(pack);
        }
        Ok(())
    }

    /// Writes what was added.
    pub(super) fn finish(self, place: &Place) -> Result<(), RepoError> {
        for reading in &self.few {
            stable::store(place, reading)?;
        }
        match self.pack {
            Some(pack) => pack.finish(),
            None => Ok(()),
        }
    }
}

/// Stores files that git converts on the way, all in one process. Returns the ids of those for which that
/// went well; the others are for [`convert_one`].
pub(super) fn convert_all(
    place: &Place,
    paths: &[&RepoPath],
) -> Result<BTreeMap<RepoPath, ObjectId>, RepoError> {
    hash_all(place, &["-w", "--stdin-paths"], paths)
}

/// Returns the ids that files would get, converted if git does that, without storing them; of those that
/// can be read.
pub(super) fn ids_of(
    place: &Place,
    paths: &[&RepoPath],
) -> Result<BTreeMap<RepoPath, ObjectId>, RepoError> {
    let mut ids = hash_all(place, &["--stdin-paths"], paths)?;
    for path in paths {
        if !ids.contains_key(*path) {
            let args = [OsStr::new("--"), filter::argument(path)];
            let done = place.git.ask("hash-object", args, b"")?;
            if done.status.success() {
                let id = ObjectId::from_hex(&done.stdout).map_err(GitError::from)?;
                ids.insert((*path).clone(), id);
            }
        }
    }
    Ok(ids)
}

fn hash_all(
    place: &Place,
    args: &[&str],
    paths: &[&RepoPath],
) -> Result<BTreeMap<RepoPath, ObjectId>, RepoError> {
    let plain_name = |path: &&&RepoPath| !path.as_bytes().contains(&b'\n');
    let lines: Vec<u8> = paths
        .iter()
        .filter(plain_name)
        .flat_map(|path| path.as_bytes().iter().copied().chain([b'\n']))
        .collect();
    let mut ids = BTreeMap::new();
    if lines.is_empty() {
        return Ok(ids);
    }
    let done = place.git.ask("hash-object", args, &lines)?;
    if done.status.success() {
        let out = done
            .stdout
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty());
        for (path, line) in paths.iter().filter(plain_name).zip(out) {
            let id = ObjectId::from_hex(line).map_err(GitError::from)?;
            ids.insert((*path).clone(), id);
        }
    }
    Ok(ids)
}

/// Stores one file that git converts on the way.
pub(super) fn convert_one(place: &Place, path: &RepoPath) -> Result<ObjectId, RepoError> {
    let mut command = place.git.command("hash-object");
    command.args(["-w", "--"]).arg(filter::argument(path));
    let out = git::run(&mut command, b"", git::LOCAL, "hash-object")?.stdout;
    Ok(ObjectId::from_hex(out).map_err(GitError::from)?)
}
