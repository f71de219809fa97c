//! Two hosts with agents whose only bell is the line protocol.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use autosync::engine::status::TransportStatus;
use autosync::transport::fanout::channel::derived;
use rustix::process::Signal;

use super::Server;
use super::keys::{KEY, key_file};
use super::line::Line;
use crate::support::Sandbox;
use crate::support::host::Host;

const SHARE: &str = "9db571f07a2d81cd1ce87418b34473627d004787";

/// Two hosts with a hub beside the first, and the bell.
pub(super) struct Pair {
    pub(super) laptop: Host,
    pub(super) server: Host,
    pub(super) hub: PathBuf,
}

/// The configuration of a host that hears of pushes over `url` or, an hour later, by a poll.
pub(super) fn config(url: &str, more: &str) -> String {
    format!(
        "[[folder]]\npath = \"~/Sync\"\npoll = \"1h\"\n[notice]\ntransports = [\"fanout\"]\n\
         [fanout]\nserver = \"{url}\"\n{more}"
    )
}

impl Pair {
    /// Makes both ready; no agent runs.
    fn ready(url: &str, more: &str) -> Self {
        let none: [&str; 0] = [];
        let [laptop, server] = ["laptop", "server"].map(|name| Host::new(name).with_args(none));
        let hub = laptop.sandbox.root().join("hub.git");
        let git = |args: &[&OsStr]| laptop.sandbox.git(laptop.sandbox.root(), args);
        git(&[
            "init".as_ref(),
            "-q".as_ref(),
            "--bare".as_ref(),
            hub.as_os_str(),
        ]);
        fs::create_dir(&laptop.folder).unwrap();
        laptop.write("first.txt", "first\n");
        let url_of_hub = hub.to_str().unwrap();
        for (host, args) in [
            (&laptop, ["init", "Sync", "--hub", url_of_hub].as_slice()),
            (&server, &["clone", url_of_hub, "Sync"]),
        ] {
            let ran = host.run(args);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            host.sandbox.config(&config(url, more));
        }
        Self {
            laptop,
            server,
            hub,
        }
    }

    /// Starts both; returns when both hear.
    pub(super) fn start(url: &str, more: &str) -> Self {
        let mut pair = Self::ready(url, more);
        for host in [&mut pair.laptop, &mut pair.server] {
            host.start();
            is_online(host);
        }
        pair.quiet();
        pair
    }

    /// Waits until both are at the hub's commit, which takes no notice when they have just come.
    pub(super) fn quiet(&self) {
        let args = ["rev-parse", "--verify", "-q", "refs/heads/main"];
        for host in [&self.laptop, &self.server] {
            host.until("it has what the hub has", |host| {
                let tip = self.laptop.sandbox.git(&self.hub, args);
                host.folder_status().head == tip
            });
            host.barrier();
        }
    }

    pub(super) fn id(&self) -> String {
        self.laptop.folder_status().id
    }
}

fn fanout(host: &Host) -> TransportStatus {
    let all = host.status().transports;
    all.into_iter().find(|it| it.name == "fanout").unwrap()
}

pub(super) fn is_online(host: &Host) {
    host.until("fanout is online", |host| fanout(host).state == "online");
}

#[test]
fn an_edit_here_is_there_at_once_with_no_other_bell() {
    let sandbox = Sandbox::new();
    let file = key_file(&sandbox, "key", KEY);
    let file = file.to_str().unwrap();
    for key in [false, true] {
        let (args, more) = if key {
            (vec!["--key-file", file], format!("key_file = \"{file}\"\n"))
        } else {
            (Vec::new(), String::new())
        };
        let bell = Server::start(&sandbox, &args);
        let pair = Pair::start(&bell.url(), &more);
        let before = pair.server.counters();
        for (from, to, name) in [
            (&pair.laptop, &pair.server, "a.txt"),
            (&pair.server, &pair.laptop, "b.txt"),
        ] {
            from.write(name, name);
            to.sees(name, |root| root.join(name).exists());
        }
        pair.quiet();
        let after = pair.server.counters();
        assert_eq!(after.fetches, before.fetches + 1, "one notice, one fetch");
        let status = fanout(&pair.server);
        let heard: Vec<&str> = status.peers.iter().map(|peer| peer.host.as_str()).collect();
        assert_eq!(heard, ["laptop"]);
        let noticed = &status.folders[0];
        assert_eq!(noticed.name, "Sync");
        assert!(!noticed.sent.is_empty() && !noticed.received.is_empty());
        pair.server.assert_quiet();
    }
}

