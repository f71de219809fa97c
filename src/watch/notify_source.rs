//! The portable source: the `notify` crate, one non-recursive watch per directory.
//!
//! Its own recursive mode is never used: it reports nothing of what a new directory already
//! holds. It follows symbolic links when it adds a watch, tells the opening of every file by any
//! reader, and has no barrier; each of the three is worked around here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::source::{Inbox, Marker, Place, RawEvent, Refusal, Shape, Source, Token, What};

/// Directories by `notify`.
pub(super) struct NotifySource {
    watcher: RecommendedWatcher,
    waiting: Arc<Waiting>,
    next_marker: u64,
    inbox: Arc<Inbox>,
}

/// Markers on their way: each is a file made in a directory of our own, which is watched by the
/// same queue, so its event comes after all earlier ones.
struct Waiting {
    dir: tempfile::TempDir,
    markers: Mutex<BTreeMap<u64, Marker>>,
}

impl NotifySource {
    /// Creates the source.
    pub(super) fn start(root: &Path, inbox: Arc<Inbox>) -> io::Result<Self> {
        let waiting = Arc::new(Waiting {
            dir: tempfile::Builder::new()
                .prefix("autosync-watch-")
                .tempdir()?,
            markers: Mutex::default(),
        });
        // Events name paths as they were given to `watch`.
        let here = waiting.dir.path().to_owned();
        let config = Config::default().with_follow_symlinks(false);
        let handler = {
            let (root, waiting) = (root.to_owned(), Arc::clone(&waiting));
            let inbox = Arc::clone(&inbox);
            move |event| receive(event, &root, &waiting, &inbox)
        };
        let watcher =
            RecommendedWatcher::new(handler, config).map_err(|error| match error.kind {
                ErrorKind::Io(error) => error,
                ErrorKind::Generic(_)
                | ErrorKind::PathNotFound
                | ErrorKind::WatchNotFound
                | ErrorKind::InvalidConfig(_)
                | ErrorKind::MaxFilesWatch => io::Error::other(error),
            })?;
        let mut source = Self {
            watcher,
            waiting,
            next_marker: 0,
            inbox,
        };
        match source.watch(&here) {
            Ok(_) => Ok(source),
            Err(Refusal::NoMore) => Err(io::Error::other("no watch for the marker directory")),
            Err(Refusal::Gone) => Err(io::ErrorKind::NotFound.into()),
            Err(Refusal::Other(error)) => Err(error),
        }
    }
}

impl Source for NotifySource {
    fn watch(&mut self, dir: &Path) -> Result<Token, Refusal> {
        match std::fs::symlink_metadata(dir) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Refusal::Gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::Gone),
            Err(error) => return Err(Refusal::Other(error)),
        }
        // No set of what is watched already: the directory may be another one of the same name.
        match self.watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => Ok(Token::BY_PATH),
            Err(error) => Err(match error.kind {
                ErrorKind::MaxFilesWatch => Refusal::NoMore,
                ErrorKind::PathNotFound => Refusal::Gone,
                ErrorKind::Io(error) if error.kind() == io::ErrorKind::NotFound => Refusal::Gone,
                ErrorKind::Io(error) => Refusal::Other(error),
                ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => {
                    Refusal::Other(io::Error::other(error))
                }
            }),
        }
    }

    fn unwatch(&mut self, _token: Token) {
        // A removed directory's watch ends by itself, and asking for it would end the watch of
        // a new directory of that name. One that became ignored is silenced by the filter.
    }

    fn confuses_names(&self) -> bool {
        true
    }

    fn flush(&mut self, marker: Marker) {
        self.next_marker += 1;
        let file = self.waiting.dir.path().join(self.next_marker.to_string());
        self.waiting.lock().insert(self.next_marker, marker);
        if let Err(error) = std::fs::write(&file, "").and_then(|()| std::fs::remove_file(&file)) {
            // Nothing will come of it, and whoever asked must not wait for ever.
            tracing::warn!(file = %file.display(), %error, "cannot make a marker");
            self.inbox.overflow();
            self.inbox.mark(self.waiting.take_all());
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Marker>> {
        self.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the marker that the file at `path` stands for, if that is what it does.
    fn take(&self, path: &Path) -> Option<Marker> {
        let name = path.strip_prefix(self.dir.path()).ok()?;
        self.lock().remove(&name.to_str()?.parse().ok()?)
    }

    fn take_all(&self) -> Vec<Marker> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }
}

fn receive(event: notify::Result<Event>, root: &Path, waiting: &Waiting, inbox: &Inbox) {
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        Ok(_) => {
            inbox.overflow();
            // The files that stand for markers may be among what was lost.
            return inbox.mark(waiting.take_all());
        }
        Err(error) => {
            tracing::debug!(%error, "file events were lost");
            inbox.overflow();
            return inbox.mark(waiting.take_all());
        }
    };
    for path in &event.paths {
        if path.starts_with(waiting.dir.path()) {
            inbox.mark(waiting.take(path).into_iter().collect());
        } else if let Some((what, shape)) = meaning(event.kind, path) {
            inbox.push(&mut raw_event(path, root, what, shape).into_iter().collect());
        }
    }
}

