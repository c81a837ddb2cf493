//! The bank: a client of the REST door, with an idempotency key for each wish; and its officers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy::primitives::Address;
use anyhow::{Context, bail};
use ed25519_dalek::{Signer, SigningKey};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::ledger::{Balance, text};
use crate::wait::{LONG, SHORT, until};

const ANSWER: Duration = Duration::from_secs(40);
/// The longest that one stream of events is listened to.
const LISTEN: Duration = Duration::from_secs(3_600);

/// A client of the gateway, or of several that stand for one bank: then each request goes to the next of them.
#[derive(Clone, Debug)]
pub struct Bank {
    client: Client,
    doors: Vec<String>,
    turn: Arc<AtomicUsize>,
    key: String,
}

/// A definite no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The code of the problem catalogue.
    pub code: String,
    /// The whole body.
    pub body: Value,
}

/// An officer's signed word.
#[derive(Clone, Debug)]
pub struct Word {
    path: String,
    key: String,
    body: Value,
}

/// What is asked for in a withdrawal.
#[derive(Clone, Debug)]
pub struct Withdrawal<'a> {
    /// The idempotency key.
    pub key: &'a str,
    /// The asset's code.
    pub asset: &'a str,
    /// In the asset's unit.
    pub amount: &'a str,
    /// The receiver.
    pub to: Address,
    /// In ether.
    pub fee_max: &'a str,
}

