//! The walk: brings the tree of watches in line with the disk.
//!
//! Invariants:
//! 1. A directory is watched before it is listed and before its `.gitignore` is read: what
//!    happens in between comes as an event.
//! 2. Every directory that is met is watched anew, also one that was watched before: after an
//!    overflow the same name may be another directory.
//! 3. Nothing inside a nested repository or the folder's own repository is entered; a nested
//!    repository itself is watched, to notice when it ceases to be one.
//!
//! Absent: files. Which of them changed is for a snapshot to find out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::filter::{Filter, Rules, Way};
use super::remote;
use super::source::{Refusal, Source};
use super::tree::{NodeId, ROOT, Tree};
use crate::names::RepoPath;

/// The name of a repository's own entry.
pub(super) const DOT_GIT: &[u8] = b".git";
/// The name of a file of ignore rules.
pub(super) const DOT_GITIGNORE: &[u8] = b".gitignore";

/// The tree, the source that watches it and the rules that shape it.
pub(super) struct Ground {
    /// The folder's root, canonical.
    pub(super) root: PathBuf,
    /// Directories inside the root that belong to the folder's own repository.
    pub(super) own: Vec<RepoPath>,
    /// What watches.
    pub(super) source: Box<dyn Source>,
    /// What is watched.
    pub(super) tree: Tree,
    /// What counts.
    pub(super) filter: Filter,
    /// What kind of file system the last directory was on that other machines may change.
    pub(super) remote: Option<&'static str>,
    /// Tokens that serve another purpose too and must not be given back.
    pub(super) kept: Vec<super::source::Token>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Directories that were not watched before, without those below another of them.
    pub(super) fresh: Vec<RepoPath>,
    /// Directories whose events, if there are any, do not tell all, with their files as they are.
    pub(super) polled: Vec<(Vec<u8>, Listing)>,
}

/// What is in a directory.
#[derive(Debug, Default, Clone)]
pub(super) struct Listing {
    /// The mode bits of the directory.
    pub(super) mode: u16,
    /// The disk it is on.
    pub(super) disk: Option<Disk>,
    /// The directories in it.
    pub(super) dirs: Vec<Box<[u8]>>,
    /// Everything else, if asked for, with a print of its stat data.
    pub(super) files: BTreeMap<Box<[u8]>, u64>,
    /// Whether a `.git` is in it.
    pub(super) has_git: bool,
    /// Whether a `.gitignore` is in it.
    pub(super) has_rules: bool,
}

/// A mounted file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    device: u64,
    /// Its kind, if other machines may change it.
    remote: Option<&'static str>,
}

/// What a look at a directory that is polled came to.
#[derive(Debug)]
pub(super) enum Look {
    /// This is in it.
    There(Listing),
    /// It cannot be listed now.
    Failed,
    /// It is gone.
    Gone,
}

