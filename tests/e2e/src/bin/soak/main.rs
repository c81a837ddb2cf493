//! Soak: mixed load for a stated time, and then the question whether the product has grown.
//!
//! It closes with `soak L: operations N, events E, processes P, growing G`, and fails unless every payment was made once, every
//! balance is exact, every event was heard once, the books match the chain, nothing lags, the log proves itself, and memory, file
//! handles and threads of every process are flat in the sense of [`verdict`]. What it deliberately does not do: kill anything.
#![allow(clippy::print_stdout, reason = "a developer reads it")]

mod lag;
mod listen;
mod load;
mod samples;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use custos_e2e::World;

use load::{Load, Loaded};
use samples::Samples;

#[derive(Parser)]
#[command(name = "soak", about = "Mixed load for a stated time; fails when the product grows")]
struct Wish {
    /// How long the load lasts. The first quarter is warm-up.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// What the product stands on.
    #[arg(long, value_enum)]
    log: Log,
    /// Where the samples are written, as comma-separated values.
    #[arg(long)]
    samples: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    /// The embedded journal and SQLite; every part in one process.
    Embedded,
    /// Kafka and PostgreSQL; every part a process of its own.
    Kafka,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wish = Wish::parse();
    let mut world = match wish.log {
        Log::Embedded => World::embedded().await?,
        Log::Kafka => World::on_servers("soak").await?.context("Kafka, PostgreSQL or the node is missing")?,
    };
    match soak(&mut world, &wish).await {
        Ok(0) => Ok(()),
        Ok(growing) => bail!("{growing} processes grow under load"),
        // Fails while the world still stands, so that what its processes said is kept.
        Err(error) => panic!("{error:?}"),
    }
}

/// How many processes grow.
async fn soak(world: &mut World, wish: &Wish) -> anyhow::Result<usize> {
    let length = Duration::from_secs(wish.minutes.saturating_mul(60));
    let begun = Instant::now();
    let mut load = Load::begin(world).await?;
    let sampling = Samples::begin(world.pids(), begun);
    println!("the load begins after {:.0?}; it lasts {} minutes", begun.elapsed(), wish.minutes);
    let (from, until) = (begun.elapsed() + length / 4, begun.elapsed() + length);
    let flowing = load.flow_for(world, length).await;
    // Sampled under load alone: at the end everything may shrink.
    let samples = sampling.end().await?;
    if let Some(path) = &wish.samples {
        std::fs::write(path, samples.csv()).with_context(|| path.display().to_string())?;
    }
    flowing?;
    let Loaded { operations, events, told } = load.end(world).await?;
    world.books_match().await?;
    lag::is_zero(world).await?;
    let processes = samples.processes().count();
    // What the same data needs in processes that have done nothing else.
    world.restart().await?;
    lag::is_zero(world).await?;
    let anew = Samples::once(world.pids())?;
    let judged = verdict::judge(&samples, (from, until), operations, &anew);
    println!("{told}\n{judged}");
    let audited = world.audit_healthy().await?;
    println!("{}", audited.lines().last().unwrap_or_default());
    lag::of_events_is_zero(world, events).await?;
    let log = wish.log.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let growing = judged.growing();
    println!("soak {log}: operations {operations}, events {events}, processes {processes}, growing {growing}");
    world.stop().await?;
    Ok(growing)
}
