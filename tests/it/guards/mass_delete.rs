//! Mass deletes: where one begins, what waits, what an approval or a long wait lets through.
//!
//! `AUTOSYNC_TEST_RENAMES` says how many files get another name at once (10,000 on demand).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use autosync::control::What;
use autosync::repo::records;

use super::held;
use crate::pair;
use crate::support::host::{Host, PATIENCE, Pair};
use crate::support::{Ran, Sandbox};

/// More files than may vanish at once without a question.
const MASS: usize = 60;

fn fill(host: &Host) {
    for number in 0..MASS {
        host.write(
            format!("photos/{number:02}.jpg"),
            format!("photo {number}\n"),
        );
    }
    host.write("other", "1\n");
}

fn photos(root: &Path) -> usize {
    fs::read_dir(root.join("photos")).map_or(0, Iterator::count)
}

/// Deletes the photos by plain git, from a clone of its own, without anybody's approval.
fn delete_by_plain_git(pair: &Pair) -> String {
    let sandbox = &pair.laptop.sandbox;
    let plain = sandbox.root().join("plain");
    let hub = pair.hub.to_str().unwrap();
    sandbox.git(sandbox.root(), ["clone", "-q", hub, "plain"]);
    sandbox.git(&plain, ["rm", "-q", "-r", "photos"]);
    fs::write(plain.join("other"), "2\n").unwrap();
    sandbox.git(&plain, ["commit", "-q", "-a", "-m", "away"]);
    sandbox.git(&plain, ["push", "-q"]);
    sandbox.git(&plain, ["rev-parse", "HEAD"])
}

/// Files in eight directories, so that none of them goes as a whole.
fn spread(count: usize) -> Vec<(String, String)> {
    let name = |number| format!("d{}/f{number:04}", number % 8);
    (0..count).map(|it| (name(it), format!("{it}\n"))).collect()
}

fn pair_with(files: &[(String, String)]) -> pair::Pair {
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    pair::Pair::new(&files)
}

fn is_held(ran: &Ran) -> bool {
    ran.out.contains("Held: ")
}

#[test]
fn a_quarter_of_all_files_is_the_limit_here_and_for_what_comes_in() {
    // 57 of 240 files are 24 %, 63 are 26 %; both are more than 50.
    let files = spread(240);
    for (gone, holds) in [(57, false), (63, true)] {
        let pair = pair_with(&files);
        for (name, _) in &files[..gone] {
            fs::remove_file(pair.laptop.root.join(name)).unwrap();
        }
        let ran = pair.laptop.once();
        assert_eq!(is_held(&ran), holds, "{gone}: {ran:?}");
        assert_eq!(ran.code, Some(if holds { 3 } else { 0 }), "{gone}: {ran:?}");
        if holds {
            assert!(ran.out.contains("63 files were deleted at once"), "{ran:?}");
        }
        let left = if holds { 240 } else { 240 - gone };
        assert_eq!(pair.server.once().code, Some(0));
        assert_eq!(pair.server.tree().len(), left, "{gone}");

        // The same by plain git, as it comes in.
        let pair = pair_with(&files);
        let root = &pair.laptop.root;
        for (name, _) in &files[..gone] {
            fs::remove_file(root.join(name)).unwrap();
        }
        pair.laptop.git(&["commit", "-q", "-a", "-m", "away"]);
        let hub = pair.hub.to_str().unwrap();
        pair.laptop.git(&["push", "-q", hub, "HEAD:main"]);
        let ran = pair.server.once();
        assert_eq!(is_held(&ran), holds, "{gone}: {ran:?}");
        assert_eq!(pair.server.tree().len(), left, "{gone}");
        assert_eq!(
            pair.server.git(&["rev-parse", "HEAD"]),
            pair.laptop.git(&["rev-parse", "HEAD"]),
            "HEAD goes on"
        );
    }
}

#[test]
fn a_whole_directory_at_the_top_is_a_question_and_one_that_moves_is_none() {
    let mut files = spread(200);
    for number in 0..12 {
        files.push((format!("thesis/{number}"), format!("chapter {number}\n")));
    }
    for number in 0..10 {
        files.push((format!("small/{number}"), format!("small {number}\n")));
    }
    let pair = pair_with(&files);
    let root = &pair.laptop.root;
    fs::remove_dir_all(root.join("small")).unwrap();
    assert_eq!(pair.laptop.once().code, Some(0));
    fs::rename(root.join("thesis"), root.join("book")).unwrap();
    assert_eq!(pair.laptop.once().code, Some(0));
    fs::create_dir(root.join("deep")).unwrap();
    fs::rename(root.join("book"), root.join("deep/book")).unwrap();
    assert_eq!(pair.laptop.once().code, Some(0));
    // Not at the top.
    fs::write(root.join("deep/stays"), "x\n").unwrap();
    assert_eq!(pair.laptop.once().code, Some(0));
    fs::rename(root.join("deep/book"), root.join("thesis")).unwrap();
    assert_eq!(pair.laptop.once().code, Some(0));

    fs::remove_dir_all(root.join("thesis")).unwrap();
    let ran = pair.laptop.once();
    assert_eq!((ran.code, is_held(&ran)), (Some(3), true), "{ran:?}");
    assert_eq!(pair.server.once().code, Some(0));
    assert!(pair.server.root.join("thesis/3").exists());
    // By plain git it waits where it comes in.
    pair.laptop.git(&["add", "-A"]);
    pair.laptop.git(&["commit", "-q", "-m", "away"]);
    let hub = pair.hub.to_str().unwrap();
    pair.laptop.git(&["push", "-q", hub, "HEAD:main"]);
    let ran = pair.server.once();
    assert!(
        ran.out.contains("12 files were deleted elsewhere"),
        "{ran:?}"
    );
    assert!(pair.server.root.join("thesis/3").exists());
}

