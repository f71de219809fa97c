//! Scenarios of smashbox that it cannot run against us as they are, through the shim that it uses.
//!
//! `tests/external/README.md` says how smashbox itself is run, and what came out. What is here is the
//! same in substance where a scenario asks its server over `WebDAV`, counts on empty directories, which
//! git does not know, or on conflict copies that stay on one client, which ours do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::support::host::{Stands, tree};
use crate::support::{PROGRAM, Sandbox, ended};

/// As smashbox names its server.
const URL: &str = "http://account:secret@hub.test/owncloud/remote.php/webdav";

/// Clients of one account, each a directory.
struct Clients(Sandbox);

impl Clients {
    fn new() -> Self {
        Self(Sandbox::in_memory("box"))
    }

    fn dir(&self, client: &str) -> PathBuf {
        self.0.root().join(client)
    }

    /// Syncs a client as smashbox does. Returns the exit code.
    fn try_sync(&self, client: &str) -> Option<i32> {
        let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/ocsync-autosync");
        let ran = ended(
            self.0
                .command(shim)
                .env("AUTOSYNC", PROGRAM)
                .env("SMASHBOX_TRIES", "1")
                .env("SMASHBOX_HUBS", self.0.root().join("hubs"))
                .arg("--trust")
                .arg(format!("{}/", self.dir(client).display()))
                .arg(URL)
                .output()
                .unwrap(),
        );
        assert!(ran.code.is_some_and(|code| code <= 3), "{ran:?}");
        ran.code
    }

    /// The same; it must end well.
    fn sync(&self, client: &str) {
        assert_eq!(self.try_sync(client), Some(0), "{client}");
    }

    /// Syncs several at the same time, and then once more each, as whoever was too late does.
    fn sync_at_once(&self, clients: &[&str]) {
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| self.try_sync(client));
            }
        });
        for _ in 0..2 {
            for client in clients {
                self.sync(client);
            }
        }
    }

    fn write(&self, client: &str, name: &str, text: &str) {
        let path = self.dir(client).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns what stands in a client's directory, by name.
    fn files(&self, client: &str) -> BTreeMap<String, String> {
        let text = |stands| match stands {
            Stands::File { content, .. } => String::from_utf8(content).unwrap(),
            Stands::Link(_) => panic!("nobody made a link"),
        };
        let found = tree(&self.dir(client)).into_iter();
        found
            .map(|(name, stands)| (name.into_string().unwrap(), text(stands)))
            .collect()
    }

    fn names(&self, client: &str) -> BTreeSet<String> {
        self.files(client).into_keys().collect()
    }
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into_iter().collect()
}

#[test]
fn basic_sync_the_winners_version_stands_and_the_losers_is_a_copy_where_both_changed() {
    let clients = Clients::new();
    let text = |by: &str, name: &str| format!("{name} by {by}\n").repeat(50);
    let name = |what: &str| format!("TEST_FILE_{what}.dat");
    for what in ["NONE", "LOSER", "WINNER", "BOTH"] {
        for kind in ["MODIFIED", "DELETED"] {
            let name = name(&format!("{kind}_{what}"));
            clients.write("creator", &name, &text("creator", &name));
        }
    }
    for client in ["creator", "winner", "loser"] {
        clients.sync(client);
    }
    for (client, who) in [("winner", "WINNER"), ("loser", "LOSER")] {
        for what in [who, "BOTH"] {
            let deleted = clients.dir(client).join(name(&format!("DELETED_{what}")));
            fs::remove_file(deleted).unwrap();
            for kind in ["MODIFIED", "ADDED"] {
                let name = name(&format!("{kind}_{what}"));
                clients.write(client, &name, &text(client, &name));
            }
        }
    }
    for client in ["winner", "loser", "winner", "creator", "checker"] {
        clients.sync(client);
    }
    let files = clients.files("checker");
    for client in ["creator", "winner", "loser"] {
        assert_eq!(clients.files(client), files, "{client}");
    }
    let stands = |what: &str, by: &str| {
        let name = name(what);
        assert_eq!(files[&name], text(by, &name));
    };
    for (what, by) in [
        ("MODIFIED_NONE", "creator"),
        ("DELETED_NONE", "creator"),
        ("MODIFIED_WINNER", "winner"),
        ("MODIFIED_LOSER", "loser"),
        ("MODIFIED_BOTH", "winner"),
        ("ADDED_WINNER", "winner"),
        ("ADDED_LOSER", "loser"),
        ("ADDED_BOTH", "winner"),
    ] {
        stands(what, by);
    }
    let copies: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.contains("(conflict"))
        .collect();
    assert_eq!((copies.len(), files.len()), (2, 10), "{copies:?}");
    for (copy, content) in copies {
        assert!(copy.contains("_BOTH (conflict loser "), "{copy}");
        let name = format!("{}.dat", copy.split_once(" (").unwrap().0);
        assert_eq!(*content, text("loser", &name));
    }
}

