//! A door before the chain that a node of the product's configuration stands behind: honest, or showing a branch of its own.
//!
//! Two doors before one chain are two nodes that agree until one of them is told to lie. A lie is a whole branch: from a block on, every
//! block has another hash, and its child names that as its parent; what the product asks about such a block is answered. Or it is a lie
//! about what is in the blocks that both have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What stands in the blocks of a false branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// No transactions at all.
    Empty,
    /// The same transactions, in other blocks.
    Elsewhere,
    /// No branch of its own at all: the same blocks by their hashes, and no transactions in them.
    Concealed,
}

/// The door; closed when dropped.
#[derive(Debug)]
pub struct Door {
    url: String,
    post: Arc<Post>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Post {
    client: Client,
    chain: String,
    lie: Mutex<Option<Lie>>,
}

#[derive(Debug)]
struct Lie {
    from: u64,
    branch: Branch,
    /// The false hash of every block that was shown, by the true one.
    hashes: BTreeMap<String, String>,
}

impl Door {
    pub(crate) async fn before(chain: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the door's port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let post = Arc::new(Post { client: Client::new(), chain, lie: Mutex::default() });
        let router = Router::new().route("/", axum::routing::post(pass)).with_state(Arc::clone(&post));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("a door ended: {error}");
            }
        });
        Ok(Self { url, post, task })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From the block `from` on, which is not mined yet, this node shows a branch of its own.
    pub fn leave(&self, from: u64, branch: Branch) {
        *self.post.lie() = Some(Lie { from, branch, hashes: BTreeMap::new() });
    }

    /// This node shows the chain as it is again.
    pub fn return_to_the_chain(&self) {
        *self.post.lie() = None;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Post {
    fn lie(&self) -> MutexGuard<'_, Option<Lie>> {
        self.lie.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lie {
    /// What the chain is to be asked.
    fn question(&self, said: String) -> String {
        self.hashes.iter().fold(said, |said, (truth, shown)| said.replace(shown, truth))
    }

    /// What is answered instead of what the chain says.
    fn answer(&mut self, said: String) -> anyhow::Result<String> {
        let mut answer: Value = serde_json::from_str(&said)?;
        if let Some(block) = answer.get_mut("result").and_then(Value::as_object_mut) {
            let hex = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
            if let (Some(number), Some(hash), Some(parent)) = (hex("number"), hex("hash"), hex("parentHash")) {
                let number = u64::from_str_radix(number.trim_start_matches("0x"), 16)?;
                for (number, hash) in [(number, hash), (number.saturating_sub(1), parent)] {
                    if number >= self.from && self.branch != Branch::Concealed {
                        let shown = format!("0x{}", hash.trim_start_matches("0x").chars().rev().collect::<String>());
                        self.hashes.insert(hash, shown);
                    }
                }
                if number >= self.from && self.branch != Branch::Elsewhere {
                    block.insert("transactions".to_owned(), json!([]));
                }
            }
        }
        Ok(self.hashes.iter().fold(answer.to_string(), |said, (truth, shown)| said.replace(truth, shown)))
    }
}

async fn pass(State(post): State<Arc<Post>>, body: String) -> Response {
    let question = match &*post.lie() {
        Some(lie) => lie.question(body),
        None => body,
    };
    let asked = post.client.post(&post.chain).header(header::CONTENT_TYPE, "application/json").body(question).send();
    let answered = async { anyhow::Ok(asked.await?.text().await?) }.await;
    let told = answered.and_then(|answer| match &mut *post.lie() {
        Some(lie) => lie.answer(answer),
        None => Ok(answer),
    });
    match told {
        Ok(told) => ([(header::CONTENT_TYPE, "application/json")], told).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
