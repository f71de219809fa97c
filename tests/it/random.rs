//! Random work on both sides at once, with and without kills: equal trees in the end, and every
//! version accounted for.
//!
//! The oracle is causal. Every version has a token of its own. A token may be missing from the
//! tree only if somebody who had it in their tree overwrote or deleted it; if that was on another
//! host than the one that wrote it, it was published before and is in the history.
//!
//! `AUTOSYNC_TEST_SECONDS` is how long the work goes on (60 or 20), `AUTOSYNC_TEST_SEED` repeats a run as
//! far as time lets it be repeated, `AUTOSYNC_TEST_KEEP` is where everything is copied to if something
//! was lost.

pub(crate) mod actor;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use autosync::clock;

use crate::support::Sandbox;
use crate::support::host::{Host, PATIENCE, Pair, Stands};
use actor::{Actor, FEW, MANY, Names, tokens_in};

/// Operations of each side.
const OPERATIONS: u32 = 200;
/// Agents that are killed in the second test.
const KILLS: u32 = 20;

/// How long displaced files are kept, in milliseconds, so that a run need not wait a minute.
const GRACE: &str = "1000";
/// Every save is committed and pushed at once.
const NO_WINDOWS: &str = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n";

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

/// Returns every token in everything that git can reach from a ref of this folder.
fn history(pair: &Pair) -> BTreeSet<String> {
    let script = "git rev-list --objects --no-object-names --all | git cat-file --batch";
    let mut found = BTreeSet::new();
    for host in pair.hosts() {
        let mut command = host.sandbox.command("sh");
        let out = command
            .args(["-c", script])
            .current_dir(&host.folder)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        found.extend(tokens_in(&out.stdout));
    }
    found
}

/// Returns every version that went in a way that nobody wanted.
pub(crate) fn unaccounted(
    actors: &[&Actor],
    standing: &BTreeSet<String>,
    history: &BTreeSet<String>,
) -> Vec<String> {
    let mut lost = Vec::new();
    for (number, author) in actors.iter().enumerate() {
        for (token, path) in &author.written {
            let by_author = author.destroyed.contains(token);
            let others = || actors.iter().enumerate().filter(|(at, _)| *at != number);
            let by_other = others().any(|(_, other)| other.destroyed.contains(token));
            let how = match (standing.contains(token), history.contains(token)) {
                (true, _) => continue,
                (false, false) if by_other => "gone without a trace",
                (false, _) if by_author || by_other => continue,
                (false, true) => "reverted, it is in the history alone",
                (false, false) => "lost, it is nowhere",
            };
            lost.push(format!("{token} at {path}: {how}"));
        }
    }
    lost
}

/// What a run is like.
#[derive(Clone, Copy)]
struct Work {
    /// How long it goes on, unless somebody says otherwise.
    seconds: u64,
    /// Agents that are killed.
    kills: u32,
    /// What is worked on.
    names: Names,
    /// Windows that are not the default.
    windows: &'static str,
    /// Whether files are held open for longer.
    holding: bool,
}

const PLAIN: Work = Work {
    seconds: 60,
    kills: 0,
    names: MANY,
    windows: "",
    holding: false,
};

fn work(work: Work) {
    let Work {
        seconds,
        kills,
        names,
        windows,
        holding,
    } = work;
    let seed = number("AUTOSYNC_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number("AUTOSYNC_TEST_SECONDS").unwrap_or(seconds);
    let context = format!("AUTOSYNC_TEST_SEED={seed} AUTOSYNC_TEST_SECONDS={seconds}");
    #[expect(
        clippy::print_stdout,
        reason = "a run that fails is repeated with its seed"
    )]
    {
        println!("{context}");
    }
    let mut random = fastrand::Rng::with_seed(seed);
    // So much is deleted in so short a time that a person would be asked.
    let config =
        format!("[guards]\nmass_delete_files = 100000\nmass_delete_top = 100000\n{windows}");
    let hosts = ["laptop", "server"].map(|name| {
        let sandbox = Sandbox::named(name).with("AUTOSYNC_GRACE", GRACE);
        sandbox.config(&config);
        Host::of(sandbox, name)
    });
    let mut pair = Pair::of(hosts);
    let mut actors = ["laptop", "server"].map(|name| {
        let host = if name == "laptop" {
            &pair.laptop
        } else {
            &pair.server
        };
        let trash = host.sandbox.root().join("trash");
        let actor = Actor::new(name, &host.folder, &trash, names);
        if holding { actor.holding() } else { actor }
    });
    // Nor is a folder to be emptied, about which they would be asked in any case.
    pair.laptop.write("stays", "so that something does");
    let all = OPERATIONS * 2;
    let begun = clock::now();
    let mut killed = 0;
    let mut dead: Option<(usize, u32)> = None;
    for done in 0..all {
        let side = random.usize(..2);
        actors[side].act(&mut random);
        if let Some((victim, left)) = dead {
            if left == 0 {
                host(&mut pair, victim).start();
                dead = None;
            } else {
                dead = Some((victim, left - 1));
            }
        } else if killed * all < done * kills {
            let victim = random.usize(..2);
            // As the kernel does it, or with everything that it has started.
            if random.bool() {
                host(&mut pair, victim).kill();
            } else {
                host(&mut pair, victim).kill_all();
            }
            killed += 1;
            // Mostly for a moment; now and then long enough for much to meet.
            let away = if random.u32(..5) == 0 { 60 } else { 6 };
            dead = Some((victim, random.u32(..away)));
        }
        // The work is spread over the time there is.
        let due = begun + Duration::from_secs(seconds) * (done + 1) / all;
        let alive = match dead {
            Some((0, _)) => &pair.server,
            Some(_) | None => &pair.laptop,
        };
        assert!(
            !alive.ends_within(clock::until(due)),
            "an agent ended by itself, {context}\n{}",
            alive.log()
        );
    }
    if let Some((victim, _)) = dead {
        host(&mut pair, victim).start();
    }
    assert!(killed * 2 >= kills, "{killed}");
    let over = clock::now();
    for actor in &mut actors {
        actor.let_go();
    }
    pair.quiet();
    let calm = clock::now().since(over);
    if holding {
        displaced_is_dropped(&pair);
    }
    let tree = pair.ends_well();

    let mut standing = BTreeSet::new();
    for stands in tree.values() {
        match stands {
            Stands::File { content, .. } => standing.extend(tokens_in(content)),
            Stands::Link(target) => {
                standing.extend(tokens_in(target.as_os_str().as_encoded_bytes()));
            }
        }
    }
    let history = history(&pair);
    let lost = unaccounted(&actors.each_ref(), &standing, &history);
    let [laptop, server] = &actors;
    let written = laptop.written.len() + server.written.len();
    #[expect(
        clippy::print_stdout,
        reason = "how much was done, for who wants to see it"
    )]
    {
        println!(
            "{written} versions, {} in the tree of {} files, {} commits, {} copies, quiet after {} ms",
            standing.len(),
            tree.len(),
            pair.laptop.commits().len(),
            pair.laptop.copies().len(),
            calm.as_millis()
        );
    }
    if !lost.is_empty() {
        keep(&pair, seed);
    }
    assert!(lost.is_empty(), "{context}\n{lost:#?}");
    assert!(written > 100, "{written}");
}

