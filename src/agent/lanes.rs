//! The two threads of a folder: one for its work tree, one for its hub.
//!
//! Each does one job at a time and answers every job with exactly one outcome, also if the folder
//! cannot be opened or the job panics: the engine never waits for an answer that does not come.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::engine::action::{Job, Lane, Scope};
use crate::engine::event::{
    Applied, Change, ChangeKind, Code, Described, Event, Fetched, Merged, Pushed, Recovered,
    Recovery, Snapshotted, Trouble,
};
use crate::engine::recall::Recalled;
use crate::engine::status::{AsideStatus, Progress};
use crate::fault;
use crate::git::index::records;
use crate::git::refs;
use crate::names::{ObjectId, RepoPath, escape};
use crate::repo::aside::{Aside, set_aside};
use crate::repo::contact::{identify, identify_as, is_shallow};
use crate::repo::displaced::{Late, sweep_displaced};
use crate::repo::folder::Folder;
use crate::repo::network::{Remote, Terms, fetch, notes, push, root};
use crate::repo::root::here;
use crate::repo::{Place, RepoError, Settings};
use crate::sys;
use crate::watch;

/// How often displaced files are looked at while there are any.
const SWEEP: Duration = Duration::from_secs(61);

/// What a lane has to say.
#[derive(Debug)]
pub enum Said {
    /// An outcome, or a commit that is stored.
    Event(Box<Event>),
    /// What a long job of a lane is at; `None` when it is over.
    Progress(Lane, Option<Progress>),
    /// The disk cannot exchange two files in one call.
    Basic,
    /// How the hub is reached.
    Hub(Box<Remote>, Option<String>),
    /// Everything that git ignores and that had to make room for what came in.
    Aside(Vec<AsideStatus>),
    /// Paths that git ignores and tracks all the same.
    TrackedIgnored(std::collections::BTreeSet<RepoPath>),
    /// The repository turned out to be damaged.
    Damaged,
}

/// What a lane is to do.
#[derive(Debug)]
enum Order {
    /// This job.
    Do(Job),
    /// Let go of what the object library knows of the repository.
    LetGo,
}

/// Where a lane says it.
pub type Ear = Arc<dyn Fn(Said) + Send + Sync>;

/// The threads of one folder. Dropping it lets them end after their current jobs.
#[derive(Debug)]
pub struct Lanes {
    tree: Sender<Order>,
    network: Sender<Order>,
    /// Whether a person approved the hub's new history: the next fetch takes it.
    approved: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// Starts the threads.
    pub fn start(settings: &Settings, runtime: PathBuf, ear: &Ear) -> std::io::Result<Self> {
        let (tree, tree_jobs) = channel();
        let (network, network_jobs) = channel();
        let approved = Arc::new(AtomicBool::new(false));
        let name = settings
            .root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let damage = Damage::default();
        let (s, e) = (settings.clone(), Arc::clone(ear));
        let first = thread::Builder::new().name(format!("tree {name}")).spawn({
            let damage = damage.clone();
            move || tree_lane(&s, &tree_jobs, &damage, &e)
        })?;
        let (s, e) = (settings.clone(), Arc::clone(ear));
        let second = thread::Builder::new().name(format!("net {name}")).spawn({
            let approved = Arc::clone(&approved);
            move || network_lane(&s, &runtime, &network_jobs, &approved, &damage, &e)
        })?;
        Ok(Self {
            tree,
            network,
            approved,
            threads: vec![first, second],
        })
    }

    /// Hands a job to its lane. Returns the job if the lane is gone.
    pub fn submit(&self, job: Job) -> Result<(), Box<Job>> {
        let lane = match job.lane() {
            Lane::Tree | Lane::Both => &self.tree,
            Lane::Network => &self.network,
        };
        lane.send(Order::Do(job))
            .map_err(|SendError(refused)| match refused {
                Order::Do(job) => Box::new(job),
                // Never sent from here.
                Order::LetGo => Box::new(Job::Maintain),
            })
    }

