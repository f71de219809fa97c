//! The same tables between two living agents: every cell at once, each in a directory of its own.
//!
//! The contents of a cell are its own, so that no rename is ever found from one cell to another;
//! beyond that a cell knows nothing of the others, and comes out as it does alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use autosync::git::tree::{Entry, GITLINK};

use super::lab::{Lab, without_suffixes};
use super::names;
use super::person::act;
use super::table::{Cell, Node, Tree, cells};
use crate::support::host::{Host, Pair, Stands};

/// So much is deleted at once that a person would be asked.
const UNGUARDED: &str = "[guards]\nmass_delete_files = 100000\nmass_delete_top = 100000\n";

/// How the two sides come to work without knowing of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// Both agents are paused; the hub's side goes on first.
    Paused,
    /// Both agents commit what is done, and cannot reach the hub.
    HubAway,
    /// The other side's agent does not run, and starts when the hub has everything.
    Offline,
}

/// What a person does in a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    /// Makes what both sides start from.
    Base,
    /// What the hub's side does.
    Hub,
    /// What the other side does.
    Local,
}

impl Deed {
    /// Returns the tree before and the tree after.
    pub(crate) fn of(self, cell: &Cell) -> [Tree; 2] {
        let base = cell.base.clone();
        match self {
            Self::Base => [Tree::new(), base],
            Self::Hub => [base, cell.h.clone()],
            Self::Local => [base, cell.l.clone()],
        }
    }
}

/// A cell and its directory.
pub(crate) struct Place {
    pub(crate) dir: String,
    pub(crate) cell: Cell,
}

impl Place {
    /// Returns whether a submodule takes part: those only git's own commands make and move.
    pub(crate) fn has_submodule(&self) -> bool {
        let Cell { base, h, l, .. } = &self.cell;
        let mut nodes = [base, h, l].into_iter().flat_map(Tree::values);
        nodes.any(|node| matches!(node, Node::Submodule(_)))
    }
}

/// Returns all cells, each with contents and link targets that no other has.
pub(crate) fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for (number, cell) in cells().into_iter().enumerate() {
        let dir = format!("c{number:03}");
        let own = |tree: &Tree| -> Tree {
            let own = |(path, node): (&String, &Node)| (path.clone(), owned(node, &dir));
            tree.iter().map(own).collect()
        };
        let cell = Cell {
            base: own(&cell.base),
            h: own(&cell.h),
            l: own(&cell.l),
            expect: own(&cell.expect),
            name: cell.name,
        };
        places.push(Place { dir, cell });
    }
    assert!(places.len() > 150, "only {} cells", places.len());
    places
}

/// Returns a node that has the name of its cell in every line, and a word that no other line has: to
/// git, lines that are numbered in the same way may be alike, whatever else is in them.
fn owned(node: &Node, cell: &str) -> Node {
    match node {
        Node::File(content, executable) => {
            let mut out = Vec::new();
            for line in content.split_inclusive(|byte| *byte == b'\n') {
                out.extend(line.strip_suffix(b"\n").unwrap());
                let mut hash = DefaultHasher::new();
                (cell, line).hash(&mut hash);
                out.extend(format!(" in {cell} {:016x}\n", hash.finish()).bytes());
            }
            Node::File(out, *executable)
        }
        Node::Link(target) => Node::Link(format!("{target}-{cell}")),
        Node::Submodule(_) => node.clone(),
    }
}

/// Does what a side does in the cells of files and links.
fn work(places: &[Place], host: &Host, deed: Deed) {
    for place in places.iter().filter(|place| !place.has_submodule()) {
        let [from, to] = deed.of(&place.cell);
        act(&host.folder.join(&place.dir), &from, &to);
    }
}

/// Does what a side does in the cells with submodules, and commits it by hand. Copies of what a
/// person committed are known by the name of that person, who is called as the host is.
fn work_by_hand(places: &[Place], host: &Host, person: &str, deed: Deed) {
    commit_by_hand(places, &host.folder, person, deed, &|args| {
        host.git(args);
    });
}

