//! A hub that somebody changed behind everybody's back: what is here is never reset, and what is
//! there is never forced.

use std::fs;
use std::path::Path;

use autosync::engine::status::State;

use super::{Told, held, pair, well};
use crate::support::host::Pair;

/// Runs git in the hub, as somebody else who may write there.
fn in_hub(pair: &Pair, args: &[&str]) -> String {
    pair.laptop.sandbox.git(&pair.hub, args)
}

/// Makes a commit of these files in a clone of its own and pushes it with force.
fn by_force(pair: &Pair, root: &Path, parent: Option<&str>, files: &[(&str, &str)]) -> String {
    let git = |args: &[&str]| pair.laptop.sandbox.git(root, args);
    let place = root.parent().unwrap();
    pair.laptop.sandbox.git(
        place,
        [
            "clone",
            "-q",
            pair.hub.to_str().unwrap(),
            root.to_str().unwrap(),
        ],
    );
    match parent {
        Some(parent) => git(&["reset", "-q", "--hard", parent]),
        None => git(&["checkout", "-q", "--orphan", "new"]),
    };
    git(&["rm", "-rqf", "--ignore-unmatch", "."]);
    for (name, text) in files {
        fs::write(root.join(name), text).unwrap();
    }
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "by force"]);
    in_hub(pair, &["config", "receive.denyNonFastForwards", "false"]);
    git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    git(&["rev-parse", "HEAD"])
}

#[test]
fn a_history_that_was_rewritten_by_force_waits_for_a_person_and_loses_nothing() {
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let first = pair.tip();
    pair.laptop.write("a", "2\n");
    pair.laptop.write("mine", "m\n");
    pair.equal();
    let told = pair.hosts().map(Told::by);
    let root = pair.laptop.sandbox.root().join("other");
    let forced = by_force(
        &pair,
        &root,
        Some(&first),
        &[("a", "1\n"), ("theirs", "t\n")],
    );
    for (host, told) in pair.hosts().into_iter().zip(&told) {
        let status = held(host, "history-rewritten");
        assert!(status.hint.contains("autosync approve"), "{status:#?}");
        told.only(host, "history-rewritten");
        assert_eq!(host.read("mine").as_deref(), Some("m\n"), "never reset");
    }
    // What is done meanwhile stays here: it could go there only by force.
    pair.laptop.write("meanwhile", "w\n");
    pair.laptop.until("it is committed", |host| {
        host.git(["ls-tree", "--name-only", "HEAD"])
            .contains("meanwhile")
    });
    pair.laptop.barrier();
    assert_eq!(pair.tip(), forced, "never forced");

    for host in pair.hosts() {
        host.run(["approve"]).ok();
        well(host);
    }
    let tree = pair.ends_well();
    for name in ["mine", "theirs", "meanwhile"] {
        assert!(tree.contains_key(std::ffi::OsStr::new(name)), "{tree:?}");
    }
    in_hub(&pair, &["merge-base", "--is-ancestor", &forced, "main"]);
}

#[test]
fn a_branch_that_was_deleted_waits_for_a_person_and_is_never_made_by_itself() {
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let told = Told::by(&pair.laptop);
    in_hub(&pair, &["update-ref", "-d", "refs/heads/main"]);
    let status = held(&pair.laptop, "hub-emptied");
    assert!(status.hint.contains("autosync approve"), "{status:#?}");
    told.only(&pair.laptop, "hub-emptied");
    pair.laptop.write("b", "1\n");
    pair.laptop.until("it is committed", |host| {
        host.git(["ls-tree", "--name-only", "HEAD"]).contains('b')
    });
    pair.laptop.barrier();
    assert_eq!(pair.tip(), "");
    held(&pair.server, "hub-emptied");
    assert_eq!(pair.server.read("a").as_deref(), Some("1\n"));
    pair.laptop.run(["approve"]).ok();
    well(&pair.laptop);
    well(&pair.server);
    assert_eq!(pair.ends_well().len(), 2);
}

#[test]
fn another_repository_in_the_hubs_place_is_never_merged() {
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let tip = pair.tip();
    let told = Told::by(&pair.laptop);
    let root = pair.laptop.sandbox.root().join("other");
    let other = by_force(&pair, &root, None, &[("foreign", "f\n")]);
    for host in pair.hosts() {
        let status = held(host, "unrelated");
        assert!(status.message.contains("another"), "{status:#?}");
        // No word of a person lets it pass.
        assert_ne!(host.run(["approve"]).code, Some(0));
    }
    told.only(&pair.laptop, "unrelated");
    pair.laptop.write("b", "1\n");
    pair.laptop.until("it is committed", |host| {
        host.git(["ls-tree", "--name-only", "HEAD"]).contains('b')
    });
    pair.laptop.barrier();
    for host in pair.hosts() {
        assert_eq!(host.read("foreign"), None);
        assert_eq!(host.read("a").as_deref(), Some("1\n"));
    }
    assert_eq!(pair.tip(), other, "never forced");
    in_hub(&pair, &["update-ref", "refs/heads/main", &tip]);
    for host in pair.hosts() {
        host.run(["sync"]).ok();
        well(host);
    }
    assert_eq!(pair.ends_well().len(), 2);
}

#[test]
fn a_hub_at_which_somebody_else_is_always_first_is_asked_less_and_less() {
    use std::os::unix::fs::PermissionsExt;
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    // Whoever comes finds that somebody else was there just before.
    let hook = pair.hub.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let asked = pair.hub.join("asked");
    let script = format!(
        "#!/bin/sh\nunset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
         echo x >> '{}'\n\
         export GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o\n\
         new=$(git commit-tree -p main -m other 'main^{{tree}}')\n\
         git update-ref refs/heads/main \"$new\"\n",
        asked.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let times = || fs::read_to_string(&asked).map_or(0, |text| text.lines().count());
    pair.server.run(["pause"]).ok();
    pair.laptop.write("a", "2\n");
    pair.laptop.until("it is contended", |host| {
        let status = host.folder_status();
        status.code == "contended" && status.state == State::Retry
    });
    let tries = times();
    assert!((8..=10).contains(&tries), "{tries}");
    let status = pair.laptop.folder_status();
    assert!(
        !status.published && !status.message.is_empty(),
        "{status:#?}"
    );
    fs::remove_file(&hook).unwrap();
    pair.laptop.run(["sync"]).ok();
    pair.server.run(["resume"]).ok();
    let tree = pair.ends_well();
    assert_eq!(tree.len(), 1);
    assert_eq!(pair.server.read("a").as_deref(), Some("2\n"));
}
