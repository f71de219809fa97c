//! A program that writes two lines through a descriptor that it holds open: the first at a step of
//! an apply, the second when the apply is over. Both are in the final file, on both hosts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use autosync::engine::action::Job;
use autosync::engine::event::Event;
use autosync::fault;
use autosync::names::ObjectId;
use autosync::repo::folder::Folder;

use crate::pair::Pair;
use crate::snapshot::settings;
use crate::support::Sandbox;

const OLD: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";
const NEW: &str = "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\n";

/// The steps of one path that is replaced: the file `own-N-M` is opened at the N-th and written to
/// for the first time at the M-th.
const OWN: &[&str] = &[
    "A3.found",
    "A3.dressed",
    "A3.checked",
    "A3.exchanged",
    "A3.verified",
    "A3.settled",
];

/// The steps of the whole, with a file each.
const WHOLE: &[&str] = &[
    "A1.planned",
    "A2.staged",
    "A2.synced",
    "A2.journal",
    "A3.emptied",
    "A3.done",
    "A4.bases",
    "A5.synced",
    "S6.index",
    "S7.index-locked",
    "S7.prepared",
    "S8.index",
    "S8.branch",
    "A5.published",
    "A6.index",
    "A6.kept",
    "A6.closed",
];

/// How a program writes into a file that it has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It appends, as a log is written.
    Append,
    /// It writes in the middle, as an editor that saves in place and a database do.
    InPlace,
}

impl Way {
    fn write(self, file: &File, name: &str, line: usize) {
        let (at, text) = match self {
            Self::Append => {
                let end = file.metadata().unwrap().len();
                (end, format!("{name} {line}\n"))
            }
            // Old and new are as long, line by line.
            Self::InPlace => {
                let (at, text) = [("three", "THREE"), ("six", "SIX")][line - 1];
                (OLD.find(at).unwrap() as u64, text.to_owned())
            }
        };
        file.write_all_at(text.as_bytes(), at).unwrap();
    }

    fn result(self, name: &str) -> String {
        match self {
            Self::Append => format!("{NEW}{name} 1\n{name} 2\n"),
            Self::InPlace => NEW.replace("three", "THREE").replace("six", "SIX"),
        }
    }
}

fn own(opened: usize, written: usize) -> String {
    format!("own-{opened}-{written}")
}

fn names() -> Vec<String> {
    let steps = 0..OWN.len();
    let own = steps.flat_map(|opened| (opened..OWN.len()).map(move |at| own(opened, at)));
    let whole = WHOLE.iter().map(|step| format!("whole-{step}"));
    own.chain(whole).collect()
}

fn open(at: &Path) -> File {
    File::options().read(true).write(true).open(at).unwrap()
}

fn both_lines(way: Way) {
    let names = names();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), OLD)).collect();
    // What was displaced is looked at without the wait.
    let sandbox = |name| Sandbox::named(name).with("AUTOSYNC_GRACE", "0");
    let pair = Pair::of(sandbox("laptop"), sandbox("server"), &files);
    let (here, there) = (&pair.laptop, &pair.server);
    for name in &names {
        there.write(name, NEW);
    }
    let _ran = there.once().ok();
    here.git(&["fetch", "-q", "origin"]);
    let target = here.git(&["rev-parse", "origin/main"]);

    let held: Rc<RefCell<BTreeMap<String, File>>> = Rc::default();
    let passed: Rc<RefCell<BTreeSet<String>>> = Rc::default();
    let (files, log, root, all) = (
        Rc::clone(&held),
        Rc::clone(&passed),
        here.root.clone(),
        names.clone(),
    );
    let (mut current, mut passing) = (0, 0);
    let hook = move |step: &str| {
        let mut files = files.borrow_mut();
        if step == "A3.path" {
            (current, passing) = (current + 1, 0);
        } else if WHOLE.contains(&step) {
            let name = format!("whole-{step}");
            let file = open(&root.join(&name));
            way.write(&file, &name, 1);
            files.insert(name, file);
            log.borrow_mut().insert(step.to_owned());
        } else if let (Some(at), Some(name)) =
            (OWN.iter().position(|own| *own == step), all.get(current))
            && at == passing
        {
            passing += 1;
            if (0..=at).any(|opened| *name == own(opened, at)) {
                let file = files.remove(name).unwrap_or_else(|| open(&root.join(name)));
                way.write(&file, name, 1);
                files.insert(name.clone(), file);
                log.borrow_mut().insert(step.to_owned());
            } else if (at..OWN.len()).any(|written| *name == own(at, written)) {
                files.insert(name.clone(), open(&root.join(name)));
            }
        }
    };
    let job = Job::Apply {
        target: ObjectId::from_hex(&target).unwrap(),
        approved: false,
    };
    let mut folder = Folder::open(settings(&here.root)).unwrap();
    let done = fault::with_hook(hook, || folder.run(job, &mut |_| {}));
    drop(folder);
    let Event::Applied(applied) = done else {
        panic!("an apply ends as one");
    };
    assert_eq!(applied.blocked, None);
    let wanted: BTreeSet<String> = OWN.iter().chain(WHOLE).map(|it| (*it).to_owned()).collect();
    assert_eq!(*passed.borrow(), wanted, "each step was passed");
    // What was open when its turn came was left as it was, so not all of its steps were passed.
    let unwritten = |name: &&String| name.starts_with("own-0-") && *name != "own-0-0";
    for name in names.iter().filter(unwritten) {
        let file = held.borrow_mut().remove(name).unwrap();
        way.write(&file, name, 1);
        held.borrow_mut().insert(name.clone(), file);
    }
    assert_eq!(held.borrow().len(), names.len());

    // The agent looks meanwhile: what is open waits, with its first line.
    let ran = here.once();
    assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
    for (name, file) in held.take() {
        way.write(&file, &name, 2);
    }
    pair.converge("both lines");
    pair.assert_settled("both lines");
    for host in [here, there] {
        let tree = host.tree();
        for name in &names {
            assert_eq!(tree[name], way.result(name), "{name}, {way:?}");
        }
        assert_eq!(tree.len(), names.len(), "{way:?}: no copies");
    }
}

#[test]
fn both_lines_that_a_program_appends_are_in_the_file_on_both_hosts() {
    both_lines(Way::Append);
}

#[test]
fn both_lines_that_a_program_writes_in_place_are_in_the_file_on_both_hosts() {
    both_lines(Way::InPlace);
}
