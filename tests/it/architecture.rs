//! The shape of the house, held by test: what the pure rooms must not know, and sizes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that decide and never do.
const PURE: &[&str] = &["src/engine.rs", "src/engine", "src/names.rs", "src/names"];

/// What plays the model of the hosts, on all processors: no part of what is shipped.
const PLAYS: &str = "src/engine/sim/runner.rs";

/// What a pure room must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "tokio",
    "git2",
    "rustix",
    "libc",
    "Instant::now",
    "SystemTime",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.is_file() {
        found.push(dir.to_owned());
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn all(dirs: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in dirs {
        sources(&root().join(dir), &mut found);
    }
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    for (name, text) in all(PURE).into_iter().filter(|it| it.0 != PLAYS) {
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        for word in IMPURE {
            assert!(!code.contains(word), "{name} names `{word}`");
        }
    }
}

#[test]
fn no_file_is_longer_than_700_lines() {
    for (name, text) in all(&["src", "tests", "benches"]) {
        let lines = text.lines().count();
        assert!(lines <= 700, "{name} has {lines} lines");
    }
}

#[test]
fn there_is_no_mod_rs() {
    for (name, _) in all(&["src", "tests"]) {
        assert!(!name.ends_with("/mod.rs"), "{name}");
    }
}

#[test]
fn every_test_file_is_part_of_the_one_binary() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(
            stem == "main" || main.contains(&format!("mod {stem};")),
            "tests/it/{name}"
        );
    }
}

/// Words that no git command of ours may have: each throws away what somebody may still want, lets
/// git write the work tree, or takes in what nobody chose.
const NEVER: &[&str] = &[
    "--discard-changes",
    "--expire=now",
    "--force",
    "--force-if-includes",
    "--force-with-lease",
    "--hard",
    "--mirror",
    "--prune",
    "--prune-tags",
    "--prune=now",
    "-A",
    "-f",
    "-fdx",
    "am",
    "checkout",
    "checkout-index",
    "clean",
    "filter-branch",
    "gc",
    "prune",
    "pull",
    "--reset",
    "-u",
    "rebase",
    "reflog",
    "reset",
    "restore",
    "rm",
    "stash",
    "switch",
];

/// Files that name the commands of the user's git, in order to wait for them.
const NAMES_OTHERS: &[&str] = &["src/git/gate.rs"];

/// Returns every string in the code of a file that is shipped: no comments, no unit tests.
fn strings(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    for line in code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        let pieces: Vec<&str> = line.split('"').collect();
        found.extend(
            pieces
                .iter()
                .skip(1)
                .step_by(2)
                .map(|word| (*word).to_owned()),
        );
    }
    found
}

#[test]
fn no_git_command_throws_anything_away() {
    let mut seen = BTreeSet::new();
    for (name, text) in all(&["src"]) {
        let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
        if is_test || NAMES_OTHERS.contains(&name.as_str()) {
            continue;
        }
        for word in strings(&text) {
            assert!(!NEVER.contains(&word.as_str()), "{name} says `{word}`");
            // What moves by force: only what we remember of others.
            let forced = word.starts_with('+') && word.contains(':');
            let ours = word.contains(":{FETCHED}") || word.contains(":refs/remotes/");
            assert!(!forced || ours, "{name}: `{word}`");
            seen.insert(word);
        }
    }
    // Whether what is looked for would be found.
    for word in [
        "push",
        "fetch",
        "repack",
        "maintenance",
        "update-ref",
        "init",
    ] {
        assert!(seen.contains(word), "no command `{word}` is seen");
    }
    for script in ["src/transport/hub_ssh/watch.sh", "src/repo/network/root.rs"] {
        let text = fs::read_to_string(root().join(script)).unwrap();
        let code = text.lines().map(str::trim_start);
        let code = code.filter(|line| !line.starts_with(['#', '/']));
        let mut words = code.flat_map(str::split_whitespace);
        let bad = words.find(|word| NEVER.contains(word) && !["rm", "-f"].contains(word));
        assert_eq!(bad, None, "{script}");
    }
}

/// What a test says or calls that cannot run in every container, as every user and with every git.
const NEEDS_MORE: &[&str] = &[
    "inside(",
    "inside_with_fuse(",
    "!may(",
    "cannot mount",
    "needs root",
    "no reftable",
    "no chattr",
];

#[test]
fn what_may_be_skipped_is_listed_and_nothing_else_is() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let list = script.split("allowed_skips=\"\n").nth(1).unwrap();
    let list = list.split("\n\"\n").next().unwrap();
    let listed: BTreeSet<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let mut tests = BTreeSet::new();
    for (_, text) in all(&["tests/it"]) {
        for part in text.split("#[test]\n").skip(1) {
            let name = part.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            let body = part.split("\n}\n").next().unwrap();
            let more = NEEDS_MORE.iter().any(|word| body.contains(word));
            assert!(
                !more || listed.contains(name),
                "{name} may be skipped, .ci/run does not say so"
            );
            tests.insert(name.to_owned());
        }
    }
    for name in listed {
        assert!(tests.contains(name), "there is no test {name}");
    }
}

/// A line that moved would leave `tests/mutants` with one mutant less until somebody runs it.
#[test]
fn every_mutant_has_its_line_in_the_source() {
    let table = fs::read_to_string(root().join("tests/cases/mutants")).unwrap();
    let (mut text, mut mutants) = (String::new(), 0);
    for line in table.lines() {
        if let Some(file) = line.strip_prefix("in ") {
            text = fs::read_to_string(root().join(file)).unwrap();
        } else if let Some(old) = line.strip_prefix("- ") {
            assert_eq!(text.matches(old).count(), 1, "{old}");
            mutants += 1;
        }
    }
    assert!(mutants >= 10, "{mutants}");
}
