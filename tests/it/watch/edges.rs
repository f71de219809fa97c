//! Where the system's own limits are: lost events, no more watches, mounts, writers that make no
//! events. What needs a process or a namespace of its own runs the same test once more in there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use autosync::engine::event::{ChangeKind, RescanWhy};
use autosync::watch::{Backend, WatchEvent, WatchSettings, Watcher};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{BOTH, DEADLINE, Scene, path};

/// Set in the process that a test starts of itself.
pub(super) const INSIDE: &str = "AUTOSYNC_TEST_INSIDE";

#[expect(
    clippy::disallowed_methods,
    reason = "the test starts system programs and itself"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

pub(super) fn run(program: &str, arguments: &[&str]) {
    let status = command(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Returns whether a program ends well; what it says is of no interest.
pub(super) fn runs(program: &str, arguments: &[&str]) -> bool {
    let output = command(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Returns how to run one test of this file, or of one beside it: then with that one's name.
fn this_test_alone(test: &str) -> [String; 4] {
    let exe = std::env::current_exe().unwrap();
    let exe = exe.to_str().unwrap().to_owned();
    [
        exe,
        "--exact".into(),
        if test.contains("::") {
            format!("watch::{test}")
        } else {
            format!("watch::edges::{test}")
        },
        "--nocapture".into(),
    ]
}

/// Namespaces of its own, in which a process is root.
pub(super) const ROOT_INSIDE: &[&str] = &["--user", "--map-root-user", "--mount"];
/// A namespace in which a process is nobody, and no mode is overridden.
const NOBODY_INSIDE: &[&str] = &["--user"];

/// Returns true in a process with such namespaces; in the process that the test began in, starts
/// that one, wants it to succeed and returns false.
pub(super) fn inside(namespaces: &[&str], test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |arguments: &[String]| {
        let mut unshare = command("unshare");
        unshare
            .args(namespaces)
            .args(arguments)
            .env(INSIDE, "1")
            .output()
    };
    let may = unshare(&["true".to_owned()]);
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: no user namespaces here");
        return false;
    }
    let output = unshare(&this_test_alone(test)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    false
}

#[test]
fn a_queue_that_overflows_in_the_kernel_ends_in_a_rescan_and_no_blind_directory() {
    const TEST: &str =
        "a_queue_that_overflows_in_the_kernel_ends_in_a_rescan_and_no_blind_directory";
    if let Some(root) = std::env::var_os(INSIDE) {
        return watch_through_an_overflow(Path::new(&root));
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("folder");
    for n in 0..50 {
        fs::create_dir_all(root.join(format!("d{n}/sub"))).unwrap();
    }
    let [exe, arguments @ ..] = this_test_alone(TEST);
    let mut child = command(&exe)
        .args(arguments)
        .env(INSIDE, &root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut await_line = |wanted: &str| {
        let found = lines.by_ref().any(|line| line.unwrap().contains(wanted));
        assert!(found, "the watching process did not say `{wanted}`");
    };
    await_line("watching");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();

    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let [one, two] = ["one", "two"].map(|name| fs::File::create(root.join(name)).unwrap());
    // Two files in turn, because the kernel joins equal events that follow each other.
    for n in 0..=limit / 2 {
        one.write_all_at(b"x", n as u64).unwrap();
        two.write_all_at(b"x", n as u64).unwrap();
    }
    // None of this is told any more: other directories under the same names.
    for n in 0..50 {
        let outside = dir.path().join(format!("old{n}"));
        fs::rename(root.join(format!("d{n}")), outside).unwrap();
        fs::create_dir_all(root.join(format!("d{n}/sub"))).unwrap();
    }
    kill_process(pid, Signal::CONT).unwrap();
    await_line("looked again");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    await_line("1 passed");
    assert!(child.wait().unwrap().success());
}

/// The part of the watching process: says when it watches, wants a rescan, then probes.
fn watch_through_an_overflow(root: &Path) {
    let (sink, events) = channel();
    let settings = WatchSettings::new(root);
    let watcher = Watcher::start(settings, move |event| sink.send(event).unwrap()).unwrap();
    tell_parent("watching");
    let lost = WatchEvent::Rescan(RescanWhy::Overflow);
    while events.recv_timeout(DEADLINE).unwrap() != lost {}
    tell_parent("looked again");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut probes = std::collections::BTreeSet::new();
    for n in 0..50 {
        for dir in [format!("d{n}"), format!("d{n}/sub")] {
            let probe = path(&format!("{dir}/probe"));
            fs::write(probe.under(root), "probe").unwrap();
            probes.insert(probe);
        }
    }
    while !probes.is_empty() {
        if let WatchEvent::Changed(changes) = events.recv_timeout(DEADLINE).unwrap() {
            for change in changes {
                probes.remove(&change.path);
            }
        }
    }
    drop(watcher);
}

fn tell_parent(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[test]
fn a_resolver_that_cannot_follow_ends_in_a_rescan() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (sink, events) = channel();
    let (release, released) = channel::<()>();
    let (entered, in_sink) = channel();
    let watcher = Watcher::start(WatchSettings::new(&root), move |event| {
        entered.send(()).ok();
        // Stands still at the first event, until the sender is gone.
        released.recv().ok();
        sink.send(event).ok();
    })
    .unwrap();
    fs::write(root.join("first"), "1").unwrap();
    in_sink.recv_timeout(DEADLINE).unwrap();
    let [one, two] = ["one", "two"].map(|name| fs::File::create(root.join(name)).unwrap());
    for n in 0..40_000 {
        one.write_all_at(b"x", n).unwrap();
        two.write_all_at(b"x", n).unwrap();
    }
    fs::create_dir_all(root.join("new/deep")).unwrap();
    drop(release);
    let lost = WatchEvent::Rescan(RescanWhy::Overflow);
    while events.recv_timeout(DEADLINE).unwrap() != lost {}
    fs::write(root.join("new/deep/probe"), "1").unwrap();
    let probe = path("new/deep/probe");
    loop {
        if let WatchEvent::Changed(changes) = events.recv_timeout(DEADLINE).unwrap()
            && changes.iter().any(|change| change.path == probe)
        {
            break;
        }
    }
    drop(watcher);
}

#[test]
fn directories_without_a_watch_are_polled_and_the_sysctl_is_named() {
    if !inside(
        ROOT_INSIDE,
        "directories_without_a_watch_are_polled_and_the_sysctl_is_named",
    ) {
        return;
    }
    for backend in BOTH {
        fs::write("/proc/sys/user/max_inotify_watches", "20").unwrap();
        let scene = Scene::with(
            backend,
            |root| {
                for n in 0..40 {
                    fs::create_dir_all(root.join(format!("d{n}/sub"))).unwrap();
                    fs::write(root.join(format!("d{n}/sub/old")), "1").unwrap();
                }
            },
            |settings| settings.poll_often = std::time::Duration::from_millis(50),
        );
        let summary = scene.watcher.summary();
        assert_eq!(summary.watched + summary.unwatched, 81, "{backend:?}");
        assert!(
            (15..=20).contains(&summary.watched),
            "{summary:?} {backend:?}"
        );
        let trouble = summary.trouble().unwrap();
        assert!(
            trouble.hint.contains("fs.inotify.max_user_watches"),
            "{trouble:?}"
        );
        assert_eq!(scene.next(), Some(WatchEvent::Unwatched(summary)));

        for n in 0..40 {
            scene.write(&format!("d{n}/sub/old"), "22");
            scene.write(&format!("d{n}/new"), "1");
            fs::create_dir_all(scene.at(&format!("d{n}/made/deep"))).unwrap();
        }
        scene.until(|heard| {
            (0..40).all(|n| {
                let reported = |name: &str| heard.covers(&path(&format!("d{n}/{name}")));
                reported("sub/old") && reported("new") && reported("made")
            })
        });
        for n in 0..40 {
            fs::remove_file(scene.at(&format!("d{n}/sub/old"))).unwrap();
            scene.write(&format!("d{n}/made/deep/a"), "1");
        }
        scene.until(|heard| {
            (0..40).all(|n| {
                heard.covers(&path(&format!("d{n}/sub/old")))
                    && heard.covers(&path(&format!("d{n}/made/deep/a")))
            })
        });
        // Watches become free: nothing is left to poll.
        fs::write("/proc/sys/user/max_inotify_watches", "1000").unwrap();
        let enough =
            |event: &WatchEvent| matches!(event, WatchEvent::Unwatched(now) if now.unwatched == 0);
        while !enough(&scene.next().unwrap()) {}
        scene.heard();
        scene.write("d7/made/deep/a", "2");
        assert_eq!(
            scene.heard().kind("d7/made/deep/a"),
            Some(ChangeKind::Closed)
        );
    }
}

#[test]
fn an_echo_comes_after_what_happened_in_directories_without_a_watch() {
    if !inside(
        ROOT_INSIDE,
        "an_echo_comes_after_what_happened_in_directories_without_a_watch",
    ) {
        return;
    }
    for backend in BOTH {
        fs::write("/proc/sys/user/max_inotify_watches", "10").unwrap();
        let scene = Scene::with(
            backend,
            |root| {
                for n in 0..20 {
                    fs::create_dir_all(root.join(format!("d{n}"))).unwrap();
                    fs::write(root.join(format!("d{n}/old")), "1").unwrap();
                }
            },
            // So seldom that nothing is ever due.
            |settings| settings.poll_often = std::time::Duration::from_secs(86_400),
        );
        assert!(scene.watcher.summary().unwatched >= 10, "{backend:?}");
        for round in 0..5 {
            for n in 0..20 {
                scene.write(&format!("d{n}/old"), &"x".repeat(round + 2));
                scene.write(&format!("d{n}/new{round}"), "1");
            }
            let heard = scene.heard();
            for n in 0..20 {
                for name in ["old".to_owned(), format!("new{round}")] {
                    let name = format!("d{n}/{name}");
                    assert!(heard.covers(&path(&name)), "{name} {backend:?}");
                }
            }
            let again = scene.heard();
            assert!(again.changes.is_empty(), "{again:?} {backend:?}");
        }
    }
}

#[test]
fn what_is_mounted_over_a_directory_is_seen_and_so_is_its_end() {
    if !inside(
        ROOT_INSIDE,
        "what_is_mounted_over_a_directory_is_seen_and_so_is_its_end",
    ) {
        return;
    }
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("disk")).unwrap();
            fs::write(root.join("disk/below"), "1").unwrap();
        });
        let disk = scene.at("disk");
        let disk = disk.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "none", disk]);
        scene.until(|heard| heard.rescans.contains(&RescanWhy::Remount));
        scene.heard();
        fs::create_dir(scene.at("disk/deep")).unwrap();
        scene.write("disk/deep/a", "1");
        assert!(scene.heard().covers(&path("disk/deep/a")), "{backend:?}");
        run("umount", &[disk]);
        scene.until(|heard| heard.rescans.contains(&RescanWhy::Remount));
        scene.heard();
        scene.write("disk/below", "2");
        assert_eq!(
            scene.heard().kind("disk/below"),
            Some(ChangeKind::Closed),
            "{backend:?}"
        );
    }
}

