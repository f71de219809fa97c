//! The agent: drives every folder in one loop and answers the control API.
//!
//! Everything that happens comes through one inbox: outcomes of the lanes, reports of the
//! watchers, notices of the transports, questions of people. The loop hands each to its folder's
//! engine, carries out what the engine wants, and sleeps until the next timer. It decides nothing
//! about a folder itself.
//!
//! Invariants:
//! 1. Nothing in the loop blocks: git, walks and hashing are on the folders' own threads.
//! 2. A full queue of watcher reports becomes one `Rescan`; outcomes of jobs are never dropped.
//! 3. A message from a folder that was stopped or restarted meanwhile reaches nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::clock;
use crate::config::{FolderSettings, Settings};
use crate::control::{
    self, Ask, Door, EVENTS_KEPT, FolderConflicts, Happening, Refusal, Reply, Until, What,
};
use crate::desktop::{Deed, Desktop};
use crate::engine::action::Tell;
use crate::engine::event::{Event, Request, RescanWhy, Trouble};
use crate::engine::status::{AgentStatus, FolderStatus, Status};
use crate::error::Complaint;
use crate::paths::Paths;
use crate::process;
use crate::repo;
use crate::transport::Transport;
use crate::watch::WatchEvent;

pub mod away;
pub mod lanes;
pub mod once;
pub mod prepare;

mod folder;
mod log;
pub mod recall;
mod reload;
mod repository;
mod screen;
pub mod transports;

use away::{Absent, Away};
use folder::{FolderAgent, Wanted};
use lanes::Said;
use log::log;
use recall::Asker;
use transports::transports;

/// How many watcher reports may wait.
const QUEUE: usize = 256;

/// How long the lanes have to finish when the agent leaves.
const LEAVE: Duration = Duration::from_secs(4);

/// One thing that reached the agent.
enum Inbox {
    /// A lane said something.
    Said(u64, Said),
    /// A watcher saw something.
    Seen(u64, WatchEvent),
    /// A watcher delivered everything before this marker.
    Echo(u64, u64),
    /// A transport reports for the folder of this key.
    Told(String, Box<Event>),
    /// A transport as a whole has a trouble, or has it no longer.
    Herald(&'static str, Option<Trouble>),
    /// Somebody clicked on something of the folder of this key.
    Clicked(String, Deed),
    /// A folder that could not be cared for was looked for.
    Looked(u64, Box<Result<repo::Settings, Absent>>),
}

/// A folder that is ready to be cared for, or why it is not.
pub type Prepared = (FolderSettings, Result<repo::Settings, Absent>);

/// Reads the configuration again; an error is said by the function itself.
pub type Reload = Box<dyn FnMut() -> Option<(Settings, Vec<Prepared>)>>;

/// The agent of one user.
pub struct Agent {
    settings: Settings,
    paths: Paths,
    runtime: PathBuf,
    folders: BTreeMap<u64, FolderAgent>,
    /// Folders that are waited for.
    away: BTreeMap<u64, Away>,
    next: u64,
    inbox: (mpsc::UnboundedSender<Inbox>, mpsc::UnboundedReceiver<Inbox>),
    seen: (mpsc::Sender<Inbox>, mpsc::Receiver<Inbox>),
    overflow: Arc<AtomicBool>,
    transports: Vec<Box<dyn Transport>>,
    desktop: Desktop,
    events: broadcast::Sender<Happening>,
    barriers: Vec<Barrier>,
    since: String,
    next_ticket: u64,
    /// Who wants something back, and in which folder.
    recalls: BTreeMap<u64, (u64, Asker)>,
}

/// Somebody who waits until what happened before the question is dealt with.
struct Barrier {
    ticket: u64,
    until: Until,
    /// Folders whose watcher has not echoed yet.
    echoes: Vec<u64>,
    folders: Vec<u64>,
    reply: Reply<Status>,
}

impl Agent {
    /// Creates an agent and starts its folders. Must be called inside a tokio runtime.
    ///
    /// Errors if there is none that can be cared for and none worth waiting for.
    pub fn new(
        settings: Settings,
        paths: Paths,
        runtime: PathBuf,
        folders: Vec<Prepared>,
    ) -> Result<Self, Complaint> {
        let inbox = mpsc::unbounded_channel();
        let seen = mpsc::channel(QUEUE);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let mut this = Self {
            transports: transports(&settings, &runtime, &inbox.0),
            desktop: screen::desktop(&settings, &inbox.0),
            settings,
            paths,
            runtime,
            folders: BTreeMap::new(),
            away: BTreeMap::new(),
            next: 0,
            inbox,
            seen,
            overflow: Arc::new(AtomicBool::new(false)),
            events,
            barriers: Vec::new(),
            since: clock::wall(),
            next_ticket: 0,
            recalls: BTreeMap::new(),
        };
        for folder in folders {
            this.add_folder(folder);
        }
        if this.nothing_to_do()
            && let Some((_, away)) = this.away.pop_first()
        {
            return Err(away.into_complaint());
        }
        Ok(this)
    }

