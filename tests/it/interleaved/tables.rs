//! The tables of outcomes, with the steps of the two agents in any order.
//!
//! All cells are there at once, each in a directory of its own, and are worked on in three groups:
//! so some are committed while others are fetched, merged, pushed or applied. Which step of which
//! agent comes next is random, as far as the tables then say what comes out: what the hub's side did
//! in a group is on the hub before the other side pushes what it did there.
//!
//! Every other schedule races: the other side works on a group at any moment until it is applied
//! there, while a merge is waiting or an apply is about to start, and its watcher tells of it later.
//! Then half of a rename may be committed on one base and half on another, so that both names stand:
//! there, what somebody wrote in such a cell must stand somewhere in it, and nothing else.
//!
//! Submodules are made and moved by git's own commands, so cells with one are committed by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use autosync::engine::action::{Job, Lane};

use super::skipped_without_memory;
use super::verdict::{converge, listed};
use super::world::{Host, Step, Template, World};
use crate::outcomes::agents::{Deed, Place, commit_by_hand, places};
use crate::outcomes::lab::{plain_git, without_suffixes};
use crate::outcomes::names;
use crate::outcomes::person::act;
use crate::outcomes::table::{Cell, Node, Tree};
use crate::support::host::{Stands, tree};

/// So many schedules are tried.
const SCHEDULES: usize = 6;
/// In so many groups the cells are worked on.
const GROUPS: usize = 3;
/// So many steps come in a random order.
const STEPS: usize = 120;

/// Where the work on the groups stands.
#[derive(Debug, Default)]
struct Work {
    /// The hub's side did it; its watcher told; the hub has it.
    done: [bool; GROUPS],
    told: [bool; GROUPS],
    published: [bool; GROUPS],
    /// The other side did it.
    other: [bool; GROUPS],
}

struct Schedule<'a> {
    world: Rc<World>,
    groups: [Vec<&'a Place>; GROUPS],
    /// The hub's side, and the other.
    sides: [usize; 2],
    work: Work,
    /// Whether the other side may work while an apply is about to start.
    races: bool,
}

impl Schedule<'_> {
    /// Works on the next group of a side.
    fn work_on(&mut self, side: usize) {
        let at = self.sides[side];
        if side == 1 && !self.races {
            // What is on its way to the tree comes first, and then what is done is committed.
            while self.applies() {
                self.world.step(at, Step::Tree);
            }
        }
        let done = if side == 0 {
            &mut self.work.done
        } else {
            &mut self.work.other
        };
        let Some(group) = done.iter().position(|done| !done) else {
            return;
        };
        done[group] = true;
        let host = &self.world.hosts[at];
        let deed = if side == 0 { Deed::Hub } else { Deed::Local };
        by_hand(host, self.groups[group].iter().copied(), deed);
        for place in self.groups[group].iter().filter(|it| !it.has_submodule()) {
            let [from, to] = deed.of(&place.cell);
            act(&host.root().join(&place.dir), &from, &to);
        }
        if side == 1 && !self.races {
            let before = self.world.hosts[at].tip();
            self.world.step(at, Step::Look);
            for _ in 0..100 {
                if self.world.hosts[at].tip() != before {
                    return;
                }
                let mut possible = self.world.possible(at);
                possible.retain(|step| *step != Step::Network);
                self.world.step(at, possible[0]);
            }
            panic!("the other side does not commit");
        }
    }

    /// Returns whether the other side is about to apply something.
    fn applies(&self) -> bool {
        matches!(
            self.world.waiting(self.sides[1], Lane::Tree),
            Some(Job::Apply { .. })
        )
    }

    /// Returns whether a step may come now.
    fn may(&self, side: usize, step: Step) -> bool {
        let Work {
            done,
            published,
            other,
            ..
        } = &self.work;
        let waiting = self.world.waiting(self.sides[side], Lane::Network);
        let pushes = step == Step::Network && matches!(waiting, Some(Job::Push { .. }));
        // What is to meet there.
        let met = || (0..GROUPS).all(|group| !done[group] || other[group]);
        if side == 0 {
            return self.races || !pushes || met();
        }
        if pushes {
            return (0..GROUPS).all(|group| !other[group] || published[group]);
        }
        step != Step::Tree || !self.applies() || met()
    }

    fn step(&mut self, side: usize, step: Step) {
        self.world.step(self.sides[side], step);
        if side == 0 && step == Step::Look {
            self.work.told = self.work.done;
        }
        if self.world.hosts[self.sides[0]].is_synced() {
            self.work.published = self.work.told;
        }
    }

    fn run(&mut self, random: &mut fastrand::Rng) {
        for _ in 0..STEPS {
            let side = random.usize(..2);
            if random.usize(..STEPS / 8) == 0 {
                self.work_on(side);
                continue;
            }
            let mut possible = self.world.possible(self.sides[side]);
            possible.retain(|step| self.may(side, *step));
            if !possible.is_empty() {
                self.step(side, possible[random.usize(..possible.len())]);
            }
        }
        // What is left; and the hub's side is first there too.
        for side in [0, 1] {
            for _ in 0..GROUPS {
                self.work_on(side);
            }
        }
        self.world.come_to_rest(self.sides[0]);
    }
}

/// Does what a side does in the cells with submodules, and commits it.
fn by_hand<'a>(host: &Host, places: impl Iterator<Item = &'a Place>, deed: Deed) {
    commit_by_hand(places, host.root(), host.name, deed, &|args| {
        let done = plain_git(host.root()).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    });
    host.git_moved();
}