impl Ground {
    /// Returns where a path of the tree is on the disk.
    pub(super) fn on_disk(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(OsStr::from_bytes(path))
        }
    }

    /// Walks a directory of the tree, whose parent is known, if it is to be watched at all.
    pub(super) fn walk_path(&mut self, path: &[u8]) -> Walked {
        let Ok(path) = RepoPath::new(path) else {
            return self.walk(ROOT);
        };
        let above = path.parent();
        let above = above.as_ref().map_or(&[][..], RepoPath::as_bytes);
        let Some(dir) = self
            .tree
            .find(above)
            .filter(|dir| !self.tree.is_boundary(*dir))
        else {
            // What is above is not known or not entered: if it should be, its own event comes.
            return Walked::default();
        };
        let name = path.file_name();
        match self.way(dir, path.as_bytes()) {
            Way::Closed => {
                if let Some(id) = self.tree.child(dir, name) {
                    self.forget(id);
                }
                Walked::default()
            }
            way @ (Way::Open | Way::TrackedOnly) => {
                let (id, _) = self.tree.child_or_new(dir, name);
                self.tree.set_tracked_only(id, way == Way::TrackedOnly);
                self.walk(id)
            }
        }
    }

    /// Walks from a known directory downwards.
    pub(super) fn walk(&mut self, top: NodeId) -> Walked {
        let mut walked = Walked::default();
        let mut rest = vec![(top, false, None)];
        while let Some((id, inside_fresh, above)) = rest.pop() {
            let path = self.tree.path(id);
            let on_disk = self.on_disk(&path);
            let Some(fresh) = self.watch(id, &on_disk) else {
                continue;
            };
            let wants_files = self.tree.is_unwatched(id);
            let listing = match list(&on_disk, wants_files, above, false) {
                Ok(listing) => listing,
                Err(error) if is_gone(&error) => {
                    self.forget(id);
                    continue;
                }
                Err(error) => {
                    // What is known below stays watched. Any mode differs from none, so that
                    // the next change of it makes this directory be walked again.
                    tracing::debug!(dir = %on_disk.display(), %error, "cannot list a directory");
                    self.tree.set_mode(id, 0);
                    continue;
                }
            };
            if fresh
                && !inside_fresh
                && let Ok(path) = RepoPath::new(&path)
            {
                walked.fresh.push(path);
            }
            self.settle(id, &listing);
            self.tree.set_mode(id, listing.mode);
            self.tree.set_boundary(id, listing.has_git && id != ROOT);
            if self.tree.is_boundary(id) {
                self.clear(id);
                continue;
            }
            let rules = listing
                .has_rules
                .then(|| Rules::read(&on_disk.join(".gitignore")));
            self.tree.set_rules(id, rules.flatten());
            for child in self.enter(id, &path, &listing.dirs) {
                rest.push((child, inside_fresh || fresh, listing.disk));
            }
            if self.tree.is_polled(id) {
                walked.polled.push((path, listing));
            }
        }
        walked
    }

    /// Brings the children of a node in line with a list of directories; returns those to walk.
    fn enter(&mut self, id: NodeId, path: &[u8], dirs: &[Box<[u8]>]) -> Vec<NodeId> {
        let mut full = path.to_vec();
        if !full.is_empty() {
            full.push(b'/');
        }
        let stem = full.len();
        let mut kept = Vec::with_capacity(dirs.len());
        for name in dirs {
            full.truncate(stem);
            full.extend_from_slice(name);
            let way = self.way(id, &full);
            if way != Way::Closed {
                let (child, _) = self.tree.child_or_new(id, name);
                self.tree.set_tracked_only(child, way == Way::TrackedOnly);
                kept.push(child);
            }
        }
        if kept.len() < self.tree.children(id).len() {
            let gone: Vec<_> = self.tree.children(id).to_vec();
            for child in gone {
                // Both are sorted by name.
                if kept
                    .binary_search_by(|kept| self.tree.by_name(*kept, child))
                    .is_err()
                {
                    self.forget(child);
                }
            }
        }
        kept
    }

    /// Returns how a directory is to be taken.
    pub(super) fn way(&self, dir: NodeId, path: &[u8]) -> Way {
        if path == DOT_GIT || self.own.iter().any(|own| own.as_bytes() == path) {
            return Way::Closed;
        }
        self.filter.way(&self.tree, dir, path)
    }

    /// Watches a directory. Returns whether it was not watched before and is now, or `None` if it
    /// is gone.
    fn watch(&mut self, id: NodeId, on_disk: &Path) -> Option<bool> {
        let (token, refused) = match self.source.watch(on_disk) {
            Ok(token) => (Some(token), false),
            Err(Refusal::NoMore) => (None, true),
            Err(Refusal::Gone) => {
                self.forget(id);
                return None;
            }
            Err(Refusal::Other(error)) => {
                // When it can be read its attributes change, which the directory above tells. A
                // watch from better days goes on.
                tracing::debug!(dir = %on_disk.display(), %error, "cannot watch a directory");
                return Some(false);
            }
        };
        let was_watched = self.tree.is_watched(id);
        let replaced = self.tree.set_token(id, token);
        self.tree.set_unwatched(id, refused);
        let fresh = token.is_some() && (!was_watched || replaced.is_some());
        self.give_back(replaced);
        Some(fresh)
    }

    /// Notes what kind of disk a directory is on.
    fn settle(&mut self, id: NodeId, listing: &Listing) {
        let remote = listing.disk.and_then(|disk| disk.remote);
        self.tree.set_remote(id, remote.is_some());
        self.remote = remote.or(self.remote);
    }

    /// Tries again to watch a directory, for which there may have been no watch, and looks at what
    /// is in it, but not below. With `fresh` nothing is believed that the kernel only remembers of
    /// what a server said.
    pub(super) fn look(&mut self, id: NodeId, fresh: bool) -> Look {
        let on_disk = self.on_disk(&self.tree.path(id));
        if self.watch(id, &on_disk).is_none() {
            return Look::Gone;
        }
        match list(&on_disk, true, None, fresh) {
            Ok(listing) => {
                self.settle(id, &listing);
                Look::There(listing)
            }
            Err(error) if is_gone(&error) => {
                self.forget(id);
                Look::Gone
            }
            Err(error) => {
                tracing::debug!(dir = %on_disk.display(), %error, "cannot list a directory");
                Look::Failed
            }
        }
    }

    /// Forgets a directory and everything below it.
    pub(super) fn forget(&mut self, id: NodeId) {
        let tokens = self.tree.remove(id);
        self.give_back(tokens);
    }

    /// Forgets everything below a directory.
    pub(super) fn clear(&mut self, id: NodeId) {
        let tokens = self.tree.clear(id);
        self.give_back(tokens);
    }

    fn give_back(&mut self, tokens: impl IntoIterator<Item = super::source::Token>) {
        for token in tokens {
            if !self.kept.contains(&token) {
                self.source.unwatch(token);
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// Lists a directory, without following a symbolic link at its end. `above` is the disk that the
/// directory above is on, if that is known. The files are listed if they are asked for, and where
/// other machines may change them; with `fresh` the server is asked again how they are.
fn list(dir: &Path, wants_files: bool, above: Option<Disk>, fresh: bool) -> io::Result<Listing> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(dir, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    let disk = above
        .filter(|above| above.device == stat.st_dev)
        .unwrap_or_else(|| Disk {
            device: stat.st_dev,
            remote: remote::kind(&opened),
        });
    let wants_files = wants_files || disk.remote.is_some();
    let fresh = fresh && disk.remote.is_some();
    let mut listing = Listing {
        mode: mode_bits(&stat),
        disk: Some(disk),
        ..Listing::default()
    };
    let entries = rustix::fs::Dir::read_from(&opened)?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if name == DOT_GIT {
            listing.has_git = true;
            continue;
        }
        listing.has_rules |= name == DOT_GITIGNORE;
        let mut stat = None;
        let mut kind = entry.file_type();
        if wants_files || kind == FileType::Unknown {
            if fresh {
                remote::ask(&opened, entry.file_name());
            }
            stat = rustix::fs::statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok();
            let Some(stat) = &stat else { continue };
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        if kind == FileType::Directory {
            listing.dirs.push(name.into());
        } else if let Some(stat) = stat.filter(|_| wants_files) {
            listing.files.insert(name.into(), print(&stat));
        }
    }
    listing.dirs.sort_unstable();
    Ok(listing)
}

/// Returns the permission bits of a stat.
pub(super) fn mode_bits(stat: &rustix::fs::Stat) -> u16 {
    u16::try_from(stat.st_mode & 0o7777).unwrap_or(0)
}

/// Returns a number that changes when a file does.
fn print(stat: &rustix::fs::Stat) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (stat.st_ino, stat.st_size, stat.st_mode).hash(&mut hasher);
    (
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec,
    )
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::super::source::{Marker, Token};
    use super::*;

    /// Watches nothing; something happens in every directory at the moment it is watched.
    struct Untimely {
        watched: Arc<Mutex<BTreeSet<PathBuf>>>,
        limit: usize,
        next: i32,
    }

    impl Untimely {
        fn happen(&self, dir: &Path) {
            let is_new = self.watched.lock().unwrap().insert(dir.to_owned());
            if is_new && dir.ends_with("early") {
                fs::create_dir_all(dir.join("late/later")).unwrap();
                fs::create_dir_all(dir.join("hidden")).unwrap();
                fs::write(dir.join(".gitignore"), "hidden/\n").unwrap();
            }
        }
    }

    impl Source for Untimely {
        fn watch(&mut self, dir: &Path) -> Result<Token, Refusal> {
            if !dir
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_dir())
            {
                return Err(Refusal::Gone);
            }
            self.next += 1;
            if usize::try_from(self.next).is_ok_and(|next| next > self.limit) {
                return Err(Refusal::NoMore);
            }
            self.happen(dir);
            Ok(Token(self.next))
        }

        fn unwatch(&mut self, _token: Token) {}

        fn confuses_names(&self) -> bool {
            false
        }

        fn flush(&mut self, marker: Marker) {
            marker();
        }
    }

    fn ground(root: &Path, limit: usize) -> (Ground, Arc<Mutex<BTreeSet<PathBuf>>>) {
        let watched = Arc::default();
        let source = Untimely {
            watched: Arc::clone(&watched),
            limit,
            next: 0,
        };
        let ground = Ground {
            root: root.to_owned(),
            own: Vec::new(),
            source: Box::new(source),
            tree: Tree::new(),
            filter: Filter::new(&[], &[]),
            remote: None,
            kept: Vec::new(),
        };
        (ground, watched)
    }

    #[test]
    fn what_happens_between_the_watch_and_the_look_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("early")).unwrap();
        let (mut ground, watched) = ground(dir.path(), usize::MAX);
        let walked = ground.walk(ROOT);
        assert!(walked.polled.is_empty());
        let watched: Vec<_> = watched.lock().unwrap().iter().cloned().collect();
        let expected = ["", "early", "early/late", "early/late/later"];
        assert_eq!(watched, expected.map(|below| dir.path().join(below)));
        assert!(ground.tree.find(b"early/hidden").is_none());
    }

    #[test]
    fn a_walk_forgets_what_is_gone_and_tells_what_is_new_at_its_top_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let (mut ground, _) = ground(dir.path(), usize::MAX);
        ground.walk(ROOT);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        fs::create_dir_all(dir.path().join("n/e/w")).unwrap();
        fs::write(dir.path().join("file"), "1").unwrap();
        let before = ground.tree.len();
        ground.walk_path(b"n");
        ground.walk_path(b"a/b");
        ground.walk_path(b"file");
        assert_eq!(
            ground.tree.len(),
            before + 2,
            "n, n/e and n/e/w, but not a/b"
        );
        ground.walk(ROOT);
        assert!(ground.tree.find(b"a").is_none());
        assert!(ground.tree.find(b"n/e/w").is_some());
        assert!(ground.tree.find(b"file").is_none());
    }

    #[test]
    fn without_watches_the_files_are_listed_for_the_poll() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        let (mut ground, _) = ground(dir.path(), 2);
        let walked = ground.walk(ROOT);
        assert_eq!(ground.tree.unwatched(), 1);
        let [(path, listing)] = &walked.polled[..] else {
            panic!("{walked:?}");
        };
        assert_eq!(path.len(), 1);
        assert_eq!(
            listing.files.keys().map(|name| &**name).collect::<Vec<_>>(),
            [b"file"]
        );
        fs::write(dir.path().join("a/file"), "longer").unwrap();
        fs::write(dir.path().join("b/file"), "longer").unwrap();
        let again = ground.walk(ROOT);
        let (_, now) = again
            .polled
            .iter()
            .find(|(polled, _)| polled == path)
            .unwrap();
        assert_ne!(now.files, listing.files);
    }
}
