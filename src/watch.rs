//! The watcher: says which paths of a folder changed.
//!
//! It keeps a tree of watches of its own, one per directory that is not ignored, and never uses
//! a library's recursive mode: that misses what happens in directories just made and spends its
//! watches on ignored ones. One thread reads raw events, a second one resolves them.
//!
//! Invariants:
//! 1. Everything reported is a hint; the comparison with HEAD and the index decides. A path too
//!    many costs a look, so whenever it is not certain what happened, more is reported.
//! 2. Whatever happens to a directory is reported as a change of its whole subtree.
//! 3. Lost events, a remount, changed rules and a resume from suspend all become one value:
//!    [`WatchEvent::Rescan`].
//! 4. Nothing is ever muted: what the agent itself writes is reported like everything else.
//!
//! Absent: settling. Changes are delivered within milliseconds and as often as they happen.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::event::{Change, Code, Recovery, RescanWhy, Trouble};
use crate::names::RepoPath;

mod batch;
mod filter;
#[cfg(target_os = "linux")]
mod inotify_source;
#[cfg(target_os = "linux")]
mod mounts;
mod notify_source;
mod outposts;
mod poll;
mod remote;
mod resolve;
mod source;
mod tree;
mod walk;

pub use filter::{Transient, transient};
use resolve::{Identity, Resolver};
use source::{Command, Inbox, Source};

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// The folder's root, canonical.
    pub root: PathBuf,
    /// The work tree's git directory, canonical.
    pub git_dir: PathBuf,
    /// The repository's common directory; the same as `git_dir` except in a linked work tree.
    pub common_dir: PathBuf,
    /// The user's global ignore file (`core.excludesFile`), whether it exists or not.
    pub global_excludes: Option<PathBuf>,
    /// Patterns in the syntax of `.gitignore` that come before all others.
    pub exclude: Vec<String>,
    /// If not empty, only what these patterns match counts.
    pub only: Vec<String>,
    /// How often a directory is looked at that changed lately and has no watch; ten seconds
    /// unless there is a reason.
    pub poll_often: Duration,
}

impl WatchSettings {
    /// Creates the settings of a plain repository: `root` with its `.git`, no patterns.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let git_dir = root.join(".git");
        Self {
            root,
            common_dir: git_dir.clone(),
            git_dir,
            global_excludes: None,
            exclude: Vec::new(),
            only: Vec::new(),
            poll_often: Duration::from_secs(10),
        }
    }
}

/// What the watcher saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// These paths changed; never empty.
    Changed(Vec<Change>),
    /// Everything must be looked at again. All directories are watched when this is said.
    Rescan(RescanWhy),
    /// HEAD, the index or an operation of the user's git moved.
    GitMoved,
    /// The root is not there any more, or something else is in its place. Nothing else is
    /// reported until the same directory is back, which is a remount, or another is
    /// [adopted](Watcher::adopt).
    RootGone,
    /// Some directories are polled from now on, because the kernel gives no more watches or other
    /// machines change them, or that is over.
    Unwatched(WatchSummary),
}

/// How many directories are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchSummary {
    /// Directories whose changes are told at once.
    pub watched: usize,
    /// Directories that are polled because the kernel gives no more watches.
    pub unwatched: usize,
    /// Directories that are polled because other machines may change them, watched or not.
    pub remote: usize,
    /// What kind of file system those are on: `nfs`, `fuse`.
    pub kind: Option<&'static str>,
}

impl WatchSummary {
    /// Returns the trouble that directories are whose changes may be seen late, if there are any.
    pub fn trouble(&self) -> Option<Trouble> {
        if self.unwatched > 0 {
            let message = format!(
                "the kernel gives no more watches: {} of {} directories are looked at from time to time instead",
                self.unwatched,
                self.watched + self.unwatched,
            );
            return Some(Trouble::new(
                Code::Watches,
                Recovery::Retry,
                message,
                MORE_WATCHES,
            ));
        }
        (self.remote > 0).then(|| {
            let message = format!(
                "{} of {} directories are on a file system ({}) that does not tell what other machines change: they are looked at from time to time",
                self.remote,
                self.watched,
                self.kind.unwrap_or("unknown"),
            );
            Trouble::new(Code::RemoteDisk, Recovery::Retry, message, LATE)
        })
    }
}

const MORE_WATCHES: &str = "Allow more watches: `sudo sysctl fs.inotify.max_user_watches=524288`, and put that line into /etc/sysctl.d/.";
const LATE: &str = "Nothing is to be done; what is changed on this machine is seen at once, what others change within five minutes.";
const MORE_INSTANCES: &str = "Allow more instances: `sudo sysctl fs.inotify.max_user_instances=1024`, and put that line into /etc/sysctl.d/.";

/// Why a folder cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The root is no directory that can be looked at.
    #[error("`{}` is no directory", root.display())]
    NoRoot {
        /// The root.
        root: PathBuf,
    },
    /// The user has too many inotify instances.
    #[error("the kernel gives this user no more inotify instances")]
    Instances,
    /// The system refused something else.
    #[error("cannot watch for changes")]
    System(#[source] io::Error),
}