    fn add_folder(&mut self, (config, settings): Prepared) {
        let id = self.next;
        self.next += 1;
        match settings {
            Ok(settings) => self.try_folder(id, config, settings),
            Err(absent) => self.wait_for(id, config, &absent),
        }
    }

    fn start_folder(
        &mut self,
        id: u64,
        config: FolderSettings,
        settings: repo::Settings,
    ) -> Result<(), Complaint> {
        let inbox = self.inbox.0.clone();
        let ear: lanes::Ear = Arc::new(move |said| {
            // The agent is gone: so is everybody who could want to know.
            drop(inbox.send(Inbox::Said(id, said)));
        });
        let (seen, overflow) = (self.seen.0.clone(), Arc::clone(&self.overflow));
        let eye: folder::Eye = Arc::new(move |event| {
            if seen.try_send(Inbox::Seen(id, event)).is_err() {
                overflow.store(true, Ordering::Relaxed);
            }
        });
        let agent = FolderAgent::start(
            config,
            settings,
            &self.settings,
            self.runtime.clone(),
            &ear,
            eye,
        )?;
        self.folders.insert(id, agent);
        self.introduce(id);
        Ok(())
    }

    fn stop_folder(&mut self, id: u64) {
        if let Some(folder) = self.folders.remove(&id) {
            for transport in &mut self.transports {
                transport.unwatch(&id.to_string());
            }
            self.desktop.forget(&id.to_string());
            folder.finish();
            self.recalls.retain(|_, (of, _)| *of != id);
            for barrier in &mut self.barriers {
                barrier.echoes.retain(|waiting| *waiting != id);
            }
        }
    }

    /// Runs until somebody asks it to stop, or `stop` is ready. `hangup` delivers requests to
    /// read the configuration again.
    pub async fn run(
        mut self,
        door: Option<Door>,
        mut stop: impl Future<Output = ()> + Unpin,
        mut hangup: mpsc::Receiver<()>,
        mut reload: Reload,
    ) {
        let (ask_tx, mut asks) = mpsc::channel(64);
        let (close, closed) = oneshot::channel::<()>();
        let server = door.map(|door| {
            tokio::spawn(control::serve(door, ask_tx, async {
                // Closed and dropped are the same: the agent leaves.
                drop(closed.await);
            }))
        });
        loop {
            self.pump();
            let due = self.folders.values().filter_map(FolderAgent::due);
            let due = due.chain(self.next_look()).min();
            let sleep = due.map_or(Duration::from_secs(3600), clock::until);
            tokio::select! {
                Some(item) = self.inbox.1.recv() => self.take(item),
                Some(item) = self.seen.1.recv() => self.take(item),
                Some(ask) = asks.recv() => {
                    if self.answer(ask) {
                        break;
                    }
                }
                () = tokio::time::sleep(sleep) => {}
                () = &mut stop => break,
                Some(()) = hangup.recv() => {
                    if let Some((settings, folders)) = reload() {
                        self.reconfigure(settings, folders);
                    }
                }
            }
            // What is there already is taken in one go.
            while let Ok(item) = self.inbox.1.try_recv() {
                self.take(item);
            }
            while let Ok(item) = self.seen.1.try_recv() {
                self.take(item);
            }
            if self.overflow.swap(false, Ordering::Relaxed) {
                for folder in self.folders.values_mut() {
                    folder.handle(Event::Rescan(RescanWhy::Overflow));
                }
            }
            let now = clock::now();
            for folder in self.folders.values_mut() {
                folder.tick(now);
            }
            self.look_for_folders(now);
        }
        self.leave(close, server).await;
    }

