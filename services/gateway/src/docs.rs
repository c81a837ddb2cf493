//! The API's own documentation: the OpenAPI document, a page that shows it, and the catalogue of problems.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, SecurityRequirement};

use crate::problem::{Code, Outcome, Problem};
use crate::routes;

const PAGE: &str = include_str!("docs/page.html");
/// The page runs its own script and asks this server only.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The OpenAPI 3.1 document of the API, written from the routes.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, mut document) = routes::guarded().split_for_parts();
    document.info = InfoBuilder::new()
        .title("Custos")
        .version("1")
        .description(Some(
            "The bank's door to its custody core. Amounts are decimal strings; every request that writes carries an \
             Idempotency-Key; problems are RFC 9457 with `retryable` and `outcome`. Words are open lists: new ones may be added.",
        ))
        .license(Some(utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("apiKey", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document.security = Some(vec![SecurityRequirement::new("apiKey", Vec::<String>::new())]);
    document
}

pub(crate) async fn document() -> Json<OpenApi> {
    Json(openapi())
}

pub(crate) async fn page() -> Response {
    let headers = [(CONTENT_SECURITY_POLICY, PAGE_POLICY), (CACHE_CONTROL, "no-cache")];
    (headers, Html(PAGE)).into_response()
}

/// What a problem's `type` names.
pub(crate) async fn problem(Path(name): Path<String>) -> Result<Response, Problem> {
    let code = Code::ALL.into_iter().find(|code| code.name() == name).ok_or(Problem::new(Code::NotFound))?;
    let row = code.row();
    let text = format!(
        "{}\n\n{}\n\nStatus: {}\nOutcome: {}\nRetryable: {}\n",
        row.title,
        row.advice,
        row.status,
        outcome_word(row.outcome),
        row.retryable
    );
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
    }
}

/// `docs/errors/api.md`, written from the catalogue.
#[must_use]
pub fn catalogue_page() -> String {
    let mut page = "# Problems of the API\n\n\
        Written from the code; a test keeps it equal. A problem is `application/problem+json` (RFC 9457) with `type` \
        (`/problems/` and the code), `code`, `retryable`, `outcome`, `correlation_id` and `errors` (pointer, code, detail).\n\n\
        *Outcome*: `none` - nothing was tried; `refused` - decided, nothing changed; `unknown` - it may or may not be carried \
        out: repeat the request with the same key. A read changes nothing, so its outcome is always `none`.\n\n\
        No problem means that money moved twice or was lost: a request is carried out at most once for its key.\n\n\
        | code | status | outcome | retryable | meaning | what to do |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for code in Code::ALL {
        let row = code.row();
        let again = if row.retryable { "yes" } else { "no" };
        // Writing to a text cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {again} | {} | {} |",
            row.name,
            row.status,
            outcome_word(row.outcome),
            row.title,
            row.advice
        );
    }
    page.push_str(
        "\nCodes in `errors[].code`: `missing`, `not-a-string`, `malformed`, `malformed-amount`, `too-many-decimals`, `overflow`, \
         `zero-amount`, `malformed-asset`, `unknown-asset`, `malformed-chain`, `unknown-chain`, `malformed-address`, \
         `zero-address`, `malformed-id`, `malformed-key`, `key-mismatch`, `same-account`, `unknown-verdict`, \
         `malformed-digest`, `malformed-signature`, `unknown-field`, `unknown-parameter`, `repeated`, `invalid-cursor`.\n\
         A pointer is a JSON pointer into the body, or `path:…`, `query:…`, `header:…`.\n",
    );
    page
}
