//! What others pushed: notices, merges, applies.

use super::*;
use crate::engine::event::{ConflictCopy, Marked};

/// The hub is at commit 9 and the fetch said so.
fn heard_of_nine() -> Folder {
    let mut folder = Folder::quiet();
    folder.rung(9);
    assert_eq!(folder.jobs(), [Job::Fetch]);
    folder.fetched(9);
    folder
}

#[test]
fn what_came_is_merged_and_applied() {
    let mut folder = heard_of_nine();
    assert_eq!(folder.jobs(), [merge(9)]);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    assert_eq!(folder.jobs(), [apply(9)]);
    folder.event(Event::Applied(Applied {
        tip: Some(oid(9)),
        paths: vec![path("a")],
        count: 1,
        host: Some("server".to_owned()),
        ..Applied::default()
    }));
    assert_eq!(
        folder.tells(),
        [Tell::Received {
            host: Some("server".to_owned()),
            paths: vec![path("a")],
            count: 1,
            undo: Some(oid(9)),
        }]
    );
    assert!(folder.engine.is_synced());
}

#[test]
fn what_waits_here_is_committed_before_it_is_merged_over() {
    let mut folder = Folder::quiet();
    folder.change("a", ChangeKind::Written);
    folder.rung(9);
    folder.fetched(9);
    assert_eq!(
        folder.jobs(),
        [Job::Fetch, snapshot(&["a"], Trigger::Merge)],
        "even a file that is not settled"
    );
    folder.snapshotted(Snapshotted {
        busy: vec![Waiting {
            path: path("a"),
            why: "open for writing".to_owned(),
        }],
        tip: Some(oid(1)),
        ..Snapshotted::default()
    });
    assert_eq!(folder.jobs(), [merge(9)], "a busy file does not hold it up");
}

#[test]
fn a_merge_is_on_the_hub_before_it_is_in_the_tree() {
    let mut folder = heard_of_nine();
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![],
    }));
    assert_eq!(folder.jobs(), [merge(9), push(10)]);
    folder.saved("a");
    folder.pass(500);
    assert_eq!(folder.jobs(), [], "the tree is kept free for a second");
    folder.confirmed(10);
    assert_eq!(folder.jobs(), [apply(10)]);
    folder.applied(10);
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
}

#[test]
fn a_commit_made_while_a_merge_is_pushed_is_merged_before_the_apply() {
    let mut folder = heard_of_nine();
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![],
    }));
    folder.saved("a");
    folder.pass(1_500);
    assert_eq!(
        folder.jobs(),
        [merge(9), push(10), snapshot(&["a"], Trigger::Edit)]
    );
    folder.committed(2, &["a"]);
    folder.confirmed(10);
    assert_eq!(folder.jobs(), [merge(10)], "not applied over the new tip");
}

#[test]
fn a_refused_merge_is_made_again_from_what_the_hub_has_now() {
    let mut folder = heard_of_nine();
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![],
    }));
    folder.event(Event::Pushed(Pushed::Rejected));
    assert_eq!(folder.jobs(), [merge(9), push(10), Job::Fetch]);
    folder.fetched(11);
    assert_eq!(folder.jobs(), [merge(11)]);
}

#[test]
fn refused_pushes_back_off_with_jitter_and_are_a_trouble_after_eight() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    assert_eq!(folder.jobs(), [push(2)]);
    let mut waits = Vec::new();
    for _ in 0..12 {
        folder.event(Event::Pushed(Pushed::Rejected));
        let mut waited = 0;
        let mut jobs = folder.jobs();
        while jobs.is_empty() {
            waited += folder.next_timer();
            jobs = folder.jobs();
        }
        assert_eq!(jobs, [Job::Fetch]);
        waits.push(waited);
        folder.fetched(1);
        assert_eq!(folder.jobs(), [merge(1)]);
        folder.event(Event::Merged(Merged::UpToDate { tip: oid(2) }));
        assert_eq!(folder.jobs(), [push(2)]);
    }
    assert_eq!(waits[0], 0, "the first is tried again at once");
    assert!(waits.iter().all(|wait| *wait <= 30_000), "{waits:?}");
    assert!(waits[8..].iter().any(|wait| *wait > 2_000), "{waits:?}");
    assert_eq!(folder.status().code, "contended");
    folder.confirmed(2);
    assert_eq!(folder.status().state, State::Idle);
}