#[test]
fn thousands_of_renames_pass_without_a_question_here_and_elsewhere() {
    let asked = std::env::var("AUTOSYNC_TEST_RENAMES").ok();
    let count = asked.map_or(1_000, |text| text.parse().unwrap());
    let files = spread(count);
    let pair = pair_with(&files);
    // Here by `mv` of each file and of directories.
    let root = &pair.laptop.root;
    for (name, _) in files.iter().filter(|(name, _)| name < &"d4".to_owned()) {
        let (dir, file) = name.split_once('/').unwrap();
        fs::rename(root.join(name), root.join(dir).join(format!("new-{file}"))).unwrap();
    }
    for dir in 4..8 {
        fs::rename(root.join(format!("d{dir}")), root.join(format!("e{dir}"))).unwrap();
    }
    let ran = pair.laptop.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = pair.server.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(pair.server.tree(), pair.laptop.tree());
    assert_eq!(pair.server.tree().len(), count);

    // By plain git, on a branch that comes in.
    for dir in 0..4 {
        let (old, new) = (format!("d{dir}"), format!("f{dir}"));
        pair.laptop.git(&["mv", &old, &new]);
    }
    pair.laptop.git(&["commit", "-q", "-m", "other names"]);
    let hub = pair.hub.to_str().unwrap();
    pair.laptop.git(&["push", "-q", hub, "HEAD:main"]);
    let ran = pair.server.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(pair.server.tree(), pair.laptop.tree());
}

/// Returns the bytes of everything in a host's displaced store, with the paths that its indexes
/// name.
fn displaced(host: &Host) -> BTreeSet<(String, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let stores = host.folder.join(".git/autosync/displaced");
    for store in fs::read_dir(stores).unwrap().flatten() {
        let index = store.path().join("index");
        let all = records::read(&index, "autosync displaced 1", 7)
            .unwrap()
            .unwrap();
        for fields in all.iter().skip(1) {
            let text = |at: usize| String::from_utf8(fields[at].clone()).unwrap();
            let bytes = fs::read(store.path().join(text(0))).unwrap();
            found.insert((text(6), bytes));
        }
    }
    found
}

#[test]
fn one_approval_where_it_happened_is_enough_and_the_others_keep_the_files() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    fill(laptop);
    pair.equal();
    let heard = laptop.listen();
    laptop.take_away("photos");
    let status = laptop.barrier();
    let group = status
        .held
        .iter()
        .find(|it| it.code == "mass-delete")
        .unwrap();
    assert_eq!(group.paths.len() + group.more, MASS);
    assert_eq!(group.paths[0], "photos/00.jpg");
    assert_eq!(group.message, "60 files were deleted at once");
    laptop.run(["sync"]).ok();
    laptop.barrier();
    laptop.run(["approve"]).ok();
    // What was told comes in its order, and the commit is told after the question.
    let all = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok());
    let before = all.take_while(|event| !matches!(event.what, What::Committed { .. }));
    let told = before.filter(|event| matches!(event.what, What::Held { .. }));
    assert_eq!(told.count(), 1);
    server.sees("the deletes", |root| photos(root) == 0);
    pair.ends_well();
    assert!(held(server, "mass-delete").is_empty());
    let kept = displaced(server);
    for number in 0..MASS {
        let photo = (
            format!("photos/{number:02}.jpg"),
            format!("photo {number}\n").into_bytes(),
        );
        assert!(kept.contains(&photo), "{photo:?}");
    }
}

#[test]
fn while_removals_wait_everything_else_goes_on_and_is_pushed() {
    let pair = Pair::new();
    let [laptop, server] = pair.hosts();
    fill(laptop);
    pair.equal();
    delete_by_plain_git(&pair);
    for host in pair.hosts() {
        host.sees("what is no delete", |root| {
            fs::read(root.join("other")).is_ok_and(|text| text == b"2\n")
        });
        assert_eq!(held(host, "mass-delete").len(), 20, "the first of them");
        assert_eq!(photos(&host.folder), MASS);
    }
    // An edit beats the delete, and what is new goes out.
    laptop.write("photos/07.jpg", "edited\n");
    laptop.write("new", "x\n");
    server.sees("what is new", |root| {
        root.join("new").exists()
            && fs::read(root.join("photos/07.jpg")).is_ok_and(|text| text == b"edited\n")
    });
    pair.quiet();
    let list = ["ls-tree", "-r", "--name-only", "main"];
    let there = laptop.sandbox.git(&pair.hub, list);
    assert_eq!(there, "new\nother\nphotos/07.jpg");
    for host in pair.hosts() {
        assert_eq!(photos(&host.folder), MASS);
        host.run(["approve"]).ok();
        host.sees("the deletes", |root| photos(root) == 1);
    }
    assert_eq!(pair.ends_well().len(), 3);
}

