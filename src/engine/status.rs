//! What `status --json` says, version 1. Scripts and tests rely on every name in here.
//!
//! Invariants: fields are only ever added; times are RFC 3339 text made at the edge, because the
//! engine knows no wall clock; no URL in here carries a secret.

use serde::{Deserialize, Serialize};

use super::event::{Code, Marked, Trouble};

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always 1.
    pub version: u32,
    /// This host's name.
    pub host: String,
    /// The process that answers.
    pub agent: AgentStatus,
    /// Every folder in our care.
    pub folders: Vec<FolderStatus>,
    /// Every transport.
    pub transports: Vec<TransportStatus>,
}

/// The process that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Process id.
    pub pid: u32,
    /// Program version.
    pub version: String,
    /// Start of the process.
    pub since: String,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderStatus {
    /// Its name: the last component of its path unless two are equal.
    pub name: String,
    /// Its root.
    pub path: String,
    /// Its identity, empty before the first contact with a hub.
    pub id: String,
    /// The branch that is kept identical.
    pub branch: String,
    /// What it is doing.
    pub state: State,
    /// Which trouble, `ok` if none; the words of [`Code`].
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Since when it is in this state.
    pub since: String,
    /// Where it is pushed to; `None` without a hub.
    pub hub: Option<HubStatus>,
    /// The tip of the branch.
    pub head: String,
    /// Whether the hub has the tip.
    pub published: bool,
    /// What waits.
    pub pending: Pending,
    /// What guards hold back.
    pub held: Vec<HeldStatus>,
    /// Paths whose content deliberately differs from HEAD, and other paths that wait.
    pub deferred: Vec<DeferredStatus>,
    /// Conflict copies in the tree.
    pub conflicts: Vec<ConflictStatus>,
    /// Files that came in with conflict markers which no host of ours committed.
    #[serde(default)]
    pub marked: Vec<MarkedStatus>,
    /// What git ignores on this host and had to make room for a file that came in.
    #[serde(default)]
    pub aside: Vec<AsideStatus>,
    /// The latest of each kind.
    pub last: Last,
    /// What a long job is at.
    pub progress: Option<Progress>,
    /// How often things happened since the start.
    pub counters: Counters,
}

/// What a folder is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Idle,
    /// Something waits or runs.
    Working,
    /// A passing fault; trying again.
    Retry,
    /// Asked for, or the user's git is busy.
    Paused,
    /// Stopped for safety; needs a person.
    Held,
}

/// The hub of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// Its address without secrets.
    pub url: String,
    /// Whether the last try reached it.
    pub reachable: bool,
    /// The last time it answered; empty if never.
    pub last_ok: String,
}

/// What waits to be committed or pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Changed paths not yet committed.
    pub paths: usize,
    /// Commits not yet on the hub.
    pub commits: usize,
}

/// A group of paths held back by a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// Which guard.
    pub code: String,
    /// The first paths.
    pub paths: Vec<String>,
    /// How many more.
    pub more: usize,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Whether it came in, rather than being about what leaves.
    #[serde(default)]
    pub incoming: bool,
}

impl From<&Trouble> for HeldStatus {
    fn from(trouble: &Trouble) -> Self {
        Self {
            code: trouble.code.word(),
            paths: Vec::new(),
            more: 0,
            message: trouble.message.clone(),
            hint: trouble.hint.clone(),
            incoming: false,
        }
    }
}

impl FolderStatus {
    /// Returns whether something is held here that passes once a person approves it.
    pub fn can_be_approved(&self) -> bool {
        let stopped = self.state == State::Held && Code::is_approvable(&self.code);
        stopped || self.held.iter().any(|held| Code::is_approvable(&held.code))
    }

    /// Returns what stays held beside what one approval lets through: message and hint of each. Which
    /// directory the folder is comes before all else, and a disk is a matter of its own.
    pub fn needs_another(&self) -> Vec<(String, String)> {
        let word = |code: Code| code.word();
        let is_other_root = self.state == State::Held && self.code == word(Code::RootChanged);
        let approvable = |held: &&HeldStatus| Code::is_approvable(&held.code);
        let is_mount = |held: &&HeldStatus| held.code == word(Code::Mounted);
        let (mounts, others): (Vec<_>, Vec<_>) =
            self.held.iter().filter(approvable).partition(is_mount);
        let stay = match (is_other_root, others.is_empty()) {
            (true, _) => [others, mounts].concat(),
            (false, true) => Vec::new(),
            (false, false) => mounts,
        };
        stay.iter()
            .map(|held| (held.message.clone(), held.hint.clone()))
            .collect()
    }

