//! A user who does something at every step of an apply, to every kind of change.
//!
//! Each folder of a world holds one file, `p`, and gets one deed at one step: at the `n`-th step
//! of its own path for the first folders, at a named step of the whole apply for the others.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use autosync::fault;
use autosync::repo::displaced::{drop_late, still_open, sweep_displaced};
use autosync::{clock, git::tree::EXECUTABLE};

use super::world::{Is, World, disks, link, path, script, text};

/// What a user does to `p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    SaveInPlace,
    Append,
    SaveByRename,
    WriteLater,
    Delete,
    Chmod,
    MoveDirectory,
    BecomeLink,
    BecomeDirectory,
}

const DEEDS: &[Deed] = &[
    Deed::SaveInPlace,
    Deed::Append,
    Deed::SaveByRename,
    Deed::WriteLater,
    Deed::Delete,
    Deed::Chmod,
    Deed::MoveDirectory,
    Deed::BecomeLink,
    Deed::BecomeDirectory,
];

/// Steps of the whole apply, at which a folder of that name gets the deed.
const WHOLE: &[&str] = &[
    "A1.planned",
    "A2.staged",
    "A2.synced",
    "A2.journal",
    "A3.done",
    "A4.bases",
    "A5.synced",
    "S6.index",
    "S7.index-locked",
    "S7.prepared",
    "S8.index",
    "S8.branch",
    "A5.published",
    "A6.index",
    "A6.kept",
    "A6.closed",
];

/// More than any path has.
const OWN_STEPS: usize = 12;

fn folders() -> Vec<String> {
    let own = (0..OWN_STEPS).map(|n| format!("own-{n:02}"));
    own.chain(WHOLE.iter().map(|step| format!("whole-{step}")))
        .collect()
}

/// What was there when the user did it.
#[derive(Debug, Clone)]
struct Done {
    saw: String,
    step: String,
    acted: bool,
}

/// Returns what stands at a path, in the words of [`World::stands`].
fn stands(at: &Path) -> String {
    let Ok(meta) = at.symlink_metadata() else {
        return "nothing".into();
    };
    if meta.is_symlink() {
        return format!("link: {}", fs::read_link(at).unwrap().display());
    }
    if meta.is_dir() {
        return "directory".into();
    }
    let kind = if meta.permissions().mode() & 0o100 != 0 {
        "script"
    } else {
        "file"
    };
    format!("{kind}: {}", fs::read_to_string(at).unwrap())
}

fn append(at: &Path) -> Option<File> {
    // A link is not followed: a user's program would write to another file than `p`.
    if at.is_symlink() || at.is_dir() {
        return None;
    }
    Some(File::options().append(true).create(true).open(at).unwrap())
}

/// Does it, if it can be done to what is there. Returns whether it was.
fn commit_deed(deed: Deed, dir: &Path, token: &str, open: &mut Vec<(File, String)>) -> bool {
    let at = dir.join("p");
    let line = format!("{token}\n");
    let kind = at.symlink_metadata().ok().map(|meta| meta.file_type());
    let is_dir = kind.is_some_and(|kind| kind.is_dir());
    match deed {
        Deed::SaveInPlace => {
            if append(&at).is_none() {
                return false;
            }
            fs::write(&at, line).unwrap();
        }
        Deed::Append => match append(&at) {
            Some(mut file) => file.write_all(line.as_bytes()).unwrap(),
            None => return false,
        },
        Deed::SaveByRename => {
            if is_dir {
                return false;
            }
            let aside = dir.join(".p.new");
            fs::write(&aside, line).unwrap();
            fs::rename(aside, at).unwrap();
        }
        Deed::WriteLater => match append(&at) {
            Some(file) => open.push((file, line)),
            None => return false,
        },
        Deed::Delete => {
            if kind.is_none() || is_dir {
                return false;
            }
            fs::remove_file(at).unwrap();
        }
        Deed::Chmod => {
            if !kind.is_some_and(|kind| kind.is_file()) {
                return false;
            }
            let mode = fs::metadata(&at).unwrap().permissions().mode();
            fs::set_permissions(&at, PermissionsExt::from_mode(mode | 0o111)).unwrap();
        }
        Deed::MoveDirectory => fs::rename(dir, moved(dir)).unwrap(),
        Deed::BecomeLink | Deed::BecomeDirectory => {
            if is_dir {
                return false;
            }
            if kind.is_some() {
                fs::remove_file(&at).unwrap();
            }
            if deed == Deed::BecomeLink {
                symlink(token, at).unwrap();
            } else {
                fs::create_dir(&at).unwrap();
                fs::write(at.join("x"), line).unwrap();
            }
        }
    }
    true
}

