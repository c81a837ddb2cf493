//! The server: what all routes share, the layers around them, and its life from the first port to the last answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use custos_journal::{Journal, JournalError};
use custos_messages::{Keyring, Source, Topic, TraceParent};
use custos_policy::Policy;
use custos_readmodel::{FeedId, ReadModel};
use custos_runtime::post::Post;
use custos_runtime::telemetry::adopt_trace;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::auth::authenticate;
use crate::connections::{self, Patience};
use crate::problem::{Code, Problem, chain};
use crate::reading::BODY_LIMIT;
use crate::replies::{Reader, WaitingRoom};
use crate::views::Registry;
use crate::{ApiKeys, CursorSecret, GatewayConfig, GatewayError, routes};

/// Requests at once; more are turned away.
const AT_ONCE: usize = 512;
/// Event streams at once.
const STREAMS: usize = 64;
/// Longer than the longest wait that a request may ask for, and the wait for its decision.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the watcher of the feed waits before it looks whether it shall stop.
const FEED_WAIT: Duration = Duration::from_secs(1);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all routes share.
pub(crate) struct App {
    pub(crate) policy: Arc<Policy>,
    pub(crate) registry: Registry,
    pub(crate) model: ReadModel,
    pub(crate) post: Post,
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) keys: ApiKeys,
    pub(crate) cursors: CursorSecret,
    pub(crate) blockchain: String,
    pub(crate) instance: u32,
    pub(crate) reply_wait: Duration,
    pub(crate) patience: Duration,
    head_wait: Duration,
    pub(crate) head: watch::Receiver<FeedId>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) requests: Semaphore,
    pub(crate) stop: CancellationToken,
}

/// A gateway that listens and reads its replies, and does not answer yet.
pub struct Gateway {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    /// Held as long as replies are to be read.
    reading: Reading,
    reader: oneshot::Receiver<Result<(), JournalError>>,
}

