//! Somebody wants something back: everything is looked at first, and everybody is answered.

use std::collections::BTreeSet;

use super::*;
use crate::engine::recall::{Answer, Recall, Recalled, Wanted};

fn wants(folder: &mut Folder, ticket: u64) {
    let recall = undo();
    folder.event(Event::RecallAsked { ticket, recall });
}

fn undo() -> Recall {
    Recall {
        wanted: Wanted::Undo(None),
        dry_run: false,
        only_here: false,
        approved: false,
    }
}

fn job() -> Job {
    Job::Recall(Box::new(undo()))
}

/// Returns the answers among the actions: to whom, and what was in the way.
fn answers(actions: Vec<Action>) -> Vec<(u64, Option<Code>)> {
    let answers = actions.into_iter().filter_map(|action| match action {
        Action::Answer { ticket, answer } => Some((ticket, answer.err().map(|it| it.code))),
        Action::Run(_) | Action::Announce(_) | Action::Confirm(_) | Action::Tell(_) => None,
    });
    answers.collect()
}

fn recalled(folder: &mut Folder, number: u8) {
    let id = oid(number);
    folder.event(Event::Recalled(Box::new(Recalled {
        answer: Ok(Answer::default()),
        committed: Some(Committed {
            id,
            summary: "undo 3: edited a".to_owned(),
            paths: vec![path("a")],
            count: 1,
        }),
        applied: Some(Applied {
            tip: Some(id),
            ..Applied::default()
        }),
    })));
}

fn look() -> Job {
    Job::Snapshot {
        scope: Scope::Everything,
        even_open: BTreeSet::new(),
        trigger: Trigger::Asked,
        approved: false,
    }
}

#[test]
fn everything_is_committed_before_something_comes_back_and_that_is_pushed() {
    let mut folder = Folder::quiet();
    folder.saved("b");
    wants(&mut folder, 7);
    assert_eq!(folder.jobs(), [look()]);
    folder.committed(2, &["b"]);
    assert_eq!(folder.jobs(), [job()]);
    recalled(&mut folder, 3);
    assert_eq!(answers(folder.actions()), [(7, None)]);
    folder.pass(200);
    assert_eq!(folder.jobs(), [push(3)]);
    folder.confirmed(3);
    folder.actions();
    assert!(folder.engine.is_idle());
}

#[test]
fn who_asks_while_nothing_may_be_done_is_told_why() {
    let mut folder = Folder::quiet();
    wants(&mut folder, 1);
    assert_eq!(folder.jobs(), [look()]);
    wants(&mut folder, 2);
    // The user's rebase closes the gate.
    folder.snapshotted(Snapshotted {
        blocked: Some(Trouble::new(Code::Rebase, Recovery::Pause, "waiting", "")),
        ..Snapshotted::default()
    });
    let both = [(1, Some(Code::Rebase)), (2, Some(Code::Rebase))];
    assert_eq!(answers(folder.actions()), both);
    folder.event(Event::Asked(Request::Pause(None)));
    wants(&mut folder, 3);
    assert_eq!(answers(folder.actions()), [(3, Some(Code::Paused))]);
}

#[test]
fn a_pause_or_the_end_refuses_those_that_wait() {
    for request in [Request::Pause(None), Request::Stop] {
        let mut folder = Folder::quiet();
        wants(&mut folder, 1);
        folder.actions();
        folder.event(Event::Asked(request));
        assert_eq!(answers(folder.actions()).len(), 1, "{request:?}");
    }
}

#[test]
fn not_endlessly_many_wait() {
    let mut folder = Folder::quiet();
    for ticket in 0..40 {
        wants(&mut folder, ticket);
    }
    let refused = answers(folder.actions());
    assert_eq!(refused.len(), 24);
    // Those that came while it was looked want another look.
    folder.snapshotted(Snapshotted::default());
    assert_eq!(folder.jobs(), [look()]);
    folder.snapshotted(Snapshotted::default());
    for _ in 0..16 {
        assert!(folder.jobs().contains(&job()));
        folder.event(Event::Recalled(Box::new(Recalled {
            answer: Ok(Answer::default()),
            committed: None,
            applied: None,
        })));
    }
    assert_eq!(answers(folder.actions()).len(), 1);
    assert!(folder.engine.is_idle());
}

#[test]
fn an_apply_that_did_not_end_is_recovered_first() {
    let mut folder = Folder::quiet();
    wants(&mut folder, 1);
    folder.actions();
    folder.snapshotted(Snapshotted::default());
    assert_eq!(folder.jobs(), [job()]);
    folder.event(Event::Recalled(Box::new(Recalled {
        answer: Err(Trouble::new(Code::GitBusy, Recovery::Pause, "busy", "")),
        committed: None,
        applied: Some(Applied {
            tip: Some(oid(1)),
            unfinished: true,
            blocked: Some(Trouble::new(Code::GitBusy, Recovery::Pause, "busy", "")),
            ..Applied::default()
        }),
    })));
    assert_eq!(answers(folder.actions()), [(1, Some(Code::GitBusy))]);
    folder.pass(1_000);
    assert_eq!(folder.jobs(), [Job::Recover]);
}
