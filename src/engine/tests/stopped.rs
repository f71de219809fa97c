//! When it does not go on: troubles, pauses, holds, and what is said about them.

use std::time::Duration;

use super::*;
use crate::engine::event::{Held, RescanWhy};

fn pause() -> Trouble {
    Trouble::new(Code::Rebase, Recovery::Pause, "a rebase is in progress", "")
}

fn disk_full() -> Trouble {
    Trouble::new(
        Code::DiskFull,
        Recovery::Hold,
        "the disk is full",
        "Free some space.",
    )
}

fn blocked(trouble: Trouble) -> Snapshotted {
    Snapshotted {
        blocked: Some(trouble),
        ..Snapshotted::default()
    }
}

fn mass_delete() -> Held {
    Held {
        code: Code::MassDelete,
        paths: vec![path("a")],
        more: 99,
        message: "100 files would be deleted".to_owned(),
        hint: "Run `autosync approve`.".to_owned(),
    }
}

#[test]
fn a_commit_made_offline_is_pushed_on_reconnect_though_nothing_new_changed() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    assert_eq!(folder.jobs(), [push(2)]);
    let mut tried = 0;
    for _ in 0..600 {
        folder.event(Event::Pushed(Pushed::Failed(unreachable())));
        while folder.jobs().is_empty() {
            let waited = folder.next_timer();
            assert!(waited <= 66_000, "{waited}");
        }
        tried += 1;
        if folder.now > at(600_000) {
            break;
        }
        // A poll may have been first.
        folder.event(Event::Fetched(Fetched::Failed(unreachable())));
    }
    assert!(tried > 8, "{tried}");
    assert_eq!(folder.status().state, State::Retry);
    assert_eq!(folder.status().code, "hub-unreachable");
    folder.event(Event::Transport {
        name: "hub",
        online: true,
    });
    let mut pushed = false;
    for _ in 0..4 {
        folder.fetched(1);
        pushed |= folder.jobs().contains(&push(2));
    }
    if !pushed {
        folder.confirmed(2);
        assert_eq!(folder.status().last.push.unwrap().oid, oid(2).to_string());
    }
}

#[test]
fn an_outage_is_told_once_and_its_end_once() {
    let mut folder = Folder::quiet();
    let mut told = Vec::new();
    let mut tries = 0;
    while tries < 30 {
        folder.pass(500);
        for action in folder.actions() {
            match action {
                Action::Run(Job::Fetch) => {
                    tries += 1;
                    folder.event(Event::Fetched(Fetched::Failed(unreachable())));
                }
                Action::Tell(tell) => told.push((folder.now, tell)),
                Action::Run(_)
                | Action::Announce(_)
                | Action::Confirm(_)
                | Action::Answer { .. } => {}
            }
        }
    }
    let first = told.first().unwrap().0;
    assert!(first < at(10_000 + 66_000 + 60_000), "{first:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    while folder.jobs() != [Job::Fetch] {
        folder.pass(500);
    }
    folder.fetched(1);
    assert_eq!(folder.tells(), [Tell::Solved]);
}

#[test]
fn a_commit_by_hand_of_what_was_no_change_for_us_is_pushed_all_the_same() {
    let mut folder = Folder::quiet();
    let look = snapshot(&[], Trigger::Scan);
    // Another message for the tip, say: no file changed.
    folder.event(Event::GitMoved);
    folder.event(Event::GitMoved);
    assert_eq!(folder.next_timer(), 2_000);
    assert_eq!(folder.jobs(), std::slice::from_ref(&look));
    folder.snapshotted(Snapshotted {
        tip: Some(oid(2)),
        ..Snapshotted::default()
    });
    folder.pass(200);
    assert_eq!(folder.jobs(), [push(2)]);
    folder.confirmed(2);
    folder.pass(10_000);
    assert_eq!(folder.jobs(), []);

    // Our own commits are the same to the watcher: a burst of them is one look, which finds nothing.
    for number in [3, 4] {
        folder.edit(number, "a");
        folder.event(Event::GitMoved);
        assert_eq!(folder.jobs(), [push(number)]);
        folder.confirmed(number);
    }
    folder.pass(1_900);
    assert_eq!(folder.jobs(), []);
    folder.pass(200);
    assert_eq!(folder.jobs(), std::slice::from_ref(&look));
    folder.snapshotted(blocked(pause()));
    folder.pass(1_000);
    assert_eq!(
        folder.jobs(),
        [look],
        "what could not be looked at is looked at again"
    );
}

