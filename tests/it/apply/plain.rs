//! Applies that nobody interferes with.

use super::world::{Is, World, disks, link, script, text};

#[test]
fn every_kind_of_change_arrives_on_every_disk() {
    for disk in disks() {
        let mut world = World::on(
            &disk,
            &[
                ("edited", text("old\n")),
                ("deleted", text("old\n")),
                ("dir/deleted", text("old\n")),
                ("chmod", text("run\n")),
                ("link", link("edited")),
                ("to-link", text("old\n")),
                ("to-dir", text("old\n")),
                ("from-dir/a", text("a\n")),
                ("from-dir/b/c", text("c\n")),
                ("untouched", text("same\n")),
            ],
        );
        let to = world.incoming(&[
            ("edited", text("new\n")),
            ("deleted", Is::Gone),
            ("dir/deleted", Is::Gone),
            ("chmod", script("run\n")),
            ("link", link("untouched")),
            ("to-link", link("edited")),
            ("to-dir", Is::Gone),
            ("to-dir/x", text("x\n")),
            ("from-dir/a", Is::Gone),
            ("from-dir/b/c", Is::Gone),
            ("from-dir", text("a file now\n")),
            ("new/deep/file", text("new\n")),
            ("new/script", script("#!/bin/sh\n")),
            ("new/link", link("../edited")),
        ]);
        let applied = world.apply_well(to);
        assert_eq!(applied.host.as_deref(), Some("other"));
        assert_eq!(applied.count, 14);
        assert_eq!((applied.kept, applied.deferred), (vec![], vec![]));
        for (name, is) in [
            ("edited", "file: new\n"),
            ("deleted", "nothing"),
            ("dir", "nothing"),
            ("chmod", "script: run\n"),
            ("link", "link: untouched"),
            ("to-link", "link: edited"),
            ("to-dir/x", "file: x\n"),
            ("from-dir", "file: a file now\n"),
            ("new/deep/file", "file: new\n"),
            ("new/script", "script: #!/bin/sh\n"),
            ("new/link", "link: ../edited"),
            ("untouched", "file: same\n"),
        ] {
            assert_eq!(world.stands(name), is, "{name} on {}", disk.display());
        }
        world.assert_settled();
    }
}

#[test]
fn the_tip_itself_is_nothing_to_do() {
    let mut world = World::new(&[("a", text("a"))]);
    let tip = world.tip();
    let applied = world.apply(tip);
    assert_eq!(
        (applied.blocked, applied.count, applied.tip),
        (None, 0, Some(tip))
    );
    world.assert_settled();
}

#[test]
fn a_commit_that_does_not_contain_the_tip_is_refused() {
    let mut world = World::new(&[("a", text("a"))]);
    let base = world.tip();
    let theirs = world.incoming(&[("b", text("theirs"))]);
    let ours = world.incoming_on(base, &[("c", text("ours"))], "");
    world.apply_well(ours);
    let applied = world.apply(theirs);
    assert!(applied.blocked.is_some());
    assert_eq!(world.stands("b"), "nothing");
    world.assert_settled();
}

#[test]
fn a_git_directory_on_another_disk_stages_beside_the_files() {
    let disks = disks();
    let [other, disk] = disks.as_slice() else {
        crate::network::skipped(
            "a_git_directory_on_another_disk_stages_beside_the_files",
            "there is only one disk",
        );
        return;
    };
    let far = tempfile::tempdir_in(other).unwrap();
    let world = World::on(
        disk,
        &[("edited", text("old\n")), ("deleted", text("old\n"))],
    );
    let mut world = world.with_git_dir(&far.path().join("repo.git"));
    let to = world.incoming(&[
        ("edited", text("new\n")),
        ("deleted", Is::Gone),
        ("new", text("new\n")),
    ]);
    world.apply_well(to);
    assert_eq!(world.stands("edited"), "file: new\n");
    assert_eq!(world.stands("deleted"), "nothing");
    assert_eq!(world.stands("new"), "file: new\n");
    assert!(world.at(".autosync-stage/displaced").is_dir());
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.assert_settled();
}

#[test]
fn a_submodule_is_carried_through_untouched() {
    let mut world = World::new(&[("file", text("old\n")), ("other", text("x\n"))]);
    let commit = world.tip();
    let to = world.incoming(&[("sub", Is::Submodule(commit)), ("file", text("new\n"))]);
    world.apply_well(to);
    assert_eq!(world.stands("sub"), "directory");
    assert_eq!(world.stands("file"), "file: new\n");
    world.assert_settled();

    std::fs::write(world.at("sub/inside"), "mine").unwrap();
    let to = world.incoming(&[("sub", Is::Gone)]);
    world.apply_well(to);
    assert_eq!(world.stands("sub/inside"), "file: mine");
    world.assert_settled();
}

#[test]
fn an_unborn_branch_takes_its_first_commit() {
    let mut world = World::new(&[("file", text("old\n"))]);
    let tip = world.tip();
    world.git(&["update-ref", "-d", "refs/heads/main"]);
    world.git(&["rm", "-q", "-f", "file"]);
    let disk = world.beside("nothing");
    assert!(!disk.exists());
    let applied = world.apply(tip);
    assert_eq!(applied.blocked, None);
    assert_eq!(world.tip(), tip);
    assert_eq!(world.stands("file"), "file: old\n");
    world.assert_settled();
}
