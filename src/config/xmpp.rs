//! The table `[xmpp]`: the account over which the hosts of one person tell each other of pushes.
//!
//! Invariants: an inline password is only taken from a file that nobody else can read; a password
//! is never shown, not even by `Debug`.
//!
//! Absent: the reading of `password_command`, `password_file` and systemd's credential. That is for
//! the transport, each time it logs in.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use toml::de::DeValue;

use super::written::{At, Section, text, texts, word};
use super::{ConfigError, Scene, Word, value_or};

/// How the hosts tell each other over XMPP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmppSettings {
    /// The account, `user@domain` without a resource.
    pub jid: String,
    /// Where its password is.
    pub password: Password,
    /// The server, if it is not the one that the domain names: host and port.
    pub server: Option<(String, u16)>,
    /// How the connection is made private.
    pub tls: Tls,
    /// Certificates that are trusted beside the system's, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// The name of this connection at the account; `None` is `autosync.HOST.RANDOM`.
    pub resource: Option<String>,
    /// Whether dvcs-autosync hosts of 2012 use the same account.
    pub legacy: bool,
    /// Who gets a text about each push and each problem, bare addresses.
    pub also_notify: Vec<String>,
    /// People whose hosts may tell us of pushes, bare addresses.
    pub peers: Vec<String>,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// The first line that this program writes; arguments without a shell.
    Command(Vec<String>),
    /// The first line of this file.
    File(PathBuf),
    /// In the configuration.
    Inline(Secret),
    /// systemd's credential `xmpp-password`.
    Credential,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How a connection is made private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It begins in clear and is made private before anything is said (RFC 6120).
    StartTls,
    /// From the first byte (XEP-0368).
    Direct,
}

impl Word for Tls {
    const ALL: &'static [(&'static str, Self)] =
        &[("starttls", Self::StartTls), ("direct", Self::Direct)];
}

/// The table as written.
#[derive(Debug, Default)]
pub(super) struct WrittenXmpp {
    pub(super) jid: Option<At<String>>,
    password_command: Option<At<Vec<String>>>,
    password_file: Option<At<String>>,
    password: Option<At<Secret>>,
    server: Option<At<String>>,
    tls: Option<At<Tls>>,
    ca_file: Option<At<String>>,
    resource: Option<At<String>>,
    legacy: Option<At<bool>>,
    also_notify: Option<At<Vec<String>>>,
    peers: Option<At<Vec<String>>>,
}

impl WrittenXmpp {
    /// Reads the form of every key.
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let this = Self {
            jid: section.take("jid", text)?,
            password_command: section.take("password_command", texts)?,
            password_file: section.take("password_file", text)?,
            password: section.take("password", |value| Ok(Secret(text(value)?)))?,
            server: section.take("server", text)?,
            tls: section.take("tls", word)?,
            ca_file: section.take("ca_file", text)?,
            resource: section.take("resource", text)?,
            legacy: section.take("legacy", flag)?,
            also_notify: section.take("also_notify", texts)?,
            peers: section.take("peers", texts)?,
        };
        section.finish()?;
        Ok(this)
    }

    /// Returns what is meant; `None` without an account.
    pub(super) fn meant(self, scene: &Scene<'_>) -> Result<Option<XmppSettings>, ConfigError> {
        let Some(jid) = self.jid else {
            return Ok(None);
        };
        check_bare(&jid.value).map_err(|why| scene.bad(jid.line, "xmpp.jid", why))?;
        let given = [
            self.password_command.as_ref().map(|at| at.line),
            self.password_file.as_ref().map(|at| at.line),
            self.password.as_ref().map(|at| at.line),
        ];
        if let [_, line, ..] = given.into_iter().flatten().collect::<Vec<_>>()[..] {
            let why = "is one password too many: give one of password_command, password_file and \
                       password";
            return Err(scene.bad(line, "xmpp.password", why));
        }
        let password = if let Some(command) = self.password_command {
            if command.value.is_empty() {
                let why = "must be a program and its arguments";
                return Err(scene.bad(command.line, "xmpp.password_command", why));
            }
            Password::Command(command.value)
        } else if let Some(file) = scene.path(self.password_file, "xmpp.password_file")? {
            Password::File(file)
        } else if let Some(secret) = self.password {
            private(scene).map_err(|why| scene.bad(secret.line, "xmpp.password", why))?;
            Password::Inline(secret.value)
        } else {
            Password::Credential
        };
        let server = match self.server {
            Some(at) => Some(
                host_and_port(&at.value).map_err(|why| scene.bad(at.line, "xmpp.server", why))?,
            ),
            None => None,
        };
        Ok(Some(XmppSettings {
            jid: jid.value,
            password,
            server,
            tls: value_or(self.tls, Tls::StartTls),
            ca_file: scene.path(self.ca_file, "xmpp.ca_file")?,
            resource: self.resource.map(|at| at.value),
            legacy: value_or(self.legacy, false),
            also_notify: bare_list(scene, self.also_notify, "xmpp.also_notify")?,
            peers: bare_list(scene, self.peers, "xmpp.peers")?,
        }))
    }
}

/// Reads `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "must be true or false".to_owned())
}

/// Checks a list of bare addresses.
pub(super) fn bare_list(
    scene: &Scene<'_>,
    list: Option<At<Vec<String>>>,
    key: &str,
) -> Result<Vec<String>, ConfigError> {
    let Some(At { value, line }) = list else {
        return Ok(Vec::new());
    };
    for jid in &value {
        check_bare(jid).map_err(|why| scene.bad(line, key, why))?;
    }
    Ok(value)
}

/// A bare address: both parts there, no resource. What the parts may hold is for the transport.
fn check_bare(jid: &str) -> Result<(), String> {
    let good = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match jid.split_once('@') {
        Some((user, domain))
            if good(user)
                && good(domain)
                && !domain.contains(['@', '/'])
                && !user.contains('/') =>
        {
            Ok(())
        }
        Some(_) | None => Err("must be an address such as me@example.org".into()),
    }
}

/// Splits `host:port`; an IPv6 address stands in brackets.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || "must be a host and a port, such as xmpp.example.org:5222".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let host = inner.unwrap_or(host);
    if host.is_empty() || (inner.is_none() && host.contains(':')) || !host.chars().all(good) {
        return Err(wrong());
    }
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if port == 0 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// A file with a password in it must be ours alone.
fn private(scene: &Scene<'_>) -> Result<(), String> {
    let Ok(found) = fs::metadata(scene.file) else {
        return Ok(());
    };
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "stands in a file that others can read; run `chmod 600 {}`, or use password_command",
            scene.file.display()
        ));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err("stands in a file that belongs to another user".into());
    }
    Ok(())
}
