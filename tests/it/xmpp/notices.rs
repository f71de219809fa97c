//! Who hears of a push, and who is not believed.

use std::time::Duration;

use autosync::engine::action::Tell;
use autosync::engine::event::Event;
use autosync::engine::notice::Circle;
use autosync::transport::Transport;
use autosync::transport::xmpp::Pace;

use super::end::{End, FOLDER, agent, folder, notice, on_each, push, settings, stanza};
use super::proxy::eventually;
use super::raw::{attribute, body};
use super::server::Server;

/// Waits until an end knows of so many others.
fn knows(end: &End, hosts: &[&str]) {
    eventually("the others are seen", || {
        let status = end.transport.status();
        let seen: Vec<&str> = status.peers.iter().map(|peer| peer.host.as_str()).collect();
        seen == hosts
    });
}

#[test]
fn a_push_reaches_each_other_host_once_and_neither_the_pusher_nor_a_person() {
    let name = "a_push_reaches_each_other_host_once_and_neither_the_pusher_nor_a_person";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let person = server.raw(&user, "phone");
        person.send(
            "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>\
             <presence><priority>5</priority></presence>",
        );
        person.all();
        let [laptop, office, home] =
            ["laptop", "office", "home"].map(|host| End::online(host, server, &user));
        knows(&laptop, &["home", "office"]);
        for sequence in 1..=3 {
            laptop.transport.announce(&notice(FOLDER, sequence));
        }
        assert!(laptop.transport.flush(super::end::PATIENCE), "it is sent");
        for end in [&office, &home] {
            for sequence in 1..=3 {
                let heard = end.expect_notice();
                let wanted = notice(FOLDER, sequence);
                assert_eq!(heard, ("Sync".to_owned(), wanted, Circle::Own));
            }
        }
        let last = server.raw(&user, "last");
        for (end, host) in [(&laptop, "laptop"), (&office, "office"), (&home, "home")] {
            assert_eq!(end.until_now(&last, host), [], "{host}");
        }
        let heard = person.all();
        let is_message = |stanza: &&String| stanza.starts_with("<message");
        assert_eq!(heard.iter().filter(is_message).count(), 0, "{heard:#?}");
        let sent = &laptop.transport.status().folders[0];
        assert!(!sent.sent.is_empty(), "{sent:?}");
        let received = &home.transport.status().folders[0];
        assert!(
            received.sent.is_empty() && !received.received.is_empty(),
            "{received:?}"
        );
    });
}

#[test]
fn three_thousand_notices_each_way_get_through() {
    on_each("three_thousand_notices_each_way_get_through", |make| {
        const COUNT: u64 = 3000;
        let server = Server::shared(make);
        let user = server.account();
        let laptop = End::online("laptop", server, &user);
        let other = server.raw(&user, "other");
        let to = agent(&other, "laptop");
        other.send(&format!(
            "<presence><priority>-1</priority><agent xmlns='urn:autosync:push:0' host='other' \
             repos='{FOLDER}'/></presence>"
        ));
        knows(&laptop, &["other"]);
        for sequence in 0..COUNT {
            other.send(&push(&to, &notice(FOLDER, sequence)));
            laptop.transport.announce(&notice(FOLDER, sequence));
        }
        for sequence in 0..COUNT {
            assert_eq!(laptop.expect_notice().1.sequence, sequence);
        }
        for sequence in 0..COUNT {
            let heard = other.until("notice", |stanza| stanza.starts_with("<message"));
            let wanted = notice(FOLDER, sequence).commit.unwrap().to_string();
            assert!(heard.contains(&wanted), "{sequence}: {heard}");
        }
    });
}

