//! Hosts in one process: on each the production engine and the production jobs on a real work
//! tree, with a real bare hub between them; the test says which step of which host comes next.
//!
//! Time is virtual and goes on only by [`Step::Time`]. A job may be interrupted at every named
//! point of the write protocol: by a person, by steps of other hosts, by the host's own other
//! lane, or by its end (what it holds in memory is dropped, as the kernel does after a kill).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use autosync::agent::lanes::refuse;
use autosync::clock;
use autosync::engine::action::{Action, Job, Lane};
use autosync::engine::event::{Change, ChangeKind, Event, Request, RescanWhy};
use autosync::engine::notice::{Circle, Notice};
use autosync::engine::settle::Windows;
use autosync::engine::status::FolderStatus;
use autosync::engine::timer::Moment;
use autosync::engine::{Engine, FolderBasics, PushWindows, Settings as Wanted};
use autosync::fault;
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::contact::identify;
use autosync::repo::folder::Folder;
use autosync::repo::network::{Remote, Terms, create_hub, fetch, push};
use autosync::repo::{Place, Settings};
use tempfile::TempDir;

use crate::outcomes::hosts::settings;
use crate::outcomes::lab::plain_git;

/// The hosts. Their first letters begin the tokens that are written on them.
pub(super) const HOSTS: [&str; 3] = ["laptop", "server", "desktop"];

/// So many steps of one host in a row are more than it ever needs to come to rest.
const ENOUGH: usize = 400;

/// One thing that a host may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The agent starts.
    Start,
    /// The job of the tree lane is done.
    Tree,
    /// The job of the network lane is done.
    Network,
    /// The watcher tells what changed on the disk.
    Look,
    /// The hub's movement is noticed.
    Bell,
    /// The next timer comes.
    Time,
}

/// What [`resume_unwind`] carries when a host is killed within a job.
struct Killed;

/// All hosts, and the hub.
pub(super) struct World {
    dir: TempDir,
    pub(super) hub: PathBuf,
    pub(super) hosts: Vec<Host>,
    now: Cell<Moment>,
}

/// One host.
pub(super) struct Host {
    pub(super) name: &'static str,
    settings: Settings,
    runtime: PathBuf,
    /// Whether its windows are those that a user gets, or none.
    windows: bool,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    engine: Option<Engine>,
    /// `None` while a job of the tree lane is running.
    folder: Option<Folder>,
    network: Option<(Place, Remote)>,
    tree: Option<Job>,
    lane: Option<Job>,
    seen: Listing,
    git_moved: bool,
    belled: Option<ObjectId>,
    starts: u64,
}

/// What stands on the disk, as far as a watcher could tell a change of it.
type Listing = BTreeMap<PathBuf, Seen>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    is_dir: bool,
    inode: u64,
    size: u64,
    mode: u32,
    written: (i64, i64),
}

/// A world in which all hosts are in sync, for copying.
pub(super) struct Template(TempDir);

