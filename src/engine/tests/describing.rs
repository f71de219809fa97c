//! What a person says of a commit, and the push that waits for it.

use super::*;
use crate::engine::event::Described;

fn asking() -> Folder {
    Folder::quiet_with(Settings {
        ask: true,
        notes: true,
        ..settings()
    })
}

fn answered(folder: &mut Folder, number: u8, message: Option<&str>) {
    let (commit, message) = (oid(number), message.map(str::to_owned));
    folder.event(Event::Answered { commit, message });
}

fn reword(number: u8, may_reword: bool) -> Job {
    Job::Reword {
        commit: oid(number),
        message: "why".to_owned(),
        may_reword,
    }
}

fn reworded(folder: &mut Folder, from: u8, to: u8) {
    let (from, to) = (oid(from), oid(to));
    folder.event(Event::Described(Described::Reworded { from, to }));
}

/// A folder whose notes were looked at after the start.
fn quiet() -> Folder {
    let mut folder = asking();
    folder.event(Event::NotesExchanged(Ok(())));
    assert_eq!(folder.actions(), []);
    folder
}

#[test]
fn a_lone_commit_waits_twenty_seconds_for_words_and_no_longer() {
    let mut folder = quiet();
    folder.edit(2, "a");
    assert_eq!(folder.jobs(), []);
    folder.pass(19_000);
    assert_eq!(folder.jobs(), []);
    folder.pass(1_000);
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn who_says_nothing_lets_the_push_go_at_once() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, None);
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn words_change_the_commit_before_it_is_pushed() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(2, true)]);
    folder.pass(30_000);
    assert_eq!(folder.jobs(), [], "it is not pushed while it changes");
    reworded(&mut folder, 2, 3);
    folder.pass(200);
    assert_eq!(folder.jobs(), [push(3)]);
    // More words for what was clicked on, which is pushed by now.
    folder.confirmed(3);
    folder.actions();
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(3, false)]);
}

#[test]
fn what_a_push_was_begun_for_gets_a_note_and_the_notes_are_brought_to_the_hub() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, None);
    assert_eq!(folder.jobs(), [push(2)]);
    // Its answer is lost: the hub may have it.
    folder.event(Event::Pushed(Pushed::Failed(unreachable())));
    folder.actions();
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(2, false)]);
    folder.event(Event::Described(Described::Noted));
    assert_eq!(folder.jobs(), [Job::Notes]);
    folder.event(Event::NotesExchanged(Ok(())));
    folder.pass(2_000);
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn a_second_commit_and_a_sync_wait_for_nobody() {
    let mut folder = quiet();
    folder.edit(2, "a");
    folder.edit(3, "b");
    folder.pass(10_000);
    assert_eq!(folder.jobs(), [push(3)]);

    let mut folder = quiet();
    folder.edit(2, "a");
    folder.event(Event::Asked(Request::Sync));
    let jobs = folder.jobs();
    assert!(jobs.contains(&Job::Fetch), "{jobs:?}");
    folder.fetched(1);
    let jobs = folder.jobs();
    assert!(jobs.contains(&push(2)), "{jobs:?}");
}

#[test]
fn words_wait_while_the_users_git_is_busy_and_come_after() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(2, true)]);
    let busy = Trouble::new(Code::GitBusy, Recovery::Pause, "waiting", "");
    folder.event(Event::Described(Described::Blocked(busy)));
    // The push does not wait for that.
    assert_eq!(folder.jobs(), [push(2)]);
    folder.pass(1_000);
    assert_eq!(folder.jobs(), [reword(2, false)]);
}

#[test]
fn without_the_setting_nobody_is_waited_for() {
    let mut folder = Folder::quiet();
    folder.edit(2, "a");
    assert_eq!(folder.jobs(), [push(2)]);
}

#[test]
fn notes_are_made_and_brought_together_one_after_the_other() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, None);
    folder.confirmed(2);
    folder.actions();
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(2, false)]);
    answered(&mut folder, 2, Some("why"));
    folder.event(Event::Described(Described::Noted));
    assert_eq!(folder.jobs(), [reword(2, false)]);
    folder.event(Event::Described(Described::Noted));
    assert_eq!(folder.jobs(), [Job::Notes]);
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), []);
    folder.event(Event::NotesExchanged(Ok(())));
    assert_eq!(folder.jobs(), [reword(2, false)]);
}

#[test]
fn what_was_part_of_a_push_is_never_reworded_whatever_was_pushed_later() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, None);
    assert_eq!(folder.jobs(), [push(2)]);
    folder.event(Event::Pushed(Pushed::Failed(unreachable())));
    folder.rung(9);
    folder.pass(1_000);
    folder.fetched(9);
    folder.event(Event::Merged(Merged::Created {
        commit: oid(10),
        copies: vec![],
    }));
    folder.pass(60_000);
    let jobs = folder.jobs();
    assert!(jobs.contains(&push(10)), "{jobs:?}");
    folder.event(Event::Pushed(Pushed::Rejected));
    folder.actions();
    answered(&mut folder, 2, Some("why"));
    let jobs = folder.jobs();
    assert!(jobs.contains(&reword(2, false)), "{jobs:?}");
}

#[test]
fn words_that_cannot_be_put_down_are_said_again() {
    let mut folder = quiet();
    folder.edit(2, "a");
    answered(&mut folder, 2, Some("why"));
    assert_eq!(folder.jobs(), [reword(2, true)]);
    let full = Trouble::new(Code::DiskFull, Recovery::Hold, "the disk is full", "");
    folder.event(Event::Described(Described::Blocked(full)));
    let tells = folder.tells();
    let [Tell::Problem(trouble)] = &tells[..] else {
        panic!("{tells:?}");
    };
    assert!(trouble.message.contains("\"why\""), "{trouble:?}");
    assert!(trouble.message.contains("the disk is full"), "{trouble:?}");

    let mut folder = quiet();
    folder.edit(2, "a");
    folder.event(Event::Asked(Request::Pause(None)));
    folder.actions();
    for _ in 0..17 {
        answered(&mut folder, 2, Some("why"));
    }
    assert_eq!(folder.tells().len(), 1, "what is too much is said");
}
