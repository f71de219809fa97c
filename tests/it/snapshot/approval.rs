//! What an approval lets through: what was held when the person saw it, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::disks::{bind, unmount, waiting};
use super::*;
use crate::support::inside::{ROOT_INSIDE, inside};

/// Files of a directory, more than may vanish without a question.
const MANY: usize = 20;

fn fill(lab: &Lab, dir: &str) {
    for number in 0..MANY {
        lab.write(&format!("{dir}/{number:02}"), format!("{dir} {number}\n"));
    }
}

fn away(lab: &Lab, dir: &str) {
    fs::remove_dir_all(lab.bench.root().join(dir)).unwrap();
}

fn below(lab: &Lab, dir: &str) -> usize {
    let dir = format!("{dir}/");
    let tracked = lab.tracked();
    tracked.iter().filter(|name| name.starts_with(&dir)).count()
}

fn deletes(outcome: &Snapshotted) -> usize {
    let held = outcome.held.iter().find(|it| it.code == Code::MassDelete);
    held.map_or(0, |it| it.paths.len() + it.more)
}

fn approve(lab: &mut Lab) -> Snapshotted {
    lab.look(Scope::Everything, &[], true)
}

#[test]
fn what_was_deleted_after_a_person_looked_is_a_question_of_its_own() {
    let mut lab = Lab::new();
    for dir in ["photos", "thesis", "rest"] {
        fill(&lab, dir);
    }
    lab.everything();
    away(&lab, "photos");
    assert_eq!(deletes(&lab.everything()), MANY);
    away(&lab, "thesis");
    let outcome = approve(&mut lab);
    assert_eq!((below(&lab, "photos"), below(&lab, "thesis")), (0, MANY));
    assert_eq!(deletes(&outcome), MANY, "{outcome:?}");
    let said = lab.git(&["log", "-1", "--format=%B"]);
    assert!(said.contains("Autosync-Approved: laptop"), "{said}");

    // Put back, it is a question no more; a few files more are none beside what was approved.
    fill(&lab, "thesis");
    assert_eq!(deletes(&lab.everything()), 0);
    away(&lab, "thesis");
    assert_eq!(deletes(&lab.everything()), MANY);
    for name in ["rest/00", "rest/01"] {
        fs::remove_file(lab.bench.root().join(name)).unwrap();
    }
    let outcome = approve(&mut lab);
    assert_eq!(outcome.held, [], "{outcome:?}");
    assert_eq!((below(&lab, "thesis"), below(&lab, "rest")), (0, MANY - 2));

    // Without a question that was asked, an approval approves nothing.
    away(&lab, "rest");
    assert_eq!(deletes(&approve(&mut lab)), MANY - 2);
    assert_eq!(below(&lab, "rest"), MANY - 2);
}

/// A folder with many files on a disk at `usb`, many in `photos` and some beside them.
fn with_a_disk() -> (Lab, PathBuf) {
    let mut lab = Lab::new();
    let usb = lab.bench.root().join("usb");
    let disk = lab.bench.root().with_file_name("disk");
    for dir in [&usb, &disk] {
        fs::create_dir(dir).unwrap();
    }
    bind(&disk, &usb);
    for dir in ["usb", "photos", "rest"] {
        fill(&lab, dir);
    }
    assert_eq!(lab.everything().held, []);
    (lab, usb)
}

#[test]
fn an_approval_of_deletes_is_none_of_a_disk_that_is_away() {
    let test = "snapshot::approval::an_approval_of_deletes_is_none_of_a_disk_that_is_away";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    // Unplugged after the person looked, or before: listed beside the deletes it waits all the same.
    for listed in [false, true] {
        let (mut lab, usb) = with_a_disk();
        away(&lab, "photos");
        lab.everything();
        unmount(&usb);
        if listed {
            assert_eq!(waiting(&lab.everything()), ["usb"]);
        }
        let outcome = approve(&mut lab);
        assert_eq!((below(&lab, "photos"), below(&lab, "usb")), (0, MANY));
        assert_eq!(waiting(&outcome), ["usb"], "{outcome:?}");
        assert_eq!(deletes(&outcome), 0);

        // Alone it is what an approval means; what is then missing is looked at as ever.
        let outcome = approve(&mut lab);
        assert_eq!(waiting(&outcome), [""; 0], "{outcome:?}");
        assert_eq!(deletes(&outcome), MANY, "{outcome:?}");
        assert_eq!(below(&lab, "usb"), MANY);
        let outcome = approve(&mut lab);
        assert_eq!(outcome.held, [], "{outcome:?}");
        assert_eq!(below(&lab, "usb"), 0);
    }
}

#[test]
fn an_approval_of_deletes_is_none_of_another_root() {
    let mut lab = Lab::new();
    for dir in ["photos", "rest"] {
        fill(&lab, dir);
    }
    lab.everything();
    away(&lab, "photos");
    lab.everything();
    let root = lab.bench.root().to_owned();
    let aside = root.with_file_name("aside");
    fs::rename(&root, &aside).unwrap();
    fs::create_dir(&root).unwrap();
    let copy = |name: &str| {
        crate::faults::disk::system("cp", &["-a", &at(&aside, name), root.to_str().unwrap()]);
    };
    copy(".git");
    let outcome = approve(&mut lab);
    let code = outcome.blocked.as_ref().map(|it| it.code);
    assert_eq!(code, Some(Code::RootChanged), "{outcome:?}");
    assert_eq!((below(&lab, "photos"), below(&lab, "rest")), (MANY, MANY));
    // That one was shown by now.
    copy("rest");
    let outcome = approve(&mut lab);
    assert_eq!(outcome.blocked, None);
    assert_eq!(deletes(&outcome), MANY, "{outcome:?}");
    approve(&mut lab);
    assert_eq!((below(&lab, "photos"), below(&lab, "rest")), (0, MANY));
}

fn at(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}
