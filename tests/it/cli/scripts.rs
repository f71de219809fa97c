//! What `status --json` promises to scripts: every field of `tests/cases/status.json` by its name,
//! with its type and its meaning, and every word of `tests/cases/status_words.json`. More may come,
//! nothing may go.

use autosync::control::Ask;
use autosync::engine::event::Code;
use autosync::engine::status::{
    AgentStatus, AsideStatus, ConflictStatus, Counters, DeferredStatus, FolderStatus, HeldStatus,
    HubStatus, Last, MarkedStatus, Moment, NoticedStatus, PeerStatus, Pending, Progress, State,
    Status, TransportStatus,
};
use serde_json::Value;

use super::beside;
use crate::support::Sandbox;
use crate::support::host::Host;

/// What may be null: a folder without a hub, nothing done yet, no long job.
const MAYBE: [&str; 5] = [
    "/folders/0/hub",
    "/folders/0/last/commit",
    "/folders/0/last/push",
    "/folders/0/last/receive",
    "/folders/0/progress",
];

fn case(name: &str) -> Value {
    let place = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read(format!("{place}/tests/cases/{name}.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Asserts that everything promised is there, field by field, with the same values if `exactly`,
/// else of the same types. A list that is empty promises nothing of what would be in it.
fn assert_promised(promised: &Value, told: &Value, at: &str, exactly: bool) {
    match (promised, told) {
        (Value::Object(promised), Value::Object(told)) => {
            for (key, value) in promised {
                let at = format!("{at}/{key}");
                let told = told.get(key).unwrap_or_else(|| panic!("no {at} any more"));
                assert_promised(value, told, &at, exactly);
            }
        }
        (Value::Array(promised), Value::Array(told)) => {
            assert!(!exactly || promised.len() == told.len(), "{at}");
            for (number, told) in told.iter().enumerate() {
                assert_promised(&promised[0], told, &format!("{at}/{number}"), exactly);
            }
        }
        (_, Value::Null) if !exactly && MAYBE.contains(&at) => {}
        (promised, told) if exactly => assert_eq!(promised, told, "{at}"),
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => {}
        (Value::Number(_), Value::Number(told)) => assert!(told.is_u64(), "{at}: {told}"),
        (promised, told) => panic!("{at} is no longer as {promised}: {told}"),
    }
}

fn id(digit: u8) -> String {
    format!("{digit:040}")
}

fn at(second: u8) -> String {
    format!("2026-11-20T09:00:{second:02}Z")
}

fn moment(oid: u8, second: u8, host: Option<&str>) -> Moment {
    Moment {
        oid: id(oid),
        at: at(second),
        host: host.map(str::to_owned),
    }
}

fn folder() -> FolderStatus {
    FolderStatus {
        name: "Sync".into(),
        path: "/home/me/Sync".into(),
        id: id(1),
        branch: "main".into(),
        state: State::Working,
        code: Code::MassDelete.word(),
        message: "a sentence".into(),
        hint: "what to do".into(),
        since: at(1),
        hub: Some(HubStatus {
            url: "me@server:Sync.git".into(),
            reachable: true,
            last_ok: at(2),
        }),
        head: id(2),
        published: true,
        pending: Pending {
            paths: 1,
            commits: 2,
        },
        held: vec![HeldStatus {
            code: Code::TooBig.word(),
            paths: vec!["a.iso".into()],
            more: 3,
            message: "a guard".into(),
            hint: "what helps".into(),
            incoming: false,
        }],
        deferred: vec![DeferredStatus {
            path: "app.db".into(),
            why: "open for writing".into(),
        }],
        conflicts: vec![ConflictStatus {
            path: "a".into(),
            copy: "a (conflict)".into(),
            host: "server".into(),
            since: at(3),
        }],
        marked: vec![MarkedStatus {
            path: "b".into(),
            commit: id(6),
            before: vec![id(7)],
            author: "A Person".into(),
            since: at(11),
        }],
        aside: vec![AsideStatus {
            path: ".env".into(),
            now: "/elsewhere/.env".into(),
        }],
        last: Last {
            commit: Some(moment(3, 4, None)),
            push: Some(moment(4, 5, None)),
            receive: Some(moment(5, 6, Some("server"))),
        },
        progress: Some(Progress {
            what: "push".into(),
            done: 4,
            total: 9,
            unit: "files".into(),
        }),
        counters: Counters {
            snapshots: 11,
            commits: 12,
            pushes: 13,
            fetches: 14,
            merges: 15,
            applies: 16,
            rescans: 17,
            notices_sent: 18,
            notices_received: 19,
        },
    }
}

fn full() -> Status {
    Status {
        version: 1,
        host: "laptop".into(),
        agent: AgentStatus {
            pid: 42,
            version: "0.1.0".into(),
            since: at(0),
        },
        folders: vec![folder()],
        transports: vec![TransportStatus {
            name: "hub".into(),
            state: "online".into(),
            message: "a word".into(),
            hint: "what to try".into(),
            since: at(7),
            peers: vec![PeerStatus {
                host: "server".into(),
                heard: at(8),
            }],
            folders: vec![NoticedStatus {
                name: "Sync".into(),
                sent: at(9),
                received: at(10),
            }],
        }],
    }
}

#[tokio::test]
async fn every_field_keeps_its_name_its_type_and_its_meaning() {
    let sandbox = Sandbox::new();
    let answer = |ask| match ask {
        Ask::Status { reply } => reply.send(Ok(full())).unwrap(),
        other => panic!("{other:?}"),
    };
    let (ran, _) = beside(&sandbox, &["status", "--json"], answer).await;
    assert_eq!(ran.code, Some(3), "something is held: {ran:?}");
    let told = serde_json::from_str(&ran.out).unwrap();
    assert_promised(&case("status"), &told, "", true);
}

#[test]
fn an_agent_tells_every_field_even_when_there_is_nothing_to_tell() {
    let mut laptop = Host::new("laptop");
    laptop.start();
    let told = |host: &Host| {
        host.barrier();
        serde_json::from_str(&host.run(["status", "--json"]).ok()).unwrap()
    };
    let promised = case("status");
    assert_promised(&promised, &told(&laptop), "", false);
    laptop.write("a", "a\n");
    laptop.synced();
    let told: Value = told(&laptop);
    assert_promised(&promised, &told, "", false);
    for place in ["/folders/0/last/commit", "/folders/0/last/push"] {
        let oid = told.pointer(&format!("{place}/oid")).unwrap();
        assert_eq!(oid, told.pointer("/folders/0/head").unwrap(), "{place}");
    }
    assert!(!told["transports"].as_array().unwrap().is_empty());
}

#[test]
fn every_word_of_a_state_and_of_a_trouble_stays() {
    let words = case("status_words");
    for word in words["state"].as_array().unwrap() {
        let state: State = serde_json::from_value(word.clone()).unwrap();
        assert_eq!(serde_json::to_value(state).unwrap(), *word);
    }
    for word in words["code"].as_array().unwrap() {
        let code: Code = serde_json::from_value(word.clone()).unwrap();
        assert_eq!(code.word(), word.as_str().unwrap());
    }
}
