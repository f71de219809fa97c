//! The hostile names of git's own tests, made anew: whatever `git fsck --strict` refuses is refused.

use std::fs;

use autosync::git::objects::{Kind, Objects};
use autosync::git::tree::{self, DIRECTORY, EXECUTABLE, Entry, FILE, GITLINK, Line, SYMLINK};
use autosync::names::{ObjectId, danger};
use serde::Deserialize;

use crate::apply::world::World;

/// A case of `tests/cases/hostile_names.toml`.
#[derive(Debug, Deserialize)]
struct Case {
    /// The name of an entry; `\xNN` is a byte.
    name: String,
    /// Whether it is refused whatever stands there, only for a link, or never.
    refused: Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Refused {
    Always,
    Link,
    Never,
}

#[derive(Debug, Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// Reads `\xNN` as a byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let byte = rest.get(at + 2..at + 4);
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.push(byte.unwrap_or(b'\\'));
        rest = &rest[at + if byte.is_some() { 4 } else { 1 }..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Returns whether a tree would be taken.
fn is_taken(objects: &Objects, tree: ObjectId) -> bool {
    let differences = tree::differences(objects, None, Some(tree));
    differences.is_ok_and(|all| {
        all.iter().all(|it| {
            let mode = it.new.unwrap().mode;
            danger(&it.path, mode).is_none()
        })
    })
}

#[test]
fn whatever_git_fsck_refuses_as_a_name_is_refused() {
    let place = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string(format!("{place}/tests/cases/hostile_names.toml")).unwrap();
    let cases: Cases = toml::from_str(&text).unwrap();
    let world = World::new(&[]);
    let objects = &world.place.objects;
    let blob = objects.write(Kind::Blob, b"target").unwrap();
    let line = |name: &[u8], mode, id| Line {
        name: name.to_vec(),
        entry: Entry { mode, id },
    };
    let inner = objects.write_tree(vec![line(b"x", FILE, blob)]).unwrap();
    let mut trees = Vec::new();
    for case in &cases.case {
        for mode in [FILE, EXECUTABLE, SYMLINK, DIRECTORY, GITLINK] {
            let id = match mode {
                DIRECTORY => inner,
                GITLINK => ObjectId::from_hex("1".repeat(40)).unwrap(),
                _ => blob,
            };
            let at_top = objects
                .write_tree(vec![line(&bytes(&case.name), mode, id)])
                .unwrap();
            let below = objects
                .write_tree(vec![line(b"d", DIRECTORY, at_top)])
                .unwrap();
            trees.push((case, mode, at_top, below));
        }
    }
    let done = world
        .place
        .git
        .ask("fsck", ["--strict", "--no-dangling"], b"")
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let mut wrong = Vec::new();
    let mut by_git = 0;
    for (case, mode, at_top, below) in trees {
        let git_refuses = said.contains(&format!("error in tree {at_top}: "));
        by_git += usize::from(git_refuses);
        let wanted = match case.refused {
            Refused::Always => true,
            Refused::Link => mode == SYMLINK,
            Refused::Never => false,
        };
        for (where_, tree) in [("at the top", at_top), ("below", below)] {
            let refused = !is_taken(objects, tree);
            if refused != wanted || git_refuses && !refused {
                let name = &case.name;
                wrong.push(format!(
                    "{name:?} {mode:o} {where_}: wanted {wanted}, ours {refused}, git {git_refuses}"
                ));
            }
        }
    }
    assert!(by_git > 60, "{said}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
