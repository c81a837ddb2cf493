//! JSON-RPC over HTTP, as little of it as tests need.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Client;
use serde_json::{Value, json};

const ANSWER: Duration = Duration::from_secs(20);

/// A client of one node.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    client: Client,
    url: String,
}

impl Rpc {
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::builder().timeout(ANSWER).build()?, url: url.to_owned() })
    }

    /// The result; the node's error is an error.
    pub(crate) async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let asked = self.client.post(&self.url).json(&question).send().await;
        let answer: Value = asked.with_context(|| method.to_owned())?.json().await.with_context(|| method.to_owned())?;
        match answer.get("error") {
            Some(error) => bail!("{method} {params}: {error}"),
            None => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
        }
    }
}
