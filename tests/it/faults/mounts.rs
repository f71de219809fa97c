//! What is mounted over the folder, over a part of it, or away from it: never a deletion.

use std::fs;
use std::path::Path;

use super::disk::system;
use super::{AT_ONCE, Told, held, well};
use crate::support::Sandbox;
use crate::support::host::{Host, Pair};
use crate::support::inside::{ROOT_INSIDE, inside};

fn mount(args: &[&str], at: &Path) {
    system("mount", &[args, &[at.to_str().unwrap()]].concat());
}

fn unmount(at: &Path) {
    system("umount", &["--lazy", at.to_str().unwrap()]);
}

/// A pair whose folders have the same files in two directories.
fn pair() -> Pair {
    let pair = Pair::configured(AT_ONCE);
    for n in 0..3 {
        pair.laptop.write(format!("d/sub/{n}"), "1\n");
        pair.laptop.write(format!("e/{n}"), "1\n");
    }
    pair.server
        .sees("the last one", |root| root.join("e/2").exists());
    pair.equal();
    pair
}

/// Waits until a directory is listed as held for what is mounted there, and the rest goes on.
#[track_caller]
fn held_below(host: &Host, dir: &str) {
    host.until("the directory is held", |host| {
        let status = host.folder_status();
        status
            .held
            .iter()
            .any(|held| held.code == "mounted" && held.paths == [dir])
    });
    assert_eq!(host.run(["status"]).code, Some(3));
}

#[test]
fn an_empty_disk_over_the_folder_is_no_empty_folder() {
    if !inside(
        ROOT_INSIDE,
        "faults::mounts::an_empty_disk_over_the_folder_is_no_empty_folder",
    ) {
        return;
    }
    let mut pair = pair();
    let folder = pair.laptop.folder.clone();
    let tip = pair.tip();
    let told = Told::by(&pair.laptop);
    mount(&["-t", "tmpfs", "tmpfs"], &folder);
    let status = held(&pair.laptop, "root-missing");
    assert!(status.hint.contains("nmount"), "{status:#?}");
    told.only(&pair.laptop, "root-missing");
    pair.laptop.write("foreign", "f\n");
    pair.laptop.barrier();
    pair.server.write("meanwhile", "m\n");
    pair.server.synced();
    pair.server.barrier();
    assert_eq!(pair.server.tree().len(), 7);
    assert!(!folder.join(".git").exists(), "nothing is made there");
    assert!(!folder.join("meanwhile").exists(), "nor written");
    unmount(&folder);
    pair.laptop.sees("what came meanwhile", |root| {
        root.join("meanwhile").exists()
    });
    well(&pair.laptop);
    assert_eq!(pair.ends_well().len(), 7);
    assert_ne!(pair.tip(), tip);

    // The same over a start.
    let tip = pair.tip();
    pair.laptop.stop();
    mount(&["-t", "tmpfs", "tmpfs"], &folder);
    let said = pair.laptop.run(["run", folder.to_str().unwrap()]).fails(10);
    assert!(said.contains("mount it"), "{said}");
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        0,
        "nothing is made there"
    );
    unmount(&folder);
    pair.laptop.start();
    assert_eq!(pair.ends_well().len(), 7);
    assert_eq!(pair.tip(), tip);
}

#[test]
fn a_disk_that_goes_and_comes_back_is_waited_for() {
    if !inside(
        ROOT_INSIDE,
        "faults::mounts::a_disk_that_goes_and_comes_back_is_waited_for",
    ) {
        return;
    }
    let mut laptop = Host::new("laptop");
    laptop.sandbox.config(AT_ONCE);
    let disk = laptop.sandbox.root().join("disk");
    for dir in [&disk, &laptop.folder] {
        fs::create_dir(dir).unwrap();
    }
    mount(&["--bind", disk.to_str().unwrap()], &laptop.folder);
    laptop.start();
    laptop.write("a", "1\n");
    laptop.synced();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let tip = || laptop.sandbox.git(&hub, ["rev-parse", "main"]);
    let before = tip();
    let told = Told::by(&laptop);
    unmount(&laptop.folder);
    held(&laptop, "root-missing");
    told.only(&laptop, "root-missing");
    assert_eq!(tip(), before);
    fs::write(disk.join("a"), "2\n").unwrap();
    mount(&["--bind", disk.to_str().unwrap()], &laptop.folder);
    laptop.until("it goes on", |_| tip() != before);
    well(&laptop);
    laptop.synced();
    assert_eq!(laptop.sandbox.git(&hub, ["show", "main:a"]), "2");
}

