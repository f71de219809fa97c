//! A person wants something back: undo, redo, restore.
//!
//! The answer is only known at the edge, which has the log of operations. The engine decides when:
//! after everything that waited was committed, so that nothing of it can be lost, and never while a
//! merge is about to be applied.
//!
//! Invariants:
//! 1. Every question is answered, also if nothing can be done now.
//! 2. What comes back is a commit like any other: it is pushed and announced by the usual rules.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::action::{Action, Job, Tell, Trigger};
use super::event::{Applied, Code, Committed, Recovery, Trouble};
use super::lanes::TreeWork;
use super::timer::{Moment, Site};
use super::{Engine, receiving};
use crate::names::RepoPath;

/// So many questions wait at once.
const MOST: usize = 16;

/// What a person wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// What.
    pub wanted: Wanted,
    /// Only say what it would do.
    pub dry_run: bool,
    /// Nobody else is told: only this disk goes back.
    pub only_here: bool,
    /// A person said that very many files may be deleted.
    pub approved: bool,
}

/// Which state is wanted back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// That before an operation: its number, or a commit; the newest that is not undone if `None`.
    Undo(Option<String>),
    /// That before the last undo.
    Redo,
    /// An older one of a path.
    Restore {
        /// The file or directory; `None` is the whole folder.
        path: Option<RepoPath>,
        /// Of when; the newest that is another than now if `None`.
        at: Option<At>,
    },
}

/// A point of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// A wall time, in seconds since 1970.
    Seconds(i64),
    /// A commit, in any words that git understands.
    Commit(String),
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// It gets another content.
    Change,
    /// It comes back.
    Create,
    /// It goes.
    Remove,
    /// A version comes to stand beside it, because it was changed since.
    Copy,
}

/// A path and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The path.
    pub path: String,
    /// What becomes of it.
    pub what: Deed,
}

/// What is done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// What, in words: `undo 17: edited notes/todo.txt`.
    pub what: String,
    /// The operation that it is about, as `undo` takes it; empty for a restore.
    pub operation: String,
    /// When that was, or of when the restored version is: RFC 3339; empty if unknown.
    pub when: String,
    /// The commit whose version a restore takes, as `--at` takes it; empty for others.
    pub from: String,
    /// What becomes of which path: the first thousand.
    pub changes: Vec<Change>,
    /// How many more there are.
    pub more: usize,
    /// How many files go.
    pub removed: usize,
    /// Whether that is so many that a person has to say that it is right.
    pub needs_approval: bool,
    /// Whether only this disk goes back.
    pub only_here: bool,
    /// Whether it is done.
    pub done: bool,
    /// Paths that somebody saved in that very moment: they are merged with it.
    pub kept: Vec<String>,
}

/// An operation as it is listed. Its form is kept from version to version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number on this host.
    pub operation: u64,
    /// What kind, in a word.
    pub kind: String,
    /// When, RFC 3339.
    pub at: String,
    /// The host that it came from.
    pub host: String,
    /// What it was, in words.
    pub what: String,
    /// Whether it was taken back.
    pub undone: bool,
    /// The number of the operation that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// Whether it was for this host alone.
    pub only_here: bool,
    /// The branch after it.
    pub commit: Option<String>,
    /// The branch before it.
    pub before: Option<String>,
    /// The paths that it changed: the first of them.
    pub paths: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// A version of a path as it is listed. Its form is kept from version to version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionListed {
    /// When it came, RFC 3339.
    pub at: String,
    /// The commit that has it, as `--at` takes it; none for what is held back.
    pub commit: Option<String>,
    /// What the commit says, or why it is in none.
    pub what: String,
    /// Whether that is how it is now.
    pub is_now: bool,
    /// Whether there is nothing: it was deleted.
    pub is_deleted: bool,
    /// Whether it only lies among the files that made room.
    pub displaced: bool,
}

/// What came of a recall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// The answer.
    pub answer: Result<Answer, Trouble>,
    /// The commit that was made.
    pub committed: Option<Committed>,
    /// What its apply did, if one was begun.
    pub applied: Option<Applied>,
}

/// The questions that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Recalls {
    waiting: VecDeque<(u64, Recall)>,
}

