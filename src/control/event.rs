//! The lines of the event stream.

use serde::{Deserialize, Serialize};

use crate::engine::action::Tell;
use crate::engine::event::{Code, ConflictCopy};
use crate::engine::status::{ConflictStatus, MarkedStatus, Progress, State};
use crate::names::RepoPath;

/// One thing that happened, as the event stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When, RFC 3339.
    pub at: String,
    /// The name of the folder, or of the transport; empty for what concerns the whole agent.
    pub folder: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Scripts must pass over kinds that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A folder is in another state.
    State {
        /// The state.
        state: State,
        /// Which trouble, `ok` if none.
        code: String,
        /// One sentence.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A job began.
    Started {
        /// `recover`, `snapshot`, `merge`, `apply`, `fetch`, `push` or `maintain`.
        job: String,
    },
    /// A job is over.
    Ended {
        /// As in [`What::Started`].
        job: String,
    },
    /// A long job goes on; at most some times a second.
    Progress {
        /// Where it stands.
        #[serde(flatten)]
        at: Progress,
    },
    /// A commit was made here.
    Committed {
        /// Its id.
        oid: String,
        /// What it is about, in words.
        summary: String,
        /// The first paths.
        paths: Vec<String>,
        /// How many paths it changes.
        count: usize,
    },
    /// The hub has it.
    Pushed {
        /// The commit.
        oid: String,
    },
    /// These hosts have our latest push in their trees, as far as they said so.
    Arrived {
        /// The commit.
        oid: String,
        /// The hosts.
        hosts: Vec<String>,
    },
    /// This came in.
    Received {
        /// The host that made it; empty if unknown.
        host: String,
        /// The first paths.
        paths: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Both sides changed the same thing.
    Conflict {
        /// The copies that were made.
        copies: Vec<ConflictStatus>,
        /// Files that came in with conflict markers which no host of ours committed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marked: Vec<MarkedStatus>,
    },
    /// A guard holds something back.
    Held {
        /// Which guard.
        code: String,
        /// The first paths.
        paths: Vec<String>,
        /// How many more.
        more: usize,
        /// One sentence.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Syncing has stopped.
    Problem {
        /// Which trouble.
        code: String,
        /// One sentence.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A problem that could be approved is over, or another one now.
    Over {
        /// Which trouble.
        code: String,
    },
    /// All problems are over.
    Solved,
    /// The reader was too slow and missed this many events.
    Missed {
        /// How many.
        count: u64,
    },
}

impl From<&Tell> for What {
    fn from(tell: &Tell) -> Self {
        match tell {
            Tell::Committed(made) => Self::Committed {
                oid: made.id.to_string(),
                summary: made.summary.clone(),
                paths: texts(&made.paths),
                count: made.count,
            },
            Tell::Pushed(commit) => Self::Pushed {
                oid: commit.to_string(),
            },
            Tell::Arrived { commit, hosts } => Self::Arrived {
                oid: commit.to_string(),
                hosts: hosts.clone(),
            },
            Tell::Received {
                host, paths, count, ..
            } => Self::Received {
                host: host.clone().unwrap_or_default(),
                paths: texts(paths),
                count: *count,
            },
            Tell::Conflict(copies) => Self::Conflict {
                copies: copies.iter().map(status_of).collect(),
                marked: Vec::new(),
            },
            Tell::Marked(marked) => Self::Conflict {
                copies: Vec::new(),
                marked: marked.iter().map(Into::into).collect(),
            },
            Tell::Held(held) => Self::Held {
                code: word(held.code),
                paths: texts(&held.paths),
                more: held.more,
                message: held.message.clone(),
                hint: held.hint.clone(),
            },
            Tell::Problem(trouble) => Self::Problem {
                code: word(trouble.code),
                message: trouble.message.clone(),
                hint: trouble.hint.clone(),
            },
            Tell::Over(code) => Self::Over { code: word(*code) },
            Tell::Solved => Self::Solved,
        }
    }
}

fn status_of(copy: &ConflictCopy) -> ConflictStatus {
    ConflictStatus {
        path: copy.path.to_string(),
        copy: copy.copy.to_string(),
        host: copy.host.clone(),
        since: copy.since.clone(),
    }
}

fn texts(paths: &[RepoPath]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

/// Returns the word of a code as the status schema writes it.
fn word(code: Code) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Recovery, Trouble};

    #[test]
    fn a_line_names_its_event_beside_when_and_where() {
        let trouble = Trouble::new(Code::HubUnreachable, Recovery::Retry, "no answer", "wait");
        let line = serde_json::to_string(&Happening {
            at: "2026-11-20T21:00:00Z".into(),
            folder: "Sync".into(),
            what: What::from(&Tell::Problem(trouble)),
        })
        .unwrap();
        assert_eq!(
            line,
            r#"{"at":"2026-11-20T21:00:00Z","folder":"Sync","event":"problem","code":"hub-unreachable","message":"no answer","hint":"wait"}"#
        );
        let back: Happening = serde_json::from_str(&line).unwrap();
        assert_eq!(back.folder, "Sync");
    }

    #[test]
    fn a_name_that_could_steer_a_terminal_is_escaped_in_the_stream() {
        let evil = RepoPath::new(b"a\x1b[2J").unwrap();
        let what = What::from(&Tell::Received {
            host: None,
            paths: vec![evil],
            count: 1,
            undo: None,
        });
        assert_eq!(
            what,
            What::Received {
                host: String::new(),
                paths: vec!["a\\u{1b}[2J".into()],
                count: 1
            }
        );
    }
}
