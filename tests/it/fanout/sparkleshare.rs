//! The server as `SparkleShare` of before 2.0 knows it, with everything that such a host does wrong.

use std::time::Duration;

use autosync::clock;
use autosync::engine::timer::Moment;
use autosync::transport::reflector::{Limits, Settings};
use rustix::process::Signal;

use super::line::Line;
use super::{Inside, Server};
use crate::support::Sandbox;

const SHARE: &str = "9db571f07a2d81cd1ce87418b34473627d004787";
const COMMIT: &str = "4f6910e070806890f8f4558a227f505d4b6c67d0";

#[test]
fn the_conversation_is_sparkleshares_byte_for_byte() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let mut host = Line::open(server.address);
    assert_eq!(host.next(), "debug!connected...");
    // Pieces of lines, and many lines in one piece.
    host.raw(b"subsc");
    host.raw(format!("ribe {SHARE}\nsubscribe {SHARE}\n").as_bytes());
    host.raw(b"subscribe all\nsubscribe debug\nsubscribe hello\n");
    host.say(&format!("announce {SHARE} {COMMIT}"));
    assert_eq!(
        host.next(),
        format!("{SHARE}!{COMMIT}"),
        "to the sender, too"
    );
    host.say("ping");
    let pong: i64 = host.next().parse().unwrap();
    assert!((pong - clock::wall_seconds()).abs() < 30);

    // What is not understood is met with silence.
    for nothing in [
        "",
        "info",
        "subscribe",
        "unsubscribe x",
        "blah 1 2",
        "ping\r",
    ] {
        host.say(nothing);
    }
    host.say("subscribe\tx");
    host.say(&format!("announce {SHARE}"));
    host.say(&format!("announce {SHARE} "));
    host.say(&format!("announce {SHARE} {COMMIT}\r"));
    host.say("announce all hi");
    host.say("announce debug connected...");
    host.raw(b"announce \xff\xfe \xff\n");
    host.pong();

    let mut other = Line::ours(server.address, &[SHARE]);
    assert_eq!(other.next(), format!("{SHARE}!{COMMIT}"), "the last one");
    other.say(&format!("unsubscribe {SHARE}"));
    host.say(&format!("announce {SHARE} with spaces and ! in it"));
    assert_eq!(host.next(), format!("{SHARE}!with spaces and ! in it"));
    other.pong();
    assert_eq!(server.end(Signal::TERM).code(), Some(0));
    assert_eq!(host.maybe(), None);
}

/// What a host hears that looks once in this time, from this moment on, and takes only the first line
/// of what it finds.
fn heard(lines: &[(String, Moment)], from: Moment, every: Duration) -> Vec<String> {
    let mut heard = Vec::new();
    let mut looked = from;
    let mut left = lines.iter().peekable();
    while left.peek().is_some() {
        looked = looked + every;
        let mut found = Vec::new();
        while let Some((line, _)) = left.next_if(|(_, at)| *at <= looked) {
            found.push(line.clone());
        }
        heard.extend(found.into_iter().next());
    }
    heard
}

#[test]
fn a_host_that_looks_once_a_second_and_reads_one_line_misses_nothing() {
    assert_eq!(Limits::default().gap, Duration::from_millis(1200));
    // Longer here, so that a test that is woken late does not see what was not so.
    let limits = Limits {
        gap: Duration::from_millis(1800),
        ..Limits::default()
    };
    let server = Inside::start(Settings {
        limits,
        ..Settings::default()
    });
    let mut old = Line::sparkleshare(server.address, &["a", "b", "c"]);
    let began = clock::now();
    let mut new = Line::ours(server.address, &["a"]);
    for (channel, message) in [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)] {
        new.say(&format!("announce {channel} {message}"));
    }
    for message in 1..=3 {
        assert_eq!(
            new.next(),
            format!("a!{message}"),
            "one of ours hears at once"
        );
    }
    let lines = [old.at(), old.at(), old.at()];
    let texts: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(texts, ["a!3", "b!1", "c!1"], "the newest of each channel");
    for pair in lines.windows(2) {
        let gap = pair[1].1.since(pair[0].1);
        assert!(gap >= Duration::from_millis(1200), "{gap:?}");
    }
    let second = Duration::from_secs(1);
    for phase in (0..1000).step_by(50) {
        let from = began + Duration::from_millis(phase);
        assert_eq!(heard(&lines, from, second), texts, "{phase}");
    }
    assert_eq!(
        heard(&lines, began, 5 * second).len(),
        2,
        "the host of this test can miss"
    );
    old.pong();
    for piece in &old.pieces {
        let text = String::from_utf8_lossy(piece);
        assert!(
            text.lines().count() == 1 && text.ends_with('\n'),
            "{text:?}"
        );
    }
}

#[test]
fn a_ping_is_answered_at_once_and_what_the_pong_may_have_swallowed_is_said_again() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let mut old = Line::sparkleshare(server.address, &["a"]);
    let mut new = Line::ours(server.address, &[]);
    new.say("announce a 1");
    assert_eq!(old.next(), "a!1");
    // The host sent its ping before it saw that line, and takes it for the answer.
    let (asked, mut answered) = (clock::now(), Vec::new());
    old.say("ping");
    answered.push(old.at());
    assert!(answered[0].0.parse::<i64>().is_ok(), "{answered:?}");
    assert!(answered[0].1.since(asked) < Duration::from_secs(1));
    let (line, at) = old.at();
    assert_eq!(line, "a!1");
    assert!(at.since(answered[0].1) >= Duration::from_secs(1));
}

#[test]
fn a_host_that_is_not_asked_is_not_spoken_to_until_it_is_given_up() {
    let limits = Limits {
        idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = Inside::start(Settings {
        limits,
        ..Settings::default()
    });
    let mut old = Line::sparkleshare(server.address, &["a"]);
    let began = clock::now();
    assert_eq!(old.ends(), [""; 0]);
    assert!(clock::now().since(began) >= Duration::from_millis(1900));
}

#[test]
fn whatever_comes_together_is_whole_lines() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let channels: Vec<String> = (0..100).map(|number| format!("c{number}")).collect();
    let names: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut one = Line::ours(server.address, &names);
    one.pong();
    let mut two = Line::ours(server.address, &[]);
    let mut burst = Vec::new();
    for channel in &channels {
        let line = format!("announce {channel} {}\n", "m".repeat(200));
        burst.extend_from_slice(line.as_bytes());
    }
    two.raw(&burst);
    for channel in &channels {
        assert!(one.next().starts_with(&format!("{channel}!m")));
    }
    for piece in &one.pieces {
        assert!(piece.ends_with(b"\n"), "a piece of {} bytes", piece.len());
    }
}

#[test]
fn an_old_host_is_not_told_what_was_said_before_it_came() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let mut old = Line::sparkleshare(server.address, &["a"]);
    old.say("announce a 1");
    assert_eq!(old.next(), "a!1");
    let mut late = Line::sparkleshare(server.address, &["a", "b"]);
    let mut ours = Line::ours(server.address, &["a"]);
    assert_eq!(ours.next(), "a!1");
    ours.say("announce b 1");
    assert_eq!(late.next(), "b!1");
}
