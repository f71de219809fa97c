//! What must hold in the end, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;

use autosync::engine::event::Request;
use autosync::git::objects::Kind;
use autosync::repo::Place;
use autosync::repo::aside::set_aside;

use super::op::People;
use super::world::{Host, World};
use crate::outcomes::lab::{Lab, plain_git};
use crate::outcomes::table::Node;
use crate::random::actor::{Actor, tokens_in};
use crate::random::unaccounted;
use crate::support::host::{Stands, Tree, tree};

/// Lets all hosts go on until nothing is left to do, and returns what is wrong then.
pub(super) fn verdict(world: &World, people: &People, fsck: bool) -> Result<(), String> {
    converge(world)?;
    let trees = disks_are_as_committed(world)?;
    for tree in &trees {
        plain(tree)?;
    }
    nothing_is_lost(world, people, &trees)?;
    quiet(world)?;
    if fsck {
        for dir in world
            .hosts
            .iter()
            .map(Host::root)
            .chain([world.hub.as_path()])
        {
            let args = ["fsck", "--strict", "--no-dangling", "--full"];
            let done = by_git(dir, &args);
            if !done.status.success() {
                return Err(format!("{}: {done:?}", dir.display()));
            }
        }
    }
    Ok(())
}

/// Connected and quiet, all hosts come to the same commit.
pub(super) fn converge(world: &World) -> Result<(), String> {
    for _ in 0..8 {
        for at in 0..world.hosts.len() {
            world.sync(at);
            if world.hosts[at].asks() {
                world.ask(at, Request::Approve);
                world.come_to_rest(at);
            }
        }
        let hub = world.hub_tip();
        let settled = |host: &Host| host.is_synced() && host.tip() == hub;
        if world.hosts.iter().all(settled) {
            return Ok(());
        }
    }
    let states: Vec<String> = world
        .hosts
        .iter()
        .map(|host| format!("{:#?} at {:?}", host.status(), host.tip()))
        .collect();
    Err(format!(
        "the hosts do not come to the same commit; the hub has {:?}\n{}",
        world.hub_tip(),
        states.join("\n")
    ))
}

/// Every disk holds the commit, and beside it only what git ignores.
fn disks_are_as_committed(world: &World) -> Result<Vec<Tree>, String> {
    let mut trees = Vec::new();
    let committed = listed(&world.hosts[0]);
    for host in &world.hosts {
        let name = host.name;
        let bases = host.bases();
        if !bases.is_empty() {
            return Err(format!("{name} still differs from HEAD: {bases:?}"));
        }
        let disk = tree(host.root());
        for (path, node) in &committed {
            let path: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(path.clone());
            let same = match (disk.get(&path), node) {
                (
                    Some(Stands::File {
                        content,
                        executable,
                    }),
                    Node::File(wanted, x),
                ) => content == wanted && executable == x,
                (Some(Stands::Link(target)), Node::Link(wanted)) => target == Path::new(wanted),
                _ => false,
            };
            if !same {
                let found = disk.get(&path);
                return Err(format!(
                    "{name} has {found:?} at `{}`, not {node:?}",
                    path.display()
                ));
            }
        }
        let args = ["status", "--porcelain", "--untracked-files=all"];
        let status = by_git(host.root(), &args);
        if !status.stdout.is_empty() || !status.status.success() {
            return Err(format!("the user's git on {name} says {status:?}"));
        }
        trees.push(disk);
    }
    Ok(trees)
}

/// Returns what the commit of a host has.
pub(super) fn listed(host: &Host) -> BTreeMap<Vec<u8>, Node> {
    Lab::around(place(host)).list_raw(host.tip().unwrap())
}

/// The agents author no content: every line is a line that somebody wrote.
fn plain(tree: &Tree) -> Result<(), String> {
    for (path, stands) in tree {
        let Stands::File { content, .. } = stands else {
            continue;
        };
        let text = String::from_utf8_lossy(content);
        for line in text.lines() {
            let rest = ["line ", "appended ", "# "]
                .iter()
                .find_map(|start| line.strip_prefix(start));
            let token = rest.is_some_and(|rest| rest.len() == 13 && rest.starts_with("tok-"));
            let other = line.is_empty() || line.starts_with("base ") || super::op::is_rule(line);
            if !token && !other {
                return Err(format!(
                    "`{line}` in `{}` was written by nobody",
                    path.display()
                ));
            }
        }
    }
    Ok(())
}

/// The ledger: a version may be missing from the tree only if somebody who had it in their tree
/// overwrote or deleted it; and if that was not its author, it is in the history.
fn nothing_is_lost(world: &World, people: &People, trees: &[Tree]) -> Result<(), String> {
    let mut standing = BTreeSet::new();
    for stands in trees.iter().flat_map(Tree::values) {
        match stands {
            Stands::File { content, .. } => standing.extend(tokens_in(content)),
            Stands::Link(target) => {
                standing.extend(tokens_in(target.as_os_str().as_encoded_bytes()));
            }
        }
    }
    let mut history = BTreeSet::new();
    for host in &world.hosts {
        put_aside(host, &mut standing);
        history.extend(kept(&place(host)));
    }
    let people: Vec<_> = people.iter().map(std::cell::RefCell::borrow).collect();
    let actors: Vec<&Actor> = people.iter().map(|person| &**person).collect();
    let lost = unaccounted(&actors, &standing, &history);
    if lost.is_empty() {
        Ok(())
    } else {
        Err(lost.join("\n"))
    }
}

/// Adds every token in what git ignores and what had to make room.
fn put_aside(host: &Host, found: &mut BTreeSet<String>) {
    for aside in set_aside(&place(host)).unwrap() {
        below(&aside.now, found);
    }
}

fn place(host: &Host) -> Place {
    Place::open(host.settings().clone()).unwrap()
}

fn by_git(dir: &Path, args: &[&str]) -> Output {
    plain_git(dir).args(args).output().unwrap()
}

fn below(path: &Path, found: &mut BTreeSet<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            below(&entry.unwrap().path(), found);
        }
    } else if meta.is_symlink() {
        let target = fs::read_link(path).unwrap();
        found.extend(tokens_in(target.as_os_str().as_encoded_bytes()));
    } else {
        found.extend(tokens_in(&fs::read(path).unwrap()));
    }
}

/// Returns every token in what the references of a folder reach.
fn kept(place: &Place) -> BTreeSet<String> {
    let args = ["--objects", "--no-object-names", "--all"];
    let listed = place.git.call("rev-list", args, b"").unwrap();
    let text = String::from_utf8(listed).unwrap();
    let mut found = BTreeSet::new();
    for id in text.lines() {
        let id = autosync::names::ObjectId::from_hex(id).unwrap();
        if let Ok((Kind::Blob, content)) = place.objects.read(id) {
            found.extend(tokens_in(&content));
        }
    }
    found
}

/// With nothing done, nothing happens: no commit, no push, however often everything is looked at.
fn quiet(world: &World) -> Result<(), String> {
    let tip = world.hub_tip();
    for _ in 0..2 {
        for at in 0..world.hosts.len() {
            world.rescan(at);
            world.sync(at);
            if world.hub_tip() != tip || world.hosts[at].tip() != tip {
                return Err(format!(
                    "{} did something in the quiet",
                    world.hosts[at].name
                ));
            }
        }
    }
    Ok(())
}
