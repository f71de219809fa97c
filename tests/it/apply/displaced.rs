//! What applies moved out of the way: how long it stays, what goes first when there is no room, and
//! that a write into it comes back as an edit although nobody does anything else.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use autosync::clock;
use autosync::fault;
use autosync::names::RepoPath;
use autosync::repo::apply::apply;
use autosync::repo::displaced::{Limits, ever_open, sweep_within};
use autosync::repo::plan::Approval;
use autosync::repo::records;
use rustix::process::Signal;

use super::world::{Is, World, text};
use crate::faults::Told;
use crate::guards::never_in_any_blob;
use crate::support::Sandbox;
use crate::support::host::{Host, Pair};

/// Long enough for everything that has no reason to stay.
const GRACE: Duration = Duration::from_secs(61);
const DAY: i64 = 24 * 3600;

/// The usual limits after a time.
fn after(time: Duration) -> Limits {
    Limits::at(clock::now() + time)
}

/// What lies in the store, with its text.
fn kept(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for store in fs::read_dir(world.place.store.join("displaced")).unwrap() {
        for file in fs::read_dir(store.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let is_slot = path.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit();
            if is_slot {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    found.sort();
    found
}

fn content(letter: &str) -> String {
    letter.repeat(1_000)
}

#[test]
fn without_room_the_oldest_versions_go_at_once_and_never_one_that_is_open() {
    let mut world = World::new(&[("p", text(content("a")))]);
    let held = Rc::new(RefCell::new(None));
    for letter in ["b", "c", "d", "e"] {
        let to = world.incoming(&[("p", text(content(letter)))]);
        let (slot, at) = (Rc::clone(&held), world.at("p"));
        let opens = letter == "c";
        let hook = move |step: &str| {
            if opens && step == "A3.checked" {
                *slot.borrow_mut() = Some(File::options().append(true).open(&at).unwrap());
            }
        };
        fault::with_hook(hook, || world.apply_well(to));
    }
    let all = ["a", "b", "c", "d"].map(content);
    let soon = Limits::at(clock::now());
    assert!(sweep_within(&world.place, &soon).unwrap().edits.is_empty());
    assert_eq!(kept(&world), all, "there is room");

    let cap = |bytes| Limits {
        cap: Some(bytes),
        ..Limits::at(clock::now())
    };
    assert!(
        sweep_within(&world.place, &cap(3_500))
            .unwrap()
            .edits
            .is_empty()
    );
    assert_eq!(kept(&world), all[1..], "the oldest goes");
    assert!(ever_open(&world.place, &cap(3_500)).unwrap().is_empty());
    assert!(
        sweep_within(&world.place, &cap(0))
            .unwrap()
            .edits
            .is_empty()
    );
    assert_eq!(kept(&world), all[1..2], "somebody has it open");
    let told = ever_open(&world.place, &cap(0)).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].path.to_string().as_str(), told[0].why.as_str()),
        ("p", "a program still has its old version open, of 1 MiB")
    );
    let much_later = Limits {
        cap: Some(0),
        ..after(Duration::from_secs(24 * 3600))
    };
    assert!(
        sweep_within(&world.place, &much_later)
            .unwrap()
            .edits
            .is_empty()
    );
    assert_eq!(kept(&world), all[1..2], "as long as it is open");

    drop(held.take());
    let deadline = clock::now() + Duration::from_secs(20);
    // A child that another test forks just now holds every descriptor until it is exec'd.
    while !kept(&world).is_empty() {
        assert!(
            sweep_within(&world.place, &after(GRACE))
                .unwrap()
                .edits
                .is_empty()
        );
        assert!(clock::now() < deadline, "it stays");
        std::thread::yield_now();
    }
    assert!(ever_open(&world.place, &cap(0)).unwrap().is_empty());
}

