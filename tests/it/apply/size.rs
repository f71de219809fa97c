//! What a large apply costs, and one for which there is no room.

use autosync::clock;
use autosync::engine::event::{Code, Recovery};
use autosync::fault;
use autosync::names::ObjectId;
use autosync::process::{self, Patience};

use super::world::{World, text};
use crate::support::inside::{ROOT_INSIDE, inside};

const FILES: usize = 10_000;

/// Imports a commit of many files on top of the tip, as one pack.
fn import(world: &World) -> ObjectId {
    let mut stream = b"reset refs/keep\nfrom refs/heads/main\n\ncommit refs/keep\n\
        committer Other <other@example.org> 1700000000 +0000\ndata 4\nmany\nfrom refs/heads/main\n"
        .to_vec();
    for n in 0..FILES {
        let content = format!("content of {n}\n").repeat(40);
        let head = format!(
            "M 100644 inline d{}/e{}/f{n}\ndata {}\n",
            n % 30,
            n % 300,
            content.len()
        );
        stream.extend(head.bytes().chain(content.bytes()).chain([b'\n']));
    }
    let mut command = process::command(autosync::git::program());
    command
        .arg("-C")
        .arg(world.root())
        .args(["fast-import", "--quiet"]);
    let patience = Patience::Silence(std::time::Duration::from_secs(60));
    let done = process::run(&mut command, &stream, patience).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    ObjectId::from_hex(world.git(&["rev-parse", "refs/keep"])).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "figures are for people")]
fn ten_thousand_files_come_in_at_once() {
    let world = World::new(&[("a", text("a"))]);
    let to = import(&world);
    let mut world = world.killed();
    let start = clock::now();
    let steps = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = std::rc::Rc::clone(&steps);
    let hook = move |step: &str| {
        if !step.starts_with("A3.") || step == "A3.done" {
            let passed = clock::now().since(start).as_millis();
            log.borrow_mut().push(format!("{step} {passed}"));
        }
    };
    let applied = fault::with_hook(hook, || world.apply_well(to));
    eprintln!(
        "{FILES} files, ms since the start: {}",
        steps.borrow().join(", ")
    );
    assert_eq!(applied.count, FILES);
    assert_eq!(applied.paths.len(), 100);
    assert!(world.stands("d7/e7/f7").contains("content of 7\n"));
    // Nothing was displaced, so nothing is kept.
    let displaced = std::fs::read_dir(world.place.store.join("displaced")).unwrap();
    assert_eq!(displaced.count(), 0);
    world.assert_settled();
}

#[test]
fn an_update_that_needs_more_room_than_there_is_touches_nothing() {
    let test = "apply::size::an_update_that_needs_more_room_than_there_is_touches_nothing";
    if !inside(ROOT_INSIDE, test) {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let mut command = process::command("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        command.arg(disk.path());
        let patience = Patience::Total(std::time::Duration::from_secs(60));
        let done = process::run(&mut command, b"", patience).unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    mount("size=24m");
    let mut world = World::on(disk.path(), &[("a", text("a")), ("gone", text("gone"))]);
    // It would fit, but not twice.
    let big = "0123456789abcde\n".repeat(1 << 20);
    let to = world.incoming(&[
        ("a", text("b")),
        ("big", text(big.clone())),
        ("gone", super::world::Is::Gone),
    ]);
    let tip = world.tip();
    let passed = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = std::rc::Rc::clone(&passed);
    let hook = move |step: &str| log.borrow_mut().push(step.to_owned());
    let applied = fault::with_hook(hook, || world.apply(to));
    let trouble = applied.blocked.unwrap();
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::DiskFull, Recovery::Hold)
    );
    assert!(trouble.message.contains("needs 33 MiB"), "{trouble:?}");
    assert_eq!(
        *passed.borrow(),
        Vec::<String>::new(),
        "held before A1 was over"
    );
    assert_eq!(world.tip(), tip);
    assert_eq!(world.stands("a"), "file: a");
    assert_eq!(world.stands("gone"), "file: gone");
    assert_eq!(world.stands("big"), "nothing");
    world.assert_settled();

    mount("remount,size=64m");
    world.apply_well(to);
    assert_eq!(world.stands("big"), format!("file: {big}"));
    assert_eq!(world.stands("gone"), "nothing");
    world.assert_settled();
}
