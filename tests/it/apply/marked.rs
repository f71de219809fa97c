//! Files that come in with conflict markers which nobody's host committed.

use autosync::engine::action::Job;
use autosync::engine::event::{Event, Marked};
use autosync::git::objects::Identity;
use autosync::names::ObjectId;
use autosync::repo::folder::Folder;

use super::kill::{die_at, start_over};
use super::world::{World, path, text};

const CONFLICT: &str = "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> other\nd\n";

/// Makes a commit on top of the tip that somebody's git made elsewhere.
fn by_hand(world: &World, name: &str) -> ObjectId {
    let objects = &world.place.objects;
    let made = world.incoming(&[(name, text(CONFLICT)), ("other", text("new\n"))]);
    let commit = objects.commit(made).unwrap();
    let who = Identity {
        name: "A Person".to_owned(),
        email: "person@home".to_owned(),
    };
    let write = objects.write_commit(commit.tree, &commit.parents, &who, (0, 60), "by hand\n");
    write.unwrap()
}

/// What a start lists.
fn listed(world: &World) -> Vec<Marked> {
    let mut folder = Folder::open(world.place.settings.clone()).unwrap();
    let Event::Recovered(recovered) = folder.run(Job::Recover, &mut |_| {}) else {
        panic!("it ends as one");
    };
    assert_eq!(recovered.blocked, None);
    recovered.marked
}

#[test]
fn a_start_after_a_kill_at_any_step_lists_them_if_they_are_there() {
    let mut there = [0; 2];
    for nth in 0.. {
        let mut world = World::new(&[("notes", text("a\nd\n")), ("other", text("old\n"))]);
        let tip = world.tip();
        let to = by_hand(&world, "notes");
        let step = die_at(nth, || {
            world.apply_well(to);
        });
        let mut world = start_over(world);
        let expected = [Marked {
            path: path("notes"),
            commit: to,
            before: vec![tip],
            author: "A Person".to_owned(),
            since: "1970-01-01T01:00:00+01:00".to_owned(),
        }];
        let arrived = world.tip() == to;
        there[usize::from(arrived)] += 1;
        let note = format!("killed at {step:?} ({nth})");
        assert_eq!(listed(&world), expected[usize::from(!arrived)..], "{note}");
        world.apply_well(to);
        assert_eq!(listed(&world), expected, "{note}");
        if step.is_none() {
            break;
        }
    }
    assert!(there[0] >= 3 && there[1] >= 3, "{there:?}");
}

#[test]
fn a_list_that_is_damaged_is_forgotten_and_stops_nothing() {
    let mut world = World::new(&[("notes", text("a\nd\n")), ("other", text("old\n"))]);
    let to = by_hand(&world, "notes");
    world.apply_well(to);
    assert_eq!(listed(&world).len(), 1);
    std::fs::write(world.place.store.join("marked"), "torn").unwrap();
    assert_eq!(listed(&world), []);
    let to = by_hand(&world, "more");
    world.apply_well(to);
    let paths: Vec<_> = listed(&world).into_iter().map(|file| file.path).collect();
    assert_eq!(paths, [path("more")]);
}
