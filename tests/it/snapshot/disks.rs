//! Disks below the folder, and the folder's own: which one is there, and one that goes or changes in
//! the middle of a look. What cannot be seen is no deletion.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use autosync::fault;

use super::*;
use crate::faults::disk::system;
use crate::support::inside::{ROOT_INSIDE, inside};

/// A file system without a name of its own, as FAT is: the kernel makes one of the device's number.
const NAMELESS: &str = "ramfs";

fn mount(kind: &str, at: &Path) {
    system("mount", &["-t", kind, kind, at.to_str().unwrap()]);
}

pub(super) fn bind(from: &Path, at: &Path) {
    let names = [from, at].map(|path| path.to_str().unwrap());
    system("mount", &["--bind", names[0], names[1]]);
}

pub(super) fn unmount(at: &Path) {
    system("umount", &["--lazy", at.to_str().unwrap()]);
}

/// Looks at everything while a hook strikes at the named steps.
fn struck(lab: &mut Lab, strike: impl FnMut(&str) + 'static) -> Snapshotted {
    fault::with_hook(strike, || lab.everything())
}

/// What is held because of a disk.
pub(super) fn waiting(outcome: &Snapshotted) -> Vec<String> {
    let held = outcome.held.iter().filter(|it| it.code == Code::Mounted);
    held.flat_map(|it| it.paths.iter().map(ToString::to_string))
        .collect()
}

/// A folder with two files on a disk at `usb` and one beside it.
fn with_a_disk() -> (Lab, PathBuf, PathBuf) {
    let mut lab = Lab::new();
    let usb = lab.bench.root().join("usb");
    let disk = lab.bench.root().with_file_name("disk");
    fs::create_dir(&usb).unwrap();
    fs::create_dir(&disk).unwrap();
    bind(&disk, &usb);
    for name in ["usb/a", "usb/b", "beside"] {
        lab.write(name, "1\n");
    }
    assert_eq!(lab.everything().held, []);
    assert_eq!(lab.tracked(), ["beside", "usb/a", "usb/b"]);
    (lab, disk, usb)
}

#[test]
fn a_disk_that_goes_in_the_middle_of_a_look_takes_nothing_along() {
    let test = "snapshot::disks::a_disk_that_goes_in_the_middle_of_a_look_takes_nothing_along";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let (mut lab, disk, usb) = with_a_disk();
    for name in ["usb/a", "beside"] {
        lab.write(name, "2\n");
    }
    let at = usb.clone();
    let outcome = struck(&mut lab, move |step| {
        if step == "S2.candidates" {
            unmount(&at);
        }
    });
    assert_eq!(outcome.blocked, None);
    assert_eq!(waiting(&outcome), ["usb"], "{outcome:?}");
    assert_eq!(lab.tracked(), ["beside", "usb/a", "usb/b"]);
    assert_eq!(lab.git(&["show", "HEAD:beside"]), "2", "the rest goes on");

    // It is back before anybody asks.
    bind(&disk, &usb);
    assert_eq!(lab.everything().held, []);
    assert_eq!(lab.git(&["show", "HEAD:usb/a"]), "2");
    lab.write("usb/a", "3\n");
    let at = usb.clone();
    let outcome = struck(&mut lab, move |step| match step {
        "S2.candidates" => unmount(&at),
        "S3.read" => bind(&disk, &at),
        _ => {}
    });
    assert_eq!(lab.tracked(), ["beside", "usb/a", "usb/b"], "{outcome:?}");
    lab.everything();
    assert_eq!(lab.git(&["show", "HEAD:usb/a"]), "3");
}