#[test]
fn what_a_mass_deletion_took_stays_for_thirty_days_while_there_is_room() {
    let names: Vec<String> = (0..60).map(|number| format!("d/f{number}")).collect();
    let all: Vec<(&str, Is)> = names
        .iter()
        .map(|name| (name.as_str(), text(name.clone())))
        .collect();
    for crowded in [false, true] {
        let mut world = World::new(&all);
        // Few, so no mass: they go after a minute.
        let few: Vec<(&str, Is)> = names[..2]
            .iter()
            .map(|name| (name.as_str(), Is::Gone))
            .collect();
        let to = world.incoming(&few);
        world.apply_well(to);
        let gone: Vec<(&str, Is)> = names[2..]
            .iter()
            .map(|name| (name.as_str(), Is::Gone))
            .collect();
        let approved = "Autosync-Approved: server\n";
        let to = world.incoming_on(world.tip(), &gone, approved);
        world.apply_well(to);
        assert_eq!(kept(&world).len(), 60);

        let today = clock::wall_seconds();
        let at = |days: i64| Limits {
            wall: today + days * DAY,
            ..after(GRACE)
        };
        for days in [0, 1, 29] {
            assert!(
                sweep_within(&world.place, &at(days))
                    .unwrap()
                    .edits
                    .is_empty()
            );
            let mut wanted = names[2..].to_vec();
            wanted.sort();
            assert_eq!(kept(&world), wanted, "after {days} days");
        }
        let last = if crowded {
            Limits {
                cap: Some(1),
                ..at(1)
            }
        } else {
            at(31)
        };
        assert!(sweep_within(&world.place, &last).unwrap().edits.is_empty());
        assert_eq!(kept(&world), Vec::<String>::new());
        world.assert_settled();
    }
}

#[test]
fn what_waited_for_a_person_and_was_approved_stays_for_thirty_days_too() {
    let names: Vec<String> = (0..60).map(|number| format!("d/f{number}")).collect();
    let all: Vec<(&str, Is)> = names
        .iter()
        .map(|name| (name.as_str(), text(name.clone())))
        .collect();
    let mut world = World::new(&all);
    let gone: Vec<(&str, Is)> = names.iter().map(|name| (name.as_str(), Is::Gone)).collect();
    let to = world.incoming(&gone);
    world.apply_well(to);
    assert_eq!(world.stands("d/f7"), "file: d/f7", "it waits");
    let person = Approval::Own(names.iter().map(|it| RepoPath::new(it).unwrap()).collect());
    let (place, bases, view) = (&world.place, &mut world.bases, &mut world.view);
    let applied = apply(place, bases, view, to, &person).unwrap();
    assert_eq!(applied.blocked, None);
    assert_eq!(world.stands("d/f7"), "nothing");
    let mut wanted = names;
    wanted.sort();
    let today = clock::wall_seconds();
    for days in [0, 29, 31] {
        let at = Limits {
            wall: today + days * DAY,
            ..after(GRACE)
        };
        assert!(sweep_within(&world.place, &at).unwrap().edits.is_empty());
        if days == 31 {
            wanted.clear();
        }
        assert_eq!(kept(&world), wanted, "after {days} days");
    }
    world.assert_settled();
}

/// Makes the only store of a folder older than the grace, as if that time had passed.
fn make_old(root: &Path) {
    let store = root.join(".git/autosync/displaced");
    let stores: Vec<PathBuf> = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(stores.len(), 1, "{stores:?}");
    let index = stores[0].join("index");
    let kind = "autosync displaced 1";
    let mut all = records::read(&index, kind, 7).unwrap().unwrap();
    // When it was displaced, in seconds since the machine was started.
    let since: u64 = String::from_utf8_lossy(&all[0][1]).parse().unwrap();
    assert!(since >= 61, "this machine has only just been started");
    all[0][1] = (since - 61).to_string().into_bytes();
    records::write(&index, kind, &all).unwrap();
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('T')
}

