//! The load: everything that a bank does at a steady pace, reads of every kind, and readers of the event stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use custos_e2e::{Bank, ETHER, LONG, Stream, World, until};
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::listen::{Listener, silent};

/// A round of the stream so often: about five operations and a block.
const ROUND: Duration = Duration::from_secs(1);
/// With more operations under way no round begins: the load tests endurance, not speed.
const RUNNING_MAX: usize = 100;
/// A read so often.
const READ: Duration = Duration::from_millis(200);
/// One round in so many has a withdrawal with officers: clients' funds last for more than an hour.
const APPROVED_EVERY: usize = 20;
/// What the hot wallet gets besides.
const FUNDS: u128 = 20_000 * ETHER;

/// Load that runs.
pub struct Load {
    stream: Stream,
    listener: Listener,
    reading: JoinHandle<anyhow::Result<()>>,
    silent: JoinHandle<anyhow::Result<()>>,
    reads: Arc<AtomicU64>,
    held_back: u64,
}

/// What was done.
pub struct Loaded {
    /// Operations asked for, deposits included.
    pub operations: usize,
    /// Events heard, each once.
    pub events: usize,
    /// In words.
    pub told: String,
}

impl Load {
    /// Opens clients with funds, and everybody who reads.
    pub async fn begin(world: &World) -> anyhow::Result<Self> {
        world.chain.pay(world.hot, FUNDS).await?;
        world.chain.pay_token(world.token, world.hot, FUNDS).await?;
        let stream = Stream::open(world, APPROVED_EVERY).await?;
        let accounts: Vec<String> = stream.accounts().map(str::to_owned).collect();
        let reads = Arc::new(AtomicU64::new(0));
        let reading = tokio::spawn(read(world.bank.clone(), accounts, Arc::clone(&reads)));
        let silent = tokio::spawn(silent(world.bank.clone()));
        Ok(Self { stream, listener: Listener::begin(&world.bank), reading, silent, reads, held_back: 0 })
    }

    /// Rounds at the pace, for so long.
    pub async fn flow_for(&mut self, world: &World, length: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = 0;
        while begun.elapsed() < length {
            ticks.tick().await;
            for reader in [&mut self.reading, &mut self.silent] {
                if reader.is_finished() {
                    reader.await?.context("a reader")?;
                }
            }
            if running(&world.bank).await? > RUNNING_MAX {
                self.held_back += 1;
                world.chain.mine(1).await?;
            } else {
                self.stream.flow(world).await?;
            }
            let minutes = begun.elapsed().as_secs() / 60;
            if minutes > told {
                told = minutes;
                println!("minute {minutes}: {} operations, {}", self.stream.operations(), self.listener.told());
            }
        }
        Ok(())
    }

    /// Waits until everything is done and exact, and every event was heard once.
    pub async fn end(mut self, world: &World) -> anyhow::Result<Loaded> {
        let operations = self.stream.operations();
        for reader in [self.reading, self.silent] {
            reader.abort();
            match reader.await {
                Ok(ended) => ended?,
                Err(aborted) => ensure!(aborted.is_cancelled(), "a reader panicked"),
            }
        }
        self.stream.ends_exact(world).await?;
        let events = self.listener.heard_everything(&world.bank).await?;
        let told = format!(
            "{}; {} reads; {events} events, each heard once; {} rounds held back",
            self.stream.told(),
            self.reads.load(Ordering::Relaxed),
            self.held_back
        );
        Ok(Loaded { operations, events, told })
    }
}

/// Reads, and repeats while it is told to.
async fn again(bank: &Bank, path: &str, reads: &AtomicU64) -> anyhow::Result<Value> {
    until(path, LONG, || async {
        reads.fetch_add(1, Ordering::Relaxed);
        let (status, body) = bank.ask(Method::GET, path, None, None).await?;
        match (status, body.get("retryable").and_then(Value::as_bool)) {
            (200, _) => Ok(Some(Ok(body))),
            (_, Some(true)) => bail!("{status} {body}"),
            _ => Ok(Some(Err(anyhow::anyhow!("{path}: {status} {body}")))),
        }
    })
    .await?
}

async fn running(bank: &Bank) -> anyhow::Result<usize> {
    let page = again(bank, "/operations?status=running&limit=200", &AtomicU64::new(0)).await?;
    Ok(items(&page)?.len())
}

pub fn items(page: &Value) -> anyhow::Result<&Vec<Value>> {
    page.get("items").and_then(Value::as_array).context("a page has items")
}

/// Reads what a bank's back office reads, one after the other, and pages as deep as they go for a few pages.
async fn read(bank: Bank, accounts: Vec<String>, reads: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(READ);
    for account in accounts.iter().cycle() {
        let mut paths = vec![
            "/policy".to_owned(),
            "/reconciliation".to_owned(),
            format!("/accounts/{account}"),
            format!("/accounts/{account}/balances"),
            format!("/accounts/{account}/deposits"),
            format!("/accounts/{account}/addresses"),
            "/withdrawals?limit=200".to_owned(),
            format!("/events?account={account}&limit=200"),
            "/approvals".to_owned(),
            "/operations?limit=200".to_owned(),
        ];
        for depth in 0..13 {
            let Some(path) = paths.get(depth).cloned() else { break };
            ticks.tick().await;
            let page = again(&bank, &path, &reads).await?;
            if let (true, Some(next)) = (depth >= 9, page.get("next_cursor").and_then(Value::as_str)) {
                paths.push(format!("/operations?limit=200&cursor={next}"));
            }
            if let Some(id) = items(&page).ok().and_then(|items| items.first()?.get("id")?.as_str().map(str::to_owned))
                && path.starts_with("/operations")
            {
                again(&bank, &format!("/operations/{id}/story"), &reads).await?;
            }
        }
    }
    Ok(())
}
