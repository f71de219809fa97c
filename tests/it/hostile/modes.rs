//! Modes that git never writes but obeys, and links that no disk takes: what they are, they are on
//! every host, and what a disk cannot have is left out there alone and never committed as absent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{commit, in_hub, pair};
use crate::support::host::{Pair, Stands};

/// The modes of files, and whether git takes them for executable (`canon_mode`).
const FILES: &[(&str, bool)] = &[
    ("100644", false),
    ("100755", true),
    ("100664", false),
    ("100600", false),
    ("100444", false),
    ("100655", false),
    ("100000", false),
    ("104644", false),
    ("100777", true),
    ("100700", true),
    ("100100", true),
    ("106755", true),
];

/// Modes of links and of directories.
const LINKS: &[&str] = &["120000", "120777", "120644"];
const DIRECTORIES: &[&str] = &["40000", "40755", "40700"];

/// Lines of a tree object: name, mode and id.
type Lines = BTreeMap<String, (String, String)>;

/// Stores a tree as it is, whatever git thinks of it.
fn store(pair: &Pair, lines: &Lines) -> String {
    let mut raw = Vec::new();
    for (name, (mode, id)) in lines {
        raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        let digits = id.as_bytes().chunks(2);
        raw.extend(digits.map(|two| {
            let two = std::str::from_utf8(two).unwrap();
            u8::from_str_radix(two, 16).unwrap()
        }));
    }
    let args = ["hash-object", "-t", "tree", "--literally", "-w", "--stdin"];
    in_hub(pair, &args, &raw)
}

fn blob(pair: &Pair, content: &[u8]) -> String {
    in_hub(pair, &["hash-object", "-w", "--stdin"], content)
}

/// Adds lines to the tree of the hub's branch, as they are, and commits that there.
fn add(pair: &Pair, more: Lines) {
    let mut lines = Lines::new();
    for line in in_hub(pair, &["ls-tree", "main"], b"").lines() {
        let (entry, name) = line.split_once('\t').unwrap();
        let parts: Vec<&str> = entry.split(' ').collect();
        let mode = parts[0].trim_start_matches('0');
        lines.insert(name.to_owned(), (mode.to_owned(), parts[2].to_owned()));
    }
    lines.extend(more);
    let tree = store(pair, &lines);
    commit(pair, &tree);
}

