//! A host with a living agent: a process of the built program in a sandbox of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use autosync::clock;
use autosync::control::{Client, Happening, Until};
use autosync::engine::status::{Counters, FolderStatus, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::runtime::Runtime;

use crate::support::{PROGRAM, Ran, Sandbox};

/// Nothing takes this long on the slowest machine unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A host and, most of the time, its agent. The agent ends when it is dropped.
///
/// With `AUTOSYNC_TEST_KEEP` set, what a test that failed left is kept. `AUTOSYNC_TEST_LOG` says how
/// much its agents say, in the words of `AUTOSYNC_LOG`: `autosync=debug,autosync::fault=trace` is what
/// explains a failure.
pub(crate) struct Host {
    pub(crate) sandbox: Sandbox,
    /// The folder that most tests are about.
    pub(crate) folder: PathBuf,
    args: Vec<OsString>,
    agent: Option<Child>,
    client: Client,
    runtime: Runtime,
    starts: usize,
}

/// What stands at a path of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands {
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
}

/// What stands in a folder, `.git` left out, and directories too: git knows none that is empty.
pub(crate) type Tree = BTreeMap<OsString, Stands>;

impl Host {
    /// A host whose agent is not started yet; it will be `autosync run ~/Sync`.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(Sandbox::named(name), name)
    }

    /// The same in a sandbox that was made ready.
    pub(crate) fn of(sandbox: Sandbox, name: &str) -> Self {
        let folder = sandbox.home().join("Sync");
        let client = Client::new(sandbox.paths().control_socket(name));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            args: vec![folder.clone().into()],
            sandbox,
            folder,
            agent: None,
            client,
            runtime,
            starts: 0,
        }
    }

    /// The same with other arguments of `autosync run`.
    pub(crate) fn with_args<A: Into<OsString>>(
        mut self,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the agent and returns once it answers.
    pub(crate) fn start(&mut self) {
        assert!(self.agent.is_none(), "the agent runs already");
        self.starts += 1;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut command = self.sandbox.command(PROGRAM);
        if let Some(words) = std::env::var_os("AUTOSYNC_TEST_LOG") {
            command.env("AUTOSYNC_LOG", words);
        }
        let child = command
            .arg("run")
            .args(&self.args)
            .arg("-v")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
        self.until("the agent answers", |host| {
            host.runtime.block_on(host.client.status()).is_ok()
        });
    }

    fn log_file(&self) -> PathBuf {
        self.sandbox.root().join("agent.log")
    }

    /// Returns everything that the agents of this host have said.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Returns the process id of the agent.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Waits until something is so. Panics if the agent ends meanwhile.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let deadline = clock::now() + PATIENCE;
        loop {
            if so(self) {
                return;
            }
            assert!(clock::now() < deadline, "not so in time: {what}");
            assert!(
                !self.ends_within(Duration::from_millis(5)),
                "the agent ended before this was so: {what}\n{}",
                self.log()
            );
        }
    }

    /// Waits until what stands in the folder is as it should be.
    #[track_caller]
    pub(crate) fn sees(&self, what: &str, so: impl Fn(&Path) -> bool) {
        self.until(what, |host| so(&host.folder));
    }

    /// Returns whether the agent ends within this time.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let pid = i32::try_from(self.pid()).unwrap();
        let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
            return true;
        };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let time = Timespec::try_from(time).unwrap();
        poll(&mut fds, Some(&time)).unwrap() > 0
    }

    /// Sends the agent a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Kills the agent as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Kills the agent and everything that it has started, as a service manager does.
    pub(crate) fn kill_all(&mut self) {
        // Stopped, it starts nothing any more.
        self.signal(Signal::STOP);
        for pid in below(self.pid()) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
            if let Err(error) = kill_process(pid, Signal::KILL) {
                assert_eq!(error, rustix::io::Errno::SRCH, "it ended by itself");
            }
        }
        self.kill();
    }

    /// Waits for the end of the agent. Returns its exit code; a signal counts as 128 and more.
    #[track_caller]
    pub(crate) fn ended(&mut self, within: Duration) -> i32 {
        assert!(self.ends_within(within), "the agent goes on");
        let status = self.agent.take().unwrap().wait().unwrap();
        let killed = || 128 + status.signal().unwrap();
        status.code().unwrap_or_else(killed)
    }

    /// Stops the agent as a user does; it must end well and in time.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.runtime.block_on(self.client.stop()).unwrap();
        assert_eq!(self.ended(Duration::from_secs(6)), 0, "{}", self.log());
    }

    /// Runs the program on this host.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.sandbox.run(args)
    }

    /// Runs git in the folder.
    pub(crate) fn git<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        self.sandbox.git(&self.folder, args)
    }

    /// Returns the status.
    pub(crate) fn status(&self) -> Status {
        self.runtime.block_on(self.client.status()).unwrap()
    }

    /// Returns the status of the only folder.
    pub(crate) fn folder_status(&self) -> FolderStatus {
        only(self.status())
    }

    /// Returns everything that the agent tells from now on.
    pub(crate) fn listen(&self) -> Receiver<Happening> {
        let client = Client::new(self.client.socket().to_owned());
        let (told, heard) = channel();
        let (ready, stands) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let each = |event| told.send(event).is_ok();
            // It ends with the agent, which may be killed.
            drop(runtime.block_on(client.events(|| ready.send(()).unwrap(), each)));
        });
        stands.recv_timeout(PATIENCE).unwrap();
        heard
    }

    /// Returns the folder's status once everything has settled.
    #[track_caller]
    pub(crate) fn barrier(&self) -> FolderStatus {
        match self.runtime.block_on(self.client.barrier(None, PATIENCE)) {
            Ok(status) => only(status),
            Err(error) => panic!("{error}: {:#?}", self.status()),
        }
    }

    /// Returns the folder's status once the hub has everything.
    #[track_caller]
    pub(crate) fn synced(&self) -> FolderStatus {
        match self
            .runtime
            .block_on(self.client.wait(Until::Synced, PATIENCE))
        {
            Ok(status) => only(status),
            Err(error) => panic!("{error}: {:#?}", self.status()),
        }
    }

    /// Returns the counters once everything has settled.
    #[track_caller]
    pub(crate) fn counters(&self) -> Counters {
        self.barrier().counters
    }

    /// Asserts that nothing happens any more.
    #[track_caller]
    pub(crate) fn assert_quiet(&self) {
        let before = self.barrier();
        for _ in 0..3 {
            let after = self.barrier();
            assert_eq!(after.counters, before.counters, "{}", self.log());
            assert_eq!(after.head, before.head);
        }
    }

    /// Writes a file of the folder, directories included.
    pub(crate) fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Takes a directory out of the folder, all of it at once however busy the machine is.
    pub(crate) fn take_away(&self, name: &str) {
        let out = self.sandbox.root().join("taken away");
        fs::create_dir_all(&out).unwrap();
        fs::rename(self.folder.join(name), out.join(name)).unwrap();
    }

    /// Returns a file of the folder as text, `None` if there is none.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.folder.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns everything in the folder.
    pub(crate) fn tree(&self) -> Tree {
        tree(&self.folder)
    }

    /// Returns the conflict copies in the folder.
    pub(crate) fn copies(&self) -> Vec<String> {
        let tree = self.tree().into_keys();
        let names = tree.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.contains(" (conflict ")).collect()
    }

    /// Returns every commit of the branch, newest first.
    pub(crate) fn commits(&self) -> Vec<String> {
        let out = self.git(["rev-list", "HEAD"]);
        out.lines().map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // The one that runs may be stopped by a signal, so nothing gentler is sure.
            drop(agent.kill());
            drop(agent.wait());
        }
        if std::thread::panicking() && self.starts > 0 {
            #[expect(clippy::print_stderr, reason = "a test that failed shows its log")]
            {
                eprintln!("--- {}\n{}", self.log_file().display(), self.log());
            }
            if std::env::var_os("AUTOSYNC_TEST_KEEP").is_some() {
                self.sandbox.keep();
            }
        }
        let runtime = self.client.socket().parent().unwrap();
        if !runtime.starts_with(self.sandbox.root()) {
            // It may never have been made.
            drop(fs::remove_dir_all(runtime));
        }
    }
}

