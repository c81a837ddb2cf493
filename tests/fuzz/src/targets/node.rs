//! A chain node that answers whatever the input says: a JSON object from methods to results, or no JSON at all.
//!
//! The adapter is the real one, and talks to it over HTTP on the loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use custos_blockchain::{BlockchainConfig, ChainConfig, NodeConfig, NodeUrl};
use custos_domain::NodeName;
use custos_testkit as kit;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// What the node says to everything.
type Script = Arc<Mutex<Vec<u8>>>;

/// The node.
pub struct Node {
    pub runtime: Runtime,
    url: String,
    script: Script,
}

/// The one node of this process.
pub fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let script = Script::default();
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&script));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Node { runtime, url, script }
    })
}

impl Node {
    /// From now on it answers so.
    pub fn says(&self, script: &[u8]) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script.to_vec();
    }

    /// The adapter's configuration: this node alone.
    pub fn config(&self) -> BlockchainConfig {
        let node = NodeConfig { name: NodeName::new("a").expect("a name"), url: NodeUrl::new(self.url.clone()) };
        let token = (kit::address("token"), kit::asset("TUSD"));
        BlockchainConfig {
            chains: vec![ChainConfig {
                chain: kit::chain(),
                number: 31_337,
                nodes: vec![node],
                start_block: 1,
                poll: Duration::from_millis(2),
                request_timeout: Duration::from_secs(2),
                native: kit::asset("ETH"),
                tokens: BTreeMap::from([token]),
                tip_floor: 1,
            }],
        }
    }
}

async fn answer(State(script): State<Script>, body: Bytes) -> Response {
    let script = script.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = match serde_json::from_slice::<Value>(&script) {
        Ok(Value::Object(results)) => {
            let method = asked.get("method").and_then(Value::as_str).unwrap_or_default();
            let id = asked.get("id").cloned().unwrap_or_default();
            match (method, results.get(method)) {
                // Another chain is refused at once, and then nothing more would be asked.
                ("eth_chainId", None) => json!({ "jsonrpc": "2.0", "id": id, "result": "0x7a69" }).to_string(),
                (_, Some(Value::Object(error))) if error.contains_key("refused") => {
                    json!({ "jsonrpc": "2.0", "id": id, "error": error.get("refused") }).to_string()
                }
                (_, result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string(),
            }
        }
        // No JSON at all, or not an object: as the answer's body.
        _ => return ([(CONTENT_TYPE, "application/json")], script).into_response(),
    };
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Texts that mean something to whoever reads a node's answers.
pub const WORDS: &[&str] = &[
    "\"0x0\"",
    "\"0x\"",
    "\"0xffffffffffffffff\"",
    "\"0x10000000000000000\"",
    "\"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\"",
    "null",
    "[]",
    "{}",
    "-1",
    "1e308",
    "true",
    "{\"refused\":{\"code\":3,\"message\":\"execution reverted\"}}",
    "{\"refused\":{\"code\":-32601,\"message\":\"method not found\"}}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"\\ud800\"",
];
