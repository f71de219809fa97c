//! The log of operations: what moved this folder's branch, one commit each in one chain.
//!
//! An operation is a commit whose first parent is the operation before it and whose others are what
//! the branch was before and after, so everything that can be undone is kept from `git gc`. Its tree
//! is that after it. One reference holds the chain: a fetch offers every reference to the hub, and
//! thousands would slow each one down.
//!
//! Invariants:
//! 1. The branch before an operation is the branch after the one before it. What somebody else's git
//!    did in between is an operation too, found afterwards; so is what a kill left unwritten.
//! 2. It is written after the branch moved, off the way from an edit to its push.
//! 3. The log is bounded: after `KEEP` a new chain begins, and only the one before it is kept.
//! 4. It is a help for people. Nothing about content is decided by it, and a log that cannot be
//!    read begins anew, which is its first line; as long as nothing can be written either, it may
//!    come back.

use super::bases::Why;
use super::folder::Folder;
use super::operation::{Kind, Operation, differences, read, write};
use super::restore::with;
use super::{Place, RepoError, message};
use crate::clock;
use crate::engine::action::Job;
use crate::engine::event::{Described, Event};
use crate::fault;
use crate::git::objects::Commit;
use crate::git::refs;
use crate::git::tree::{Difference, Edits};
use crate::names::ObjectId;

/// The newest operation.
pub const LOG: &str = "refs/worktree/autosync/log";
/// The newest operation of the chain before.
pub const LOG_BEFORE: &str = "refs/worktree/autosync/log-before";

/// The newest operation of a chain that could not be read, where there is still such an object.
pub const LOG_LOST: &str = "refs/worktree/autosync/log-lost";

/// What removals that waited for a person take, while they are let through.
const APPROVING: &str = "refs/worktree/autosync/approving";

/// So long an operation is kept at least, in seconds.
const KEEP: i64 = 30 * 24 * 3600;
/// More commits than this at once are one operation.
const SINGLY: usize = 100;

/// An operation that is about to be written.
#[derive(Debug, Clone)]
pub(super) struct New {
    pub(super) kind: Kind,
    pub(super) words: String,
    pub(super) host: String,
    pub(super) before: Option<ObjectId>,
    pub(super) after: Option<ObjectId>,
    pub(super) here: Option<ObjectId>,
    pub(super) stood: Option<ObjectId>,
    pub(super) undoes: Option<u64>,
}

/// What the tree lane remembers of the log between jobs.
#[derive(Debug, Default)]
pub struct History {
    newest: Option<(ObjectId, Operation)>,
    is_read: bool,
    /// What should be the newest operation and cannot be read.
    lost: Option<ObjectId>,
}

/// What a job says about how it moved the branch.
enum Hint {
    /// Nothing: the commits tell.
    None,
    /// By what the hub had, made by this host.
    Received(Option<String>),
    /// The tip has other words now.
    Reworded { from: ObjectId, to: ObjectId },
}

impl Folder {
    /// Notes what moved the branch before a job that moves it by something else than a commit on
    /// top of it.
    pub(super) fn note_before(&mut self, job: &Job) {
        let moves = matches!(job, Job::Apply { .. } | Job::Reword { .. } | Job::Recall(_));
        if moves {
            self.note_now();
        }
        if let Job::Apply { approved: true, .. } = job
            && let Err(error) = self.note_approving()
        {
            tracing::info!(%error, "what is approved was not written down");
        }
    }

    /// Notes what moved the branch until now.
    pub(super) fn note_now(&mut self) {
        let place = &self.place;
        match refs::read(&place.git, &place.objects, &place.branch_ref()) {
            Ok(tip) => self.note_tip(tip, &Hint::None),
            Err(error) => tracing::debug!(%error, "the branch cannot be read for the log"),
        }
    }

