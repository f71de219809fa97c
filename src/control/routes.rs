//! The routes: from HTTP to an [`Ask`] and back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot};

use super::{
    Ask, FolderConflicts, Happening, LogQuestion, RecallQuestion, Refusal, Reply, Until, What,
};
use crate::clock;
use crate::engine::recall::{self, Listed};
use crate::engine::status::Status;
use crate::names::escape;

/// How long a wait or a barrier lasts if the caller does not say.
const PATIENCE_MS: u64 = 30_000;
/// No wait lasts longer than a day.
const PATIENCE_MAX_MS: u64 = 86_400_000;
/// No question is longer.
const BODY_MAX: usize = 64 << 10;

type Asks = State<mpsc::Sender<Ask>>;
type Answer<T> = Result<Json<T>, Refusal>;

/// An answer that says no more than yes.
#[derive(Debug, Serialize)]
struct Done {}

/// What was approved.
#[derive(Debug, Serialize)]
struct Approved {
    approved: Vec<String>,
}

/// What is asked of a folder, or of all.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Which {
    folder: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pause {
    folder: Option<String>,
    for_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Barrier {
    folder: Option<String>,
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    r#for: Until,
    timeout_ms: Option<u64>,
}

/// Returns the routes, which ask through `asks`.
pub(super) fn router(asks: mpsc::Sender<Ask>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/conflicts", get(conflicts))
        .route("/v1/log", get(log))
        .route("/v1/wait", get(wait))
        .route("/v1/barrier", post(barrier))
        .route("/v1/sync", post(sync))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/approve", post(approve))
        .route("/v1/recall", post(recall))
        .route("/v1/stop", post(stop))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(asks)
}

async fn status(State(asks): Asks) -> Answer<Status> {
    ask(&asks, |reply| Ask::Status { reply }).await.map(Json)
}

async fn conflicts(State(asks): Asks) -> Answer<Vec<FolderConflicts>> {
    ask(&asks, |reply| Ask::Conflicts { reply }).await.map(Json)
}

async fn log(
    State(asks): Asks,
    query: Result<Query<LogQuestion>, QueryRejection>,
) -> Answer<Vec<Listed>> {
    let Query(question) = query.map_err(|error| unread(&error))?;
    ask(&asks, |reply| Ask::Log { question, reply })
        .await
        .map(Json)
}

async fn events(State(asks): Asks) -> Result<Response, Refusal> {
    let receiver = ask(&asks, |reply| Ask::Events { reply }).await?;
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(EventLines::new(receiver))).into_response())
}

async fn wait(State(asks): Asks, query: Result<Query<Wait>, QueryRejection>) -> Answer<Status> {
    let Query(Wait {
        r#for: until,
        timeout_ms,
    }) = query.map_err(|error| unread(&error))?;
    let what = match until {
        Until::Idle => "idle",
        Until::Synced => "synced",
    };
    within(
        timeout_ms,
        what,
        ask(&asks, |reply| Ask::Wait { until, reply }),
    )
    .await
}

async fn barrier(State(asks): Asks, body: Bytes) -> Answer<Status> {
    let Barrier { folder, timeout_ms } = read(&body)?;
    let question = |reply| Ask::Barrier { folder, reply };
    within(timeout_ms, "settled", ask(&asks, question)).await
}

async fn sync(State(asks): Asks, body: Bytes) -> Answer<Done> {
    let Which { folder } = read(&body)?;
    ask(&asks, |reply| Ask::Sync { folder, reply }).await?;
    Ok(Json(Done {}))
}

async fn pause(State(asks): Asks, body: Bytes) -> Answer<Done> {
    let Pause { folder, for_ms } = read(&body)?;
    let length = for_ms.map(Duration::from_millis);
    let question = |reply| Ask::Pause {
        folder,
        length,
        reply,
    };
    ask(&asks, question).await?;
    Ok(Json(Done {}))
}

async fn resume(State(asks): Asks, body: Bytes) -> Answer<Done> {
    let Which { folder } = read(&body)?;
    ask(&asks, |reply| Ask::Resume { folder, reply }).await?;
    Ok(Json(Done {}))
}

async fn approve(State(asks): Asks, body: Bytes) -> Answer<Approved> {
    let Which { folder } = read(&body)?;
    let approved = ask(&asks, |reply| Ask::Approve { folder, reply }).await?;
    Ok(Json(Approved { approved }))
}

async fn recall(State(asks): Asks, body: Bytes) -> Answer<recall::Answer> {
    let question: RecallQuestion = parse(&body)?;
    let (folder, recall) = question.read().map_err(Refusal::Nonsense)?;
    let question = |reply| Ask::Recall {
        folder,
        recall,
        reply,
    };
    ask(&asks, question).await.map(Json)
}

