//! What can happen to a folder: the closed set of inputs of the [`Engine`](super::Engine).
//!
//! An event is an observation, never an order to touch something. What is normal in the life of
//! a folder (a rejected push, a conflict copy, an unreadable file) is a value here, not an error.

use std::time::Duration;

use super::notice::{Circle, Notice};
use super::recall::{Recall, Recalled};
use crate::names::{ObjectId, RepoPath};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The watcher saw these paths change. Hints only: the comparison with HEAD decides.
    Changed(Vec<Change>),
    /// The watcher cannot say what changed: everything must be looked at again.
    Rescan(RescanWhy),
    /// HEAD, the index or a lock of the user's own git moved: the settle window starts again.
    GitMoved,
    /// Outcome of [`Job::Recover`](super::action::Job::Recover).
    Recovered(Recovered),
    /// A snapshot in flight has stored this commit durably (step S5): its push may start.
    Stored {
        /// The commit, child of the tip before it.
        commit: ObjectId,
    },
    /// Outcome of [`Job::Snapshot`](super::action::Job::Snapshot).
    Snapshotted(Snapshotted),
    /// Outcome of [`Job::Merge`](super::action::Job::Merge).
    Merged(Merged),
    /// Outcome of [`Job::Apply`](super::action::Job::Apply).
    Applied(Applied),
    /// Outcome of [`Job::Fetch`](super::action::Job::Fetch).
    Fetched(Fetched),
    /// Outcome of [`Job::Push`](super::action::Job::Push).
    Pushed(Pushed),
    /// Outcome of [`Job::Maintain`](super::action::Job::Maintain).
    Maintained(Result<(), Trouble>),
    /// Outcome of [`Job::Reword`](super::action::Job::Reword).
    Described(Described),
    /// Outcome of [`Job::Notes`](super::action::Job::Notes).
    NotesExchanged(Result<(), Trouble>),
    /// A person wants something back. The answer is an action with the same ticket.
    RecallAsked {
        /// Whose question it is.
        ticket: u64,
        /// What is wanted.
        recall: Recall,
    },
    /// Outcome of [`Job::Recall`](super::action::Job::Recall).
    Recalled(Box<Recalled>),
    /// A person was asked what a commit is about.
    Answered {
        /// The commit.
        commit: ObjectId,
        /// One line; `None` leaves the message as it is.
        message: Option<String>,
    },
    /// The folder's identity became known: the first contact with a hub wrote `autosync.id`.
    Identified(String),
    /// A peer says that it pushed. A hint, already checked for form by the transport.
    Noticed(Notice, Circle),
    /// A host of this person says that it has this commit in its tree.
    Confirmed {
        /// The host.
        host: String,
        /// The commit.
        commit: ObjectId,
    },
    /// A transport came up (then one fetch is due) or went down (then the poll is faster).
    Transport {
        /// The name of the transport as in the status schema.
        name: &'static str,
        /// Whether notices can arrive now.
        online: bool,
    },
    /// A person asked for something.
    Asked(Request),
    /// The machine woke up after a suspend.
    Woke,
}

/// A path and what the watcher knows about what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The path, relative to the folder's root.
    pub path: RepoPath,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a path, as far as the settle rules need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// Written to, and the writer may not be done.
    Written,
    /// Complete: closed after writing, or put there by a rename, a link or a symlink.
    Closed,
    /// Gone from this name: deleted, or renamed to another.
    Removed,
    /// Only mode, times or attributes.
    Attributes,
    /// A directory of which everything below must be looked at.
    Subtree,
}

/// Why everything must be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescanWhy {
    /// The agent starts.
    Start,
    /// The kernel's or our own queue was full.
    Overflow,
    /// A mount came or went.
    Remount,
    /// The machine was suspended.
    Resume,
    /// The periodic look.
    Periodic,
    /// The rules of what is ignored changed.
    Rules,
    /// A person asked, or the configuration was read again.
    Asked,
}

/// What a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Look, commit, push and fetch now, without windows.
    Sync,
    /// Do nothing until [`Request::Resume`], or for this long.
    Pause(Option<Duration>),
    /// Go on.
    Resume,
    /// Let the held changes pass, once.
    Approve,
    /// Leave soon: start nothing new.
    Stop,
}

/// What the start found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The tip of the branch, pending commit included; `None` while there is no commit.
    pub tip: Option<ObjectId>,
    /// The hub's tip as last seen.
    pub hub: Option<ObjectId>,
    /// The folder's identity once it is known (`autosync.id`).
    pub id: Option<String>,
    /// The conflict copies that stand in the tree.
    pub copies: Vec<ConflictCopy>,
    /// The files in which somebody's git left conflict markers.
    pub marked: Vec<Marked>,
    /// What is in the way, if the start could not be finished.
    pub blocked: Option<Trouble>,
}

