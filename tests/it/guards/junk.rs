//! Build output, caches and very many new files at once: held in heaps, and the rest goes on.

use std::fs;

use crate::support::Sandbox;
use crate::support::host::{Host, Pair};

use super::{held, names};

/// The first line of a tag of a cache.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";

/// Two hosts that have met, with a project in their folder.
fn project(config: &str) -> Pair {
    let pair = Pair::configured(config);
    pair.laptop.write("Cargo.toml", "[package]\n");
    pair.laptop.write("src/main.rs", "fn main() {}\n");
    pair.equal();
    pair
}

#[test]
fn build_output_and_caches_are_held_one_line_each_and_the_rest_goes_on() {
    let pair = project("");
    let [laptop, server] = pair.hosts();
    for number in 0..30 {
        laptop.write(format!("target/debug/{number}.o"), format!("{number}"));
    }
    laptop.write("web/node_modules/x/index.js", "x\n");
    laptop.write("mine/CACHEDIR.TAG", TAG);
    laptop.write("mine/a", "x\n");
    // Words alone are no proof.
    laptop.write("build/plan.txt", "x\n");
    laptop.write("other/target/goal.txt", "x\n");
    laptop.write("fake/CACHEDIR.TAG", "a cache?\n");
    laptop.write("src/lib.rs", "x\n");
    laptop.run(["sync"]).ok();
    let all = names(&["mine", "target", "web/node_modules"]);
    assert_eq!(held(laptop, "junk"), all);
    server.sees("the rest", |root| {
        [
            "build/plan.txt",
            "other/target/goal.txt",
            "fake/CACHEDIR.TAG",
            "src/lib.rs",
        ]
        .iter()
        .all(|name| root.join(name).exists())
    });
    assert!(!server.folder.join("target").exists());
    let status = laptop.barrier();
    assert_eq!(status.held.len(), 1);
    assert_eq!(
        status.held[0].message,
        "33 new files in 3 places are held back (build output or caches)"
    );

    // A storm below them makes no commit and no look at everything.
    for number in 0..200 {
        laptop.write(format!("target/debug/deps/{number}.o"), "x");
    }
    let after = laptop.barrier();
    assert_eq!(after.counters.commits, status.counters.commits);
    assert_eq!(after.counters.rescans, status.counters.rescans);
    laptop.assert_quiet();

    // Ignored, gone, and let through.
    laptop.run(["ignore", "Sync/web/node_modules"]).ok();
    laptop.until("it is held no more", |host| {
        held(host, "junk") == names(&["mine", "target"])
    });
    fs::remove_dir_all(laptop.folder.join("mine")).unwrap();
    assert_eq!(held(laptop, "junk"), names(&["target"]));
    laptop.run(["sync"]).ok();
    let status = laptop.barrier();
    assert_eq!(
        status.held[0].message,
        "`target/` (230 files) looks like build output or a cache"
    );
    let page = laptop.run(["status"]).out;
    assert_eq!(page.matches("(230 files)").count(), 1, "{page}");
    laptop.write("target/.env", "A=1\n");
    let said = laptop.run(["allow", "Sync/target"]).ok();
    assert_eq!(
        said,
        "Allowed `target/`, but no secrets in it; it is synced now.\n"
    );
    server.sees("what was let through", |root| {
        root.join("target/debug/deps/199.o").exists()
    });
    assert_eq!(held(laptop, "junk"), names(&[]));
    assert_eq!(held(laptop, "secret"), names(&["target/.env"]));
    // From now on it is a directory like every other, on all hosts.
    server.write("target/new.o", "x");
    laptop.sees("a file of the other", |root| {
        root.join("target/new.o").exists()
    });
    laptop.run(["allow", "--with-secrets", "Sync/target"]).ok();
    server.sees("the secret", |root| root.join("target/.env").exists());
    // What is ignored stays on its host.
    assert!(!server.folder.join("web").exists());
    fs::remove_dir_all(laptop.folder.join("web")).unwrap();
    pair.ends_well();
}