impl Template {
    /// Makes a hub with some files, and the hosts that have them.
    pub(super) fn new(names: &[&'static str]) -> Self {
        let dir = temporary();
        create_hub(&dir.path().join("hub.git"), "main", false).unwrap();
        for name in names {
            let root = dir.path().join(name);
            fs::create_dir(&root).unwrap();
            for args in [
                &["init", "-q", "-b", "main", "--template="][..],
                &["config", "user.name", "A Person"],
                &["config", "user.email", "person@home"],
            ] {
                assert!(plain_git(&root).args(args).status().unwrap().success());
            }
        }
        let world = World::around(dir, names, false);
        for name in ["o", "a/one", "b/a/b"] {
            let path = world.hosts[0].root().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let lines: Vec<String> = (0..9).map(|n| format!("base {name} {n}\n")).collect();
            fs::write(path, lines.join("\n")).unwrap();
        }
        for at in 0..names.len() {
            world.come_to_rest(at);
            let host = &world.hosts[at];
            let tip = host.tip().unwrap();
            let place = Place::open(host.settings.clone()).unwrap();
            assert!(identify(&place, tip).unwrap().is_some());
        }
        for host in &world.hosts {
            host.end();
            // Which directory it was, and what a run of an agent left.
            for file in ["root", "boot"] {
                fs::remove_file(host.root().join(".git/autosync").join(file)).unwrap();
            }
        }
        Self(world.dir)
    }

    /// Makes a world of its own.
    pub(super) fn world(&self, names: &[&'static str], windows: bool) -> Rc<World> {
        let dir = temporary();
        copy(self.0.path(), dir.path());
        Rc::new(World::around(dir, names, windows))
    }
}

fn temporary() -> TempDir {
    crate::outcomes::lab::temporary()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl World {
    fn around(dir: TempDir, names: &[&'static str], windows: bool) -> Self {
        let hub = dir.path().join("hub.git");
        let host = |name: &&'static str| {
            let root = dir.path().join(name);
            Host {
                name,
                settings: settings(&root, name, &hub),
                runtime: dir.path().to_owned(),
                windows,
                state: RefCell::default(),
            }
        };
        Self {
            hosts: names.iter().map(host).collect(),
            hub,
            dir,
            now: Cell::new(clock::now()),
        }
    }

    /// Returns the directory that holds everything, on one file system.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the hub's tip.
    pub(super) fn hub_tip(&self) -> Option<ObjectId> {
        let text = fs::read_to_string(self.hub.join("refs/heads/main")).ok()?;
        ObjectId::from_hex(text.trim()).ok()
    }

    /// Returns what a host could do now.
    pub(super) fn possible(&self, at: usize) -> Vec<Step> {
        let state = self.hosts[at].state.borrow();
        let Some(engine) = &state.engine else {
            return vec![Step::Start];
        };
        let mut steps = Vec::new();
        steps.extend(state.tree.as_ref().map(|_| Step::Tree));
        steps.extend(state.lane.as_ref().map(|_| Step::Network));
        if state.belled != self.hub_tip() {
            steps.push(Step::Bell);
        }
        if !engine.is_idle() && engine.poll_timeout().is_some() {
            steps.push(Step::Time);
        }
        steps.push(Step::Look);
        steps
    }

    /// Returns the job that waits in a lane.
    pub(super) fn waiting(&self, at: usize, lane: Lane) -> Option<Job> {
        let state = self.hosts[at].state.borrow();
        match lane {
            Lane::Tree => state.tree.clone(),
            Lane::Network => state.lane.clone(),
            Lane::Both => None,
        }
    }

    /// Lets a host do one thing, undisturbed.
    pub(super) fn step(&self, at: usize, step: Step) {
        self.disturbed(at, step, |_| {});
    }

    /// Lets a host do one thing; `hook` is called at each named point of the write protocol.
    fn disturbed(&self, at: usize, step: Step, hook: impl FnMut(&str) + 'static) {
        let host = &self.hosts[at];
        match step {
            Step::Start => host.start(self.now.get()),
            Step::Tree => host.tree_job(self.now.get(), hook),
            Step::Network => host.network_job(self.now.get(), hook),
            Step::Look => host.look(self.now.get()),
            Step::Bell => {
                let tip = self.hub_tip();
                host.state.borrow_mut().belled = tip;
                let notice = Notice {
                    folder: host.id(),
                    branch: "main".to_owned(),
                    commit: tip,
                    host: String::new(),
                    sequence: 0,
                };
                host.tell(self.now.get(), Event::Noticed(notice, Circle::Own));
            }
            Step::Time => {
                let due = host.state.borrow().engine.as_ref().unwrap().poll_timeout();
                self.now.set(self.now.get().max(due.unwrap()));
                host.handle(self.now.get(), Engine::handle_timeout);
            }
        }
    }

    /// Lets a host do all that it has to do. Returns whether it came to rest.
    pub(super) fn come_to_rest(&self, at: usize) -> bool {
        for _ in 0..ENOUGH {
            let host = &self.hosts[at];
            if !host.runs() {
                self.step(at, Step::Start);
            }
            self.step(at, Step::Look);
            let next = self.possible(at)[0];
            if next == Step::Look {
                return true;
            }
            self.step(at, next);
        }
        false
    }

    /// The same after somebody asked for it.
    pub(super) fn sync(&self, at: usize) -> bool {
        self.come_to_rest(at);
        self.ask(at, Request::Sync);
        self.come_to_rest(at)
    }

    /// Asks a running agent for something.
    pub(super) fn ask(&self, at: usize, request: Request) {
        self.hosts[at].tell(self.now.get(), Event::Asked(request));
    }

    /// Lets the agent look at everything again.
    pub(super) fn rescan(&self, at: usize) {
        let event = Event::Rescan(RescanWhy::Asked);
        self.hosts[at].tell(self.now.get(), event);
    }

    /// Goes on with a host until a lane has a job, which is not begun. Returns whether it has.
    pub(super) fn up_to(&self, at: usize, lane: Step) -> bool {
        for _ in 0..30 {
            let possible = self.possible(at);
            if possible.contains(&lane) {
                return true;
            }
            self.step(at, Step::Look);
            let next = self.possible(at)[0];
            if next == Step::Look {
                return false;
            }
            self.step(at, next);
        }
        false
    }

    /// Does the job that waits in a lane, and `deed` at the named point number `nth` of it.
    pub(super) fn during(
        self: &Rc<Self>,
        at: usize,
        lane: Step,
        nth: usize,
        mut deed: impl FnMut(&str) + 'static,
    ) {
        let mut passed = 0;
        self.disturbed(at, lane, move |point| {
            passed += 1;
            if passed == nth {
                deed(point);
            }
        });
    }

    /// Does the job that waits in a lane up to its named point number `nth`, or to its end, and
    /// kills the agent there.
    pub(super) fn kill_during(&self, at: usize, lane: Step, nth: usize) {
        let mut passed = 0;
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.disturbed(at, lane, move |_| {
                passed += 1;
                if passed == nth {
                    // No panic, of which a message would be printed.
                    resume_unwind(Box::new(Killed));
                }
            });
        }));
        if let Err(why) = done
            && why.downcast_ref::<Killed>().is_none()
        {
            resume_unwind(why);
        }
        self.hosts[at].end();
    }
}

