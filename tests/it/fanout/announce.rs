//! `autosync announce`, and the hook that calls it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use autosync::transport::fanout::channel::derived;

use super::Server;
use super::agents::{Pair, config, plain_push};
use super::line::Line;
use crate::support::{PROGRAM, Sandbox};

const SHARE: &str = "9db571f07a2d81cd1ce87418b34473627d004787";

/// A bare hub with one commit; returns its path and the commit.
fn hub(sandbox: &Sandbox) -> (PathBuf, String) {
    let hub = sandbox.root().join("hub.git");
    let path = hub.to_str().unwrap();
    sandbox.git(sandbox.root(), ["init", "-q", "--bare", path]);
    let work = sandbox.root().join("plain");
    sandbox.git(
        sandbox.root(),
        ["clone", "-q", path, work.to_str().unwrap()],
    );
    fs::write(work.join(".sparkleshare"), SHARE).unwrap();
    sandbox.git(&work, ["add", "."]);
    sandbox.git(&work, ["commit", "-q", "-m", "first"]);
    sandbox.git(&work, ["push", "-q", "origin", "main"]);
    let root = sandbox.git(&work, ["rev-parse", "HEAD"]);
    (hub, root)
}

#[test]
fn a_notice_of_a_hub_goes_to_both_kinds_of_hosts() {
    let sandbox = Sandbox::named("box");
    let bell = Server::start(&sandbox, &[]);
    sandbox.config(&format!("[fanout]\nserver = \"{}\"\n", bell.url()));
    let (hub, root) = hub(&sandbox);
    let commit = plain_push(&sandbox, &hub, "a.txt");
    let mut old = Line::sparkleshare(bell.address, &[SHARE]);
    let mut ours = Line::ours(bell.address, &[&derived(&root)]);
    let path = hub.to_str().unwrap();
    let ran = sandbox.run(["announce", path, "--branch", "main", "--commit", &commit]);
    assert_eq!(ran.ok(), "");
    assert_eq!(old.next(), format!("{SHARE}!{commit}"));
    let line = ours.next();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[1..5], [&root, "refs/heads/main", &commit, "box.hub"]);

    // What is written down goes before what is found.
    let id = "abcdef0123456789";
    sandbox.git(&hub, ["config", "autosync.id", id]);
    ours.say(&format!("subscribe {}", derived(id)));
    let branch = "refs/heads/main";
    let ran = sandbox.run(["announce", path, "--branch", branch, "--commit", &commit]);
    assert_eq!(ran.ok(), "");
    assert!(ours.next().starts_with(&derived(id)));
    let ran = sandbox.run(["announce", "--id", id, "--branch", "x", "--commit", &commit]);
    assert_eq!(ran.ok(), "");
    assert!(ours.next().contains(" refs/heads/x "));
    ours.pong();
}

#[test]
fn what_cannot_be_announced_is_said_with_what_to_do() {
    let sandbox = Sandbox::new();
    let commit = "ab".repeat(20);
    let announce = |what: &[&str], branch: &str, commit: &str| {
        let args = ["announce", "--timeout", "5"].into_iter();
        let more = ["--branch", branch, "--commit", commit];
        sandbox.run(args.chain(what.iter().copied()).chain(more))
    };
    let id = ["--id", "abcdef0123456789"];
    let said = announce(&id, "main", &commit).fails(2);
    assert_eq!(
        said,
        "autosync: no transport of the configuration carries notices. \
         Give `[fanout] server` or `[xmpp] jid` in the configuration.\n"
    );
    // A port on which nobody listens any more.
    let bell = Server::start(&sandbox, &[]);
    sandbox.config(&format!("[fanout]\nserver = \"{}\"\n", bell.url()));
    drop(bell);
    let said = announce(&id, "main", &commit).fails(1);
    assert!(
        said.contains("nobody took the notice: the fanout server"),
        "{said}"
    );
    assert!(said.contains("refused"), "{said}");

    announce(&[], "main", &commit).fails(2);
    announce(&["x", "--id", "ab"], "main", &commit).fails(2);
    announce(&id, "a..b", &commit).fails(2);
    announce(&id, "main", "abc").fails(2);
    let said = announce(&id, "main", &"0".repeat(40)).fails(2);
    assert!(said.contains("deleted"), "{said}");
    announce(&["--id", "nothing"], "main", &commit).fails(2);
    let said = announce(&["nowhere"], "main", &commit).fails(10);
    assert!(said.contains("no repository at `nowhere`"), "{said}");
    let (hub, _) = hub(&sandbox);
    let said = announce(&[hub.to_str().unwrap()], "main", &commit).fails(1);
    assert!(said.contains("has no commit"), "{said}");
}

#[test]
fn a_server_that_says_nothing_costs_a_hook_a_few_seconds() {
    let sandbox = Sandbox::new();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", deaf.local_addr().unwrap());
    sandbox.config(&format!("[fanout]\nserver = \"{url}\"\n"));
    let commit = "ab".repeat(20);
    let args = ["announce", "--id", "abcdef0123456789", "--timeout", "1"];
    let ran = sandbox.run(
        args.into_iter()
            .chain(["--branch", "main", "--commit", &commit]),
    );
    let said = ran.fails(1);
    assert!(said.contains("fanout was not online in time"), "{said}");
}

#[test]
fn a_plain_push_to_a_hub_with_the_hook_rings_the_agents() {
    let sandbox = Sandbox::new();
    let bell = Server::start(&sandbox, &[]);
    let pair = Pair::start(&bell.url(), "");
    let hook = pair.hub.join("hooks/post-receive");
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hooks/post-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::copy(text, &hook).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();

    // Somebody on the hub's machine, with the program where the shell finds it.
    let bin = Path::new(PROGRAM).parent().unwrap().to_str().unwrap();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let person = Sandbox::named("hub").with("PATH", &path);
    person.config(&config(&bell.url(), ""));
    let commit = plain_push(&person, &pair.hub, "plain.txt");
    for host in [&pair.laptop, &pair.server] {
        host.sees("plain.txt", |root| root.join("plain.txt").exists());
        assert_eq!(host.barrier().head, commit);
    }
    // A branch that goes away is nothing to tell of, and holds nobody up.
    let work = person.root().join("plain");
    person.git(&work, ["push", "-q", "origin", "HEAD:refs/heads/x"]);
    person.git(&work, ["push", "-q", "origin", ":refs/heads/x"]);
}