/// The same in the folder `root`, with `git` run there.
pub(crate) fn commit_by_hand<'a>(
    places: impl IntoIterator<Item = &'a Place>,
    root: &Path,
    person: &str,
    deed: Deed,
    git: &dyn Fn(&[String]),
) {
    let mut dirs = Vec::new();
    let mut links = Vec::new();
    for Place { dir, cell } in places.into_iter().filter(|place| place.has_submodule()) {
        let [from, to] = deed.of(cell);
        act(&root.join(dir), &from, &to);
        dirs.push(dir.clone());
        for (path, node) in &to {
            if let Node::Submodule(digit) = node {
                let id = digit.to_string().repeat(40);
                links.extend([
                    "--cacheinfo".to_owned(),
                    format!("160000,{id},{dir}/{path}"),
                ]);
            }
        }
    }
    if dirs.is_empty() {
        return;
    }
    let run = |args: &[&str], more: &[String]| {
        let args = args.iter().map(|arg| (*arg).to_owned());
        git(&args.chain(more.iter().cloned()).collect::<Vec<_>>());
    };
    run(
        &["rm", "-r", "-q", "--cached", "--ignore-unmatch", "--"],
        &dirs,
    );
    // A directory without a file is nothing that could be added.
    let there = dirs.into_iter().filter(|dir| root.join(dir).exists());
    run(&["add", "--"], &there.collect::<Vec<_>>());
    run(&["update-index", "--add"], &links);
    let person = format!("user.name={person}");
    run(
        &[
            "-c",
            &person,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "by hand",
        ],
        &[],
    );
}

/// Returns what stands in the directory of each cell, with the submodules that HEAD has. Copies
/// are known by the losing host's name.
fn found(host: &Host, loser: &str) -> BTreeMap<String, Tree> {
    let mut cells: BTreeMap<String, Tree> = BTreeMap::new();
    let mut put = |path: &str, node| {
        let (dir, path) = path.split_once('/').unwrap();
        let cell = cells.entry(dir.to_owned()).or_default();
        let before = cell.insert(without_suffixes(path, loser), node);
        assert_eq!(before, None, "two copies of one name: {path}");
    };
    for (path, stands) in host.tree() {
        let node = match stands {
            Stands::File {
                content,
                executable,
            } => Node::File(content, executable),
            Stands::Link(target) => Node::Link(target.to_str().unwrap().to_owned()),
        };
        put(path.to_str().unwrap(), node);
    }
    for line in entries(host, "HEAD") {
        if let Some(line) = line.strip_prefix("160000 commit ") {
            let (id, path) = line.split_once('\t').unwrap();
            let meta = fs::symlink_metadata(host.folder.join(path)).unwrap();
            assert!(meta.is_dir(), "{path}");
            put(path, Node::Submodule(id.chars().next().unwrap()));
        }
    }
    cells
}

/// Returns every entry of a commit, as git lists it.
fn entries(host: &Host, commit: &str) -> BTreeSet<String> {
    let listed = host.git(["ls-tree", "-r", "-z", "--full-tree", commit]);
    listed.split_terminator('\0').map(str::to_owned).collect()
}

/// Returns every entry that any commit of the branch has.
fn history(host: &Host) -> BTreeSet<String> {
    let commits = host.commits().into_iter();
    commits.flat_map(|commit| entries(host, &commit)).collect()
}

/// Returns what is wrong with the outcome of the cells on one host.
fn wrong(places: &[Place], host: &Host, loser: &str) -> Vec<String> {
    let lab = Lab::new();
    let found = found(host, loser);
    let history = history(host);
    let mut wrong = Vec::new();
    for Place { dir, cell } in places {
        let found = &found[dir];
        if *found != cell.expect {
            wrong.push(format!(
                "{dir} {}: found {}, wanted {}",
                cell.name,
                names(found),
                names(&cell.expect)
            ));
        }
        for (path, node) in [&cell.base, &cell.h, &cell.l].into_iter().flatten() {
            let Entry { mode, id } = lab.entry(node);
            let kind = if mode == GITLINK { "commit" } else { "blob" };
            let line = format!("{mode:06o} {kind} {id}\t{dir}/{path}");
            if !history.contains(&line) {
                wrong.push(format!("{dir} {}: not in the history: {line}", cell.name));
            }
        }
    }
    assert_eq!(found.len(), places.len());
    wrong
}

