//! Pushes to a hub on a path that would only store them: few commits go without `git push`, and
//! whatever a hub would do beside storing is still done by git.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use autosync::engine::event::Pushed;

use super::{World, confirmed, git, world};

/// Lets `receive-pack` die of its own configuration, so that a push that gets through did not need it.
fn break_receive_pack(hub: &Path) {
    git(hub, &["config", "receive.unpackLimit", "broken"]);
}

#[test]
fn few_commits_reach_a_plain_hub_without_its_receive_pack_and_it_is_whole() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    break_receive_pack(&hub);
    let left = a.commit(&[root], "left", "l");
    let right = a.commit(&[root], "right", "r");
    let merge = a.commit(&[left, right], "merge", "m");
    assert_eq!(a.push(left), confirmed(left));
    // As after a push whose answer was lost.
    assert_eq!(a.push(left), confirmed(left));
    assert_eq!(a.push(right), Pushed::Rejected);
    assert_eq!(a.push(merge), confirmed(merge));
    assert_eq!(git(&hub, &["rev-parse", "main"]), merge.to_string());
    assert_eq!(a.seen(), Some(merge));
    git(&hub, &["config", "--unset", "receive.unpackLimit"]);
    git(&hub, &["fsck", "--strict"]);
    git(b.root(), &["fetch", "-q", hub.to_str().unwrap(), "main"]);
    let theirs = b.commit(&[root], "b", "b");
    assert_eq!(b.push(theirs), Pushed::Rejected);
    assert!(!hub.join("refs/heads/main.lock").exists());
}

#[test]
fn a_hub_that_does_more_than_store_is_pushed_to_by_git() {
    let World {
        dir: _dir, hub, a, ..
    } = world();
    let mut tip = a.commit(&[], "one", "1");
    assert_eq!(a.push(tip), confirmed(tip));
    let by_git =
        |what: &str, tip: &mut autosync::names::ObjectId, with: &dyn Fn(), without: &dyn Fn()| {
            let next = a.commit(&[*tip], "file", what);
            with();
            break_receive_pack(&hub);
            assert!(matches!(a.push(next), Pushed::Failed(_)), "{what}");
            without();
            assert_eq!(a.push(next), confirmed(next), "{what}");
            git(&hub, &["config", "--unset", "receive.unpackLimit"]);
            *tip = next;
        };
    for hook in [
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
    ] {
        let hook = hub.join("hooks").join(hook);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        let with = || {
            fs::write(&hook, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let without = || fs::remove_file(&hook).unwrap();
        by_git(&hook.to_string_lossy(), &mut tip, &with, &without);
    }
    for (key, value) in [
        ("receive.maxInputSize", "1g"),
        ("receive.certNonceSeed", "x"),
        ("transfer.hideRefs", "refs/x"),
        ("core.hooksPath", "/nowhere"),
        ("core.sharedRepository", "group"),
    ] {
        let with = || drop(git(&hub, &["config", key, value]));
        let without = || drop(git(&hub, &["config", "--unset", key]));
        by_git(key, &mut tip, &with, &without);
    }
    // Another address for pushes, as far as the folder's git is concerned.
    let key = "url./nowhere.pushInsteadOf";
    let with = || drop(git(a.root(), &["config", key, "/other"]));
    let without = || drop(git(a.root(), &["config", "--unset", key]));
    by_git(key, &mut tip, &with, &without);
    // So many loose objects that git would clean up after a push.
    let loose = hub.join("objects/17");
    let with = || {
        fs::create_dir_all(&loose).unwrap();
        for number in 0..30 {
            fs::write(loose.join(format!("junk-{number}")), "").unwrap();
        }
    };
    let without = || fs::remove_dir_all(&loose).unwrap();
    by_git("loose objects", &mut tip, &with, &without);
    assert_eq!(git(&hub, &["rev-parse", "main"]), tip.to_string());
}
