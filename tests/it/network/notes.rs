//! Notes of several hosts meet on a hub.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use autosync::engine::event::Code;
use autosync::fault;
use autosync::names::ObjectId;
use autosync::repo::network::notes;

use super::{Clone, World, git, world};

const REF: &str = "--ref=autosync";

/// Says something of a commit, as `git notes` does.
fn say(host: &Clone, commit: ObjectId, words: &str) {
    let commit = commit.to_string();
    git(host.root(), &["notes", REF, "append", "-m", words, &commit]);
}

fn said(host: &Clone, commit: ObjectId) -> String {
    git(host.root(), &["notes", REF, "show", &commit.to_string()])
}

fn meet(host: &Clone) {
    notes::exchange(&host.place, &host.remote, &mut None, &host.terms(&|_| {})).unwrap();
}

/// Brings the notes together while somebody does this, once, at this step.
fn meet_while(host: &Clone, at: &'static str, deed: impl Fn() + 'static) {
    let mut done = false;
    let hook = move |step: &str| {
        if step == at && !done {
            done = true;
            deed();
        }
    };
    fault::with_hook(hook, || meet(host));
}

/// Both hosts with the same two commits.
fn commits(world: &World) -> [ObjectId; 2] {
    let made = [&world.a, &world.b].map(|host| {
        let first = host.commit(&[], "one", "1");
        [first, host.commit(&[first], "two", "2")]
    });
    assert_eq!(made[0], made[1]);
    made[0]
}

/// Returns the same host once more, for a deed in its midst.
fn again(host: &Clone, name: &str) -> Clone {
    Clone::open(host.root(), name, &host.remote.url)
}

#[test]
fn a_first_note_that_is_made_while_others_come_in_is_not_lost() {
    for step in ["N0.asked", "N1.together"] {
        let world = world();
        let [first, second] = commits(&world);
        say(&world.b, first, "of b");
        meet(&world.b);
        let here = again(&world.a, "a");
        meet_while(&world.a, step, move || say(&here, second, "of a"));
        meet(&world.a);
        meet(&world.b);
        for host in [&world.a, &world.b] {
            assert_eq!(said(host, first), "of b", "{step}");
            assert_eq!(said(host, second), "of a", "{step}");
        }
    }
}

#[test]
fn a_note_that_is_made_while_notes_are_put_together_is_not_lost() {
    for step in ["N0.asked", "N1.together"] {
        let world = world();
        let [first, second] = commits(&world);
        say(&world.b, first, "of b");
        meet(&world.b);
        say(&world.a, first, "of a");
        let here = again(&world.a, "a");
        meet_while(&world.a, step, move || say(&here, second, "late"));
        meet(&world.a);
        meet(&world.b);
        for host in [&world.a, &world.b] {
            assert_eq!(said(host, first), "of b\n\nof a", "{step}");
            assert_eq!(said(host, second), "late", "{step}");
        }
    }
}

#[test]
fn what_two_hosts_say_of_one_commit_at_once_is_kept_once_in_one_order() {
    let world = world();
    let [first, second] = commits(&world);
    // Both say something of the same commit again and again, and the other is first each time.
    for round in ["1", "2", "3"] {
        say(&world.a, first, &format!("a{round}"));
        say(&world.b, first, &format!("b{round}"));
        say(&world.a, second, "same");
        let other = again(&world.b, "b");
        meet_while(&world.a, "N1.together", move || meet(&other));
        meet(&world.b);
        meet(&world.a);
    }
    assert_eq!(said(&world.a, first), said(&world.b, first));
    let mut lines: Vec<String> = said(&world.a, first)
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["a1", "a2", "a3", "b1", "b2", "b3"]);
    let read = |host: &Clone| git(host.root(), &["rev-parse", "refs/notes/autosync"]);
    assert_eq!(read(&world.a), read(&world.b));
    assert_eq!(
        read(&world.a),
        git(&world.hub, &["rev-parse", "refs/notes/autosync"])
    );
    git(world.a.root(), &["fsck", "--strict"]);
}

#[test]
fn a_note_that_was_taken_back_stays_away_and_many_notes_are_found_by_git() {
    let world = world();
    let [first, second] = commits(&world);
    let mut tip = second;
    // So many that git spreads them over directories, on one side.
    let many: Vec<ObjectId> = (0..300)
        .map(|number| {
            tip = world.b.commit(&[tip], "n", &number.to_string());
            say(&world.b, tip, &number.to_string());
            tip
        })
        .collect();
    say(&world.a, first, "one");
    say(&world.a, second, "two");
    meet(&world.a);
    meet(&world.b);
    meet(&world.a);
    assert_eq!(said(&world.b, first), "one");
    git(
        world.a.root(),
        &["notes", REF, "remove", &first.to_string()],
    );
    say(&world.b, second, "more");
    meet(&world.a);
    meet(&world.b);
    meet(&world.a);
    for host in [&world.a, &world.b] {
        let list = git(host.root(), &["notes", REF, "list"]);
        assert!(!list.contains(&first.to_string()));
        assert_eq!(list.lines().count(), many.len() + 1);
        assert_eq!(said(host, second), "two\n\nmore");
    }
}

#[test]
fn a_hub_that_wants_no_notes_is_asked_once_for_each_note_of_ours() {
    let world = world();
    let [first, second] = commits(&world);
    let hook = world.hub.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho asked >>asked\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let asked = || fs::read_to_string(world.hub.join("asked")).map_or(0, |all| all.lines().count());
    let mut refused = None;
    let mut meet_refused = || {
        let (a, progress) = (&world.a, |_| {});
        let done = notes::exchange(&a.place, &a.remote, &mut refused, &a.terms(&progress));
        done.map_err(|error| error.trouble().code)
    };
    say(&world.a, first, "one");
    assert_eq!(meet_refused(), Err(Code::Declined));
    assert_eq!(meet_refused(), Ok(()));
    assert_eq!(asked(), 1);
    // What others say comes all the same, and is no reason to try again.
    say(&world.b, second, "of b");
    fs::rename(&hook, hook.with_extension("off")).unwrap();
    meet(&world.b);
    fs::rename(hook.with_extension("off"), &hook).unwrap();
    assert_eq!(meet_refused(), Ok(()));
    assert_eq!(meet_refused(), Ok(()));
    assert_eq!(said(&world.a, second), "of b");
    assert_eq!(asked(), 1);
    say(&world.a, first, "two");
    assert_eq!(meet_refused(), Err(Code::Declined));
    assert_eq!(asked(), 2);
    fs::remove_file(&hook).unwrap();
    say(&world.a, first, "three");
    assert_eq!(meet_refused(), Ok(()));
    meet(&world.b);
    assert_eq!(said(&world.b, first), "one\n\ntwo\n\nthree");
}