/// Copies the hosts to where they are kept, for who looks for the reason.
fn keep(pair: &Pair, seed: u64) {
    let Some(place) = std::env::var_os("AUTOSYNC_TEST_KEEP") else {
        return;
    };
    for (host, name) in pair.hosts().into_iter().zip(["laptop", "server"]) {
        let to = Path::new(&place).join(format!("{seed}-{name}"));
        let mut command = host.sandbox.command("cp");
        command.arg("-a").arg(host.sandbox.root()).arg(to);
        assert!(command.status().unwrap().success());
    }
}

/// Waits until nothing is left of what the agents displaced: by then what was written to it late is
/// in a commit.
fn displaced_is_dropped(pair: &Pair) {
    let deadline = clock::now() + PATIENCE;
    let left = |host: &Host| {
        let store = host.folder.join(".git/autosync/displaced");
        std::fs::read_dir(store).is_ok_and(|mut stores| stores.next().is_some())
    };
    while pair.hosts().into_iter().any(left) {
        for host in pair.hosts() {
            assert_eq!(host.run(["sync"]).code, Some(0));
        }
        pair.quiet();
        assert!(
            clock::now() < deadline,
            "what was displaced is never dropped"
        );
    }
}

fn host(pair: &mut Pair, side: usize) -> &mut Host {
    if side == 0 {
        &mut pair.laptop
    } else {
        &mut pair.server
    }
}

#[test]
fn random_work_on_both_sides_ends_equal_with_every_version_accounted_for() {
    work(PLAIN);
}

#[test]
fn twenty_kills_during_random_work_lose_nothing() {
    work(Work {
        kills: KILLS,
        ..PLAIN
    });
}

#[test]
fn random_work_that_meets_all_the_time_ends_equal_without_windows_too() {
    work(Work {
        seconds: 20,
        names: FEW,
        windows: NO_WINDOWS,
        ..PLAIN
    });
}

#[test]
fn twenty_kills_where_all_meets_lose_nothing() {
    work(Work {
        seconds: 20,
        kills: KILLS,
        names: FEW,
        ..PLAIN
    });
}

#[test]
fn what_is_written_to_files_that_stay_open_is_not_lost() {
    work(Work {
        seconds: 20,
        kills: 5,
        names: FEW,
        holding: true,
        ..PLAIN
    });
}

#[test]
fn the_oracle_tells_lost_from_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let actor = |name: &str| Actor::new(name, place.path(), &place.path().join(name), MANY);
    let judged = |writer: usize, destroyer: Option<usize>, standing: bool, known: bool| {
        let mut actors = [actor("laptop"), actor("server")];
        for name in ["laptop", "server"] {
            std::fs::remove_dir(place.path().join(name)).unwrap();
        }
        let token = "tok-x00000001".to_owned();
        let set =
            |is: bool| -> BTreeSet<String> { is.then(|| token.clone()).into_iter().collect() };
        actors[writer].written.insert(token.clone(), "a".into());
        if let Some(destroyer) = destroyer {
            actors[destroyer].destroyed.insert(token.clone());
        }
        unaccounted(&actors.each_ref(), &set(standing), &set(known)).len()
    };
    // In the tree, whoever did what.
    assert_eq!(judged(0, None, true, false), 0);
    // Overwritten by its own author, perhaps before anybody looked.
    assert_eq!(judged(0, Some(0), false, false), 0);
    // Overwritten elsewhere: it was published.
    assert_eq!(judged(0, Some(1), false, true), 0);
    assert_eq!(judged(0, Some(1), false, false), 1);
    // By nobody.
    assert_eq!(judged(1, None, false, true), 1);
    assert_eq!(judged(1, None, false, false), 1);
}
