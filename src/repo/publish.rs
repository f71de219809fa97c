//! Steps S6-S8: the index and the branch move together, under locks held for two renames.
//!
//! Invariants:
//! 1. The new index is written beside the user's, before any lock is taken.
//! 2. The index moves before the branch: a kill between them shows the batch as staged, which is
//!    harmless; in the other order a plain `git commit` of the user would revert the batch.
//! 3. The new index is made under a name of this process alone: what a child of a killed agent still
//!    writes gets into no index, and a lock that it leaves is in nobody's way.
//! 4. A lock that we did not take is never touched; `index_lock` knows ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::{Place, RepoError, index_lock, staged};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::fault;
use crate::git::gate::{self, Record, Stamp};
use crate::git::index::{IndexView, raw_change, records};
use crate::git::refs::{Head, RefTransaction};
use crate::git::tree::Entry;
use crate::git::{self, GitError};
use crate::names::{ObjectId, RepoPath};

/// From this many paths on, the comparison with the commit reads the whole index instead.
const PATHSPEC_LIMIT: usize = 200;

/// How the name of an index in the making begins; the process id follows.
const MAKING: &str = "index.";

/// How often a step is tried again when the user's git moved the index under us.
const TRIES: usize = 3;

/// What an index entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEdit {
    /// The path.
    pub path: RepoPath,
    /// What the new commit has there; `None` removes the entry.
    pub entry: Option<Entry>,
    /// Whether to take the stat data from the disk, if the content there is this entry.
    pub refresh: bool,
    /// Whether git is told to leave the path alone (base map).
    pub skip_worktree: bool,
}

/// What a publication came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Index and branch are at the commit.
    Done,
    /// Nothing moved; the user's git is at work.
    Blocked(Trouble),
}

/// Moves the index and the branch from `record` to `commit`.
///
/// `view` is carried forward to the new index. Nothing has moved unless this returns
/// [`Published::Done`] or the process dies between its last two steps.
pub fn publish(
    place: &Place,
    view: &mut IndexView,
    record: &Record,
    commit: ObjectId,
    edits: &[IndexEdit],
    reason: &str,
) -> Result<Published, RepoError> {
    let aside = place.store.join("index.new");
    let user = place.git.dir().join("index");
    let lock = place.git.dir().join("index.lock");
    for _ in 0..TRIES {
        // The program gets ready meanwhile; it locks nothing before `prepare`.
        let mut refs = RefTransaction::start(&place.git, reason)?;
        let copied = write_index(place, view, &aside, record.tip, commit, edits)?;
        fault::at("S6.index");
        // A commit whose message is being written has let go of its locks, and fails if the branch
        // moves meanwhile.
        if let Some(trouble) = gate::at_work(&place.git, &place.settings.branch) {
            refs.abort()?;
            return Ok(Published::Blocked(trouble));
        }

        let name = place.branch_ref();
        let old = record.tip.unwrap_or_else(|| commit.zero_like());
        refs.update(&name, commit, old)?;
        if !index_lock::take(place, &aside)? {
            refs.abort()?;
            return Ok(busy("another git holds `index.lock`"));
        }
        fault::at("S7.index-locked");
        if Stamp::of(&user) != copied {
            index_lock::give_back(place)?;
            refs.abort()?;
            continue;
        }
        if let Err(error) = refs.prepare() {
            if error.was_killed() {
                // By somebody else, while we live: its locks are known by ours of the index.
                remove_own_locks(place, &[commit])?;
            } else {
                index_lock::give_back(place)?;
            }
            tracing::debug!(%error, "the branch is locked or moved");
            return Ok(busy("the branch is locked or moved"));
        }
        fault::at("S7.prepared");
        let head_lock = place.git.dir().join("HEAD.lock");
        let locked = index_lock::look(&head_lock)?.map(|seen| seen.which);
        let here = git::refs::head(&place.git)?;
        if here != Head::Branch(name) || gate::in_progress(&place.git).is_some() {
            index_lock::give_back(place)?;
            refs.abort()?;
            return Ok(busy("HEAD moved"));
        }

        fs::rename(&lock, &user).map_err(|error| RepoError::io(&user, error))?;
        fault::at("S8.index");
        if let Err(error) = refs.commit() {
            if error.was_killed() {
                remove_own_locks(place, &[commit])?;
            }
            return Err(error.into());
        }
        // A disk that fails does not let git remove its lock; nobody else would know whose it is.
        if locked.is_some() && locked == index_lock::look(&head_lock)?.map(|seen| seen.which) {
            remove(&head_lock)?;
        }
        fault::at("S8.branch");
        remove(&aside)?;
        index_lock::forget(place)?;
        carry_forward(view, Stamp::of(&user), edits);
        return Ok(Published::Done);
    }
    Ok(busy("the index is being written again and again"))
}

fn busy(what: &str) -> Published {
    Published::Blocked(Trouble::new(
        Code::GitBusy,
        Recovery::Pause,
        format!("waiting: {what}"),
        "",
    ))
}

