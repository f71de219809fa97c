//! What is to be on the desktop, and which call comes next. Pure: time is an argument.
//!
//! There is no queue: the board knows what should be shown and what is, and a slow or dead server
//! only makes the two differ for longer.
//!
//! Invariants:
//! 1. One living notification per folder for what leaves, one for what came in; each is replaced
//!    as things proceed. Of these two a folder gets at most one new bubble in [`NEW_GAP`].
//! 2. Problems, conflicts and holds each have their own, at once, and are withdrawn when they are
//!    over.
//! 3. What a person closed stays closed until something new happens.
//! 4. Every list in here is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use super::card::{self, Act, Card, Stage};
use crate::config::Notify;
use crate::engine::action::Tell;
use crate::engine::event::{Committed, ConflictCopy, Marked, Trouble};
use crate::engine::recall::Answer;
use crate::engine::status::{FolderStatus, HeldStatus};
use crate::engine::timer::Moment;
use crate::names::{ObjectId, RepoPath};

/// At most one new bubble per folder in this time.
const NEW_GAP: Duration = Duration::from_secs(10);
/// What could not be shown for so long is no news any more.
const STALE: Duration = Duration::from_secs(60);
/// So many conflicts of a folder have a card of their own.
const CONFLICTS: usize = 4;
/// So many conflicts of a folder are remembered.
const STANDING: usize = 1_000;
/// So many earlier commits are remembered, to know whether a push was theirs.
const EARLIER: usize = 32;
/// So many paths of what came in are remembered.
const PATHS: usize = 100;
/// The folder of what concerns the whole agent.
const AGENT: &str = "";

/// Where something stands on the desktop: the folder's key, and what about it.
pub(super) type Slot = (String, Kind);

/// What a notification is about. In the order of what is shown first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A trouble, by its key.
    Problem(String),
    /// What a guard holds, by its code and whether it came in.
    Held(String, bool),
    /// A conflict, by its copy.
    Conflict(RepoPath),
    /// A file with conflict markers that no host of ours committed.
    Marked(RepoPath),
    /// The conflicts that have no card.
    MoreConflicts,
    /// What came in.
    Received,
    /// What leaves.
    Steps,
}

impl Kind {
    /// Whether it waits for nothing and comes again after the server was away.
    fn presses(&self) -> bool {
        match self {
            Self::Problem(_)
            | Self::Held(..)
            | Self::Conflict(_)
            | Self::Marked(_)
            | Self::MoreConflicts => true,
            Self::Received | Self::Steps => false,
        }
    }
}

/// A folder as the desktop names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Its name.
    pub name: String,
    /// Its root.
    pub root: PathBuf,
}

/// The next call to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Show this.
    Show {
        /// Where it stands.
        slot: Slot,
        /// The notification that it takes the place of; 0 is none.
        replaces: u32,
        /// What it says.
        card: Card,
    },
    /// Take this notification away.
    Withdraw(u32),
}

/// What a click asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Click {
    /// The folder's key.
    pub folder: String,
    /// The folder's name.
    pub name: String,
    /// What to do.
    pub act: Wish,
}

/// What a person wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Open a directory.
    Show(PathBuf),
    /// Let pass all of this, which was on the screen.
    Approve(Vec<HeldStatus>),
    /// Take back what came in with this commit.
    Undo(ObjectId),
    /// Ask for a commit message.
    Describe {
        /// The commit.
        commit: ObjectId,
        /// What it is about.
        summary: String,
    },
}

/// Where a notification is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    /// It is to be shown.
    New,
    /// It is on the screen, and says this.
    Shown { id: u32, says: Card },
    /// It was, or could not be.
    Gone,
}

#[derive(Debug, Clone)]
struct Item {
    card: Card,
    life: Life,
    /// Since when there is something new to show.
    since: Moment,
    /// When the bubble came up.
    born: Moment,
    wanted: bool,
}

/// A commit of ours on its way.
#[derive(Debug, Clone)]
struct Round {
    commit: ObjectId,
    summary: String,
    /// Commits before it that nobody has seen a bubble of.
    more: usize,
    pushed: Option<ObjectId>,
    hosts: Vec<String>,
}

/// What came in and shares a card.
#[derive(Debug, Clone)]
struct Incoming {
    host: Option<String>,
    paths: Vec<RepoPath>,
    count: usize,
    /// Whether nothing of it came yet.
    is_first: bool,
    /// What can be undone, if it is one thing.
    undo: Option<ObjectId>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            host: None,
            paths: Vec::new(),
            count: 0,
            is_first: true,
            undo: None,
        }
    }
}