#[test]
fn concurrent_dir_remove_keeps_what_is_added_meanwhile() {
    let clients = Clients::new();
    clients.write("creator", "subdir/first", "first\n");
    for client in ["creator", "adder", "remover"] {
        clients.sync(client);
    }
    for number in 0..40 {
        let text = format!("{number}\n").repeat(1000);
        clients.write("adder", &format!("subdir/{number:02}"), &text);
    }
    fs::remove_dir_all(clients.dir("remover").join("subdir")).unwrap();
    clients.sync_at_once(&["adder", "remover"]);
    let wanted: BTreeSet<String> = (0..40)
        .map(|number| format!("subdir/{number:02}"))
        .collect();
    for client in ["adder", "remover", "creator", "checker"] {
        clients.sync(client);
        assert_eq!(clients.names(client), wanted, "{client}");
    }
}

#[test]
fn concurrent_dir_move_keeps_what_is_added_meanwhile_where_it_was_added() {
    let clients = Clients::new();
    clients.write("creator", "subdir/first", "first\n");
    for client in ["creator", "adder", "mover"] {
        clients.sync(client);
    }
    for number in 0..40 {
        let text = format!("{number}\n").repeat(1000);
        clients.write("adder", &format!("subdir/{number:02}"), &text);
    }
    let mover = clients.dir("mover");
    fs::rename(mover.join("subdir"), mover.join("subdir2")).unwrap();
    clients.sync_at_once(&["adder", "mover"]);
    let mut wanted: BTreeSet<String> = (0..40)
        .map(|number| format!("subdir/{number:02}"))
        .collect();
    wanted.insert("subdir2/first".to_owned());
    for client in ["adder", "mover", "creator", "checker"] {
        clients.sync(client);
        assert_eq!(clients.names(client), wanted, "{client}");
    }
}

#[test]
fn file_move_there_and_back_arrives_both_times() {
    let clients = Clients::new();
    let names = |dir: &str| -> BTreeSet<String> {
        (0..10)
            .map(|number| format!("{dir}/test{number:02}.dat"))
            .collect()
    };
    for name in names("DIRA") {
        clients.write("a", &name, &format!("{name}\n").repeat(100));
    }
    clients.sync("a");
    clients.sync("b");
    let dir = clients.dir("a");
    for [from, to] in [["DIRA", "DIRB"], ["DIRB", "DIRA"]] {
        fs::create_dir_all(dir.join(to)).unwrap();
        for (from, to) in names(from).iter().zip(names(to)) {
            fs::rename(dir.join(from), dir.join(to)).unwrap();
        }
        clients.sync("a");
        clients.sync("b");
        assert_eq!(clients.names("a"), names(to));
        assert_eq!(clients.names("b"), names(to));
    }
}

