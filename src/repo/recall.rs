//! Undo, redo and restore: an older state comes back as a new commit, or on this disk alone.
//!
//! Undoing an operation is a merge of trees whose base is the tree after it, between what stands now
//! and the tree before it. For the newest operation that gives the tree before it; for an older one
//! what was changed since stays, and where both touched the same lines the old version comes to
//! stand beside it as a conflict copy. History is never rewritten.
//!
//! Invariants:
//! 1. What comes back is written by an apply, so an edit made meanwhile is kept.
//! 2. Very many removals need a person's word, which then travels in the commit.
//! 3. With `only_here` no branch moves: the base map says what this disk has instead.

use std::collections::{BTreeMap, BTreeSet};

use super::bases::{Base, Bases, Why};
use super::folder::Folder;
use super::mass;
use super::merge::{self, Prefer};
use super::operation::{self, Kind, Operation};
use super::plan::{self, Approval};
use super::shown::Shown;
use super::three_way::{self, Trees};
use super::{Place, RepoError, apply, copies, here, message};
use crate::clock;
use crate::engine::action::Trigger;
use crate::engine::event::{Applied, Code, Committed, ConflictCopy, Recovery, Trouble};
use crate::engine::recall::{Answer, At, Change, Deed, Recall, Recalled, Wanted};
use crate::fault;
use crate::git::tree::{self, Difference, Entry};
use crate::names::{ObjectId, RepoPath};

/// What an undo is about if the newest is not committed: a delete that is held.
const HELD: &str = "held";
/// An answer names this many paths.
const LISTED: usize = 1000;

/// What is to become of the tree.
pub(super) struct Goal {
    /// The tree to come.
    pub(super) tree: ObjectId,
    /// Conflict copies in it.
    pub(super) copies: Vec<ConflictCopy>,
    /// What kind of operation it is.
    pub(super) kind: Kind,
    /// What it is, in words.
    pub(super) words: String,
    /// The operation that it takes back.
    pub(super) undoes: Option<u64>,
    /// The trailer that tells it.
    pub(super) trailer: (&'static str, String),
    /// The answer, as far as it is known.
    pub(super) answer: Answer,
}

impl Folder {
    /// Brings something back, or says what that would do.
    pub(super) fn recall(&mut self, recall: &Recall) -> Recalled {
        self.try_recall(recall).unwrap_or_else(|error| {
            tracing::debug!(%error, "nothing was brought back");
            Recalled {
                answer: Err(error.trouble()),
                committed: None,
                applied: None,
            }
        })
    }

    fn try_recall(&mut self, recall: &Recall) -> Result<Recalled, RepoError> {
        let record = self.begin(&Shown::default())?;
        self.note_now();
        let Some(tip) = record.tip else {
            return Err(none("there is no commit yet, so nothing can come back"));
        };
        let (wanted, ended) = self.resolve(recall)?;
        let mut recall = recall.clone();
        recall.only_here |= ended.is_some();
        let place = &self.place;
        let now = if recall.only_here {
            here::standing(place, &self.bases, tip)?
        } else {
            place.objects.commit(tip)?.tree
        };
        let goal = match (&wanted, ended) {
            (Target::Operation(operation), Some(_)) => {
                let tree = here::without(place, &self.bases, tip, operation)?;
                goal_of(operation, tree, Vec::new())
            }
            (Target::Operation(operation), None) => take_back(place, operation, (tip, now))?,
            (Target::Missing, _) => self.put_back(now)?,
            (Target::Path(path, at), _) => self.restored(path.as_ref(), at.as_ref(), (tip, now))?,
        };
        let missing = self.coming_back(&wanted, goal.tree)?;
        let plan = self.plan(&recall, now, &goal, &missing)?;
        if recall.dry_run {
            return Ok(answered(plan.answer));
        }
        if plan.answer.needs_approval {
            return Err(too_many(plan.gone.len(), recall.only_here));
        }
        self.carry_out(&recall, (tip, now), &goal, plan, &missing, ended)
    }

    /// Returns the goal of writing again what was deleted and is held.
    fn put_back(&self, now: ObjectId) -> Result<Goal, RepoError> {
        let count = self.held_deletes.len();
        if count == 0 {
            return Err(none("no delete is held"));
        }
        Ok(Goal {
            tree: now,
            copies: Vec::new(),
            kind: Kind::Restore,
            words: format!("undo the delete of {count} files, which is not committed"),
            undoes: None,
            trailer: ("Autosync-Restore", HELD.to_owned()),
            answer: Answer {
                operation: HELD.to_owned(),
                ..Answer::default()
            },
        })
    }