#[test]
fn an_edit_of_the_same_moment_on_a_disk_that_goes_is_seen_when_it_is_back() {
    let test =
        "snapshot::disks::an_edit_of_the_same_moment_on_a_disk_that_goes_is_seen_when_it_is_back";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let (mut lab, disk, usb) = with_a_disk();
    lab.git(&["config", "core.trustCtime", "false"]);
    // A clock tick of git, a second, in which the file is looked at, and changed after that.
    let moment = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    let set = |file: &Path| {
        let file = fs::File::options().append(true).open(file).unwrap();
        file.set_modified(moment).unwrap();
    };
    set(&usb.join("a"));
    lab.git(&["status"]);
    set(&lab.bench.root().join(".git/index"));
    lab.write("usb/a", "2\n");
    set(&usb.join("a"));

    // What is beside it is committed while the disk is away, twice.
    unmount(&usb);
    for text in ["2\n", "3\n"] {
        lab.write("beside", text);
        assert_eq!(waiting(&lab.everything()), ["usb"]);
    }
    assert_eq!(lab.git(&["show", "HEAD:beside"]), "3");
    bind(&disk, &usb);
    assert_eq!(lab.everything().held, []);
    assert_eq!(lab.git(&["show", "HEAD:usb/a"]), "2");
}

#[test]
fn a_disk_that_comes_in_the_middle_of_a_look_is_known_when_it_goes() {
    let test = "snapshot::disks::a_disk_that_comes_in_the_middle_of_a_look_is_known_when_it_goes";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let mut lab = Lab::new();
    let usb = lab.bench.root().join("usb");
    let disk = lab.bench.root().with_file_name("disk");
    fs::create_dir(&usb).unwrap();
    fs::create_dir(&disk).unwrap();
    fs::write(disk.join("a"), "1\n").unwrap();
    lab.write("beside", "1\n");
    let (from, at) = (disk.clone(), usb.clone());
    let outcome = struck(&mut lab, move |step| {
        if step == "S1.record" {
            bind(&from, &at);
        }
    });
    assert_eq!(lab.tracked(), ["beside", "usb/a"], "{outcome:?}");
    unmount(&usb);
    let outcome = lab.everything();
    assert_eq!(waiting(&outcome), ["usb"], "{outcome:?}");
    assert_eq!(lab.tracked(), ["beside", "usb/a"]);
    bind(&disk, &usb);
    assert_eq!(lab.everything().held, []);
}

/// A folder on a disk of its own whose git directory is elsewhere.
fn on_a_disk(mount: impl FnOnce(&Path)) -> (Lab, PathBuf) {
    let bench = Bench::new();
    let root = bench.root().to_owned();
    let git = root.with_file_name("elsewhere.git");
    fs::rename(root.join(".git"), &git).unwrap();
    mount(&root);
    bench.write(".git", format!("gitdir: {}\n", git.display()));
    let mut wanted = settings(&root);
    wanted.git_dir = Some(git);
    let folder = Folder::open(wanted).unwrap();
    let mut lab = Lab { bench, folder };
    for name in ["a", "b", "c"] {
        lab.write(name, "1\n");
    }
    lab.everything();
    (lab, root)
}

#[test]
fn a_root_that_goes_in_the_middle_of_a_look_takes_nothing_along() {
    let test = "snapshot::disks::a_root_that_goes_in_the_middle_of_a_look_takes_nothing_along";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let (mut lab, root) = on_a_disk(|root| mount("tmpfs", root));
    let git = fs::read(root.join(".git")).unwrap();
    lab.write("a", "2\n");
    let at = root.clone();
    let outcome = struck(&mut lab, move |step| {
        if step == "S2.candidates" {
            unmount(&at);
            fs::write(at.join(".git"), &git).unwrap();
        }
    });
    assert_eq!(outcome.committed, None);
    assert_eq!(outcome.blocked.unwrap().code, Code::RootChanged);
    assert_eq!(lab.tracked(), ["a", "b", "c"]);
}

