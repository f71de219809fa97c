//! The git program, and git's objects.
//!
//! [`Git`] knows where a repository lives and runs the program on it with every input pinned: no
//! inherited `GIT_*` variable, no prompt, no pager, no background gc, no hook of local plumbing.
//! [`objects::Objects`] reads and writes objects in process where libgit2 can, and through the
//! program where it cannot. The user's index and work tree are only ever touched by the program
//! and by `repo`.
//!
//! Invariants:
//! 1. Output is parsed only from `-z` and `--porcelain` forms, as bytes.
//! 2. Paths travel over standard input or behind `--`, never through a shell.
//! 3. No credential of a URL reaches a message or a log ([`public_url`]).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::engine::event::{Code, Recovery, Trouble};
use crate::names::{NotARepoPath, NotAnObjectId, ObjectId, escape};
use crate::process::{self, Finished, Patience};

mod config;
pub mod failure;
pub mod gate;
pub mod hub;
pub mod index;
mod loose;
pub mod objects;
pub mod refs;
pub mod reftable;
pub mod refusal;
pub mod ssh;
pub mod tree;

use failure::{FULL, damaged, is_damage, local_failure};

pub use failure::io_trouble;

/// How long a local command may be silent.
pub const LOCAL: Patience = Patience::Silence(Duration::from_secs(120));

/// The oldest git that has everything we use (`merge-tree --write-tree` came with 2.38).
const MINIMUM: (u32, u32) = (2, 39);

/// The environment variable that names the git program to use.
pub const PROGRAM_VARIABLE: &str = "AUTOSYNC_GIT";

/// Settings that every command gets, so that no configuration changes what it does.
const PINNED: &[&str] = &[
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    "protocol.version=2",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.followTags=false",
    "core.hooksPath=/dev/null",
    "advice.detachedHead=false",
];