#[test]
fn a_disk_over_a_directory_hides_nothing_and_shows_nothing() {
    if !inside(
        ROOT_INSIDE,
        "faults::mounts::a_disk_over_a_directory_hides_nothing_and_shows_nothing",
    ) {
        return;
    }
    for bind in [false, true] {
        let mut pair = pair();
        let dir = pair.laptop.folder.join("d");
        let other = pair.laptop.sandbox.root().join("other");
        fs::create_dir(&other).unwrap();
        let cover = || {
            if bind {
                mount(&["--bind", other.to_str().unwrap()], &dir);
            } else {
                mount(&["-t", "tmpfs", "tmpfs"], &dir);
            }
        };
        let told = Told::by(&pair.laptop);
        for stopped in [false, true] {
            let before = pair.server.tree();
            if stopped {
                pair.laptop.stop();
                cover();
                pair.laptop.start();
            } else {
                cover();
            }
            held_below(&pair.laptop, "d");
            // What is written there belongs to the other disk.
            pair.laptop.write("d/foreign", "f\n");
            pair.laptop.write("e/0", format!("{stopped}\n"));
            pair.laptop.run(["sync"]).ok();
            pair.server.sees("the rest goes on", |root| {
                fs::read_to_string(root.join("e/0")).is_ok_and(|it| it == format!("{stopped}\n"))
            });
            pair.laptop.barrier();
            pair.server.barrier();
            let after = pair.server.tree();
            assert!(before.keys().eq(after.keys()), "{after:?}");
            // What comes in below it waits, too.
            pair.server.write("d/sub/0", format!("server {stopped}\n"));
            pair.server.synced();
            pair.laptop
                .until("it came", |host| host.folder_status().head == pair.tip());
            let status = pair.laptop.folder_status();
            let waits = status.deferred.iter().find(|it| it.path == "d/sub/0");
            assert!(waits.unwrap().why.contains("mounted over"), "{status:#?}");
            assert!(!dir.join("sub").exists(), "nothing is written there");
            if !stopped {
                assert_eq!(told.codes(), ["mounted"]);
            }
            unmount(&dir);
            pair.laptop.run(["sync"]).ok();
            let wanted = format!("server {stopped}\n");
            pair.laptop.sees("what waited", |root| {
                fs::read_to_string(root.join("d/sub/0")).is_ok_and(|it| it == wanted)
            });
            assert_eq!(pair.ends_well().len(), 6);
            assert_eq!(pair.laptop.folder_status().held, []);
        }
    }
}

#[test]
fn a_disk_that_is_part_of_the_folder_takes_nothing_along_when_it_goes() {
    if !inside(
        ROOT_INSIDE,
        "faults::mounts::a_disk_that_is_part_of_the_folder_takes_nothing_along_when_it_goes",
    ) {
        return;
    }
    let mut pair = pair();
    let disk = pair.laptop.sandbox.root().join("disk");
    let dir = pair.laptop.folder.join("usb");
    for dir in [&disk, &dir] {
        fs::create_dir(dir).unwrap();
    }
    // Mounted where nothing was, it is part of the folder.
    mount(&["--bind", disk.to_str().unwrap()], &dir);
    pair.laptop.write("usb/a", "1\n");
    pair.laptop.write("usb/b", "1\n");
    pair.server
        .sees("what is on it", |root| root.join("usb/b").exists());
    assert_eq!(pair.ends_well().len(), 8);
    for stopped in [false, true] {
        if stopped {
            pair.laptop.stop();
            unmount(&dir);
            pair.laptop.start();
        } else {
            unmount(&dir);
        }
        held_below(&pair.laptop, "usb");
        // What is written to the empty place belongs to nobody yet.
        pair.laptop.write("usb/c", "below\n");
        pair.laptop.write("e/0", format!("{stopped}\n"));
        pair.server.sees("the rest goes on", |root| {
            fs::read_to_string(root.join("e/0")).is_ok_and(|it| it == format!("{stopped}\n"))
        });
        pair.laptop.barrier();
        pair.server.barrier();
        for (name, there) in [("usb/a", true), ("usb/b", true), ("usb/c", false)] {
            assert_eq!(pair.server.read(name).is_some(), there, "{name}");
        }
        fs::remove_file(dir.join("c")).unwrap();
        mount(&["--bind", disk.to_str().unwrap()], &dir);
        pair.laptop.write("usb/a", format!("edited {stopped}\n"));
        let wanted = format!("edited {stopped}\n");
        pair.server.sees("an edit on it", |root| {
            fs::read_to_string(root.join("usb/a")).is_ok_and(|it| it == wanted)
        });
        assert_eq!(pair.ends_well().len(), 8);
        assert_eq!(pair.laptop.folder_status().held, []);
    }
    // Gone for good, a person says so.
    unmount(&dir);
    held_below(&pair.laptop, "usb");
    pair.laptop.run(["approve"]).ok();
    pair.server
        .sees("they go", |root| !root.join("usb").exists());
    assert_eq!(pair.ends_well().len(), 6);
}

