//! Scenarios in which a server is stopped, slowed or restarted.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::stage::{Wish, account, no_prosody, prosody, sshd, trio};
use super::{committed, copies, lines, standing};
use crate::ssh::server::Server as Sshd;
use crate::support::host::Host;
use crate::support::{PROGRAM, Sandbox};
use crate::xmpp::server::{Make, Server as Prosody};

/// A script of a server on which a command of git stands still while there is a file of its name.
const STALL: &str = r#"
here=${0%/*}
program=${SSH_ORIGINAL_COMMAND%% *}
if [ -e "$here/stall.$program" ]; then
    echo x >>"$here/stalled.$program"
    # It ends with the connection.
    exec cat >/dev/null
fi
exec sh -c "$SSH_ORIGINAL_COMMAND"
"#;

fn online(host: &Host, wanted: bool) {
    host.until("the account is online, or not any more", |host| {
        let all = host.status().transports;
        let is = all
            .iter()
            .any(|one| one.name == "xmpp" && one.state == "online");
        is == wanted
    });
}

#[test]
fn what_all_three_do_while_the_hub_is_down_is_on_all_three_when_it_is_back() {
    let test = "what_all_three_do_while_the_hub_is_down_is_on_all_three_when_it_is_back";
    let Some(mut server) = Sshd::start(test) else {
        return;
    };
    if no_prosody(test) {
        return;
    }
    let user = prosody().account();
    let trio = trio(&server, prosody(), &user, Wish::default());
    trio.hosts[0].write("shared.txt", lines("one", "ten"));
    trio.equal();
    server.shut_down();
    for (host, name) in trio.hosts.iter().zip(["laptop", "server", "desktop"]) {
        host.write(format!("by {name}.txt"), format!("only {name}\n"));
        host.write("shared.txt", lines(&format!("one by {name}"), "ten"));
        committed(host);
        host.until("it says that the hub is away", |host| {
            host.folder_status().code == "hub-unreachable"
        });
    }
    server.listen();
    // One who reaches it rings the others.
    trio.hosts[0].run(["sync"]).ok();
    let tree = trio.ends_well();
    let found = standing(&tree);
    for name in ["laptop", "server", "desktop"] {
        assert!(found.contains(&format!("only {name}")), "{name}");
        assert!(found.contains(&format!("one by {name}")), "{name}");
    }
    assert_eq!(copies(&trio).len(), 2);
}

#[test]
fn without_prosody_the_poll_brings_everything_and_later_the_bell_is_back() {
    let test = "without_prosody_the_poll_brings_everything_and_later_the_bell_is_back";
    if no_prosody(test) {
        return;
    }
    let Some(sshd) = sshd(test) else {
        return;
    };
    let mut prosody = Prosody::start(Make::Prosody);
    let wish = Wish {
        transports: "\"xmpp\"",
        poll: "1s",
        ..Wish::default()
    };
    let trio = trio(sshd, &prosody, "alice", wish);
    prosody.kill();
    for host in &trio.hosts {
        online(host, false);
    }
    let [laptop, server, desktop] = &trio.hosts;
    laptop.write("polled.txt", "polled\n");
    for host in [server, desktop] {
        host.sees("polled.txt", |root| root.join("polled.txt").exists());
    }
    prosody.listen();
    for host in &trio.hosts {
        online(host, true);
    }
    let heard = |host: &Host| host.folder_status().counters.notices_received;
    let before = heard(server);
    desktop.write("rung.txt", "rung\n");
    server.until("the bell rings again", |host| heard(host) > before);
    trio.ends_well();
}

#[test]
fn an_agent_that_is_killed_in_its_push_pushes_what_it_has_when_it_is_back() {
    let test = "an_agent_that_is_killed_in_its_push_pushes_what_it_has_when_it_is_back";
    let Some(server) = Sshd::forcing(test, STALL) else {
        return;
    };
    if no_prosody(test) {
        return;
    }
    let user = prosody().account();
    let mut trio = trio(&server, prosody(), &user, Wish::default());
    trio.hosts[0].write("shared.txt", lines("one", "ten"));
    trio.equal();
    let stall = server.at("stall.git-receive-pack");
    fs::write(&stall, "").unwrap();
    trio.hosts[0].write("shared.txt", lines("one by laptop", "ten"));
    trio.hosts[0].write("more.txt", "more by laptop\n");
    let stalled = server.at("stalled.git-receive-pack");
    trio.hosts[0].until("its push stands still", |_| stalled.exists());
    trio.hosts[0].kill_all();
    fs::remove_file(&stall).unwrap();
    // Meanwhile the others go on, with the same file.
    trio.hosts[1].write("shared.txt", lines("one by server", "ten"));
    trio.hosts[2].sees("what server wrote", |root| {
        fs::read_to_string(root.join("shared.txt")).is_ok_and(|it| it.contains("by server"))
    });
    trio.hosts[0].start();
    let tree = trio.ends_well();
    let found = standing(&tree);
    for line in ["one by laptop", "one by server", "more by laptop"] {
        assert!(found.contains(line), "{line}");
    }
    assert_eq!(copies(&trio).len(), 1);
}

#[test]
fn a_fetch_that_is_cut_by_a_restart_of_sshd_is_made_again() {
    let test = "a_fetch_that_is_cut_by_a_restart_of_sshd_is_made_again";
    let Some(mut server) = Sshd::forcing(test, STALL) else {
        return;
    };
    if no_prosody(test) {
        return;
    }
    let user = prosody().account();
    let trio = trio(&server, prosody(), &user, Wish::default());
    let stall = server.at("stall.git-upload-pack");
    fs::write(&stall, "").unwrap();
    for number in 0..50 {
        trio.hosts[0].write(format!("many/{number}"), format!("{number}\n").repeat(500));
    }
    let stalled = server.at("stalled.git-upload-pack");
    trio.hosts[1].until("a fetch stands still", |_| stalled.exists());
    fs::remove_file(&stall).unwrap();
    server.shut_down();
    trio.hosts[2].write("meanwhile.txt", "meanwhile\n");
    committed(&trio.hosts[2]);
    server.listen();
    // One who reaches it rings the others.
    trio.hosts[2].run(["sync"]).ok();
    let tree = trio.ends_well();
    assert_eq!(tree.len(), 52);
}

#[test]
fn a_plain_git_push_of_a_person_rings_all_three_by_the_hook_of_the_hub() {
    let test = "a_plain_git_push_of_a_person_rings_all_three_by_the_hook_of_the_hub";
    if no_prosody(test) {
        return;
    }
    // The hub's machine has a configuration of its own, and the program where the shell finds it.
    let machine = Sandbox::named("hubmachine");
    let mut script = String::new();
    let bin = Path::new(PROGRAM).parent().unwrap().to_str().unwrap();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    for (name, value) in machine.vars().into_iter().chain([("PATH".into(), path)]) {
        writeln!(script, "export {name}='{value}'").unwrap();
    }
    script += "exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n";
    let Some(server) = Sshd::forcing(test, &script) else {
        return;
    };
    let user = prosody().account();
    let file = machine.config(&account(prosody(), &user));
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    let wish = Wish {
        transports: "\"xmpp\"",
        poll: "1h",
        ..Wish::default()
    };
    let trio = trio(&server, prosody(), &user, wish);
    let hook = trio.hub.join("hooks/post-receive");
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hooks/post-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::copy(text, &hook).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();

    // Somebody without an agent.
    let person = Sandbox::named("elsewhere");
    let home = person.home();
    let ssh = server.command();
    person.git(&home, ["config", "--global", "core.sshCommand", &ssh]);
    let url = format!("ssh://hub.test{}", trio.hub.display());
    person.git(&home, ["clone", "-q", &url, "work"]);
    let work = home.join("work");
    fs::write(work.join("by hand.txt"), "by hand\n").unwrap();
    fs::remove_file(work.join("first.txt")).unwrap();
    person.git(&work, ["add", "-A"]);
    person.git(&work, ["commit", "-q", "-m", "by hand"]);
    person.git(&work, ["push", "-q", "origin", "main"]);
    let commit = person.git(&work, ["rev-parse", "HEAD"]);
    for host in &trio.hosts {
        host.sees("what was pushed by hand", |root| {
            root.join("by hand.txt").exists()
        });
        assert_eq!(host.barrier().head, commit);
    }
    let tree = trio.ends_well();
    assert_eq!(tree.len(), 1);
}
