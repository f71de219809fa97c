use super::*;
use crate::names::ObjectId;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FOLDER: &str = "89abcdef01234567";

fn notice() -> Notice {
    Notice {
        folder: FOLDER.into(),
        branch: "main".into(),
        commit: Some(ObjectId::from_hex(COMMIT).unwrap()),
        host: "laptop".into(),
        sequence: 7,
    }
}

fn full(jid: &str) -> FullJid {
    FullJid::new(jid).unwrap()
}

fn ears() -> Ears {
    Ears {
        me: full("me@x.org/autosync.desk.1a2b"),
        peers: [BareJid::new("bob@y.org").unwrap()].into(),
        legacy: false,
    }
}

/// A message as it comes from the server.
fn message(xml: &str) -> Message {
    let xml = xml.replacen("<message", "<message xmlns='jabber:client'", 1);
    Message::try_from(xml.parse::<Element>().unwrap()).unwrap()
}

fn from(jid: &str, kind: &str, inside: &str) -> Message {
    message(&format!(
        "<message from='{jid}' type='{kind}'>{inside}</message>"
    ))
}

fn xml() -> String {
    wire::to_xml(&notice())
}

fn refused(message: &Message) -> Unheard {
    ears().hear(message).unwrap_err()
}

#[test]
fn a_notice_comes_out_as_it_went_in() {
    let to = full("me@x.org/autosync.desk.1a2b");
    let sender = full("me@x.org/autosync.laptop.77ff");
    let mut sent = push(&to, &notice());
    assert_eq!(sent.type_, MessageType::Headline);
    assert_eq!(sent.to, Some(Jid::from(to.clone())));
    let has = |name: &str| sent.payloads.iter().any(|it| it.is(name, HINTS));
    assert!(has("no-store") && has("no-copy"));
    sent.from = Some(Jid::from(sender.clone()));
    let (who, heard) = ears().hear(&sent).unwrap();
    assert_eq!(who, sender);
    assert_eq!(heard, Heard::Push(notice(), Whose::Own));

    let mut sent = have(&to, &notice());
    sent.from = Some(Jid::from(sender));
    assert_eq!(ears().hear(&sent).unwrap().1, Heard::Have(notice()));
}

#[test]
fn only_our_own_other_connections_and_listed_people_are_believed() {
    let (_, heard) = ears()
        .hear(&from("bob@y.org/phone", "headline", &xml()))
        .unwrap();
    let bob = BareJid::new("bob@y.org").unwrap();
    assert_eq!(heard, Heard::Push(notice(), Whose::Peer(bob)));
    for stranger in [
        "me@x.org",
        "me@x.org/autosync.desk.1a2b",
        "mallory@x.org/autosync.desk.1a2b",
        "me@x.org.evil/a",
        "x.org",
        "bob@y.org",
        "bob@x.org/phone",
    ] {
        let stranger = from(stranger, "headline", &xml());
        assert_eq!(refused(&stranger), Unheard::Stranger);
    }
    let nobody = message(&format!("<message type='headline'>{}</message>", xml()));
    assert_eq!(refused(&nobody), Unheard::Stranger);
}

#[test]
fn a_peer_confirms_nothing() {
    let xml = xml().replace("<push", "<have");
    assert_eq!(
        refused(&from("bob@y.org/phone", "headline", &xml)),
        Unheard::Kind
    );
}

#[test]
fn a_notice_is_a_headline_and_nothing_else() {
    for kind in ["chat", "normal", "groupchat", "error"] {
        assert_eq!(refused(&from("me@x.org/a", kind, &xml())), Unheard::Kind);
    }
}

#[test]
fn what_took_a_detour_is_no_notice() {
    let push = xml();
    for inside in [
        format!("{push}<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>"),
        format!("{push}<x xmlns='jabber:x:delay' stamp='20200101T00:00:00'/>"),
        format!("<forwarded xmlns='urn:xmpp:forward:0'>{push}</forwarded>"),
        format!(
            "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{push}\
             </forwarded></received>"
        ),
        format!("<result xmlns='urn:xmpp:mam:2'>{push}</result>{push}"),
    ] {
        assert_eq!(
            refused(&from("me@x.org/a", "headline", &inside)),
            Unheard::Detour
        );
    }
    let deep = format!("<wrap xmlns='urn:other'>{push}</wrap>");
    assert_eq!(
        refused(&from("me@x.org/a", "headline", &deep)),
        Unheard::Kind
    );
}

