//! A disk without room, one that may not be written to and one that fails: what is here stays as it
//! is, nothing becomes a deletion, and it goes on by itself.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use autosync::engine::status::State;
use autosync::process::{self, Patience};
use autosync::repo::stable::IN_MEMORY;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::strike::Strike;
use super::{AT_ONCE, Told, held, host, impatient, pair, well};
use crate::hostile::{commit, in_hub};
use crate::support::host::{Host, PATIENCE};
use crate::support::inside::{NOBODY_INSIDE, ROOT_INSIDE, inside};

/// Runs a program of the system that has to end well.
pub(crate) fn system(program: &str, args: &[&str]) {
    let mut command = process::command(program);
    command.args(args);
    let done = process::run(&mut command, b"", Patience::Total(PATIENCE)).unwrap();
    assert!(done.status.success(), "{program} {args:?}: {done:?}");
}

fn tmpfs(options: &str, at: &Path) {
    let at = at.to_str().unwrap();
    system("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at]);
}

/// A host whose folder, or the git directory of it, is on a disk of its own with these options.
fn on_a_disk(options: &str, at: &str) -> Host {
    let mut host = Host::new("laptop");
    host.sandbox.config(AT_ONCE);
    let disk = host.folder.join(at);
    fs::create_dir_all(&disk).unwrap();
    tmpfs(options, &disk);
    host.sandbox.git(&host.folder, ["init", "-q"]);
    host.start();
    host.write(".gitignore", "/full\n");
    host.write("a", "1\n");
    host.synced();
    host
}

/// What a full disk is, a disk with files, and what fills it.
fn fill(place: &Path, by_files: bool) {
    let full = place.join("full");
    fs::create_dir(&full).unwrap();
    if by_files {
        let made = (0..).map(|n| fs::write(full.join(format!("{n}")), ""));
        assert!(made.take(100_000).any(|made| made.is_err()));
    } else {
        let block = vec![b'x'; 4096];
        for size in [4096, 64, 1] {
            use std::io::Write;
            let mut file = File::create(full.join(format!("{size}"))).unwrap();
            while file.write_all(&block[..size]).is_ok() {}
        }
    }
}

#[test]
fn a_full_disk_is_waited_for_wherever_it_is() {
    if !inside(
        ROOT_INSIDE,
        "faults::disk::a_full_disk_is_waited_for_wherever_it_is",
    ) {
        return;
    }
    for (options, at, by_files) in [
        ("size=3m", "", false),
        ("size=3m", ".git", false),
        ("nr_inodes=400", "", true),
    ] {
        let host = on_a_disk(options, at);
        let told = Told::by(&host);
        host.run(["pause"]).ok();
        host.write("a", "2\n");
        fs::remove_dir_all(host.folder.join("full")).ok();
        fill(&host.folder.join(at), by_files);
        host.run(["resume"]).ok();
        let status = held(&host, "disk-full");
        assert!(status.message.contains("no space left"), "{status:#?}");
        told.only(&host, "disk-full");
        assert_eq!(host.git(["show", "HEAD:a"]), "1");
        assert_eq!(host.read("a").as_deref(), Some("2\n"), "nothing is cut off");
        fs::remove_dir_all(host.folder.join(at).join("full")).unwrap();
        host.run(["sync"]).ok();
        well(&host);
        host.synced();
        assert_eq!(host.git(["show", "HEAD:a"]), "2");
        host.git([
            "fsck",
            "--full",
            "--strict",
            "--no-dangling",
            "--no-progress",
        ]);
        assert_eq!(
            host.git(["ls-tree", "-r", "--name-only", "HEAD"]),
            ".gitignore\na",
            "{options} {at}"
        );
    }
}

#[test]
fn a_quota_that_is_reached_is_a_full_disk() {
    let host = host();
    host.write("a", "1\n");
    host.synced();
    let told = Told::by(&host);
    let calls = "rename,renameat,renameat2,link,linkat:error=EDQUOT";
    let test = "a_quota_that_is_reached_is_a_full_disk";
    let Some(strike) = Strike::at(&host, test, calls, None) else {
        return;
    };
    host.write("a", "2\n");
    held(&host, "disk-full");
    told.only(&host, "disk-full");
    assert_eq!(host.git(["show", "HEAD:a"]), "1");
    drop(strike);
    host.run(["sync"]).ok();
    well(&host);
    host.synced();
    assert_eq!(host.git(["show", "HEAD:a"]), "2");
    host.git(["fsck", "--full", "--no-dangling", "--no-progress"]);
}

#[test]
fn a_disk_that_became_read_only_is_waited_for() {
    if !inside(
        ROOT_INSIDE,
        "faults::disk::a_disk_that_became_read_only_is_waited_for",
    ) {
        return;
    }
    let host = host();
    host.write("a", "1\n");
    host.write("gone", "1\n");
    host.synced();
    let told = Told::by(&host);
    host.run(["pause"]).ok();
    host.write("a", "2\n");
    let folder = host.folder.to_str().unwrap();
    system("mount", &["--bind", folder, folder]);
    system("mount", &["-o", "remount,bind,ro", folder]);
    host.run(["resume"]).ok();
    let status = held(&host, "read-only");
    assert!(status.hint.contains("writable"), "{status:#?}");
    told.only(&host, "read-only");
    assert_eq!(host.git(["show", "HEAD:a"]), "1");
    system("umount", &["--lazy", folder]);
    host.run(["sync"]).ok();
    well(&host);
    host.synced();
    assert_eq!(host.git(["show", "HEAD:a"]), "2");
    assert_eq!(host.git(["show", "HEAD:gone"]), "1");
}

#[test]
fn what_may_not_be_read_stays_in_the_history_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    if !inside(
        NOBODY_INSIDE,
        "faults::disk::what_may_not_be_read_stays_in_the_history_as_it_was",
    ) {
        return;
    }
    let host = host();
    host.write("a", "1\n");
    host.write("d/b", "1\n");
    host.write("d/c", "1\n");
    host.synced();
    let mode = |name: &str, mode| {
        let path = host.folder.join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    host.run(["pause"]).ok();
    host.write("a", "2\n");
    host.write("d/b", "2\n");
    host.write("other", "1\n");
    // Of this one the first bytes are looked at before the others are read.
    let large = File::create(host.folder.join("large")).unwrap();
    large.set_len(IN_MEMORY + 1).unwrap();
    mode("large", 0o000);
    mode("a", 0o000);
    mode("d", 0o000);
    host.run(["resume"]).ok();
    host.run(["sync"]).ok();
    host.until("the rest is committed", |host| {
        host.git(["ls-tree", "-r", "--name-only", "HEAD"])
            .contains("other")
    });
    let status = host.barrier();
    assert_eq!(status.state, State::Idle, "{status:#?}");
    let why = |name: &str| {
        let found = status.deferred.iter().find(|it| it.path == name);
        found.map(|it| it.why.clone()).unwrap_or_default()
    };
    for name in ["a", "large"] {
        assert!(why(name).contains("may not be read"), "{status:#?}");
    }
    assert!(why("d").contains("cannot be read"), "{status:#?}");
    for (name, text) in [("a", "1"), ("d/b", "1"), ("d/c", "1")] {
        assert_eq!(host.git(["show", &format!("HEAD:{name}")]), text);
    }
    fs::remove_file(host.folder.join("large")).unwrap();
    mode("a", 0o644);
    mode("d", 0o755);
    host.run(["sync"]).ok();
    for (name, text) in [("a", "2"), ("d/b", "2"), ("d/c", "1")] {
        host.until(name, |host| {
            host.git(["show", &format!("HEAD:{name}")]) == text
        });
    }
    host.synced();
    assert_eq!(host.barrier().deferred, []);
}

#[test]
fn what_fails_to_be_read_is_no_deletion() {
    let test = "what_fails_to_be_read_is_no_deletion";
    let host = host();
    host.write("d/a", "1\n");
    host.write("d/b", "1\n");
    host.synced();
    let path = |name: &str| host.folder.join(name).to_str().unwrap().to_owned();
    let before = || {
        assert_eq!(
            host.git(["ls-tree", "-r", "--name-only", "HEAD"]),
            "d/a\nd/b"
        );
    };
    let mut hints = 0;
    for (error, inject, of) in [
        ("EIO", "getdents64:error=EIO", "d"),
        ("EIO", "statx,newfstatat,lstat:error=EIO", "d/a"),
        ("EIO", "read,pread64:error=EIO", "d/a"),
        ("ESTALE", "open,openat,openat2:error=ESTALE", "d/a"),
    ] {
        let old = host.git(["show", "HEAD:d/a"]);
        let Some(strike) = Strike::at(&host, test, inject, Some(&path(of))) else {
            return;
        };
        let edited = format!("{inject}\n");
        host.write("d/a", &edited);
        if of == "d" {
            // Nobody can say of this one that it is gone.
            fs::remove_file(host.folder.join("d/b")).unwrap();
        }
        host.run(["sync"]).ok();
        if of == "d" {
            host.barrier();
        } else {
            host.until("it is said", |host| {
                let status = host.folder_status();
                let waits = status.deferred.iter().any(|it| it.path == "d/a");
                let failed = status.code == "io" && status.state == State::Retry;
                if failed && error == "EIO" {
                    assert!(status.hint.contains("Nothing was deleted"), "{status:#?}");
                    assert!(status.hint.contains("Check the disk"), "{status:#?}");
                }
                hints += usize::from(failed);
                failed || waits
            });
            assert_eq!(host.git(["show", "HEAD:d/a"]), old, "{error} {inject}");
        }
        before();
        drop(strike);
        if of == "d" {
            host.write("d/b", "1\n");
        }
        host.run(["sync"]).ok();
        well(&host);
        host.synced();
        before();
        assert_eq!(host.git(["show", "HEAD:d/a"]), edited.trim());
    }
    assert!(hints > 0, "no failure of the disk stopped the folder");
}

#[test]
fn without_descriptors_nothing_becomes_a_deletion() {
    let host = impatient();
    for n in 0..20 {
        host.write(format!("d{n}/a"), "1\n");
    }
    host.synced();
    let told = Told::by(&host);
    let pid = Pid::from_raw(i32::try_from(host.pid()).unwrap());
    let few = Rlimit {
        current: Some(3),
        ..getrlimit(Resource::Nofile)
    };
    let before = prlimit(pid, Resource::Nofile, few).unwrap();
    host.write("d0/a", "2\n");
    // It has not even one for a question of ours; who listens already hears of it.
    told.until(State::Retry, "io");
    fs::remove_file(host.folder.join("d1/a")).unwrap();
    told.until_told("io");
    prlimit(pid, Resource::Nofile, before).unwrap();
    host.write("d1/a", "1\n");
    well(&host);
    host.run(["sync"]).ok();
    host.synced();
    assert_eq!(host.git(["show", "HEAD:d0/a"]), "2");
    assert_eq!(
        host.git(["ls-tree", "-r", "--name-only", "HEAD"])
            .lines()
            .count(),
        20
    );
    told.catch_up(&host);
    assert_eq!(told.codes(), ["io"], "{}", host.log());
}

#[test]
fn what_is_no_file_is_left_out_and_never_opened() {
    let host = host();
    host.write("d/a", "1\n");
    host.synced();
    let told = Told::by(&host);
    let pipe = host.folder.join("d/pipe");
    mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(host.folder.join("d/socket")).unwrap();
    host.write("d/b", "1\n");
    host.run(["sync"]).ok();
    let status = host.synced();
    assert_eq!((status.code.as_str(), &status.held[..]), ("ok", &[][..]));
    // What was a file and is none any more is neither gone nor read.
    fs::remove_file(host.folder.join("d/a")).unwrap();
    mkfifoat(CWD, host.folder.join("d/a"), Mode::RWXU).unwrap();
    host.run(["sync"]).ok();
    let status = host.barrier();
    assert_eq!(status.code, "ok", "{status:#?}");
    // As for git, what never was a file is nothing at all.
    let [left_out] = &status.deferred[..] else {
        panic!("{status:#?}")
    };
    assert_eq!(left_out.path, "d/a");
    assert_eq!(left_out.why, "no file, directory or link");
    assert_eq!(
        host.git(["ls-tree", "-r", "--name-only", "HEAD"]),
        "d/a\nd/b"
    );
    let nobody_reads = File::options()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&pipe);
    let error = nobody_reads.unwrap_err().raw_os_error();
    assert_eq!(error, Some(Errno::NXIO.raw_os_error()));
    told.catch_up(&host);
    assert_eq!(told.codes(), [""; 0]);
    fs::remove_file(host.folder.join("d/a")).unwrap();
    host.write("d/a", "2\n");
    host.run(["sync"]).ok();
    host.synced();
    assert_eq!(host.git(["show", "HEAD:d/a"]), "2");
}

