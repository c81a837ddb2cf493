//! The routes, and what they have in common.

mod accounts;
mod addresses;
mod approvals;
mod books;
mod events;
mod operations;
mod policy;
mod transfers;
mod withdrawals;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use custos_readmodel::{Cursor, PageRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::reading::Params;
use crate::server::App;
use crate::{docs, headers};

/// How long a read waits for the position that it names.
const POSITION_WAIT: Duration = Duration::from_secs(1);

/// The routes that need a key.
pub(crate) fn guarded() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(accounts::open, accounts::list))
        .routes(routes!(accounts::read))
        .routes(routes!(addresses::request, addresses::list))
        .routes(routes!(accounts::balances))
        .routes(routes!(accounts::deposits))
        .routes(routes!(withdrawals::request))
        .routes(routes!(withdrawals::list))
        .routes(routes!(withdrawals::read))
        .routes(routes!(transfers::request))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::read, approvals::decide))
        .routes(routes!(operations::list))
        .routes(routes!(operations::read))
        .routes(routes!(operations::story))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(books::reconciliation))
        .routes(routes!(policy::read))
}

/// The routes that anybody may read: they say nothing about the bank.
pub(crate) fn open() -> Router<Arc<App>> {
    Router::new()
        .route("/openapi.json", get(docs::document))
        .route("/v1/openapi.json", get(docs::document))
        .route("/docs", get(docs::page))
        .route("/v1/docs", get(docs::page))
        .route("/problems/{code}", get(docs::problem))
}

/// Waits until the read model has what the caller names in `Custos-Position`.
pub(crate) async fn fresh(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    match headers::position(headers)? {
        None => Ok(()),
        Some(position) => Ok(app.model.wait_for(position, POSITION_WAIT).await?),
    }
}

/// The page that a query wants of `list`, a name with its filters. Whatever else the query holds is refused.
pub(crate) fn page(app: &App, list: &str, mut params: Params) -> Result<PageRequest, Problem> {
    let limit = params.limit();
    let cursor = params.take("cursor");
    params.finish()?;
    let after = cursor.map(|text| app.cursors.place::<Cursor>(list, &text)).transpose()?;
    Ok(PageRequest { after, limit })
}

/// The cursor of the next page.
pub(crate) fn next(app: &App, list: &str, next: Option<Cursor>) -> Option<String> {
    next.map(|place| app.cursors.write(list, &place))
}
