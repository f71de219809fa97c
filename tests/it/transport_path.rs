//! The hub transport on paths: every move of a branch is noticed, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use autosync::clock;
use autosync::engine::event::Event;
use autosync::engine::notice::{Circle, Notice};
use autosync::git::hub::{self, Kind};
use autosync::names::ObjectId;
use autosync::transport::hub::Pace;
use autosync::transport::{Folder, HubTransport, PollTransport, Sink, Transport};

use crate::network::{git, skipped};

const DEADLINE: Duration = Duration::from_secs(20);

/// The far end of a sink.
pub(crate) struct Inbox(Receiver<(String, Event)>);

impl Inbox {
    pub(crate) fn new() -> (Sink, Self) {
        let (sender, receiver) = channel();
        let sink = Arc::new(move |key: &str, event: Event| {
            // The test may be over before the transport's last word.
            drop(sender.send((key.to_owned(), event)));
        });
        (sink, Self(receiver))
    }

    /// Waits for the next event of any folder.
    pub(crate) fn next(&self) -> (String, Event) {
        self.0.recv_timeout(DEADLINE).unwrap()
    }

    /// Waits until the transport is up or down for a folder; other news must not come before.
    pub(crate) fn expect_online(&self, key: &str, wanted: bool) {
        let (found, event) = self.next();
        let Event::Transport {
            name: "hub",
            online,
        } = event
        else {
            panic!("{found}: {event:?}");
        };
        assert_eq!((found.as_str(), online), (key, wanted));
    }

    /// Waits for a notice; other news must not come before.
    pub(crate) fn expect_notice(&self, key: &str, commit: ObjectId) {
        let (found, event) = self.next();
        let Event::Noticed(notice, _) = event else {
            panic!("{found}: {event:?}");
        };
        assert_eq!((found.as_str(), notice.commit), (key, Some(commit)));
        assert_eq!(notice.branch, "main");
    }

    /// Asserts that nothing has come.
    pub(crate) fn expect_nothing(&self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }

    /// Waits for the transport to be gone and returns what it said until then.
    pub(crate) fn rest(&self) -> Vec<(String, Event)> {
        let mut rest = Vec::new();
        loop {
            match self.0.recv_timeout(DEADLINE) {
                Ok(event) => rest.push(event),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the transport lives on"),
            }
        }
    }
}

pub(crate) fn folder(key: &str, hub: Kind) -> Folder {
    Folder {
        key: key.into(),
        id: "0123456789abcdef".into(),
        name: key.to_owned(),
        root: "/nowhere".into(),
        url: String::new(),
        peers: Vec::new(),
        branch: "main".into(),
        hub,
        ssh_command: None,
    }
}

/// A pace at which only the kernel's events can be in time.
fn events_only() -> Pace {
    let never = Duration::from_secs(3600);
    Pace {
        heartbeat: never,
        doubtful: never,
        away: Duration::from_millis(20),
        away_max: Duration::from_millis(20),
        beat: Duration::from_millis(500),
        answer: Duration::from_secs(10),
    }
}

fn new_hub(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    hub::create(&path, "main", false).unwrap();
    path
}

/// Moves the hub's branch to a new commit, as a push does.
pub(crate) fn advance(hub: &Path, text: &str) -> ObjectId {
    let tree = git(hub, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let who = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let id = git(
        hub,
        &[&who[..], &["commit-tree", "-m", text, &tree]].concat(),
    );
    git(hub, &["update-ref", "refs/heads/main", &id]);
    ObjectId::from_hex(id).unwrap()
}

#[test]
fn a_branch_that_moves_is_noticed_at_once_and_other_branches_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let hub = new_hub(dir.path(), "hub.git");
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    transport.watch(&folder("a", Kind::Path(hub.clone())));
    inbox.expect_online("a", true);
    assert_eq!(transport.status().state, "online");
    for text in ["first", "second"] {
        let id = advance(&hub, text);
        git(&hub, &["update-ref", "refs/heads/other", &id.to_string()]);
        git(&hub, &["update-ref", "refs/heads/main2", &id.to_string()]);
        inbox.expect_notice("a", id);
    }
    let before = clock::now();
    let id = advance(&hub, "third");
    let moved = clock::now();
    inbox.expect_notice("a", id);
    let late = clock::now().since(moved);
    measured("path: the move of a branch is noticed after", late);
    assert!(clock::now().since(before) < DEADLINE);
    // Packing moves nothing; deleting does.
    git(&hub, &["pack-refs", "--all"]);
    let next = advance(&hub, "fourth");
    inbox.expect_notice("a", next);
    git(&hub, &["pack-refs", "--all"]);
    git(&hub, &["update-ref", "-d", "refs/heads/main"]);
    let (_, event) = inbox.next();
    let gone = Notice {
        folder: "0123456789abcdef".into(),
        branch: "main".into(),
        commit: None,
        host: String::new(),
        sequence: 0,
    };
    assert_eq!(event, Event::Noticed(gone, Circle::Own));
    transport.unwatch("a");
    inbox.expect_online("a", false);
    drop(transport);
    assert_eq!(inbox.rest(), []);
}

#[expect(clippy::print_stderr, reason = "a figure for whoever runs the tests")]
pub(crate) fn measured(what: &str, took: Duration) {
    eprintln!("MEASURED {what} {took:?}");
}

