//! Whatever is malformed, not allowed or repeated at the wrong moment is refused at the door, and nothing reaches the inbox.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part of the bench")]
mod fixture;

use custos_testkit as kit;
use fixture::{Bench, send};
use reqwest::Method;
use serde_json::{Value, json};

const TO: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

fn withdrawal(changes: &[(&str, Value)]) -> Value {
    let mut body = json!({ "asset": "ETH", "amount": "1", "to": TO, "fee_max": "0.01" });
    for (name, value) in changes {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(*name)),
            value => body[*name] = value.clone(),
        }
    }
    body
}

#[tokio::test]
async fn a_malformed_body_is_refused_with_its_place_and_reaches_no_inbox() {
    let bench = Bench::start().await;
    let account = kit::account("client");
    let saga = kit::saga("client", "withdrawal", "k");
    let of = |what: &str| format!("/v1/accounts/{account}/{what}");
    let (out, addresses, transfers) = (of("withdrawals"), of("addresses"), of("transfers"));
    let approval = format!("/v1/approvals/{saga}");
    let decision = |name: &str, value: Value| {
        let mut body = json!({
            "officer": "anna", "verdict": "approve", "digest": "00".repeat(32), "signature": "00".repeat(64),
        });
        body[name] = value;
        body
    };
    let transfer = |name: &str, value: Value| {
        let mut body = json!({ "to_account": kit::account("other").to_string(), "asset": "TUSD", "amount": "1" });
        body[name] = value;
        body
    };
    let lower = TO.to_lowercase();
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        (&out, withdrawal(&[("amount", json!(1.5))]), "/amount", "not-a-string"),
        (&out, withdrawal(&[("amount", json!(1))]), "/amount", "not-a-string"),
        (&out, withdrawal(&[("amount", json!("1e3"))]), "/amount", "malformed-amount"),
        (&out, withdrawal(&[("amount", json!("-1"))]), "/amount", "malformed-amount"),
        (&out, withdrawal(&[("amount", json!(""))]), "/amount", "malformed-amount"),
        (&out, withdrawal(&[("amount", json!(" 1"))]), "/amount", "malformed-amount"),
        (&out, withdrawal(&[("amount", json!("0.0000000000000000001"))]), "/amount", "too-many-decimals"),
        (&out, withdrawal(&[("amount", json!("340282366920938463464"))]), "/amount", "overflow"),
        (&out, withdrawal(&[("amount", json!("0.000"))]), "/amount", "zero-amount"),
        (&out, withdrawal(&[("amount", Value::Null)]), "/amount", "missing"),
        (&out, withdrawal(&[("asset", json!("TUSD")), ("amount", json!("0.0000001"))]), "/amount", "too-many-decimals"),
        (&out, withdrawal(&[("fee_max", json!(0))]), "/fee_max", "not-a-string"),
        (&out, withdrawal(&[("asset", json!("DOGE"))]), "/asset", "unknown-asset"),
        (&out, withdrawal(&[("asset", json!("eth"))]), "/asset", "malformed-asset"),
        (&out, withdrawal(&[("to", json!(lower))]), "/to", "malformed-address"),
        (&out, withdrawal(&[("to", json!("0x00"))]), "/to", "malformed-address"),
        (&out, withdrawal(&[("to", json!(format!("0x{}", "0".repeat(40))))]), "/to", "zero-address"),
        (&out, withdrawal(&[("memo", json!("rent"))]), "/memo", "unknown-field"),
        (&out, withdrawal(&[("a/b~c", json!("x"))]), "/a~1b~0c", "unknown-field"),
        (&addresses, json!({}), "/chain", "missing"),
        (&addresses, json!({ "chain": "eip155" }), "/chain", "malformed-chain"),
        (&addresses, json!({ "chain": "eip155:1" }), "/chain", "unknown-chain"),
        (&transfers, transfer("to_account", json!("nobody")), "/to_account", "malformed-id"),
        (&transfers, transfer("to_account", json!(account.to_string())), "/to_account", "same-account"),
        (&transfers, transfer("amount", json!("0")), "/amount", "zero-amount"),
        (&approval, decision("officer", json!("Anna")), "/officer", "malformed-id"),
        (&approval, decision("verdict", json!("maybe")), "/verdict", "unknown-verdict"),
        (&approval, decision("digest", json!("00")), "/digest", "malformed-digest"),
        (&approval, decision("signature", json!("00")), "/signature", "malformed-signature"),
        ("/v1/accounts", json!({ "key": "other" }), "/key", "key-mismatch"),
        ("/v1/accounts", json!({ "key": "" }), "/key", "malformed-key"),
        ("/v1/accounts", json!({ "key": 7 }), "/key", "not-a-string"),
        ("/v1/accounts/7/withdrawals", withdrawal(&[]), "path:account", "malformed-id"),
        ("/v1/approvals/7", decision("verdict", json!("approve")), "path:operation", "malformed-id"),
    ];
    for (path, body, pointer, code) in cases {
        let answered = bench.post(path, "k", &body).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (400, "invalid-request"), "{path} {body}: {answered:?}");
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
        let errors = answered.body["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{path} {body}: {errors:?}");
        assert_eq!((&errors[0]["pointer"], &errors[0]["code"]), (&json!(pointer), &json!(code)), "{path} {body}");
        assert_eq!((&answered.body["outcome"], &answered.body["retryable"]), (&json!("none"), &json!(false)));
        assert_eq!(answered.body["instance"], json!(path));
        assert_eq!(answered.body["correlation_id"].as_str(), answered.header("x-request-id"));
    }
    let all = bench.post(&out, "k", &withdrawal(&[("amount", json!(1)), ("to", Value::Null), ("x", json!(1))])).await;
    assert_eq!(all.body["errors"].as_array().unwrap().len(), 3, "every problem at once: {all:?}");
    assert_eq!(bench.posted(), 0);
}