/// Two hosts; on the server somebody opened `log` for writing in the moment in which the laptop's
/// version of it took its place.
fn with_a_late_writer(sweeps: &str) -> (Pair, File) {
    let sandbox = Sandbox::named("server")
        .with("AUTOSYNC_SWEEP_MILLIS", sweeps)
        .with("AUTOSYNC_FAULT", "A3.checked:stop");
    let pair = Pair::of([Host::new("laptop"), Host::of(sandbox, "server")]);
    pair.laptop.write("log", "1\n2\n3\n4\n5\n");
    pair.quiet();
    pair.laptop.write("log", "one\n2\n3\n4\n5\n");
    pair.server.until("it stops before the exchange", |host| {
        is_stopped(host.pid())
    });
    let log = pair.server.folder.join("log");
    let file = File::options().append(true).open(log).unwrap();
    pair.server.signal(Signal::CONT);
    pair.quiet();
    assert_eq!(pair.server.read("log").unwrap(), "one\n2\n3\n4\n5\n");
    (pair, file)
}

#[test]
fn a_late_write_is_merged_by_an_agent_that_has_nothing_else_to_do() {
    // Longer than the quiet that a change waits for: every look tells the edit anew.
    let (pair, mut file) = with_a_late_writer("1000");
    file.write_all(b"late\n").unwrap();
    make_old(&pair.server.folder);
    let before = pair.server.counters();
    drop(file);
    for host in pair.hosts() {
        host.until("the late line", |host| {
            host.read("log").as_deref() == Some("one\n2\n3\n4\n5\nlate\n")
        });
    }
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1, "{tree:?}");
    let after = pair.server.counters();
    assert_eq!(after.commits, before.commits + 1);
    assert_eq!(
        after.rescans, before.rescans,
        "no look at everything was needed"
    );
}

#[test]
fn a_late_write_is_found_by_the_next_start() {
    let (mut pair, mut file) = with_a_late_writer("3600000");
    file.write_all(b"late\n").unwrap();
    pair.server.stop();
    drop(file);
    make_old(&pair.server.folder);
    pair.server.sandbox.set("AUTOSYNC_FAULT", "");
    pair.server.start();
    for host in pair.hosts() {
        host.until("the late line", |host| {
            host.read("log").as_deref() == Some("one\n2\n3\n4\n5\nlate\n")
        });
    }
    pair.ends_well();
}

#[test]
fn a_secret_that_is_written_late_is_held_and_told_until_a_person_decides() {
    let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nTOKEN+x/";
    let key =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n");
    for allowed in [true, false] {
        let (pair, mut file) = with_a_late_writer("200");
        let server = &pair.server;
        let told = Told::by(server);
        file.set_len(0).unwrap();
        file.write_all(key.as_bytes()).unwrap();
        make_old(&server.folder);
        drop(file);
        server.until("it is held", |host| !host.folder_status().held.is_empty());
        let status = server.folder_status();
        let [held] = &status.held[..] else {
            panic!("{status:#?}")
        };
        assert_eq!(
            (held.code.as_str(), &held.paths[..]),
            ("secret", &["log".to_owned()][..])
        );
        assert!(held.message.contains("looks like a private"), "{held:?}");
        assert!(held.hint.contains("autosync allow PATH"), "{held:?}");
        assert_eq!(server.run(["status"]).code, Some(3));
        told.only(server, "secret");
        never_in_any_blob(&server.sandbox, &[&server.folder, &pair.hub], "TOKEN");
        // The hint says where it is.
        let slot = held.hint.split('`').nth(1).unwrap();
        assert_eq!(fs::read_to_string(slot).unwrap(), key);
        if allowed {
            server.run(["allow", "Sync/log"]).ok();
        } else {
            fs::remove_file(slot).unwrap();
        }
        server.until("nothing is held", |host| {
            host.folder_status().held.is_empty()
        });
        let copies = usize::from(allowed);
        for host in pair.hosts() {
            host.until("what came of it", |host| host.copies().len() == copies);
            assert_eq!(host.read("log").unwrap(), "one\n2\n3\n4\n5\n");
            for copy in host.copies() {
                assert_eq!(host.read(copy).unwrap(), key);
            }
        }
        pair.ends_well();
    }
}
