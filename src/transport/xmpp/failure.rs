//! Why there is no connection, what to do about it, and when to try again.
//!
//! Absent: what the server wrote in its own words beyond its error conditions, and every secret.

use std::borrow::Borrow;
use std::io;
use std::path::PathBuf;

use tokio_xmpp::Error;
use tokio_xmpp::error::{AuthError, ProtocolError};
use tokio_xmpp::parsers::sasl::DefinedCondition as Refusal;
use tokio_xmpp::parsers::stream_error::DefinedCondition as Ending;

use super::password::NoPassword;
use crate::engine::event::{Code, Recovery, Trouble};

/// Why a try to log in came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configured address is no address.
    #[error("{0} is no address of an XMPP account")]
    Address(String),
    /// There is no password.
    #[error("{0}")]
    Password(#[from] NoPassword),
    /// The name of the server has no address.
    #[error("the XMPP server {name} is not found")]
    UnknownServer {
        /// The name.
        name: String,
    },
    /// The file of trusted certificates cannot be used.
    #[error("the ca_file {path} cannot be used: {why}")]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nobody is trusted.
    #[error("this computer trusts nobody who issues certificates")]
    NoRoots,
    /// The certificate of the server was refused.
    #[error(
        "the certificate of the XMPP server for {wanted} is refused: {why} (it is of {subject:?}, \
         issued by {issuer:?})"
    )]
    Certificate {
        /// The name that it should be for.
        wanted: String,
        /// Whom it names.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not encrypt.
    #[error("the XMPP server does not offer TLS, and without it nothing is said")]
    NoTls,
    /// The server has no way to log in that keeps the password to us.
    #[error("the XMPP server offers no way to log in that does not give the password away")]
    NoMechanism,
    /// The server does not know this user with this password.
    #[error("the XMPP server refused the name or the password of {0}")]
    NotAuthorized(String),
    /// The account must not be used.
    #[error("the XMPP account {0} is disabled")]
    Disabled(String),
    /// The password is too old.
    #[error("the password of the XMPP account {0} has expired")]
    Expired(String),
    /// The server does not have this domain.
    #[error("the XMPP server does not serve the domain {0}")]
    HostUnknown(String),
    /// It took too long.
    #[error("the XMPP server did not answer in time")]
    Slow,
    /// Something that may pass.
    #[error("the XMPP server cannot be reached: {0}")]
    Network(String),
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// With back-off.
    Soon,
    /// In a quarter of an hour.
    Later,
    /// When a person says so.
    Never,
}

