//! Saves at the worst moments of an apply of the real program, which strace makes long.
//!
//! `apply::race` has a user at every step inside one process. Here the program is as it is shipped,
//! and what is slow is the kernel: each call that moves a file into or out of the tree begins late
//! and comes back late. A user who watches the calls saves in that time: in place, by rename,
//! through a descriptor that he holds open, or through one that he had opened before; at the call,
//! right after it, a file earlier, a file later. The file is being replaced, created or deleted.
//!
//! What must hold: every token that he wrote is in the tree of both hosts in the end, and so is
//! what came in where he saved an old version before that came. The same user also plays against
//! `git merge --ff-only`, to show that he can tell.
//!
//! One of each combination is 48 races, and they are played until so many saves came in time;
//! `AUTOSYNC_TEST_RACES` is how many there are to be, for both:
//!
//! ```text
//! AUTOSYNC_TEST_RACES=10000 cargo test --test it -- races:: --nocapture
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::network::skipped;
use crate::pair::Pair;
use crate::support::strace::{self, Whose};
use crate::support::{Ran, Sandbox, ended};

/// How long a call is held up before and after, in microseconds.
const DELAY: usize = 6000;

/// What comes in for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Replace,
    Create,
    Delete,
}

/// How the user saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    InPlace,
    Rename,
    /// Through a descriptor that stays open, and once more in the end.
    Held,
    /// The same, but it was opened when the call began.
    OpenedBefore,
}

/// When he saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// When it is the turn of the file before.
    Early,
    /// When the call that moves the file has begun, and all was checked.
    Before,
    /// When that call has done its work, and nobody has looked at it.
    After,
    /// When it is the turn of the file after.
    Late,
}

const KINDS: [Kind; 3] = [Kind::Replace, Kind::Create, Kind::Delete];
const WAYS: [Way; 4] = [Way::InPlace, Way::Rename, Way::Held, Way::OpenedBefore];
const MOMENTS: [Moment; 4] = [Moment::Before, Moment::After, Moment::Early, Moment::Late];

/// How many combinations there are, which is how many files one apply has.
const ALL: usize = KINDS.len() * WAYS.len() * MOMENTS.len();

const OLD: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";

/// A file, what comes in for it, and what the user does.
#[derive(Debug, Clone)]
struct Race {
    name: String,
    kind: Kind,
    way: Way,
    moment: Moment,
    token: String,
}

impl Race {
    fn new(batch: usize, number: usize) -> Self {
        // Another order in each batch, so that every pair of neighbours comes up.
        let which = (number * 5 + batch * 7) % ALL;
        Self {
            name: format!("f-{number:02}"),
            kind: KINDS[which % 3],
            way: WAYS[which / 3 % 4],
            moment: MOMENTS[which / 12],
            token: format!("TOKEN-{batch}-{number:02}"),
        }
    }

    fn incoming(&self) -> String {
        format!(
            "INCOMING {}\n{}",
            self.name,
            OLD.split_once('\n').unwrap().1
        )
    }
}

/// The user, with what he holds open.
struct User<'a> {
    root: PathBuf,
    races: &'a [Race],
    held: BTreeMap<usize, File>,
    saved: Vec<bool>,
}

impl<'a> User<'a> {
    fn new(root: PathBuf, races: &'a [Race]) -> Self {
        Self {
            root,
            races,
            held: BTreeMap::new(),
            saved: vec![false; races.len()],
        }
    }

    /// Does what is due when a call for this file has begun, or, `after`, has done its work.
    fn sees(&mut self, number: usize, after: bool) {
        let due = |race: &Race, at: usize| match race.moment {
            Moment::Early => at == number + 1,
            Moment::Before => at == number && !after,
            Moment::After => at == number && after,
            Moment::Late => at + 1 == number,
        };
        if !after && self.races[number].way == Way::OpenedBefore {
            self.open(number);
        }
        let around = number.saturating_sub(1)..self.races.len().min(number + 2);
        for at in around {
            if due(&self.races[at], at) && !self.saved[at] {
                self.save(at);
            }
        }
    }

    /// Opens a file, if it is there; one that is made anew belongs to the save.
    fn open(&mut self, number: usize) {
        let at = self.root.join(&self.races[number].name);
        if let Ok(file) = File::options().read(true).write(true).open(at) {
            self.held.insert(number, file);
        }
    }