/// Returns what stands in the directory of each cell, with the submodules of the commit.
fn found(host: &Host, loser: &str) -> BTreeMap<String, Tree> {
    let root = host.root();
    let mut cells: BTreeMap<String, Tree> = BTreeMap::new();
    for (path, node) in listed(host) {
        if let (path, Node::Submodule(_)) = (String::from_utf8(path).unwrap(), &node) {
            assert!(root.join(&path).is_dir(), "{path}");
            let (dir, path) = path.split_once('/').unwrap();
            let cell = cells.entry(dir.to_owned()).or_default();
            cell.insert(without_suffixes(path, loser), node);
        }
    }
    for (path, stands) in tree(root) {
        let node = match stands {
            Stands::File {
                content,
                executable,
            } => Node::File(content, executable),
            Stands::Link(target) => Node::Link(target.to_str().unwrap().to_owned()),
        };
        let path = path.to_str().unwrap();
        if let Some((dir, path)) = path.split_once('/')
            && dir.starts_with('c')
        {
            let cell = cells.entry(dir.to_owned()).or_default();
            let before = cell.insert(without_suffixes(path, loser), node);
            assert_eq!(before, None, "two copies of one name: {dir}/{path}");
        }
    }
    cells
}

/// Runs every cell in one schedule. Returns what is wrong.
fn check(
    template: &Template,
    places: &[Place],
    races: bool,
    random: &mut fastrand::Rng,
) -> Vec<String> {
    let names_of = ["laptop", "server"];
    let world = template.world(&names_of, false);
    let first = random.usize(..2);
    let sides = [first, 1 - first];
    by_hand(&world.hosts[first], places.iter(), Deed::Base);
    for place in places.iter().filter(|it| !it.has_submodule()) {
        let [from, to] = Deed::Base.of(&place.cell);
        act(&world.hosts[first].root().join(&place.dir), &from, &to);
    }
    let mut groups = [const { Vec::new() }; GROUPS];
    for place in places {
        groups[random.usize(..GROUPS)].push(place);
    }
    for side in [0, 1, 0] {
        assert!(world.sync(sides[side]));
    }
    let mut schedule = Schedule {
        world,
        groups,
        sides,
        work: Work::default(),
        races,
    };
    schedule.run(random);
    let world = schedule.world;
    if let Err(wrong) = converge(&world) {
        return vec![wrong];
    }
    let mut wrong = Vec::new();
    for host in &world.hosts {
        let found = found(host, names_of[sides[1]]);
        for Place { dir, cell } in places {
            let nothing = Tree::new();
            let found = found.get(dir).unwrap_or(&nothing);
            let is_right = if races && moves(&cell.base, &cell.l) {
                nothing_is_lost(cell, found)
            } else {
                *found == cell.expect
            };
            if !is_right {
                wrong.push(format!(
                    "{dir} {} on {}: found {}, wanted {}",
                    cell.name,
                    host.name,
                    names(found),
                    names(&cell.expect)
                ));
            }
        }
    }
    wrong
}

/// Returns whether everything that should stand in a cell stands somewhere in it, a line here and
/// another there at worst, and nothing that nobody wrote.
fn nothing_is_lost(cell: &Cell, found: &Tree) -> bool {
    let lines = |trees: &[&Tree]| -> BTreeSet<String> {
        let nodes = trees.iter().flat_map(|tree| tree.values());
        let lines = nodes.flat_map(|node| match node {
            Node::File(content, _) => {
                let text = String::from_utf8_lossy(content);
                text.lines().map(str::to_owned).collect()
            }
            Node::Link(_) | Node::Submodule(_) => vec![format!("{node:?}")],
        });
        lines.collect()
    };
    let names = |path: &String| path.replace("{copy}", "");
    let known: BTreeSet<String> = [&cell.base, &cell.h, &cell.l, &cell.expect]
        .into_iter()
        .flat_map(Tree::keys)
        .map(names)
        .collect();
    let there = lines(&[found]);
    lines(&[&cell.expect]).is_subset(&there)
        && there.is_subset(&lines(&[&cell.base, &cell.h, &cell.l]))
        && found.keys().map(names).all(|name| known.contains(&name))
}

/// Returns whether something has another name afterwards.
fn moves(before: &Tree, after: &Tree) -> bool {
    let renamed = before.keys().any(|path| !after.contains_key(path))
        && after.keys().any(|path| !before.contains_key(path));
    let exchanged = after.iter().any(|(path, node)| {
        before.get(path) != Some(node)
            && before
                .iter()
                .any(|(other, was)| other != path && was == node)
    });
    renamed || exchanged
}

#[test]
fn every_cell_comes_out_as_written_in_any_order_of_the_agents_steps() {
    let test = "every_cell_comes_out_as_written_in_any_order_of_the_agents_steps";
    if skipped_without_memory(test) {
        return;
    }
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let schedules =
        number("AUTOSYNC_TEST_SCHEDULES").map_or(SCHEDULES, |it| usize::try_from(it).unwrap());
    let seed = number("AUTOSYNC_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let places = places();
    let template = Template::new(&["laptop", "server"]);
    for at in 0..schedules {
        let seed = seed.wrapping_add(u64::try_from(at).unwrap());
        let mut random = fastrand::Rng::with_seed(seed);
        let wrong = check(&template, &places, seed % 2 == 1, &mut random);
        assert!(
            wrong.is_empty(),
            "AUTOSYNC_TEST_SEED={seed} AUTOSYNC_TEST_SCHEDULES=1, {} of {}:\n{}",
            wrong.len(),
            places.len(),
            wrong.join("\n")
        );
    }
}
