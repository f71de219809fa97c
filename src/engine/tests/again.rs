//! What says that a fault may be over while a job still goes on that then fails for it.

use std::time::Duration;

use super::*;
use crate::engine::event::RescanWhy;

fn blocked(trouble: Trouble) -> Snapshotted {
    Snapshotted {
        blocked: Some(trouble),
        ..Snapshotted::default()
    }
}

fn disk_full() -> Trouble {
    Trouble::new(Code::DiskFull, Recovery::Hold, "the disk is full", "")
}

fn root_missing() -> Trouble {
    Trouble::new(
        Code::RootMissing,
        Recovery::Hold,
        "the folder is not there",
        "Mount it or put it back.",
    )
}

#[test]
fn a_disk_that_is_back_while_a_look_still_misses_it_is_looked_at_again_at_once() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    folder.event(Event::Rescan(RescanWhy::Remount));
    assert_eq!(folder.jobs(), []);
    folder.snapshotted(blocked(root_missing()));
    assert_eq!(folder.jobs(), [look_at_everything(Trigger::Scan)]);
    // Once for each time that it is said to be back.
    folder.snapshotted(blocked(root_missing()));
    assert_eq!(folder.jobs(), []);
    for _ in 0..3 {
        // The first of these starts a look, the others come while it goes on.
        for _ in 0..3 {
            folder.event(Event::Rescan(RescanWhy::Remount));
        }
        for _ in 0..2 {
            assert_eq!(folder.jobs(), [look_at_everything(Trigger::Scan)]);
            folder.snapshotted(blocked(root_missing()));
        }
        assert_eq!(folder.jobs(), []);
    }
    folder.event(Event::Rescan(RescanWhy::Remount));
    folder.committed(2, &["a"]);
    assert_eq!(folder.status().code, "ok");
}

#[test]
fn what_was_said_during_a_job_that_went_well_is_no_reason_to_hurry_after_the_next() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.event(Event::Rescan(RescanWhy::Remount));
    folder.actions();
    folder.committed(2, &["a"]);
    assert!(folder.jobs().contains(&look_at_everything(Trigger::Scan)));
    folder.snapshotted(blocked(root_missing()));
    assert!(!folder.jobs().contains(&look_at_everything(Trigger::Scan)));
    let wait = folder.engine.poll_timeout().unwrap().since(folder.now);
    assert!(wait > Duration::ZERO);
}

#[test]
fn an_apply_that_missed_its_disk_is_tried_again_at_once_if_the_disk_came_back_meanwhile() {
    for unfinished in [false, true] {
        let mut folder = Folder::quiet();
        folder.rung(9);
        folder.fetched(9);
        folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
        assert_eq!(folder.jobs(), [Job::Fetch, merge(9), apply(9)]);
        folder.event(Event::Rescan(RescanWhy::Remount));
        folder.event(Event::Applied(Applied {
            tip: Some(oid(1)),
            blocked: Some(root_missing()),
            unfinished,
            ..Applied::default()
        }));
        let next = if unfinished {
            Job::Recover
        } else {
            look_at_everything(Trigger::Scan)
        };
        assert_eq!(folder.jobs(), [next]);
    }
}

#[test]
fn a_start_that_missed_the_folder_is_made_again_at_once_if_it_came_back_meanwhile() {
    let mut folder = Folder::new(settings());
    assert_eq!(folder.jobs(), [Job::Recover]);
    folder.event(Event::Rescan(RescanWhy::Remount));
    folder.event(Event::Recovered(Recovered {
        tip: None,
        hub: None,
        id: None,
        copies: Vec::new(),
        marked: Vec::new(),
        blocked: Some(root_missing()),
    }));
    assert_eq!(folder.jobs(), [Job::Recover]);
}

#[test]
fn a_fetch_that_missed_the_folder_is_tried_again_if_a_look_found_it_meanwhile() {
    let mut folder = Folder::quiet();
    folder.event(Event::Asked(Request::Sync));
    folder.snapshotted(blocked(root_missing()));
    folder.event(Event::Rescan(RescanWhy::Remount));
    folder.snapshotted(Snapshotted {
        tip: Some(oid(1)),
        ..Snapshotted::default()
    });
    folder.actions();
    folder.event(Event::Fetched(Fetched::Failed(root_missing())));
    assert_eq!(folder.jobs(), [Job::Fetch]);
    // Whatever else is in its way is no matter of the folder.
    folder.event(Event::Fetched(Fetched::Failed(unreachable())));
    assert_eq!(folder.jobs(), []);
}

#[test]
fn a_wake_up_during_a_fetch_that_fails_lets_it_be_tried_again_but_asks_no_login_again() {
    let auth = Trouble::new(Code::Auth, Recovery::Hold, "refused", "Look at the key.");
    for (trouble, again) in [(unreachable(), true), (auth, false)] {
        let mut folder = Folder::quiet();
        folder.rung(9);
        assert_eq!(folder.jobs(), [Job::Fetch]);
        folder.event(Event::Woke);
        folder.actions();
        folder.event(Event::Fetched(Fetched::Failed(trouble.clone())));
        assert_eq!(folder.jobs().contains(&Job::Fetch), again, "{trouble:?}");
        if again {
            folder.event(Event::Fetched(Fetched::Failed(trouble)));
            assert_eq!(folder.jobs(), []);
        }
    }
}

#[test]
fn a_change_during_a_look_that_ends_with_a_hold_is_a_reason_to_look_again_soon() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.actions();
    folder.saved("b");
    folder.snapshotted(blocked(disk_full()));
    assert_eq!(folder.jobs(), []);
    let wait = folder.next_timer();
    assert!((8_000..=12_000).contains(&wait), "{wait}");
    assert_eq!(folder.jobs(), [snapshot(&["a", "b"], Trigger::Edit)]);
    folder.snapshotted(blocked(disk_full()));
    let mut waited = 0;
    while folder.jobs().iter().all(|job| *job == Job::Fetch) {
        waited += folder.next_timer();
    }
    assert!(waited >= 60_000, "{waited}");
}

#[test]
fn a_folder_that_is_not_there_is_looked_for_every_few_seconds_and_told_once() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    let mut told = 0;
    let mut waits = Vec::new();
    for _ in 0..12 {
        folder.snapshotted(blocked(root_missing()));
        let mut waited = 0;
        loop {
            let actions = folder.actions();
            let tells = actions.iter().filter(|it| matches!(it, Action::Tell(_)));
            told += tells.count();
            let is_look = |it: &Action| matches!(it, Action::Run(Job::Snapshot { .. }));
            if actions.iter().any(is_look) {
                break;
            }
            if actions.contains(&Action::Run(Job::Fetch)) {
                folder.fetched(1);
            }
            waited += folder.next_timer();
        }
        waits.push(waited);
    }
    waits.remove(0);
    assert!(waits.iter().all(|wait| *wait <= 4_000), "{waits:?}");
    assert!(waits[10] >= 2_000, "{waits:?}");
    assert_eq!(told, 1);
    folder.committed(2, &["a"]);
    assert!(folder.tells().contains(&Tell::Solved));
}