fn raw_event(path: &Path, root: &Path, what: What, shape: Shape) -> Option<RawEvent> {
    let (dir, name, what) = if path == root {
        let what = if what == What::Attributes {
            what
        } else {
            What::Suspect
        };
        (path, OsStr::new(""), what)
    } else {
        (path.parent()?, path.file_name()?, what)
    };
    Some(RawEvent {
        place: Place::Path(PathBuf::from(dir)),
        name: name.as_encoded_bytes().into(),
        what,
        shape,
    })
}

/// Returns what an event says about one of its paths, `None` if nothing of interest.
fn meaning(kind: EventKind, path: &Path) -> Option<(What, Shape)> {
    // Only Linux tells when a file is closed; elsewhere nothing more would come.
    let written = if cfg!(target_os = "linux") {
        What::Written
    } else {
        What::Closed
    };
    let of_a_rename = || {
        if std::fs::symlink_metadata(path).is_ok() {
            What::Arrived
        } else {
            What::Removed
        }
    };
    let meaning = match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (What::Closed, Shape::Other),
        EventKind::Access(_) => return None,
        EventKind::Create(CreateKind::Folder) => (What::Created, Shape::Directory),
        EventKind::Create(CreateKind::File) => (What::Created, Shape::Other),
        EventKind::Create(CreateKind::Any | CreateKind::Other) => (What::Created, Shape::Unknown),
        EventKind::Remove(RemoveKind::Folder) => (What::Removed, Shape::Directory),
        EventKind::Remove(RemoveKind::File) => (What::Removed, Shape::Other),
        EventKind::Remove(RemoveKind::Any | RemoveKind::Other) => (What::Removed, Shape::Unknown),
        EventKind::Modify(ModifyKind::Name(mode)) => match mode {
            RenameMode::From => (What::Removed, Shape::Unknown),
            RenameMode::To => (What::Arrived, Shape::Unknown),
            RenameMode::Any | RenameMode::Other => (of_a_rename(), Shape::Unknown),
            // Repeats the two before it.
            RenameMode::Both => return None,
        },
        EventKind::Modify(ModifyKind::Metadata(_)) => (What::Attributes, Shape::Unknown),
        // A new time of a directory is told as new data.
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any | ModifyKind::Other) => {
            (written, Shape::Unknown)
        }
        EventKind::Any | EventKind::Other => (of_a_rename(), Shape::Unknown),
    };
    Some(meaning)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_echo_that_cannot_go_its_way_comes_after_a_look_at_everything() {
        let root = tempfile::tempdir().unwrap();
        let inbox = Arc::new(Inbox::default());
        let mut source = NotifySource::start(root.path(), Arc::clone(&inbox)).unwrap();
        std::fs::remove_dir(source.waiting.dir.path()).unwrap();
        source.flush(Box::new(|| {}));
        let (mut markers, mut overflow) = (0, false);
        // The end of the directory is an event, too.
        while markers == 0 {
            let taken = inbox.take(Duration::from_secs(60));
            assert!(!taken.markers.is_empty() || !taken.events.is_empty() || taken.overflow);
            markers += taken.markers.len();
            overflow |= taken.overflow;
        }
        assert_eq!((markers, overflow), (1, true));
    }
}
