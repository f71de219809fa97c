//! The repository of a folder: opened as it is, or made where there is none.
//!
//! Invariants:
//! 1. What stands where the repository should be and is none is left as it is and said: it may be all
//!    that is left of one.
//! 2. Only what a making that was cut off leaves is finished: what git makes of a new repository, in
//!    which nothing was stored yet. If it was ours a mark is in it, and then git's locks in it go, too.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::prepare::{git_complaint, hub_branch, not_alone, show, unreadable};
use crate::config::FolderSettings;
use crate::engine::event::Code;
use crate::error::{Complaint, Exit};
use crate::git::{self, Git, GitError};
use crate::lock::Lock;

/// The branch of repositories that we make.
const BRANCH: &str = "main";
/// Our directory in a repository, and what is locked in it while the repository is being made.
const STORE: &str = "autosync";
const BEGUN: &str = "begun";
/// How the file begins that names a repository elsewhere.
const LINK: &[u8] = b"gitdir: ";

/// Opens the repository, or makes one. Returns whether it had to be made.
pub(super) fn open_repository(
    root: &Path,
    folder: &FolderSettings,
    hub: Option<&str>,
    may: bool,
) -> Result<(Git, bool), Complaint> {
    let place = folder.git_dir.clone();
    let place = place.unwrap_or_else(|| root.join(".git"));
    match Git::discover(root, folder.git_dir.as_deref()) {
        Ok(git) => {
            // Of a making that was cut off at its very end.
            drop(fs::remove_file(git.dir().join(STORE).join(BEGUN)));
            Ok((git, false))
        }
        Err(GitError::NoRepository(_)) => {
            check(root, &place)?;
            // One elsewhere is a person's own matter.
            if may && folder.git_dir.is_none() {
                make(root, &place, folder.branch.clone(), hub)
            } else {
                Err(Complaint::new(
                    Exit::NoRepository,
                    format!("`{}` is no git repository", show(root)),
                    format!("Make it one with `autosync init {}`.", show(root)),
                )
                .of(Code::NoRepository))
            }
        }
        Err(error) => {
            if place.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                check(root, &place)?;
            }
            Err(git_complaint(error))
        }
    }
}

/// Errors if something stands where a repository is to be made that is none, nor the beginning of
/// one.
fn check(root: &Path, place: &Path) -> Result<(), Complaint> {
    let meta = match place.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(place, &error)),
    };
    if meta.is_dir() && is_unfinished(place).map_err(|error| unreadable(place, &error))? {
        return Ok(());
    }
    let anew = format!(
        "to begin anew, move `{}` away and run `autosync init {}`. Nothing was changed.",
        show(place),
        show(root)
    );
    let (message, hint) = if let Some(target) = target(place) {
        (
            format!(
                "`{}` points to `{}`, where no git repository is",
                show(place),
                show(&target)
            ),
            format!("Put it back or mount its disk; {anew}"),
        )
    } else if place.join("objects").is_dir() && place.join("HEAD").symlink_metadata().is_err() {
        let head = place.join("HEAD");
        (
            format!(
                "the repository `{}` is damaged: it has no `HEAD`",
                show(place)
            ),
            format!(
                "Write it again, `echo 'ref: refs/heads/{BRANCH}' > {}` if that was its branch; {anew}",
                show(&head)
            ),
        )
    } else {
        (
            format!("`{}` is there and is no git repository", show(place)),
            format!("Put back what belongs there; {anew}"),
        )
    };
    Err(Complaint::new(Exit::NoRepository, message, hint).of(Code::NoRepository))
}

/// Returns where a link of either kind leads that stands in a repository's place.
fn target(place: &Path) -> Option<PathBuf> {
    if let Ok(target) = fs::read_link(place) {
        return Some(place.parent()?.join(target));
    }
    let is_short = |meta: fs::Metadata| meta.is_file() && meta.len() < 8192;
    if !place.symlink_metadata().is_ok_and(is_short) {
        return None;
    }
    let text = fs::read(place).ok()?;
    let target = text.strip_prefix(LINK)?.trim_ascii_end();
    Some(place.parent()?.join(std::ffi::OsStr::from_bytes(target)))
}

/// Returns whether a directory is what a making that was cut off leaves: nothing is stored in it.
fn is_unfinished(dir: &Path) -> io::Result<bool> {
    let is_ours = dir.join(STORE).join(BEGUN).symlink_metadata().is_ok();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_of_it = match name.as_bytes() {
            b"HEAD" | b"config" | b"description" => entry.file_type()?.is_file(),
            b"branches" | b"hooks" | b"info" => entry.file_type()?.is_dir(),
            b"objects" => has_no_file(&entry.path())?,
            b"refs" => is_ours || has_no_file(&entry.path())?,
            b"HEAD.lock" | b"config.lock" | b"reftable" => is_ours,
            name if name == STORE.as_bytes() => {
                let mut names = fs::read_dir(entry.path())?;
                names.all(|entry| entry.is_ok_and(|entry| entry.file_name() == BEGUN))
            }
            // With a name of this form git finds out what the disk can do.
            name => is_ours && name.len() == 7 && name[0] == b't',
        };
        if !is_of_it {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether there are only directories below a directory.
fn has_no_file(dir: &Path) -> io::Result<bool> {
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                return Ok(false);
            }
            rest.push(entry.path());
        }
    }
    Ok(true)
}

/// Makes a repository in the folder, or finishes one.
fn make(
    root: &Path,
    place: &Path,
    branch: Option<String>,
    hub: Option<&str>,
) -> Result<(Git, bool), Complaint> {
    let branch = branch.or_else(|| hub.and_then(|hub| hub_branch(root, hub)));
    let branch = branch.unwrap_or_else(|| BRANCH.to_owned());
    let denied = |error: &io::Error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            closed(root)
        } else {
            unreadable(place, error)
        }
    };
    let is_new = place.symlink_metadata().is_err();
    let store = place.join(STORE);
    fs::create_dir_all(place).map_err(|error| denied(&error))?;
    match DirBuilder::new().mode(0o700).create(&store) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(denied(&error)),
        Ok(()) | Err(_) => {}
    }
    let begun = store.join(BEGUN);
    let was_begun = begun.symlink_metadata().is_ok();
    let mark = Lock::acquire(&begun).map_err(|error| not_alone(error, root))?;
    if let Ok(git) = Git::discover(root, None) {
        // Another start was faster.
        return Ok((git, false));
    }
    if was_begun {
        // Who made them is dead, or the mark would be locked.
        for name in ["HEAD.lock", "config.lock"] {
            drop(fs::remove_file(place.join(name)));
        }
    }
    let mut command = git::bare_command();
    command.args(["init", "-q", "--template=", "-b", &branch, "--"]);
    command.arg(root);
    let made = git::run(&mut command, b"", git::LOCAL, "init");
    drop(fs::remove_file(&begun));
    drop(mark);
    if let Err(error) = made {
        if is_new {
            // Only while they are empty.
            drop(fs::remove_dir(&store));
            drop(fs::remove_dir(place));
        }
        return Err(if error.to_string().contains("Permission denied") {
            closed(root)
        } else {
            git_complaint(error)
        });
    }
    let git = Git::discover(root, None).map_err(git_complaint)?;
    Ok((git, true))
}

fn closed(root: &Path) -> Complaint {
    Complaint::new(
        Exit::Failed,
        format!("this user may not write in `{}`", show(root)),
        "Choose another directory, or let it belong to this user.",
    )
}
