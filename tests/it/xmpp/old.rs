//! A host with dvcs-autosync of 2012 on the same account, stanza by stanza as it was recorded.

use autosync::engine::event::Event;
use autosync::engine::notice::Circle;
use autosync::transport::Transport;
use autosync::transport::xmpp::Pace;

use super::end::{End, FOLDER, URL, agent, notice, on_each, settings};
use super::raw::{Raw, attribute, body};
use super::server::Server;

/// What an old host says when it has logged in.
fn begin(old: &Raw, host: &str) {
    old.send(
        "<iq type=\"set\" id=\"2\"><session xmlns=\"urn:ietf:params:xml:ns:xmpp-session\" /></iq>\
         <iq type=\"get\" id=\"3\"><query xmlns=\"jabber:iq:roster\" /></iq><presence id=\"4\" />",
    );
    old.send(&format!("<presence to=\"{}\" id=\"5\" />", old.bare()));
    say(old, &format!("login AutosyncJabberBot on {host}"));
}

/// A chat of an old host to its own account.
fn say(old: &Raw, text: &str) {
    old.send(&format!(
        "<message to=\"{}\" type=\"chat\" id=\"6\"><body>{text}</body><thread>None</thread></message>",
        old.bare()
    ));
}

#[test]
fn an_old_host_and_ours_tell_each_other_of_pushes_and_ours_says_no_other_word() {
    let name = "an_old_host_and_ours_tell_each_other_of_pushes_and_ours_says_no_other_word";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let mut settings = settings(server, &user);
        settings.legacy = true;
        let laptop = End::new("laptop", settings, Pace::default());
        laptop.expect_online(true);
        let own = server.raw(&user, "own");
        let old = server.raw(&user, "AutosyncJabberBot on beta");
        begin(&old, "beta");
        let ours = agent(&own, "laptop");
        let seen = old.until("presence", |it| {
            it.starts_with("<presence") && attribute(it, "from").as_ref() == Some(&ours)
        });
        assert!(!seen.contains("unavailable"), "it is seen: {seen}");

        // It pushes.
        say(&old, "pushed server:autosync.git\n");
        let (key, heard, circle) = laptop.expect_notice();
        assert_eq!((key.as_str(), circle), ("Sync", Circle::Own));
        assert_eq!((heard.host.as_str(), heard.commit), ("beta", None));
        assert_eq!(
            (heard.folder.as_str(), heard.branch.as_str()),
            (FOLDER, "main")
        );
        // Another folder of the account; other words; its own hostname twice.
        for text in [
            "pong",
            "help",
            "ping",
            "whoami",
            "unknown",
            "Unknown command: \"x\"",
            "moved x",
        ] {
            say(&old, text);
        }
        assert_eq!(laptop.until_now(&own, "laptop"), []);

        // We push.
        old.all();
        laptop.transport.announce(&notice(FOLDER, 1));
        let heard = old.until("push", |it| it.starts_with("<message"));
        assert_eq!(attribute(&heard, "from").as_ref(), Some(&ours));
        assert_eq!(attribute(&heard, "to").as_ref(), Some(&old.jid));
        assert_eq!(attribute(&heard, "type").as_deref(), Some("chat"));
        assert_eq!(body(&heard), Some(format!("pushed {URL}").as_str()));
        assert!(!heard.contains("jabber:x:delay"), "{heard}");
        let rest = old.all();
        let from_us = |it: &&String| {
            it.starts_with("<message") && attribute(it, "from").as_ref() == Some(&ours)
        };
        assert_eq!(rest.iter().filter(from_us).count(), 0, "{rest:#?}");
    });
}

#[test]
fn without_legacy_an_old_host_is_neither_heard_nor_told() {
    let name = "without_legacy_an_old_host_is_neither_heard_nor_told";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let laptop = End::online("laptop", server, &user);
        let own = server.raw(&user, "own");
        let old = server.raw(&user, "AutosyncJabberBot on beta");
        begin(&old, "beta");
        say(&old, "pushed server:autosync.git\n");
        old.send(&format!(
            "<message to='{}' type='chat'><body>pushed {URL}</body></message>",
            agent(&own, "laptop")
        ));
        old.all();
        assert_eq!(laptop.until_now(&own, "laptop"), []);
        laptop.transport.announce(&notice(FOLDER, 1));
        laptop.transport.flush(super::end::PATIENCE);
        let heard = old.all();
        assert!(
            !heard.iter().any(|it| it.contains("elsewhere")),
            "{heard:#?}"
        );
    });
}

#[test]
fn what_an_old_host_said_while_nobody_was_there_is_no_notice() {
    let name = "what_an_old_host_said_while_nobody_was_there_is_no_notice";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        // Without presence it gets nothing itself, and the server keeps the message.
        let old = server.raw(&user, "AutosyncJabberBot on beta");
        say(&old, "pushed server:autosync.git\n");
        old.all();
        let mut settings = settings(server, &user);
        settings.legacy = true;
        let laptop = End::new("laptop", settings, Pace::default());
        laptop.expect_online(true);
        let own = server.raw(&user, "own");
        assert_eq!(laptop.until_now(&own, "laptop"), []);
        say(&old, "pushed server:autosync.git\n");
        let (_, event) = laptop.next();
        assert!(matches!(event, Event::Noticed(_, Circle::Own)), "{event:?}");
    });
}
