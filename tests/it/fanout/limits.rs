//! What a client can take of the server, and what becomes of one that takes more.

use std::time::Duration;

use autosync::clock;
use autosync::transport::reflector::{Limits, Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::Line;
use super::{Inside, Server};
use crate::support::Sandbox;
use crate::support::host::PATIENCE;

fn with(limits: Limits) -> Inside {
    Inside::start(Settings {
        limits,
        ..Settings::default()
    })
}

#[test]
fn a_line_that_is_too_long_ends_its_connection_and_no_other() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let mut good = Line::ours(server.address, &["a"]);
    for bad in ["x".repeat(513), format!("{}\n", "x".repeat(513))] {
        let mut line = Line::open(server.address);
        line.raw(bad.as_bytes());
        line.ends();
    }
    let mut line = Line::open(server.address);
    line.raw(format!("{}\nping\n", "x".repeat(512)).as_bytes());
    assert_eq!(line.next(), "debug!connected...");
    line.pong_follows();
    good.say(&format!("announce a {}", "m".repeat(256)));
    assert_eq!(good.next().len(), 258);
    good.say(&format!("announce a {}", "m".repeat(257)));
    good.say(&format!("subscribe {}", "c".repeat(129)));
    good.pong();
}

#[test]
fn no_client_has_more_channels_than_it_may() {
    let limits = Limits {
        subscriptions: 2,
        ..Limits::default()
    };
    let server = with(limits);
    let mut line = Line::ours(server.address, &["a", "b", "c"]);
    line.say("announce c 1");
    line.say("announce b 1");
    assert_eq!(line.before_pong(), ["b!1"]);
    line.say("unsubscribe a");
    line.say("subscribe c");
    assert_eq!(line.before_pong(), ["c!1"]);
}

#[test]
fn what_waits_for_a_slow_client_goes_with_its_subscription() {
    let server = with(Limits {
        gap: Duration::from_millis(50),
        ..Limits::default()
    });
    let mut line = Line::open(server.address);
    assert_eq!(line.next(), "debug!connected...");
    // Faster than one line at a time goes out.
    for number in 0..200 {
        line.say(&format!("subscribe c{number}"));
        line.say(&format!("announce c{number} 1"));
        line.say(&format!("unsubscribe c{number}"));
    }
    line.say("subscribe z");
    line.say("announce z 1");
    let mut before = 0;
    while line.next() != "z!1" {
        before += 1;
    }
    assert!(
        before < 100,
        "{before} lines waited although nobody listened"
    );
}

#[test]
fn the_latest_messages_of_so_many_channels_are_remembered_and_no_more() {
    let limits = Limits {
        remembered: 2,
        ..Limits::default()
    };
    let server = with(limits);
    let mut line = Line::ours(server.address, &[]);
    for (channel, message) in [("a", 1), ("b", 1), ("a", 2), ("c", 1)] {
        line.say(&format!("announce {channel} {message}"));
    }
    line.pong();
    let mut late = Line::ours(server.address, &["a", "b", "c"]);
    assert_eq!(late.before_pong(), ["a!2", "c!1"]);
}

#[test]
fn who_says_too_much_is_heard_slowly_and_holds_up_nobody() {
    let every = Duration::from_millis(10);
    let limits = Limits {
        burst: 50,
        line_every: every,
        ..Limits::default()
    };
    let server = with(limits);
    let mut good = Line::ours(server.address, &["a"]);
    good.pong();
    let began = clock::now();
    let mut bad = Line::open(server.address);
    let lines: Vec<String> = (0..5_000).map(|n| format!("announce a {n}\n")).collect();
    let flood = lines.concat();
    bad.stream.set_nonblocking(true).unwrap();
    // As much as the system takes.
    let sent = std::io::Write::write(&mut bad.stream, flood.as_bytes()).unwrap();
    let sent = flood[..sent].lines().count();
    assert!(sent > 1_000, "{sent}");
    let mut heard = 0;
    while heard < 100 {
        assert_eq!(good.next(), format!("a!{heard}"));
        heard += 1;
        let passed = clock::now().since(began).as_millis() / every.as_millis();
        // It is looked after a whole buffer of lines.
        let most = 50 + passed + 40;
        assert!(heard <= most, "{heard} of {most} in {passed}");
    }
    let asked = clock::now();
    let heard = good.before_pong();
    assert!(heard.iter().all(|line| line.starts_with("a!")));
    assert!(clock::now().since(asked) < Duration::from_secs(2));
}

#[test]
fn who_does_not_read_is_cut_and_costs_little_until_then() {
    let limits = Limits {
        stuck: Duration::from_millis(300),
        burst: 1_000_000,
        ..Limits::default()
    };
    let server = with(limits);
    let mut deaf = Line::ours(server.address, &["a"]);
    rustix::net::sockopt::set_socket_recv_buffer_size(&deaf.stream, 4096).unwrap();
    let mut good = Line::ours(server.address, &["a"]);
    good.pong();
    let deadline = clock::now() + PATIENCE;
    let mut said = 0_usize;
    let is_cut = |line: &Line| {
        let mut fds = [PollFd::new(&line.stream, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    };
    let message = "m".repeat(250);
    while !is_cut(&deaf) {
        good.say(&format!("announce a {message}"));
        said += good.next().len();
        assert!(clock::now() < deadline, "{said} bytes were said");
    }
    let waited: usize = deaf.ends().iter().map(String::len).sum();
    assert!(waited < 512 * 1024, "{waited} of {said} waited for it");
    assert!(said > waited, "{said}");
    good.pong();
}

#[test]
fn there_is_room_for_so_many_of_an_address_and_again_when_one_goes() {
    let limits = Limits {
        per_address: 2,
        ..Limits::default()
    };
    let server = with(limits);
    let first = Line::ours(server.address, &[]);
    let mut second = Line::ours(server.address, &[]);
    assert_eq!(Line::open(server.address).ends(), ["debug!busy"]);
    second.pong();
    drop(first);
    let deadline = clock::now() + PATIENCE;
    while Line::open(server.address).next() != "debug!connected..." {
        assert!(clock::now() < deadline, "there is no room again");
    }
    second.pong();
}