/// Writes `index.new` (S6). Returns the stamp of the user's index that it was made from.
fn write_index(
    place: &Place,
    view: &IndexView,
    new: &Path,
    tip: Option<ObjectId>,
    commit: ObjectId,
    edits: &[IndexEdit],
) -> Result<Option<Stamp>, RepoError> {
    let aside = place.store.join(format!("{MAKING}{}", std::process::id()));
    // From an earlier process of this number, killed together with its children.
    remove(&aside.with_extension(format!("{}.lock", std::process::id())))?;
    let copied = make_index(place, view, &aside, tip, commit, edits)?;
    // git marks the entries of files that were changed within the clock tick in which they were
    // looked at, but for those that it does not find. The time of the index tells of these.
    if !place.mounts.borrow().waiting().is_empty()
        && let Some(old) = copied
    {
        set_mtime(&aside, old.mtime)?;
    }
    fs::rename(&aside, new).map_err(|error| RepoError::io(new, error))?;
    Ok(copied)
}

fn make_index(
    place: &Place,
    view: &IndexView,
    aside: &Path,
    tip: Option<ObjectId>,
    commit: ObjectId,
    edits: &[IndexEdit],
) -> Result<Option<Stamp>, RepoError> {
    remove(aside)?;
    let user = &place.git.dir().join("index");
    let with_index = |name: &str| {
        let mut command = place.git.command(name);
        command.env("GIT_INDEX_FILE", aside);
        command
    };
    let copied = copy_with_mtime(user, aside)?;
    if copied.is_none()
        && let Some(tip) = tip
    {
        git::run(
            with_index("read-tree").arg(tip.to_string()),
            b"",
            git::LOCAL,
            "read-tree",
        )?;
    }

    let is_view = copied == view.stamp;
    let list = with_index("ls-files");
    staged::keep_replaced(place, (view, is_view), list, tip, edits)?;

    let mut forced: Vec<&IndexEdit> = edits
        .iter()
        .filter(|edit| edit.skip_worktree || !edit.refresh)
        .collect();
    let from_disk: Vec<&IndexEdit> = edits
        .iter()
        .filter(|edit| edit.refresh && !edit.skip_worktree)
        .collect();
    if !from_disk.is_empty() {
        let mut input = Vec::new();
        for edit in &from_disk {
            input.extend_from_slice(edit.path.as_bytes());
            input.push(0);
        }
        let mut command = with_index("update-index");
        command.args(["--add", "--remove", "--replace", "-z", "--stdin"]);
        let done = git::run_any(&mut command, &input, git::LOCAL, "update-index")?;
        if done.status.success() {
            // Saved again meanwhile: the index says what the commit has, not what the disk has.
            let differing = differing(with_index("diff-index"), commit, &from_disk)?;
            forced.extend(
                from_disk
                    .iter()
                    .filter(|edit| differing.contains(&edit.path)),
            );
        } else {
            // Something that git cannot take stands at one of the paths by now.
            remove(aside)?;
            if copy_with_mtime(user, aside)? != copied {
                return Ok(copied);
            }
            forced = edits.iter().collect();
        }
    }
    if !forced.is_empty() {
        let zero = commit.zero_like();
        let mut input = Vec::new();
        for edit in &forced {
            let (mode, id) = edit.entry.map_or((0, zero), |entry| (entry.mode, entry.id));
            input.extend_from_slice(format!("{mode:o} {id} 0\t").as_bytes());
            input.extend_from_slice(edit.path.as_bytes());
            input.push(0);
        }
        let mut command = with_index("update-index");
        git::run(
            command.args(["-z", "--index-info"]),
            &input,
            git::LOCAL,
            "update-index",
        )?;
    }
    let skipped: Vec<u8> = edits
        .iter()
        .filter(|edit| edit.skip_worktree && edit.entry.is_some())
        .flat_map(|edit| edit.path.as_bytes().iter().copied().chain([0]))
        .collect();
    if !skipped.is_empty() {
        let mut command = with_index("update-index");
        command.args(["-z", "--skip-worktree", "--stdin"]);
        git::run(&mut command, &skipped, git::LOCAL, "update-index")?;
    }
    if !aside.exists() {
        // An empty tree over no index: git writes none by itself.
        git::run(
            with_index("read-tree").arg("--empty"),
            b"",
            git::LOCAL,
            "read-tree",
        )?;
    }
    Ok(copied)
}

/// Copies the index with its exact modification time: with a newer one, entries that were changed
/// within the same clock tick would pass as clean for ever.
fn copy_with_mtime(user: &Path, aside: &Path) -> Result<Option<Stamp>, RepoError> {
    let before = match fs::metadata(user) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RepoError::io(user, error)),
    };
    fs::copy(user, aside).map_err(|error| RepoError::io(aside, error))?;
    let stamp = Stamp::from_metadata(&before);
    set_mtime(aside, stamp.mtime)?;
    Ok(Some(stamp))
}