#[test]
fn what_is_mounted_as_soon_as_a_folder_is_watched_is_seen() {
    if !inside(
        ROOT_INSIDE,
        "what_is_mounted_as_soon_as_a_folder_is_watched_is_seen",
    ) {
        return;
    }
    for _ in 0..100 {
        let scene = Scene::new(Backend::Native, |root| {
            fs::create_dir_all(root.join("disk")).unwrap();
        });
        let disk = std::ffi::CString::new(scene.at("disk").to_str().unwrap()).unwrap();
        let kind = c"tmpfs".as_ptr();
        #[expect(unsafe_code, reason = "starting a program would give the watcher time")]
        // SAFETY: every pointer is to a string that ends with NUL and lives on, or is null where
        // mount(2) allows it.
        let mounted = unsafe { libc::mount(kind, disk.as_ptr(), kind, 0, std::ptr::null()) };
        assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        // It is no file event, and told before an echo all the same.
        let heard = scene.heard();
        assert_eq!(heard.rescans, [RescanWhy::Remount], "{heard:?}");
        run("umount", &[disk.to_str().unwrap()]);
    }
}

#[test]
fn an_unmounted_root_is_gone_not_empty_and_can_come_back() {
    if !inside(
        ROOT_INSIDE,
        "an_unmounted_root_is_gone_not_empty_and_can_come_back",
    ) {
        return;
    }
    for backend in BOTH {
        let mut point = String::new();
        let scene = Scene::with(
            backend,
            |root| {
                fs::create_dir_all(root.join("../disk/.git")).unwrap();
                fs::write(root.join("../disk/precious"), "1").unwrap();
                let disk = root.join("../disk");
                run(
                    "mount",
                    &["--bind", disk.to_str().unwrap(), root.to_str().unwrap()],
                );
            },
            |settings| settings.root.to_str().unwrap().clone_into(&mut point),
        );
        scene.write("precious", "2");
        assert_eq!(
            scene.heard().kind("precious"),
            Some(ChangeKind::Closed),
            "{backend:?}"
        );
        run("umount", &[&point]);
        let heard = scene.until(|heard| heard.root_gone);
        assert_eq!(
            heard.paths(),
            std::collections::BTreeSet::new(),
            "{backend:?}"
        );
        scene.write("precious", "3");
        assert_eq!(
            scene.heard().paths(),
            std::collections::BTreeSet::new(),
            "{backend:?}"
        );
        let disk = scene.at("../disk").canonicalize().unwrap();
        run("mount", &["--bind", disk.to_str().unwrap(), &point]);
        scene.until(|heard| heard.rescans.contains(&RescanWhy::Remount));
        scene.heard();
        scene.write("precious", "4");
        assert_eq!(
            scene.heard().kind("precious"),
            Some(ChangeKind::Closed),
            "{backend:?}"
        );
        run("umount", &[&point]);
    }
}

