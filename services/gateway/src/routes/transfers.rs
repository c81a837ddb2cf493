//! Transfers between two accounts of the bank.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use custos_domain::{AccountId, SagaId};
use custos_messages::accounts::{AccountsInput, RequestTransfer};

use super::withdrawals::registered_asset;
use crate::auth::Bank;
use crate::door::{Entrance, StartHeaders, Started, enter, fingerprint};
use crate::headers::idempotency_key;
use crate::problem::Problem;
use crate::reading::{self, Body, Fields, Zero};
use crate::server::App;
use crate::views::TransferBody;

const ROUTE: &str = "POST /v1/accounts/{account}/transfers";

/// Move money to another account of the bank.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/transfers", tag = "transfers", operation_id = "requestTransfer",
    request_body = TransferBody,
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
    let to = fields.text("to_account", "malformed-id", AccountId::parse);
    if to == Some(account) {
        fields.fault("to_account", "same-account", "is the account that pays");
    }
    let asset = registered_asset(&app, &mut fields);
    let decimals = asset.as_ref().and_then(|asset| app.registry.decimals(asset));
    let amount = fields.amount("amount", decimals, Zero::Refused);
    let (to, (asset, amount)) = fields.finish(to.zip(asset.zip(amount)))?;
    let parts: [&[u8]; 4] = [account.as_bytes(), to.as_bytes(), asset.as_str().as_bytes(), &amount.to_be_bytes()];
    let saga = SagaId::derive(&account, "transfer", key.as_str().as_bytes());
    let input = AccountsInput::RequestTransfer(RequestTransfer {
        account,
        key,
        fingerprint: fingerprint(ROUTE, &parts),
        to,
        asset,
        amount,
    });
    enter(&app, &headers, Entrance::operation(saga, input)).await
}
