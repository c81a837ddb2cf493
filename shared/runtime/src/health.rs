//! Health and metrics on a process's own port: `/health/live`, `/health/ready`, `/metrics`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the parts of this process say about themselves.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Condition>>>,
}

/// The condition of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Stopped, and why.
    Failed(String),
}

impl Health {
    /// A part says how it is.
    pub fn set(&self, part: &'static str, condition: Condition) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, condition);
    }

    fn all(&self) -> BTreeMap<&'static str, Condition> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn report(parts: &BTreeMap<&'static str, Condition>) -> Json<BTreeMap<String, String>> {
    let word = |condition: &Condition| match condition {
        Condition::Starting => "starting".to_owned(),
        Condition::Ready => "ready".to_owned(),
        Condition::Failed(why) => format!("failed: {why}"),
    };
    Json(parts.iter().map(|(part, condition)| ((*part).to_owned(), word(condition))).collect())
}

async fn live(State((health, _)): State<(Health, Metrics)>) -> impl IntoResponse {
    let parts = health.all();
    let failed = parts.values().any(|condition| matches!(condition, Condition::Failed(_)));
    (if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, report(&parts))
}

async fn ready(State((health, _)): State<(Health, Metrics)>) -> impl IntoResponse {
    let parts = health.all();
    let ready = parts.values().all(|condition| *condition == Condition::Ready);
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report(&parts))
}

async fn metrics(State((_, metrics)): State<(Health, Metrics)>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

/// Serves health and metrics at `address` until `stop`.
///
/// # Errors
/// The port cannot be opened.
pub async fn serve_health(
    address: SocketAddr,
    health: Health,
    counters: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state((health, counters));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}
