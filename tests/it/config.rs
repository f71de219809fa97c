//! The example of a configuration and the code say the same.

use std::collections::BTreeSet;
use std::path::Path;

use autosync::config::{self, EXAMPLE, FolderSettings, Settings};
use autosync::paths::Env;

fn env() -> Env {
    let vars = [("HOME", "/home/me"), ("AUTOSYNC_HOST", "box")];
    vars.into_iter().collect()
}

fn parse(text: &str) -> Settings {
    // Without the variable, so that the key `host` counts.
    let env = [("HOME", "/home/me")].into_iter().collect();
    Settings::parse(text, Path::new("/etc/autosync.toml"), &env).unwrap()
}

/// Returns the key that a line sets, or would set without its `#`.
fn key_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (key, _) = line.split_once(" = ")?;
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    key.chars().all(plain).then_some(key)
}

#[test]
fn the_example_holds_the_defaults() {
    let example = Settings::parse(EXAMPLE, Path::new("/etc/autosync.toml"), &env()).unwrap();
    let mut defaults = Settings::defaults(&env()).unwrap();
    defaults.folders = vec![FolderSettings::new("/home/me/Sync".into())];
    assert_eq!(example, defaults);
}

#[test]
fn the_example_and_the_code_have_the_same_keys() {
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some(key) = key_of(line) {
            assert!(found.insert(format!("{table}{key}")), "{table}{key} twice");
        }
    }
    assert_eq!(found, config::keys().into_iter().collect());
}

#[test]
fn every_key_that_is_off_means_something_once_it_is_on() {
    let mut tried = 0;
    for off in EXAMPLE.lines().filter(|line| line.starts_with("# ")) {
        let Some(key) = key_of(off) else {
            continue;
        };
        // What lies in a table without its first key says nothing.
        let mut with = EXAMPLE.to_owned();
        for first in ["jid", "server = \"tcp"] {
            if !off[2..].starts_with(first) {
                with = with.replace(&format!("# {first}"), first);
            }
        }
        let after = with.replace(off, &off[2..]);
        assert_ne!(after, with, "{key}");
        assert_ne!(parse(&after), parse(&with), "{off}");
        tried += 1;
    }
    assert_eq!(tried, 19);
}

#[test]
fn every_key_that_is_on_means_something_once_it_is_changed() {
    // What lies in a table without its first key says nothing.
    let example = EXAMPLE.replace("# jid", "jid");
    let before = parse(&example);
    let on = example.lines().filter(|line| !line.starts_with('#'));
    for line in on.filter(|line| key_of(line).is_some()) {
        let key = key_of(line).unwrap();
        let other = match key {
            "jid" => "\"you@example.org\"",
            "tls" => "\"direct\"",
            "legacy" => "true",
            "also_notify" | "peers" => "[\"her@example.org\"]",
            "notify" => "\"summary\"",
            "describe" => "\"ask\"",
            "path" => "\"~/Other\"",
            "only" | "exclude" => "[\"*.iso\"]",
            "push" | "receive" => "\"off\"",
            "conflict" => "\"copy\"",
            "quiet" => "\"20ms\"",
            "quiet_max" | "max_wait" | "max_wait_open" => "\"7m\"",
            "mass_delete_files" | "mass_delete_percent" | "mass_delete_top" | "new_files" => "7",
            "unattended" => "\"apply-after 24h\"",
            "secrets" | "junk" => "false",
            "new_bytes" => "\"1GiB\"",
            "level" => "\"trace\"",
            "format" => "\"json\"",
            key => panic!("what else can `{key}` be?"),
        };
        // A key can stand in two tables, so its own line is changed and no other.
        let at = line.as_ptr() as usize - example.as_ptr() as usize;
        let (head, tail) = example.split_at(at);
        let changed = format!("{head}{key} = {other}{}", &tail[line.len()..]);
        assert_ne!(parse(&changed), before, "{line}");
    }
}

#[test]
fn every_key_of_the_example_has_words_above_it() {
    let mut above = "";
    for line in EXAMPLE.lines() {
        if key_of(line).is_some() {
            let words = above.starts_with("# ") && key_of(above).is_none();
            assert!(words, "`{line}` stands without words");
        }
        above = line;
    }
}

#[test]
fn the_engine_has_the_same_defaults() {
    let (engine, meant) = (
        autosync::engine::settings::Settings::default(),
        Settings::defaults(&env()).unwrap(),
    );
    let (settle, push) = (engine.settle, engine.push);
    assert_eq!(
        (
            settle.quiet,
            settle.quiet_max,
            settle.max_wait,
            settle.max_wait_open
        ),
        (
            meant.settle.quiet,
            meant.settle.quiet_max,
            meant.settle.max_wait,
            meant.settle.max_wait_open
        )
    );
    assert_eq!(
        (push.quiet, push.quiet_max, push.max_wait),
        (meant.push.quiet, meant.push.quiet_max, meant.push.max_wait)
    );
}
