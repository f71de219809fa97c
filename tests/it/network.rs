//! The network lane against real hubs on paths.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autosync::engine::event::{Code, Fetched, Pushed, Recovery, Trouble};
use autosync::git::objects::{Identity, Kind as ObjectKind};
use autosync::git::{hub, refs, tree};
use autosync::names::ObjectId;
use autosync::process::{self, Patience};
use autosync::repo::network::{self, Kind, Remote, Terms};
use autosync::repo::{Place, Policy, Settings};

mod notes;
mod plain_hub;

/// Runs git and returns what it wrote, trimmed.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = process::command(autosync::git::program());
    command.arg("-C").arg(dir).args(args);
    let patience = Patience::Total(Duration::from_secs(60));
    let done = process::run(&mut command, b"", patience).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "git {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Says that a test could not be run.
#[expect(clippy::print_stderr, reason = "a skip is said aloud and counted")]
pub(crate) fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// A clone of a hub, as the agent of one host has it.
pub(crate) struct Clone {
    pub(crate) place: Place,
    pub(crate) remote: Remote,
    pub(crate) runtime: PathBuf,
}

impl Clone {
    /// Makes an empty folder `name` below `dir` whose hub is at `url`.
    pub(crate) fn new(dir: &Path, name: &str, url: &str, config: &[(&str, &str)]) -> Self {
        let root = dir.join(name);
        fs::create_dir_all(&root).unwrap();
        git(&root, &["init", "-q", "-b", "main"]);
        for (key, value) in config {
            git(&root, &["config", key, value]);
        }
        Self::open(&root, name, url)
    }

    /// Opens a folder that is there.
    pub(crate) fn open(root: &Path, name: &str, url: &str) -> Self {
        let place = Place::open(Settings {
            root: root.to_owned(),
            git_dir: None,
            hub: Some(url.to_owned()),
            branch: "main".into(),
            host: name.into(),
            max_file: 1 << 30,
            exclude: Vec::new(),
            only: Vec::new(),
            conflict: Policy::Merge,
            mass_delete_files: 50,
            mass_delete_percent: 25,
            guards: autosync::repo::Guards::default(),
        })
        .unwrap();
        let remote = Remote::of(&place).unwrap().unwrap();
        let runtime = root.parent().unwrap().to_owned();
        Self {
            place,
            remote,
            runtime,
        }
    }

    /// Makes a commit with one file on top of `parents`, in the objects only.
    pub(crate) fn commit(&self, parents: &[ObjectId], name: &str, text: &str) -> ObjectId {
        let objects = &self.place.objects;
        let mut lines = match parents.first() {
            Some(parent) => objects.tree(objects.commit(*parent).unwrap().tree).unwrap(),
            None => Vec::new(),
        };
        lines.retain(|line| line.name != name.as_bytes());
        lines.push(tree::Line {
            name: name.as_bytes().to_vec(),
            entry: tree::Entry {
                mode: tree::FILE,
                id: objects.write(ObjectKind::Blob, text.as_bytes()).unwrap(),
            },
        });
        let tree = objects.write_tree(lines).unwrap();
        let who = Identity {
            name: "me".into(),
            email: "me@here".into(),
        };
        let seconds = 1_700_000_000;
        objects
            .write_commit(tree, parents, &who, (seconds, 0), text)
            .unwrap()
    }

    pub(crate) fn push(&self, commit: ObjectId) -> Pushed {
        network::push(&self.place, &self.remote, commit, &self.terms(&|_| {}))
    }

    pub(crate) fn fetch(&self) -> Fetched {
        network::fetch(&self.place, &self.remote, &self.terms(&|_| {}))
    }

    pub(crate) fn root_at_hub(&self, tip: ObjectId) -> Option<ObjectId> {
        network::root(&self.place, &self.remote, tip, &self.terms(&|_| {})).unwrap()
    }

    fn fetch_approved(&self) -> Fetched {
        let terms = Terms {
            approved: true,
            ..self.terms(&|_| {})
        };
        network::fetch(&self.place, &self.remote, &terms)
    }