    /// Finds out what is meant, and whether that ends something that is only here.
    fn resolve(&self, recall: &Recall) -> Result<(Target, Option<ObjectId>), RepoError> {
        let place = &self.place;
        let operation = match &recall.wanted {
            Wanted::Restore { path, at } => {
                return Ok((Target::Path(path.clone(), at.clone()), None));
            }
            // What was done last is what waits to be committed.
            Wanted::Undo(None) if !self.held_deletes.is_empty() => {
                return Ok((Target::Missing, None));
            }
            Wanted::Undo(Some(asked)) if asked == HELD => {
                return Ok((Target::Missing, None));
            }
            Wanted::Undo(asked) => to_undo(place, asked.as_deref())?,
            Wanted::Redo => to_redo(place, &self.bases)?,
        };
        if !here::stands(place, &self.bases, &operation)? {
            let number = operation.number;
            return Err(none(&format!("operation {number} has nothing left here")));
        }
        let ended = operation.here;
        Ok((Target::Operation(Box::new(operation)), ended))
    }

    /// Returns what is deleted on the disk and not committed, and comes back.
    fn coming_back(
        &self,
        wanted: &Target,
        tree: ObjectId,
    ) -> Result<BTreeMap<RepoPath, Option<Entry>>, RepoError> {
        let mut found = BTreeMap::new();
        let path = match wanted {
            Target::Operation(_) => return Ok(found),
            Target::Missing => None,
            Target::Path(path, _) => path.as_ref(),
        };
        for path in self.missing(path) {
            let entry = self.place.objects.entry(tree, path)?;
            if entry.is_some() {
                found.insert(path.clone(), entry);
            }
        }
        Ok(found)
    }

    fn plan(
        &self,
        recall: &Recall,
        now: ObjectId,
        goal: &Goal,
        missing: &BTreeMap<RepoPath, Option<Entry>>,
    ) -> Result<Plan, RepoError> {
        let place = &self.place;
        let differences = tree::differences(&place.objects, Some(now), Some(goal.tree))?;
        if differences.is_empty() && missing.is_empty() {
            return Err(none(&format!("{}: that is how it is now", goal.words)));
        }
        let gone = plan::removals(&differences);
        let empty = place.objects.tree(goal.tree)?.is_empty();
        let mass = mass::is_mass(place, now, Some(goal.tree), &gone, 0)? || empty && gone.len() > 1;
        let known: BTreeSet<&RepoPath> = differences.iter().map(|it| &it.path).collect();
        let mut changes = changes(&differences, &goal.copies);
        let back = missing.keys().filter(|path| !known.contains(path));
        changes.extend(back.map(|path| Change {
            path: path.to_string(),
            what: Deed::Create,
        }));
        let count = changes.len();
        changes.truncate(LISTED);
        let answer = Answer {
            what: goal.words.clone(),
            more: count - changes.len(),
            changes,
            removed: gone.len(),
            needs_approval: mass && !recall.approved,
            only_here: recall.only_here,
            ..goal.answer.clone()
        };
        Ok(Plan {
            differences,
            gone,
            mass,
            answer,
        })
    }

    fn carry_out(
        &mut self,
        recall: &Recall,
        (tip, now): (ObjectId, ObjectId),
        goal: &Goal,
        plan: Plan,
        missing: &BTreeMap<RepoPath, Option<Entry>>,
        ended: Option<ObjectId>,
    ) -> Result<Recalled, RepoError> {
        let Plan {
            differences,
            gone,
            mass,
            mut answer,
        } = plan;
        let summary = goal.words.clone();
        let own = Approval::Own(gone);
        // What only has to be written again needs no commit.
        let makes = !differences.is_empty() && ended.is_none();
        let commit = if makes {
            let (parents, from) = if recall.only_here {
                (Vec::new(), Some(self.here_from(tip, now)?))
            } else {
                (vec![tip], None)
            };
            Some(self.commit_of(goal, &differences, (&parents, from), mass)?)
        } else {
            None
        };
        fault::at("U1.commit");
        let target = commit.unwrap_or(tip);
        let done = if let Some(here) = ended {
            self.end_here(here, tip)
        } else if recall.only_here && commit.is_some() {
            self.go_here(target, &own)
        } else {
            self.go_with(target, &own, tip, missing)
        };
        let mut applied = self.after_apply(done, Some(tip), target);
        fault::at("U2.applied");
        if let Some(trouble) = &applied.blocked {
            return Ok(Recalled {
                answer: Err(trouble.clone()),
                committed: None,
                applied: Some(applied),
            });
        }
        if recall.only_here {
            self.note_only_here(goal.kind, summary.clone(), goal.undoes, commit)?;
        }
        for path in missing.keys() {
            self.held_deletes.remove(path);
        }
        applied.host = None;
        answer.done = true;
        answer.kept = applied.kept.iter().map(ToString::to_string).collect();
        let committed = commit.filter(|_| !recall.only_here).map(|id| Committed {
            id,
            summary,
            paths: message::first_paths(&differences, 100),
            count: differences.len(),
        });
        Ok(Recalled {
            answer: Ok(answer),
            committed,
            applied: Some(applied),
        })
    }