#[test]
fn what_has_a_mode_that_git_never_writes_comes_and_stays() {
    let pair = pair();
    for (mode, _) in FILES {
        pair.laptop.write(format!("old{mode}"), "old\n");
        pair.laptop.write(format!("same{mode}"), "same\n");
    }
    pair.equal();
    let mut lines = Lines::new();
    let mut wanted: BTreeMap<OsString, Stands> = BTreeMap::new();
    let mut file = |name: String, content: &str, executable| {
        let content = content.as_bytes().to_vec();
        wanted.insert(
            name.into(),
            Stands::File {
                content,
                executable,
            },
        );
    };
    let [old, new, same, to] =
        ["old\n", "new\n", "same\n", "a"].map(|it| blob(&pair, it.as_bytes()));
    assert_ne!(old, new);
    for (mode, executable) in FILES {
        for (name, content, id) in [
            ("old", "new\n", &new),
            ("new", "new\n", &new),
            ("same", "same\n", &same),
        ] {
            let name = format!("{name}{mode}");
            lines.insert(name.clone(), ((*mode).to_owned(), id.clone()));
            file(name, content, *executable);
        }
    }
    for mode in DIRECTORIES {
        let inner = [("100664", "f"), ("100777", "x")];
        let inner = inner.map(|(mode, name)| (name.to_owned(), (mode.to_owned(), new.clone())));
        let tree = store(&pair, &inner.into());
        lines.insert(format!("tree{mode}"), ((*mode).to_owned(), tree));
        file(format!("tree{mode}/f"), "new\n", false);
        file(format!("tree{mode}/x"), "new\n", true);
    }
    for mode in LINKS {
        lines.insert(format!("link{mode}"), ((*mode).to_owned(), to.clone()));
        wanted.insert(
            format!("link{mode}").into(),
            Stands::Link(PathBuf::from("a")),
        );
    }
    add(&pair, lines);
    let came = pair.tip();
    let stands = |when: &str| {
        let tip = pair.tip();
        for host in pair.hosts() {
            let tree = host.tree();
            for (name, stands) in &wanted {
                assert_eq!(tree.get(name), Some(stands), "{when}: {}", name.display());
            }
            // No host takes any of it for a change.
            let changed = host.git(["diff", "--name-only", &came, &tip]);
            let ours: Vec<&str> = changed.lines().filter(|name| *name != "b").collect();
            assert!(ours.is_empty(), "{when}: {ours:?}");
        }
    };
    for host in pair.hosts() {
        host.run(["sync"]).ok();
    }
    pair.quiet();
    stands("as it came");
    // Another look, another commit, and an agent that begins anew.
    pair.server.write("b", "1\n");
    pair.equal();
    stands("after a commit");
    let Pair {
        mut laptop,
        server,
        hub,
    } = pair;
    laptop.kill();
    laptop.start();
    let pair = Pair {
        laptop,
        server,
        hub,
    };
    pair.ends_well();
    // An edit is one of that file alone.
    pair.laptop.write("new100664", "edited\n");
    pair.server.sees("the edit", |root| {
        std::fs::read(root.join("new100664")).unwrap() == b"edited\n"
    });
    let tree = pair.ends_well();
    assert_eq!(tree.len(), wanted.len() + 2);
}

#[test]
fn a_link_that_no_disk_takes_is_left_out_alone() {
    let pair = pair();
    pair.laptop.write("was", "1\n");
    pair.equal();
    let long = "x/".repeat(2500);
    let targets: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("long", long.as_bytes()),
        ("nul", b"a\0b"),
        ("was", b""),
    ];
    let mut lines = Lines::new();
    for (name, target) in targets {
        let id = blob(&pair, target);
        lines.insert(name.to_owned(), ("120000".to_owned(), id));
    }
    let fine = blob(&pair, "y".repeat(4095).as_bytes());
    lines.insert("fine".to_owned(), ("120000".to_owned(), fine));
    lines.insert("z".to_owned(), ("100644".to_owned(), blob(&pair, b"1\n")));
    add(&pair, lines);
    for host in pair.hosts() {
        host.sees("the rest", |root| root.join("z").exists());
        let status = host.barrier();
        assert_eq!(status.code, "ok", "{status:#?}");
        let held = status.held.iter().find(|it| it.code == "not-representable");
        let held = held.unwrap();
        assert_eq!(held.paths, ["empty", "long", "nul", "was"], "{status:#?}");
        assert!(held.hint.contains("link"), "{held:?}");
        assert!(host.folder.join("fine").is_symlink());
        assert_eq!(host.read("was").as_deref(), Some("1\n"), "it waits");
    }
    // What comes later does not wait behind it, and nothing is deleted by not being here.
    pair.laptop.write("later", "1\n");
    pair.server
        .sees("what is later", |root| root.join("later").exists());
    pair.quiet();
    let all = in_hub(&pair, &["ls-tree", "-r", "main"], b"");
    for (name, _) in targets {
        let is = |line: &str| line.starts_with("120000") && line.ends_with(&format!("\t{name}"));
        assert!(all.lines().any(is), "{name}: {all}");
    }
    // Once it is a link that can be made, it comes.
    let id = blob(&pair, b"z");
    let names = targets.map(|(name, _)| (name.to_owned(), ("120000".to_owned(), id.clone())));
    add(&pair, names.into());
    for host in pair.hosts() {
        for (name, _) in targets {
            host.sees("the link", |root| root.join(name).is_symlink());
        }
        assert_eq!(host.barrier().held, []);
    }
    pair.ends_well();
}