#[test]
fn what_a_stranger_sends_is_no_notice_whatever_it_says() {
    on_each(
        "what_a_stranger_sends_is_no_notice_whatever_it_says",
        |make| {
            let server = Server::shared(make);
            let (user, stranger) = (server.account(), server.account());
            let laptop = End::online("laptop", server, &user);
            let own = server.raw(&user, "own");
            let to = agent(&own, "laptop");
            let evil = server.raw(&stranger, "evil");
            evil.send("<presence/>");
            for kind in ["headline", "chat", "normal"] {
                for to in [to.as_str(), own.bare()] {
                    evil.send(&stanza(kind, to, &notice(FOLDER, 7), ""));
                    evil.send(&stanza(
                        kind,
                        to,
                        &notice(FOLDER, 7),
                        "<body>pushed x</body>",
                    ));
                }
            }
            evil.all();
            assert_eq!(laptop.until_now(&own, "laptop"), []);

            // Who signs with another name is thrown out, or found out.
            let forged = push(&to, &notice(FOLDER, 8));
            evil.send(&forged.replacen(
                "<message",
                &format!("<message from='{}/x'", own.bare()),
                1,
            ));
            eventually("the server has dealt with it", || {
                server.try_raw(&stranger, "again", false).is_ok()
            });
            assert_eq!(laptop.until_now(&own, "laptop"), []);
        },
    );
}

#[test]
fn what_did_not_come_straight_or_has_another_form_is_no_notice() {
    let name = "what_did_not_come_straight_or_has_another_form_is_no_notice";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let laptop = End::online("laptop", server, &user);
        let own = server.raw(&user, "own");
        let to = agent(&own, "laptop");
        let good = notice(FOLDER, 7);
        let xml = autosync::transport::wire::to_xml(&good);
        let wrapped = format!(
            "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
             type='headline' from='{to}' to='{to}'>{xml}</message></forwarded>"
        );
        let long = format!("<x xmlns='x'>{}</x>", "x".repeat(5000));
        for stanza in [
            stanza(
                "headline",
                &to,
                &good,
                "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>",
            ),
            stanza(
                "headline",
                &to,
                &good,
                "<x xmlns='jabber:x:delay' stamp='20260101T00:00:00'/>",
            ),
            format!("<message type='headline' to='{to}'>{wrapped}</message>"),
            format!(
                "<message type='headline' to='{to}'><received xmlns='urn:xmpp:carbons:2'>{wrapped}\
                 </received></message>"
            ),
            stanza("chat", &to, &good, ""),
            stanza("groupchat", &to, &good, ""),
            stanza("error", &to, &good, ""),
            stanza("headline", &to, &good, &xml),
            stanza("headline", &to, &good, &long),
            push(&to, &good).replace("refs/heads/main", "refs/heads/../main"),
            push(&to, &good).replace("refs/heads/main", "--upload-pack=x"),
            push(&to, &good).replace(FOLDER, "/etc/passwd"),
            push(&to, &good).replace("host='elsewhere'", "host='else where'"),
            push(&to, &good).replace("urn:autosync:push:0", "urn:other"),
        ] {
            own.send(&stanza);
        }
        assert_eq!(laptop.until_now(&own, "laptop"), []);
        // It is none of these that makes it deaf.
        own.send(&push(&to, &good));
        assert_eq!(laptop.expect_notice().1, good);
    });
}

