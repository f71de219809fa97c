//! How the program ends, and how it says why.
//!
//! Every failure that a person meets is one sentence and, where there is something to do, a second
//! one that says what: `autosync: MESSAGE. HINT`. Scripts read the exit code.

use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::control::{BindError, ClientError};
use crate::engine::event::{Code, Trouble};
use crate::lock::LockError;
use crate::paths::PathsError;

/// The exit codes of the program. They never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed; also when there is no agent to ask.
    Failed,
    /// Wrong usage or a wrong configuration.
    Usage,
    /// Done in part, or something needs a look.
    Partly,
    /// There is no repository.
    NoRepository,
    /// Another agent is at work.
    AlreadyRunning,
    /// The hub refused the login.
    LoginRefused,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// Every way to end, with its words in the manual.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Done, "Done"),
        (
            Self::Failed,
            "Failed; also if no agent is running or something was not so in time",
        ),
        (Self::Usage, "Wrong usage or a wrong configuration"),
        (
            Self::Partly,
            "Done in part; of `status`: something is held or syncing has stopped",
        ),
        (Self::NoRepository, "There is no repository"),
        (Self::AlreadyRunning, "Another agent is at work"),
        (Self::LoginRefused, "The hub refused the login"),
        (Self::Interrupted, "Interrupted by a signal"),
    ];

    /// Returns the number that a script sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::NoRepository => 10,
            Self::AlreadyRunning => 11,
            Self::LoginRefused => 12,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure in words, with the exit code that it ends in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_words(message, hint))]
pub struct Complaint {
    /// How the program ends.
    pub exit: Exit,
    /// What is the matter: lower case, no period.
    pub message: String,
    /// What to do, a sentence with its period; empty if there is nothing to do.
    pub hint: String,
    /// Which trouble of a folder it is, if it is one.
    pub code: Option<Code>,
}

impl Complaint {
    /// Creates a complaint.
    pub fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: hint.into(),
            code: None,
        }
    }

    /// Returns it as this trouble of a folder.
    #[must_use]
    pub fn of(self, code: Code) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }
}

fn in_words(message: &str, hint: &str) -> String {
    let ended = message.ends_with(['.', '?', '!']);
    let stop = if ended || hint.is_empty() { "" } else { "." };
    let gap = if hint.is_empty() { "" } else { " " };
    format!("{message}{stop}{gap}{hint}")
}

impl From<ConfigError> for Complaint {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error.to_string(), error.hint())
    }
}

impl From<PathsError> for Complaint {
    fn from(error: PathsError) -> Self {
        Self::new(Exit::Failed, error.to_string(), error.hint())
    }
}

impl From<BindError> for Complaint {
    fn from(error: BindError) -> Self {
        Self::new(Exit::Failed, error.to_string(), error.hint())
    }
}

impl From<ClientError> for Complaint {
    fn from(error: ClientError) -> Self {
        Self::new(Exit::Failed, error.to_string(), error.hint())
    }
}

impl From<LockError> for Complaint {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::Held(held) => Self::new(
                Exit::AlreadyRunning,
                format!("an agent is running already, {}", held.who()),
                "Run `autosync status` to see what it does, or `autosync stop` to end it.",
            ),
            LockError::Io { source, .. } => {
                let hint = if source.kind() == io::ErrorKind::PermissionDenied {
                    "It belongs to another user; let it, and what is beside it, be this user's."
                } else {
                    ""
                };
                Self::new(Exit::Failed, error.to_string(), hint)
            }
        }
    }
}

impl From<&Trouble> for Complaint {
    fn from(trouble: &Trouble) -> Self {
        let exit = if matches!(trouble.code, Code::NoRepository | Code::HubMissing) {
            Exit::NoRepository
        } else if matches!(trouble.code, Code::Auth | Code::HostKey) {
            Exit::LoginRefused
        } else {
            Exit::Failed
        };
        Self::new(exit, trouble.message.clone(), trouble.hint.clone()).of(trouble.code)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::event::Recovery;
    use crate::lock::Held;

    #[test]
    fn a_complaint_is_one_sentence_and_a_hint() {
        let said = |message: &str, hint: &str| Complaint::new(Exit::Failed, message, hint);
        assert_eq!(
            said("it broke", "Mend it.").to_string(),
            "it broke. Mend it."
        );
        assert_eq!(said("did you?", "Do.").to_string(), "did you? Do.");
        assert_eq!(said("it broke", "").to_string(), "it broke");
    }

    #[test]
    fn every_way_to_end_has_its_own_number_and_words() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 10, 11, 12, 130]);
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn a_second_agent_and_a_refused_login_have_codes_of_their_own() {
        let held = LockError::Held(Held {
            pid: Some(42),
            path: PathBuf::new(),
        });
        let complaint = Complaint::from(held);
        assert_eq!(complaint.exit, Exit::AlreadyRunning);
        assert_eq!(complaint.message, "an agent is running already, process 42");
        let refused = Trouble::new(Code::Auth, Recovery::Hold, "no", "");
        assert_eq!(Complaint::from(&refused).exit, Exit::LoginRefused);
    }
}
