//! The books against the chains.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use super::fresh;
use crate::BooksError;
use crate::problem::{Code, Problem, chain};
use crate::reading::Params;
use crate::reconciliation::reconcile;
use crate::server::App;
use crate::views::{BooksView, ProblemBody};

/// The balance sheet of every asset, and the books against the chain at the block up to which they are complete.
#[utoipa::path(
    get, path = "/v1/reconciliation", tag = "books", operation_id = "reconcile",
    params(("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The books; see `matches`.", body = BooksView),
        (status = 503, description = "The chain or the read model does not answer.", body = ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reconciliation(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<BooksView>, Problem> {
    params.finish()?;
    fresh(&app, &headers).await?;
    match reconcile(&app.model, &app.blockchain, &app.policy).await {
        Ok(books) => Ok(Json(BooksView::from(&books))),
        Err(BooksError::Read(error)) => Err(error.into()),
        Err(error @ BooksError::Ask { .. }) => {
            tracing::warn!(error = %chain(&error), "the books cannot be compared");
            Err(Problem::new(Code::BlockchainUnavailable))
        }
        Err(error @ BooksError::Sum(_)) => {
            tracing::error!(error = %chain(&error), "the books cannot be added up");
            Err(Problem::new(Code::Internal))
        }
    }
}
