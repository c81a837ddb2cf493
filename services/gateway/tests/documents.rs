//! What is written from the code equals what is committed.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
#[allow(dead_code, reason = "each test file uses a part of the bench")]
mod fixture;

use fixture::{Bench, equals_file, send};
use reqwest::Method;

#[test]
fn the_openapi_document_is_the_committed_one() {
    let document = serde_json::to_value(custos_gateway::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(!ids.contains(&id), "{id} stands twice");
            ids.push(id);
            if method == "post" {
                let names = |p: &serde_json::Value| p["name"] == "Idempotency-Key" && p["required"] == true;
                assert!(operation["parameters"].as_array().unwrap().iter().any(names), "{path} needs an idempotency key");
            }
        }
    }
    equals_file("docs/api/openapi.json", &format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
}

#[test]
fn the_catalogue_of_problems_is_the_committed_one() {
    let names: std::collections::BTreeSet<_> = custos_gateway::Code::ALL.map(custos_gateway::Code::name).into();
    assert_eq!(names.len(), custos_gateway::Code::ALL.len(), "every code has a name of its own");
    equals_file("docs/errors/api.md", &custos_gateway::catalogue_page());
}

#[tokio::test]
async fn the_documentation_needs_no_key_and_no_other_server() {
    let bench = Bench::start().await;
    for path in ["/openapi.json", "/v1/openapi.json"] {
        let document = send(bench.client.request(Method::GET, format!("{}{path}", bench.base))).await;
        assert_eq!(document.body, serde_json::to_value(custos_gateway::openapi()).unwrap());
    }
    let page = send(bench.client.get(format!("{}/docs", bench.base))).await;
    assert_eq!(page.status, 200);
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("http://") && !html.contains("https://") && html.contains("/v1/openapi.json"));
    assert!(page.header("content-security-policy").unwrap().contains("connect-src 'self'"));
    let problem = send(bench.client.get(format!("{}/problems/insufficient-funds", bench.base))).await;
    assert!(problem.body.as_str().unwrap().contains("Status: 422"));
    assert_eq!(send(bench.client.get(format!("{}/problems/none", bench.base))).await.code(), "not-found");
}
