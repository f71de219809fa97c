//! A kill, or an edit of the user, at every third step of an undo; at every one with
//! `AUTOSYNC_TEST_UNDO_ALL` set.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::rc::Rc;

use autosync::engine::action::Job;
use autosync::engine::event::Event;
use autosync::engine::recall::{Recall, Wanted};
use autosync::fault;
use autosync::repo::folder::Folder;

use super::alone;
use crate::pair::{Host, Pair};
use crate::snapshot::settings;
use crate::support::{PROGRAM, ended};

const FILES: &[(&str, &str)] = &[
    ("edited", "1\n2\n3\n4\n5\n"),
    ("gone", "1\n"),
    ("other", "1\n"),
];

/// A pair whose laptop has an operation to undo that changes, adds and deletes.
fn ready() -> Pair {
    let pair = Pair::new(FILES);
    let here = &pair.laptop;
    here.write("edited", "ONE\n2\n3\n4\n5\n");
    here.write("added", "1\n");
    here.remove("gone");
    let _ran = here.once().ok();
    pair
}

fn open(host: &Host) -> Folder {
    let mut settings = settings(&host.root);
    settings.exclude = Vec::new();
    let mut folder = Folder::open(settings).unwrap();
    let _recovered = folder.run(Job::Recover, &mut drop);
    folder
}

fn undo(only_here: bool) -> Job {
    Job::Recall(Box::new(Recall {
        wanted: Wanted::Undo(None),
        dry_run: false,
        only_here,
        approved: false,
    }))
}

/// Returns steps that an undo passes.
fn steps(only_here: bool) -> BTreeSet<String> {
    let pair = ready();
    let mut folder = open(&pair.laptop);
    let seen = Rc::new(RefCell::new(BTreeSet::new()));
    let log = Rc::clone(&seen);
    let outcome = fault::with_hook(
        move |step| {
            log.borrow_mut().insert(step.to_owned());
        },
        || folder.run(undo(only_here), &mut drop),
    );
    assert!(matches!(outcome, Event::Recalled(done) if done.answer.is_ok()));
    let every = if std::env::var_os("AUTOSYNC_TEST_UNDO_ALL").is_some() {
        1
    } else {
        3
    };
    // Another third for each of the two.
    let first = usize::from(only_here) % every;
    seen.take().into_iter().skip(first).step_by(every).collect()
}

#[test]
fn a_kill_at_any_step_leaves_it_done_or_not_done() {
    for only_here in [false, true] {
        let args: &[&str] = if only_here {
            &["undo", "-y", "--only-here"]
        } else {
            &["undo", "-y"]
        };
        let pair = ready();
        pair.save();
        let (new, mut all) = (pair.laptop.tree(), steps(only_here));
        all.retain(|step| step.starts_with(['U', 'A', 'S', 'O', 'm']));
        assert!(all.len() > 4, "{all:?}");
        for step in all {
            let here = &pair.laptop;
            let mut command = here.sandbox.command(PROGRAM);
            let out = command
                .args(args)
                .env("AUTOSYNC_FAULT", format!("{step}:kill"))
                .current_dir(&here.root)
                .output()
                .unwrap();
            let ran = ended(out);
            let note = &format!("{step}, only here: {only_here}");
            assert_eq!(ran.code, Some(128 + 9), "{note}: {ran:?}");
            // The next start ends what was begun.
            let ran = here.once();
            assert!(matches!(ran.code, Some(0)), "{note}: {ran:?}");
            if here.tree() == new {
                let _said = alone(here, args).ok();
            }
            for (path, text) in FILES {
                assert_eq!(here.read(path), *text, "{note}");
            }
            assert!(!here.at("added").exists(), "{note}");
            here.assert_sound(note);
            let _said = alone(here, &["redo", "-y"]).ok();
            assert_eq!(here.tree(), new, "{note}: redo");
            pair.converge(note);
            pair.assert_settled(note);
            pair.restore();
        }
    }
}

#[test]
fn an_edit_at_any_step_is_never_lost() {
    for only_here in [false, true] {
        for step in steps(only_here) {
            let pair = ready();
            let here = &pair.laptop;
            let mut folder = open(here);
            let root = here.root.clone();
            let (at, mut did) = (step.clone(), false);
            let _outcome = fault::with_hook(
                move |now| {
                    if now != at || did {
                        return;
                    }
                    did = true;
                    // Each by rename, as editors do, and one in place.
                    for (name, text) in [
                        ("edited", "1\n2\n3\n4\nTOKEN-edited\n"),
                        ("gone", "TOKEN-gone\n"),
                    ] {
                        let aside = root.join(".git/save");
                        fs::write(&aside, text).unwrap();
                        fs::rename(&aside, root.join(name)).unwrap();
                    }
                    fs::write(root.join("added"), "TOKEN-added\n").unwrap();
                },
                || folder.run(undo(only_here), &mut drop),
            );
            drop(folder);
            pair.converge(&step);
            pair.assert_known(&["TOKEN-edited", "TOKEN-gone", "TOKEN-added"], &step);
            for host in [&pair.laptop, &pair.server] {
                let all: String = host.tree().into_values().collect();
                for token in ["TOKEN-edited", "TOKEN-gone", "TOKEN-added"] {
                    assert!(all.contains(token), "{step}: {token} is in no file");
                }
                host.assert_sound(&step);
            }
        }
    }
}
