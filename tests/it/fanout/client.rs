//! The client against servers that are played by hand, good ones and others.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autosync::clock;
use autosync::config::FanoutSettings;
use autosync::engine::event::{Event, Trouble};
use autosync::engine::notice::Notice;
use autosync::git::hub::Kind;
use autosync::names::ObjectId;
use autosync::transport::fanout::Pace;
use autosync::transport::fanout::channel::derived;
use autosync::transport::fanout::seal::{Key, Seal, Side};
use autosync::transport::{FanoutTransport, Folder, Herald, Sink, Transport, wire};
use tempfile::TempDir;

use super::keys::{KEY, key_file};
use super::line::Line;
use crate::support::Sandbox;
use crate::support::host::PATIENCE;

const ID: &str = "0123456789abcdef";

/// A client, what it reports, and the place of its server.
struct Scene {
    transport: Option<FanoutTransport>,
    events: Receiver<(String, Event)>,
    heralded: Arc<Mutex<Vec<Option<Trouble>>>>,
    listener: TcpListener,
    root: TempDir,
}

/// As quick as a test wants it, and with no ping unless it asks for one.
fn quick() -> Pace {
    Pace {
        away: Duration::from_millis(50),
        away_max: Duration::from_millis(50),
        ..Pace::default()
    }
}

impl Scene {
    fn new(pace: Pace, key_file: Option<&Path>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (told, events) = channel();
        let sink: Sink = Arc::new(move |key: &str, event| {
            drop(told.send((key.to_owned(), event)));
        });
        let heralded = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heralded);
        let herald: Herald = Arc::new(move |name, trouble| {
            assert_eq!(name, "fanout");
            kept.lock().unwrap().push(trouble);
        });
        let settings = FanoutSettings {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            key_file: key_file.map(Path::to_owned),
        };
        let mut this = Self {
            transport: Some(FanoutTransport::new(
                sink, herald, &settings, "laptop", pace,
            )),
            events,
            heralded,
            listener,
            root: tempfile::tempdir().unwrap(),
        };
        let folder = this.folder();
        this.transport.as_mut().unwrap().watch(&folder);
        this
    }

    fn folder(&self) -> Folder {
        Folder {
            key: "1".into(),
            id: ID.into(),
            name: "Sync".into(),
            root: self.root.path().to_owned(),
            branch: "main".into(),
            url: String::new(),
            peers: Vec::new(),
            hub: Kind::Other,
            ssh_command: None,
        }
    }

    fn transport(&self) -> &FanoutTransport {
        self.transport.as_ref().unwrap()
    }

    /// Waits for the next connection.
    fn accept(&self) -> Line {
        Line::of(self.listener.accept().unwrap().0)
    }

    /// The same, greeted as `SparkleShare`'s server does; returns when the client has subscribed.
    fn greet(&self) -> Line {
        let mut line = self.accept();
        line.say("debug!connected...");
        assert_eq!(line.next(), "hello autosync/1");
        assert_eq!(line.next(), "ping");
        line.say("1795202989");
        assert_eq!(line.next(), format!("subscribe {}", derived(ID)));
        line
    }

    #[track_caller]
    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap().1
    }

    #[track_caller]
    fn is_online(&self, wanted: bool) {
        let Event::Transport { name, online } = self.event() else {
            panic!("not online: {wanted}");
        };
        assert_eq!((name, online), ("fanout", wanted));
    }

    #[track_caller]
    fn notice(&self) -> Notice {
        let event = self.event();
        let Event::Noticed(notice, _) = event else {
            panic!("{event:?}");
        };
        notice
    }

    #[track_caller]
    fn until(&self, state: &str) -> String {
        let deadline = clock::now() + PATIENCE;
        loop {
            let status = self.transport().status();
            if status.state == state {
                return status.message;
            }
            assert!(clock::now() < deadline, "{status:?}");
            std::thread::yield_now();
        }
    }
}

