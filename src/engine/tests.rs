//! Stories: what a person would tell about one folder, event by event.

use super::action::{Action, Job, Scope, Tell, Trigger};
use super::event::{
    Applied, Change, ChangeKind, Code, Committed, Event, Fetched, Merged, Pushed, Recovered,
    Recovery, Request, Snapshotted, Trouble, Waiting,
};
use super::notice::{Circle, Notice};
use super::status::State;
use super::timer::Moment;
use super::{Engine, FolderBasics, Mode, Settings};
use crate::names::{ObjectId, RepoPath};

mod again;
mod describing;
mod properties;
mod recalling;
mod receiving;
mod starting;
mod stopped;

/// Returns the moment this many milliseconds after the start.
fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

/// Returns a commit id that is told apart by a number.
fn oid(number: u8) -> ObjectId {
    ObjectId::from_bytes(&[number; 20]).unwrap()
}

fn settings() -> Settings {
    Settings {
        host: "laptop".to_owned(),
        ..Settings::default()
    }
}

/// An engine with a clock, and words for what happens to it.
struct Folder {
    engine: Engine,
    now: Moment,
}

impl Folder {
    /// Creates a folder whose start is behind it: tip and hub are commit 1.
    fn quiet() -> Self {
        Self::quiet_with(settings())
    }

    fn quiet_with(settings: Settings) -> Self {
        let has_hub = settings.has_hub;
        let mut folder = Self::new(settings);
        folder.recovered(Some(1), Some(1));
        folder.snapshotted(Snapshotted {
            tip: Some(oid(1)),
            ..Snapshotted::default()
        });
        if has_hub {
            folder.event(Event::Fetched(Fetched::Tip(Some(oid(1)))));
        }
        folder.actions();
        folder.pass(10_000);
        assert_eq!(folder.actions(), []);
        folder
    }

    fn new(settings: Settings) -> Self {
        Self {
            engine: Engine::new(settings, 1, at(0)),
            now: at(0),
        }
    }

    fn event(&mut self, event: Event) {
        self.engine.handle_event(self.now, event);
    }

    fn recovered(&mut self, tip: Option<u8>, hub: Option<u8>) {
        self.event(Event::Recovered(Recovered {
            tip: tip.map(oid),
            copies: Vec::new(),
            marked: Vec::new(),
            hub: hub.map(oid),
            id: Some("folder".to_owned()),
            blocked: None,
        }));
    }

    fn change(&mut self, name: &str, kind: ChangeKind) {
        self.event(Event::Changed(vec![Change {
            path: path(name),
            kind,
        }]));
    }

    fn saved(&mut self, name: &str) {
        self.change(name, ChangeKind::Closed);
    }

    fn snapshotted(&mut self, outcome: Snapshotted) {
        self.event(Event::Snapshotted(outcome));
    }

    /// The snapshot in flight stored a commit and then ended.
    fn committed(&mut self, number: u8, names: &[&str]) {
        self.event(Event::Stored {
            commit: oid(number),
        });
        self.snapshotted(committed(number, names));
    }

    /// Saves a file and commits it, up to the end of the push window.
    fn edit(&mut self, number: u8, name: &str) {
        self.saved(name);
        self.pass(200);
        assert_eq!(self.jobs(), [snapshot(&[name], Trigger::Edit)]);
        self.committed(number, &[name]);
        self.pass(200);
    }

    fn fetched(&mut self, number: u8) {
        self.event(Event::Fetched(Fetched::Tip(Some(oid(number)))));
    }

    fn confirmed(&mut self, number: u8) {
        self.event(Event::Pushed(Pushed::Confirmed {
            commit: oid(number),
        }));
    }

    fn applied(&mut self, number: u8) {
        self.event(Event::Applied(Applied {
            tip: Some(oid(number)),
            ..Applied::default()
        }));
    }

    fn rung(&mut self, number: u8) {
        self.event(Event::Noticed(
            notice("server", Some(oid(number))),
            Circle::Own,
        ));
    }

    /// Lets time pass, firing what is due, as a driver would.
    fn pass(&mut self, millis: u64) {
        let end = at(u64::try_from(self.now.0.as_millis()).unwrap() + millis);
        while let Some(next) = self.engine.poll_timeout()
            && next <= end
        {
            self.now = self.now.max(next);
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Lets time pass until the next timer and returns how many milliseconds that took.
    fn next_timer(&mut self) -> u64 {
        let next = self.engine.poll_timeout().unwrap();
        let waited = next.since(self.now);
        self.now = self.now.max(next);
        self.engine.handle_timeout(self.now);
        u64::try_from(waited.as_millis()).unwrap()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.poll_action()).collect()
    }

    /// Returns the jobs among the actions.
    fn jobs(&mut self) -> Vec<Job> {
        self.actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Run(job) => Some(job),
                Action::Announce(_)
                | Action::Confirm(_)
                | Action::Tell(_)
                | Action::Answer { .. } => None,
            })
            .collect()
    }

    fn tells(&mut self) -> Vec<Tell> {
        self.actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Tell(tell) => Some(tell),
                Action::Announce(_)
                | Action::Confirm(_)
                | Action::Run(_)
                | Action::Answer { .. } => None,
            })
            .collect()
    }

    fn status(&self) -> super::status::FolderStatus {
        let base = FolderBasics {
            name: "Sync".to_owned(),
            path: "/home/me/Sync".to_owned(),
            hub_url: Some("server:Sync".to_owned()),
        };
        self.engine
            .status(base, &|moment| format!("{}", moment.0.as_millis()))
    }
}

fn committed(number: u8, names: &[&str]) -> Snapshotted {
    Snapshotted {
        committed: Some(Committed {
            id: oid(number),
            summary: names.join(", "),
            paths: names.iter().map(|name| path(name)).collect(),
            count: names.len(),
        }),
        tip: Some(oid(number)),
        ..Snapshotted::default()
    }
}

fn snapshot(names: &[&str], trigger: Trigger) -> Job {
    Job::Snapshot {
        scope: Scope::Paths(names.iter().map(|name| path(name)).collect()),
        even_open: std::collections::BTreeSet::new(),
        trigger,
        approved: false,
    }
}

fn look_at_everything(trigger: Trigger) -> Job {
    Job::Snapshot {
        scope: Scope::Everything,
        even_open: std::collections::BTreeSet::new(),
        trigger,
        approved: false,
    }
}

fn merge(hub: u8) -> Job {
    Job::Merge { hub: oid(hub) }
}

fn apply(target: u8) -> Job {
    Job::Apply {
        target: oid(target),
        approved: false,
    }
}

fn push(commit: u8) -> Job {
    Job::Push {
        commit: oid(commit),
    }
}

fn notice(host: &str, commit: Option<ObjectId>) -> Notice {
    Notice {
        folder: "folder".to_owned(),
        branch: "main".to_owned(),
        commit,
        host: host.to_owned(),
        sequence: 1,
    }
}

fn unreachable() -> Trouble {
    Trouble::new(
        Code::HubUnreachable,
        Recovery::Retry,
        "the hub does not answer",
        "",
    )
}
