//! Deposit addresses: ask for one, list them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use custos_domain::{ChainId, SagaId};
use custos_messages::accounts::{AccountsInput, RequestAddress};

use super::accounts::existing;
use crate::auth::Bank;
use crate::door::{Entrance, StartHeaders, Started, enter, fingerprint};
use crate::headers::idempotency_key;
use crate::problem::Problem;
use crate::reading::{self, Body, Fields, Params};
use crate::server::App;
use crate::views::{AddressView, Addresses, ProblemBody, RequestAddressBody};

const ROUTE: &str = "POST /v1/accounts/{account}/addresses";

/// Ask for a deposit address. It is handed out once deposits to it are seen.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/addresses", tag = "addresses", operation_id = "requestAddress",
    request_body = RequestAddressBody,
    params(("account" = String, Path), StartHeaders),
    responses(Started),
)]
pub(crate) async fn request(
    _: Bank,
    State(app): State<Arc<App>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let account = reading::account(&account)?;
    let key = idempotency_key(&headers)?;
    let mut fields = Fields::of(&body)?;
    let chain = fields.text("chain", "malformed-chain", ChainId::new);
    let unknown = chain.as_ref().filter(|chain| !app.policy.chains.contains_key(chain)).map(ToString::to_string);
    if let Some(chain) = unknown {
        fields.fault("chain", "unknown-chain", format!("`{chain}` is not registered"));
    }
    let chain = fields.finish(chain)?;
    let saga = SagaId::derive(&account, "issue-address", key.as_str().as_bytes());
    let input = AccountsInput::RequestAddress(RequestAddress {
        account,
        key,
        fingerprint: fingerprint(ROUTE, &[account.as_bytes(), chain.as_str().as_bytes()]),
        chain,
    });
    enter(&app, &headers, Entrance::operation(saga, input)).await
}

/// The deposit addresses of an account, oldest first.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/addresses", tag = "addresses", operation_id = "listAddresses",
    params(("account" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "All of them.", body = Addresses),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<Addresses>, Problem> {
    params.finish()?;
    existing(&app, &headers, &account).await?;
    let rows = app.model.addresses(&reading::account(&account)?).await?;
    Ok(Json(Addresses { items: rows.into_iter().map(AddressView::from).collect() }))
}