    /// Notes the operation that a job was, if it was one.
    pub(super) fn note_after(&mut self, outcome: &Event) {
        if let Event::Recovered(recovered) = outcome
            && recovered.blocked.is_none()
        {
            self.note_tip(recovered.tip, &Hint::None);
            if let Err(error) = self.note_lost_here() {
                tracing::info!(%error, "what is only here was not written down");
            }
            self.note_approved();
        } else if let Event::Snapshotted(outcome) = outcome
            && outcome.tip.is_some()
            && outcome.blocked.is_none()
        {
            self.note_tip(outcome.tip, &Hint::None);
        } else if let Event::Applied(applied) = outcome
            && applied.tip.is_some()
            && !applied.unfinished
        {
            self.note_tip(applied.tip, &Hint::Received(applied.host.clone()));
            self.note_approved();
        } else if let Event::Described(Described::Reworded { from, to }) = outcome {
            let (from, to) = (*from, *to);
            self.note_tip(Some(to), &Hint::Reworded { from, to });
        } else if let Event::Recalled(outcome) = outcome
            && outcome.applied.is_some()
        {
            self.note_now();
        }
    }

    fn note_tip(&mut self, tip: Option<ObjectId>, hint: &Hint) {
        if let Err(error) = note(&self.place, &mut self.history, tip, hint) {
            // The next one finds what is missing.
            tracing::info!(%error, "an operation was not written down");
        }
    }

    /// Keeps what removals that waited are about to take, so that their operation is found after a
    /// kill, too: they move no branch.
    fn note_approving(&self) -> Result<(), RepoError> {
        let waiting = self.waiting_removals(None);
        let place = &self.place;
        let tip = refs::read(&place.git, &place.objects, &place.branch_ref())?;
        let (Some(tip), false) = (tip, waiting.is_empty()) else {
            return Ok(());
        };
        let (stood, _) = with(place, (tip, place.objects.commit(tip)?.tree), &waiting)?;
        refs::set(&place.git, &place.objects, APPROVING, Some(stood))?;
        fault::at("O4.approving");
        Ok(())
    }

    /// Writes down which removals that waited went.
    fn note_approved(&mut self) {
        if let Err(error) = self.try_note_approved() {
            tracing::info!(%error, "an approval was not written down");
        }
    }

    fn try_note_approved(&mut self) -> Result<(), RepoError> {
        let place = &self.place;
        let Some(stood) = refs::read(&place.git, &place.objects, APPROVING)? else {
            return Ok(());
        };
        let tip = refs::read(&place.git, &place.objects, &place.branch_ref())?;
        if let Some(tip) = tip {
            let waited = differences(
                place,
                place.objects.commit(stood)?.parents.first().copied(),
                Some(stood),
            )?;
            let tree = place.objects.commit(tip)?.tree;
            let mut went = Edits::new();
            for Difference { path, new, .. } in waited {
                let base = self.bases.get(&path).map(|base| &base.why);
                let stays = matches!(base, Some(Why::RemovalWaits | Why::Kept));
                if !stays && place.objects.entry(tree, &path)?.is_none() {
                    went.insert(path, new);
                }
            }
            if !went.is_empty() {
                let (stood, tree) = with(place, (tip, tree), &went)?;
                let known = newest(place, &mut self.history).and_then(|(_, it)| it.stood);
                // Not once more if it was killed before the reference went.
                if known.is_none() || place.tree_of(known)? != Some(tree) {
                    let words =
                        format!("let through a delete of {} that came in", files(went.len()));
                    let mut made = new(place, Kind::Approval, words, Some(tip), Some(tip));
                    made.stood = Some(stood);
                    append(place, &mut self.history, made)?;
                }
            }
        }
        fault::at("O5.approved");
        Ok(refs::set(&place.git, &place.objects, APPROVING, None)?)
    }

    /// Writes down an operation that did not move the branch.
    pub(super) fn note_here(&mut self, new: New) -> Result<(), RepoError> {
        append(&self.place, &mut self.history, new)
    }
}