    /// Adds a line to the file as it is, in the way of this race.
    fn save(&mut self, number: usize) {
        self.saved[number] = true;
        let race = &self.races[number];
        let at = self.root.join(&race.name);
        let line = format!("{}-1\n", race.token);
        match race.way {
            Way::InPlace | Way::Rename => {
                let text = fs::read_to_string(&at).unwrap_or_default() + &line;
                if race.way == Way::InPlace {
                    fs::write(at, text).unwrap();
                } else {
                    let aside = self.root.join(format!(".{}.tmp", race.name));
                    fs::write(&aside, text).unwrap();
                    fs::rename(aside, at).unwrap();
                }
            }
            Way::Held | Way::OpenedBefore => {
                let file = self.held.entry(number).or_insert_with(|| {
                    let mut options = File::options();
                    let options = options.read(true).write(true).create(true).truncate(false);
                    options.open(at).unwrap()
                });
                append(file, &line);
            }
        }
    }

    /// Saves what was never due, writes the second lines, and closes everything.
    fn ends(mut self) {
        for number in 0..self.races.len() {
            if !self.saved[number] {
                self.save(number);
            }
        }
        for (number, file) in &self.held {
            append(file, &format!("{}-2\n", self.races[*number].token));
        }
    }
}

fn append(file: &File, line: &str) {
    let end = file.metadata().unwrap().len();
    file.write_all_at(line.as_bytes(), end).unwrap();
}

/// Runs a program under strace and lets the user watch its calls.
///
/// strace writes the beginning of a call before it holds it up, and the end of it when it has done
/// its work, before it holds that up.
fn play(command: &mut Command, calls: &str, log: &str, user: &mut User) -> Ran {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        log,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = File::open(log).unwrap();
    let (mut line, mut current) = (String::new(), None);
    let mut piece = [0; 4096];
    loop {
        let count = pipe.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        for byte in &piece[..count] {
            line.push(char::from(*byte));
            let whole = *byte == b'\n';
            if current.is_none() && line.contains(calls) {
                // A name is complete with its second quote.
                let named = user
                    .races
                    .iter()
                    .position(|race| line.contains(&format!("\"{}\"", race.name)));
                if let Some(number) = named {
                    current = Some(number);
                    user.sees(number, false);
                }
            }
            if whole {
                if let Some(number) = current
                    && !line.contains("<unfinished")
                    && line.contains(" = ")
                {
                    user.sees(number, true);
                    current = None;
                }
                line.clear();
            }
        }
    }
    fs::remove_file(log).unwrap();
    ended(child.wait_with_output().unwrap())
}

/// Two hosts with one file a race, and changes of all of them on the hub.
fn pair(races: &[Race]) -> Pair {
    // What was displaced is looked at without the wait.
    let sandbox = |name| Sandbox::in_memory(name).with("AUTOSYNC_GRACE", "0");
    let there_first = races.iter().filter(|race| race.kind != Kind::Create);
    let mut files: Vec<(&str, &str)> = there_first.map(|race| (race.name.as_str(), OLD)).collect();
    // So many deletions at once are no accident here.
    let more: Vec<String> = (0..2 * ALL).map(|n| format!("more/{n}")).collect();
    files.extend(more.iter().map(|name| (name.as_str(), "more\n")));
    let pair = Pair::of(sandbox("laptop"), sandbox("server"), &files);
    for race in races {
        match race.kind {
            Kind::Replace | Kind::Create => drop(pair.server.write(&race.name, race.incoming())),
            Kind::Delete => pair.server.remove(&race.name),
        }
    }
    let _ran = pair.server.once().ok();
    pair
}

/// Returns the tokens of a user who has ended that are not in a text.
fn missing(races: &[Race], text: &str) -> Vec<String> {
    let tokens = races.iter().flat_map(|race| {
        let second = matches!(race.way, Way::Held | Way::OpenedBefore);
        let lines = if second { 2 } else { 1 };
        (1..=lines).map(move |line| (race, format!("{}-{line}\n", race.token)))
    });
    tokens
        .filter(|(_, token)| !text.contains(token.as_str()))
        .map(|(race, token)| format!("{} of {race:?}", token.trim_end()))
        .collect()
}

fn all_text(pair: &Pair) -> String {
    pair.laptop.tree().into_values().collect()
}

