//! Git's traps: repositories of every kind, and contents that a careless program commits wrongly.
//!
//! Every row of `tests/TRAPS.md` names its test. Each test here runs with the git of the machine,
//! and with `/usr/bin/git` too where that is another version.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use autosync::engine::action::{Job, Scope, Trigger};
use autosync::names::RepoPath;
use autosync::repo::folder::Folder;
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, mkfifoat, utimensat};

use crate::network::skipped;
use crate::pair::{Host, Pair};
use crate::snapshot::settings;
use crate::support::Sandbox;

/// The gits of this machine.
fn gits() -> Vec<PathBuf> {
    let first = std::env::var_os("AUTOSYNC_GIT").map_or_else(
        || {
            let path = std::env::var_os("PATH").unwrap();
            let mut all = std::env::split_paths(&path).map(|dir| dir.join("git"));
            all.find(|git| git.is_file()).unwrap()
        },
        PathBuf::from,
    );
    let second = PathBuf::from("/usr/bin/git");
    let version = |git: &Path| {
        let sandbox = Sandbox::new();
        let out = sandbox.command(git).arg("version").output();
        out.map(|out| out.stdout).unwrap_or_default()
    };
    let other = version(&second);
    if other.is_empty() || other == version(&first) {
        return vec![first];
    }
    vec![first, second]
}

/// A sandbox in which `git` is this one.
fn sandbox(git: &Path, name: &str) -> Sandbox {
    let sandbox = Sandbox::named(name);
    let dir = sandbox.root().join("bin");
    fs::create_dir(&dir).unwrap();
    symlink(git, dir.join("git")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", dir.display());
    sandbox.with("PATH", &path)
}

/// Runs a test with every git, in a folder without a hub.
fn each(init: &[&str], test: impl Fn(&Host)) {
    for git in gits() {
        let host = Host::new(sandbox(&git, "laptop"));
        fs::create_dir(&host.root).unwrap();
        let mut args = vec!["init", "-q"];
        args.extend(init);
        let ran = host.try_git(&args);
        if ran.code != Some(0) {
            skipped(
                "sha256_and_reftable_go_through_the_program",
                &format!(
                    "{} of {}: {}",
                    args.join(" "),
                    git.display(),
                    ran.err.trim_end()
                ),
            );
            continue;
        }
        test(&host);
    }
}

/// Syncs, which succeeds, and leaves a clean tree and a whole repository.
#[track_caller]
fn settles(host: &Host) {
    syncs(host);
    assert_eq!(host.git(&["status", "--porcelain"]), "");
}

#[track_caller]
fn syncs(host: &Host) {
    let ran = host.once();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    host.assert_sound("trap");
}

fn tracked(host: &Host) -> Vec<String> {
    let list = host.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    list.lines().map(str::to_owned).collect()
}

fn blob(host: &Host, path: &str) -> String {
    host.git(&["cat-file", "blob", &format!("HEAD:{path}")])
}

#[test]
fn a_filter_stores_what_it_makes_and_a_failing_one_nothing() {
    each(&[], |host| {
        let attributes = "*.sec filter=rot\n*.lost filter=missing\n*.bad filter=fails\n";
        host.write(".gitattributes", attributes);
        host.git(&["config", "filter.rot.clean", "tr a-z n-za-m"]);
        host.git(&["config", "filter.rot.smudge", "tr a-z n-za-m"]);
        host.git(&["config", "filter.rot.required", "true"]);
        host.git(&["config", "filter.fails.clean", "false"]);
        host.git(&["config", "filter.fails.required", "true"]);
        host.write("a.sec", "secret\n");
        host.write("b.lost", "plain-lost\n");
        host.write("c.bad", "plain-bad\n");
        host.write("other", "other\n");
        let ran = host.once();
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.out.contains("Held: "), "{ran:?}");
        assert_eq!(blob(host, "a.sec"), "frperg");
        assert_eq!(tracked(host), [".gitattributes", "a.sec", "other"]);
        let mut command = host.sandbox.command("git");
        command.args(["cat-file", "--batch-all-objects", "--batch"]);
        let all = command.current_dir(&host.root).output().unwrap().stdout;
        let all = String::from_utf8_lossy(&all).into_owned();
        for plain in ["secret\n", "plain-lost", "plain-bad"] {
            assert!(!all.contains(plain), "{plain} is in the repository");
        }
    });
}

