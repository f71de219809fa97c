//! Twins: names that one host tells apart and the disk of another does not, by case or by the
//! writing of accents. The laptop has a plain disk, the server one that folds names.
//!
//! What the disk can hold only one of is held there for the other, by name, and nowhere else: it is
//! in the history, it comes out right on the other host, and no commit takes it back.

use std::fs;
use std::path::Path;

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::Event;
use autosync::engine::status::FolderStatus;
use autosync::names::RepoPath;
use autosync::repo::folder::Folder;

use crate::pair;
use crate::snapshot::settings;
use crate::support::Sandbox;
use crate::support::folding::{inside_with_disk, listed, mount, respell};
use crate::support::host::{Host, Pair};

/// A laptop with a plain disk, and a server whose folder is on one that folds names.
fn pair(test: &str) -> Option<Pair> {
    if !inside_with_disk(&format!("hostile::folding::{test}")) {
        return None;
    }
    let config = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n";
    let mut laptop = Host::new("laptop");
    laptop.sandbox.config(config);
    laptop.start();
    laptop.write("a", "1\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");

    let sandbox = Sandbox::named("server");
    sandbox.config(config);
    let disk = sandbox.root().join("disk");
    fs::create_dir(&disk).unwrap();
    mount(&disk);
    let folder = disk.join("Sync");
    let mut server = Host::of(sandbox, "server").with_args([folder.clone()]);
    server.folder = folder;
    let to = [hub.as_os_str(), server.folder.as_os_str()];
    let ran = server.run([&["clone".as_ref()], &to[..]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    server.start();
    let pair = Pair {
        laptop,
        server,
        hub,
    };
    pair.equal();
    Some(pair)
}

/// The paths that the server says it cannot have.
fn not_here(status: &FolderStatus) -> Vec<String> {
    let held = status.held.iter();
    let names = held.filter(|held| held.code == "not-representable");
    names.flat_map(|held| held.paths.clone()).collect()
}

/// Every path of the hub's tip, with its content.
fn in_hub(pair: &Pair) -> Vec<(String, String)> {
    let git = |args: &[&str]| pair.laptop.sandbox.git(&pair.hub, args);
    let names = git(&["ls-tree", "-r", "-z", "--name-only", "main"]);
    let names = names.split('\0').filter(|name| !name.is_empty());
    names
        .map(|name| {
            let text = git(&["show", &format!("main:{name}")]);
            (name.to_owned(), text)
        })
        .collect()
}

/// Waits for quiet; asserts that the hub and the laptop have exactly these files, that the server
/// lists `here` and says that it cannot have `twins`, and that nothing happens any more.
#[track_caller]
fn settles(pair: &Pair, files: &[(&str, &str)], here: &[&str], twins: &[&str]) {
    pair.quiet();
    let mut wanted: Vec<(String, String)> = files
        .iter()
        .chain(&[("a", "1")])
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    wanted.sort();
    assert_eq!(in_hub(pair), wanted, "{}", pair.server.log());
    assert_eq!(pair.laptop.tree().len(), wanted.len());
    for (name, text) in &wanted {
        let stands = pair.laptop.read(name).unwrap();
        assert_eq!(stands.trim_end(), text, "`{name}` on the laptop");
    }
    let tree = pair.server.tree();
    let names: Vec<String> = tree
        .keys()
        .map(|name| name.clone().into_string().unwrap())
        .collect();
    let mut wanted_here = [&["a"], here].concat();
    wanted_here.sort_unstable();
    assert_eq!(names, wanted_here, "on the folding disk");
    for name in here {
        let text = &wanted.iter().find(|(it, _)| it == name).unwrap().1;
        let stands = pair.server.read(name).unwrap();
        assert_eq!(stands.trim_end(), text, "`{name}` on the folding disk");
    }
    let status = pair.server.barrier();
    assert_eq!(not_here(&status), twins, "{status:#?}");
    assert_eq!(not_here(&pair.laptop.barrier()), [""; 0]);
    let tip = pair.tip();
    for host in pair.hosts() {
        host.assert_quiet();
        assert_eq!(host.git(["status", "--porcelain"]), "", "git's view");
        // Whoever looks at everything finds nothing, too.
        assert_eq!(host.run(["sync"]).code, Some(0));
        host.assert_quiet();
        host.git(["fsck", "--full", "--no-dangling", "--no-progress"]);
    }
    assert_eq!(pair.tip(), tip, "nobody commits any more");
}

/// Commits of the hub in which a path went.
fn removals(pair: &Pair) -> String {
    let args = [
        "log",
        "-m",
        "--no-renames",
        "--diff-filter=D",
        "--name-only",
        "--format=",
        "main",
    ];
    pair.laptop.sandbox.git(&pair.hub, args)
}

/// Writes files on the laptop, in one commit by hand.
fn arrive(pair: &Pair, files: &[(&str, &str)]) {
    for (name, text) in files {
        pair.laptop.write(name, text);
    }
    pair.laptop.synced();
}

#[test]
fn the_disk_of_these_tests_folds_names_and_lists_them_as_they_were_made() {
    const TEST: &str = "the_disk_of_these_tests_folds_names_and_lists_them_as_they_were_made";
    if !inside_with_disk(&format!("hostile::folding::{TEST}")) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    mount(place.path());
    fs::write(at("README"), "1").unwrap();
    assert_eq!(fs::read_to_string(at("readme")).unwrap(), "1");
    fs::write(at("caf\u{e9}"), "2").unwrap();
    assert_eq!(fs::read_to_string(at("CAFE\u{301}")).unwrap(), "2");
    assert_eq!(listed(place.path()), ["README", "caf\u{e9}"]);
    assert!(fs::create_dir(at("ReadMe")).is_err());
    fs::create_dir(at("D")).unwrap();
    fs::write(at("d/x"), "3").unwrap();
    assert_eq!(listed(&at("D")), ["x"]);
    fs::rename(at("README"), at("readme")).unwrap();
    assert_eq!(listed(place.path()), ["D", "README", "caf\u{e9}"]);
    respell(place.path(), "README", "readme");
    assert_eq!(listed(place.path()), ["D", "caf\u{e9}", "readme"]);
    fs::write(at("new"), "4").unwrap();
    fs::rename(at("new"), at("README")).unwrap();
    assert_eq!(fs::read_to_string(at("readme")).unwrap(), "4");
    fs::hard_link(at("readme"), at("link")).unwrap();
    std::os::unix::fs::symlink("link", at("points")).unwrap();
    assert_eq!(fs::read_to_string(at("POINTS")).unwrap(), "4");
    fs::remove_file(at("README")).unwrap();
    fs::remove_dir_all(at("d")).unwrap();
    assert_eq!(listed(place.path()), ["caf\u{e9}", "link", "points"]);
}

#[test]
fn of_two_files_that_come_in_the_disk_has_one_and_the_other_is_held_by_name() {
    let Some(pair) =
        pair("of_two_files_that_come_in_the_disk_has_one_and_the_other_is_held_by_name")
    else {
        return;
    };
    let all = [("README", "1\n"), ("readme", "2\n")];
    arrive(&pair, &all);
    settles(
        &pair,
        &[("README", "1"), ("readme", "2")],
        &["README"],
        &["readme"],
    );

    // With equal contents too: what is equal is not the same.
    arrive(&pair, &[("Same", "=\n"), ("same", "=\n")]);
    let all = [
        ("README", "1"),
        ("Same", "="),
        ("readme", "2"),
        ("same", "="),
    ];
    settles(&pair, &all, &["README", "Same"], &["readme", "same"]);
    assert_eq!(removals(&pair), "");

    // Each goes on: the one that is there as ever, the one that is not where it can be.
    pair.laptop.write("README", "3\n");
    pair.laptop.write("readme", "4\n");
    pair.laptop.write("same", "5\n");
    let all = [
        ("README", "3"),
        ("Same", "="),
        ("readme", "4"),
        ("same", "5"),
    ];
    settles(&pair, &all, &["README", "Same"], &["readme", "same"]);
    pair.server.write("README", "6\n");
    let all = [
        ("README", "6"),
        ("Same", "="),
        ("readme", "4"),
        ("same", "5"),
    ];
    settles(&pair, &all, &["README", "Same"], &["readme", "same"]);

    // What somebody writes by the other name is in the file that is there.
    pair.server.write("rEADME", "7\n");
    let is_new = |root: &Path| fs::read(root.join("README")).is_ok_and(|it| it == b"7\n");
    pair.laptop.sees("it", is_new);
    let all = [
        ("README", "7"),
        ("Same", "="),
        ("readme", "4"),
        ("same", "5"),
    ];
    settles(&pair, &all, &["README", "Same"], &["readme", "same"]);
    assert_eq!(removals(&pair), "");
}

#[test]
fn an_event_by_another_spelling_is_one_of_the_file_that_is_there() {
    const TEST: &str = "an_event_by_another_spelling_is_one_of_the_file_that_is_there";
    if !inside_with_disk(&format!("hostile::folding::{TEST}")) {
        return;
    }
    let sandbox = Sandbox::named("server");
    let disk = sandbox.root().join("disk");
    fs::create_dir(&disk).unwrap();
    mount(&disk);
    sandbox.git(&disk, ["init", "-q", "-b", "main", "tree"]);
    let root = disk.join("tree");
    let mut folder = Folder::open(settings(&root)).unwrap();
    // The kernel tells of the name that was used, and no poll helps here.
    let mut told = |names: &[&str]| -> String {
        let paths = names.iter().map(|name| RepoPath::new(name).unwrap());
        let job = Job::Snapshot {
            scope: Scope::Paths(paths.collect()),
            even_open: [].into(),
            trigger: Trigger::Edit,
            approved: false,
        };
        let done = folder.run(job, &mut |_| {});
        let Event::Snapshotted(outcome) = done else {
            panic!("a snapshot ends as one");
        };
        assert!(outcome.committed.is_some(), "{names:?}: {outcome:?}");
        let args = ["log", "-1", "--format=", "--name-status", "--no-renames"];
        sandbox.git(&root, args).replace('\t', " ")
    };
    for name in ["D/x", "README", "gone", "stays"] {
        fs::create_dir_all(root.join("D")).unwrap();
        fs::write(root.join(name), name).unwrap();
    }
    told(&["D/x", "README", "gone", "stays"]);
    fs::write(root.join("readme"), "2").unwrap();
    assert_eq!(told(&["readme"]), "M README");
    fs::write(root.join("d/X"), "2").unwrap();
    assert_eq!(told(&["d/X"]), "M D/x");
    fs::write(root.join("d/new"), "2").unwrap();
    assert_eq!(told(&["d"]), "A D/new");
    fs::remove_file(root.join("GONE")).unwrap();
    assert_eq!(told(&["GONE"]), "D gone");
    // Of a rename, only that something came.
    respell(&root, "README", "readme");
    assert_eq!(told(&["readme"]), "D README\nA readme");
    respell(&root, "D", "d");
    assert_eq!(told(&["d"]), "D D/new\nD D/x\nA d/new\nA d/x");
}

#[test]
fn when_one_of_two_files_goes_the_other_comes() {
    let Some(pair) = pair("when_one_of_two_files_goes_the_other_comes") else {
        return;
    };
    let all = [
        ("B", "3\n"),
        ("README", "1\n"),
        ("b", "4\n"),
        ("readme", "2\n"),
    ];
    arrive(&pair, &all);
    let all = [("B", "3"), ("README", "1"), ("b", "4"), ("readme", "2")];
    settles(&pair, &all, &["B", "README"], &["b", "readme"]);
    // Elsewhere, and here.
    fs::remove_file(pair.laptop.folder.join("README")).unwrap();
    let all = [("B", "3"), ("b", "4"), ("readme", "2")];
    settles(&pair, &all, &["B", "readme"], &["b"]);
    fs::remove_file(pair.server.folder.join("B")).unwrap();
    pair.server
        .sees("its twin", |root| listed(root).contains(&"b".to_owned()));
    settles(&pair, &[("b", "4"), ("readme", "2")], &["b", "readme"], &[]);
    // By whatever name it is deleted.
    arrive(&pair, &[("gone", "6\n")]);
    pair.server.sees("it", |root| root.join("gone").exists());
    pair.server.barrier();
    fs::remove_file(pair.server.folder.join("GONE")).unwrap();
    let is_gone = |root: &Path| !root.join("gone").exists();
    pair.laptop.sees("that it went", is_gone);
    settles(&pair, &[("b", "4"), ("readme", "2")], &["b", "readme"], &[]);
    // The one that the disk never had goes without a trace.
    arrive(&pair, &[("B", "5\n")]);
    settles(
        &pair,
        &[("B", "5"), ("b", "4"), ("readme", "2")],
        &["b", "readme"],
        &["B"],
    );
    fs::remove_file(pair.laptop.folder.join("B")).unwrap();
    settles(&pair, &[("b", "4"), ("readme", "2")], &["b", "readme"], &[]);
}

#[test]
fn of_two_directories_that_come_in_the_disk_has_one() {
    let Some(pair) = pair("of_two_directories_that_come_in_the_disk_has_one") else {
        return;
    };
    arrive(&pair, &[("D/x", "1\n"), ("d/x", "2\n"), ("d/y", "3\n")]);
    let all = [("D/x", "1"), ("d/x", "2"), ("d/y", "3")];
    settles(&pair, &all, &["D/x"], &["d/x", "d/y"]);
    assert_eq!(removals(&pair), "");

    // What is made below the directory that is there belongs to it, by whatever name.
    pair.server.write("d/new", "4\n");
    let all = [("D/new", "4"), ("D/x", "1"), ("d/x", "2"), ("d/y", "3")];
    settles(&pair, &all, &["D/new", "D/x"], &["d/x", "d/y"]);
    pair.laptop.write("d/y", "5\n");
    pair.laptop.write("d/z/z", "6\n");
    pair.laptop.write("D/x", "7\n");
    let all = [
        ("D/new", "4"),
        ("D/x", "7"),
        ("d/x", "2"),
        ("d/y", "5"),
        ("d/z/z", "6"),
    ];
    settles(&pair, &all, &["D/new", "D/x"], &["d/x", "d/y", "d/z/z"]);
    assert_eq!(removals(&pair), "");

    pair.laptop.take_away("D");
    let all = [("d/x", "2"), ("d/y", "5"), ("d/z/z", "6")];
    settles(&pair, &all, &["d/x", "d/y", "d/z/z"], &[]);
}

#[test]
fn a_file_and_a_directory_that_fold_to_one_name_are_twins() {
    let Some(pair) = pair("a_file_and_a_directory_that_fold_to_one_name_are_twins") else {
        return;
    };
    arrive(&pair, &[("T", "1\n"), ("t/x", "2\n")]);
    settles(&pair, &[("T", "1"), ("t/x", "2")], &["T"], &["t/x"]);
    fs::remove_file(pair.laptop.folder.join("T")).unwrap();
    settles(&pair, &[("t/x", "2")], &["t/x"], &[]);
    arrive(&pair, &[("T", "3\n")]);
    settles(&pair, &[("T", "3"), ("t/x", "2")], &["t/x"], &["T"]);
    assert_eq!(removals(&pair), "T");
}

#[test]
fn accents_written_in_two_ways_are_twins() {
    let Some(pair) = pair("accents_written_in_two_ways_are_twins") else {
        return;
    };
    let (composed, apart) = ("\u{e9}", "e\u{301}");
    arrive(&pair, &[(composed, "1\n"), (apart, "2\n")]);
    // The bytes decide which comes first.
    settles(
        &pair,
        &[(composed, "1"), (apart, "2")],
        &[apart],
        &[composed],
    );
    fs::remove_file(pair.laptop.folder.join(apart)).unwrap();
    settles(&pair, &[(composed, "1")], &[composed], &[]);
    respell(&pair.server.folder, composed, apart);
    settles(&pair, &[(apart, "1")], &[apart], &[]);
}

#[test]
fn a_rename_that_changes_case_alone_is_a_rename() {
    let Some(pair) = pair("a_rename_that_changes_case_alone_is_a_rename") else {
        return;
    };
    arrive(&pair, &[("D/x", "1\n"), ("README", "2\n")]);
    settles(
        &pair,
        &[("D/x", "1"), ("README", "2")],
        &["D/x", "README"],
        &[],
    );
    // Here, under the eyes of the agent,
    respell(&pair.server.folder, "README", "readme");
    respell(&pair.server.folder, "D", "d");
    settles(
        &pair,
        &[("d/x", "1"), ("readme", "2")],
        &["d/x", "readme"],
        &[],
    );
    // elsewhere,
    let rename = |host: &Host, from: &str, to: &str| {
        fs::rename(host.folder.join(from), host.folder.join(to)).unwrap();
    };
    rename(&pair.laptop, "readme", "Readme");
    rename(&pair.laptop, "d", "D");
    settles(
        &pair,
        &[("D/x", "1"), ("Readme", "2")],
        &["D/x", "Readme"],
        &[],
    );
    // and with an edit.
    respell(&pair.server.folder, "Readme", "README");
    pair.server.write("README", "3\n");
    rename(&pair.laptop, "D", "d");
    pair.laptop.write("d/x", "4\n");
    settles(
        &pair,
        &[("README", "3"), ("d/x", "4")],
        &["README", "d/x"],
        &[],
    );
}

#[test]
fn a_rename_by_case_while_the_agent_was_away_is_a_rename() {
    let Some(mut pair) = pair("a_rename_by_case_while_the_agent_was_away_is_a_rename") else {
        return;
    };
    arrive(&pair, &[("D/s/x", "1\n"), ("README", "2\n")]);
    settles(
        &pair,
        &[("D/s/x", "1"), ("README", "2")],
        &["D/s/x", "README"],
        &[],
    );
    pair.server.stop();
    respell(&pair.server.folder, "README", "readme");
    respell(&pair.server.folder, "D", "d");
    pair.server.start();
    settles(
        &pair,
        &[("d/s/x", "1"), ("readme", "2")],
        &["d/s/x", "readme"],
        &[],
    );
    assert!(!pair.server.folder.join(".git/autosync/bases").exists());
}

#[test]
fn a_directory_takes_the_case_that_comes_in_though_it_has_files_of_its_own() {
    let Some(pair) =
        pair("a_directory_takes_the_case_that_comes_in_though_it_has_files_of_its_own")
    else {
        return;
    };
    arrive(&pair, &[(".gitignore", "*.o\n"), ("D/x", "1\n")]);
    settles(
        &pair,
        &[(".gitignore", "*.o"), ("D/x", "1")],
        &[".gitignore", "D/x"],
        &[],
    );
    pair.server.write("D/x.o", "built\n");
    fs::rename(pair.laptop.folder.join("D"), pair.laptop.folder.join("d")).unwrap();
    pair.quiet();
    // The directory stays for what nobody else has, and nothing is lost or taken back.
    let status = pair.server.barrier();
    assert_eq!(pair.server.read("D/x.o").unwrap(), "built\n");
    assert_eq!(not_here(&status), ["d/x"]);
    assert_eq!(in_hub(&pair)[2], ("d/x".to_owned(), "1".to_owned()));
    pair.server.assert_quiet();
    fs::remove_dir_all(pair.server.folder.join("D")).unwrap();
    settles(
        &pair,
        &[(".gitignore", "*.o"), ("d/x", "1")],
        &[".gitignore", "d/x"],
        &[],
    );
}

#[test]
fn a_work_tree_of_git_with_twins_loses_none_of_them() {
    const TEST: &str = "a_work_tree_of_git_with_twins_loses_none_of_them";
    let Some(mut pair) = pair(TEST) else {
        return;
    };
    arrive(&pair, &[("README", "1\n"), ("readme", "2\n")]);
    settles(
        &pair,
        &[("README", "1"), ("readme", "2")],
        &["README"],
        &["readme"],
    );
    // git writes one over the other, and takes both for its own.
    pair.server.stop();
    let other: &Path = &pair.server.sandbox.root().join("disk/Other");
    let hub = pair.hub.to_str().unwrap();
    let disk = other.parent().unwrap();
    let _said = pair.server.sandbox.git(disk, ["clone", "-q", hub, "Other"]);
    assert_eq!(listed(other).len(), 2, "one of the twins, and `a`");
    pair.server.folder = other.to_owned();
    pair.server =
        std::mem::replace(&mut pair.server, Host::new("server")).with_args([other.to_owned()]);
    pair.server.start();
    pair.quiet();
    pair.server.assert_quiet();
    let all = [("README", "1"), ("a", "1"), ("readme", "2")];
    let all = all.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(in_hub(&pair), all);
    assert_eq!(removals(&pair), "");
    assert_eq!(pair.server.run(["sync"]).code, Some(0));
    pair.server.assert_quiet();
    assert_eq!(in_hub(&pair), all);
}

#[test]
fn a_kill_while_twins_come_and_go_needs_nobody() {
    const TEST: &str = "a_kill_while_twins_come_and_go_needs_nobody";
    if !inside_with_disk(&format!("hostile::folding::{TEST}")) {
        return;
    }
    let laptop = pair::Host::new(Sandbox::named("laptop"));
    let mut server = pair::Host::new(Sandbox::named("server"));
    let disk = server.sandbox.root().join("disk");
    fs::create_dir(&disk).unwrap();
    mount(&disk);
    server.root = disk.join("tree");
    let hub = laptop.sandbox.root().join("hub.git");
    fs::create_dir(&laptop.root).unwrap();
    laptop.write("README", "0\n");
    laptop.write("D/x", "x\n");
    let (here, there) = (laptop.root.to_str().unwrap(), hub.to_str().unwrap());
    assert_eq!(
        laptop.sandbox.run(["init", here, "--hub", there]).code,
        Some(0)
    );
    let here = server.root.to_str().unwrap();
    assert_eq!(server.sandbox.run(["clone", there, here]).code, Some(0));

    let respell = |from: &str, to: &str| fs::rename(laptop.at(from), laptop.at(to)).unwrap();
    let steps = [
        "A2.journal",
        "A3.moved",
        "A3.emptied",
        "A3.created",
        "A4.bases",
        "S8.index",
    ];
    for (round, step) in steps.iter().enumerate() {
        // The twin goes, and the other has to come; then the first is back, and has no room.
        let (file, dir) = if round % 2 == 0 {
            laptop.write("readme", format!("{step}\n"));
            assert_eq!(laptop.once().code, Some(0), "{step}");
            assert_eq!(server.once().code, Some(3), "{step}: not all is done");
            assert_eq!(listed(&server.root), ["D", "README"], "{step}");
            laptop.remove("README");
            respell("D", "d");
            ("readme", "d")
        } else {
            laptop.write("README", format!("{step}\n"));
            assert_eq!(laptop.once().code, Some(0), "{step}");
            assert_eq!(server.once().code, Some(3), "{step}: not all is done");
            assert_eq!(listed(&server.root), ["d", "readme"], "{step}");
            laptop.remove("readme");
            respell("d", "D");
            ("README", "D")
        };
        assert_eq!(laptop.once().code, Some(0), "{step}");
        let tip = laptop.git(&["rev-parse", "HEAD"]);
        assert_eq!(
            server.once_with(&format!("{step}:kill")).code,
            Some(137),
            "{step} was not passed"
        );
        for _ in 0..2 {
            let ran = server.once();
            assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
            assert_eq!(listed(&server.root), {
                let mut names = [dir, file];
                names.sort_unstable();
                names
            });
        }
        assert_eq!(server.read(file), format!("{step}\n"));
        assert_eq!(listed(&server.at(dir)), ["x"], "{step}");
        assert_eq!(
            server.git(&["rev-parse", "HEAD"]),
            tip,
            "{step}: nothing was committed"
        );
        assert_eq!(server.git(&["status", "--porcelain"]), "", "{step}");
        server.assert_sound(step);
    }
}
