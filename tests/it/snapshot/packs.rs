//! How contents are stored: in packs where they are many, and not at all where they are huge.

use std::fs::File;

use autosync::engine::event::Code;
use autosync::repo::folder::Folder;

use super::{Lab, settings};

/// Returns how many packs there are, how many objects are in them and how many are loose.
fn counted(lab: &Lab) -> [usize; 3] {
    let text = lab.git(&["count-objects", "-v"]);
    ["packs: ", "in-pack: ", "count: "].map(|key| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().parse().unwrap()
    })
}

#[test]
fn fifty_new_files_are_one_pack_and_fewer_are_none() {
    for (files, packs, packed) in [(49, 0, 0), (50, 1, 50), (180, 1, 180)] {
        let mut lab = Lab::new();
        for number in 0..files {
            lab.write(&format!("f{number}"), format!("{number}\n"));
        }
        assert_eq!(lab.everything().committed.unwrap().count, files);
        // The tree, the commit and the operation are loose.
        let loose = files + 3 - packed;
        assert_eq!(counted(&lab), [packs, packed, loose], "{files}");
        assert_eq!(lab.git(&["fsck", "--strict"]), "");
    }
}

#[test]
fn a_file_of_more_than_four_gib_is_held_until_it_may_be_so_large() {
    const SIZE: u64 = (4 << 30) + 5;
    let mut lab = Lab::new();
    let huge = File::create(lab.bench.root().join("huge")).unwrap();
    huge.set_len(SIZE).unwrap();
    lab.write("other", "1\n");
    // A size that is cut to 32 bits would be 5 bytes.
    for max_file in [1 << 20, SIZE - 1] {
        let mut wanted = settings(lab.bench.root());
        wanted.max_file = max_file;
        lab.folder = Folder::open(wanted).unwrap();
        for outcome in [lab.paths(&["huge", "other"]), lab.everything()] {
            assert_eq!(outcome.held[0].code, Code::TooBig, "{max_file}");
            assert_eq!(outcome.blocked, None);
        }
        assert_eq!(lab.tracked(), ["other"], "the rest goes on");
    }
    // It got smaller: nothing is held any more.
    huge.set_len(5).unwrap();
    drop(huge);
    assert!(lab.everything().held.is_empty());
    assert_eq!(lab.git(&["cat-file", "-s", "HEAD:huge"]), "5");
}
