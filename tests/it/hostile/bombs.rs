//! A few objects that are out of all proportion once they are files: the update is held with a
//! sentence, the agent lives, and it needed no memory to find out.

use std::fs;
use std::path::Path;

use autosync::engine::status::State;

use super::{commit, in_hub, pair, size_of};
use crate::faults::Told;
use crate::faults::disk::peak;
use crate::support::host::{Host, Pair};

/// The most memory that an agent may ever have had, in KiB.
const MEMORY: u64 = 512 << 10;

/// Asserts that the update is held everywhere and told once, and that all goes on once it is taken back.
fn is_held(pair: &Pair, told: &[Told; 2], tip: &str, words: &str) {
    for (host, told) in pair.hosts().into_iter().zip(told) {
        host.until("it is held", |host| {
            let status = host.folder_status();
            status.state == State::Held && status.message.contains(words)
        });
        let status = host.folder_status();
        assert_eq!(status.code, "too-big", "{status:#?}");
        assert!(!status.hint.is_empty());
        assert_eq!(host.tree().len(), 1, "nothing of it is taken");
        told.catch_up(host);
        assert_eq!(told.codes(), ["too-big"], "{}", host.log());
        assert_small(host);
    }
    // Commits go on.
    pair.laptop.write("b", "1\n");
    pair.laptop.until("it is committed", |host| {
        host.git(["ls-tree", "--name-only", "HEAD"]) == "a\nb"
    });
    assert_small(&pair.laptop);
    in_hub(pair, &["update-ref", "refs/heads/main", tip], b"");
    for host in pair.hosts() {
        host.run(["sync"]).ok();
        host.until("the hub's own history is seen", |host| {
            host.folder_status().code == "history-rewritten" || host.folder_status().code == "ok"
        });
        if host.folder_status().code == "history-rewritten" {
            host.run(["approve"]).ok();
        }
    }
}

fn assert_small(host: &Host) {
    let peak = peak(host.pid());
    assert!(peak < MEMORY, "{} MiB", peak >> 10);
}

#[test]
fn a_hundred_million_files_in_ten_objects_are_held() {
    let pair = pair();
    let tip = pair.tip();
    let told = pair.hosts().map(Told::by);
    let blob = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"x");
    let lines = |kind: &str, id: &str| -> String {
        let lines: Vec<String> = (0..10).map(|n| format!("{kind} {id}\t{n}\n")).collect();
        lines.concat()
    };
    let mut tree = in_hub(&pair, &["mktree"], lines("100644 blob", &blob).as_bytes());
    for _ in 0..7 {
        tree = in_hub(&pair, &["mktree"], lines("040000 tree", &tree).as_bytes());
    }
    commit(&pair, &tree);
    is_held(&pair, &told, &tip, "1,000,000 files");
}

#[test]
fn ten_thousand_million_directories_without_a_file_are_held() {
    let pair = pair();
    let tip = pair.tip();
    let told = pair.hosts().map(Told::by);
    let mut tree = in_hub(&pair, &["mktree"], b"");
    for _ in 0..10 {
        let lines: Vec<String> = (0..10)
            .map(|n| format!("040000 tree {tree}\t{n}\n"))
            .collect();
        tree = in_hub(&pair, &["mktree"], lines.concat().as_bytes());
    }
    // Beside something that can be seen to come or not.
    let blob = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"x");
    let lines = format!("040000 tree {tree}\tempty\n100644 blob {blob}\tf\n");
    let tree = in_hub(&pair, &["mktree"], lines.as_bytes());
    commit(&pair, &tree);
    is_held(&pair, &told, &tip, "1,000,000 directories");
}

#[test]
fn a_thousand_directories_inside_each_other_are_held() {
    let pair = pair();
    let tip = pair.tip();
    let told = pair.hosts().map(Told::by);
    let deep = "d/".repeat(1000);
    let stream = format!(
        "commit refs/heads/main\ncommitter O <o@example.org> 1700000000 +0000\ndata 4\ndeep\n\
         from refs/heads/main^0\nM 100644 inline {deep}f\ndata 1\nx\n"
    );
    in_hub(&pair, &["fast-import", "--quiet"], stream.as_bytes());
    is_held(&pair, &told, &tip, "200 directories");
}

#[test]
fn a_directory_of_ones_own_that_is_too_deep_is_left_alone() {
    let pair = pair();
    let mut path = String::new();
    for _ in 0..250 {
        path.push_str("d/");
    }
    pair.laptop.write(format!("{path}f"), "1\n");
    pair.laptop.write("b", "1\n");
    pair.server.sees("the rest", |root| root.join("b").exists());
    pair.quiet();
    assert_eq!(pair.server.tree().len(), 2);
    let status = pair.laptop.folder_status();
    let why = status.deferred.iter().find(|it| it.path.ends_with("/f"));
    assert!(
        why.unwrap().why.contains("inside each other"),
        "{status:#?}"
    );
}