#[test]
fn a_root_that_is_removed_or_moved_is_gone() {
    for backend in BOTH {
        for how in ["removed", "moved", "replaced"] {
            let scene = Scene::new(backend, |root| fs::create_dir_all(root.join("a")).unwrap());
            match how {
                "removed" => fs::remove_dir_all(&scene.root).unwrap(),
                "moved" => fs::rename(&scene.root, scene.at("../elsewhere")).unwrap(),
                _ => {
                    fs::rename(&scene.root, scene.at("../elsewhere")).unwrap();
                    fs::create_dir(&scene.root).unwrap();
                }
            }
            scene.until(|heard| heard.root_gone);
            assert!(!scene.heard().root_gone, "{how} on {backend:?}: told once");
        }
    }
}

#[test]
fn no_root_no_watcher() {
    let dir = tempfile::tempdir().unwrap();
    let error = Watcher::start(WatchSettings::new(dir.path().join("none")), |_| {}).unwrap_err();
    assert_eq!(
        error.trouble().code,
        autosync::engine::event::Code::RootMissing
    );
}

#[test]
fn a_writer_through_a_memory_map_is_reported_when_it_is_done() {
    use std::os::fd::AsRawFd;
    let scene = Scene::new(Backend::Native, |root| {
        fs::write(root.join("mapped"), vec![b'a'; 4096]).unwrap();
    });
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(scene.at("mapped"))
        .unwrap();
    #[expect(unsafe_code, reason = "a memory map is what the test is about")]
    // SAFETY: a new shared mapping of 4096 bytes of a file that has them, checked for success,
    // written to within its bounds and unmapped once.
    unsafe {
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let fd = file.as_raw_fd();
        let map = libc::mmap(std::ptr::null_mut(), 4096, read_write, shared, fd, 0);
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        map.cast::<u8>().write(b'b');
        assert_eq!(
            scene.heard().paths(),
            std::collections::BTreeSet::new(),
            "still mapped"
        );
        assert_eq!(libc::munmap(map, 4096), 0);
    }
    super::await_closed(&scene.at("mapped"));
    assert_eq!(scene.heard().kind("mapped"), Some(ChangeKind::Closed));
}