/// Runs every cell; the hub's side is the laptop or the server.
fn every_cell(apart: Apart, laptop_first: bool) {
    let places = places();
    let mut pair = Pair::configured(UNGUARDED);
    pair.laptop.run(["pause"]).ok();
    work_by_hand(&places, &pair.laptop, "laptop", Deed::Base);
    work(&places, &pair.laptop, Deed::Base);
    pair.laptop.run(["resume"]).ok();
    pair.equal();
    let before = pair.tip();
    let Pair {
        laptop,
        server,
        hub,
    } = &mut pair;
    let ([first, second], [winner, loser]) = if laptop_first {
        ([laptop, server], ["laptop", "server"])
    } else {
        ([server, laptop], ["server", "laptop"])
    };

    first.run(["pause"]).ok();
    second.run(["pause"]).ok();
    work_by_hand(&places, first, winner, Deed::Hub);
    work_by_hand(&places, second, loser, Deed::Local);
    let by_hand = first.git(["rev-parse", "HEAD"]);
    let away = hub.with_extension("away");
    match apart {
        Apart::Paused => {}
        Apart::HubAway => {
            fs::rename(&hub, &away).unwrap();
            first.run(["resume"]).ok();
            second.run(["resume"]).ok();
        }
        Apart::Offline => {
            second.stop();
            first.run(["resume"]).ok();
        }
    }
    work(&places, first, Deed::Hub);
    work(&places, second, Deed::Local);
    match apart {
        Apart::Paused => drop(first.run(["resume"]).ok()),
        Apart::HubAway => {
            for host in [&*first, &*second] {
                host.until("everything is committed", |host| {
                    // A status that takes the index's lock all the time lets nobody commit.
                    let args = ["--no-optional-locks", "status", "--porcelain"];
                    host.git(args).is_empty()
                });
            }
            second.run(["pause"]).ok();
            fs::rename(&away, &hub).unwrap();
            first.run(["sync"]).ok();
        }
        Apart::Offline => {}
    }
    first.barrier();
    let tip = first.synced().head;
    assert!(tip != before && tip != by_hand);
    assert_eq!(first.git(["status", "--porcelain"]), "");
    assert!(!second.commits().contains(&tip), "the other side knows it");
    match apart {
        Apart::Paused | Apart::HubAway => drop(second.run(["resume"]).ok()),
        Apart::Offline => second.start(),
    }

    pair.ends_well();
    let args = ["rev-list", "--first-parent", "HEAD"];
    let line = pair.laptop.git(args);
    assert!(line.lines().any(|id| id == tip), "the hub's side stands");
    assert_ne!(line.lines().next(), Some(tip.as_str()));
    for host in pair.hosts() {
        let wrong = wrong(&places, host, loser);
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            places.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn every_cell_comes_out_as_written_between_paused_agents_with_the_laptop_first() {
    every_cell(Apart::Paused, true);
}

#[test]
fn every_cell_comes_out_as_written_between_paused_agents_with_the_server_first() {
    every_cell(Apart::Paused, false);
}

#[test]
fn every_cell_comes_out_as_written_between_agents_without_a_hub_with_the_laptop_first() {
    every_cell(Apart::HubAway, true);
}

#[test]
fn every_cell_comes_out_as_written_between_agents_without_a_hub_with_the_server_first() {
    every_cell(Apart::HubAway, false);
}

#[test]
fn every_cell_comes_out_as_written_after_the_server_was_offline() {
    every_cell(Apart::Offline, true);
}

#[test]
fn every_cell_comes_out_as_written_after_the_laptop_was_offline() {
    every_cell(Apart::Offline, false);
}