/// Two hosts of which the second applies after a time what nobody approved.
fn one_unattended(after: &str) -> Pair {
    let hosts = ["laptop", "server"].map(Host::new);
    let config = format!("[guards]\nunattended = \"apply-after {after}\"\n");
    hosts[1].sandbox.config(&config);
    let pair = Pair::of(hosts);
    fill(&pair.laptop);
    pair.equal();
    pair
}

#[test]
fn at_a_computer_where_nobody_sits_a_mass_delete_passes_after_the_time_that_was_set() {
    let pair = one_unattended("2s");
    let [laptop, server] = pair.hosts();
    delete_by_plain_git(&pair);
    server.until("it waits, and says until when", |host| {
        let status = host.folder_status();
        status.code == "mass-delete" && status.hint.contains("Without a word they go here at 20")
            || photos(&host.folder) == 0
    });
    server.sees("the deletes", |root| photos(root) == 0);
    server.barrier();
    assert!(held(server, "mass-delete").is_empty());
    let kept = displaced(server);
    let of_photos = kept.iter().filter(|(path, _)| path.starts_with("photos/"));
    assert_eq!(
        of_photos.count(),
        MASS,
        "kept as after an approval: {kept:?}"
    );
    // Where somebody sits it waits.
    assert_eq!(photos(&laptop.folder), MASS);
    let status = laptop.barrier();
    assert_eq!(status.code, "mass-delete");
    assert!(!status.hint.contains("Without a word"), "{}", status.hint);
    laptop.run(["approve"]).ok();
    laptop.sees("the deletes", |root| photos(root) == 0);
    assert_eq!(pair.ends_well().len(), 1);
}

#[test]
fn how_long_a_mass_delete_has_waited_outlives_a_restart() {
    let mut pair = one_unattended("24h");
    delete_by_plain_git(&pair);
    pair.server.until("it waits", |host| {
        host.folder_status().code == "mass-delete"
    });
    pair.server.stop();
    // A day goes by.
    let file = pair.server.folder.join(".git/autosync/waits");
    let read = || {
        records::read(&file, "autosync waits 1", 4)
            .unwrap()
            .unwrap()
    };
    let mut waits = read();
    let waited = |waits: &[records::Fields]| -> u64 {
        String::from_utf8(waits[0][2].clone())
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(waited(&waits) < 3600, "it has only begun");
    waits[0][2] = b"86390".to_vec();
    records::write(&file, "autosync waits 1", &waits).unwrap();
    pair.server.start();
    pair.server.sees("the deletes", |root| photos(root) == 0);
    pair.server.barrier();
    assert!(!file.exists(), "nothing waits any more");
    assert_eq!(photos(&pair.laptop.folder), MASS);
}

#[test]
fn once_counts_the_time_too_and_it_begins_anew_when_more_comes() {
    let laptop = Sandbox::named("laptop");
    let server = Sandbox::named("server");
    server.config("[guards]\nunattended = \"apply-after 24h\"\nmass_delete_files = 5\n");
    let files = spread(40);
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let pair = pair::Pair::of(laptop, server, &files);
    let away = |range: std::ops::Range<usize>| {
        for (name, _) in &files[range] {
            fs::remove_file(pair.laptop.root.join(name)).unwrap();
        }
        pair.laptop.git(&["commit", "-q", "-a", "-m", "away"]);
        pair.laptop
            .git(&["push", "-q", pair.hub.to_str().unwrap(), "HEAD:main"]);
    };
    let file = pair.server.root.join(".git/autosync/waits");
    let a_day_goes_by = || {
        let mut waits = records::read(&file, "autosync waits 1", 4)
            .unwrap()
            .unwrap();
        waits[0][2] = b"86400".to_vec();
        records::write(&file, "autosync waits 1", &waits).unwrap();
    };
    away(0..12);
    assert_eq!(pair.server.once().code, Some(3));
    a_day_goes_by();
    away(12..24);
    let ran = pair.server.once();
    assert_eq!((ran.code, is_held(&ran)), (Some(3), true), "{ran:?}");
    // Those that had waited a day may go before it is seen that more came.
    for (name, _) in &files[12..24] {
        assert!(pair.server.root.join(name).exists(), "{name} waits");
    }
    a_day_goes_by();
    let ran = pair.server.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(pair.server.tree().len(), 16);
}
