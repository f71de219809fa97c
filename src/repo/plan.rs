//! What an apply is going to do, decided before anything is touched (A1).
//!
//! The plan is the difference between the tip and the new commit, as operations on paths, each with
//! what the disk is expected to have: what the tip has, or what the base map says instead. Paths of
//! the base map are tried again in every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rustix::fs::CWD;

use super::bases::{Bases, Why};
use super::disk::{Kind, look};
use super::filter::{self, Above, Form, Parents, Patterns, Storage};
use super::journal::{Op, Step};
use super::mass::is_mass;
use super::slots::{Conversion, Rules};
use super::{Place, RepoError, verify};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::git::index::IndexView;
use crate::git::objects::Commit;
use crate::git::tree::{self, Difference, Entry, GITLINK, Lookup};
use crate::git::{self, LOCAL};
use crate::names::{LONGEST_RULES, ObjectId, RepoPath};

/// The longest path, in bytes (`PATH_MAX`, less its NUL).
const LONGEST_PATH: usize = 4095;

/// What an apply is going to do.
#[derive(Debug)]
pub struct Plan {
    /// What becomes of each path, in the order of the paths.
    pub ops: Vec<Op>,
    /// How new contents are converted for the disk.
    pub conversion: Conversion,
    /// Whether a mass deletion is carried out.
    pub mass: bool,
    /// The commits that come in, newest first.
    pub incoming: Vec<(ObjectId, Commit)>,
}

/// The two ends of an apply.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The tip that the tree is at.
    pub from: ObjectId,
    /// The commit to apply.
    pub to: ObjectId,
    /// Whether only this disk goes there: the branch stays.
    pub here: bool,
}

/// Which removals need no person's word any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// Those that a commit with `Autosync-Approved` made.
    Commits,
    /// Also those of these paths, which this host itself made or a person approved here.
    Own(BTreeSet<RepoPath>),
}

/// Makes the plan. Nothing is touched but the stage, where rules may be laid out.
///
/// Errors with [`RepoError::Blocked`] if the whole update is refused.
pub fn plan(
    place: &Place,
    bases: &Bases,
    view: &IndexView,
    ends: Ends,
    approval: &Approval,
    stage: &Path,
) -> Result<Plan, RepoError> {
    let objects = &place.objects;
    let old_tree = objects.commit(ends.from)?.tree;
    let new_tree = objects.commit(ends.to)?.tree;
    let differences = tree::differences(objects, Some(old_tree), Some(new_tree))?;
    refuse_dangerous(&differences)?;
    refuse_staged(view, &differences)?;

    let incoming = incoming(place, ends)?;
    let removed = removals(&differences);
    let mass = is_mass(place, old_tree, Some(new_tree), &removed, 0)?;
    let agreed = agreed(place, approval, mass, &incoming)?;
    let is_agreed = |path: &RepoPath| agreed.contains(path);
    let unapproved = removed.iter().filter(|it| !is_agreed(it)).cloned();
    let unapproved: BTreeSet<RepoPath> = unapproved.collect();
    let holds = is_mass(place, old_tree, Some(new_tree), &unapproved, 0)?;
    let waits = |path: &RepoPath| holds && unapproved.contains(path);

    let new_tree = Lookup::new(objects, Some(new_tree));
    let mut ops = wanted(bases, view, ends, &differences, &new_tree)?;
    let storage = Storage::read(place)?;
    let mut parents = Parents::default();
    let mounts = place.mounts.borrow();
    for op in &mut ops {
        let known = bases.get(&op.path);
        let still_waits =
            known.is_some_and(|base| base.why == Why::RemovalWaits) && !is_agreed(&op.path);
        let only_here = !ends.here && known.is_some_and(|base| base.why == Why::OnlyHere);
        op.why = if op.step == Step::Nothing {
            None
        } else if only_here {
            Some(Why::OnlyHere)
        } else if op.new.is_none() && (still_waits || waits(&op.path)) {
            Some(Why::RemovalWaits)
        } else if let Some(why) = mounts.hindrance(&op.path) {
            Some(Why::Deferred(why.to_owned()))
        } else if let Above::Nested(_) = parents.above(place, &op.path) {
            Some(Why::Deferred("inside another repository".to_owned()))
        } else if op.new.is_some() && !fits(place, &op.path) {
            Some(Why::NotRepresentable)
        } else {
            None
        };
        if op.step == Step::Mode && !storage.trust_mode {
            op.step = Step::Nothing;
        }
        if op.why.is_some() {
            op.step = Step::Nothing;
        }
    }
    let conversion = conversion(place, stage, &storage, &mut ops, &differences, &new_tree)?;
    expect_converted(place, &storage, &mut ops)?;
    note_ignored(place, &mut parents, &mut ops)?;
    weigh(place, &mut ops)?;

    // What waited and goes now is no difference between the ends any more.
    let waited = |op: &Op| {
        op.step == Step::Delete
            && bases
                .get(&op.path)
                .is_some_and(|base| base.why == Why::RemovalWaits)
    };
    Ok(Plan {
        mass: mass || ops.iter().any(waited),
        ops,
        conversion,
        incoming,
    })
}