fn moved(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap().to_owned();
    name.push("-moved");
    dir.with_file_name(name)
}

/// Whether a user's text is kept somewhere: in the tree, or as a late edit.
fn found(world: &World, late: &BTreeMap<String, Vec<String>>, folder: &str, token: &str) -> bool {
    let dir = world.at(folder);
    let places = [
        dir.join("p"),
        dir.join("p/x"),
        moved(&dir).join("p"),
        moved(&dir).join("p/x"),
    ];
    places.iter().any(|at| stands(at).contains(token))
        || late
            .get(&format!("{folder}/p"))
            .is_some_and(|texts| texts.iter().any(|text| text.contains(token)))
}

/// Runs one apply of one kind of change against one deed and checks every folder.
fn race(disk: &Path, name: &str, before: &Is, after: &Is, deed: Deed) {
    let folders = folders();
    let mut files = vec![("anchor".to_owned(), text("anchor\n"))];
    for folder in &folders {
        // The folder exists whatever becomes of `p`.
        files.push((format!("{folder}/stays"), text("stays\n")));
        if !matches!(before, Is::Gone) {
            files.push((format!("{folder}/p"), before.clone()));
        }
    }
    let files: Vec<(&str, Is)> = files
        .iter()
        .map(|(n, is)| (n.as_str(), is.clone()))
        .collect();
    let mut world = World::on(disk, &files);
    let changes: Vec<(String, Is)> = folders
        .iter()
        .map(|folder| (format!("{folder}/p"), after.clone()))
        .collect();
    let changes: Vec<(&str, Is)> = changes
        .iter()
        .map(|(n, is)| (n.as_str(), is.clone()))
        .collect();
    let to = world.incoming(&changes);
    let new = {
        let probe = world.beside("probe");
        super::world::put(&probe, after);
        stands(&probe)
    };

    let done: Rc<RefCell<BTreeMap<String, Done>>> = Rc::default();
    let open: Rc<RefCell<Vec<(File, String)>>> = Rc::default();
    let (root, log, held, names) = (
        world.root(),
        Rc::clone(&done),
        Rc::clone(&open),
        folders.clone(),
    );
    let (mut current, mut own) = (0, 0);
    let hook = move |step: &str| {
        let folder = if step == "A3.path" {
            current += 1;
            own = 0;
            return;
        } else if WHOLE.contains(&step) {
            format!("whole-{step}")
        } else if step.starts_with("A3.") && step != "A3.emptied" {
            own += 1;
            match names.get(current) {
                Some(folder) if *folder == format!("own-{:02}", own - 1) => folder.clone(),
                _ => return,
            }
        } else {
            return;
        };
        if log.borrow().contains_key(&folder) {
            return;
        }
        let dir = root.join(&folder);
        let token = format!("TOKEN-{folder}");
        let saw = stands(&dir.join("p"));
        let acted = commit_deed(deed, &dir, &token, &mut held.borrow_mut());
        let step = step.to_owned();
        log.borrow_mut().insert(folder, Done { saw, step, acted });
    };
    let applied = fault::with_hook(hook, || world.apply(to));
    assert_eq!(applied.blocked, None);
    assert_eq!(world.tip(), to);

    for (mut file, line) in open.take() {
        file.write_all(line.as_bytes()).unwrap();
    }
    // A child that another test forks just now holds every descriptor until it is exec'd.
    let deadline = clock::now() + Duration::from_secs(20);
    while !still_open(&world.place).unwrap().is_empty() {
        assert!(clock::now() < deadline, "somebody still writes");
        std::thread::yield_now();
    }
    let later = clock::now() + Duration::from_secs(61);
    let mut late: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for edit in sweep_displaced(&world.place, later).unwrap().edits {
        let content = world.place.objects.blob(edit.content.id).unwrap();
        let name = String::from_utf8(edit.path.as_bytes().to_vec()).unwrap();
        late.entry(name)
            .or_default()
            .push(String::from_utf8(content).unwrap());
        let tree = world.place.objects.commit(edit.base).unwrap().tree;
        assert!(
            world
                .place
                .objects
                .entry(tree, &edit.path)
                .unwrap()
                .is_some()
        );
        drop_late(&edit).unwrap();
    }

    let done = done.take();
    let head = world.place.objects.commit(to).unwrap().tree;
    for folder in &folders {
        let Some(did) = done.get(folder) else {
            // Fewer steps than that.
            assert_eq!(
                stands(&world.at(&format!("{folder}/p"))),
                new,
                "{name}: {folder}"
            );
            continue;
        };
        let note = format!(
            "{name}, {deed:?} at {} ({folder}) on {}",
            did.step,
            disk.display()
        );
        let token = format!("TOKEN-{folder}");
        let at = path(&format!("{folder}/p"));
        let base = world.bases.get(&at);
        let dir = world.at(folder);
        let mut disk_has = stands(&dir.join("p"));
        if deed == Deed::MoveDirectory && disk_has != new && !matches!(after, Is::Gone) {
            disk_has = stands(&moved(&dir).join("p"));
        }
        let saw_new = did.saw == new;
        match deed {
            Deed::SaveInPlace
            | Deed::Append
            | Deed::SaveByRename
            | Deed::BecomeLink
            | Deed::BecomeDirectory => {
                assert!(
                    !did.acted || found(&world, &late, folder, &token),
                    "lost: {note}: {disk_has}"
                );
            }
            Deed::WriteLater => {
                if did.acted {
                    assert!(
                        found(&world, &late, folder, &token),
                        "lost: {note}: {disk_has}"
                    );
                }
            }
            Deed::Chmod => {
                if did.saw.starts_with("file: ") && !saw_new {
                    let kept = disk_has.starts_with("script: ");
                    assert!(kept || base.is_some(), "chmod lost: {note}: {disk_has}");
                }
            }
            Deed::Delete | Deed::MoveDirectory => {}
        }
        // What differs from HEAD without an entry in the base map is committed on HEAD plainly: so
        // the user must have had HEAD's version in the tree, or HEAD's change is taken back.
        if base.is_none() && disk_has != new {
            let late_only = late.contains_key(&format!("{folder}/p"));
            let shared =
                deed == Deed::Chmod && disk_has.ends_with(new.split_once(": ").map_or("", |n| n.1));
            // Content and mode are merged apart: his content with the mode that came in.
            let merged = matches!(after, Is::Script(_)) && disk_has.starts_with("script: ");
            // A deletion and a directory in its place go well together.
            let apart = matches!(after, Is::Gone) && disk_has == "directory";
            assert!(
                saw_new || late_only || shared || merged || apart,
                "taken back: {note}: {disk_has}"
            );
        }
        if let Some(base) = base {
            let there = world.place.objects.entry(head, &at).unwrap();
            assert_ne!(there, base.have, "void: {note}");
        }
    }
    for folder in &folders {
        if !(deed == Deed::MoveDirectory && moved(&world.at(folder)).exists()) {
            assert_eq!(
                stands(&world.at(&format!("{folder}/stays"))),
                "file: stays\n"
            );
        }
    }
    assert_eq!(world.git(&["fsck", "--strict", "--no-dangling"]), "");
}