#[test]
fn a_disk_that_loses_its_exchange_is_written_the_basic_way() {
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let test = "a_disk_that_loses_its_exchange_is_written_the_basic_way";
    let inject = "renameat2:error=EINVAL";
    let Some(strike) = Strike::at(&pair.server, test, inject, None) else {
        return;
    };
    pair.laptop.write("a", "2\n");
    pair.server.sees("the new version", |root| {
        fs::read(root.join("a")).is_ok_and(|text| text == b"2\n")
    });
    pair.server
        .until("basic", |host| host.folder_status().code == "basic");
    drop(strike);
    pair.ends_well();
}

#[test]
fn a_file_of_a_tebibyte_is_held_without_being_read() {
    let pair = pair();
    let told = Told::by(&pair.laptop);
    let file = File::create(pair.laptop.folder.join("sparse")).unwrap();
    if file.set_len(1 << 40).is_err() {
        // This disk has no such files; half of it is as good.
        file.set_len(1 << 38).unwrap();
    }
    pair.laptop.write("other", "1\n");
    pair.server
        .sees("the rest", |root| root.join("other").exists());
    pair.quiet();
    let status = pair.laptop.folder_status();
    let held = status.held.iter().find(|held| held.code == "too-big");
    assert_eq!(held.unwrap().paths, ["sparse"], "{status:#?}");
    told.only(&pair.laptop, "too-big");
    assert!(peak(pair.laptop.pid()) < 128 << 10, "it was read");
    fs::remove_file(pair.laptop.folder.join("sparse")).unwrap();
    pair.ends_well();
}

