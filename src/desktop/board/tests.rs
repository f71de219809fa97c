use super::*;
use crate::engine::event::{Code, Recovery};
use crate::engine::status::{Counters, Last, Pending, State};

mod approve;
mod undo;

const KEY: &str = "0";

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn id(digit: &str) -> ObjectId {
    ObjectId::from_hex(digit.repeat(40)).unwrap()
}

fn path(name: &str) -> RepoPath {
    RepoPath::new(name).unwrap()
}

fn board(level: Notify) -> Board {
    let mut board = Board::new(level, false, "here");
    let folder = Folder {
        name: "Sync".to_owned(),
        root: PathBuf::from("/s"),
    };
    board.know(KEY, folder);
    board
}

fn committed(digit: &str, summary: &str) -> Tell {
    Tell::Committed(Committed {
        id: id(digit),
        summary: summary.to_owned(),
        paths: Vec::new(),
        count: 1,
    })
}

fn came(names: &[&str], count: usize) -> Tell {
    Tell::Received {
        host: Some("laptop".to_owned()),
        paths: names.iter().map(|name| path(name)).collect(),
        count,
        undo: None,
    }
}

fn copy(name: &str) -> ConflictCopy {
    ConflictCopy {
        path: path(name),
        copy: path(&format!("{name} (conflict)")),
        host: "desk".to_owned(),
        since: String::new(),
    }
}

fn trouble() -> Tell {
    let hint = "Log in.";
    Tell::Problem(Trouble::new(Code::Auth, Recovery::Hold, "no entry", hint))
}

/// A folder with nothing to tell.
fn standing() -> FolderStatus {
    FolderStatus {
        name: "Sync".to_owned(),
        path: "/s".to_owned(),
        id: String::new(),
        branch: "main".to_owned(),
        state: State::Idle,
        code: "ok".to_owned(),
        message: String::new(),
        hint: String::new(),
        since: String::new(),
        hub: None,
        head: String::new(),
        published: true,
        pending: Pending::default(),
        held: Vec::new(),
        deferred: Vec::new(),
        conflicts: Vec::new(),
        marked: Vec::new(),
        aside: Vec::new(),
        last: Last::default(),
        progress: None,
        counters: Counters::default(),
    }
}

/// A server that does what it is asked: the calls that are due, as text, `+` for a new bubble.
fn serve(board: &mut Board, now: Moment, next_id: &mut u32) -> Vec<String> {
    let mut calls = Vec::new();
    while let Some(call) = board.next(now) {
        assert!(calls.len() < 100, "it never ends: {call:?}");
        calls.push(match call {
            Call::Withdraw(id) => format!("-{id}"),
            Call::Show {
                slot,
                replaces,
                card,
            } => {
                let (id, sign) = match replaces {
                    0 => {
                        *next_id += 1;
                        (*next_id, '+')
                    }
                    old => (old, '='),
                };
                let text = format!("{sign}{id} {} | {}", card.title, card.body);
                board.shown(now, &slot, id, card);
                text
            }
        });
    }
    calls
}

#[test]
fn what_leaves_is_one_notification_that_is_replaced() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "3 files in notes/"));
    let first = serve(&mut board, at(0), &mut last);
    assert_eq!(first, ["+1 Sync: committed | 3 files in notes/"]);
    board.tell(at(1), KEY, &Tell::Pushed(id("1")));
    let second = serve(&mut board, at(1), &mut last);
    assert_eq!(second, ["=1 Sync: pushed | 3 files in notes/"]);
    for (hosts, words) in [
        (&["server"][..], "server has"),
        (&["desk", "server"], "desk, server have"),
    ] {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let commit = id("1");
        board.tell(at(2), KEY, &Tell::Arrived { commit, hosts });
        let said = serve(&mut board, at(2), &mut last);
        assert_eq!(said, [format!("=1 Sync: {words} it | 3 files in notes/")]);
    }
}

#[test]
fn a_push_that_ends_before_its_commit_is_told_is_shown_with_it() {
    let mut board = board(Notify::Steps);
    let mut last = 0;
    board.tell(at(0), KEY, &Tell::Pushed(id("1")));
    board.tell(at(1), KEY, &committed("1", "a"));
    let calls = serve(&mut board, at(1), &mut last);
    assert_eq!(calls, ["+1 Sync: pushed | a"]);
    board.tell(at(2), KEY, &committed("2", "b"));
    let calls = serve(&mut board, at(2), &mut last);
    assert_eq!(calls, ["=1 Sync: committed | b"]);
}