    pub(crate) fn terms<'a>(
        &'a self,
        progress: &'a dyn Fn(autosync::engine::status::Progress),
    ) -> Terms<'a> {
        Terms {
            runtime: &self.runtime,
            approved: false,
            progress,
        }
    }

    fn seen(&self) -> Option<ObjectId> {
        self.remote.last_seen(&self.place).unwrap()
    }

    pub(crate) fn root(&self) -> &Path {
        self.place.root()
    }
}

/// A hub and two clones of it.
struct World {
    dir: tempfile::TempDir,
    hub: PathBuf,
    a: Clone,
    b: Clone,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let hub = dir.path().join("hub.git");
    hub::create(&hub, "main", false).unwrap();
    let url = hub.to_str().unwrap();
    let a = Clone::new(dir.path(), "a", url, &[]);
    let b = Clone::new(dir.path(), "b", url, &[]);
    World { dir, hub, a, b }
}

pub(crate) fn confirmed(commit: ObjectId) -> Pushed {
    Pushed::Confirmed { commit }
}

fn push_trouble(pushed: Pushed) -> Trouble {
    match pushed {
        Pushed::Failed(trouble) => trouble,
        Pushed::Confirmed { .. } | Pushed::Rejected => panic!("{pushed:?}"),
    }
}

pub(crate) fn fetch_trouble(fetched: Fetched) -> Trouble {
    match fetched {
        Fetched::Failed(trouble) => trouble,
        Fetched::Tip(_) => panic!("{fetched:?}"),
    }
}

#[test]
fn a_commit_goes_over_the_hub_and_both_remember_it() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
        ..
    } = world();
    assert_eq!(b.fetch(), Fetched::Tip(None));
    let first = a.commit(&[], "one", "1");
    assert_eq!(a.push(first), confirmed(first));
    assert_eq!(a.seen(), Some(first));
    assert_eq!(git(&hub, &["rev-parse", "main"]), first.to_string());
    assert_eq!(b.fetch(), Fetched::Tip(Some(first)));
    let second = a.commit(&[first], "two", "2");
    assert_eq!(a.push(second), confirmed(second));
    assert_eq!(b.fetch(), Fetched::Tip(Some(second)));
    assert_eq!(b.seen(), Some(second));
    git(b.root(), &["fsck", "--strict", "--connectivity-only"]);
    assert_eq!(git(b.root(), &["show", &format!("{second}:two")]), "2");
    assert_eq!(a.push(second), confirmed(second));
    assert!(!b.root().join(".git/FETCH_HEAD").exists());
    assert_eq!(refs::list(&b.place.git, refs::OURS).unwrap(), []);
}

#[test]
fn a_push_that_is_not_on_top_is_rejected_and_never_forced() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
        ..
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    let from_a = a.commit(&[root], "a", "a");
    let from_b = b.commit(&[root], "b", "b");
    assert_eq!(a.push(from_a), confirmed(from_a));
    assert_eq!(b.push(from_b), Pushed::Rejected);
    assert_eq!(b.seen(), Some(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(from_a)));
    assert_eq!(b.push(from_b), Pushed::Rejected);
    let merge = b.commit(&[from_a, from_b], "b", "b");
    assert_eq!(b.push(merge), confirmed(merge));
    assert_eq!(git(&hub, &["rev-parse", "main"]), merge.to_string());
    assert_eq!(a.fetch(), Fetched::Tip(Some(merge)));
}

#[test]
fn a_branch_that_another_push_holds_is_a_rejection() {
    let World {
        dir: _dir, hub, a, ..
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    let next = a.commit(&[root], "two", "2");
    fs::write(hub.join("refs/heads/main.lock"), "").unwrap();
    assert_eq!(a.push(next), Pushed::Rejected);
    fs::remove_file(hub.join("refs/heads/main.lock")).unwrap();
    assert_eq!(a.push(next), confirmed(next));
}

#[test]
fn a_hook_that_declines_is_heard_but_cannot_steer_the_terminal() {
    use std::os::unix::fs::PermissionsExt;
    let World {
        dir: _dir, hub, a, ..
    } = world();
    let hook = hub.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(
        &hook,
        "#!/bin/sh\nprintf 'no \\033[31mred\\007 files\\n' >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let commit = a.commit(&[], "one", "1");
    let trouble = push_trouble(a.push(commit));
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::Declined, Recovery::Hold)
    );
    assert!(trouble.message.contains("pre-receive hook declined"));
    assert!(
        trouble.message.contains(r"no \u{1b}[31mred\u{7} files"),
        "{}",
        trouble.message
    );
    assert_eq!(a.seen(), None);
}