#[test]
fn a_peer_tells_of_the_folders_that_name_him_and_hears_of_no_others() {
    let name = "a_peer_tells_of_the_folders_that_name_him_and_hears_of_no_others";
    on_each(name, |make| {
        let server = Server::shared(make);
        let (user, friend, known) = (server.account(), server.account(), server.account());
        server.befriend(&user, &friend);
        server.befriend(&user, &known);
        let mut settings = settings(server, &user);
        let friend_jid = format!("{friend}@sync.test");
        settings.peers = vec![friend_jid.clone()];
        let pace = Pace {
            greeting: Duration::ZERO,
            ..Pace::default()
        };
        let mut alice = End::new("laptop", settings, pace);
        alice.expect_online(true);
        let shared = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let mut ours = folder("Ours", shared);
        ours.peers = vec![friend_jid.clone()];
        alice.transport.watch(&ours);
        let (key, _) = alice.next();
        assert_eq!(key, "Ours");
        let own = server.raw(&user, "own");
        let to = agent(&own, "laptop");
        let here = |raw: &super::raw::Raw| {
            raw.send(&format!(
                "<presence><agent xmlns='urn:autosync:push:0' host='desk' repos='{shared} \
                 {FOLDER}'/></presence>"
            ));
            raw.all();
        };
        let (bob, carol) = (server.raw(&friend, "bob"), server.raw(&known, "carol"));
        for raw in [&bob, &carol] {
            here(raw);
            for (id, sequence) in [(FOLDER, 5), (shared, 6)] {
                raw.send(&push(&to, &notice(id, sequence)));
            }
            raw.all();
        }
        let heard = alice.expect_notice();
        assert_eq!(heard, ("Ours".to_owned(), notice(shared, 6), Circle::Peers));
        assert_eq!(alice.until_now(&own, "laptop"), []);
        knows(&alice, &[&format!("desk ({friend_jid})")]);
        alice.transport.announce(&notice(FOLDER, 11));
        alice.transport.announce(&notice(shared, 12));
        let heard = bob.until("notice", |stanza| stanza.starts_with("<message"));
        assert!(heard.contains(shared), "{heard}");
        for raw in [&bob, &carol] {
            let rest = raw.all();
            assert!(
                !rest.iter().any(|it| it.starts_with("<message")),
                "{rest:#?}"
            );
        }
        // A host of another person that is seen late, as from another server, hears it, too; what we
        // have to say is nothing to one of ours, which fetches when it comes.
        let late = server.raw(&friend, "late");
        here(&late);
        let heard = late.until("notice", |stanza| stanza.starts_with("<message"));
        assert!(heard.contains(shared), "{heard}");
        let (late, second) = (server.raw(&known, "late"), server.raw(&user, "second"));
        for raw in [&late, &second] {
            here(raw);
            assert_eq!(alice.until_now(&own, "laptop"), []);
            let all = raw.all();
            assert!(!all.iter().any(|it| it.starts_with("<message")), "{all:#?}");
        }
    });
}

#[test]
fn what_is_in_the_tree_there_is_confirmed_to_the_hosts_of_the_account() {
    let name = "what_is_in_the_tree_there_is_confirmed_to_the_hosts_of_the_account";
    on_each(name, |make| {
        let server = Server::shared(make);
        let user = server.account();
        let laptop = End::online("laptop", server, &user);
        let office = End::online("office", server, &user);
        knows(&office, &["laptop"]);
        let mut have = notice(FOLDER, 9);
        have.host = "office".into();
        office.transport.confirm(&have);
        let (key, event) = laptop.next();
        let (host, commit) = ("office".to_owned(), have.commit.unwrap());
        assert_eq!(
            (key.as_str(), event),
            ("Sync", Event::Confirmed { host, commit })
        );
    });
}

#[test]
fn a_person_gets_a_text_for_each_push_and_each_problem() {
    on_each(
        "a_person_gets_a_text_for_each_push_and_each_problem",
        |make| {
            let server = Server::shared(make);
            let (user, friend) = (server.account(), server.account());
            let person = server.raw(&friend, "phone");
            person.send("<presence/>");
            person.all();
            let mut settings = settings(server, &user);
            settings.also_notify = vec![person.bare().to_owned()];
            let laptop = End::new("laptop", settings, Pace::default());
            // One before it is online, one after.
            let pushed = Tell::Pushed(notice(FOLDER, 3).commit.unwrap());
            laptop.transport.tell("Sync", &pushed);
            laptop.expect_online(true);
            laptop.transport.tell("Sync", &pushed);
            for _ in 0..2 {
                let heard = person.until("text", |stanza| stanza.starts_with("<message"));
                assert_eq!(body(&heard), Some("laptop pushed a merge (Sync)"));
                assert_eq!(attribute(&heard, "type").as_deref(), Some("chat"));
            }
        },
    );
}
