//! Steps A1-A6: a commit into the work tree, without ever overwriting an edit.
//!
//! A1 plan, A2 stage and journal, A3 exchange path by path, A4 base map, A5 index and branch, A6
//! keep what was displaced. `ARCHITECTURE.md` says what a kill after each step leaves.
//!
//! Invariants:
//! 1. Nothing in the tree is touched before the journal is durable; the branch moves only after
//!    the tree is.
//! 2. HEAD never claims a path that the tree did not take, unless the base map says what the tree
//!    has instead.
//! 3. An open journal is finished before anything else is done to the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::bases::{Base, Bases, Why};
use super::disk::{self, Seen, name_of};
use super::exchange::{Hands, Left, Report};
use super::filter::Storage;
use super::journal::{Journal, Op, Step, journal_open};
use super::plan::{Approval, Ends, Plan, plan, rules_move};
use super::publish::{IndexEdit, Published, publish};
use super::slots::{Area, fill, slot};
use super::{Place, RepoError, contact, displaced, held, markers, metadata, stable, taken_out};
use crate::engine::event::{Applied, Code, Recovery, Trouble};
use crate::fault;
use crate::git::gate::{self, Record};
use crate::git::index::IndexView;
use crate::git::refs;
use crate::git::tree::{Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// Every step that an apply passes and that is a name for [`fault::at`], those of publishing
/// included. Which of A3 are passed depends on what is done.
pub const STEPS: &[&str] = &[
    "A1.planned",
    "A2.staged",
    "A2.synced",
    "A2.journal",
    "A3.found",
    "A3.dressed",
    "A3.checked",
    "A3.exchanged",
    "A3.linked",
    "A3.renamed",
    "A3.moved",
    "A3.verified",
    "A3.settled",
    "A3.back",
    "A3.parent",
    "A3.free",
    "A3.created",
    "A3.taken-back",
    "A3.aside",
    "A3.changed",
    "A3.path",
    "A3.emptied",
    "A3.done",
    "A4.bases",
    "A5.synced",
    "S6.index",
    "S7.index-locked",
    "S7.prepared",
    "S8.index",
    "S8.branch",
    "A5.published",
    "A6.index",
    "A6.kept",
    "A6.closed",
];

/// Up to this many files are made durable one by one; more by one call for the whole disk.
const FEW: usize = 16;
/// A report lists at most this many paths.
const LISTED: usize = 100;
/// How often publishing is tried again when the user's git moved the index only.
const TRIES: usize = 3;

/// Applies a commit that contains the tip, and tries the paths of the base map again.
///
/// With the tip itself only the base map is tried again. `approval` says which removals need
/// no person any more. What is in the way comes back as `blocked`; if the journal is open then, call
/// [`recover`] before anything else. Errors leave the journal as it is, too.
pub fn apply(
    place: &Place,
    bases: &mut Bases,
    view: &mut IndexView,
    to: ObjectId,
    approval: &Approval,
) -> Result<Applied, RepoError> {
    let branch = &place.settings.branch;
    let tip = refs::read(&place.git, &place.objects, &place.branch_ref())?;
    let pending = format!("{}pending", refs::OURS);
    if let Some(pending) = refs::read(&place.git, &place.objects, &pending)?
        && Some(pending) != tip
        && !journal_open(place)
        && gate::closed(&place.git, branch)?.is_none()
    {
        return Ok(retry(tip, "a snapshot has to be finished first"));
    }
    run(place, bases, view, to, approval, false)
}

/// As [`apply`], of a commit on top of the tip to this disk alone: the branch stays, and the base map
/// says what the disk has instead.
pub fn apply_here(
    place: &Place,
    bases: &mut Bases,
    view: &mut IndexView,
    to: ObjectId,
    approval: &Approval,
) -> Result<Applied, RepoError> {
    run(place, bases, view, to, approval, true)
}

/// As [`apply`], of a commit that contains the one which a snapshot left pending.
pub fn apply_with_pending(
    place: &Place,
    bases: &mut Bases,
    view: &mut IndexView,
    to: ObjectId,
    approval: &Approval,
) -> Result<Applied, RepoError> {
    run(place, bases, view, to, approval, false)
}

fn run(
    place: &Place,
    bases: &mut Bases,
    view: &mut IndexView,
    to: ObjectId,
    approval: &Approval,
    here: bool,
) -> Result<Applied, RepoError> {
    if journal_open(place) {
        return Ok(retry(None, "an earlier update has to be finished first"));
    }
    let branch = &place.settings.branch;
    if let Some(trouble) = gate::closed(&place.git, branch)? {
        return Ok(blocked(None, trouble));
    }
    let record = gate::record(&place.git, &place.objects, branch)?;
    let from = match record.tip {
        Some(tip) => tip,
        None => nothing(place)?,
    };
    let to = match record.tip {
        Some(tip) if place.objects.descends(tip, to)? => tip,
        // What first contact discarded is not in the hub's history, and what of it counts is.
        Some(tip)
            if !here
                && !place.objects.descends(to, tip)?
                && refs::read(&place.git, &place.objects, contact::DISCARDED)? != Some(tip) =>
        {
            return Ok(retry(Some(tip), "the branch moved meanwhile"));
        }
        Some(_) | None => to,
    };
    if to == from && bases.iter().all(|(_, base)| base.why == Why::OnlyHere) {
        return Ok(Applied {
            tip: record.tip,
            deferred: bases.waiting(),
            ..Applied::default()
        });
    }
    if view.stamp != record.index {
        *view = IndexView::read(&place.git, record.tip)?;
    }

    let area = Area::of(place)?;
    area.drop_rubbish()?;
    let stage = area.new_stage()?;
    let ends = Ends { from, to, here };
    let prepared = prepare(place, bases, view, ends, approval, &stage, &record);
    let (plan, journal) = match prepared {
        Ok(Some(prepared)) => prepared,
        unfinished => {
            fs::remove_dir_all(&stage).map_err(|error| RepoError::io(&stage, error))?;
            return match unfinished {
                Ok(_) => Ok(retry(record.tip, "the branch or the index moved meanwhile")),
                Err(RepoError::Blocked(trouble)) => Ok(blocked(record.tip, trouble)),
                Err(error) => Err(error),
            };
        }
    };
    let mut applied = finish(place, bases, view, &journal, record)?;
    applied.host = plan.incoming.first().map(|(_, newest)| {
        newest
            .trailers("Autosync-Host")
            .pop()
            .unwrap_or_else(|| String::from_utf8_lossy(&newest.author).into_owned())
    });
    Ok(applied)
}

/// A1 and A2: plans, stages, opens the journal. `None`: somebody was faster.
fn prepare(
    place: &Place,
    bases: &Bases,
    view: &IndexView,
    ends: Ends,
    approval: &Approval,
    stage: &Path,
    record: &Record,
) -> Result<Option<(Plan, Journal)>, RepoError> {
    let mut plan = plan(place, bases, view, ends, approval, stage)?;
    markers::note(place, ends.from, ends.to, &plan.incoming)?;
    fault::at("A1.planned");
    fill(place, stage, &mut plan.ops, &plan.conversion)?;
    fault::at("A2.staged");
    sync_stage(stage, &plan.ops)?;
    fault::at("A2.synced");
    if gate::record(&place.git, &place.objects, &place.settings.branch)? != *record
        || gate::in_progress(&place.git).is_some()
    {
        return Ok(None);
    }
    let journal = Journal {
        from: ends.from,
        to: ends.to,
        mass: plan.mass,
        here: ends.here,
        stage: stage.to_owned(),
        ops: std::mem::take(&mut plan.ops),
    };
    journal.open(place)?;
    fault::at("A2.journal");
    Ok(Some((plan, journal)))
}

/// Finishes an apply that was begun, if one was, and clears away what kills left.
///
/// To be called at the start, and before any other job on the tree while [`journal_open`]. Errors
/// with [`RepoError::Blocked`] while the user's git is in the way.
pub fn recover(place: &Place, bases: &mut Bases, view: &mut IndexView) -> Result<(), RepoError> {
    let Some(journal) = Journal::read(place)? else {
        for area in Area::all(place) {
            area.drop_rubbish()?;
        }
        return bases.drop_strays(place);
    };
    let branch = &place.settings.branch;
    if let Some(trouble) = gate::closed(&place.git, branch)? {
        return Err(RepoError::Blocked(trouble));
    }
    let record = gate::record(&place.git, &place.objects, branch)?;
    *view = IndexView::read(&place.git, record.tip)?;
    if journal.stage.symlink_metadata().is_err() {
        // Killed between the last two steps.
        Journal::close(place)?;
        return bases.drop_strays(place);
    }
    let applied = finish(place, bases, view, &journal, record)?;
    match applied.blocked {
        Some(trouble) => Err(RepoError::Blocked(trouble)),
        None => bases.drop_strays(place),
    }
}

/// Returns the commit that an open journal leads the branch to: a lock of it that holds that is ours.
pub fn journal_target(place: &Place) -> Result<Option<ObjectId>, RepoError> {
    let target = |journal: Journal| {
        if journal.here {
            journal.from
        } else {
            journal.to
        }
    };
    Ok(Journal::read(place)?.map(target))
}

/// A3 to A6, from whatever state a kill left them in.
fn finish(
    place: &Place,
    bases: &mut Bases,
    view: &mut IndexView,
    journal: &Journal,
    record: Record,
) -> Result<Applied, RepoError> {
    let reports = carry_out(place, journal)?;
    fault::at("A3.done");

    // The user may have committed meanwhile: then the tree is ahead of HEAD, and the base map says
    // by what.
    let unborn = record.tip.is_none() && place.objects.commit(journal.from)?.parents.is_empty();
    let ours = unborn || record.tip == Some(journal.from) || record.tip == Some(journal.to);
    note(
        place,
        bases,
        journal,
        &reports,
        if ours && !journal.here {
            None
        } else {
            record.tip
        },
    )?;
    bases.save(place)?;
    fault::at("A4.bases");

    let mut applied = Applied {
        tip: record.tip,
        ..Applied::default()
    };
    if journal.here {
        sync_tree(place, journal, &reports)?;
        fault::at("A5.synced");
        if let Published::Blocked(trouble) = hide(place, bases, view, journal, &record)? {
            applied.blocked = Some(trouble);
            applied.deferred = bases.waiting();
            return Ok(applied);
        }
        fault::at("A5.published");
    } else if ours {
        sync_tree(place, journal, &reports)?;
        fault::at("A5.synced");
        taken_out::note(place, bases, journal.to)?;
        if let Published::Blocked(trouble) = move_branch(place, bases, view, journal, record)? {
            applied.blocked = Some(trouble);
            applied.deferred = bases.waiting();
            return Ok(applied);
        }
        fault::at("A5.published");
        applied.tip = Some(journal.to);
    }
    let lefts: Vec<(usize, Left)> = reports
        .iter()
        .enumerate()
        .filter_map(|(number, report)| Some((number, report.left.clone()?)))
        .collect();
    displaced::keep(place, journal, &lefts)?;
    fault::at("A6.kept");
    Journal::close(place)?;
    fault::at("A6.closed");

    for (op, report) in journal.ops.iter().zip(&reports) {
        if report.wrote {
            applied.count += 1;
            if applied.paths.len() < LISTED {
                applied.paths.push(op.path.clone());
            }
        }
        if report.why == Some(Why::Kept) {
            applied.kept.push(op.path.clone());
        }
    }
    applied.deferred = bases.waiting();
    applied.held = held::held(bases);
    Ok(applied)
}

/// A3 for every path: first what goes, then the directories emptied by that, then the rest.
fn carry_out(place: &Place, journal: &Journal) -> Result<Vec<Report>, RepoError> {
    let trust_mode = Storage::read(place)?.trust_mode;
    let rules_move = rules_move(&journal.ops);
    let hands = Hands::new(place, &journal.stage, journal.to, trust_mode, rules_move)?;
    let mut reports = vec![Report::default(); journal.ops.len()];
    let mut count = place.meter.start("apply", journal.ops.len());
    let mut run = |goes: bool| -> Result<(), RepoError> {
        for (number, op) in journal.ops.iter().enumerate() {
            if (op.step == Step::Delete) == goes {
                reports[number] = hands.carry_out(number, op)?;
                count.add(1);
                fault::at("A3.path");
            }
        }
        Ok(())
    };
    run(true)?;
    remove_emptied(place, &hands, journal)?;
    fault::at("A3.emptied");
    run(false)?;
    place.basic.set(place.basic.get() || hands.is_basic());
    Ok(reports)
}

/// Removes the directories that deletions emptied, if they are as we would make them ourselves.
fn remove_emptied(place: &Place, hands: &Hands<'_>, journal: &Journal) -> Result<(), RepoError> {
    let mut above: BTreeSet<RepoPath> = BTreeSet::new();
    for op in journal.ops.iter().filter(|op| op.step == Step::Delete) {
        above.extend(op.path.ancestors());
    }
    if above.is_empty() {
        return Ok(());
    }
    let new_tree = Lookup::new(&place.objects, place.tree_of(Some(journal.to))?);
    let model = model(&journal.stage)?;
    // A directory sorts before what is in it.
    for dir in above.iter().rev() {
        if new_tree.get(dir)?.is_some_and(|entry| entry.is_tree()) {
            continue;
        }
        let (Ok(parent), Ok(fd)) = (hands.root.parent(dir), hands.root.directory(dir)) else {
            continue;
        };
        let failed = |error| RepoError::io(&place.on_disk(dir), error);
        if !metadata::is_plain(&fd, &model).map_err(failed)? {
            continue;
        }
        match unlinkat(&parent, name_of(dir), AtFlags::REMOVEDIR) {
            Ok(())
            | Err(
                Errno::NOTEMPTY
                | Errno::EXIST
                | Errno::NOENT
                | Errno::NOTDIR
                | Errno::BUSY
                | Errno::ACCESS
                | Errno::PERM,
            ) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(())
}

/// Returns what a directory looks like that we make with the default mode.
fn model(stage: &Path) -> Result<Seen, RepoError> {
    let dir = stage.join("model");
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(RepoError::io(&dir, error));
        }
        Ok(()) | Err(_) => {}
    }
    disk::look_at(disk::open_directory(&dir)?).map_err(|error| RepoError::io(&dir, error))
}

/// A4: notes what the disk has where it does not have what HEAD will have.
///
/// `elsewhere` is the tip that the user moved the branch to meanwhile.
fn note(
    place: &Place,
    bases: &mut Bases,
    journal: &Journal,
    reports: &[Report],
    elsewhere: Option<ObjectId>,
) -> Result<(), RepoError> {
    let tip = Lookup::new(&place.objects, place.tree_of(elsewhere)?);
    for (op, report) in journal.ops.iter().zip(reports) {
        if op.hidden {
            continue;
        }
        let (have, base, why) = match (&report.why, elsewhere) {
            (Some(why), _) => (op.old, op.base, why.clone()),
            (None, Some(_)) if journal.here => (op.new, journal.to, Why::OnlyHere),
            (None, Some(_)) => (op.new, journal.to, Why::Kept),
            (None, None) => {
                bases.remove(&op.path);
                continue;
            }
        };
        let leaf = |entry: Option<Entry>| entry.filter(|entry| !entry.is_tree());
        let head = match elsewhere {
            Some(_) => leaf(tip.get(&op.path)?),
            None => op.new,
        };
        if head == have {
            bases.remove(&op.path);
            continue;
        }
        let known = bases.get(&op.path).filter(|known| known.have == have);
        let stat = known.and_then(|known| known.stat);
        bases.insert(
            op.path.clone(),
            Base {
                have,
                base,
                why,
                stat,
            },
        );
    }
    Ok(())
}

/// A5 of what is only here: the index has what the branch has, and git leaves these paths alone.
fn hide(
    place: &Place,
    bases: &Bases,
    view: &mut IndexView,
    journal: &Journal,
    record: &Record,
) -> Result<Published, RepoError> {
    let Some(tip) = record.tip else {
        return Ok(Published::Done);
    };
    let head = Lookup::new(&place.objects, place.tree_of(Some(tip))?);
    let mut edits = Vec::new();
    for op in &journal.ops {
        let entry = head.get(&op.path)?.filter(|entry| !entry.is_tree());
        let skip = entry.is_some() && (bases.get(&op.path).is_some() || op.hidden);
        edits.push(IndexEdit {
            path: op.path.clone(),
            entry,
            refresh: !skip,
            skip_worktree: skip,
        });
    }
    edits.sort_by_key(|edit| edit.entry.is_some());
    taken_out::note(place, bases, tip)?;
    publish(place, view, record, tip, &edits, "autosync: only here")
}

/// A5: index and branch.
fn move_branch(
    place: &Place,
    bases: &Bases,
    view: &mut IndexView,
    journal: &Journal,
    mut record: Record,
) -> Result<Published, RepoError> {
    let mut edits: Vec<IndexEdit> = journal
        .ops
        .iter()
        .map(|op| edit(op, bases.get(&op.path).is_some()))
        .collect();
    // An entry that goes may be what another needs to come: a file where a directory was.
    edits.sort_by_key(|edit| edit.entry.is_some());
    let short = journal.to.short();
    let reason = format!("autosync: apply {short}");
    for _ in 0..TRIES {
        let trouble = match publish(place, view, &record, journal.to, &edits, &reason)? {
            Published::Done => return Ok(Published::Done),
            Published::Blocked(trouble) => trouble,
        };
        let now = gate::record(&place.git, &place.objects, &place.settings.branch)?;
        if (&now.head, now.tip) != (&record.head, record.tip) || now.index == record.index {
            return Ok(Published::Blocked(trouble));
        }
        // Only the index moved: the user staged something.
        *view = IndexView::read(&place.git, now.tip)?;
        record = now;
    }
    Ok(Published::Blocked(Trouble::new(
        Code::GitBusy,
        Recovery::Pause,
        "waiting: the index is being written again and again",
        "",
    )))
}

fn edit(op: &Op, differs: bool) -> IndexEdit {
    let skip = op.new.is_some() && (differs || op.hidden);
    let content = op
        .new
        .is_some_and(|new| disk::Kind::of_mode(new.mode).is_some());
    IndexEdit {
        path: op.path.clone(),
        entry: op.new,
        refresh: content && !skip,
        skip_worktree: skip,
    }
}

/// Makes what is staged durable.
fn sync_stage(stage: &Path, ops: &[Op]) -> Result<(), RepoError> {
    let staged: Vec<usize> = (0..ops.len())
        .filter(|number| ops[*number].staged.is_some())
        .collect();
    if staged.len() > FEW {
        return stable::sync_file_system(stage);
    }
    for number in staged {
        sync_file(&stage.join(slot(number)))?;
    }
    stable::sync_directory(stage)?;
    stage.parent().map_or(Ok(()), stable::sync_directory)
}

/// A5: makes the tree durable, so that it can never be older than the branch.
fn sync_tree(place: &Place, journal: &Journal, reports: &[Report]) -> Result<(), RepoError> {
    let wrote: Vec<&Op> = journal
        .ops
        .iter()
        .zip(reports)
        .filter(|(_, report)| report.wrote)
        .map(|(op, _)| op)
        .collect();
    if wrote.len() > FEW {
        return stable::sync_file_system(place.root());
    }
    let mut directories = BTreeSet::new();
    for op in wrote {
        if op.new.is_some() {
            sync_file(&place.on_disk(&op.path))?;
        }
        directories.extend(op.path.ancestors());
    }
    for dir in directories {
        stable::sync_directory(&place.on_disk(&dir))?;
    }
    stable::sync_directory(place.root())?;
    stable::sync_directory(&journal.stage)
}

/// Makes a file's bytes durable; that it is gone, or no file, is no error.
fn sync_file(path: &Path) -> Result<(), RepoError> {
    match stable::open(path) {
        Ok(file) => file.sync_all().map_err(|error| RepoError::io(path, error)),
        Err(_) => Ok(()),
    }
}

/// Returns a commit of nothing at all: what an unborn branch has.
fn nothing(place: &Place) -> Result<ObjectId, RepoError> {
    let tree = place.objects.write_tree(Vec::new())?;
    let who = place.identity()?;
    Ok(place
        .objects
        .write_commit(tree, &[], &who, (0, 0), "nothing\n")?)
}

fn blocked(tip: Option<ObjectId>, trouble: Trouble) -> Applied {
    Applied {
        tip,
        blocked: Some(trouble),
        ..Applied::default()
    }
}

fn retry(tip: Option<ObjectId>, message: &str) -> Applied {
    let trouble = Trouble::new(Code::GitBusy, Recovery::Retry, message, "");
    blocked(tip, trouble)
}
