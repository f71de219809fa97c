//! What an apply leaves as it is: metadata, files that may not be written now, ignored files,
//! removals that wait.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use autosync::clock;
use autosync::engine::event::{Code, Recovery};
use autosync::fault;
use autosync::names::RepoPath;
use autosync::repo::apply::apply;
use autosync::repo::aside::set_aside;
use autosync::repo::bases::Why;
use autosync::repo::displaced::{drop_late, sweep_displaced};
use autosync::repo::journal::journal_open;
use autosync::repo::plan::Approval;

use super::world::{Is, World, disks, link, path, script, text};

fn mode(world: &World, name: &str) -> u32 {
    fs::metadata(world.at(name)).unwrap().mode() & 0o7777
}

fn set_mode(world: &World, name: &str, mode: u32) {
    fs::set_permissions(world.at(name), PermissionsExt::from_mode(mode)).unwrap();
}

fn why(world: &World, name: &str) -> Option<Why> {
    world.bases.get(&path(name)).map(|base| base.why.clone())
}

fn deferred(words: &str) -> Why {
    Why::Deferred(words.into())
}

/// Says what an `setfattr` or `setfacl` would: sets one attribute, `false` where there are none.
fn set_attribute(world: &World, name: &str, key: &str, value: &[u8]) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(world.at(name), key, value, flags).is_ok()
}