/// Sets the modification time of a file, in nanoseconds since 1970.
fn set_mtime(path: &Path, mtime: i128) -> Result<(), RepoError> {
    let second = 1_000_000_000;
    let time = Timespec {
        tv_sec: i64::try_from(mtime.div_euclid(second)).unwrap_or(0),
        tv_nsec: i64::try_from(mtime.rem_euclid(second)).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
        .map_err(|error| RepoError::io(path, error.into()))
}

/// Returns the paths whose entry in the new index is not what the commit has.
fn differing(
    mut command: Command,
    commit: ObjectId,
    edits: &[&IndexEdit],
) -> Result<std::collections::BTreeSet<RepoPath>, RepoError> {
    use std::os::unix::ffi::OsStrExt;
    let commit = commit.to_string();
    command.args([
        "--cached",
        "--raw",
        "-z",
        "--no-renames",
        "--no-abbrev",
        &commit,
        "--",
    ]);
    if edits.len() <= PATHSPEC_LIMIT {
        for edit in edits {
            command.arg(std::ffi::OsStr::from_bytes(edit.path.as_bytes()));
        }
    }
    let out = git::run(&mut command, b"", git::LOCAL, "diff-index")?.stdout;
    let mut found = std::collections::BTreeSet::new();
    let mut parts = records(&out);
    while let (Some(change), Some(path)) = (parts.next(), parts.next()) {
        found.insert(raw_change(change, path)?.0);
    }
    Ok(found)
}

/// Removes a file of ours; that it is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), RepoError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RepoError::io(path, error)),
    }
}

/// Carries the view over our own change of the index.
fn carry_forward(view: &mut IndexView, stamp: Option<Stamp>, edits: &[IndexEdit]) {
    view.stamp = stamp;
    for edit in edits {
        view.staged.remove(&edit.path);
        // What has no entry has no flag: a file there is the user's, and new.
        if edit.skip_worktree && edit.entry.is_some() {
            view.flagged.insert(edit.path.clone());
        } else {
            view.flagged.remove(&edit.path);
        }
    }
}

/// Removes the indexes in the making that killed agents left.
pub(super) fn remove_unfinished(place: &Place) -> Result<(), RepoError> {
    let failed = |error| RepoError::io(&place.store, error);
    for entry in fs::read_dir(&place.store).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(MAKING.as_bytes())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the locks that a killed agent left, and nothing else (ground rule 3).
///
/// git makes a lock before it writes into it, and one of HEAD stays empty. Such a lock tells nothing by
/// itself; it is ours while our lock of the index stands, because we lock the branch under that only, and
/// nobody else is at work. So the lock of the index goes last.
///
/// `tips` are the commits that we were moving the branch to. Must be called under our own lock of
/// the folder. Returns the locks that were removed.
pub fn remove_own_locks(place: &Place, tips: &[ObjectId]) -> Result<Vec<PathBuf>, RepoError> {
    let mut removed = Vec::new();
    let mut take = |path: PathBuf| -> Result<(), RepoError> {
        // A git that outlived us may let go of it in this moment.
        remove(&path)?;
        tracing::info!(path = %path.display(), "removed a lock that a killed agent left");
        removed.push(path);
        Ok(())
    };
    let index = index_lock::left_behind(place)?;
    if let Some(lock) = git::reftable::left_lock(&place.git) {
        take(lock)?;
    }
    git::reftable::forget(&place.git)?;

    let branch = place
        .git
        .common_dir()
        .join(format!("{}.lock", place.branch_ref()));
    let head = place.git.dir().join("HEAD.lock");
    let is_empty = |lock: &Path| fs::symlink_metadata(lock).is_ok_and(|meta| meta.len() == 0);
    let held_for = fs::read(&branch)
        .ok()
        .and_then(|text| ObjectId::from_hex(text).ok());
    let tip = git::refs::read(&place.git, &place.objects, &place.branch_ref())?;
    let moved_by_us =
        tip.is_some_and(|tip| tips.contains(&tip)) && place.store.join("index.new").exists();
    let is_nameless = is_empty(&branch) || (is_empty(&head) && !branch.exists());
    let under_ours = index.is_some() && is_nameless;
    if under_ours && !gate::foreign_writers(&place.git).is_empty() {
        // The next try knows more; until then the lock of the index is what it is known by.
        return Ok(removed);
    }
    let branch_is_ours =
        held_for.is_some_and(|id| tips.contains(&id)) || (under_ours && is_empty(&branch));
    if is_empty(&head) && (branch_is_ours || under_ours || moved_by_us) {
        take(head)?;
    }
    fault::at("L2.head-free");
    if branch_is_ours {
        take(branch)?;
    }
    if let Some(lock) = index {
        take(lock)?;
        index_lock::forget(place)?;
    }
    Ok(removed)
}

impl From<git2::Error> for RepoError {
    fn from(error: git2::Error) -> Self {
        Self::Git(GitError::Library(error))
    }
}