impl Bank {
    /// A client of the gateway at `base`.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(ANSWER).build()?;
        Ok(Self { client, doors: vec![base.to_owned()], turn: Arc::default(), key: key.to_owned() })
    }

    /// The same client, which also knows the gateway at `base`.
    #[must_use]
    pub fn with_door(mut self, base: &str) -> Self {
        self.doors.push(base.to_owned());
        self
    }

    fn door(&self) -> &str {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.doors.len()).unwrap_or_default();
        self.doors.get(turn).map_or("", String::as_str)
    }

    /// A request as it comes: status and body.
    ///
    /// # Errors
    /// The gateway is not reachable.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}/v1{path}", self.door())).bearer_auth(&self.key);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.with_context(|| format!("the body of {path}, status {status}"))?))
    }

    /// Reads.
    ///
    /// # Errors
    /// The gateway is not reachable, or refuses.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        match self.ask(Method::GET, path, None, None).await? {
            (200, body) => Ok(body),
            (status, body) => bail!("GET {path}: {status} {body}"),
        }
    }

    /// The stream of events after that of this number, as it comes.
    ///
    /// # Errors
    /// The gateway is not reachable, or refuses.
    pub async fn listen(&self, after: u64) -> anyhow::Result<Response> {
        let request = self.client.get(format!("{}/v1/events/stream", self.door())).bearer_auth(&self.key);
        let answer = request.header("Last-Event-ID", after.to_string()).timeout(LISTEN).send().await?;
        Ok(answer.error_for_status()?)
    }

    /// Writes, and repeats under the same key until the outcome is known: the operation's or account's id, or a definite no.
    ///
    /// # Errors
    /// No outcome in time.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<Result<String, Refused>> {
        until(&format!("the outcome of {path} `{key}`"), LONG, || async {
            let (status, body) = self.ask(Method::POST, path, Some(key), Some(body)).await?;
            let retryable = body.get("retryable").and_then(Value::as_bool).unwrap_or(status >= 500);
            match status {
                _ if retryable => bail!("{status} {body}"),
                200..=299 => Ok(Some(Ok(text(&body, "/id")?.to_owned()))),
                _ => Ok(Some(Err(Refused { status, code: text(&body, "/code").unwrap_or_default().to_owned(), body }))),
            }
        })
        .await
    }

    async fn accepted(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<String> {
        match self.post(path, key, body).await? {
            Ok(id) => Ok(id),
            Err(refused) => bail!("POST {path}: {} {}", refused.status, refused.body),
        }
    }

    /// Opens an account.
    ///
    /// # Errors
    /// It is refused, or there is no outcome in time.
    pub async fn open(&self, key: &str) -> anyhow::Result<String> {
        self.accepted("/accounts", key, &json!({ "key": key })).await
    }

    /// An address of the account that is watched already.
    ///
    /// # Errors
    /// None is issued in time.
    pub async fn address(&self, account: &str, chain: &str) -> anyhow::Result<Address> {
        let path = format!("/accounts/{account}/addresses");
        let id = self.accepted(&path, "address", &json!({ "chain": chain })).await?;
        let done = self.done(&id).await?;
        Ok(text(&done, "/response/address/address")?.parse()?)
    }

    /// Asks for a withdrawal: its operation, or a definite no.
    ///
    /// # Errors
    /// No outcome in time.
    pub async fn withdraw(&self, account: &str, wish: &Withdrawal<'_>) -> anyhow::Result<Result<String, Refused>> {
        let to = wish.to.to_checksum(None);
        let body = json!({ "asset": wish.asset, "amount": wish.amount, "to": to, "fee_max": wish.fee_max });
        self.post(&format!("/accounts/{account}/withdrawals"), wish.key, &body).await
    }

    /// Asks for a transfer to another account: its operation.
    ///
    /// # Errors
    /// It is refused, or there is no outcome in time.
    pub async fn transfer(&self, account: &str, key: &str, to: &str, asset: &str, amount: &str) -> anyhow::Result<String> {
        let body = json!({ "to_account": to, "asset": asset, "amount": amount });
        self.accepted(&format!("/accounts/{account}/transfers"), key, &body).await
    }

    /// The operation, once it is done.
    ///
    /// # Errors
    /// It is not done in time.
    pub async fn done(&self, id: &str) -> anyhow::Result<Value> {
        until(&format!("operation {id} is done"), LONG, || self.ended(id)).await
    }

    /// The operation, if it is done.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn ended(&self, id: &str) -> anyhow::Result<Option<Value>> {
        let operation = self.operation(id).await?;
        Ok((operation.get("done") == Some(&Value::Bool(true))).then_some(operation))
    }

    /// An operation.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn operation(&self, id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/operations/{id}")).await
    }

    /// A withdrawal with what it rests on.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn withdrawal(&self, id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/withdrawals/{id}")).await
    }

    /// The types of an operation's events, in order.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn story(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let story = self.get(&format!("/operations/{id}/story")).await?;
        items(&story)?.iter().map(|event| Ok(text(event, "/type")?.to_owned())).collect()
    }

    /// What the account has of the asset; nothing of one that it never had.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn balance(&self, account: &str, asset: &str) -> anyhow::Result<Balance> {
        let balances = self.get(&format!("/accounts/{account}/balances")).await?;
        let found = items(&balances)?.iter().find(|line| line.get("asset").and_then(Value::as_str) == Some(asset));
        found.map_or(Ok(Balance::default()), Balance::of)
    }

    /// Waits until the account has exactly this.
    ///
    /// # Errors
    /// It has something else at the deadline.
    pub async fn has(&self, account: &str, asset: &str, expected: Balance) -> anyhow::Result<()> {
        until(&format!("account {account} has {expected:?} {asset}"), SHORT, || async {
            let balance = self.balance(account, asset).await?;
            if balance == expected { Ok(Some(())) } else { bail!("it has {balance:?}") }
        })
        .await
    }

    /// The account's deposits, newest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn deposits(&self, account: &str) -> anyhow::Result<Vec<Value>> {
        let page = self.get(&format!("/accounts/{account}/deposits")).await?;
        Ok(items(&page)?.clone())
    }

    /// An officer's signed word about a withdrawal that waits: whether it was taken.
    ///
    /// # Errors
    /// There is nothing to decide, or no outcome in time.
    pub async fn decide(
        &self,
        operation: &str,
        officer: (&str, &str),
        verdict: &str,
    ) -> anyhow::Result<Result<String, Refused>> {
        let word = self.word(operation, officer, verdict).await?;
        self.hand_in(&word).await
    }

    /// An officer's signed word about a withdrawal that waits, to be handed in as often as it takes to hear the outcome.
    ///
    /// # Errors
    /// There is nothing to decide.
    pub async fn word(&self, operation: &str, (officer, secret): (&str, &str), verdict: &str) -> anyhow::Result<Word> {
        let approval = self.get(&format!("/approvals/{operation}")).await?;
        let mut key = [0; 32];
        hex::decode_to_slice(secret, &mut key)?;
        let bytes = hex::decode(text(&approval, &format!("/{verdict}_bytes"))?)?;
        let signature = hex::encode(SigningKey::from_bytes(&key).sign(&bytes).to_bytes());
        let digest = text(&approval, "/digest")?;
        Ok(Word {
            path: format!("/approvals/{operation}"),
            key: format!("{operation}-{officer}-{verdict}"),
            body: json!({ "officer": officer, "verdict": verdict, "digest": digest, "signature": signature }),
        })
    }

    /// Hands in an officer's word: whether it was taken.
    ///
    /// # Errors
    /// No outcome in time.
    pub async fn hand_in(&self, word: &Word) -> anyhow::Result<Result<String, Refused>> {
        self.post(&word.path, &word.key, &word.body).await
    }

    /// The asset's line of the books against the chain.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn books(&self, asset: &str) -> anyhow::Result<Value> {
        let books = self.get("/reconciliation").await?;
        let lines = books.get("assets").and_then(Value::as_array).context("books without assets")?;
        let line = lines.iter().find(|line| line.get("asset").and_then(Value::as_str) == Some(asset));
        line.cloned().with_context(|| format!("no books of {asset}"))
    }
}

fn items(page: &Value) -> anyhow::Result<&Vec<Value>> {
    page.get("items").and_then(Value::as_array).with_context(|| format!("a page without items: {page}"))
}
