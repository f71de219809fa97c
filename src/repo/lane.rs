//! The tree lane: one job at a time on the work tree, the index and the branch.
//!
//! Every job ends in exactly one outcome event. What goes wrong is part of it, so a failed job can
//! never leave the engine waiting.

use std::collections::BTreeSet;
use std::fs;

use super::contact::{self, Contact};
use super::copies;
use super::folder::{Folder, LET_GO};
use super::journal::journal_open;
use super::markers;
use super::merge::{self, MergeOutcome, Prefer};
use super::mounts::Waits;
use super::moves::Slots;
use super::network::{Kind, Remote};
use super::plan::Approval;
use super::reword;
use super::rewritten;
use super::shown::Shown;
use super::slots::Area;
use super::snapshot::{Request, snapshot};
use super::{RepoError, apply, taken_out, waits};
use crate::clock;
use crate::engine::action::{Job, Scope, Trigger};
use crate::engine::event::{
    Applied, Code, ConflictCopy, Described, Event, Fetched, Marked, Merged, Pushed, Recovered,
    Recovery, Snapshotted, Trouble,
};
use crate::git::{hub, refs};
use crate::names::ObjectId;

/// How long git keeps what nothing refers to, in seconds, with a minute for the question.
const TWO_WEEKS: i64 = 14 * 24 * 3600 - 60;

/// Keeps a merge that is not applied yet.
const MERGE: &str = "refs/worktree/autosync/merge";

impl Folder {
    /// Does one job of the tree lane and returns its outcome.
    ///
    /// `emit` hears of a commit as soon as its push may start.
    pub fn run(&mut self, job: Job, emit: &mut dyn FnMut(Event)) -> Event {
        self.note_before(&job);
        let outcome = self.run_job(job, emit);
        self.note_after(&outcome);
        outcome
    }

    fn run_job(&mut self, job: Job, emit: &mut dyn FnMut(Event)) -> Event {
        match job {
            Job::Recover => Event::Recovered(self.run_recover()),
            Job::Snapshot {
                scope,
                even_open,
                trigger,
                approved,
            } => Event::Snapshotted(self.run_snapshot(&scope, &even_open, trigger, approved, emit)),
            Job::Merge { hub } => Event::Merged(
                self.run_merge(hub)
                    .unwrap_or_else(|e| Merged::Blocked(e.trouble())),
            ),
            Job::Apply { target, approved } => Event::Applied(self.run_apply(target, approved)),
            Job::Maintain => Event::Maintained(self.run_maintain().map_err(|e| e.trouble())),
            Job::Fetch => Event::Fetched(Fetched::Failed(wrong_lane())),
            Job::Push { .. } => Event::Pushed(Pushed::Failed(wrong_lane())),
            Job::Notes => Event::NotesExchanged(Err(wrong_lane())),
            Job::Recall(recall) => Event::Recalled(Box::new(self.recall(&recall))),
            Job::Reword {
                commit,
                message,
                may_reword,
            } => {
                let done = reword::describe(self, commit, &message, may_reword);
                Event::Described(done.unwrap_or_else(|error| {
                    tracing::info!(%error, "a commit was not described");
                    Described::Blocked(error.trouble())
                }))
            }
        }
    }

    fn run_recover(&mut self) -> Recovered {
        let found = self.recover();
        let blocked = found.as_ref().err().map(RepoError::trouble);
        let place = &self.place;
        let id = place.git.config(contact::ID_KEY).ok().flatten();
        let remote = Remote::of(place).ok().flatten();
        let hub = remote.and_then(|remote| remote.last_seen(place).ok().flatten());
        let tip = found.ok().flatten();
        let copies = tip.map(|tip| copies::conflicts(place, tip));
        let copies = copies.and_then(Result::ok).unwrap_or_default();
        let marked = self.marked(tip);
        if blocked.is_none()
            && let Err(error) = self.try_disk()
        {
            tracing::debug!(%error, "the disk could not be tried");
        }
        Recovered {
            tip,
            hub,
            id,
            copies,
            marked,
            blocked,
        }
    }

    /// Tries whether the disk can exchange two files in one call.
    fn try_disk(&self) -> Result<(), RepoError> {
        let stage = Area::of(&self.place)?.new_stage()?;
        let can = Slots::try_exchange(&stage).map_err(|error| RepoError::io(&stage, error));
        fs::remove_dir_all(&stage).map_err(|error| RepoError::io(&stage, error))?;
        self.place.basic.set(!can?);
        Ok(())
    }

