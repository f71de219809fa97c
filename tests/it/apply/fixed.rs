//! Files that cannot be replaced whatever one tries: immutable ones, and those on or below a mount.
//! They wait, with the reason, and everything else is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autosync::process::{self, Patience};
use autosync::repo::bases::Why;

use super::world::{Is, World, disks, path, text};
use crate::network::skipped;
use crate::support::host::Pair;
use crate::support::inside::{ROOT_INSIDE, inside};

fn ran(program: &str, args: &[&str]) -> bool {
    let mut command = process::command(program);
    let patience = Patience::Total(Duration::from_secs(60));
    let done = process::run(command.args(args), b"", patience);
    done.is_ok_and(|done| done.status.success())
}

/// Files and directories with attributes of `chattr(1)`, which have to go before their directory
/// can.
struct Fixed(Vec<PathBuf>);

impl Fixed {
    /// Gives a file such an attribute. `None` where that is not possible.
    fn new(paths: &[(PathBuf, &str)]) -> Option<Self> {
        let mut fixed = Self(Vec::new());
        for (path, attribute) in paths {
            if !ran("chattr", &[attribute, path.to_str()?]) {
                return None;
            }
            fixed.0.push(path.clone());
        }
        Some(fixed)
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        for path in &self.0 {
            ran("chattr", &["-ia", path.to_str().unwrap()]);
        }
    }
}

fn why(world: &World, name: &str) -> String {
    match world.bases.get(&path(name)).map(|base| &base.why) {
        Some(Why::Deferred(why)) => why.clone(),
        other => format!("{other:?}"),
    }
}

fn words(applied: &autosync::engine::event::Applied) -> Vec<(String, String)> {
    let words = applied.deferred.iter();
    words
        .map(|waiting| (waiting.path.to_string(), waiting.why.clone()))
        .collect()
}

#[test]
fn immutable_files_wait_and_the_rest_is_written() {
    for disk in disks() {
        let mut world = World::on(
            &disk,
            &[
                ("changed", text("old")),
                ("deleted", text("old")),
                ("log", text("old")),
                ("mode", text("old")),
                ("shut/in", text("old")),
                ("shut/out", text("old")),
                ("free", text("old")),
            ],
        );
        let fixed = Fixed::new(&[
            (world.at("changed"), "+i"),
            (world.at("deleted"), "+i"),
            (world.at("log"), "+a"),
            (world.at("mode"), "+i"),
            (world.at("shut"), "+i"),
        ]);
        let Some(fixed) = fixed else {
            let why = format!("no chattr on {}", disk.display());
            skipped("immutable_files_wait_and_the_rest_is_written", &why);
            continue;
        };
        let to = world.incoming(&[
            ("changed", text("new")),
            ("deleted", Is::Gone),
            ("log", text("new")),
            ("mode", Is::Script("old".into())),
            ("shut/in", text("new")),
            ("shut/new", text("new")),
            ("shut/out", Is::Gone),
            ("free", text("new")),
            ("more", text("new")),
        ]);
        let applied = world.apply_well(to);
        assert_eq!(applied.count, 2, "{applied:?}");
        for (name, is) in [("free", "file: new"), ("more", "file: new")] {
            assert_eq!(world.stands(name), is);
        }
        let wait = ["changed", "deleted", "log", "mode"];
        let below = ["shut/in", "shut/new", "shut/out"];
        let wanted: Vec<(String, String)> = wait
            .iter()
            .map(|name| (name, "immutable"))
            .chain(below.iter().map(|name| (name, "not permitted")))
            .map(|(name, why)| ((*name).to_owned(), why.to_owned()))
            .collect();
        assert_eq!(words(&applied), wanted, "{}", disk.display());
        for name in wait.iter().chain(&["shut/in", "shut/out"]) {
            assert_eq!(world.stands(name), "file: old", "{name}");
        }
        assert_eq!(world.stands("shut/new"), "nothing");
        world.assert_settled();

        // Once they are like other files, nothing but another try is needed.
        drop(fixed);
        world.apply_well(to);
        assert!(world.bases.is_empty(), "{:?}", world.bases);
        for name in ["changed", "log", "shut/in", "shut/new"] {
            assert_eq!(world.stands(name), "file: new", "{name}");
        }
        assert_eq!(world.stands("mode"), "script: old");
        for name in ["deleted", "shut/out"] {
            assert_eq!(world.stands(name), "nothing", "{name}");
        }
        world.assert_settled();
    }
}