    /// Lets both lanes forget what the object library knows of a repository that is damaged: it
    /// remembers a damaged pack as long as anybody in this process has it open.
    pub fn let_go(&self) {
        for lane in [&self.tree, &self.network] {
            if lane.send(Order::LetGo).is_err() {
                tracing::debug!("a lane has ended");
            }
        }
    }

    /// Lets the next fetch take a history of the hub that was rewritten.
    pub fn approve_rewritten(&self) {
        self.approved.store(true, Ordering::Release);
    }

    /// Lets the threads end and waits for them.
    pub fn join(self) {
        let Self {
            tree,
            network,
            threads,
            ..
        } = self;
        drop(tree);
        drop(network);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a lane panicked");
            }
        }
    }
}

/// Returns the outcome of a job that could not be done.
pub fn refuse(job: &Job, trouble: Trouble) -> Event {
    match job {
        Job::Recover => Event::Recovered(Recovered {
            tip: None,
            copies: Vec::new(),
            marked: Vec::new(),
            hub: None,
            id: None,
            blocked: Some(trouble),
        }),
        Job::Snapshot { .. } => Event::Snapshotted(Snapshotted {
            blocked: Some(trouble),
            ..Snapshotted::default()
        }),
        Job::Merge { .. } => Event::Merged(Merged::Blocked(trouble)),
        Job::Apply { .. } => Event::Applied(Applied {
            blocked: Some(trouble),
            ..Applied::default()
        }),
        Job::Fetch => Event::Fetched(Fetched::Failed(trouble)),
        Job::Push { .. } => Event::Pushed(Pushed::Failed(trouble)),
        Job::Maintain => Event::Maintained(Err(trouble)),
        Job::Reword { .. } => Event::Described(Described::Blocked(trouble)),
        Job::Notes => Event::NotesExchanged(Err(trouble)),
        Job::Recall(_) => Event::Recalled(Box::new(Recalled {
            answer: Err(trouble),
            committed: None,
            applied: None,
        })),
    }
}

/// Whether the repository of a folder is known to be damaged: then nobody keeps its objects open
/// from one job to the next, and each try sees what a person mended meanwhile.
#[derive(Debug, Clone, Default)]
struct Damage(Arc<AtomicBool>);

impl Damage {
    /// Takes the outcome of a job, and opens the objects anew if they are damaged.
    fn after(&self, job: &Job, outcome: &Event, place: Option<&mut Place>, ear: &Ear) {
        match trouble_of(outcome) {
            Some(trouble) if trouble.code == Code::Damaged => {
                if !self.0.swap(true, Ordering::AcqRel) {
                    ear(Said::Damaged);
                }
            }
            None if matches!(job, Job::Recover | Job::Snapshot { .. }) => {
                self.0.store(false, Ordering::Release);
            }
            Some(_) | None => {}
        }
        if self.0.load(Ordering::Acquire) {
            forget_objects(place);
        }
    }
}

/// Lets go of what the object library knows of a repository.
fn forget_objects(place: Option<&mut Place>) {
    let Some(place) = place else {
        return;
    };
    if let Err(error) = place.open_objects() {
        tracing::debug!(%error, "the objects cannot be opened again");
    }
}

/// Returns what was in the way of a job.
fn trouble_of(outcome: &Event) -> Option<&Trouble> {
    match outcome {
        Event::Recovered(Recovered { blocked, .. })
        | Event::Snapshotted(Snapshotted { blocked, .. })
        | Event::Applied(Applied { blocked, .. }) => blocked.as_ref(),
        Event::Merged(Merged::Blocked(trouble))
        | Event::Fetched(Fetched::Failed(trouble))
        | Event::Pushed(Pushed::Failed(trouble))
        | Event::Described(Described::Blocked(trouble))
        | Event::Maintained(Err(trouble))
        | Event::NotesExchanged(Err(trouble)) => Some(trouble),
        Event::Recalled(recalled) => recalled.answer.as_ref().err(),
        Event::Changed(_)
        | Event::Rescan(_)
        | Event::GitMoved
        | Event::Stored { .. }
        | Event::Merged(_)
        | Event::Fetched(_)
        | Event::Pushed(_)
        | Event::Maintained(Ok(()))
        | Event::Described(_)
        | Event::NotesExchanged(Ok(()))
        | Event::RecallAsked { .. }
        | Event::Answered { .. }
        | Event::Identified(_)
        | Event::Noticed(..)
        | Event::Confirmed { .. }
        | Event::Transport { .. }
        | Event::Asked(_)
        | Event::Woke => None,
    }
}

