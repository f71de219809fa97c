//! The resolver: turns raw events into what the engine hears.
//!
//! Invariants:
//! 1. All of a batch's events are taken in before anything is walked for it, so a walk sees at
//!    least what the events were about.
//! 2. A directory is reported after it was walked: what changes in it after the report comes as
//!    an event of its own.
//! 3. After events were lost, everything is walked again before "look at everything" is said;
//!    the walk waits for a moment of quiet, because walking in a storm loses events again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::FileType;

use super::batch::{Batch, Counts, Outcome};
use super::filter::{Rules, Way};
use super::outposts::{Outposts, read_rules};
use super::poll::Poll;
use super::source::{Command, Inbox, Marker, Place, RawEvent, Shape, Taken, What};
use super::tree::{NodeId, ROOT};
use super::walk::{DOT_GIT, DOT_GITIGNORE, Ground, Listing, Look, Walked};
use super::{WatchEvent, WatchSettings, WatchSummary};
use crate::clock::{self, SuspendDetector};
use crate::engine::event::RescanWhy;
use crate::engine::timer::Moment;
use crate::names::RepoPath;

/// How long it must be quiet after lost events before everything is walked again.
const QUIET: Duration = Duration::from_millis(200);
/// How long that walk waits at most.
const NO_QUIET: Duration = Duration::from_secs(10);
/// Moves of git closer together than this are told once.
const GIT_APART: Duration = Duration::from_millis(100);
/// How often a resolver without anything to do looks whether the machine was suspended.
const LOOK_UP: Duration = Duration::from_secs(60);
/// How often it is looked whether a root that is gone is back: what is above it is not watched.
const MISSED: Duration = Duration::from_secs(2);

/// Which directory a path was when the watcher started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns which directory is at `path` now, `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let stat = std::fs::symlink_metadata(path).ok()?;
        stat.is_dir().then(|| Self {
            device: stat.dev(),
            inode: stat.ino(),
        })
    }
}

/// The resolver's state, all of it in one thread.
pub(super) struct Resolver<S> {
    ground: Ground,
    settings: WatchSettings,
    identity: Identity,
    inbox: Arc<Inbox>,
    summary: Arc<Mutex<WatchSummary>>,
    sink: S,
    outposts: Outposts,
    poll: Poll,
    batch: Batch,
    /// Directories to walk at the end of the batch.
    to_walk: BTreeSet<Vec<u8>>,
    /// Directories whose `.gitignore` may have changed.
    rules_touched: BTreeSet<Vec<u8>>,
    outer_rules_touched: bool,
    /// The root's mode changed: maybe it can be read only now.
    reopened: bool,
    root_suspect: bool,
    root_gone: bool,
    root_looked: Moment,
    lost: Option<Lost>,
    git_moved: bool,
    git_told: Option<Moment>,
    markers: Vec<Marker>,
    suspend: SuspendDetector,
}

/// When events were lost.
#[derive(Clone, Copy)]
struct Lost {
    since: Moment,
    last_event: Moment,
}

impl Lost {
    fn due(self) -> Moment {
        (self.last_event + QUIET).min(self.since + NO_QUIET)
    }
}

impl<S: Fn(WatchEvent)> Resolver<S> {
    /// Creates the resolver and walks the folder for the first time.
    pub(super) fn new(
        ground: Ground,
        settings: WatchSettings,
        identity: Identity,
        inbox: Arc<Inbox>,
        summary: Arc<Mutex<WatchSummary>>,
        sink: S,
    ) -> Self {
        let poll = Poll::new(settings.poll_often);
        let mut resolver = Self {
            ground,
            settings,
            identity,
            inbox,
            summary,
            sink,
            outposts: Outposts::default(),
            poll,
            batch: Batch::default(),
            to_walk: BTreeSet::new(),
            rules_touched: BTreeSet::new(),
            outer_rules_touched: false,
            reopened: false,
            root_suspect: false,
            root_gone: false,
            root_looked: Moment::default(),
            lost: None,
            git_moved: false,
            git_told: None,
            markers: Vec::new(),
            suspend: SuspendDetector::new(),
        };
        resolver.man_outposts();
        read_rules(&mut resolver.ground, &resolver.settings);
        let walked = resolver.ground.walk(ROOT);
        resolver.note(walked);
        // Nobody has looked at the folder yet, so nothing in it is news.
        resolver.batch.clear();
        resolver
    }

