//! The tree lane's own memory of a folder, and what it checks before every job (S1).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::bases::Bases;
use super::boot::Boot;
use super::displaced::LateSecret;
use super::filter::Patterns;
use super::history::History;
use super::journal::journal_open;
use super::junk::{self, Heaps};
use super::mounts::Waits;
use super::plan::{self, Approval};
use super::publish::{IndexEdit, Published, publish};
use super::reword::REWORD;
use super::root::here;
use super::shown::Shown;
use super::{Place, RepoError, Settings, apply, merge, rewritten, stable, taken_out};
use crate::clock;
use crate::engine::event::{Code, Held, Recovery, Trouble, Waiting};
use crate::engine::timer::Moment;
use crate::git::gate::{self, Record};
use crate::git::index::IndexView;
use crate::git::refs;
use crate::git::tree::{self, Lookup};
use crate::names::{ObjectId, RepoPath, escape};

/// The reference to a commit that is stored but not yet on the branch.
pub const PENDING: &str = "refs/worktree/autosync/pending";

/// The reference to a commit that was let go because the user's git moved the branch, and that the
/// hub may have all the same: who was killed between a push and the answer does not know.
pub const LET_GO: &str = "refs/worktree/autosync/let-go";

/// Deletions within this time count as one.
const DELETE_WINDOW: Duration = Duration::from_secs(600);

/// A folder as the tree lane knows it between jobs.
#[derive(Debug)]
pub struct Folder {
    /// What every job shares.
    pub place: Place,
    /// The paths that deliberately differ from HEAD.
    pub bases: Bases,
    /// What the user's index says.
    pub view: IndexView,
    /// The commit that the view was compared with.
    pub view_tip: Option<ObjectId>,
    /// The patterns of the configuration.
    pub patterns: Patterns,
    /// Files that a guard keeps out of commits, with the reason.
    pub held: BTreeMap<RepoPath, (Code, String)>,
    /// Files that became secrets after they had left the tree.
    pub late_secrets: Vec<LateSecret>,
    /// New files that are held together.
    pub(super) heaps: Heaps,
    /// What a power cut may have done to files.
    pub boot: Boot,
    /// Directories that could not be listed: what is in them is read again when they can, because
    /// git takes a file for unchanged whose entry it wrote anew without reaching it.
    pub unreadable: BTreeSet<RepoPath>,
    /// Whether only files that git knows are ours (`status.showUntrackedFiles=no`).
    pub tracked_only: bool,
    /// Deletions that wait for approval.
    pub held_deletes: BTreeSet<RepoPath>,
    /// What is held, as a person was shown it.
    pub(super) shown: Shown,
    /// The directory that was found in the root's place.
    pub(super) doubted: RefCell<Option<String>>,
    /// The directory in the root's place that a person said is right.
    pub(super) accepted: RefCell<Option<String>>,
    /// Paths that the user staged in part, since when.
    pub staged_since: BTreeMap<RepoPath, Moment>,
    /// The log of operations.
    pub history: History,
    /// Deletions that were committed, to see a mass delete that comes in small batches.
    pub deleted: VecDeque<(Moment, usize)>,
}

impl Folder {
    /// Opens a folder. Nothing is finished or mended yet: see [`Self::recover`].
    pub fn open(settings: Settings) -> Result<Self, RepoError> {
        let patterns = Patterns::new(&settings)?;
        let place = Place::open(settings)?;
        let bases = Bases::load(&place)?;
        let untracked = place.git.config("status.showUntrackedFiles")?;
        let tracked_only = place.settings.only.is_empty()
            && matches!(untracked.as_deref(), Some("no" | "false" | "off" | "0"));
        Ok(Self {
            place,
            bases,
            view: IndexView::default(),
            view_tip: None,
            patterns,
            held: BTreeMap::new(),
            late_secrets: Vec::new(),
            heaps: Heaps::new(),
            boot: Boot::default(),
            unreadable: BTreeSet::new(),
            tracked_only,
            held_deletes: BTreeSet::new(),
            shown: Shown::default(),
            doubted: RefCell::default(),
            accepted: RefCell::default(),
            staged_since: BTreeMap::new(),
            history: History::default(),
            deleted: VecDeque::new(),
        })
    }

