//! What holds whatever happens: the engine against an edge that answers anything.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::engine::action::Lane;
use crate::engine::event::RescanWhy;

/// One thing that happens to the engine.
#[derive(Debug, Clone)]
enum Stimulus {
    Change(u8, ChangeKind),
    Rescan(RescanWhy),
    GitMoved,
    Notice(Option<u8>),
    Transport(bool),
    Asked(Request),
    Woke,
    Pass(u64),
    /// The job in this lane ends, well (0) or in one of the other ways.
    End(Lane, u8),
    /// Somebody else pushes.
    Foreign,
}

fn stimulus() -> impl Strategy<Value = Stimulus> {
    let kind = prop::sample::select(vec![
        ChangeKind::Written,
        ChangeKind::Closed,
        ChangeKind::Removed,
        ChangeKind::Attributes,
        ChangeKind::Subtree,
    ]);
    let why = prop::sample::select(vec![
        RescanWhy::Overflow,
        RescanWhy::Remount,
        RescanWhy::Rules,
        RescanWhy::Asked,
    ]);
    let request = prop::sample::select(vec![
        Request::Sync,
        Request::Pause(Some(std::time::Duration::from_secs(20))),
        Request::Resume,
        Request::Approve,
    ]);
    let lane = prop::sample::select(vec![Lane::Tree, Lane::Network, Lane::Both]);
    prop_oneof![
        6 => (0..6_u8, kind).prop_map(|(file, kind)| Stimulus::Change(file, kind)),
        1 => why.prop_map(Stimulus::Rescan),
        1 => Just(Stimulus::GitMoved),
        2 => prop::option::of(any::<u8>()).prop_map(Stimulus::Notice),
        1 => any::<bool>().prop_map(Stimulus::Transport),
        1 => request.prop_map(Stimulus::Asked),
        1 => Just(Stimulus::Woke),
        4 => (0..400_u64).prop_map(Stimulus::Pass),
        2 => (0..100_000_u64).prop_map(Stimulus::Pass),
        12 => (lane, prop_oneof![3 => Just(0_u8), 2 => 1..10_u8])
            .prop_map(|(lane, how)| Stimulus::End(lane, how)),
        2 => Just(Stimulus::Foreign),
    ]
}

/// An edge that keeps books on what the engine may do.
struct Edge {
    folder: Folder,
    tree: Option<Job>,
    network: Option<Job>,
    both: Option<Job>,
    commits: u32,
    tip: Option<ObjectId>,
    hub: Option<ObjectId>,
    on_hub: BTreeSet<ObjectId>,
    unfinished: bool,
    pushes: usize,
    notices: usize,
    jobs: usize,
    wrong: Vec<String>,
}

