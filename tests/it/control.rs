//! The control API over a real socket, with a task that answers in the agent's place.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use autosync::control::{
    self, Ask, BindError, Client, ClientError, EVENTS_KEPT, FolderConflicts, Happening,
    LogQuestion, Refusal, Until, What,
};
use autosync::engine::recall::Listed;
use autosync::engine::status::{AgentStatus, AsideStatus, ConflictStatus, MarkedStatus, Status};
use autosync::names::RepoPath;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

/// Nothing in here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn status() -> Status {
    Status {
        version: 1,
        host: "laptop".into(),
        agent: AgentStatus {
            pid: 7,
            version: "0".into(),
            since: String::new(),
        },
        folders: Vec::new(),
        transports: Vec::new(),
    }
}

fn happening(n: usize) -> Happening {
    Happening {
        at: String::new(),
        folder: "Sync".into(),
        what: What::Pushed { oid: n.to_string() },
    }
}

/// A server whose questions the test answers.
struct Served {
    asks: mpsc::Receiver<Ask>,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
    place: TempDir,
}

impl Served {
    /// Serves at a new socket; must be called in a runtime.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("private/control");
        let door = control::bind(&socket).unwrap();
        let (sender, asks) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let stopped = async move { stopped.await.unwrap_or(()) };
            control::serve(door, sender, stopped).await.unwrap();
        });
        Self {
            asks,
            client: Client::new(socket),
            stop: Some(stop),
            tasks,
            place,
        }
    }

    fn socket(&self) -> PathBuf {
        self.client.socket().to_owned()
    }

    async fn asked(&mut self) -> Ask {
        let asked = tokio::time::timeout(PATIENCE, self.asks.recv()).await;
        asked.unwrap().unwrap()
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.unwrap().unwrap().unwrap();
    }
}