#[test]
fn a_name_that_no_disk_here_takes_is_held_and_told_and_the_rest_goes_on() {
    let pair = pair();
    pair.laptop.write("a", "1\n");
    pair.equal();
    let told = pair.hosts().map(Told::by);
    let long = "n".repeat(300);
    let blob = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"1\n");
    let mut tree = in_hub(&pair, &["ls-tree", "main"], b"");
    for name in [&long, "z"] {
        writeln!(tree, "\n100644 blob {blob}\t{name}").unwrap();
    }
    let tree = in_hub(&pair, &["mktree"], tree.replace("\n\n", "\n").as_bytes());
    commit(&pair, &tree);
    for (host, told) in pair.hosts().into_iter().zip(&told) {
        host.sees("the rest", |root| root.join("z").exists());
        let status = host.barrier();
        let [held] = &status.held[..] else {
            panic!("{status:#?}")
        };
        assert_eq!(
            (held.code.as_str(), &held.paths[..]),
            ("not-representable", &[long.clone()][..])
        );
        told.only(host, "not-representable");
    }
    pair.laptop.write("a", "2\n");
    pair.server.sees("an edit", |root| {
        fs::read(root.join("a")).is_ok_and(|text| text == b"2\n")
    });
    pair.quiet();
    in_hub(&pair, &["cat-file", "-e", &format!("main:{long}")], b"");
    // A host that can have no such name gets the file by another one.
    let tree = in_hub(&pair, &["ls-tree", "main"], b"").replace(&long, "short");
    commit(
        &pair,
        &in_hub(&pair, &["mktree"], format!("{tree}\n").as_bytes()),
    );
    for host in pair.hosts() {
        host.sees("it has a name", |root| root.join("short").exists());
        assert_eq!(host.barrier().held, []);
    }
    pair.ends_well();
}

/// Returns the most memory that a process ever had, in KiB.
pub(crate) fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().split(' ').next().unwrap();
    number.parse().unwrap()
}