impl Host {
    pub(super) fn root(&self) -> &Path {
        &self.settings.root
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns whether its agent runs.
    pub(super) fn runs(&self) -> bool {
        self.state.borrow().engine.is_some()
    }

    /// The agent is gone at once, with all that it had in memory.
    pub(super) fn end(&self) {
        let starts = self.state.borrow().starts;
        *self.state.borrow_mut() = State {
            starts,
            ..State::default()
        };
    }

    /// Returns the tip of the branch.
    pub(super) fn tip(&self) -> Option<ObjectId> {
        let text = fs::read_to_string(self.root().join(".git/refs/heads/main")).ok()?;
        ObjectId::from_hex(text.trim()).ok()
    }

    /// Notes that a person's git moved HEAD or the index.
    pub(super) fn git_moved(&self) {
        self.state.borrow_mut().git_moved = true;
    }

    fn id(&self) -> String {
        let state = self.state.borrow();
        let id = state.engine.as_ref().and_then(Engine::id);
        id.unwrap_or_default().to_owned()
    }

    /// Returns whether nothing is left to do here, as far as the agent knows.
    pub(super) fn is_synced(&self) -> bool {
        let state = self.state.borrow();
        state.engine.as_ref().is_some_and(Engine::is_synced)
    }

    /// Returns the folder as its user would see it.
    pub(super) fn status(&self) -> FolderStatus {
        let basics = FolderBasics {
            name: self.name.to_owned(),
            path: self.root().display().to_string(),
            hub_url: None,
        };
        let state = self.state.borrow();
        let engine = state.engine.as_ref().unwrap();
        engine.status(basics, &clock::wall_at)
    }

    /// Returns which paths differ from HEAD deliberately.
    pub(super) fn bases(&self) -> Vec<String> {
        let state = self.state.borrow();
        let bases = state.folder.as_ref().map(|folder| folder.bases.waiting());
        let bases = bases.unwrap_or_default().into_iter();
        bases.map(|it| format!("{}: {}", it.path, it.why)).collect()
    }

    /// Returns whether a person would have to let something pass.
    pub(super) fn asks(&self) -> bool {
        self.status().can_be_approved()
    }

    fn start(&self, now: Moment) {
        let mut wanted = Wanted {
            host: self.name.to_owned(),
            ..Wanted::default()
        };
        if !self.windows {
            let zero = Duration::ZERO;
            wanted.settle = Windows {
                quiet: zero,
                quiet_max: zero,
                ..wanted.settle
            };
            wanted.push = PushWindows {
                quiet: zero,
                quiet_max: zero,
                ..wanted.push
            };
        }
        let mut state = self.state.borrow_mut();
        state.starts += 1;
        state.engine = Some(Engine::new(wanted, state.starts, now));
        state.seen = list(self.root());
        drop(state);
        self.handle(now, |_, _| {});
    }

    /// Tells the engine what happened.
    fn tell(&self, now: Moment, event: Event) {
        self.handle(now, |engine, now| engine.handle_event(now, event));
    }

    fn handle(&self, now: Moment, what: impl FnOnce(&mut Engine, Moment)) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(engine) = &mut state.engine else {
            return;
        };
        what(engine, now);
        while let Some(action) = engine.poll_action() {
            match action {
                Action::Run(Job::Maintain) => {
                    engine.handle_event(now, Event::Maintained(Ok(())));
                }
                Action::Run(job) => {
                    let lane = match job.lane() {
                        Lane::Tree | Lane::Both => &mut state.tree,
                        Lane::Network => &mut state.lane,
                    };
                    assert_eq!(*lane, None, "two jobs in a lane");
                    *lane = Some(job);
                }
                // The hub's own movement is the bell.
                Action::Announce(_)
                | Action::Confirm(_)
                | Action::Tell(_)
                | Action::Answer { .. } => {}
            }
        }
    }

