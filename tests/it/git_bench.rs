//! A repository made by plain git in a directory of its own, with nothing of the user's in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A work tree on branch `main`.
#[derive(Debug)]
pub(crate) struct Bench {
    _home: TempDir,
    root: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Makes a repository with more arguments to `git init`.
    pub(crate) fn with(init: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let this = Self { _home: home, root };
        let mut args = vec!["init", "-q", "-b", "main"];
        args.extend(init);
        this.git(&args);
        this.git(&["config", "user.name", "Tester"]);
        this.git(&["config", "user.email", "tester@example.org"]);
        this
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs git in the work tree; returns its output without the last line break.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        Self::run_in(&self.root, args)
    }

    pub(crate) fn run_in(dir: &Path, args: &[&str]) -> String {
        fs::create_dir_all(dir).unwrap();
        let out = git_command().current_dir(dir).args(args).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "git {args:?}: {error}");
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the user's own git, not a child of the agent"
)]
pub(crate) fn git_command() -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("LC_ALL", "C.UTF-8");
    command
}
