//! The log itself: what is in it, that it survives, that it is bounded, and that it costs nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::{NO_WINDOWS, alone, listed, run_in, words};
use crate::pair::Pair;
use crate::support::host::{self, Host};
use crate::support::{Sandbox, ended};

#[test]
fn every_kind_of_operation_is_in_it_in_words() {
    let pair = Pair::new(&[
        ("a", "1\n"),
        ("notes/x", "1\n"),
        ("m", "1\n2\n3\n4\n5\n6\n"),
    ]);
    let (here, there) = (&pair.laptop, &pair.server);
    here.write("notes/x", "2\n");
    here.write("notes/y", "new\n");
    let _ran = here.once().ok();
    fs::rename(here.at("a"), here.at("b")).unwrap();
    let _ran = here.once().ok();
    let _ran = there.once().ok();
    there.write("m", "1\n2\n3\n4\n5\nSIX\n");
    let _ran = there.once().ok();
    let _ran = here.once().ok();
    there.write("m", "1\n2\n3\n4\n5\n6\n");
    let _ran = there.once().ok();
    here.write("m", "ONE\n2\n3\n4\n5\nSIX\n");
    let _ran = here.once().ok();
    here.write("by-hand", "1\n");
    here.git(&["add", "by-hand"]);
    here.git(&["commit", "-q", "-m", "by hand"]);
    let _ran = here.once().ok();
    here.remove("notes/y");
    let _ran = here.once().ok();
    let _said = alone(here, &["undo", "-y"]).ok();
    let _said = alone(here, &["redo", "-y"]).ok();
    let _said = alone(here, &["restore", "notes/y", "-y"]).ok();
    let all = words(here);
    let restored = &all[0];
    assert!(restored.starts_with("restore notes/y of 20"), "{all:#?}");
    assert_eq!(
        all[1..],
        [
            "redo 9: deleted notes/y",
            "undo 9: deleted notes/y",
            "deleted notes/y",
            "git: by hand",
            "merged m from server",
            "edited m",
            "received m from server",
            "renamed a to b",
            "changed 2 files in notes/",
            "added 3 files",
            "the log begins, with nothing",
        ],
        "{all:#?}"
    );
    // Each goes on from where the one before it ended.
    let lines = listed(here);
    for pair in lines.windows(2) {
        assert_eq!(pair[0]["before"], pair[1]["commit"], "{pair:#?}");
    }
    // A path has only what touched it.
    let some = alone(here, &["log", "notes/y", "--json"]).ok();
    assert_eq!(some.matches("\"operation\"").count(), 5, "{some}");
    let none = alone(here, &["log", "nowhere"]).ok();
    assert_eq!(none, "Nothing was done here yet.\n");
    here.assert_sound("the log");
}

#[test]
fn its_json_keeps_its_form() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    let _said = alone(here, &["undo", "-y"]).ok();
    let text = alone(here, &["log", "--json", "-n", "2"]).ok();
    let mut lines: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (at, line) in lines.as_array_mut().unwrap().iter_mut().enumerate() {
        let commit = here.git(&["rev-parse", &format!("HEAD~{at}")]);
        let before = here.git(&["rev-parse", &format!("HEAD~{}", at + 1)]);
        assert_eq!(line["commit"], commit);
        assert_eq!(line["before"], before);
        assert!(line["at"].as_str().unwrap().ends_with("+00:00"), "{line}");
        for key in ["commit", "before", "at"] {
            line[key] = "-".into();
        }
    }
    let golden = serde_json::json!([
        {
            "operation": 4, "kind": "undo", "at": "-", "host": "laptop",
            "what": "undo 3: edited a", "undone": false, "undoes": 3, "only_here": false,
            "commit": "-", "before": "-", "paths": ["a"], "more": 0
        },
        {
            "operation": 3, "kind": "snapshot", "at": "-", "host": "laptop",
            "what": "edited a", "undone": true, "only_here": false,
            "commit": "-", "before": "-", "paths": ["a"], "more": 0
        }
    ]);
    assert_eq!(lines, golden);
}

#[test]
fn it_survives_a_garbage_collection_and_what_the_user_reset() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "TOKEN-2\n");
    let _said = alone(here, &["redo", "-y"]).fails(1);
    let held = here.git(&["rev-parse", "HEAD"]);
    here.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let _said = alone(here, &["redo", "-y"]).fails(1);
    here.git(&["reflog", "expire", "--expire=now", "--all"]);
    here.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(here.git(&["show", &format!("{held}:a")]), "TOKEN-2");
    let moved = listed(here)[0]["operation"].to_string();
    let _said = alone(here, &["undo", &moved, "-y"]).ok();
    assert_eq!(here.read("a"), "TOKEN-2\n");
    here.assert_sound("collected");
}

