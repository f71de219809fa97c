//! What git and the hub said, made into one sentence and something to do.

use std::io;
use std::path::Path;

use super::Remote;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::status::Progress;
use crate::git::refusal;
use crate::names::{ObjectId, escape};

/// How much of a child's words is kept, in bytes.
const WORDS_LIMIT: usize = 64 * 1024;
/// How much of a hook's words a person is shown, in characters.
const HOOK_LIMIT: usize = 400;

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The hub's branch is now this commit.
    Done,
    /// Somebody else was first.
    Behind,
    /// It was refused or failed.
    Refused(Trouble),
}

/// Splits standard error into words and progress as it comes.
pub(super) struct Listener<'a> {
    what: &'a str,
    progress: &'a dyn Fn(Progress),
    line: Vec<u8>,
    words: String,
}

impl<'a> Listener<'a> {
    pub(super) fn new(what: &'a str, progress: &'a dyn Fn(Progress)) -> Self {
        let (line, words) = (Vec::new(), String::new());
        Self {
            what,
            progress,
            line,
            words,
        }
    }

    /// Takes the next piece.
    pub(super) fn hear(&mut self, piece: &[u8]) {
        for byte in piece {
            if matches!(byte, b'\n' | b'\r') {
                self.end_line();
            } else if self.line.len() < WORDS_LIMIT {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // The hub erases the rest of a line on a terminal that we do not have.
        let text = String::from_utf8_lossy(&line).replace("\u{1b}[K", "");
        let text = text.trim_end();
        if let Some(progress) = progress_of(self.what, text) {
            (self.progress)(progress);
        } else if !text.is_empty() && self.words.len() < WORDS_LIMIT {
            self.words.push_str(text);
            self.words.push('\n');
        }
    }

    /// Returns all words that were no progress, a line each.
    pub(super) fn finish(mut self) -> String {
        self.end_line();
        self.words
    }
}

/// Reads `Writing objects:  45% (9/20), 1.2 MiB | ...`, also behind `remote: `.
fn progress_of(what: &str, line: &str) -> Option<Progress> {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    let (_, rest) = line.split_once(':')?;
    let rest = rest.trim_start();
    if let Some((percent, rest)) = rest.split_once("% (") {
        percent.parse::<u8>().ok()?;
        let (done, rest) = rest.split_once('/')?;
        let (total, _) = rest.split_once(')')?;
        return Some(Progress {
            what: what.to_owned(),
            done: done.parse().ok()?,
            total: total.parse().ok()?,
            unit: "objects".to_owned(),
        });
    }
    let number = rest.split([',', ' ']).next()?;
    Some(Progress {
        what: what.to_owned(),
        done: number.parse().ok()?,
        total: 0,
        unit: "objects".to_owned(),
    })
}

/// Reads what `git push --porcelain` left.
pub(super) fn verdict(
    remote: &Remote,
    branch: &str,
    success: bool,
    stdout: &[u8],
    words: &str,
) -> Verdict {
    let text = String::from_utf8_lossy(stdout).into_owned();
    let line = text.lines().find_map(|line| {
        let mut parts = line.split('\t');
        let (flag, refs, summary) = (parts.next()?, parts.next()?, parts.next()?);
        (refs.rsplit_once(':')?.1 == branch).then(|| (flag.to_owned(), summary.to_owned()))
    });
    match line {
        Some((flag, _)) if flag != "!" && success => Verdict::Done,
        Some((flag, summary)) if flag == "!" => refusal(remote, &summary, words),
        Some(_) | None => Verdict::Refused(refusal::trouble(&remote.public, words)),
    }
}

fn refusal(remote: &Remote, summary: &str, words: &str) -> Verdict {
    let has = |text: &str| summary.contains(text);
    // Another push holds the branch for a moment, or moved it after we looked.
    let contended = has("cannot lock ref")
        || has("failed to lock")
        || has("failed to update ref")
        || has("incorrect old value")
        || has("reference already exists");
    let behind = has("fetch first")
        || has("non-fast-forward")
        || has("stale info")
        || has("needs force")
        || has("already exists")
        || has("remote ref updated since checkout");
    let broken = words.contains("No space left on device")
        || words.contains("Disk quota exceeded")
        || words.contains("Read-only file system")
        || words.contains("Permission denied")
        || words.contains("insufficient permission");
    if behind || (contended && !broken) {
        return Verdict::Behind;
    }
    if has("unpacker error") || has("remote failed to report status") || contended {
        return Verdict::Refused(refusal::trouble(&remote.public, words));
    }
    let why = hook_words(words);
    let reason = summary
        .split_once('(')
        .map_or(summary, |(_, rest)| rest.trim_end_matches(')'));
    let reason = escape(reason.as_bytes());
    let message = if why.is_empty() {
        format!("the hub refused the push: {reason}")
    } else {
        format!("the hub refused the push ({reason}): {why}")
    };
    let hint = if has("checked out") {
        "Use a bare repository as the hub, or check out another branch in it."
    } else {
        "Change what it objects to, or ask whoever runs the hub; the commits stay here meanwhile."
    };
    Verdict::Refused(Trouble::new(Code::Declined, Recovery::Hold, message, hint))
}

/// Returns what the hub's hooks said, as one line for a person.
fn hook_words(words: &str) -> String {
    let lines: Vec<&str> = words
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let all: String = lines.join("; ").chars().take(HOOK_LIMIT).collect();
    escape(all.as_bytes())
}

/// The trouble of a path at which there is no repository: never made there, not mounted now, or
/// hidden from us.
pub(super) fn no_directory(remote: &Remote, path: &Path) -> Trouble {
    if let Err(error) = path.join("HEAD").symlink_metadata()
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return refusal::trouble(&remote.public, "Permission denied");
    }
    Trouble::new(
        Code::HubMissing,
        Recovery::Retry,
        format!("there is no repository at {}", remote.public),
        "Check the address; if it is on a disk that is not plugged in, plug it in; syncing goes on by itself.",
    )
}

/// The trouble of a child that was stopped.
pub(super) fn stalled(what: &str) -> Trouble {
    Trouble::new(
        Code::Stalled,
        Recovery::Retry,
        format!("the {what} made no progress for a minute and was stopped"),
        "It is tried again by itself; if it goes on, look whether the hub's machine hangs.",
    )
}

/// The trouble of a hub whose branch lost commits that it had.
pub(super) fn rewritten(remote: &Remote, last: ObjectId, tip: ObjectId) -> Trouble {
    Trouble::new(
        Code::HistoryRewritten,
        Recovery::Hold,
        format!(
            "the history of the hub {} was rewritten: {} is no longer part of {}",
            remote.public,
            last.short(),
            tip.short()
        ),
        "If that was meant, run `autosync approve`: both histories are then merged, nothing is lost.",
    )
}