/// What can go wrong with git.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program could not be started.
    #[error("git could not be started")]
    Spawn(#[source] io::Error),
    /// The program is too old.
    #[error("git {0} is too old")]
    TooOld(String),
    /// There is no repository.
    #[error("`{}` is no git repository", .0.display())]
    NoRepository(PathBuf),
    /// A command failed.
    #[error("git {command} failed ({code}): {stderr}")]
    Failed {
        /// The subcommand.
        command: String,
        /// Its exit code, -1 if a signal ended it.
        code: i32,
        /// The first lines it wrote, without credentials.
        stderr: String,
    },
    /// A command made no progress.
    #[error("git {0} made no progress and was stopped")]
    Stalled(String),
    /// A command said something that we do not understand.
    #[error("git {command} said something unexpected: {said}")]
    Unparsable {
        /// The subcommand.
        command: String,
        /// What it said.
        said: String,
    },
    /// An object is missing or broken.
    #[error("object `{0}` is missing or damaged")]
    Object(ObjectId),
    /// The object library failed.
    #[error("reading or writing git objects failed")]
    Library(#[from] git2::Error),
    /// A file of the repository could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A tree is out of all proportion.
    #[error("{0}")]
    TooLarge(&'static str),
    /// A name in the repository is none that a folder can hold.
    #[error(transparent)]
    Name(#[from] NotARepoPath),
    /// An id that is none.
    #[error(transparent)]
    Id(#[from] NotAnObjectId),
}

impl GitError {
    /// Creates the error of a file.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: escape(path.as_os_str().as_bytes()),
            source,
        }
    }

    /// Returns whether a signal ended the command: it may have left its locks.
    pub fn was_killed(&self) -> bool {
        matches!(self, Self::Failed { code: -1, .. })
    }

    /// Returns what the engine may do about it, in words for the user.
    pub fn trouble(&self) -> Trouble {
        let message = self.to_string();
        match self {
            Self::Spawn(_) => Trouble::new(
                Code::Git,
                Recovery::Hold,
                "the git program could not be started",
                "Install git 2.39 or newer and make sure that it is on the PATH.",
            ),
            Self::TooOld(_) => Trouble::new(
                Code::Git,
                Recovery::Hold,
                message,
                "Install git 2.39 or newer.",
            ),
            Self::NoRepository(_) => Trouble::new(
                Code::NoRepository,
                Recovery::Hold,
                message,
                "If its `.git` was moved, put it back; to begin anew, run `autosync init`.",
            ),
            Self::Failed { stderr, .. } => local_failure(&message, stderr),
            Self::Stalled(_) => Trouble::new(Code::Stalled, Recovery::Retry, message, ""),
            Self::Object(_) => damaged(&message),
            Self::Io { source, .. } => io_trouble(&message, source),
            Self::TooLarge(_) => Trouble::new(
                Code::TooBig,
                Recovery::Hold,
                message,
                "Nothing of the newest commits on the hub is taken here. Leave something out on the \
                 computer that made them; if somebody pushed them by mistake, take them back there.",
            ),
            Self::Name(_) => Trouble::new(
                Code::DangerousName,
                Recovery::Hold,
                message,
                "Somebody made a tree by hand that git would refuse too; look at the hub's history.",
            ),
            Self::Library(error) if FULL.iter().any(|text| error.message().contains(text)) => {
                local_failure(&message, error.message())
            }
            Self::Library(error) if is_damage(error) => damaged(&format!(
                "{message}: {}",
                escape(error.message().as_bytes())
            )),
            Self::Library(error) => Trouble::new(
                Code::Git,
                Recovery::Retry,
                format!("{message}: {}", escape(error.message().as_bytes())),
                "If it goes on, run `git fsck` in the folder.",
            ),
            Self::Unparsable { .. } | Self::Id(_) => Trouble::new(
                Code::Git,
                Recovery::Retry,
                message,
                "If it goes on, run `git fsck` in the folder.",
            ),
        }
    }
}

/// Where a repository lives, and how git is run on it.
#[derive(Debug, Clone)]
pub struct Git {
    program: OsString,
    /// The per-worktree git directory.
    dir: PathBuf,
    /// The git directory that the work trees share.
    common: PathBuf,
    /// The root of the work tree; `None` for a bare repository.
    tree: Option<PathBuf>,
}

/// Returns the git program: `$AUTOSYNC_GIT`, or `git` from the PATH as it was when it was first
/// looked for, so that not every start of git searches it.
pub fn program() -> OsString {
    static FOUND: OnceLock<OsString> = OnceLock::new();
    std::env::var_os(PROGRAM_VARIABLE)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let found = FOUND.get_or_init(search);
            if Path::new(found).exists() {
                found.clone()
            } else {
                "git".into()
            }
        })
}

