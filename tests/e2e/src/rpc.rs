//! JSON-RPC over HTTP, as little of it as tests need.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Client;
use serde_json::{Value, json};

const ANSWER: Duration = Duration::from_secs(20);
/// How methods begin that only ask.
const QUESTIONS: [&str; 4] = ["eth_get", "eth_call", "eth_blockNumber", "eth_chainId"];
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);

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

    /// The result; the node's error is an error. A question is asked again for a while when no answer comes: a node under load is slow,
    /// and what asks it is often the judge of a long run. What changes something is sent once.
    pub(crate) async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let tries = if QUESTIONS.iter().any(|start| method.starts_with(start)) { TRIES } else { 1 };
        let mut answer = self.ask(&question).await;
        for _ in 1..tries {
            if answer.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            answer = self.ask(&question).await;
        }
        let answer = answer.with_context(|| method.to_owned())?;
        match answer.get("error") {
            Some(error) => bail!("{method} {params}: {error}"),
            None => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
        }
    }

    async fn ask(&self, question: &Value) -> reqwest::Result<Value> {
        self.client.post(&self.url).json(question).send().await?.json().await
    }
}