/// Writes down whatever moved the branch to `tip` since the newest operation.
fn note(
    place: &Place,
    history: &mut History,
    tip: Option<ObjectId>,
    hint: &Hint,
) -> Result<(), RepoError> {
    let Some((_, newest)) = newest(place, history) else {
        if let Some(lost) = history.lost {
            return begin_anew(place, history, lost, tip);
        }
        let began = match tip {
            Some(_) => "the log begins",
            None => "the log begins, with nothing",
        };
        return append(place, history, new(place, Kind::Begin, began, None, tip));
    };
    let last = newest.after;
    if last == tip {
        return Ok(());
    }
    let Some(tip) = tip else {
        return Ok(());
    };
    if let Hint::Reworded { from, to } = hint
        && last == Some(*from)
    {
        let mut again = newest.clone();
        again.after = Some(*to);
        return rewrite(place, history, again);
    }
    let Some(last) = last else {
        return note_first(place, history, tip);
    };
    let steps = match hint {
        Hint::Received(_) => None,
        Hint::None | Hint::Reworded { .. } => steps(place, last, tip),
    };
    let Some(steps) = steps else {
        let made = moved(place, last, tip, hint)?;
        return append(place, history, made);
    };
    for (before, after) in steps {
        let made = step(place, before, after)?;
        append(place, history, made)?;
    }
    Ok(())
}

/// Writes down what made the first commit of a folder that was empty.
fn note_first(place: &Place, history: &mut History, tip: ObjectId) -> Result<(), RepoError> {
    let commit = place.objects.commit(tip)?;
    let is_ours = commit.parents.is_empty()
        && commit
            .trailers("Autosync-Host")
            .contains(&place.settings.host);
    let made = if is_ours {
        step(place, None, tip)?
    } else {
        // To take this back would take everything from everybody.
        let words = "began with what the hub has";
        new(place, Kind::Begin, words, None, Some(tip))
    };
    append(place, history, made)
}

fn new(
    place: &Place,
    kind: Kind,
    words: impl Into<String>,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
) -> New {
    New {
        kind,
        words: words.into(),
        host: place.settings.host.clone(),
        before,
        after,
        here: None,
        stood: None,
        undoes: None,
    }
}

/// One step of the branch.
type Step = (Option<ObjectId>, ObjectId);

/// Returns the steps from one tip to another along first parents, oldest first: one for each commit
/// of ours, one for others in a row. `None` if that is not the way, or it is too long.
fn steps(place: &Place, from: ObjectId, to: ObjectId) -> Option<Vec<Step>> {
    let mut chain = Vec::new();
    let mut at = to;
    while at != from {
        let commit = place.objects.commit(at).ok()?;
        let parent = commit.parents.first()?;
        if chain.len() >= SINGLY {
            return None;
        }
        chain.push((*parent, at, is_ours(place, &commit)));
        at = *parent;
    }
    let mut found: Vec<(Step, bool)> = Vec::new();
    for (before, after, ours) in chain.into_iter().rev() {
        match found.last_mut() {
            Some(((_, last), false)) if !ours => *last = after,
            Some(_) | None => found.push(((Some(before), after), ours)),
        }
    }
    Some(found.into_iter().map(|(step, _)| step).collect())
}

fn is_ours(place: &Place, commit: &Commit) -> bool {
    commit
        .trailers("Autosync-Host")
        .contains(&place.settings.host)
}

/// Returns the operation that a commit on top of the branch was, or several of somebody else.
fn step(place: &Place, before: Option<ObjectId>, after: ObjectId) -> Result<New, RepoError> {
    let commit = place.objects.commit(after)?;
    let differences = differences(place, before, Some(after))?;
    let trailer = |key: &str| commit.trailers(key).pop();
    let number = |key: &str| trailer(key).and_then(|text| text.parse().ok());
    let subject = || subject(place, &commit);
    let mut made = new(place, Kind::Git, "", before, Some(after));
    if !is_ours(place, &commit) {
        made.words = format!("git: {}", subject());
        return Ok(made);
    }
    (made.kind, made.words) = if trailer("Autosync-Undo").is_some() {
        made.undoes = number("Autosync-Undo");
        (Kind::Undo, subject())
    } else if trailer("Autosync-Redo").is_some() {
        made.undoes = number("Autosync-Redo");
        (Kind::Redo, subject())
    } else if trailer("Autosync-Restore").is_some() {
        (Kind::Restore, subject())
    } else if commit.parents.len() > 1 {
        (Kind::Merge, merged(&differences, &commit))
    } else if trailer("Autosync-Approved").is_some() {
        let gone = differences.iter().filter(|it| it.new.is_none()).count();
        let files = files(gone);
        (Kind::Approval, format!("approved a delete of {files}"))
    } else {
        (Kind::Snapshot, words(&differences))
    };
    Ok(made)
}

