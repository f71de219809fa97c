//! The watcher against a real disk.
//!
//! Nothing here waits for time to pass: what must come is waited for with a deadline, what must
//! not come is asserted behind the watcher's own echo.
#![expect(
    clippy::print_stderr,
    reason = "skips and the size of a storm are told"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use autosync::engine::event::{Change, ChangeKind, RescanWhy};
use autosync::names::RepoPath;
use autosync::watch::{Backend, WatchEvent, WatchSettings, Watcher};

mod edges;
mod editors;
mod remote;
mod rules;
mod storm;

/// Longer than any machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

const BOTH: [Backend; 2] = [Backend::Native, Backend::Portable];

/// A watched folder.
struct Scene {
    root: PathBuf,
    watcher: Watcher,
    /// What is reported; `None` is an echo.
    events: Receiver<Option<WatchEvent>>,
    sender: Sender<Option<WatchEvent>>,
    _dir: Option<tempfile::TempDir>,
}

/// Everything that was heard until an echo.
#[derive(Debug, Default)]
struct Heard {
    changes: Vec<Change>,
    rescans: Vec<RescanWhy>,
    git_moved: usize,
    root_gone: bool,
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

impl Scene {
    /// Starts to watch a new folder after `prepare` filled it.
    fn new(backend: Backend, prepare: impl FnOnce(&Path)) -> Self {
        Self::with(backend, prepare, |_| {})
    }

    fn with(
        backend: Backend,
        prepare: impl FnOnce(&Path),
        adapt: impl FnOnce(&mut WatchSettings),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("folder");
        fs::create_dir_all(root.join(".git/info")).unwrap();
        prepare(&root);
        let mut settings = WatchSettings::new(&root);
        adapt(&mut settings);
        let (sink, events) = channel();
        let sender = sink.clone();
        let watcher = Watcher::start_on(backend, settings, move |event| {
            // The test may be over.
            sink.send(Some(event)).ok();
        });
        Self {
            root,
            watcher: watcher.unwrap(),
            events,
            sender,
            _dir: Some(dir),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
        await_closed(&self.at(path));
    }

    /// Asks for an echo behind everything that happened until now.
    fn ask(&self) {
        let sender = self.sender.clone();
        self.watcher.echo(move || {
            // The test may be over.
            sender.send(None).ok();
        });
    }

    /// Returns the next that is reported, `None` for the echo that was asked for.
    fn next(&self) -> Option<WatchEvent> {
        self.events
            .recv_timeout(DEADLINE)
            .expect("nothing is reported, and no echo comes")
    }

    /// Returns everything that is reported of what happened until now.
    fn heard(&self) -> Heard {
        self.ask();
        let mut heard = Heard::default();
        while let Some(event) = self.next() {
            heard.take(event);
        }
        heard
    }

    /// Returns everything that is reported until `enough`.
    fn until(&self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        while !enough(&heard) {
            heard.take(self.next().expect("no echo was asked for"));
        }
        heard
    }
}

/// Waits until nobody has a file open for writing. A process that another test starts at this
/// moment holds a copy of every descriptor until it becomes another program, and a file counts as
/// closed only when the last copy is.
fn await_closed(file: &Path) {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(file).unwrap();
    let deadline = autosync::clock::now() + DEADLINE;
    #[expect(unsafe_code, reason = "there is no safe form of a lease")]
    // SAFETY: only a descriptor that is open and two numbers go in.
    let lease =
        |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    while lease(libc::F_RDLCK) != 0 {
        assert!(autosync::clock::now() < deadline, "somebody still writes");
        std::thread::yield_now();
    }
    assert_eq!(lease(libc::F_UNLCK), 0);
}

impl Heard {
    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Changed(changes) => {
                assert!(!changes.is_empty());
                self.changes.extend(changes);
            }
            WatchEvent::Rescan(why) => self.rescans.push(why),
            WatchEvent::GitMoved => self.git_moved += 1,
            WatchEvent::RootGone => self.root_gone = true,
            WatchEvent::Unwatched(_) => {}
        }
    }

    /// Returns what was last said about a path.
    fn kind(&self, of: &str) -> Option<ChangeKind> {
        let of = path(of);
        let last = self.changes.iter().rev().find(|change| change.path == of);
        last.map(|change| change.kind)
    }

    /// Returns the paths that were reported.
    fn paths(&self) -> BTreeSet<String> {
        self.changes
            .iter()
            .map(|change| change.path.to_string())
            .collect()
    }

    /// Returns whether a look at what was reported finds a change of this path.
    fn covers(&self, of: &RepoPath) -> bool {
        !self.rescans.is_empty()
            || self.changes.iter().any(|change| {
                change.path == *of
                    || (change.kind == ChangeKind::Subtree && of.is_within(&change.path))
            })
    }
}

