use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc as channel;

use super::*;
use crate::clock;
use crate::config::{Password, Secret, Tls};
use crate::git::hub::Kind;

const LONG: Duration = Duration::from_secs(30);

fn settings(port: u16) -> XmppSettings {
    XmppSettings {
        jid: "me@x.test".into(),
        password: Password::Inline(Secret::new("hunter2".into())),
        server: Some(("127.0.0.1".into(), port)),
        tls: Tls::StartTls,
        ca_file: None,
        resource: None,
        legacy: false,
        also_notify: Vec::new(),
        peers: Vec::new(),
    }
}

type Told = channel::Receiver<Option<Trouble>>;

fn start(settings: XmppSettings) -> (XmppTransport, Told) {
    let (tx, told) = channel::channel();
    let herald: Herald = Arc::new(move |_, trouble| drop(tx.send(trouble)));
    let sink: Sink = Arc::new(|_, _| {});
    (
        XmppTransport::new(sink, herald, settings, "desk".into()),
        told,
    )
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads until the client has said this much.
fn read_until(stream: &mut TcpStream, end: &str) {
    let mut heard = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&heard).contains(end) {
        stream.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
}

/// Begins a stream as a server does, with these features.
fn greet(stream: &mut TcpStream, features: &str) {
    read_until(stream, "version='1.0'");
    read_until(stream, ">");
    let text = format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' id='1' from='x.test' version='1.0'>\
         <stream:features>{features}</stream:features>"
    );
    stream.write_all(text.as_bytes()).unwrap();
}

fn folder(key: &str) -> Folder {
    Folder {
        key: key.into(),
        id: "89abcdef01234567".into(),
        name: key.into(),
        root: "/".into(),
        branch: "main".into(),
        url: String::new(),
        peers: Vec::new(),
        hub: Kind::Other,
        ssh_command: None,
    }
}

#[test]
fn a_transport_that_waits_for_a_silent_server_ends_at_once() {
    let (listener, port) = listen();
    let (mut transport, told) = start(settings(port));
    transport.watch(&folder("Sync"));
    let (mut stream, _) = listener.accept().unwrap();
    read_until(&mut stream, "version='1.0'");
    assert_eq!(transport.status().state, "connecting");
    let begun = clock::now();
    drop(transport);
    assert!(clock::now().since(begun) < Duration::from_secs(2));
    let mut rest = Vec::new();
    // Closed, whatever else was on its way.
    drop(stream.read_to_end(&mut rest));
    assert!(told.try_recv().is_err());
}

#[test]
fn a_program_for_the_password_does_not_outlive_the_transport() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60",
        pid.display()
    );
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let (transport, _told) = start(XmppSettings {
        password: Password::Command(command),
        ..settings(1)
    });
    let end = clock::now() + LONG;
    while !pid.exists() {
        assert!(clock::now() < end, "the program was not started");
        std::thread::yield_now();
    }
    drop(transport);
    let pid = std::fs::read_to_string(pid)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(crate::process::is_gone(pid));
}

#[test]
fn nothing_is_said_to_a_server_without_tls_and_the_user_is_told_once() {
    let (listener, port) = listen();
    let (transport, told) = start(settings(port));
    let (mut stream, _) = listener.accept().unwrap();
    let plain = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                 <mechanism>PLAIN</mechanism></mechanisms>";
    greet(&mut stream, plain);
    let trouble = told.recv_timeout(LONG).unwrap().unwrap();
    assert!(trouble.message.contains("TLS"), "{}", trouble.message);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("auth"), "{rest}");

    // A person asks for another try, and the same is not told again.
    transport.retry();
    let (mut stream, _) = listener.accept().unwrap();
    greet(&mut stream, plain);
    stream.read_to_string(&mut rest).unwrap();
    let end = clock::now() + LONG;
    while transport.status().state != "held" {
        assert!(clock::now() < end, "{:?}", transport.status());
        std::thread::yield_now();
    }
    let status = transport.status();
    assert!(!status.hint.is_empty());
    assert!(!format!("{status:?}").contains("hunter2"));
    drop(transport);
    assert!(told.try_recv().is_err());
}

#[test]
fn what_a_stranger_puts_between_before_the_encryption_is_refused() {
    let (listener, port) = listen();
    let (transport, told) = start(settings(port));
    let (mut stream, _) = listener.accept().unwrap();
    greet(
        &mut stream,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    );
    read_until(&mut stream, "<starttls");
    let refusal = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
    stream.write_all(refusal.as_bytes()).unwrap();
    let trouble = told.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(trouble.recovery, Recovery::Hold);
    drop(transport);
}

#[test]
fn without_a_password_nobody_is_connected_to() {
    let (listener, port) = listen();
    listener.set_nonblocking(true).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let (transport, told) = start(XmppSettings {
        password: Password::File(empty.path().join("none")),
        ..settings(port)
    });
    let trouble = told.recv_timeout(LONG).unwrap().unwrap();
    assert!(
        trouble.message.contains("cannot be read"),
        "{}",
        trouble.message
    );
    assert!(listener.accept().is_err());
    transport.announce(&Notice {
        folder: "89abcdef01234567".into(),
        branch: "main".into(),
        commit: None,
        host: "desk".into(),
        sequence: 1,
    });
    assert!(!transport.flush(Duration::from_millis(1)));
}
