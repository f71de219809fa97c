//! What stands where a repository is to be made: nothing, a repository, the beginning of one, or
//! something else, which is left as it is.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::{PROGRAM, Sandbox, ended};

/// Every file, link and directory below a directory, with its content.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let content = if kind.is_dir() {
                rest.push(path.clone());
                b"directory".to_vec()
            } else if kind.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            all.insert(path, content);
        }
    }
    all
}

/// A folder `~/Sync` with a file.
fn folder() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    sandbox.write("home/Sync/note", "mine\n");
    let root = sandbox.home().join("Sync").canonicalize().unwrap();
    (sandbox, root)
}

/// Asserts that every command refuses the folder with a sentence that has these words, and changes
/// nothing.
#[track_caller]
fn refused(sandbox: &Sandbox, root: &Path, words: &[&str]) {
    let before = everything(root);
    for command in ["run", "init", "once"] {
        let said = sandbox.run([command, "Sync"]).fails(10);
        for words in words {
            assert!(said.contains(words), "{command}: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
        assert_eq!(everything(root), before, "{command}");
    }
    let hubs = sandbox.paths().hubs();
    assert!(!hubs.exists(), "no hub is made for it");
}

#[test]
fn a_directory_that_is_no_repository_is_left_as_it_is() {
    let (sandbox, root) = folder();
    sandbox.write("home/Sync/.git/thesis", "the only one\n");
    let git = root.join(".git");
    let said = format!("`{}` is there and is no git repository. ", git.display());
    let hint = format!("run `autosync init {}`", root.display());
    refused(&sandbox, &root, &[&said, &hint, "Nothing was changed."]);
    // Done as it says.
    fs::rename(&git, root.join("kept")).unwrap();
    sandbox.run(["init", "Sync"]).ok();
    assert_eq!(
        sandbox.git(&root, ["show", "HEAD:kept/thesis"]),
        "the only one"
    );
}

#[test]
fn a_repository_without_its_head_is_damaged_and_not_made_anew() {
    let (sandbox, root) = folder();
    sandbox.run(["init", "Sync"]).ok();
    let tip = sandbox.git(&root, ["rev-parse", "HEAD"]);
    fs::rename(sandbox.paths().hubs(), sandbox.home().join("aside")).unwrap();
    let head = root.join(".git/HEAD");
    fs::remove_file(&head).unwrap();
    let hint = format!("`echo 'ref: refs/heads/main' > {}`", head.display());
    refused(&sandbox, &root, &["is damaged: it has no `HEAD`. ", &hint]);
    // Neither where only the references are left, nor where something of ours is.
    let aside = root.join("objects");
    fs::rename(root.join(".git/objects"), &aside).unwrap();
    refused(&sandbox, &root, &["is there and is no git repository"]);
    fs::rename(&aside, root.join(".git/objects")).unwrap();
    fs::rename(sandbox.home().join("aside"), sandbox.paths().hubs()).unwrap();
    fs::write(&head, "ref: refs/heads/main\n").unwrap();
    sandbox.run(["once", "Sync"]).ok();
    assert_eq!(sandbox.git(&root, ["rev-parse", "HEAD"]), tip);
}

#[test]
fn a_link_is_followed_and_one_that_leads_nowhere_is_said() {
    let (sandbox, root) = folder();
    let git = root.join(".git");
    let away = sandbox.home().join("disk/repository");
    for link in [true, false] {
        let leads = |to: &Path| {
            drop(fs::remove_file(&git));
            if link {
                symlink(to, &git).unwrap();
            } else {
                fs::write(&git, format!("gitdir: {}\n", to.display())).unwrap();
            }
        };
        leads(&away);
        let said = format!(
            "points to `{}`, where no git repository is. ",
            away.display()
        );
        refused(&sandbox, &root, &[&said, "mount its disk"]);
    }
    fs::write(&git, "something else\n").unwrap();
    refused(&sandbox, &root, &["is there and is no git repository. "]);
    fs::remove_file(&git).unwrap();
    let separate = ["init", "-q", "--separate-git-dir", away.to_str().unwrap()];
    fs::create_dir(away.parent().unwrap()).unwrap();
    sandbox.git(&root, separate);
    sandbox.run(["init", "Sync"]).ok();
    assert!(git.is_file());
    assert_eq!(sandbox.git(&away, ["show", "main:note"]), "mine");
}

#[test]
fn an_empty_directory_becomes_the_repository_unless_there_was_one() {
    let (sandbox, root) = folder();
    let git = root.join(".git");
    fs::create_dir(&git).unwrap();
    sandbox.run(["init", "Sync"]).ok();
    assert_eq!(sandbox.git(&root, ["show", "HEAD:note"]), "mine");
    // Now it may be where its disk was.
    let aside = sandbox.home().join("aside");
    fs::rename(&git, &aside).unwrap();
    fs::create_dir(&git).unwrap();
    let said = sandbox.run(["run", "Sync"]).fails(10);
    assert!(said.contains("put it back"), "{said}");
    assert!(everything(&git).is_empty(), "nothing is made in it");
}

/// A git that kills who started it in the middle of making a repository.
fn deadly(sandbox: &Sandbox, what: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in *\" init -q \"*) ;; *) exec git \"$@\" ;; esac\n\
         git \"$@\" || exit\n\
         for at do :; done\n\
         git=$at/.git\n\
         {what}\n\
         kill -KILL $PPID\n"
    );
    let program = sandbox.write("home/deadly-git", script);
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn a_making_that_was_killed_is_finished_by_the_next_start() {
    let states = [
        "true",
        "rm -r \"$git/objects\"",
        "rm -r \"$git/objects\"; mv \"$git/config\" \"$git/config.lock\"",
        "rm -r \"$git/objects\" \"$git/config\"; mv \"$git/HEAD\" \"$git/HEAD.lock\"",
        "rm -r \"$git/objects\" \"$git/config\" \"$git/HEAD\" \"$git/refs\"; : >\"$git/tAb3xYz\"",
    ];
    for state in states {
        let (sandbox, root) = folder();
        let git = root.join(".git");
        let mut command = sandbox.command(PROGRAM);
        command
            .args(["init", "Sync"])
            .env("AUTOSYNC_GIT", deadly(&sandbox, state));
        let killed = ended(command.output().unwrap());
        assert_eq!(killed.code, Some(137), "{state}: {killed:?}");
        assert!(git.is_dir(), "{state}");
        sandbox.run(["init", "Sync"]).ok();
        assert_eq!(sandbox.git(&root, ["show", "main:note"]), "mine", "{state}");
        let is_left = |path: &&PathBuf| {
            ["autosync/begun", "config.lock", "HEAD.lock"]
                .iter()
                .any(|name| path.ends_with(name))
        };
        let left = everything(&git);
        assert_eq!(left.keys().find(is_left), None, "{state}");
    }
}

#[test]
fn what_a_plain_git_init_that_was_killed_left_is_finished_too() {
    let (sandbox, root) = folder();
    sandbox.git(&root, ["init", "-q"]);
    fs::remove_file(root.join(".git/HEAD")).unwrap();
    sandbox.run(["init", "Sync"]).ok();
    assert_eq!(sandbox.git(&root, ["show", "HEAD:note"]), "mine");
}
