//! Dangerous names: our verdict beside git's own.

use std::collections::BTreeMap;

use autosync::git::objects::Kind;
use autosync::git::tree::{DIRECTORY, EXECUTABLE, Entry, FILE, GITLINK, Line, SYMLINK};
use autosync::names::{ObjectId, RepoPath, danger};

use super::lab::Lab;

/// Names that somebody tried, or may try.
fn corpus() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        ".git",
        ".GIT",
        ".Git",
        "git~1",
        "GIT~1",
        "gIt~1",
        "git~2",
        "git~10",
        ".git ",
        ".git.",
        ".git. .",
        ".git...",
        ".git::$INDEX_ALLOCATION",
        ".git:",
        ".git:x",
        ".git\\",
        ".git\\x",
        "x\\.git",
        "x\\.git\\y",
        "x\\git~1",
        "x\\GIT~1 ",
        ".gitx",
        ".git-",
        "xgit~1",
        "x.git",
        ".git~1",
        "git",
        "git~",
        "git~1x",
        "git~1 ",
        "git~1.",
        "git~1:x",
        "git~1\\x",
        ".gitmodules",
        ".GITMODULES",
        ".gitmodules ",
        ".gitmodules.",
        ".gitmodules:x",
        "gitmod~1",
        "GITMOD~2",
        "gitmod~4",
        "gitmod~5",
        "gitmod~0",
        "gitmod~1 ",
        "gitmod~1.x",
        "gi7eba~1",
        "GI7EBA~9",
        "gi7eb~10",
        "gi7e~123",
        "g~123456",
        "~1234567",
        "gi7eba~0",
        "gi7eba~x",
        "gi7ebax~1",
        "gi7d29~1",
        ".gitattributes",
        ".gitignore",
        ".mailmap",
        "gi250a~1",
        "x\\.gitmodules",
        "x\\gitmod~1",
        "CON",
        "aux.txt",
        "a:b",
        "a\u{1b}[31m",
        "-rf",
        " ",
        "...",
        "a ",
        "a.",
        "dev-disk-by\\x2duuid.device",
        "back\\slash",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    // Characters that HFS+ ignores, at every place of the name.
    let ignored = [
        "\u{200c}", "\u{200d}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202e}", "\u{206a}",
        "\u{206f}", "\u{feff}",
    ];
    for mark in ignored {
        for word in [".git", ".GIT", ".gitmodules"] {
            for at in [0, 1, 3, word.len()] {
                let (head, tail) = word.split_at(at);
                names.push(format!("{head}{mark}{tail}").into_bytes());
            }
        }
    }
    for mark in ["\u{200b}", "\u{2010}", "\u{e9}"] {
        names.push(format!(".gi{mark}t").into_bytes());
    }
    names.push(b".g\xe2\x80it".to_vec());
    names.push(b"\xff\xfe".to_vec());
    names.push(".git\u{200c}\\x".as_bytes().to_vec());
    names
}

/// Asks `git fsck` about a tree for every name with every mode.
///
/// Returns what it holds against each of them.
fn by_git(lab: &Lab) -> Vec<(Vec<u8>, u32, Option<String>)> {
    let objects = &lab.place.objects;
    let blob = objects.write(Kind::Blob, b"target").unwrap();
    let inner = Line {
        name: b"x".to_vec(),
        entry: Entry {
            mode: FILE,
            id: blob,
        },
    };
    let dir = objects.write_tree(vec![inner]).unwrap();
    let mut trees = Vec::new();
    for name in corpus() {
        for mode in [FILE, EXECUTABLE, SYMLINK, DIRECTORY, GITLINK] {
            let id = match mode {
                DIRECTORY => dir,
                GITLINK => ObjectId::from_hex("1".repeat(40)).unwrap(),
                _ => blob,
            };
            let line = Line {
                name: name.clone(),
                entry: Entry { mode, id },
            };
            let tree = objects.write_tree(vec![line]).unwrap();
            trees.push((name.clone(), mode, tree));
        }
    }
    let done = lab
        .place
        .git
        .ask("fsck", ["--strict", "--no-dangling"], b"");
    let done = done.unwrap();
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut errors: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines() {
        // `error in tree ID: kind: words`; warnings are about what git does obey.
        if let Some(rest) = line.strip_prefix("error in tree ")
            && let Some((id, why)) = rest.split_once(": ")
        {
            errors.insert(id.to_owned(), why.to_owned());
        }
    }
    assert!(errors.len() > 100, "{text}");
    trees
        .into_iter()
        .map(|(name, mode, tree)| {
            let why = errors.get(&tree.to_string()).cloned();
            (name, mode, why)
        })
        .collect()
}

#[test]
fn what_gits_fsck_refuses_is_dangerous_and_nothing_else_is() {
    let lab = Lab::new();
    let mut wrong = Vec::new();
    for (name, mode, git) in by_git(&lab) {
        let ours = danger(&RepoPath::new(&name).unwrap(), mode);
        if ours.is_some() != git.is_some() {
            let name = String::from_utf8_lossy(&name).escape_debug().to_string();
            wrong.push(format!("{name} {mode:o}: ours {ours:?}, git {git:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_git_would_not_check_out_is_dangerous() {
    let lab = Lab::new();
    for key in ["core.protectHFS", "core.protectNTFS"] {
        lab.place.git.set_config(key, "true").unwrap();
    }
    let blob = lab.place.objects.write(Kind::Blob, b"target").unwrap();
    let mut refused = 0;
    for name in corpus() {
        for (mode, word) in [(FILE, "100644"), (SYMLINK, "120000")] {
            let path = RepoPath::new(&name).unwrap();
            let line = [
                format!("{word} {blob}\t").as_bytes(),
                name.as_slice(),
                b"\0",
            ]
            .concat();
            let args = ["-z", "--index-info"];
            let done = lab.place.git.ask("update-index", args, &line).unwrap();
            if !done.status.success() || !done.stderr.is_empty() {
                refused += 1;
                assert!(danger(&path, mode).is_some(), "{path} {mode:o}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn danger_is_seen_at_every_depth() {
    for path in [".git/x", "a/.GIT/hooks/y", "a/b/git~1", "a/\u{200d}.git/z"] {
        assert!(danger(&RepoPath::new(path).unwrap(), FILE).is_some());
    }
}
