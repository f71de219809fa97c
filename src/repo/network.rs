//! The network lane: fetch from the hub and push to it, one at a time.
//!
//! [`Remote`] is where the hub is and which reference remembers its tip. [`fetch`] and [`push`]
//! run on a thread of their own and never touch the work tree, the index or the branch.
//!
//! Invariants:
//! 1. Every refspec is explicit: one commit by its id to one branch, never forced.
//! 2. The tracking reference moves only to a commit whose whole history is here, and whose
//!    objects passed git's checks.
//! 3. A child is stopped for making no progress for a minute, never for the total time.
//! 4. A hub whose tip we have costs no process if it is on a path: a look at its reference.
//!
//! Absent: merging, retrying, timers. What the outcome means is for the engine to say.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::ref_locks::set_tracking;
use super::{Place, RepoError, contact};
use crate::engine::event::{Fetched, Pushed};
use crate::engine::status::Progress;
use crate::fault;
use crate::git::hub::{self, Look};
use crate::git::ssh::Client;
use crate::git::{self, GitError, public_url, refs, refusal};
use crate::names::{ObjectId, RepoPath, escape};
use crate::process::{self, Finished, Patience};

pub use crate::git::hub::Kind;
pub use root::root;

mod connected;
mod deliver;
mod nearby;
pub mod notes;
mod root;
mod said;

/// How long the hub may show no progress.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a push may show no progress while a hook uploads large files.
const SILENCE_OF_HOOKS: Patience = Patience::Silence(Duration::from_secs(600));
/// The first git known to be without a crash of `fetch-pack` when it checks a whole pack.
const PLUMBING: (u32, u32) = (2, 47);
/// Where a fetch by git puts the hub's tip until it is checked.
const FETCHED: &str = "refs/worktree/autosync/fetched";

/// The hub of a folder.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address as configured, for git alone.
    pub url: String,
    /// The address for people: no secrets, nothing that steers a terminal.
    pub public: String,
    /// How it is reached.
    pub kind: Kind,
    /// The reference that remembers the hub's tip, `refs/remotes/NAME/BRANCH`.
    pub tracking: String,
    /// The user's `core.sshCommand`, if set.
    pub ssh_command: Option<String>,
    /// Whether history is cut short or fetched on demand here, which only `git fetch` knows.
    partial: bool,
    /// Whether `fetch-pack` can be trusted with checked objects.
    plumbing: bool,
}

/// What a call to the hub needs beside the folder and the address.
pub struct Terms<'a> {
    /// A private directory for the sockets of shared connections, at most 48 bytes long.
    pub runtime: &'a Path,
    /// Whether a person approved that the hub's history was rewritten.
    pub approved: bool,
    /// Is told what a long transfer is at.
    pub progress: &'a dyn Fn(Progress),
}

impl Remote {
    /// Returns the hub of a folder, `None` for a folder without one.
    ///
    /// The tracking reference is that of the remote which has this address, else that of a
    /// remote named `autosync`, which need not exist.
    pub fn of(place: &Place) -> Result<Option<Self>, RepoError> {
        let Some(url) = place.settings.hub.clone() else {
            return Ok(None);
        };
        let asked = place
            .git
            .call("ls-remote", ["--get-url", "--", &url], b"")?;
        let real = String::from_utf8_lossy(asked.trim_ascii()).into_owned();
        let kind = Kind::of(&real, place.root());
        let mut name = "autosync".to_owned();
        for (remote, address) in remotes(place)? {
            let same_path = match (&kind, Kind::of(&address, place.root())) {
                (Kind::Path(ours), Kind::Path(theirs)) => real_path(ours) == real_path(&theirs),
                _ => false,
            };
            if address == url || address == real || same_path {
                name = remote;
                break;
            }
        }
        let common = place.git.common_dir();
        let partial = common.join("shallow").exists()
            || place.git.config("extensions.partialClone")?.is_some();
        Ok(Some(Self {
            public: escape(public_url(&url).as_bytes()),
            tracking: format!("refs/remotes/{name}/{}", place.settings.branch),
            ssh_command: match kind {
                Kind::Ssh(..) => place.git.config("core.sshCommand")?,
                Kind::Path(_) | Kind::Https | Kind::Other => None,
            },
            plumbing: git::check_version()? >= PLUMBING,
            url,
            kind,
            partial,
        }))
    }

