//! What a click on "Undo" takes back.

use super::*;

fn arrives(board: &mut Board, millis: u64, name: &str, undo: Option<&str>) {
    let tell = Tell::Received {
        host: Some("laptop".to_owned()),
        paths: vec![path(name)],
        count: 1,
        undo: undo.map(id),
    };
    board.tell(at(millis), KEY, &tell);
}

fn click(board: &mut Board, id: u32) -> Option<ObjectId> {
    board.clicked(id, "undo").map(|click| match click.act {
        Wish::Undo(commit) => commit,
        other @ (Wish::Show(_) | Wish::Approve(_) | Wish::Describe { .. }) => panic!("{other:?}"),
    })
}

fn done() -> Answer {
    Answer {
        what: "undo 3: received a from laptop".to_owned(),
        ..Answer::default()
    }
}

#[test]
fn a_click_takes_back_that_one_thing_once_and_the_answer_stands_where_it_was() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    arrives(&mut board, 0, "a", Some("1"));
    serve(&mut board, at(0), &mut last);
    assert_eq!(click(&mut board, 1), Some(id("1")));
    assert_eq!(click(&mut board, 1), None, "it is under way");
    board.undone(at(1), KEY, &Ok(done()));
    let said = serve(&mut board, at(1), &mut last);
    let words = "Sync: undone on all computers | Undo 3: received a from laptop.\n\
                 `autosync redo` brings it back.";
    assert_eq!(said, [format!("=1 {words}")]);
    assert_eq!(click(&mut board, 1), None, "nothing is offered any more");
    // What comes next is offered again, by itself.
    arrives(&mut board, 2, "b", Some("2"));
    let said = serve(&mut board, at(2), &mut last);
    assert_eq!(said, ["=1 Sync: 1 file from laptop | b"]);
    assert_eq!(click(&mut board, 1), Some(id("2")));
}

#[test]
fn a_server_that_closes_what_was_clicked_on_shows_the_answer_at_once() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    arrives(&mut board, 0, "a", Some("1"));
    serve(&mut board, at(0), &mut last);
    assert_eq!(click(&mut board, 1), Some(id("1")));
    assert_eq!(board.closed(1), None);
    let trouble = Trouble::new(Code::NoSuchVersion, Recovery::Hold, "it is gone", "Look.");
    board.undone(at(1), KEY, &Err(trouble));
    let said = serve(&mut board, at(1), &mut last);
    assert_eq!(said, ["+2 Sync: not undone | it is gone.\nLook."]);
}

#[test]
fn what_is_several_things_or_none_is_not_offered() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    arrives(&mut board, 0, "a", Some("1"));
    arrives(&mut board, 1, "b", Some("2"));
    serve(&mut board, at(1), &mut last);
    assert_eq!(click(&mut board, 1), None);
    arrives(&mut board, 20_000, "c", None);
    serve(&mut board, at(20_000), &mut last);
    assert_eq!(click(&mut board, 1), None);
    arrives(&mut board, 40_000, "d", Some("4"));
    serve(&mut board, at(40_000), &mut last);
    assert_eq!(click(&mut board, 1), Some(id("4")));
}
