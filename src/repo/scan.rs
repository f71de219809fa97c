//! Which paths a snapshot looks at: a batch of hints becomes a list of candidates.
//!
//! A hint that names a file is a candidate as it is. A hint that names a directory, on the disk or
//! in HEAD, and a full look, ask `git status`, which compares tree, index and HEAD and knows what
//! is ignored, nested or sparse.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::filter;
use super::folder::Folder;
use super::stable::{Found, look};
use super::{Place, RepoError, spelling};
use crate::engine::action::Scope;
use crate::git::tree::{self, Entry, Lookup};
use crate::git::{self, GitError, index::records, unparsable};
use crate::names::RepoPath;
use crate::process::Finished;

/// More directories than this are looked at by one full look.
const DIRECTORIES: usize = 200;

/// What is known about a candidate before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Only its name: if it is new, git has to be asked whether it is ignored.
    Name,
    /// git listed it as changed or new: it is not ignored.
    Listed,
}

/// What a snapshot looks at.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The paths, and what is known of each.
    pub paths: BTreeMap<RepoPath, Known>,
    /// Repositories inside the folder, which are left alone.
    pub nested: BTreeSet<RepoPath>,
    /// Directories that could not be listed.
    pub unreadable: BTreeSet<RepoPath>,
    /// Whether the whole folder was looked at.
    pub everything: bool,
}

/// Finds the candidates of a scope.
pub fn candidates(place: &Place, scope: &Scope, head: &Lookup) -> Result<Candidates, RepoError> {
    let mut found = Candidates::default();
    let paths = match scope {
        Scope::Everything => {
            found.everything = true;
            status(place, &[], &mut found)?;
            return Ok(found);
        }
        Scope::Paths(paths) => paths,
    };
    let mut directories: Vec<&RepoPath> = Vec::new();
    for path in paths {
        if path.components().any(|name| name == b".git") {
            continue;
        }
        // What cannot be looked at is a candidate too: the filter says why.
        let on_disk = look(&place.on_disk(path)).unwrap_or(Found::Special);
        let was_directory = head.get(path)?.is_some_and(|entry| entry.is_tree());
        match on_disk {
            Found::Directory => {
                // A file of that name in HEAD has gone.
                found.paths.insert(path.clone(), Known::Name);
                directories.push(path);
            }
            Found::Missing | Found::File(_) | Found::Symlink(_) | Found::Special => {
                found.paths.insert(path.clone(), Known::Name);
                if was_directory {
                    directories.push(path);
                }
            }
        }
    }
    directories.dedup_by(|below, above| below.is_within(above));
    if directories.len() > DIRECTORIES {
        status(place, &[], &mut found)?;
    } else if !directories.is_empty() {
        status(place, &directories, &mut found)?;
    }
    Ok(found)
}

/// Runs `git status` with more settings. Returns what it wrote.
fn status_with(
    place: &Place,
    settings: &[OsString],
    below: &[&RepoPath],
) -> Result<Finished, GitError> {
    let mut command = place.git.command_with(settings, "status");
    command.args([
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=all",
        "--",
    ]);
    for path in below {
        command.arg(OsStr::from_bytes(path.as_bytes()));
    }
    git::run(&mut command, b"", git::LOCAL, "status")
}

/// Returns the settings with which no filter has to work: a file whose filter fails is then listed
/// as changed, and held when it is read, where the filter has to work as ever.
fn without_required_filters(place: &Place) -> Result<Vec<OsString>, GitError> {
    let args = [
        "-z",
        "--name-only",
        "--get-regexp",
        r"^filter\..*\.required$",
    ];
    let done = place.git.ask("config", args, b"")?;
    let keys = done.stdout.split(|b| *b == 0);
    let keys = keys.filter(|key| !key.is_empty() && !key.contains(&b'='));
    Ok(keys
        .map(|key| {
            let mut setting = OsStr::from_bytes(key).to_owned();
            setting.push("=false");
            setting
        })
        .collect())
}