fn pushed(number: u8) -> Notice {
    Notice {
        folder: ID.into(),
        branch: "main".into(),
        commit: Some(ObjectId::from_hex(format!("{number:02x}").repeat(20)).unwrap()),
        host: "laptop".into(),
        sequence: number.into(),
    }
}

#[test]
fn a_server_of_sparkleshare_carries_the_notices_of_ours() {
    let scene = Scene::new(quick(), None);
    let mut line = scene.greet();
    scene.is_online(true);
    let own = derived(ID);
    scene.transport().announce(&pushed(1));
    let said = wire::to_line(&pushed(1));
    assert_eq!(line.next(), format!("announce {own} {said}"));

    // Another host's, in words and as a bare commit.
    let theirs = Notice {
        host: "server".into(),
        ..pushed(2)
    };
    line.say(&format!("{own}!{}", wire::to_line(&theirs)));
    assert_eq!(scene.notice(), theirs);
    line.say(&format!("{own}!{}", "03".repeat(20)));
    let bare = scene.notice();
    assert_eq!((bare.commit, bare.host.as_str()), (pushed(3).commit, ""));
    // What is not about this folder is nothing.
    let other = Notice {
        folder: "fedcba9876543210".into(),
        ..pushed(4)
    };
    for nothing in [
        format!("{own}!{}", wire::to_line(&other)),
        format!("{own}!hello"),
        format!("other!{}", "04".repeat(20)),
        format!("all!{}", "04".repeat(20)),
        "1795202989".into(),
        String::new(),
    ] {
        line.say(&nothing);
    }
    line.say(&format!("{own}!{}", "05".repeat(20)));
    assert_eq!(scene.notice().commit, pushed(5).commit);
    let peers = scene.transport().status().peers;
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].host, "server");
}

#[test]
fn both_channels_are_used_and_a_commit_that_comes_on_both_is_told_once() {
    let scene = Scene::new(quick(), None);
    let mut line = scene.greet();
    scene.is_online(true);
    fs::write(scene.root.path().join(".sparkleshare"), "share\n").unwrap();
    scene.transport().announce(&pushed(1));
    assert_eq!(line.next(), "subscribe share");
    let own = derived(ID);
    let said = wire::to_line(&pushed(1));
    assert_eq!(line.next(), format!("announce {own} {said}"));
    assert_eq!(line.next(), format!("announce share {}", "01".repeat(20)));
    let theirs = Notice {
        host: "server".into(),
        ..pushed(2)
    };
    line.say(&format!("{own}!{}", wire::to_line(&theirs)));
    line.say(&format!("share!{}", "02".repeat(20)));
    line.say(&format!("share!{}", "03".repeat(20)));
    assert_eq!(scene.notice(), theirs);
    assert_eq!(scene.notice().commit, pushed(3).commit);
    // An update that came in took it away.
    fs::remove_file(scene.root.path().join(".sparkleshare")).unwrap();
    scene.transport().confirm(&pushed(3));
    assert_eq!(line.next(), "unsubscribe share");
}

#[test]
fn what_the_server_did_not_repeat_is_said_again_the_newest_and_once() {
    let scene = Scene::new(quick(), None);
    scene.transport().announce(&pushed(1));
    let mut line = scene.greet();
    scene.is_online(true);
    let own = derived(ID);
    let said = |number| format!("{own} {}", wire::to_line(&pushed(number)));
    assert_eq!(line.next(), format!("announce {}", said(1)));
    assert!(!scene.transport().flush(Duration::from_millis(1)));
    drop(line);
    scene.is_online(false);
    let mut line = scene.greet();
    scene.is_online(true);
    assert_eq!(line.next(), format!("announce {}", said(1)));
    drop(line);
    scene.is_online(false);
    scene.transport().announce(&pushed(2));
    scene.transport().announce(&pushed(3));
    let mut line = scene.greet();
    scene.is_online(true);
    assert_eq!(line.next(), format!("announce {}", said(3)));
    line.say(&said(3).replacen(' ', "!", 1));
    assert_eq!(scene.notice(), pushed(3));
    assert!(scene.transport().flush(PATIENCE));
    drop(line);
    scene.is_online(false);
    let mut line = scene.greet();
    scene.is_online(true);
    scene.transport().announce(&pushed(4));
    assert_eq!(line.next(), format!("announce {}", said(4)), "nothing else");
}

