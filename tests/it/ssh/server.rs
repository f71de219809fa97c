//! A real sshd on loopback with keys of its own, and how processes on it are watched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use autosync::git::hub;
use autosync::git::ssh::Client as Ssh;
use autosync::process::{self, Patience, Running};
use autosync::repo::network::Kind;
use autosync::transport::hub::Pace;
use autosync::transport::{Folder, HubTransport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::network::{Clone, skipped};
use crate::transport_path::Inbox;

const SSHD: &str = "/usr/sbin/sshd";

pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let patience = Patience::Total(Duration::from_secs(20));
    let done = process::run(process::command(program).args(args), b"", patience).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// An sshd of our own, and how a client reaches it as the host `hub.test`.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    sshd: Option<Running>,
}

impl Server {
    /// Starts a server; says why a test is skipped where that cannot be done.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::with(test, "")
    }

    /// Starts a server on which every command goes through this script (for `sh`).
    pub(crate) fn forcing(test: &str, script: &str) -> Option<Self> {
        Self::with(test, script)
    }

    pub(crate) fn with(test: &str, script: &str) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            skipped(test, "there is no sshd");
            return None;
        }
        let is_root = rustix::process::geteuid().is_root();
        if is_root && fs::create_dir_all("/run/sshd").is_err() {
            skipped(test, "sshd needs /run/sshd");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("as").tempdir().unwrap();
        // The kernel gives a port that is free now, and will not give it again soon.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host_key", "key"] {
            tool(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-f", &at(name)],
            );
        }
        fs::copy(at("key.pub"), at("authorized_keys")).unwrap();
        let force = if script.is_empty() {
            String::new()
        } else {
            fs::write(at("force.sh"), script).unwrap();
            format!("ForceCommand sh '{}'\n", at("force.sh"))
        };
        // bash reads the settings of whoever runs this if sshd starts it as an outermost shell: they are
        // none of ours, take long, and may be killed with the connection.
        fs::write(
            at("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n\
                 SetEnv SHLVL=9\n{force}",
                at("host_key"),
                at("authorized_keys")
            ),
        )
        .unwrap();
        fs::write(
            at("ssh_config"),
            format!(
                "Host hub.test\nHostName 127.0.0.1\nPort {port}\nUser {}\nIdentityFile {}\n\
                 IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\n\
                 GlobalKnownHostsFile /dev/null\nUpdateHostKeys no\n",
                tool("id", &["-un"]),
                at("key"),
                at("known_hosts")
            ),
        )
        .unwrap();
        fs::create_dir(at("run")).unwrap();
        let mut server = Self {
            dir,
            port,
            sshd: None,
        };
        server.know_key();
        server.listen();
        Some(server)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tells the client which key this server has.
    pub(crate) fn know_key(&self) {
        let key = fs::read_to_string(self.at("host_key.pub")).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        fs::write(self.at("known_hosts"), line).unwrap();
    }

    pub(crate) fn listen(&mut self) {
        // The kernel ends it with the thread that started it, also where that is never dropped.
        let mut command = process::command("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", SSHD, "-D", "-e", "-f"])
            .arg(self.at("sshd_config"));
        command.stderr(Stdio::piped());
        let mut sshd = Running::start(&mut command).unwrap();
        let mut log = BufReader::new(sshd.child().stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "sshd ended");
        }
        std::thread::spawn(move || log.lines().count());
        self.sshd = Some(sshd);
    }

    pub(crate) fn pid(&self) -> i32 {
        self.sshd.as_ref().unwrap().pid()
    }

    /// Ends the listener and every connection, as a machine that reboots.
    pub(crate) fn shut_down(&mut self) {
        let mut all = family(self.pid());
        all.push(self.pid());
        for pid in all {
            kill(pid, Signal::KILL);
        }
        self.sshd = None;
    }

    pub(crate) fn command(&self) -> String {
        format!("ssh -F {}", self.at("ssh_config").display())
    }

    /// Makes a hub on the server, and returns where it is.
    pub(crate) fn hub(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        hub::create(&path, "main", false).unwrap();
        path
    }

    /// Makes a clone whose hub is at this path of the server.
    pub(crate) fn clone(&self, name: &str, hub: &Path) -> Clone {
        let url = format!("hub.test:{}", hub.display());
        let command = self.command();
        let mut clone = Clone::new(
            self.dir.path(),
            name,
            &url,
            &[("core.sshCommand", &command)],
        );
        clone.runtime = self.at("run");
        clone
    }

    /// Returns a folder for the transport whose hub is at this path of the server.
    pub(crate) fn folder(&self, key: &str, hub: &Path) -> Folder {
        let url = format!("ssh://hub.test{}", hub.display());
        let mut folder = crate::transport_path::folder(key, Kind::of(&url, Path::new("/")));
        folder.ssh_command = Some(self.command());
        folder
    }

    pub(crate) fn transport(&self, pace: Pace) -> (HubTransport, Inbox) {
        let (sink, inbox) = Inbox::new();
        (HubTransport::new(sink, self.at("run"), pace), inbox)
    }

    /// Returns the shells on the server that run our script.
    pub(crate) fn shells(&self) -> Vec<i32> {
        let is_ours = |pid: &i32| words(*pid) == ["sh", "-s"] && !shells_above(*pid);
        family(self.pid()).into_iter().filter(is_ours).collect()
    }

    /// Returns the server's connections: the children of its listener.
    pub(crate) fn connections(&self) -> Vec<i32> {
        children(self.pid())
    }

    /// Ends the connection that the clients share.
    pub(crate) fn close_connection(&self, clone: &Clone) {
        if let Kind::Ssh(server, _) = &clone.remote.kind {
            Ssh::new(Some(&self.command()), server, &self.at("run")).close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.sshd.is_some() {
            self.shut_down();
        }
    }
}

/// Whether the parent is such a shell too: its own background jobs look the same.
pub(crate) fn shells_above(pid: i32) -> bool {
    parent(pid).is_some_and(|above| words(above) == ["sh", "-s"])
}

pub(crate) fn words(pid: i32) -> Vec<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

pub(crate) fn children(of: i32) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

pub(crate) fn family(of: i32) -> Vec<i32> {
    let mut all = children(of);
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    // It may have ended by itself meanwhile.
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

/// Something that tells when a process has ended; nothing of one that has.
pub(crate) fn try_watch_end(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// As [`try_watch_end`], of one that is there.
pub(crate) fn watch_end(pid: i32) -> OwnedFd {
    try_watch_end(pid).unwrap()
}

pub(crate) fn wait_for_end(process: &OwnedFd, what: &str) {
    let limit = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "{what} lives on");
}

/// A script that leaves a server without inotifywait.
pub(crate) const PLAIN: &str = r#"
mkdir -p "${0%/*}/bin"
for name in sh ls sleep git git-upload-pack git-receive-pack cat; do
    ln -sf "$(command -v $name)" "${0%/*}/bin/$name"
done 2>/dev/null
PATH=${0%/*}/bin
exec sh -c "$SSH_ORIGINAL_COMMAND"
"#;

/// A script that behaves as a forge does.
pub(crate) const FORGE: &str = r#"
echo x >>"${0%/*}/log"
case $SSH_ORIGINAL_COMMAND in
git-upload-pack* | git-receive-pack*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
echo "Invalid command: '$SSH_ORIGINAL_COMMAND'" >&2
echo "  You appear to be using ssh to clone a git:// URL." >&2
exit 1
"#;
