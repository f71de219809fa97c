//! One folder's repository: jobs in, outcomes out.
//!
//! [`Place`] is what every job shares: where the folder is, how git is run on it, its objects, our
//! own state beside it. The steps are numbered as in `ARCHITECTURE.md`: S1-S8 a snapshot
//! (`snapshot`, `publish`), A1-A6 an apply (`apply`).
//!
//! Invariants:
//! 1. Jobs carry object ids, never names like HEAD or origin/main.
//! 2. Only the tree lane moves the branch and the index; only the network lane moves
//!    `refs/remotes/*` and pushes.
//! 3. Our state lives in the per-worktree git directory: `autosync/` and
//!    `refs/worktree/autosync/*`.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::clock;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::git::objects::{Identity, Objects};
use crate::git::{Git, GitError, io_trouble};
use crate::names::{ObjectId, RepoPath};

use meter::Meter;
use mounts::Mounts;

pub mod allowed;
pub mod apply;
pub mod aside;
mod attributes;
pub mod bases;
mod blobs;
pub mod boot;
pub mod contact;
pub mod copies;
mod copy_name;
pub mod disk;
pub mod displaced;
pub mod exchange;
pub mod filter;
pub mod folder;
#[cfg(feature = "faults")]
pub mod fuzz;
mod held;
mod here;
pub mod history;
mod index_lock;
pub mod journal;
mod judge;
mod junk;
pub mod lane;
pub mod listing;
mod markers;
mod mass;
pub mod merge;
mod merge_tree;
pub mod message;
pub mod metadata;
pub mod meter;
pub mod mounts;
pub mod moves;
pub mod network;
mod notes;
pub mod open;
pub mod operation;
pub mod pack;
mod parting;
pub mod plan;
pub mod publish;
mod recall;
pub mod records;
pub mod ref_locks;
mod renamed;
mod restore;
pub mod reword;
pub mod rewritten;
pub mod root;
pub mod scan;
mod secrets;
mod shown;
pub mod slots;
pub mod snapshot;
mod spelling;
pub mod stable;
mod staged;

mod swaps;
pub mod take;
mod taken_out;
mod three_way;
mod torn;
mod verdict;
pub mod verify;
pub mod versions;
mod volume;
mod waits;

/// For how long git's word on who commits is taken for true.
const IDENTITY_AGE: Duration = Duration::from_secs(60);

/// What the configuration says about one folder, as its repository needs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The root of the work tree, canonical.
    pub root: PathBuf,
    /// The git directory, where it is not `root/.git`.
    pub git_dir: Option<PathBuf>,
    /// Where the folder is pushed to; `None` for a folder without a hub.
    pub hub: Option<String>,
    /// The branch that is kept identical.
    pub branch: String,
    /// This host's name, as in commits and conflict copies.
    pub host: String,
    /// Larger files are held, in bytes.
    pub max_file: u64,
    /// Patterns that are not committed here, in the form of .gitignore.
    pub exclude: Vec<String>,
    /// If not empty, only paths that match one of these are ours.
    pub only: Vec<String>,
    /// What to do when both sides changed a file and no attribute says otherwise.
    pub conflict: Policy,
    /// More deletions than this many files...
    pub mass_delete_files: usize,
    /// ...and than this share of all files, in percent, are held.
    pub mass_delete_percent: u32,
    /// What else is held.
    pub guards: Guards,
}

/// What is held beside deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// A whole directory at the top with more files than this is a mass delete too.
    pub mass_delete_top: usize,
    /// New files that look like secrets are held.
    pub secrets: bool,
    /// New files below directories that are build output or caches are held.
    pub junk: bool,
    /// More new files than this in one batch are held...
    pub new_files: usize,
    /// ...and more bytes than this.
    pub new_bytes: u64,
    /// After this time a mass delete that came in is carried out without a person's word.
    pub unattended: Option<Duration>,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            mass_delete_top: 10,
            secrets: true,
            junk: true,
            new_files: 50_000,
            new_bytes: 5 << 30,
            unattended: None,
        }
    }
}

/// What to do with a path that both sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Merge text; keep both if that is not clean.
    Merge,
    /// Keep both.
    Copy,
    /// The hub's version stands, the other is in the history.
    Hub,
    /// The local version stands, the other is in the history.
    Local,
    /// Take the lines of both.
    Union,
}

/// What can go wrong in a job. What is normal in syncing is part of the outcome instead.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file, for a person.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The job cannot be done now.
    #[error("{}", .0.message)]
    Blocked(Trouble),
    /// Our own state is not what we wrote.
    #[error("`{file}` is damaged: {why}")]
    State {
        /// Which file of ours.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl RepoError {
    /// Creates the error of a file.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = crate::names::escape(path.as_os_str().as_encoded_bytes());
        Self::Io { path, source }
    }

    /// Returns what the engine may do about it, in words for the user.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Git(error) => error.trouble(),
            Self::Io { source, .. } => io_trouble(&self.to_string(), source),
            Self::Blocked(trouble) => trouble.clone(),
            Self::State { .. } => Trouble::new(
                Code::Internal,
                Recovery::Hold,
                self.to_string(),
                "Move that file away; the folder is then looked at from the start.",
            ),
        }
    }
}