/// What a snapshot found. One batch can be all of these at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshotted {
    /// The commit that was made.
    pub committed: Option<Committed>,
    /// The tip after the job.
    pub tip: Option<ObjectId>,
    /// Paths that were in motion: to be looked at again.
    pub busy: Vec<Waiting>,
    /// What a guard holds back, as it stands now for the whole folder.
    pub held: Vec<Held>,
    /// Whether there is more in it that a person can approve than there was before.
    pub held_grew: bool,
    /// What will not be committed, as it stands now for the scope looked at.
    pub skipped: Vec<Waiting>,
    /// Paths whose content deliberately differs from HEAD, as it stands now.
    pub deferred: Vec<Waiting>,
    /// Whether a name that waited for the disk to have room for it can be written now.
    pub freed: bool,
    /// The files in which somebody's git left conflict markers, as it stands now.
    pub marked: Vec<Marked>,
    /// Set if the job could not be done: the gate is closed or something failed.
    pub blocked: Option<Trouble>,
}

/// A commit that the agent made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub id: ObjectId,
    /// What it is about, in words: `notes/todo.txt`, `3 files in notes/`.
    pub summary: String,
    /// The first paths of it, at most 100.
    pub paths: Vec<RepoPath>,
    /// How many paths it changes.
    pub count: usize,
}

/// A path that waits, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// The path.
    pub path: RepoPath,
    /// Why, in words: `open for writing`.
    pub why: String,
}

/// A group of paths held back by one guard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Which guard.
    pub code: Code,
    /// The first paths, at most 20.
    pub paths: Vec<RepoPath>,
    /// How many more there are.
    pub more: usize,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Our tip already contains the hub's.
    UpToDate {
        /// Our tip.
        tip: ObjectId,
    },
    /// The hub's tip contains ours: apply it as it is.
    FastForward {
        /// The hub's tip.
        target: ObjectId,
    },
    /// A merge commit was made; it is to be pushed and then applied.
    Created {
        /// The merge commit.
        commit: ObjectId,
        /// The conflict copies in it.
        copies: Vec<ConflictCopy>,
    },
    /// It could not be done.
    Blocked(Trouble),
}

/// A file that stands beside another because both sides changed it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConflictCopy {
    /// The path that both sides changed.
    pub path: RepoPath,
    /// The path of the copy.
    pub copy: RepoPath,
    /// The host whose version the copy is.
    pub host: String,
    /// When that version was committed, RFC 3339 in the commit's own offset.
    pub since: String,
}

/// A text file that came in with conflict markers which no host of ours committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The file.
    pub path: RepoPath,
    /// The commit that brought the markers.
    pub commit: ObjectId,
    /// Its parents that have the file, as it was on either side before.
    pub before: Vec<ObjectId>,
    /// Who committed it.
    pub author: String,
    /// When, RFC 3339 in the commit's own offset.
    pub since: String,
}

impl Marked {
    /// Returns one sentence that says what is the matter, without a full stop.
    pub fn message(&self) -> String {
        let by = match self.author.as_str() {
            "" => "somebody".to_owned(),
            author => crate::names::escape(author.as_bytes()),
        };
        format!(
            "`{}` came with conflict markers in it, which {by} committed",
            self.path
        )
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let path = &self.path;
        let commands: Vec<String> = self
            .before
            .iter()
            .map(|commit| format!("`git show {}:{path}`", commit.short()))
            .collect();
        let rid = "Take the markers out and save.";
        match commands.as_slice() {
            [] => rid.to_owned(),
            all => format!("{rid} What was before: {}.", all.join(" and ")),
        }
    }
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The tip after the job.
    pub tip: Option<ObjectId>,
    /// The first paths written or removed, at most 100.
    pub paths: Vec<RepoPath>,
    /// How many there were.
    pub count: usize,
    /// Paths where the user saved meanwhile: to be snapshotted after their quiet time.
    pub kept: Vec<RepoPath>,
    /// Paths whose content deliberately differs from HEAD, as it stands now.
    pub deferred: Vec<Waiting>,
    /// What a guard holds back, as it stands now.
    pub held: Vec<Held>,
    /// Whether more removals wait for approval than before.
    pub held_grew: bool,
    /// For how long the removals that wait for approval have done so, if any do.
    pub waited: Option<Duration>,
    /// The conflict copies that came in.
    pub copies: Vec<ConflictCopy>,
    /// The files in which somebody's git left conflict markers, as it stands now.
    pub marked: Vec<Marked>,
    /// The host that made the newest commit that came in.
    pub host: Option<String>,
    /// Set if the job could not be done.
    pub blocked: Option<Trouble>,
    /// Whether the journal is still open. Then [`Job::Recover`](super::action::Job::Recover)
    /// comes before anything else is done with the tree.
    pub unfinished: bool,
}

