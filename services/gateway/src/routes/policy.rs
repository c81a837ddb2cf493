//! The policy.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::problem::Problem;
use crate::reading::Params;
use crate::server::App;
use crate::views::PolicyView;

/// The policy that requests are read by: assets, chains, limits, officers.
#[utoipa::path(
    get, path = "/v1/policy", tag = "policy", operation_id = "readPolicy",
    responses((status = 200, description = "The policy.", body = PolicyView)),
)]
pub(crate) async fn read(State(app): State<Arc<App>>, params: Params) -> Result<Json<PolicyView>, Problem> {
    params.finish()?;
    let adopted = app.model.policy(app.policy.partitions).await?.map(|(version, _)| version);
    Ok(Json(PolicyView::of(&app.policy, &app.registry, adopted)))
}