impl WatchError {
    /// Sorts the error into one of the things that the engine can do.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NoRoot { .. } => Recovery::Hold,
            Self::Instances | Self::System(_) => Recovery::Retry,
        }
    }

    /// Returns one sentence that tells the user what to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoRoot { .. } => {
                "Mount or restore the folder, or take it out of the configuration."
            }
            Self::Instances => MORE_INSTANCES,
            Self::System(_) => "Look at the log for the reason the system gave.",
        }
    }

    /// Returns the error as the user meets it.
    pub fn trouble(&self) -> Trouble {
        let code = match self {
            Self::NoRoot { .. } => Code::RootMissing,
            Self::Instances => Code::Watches,
            Self::System(_) => Code::Io,
        };
        Trouble::new(code, self.recovery(), sentence(self), self.hint())
    }

    fn of(error: io::Error) -> Self {
        if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::MFILE) {
            Self::Instances
        } else {
            Self::System(error)
        }
    }
}

fn sentence(error: &WatchError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What tells the watcher of single directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The best that the system has: inotify on Linux.
    Native,
    /// The `notify` crate, on every system.
    Portable,
}

/// Watches one folder. Dropping it stops and joins its threads.
pub struct Watcher {
    inbox: Arc<Inbox>,
    summary: Arc<Mutex<WatchSummary>>,
    resolver: Option<JoinHandle<()>>,
    #[cfg(target_os = "linux")]
    mounts: Option<mounts::Mounts>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("summary", &self.summary())
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Starts to watch a folder. When this returns every directory is watched, so a look at the
    /// folder after it misses nothing. It takes about 10 ms for every 1,000 directories.
    ///
    /// `sink` is called from the watcher's own thread, and maybe once before this returns; it
    /// should be quick. It is dropped when the watcher ends.
    pub fn start(
        settings: WatchSettings,
        sink: impl Fn(WatchEvent) + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_on(Backend::Native, settings, sink)
    }

    /// Starts as [`start`](Self::start) does, on a chosen backend.
    pub fn start_on(
        backend: Backend,
        settings: WatchSettings,
        sink: impl Fn(WatchEvent) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let Some(identity) = Identity::of(&settings.root) else {
            return Err(WatchError::NoRoot {
                root: settings.root,
            });
        };
        let inbox = Arc::new(Inbox::default());
        let source = source_of(backend, &settings, &inbox).map_err(WatchError::of)?;
        #[cfg(target_os = "linux")]
        let mounts = mounts::Mounts::start(settings.root.clone(), Arc::clone(&inbox))
            .inspect_err(|error| tracing::warn!(%error, "mounts will not be noticed"))
            .ok();
        let summary = Arc::new(Mutex::default());
        let ground = walk::Ground {
            own: own_directories(&settings),
            root: settings.root.clone(),
            source,
            tree: tree::Tree::new(),
            filter: filter::Filter::new(&settings.exclude, &settings.only),
            remote: None,
            kept: Vec::new(),
        };
        let resolver = Resolver::new(
            ground,
            settings,
            identity,
            Arc::clone(&inbox),
            Arc::clone(&summary),
            sink,
        );
        if resolver.is_blind() {
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(WatchError::System(denied));
        }
        let resolver = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || resolver.run())
            .map_err(WatchError::System)?;
        Ok(Self {
            inbox,
            summary,
            resolver: Some(resolver),
            #[cfg(target_os = "linux")]
            mounts,
        })
    }

    /// Runs `done` in the watcher's thread after everything that happened before this call was
    /// delivered. If the watcher ends before that, `done` is dropped.
    pub fn echo(&self, done: impl FnOnce() + Send + 'static) {
        #[cfg(target_os = "linux")]
        if let Some(mounts) = &self.mounts {
            mounts.look();
        }
        self.inbox.command(Command::Echo(Box::new(done)));
    }

    /// Returns how many directories are watched now.
    pub fn summary(&self) -> WatchSummary {
        *self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Walks the folder again, and reports directories that were not watched before.
    pub fn rescan(&self) {
        self.inbox.command(Command::Rewalk);
    }

    /// Takes the directory that stands at the root's path now for the root, whichever it was before,
    /// and walks it again.
    pub fn adopt(&self) {
        self.inbox.command(Command::Adopt);
    }

    /// Says which tracked paths count although the rules ignore them or [`transient`] knows
    /// their name. Paths that are new among them are reported once.
    pub fn set_tracked_ignored(&self, paths: BTreeSet<RepoPath>) {
        self.inbox.command(Command::Tracked(paths));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inbox.stop();
        let Some(resolver) = self.resolver.take() else {
            return;
        };
        // The sink may drop the watcher: a thread cannot wait for itself.
        if resolver.thread().id() != std::thread::current().id() && resolver.join().is_err() {
            tracing::error!("the watcher had ended early");
        }
    }
}

/// Returns the parts of the repository that lie in the root under another name than `.git`.
fn own_directories(settings: &WatchSettings) -> Vec<RepoPath> {
    [&settings.git_dir, &settings.common_dir]
        .into_iter()
        .filter_map(|dir| RepoPath::from_path(dir.strip_prefix(&settings.root).ok()?).ok())
        .collect()
}

fn source_of(
    backend: Backend,
    settings: &WatchSettings,
    inbox: &Arc<Inbox>,
) -> io::Result<Box<dyn Source>> {
    let inbox = Arc::clone(inbox);
    #[cfg(target_os = "linux")]
    if backend == Backend::Native {
        return Ok(Box::new(inotify_source::InotifySource::start(inbox)?));
    }
    #[cfg(not(target_os = "linux"))]
    tracing::debug!(?backend, "only the portable source exists here");
    Ok(Box::new(notify_source::NotifySource::start(
        &settings.root,
        inbox,
    )?))
}
