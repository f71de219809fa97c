//! The storm: three threads make, move and remove files and whole trees as fast as they can.
//! What changed is known from a scan before and after; every bit of it must have been reported,
//! and afterwards no directory may be blind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use autosync::engine::event::ChangeKind;
use autosync::names::RepoPath;
use autosync::watch::{Backend, WatchEvent};
use fastrand::Rng;

use super::Scene;

const OPERATIONS: usize = 600;
const ROUNDS: u64 = 2;

/// What a scan remembers of an entry: a directory is itself, a file its inode, time and size.
type Print = Option<(u64, i64, i64, u64)>;

fn scan(root: &Path) -> BTreeMap<RepoPath, Print> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != ".git" {
            look(root, &entry.path(), &mut found);
        }
    }
    found
}

/// Looks at everything from `at` downwards, though it may be gone while that is done.
fn look(root: &Path, at: &Path, found: &mut BTreeMap<RepoPath, Print>) {
    let mut rest = vec![at.to_owned()];
    while let Some(at) = rest.pop() {
        let Ok(data) = at.symlink_metadata() else {
            continue;
        };
        let path = RepoPath::from_path(at.strip_prefix(root).unwrap()).unwrap();
        found.insert(path, print(&data));
        if let Ok(entries) = fs::read_dir(&at).and_then(Iterator::collect::<Result<Vec<_>, _>>)
            && data.is_dir()
        {
            rest.extend(entries.into_iter().map(|entry| entry.path()));
        }
    }
}

fn print(data: &fs::Metadata) -> Print {
    (!data.is_dir()).then(|| (data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
}

fn changed(before: &BTreeMap<RepoPath, Print>, after: &BTreeMap<RepoPath, Print>) -> Vec<RepoPath> {
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = |path: &&RepoPath| before.get(*path) != after.get(*path);
    all.into_iter().filter(differs).cloned().collect()
}

/// Somebody who looks at what is reported, when it is reported, and at nothing else.
struct Onlooker {
    root: PathBuf,
    known: BTreeMap<RepoPath, Print>,
    told: BTreeSet<RepoPath>,
    subtrees: BTreeSet<RepoPath>,
    rescans: usize,
}

impl Onlooker {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: scan(root),
            told: BTreeSet::new(),
            subtrees: BTreeSet::new(),
            rescans: 0,
        }
    }

    fn hear(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Changed(changes) => {
                for change in changes {
                    if change.kind == ChangeKind::Subtree {
                        self.known.retain(|path, _| !path.is_within(&change.path));
                        look(&self.root, &change.path.under(&self.root), &mut self.known);
                        self.subtrees.insert(change.path.clone());
                    } else if let Ok(data) = change.path.under(&self.root).symlink_metadata() {
                        self.known.insert(change.path.clone(), print(&data));
                    } else {
                        self.known.remove(&change.path);
                    }
                    self.told.insert(change.path);
                }
            }
            WatchEvent::Rescan(_) => {
                self.rescans += 1;
                self.known = scan(&self.root);
            }
            WatchEvent::GitMoved | WatchEvent::RootGone | WatchEvent::Unwatched(_) => {}
        }
    }

    /// Returns whether a look at all that was reported finds a change of this path.
    fn finds(&self, path: &RepoPath) -> bool {
        self.rescans > 0
            || self.told.contains(path)
            || path.ancestors().any(|above| self.subtrees.contains(&above))
    }
}

/// One of the threads. Operations get in each other's way, which is the point: what fails, fails.
struct Vandal {
    rng: Rng,
    root: PathBuf,
    outside: PathBuf,
}