#[derive(Debug, Clone)]
struct Known {
    folder: Folder,
    round: Option<Round>,
    earlier: VecDeque<ObjectId>,
    /// What was pushed last. A push may end before its commit is told.
    pushed: Option<ObjectId>,
    incoming: Incoming,
    conflicts: Vec<ConflictCopy>,
    /// What was held at the last look.
    held: Vec<HeldStatus>,
    last_new: Option<Moment>,
    /// The commit whose push waits for an answer.
    asked: Option<ObjectId>,
    /// Whether something is being undone by a click.
    undoing: bool,
}

/// Everything that is to be on the desktop.
#[derive(Debug)]
pub(super) struct Board {
    level: Notify,
    ask: bool,
    /// This host's name.
    host: String,
    folders: BTreeMap<String, Known>,
    items: BTreeMap<Slot, Item>,
    /// What is to be withdrawn because its card comes up anew.
    outdated: Vec<u32>,
}

impl Board {
    /// Creates an empty board; `ask` says that lone commits wait for a message.
    pub(super) fn new(level: Notify, ask: bool, host: &str) -> Self {
        Self {
            level,
            ask,
            host: host.to_owned(),
            folders: BTreeMap::new(),
            items: BTreeMap::new(),
            outdated: Vec::new(),
        }
    }

    /// Takes a folder's name and root; must come before anything else of it.
    pub(super) fn know(&mut self, key: &str, folder: Folder) {
        let known = Known {
            folder,
            round: None,
            earlier: VecDeque::new(),
            pushed: None,
            incoming: Incoming::default(),
            conflicts: Vec::new(),
            held: Vec::new(),
            last_new: None,
            asked: None,
            undoing: false,
        };
        self.folders.insert(key.to_owned(), known);
    }

    /// Takes that a folder is no longer cared for.
    pub(super) fn forget(&mut self, key: &str) {
        self.folders.remove(key);
        self.unwant(|(folder, _)| folder == key);
    }

    /// Takes what the user is told about a folder.
    pub(super) fn tell(&mut self, now: Moment, key: &str, tell: &Tell) {
        match tell {
            Tell::Committed(made) => self.committed(now, key, made),
            Tell::Pushed(commit) => self.pushed(key, *commit),
            Tell::Arrived { commit, hosts } => self.arrived(key, *commit, hosts),
            Tell::Received {
                host,
                paths,
                count,
                undo,
            } => self.received(now, key, host.as_deref(), (paths, *count), *undo),
            Tell::Conflict(copies) => self.conflict(now, key, copies),
            Tell::Marked(marked) => self.marked(now, key, marked),
            // The folder's status has what is held now.
            Tell::Held(_) => {}
            Tell::Problem(trouble) => self.trouble(now, key, trouble),
            Tell::Over(code) => {
                let over = (key.to_owned(), Kind::Problem(code.word()));
                self.unwant(|slot| *slot == over);
            }
            Tell::Solved => {
                self.unwant(|(folder, kind)| folder == key && matches!(kind, Kind::Problem(_)));
            }
        }
    }

    fn committed(&mut self, now: Moment, key: &str, made: &Committed) {
        let ask = self.ask;
        let slot = (key.to_owned(), Kind::Steps);
        let waits = matches!(self.items.get(&slot), Some(item) if item.life == Life::New);
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        let before = known.round.take();
        let more = match &before {
            Some(before) if waits => before.more + 1,
            Some(_) | None => 0,
        };
        if let Some(before) = before {
            known.earlier.push_back(before.commit);
            let surplus = known.earlier.len().saturating_sub(EARLIER);
            known.earlier.drain(..surplus);
        }
        let pushed = known.pushed.filter(|pushed| *pushed == made.id);
        known.asked = (ask && pushed.is_none()).then_some(made.id);
        known.round = Some(Round {
            commit: made.id,
            summary: made.summary.clone(),
            more,
            pushed,
            hosts: Vec::new(),
        });
        self.steps(key, Some(now));
    }

    fn pushed(&mut self, key: &str, commit: ObjectId) {
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        known.pushed = Some(commit);
        // Another than ours is a merge with it.
        let older = known.earlier.contains(&commit);
        if let Some(round) = known.round.as_mut().filter(|_| !older) {
            round.pushed = Some(commit);
            round.hosts.clear();
            known.asked = None;
            self.steps(key, None);
        }
    }

    fn arrived(&mut self, key: &str, commit: ObjectId, hosts: &[String]) {
        let round = self.folders.get_mut(key).and_then(|it| it.round.as_mut());
        if let Some(round) = round.filter(|round| round.pushed == Some(commit)) {
            round.hosts = hosts.to_vec();
            self.steps(key, None);
        }
    }

