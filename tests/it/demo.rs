//! The demo: it compares what it says it compares, and leaves nobody behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::support::{PROGRAM, Ran, Sandbox};

fn play(sandbox: &Sandbox) -> (Ran, Vec<Value>) {
    let ran = sandbox.run(["demo", "--json"]);
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    let lines = ran.out.lines().map(parse).collect();
    (ran, lines)
}

/// Returns the process ids of the agents that were started.
fn agents(lines: &[Value]) -> Vec<Pid> {
    lines
        .iter()
        .filter_map(|line| line["what"].as_str()?.split_once("(agent "))
        .map(|(_, rest)| rest.split(')').next().unwrap().parse().unwrap())
        .map(|pid| Pid::from_raw(pid).unwrap())
        .collect()
}

fn place(lines: &[Value]) -> PathBuf {
    assert_eq!(lines[0]["event"], "place");
    lines[0]["path"].as_str().unwrap().into()
}

#[track_caller]
fn assert_nothing_is_left(agents: &[Pid], place: &Path) {
    for agent in agents {
        assert!(test_kill_process(*agent).is_err(), "{agent:?} is alive");
    }
    assert!(!place.exists(), "{}", place.display());
}

#[test]
fn the_demo_finds_both_folders_equal_and_every_token() {
    let sandbox = Sandbox::new();
    let (ran, lines) = play(&sandbox);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let result = lines.last().unwrap();
    assert_eq!(result["event"], "result");
    assert_eq!(result["ok"], true);
    assert_eq!(result["failures"], Value::Array(Vec::new()));
    let number = |key: &str| result[key].as_u64().unwrap();
    assert!(number("tokens") > 600, "{result}");
    assert_eq!(number("in_tree") + number("in_history"), number("tokens"));
    assert!(number("in_history") >= 2, "{result}");
    assert_eq!(number("links"), 1);

    let steps: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["what"].as_str())
        .collect();
    for what in [
        "merged",
        "(conflict ",
        "new files in place",
        "started again",
    ] {
        assert!(steps.iter().any(|step| step.contains(what)), "{steps:?}");
    }
    let agents = agents(&lines);
    assert!(agents.len() >= 3, "{steps:?}");
    assert_nothing_is_left(&agents, &place(&lines));
}

#[test]
fn the_demo_fails_where_its_folders_history_or_hub_were_spoiled() {
    let sandbox = Sandbox::new().with("AUTOSYNC_DEMO_SABOTAGE", "tree,mode,token,hub");
    let (ran, lines) = play(&sandbox);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let result = lines.last().unwrap();
    assert_eq!(result["ok"], false);
    let failures: Vec<&str> = result["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure.as_str().unwrap())
        .collect();
    for sentence in [
        "`plan.txt` is on the laptop and not on the server.",
        "`bin/hello` is not the same on the laptop and on the server.",
        "is not on the laptop, neither in the folder nor in its history.",
        "`git fsck` finds a fault on the hub",
    ] {
        let said = |failure: &&str| failure.contains(sentence);
        assert_eq!(
            failures.iter().copied().filter(said).count(),
            1,
            "{failures:#?}"
        );
    }
    assert_nothing_is_left(&agents(&lines), &place(&lines));
}

#[test]
fn the_demo_ends_its_agents_when_it_is_interrupted() {
    let sandbox = Sandbox::new();
    let mut demo = sandbox
        .command(PROGRAM)
        .args(["demo", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(demo.stdout.take().unwrap()).lines();
    let lines: Vec<Value> = (0..3)
        .map(|_| serde_json::from_str(&said.next().unwrap().unwrap()).unwrap())
        .collect();
    let agents = agents(&lines);
    assert_eq!(agents.len(), 2);
    let pid = Pid::from_raw(demo.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert_nothing_is_left(&agents, &place(&lines));
}