#[test]
fn another_disk_in_the_same_place_is_not_taken_for_the_one_that_was_there() {
    let test =
        "snapshot::disks::another_disk_in_the_same_place_is_not_taken_for_the_one_that_was_there";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let mut lab = Lab::new();
    let usb = lab.bench.root().join("usb");
    fs::create_dir(&usb).unwrap();
    mount(NAMELESS, &usb);
    lab.write("usb/a", "1\n");
    lab.write("usb/d/b", "1\n");
    lab.everything();
    let id = |at: &Path| {
        (
            fs::metadata(at).unwrap().dev(),
            fs::metadata(at).unwrap().ino(),
        )
    };
    let before = id(&usb);
    // Another stick in the same port has the same number, the same inode at its top, and other files.
    fs::remove_file(usb.join("a")).unwrap();
    fs::remove_dir_all(usb.join("d")).unwrap();
    lab.write("usb/foreign", "f\n");
    assert_eq!(id(&usb), before);
    for look in 0..3 {
        let outcome = lab.everything();
        assert_eq!(waiting(&outcome), ["usb"], "{look}: {outcome:?}");
        assert_eq!(lab.tracked(), ["usb/a", "usb/d/b"], "{look}");
    }
    // The right one is back.
    fs::remove_file(usb.join("foreign")).unwrap();
    lab.write("usb/a", "2\n");
    lab.write("usb/d/b", "1\n");
    assert_eq!(lab.everything().held, []);
    assert_eq!(lab.git(&["show", "HEAD:usb/a"]), "2");

    // The right one in another port has another number, and what it had.
    unmount(&usb);
    mount(NAMELESS, &usb);
    assert_ne!(id(&usb), before);
    for (name, text) in [("usb/a", "3\n"), ("usb/d/b", "1\n"), ("usb/new", "n\n")] {
        lab.write(name, text);
    }
    let outcome = lab.everything();
    assert_eq!(waiting(&outcome), [""; 0], "{outcome:?}");
    assert_eq!(lab.tracked(), ["usb/a", "usb/d/b", "usb/new"]);
    assert_eq!(lab.git(&["show", "HEAD:usb/a"]), "3");

    // It was emptied on purpose, a person says.
    fs::remove_dir_all(usb.join("d")).unwrap();
    for name in ["a", "new"] {
        fs::remove_file(usb.join(name)).unwrap();
    }
    assert_eq!(waiting(&lab.everything()), ["usb"]);
    let outcome = lab.look(Scope::Everything, &[], true);
    assert_eq!(waiting(&outcome), [""; 0], "{outcome:?}");
    // Nothing is left in the whole folder then, and that is a question of its own.
    assert_eq!(outcome.held[0].code, Code::MassDelete);
    let outcome = lab.look(Scope::Everything, &[], true);
    assert_eq!(outcome.held, [], "{outcome:?}");
    assert_eq!(lab.tracked(), [""; 0]);
}

#[test]
fn a_folder_whose_repository_is_elsewhere_knows_its_disk() {
    let test = "snapshot::disks::a_folder_whose_repository_is_elsewhere_knows_its_disk";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let (mut lab, root) = on_a_disk(|root| mount(NAMELESS, root));
    for name in ["a", "b", "c"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    lab.write("foreign", "f\n");
    for look in 0..2 {
        let outcome = lab.everything();
        let code = outcome.blocked.as_ref().map(|it| it.code);
        assert_eq!(code, Some(Code::RootChanged), "{look}: {outcome:?}");
    }
    assert_eq!(lab.tracked(), ["a", "b", "c"]);
    // The right one is back, over a boot as another device.
    let git = root.with_file_name("elsewhere.git");
    fs::remove_file(root.join("foreign")).unwrap();
    for name in ["a", "b", "c"] {
        lab.write(name, "2\n");
    }
    let known = git.join("autosync/root");
    let words = fs::read_to_string(&known).unwrap();
    let boot = words.split(' ').nth(2).unwrap().trim_end().to_owned();
    let device = words.split(' ').next().unwrap().to_owned();
    let other = words
        .replacen(&device, "4711", 1)
        .replace(&boot, "another-boot");
    fs::write(&known, other).unwrap();
    let outcome = lab.everything();
    assert_eq!(outcome.blocked, None);
    assert_eq!(lab.git(&["show", "HEAD:a"]), "2");

    // Emptied on purpose, a person says; then what is missing is a question of its own.
    for name in ["a", "b", "c"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    lab.write("new", "n\n");
    let outcome = lab.everything();
    assert_eq!(outcome.blocked.unwrap().code, Code::RootChanged);
    let outcome = lab.look(Scope::Everything, &[], true);
    assert_eq!(outcome.blocked, None);
    assert_eq!(lab.everything().blocked, None);
    assert_eq!(lab.tracked(), ["new"]);
}
