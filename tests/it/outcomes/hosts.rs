//! The same tables through two whole hosts: snapshot, push, fetch, merge and apply on real work
//! trees, with the hub between them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::engine::event::{Event, Fetched, Merged, Pushed};
use autosync::names::ObjectId;
use autosync::repo::folder::Folder;
use autosync::repo::network::{Remote, Terms, create_hub, fetch, push};
use autosync::repo::{Place, Policy, Settings};

use super::lab::{Lab, plain_git, temporary};
use super::names;
use super::table::{Cell, Node, Tree, cells};

/// Returns the settings of a folder on one host, with nothing guarded.
pub(crate) fn settings(root: &Path, host: &str, hub: &Path) -> Settings {
    Settings {
        root: root.to_owned(),
        git_dir: None,
        hub: Some(hub.to_str().unwrap().to_owned()),
        branch: "main".to_owned(),
        host: host.to_owned(),
        max_file: 1 << 30,
        exclude: Vec::new(),
        only: Vec::new(),
        conflict: Policy::Merge,
        mass_delete_files: 1000,
        mass_delete_percent: 100,
        guards: autosync::repo::Guards::default(),
    }
}

/// One host: its folder, and the way to the hub.
struct Host {
    folder: Folder,
    place: Place,
    remote: Remote,
    runtime: PathBuf,
}

impl Host {
    fn new(dir: &Path, name: &str, hub: &Path) -> Self {
        let root = dir.join(name);
        fs::create_dir(&root).unwrap();
        for args in [
            &["init", "-q", "-b", "main", "--template="][..],
            &["config", "user.name", "A Person"],
            &["config", "user.email", "person@home"],
        ] {
            assert!(plain_git(&root).args(args).status().unwrap().success());
        }
        let settings = settings(&root, name, hub);
        let place = Place::open(settings.clone()).unwrap();
        let remote = Remote::of(&place).unwrap().unwrap();
        let folder = Folder::open(settings).unwrap();
        Self {
            folder,
            place,
            remote,
            runtime: dir.to_owned(),
        }
    }

    fn root(&self) -> &Path {
        self.place.root()
    }

    /// Puts a tree in the place of what is there, as a person with a file manager would.
    fn lay(&self, tree: &Tree) {
        for entry in fs::read_dir(self.root()).unwrap().flatten() {
            if entry.file_name() == ".git" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for (path, node) in tree {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match node {
                Node::File(content, executable) => {
                    fs::write(&path, content).unwrap();
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
                Node::Link(target) => symlink(target, &path).unwrap(),
                Node::Submodule(_) => unreachable!("cells with submodules are left out"),
            }
        }
    }

    /// Commits, fetches, merges, pushes and applies until nothing is left to do.
    fn sync(&mut self) -> ObjectId {
        let terms = Terms {
            runtime: &self.runtime,
            approved: false,
            progress: &|_| {},
        };
        let job = Job::Snapshot {
            scope: Scope::Everything,
            even_open: BTreeSet::new(),
            trigger: Trigger::Asked,
            approved: false,
        };
        let Event::Snapshotted(taken) = self.folder.run(job, &mut |_| {}) else {
            unreachable!()
        };
        assert_eq!(taken.blocked, None);
        assert!(taken.busy.is_empty(), "{:?}", taken.busy);
        let tip = taken.tip;
        let hub = match fetch(&self.place, &self.remote, &terms) {
            Fetched::Tip(hub) => hub,
            Fetched::Failed(trouble) => panic!("{trouble:?}"),
        };
        let Some(hub) = hub else {
            return self.push(tip.unwrap());
        };
        let Event::Merged(merged) = self.folder.run(Job::Merge { hub }, &mut |_| {}) else {
            unreachable!()
        };
        match merged {
            Merged::UpToDate { tip } if tip == hub => tip,
            Merged::UpToDate { tip } => self.push(tip),
            Merged::FastForward { target } => self.apply(target),
            Merged::Created { commit, .. } => {
                let target = self.push(commit);
                self.apply(target)
            }
            Merged::Blocked(trouble) => panic!("{trouble:?}"),
        }
    }

    fn push(&self, commit: ObjectId) -> ObjectId {
        let terms = Terms {
            runtime: &self.runtime,
            approved: false,
            progress: &|_| {},
        };
        match push(&self.place, &self.remote, commit, &terms) {
            Pushed::Confirmed { commit } => commit,
            other @ (Pushed::Rejected | Pushed::Failed(_)) => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, target: ObjectId) -> ObjectId {
        let job = Job::Apply {
            target,
            approved: false,
        };
        let Event::Applied(applied) = self.folder.run(job, &mut |_| {}) else {
            unreachable!()
        };
        assert_eq!((applied.blocked, applied.kept), (None, Vec::new()));
        assert!(applied.deferred.is_empty(), "{:?}", applied.deferred);
        assert_eq!(applied.tip, Some(target));
        target
    }

    fn git(&self, args: &[&str]) -> String {
        let out = plain_git(self.root()).args(args).output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }
}

/// Runs one cell on two hosts that were in sync before; returns what is wrong.
fn check(first: &mut Host, second: &mut Host, cell: &Cell) -> Option<String> {
    first.lay(&cell.base);
    first.sync();
    second.sync();
    first.lay(&cell.h);
    second.lay(&cell.l);
    first.sync();
    let tip = second.sync();
    let other = first.sync();
    if tip != other {
        return Some("the hosts differ".to_owned());
    }
    let found = Lab::around(Place::open(first.place.settings.clone()).unwrap()).list(tip);
    if found != cell.expect {
        return Some(format!(
            "found {}, wanted {}",
            names(&found),
            names(&cell.expect)
        ));
    }
    for host in [&*first, &*second] {
        let status = host.git(&["status", "--porcelain", "--untracked-files=all"]);
        if !status.is_empty() {
            return Some(format!("the disk is not what the commit says: {status}"));
        }
    }
    let quiet = (second.sync(), first.sync());
    (quiet != (tip, tip)).then(|| "it was not quiet afterwards".to_owned())
}

#[test]
fn every_cell_comes_out_as_written_on_two_hosts() {
    let dir = temporary();
    let hub = dir.path().join("hub.git");
    create_hub(&hub, "main", false).unwrap();
    let mut first = Host::new(dir.path(), "server", &hub);
    let mut second = Host::new(dir.path(), "laptop", &hub);
    // Both meet the hub before the first cell.
    first.lay(&super::table::tree("o=b"));
    first.sync();
    autosync::repo::contact::identify(&first.place, first.place_tip()).unwrap();
    second.sync();
    let mut wrong = Vec::new();
    let mut count = 0;
    for cell in cells() {
        let nodes = [&cell.base, &cell.h, &cell.l]
            .into_iter()
            .flat_map(|tree| tree.values());
        if nodes
            .into_iter()
            .any(|node| matches!(node, Node::Submodule(_)))
        {
            continue;
        }
        count += 1;
        if let Some(what) = check(&mut first, &mut second, &cell) {
            wrong.push(format!("{}: {what}", cell.name));
        }
    }
    assert!(count > 150, "only {count} cells");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for host in [&first, &second] {
        host.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

impl Host {
    fn place_tip(&self) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", "HEAD"])).unwrap()
    }
}