    /// Returns whether not even the root can be watched or polled.
    pub(super) fn is_blind(&self) -> bool {
        !self.ground.tree.is_watched(ROOT) && !self.ground.tree.is_unwatched(ROOT)
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        loop {
            let taken = self.inbox.take(self.patience());
            if taken.stop {
                return;
            }
            self.step(taken);
        }
    }

    /// Returns how long the resolver may wait for the inbox.
    fn patience(&self) -> Duration {
        let git = self
            .git_moved
            .then(|| self.git_told.unwrap_or_default() + GIT_APART);
        let due = [
            self.lost.map(Lost::due),
            git,
            self.batch.next_grown(),
            self.poll.next().filter(|_| !self.root_gone),
            self.root_gone.then(|| self.root_looked + MISSED),
        ];
        let due = due.into_iter().flatten().min();
        due.map_or(LOOK_UP, |due| clock::until(due).min(LOOK_UP))
    }

    fn step(&mut self, taken: Taken) {
        let now = clock::now();
        if taken.overflow {
            let since = self.lost.map_or(now, |lost| lost.since);
            self.lost = Some(Lost {
                since,
                last_event: now,
            });
        } else if let Some(lost) = &mut self.lost
            && !taken.events.is_empty()
        {
            lost.last_event = now;
        }
        for event in &taken.events {
            self.event(event, now);
        }
        if taken.mounts || std::mem::take(&mut self.reopened) {
            self.walk_all(Some(RescanWhy::Remount));
        }
        let is_missed = self.root_gone && self.root_looked + MISSED <= now;
        if (self.root_suspect || is_missed) && self.check_root() {
            self.walk_all(Some(RescanWhy::Remount));
        }
        self.poll(now);
        self.end_batch(now);
        if self.suspend.slept().is_some() {
            self.walk_all(Some(RescanWhy::Resume));
        }
        if self.lost.is_some_and(|lost| lost.due() <= now) {
            self.lost = None;
            self.walk_all(Some(RescanWhy::Overflow));
        }
        self.markers.extend(taken.markers);
        if taken
            .commands
            .iter()
            .any(|it| matches!(it, Command::Echo(_)))
        {
            self.look_everywhere();
        }
        for command in taken.commands {
            match command {
                Command::Echo(marker) => self.ground.source.flush(marker),
                Command::Rewalk => self.walk_all(None),
                Command::Adopt => self.adopt(),
                Command::Tracked(tracked) => self.set_tracked(tracked),
            }
        }
        // A marker promises that everything before it was delivered, so it waits for the walk
        // that lost events made necessary, and does not let a move of git wait.
        let answer = self.lost.is_none() && !self.markers.is_empty();
        self.tell_git_moved(now, answer);
        if answer {
            for marker in self.markers.drain(..) {
                marker();
            }
        }
    }

    fn event(&mut self, event: &RawEvent, now: Moment) {
        let report = self.outposts.hear(event);
        self.git_moved |= report.git_moved;
        self.outer_rules_touched |= report.rules;
        let Some(dir) = self.place(&event.place) else {
            return;
        };
        if event.name.is_empty() {
            self.own_event(dir, event.what);
        } else {
            self.entry_event(dir, &event.name, event.what, event.shape, now);
        }
    }

    /// Takes an event of an entry of a directory.
    fn entry_event(&mut self, dir: NodeId, name: &[u8], what: What, shape: Shape, now: Moment) {
        let mut path = self.ground.tree.path(dir);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if name == DOT_GIT {
            self.dot_git_event(dir, what);
        } else if self.ground.tree.is_boundary(dir) {
            // A repository of its own is none of our business.
        } else if self.is_directory(dir, name, shape, &path) {
            self.directory_event(dir, name, what, path);
        } else {
            if name == DOT_GITIGNORE && what != What::Attributes {
                self.rules_touched.insert(self.ground.tree.path(dir));
            }
            let ground = &self.ground;
            self.batch.file(&path, what, now, || {
                if ground.filter.is_tracked(&path) {
                    Counts::Yes
                } else if ground.filter.counts(&ground.tree, dir, &path) {
                    Counts::UnlessTransient
                } else {
                    Counts::No
                }
            });
        }
    }