#[test]
fn with_push_off_a_merge_is_applied_and_stays_here() {
    let mut folder = Folder::quiet_with(Settings {
        push_mode: Mode::Off,
        ..settings()
    });
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![],
    }));
    assert_eq!(folder.jobs(), [Job::Fetch, merge(9), apply(10)]);
    folder.applied(10);
    folder.pass(30_000);
    assert_eq!(folder.jobs(), []);
    assert!(folder.engine.is_idle());
}

#[test]
fn our_own_echo_and_known_commits_are_no_news() {
    let mut folder = Folder::quiet();
    folder.event(Event::Noticed(notice("laptop", Some(oid(1))), Circle::Own));
    folder.event(Event::Noticed(notice("laptop", None), Circle::Own));
    folder.event(Event::Noticed(notice("server", Some(oid(1))), Circle::Own));
    let other_branch = Notice {
        branch: "side".to_owned(),
        ..notice("server", Some(oid(7)))
    };
    folder.event(Event::Noticed(other_branch, Circle::Own));
    assert_eq!(folder.jobs(), []);
}

#[test]
fn a_host_that_has_our_name_is_heard() {
    let mut folder = Folder::quiet();
    folder.event(Event::Noticed(
        notice("laptop", Some(oid(7))),
        Circle::Peers,
    ));
    assert_eq!(folder.jobs(), [Job::Fetch]);
}

#[test]
fn the_echo_of_a_push_that_is_not_confirmed_yet_is_no_news() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    folder.event(Event::Noticed(notice("", Some(oid(2))), Circle::Own));
    folder.confirmed(2);
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn ten_thousand_notices_are_few_fetches() {
    let mut folder = Folder::quiet();
    let mut fetches = 0;
    for _ in 0..10_000 {
        folder.event(Event::Noticed(notice("server", None), Circle::Own));
        folder.pass(1);
        for job in folder.jobs() {
            assert_eq!(job, Job::Fetch);
            fetches += 1;
            folder.fetched(1);
        }
    }
    assert!((10..=13).contains(&fetches), "{fetches}");
}

#[test]
fn what_other_people_ring_for_nothing_slows_nobody_of_us_down() {
    let mut folder = Folder::quiet();
    for _ in 0..100 {
        folder.event(Event::Noticed(notice("stranger", None), Circle::Peers));
        if folder.jobs() == [Job::Fetch] {
            folder.fetched(1);
        }
    }
    // A notice of theirs waits by now; ours takes it along at once.
    folder.event(Event::Noticed(notice("server", Some(oid(9))), Circle::Own));
    assert_eq!(folder.jobs(), [Job::Fetch]);
}

#[test]
fn a_host_that_confirms_our_latest_push_is_told_once() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    folder.confirmed(2);
    folder.tells();
    let confirm = |host: &str, number| Event::Confirmed {
        host: host.to_owned(),
        commit: oid(number),
    };
    for (host, number) in [
        ("server", 2),
        ("server", 2),
        ("laptop", 2),
        ("desk", 1),
        ("desk", 2),
    ] {
        folder.event(confirm(host, number));
    }
    let arrived = |hosts: &[&str]| Tell::Arrived {
        commit: oid(2),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    assert_eq!(
        folder.tells(),
        [arrived(&["server"]), arrived(&["desk", "server"])]
    );
}

#[test]
fn what_came_in_is_confirmed() {
    let mut folder = Folder::quiet();
    folder.rung(9);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    folder.actions();
    folder.applied(9);
    let actions = folder.actions();
    assert!(
        matches!(&actions[..], [Action::Confirm(notice), ..]
            if notice.commit == Some(oid(9)) && notice.host == "laptop"),
        "{actions:?}"
    );
}

