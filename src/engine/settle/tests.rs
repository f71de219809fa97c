//! The settle rules on what programs really do: scripts as tables, a model of the disk and of
//! the snapshot, and the commits that come of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Batch, MAX_PATHS, Settle, Windows};
use crate::engine::action::Scope;
use crate::engine::event::{Change, ChangeKind};
use crate::engine::timer::Moment;
use crate::names::RepoPath;

#[derive(serde::Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    filtered: BTreeSet<String>,
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    script: String,
    copies: Option<Copies>,
    files: Option<Files>,
    commits: usize,
    bar: Option<usize>,
    #[serde(default)]
    first_saves: usize,
    first: Option<u64>,
    late: Option<u64>,
    oldest: Option<u64>,
    #[serde(default)]
    always: Vec<String>,
    r#final: Option<Vec<String>>,
}

/// Files copied one after the other.
#[derive(serde::Deserialize)]
struct Copies {
    count: u64,
    each: u64,
}

/// Small files written evenly over a time.
#[derive(serde::Deserialize)]
struct Files {
    count: u64,
    over: u64,
}

/// One thing that a program does.
type Step = (u64, String, Vec<String>);

fn steps(case: &Case) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in case.script.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let names = || words[2..].iter().map(ToString::to_string).collect();
        let number = |text: &str| text.parse::<u64>().unwrap();
        let times: Vec<u64> = match words[0].split_once("..") {
            None => vec![number(words[0])],
            Some((from, rest)) => {
                let (until, every) = rest.split_once('/').unwrap();
                let every = usize::try_from(number(every)).unwrap();
                (number(from)..=number(until)).step_by(every).collect()
            }
        };
        for time in times {
            steps.push((time, words[1].to_owned(), names()));
        }
    }
    if let Some(Copies { count, each }) = case.copies {
        for number in 0..count {
            let (start, name) = (number * each, vec![format!("copy{number}")]);
            steps.push((start, "create".to_owned(), name.clone()));
            for time in (start..start + each).step_by(50) {
                steps.push((time, "write".to_owned(), name.clone()));
            }
            steps.push((start + each, "close".to_owned(), name));
        }
    }
    if let Some(Files { count, over }) = case.files {
        for number in 0..count {
            let name = vec![format!("d{}/file{number}", number % 20)];
            steps.push((number * over / count, "save".to_owned(), name));
        }
    }
    steps.sort_by_key(|step| step.0);
    steps
}

/// A disk, a history and a snapshot, as far as settling can tell.
#[derive(Default)]
struct Model {
    disk: BTreeMap<String, u64>,
    open: BTreeSet<String>,
    head: BTreeMap<String, u64>,
    commits: Vec<(u64, BTreeMap<String, u64>)>,
    /// Since when the disk is ahead of HEAD, by name.
    ahead: BTreeMap<String, u64>,
    /// When the content that is on the disk was complete, by name.
    complete: BTreeMap<String, u64>,
    oldest: u64,
    late: u64,
    next: u64,
}

impl Model {
    fn put(&mut self, now: u64, name: &str) {
        self.next += 1;
        self.disk.insert(name.to_owned(), self.next);
        self.changed(now, name);
    }

    fn changed(&mut self, now: u64, name: &str) {
        self.complete.insert(name.to_owned(), now);
        if self.disk.get(name) == self.head.get(name) {
            self.ahead.remove(name);
        } else {
            self.ahead.entry(name.to_owned()).or_insert(now);
        }
    }

    /// Does one step and returns what a watcher would say about it.
    fn step(&mut self, now: u64, what: &str, names: &[String]) -> Vec<(String, ChangeKind)> {
        let name = names[0].clone();
        match what {
            "create" | "write" => {
                self.put(now, &name);
                self.open.insert(name.clone());
                vec![(name, ChangeKind::Written)]
            }
            "close" | "same" => {
                self.open.remove(&name);
                if what == "close" {
                    self.changed(now, &name);
                }
                vec![(name, ChangeKind::Closed)]
            }
            "save" => {
                self.put(now, &name);
                vec![
                    (name.clone(), ChangeKind::Written),
                    (name, ChangeKind::Closed),
                ]
            }
            "attributes" => vec![(name, ChangeKind::Attributes)],
            "delete" => {
                self.disk.remove(&name);
                self.open.remove(&name);
                self.changed(now, &name);
                vec![(name, ChangeKind::Removed)]
            }
            "rename" => {
                let to = names[1].clone();
                let content = self.disk.remove(&name).unwrap();
                self.disk.insert(to.clone(), content);
                self.changed(now, &name);
                self.changed(now, &to);
                vec![(name, ChangeKind::Removed), (to, ChangeKind::Closed)]
            }
            other => panic!("no operation `{other}`"),
        }
    }

    fn is_live_database(&self, name: &str) -> bool {
        let beside = |suffix: &str| self.disk.contains_key(&format!("{name}{suffix}"));
        beside("-wal") || beside("-journal")
    }