    fn commit_of(
        &self,
        goal: &Goal,
        differences: &[Difference],
        (parents, from): (&[ObjectId], Option<ObjectId>),
        mass: bool,
    ) -> Result<ObjectId, RepoError> {
        let place = &self.place;
        let (key, value) = &goal.trailer;
        let mut more = vec![(*key, value.clone())];
        if mass {
            more.push(("Autosync-Approved", place.settings.host.clone()));
        }
        more.extend(from.map(|from| (here::FROM, from.to_string())));
        let kept_twice = goal.copies.iter();
        more.extend(kept_twice.map(|it| (copies::TRAILER, copies::trailer(&it.path, &it.copy))));
        let host = &place.settings.host;
        let text = message::message(host, &goal.words, differences, Trigger::Asked, &more);
        let when = clock::wall_seconds_and_offset();
        let who = place.identity()?;
        Ok(place
            .objects
            .write_commit(goal.tree, parents, &who, when, &text)?)
    }

    /// Applies a commit together with what is deleted on the disk and comes back.
    fn go_with(
        &mut self,
        target: ObjectId,
        own: &Approval,
        tip: ObjectId,
        missing: &BTreeMap<RepoPath, Option<Entry>>,
    ) -> Result<Applied, RepoError> {
        let mut bases = self.bases.clone();
        if !missing.is_empty() {
            let place = &self.place;
            let without = missing.keys().map(|path| (path.clone(), None)).collect();
            let tree = three_way::build(place, place.objects.commit(tip)?.tree, &without)?;
            let text = "without what was deleted\n";
            let when = clock::wall_seconds_and_offset();
            let who = place.identity()?;
            let base = place.objects.write_commit(tree, &[tip], &who, when, text)?;
            for path in missing.keys().filter(|path| self.bases.get(path).is_none()) {
                let (have, why, stat) = (None, Why::Kept, None);
                let entry = Base {
                    have,
                    base,
                    why,
                    stat,
                };
                bases.insert(path.clone(), entry);
            }
        }
        // On the disk the map says so only from A4 on, if a path is kept then.
        let done = apply::apply(&self.place, &mut bases, &mut self.view, target, own);
        if matches!(&done, Ok(done) if done.blocked.is_none()) {
            self.bases = bases;
        } else {
            self.bases = Bases::load(&self.place)?;
        }
        done
    }
}

/// What is meant.
enum Target {
    /// An operation that is taken back.
    Operation(Box<Operation>),
    /// What is deleted on the disk and held.
    Missing,
    /// A version of a path.
    Path(Option<RepoPath>, Option<At>),
}

/// What is going to be done.
struct Plan {
    differences: Vec<Difference>,
    gone: BTreeSet<RepoPath>,
    mass: bool,
    answer: Answer,
}

fn answered(answer: Answer) -> Recalled {
    Recalled {
        answer: Ok(answer),
        committed: None,
        applied: None,
    }
}

/// Returns the operation that an undo is about.
fn to_undo(place: &Place, asked: Option<&str>) -> Result<Operation, RepoError> {
    let mut seen: Vec<Operation> = Vec::new();
    for operation in operation::operations(place)? {
        let operation = operation?;
        let undone = operation::taken_back(&seen).contains(&operation.number);
        let is_meant = match asked {
            Some(asked) if !is_called(&operation, asked) => false,
            Some(asked) if undone => {
                let hint = "`autosync redo` brings it back.";
                let what = format!("operation {asked} is undone already");
                return Err(nothing(&what, hint));
            }
            Some(_) if operation.kind == Kind::Begin => return Err(at_the_beginning()),
            Some(_) => true,
            None => {
                let is_old = undone || operation.undoes.is_some() || operation.kind == Kind::Begin;
                !is_old && operation.touches(place, None)?
            }
        };
        if is_meant {
            return Ok(operation);
        }
        seen.push(operation);
    }
    Err(match asked {
        Some(asked) => {
            let asked = crate::names::escape(asked.as_bytes());
            let hint = "`autosync log` lists them; they are kept for 30 days.";
            nothing(&format!("there is no operation `{asked}`"), hint)
        }
        None => nothing(
            "there is nothing to undo",
            "`autosync log` lists what was done; older versions come back with `autosync restore`.",
        ),
    })
}

/// Returns the undo that a redo takes back.
fn to_redo(place: &Place, bases: &Bases) -> Result<Operation, RepoError> {
    let mut seen: Vec<Operation> = Vec::new();
    for operation in operation::operations(place)? {
        let operation = operation?;
        let undone = operation::taken_back(&seen).contains(&operation.number);
        if operation.kind == Kind::Undo && !undone && here::stands(place, bases, &operation)? {
            return Ok(operation);
        }
        seen.push(operation);
    }
    Err(nothing("there is no undo to take back", ""))
}

/// Returns whether a person means this operation: by its number, or the commit that it made.
fn is_called(operation: &Operation, asked: &str) -> bool {
    let number = asked.strip_prefix('#').unwrap_or(asked);
    let by_commit = asked.len() >= 7
        // Others leave the branch as it is, and are not what made its commit.
        && operation.before != operation.after
        && asked.bytes().all(|byte| byte.is_ascii_hexdigit())
        && operation
            .after
            .is_some_and(|after| after.to_string().starts_with(&asked.to_ascii_lowercase()));
    number == operation.number.to_string() || by_commit
}

/// Returns the tree without an operation; `ours` is the tree as it stands.
fn take_back(
    place: &Place,
    operation: &Operation,
    (tip, ours): (ObjectId, ObjectId),
) -> Result<Goal, RepoError> {
    let objects = &place.objects;
    let tree_of = |commit| -> Result<ObjectId, RepoError> {
        match place.tree_of(commit)? {
            Some(tree) => Ok(tree),
            None => Ok(objects.write_tree(Vec::new())?),
        }
    };
    let trees = Trees {
        base: tree_of(operation.after)?,
        hub: ours,
        local: tree_of(operation.old())?,
    };
    let sides = [tip, operation.old().unwrap_or(tip)];
    let merged = merge::merge_trees(place, trees, three_way::Base::Given, sides, Prefer::Hub)?;
    Ok(goal_of(operation, merged.tree, merged.copies))
}

/// Returns the goal of taking an operation back, with the tree that comes of it.
fn goal_of(operation: &Operation, tree: ObjectId, copies: Vec<ConflictCopy>) -> Goal {
    let number = operation.number;
    let redo = operation.kind == Kind::Undo;
    let (kind, key, verb) = if redo {
        (Kind::Redo, "Autosync-Redo", "redo")
    } else {
        (Kind::Undo, "Autosync-Undo", "undo")
    };
    let what = operation.words.as_str();
    let of = if redo {
        what.strip_prefix("undo ").unwrap_or(what).to_owned()
    } else {
        format!("{number}: {what}")
    };
    Goal {
        tree,
        copies,
        kind,
        words: format!("{verb} {of}"),
        undoes: Some(number),
        trailer: (key, number.to_string()),
        answer: Answer {
            operation: number.to_string(),
            when: operation.at(),
            ..Answer::default()
        },
    }
}

fn changes(differences: &[Difference], copies: &[ConflictCopy]) -> Vec<Change> {
    let copies: BTreeSet<&RepoPath> = copies.iter().map(|copy| &copy.copy).collect();
    let deed = |it: &Difference| match (it.old, it.new) {
        (_, None) => Deed::Remove,
        (None, Some(_)) if copies.contains(&it.path) => Deed::Copy,
        (None, Some(_)) => Deed::Create,
        (Some(_), Some(_)) => Deed::Change,
    };
    differences
        .iter()
        .take(LISTED)
        .map(|it| Change {
            path: it.path.to_string(),
            what: deed(it),
        })
        .collect()
}

pub(super) fn nothing(message: &str, hint: &str) -> RepoError {
    let code = Code::NoSuchVersion;
    RepoError::Blocked(Trouble::new(code, Recovery::Hold, message, hint))
}

pub(super) fn none(message: &str) -> RepoError {
    nothing(message, "")
}

fn at_the_beginning() -> RepoError {
    nothing(
        "that is where the log begins, so nothing is known of before",
        "Older versions come back with `autosync restore PATH --at TIME`.",
    )
}

fn too_many(count: usize, only_here: bool) -> RepoError {
    let place = if only_here {
        "here"
    } else {
        "on all your computers"
    };
    RepoError::Blocked(Trouble::new(
        Code::MassDelete,
        Recovery::Hold,
        format!("that would delete {count} files {place}"),
        "If that is meant, say it with `--approve`.",
    ))
}