async fn stop(State(asks): Asks) -> Answer<Done> {
    ask(&asks, |reply| Ask::Stop { reply }).await?;
    Ok(Json(Done {}))
}

async fn no_route(uri: Uri) -> Refused {
    let message = format!("there is no route `{}`", uri.path());
    Refused(
        StatusCode::NOT_FOUND,
        "no-such-route".to_owned(),
        message,
        String::new(),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refused {
    let message = format!("the route `{}` does not take {method}", uri.path());
    let code = StatusCode::METHOD_NOT_ALLOWED;
    Refused(code, "wrong-method".to_owned(), message, String::new())
}

/// A query that cannot be read, whatever stands in it.
fn unread(error: &QueryRejection) -> Refusal {
    Refusal::Nonsense(escape(error.body_text().as_bytes()))
}

/// Puts one question to the agent and waits for the answer, however long it takes.
async fn ask<T>(
    asks: &mpsc::Sender<Ask>,
    question: impl FnOnce(Reply<T>) -> Ask,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    asks.send(question(reply))
        .await
        .map_err(|_| Refusal::Stopping)?;
    answer.await.unwrap_or(Err(Refusal::Stopping))
}

/// Waits for an answer, but not for ever. What is given up drops its reply, which the agent sees.
async fn within<T>(
    timeout_ms: Option<u64>,
    what: &'static str,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Answer<T> {
    let waited = Duration::from_millis(timeout_ms.unwrap_or(PATIENCE_MS).min(PATIENCE_MAX_MS));
    match tokio::time::timeout(waited, answer).await {
        Ok(answer) => answer.map(Json),
        Err(_) => Err(Refusal::TimedOut { what, waited }),
    }
}

/// Reads a body; an empty one says nothing, which every question allows.
fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    parse(body)
}

/// Reads a body. What it says may come from anywhere, so a complaint shows nothing of it as it is.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let error = escape(error.to_string().as_bytes());
        Refusal::Nonsense(format!("the question is no JSON of its kind: {error}"))
    })
}

/// What must hold for every body of a question: see [`crate::fuzz`].
#[cfg(feature = "faults")]
pub(crate) fn fuzz(input: &[u8]) {
    let refused = [
        read::<Which>(input).err(),
        read::<Pause>(input).err(),
        read::<Barrier>(input).err(),
        parse::<RecallQuestion>(input).err(),
        parse::<RecallQuestion>(input)
            .ok()
            .and_then(|question| question.read().err())
            .map(Refusal::Nonsense),
    ];
    for refusal in refused.into_iter().flatten() {
        let said = format!("{refusal} {}", refusal.hint());
        assert!(!said.contains(char::is_control), "{said}");
    }
    if let Ok(Pause { for_ms, .. }) = read(input) {
        // However long it is, it can be added to any moment.
        let length = Duration::from_millis(for_ms.unwrap_or_default());
        let end = crate::engine::timer::Moment(Duration::MAX) + length;
        assert!(end.0 == Duration::MAX);
    }
}

/// A refusal on its way out: status, code, message, hint.
struct Refused(StatusCode, String, String, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, code, message, hint) = self;
        let body = json!({"error": {"code": code, "message": message, "hint": hint}});
        (status, Json(body)).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoSuchFolder { .. } => StatusCode::NOT_FOUND,
            Self::NothingHeld
            | Self::NotApprovable { .. }
            | Self::InTheWay { .. }
            | Self::WhichFolder { .. } => StatusCode::CONFLICT,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Nonsense(_) => StatusCode::BAD_REQUEST,
        };
        Refused(
            status,
            self.code().to_owned(),
            self.to_string(),
            self.hint(),
        )
        .into_response()
    }
}

type Received = (broadcast::Receiver<Happening>, Result<Happening, RecvError>);

/// A body that never ends before the agent does: one JSON object on each line.
struct EventLines {
    next: Pin<Box<dyn Future<Output = Received> + Send>>,
}

impl EventLines {
    fn new(receiver: broadcast::Receiver<Happening>) -> Self {
        Self {
            next: Box::pin(receive(receiver)),
        }
    }
}

async fn receive(mut receiver: broadcast::Receiver<Happening>) -> Received {
    let received = receiver.recv().await;
    (receiver, received)
}

impl hyper::body::Body for EventLines {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (receiver, received) = ready!(self.next.as_mut().poll(cx));
        let happening = match received {
            Ok(happening) => happening,
            Err(RecvError::Lagged(count)) => Happening {
                at: clock::wall(),
                folder: String::new(),
                what: What::Missed { count },
            },
            Err(RecvError::Closed) => return Poll::Ready(None),
        };
        self.next = Box::pin(receive(receiver));
        let line = serde_json::to_vec(&happening).map(|mut line| {
            line.push(b'\n');
            Frame::data(line.into())
        });
        Poll::Ready(Some(line))
    }
}