#[test]
fn every_kind_of_change_has_its_word() {
    use ChangeKind::{Attributes, Closed, Removed, Subtree, Written};
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("a/deep")).unwrap();
            for name in ["old", "gone", "mode", "a/moved"] {
                fs::write(root.join(name), "1").unwrap();
            }
        });
        scene.write("new", "1");
        scene.write("old", "22");
        scene.write("a/deep/file", "1");
        fs::remove_file(scene.at("gone")).unwrap();
        fs::rename(scene.at("a/moved"), scene.at("moved")).unwrap();
        std::os::unix::fs::symlink("/", scene.at("link")).unwrap();
        fs::hard_link(scene.at("old"), scene.at("hard")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(scene.at("mode"), mode).unwrap();
        fs::create_dir_all(scene.at("x/y")).unwrap();
        fs::remove_dir(scene.at("x/y")).unwrap();
        let open = fs::File::create(scene.at("open")).unwrap();
        let heard = scene.heard();
        for (of, kind) in [
            ("new", Closed),
            ("old", Closed),
            ("a/deep/file", Closed),
            ("gone", Removed),
            ("a/moved", Removed),
            ("moved", Closed),
            ("link", Closed),
            ("hard", Closed),
            ("mode", Attributes),
            ("x", Subtree),
            ("open", Written),
        ] {
            assert_eq!(heard.kind(of), Some(kind), "{of} on {backend:?}: {heard:?}");
        }
        assert!(heard.covers(&path("x/y")));
        drop(open);
        await_closed(&scene.at("open"));
        assert_eq!(scene.heard().kind("open"), Some(Closed));
        assert_eq!(scene.heard().paths(), BTreeSet::new());
    }
}

#[test]
fn ignored_and_foreign_things_are_silent() {
    for backend in BOTH {
        let scene = Scene::with(
            backend,
            |root| {
                for dir in [
                    "target/debug",
                    "node_modules",
                    "sub/.git",
                    "sub/src",
                    "keep",
                ] {
                    fs::create_dir_all(root.join(dir)).unwrap();
                }
                fs::write(root.join(".gitignore"), "target/\n*.o\n").unwrap();
                fs::write(root.join(".git/info/exclude"), "*.secret\n").unwrap();
                fs::write(root.join("../global"), "*.glob\n").unwrap();
            },
            |settings| {
                settings.exclude = vec!["node_modules".to_owned()];
                settings.global_excludes = Some(settings.root.join("../global"));
            },
        );
        for name in [
            "target/debug/a",
            "node_modules/a",
            "sub/src/a",
            "sub/.git/HEAD",
            "keep/a.o",
            "keep/a.secret",
            "keep/a.glob",
            "keep/.a.swp",
            "keep/a~",
            ".git/FETCH_HEAD",
            ".git/anything",
        ] {
            scene.write(name, "1");
        }
        scene.write("keep/a", "1");
        let heard = scene.heard();
        assert_eq!(heard.paths(), ["keep/a".to_owned()].into(), "{backend:?}");
        assert_eq!(
            (heard.git_moved, heard.rescans.len()),
            (0, 0),
            "{backend:?}"
        );
        // The root, `keep`, and `sub` for the day its repository goes.
        assert_eq!(scene.watcher.summary().watched, 3);
        assert_eq!(scene.watcher.summary().trouble(), None);
    }
}

#[test]
fn what_leaves_the_folder_is_silent_afterwards() {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir_all(root.join("a/deep")).unwrap();
        });
        fs::rename(scene.at("a"), scene.at("../a")).unwrap();
        assert_eq!(
            scene.heard().kind("a"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("../a/file", "1");
        scene.write("../a/deep/file", "1");
        assert_eq!(scene.heard().paths(), BTreeSet::new(), "{backend:?}");
        assert_eq!(scene.watcher.summary().watched, 1, "{backend:?}");
        // And when it comes back it is as before.
        fs::rename(scene.at("../a"), scene.at("b")).unwrap();
        assert_eq!(
            scene.heard().kind("b"),
            Some(ChangeKind::Subtree),
            "{backend:?}"
        );
        scene.write("b/deep/file", "2");
        assert_eq!(
            scene.heard().paths(),
            ["b/deep/file".to_owned()].into(),
            "{backend:?}"
        );
    }
}

#[test]
fn an_echo_comes_behind_everything_that_happened_before() {
    for backend in BOTH {
        let scene = Scene::new(backend, |_| {});
        for n in 0..300 {
            let name = format!("file{n}");
            scene.write(&name, "1");
            assert_eq!(
                scene.heard().kind(&name),
                Some(ChangeKind::Closed),
                "{backend:?}"
            );
        }
    }
}