    /// Returns the directory of the tree that an event is about.
    fn place(&self, place: &Place) -> Option<NodeId> {
        match place {
            Place::Watch(token) => self.ground.tree.by_token(*token),
            Place::Path(path) => {
                use std::os::unix::ffi::OsStrExt;
                let path = path.strip_prefix(&self.ground.root).ok()?;
                self.ground.tree.find(path.as_os_str().as_bytes())
            }
        }
    }

    /// Takes an event of a watched directory itself.
    fn own_event(&mut self, dir: NodeId, what: What) {
        if dir == ROOT {
            let mode = mode_on_disk(&self.ground.root);
            let same = mode == Some(self.ground.tree.mode(ROOT));
            self.reopened |= what == What::Attributes && !same;
            self.root_suspect |= what != What::Attributes;
        }
        if what == What::Ended {
            // Deleted, then its name says so too; or unmounted, then another is in its place.
            self.ground.tree.set_token(dir, None);
            self.to_walk.insert(self.ground.tree.path(dir));
        }
    }

    fn dot_git_event(&mut self, dir: NodeId, what: What) {
        if dir == ROOT {
            self.git_moved |= what != What::Attributes;
            // A repository that was made anew is to be watched anew.
            self.outer_rules_touched = true;
            return;
        }
        let is_boundary = self.ground.tree.is_boundary(dir);
        let becomes = match what {
            What::Created | What::Arrived => true,
            What::Removed => false,
            What::Written | What::Closed | What::Attributes | What::Suspect | What::Ended => return,
        };
        if is_boundary == becomes {
            return;
        }
        let path = self.ground.tree.path(dir);
        if becomes {
            self.ground.tree.set_boundary(dir, true);
            self.ground.clear(dir);
        } else {
            self.to_walk.insert(path.clone());
        }
        if let Ok(path) = RepoPath::new(path) {
            self.batch.subtree(path);
        }
    }

    fn is_directory(&self, dir: NodeId, name: &[u8], shape: Shape, path: &[u8]) -> bool {
        match shape {
            Shape::Directory => true,
            Shape::Other => false,
            Shape::Unknown => {
                self.ground.tree.child(dir, name).is_some()
                    || kind_on_disk(&self.ground.on_disk(path)) == Some(FileType::Directory)
            }
        }
    }

    fn directory_event(&mut self, dir: NodeId, name: &[u8], what: What, path: Vec<u8>) {
        let known = self.ground.tree.child(dir, name);
        let counts = self.ground.way(dir, &path) != Way::Closed;
        match what {
            What::Attributes => {
                // Times of a directory mean nothing; its mode may open or close it.
                let mode = mode_on_disk(&self.ground.on_disk(&path));
                let same = known.is_some_and(|id| mode == Some(self.ground.tree.mode(id)));
                if same || !counts {
                    return;
                }
                self.to_walk.insert(path.clone());
            }
            What::Removed => {
                if let Some(id) = known {
                    self.ground.forget(id);
                }
                if self.ground.source.confuses_names() {
                    self.to_walk.insert(path.clone());
                }
            }
            What::Created | What::Arrived => {
                if counts {
                    self.to_walk.insert(path.clone());
                }
            }
            What::Written | What::Closed | What::Suspect | What::Ended => return,
        }
        if (counts || known.is_some())
            && let Ok(path) = RepoPath::new(path)
        {
            self.batch.subtree(path);
        }
    }