#[test]
fn another_directory_in_the_place_of_the_folder_is_asked_about_and_deletes_nothing() {
    let mut laptop = Host::new("laptop").with_args([""; 0]);
    let git = laptop.sandbox.root().join("elsewhere.git");
    let config = format!(
        "{AT_ONCE}[[folder]]\npath = \"~/Sync\"\ngit_dir = \"{}\"\n",
        git.display()
    );
    laptop.sandbox.config(&config);
    fs::create_dir(&laptop.folder).unwrap();
    let separate = ["init", "-q", "--separate-git-dir", git.to_str().unwrap()];
    laptop.sandbox.git(&laptop.folder, separate);
    laptop.start();
    for n in 0..60 {
        laptop.write(format!("d/{n}"), format!("{n}\n"));
    }
    laptop.write("a", "1\n");
    laptop.run(["sync"]).ok();
    laptop.barrier();
    let tracked = || {
        laptop
            .sandbox
            .git(&git, ["ls-tree", "-r", "--name-only", "main"])
    };
    let all = tracked();
    assert_eq!(all.lines().count(), 61);
    let told = Told::by(&laptop);
    let aside = laptop.sandbox.root().join("aside");
    // It has nothing of what the folder had, and files of its own.
    let swap = |laptop: &Host, there: &str| {
        fs::rename(&laptop.folder, &aside).unwrap();
        fs::create_dir(&laptop.folder).unwrap();
        laptop.write(there, "f\n");
    };
    swap(&laptop, "foreign");
    let status = held(&laptop, "root-changed");
    assert!(status.hint.contains("mount the right disk"), "{status:#?}");
    told.only(&laptop, "root-changed");
    assert_eq!(tracked(), all);
    fs::remove_dir_all(&laptop.folder).unwrap();
    fs::rename(&aside, &laptop.folder).unwrap();
    well(&laptop);
    laptop.write("a", "2\n");
    laptop.run(["sync"]).ok();
    laptop.barrier();
    assert_eq!(tracked(), all);

    // A person says that it is right, and is asked again about what is missing in it.
    swap(&laptop, "new");
    held(&laptop, "root-changed");
    laptop.run(["approve"]).ok();
    laptop.until("what is missing is a question", |host| {
        let held = host.folder_status().held;
        held.iter()
            .any(|it| it.code == "mass-delete" && it.paths.len() + it.more == 61)
    });
    laptop.until("the rest goes on", |_| tracked().contains("new"));
    assert_eq!(tracked().lines().count(), 62);
    laptop.run(["approve"]).ok();
    laptop.until("it goes", |_| tracked() == "new");
    well(&laptop);
    // What is there now is watched.
    fs::create_dir(laptop.folder.join("deep")).unwrap();
    laptop.barrier();
    laptop.write("deep/later", "1\n");
    laptop.barrier();
    assert_eq!(tracked(), "deep/later\nnew");
}

/// How a folder goes and is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By its name, and nothing is there meanwhile.
    Moved,
    /// By its name, and another directory is there meanwhile.
    Replaced,
    /// With the directory that it is in, which no watch sees.
    Above,
}

#[test]
fn a_folder_that_is_moved_away_and_put_back_goes_on_by_itself() {
    for way in [Way::Moved, Way::Replaced, Way::Above] {
        let sandbox = Sandbox::named("laptop");
        sandbox.config(AT_ONCE);
        let above = sandbox.home().join("above");
        fs::create_dir(&above).unwrap();
        let mut laptop = Host::of(sandbox, "laptop").with_args([above.join("Sync")]);
        laptop.folder = above.join("Sync");
        laptop.start();
        laptop.write("a", "1\n");
        laptop.synced();
        let hub = laptop.sandbox.paths().hubs().join("Sync.git");
        let shows = |what: &str| laptop.sandbox.git(&hub, ["show", &format!("main:{what}")]);
        let told = Told::by(&laptop);
        let goes = if way == Way::Above {
            above.clone()
        } else {
            laptop.folder.clone()
        };
        let aside = laptop.sandbox.home().join("aside");
        let there = if way == Way::Above {
            aside.join("Sync")
        } else {
            aside.clone()
        };
        fs::rename(&goes, &aside).unwrap();
        if way == Way::Replaced {
            fs::create_dir(&goes).unwrap();
            laptop.write("foreign", "f\n");
        }
        fs::create_dir(there.join("new")).unwrap();
        fs::write(there.join("new/b"), "1\n").unwrap();
        held(&laptop, "root-missing");
        told.only(&laptop, "root-missing");
        if way == Way::Replaced {
            fs::remove_dir_all(&goes).unwrap();
        }
        fs::rename(&aside, &goes).unwrap();
        well(&laptop);
        laptop.until("what was written meanwhile is there", |host| {
            host.sandbox
                .git(&hub, ["ls-tree", "-r", "--name-only", "main"])
                == "a\nnew/b"
        });
        // It is watched as before, with all that is new in it.
        laptop.barrier();
        laptop.write("new/b", "2\n");
        laptop.write("a", "2\n");
        laptop.synced();
        laptop.barrier();
        assert_eq!(
            (shows("new/b"), shows("a")),
            ("2".into(), "2".into()),
            "{way:?}"
        );
        assert_eq!(told.codes(), ["root-missing"], "{way:?}");
    }
}
