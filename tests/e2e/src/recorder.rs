//! A door before a node that has no request log of its own: passes everything on, and remembers it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::post};
use custos_devchain::Request;
use reqwest::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const SEND: &[u8] = b"eth_sendRawTransaction";

/// The door; closed when dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    url: String,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Log {
    client: Client,
    node: String,
    started: Instant,
    requests: Mutex<Vec<Request>>,
    /// So many sends are passed on and never answered.
    mute_sends: AtomicU32,
}

impl Recorder {
    pub(crate) async fn before(node: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the recorder's port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let log = Arc::new(Log {
            client: Client::new(),
            node,
            started: Instant::now(),
            requests: Mutex::default(),
            mute_sends: AtomicU32::new(0),
        });
        let router = Router::new().route("/", post(pass)).with_state(Arc::clone(&log));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the recorder ended: {error}");
            }
        });
        Ok(Self { url, log, task })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// So many sends from now on reach the node and are never answered: the client's own timeout must end them.
    pub(crate) fn mute_sends(&self, sends: u32) {
        self.log.mute_sends.store(sends, Ordering::Release);
    }

    /// What was asked, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    fn record(&self, body: &[u8]) {
        let asked = match serde_json::from_slice(body) {
            Ok(Value::Array(batch)) => batch,
            Ok(one) => vec![one],
            Err(_) => return,
        };
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let requests = asked.into_iter().map(|question| Request {
            method: question.get("method").and_then(Value::as_str).unwrap_or_default().to_owned(),
            params: question.get("params").cloned().unwrap_or_default(),
            at_ms,
        });
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).extend(requests);
    }
}

async fn pass(State(log): State<Arc<Log>>, body: Bytes) -> Response {
    log.record(&body);
    let mute = body.windows(SEND.len()).any(|window| window == SEND)
        && log.mute_sends.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
    let sent = log.client.post(&log.node).header(header::CONTENT_TYPE, "application/json").body(body).send().await;
    let answer = match sent {
        Ok(answer) => answer.bytes().await,
        Err(error) => Err(error),
    };
    if mute {
        std::future::pending::<()>().await;
    }
    match answer {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