    /// Walks what the batch asked for and delivers it.
    fn end_batch(&mut self, now: Moment) {
        if self.root_gone {
            self.batch.clear();
            self.to_walk.clear();
            self.rules_touched.clear();
            return;
        }
        let rules_changed = self.reread_rules();
        self.walk_touched();
        self.count();
        let ground = &self.ground;
        let is_complete = |path: &RepoPath| is_link(&path.under(&ground.root));
        match self.batch.finish(now, is_complete) {
            Outcome::Changes(changes) if changes.is_empty() => {}
            Outcome::Changes(changes) => (self.sink)(WatchEvent::Changed(changes)),
            Outcome::TooMany => (self.sink)(WatchEvent::Rescan(RescanWhy::Overflow)),
        }
        if rules_changed {
            (self.sink)(WatchEvent::Rescan(RescanWhy::Rules));
        }
    }

    /// Reads again what may have changed of the rules; returns whether they did.
    fn reread_rules(&mut self) -> bool {
        let mut changed = false;
        for dir in std::mem::take(&mut self.rules_touched) {
            let Some(id) = self.ground.tree.find(&dir) else {
                continue;
            };
            let rules = Rules::read(&self.ground.on_disk(&dir).join(".gitignore"));
            if !Rules::same(self.ground.tree.rules(id), rules.as_ref()) {
                self.ground.tree.set_rules(id, rules);
                self.to_walk.insert(dir);
                changed = true;
            }
        }
        if std::mem::take(&mut self.outer_rules_touched) {
            self.man_outposts();
            if read_rules(&mut self.ground, &self.settings) {
                self.to_walk.insert(Vec::new());
                changed = true;
            }
        }
        changed
    }

    fn walk_touched(&mut self) {
        let mut done: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in std::mem::take(&mut self.to_walk) {
            let inside_done = done.contains(&Vec::new())
                || (0..path.len()).any(|at| path[at] == b'/' && done.contains(&path[..at]));
            if !inside_done {
                let walked = self.ground.walk_path(&path);
                self.note(walked);
                done.insert(path);
            }
        }
    }

    /// Walks everything; then says why, or, without a reason, reports what was found unwatched.
    fn walk_all(&mut self, why: Option<RescanWhy>) {
        let why = if self.check_root() {
            Some(RescanWhy::Remount)
        } else {
            why
        };
        if self.root_gone {
            return;
        }
        self.man_outposts();
        let rules = read_rules(&mut self.ground, &self.settings);
        let walked = self.ground.walk(ROOT);
        for path in &walked.fresh {
            self.batch.subtree(path.clone());
        }
        self.note(walked);
        match why.or(rules.then_some(RescanWhy::Rules)) {
            Some(why) => {
                self.batch.clear();
                (self.sink)(WatchEvent::Rescan(why));
            }
            None => self.end_batch(clock::now()),
        }
    }

    /// Looks whether the root is still the directory that it was. Returns whether it was gone and is
    /// back: then nobody knows what happened meanwhile.
    fn check_root(&mut self) -> bool {
        self.root_suspect = false;
        self.root_looked = clock::now();
        let was_gone = self.root_gone;
        self.root_gone = Identity::of(&self.ground.root) != Some(self.identity);
        if self.root_gone && !was_gone {
            (self.sink)(WatchEvent::RootGone);
        }
        was_gone && !self.root_gone
    }

    /// Takes what stands at the root's path for the root, and walks all of it: what was made while
    /// it was elsewhere has no watch.
    fn adopt(&mut self) {
        if let Some(identity) = Identity::of(&self.ground.root) {
            self.identity = identity;
            self.walk_all(None);
        }
    }

    fn set_tracked(&mut self, tracked: BTreeSet<RepoPath>) {
        let before = std::mem::replace(&mut self.ground.filter.tracked, tracked);
        let new: Vec<_> = self
            .ground
            .filter
            .tracked
            .difference(&before)
            .cloned()
            .collect();
        if new.is_empty() && before.len() == self.ground.filter.tracked.len() {
            return;
        }
        // What happened to them while nobody looked is unknown.
        for path in new {
            self.batch
                .found(path, crate::engine::event::ChangeKind::Closed);
        }
        self.to_walk.insert(Vec::new());
        self.end_batch(clock::now());
    }