#[test]
fn while_the_users_git_is_busy_we_look_again_soon_and_keep_what_waits() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.actions();
    let mut waits = Vec::new();
    for _ in 0..12 {
        folder.snapshotted(blocked(pause()));
        assert_eq!(folder.status().state, State::Paused);
        assert_eq!(folder.status().code, "rebase");
        assert_eq!(folder.status().pending.paths, 1);
        waits.push(folder.next_timer());
        assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    }
    assert!(waits[0] <= 200 && waits[11] >= 3_500, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 5_000), "{waits:?}");

    folder.snapshotted(blocked(pause()));
    folder.event(Event::GitMoved);
    assert_eq!(folder.next_timer(), 150, "the rebase may just have ended");
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    folder.committed(2, &["a"]);
    assert_eq!(folder.status().code, "ok");
}

#[test]
fn a_full_disk_is_held_told_at_once_and_looked_at_again_by_itself() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.actions();
    folder.snapshotted(blocked(disk_full()));
    assert_eq!(folder.tells(), [Tell::Problem(disk_full())]);
    let status = folder.status();
    assert_eq!(
        (status.state, status.code.as_str(), status.hint.as_str()),
        (State::Held, "disk-full", "Free some space.")
    );
    let mut waited = 0;
    let mut jobs = Vec::new();
    while jobs.is_empty() {
        waited += folder.next_timer();
        jobs = folder.jobs();
        if jobs == [Job::Fetch] {
            folder.fetched(1);
            jobs.clear();
        }
    }
    assert_eq!(jobs, [snapshot(&["a"], Trigger::Edit)]);
    assert!((60_000..=300_000).contains(&waited), "{waited}");
    folder.committed(2, &["a"]);
    assert!(folder.tells().contains(&Tell::Solved));
}

#[test]
fn a_person_who_asks_is_answered_at_once() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.actions();
    folder.snapshotted(blocked(disk_full()));
    folder.actions();
    folder.event(Event::Asked(Request::Sync));
    assert_eq!(
        folder.jobs(),
        [look_at_everything(Trigger::Asked), Job::Fetch]
    );
    folder.committed(2, &["a"]);
    folder.fetched(1);
    assert_eq!(folder.jobs(), [push(2)], "without a window");
}

#[test]
fn a_pause_starts_nothing_and_ends_by_itself() {
    let mut folder = Folder::quiet();
    folder.event(Event::Asked(Request::Pause(Some(Duration::from_secs(
        7_200,
    )))));
    folder.saved("a");
    folder.rung(9);
    folder.pass(7_199_000);
    assert_eq!(folder.actions(), []);
    assert_eq!(folder.status().state, State::Paused);
    folder.pass(2_000);
    assert_eq!(
        folder.jobs(),
        [look_at_everything(Trigger::Scan), Job::Fetch]
    );
}

#[test]
fn after_stop_nothing_new_starts() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.event(Event::Asked(Request::Stop));
    folder.pass(3_600_000);
    assert_eq!(folder.actions(), []);
}

#[test]
fn a_mass_delete_is_told_once_and_passes_once_when_approved() {
    let mut folder = Folder::quiet();
    folder.change("dir", ChangeKind::Subtree);
    folder.pass(1_000);
    folder.actions();
    let held = Snapshotted {
        tip: Some(oid(1)),
        held: vec![mass_delete()],
        ..Snapshotted::default()
    };
    folder.snapshotted(held.clone());
    assert_eq!(folder.tells(), [Tell::Held(mass_delete())]);
    assert_eq!(folder.status().code, "mass-delete");
    assert_eq!(folder.status().state, State::Held);

    folder.event(Event::Rescan(RescanWhy::Periodic));
    folder.snapshotted(held);
    assert_eq!(folder.tells(), [], "it is the same group");

    folder.event(Event::Asked(Request::Approve));
    let jobs = folder.jobs();
    assert!(
        matches!(jobs[..], [Job::Snapshot { approved: true, .. }]),
        "{jobs:?}"
    );
    folder.committed(2, &["a"]);
    assert_eq!(folder.status().state, State::Working);
    folder.confirmed(2);
    folder.actions();
    folder.event(Event::Asked(Request::Sync));
    assert_eq!(
        folder.jobs()[0],
        look_at_everything(Trigger::Asked),
        "the approval is used up"
    );
}

