//! Applies that nobody interferes with.

use super::world::{Is, World, disks, link, script, submodule, text};

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
fn a_submodule_and_a_file_take_the_place_of_each_other() {
    let files = [
        ("p", text("old\n")),
        ("l", link("p")),
        ("s", submodule('1')),
    ];
    let mut world = World::new(&files);
    let to = world.incoming(&[
        ("p", submodule('2')),
        ("l", submodule('2')),
        ("s", text("new\n")),
    ]);
    world.apply_well(to);
    for (name, stands) in [("p", "directory"), ("l", "directory"), ("s", "file: new\n")] {
        assert_eq!(world.stands(name), stands, "{name}");
    }
    world.assert_settled();

    let to = world.incoming(&[("p", text("again\n")), ("l", link("s"))]);
    world.apply_well(to);
    assert_eq!(world.stands("p"), "file: again\n");
    assert_eq!(world.stands("l"), "link: s");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.assert_settled();
}

#[test]
fn a_repository_in_a_submodules_place_is_no_files_to_give_way() {
    let mut world = World::new(&[("p", text("x\n")), ("s", submodule('1'))]);
    world.git(&["init", "-q", "s"]);
    std::fs::write(world.at("s/inside"), "mine\n").unwrap();
    let to = world.incoming(&[("s", text("new\n")), ("p", text("y\n"))]);
    let applied = world.apply_well(to);
    assert_eq!(world.stands("p"), "file: y\n");
    assert_eq!(world.stands("s/inside"), "file: mine\n");
    assert_eq!(applied.deferred.len(), 1, "{applied:?}");
    world.assert_settled();

    // Once it is out of the way the file comes, with whatever comes next.
    std::fs::remove_dir_all(world.at("s")).unwrap();
    std::fs::create_dir(world.at("s")).unwrap();
    let to = world.incoming(&[("p", text("z\n"))]);
    world.apply_well(to);
    assert_eq!(world.stands("s"), "file: new\n");
    world.assert_settled();
}

#[test]
fn an_edit_stays_where_a_submodule_comes_in() {
    let mut world = World::new(&[("p", text("old\n")), ("o", text("x\n"))]);
    std::fs::write(world.at("p"), "edited\n").unwrap();
    let to = world.incoming(&[("p", submodule('2'))]);
    let applied = world.apply_well(to);
    assert_eq!(applied.kept.len(), 1);
    assert_eq!(world.stands("p"), "file: edited\n");
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
