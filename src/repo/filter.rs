//! Step S2: which candidates a snapshot may take, each with an outcome of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Place, RepoError, Settings, spelling};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::git::index::records;
use crate::git::{self, GitError};
use crate::names::RepoPath;

/// With more paths than this, attributes are asked of the program in one go.
const FEW: usize = 32;

/// The attributes that change what git stores for a file.
pub const ATTRIBUTES: &[&str] = &[
    "filter",
    "text",
    "eol",
    "crlf",
    "ident",
    "working-tree-encoding",
];

/// What stands in the directories above a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Above {
    /// Directories of this folder, or nothing yet.
    Ours,
    /// One of them is not there, or cannot hold anything.
    Missing,
    /// One of them is a symbolic link: what is behind it is not in this folder.
    Symlink(RepoPath),
    /// One of them is a repository of its own.
    Nested(RepoPath),
    /// One of them cannot be read.
    Unreadable(RepoPath),
}

/// Looks at the directories above paths, each only once.
#[derive(Debug, Default)]
pub struct Parents {
    seen: BTreeMap<RepoPath, Above>,
}

impl Parents {
    /// Returns what stands above a path.
    pub fn above(&mut self, place: &Place, path: &RepoPath) -> Above {
        let Some(parent) = path.parent() else {
            return Above::Ours;
        };
        if let Some(known) = self.seen.get(&parent) {
            return known.clone();
        }
        let above = match self.above(place, &parent) {
            Above::Ours => Self::look(place, &parent),
            blocked @ (Above::Missing
            | Above::Symlink(_)
            | Above::Nested(_)
            | Above::Unreadable(_)) => blocked,
        };
        self.seen.insert(parent, above.clone());
        above
    }

    fn look(place: &Place, dir: &RepoPath) -> Above {
        let disk = place.on_disk(dir);
        let meta = match fs::symlink_metadata(&disk) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Above::Missing,
            Err(_) => return Above::Unreadable(dir.clone()),
        };
        if meta.is_symlink() {
            return Above::Symlink(dir.clone());
        }
        if !meta.is_dir() {
            return Above::Missing;
        }
        if !spelling::directory_is_so(place, dir) {
            return Above::Missing;
        }
        if disk.join(".git").symlink_metadata().is_ok() {
            return Above::Nested(dir.clone());
        }
        Above::Ours
    }
}

/// Returns whether the nearest directory above a missing path can be listed: only then its
/// absence means that somebody deleted it.
pub fn absence_is_certain(place: &Place, path: &RepoPath) -> bool {
    for dir in path.ancestors() {
        match fs::read_dir(place.on_disk(&dir)) {
            Ok(mut entries) => return entries.all(|entry| entry.is_ok()),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::NotADirectory => {}
            Err(_) => return false,
        }
    }
    fs::read_dir(place.root()).is_ok()
}

/// The patterns of the configuration.
#[derive(Debug)]
pub struct Patterns {
    exclude: Gitignore,
    only: Option<Gitignore>,
}

impl Patterns {
    /// Reads the patterns. Errors with the pattern that is none.
    pub fn new(settings: &Settings) -> Result<Self, RepoError> {
        let build = |patterns: &[String]| {
            let mut builder = GitignoreBuilder::new("");
            for pattern in patterns {
                builder
                    .add_line(None, pattern)
                    .map_err(|error| bad_pattern(pattern, &error))?;
            }
            builder.build().map_err(|error| bad_pattern("", &error))
        };
        let only = match settings.only.as_slice() {
            [] => None,
            some => Some(build(some)?),
        };
        Ok(Self {
            exclude: build(&settings.exclude)?,
            only,
        })
    }

    /// Returns whether a path is ours at all.
    pub fn take(&self, path: &RepoPath) -> bool {
        let hit = |rules: &Gitignore| {
            rules
                .matched_path_or_any_parents(path.as_path(), false)
                .is_ignore()
        };
        !hit(&self.exclude) && self.only.as_ref().is_none_or(hit)
    }
}

fn bad_pattern(pattern: &str, error: &ignore::Error) -> RepoError {
    RepoError::Blocked(Trouble::new(
        Code::Internal,
        Recovery::Hold,
        format!("`{pattern}` is no pattern: {error}"),
        "Correct `exclude` or `only` in the configuration.",
    ))
}

/// Returns the attributes that are set, with their values; `None` if the library cannot say, as
/// with a split or a sparse index, which it does not read.
fn by_library(
    repo: &git2::Repository,
    paths: &[&RepoPath],
) -> Option<Vec<(RepoPath, &'static str, String)>> {
    let mut found = Vec::new();
    for path in paths {
        for name in ATTRIBUTES {
            let flags = git2::AttrCheckFlags::FILE_THEN_INDEX;
            let value = match repo.get_attr_bytes(path.as_path(), name, flags) {
                Ok(value) => git2::AttrValue::from_bytes(value),
                Err(error) => {
                    tracing::debug!(%error, "attributes are asked of the program");
                    return None;
                }
            };
            let text = match value {
                git2::AttrValue::Unspecified | git2::AttrValue::False => continue,
                git2::AttrValue::True => "",
                git2::AttrValue::String(text) => text,
                git2::AttrValue::Bytes(_) => "?",
            };
            found.push(((*path).clone(), *name, text.to_owned()));
        }
    }
    Some(found)
}