    /// Takes S1's record, after the gate and everything that an earlier job left open.
    ///
    /// Takes the root and the mounts that are `granted` as they are. Errors with a pause while the
    /// user's git is at work.
    pub(super) fn begin(&mut self, granted: &Shown) -> Result<Record, RepoError> {
        self.check_root(granted.root.as_deref())?;
        let branch = self.place.settings.branch.clone();
        if let Some(trouble) = gate::closed(&self.place.git, &branch)? {
            return Err(RepoError::Blocked(trouble));
        }
        if journal_open(&self.place) {
            self.finish_apply()?;
        }
        self.finish_pending()?;
        let record = gate::record(&self.place.git, &self.place.objects, &branch)?;
        self.refresh_view(&record)?;
        self.look_at_mounts(record.tip, &granted.mounts)?;
        Ok(record)
    }

    /// Looks which file systems are mounted below the root. Those that are `granted` are taken as
    /// they are.
    pub(super) fn look_at_mounts(
        &self,
        tip: Option<ObjectId>,
        granted: &Waits,
    ) -> Result<(), RepoError> {
        let place = &self.place;
        let head = Lookup::new(&place.objects, place.tree_of(tip)?);
        let mut mounts = place.mounts.borrow_mut();
        mounts.look(place, &head, &self.bases, granted)
    }

