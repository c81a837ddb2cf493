//! Accounts: open, list, read; balances and deposits.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use custos_domain::{AccountId, IdempotencyKey};
use custos_messages::accounts::{AccountsInput, OpenAccount};
use custos_messages::gateway::Subject;

use super::{fresh, next, page};
use crate::auth::Bank;
use crate::door::{Entrance, enter, lane};
use crate::headers::idempotency_key;
use crate::problem::{Code, Problem};
use crate::reading::{self, Body, Fields, Params};
use crate::server::App;
use crate::views::{
    AccountPage, AccountView, BalanceView, BalancesView, DepositPage, DepositView, OpenAccountBody, ProblemBody, Receipt,
};

/// Open an account. Repeating it gives the same account.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", operation_id = "openAccount", request_body = OpenAccountBody,
    params(("Idempotency-Key" = String, Header, description = "Equal to `key`.")),
    responses(
        (status = 201, description = "The account exists.", body = Receipt),
        (status = 202, description = "The outcome is unknown: repeat.", body = Receipt),
        (status = 400, description = "Malformed.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "In progress, or no policy.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn open(
    _: Bank,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let header = idempotency_key(&headers)?;
    let mut fields = Fields::of(&body)?;
    let key = fields.text("key", "malformed-key", IdempotencyKey::new);
    if key.as_ref().is_some_and(|key| *key != header) {
        // An account is named by its key for ever, so the key of the request can be no other.
        fields.fault("key", "key-mismatch", "must be the Idempotency-Key of the request");
    }
    let key = fields.finish(key)?;
    let tenant = app.policy.tenant.clone();
    let account = AccountId::derive(&tenant, key.as_str());
    let entrance = Entrance {
        lane: lane(&[b"accounts", account.as_bytes()]),
        input: AccountsInput::OpenAccount(OpenAccount { tenant, account, key }),
        subject: Subject::Account(account),
    };
    enter(&app, &headers, entrance).await
}

/// All accounts, oldest first.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts", operation_id = "listAccounts",
    params(
        ("limit" = Option<u32>, Query, description = "At most 200; 50 when absent."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
        ("Custos-Position" = Option<String>, Header, description = "The read includes this position."),
    ),
    responses((status = 200, description = "A page.", body = AccountPage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<AccountPage>, Problem> {
    fresh(&app, &headers).await?;
    let found = app.model.accounts(page(&app, "accounts", params)?).await?;
    let items = found.items.into_iter().map(AccountView::from).collect();
    Ok(Json(AccountPage { items, next_cursor: next(&app, "accounts", found.next) }))
}

/// An account that exists.
pub(super) async fn existing(app: &App, headers: &HeaderMap, text: &str) -> Result<AccountView, Problem> {
    let account = reading::account(text)?;
    fresh(app, headers).await?;
    let found = app.model.account(&account).await?.ok_or(Problem::new(Code::UnknownAccount))?;
    Ok(found.into())
}

/// An account.
#[utoipa::path(
    get, path = "/v1/accounts/{account}", tag = "accounts", operation_id = "readAccount",
    params(("account" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The account.", body = AccountView),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<AccountView>, Problem> {
    params.finish()?;
    existing(&app, &headers, &account).await.map(Json)
}

/// What an account has.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/balances", tag = "accounts", operation_id = "readBalances",
    params(("account" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "By asset.", body = BalancesView),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn balances(
    State(app): State<Arc<App>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<BalancesView>, Problem> {
    params.finish()?;
    existing(&app, &headers, &account).await?;
    let rows = app.model.balances(&reading::account(&account)?).await?;
    let items = rows.iter().map(|row| BalanceView::of(&app.registry, row)).collect();
    Ok(Json(BalancesView { account, items }))
}

/// The deposits of an account, newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/deposits", tag = "accounts", operation_id = "listDeposits",
    params(
        ("account" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("Custos-Position" = Option<String>, Header),
    ),
    responses(
        (status = 200, description = "A page.", body = DepositPage),
        (status = 404, description = "Unknown.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn deposits(
    State(app): State<Arc<App>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<DepositPage>, Problem> {
    let list = format!("deposits?account={account}");
    let request = page(&app, &list, params)?;
    existing(&app, &headers, &account).await?;
    let found = app.model.deposits(Some(&reading::account(&account)?), request).await?;
    let items = found.items.iter().map(|row| DepositView::of(&app.registry, row)).collect();
    Ok(Json(DepositPage { items, next_cursor: next(&app, &list, found.next) }))
}
