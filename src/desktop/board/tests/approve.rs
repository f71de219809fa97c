//! What a click on "Approve" lets pass.

use super::*;
use crate::engine::status::HeldStatus;

fn deleted(count: usize, incoming: bool) -> HeldStatus {
    HeldStatus {
        code: "mass-delete".to_owned(),
        paths: (0..count).map(|n| format!("f{n}")).take(20).collect(),
        more: count.saturating_sub(20),
        message: format!("{count} files were deleted"),
        hint: String::new(),
        incoming,
    }
}

fn holding(held: Vec<HeldStatus>) -> FolderStatus {
    FolderStatus { held, ..standing() }
}

fn emptied() -> Trouble {
    Trouble::new(Code::HubEmptied, Recovery::Hold, "the hub is empty", "")
}

fn approved(board: &mut Board, id: u32) -> Option<Vec<HeldStatus>> {
    board.clicked(id, "approve").map(|click| match click.act {
        Wish::Approve(shown) => shown,
        other @ (Wish::Show(_) | Wish::Undo(_) | Wish::Describe { .. }) => panic!("{other:?}"),
    })
}

/// The labels of the button on what is shown next.
fn labels(board: &mut Board, now: Moment, last: &mut u32) -> Vec<&'static str> {
    let mut labels = Vec::new();
    while let Some(Call::Show {
        slot,
        card,
        replaces,
    }) = board.next(now)
    {
        *last += u32::from(replaces == 0);
        let id = if replaces == 0 { *last } else { replaces };
        labels.extend(
            card.buttons
                .iter()
                .filter(|it| it.0 == "approve")
                .map(|it| it.1),
        );
        board.shown(now, &slot, id, card);
    }
    labels
}

#[test]
fn what_leaves_and_what_came_in_are_held_on_cards_of_their_own() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    let (here, there) = (deleted(60, false), deleted(70, true));
    board.stand(at(0), KEY, &holding(vec![here.clone()]));
    assert_eq!(labels(&mut board, at(0), &mut last), ["Approve"]);
    assert_eq!(approved(&mut board, 1), Some(vec![here.clone()]));

    board.stand(at(1), KEY, &holding(vec![here.clone(), there.clone()]));
    // The button says something else now; a click that was faster means less.
    assert_eq!(approved(&mut board, 1), None);
    assert_eq!(labels(&mut board, at(1), &mut last), ["Approve all"; 2]);
    assert_eq!(approved(&mut board, 1), Some(vec![here.clone(), there]));

    board.stand(at(2), KEY, &holding(vec![here.clone()]));
    assert_eq!(board.next(at(2)), Some(Call::Withdraw(2)));
    assert_eq!(labels(&mut board, at(2), &mut last), ["Approve"]);
    assert_eq!(approved(&mut board, 1), Some(vec![here]));
}

#[test]
fn what_a_person_closed_was_not_shown_to_who_approves_the_rest() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    let here = deleted(60, false);
    board.stand(at(0), KEY, &holding(vec![here.clone()]));
    board.tell(at(0), KEY, &Tell::Problem(emptied()));
    serve(&mut board, at(0), &mut last);
    // Problems are shown first.
    board.closed(1);
    assert_eq!(approved(&mut board, 2), Some(vec![here]));
}

#[test]
fn a_click_on_what_changed_meanwhile_approves_nothing_and_it_is_shown_again() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.stand(at(0), KEY, &holding(vec![deleted(60, false)]));
    serve(&mut board, at(0), &mut last);
    board.stand(at(1), KEY, &holding(vec![deleted(80, false)]));
    assert_eq!(approved(&mut board, 1), None);
    // A server closes what was clicked on.
    board.closed(1);
    let said = serve(&mut board, at(1), &mut last);
    assert_eq!(said, ["+2 Sync: waits for you | 80 files were deleted"]);

    board.stand(at(2), KEY, &standing());
    assert_eq!(approved(&mut board, 2), None, "it is over");
}

#[test]
fn a_hold_that_was_closed_comes_again_when_it_has_grown() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.stand(at(0), KEY, &holding(vec![deleted(60, false)]));
    serve(&mut board, at(0), &mut last);
    board.closed(1);
    for fewer in [60, 55] {
        board.stand(at(1), KEY, &holding(vec![deleted(fewer, false)]));
        assert_eq!(serve(&mut board, at(1), &mut last), [""; 0]);
    }
    board.stand(at(2), KEY, &holding(vec![deleted(56, false)]));
    let said = serve(&mut board, at(2), &mut last);
    assert_eq!(said, ["+2 Sync: waits for you | 56 files were deleted"]);
}

#[test]
fn a_refused_approval_brings_up_what_stands_now_whether_the_server_closed_it_or_not() {
    for closes in ["before", "after", "never"] {
        let (mut board, mut last) = (board(Notify::Steps), 0);
        let here = deleted(60, false);
        let status = holding(vec![here.clone()]);
        board.stand(at(0), KEY, &status);
        serve(&mut board, at(0), &mut last);
        if closes == "before" {
            board.closed(1);
        }
        board.again(at(1), KEY, &status, &[emptied()]);
        if closes == "after" {
            board.closed(1);
        }
        let mut said = serve(&mut board, at(1), &mut last);
        said.retain(|call| call != "-1");
        let expected = [
            "+2 Sync: syncing has stopped | the hub is empty",
            "+3 Sync: waits for you | 60 files were deleted",
        ];
        assert_eq!(said, expected, "{closes}");
        let both = vec![(&emptied()).into(), here];
        assert_eq!(approved(&mut board, 3), Some(both), "{closes}");
        // What stops it is over, and nobody said so.
        board.again(at(2), KEY, &status, &[]);
        let said = serve(&mut board, at(2), &mut last);
        assert!(said.contains(&"-2".to_owned()), "{said:?}");
        assert!(
            !said.iter().any(|call| call.contains("stopped")),
            "{said:?}"
        );
    }
}

#[test]
fn a_problem_that_could_be_approved_goes_when_it_is_over_and_others_stay() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &trouble());
    board.tell(at(0), KEY, &Tell::Problem(emptied()));
    serve(&mut board, at(0), &mut last);
    board.tell(at(1), KEY, &Tell::Over(Code::HubEmptied));
    assert_eq!(serve(&mut board, at(1), &mut last), ["-2"]);
    assert_eq!(board.living(), [1]);
}