#[test]
fn a_branch_below_a_directory_is_seen_from_its_first_commit() {
    let dir = tempfile::tempdir().unwrap();
    let hub = new_hub(dir.path(), "hub.git");
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    let mut nested = folder("a", Kind::Path(hub.clone()));
    nested.branch = "deep/er/main".into();
    transport.watch(&nested);
    inbox.expect_online("a", true);
    let id = advance(&hub, "x");
    git(
        &hub,
        &["update-ref", "refs/heads/deep/er/main", &id.to_string()],
    );
    let (_, event) = inbox.next();
    assert!(matches!(event, Event::Noticed(notice, _) if notice.commit == Some(id)));
    git(&hub, &["pack-refs", "--all"]);
    let next = advance(&hub, "y");
    git(
        &hub,
        &["update-ref", "refs/heads/deep/er/main", &next.to_string()],
    );
    let (_, event) = inbox.next();
    assert!(matches!(event, Event::Noticed(notice, _) if notice.commit == Some(next)));
}

#[test]
fn a_hub_that_goes_away_is_offline_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = new_hub(dir.path(), "hub.git");
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    transport.watch(&folder("a", Kind::Path(hub.clone())));
    inbox.expect_online("a", true);
    let away = dir.path().join("away");
    fs::rename(&hub, &away).unwrap();
    inbox.expect_online("a", false);
    let status = transport.status();
    assert_eq!(status.state, "retry");
    assert!(status.message.contains("hub.git"), "{}", status.message);
    // What comes while it is away is what the fetch is for that follows the return.
    advance(&away, "unseen");
    fs::rename(&away, &hub).unwrap();
    inbox.expect_online("a", true);
    let id = advance(&hub, "seen");
    inbox.expect_notice("a", id);
    // Another hub in its place is watched as well as the first.
    fs::remove_dir_all(&hub).unwrap();
    inbox.expect_online("a", false);
    new_hub(dir.path(), "hub.git");
    inbox.expect_online("a", true);
    let id = advance(&hub, "new");
    inbox.expect_notice("a", id);
}

#[test]
fn a_hub_that_is_not_there_yet_is_seen_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    transport.watch(&folder("a", Kind::Path(dir.path().join("hub.git"))));
    let hub = new_hub(dir.path(), "hub.git");
    inbox.expect_online("a", true);
    let id = advance(&hub, "x");
    inbox.expect_notice("a", id);
}

#[test]
fn two_folders_of_one_hub_and_one_of_another_hear_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let one = new_hub(dir.path(), "one.git");
    let two = new_hub(dir.path(), "two.git");
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    for (key, hub) in [("a", &one), ("b", &one), ("c", &two)] {
        transport.watch(&folder(key, Kind::Path(hub.clone())));
        inbox.expect_online(key, true);
    }
    let id = advance(&two, "x");
    inbox.expect_notice("c", id);
    let id = advance(&one, "y");
    inbox.expect_notice("a", id);
    inbox.expect_notice("b", id);
    transport.unwatch("a");
    inbox.expect_online("a", false);
    let id = advance(&one, "z");
    inbox.expect_notice("b", id);
    inbox.expect_nothing();
}

#[test]
fn a_reftable_hub_is_watched_too() {
    let dir = tempfile::tempdir().unwrap();
    if autosync::git::check_version().unwrap() < (2, 45) {
        skipped("a_reftable_hub_is_watched_too", "this git has no reftable");
        return;
    }
    let hub = dir.path().join("hub");
    let args = [
        "init",
        "-q",
        "--bare",
        "-b",
        "main",
        "--ref-format=reftable",
        "hub",
    ];
    git(dir.path(), &args);
    let (sink, inbox) = Inbox::new();
    let mut transport = HubTransport::new(sink, dir.path().into(), events_only());
    transport.watch(&folder("a", Kind::Path(hub.clone())));
    inbox.expect_online("a", true);
    for text in ["first", "second"] {
        let id = advance(&hub, text);
        inbox.expect_notice("a", id);
    }
}

#[test]
fn without_events_the_slow_look_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = new_hub(dir.path(), "hub.git");
    let (sink, inbox) = Inbox::new();
    let soon = Duration::from_millis(50);
    let mut transport = HubTransport::new(
        sink,
        dir.path().into(),
        Pace {
            heartbeat: soon,
            doubtful: soon,
            ..events_only()
        },
    );
    transport.watch(&folder("a", Kind::Path(hub.clone())));
    inbox.expect_online("a", true);
    let id = advance(&hub, "x");
    inbox.expect_notice("a", id);
    // Written through a link to the file's inode from elsewhere: no event in the directory.
    let next = advance(&hub, "y");
    inbox.expect_notice("a", next);
    let back_door = dir.path().join("door");
    fs::hard_link(hub.join("refs/heads/main"), &back_door).unwrap();
    fs::write(&back_door, format!("{id}\n")).unwrap();
    inbox.expect_notice("a", id);
}

#[test]
fn the_poll_is_there_and_says_nothing() {
    let mut poll = PollTransport::new();
    poll.watch(&folder("a", Kind::Https));
    assert_eq!(
        (poll.name(), poll.status().state.as_str()),
        ("poll", "online")
    );
}
