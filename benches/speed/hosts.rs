//! Two hosts, a hub, and the bare git loop that they are measured beside.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{now, wait_until};

/// A temporary place with a hub of some size.
pub(crate) struct Lab {
    place: TempDir,
    hub: PathBuf,
}

/// One host of a lab.
#[derive(Clone)]
pub(crate) struct Host {
    home: PathBuf,
    name: &'static str,
    hub: String,
    /// Its folder.
    pub(crate) tree: PathBuf,
    windows: Option<&'static str>,
    /// Settings of git.
    settings: Vec<(&'static str, String)>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is no part of the agent"
)]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Makes files, ten in each directory and a hundred such directories in each above.
///
/// `word` is in each of them, so that another tree has other contents.
pub(crate) fn fill(root: &Path, count: usize, word: &str) {
    for number in 0..count {
        let dir = root.join(format!("p{}/d{}", number / 1000, number / 10));
        if number % 10 == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(
            dir.join(format!("f{number}.txt")),
            format!("{word} {number}\n").repeat(20),
        )
        .unwrap();
    }
}

/// Counts the files below a directory.
pub(crate) fn count(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| {
            if entry.path().is_dir() {
                count(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

/// Counts the directories below a tree, but for git's own.
pub(crate) fn directories(root: &Path) -> usize {
    fs::read_dir(root)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != ".git" && entry.path().is_dir())
        .map(|entry| 1 + directories(&entry.path()))
        .sum()
}

impl Lab {
    pub(crate) fn new(size: usize) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (seed, hub) = (place.path().join("seed"), place.path().join("hub.git"));
        fs::create_dir(&seed).unwrap();
        fill(&seed, size, "seed");
        let this = Self { place, hub };
        git(&seed, &["init", "-q", "-b", "main"]);
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-q", "-m", "seed"]);
        // As a push of so many files leaves them on a hub; loose ones would have it cleaned up
        // again and again while we measure.
        git(&seed, &["repack", "-adq"]);
        git(
            this.place.path(),
            &["clone", "-q", "--bare", "seed", "hub.git"],
        );
        git(&this.hub, &["config", "core.fsync", "all"]);
        this
    }

    /// Makes a host with a clone. `windows` is the value of both quiet times.
    pub(crate) fn host(&self, name: &'static str, windows: &'static str) -> Host {
        let host = self.empty_host(name);
        git(
            &host.home,
            &["clone", "-q", self.hub.to_str().unwrap(), "Sync"],
        );
        host.with_windows(Some(windows))
    }

    /// Makes a host with nothing, and default windows.
    pub(crate) fn empty_host(&self, name: &'static str) -> Host {
        let home = self.place.path().join(name);
        fs::create_dir_all(&home).unwrap();
        Host {
            tree: home.join("Sync"),
            home,
            name,
            hub: self.hub.to_str().unwrap().to_owned(),
            windows: None,
            settings: Vec::new(),
        }
    }

    /// Counts the commits of the hub.
    pub(crate) fn commits(&self) -> usize {
        let out = command("git")
            .current_dir(&self.hub)
            .args(["rev-list", "--count", "main"])
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Returns where the hub is.
    pub(crate) fn hub(&self) -> &Path {
        &self.hub
    }

    /// Makes a bare repository without a commit, and returns where it is.
    pub(crate) fn empty_hub(&self, name: &str) -> PathBuf {
        git(
            self.place.path(),
            &["init", "-q", "--bare", "-b", "main", name],
        );
        let hub = self.place.path().join(name);
        git(&hub, &["config", "core.fsync", "all"]);
        hub
    }

    /// Puts many commits of one file each on top of the hub's branch.
    pub(crate) fn age(&self, commits: usize) {
        let mut script = String::new();
        for number in 0..commits {
            let text = format!("age {number}\n");
            let from = if number == 0 {
                "from refs/heads/main^0\n"
            } else {
                ""
            };
            write!(
                script,
                "commit refs/heads/main\ncommitter B <b@x> {} +0000\ndata 3\nage\n{from}\
                 M 100644 inline p0/d{}/age{}\ndata {}\n{text}\n",
                1_700_000_000 + number,
                number % 10,
                number % 97,
                text.len(),
            )
            .unwrap();
        }
        let mut child = command("git")
            .current_dir(&self.hub)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(script.as_bytes()).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

impl Host {
    /// Returns the same host with other quiet times; `None` are the defaults.
    pub(crate) fn with_windows(mut self, windows: Option<&'static str>) -> Self {
        self.windows = windows;
        self
    }

    /// Returns the same host with another hub, and what git needs to reach it.
    pub(crate) fn with_hub(mut self, hub: &str, settings: &[(&'static str, String)]) -> Self {
        hub.clone_into(&mut self.hub);
        self.settings = settings.to_vec();
        self
    }

    /// Makes its folder a repository with the hub, by the command.
    pub(crate) fn init(&self) {
        self.configure_git();
        let done = command(env!("CARGO_BIN_EXE_autosync"))
            .args(["init", "--hub", &self.hub])
            .arg(&self.tree)
            .env("HOME", &self.home)
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "autosync init: {said}");
    }

    /// Gives its git the settings that it needs, and a name.
    fn configure_git(&self) {
        let mut text = "[user]\n\tname = Bench\n\temail = bench@example.org\n".to_owned();
        for (key, value) in &self.settings {
            let (section, key) = key.split_once('.').unwrap();
            writeln!(text, "[{section}]\n\t{key} = {value}").unwrap();
        }
        fs::write(self.home.join(".gitconfig"), text).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.home.join("run/s")
    }

    fn configure(&self) -> PathBuf {
        let file = self.home.join("config.toml");
        let windows = self.windows.map_or(String::new(), |quiet| {
            format!("[settle]\nquiet = \"{quiet}\"\nquiet_max = \"{quiet}\"\n[push]\nquiet = \"{quiet}\"\nquiet_max = \"{quiet}\"\n")
        });
        let (tree, hub, socket) = (self.tree.display(), &self.hub, self.socket());
        let text = format!(
            "host = \"{}\"\n[[folder]]\npath = \"{tree}\"\nhub = \"{hub}\"\n{windows}[control]\nsocket = \"{}\"\n",
            self.name,
            socket.display()
        );
        fs::write(&file, text).unwrap();
        file
    }
}

/// A running agent.
pub(crate) struct Agent {
    child: RefCell<Child>,
    host: Host,
}

impl Agent {
    pub(crate) fn start(host: &Host) -> Self {
        host.configure_git();
        let child = command(env!("CARGO_BIN_EXE_autosync"))
            .arg("--config")
            .arg(host.configure())
            .arg("run")
            .env("HOME", &host.home)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::null())
            .stderr(fs::File::create(host.home.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self {
            child: RefCell::new(child),
            host: host.clone(),
        }
    }

    fn call(&self, request: &str) -> Option<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(self.host.socket()).ok()?;
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .ok()?;
        Some(BufReader::new(stream))
    }

    /// Waits until the hub has everything.
    pub(crate) fn wait_synced(&self) {
        wait_until(|| {
            let Some(mut answer) = self.call("GET /v1/wait?for=synced&timeout_ms=60000") else {
                return false;
            };
            let mut line = String::new();
            answer.read_line(&mut line).is_ok() && line.contains(" 200 ")
        });
    }

    /// Returns whether everything is published and received at this moment.
    pub(crate) fn is_synced(&self) -> bool {
        let Some(mut answer) = self.call("GET /v1/wait?for=synced&timeout_ms=50") else {
            return false;
        };
        let mut line = String::new();
        answer.read_line(&mut line).is_ok() && line.contains(" 200 ")
    }

    /// Listens to what happens.
    pub(crate) fn events(&self) -> Events {
        let mut reader = self.call("GET /v1/events").unwrap();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Events {
            reader: RefCell::new(reader),
        }
    }

    /// Returns the processor time that it used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", self.child.borrow().id()));
        let main: u64 = stat.unwrap().split(' ').next().unwrap().parse().unwrap();
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.borrow().id())).unwrap();
        let all: u64 = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(all.max(main))
    }

    /// Returns its proportional set size in KiB.
    pub(crate) fn pss(&self) -> u64 {
        let rollup = format!("/proc/{}/smaps_rollup", self.child.borrow().id());
        let text = fs::read_to_string(rollup).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .unwrap()
            .to_owned();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Returns the number of watches that it has, as the kernel says.
    pub(crate) fn watches(&self) -> usize {
        let infos = format!("/proc/{}/fdinfo", self.child.borrow().id());
        let Ok(entries) = fs::read_dir(infos) else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .map(|text| text.matches("inotify wd:").count())
            .sum()
    }

    /// Returns the processor time of it and of every program that it ran and that ended.
    pub(crate) fn cpu_with_children(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.borrow().id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // utime, stime, cutime, cstime, in ticks of 10 ms.
        let ticks: u64 = fields[11..15]
            .iter()
            .map(|it| it.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the longest progress that the status shows, if any: what, done, total.
    pub(crate) fn progress(&self) -> Option<String> {
        let mut answer = self.call("GET /v1/status")?;
        let mut text = String::new();
        while !text.contains("\"transports\"") {
            if answer.read_line(&mut text).ok()? == 0 {
                return None;
            }
        }
        let at = text.find("\"progress\":{")?;
        let words = &text[at + 12..];
        Some(words[..=words.find('}')?].to_owned())
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&self) {
        if let Some(mut answer) = self.call("POST /v1/stop") {
            answer.read_line(&mut String::new()).unwrap();
        }
        self.child.borrow_mut().wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let mut child = self.child.borrow_mut();
        // Only after a failure it still runs.
        if child.try_wait().is_ok_and(|ended| ended.is_none()) && child.kill().is_ok() {
            drop(child.wait());
        }
    }
}

/// The event stream of an agent.
pub(crate) struct Events {
    reader: RefCell<BufReader<UnixStream>>,
}

impl Events {
    /// Waits for an event that holds some text; returns how long after `start` it came.
    pub(crate) fn until(&self, start: Instant, text: &str) -> Duration {
        let mut line = String::new();
        while !line.contains(text) || !line.contains("started") {
            line.clear();
            self.reader.borrow_mut().read_line(&mut line).unwrap();
        }
        start.elapsed()
    }
}

/// The program that a user could write in an hour: add, commit, push; pull.
pub(crate) struct Loop {
    here: PathBuf,
    there: PathBuf,
}

impl Loop {
    pub(crate) fn new(lab: &Lab) -> Self {
        let place = lab.place.path();
        git(place, &["clone", "-q", "--bare", "seed", "loop.git"]);
        git(place, &["clone", "-q", "loop.git", "loop-here"]);
        git(place, &["clone", "-q", "loop.git", "loop-there"]);
        Self {
            here: place.join("loop-here"),
            there: place.join("loop-there"),
        }
    }

    /// Edits one file and brings it over.
    pub(crate) fn edit(&self, round: usize) -> Duration {
        fs::write(
            self.here.join(format!("p0/d0/loop-{round}")),
            format!("{round}\n"),
        )
        .unwrap();
        let start = now();
        self.turn();
        start.elapsed()
    }

    /// Makes many files and brings them over.
    pub(crate) fn many(&self, count: usize) -> Duration {
        let start = now();
        fill(&self.here.join("many"), count, "new");
        self.turn();
        start.elapsed()
    }

    fn turn(&self) {
        git(&self.here, &["add", "-A"]);
        git(&self.here, &["commit", "-q", "-m", "loop"]);
        git(&self.here, &["push", "-q"]);
        git(&self.there, &["pull", "-q", "--ff-only"]);
    }
}

fn git(dir: &Path, args: &[&str]) {
    let done = command("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=Bench",
            "-c",
            "user.email=bench@example.org",
            "-c",
            "gc.auto=0",
        ])
        .args(["-c", "core.fsync=all"])
        .args(args)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
