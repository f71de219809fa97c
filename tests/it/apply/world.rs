//! A folder on a real disk, commits that come in, and the oracle of what must hold afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use autosync::clock;
use autosync::engine::event::Applied;
use autosync::git::index::IndexView;
use autosync::git::objects::{Identity, Kind};
use autosync::git::tree::{self, EXECUTABLE, Edits, Entry, FILE, SYMLINK};
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::apply::{apply, recover};
use autosync::repo::bases::Bases;
use autosync::repo::plan::Approval;
use autosync::repo::{Place, Policy, Settings};
use tempfile::TempDir;

use crate::network::git;

/// What a commit has at a path.
#[derive(Debug, Clone)]
pub(crate) enum Is {
    Text(String),
    Script(String),
    Link(String),
    Submodule(ObjectId),
    Gone,
}

pub(crate) fn text(text: impl Into<String>) -> Is {
    Is::Text(text.into())
}

pub(crate) fn script(text: impl Into<String>) -> Is {
    Is::Script(text.into())
}

pub(crate) fn link(to: impl Into<String>) -> Is {
    Is::Link(to.into())
}

/// A submodule at the commit whose id is this digit all over.
pub(crate) fn submodule(digit: char) -> Is {
    Is::Submodule(ObjectId::from_hex(digit.to_string().repeat(40)).unwrap())
}

pub(crate) fn path(name: &str) -> RepoPath {
    RepoPath::new(name).unwrap()
}

/// A folder and its repository.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) place: Place,
    pub(crate) bases: Bases,
    pub(crate) view: IndexView,
}

/// Directories on the disks that tests run on, with the kind of each.
pub(crate) fn disks() -> Vec<PathBuf> {
    let mut found = vec![std::env::temp_dir()];
    if Path::new("/dev/shm").is_dir() && !found[0].starts_with("/dev/shm") {
        found.push("/dev/shm".into());
    }
    found
}

impl World {
    /// Makes a folder with these files committed, in the memory disk where there is one.
    pub(crate) fn new(files: &[(&str, Is)]) -> Self {
        Self::on(disks().last().unwrap(), files)
    }

    /// Makes a folder with these files committed on a given disk.
    pub(crate) fn on(disk: &Path, files: &[(&str, Is)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("as-apply-")
            .tempdir_in(disk)
            .unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        git(&root, &["init", "-q", "-b", "main"]);
        for (key, value) in [
            ("user.name", "Test"),
            ("user.email", "test@example.org"),
            ("core.excludesFile", "/dev/null"),
            ("core.attributesFile", "/dev/null"),
            ("core.autocrlf", "false"),
        ] {
            git(&root, &["config", key, value]);
        }
        for (name, is) in files {
            put(&root.join(name), is);
        }
        git(&root, &["add", "-A", "-f"]);
        for (name, is) in files {
            if let Is::Submodule(id) = is {
                let info = format!("160000,{id},{name}");
                git(&root, &["update-index", "--add", "--cacheinfo", &info]);
            }
        }
        git(&root, &["commit", "-q", "--allow-empty", "-m", "base"]);
        // Entries as young as the index would be looked at again and again.
        git(&root, &["update-index", "-q", "--refresh"]);
        Self::open(dir, &root, None)
    }

    fn open(dir: TempDir, root: &Path, git_dir: Option<PathBuf>) -> Self {
        let place = Place::open(settings(root, git_dir)).unwrap();
        let bases = Bases::load(&place).unwrap();
        Self {
            dir,
            place,
            bases,
            view: IndexView::default(),
        }
    }

    /// Forgets everything that is only in memory, as a kill does.
    pub(crate) fn killed(mut self) -> Self {
        let settings = self.place.settings.clone();
        self.place = Place::open(settings).unwrap();
        self.bases = Bases::load(&self.place).unwrap();
        self.view = IndexView::default();
        self
    }

    /// Lets a folder have its git directory elsewhere.
    pub(crate) fn with_git_dir(self, git_dir: &Path) -> Self {
        let root = self.root();
        let from = root.join(".git");
        copy_tree(&from, git_dir);
        fs::remove_dir_all(&from).unwrap();
        fs::write(&from, format!("gitdir: {}\n", git_dir.display())).unwrap();
        Self::open(self.dir, &root, Some(git_dir.to_owned()))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place.root().to_owned()
    }

    /// A place beside the folder, on the same disk.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.root(), args)
    }