#[test]
fn a_sparkleshare_host_on_the_same_repository_rings_and_is_rung() {
    let sandbox = Sandbox::new();
    let bell = Server::start(&sandbox, &[]);
    let pair = Pair::start(&bell.url(), "");
    let mut old = Line::sparkleshare(bell.address, &[SHARE]);

    // The file with the channel comes as any other file.
    pair.laptop.write(".sparkleshare", format!("{SHARE}\n"));
    pair.server
        .sees("the file", |root| root.join(".sparkleshare").exists());
    pair.quiet();
    let first = pair.laptop.folder_status().head;
    assert_eq!(old.next(), format!("{SHARE}!{first}"));
    pair.server.write("a.txt", "a");
    pair.laptop
        .sees("a.txt", |root| root.join("a.txt").exists());
    pair.quiet();
    let second = pair.laptop.folder_status().head;
    assert_eq!(old.next(), format!("{SHARE}!{second}"));

    // As SparkleShare does: push, then say the commit.
    let commit = plain_push(&pair.laptop.sandbox, &pair.hub, "b.txt");
    old.say(&format!("announce {SHARE} {commit}"));
    for host in [&pair.laptop, &pair.server] {
        host.sees("b.txt", |root| root.join("b.txt").exists());
    }
    pair.quiet();
    for host in [&pair.laptop, &pair.server] {
        host.assert_quiet();
    }
}

/// Pushes a file by plain git from a place that no agent knows. Returns the commit.
pub(super) fn plain_push(sandbox: &Sandbox, hub: &Path, name: &str) -> String {
    let work = sandbox.root().join("plain");
    if !work.exists() {
        let (from, to) = (hub.to_str().unwrap(), work.to_str().unwrap());
        sandbox.git(sandbox.root(), ["clone", "-q", from, to]);
    }
    sandbox.git(&work, ["pull", "-q", "--rebase"]);
    fs::write(work.join(name), name).unwrap();
    sandbox.git(&work, ["add", name]);
    sandbox.git(&work, ["commit", "-q", "-m", name]);
    sandbox.git(&work, ["push", "-q"]);
    sandbox.git(&work, ["rev-parse", "HEAD"])
}

#[test]
fn what_was_pushed_while_the_bell_was_away_rings_when_it_is_back() {
    let sandbox = Sandbox::new();
    let bell = Server::start(&sandbox, &[]);
    let place = bell.address.to_string();
    let pair = Pair::start(&bell.url(), "");
    assert_eq!(bell.end(Signal::KILL).code(), None);
    pair.laptop
        .until("it is away", |host| fanout(host).state != "online");
    let status = fanout(&pair.laptop);
    assert!(["retry", "connecting"].contains(&status.state.as_str()));
    pair.laptop.write("a.txt", "a");
    pair.laptop.synced();
    pair.laptop.write("b.txt", "b");
    pair.laptop.synced();
    let head = pair.laptop.folder_status().head;

    // What comes back knows nothing of before.
    let bell = Server::start_on(&sandbox, &place, &[]);
    let channel = derived(&pair.id());
    for host in [&pair.laptop, &pair.server] {
        host.run(["sync"]).ok();
        is_online(host);
    }
    let mut ear = Line::ours(bell.address, &[&channel]);
    let line = ear.next();
    assert!(line.contains(&head), "the newest, and once: {line}");
    assert_eq!(ear.before_pong(), [""; 0]);
    pair.server.sees("both", |root| {
        root.join("a.txt").exists() && root.join("b.txt").exists()
    });
}

#[test]
fn a_host_that_comes_back_learns_the_newest_commit_at_once() {
    let sandbox = Sandbox::new();
    let bell = Server::start(&sandbox, &[]);
    let pair = Pair::start(&bell.url(), "");
    pair.laptop.write("a.txt", "a");
    pair.server
        .sees("a.txt", |root| root.join("a.txt").exists());
    pair.quiet();
    let head = pair.laptop.folder_status().head;
    let mut late = Line::ours(bell.address, &[&derived(&pair.id())]);
    let line = late.next();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[2..5], ["refs/heads/main", &head, "laptop"], "{line}");
}

#[test]
fn a_server_with_another_key_is_said_to_be_that() {
    let sandbox = Sandbox::new();
    let theirs = key_file(&sandbox, "theirs", KEY);
    let ours = key_file(&sandbox, "ours", "fedcba9876543210");
    let bell = Server::start(&sandbox, &["--key-file", theirs.to_str().unwrap()]);
    let more = format!("key_file = \"{}\"\n", ours.display());
    let mut pair = Pair::ready(&bell.url(), &more);
    pair.laptop.start();
    pair.laptop
        .until("it is held", |host| fanout(host).state == "held");
    let status = fanout(&pair.laptop);
    assert_eq!(status.message, "the fanout server has another key");
    assert!(status.hint.contains("`key_file`"), "{}", status.hint);
    // Mended, it goes on by itself when somebody asks.
    fs::write(&ours, KEY).unwrap();
    pair.laptop.run(["sync"]).ok();
    is_online(&pair.laptop);

    fs::set_permissions(&ours, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    pair.server.start();
    pair.server
        .until("it is held", |host| fanout(host).state == "held");
    let status = fanout(&pair.server);
    assert!(
        status.message.contains("can be read by others"),
        "{status:?}"
    );
}
