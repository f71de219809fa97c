//! What counts can change while it is watched: ignore rules, exceptions, repositories that
//! appear inside the folder.

use std::collections::BTreeSet;
use std::fs;

use autosync::engine::event::{ChangeKind, RescanWhy};

use super::{BOTH, Scene, path};

fn paths(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_change_of_the_rules_is_followed_live() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("build/deep")).unwrap();
            fs::write(root.join(".gitignore"), "build/\n").unwrap();
        });
        scene.write("build/deep/a", "1");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");

        scene.write(".gitignore", "other/\n");
        let heard = scene.heard();
        assert!(
            heard.rescans.contains(&RescanWhy::Rules),
            "{backend:?}: {heard:?}"
        );
        assert_eq!(heard.kind(".gitignore"), Some(ChangeKind::Closed));
        scene.write("build/deep/a", "2");
        assert_eq!(
            scene.heard().paths(),
            paths(&["build/deep/a"]),
            "{backend:?}"
        );

        scene.write(".gitignore", "build/\n");
        assert!(scene.heard().rescans.contains(&RescanWhy::Rules));
        scene.write("build/deep/a", "3");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");
        assert_eq!(scene.watcher.summary().watched, 1, "{backend:?}");

        fs::remove_file(scene.at(".gitignore")).unwrap();
        assert!(scene.heard().rescans.contains(&RescanWhy::Rules));
        scene.write("build/deep/a", "4");
        assert_eq!(
            scene.heard().paths(),
            paths(&["build/deep/a"]),
            "{backend:?}"
        );
    }
}

#[test]
fn rules_that_say_the_same_again_change_nothing() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::write(root.join(".gitignore"), "build/\n").unwrap();
        });
        scene.write("new", "build/\n");
        fs::rename(scene.at("new"), scene.at(".gitignore")).unwrap();
        let heard = scene.heard();
        assert_eq!(heard.kind(".gitignore"), Some(ChangeKind::Closed));
        assert_eq!(heard.rescans, [], "{backend:?}");
    }
}

#[test]
fn rules_outside_the_tree_are_followed_too() {
    for backend in BOTH {
        let scene = Scene::with(
            backend,
            |root| {
                fs::create_dir_all(root.join("../config/real")).unwrap();
                fs::write(root.join("../config/real/ignore"), "*.a\n").unwrap();
                std::os::unix::fs::symlink("real/ignore", root.join("../config/ignore")).unwrap();
                fs::remove_dir(root.join(".git/info")).unwrap();
            },
            |settings| {
                let global = settings.root.join("../config").canonicalize().unwrap();
                settings.global_excludes = Some(global.join("ignore"));
            },
        );
        let rules = |text: &str, file: &str| {
            scene.write(file, text);
            let heard = scene.heard();
            assert_eq!(heard.rescans, [RescanWhy::Rules], "{file} on {backend:?}");
        };
        scene.write("x.a", "1");
        assert_eq!(scene.heard().paths(), paths(&[]));
        // The file that the link leads to.
        rules("*.b\n", "../config/real/ignore");
        scene.write("x.a", "2");
        scene.write("x.b", "2");
        assert_eq!(scene.heard().paths(), paths(&["x.a"]), "{backend:?}");
        // The directory does not even exist yet.
        fs::create_dir(scene.at(".git/info")).unwrap();
        scene.heard();
        rules("*.a\n", ".git/info/exclude");
        scene.write("x.a", "3");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");
        fs::remove_file(scene.at(".git/info/exclude")).unwrap();
        assert_eq!(scene.heard().rescans, [RescanWhy::Rules], "{backend:?}");
        scene.write("x.a", "4");
        assert_eq!(scene.heard().paths(), paths(&["x.a"]), "{backend:?}");
    }
}

#[test]
fn a_tracked_file_counts_though_it_is_ignored_or_has_a_transient_name() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("target/deep")).unwrap();
            fs::write(root.join(".gitignore"), "target/\n*.o\n").unwrap();
        });
        let tracked = ["target/deep/kept", "a.o", "notes~"];
        let write = |text: &str| {
            for name in [
                "target/deep/kept",
                "target/deep/other",
                "a.o",
                "b.o",
                "notes~",
                "b~",
            ] {
                scene.write(name, text);
            }
        };
        write("1");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");
        scene
            .watcher
            .set_tracked_ignored(tracked.iter().map(|name| path(name)).collect());
        // What happened to them before is unknown, so they are reported once.
        assert_eq!(scene.heard().paths(), paths(&tracked), "{backend:?}");
        write("2");
        assert_eq!(scene.heard().paths(), paths(&tracked), "{backend:?}");
        fs::remove_dir_all(scene.at("target")).unwrap();
        assert!(
            scene.heard().covers(&path("target/deep/kept")),
            "{backend:?}"
        );
        fs::create_dir_all(scene.at("target/deep")).unwrap();
        scene.write("target/deep/kept", "3");
        assert!(
            scene.heard().covers(&path("target/deep/kept")),
            "{backend:?}"
        );

        scene.watcher.set_tracked_ignored(BTreeSet::new());
        scene.heard();
        write("4");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");
    }
}

