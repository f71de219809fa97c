//! Directories that something else than this machine's programs changes, which makes no events:
//! a file system in user space stands for a network share. What is done to the directory behind it
//! is what another machine does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autosync::engine::event::{ChangeKind, Code, RescanWhy};
use autosync::watch::{WatchEvent, WatchSettings};

use super::edges::{ROOT_INSIDE, inside, run, runs};
use super::{BOTH, Scene, path};
use crate::support::host::Host;
use crate::support::{Sandbox, ended};

/// So seldom that nothing in a test is ever due.
const NEVER: Duration = Duration::from_secs(86_400);

/// Returns true in a process that may mount a file system in user space.
fn inside_with_fuse(test: &str) -> bool {
    if std::env::var_os(super::edges::INSIDE).is_none() {
        let place = tempfile::tempdir().unwrap();
        let [source, point] = ["source", "point"].map(|name| place.path().join(name));
        for dir in [&source, &point] {
            fs::create_dir(dir).unwrap();
        }
        let script = format!(
            "bindfs '{}' '{point}' && umount '{point}'",
            source.display(),
            point = point.display()
        );
        let mut arguments = ROOT_INSIDE.to_vec();
        arguments.extend(["sh", "-c", &script]);
        if !runs("unshare", &arguments) {
            #[expect(clippy::print_stderr, reason = "a skip is told")]
            {
                eprintln!("SKIPPED {test}: no file systems in user space here");
            }
            return false;
        }
    }
    inside(ROOT_INSIDE, &format!("remote::{test}"))
}

/// Mounts what stands for a share at `disk`; returns the directory behind it.
fn share(root: &Path) -> PathBuf {
    let behind = root.join("../behind");
    fs::create_dir_all(behind.join("deep")).unwrap();
    fs::write(behind.join("old"), "1").unwrap();
    fs::write(behind.join("gone"), "1").unwrap();
    let disk = root.join("disk");
    fs::create_dir(&disk).unwrap();
    run(
        "bindfs",
        &[behind.to_str().unwrap(), disk.to_str().unwrap()],
    );
    behind
}

/// Unmounts a share. A look at a directory may have it open at this very moment, which is no reason
/// to stay: it goes as a share does that is torn away.
fn take_away(disk: &Path) {
    run("umount", &["--lazy", disk.to_str().unwrap()]);
}

fn watching(backend: autosync::watch::Backend, often: Duration) -> Scene {
    let adapt = |settings: &mut WatchSettings| settings.poll_often = often;
    let prepare = |root: &Path| {
        fs::create_dir(root.join("local")).unwrap();
        share(root);
    };
    Scene::with(backend, prepare, adapt)
}

#[test]
fn what_other_machines_change_is_polled_and_what_this_one_changes_is_told() {
    const TEST: &str = "what_other_machines_change_is_polled_and_what_this_one_changes_is_told";
    if !inside_with_fuse(TEST) {
        return;
    }
    for backend in BOTH {
        let scene = watching(backend, Duration::from_millis(50));
        let summary = scene.watcher.summary();
        assert_eq!((summary.remote, summary.unwatched), (2, 0), "{backend:?}");
        assert_eq!(summary.kind, Some("fuse"));
        let trouble = summary.trouble().unwrap();
        assert_eq!(trouble.code, Code::RemoteDisk);
        assert!(
            trouble.message.contains("2 of 4 directories"),
            "{trouble:?}"
        );
        assert!(trouble.message.contains("fuse"), "{trouble:?}");
        assert_eq!(scene.next(), Some(WatchEvent::Unwatched(summary)));

        let behind = scene.at("../behind");
        fs::write(behind.join("new"), "1").unwrap();
        fs::write(behind.join("old"), "22").unwrap();
        fs::remove_file(behind.join("gone")).unwrap();
        fs::write(behind.join("deep/a"), "1").unwrap();
        fs::create_dir_all(behind.join("made/deeper")).unwrap();
        scene.until(|heard| {
            ["new", "old", "gone", "deep/a", "made"]
                .iter()
                .all(|name| heard.covers(&path(&format!("disk/{name}"))))
        });
        fs::write(behind.join("made/deeper/b"), "1").unwrap();
        scene.until(|heard| heard.covers(&path("disk/made/deeper/b")));

        scene.write("local/c", "1");
        assert_eq!(scene.heard().kind("local/c"), Some(ChangeKind::Closed));
        take_away(&scene.at("disk"));
        scene.until(|heard| heard.rescans.contains(&RescanWhy::Remount));
        assert_eq!(scene.watcher.summary().trouble(), None, "{backend:?}");
    }
}

#[test]
fn an_echo_comes_after_what_no_event_tells() {
    const TEST: &str = "an_echo_comes_after_what_no_event_tells";
    if !inside_with_fuse(TEST) {
        return;
    }
    for backend in BOTH {
        let scene = watching(backend, NEVER);
        assert!(matches!(scene.next(), Some(WatchEvent::Unwatched(_))));
        let behind = scene.at("../behind");
        for n in 0..20 {
            fs::write(behind.join("old"), "x".repeat(n)).unwrap();
            fs::write(behind.join(format!("deep/{n}")), "1").unwrap();
            let heard = scene.heard();
            assert!(heard.covers(&path("disk/old")), "{n}: {heard:?}");
            assert!(heard.covers(&path(&format!("disk/deep/{n}"))), "{n}");
            let again = scene.heard();
            assert!(again.changes.is_empty(), "{n}: {again:?}");
        }
        // What this machine does is an event, as anywhere.
        fs::write(scene.at("disk/here"), "1").unwrap();
        scene.until(|heard| heard.covers(&path("disk/here")));
        take_away(&scene.at("disk"));
    }
}

#[test]
fn an_agent_says_that_its_folder_is_on_a_share_and_commits_what_others_do_there() {
    const TEST: &str =
        "an_agent_says_that_its_folder_is_on_a_share_and_commits_what_others_do_there";
    if !inside_with_fuse(TEST) {
        return;
    }
    let sandbox = Sandbox::named("laptop");
    let behind = sandbox.root().join("behind");
    fs::create_dir(&behind).unwrap();
    let mut laptop = Host::of(sandbox, "laptop");
    fs::create_dir(&laptop.folder).unwrap();
    let point = laptop.folder.clone();
    let mut mount = laptop.sandbox.command("bindfs");
    let ran = ended(mount.arg(&behind).arg(&point).output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    laptop.start();
    laptop.write("here", "1\n");
    laptop.synced();
    let status = laptop.folder_status();
    assert_eq!(status.code, "remote-disk", "{status:#?}");
    assert!(status.message.contains("fuse"), "{status:#?}");
    let page = laptop.run(["status"]);
    assert_eq!(page.code, Some(0), "{page:?}");
    assert!(page.out.contains("other machines change"), "{page:?}");

    fs::write(behind.join("there"), "1\n").unwrap();
    let status = laptop.barrier();
    assert_eq!(status.pending.paths, 0);
    assert_eq!(laptop.git(["show", "HEAD:there"]), "1");
    fs::write(behind.join("there"), "2\n").unwrap();
    laptop.barrier();
    assert_eq!(laptop.git(["show", "HEAD:there"]), "2");
    laptop.assert_quiet();
    laptop.stop();
    take_away(&point);
}