    fn tell_git_moved(&mut self, now: Moment, at_once: bool) {
        let due = self.git_told.is_none_or(|told| told + GIT_APART <= now);
        if self.git_moved && (due || at_once) {
            self.git_moved = false;
            self.git_told = Some(now);
            (self.sink)(WatchEvent::GitMoved);
        }
    }

    fn man_outposts(&mut self) {
        self.outposts.man(&mut self.ground, &self.settings);
    }

    /// Looks at the directories without a watch that are due.
    fn poll(&mut self, now: Moment) {
        if self.root_gone || self.poll.next().is_none_or(|next| next > now) {
            return;
        }
        let start = clock::thread_time();
        let mut spent = Duration::ZERO;
        while let Some(path) = self.poll.take_due(now, spent) {
            self.look(&path, now, false);
            spent = clock::thread_time().saturating_sub(start);
        }
        self.poll.rest(now, spent);
    }

    /// Looks at every directory that is polled and reports what is different: no event is going to
    /// tell it before an echo.
    fn look_everywhere(&mut self) {
        let all = self.poll.all();
        if self.root_gone || all.is_empty() {
            return;
        }
        let now = clock::now();
        for path in all {
            self.look(&path, now, true);
        }
        self.end_batch(now);
    }

    /// Looks at one directory that is polled; `fresh` as in [`Ground::look`].
    fn look(&mut self, path: &[u8], now: Moment, fresh: bool) {
        let known = self.ground.tree.find(path);
        let Some(id) = known.filter(|id| self.ground.tree.is_polled(*id)) else {
            self.poll.drop_out(path);
            return;
        };
        match self.ground.look(id, fresh) {
            Look::There(listing) => {
                self.looked(path, listing, now);
                if !self.ground.tree.is_polled(id) {
                    self.poll.drop_out(path);
                }
            }
            Look::Failed => self.poll.failed(path, now),
            Look::Gone => {
                self.poll.drop_out(path);
                if let Ok(path) = RepoPath::new(path) {
                    self.batch.subtree(path);
                }
            }
        }
    }

    /// Reports what is different in a directory that is polled since the last look.
    fn looked(&mut self, path: &[u8], listing: Listing, now: Moment) {
        let difference = self.poll.looked(path, listing, now);
        let files = [
            (difference.written, What::Closed, Shape::Other),
            (difference.removed, What::Removed, Shape::Other),
            // Whether it came or went is seen by the walk.
            (difference.dirs, What::Arrived, Shape::Directory),
        ];
        let git = difference
            .git
            .map(|is| if is { What::Created } else { What::Removed });
        let git = git.map(|what| (DOT_GIT.into(), what, Shape::Unknown));
        let files = files.into_iter().flat_map(|(names, what, shape)| {
            names.into_iter().map(move |name| (name, what, shape))
        });
        for (name, what, shape) in files.chain(git) {
            if let Some(dir) = self.ground.tree.find(path) {
                self.entry_event(dir, &name, what, shape, now);
            }
        }
    }

    /// Notes what a walk found about directories that are polled.
    fn note(&mut self, walked: Walked) {
        let now = clock::now();
        for (path, listing) in walked.polled {
            self.looked(&path, listing, now);
        }
        self.count();
    }

    /// Brings the summary up to date.
    fn count(&mut self) {
        let unwatched = self.ground.tree.unwatched();
        let now = WatchSummary {
            watched: self.ground.tree.len() - unwatched,
            unwatched,
            remote: self.ground.tree.remote(),
            kind: self.ground.remote.filter(|_| self.ground.tree.remote() > 0),
        };
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        let polls = |it: &WatchSummary| (it.unwatched > 0, it.remote > 0);
        let tell = polls(&summary) != polls(&now);
        *summary = now;
        drop(summary);
        if tell {
            (self.sink)(WatchEvent::Unwatched(now));
        }
    }
}

fn kind_on_disk(path: &Path) -> Option<FileType> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn mode_on_disk(path: &Path) -> Option<u16> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some(super::walk::mode_bits(&stat))
}

/// Returns whether a file that was just made is a link, which nobody will close.
fn is_link(path: &Path) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1
    })
}
