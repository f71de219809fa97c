//! Pushes a few new commits to a plain hub on a path with one small process.
//!
//! What `git push` does in a dozen steps of four programs: the objects are written into the hub,
//! checked and durable, then its branch is moved by compare-and-swap. The branch is moved by the
//! git program, which lets go of its locks if this process dies; if it is killed with it, the next
//! start does.
//!
//! Only a hub that would not do anything else with a push is served so: bare, ours, without hooks,
//! without rules of its own, not due for its own gc. Whatever is not plain is left to `git push`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use super::super::ref_locks::{delivered, note_delivery, remove_hub_locks};
use super::said::Verdict;
use super::{Place, Remote, nearby};
use crate::fault;
use crate::git::hub::{self, Look};
use crate::git::objects::Objects;
use crate::git::refs::RefTransaction;
use crate::git::{Git, GitError};
use crate::names::ObjectId;

/// Hooks that a push runs on a hub.
const HOOKS: &[&str] = &[
    "pre-receive",
    "update",
    "proc-receive",
    "reference-transaction",
    "post-receive",
    "post-update",
];

/// Settings of a hub that change nothing here: objects are checked and nothing is forced.
const HARMLESS: &[&str] = &[
    "receive.fsckobjects",
    "receive.denynonfastforwards",
    "receive.denydeletes",
    "receive.autogc",
    "receive.unpacklimit",
    "transfer.fsckobjects",
    "transfer.unpacklimit",
];

/// From so many loose objects in one of 256 directories on, git's own push lets the hub clean up.
const DUE_FOR_GC: usize = 26;

/// Pushes `commit` to the repository at `path`. Returns `None` if that is for `git push` to do;
/// then the hub has at most some more objects.
pub(super) fn deliver(
    place: &Place,
    remote: &Remote,
    path: &Path,
    commit: ObjectId,
) -> Option<Verdict> {
    let branch = &place.settings.branch;
    let dir = hub::locate(path)?;
    let Look::Tip(Some(tip)) = hub::look_in(&dir, branch).ok()? else {
        return None;
    };
    if tip == commit {
        return Some(Verdict::Done);
    }
    let here = place.objects.library().filter(|_| !remote.partial)?;
    if !place.objects.contains(tip) || !place.objects.descends(commit, tip).ok()? {
        return Some(Verdict::Behind);
    }
    let git = Git::bare(&dir);
    let theirs = Rc::new(Objects::open(&git).ok()?);
    if !is_plain(theirs.library()?, here) {
        return None;
    }
    // It starts while the objects are written.
    let mut refs = RefTransaction::start(&git, "push").ok()?;
    if !nearby::bring(&theirs, here.commondir(), commit, &[tip]) {
        return None;
    }
    fault::at("P0.objects");
    note_delivery(place, &dir, &place.branch_ref(), commit, refs.pid()).ok()?;
    let prepared = refs
        .update(&place.branch_ref(), commit, tip)
        .and_then(|()| refs.prepare());
    if prepared.is_ok() {
        fault::at("P0.prepared");
    }
    let moved = prepared.and_then(|()| refs.commit());
    if moved.as_ref().is_err_and(GitError::was_killed) {
        // It could not let go of the hub's branch, and nobody else can.
        remove_hub_locks(place).ok()?;
    } else {
        delivered(place).ok()?;
    }
    match moved {
        Ok(()) => Some(Verdict::Done),
        // Locked or moved by somebody else, or something that git has words for.
        Err(error) => {
            tracing::debug!(%error, "the hub's branch did not move");
            None
        }
    }
}

/// Whether nothing happens to a push to this hub but that it is stored.
fn is_plain(hub: &git2::Repository, here: &git2::Repository) -> bool {
    let dir = hub.path();
    let user = rustix::process::geteuid().as_raw();
    let hooked = |name: &&str| {
        fs::metadata(dir.join("hooks").join(name))
            .is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
    };
    let loose = fs::read_dir(dir.join("objects/17")).map_or(0, Iterator::count);
    fs::metadata(dir).is_ok_and(|found| found.uid() == user)
        && hub.is_bare()
        && !hub.is_shallow()
        && !HOOKS.iter().any(hooked)
        && loose <= DUE_FOR_GC
        && keys(hub).is_some_and(|keys| {
            !keys.iter().any(|key| {
                let rule = key.starts_with("receive.") || key.starts_with("transfer.");
                (rule && !HARMLESS.contains(&key.as_str()))
                    || matches!(key.as_str(), "core.hookspath" | "core.sharedrepository")
            })
        })
        && keys(here).is_some_and(|keys| {
            !keys
                .iter()
                .any(|key| key.starts_with("url.") && key.ends_with(".pushinsteadof"))
        })
}

/// Returns the name of every setting that git sees in a repository, in lower case.
fn keys(repo: &git2::Repository) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut add = |config: &git2::Config| -> Option<()> {
        let mut entries = config.entries(None).ok()?;
        while let Some(entry) = entries.next() {
            found.insert(entry.ok()?.name().ok()?.to_lowercase());
        }
        Some(())
    };
    add(&repo.config().ok()?)?;
    // libgit2 does not know of these.
    for variable in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        let file = std::env::var_os(variable).filter(|file| file != OsStr::new("/dev/null"));
        if let Some(file) = file {
            add(&git2::Config::open(Path::new(&file)).ok()?)?;
        }
    }
    Some(found)
}