/// Plays one batch against the agent. Returns how many saves came in time, and what is lost.
fn against_the_agent(batch: usize) -> (usize, Vec<String>) {
    let races: Vec<Race> = (0..ALL).map(|number| Race::new(batch, number)).collect();
    let pair = pair(&races);
    let here = &pair.laptop;
    let mut user = User::new(here.root.clone(), &races);
    let log = here.sandbox.root().join("calls").display().to_string();
    let inject = format!("inject=renameat2:delay_enter={DELAY}:delay_exit={DELAY}");
    let options = [
        "-e",
        "signal=none",
        "-e",
        "trace=renameat2",
        "-e",
        &inject,
        "-o",
        &log,
    ];
    let mut command = strace::program(&here.sandbox, Whose::All, &options, &here.root);
    let ran = play(&mut command, "renameat2(", &log, &mut user);
    assert!(matches!(ran.code, Some(0 | 3)), "batch {batch}: {ran:?}");
    let due = user.saved.iter().filter(|saved| **saved).count();
    user.ends();
    pair.converge(&format!("batch {batch}"));
    assert_eq!(pair.server.once().code, Some(0));
    pair.assert_settled(&format!("batch {batch}"));
    let text = all_text(&pair);
    let mut lost = missing(&races, &text);
    // What came in is still known, whoever wrote over it.
    let history = here.history();
    for race in races.iter().filter(|race| race.kind != Kind::Delete) {
        if !history.contains(&format!("INCOMING {}", race.name)) {
            lost.push(format!("what came in of {race:?}"));
        }
        // A descriptor writes to what it has open, so nobody wrote over anything.
        let added = matches!(race.way, Way::Held | Way::OpenedBefore) && race.kind == Kind::Replace;
        if added && !here.read(&race.name).contains("INCOMING") {
            lost.push(format!("taken back: {race:?}: {}", here.read(&race.name)));
        }
    }
    (due, lost)
}

/// Plays one batch against git. Returns what is lost.
fn against_git(batch: usize) -> Vec<String> {
    let races: Vec<Race> = (0..ALL).map(|number| Race::new(batch, number)).collect();
    let pair = pair(&races);
    let here = &pair.laptop;
    here.git(&["fetch", "-q", "origin"]);
    let mut user = User::new(here.root.clone(), &races);
    let log = here.sandbox.root().join("calls").display().to_string();
    let inject = format!("inject=unlink:delay_enter={DELAY}:delay_exit={DELAY}");
    let mut command = here.sandbox.command("strace");
    command
        .args([
            "-f",
            "-qq",
            "-e",
            "signal=none",
            "-e",
            "trace=unlink",
            "-e",
            &inject,
        ])
        .args(["-o", &log, "git", "merge", "-q", "--ff-only", "origin/main"])
        .current_dir(&here.root);
    let _ran = play(&mut command, "unlink(", &log, &mut user);
    user.ends();
    missing(&races, &all_text(&pair))
}

/// How many races there are to be.
fn wanted() -> usize {
    let asked = std::env::var("AUTOSYNC_TEST_RACES").ok();
    asked.map_or(ALL, |count| count.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "the figures of a run on demand")]
fn report(who: &str, races: usize, lost: usize) {
    println!("RACES {who}: {races} races, {lost} lost");
}

#[test]
fn nothing_is_lost_to_an_apply_however_long_its_calls_take() {
    if let Some(why) = strace::cannot(&Sandbox::in_memory("laptop")) {
        skipped(
            "nothing_is_lost_to_an_apply_however_long_its_calls_take",
            why,
        );
        return;
    }
    let (mut batches, mut due, mut lost) = (0, 0, Vec::new());
    // A save that comes too late is no race, so it does not count as one.
    while due < wanted() {
        let (in_time, its) = against_the_agent(batches);
        batches += 1;
        due += in_time;
        lost.extend(its);
        if batches % 10 == 0 || due >= wanted() {
            report("autosync", due, lost.len());
        }
        let slow = "the user is too slow to race with anything";
        assert!(
            due * 4 > batches * ALL,
            "{due} in time of {batches} batches: {slow}"
        );
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn the_same_saves_are_lost_to_a_merge_by_git() {
    if let Some(why) = strace::cannot(&Sandbox::in_memory("laptop")) {
        skipped("the_same_saves_are_lost_to_a_merge_by_git", why);
        return;
    }
    let batches = wanted().div_ceil(ALL);
    let lost: usize = (0..batches).map(|batch| against_git(batch).len()).sum();
    report("git merge --ff-only", batches * ALL, lost);
    assert!(
        lost >= batches * 5,
        "only {lost} lost: the user is too slow to see anything"
    );
}