#[test]
fn a_blob_of_zeros_is_held_and_everything_else_comes() {
    let config = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n\
         [[folder]]\npath = \"~/Sync\"\nmax_file = \"100MiB\"\n";
    let [mut laptop, server] = ["laptop", "server"].map(Host::new);
    laptop
        .sandbox
        .config("[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n");
    server.sandbox.config(config);
    laptop.start();
    let hub = laptop.sandbox.paths().hubs().join("Sync.git");
    let clone = ["clone".as_ref(), hub.as_os_str(), "Sync".as_ref()];
    assert_eq!(server.run(clone).code, Some(0));
    let mut server = server.with_args::<&str>([]);
    server.start();
    let pair = Pair {
        laptop,
        server,
        hub,
    };
    pair.laptop.write("a", "1\n");
    pair.equal();
    pair.laptop.run(["pause"]).ok();

    let size = size_of("AUTOSYNC_TEST_ZEROS", 520);
    let zeros = pair.laptop.sandbox.root().join("zeros");
    fs::File::create(&zeros)
        .unwrap()
        .set_len((size as u64) << 20)
        .unwrap();
    let blob = hash(&pair, &zeros);
    let other = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"* text\n");
    let tree = in_hub(&pair, &["ls-tree", "main"], b"");
    let tree = format!("{tree}\n100644 blob {blob}\tzeros\n100644 blob {other}\t.gitattributes\n");
    let tree = in_hub(&pair, &["mktree"], tree.as_bytes());
    commit(&pair, &tree);
    pair.server
        .sees("the rest", |root| root.join(".gitattributes").exists());
    let status = pair.server.barrier();
    let held = status.held.iter().find(|held| held.code == "too-big");
    assert_eq!(held.unwrap().paths, ["zeros"], "{status:#?}");
    assert!(!pair.server.folder.join("zeros").exists());
    assert_small(&pair.server);
    // It is not deleted elsewhere by not being here.
    pair.server.write("b", "1\n");
    pair.server.synced();
    in_hub(&pair, &["cat-file", "-e", "main:zeros"], b"");
}

#[test]
fn what_is_large_where_nobody_expects_it_needs_no_memory() {
    let pair = pair();
    pair.laptop.run(["pause"]).ok();
    let server = &pair.server;
    let size = size_of("AUTOSYNC_TEST_ZEROS", 520);
    let zeros = pair.laptop.sandbox.root().join("zeros");
    let file = fs::File::create(&zeros).unwrap();
    file.set_len((size as u64) << 20).unwrap();
    let large = hash(&pair, &zeros);
    let text = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"* text=auto\n");
    let small = in_hub(&pair, &["hash-object", "-w", "--stdin"], b"1\n");
    // As large as git's checks let it be, nearly.
    let many = "* -x\n".repeat(15 << 20);
    let args = ["hash-object", "-w", "--stdin", "--no-filters"];
    let many = in_hub(&pair, &args, many.as_bytes());
    let rules = format!(
        "100644 blob {many}\t.gitattributes\n100644 blob {large}\t.gitignore\n\
         100644 blob {small}\tf\n"
    );
    let rules = in_hub(&pair, &["mktree"], rules.as_bytes());
    let update = |lines: &str| {
        let tree = in_hub(&pair, &["ls-tree", "main"], b"");
        let kept = tree.lines().filter(|line| !line.ends_with("\tbig"));
        let kept: Vec<String> = kept.map(|line| format!("{line}\n")).collect();
        let tree = in_hub(&pair, &["mktree"], (kept.concat() + lines).as_bytes());
        commit(&pair, &tree);
    };
    update(&format!(
        "100644 blob {text}\t.gitattributes\n100644 blob {large}\tbig\n\
         120000 blob {large}\tlink\n040000 tree {rules}\trules\n"
    ));
    let length = |root: &Path| fs::metadata(root.join("big")).map_or(0, |meta| meta.len());
    server.sees("the large file", |root| length(root) == (size as u64) << 20);
    let status = server.barrier();
    for (code, paths) in [
        ("not-representable", &["link"][..]),
        ("too-big", &["rules/.gitattributes", "rules/.gitignore"]),
    ] {
        let held = status.held.iter().find(|held| held.code == code);
        assert_eq!(held.unwrap().paths, paths, "{status:#?}");
    }
    assert_eq!(server.read("rules/f").as_deref(), Some("1\n"));
    assert_small(server);

    // It is looked at as git would store it, before it is replaced.
    update(&format!("100644 blob {small}\tbig\n"));
    server.sees("the small one", |root| length(root) == 2);
    server.write("b", "1\n");
    server.synced();
    assert_small(server);
    let all = in_hub(&pair, &["ls-tree", "-r", "--name-only", "main"], b"");
    let names = ".gitattributes\na\nb\nbig\nlink\nrules/.gitattributes\nrules/.gitignore\nrules/f";
    assert_eq!(all, names, "nothing is deleted by not being here");
}

#[test]
fn a_folder_of_ones_own_with_too_many_files_is_told_so_and_nobody_is_blamed() {
    let mut host = Host::new("laptop");
    host.sandbox
        .config("[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n");
    // Nobody waits for a million files in a test.
    host.sandbox.set("AUTOSYNC_TEST_FILES", "50");
    for n in 0..60 {
        host.write(format!("many/{n}"), format!("{n}\n"));
    }
    host.write("a", "1\n");
    host.start();
    host.until("it is held", |host| {
        host.folder_status().state == State::Held
    });
    let status = host.folder_status();
    assert_eq!(status.code, "too-big", "{status:#?}");
    assert!(status.message.contains("this folder"), "{status:#?}");
    assert!(status.hint.contains(".gitignore"), "{status:#?}");
    let said = format!("{} {}", status.message, status.hint);
    assert!(!said.contains("hub") && !said.contains("pushed"), "{said}");
    // The way out that the hint names.
    host.write(".gitignore", "/many/\n");
    host.run(["sync"]).ok();
    host.synced();
    assert_eq!(
        host.git(["ls-tree", "-r", "--name-only", "HEAD"]),
        ".gitignore\na"
    );
}

/// Stores a file in the hub as a blob.
fn hash(pair: &Pair, file: &Path) -> String {
    in_hub(
        pair,
        &["hash-object", "-w", "--no-filters", file.to_str().unwrap()],
        b"",
    )
}
