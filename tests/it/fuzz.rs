//! Every input that the search of `tests/fuzz/run` kept, and changes of them, keep the promises of
//! `src/fuzz.rs`.
//!
//! In CI the corpus is played as it is, and so many changed inputs of each kind. More are asked for
//! with `AUTOSYNC_TEST_FUZZ=200000`; `AUTOSYNC_TEST_SEED` gives other ones.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use autosync::fuzz::{SECRET, TARGETS, play};
use autosync::names::escape;

/// So many changed inputs of each kind are played when nobody says how many.
const CHANGED: u64 = 1_000;

/// The corpus is small enough to be looked through.
const LARGEST: u64 = 300 * 1024;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Returns the inputs of a kind with their names, in the order of the names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = corpus().join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut found: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Plays an input and says which it was if something is wrong with it.
fn check(target: &str, name: &str, input: &[u8]) {
    let played = catch_unwind(|| play(target, input));
    assert!(played.is_ok(), "{target}/{name}: {}", escape(input));
}

#[test]
fn every_kind_of_input_has_a_corpus_and_every_corpus_a_kind() {
    let mut size = 0;
    for entry in fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|it| it.0 == name), "{name} is no target");
    }
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 3, "{target}");
        size += inputs.iter().map(|it| it.1.len() as u64).sum::<u64>();
    }
    assert!(size <= LARGEST, "{size} bytes");
    let manifest = corpus().join("../Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    for (target, _) in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target}"
        );
    }
}

#[test]
fn what_was_found_once_keeps_the_promises() {
    for (target, _) in TARGETS {
        for (name, input) in inputs(target) {
            check(target, &name, &input);
        }
    }
}

/// Changes an input at random: bytes, pieces of it, pieces of another.
fn change(rng: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    const TELLING: &[&[u8]] = &[
        b"\0",
        b"\t",
        b"\n",
        b"/",
        b"..",
        b".git",
        b"-",
        b"'",
        b"\"",
        b"\\",
        b"@",
        b":",
        b"://",
        b"%2f",
        b"&amp;",
        b"=",
        b" ",
        b"\xff",
        b"\xe2\x80\x8c",
        b"~1",
        b" (conflict ",
        b"[",
        b"]",
        b"18446744073709551616",
        b"-1",
        b"\x1b",
        b"S3CRET-xyz",
        b" -> ",
        b".lock",
    ];
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(0..=input.len());
        let end = (at + rng.usize(0..8)).min(input.len());
        match rng.u8(0..6) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
            1 => drop(input.drain(at..end)),
            2 => drop(input.splice(at..end, rng.choice(TELLING).unwrap().iter().copied())),
            3 => {
                let piece = input[at..end].to_vec();
                let times = rng.usize(1..40);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            4 if !other.is_empty() => {
                let from = rng.usize(0..other.len());
                let piece = &other[from..(from + rng.usize(1..64)).min(other.len())];
                drop(input.splice(at..end, piece.iter().copied()));
            }
            _ => input.insert(at, rng.u8(..)),
        }
    }
}

#[test]
fn what_is_like_it_keeps_them_too() {
    let many = number("AUTOSYNC_TEST_FUZZ", CHANGED);
    let mut rng = fastrand::Rng::with_seed(number("AUTOSYNC_TEST_SEED", 0));
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        for nth in 0..many {
            let (_, input) = rng.choice(&inputs).unwrap();
            let (_, other) = rng.choice(&inputs).unwrap();
            let mut input = input.clone();
            change(&mut rng, &mut input, other);
            check(target, &format!("changed input {nth}"), &input);
        }
    }
}

#[test]
fn the_corpus_would_show_a_leak() {
    let inputs = inputs("config");
    let with_secret = |it: &&(String, Vec<u8>)| {
        let text = String::from_utf8_lossy(&it.1);
        text.lines()
            .any(|line| line.starts_with("password") && line.contains(SECRET))
    };
    assert!(inputs.iter().any(|it| with_secret(&it)));
}