/// Refuses the whole update if a name in it is dangerous on any system.
fn refuse_dangerous(differences: &[Difference]) -> Result<(), RepoError> {
    for difference in differences {
        if let Some(new) = difference.new
            && let Some(why) = crate::names::danger(&difference.path, new.mode)
        {
            return Err(RepoError::Blocked(Trouble::new(
                Code::DangerousName,
                Recovery::Hold,
                format!("`{}` came in: {why}", difference.path),
                "Delete or rename it on the host that made it; nothing of that update is taken.",
            )));
        }
    }
    Ok(())
}

/// Waits while the user has something else than HEAD's staged at a path that changes: the index
/// entry is going to be the new commit's, and the staging would be lost.
fn refuse_staged(view: &IndexView, differences: &[Difference]) -> Result<(), RepoError> {
    let pause = |code, message| {
        let hint = "Commit it, or take it back with `git restore --staged`.";
        Err(RepoError::Blocked(Trouble::new(
            code,
            Recovery::Pause,
            message,
            hint,
        )))
    };
    if view.unmerged {
        return pause(
            Code::Unmerged,
            "waiting: the index has unmerged entries".to_owned(),
        );
    }
    for difference in differences {
        if let Some(staged) = view.staged.get(&difference.path)
            && *staged != difference.new
        {
            let message = format!("waiting: a part of `{}` is staged", difference.path);
            return pause(Code::GitBusy, message);
        }
    }
    Ok(())
}

/// Returns the commits of `to` that `from` does not contain, newest first.
pub(super) fn incoming(place: &Place, ends: Ends) -> Result<Vec<(ObjectId, Commit)>, RepoError> {
    let mut found = Vec::new();
    if ends.from == ends.to {
        return Ok(found);
    }
    if let Some(repo) = place.objects.library() {
        let mut walk = repo.revwalk()?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME)?;
        walk.push(git2::Oid::from_bytes(ends.to.as_bytes())?)?;
        walk.hide(git2::Oid::from_bytes(ends.from.as_bytes())?)?;
        for id in walk {
            let id = ObjectId::from_bytes(id?.as_bytes()).map_err(git::GitError::from)?;
            found.push((id, place.objects.commit(id)?));
        }
    } else {
        let not = format!("^{}", ends.from);
        let args = ["--topo-order", &ends.to.to_string(), &not];
        let out = place.git.call("rev-list", args, b"")?;
        for line in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let id = ObjectId::from_hex(line).map_err(git::GitError::from)?;
            found.push((id, place.objects.commit(id)?));
        }
    }
    Ok(found)
}

/// Returns the paths that go without coming back under another name.
pub(super) fn removals(differences: &[Difference]) -> BTreeSet<RepoPath> {
    let added: BTreeSet<ObjectId> = differences
        .iter()
        .filter(|difference| difference.old.is_none())
        .filter_map(|difference| difference.new.map(|new| new.id))
        .collect();
    differences
        .iter()
        .filter(|difference| difference.new.is_none())
        .filter(|difference| difference.old.is_some_and(|old| !added.contains(&old.id)))
        .map(|difference| difference.path.clone())
        .collect()
}

/// Returns the paths whose removal somebody approved: those that commits with the trailer removed,
/// each for itself, and our own.
fn agreed(
    place: &Place,
    approval: &Approval,
    mass: bool,
    incoming: &[(ObjectId, Commit)],
) -> Result<BTreeSet<RepoPath>, RepoError> {
    let mut agreed = match approval {
        Approval::Own(paths) => paths.clone(),
        Approval::Commits => BTreeSet::new(),
    };
    if mass {
        for (_, commit) in incoming {
            if !commit.trailers("Autosync-Approved").is_empty() {
                agreed.extend(removed_by(place, commit)?);
            }
        }
    }
    Ok(agreed)
}

/// Returns the paths that a commit removed, compared with its first parent.
pub fn removed_by(place: &Place, commit: &Commit) -> Result<Vec<RepoPath>, RepoError> {
    let Some(parent) = commit.parents.first() else {
        return Ok(Vec::new());
    };
    let old = place.objects.commit(*parent)?.tree;
    let differences = tree::differences(&place.objects, Some(old), Some(commit.tree))?;
    Ok(differences
        .into_iter()
        .filter(|difference| difference.new.is_none())
        .map(|difference| difference.path)
        .collect())
}

