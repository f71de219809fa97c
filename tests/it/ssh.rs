//! ssh hubs, against a real sshd on loopback: one session, one connection, every failure a
//! sentence, nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use autosync::engine::event::{Code, Event, Fetched, Pushed, Recovery};
use autosync::git::hub;
use autosync::git::ssh::Client as Ssh;
use autosync::process::{self, Patience, Running};
use autosync::repo::network::Kind;
use autosync::transport::hub::Pace;
use autosync::transport::{Folder, HubTransport, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::network::{Clone, confirmed, fetch_trouble, git, skipped};
use crate::transport_path::{Inbox, advance, measured};

const SSHD: &str = "/usr/sbin/sshd";

fn tool(program: &str, args: &[&str]) -> String {
    let patience = Patience::Total(Duration::from_secs(20));
    let done = process::run(process::command(program).args(args), b"", patience).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// An sshd of our own, and how a client reaches it as the host `hub.test`.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    sshd: Option<Running>,
}

impl Server {
    /// Starts a server; says why a test is skipped where that cannot be done.
    fn start(test: &str) -> Option<Self> {
        Self::with(test, "")
    }

    /// Starts a server on which every command goes through this script (for `sh`).
    fn forcing(test: &str, script: &str) -> Option<Self> {
        Self::with(test, script)
    }

    fn with(test: &str, script: &str) -> Option<Self> {
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
        fs::write(
            at("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n{force}",
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

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tells the client which key this server has.
    fn know_key(&self) {
        let key = fs::read_to_string(self.at("host_key.pub")).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        fs::write(self.at("known_hosts"), line).unwrap();
    }

    fn listen(&mut self) {
        let mut command = process::command(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.at("sshd_config"));
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

    fn pid(&self) -> i32 {
        self.sshd.as_ref().unwrap().pid()
    }

    /// Ends the listener and every connection, as a machine that reboots.
    fn shut_down(&mut self) {
        let mut all = family(self.pid());
        all.push(self.pid());
        for pid in all {
            kill(pid, Signal::KILL);
        }
        self.sshd = None;
    }

    fn command(&self) -> String {
        format!("ssh -F {}", self.at("ssh_config").display())
    }

    /// Makes a hub on the server, and returns where it is.
    fn hub(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        hub::create(&path, "main", false).unwrap();
        path
    }

    /// Makes a clone whose hub is at this path of the server.
    fn clone(&self, name: &str, hub: &Path) -> Clone {
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
    fn folder(&self, key: &str, hub: &Path) -> Folder {
        let url = format!("ssh://hub.test{}", hub.display());
        let mut folder = crate::transport_path::folder(key, Kind::of(&url, Path::new("/")));
        folder.ssh_command = Some(self.command());
        folder
    }

    fn transport(&self, pace: Pace) -> (HubTransport, Inbox) {
        let (sink, inbox) = Inbox::new();
        (HubTransport::new(sink, self.at("run"), pace), inbox)
    }

    /// Returns the shells on the server that run our script.
    fn shells(&self) -> Vec<i32> {
        let is_ours = |pid: &i32| words(*pid) == ["sh", "-s"] && !shells_above(*pid);
        family(self.pid()).into_iter().filter(is_ours).collect()
    }

    /// Returns the server's connections: the children of its listener.
    fn connections(&self) -> Vec<i32> {
        children(self.pid())
    }

    /// Ends the connection that the clients share.
    fn close_connection(&self, clone: &Clone) {
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
fn shells_above(pid: i32) -> bool {
    parent(pid).is_some_and(|above| words(above) == ["sh", "-s"])
}

fn words(pid: i32) -> Vec<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn children(of: i32) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

fn family(of: i32) -> Vec<i32> {
    let mut all = children(of);
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}

fn kill(pid: i32, signal: Signal) {
    // It may have ended by itself meanwhile.
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

/// Something that tells when a process has ended.
fn watch_end(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

fn wait_for_end(process: &OwnedFd, what: &str) {
    let limit = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "{what} lives on");
}

fn quick() -> Pace {
    Pace {
        away: Duration::from_millis(50),
        beat: Duration::from_millis(500),
        answer: Duration::from_secs(20),
        ..Pace::default()
    }
}

/// A script that leaves a server without inotifywait.
const PLAIN: &str = r#"
mkdir -p "${0%/*}/bin"
for name in sh ls sleep git git-upload-pack git-receive-pack cat; do
    ln -sf "$(command -v $name)" "${0%/*}/bin/$name"
done 2>/dev/null
PATH=${0%/*}/bin
exec sh -c "$SSH_ORIGINAL_COMMAND"
"#;

/// A script that behaves as a forge does.
const FORGE: &str = r#"
echo x >>"${0%/*}/log"
case $SSH_ORIGINAL_COMMAND in
git-upload-pack* | git-receive-pack*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
echo "Invalid command: '$SSH_ORIGINAL_COMMAND'" >&2
echo "  You appear to be using ssh to clone a git:// URL." >&2
exit 1
"#;

#[test]
fn fetches_and_pushes_go_over_one_shared_connection() {
    let Some(server) = Server::start("fetches_and_pushes_go_over_one_shared_connection") else {
        return;
    };
    let hub = server.hub("hub.git");
    let (a, b) = (server.clone("a", &hub), server.clone("b", &hub));
    assert_eq!(b.fetch(), Fetched::Tip(None));
    let first = a.commit(&[], "one", "1");
    assert_eq!(a.push(first), confirmed(first));
    assert_eq!(b.fetch(), Fetched::Tip(Some(first)));
    let second = b.commit(&[first], "two", "2");
    assert_eq!(b.push(second), confirmed(second));
    assert_eq!(a.fetch(), Fetched::Tip(Some(second)));
    let behind = a.commit(&[first], "three", "3");
    assert_eq!(a.push(behind), Pushed::Rejected);
    assert_eq!(server.connections().len(), 1);
    let connection = watch_end(server.connections()[0]);
    server.close_connection(&a);
    wait_for_end(&connection, "the shared connection");
}

#[test]
fn two_folders_on_one_server_share_one_session_and_hear_their_own() {
    let test = "two_folders_on_one_server_share_one_session_and_hear_their_own";
    for (kind, script) in [("inotifywait", ""), ("plain sh", PLAIN)] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let (one, two) = (server.hub("one.git"), server.hub("two hubs.git"));
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &one));
        transport.watch(&server.folder("b", &two));
        inbox.expect_online("a", true);
        inbox.expect_online("b", true);
        let shells = server.shells();
        assert_eq!(shells.len(), 1, "{kind}");
        assert_eq!(server.connections().len(), 1, "{kind}");
        let id = advance(&two, "x");
        inbox.expect_notice("b", id);
        let start = autosync::clock::now();
        let id = advance(&one, "y");
        let moved = autosync::clock::now();
        inbox.expect_notice("a", id);
        let late = autosync::clock::now().since(moved);
        measured(
            &format!("ssh, {kind}: the move of a branch is noticed after"),
            late,
        );
        assert!(autosync::clock::now().since(start) < Duration::from_secs(10));
        // Packed: nothing moved. Then it moves on from there.
        git(&one, &["pack-refs", "--all"]);
        let id = advance(&one, "z");
        inbox.expect_notice("a", id);
        git(&one, &["pack-refs", "--all"]);
        git(&one, &["update-ref", "-d", "refs/heads/main"]);
        let (key, event) = inbox.next();
        assert!(matches!(event, Event::Noticed(notice) if notice.commit.is_none() && key == "a"));
        // A folder more makes a new session, in which the others are heard as before.
        let three = server.hub("three.git");
        let gone = watch_end(shells[0]);
        transport.watch(&server.folder("c", &three));
        inbox.expect_online("c", true);
        wait_for_end(&gone, "the first session");
        assert_eq!((server.shells().len(), server.connections().len()), (1, 1));
        for (key, hub) in [("a", &one), ("b", &two), ("c", &three)] {
            let id = advance(hub, key);
            inbox.expect_notice(key, id);
        }
        let shell = watch_end(server.shells()[0]);
        let connection = watch_end(server.connections()[0]);
        drop(transport);
        wait_for_end(&shell, "the shell on the server");
        wait_for_end(&connection, "the shared connection");
        assert_eq!(inbox.rest(), []);
    }
}

#[test]
fn a_reftable_and_a_nested_branch_are_seen_over_ssh() {
    let test = "a_reftable_and_a_nested_branch_are_seen_over_ssh";
    if autosync::git::check_version().unwrap() < (2, 45) {
        skipped(test, "this git has no reftable");
        return;
    }
    for script in ["", PLAIN] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let table = server.at("table");
        let args = [
            "init",
            "-q",
            "--bare",
            "-b",
            "main",
            "--ref-format=reftable",
            "table",
        ];
        git(server.dir.path(), &args);
        let nested = server.hub("nested.git");
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &table));
        let mut deep = server.folder("b", &nested);
        deep.branch = "deep/er/main".into();
        transport.watch(&deep);
        inbox.expect_online("a", true);
        inbox.expect_online("b", true);
        for text in ["first", "second"] {
            let id = advance(&table, text);
            inbox.expect_notice("a", id);
            let id = advance(&nested, text).to_string();
            git(&nested, &["update-ref", "refs/heads/deep/er/main", &id]);
            let (key, event) = inbox.next();
            let Event::Noticed(notice) = event else {
                panic!("{event:?}");
            };
            assert_eq!(
                (key.as_str(), notice.commit.unwrap().to_string()),
                ("b", id)
            );
            git(&nested, &["pack-refs", "--all"]);
        }
    }
}

#[test]
fn a_session_that_is_cut_or_whose_client_is_killed_leaves_nothing_and_comes_back() {
    let test = "a_session_that_is_cut_or_whose_client_is_killed_leaves_nothing_and_comes_back";
    for script in ["", PLAIN] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let hub = server.hub("hub.git");
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &hub));
        inbox.expect_online("a", true);
        // The server's side of the connection dies.
        let left: Vec<_> = family(server.shells()[0])
            .into_iter()
            .map(watch_end)
            .collect();
        let shell = watch_end(server.shells()[0]);
        for connection in server.connections() {
            for pid in family(connection) {
                if words(pid)
                    .first()
                    .is_some_and(|word| word.starts_with("sshd"))
                {
                    kill(pid, Signal::KILL);
                }
            }
            kill(connection, Signal::KILL);
        }
        inbox.expect_online("a", false);
        wait_for_end(&shell, "the shell on the server");
        for process in &left {
            wait_for_end(process, "a job of the shell");
        }
        inbox.expect_online("a", true);
        let id = advance(&hub, "x");
        inbox.expect_notice("a", id);
        // Our side of the session is killed without a word.
        let shell_pid = server.shells()[0];
        let left: Vec<_> = family(shell_pid).into_iter().map(watch_end).collect();
        let shell = watch_end(shell_pid);
        let ours: Vec<i32> = children(rustix::process::getpid().as_raw_nonzero().get())
            .into_iter()
            .filter(|pid| {
                let words = words(*pid).join(" ");
                words.ends_with("sh -s") && words.contains(&server.command())
            })
            .collect();
        assert_eq!(ours.len(), 1);
        for pid in family(ours[0]).into_iter().chain(ours) {
            kill(pid, Signal::KILL);
        }
        inbox.expect_online("a", false);
        wait_for_end(&shell, "the shell on the server");
        for process in &left {
            wait_for_end(process, "a job of the shell");
        }
        inbox.expect_online("a", true);
    }
}

#[test]
fn a_stalled_server_is_noticed_and_its_shell_ends_by_itself() {
    let Some(server) = Server::start("a_stalled_server_is_noticed_and_its_shell_ends_by_itself")
    else {
        return;
    };
    let hub = server.hub("hub.git");
    let pace = Pace {
        answer: Duration::from_secs(3),
        ..quick()
    };
    let (mut transport, inbox) = server.transport(pace);
    transport.watch(&server.folder("a", &hub));
    inbox.expect_online("a", true);
    let shell = watch_end(server.shells()[0]);
    let connection = server.connections()[0];
    let frozen: Vec<i32> = family(connection)
        .into_iter()
        .filter(|pid| {
            words(*pid)
                .first()
                .is_some_and(|word| word.starts_with("sshd"))
        })
        .chain([connection])
        .collect();
    for pid in &frozen {
        kill(*pid, Signal::STOP);
    }
    inbox.expect_online("a", false);
    let status = transport.status();
    assert!(status.message.contains("stalled"), "{status:?}");
    wait_for_end(&shell, "the shell on the server");
    inbox.expect_online("a", true);
    for pid in frozen {
        kill(pid, Signal::KILL);
    }
    let id = advance(&hub, "x");
    inbox.expect_notice("a", id);
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let Some(mut server) = Server::start("a_server_that_restarts_is_found_again") else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    inbox.expect_online("a", true);
    server.shut_down();
    inbox.expect_online("a", false);
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::HubUnreachable, Recovery::Retry)
    );
    assert!(
        trouble.message.contains("Connection refused"),
        "{}",
        trouble.message
    );
    assert_eq!(transport.status().state, "retry");
    server.listen();
    inbox.expect_online("a", true);
    assert_eq!(clone.fetch(), Fetched::Tip(None));
}

#[test]
fn a_host_key_that_changed_or_is_unknown_is_never_accepted() {
    let Some(mut server) = Server::start("a_host_key_that_changed_or_is_unknown_is_never_accepted")
    else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    let commit = clone.commit(&[], "one", "1");
    assert_eq!(clone.push(commit), confirmed(commit));
    server.close_connection(&clone);
    server.shut_down();
    for file in ["host_key", "host_key.pub"] {
        fs::remove_file(server.at(file)).unwrap();
    }
    let key = server.at("host_key").display().to_string();
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    server.listen();
    for (known, says) in [(true, "has changed"), (false, "is not known")] {
        if !known {
            fs::write(server.at("known_hosts"), "").unwrap();
        }
        let before = fs::read(server.at("known_hosts")).unwrap();
        let trouble = fetch_trouble(clone.fetch());
        assert_eq!(
            (trouble.code, trouble.recovery),
            (Code::HostKey, Recovery::Hold)
        );
        assert!(trouble.message.contains(says), "{}", trouble.message);
        assert_eq!(fs::read(server.at("known_hosts")).unwrap(), before);
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &hub));
        let status = settled(&transport);
        assert_eq!(status.state, "held", "{status:?}");
        assert!(status.message.contains(says), "{status:?}");
        inbox.expect_nothing();
    }
    server.know_key();
    assert_eq!(clone.fetch(), Fetched::Tip(Some(commit)));
}

/// Waits until the transport has made up its mind.
fn settled(transport: &HubTransport) -> autosync::engine::status::TransportStatus {
    let deadline = process::deadline(Duration::from_secs(30));
    loop {
        let status = transport.status();
        if status.state != "connecting" {
            return status;
        }
        assert!(autosync::clock::now() < deadline, "{status:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_refused_key_is_a_hold_and_not_tried_over_and_over() {
    let Some(server) = Server::start("a_refused_key_is_a_hold_and_not_tried_over_and_over") else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    fs::write(server.at("authorized_keys"), "").unwrap();
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::Auth, Recovery::Hold)
    );
    assert!(trouble.hint.contains("key"), "{}", trouble.hint);
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    assert_eq!(settled(&transport).state, "held");
    inbox.expect_nothing();
    // A person mended it and asks.
    fs::copy(server.at("key.pub"), server.at("authorized_keys")).unwrap();
    transport.retry();
    inbox.expect_online("a", true);
    assert_eq!(clone.fetch(), Fetched::Tip(None));
}

#[test]
fn a_forge_that_refuses_commands_is_asked_once_and_fetched_from() {
    let test = "a_forge_that_refuses_commands_is_asked_once_and_fetched_from";
    let Some(server) = Server::forcing(test, FORGE) else {
        return;
    };
    let hub = server.hub("hub.git");
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    let status = settled(&transport);
    assert_eq!(status.state, "held");
    assert!(status.message.contains("polled"), "{status:?}");
    inbox.expect_nothing();
    let tries = || {
        fs::read_to_string(server.at("log"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(tries(), 1);
    let clone = server.clone("a", &hub);
    let commit = clone.commit(&[], "one", "1");
    assert_eq!(clone.push(commit), confirmed(commit));
    assert_eq!(clone.fetch(), Fetched::Tip(Some(commit)));
    // The connection that the transport opened served both.
    assert_eq!(tries(), 3);
    assert_eq!(server.connections().len(), 1);
}

#[test]
fn a_repository_that_is_missing_on_the_server_is_said_and_seen_when_it_comes() {
    let test = "a_repository_that_is_missing_on_the_server_is_said_and_seen_when_it_comes";
    let Some(server) = Server::start(test) else {
        return;
    };
    let path = server.at("hub.git");
    let clone = server.clone("a", &path);
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::HubMissing, Recovery::Hold)
    );
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &path));
    let status = settled(&transport);
    assert_eq!(status.state, "retry");
    assert!(status.message.contains("hub.git"), "{status:?}");
    server.hub("hub.git");
    inbox.expect_online("a", true);
    let id = advance(&path, "x");
    inbox.expect_notice("a", id);
    fs::remove_dir_all(&path).unwrap();
    inbox.expect_online("a", false);
}