/// Sends raw bytes and returns the raw answer.
fn raw(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn raw_from_elsewhere(socket: PathBuf, request: &'static str) -> String {
    let (sender, answer) = oneshot::channel();
    thread::spawn(move || sender.send(raw(&socket, request)));
    answer.await.unwrap()
}

#[tokio::test]
async fn every_order_reaches_the_agent_with_all_that_was_said() {
    let mut served = Served::new();
    let client = served.client.clone();
    let half = Duration::from_millis(500);
    let (done, ()) = tokio::join!(
        async {
            client.sync(Some("Sync")).await?;
            client.pause(None, Some(half)).await?;
            client.pause(Some("Sync"), None).await?;
            client.resume(None).await?;
            client.stop().await
        },
        async {
            let mut seen = Vec::new();
            for _ in 0..5 {
                let ask = served.asked().await;
                seen.push(format!("{ask:?}"));
                let (Ask::Sync { reply, .. }
                | Ask::Pause { reply, .. }
                | Ask::Resume { reply, .. }
                | Ask::Stop { reply }) = ask
                else {
                    panic!("{seen:?}");
                };
                reply.send(Ok(())).unwrap();
            }
            for (seen, said) in seen.iter().zip([
                "Sync { folder: Some(\"Sync\")",
                "Pause { folder: None, length: Some(500ms)",
                "Pause { folder: Some(\"Sync\"), length: None",
                "Resume { folder: None",
                "Stop { ",
            ]) {
                assert!(seen.starts_with(said), "{seen}");
            }
        }
    );
    done.unwrap();
    served.end().await;
}

#[tokio::test]
async fn answers_come_back_as_they_were_given() {
    let mut served = Served::new();
    let client = served.client.clone();
    let conflicts = vec![FolderConflicts {
        folder: "Sync".into(),
        path: "/home/me/Sync".into(),
        conflicts: vec![ConflictStatus {
            path: "a".into(),
            copy: "b".into(),
            host: "server".into(),
            since: "then".into(),
        }],
        marked: vec![MarkedStatus {
            path: "todo.txt".into(),
            commit: "1".repeat(40),
            before: vec!["2".repeat(40)],
            author: "Me".into(),
            since: "2026-11-20T10:00:00+01:00".into(),
        }],
        aside: vec![AsideStatus {
            path: ".env".into(),
            now: "/elsewhere/.env".into(),
        }],
    }];
    let log = vec![Listed {
        operation: 3,
        kind: "undo".into(),
        at: "2026-11-20T10:00:00+01:00".into(),
        host: "laptop".into(),
        what: "undo 2: edited a".into(),
        undone: false,
        undoes: Some(2),
        only_here: false,
        commit: Some("1".repeat(40)),
        before: None,
        paths: vec!["a".into()],
        more: 0,
    }];
    let path = RepoPath::new("\u{e4} & b/+".as_bytes()).unwrap();
    let question = LogQuestion::new(Some("/home/me/Sync %2f".into()), Some(&path), 7);
    let asked = question.clone();
    let (answers, ()) = tokio::join!(
        async {
            (
                client.status().await.unwrap(),
                client.conflicts().await.unwrap(),
                client.log(&question).await.unwrap(),
                client.approve(None).await.unwrap(),
                client.wait(Until::Synced, PATIENCE).await.unwrap(),
                client.barrier(Some("Sync"), PATIENCE).await.unwrap(),
            )
        },
        async {
            for _ in 0..6 {
                match served.asked().await {
                    Ask::Log { question, reply } => {
                        assert_eq!(question, asked);
                        reply.send(Ok(log.clone())).unwrap();
                    }
                    Ask::Status { reply } => reply.send(Ok(status())).unwrap(),
                    Ask::Conflicts { reply } => reply.send(Ok(conflicts.clone())).unwrap(),
                    Ask::Approve { folder, reply } => {
                        assert_eq!(folder, None);
                        reply.send(Ok(vec!["Sync".into()])).unwrap();
                    }
                    Ask::Wait { until, reply } => {
                        assert_eq!(until, Until::Synced);
                        reply.send(Ok(status())).unwrap();
                    }
                    Ask::Barrier { folder, reply } => {
                        assert_eq!(folder.as_deref(), Some("Sync"));
                        reply.send(Ok(status())).unwrap();
                    }
                    other @ (Ask::Events { .. }
                    | Ask::Sync { .. }
                    | Ask::Pause { .. }
                    | Ask::Resume { .. }
                    | Ask::Recall { .. }
                    | Ask::Stop { .. }) => panic!("{other:?}"),
                }
            }
        }
    );
    let sync = vec!["Sync".to_owned()];
    assert_eq!(
        answers,
        (status(), conflicts, log, sync, status(), status())
    );
    served.end().await;
}

#[tokio::test]
async fn a_refusal_arrives_with_its_code_and_its_hint() {
    let mut served = Served::new();
    let client = served.client.clone();
    let (answer, ()) = tokio::join!(client.sync(Some("x")), async {
        let Ask::Sync { reply, .. } = served.asked().await else {
            panic!("not what was asked");
        };
        let refusal = Refusal::NoSuchFolder {
            asked: "x".into(),
            known: vec!["Sync".into(), "Docs".into()],
        };
        reply.send(Err(refusal)).unwrap();
    });
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "there is no folder `x`");
    assert_eq!(error.hint(), "The folders are: Sync, Docs.");
    let ClientError::Refused { code, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, "no-such-folder");
    served.end().await;
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_the_agent_sees_it() {
    let mut served = Served::new();
    let client = served.client.clone();
    let (answer, ()) = tokio::join!(client.wait(Until::Idle, Duration::from_millis(30)), async {
        let Ask::Wait { mut reply, .. } = served.asked().await else {
            panic!("not what was asked");
        };
        tokio::time::timeout(PATIENCE, reply.closed())
            .await
            .unwrap();
    });
    let error = answer.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.to_string(), "not idle within 30ms");
    served.end().await;
}

#[tokio::test]
async fn who_hangs_up_is_not_waited_for() {
    let mut served = Served::new();
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream
        .write_all(b"GET /v1/wait?for=idle HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let Ask::Wait { mut reply, .. } = served.asked().await else {
        panic!("not what was asked");
    };
    assert!(!reply.is_closed());
    drop(stream);
    tokio::time::timeout(PATIENCE, reply.closed())
        .await
        .unwrap();
    served.end().await;
}

#[tokio::test]
async fn events_come_one_a_line_and_a_slow_reader_is_told_what_it_missed() {
    let mut served = Served::new();
    let client = served.client.clone();
    let (events, receiver) = broadcast::channel(EVENTS_KEPT);
    let many = EVENTS_KEPT + 10;
    let mut seen = Vec::new();
    let (ended, ()) = tokio::join!(
        client.events(
            || (),
            |event| {
                seen.push(event);
                true
            }
        ),
        async {
            let Ask::Events { reply } = served.asked().await else {
                panic!("not what was asked");
            };
            // Told before the stream stands: the reader is already behind.
            for n in 0..many {
                events.send(happening(n)).unwrap();
            }
            reply.send(Ok(receiver)).unwrap();
            drop(events);
        }
    );
    ended.unwrap();
    assert_eq!(seen.len(), EVENTS_KEPT + 1);
    assert_eq!(seen[0].what, What::Missed { count: 10 });
    assert_eq!(seen[1], happening(10));
    assert_eq!(seen.last(), Some(&happening(many - 1)));
    served.end().await;
}

