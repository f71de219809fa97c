//! ssh hubs, against a real sshd on loopback: one session, one connection, every failure a
//! sentence, nothing left behind.

use std::fs;
use std::time::Duration;

use autosync::engine::event::{Code, Event, Fetched, Pushed, Recovery};
use autosync::git::hub::Kind;
use autosync::process;
use autosync::transport::hub::Pace;
use autosync::transport::{HubTransport, Transport};
use rustix::process::Signal;

use crate::network::{Clone, confirmed, fetch_trouble, git, skipped};
use crate::transport_path::{advance, measured};

pub(crate) mod server;
pub(crate) mod stopping;

use server::{
    FORGE, PLAIN, Server, children, family, kill, tool, try_watch_end, wait_for_end, watch_end,
    words,
};

fn quick() -> Pace {
    Pace {
        away: Duration::from_millis(50),
        beat: Duration::from_millis(500),
        answer: Duration::from_secs(20),
        ..Pace::default()
    }
}

#[test]
fn fetches_and_pushes_go_over_one_shared_connection() {
    let Some(server) = Server::start("fetches_and_pushes_go_over_one_shared_connection") else {
        return;
    };
    let hub = server.hub("hub.git");
    let (a, b) = (server.clone("a", &hub), server.clone("b", &hub));
    assert_eq!(b.fetch(), Fetched::Tip(None));
    let first = a.commit(&[], "one", "1");
    assert_eq!(a.push(first), confirmed(first));
    assert_eq!(b.fetch(), Fetched::Tip(Some(first)));
    let second = b.commit(&[first], "two", "2");
    assert_eq!(b.push(second), confirmed(second));
    assert_eq!(a.fetch(), Fetched::Tip(Some(second)));
    let behind = a.commit(&[first], "three", "3");
    assert_eq!(a.push(behind), Pushed::Rejected);
    assert_eq!(server.connections().len(), 1);
    let connection = watch_end(server.connections()[0]);
    server.close_connection(&a);
    wait_for_end(&connection, "the shared connection");
}

#[test]
fn two_folders_on_one_server_share_one_session_and_hear_their_own() {
    let test = "two_folders_on_one_server_share_one_session_and_hear_their_own";
    for (kind, script) in [("inotifywait", ""), ("plain sh", PLAIN)] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let (one, two) = (server.hub("one.git"), server.hub("two hubs.git"));
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &one));
        transport.watch(&server.folder("b", &two));
        inbox.expect_online("a", true);
        inbox.expect_online("b", true);
        let shells = server.shells();
        assert_eq!(shells.len(), 1, "{kind}");
        assert_eq!(server.connections().len(), 1, "{kind}");
        let id = advance(&two, "x");
        inbox.expect_notice("b", id);
        let start = autosync::clock::now();
        let id = advance(&one, "y");
        let moved = autosync::clock::now();
        inbox.expect_notice("a", id);
        let late = autosync::clock::now().since(moved);
        measured(
            &format!("ssh, {kind}: the move of a branch is noticed after"),
            late,
        );
        assert!(autosync::clock::now().since(start) < Duration::from_secs(10));
        // Packed: nothing moved. Then it moves on from there.
        git(&one, &["pack-refs", "--all"]);
        let id = advance(&one, "z");
        inbox.expect_notice("a", id);
        git(&one, &["pack-refs", "--all"]);
        git(&one, &["update-ref", "-d", "refs/heads/main"]);
        let (key, event) = inbox.next();
        assert!(
            matches!(event, Event::Noticed(notice, _) if notice.commit.is_none() && key == "a")
        );
        // A folder more makes a new session, in which the others are heard as before.
        let three = server.hub("three.git");
        let gone = watch_end(shells[0]);
        transport.watch(&server.folder("c", &three));
        inbox.expect_online("c", true);
        wait_for_end(&gone, "the first session");
        assert_eq!((server.shells().len(), server.connections().len()), (1, 1));
        for (key, hub) in [("a", &one), ("b", &two), ("c", &three)] {
            let id = advance(hub, key);
            inbox.expect_notice(key, id);
        }
        let shell = watch_end(server.shells()[0]);
        let connection = watch_end(server.connections()[0]);
        drop(transport);
        wait_for_end(&shell, "the shell on the server");
        wait_for_end(&connection, "the shared connection");
        assert_eq!(inbox.rest(), []);
    }
}

