//! One folder in the agent's care: its engine, its lanes, its watcher.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::{FolderSettings, Settings, TransportKind, Way, Word};
use crate::engine::FolderBasics;
use crate::engine::action::{Action, Job, Lane, Tell};
use crate::engine::event::{Code, Event, Recovery, Request, RescanWhy, Trouble};
use crate::engine::notice::Notice;
use crate::engine::recall::Answer;
use crate::engine::settings::{Mode, PushWindows};
use crate::engine::settle::Windows;
use crate::engine::status::{
    AsideStatus, ConflictStatus, FolderStatus, HeldStatus, MarkedStatus, Progress, State,
};
use crate::engine::timer::Moment;
use crate::engine::{self, Engine};
use crate::error::{Complaint, Exit};
use crate::fault;
use crate::git::public_url;
use crate::lock::Lock;
use crate::names::escape;
use crate::repo;
use crate::repo::ref_locks::remove_ref_locks;
use crate::transport;
use crate::watch::{WatchEvent, WatchSettings, Watcher};

use super::lanes::{Ear, Lanes, Said, refuse};
use super::prepare::not_alone;

/// What is said of a disk without an exchange of two files, and what to do.
const BASIC: (&str, &str) = (
    "this disk writes the basic way: it cannot exchange two files in one step",
    "Nothing is to be done; a save in the very moment of an update may be noticed late.",
);

/// What a folder wants the agent to do.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Send this notice over every transport.
    Announce(Notice),
    /// Confirm this commit over every transport.
    Confirm(Notice),
    /// Tell the user.
    Tell(Tell),
    /// Answer the one who wanted something back.
    Answer(u64, Box<Result<Answer, Trouble>>),
    /// A job began.
    Started(&'static str),
    /// A job that could not be handed to its lane.
    Failed(Event),
}

/// Where the watcher's reports go.
pub(super) type Eye = Arc<dyn Fn(WatchEvent) + Send + Sync>;

/// One folder.
pub(super) struct FolderAgent {
    /// What the configuration says.
    pub(super) config: FolderSettings,
    /// What the repository was told.
    pub(super) settings: repo::Settings,
    engine: Engine,
    lanes: Lanes,
    /// Held as long as we care for the folder.
    _lock: Lock,
    watcher: Option<Watcher>,
    /// What a long job is at, on the tree lane and on the network lane.
    progress: [Option<Progress>; 2],
    /// The disk cannot exchange two files in one call.
    basic: bool,
    /// What had to make room here.
    aside: Vec<AsideStatus>,
    /// As the transports know it, once the hub is known.
    known: Option<transport::Folder>,
    last_state: Option<(State, String)>,
    /// What was held and which conflicts stood at the last look.
    last_standing: Option<(Vec<HeldStatus>, Vec<ConflictStatus>, Vec<MarkedStatus>)>,
    watch_trouble: Option<Trouble>,
    /// Whether the folder was not there, as far as anybody saw, since the watcher last took what
    /// is at its path for it.
    missed: bool,
}

impl FolderAgent {
    /// Starts the lanes, the watcher and the engine.
    pub(super) fn start(
        config: FolderSettings,
        settings: repo::Settings,
        agent: &Settings,
        runtime: PathBuf,
        ear: &Ear,
        eye: Eye,
    ) -> Result<Self, Complaint> {
        let lock = lock_folder(&settings)?;
        let engine_settings = engine_settings(&config, &settings, agent);
        let engine = Engine::new(engine_settings, fastrand::u64(..), clock::now());
        let lanes = Lanes::start(&settings, runtime, ear)
            .map_err(|error| Complaint::new(Exit::Failed, error.to_string(), ""))?;
        let mut this = Self {
            config,
            settings,
            engine,
            lanes,
            _lock: lock,
            watcher: None,
            progress: [None, None],
            basic: false,
            aside: Vec::new(),
            known: None,
            last_state: None,
            last_standing: None,
            watch_trouble: None,
            missed: false,
        };
        this.watch(eye);
        Ok(this)
    }

    fn watch(&mut self, eye: Eye) {
        let git_dir = self.settings.git_dir.clone();
        let found = crate::git::Git::discover(&self.settings.root, git_dir.as_deref());
        let settings = match &found {
            Ok(git) => WatchSettings {
                root: self.settings.root.clone(),
                git_dir: canonical(git.dir()),
                common_dir: canonical(git.common_dir()),
                global_excludes: global_excludes(git),
                exclude: self.settings.exclude.clone(),
                only: self.settings.only.clone(),
                ..WatchSettings::new(self.settings.root.clone())
            },
            Err(_) => WatchSettings::new(self.settings.root.clone()),
        };
        match Watcher::start(settings, move |event| eye(event)) {
            Ok(watcher) => {
                self.watch_trouble = watcher.summary().trouble();
                self.watcher = Some(watcher);
            }
            Err(error) => {
                tracing::warn!(%error, "the folder cannot be watched; it is looked at from time to time");
                self.watch_trouble = Some(error.trouble());
            }
        }
    }