impl Edge {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            maintain_commits: 4,
            ..settings()
        };
        let mut edge = Self {
            folder: Folder {
                engine: Engine::new(settings, seed, at(0)),
                now: at(0),
            },
            tree: None,
            network: None,
            both: None,
            commits: 0,
            tip: None,
            hub: None,
            on_hub: BTreeSet::new(),
            unfinished: false,
            pushes: 0,
            notices: 0,
            jobs: 0,
            wrong: Vec::new(),
        };
        edge.take_actions();
        edge
    }

    fn commit(&mut self) -> ObjectId {
        self.commits += 1;
        let mut raw = [0; 20];
        raw[..4].copy_from_slice(&self.commits.to_be_bytes());
        ObjectId::from_bytes(&raw).unwrap()
    }

    fn event(&mut self, event: Event) {
        self.folder.event(event);
        self.take_actions();
    }

    fn take_actions(&mut self) {
        for action in self.folder.actions() {
            match action {
                Action::Run(job) => self.take_job(job),
                Action::Announce(notice) => {
                    self.notices += 1;
                    if !notice.commit.is_some_and(|c| self.on_hub.contains(&c)) {
                        self.wrong.push(format!("announced {notice:?}"));
                    }
                }
                Action::Tell(_) | Action::Confirm(_) | Action::Answer { .. } => {}
            }
        }
        if self.folder.engine.poll_timeout() <= Some(self.folder.now)
            && self.folder.engine.poll_timeout().is_some()
        {
            self.folder.engine.handle_timeout(self.folder.now);
            if self.folder.engine.poll_timeout() <= Some(self.folder.now)
                && self.folder.engine.poll_timeout().is_some()
            {
                self.wrong
                    .push("a timeout that is due does nothing".to_owned());
            } else {
                self.take_actions();
            }
        }
    }

    fn take_job(&mut self, job: Job) {
        self.jobs += 1;
        if matches!(job, Job::Snapshot { .. }) && self.unfinished {
            self.wrong
                .push("a snapshot while a journal is open".to_owned());
        }
        self.pushes += usize::from(matches!(job, Job::Push { .. }));
        let free = match job.lane() {
            Lane::Tree => self.both.is_none() && self.tree.is_none(),
            Lane::Network => self.both.is_none() && self.network.is_none(),
            Lane::Both => self.both.is_none() && self.network.is_none() && self.tree.is_none(),
        };
        if !free {
            self.wrong.push(format!("{job:?} in a lane that is taken"));
        }
        match job.lane() {
            Lane::Tree => self.tree = Some(job),
            Lane::Network => self.network = Some(job),
            Lane::Both => self.both = Some(job),
        }
    }

    /// Ends the job in a lane, if there is one. Returns whether there was.
    fn end(&mut self, lane: Lane, how: u8) -> bool {
        let job = match lane {
            Lane::Tree => self.tree.take(),
            Lane::Network => self.network.take(),
            Lane::Both => self.both.take(),
        };
        let Some(job) = job else {
            return false;
        };
        let trouble = trouble(how);
        let event = match job {
            Job::Recover => {
                self.unfinished &= trouble.is_some();
                Event::Recovered(Recovered {
                    tip: self.tip,
                    copies: Vec::new(),
                    marked: Vec::new(),
                    hub: None,
                    id: Some("folder".to_owned()),
                    blocked: trouble,
                })
            }
            Job::Snapshot { scope, .. } => self.end_snapshot(&scope, how, trouble),
            Job::Merge { hub } => Event::Merged(match trouble {
                Some(trouble) => Merged::Blocked(trouble),
                None if how == 0 || self.tip.is_none() => Merged::FastForward { target: hub },
                None if how == 5 => Merged::UpToDate {
                    tip: self.tip.unwrap(),
                },
                None => Merged::Created {
                    commit: self.commit(),
                    copies: vec![],
                },
            }),
            Job::Apply { target, .. } => {
                self.unfinished = how == 6;
                if trouble.is_none() && !self.unfinished {
                    self.tip = Some(target);
                }
                Event::Applied(Applied {
                    tip: self.tip,
                    kept: if how == 7 { vec![path("f0")] } else { vec![] },
                    deferred: if how == 8 {
                        vec![Waiting {
                            path: path("f1"),
                            why: "open".to_owned(),
                        }]
                    } else {
                        vec![]
                    },
                    unfinished: self.unfinished,
                    blocked: trouble,
                    ..Applied::default()
                })
            }
            Job::Fetch => Event::Fetched(trouble.map_or(
                {
                    self.on_hub.extend(self.hub);
                    Fetched::Tip(self.hub)
                },
                Fetched::Failed,
            )),
            Job::Push { commit } => Event::Pushed(match trouble {
                Some(trouble) => Pushed::Failed(trouble),
                None if how >= 5 => Pushed::Rejected,
                None => {
                    self.hub = Some(commit);
                    self.on_hub.insert(commit);
                    Pushed::Confirmed { commit }
                }
            }),
            Job::Maintain => Event::Maintained(trouble.map_or(Ok(()), Err)),
            Job::Reword { .. } | Job::Recall(_) | Job::Notes => panic!("nobody asked: {job:?}"),
        };
        self.event(event);
        true
    }

    fn end_snapshot(&mut self, scope: &Scope, how: u8, trouble: Option<Trouble>) -> Event {
        let mut outcome = Snapshotted {
            tip: self.tip,
            blocked: trouble,
            ..Snapshotted::default()
        };
        if how >= 5 {
            let commit = self.commit();
            self.tip = Some(commit);
            self.event(Event::Stored { commit });
            if how != 9 {
                outcome = committed(1, &["f0"]);
                outcome.committed.as_mut().unwrap().id = commit;
            }
            outcome.tip = Some(commit);
        }
        if let (7, Scope::Paths(paths)) = (how, scope) {
            outcome.busy = paths
                .iter()
                .map(|path| Waiting {
                    path: path.clone(),
                    why: "in motion".to_owned(),
                })
                .collect();
        }
        Event::Snapshotted(outcome)
    }

    fn stimulate(&mut self, stimulus: &Stimulus) {
        match stimulus.clone() {
            Stimulus::Change(file, kind) => {
                let path = path(&format!("f{file}"));
                self.event(Event::Changed(vec![Change { path, kind }]));
            }
            Stimulus::Rescan(why) => self.event(Event::Rescan(why)),
            Stimulus::GitMoved => self.event(Event::GitMoved),
            Stimulus::Notice(commit) => {
                self.event(Event::Noticed(
                    notice("server", commit.map(oid)),
                    Circle::Own,
                ));
            }
            Stimulus::Transport(online) => self.event(Event::Transport {
                name: "hub",
                online,
            }),
            Stimulus::Asked(request) => self.event(Event::Asked(request)),
            Stimulus::Woke => self.event(Event::Woke),
            Stimulus::Pass(millis) => self.pass(millis),
            Stimulus::End(lane, how) => {
                self.end(lane, how);
            }
            Stimulus::Foreign => {
                let commit = self.commit();
                self.hub = Some(commit);
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.folder.now + std::time::Duration::from_millis(millis);
        while let Some(next) = self.folder.engine.poll_timeout()
            && next <= end
            && self.wrong.is_empty()
        {
            self.folder.now = self.folder.now.max(next);
            self.folder.engine.handle_timeout(self.folder.now);
            self.take_actions();
        }
        self.folder.now = end;
    }

    /// Answers everything well for so long.
    fn calm(&mut self, seconds: u64) {
        let end = self.folder.now + std::time::Duration::from_secs(seconds);
        loop {
            for _ in 0..1_000 {
                let lanes = [Lane::Both, Lane::Tree, Lane::Network];
                let ended = lanes.map(|lane| self.end(lane, 0));
                if ended == [false; 3] {
                    break;
                }
            }
            match self.folder.engine.poll_timeout() {
                Some(next) if next <= end => {
                    self.folder.now = self.folder.now.max(next);
                    self.folder.engine.handle_timeout(self.folder.now);
                    self.take_actions();
                }
                Some(_) | None => break,
            }
        }
        self.folder.now = end;
    }
}

fn trouble(how: u8) -> Option<Trouble> {
    let (code, recovery) = match how {
        1 => (Code::Io, Recovery::Retry),
        2 => (Code::Rebase, Recovery::Pause),
        3 => (Code::DiskFull, Recovery::Hold),
        4 => (Code::Auth, Recovery::Hold),
        _ => return None,
    };
    Some(Trouble::new(code, recovery, "something is in the way", ""))
}

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn check(cases: u32, length: usize, property: impl Fn(&mut Edge) -> Result<(), TestCaseError>) {
    let stimuli = prop::collection::vec(stimulus(), 1..length);
    let outcome = runner(cases).run(&(any::<u64>(), stimuli), |(seed, stimuli)| {
        let mut edge = Edge::new(seed);
        for stimulus in &stimuli {
            edge.stimulate(stimulus);
            prop_assert!(edge.wrong.is_empty(), "{:?}", edge.wrong);
        }
        property(&mut edge)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn never_two_jobs_in_a_lane_nor_a_snapshot_over_a_journal_nor_a_notice_of_nothing() {
    check(500, 100, |_| Ok(()));
}

#[test]
fn it_ends_quiet() {
    check(200, 80, |edge| {
        edge.event(Event::Asked(Request::Resume));
        edge.calm(1_200);
        prop_assert!(edge.folder.engine.is_synced(), "{:?}", edge.folder.status());
        let before = (edge.commits, edge.pushes, edge.notices, edge.jobs);
        edge.calm(3_600);
        let jobs = edge.jobs - before.3;
        prop_assert_eq!(
            (edge.commits, edge.pushes, edge.notices),
            (before.0, before.1, before.2)
        );
        prop_assert!(jobs < 80, "polls and rescans only, not {jobs} jobs");
        Ok(())
    });
}

/// Fails the job that the engine starts, again and again, and returns the waits between.
fn waits(seed: u64, lane: Lane, how: u8, tries: usize) -> Vec<u64> {
    let mut edge = Edge::new(seed);
    edge.calm(1);
    edge.event(Event::Asked(Request::Sync));
    if lane == Lane::Network {
        edge.end(Lane::Tree, 0);
    } else {
        edge.end(Lane::Network, 0);
    }
    let mut waits = Vec::new();
    while waits.len() < tries {
        assert!(edge.end(lane, how));
        let failed = edge.folder.now;
        loop {
            let taken = match lane {
                Lane::Tree => edge.tree.is_some(),
                Lane::Network | Lane::Both => edge.network.is_some(),
            };
            if taken {
                break;
            }
            let next = edge.folder.engine.poll_timeout().expect("a retry");
            edge.folder.now = edge.folder.now.max(next);
            edge.folder.engine.handle_timeout(edge.folder.now);
            edge.take_actions();
            if lane == Lane::Tree {
                edge.end(Lane::Network, 0);
            }
        }
        let waited = edge.folder.now.since(failed);
        waits.push(u64::try_from(waited.as_millis()).unwrap());
    }
    waits
}

#[test]
fn every_retry_is_bounded_and_jittered() {
    for (how, least, most) in [
        (1, 25_000, 60_000),
        (2, 3_000, 5_000),
        (3, 60_000, 300_000),
        (4, 900_000, 1_080_000),
    ] {
        for lane in [Lane::Tree, Lane::Network] {
            let mut last = BTreeSet::new();
            for seed in 0..10 {
                let waits = waits(seed, lane, how, 12);
                for wait in &waits {
                    assert!(*wait > 0 && *wait <= most, "{how} {lane:?}: {waits:?}");
                }
                let end = waits[11];
                assert!(end >= least, "it backs off: {how} {lane:?} {waits:?}");
                last.insert(end);
            }
            assert!(last.len() > 5, "{how} {lane:?} has no jitter: {last:?}");
        }
    }
}