#[test]
fn line_ends_idents_and_encodings_are_what_git_makes_of_them() {
    each(&[], |host| {
        let attributes = "*.crlf text eol=crlf\n*.id ident\n*.u16 working-tree-encoding=UTF-16LE\n";
        host.write(".gitattributes", attributes);
        host.write("a.crlf", "one\r\ntwo\r\n");
        host.write("a.id", "$Id: 0123 $\n");
        host.write("a.u16", b"h\0i\0");
        settles(host);
        assert_eq!(blob(host, "a.crlf"), "one\ntwo");
        assert_eq!(blob(host, "a.id"), "$Id$");
        assert_eq!(blob(host, "a.u16"), "hi");
        host.git(&["config", "core.autocrlf", "input"]);
        host.write("b.txt", "one\r\n");
        settles(host);
        assert_eq!(host.git(&["cat-file", "-s", "HEAD:b.txt"]), "4");
    });
}

#[test]
fn ignored_by_three_files_and_tracked_all_the_same() {
    each(&[], |host| {
        let global = host.sandbox.write("global-ignore", "*.global\n");
        host.git(&["config", "core.excludesFile", global.to_str().unwrap()]);
        host.write(".git/info/exclude", "*.exclude\n");
        host.write("tracked.log", "1\n");
        settles(host);
        host.write(".gitignore", "*.log\n/build/\n");
        for name in ["a.global", "a.exclude", "a.log", "build/out"] {
            host.write(name, "SECRET\n");
        }
        host.write("tracked.log", "2\n");
        settles(host);
        assert_eq!(tracked(host), [".gitignore", "tracked.log"]);
        assert_eq!(blob(host, "tracked.log"), "2");
    });
}

#[test]
fn a_fifo_is_not_read_and_stops_nothing() {
    each(&[], |host| {
        mkfifoat(CWD, host.at("pipe"), Mode::RWXU).unwrap();
        host.write("file", "1\n");
        syncs(host);
        assert_eq!(tracked(host), ["file"]);
        host.remove("file");
        mkfifoat(CWD, host.at("file"), Mode::RWXU).unwrap();
        let _ran = host.once();
        host.assert_sound("fifo");
    });
}

#[test]
fn nothing_behind_a_link_to_a_directory_is_taken() {
    each(&[], |host| {
        host.write("dir/file", "1\n");
        settles(host);
        host.sandbox.write("outside/file", "SECRET\n");
        fs::remove_dir_all(host.at("dir")).unwrap();
        symlink(host.sandbox.root().join("outside"), host.at("dir")).unwrap();
        settles(host);
        assert_eq!(tracked(host), ["dir"]);
        assert!(host.git(&["ls-tree", "HEAD", "dir"]).starts_with("120000"));
    });
}

#[test]
fn a_sparse_checkout_deletes_nothing() {
    for args in [
        &["sparse-checkout", "set", "--no-cone", "/in/"][..],
        &["sparse-checkout", "set", "--cone", "in"],
        &["sparse-checkout", "set", "--cone", "--sparse-index", "in"],
    ] {
        each(&[], |host| {
            host.write("in/file", "1\n");
            host.write("out/file", "1\n");
            host.write("out/deep/file", "1\n");
            settles(host);
            host.git(&["config", "advice.sparseIndexExpanded", "false"]);
            host.git(args);
            assert!(!host.at("out/file").exists());
            host.write("in/file", "2\n");
            host.write("in/new", "2\n");
            settles(host);
            assert_eq!(
                tracked(host),
                ["in/file", "in/new", "out/deep/file", "out/file"]
            );
            assert_eq!(blob(host, "in/file"), "2");
            host.git(&["sparse-checkout", "disable"]);
            assert_eq!(host.read("out/deep/file"), "1\n");
            settles(host);
        });
    }
}

#[test]
fn a_split_index_stays_whole() {
    each(&[], |host| {
        host.write("a", "1\n");
        settles(host);
        host.git(&["update-index", "--split-index"]);
        host.write("a", "2\n");
        host.write("b", "2\n");
        settles(host);
        host.remove("a");
        settles(host);
        assert_eq!(tracked(host), ["b"]);
    });
}