    /// Takes what a lane says. Returns the folder as the transports are to know it under this key,
    /// if that is another than before.
    pub(super) fn hear(&mut self, said: Said, key: &str) -> Option<transport::Folder> {
        match said {
            Said::Event(event) => {
                let is_found = is_found(&event);
                self.engine.handle_event(clock::now(), *event);
                self.look_after_root(is_found);
                let id = self.engine.id().unwrap_or_default();
                let known = self.known.as_mut().filter(|known| known.id != id)?;
                id.clone_into(&mut known.id);
                return Some(known.clone());
            }
            Said::Progress(lane, progress) => {
                self.progress[usize::from(lane == Lane::Network)] = progress;
            }
            Said::Basic => self.basic = true,
            Said::Damaged => self.lanes.let_go(),
            Said::Aside(aside) => {
                for new in aside.iter().filter(|it| !self.aside.contains(it)) {
                    let folder = &self.config.name;
                    tracing::warn!(folder, "{} had to make room; it is {}", new.path, new.now);
                }
                self.aside = aside;
            }
            Said::TrackedIgnored(paths) => {
                if let Some(watcher) = &self.watcher {
                    watcher.set_tracked_ignored(paths);
                }
            }
            Said::Hub(remote, ssh) => {
                let known = transport::Folder {
                    key: key.to_owned(),
                    id: self.engine.id().unwrap_or_default().to_owned(),
                    name: self.config.name.clone(),
                    root: self.settings.root.clone(),
                    branch: self.settings.branch.clone(),
                    url: remote.public,
                    peers: self.config.peers.clone(),
                    hub: remote.kind,
                    ssh_command: ssh,
                };
                self.known = Some(known.clone());
                return Some(known);
            }
        }
        None
    }

    /// Lets the watcher take what is at the folder's path for the folder once that was missed and
    /// `is_found`: it may be another directory than before, because the disk has another number now
    /// or a person approved it.
    fn look_after_root(&mut self, is_found: bool) {
        if is_found
            && std::mem::take(&mut self.missed)
            && let Some(watcher) = &self.watcher
        {
            watcher.adopt();
        }
        self.missed |= self.engine.misses_folder();
    }

    /// Takes what the watcher saw.
    pub(super) fn see(&mut self, event: WatchEvent) {
        let now = clock::now();
        match event {
            WatchEvent::Changed(changes) => self.engine.handle_event(now, Event::Changed(changes)),
            WatchEvent::Rescan(RescanWhy::Resume) => self.engine.handle_event(now, Event::Woke),
            WatchEvent::Rescan(why) => self.engine.handle_event(now, Event::Rescan(why)),
            WatchEvent::GitMoved => self.engine.handle_event(now, Event::GitMoved),
            WatchEvent::RootGone => {
                self.missed = true;
                self.engine
                    .handle_event(now, Event::Rescan(RescanWhy::Remount));
            }
            WatchEvent::Unwatched(summary) => {
                self.watch_trouble = summary.trouble();
                if let Some(Trouble { message, hint, .. }) = &self.watch_trouble {
                    tracing::warn!(folder = self.config.name, "{message} {hint}");
                } else {
                    tracing::info!(folder = self.config.name, "every directory is watched");
                }
            }
        }
    }

    /// Takes an event from elsewhere.
    pub(super) fn handle(&mut self, event: Event) {
        tracing::debug!(folder = self.config.name, ?event);
        self.engine.handle_event(clock::now(), event);
    }

    /// Takes what a transport tells about this folder. The watch of a hub knows a folder by its
    /// key alone: the identity is ours to fill in.
    pub(super) fn told(&mut self, mut event: Event) {
        if let Event::Noticed(notice, _) = &mut event
            && notice.folder.is_empty()
        {
            self.engine
                .id()
                .unwrap_or_default()
                .clone_into(&mut notice.folder);
        }
        self.handle(event);
    }

    /// Returns the folder as the transports know it, once the hub is known.
    pub(super) fn known(&self) -> Option<&transport::Folder> {
        self.known.as_ref()
    }

    /// Takes that no transport is there any more.
    pub(super) fn deafen(&mut self) {
        for kind in TransportKind::ALL {
            let (name, online) = (kind.0, false);
            self.handle(Event::Transport { name, online });
        }
    }

