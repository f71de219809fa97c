//! What a person says of a commit: its message, or a note beside it.

use std::time::Duration;

use autosync::{clock, process};

use super::server::{Desk, Shown};
use super::{at, program};
use crate::support::host::{Host, PATIENCE, Pair};

/// The program asks, and every lone commit waits for it.
const ASK: &str = "[desktop]\ndescribe = \"ask\"\ndescribe_command = [\"ask-me\", \"--what\"]\n";
/// Only who clicks is asked.
const CLICK: &str = "[desktop]\ndescribe_command = [\"ask-me\", \"--what\"]\n";

fn subject(host: &Host) -> String {
    host.git(["log", "-1", "--format=%s"])
}

fn note(host: &Host) -> String {
    host.git(["log", "-1", "--format=%N", "--notes=autosync"])
}

/// Returns a host at this desk whose user says this when asked.
fn says(desk: &Desk, config: &str, words: &str) -> Host {
    let mut host = at(desk, "laptop", config);
    program(
        &mut host,
        "ask-me",
        &format!("printf '%s\\n' '{words}' more"),
    );
    host
}

/// Two hosts with a first commit that nobody was asked about for long.
fn pair(desk: &Desk, host: Host) -> Pair {
    let pair = Pair::of([host, Host::new("server")]);
    pair.laptop.write("first", "one");
    pair.laptop.barrier_of_first();
    pair.equal();
    drop(desk.so_far());
    pair
}

impl Host {
    /// Lets the first commit go without an answer.
    fn barrier_of_first(&self) {
        self.until("the first commit", |host| {
            !host.folder_status().head.is_empty()
        });
        self.run(["sync"]).ok();
    }
}

/// Edits a file and returns the notification of its commit.
fn edited(desk: &Desk, pair: &Pair, text: &str) -> Shown {
    pair.laptop.write("note", text);
    desk.shows(|shown| shown.body == "note" && shown.title == "Sync: committed")
}

#[test]
fn words_become_the_message_before_the_push_and_nothing_else_changes() {
    let desk = Desk::new();
    let pair = pair(&desk, says(&desk, ASK, "why I did it"));
    let shown = edited(&desk, &pair, "one");
    let before = pair.laptop.git(["log", "-1", "--format=%T %P %ad %an"]);
    let index = pair.laptop.git(["ls-files", "--stage"]);
    desk.click(shown.id, "describe");
    pair.equal();
    assert_eq!(subject(&pair.laptop), "why I did it");
    assert_eq!(subject(&pair.server), "why I did it");
    let body = pair.laptop.git(["log", "-1", "--format=%b"]);
    assert!(
        body.starts_with("add note\n") && body.contains("Autosync-Host: laptop"),
        "{body}"
    );
    assert_eq!(
        pair.laptop.git(["log", "-1", "--format=%T %P %ad %an"]),
        before
    );
    assert_eq!(pair.laptop.git(["ls-files", "--stage"]), index);
    assert_eq!(note(&pair.laptop), "");
    pair.ends_well();
}

#[test]
fn a_commit_that_is_pushed_keeps_its_message_and_gets_a_note_on_every_host() {
    let desk = Desk::new();
    let pair = pair(&desk, says(&desk, CLICK, "why I did it"));
    let shown = edited(&desk, &pair, "one");
    pair.equal();
    let before = pair.laptop.commits();
    desk.click(shown.id, "describe");
    pair.laptop
        .until("the note", |host| note(host) == "why I did it");
    pair.laptop.synced();
    // What another host said meanwhile stays, too.
    let add = ["notes", "--ref=autosync", "add", "-m", "seen there"];
    pair.server.git(add);
    pair.server.run(["sync"]).ok();
    pair.server.synced();
    for words in ["why I did it", "seen there"] {
        assert!(note(&pair.server).contains(words), "{}", note(&pair.server));
    }
    pair.laptop.run(["sync"]).ok();
    pair.laptop.synced();
    assert_eq!(note(&pair.laptop), note(&pair.server));
    let plain = pair.server.git(["log", "-1"]);
    assert!(plain.contains("Notes (autosync):"), "{plain}");
    assert_eq!(pair.laptop.commits(), before);
    pair.ends_well();
}

