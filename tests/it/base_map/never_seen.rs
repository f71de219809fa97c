//! What came in and was never on this disk is not taken out by what is written in its way.

use std::fs;

use autosync::names::{ObjectId, RepoPath};
use autosync::repo::bases::{Base, Why};
use autosync::repo::folder::Folder;

use crate::pair::Pair;
use crate::snapshot::settings;

#[test]
fn kept_what_was_never_on_the_disk_is_not_removed_by_a_file_in_its_directorys_place() {
    let pair = Pair::new(&[("other", "1\n")]);
    let (here, there) = (&pair.laptop, &pair.server);
    let mut tips = Vec::new();
    for (name, text) in [("b/a/one", "TOKEN-one\n"), ("b/a/two", "TOKEN-two\n")] {
        tips.push(here.git(&["rev-parse", "HEAD"]));
        there.write(name, text);
        let _ran = there.once().ok();
        let _ran = here.once().ok();
    }
    // As if the disk had taken neither, for something else was there each time.
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    for (name, base) in [("b/a/one", &tips[0]), ("b/a/two", &tips[1])] {
        let entry = Base {
            have: None,
            base: ObjectId::from_hex(base).unwrap(),
            why: Why::Kept,
            stat: None,
        };
        folder.bases.insert(RepoPath::new(name).unwrap(), entry);
    }
    folder.bases.save(&folder.place).unwrap();
    drop(folder);
    fs::remove_dir_all(here.at("b")).unwrap();
    here.write("b/a", "TOKEN-mine\n");
    pair.converge("never seen");
    pair.assert_settled("never seen");
    let tree = here.tree();
    for token in ["TOKEN-one", "TOKEN-two", "TOKEN-mine"] {
        let stands = tree.values().any(|text| text.contains(token));
        assert!(stands, "`{token}` is gone\n{tree:#?}");
    }
}
