//! The other end of the socket: what the command line asks an agent with.
//!
//! Each question is a connection of its own; there is nothing to keep open and nothing to reuse.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::{FolderConflicts, Happening, LogQuestion, RecallQuestion, Until};
use crate::engine::recall::{Answer, Listed, Recall};
use crate::engine::status::Status;

/// An agent answers within this time, or it hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What writes very many files takes this long at most.
const LONG: Duration = Duration::from_secs(3600);
/// No answer is longer.
const ANSWER_MAX: usize = 256 << 20;

/// The way to one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent is running for this user")]
    NoAgent,
    /// The socket cannot be reached or broke.
    #[error("cannot talk to the agent at `{}`: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The agent does not answer.
    #[error("the agent has not answered for {}", crate::config::show_duration(*waited))]
    Silent {
        /// For how long.
        waited: Duration,
    },
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// The word for scripts.
        code: String,
        /// One sentence.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The answer makes no sense.
    #[error("the agent's answer makes no sense to this program: {0}")]
    Garbled(String),
}

impl ClientError {
    /// Returns one sentence that says what to do, empty if there is nothing.
    pub fn hint(&self) -> &str {
        match self {
            Self::NoAgent => "Start it with `autosync run`.",
            Self::Broken { .. } => "Look at the agent's log.",
            Self::Silent { .. } => "Look at the agent's log; a restart finds everything again.",
            Self::Refused { hint, .. } => hint,
            Self::Garbled(_) => "Restart the agent if the program was replaced since it started.",
        }
    }

    /// Returns whether the agent gave up waiting because the time was over.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "timeout")
    }
}

#[derive(Deserialize)]
struct Approved {
    approved: Vec<String>,
}

#[derive(Deserialize)]
struct Failure {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    message: String,
    hint: String,
}