#[tokio::test]
async fn a_request_that_is_no_request_is_refused_by_its_form() {
    let bench = Bench::start().await;
    let path = format!("/v1/accounts/{}/withdrawals", kit::account("client"));
    let raw = |key: Option<&'static str>, kind: &'static str, body: String| {
        let request = bench.request(Method::POST, &path, "bank").header("Content-Type", kind).body(body);
        key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key))
    };
    let good = || withdrawal(&[]).to_string();
    let json = "application/json";
    let twice = r#"{"asset":"ETH","asset":"TUSD","amount":"1"}"#.to_owned();
    let cases = [
        (raw(None, json, good()), 400, "idempotency-key-missing"),
        (raw(Some("a b"), json, good()), 400, "invalid-request"),
        (raw(Some("\"open"), json, good()), 400, "invalid-request"),
        (raw(Some("k"), "text/plain", good()), 415, "unsupported-media-type"),
        (raw(Some("k"), json, String::new()), 400, "invalid-json"),
        (raw(Some("k"), json, "[]".to_owned()), 400, "invalid-json"),
        (raw(Some("k"), json, format!("{} x", good())), 400, "invalid-json"),
        (raw(Some("k"), json, twice), 400, "invalid-json"),
        (raw(Some("k"), json, " ".repeat(64 * 1024 + 1)), 413, "body-too-large"),
    ];
    for (at, (request, status, code)) in cases.into_iter().enumerate() {
        let answered = send(request).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (status, code), "case {at}: {answered:?}");
    }
    assert_eq!(bench.get("/v1/nothing").await.code(), "not-found");
    assert_eq!(send(bench.request(Method::DELETE, "/v1/accounts", "bank")).await.code(), "method-not-allowed");
    assert_eq!(bench.posted(), 0);
}

#[tokio::test]
async fn every_role_does_what_is_its_own_and_nobody_comes_in_without_a_key() {
    let bench = Bench::start().await;
    let account = kit::account("client");
    let saga = kit::saga("client", "withdrawal", "k");
    let writes = [
        ("/v1/accounts".to_owned(), "bank"),
        (format!("/v1/accounts/{account}/addresses"), "bank"),
        (format!("/v1/accounts/{account}/withdrawals"), "bank"),
        (format!("/v1/accounts/{account}/transfers"), "bank"),
        (format!("/v1/approvals/{saga}"), "officer"),
    ];
    for (path, owner) in &writes {
        for role in ["bank", "read", "officer"] {
            let request = bench.request(Method::POST, path, role).header("Idempotency-Key", "k").json(&json!({}));
            let answered = send(request).await;
            // The owner gets as far as the empty body.
            let expected = if role == *owner { (400, "invalid-request") } else { (403, "forbidden") };
            assert_eq!((answered.status.as_u16(), answered.code()), expected, "{role} {path}");
        }
    }
    for role in ["bank", "read", "officer"] {
        assert_eq!(send(bench.request(Method::GET, "/v1/accounts", role)).await.status, 200, "{role} reads");
    }
    let good = bench.keys["bank"].clone();
    let (id, secret) = good.rsplit_once('_').unwrap();
    let flipped = if secret.starts_with('0') { "1" } else { "0" };
    let wrong = format!("{id}_{flipped}{}", &secret[1..]);
    for token in ["", "custos", &wrong, &good.replace("custos_bank", "custos_officer")] {
        let request = bench.client.get(format!("{}/v1/accounts", bench.base)).bearer_auth(token);
        let answered = send(request).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (401, "unauthenticated"), "{token}");
        assert_eq!(answered.header("www-authenticate"), Some("Bearer"));
    }
    for path in ["/v1/accounts", "/v1/events", "/v1/events/stream", "/v1/policy", "/v1/reconciliation", "/v1/operations"] {
        assert_eq!(send(bench.client.get(format!("{}{path}", bench.base))).await.status, 401, "{path} without a key");
    }
    assert_eq!(bench.posted(), 0);
}
