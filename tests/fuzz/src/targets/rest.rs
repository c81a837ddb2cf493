//! A request to the bank's door, through every layer of it, without a socket.
//!
//! Whatever comes: no `500`, no answer without a code of the catalogue, and a request that is refused puts nothing into the log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use custos_gateway::{ApiKey, ApiKeys, CursorSecret, Gateway, GatewayConfig, Role};
use custos_journal::{EmbeddedJournal, Journal, Provision};
use custos_messages::{Machine, Topic};
use custos_readmodel::ReadModel;
use custos_runtime::metrics::Metrics;
use custos_testkit as kit;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Target;
use crate::{join, split};

pub const TARGET: Target = Target { name: "rest", seeds, run, words: WORDS, mutations: 500 };

const WORDS: &[&str] = &[
    "\"amount\":\"1\",\"amount\":\"2\"",
    "1e400",
    "-0",
    "\"\\ud800\"",
    "\\u0000",
    "\u{ff11}",
    "\u{202e}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "%00",
    "%2e%2e%2f",
    "?limit=0&limit=1",
    "cursor=",
    "18446744073709551616;-1",
    "wait=99999999999999999999",
    "application/json;charset=utf-16",
];
const INBOX: Topic = Topic::Inbox(Machine::Accounts);
const LONGEST_ANSWER: usize = 1 << 20;

struct Door {
    runtime: Runtime,
    router: Router,
    journal: Arc<EmbeddedJournal>,
    keys: Vec<String>,
    _gateway: Gateway,
    _folder: TempDir,
}

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Arc::new(EmbeddedJournal::open(&folder.path().join("log")).expect("a log"));
        let provision = Provision { partitions: kit::policy().partitions, gateways: 1, replication: 1 };
        assert!(journal.provision(&provision).expect("topics").is_empty());
        let (gateway, keys) = runtime.block_on(open(&folder, Arc::clone(&journal)));
        Door { router: gateway.routes(), runtime, journal, keys, _gateway: gateway, _folder: folder }
    })
}

async fn open(folder: &TempDir, journal: Arc<EmbeddedJournal>) -> (Gateway, Vec<String>) {
    let model =
        ReadModel::open(&format!("sqlite://{}", folder.path().join("read.db").display())).await.expect("a read model");
    let drawn = [("bank", Role::Bank), ("read", Role::Read), ("officer", Role::Officer)]
        .map(|(id, role)| ApiKey::generate(id, role).expect("a key"));
    let config = GatewayConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        instance: 0,
        keys: ApiKeys::new(drawn.iter().map(|key| key.entry.clone())).expect("keys"),
        cursors: CursorSecret::new([5; 32]),
        blockchain: "127.0.0.1:1".to_owned(),
        policy: kit::policy(),
        // Nobody answers, so an accepted request is in the log, and its outcome is not known.
        reply_wait: Duration::from_millis(1),
        patience: Duration::from_secs(1),
        head_wait: Duration::from_secs(1),
        metrics: Metrics::default(),
    };
    let gateway = Gateway::bind(config, journal, Arc::new(kit::keyring()), model, CancellationToken::new()).await;
    (gateway.expect("a gateway"), drawn.iter().map(|key| key.text.to_string()).collect())
}

/// The parts of a request, in their order.
const METHOD: usize = 0;
const PATH: usize = 1;
const KEY: usize = 2;
const BODY: usize = 3;
/// Then names and values of headers.
const HEADERS: usize = 4;
const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS];

fn seeds() -> Vec<Vec<u8>> {
    let account = kit::account("client");
    let saga = kit::saga("client", "withdrawal", "key");
    let to = kit::address("to");
    let post = |path: &str, key: u8, body: &str| {
        join(&[
            &[1],
            path.as_bytes(),
            &[key],
            body.as_bytes(),
            b"content-type",
            b"application/json",
            b"idempotency-key",
            b"\"a key\"",
        ])
    };
    let get = |path: &str| join(&[&[0], path.as_bytes(), &[1], b"", b"custos-position", b"0;0"]);
    let mut seeds = vec![
        post("/v1/accounts", 0, r#"{"key":"client"}"#),
        post(&format!("/v1/accounts/{account}/addresses"), 0, r#"{"chain":"eip155:31337"}"#),
        post(
            &format!("/v1/accounts/{account}/withdrawals"),
            0,
            &format!(r#"{{"asset":"ETH","amount":"0.5","to":"{to}","fee_max":"0.01"}}"#),
        ),
        post(
            &format!("/v1/accounts/{account}/transfers"),
            0,
            &format!(r#"{{"to_account":"{}","asset":"ETH","amount":"1"}}"#, kit::account("other")),
        ),
        post(
            &format!("/v1/approvals/{saga}"),
            2,
            &format!(
                r#"{{"officer":"anna","verdict":"approve","digest":"{}","signature":"{}"}}"#,
                "00".repeat(32),
                "00".repeat(64)
            ),
        ),
        get("/openapi.json"),
        get("/problems/not-found"),
    ];
    let reads = ["accounts", "operations", "withdrawals", "approvals", "events", "policy", "reconciliation"];
    seeds.extend(reads.map(|path| get(&format!("/v1/{path}?limit=2"))));
    seeds.extend(["", "/balances", "/deposits", "/addresses"].map(|path| get(&format!("/v1/accounts/{account}{path}"))));
    seeds.extend([get(&format!("/v1/operations/{saga}")), get(&format!("/v1/operations/{saga}/story"))]);
    seeds
}

fn request(parts: &[&[u8]], keys: &[String]) -> Option<Request<Body>> {
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let byte = |at: usize| usize::from(part(at).first().copied().unwrap_or_default());
    let mut request =
        Request::builder().method(METHODS.get(byte(METHOD) % METHODS.len())?.clone()).uri(Uri::try_from(part(PATH)).ok()?);
    if let Some(key) = keys.get(byte(KEY)) {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for pair in parts.get(HEADERS..).unwrap_or_default().chunks_exact(2) {
        let [name, value] = pair else { continue };
        // What no HTTP server would let through does not come here either.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(part(BODY).to_vec())).ok()
}

fn run(input: &[u8]) {
    let door = door();
    let Some(request) = request(&split(input), &door.keys) else { return };
    let (head, path) = (request.method() == Method::HEAD, request.uri().path().to_owned());
    let before = posted(door);
    let (status, kind, body) = door.runtime.block_on(async {
        let answer = door.router.clone().oneshot(request).await.expect("a router does not fail");
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let status = answer.status();
        // A stream has no end.
        let streams = kind.starts_with("text/event-stream");
        let body =
            if streams { Vec::new() } else { to_bytes(answer.into_body(), LONGEST_ANSWER).await.expect("short").to_vec() };
        (status, kind, body)
    });
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {}", String::from_utf8_lossy(&body));
    let written = posted(door) - before;
    if status.is_client_error() || status.is_server_error() {
        if !head {
            assert_eq!(kind, "application/problem+json", "{path}: {status}");
            let problem: Value = serde_json::from_slice(&body).expect("a problem is JSON");
            let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
            assert!(!code.is_empty() && problem.get("status").and_then(Value::as_u64) == Some(u64::from(status.as_u16())));
        }
        assert!(written == 0 || status.is_server_error(), "{path}: refused with {status}, and {written} inputs in the log");
    }
    assert!(written <= 1, "one request, {written} inputs");
}

fn posted(door: &Door) -> u64 {
    (0..kit::policy().partitions).map(|partition| door.journal.bounds(INBOX, partition).expect("the log").1).sum()
}