    pub(crate) fn tip(&self) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    /// Makes a commit on top of `parent` that comes in: it is in the objects only.
    pub(crate) fn incoming_on(
        &self,
        parent: ObjectId,
        files: &[(&str, Is)],
        note: &str,
    ) -> ObjectId {
        let objects = &self.place.objects;
        let blob = |content: &str, mode| {
            let id = objects.write(Kind::Blob, content.as_bytes()).unwrap();
            Entry { mode, id }
        };
        let mut edits = Edits::new();
        for (name, is) in files {
            let entry = match is {
                Is::Text(content) => Some(blob(content, FILE)),
                Is::Script(content) => Some(blob(content, EXECUTABLE)),
                Is::Link(to) => Some(blob(to, SYMLINK)),
                Is::Submodule(id) => Some(Entry {
                    mode: tree::GITLINK,
                    id: *id,
                }),
                Is::Gone => None,
            };
            edits.insert(path(name), entry);
        }
        let base = objects.commit(parent).unwrap().tree;
        let tree = tree::build(objects, Some(base), &edits).unwrap();
        let tree = tree.unwrap_or_else(|| objects.write_tree(Vec::new()).unwrap());
        let who = Identity {
            name: "Other".into(),
            email: "other@example.org".into(),
        };
        let at = (clock::wall_seconds(), 0);
        let message = format!("change\n\n{note}Autosync-Host: other\n");
        objects
            .write_commit(tree, &[parent], &who, at, &message)
            .unwrap()
    }

    /// Makes a commit on top of the tip that comes in.
    pub(crate) fn incoming(&self, files: &[(&str, Is)]) -> ObjectId {
        self.incoming_on(self.tip(), files, "")
    }

    pub(crate) fn apply(&mut self, to: ObjectId) -> Applied {
        apply(
            &self.place,
            &mut self.bases,
            &mut self.view,
            to,
            &Approval::Commits,
        )
        .unwrap()
    }

    /// Applies what must not be blocked.
    #[track_caller]
    pub(crate) fn apply_well(&mut self, to: ObjectId) -> Applied {
        let applied = self.apply(to);
        assert_eq!(applied.blocked, None);
        assert_eq!(applied.tip, Some(to));
        assert_eq!(self.tip(), to);
        applied
    }

    pub(crate) fn recover(&mut self) {
        recover(&self.place, &mut self.bases, &mut self.view).unwrap();
    }

    /// What stands at a path, in words: `file: text`, `script: text`, `link: target`, `directory`,
    /// `nothing`.
    pub(crate) fn stands(&self, name: &str) -> String {
        let at = self.at(name);
        let Ok(meta) = at.symlink_metadata() else {
            return "nothing".into();
        };
        if meta.is_symlink() {
            return format!("link: {}", fs::read_link(&at).unwrap().display());
        }
        if meta.is_dir() {
            return "directory".into();
        }
        let content = String::from_utf8_lossy(&fs::read(&at).unwrap()).into_owned();
        let kind = if meta.mode() & 0o100 != 0 {
            "script"
        } else {
            "file"
        };
        format!("{kind}: {content}")
    }

    /// Asserts what must hold after every apply: HEAD and tree agree but for the base map, git
    /// sees nothing to do, the repository is whole, and nothing of ours is left over.
    #[track_caller]
    pub(crate) fn assert_settled(&self) {
        let head = self.tip();
        let head_tree = self.place.objects.commit(head).unwrap().tree;
        for (path, base) in self.bases.iter() {
            let there = self.place.objects.entry(head_tree, path).unwrap();
            assert_ne!(there, base.have, "{path:?} is void");
            let base_tree = self.place.objects.commit(base.base).unwrap().tree;
            let have = self.place.objects.entry(base_tree, path).unwrap();
            assert_eq!(have, base.have, "{path:?}: the base has something else");
        }
        assert_eq!(Bases::load(&self.place).unwrap(), self.bases, "on the disk");
        let status = self.git(&["status", "--porcelain", "--untracked-files=no"]);
        assert_eq!(status, "", "git sees changes");
        let fsck = self.git(&["fsck", "--strict", "--no-dangling"]);
        assert_eq!(fsck, "");
        assert!(!autosync::repo::journal::journal_open(&self.place));
        let stage = self.place.store.join("stage");
        let left = fs::read_dir(&stage).map_or(0, Iterator::count);
        assert_eq!(left, 0, "stages are left over");
        for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
            assert!(!self.place.git.dir().join(lock).exists(), "{lock}");
        }
    }
}

pub(crate) fn settings(root: &Path, git_dir: Option<PathBuf>) -> Settings {
    Settings {
        root: root.to_owned(),
        git_dir,
        hub: None,
        branch: "main".into(),
        host: "laptop".into(),
        max_file: 1 << 30,
        exclude: Vec::new(),
        only: Vec::new(),
        conflict: Policy::Merge,
        mass_delete_files: 50,
        mass_delete_percent: 25,
        guards: autosync::repo::Guards::default(),
    }
}

/// Puts something at a path, directories included.
pub(crate) fn put(at: &Path, is: &Is) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    match is {
        Is::Text(content) => fs::write(at, content).unwrap(),
        Is::Script(content) => {
            fs::write(at, content).unwrap();
            fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Is::Link(to) => symlink(to, at).unwrap(),
        Is::Submodule(_) => fs::create_dir(at).unwrap(),
        Is::Gone => {}
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let at = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &at);
        } else {
            fs::copy(entry.path(), at).unwrap();
        }
    }
}