    /// Leaves: nothing new begins, and what runs has a few seconds to end.
    async fn leave(
        mut self,
        close: oneshot::Sender<()>,
        server: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    ) {
        for barrier in self.barriers.drain(..) {
            drop(barrier.reply.send(Err(Refusal::Stopping)));
        }
        for folder in self.folders.values_mut() {
            folder.ask(Request::Stop);
        }
        let finished = tokio::task::spawn_blocking({
            let folders: Vec<FolderAgent> =
                std::mem::take(&mut self.folders).into_values().collect();
            let transports = std::mem::take(&mut self.transports);
            let desktop = self.desktop;
            move || {
                drop(desktop);
                drop(transports);
                for folder in folders {
                    folder.finish();
                }
            }
        });
        drop(self.events);
        if close.send(()).is_err() {
            tracing::debug!("the control API was closed already");
        }
        if tokio::time::timeout(LEAVE, finished).await.is_err() {
            // The journal makes this safe.
            tracing::warn!("a job did not end in time; the next start finishes it");
        }
        // Neither a network child nor a question for a message must outlive us.
        process::kill_all();
        if let Some(server) = server
            && tokio::time::timeout(Duration::from_millis(500), server)
                .await
                .is_err()
        {
            tracing::debug!("a caller of the control API was cut off");
        }
    }

    fn take(&mut self, item: Inbox) {
        match item {
            Inbox::Said(id, said) => {
                let Some(folder) = self.folders.get_mut(&id) else {
                    return;
                };
                if let Said::Progress(_, Some(at)) = &said {
                    // Nobody listens most of the time.
                    drop(self.events.send(Happening {
                        at: clock::wall(),
                        folder: folder.config.name.clone(),
                        what: What::Progress { at: at.clone() },
                    }));
                }
                if let Some(known) = folder.hear(said, &id.to_string()) {
                    for transport in &mut self.transports {
                        transport.watch(&known);
                    }
                }
            }
            Inbox::Seen(id, event) => {
                if let Some(folder) = self.folders.get_mut(&id) {
                    folder.see(event);
                }
            }
            Inbox::Echo(id, ticket) => {
                for barrier in self.barriers.iter_mut().filter(|it| it.ticket == ticket) {
                    barrier.echoes.retain(|waiting| *waiting != id);
                }
            }
            Inbox::Told(key, event) => {
                let id = key.parse().ok();
                if let Some(folder) = id.and_then(|id: u64| self.folders.get_mut(&id)) {
                    folder.told(*event);
                }
            }
            Inbox::Herald(name, trouble) => {
                let tell = trouble.map_or(Tell::Solved, Tell::Problem);
                self.tell_of_transport(name, &tell);
            }
            Inbox::Clicked(key, deed) => self.clicked(&key, deed),
            Inbox::Looked(id, found) => self.looked(id, *found),
        }
    }

    /// Tells the user what is the matter with a transport. It stands where a folder's name does.
    fn tell_of_transport(&self, name: &str, tell: &Tell) {
        for transport in &self.transports {
            transport.tell("", tell);
        }
        self.show_transport(name, tell);
        log(name, tell);
        // Nobody listens most of the time.
        drop(self.events.send(Happening {
            at: clock::wall(),
            folder: name.to_owned(),
            what: What::from(tell),
        }));
    }

