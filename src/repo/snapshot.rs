//! Snapshot: what changed becomes a commit (S1-S5), then index and branch follow (S6-S8).
//!
//! A commit's tree is HEAD's tree plus the batch, so its cost does not grow with the tree, and
//! what the user staged on other paths is neither committed nor lost. The commit exists and may be
//! pushed before any reference of the user's moves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::bases::{Base, Bases, Why};
use super::displaced::{Late, Limits, drop_late, ever_open, sweep_displaced};
use super::folder::{Folder, PENDING};
use super::mounts::Waits;
use super::parting::parting;
use super::plan::Approval;
use super::publish::{IndexEdit, Published, publish};
use super::shown::Shown;
use super::{
    Place, RepoError, apply, boot, junk, mass, merge, message, scan, spelling, staged, take,
    taken_out,
};
use crate::clock;
use crate::engine::action::{Scope, Trigger};
use crate::engine::event::{Code, Committed, Event, Recovery, Snapshotted, Trouble};
use crate::fault;
use crate::git::GitError;
use crate::git::gate::Record;
use crate::git::objects::Gathering;
use crate::git::refs;
use crate::git::tree::{self, Difference, Edits, Entry, Lookup};
use crate::names::{ObjectId, RepoPath};

/// What to look at, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where to look.
    pub scope: &'a Scope,
    /// Files that are taken although they are open for writing.
    pub even_open: &'a BTreeSet<RepoPath>,
    /// Why.
    pub trigger: Trigger,
    /// Whether a person approved what the guards hold, as the last outcome said.
    pub approved: bool,
}