/// Returns every process that a process has started, and that those have started.
pub(crate) fn below(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name may hold anything, and ends at the last bracket.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    while let Some(parent) = all.get(at).copied() {
        at += 1;
        let children = parents.iter().filter(|(_, of)| *of == parent);
        all.extend(children.map(|(pid, _)| *pid));
    }
    all.split_off(1)
}

fn only(mut status: Status) -> FolderStatus {
    assert_eq!(status.folders.len(), 1, "{status:#?}");
    status.folders.remove(0)
}

/// Returns everything below a directory, `.git` left out.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if dir == root && path.file_name() == Some(OsStr::new(".git")) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let stands = if meta.is_dir() {
                left.push(path);
                continue;
            } else if meta.is_symlink() {
                Stands::Link(fs::read_link(&path).unwrap())
            } else {
                Stands::File {
                    content: fs::read(&path).unwrap(),
                    executable: meta.permissions().mode() & 0o100 != 0,
                }
            };
            tree.insert(name_in(root, &path), stands);
        }
    }
    tree
}

fn name_in(root: &Path, path: &Path) -> OsString {
    let name = path.strip_prefix(root).unwrap().as_os_str();
    OsString::from_vec(name.as_bytes().to_vec())
}

/// Two hosts with agents, and the hub that the first one made.
pub(crate) struct Pair {
    pub(crate) laptop: Host,
    pub(crate) server: Host,
    pub(crate) hub: PathBuf,
}