/// Returns which of these paths git ignores. None of them may be tracked.
pub fn ignored(place: &Place, paths: &[&RepoPath]) -> Result<BTreeSet<RepoPath>, RepoError> {
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    ask_ignored(place.git.command("check-ignore"), paths)
}

/// Asks a `git check-ignore` about paths. None of them may lie behind a symbolic link.
pub fn ask_ignored(
    mut command: Command,
    paths: &[&RepoPath],
) -> Result<BTreeSet<RepoPath>, RepoError> {
    // It refuses literal pathspecs, and reads a leading colon as magic.
    let input: Vec<u8> = paths
        .iter()
        .flat_map(|path| [b"./", path.as_bytes(), b"\0"].concat())
        .collect();
    command
        .env_remove("GIT_LITERAL_PATHSPECS")
        .args(["-z", "--stdin", "--no-index"]);
    let done = git::run_any(&mut command, &input, git::LOCAL, "check-ignore")?;
    match done.status.code() {
        Some(0 | 1) => {}
        _ => return Err(git::failed("check-ignore", &done).into()),
    }
    Ok(records(&done.stdout)
        .map(|path| RepoPath::new(path.strip_prefix(b"./").unwrap_or(path)))
        .collect::<Result<_, _>>()?)
}

/// How git stores a file of some path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Byte for byte.
    Plain,
    /// Converted on the way, so that the program has to store it.
    Converted,
    /// By a filter that this host does not have.
    Unknown(String),
}

/// What git's configuration says about storing files.
#[derive(Debug)]
pub struct Storage {
    /// Every file may be converted (`core.autocrlf` and its kin are set).
    convert_all: bool,
    /// The disk's executable bits are trusted (`core.fileMode`).
    pub trust_mode: bool,
}

impl Storage {
    /// Reads the configuration.
    pub fn read(place: &Place) -> Result<Self, RepoError> {
        let get = |key: &str| -> Result<Option<String>, RepoError> {
            match place.objects.library() {
                Some(repo) => match repo.config()?.snapshot()?.get_string(key) {
                    Ok(value) => Ok(Some(value)),
                    Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                },
                None => Ok(place.git.config(key)?),
            }
        };
        let off = |value: Option<String>| value.is_none_or(|v| v.eq_ignore_ascii_case("false"));
        Ok(Self {
            convert_all: !(off(get("core.autocrlf")?) && get("core.eol")?.is_none()),
            trust_mode: !get("core.fileMode")?.is_some_and(|v| v.eq_ignore_ascii_case("false")),
        })
    }

    /// Returns how git stores the files of these paths; paths that are not listed are plain.
    pub fn forms(
        &self,
        place: &Place,
        paths: &[&RepoPath],
    ) -> Result<BTreeMap<RepoPath, Form>, RepoError> {
        let mut filters: BTreeMap<String, bool> = BTreeMap::new();
        let mut found: BTreeMap<RepoPath, Form> = BTreeMap::new();
        let mut note = |path: &RepoPath, name: &str, value: &str| -> Result<(), RepoError> {
            if name != "filter" {
                found.entry(path.clone()).or_insert(Form::Converted);
                return Ok(());
            }
            let known = if let Some(known) = filters.get(value) {
                *known
            } else {
                let known = has_filter(place, value)?;
                filters.insert(value.to_owned(), known);
                known
            };
            let form = if known {
                Form::Converted
            } else {
                Form::Unknown(value.to_owned())
            };
            found.insert(path.clone(), form);
            Ok(())
        };
        let few = match place.objects.library() {
            Some(repo) if paths.len() <= FEW => by_library(repo, paths),
            Some(_) | None => None,
        };
        if let Some(values) = few {
            for (path, name, value) in values {
                note(&path, name, &value)?;
            }
        } else {
            let args = ["-z", "--stdin"].iter().chain(ATTRIBUTES);
            let out = place.git.call("check-attr", args, &nul_separated(paths))?;
            let mut parts = out.split(|b| *b == 0);
            while let (Some(path), Some(name), Some(value)) =
                (parts.next(), parts.next(), parts.next())
            {
                if value != b"unspecified" && value != b"unset" {
                    let name = String::from_utf8_lossy(name);
                    note(
                        &RepoPath::new(path)?,
                        &name,
                        &String::from_utf8_lossy(value),
                    )?;
                }
            }
        }
        if self.convert_all {
            for path in paths {
                found.entry((*path).clone()).or_insert(Form::Converted);
            }
        }
        Ok(found)
    }
}

fn has_filter(place: &Place, name: &str) -> Result<bool, GitError> {
    Ok(place.git.config(&format!("filter.{name}.clean"))?.is_some()
        || place
            .git
            .config(&format!("filter.{name}.process"))?
            .is_some())
}

/// Returns paths as the `-z --stdin` form of git's commands.
pub fn nul_separated(paths: &[&RepoPath]) -> Vec<u8> {
    paths
        .iter()
        .flat_map(|path| path.as_bytes().iter().copied().chain([0]))
        .collect()
}

/// Returns a path as an argument.
pub fn argument(path: &RepoPath) -> &OsStr {
    OsStr::from_bytes(path.as_bytes())
}

/// Returns whether a directory is a repository of its own.
pub fn is_repository(dir: &Path) -> bool {
    dir.join(".git").symlink_metadata().is_ok()
}
