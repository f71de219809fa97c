//! The power goes while a host is at work: what its disk has then, in a file.
//!
//! A host with its hub lives on an ext4 of its own, in a file that is mounted by loop. It edits and
//! syncs without a break, and takes in what another host sends. Again and again the file is copied:
//! a copy has what the file system had handed to its disk at that moment, and nothing of what it
//! still kept in memory. (The file is read until two readings are the same, so the copy is of one
//! moment.) Then each copy is a disk after a power cut: mounted where the first was, in what looks
//! like another boot.
//!
//! What must hold of each: e2fsck and `git fsck` find nothing in the folder and in the hub; every
//! token that was reported pushed is on the hub, and what was reported in sync in the folder's
//! history; the agent recovers by itself, or holds files that came back empty or old until they are
//! saved again; no version of a file follows a later one in the history, and no file that had content
//! is ever committed without it, whether the agent was at work in the cut or had just ended. (What was
//! nowhere before may come as the disk has it: of a file that its author was about to rename that can
//! be its name alone.) The same is done with git and its defaults in place of the agent, whose images
//! break: the test can see it.
//!
//! 8 images; `AUTOSYNC_TEST_IMAGES` is how many there are to be. With `AUTOSYNC_TEST_KEEP` set, an image
//! of which something does not hold is kept as it was, under the name `before`.
//!
//! ```text
//! AUTOSYNC_TEST_IMAGES=500 cargo test --test it -- power:: --nocapture
//! ```
//!
//! Absent: a disk that loses what it was handed and not asked to keep. Needs root and loop devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use autosync::{clock, repo::records};

use crate::network::skipped;
use crate::pair::Host;
use crate::support::{Ran, Sandbox, ended};

/// How large the disk is.
const SIZE: u64 = 96 << 20;

/// Files that each side has.
const FILES: usize = 6;

/// A disk in a file, mounted.
#[derive(Debug)]
struct Disk {
    tools: Sandbox,
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Makes one; `None` if there can be none here, which is said.
    fn new(test: &str) -> Option<Self> {
        let mut tools = Sandbox::in_memory("tools");
        let (_, path) = tools.vars().swap_remove(0);
        tools.set("PATH", &format!("{path}:/usr/sbin:/sbin"));
        let disk = Self {
            image: tools.root().join("image"),
            at: tools.root().join("disk"),
            tools,
        };
        let made = disk.make();
        if made.code != Some(0) {
            skipped(test, &format!("no ext4 in a file: {}", made.err.trim()));
            return None;
        }
        let mounted = disk.mount(&disk.image);
        if mounted.code != Some(0) {
            skipped(test, &format!("no mounts: {}", mounted.err.trim()));
            return None;
        }
        Some(disk)
    }

    fn make(&self) -> Ran {
        File::create(&self.image).unwrap().set_len(SIZE).unwrap();
        fs::create_dir(&self.at).unwrap();
        self.tool(
            "mkfs.ext4",
            &["-q", "-F", "-E", "nodiscard"],
            &[&self.image],
        )
    }

    fn tool(&self, program: &str, args: &[&str], paths: &[&Path]) -> Ran {
        let mut command = self.tools.command(program);
        ended(command.args(args).args(paths).output().unwrap())
    }

    fn mount(&self, image: &Path) -> Ran {
        // A rename over a file waits for nothing, and metadata is handed over every second.
        let options = ["-o", "loop,commit=1,noauto_da_alloc"];
        self.tool("mount", &options, &[image, &self.at])
    }