    fn tree_job(&self, now: Moment, hook: impl FnMut(&str) + 'static) {
        let (job, folder) = {
            let mut state = self.state.borrow_mut();
            (state.tree.take().unwrap(), state.folder.take())
        };
        let opened = match folder {
            Some(folder) => Ok(folder),
            None => Folder::open(self.settings.clone()),
        };
        let outcome = match opened {
            Ok(mut folder) => {
                let outcome =
                    fault::with_hook(hook, || folder.run(job, &mut |event| self.tell(now, event)));
                self.state.borrow_mut().folder = Some(folder);
                outcome
            }
            Err(error) => refuse(&job, error.trouble()),
        };
        self.tell(now, outcome);
    }

    fn network_job(&self, now: Moment, hook: impl FnMut(&str) + 'static) {
        let (job, known) = {
            let mut state = self.state.borrow_mut();
            (state.lane.take().unwrap(), state.network.take())
        };
        let (place, remote) = known.unwrap_or_else(|| {
            let place = Place::open(self.settings.clone()).unwrap();
            let remote = Remote::of(&place).unwrap().unwrap();
            (place, remote)
        });
        let terms = Terms {
            runtime: &self.runtime,
            approved: false,
            progress: &|_| {},
        };
        let outcome = fault::with_hook(hook, || match &job {
            Job::Fetch => Event::Fetched(fetch(&place, &remote, &terms)),
            Job::Push { commit } => Event::Pushed(push(&place, &remote, *commit, &terms)),
            Job::Notes => Event::NotesExchanged(Ok(())),
            Job::Recover
            | Job::Snapshot { .. }
            | Job::Merge { .. }
            | Job::Apply { .. }
            | Job::Reword { .. }
            | Job::Recall(_)
            | Job::Maintain => unreachable!("{job:?}"),
        });
        self.state.borrow_mut().network = Some((place, remote));
        self.tell(now, outcome);
    }

    /// Tells the engine what the watcher would have seen since the last look.
    fn look(&self, now: Moment) {
        let found = list(self.root());
        let (before, moved) = {
            let mut state = self.state.borrow_mut();
            let before = std::mem::replace(&mut state.seen, found.clone());
            (before, std::mem::take(&mut state.git_moved))
        };
        let mut changes = Vec::new();
        let mut note = |path: &Path, kind| {
            let path = RepoPath::new(path.as_os_str().as_encoded_bytes()).unwrap();
            changes.push(Change { path, kind });
        };
        for (path, seen) in &found {
            match before.get(path) {
                Some(was) if was == seen => {}
                _ if seen.is_dir => note(path, ChangeKind::Subtree),
                Some(was) if was.inode == seen.inode && was.written == seen.written => {
                    note(path, ChangeKind::Attributes);
                }
                Some(_) | None => note(path, ChangeKind::Closed),
            }
        }
        for path in before.keys().filter(|path| !found.contains_key(*path)) {
            note(path, ChangeKind::Removed);
        }
        if changes
            .iter()
            .any(|change| change.path.file_name() == b".gitignore")
        {
            self.tell(now, Event::Rescan(RescanWhy::Rules));
        } else if !changes.is_empty() {
            self.tell(now, Event::Changed(changes));
        }
        if moved {
            self.tell(now, Event::GitMoved);
        }
    }
}

fn list(root: &Path) -> Listing {
    let mut found = Listing::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if name == Path::new(".git") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let is_dir = meta.is_dir();
            if is_dir {
                left.push(path);
            }
            // What is in a directory changes its times and size, and is told by its own name.
            let seen = Seen {
                is_dir,
                inode: meta.ino(),
                size: if is_dir { 0 } else { meta.size() },
                mode: meta.mode(),
                written: if is_dir {
                    (0, 0)
                } else {
                    (meta.mtime(), meta.mtime_nsec())
                },
            };
            found.insert(name, seen);
        }
    }
    found
}