/// Commits what changed.
///
/// `emit` hears of a commit as soon as it is stored (S5). Errors with
/// [`RepoError::Blocked`] while the gate is closed; nothing is lost by that.
pub fn snapshot(
    folder: &mut Folder,
    request: &Request<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<Snapshotted, RepoError> {
    let granted = if request.approved {
        folder.granted()
    } else {
        Shown::default()
    };
    let mut record = folder.begin(&granted)?;
    let back = put_back(folder, &record, emit)?;
    if back.is_some() {
        record = folder.begin(&Shown::default())?;
    }
    fault::at("S1.record");
    let head_tree = folder.place.tree_of(record.tip)?;

    let head = Lookup::new(&folder.place.objects, head_tree);
    let scope = junk::without_heaps(folder, request.scope, &head)?;
    let candidates = scan::candidates(&folder.place, &scope, &head)?;
    fault::at("S2.candidates");
    let gathering = Gathering::start(&folder.place.objects);
    let is_unborn = record.tip.is_none();
    let mut taken = take::take(folder, &candidates, &head, is_unborn, request.even_open)?;
    boot::hold(
        folder,
        &head,
        record.tip,
        candidates.everything,
        &granted.suspects,
        &mut taken,
    )?;
    fault::at("S3.read");
    // Only now: what a disk took along in the meantime looks deleted, and what one brought that was
    // not looked at yet would not be known to be its when it goes.
    if taken.deletes() {
        folder.check_root(None)?;
    }
    folder.look_at_mounts(record.tip, &Waits::default())?;
    taken.leave_out_hidden(&folder.place);

    if candidates.everything {
        folder.held_deletes.clear();
    }
    let (tree, differences) = guarded_tree(folder, head_tree, &mut taken.edits, &granted.removals)?;

    let mut outcome = Snapshotted {
        tip: record.tip,
        committed: back,
        ..Snapshotted::default()
    };
    if !taken.released.is_empty() {
        release(folder, &record, &taken.released)?;
    }
    if differences.is_empty() {
        store(folder, gathering, &taken.read)?;
        staged::keep(&folder.place, &taken.staged)?;
    } else {
        commit(
            folder,
            request,
            &granted.removals,
            gathering,
            &record,
            tree,
            &differences,
            &taken,
            emit,
            &mut outcome,
        )?;
    }
    if !taken.twins.is_empty() && outcome.blocked.is_none() {
        match hold_twins(folder, &taken.twins) {
            Err(RepoError::Blocked(trouble)) => outcome.blocked = Some(trouble),
            done => done?,
        }
    }
    sides(folder, request.trigger, taken.sides, emit, &mut outcome)?;

    outcome.busy = taken.busy;
    outcome.skipped = taken.skipped;
    if candidates.everything {
        let limits = Limits::at(clock::now());
        outcome.skipped.extend(ever_open(&folder.place, &limits)?);
    }
    outcome.held = folder.held_groups();
    outcome.deferred = folder.waiting();
    outcome.freed = spelling::is_freed(&folder.place, &folder.bases);
    Ok(outcome)
}

/// S4, first half: the new tree, with the guards on what it would delete beside what is `granted`.
fn guarded_tree(
    folder: &mut Folder,
    head_tree: Option<ObjectId>,
    edits: &mut Edits,
    granted: &BTreeSet<RepoPath>,
) -> Result<(Option<ObjectId>, Vec<Difference>), RepoError> {
    let (tree, differences) = tree_of_edits(&folder.place, head_tree, edits)?;
    let all_gone = really_gone(&differences);
    let gone: BTreeSet<RepoPath> = all_gone.difference(granted).cloned().collect();
    if gone.len() < all_gone.len() {
        folder.deleted.clear();
    }
    let lately = folder.deleted_lately(0);
    // Whatever the limits say, a folder that was emptied is no ordinary deletion.
    let emptied = tree.is_none() && gone.len() > 1;
    let is_mass = match head_tree {
        Some(head_tree) if !gone.is_empty() => {
            mass::is_mass(&folder.place, head_tree, tree, &gone, lately)?
        }
        Some(_) | None => false,
    };
    if !(is_mass || emptied) {
        folder.deleted_lately(gone.len());
        return Ok((tree, differences));
    }
    // Held: the removals wait, and so does a file that took the place of a directory.
    folder.held_deletes.extend(gone.iter().cloned());
    edits.retain(|path, entry| {
        (entry.is_some() || granted.contains(path))
            && !gone.iter().any(|lost| lost != path && lost.is_within(path))
    });
    tree_of_edits(&folder.place, head_tree, edits)
}

fn tree_of_edits(
    place: &Place,
    head_tree: Option<ObjectId>,
    edits: &Edits,
) -> Result<(Option<ObjectId>, Vec<Difference>), RepoError> {
    if edits.is_empty() {
        return Ok((head_tree, Vec::new()));
    }
    let tree = tree::build(&place.objects, head_tree, edits)?;
    let differences = tree::differences(&place.objects, head_tree, tree).map_err(own)?;
    Ok((tree, differences))
}

/// What is too large here is the user's own, and nobody has pushed it.
fn own(error: GitError) -> RepoError {
    let GitError::TooLarge(why) = error else {
        return error.into();
    };
    RepoError::Blocked(Trouble::new(
        Code::TooBig,
        Recovery::Hold,
        format!("this folder is too large: {why}"),
        "Nothing is committed until `.gitignore`, or `exclude` in the configuration, leaves out \
         what need not be on every computer.",
    ))
}

/// Returns the paths whose content is nowhere in the new tree: moves are no deletions.
fn really_gone(differences: &[Difference]) -> BTreeSet<RepoPath> {
    let added: BTreeSet<ObjectId> = differences
        .iter()
        .filter(|difference| difference.old.is_none())
        .filter_map(|difference| difference.new.map(|entry| entry.id))
        .collect();
    differences
        .iter()
        .filter(|difference| difference.new.is_none())
        .filter(|difference| {
            difference
                .old
                .is_some_and(|entry| !added.contains(&entry.id))
        })
        .map(|difference| difference.path.clone())
        .collect()
}

/// Makes durable what was read and what was made of it, together. A tree older than a pushed commit
/// would come back after a power cut as an edit.
fn store(folder: &Folder, gathering: Gathering, read: &[RepoPath]) -> Result<(), RepoError> {
    let mut failed = None;
    let stored = gathering.finish(|| {
        folder.make_durable(read).map_err(|error| {
            failed = Some(error);
            io::Error::other("the files that were read")
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(stored?),
    }
}

/// S4, second half, to S8.
#[expect(
    clippy::too_many_arguments,
    reason = "the whole of a snapshot comes together here"
)]
fn commit(
    folder: &mut Folder,
    request: &Request<'_>,
    granted: &BTreeSet<RepoPath>,
    gathering: Gathering,
    record: &Record,
    tree: Option<ObjectId>,
    differences: &[Difference],
    taken: &take::Taken,
    emit: &mut dyn FnMut(Event),
    outcome: &mut Snapshotted,
) -> Result<(), RepoError> {
    let place = &folder.place;
    let tree = match tree {
        Some(tree) => tree,
        None => place.objects.write_tree(Vec::new())?,
    };
    let mut more = Vec::new();
    let is_granted = |it: &Difference| it.new.is_none() && granted.contains(&it.path);
    if differences.iter().any(is_granted) {
        more.push(("Autosync-Approved", place.settings.host.clone()));
    }
    let summary = message::summary(differences);
    let text = message::message(
        &place.settings.host,
        &summary,
        differences,
        request.trigger,
        &more,
    );
    let parents: Vec<ObjectId> = record.tip.into_iter().collect();
    let id = place.objects.write_commit(
        tree,
        &parents,
        &place.identity()?,
        clock::wall_seconds_and_offset(),
        &text,
    )?;
    store(folder, gathering, &taken.read)?;
    let place = &folder.place;
    refs::set(&place.git, &place.objects, PENDING, Some(id))?;
    fault::at("S4.pending");
    if let Some(trouble) = folder.still(record)? {
        refs::set(&folder.place.git, &folder.place.objects, PENDING, None)?;
        return Err(RepoError::Blocked(trouble));
    }
    outcome.tip = Some(id);
    outcome.committed = Some(Committed {
        id,
        summary,
        paths: message::first_paths(differences, 100),
        count: differences.len(),
    });
    emit(Event::Stored { commit: id });
    fault::at("S5.stored");

    let edits: Vec<IndexEdit> = differences
        .iter()
        .map(|difference| IndexEdit {
            path: difference.path.clone(),
            entry: difference.new,
            refresh: true,
            skip_worktree: false,
        })
        .collect();
    taken_out::note(&folder.place, &folder.bases, id)?;
    match publish(
        &folder.place,
        &mut folder.view,
        record,
        id,
        &edits,
        "autosync: snapshot",
    )? {
        Published::Done => {
            folder.view_tip = Some(id);
            refs::set(&folder.place.git, &folder.place.objects, PENDING, None)?;
            fault::at("S8.done");
        }
        // Stored and pushable; S6-S8 come with the next snapshot.
        Published::Blocked(trouble) => outcome.blocked = Some(trouble),
    }
    Ok(())
}

/// Brings back what a commit by hand took out and the disk never had. Returns the commit that did.
fn put_back(
    folder: &mut Folder,
    record: &Record,
    emit: &mut dyn FnMut(Event),
) -> Result<Option<Committed>, RepoError> {
    let Some(tip) = record.tip else {
        return Ok(None);
    };
    let Some(id) = taken_out::put_back(&folder.place, &folder.bases, tip)? else {
        return Ok(None);
    };
    let (bases, view) = (&mut folder.bases, &mut folder.view);
    // The user's file goes into the copy beside it.
    let own = Approval::Own(BTreeSet::new());
    let done = apply::apply(&folder.place, bases, view, id, &own)?;
    if let Some(trouble) = done.blocked {
        return Err(RepoError::Blocked(trouble));
    }
    folder.view_tip = done.tip;
    emit(Event::Stored { commit: id });
    let place = &folder.place;
    let differences = tree::differences(
        &place.objects,
        place.tree_of(Some(tip))?,
        place.tree_of(Some(id))?,
    )?;
    Ok(Some(Committed {
        id,
        summary: message::summary(&differences),
        paths: message::first_paths(&differences, 100),
        count: differences.len(),
    }))
}

/// Rule 6b: base-map paths that stand at HEAD's content again become ordinary paths.
fn release(
    folder: &mut Folder,
    record: &Record,
    released: &BTreeMap<RepoPath, Option<Entry>>,
) -> Result<(), RepoError> {
    let Some(tip) = record.tip else { return Ok(()) };
    let edits: Vec<IndexEdit> = released
        .iter()
        .map(|(path, entry)| IndexEdit {
            path: path.clone(),
            entry: *entry,
            refresh: true,
            skip_worktree: false,
        })
        .collect();
    let reason = "autosync: released";
    match publish(&folder.place, &mut folder.view, record, tip, &edits, reason)? {
        Published::Done => {
            for path in released.keys() {
                folder.bases.remove(path);
            }
            folder.bases.save(&folder.place)
        }
        Published::Blocked(trouble) => Err(RepoError::Blocked(trouble)),
    }
}

/// Takes files of HEAD into the base map that the disk cannot have beside others of HEAD: git wrote
/// the one over the other.
fn hold_twins(folder: &mut Folder, twins: &BTreeSet<RepoPath>) -> Result<(), RepoError> {
    // The commit moved it, if there was one.
    let record = folder.begin(&Shown::default())?;
    let Some(tip) = record.tip else { return Ok(()) };
    let place = &folder.place;
    let without = twins.iter().map(|path| (path.clone(), None)).collect();
    let tree = match tree::build(&place.objects, place.tree_of(Some(tip))?, &without)? {
        Some(tree) => tree,
        None => place.objects.write_tree(Vec::new())?,
    };
    let when = clock::wall_seconds_and_offset();
    let text = "what this disk has\n";
    let base = place
        .objects
        .write_commit(tree, &[tip], &place.identity()?, when, text)?;
    let head = Lookup::new(&place.objects, place.tree_of(Some(tip))?);
    let mut edits = Vec::new();
    for path in twins {
        edits.push(IndexEdit {
            path: path.clone(),
            entry: head.get(path)?,
            refresh: false,
            skip_worktree: true,
        });
        folder.bases.insert(
            path.clone(),
            Base {
                have: None,
                base,
                why: Why::Twin,
                stat: None,
            },
        );
    }
    folder.bases.save(&folder.place)?;
    let reason = "autosync: twins";
    match publish(
        &folder.place,
        &mut folder.view,
        &record,
        tip,
        &edits,
        reason,
    )? {
        Published::Done => Ok(()),
        Published::Blocked(trouble) => {
            for path in twins {
                folder.bases.remove(path);
            }
            folder.bases.save(&folder.place)?;
            Err(RepoError::Blocked(trouble))
        }
    }
}

/// Rule 6c: what the user wrote at base-map paths, and into displaced files, becomes a side commit
/// on its true base, which is merged and applied. It is never committed on HEAD plainly: that
/// would take back unseen what came in.
fn sides(
    folder: &mut Folder,
    trigger: Trigger,
    changed: BTreeMap<RepoPath, (Option<Entry>, ObjectId)>,
    emit: &mut dyn FnMut(Event),
    outcome: &mut Snapshotted,
) -> Result<(), RepoError> {
    let mut groups: BTreeMap<ObjectId, Edits> = BTreeMap::new();
    for (path, (entry, base)) in changed {
        groups.entry(base).or_default().insert(path, entry);
    }
    let Late {
        edits: late,
        secrets,
    } = sweep_displaced(&folder.place, clock::now())?;
    folder.late_secrets = secrets;
    // By itself: another edit of that path on the same base is no edit of this one.
    let displaced = late
        .iter()
        .map(|edit| (edit.base, [(edit.path.clone(), Some(edit.content))].into()));
    let parted = groups.into_iter().map(|group| (group, true));
    for ((base, edits), on_disk) in parted.chain(displaced.map(|group| (group, false))) {
        if outcome.blocked.is_some() {
            return Ok(());
        }
        let Some(tip) = outcome.tip else {
            return Ok(());
        };
        let place = &folder.place;
        let base_tree = place.tree_of(Some(base))?;
        let from = if on_disk {
            parting(place, &folder.bases, base_tree, &edits)?
        } else {
            base_tree
        };
        let (tree, differences) = tree_of_edits(place, from, &edits)?;
        if differences.is_empty() {
            continue;
        }
        let tree = match tree {
            Some(tree) => tree,
            None => place.objects.write_tree(Vec::new())?,
        };
        let summary = message::summary(&differences);
        let text = message::message(&place.settings.host, &summary, &differences, trigger, &[]);
        let when = clock::wall_seconds_and_offset();
        let side = place
            .objects
            .write_commit(tree, &[base], &place.identity()?, when, &text)?;
        let target = match merge::join(place, (base, from), tip, side)? {
            merge::MergeOutcome::Created { commit, .. } => commit,
            // Nothing came in since.
            merge::MergeOutcome::UpToDate => side,
            // The tip has it already, so it only has to be written.
            merge::MergeOutcome::FastForward => tip,
            merge::MergeOutcome::Unrelated => continue,
        };
        fault::at("B1.side");
        // On the disk the map says so only from A4 on. Written down before, a kill in between would
        // make the user's bytes what the map expects, and the next apply would replace them.
        let mut bases = folder.bases.clone();
        // Also around an entry: then the disk is known to have what the side commit has.
        for (path, have) in edits.iter().filter(|_| on_disk) {
            let why = folder
                .bases
                .get(path)
                .map(|old| old.why.clone())
                // An edit ends that.
                .filter(|why| *why != Why::OnlyHere)
                .unwrap_or(Why::Kept);
            bases.insert(
                path.clone(),
                Base {
                    have: *have,
                    base: side,
                    why,
                    stat: None,
                },
            );
        }
        // Others' removals that wait for a person go on waiting.
        let own = differences
            .iter()
            .filter(|difference| difference.new.is_none())
            .map(|difference| difference.path.clone())
            .collect();
        let (place, view) = (&folder.place, &mut folder.view);
        let done = apply::apply(place, &mut bases, view, target, &Approval::Own(own));
        if matches!(&done, Ok(done) if done.blocked.is_none()) {
            folder.bases = bases;
        } else {
            folder.bases = Bases::load(&folder.place)?;
        }
        let done = done?;
        folder.view_tip = done.tip;
        outcome.tip = done.tip;
        outcome.blocked = done.blocked;
        if outcome.blocked.is_none() && target != tip {
            emit(Event::Stored { commit: target });
            let count = differences.len();
            let paths = message::first_paths(&differences, 100);
            outcome.committed = Some(Committed {
                id: target,
                summary,
                paths,
                count,
            });
        }
    }
    for edit in &late {
        drop_late(edit)?;
    }
    Ok(())
}