#[test]
fn a_hub_with_a_work_tree_says_that_it_is_none() {
    let World { dir, a, .. } = world();
    let hub = dir.path().join("tree");
    fs::create_dir(&hub).unwrap();
    git(&hub, &["init", "-q", "-b", "main"]);
    let host = Clone::new(dir.path(), "c", hub.to_str().unwrap(), &[]);
    let commit = host.commit(&[], "one", "1");
    let trouble = push_trouble(host.push(commit));
    assert_eq!(trouble.code, Code::Declined);
    assert!(trouble.hint.contains("bare"), "{}", trouble.hint);
    assert_eq!(a.fetch(), Fetched::Tip(None));
}

#[test]
fn a_hub_that_has_nothing_new_costs_no_process() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
        ..
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    git(&hub, &["pack-refs", "--all"]);
    // No git could serve this hub any more; the look at its reference still works.
    fs::write(hub.join("config"), "broken").unwrap();
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
}

#[test]
fn a_hub_that_is_not_there_is_tried_again() {
    let World { dir, hub, a, .. } = world();
    let commit = a.commit(&[], "one", "1");
    let away = dir.path().join("away");
    fs::rename(&hub, &away).unwrap();
    for trouble in [push_trouble(a.push(commit)), fetch_trouble(a.fetch())] {
        assert_eq!(
            (trouble.code, trouble.recovery),
            (Code::HubMissing, Recovery::Retry)
        );
        assert!(trouble.message.contains("hub.git"), "{}", trouble.message);
    }
    fs::rename(&away, &hub).unwrap();
    assert_eq!(a.push(commit), confirmed(commit));
}

#[test]
fn a_rewritten_history_is_held_until_a_person_approves() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
        ..
    } = world();
    let root = a.commit(&[], "one", "1");
    let next = a.commit(&[root], "two", "2");
    assert_eq!(a.push(next), confirmed(next));
    assert_eq!(b.fetch(), Fetched::Tip(Some(next)));
    let other = a.commit(&[root], "three", "3");
    git(
        a.root(),
        &[
            "push",
            "-q",
            "-f",
            hub.to_str().unwrap(),
            &format!("{other}:refs/heads/elsewhere"),
        ],
    );
    git(&hub, &["update-ref", "refs/heads/main", &other.to_string()]);
    let trouble = fetch_trouble(b.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::HistoryRewritten, Recovery::Hold)
    );
    assert_eq!(b.seen(), Some(next));
    assert_eq!(b.fetch_approved(), Fetched::Tip(Some(other)));
    assert_eq!(b.seen(), Some(other));
}

