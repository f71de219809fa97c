//! A hub behind ssh that lets nobody in, is somebody else, or stands still, under a living agent.

use std::fs;

use autosync::engine::status::State;

use super::{AT_ONCE, Told, held, well};
use crate::ssh::server::{Server, tool};
use crate::ssh::stopping::STALL;
use crate::support::Sandbox;
use crate::support::host::Host;

/// A host whose hub is on the server, in sync.
fn host(server: &Server) -> Host {
    host_in(Sandbox::named("laptop"), server)
}

fn host_in(sandbox: Sandbox, server: &Server) -> Host {
    let hub = server.hub("hub.git");
    let mut host = Host::of(sandbox, "laptop").with_args([""; 0]);
    fs::create_dir(&host.folder).unwrap();
    host.git(["init", "-q"]);
    host.git(["config", "core.sshCommand", &server.command()]);
    let url = format!("ssh://hub.test{}", hub.display());
    let config = format!("{AT_ONCE}[[folder]]\npath = \"~/Sync\"\nhub = \"{url}\"\n");
    host.sandbox.config(&config);
    host.start();
    host.write("a", "1\n");
    host.synced();
    host
}

/// Edits and asserts that it is committed here, held with this code, told once, and not tried over
/// and over.
#[track_caller]
fn is_held(host: &Host, server: &Server, code: &str) {
    let told = Told::by(host);
    host.write("a", "2\n");
    let status = held(host, code);
    assert!(!status.published, "{status:#?}");
    host.until("it is committed", |host| {
        host.git(["show", "HEAD:a"]) == "2"
    });
    told.only(host, code);
    let hub = server.at("hub.git");
    assert_eq!(host.sandbox.git(&hub, ["show", "main:a"]), "1");
}

#[track_caller]
fn comes_back(host: &Host, server: &Server) {
    host.run(["sync"]).ok();
    well(host);
    host.synced();
    let hub = server.at("hub.git");
    assert_eq!(host.sandbox.git(&hub, ["show", "main:a"]), "2");
}

#[test]
fn a_login_that_was_revoked_is_held_and_asked_once() {
    let Some(mut server) = Server::start("a_login_that_was_revoked_is_held_and_asked_once") else {
        return;
    };
    let host = host(&server);
    server.shut_down();
    fs::write(server.at("authorized_keys"), "").unwrap();
    server.listen();
    is_held(&host, &server, "auth");
    assert!(host.folder_status().hint.contains("key"));
    fs::copy(server.at("key.pub"), server.at("authorized_keys")).unwrap();
    comes_back(&host, &server);
}

#[test]
fn a_server_with_another_key_is_held_and_nothing_is_sent_to_it() {
    let test = "a_server_with_another_key_is_held_and_nothing_is_sent_to_it";
    let Some(mut server) = Server::start(test) else {
        return;
    };
    let host = host(&server);
    server.shut_down();
    for file in ["host_key", "host_key.pub"] {
        fs::remove_file(server.at(file)).unwrap();
    }
    let key = server.at("host_key").display().to_string();
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    server.listen();
    let before = fs::read(server.at("known_hosts")).unwrap();
    is_held(&host, &server, "host-key");
    assert_eq!(fs::read(server.at("known_hosts")).unwrap(), before);
    server.know_key();
    comes_back(&host, &server);
}

/// Refuses as a forge does whose rules a push breaks.
const REFUSES: &str = "#!/bin/sh\n\
    echo x >>\"$(dirname \"$0\")/../asked\"\n\
    printf 'no big \\033[31mfiles\\n' >&2\n\
    exit 1\n";

#[test]
fn a_hook_that_refuses_is_heard_once_and_what_is_here_stays() {
    use std::os::unix::fs::PermissionsExt;
    let Some(server) = Server::start("a_hook_that_refuses_is_heard_once_and_what_is_here_stays")
    else {
        return;
    };
    let host = host(&server);
    let hub = server.at("hub.git");
    let hook = hub.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, REFUSES).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let told = Told::by(&host);
    host.write("a", "2\n");
    host.until("it is refused", |host| {
        host.folder_status().code == "declined"
    });
    let status = host.folder_status();
    assert!(matches!(status.state, State::Held), "{status:#?}");
    assert!(status.message.contains("no big"), "{status:#?}");
    assert!(!status.message.contains('\x1b'), "{status:#?}");
    let asked = || {
        let asked = fs::read_to_string(hub.join("asked")).unwrap_or_default();
        asked.lines().count()
    };
    let before = asked();
    host.barrier();
    assert!(asked() <= before + 1, "{}", asked());
    assert_eq!(host.git(["show", "HEAD:a"]), "2");
    told.catch_up(&host);
    assert_eq!(told.codes(), ["declined"]);
    fs::remove_file(&hook).unwrap();
    comes_back(&host, &server);
}

#[test]
fn a_hub_that_stands_still_is_given_up_said_and_tried_again() {
    let test = "a_hub_that_stands_still_is_given_up_said_and_tried_again";
    let Some(server) = Server::forcing(test, STALL) else {
        return;
    };
    let sandbox = Sandbox::named("laptop")
        .with("AUTOSYNC_TEST_SILENCE_MILLIS", "1500")
        .with("AUTOSYNC_TEST_TELL_MILLIS", "0");
    let host = host_in(sandbox, &server);
    let told = Told::by(&host);
    fs::write(server.at("stall"), "").unwrap();
    host.write("a", "2\n");
    host.until("the push stands still", |_| server.at("stalled").exists());
    // Nothing here waits for it.
    host.write("b", "1\n");
    host.until("it is committed", |host| {
        host.git(["ls-tree", "--name-only", "HEAD"]) == "a\nb"
    });
    host.until("it is given up", |host| {
        let status = host.folder_status();
        status.code == "stalled" && status.state == State::Retry
    });
    let status = host.folder_status();
    assert!(!status.published && !status.hint.is_empty(), "{status:#?}");
    let tries = || fs::read_to_string(server.at("stalled")).unwrap().len() / 2;
    host.until("it is tried again", |_| tries() > 1);
    fs::remove_file(server.at("stall")).unwrap();
    comes_back(&host, &server);
    told.catch_up(&host);
    assert_eq!(told.codes(), ["stalled"], "{}", host.log());
}
