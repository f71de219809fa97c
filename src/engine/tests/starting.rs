//! The start, and one edit from the disk to the bell.

use super::*;

#[test]
fn the_start_recovers_then_looks_at_everything_and_asks_the_hub() {
    let mut folder = Folder::new(settings());
    assert_eq!(folder.jobs(), [Job::Recover]);
    folder.recovered(Some(1), Some(1));
    assert_eq!(
        folder.jobs(),
        [look_at_everything(Trigger::Start), Job::Fetch]
    );
}

#[test]
fn without_a_hub_nothing_is_asked_of_the_network() {
    let mut folder = Folder::quiet_with(Settings {
        has_hub: false,
        ..settings()
    });
    folder.edit(2, "a");
    folder.event(Event::Asked(Request::Sync));
    assert_eq!(folder.jobs(), [look_at_everything(Trigger::Asked)]);
    folder.snapshotted(Snapshotted::default());
    folder.pass(3_600_000);
    assert!(folder.jobs().iter().all(|job| !matches!(
        job,
        Job::Fetch | Job::Push { .. } | Job::Merge { .. } | Job::Apply { .. }
    )));
}

#[test]
fn a_lone_save_becomes_one_commit_one_push_one_notice() {
    let mut folder = Folder::quiet();
    folder.saved("a.txt");
    assert_eq!(folder.actions(), []);
    assert_eq!(folder.next_timer(), 150);
    assert_eq!(folder.jobs(), [snapshot(&["a.txt"], Trigger::Edit)]);

    folder.event(Event::Stored { commit: oid(2) });
    assert_eq!(folder.actions(), []);
    assert_eq!(folder.next_timer(), 100);
    assert_eq!(folder.jobs(), [push(2)], "the index is still being written");

    folder.snapshotted(committed(2, &["a.txt"]));
    assert!(matches!(folder.tells()[..], [Tell::Committed(_)]));
    folder.confirmed(2);
    let actions = folder.actions();
    assert_eq!(actions[0], Action::Tell(Tell::Pushed(oid(2))));
    let Action::Announce(notice) = &actions[1] else {
        panic!("{actions:?}");
    };
    assert_eq!((notice.commit, notice.sequence), (Some(oid(2)), 1));
    assert_eq!(actions.len(), 2);
    assert!(folder.engine.is_synced());
}

#[test]
fn with_windows_at_zero_an_event_is_a_snapshot_and_a_commit_is_a_push() {
    let mut settings = settings();
    settings.settle.quiet = std::time::Duration::ZERO;
    settings.push.quiet = std::time::Duration::ZERO;
    let mut folder = Folder::quiet_with(settings);
    folder.saved("a");
    assert_eq!(folder.jobs(), [snapshot(&["a"], Trigger::Edit)]);
    folder.event(Event::Stored { commit: oid(2) });
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn a_first_contact_asks_the_hub_before_anything_is_pushed() {
    let mut folder = Folder::new(settings());
    folder.event(Event::Recovered(Recovered {
        tip: None,
        copies: Vec::new(),
        marked: Vec::new(),
        hub: None,
        id: None,
        blocked: None,
    }));
    assert_eq!(folder.jobs().len(), 3);
    folder.event(Event::Stored { commit: oid(1) });
    folder.snapshotted(committed(1, &["a"]));
    folder.pass(1_000);
    assert_eq!(folder.jobs(), []);

    folder.event(Event::Fetched(Fetched::Tip(None)));
    assert_eq!(folder.jobs(), [push(1)]);
    folder.confirmed(1);
    let announced = |actions: Vec<Action>| {
        actions
            .into_iter()
            .filter(|action| matches!(action, Action::Announce(_)))
            .count()
    };
    assert_eq!(
        announced(folder.actions()),
        0,
        "nobody could know the folder"
    );
    folder.event(Event::Identified("folder".to_owned()));
    assert_eq!(announced(folder.actions()), 1);
}

#[test]
fn an_empty_hub_gets_our_tip() {
    let mut folder = Folder::new(settings());
    folder.recovered(Some(1), None);
    folder.snapshotted(Snapshotted::default());
    folder.actions();
    folder.event(Event::Fetched(Fetched::Tip(None)));
    assert_eq!(folder.jobs(), [push(1)]);
}
