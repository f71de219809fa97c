//! A click takes back what came in: that alone, everywhere, and it is said what was done.

use std::fs;

use super::at;
use super::server::{Desk, Shown};
use crate::support::host::{Host, Pair};

/// Nothing but what comes in is shown, so that it need not wait for its turn.
const INCOMING: &str = "[desktop]\nnotify = \"summary\"\n";

/// A pair whose server sits at this desk and has a file already.
fn pair(desk: &Desk) -> Pair {
    let pair = Pair::of([Host::new("laptop"), at(desk, "server", INCOMING)]);
    pair.server.write("b", "1\n");
    pair.equal();
    pair
}

fn can_undo(shown: &Shown) -> bool {
    shown.keys.iter().any(|key| key == "undo")
}

#[test]
fn a_click_undoes_what_came_in_on_all_hosts_and_says_so() {
    let desk = Desk::new();
    let pair = pair(&desk);
    pair.laptop.write("a", "1\n");
    pair.equal();
    let shown = desk.shows(|shown| shown.title == "Sync: 1 file from laptop");
    assert_eq!(shown.keys, ["default", "show", "undo"]);
    // What is written since is not what was clicked on.
    pair.server.write("b", "2\n");
    pair.equal();
    desk.click(shown.id, "undo");
    let said = desk.shows(|shown| shown.title.contains("undone"));
    assert_eq!(said.title, "Sync: undone on all computers");
    let body: Vec<&str> = said.body.lines().collect();
    assert!(body[0].starts_with("Undo "), "{said:?}");
    assert!(body[0].ends_with(": received a from laptop."), "{said:?}");
    assert_eq!(body[1..], ["`autosync redo` brings it back."]);
    assert!(!can_undo(&said), "{said:?}");
    pair.equal();
    assert_eq!(pair.laptop.read("a"), None);
    assert_eq!(pair.laptop.read("b").as_deref(), Some("2\n"));
    // A click that came late undoes nothing more.
    desk.click(shown.id, "undo");
    pair.server.barrier();
    let log = pair.server.run(["log"]).ok();
    assert_eq!(log.matches("  undo ").count(), 1, "{log}");
    pair.ends_well();
}

#[test]
fn an_undo_that_would_delete_very_many_files_is_refused_in_words() {
    let desk = Desk::new();
    let pair = pair(&desk);
    pair.laptop.run(["pause"]).ok();
    for number in 0..60 {
        pair.laptop.write(format!("d/{number}"), "x\n");
    }
    pair.laptop.run(["resume"]).ok();
    pair.equal();
    let shown = desk.shows(|shown| shown.title == "Sync: 60 files from laptop");
    desk.click(shown.id, "undo");
    let said = desk.shows(|shown| shown.title == "Sync: not undone");
    assert!(
        said.body
            .starts_with("that would delete 60 files on all your computers.\nIn the folder, "),
        "{said:?}"
    );
    assert!(pair.server.folder.join("d/59").exists());
    // What it says is what a person types.
    let command = said.body.split('`').nth(1).unwrap();
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    let plan = pair.server.run([&args[..], &["--dry-run"]].concat()).ok();
    assert!(plan.contains("That deletes 60 files."), "{plan}");
    fs::write(pair.server.folder.join("b"), "2\n").unwrap();
    pair.ends_well();
}
