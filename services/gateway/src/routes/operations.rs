//! Operations of every kind, and their stories.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;

use super::withdrawals::filter;
use super::{fresh, next, page};
use crate::problem::{Code, Problem};
use crate::reading::{self, Params};
use crate::server::App;
use crate::views::{EventView, OperationPage, OperationView, ProblemBody, Story};

/// Operations, newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", operation_id = "listOperations",
    params(
        ("account" = Option<String>, Query), ("kind" = Option<String>, Query), ("status" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("Custos-Position" = Option<String>, Header),
    ),
    responses((status = 200, description = "A page.", body = OperationPage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Json<OperationPage>, Problem> {
    let (filter, list) = filter(&mut params, None);
    let request = page(&app, &list, params)?;
    fresh(&app, &headers).await?;
    let found = app.model.operations(filter, request).await?;
    let items = found.items.iter().map(|row| OperationView::summary(&app.registry, row)).collect();
    Ok(Json(OperationPage { items, next_cursor: next(&app, &list, found.next) }))
}

/// An operation: what was asked for, where it stands, and how it ended.
#[utoipa::path(
    get, path = "/v1/operations/{operation}", tag = "operations", operation_id = "readOperation",
    params(("operation" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The operation.", body = OperationView),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<OperationView>, Problem> {
    params.finish()?;
    let saga = reading::operation(&operation)?;
    fresh(&app, &headers).await?;
    let found = app.model.operation(&saga).await?.ok_or(Problem::new(Code::UnknownOperation))?;
    Ok(Json(OperationView::load(&app.model, &app.registry, found).await?))
}

/// Every event of an operation, in order of time.
#[utoipa::path(
    get, path = "/v1/operations/{operation}/story", tag = "operations", operation_id = "readStory",
    params(("operation" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The story.", body = Story),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn story(
    State(app): State<Arc<App>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<Story>, Problem> {
    params.finish()?;
    let saga = reading::operation(&operation)?;
    fresh(&app, &headers).await?;
    let told = app.model.story(&saga).await?;
    if told.is_empty() {
        return Err(Problem::new(Code::UnknownOperation));
    }
    let items = told.iter().map(|event| EventView::of(&app.registry, event)).collect();
    Ok(Json(Story { operation, items }))
}