    fn run_snapshot(
        &mut self,
        scope: &Scope,
        even_open: &BTreeSet<crate::names::RepoPath>,
        trigger: Trigger,
        approved: bool,
        emit: &mut dyn FnMut(Event),
    ) -> Snapshotted {
        let request = Request {
            scope,
            even_open,
            trigger,
            approved,
        };
        match snapshot(self, &request, emit) {
            Ok(mut outcome) => {
                outcome.marked = self.marked(outcome.tip);
                if outcome.blocked.is_none() {
                    let shown = Shown::by(self);
                    outcome.held_grew = shown.is_more_than(&self.shown);
                    self.shown = shown;
                }
                outcome
            }
            Err(error) => {
                tracing::debug!(%error, "no snapshot");
                let held_grew = self.note_doubt();
                let tip = refs::read(
                    &self.place.git,
                    &self.place.objects,
                    &self.place.branch_ref(),
                );
                Snapshotted {
                    tip: tip.ok().flatten(),
                    held: self.held_groups(),
                    deferred: self.waiting(),
                    blocked: Some(error.trouble()),
                    held_grew,
                    ..Snapshotted::default()
                }
            }
        }
    }

    /// Merges the hub's tip with ours; touches objects only, and keeps what it made.
    fn run_merge(&self, hub: ObjectId) -> Result<Merged, RepoError> {
        let merged = self.merged(hub)?;
        if let Merged::Created { commit, .. } = &merged {
            // A `git gc --prune=now` of the user must not take it before it is applied.
            refs::set(&self.place.git, &self.place.objects, MERGE, Some(*commit))?;
        }
        Ok(merged)
    }

    fn merged(&self, hub: ObjectId) -> Result<Merged, RepoError> {
        let place = &self.place;
        let tip = refs::read(&place.git, &place.objects, &place.branch_ref())?;
        let known = place.has_identity()?;
        if let (Some(tip), true) = (tip, known) {
            let prefer = if rewritten::rewritten(place, hub, tip)? {
                Prefer::LocalSilently
            } else {
                Prefer::Hub
            };
            let back = taken_out::put_back(place, &self.bases, tip)?;
            let ours = self.with_what_was_let_go(hub, back.unwrap_or(tip))?;
            match merge::merge(place, hub, ours, prefer)? {
                MergeOutcome::UpToDate if ours != tip => {
                    let copies = Vec::new();
                    return Ok(Merged::Created {
                        commit: ours,
                        copies,
                    });
                }
                MergeOutcome::UpToDate => return Ok(Merged::UpToDate { tip }),
                MergeOutcome::FastForward => return Ok(Merged::FastForward { target: hub }),
                MergeOutcome::Created { commit, copies } => {
                    return Ok(Merged::Created { commit, copies });
                }
                MergeOutcome::Unrelated => {}
            }
        }
        match (contact::first_contact(place, hub, tip)?, tip) {
            (Contact::Adopted { commit, .. }, _) if commit == hub => {
                Ok(Merged::FastForward { target: hub })
            }
            (Contact::Adopted { commit, copies }, _) => Ok(Merged::Created { commit, copies }),
            (Contact::Unrelated(trouble), _) => Ok(Merged::Blocked(trouble)),
            (Contact::Related, Some(tip)) => {
                Ok(match merge::merge(place, hub, tip, Prefer::Hub)? {
                    MergeOutcome::UpToDate | MergeOutcome::Unrelated => Merged::UpToDate { tip },
                    MergeOutcome::FastForward => Merged::FastForward { target: hub },
                    MergeOutcome::Created { commit, copies } => Merged::Created { commit, copies },
                })
            }
            (Contact::Related, None) => Ok(Merged::FastForward { target: hub }),
        }
    }

    /// Returns what is to be merged with the hub's tip: ours, with the earlier version of this host
    /// that the hub has and that was let go here. Of both the later one stands, without a copy.
    fn with_what_was_let_go(&self, hub: ObjectId, tip: ObjectId) -> Result<ObjectId, RepoError> {
        let place = &self.place;
        let objects = &place.objects;
        let Some(earlier) = refs::read(&place.git, objects, LET_GO)? else {
            return Ok(tip);
        };
        if objects.descends(hub, earlier)? && !objects.descends(tip, earlier)? {
            return Ok(
                match merge::merge(place, earlier, tip, Prefer::LocalSilently)? {
                    MergeOutcome::Created { commit, .. } => commit,
                    MergeOutcome::UpToDate
                    | MergeOutcome::FastForward
                    | MergeOutcome::Unrelated => tip,
                },
            );
        }
        // On its way to where the hub still is it may be seen there next time.
        if objects.descends(tip, earlier)? || !objects.descends(earlier, hub)? {
            refs::set(&place.git, objects, LET_GO, None)?;
        }
        Ok(tip)
    }