impl From<crate::names::NotARepoPath> for RepoError {
    fn from(error: crate::names::NotARepoPath) -> Self {
        Self::Git(error.into())
    }
}

/// What every job on a folder shares.
#[derive(Debug)]
pub struct Place {
    /// What the configuration says.
    pub settings: Settings,
    /// git on this folder.
    pub git: Git,
    /// Its objects.
    pub objects: Rc<Objects>,
    /// Our directory in the git directory.
    pub store: PathBuf,
    /// How far its long jobs are.
    pub meter: Meter,
    /// Whether the disk turned out not to exchange two files in one call.
    pub basic: Cell<bool>,
    /// What is mounted below the root.
    pub mounts: RefCell<Mounts>,
    /// Which directory the root was when it was opened.
    seen: Option<(u64, u64)>,
    identity: RefCell<Option<(Moment, Identity)>>,
    has_id: Cell<bool>,
    /// Whether the disk of `store` takes several spellings for one name.
    folds: OnceCell<bool>,
}

impl Place {
    /// Opens the repository of a folder and makes our directory in it.
    ///
    /// Errors if there is no repository, or git cannot be run.
    pub fn open(settings: Settings) -> Result<Self, RepoError> {
        let git = Git::discover(&settings.root, settings.git_dir.as_deref())?;
        Self::at(settings, git)
    }

    /// Opens the repository that was found already, and makes our directory in it.
    pub fn at(settings: Settings, git: Git) -> Result<Self, RepoError> {
        let objects = Rc::new(Objects::open(&git)?);
        let store = git.dir().join("autosync");
        match fs::DirBuilder::new().mode(0o700).create(&store) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RepoError::io(&store, error)),
        }
        Ok(Self {
            seen: root::seen(&settings.root),
            mounts: RefCell::default(),
            settings,
            git,
            objects,
            store,
            meter: Meter::default(),
            basic: Cell::new(false),
            identity: RefCell::default(),
            has_id: Cell::new(false),
            folds: OnceCell::new(),
        })
    }

    /// Opens the objects once more, without what the library remembers of them.
    pub fn open_objects(&mut self) -> Result<(), RepoError> {
        self.objects = Rc::new(Objects::open(&self.git)?);
        Ok(())
    }

    /// Opens a repository only to read in it: what the configuration says of the folder is left out.
    pub fn to_read(root: &Path, git_dir: Option<&Path>) -> Result<Self, RepoError> {
        let settings = Settings {
            root: root.to_owned(),
            git_dir: git_dir.map(Path::to_owned),
            hub: None,
            branch: String::new(),
            host: String::new(),
            max_file: 0,
            exclude: Vec::new(),
            only: Vec::new(),
            conflict: Policy::Merge,
            mass_delete_files: 0,
            mass_delete_percent: 0,
            guards: Guards::default(),
        };
        Self::open(settings)
    }

    /// Returns the root of the work tree.
    pub fn root(&self) -> &Path {
        &self.settings.root
    }

    /// Returns where a path of the folder is on the disk.
    pub fn on_disk(&self, path: &RepoPath) -> PathBuf {
        path.under(&self.settings.root)
    }

    /// Returns the full name of the folder's branch.
    pub fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.settings.branch)
    }

    /// Returns the tree of a commit; `None` for no commit.
    pub fn tree_of(&self, commit: Option<ObjectId>) -> Result<Option<ObjectId>, RepoError> {
        match commit {
            Some(id) => Ok(Some(self.objects.commit(id)?.tree)),
            None => Ok(None),
        }
    }

    /// Returns who our commits are by: the user's name and address from git's configuration, else
    /// this user at this host. git is asked again after a minute.
    pub fn identity(&self) -> Result<Identity, RepoError> {
        let now = clock::now();
        if let Some((at, known)) = &*self.identity.borrow()
            && now.since(*at) < IDENTITY_AGE
        {
            return Ok(known.clone());
        }
        let host = &self.settings.host;
        let user = std::env::var("USER").unwrap_or_else(|_| "autosync".to_owned());
        let name = self
            .git
            .config("user.name")?
            .filter(|name| !name.trim().is_empty());
        let email = self
            .git
            .config("user.email")?
            .filter(|email| !email.trim().is_empty());
        let identity = Identity {
            name: name.unwrap_or_else(|| user.clone()),
            email: email.unwrap_or_else(|| format!("{user}@{host}")),
        };
        *self.identity.borrow_mut() = Some((now, identity.clone()));
        Ok(identity)
    }

    /// Returns whether the folder had its first contact with a hub (`autosync.id` is set).
    pub fn has_identity(&self) -> Result<bool, RepoError> {
        if !self.has_id.get() {
            self.has_id.set(self.git.config(contact::ID_KEY)?.is_some());
        }
        Ok(self.has_id.get())
    }
}
