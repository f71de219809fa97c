//! The desktop: what real agents show on a real session bus, and what a click does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::Sandbox;
use crate::support::host::{Host, Pair};

mod describe;
pub(crate) mod server;
mod undo;

use server::{Asked, Bus, Desk, Shown};

/// Commits wait a second for their push, so that each step is seen.
const SLOWLY: &str = "[push]\nquiet = \"1s\"\n";

/// A host whose user sits at this desk.
fn at(desk: &Desk, name: &str, config: &str) -> Host {
    let sandbox = Sandbox::named(name).with("DBUS_SESSION_BUS_ADDRESS", &desk.bus.address);
    sandbox.config(config);
    Host::of(sandbox, name)
}

/// Puts a program into the host's search path before the others. Returns the file that it notes
/// its arguments in.
fn program(host: &mut Host, name: &str, script: &str) -> PathBuf {
    let noted = host.sandbox.root().join(format!("{name}.noted"));
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{}\n{script}\n",
        noted.display()
    );
    let file = host.sandbox.write(&format!("bin/{name}"), text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", file.parent().unwrap().display());
    host.sandbox.set("PATH", &path);
    noted
}

/// Writes files as one change.
fn write_at_once(host: &Host, names: &[&str], text: &str) {
    host.run(["pause"]).ok();
    for name in names {
        host.write(name, text);
    }
    host.run(["resume"]).ok();
}

#[test]
fn a_push_is_one_notification_that_is_replaced_as_it_proceeds() {
    let desk = Desk::new();
    let pair = Pair::of([at(&desk, "laptop", SLOWLY), Host::new("server")]);
    write_at_once(&pair.laptop, &["notes/a", "notes/b", "notes/c"], "one");
    let committed = desk.next();
    let expected = Shown {
        id: 1,
        replaces: 0,
        title: "Sync: committed".to_owned(),
        body: "3 files in notes/".to_owned(),
        urgency: 1,
        keys: vec!["default".to_owned(), "describe".to_owned()],
    };
    assert_eq!(committed, Asked::Show(expected.clone()));
    let pushed = Asked::Show(Shown {
        replaces: 1,
        title: "Sync: pushed".to_owned(),
        ..expected
    });
    assert_eq!(desk.next(), pushed);
    pair.equal();
    assert_eq!(desk.so_far(), []);
}

#[test]
fn what_comes_in_is_one_notification_and_a_click_opens_its_directory() {
    let desk = Desk::new();
    let mut server = at(&desk, "server", "");
    let noted = program(&mut server, "xdg-open", "");
    let pair = Pair::of([Host::new("laptop"), server]);
    write_at_once(&pair.laptop, &["n/a.txt", "n/b.txt", "n/c", "n/d"], "one");
    let Asked::Show(shown) = desk.next() else {
        panic!("nothing is shown");
    };
    assert_eq!(shown.title, "Sync: 4 files from laptop");
    assert_eq!(shown.body, "n/a.txt, n/b.txt and 2 more");
    desk.click(shown.id, "show");
    let place = format!("{}\n", pair.server.folder.join("n").display());
    pair.server.until("it is opened", |_| {
        fs::read_to_string(&noted).is_ok_and(|text| text == place)
    });
}

#[test]
fn a_conflict_has_a_notification_of_its_own_until_its_copy_is_dealt_with() {
    let desk = Desk::new();
    let pair = Pair::of([at(&desk, "laptop", ""), Host::new("server")]);
    pair.laptop.write("note.txt", "one\n");
    pair.equal();
    let first = desk.shows(|shown| shown.title == "Sync: committed");
    for host in pair.hosts() {
        host.run(["pause"]).ok();
    }
    pair.laptop.write("note.txt", "laptop\n");
    pair.server.write("note.txt", "server\n");
    for host in pair.hosts() {
        host.run(["resume"]).ok();
    }
    let conflict = desk.shows(|shown| shown.title == "Sync: both sides changed note.txt");
    assert_ne!(conflict.id, first.id);
    assert_eq!((conflict.replaces, conflict.urgency), (0, 1));
    pair.equal();
    let [copy] = &pair.laptop.copies()[..] else {
        panic!("{:?}", pair.laptop.copies());
    };
    assert!(conflict.body.contains(copy), "{conflict:?}");
    fs::remove_file(pair.server.folder.join(copy)).unwrap();
    desk.closes(conflict.id);
    pair.equal();
}

