//! Which server an address means, and how ssh is run for it: the user's own command and
//! configuration are kept, ours is appended.
//!
//! Invariants:
//! 1. A word from an address never becomes an option of ssh or a word of a shell.
//! 2. Host keys are left to the user's configuration: with `BatchMode` an unknown or changed key
//!    is an error, never a question and never accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::engine::timer::Moment;
use crate::process::{self, Patience};

/// A server that is reached by ssh, as an address names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// The login name, if the address has one.
    pub user: Option<String>,
    /// The host, or an alias of the user's ssh configuration.
    pub host: String,
    /// The port, if the address has one.
    pub port: Option<u16>,
}

impl Server {
    /// Splits an address in one of git's two ssh forms, `ssh://[user@]host[:port]/path` and
    /// `[user@]host:path`, into the server and the path on it.
    ///
    /// Returns `None` for any other address, and for a server or path that would be taken for
    /// an option.
    pub fn of_url(url: &str) -> Option<(Self, String)> {
        let schemes = ["ssh://", "git+ssh://", "ssh+git://"];
        let (authority, path) = match schemes.iter().find_map(|s| url.strip_prefix(s)) {
            Some(rest) => {
                let rest = decoded(rest)?;
                let (authority, path) = rest.split_at(rest.find('/')?);
                // `ssh://host/~user/x` is relative to a home directory.
                let path = path.strip_prefix("/~").map(|p| format!("~{p}"));
                let path = path.unwrap_or_else(|| rest[authority.len()..].to_owned());
                (authority.to_owned(), path)
            }
            None if url.contains("://") => return None,
            None => {
                let bracket = url.find('[').map_or(0, |at| at + 1);
                let after = url[bracket..].find(']').map_or(0, |at| bracket + at);
                let colon = after + url[after..].find(':')?;
                if url[..colon].contains('/') {
                    return None;
                }
                (url[..colon].to_owned(), url[colon + 1..].to_owned())
            }
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => {
                let user = user.split(':').next().unwrap_or_default();
                (Some(user.to_owned()), place.to_owned())
            }
            None => (None, authority),
        };
        let (host, port) = host_and_port(&place, url.contains("://"))?;
        let server = Self { user, host, port };
        let plain = !path.is_empty() && !path.starts_with('-') && !path.contains(char::is_control);
        (server.is_sane() && plain).then_some((server, path))
    }

    fn is_sane(&self) -> bool {
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        plain(&self.host) && self.user.as_deref().is_none_or(plain)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// What is appended to every command: nothing may ask, and a dead server is noticed.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
];

/// For how long a shared connection stays without use, in seconds.
const PERSIST: u32 = 120;

/// For how long what ssh said about its configuration is believed.
const TRUST: Duration = Duration::from_secs(300);

/// How ssh is run for one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    server: Server,
    /// The user's command with our options, for a shell.
    words: String,
    /// The socket of the shared connection, if it is ours to share.
    socket: Option<PathBuf>,
    openssh: bool,
}

impl Client {
    /// Finds out how ssh is run: the user's `GIT_SSH_COMMAND`, `configured` (`core.sshCommand`),
    /// `GIT_SSH` or plain `ssh`, in git's order, with our options behind.
    ///
    /// `runtime` is a private directory, at most 48 bytes long, for the socket of a connection
    /// that all commands share. If the user's configuration shares connections already, or forbids
    /// it, that is left alone. A program that is not OpenSSH gets no options.
    pub fn new(configured: Option<&str>, server: &Server, runtime: &Path) -> Self {
        Self::of_words(given_command(configured), server, runtime)
    }

    fn of_words(mut words: String, server: &Server, runtime: &Path) -> Self {
        let found = probe(&words, server);
        let mut socket = None;
        if found.openssh {
            for option in OPTIONS {
                words.push_str(" -o ");
                words.push_str(option);
            }
            if !found.shares {
                let path = runtime.join(format!("ssh-{:08x}", sum(&[&words, &server.to_string()])));
                // The value is parsed by ssh, which knows quotes and expands `%`.
                let value = path.to_string_lossy().replace('%', "%%");
                let option = quoted(&format!("ControlPath=\"{value}\""));
                if write!(
                    words,
                    " -o ControlMaster=auto -o ControlPersist={PERSIST} -o {option}"
                )
                .is_ok()
                {
                    socket = Some(path);
                }
            }
        }
        Self {
            server: server.clone(),
            words,
            socket,
            openssh: found.openssh,
        }
    }