#[test]
fn a_push_of_an_earlier_commit_says_nothing_of_a_newer_one() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    serve(&mut board, at(0), &mut last);
    board.tell(at(1), KEY, &committed("2", "b"));
    board.tell(at(2), KEY, &Tell::Pushed(id("1")));
    let said = serve(&mut board, at(2), &mut last);
    assert_eq!(said, ["=1 Sync: committed | b"]);
    // A merge with it is.
    board.tell(at(3), KEY, &Tell::Pushed(id("9")));
    assert_eq!(serve(&mut board, at(3), &mut last), ["=1 Sync: pushed | b"]);
}

#[test]
fn a_folder_gets_one_new_bubble_in_ten_seconds_and_nothing_is_lost_meanwhile() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    assert_eq!(serve(&mut board, at(0), &mut last).len(), 1);
    board.closed(1);
    board.tell(at(1_000), KEY, &came(&["x"], 1));
    board.tell(at(2_000), KEY, &committed("2", "b"));
    board.tell(at(3_000), KEY, &committed("3", "c"));
    board.tell(at(4_000), KEY, &came(&["y", "z"], 3));
    assert_eq!(serve(&mut board, at(9_999), &mut last), [""; 0]);
    assert_eq!(board.due(), Some(at(10_000)));
    let said = serve(&mut board, at(10_000), &mut last);
    assert_eq!(said, ["+2 Sync: 4 files from laptop | x, y and 2 more"]);
    assert_eq!(board.due(), Some(at(20_000)));
    let said = serve(&mut board, at(20_000), &mut last);
    assert_eq!(said, ["+3 Sync: committed | c, and one commit before"]);
    assert_eq!(board.due(), None);
}

#[test]
fn another_folder_does_not_wait_for_this_one() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    let folder = Folder {
        name: "other".to_owned(),
        root: PathBuf::from("/o"),
    };
    board.know("1", folder);
    board.tell(at(0), KEY, &committed("1", "a"));
    board.tell(at(0), "1", &committed("2", "b"));
    assert_eq!(serve(&mut board, at(0), &mut last).len(), 2);
}

#[test]
fn what_could_not_be_shown_in_a_minute_is_no_news() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    board.tell(at(0), KEY, &trouble());
    let said = serve(&mut board, at(60_000), &mut last);
    assert_eq!(said, ["+1 Sync: syncing has stopped | no entry.\nLog in."]);
}

#[test]
fn problems_and_conflicts_come_at_once_and_go_when_they_are_over() {
    let (mut board, mut last) = (board(Notify::Problems), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    board.tell(at(0), KEY, &came(&["x"], 1));
    board.tell(at(0), KEY, &trouble());
    board.tell(at(0), KEY, &Tell::Conflict(vec![copy("n")]));
    let said = serve(&mut board, at(0), &mut last);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[1].starts_with("+2 Sync: both sides changed n | "),
        "{said:?}"
    );
    board.tell(at(1), KEY, &Tell::Solved);
    assert_eq!(serve(&mut board, at(1), &mut last), ["-1"]);
    board.problem(at(2), "xmpp", "wrong password", "Set it.");
    assert_eq!(
        serve(&mut board, at(2), &mut last),
        ["+3 autosync: wrong password | Set it."]
    );
    board.solved("xmpp");
    assert_eq!(serve(&mut board, at(3), &mut last), ["-3"]);
}

#[test]
fn a_file_with_markers_is_shown_until_it_is_settled() {
    let (mut board, mut last) = (board(Notify::Problems), 0);
    let marked: Vec<Marked> = (0..9)
        .map(|nth| Marked {
            path: path(&format!("f{nth}")),
            commit: id("1"),
            before: vec![id("2")],
            author: "Old \u{202e}Host".to_owned(),
            since: String::new(),
        })
        .collect();
    board.tell(at(0), KEY, &Tell::Marked(marked.clone()));
    let said = serve(&mut board, at(0), &mut last);
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(
        said[0],
        "+1 Sync: conflict markers in f0 | `f0` came with conflict markers in it, which Old \\u{202e}Host \
         committed. Take the markers out and save. What was before: `git show 2222222:f0`."
    );
    let mut status = FolderStatus {
        marked: marked.iter().map(Into::into).collect(),
        ..standing()
    };
    board.stand(at(1), KEY, &status);
    assert_eq!(serve(&mut board, at(1), &mut last), [""; 0]);
    status.marked.remove(0);
    board.stand(at(2), KEY, &status);
    assert_eq!(serve(&mut board, at(2), &mut last), ["-1"]);
}

