//! A person's words for a commit: as its message while nobody has it, else as a note beside it.
//!
//! Invariants:
//! 1. A commit that was there when a push was begun is never reworded: the hub may have it whatever
//!    the answer was. So only what was made here since then is.
//! 2. What a person typed is put down or said again, never dropped.
//! 3. A push waits for an answer at most [`PATIENCE`], and only that of a lone commit.

use std::collections::VecDeque;
use std::time::Duration;

use super::action::{Action, Job, Tell, Trigger};
use super::event::{Code, Described, Recovery, Trouble};
use super::lanes::TreeWork;
use super::receiving::Receiving;
use super::timer::{Moment, Site, Timer};
use super::{Engine, Hub};
use crate::names::ObjectId;

/// So long a push waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many answers wait at once, and so many new names are remembered.
const MOST: usize = 16;

/// What is known of a person's words.
#[derive(Debug, Clone, Default)]
pub(super) struct Describing {
    /// The commit whose push waits for an answer.
    asked: Option<ObjectId>,
    /// Answers that wait for the tree lane.
    answers: VecDeque<(ObjectId, String)>,
    /// What reworded commits were and are.
    renamed: VecDeque<(ObjectId, ObjectId)>,
    /// The commit that was made here since the last push was begun: no hub can have it from us.
    fresh: Option<ObjectId>,
    /// The notes here and on the hub are to be brought together.
    pub(super) notes: bool,
}

impl Describing {
    pub(super) fn new(notes: bool) -> Self {
        Self {
            notes,
            ..Self::default()
        }
    }

    fn now_called(&self, commit: ObjectId) -> ObjectId {
        self.renamed
            .iter()
            .fold(commit, |id, (was, is)| if id == *was { *is } else { id })
    }
}

impl Engine {
    /// Lets the push of a new commit wait for its message, if it is asked for and the commit is
    /// alone. To be called before it is the tip.
    pub(super) fn ask_for_words(&mut self, now: Moment, commit: ObjectId) {
        self.describing.fresh = Some(commit);
        let by_itself = matches!(
            self.lanes.tree(),
            Some(TreeWork::Snapshot(flight)) if flight.trigger != Trigger::Merge
        );
        let alone = self.tip == self.hub.tip()
            && self.describing.asked.is_none()
            && self.settle.doublings(now) == 0
            && self.receiving == Receiving::Idle;
        let waits = self.settings.ask && self.settings.has_hub && !self.asked_push;
        if waits && by_itself && alone {
            self.describing.asked = Some(commit);
            self.timers.set(Timer::Words, now + PATIENCE);
        } else {
            self.ask_no_more();
        }
    }

    /// Lets the push go, whatever the answer will be.
    pub(super) fn ask_no_more(&mut self) {
        self.describing.asked = None;
        self.timers.clear(Timer::Words);
    }

    /// Takes a person's answer; `None` is that the message stays.
    pub(super) fn on_answered(&mut self, commit: ObjectId, message: Option<String>) {
        if self.describing.asked == Some(commit) {
            self.ask_no_more();
        }
        let Some(message) = message else {
            return;
        };
        if self.describing.answers.len() < MOST {
            self.describing.answers.push_back((commit, message));
        } else {
            let trouble = Trouble::new(
                Code::Internal,
                Recovery::Retry,
                "too many other words wait",
                "",
            );
            self.say_again((commit, message), &trouble);
        }
    }

    /// Whether our tip is not to be pushed yet: its message is about to change.
    pub(super) fn waits_for_words(&self) -> bool {
        let is_tip = |commit: ObjectId| self.tip == Some(self.describing.now_called(commit));
        let answered = self.describing.answers.iter().any(|it| is_tip(it.0));
        self.describing.asked.is_some()
            || answered && !self.timers.is_set(Timer::Retry(Site::Snapshot))
            || matches!(self.lanes.tree(), Some(TreeWork::Reword { .. }))
    }

    /// Whether an answer waits.
    pub(super) fn has_words(&self) -> bool {
        !self.describing.answers.is_empty()
    }

    /// Starts to put down an answer. Returns whether there was one.
    pub(super) fn put_down_words(&mut self) -> bool {
        // Both may move the notes.
        if self.lanes.exchanges_notes() {
            return false;
        }
        let Some((commit, message)) = self.describing.answers.pop_front() else {
            return false;
        };
        let now_called = self.describing.now_called(commit);
        let may_reword = self.tip == Some(now_called)
            && self.tip != self.hub.tip()
            && self.describing.fresh == Some(now_called)
            && self.receiving == Receiving::Idle
            && self.made.is_none();
        let work = TreeWork::Reword {
            commit,
            message: message.clone(),
        };
        let job = Job::Reword {
            commit: now_called,
            message,
            may_reword,
        };
        self.run_tree(work, job);
        true
    }

    /// Takes what became of an answer.
    pub(super) fn on_described(&mut self, now: Moment, outcome: Described) {
        let ended = self.lanes.end_tree(|work| match work {
            TreeWork::Reword { commit, message } => Some((commit, message)),
            TreeWork::Recover
            | TreeWork::Snapshot(_)
            | TreeWork::Merge { .. }
            | TreeWork::Apply { .. }
            | TreeWork::Recall { .. } => None,
        });
        let Some(answer) = ended else {
            return;
        };
        match outcome {
            Described::Reworded { from, to } => {
                self.describing.renamed.push_back((from, to));
                let surplus = self.describing.renamed.len().saturating_sub(MOST);
                self.describing.renamed.drain(..surplus);
                if self.tip == Some(from) {
                    self.describing.fresh = Some(to);
                    self.unpushed = self.unpushed.saturating_sub(1);
                    self.set_tip(now, to);
                }
            }
            Described::Noted => self.want_notes(),
            Described::Blocked(trouble) => {
                // Whatever else is in the way would be in the way of the next try.
                if trouble.recovery == Recovery::Pause {
                    self.describing.answers.push_front(answer);
                    self.failed(now, Site::Snapshot, trouble);
                } else {
                    self.say_again(answer, &trouble);
                }
            }
        }
    }

    /// Tells a person the words that could not be put down.
    fn say_again(&mut self, (commit, message): (ObjectId, String), why: &Trouble) {
        let short = commit.short();
        let message = format!(
            "the words \"{message}\" for {short} could not be put down: {}",
            why.message
        );
        let hint = format!("Add them with `git notes --ref=autosync append {short}`.");
        let trouble = Trouble::new(why.code, why.recovery, message, hint);
        self.actions.push_back(Action::Tell(Tell::Problem(trouble)));
    }

    /// Notes that a push begins.
    pub(super) fn note_push(&mut self) {
        self.describing.fresh = None;
        self.ask_no_more();
    }

    /// Wants the notes here and on the hub to be brought together.
    pub(super) fn want_notes(&mut self) {
        self.describing.notes = self.settings.notes;
    }

    /// Whether that is wanted and possible now.
    pub(super) fn may_exchange_notes(&self) -> bool {
        self.describing.notes
            && !self.has_words()
            && !matches!(self.lanes.tree(), Some(TreeWork::Reword { .. }))
            && matches!(self.hub, Hub::At(_))
            && self.publishes()
            && self.receives()
            && !self.timers.is_set(Timer::Retry(Site::Fetch))
    }
}