#[test]
fn a_directory_that_becomes_readable_is_looked_at() {
    if !inside(
        NOBODY_INSIDE,
        "a_directory_that_becomes_readable_is_looked_at",
    ) {
        return;
    }
    let mode = |at: &Path, mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(at, mode).unwrap();
    };
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("shut/deep")).unwrap();
            fs::create_dir_all(root.join("open/deep")).unwrap();
            mode(&root.join("shut"), 0o000);
        });
        assert!(
            fs::read_dir(scene.at("shut")).is_err(),
            "this process may read everything"
        );
        assert_eq!(scene.watcher.summary().trouble(), None, "{backend:?}");
        mode(&scene.at("shut"), 0o700);
        assert_eq!(
            scene.heard().kind("shut"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("shut/deep/a", "1");
        assert!(scene.heard().paths().contains("shut/deep/a"), "{backend:?}");

        // Shut while it is watched, and walked while it is shut.
        mode(&scene.at("open"), 0o000);
        scene.watcher.rescan();
        scene.heard();
        mode(&scene.at("open"), 0o700);
        assert_eq!(
            scene.heard().kind("open"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("open/deep/a", "1");
        assert!(scene.heard().paths().contains("open/deep/a"), "{backend:?}");

        mode(&scene.root, 0o300);
        scene.watcher.rescan();
        scene.heard();
        mode(&scene.root, 0o700);
        assert!(
            scene.heard().rescans.contains(&RescanWhy::Remount),
            "{backend:?}"
        );
        scene.write("open/deep/a", "2");
        assert!(scene.heard().paths().contains("open/deep/a"), "{backend:?}");
        // Times of a directory are nobody's business.
        let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        let open = fs::File::open(scene.at("open")).unwrap();
        open.set_times(times).unwrap();
        let heard = scene.heard();
        assert!(heard.changes.is_empty(), "{heard:?} {backend:?}");
    }
}

#[test]
fn without_an_instance_the_sysctl_for_instances_is_named() {
    if !inside(
        ROOT_INSIDE,
        "without_an_instance_the_sysctl_for_instances_is_named",
    ) {
        return;
    }
    fs::write("/proc/sys/user/max_inotify_instances", "0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for backend in BOTH {
        let settings = WatchSettings::new(dir.path());
        let error = Watcher::start_on(backend, settings, |_| {}).unwrap_err();
        let hint = error.trouble().hint;
        assert!(
            hint.contains("fs.inotify.max_user_instances"),
            "{error:?} {backend:?}"
        );
    }
}
