//! Which files look like secrets: keys, tokens, stores of passwords.
//!
//! A name says it by itself (`.ssh/id_rsa`, `.netrc`), the first bytes do (a PEM private key), or
//! both together (`.npmrc` with a token in it). Only the last and the middle need a look into the
//! file, and [`LOOK`] bytes are enough for them.
//!
//! Invariants:
//! 1. What a name says by itself it says of an empty file too: later it is not new any more.
//! 2. Copies that programs leave (`.env.bak`, `id_rsa.old`) are what they are copies of.
//! 3. Public keys, certificates, samples (`.env.example`) and texts about secrets are none.
//!
//! Absent: guessing by the look of single lines. A password in the middle of a program is for
//! other tools.

use super::RepoPath;

mod content;
mod name;

/// So many of a file's first bytes are looked at.
pub const LOOK: usize = 4096;

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// A private key of ssh.
    SshKey,
    /// A private key in PEM or another form, or a store that holds one.
    PrivateKey,
    /// A private key of `GnuPG`.
    Gnupg,
    /// Variables of an environment, with passwords among them.
    Environment,
    /// A login for a server.
    Login,
    /// A login for a cloud.
    Cloud,
    /// A token that is as good as a login.
    Token,
    /// A store of passwords.
    Passwords,
    /// What a browser remembers: passwords and sessions.
    Browser,
    /// A configuration of this program with the password in it, or its key.
    Own,
}

impl Secret {
    /// Returns what it is in words, with its article.
    pub fn words(self) -> &'static str {
        match self {
            Self::SshKey => "a private ssh key",
            Self::PrivateKey => "a private key",
            Self::Gnupg => "a private GnuPG key",
            Self::Environment => "an environment file with secrets",
            Self::Login => "a file of logins",
            Self::Cloud => "a login for a cloud",
            Self::Token => "a token",
            Self::Passwords => "a store of passwords",
            Self::Browser => "a browser's passwords or sessions",
            Self::Own => "the password of autosync itself",
        }
    }
}

/// Returns what secret a file looks like, if it looks like one. `head` is its first [`LOOK`] bytes,
/// or all of it if it is shorter.
pub fn secret(path: &RepoPath, head: &[u8]) -> Option<Secret> {
    let head = &head[..head.len().min(LOOK)];
    let name = name::Name::of(path);
    name.says().or_else(|| content::says(&name, head))
}

#[cfg(test)]
mod tests;