impl Failure {
    /// A fault of the network.
    pub(super) fn network(error: impl Borrow<io::Error>) -> Self {
        let error = error.borrow();
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Slow;
        }
        Self::Network(error.to_string())
    }

    /// Puts the account into what the server said of it.
    pub(super) fn about(self, account: &str, domain: &str) -> Self {
        match self {
            Self::NotAuthorized(_) => Self::NotAuthorized(account.to_owned()),
            Self::Disabled(_) => Self::Disabled(account.to_owned()),
            Self::Expired(_) => Self::Expired(account.to_owned()),
            Self::HostUnknown(_) => Self::HostUnknown(domain.to_owned()),
            Self::Address(_)
            | Self::Password(_)
            | Self::UnknownServer { .. }
            | Self::CaFile { .. }
            | Self::NoRoots
            | Self::Certificate { .. }
            | Self::NoTls
            | Self::NoMechanism
            | Self::Slow
            | Self::Network(_) => self,
        }
    }

    /// Returns when to try again.
    pub(super) fn again(&self) -> Again {
        match self {
            Self::Address(_)
            | Self::Password(_)
            | Self::CaFile { .. }
            | Self::NoRoots
            | Self::NoTls
            | Self::NoMechanism
            | Self::NotAuthorized(_)
            | Self::Disabled(_)
            | Self::Expired(_)
            | Self::HostUnknown(_) => Again::Never,
            Self::Certificate { .. } => Again::Later,
            Self::UnknownServer { .. } | Self::Slow | Self::Network(_) => Again::Soon,
        }
    }

    /// Returns it as a user meets it.
    pub(super) fn trouble(&self) -> Trouble {
        let recovery = match self.again() {
            Again::Never => Recovery::Hold,
            Again::Soon | Again::Later => Recovery::Retry,
        };
        let code = match self {
            Self::Password(_)
            | Self::NoMechanism
            | Self::NotAuthorized(_)
            | Self::Disabled(_)
            | Self::Expired(_) => Code::Auth,
            Self::Certificate { .. } | Self::NoTls | Self::NoRoots | Self::CaFile { .. } => {
                Code::HostKey
            }
            Self::Address(_)
            | Self::HostUnknown(_)
            | Self::UnknownServer { .. }
            | Self::Slow
            | Self::Network(_) => Code::Declined,
        };
        let hint = match self {
            Self::Address(_) => "Correct jid in the table [xmpp]; it looks like me@example.org.",
            Self::Password(why) => why.hint(),
            Self::UnknownServer { .. } => {
                "If its name is another than the account's domain, set server = \"host:port\" in \
                 the table [xmpp]."
            }
            Self::CaFile { .. } => "Correct ca_file in the table [xmpp]; it is a PEM file.",
            Self::NoRoots => "Install ca-certificates, or set ca_file in the table [xmpp].",
            Self::Certificate { .. } => {
                "If it is your own server, name its CA by ca_file in the table [xmpp]; else \
                 somebody may be in between. It is tried again in a quarter of an hour."
            }
            Self::NoTls => "Turn TLS on at the server, or use another one.",
            Self::NoMechanism => {
                "Turn SCRAM-SHA-1 or SCRAM-SHA-256 on at the server, or use another one."
            }
            Self::NotAuthorized(_) | Self::Expired(_) => {
                "Correct the password in the table [xmpp], then run `autosync sync`."
            }
            Self::Disabled(_) => {
                "Ask whoever runs the server, or use another account; then run `autosync sync`."
            }
            Self::HostUnknown(_) => {
                "Correct jid or server in the table [xmpp], then run `autosync sync`."
            }
            Self::Slow | Self::Network(_) => "",
        };
        Trouble::new(code, recovery, self.to_string(), hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => Self::network(error),
            Error::Auth(AuthError::NoMechanism) => Self::NoMechanism,
            Error::Auth(AuthError::Fail(why)) => match why {
                Refusal::NotAuthorized | Refusal::InvalidAuthzid => {
                    Self::NotAuthorized(String::new())
                }
                Refusal::AccountDisabled => Self::Disabled(String::new()),
                Refusal::CredentialsExpired => Self::Expired(String::new()),
                Refusal::EncryptionRequired
                | Refusal::InvalidMechanism
                | Refusal::MechanismTooWeak => Self::NoMechanism,
                Refusal::Aborted
                | Refusal::IncorrectEncoding
                | Refusal::MalformedRequest
                | Refusal::TemporaryAuthFailure => {
                    Self::Network("it could not check the password now".into())
                }
            },
            Error::Auth(AuthError::Sasl(_) | AuthError::ComponentFail) => {
                Self::Network("it and we did not understand each other at the login".into())
            }
            Error::Protocol(ProtocolError::NoTls) => Self::NoTls,
            Error::StreamError(error) => {
                let why = error.0.condition;
                if matches!(why, Ending::HostUnknown | Ending::HostGone) {
                    Self::HostUnknown(String::new())
                } else {
                    Self::Network(format!("it says {why:?}"))
                }
            }
            Error::Disconnected => Self::Network("it closed the connection".into()),
            Error::JidParse(_)
            | Error::Protocol(_)
            | Error::InvalidState
            | Error::Fmt(_)
            | Error::Utf8(_)
            | Error::Connection(_)
            | Error::DnsProto(_)
            | Error::DnsNet(_)
            | Error::Idna
            | Error::Addr(_) => Self::Network("it does not speak XMPP as we do".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_retry_can_mend_is_tried_once_and_says_what_to_do() {
        for refusal in [
            Refusal::NotAuthorized,
            Refusal::AccountDisabled,
            Refusal::CredentialsExpired,
            Refusal::MechanismTooWeak,
        ] {
            let failure = Failure::from(Error::Auth(AuthError::Fail(refusal)));
            let failure = failure.about("me@example.org", "example.org");
            assert_eq!(failure.again(), Again::Never);
            let trouble = failure.trouble();
            assert_eq!(trouble.recovery, Recovery::Hold);
            assert!(!trouble.hint.is_empty());
        }
        let none = Failure::from(NoPassword::None);
        assert_eq!(none.again(), Again::Never);
        assert!(none.trouble().hint.contains("password_command"));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let busy = Refusal::TemporaryAuthFailure;
        let failure = Failure::from(Error::Auth(AuthError::Fail(busy)));
        assert_eq!(failure.again(), Again::Soon);
        let failure = Failure::from(Error::Io(io::ErrorKind::TimedOut.into()));
        assert_eq!(failure.again(), Again::Soon);
        assert_eq!(
            failure.to_string(),
            "the XMPP server did not answer in time"
        );
    }

    #[test]
    fn a_refused_certificate_is_named_with_the_name_that_it_should_have() {
        let failure = Failure::Certificate {
            wanted: "example.org".into(),
            subject: "portal.hotel".into(),
            issuer: "Hotel CA".into(),
            why: "it is for portal.hotel".into(),
        };
        assert_eq!(failure.again(), Again::Later);
        let text = failure.to_string();
        for part in ["example.org", "portal.hotel", "Hotel CA"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