    /// Commits what the batch names and returns what was committed and what was busy.
    fn snapshot(
        &mut self,
        now: u64,
        batch: &Batch,
        filtered: &BTreeSet<String>,
    ) -> (Vec<RepoPath>, Vec<RepoPath>) {
        let names: Vec<String> = match &batch.scope {
            Scope::Everything => {
                let known = self.disk.keys().chain(self.head.keys()).cloned();
                known.filter(|name| !filtered.contains(name)).collect()
            }
            Scope::Paths(paths) => paths.iter().map(ToString::to_string).collect(),
        };
        let (mut committed, mut busy) = (Vec::new(), Vec::new());
        for name in names {
            let path = RepoPath::new(&name).unwrap();
            let open = self.open.contains(&name) && !batch.even_open.contains(&path);
            if open || self.is_live_database(&name) {
                busy.push(path);
                continue;
            }
            let content = self.disk.get(&name).copied();
            if content == self.head.get(&name).copied() {
                continue;
            }
            match content {
                Some(content) => self.head.insert(name.clone(), content),
                None => self.head.remove(&name),
            };
            if let Some(since) = self.ahead.remove(&name) {
                self.oldest = self.oldest.max(now - since);
            }
            if !self.open.contains(&name) {
                self.late = self.late.max(now - self.complete[&name]);
            }
            committed.push(path);
        }
        if !committed.is_empty() {
            self.commits.push((now, self.head.clone()));
        }
        (committed, busy)
    }
}

fn play(case: &Case, windows: Windows) -> Model {
    let mut model = Model::default();
    for name in &case.before {
        model.put(0, name);
    }
    model.head = model.disk.clone();
    model.ahead.clear();
    let mut settle = Settle::new(windows);
    let run_until = |model: &mut Model, settle: &mut Settle, from: u64, end: u64| {
        while let Some(ripe) = settle.ripe_at() {
            let ripe = ripe.max(Moment::from_millis(from));
            let now = u64::try_from(ripe.0.as_millis()).unwrap();
            if now >= end {
                return;
            }
            let batch = settle.take_ripe(ripe).expect("it said that it is ripe");
            let (committed, busy) = model.snapshot(now, &batch, &case.filtered);
            if !committed.is_empty() {
                settle.note_commit(ripe, &committed);
            }
            for path in busy {
                settle.give_back_busy(ripe, Some(&batch), &path);
            }
        }
    };
    let mut last = 0;
    for (now, what, names) in steps(case) {
        run_until(&mut model, &mut settle, last, now);
        last = now;
        for (name, kind) in model.step(now, &what, &names) {
            if !case.filtered.contains(&name) {
                let path = RepoPath::new(&name).unwrap();
                settle.note(Moment::from_millis(now), &Change { path, kind });
            }
        }
    }
    run_until(&mut model, &mut settle, last, 100_000_000);
    model
}

fn check(table: &str) {
    let table: Table = toml::from_str(table).unwrap();
    for case in &table.case {
        let model = play(case, Windows::default());
        let times: Vec<u64> = model.commits.iter().map(|commit| commit.0).collect();
        let name = &case.name;
        assert_eq!(times.len(), case.commits, "{name}: commits at {times:?}");
        if let Some(bar) = case.bar {
            assert!(times.len() <= bar + case.first_saves, "{name}: {times:?}");
        }
        if let Some(first) = case.first {
            assert!(times[0] <= first, "{name}: first at {}", times[0]);
        }
        if let Some(late) = case.late {
            assert!(model.late <= late, "{name}: {} ms late", model.late);
        }
        if let Some(oldest) = case.oldest {
            assert!(model.oldest <= oldest, "{name}: {} ms", model.oldest);
        }
        for (time, tree) in &model.commits {
            for always in &case.always {
                assert!(tree.contains_key(always), "{name}: no {always} at {time}");
            }
            for filtered in &case.filtered {
                assert!(!tree.contains_key(filtered), "{name}: {filtered} at {time}");
            }
        }
        if let Some(last) = &case.r#final {
            assert!(model.head.keys().eq(last), "{name}: {:?}", model.head);
        }
        let mut disk = model.disk.clone();
        disk.retain(|name, _| !case.filtered.contains(name));
        assert_eq!(model.head, disk, "{name}: something was never committed");
    }
}

#[test]
fn saves_of_editors_become_the_commits_that_a_person_would_make() {
    check(include_str!("../../../tests/cases/settle_editors.toml"));
}

#[test]
fn loads_become_few_commits_and_nothing_waits_too_long() {
    check(include_str!("../../../tests/cases/settle_loads.toml"));
}

/// The fewest commits of a file saved at these times that any rule can make which commits the
/// first `prompt` saves one quiet window after each, and lets nothing wait longer than the cap.
fn fewest(saves: &[u64], prompt: usize, windows: Windows) -> usize {
    let cap = u64::try_from(windows.max_wait.as_millis()).unwrap();
    let (early, mut rest) = saves.split_at(prompt);
    let mut commits = early.len();
    // To wait as long as one may with every commit leaves the fewest saves for the others.
    while let [first, ..] = rest {
        rest = &rest[rest.partition_point(|save| *save <= first + cap)..];
        commits += 1;
    }
    commits
}