fn attribute(world: &World, name: &str, key: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let len = rustix::fs::lgetxattr(world.at(name), key, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// The access list `u::rw-,u:12345:r--,g::r--,m::r--,o::---` as the kernel has it (acl(5)).
fn access_list() -> Vec<u8> {
    let mut raw = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in [
        (1_u16, 6_u16, none),
        (2, 4, 12345),
        (4, 4, none),
        (16, 4, none),
        (32, 0, none),
    ] {
        raw.extend(tag.to_le_bytes());
        raw.extend(perm.to_le_bytes());
        raw.extend(id.to_le_bytes());
    }
    raw
}

#[test]
fn a_new_version_keeps_mode_owner_attributes_and_access_list() {
    for disk in disks() {
        let mut world = World::on(
            &disk,
            &[
                ("key", text("old")),
                ("run", text("old")),
                ("acl", text("old")),
            ],
        );
        set_mode(&world, "key", 0o600);
        set_mode(&world, "run", 0o640);
        let tagged = set_attribute(&world, "key", "user.note", b"mine");
        let listed = set_attribute(&world, "acl", "system.posix_acl_access", &access_list());
        let owned = std::os::unix::fs::chown(world.at("key"), Some(4242), Some(4343)).is_ok();
        let to = world.incoming(&[
            ("key", text("new")),
            ("run", script("new")),
            ("acl", text("new")),
        ]);
        world.apply_well(to);
        assert_eq!(world.stands("key"), "file: new");
        assert_eq!(mode(&world, "key"), 0o600);
        assert_eq!(mode(&world, "run"), 0o750);
        if tagged {
            assert_eq!(
                attribute(&world, "key", "user.note").as_deref(),
                Some(&b"mine"[..])
            );
        }
        if listed {
            assert_eq!(
                attribute(&world, "acl", "system.posix_acl_access"),
                Some(access_list())
            );
        }
        if owned {
            let meta = fs::metadata(world.at("key")).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (4242, 4343));
        }
        assert!(tagged || listed, "no attributes on {}", disk.display());
        world.assert_settled();
    }
}

#[test]
fn files_that_may_not_be_written_now_wait_with_the_reason() {
    let mut world = World::new(&[
        ("open", text("old")),
        ("linked", text("old")),
        ("base.db", text("old")),
        ("letter.odt", text("old")),
        ("free", text("old")),
    ]);
    let mut writer = File::options().append(true).open(world.at("open")).unwrap();
    fs::hard_link(world.at("linked"), world.beside("second")).unwrap();
    fs::write(world.at("base.db-wal"), "log").unwrap();
    fs::write(world.at(".~lock.letter.odt#"), "me").unwrap();
    let names = ["open", "linked", "base.db", "letter.odt", "free"];
    let change: Vec<(&str, Is)> = names.iter().map(|name| (*name, text("new"))).collect();
    let to = world.incoming(&change);
    let applied = world.apply_well(to);
    assert_eq!(applied.count, 1);
    assert_eq!(applied.deferred.len(), 4);
    assert_eq!(why(&world, "open"), Some(deferred("open for writing")));
    assert_eq!(why(&world, "linked"), Some(deferred("several links")));
    assert_eq!(
        why(&world, "base.db"),
        Some(deferred("another program has it open"))
    );
    assert_eq!(
        why(&world, "letter.odt"),
        Some(deferred("another program has it open"))
    );
    for name in ["open", "linked", "base.db", "letter.odt"] {
        assert_eq!(world.stands(name), "file: old", "{name}");
    }
    assert_eq!(world.stands("free"), "file: new");
    world.assert_settled();

    // Whatever kept them is gone: the tip itself is applied again, and nothing else is needed.
    writer.write_all(b" and more").unwrap();
    drop(writer);
    fs::remove_file(world.beside("second")).unwrap();
    fs::remove_file(world.at("base.db-wal")).unwrap();
    fs::remove_file(world.at(".~lock.letter.odt#")).unwrap();
    let applied = world.apply_well(to);
    for name in ["linked", "base.db", "letter.odt"] {
        assert_eq!(world.stands(name), "file: new", "{name}");
    }
    // This one was written to meanwhile: it is the user's, to be merged with its true base.
    assert_eq!(applied.kept, [path("open")]);
    assert_eq!(world.stands("open"), "file: old and more");
    assert_eq!(why(&world, "open"), Some(Why::Kept));
    world.assert_settled();
}

#[test]
fn a_deferred_path_takes_the_newest_version_in_the_end() {
    let mut world = World::new(&[("open", text("old"))]);
    let tip = world.tip();
    let writer = File::options().append(true).open(world.at("open")).unwrap();
    for content in ["one", "two"] {
        let to = world.incoming(&[("open", text(content))]);
        world.apply_well(to);
        let base = world.bases.get(&path("open")).unwrap();
        assert_eq!(
            base.base, tip,
            "the base stays the commit that the disk has"
        );
        world.assert_settled();
    }
    drop(writer);
    let tip = world.tip();
    world.apply_well(tip);
    assert_eq!(world.stands("open"), "file: two");
    assert!(world.bases.is_empty());
    world.assert_settled();
}

#[test]
fn an_ignored_file_in_the_way_is_kept_here_and_never_becomes_an_object() {
    for rules_move in [false, true] {
        let mut world = World::new(&[(".gitignore", text(".env\ncache/\n")), ("a", text("a"))]);
        fs::write(world.at(".env"), "S3CRET-token").unwrap();
        fs::create_dir(world.at("cache")).unwrap();
        fs::write(world.at("cache/x"), "S3CRET-cached").unwrap();
        let mut change = vec![(".env", text("theirs"))];
        if rules_move {
            change.push((".gitignore", text("# nothing\n")));
        } else {
            change.push(("cache", text("a file")));
        }
        let to = world.incoming(&change);
        world.apply_well(to);
        assert_eq!(world.stands(".env"), "file: theirs");
        let aside = set_aside(&world.place).unwrap();
        assert_eq!(aside[0].path, path(".env"));
        assert_eq!(fs::read_to_string(&aside[0].now).unwrap(), "S3CRET-token");
        if !rules_move {
            assert_eq!(aside[1].path, path("cache"));
            assert_eq!(
                fs::read_to_string(aside[1].now.join("x")).unwrap(),
                "S3CRET-cached"
            );
            assert_eq!(world.stands("cache"), "file: a file");
        }
        for secret in ["S3CRET-token", "S3CRET-cached"] {
            let id = world.place.objects.hash_blob(secret.as_bytes()).unwrap();
            assert!(!world.place.objects.contains(id), "it became an object");
        }
        world.assert_settled();
    }
}

#[test]
fn an_untracked_file_in_the_way_stays_and_the_new_one_waits() {
    let mut world = World::new(&[("a", text("a"))]);
    fs::write(world.at("b"), "mine").unwrap();
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/mine"), "mine").unwrap();
    fs::write(world.at("same"), "equal").unwrap();
    let to = world.incoming(&[
        ("b", text("theirs")),
        ("d", text("theirs")),
        ("same", text("equal")),
    ]);
    let applied = world.apply_well(to);
    assert_eq!(applied.kept, [path("b"), path("d")]);
    assert_eq!(world.stands("b"), "file: mine");
    assert_eq!(world.stands("d/mine"), "file: mine");
    assert_eq!(world.bases.get(&path("b")).unwrap().have, None);
    assert_eq!(world.bases.get(&path("same")), None);
    world.assert_settled();
}

#[test]
fn a_removal_that_the_new_rules_ignore_leaves_the_file() {
    let mut world = World::new(&[("conf/local", text("mine")), ("gone", text("x"))]);
    let to = world.incoming(&[
        ("conf/local", Is::Gone),
        ("conf/.gitignore", text("local\n")),
        ("gone", Is::Gone),
    ]);
    world.apply_well(to);
    assert_eq!(world.stands("conf/local"), "file: mine");
    assert_eq!(world.stands("gone"), "nothing");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.assert_settled();
}

#[test]
fn a_mass_deletion_waits_for_a_person_and_the_rest_goes_on() {
    let names: Vec<String> = (0..100).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let files: Vec<(&str, Is)> = names
        .iter()
        .map(|n| (n.as_str(), text(n.clone())))
        .collect();
    let person = Approval::Own(names.iter().map(|it| RepoPath::new(it).unwrap()).collect());
    for (trailer, argument) in [
        ("", Approval::Commits),
        ("", person.clone()),
        ("Autosync-Approved: server\n", Approval::Commits),
    ] {
        let mut world = World::new(&files);
        let mut change: Vec<(&str, Is)> =
            names[..60].iter().map(|n| (n.as_str(), Is::Gone)).collect();
        change.push(("new", text("new")));
        // What only gets another name is no deletion.
        change.push((names[61].as_str(), Is::Gone));
        change.push(("renamed", text(names[61].clone())));
        let to = world.incoming_on(world.tip(), &change, trailer);
        let (place, bases, view) = (&world.place, &mut world.bases, &mut world.view);
        let applied = apply(place, bases, view, to, &argument).unwrap();
        assert_eq!(applied.blocked, None);
        assert_eq!(world.stands("new"), "file: new");
        assert_eq!(world.stands(&names[61]), "nothing");
        let passes = argument == person || !trailer.is_empty();
        assert_eq!(world.stands(&names[0]) == "nothing", passes);
        if !passes {
            assert_eq!(applied.held.len(), 1);
            assert_eq!(applied.held[0].code, Code::MassDelete);
            assert_eq!(applied.held[0].paths.len() + applied.held[0].more, 60);
            assert_eq!(why(&world, &names[0]), Some(Why::RemovalWaits));
            world.assert_settled();
            let (place, bases, view) = (&world.place, &mut world.bases, &mut world.view);
            apply(place, bases, view, to, &person).unwrap();
        }
        assert_eq!(world.stands(&names[0]), "nothing");
        assert!(world.bases.is_empty());
        world.assert_settled();
    }
}

#[test]
fn an_approval_is_for_what_its_own_commit_removes() {
    let names: Vec<String> = (0..100).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let files: Vec<(&str, Is)> = names
        .iter()
        .map(|n| (n.as_str(), text(n.clone())))
        .collect();
    let mut world = World::new(&files);
    let on = |world: &World, parent, names: &[String], note: &str| {
        let files: Vec<(&str, Is)> = names.iter().map(|name| (name.as_str(), Is::Gone)).collect();
        world.incoming_on(parent, &files, note)
    };
    // Both came while this host was off: one that a person approved elsewhere, one by plain git.
    let agreed = on(
        &world,
        world.tip(),
        &names[..30],
        "Autosync-Approved: server\n",
    );
    let plain = on(&world, agreed, &names[30..90], "");
    let applied = world.apply(plain);
    assert_eq!(applied.blocked, None);
    assert_eq!(applied.held[0].paths.len() + applied.held[0].more, 60);
    for (number, name) in names.iter().enumerate() {
        let is_gone = world.stands(name) == "nothing";
        assert_eq!(is_gone, number < 30, "{name}");
    }
    world.assert_settled();
}

#[test]
fn a_dangerous_name_refuses_the_whole_update() {
    let mut world = World::new(&[("a", text("old"))]);
    for name in [".git/hooks/x", "d/.GIT/config", "git~1/x"] {
        let to = world.incoming(&[("a", text("new")), (name, text("bad"))]);
        let applied = world.apply(to);
        let trouble = applied.blocked.unwrap();
        assert_eq!(
            (trouble.code, trouble.recovery),
            (Code::DangerousName, Recovery::Hold)
        );
        assert_eq!(world.stands("a"), "file: old");
        assert!(!journal_open(&world.place));
    }
}

#[test]
fn a_directory_that_becomes_a_link_under_us_leads_nowhere() {
    // At every step a directory of the folder becomes a link to one outside.
    for nth in 0.. {
        let mut world = World::new(&[("d/a", text("old")), ("d/b", text("old")), ("e", text("e"))]);
        let outside = world.beside("outside");
        fs::create_dir(&outside).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(outside.join(name), "canary").unwrap();
        }
        let to = world.incoming(&[
            ("d/a", text("new")),
            ("d/b", Is::Gone),
            ("d/c", text("new")),
        ]);
        let (dir, target) = (world.at("d"), outside.clone());
        let left = std::rc::Rc::new(std::cell::Cell::new(nth));
        let count = std::rc::Rc::clone(&left);
        let hook = move |_: &str| {
            if count.get() == 0 {
                fs::rename(&dir, dir.with_file_name("d-moved")).unwrap();
                symlink(&target, &dir).unwrap();
            }
            count.set(count.get() - 1);
        };
        let applied = fault::with_hook(hook, || world.apply(to));
        assert_eq!(applied.blocked, None);
        for name in ["a", "b", "c"] {
            assert_eq!(
                fs::read_to_string(outside.join(name)).unwrap(),
                "canary",
                "step {nth}"
            );
        }
        if left.get() >= 0 {
            break;
        }
    }
}