    /// Finishes an apply that was begun. A commit that the user made meanwhile is merged at once.
    ///
    /// The disk has what came in by then, and so may the user's commit, whose history says nothing
    /// of it: what is edited next would be merged as if it were an edit of the old versions.
    fn finish_apply(&mut self) -> Result<(), RepoError> {
        let target = apply::journal_target(&self.place)?;
        apply::recover(&self.place, &mut self.bases, &mut self.view)?;
        let place = &self.place;
        let tip = refs::read(&place.git, &place.objects, &place.branch_ref())?;
        let (Some(target), Some(tip)) = (target, tip) else {
            return Ok(());
        };
        if tip == target || place.objects.descends(tip, target)? {
            return Ok(());
        }
        let prefer = if rewritten::rewritten(place, target, tip)? {
            merge::Prefer::LocalSilently
        } else {
            merge::Prefer::Hub
        };
        let merged = merge::merge(place, target, tip, prefer)?;
        let merge::MergeOutcome::Created { commit, .. } = merged else {
            return Ok(());
        };
        let (bases, view) = (&mut self.bases, &mut self.view);
        let done = apply::apply(&self.place, bases, view, commit, &Approval::Commits)?;
        match done.blocked {
            Some(trouble) if journal_open(&self.place) => Err(RepoError::Blocked(trouble)),
            // The user is at it still: it is merged later, like every other commit.
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the index again if somebody else moved it or the branch.
    pub fn refresh_view(&mut self, record: &Record) -> Result<(), RepoError> {
        if self.view.stamp != record.index || self.view_tip != record.tip || record.index.is_none()
        {
            self.view = IndexView::read(&self.place.git, record.tip)?;
            self.view_tip = record.tip;
        }
        if self.view.unmerged {
            return Err(RepoError::Blocked(Trouble::new(
                Code::Unmerged,
                Recovery::Pause,
                "waiting: the index has unmerged entries",
                "Resolve them with `git add` and `git commit`, or `git merge --abort`.",
            )));
        }
        Ok(())
    }

    /// Returns whether nothing moved since the record, and nobody is at work (S4).
    pub fn still(&self, record: &Record) -> Result<Option<Trouble>, RepoError> {
        let branch = &self.place.settings.branch;
        if let Some(trouble) = gate::at_work(&self.place.git, branch) {
            return Ok(Some(trouble));
        }
        let now = gate::record(&self.place.git, &self.place.objects, branch)?;
        let trouble = (now != *record || gate::in_progress(&self.place.git).is_some()).then(|| {
            let message = "waiting: the user's git moved HEAD or the index";
            Trouble::new(Code::GitBusy, Recovery::Pause, message, "")
        });
        Ok(trouble)
    }

    /// Brings a commit that is stored but not on the branch to its end (S6-S8), or lets it go.
    pub fn finish_pending(&mut self) -> Result<(), RepoError> {
        let place = &self.place;
        let Some(pending) = refs::read(&place.git, &place.objects, PENDING)? else {
            return Ok(());
        };
        let record = gate::record(&place.git, &place.objects, &place.settings.branch)?;
        if record.tip == Some(pending) {
            return Ok(refs::set(&place.git, &place.objects, PENDING, None)?);
        }
        let parent = place.objects.commit(pending)?.parents.first().copied();
        if parent == record.tip {
            self.refresh_view(&record)?;
            let edits = self.edits_between(parent, pending)?;
            taken_out::note(&self.place, &self.bases, pending)?;
            let done = publish(
                &self.place,
                &mut self.view,
                &record,
                pending,
                &edits,
                "autosync: snapshot",
            )?;
            return match done {
                Published::Done => {
                    self.view_tip = Some(pending);
                    Ok(refs::set(
                        &self.place.git,
                        &self.place.objects,
                        PENDING,
                        None,
                    )?)
                }
                Published::Blocked(trouble) => Err(RepoError::Blocked(trouble)),
            };
        }
        let apart = match record.tip {
            Some(tip) if !place.objects.descends(tip, pending)? => Some(tip),
            Some(_) | None => None,
        };
        let published = apart.is_some() && self.is_published(pending)?;
        if apart.is_some() && !published {
            refs::set(&place.git, &place.objects, LET_GO, Some(pending))?;
        }
        if let (Some(tip), true) = (apart, published) {
            // The user's git moved HEAD while our commit was already on its way: both are this
            // host's, and the later one wins without a copy.
            let outcome = merge::merge(place, pending, tip, merge::Prefer::LocalSilently)?;
            if let merge::MergeOutcome::Created { commit, .. } = outcome {
                self.refresh_view(&record)?;
                // What it removed went through the guards when it was made.
                let removed = plan::removed_by(&self.place, &self.place.objects.commit(pending)?)?;
                let done = apply::apply_with_pending(
                    &self.place,
                    &mut self.bases,
                    &mut self.view,
                    commit,
                    &Approval::Own(removed.into_iter().collect()),
                )?;
                self.view_tip = done.tip;
                if let Some(trouble) = done.blocked {
                    return Err(RepoError::Blocked(trouble));
                }
            }
        }
        Ok(refs::set(
            &self.place.git,
            &self.place.objects,
            PENDING,
            None,
        )?)
    }

    /// Returns whether some hub is known to have a commit.
    pub(super) fn is_published(&self, commit: ObjectId) -> Result<bool, RepoError> {
        for (_, tip) in refs::list(&self.place.git, "refs/remotes/")? {
            if self.place.objects.contains(tip) && self.place.objects.descends(tip, commit)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the index edits that lead from one commit to another, stat data from the disk.
    pub fn edits_between(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
    ) -> Result<Vec<IndexEdit>, RepoError> {
        let old = self.place.tree_of(from)?;
        let new = self.place.tree_of(Some(to))?;
        let differences = tree::differences(&self.place.objects, old, new)?;
        Ok(differences
            .into_iter()
            .map(|difference| IndexEdit {
                skip_worktree: self.bases.get(&difference.path).is_some(),
                refresh: self.bases.get(&difference.path).is_none(),
                path: difference.path,
                entry: difference.new,
            })
            .collect())
    }

    /// Finishes what a kill left: our locks, an open journal, a pending commit.
    ///
    /// Returns the tip. Must run under our own lock of the folder, before any other job.
    pub fn recover(&mut self) -> Result<Option<ObjectId>, RepoError> {
        here(&self.place)?;
        self.boot = Boot::begin(&self.place)?;
        let place = &self.place;
        let pending = refs::read(&place.git, &place.objects, PENDING)?;
        let tips: Vec<ObjectId> = pending
            .into_iter()
            .chain(apply::journal_target(place)?)
            .chain(refs::read(&place.git, &place.objects, REWORD)?)
            .collect();
        if !tips.is_empty() {
            // What is left to be done is done to that directory alone.
            self.check_root(None)?;
        }
        let place = &self.place;
        super::publish::remove_own_locks(place, &tips)?;
        let branch = place.settings.branch.clone();
        if let Some(trouble) = gate::closed(&place.git, &branch)? {
            return Err(RepoError::Blocked(trouble));
        }
        if refs::read(&place.git, &place.objects, REWORD)?.is_some() {
            refs::set(&place.git, &place.objects, REWORD, None)?;
        }
        if journal_open(place) {
            self.finish_apply()?;
        }
        self.finish_pending()?;
        super::publish::remove_unfinished(&self.place)?;
        let place = &self.place;
        Ok(refs::read(&place.git, &place.objects, &place.branch_ref())?)
    }

    /// Notes deletions that were committed, and returns how many there were lately.
    pub fn deleted_lately(&mut self, more: usize) -> usize {
        let now = clock::now();
        while self
            .deleted
            .front()
            .is_some_and(|(at, _)| now.since(*at) > DELETE_WINDOW)
        {
            self.deleted.pop_front();
        }
        if more > 0 {
            self.deleted.push_back((now, more));
        }
        self.deleted.iter().map(|(_, count)| count).sum()
    }

    /// Returns everything that guards hold back, in groups, for status.
    pub fn held_groups(&self) -> Vec<Held> {
        let mut groups: BTreeMap<Code, Vec<(&RepoPath, &str)>> = BTreeMap::new();
        for (path, (code, message)) in &self.held {
            groups.entry(*code).or_default().push((path, message));
        }
        let mut held: Vec<Held> = groups
            .into_iter()
            .map(|(code, paths)| {
                let message = match paths.as_slice() {
                    [(_, message)] => (*message).to_owned(),
                    many => format!("{} files are held back ({})", many.len(), hold_words(code)),
                };
                Held {
                    code,
                    paths: paths
                        .iter()
                        .take(20)
                        .map(|(path, _)| (*path).clone())
                        .collect(),
                    more: paths.len().saturating_sub(20),
                    message,
                    hint: hold_hint(code).to_owned(),
                }
            })
            .collect();
        held.extend(late_secrets(&self.late_secrets));
        held.extend(self.place.mounts.borrow().held());
        held.extend(junk::group(&self.heaps));
        if !self.held_deletes.is_empty() {
            held.push(Held {
                code: Code::MassDelete,
                paths: self.held_deletes.iter().take(20).cloned().collect(),
                more: self.held_deletes.len().saturating_sub(20),
                message: self.mass_delete_words(),
                hint: "If that was meant, run `autosync approve`; else, in the folder, \
                       `autosync undo` brings them back."
                    .to_owned(),
            });
        }
        held
    }

    /// Says how much of a mass delete is held. One that came in small batches went through as far
    /// as it was small.
    fn mass_delete_words(&self) -> String {
        let held = self.held_deletes.len();
        let before: usize = self.deleted.iter().map(|(_, count)| count).sum();
        if before == 0 {
            return format!("{held} files were deleted at once");
        }
        format!("{held} files were deleted, after {before} others in ten minutes")
    }

    /// Returns the paths that deliberately differ from HEAD, for status.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.bases.waiting()
    }

    /// Makes what the batch read durable: each file and directory, or the file system at once.
    pub fn make_durable(&self, paths: &[RepoPath]) -> Result<(), RepoError> {
        if paths.len() >= super::pack::WORTH_A_PACK {
            return stable::sync_file_system(self.place.root());
        }
        let mut dirs = BTreeSet::new();
        for path in paths {
            stable::sync_file(&self.place.on_disk(path))?;
            dirs.insert(path.parent());
        }
        for dir in dirs {
            let dir = dir.map_or_else(|| self.place.root().to_owned(), |d| self.place.on_disk(&d));
            stable::sync_directory(&dir)?;
        }
        Ok(())
    }
}

/// Returns what was written late and looks like a secret, each by itself: it says where it is.
fn late_secrets(late: &[LateSecret]) -> impl Iterator<Item = Held> {
    late.iter().map(|LateSecret { path, secret, slot }| Held {
        code: Code::Secret,
        paths: vec![path.clone()],
        more: 0,
        message: format!(
            "what a program went on writing to the old file of `{path}` looks like {}",
            secret.words()
        ),
        hint: format!(
            "It is kept as `{}`, on this computer only: remove it there if nobody needs it, or run \
             `autosync allow PATH` in the folder to sync it all the same.",
            escape(slot.as_os_str().as_encoded_bytes())
        ),
    })
}

/// What guards hold, in words, and what to do.
const HOLDS: &[(Code, &str, &str)] = &[
    (
        Code::TooBig,
        "larger than `max_file`",
        "Raise `max_file`, or list the file in .gitignore.",
    ),
    (
        Code::Secret,
        "they look like secrets",
        "In the folder, run `autosync allow PATH` to sync one of them all the same, or \
         `autosync ignore PATH` to keep it here.",
    ),
    (
        Code::Filter,
        "their filter is missing",
        "Install the filter (for LFS: `git lfs install`), or change .gitattributes.",
    ),
    (Code::DangerousName, "dangerous names", "Rename it."),
    (
        Code::UncleanBoot,
        "found empty or older, as after a power cut",
        "Look at the files; `autosync approve` commits them as they are.",
    ),
];

fn hold_words(code: Code) -> &'static str {
    HOLDS
        .iter()
        .find(|hold| hold.0 == code)
        .map_or("see `autosync status`", |hold| hold.1)
}

fn hold_hint(code: Code) -> &'static str {
    HOLDS
        .iter()
        .find(|hold| hold.0 == code)
        .map_or("", |hold| hold.2)
}