/// Runs a job; a panic in it is a trouble like any other.
fn guarded(job: &Job, work: impl FnOnce() -> Event) -> Event {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(?job, "a job panicked");
        let message = "the agent met a fault of its own; it is in the log";
        let hint = "Report it with the log; the folder itself is as it was.";
        refuse(
            job,
            Trouble::new(Code::Internal, Recovery::Retry, message, hint),
        )
    })
}

fn tree_lane(settings: &Settings, jobs: &Receiver<Order>, damage: &Damage, ear: &Ear) {
    let mut folder: Option<Folder> = None;
    let mut identified = false;
    let mut told_basic = false;
    let mut told_aside = Vec::new();
    let counts = Rc::new(Cell::new(false));
    let sweeps = fault::millis("AUTOSYNC_SWEEP_MILLIS").unwrap_or(SWEEP);
    loop {
        let job = match jobs.recv_timeout(sweeps) {
            Ok(Order::Do(job)) => job,
            Ok(Order::LetGo) => {
                forget_objects(folder.as_mut().map(|here| &mut here.place));
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                if let Some(Err(error)) = folder.map(|folder| folder.boot.end(&folder.place)) {
                    tracing::info!(%error, "the clean end could not be noted");
                }
                return;
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(folder) = &folder {
                    sweep(folder, ear);
                    tell_aside(&folder.place, &mut told_aside, ear);
                }
                continue;
            }
        };
        let _span = tracing::debug_span!("tree", ?job).entered();
        let outcome = guarded(&job, || {
            let here = match folder.take() {
                Some(here) => here,
                None => match Folder::open(settings.clone()) {
                    Ok(here) => {
                        let (counts, ear) = (Rc::clone(&counts), Arc::clone(ear));
                        here.place.meter.tell(move |at| {
                            counts.set(true);
                            ear(Said::Progress(Lane::Tree, Some(at)));
                        });
                        here
                    }
                    Err(error) => return refuse(&job, error.trouble()),
                },
            };
            let here = folder.insert(here);
            let outcome = here.run(job.clone(), &mut |event| ear(Said::Event(Box::new(event))));
            let looks_at_everything = match &job {
                Job::Recover => true,
                // Changed rules end in such a look.
                Job::Snapshot { scope, .. } => *scope == Scope::Everything,
                Job::Merge { .. }
                | Job::Apply { .. }
                | Job::Fetch
                | Job::Push { .. }
                | Job::Reword { .. }
                | Job::Recall(_)
                | Job::Notes
                | Job::Maintain => false,
            };
            if looks_at_everything {
                tell_tracked_ignored(&here.place, ear);
            }
            if let (Job::Merge { hub }, false) = (&job, identified)
                && !matches!(outcome, Event::Merged(Merged::Blocked(_)))
            {
                identified = tell_identity(&here.place, *hub, ear);
            }
            outcome
        });
        let was_long = counts.take();
        if was_long {
            ear(Said::Progress(Lane::Tree, None));
        }
        if !told_basic && folder.as_ref().is_some_and(|here| here.place.basic.get()) {
            told_basic = true;
            ear(Said::Basic);
        }
        if let (
            Job::Recover | Job::Snapshot { .. } | Job::Apply { .. } | Job::Recall(_),
            Some(here),
        ) = (&job, &folder)
        {
            tell_aside(&here.place, &mut told_aside, ear);
        }
        let place = folder.as_mut().map(|here| &mut here.place);
        damage.after(&job, &outcome, place, ear);
        ear(Said::Event(Box::new(outcome)));
        if was_long || job == Job::Recover {
            sys::give_back_memory();
        }
    }
}

