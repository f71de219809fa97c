//! A server with a key: who has it is served, and nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use autosync::transport::fanout::seal::{Key, Seal, Side};
use autosync::transport::reflector::{Limits, Settings};

use super::line::Line;
use super::{Inside, Server};
use crate::support::Sandbox;

/// A key.
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Writes a key into a private file.
pub(super) fn key_file(sandbox: &Sandbox, name: &str, key: &str) -> PathBuf {
    let file = sandbox.write(name, format!("{key}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A client that has a key and speaks by hand.
struct Sealed {
    line: Line,
    seal: Seal,
}

impl Sealed {
    fn open(server: &Server) -> Self {
        let mut line = Line::open(server.address);
        assert_eq!(line.next(), "debug!connected...");
        line.say("hello autosync/1 mine");
        let answer = line.next();
        let mut words = answer.split(' ').skip(1);
        let nonce = words.next().unwrap();
        let seal = Seal::new(&Key::new(KEY.as_bytes()), "mine", nonce, Side::Client);
        assert!(seal.believes(words.next().unwrap()), "{answer}");
        Self { line, seal }
    }

    fn say(&mut self, line: &str) {
        let sealed = self.seal.close(line);
        self.line.say(&sealed);
    }

    #[track_caller]
    fn next(&mut self) -> String {
        let line = self.line.next();
        let opened = self.seal.open(line.as_bytes());
        String::from_utf8(opened.expect("a good seal").to_vec()).unwrap()
    }

    /// Returns what came before the answer to a ping of now.
    #[track_caller]
    fn before_pong(&mut self) -> Vec<String> {
        self.say("ping");
        let lines = std::iter::from_fn(|| Some(self.next()));
        lines
            .take_while(|line| line.parse::<i64>().is_err())
            .collect()
    }
}

fn keyed(sandbox: &Sandbox, more: &[&str]) -> Server {
    let file = key_file(sandbox, "key", KEY);
    let args = [&["--key-file", file.to_str().unwrap()], more].concat();
    Server::start(sandbox, &args)
}

#[test]
fn lines_with_a_wrong_seal_an_old_one_or_none_are_dropped() {
    let sandbox = Sandbox::new();
    let server = keyed(&sandbox, &[]);
    let mut one = Sealed::open(&server);
    one.say("subscribe a");
    assert_eq!(one.before_pong(), [""; 0]);
    let mut two = Sealed::open(&server);

    let good = two.seal.close("announce a 1");
    two.line.say(&good);
    assert_eq!(one.next(), "a!1");
    two.line.say(&good);
    let mut wrong = two.seal.close("announce a 2");
    wrong.pop();
    wrong.push('3');
    two.line.say(&wrong);
    two.line.say("announce a 4");
    let mut stranger = Seal::new(&Key::new(b"another key of 32"), "mine", "", Side::Client);
    two.line.say(&stranger.close("announce a 5"));
    assert_eq!(two.before_pong(), [""; 0], "all of it was looked at");
    assert_eq!(one.before_pong(), [""; 0]);

    // Heard by somebody on the way and said again in a session of their own.
    let mut thief = Line::open(server.address);
    thief.say("hello autosync/1 mine");
    thief.say(&good);
    thief.say("announce a 6");
    thief.say("subscribe a");
    thief.say("ping");
    two.say("announce a 7");
    assert_eq!(one.next(), "a!7");
    assert_eq!(two.before_pong(), [""; 0]);
    assert_eq!(thief.next(), "debug!connected...");
    assert!(thief.next().starts_with("hello!autosync/1 "));
    // Too many of them, and it is over.
    for _ in 0..30 {
        thief.say("announce a 8");
    }
    assert_eq!(thief.ends(), [""; 0]);
    assert_eq!(one.before_pong(), [""; 0]);
}

#[test]
fn a_host_without_a_key_is_told_so_and_one_that_shows_none_is_cut() {
    let server = Inside::start(Settings {
        key: Some(Key::new(KEY.as_bytes())),
        legacy: false,
        limits: Limits {
            login: Duration::from_millis(500),
            ..Limits::default()
        },
    });
    let mut ours = Line::open(server.address);
    ours.say("hello autosync/1");
    assert_eq!(ours.next(), "debug!connected...");
    assert_eq!(ours.next(), "hello!autosync/1 key");
    for line in ["subscribe a", "announce a 1", "ping"] {
        ours.say(line);
    }
    let mut old = Line::open(server.address);
    for line in ["subscribe a", "announce a 1", "ping"] {
        old.say(line);
    }
    assert_eq!(old.ends(), ["debug!connected..."]);
    assert_eq!(ours.ends(), [""; 0]);
}

#[test]
fn sparkleshare_is_served_beside_a_key_only_if_asked_for() {
    let sandbox = Sandbox::new();
    let server = keyed(&sandbox, &["--legacy"]);
    let mut old = Line::sparkleshare(server.address, &["a"]);
    let mut ours = Sealed::open(&server);
    ours.say("subscribe a");
    ours.say("announce a 1");
    assert_eq!(ours.next(), "a!1");
    assert_eq!(old.next(), "a!1");
    old.say("announce a 2");
    assert_eq!(ours.next(), "a!2");
    // One of ours without a key is still told that it needs one.
    let mut bare = Line::open(server.address);
    bare.say("hello autosync/1");
    assert_eq!(bare.next(), "debug!connected...");
    assert_eq!(bare.next(), "hello!autosync/1 key");
    let mut late = Sealed::open(&server);
    late.say("subscribe a");
    assert_eq!(late.next(), "a!2", "the last one");
}

#[test]
fn without_a_key_only_this_machine_is_listened_to() {
    let sandbox = Sandbox::new();
    let said = sandbox.run(["reflect", "--listen", "0.0.0.0:0"]).fails(2);
    assert_eq!(
        said,
        "autosync: without a key only this machine is listened to, and 0.0.0.0:0 is more than \
         that. Give a key with `--key-file`, the same as your hosts have, or listen on 127.0.0.1.\n"
    );
    sandbox.run(["reflect", "--listen", "[::]:0"]).fails(2);
    sandbox.run(["reflect", "--legacy"]).fails(2);

    let file = sandbox.write("open", format!("{KEY}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let file = file.to_str().unwrap();
    let said = sandbox.run(["reflect", "--key-file", file]).fails(2);
    assert!(
        said.contains("can be read by others. Run `chmod 600 "),
        "{said}"
    );
    let said = sandbox.run(["reflect", "--key-file", "nowhere"]).fails(2);
    assert!(said.contains("cannot be read"), "{said}");

    let file = key_file(&sandbox, "key", KEY);
    let server = Server::start_on(
        &sandbox,
        "0.0.0.0:0",
        &["--key-file", file.to_str().unwrap()],
    );
    let taken = sandbox
        .run([
            "reflect",
            "--listen",
            &format!("127.0.0.1:{}", server.address.port()),
        ])
        .fails(1);
    assert!(taken.contains("cannot be listened on"), "{taken}");
}

#[test]
fn a_credential_of_a_service_is_a_key_whatever_its_mode() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("credentials/fanout.key", KEY);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    let args = ["--key-file", file.to_str().unwrap()];
    sandbox.run(["reflect", args[0], args[1]]).fails(2);
    let place = file.parent().unwrap().to_str().unwrap().to_owned();
    let sandbox = sandbox.with("CREDENTIALS_DIRECTORY", &place);
    Sealed::open(&Server::start(&sandbox, &args)).before_pong();
}
