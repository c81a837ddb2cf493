//! The bank's side: a small REST client that asks as a back office would, with an idempotency key for each wish.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

/// A client of the gateway.
#[derive(Clone)]
pub struct Bank {
    client: Client,
    base: String,
    key: String,
}

/// An answer: status and body.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

impl Bank {
    /// A client of the gateway at `base`, with an API key.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(Duration::from_secs(40)).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// GET; anything but success is an error.
    ///
    /// # Errors
    /// The gateway is not reachable or refuses.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.ask(Method::GET, path, None, None).await?;
        if answer.status.is_success() { Ok(answer.body) } else { bail!("GET {path}: {} {}", answer.status, answer.body) }
    }

    /// POST with an idempotency key; the answer whatever it is.
    ///
    /// # Errors
    /// The gateway is not reachable.
    pub async fn post(&self, path: &str, idempotency: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask(Method::POST, path, Some(idempotency), Some(body)).await
    }

    /// POST that must be accepted; gives the operation's or account's id. Repeats under the same key while the outcome is unknown.
    ///
    /// # Errors
    /// The gateway is not reachable for a minute, or refuses.
    pub async fn accepted(&self, path: &str, idempotency: &str, body: &Value) -> anyhow::Result<String> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = match self.post(path, idempotency, body).await {
                Ok(answer) => answer,
                // A worker that is being restarted does not answer for a moment.
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            if answer.status.is_success() && answer.body.get("outcome").and_then(Value::as_str) != Some("unknown") {
                let id = answer.body.get("id").and_then(Value::as_str).context("an answer without an id")?;
                return Ok(id.to_owned());
            }
            if answer.status.is_client_error() && answer.status != StatusCode::CONFLICT {
                bail!("POST {path}: {} {}", answer.status, answer.body);
            }
            if Instant::now() > until {
                bail!("POST {path} has no known outcome after a minute: {} {}", answer.status, answer.body);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn ask(&self, method: Method, path: &str, key: Option<&str>, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut request = self.client.request(method, format!("{}/v1{path}", self.base)).bearer_auth(&self.key);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("the gateway at {} does not answer", self.base))?;
        let status = response.status();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }

    /// Asks again until `done` holds of the answer.
    ///
    /// # Errors
    /// It does not within `most`; the last answer is told.
    pub async fn until(&self, path: &str, most: Duration, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + most;
        let mut last = Value::Null;
        loop {
            // A worker that is being restarted does not answer for a moment.
            if let Ok(value) = self.get(path).await {
                if done(&value) {
                    return Ok(value);
                }
                last = value;
            }
            if Instant::now() > until {
                bail!("{path} is not as expected after {} s: {last}", most.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an operation has ended.
    ///
    /// # Errors
    /// It has not within `most`.
    pub async fn ended(&self, operation: &str, most: Duration) -> anyhow::Result<Value> {
        self.until(&format!("/operations/{operation}"), most, |value| value.get("done") == Some(&Value::Bool(true))).await
    }
}