    /// Returns the hub's tip as last seen, `None` if it was never seen or had no branch.
    pub fn last_seen(&self, place: &Place) -> Result<Option<ObjectId>, RepoError> {
        Ok(refs::read(&place.git, &place.objects, &self.tracking)?)
    }
}

/// Returns the path without links and dots, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the name and address of every remote in git's configuration.
fn remotes(place: &Place) -> Result<Vec<(String, String)>, RepoError> {
    let done = place
        .git
        .ask("config", ["-z", "--get-regexp", r"^remote\..*\.url$"], b"")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let entry = |entry: &str| {
        let (key, url) = entry.split_once('\n')?;
        let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
        Some((name.to_owned(), url.to_owned()))
    };
    Ok(text.split('\0').filter_map(entry).collect())
}

/// Asks the hub for its tip and brings what is new.
///
/// The tracking reference follows. A tip that does not contain the last one is a hold until
/// `terms.approved`. A branch that is gone is said as it is, and the reference stays.
pub fn fetch(place: &Place, remote: &Remote, terms: &Terms<'_>) -> Fetched {
    match try_fetch(place, remote, terms) {
        Ok(tip) => Fetched::Tip(tip),
        Err(error) => Fetched::Failed(error.trouble()),
    }
}

fn try_fetch(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
) -> Result<Option<ObjectId>, RepoError> {
    let last = remote.last_seen(place)?;
    let ours = refs::read(&place.git, &place.objects, &place.branch_ref())?;
    let known: Vec<ObjectId> = last.into_iter().chain(ours).collect();
    let can_check = !remote.partial && place.objects.library().is_some();
    if let Kind::Path(path) = &remote.kind {
        match hub::look(path, &place.settings.branch)? {
            Look::Tip(Some(tip)) if last == Some(tip) => return Ok(last),
            Look::Tip(None) if last.is_none() => return Ok(None),
            Look::Missing => return Err(RepoError::Blocked(said::no_directory(remote, path))),
            Look::Tip(Some(tip)) if can_check => {
                if let Some(dir) = hub::locate(path)
                    && nearby::bring(&place.objects, &dir, tip, &known)
                {
                    return settle(place, remote, terms, last, Some(tip));
                }
            }
            Look::Tip(_) | Look::Unclear => {}
        }
    }
    let can_pack = matches!(remote.kind, Kind::Path(_) | Kind::Ssh(..))
        && last.is_some()
        && can_check
        && remote.plumbing;
    let tip = if can_pack {
        fetch_pack(place, remote, terms, &known)?
    } else {
        git_fetch(place, remote, terms)?
    };
    let tip = settle(place, remote, terms, last, tip)?;
    if refs::read(&place.git, &place.objects, FETCHED)?.is_some() {
        refs::set(&place.git, &place.objects, FETCHED, None)?;
    }
    Ok(tip)
}

/// Moves the tracking reference to what the hub has, unless a person must look at that first.
fn settle(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
    last: Option<ObjectId>,
    tip: Option<ObjectId>,
) -> Result<Option<ObjectId>, RepoError> {
    fault::at("F1");
    let Some(tip) = tip else {
        // What the branch was stays on record, so that its loss is noticed after a restart too.
        return Ok(None);
    };
    if let Some(last) = last
        && last != tip
        && !place.objects.descends(tip, last)?
    {
        if !remote.partial && place.objects.merge_bases(tip, last)?.is_empty() {
            return Err(RepoError::Blocked(contact::another_project()));
        }
        if !terms.approved {
            return Err(RepoError::Blocked(said::rewritten(remote, last, tip)));
        }
    }
    if last != Some(tip) {
        set_tracking(place, &remote.tracking, Some(tip))?;
    }
    Ok(Some(tip))
}