    fn run_apply(&mut self, target: ObjectId, approved: bool) -> Applied {
        let before = refs::read(
            &self.place.git,
            &self.place.objects,
            &self.place.branch_ref(),
        );
        let before = before.ok().flatten();
        let waiting: BTreeSet<_> = self.waiting_removals(None).into_keys().collect();
        let approval = if approved {
            Approval::Own(waiting.clone())
        } else {
            Approval::Commits
        };
        let checked = self
            .check_root(None)
            .and_then(|()| self.look_at_mounts(before, &Waits::default()));
        let done = checked.and_then(|()| {
            apply::apply(
                &self.place,
                &mut self.bases,
                &mut self.view,
                target,
                &approval,
            )
        });
        let mut applied = self.after_apply(done, before, target);
        let still = self.waiting_removals(None);
        applied.held_grew = still.keys().any(|path| !waiting.contains(path));
        applied
    }

    /// Completes what an apply says by what it left.
    pub(super) fn after_apply(
        &mut self,
        done: Result<Applied, RepoError>,
        before: Option<ObjectId>,
        target: ObjectId,
    ) -> Applied {
        let mut applied = done.unwrap_or_else(|error| {
            tracing::debug!(%error, "no apply");
            Applied {
                blocked: Some(error.trouble()),
                ..Applied::default()
            }
        });
        applied.unfinished = journal_open(&self.place);
        if applied.blocked.is_none() {
            let place = &self.place;
            if let Err(error) = refs::set(&place.git, &place.objects, MERGE, None) {
                tracing::debug!(%error, "an applied merge is still kept");
            }
            self.view_tip = applied.tip;
            applied.copies = self.copies_of(target, before).unwrap_or_default();
            applied.marked = self.marked(applied.tip);
            match waits::waited(&self.place, &self.bases) {
                Ok(waited) => applied.waited = waited,
                Err(error) => tracing::warn!(%error, "how long removals have waited is not known"),
            }
        }
        applied
    }

    /// Returns the files with markers of somebody's git that a tip has.
    fn marked(&self, tip: Option<ObjectId>) -> Vec<Marked> {
        let standing = markers::standing(&self.place, tip);
        standing.unwrap_or_else(|error| {
            tracing::debug!(%error, "files with conflict markers are not known");
            Vec::new()
        })
    }

    /// Returns the conflict copies that came in between two tips.
    fn copies_of(
        &self,
        target: ObjectId,
        before: Option<ObjectId>,
    ) -> Result<Vec<ConflictCopy>, RepoError> {
        copies::conflicts_since(&self.place, target, before)
    }

    /// Whether the user has git throw away what is younger than its default of two weeks: that is
    /// for the user's own gc, which does not run while somebody may be in the middle of something.
    fn prunes_early(&self) -> Result<bool, RepoError> {
        let git = &self.place.git;
        let Some(expire) = git.config("gc.pruneExpire")? else {
            return Ok(false);
        };
        if matches!(expire.as_str(), "never" | "false") {
            return Ok(false);
        }
        let out = git.call("rev-parse", [format!("--since={expire}")], b"")?;
        let since = String::from_utf8_lossy(&out);
        let since = since.trim().strip_prefix("--max-age=");
        let since = since.and_then(|seconds| seconds.parse::<i64>().ok());
        Ok(since.is_none_or(|since| since > clock::wall_seconds() - TWO_WEEKS))
    }

    /// Repacks the folder if git thinks that it is worth it, and its hub if we made that.
    fn run_maintain(&mut self) -> Result<(), RepoError> {
        let mut command = self.place.git.command("-c");
        command.args([
            "maintenance.auto=true",
            "-c",
            "gc.auto=1000",
            "-c",
            "gc.autoDetach=false",
        ]);
        if self.prunes_early()? {
            command.args(["-c", "gc.pruneExpire=2.weeks.ago"]);
        }
        command.args([
            "-c",
            "maintenance.autoDetach=false",
            "maintenance",
            "run",
            "--auto",
            "--quiet",
        ]);
        crate::git::run(&mut command, b"", crate::git::LOCAL, "maintenance")?;
        if let Some(remote) = Remote::of(&self.place)?
            && let Kind::Path(path) = &remote.kind
        {
            hub::maintain(path)?;
        }
        Ok(())
    }
}

fn wrong_lane() -> Trouble {
    Trouble::new(
        Code::Internal,
        Recovery::Retry,
        "a network job came to the tree lane",
        "",
    )
}