#[test]
fn a_server_that_freezes_is_left_and_does_not_hold_up_the_end() {
    let pace = Pace {
        login: Duration::from_millis(200),
        ping: Duration::from_millis(100),
        answer: Duration::from_millis(200),
        ..quick()
    };
    let mut scene = Scene::new(pace, None);
    // One that never says anything.
    let mute = scene.accept();
    let mut line = scene.greet();
    scene.is_online(true);
    assert_eq!(line.next(), "ping");
    line.say("1795202989");
    assert_eq!(line.next(), "ping");
    scene.is_online(false);
    let _next = scene.accept();
    let began = clock::now();
    drop(scene.transport.take());
    assert!(clock::now().since(began) < Duration::from_secs(5));
    drop(mute);
}

#[test]
fn a_server_without_room_or_out_of_its_mind_is_tried_again() {
    let scene = Scene::new(quick(), None);
    let mut line = scene.accept();
    line.say("debug!busy");
    // What it said depends on whether it had read that before.
    let said = line.ends();
    assert!(
        ["hello autosync/1", "ping"]
            .starts_with(&said.iter().map(String::as_str).collect::<Vec<_>>()),
        "{said:?}"
    );
    let mut line = scene.accept();
    line.raw(&[b'x'; 2000]);
    line.ends();
    let mut line = scene.accept();
    line.raw(b"\xff\xfe\0\n!!!\n!\n\r\n");
    line.say("1795202989");
    line.next();
    scene.is_online(true);
    assert!(
        scene.heralded.lock().unwrap().is_empty(),
        "nobody has to mend it"
    );
}

#[test]
fn with_a_key_nothing_but_sealed_lines_of_a_server_counts() {
    let sandbox = Sandbox::new();
    let file = key_file(&sandbox, "key", KEY);
    let scene = Scene::new(quick(), Some(&file));
    let own = derived(ID);
    // Without the key there is no way in, and a person is told once.
    let mut line = scene.accept();
    line.say("debug!connected...");
    line.next();
    line.say("1795202989");
    line.say(&format!("{own}!{}", "01".repeat(20)));
    line.say("hello!autosync/1");
    assert_eq!(line.ends(), [""; 0]);
    assert_eq!(scene.until("held"), "the fanout server has no key");
    scene.transport().retry();

    let mut line = scene.accept();
    line.say("debug!connected...");
    let hello = line.next();
    let mine = hello.strip_prefix("hello autosync/1 ").unwrap();
    let mut seal = Seal::new(&Key::new(KEY.as_bytes()), mine, "yours", Side::Server);
    line.say(&format!("hello!autosync/1 yours {}", seal.proof()));
    let said = line.next();
    let inner = seal.open(said.as_bytes()).unwrap();
    assert_eq!(inner, format!("subscribe {own}").as_bytes());
    scene.is_online(true);
    line.say(&format!("{own}!{}", "01".repeat(20)));
    let good = seal.close(&format!("{own}!{}", "02".repeat(20)));
    line.say(&good.replace("0202", "0303"));
    line.say(&good);
    line.say(&good);
    line.say(&seal.close(&format!("{own}!{}", "04".repeat(20))));
    assert_eq!(scene.notice().commit, pushed(2).commit);
    assert_eq!(scene.notice().commit, pushed(4).commit);
    let heralded = scene.heralded.lock().unwrap();
    let kinds: Vec<bool> = heralded.iter().map(Option::is_some).collect();
    assert_eq!(kinds, [true, false], "told, and told that it is over");
}