    /// Makes the card of what leaves; `begins` is when a new round began.
    fn steps(&mut self, key: &str, begins: Option<Moment>) {
        if self.level < Notify::Steps {
            return;
        }
        let Some((known, round)) = self
            .folders
            .get(key)
            .and_then(|known| Some((known, known.round.as_ref()?)))
        else {
            return;
        };
        let stage = match (round.pushed, round.hosts.as_slice()) {
            (None, _) => Stage::Committed,
            (Some(_), []) => Stage::Pushed,
            (Some(_), hosts) => Stage::Arrived(hosts),
        };
        let Folder { name, root } = &known.folder;
        let card = card::steps(name, root, round.commit, &round.summary, round.more, stage);
        self.put((key.to_owned(), Kind::Steps), card, begins);
    }

    fn received(
        &mut self,
        now: Moment,
        key: &str,
        host: Option<&str>,
        (paths, count): (&[RepoPath], usize),
        undo: Option<ObjectId>,
    ) {
        if self.level < Notify::Summary {
            return;
        }
        let slot = (key.to_owned(), Kind::Received);
        let goes_on = self.items.get(&slot).is_some_and(|item| match item.life {
            Life::New => true,
            Life::Shown { .. } => now.since(item.born) < NEW_GAP,
            Life::Gone => false,
        });
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        let incoming = &mut known.incoming;
        if !goes_on {
            *incoming = Incoming::default();
        }
        // A merge is by us, but what it brings is not.
        let host = host.filter(|host| *host != self.host).map(str::to_owned);
        incoming.host = match (incoming.count, incoming.host.take()) {
            (0, _) => host,
            (_, before) if before == host => host,
            (_, _) => None,
        };
        for path in paths {
            if incoming.paths.contains(path) {
                continue;
            }
            incoming.count += 1;
            if incoming.paths.len() < PATHS {
                incoming.paths.push(path.clone());
            }
        }
        incoming.count += count.saturating_sub(paths.len());
        // A click takes back one thing, exactly: what the card is about, or it is not offered.
        incoming.undo = undo.filter(|_| std::mem::take(&mut incoming.is_first));
        let Folder { name, root } = &known.folder;
        let host = incoming.host.as_deref();
        let (paths, count) = (&incoming.paths, incoming.count);
        let card = card::received(name, root, host, (paths, count), incoming.undo);
        self.put(slot, card, Some(now));
    }

    /// Takes what came of an undo that a click asked for. It is said where the click was.
    pub(super) fn undone(&mut self, now: Moment, key: &str, answer: &Result<Answer, Trouble>) {
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        known.undoing = false;
        known.incoming = Incoming::default();
        // Who clicked waits for it.
        known.last_new = None;
        let Folder { name, root } = &known.folder;
        let card = card::undone(name, root, answer);
        self.put((key.to_owned(), Kind::Received), card, Some(now));
    }

    fn conflict(&mut self, now: Moment, key: &str, copies: &[ConflictCopy]) {
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        for copy in copies {
            if known.conflicts.len() < STANDING
                && known.conflicts.iter().all(|old| old.copy != copy.copy)
            {
                known.conflicts.push(copy.clone());
            }
        }
        self.conflicts(now, key);
    }

    /// Brings the cards of the conflicts to what stands.
    fn conflicts(&mut self, now: Moment, key: &str) {
        if self.level < Notify::Problems {
            return;
        }
        let Some(known) = self.folders.get(key) else {
            return;
        };
        let Folder { name, root } = known.folder.clone();
        let standing = known.conflicts.clone();
        let mut keep = Vec::new();
        for copy in standing.iter().take(CONFLICTS) {
            let kind = Kind::Conflict(copy.copy.clone());
            keep.push(kind.clone());
            self.put_once(
                now,
                (key.to_owned(), kind),
                card::conflict(&name, &root, copy),
            );
        }
        if let Some(more) = standing.len().checked_sub(CONFLICTS).filter(|n| *n > 0) {
            let slot = (key.to_owned(), Kind::MoreConflicts);
            keep.push(Kind::MoreConflicts);
            self.put_once(now, slot, card::more_conflicts(&name, &root, more));
        }
        self.unwant(|(folder, kind)| {
            folder == key
                && matches!(kind, Kind::Conflict(_) | Kind::MoreConflicts)
                && !keep.contains(kind)
        });
    }

    /// Shows files with markers; `autosync conflicts` lists those that get no card.
    fn marked(&mut self, now: Moment, key: &str, marked: &[Marked]) {
        if self.level < Notify::Problems {
            return;
        }
        let Some(Known { folder, .. }) = self.folders.get(key) else {
            return;
        };
        let Folder { name, root } = folder.clone();
        let is_one = |(folder, kind): &&Slot| folder == key && matches!(kind, Kind::Marked(_));
        let free = CONFLICTS.saturating_sub(self.items.keys().filter(is_one).count());
        for file in marked.iter().take(free) {
            let slot = (key.to_owned(), Kind::Marked(file.path.clone()));
            self.put_once(now, slot, card::marked(&name, &root, file));
        }
    }