impl Client {
    /// Creates the way to the agent at this socket; nothing is opened yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Returns the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns how everything is.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status", PATIENCE).await
    }

    /// Returns the conflict copies of every folder.
    pub async fn conflicts(&self) -> Result<Vec<FolderConflicts>, ClientError> {
        self.get("/v1/conflicts", PATIENCE).await
    }

    /// Returns what was done in a folder, newest first.
    pub async fn log(&self, question: &LogQuestion) -> Result<Vec<Listed>, ClientError> {
        let route = format!("/v1/log?{}", question.query());
        self.get(&route, LONG).await
    }

    /// Returns how everything is once it is so. Errors if it is not within `timeout`.
    pub async fn wait(&self, until: Until, timeout: Duration) -> Result<Status, ClientError> {
        let what = match until {
            Until::Idle => "idle",
            Until::Synced => "synced",
        };
        let route = format!("/v1/wait?for={what}&timeout_ms={}", timeout.as_millis());
        self.get(&route, timeout.saturating_add(PATIENCE)).await
    }

    /// Returns how everything is once everything has settled: every timer has fired, nothing runs
    /// and the watcher has echoed. Errors if it has not within `timeout`.
    pub async fn barrier(
        &self,
        folder: Option<&str>,
        timeout: Duration,
    ) -> Result<Status, ClientError> {
        let question = json!({"folder": folder, "timeout_ms": millis(timeout)});
        let patience = timeout.saturating_add(PATIENCE);
        self.post("/v1/barrier", &question, patience).await
    }

    /// Asks for a look, a commit, a push and a fetch now.
    pub async fn sync(&self, folder: Option<&str>) -> Result<(), ClientError> {
        self.order("/v1/sync", &json!({"folder": folder})).await
    }

    /// Asks to do nothing for this long, or until [`resume`](Self::resume).
    pub async fn pause(
        &self,
        folder: Option<&str>,
        length: Option<Duration>,
    ) -> Result<(), ClientError> {
        let question = json!({"folder": folder, "for_ms": length.map(millis)});
        self.order("/v1/pause", &question).await
    }

    /// Asks to go on.
    pub async fn resume(&self, folder: Option<&str>) -> Result<(), ClientError> {
        self.order("/v1/resume", &json!({"folder": folder})).await
    }

    /// Lets the held changes pass, once. Returns the names of the folders where something was held
    /// that can be approved.
    pub async fn approve(&self, folder: Option<&str>) -> Result<Vec<String>, ClientError> {
        let question = json!({"folder": folder});
        let answer: Approved = self.post("/v1/approve", &question, PATIENCE).await?;
        Ok(answer.approved)
    }

    /// Asks for something back in a folder, or what that would do. Answered when it is done.
    pub async fn recall(&self, folder: &str, recall: &Recall) -> Result<Answer, ClientError> {
        let question = RecallQuestion::new(Some(folder.to_owned()), recall);
        let question = serde_json::to_value(question)
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        self.post("/v1/recall", &question, LONG).await
    }

    /// Asks the agent to leave. Returns when it has begun to.
    pub async fn stop(&self) -> Result<(), ClientError> {
        self.order("/v1/stop", &json!({})).await
    }

    /// Hands every event to `each` until it returns `false` or the agent ends.
    ///
    /// `ready` is called once the stream stands: everything after that is told.
    pub async fn events(
        &self,
        ready: impl FnOnce(),
        mut each: impl FnMut(Happening) -> bool,
    ) -> Result<(), ClientError> {
        let mut line = Line::open(&self.socket).await?;
        let sent = line.send(Method::GET, "/v1/events", Bytes::new());
        let mut answer = bounded(PATIENCE, sent).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(answer).await);
        }
        ready();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let frame = frame.map_err(|error| self.broken(error))?;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let text: Vec<u8> = rest.drain(..=end).collect();
                if !each(parse(&text)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        route: &str,
        patience: Duration,
    ) -> Result<T, ClientError> {
        self.exchange(Method::GET, route, Bytes::new(), patience)
            .await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        question: &Value,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let body = question.to_string().into();
        self.exchange(Method::POST, route, body, patience).await
    }

    async fn order(&self, route: &str, question: &Value) -> Result<(), ClientError> {
        let IgnoredAny = self.post(route, question, PATIENCE).await?;
        Ok(())
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, ClientError> {
        bounded(patience, async {
            let mut line = Line::open(&self.socket).await?;
            let answer = line.send(method, route, body).await?;
            if answer.status() != StatusCode::OK {
                return Err(self.refusal(answer).await);
            }
            parse(&self.body(answer).await?)
        })
        .await
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| ClientError::Garbled(error.to_string()))?;
        Ok(body.to_bytes())
    }

    async fn refusal(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        let said = self
            .body(answer)
            .await
            .and_then(|body| parse::<Failure>(&body));
        match said {
            Ok(Failure { error }) => ClientError::Refused {
                code: error.code,
                message: error.message,
                hint: error.hint,
            },
            Err(_) => ClientError::Garbled(format!("it is {status}")),
        }
    }

    fn broken(&self, error: hyper::Error) -> ClientError {
        broken(&self.socket, error)
    }
}

fn broken(socket: &Path, error: hyper::Error) -> ClientError {
    ClientError::Broken {
        socket: socket.to_owned(),
        source: io::Error::other(error),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(text).map_err(|error| ClientError::Garbled(error.to_string()))
}

async fn bounded<T>(
    waited: Duration,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(waited, answer)
        .await
        .unwrap_or(Err(ClientError::Silent { waited }))
}

/// One connection. The task that drives it ends with it.
struct Line<'a> {
    socket: &'a Path,
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl<'a> Line<'a> {
    async fn open(socket: &'a Path) -> Result<Self, ClientError> {
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        let stream = UnixStream::connect(socket).await.map_err(|source| {
            if nobody.contains(&source.kind()) {
                return ClientError::NoAgent;
            }
            ClientError::Broken {
                socket: socket.to_owned(),
                source,
            }
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(socket, error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                // The one who waits for the answer is told as well.
                tracing::debug!(%error, "the connection to the agent broke");
            }
        });
        Ok(Self {
            socket,
            sender,
            _driver: driver,
        })
    }

    async fn send(
        &mut self,
        method: Method,
        route: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(route)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        let answer = self.sender.send_request(request).await;
        answer.map_err(|error| broken(self.socket, error))
    }
}