#[test]
fn a_directory_that_the_history_has_stays_as_it_is() {
    let pair = project("");
    let [laptop, server] = pair.hosts();
    laptop.write("node_modules/x/index.js", "1\n");
    assert_eq!(held(laptop, "junk"), names(&["node_modules"]));
    laptop.run(["allow", "Sync/node_modules"]).ok();
    server.sees("it", |root| root.join("node_modules/x/index.js").exists());
    // Where nobody let it through it is in the history all the same.
    server.write("node_modules/y/index.js", "1\n");
    laptop.sees("a new file in it", |root| {
        root.join("node_modules/y/index.js").exists()
    });
    laptop.write("node_modules/x/index.js", "2\n");
    // Beside it there is no history.
    laptop.write("web/node_modules/z", "1\n");
    server.sees("its next version", |root| {
        fs::read(root.join("node_modules/x/index.js")).is_ok_and(|text| text == b"2\n")
    });
    assert_eq!(held(laptop, "junk"), names(&["web/node_modules"]));
    fs::remove_dir_all(laptop.folder.join("web")).unwrap();
    pair.ends_well();
}

#[test]
fn what_the_history_has_is_no_junk_under_another_name() {
    let pair = Pair::configured("[guards]\nnew_files = 20\n");
    let [laptop, server] = pair.hosts();
    laptop.write("package.json", "{}\n");
    for number in 0..15 {
        laptop.write(format!("pages/{number}"), format!("page {number}\n"));
    }
    laptop.write("pages/deep/one", "1\n");
    pair.equal();
    // By its name that is build output, and new.
    let rename = |from: &str, to: &str| {
        fs::rename(laptop.folder.join(from), laptop.folder.join(to)).unwrap();
    };
    rename("pages", "dist");
    server.sees("the new name", |root| {
        !root.join("pages").exists() && root.join("dist/deep/one").exists()
    });
    laptop.synced();
    assert_eq!(held(laptop, "junk"), names(&[]));
    pair.equal();

    // Nor is it very much: more names than may be new at once, of which few are.
    for number in 0..15 {
        laptop.write(format!("more/{number}"), format!("more {number}\n"));
    }
    pair.equal();
    laptop.run(["pause"]).ok();
    rename("dist", "old");
    rename("more", "older");
    laptop.write("own", "1\n");
    laptop.run(["resume"]).ok();
    server.sees("all of it", |root| {
        root.join("own").exists() && root.join("older/3").exists() && root.join("old/3").exists()
    });
    laptop.synced();
    assert_eq!(laptop.folder_status().held, []);
    assert_eq!(pair.ends_well().len(), 33);
}

#[test]
fn a_heap_of_which_another_host_sends_something_is_one_no_more() {
    let pair = project("");
    let [laptop, server] = pair.hosts();
    laptop.write("node_modules/a", "laptop\n");
    assert_eq!(held(laptop, "junk"), names(&["node_modules"]));
    server.write("node_modules/b", "server\n");
    assert_eq!(held(server, "junk"), names(&["node_modules"]));
    server.run(["allow", "Sync/node_modules"]).ok();
    laptop.sees("the other's file", |root| {
        root.join("node_modules/b").exists()
    });
    assert_eq!(laptop.read("node_modules/a").unwrap(), "laptop\n");
    // An edit of what came in is no new file.
    laptop.write("node_modules/b", "laptop\n");
    server.sees("the edit", |root| {
        fs::read(root.join("node_modules/b")).is_ok_and(|text| text == b"laptop\n")
    });
    laptop.run(["sync"]).ok();
    assert_eq!(held(laptop, "junk"), names(&[]));
    pair.ends_well();
    assert!(server.folder.join("node_modules/a").exists());
}

