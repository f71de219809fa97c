use super::page::{ago, lines};
use super::*;
use crate::engine::status::{
    AgentStatus, ConflictStatus, Counters, DeferredStatus, FolderStatus, HeldStatus, HubStatus,
    Last, Moment, NoticedStatus, PeerStatus, Pending, Progress, TransportStatus,
};

/// 2026-11-20T12:00:00Z.
const NOW: i64 = 1_795_176_000;

fn folder(name: &str, state: State) -> FolderStatus {
    FolderStatus {
        name: name.into(),
        path: format!("/home/me/{name}"),
        id: String::new(),
        branch: "main".into(),
        state,
        code: "ok".into(),
        message: String::new(),
        hint: String::new(),
        since: "2026-11-20T11:58:00Z".into(),
        hub: Some(HubStatus {
            url: format!("me@server:{name}.git"),
            reachable: true,
            last_ok: String::new(),
        }),
        head: String::new(),
        published: true,
        pending: Pending::default(),
        held: Vec::new(),
        deferred: Vec::new(),
        conflicts: Vec::new(),
        marked: Vec::new(),
        aside: Vec::new(),
        last: Last::default(),
        progress: None,
        counters: Counters::default(),
    }
}

fn status(folders: Vec<FolderStatus>) -> Status {
    Status {
        version: 1,
        host: "laptop".into(),
        agent: AgentStatus {
            pid: 42,
            version: "0.1.0".into(),
            since: "2026-11-20T09:00:00+00:00".into(),
        },
        folders,
        transports: Vec::new(),
    }
}

#[test]
fn a_healthy_host_takes_two_lines_a_folder() {
    let mut sync = folder("Sync", State::Idle);
    sync.last.push = Some(Moment {
        oid: String::new(),
        at: "2026-11-20T12:59:48+01:00".into(),
        host: None,
    });
    let mut notes = folder("Notes", State::Idle);
    notes.hub = None;
    let mut all = status(vec![sync, notes]);
    all.transports.push(TransportStatus {
        name: "hub".into(),
        state: "online".into(),
        message: String::new(),
        hint: String::new(),
        since: String::new(),
        peers: vec![PeerStatus {
            host: "server".into(),
            heard: "2026-11-20T11:57:00Z".into(),
        }],
        folders: vec![NoticedStatus {
            name: "Sync".into(),
            sent: "2026-11-20T11:59:00Z".into(),
            received: "2026-11-20T11:58:00Z".into(),
        }],
    });
    assert_eq!(
        lines(&all, NOW),
        [
            "laptop: agent 0.1.0, process 42, up 3h",
            "Sync   idle        in sync, 12s ago",
            "                   /home/me/Sync -> me@server:Sync.git (main)",
            "Notes  idle        local versions only",
            "                   /home/me/Notes (main)",
            "hub    online      heard server 3m ago",
            "                   Sync: told others 1m ago, was told 2m ago",
        ]
    );
    assert_eq!(exit(&all), Exit::Done);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do_and_fits_80_columns() {
    let mut retry = folder("Documents", State::Retry);
    retry.code = "hub-unreachable".into();
    retry.message = "the hub does not answer: ssh: connect to host server.example.org port 22: \
                     Connection timed out"
        .into();
    retry.hint = "It is tried again by itself; check the network if it lasts.".into();
    retry.published = false;
    retry.pending = Pending {
        paths: 1,
        commits: 3,
    };
    let mut held = folder("Sync", State::Idle);
    held.held.push(HeldStatus {
        code: "too-big".into(),
        paths: ["a.iso", "b.iso", "c.iso", "d.iso"]
            .map(str::to_owned)
            .into(),
        more: 6,
        message: "larger than 1GiB".into(),
        hint: "Run `autosync approve Sync` to let them pass.".into(),
        incoming: false,
    });
    held.deferred.push(DeferredStatus {
        path: "app.db".into(),
        why: "open for writing".into(),
    });
    held.conflicts.push(ConflictStatus {
        path: "a".into(),
        copy: "b".into(),
        host: String::new(),
        since: String::new(),
    });
    let all = status(vec![retry, held]);
    let page = lines(&all, NOW);
    assert!(
        page.iter().all(|line| line.chars().count() <= 80),
        "{page:#?}"
    );
    let text: Vec<&str> = page.iter().map(|line| line.trim_start()).collect();
    assert_eq!(
        text,
        [
            "laptop: agent 0.1.0, process 42, up 3h",
            "Documents  retry       the hub does not answer: ssh: connect to host",
            "server.example.org port 22: Connection timed out, for 2m",
            "It is tried again by itself; check the network if it",
            "lasts.",
            "/home/me/Documents -> me@server:Documents.git (main)",
            "1 changed path to commit, 3 commits to push",
            "Sync       idle        in sync, except what is held",
            "/home/me/Sync -> me@server:Sync.git (main)",
            "held: larger than 1GiB: a.iso, b.iso, c.iso and 7 more",
            "Run `autosync approve Sync` to let them pass.",
            "waits: app.db (open for writing)",
            "1 conflict copy; see `autosync conflicts`",
        ]
    );
    assert_eq!(exit(&all), Exit::Partly);
}

#[test]
fn progress_is_shown_while_it_works() {
    let mut working = folder("Sync", State::Working);
    working.progress = Some(Progress {
        what: "push".into(),
        done: 5 << 20,
        total: 3 << 30,
        unit: "bytes".into(),
    });
    let page = lines(&status(vec![working]), NOW).join("\n");
    assert!(page.contains("push: 5 MiB of 3 GiB"), "{page}");
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let mut evil = folder("\u{1b}]0;x\u{7}", State::Held);
    evil.path = "/a\u{202e}b".into();
    evil.message = "bad\u{1b}[2J".into();
    let page = lines(&status(vec![evil]), NOW).join("\n");
    assert!(!page.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{page}");
    assert!(page.contains("/a\\u{202e}b"), "{page}");
}

#[test]
fn the_exit_code_says_whether_syncing_has_stopped() {
    for (state, meant) in [
        (State::Idle, Exit::Done),
        (State::Working, Exit::Done),
        (State::Paused, Exit::Done),
        (State::Retry, Exit::Partly),
        (State::Held, Exit::Partly),
    ] {
        let all = status(vec![folder("a", State::Idle), folder("b", state)]);
        assert_eq!(exit(&all), meant, "{state:?}");
    }
}

#[test]
fn times_are_told_roughly() {
    for (at, told) in [
        ("2026-11-20T12:00:00Z", "just now"),
        ("2026-11-20T12:00:09Z", "just now"),
        ("2026-11-20T11:59:01Z", "59s ago"),
        ("2026-11-20T11:00:01Z", "59m ago"),
        ("2026-11-18T12:00:01Z", "47h ago"),
        ("2026-11-18T12:00:00Z", "2d ago"),
        ("once", "once"),
    ] {
        assert_eq!(ago(at, NOW), told);
    }
}