#[test]
fn a_fifo_in_the_way_is_never_waited_for() {
    let mut world = World::new(&[("a", text("old")), ("b", text("old"))]);
    fs::remove_file(world.at("a")).unwrap();
    for name in ["a", "c"] {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            world.at(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        );
        made.unwrap();
    }
    let to = world.incoming(&[("a", text("new")), ("b", text("new")), ("c", text("new"))]);
    let applied = world.apply_well(to);
    assert_eq!(applied.kept, [path("a"), path("c")]);
    assert_eq!(world.stands("b"), "file: new");
}

#[test]
fn a_late_write_is_an_edit_of_the_old_version_until_it_is_safe() {
    let mut world = World::new(&[("log", text("old\n"))]);
    let tip = world.tip();
    let to = world.incoming(&[("log", text("new\n"))]);
    let held = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (slot, at) = (std::rc::Rc::clone(&held), world.at("log"));
    let hook = move |step: &str| {
        if step == "A3.checked" {
            *slot.borrow_mut() = Some(File::options().append(true).open(&at).unwrap());
        }
    };
    fault::with_hook(hook, || world.apply_well(to));
    let mut file: File = held.take().unwrap();
    file.write_all(b"late\n").unwrap();
    let soon = clock::now();
    let later = soon + Duration::from_secs(61);
    assert_eq!(
        sweep_displaced(&world.place, later).unwrap().edits,
        [],
        "still open"
    );
    drop(file);
    assert_eq!(
        sweep_displaced(&world.place, soon).unwrap().edits,
        [],
        "too early"
    );
    let deadline = soon + Duration::from_secs(20);
    let late = loop {
        let late = sweep_displaced(&world.place, later).unwrap().edits;
        if !late.is_empty() {
            break late;
        }
        // A child that another test forks just now holds every descriptor until it is exec'd.
        assert!(clock::now() < deadline, "no late edit");
        std::thread::yield_now();
    };
    assert_eq!((&late[0].path, late[0].base), (&path("log"), tip));
    let content = world.place.objects.blob(late[0].content.id).unwrap();
    assert_eq!(content, b"old\nlate\n");
    assert_eq!(
        sweep_displaced(&world.place, later).unwrap().edits,
        late,
        "until it is safe"
    );
    drop_late(&late[0]).unwrap();
    assert_eq!(sweep_displaced(&world.place, later).unwrap().edits, []);
    assert_eq!(
        fs::read_dir(world.place.store.join("displaced"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn contents_are_converted_on_the_way_as_attributes_say() {
    let attributes = "*.crlf eol=crlf\n*.up filter=up\n*.bad filter=bad\n";
    let mut world = World::new(&[(".gitattributes", text("")), ("a.crlf", text("old\n"))]);
    for (key, value) in [
        ("filter.up.smudge", "tr a-z A-Z"),
        ("filter.up.clean", "tr A-Z a-z"),
        ("filter.bad.smudge", "false"),
        ("filter.bad.clean", "cat"),
        ("filter.bad.required", "true"),
    ] {
        world.git(&["config", key, value]);
    }
    // The attributes come in together with the files.
    let to = world.incoming(&[
        (".gitattributes", text(attributes)),
        ("a.crlf", text("one\ntwo\n")),
        ("b.up", text("loud\n")),
        ("c.bad", text("broken\n")),
        ("d.up", text("louder\n")),
    ]);
    let applied = world.apply_well(to);
    assert_eq!(world.stands("a.crlf"), "file: one\r\ntwo\r\n");
    assert_eq!(world.stands("b.up"), "file: LOUD\n");
    assert_eq!(world.stands("d.up"), "file: LOUDER\n");
    assert_eq!(world.stands("c.bad"), "nothing");
    assert_eq!(why(&world, "c.bad"), Some(Why::Held(Code::Filter)));
    assert_eq!(applied.held[0].code, Code::Filter);
    world.assert_settled();

    // The old version is recognised through the filter, and an edit of it as well.
    let to = world.incoming(&[("b.up", text("louder\n")), ("d.up", text("x\n"))]);
    fs::write(world.at("d.up"), "EDITED\n").unwrap();
    let applied = world.apply_well(to);
    assert_eq!(world.stands("b.up"), "file: LOUDER\n");
    assert_eq!(world.stands("d.up"), "file: EDITED\n");
    assert_eq!(applied.kept, [path("d.up")]);
}

#[test]
fn what_the_user_hid_from_git_stays_hidden() {
    let mut world = World::new(&[("config", text("shared")), ("a", text("a"))]);
    fs::write(world.at("config"), "private").unwrap();
    world.git(&["update-index", "--skip-worktree", "config"]);
    let to = world.incoming(&[("config", text("shared 2")), ("a", text("b"))]);
    world.apply_well(to);
    assert_eq!(world.stands("config"), "file: private");
    assert_eq!(world.stands("a"), "file: b");
    assert!(world.bases.is_empty());
    assert!(world.git(&["ls-files", "-v", "config"]).starts_with('S'));
    world.assert_settled();
}

#[test]
fn a_part_that_the_user_staged_is_waited_for() {
    let mut world = World::new(&[("a", text("old"))]);
    fs::write(world.at("a"), "staged").unwrap();
    world.git(&["add", "a"]);
    let to = world.incoming(&[("a", text("new"))]);
    let trouble = world.apply(to).blocked.unwrap();
    assert_eq!(trouble.recovery, Recovery::Pause);
    assert_eq!(world.git(&["diff", "--cached", "--name-only"]), "a");
}

#[test]
fn a_user_who_commits_while_we_write_keeps_his_commit_and_our_work() {
    let mut world = World::new(&[("a", text("old")), ("b", text("old")), ("u", text("u"))]);
    let to = world.incoming(&[("a", text("new")), ("b", text("new"))]);
    let root = world.root();
    let hook = move |step: &str| {
        if step == "A5.synced" {
            fs::write(root.join("u"), "mine").unwrap();
            crate::network::git(&root, &["commit", "-q", "-m", "mine", "u"]);
        }
    };
    let applied = fault::with_hook(hook, || world.apply(to));
    assert!(applied.blocked.is_some());
    let mine = world.tip();
    let mut world = super::kill::start_over(world);
    assert_eq!(world.tip(), mine, "his commit stays");
    // The tree has what came in, and the base map says from where.
    assert_eq!(world.stands("a"), "file: new");
    assert_eq!(world.bases.get(&path("a")).unwrap().base, to);
    // Once both are merged nothing is left to do.
    let merged = world.incoming(&[("a", text("new")), ("b", text("new"))]);
    world.apply_well(merged);
    assert!(world.bases.is_empty());
    assert_eq!(world.stands("u"), "file: mine");
    world.assert_settled();
}

#[test]
fn links_replace_links_and_directories_of_other_modes_stay() {
    let mut world = World::new(&[("d/a", text("a")), ("e/a", text("a")), ("l", link("d"))]);
    set_mode(&world, "e", 0o700);
    let to = world.incoming(&[("d/a", Is::Gone), ("e/a", Is::Gone), ("l", link("e"))]);
    world.apply_well(to);
    assert_eq!(world.stands("d"), "nothing");
    assert_eq!(world.stands("e"), "directory");
    assert_eq!(world.stands("l"), "link: e");
    world.assert_settled();
}