impl Vandal {
    fn new(root: &Path, seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            root: root.to_owned(),
            outside: root.join("../outside"),
        }
    }

    fn dir(&mut self) -> PathBuf {
        let mut dir = self.root.clone();
        for _ in 0..self.rng.usize(1..=4) {
            dir.push(format!("d{}", self.rng.u8(0..6)));
        }
        dir
    }

    fn shallow(&mut self) -> PathBuf {
        let first = self.root.join(format!("d{}", self.rng.u8(0..6)));
        if self.rng.bool() {
            first
        } else {
            first.join(format!("d{}", self.rng.u8(0..6)))
        }
    }

    fn file(&mut self) -> PathBuf {
        let name = format!("f{}", self.rng.u8(0..10));
        self.dir().join(name)
    }

    fn save(&mut self) -> std::io::Result<()> {
        let file = self.file();
        let temp = file.with_extension(format!("new{}", self.rng.u16(..)));
        fs::write(&temp, self.rng.u64(..).to_string())?;
        fs::rename(&temp, &file).or_else(|_| fs::remove_file(&temp))
    }

    fn act(&mut self) -> std::io::Result<()> {
        match self.rng.u8(0..100) {
            0..20 => {
                let dir = self.dir();
                fs::create_dir_all(&dir)?;
                for n in 0..self.rng.u8(0..4) {
                    fs::write(dir.join(format!("f{n}")), self.rng.u64(..).to_string())?;
                }
                Ok(())
            }
            20..45 => self.save(),
            45..60 => fs::write(self.file(), self.rng.u64(..).to_string()),
            60..68 => fs::rename(self.file(), self.file()),
            68..80 => fs::rename(self.shallow(), self.dir()),
            80..86 => {
                let out = self.outside.join(format!("o{}", self.rng.u8(0..4)));
                fs::rename(self.shallow(), out)
            }
            86..92 => {
                let out = self.outside.join(format!("o{}", self.rng.u8(0..4)));
                fs::rename(out, self.dir())
            }
            92..95 => fs::remove_dir_all(self.shallow()),
            95..98 => fs::remove_file(self.file()),
            _ => std::os::unix::fs::symlink("/", self.file()),
        }
    }
}

fn storm(backend: Backend, seeds: std::ops::Range<u64>) {
    let (mut paths, mut probes, mut rescans) = (0, 0, 0);
    for seed in seeds {
        let scene = Scene::new(backend, |root| fill(root, seed));
        for round in 0..ROUNDS {
            let before = scan(&scene.root);
            let mut onlooker = Onlooker::new(&scene.root);
            std::thread::scope(|scope| {
                let vandals = [0, 1, 2].map(|thread| {
                    let mut vandal = Vandal::new(&scene.root, (seed * 10 + round) * 10 + thread);
                    scope.spawn(move || {
                        for _ in 0..OPERATIONS {
                            // The others may have taken away what this one wants to touch.
                            vandal.act().ok();
                        }
                    })
                });
                let (watcher, sender) = (&scene.watcher, scene.sender.clone());
                scope.spawn(move || {
                    for vandal in vandals {
                        vandal.join().unwrap();
                    }
                    watcher.echo(move || sender.send(None).unwrap());
                });
                while let Some(event) = scene.next() {
                    onlooker.hear(event);
                }
            });
            let after = scan(&scene.root);
            let changed = changed(&before, &after);
            let missed: Vec<_> = changed
                .iter()
                .filter(|path| !onlooker.finds(path))
                .collect();
            assert!(
                missed.is_empty(),
                "{backend:?}, seed {seed}, round {round}: {missed:?}"
            );
            let stale = self::changed(&onlooker.known, &after);
            assert!(
                stale.is_empty(),
                "{backend:?}, seed {seed}, round {round}: {stale:?}"
            );
            paths += changed.len();
            rescans += onlooker.rescans;
            probes += probe(&scene, &after);
        }
    }
    assert!(
        paths > 1_000,
        "the storm was a breeze: {paths} changed paths"
    );
    eprintln!(
        "storm on {backend:?}: {paths} changed paths, {probes} directories probed, \
        {rescans} rescans"
    );
}

fn fill(root: &Path, seed: u64) {
    let mut vandal = Vandal::new(root, seed);
    fs::create_dir_all(&vandal.outside).unwrap();
    for _ in 0..200 {
        // What is not there yet cannot be moved.
        vandal.act().ok();
    }
}

/// Writes a file into every directory; returns how many.
fn probe(scene: &Scene, tree: &BTreeMap<RepoPath, Print>) -> usize {
    let dirs = tree.iter().filter(|(_, print)| print.is_none());
    let mut probes = Vec::new();
    for (dir, _) in dirs {
        let probe = dir.join("probe").unwrap();
        fs::write(probe.under(&scene.root), "probe").unwrap();
        probes.push(probe);
    }
    let heard = scene.heard();
    assert_eq!(heard.rescans, []);
    let told: BTreeSet<_> = heard.changes.iter().map(|change| &change.path).collect();
    let blind: Vec<_> = probes
        .iter()
        .filter(|probe| !told.contains(probe))
        .collect();
    assert!(blind.is_empty(), "blind: {blind:?}");
    for probe in &probes {
        fs::remove_file(probe.under(&scene.root)).unwrap();
    }
    scene.heard();
    probes.len()
}

#[test]
fn a_storm_is_reported_whole_and_leaves_no_blind_directory() {
    storm(Backend::Native, 0..20);
}

#[test]
fn a_storm_is_reported_whole_by_the_portable_source_too() {
    storm(Backend::Portable, 100..105);
}