#[test]
fn notices_that_bring_something_are_never_slowed_down() {
    let mut folder = Folder::quiet();
    for number in 10..60 {
        folder.rung(number);
        assert_eq!(folder.jobs(), [Job::Fetch]);
        folder.fetched(number);
        folder.event(Event::Merged(Merged::FastForward {
            target: oid(number),
        }));
        folder.applied(number);
        assert_eq!(folder.jobs(), [merge(number), apply(number)]);
    }
}

#[test]
fn a_delete_that_may_be_half_of_a_rename_holds_a_merge_up_for_its_window() {
    let mut folder = Folder::quiet();
    folder.change("f", ChangeKind::Removed);
    folder.rung(9);
    folder.fetched(9);
    assert_eq!(folder.jobs(), [Job::Fetch]);
    folder.saved("f");
    folder.pass(200);
    assert_eq!(folder.jobs(), [snapshot(&["f"], Trigger::Merge)]);
}

#[test]
fn endless_deletes_do_not_hold_a_merge_up_for_ever() {
    let mut folder = Folder::quiet();
    folder.rung(9);
    folder.change("f", ChangeKind::Removed);
    folder.fetched(9);
    folder.actions();
    let mut waited = 0;
    while folder.jobs().is_empty() {
        waited += 50;
        assert!(waited < 5_000);
        folder.change(&format!("f{waited}"), ChangeKind::Removed);
        folder.pass(50);
    }
}

#[test]
fn the_hub_is_polled_slower_while_a_transport_is_live() {
    let mut folder = Folder::quiet();
    let fetches_in = |folder: &mut Folder, seconds: u64| {
        let mut count = 0;
        for _ in 0..seconds {
            folder.pass(1_000);
            for job in folder.jobs() {
                if job == Job::Fetch {
                    count += 1;
                    folder.fetched(1);
                } else {
                    folder.snapshotted(Snapshotted::default());
                }
            }
        }
        count
    };
    let polled = fetches_in(&mut folder, 600);
    assert!((9..=11).contains(&polled), "{polled}");
    folder.event(Event::Transport {
        name: "hub",
        online: true,
    });
    let polled = fetches_in(&mut folder, 3_600);
    assert!((6..=8).contains(&polled), "{polled}");
    folder.event(Event::Transport {
        name: "hub",
        online: false,
    });
    let polled = fetches_in(&mut folder, 600);
    assert!((9..=11).contains(&polled), "{polled}");
}

#[test]
fn a_conflict_that_this_host_merged_is_told_once_when_it_is_in_the_tree() {
    let mut folder = heard_of_nine();
    let copy = ConflictCopy {
        path: path("a"),
        copy: path("a (conflict laptop)"),
        host: "laptop".to_owned(),
        since: String::new(),
    };
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![copy.clone()],
    }));
    folder.confirmed(10);
    assert_eq!(folder.tells(), [Tell::Pushed(oid(10))]);
    folder.event(Event::Applied(Applied {
        tip: Some(oid(10)),
        copies: vec![copy.clone()],
        ..Applied::default()
    }));
    assert_eq!(folder.tells(), [Tell::Conflict(vec![copy.clone()])]);
    assert_eq!(folder.status().conflicts.len(), 1);

    folder.saved("a (conflict laptop)");
    folder.pass(500);
    folder.committed(11, &["a (conflict laptop)"]);
    assert_eq!(folder.status().conflicts, [], "somebody saw to it");
}