#[test]
fn an_approval_is_not_for_what_was_found_after_it() {
    let held = |held_grew| Snapshotted {
        tip: Some(oid(1)),
        held: vec![mass_delete()],
        held_grew,
        ..Snapshotted::default()
    };
    for grew in [false, true] {
        let mut folder = Folder::quiet();
        folder.event(Event::Asked(Request::Sync));
        folder.snapshotted(held(true));
        folder.actions();
        // The look that goes on already ends after it.
        folder.event(Event::Rescan(RescanWhy::Periodic));
        assert_eq!(folder.jobs().len(), 1);
        folder.event(Event::Asked(Request::Approve));
        folder.snapshotted(held(grew));
        let jobs = folder.jobs();
        let [Job::Snapshot { approved, .. }] = jobs[..] else {
            panic!("{jobs:?}");
        };
        assert_eq!(approved, !grew);
    }
}

/// A folder with a limit for what waits, in which the removals of commit 9 wait.
fn unattended(limit: Duration) -> Folder {
    let mut folder = Folder::quiet_with(Settings {
        unattended: Some(limit),
        ..settings()
    });
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    assert_eq!(folder.jobs(), [Job::Fetch, merge(9), apply(9)]);
    folder.event(waits(Duration::ZERO));
    folder.actions();
    folder
}

/// What an apply says while removals wait.
fn waits(waited: Duration) -> Event {
    Event::Applied(Applied {
        tip: Some(oid(9)),
        held: vec![mass_delete()],
        deferred: vec![Waiting {
            path: path("a"),
            why: "its removal waits for approval".to_owned(),
        }],
        waited: Some(waited),
        ..Applied::default()
    })
}

#[test]
fn removals_that_nobody_approves_pass_after_the_time_that_was_set_and_not_before() {
    let day = Duration::from_secs(24 * 3600);
    let mut folder = unattended(day);
    let began = folder.now;
    assert_eq!(folder.status().code, "mass-delete");
    assert!(
        folder
            .status()
            .hint
            .contains("Without a word they go here at")
    );
    let passed = 'passed: loop {
        folder.next_timer();
        for job in folder.jobs() {
            let waited = folder.now.since(began);
            match job {
                Job::Apply { target, approved } => {
                    assert_eq!(target, oid(9));
                    if approved {
                        break 'passed waited;
                    }
                    assert!(waited < day, "{waited:?}");
                    folder.event(waits(waited));
                }
                Job::Fetch => folder.fetched(9),
                Job::Snapshot { .. } => folder.snapshotted(Snapshotted {
                    tip: Some(oid(9)),
                    ..Snapshotted::default()
                }),
                Job::Notes => folder.event(Event::NotesExchanged(Ok(()))),
                other @ (Job::Recover
                | Job::Merge { .. }
                | Job::Reword { .. }
                | Job::Recall(_)
                | Job::Push { .. }
                | Job::Maintain) => panic!("{other:?}"),
            }
        }
        assert!(folder.now.since(began) < day * 2, "they never pass");
    };
    assert_eq!(passed, day);
    folder.event(Event::Applied(Applied {
        tip: Some(oid(9)),
        count: 100,
        ..Applied::default()
    }));
    folder.actions();
    assert_eq!(folder.status().code, "ok");
    assert_eq!(folder.status().hint, "");
}

#[test]
fn what_comes_in_when_the_time_is_over_has_not_waited_itself() {
    let mut folder = unattended(Duration::from_secs(5));
    folder.rung(10);
    folder.fetched(10);
    assert_eq!(folder.jobs(), [Job::Fetch, merge(10)]);
    folder.pass(6_000);
    folder.event(Event::Merged(Merged::FastForward { target: oid(10) }));
    assert_eq!(folder.jobs(), [apply(10)], "without an approval");
}

#[test]
fn where_a_person_decides_removals_wait_for_ever() {
    let mut folder = Folder::quiet();
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    folder.jobs();
    folder.event(waits(Duration::from_secs(1_000_000)));
    assert!(!folder.status().hint.contains("Without a word"));
    folder.pass(20_000);
    let is_approved = |job: &Job| matches!(job, Job::Apply { approved: true, .. });
    assert!(!folder.jobs().iter().any(is_approved));
}

