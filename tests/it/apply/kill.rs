//! A kill after every step: the start after it finishes the apply, or nothing of it was begun.
//!
//! The kill is a panic at the step: what is on the disk is all that the next start has.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use autosync::fault;
use autosync::repo::apply::{STEPS, journal_target};
use autosync::repo::journal::journal_open;
use autosync::repo::moves::without_exchange;
use autosync::repo::publish;

use super::world::{Is, World, disks, link, script, submodule, text};

/// Runs `body`, which dies at its `nth` step. Returns the step, `None` if there are fewer.
pub(crate) fn die_at(nth: usize, body: impl FnOnce()) -> Option<String> {
    let left = Cell::new(nth);
    let died = Rc::new(Cell::new(None));
    let note = Rc::clone(&died);
    let hook = move |step: &str| {
        if left.get() == 0 {
            note.set(Some(step.to_owned()));
            std::panic::resume_unwind(Box::new("killed"));
        }
        left.set(left.get() - 1);
    };
    let result = catch_unwind(AssertUnwindSafe(|| fault::with_hook(hook, body)));
    // The hook is still there after a kill.
    fault::with_hook(|_| {}, || {});
    match (result, died.take()) {
        (Err(_), Some(step)) => Some(step),
        (Ok(()), None) => None,
        (Err(cause), None) => std::panic::resume_unwind(cause),
        (Ok(()), Some(step)) => panic!("the kill at {step} did not kill"),
    }
}

/// Starts over after a kill, as the agent does.
pub(crate) fn start_over(world: World) -> World {
    let mut world = world.killed();
    let tips: Vec<_> = journal_target(&world.place).unwrap().into_iter().collect();
    publish::remove_own_locks(&world.place, &tips).unwrap();
    world.recover();
    world
}

fn before() -> Vec<(&'static str, Is)> {
    vec![
        ("edited", text("old\n")),
        ("deleted", text("old\n")),
        ("dir/deleted", text("old\n")),
        ("chmod", text("run\n")),
        ("link", link("edited")),
        ("to-dir", text("old\n")),
        ("from-dir/a", text("a\n")),
        ("to-submodule", text("old\n")),
        ("from-submodule", submodule('1')),
        ("untouched", text("same\n")),
    ]
}

fn change() -> Vec<(&'static str, Is)> {
    vec![
        ("edited", text("new\n")),
        ("deleted", Is::Gone),
        ("dir/deleted", Is::Gone),
        ("chmod", script("run\n")),
        ("link", link("untouched")),
        ("to-dir", Is::Gone),
        ("to-dir/x", text("x\n")),
        ("from-dir/a", Is::Gone),
        ("from-dir", text("a file now\n")),
        ("to-submodule", submodule('2')),
        ("from-submodule", text("a file now\n")),
        ("new/file", text("new\n")),
    ]
}

fn assert_arrived(world: &World, note: &str) {
    for (name, is) in [
        ("edited", "file: new\n"),
        ("deleted", "nothing"),
        ("dir", "nothing"),
        ("chmod", "script: run\n"),
        ("link", "link: untouched"),
        ("to-dir/x", "file: x\n"),
        ("from-dir", "file: a file now\n"),
        ("to-submodule", "directory"),
        ("from-submodule", "file: a file now\n"),
        ("new/file", "file: new\n"),
        ("untouched", "file: same\n"),
    ] {
        assert_eq!(world.stands(name), is, "{name}, {note}");
    }
    world.assert_settled();
}

#[test]
fn a_kill_at_every_step_needs_nobody() {
    let seen = kill_everywhere(&disks());
    // Nobody interfered, so what answers that is not passed.
    let other = [
        "A3.back",
        "A3.taken-back",
        "A3.aside",
        "A3.linked",
        "A3.renamed",
    ];
    let quiet: BTreeSet<&str> = STEPS
        .iter()
        .copied()
        .filter(|step| !other.contains(step))
        .collect();
    assert_eq!(
        seen.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        quiet
    );
}

#[test]
fn a_kill_at_every_step_needs_nobody_where_the_disk_cannot_exchange() {
    let seen = without_exchange(|| kill_everywhere(&disks()[1..]));
    assert!(seen.contains("A3.linked") && seen.contains("A3.renamed"));
}

/// Kills at every step on every disk. Returns the steps.
fn kill_everywhere(disks: &[PathBuf]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for disk in disks {
        for nth in 0.. {
            let mut world = World::on(disk, &before());
            let tip = world.tip();
            let to = world.incoming(&change());
            let step = die_at(nth, || {
                world.apply_well(to);
            });
            let Some(step) = step else {
                assert_arrived(&world, "without a kill");
                break;
            };
            let note = format!("killed at {step} ({nth}) on {}", disk.display());
            let begun = journal_open(&world.place) || world.tip() == to;
            let mut world = start_over(world);
            if !begun {
                assert_eq!(world.tip(), tip, "{note}");
                assert_eq!(world.stands("edited"), "file: old\n", "{note}");
                world.apply_well(to);
            }
            assert_eq!(world.tip(), to, "{note}");
            assert_arrived(&world, &note);
            seen.insert(step);
        }
    }
    seen
}

#[test]
fn a_kill_during_the_recovery_needs_nobody_either() {
    let steps = [7, 15, 40];
    for first in steps {
        for nth in 0.. {
            let mut world = World::new(&before());
            let to = world.incoming(&change());
            let step = die_at(first, || {
                world.apply_well(to);
            });
            let step = step.unwrap();
            let mut world = world.killed();
            let again = die_at(nth, || {
                let tips: Vec<_> = journal_target(&world.place).unwrap().into_iter().collect();
                publish::remove_own_locks(&world.place, &tips).unwrap();
                world.recover();
            });
            let Some(again) = again else {
                break;
            };
            let mut world = start_over(world);
            let note = format!("killed at {step}, then at {again} ({nth})");
            if world.tip() != to {
                world.apply_well(to);
            }
            assert_arrived(&world, &note);
        }
    }
}

#[test]
fn a_user_who_edits_between_kill_and_start_loses_nothing() {
    for nth in 0.. {
        let mut world = World::new(&before());
        let to = world.incoming(&change());
        let step = die_at(nth, || {
            world.apply_well(to);
        });
        let Some(step) = step else {
            break;
        };
        std::fs::write(world.at("edited"), "TOKEN-edited\n").unwrap();
        std::fs::write(world.at("deleted"), "TOKEN-deleted\n").unwrap();
        if world.at("new").is_dir() {
            std::fs::write(world.at("new/file"), "TOKEN-new\n").unwrap();
        }
        let world = start_over(world);
        let note = format!("killed at {step} ({nth})");
        assert_eq!(world.stands("edited"), "file: TOKEN-edited\n", "{note}");
        assert_eq!(world.stands("deleted"), "file: TOKEN-deleted\n", "{note}");
        if world.at("new").is_dir() {
            assert!(world.stands("new/file").contains("new"), "{note}");
        }
    }
}