impl Engine {
    /// Takes what a person wants. Everything is looked at first.
    pub(super) fn on_recall(&mut self, ticket: u64, recall: Recall) {
        if let Some(why) = self.no_recall() {
            self.answer(ticket, Err(why));
            return;
        }
        self.retry_at_once(&[Site::Snapshot, Site::Receive], false);
        self.want_scan(Trigger::Asked);
        self.recalls.waiting.push_back((ticket, recall));
    }

    fn no_recall(&self) -> Option<Trouble> {
        let because =
            |code, message, hint| Some(Trouble::new(code, Recovery::Pause, message, hint));
        if self.stopping {
            because(Code::Internal, "the agent is stopping", "")
        } else if self.paused {
            let hint = "Run `autosync resume` first.";
            because(Code::Paused, "the folder is paused as you asked", hint)
        } else if self.recalls.waiting.len() >= MOST {
            let hint = "Wait for them.";
            because(Code::Internal, "too many of these are waiting", hint)
        } else {
            None
        }
    }

    fn answer(&mut self, ticket: u64, answer: Result<Answer, Trouble>) {
        self.actions.push_back(Action::Answer { ticket, answer });
    }

    /// Whether somebody waits for an answer.
    pub(super) fn has_recalls(&self) -> bool {
        !self.recalls.waiting.is_empty()
    }

    /// Refuses those that wait, if the folder does nothing from now on.
    pub(super) fn recalls_end(&mut self) {
        if let Some(why) = self.no_recall() {
            self.refuse_recalls(&why);
        }
    }

    /// What is in the way of a commit is in the way of this, and nobody waits for ever.
    pub(super) fn refuse_recalls(&mut self, why: &Trouble) {
        for (ticket, _) in std::mem::take(&mut self.recalls.waiting) {
            self.answer(ticket, Err(why.clone()));
        }
    }

    /// Starts the first one, once everything was looked at. Returns whether there was one.
    pub(super) fn start_recall(&mut self) -> bool {
        if !self.may_snapshot() || self.scan.is_some() {
            return false;
        }
        let Some((ticket, recall)) = self.recalls.waiting.pop_front() else {
            return false;
        };
        self.run_tree(TreeWork::Recall { ticket }, Job::Recall(Box::new(recall)));
        true
    }

    /// Takes what came of it.
    pub(super) fn on_recalled(&mut self, now: Moment, outcome: Recalled) {
        let ended = self.lanes.end_tree(|work| match work {
            TreeWork::Recall { ticket } => Some(ticket),
            TreeWork::Recover
            | TreeWork::Snapshot(_)
            | TreeWork::Merge { .. }
            | TreeWork::Apply { .. }
            | TreeWork::Reword { .. } => None,
        });
        let Some(ticket) = ended else {
            return;
        };
        self.answer(ticket, outcome.answer);
        let Some(mut applied) = outcome.applied else {
            return;
        };
        if let Some(tip) = applied.tip {
            self.set_tip(now, tip);
        }
        self.look_after_kept(now, &applied.kept);
        let trouble = applied.blocked.take();
        if applied.unfinished {
            self.recovered = false;
            let why = trouble.unwrap_or_else(|| receiving::internal("an apply did not end"));
            self.failed(now, Site::Snapshot, why);
            return;
        }
        if trouble.is_some() {
            // The person was told.
            return;
        }
        if let Some(committed) = outcome.committed {
            self.counters.commits += 1;
            self.record.committed(now, &committed);
            self.count_towards_maintenance(now);
            self.actions
                .push_back(Action::Tell(Tell::Committed(committed)));
        }
        if let Some(tip) = self.tip {
            self.record.applied(now, tip, false, &applied);
        }
        self.tell_what_stands(now, applied);
    }

    /// Plans the commits of what somebody saved while it was applied.
    pub(super) fn look_after_kept(&mut self, now: Moment, kept: &[RepoPath]) {
        for path in kept {
            self.note_kept(now, path);
            if !self.record.is_deferred(path) {
                // Put back as it was by now, it is no change, and nobody says that it is free.
                self.release_soon(now);
            }
        }
    }
}
