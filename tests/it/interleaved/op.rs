//! What happens in a case: people at work, agents that go on step by step, kills.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use autosync::engine::event::Request;
use proptest::prelude::*;

use super::world::{HOSTS, Step, World};
use crate::outcomes::lab::plain_git;
use crate::random::actor::Actor;

/// So few names that everything meets all the time, files and directories above all. `x.log` and
/// `b/` are sometimes ignored.
const FILES: &[&str] = &[
    "one", "a", "b", "a/one", "a/b", "b/one", "b/a", "b/a/b", "b/a/one", "x.log", "a/x.log",
];
const DIRS: &[&str] = &["a", "b", "b/a", "c"];
const RULES: &[&str] = &[
    "",
    "*.log\n",
    "/b/\n",
    "*.log\n/c\n",
    "one\n",
    "*.log\n!/x.log\n",
];

/// One thing that a person does in a folder.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// Replaces a line, or writes a new text, through the file that is there.
    Write(usize, u64),
    /// The same by a new file that takes the name.
    Save(usize, u64),
    Append(usize),
    Delete(usize),
    Rename(usize, usize),
    DeleteDirectory(usize),
    RenameDirectory(usize, usize),
    /// Puts a directory with a file where a file is.
    FileToDirectory(usize),
    /// Puts a file where a directory is.
    DirectoryToFile(usize),
    Link(usize),
    Chmod(usize, bool),
    MakeDirectory(usize),
    Ignore(usize),
    /// Commits everything by git's own commands.
    Commit,
}

/// One operation of a case. Hosts are numbers.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Do(usize, Deed),
    /// A host does everything that it has to do.
    Sync(usize),
    /// Two hosts go on, one step each time: the lowest bit says whose, the others which.
    Steps([usize; 2], Vec<u8>),
    /// A job of a host is interrupted at this point by a person there.
    DoDuring(usize, Lane, usize, Deed),
    /// A job of a host is interrupted at this point while another does everything it has to do.
    SyncDuring(usize, Lane, usize, usize),
    /// A job of the tree lane is interrupted at this point by one of the network lane.
    Both(usize, usize),
    /// An agent is killed at this point of a job; it starts again when it is to do something.
    Kill(usize, Lane, usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    Tree,
    Network,
}