#[test]
fn a_reftable_and_a_nested_branch_are_seen_over_ssh() {
    let test = "a_reftable_and_a_nested_branch_are_seen_over_ssh";
    if autosync::git::check_version().unwrap() < (2, 45) {
        skipped(test, "this git has no reftable");
        return;
    }
    for script in ["", PLAIN] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let table = server.at("table");
        let args = [
            "init",
            "-q",
            "--bare",
            "-b",
            "main",
            "--ref-format=reftable",
            "table",
        ];
        git(server.dir.path(), &args);
        let nested = server.hub("nested.git");
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &table));
        let mut deep = server.folder("b", &nested);
        deep.branch = "deep/er/main".into();
        transport.watch(&deep);
        inbox.expect_online("a", true);
        inbox.expect_online("b", true);
        for text in ["first", "second"] {
            let id = advance(&table, text);
            inbox.expect_notice("a", id);
            let id = advance(&nested, text).to_string();
            git(&nested, &["update-ref", "refs/heads/deep/er/main", &id]);
            let (key, event) = inbox.next();
            let Event::Noticed(notice, _) = event else {
                panic!("{event:?}");
            };
            assert_eq!(
                (key.as_str(), notice.commit.unwrap().to_string()),
                ("b", id)
            );
            git(&nested, &["pack-refs", "--all"]);
        }
    }
}

#[test]
fn a_session_that_is_cut_or_whose_client_is_killed_leaves_nothing_and_comes_back() {
    let test = "a_session_that_is_cut_or_whose_client_is_killed_leaves_nothing_and_comes_back";
    for script in ["", PLAIN] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let hub = server.hub("hub.git");
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &hub));
        inbox.expect_online("a", true);
        // The server's side of the connection dies.
        let left: Vec<_> = family(server.shells()[0])
            .into_iter()
            .filter_map(try_watch_end)
            .collect();
        let shell = watch_end(server.shells()[0]);
        for connection in server.connections() {
            for pid in family(connection) {
                if words(pid)
                    .first()
                    .is_some_and(|word| word.starts_with("sshd"))
                {
                    kill(pid, Signal::KILL);
                }
            }
            kill(connection, Signal::KILL);
        }
        inbox.expect_online("a", false);
        wait_for_end(&shell, "the shell on the server");
        for process in &left {
            wait_for_end(process, "a job of the shell");
        }
        inbox.expect_online("a", true);
        let id = advance(&hub, "x");
        inbox.expect_notice("a", id);
        // Our side of the session is killed without a word.
        let shell_pid = server.shells()[0];
        let left: Vec<_> = family(shell_pid)
            .into_iter()
            .filter_map(try_watch_end)
            .collect();
        let shell = watch_end(shell_pid);
        let ours: Vec<i32> = children(rustix::process::getpid().as_raw_nonzero().get())
            .into_iter()
            .filter(|pid| {
                let words = words(*pid).join(" ");
                words.ends_with("sh -s") && words.contains(&server.command())
            })
            .collect();
        assert_eq!(ours.len(), 1);
        for pid in family(ours[0]).into_iter().chain(ours) {
            kill(pid, Signal::KILL);
        }
        inbox.expect_online("a", false);
        wait_for_end(&shell, "the shell on the server");
        for process in &left {
            wait_for_end(process, "a job of the shell");
        }
        inbox.expect_online("a", true);
    }
}

