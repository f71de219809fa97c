//! Folders that cannot be cared for now: their disk is away, they cannot be read, their repository
//! is not there, or another process cares for them.
//!
//! Such a folder stops no other. It is listed as held with what is the matter and what to do, said
//! once, and tried again every few seconds: it begins by itself when what it lacked is back.
//!
//! Invariants:
//! 1. Nothing is made in its place, and nothing in it is touched.
//! 2. The looks are on threads of their own: a dead network disk holds up nobody else.

use std::time::Duration;

use tokio::sync::mpsc;

use super::prepare::{Wish, is_known, prepare};
use super::{Agent, Inbox, What};
use crate::clock;
use crate::config::{FolderSettings, Settings};
use crate::control::{Happening, Until};
use crate::engine::action::Tell;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::status::{Counters, FolderStatus, HubStatus, Last, Pending, State};
use crate::engine::timer::Moment;
use crate::error::Complaint;
use crate::git::public_url;
use crate::names::escape;
use crate::paths::Paths;
use crate::repo;

/// How long until a folder whose disk is away is looked for again.
const SOON: Duration = Duration::from_secs(3);
/// The longest wait of one that is there, and whose repository is asked each time.
const LATER: Duration = Duration::from_secs(60);

/// Why a folder cannot be cared for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    complaint: Complaint,
    /// It was cared for before, so what it lacks may come back.
    was_here: bool,
}

impl Absent {
    /// Takes what was said of a folder when it was made ready.
    pub fn new(folder: &FolderSettings, paths: &Paths, complaint: Complaint) -> Self {
        Self {
            was_here: is_known(&folder.path, paths),
            complaint,
        }
    }

    /// Returns whether an agent may wait for the folder alone. Else it is a mistake in the
    /// configuration, which a person wants to hear at once.
    pub fn may_return(&self) -> bool {
        self.was_here
            && matches!(
                self.complaint.code,
                Some(
                    Code::RootMissing
                        | Code::RootChanged
                        | Code::NoRepository
                        | Code::Detached
                        | Code::Ownership
                        | Code::Damaged
                        | Code::DiskFull
                        | Code::ReadOnly
                        | Code::Io
                )
            )
    }

    /// Returns what to say if nobody waits for it.
    pub fn into_complaint(self) -> Complaint {
        self.complaint
    }
}

/// A folder that is waited for.
pub(super) struct Away {
    pub(super) config: FolderSettings,
    /// What was said of it, as a command says it.
    complaint: Complaint,
    trouble: Trouble,
    may_return: bool,
    since: String,
    next: Moment,
    tries: u32,
    /// A look is on its way.
    looking: bool,
    /// The trouble was not yet said.
    untold: bool,
}

impl Away {
    fn new(config: FolderSettings, absent: &Absent) -> Self {
        let mut this = Self {
            config,
            complaint: absent.complaint.clone(),
            trouble: trouble(&absent.complaint),
            may_return: absent.may_return(),
            since: clock::wall(),
            next: clock::now(),
            tries: 0,
            looking: false,
            untold: true,
        };
        this.wait();
        this
    }

    /// Takes what another look found.
    fn still(&mut self, absent: &Absent) {
        let now = trouble(&absent.complaint);
        if now.code != self.trouble.code {
            self.since = clock::wall();
            self.untold = true;
            self.tries = 0;
        }
        self.trouble = now;
        self.may_return = absent.may_return();
        self.wait();
    }

    fn wait(&mut self) {
        let growing = SOON.saturating_mul(1 << self.tries.min(5)).min(LATER);
        // Two looks at the disk, and no git for it.
        let is_gone = matches!(self.trouble.code, Code::RootMissing | Code::NoRepository);
        let wait = if is_gone { SOON } else { growing };
        self.tries = self.tries.saturating_add(1);
        self.next = clock::now() + wait;
        self.looking = false;
    }

    pub(super) fn status(&self) -> FolderStatus {
        FolderStatus {
            name: self.config.name.clone(),
            path: escape(self.config.path.as_os_str().as_encoded_bytes()),
            id: String::new(),
            branch: self.config.branch.clone().unwrap_or_default(),
            state: State::Held,
            code: self.trouble.code.word(),
            message: self.trouble.message.clone(),
            hint: self.trouble.hint.clone(),
            since: self.since.clone(),
            hub: self.config.hub.as_deref().map(|hub| HubStatus {
                url: public_url(hub),
                reachable: false,
                last_ok: String::new(),
            }),
            head: String::new(),
            published: false,
            pending: Pending::default(),
            held: Vec::new(),
            deferred: Vec::new(),
            conflicts: Vec::new(),
            marked: Vec::new(),
            aside: Vec::new(),
            last: Last::default(),
            progress: None,
            counters: Counters::default(),
        }
    }

    /// Returns what is in the way.
    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Returns what to end with if nobody waits for it.
    pub(super) fn into_complaint(self) -> Complaint {
        self.complaint
    }

    /// Looks again at once.
    pub(super) fn hurry(&mut self) {
        self.tries = 0;
        self.next = clock::now();
    }
}