#[test]
fn a_file_that_never_rests_makes_the_fewest_commits_that_prompt_first_saves_allow() {
    let twice_a_second = |from: u64, until: u64| (from..=until).step_by(500).collect::<Vec<_>>();
    // What a settle of one second, deaf to the first saves, makes of each is in the last place.
    for (saves, three, one, none) in [
        (twice_a_second(500, 300_000), 13, 11, 10),
        (twice_a_second(0, 20_000), 4, 2, 1),
    ] {
        let windows = Windows::default();
        let bounds = [3, 1, 0].map(|prompt| fewest(&saves, prompt, windows));
        assert_eq!(bounds, [three, one, none]);
        let script = saves.iter().map(|time| format!("{time} save f\n"));
        let case = Case {
            name: "twice a second".to_owned(),
            script: script.collect(),
            ..toml::from_str("name = ''\ncommits = 0").unwrap()
        };
        let model = play(&case, windows);
        assert_eq!(model.commits.len(), three);
        for (save, (commit, _)) in saves[..3].iter().zip(&model.commits) {
            assert_eq!(*commit, save + 150, "a lone save is not slowed down");
        }
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn change(name: &str, kind: ChangeKind) -> Change {
    Change {
        path: RepoPath::new(name).unwrap(),
        kind,
    }
}

#[test]
fn windows_at_zero_switch_every_rule_off() {
    let mut settle = Settle::new(Windows {
        quiet: Duration::ZERO,
        ..Windows::default()
    });
    for millis in 0..100 {
        settle.note(at(millis), &change("f", ChangeKind::Written));
        assert_eq!(settle.ripe_at(), Some(at(millis)));
        assert!(settle.take_ripe(at(millis)).is_some());
        let path = RepoPath::new("f").unwrap();
        settle.note_commit(at(millis), [&path]);
    }
}

#[test]
fn more_paths_than_can_be_remembered_are_everything() {
    let mut settle = Settle::new(Windows::default());
    for number in 0..=MAX_PATHS {
        settle.note(at(1), &change(&format!("f{number}"), ChangeKind::Closed));
    }
    assert_eq!(settle.len(), 1);
    let batch = settle.take_ripe(at(5_000)).unwrap();
    assert_eq!(batch.scope, Scope::Everything);
    assert_eq!(batch.since(), at(1));
    assert!(settle.is_empty());
}

#[test]
fn what_is_given_back_still_waits_since_its_first_change() {
    let mut settle = Settle::new(Windows::default());
    settle.note(at(0), &change("f", ChangeKind::Closed));
    let batch = settle.take_ripe(at(150)).unwrap();
    assert!(settle.is_empty());
    settle.give_back(batch);
    settle.note(at(29_990), &change("f", ChangeKind::Closed));
    assert_eq!(settle.ripe_at(), Some(at(30_000)), "the cap counts from 0");
}

#[test]
fn the_users_git_starts_the_window_again_but_not_the_cap() {
    let mut settle = Settle::new(Windows::default());
    settle.note(at(0), &change("f", ChangeKind::Closed));
    settle.restart(at(100));
    assert_eq!(settle.ripe_at(), Some(at(250)));
    for millis in (200..30_000).step_by(100) {
        settle.restart(at(millis));
        assert!(settle.take_ripe(at(millis)).is_none());
    }
    assert_eq!(settle.ripe_at(), Some(at(30_000)));
}

#[test]
fn a_removal_inside_its_window_is_never_taken() {
    let mut settle = Settle::new(Windows::default());
    settle.note(at(0), &change("f", ChangeKind::Removed));
    settle.note(at(0), &change("g", ChangeKind::Written));
    let batch = settle.take_all(at(100)).unwrap();
    assert_eq!(
        batch.scope,
        Scope::Paths([RepoPath::new("g").unwrap()].into())
    );
    assert_eq!(settle.young_removal(at(100)), Some(at(150)));
    assert_eq!(settle.take_all(at(149)), None);
    assert!(settle.take_all(at(150)).is_some());
}

#[test]
fn a_file_that_is_closed_while_a_snapshot_finds_it_busy_waits_no_longer() {
    let mut settle = Settle::new(Windows::default());
    let path = RepoPath::new("f").unwrap();
    settle.note(at(0), &change("f", ChangeKind::Attributes));
    for _ in 0..6 {
        let now = settle.ripe_at().unwrap();
        let batch = settle.take_ripe(now).unwrap();
        settle.give_back_busy(now, Some(&batch), &path);
    }
    assert!(settle.waits_for_others());
    let now = settle.ripe_at().unwrap();
    let batch = settle.take_ripe(now).unwrap();
    settle.note(now, &change("f", ChangeKind::Closed));
    settle.give_back_busy(now, Some(&batch), &path);
    assert!(!settle.waits_for_others());
    assert_eq!(settle.ripe_at(), Some(now + Duration::from_millis(150)));
}