#[test]
fn dir_delete_of_a_hundred_files_fifty_levels_down_takes_them_all() {
    let clients = Clients::new();
    let deep: Vec<String> = (0..50).map(|level| level.to_string()).collect();
    let deep = deep.join("/");
    clients.write("a", "stays", "stays\n");
    for number in 0..100 {
        let text = format!("{number}\n").repeat(100);
        clients.write("a", &format!("{deep}/test{number:02}.dat"), &text);
    }
    clients.sync("a");
    clients.sync("b");
    assert_eq!(clients.names("b").len(), 101);
    fs::remove_dir_all(clients.dir("a").join("0")).unwrap();
    clients.sync("a");
    clients.sync("b");
    for client in ["a", "b", "checker"] {
        clients.sync(client);
        assert_eq!(clients.names(client), set(["stays"]), "{client}");
        assert!(!clients.dir(client).join("0").exists(), "{client}");
    }
}

#[test]
fn local_dir_rename_and_recreate_arrives_with_and_without_the_files_moved_back() {
    for back in [false, true] {
        let clients = Clients::new();
        let names = |dir: &str| -> BTreeSet<String> {
            (0..10)
                .map(|number| format!("{dir}/test{number:02}.dat"))
                .collect()
        };
        for name in names("DIRA") {
            clients.write("a", &name, &format!("{name}\n").repeat(100));
        }
        clients.sync("a");
        clients.sync("b");
        let dir = clients.dir("a");
        fs::rename(dir.join("DIRA"), dir.join("DIRB")).unwrap();
        fs::create_dir(dir.join("DIRA")).unwrap();
        if back {
            for (from, to) in names("DIRB").iter().zip(names("DIRA")) {
                fs::rename(dir.join(from), dir.join(to)).unwrap();
            }
        }
        clients.sync("a");
        clients.sync("b");
        let wanted = names(if back { "DIRA" } else { "DIRB" });
        for client in ["a", "b"] {
            clients.sync(client);
            assert_eq!(clients.names(client), wanted, "{client}");
        }
    }
}

#[test]
fn case_conflicts_all_arrive_where_the_disk_holds_them_apart() {
    let clients = Clients::new();
    let names = [
        "TestCaseConflicts",
        "testcaseconflicts",
        "testCaseConflicts",
        "TESTCASECONFLICTS",
    ];
    for name in names {
        clients.write("a", name, &format!("{name}\n"));
    }
    clients.sync("a");
    for client in ["b", "c"] {
        clients.sync(client);
        assert_eq!(clients.names(client), set(names), "{client}");
        assert_eq!(clients.files(client), clients.files("a"), "{client}");
    }
}

#[test]
fn slow_write_sends_nothing_of_a_file_that_is_open_says_so_and_then_sends_all_of_it() {
    let clients = Clients::new();
    clients.write("writer", "other", "other\n");
    clients.sync("writer");
    let mut file = fs::File::create(clients.dir("writer").join("slow.dat")).unwrap();
    for block in 0..3 {
        file.write_all(format!("block {block}\n").repeat(1000).as_bytes())
            .unwrap();
        // Not all of it could be done, which is the exit code.
        assert_eq!(clients.try_sync("writer"), Some(3));
        clients.sync("checker");
        assert_eq!(clients.names("checker"), set(["other"]));
    }
    drop(file);
    clients.sync("writer");
    clients.sync("checker");
    assert_eq!(clients.files("checker"), clients.files("writer"));
    assert_eq!(clients.names("checker"), set(["other", "slow.dat"]));
}

#[test]
fn filenames_that_are_dangerous_elsewhere_are_held_and_all_others_arrive() {
    let clients = Clients::new();
    let names = [
        "_1 testfile.dat",
        " ",
        "~",
        "a\\b",
        "a:b",
        "[*?]",
        "'\"'",
        "\u{15b}",
    ];
    for name in names {
        clients.write("a", name, &format!("{name}\n"));
    }
    let outside = '\\'.to_string();
    clients.write(
        "a",
        &outside,
        "it would lead out of its directory on Windows\n",
    );
    assert_eq!(clients.try_sync("a"), Some(3));
    clients.sync("b");
    let mut wanted = set(names);
    assert_eq!(clients.names("b"), wanted);
    fs::rename(
        clients.dir("a").join(&outside),
        clients.dir("a").join("named"),
    )
    .unwrap();
    clients.sync("a");
    clients.sync("b");
    wanted.insert("named".to_owned());
    assert_eq!(clients.names("b"), wanted);
}
