//! First contact with a hub: whose history counts, and what of the local files stays.
//!
//! The hub's history is adopted. What lies in the folder becomes edits on top of it: what is equal
//! vanishes, what the hub's history knows at that path is merely old and gives way, the rest
//! follows the conflict rule without a base. A local history that only the agent made, and that
//! no hub ever had, is discarded after that (a reference of ours keeps it); one that a person made
//! is never mixed with another.
//!
//! Invariants:
//! 1. `autosync.id`, once written, is never written again.
//! 2. Nothing is discarded before a reference keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::merge::{self, Prefer};
use super::three_way::{self, Base, Trees};
use super::{Place, RepoError};
use crate::engine::event::{Code, ConflictCopy, Recovery, Trouble};
use crate::git::index::{raw_change, records};
use crate::git::objects::Commit;
use crate::git::tree::{self, Edits};
use crate::git::{LOCAL, refs, run};
use crate::names::{ObjectId, RepoPath};

/// The configuration key of the folder's identity.
pub const ID_KEY: &str = "autosync.id";

/// Keeps the local history that gave way at first contact.
pub const DISCARDED: &str = "refs/worktree/autosync/before-contact";

/// From this many paths on, the whole history is read instead of that of the paths.
const MANY: usize = 500;

/// What a first contact came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// The histories have a common root: merge as always.
    Related,
    /// The hub's history is ours now.
    Adopted {
        /// The commit to apply: the hub's tip, or a new commit on top of it, to be pushed.
        commit: ObjectId,
        /// The conflict copies in it.
        copies: Vec<ConflictCopy>,
    },
    /// The hub holds another project; nothing was touched.
    Unrelated(Trouble),
}

/// Looks at a hub that has commits, for the first time or after histories turned out unrelated.
///
/// Everything in the folder must be committed in `local_tip`; `None` is an empty folder. Writes
/// the folder's identity if it has none. Neither work tree, index nor branch is touched.
pub fn first_contact(
    place: &Place,
    hub_tip: ObjectId,
    local_tip: Option<ObjectId>,
) -> Result<Contact, RepoError> {
    let known = place.git.config(ID_KEY)?;
    let shallow = is_shallow(place);
    if let (Some(known), false) = (&known, shallow)
        && *known != root_of(place, hub_tip)?.to_string()
    {
        return Ok(Contact::Unrelated(another_project()));
    }
    let Some(local_tip) = local_tip else {
        identify(place, hub_tip)?;
        return Ok(adopted(hub_tip));
    };
    if !place.objects.merge_bases(hub_tip, local_tip)?.is_empty() {
        identify(place, hub_tip)?;
        return Ok(Contact::Related);
    }
    let may_adopt = known.is_none() || gave_way(place, local_tip)?;
    if !may_adopt || !is_all_ours(place, local_tip)? {
        return Ok(unrelated(
            "the hub holds another project: its history and this folder's have nothing in common",
            "Choose another hub, or move this folder away and clone the hub.",
        ));
    }
    refs::set(&place.git, &place.objects, DISCARDED, Some(local_tip))?;
    let hub_tree = place.objects.commit(hub_tip)?.tree;
    let local_tree = without_old_versions(place, hub_tip, hub_tree, local_tip)?;
    let trees = Trees {
        base: place.objects.write_tree(Vec::new())?,
        hub: hub_tree,
        local: local_tree,
    };
    let merged = merge::merge_trees(place, trees, Base::Given, [hub_tip, local_tip], Prefer::Hub)?;
    let contact = if merged.tree == hub_tree {
        adopted(hub_tip)
    } else {
        let commit = merge::write(place, &merged, hub_tree, &[hub_tip])?;
        Contact::Adopted {
            commit,
            copies: merged.copies,
        }
    };
    identify(place, hub_tip)?;
    Ok(contact)
}

fn adopted(commit: ObjectId) -> Contact {
    Contact::Adopted {
        commit,
        copies: Vec::new(),
    }
}

/// The trouble of a hub that holds something else than it did.
pub(super) fn another_project() -> Trouble {
    Trouble::new(
        Code::Unrelated,
        Recovery::Hold,
        "the hub holds another project than this folder was synced with",
        "Check the hub's address; if the hub was made anew, move the folder away and clone it.",
    )
}

fn unrelated(message: &str, hint: &str) -> Contact {
    Contact::Unrelated(Trouble::new(Code::Unrelated, Recovery::Hold, message, hint))
}

/// Returns the folder's identity; writes it if there is none yet.
///
/// `tip` is the hub's, or one that the hub confirmed to have taken. Returns `None` for a shallow
/// clone, which does not know its root: it has to ask the hub.
pub fn identify(place: &Place, tip: ObjectId) -> Result<Option<String>, RepoError> {
    if let Some(known) = place.git.config(ID_KEY)? {
        return Ok(Some(known));
    }
    if is_shallow(place) {
        return Ok(None);
    }
    identify_as(place, root_of(place, tip)?).map(Some)
}

