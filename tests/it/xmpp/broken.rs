//! Servers that die, ways that freeze, and ends that are dropped in the middle.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autosync::clock;
use autosync::transport::Transport;
use autosync::transport::xmpp::Pace;

use super::end::{End, FOLDER, notice, on_each, settings};
use super::proxy::{Proxy, eventually};
use super::server::Server;

#[test]
fn a_server_that_was_killed_is_found_again_without_a_storm() {
    on_each(
        "a_server_that_was_killed_is_found_again_without_a_storm",
        |make| {
            let mut server = Server::start(make);
            let proxy = Proxy::to(server.port);
            let pace = Pace {
                spread: Duration::ZERO,
                ..Pace::default()
            };
            let mut way = settings(&server, "alice");
            way.server = Some(("127.0.0.1".into(), proxy.port));
            let laptop = End::new("laptop", way, pace);
            laptop.expect_online(true);
            let before = proxy.accepted();
            server.kill();
            laptop.expect_online(false);
            // What is pushed meanwhile is told to whoever is there afterwards.
            laptop.transport.announce(&notice(FOLDER, 1));
            laptop.transport.announce(&notice(FOLDER, 2));
            server.listen();
            let office = End::online("office", &server, "alice");
            laptop.expect_online(true);
            assert_eq!(office.expect_notice().1, notice(FOLDER, 2));
            let own = server.raw("alice", "own");
            assert_eq!(laptop.until_now(&own, "laptop"), [], "online once");
            let tries = proxy.accepted() - before;
            assert!(tries < 5, "{tries} tries");
            assert_eq!(laptop.more_troubles(), [], "no reason to tell anybody");
        },
    );
}

#[test]
fn a_way_that_freezes_is_noticed_and_what_was_said_meanwhile_is_said_again() {
    let name = "a_way_that_freezes_is_noticed_and_what_was_said_meanwhile_is_said_again";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let proxy = Proxy::to(server.port);
        let pace = Pace {
            setup: Duration::from_secs(3),
            silence: Duration::from_millis(500),
            answer: Duration::from_millis(700),
            again: Duration::from_millis(50),
            again_max: Duration::from_millis(200),
            spread: Duration::ZERO,
            greeting: Duration::from_secs(3),
        };
        let mut way = settings(server, &user);
        way.server = Some(("127.0.0.1".into(), proxy.port));
        let laptop = End::new("laptop", way, pace);
        laptop.expect_online(true);
        let office = End::online("office", server, &user);
        proxy.freeze();
        laptop.expect_online(false);
        eventually("it says so", || laptop.transport.status().state != "online");
        laptop.transport.announce(&notice(FOLDER, 5));
        proxy.thaw();
        laptop.expect_online(true);
        assert_eq!(office.expect_notice().1, notice(FOLDER, 5));
    });
}

/// How often a thread of the transport has panicked in this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn an_end_that_is_dropped_while_it_connects_goes_at_once_and_quietly() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some("xmpp") {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    let name = "an_end_that_is_dropped_while_it_connects_goes_at_once_and_quietly";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        for pieces in 0..24 {
            let proxy = Proxy::to(server.port);
            let mut way = settings(server, &user);
            way.server = Some(("127.0.0.1".into(), proxy.port));
            let end = End::new("laptop", way, Pace::default());
            // Where it is then: in the name, the handshake, the login, the binding, online.
            proxy.wait_pieces(pieces.min(18));
            if pieces > 18 {
                end.expect_online(true);
            }
            let begun = clock::now();
            drop(end);
            let took = clock::now().since(begun);
            assert!(took < Duration::from_secs(2), "{pieces}: {took:?}");
        }
        // With somebody at the other end who never says a word.
        let proxy = Proxy::to(server.port);
        proxy.freeze();
        let mut way = settings(server, &user);
        way.server = Some(("127.0.0.1".into(), proxy.port));
        let end = End::new("laptop", way, Pace::default());
        proxy.wait_accepted(1);
        let begun = clock::now();
        drop(end);
        assert!(clock::now().since(begun) < Duration::from_secs(2));
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