    fn trouble(&mut self, now: Moment, key: &str, trouble: &Trouble) {
        if self.level < Notify::Problems {
            return;
        }
        if let Some(Known { folder, .. }) = self.folders.get(key) {
            let card = card::trouble(&folder.name, &folder.root, trouble);
            let kind = Kind::Problem(trouble.code.word());
            self.put_once(now, (key.to_owned(), kind), card);
        }
    }

    /// Takes how a folder stands: what is held, and which conflicts are still there.
    pub(super) fn stand(&mut self, now: Moment, key: &str, status: &FolderStatus) {
        if self.level < Notify::Problems {
            return;
        }
        let Some(known) = self.folders.get_mut(key) else {
            return;
        };
        let before = known.conflicts.len();
        known.conflicts.retain(|copy| {
            let name = copy.copy.to_string();
            status.conflicts.iter().any(|stands| stands.copy == name)
        });
        let fewer = known.conflicts.len() < before;
        let Folder { name, root } = known.folder.clone();
        let before = std::mem::replace(&mut known.held, status.held.clone());
        if fewer {
            self.conflicts(now, key);
        }
        for held in &status.held {
            let slot = (key.to_owned(), kind_of(held));
            if grew(&before, held)
                && let Some(item) = self.items.get_mut(&slot)
                && item.life == Life::Gone
            {
                item.life = Life::New;
            }
            self.put_once(now, slot, card::held(&name, &root, held));
        }
        self.unwant(|(folder, kind)| match kind {
            Kind::Held(..) => folder == key && status.held.iter().all(|it| kind_of(it) != *kind),
            Kind::Marked(path) => {
                let name = path.to_string();
                folder == key && status.marked.iter().all(|it| it.path != name)
            }
            Kind::Problem(_)
            | Kind::Conflict(_)
            | Kind::MoreConflicts
            | Kind::Received
            | Kind::Steps => false,
        });
    }

    /// Takes a problem of the whole agent, or another wording of it.
    pub(super) fn problem(&mut self, now: Moment, key: &str, message: &str, hint: &str) {
        if self.level >= Notify::Problems {
            let slot = (AGENT.to_owned(), Kind::Problem(key.to_owned()));
            self.put_once(now, slot, card::problem(message, hint));
        }
    }

    /// Takes that a problem of the whole agent is over.
    pub(super) fn solved(&mut self, key: &str) {
        self.unwant(|(folder, kind)| {
            folder == AGENT && matches!(kind, Kind::Problem(known) if known == key)
        });
    }

    /// Puts a card that is replaced as things proceed; if something `begins` with it, it comes up
    /// again although the one before was closed.
    fn put(&mut self, slot: Slot, card: Card, begins: Option<Moment>) {
        let Some(item) = self.items.get_mut(&slot) else {
            if let Some(now) = begins {
                self.items.insert(slot, Item::new(now, card));
            }
            return;
        };
        item.card = card;
        item.wanted = true;
        if let Some(now) = begins {
            if item.life == Life::Gone {
                item.life = Life::New;
            }
            item.since = now;
        }
    }

    /// Puts a card that comes up once, whatever it says later.
    fn put_once(&mut self, now: Moment, slot: Slot, card: Card) {
        let item = self
            .items
            .entry(slot)
            .or_insert_with(|| Item::new(now, card.clone()));
        item.card = card;
        if !item.wanted {
            // It was over, and is there again.
            item.wanted = true;
            if item.life == Life::Gone {
                item.life = Life::New;
            }
        }
    }

    fn unwant(&mut self, is: impl Fn(&Slot) -> bool) {
        for (slot, item) in &mut self.items {
            if is(slot) {
                item.wanted = false;
            }
        }
        self.items
            .retain(|_, item| item.wanted || matches!(item.life, Life::Shown { .. }));
    }
}

/// Returns what a notification of this is about.
fn kind_of(held: &HeldStatus) -> Kind {
    Kind::Held(held.code.clone(), held.incoming)
}

/// Returns whether more is held than before of the same kind.
fn grew(before: &[HeldStatus], held: &HeldStatus) -> bool {
    let total = |held: &HeldStatus| held.paths.len().saturating_add(held.more);
    let before = before.iter().find(|old| kind_of(old) == kind_of(held));
    before.is_none_or(|old| {
        let is_new = |path| !old.paths.contains(path);
        total(held) > total(old) || (held.more == 0 && held.paths.iter().any(is_new))
    })
}

impl Item {
    fn new(now: Moment, card: Card) -> Self {
        Self {
            card,
            life: Life::New,
            since: now,
            born: now,
            wanted: true,
        }
    }
}

mod calls;

#[cfg(test)]
mod tests;