fn race_all(name: &str, before: &Is, after: &Is) {
    let disks = disks();
    for deed in DEEDS {
        race(disks.last().unwrap(), name, before, after, *deed);
    }
    // What depends on the disk: leases, inodes that are used again, directories.
    for deed in [Deed::SaveByRename, Deed::WriteLater, Deed::MoveDirectory] {
        race(&disks[0], name, before, after, deed);
    }
}

#[test]
fn nothing_is_lost_or_taken_back_while_a_file_is_replaced() {
    race_all("replace", &text("old\n"), &text("new\n"));
}

#[test]
fn nothing_is_lost_or_taken_back_while_a_file_is_created() {
    race_all("create", &Is::Gone, &text("new\n"));
}

#[test]
fn nothing_is_lost_or_taken_back_while_a_file_is_deleted() {
    race_all("delete", &text("old\n"), &Is::Gone);
}

#[test]
fn nothing_is_lost_or_taken_back_while_a_mode_changes() {
    race_all("mode", &text("same\n"), &script("same\n"));
    assert_eq!(EXECUTABLE, 0o100_755);
}

#[test]
fn nothing_is_lost_or_taken_back_while_a_link_becomes_a_file_or_goes_elsewhere() {
    race_all("link to file", &link("old"), &text("new\n"));
    race_all("file to link", &text("old\n"), &link("new"));
    race_all("retarget", &link("old"), &link("new"));
}
