//! Bringing something back: the question of a person to a living agent, or without one.

use super::Agent;
use super::folder::lock_folder;
use crate::control::{LogQuestion, Refusal, Reply};
use crate::desktop::Desktop;
use crate::engine::action::{Job, Scope, Trigger};
use crate::engine::event::{Code, Event, Trouble};
use crate::engine::recall::{Answer, Listed, Recall, Wanted};
use crate::error::{Complaint, Exit};
use crate::names::ObjectId;
use crate::repo;
use crate::repo::folder::Folder;
use crate::repo::listing::listing;

/// Who wants something back.
pub(super) enum Asker {
    /// Somebody who waits for the answer.
    Caller(Reply<Answer>),
    /// A person who clicked: what came in with this commit is to be undone.
    Click(ObjectId),
}

impl Asker {
    /// Hands over the answer of the folder `id`.
    pub(super) fn answer(self, desktop: &Desktop, id: u64, answer: Result<Answer, Trouble>) {
        match self {
            // Who hung up meanwhile sees it in the log.
            Self::Caller(reply) => drop(reply.send(answer.map_err(in_the_way))),
            Self::Click(commit) => {
                let told = answer.map_err(|trouble| of_a_click(trouble, commit));
                desktop.undone(&id.to_string(), &told);
            }
        }
    }
}

/// Says it to somebody who has no command line before him.
fn of_a_click(mut trouble: Trouble, commit: ObjectId) -> Trouble {
    if trouble.code == Code::MassDelete {
        let asks = format!(
            "In the folder, `autosync undo {}` asks about it.",
            commit.short()
        );
        trouble.hint = asks;
    }
    trouble
}

impl Agent {
    /// Puts the question to its folder. The engine answers it in any case.
    pub(super) fn recall(&mut self, asked: Option<&str>, recall: Recall, reply: Reply<Answer>) {
        let id = match self.the_one(asked) {
            Ok(id) => id,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        self.put_recall(id, recall, Asker::Caller(reply));
    }

    /// Undoes what came in with a commit, because a person clicked. It is told where the click was.
    pub(super) fn undo_by_click(&mut self, id: u64, commit: ObjectId) {
        let recall = Recall {
            wanted: Wanted::Undo(Some(commit.to_string())),
            dry_run: false,
            only_here: false,
            approved: false,
        };
        self.put_recall(id, recall, Asker::Click(commit));
    }

    fn put_recall(&mut self, id: u64, recall: Recall, asker: Asker) {
        let Some(folder) = self.folders.get_mut(&id) else {
            return;
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.recalls.insert(ticket, (id, asker));
        folder.handle(Event::RecallAsked { ticket, recall });
    }

    /// Lists what was done in a folder. It is read beside everything else: nobody waits for it.
    pub(super) fn list(&self, question: &LogQuestion, reply: Reply<Vec<Listed>>) {
        let found = question.path().map_err(Refusal::Nonsense);
        let found = found.and_then(|path| Ok((path, self.the_one(question.folder.as_deref())?)));
        let (path, id) = match found {
            Ok(found) => found,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let Some(folder) = self.folders.get(&id) else {
            return;
        };
        let root = folder.settings.root.clone();
        let git_dir = folder.settings.git_dir.clone();
        let number = question.number.unwrap_or(LogQuestion::NUMBER);
        let read = move || {
            let listed = listing(&root, git_dir.as_deref(), path.as_ref(), number);
            drop(reply.send(listed.map_err(|error| in_the_way(error.trouble()))));
        };
        // Its end is its answer.
        drop(tokio::task::spawn_blocking(read));
    }

    /// Returns the folder that is meant: there must be one only, and it must be there.
    fn the_one(&self, asked: Option<&str>) -> Result<u64, Refusal> {
        let [id] = self.named(asked)?[..] else {
            let known = self.configs();
            let known = known.map(|(_, config)| config.name.clone()).collect();
            return Err(Refusal::WhichFolder { known });
        };
        match self.away.get(&id) {
            Some(away) => Err(in_the_way(away.trouble().clone())),
            None => Ok(id),
        }
    }
}

/// Returns the refusal that a trouble is.
pub(super) fn in_the_way(trouble: Trouble) -> Refusal {
    Refusal::InTheWay {
        code: trouble.code.word(),
        message: trouble.message,
        hint: trouble.hint,
    }
}

/// Brings something back where no agent cares for the folder. What is there is committed first.
///
/// `agrees` hears what it would do and returns what is wanted then; `None` leaves everything as it
/// is. Nobody else may care for the folder meanwhile. What was done is pushed by the next sync.
pub fn alone(
    settings: &repo::Settings,
    recall: &Recall,
    agrees: impl FnOnce(&Answer) -> Result<Option<Recall>, Complaint>,
) -> Result<Option<Answer>, Complaint> {
    let _lock = lock_folder(settings)?;
    let mut folder = Folder::open(settings.clone()).map_err(|error| told(&error.trouble()))?;
    let recover = folder.run(Job::Recover, &mut drop);
    if let Event::Recovered(recovered) = recover
        && let Some(trouble) = recovered.blocked
    {
        return Err(told(&trouble));
    }
    let look = Job::Snapshot {
        scope: Scope::Everything,
        even_open: std::collections::BTreeSet::new(),
        trigger: Trigger::Asked,
        approved: false,
    };
    if let Event::Snapshotted(outcome) = folder.run(look, &mut drop)
        && let Some(trouble) = outcome.blocked
    {
        return Err(told(&trouble));
    }
    let plan = Recall {
        dry_run: true,
        ..recall.clone()
    };
    let plan = ask(&mut folder, &plan)?;
    let done = match agrees(&plan)? {
        Some(wanted) => Some(ask(&mut folder, &wanted)?),
        None => None,
    };
    if let Err(error) = folder.boot.end(&folder.place) {
        tracing::info!(%error, "the clean end could not be noted");
    }
    Ok(done)
}

fn ask(folder: &mut Folder, recall: &Recall) -> Result<Answer, Complaint> {
    let job = Job::Recall(Box::new(recall.clone()));
    let outcome = folder.run(job, &mut drop);
    let Event::Recalled(outcome) = outcome else {
        let message = "it could not be done";
        return Err(Complaint::new(Exit::Failed, message, ""));
    };
    outcome.answer.map_err(|trouble| told(&trouble))
}

/// Says what is in the way to somebody whose command ends here.
fn told(trouble: &Trouble) -> Complaint {
    let mut complaint = Complaint::from(trouble);
    if let Some(what) = trouble.message.strip_prefix("waiting: ") {
        what.clone_into(&mut complaint.message);
    }
    complaint
}