    #[track_caller]
    fn unmount(&self) {
        let ran = self.tool("umount", &[], &[&self.at]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Waits until the disk has everything.
    fn hand_over(&self) {
        rustix::fs::syncfs(File::open(&self.at).unwrap()).unwrap();
    }

    /// Copies what the disk has at one moment, while it is written to.
    ///
    /// Right before, some `other` program may wait for a file of its own on this disk: the file
    /// system then hands over all its names, but not what is in the files. Without it names are lost
    /// that nobody waited for.
    fn copy(&self, to: &Path, other: bool) {
        if other {
            let other = File::create(self.at.join("other")).unwrap();
            other.write_all_at(b"other\n", 0).unwrap();
            other.sync_all().unwrap();
        }
        let mut before = self.pieces();
        let deadline = clock::now() + Duration::from_secs(60);
        loop {
            let now = self.pieces();
            if now == before {
                break;
            }
            assert!(
                clock::now() < deadline,
                "the disk never rests for two readings"
            );
            before = now;
        }
        let copy = File::create(to).unwrap();
        copy.set_len(SIZE).unwrap();
        for (at, piece) in before {
            copy.write_all_at(&piece, at).unwrap();
        }
    }

    /// Reads everything that is in the file.
    fn pieces(&self) -> Vec<(u64, Vec<u8>)> {
        use rustix::fs::{SeekFrom, seek};
        let file = File::open(&self.image).unwrap();
        let mut found = Vec::new();
        let mut at = 0;
        while let Ok(begin) = seek(&file, SeekFrom::Data(at)) {
            at = seek(&file, SeekFrom::Hole(begin)).unwrap();
            let mut piece = vec![0; usize::try_from(at - begin).unwrap()];
            file.read_exact_at(&mut piece, begin).unwrap();
            found.push((begin, piece));
        }
        found
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("AUTOSYNC_TEST_KEEP").is_some() {
            self.tools.keep();
        }
        // It may not be mounted; and if a test failed, somebody may still be on it.
        let _ran = self.tool("umount", &["-l", "-q"], &[&self.at]);
    }
}

/// The sandbox of a host with git's own settings for durability.
fn durable(dir: &Path, name: &str) -> Sandbox {
    let sandbox = Sandbox::at(name, dir);
    let config = sandbox.home().join(".gitconfig");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replace("\tfsync = none\n", "")).unwrap();
    sandbox
}

/// What was reported, and what is written next.
#[derive(Debug, Default, Clone)]
struct Ledger {
    /// The version of each file that was reported pushed.
    pushed: BTreeMap<String, usize>,
}

/// Writes the next versions of some files of a side: in place or by rename, never durably.
fn edit(host: &Host, side: &str, version: usize) -> Vec<String> {
    let mut names = Vec::new();
    for number in (0..FILES).filter(|number| !(number + version).is_multiple_of(3)) {
        let name = format!("{side}{number}");
        let text = format!("TOKEN {name} {version}\n");
        if number % 2 == 0 {
            host.write(&name, text);
        } else {
            let aside = host.write(&format!(".{name}.tmp"), text);
            fs::rename(aside, host.at(&name)).unwrap();
        }
        names.push(name);
    }
    names
}

/// Edits and syncs until it is told to end.
fn work(
    host: &Host,
    side: &str,
    ends: &AtomicBool,
    turn: &Mutex<()>,
    ledger: &Mutex<Ledger>,
    rounds: &AtomicUsize,
) {
    for version in 1.. {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        // The other host's disk is copied in its turn, between two syncs.
        let turn: Option<MutexGuard<'_, ()>> = (side == "there").then(|| turn.lock().unwrap());
        let names = edit(host, side, version);
        let ran = host.once();
        if ran.code == Some(0) {
            let mut ledger = ledger.lock().unwrap();
            for name in names {
                ledger.pushed.insert(name, version);
            }
        }
        drop(turn);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// A moment of the disk, and what was known just before.
struct Cut {
    image: PathBuf,
    server: PathBuf,
    ledger: Ledger,
}

/// Waits for some more rounds of work, and then for a part of one.
fn wait(rounds: &AtomicUsize) {
    let until = rounds.load(Ordering::Relaxed) + 1 + fastrand::usize(..3);
    let deadline = clock::now() + Duration::from_secs(60);
    while rounds.load(Ordering::Relaxed) < until {
        assert!(clock::now() < deadline, "nobody works");
        std::thread::yield_now();
    }
    let part = clock::now() + Duration::from_micros(fastrand::u64(..120_000));
    while clock::now() < part {
        std::thread::yield_now();
    }
}

fn copy_tree(sandbox: &Sandbox, from: &Path, to: &Path) {
    let status = sandbox
        .command("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Makes what a start finds look like that of another boot.
fn another_boot(host: &Host) {
    let (root, marker) = (host.at(".git/autosync/root"), host.at(".git/autosync/boot"));
    if let Ok(Some(mut all)) = records::read(&marker, "autosync boot 1", 2) {
        let stopped = all[0][0].starts_with(b"-");
        all[0][0] = if stopped {
            b"-another-boot".to_vec()
        } else {
            b"another-boot".to_vec()
        };
        records::write(&marker, "autosync boot 1", &all).unwrap();
    }
    let text = fs::read_to_string(&root).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if let [device, inode, _] = words[..] {
        fs::write(root, format!("{device} {inode} another-boot\n")).unwrap();
    }
}

/// Returns the versions of a file in a history, the oldest first.
fn versions(host: &Host, dir: &Path, name: &str) -> Vec<usize> {
    let args = [
        "log",
        "-p",
        "-m",
        "--reverse",
        "--topo-order",
        "--first-parent",
        "--format=",
        "main",
        "--",
        name,
    ];
    let text = host.sandbox.git(dir, args);
    let begin = format!("+TOKEN {name} ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
    lines.map(|version| version.parse().unwrap()).collect()
}

/// Asserts what must hold of the histories.
fn assert_histories(host: &Host, hub: &Path, ledger: &Ledger, note: &str) {
    for (name, version) in &ledger.pushed {
        let there = versions(host, hub, name);
        assert!(
            there.contains(version),
            "{note}: {name} {version} is not on the hub: {there:?}"
        );
        assert!(
            there.is_sorted(),
            "{note}: {name} went back on the hub: {there:?}"
        );
    }
    let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let args = [
        "log",
        "--all",
        "-m",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--format=",
    ];
    let all = host.sandbox.git(hub, args);
    // `:100644 100644 BEFORE AFTER M\tPATH`: what each path ever was.
    let mut contents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in all.lines().filter(|line| line.starts_with(':')) {
        let (what, path) = line.split_once('\t').unwrap();
        let ids = what.split(' ').skip(2).take(2);
        let ids = ids.filter(|id| id.contains(|digit| digit != '0'));
        contents.entry(path).or_default().extend(ids);
    }
    assert!(contents.len() >= 2 * FILES, "{contents:?}");
    for (path, ids) in contents {
        if ids.contains(empty) {
            assert_eq!(ids.len(), 1, "{note}: {path} was committed empty");
            new_and_empty(note, path);
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a run on demand met")]
fn new_and_empty(note: &str, path: &str) {
    println!("POWER {note}: {path} was nowhere before, and came empty");
}

fn assert_whole(host: &Host, hub: &Path, note: &str) {
    for dir in [&host.root, hub] {
        let mut command = host.sandbox.command("git");
        command.args(["fsck", "--strict", "--no-dangling", "--no-progress"]);
        let ran = ended(command.current_dir(dir).output().unwrap());
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (Some(0), ""),
            "{note}: {}",
            dir.display()
        );
    }
}

/// Looks at one disk after the cut.
fn look(disk: &Disk, here: &Host, there: &Host, hub: &Path, cut: &Cut, note: &str) {
    if std::env::var_os("AUTOSYNC_TEST_KEEP").is_some() {
        copy_tree(&disk.tools, &cut.image, &disk.tools.root().join("before"));
    }
    // The journal is played back, as a mount would; then nothing may be left to mend.
    let played = disk.tool("e2fsck", &["-y", "-E", "journal_only"], &[&cut.image]);
    assert!(matches!(played.code, Some(0 | 1)), "{note}: {played:?}");
    let checked = disk.tool("e2fsck", &["-f", "-n"], &[&cut.image]);
    assert_eq!(checked.code, Some(0), "{note}: {checked:?}");
    let mounted = disk.mount(&cut.image);
    assert_eq!(mounted.code, Some(0), "{note}: {mounted:?}");
    fs::remove_dir_all(&there.root).unwrap();
    copy_tree(&there.sandbox, &cut.server, &there.root);
    fs::remove_file(there.at(".git/autosync/root")).unwrap();

    assert_whole(here, hub, note);
    assert_histories(here, hub, &cut.ledger, note);
    another_boot(here);
    let ran = here.once();
    match ran.code {
        Some(0) => {}
        // Files that came back empty or old wait for somebody to look; here he saves them again.
        Some(3) if ran.out.contains("after a power cut") => {}
        _ => panic!("{note}: {ran:?}"),
    }
    assert_histories(here, hub, &cut.ledger, note);
    for number in 0..FILES {
        let name = format!("here{number}");
        here.write(&name, format!("TOKEN {name} 1000000\n"));
    }
    let mut said = Vec::new();
    for host in [here, there, here] {
        let ran = host.once();
        assert_eq!(ran.code, Some(0), "{note}: {ran:?}");
        let tips = ["HEAD", "origin/main"].map(|name| host.git(&["rev-parse", name]));
        let tip = host.sandbox.git(hub, ["rev-parse", "main"]);
        said.push(format!("{ran:?}: {tips:?}, hub {tip}"));
    }
    assert_eq!(here.tree(), there.tree(), "{note}\n{said:#?}");
    assert_histories(here, hub, &cut.ledger, note);
    here.assert_sound(note);
    assert_whole(here, hub, note);
    disk.unmount();
}

/// How many images there are to be.
fn wanted() -> usize {
    let asked = std::env::var("AUTOSYNC_TEST_IMAGES").ok();
    asked.map_or(8, |count| count.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "the figures of a run on demand")]
fn report(who: &str, images: usize, broken: usize) {
    println!("POWER {who}: {images} images, {broken} broken");
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_whole_repository_and_everything_that_was_pushed() {
    let test = "a_power_cut_at_any_moment_leaves_a_whole_repository_and_everything_that_was_pushed";
    let mut left = wanted();
    while left > 0 {
        let Some(disk) = Disk::new(test) else {
            return;
        };
        let now = left.min(8);
        left -= now;
        cuts(&disk, now);
        report("autosync", wanted() - left, 0);
    }
}

/// Takes some images of one disk and looks at each.
fn cuts(disk: &Disk, count: usize) {
    let mut laptop = durable(&disk.at, "laptop");
    laptop.keep();
    let (here, there) = (
        Host::new(laptop),
        Host::new(durable(disk.tools.root(), "server")),
    );
    let hub = here.sandbox.root().join("hub.git");
    fs::create_dir(&here.root).unwrap();
    for number in 0..FILES {
        for side in ["here", "there"] {
            let name = format!("{side}{number}");
            here.write(&name, format!("TOKEN {name} 0\n"));
        }
    }
    let _made = here
        .sandbox
        .run([
            "init",
            here.root.to_str().unwrap(),
            "--hub",
            hub.to_str().unwrap(),
        ])
        .ok();
    let _made = there
        .sandbox
        .run(["clone", hub.to_str().unwrap(), there.root.to_str().unwrap()])
        .ok();

    disk.hand_over();
    let (ends, turn, rounds) = (AtomicBool::new(false), Mutex::new(()), AtomicUsize::new(0));
    let ledger = Mutex::new(Ledger::default());
    let mut cuts = Vec::new();
    std::thread::scope(|scope| {
        for (host, side) in [(&here, "here"), (&there, "there")] {
            let (ends, turn, ledger, rounds) = (&ends, &turn, &ledger, &rounds);
            scope.spawn(move || work(host, side, ends, turn, ledger, rounds));
        }
        for number in 0..count {
            wait(&rounds);
            let cut = Cut {
                image: disk.tools.root().join(format!("image-{number}")),
                server: disk.tools.root().join(format!("server-{number}")),
                ledger: Ledger::default(),
            };
            let turn = turn.lock().unwrap();
            copy_tree(&there.sandbox, &there.root, &cut.server);
            let ledger = ledger.lock().unwrap().clone();
            disk.copy(&cut.image, number % 4 == 3);
            drop(turn);
            cuts.push(Cut { ledger, ..cut });
        }
        ends.store(true, Ordering::Relaxed);
    });
    disk.unmount();
    for (number, cut) in cuts.iter().enumerate() {
        look(disk, &here, &there, &hub, cut, &format!("image {number}"));
        fs::remove_file(&cut.image).unwrap();
    }
}

/// A command of git, by a user who has set nothing.
fn git(host: &Host, args: &[&str]) -> Command {
    let mut command = host.sandbox.command("git");
    command.args(args).current_dir(&host.root);
    command
}

#[test]
fn the_same_cuts_break_repositories_of_git_by_its_defaults() {
    let Some(disk) = Disk::new("the_same_cuts_break_repositories_of_git_by_its_defaults") else {
        return;
    };
    let mut sandbox = durable(&disk.at, "laptop");
    sandbox.keep();
    let here = Host::new(sandbox);
    fs::create_dir(&here.root).unwrap();
    here.git(&["init", "-q"]);
    disk.hand_over();
    let (ends, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let images: Vec<PathBuf> = (0..wanted().max(8))
        .map(|n| disk.tools.root().join(format!("image-{n}")))
        .collect();
    std::thread::scope(|scope| {
        let (host, ends_now, count) = (&here, &ends, &rounds);
        scope.spawn(move || {
            for version in 1.. {
                if ends_now.load(Ordering::Relaxed) {
                    return;
                }
                edit(host, "here", version);
                for args in [&["add", "-A"][..], &["commit", "-q", "-m", "all"]] {
                    assert!(git(host, args).status().unwrap().success());
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for image in &images {
            wait(&rounds);
            disk.copy(image, true);
        }
        ends.store(true, Ordering::Relaxed);
    });
    disk.unmount();
    let mut broken = 0;
    for image in &images {
        let checked = disk.tool("e2fsck", &["-f", "-y"], &[image]);
        assert!(matches!(checked.code, Some(0 | 1)), "{checked:?}");
        assert_eq!(disk.mount(image).code, Some(0));
        assert!(here.root.is_dir(), "{checked:?}");
        let fsck = git(&here, &["fsck", "--strict"]).output().unwrap();
        broken += usize::from(!fsck.status.success());
        disk.unmount();
        fs::remove_file(image).unwrap();
    }
    report("git by its defaults", images.len(), broken);
    assert!(broken > 0, "no image broke: the test cannot see it");
}
