//! JSON-RPC over HTTP on loopback: single requests and batches.

use std::net::SocketAddr;

use axum::{Router, body::Bytes, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    DevChain, DevChainError,
    lies::SendFate,
    rpc::{self, RpcError},
};

/// Requests that one batch may hold (geth's limit).
const BATCH_MAX: usize = 1_000;

/// A listening node. Dropping it closes the port; the chain lives on in its handles.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for a JSON-RPC client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DevChain {
    /// Listens on `address`, which must be loopback; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// `NotLoopback` or `Listen`.
    pub async fn serve(&self, address: SocketAddr) -> Result<Server, DevChainError> {
        if !address.ip().is_loopback() {
            return Err(DevChainError::NotLoopback { address });
        }
        let listen = |source| DevChainError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let router = Router::new().route("/", post(answer)).with_state(self.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the development chain's listener ended");
            }
        });
        Ok(Server { address: bound, task })
    }
}

impl DevChain {
    /// Answers one JSON-RPC request in process: at once, honestly, and without noting it among the requests.
    #[must_use]
    pub fn ask(&self, request: Value) -> Value {
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let Some(method) = request.get("method").and_then(Value::as_str) else {
            return failed(id, &RpcError::new(-32_600, "invalid request"));
        };
        let params = request.get("params").cloned().unwrap_or(Value::Null);
        reply(id, rpc::dispatch(self, method, params, SendFate::Honest))
    }
}

async fn answer(State(node): State<DevChain>, body: Bytes) -> impl IntoResponse {
    let reply = match serde_json::from_slice::<Value>(&body) {
        Err(_) => failed(Value::Null, &RpcError::new(-32_700, "parse error")),
        Ok(Value::Array(batch)) if batch.is_empty() => failed(Value::Null, &RpcError::new(-32_600, "empty batch")),
        Ok(Value::Array(batch)) if batch.len() > BATCH_MAX => {
            failed(Value::Null, &RpcError::new(-32_600, "batch too large"))
        }
        Ok(Value::Array(batch)) => {
            let mut replies = Vec::with_capacity(batch.len());
            for request in batch {
                replies.push(one(&node, request).await);
            }
            Value::Array(replies)
        }
        Ok(request) => one(&node, request).await,
    };
    ([(CONTENT_TYPE, "application/json")], reply.to_string())
}

async fn one(node: &DevChain, request: Value) -> Value {
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let method = request.get("method").and_then(Value::as_str).map(str::to_owned);
    let version = request.get("jsonrpc").and_then(Value::as_str);
    let (Some(method), Some("2.0")) = (method, version) else {
        return failed(id, &RpcError::new(-32_600, "invalid request"));
    };
    let params = request.get("params").cloned().unwrap_or(Value::Null);
    // The controls are neither lied to nor recorded.
    let control = method.starts_with("dev_") || method.starts_with("evm_");
    let mut fate = SendFate::Honest;
    if !control {
        node.shared.record(&method, &params);
        let (delay, broken) = {
            let mut lies = node.shared.lies();
            if method == "eth_sendRawTransaction" {
                fate = lies.next_send();
            }
            (lies.delay(), lies.error_on.contains(&method))
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if broken {
            return failed(id, &RpcError::new(-32_603, "internal error"));
        }
    }
    let answered = rpc::dispatch(node, &method, params, fate);
    if fate == SendFate::AcceptAndNeverAnswer {
        // Until the client gives up or the server is dropped.
        std::future::pending::<()>().await;
    }
    reply(id, answered)
}

fn reply(id: Value, answered: rpc::Answer) -> Value {
    match answered {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => failed(id, &error),
    }
}

fn failed(id: Value, error: &RpcError) -> Value {
    let mut body = json!({ "code": error.code, "message": error.message });
    if let (Some(data), Some(fields)) = (&error.data, body.as_object_mut()) {
        fields.insert("data".to_owned(), Value::String(data.to_string()));
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": body })
}
