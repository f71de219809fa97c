//! A directory that becomes a link, and a directory again, while something is written into it: what
//! the link leads to is never touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use autosync::repo::apply::apply;
use autosync::repo::journal::journal_open;
use autosync::repo::plan::Approval;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::size_of;
use crate::apply::world::{Is, World, text};

/// Returns every file of a directory with its content.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

#[test]
fn what_a_link_leads_to_is_never_written_however_fast_it_takes_a_directorys_place() {
    let trials = size_of("AUTOSYNC_TEST_LINK_TRIALS", 60);
    let mut world = World::new(&[
        ("d/a", text("0")),
        ("d/gone", text("0")),
        ("d/s/a", text("0")),
    ]);
    let outside = world.beside("outside");
    fs::create_dir_all(outside.join("s")).unwrap();
    for name in ["a", "gone", "canary"] {
        fs::write(outside.join(name), "0").unwrap();
    }
    fs::write(outside.join("s/a"), "0").unwrap();
    let watched = || [contents_of_files(&outside), contents(&outside.join("s"))];
    let before = watched();
    let (dir, link) = (world.at("d"), world.beside("link"));
    symlink(&outside, &link).unwrap();

    let swaps = Arc::new(AtomicU64::new(0));
    for trial in 1..=trials {
        let next = trial.to_string();
        let to = world.incoming(&[
            ("d/a", text(next.as_str())),
            ("d/new", if trial % 2 == 0 { Is::Gone } else { text("n") }),
            ("d/gone", if trial % 2 == 0 { text("0") } else { Is::Gone }),
            ("d/s/a", text(next.as_str())),
        ]);
        let over = Arc::new(AtomicBool::new(false));
        let swapper = std::thread::spawn({
            let (over, swaps) = (Arc::clone(&over), Arc::clone(&swaps));
            let (dir, link) = (dir.clone(), link.clone());
            move || {
                let exchange = || renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE);
                while !over.load(Ordering::Acquire) {
                    exchange().unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..fastrand::u32(..2000) {
                        std::hint::spin_loop();
                    }
                    // And back, so that it ends as a directory.
                    exchange().unwrap();
                    for _ in 0..fastrand::u32(..2000) {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let done = apply(
            &world.place,
            &mut world.bases,
            &mut world.view,
            to,
            &Approval::Commits,
        );
        over.store(true, Ordering::Release);
        swapper.join().unwrap();
        assert_eq!(watched(), before, "trial {trial}");
        if let Err(error) = done {
            // git, too, refuses to look behind a link; it is tried again.
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        if journal_open(&world.place) {
            world.recover();
        }
        // What waited comes now that nobody interferes.
        world.apply(to);
        assert_eq!(watched(), before, "trial {trial}");
    }
    assert!(swaps.load(Ordering::Relaxed) > trials as u64);
    assert_eq!(world.stands("d/s/a"), format!("file: {trials}"));
}

fn contents_of_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}