/// Returns the directories of which git said that it could not list them.
fn unreadable(said: &[u8]) -> Vec<RepoPath> {
    let dir = |line: &[u8]| {
        let rest = line.strip_prefix(b"warning: could not open directory '")?;
        let at = rest.windows(3).rposition(|it| it == b"': ")?;
        RepoPath::new(rest[..at].strip_suffix(b"/").unwrap_or(&rest[..at])).ok()
    };
    said.split(|b| *b == b'\n').filter_map(dir).collect()
}

/// Asks `git status` for what differs below some directories, or in the whole folder for none.
fn status(place: &Place, below: &[&RepoPath], found: &mut Candidates) -> Result<(), RepoError> {
    let mut settings = Vec::new();
    let folds = spelling::folds(place);
    if folds {
        // Else a name whose case alone changed is the old one to git.
        settings.push(OsString::from("core.ignoreCase=false"));
    }
    let out = match status_with(place, &settings, below) {
        // A filter that has to work, and fails for one file, ends all of it.
        Err(error @ GitError::Failed { .. }) => {
            let eased = without_required_filters(place)?;
            if eased.is_empty() {
                return Err(error.into());
            }
            settings.extend(eased);
            status_with(place, &settings, below)?
        }
        out => out?,
    };
    found.unreadable.extend(unreadable(&out.stderr));
    for line in records(&out.stdout) {
        let fields = match line.first() {
            Some(b'1') => 8,
            Some(b'u') => 10,
            Some(b'?') => 1,
            Some(b'#' | b'!') => continue,
            _ => return Err(unparsable("status", line).into()),
        };
        let bad = || unparsable("status", line);
        let path = line
            .splitn(fields + 1, |b| *b == b' ')
            .nth(fields)
            .ok_or_else(bad)?;
        if let Some(nested) = path.strip_suffix(b"/") {
            found.nested.insert(RepoPath::new(nested)?);
            continue;
        }
        // Rules are read with the user's own setting.
        let known = if folds { Known::Name } else { Known::Listed };
        found.paths.insert(RepoPath::new(path)?, known);
    }
    Ok(())
}

/// Returns the files of HEAD in directories that could not be listed before and can be now.
pub(super) fn readable_again(
    folder: &mut Folder,
    head: &Lookup,
) -> Result<Vec<(RepoPath, Known)>, RepoError> {
    let place = &folder.place;
    let can_be_listed = |dir: &RepoPath| std::fs::read_dir(place.on_disk(dir)).is_ok();
    let again: Vec<RepoPath> = folder
        .unreadable
        .iter()
        .filter(|dir| can_be_listed(dir))
        .cloned()
        .collect();
    let mut files = Vec::new();
    for dir in &again {
        let Some(tree) = head.get(dir)?.filter(Entry::is_tree) else {
            continue;
        };
        for file in tree::differences(&place.objects, None, Some(tree.id))? {
            files.push((dir.join(file.path.as_bytes())?, Known::Listed));
        }
    }
    for dir in &again {
        folder.unreadable.remove(dir);
    }
    Ok(files)
}

/// Returns the files and links below a directory, but for what is in a repository of its own.
pub(super) fn files_below(place: &Place, dir: &RepoPath) -> Vec<RepoPath> {
    let mut found = Vec::new();
    let mut open = vec![dir.clone()];
    while let Some(dir) = open.pop() {
        let disk = place.on_disk(&dir);
        if filter::is_repository(&disk) {
            continue;
        }
        // What cannot be read is said when the directory itself is looked at.
        let Ok(entries) = std::fs::read_dir(&disk) else {
            continue;
        };
        for entry in entries.flatten() {
            let (Ok(path), Ok(kind)) = (
                dir.join(entry.file_name().as_encoded_bytes()),
                entry.file_type(),
            ) else {
                continue;
            };
            if kind.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}