    /// Takes a person's request.
    pub(super) fn ask(&mut self, request: Request) {
        if request == Request::Approve && self.status().code == "history-rewritten" {
            self.lanes.approve_rewritten();
        }
        self.handle(Event::Asked(request));
    }

    /// Lets pass what is held if all of it was `shown` to the person who wants that. Returns
    /// whether it passes.
    pub(super) fn approve(&mut self, shown: &[HeldStatus]) -> bool {
        let stopped = self.stopped();
        let held = self.status().held;
        let held = held.iter().filter(|it| Code::is_approvable(&it.code));
        let standing: Vec<_> = held
            .cloned()
            .chain(stopped.iter().map(Into::into))
            .collect();
        let passes = approves(shown, &standing);
        if passes {
            if stopped.iter().any(|it| it.code == Code::HistoryRewritten) {
                self.lanes.approve_rewritten();
            }
            self.handle(Event::Asked(Request::Approve));
        }
        passes
    }

    /// Returns what stops the folder and passes once it is approved.
    pub(super) fn stopped(&self) -> Vec<Trouble> {
        self.engine.stopped()
    }

    /// Lets the timers fire that are due.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
    }

    /// Returns when the next timer fires.
    pub(super) fn due(&self) -> Option<Moment> {
        self.engine.poll_timeout()
    }

    /// Carries out what the engine wants, as far as it is the folder's own business.
    pub(super) fn act(&mut self) -> Option<Wanted> {
        Some(match self.engine.poll_action()? {
            Action::Run(job) => {
                let name = job_name(&job);
                tracing::debug!(folder = self.config.name, ?job, "run");
                match self.lanes.submit(job) {
                    Ok(()) => Wanted::Started(name),
                    Err(job) => {
                        let message = "a thread of the agent has ended";
                        let trouble = Trouble::new(
                            Code::Internal,
                            Recovery::Hold,
                            message,
                            "Restart the agent, and report its log.",
                        );
                        Wanted::Failed(refuse(&job, trouble))
                    }
                }
            }
            Action::Announce(notice) => Wanted::Announce(notice),
            Action::Confirm(notice) => Wanted::Confirm(notice),
            Action::Tell(tell) => Wanted::Tell(tell),
            Action::Answer { ticket, answer } => Wanted::Answer(ticket, Box::new(answer)),
        })
    }

    /// Returns whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// Returns whether there is nothing to do and the hub has everything.
    pub(super) fn is_synced(&self) -> bool {
        self.engine.is_synced()
    }

    /// Puts a marker behind everything that happened so far; `done` is called when the watcher
    /// has delivered all of it.
    pub(super) fn echo(&self, done: impl FnOnce() + Send + 'static) {
        match &self.watcher {
            Some(watcher) => watcher.echo(done),
            None => done(),
        }
    }

    /// Returns the folder's status.
    pub(super) fn status(&self) -> FolderStatus {
        let basics = FolderBasics {
            name: self.config.name.clone(),
            path: escape(self.settings.root.as_os_str().as_encoded_bytes()),
            hub_url: self.settings.hub.as_deref().map(public_url),
        };
        let mut status = self.engine.status(basics, &clock::wall_at);
        status.aside.clone_from(&self.aside);
        status.progress = self.progress.iter().flatten().next().cloned();
        if let (true, Some(trouble)) = (status.message.is_empty(), &self.watch_trouble) {
            status.message.clone_from(&trouble.message);
            status.hint.clone_from(&trouble.hint);
            status.code = trouble.code.word();
        }
        if status.message.is_empty() && self.basic {
            let (message, hint) = BASIC;
            message.clone_into(&mut status.message);
            hint.clone_into(&mut status.hint);
            status.code = Code::Basic.word();
        }
        status
    }

    /// Returns the status if its state, what is held or a conflict is another than at the last
    /// call, and whether the state is.
    pub(super) fn news(&mut self) -> Option<(FolderStatus, bool)> {
        let status = self.status();
        let state = Some((status.state, status.code.clone()));
        let standing = Some((
            status.held.clone(),
            status.conflicts.clone(),
            status.marked.clone(),
        ));
        let new_state = self.last_state != state;
        if !new_state && self.last_standing == standing {
            return None;
        }
        self.last_state = state;
        self.last_standing = standing;
        Some((status, new_state))
    }

    /// Lets everything be news again to somebody who has not heard it.
    pub(super) fn forget_news(&mut self) {
        self.last_standing = None;
    }

    /// Stops the watcher, and the lanes after their current jobs.
    pub(super) fn finish(self) {
        let Self { lanes, watcher, .. } = self;
        drop(watcher);
        lanes.join();
    }
}

