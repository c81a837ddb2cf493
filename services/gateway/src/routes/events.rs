//! The event feed: pages, and a stream.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use custos_domain::AccountId;
use custos_readmodel::FeedId;

use super::fresh;
use crate::headers::last_event_id;
use crate::problem::{Code, Problem};
use crate::reading::Params;
use crate::server::App;
use crate::stream::{self, Wanted};
use crate::views::{EventPage, EventView, ProblemBody};

/// Events, oldest first: of one account, or of all. The cursor of the last page stays good: ask again later.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "listEvents",
    params(
        ("account" = Option<String>, Query), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("Custos-Position" = Option<String>, Header),
    ),
    responses((status = 200, description = "A page.", body = EventPage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Json<EventPage>, Problem> {
    let account = params.read("account", AccountId::parse);
    let (limit, cursor) = (params.limit(), params.take("cursor"));
    params.finish()?;
    let list = format!("events?account={}", account.map(|account| account.to_string()).unwrap_or_default());
    let after = cursor.map(|text| app.cursors.place::<u64>(&list, &text)).transpose()?.unwrap_or(0);
    fresh(&app, &headers).await?;
    let told = app.model.events(account.as_ref(), FeedId(after), limit).await?;
    let last = told.last().map_or(after, |event| event.id.0);
    let items = told.iter().map(|event| EventView::of(&app.registry, event)).collect();
    Ok(Json(EventPage { items, next_cursor: app.cursors.write(&list, &last) }))
}

/// Events as they come (SSE). `Last-Event-ID` resumes after that event; 0 begins at the first; without it the stream begins now.
/// A reader that takes nothing for ten seconds is left, and resumes.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events", operation_id = "streamEvents",
    params(
        ("account" = Option<String>, Query),
        ("Last-Event-ID" = Option<u64>, Header, description = "The `id` of the last event that was read."),
    ),
    responses(
        (status = 200, description = "Each `data` is an event as `/v1/events` gives it; a comment every 15 s.", body = String,
            content_type = "text/event-stream"),
        (status = 503, description = "Too many streams.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let account = params.read("account", AccountId::parse);
    params.finish()?;
    let after = match last_event_id(&headers)? {
        Some(id) => id,
        None => app.model.feed_head().await?,
    };
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| Problem::new(Code::Overloaded))?;
    Ok(stream::stream(&app, Wanted { account, after }, permit).into_response())
}