    /// Returns the command for `GIT_SSH_COMMAND`.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Returns whether this is OpenSSH, the only program that we know to hold a session with.
    pub fn is_openssh(&self) -> bool {
        self.openssh
    }

    /// Returns a command that runs `remote` on the server.
    pub fn command(&self, remote: &str) -> Command {
        let mut command = self.with_options(&["-T"]);
        command.arg(remote);
        command
    }

    fn with_options(&self, options: &[&str]) -> Command {
        let mut command = shell(&self.words);
        command.args(options);
        add_server(&mut command, &self.server);
        command
    }

    /// Ends the shared connection, if there is one of ours.
    pub fn close(&self) {
        if !self.socket.as_ref().is_some_and(|path| path.exists()) {
            return;
        }
        let mut command = self.with_options(&["-O", "exit"]);
        let patience = Patience::Total(Duration::from_secs(2));
        match process::run(&mut command, b"", patience) {
            Ok(done) if done.status.success() => {}
            Ok(done) => tracing::debug!(status = %done.status, "no shared connection to close"),
            Err(error) => tracing::debug!(%error, "the shared connection was not closed"),
        }
    }
}

/// Returns a command that runs shell words with arguments, as git does.
fn shell(words: &str) -> Command {
    let mut command = process::command("sh");
    command.arg("-c").arg(format!("{words} \"$@\"")).arg(words);
    command
}

fn add_server(command: &mut Command, server: &Server) {
    if let Some(port) = server.port {
        command.arg("-p").arg(port.to_string());
    }
    let host = &server.host;
    command.arg(match &server.user {
        Some(user) => format!("{user}@{host}"),
        None => host.clone(),
    });
}

/// Returns the user's ssh command in git's order; `configured` is their `core.sshCommand`.
pub fn given_command(configured: Option<&str>) -> String {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(|value| value.to_string_lossy().into_owned())
    };
    variable("GIT_SSH_COMMAND")
        .or_else(|| {
            configured
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        })
        .or_else(|| variable("GIT_SSH").map(|program| quoted(&program)))
        .unwrap_or_else(|| "ssh".to_owned())
}

/// Returns the text as one word of a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What ssh says about itself.
#[derive(Debug, Clone, Copy)]
struct Found {
    openssh: bool,
    shares: bool,
}

/// Asks the program for its configuration of the server, which only OpenSSH answers.
fn probe(words: &str, server: &Server) -> Found {
    static KNOWN: Mutex<BTreeMap<(String, Server), (Found, Moment)>> = Mutex::new(BTreeMap::new());
    let key = (words.to_owned(), server.clone());
    let now = clock::now();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((found, at)) = known.get(&key)
        && now.since(*at) < TRUST
    {
        return *found;
    }
    let mut command = shell(words);
    command.arg("-G");
    add_server(&mut command, server);
    let patience = Patience::Total(Duration::from_secs(10));
    let found = match process::run(&mut command, b"", patience) {
        Ok(done) => {
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            Found {
                openssh: done.status.success() && text.lines().any(|l| l.starts_with("hostname ")),
                shares: text.lines().any(|line| line.starts_with("controlpath ")),
            }
        }
        Err(error) => {
            tracing::warn!(%error, "ssh could not be asked for its configuration");
            Found {
                openssh: false,
                shares: false,
            }
        }
    };
    known.insert(key, (found, now));
    found
}

/// The 64-bit FNV-1a sum, folded to 32 bits: a short name for a socket.
fn sum(texts: &[&str]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in texts.iter().flat_map(|text| text.bytes().chain([0])) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (sum >> 32) ^ (sum & 0xffff_ffff)
}