/// Writes the folder's identity after the first push, and tells it.
///
/// Returns whether it is known now.
fn tell_identity(place: &Place, commit: ObjectId, ear: &Ear) -> bool {
    match identify(place, commit) {
        Ok(Some(id)) => {
            ear(Said::Event(Box::new(Event::Identified(id))));
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(%error, "the folder's identity could not be written");
            false
        }
    }
}

/// Asks the hub for the identity of a shallow clone, which does not have its own root, and tells
/// it.
///
/// `tip` is the hub's. Returns whether it is known now.
fn ask_identity(
    place: &Place,
    remote: &Remote,
    tip: ObjectId,
    terms: &Terms<'_>,
    ear: &Ear,
) -> bool {
    let found = || -> Result<Option<String>, RepoError> {
        if place.has_identity()? || !is_shallow(place) {
            return Ok(None);
        }
        // What has nothing in common with us is not what we are.
        let ours = refs::read(&place.git, &place.objects, &place.branch_ref())?;
        if let Some(ours) = ours
            && place.objects.merge_bases(tip, ours)?.is_empty()
        {
            return Ok(None);
        }
        let root = root(place, remote, tip, terms)?;
        root.map(|root| identify_as(place, root)).transpose()
    };
    match found() {
        Ok(Some(id)) => {
            ear(Said::Event(Box::new(Event::Identified(id))));
            true
        }
        Ok(None) => false,
        Err(error) => {
            let trouble = error.trouble();
            tracing::warn!(
                message = trouble.message,
                "a shallow clone could not learn its root from the hub; `git fetch --unshallow` helps"
            );
            false
        }
    }
}

/// Looks at displaced files; a late edit in one is a change of its path, and so is a secret that is
/// not told yet, or was told and is none any more.
fn sweep(folder: &Folder, ear: &Ear) {
    let Late { edits, secrets } = match sweep_displaced(&folder.place, clock::now()) {
        Ok(late) => late,
        Err(error) => {
            tracing::warn!(%error, "displaced files could not be looked at");
            return;
        }
    };
    let told = &folder.late_secrets;
    let new = secrets.iter().filter(|it| !told.contains(it));
    let over = told.iter().filter(|it| !secrets.contains(it));
    let late = edits.iter().map(|edit| &edit.path);
    let paths = late.chain(new.chain(over).map(|it| &it.path));
    let changed = |path: &RepoPath| Change {
        path: path.clone(),
        kind: ChangeKind::Closed,
    };
    let changes: Vec<Change> = paths.map(changed).collect();
    if !changes.is_empty() {
        ear(Said::Event(Box::new(Event::Changed(changes))));
    }
}

/// Tells what had to make room here, if that is other than what was told.
fn tell_aside(place: &Place, told: &mut Vec<AsideStatus>, ear: &Ear) {
    match set_aside(place) {
        Ok(found) => {
            let text = |aside: Aside| AsideStatus {
                path: aside.path.to_string(),
                now: escape(aside.now.as_os_str().as_encoded_bytes()),
            };
            let found: Vec<AsideStatus> = found.into_iter().map(text).collect();
            if found != *told {
                told.clone_from(&found);
                ear(Said::Aside(found));
            }
        }
        Err(error) => tracing::warn!(%error, "what had to make room is not known"),
    }
}

/// Tells which tracked paths the watcher would take for ignored or transient ones.
fn tell_tracked_ignored(place: &Place, ear: &Ear) {
    let ignored = ["-z", "-c", "-i", "--exclude-standard"].map(str::to_owned);
    let exclude = place
        .settings
        .exclude
        .iter()
        .map(|pattern| format!("--exclude={pattern}"));
    let ignored = place
        .git
        .call("ls-files", ignored.into_iter().chain(exclude), b"");
    let all = place.git.call("ls-files", ["-z", "-c"], b"");
    match (ignored, all) {
        (Ok(ignored), Ok(all)) => {
            let path = |path| RepoPath::new(path).ok();
            let fleeting = |path: &RepoPath| watch::transient(path.file_name()).is_some();
            let ignored = records(&ignored).filter_map(path);
            let fleeting = records(&all).filter_map(path).filter(fleeting);
            ear(Said::TrackedIgnored(ignored.chain(fleeting).collect()));
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "tracked files that are ignored are not known");
        }
    }
}

