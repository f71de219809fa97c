//! What the next snapshots make of what an apply left: the base map at work.

use std::collections::BTreeSet;
use std::fs::{self, File};

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::{Event, Snapshotted};
use autosync::fault;
use autosync::repo::folder::Folder;

use super::world::{Is, World, path, text};

/// Looks at everything, as after a start.
fn look(folder: &mut Folder) -> Snapshotted {
    let job = Job::Snapshot {
        scope: Scope::Everything,
        even_open: BTreeSet::new(),
        trigger: Trigger::Scan,
        approved: false,
    };
    let Event::Snapshotted(done) = folder.run(job, &mut |_| {}) else {
        panic!("a snapshot ends as one");
    };
    done
}

fn open(world: &World) -> Folder {
    let mut folder = Folder::open(world.place.settings.clone()).unwrap();
    folder.recover().unwrap();
    folder
}

#[test]
fn what_waits_is_never_committed_as_a_change() {
    let mut world = World::new(&[
        ("open", text("old")),
        ("gone", text("old")),
        ("a", text("a")),
    ]);
    let held = File::options().append(true).open(world.at("open")).unwrap();
    let gone = File::options().append(true).open(world.at("gone")).unwrap();
    let to = world.incoming(&[("open", text("new")), ("gone", Is::Gone), ("a", text("b"))]);
    world.apply_well(to);
    assert_eq!(world.bases.len(), 2);
    let mut folder = open(&world);
    for _ in 0..2 {
        let done = look(&mut folder);
        assert_eq!(
            (done.blocked, done.committed, done.tip),
            (None, None, Some(to))
        );
        assert_eq!(done.deferred.len(), 2);
    }
    drop((held, gone));
    let done = look(&mut folder);
    assert_eq!((done.committed, done.tip), (None, Some(to)));
    world.apply_well(to);
    assert_eq!(world.stands("open"), "file: new");
    assert_eq!(world.stands("gone"), "nothing");
    world.assert_settled();
}

#[test]
fn a_save_during_an_apply_is_merged_with_its_true_base() {
    let lines = |first: &str, last: &str| format!("{first}\n2\n3\n4\n5\n6\n7\n8\n{last}\n");
    for step in ["A1.planned", "A3.found", "A3.checked"] {
        let mut world = World::new(&[("p", text(lines("1", "9"))), ("a", text("a"))]);
        let to = world.incoming(&[("p", text(lines("theirs", "9"))), ("a", text("b"))]);
        let (root, mine, want) = (world.root(), lines("1", "mine"), step);
        let mut done = false;
        let hook = move |step: &str| {
            if step == want && !done {
                done = true;
                fs::write(root.join("save"), &mine).unwrap();
                fs::rename(root.join("save"), root.join("p")).unwrap();
            }
        };
        let applied = fault::with_hook(hook, || world.apply_well(to));
        assert_eq!(applied.kept, [path("p")], "{step}");
        let mut folder = open(&world);
        let done = look(&mut folder);
        assert_eq!(done.blocked, None, "{step}");
        assert!(done.committed.is_some(), "{step}");
        assert_eq!(
            world.stands("p"),
            format!("file: {}", lines("theirs", "mine")),
            "{step}"
        );
        let world = world.killed();
        assert!(world.bases.is_empty(), "{step}");
        world.assert_settled();
        assert_eq!(look(&mut folder).committed, None, "{step}");
    }
}

#[test]
fn an_edit_of_what_was_deleted_elsewhere_stays() {
    let mut world = World::new(&[("p", text("old\n")), ("a", text("a"))]);
    let to = world.incoming(&[("p", Is::Gone)]);
    let at = world.at("p");
    let hook = move |step: &str| {
        if step == "A3.checked" {
            fs::write(&at, "edited\n").unwrap();
        }
    };
    let applied = fault::with_hook(hook, || world.apply_well(to));
    assert_eq!(applied.kept, [path("p")]);
    let mut folder = open(&world);
    assert_eq!(look(&mut folder).blocked, None);
    assert_eq!(world.stands("p"), "file: edited\n");
    assert_eq!(world.git(&["show", "HEAD:p"]), "edited");
    let world = world.killed();
    assert!(world.bases.is_empty());
    world.assert_settled();
}