#[test]
fn a_kill_before_it_is_written_leaves_no_gap() {
    for step in ["S8.branch", "S8.done", "O1.written", "O3.noted"] {
        let pair = Pair::new(&[("a", "1\n")]);
        let here = &pair.laptop;
        here.write("a", "2\n");
        let ran = here.once_with(&format!("{step}:kill"));
        assert_eq!(ran.code, Some(128 + 9), "{step}: {ran:?}");
        let _ran = here.once().ok();
        let all = words(here);
        assert_eq!(all[..2], ["edited a", "added a"][..2], "{step}: {all:#?}");
        let _said = alone(here, &["undo", "-y"]).ok();
        assert_eq!(here.read("a"), "1\n", "{step}");
        here.assert_sound(step);
    }
}

#[test]
fn it_begins_anew_after_its_time_and_only_the_chain_before_is_kept() {
    let keeps = Sandbox::named("laptop").with("AUTOSYNC_TEST_KEEP_SECONDS", "-1");
    let pair = Pair::of(keeps, Sandbox::named("server"), &[("a", "0\n")]);
    let here = &pair.laptop;
    for number in 1..5 {
        here.write("a", format!("{number}\n"));
        let _ran = here.once().ok();
    }
    let numbers = |lines: &[serde_json::Value]| {
        let all = lines.iter().map(|line| line["operation"].as_u64().unwrap());
        all.collect::<Vec<u64>>()
    };
    let lines = listed(here);
    assert_eq!(numbers(&lines), [6, 5], "each operation begins a chain");
    let _said = alone(here, &["undo", "-y"]).ok();
    assert_eq!(
        here.read("a"),
        "3\n",
        "the number goes on, and undo knows the newest"
    );
    assert_eq!(numbers(&listed(here)), [7, 6]);
    here.write("a", "5\n");
    let ran = here.once_with("O2.turned:kill");
    assert_eq!(ran.code, Some(128 + 9), "{ran:?}");
    let _ran = here.once().ok();
    assert_eq!(numbers(&listed(here)), [8, 7]);
    let _said = alone(here, &["undo", "-y"]).ok();
    assert_eq!(here.read("a"), "3\n");
    here.assert_sound("turned over");
}

#[test]
fn a_log_that_is_damaged_begins_anew_and_nothing_else_suffers() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    let _ran = here.once().ok();
    here.git(&["update-ref", "refs/worktree/autosync/log", "HEAD"]);
    here.write("a", "3\n");
    let ran = here.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    here.write("a", "4\n");
    let ran = here.once();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    // A person sees it, and where the older ones are.
    let said = alone(here, &["log"]).ok();
    let anew = "the log begins anew: the older operations cannot be read and are kept as";
    assert_eq!(said.matches(anew).count(), 1, "{said}");
    assert!(said.lines().last().unwrap().contains(anew), "{said}");
    let kept = here.git(&["rev-parse", "refs/worktree/autosync/log-lost"]);
    assert_eq!(here.git(&["show", "-s", "--format=%s", &kept]), "laptop: a");
    let _said = alone(here, &["undo", "-y"]).ok();
    assert_eq!(here.read("a"), "3\n");
    pair.converge("anew");
    pair.assert_settled("anew");
}

/// Takes the object of an operation away; returns where it belongs, and what it was.
fn lose(here: &crate::pair::Host, what: &str) -> (PathBuf, Vec<u8>) {
    let id = here.git(&["rev-parse", what]);
    let file = here.at(&format!(".git/objects/{}/{}", &id[..2], &id[2..]));
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    (file, bytes)
}

