//! Two hosts and their hub on a path, driven by `autosync once` and by plain git.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use autosync::clock;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::support::host::below;
use crate::support::{PROGRAM, Ran, Sandbox, ended};

/// A host with its folder.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) sandbox: Sandbox,
    pub(crate) root: PathBuf,
}

/// Two hosts of one person.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) laptop: Host,
    pub(crate) server: Host,
    pub(crate) hub: PathBuf,
}

/// The program, stopped at a step.
#[derive(Debug)]
#[must_use = "let it go on"]
pub(crate) struct Stopped {
    child: Child,
}

/// What stands in a folder: of every file and link its kind and content, directories left out.
pub(crate) type Tree = BTreeMap<String, String>;

impl Pair {
    /// Makes a hub with these files, and two hosts that have it.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self::of(Sandbox::named("laptop"), Sandbox::named("server"), files)
    }

    /// As [`new`](Self::new), in given sandboxes.
    pub(crate) fn of(laptop: Sandbox, server: Sandbox, files: &[(&str, &str)]) -> Self {
        let hub = laptop.root().join("hub.git");
        let laptop = Host::new(laptop);
        let server = Host::new(server);
        fs::create_dir(&laptop.root).unwrap();
        for (path, text) in files {
            laptop.write(path, text);
        }
        let (here, there) = (laptop.root.to_str().unwrap(), hub.to_str().unwrap());
        let _made = laptop.sandbox.run(["init", here, "--hub", there]).ok();
        let here = server.root.to_str().unwrap();
        let _made = server.sandbox.run(["clone", there, here]).ok();
        Self {
            laptop,
            server,
            hub,
        }
    }

    /// Copies everything aside, to start from here again with [`restore`](Self::restore).
    pub(crate) fn save(&self) {
        let saved = self.laptop.sandbox.root().join("saved");
        fs::create_dir(&saved).unwrap();
        for (at, name) in self.places() {
            self.copy(at, &saved.join(name));
        }
    }

    /// Goes back to what was saved, in the same places.
    pub(crate) fn restore(&self) {
        let saved = self.laptop.sandbox.root().join("saved");
        self.wait_for_orphans();
        for (at, name) in self.places() {
            fs::remove_dir_all(at).unwrap();
            self.copy(&saved.join(name), at);
        }
        for host in [&self.laptop, &self.server] {
            // The root is another directory now, and rightly so.
            fs::remove_file(host.root.join(".git/autosync/root")).unwrap();
        }
    }

    /// Waits for what a killed sync had started: it must not reach into what comes next.
    fn wait_for_orphans(&self) {
        let places = [&self.laptop, &self.server].map(|host| host.sandbox.root().to_owned());
        let deadline = clock::now() + Duration::from_secs(30);
        while fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            places
                .iter()
                .any(|place| cwd.starts_with(place) || line.contains(place.to_str().unwrap()))
        }) {
            assert!(clock::now() < deadline, "a child of a killed sync lives on");
            std::thread::yield_now();
        }
    }

    fn places(&self) -> [(&Path, &str); 3] {
        [
            (&self.laptop.root, "laptop"),
            (&self.server.root, "server"),
            (&self.hub, "hub"),
        ]
    }

    fn copy(&self, from: &Path, to: &Path) {
        let mut command = self.laptop.sandbox.command("cp");
        let status = command.arg("-a").arg(from).arg(to).status().unwrap();
        assert!(status.success());
    }

    /// Syncs both hosts until both had the last word of the other.
    #[track_caller]
    pub(crate) fn converge(&self, note: &str) {
        for host in [&self.laptop, &self.server, &self.laptop] {
            let ran = host.once();
            assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
        }
    }

    /// Asserts that both hosts and the hub are the same, clean, whole, and nothing is locked.
    #[track_caller]
    pub(crate) fn assert_settled(&self, note: &str) {
        let tip = self.laptop.git(&["rev-parse", "HEAD"]);
        assert_eq!(self.server.git(&["rev-parse", "HEAD"]), tip, "{note}");
        let hub = self.laptop.sandbox.git(&self.hub, ["rev-parse", "main"]);
        assert_eq!(hub, tip, "{note}: the hub");
        assert_eq!(self.laptop.tree(), self.server.tree(), "{note}");
        for host in [&self.laptop, &self.server] {
            host.assert_sound(note);
            assert_eq!(host.git(&["status", "--porcelain"]), "", "{note}");
        }
        self.laptop
            .sandbox
            .git(&self.hub, ["fsck", "--strict", "--no-dangling"]);
    }

    /// Asserts that no token is lost: each is in a tree or in the history of a host.
    #[track_caller]
    pub(crate) fn assert_known(&self, tokens: &[&str], note: &str) {
        let mut all = String::new();
        for host in [&self.laptop, &self.server] {
            all.extend(host.tree().into_values());
            all.push_str(&host.history());
        }
        for token in tokens {
            assert!(all.contains(token), "{note}: `{token}` is lost");
        }
    }
}