/// Returns an operation for every path that differs or is in the base map.
fn wanted(
    bases: &Bases,
    view: &IndexView,
    ends: Ends,
    differences: &[Difference],
    new_tree: &Lookup,
) -> Result<Vec<Op>, RepoError> {
    let mut all: BTreeMap<RepoPath, Op> = BTreeMap::new();
    let op = |path: &RepoPath, old, new, base| Op {
        path: path.clone(),
        step: step(old, new),
        old,
        new,
        base,
        old_bytes: None,
        new_bytes: None,
        staged: None,
        ignored: false,
        hidden: false,
        why: None,
    };
    for difference in differences {
        let path = &difference.path;
        let mut op = op(path, difference.old, difference.new, ends.from);
        if view.flagged.contains(path) && difference.new.is_some() {
            // Sparse checkouts, and files that the user hid from git: it stays hidden.
            op.step = Step::Nothing;
            op.hidden = true;
        }
        all.insert(path.clone(), op);
    }
    for (path, base) in bases.iter() {
        let new = match all.get(path) {
            Some(op) => op.new,
            None => new_tree.get(path)?.filter(|entry| !entry.is_tree()),
        };
        all.insert(path.clone(), op(path, base.have, new, base.base));
    }
    Ok(all.into_values().collect())
}

fn step(old: Option<Entry>, new: Option<Entry>) -> Step {
    let submodule = |entry: Option<Entry>| entry.is_some_and(|entry| entry.mode == GITLINK);
    match (old, new) {
        _ if old == new => Step::Nothing,
        (Some(_), Some(_)) if submodule(old) && submodule(new) => Step::Nothing,
        // A file gives way, and a submodule's directory to a file, as to anything else.
        (Some(_), Some(_)) if submodule(new) => Step::Delete,
        (Some(_), Some(_)) if submodule(old) => Step::Create,
        _ if submodule(old) || submodule(new) => Step::Submodule,
        (Some(old), Some(new)) if old.id == new.id && old.is_file() && new.is_file() => Step::Mode,
        (Some(_), Some(_)) => Step::Replace,
        (None, Some(_)) => Step::Create,
        (Some(_), None) => Step::Delete,
        (None, None) => Step::Nothing,
    }
}

/// Returns whether this host can have a file of that name.
fn fits(place: &Place, path: &RepoPath) -> bool {
    crate::names::representable(path)
        && place.root().as_os_str().len() + 1 + path.as_bytes().len() <= LONGEST_PATH
}

/// Finds out which contents are converted, and by which rules. Removals that the new rules ignore
/// leave the file where it is.
fn conversion(
    place: &Place,
    stage: &Path,
    storage: &Storage,
    ops: &mut [Op],
    differences: &[Difference],
    new_tree: &Lookup,
) -> Result<Conversion, RepoError> {
    let is_file = |entry: Option<Entry>| entry.is_some_and(|entry| entry.is_file());
    let written: Vec<&RepoPath> = ops
        .iter()
        .filter(|op| matches!(op.step, Step::Replace | Step::Create) && is_file(op.new))
        .map(|op| &op.path)
        .collect();
    let deleted: Vec<&RepoPath> = ops
        .iter()
        .filter(|op| op.step == Step::Delete && op.new.is_none())
        .map(|op| &op.path)
        .collect();
    let mut conversion = Conversion {
        paths: storage.forms(place, &written)?.into_keys().collect(),
        rules: None,
    };
    let new_attributes = differences
        .iter()
        .any(|difference| difference.path.file_name() == b".gitattributes");
    if new_attributes && !written.is_empty() {
        let rules = Rules::lay_out(place, stage, new_tree, &written)?;
        conversion.paths.extend(rules.converted(&written)?);
        conversion.rules = Some(rules);
    }
    if !deleted.is_empty() && may_ignore(new_tree, &deleted)? {
        let rules = Rules::lay_out(place, stage, new_tree, &deleted)?;
        let stays = rules.ignored(&deleted)?;
        for op in ops.iter_mut().filter(|op| op.step == Step::Delete) {
            if stays.contains(&op.path) {
                op.step = Step::Nothing;
                op.old = None;
            }
        }
    }
    Ok(conversion)
}