fn search() -> OsString {
    let runs = |file: &PathBuf| {
        fs::metadata(file)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::var_os("PATH")
        .and_then(|path| {
            std::env::split_paths(&path)
                .map(|dir| dir.join("git"))
                .find(|file| file.is_absolute() && runs(file))
        })
        .map_or_else(|| "git".into(), PathBuf::into_os_string)
}

/// Returns a command of the git program in no particular repository, with its inputs pinned.
pub fn bare_command() -> Command {
    pinned(&program())
}

fn pinned(program: &OsStr) -> Command {
    let mut command = process::command(program);
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_bytes();
        let kept: &[&[u8]] = &[
            b"GIT_SSH",
            b"GIT_SSH_COMMAND",
            b"GIT_SSH_VARIANT",
            b"GIT_EXEC_PATH",
            b"GIT_CONFIG_GLOBAL",
            b"GIT_CONFIG_SYSTEM",
            b"GIT_CONFIG_NOSYSTEM",
            b"GIT_SSL_CAINFO",
        ];
        if bytes.starts_with(b"GIT_") && !kept.contains(&bytes) {
            command.env_remove(&name);
        }
    }
    command
        .env_remove("LC_ALL")
        .env_remove("LANGUAGE")
        .env("LC_MESSAGES", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS_REQUIRE", "never")
        .env("GIT_EDITOR", ":")
        .env("GIT_SEQUENCE_EDITOR", ":")
        .env("GIT_PAGER", "cat")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_PROTOCOL_FROM_USER", "0")
        .env("GIT_ALLOW_PROTOCOL", "ssh:https:http:file");
    for setting in PINNED {
        command.arg("-c").arg(setting);
    }
    command
}

/// Checks the version of the git program.
///
/// Returns it as (major, minor). Errors if it cannot be started or is older than 2.39.
pub fn check_version() -> Result<(u32, u32), GitError> {
    let done = run(bare_command().arg("version"), b"", LOCAL, "version")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let number = text.split_ascii_whitespace().nth(2).unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MINIMUM {
        return Err(GitError::TooOld(number.to_owned()));
    }
    Ok(version)
}

/// Runs a command and errors unless it exits with 0.
pub fn run(
    command: &mut Command,
    input: &[u8],
    patience: Patience,
    name: &str,
) -> Result<Finished, GitError> {
    let done = run_any(command, input, patience, name)?;
    if done.status.success() {
        Ok(done)
    } else {
        Err(failed(name, &done))
    }
}

/// Runs a command and returns what it left, whatever its exit code.
///
/// Errors if it could not be started, stalled, or was ended by a signal.
pub fn run_any(
    command: &mut Command,
    input: &[u8],
    patience: Patience,
    name: &str,
) -> Result<Finished, GitError> {
    let done = process::run(command, input, patience).map_err(GitError::Spawn)?;
    if done.stalled {
        return Err(GitError::Stalled(name.to_owned()));
    }
    if done.status.code().is_none() {
        return Err(failed(name, &done));
    }
    Ok(done)
}

/// Returns the error of a command that ended badly.
pub fn failed(name: &str, done: &Finished) -> GitError {
    GitError::Failed {
        command: name.to_owned(),
        code: done.status.code().unwrap_or(-1),
        stderr: said(&done.stderr),
    }
}

/// Returns what a child wrote as one line for a person, at most 400 characters, no credentials.
pub fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .map(|line| {
            line.split(' ')
                .map(public_word)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let all: String = lines.join("; ").chars().take(400).collect();
    escape(all.as_bytes())
}

fn public_word(word: &str) -> String {
    if word.contains("://") {
        public_url(word)
    } else {
        word.to_owned()
    }
}

/// Returns a URL without the password, and without the user name where that may be a token.
pub fn public_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((user, host)) if scheme.ends_with("ssh") => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{path}")
        }
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

impl Git {
    /// Finds the repository whose work tree is exactly `tree`.
    ///
    /// `dir` names the git directory where it is not `tree/.git`. Errors with
    /// [`GitError::NoRepository`] if there is none; a repository above `tree` does not count.
    pub fn discover(tree: &Path, dir: Option<&Path>) -> Result<Self, GitError> {
        let named = dir.map_or_else(|| tree.join(".git"), Path::to_owned);
        if !named.exists() {
            return Err(GitError::NoRepository(tree.to_owned()));
        }
        let mut command = bare_command();
        command
            .current_dir(tree)
            .arg("--git-dir")
            .arg(&named)
            .arg("--work-tree")
            .arg(tree);
        command.args([
            "rev-parse",
            "--absolute-git-dir",
            "--path-format=absolute",
            "--git-common-dir",
        ]);
        let done = match run(&mut command, b"", LOCAL, "rev-parse") {
            Ok(done) => done,
            Err(GitError::Failed { stderr, .. }) if stderr.contains("not a git repository") => {
                return Err(GitError::NoRepository(tree.to_owned()));
            }
            Err(error) => return Err(error),
        };
        let mut lines = done
            .stdout
            .split(|b| *b == b'\n')
            .map(|line| PathBuf::from(OsString::from_vec(line.to_vec())));
        let (Some(dir), Some(common)) = (lines.next(), lines.next()) else {
            return Err(unparsable("rev-parse", &done.stdout));
        };
        Ok(Self {
            program: program(),
            dir,
            common,
            tree: Some(tree.to_owned()),
        })
    }

    /// Names a bare repository without looking at it.
    pub fn bare(dir: &Path) -> Self {
        Self {
            program: program(),
            dir: dir.to_owned(),
            common: dir.to_owned(),
            tree: None,
        }
    }

    /// Names another git directory and a work tree for it, for the same git program, without
    /// looking at them.
    #[must_use]
    pub fn elsewhere(&self, dir: &Path, tree: &Path) -> Self {
        Self {
            program: self.program.clone(),
            dir: dir.to_owned(),
            common: dir.to_owned(),
            tree: Some(tree.to_owned()),
        }
    }

    /// Returns the same repository for another git program.
    #[must_use]
    pub fn run_by(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Returns this repository with another directory as its work tree: git reads rules from there.
    #[must_use]
    pub fn with_tree(&self, tree: &Path) -> Self {
        Self {
            tree: Some(tree.to_owned()),
            ..self.clone()
        }
    }

    /// Returns the per-worktree git directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the git directory that all work trees of the repository share.
    pub fn common_dir(&self) -> &Path {
        &self.common
    }

    /// Returns the root of the work tree; the git directory itself for a bare repository.
    pub fn tree(&self) -> &Path {
        self.tree.as_deref().unwrap_or(&self.dir)
    }

    /// Returns a command on this repository, run from the root of its work tree.
    pub fn command(&self, name: &str) -> Command {
        self.command_with(&[], name)
    }

    /// Returns a command as [`command`](Self::command) does, with more settings (`key=value`),
    /// which win over ours.
    pub fn command_with(&self, settings: &[OsString], name: &str) -> Command {
        let mut command = pinned(&self.program);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command.arg("--git-dir").arg(&self.dir);
        if let Some(tree) = &self.tree {
            command.arg("--work-tree").arg(tree).current_dir(tree);
        } else {
            command.current_dir(&self.dir);
        }
        if name == "check-ignore" {
            // It takes paths only, and dies of this setting.
            command.env_remove("GIT_LITERAL_PATHSPECS");
        }
        command.arg(name);
        command
    }

    /// Runs a local command with arguments and input; errors unless it exits with 0.
    ///
    /// Returns its standard output.
    pub fn call<A: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Result<Vec<u8>, GitError> {
        Ok(run(self.command(name).args(args), input, LOCAL, name)?.stdout)
    }

    /// Runs a local command and returns what it left, whatever its exit code.
    pub fn ask<A: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Result<Finished, GitError> {
        run_any(self.command(name).args(args), input, LOCAL, name)
    }

    /// Returns the last value of a configuration key, `None` if it is not set.
    pub fn config(&self, key: &str) -> Result<Option<String>, GitError> {
        let done = self.ask("config", ["-z", "--get", key], b"")?;
        match done.status.code() {
            Some(0) => {
                let text = done.stdout.strip_suffix(b"\0").unwrap_or(&done.stdout);
                Ok(Some(String::from_utf8_lossy(text).into_owned()))
            }
            Some(1) => Ok(None),
            _ => Err(failed("config", &done)),
        }
    }

    /// Returns the name of the object format, `sha1` or `sha256`.
    pub fn object_format(&self) -> Result<String, GitError> {
        let out = self.call("rev-parse", ["--show-object-format"], b"")?;
        Ok(String::from_utf8_lossy(out.trim_ascii()).into_owned())
    }
}

impl fmt::Display for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.tree().as_os_str().as_bytes()))
    }
}

/// Returns the error of output that we do not understand.
pub fn unparsable(command: &str, said: &[u8]) -> GitError {
    let said = escape(&said[..said.len().min(200)]);
    GitError::Unparsable {
        command: command.to_owned(),
        said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_for_people_keeps_no_secret() {
        assert_eq!(
            public_url("https://me:s3cret@host/x.git"),
            "https://host/x.git"
        );
        assert_eq!(public_url("https://token@host"), "https://host");
        assert_eq!(
            public_url("ssh://me:s3cret@host:22/x"),
            "ssh://me@host:22/x"
        );
        assert_eq!(public_url("me@host:x.git"), "me@host:x.git");
        assert_eq!(
            said(b"fatal: https://a:b@c/d not found\n"),
            "fatal: https://c/d not found"
        );
    }
}