/// What a fetch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The hub answered. `None`: it has no such branch yet.
    Tip(Option<ObjectId>),
    /// It did not.
    Failed(Trouble),
}

/// What became of a person's words for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// They are its message now, so it has another id.
    Reworded {
        /// What it was.
        from: ObjectId,
        /// What it is.
        to: ObjectId,
    },
    /// They are a note beside it.
    Noted,
    /// It could not be done.
    Blocked(Trouble),
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The hub confirmed that its branch is now this commit.
    Confirmed {
        /// The commit.
        commit: ObjectId,
    },
    /// Somebody else was first: fetch and merge.
    Rejected,
    /// It failed.
    Failed(Trouble),
}

/// Something that is in the way, in words, with what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which trouble, for scripts.
    pub code: Code,
    /// One sentence that says what is the matter.
    pub message: String,
    /// One sentence that says what to do; empty if there is nothing to do.
    pub hint: String,
    /// What the engine may do about it.
    pub recovery: Recovery,
}

/// What the engine may do about a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recovery {
    /// A passing fault: try again with back-off.
    Retry,
    /// The user's own git is busy, or it was asked for: look again soon, without noise.
    Pause,
    /// Needs a person.
    Hold,
}

/// Every trouble and hold that a user can meet, as `status` and scripts name it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Nothing is the matter.
    Ok,
    /// The hub does not answer.
    HubUnreachable,
    /// There is no repository at the hub's address.
    HubMissing,
    /// The hub lost the branch that it had.
    HubEmptied,
    /// The hub refused our login.
    Auth,
    /// The hub's host key is unknown or changed.
    HostKey,
    /// The hub belongs to somebody else (git's "dubious ownership").
    Ownership,
    /// A hook or rule of the hub refused the push.
    Declined,
    /// Others push faster than we can merge.
    Contended,
    /// The hub's branch no longer contains what it had.
    HistoryRewritten,
    /// The hub holds another project.
    Unrelated,
    /// A rebase of the user is in progress.
    Rebase,
    /// A merge of the user is in progress.
    Merge,
    /// A cherry-pick of the user is in progress.
    CherryPick,
    /// A revert of the user is in progress.
    Revert,
    /// A bisect of the user is in progress.
    Bisect,
    /// The index has unmerged entries.
    Unmerged,
    /// HEAD is detached.
    Detached,
    /// HEAD is on another branch than the folder's.
    OtherBranch,
    /// The user's git is at work in this folder.
    GitBusy,
    /// Asked for by the user.
    Paused,
    /// A mass delete waits for approval.
    MassDelete,
    /// The folder's root is not there.
    RootMissing,
    /// Something else is mounted or put where the folder's root was.
    RootChanged,
    /// A file system was mounted below the root, or is not mounted any more.
    Mounted,
    /// The repository is not there.
    NoRepository,
    /// Another agent or command cares for the folder.
    InUse,
    /// The repository is damaged.
    Damaged,
    /// Too little space.
    DiskFull,
    /// The file system is read-only.
    ReadOnly,
    /// Reading or writing failed.
    Io,
    /// A file is larger than `max_file`.
    TooBig,
    /// A new file looks like a secret: a key, a token, a store of passwords.
    Secret,
    /// New files are build output or caches, or very many at once.
    Junk,
    /// A name that is dangerous on some system came in.
    DangerousName,
    /// A name that this host cannot hold came in.
    NotRepresentable,
    /// An attribute names a filter that this host does not have, or the filter failed.
    Filter,
    /// A nested repository or submodule is carried through untouched.
    Nested,
    /// A file was found empty or older after an unclean boot.
    UncleanBoot,
    /// The git program is missing, too old or failed in a way we do not know.
    Git,
    /// A step took too long without progress.
    Stalled,
    /// What is asked back is not there.
    NoSuchVersion,
    /// Directories are polled because the kernel gives no more watches.
    Watches,
    /// Directories are polled because they are on a file system that other machines change.
    RemoteDisk,
    /// The disk cannot exchange two files in one call, so writing is less safe there.
    Basic,
    /// Something that should not happen happened.
    Internal,
}

impl Code {
    /// What a person can let pass by saying so. Everything else needs something done first.
    pub const APPROVABLE: &'static [Self] = &[
        Self::HubEmptied,
        Self::HistoryRewritten,
        Self::MassDelete,
        Self::RootChanged,
        Self::Mounted,
        Self::UncleanBoot,
    ];

    /// Returns whether `word` is the word of a code that can be approved.
    pub fn is_approvable(word: &str) -> bool {
        Self::APPROVABLE.iter().any(|code| code.word() == word)
    }

    /// Returns the word for scripts, as in `status --json`: `mass-delete`.
    pub fn word(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

impl Trouble {
    /// Creates a trouble.
    pub fn new(
        code: Code,
        recovery: Recovery,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
            recovery,
        }
    }
}