#[test]
fn a_repository_inside_is_a_boundary_from_the_moment_it_appears() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("lib/src")).unwrap();
        });
        scene.write("lib/src/a", "1");
        assert_eq!(scene.heard().paths(), paths(&["lib/src/a"]), "{backend:?}");
        fs::create_dir(scene.at("lib/.git")).unwrap();
        assert_eq!(
            scene.heard().kind("lib"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("lib/src/a", "2");
        scene.write("lib/b", "2");
        fs::create_dir(scene.at("lib/new")).unwrap();
        scene.write("lib/.git/HEAD", "2");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");

        fs::remove_dir_all(scene.at("lib/.git")).unwrap();
        assert_eq!(
            scene.heard().kind("lib"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("lib/src/a", "3");
        assert_eq!(scene.heard().paths(), paths(&["lib/src/a"]), "{backend:?}");
        // A submodule or a linked work tree has a file.
        scene.write("lib/.git", "gitdir: ../elsewhere\n");
        assert_eq!(
            scene.heard().kind("lib"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("lib/src/a", "4");
        assert_eq!(scene.heard().paths(), paths(&[]), "{backend:?}");
    }
}

#[test]
fn the_repository_is_silent_wherever_it_lies_and_its_state_is_told_apart() {
    for backend in BOTH {
        let scene = Scene::with(
            backend,
            |root| fs::create_dir_all(root.join("dot/files.git/objects")).unwrap(),
            |settings| {
                settings.git_dir = settings.root.join("dot/files.git");
                settings.common_dir = settings.git_dir.clone();
            },
        );
        scene.write("dot/files.git/objects/a", "1");
        scene.write("dot/files.git/FETCH_HEAD", "1");
        let heard = scene.heard();
        assert_eq!(
            (heard.paths(), heard.git_moved),
            (paths(&[]), 0),
            "{backend:?}"
        );
        for name in ["HEAD", "index.lock", "MERGE_HEAD", "rebase-merge"] {
            scene.write(&format!("dot/files.git/{name}"), "1");
            let heard = scene.heard();
            assert_eq!(heard.paths(), paths(&[]), "{name} {backend:?}");
            // Making it and closing it may be told apart, but not more than that.
            assert!(
                (1..=2).contains(&heard.git_moved),
                "{name} {backend:?}: {heard:?}"
            );
        }
        for n in 0..200 {
            scene.write("dot/files.git/index.lock", &n.to_string());
            fs::rename(
                scene.at("dot/files.git/index.lock"),
                scene.at("dot/files.git/index"),
            )
            .unwrap();
        }
        let moved = scene.heard().git_moved;
        assert!((1..50).contains(&moved), "{moved} on {backend:?}");
    }
}

#[test]
fn names_may_hold_anything_and_a_link_to_everything_is_only_a_link() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            std::os::unix::fs::symlink("/", root.join("everything")).unwrap();
        });
        assert_eq!(scene.watcher.summary().watched, 1);
        fs::create_dir(scene.at("a\nb \u{e4}")).unwrap();
        let odd = std::ffi::OsStr::new("a\nb \u{e4}/c\n\u{7f}");
        fs::write(scene.root.join(odd), "1").unwrap();
        std::os::unix::fs::symlink("/", scene.at("again")).unwrap();
        assert!(scene.heard().covers(&path("a\nb \u{e4}/c\n\u{7f}")));
        scene.write("a\nb \u{e4}/c\n\u{7f}", "2");
        assert_eq!(
            scene.heard().kind("a\nb \u{e4}/c\n\u{7f}"),
            Some(ChangeKind::Closed)
        );
        assert_eq!(scene.watcher.summary().watched, 2, "{backend:?}");
    }
}

#[test]
fn a_rescan_finds_nothing_to_report_where_nothing_was_missed() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("a/b/c")).unwrap();
        });
        scene.watcher.rescan();
        let heard = scene.heard();
        assert_eq!(
            (heard.paths(), heard.rescans.len()),
            (paths(&[]), 0),
            "{backend:?}"
        );
        scene.write("a/b/c/d", "1");
        assert_eq!(scene.heard().paths(), paths(&["a/b/c/d"]), "{backend:?}");
    }
}