#[test]
fn more_conflicts_than_a_screen_holds_share_a_card() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    let copies: Vec<_> = (0..9).map(|n| copy(&format!("f{n}"))).collect();
    board.tell(at(0), KEY, &Tell::Conflict(copies));
    let said = serve(&mut board, at(0), &mut last);
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said[4].starts_with("+5 Sync: 5 more conflicts"), "{said:?}");
}

#[test]
fn conflicts_beyond_all_measure_are_not_remembered() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    let copies: Vec<_> = (0..1_500).map(|n| copy(&format!("f{n}"))).collect();
    board.tell(at(0), KEY, &Tell::Conflict(copies));
    let said = serve(&mut board, at(0), &mut last);
    assert!(
        said[4].starts_with("+5 Sync: 996 more conflicts"),
        "{said:?}"
    );
}

#[test]
fn what_a_person_closed_comes_again_only_with_something_new() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    board.tell(at(0), KEY, &trouble());
    serve(&mut board, at(0), &mut last);
    for id in [1, 2] {
        board.closed(id);
    }
    board.tell(at(1), KEY, &Tell::Pushed(id("1")));
    board.tell(at(1), KEY, &trouble());
    assert_eq!(serve(&mut board, at(30_000), &mut last), [""; 0]);
    board.tell(at(30_000), KEY, &Tell::Solved);
    board.tell(at(30_000), KEY, &committed("2", "b"));
    board.tell(at(30_001), KEY, &trouble());
    assert_eq!(serve(&mut board, at(30_001), &mut last).len(), 2);
}

#[test]
fn after_another_server_only_what_still_holds_comes_again() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &committed("1", "a"));
    board.tell(at(0), KEY, &trouble());
    assert_eq!(serve(&mut board, at(0), &mut last).len(), 2);
    board.lost();
    let said = serve(&mut board, at(30_000), &mut last);
    assert_eq!(said, ["+3 Sync: syncing has stopped | no entry.\nLog in."]);
}

#[test]
fn an_answer_that_comes_after_the_end_is_withdrawn() {
    let mut board = board(Notify::Steps);
    board.tell(at(0), KEY, &trouble());
    let Some(Call::Show { slot, card, .. }) = board.next(at(0)) else {
        panic!("nothing to show");
    };
    board.tell(at(1), KEY, &Tell::Solved);
    assert_eq!(board.next(at(1)), None);
    board.shown(at(2), &slot, 7, card);
    assert_eq!(board.next(at(2)), Some(Call::Withdraw(7)));
    assert_eq!(board.next(at(2)), None);
}

#[test]
fn closing_the_question_for_a_message_answers_it_once() {
    let mut board = Board::new(Notify::Steps, true, "here");
    let folder = Folder {
        name: "Sync".to_owned(),
        root: PathBuf::from("/s"),
    };
    board.know(KEY, folder);
    let mut last = 0;
    board.tell(at(0), KEY, &committed("1", "a"));
    serve(&mut board, at(0), &mut last);
    assert_eq!(board.closed(1), Some((KEY.to_owned(), id("1"))));
    assert_eq!(board.closed(1), None);

    board.tell(at(20_000), KEY, &committed("2", "b"));
    serve(&mut board, at(20_000), &mut last);
    let click = board.clicked(2, "describe").unwrap();
    let summary = "b".to_owned();
    let commit = id("2");
    assert_eq!(click.act, Wish::Describe { commit, summary });
    // The answer is on its way.
    assert_eq!(board.closed(2), None);
    assert_eq!(board.unanswerable(), []);
}

#[test]
fn names_cannot_steer_what_is_shown() {
    let (mut board, mut last) = (board(Notify::Steps), 0);
    board.tell(at(0), KEY, &came(&["a\u{202e}b\u{61c}\nc", "<b>&"], 2));
    let said = serve(&mut board, at(0), &mut last);
    let names = "a\\u{202e}b\\u{61c}\\nc, <b>&";
    assert_eq!(said, [format!("+1 Sync: 2 files from laptop | {names}")]);
    assert_eq!(card::without_markup("<b>&"), "&lt;b&gt;&amp;");
}