/// Mounts something over a path of the folder.
fn bind(what: &Path, over: &Path) {
    let args = ["--bind", what.to_str().unwrap(), over.to_str().unwrap()];
    assert!(ran("mount", &args), "{args:?}");
}

#[test]
fn what_is_mounted_over_waits_and_the_rest_is_written() {
    let test = "apply::fixed::what_is_mounted_over_waits_and_the_rest_is_written";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    for disk in disks() {
        let mut world = World::on(
            &disk,
            &[
                ("changed", text("old")),
                ("deleted", text("old")),
                ("disk/a", text("old")),
                ("disk/b", text("old")),
                ("free", text("old")),
            ],
        );
        // The same files, so that nothing is changed here.
        for name in ["changed", "deleted", "disk"] {
            bind(&world.at(name), &world.at(name));
        }
        for name in ["empty", "full"] {
            fs::create_dir(world.at(name)).unwrap();
            bind(&world.at(name), &world.at(name));
        }
        fs::write(world.at("full/mine"), "mine").unwrap();
        let to = world.incoming(&[
            ("changed", text("new")),
            ("deleted", Is::Gone),
            ("disk/a", text("new")),
            ("disk/b", Is::Gone),
            ("disk/c", text("new")),
            ("empty", text("new")),
            ("full", text("new")),
            ("free", text("new")),
            ("more", text("new")),
        ]);
        let applied = world.apply_well(to);
        assert_eq!(applied.count, 2, "{applied:?}");
        for (name, is) in [("free", "file: new"), ("more", "file: new")] {
            assert_eq!(world.stands(name), is);
        }
        for name in ["changed", "deleted", "empty"] {
            assert_eq!(why(&world, name), "a mount point", "{name}");
        }
        for name in ["disk/a", "disk/b", "disk/c"] {
            assert_eq!(why(&world, name), "on another file system", "{name}");
        }
        // A file of the user's is in the way of this one, mounted or not.
        assert_eq!(applied.kept, [path("full")]);
        assert_eq!(applied.deferred.len(), 7);
        for name in ["changed", "deleted", "disk/a", "disk/b"] {
            assert_eq!(world.stands(name), "file: old", "{name}");
        }
        assert_eq!(world.stands("full/mine"), "file: mine");
        world.assert_settled();

        for name in ["changed", "deleted", "disk", "empty", "full"] {
            let at = world.at(name);
            assert!(ran("umount", &[at.to_str().unwrap()]), "{name}");
        }
        fs::remove_file(world.at("full/mine")).unwrap();
        world.apply_well(to);
        assert!(world.bases.is_empty(), "{:?}", world.bases);
        for name in ["changed", "disk/a", "disk/c", "empty", "full"] {
            assert_eq!(world.stands(name), "file: new", "{name}");
        }
        for name in ["deleted", "disk/b"] {
            assert_eq!(world.stands(name), "nothing", "{name}");
        }
        world.assert_settled();
    }
}

#[test]
fn status_lists_an_immutable_file_and_the_agent_writes_it_when_it_may() {
    let pair = Pair::new();
    pair.laptop.write("a", "1");
    pair.laptop.write("b", "1");
    pair.equal();
    let Some(fixed) = Fixed::new(&[(pair.server.folder.join("a"), "+i")]) else {
        let test = "status_lists_an_immutable_file_and_the_agent_writes_it_when_it_may";
        return skipped(test, "no chattr here");
    };
    pair.laptop.write("a", "2");
    pair.laptop.write("b", "2");
    pair.server.sees("the other file", |root| {
        fs::read(root.join("b")).is_ok_and(|text| text == b"2")
    });
    pair.quiet();
    let status = pair.server.folder_status();
    let listed: Vec<(&str, &str)> = status
        .deferred
        .iter()
        .map(|waiting| (waiting.path.as_str(), waiting.why.as_str()))
        .collect();
    assert_eq!(listed, [("a", "immutable")]);
    assert_eq!(pair.server.read("a").as_deref(), Some("1"));

    drop(fixed);
    pair.server.sees("the new version", |root| {
        fs::read(root.join("a")).is_ok_and(|text| text == b"2")
    });
    pair.ends_well();
    assert!(pair.server.folder_status().deferred.is_empty());
}