#[test]
fn a_file_with_markers_is_told_once_and_listed_as_long_as_it_stands() {
    let mut folder = heard_of_nine();
    let marked = vec![Marked {
        path: path("a"),
        commit: oid(9),
        before: vec![oid(7), oid(8)],
        author: "Me".to_owned(),
        since: String::new(),
    }];
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    let comes = || {
        Event::Applied(Applied {
            tip: Some(oid(9)),
            marked: marked.clone(),
            ..Applied::default()
        })
    };
    folder.event(comes());
    assert_eq!(folder.tells(), [Tell::Marked(marked.clone())]);
    assert_eq!(folder.status().marked[0].before.len(), 2);

    let snapshot = |folder: &mut Folder, marked: &[Marked], blocked| {
        folder.saved("b");
        folder.pass(500);
        folder.snapshotted(Snapshotted {
            marked: marked.to_vec(),
            blocked,
            ..Snapshotted::default()
        });
    };
    snapshot(&mut folder, &marked, None);
    assert_eq!(folder.status().marked.len(), 1);
    let busy = Trouble::new(Code::GitBusy, Recovery::Pause, "busy", "");
    snapshot(&mut folder, &[], Some(busy));
    assert_eq!(folder.status().marked.len(), 1, "nobody looked");
    folder.pass(60_000);
    folder.snapshotted(Snapshotted::default());
    assert_eq!(folder.status().marked, [], "somebody saw to it");
    assert!(
        !folder
            .tells()
            .iter()
            .any(|tell| matches!(tell, Tell::Marked(_)))
    );
}

#[test]
fn a_push_whose_answer_never_came_is_announced_once_the_hub_shows_it() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    folder.event(Event::Pushed(Pushed::Failed(unreachable())));
    folder.actions();
    folder.event(Event::Asked(Request::Sync));
    folder.snapshotted(Snapshotted::default());
    folder.actions();
    folder.fetched(2);
    let actions = folder.actions();
    assert!(
        matches!(&actions[..], [Action::Announce(notice)] if notice.commit == Some(oid(2))),
        "{actions:?}"
    );
    assert!(folder.engine.is_synced());
}

#[test]
fn a_manual_push_happens_when_asked_and_then_no_more() {
    let mut folder = Folder::quiet_with(Settings {
        push_mode: Mode::Manual,
        ..settings()
    });
    folder.edit(2, "a");
    folder.pass(20_000);
    assert_eq!(folder.jobs(), []);
    folder.event(Event::Asked(Request::Sync));
    folder.snapshotted(Snapshotted::default());
    folder.fetched(1);
    assert_eq!(
        folder.jobs(),
        [look_at_everything(Trigger::Asked), Job::Fetch, push(2)]
    );
    folder.confirmed(2);
    folder.pass(10_000);
    folder.edit(3, "a");
    folder.pass(20_000);
    assert_eq!(folder.jobs(), []);
}

#[test]
fn a_file_that_somebody_keeps_open_does_not_keep_the_folder_from_being_idle() {
    let mut folder = Folder::quiet();
    folder.change("db", ChangeKind::Written);
    assert!(folder.engine.is_idle());
    assert_eq!(folder.status().pending.paths, 1);
    folder.saved("db");
    assert!(!folder.engine.is_idle());
}

#[test]
fn what_was_in_motion_for_a_moment_comes_soon_and_what_stays_in_the_way_does_not_hurry() {
    let mut folder = heard_of_nine();
    folder.event(Event::Merged(Merged::FastForward { target: oid(9) }));
    let waiting = || {
        vec![Waiting {
            path: path("a"),
            why: "saved here".to_owned(),
        }]
    };
    let kept = || {
        Event::Applied(Applied {
            tip: Some(oid(9)),
            kept: vec![path("a")],
            deferred: waiting(),
            ..Applied::default()
        })
    };
    let same = || Snapshotted {
        tip: Some(oid(9)),
        deferred: waiting(),
        ..Snapshotted::default()
    };
    folder.event(kept());
    folder.pass(200);
    folder.actions();
    folder.snapshotted(same());
    assert!(!folder.engine.is_idle(), "it is about to be looked at");
    folder.pass(1_000);
    assert_eq!(folder.jobs(), [apply(9)]);
    folder.event(kept());
    folder.pass(200);
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    folder.snapshotted(same());
    assert!(folder.engine.is_idle());
    folder.pass(5_000);
    assert_eq!(folder.jobs(), []);
}