/// Returns what a commit says that it is, without our name before it.
pub(super) fn subject(place: &Place, commit: &Commit) -> String {
    let text = String::from_utf8_lossy(&commit.message).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let own = line.strip_prefix(&format!("{}: ", place.settings.host));
    own.unwrap_or(line).to_owned()
}

/// Returns the operation that moved the branch in one go.
fn moved(place: &Place, before: ObjectId, after: ObjectId, hint: &Hint) -> Result<New, RepoError> {
    let commit = place.objects.commit(after)?;
    let differences = differences(place, Some(before), Some(after))?;
    let mut made = new(place, Kind::Git, "", Some(before), Some(after));
    if !place.objects.descends(after, before)? && !matches!(hint, Hint::Received(_)) {
        made.words = format!("git: moved the branch to {}", after.short());
        return Ok(made);
    }
    let host = match hint {
        Hint::Received(host) => host.clone(),
        Hint::None | Hint::Reworded { .. } => None,
    };
    if commit.parents.len() > 1 && is_ours(place, &commit) {
        made.kind = Kind::Merge;
        made.words = merged(&differences, &commit);
        if let Some(other) = others(place, &commit)? {
            made.words = format!("{} from {other}", made.words);
            made.host = other;
        }
        return Ok(made);
    }
    let host = host.or_else(|| commit.trailers("Autosync-Host").pop());
    let host = host.unwrap_or_else(|| String::from_utf8_lossy(&commit.author).into_owned());
    let what = match differences.as_slice() {
        [one] => one.path.to_string(),
        many => files(many.len()),
    };
    made.kind = Kind::Received;
    made.words = format!("received {what} from {host}");
    made.host = host;
    Ok(made)
}

/// Returns who made the side of a merge that is not this host's, if it says so.
fn others(place: &Place, merge: &Commit) -> Result<Option<String>, RepoError> {
    let Some(hub) = merge.parents.first() else {
        return Ok(None);
    };
    let host = place.objects.commit(*hub)?.trailers("Autosync-Host").pop();
    Ok(host.filter(|host| *host != place.settings.host))
}

fn merged(differences: &[Difference], commit: &Commit) -> String {
    let copies = match commit.trailers(super::copies::TRAILER).len() {
        0 => String::new(),
        1 => ", 1 conflict copy".to_owned(),
        many => format!(", {many} conflict copies"),
    };
    format!("merged {}{copies}", message::summary(differences))
}

fn files(count: usize) -> String {
    match count {
        1 => "1 file".to_owned(),
        many => format!("{many} files"),
    }
}

/// Returns what some changes are, as a person would say: `edited notes/todo.txt`, `deleted 3 files
/// in photos/`, `renamed a to b`.
pub(super) fn words(differences: &[Difference]) -> String {
    let what = message::summary(differences);
    if let [one, other] = differences
        && let (Some(old), None, None, Some(new)) | (None, Some(new), Some(old), None) =
            (one.old, one.new, other.old, other.new)
        && old.id == new.id
    {
        let (from, to) = if one.new.is_none() {
            (&one.path, &other.path)
        } else {
            (&other.path, &one.path)
        };
        return format!("renamed {from} to {to}");
    }
    let all = |so: fn(&Difference) -> bool| differences.iter().all(so);
    let is_mode = |it: &Difference| {
        let (Some(old), Some(new)) = (it.old, it.new) else {
            return false;
        };
        old.id == new.id && old.is_file() && new.is_file()
    };
    let verb = if all(|it| it.old.is_none()) {
        "added"
    } else if all(|it| it.new.is_none()) {
        "deleted"
    } else if all(is_mode) {
        "changed the mode of"
    } else if all(|it| it.old.is_some() && it.new.is_some()) {
        "edited"
    } else {
        "changed"
    };
    format!("{verb} {what}")
}