#[test]
fn a_hold_is_critical_and_a_click_approves_it() {
    let desk = Desk::new();
    let pair = Pair::of([at(&desk, "laptop", ""), Host::new("server")]);
    let names: Vec<String> = (0..60).map(|n| format!("d/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write_at_once(&pair.laptop, &names, "x");
    pair.equal();
    pair.laptop.take_away("d");
    let held = desk.shows(|shown| shown.title == "Sync: waits for you");
    assert_eq!((held.replaces, held.urgency), (0, 2));
    assert_eq!(held.keys, ["default", "approve", "show"]);
    assert!(held.body.starts_with("60 files were deleted"), "{held:?}");
    pair.laptop.barrier();
    assert!(pair.server.folder.join("d/59").exists());
    desk.click(held.id, "approve");
    pair.server
        .sees("the removal", |root| !root.join("d").exists());
    desk.closes(held.id);
}

#[test]
fn names_are_shown_as_they_are_and_steer_nothing() {
    let markup = Desk::that_can(&["body", "actions", "body-markup"]);
    let plain = Desk::that_can(&["body"]);
    let pair = Pair::of([at(&plain, "laptop", ""), at(&markup, "server", "")]);
    let name = "<b>&\u{202e}x";
    pair.laptop.write(name, "one");
    let here = plain.shows(|_| true);
    assert_eq!((here.body.as_str(), here.keys.len()), ("<b>&\\u{202e}x", 0));
    let there = markup.shows(|_| true);
    assert_eq!(there.body, "&lt;b&gt;&amp;\\u{202e}x");
    assert_eq!(there.keys, ["default", "show"]);
}

#[test]
fn a_server_that_hangs_delays_nothing_and_is_used_again_when_it_answers() {
    let desk = Desk::new();
    desk.hang(true);
    let pair = Pair::of([at(&desk, "laptop", ""), Host::new("server")]);
    pair.laptop.write("note", "one");
    let first = desk.shows(|_| true);
    for text in ["two", "three", "four"] {
        pair.laptop.write("note", text);
        pair.server.sees(text, |root| {
            fs::read_to_string(root.join("note")).is_ok_and(|it| it == text)
        });
    }
    pair.equal();
    // One call at a time: it is still in the first.
    assert_eq!(desk.so_far(), []);
    desk.hang(false);
    let next = desk.shows(|_| true);
    assert_eq!(next.replaces, first.id, "{next:?}");
    assert_eq!(next.title, "Sync: pushed");
}

#[test]
fn without_a_bus_it_is_said_once_and_a_bus_that_comes_later_is_used() {
    let pair = Pair::new();
    let words = "there is no session bus";
    let said = |host: &Host| host.log().matches(words).count();
    for text in ["one", "two"] {
        pair.laptop.write("note", text);
        pair.equal();
    }
    assert_eq!(said(&pair.laptop), 1, "{}", pair.laptop.log());

    let place = tempfile::Builder::new().prefix("as-").tempdir().unwrap();
    let socket = pair.laptop.sandbox.root().join("run/bus");
    let bus = Bus::at(&socket, place.path());
    let desk = Desk::on(bus, place, &["body", "actions"]);
    pair.laptop.write("note", "three");
    let shown = desk.shows(|_| true);
    assert!(shown.body.starts_with("note"), "{shown:?}");
    pair.equal();
    assert_eq!(said(&pair.laptop), 1, "{}", pair.laptop.log());
}

#[test]
fn another_server_gets_what_still_holds_and_no_old_news() {
    let desk = Desk::new();
    let pair = Pair::of([at(&desk, "laptop", ""), Host::new("server")]);
    let names: Vec<String> = (0..60).map(|n| format!("d/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write_at_once(&pair.laptop, &names, "x");
    pair.equal();
    pair.laptop.take_away("d");
    let first = desk.shows(|shown| shown.title == "Sync: waits for you");
    pair.laptop.barrier();
    desk.vanish();
    desk.appear();
    let Asked::Show(again) = desk.next() else {
        panic!("nothing is shown");
    };
    assert_eq!((again.title, again.replaces), (first.title, 0));
    pair.laptop.barrier();
    assert_eq!(desk.so_far(), []);
}

#[test]
fn no_more_is_shown_than_the_configuration_wants() {
    for (level, shows) in [
        ("off", &[][..]),
        ("problems", &["Sync: both sides changed note"]),
        (
            "summary",
            &[
                "Sync: 2 files from the hub",
                "Sync: both sides changed note",
            ],
        ),
    ] {
        let desk = Desk::new();
        let config = format!("[desktop]\nnotify = \"{level}\"\n");
        let mut pair = Pair::of([at(&desk, "laptop", &config), Host::new("server")]);
        pair.laptop.write("note", "one\n");
        pair.equal();
        for host in pair.hosts() {
            host.run(["pause"]).ok();
        }
        pair.laptop.write("note", "laptop\n");
        pair.server.write("note", "server\n");
        pair.server.run(["resume"]).ok();
        pair.server.synced();
        pair.laptop.run(["resume"]).ok();
        pair.equal();
        // In whatever order: what presses goes first only where both wait.
        let mut titles: Vec<String> = Vec::new();
        while !shows
            .iter()
            .all(|title| titles.iter().any(|it| it == title))
        {
            if let Asked::Show(shown) = desk.next() {
                titles.push(shown.title);
            }
        }
        // What was still to be shown has been when it has ended.
        pair.laptop.stop();
        for asked in desk.so_far() {
            if let Asked::Show(shown) = asked {
                titles.push(shown.title);
            }
        }
        titles.sort();
        titles.dedup();
        assert_eq!(titles, shows, "{level}");
    }
}

#[test]
fn an_agent_that_ends_takes_its_notifications_with_it() {
    let desk = Desk::new();
    let mut pair = Pair::of([at(&desk, "laptop", ""), Host::new("server")]);
    pair.laptop.write("note", "one");
    let shown = desk.shows(|shown| shown.title == "Sync: pushed");
    pair.laptop.stop();
    desk.closes(shown.id);
}
