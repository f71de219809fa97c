//! A repository in which trees are made and merged, hermetic and on memory-backed storage if there
//! is any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autosync::engine::event::ConflictCopy;
use autosync::git::objects::{Identity, Kind};
use autosync::git::tree::{self, Edits, Entry};
use autosync::git::{Git, LOCAL, bare_command, run};
use autosync::names::{ObjectId, RepoPath};
use autosync::process;
use autosync::repo::merge::{MergeOutcome, Prefer, merge};
use autosync::repo::{Place, Policy, Settings};
use tempfile::TempDir;

use super::table::{Node, Tree};

/// 2026-11-20, noon UTC.
const NOON: i64 = 1_795_176_000;

/// A repository with nothing in it but what a test makes.
pub(crate) struct Lab {
    dir: Option<TempDir>,
    pub(crate) place: Place,
}

/// Returns the git programs of this machine, oldest and newest, each once.
pub(crate) fn programs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    for dir in std::env::split_paths(&paths).chain([PathBuf::from("/usr/bin")]) {
        let program = dir.join("git");
        if let Ok(real) = program.canonicalize()
            && !found.contains(&real)
        {
            found.push(real);
        }
    }
    assert!(!found.is_empty());
    found
}

/// Returns a temporary directory on memory-backed storage if there is any.
pub(crate) fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("autosync-")
        .tempdir_in(parent)
        .unwrap()
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Path::new("git"), "sha1")
    }

    pub(crate) fn with(program: &Path, format: &str) -> Self {
        let dir = temporary();
        let root = dir.path().join("folder");
        let mut init = process::command(program);
        init.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["init", "-q", "-b", "main", "--template=", "--object-format"])
            .arg(format)
            .arg(&root);
        run(&mut init, b"", LOCAL, "init").unwrap();
        let settings = Settings {
            root: root.clone(),
            git_dir: None,
            hub: None,
            branch: "main".to_owned(),
            host: "laptop".to_owned(),
            max_file: 1 << 30,
            exclude: Vec::new(),
            only: Vec::new(),
            conflict: Policy::Merge,
            mass_delete_files: 50,
            mass_delete_percent: 25,
            guards: autosync::repo::Guards::default(),
        };
        let git = Git::discover(&root, None).unwrap().run_by(program);
        for (key, value) in [("user.name", "A Person"), ("user.email", "person@home")] {
            git.set_config(key, value).unwrap();
        }
        let place = Place::at(settings, git).unwrap();
        Self {
            dir: Some(dir),
            place,
        }
    }

    /// Works in a repository that somebody else keeps.
    pub(crate) fn around(place: Place) -> Self {
        Self { dir: None, place }
    }

    /// Returns a directory outside the folder.
    pub(crate) fn outside(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    pub(crate) fn entry(&self, node: &Node) -> Entry {
        let blob = |content: &[u8]| self.place.objects.write(Kind::Blob, content).unwrap();
        match node {
            Node::File(content, executable) => Entry {
                mode: if *executable {
                    tree::EXECUTABLE
                } else {
                    tree::FILE
                },
                id: blob(content),
            },
            Node::Link(target) => Entry {
                mode: tree::SYMLINK,
                id: blob(target.as_bytes()),
            },
            Node::Submodule(digit) => Entry {
                mode: tree::GITLINK,
                id: ObjectId::from_hex(digit.to_string().repeat(2 * self.place.objects.width()))
                    .unwrap(),
            },
        }
    }

    /// Writes a commit of a tree, as the agent of a host does.
    pub(crate) fn commit(&self, host: &str, tree: &Tree, parents: &[ObjectId]) -> ObjectId {
        let edits = tree
            .iter()
            .map(|(path, node)| (RepoPath::new(path).unwrap(), Some(self.entry(node))))
            .collect();
        self.commit_edits(host, &edits, parents)
    }

    pub(crate) fn commit_edits(&self, host: &str, edits: &Edits, parents: &[ObjectId]) -> ObjectId {
        let objects = &self.place.objects;
        let tree = tree::build(objects, None, edits).unwrap();
        let tree = tree.unwrap_or_else(|| objects.write_tree(Vec::new()).unwrap());
        let message = format!("{host}: edit\n\nAutosync-Host: {host}\n");
        self.commit_tree(tree, parents, &message)
    }

    pub(crate) fn commit_tree(
        &self,
        tree: ObjectId,
        parents: &[ObjectId],
        message: &str,
    ) -> ObjectId {
        let who = Identity {
            name: "A Person".to_owned(),
            email: "person@home".to_owned(),
        };
        self.place
            .objects
            .write_commit(tree, parents, &who, (NOON, 60), message)
            .unwrap()
    }

    /// Writes base, hub and local commits and merges them.
    pub(crate) fn merge(&self, base: &Tree, h: &Tree, l: &Tree, prefer: Prefer) -> Merge {
        let base = self.commit("server", base, &[]);
        let hub = self.commit("server", h, &[base]);
        // A commit of its own even if nothing changed, or there would be nothing to merge.
        let local = self.commit("laptop", l, &[base]);
        let outcome = merge(&self.place, hub, local, prefer).unwrap();
        Merge { outcome }
    }

    /// Returns every path of a commit, as git lists it, with the suffix of copies as `{copy}`.
    pub(crate) fn list(&self, commit: ObjectId) -> Tree {
        let found = self.list_raw(commit).into_iter().map(|(path, node)| {
            let path = String::from_utf8(path).unwrap();
            (without_suffixes(&path, "laptop"), node)
        });
        found.collect()
    }

    pub(crate) fn list_raw(&self, commit: ObjectId) -> BTreeMap<Vec<u8>, Node> {
        let args = ["-r", "-z", "--full-tree", &commit.to_string()];
        let out = self.place.git.call("ls-tree", args, b"").unwrap();
        let mut found = BTreeMap::new();
        for line in out.split(|b| *b == 0).filter(|line| !line.is_empty()) {
            let tab = line.iter().position(|b| *b == b'\t').unwrap();
            let head = std::str::from_utf8(&line[..tab]).unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            let blob = || {
                let id = ObjectId::from_hex(words[2]).unwrap();
                self.place.objects.blob(id).unwrap()
            };
            let node = match words[0] {
                "100644" => Node::File(blob(), false),
                "100755" => Node::File(blob(), true),
                "120000" => Node::Link(String::from_utf8(blob()).unwrap()),
                "160000" => Node::Submodule(words[2].chars().next().unwrap()),
                other => panic!("mode {other}"),
            };
            found.insert(line[tab + 1..].to_vec(), node);
        }
        found
    }

    /// Asserts that git finds nothing wrong with any object.
    pub(crate) fn fsck(&self) {
        self.place
            .git
            .call("fsck", ["--strict", "--no-dangling", "--full"], b"")
            .unwrap();
    }
}