#[test]
fn very_many_new_files_or_bytes_at_once_are_held_and_the_rest_goes_on() {
    let limits = "[guards]\nnew_files = 50\nnew_bytes = \"1MiB\"\n\
                  [settle]\nquiet = \"300ms\"\n";
    let pair = project(limits);
    let [laptop, server] = pair.hosts();
    // Below the limit in one batch.
    for number in 0..50 {
        laptop.write(format!("few/{number}"), "x\n");
    }
    laptop.run(["sync"]).ok();
    pair.equal();
    laptop.run(["pause"]).ok();
    for number in 0..60 {
        laptop.write(
            format!("photos/{}/{number}", number % 7),
            format!("{number}\n"),
        );
    }
    laptop.run(["resume"]).ok();
    laptop.write("src/main.rs", "fn main() { }\n");
    server.sees("an edit", |root| {
        fs::read(root.join("src/main.rs")).is_ok_and(|text| text == b"fn main() { }\n")
    });
    assert_eq!(held(laptop, "junk"), names(&["photos"]));
    let status = laptop.barrier();
    assert_eq!(
        status.held[0].message,
        "`photos/` has 60 new files, very many at once"
    );
    // None of them slips through alone.
    laptop.write("photos/1/1", "other\n");
    laptop.write("photos/new", "x\n");
    laptop.barrier();
    pair.quiet();
    assert!(!server.folder.join("photos").exists());
    laptop.run(["allow", "Sync/photos"]).ok();
    server.sees("all of it", |root| {
        root.join("photos/new").exists() && root.join("photos/6/6").exists()
    });
    assert_eq!(held(laptop, "junk"), names(&[]));

    // In a directory that the history has, what it has goes on.
    laptop.run(["pause"]).ok();
    for number in 0..60 {
        laptop.write(format!("src/gen{number}.rs"), format!("{number}\n"));
    }
    laptop.write("src/main.rs", "fn main() {  }\n");
    laptop.run(["resume"]).ok();
    server.sees("the edit beside them", |root| {
        fs::read(root.join("src/main.rs")).is_ok_and(|text| text == b"fn main() {  }\n")
    });
    assert_eq!(held(laptop, "junk"), names(&["src"]));
    laptop.write("src/main.rs", "fn main() {   }\n");
    laptop.write("src/gen7.rs", "7\n\n");
    server.sees("the next edit", |root| {
        fs::read(root.join("src/main.rs")).is_ok_and(|text| text == b"fn main() {   }\n")
    });
    laptop.barrier();
    assert!(!server.folder.join("src/gen7.rs").exists());
    for number in 0..60 {
        fs::remove_file(laptop.folder.join(format!("src/gen{number}.rs"))).unwrap();
    }
    laptop.run(["sync"]).ok();
    assert_eq!(held(laptop, "junk"), names(&[]));

    laptop.write("large/film", vec![b'x'; 2 << 20]);
    assert_eq!(held(laptop, "junk"), names(&["large"]));
    fs::remove_dir_all(laptop.folder.join("large")).unwrap();
    assert_eq!(held(laptop, "junk"), names(&[]));
    pair.ends_well();
}

#[test]
fn nothing_is_junk_at_first_contact_nor_where_the_hub_has_it() {
    let small = "[guards]\nnew_files = 5\n";
    let laptop = Sandbox::named("laptop");
    laptop.config(small);
    let hub = laptop.root().join("hub.git");
    let there = hub.to_str().unwrap();
    for number in 0..20 {
        laptop.write(&format!("home/Sync/node_modules/{number}"), "x\n");
    }
    assert_eq!(laptop.run(["init", "Sync", "--hub", there]).code, Some(0));
    laptop.run(["once", "Sync"]).ok();
    let count = |sandbox: &Sandbox| {
        let list = sandbox.git(&hub, ["ls-tree", "-r", "--name-only", "main"]);
        list.lines().count()
    };
    assert_eq!(count(&laptop), 20);

    // The other host has the same files lying about, and some more.
    let server = Sandbox::named("server");
    server.config(small);
    for number in 0..30 {
        server.write(&format!("home/Sync/node_modules/{number}"), "x\n");
    }
    assert_eq!(server.run(["init", "Sync", "--hub", there]).code, Some(0));
    server.run(["once", "Sync"]).ok();
    assert_eq!(count(&server), 30);
    laptop.run(["once", "Sync"]).ok();

    // What came to the hub while this host was away, and reached this disk another way, is no heap.
    for sandbox in [&laptop, &server] {
        for number in 0..10 {
            sandbox.write(&format!("home/Sync/photos/{number}"), format!("{number}\n"));
        }
    }
    laptop.run(["allow", "Sync/photos"]).ok();
    laptop.run(["once", "Sync"]).ok();
    server.git(&server.home().join("Sync"), ["fetch", "-q", "origin"]);
    server.run(["once", "Sync"]).ok();
    assert_eq!(count(&server), 40);

    // But what nobody has is one, also when an agent starts.
    for number in 0..10 {
        server.write(&format!("home/Sync/more/{number}"), "x\n");
    }
    let ran = server.run(["once", "Sync"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.out
            .contains("`more/` has 10 new files, very many at once"),
        "{ran:?}"
    );
    let mut server = Host::of(server, "server");
    server.start();
    assert_eq!(held(&server, "junk"), names(&["more"]));
    assert_eq!(count(&server.sandbox), 40);
}
