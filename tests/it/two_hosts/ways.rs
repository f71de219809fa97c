//! Folders in which commits leave or come in only when a person says so, or never.

use std::fs;

use autosync::engine::status::State;

use crate::support::host::{Host, Pair};

const LINES: &str = "one\ntwo\nthree\nfour\nfive\n";

/// Two hosts, of which the first has these lines in its configuration.
fn pair(ways: &str) -> Pair {
    let laptop = Host::new("laptop").with_args([""; 0]);
    laptop.write("both", LINES);
    laptop.run(["init", "Sync"]).ok();
    let config = format!("[[folder]]\npath = \"~/Sync\"\n{ways}\n");
    laptop.sandbox.config(&config);
    Pair::of([laptop, Host::new("server")])
}

/// Waits until a file has this text.
#[track_caller]
fn has(host: &Host, name: &str, text: &str) {
    host.sees(name, |root| {
        fs::read_to_string(root.join(name)).is_ok_and(|found| found == text)
    });
}

/// What the other host does goes on coming in, beside commits here that stay: both lines of one
/// file, a file of each, and versions of the same file that follow each other.
fn receives_without_pushing(pair: &Pair) {
    let (laptop, server) = (&pair.laptop, &pair.server);
    laptop.write("both", LINES.replace("one", "ONE"));
    laptop.write("here", "1\n");
    let status = laptop.barrier();
    assert_eq!((status.published, status.state), (false, State::Idle));
    assert!(status.pending.commits > 0, "{status:#?}");
    for round in ["FIVE", "FUENF", "CINQ"] {
        server.write("both", LINES.replace("five", round));
        server.write("there", round);
        server.synced();
        let both = LINES.replace("one", "ONE").replace("five", round);
        has(laptop, "both", &both);
        has(laptop, "there", round);
        // Work goes on between the merges that stay here.
        laptop.write("here", format!("{round}\n"));
        assert_eq!(laptop.barrier().state, State::Idle);
        assert_eq!(pair.tip(), server.git(["rev-parse", "HEAD"]));
    }
    assert_eq!(server.read("here"), None);
    assert_eq!(laptop.copies(), Vec::<String>::new());
    assert_eq!(laptop.git(["status", "--porcelain"]), "");
    laptop.git(["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn with_push_manual_everything_stays_here_until_a_person_asks() {
    let pair = pair("push = \"manual\"");
    receives_without_pushing(&pair);
    pair.laptop.run(["sync"]).ok();
    has(&pair.server, "here", "CINQ\n");
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 3, "{tree:?}");
    // Once.
    let tip = pair.tip();
    pair.laptop.write("here", "later\n");
    assert!(!pair.laptop.barrier().published);
    assert_eq!(pair.tip(), tip);
}

#[test]
fn with_push_off_everything_stays_here_even_when_a_person_asks() {
    let pair = pair("push = \"off\"");
    receives_without_pushing(&pair);
    let tip = pair.tip();
    pair.laptop.run(["sync"]).ok();
    let status = pair.laptop.barrier();
    assert_eq!((status.published, status.state), (false, State::Idle));
    assert_eq!(pair.tip(), tip);
    assert_eq!(pair.server.read("here"), None);
}

#[test]
fn with_receive_manual_nothing_comes_in_until_a_person_asks() {
    let pair = pair("receive = \"manual\"");
    let (laptop, server) = (&pair.laptop, &pair.server);
    // What is made here leaves as always.
    laptop.write("here", "1\n");
    has(server, "here", "1\n");
    server.write("both", LINES.replace("five", "FIVE"));
    server.synced();
    assert_eq!(laptop.barrier().state, State::Idle);
    assert_eq!(laptop.read("both").as_deref(), Some(LINES));
    laptop.run(["sync"]).ok();
    has(laptop, "both", &LINES.replace("five", "FIVE"));
    // Once.
    server.write("there", "1\n");
    server.synced();
    assert_eq!(laptop.barrier().state, State::Idle);
    assert_eq!(laptop.read("there"), None);
    // What is made here meanwhile is committed, and goes with the next one.
    laptop.write("here", "2\n");
    laptop.until("the commit", |host| host.git(["show", "HEAD:here"]) == "2");
    laptop.run(["sync"]).ok();
    has(laptop, "there", "1\n");
    has(server, "here", "2\n");
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 3, "{tree:?}");
}

#[test]
fn with_receive_off_nothing_comes_in_and_nothing_is_lost() {
    let pair = pair("receive = \"off\"");
    let (laptop, server) = (&pair.laptop, &pair.server);
    laptop.write("here", "1\n");
    has(server, "here", "1\n");
    server.write("both", LINES.replace("five", "FIVE"));
    let tip = server.synced().head;
    laptop.run(["sync"]).ok();
    laptop.barrier();
    assert_eq!(laptop.read("both").as_deref(), Some(LINES));
    // The hub has what we do not take: our commits wait behind it, and nothing is forced.
    laptop.write("here", "2\n");
    laptop.until("the commit", |host| host.git(["show", "HEAD:here"]) == "2");
    laptop.until("that it cannot be pushed", |host| {
        !host.folder_status().message.is_empty()
    });
    assert_eq!(pair.tip(), tip);
    assert_eq!(server.read("here").as_deref(), Some("1\n"));
}
