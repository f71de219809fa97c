//! A machine for a test: a home of its own, an environment of its own, real git.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use autosync::paths::{Env, Paths};
use tempfile::TempDir;

pub(crate) mod folding;
pub(crate) mod host;
pub(crate) mod inside;
pub(crate) mod strace;
pub(crate) mod trio;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_autosync");

/// Git's configuration of every sandbox: somebody who commits, and nothing of the machine's.
const GIT_CONFIG: &str = "\
[user]
\tname = Test
\temail = test@example.org
[init]
\tdefaultBranch = main
[core]
\tfsync = none
[gc]
\tauto = 0
[maintenance]
\tauto = false
[advice]
\tdetachedHead = false
[protocol \"file\"]
\tallow = always
";

/// A home directory in a temporary place with everything that makes a host: `HOME`, `XDG_*`, a
/// host's name and git's configuration. Nothing of the surrounding environment gets in but `PATH`.
#[derive(Debug)]
pub(crate) struct Sandbox {
    place: TempDir,
    host: String,
    more: Vec<(String, String)>,
}

/// What a program said and how it ended.
#[derive(Debug)]
#[must_use = "assert how it ended"]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    /// Creates the home of a host `laptop`.
    pub(crate) fn new() -> Self {
        Self::named("laptop")
    }

    /// Creates the home of a host.
    pub(crate) fn named(host: &str) -> Self {
        Self::at(host, &std::env::temp_dir())
    }

    /// The same on memory-backed storage, where there is any.
    pub(crate) fn in_memory(host: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::at(host, memory)
        } else {
            Self::named(host)
        }
    }

    /// The same below a directory.
    pub(crate) fn at(host: &str, parent: &Path) -> Self {
        let mut place = tempfile::Builder::new();
        let place = place.prefix("as-").tempdir_in(parent).unwrap();
        let sandbox = Self {
            place,
            host: host.into(),
            more: Vec::new(),
        };
        fs::create_dir(sandbox.home()).unwrap();
        fs::create_dir(sandbox.root().join("run")).unwrap();
        sandbox.write("home/.gitconfig", GIT_CONFIG);
        sandbox
    }

    /// Adds a variable to the environment of everything that is started from here.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a variable in the environment of everything that is started from here from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.more.push((name.into(), value.into()));
    }

    /// The temporary place that holds the home, and whatever else a test puts beside it.
    pub(crate) fn root(&self) -> &Path {
        self.place.path()
    }

    /// Leaves everything where it is, for a person to look at.
    pub(crate) fn keep(&mut self) {
        self.place.disable_cleanup(true);
    }

    /// The home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// The environment of everything that is started from here.
    pub(crate) fn vars(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let home = self.home();
        let mut vars = vec![
            ("PATH".into(), std::env::var("PATH").unwrap()),
            ("LC_ALL".into(), "C".into()),
            ("TZ".into(), "UTC".into()),
            ("XDG_CONFIG_HOME".into(), text(home.join(".config"))),
            ("XDG_DATA_HOME".into(), text(home.join(".local/share"))),
            ("XDG_STATE_HOME".into(), text(home.join(".local/state"))),
            ("XDG_CACHE_HOME".into(), text(home.join(".cache"))),
            ("XDG_RUNTIME_DIR".into(), text(self.root().join("run"))),
            ("AUTOSYNC_HOST".into(), self.host.clone()),
            ("GIT_CONFIG_GLOBAL".into(), text(home.join(".gitconfig"))),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
            ("HOME".into(), text(home)),
        ];
        vars.extend(self.more.iter().cloned());
        vars
    }

    /// The same as the program sees it.
    pub(crate) fn env(&self) -> Env {
        self.vars().into_iter().collect()
    }

    /// The program's places in this home.
    pub(crate) fn paths(&self) -> Paths {
        Paths::new(&self.env()).unwrap()
    }

    /// Writes a file below [`root`](Self::root), directories included. Returns its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the configuration in its usual place. Returns its path.
    pub(crate) fn config(&self, text: &str) -> PathBuf {
        self.write("home/.config/autosync/config.toml", text)
    }

    /// A program that is about to start here, with this environment and no input.
    #[expect(
        clippy::disallowed_methods,
        reason = "a test stands outside of the program and starts it"
    )]
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.vars())
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program under test to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        ended(self.command(PROGRAM).args(args).output().unwrap())
    }

    /// Runs git in a directory. Returns what it wrote, without the last line's end.
    pub(crate) fn git<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> String {
        let mut command = self.command("git");
        command.args(args).current_dir(dir);
        let ran = ended(command.output().unwrap());
        assert_eq!(ran.code, Some(0), "{command:?}: {ran:?}");
        ran.out.trim_end_matches('\n').to_owned()
    }
}

impl Ran {
    /// Asserts that it ended well. Returns what it wrote to standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.code, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        self.out
    }

    /// Asserts that it failed with this code and said nothing on standard output. Returns what it
    /// complained about.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(
            (self.code, self.out.as_str()),
            (Some(code), ""),
            "{}",
            self.err
        );
        self.err
    }
}

/// Turns what a child left into what it said; a signal counts as 128 and its number.
pub(crate) fn ended(output: Output) -> Ran {
    Ran {
        code: output
            .status
            .code()
            .or_else(|| output.status.signal().map(|signal| 128 + signal)),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_git_of_a_sandbox_knows_nothing_of_the_machine() {
    let sandbox = Sandbox::new();
    let home = sandbox.home();
    sandbox.git(&home, ["init", "-q", "repo"]);
    let repo = home.join("repo");
    sandbox.git(&repo, ["commit", "-q", "--allow-empty", "-m", "one"]);
    assert_eq!(sandbox.git(&repo, ["log", "--format=%an %s"]), "Test one");
    assert_eq!(sandbox.git(&repo, ["branch", "--show-current"]), "main");
    let scopes = sandbox.git(&repo, ["config", "--list", "--show-scope"]);
    assert!(!scopes.contains("system"), "{scopes}");
}