#[test]
fn a_stalled_server_is_noticed_and_its_shell_ends_by_itself() {
    let Some(server) = Server::start("a_stalled_server_is_noticed_and_its_shell_ends_by_itself")
    else {
        return;
    };
    let hub = server.hub("hub.git");
    let pace = Pace {
        answer: Duration::from_secs(3),
        ..quick()
    };
    let (mut transport, inbox) = server.transport(pace);
    transport.watch(&server.folder("a", &hub));
    inbox.expect_online("a", true);
    let shell = watch_end(server.shells()[0]);
    let connection = server.connections()[0];
    let frozen: Vec<i32> = family(connection)
        .into_iter()
        .filter(|pid| {
            words(*pid)
                .first()
                .is_some_and(|word| word.starts_with("sshd"))
        })
        .chain([connection])
        .collect();
    for pid in &frozen {
        kill(*pid, Signal::STOP);
    }
    inbox.expect_online("a", false);
    let status = transport.status();
    assert!(status.message.contains("stalled"), "{status:?}");
    wait_for_end(&shell, "the shell on the server");
    inbox.expect_online("a", true);
    for pid in frozen {
        kill(pid, Signal::KILL);
    }
    let id = advance(&hub, "x");
    inbox.expect_notice("a", id);
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let Some(mut server) = Server::start("a_server_that_restarts_is_found_again") else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    inbox.expect_online("a", true);
    server.shut_down();
    inbox.expect_online("a", false);
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::HubUnreachable, Recovery::Retry)
    );
    assert!(
        trouble.message.contains("Connection refused"),
        "{}",
        trouble.message
    );
    assert_eq!(transport.status().state, "retry");
    server.listen();
    inbox.expect_online("a", true);
    assert_eq!(clone.fetch(), Fetched::Tip(None));
}

#[test]
fn a_host_key_that_changed_or_is_unknown_is_never_accepted() {
    let Some(mut server) = Server::start("a_host_key_that_changed_or_is_unknown_is_never_accepted")
    else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    let commit = clone.commit(&[], "one", "1");
    assert_eq!(clone.push(commit), confirmed(commit));
    server.close_connection(&clone);
    server.shut_down();
    for file in ["host_key", "host_key.pub"] {
        fs::remove_file(server.at(file)).unwrap();
    }
    let key = server.at("host_key").display().to_string();
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    server.listen();
    for (known, says) in [(true, "has changed"), (false, "is not known")] {
        if !known {
            fs::write(server.at("known_hosts"), "").unwrap();
        }
        let before = fs::read(server.at("known_hosts")).unwrap();
        let trouble = fetch_trouble(clone.fetch());
        assert_eq!(
            (trouble.code, trouble.recovery),
            (Code::HostKey, Recovery::Hold)
        );
        assert!(trouble.message.contains(says), "{}", trouble.message);
        assert_eq!(fs::read(server.at("known_hosts")).unwrap(), before);
        let (mut transport, inbox) = server.transport(quick());
        transport.watch(&server.folder("a", &hub));
        let status = settled(&transport);
        assert_eq!(status.state, "held", "{status:?}");
        assert!(status.message.contains(says), "{status:?}");
        inbox.expect_nothing();
    }
    server.know_key();
    assert_eq!(clone.fetch(), Fetched::Tip(Some(commit)));
}

/// Waits until the transport has made up its mind.
fn settled(transport: &HubTransport) -> autosync::engine::status::TransportStatus {
    let deadline = process::deadline(Duration::from_secs(30));
    loop {
        let status = transport.status();
        if status.state != "connecting" {
            return status;
        }
        assert!(autosync::clock::now() < deadline, "{status:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_refused_key_is_a_hold_and_not_tried_over_and_over() {
    let Some(server) = Server::start("a_refused_key_is_a_hold_and_not_tried_over_and_over") else {
        return;
    };
    let hub = server.hub("hub.git");
    let clone = server.clone("a", &hub);
    fs::write(server.at("authorized_keys"), "").unwrap();
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::Auth, Recovery::Hold)
    );
    assert!(trouble.hint.contains("key"), "{}", trouble.hint);
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    assert_eq!(settled(&transport).state, "held");
    inbox.expect_nothing();
    // A person mended it and asks.
    fs::copy(server.at("key.pub"), server.at("authorized_keys")).unwrap();
    transport.retry();
    inbox.expect_online("a", true);
    assert_eq!(clone.fetch(), Fetched::Tip(None));
}