/// A merge that was made.
pub(crate) struct Merge {
    pub(crate) outcome: MergeOutcome,
}

impl Merge {
    /// Returns the merge commit.
    pub(crate) fn commit(&self) -> ObjectId {
        created(&self.outcome).0
    }

    /// Returns how many conflict copies it made.
    pub(crate) fn copies(&self) -> usize {
        created(&self.outcome).1.len()
    }
}

/// Returns the commit and the copies of a merge that made some.
pub(crate) fn created(outcome: &MergeOutcome) -> (ObjectId, Vec<ConflictCopy>) {
    let MergeOutcome::Created { commit, copies } = outcome else {
        panic!("{outcome:?}");
    };
    (*commit, copies.clone())
}

/// Replaces ` (conflict HOST 2026-11-20 0123456)` by `{copy}`, on whatever day it was made.
pub(crate) fn without_suffixes(path: &str, host: &str) -> String {
    let mark = format!(" (conflict {host} ");
    let Some(start) = path.find(&mark) else {
        return path.to_owned();
    };
    let (date, rest) = path[start + mark.len()..].split_at("2026-11-20 ".len());
    let digits = date.bytes().filter(u8::is_ascii_digit).count();
    assert!(digits == 8 && date.ends_with(' '), "{path}");
    let (id, tail) = rest.split_at(7);
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{path}");
    let tail = tail.strip_prefix(')').unwrap();
    format!("{}{{copy}}{}", &path[..start], tail)
}

/// Returns the git that runs in a directory with nothing of the user's.
pub(crate) fn plain_git(dir: &Path) -> std::process::Command {
    let mut command = bare_command();
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command
}