    /// Carries out what the engines want, and answers those whose wait is over.
    fn pump(&mut self) {
        self.tell_of_the_away();
        let events = &self.events;
        let publish = |folder: &str, what: What| {
            // Nobody listens most of the time.
            drop(events.send(Happening {
                at: clock::wall(),
                folder: folder.to_owned(),
                what,
            }));
        };
        for (id, folder) in &mut self.folders {
            while let Some(wanted) = folder.act() {
                match wanted {
                    Wanted::Announce(notice) => {
                        for transport in &self.transports {
                            transport.announce(&notice);
                        }
                    }
                    Wanted::Confirm(notice) => {
                        for transport in &self.transports {
                            transport.confirm(&notice);
                        }
                    }
                    Wanted::Tell(tell) => {
                        for transport in &self.transports {
                            transport.tell(&id.to_string(), &tell);
                        }
                        self.desktop.tell(&id.to_string(), &tell);
                        log(&folder.config.name, &tell);
                        publish(&folder.config.name, What::from(&tell));
                    }
                    Wanted::Started(job) => {
                        publish(
                            &folder.config.name,
                            What::Started {
                                job: job.to_owned(),
                            },
                        );
                    }
                    Wanted::Answer(ticket, answer) => {
                        if let Some((_, asker)) = self.recalls.remove(&ticket) {
                            asker.answer(&self.desktop, *id, *answer);
                        }
                    }
                    Wanted::Failed(event) => folder.handle(event),
                }
            }
            let Some((status, new_state)) = folder.news() else {
                continue;
            };
            self.desktop.stand(&id.to_string(), &status);
            if new_state {
                publish(
                    &folder.config.name,
                    What::State {
                        state: status.state,
                        code: status.code,
                        message: status.message,
                        hint: status.hint,
                    },
                );
            }
        }
        self.answer_barriers();
    }

    fn answer_barriers(&mut self) {
        let mut barriers = std::mem::take(&mut self.barriers);
        barriers.retain(|barrier| !barrier.reply.is_closed());
        let (over, waiting): (Vec<_>, Vec<_>) = barriers.into_iter().partition(|barrier| {
            let so = |folder: &FolderAgent| match barrier.until {
                Until::Idle => folder.is_idle(),
                Until::Synced => folder.is_synced(),
            };
            barrier.echoes.is_empty()
                && barrier.folders.iter().all(|id| {
                    self.folders.get(id).is_none_or(so) && !self.is_away(*id, barrier.until)
                })
        });
        self.barriers = waiting;
        for barrier in over {
            drop(barrier.reply.send(Ok(self.status())));
        }
    }

    fn status(&self) -> Status {
        Status {
            version: 1,
            host: self.settings.host.clone(),
            agent: AgentStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                since: self.since.clone(),
            },
            folders: self.statuses(),
            transports: self
                .transports
                .iter()
                .map(|transport| transport.status())
                .collect(),
        }
    }

    /// Returns how every folder stands, those that are waited for in their places.
    fn statuses(&self) -> Vec<FolderStatus> {
        let here = self.folders.iter().map(|(id, it)| (*id, it.status()));
        let away = self.away.iter().map(|(id, it)| (*id, it.status()));
        let all: BTreeMap<u64, FolderStatus> = here.chain(away).collect();
        all.into_values().collect()
    }

    /// Returns every folder's configuration.
    fn configs(&self) -> impl Iterator<Item = (u64, &FolderSettings)> {
        let here = self.folders.iter().map(|(id, it)| (*id, &it.config));
        here.chain(self.away.iter().map(|(id, it)| (*id, &it.config)))
    }

    /// Returns the folders that were asked for.
    fn named(&self, asked: Option<&str>) -> Result<Vec<u64>, Refusal> {
        let Some(asked) = asked else {
            return Ok(self.configs().map(|(id, _)| id).collect());
        };
        let hit = |id: u64, config: &FolderSettings| {
            let folder = self.folders.get(&id);
            config.name == asked
                || folder.is_some_and(|folder| folder.settings.root.to_str() == Some(asked))
                || config.path.to_str() == Some(asked)
        };
        let found: Vec<u64> = self
            .configs()
            .filter(|(id, config)| hit(*id, config))
            .map(|(id, _)| id)
            .collect();
        if found.is_empty() {
            let known = self.configs();
            let known = known.map(|(_, config)| config.name.clone()).collect();
            let asked = crate::names::escape(asked.as_bytes());
            return Err(Refusal::NoSuchFolder { asked, known });
        }
        Ok(found)
    }

