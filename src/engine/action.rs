//! What the engine wants done: the closed set of its outputs.

use std::collections::BTreeSet;

use super::event::{Code, Committed, ConflictCopy, Held, Marked, Trouble};
use super::notice::Notice;
use super::recall::{Answer, Recall};
use crate::names::{ObjectId, RepoPath};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this job; its outcome comes back as an event.
    Run(Job),
    /// Send this notice over every transport.
    Announce(Notice),
    /// Let this person's other hosts know, over the transports that can, that this commit is in
    /// the tree here.
    Confirm(Notice),
    /// Tell the user.
    Tell(Tell),
    /// Answer the person who wanted something back.
    Answer {
        /// Whose question it was.
        ticket: u64,
        /// The answer.
        answer: Result<Answer, Trouble>,
    },
}

/// A sequence of IO at the edge. The engine sees its start and its outcome, never its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Finish or roll back what a kill left, remove our own dead locks, read where we stand.
    Recover,
    /// Commit what changed.
    Snapshot {
        /// Where to look.
        scope: Scope,
        /// Files that are committed even though a program has them open for writing.
        even_open: BTreeSet<RepoPath>,
        /// Why.
        trigger: Trigger,
        /// Whether a person approved what the guards hold.
        approved: bool,
    },
    /// Merge our tip with this commit of the hub; touches objects only.
    Merge {
        /// The hub's tip.
        hub: ObjectId,
    },
    /// Bring the work tree, the index and the branch to this commit, which contains our tip. If
    /// it is our tip: only release what was deferred or waits for approval, where that is
    /// possible now.
    Apply {
        /// The commit.
        target: ObjectId,
        /// Whether a person approved what the guards hold.
        approved: bool,
    },
    /// Put down what a person says of this commit.
    Reword {
        /// The commit.
        commit: ObjectId,
        /// One line.
        message: String,
        /// Whether it may become the message, if it is the tip and nobody has it; else it is a
        /// note.
        may_reword: bool,
    },
    /// Bring something back, or say what that would do.
    Recall(Box<Recall>),
    /// Bring the notes here and on the hub together.
    Notes,
    /// Ask the hub for its tip and bring the objects.
    Fetch,
    /// Push this commit to the folder's branch on the hub.
    Push {
        /// The commit.
        commit: ObjectId,
    },
    /// Repack if it is worth it. Takes both lanes.
    Maintain,
}

/// Where a snapshot looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// These paths, each with everything below it.
    Paths(BTreeSet<RepoPath>),
    /// The whole folder.
    Everything,
}

impl Scope {
    /// Returns whether no path is looked at: then a snapshot says where HEAD is, and no more.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Paths(paths) => paths.is_empty(),
            Self::Everything => false,
        }
    }
}

/// Why a snapshot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The watcher saw something.
    Edit,
    /// A full look found it.
    Scan,
    /// The agent started.
    Start,
    /// A person asked.
    Asked,
    /// It had to be committed before something could be merged.
    Merge,
}

/// The two kinds of work that may be in flight at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The work tree, the index and the branch.
    Tree,
    /// The hub.
    Network,
    /// Both at once.
    Both,
}

impl Job {
    /// Returns the lane that the job needs.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Recover
            | Self::Snapshot { .. }
            | Self::Merge { .. }
            | Self::Apply { .. }
            | Self::Recall(_)
            | Self::Reword { .. } => Lane::Tree,
            Self::Fetch | Self::Push { .. } | Self::Notes => Lane::Network,
            Self::Maintain => Lane::Both,
        }
    }
}

impl Trigger {
    /// Returns the word in the trailer `Autosync-Trigger`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Scan => "scan",
            Self::Start => "start",
            Self::Asked => "asked",
            Self::Merge => "merge",
        }
    }
}

/// Something the user may want to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// A commit was made here.
    Committed(Committed),
    /// The hub has it.
    Pushed(ObjectId),
    /// These hosts have our latest push in their trees, as far as they said so.
    Arrived {
        /// The commit.
        commit: ObjectId,
        /// The hosts, in the order of their names.
        hosts: Vec<String>,
    },
    /// This came in.
    Received {
        /// The host that made it, if known.
        host: Option<String>,
        /// The first paths.
        paths: Vec<RepoPath>,
        /// How many there are.
        count: usize,
        /// What the branch came to by it, if it can be undone.
        undo: Option<ObjectId>,
    },
    /// Both sides changed the same thing.
    Conflict(Vec<ConflictCopy>),
    /// Files came in with conflict markers which no host of ours committed.
    Marked(Vec<Marked>),
    /// A guard holds something back; once per group.
    Held(Held),
    /// Syncing has stopped; once per outage.
    Problem(Trouble),
    /// A problem that a person could approve is over, or another one now.
    Over(Code),
    /// All problems are over.
    Solved,
}
