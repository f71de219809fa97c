//! The one API: HTTP over a unix socket, for the command line, scripts and a browser.
//!
//! The server asks the agent through a channel of [`Ask`]s and never touches a folder. The same
//! routes serve every client; what the command line can do, `curl --unix-socket` can do.
//!
//! | route | answers |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/events` | one [`Happening`] per line, as it happens |
//! | `GET /v1/conflicts` | the conflict copies of every folder |
//! | `GET /v1/log?folder=&path=&path_hex=&number=20` | the operations, newest first: [`Listed`] |
//! | `GET /v1/wait?for=idle\|synced&timeout_ms=30000` | [`Status`] once it is so |
//! | `POST /v1/barrier` `{"folder":?,"timeout_ms":?}` | [`Status`] once everything has settled |
//! | `POST /v1/sync`, `/v1/resume` `{"folder":?}` | `{}` |
//! | `POST /v1/pause` `{"folder":?,"for_ms":?}` | `{}` |
//! | `POST /v1/approve` `{"folder":?}` | `{"approved":["..."]}` |
//! | `POST /v1/recall` [`RecallQuestion`] | [`Answer`]: undo, redo, restore, or what they would do |
//! | `POST /v1/stop` | `{}` |
//!
//! An answer that is a refusal has a status of 400 or more and says
//! `{"error":{"code":"...","message":"...","hint":"..."}}`.
//!
//! Invariants:
//! 1. The socket lies in a directory of mode 0700, and a caller of another user is turned away at
//!    the door by the kernel's word for who it is.
//! 2. A slow or dead reader of the event stream costs the agent nothing: it misses events, is told
//!    how many, and goes on.
//! 3. A wait ends when its time is over or its caller is gone; the agent sees that its `reply` is
//!    closed.
//!
//! Absent: any TCP port, any password, any secret in an answer.

mod client;
mod event;
mod recall;
mod routes;
mod socket;

use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

pub use client::{Client, ClientError};
pub use event::{Happening, What};
pub use recall::{LogQuestion, RecallQuestion, Verb};
#[cfg(feature = "faults")]
pub(crate) use routes::fuzz;
pub use socket::{BindError, Door, bind, serve};

use crate::engine::recall::{Answer, Listed, Recall};
use crate::engine::status::{AsideStatus, ConflictStatus, MarkedStatus, Status};

/// How many events a reader of the stream may lag behind before it misses some.
pub const EVENTS_KEPT: usize = 1024;

/// Where an answer goes. It is closed when nobody waits any more.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// One question or order of a person or a script to the agent.
///
/// `folder` is a folder's name as in [`Status`] or its path; `None` means every folder.
#[derive(Debug)]
pub enum Ask {
    /// How is everything?
    Status {
        /// Where the answer goes.
        reply: Reply<Status>,
    },
    /// Tell everything that happens from now on. The agent keeps one
    /// `broadcast::channel(EVENTS_KEPT)` and answers with a new receiver of it.
    Events {
        /// Where the answer goes.
        reply: Reply<broadcast::Receiver<Happening>>,
    },
    /// What was done in a folder?
    Log {
        /// Which folder, and what of it.
        question: LogQuestion,
        /// Where the answer goes.
        reply: Reply<Vec<Listed>>,
    },
    /// Which conflict copies are there?
    Conflicts {
        /// Where the answer goes.
        reply: Reply<Vec<FolderConflicts>>,
    },
    /// Look, commit, push and fetch now. Answered when it has begun.
    Sync {
        /// Which folder.
        folder: Option<String>,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Do nothing for this long, or until [`Ask::Resume`].
    Pause {
        /// Which folder.
        folder: Option<String>,
        /// For how long; `None` without end.
        length: Option<Duration>,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Go on.
    Resume {
        /// Which folder.
        folder: Option<String>,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Let the held changes pass, once. Answers the names of the folders where something was held
    /// that can be approved.
    Approve {
        /// Which folder.
        folder: Option<String>,
        /// Where the answer goes.
        reply: Reply<Vec<String>>,
    },
    /// Bring something back in one folder, or say what that would do.
    Recall {
        /// Which folder; the only one if not given.
        folder: Option<String>,
        /// What.
        recall: Recall,
        /// Where the answer goes.
        reply: Reply<Answer>,
    },
    /// Leave. Answered when the agent has begun to.
    Stop {
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Answer when every timer has fired, both lanes are idle and the watcher has echoed a marker
    /// put down after the question came.
    Barrier {
        /// Which folder.
        folder: Option<String>,
        /// Where the answer goes.
        reply: Reply<Status>,
    },
    /// Answer when it is so, with everything that was written before the question.
    Wait {
        /// What is waited for.
        until: Until,
        /// Where the answer goes.
        reply: Reply<Status>,
    },
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// No folder has anything to do on this host.
    Idle,
    /// No folder has anything to do, and every hub has what is here.
    Synced,
}

/// The conflict copies of one folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FolderConflicts {
    /// The folder's name.
    pub folder: String,
    /// Its root.
    pub path: String,
    /// The copies in its tree.
    pub conflicts: Vec<ConflictStatus>,
    /// Files that came in with conflict markers which no host of ours committed.
    #[serde(default)]
    pub marked: Vec<MarkedStatus>,
    /// What git ignores on this host and had to make room for a file that came in.
    #[serde(default)]
    pub aside: Vec<AsideStatus>,
}

/// The agent says no, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such folder.
    #[error("there is no folder `{asked}`")]
    NoSuchFolder {
        /// What was asked for, escaped for a person.
        asked: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The question is about one folder, and there are several.
    #[error("there are several folders")]
    WhichFolder {
        /// The names that there are.
        known: Vec<String>,
    },
    /// Something is in the way.
    #[error("{message}")]
    InTheWay {
        /// The word for scripts.
        code: String,
        /// One sentence.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Nothing is held, so there is nothing to approve.
    #[error("nothing is held")]
    NothingHeld,
    /// What is held does not pass by an approval.
    #[error("nothing is held that an approval lets through: {message}")]
    NotApprovable {
        /// What is held.
        message: String,
        /// What to do instead.
        hint: String,
    },
    /// The agent is about to leave.
    #[error("the agent is stopping")]
    Stopping,
    /// It was not so in time.
    #[error("not {what} within {}", crate::config::show_duration(*waited))]
    TimedOut {
        /// What was waited for: `idle`, `synced`, `settled`.
        what: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The question makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

impl Refusal {
    /// Returns the word for scripts.
    pub fn code(&self) -> &str {
        match self {
            Self::WhichFolder { .. } => "which-folder",
            Self::InTheWay { code, .. } => code,
            Self::NoSuchFolder { .. } => "no-such-folder",
            Self::NothingHeld => "nothing-held",
            Self::NotApprovable { .. } => "not-approvable",
            Self::Stopping => "stopping",
            Self::TimedOut { .. } => "timeout",
            Self::Nonsense(_) => "bad-request",
        }
    }

    /// Returns one sentence that says what to do, empty if there is nothing.
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuchFolder { known, .. } if known.is_empty() => {
                "The agent has no folders.".into()
            }
            Self::NoSuchFolder { known, .. } => {
                format!("The folders are: {}.", known.join(", "))
            }
            Self::TimedOut { .. } => "Run `autosync status` to see what is in the way.".into(),
            Self::WhichFolder { known } => format!("Say which: {}.", known.join(", ")),
            Self::NotApprovable { hint, .. } | Self::InTheWay { hint, .. } => hint.clone(),
            Self::NothingHeld | Self::Stopping | Self::Nonsense(_) => String::new(),
        }
    }
}