fn network_lane(
    settings: &Settings,
    runtime: &std::path::Path,
    jobs: &Receiver<Order>,
    approved: &AtomicBool,
    damage: &Damage,
    ear: &Ear,
) {
    let mut known: Option<(Place, Remote)> = None;
    let (mut identified, mut asked) = (false, false);
    let mut refused_notes = None;
    let open = || -> Result<Option<(Place, Remote)>, RepoError> {
        let place = Place::open(settings.clone())?;
        let Some(remote) = Remote::of(&place)? else {
            return Ok(None);
        };
        let ssh = place.git.config("core.sshCommand")?;
        ear(Said::Hub(Box::new(remote.clone()), ssh));
        Ok(Some((place, remote)))
    };
    match open() {
        Ok(found) => known = found,
        Err(error) => tracing::debug!(%error, "the hub is not known yet"),
    }
    while let Ok(order) = jobs.recv() {
        let Order::Do(job) = order else {
            forget_objects(known.as_mut().map(|(place, _)| place));
            continue;
        };
        let _span = tracing::debug_span!("network", ?job).entered();
        let outcome = guarded(&job, || {
            if known.is_none() {
                match open() {
                    Ok(found) => known = found,
                    Err(error) => return refuse(&job, error.trouble()),
                }
            }
            let Some((place, remote)) = &known else {
                let message = "this folder has no hub";
                return refuse(
                    &job,
                    Trouble::new(Code::HubMissing, Recovery::Hold, message, ""),
                );
            };
            // Nothing is said of the hub by a folder that is not there.
            if let Err(error) = here(place) {
                return refuse(&job, error.trouble());
            }
            let progress = |at| ear(Said::Progress(Lane::Network, Some(at)));
            let terms = Terms {
                runtime,
                approved: job == Job::Fetch && approved.swap(false, Ordering::AcqRel),
                progress: &progress,
            };
            match &job {
                Job::Fetch => {
                    let fetched = fetch(place, remote, &terms);
                    if let (Fetched::Tip(Some(tip)), false) = (&fetched, asked || identified) {
                        asked = true;
                        identified = ask_identity(place, remote, *tip, &terms, ear);
                    }
                    Event::Fetched(fetched)
                }
                Job::Push { commit } => {
                    let pushed = push(place, remote, *commit, &terms);
                    if let (Pushed::Confirmed { commit }, false) = (&pushed, identified) {
                        identified = tell_identity(place, *commit, ear)
                            || ask_identity(place, remote, *commit, &terms, ear);
                        asked = true;
                    }
                    Event::Pushed(pushed)
                }
                Job::Notes => {
                    let done = notes::exchange(place, remote, &mut refused_notes, &terms)
                        .map_err(|error| error.trouble());
                    match &done {
                        Ok(()) => {}
                        Err(why) if why.code == Code::Declined => {
                            tracing::warn!("the notes stay here: {}", why.message);
                        }
                        Err(why) => {
                            let why = &why.message;
                            tracing::info!("the notes could not be brought together: {why}");
                        }
                    }
                    Event::NotesExchanged(done)
                }
                Job::Recover
                | Job::Snapshot { .. }
                | Job::Merge { .. }
                | Job::Apply { .. }
                | Job::Reword { .. }
                | Job::Recall(_)
                | Job::Maintain => {
                    let message = "a tree job came to the network lane";
                    refuse(
                        &job,
                        Trouble::new(Code::Internal, Recovery::Retry, message, ""),
                    )
                }
            }
        });
        ear(Said::Progress(Lane::Network, None));
        let place = known.as_mut().map(|(place, _)| place);
        damage.after(&job, &outcome, place, ear);
        ear(Said::Event(Box::new(outcome)));
    }
}