#[test]
fn a_branch_that_vanishes_is_said_and_remembered() {
    let World {
        dir: _dir, hub, a, ..
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    git(&hub, &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(a.fetch(), Fetched::Tip(None));
    assert_eq!(a.seen(), Some(root));
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(a.fetch(), Fetched::Tip(Some(root)));
}

#[test]
fn a_hostile_tree_is_refused_by_the_hub_and_by_the_fetch() {
    let World { dir, hub, a, b } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    let hostile = a.commit(&[root], ".git", "x");
    let trouble = push_trouble(a.push(hostile));
    assert_eq!(trouble.code, Code::Damaged, "{}", trouble.message);
    // Somebody puts it there all the same.
    git(&hub, &["config", "receive.fsckObjects", "false"]);
    git(
        a.root(),
        &[
            "push",
            "-q",
            hub.to_str().unwrap(),
            &format!("{hostile}:refs/heads/main"),
        ],
    );
    let fresh = Clone::new(dir.path(), "fresh", hub.to_str().unwrap(), &[]);
    for host in [&b, &fresh] {
        let trouble = fetch_trouble(host.fetch());
        assert_eq!(trouble.code, Code::Damaged, "{}", trouble.message);
        assert_ne!(host.seen(), Some(hostile));
    }
}

#[test]
fn a_fetch_does_not_trust_objects_that_no_reference_held() {
    let World {
        dir: _dir, a, b, ..
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    let next = a.commit(&[root], "two", "2");
    assert_eq!(a.push(next), confirmed(next));
    // An earlier fetch got this far and was killed: the commit is here, its file is not.
    let objects = &b.place.objects;
    let commit = a.place.objects.read(next).unwrap();
    let tree = a.place.objects.commit(next).unwrap().tree;
    assert_eq!(objects.write(ObjectKind::Commit, &commit.1).unwrap(), next);
    let (_, lines) = a.place.objects.read(tree).unwrap();
    assert_eq!(objects.write(ObjectKind::Tree, &lines).unwrap(), tree);
    assert_eq!(b.fetch(), Fetched::Tip(Some(next)));
    git(b.root(), &["fsck", "--strict"]);
    assert_eq!(git(b.root(), &["show", &format!("{next}:two")]), "2");
}

#[test]
fn few_new_commits_of_a_path_hub_cost_no_process_and_many_come_in_a_pack() {
    let World {
        dir: _dir,
        hub,
        a,
        b,
    } = world();
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    // Two sides and their merge.
    let left = a.commit(&[root], "left", "l");
    let right = a.commit(&[root], "right", "r");
    let merge = a.commit(&[left, right], "merge", "m");
    let link = a.commit(&[merge], ".gitignore", "x");
    assert_eq!(a.push(link), confirmed(link));
    let config = fs::read(hub.join("config")).unwrap();
    // No git could serve this hub.
    fs::write(hub.join("config"), "broken").unwrap();
    assert_eq!(b.fetch(), Fetched::Tip(Some(link)));
    git(b.root(), &["fsck", "--strict"]);
    fs::write(hub.join("config"), config).unwrap();
    // Special to git, so git brings it.
    let special = a.commit(&[link], ".gitattributes", "* text\n");
    assert_eq!(a.push(special), confirmed(special));
    assert_eq!(b.fetch(), Fetched::Tip(Some(special)));
    let mut tip = special;
    for count in 0..150 {
        tip = a.commit(&[tip], "file", &count.to_string());
    }
    assert_eq!(a.push(tip), confirmed(tip));
    assert_eq!(b.fetch(), Fetched::Tip(Some(tip)));
    git(b.root(), &["fsck", "--strict"]);
}

#[test]
fn a_reftable_hub_is_read_by_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let hub = dir.path().join("hub");
    if autosync::git::check_version().unwrap() < (2, 45) {
        skipped(
            "a_reftable_hub_is_read_by_the_program",
            "this git has no reftable",
        );
        return;
    }
    git(
        dir.path(),
        &[
            "init",
            "-q",
            "--bare",
            "-b",
            "main",
            "--ref-format=reftable",
            "hub",
        ],
    );
    let url = format!("file://{}", hub.display());
    let a = Clone::new(dir.path(), "a", &url, &[]);
    let b = Clone::new(dir.path(), "b", &url, &[]);
    assert_eq!(a.remote.kind, Kind::Path(hub.clone()));
    assert_eq!(a.fetch(), Fetched::Tip(None));
    let root = a.commit(&[], "one", "1");
    assert_eq!(a.push(root), confirmed(root));
    assert_eq!(b.fetch(), Fetched::Tip(Some(root)));
    let next = b.commit(&[root], "two", "2");
    assert_eq!(b.push(next), confirmed(next));
    assert_eq!(a.fetch(), Fetched::Tip(Some(next)));
    assert_eq!(a.fetch(), Fetched::Tip(Some(next)));
}

#[test]
fn the_tracking_reference_is_that_of_the_remote_with_this_address() {
    let World { dir, hub, a, .. } = world();
    assert_eq!(a.remote.tracking, "refs/remotes/autosync/main");
    git(a.root(), &["remote", "add", "home", "../hub.git/"]);
    let url = hub.to_str().unwrap();
    let again = Clone::open(a.root(), "a", url);
    assert_eq!(again.remote.tracking, "refs/remotes/home/main");
    let secret = Clone::new(dir.path(), "s", "https://me:s3cret@example.org/x", &[]);
    assert_eq!(secret.remote.public, "https://example.org/x");
    assert_eq!(secret.remote.kind, Kind::Https);
}

#[test]
fn a_long_push_and_fetch_say_what_they_are_at() {
    let World {
        dir: _dir, a, b, ..
    } = world();
    let mut tip = a.commit(&[], "file", "0");
    for count in 1..60 {
        tip = a.commit(&[tip], "file", &count.to_string());
    }
    let heard = RefCell::new(Vec::new());
    let listen = |progress| heard.borrow_mut().push(progress);
    assert_eq!(
        network::push(&a.place, &a.remote, tip, &a.terms(&listen)),
        confirmed(tip)
    );
    let pushed = heard.take();
    assert!(
        pushed
            .iter()
            .any(|p| p.what == "push" && p.done == p.total && p.total >= 180)
    );
    assert_eq!(
        network::fetch(&b.place, &b.remote, &b.terms(&listen)),
        Fetched::Tip(Some(tip))
    );
    assert!(
        heard
            .take()
            .iter()
            .any(|p| p.what == "fetch" && p.total >= 180)
    );
}

#[test]
fn a_folder_with_large_files_runs_the_hook_that_uploads_them() {
    use std::os::unix::fs::PermissionsExt;
    let World { dir, a, .. } = world();
    let hook = a.root().join(".git/hooks/pre-push");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let log = dir.path().join("log");
    fs::write(&hook, format!("#!/bin/sh\ncat >>'{}'\n", log.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let plain = a.commit(&[], "one", "1");
    assert_eq!(a.push(plain), confirmed(plain));
    assert!(!log.exists());
    let large = a.commit(&[plain], ".gitattributes", "*.psd filter=lfs -text\n");
    assert_eq!(a.push(large), confirmed(large));
    assert!(
        fs::read_to_string(&log)
            .unwrap()
            .contains(&large.to_string())
    );
}

#[test]
fn a_shared_hub_of_another_user_gets_a_sentence() {
    let World {
        dir: _dir, hub, a, ..
    } = world();
    if !rustix::process::geteuid().is_root() {
        skipped("a_shared_hub_of_another_user_gets_a_sentence", "needs root");
        return;
    }
    let commit = a.commit(&[], "one", "1");
    rustix::fs::chown(&hub, Some(rustix::fs::Uid::from_raw(12_345)), None).unwrap();
    let trouble = push_trouble(a.push(commit));
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::Ownership, Recovery::Hold)
    );
    let trouble = fetch_trouble(Clone::open(a.root(), "a", &a.remote.url).fetch_new(&hub));
    assert_eq!(trouble.code, Code::Ownership);
}

impl Clone {
    /// Fetches after the hub got a branch from somebody else.
    fn fetch_new(&self, hub: &Path) -> Fetched {
        let id = self.commit(&[], "other", "x");
        fs::write(hub.join("refs/heads/main"), format!("{id}\n")).unwrap();
        self.fetch()
    }
}

#[test]
fn a_hub_without_space_is_told_from_a_full_disk_here() {
    let World {
        dir: _dir, hub, a, ..
    } = world();
    let Some(mount) = SmallDisk::over(&hub.join("objects")) else {
        skipped(
            "a_hub_without_space_is_told_from_a_full_disk_here",
            "cannot mount",
        );
        return;
    };
    let big = "x1y2".repeat(1 << 20);
    let noise: String = (0..big.len() / 8)
        .map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761)))
        .collect::<Vec<_>>()
        .concat();
    let commit = a.commit(&[], "big", &noise);
    let trouble = push_trouble(a.push(commit));
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::DiskFull, Recovery::Retry)
    );
    assert!(trouble.message.contains("hub"), "{}", trouble.message);
    drop(mount);
}

/// A disk of 64 KiB, mounted over a directory while this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(dir: &Path) -> Option<Self> {
        let patience = Patience::Total(Duration::from_secs(10));
        let mut mount = process::command("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(dir);
        let done = process::run(&mut mount, b"", patience).ok()?;
        done.status.success().then(|| Self(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let patience = Patience::Total(Duration::from_secs(10));
        process::run(process::command("umount").arg(&self.0), b"", patience).unwrap();
    }
}