    /// Returns what is held and stays so whatever a person approves: message and hint of each.
    pub fn needs_more(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = self
            .held
            .iter()
            .filter(|held| !Code::is_approvable(&held.code))
            .map(|held| (held.message.clone(), held.hint.clone()))
            .collect();
        let stopped = (self.message.clone(), self.hint.clone());
        if self.state == State::Held
            && !Code::is_approvable(&self.code)
            && !found.contains(&stopped)
        {
            found.push(stopped);
        }
        found
    }
}

/// A path that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeferredStatus {
    /// The path.
    pub path: String,
    /// Why, in words.
    pub why: String,
}

/// A conflict copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// The path that both sides changed.
    pub path: String,
    /// The copy beside it.
    pub copy: String,
    /// Whose version the copy is.
    pub host: String,
    /// When that version was committed.
    pub since: String,
}

/// A file that came in with conflict markers which no host of ours committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedStatus {
    /// The file.
    pub path: String,
    /// The commit that brought the markers.
    pub commit: String,
    /// Its parents that have the file, as it was on either side before.
    pub before: Vec<String>,
    /// Who committed it.
    pub author: String,
    /// When.
    pub since: String,
}

impl From<&Marked> for MarkedStatus {
    fn from(marked: &Marked) -> Self {
        Self {
            path: marked.path.to_string(),
            commit: marked.commit.to_string(),
            before: marked.before.iter().map(ToString::to_string).collect(),
            author: marked.author.clone(),
            since: marked.since.clone(),
        }
    }
}

/// Something that git ignores and that had to make room, on this host only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideStatus {
    /// Where it stood, in the folder.
    pub path: String,
    /// Where it is now, on this host.
    pub now: String,
}

/// The latest commit, push and receive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Last {
    /// The latest commit made here.
    pub commit: Option<Moment>,
    /// The latest push the hub confirmed.
    pub push: Option<Moment>,
    /// The latest commit that came in.
    pub receive: Option<Moment>,
}

/// A commit and when something happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The commit.
    pub oid: String,
    /// When.
    pub at: String,
    /// The host it came from, for what came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What a long job is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which job.
    pub what: String,
    /// How much is done.
    pub done: u64,
    /// Of how much; 0 if unknown.
    pub total: u64,
    /// `files`, `bytes` or `objects`.
    pub unit: String,
}

/// How often things happened since the start of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Snapshot jobs.
    pub snapshots: u64,
    /// Commits made by snapshots.
    pub commits: u64,
    /// Pushes that the hub confirmed.
    pub pushes: u64,
    /// Fetch jobs that reached the hub.
    pub fetches: u64,
    /// Merge commits made.
    pub merges: u64,
    /// Applies that moved the branch.
    pub applies: u64,
    /// Full looks.
    pub rescans: u64,
    /// Notices announced.
    pub notices_sent: u64,
    /// Notices that came in.
    pub notices_received: u64,
}

/// One transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportStatus {
    /// `hub`, `xmpp`, `fanout` or `poll`.
    pub name: String,
    /// `online`, `connecting`, `retry` or `held`.
    pub state: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Since when.
    pub since: String,
    /// Hosts that were heard over it.
    pub peers: Vec<PeerStatus>,
    /// The latest notices of each folder, if the transport counts them.
    #[serde(default)]
    pub folders: Vec<NoticedStatus>,
}

/// The latest notices of a folder over a transport.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NoticedStatus {
    /// The name of the folder.
    pub name: String,
    /// When the last one was sent; empty if none was.
    pub sent: String,
    /// When the last one came in; empty if none did.
    pub received: String,
}

/// A host heard over a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub host: String,
    /// When it was last heard.
    pub heard: String,
}