    fn request(&mut self, asked: Option<&str>, request: Request) -> Result<(), Refusal> {
        for id in self.named(asked)? {
            if let Some(folder) = self.folders.get_mut(&id) {
                folder.ask(request);
            } else if let Some(away) = self.away.get_mut(&id) {
                away.hurry();
            }
        }
        if matches!(request, Request::Sync | Request::Resume) {
            for transport in &self.transports {
                transport.retry();
            }
        }
        Ok(())
    }

    /// Answers a question. Returns whether the agent is to leave.
    fn answer(&mut self, ask: Ask) -> bool {
        // A caller that hung up meanwhile needs no answer.
        match ask {
            Ask::Status { reply } => drop(reply.send(Ok(self.status()))),
            Ask::Events { reply } => drop(reply.send(Ok(self.events.subscribe()))),
            Ask::Conflicts { reply } => {
                let conflicts = self
                    .status()
                    .folders
                    .into_iter()
                    .map(|folder| FolderConflicts {
                        folder: folder.name,
                        path: folder.path,
                        conflicts: folder.conflicts,
                        marked: folder.marked,
                        aside: folder.aside,
                    });
                drop(reply.send(Ok(conflicts.collect())));
            }
            Ask::Log { question, reply } => self.list(&question, reply),
            Ask::Sync { folder, reply } => {
                drop(reply.send(self.request(folder.as_deref(), Request::Sync)));
            }
            Ask::Pause {
                folder,
                length,
                reply,
            } => {
                drop(reply.send(self.request(folder.as_deref(), Request::Pause(length))));
            }
            Ask::Resume { folder, reply } => {
                drop(reply.send(self.request(folder.as_deref(), Request::Resume)));
            }
            Ask::Approve { folder, reply } => {
                let approved = self.approve(folder.as_deref());
                drop(reply.send(approved));
            }
            Ask::Recall {
                folder,
                recall,
                reply,
            } => self.recall(folder.as_deref(), recall, reply),
            Ask::Stop { reply } => {
                drop(reply.send(Ok(())));
                return true;
            }
            Ask::Barrier { folder, reply } => match self.named(folder.as_deref()) {
                Ok(folders) => self.put_barrier(folders, Until::Idle, reply),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Ask::Wait { until, reply } => {
                // With a marker too: who writes a file and waits means that file as well.
                let all = self.configs().map(|(id, _)| id).collect();
                self.put_barrier(all, until, reply);
            }
        }
        false
    }

    fn approve(&mut self, asked: Option<&str>) -> Result<Vec<String>, Refusal> {
        let mut approved = Vec::new();
        let mut needs_more = Vec::new();
        for id in self.named(asked)? {
            let Some(folder) = self.folders.get_mut(&id) else {
                let away = self.away.get(&id).map(Away::status);
                needs_more.extend(away.iter().flat_map(FolderStatus::needs_more));
                continue;
            };
            let status = folder.status();
            if status.can_be_approved() {
                folder.ask(Request::Approve);
                approved.push(folder.config.name.clone());
            } else {
                needs_more.extend(status.needs_more());
            }
        }
        if !approved.is_empty() {
            return Ok(approved);
        }
        match needs_more.into_iter().next() {
            Some((message, hint)) => Err(Refusal::NotApprovable { message, hint }),
            None => Err(Refusal::NothingHeld),
        }
    }

    fn put_barrier(&mut self, folders: Vec<u64>, until: Until, reply: Reply<Status>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        for id in &folders {
            let (id, inbox) = (*id, self.inbox.0.clone());
            if let Some(folder) = self.folders.get(&id) {
                // What the watcher reported before the marker is in the other queue by now, and
                // that is emptied before anybody is answered.
                folder.echo(move || drop(inbox.send(Inbox::Echo(id, ticket))));
            }
        }
        let echoes = folders.iter().copied();
        let echoes = echoes.filter(|id| self.folders.contains_key(id)).collect();
        self.barriers.push(Barrier {
            ticket,
            until,
            echoes,
            folders,
            reply,
        });
    }
}