/// Returns the newest operation, reading it if that was not done.
fn newest<'a>(place: &Place, history: &'a mut History) -> Option<&'a (ObjectId, Operation)> {
    if !history.is_read {
        let mut lost = None;
        match read_newest(place, &mut lost) {
            Ok(newest) => {
                history.newest = newest;
                history.is_read = true;
            }
            Err(error) if history.lost.is_none() => {
                tracing::warn!(%error, "the log of operations cannot be read");
            }
            Err(_) => {}
        }
        history.lost = lost;
    }
    history.newest.as_ref()
}

/// Returns the newest operation; where it cannot be read, `lost` is the commit that should be it.
fn read_newest(
    place: &Place,
    lost: &mut Option<ObjectId>,
) -> Result<Option<(ObjectId, Operation)>, RepoError> {
    let Some(id) = refs::read(&place.git, &place.objects, LOG)? else {
        return Ok(None);
    };
    *lost = Some(id);
    let operation = read(place, id)?;
    *lost = None;
    Ok(Some((id, operation)))
}

/// Begins the log anew behind operations that cannot be read, with a line that says so. They are
/// kept, if anything of them is there.
fn begin_anew(
    place: &Place,
    history: &mut History,
    lost: ObjectId,
    tip: Option<ObjectId>,
) -> Result<(), RepoError> {
    let is_kept = refs::set(&place.git, &place.objects, LOG_LOST, Some(lost)).is_ok();
    let what = "the log begins anew: the older operations cannot be read";
    let words = if is_kept {
        format!("{what} and are kept as {LOG_LOST}")
    } else {
        format!("{what}, because {lost} is missing or damaged")
    };
    history.lost = None;
    history.is_read = true;
    let begun = append(place, history, new(place, Kind::Begin, words, None, tip));
    if begun.is_err() {
        history.is_read = false;
    }
    begun
}

/// Puts an operation at the end of the chain.
fn append(place: &Place, history: &mut History, new: New) -> Result<(), RepoError> {
    let newest = newest(place, history).cloned();
    if let Some(lost) = history.lost {
        begin_anew(place, history, lost, new.before)?;
        return append(place, history, new);
    }
    let (seconds, offset) = clock::wall_seconds_and_offset();
    let keep = fault::asked("AUTOSYNC_TEST_KEEP_SECONDS").and_then(|text| text.parse().ok());
    // A clock that was ahead then says nothing about how long that was.
    let is_over = newest.as_ref().is_some_and(|(_, newest)| {
        let age = seconds.saturating_sub(newest.since);
        age > keep.unwrap_or(KEEP)
    });
    let since = match &newest {
        Some((_, newest)) if !is_over && newest.since <= seconds => newest.since,
        Some(_) | None => seconds,
    };
    let operation = Operation {
        number: newest.as_ref().map_or(1, |(_, newest)| newest.number + 1),
        kind: new.kind,
        words: new.words,
        host: new.host,
        before: new.before,
        after: new.after,
        here: new.here,
        stood: new.stood,
        undoes: new.undoes,
        seconds,
        offset,
        since,
        previous: newest.as_ref().filter(|_| !is_over).map(|it| it.0),
    };
    let id = write(place, &operation)?;
    fault::at("O1.written");
    if let (true, Some((newest, _))) = (is_over, newest) {
        refs::set(&place.git, &place.objects, LOG_BEFORE, Some(newest))?;
        fault::at("O2.turned");
    }
    refs::set(&place.git, &place.objects, LOG, Some(id))?;
    fault::at("O3.noted");
    history.newest = Some((id, operation));
    Ok(())
}

/// Puts an operation in the place of the newest one.
fn rewrite(place: &Place, history: &mut History, operation: Operation) -> Result<(), RepoError> {
    let id = write(place, &operation)?;
    refs::set(&place.git, &place.objects, LOG, Some(id))?;
    history.newest = Some((id, operation));
    Ok(())
}