/// Returns the folder's identity; writes this one if there is none yet.
pub fn identify_as(place: &Place, root: ObjectId) -> Result<String, RepoError> {
    if let Some(known) = place.git.config(ID_KEY)? {
        return Ok(known);
    }
    let id = root.to_string();
    place.git.set_config(ID_KEY, &id)?;
    Ok(id)
}

/// Returns whether the history here is cut short, so that it has no root.
pub fn is_shallow(place: &Place) -> bool {
    place.git.common_dir().join("shallow").exists()
}

/// Returns the root that first parents lead to.
fn root_of(place: &Place, tip: ObjectId) -> Result<ObjectId, RepoError> {
    let tip = tip.to_string();
    let args = ["--first-parent", "--max-parents=0", &tip];
    let out = place.git.call("rev-list", args, b"")?;
    let last = out
        .trim_ascii()
        .rsplit(|b| *b == b'\n')
        .next()
        .unwrap_or_default();
    Ok(ObjectId::from_hex(last).map_err(crate::git::GitError::from)?)
}

/// Returns whether a local history gave way to the hub's before, and is only not replaced yet: the
/// hub moved, or was pushed to, between the adoption and its apply.
fn gave_way(place: &Place, local_tip: ObjectId) -> Result<bool, RepoError> {
    let Some(discarded) = refs::read(&place.git, &place.objects, DISCARDED)? else {
        return Ok(false);
    };
    let bases = place.objects.merge_bases(discarded, local_tip)?;
    Ok(bases.contains(&discarded))
}

/// Returns whether every commit of a history was made by the agent.
fn is_all_ours(place: &Place, tip: ObjectId) -> Result<bool, RepoError> {
    let ours = |commit: &Commit| !commit.trailers("Autosync-Host").is_empty();
    let mut seen = BTreeSet::from([tip]);
    let mut todo = vec![tip];
    while let Some(id) = todo.pop() {
        let commit = place.objects.commit(id)?;
        if !ours(&commit) {
            return Ok(false);
        }
        todo.extend(commit.parents.iter().filter(|parent| seen.insert(**parent)));
    }
    Ok(true)
}

/// Returns the local tree in which every version that the hub's history knows at its path has
/// given way to what the hub has there now.
fn without_old_versions(
    place: &Place,
    hub_tip: ObjectId,
    hub_tree: ObjectId,
    local_tip: ObjectId,
) -> Result<ObjectId, RepoError> {
    let local_tree = place.objects.commit(local_tip)?.tree;
    let mut mine = BTreeMap::new();
    let mut edits = Edits::new();
    for change in tree::differences(&place.objects, Some(hub_tree), Some(local_tree))? {
        match (change.old, change.new) {
            (hub, Some(local)) if hub.is_some_and(|hub| hub.same_content(&local)) => {
                edits.insert(change.path, hub);
            }
            (hub, Some(local)) => {
                mine.insert(change.path, (local.id, hub));
            }
            (_, None) => {}
        }
    }
    for (path, id) in versions_in_history(place, hub_tip, mine.keys())? {
        if let Some((local, hub)) = mine.get(&path)
            && *local == id
        {
            edits.insert(path, *hub);
        }
    }
    three_way::build(place, local_tree, &edits)
}

/// Returns every version that these paths ever had in a history.
pub(super) fn versions_in_history<'a>(
    place: &Place,
    tip: ObjectId,
    paths: impl ExactSizeIterator<Item = &'a RepoPath>,
) -> Result<Vec<(RepoPath, ObjectId)>, RepoError> {
    if paths.len() == 0 {
        return Ok(Vec::new());
    }
    let mut command = place.git.command("log");
    command.args([
        "--format=",
        "--raw",
        "-z",
        "-m",
        "--root",
        "--full-history",
        "--no-renames",
        "--no-abbrev",
        "--end-of-options",
    ]);
    command.args([&tip.to_string(), "--"]);
    if paths.len() < MANY {
        command.args(paths.map(|path| OsStr::from_bytes(path.as_bytes())));
    }
    let out = run(&mut command, b"", LOCAL, "log")?.stdout;
    let mut found = Vec::new();
    let mut parts = records(&out);
    while let (Some(change), Some(path)) = (parts.next(), parts.next()) {
        // With an empty format, `-m` separates the parents of a merge by a line of its own.
        let start = change.iter().position(|b| *b == b':').unwrap_or(0);
        let (path, entry) = raw_change(&change[start..], path)?;
        found.extend(entry.map(|entry| (path, entry.id)));
    }
    Ok(found)
}