/// Splits `host`, `host:port` or `[v6]:port`. In the form without a scheme a port may only stand
/// inside brackets, as git has it.
fn host_and_port(place: &str, is_url: bool) -> Option<(String, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (inner, after) = rest.split_once(']')?;
        if !is_url && inner.matches(':').count() == 1 {
            let (host, port) = inner.split_once(':')?;
            return Some((host.to_owned(), Some(port.parse().ok()?)));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        return Some((inner.to_owned(), port));
    }
    match place.split_once(':') {
        Some((host, "")) => Some((host.to_owned(), None)),
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((place.to_owned(), None)),
    }
}

/// Decodes `%41`; `None` if that is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// Returns the path that a `file://` address means, `None` for any other address.
pub fn file_url(url: &str) -> Option<String> {
    let rest = url.strip_prefix("file://")?;
    decoded(&rest[rest.find('/')?..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_address_name_a_server_and_a_path() {
        for (url, server, path) in [
            ("ssh://me@host:2222/srv/x.git", "me@host:2222", "/srv/x.git"),
            ("ssh://host/~/x", "host", "~/x"),
            ("ssh://host/a%20b", "host", "/a b"),
            ("ssh://[::1]:22/x", "::1:22", "/x"),
            ("ssh://me:pw@host/x", "me@host", "/x"),
            ("me@host:x.git", "me@host", "x.git"),
            ("host:~/x.git", "host", "~/x.git"),
            ("[host:2222]:x", "host:2222", "x"),
            ("[::1]:x", "::1", "x"),
        ] {
            let (found, rest) = Server::of_url(url).unwrap_or_else(|| panic!("{url}"));
            assert_eq!((found.to_string().as_str(), rest.as_str()), (server, path));
        }
    }

    #[test]
    fn what_is_no_server_or_would_be_an_option_is_refused() {
        for url in [
            "/srv/x.git",
            "./a:b",
            "https://host/x",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "ssh://-l@host/y",
            "host:-x",
            "ssh://host",
            "ssh://ho st/x",
            "ssh://host:port/x",
            "ext::sh -c x",
        ] {
            if let Some((server, path)) = Server::of_url(url) {
                // `ext:` reads as a host named ext; git asks nobody else then either.
                assert_eq!((server.host.as_str(), path.as_str()), ("ext", ":sh -c x"));
            }
        }
        assert_eq!(file_url("file:///srv/a%20b").as_deref(), Some("/srv/a b"));
        assert_eq!(file_url("/srv"), None);
    }

    /// Writes a program that answers `-G` with this text, or fails.
    fn fake(dir: &Path, name: &str, answer: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        let script = format!("#!/bin/sh\ncase \"$*\" in *-G*) {answer} ;; esac\necho \"$@\"\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{} -v", path.display())
    }

    #[test]
    fn options_are_appended_to_the_users_command_and_its_sharing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = Server::of_url("ssh://me@host:2222/x").unwrap();
        let client = |words: &str| Client::of_words(words.to_owned(), &server, dir.path());

        let plain = fake(dir.path(), "plain", "echo hostname host; exit 0");
        let found = client(&plain);
        assert!(
            found
                .words()
                .starts_with(&format!("{plain} -o BatchMode=yes"))
        );
        for option in [
            "ConnectTimeout=10",
            "ServerAliveInterval=10",
            "ControlMaster=auto",
        ] {
            assert!(found.words().contains(option), "{}", found.words());
        }
        assert!(!found.words().contains("StrictHostKeyChecking"));
        let patience = Patience::Total(Duration::from_secs(10));
        let done = process::run(&mut found.command("a 'b c'"), b"", patience).unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(said.starts_with("-v -o BatchMode=yes "), "{said}");
        assert!(said.ends_with(" -T -p 2222 me@host a 'b c'\n"), "{said}");

        let answer = "echo hostname host; echo controlpath /own; exit 0";
        let found = client(&fake(dir.path(), "shared", answer));
        assert!(found.is_openssh() && !found.words().contains("ControlMaster"));
        assert!(found.words().contains("BatchMode"));

        let other = fake(dir.path(), "other", "exit 1");
        let found = client(&other);
        assert!(!found.is_openssh());
        assert_eq!(found.words(), other);
    }
}