/// Returns whether a job of the tree lane looked at the folder and nothing was in the way.
fn is_found(event: &Event) -> bool {
    if let Event::Snapshotted(outcome) = event {
        outcome.blocked.is_none()
    } else if let Event::Recovered(outcome) = event {
        outcome.blocked.is_none()
    } else {
        false
    }
}

/// Returns whether something waits, and all of it was shown.
fn approves(shown: &[HeldStatus], standing: &[HeldStatus]) -> bool {
    !standing.is_empty() && standing.iter().all(|waits| shown.contains(waits))
}

/// Takes the lock of a folder: one agent for each.
pub(super) fn lock_folder(settings: &repo::Settings) -> Result<Lock, Complaint> {
    let place =
        repo::Place::open(settings.clone()).map_err(|error| Complaint::from(&error.trouble()))?;
    let lock = Lock::acquire(&place.store.join("lock"))
        .map_err(|error| not_alone(error, &settings.root))?;
    // While nothing of ours runs here yet.
    remove_ref_locks(&place).map_err(|error| Complaint::from(&error.trouble()))?;
    Ok(lock)
}

/// Returns the word for a job in the event stream.
pub(super) fn job_name(job: &Job) -> &'static str {
    match job {
        Job::Recover => "recover",
        Job::Snapshot { .. } => "snapshot",
        Job::Merge { .. } => "merge",
        Job::Apply { .. } => "apply",
        Job::Fetch => "fetch",
        Job::Push { .. } => "push",
        Job::Maintain => "maintain",
        Job::Reword { .. } => "describe",
        Job::Notes => "notes",
        Job::Recall(_) => "recall",
    }
}

/// Returns what the engine needs to know of a folder's settings.
pub(super) fn engine_settings(
    config: &FolderSettings,
    settings: &repo::Settings,
    agent: &Settings,
) -> engine::Settings {
    let mode = |way| match way {
        Way::Auto => Mode::Auto,
        Way::Manual => Mode::Manual,
        Way::Off => Mode::Off,
    };
    let defaults = engine::Settings::default();
    engine::Settings {
        host: settings.host.clone(),
        branch: settings.branch.clone(),
        settle: Windows {
            quiet: agent.settle.quiet,
            quiet_max: agent.settle.quiet_max,
            max_wait: agent.settle.max_wait,
            max_wait_open: agent.settle.max_wait_open,
        },
        push: PushWindows {
            quiet: agent.push.quiet,
            quiet_max: agent.push.quiet_max,
            max_wait: agent.push.max_wait,
        },
        poll: config.poll.unwrap_or(defaults.poll),
        poll_live: config
            .poll
            .unwrap_or(defaults.poll_live)
            .max(Duration::from_secs(1)),
        push_mode: mode(config.push),
        receive: mode(config.receive),
        has_hub: settings.hub.is_some(),
        ask: crate::desktop::asks(&agent.desktop),
        notes: true,
        unattended: settings.guards.unattended,
        tell_after: fault::millis("AUTOSYNC_TEST_TELL_MILLIS").unwrap_or(defaults.tell_after),
        ..defaults
    }
}

fn canonical(path: &std::path::Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the user's global ignore file.
fn global_excludes(git: &crate::git::Git) -> Option<PathBuf> {
    let set = git
        .call("config", ["--type=path", "--get", "core.excludesFile"], b"")
        .ok();
    let set = set.map(|out| String::from_utf8_lossy(out.trim_ascii()).into_owned());
    match set {
        Some(path) if !path.is_empty() => Some(PathBuf::from(path)),
        Some(_) | None => {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
            let config = config.filter(|dir| dir.is_absolute());
            Some(
                config
                    .or_else(|| Some(home?.join(".config")))?
                    .join("git/ignore"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_shown_passes_and_only_if_it_is_everything() {
        let of = |code: Code, message: &str| {
            HeldStatus::from(&Trouble::new(code, Recovery::Hold, message, ""))
        };
        let here = of(Code::MassDelete, "60 files were deleted at once");
        let incoming = HeldStatus {
            incoming: true,
            ..here.clone()
        };
        let grown = of(Code::MassDelete, "70 files were deleted at once");
        let emptied = of(Code::HubEmptied, "the hub lost the branch that it had");
        let shown = [here.clone(), emptied.clone()];
        assert!(approves(&shown, &shown));
        assert!(approves(&shown, std::slice::from_ref(&here)));
        assert!(!approves(&shown, &[]));
        for more in [incoming, grown, of(Code::RootChanged, "another disk")] {
            assert!(!approves(&shown, &[here.clone(), more]));
        }
        assert!(!approves(&[here], &[emptied]));
    }
}
