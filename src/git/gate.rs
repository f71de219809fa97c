//! The state gate: may the agent touch this work tree now, and did anything move meanwhile?
//!
//! The user's own git is never in a hurry for us. A rebase, merge, bisect, detached HEAD, other
//! branch, a held lock, a writing git process or an open commit editor closes the gate; the agent
//! waits and says why. [`Record`] is what must not have moved between the start of a job and its
//! last step.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::objects::Objects;
use super::refs::{self, Head};
use super::{Git, GitError};
use crate::clock;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::names::{ObjectId, escape};
use crate::process;

/// How long an open editor for a message may hold us up, measured from the start of its git and
/// from the last time that the message was saved.
const EDITOR_LIMIT: Duration = Duration::from_secs(600);

/// Subcommands that never write: they may run beside us.
const READERS: &[&str] = &[
    "annotate",
    "archive",
    "blame",
    "bugreport",
    "cat-file",
    "check-attr",
    "check-ignore",
    "count-objects",
    "describe",
    "diff",
    "diff-files",
    "diff-index",
    "diff-tree",
    "fetch",
    "fetch-pack",
    "for-each-ref",
    "fsck",
    "fsmonitor--daemon",
    "gc",
    "grep",
    "hash-object",
    "help",
    "index-pack",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "maintenance",
    "merge-base",
    "merge-tree",
    "name-rev",
    "pack-objects",
    "prune",
    "push",
    "receive-pack",
    "reflog",
    "remote",
    "repack",
    "rev-list",
    "rev-parse",
    "send-pack",
    "shortlog",
    "show",
    "show-ref",
    "status",
    "upload-pack",
    "var",
    "version",
    "whatchanged",
];

/// Identity of a file's content as far as a stat can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Modification time in nanoseconds since 1970.
    pub mtime: i128,
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
}

impl Stamp {
    /// Reads the stamp of a file, without following a link; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path)
            .ok()
            .map(|meta| Self::from_metadata(&meta))
    }

    /// Returns the stamp in a file's metadata.
    pub fn from_metadata(meta: &fs::Metadata) -> Self {
        Self {
            mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            size: meta.size(),
            inode: meta.ino(),
        }
    }
}

/// What must not move while a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What HEAD is.
    pub head: Head,
    /// The branch's commit; `None` while it is unborn.
    pub tip: Option<ObjectId>,
    /// The index file.
    pub index: Option<Stamp>,
}

/// Takes the record of a work tree.
pub fn record(git: &Git, objects: &Objects, branch: &str) -> Result<Record, GitError> {
    Ok(Record {
        head: refs::head(git)?,
        tip: refs::read(git, objects, &format!("refs/heads/{branch}"))?,
        index: Stamp::of(&git.dir().join("index")),
    })
}

/// Returns the locks of git that exist now: of the index, of HEAD, of the branch.
pub fn locks(git: &Git, branch: &str) -> Vec<PathBuf> {
    let all = [
        git.dir().join("index.lock"),
        git.dir().join("HEAD.lock"),
        git.common_dir().join(format!("refs/heads/{branch}.lock")),
        git.common_dir().join("reftable/tables.list.lock"),
    ];
    all.into_iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

fn pause(code: Code, what: &str, hint: &str) -> Trouble {
    Trouble::new(code, Recovery::Pause, format!("waiting: {what}"), hint)
}

/// Returns which operation of the user is in the middle, `None` if none is.
pub fn in_progress(git: &Git) -> Option<Trouble> {
    let has = |name: &str| git.dir().join(name).symlink_metadata().is_ok();
    if has("rebase-merge") || has("rebase-apply") {
        let hint = "Finish it with `git rebase --continue` or `--abort`.";
        return Some(pause(Code::Rebase, "a rebase is in progress", hint));
    }
    if has("MERGE_HEAD") {
        let hint = "Finish it with `git commit` or `git merge --abort`.";
        return Some(pause(Code::Merge, "a merge is in progress", hint));
    }
    if has("CHERRY_PICK_HEAD") {
        let hint = "Finish it with `git cherry-pick --continue` or `--abort`.";
        return Some(pause(
            Code::CherryPick,
            "a cherry-pick is in progress",
            hint,
        ));
    }
    if has("REVERT_HEAD") {
        let hint = "Finish it with `git revert --continue` or `--abort`.";
        return Some(pause(Code::Revert, "a revert is in progress", hint));
    }
    if has("BISECT_LOG") {
        return Some(pause(
            Code::Bisect,
            "a bisect is in progress",
            "Finish it with `git bisect reset`.",
        ));
    }
    None
}

/// Returns why the agent must not touch the work tree now, `None` if it may.
pub fn closed(git: &Git, branch: &str) -> Result<Option<Trouble>, GitError> {
    if let Some(trouble) = in_progress(git) {
        return Ok(Some(trouble));
    }
    let hint = format!("Go back with `git switch {branch}`.");
    match refs::head(git)? {
        Head::Detached(_) => return Ok(Some(pause(Code::Detached, "HEAD is detached", &hint))),
        Head::Branch(name) if name != format!("refs/heads/{branch}") => {
            let other = name.strip_prefix("refs/heads/").unwrap_or(&name);
            return Ok(Some(pause(
                Code::OtherBranch,
                &format!("HEAD is on branch `{other}`"),
                &hint,
            )));
        }
        Head::Branch(_) => {}
    }
    Ok(at_work(git, branch))
}

/// Returns who else is writing here right now: a holder of a lock, or a writing git process.
///
/// An editor for a message counts for ten minutes only; a hook, and everything else, as long as it
/// runs.
pub fn at_work(git: &Git, branch: &str) -> Option<Trouble> {
    at_work_at(git, branch, clock::now(), clock::wall_seconds())
}

/// As [`at_work`], at a moment and a wall time (seconds since 1970) of the caller's.
pub fn at_work_at(git: &Git, branch: &str, now: Moment, wall: i64) -> Option<Trouble> {
    if let Some(lock) = locks(git, branch).first() {
        let name = lock
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let path = escape(lock.as_os_str().as_encoded_bytes());
        return Some(pause(
            Code::GitBusy,
            &format!("another git holds `{name}`"),
            &format!("If no git is at work here any more, remove `{path}`."),
        ));
    }
    let counts = |writer: &Writer| !is_forgotten_editor(git, writer, now, wall);
    let writer = foreign_writers(git).into_iter().find(counts)?;
    let what = format!(
        "`git {}` (pid {}) is at work here",
        writer.command, writer.pid
    );
    Some(pause(Code::GitBusy, &what, ""))
}

/// A git process of somebody else that may write here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its process id.
    pub pid: i32,
    /// Its subcommand.
    pub command: String,
}

