//! How one gets in, and what is said if one does not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use autosync::config::{Password, Secret, Tls};
use autosync::transport::Transport;
use autosync::transport::xmpp::Pace;

use super::end::{End, on_each, on_one, settings};
use super::proxy::Proxy;
use super::server::{Make, PASSWORD, Server, certificates};

/// A pace at which what is tried again is tried at once.
fn quick() -> Pace {
    Pace {
        again: Duration::from_millis(1),
        again_max: Duration::from_millis(1),
        spread: Duration::ZERO,
        ..Pace::default()
    }
}

#[test]
fn a_host_logs_in_by_starttls_and_by_direct_tls() {
    on_each("a_host_logs_in_by_starttls_and_by_direct_tls", |make| {
        let server = Server::shared(make);
        for (tls, port) in [
            (Tls::StartTls, server.port),
            (Tls::Direct, server.direct_port),
        ] {
            let mut settings = settings(server, &server.account());
            settings.tls = tls;
            settings.server = Some(("localhost".into(), port));
            let end = End::new("laptop", settings, Pace::default());
            end.expect_online(true);
            let status = end.transport.status();
            assert_eq!(
                (status.state.as_str(), status.message.as_str()),
                ("online", "")
            );
            assert_eq!(end.more_troubles(), []);
        }
    });
}

#[test]
fn the_password_comes_from_a_file_or_a_program() {
    on_one("the_password_comes_from_a_file_or_a_program", |make| {
        let server = Server::shared(make);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, format!("{PASSWORD}\nnot this line\n")).unwrap();
        let cat = vec!["cat".to_owned(), file.display().to_string()];
        for password in [Password::File(file.clone()), Password::Command(cat)] {
            let mut settings = settings(server, &server.account());
            settings.password = password;
            let end = End::new("laptop", settings, Pace::default());
            end.expect_online(true);
        }
    });
}

#[test]
fn a_wrong_password_is_tried_once_and_then_a_person_is_asked() {
    let name = "a_wrong_password_is_tried_once_and_then_a_person_is_asked";
    on_each(name, |make| {
        let server = Server::shared(make);
        let proxy = Proxy::to(server.port);
        let user = server.account();
        let mut wrong = settings(server, &user);
        wrong.password = Password::Inline(Secret::new("wrong-horse".into()));
        wrong.server = Some(("127.0.0.1".into(), proxy.port));
        let end = End::new("laptop", wrong, quick());
        let trouble = end.trouble().unwrap();
        let said = format!("the XMPP server refused the name or the password of {user}@sync.test");
        assert_eq!(trouble.message, said);
        assert!(trouble.hint.contains("`autosync sync`"), "{}", trouble.hint);
        let status = end.transport.status();
        assert_eq!(status.state, "held");
        assert_eq!(
            (status.message, status.hint),
            (trouble.message, trouble.hint)
        );
        // Time enough for a hundred tries.
        End::online("other", server, &server.account());
        assert_eq!(proxy.accepted(), 1);
        end.transport.retry();
        proxy.wait_accepted(2);
        drop(end);
        assert_eq!(proxy.accepted(), 2);
    });
}

#[test]
fn a_certificate_of_an_unknown_authority_is_named_and_refused() {
    let name = "a_certificate_of_an_unknown_authority_is_named_and_refused";
    on_each(name, |make| {
        let server = Server::shared(make);
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let proxy = Proxy::to(server.port);
        let mut settings = settings(server, &server.account());
        settings.ca_file = Some(dir.path().join("ca.pem"));
        settings.server = Some(("127.0.0.1".into(), proxy.port));
        let end = End::new("laptop", settings, quick());
        let trouble = end.trouble().unwrap();
        let words = [
            "for sync.test is refused",
            "nobody who is trusted here issued it",
            "test CA",
        ];
        for word in words {
            // Both authorities have one name, so the signature is what does not hold.
            let other = "it does not hold";
            let said = trouble.message.contains(word) || trouble.message.contains(other);
            assert!(said, "{word}: {}", trouble.message);
        }
        assert!(trouble.hint.contains("ca_file"), "{}", trouble.hint);
        assert_eq!(end.transport.status().state, "retry");
        End::online("other", server, &server.account());
        assert_eq!(proxy.accepted(), 1, "not again before ten minutes");
    });
}

#[test]
fn a_certificate_for_another_name_says_both_names() {
    on_each("a_certificate_for_another_name_says_both_names", |make| {
        // Prosody has no certificate to show to who asks for a name that it does not know.
        if make == Make::Prosody {
            return;
        }
        let server = Server::shared(make);
        let mut settings = settings(server, &server.account());
        settings.jid = "alice@other.test".into();
        settings.tls = Tls::Direct;
        settings.server = Some(("127.0.0.1".into(), server.direct_port));
        let end = End::new("laptop", settings, quick());
        let trouble = end.trouble().unwrap();
        let message = trouble.message;
        assert!(message.contains("for other.test is refused"), "{message}");
        assert!(message.contains("sync.test"), "{message}");
    });
}

#[test]
fn a_domain_that_the_server_does_not_serve_is_said_once() {
    on_each(
        "a_domain_that_the_server_does_not_serve_is_said_once",
        |make| {
            let server = Server::shared(make);
            let proxy = Proxy::to(server.port);
            let mut settings = settings(server, &server.account());
            settings.jid = "alice@other.test".into();
            settings.server = Some(("127.0.0.1".into(), proxy.port));
            let end = End::new("laptop", settings, quick());
            let trouble = end.trouble().unwrap();
            let said = "the XMPP server does not serve the domain other.test";
            assert_eq!(trouble.message, said);
            assert_eq!(end.transport.status().state, "held");
            End::online("other", server, &server.account());
            assert_eq!(proxy.accepted(), 1);
        },
    );
}

/// A server that says this to whoever comes, and keeps what it hears until the connection ends.
fn says(text: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut heard = Vec::new();
        // A connection that is reset has been heard, too.
        drop(stream.read_to_end(&mut heard));
        String::from_utf8(heard).unwrap()
    });
    (port, thread)
}

#[test]
fn without_tls_nothing_is_said_and_nothing_tried_again() {
    let name = "without_tls_nothing_is_said_and_nothing_tried_again";
    on_each(name, |make| {
        let server = Server::shared(make);
        let (port, heard) = says(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' from='sync.test' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'><stream:features>\
             <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
             <mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>",
        );
        let mut settings = settings(server, "secretive");
        settings.server = Some(("127.0.0.1".into(), port));
        let end = End::new("laptop", settings, quick());
        let trouble = end.trouble().unwrap();
        assert!(
            trouble.message.contains("does not offer TLS"),
            "{}",
            trouble.message
        );
        assert_eq!(end.transport.status().state, "held");
        drop(end);
        let heard = heard.join().unwrap();
        assert!(heard.contains("sync.test"), "{heard}");
        assert!(
            !heard.contains("secretive") && !heard.contains("auth"),
            "{heard}"
        );
    });
}
