//! What wants to be run: none of it is, unless the user's own configuration says so. Each payload
//! would touch a canary.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::Sandbox;
use crate::support::host::Pair;

#[test]
fn nothing_that_came_with_the_content_is_run() {
    let pair = Pair::configured("[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n");
    pair.laptop.write("a", "1\n");
    pair.equal();
    let canary = pair.laptop.sandbox.root().join("canary");
    let touch = format!("touch {}", canary.display());
    let script = format!("#!/bin/sh\n{touch}\n");
    let other = pair.laptop.sandbox.root().join("other");
    let git = |args: &[&str]| pair.laptop.sandbox.git(&other, args);
    let (hub, at) = (pair.hub.to_str().unwrap(), other.to_str().unwrap());
    pair.laptop
        .sandbox
        .git(pair.laptop.sandbox.root(), ["clone", "-q", hub, at]);
    let config = format!(
        "[core]\n\tfsmonitor = \"{touch}\"\n\tsshCommand = \"{touch}\"\n\thooksPath = hooks\n\
         \teditor = \"{touch}\"\n\tpager = \"{touch}\"\n[filter \"evil\"]\n\tclean = \"{touch}\"\n\
         \tsmudge = \"{touch}\"\n\tprocess = \"{touch}\"\n\trequired = true\n\
         [merge \"evil\"]\n\tdriver = \"{touch}\"\n[diff \"evil\"]\n\ttextconv = \"{touch}\"\n\
         \tcommand = \"{touch}\"\n[include]\n\tpath = .gitconfig\n[credential]\n\thelper = \"!{touch}\"\n"
    );
    let modules = format!(
        "[submodule \"sub\"]\n\tpath = sub\n\turl = ./sub\n\tbranch = main\n\tignore = none\n\
         # update = !{touch}\n"
    );
    for (name, text) in [
        (".gitattributes", "* merge=evil diff=evil\n"),
        (".gitconfig", &config),
        ("config", &config),
        (".lfsconfig", &config),
        (".gitmodules", &modules),
        (".envrc", &script),
        ("HEAD", "ref: refs/heads/main\n"),
        ("f", "1\n2\n3\n4\n5\n6\n7\n"),
        ("g", "1\n"),
    ] {
        fs::write(other.join(name), text).unwrap();
    }
    for hook in [
        "post-checkout",
        "post-merge",
        "pre-commit",
        "commit-msg",
        "pre-push",
        "reference-transaction",
        "fsmonitor-watchman",
        "post-index-change",
    ] {
        for dir in ["hooks", ".githooks", ".husky"] {
            fs::create_dir_all(other.join(dir)).unwrap();
            let file = other.join(dir).join(hook);
            fs::write(&file, &script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let comes = |message: &str| {
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", message]);
        git(&["push", "-q", "origin", "HEAD:main"]);
        let tip = pair.tip();
        for host in pair.hosts() {
            host.until("it came", |host| host.folder_status().head == tip);
        }
    };
    comes("payloads");
    // Both change what the drivers are for, at lines that do not touch and at one that does.
    pair.laptop.run(["pause"]).ok();
    pair.laptop.write("f", "laptop\n2\n3\n4\n5\n6\n7\n");
    pair.laptop.write("g", "laptop\n");
    pair.server.write("f", "1\n2\n3\n4\n5\n6\nserver\n");
    pair.server.write("g", "server\n");
    pair.server.run(["sync"]).ok();
    pair.server.synced();
    pair.laptop.run(["resume"]).ok();
    pair.equal();
    let merges = git_in(&pair, &["rev-list", "--count", "--merges", "main"]);
    assert_eq!(merges, "1", "both were merged, once");
    for host in pair.hosts() {
        let both = "laptop\n2\n3\n4\n5\n6\nserver\n";
        assert_eq!(host.read("f").as_deref(), Some(both));
        assert_eq!(host.read("g").as_deref(), Some("server\n"));
        assert_eq!(host.copies().len(), 1);
        for command in ["log", "conflicts", "status", "doctor"] {
            let _how = host.run([command]);
        }
    }
    assert!(!canary.exists(), "a driver that came was run");

    // A filter that nobody here has: what it is for is held.
    git(&["fetch", "-q"]);
    git(&["reset", "-q", "--hard", "origin/main"]);
    fs::write(
        other.join(".gitattributes"),
        "* filter=evil merge=evil diff=evil\n",
    )
    .unwrap();
    comes("a filter");
    pair.laptop.run(["pause"]).ok();
    pair.laptop.write("f", "laptop\n");
    pair.laptop.write("new", "laptop\n");
    pair.server.write("f", "server\n");
    pair.server.run(["sync"]).ok();
    pair.laptop.run(["resume"]).ok();
    for host in pair.hosts() {
        host.run(["sync"]).ok();
        host.barrier();
    }
    assert!(!canary.exists(), "something that came was run");

    // The user's own word counts.
    pair.laptop
        .git(["config", "filter.evil.clean", &format!("{touch}; cat")]);
    pair.laptop.git(["config", "filter.evil.smudge", "cat"]);
    pair.laptop.write("mine", "1\n");
    pair.laptop.run(["sync"]).ok();
    pair.laptop
        .until("the user's own filter runs", |_| canary.exists());
}

#[test]
fn an_address_that_would_run_something_is_refused_with_a_sentence() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.root().join("canary");
    sandbox.set("CANARY", canary.to_str().unwrap());
    // Without a slash: what has one before a colon is a path.
    let touch = "touch${IFS}$CANARY";
    let home = sandbox.home();
    let addresses = [
        format!("ext::sh -c {touch}"),
        format!("ext::sh -c touch% {}", canary.display()),
        "fd::17".to_owned(),
        "testgit::x".to_owned(),
        format!("ssh://-oProxyCommand={touch}/x.git"),
        format!("ssh://u@-oProxyCommand={touch}/x.git"),
        format!("ssh://-oProxyCommand={touch}:22/x.git"),
        format!("-oProxyCommand={touch}:x.git"),
        format!("u@-oProxyCommand={touch}:x.git"),
        format!("git+ssh://-oProxyCommand={touch}/x.git"),
        format!("file://{}/--upload-pack={touch}", home.display()),
        format!("./--upload-pack2={touch}"),
        format!("ssh://127.0.0.1:1/--upload-pack={touch}"),
        format!("ssh://127.0.0.1:1/-x{touch}"),
        format!("127.0.0.1:`{touch}`"),
        "https://user:pw@127.0.0.1:1/x\n.git".to_owned(),
        "git://127.0.0.1:1/x.git".to_owned(),
    ];
    // Most of them wait for somebody who does not answer.
    std::thread::scope(|scope| {
        for (number, address) in addresses.iter().enumerate() {
            let (sandbox, home, canary) = (&sandbox, &home, &canary);
            scope.spawn(move || {
                let dir = format!("new{number}");
                let clone = sandbox.run(["clone", "--", address, &dir]);
                let said = is_refused(&clone, address);
                assert!(!home.join(&dir).exists(), "{address}: {said}");
                let init = sandbox.run(["init", &dir, &format!("--hub={address}")]);
                if init.code == Some(0) {
                    // A path is a path, whatever it is called.
                    let is_path = address.starts_with('.') || address.starts_with("file:");
                    assert!(is_path, "{address}");
                } else {
                    is_refused(&init, address);
                }
                assert!(!canary.exists(), "`{address}` was run");
            });
        }
    });
}

/// Runs git in the hub.
fn git_in(pair: &Pair, args: &[&str]) -> String {
    pair.laptop.sandbox.git(&pair.hub, args)
}

/// Asserts that a command ended badly with one sentence. Returns it.
#[track_caller]
fn is_refused(ran: &crate::support::Ran, address: &str) -> String {
    assert!(ran.code != Some(0), "{address}: {ran:?}");
    let said = ran.err.strip_prefix("autosync: ").unwrap_or_default();
    assert!(
        said.lines().count() == 1 && said.len() > 20,
        "{address}: {ran:?}"
    );
    assert!(!said.contains("panicked"), "{address}: {said}");
    said.to_owned()
}