/// Returns the live git processes of somebody else that write in this work tree.
pub fn foreign_writers(git: &Git) -> Vec<Writer> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(comm) = fs::read(format!("/proc/{pid}/comm")) else {
            continue;
        };
        if !comm.starts_with(b"git") || process::is_ours(pid) {
            continue;
        }
        let Ok(cwd) = fs::read_link(format!("/proc/{pid}/cwd")) else {
            continue;
        };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let names_us = words.iter().any(|word| {
            word.strip_prefix(b"--work-tree=")
                .or(word.strip_prefix(b"--git-dir="))
                .unwrap_or(word)
                == git.tree().as_os_str().as_bytes()
        });
        if !cwd.starts_with(git.tree()) && !cwd.starts_with(git.dir()) && !names_us {
            continue;
        }
        let Some(command) = subcommand(&words) else {
            continue;
        };
        if !READERS.contains(&command.as_str()) {
            found.push(Writer { pid, command });
        }
    }
    found
}

/// Returns the subcommand in git's argument vector.
fn subcommand(words: &[&[u8]]) -> Option<String> {
    let program = words.first()?.rsplit(|b| *b == b'/').next()?;
    if let Some(name) = program.strip_prefix(b"git-") {
        return Some(String::from_utf8_lossy(name).into_owned());
    }
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match *word {
            b"-c" | b"-C" | b"--git-dir" | b"--work-tree" | b"--namespace" | b"--exec-path"
            | b"--config-env" => {
                rest.next();
            }
            word if word.starts_with(b"-") => {}
            b"" => return None,
            word => return Some(String::from_utf8_lossy(word).into_owned()),
        }
    }
    None
}

/// The message that a subcommand opens an editor for, in the git directory.
const MESSAGES: &[(&str, &str)] = &[
    ("commit", "COMMIT_EDITMSG"),
    ("revert", "COMMIT_EDITMSG"),
    ("cherry-pick", "COMMIT_EDITMSG"),
    ("merge", "MERGE_MSG"),
    ("pull", "MERGE_MSG"),
    ("tag", "TAG_EDITMSG"),
    ("notes", "NOTES_EDITMSG"),
    ("branch", "EDIT_DESCRIPTION"),
];

/// Returns whether a git only waits for an editor that somebody forgot: it wrote the message for
/// the editor after it had started (before that it runs hooks), and nothing happened since.
fn is_forgotten_editor(git: &Git, writer: &Writer, now: Moment, wall: i64) -> bool {
    let message = MESSAGES.iter().find(|(name, _)| *name == writer.command);
    let Some((_, message)) = message else {
        return false;
    };
    let Ok(meta) = fs::metadata(git.dir().join(message)) else {
        return false;
    };
    let Some(started) = process::started(writer.pid) else {
        // It has ended: the next look knows more.
        return false;
    };
    let running = now.since(started);
    // Both clocks are read in coarse steps; a second more or less decides nothing here.
    let saved = u64::try_from(wall.saturating_sub(meta.mtime())).unwrap_or(0);
    let saved = Duration::from_secs(saved);
    saved <= running + Duration::from_secs(1) && running >= EDITOR_LIMIT && saved >= EDITOR_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subcommand_is_found_behind_options() {
        let words = |text: &'static str| text.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        let sub = |text| subcommand(&words(text));
        assert_eq!(sub("git commit -m x").as_deref(), Some("commit"));
        assert_eq!(
            sub("/usr/bin/git -c a=b -C /x --no-pager log").as_deref(),
            Some("log")
        );
        assert_eq!(
            sub("/usr/lib/git-core/git-merge x").as_deref(),
            Some("merge")
        );
        assert_eq!(sub("git"), None);
    }
}