/// Returns whether a tree has rules that can ignore one of these paths.
fn may_ignore(tree: &Lookup, paths: &[&RepoPath]) -> Result<bool, RepoError> {
    if tree.get(&RepoPath::new(".gitignore")?)?.is_some() {
        return Ok(true);
    }
    let above: BTreeSet<RepoPath> = paths.iter().flat_map(|path| path.ancestors()).collect();
    for dir in above {
        if tree.get(&dir.join(".gitignore")?)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds out which bytes the disk has where git stores others, for files that are what is
/// expected: later only bytes are compared.
fn expect_converted(place: &Place, storage: &Storage, ops: &mut [Op]) -> Result<(), RepoError> {
    let goes = |op: &Op| {
        matches!(op.step, Step::Replace | Step::Delete)
            && op.old.is_some_and(|entry| entry.is_file())
    };
    let candidates: Vec<&RepoPath> = ops
        .iter()
        .filter(|op| goes(op))
        .map(|op| &op.path)
        .collect();
    let forms = storage.forms(place, &candidates)?;
    for op in ops.iter_mut().filter(|op| goes(op)) {
        if !matches!(
            forms.get(&op.path),
            Some(Form::Converted | Form::Unknown(_))
        ) {
            continue;
        }
        let disk = place.on_disk(&op.path);
        let name = disk.as_os_str();
        let bytes = || -> io::Result<Option<ObjectId>> {
            match look(CWD, name)? {
                Some(seen) if seen.kind == Kind::File => verify::hash(place, CWD, name, &seen),
                Some(_) | None => Ok(None),
            }
        };
        // The same bytes before and after: what git read in between was these.
        let Ok(Some(before)) = bytes() else {
            continue;
        };
        if op.old.is_none_or(|old| old.id == before) {
            continue;
        }
        let mut command = place.git.command("hash-object");
        command.arg("--").arg(filter::argument(&op.path));
        let done = git::run_any(&mut command, b"", LOCAL, "hash-object")?;
        let stored = ObjectId::from_hex(&done.stdout).ok();
        if done.status.success()
            && stored.is_some_and(|id| op.old.is_some_and(|old| old.id == id))
            && bytes().is_ok_and(|after| after == Some(before))
        {
            op.old_bytes = Some(before);
        }
    }
    Ok(())
}

/// Notes for every path that is to be put where nothing should be, whether git ignores it now:
/// later the rules on the disk may be the new ones.
fn note_ignored(place: &Place, parents: &mut Parents, ops: &mut [Op]) -> Result<(), RepoError> {
    let patterns = Patterns::new(&place.settings)?;
    // While the rules stay what they are, they can be asked when something is found in the way.
    let rules_move = rules_move(ops);
    let created: Vec<&RepoPath> = ops
        .iter()
        .filter(|op| op.step == Step::Create)
        .map(|op| &op.path)
        .filter(|path| rules_move || place.on_disk(path).symlink_metadata().is_ok())
        .filter(|path| !matches!(parents.above(place, path), Above::Symlink(_)))
        .collect();
    let ignored = filter::ignored(place, &created)?;
    for op in ops.iter_mut().filter(|op| op.step == Step::Create) {
        op.ignored = ignored.contains(&op.path) || !patterns.take(&op.path);
    }
    Ok(())
}

/// Returns whether the rules of what is ignored are among what is written.
pub fn rules_move(ops: &[Op]) -> bool {
    ops.iter().any(|op| op.path.file_name() == b".gitignore")
}

/// Holds what is larger than this host takes, and refuses an update that needs more space than
/// there is: twice what is written.
fn weigh(place: &Place, ops: &mut [Op]) -> Result<(), RepoError> {
    let mut needed = 0_u64;
    for op in ops {
        if let (Step::Replace | Step::Create, Some(new)) = (op.step, op.new)
            && Kind::of_mode(new.mode).is_some()
        {
            let size = place.objects.size(new.id)?;
            // Rules are read whole, by git too, and by whoever looks at a path below them.
            let is_rules = matches!(op.path.file_name(), b".gitattributes" | b".gitignore");
            if Kind::of_mode(new.mode) == Some(Kind::Symlink) {
                // What no disk takes is left out alone when it is staged.
                continue;
            }
            if size > place.settings.max_file || is_rules && size > LONGEST_RULES {
                op.leave(Why::Held(Code::TooBig));
                continue;
            }
            needed = needed.saturating_add(size.saturating_mul(2));
        }
    }
    let root = place.root();
    let disk = rustix::fs::statvfs(root).map_err(|error| RepoError::io(root, error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed > free {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(RepoError::Blocked(Trouble::new(
            Code::DiskFull,
            Recovery::Hold,
            format!(
                "an update needs {} MiB of space and there are {}",
                mib(needed),
                mib(free)
            ),
            "Free some space; syncing goes on by itself.",
        )));
    }
    Ok(())
}