#[test]
fn sha256_and_reftable_go_through_the_program() {
    for init in [&["--object-format=sha256"][..], &["--ref-format=reftable"]] {
        each(init, |host| {
            host.write("a", "1\n");
            settles(host);
            host.write("a", "2\n");
            host.write("dir/b", "2\n");
            settles(host);
            assert_eq!(tracked(host), ["a", "dir/b"]);
            assert_eq!(host.git(&["rev-list", "--count", "HEAD"]), "2");
            // Nothing is left of what was done but the log of it.
            let names = ["for-each-ref", "--format=%(refname)", "refs/worktree"];
            assert_eq!(host.git(&names), "refs/worktree/autosync/log");
        });
    }
}

#[test]
fn a_second_worktree_and_a_git_dir_elsewhere() {
    each(&[], |host| {
        host.write("a", "1\n");
        settles(host);
        let second = host.sandbox.root().join("second");
        let place = second.to_str().unwrap();
        host.git(&["worktree", "add", "-q", "-b", "other", place]);
        fs::write(second.join("b"), "2\n").unwrap();
        let ran = host.sandbox.run(["once", place]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(host.git(&["show", "other:b"]), "2");
        assert_eq!(tracked(host), ["a"]);
        assert!(!host.at(".git/autosync/journal").exists());
    });
    for git in gits() {
        let host = Host::new(sandbox(&git, "laptop"));
        fs::create_dir(&host.root).unwrap();
        host.git(&["init", "-q", "--separate-git-dir", "../elsewhere"]);
        host.write("a", "1\n");
        settles(&host);
        assert_eq!(tracked(&host), ["a"]);
    }
}

#[test]
fn bare_dotfiles_take_only_what_is_tracked() {
    for git in gits() {
        let host = Host::new(sandbox(&git, "laptop"));
        fs::create_dir(&host.root).unwrap();
        let dir = host.sandbox.root().join("dot.git");
        let (dir, root) = (dir.to_str().unwrap(), host.root.to_str().unwrap());
        host.sandbox.git(&host.root, ["init", "-q", "--bare", dir]);
        let dot = |args: &[&str]| {
            let mut all = vec!["--git-dir", dir, "--work-tree", root];
            all.extend(args);
            host.git(&all)
        };
        dot(&["config", "core.bare", "false"]);
        dot(&["config", "core.worktree", root]);
        dot(&["config", "status.showUntrackedFiles", "no"]);
        host.write(".vimrc", "1\n");
        host.write("private/diary", "SECRET\n");
        dot(&["add", ".vimrc"]);
        dot(&["commit", "-qm", "first"]);
        host.write(".vimrc", "2\n");
        host.write(".ssh/id", "SECRET\n");
        host.sandbox.config(&format!(
            "[[folder]]\npath = \"{root}\"\ngit_dir = \"{dir}\"\n"
        ));
        let ran = host.once();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(dot(&["show", "HEAD:.vimrc"]), "2");
        assert_eq!(dot(&["ls-tree", "-r", "--name-only", "HEAD"]), ".vimrc");
        // What the user adds is theirs to add.
        host.write(".profile", "1\n");
        dot(&["add", ".profile"]);
        let ran = host.once();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(dot(&["show", "HEAD:.profile"]), "1");
    }
}

#[test]
fn repositories_inside_are_left_alone() {
    each(&[], |host| {
        host.write("file", "1\n");
        for (name, commit) in [("with", true), ("without", false)] {
            let inner = host.at(name);
            fs::create_dir(&inner).unwrap();
            host.sandbox.git(&inner, ["init", "-q"]);
            fs::write(inner.join("inner"), "SECRET\n").unwrap();
            if commit {
                host.sandbox.git(&inner, ["add", "."]);
                host.sandbox.git(&inner, ["commit", "-qm", "inner"]);
            }
        }
        syncs(host);
        assert_eq!(tracked(host), ["file"]);
    });
}

#[test]
fn a_file_becomes_a_directory_and_back() {
    each(&[], |host| {
        host.write("a", "1\n");
        host.write("d/x", "1\n");
        settles(host);
        host.remove("a");
        host.write("a/inside", "2\n");
        fs::remove_dir_all(host.at("d")).unwrap();
        host.write("d", "2\n");
        settles(host);
        assert_eq!(tracked(host), ["a/inside", "d"]);
    });
}

#[test]
fn where_modes_mean_nothing_they_are_not_committed() {
    each(&[], |host| {
        host.git(&["config", "core.fileMode", "false"]);
        host.write("a", "1\n");
        settles(host);
        let tip = host.git(&["rev-parse", "HEAD"]);
        host.chmod("a", 0o755);
        settles(host);
        assert_eq!(host.git(&["rev-parse", "HEAD"]), tip);
    });
}

#[test]
fn no_hook_runs_and_nothing_is_signed() {
    each(&[], |host| {
        let ran = host.sandbox.root().join("ran");
        let script = format!("#!/bin/sh\necho \"$0\" >>'{}'\nexit 1\n", ran.display());
        for hook in [
            "pre-commit",
            "commit-msg",
            "post-commit",
            "post-checkout",
            "post-merge",
            "pre-push",
            "post-index-change",
            "reference-transaction",
        ] {
            let path = host.write(&format!(".git/hooks/{hook}"), &script);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let gpg = host.sandbox.write("gpg", &script);
        fs::set_permissions(&gpg, fs::Permissions::from_mode(0o755)).unwrap();
        host.git(&["config", "commit.gpgSign", "true"]);
        host.git(&["config", "gpg.program", gpg.to_str().unwrap()]);
        host.write("a", "1\n");
        let synced = host.once();
        assert_eq!(synced.code, Some(0), "{synced:?}");
        assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap());
        assert_eq!(tracked(host), ["a"]);
    });
}

#[test]
fn nobody_has_a_name() {
    each(&[], |host| {
        let config = "[init]\ndefaultBranch = main\n[user]\nuseConfigOnly = true\n";
        host.sandbox.write("home/.gitconfig", config);
        host.write("a", "1\n");
        settles(host);
        assert!(host.git(&["log", "--format=%ae"]).ends_with("@laptop"));
    });
}

#[test]
fn names_that_are_no_text() {
    each(&[], |host| {
        let names: [&[u8]; 6] = [
            b"caf\xe9",
            b"new\nline",
            b"tab\there",
            b"-dash",
            b"\"quoted\"",
            b":(glob)*",
        ];
        for name in names {
            fs::write(host.root.join(OsStr::from_bytes(name)), "1\n").unwrap();
        }
        settles(host);
        assert_eq!(tracked(host).len(), names.len());
        for name in names {
            fs::write(host.root.join(OsStr::from_bytes(name)), "22\n").unwrap();
        }
        settles(host);
        assert_eq!(host.git(&["rev-list", "--count", "HEAD"]), "2");
        fs::remove_file(host.root.join(OsStr::from_bytes(names[0]))).unwrap();
        settles(host);
        assert_eq!(tracked(host).len(), names.len() - 1);
    });
}

#[test]
fn an_edit_of_the_same_size_in_the_same_tick_is_seen() {
    each(&[], |host| {
        let file = host.write("a", "aaaa\n");
        let time = Timespec {
            tv_sec: 1_700_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
        settles(host);
        fs::write(&file, "bbbb\n").unwrap();
        utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
        // `git status` compares whole seconds and may miss this one; the watcher names the path,
        // and a path that is named is read.
        let mut folder = Folder::open(settings(&host.root)).unwrap();
        let job = Job::Snapshot {
            scope: Scope::Paths([RepoPath::new("a").unwrap()].into()),
            even_open: [].into(),
            trigger: Trigger::Edit,
            approved: false,
        };
        let _outcome = folder.run(job, &mut |_| {});
        drop(folder);
        assert_eq!(blob(host, "a"), "bbbb");
        // Right after our own write of the index, with no other time in between.
        for n in 0..5 {
            fs::write(&file, format!("{n}{n}{n}{n}\n")).unwrap();
            settles(host);
            assert_eq!(blob(host, "a"), format!("{n}{n}{n}{n}"));
        }
    });
}

#[test]
fn what_is_written_while_it_is_taken_is_taken_again() {
    each(&[], |host| {
        for (step, text) in [
            ("S2.candidates", "longer than before\n"),
            ("S3.bytes", "while it is read\n"),
            ("S3.read", "x\n"),
            ("S4.pending", ""),
            ("S6.index", "again something else\n"),
        ] {
            host.write("a", "TOKEN-first\n");
            let stopped = host.once_until(step);
            host.write("a", text);
            let _ran = stopped.go_on();
            if step == "S3.bytes" {
                // What changed under the reading may be half of each, so nothing of it is taken.
                let all = host.git(&["log", "--all", "--format=", "-p", "--", "a"]);
                assert!(!all.contains("TOKEN-first"), "{all}");
            }
            settles(host);
            assert_eq!(blob(host, "a"), text.trim_end(), "{step}");
            host.git(&["rm", "-q", "a"]);
            settles(host);
        }
    });
}

#[test]
fn a_shallow_clone_syncs() {
    for git in gits() {
        let pair = Pair::of(
            sandbox(&git, "laptop"),
            sandbox(&git, "server"),
            &[("a", "1\n")],
        );
        pair.laptop.write("a", "2\n");
        let _ran = pair.laptop.once().ok();
        let shallow = Host::new(sandbox(&git, "third"));
        let url = format!("file://{}", pair.hub.display());
        let root = shallow.root.to_str().unwrap();
        let home = shallow.sandbox.home();
        shallow
            .sandbox
            .git(&home, ["clone", "-q", "--depth=1", &url, root]);
        shallow.write("b", "TOKEN-b\n");
        settles(&shallow);
        pair.server.write("c", "TOKEN-c\n");
        pair.converge("shallow");
        settles(&shallow);
        assert_eq!(shallow.read("c"), "TOKEN-c\n");
        assert_eq!(pair.laptop.read("b"), "TOKEN-b\n");
        assert_eq!(
            shallow.git(&["rev-parse", "--is-shallow-repository"]),
            "true"
        );
        // The hub was asked for what it is.
        let id = |host: &Host| host.git(&["config", "autosync.id"]);
        assert_eq!(id(&shallow), id(&pair.laptop));
        pair.assert_settled("shallow");
    }
}

#[test]
fn a_partial_clone_syncs() {
    const LINES: &str = "one\ntwo\nthree\nfour\nfive\n";
    for git in gits() {
        let old = "1".repeat(10_000);
        let pair = Pair::of(
            sandbox(&git, "laptop"),
            sandbox(&git, "server"),
            &[("a", "1\n"), ("both", LINES), ("dir/big", &old)],
        );
        pair.laptop.write("dir/big", "2".repeat(10_000));
        let _ran = pair.laptop.once().ok();
        let hub = &pair.hub;
        let set = |key: &str| pair.laptop.sandbox.git(hub, ["config", key, "true"]);
        set("uploadpack.allowFilter");
        set("uploadpack.allowAnySHA1InWant");
        let partial = Host::new(sandbox(&git, "third"));
        let url = format!("file://{}", hub.display());
        let root = partial.root.to_str().unwrap();
        let home = partial.sandbox.home();
        let clone = ["clone", "-q", "--filter=blob:none", &url, root];
        partial.sandbox.git(&home, clone);
        let missing = ["rev-list", "--objects", "--all", "--missing=print"];
        let is_missing = |host: &Host| host.git(&missing).contains('?');
        assert!(is_missing(&partial), "old contents are not here");

        partial.write("b", "TOKEN-b\n");
        partial.write("a", "TOKEN-a\n");
        syncs(&partial);
        pair.converge("edits");
        pair.server.write("c", "TOKEN-c\n");
        pair.server.write("dir/big", "TOKEN-big\n");
        pair.server.write("both", LINES.replace("one", "TOKEN-one"));
        pair.converge("partial");
        partial.write("both", LINES.replace("five", "TOKEN-five"));
        syncs(&partial);
        assert_eq!(partial.read("c"), "TOKEN-c\n");
        assert_eq!(partial.read("dir/big"), "TOKEN-big\n");
        let both = LINES
            .replace("one", "TOKEN-one")
            .replace("five", "TOKEN-five");
        assert_eq!(partial.read("both"), both);
        pair.converge("merged");
        assert_eq!(pair.laptop.read("b"), "TOKEN-b\n");
        assert_eq!(pair.laptop.read("a"), "TOKEN-a\n");
        assert_eq!(partial.git(&["status", "--porcelain"]), "");
        assert!(is_missing(&partial), "nor were they fetched for nothing");
        pair.assert_settled("partial");
    }
}

#[test]
fn twins_by_case_and_by_unicode_are_two_files_here() {
    for git in gits() {
        let pair = Pair::of(
            sandbox(&git, "laptop"),
            sandbox(&git, "server"),
            &[("a", "1\n")],
        );
        for (name, text) in [
            ("A", "2\n"),
            ("caf\u{e9}", "nfc\n"),
            ("cafe\u{301}", "nfd\n"),
        ] {
            pair.laptop.write(name, text);
        }
        pair.converge("twins");
        pair.assert_settled("twins");
        let tree = pair.server.tree();
        assert_eq!((tree["a"].as_str(), tree["A"].as_str()), ("1\n", "2\n"));
        assert_eq!(tree["caf\u{e9}"], "nfc\n");
        assert_eq!(tree["cafe\u{301}"], "nfd\n");
    }
}

#[test]
fn a_large_index_keeps_its_form() {
    each(&[], |host| {
        for n in 0..3000 {
            host.write(&format!("d{}/f{n}", n % 30), format!("{n}\n"));
        }
        settles(host);
        host.git(&["update-index", "--index-version", "4"]);
        host.git(&["config", "feature.manyFiles", "true"]);
        host.git(&["config", "index.skipHash", "true"]);
        host.git(&["update-index", "--force-write-index"]);
        host.write("d7/f7", "new\n");
        host.remove("d8/f8");
        settles(host);
        assert_eq!(host.git(&["rev-list", "--count", "HEAD"]), "2");
        assert_eq!(tracked(host).len(), 2999);
    });
}

#[test]
fn variables_of_another_git_do_not_reach_us() {
    for git in gits() {
        let other = Sandbox::new();
        other.git(other.root(), ["init", "-q", "other"]);
        let dir = other.root().join("other/.git");
        let dir = dir.to_str().unwrap();
        let clean = Host::new(sandbox(&git, "laptop"));
        fs::create_dir(&clean.root).unwrap();
        clean.git(&["init", "-q"]);
        clean.write("a", "1\n");
        let mut command = clean.sandbox.command(crate::support::PROGRAM);
        command.arg("once").arg(&clean.root);
        for (name, value) in [
            ("GIT_DIR", dir),
            ("GIT_WORK_TREE", "/"),
            ("GIT_INDEX_FILE", "/nowhere"),
            ("GIT_OBJECT_DIRECTORY", "/nowhere"),
            ("GIT_NAMESPACE", "x"),
            ("GIT_EDITOR", "false"),
        ] {
            command.env(name, value);
        }
        assert!(command.output().unwrap().status.success());
        assert_eq!(tracked(&clean), ["a"]);
        assert_eq!(clean.git(&["status", "--porcelain"]), "");
    }
}

/// Returns whether a test of this name, `module::name`, exists: here, or beside the code.
pub(crate) fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    let module = module.replace("::", "/");
    ["tests/it", "src"].iter().any(|place| {
        let file = format!("{}/{place}/{module}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.contains(&format!("#[test]\nfn {name}()"))
    })
}

#[test]
fn the_table_names_tests_that_exist_and_all_of_these() {
    let place = env!("CARGO_MANIFEST_DIR");
    let table = fs::read_to_string(format!("{place}/tests/TRAPS.md")).unwrap();
    let mut named = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{line}");
        for test in cells[1].split(", ") {
            let test = test.trim_matches('`');
            assert!(exists(test), "{test} of the row `{}` is no test", cells[0]);
            named.push(test.to_owned());
        }
    }
    assert!(named.len() > 25, "{named:?}");
    let here = fs::read_to_string(format!("{place}/tests/it/traps.rs")).unwrap();
    for part in here.split("#[test]\nfn ").skip(1) {
        let name = part.split('(').next().unwrap();
        if !name.starts_with("the_table") && !name.contains(' ') {
            let name = format!("traps::{name}");
            assert!(named.contains(&name), "{name} is in no row");
        }
    }
}