/// Creates a bare repository for a hub as [`hub::create`] does.
pub fn create_hub(path: &Path, branch: &str, shared: bool) -> Result<(), RepoError> {
    Ok(hub::create(path, branch, shared)?)
}

/// Fetches by the plumbing, which neither reads the index nor loads the trees that we have.
fn fetch_pack(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
    known: &[ObjectId],
) -> Result<Option<ObjectId>, RepoError> {
    let branch = place.branch_ref();
    let mut command = connected_command(place, remote, terms, "fetch-pack");
    command.args(["--thin", &remote.url, &branch]);
    let (done, words) = run(&mut command, silence(), "fetch", terms)?;
    if words.contains("no such remote ref") {
        return Ok(None);
    }
    if done.status.code().is_none() {
        tracing::warn!("fetch-pack crashed; fetching once more by git itself");
        return git_fetch(place, remote, terms);
    }
    if !done.status.success() {
        return Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)));
    }
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once(' '));
    let tip = match line {
        Some((id, name)) if name == branch => ObjectId::from_hex(id).map_err(GitError::from)?,
        _ => return Err(git::unparsable("fetch-pack", &done.stdout).into()),
    };
    if connected::is_whole(&place.objects, tip, known)? {
        return Ok(Some(tip));
    }
    // Something that a reference should have held is gone here. git's own fetch asks for it
    // again; if that does not help, its words say what is missing.
    git_fetch(place, remote, terms)
}

/// Fetches by `git fetch`, which checks that everything is there itself.
fn git_fetch(
    place: &Place,
    remote: &Remote,
    terms: &Terms<'_>,
) -> Result<Option<ObjectId>, RepoError> {
    let mut command = connected_command(place, remote, terms, "fetch");
    command.args([
        "--progress",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--no-auto-maintenance",
        "--",
        &remote.url,
        &format!("+{}:{FETCHED}", place.branch_ref()),
    ]);
    let (done, words) = run(&mut command, silence(), "fetch", terms)?;
    if done.status.success() {
        return Ok(refs::read(&place.git, &place.objects, FETCHED)?);
    }
    if words.contains("couldn't find remote ref") {
        return Ok(None);
    }
    Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)))
}

/// Pushes a commit, by its id, to the folder's branch on the hub; never forced.
///
/// A push that the hub confirmed, or that found the commit already there, moves the tracking
/// reference.
pub fn push(place: &Place, remote: &Remote, commit: ObjectId, terms: &Terms<'_>) -> Pushed {
    match try_push(place, remote, commit, terms) {
        Ok(said::Verdict::Done) => {
            if let Kind::Path(path) = &remote.kind
                && let Err(error) = hub::keep_branch(path, &place.branch_ref())
            {
                return Pushed::Failed(error.trouble());
            }
            fault::at("P1");
            // The hub has it whatever our memory of it says; the next fetch mends that.
            if let Err(error) = set_tracking(place, &remote.tracking, Some(commit)) {
                tracing::warn!(%error, "the tracking reference could not be moved");
            }
            Pushed::Confirmed { commit }
        }
        Ok(said::Verdict::Behind) => Pushed::Rejected,
        Ok(said::Verdict::Refused(trouble)) => Pushed::Failed(trouble),
        Err(error) => Pushed::Failed(error.trouble()),
    }
}

fn try_push(
    place: &Place,
    remote: &Remote,
    commit: ObjectId,
    terms: &Terms<'_>,
) -> Result<said::Verdict, RepoError> {
    if let Kind::Path(path) = &remote.kind
        && hub::locate(path).is_none()
    {
        return Ok(said::Verdict::Refused(said::no_directory(remote, path)));
    }
    let hooks = hooks_of_large_files(place, commit)?;
    if let (Kind::Path(path), None) = (&remote.kind, &hooks)
        && let Some(verdict) = deliver::deliver(place, remote, path, commit)
    {
        return Ok(verdict);
    }
    let (settings, patience) = match hooks {
        Some(dir) => {
            let mut setting = OsString::from("core.hooksPath=");
            setting.push(dir);
            (vec![setting], SILENCE_OF_HOOKS)
        }
        None => (Vec::new(), silence()),
    };
    let mut command = place.git.command_with(&settings, "push");
    connect(&mut command, remote, terms);
    let branch = place.branch_ref();
    command.args(["--porcelain", "--progress", "--no-signed", "--"]);
    command.args([&remote.url, &format!("{commit}:{branch}")]);
    let (done, words) = run(&mut command, patience, "push", terms)?;
    Ok(said::verdict(
        remote,
        &branch,
        done.status.success(),
        &done.stdout,
        &words,
    ))
}