#[test]
fn a_forge_that_refuses_commands_is_asked_once_and_fetched_from() {
    let test = "a_forge_that_refuses_commands_is_asked_once_and_fetched_from";
    let Some(server) = Server::forcing(test, FORGE) else {
        return;
    };
    let hub = server.hub("hub.git");
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &hub));
    let status = settled(&transport);
    assert_eq!(status.state, "held");
    assert!(status.message.contains("polled"), "{status:?}");
    inbox.expect_nothing();
    let tries = || {
        fs::read_to_string(server.at("log"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(tries(), 1);
    let clone = server.clone("a", &hub);
    let commit = clone.commit(&[], "one", "1");
    assert_eq!(clone.push(commit), confirmed(commit));
    assert_eq!(clone.fetch(), Fetched::Tip(Some(commit)));
    // The connection that the transport opened served both.
    assert_eq!(tries(), 3);
    assert_eq!(server.connections().len(), 1);
}

#[test]
fn a_repository_that_is_missing_on_the_server_is_said_and_seen_when_it_comes() {
    let test = "a_repository_that_is_missing_on_the_server_is_said_and_seen_when_it_comes";
    let Some(server) = Server::start(test) else {
        return;
    };
    let path = server.at("hub.git");
    let clone = server.clone("a", &path);
    let trouble = fetch_trouble(clone.fetch());
    assert_eq!(
        (trouble.code, trouble.recovery),
        (Code::HubMissing, Recovery::Hold)
    );
    let (mut transport, inbox) = server.transport(quick());
    transport.watch(&server.folder("a", &path));
    let status = settled(&transport);
    assert_eq!(status.state, "retry");
    assert!(status.message.contains("hub.git"), "{status:?}");
    server.hub("hub.git");
    inbox.expect_online("a", true);
    let id = advance(&path, "x");
    inbox.expect_notice("a", id);
    fs::remove_dir_all(&path).unwrap();
    inbox.expect_online("a", false);
}

#[test]
fn a_shallow_clone_learns_its_root_from_the_server_or_from_the_commits_of_a_forge() {
    let test = "a_shallow_clone_learns_its_root_from_the_server_or_from_the_commits_of_a_forge";
    for (script, filters) in [("", "false"), (FORGE, "true"), (FORGE, "false")] {
        let Some(server) = Server::forcing(test, script) else {
            return;
        };
        let hub = server.hub("hub.git");
        git(&hub, &["config", "uploadpack.allowFilter", filters]);
        let whole = server.clone("whole", &hub);
        let mut tip = whole.commit(&[], "root", "0");
        let root = tip;
        for number in ["1", "2", "3"] {
            tip = whole.commit(&[tip], "more", number);
        }
        assert_eq!(whole.push(tip), confirmed(tip));
        let url = format!("file://{}", hub.display());
        let dir = server.at("shallow");
        let into = dir.to_str().unwrap();
        git(&hub, &["clone", "-q", "--depth=1", &url, into]);
        git(&dir, &["config", "core.sshCommand", &server.command()]);
        let mut clone = Clone::open(&dir, "shallow", &format!("hub.test:{}", hub.display()));
        clone.runtime = server.at("run");
        let objects = || git(&dir, &["count-objects", "-v"]);
        let before = objects();
        assert_eq!(clone.root_at_hub(tip), Some(root), "{script} {filters}");
        assert_eq!(
            objects(),
            before,
            "the folder's own repository stays as it is"
        );
        assert!(git(&dir, &["rev-parse", "--is-shallow-repository"]) == "true");
        assert!(!clone.place.store.join("root.git").exists());
        let mut web = Clone::open(&dir, "shallow", &url);
        web.remote.kind = Kind::Https;
        let wanted = (autosync::git::check_version().unwrap() >= (2, 45)).then_some(root);
        assert_eq!(web.root_at_hub(tip), wanted, "by what the web has");
        // Whose own history is cut short does not know it either.
        fs::write(hub.join("shallow"), format!("{tip}\n")).unwrap();
        assert_eq!(clone.root_at_hub(tip), None, "{script} {filters}");
        server.close_connection(&clone);
    }
}