impl Pair {
    /// Starts both, as a user would: `run` here, `clone` and `run` there.
    pub(crate) fn new() -> Self {
        Self::configured("")
    }

    /// The same with a configuration on both.
    pub(crate) fn configured(config: &str) -> Self {
        let hosts = ["laptop", "server"].map(Host::new);
        for host in &hosts {
            host.sandbox.config(config);
        }
        Self::of(hosts)
    }

    /// The same with hosts that were made ready.
    pub(crate) fn of([mut laptop, mut server]: [Host; 2]) -> Self {
        laptop.start();
        let hub = laptop.sandbox.paths().hubs().join("Sync.git");
        let ran = server.run([OsStr::new("clone"), hub.as_os_str(), OsStr::new("Sync")]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        server.start();
        let pair = Self {
            laptop,
            server,
            hub,
        };
        pair.quiet();
        pair
    }

    /// Both hosts.
    pub(crate) fn hosts(&self) -> [&Host; 2] {
        [&self.laptop, &self.server]
    }

    /// Returns the tip of the hub.
    pub(crate) fn tip(&self) -> String {
        let args = ["rev-parse", "--verify", "-q", "refs/heads/main"];
        let mut command = self.laptop.sandbox.command("git");
        let out = command.args(args).current_dir(&self.hub).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Waits until both are at the hub's commit and nothing is left to do.
    #[track_caller]
    pub(crate) fn quiet(&self) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let statuses = self.hosts().map(|host| {
                host.synced();
                host.barrier()
            });
            let tip = self.tip();
            let at_tip =
                |status: &FolderStatus| status.head == tip && (status.published || tip.is_empty());
            if statuses.iter().all(at_tip) {
                return;
            }
            assert!(clock::now() < deadline, "{tip}: {statuses:#?}");
        }
    }

    /// Waits for quiet and asserts that both folders are the same and without damage.
    #[track_caller]
    pub(crate) fn equal(&self) -> Tree {
        self.quiet();
        let tree = self.laptop.tree();
        let other = self.server.tree();
        let names: BTreeSet<&OsString> = tree.keys().chain(other.keys()).collect();
        let differ: Vec<&OsString> = names
            .into_iter()
            .filter(|name| tree.get(*name) != other.get(*name))
            .collect();
        if !differ.is_empty() {
            let [laptop, server] = self.hosts().map(Host::folder_status);
            let git = self.hosts().map(|host| host.git(["status", "--short"]));
            panic!("not the same: {differ:?}\n{git:#?}\n{laptop:#?}\n{server:#?}");
        }
        tree
    }

    /// Asserts what must hold when everything is over: equal, quiet, undamaged, no markers,
    /// nothing to do for the user's git.
    #[track_caller]
    pub(crate) fn ends_well(&self) -> Tree {
        let tree = self.equal();
        for (name, stands) in &tree {
            if let Stands::File { content, .. } = stands {
                let mut lines = content.split(|byte| *byte == b'\n');
                let marker = lines.any(|line| line.starts_with(b"<<<<<<<"));
                assert!(!marker, "conflict markers in `{}`", name.display());
            }
        }
        for host in self.hosts() {
            host.assert_quiet();
            assert_eq!(host.git(["status", "--porcelain"]), "", "git's view");
            host.git(["fsck", "--full", "--no-dangling", "--no-progress"]);
        }
        self.laptop
            .sandbox
            .git(&self.hub, ["fsck", "--full", "--no-progress"]);
        tree
    }
}
