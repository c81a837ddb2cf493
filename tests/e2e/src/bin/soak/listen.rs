//! Readers of the event stream: one that hears everything and leaves now and then, and one that takes nothing at all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use custos_e2e::{Bank, LONG, until};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::load::items;

/// After so long a reader leaves, and comes back with the last event that it heard.
const VISIT: Duration = Duration::from_secs(25);
/// Longer than the door waits for a reader that takes nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// A reader that hears every event from the first one on.
pub struct Listener {
    heard: Arc<Mutex<BTreeSet<u64>>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Listener {
    /// Begins to listen.
    pub fn begin(bank: &Bank) -> Self {
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        let task = tokio::spawn(listen(bank.clone(), Arc::clone(&heard)));
        Self { heard, task }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How much was heard, in words.
    pub fn told(&self) -> String {
        format!("{} events heard", self.count())
    }

    /// Waits until it has heard exactly the events that the pages show: how many.
    pub async fn heard_everything(self, bank: &Bank) -> anyhow::Result<usize> {
        let (mut shown, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = bank.get(&format!("/events?limit=200{cursor}")).await?;
            for event in items(&page)? {
                let id = event.get("id").and_then(Value::as_u64).context("an event has an id")?;
                ensure!(shown.insert(id), "the pages show event {id} twice");
            }
            if items(&page)?.is_empty() {
                break;
            }
            cursor = format!("&cursor={}", page.get("next_cursor").and_then(Value::as_str).context("a cursor")?);
        }
        until("the listener has heard every event", LONG, || async {
            if self.task.is_finished() {
                return Ok(Some(()));
            }
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if *heard == shown { Ok(Some(())) } else { bail!("{} of {}", heard.len(), shown.len()) }
        })
        .await?;
        self.task.abort();
        match self.task.await {
            Ok(ended) => ended?,
            Err(aborted) => ensure!(aborted.is_cancelled(), "the listener panicked"),
        }
        Ok(shown.len())
    }
}

/// Listens in visits, each from the last event of the one before.
async fn listen(bank: Bank, heard: Arc<Mutex<BTreeSet<u64>>>) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        let mut stream = bank.listen(last).await?;
        let leaves = Instant::now() + VISIT;
        let mut text = String::new();
        while let Ok(chunk) = tokio::time::timeout_at(leaves, stream.chunk()).await {
            let Some(chunk) = chunk? else { bail!("the door ended the stream of a reader that reads") };
            text.push_str(std::str::from_utf8(&chunk).context("events are text")?);
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some(id) = line.strip_prefix("id:") {
                    let id = id.trim().parse()?;
                    ensure!(id > last, "event {id} after event {last}");
                    heard.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                    last = id;
                }
                text = rest.to_owned();
            }
        }
    }
}

/// Asks for everything from the first event on, and takes nothing of it.
pub async fn silent(bank: Bank) -> anyhow::Result<()> {
    loop {
        let stream = bank.listen(0).await?;
        tokio::time::sleep(SILENCE).await;
        drop(stream);
    }
}
