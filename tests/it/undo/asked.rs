//! The question before an undo, answered in a terminal.

use std::io::{Read, Write};
use std::process::Stdio;

use super::words;
use crate::pair::{Host, Pair};
use crate::support::PROGRAM;

/// What ends the input of a terminal at the beginning of a line.
const END: &str = "\u{4}";

/// Runs a line of the program in a terminal in the host's folder, types `keys` once the question is
/// on the screen, and returns what was shown and how the program ended.
fn answered(host: &Host, line: &str, question: &str, keys: &str) -> (String, Option<i32>) {
    let line = format!("'{PROGRAM}' {line}");
    let mut command = host.sandbox.command("script");
    let mut child = command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(&host.root)
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut is_typed = false;
    loop {
        let read = screen.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..read]);
        if !is_typed && String::from_utf8_lossy(&shown).ends_with(question) {
            let typed = keyboard.as_mut().unwrap();
            typed.write_all(keys.as_bytes()).unwrap();
            typed.flush().unwrap();
            is_typed = true;
        }
    }
    drop(keyboard.take());
    let code = child.wait().unwrap().code();
    let shown = String::from_utf8_lossy(&shown).replace("\r\n", "\n");
    assert!(is_typed, "nobody was asked: {shown}");
    (shown, code)
}

#[test]
fn a_question_is_answered_with_yes_and_everything_else_is_no() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    let question = "Go on? [y/N] ";
    for keys in ["n\n", "\n", "no\n", "yess\n", END] {
        let (shown, code) = answered(here, "undo", question, keys);
        // What it would do stands above the question.
        assert!(shown.contains("change back  a\n"), "{keys:?}: {shown}");
        assert!(
            shown.ends_with("\nNothing was done.\n"),
            "{keys:?}: {shown}"
        );
        assert_eq!(code, Some(0), "{keys:?}: {shown}");
        assert_eq!(here.read("a"), "2\n", "{keys:?}");
    }
    let before = words(here);
    for (line, keys, content) in [("undo", "y\n", "1\n"), ("redo", "Yes\n", "2\n")] {
        let (shown, code) = answered(here, line, question, keys);
        assert!(shown.contains("\nDone here. "), "{shown}");
        assert_eq!(
            (code, here.read("a").as_str()),
            (Some(0), content),
            "{shown}"
        );
    }
    assert_eq!(words(here).len(), before.len() + 2);
}

#[test]
fn very_many_files_are_a_question_of_their_own() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    for number in 0..80 {
        here.write(&format!("n/{number}"), "x\n");
    }
    let _ran = here.once().ok();
    let question = "Delete 80 files and go on? [y/N] ";
    let (shown, code) = answered(here, "undo", question, END);
    assert!(shown.ends_with("\nNothing was done.\n"), "{shown}");
    assert_eq!((code, here.tree().len()), (Some(0), 81));
    let (shown, code) = answered(here, "undo", question, "y\n");
    assert_eq!((code, here.tree().len()), (Some(0), 1), "{shown}");
}
