//! What came in and was never on this disk is not taken out by what is written in its way.

use std::fs;
use std::path::Path;

use autosync::git::tree::{Entry, FILE};
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::bases::{Base, Why};
use autosync::repo::folder::Folder;

use crate::pair::Pair;
use crate::snapshot::settings;

/// Notes that a disk has something else at some paths than what the tip has: what it has, and in
/// which commit.
fn instead(root: &Path, what: &[(&str, Option<Entry>, &str)]) {
    let mut folder = Folder::open(settings(root)).unwrap();
    for (name, have, base) in what {
        let entry = Base {
            have: *have,
            base: ObjectId::from_hex(base).unwrap(),
            why: Why::Kept,
            stat: None,
        };
        folder.bases.insert(RepoPath::new(name).unwrap(), entry);
    }
    folder.bases.save(&folder.place).unwrap();
}

/// Both converge, and these tokens stand somewhere in the tree.
fn stand(pair: &Pair, tokens: &[&str]) {
    pair.converge("never seen");
    pair.assert_settled("never seen");
    let tree = pair.laptop.tree();
    for token in tokens {
        let stands = tree.values().any(|text| text.contains(token));
        assert!(stands, "`{token}` is gone\n{tree:#?}");
    }
}

#[test]
fn kept_what_was_never_on_the_disk_is_not_removed_by_a_file_in_its_directorys_place() {
    let pair = Pair::new(&[("other", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    let mut tips = Vec::new();
    // The first below the directory came last: what parts from its commit parts from what has both.
    for (name, text) in [("b/a/two", "TOKEN-two\n"), ("b/a/one", "TOKEN-one\n")] {
        tips.push(here.git(&["rev-parse", "HEAD"]));
        there.write(name, text);
        let _ran = there.once().ok();
        let _ran = here.once().ok();
    }
    // As if the disk had taken neither, for something else was there each time.
    let what = [("b/a/two", None, &*tips[0]), ("b/a/one", None, &*tips[1])];
    instead(&here.root, &what);
    fs::remove_dir_all(here.at("b")).unwrap();
    here.write("b/a", "TOKEN-mine\n");
    stand(&pair, &["TOKEN-one", "TOKEN-two", "TOKEN-mine"]);
}

#[test]
fn kept_a_newer_version_that_was_never_on_the_disk_is_not_removed_with_the_older() {
    let pair = Pair::new(&[("b/a/two", "TOKEN-old\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    let old = here.git(&["rev-parse", "HEAD:b/a/two"]);
    let mut tips = Vec::new();
    for (name, text) in [("b/a/two", "TOKEN-new\n"), ("b/a/one", "TOKEN-one\n")] {
        tips.push(here.git(&["rev-parse", "HEAD"]));
        there.write(name, text);
        let _ran = there.once().ok();
        let _ran = here.once().ok();
    }
    let old = Entry {
        mode: FILE,
        id: ObjectId::from_hex(old).unwrap(),
    };
    // As if the user had saved while each came in, and the disk had the old one of the first.
    let what = [
        ("b/a/two", Some(old), &*tips[0]),
        ("b/a/one", None, &*tips[1]),
    ];
    instead(&here.root, &what);
    fs::remove_dir_all(here.at("b")).unwrap();
    here.write("b/a", "TOKEN-mine\n");
    stand(&pair, &["TOKEN-one", "TOKEN-new", "TOKEN-mine"]);
}