/// Ends the reader of replies when it is dropped, also when the gateway could not be started.
struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Gateway {
    /// Checks what the gateway rests on, begins to read replies, and opens the port.
    ///
    /// # Errors
    /// A missing secret, an instance without a partition, a log that does not answer, a port that is taken.
    pub async fn bind(
        config: GatewayConfig,
        journal: Arc<dyn Journal>,
        keyring: Arc<Keyring>,
        model: ReadModel,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        for source in [Source::Gateway, Source::Accounts] {
            if !keyring.knows(source) {
                return Err(GatewayError::Secret(source));
            }
        }
        let room = Arc::new(WaitingRoom::default());
        let reading = Reading(Arc::new(AtomicBool::new(false)));
        let reader = Reader {
            journal: Arc::clone(&journal),
            keyring: Arc::clone(&keyring),
            instance: config.instance,
            room: Arc::clone(&room),
            metrics: config.metrics.clone(),
            stop: Arc::clone(&reading.0),
        };
        let (post, reader) = attach(&*journal, keyring, config.policy.partitions, reader).await?;
        let listening = |source| GatewayError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let head = follow_feed(model.clone(), stop.clone());
        let policy = Arc::new(config.policy);
        let app = App {
            registry: Registry(Arc::clone(&policy)),
            policy,
            model,
            post,
            room,
            keys: config.keys,
            cursors: config.cursors,
            blockchain: config.blockchain,
            instance: config.instance,
            reply_wait: config.reply_wait,
            patience: config.patience,
            head_wait: config.head_wait,
            head,
            streams: Arc::new(Semaphore::new(STREAMS)),
            requests: Semaphore::new(AT_ONCE),
            stop,
        };
        Ok(Self { app: Arc::new(app), listener, address, reading, reader })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All routes with their layers, for a caller that brings the requests itself.
    pub fn routes(&self) -> Router {
        router(Arc::clone(&self.app))
    }

    /// Answers until the token given to [`Gateway::bind`] is cancelled; requests in progress are finished, streams end.
    ///
    /// # Errors
    /// Serving fails, or replies cannot be read any more.
    pub async fn run(self) -> Result<(), GatewayError> {
        let Self { app, listener, reading, reader, .. } = self;
        let stop = app.stop.clone();
        let patience = Patience { head: app.head_wait, answer: app.patience };
        let outcome = tokio::select! {
            () = connections::serve(listener, router(app), patience, stop) => Ok(()),
            read = reader => match read {
                Ok(Err(source)) => Err(GatewayError::Journal { operation: "read replies", source }),
                Ok(Ok(())) | Err(_) => Err(GatewayError::Serve(std::io::Error::other("the reader of replies ended"))),
            },
        };
        drop(reading);
        outcome
    }

    /// [`Gateway::bind`], then [`Gateway::run`].
    ///
    /// # Errors
    /// See both.
    pub async fn serve(
        config: GatewayConfig,
        journal: Arc<dyn Journal>,
        keyring: Arc<Keyring>,
        model: ReadModel,
        stop: CancellationToken,
    ) -> Result<(), GatewayError> {
        let gateway = Self::bind(config, journal, keyring, model, stop).await?;
        tracing::info!(address = %gateway.address, "the gateway listens");
        gateway.run().await
    }
}

/// Opens the way into the inbox and starts the reader of replies. The reader stands at the end of its partition before this
/// returns, so that no answer to a later request is missed. Calls to the log block, so they leave the asynchronous threads.
async fn attach(
    journal: &dyn Journal,
    keyring: Arc<Keyring>,
    partitions: u32,
    reader: Reader,
) -> Result<(Post, oneshot::Receiver<Result<(), JournalError>>), GatewayError> {
    let failed = |operation| move |source| GatewayError::Journal { operation, source };
    let instances = journal.partitions(Topic::GatewayReplies).map_err(failed("count the partitions of replies"))?;
    if reader.instance >= instances {
        return Err(GatewayError::Instance { instance: reader.instance, partitions: instances });
    }
    let post = Post::new(journal, keyring, Source::Gateway, partitions).map_err(failed("open the inbox"))?;
    let (tell, ended) = oneshot::channel();
    let (opened, opening) = oneshot::channel();
    let work = move || {
        let result = match reader.open() {
            Err(error) => return drop(opened.send(Err(error))),
            Ok((feed, quarantine)) => {
                drop(opened.send(Ok(())));
                reader.run(feed, &quarantine)
            }
        };
        // Nobody listens any more if the gateway has stopped.
        drop(tell.send(result));
    };
    std::thread::Builder::new().name("gateway-replies".to_owned()).spawn(work).map_err(GatewayError::Thread)?;
    match opening.await {
        Ok(Ok(())) => Ok((post, ended)),
        Ok(Err(source)) => Err(GatewayError::Journal { operation: "read replies", source }),
        Err(_) => Err(GatewayError::Thread(std::io::Error::other("the reader of replies ended at once"))),
    }
}

/// One task looks at the head of the feed for everybody who waits for events.
fn follow_feed(model: ReadModel, stop: CancellationToken) -> watch::Receiver<FeedId> {
    let (tell, head) = watch::channel(FeedId::default());
    tokio::spawn(async move {
        let mut known = FeedId::default();
        while !stop.is_cancelled() {
            match model.wait_for_feed(known, FEED_WAIT).await {
                Ok(head) if head != known => {
                    known = head;
                    tell.send_replace(head);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the feed cannot be followed");
                    tokio::time::sleep(FEED_WAIT).await;
                }
            }
        }
    });
    head
}

/// All routes with their layers.
fn router(app: Arc<App>) -> Router {
    let (guarded, _) = routes::guarded().split_for_parts();
    let guarded = guarded.route_layer(from_fn_with_state(Arc::clone(&app), authenticate));
    Router::new()
        .merge(guarded)
        .merge(routes::open())
        .fallback(async || Problem::new(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(Arc::clone(&app), bound))
        .layer(from_fn(finish))
        .with_state(app)
}

/// Bounds how many requests run at once and how long each may take. A stream's time begins when its first byte has left.
async fn bound(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.requests.try_acquire() else { return Problem::new(Code::Overloaded).into_response() };
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Code::RequestTimeout).into_response(),
    }
}

/// Names every request, logs it once, and gives problems their body.
async fn finish(request: Request, next: Next) -> Response {
    let correlation = correlation(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", service = "gateway", %method, %path, correlation);
    // The bank's own trace goes on through us.
    let trace = request.headers().get("traceparent").and_then(|text| text.to_str().ok());
    adopt_trace(&span, trace.map(|text| TraceParent(text.to_owned())).as_ref());
    let mut response = next.run(request).instrument(span).await;
    if let Some(problem) = problem_of(&mut response) {
        let code = problem.code;
        let body = problem.body(&path, &correlation, matches!(method, Method::GET | Method::HEAD));
        let detail = body.detail.clone();
        response =
            (StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if code.row().retryable {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        tracing::info!(%method, path, correlation, code = code.name(), detail, "answered with a problem");
    }
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&correlation) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// The problem that a response carries; an error that a library answered becomes one too.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    *response.body_mut() = HttpBody::empty();
    Some(Problem::new(match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        _ if status.is_client_error() => Code::InvalidRequest,
        _ => Code::Internal,
    }))
}

/// The caller's name for the request if it is a token of at most 64 letters, else a random one.
fn correlation(request: &Request) -> String {
    let fine = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fine);
    given.map_or_else(
        || {
            let mut bytes = [0; 16];
            // Only a name for logs: without randomness it is the same for all requests, and nothing else suffers.
            let _ = getrandom::fill(&mut bytes);
            hex::encode(bytes)
        },
        str::to_owned,
    )
}