#[tokio::test]
async fn an_event_is_told_at_once() {
    let mut served = Served::new();
    let client = served.client.clone();
    let (events, receiver) = broadcast::channel(EVENTS_KEPT);
    let (ready, stands) = oneshot::channel();
    let mut seen = Vec::new();
    let (ended, ()) = tokio::join!(
        client.events(
            || ready.send(()).unwrap(),
            |event| {
                seen.push(event);
                false
            }
        ),
        async {
            let Ask::Events { reply } = served.asked().await else {
                panic!("not what was asked");
            };
            reply.send(Ok(receiver)).unwrap();
            // The stream stands before anything was told, and goes on while its sender lives.
            tokio::time::timeout(PATIENCE, stands)
                .await
                .unwrap()
                .unwrap();
            events.send(happening(1)).unwrap();
        }
    );
    ended.unwrap();
    assert_eq!(seen, [happening(1)]);
    drop(events);
    served.end().await;
}

#[tokio::test]
async fn nonsense_is_refused_in_words_and_never_reaches_the_agent() {
    let mut served = Served::new();
    for (request, status, code) in [
        ("GET /nope HTTP/1.0\r\n\r\n", "404", "no-such-route"),
        ("GET /v1/stop HTTP/1.0\r\n\r\n", "405", "wrong-method"),
        (
            "GET /v1/wait?for=rain HTTP/1.0\r\n\r\n",
            "400",
            "bad-request",
        ),
        ("GET /v1/wait HTTP/1.0\r\n\r\n", "400", "bad-request"),
        (
            "GET /v1/log?number=many HTTP/1.0\r\n\r\n",
            "400",
            "bad-request",
        ),
        (
            "POST /v1/sync HTTP/1.0\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
            "400",
            "bad-request",
        ),
        (
            "POST /v1/pause HTTP/1.0\r\nContent-Length: 14\r\n\r\n{\"for_ms\": -1}",
            "400",
            "bad-request",
        ),
        // What could steer a terminal is shown in a form that does not.
        (
            "GET /v1/wait?for=%1b[2J HTTP/1.0\r\n\r\n",
            "400",
            "bad-request",
        ),
        (
            "POST /v1/recall HTTP/1.0\r\nContent-Length: 20\r\n\r\n{\"what\":\"\\u001b[2J\"}",
            "400",
            "bad-request",
        ),
        (
            "POST /v1/recall HTTP/1.0\r\nContent-Length: 18\r\n\r\n{\"\\u001b[2J\":true}",
            "400",
            "bad-request",
        ),
    ] {
        let answer = raw_from_elsewhere(served.socket(), request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        assert!(!answer.contains("\\u001b"), "{answer}");
    }
    assert!(served.asks.try_recv().is_err());
    served.end().await;
}

#[tokio::test]
async fn an_agent_that_is_gone_is_stopping_and_then_there_is_none() {
    let mut served = Served::new();
    let client = served.client.clone();
    let (answer, ()) = tokio::join!(client.status(), async {
        let Ask::Status { reply } = served.asked().await else {
            panic!("not what was asked");
        };
        drop(reply);
    });
    assert_eq!(answer.unwrap_err().to_string(), "the agent is stopping");

    let socket = served.socket();
    assert!(socket.exists());
    served.end().await;
    assert!(!socket.exists(), "the socket goes with the server");
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoAgent), "{error:?}");
    assert_eq!(error.hint(), "Start it with `autosync run`.");
}

#[tokio::test]
async fn an_agent_that_was_killed_leaves_a_socket_that_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("private/control");
    drop(control::bind(&socket).unwrap());
    // What a killed process leaves: a socket's file without anybody who listens behind it. One that
    // listened and was closed would not do, for a child that another test forks in this moment
    // could still hold it.
    let left = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&left, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
    let client = Client::new(socket.clone());
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoAgent), "{error:?}");
    let door = control::bind(&socket).unwrap();
    assert!(matches!(
        control::bind(&socket),
        Err(BindError::InUse { .. })
    ));
    drop(door);
}

#[tokio::test]
async fn the_socket_is_in_a_place_that_is_ours_alone() {
    let served = Served::new();
    let dir = served.place.path().join("private");
    let mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    served.end().await;

    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = control::bind(&open.path().join("control")).unwrap_err();
    assert!(matches!(error, BindError::Open { .. }), "{error:?}");
    let long = open.path().join("x".repeat(120));
    assert!(matches!(
        control::bind(&long),
        Err(BindError::TooLong { .. })
    ));
    let taken = tempfile::tempdir().unwrap();
    fs::set_permissions(taken.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(taken.path().join("control"), "a file").unwrap();
    let error = control::bind(&taken.path().join("control")).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
}