/// Returns the directory of the user's hooks if the folder uses Git LFS: its pre-push hook
/// uploads what the pushed pointers name, so a push without it would publish pointers to nothing.
fn hooks_of_large_files(place: &Place, commit: ObjectId) -> Result<Option<PathBuf>, RepoError> {
    let common = place.git.common_dir();
    let names_lfs = |text: &[u8]| String::from_utf8_lossy(text).contains("filter=lfs");
    let mut uses = common.join("lfs").exists()
        || std::fs::read(common.join("info/attributes")).is_ok_and(|text| names_lfs(&text));
    if !uses && let Ok(path) = RepoPath::new(".gitattributes") {
        let tree = place.objects.commit(commit)?.tree;
        if let Some(entry) = place.objects.entry(tree, &path)? {
            uses = place
                .objects
                .blob(entry.id)
                .is_ok_and(|text| names_lfs(&text));
        }
    }
    if !uses {
        return Ok(None);
    }
    // The user's setting, not the one that we pin for every command.
    let args = [
        "-z",
        "--show-scope",
        "--type=path",
        "--get-all",
        "core.hooksPath",
    ];
    let done = place.git.ask("config", args, b"")?;
    let mut words = done.stdout.split(|b| *b == 0);
    let mut dir = common.join("hooks");
    while let (Some(scope), Some(value)) = (words.next(), words.next()) {
        if scope != b"command" {
            dir = place.root().join(OsStr::from_bytes(value));
        }
    }
    Ok(Some(dir))
}

fn connected_command(place: &Place, remote: &Remote, terms: &Terms<'_>, name: &str) -> Command {
    let mut command = place.git.command(name);
    connect(&mut command, remote, terms);
    command
}

/// Returns how long the hub may show no progress; the tests ask for less.
fn silence() -> Patience {
    Patience::Silence(fault::millis("AUTOSYNC_TEST_SILENCE_MILLIS").unwrap_or(SILENCE))
}

/// Gives a command what it needs to reach the hub.
fn connect(command: &mut Command, remote: &Remote, terms: &Terms<'_>) {
    if let Kind::Ssh(server, _) = &remote.kind {
        let client = Client::new(remote.ssh_command.as_deref(), server, terms.runtime);
        command.env("GIT_SSH_COMMAND", client.words());
    }
}

/// Runs a command that talks to the hub. Returns what it left, and its words without progress.
fn run(
    command: &mut Command,
    patience: Patience,
    what: &str,
    terms: &Terms<'_>,
) -> Result<(Finished, String), RepoError> {
    let mut listener = said::Listener::new(what, terms.progress);
    let done = process::run_watched(command, b"", patience, &mut |piece| listener.hear(piece))
        .map_err(GitError::Spawn)?;
    let words = listener.finish();
    if done.stalled {
        return Err(RepoError::Blocked(said::stalled(what)));
    }
    Ok((done, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Code, Recovery};

    #[test]
    fn a_hub_that_makes_no_progress_is_a_passing_trouble() {
        let terms = Terms {
            runtime: Path::new("/"),
            approved: false,
            progress: &|_| {},
        };
        let mut command = process::command("sh");
        command.args(["-c", "echo 'Receiving objects: 10% (1/10)' >&2; sleep 60"]);
        let patience = Patience::Silence(Duration::from_millis(100));
        let error = run(&mut command, patience, "fetch", &terms).unwrap_err();
        let trouble = error.trouble();
        assert_eq!(
            (trouble.code, trouble.recovery),
            (Code::Stalled, Recovery::Retry)
        );
    }
}
