//! Real programs save a file, each in its own way; what they leave lying about for a moment must
//! really be there, as inotify tells, and must not be reported.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use autosync::engine::event::ChangeKind;
use inotify::{Inotify, WatchMask};

use super::{BOTH, Scene};

#[expect(clippy::disallowed_methods, reason = "the test starts editors")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn is_missing(program: &str, test: &str) -> bool {
    let found = command(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED {test}: no {program} here");
    }
    !found
}

/// What somebody in a terminal does: after `shown` is on the screen, types `keys`.
struct Typing<'a> {
    shown: &'a str,
    keys: &'a str,
}

/// Runs a command line in a terminal of its own, in `dir`.
fn in_terminal(dir: &Path, line: &str, typing: Option<&Typing>) {
    let mut child = command("script")
        .args(["--quiet", "--return", "--command", line, "/dev/null"])
        .current_dir(dir)
        .env("HOME", dir.join("../.."))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut to_type = typing;
    loop {
        let read = screen.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..read]);
        if let Some(typing) = to_type
            && String::from_utf8_lossy(&shown).contains(typing.shown)
        {
            keyboard.write_all(typing.keys.as_bytes()).unwrap();
            to_type = None;
        }
    }
    let status = child.wait().unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(
        status.success() && to_type.is_none(),
        "{line}: {status}\n{shown}"
    );
}

/// Everything that inotify tells about one directory.
struct Witness(Inotify);

impl Witness {
    fn of(dir: &Path) -> Self {
        let inotify = Inotify::init().unwrap();
        let mask = WatchMask::CREATE | WatchMask::MOVE | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        inotify.watches().add(dir, mask).unwrap();
        Self(inotify)
    }

    fn names(mut self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut buffer = vec![0; 65_536];
        while let Ok(events) = self.0.read_events(&mut buffer) {
            names.extend(events.filter_map(|event| Some(event.name?.to_str()?.to_owned())));
        }
        names
    }
}

/// Saves `notes.txt` by `save`, and wants it alone to be reported as complete, though something
/// happened to all of `seen` too.
fn saves(seen: &[&str], save: impl Fn(&Path)) {
    for backend in BOTH {
        let scene = Scene::new(backend, |root| {
            fs::create_dir(root.join("docs")).unwrap();
            fs::write(root.join("docs/notes.txt"), "first\n").unwrap();
        });
        let dir = scene.at("docs");
        let witness = Witness::of(&dir);
        save(&dir);
        let heard = scene.heard();
        let names = witness.names();
        for name in seen {
            assert!(names.contains(*name), "no {name} among {names:?}");
        }
        let reported = BTreeSet::from(["docs/notes.txt".to_owned()]);
        assert_eq!(heard.paths(), reported, "{backend:?}: {names:?}");
        assert_eq!(
            heard.kind("docs/notes.txt"),
            Some(ChangeKind::Closed),
            "{heard:?}"
        );
        let text = fs::read_to_string(scene.at("docs/notes.txt")).unwrap();
        assert!(text.contains("hello"), "{text}");
    }
}

/// Vim makes no backups below /tmp unless told to.
const VIM: &str = "vim -N -u NONE -i NONE -c 'set backupskip= writebackup swapfile' \
    -c 'normal! ohello' -c w -c 'normal! oworld' -c wq";

#[test]
fn vim_saves() {
    if is_missing("vim", "vim_saves") {
        return;
    }
    saves(
        &[".notes.txt.swp", "4913", "notes.txt~", "notes.txt"],
        |dir| {
            in_terminal(dir, &format!("{VIM} notes.txt"), None);
        },
    );
}

#[test]
fn vim_saves_through_a_symbolic_link() {
    if is_missing("vim", "vim_saves_through_a_symbolic_link") {
        return;
    }
    saves(&[".notes.txt.swp", ".notes.txt.swpx", "notes.txt"], |dir| {
        let link = dir.join("../../link");
        if !link.is_symlink() {
            symlink(dir.join("notes.txt"), &link).unwrap();
        }
        in_terminal(dir, &format!("{VIM} ../../link"), None);
        assert!(link.is_symlink());
    });
}

#[test]
fn emacs_saves() {
    if is_missing("emacs", "emacs_saves") {
        return;
    }
    let program = "(progn \
        (setq backup-enable-predicate (lambda (_) t) make-backup-files t) \
        (find-file \"notes.txt\") (auto-save-mode 1) \
        (insert \"hello\") (do-auto-save t) (save-buffer) \
        (insert \" again\") (save-buffer) (kill-emacs 0))";
    let line = format!("emacs -nw -Q --eval '{program}'");
    saves(
        &[".#notes.txt", "#notes.txt#", "notes.txt~", "notes.txt"],
        |dir| {
            in_terminal(dir, &line, None);
        },
    );
}

#[test]
fn nano_saves() {
    if is_missing("nano", "nano_saves") {
        return;
    }
    saves(&[".notes.txt.swp", "notes.txt"], |dir| {
        let typing = Typing {
            shown: "notes.txt",
            keys: "hello\u{f}\r\u{18}",
        };
        in_terminal(
            dir,
            "nano --ignorercfiles --locking notes.txt",
            Some(&typing),
        );
    });
}

#[test]
fn sed_saves() {
    saves(&["notes.txt"], |dir| {
        let status = command("sed")
            .args(["-i", "s/first/hello/", "notes.txt"])
            .current_dir(dir)
            .status();
        assert!(status.unwrap().success());
    });
}