fn trouble(complaint: &Complaint) -> Trouble {
    let code = complaint.code.unwrap_or(Code::Internal);
    let by_itself = "Syncing begins by itself then.";
    let hint = [complaint.hint.as_str(), by_itself].join(" ");
    Trouble::new(
        code,
        Recovery::Hold,
        complaint.message.clone(),
        hint.trim_start(),
    )
}

/// Makes folders ready that are no matter of the command line: nothing is made for them.
pub fn ready(
    folder: &FolderSettings,
    settings: &Settings,
    paths: &Paths,
) -> Result<repo::Settings, Absent> {
    let wish = Wish {
        keep_lost: true,
        ..Wish::default()
    };
    match prepare(folder, settings, paths, &wish) {
        Ok(ready) => Ok(ready.settings),
        Err(complaint) => Err(Absent::new(folder, paths, complaint)),
    }
}

impl Agent {
    /// Waits for a folder.
    pub(super) fn wait_for(&mut self, id: u64, config: FolderSettings, absent: &Absent) {
        self.desktop
            .know(&id.to_string(), &config.name, &config.path);
        if let Some(away) = self.away.get_mut(&id) {
            away.still(absent);
        } else {
            self.away.insert(id, Away::new(config, absent));
        }
    }

    /// Returns what to end with if there is no folder to care for, and none to wait for.
    pub(super) fn nothing_to_do(&self) -> bool {
        self.folders.is_empty() && !self.away.values().any(|away| away.may_return)
    }

    /// Returns when the next folder is looked for.
    pub(super) fn next_look(&self) -> Option<Moment> {
        let waiting = self.away.values().filter(|away| !away.looking);
        waiting.map(|away| away.next).min()
    }

    /// Looks for the folders whose time it is.
    pub(super) fn look_for_folders(&mut self, now: Moment) {
        for (id, away) in &mut self.away {
            if away.looking || away.next > now {
                continue;
            }
            away.looking = true;
            let look = {
                let (id, inbox) = (*id, self.inbox.0.clone());
                let (config, settings) = (away.config.clone(), self.settings.clone());
                let paths = self.paths.clone();
                move || look(id, &config, &settings, &paths, &inbox)
            };
            drop(tokio::task::spawn_blocking(look));
        }
    }

    /// Takes what a look found.
    pub(super) fn looked(&mut self, id: u64, found: Result<repo::Settings, Absent>) {
        let Some(away) = self.away.get(&id) else {
            return;
        };
        let config = away.config.clone();
        match found {
            Ok(settings) => self.try_folder(id, config, settings),
            Err(absent) => self.wait_for(id, config, &absent),
        }
    }

    /// Begins to care for a folder, or to wait for it.
    pub(super) fn try_folder(&mut self, id: u64, config: FolderSettings, settings: repo::Settings) {
        match self.start_folder(id, config.clone(), settings) {
            Ok(()) => {
                if let Some(away) = self.away.remove(&id)
                    && !away.untold
                {
                    self.tell_of_folder(id, &config.name, &Tell::Solved);
                }
            }
            Err(complaint) => {
                let absent = Absent::new(&config, &self.paths, complaint);
                self.wait_for(id, config, &absent);
            }
        }
    }

    /// Says what was not yet said of the folders that are waited for.
    pub(super) fn tell_of_the_away(&mut self) {
        let mut news = Vec::new();
        for (id, away) in &mut self.away {
            if std::mem::take(&mut away.untold) {
                news.push((*id, away.status(), away.trouble.clone()));
            }
        }
        for (id, status, trouble) in news {
            self.tell_of_folder(id, &status.name, &Tell::Problem(trouble));
            let what = What::State {
                state: status.state,
                code: status.code,
                message: status.message,
                hint: status.hint,
            };
            self.publish(&status.name, what);
        }
    }

    /// Tells the user of a folder that no engine speaks for.
    fn tell_of_folder(&self, id: u64, name: &str, tell: &Tell) {
        let key = id.to_string();
        for transport in &self.transports {
            transport.tell(&key, tell);
        }
        self.desktop.tell(&key, tell);
        super::log(name, tell);
        self.publish(name, What::from(tell));
    }

    fn publish(&self, folder: &str, what: What) {
        // Nobody listens most of the time.
        drop(self.events.send(Happening {
            at: clock::wall(),
            folder: folder.to_owned(),
            what,
        }));
    }

    /// Returns whether a folder that is waited for keeps somebody waiting: it is quiet, and not in
    /// sync.
    pub(super) fn is_away(&self, id: u64, until: Until) -> bool {
        match until {
            Until::Idle => false,
            Until::Synced => self.away.contains_key(&id),
        }
    }
}

fn look(
    id: u64,
    config: &FolderSettings,
    settings: &Settings,
    paths: &Paths,
    inbox: &mpsc::UnboundedSender<Inbox>,
) {
    let found = ready(config, settings, paths);
    // The agent is gone: so is everybody who could want to know.
    drop(inbox.send(Inbox::Looked(id, Box::new(found))));
}
