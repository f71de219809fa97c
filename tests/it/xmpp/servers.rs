//! The servers and the client that the other tests rely on.

use super::raw::{attribute, body};
use super::server::{Make, Server};
use crate::network::skipped;

#[test]
fn each_server_passes_a_message_between_its_two_ways_in() {
    let name = "each_server_passes_a_message_between_its_two_ways_in";
    for make in Make::BOTH {
        if let Some(why) = make.is_missing() {
            skipped(name, why);
            continue;
        }
        let server = Server::shared(make);
        let (one, other) = (server.account(), server.account());
        let first = server.try_raw(&one, "a", false).unwrap();
        let second = server.try_raw(&other, "b", true).unwrap();
        assert_eq!(second.jid, format!("{other}@sync.test/b"));
        first.send(&format!(
            "<message type='chat' to='{}' id='x1'><body>a &lt; b</body></message>",
            second.jid
        ));
        let heard = second.until("message", |stanza| stanza.starts_with("<message"));
        assert_eq!(body(&heard), Some("a &lt; b"));
        assert_eq!(attribute(&heard, "from").as_ref(), Some(&first.jid));
        assert_eq!(
            first.all(),
            Vec::<String>::new(),
            "the sender hears nothing"
        );
    }
}

#[test]
fn each_server_refuses_a_wrong_password() {
    let name = "each_server_refuses_a_wrong_password";
    for make in Make::BOTH {
        if let Some(why) = make.is_missing() {
            skipped(name, why);
            continue;
        }
        let server = Server::shared(make);
        let login = super::raw::Login {
            port: server.port,
            direct: false,
            ca: &server.ca(),
            user: &server.account(),
            password: "wrong",
            resource: "x",
        };
        let error = super::raw::Raw::open(&login).err().unwrap().to_string();
        assert!(error.contains("not-authorized"), "{error}");
    }
}

#[test]
fn a_server_that_was_killed_comes_back_with_its_accounts() {
    let name = "a_server_that_was_killed_comes_back_with_its_accounts";
    for make in Make::BOTH {
        if let Some(why) = make.is_missing() {
            skipped(name, why);
            continue;
        }
        let mut server = Server::start(make);
        let before = server.raw("alice", "x");
        server.kill();
        before.closed();
        assert!(server.try_raw("alice", "x", false).is_err(), "it is down");
        server.listen();
        assert_eq!(server.raw("alice", "x").jid, "alice@sync.test/x");
        server.stop();
    }
}

#[test]
fn each_server_runs_as_an_unprivileged_user() {
    let name = "each_server_runs_as_an_unprivileged_user";
    for make in Make::BOTH {
        if let Some(why) = make.is_missing() {
            skipped(name, why);
            continue;
        }
        // Without being root, every other test here is this one.
        let server = if rustix::process::geteuid().is_root() {
            Server::start_as_nobody(make)
        } else {
            Server::start(make)
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let uid = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .unwrap();
        assert!(!uid.split_whitespace().any(|word| word == "0"), "{uid}");
        assert_eq!(server.raw("bob", "x").bare(), "bob@sync.test");
    }
}
