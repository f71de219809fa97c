//! Disks below the folder, and the folder's own, that go in the middle of a look: what cannot be seen is
//! no deletion.

use std::fs;
use std::path::{Path, PathBuf};

use autosync::fault;

use super::*;
use crate::faults::disk::system;
use crate::support::inside::{ROOT_INSIDE, inside};

fn mount(kind: &str, at: &Path) {
    system("mount", &["-t", kind, kind, at.to_str().unwrap()]);
}

fn bind(from: &Path, at: &Path) {
    let names = [from, at].map(|path| path.to_str().unwrap());
    system("mount", &["--bind", names[0], names[1]]);
}

fn unmount(at: &Path) {
    system("umount", &["--lazy", at.to_str().unwrap()]);
}

/// Looks at everything while a hook strikes at the named steps.
fn struck(lab: &mut Lab, strike: impl FnMut(&str) + 'static) -> Snapshotted {
    fault::with_hook(strike, || lab.everything())
}

/// What is held because of a disk.
fn waiting(outcome: &Snapshotted) -> Vec<String> {
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