#[test]
fn a_click_is_on_the_card_that_was_on_the_screen() {
    let desk = Desk::new();
    let fast = "[settle]\nquiet = \"0s\"\n[push]\nquiet_max = \"100ms\"\n";
    let pair = pair(&desk, says(&desk, &format!("{CLICK}{fast}"), "why"));
    // Its message if it was not pushed yet, else a note.
    let words = |commit: &str| {
        let form = "--format=%s%n%N";
        pair.laptop
            .git(["log", "-1", form, "--notes=autosync", commit])
    };
    let has_words = |commit: &str| words(commit).lines().any(|line| line == "why");
    // A slow desktop shows the push at once: what it missed in between is nobody's news any more.
    let told = |text: &str| {
        pair.laptop.write("note", text);
        desk.shows(|shown| {
            let titles = ["Sync: committed", "Sync: pushed"];
            shown.body == "note" && titles.contains(&shown.title.as_str())
        })
    };
    let pushed = |shown: &Shown| {
        if shown.title == "Sync: committed" {
            desk.shows(|shown| shown.title == "Sync: pushed");
        }
        pair.equal();
        drop(desk.so_far());
    };
    for round in 0..5 {
        let shown = told(&format!("{round} before"));
        pushed(&shown);
        let before = pair.laptop.git(["rev-parse", "HEAD"]);
        // It is not on the screen before the server says so.
        desk.hang(true);
        let shown = told(&format!("{round} unseen"));
        desk.click(shown.id, "describe");
        desk.hang(false);
        let asked_of = format!("words for the one before, {round}");
        pair.laptop.until(&asked_of, |_| has_words(&before));
        pushed(&shown);
        assert!(!has_words("HEAD"), "{round}");
        // And it is as soon as it does.
        let shown = told(&format!("{round} seen"));
        desk.click(shown.id, "describe");
        let asked_of = format!("words for this one, {round}");
        pair.laptop.until(&asked_of, |_| has_words("HEAD"));
        pushed(&shown);
        assert!(has_words("HEAD") && !has_words("HEAD~"), "{round}");
    }
    pair.ends_well();
}

#[test]
fn who_closes_the_question_or_says_nothing_lets_the_push_go() {
    for click in [false, true] {
        let desk = Desk::new();
        let pair = pair(&desk, says(&desk, ASK, ""));
        let shown = edited(&desk, &pair, "one");
        assert!(!pair.laptop.folder_status().published);
        let before = clock::now();
        if click {
            desk.click(shown.id, "describe");
        } else {
            desk.dismiss(shown.id);
        }
        pair.equal();
        assert!(clock::now().since(before) < Duration::from_secs(15));
        assert_eq!(subject(&pair.laptop), "laptop: note");
    }
}

#[test]
fn a_question_that_nobody_answers_ends_with_the_agent() {
    let desk = Desk::new();
    let mut host = at(&desk, "laptop", ASK);
    let root = host.sandbox.root().to_owned();
    let (pipe, pid) = (root.join("never"), root.join("pid"));
    let script = format!(
        "mkfifo {0} && echo $$ >{1}.new && mv {1}.new {1} && exec cat {0}",
        pipe.display(),
        pid.display()
    );
    program(&mut host, "ask-me", &script);
    let mut pair = pair(&desk, host);
    let shown = edited(&desk, &pair, "one");
    desk.click(shown.id, "describe");
    pair.laptop.until("the question", |_| pid.exists());
    let asking: i32 = std::fs::read_to_string(&pid)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let start = process::start_time(asking).unwrap();
    pair.laptop.stop();
    pair.server.until("the end of the question", |_| {
        !process::lives(asking, start, &process::boot_id())
    });
}

#[test]
fn without_an_answer_the_push_goes_after_a_while_and_a_sync_does_not_wait() {
    let desk = Desk::new();
    let pair = pair(&desk, says(&desk, ASK, "late"));
    edited(&desk, &pair, "one");
    let before = clock::now();
    pair.laptop.run(["sync"]).ok();
    pair.equal();
    assert!(clock::now().since(before) < Duration::from_secs(15));

    pair.laptop.write("note", "two");
    let before = clock::now();
    pair.equal();
    let waited = clock::now().since(before);
    assert!(
        waited > Duration::from_secs(15) && waited < PATIENCE,
        "{waited:?}"
    );
}

#[test]
fn a_kill_while_a_commit_is_described_leaves_the_old_or_the_new_one() {
    for (step, config, new) in [
        ("R1.made", ASK, false),
        ("S8.index#2", ASK, false),
        ("S8.branch#2", ASK, true),
        ("R2.moved", ASK, true),
        // Once at the start, and once for the note.
        ("N0.asked#2", CLICK, false),
        ("N1.together", CLICK, false),
    ] {
        let desk = Desk::new();
        let host = says(&desk, config, "why");
        let mut pair = pair(&desk, host);
        pair.laptop.stop();
        drop(desk.so_far());
        pair.laptop
            .sandbox
            .set("AUTOSYNC_FAULT", &format!("{step}:kill"));
        pair.laptop.start();
        let shown = edited(&desk, &pair, "one");
        if config == CLICK {
            desk.shows(|shown| shown.title == "Sync: pushed");
        }
        desk.click(shown.id, "describe");
        assert!(pair.laptop.ends_within(PATIENCE), "{step} was never passed");
        pair.laptop.ended(PATIENCE);
        pair.laptop.sandbox.set("AUTOSYNC_FAULT", "");
        pair.laptop.start();
        pair.ends_well();
        pair.server.run(["sync"]).ok();
        pair.server.synced();
        let expected = if new { "why" } else { "laptop: note" };
        assert_eq!(subject(&pair.laptop), expected, "{step}");
        let noted = if config == CLICK { "why" } else { "" };
        assert_eq!(note(&pair.server), noted, "{step}");
        assert_eq!(pair.server.read("note").as_deref(), Some("one"));
    }
}