#[test]
fn a_log_of_which_something_is_missing_shows_the_rest_and_goes_on() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    for text in ["2\n", "3\n", "4\n"] {
        here.write("a", text);
        let _ran = here.once().ok();
    }
    let before = listed(here);
    let (file, bytes) = lose(here, "refs/worktree/autosync/log~2");
    let lines = listed(here);
    assert_eq!(lines[..2], before[..2]);
    let [_, _, lost] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert_eq!(
        (&lost["kind"], &lost["operation"]),
        (&"lost".into(), &before[2]["operation"])
    );
    let said = alone(here, &["log"]).ok();
    assert!(
        said.contains("this operation and those before it cannot be read"),
        "{said}"
    );
    let said = alone(here, &["log", "-n", "2"]).ok();
    assert!(!said.contains("cannot be read"), "{said}");
    fs::write(&file, &bytes).unwrap();
    assert_eq!(listed(here), before);

    // Without the newest, nobody knows where it went on.
    let (_, _) = lose(here, "refs/worktree/autosync/log");
    here.write("a", "5\n");
    let ran = here.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = alone(here, &["log"]).ok();
    assert!(
        said.contains("cannot be read, because ") && said.contains(" is missing"),
        "{said}"
    );
    here.write("a", "6\n");
    let _ran = here.once().ok();
    let _said = alone(here, &["undo", "-y"]).ok();
    assert_eq!(here.read("a"), "5\n");
    pair.converge("without it");
    pair.assert_settled("without it");
}

#[test]
fn thousands_of_operations_are_one_reference_and_offer_the_hub_nothing_more() {
    let pair = Pair::new(&[("a", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("b", "1\n");
    let _ran = there.once().ok();
    let haves = |note: &str| {
        let mut command = here.sandbox.command("git");
        let hub = format!("file://{}", pair.hub.display());
        let out = command
            .args(["fetch", "--dry-run", &hub, "main"])
            .env("GIT_TRACE_PACKET", "1")
            .current_dir(&here.root)
            .output()
            .unwrap();
        let ran = ended(out);
        assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
        ran.err.matches("fetch> have ").count()
    };
    let few = haves("few");
    // As many operations as a busy month has, on top of the log as it is.
    let log = here.git(&["rev-parse", "refs/worktree/autosync/log"]);
    let import = |number: u64| {
        let from = if number == 0 {
            format!("from {log}\n")
        } else {
            String::new()
        };
        let text = format!("operation {number}\n");
        let (length, when) = (text.len(), 1_700_000_000 + number);
        let head = "commit refs/worktree/autosync/log\ncommitter T <t@e>";
        format!("{head} {when} +0000\ndata {length}\n{text}{from}")
    };
    let stream: String = (0..3000).map(import).collect();
    let mut command = here.sandbox.command("git");
    let mut child = command
        .args(["fast-import", "--quiet", "--force"])
        .current_dir(&here.root)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(stream.as_bytes()).unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let many = haves("many");
    assert!(many <= few + 64, "{few} offers before, {many} after");
    let refs = here.git(&[
        "for-each-ref",
        "--format=%(refname)",
        "refs/worktree/autosync/log*",
    ]);
    assert_eq!(refs, "refs/worktree/autosync/log");
}

/// Asks an agent as a script does.
fn get(host: &Host, route: &str) -> (String, serde_json::Value) {
    let mut stream = UnixStream::connect(host.sandbox.paths().control_socket("laptop")).unwrap();
    write!(stream, "GET {route} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn an_agent_and_scripts_and_the_repository_itself_say_the_same() {
    let mut pair = host::Pair::configured(NO_WINDOWS);
    let here = &mut pair.laptop;
    for number in 0..25 {
        here.write("a b", format!("{number}\n"));
        here.synced();
    }
    here.write("\u{e4}", "1\n");
    here.synced();
    let json = |host: &Host, args: &[&str]| {
        let args = [&["log", "--json"], args].concat();
        let out = run_in(host, &host.folder, &args).ok();
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let all: [&[&str]; 4] = [&[], &["-n", "3"], &["a b"], &["\u{e4}"]];
    let said = all.map(|args| json(here, args));
    let count = |log: &serde_json::Value| log.as_array().unwrap().len();
    assert_eq!(said.each_ref().map(count), [20, 3, 20, 1]);
    for (query, expected) in [
        ("", &said[0]),
        ("?number=3", &said[1]),
        ("?folder=Sync&path=a%20b", &said[2]),
        ("?path_hex=c3a4", &said[3]),
    ] {
        let (status, log) = get(here, &format!("/v1/log{query}"));
        assert_eq!((status.as_str(), &log), ("200", expected), "{query}");
    }
    for (query, status, code) in [
        ("?folder=Other", "404", "no-such-folder"),
        ("?path=../x", "400", "bad-request"),
        ("?path_hex=zz", "400", "bad-request"),
        ("?colour=red", "400", "bad-request"),
    ] {
        let (said, log) = get(here, &format!("/v1/log{query}"));
        assert_eq!(said, status, "{query}");
        assert_eq!(log["error"]["code"], code, "{query}");
    }
    here.stop();
    assert_eq!(all.map(|args| json(here, args)), said, "without an agent");
}
