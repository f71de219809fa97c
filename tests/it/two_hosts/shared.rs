//! A hub that a group shares: made with `init --shared`, used by two users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Gid, Uid, chown};

use crate::network::skipped;
use crate::support::{PROGRAM, Ran, Sandbox, ended};

/// The group of both users; no machine has one of this number.
const GROUP: u32 = 212_300;

/// Returns everything below a directory, and the directory.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// Asserts that a group may add to a hub and read all of it.
#[track_caller]
fn assert_groups(hub: &Path) {
    for path in everything(hub) {
        let meta = fs::metadata(&path).unwrap();
        let mode = meta.mode();
        let wanted = if meta.is_dir() { 0o2070 } else { 0o040 };
        assert_eq!(mode & wanted, wanted, "{}: {mode:o}", path.display());
    }
}

#[test]
fn a_hub_made_with_shared_is_the_groups_and_stays_so() {
    let laptop = Sandbox::named("laptop");
    // Whatever the user keeps to himself otherwise.
    let run = |args: &[&str]| {
        let mut command = laptop.command("sh");
        let script = "umask 077; exec \"$0\" \"$@\"";
        command.args(["-c", script, PROGRAM]).args(args);
        ended(command.output().unwrap())
    };
    laptop.write("home/Sync/a", "1\n");
    let hub = laptop.root().join("hub.git");
    let place = hub.to_str().unwrap();
    run(&["init", "Sync", "--hub", place, "--shared"]).ok();
    assert_groups(&hub);
    let shared = laptop.git(&hub, ["config", "core.sharedRepository"]);
    assert_eq!(shared, "1");
    assert_eq!(laptop.git(&hub, ["show", "main:a"]), "1");
    // A push into the hub that is there, one of a file and one of many.
    for count in [1, 150] {
        for number in 0..count {
            laptop.write(
                &format!("home/Sync/{count}/{number}"),
                format!("{number}\n"),
            );
        }
        run(&["once", "Sync"]).ok();
        let there = laptop.git(&hub, ["ls-tree", "-r", "--name-only", "main"]);
        assert!(there.lines().count() > count, "{there}");
        assert_groups(&hub);
    }
    // Without the word it is nobody else's.
    let own = laptop.root().join("own.git");
    laptop.write("home/Own/a", "1\n");
    run(&["init", "Own", "--hub", own.to_str().unwrap()]).ok();
    assert_eq!(fs::metadata(own.join("objects")).unwrap().mode() & 0o077, 0);
}

/// A user of the group with a home of his own.
struct User {
    sandbox: Sandbox,
    id: u32,
}

impl User {
    fn new(host: &str, id: u32) -> Self {
        let sandbox = Sandbox::named(host);
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(sandbox.root(), open).unwrap();
        for path in everything(sandbox.root()) {
            chown(&path, Some(Uid::from_raw(id)), Some(Gid::from_raw(GROUP))).unwrap();
        }
        Self { sandbox, id }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(program);
        command.args(args).uid(self.id).gid(GROUP);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Ran {
        ended(self.command(program, args).output().unwrap())
    }

    /// Writes a file in the folder as this user.
    fn write(&self, name: &str, text: &str) {
        let script = "mkdir -p Sync; printf %s \"$1\" >\"Sync/$0\"";
        self.run("sh", &["-c", script, name, text]).ok();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox.home().join("Sync").join(name)).unwrap()
    }
}

#[test]
fn two_users_of_a_group_share_a_hub() {
    if !rustix::process::geteuid().is_root() {
        skipped("two_users_of_a_group_share_a_hub", "needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(place.path(), open).unwrap();
    let hub = place.path().join("hub.git");
    let hub = hub.to_str().unwrap();
    // Where the program was built may be nobody else's to look at.
    let program = place.path().join("autosync");
    fs::copy(PROGRAM, &program).unwrap();
    let program = program.to_str().unwrap();
    let (anna, ben) = (User::new("laptop", 212_301), User::new("server", 212_302));
    if let Err(error) = anna.command("true", &[]).output() {
        let why = format!("others do not get to {}: {error}", place.path().display());
        skipped("two_users_of_a_group_share_a_hub", &why);
        return;
    }
    anna.write("a", "1\n");
    anna.run(program, &["init", "Sync", "--hub", hub, "--shared"])
        .ok();

    // git trusts nobody else's repository before it is told to.
    let ran = ben.run(program, &["clone", hub, "Sync"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("belongs to another user"), "{ran:?}");
    assert!(ran.err.contains("safe.directory"), "{ran:?}");
    ben.run("git", &["config", "--global", "safe.directory", hub])
        .ok();
    ben.run(program, &["clone", hub, "Sync"]).ok();
    assert_eq!(ben.read("a"), "1\n");
    // Each adds to what the other made there: directories of objects, the branch, packs.
    for round in 0..6 {
        let (here, there) = if round % 2 == 0 {
            (&ben, &anna)
        } else {
            (&anna, &ben)
        };
        let text = format!("{round}\n").repeat(round + 1);
        here.write("a", &text);
        here.write(&format!("new{round}"), &text);
        here.run(program, &["once", "Sync"]).ok();
        there.run(program, &["once", "Sync"]).ok();
        assert_eq!(there.read("a"), text);
        assert_eq!(there.read(&format!("new{round}")), text);
    }
    assert_groups(Path::new(hub));
    anna.run("git", &["--git-dir", hub, "fsck", "--strict"])
        .ok();
}