#[test]
fn an_approval_without_a_hold_approves_nothing() {
    let mut folder = Folder::quiet();
    folder.event(Event::Asked(Request::Approve));
    assert_eq!(folder.jobs(), [look_at_everything(Trigger::Asked)]);
    folder.snapshotted(Snapshotted::default());
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    assert_eq!(folder.jobs(), [Job::Fetch, merge(9), apply(9)]);
}

#[test]
fn a_hub_that_lost_its_branch_is_not_filled_again_without_a_person() {
    let mut folder = Folder::quiet();
    folder.event(Event::Asked(Request::Sync));
    folder.snapshotted(Snapshotted::default());
    folder.actions();
    folder.event(Event::Fetched(Fetched::Tip(None)));
    assert_eq!(folder.status().code, "hub-emptied");
    folder.saved("a");
    folder.pass(500);
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    folder.committed(2, &["a"]);
    folder.pass(20_000);
    assert_eq!(folder.jobs(), []);
    folder.event(Event::Asked(Request::Approve));
    assert!(folder.jobs().contains(&push(2)));
}

#[test]
fn a_hub_that_lost_its_branch_again_is_told_again_whatever_else_goes_on() {
    let mut folder = Folder::quiet();
    folder.saved("a");
    folder.pass(200);
    folder.actions();
    folder.snapshotted(blocked(disk_full()));
    folder.actions();
    let mut told = Vec::new();
    for tip in [None, Some(oid(1)), None] {
        folder.event(Event::Asked(Request::Sync));
        folder.actions();
        folder.snapshotted(blocked(disk_full()));
        folder.event(Event::Fetched(Fetched::Tip(tip)));
        for tell in folder.tells() {
            if let Tell::Over(code) = tell {
                told.push((code, false));
            } else if let Tell::Problem(trouble) = tell {
                told.push((trouble.code, true));
            } else {
                panic!("{tell:?}");
            }
        }
    }
    let emptied = Code::HubEmptied;
    assert_eq!(told, [(emptied, true), (emptied, false), (emptied, true)]);
    let stopped: Vec<_> = folder.engine.stopped().iter().map(|it| it.code).collect();
    assert_eq!(stopped, [emptied], "a full disk cannot be approved");
}

#[test]
fn an_apply_that_did_not_end_is_recovered_before_anything_is_committed() {
    let mut folder = Folder::quiet();
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    folder.actions();
    folder.event(Event::Applied(Applied {
        tip: Some(oid(1)),
        blocked: Some(disk_full()),
        unfinished: true,
        ..Applied::default()
    }));
    folder.saved("a");
    folder.pass(400_000);
    let jobs: Vec<_> = folder
        .jobs()
        .into_iter()
        .filter(|job| *job != Job::Fetch)
        .collect();
    assert_eq!(jobs, [Job::Recover]);
    folder.recovered(Some(9), Some(9));
    assert!(matches!(folder.jobs()[..], [Job::Snapshot { .. }, ..]));
}

#[test]
fn after_many_commits_and_a_calm_the_folder_is_repacked_in_both_lanes() {
    let mut folder = Folder::quiet_with(Settings {
        maintain_commits: 3,
        ..settings()
    });
    for number in 2..5 {
        folder.edit(number, "a");
        folder.confirmed(number);
        folder.actions();
        folder.pass(2_000);
        assert_eq!(folder.actions(), []);
    }
    let mut seen = false;
    for _ in 0..1_000 {
        folder.pass(1_000);
        for job in folder.jobs() {
            match job {
                Job::Fetch => folder.fetched(4),
                Job::Maintain => seen = true,
                Job::Snapshot { .. } => folder.snapshotted(Snapshotted::default()),
                Job::Recover
                | Job::Merge { .. }
                | Job::Apply { .. }
                | Job::Reword { .. }
                | Job::Recall(_)
                | Job::Notes
                | Job::Push { .. } => {
                    panic!("{job:?}");
                }
            }
        }
        if seen {
            break;
        }
    }
    assert!(seen);
    folder.saved("b");
    folder.rung(9);
    folder.pass(5_000);
    assert_eq!(folder.jobs(), [], "both lanes are taken");
    folder.event(Event::Maintained(Ok(())));
    assert_eq!(folder.jobs().len(), 2);
}