impl Lane {
    fn step(self) -> Step {
        match self {
            Self::Tree => Step::Tree,
            Self::Network => Step::Network,
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let file = 0..FILES.len();
    let dir = 0..DIRS.len();
    prop_oneof![
        5 => (file.clone(), 0..1000_u64).prop_map(|(at, seed)| Deed::Write(at, seed)),
        5 => (file.clone(), 0..1000_u64).prop_map(|(at, seed)| Deed::Save(at, seed)),
        3 => file.clone().prop_map(Deed::Append),
        3 => file.clone().prop_map(Deed::Delete),
        4 => (file.clone(), file.clone()).prop_map(|(from, to)| Deed::Rename(from, to)),
        1 => dir.clone().prop_map(Deed::DeleteDirectory),
        2 => (dir.clone(), dir.clone()).prop_map(|(from, to)| Deed::RenameDirectory(from, to)),
        2 => file.clone().prop_map(Deed::FileToDirectory),
        2 => dir.clone().prop_map(Deed::DirectoryToFile),
        1 => file.clone().prop_map(Deed::Link),
        2 => (file, any::<bool>()).prop_map(|(at, on)| Deed::Chmod(at, on)),
        1 => dir.prop_map(Deed::MakeDirectory),
        2 => (0..RULES.len()).prop_map(Deed::Ignore),
        2 => Just(Deed::Commit),
    ]
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![3 => Just(Lane::Tree), 1 => Just(Lane::Network)]
}

/// Returns one operation.
pub(super) fn op() -> impl Strategy<Value = Op> {
    let host = 0..HOSTS.len();
    let two =
        (host.clone(), 1..HOSTS.len()).prop_map(|(one, apart)| [one, (one + apart) % HOSTS.len()]);
    let point = 1..24_usize;
    prop_oneof![
        12 => (host.clone(), deed()).prop_map(|(at, deed)| Op::Do(at, deed)),
        4 => host.clone().prop_map(Op::Sync),
        4 => (two.clone(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(two, picks)| Op::Steps(two, picks)),
        3 => (host.clone(), lane(), point.clone(), deed())
            .prop_map(|(at, lane, point, deed)| Op::DoDuring(at, lane, point, deed)),
        2 => (two, lane(), point.clone())
            .prop_map(|([at, other], lane, point)| Op::SyncDuring(at, lane, point, other)),
        1 => (host.clone(), point.clone()).prop_map(|(at, point)| Op::Both(at, point)),
        3 => (host, lane(), point).prop_map(|(at, lane, point)| Op::Kill(at, lane, point)),
    ]
}

/// The people, one at each host.
pub(super) type People = Rc<Vec<RefCell<Actor>>>;

/// Does one operation.
pub(super) fn carry_out(world: &Rc<World>, people: &People, op: &Op) {
    match op {
        Op::Do(at, deed) => act(world, people, *at, deed),
        Op::Sync(at) => {
            world.sync(*at);
        }
        Op::Steps(two, picks) => {
            for pick in picks {
                let at = two[usize::from(pick & 1)];
                let possible = world.possible(at);
                world.step(at, possible[usize::from(pick >> 1) % possible.len()]);
            }
        }
        Op::DoDuring(at, lane, nth, deed) => {
            if !world.up_to(*at, lane.step()) {
                act(world, people, *at, deed);
                return;
            }
            let (here, them, at, deed) = (Rc::clone(world), Rc::clone(people), *at, deed.clone());
            world.during(at, lane.step(), *nth, move |_| act(&here, &them, at, &deed));
        }
        Op::SyncDuring(at, lane, nth, other) => {
            if !world.up_to(*at, lane.step()) {
                world.sync(*other);
                return;
            }
            let (here, other) = (Rc::clone(world), *other);
            world.during(*at, lane.step(), *nth, move |_| {
                here.sync(other);
            });
        }
        Op::Both(at, nth) => {
            if world.up_to(*at, Step::Network) && !world.possible(*at).contains(&Step::Tree) {
                world.ask(*at, Request::Sync);
                world.rescan(*at);
            }
            if world.up_to(*at, Step::Tree) {
                let (here, at) = (Rc::clone(world), *at);
                world.during(at, Step::Tree, *nth, move |_| {
                    if here.possible(at).contains(&Step::Network) {
                        here.step(at, Step::Network);
                    }
                });
            }
        }
        Op::Kill(at, lane, nth) => {
            if world.up_to(*at, lane.step()) {
                world.kill_during(*at, lane.step(), *nth);
            } else {
                world.hosts[*at].end();
            }
        }
    }
}

/// Does what a person does. What is not possible as things stand is left.
fn act(world: &World, people: &People, at: usize, deed: &Deed) {
    let host = &world.hosts[at];
    let mut person = people[at].borrow_mut();
    let random = |seed: &u64| fastrand::Rng::with_seed(*seed);
    let done = match deed {
        Deed::Write(at, seed) => person.save_in_place(FILES[*at], &mut random(seed)),
        Deed::Save(at, seed) => person.save_by_rename(FILES[*at], &mut random(seed)),
        Deed::Append(at) => person.append(FILES[*at]),
        Deed::Delete(at) => person.delete(FILES[*at]),
        Deed::Rename(from, to) => person.rename(FILES[*from], FILES[*to]),
        Deed::DeleteDirectory(at) => person.delete(DIRS[*at]),
        Deed::RenameDirectory(from, to) => person.rename(DIRS[*from], DIRS[*to]),
        Deed::FileToDirectory(at) => {
            let path = host.root().join(FILES[*at]);
            if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir()) {
                drop(person.delete(FILES[*at]));
            }
            person.save_in_place(&format!("{}/one", FILES[*at]), &mut random(&0))
        }
        Deed::DirectoryToFile(at) => {
            drop(person.delete(DIRS[*at]));
            person.save_in_place(DIRS[*at], &mut random(&0))
        }
        Deed::Link(at) => person.link(FILES[*at]),
        Deed::Chmod(at, on) => person.chmod(FILES[*at], *on),
        Deed::MakeDirectory(at) => fs::create_dir_all(host.root().join(DIRS[*at])),
        Deed::Ignore(at) => person.put(".gitignore", RULES[*at]),
        Deed::Commit => {
            for args in [&["add", "-A"][..], &["commit", "-q", "-m", "by hand"]] {
                // There may be nothing to commit, or the agent has the lock for a moment.
                let done = plain_git(host.root()).args(args).output().unwrap();
                drop(done);
            }
            host.git_moved();
            Ok(())
        }
    };
    // A name may be taken by a directory, or be none at all: then nothing was done.
    drop(done);
}

/// Returns whether a line is one that a person puts into `.gitignore`.
pub(super) fn is_rule(line: &str) -> bool {
    RULES
        .iter()
        .any(|rules| rules.lines().any(|rule| rule == line))
}
