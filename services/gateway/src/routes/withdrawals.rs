//! Withdrawals: ask for one, list them, read everything about one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use custos_domain::{AccountId, AssetId, EthAddress, SagaId};
use custos_messages::accounts::{AccountsInput, RequestWithdrawal};
use custos_readmodel::{OperationFilter, OperationKind, OperationStatus};

use super::{fresh, next, page};
use crate::auth::Bank;
use crate::door::{Entrance, StartHeaders, Started, enter, fingerprint};
use crate::headers::idempotency_key;
use crate::problem::{Code, Problem};
use crate::reading::{self, Body, Fields, Params, Zero};
use crate::server::App;
use crate::views::{OperationPage, OperationView, ProblemBody, WithdrawalBody, WithdrawalView};

const ROUTE: &str = "POST /v1/accounts/{account}/withdrawals";

/// Pay to an outside address. `amount` reaches the receiver; an ether payment's fee comes on top, up to `fee_max`.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/withdrawals", tag = "withdrawals", operation_id = "requestWithdrawal",
    request_body = WithdrawalBody,
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
    let asset = registered_asset(&app, &mut fields);
    let decimals = asset.as_ref().and_then(|asset| app.registry.decimals(asset));
    let native = asset.as_ref().and_then(|asset| app.policy.native(&app.policy.assets.get(asset)?.asset.chain));
    let fee_decimals = native.map(|native| native.asset.decimals);
    let amount = fields.amount("amount", decimals, Zero::Refused);
    let to = fields.text("to", "malformed-address", EthAddress::parse_checksummed);
    if to == Some(EthAddress([0; 20])) {
        fields.fault("to", "zero-address", "the zero address belongs to nobody");
    }
    let fee_max = fields.amount("fee_max", fee_decimals, Zero::Allowed);
    let read = asset.zip(amount).zip(to.zip(fee_max));
    let ((asset, amount), (to, fee_max)) = fields.finish(read)?;
    let parts: [&[u8]; 5] =
        [account.as_bytes(), asset.as_str().as_bytes(), &amount.to_be_bytes(), &to.0, &fee_max.to_be_bytes()];
    let saga = SagaId::derive(&account, "withdrawal", key.as_str().as_bytes());
    let input = AccountsInput::RequestWithdrawal(RequestWithdrawal {
        account,
        key,
        fingerprint: fingerprint(ROUTE, &parts),
        asset,
        amount,
        to,
        fee_max,
    });
    enter(&app, &headers, Entrance::operation(saga, input)).await
}

/// The field `asset`, if it names a registered one.
pub(super) fn registered_asset(app: &App, fields: &mut Fields) -> Option<AssetId> {
    let asset = fields.text("asset", "malformed-asset", AssetId::new)?;
    if app.policy.assets.contains_key(&asset) {
        return Some(asset);
    }
    fields.fault("asset", "unknown-asset", format!("`{asset}` is not registered"));
    None
}

/// The filters that a list of operations knows.
pub(super) fn filter(params: &mut Params, kind: Option<OperationKind>) -> (OperationFilter, String) {
    let filter = OperationFilter {
        account: params.read("account", AccountId::parse),
        kind: kind.or_else(|| params.read("kind", OperationKind::parse)),
        status: params.read("status", OperationStatus::parse),
    };
    let account = filter.account.map(|account| account.to_string()).unwrap_or_default();
    let kind = filter.kind.map_or("", OperationKind::as_str);
    let status = filter.status.map_or("", OperationStatus::as_str);
    (filter, format!("operations?account={account}&kind={kind}&status={status}"))
}

/// Withdrawals, newest first.
#[utoipa::path(
    get, path = "/v1/withdrawals", tag = "withdrawals", operation_id = "listWithdrawals",
    params(
        ("account" = Option<String>, Query), ("status" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query), ("Custos-Position" = Option<String>, Header),
    ),
    responses((status = 200, description = "A page.", body = OperationPage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Json<OperationPage>, Problem> {
    let (filter, list) = filter(&mut params, Some(OperationKind::Withdrawal));
    let request = page(&app, &list, params)?;
    fresh(&app, &headers).await?;
    let found = app.model.operations(filter, request).await?;
    let items = found.items.iter().map(|row| OperationView::summary(&app.registry, row)).collect();
    Ok(Json(OperationPage { items, next_cursor: next(&app, &list, found.next) }))
}

/// A withdrawal with its screenings, approval, signatures and payment.
#[utoipa::path(
    get, path = "/v1/withdrawals/{operation}", tag = "withdrawals", operation_id = "readWithdrawal",
    params(("operation" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The withdrawal.", body = WithdrawalView),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<WithdrawalView>, Problem> {
    params.finish()?;
    let saga = reading::operation(&operation)?;
    fresh(&app, &headers).await?;
    let found = app.model.operation(&saga).await?.filter(|found| found.kind == OperationKind::Withdrawal);
    let found = found.ok_or(Problem::new(Code::UnknownOperation))?;
    Ok(Json(WithdrawalView::load(&app.model, &app.registry, found).await?))
}