impl Host {
    pub(crate) fn new(sandbox: Sandbox) -> Self {
        let root = sandbox.root().join("tree");
        Self { sandbox, root }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file in place, directories included.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| format!("<{error}>"))
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The user's git.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.sandbox.git(&self.root, args)
    }

    /// The user's git, which may fail.
    pub(crate) fn try_git(&self, args: &[&str]) -> Ran {
        let mut command = self.sandbox.command("git");
        command.args(args).current_dir(&self.root);
        ended(command.output().unwrap())
    }

    /// Syncs once.
    pub(crate) fn once(&self) -> Ran {
        let root = self.root.to_str().unwrap();
        self.sandbox.run(["once", root])
    }

    /// Syncs once with a fault, to the end, whichever it is.
    pub(crate) fn once_with(&self, fault: &str) -> Ran {
        let mut command = self.sandbox.command(PROGRAM);
        command.arg("once").arg(&self.root);
        ended(command.env("AUTOSYNC_FAULT", fault).output().unwrap())
    }

    /// Syncs once up to a step, and stands still there.
    #[track_caller]
    pub(crate) fn once_until(&self, step: &str) -> Stopped {
        let mut command = self.sandbox.command(PROGRAM);
        let child = command
            .arg("once")
            .arg(&self.root)
            .env(
                "AUTOSYNC_FAULT",
                if step.contains(':') {
                    step.to_owned()
                } else {
                    format!("{step}:stop")
                },
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "`{step}` was not passed: {status:?}");
        Stopped { child }
    }

    /// What stands in the folder.
    pub(crate) fn tree(&self) -> Tree {
        let mut found = Tree::new();
        list(&self.root, &self.root, &mut found);
        found
    }

    /// Every text that any reference of this host's repository holds or held.
    pub(crate) fn history(&self) -> String {
        let mut args = vec!["log", "--all", "-p", "-m", "--text", "--format=%H"];
        let stash = self.try_git(&["rev-parse", "-q", "--verify", "refs/stash"]);
        if stash.code == Some(0) {
            args.push("refs/stash");
        }
        self.git(&args)
    }

    /// Asserts that the repository is whole and that no lock and no journal was left.
    #[track_caller]
    pub(crate) fn assert_sound(&self, note: &str) {
        let ran = self.try_git(&["fsck", "--strict", "--no-dangling"]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{note}");
        let git = PathBuf::from(self.git(&["rev-parse", "--absolute-git-dir"]));
        let mut left = Vec::new();
        leftovers(&git, &mut left);
        assert_eq!(left, Vec::<PathBuf>::new(), "{note}");
        let pending = "refs/worktree/autosync/pending";
        let ran = self.try_git(&["rev-parse", "-q", "--verify", pending]);
        assert_ne!(ran.code, Some(0), "{note}: a commit is still pending");
    }
}

impl Stopped {
    /// Lets it go on to its end.
    pub(crate) fn go_on(self) -> Ran {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
        ended(self.child.wait_with_output().unwrap())
    }

    /// Kills it with everything that it has started, as a service manager does.
    pub(crate) fn kill_all(mut self) {
        for pid in below(self.child.id()) {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn list(root: &Path, dir: &Path, found: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            found.insert(name.into_owned(), format!("-> {}", to.display()));
        } else if kind.is_dir() {
            if name != ".git" {
                list(root, &path, found);
            }
        } else if kind.is_file() {
            let script = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mark = if script { "x " } else { "" };
            found.insert(name.into_owned(), format!("{mark}{text}"));
        }
    }
}

/// Finds what an unfinished job leaves: locks, the new index, the journal.
fn leftovers(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            leftovers(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "lock")
            || name == "index.new"
            || name == "journal"
        {
            found.push(path);
        }
    }
}