#[test]
fn the_form_is_checked_and_what_is_unknown_ignored() {
    let good = xml().replace(" seq=", " colour='red' seq=");
    let (_, heard) = ears().hear(&from("me@x.org/a", "headline", &good)).unwrap();
    assert_eq!(heard, Heard::Push(notice(), Whose::Own));
    for (from_text, to_text, field) in [
        (FOLDER, "../../x", "repo"),
        (COMMIT, "HEAD", "commit"),
        ("refs/heads/main", "refs/heads/-x", "ref"),
        ("refs/heads/main", "main", "ref"),
        ("'laptop'", "'a b'", "host"),
        ("'7'", "'-7'", "seq"),
    ] {
        let bad = xml().replace(from_text, to_text);
        let error = refused(&from("me@x.org/a", "headline", &bad));
        assert_eq!(error, Unheard::Form(NotANotice::Field(field)));
    }
    let two = format!("{0}{0}", xml());
    assert_eq!(
        refused(&from("me@x.org/a", "headline", &two)),
        Unheard::Kind
    );
    let long = format!("{}<x xmlns='urn:x'>{}</x>", xml(), "y".repeat(wire::LIMIT));
    let error = refused(&from("me@x.org/a", "headline", &long));
    assert_eq!(error, Unheard::Form(NotANotice::TooLong));
}

#[test]
fn old_hosts_are_heard_only_if_that_is_wanted() {
    let chat = from(
        "me@x.org/AutosyncJabberBot on alpha",
        "chat",
        "<body>pushed server:a.git\n</body><thread>None</thread>",
    );
    assert_eq!(refused(&chat), Unheard::Kind);
    let ears = Ears {
        legacy: true,
        ..ears()
    };
    let (_, heard) = ears.hear(&chat).unwrap();
    assert_eq!(heard, Heard::Old("server:a.git".into()));
    let hear = |jid: &str, kind: &str, inside: &str| ears.hear(&from(jid, kind, inside));
    let body = "<body>pushed server:a.git</body>";
    assert!(hear("me@x.org/autosync.desk.1a2b", "chat", body).is_err());
    assert!(hear("bob@y.org/a", "chat", body).is_err());
    assert!(hear("me@x.org/a", "groupchat", body).is_err());
    let late = format!("{body}<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>");
    assert_eq!(hear("me@x.org/a", "chat", &late), Err(Unheard::Detour));
    let login = "<body>login AutosyncJabberBot on alpha</body>";
    assert_eq!(hear("me@x.org/a", "chat", login), Err(Unheard::Kind));
    assert_eq!(hear("me@x.org/a", "chat", ""), Err(Unheard::Kind));
}

#[test]
fn presence_is_aside_and_names_folders_and_host() {
    let ids = [FOLDER, "", "0123456789abcdef"];
    let ours = presence("laptop", ids.into_iter(), false);
    assert_eq!(ours.priority.0, -1);
    assert_eq!(agent_host(&ours), Some("laptop".into()));
    let repos = ours.payloads[0].attr("repos");
    assert_eq!(repos, Some("89abcdef01234567 0123456789abcdef"));
    assert_eq!(presence("laptop", ids.into_iter(), true).priority.0, 0);
    assert_eq!(agent_host(&Presence::available()), None);
    let odd = presence("a'b<c", ids.into_iter(), false);
    assert_eq!(agent_host(&odd), Some(String::new()));
}

#[test]
fn questions_are_answered_and_orders_refused() {
    let iq = |kind: &str, inside: &str| {
        let xml = format!(
            "<iq xmlns='jabber:client' from='me@x.org/a' id='q1' type='{kind}'>{inside}</iq>"
        );
        Iq::try_from(xml.parse::<Element>().unwrap()).unwrap()
    };
    let pong = answer(iq("get", "<ping xmlns='urn:xmpp:ping'/>")).unwrap();
    assert!(matches!(&pong, Iq::Result { payload: None, .. }));
    assert_eq!(
        (pong.id(), pong.to()),
        ("q1", Some(&Jid::new("me@x.org/a").unwrap()))
    );
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let about = answer(iq("get", info)).unwrap();
    let Iq::Result {
        payload: Some(about),
        ..
    } = about
    else {
        panic!("{about:?}");
    };
    assert!(String::from(&about).contains(NAMESPACE));
    for (kind, inside) in [
        ("get", "<query xmlns='jabber:iq:version'/>"),
        ("set", "<query xmlns='jabber:iq:roster'/>"),
    ] {
        let error = answer(iq(kind, inside)).unwrap();
        let Iq::Error { error, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            error.defined_condition,
            DefinedCondition::ServiceUnavailable
        );
    }
    let result = "<iq xmlns='jabber:client' id='q' type='result'/>";
    let result = Iq::try_from(result.parse::<Element>().unwrap()).unwrap();
    assert_eq!(answer(result), None);
}

#[test]
fn a_text_for_a_person_holds_nothing_that_xml_cannot() {
    let to = BareJid::new("me@phone.org").unwrap();
    let message = text(&to, "laptop pushed a\u{1}b<c>\u{ffff}");
    let body = message.get_best_body(Vec::new()).unwrap().1;
    assert_eq!(body, "laptop pushed a?b<c>?");
}
