//! `custos demo`: everything on one machine, in front of one's eyes.
//!
//! A supervisor (this process) holds the narrator and the embedded chain; a worker process holds every part of Custos, and is the one
//! that is killed. What is shown is what the parts did: the narrator speaks to them as a bank would, by REST.

mod bank;
mod scenes;
mod town;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use custos_domain::{AssetId, EthAddress, TenantId};
use custos_wallet::WorkFactor;

use crate::config::Config;
use crate::home::{Home, Pace, Plan, Ports, TokenPlan, create};
use crate::{provision, say};

pub use bank::Bank;
use scenes::Scenes;
use town::Town;
use worker::Worker;

/// An address on the demonstration's screening list.
const REFUSED: EthAddress = EthAddress([0xde; 20]);
/// Shards of each machine.
const PARTITIONS: u32 = 2;

#[derive(Args)]
pub struct DemoArgs {
    /// End after the last scene instead of staying open.
    #[arg(long)]
    exit: bool,
    /// Where the worker is killed: `guard-recorded` (after the guard's record, before the signature is told), `before-sign`,
    /// `open-transaction:STEP` (inside the open transaction) or `STEP` (right after its commit), with a step of docs/sagas/withdrawal.md.
    #[arg(long, value_name = "POINT", default_value = "guard-recorded")]
    kill_at: String,
    /// Keep everything in this folder, which must not exist yet.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Use Apache Kafka at this address instead of the embedded journal. The cluster must not hold an installation yet.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Use PostgreSQL instead of SQLite files. The database must be empty.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Use an Ethereum development node instead of the embedded chain, such as anvil: its first unlocked account pays the deposits. Never a
    /// public network.
    #[arg(long, value_name = "URL")]
    ethereum: Option<String>,
}

/// Runs the demonstration: exit code 0 when the books match the chain at the end, 1 when they do not.
///
/// # Errors
/// Something cannot be started, or does not come out as it should.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let temporary = tempfile::Builder::new().prefix("custos-demo-").tempdir()?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().join("home"));
    if folder.exists() {
        bail!("{} exists already: a demonstration starts clean", folder.display());
    }
    let town = match &args.ethereum {
        Some(url) => Town::at(url).await.context("--ethereum")?,
        None => Town::embedded().await.context("the embedded chain")?,
    };
    let home = create(&folder, &plan(&args, &town)?)?;
    let config = prepare(&home.config).await?;
    let worker = Worker::start(&home.config, None)?;
    introduce(&args, &town, &home, &worker);
    let mut scenes = Scenes::new(town, home, config, worker)?;
    let matched = match scenes.play(&args.kill_at).await {
        Ok(matched) => matched,
        Err(error) => {
            let kept = temporary.keep();
            say(&format!("what it left, logs included, is in {}", args.keep.unwrap_or(kept).display()));
            return Err(error);
        }
    };
    say(&format!("\nbooks match the chains: {}", if matched { "yes" } else { "no" }));
    if !args.exit {
        scenes.stay().await?;
    }
    scenes.close()?;
    Ok(if matched { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(args: &DemoArgs, town: &Town) -> anyhow::Result<Plan> {
    let free = || -> anyhow::Result<SocketAddr> { Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?) };
    Ok(Plan {
        tenant: TenantId::new("demo-bank")?,
        chain_number: town.number(),
        start_block: town.first_block(),
        nodes: vec![("node-1".to_owned(), town.url())],
        tokens: vec![TokenPlan { asset: AssetId::new("TUSD")?, contract: town.token(), decimals: 18 }],
        log: match &args.kafka {
            Some(brokers) => format!("kafka = \"{brokers}\""),
            None => "embedded = \"journal\"".to_owned(),
        },
        postgres: args.postgres.clone(),
        partitions: PARTITIONS,
        pace: Pace::FAST,
        ports: Ports { gateway: free()?, health: free()?, ops: free()? },
        work: WorkFactor::DEMONSTRATION,
        refused: vec![REFUSED],
    })
}

/// Creates topics, first manifests and the policy.
async fn prepare(path: &Path) -> anyhow::Result<Config> {
    let config = Config::load(path)?;
    let same = config.clone();
    let report = tokio::task::spawn_blocking(move || provision::run(&same)).await??;
    if !report.differences.is_empty() {
        bail!("the log is not as it must be:\n{}", report.differences.join("\n"));
    }
    if !report.done.iter().any(|line| line.contains("first manifest")) {
        bail!("the log holds an installation already: a demonstration starts clean");
    }
    Ok(config)
}

fn gateway(config: &Config) -> String {
    format!("http://{}", config.gateway_at.map_or_else(String::new, |address| address.to_string()))
}

fn introduce(args: &DemoArgs, town: &Town, home: &Home, worker: &Worker) {
    let stand_in = |given: bool, real: &str, here: &str| if given { real.to_owned() } else { here.to_owned() };
    say("Custos, the custody core that a bank runs itself: a demonstration on one machine\n");
    say(&format!(
        "  log         {}",
        stand_in(args.kafka.is_some(), "Apache Kafka", "embedded journal (stands in for Apache Kafka)")
    ));
    say(&format!(
        "  databases   {}",
        stand_in(args.postgres.is_some(), "PostgreSQL", "SQLite files (stand in for PostgreSQL)")
    ));
    say(&format!("  chain       {}", town.about()));
    say("  keys        a passphrase-encrypted file (stands in for your HSM)");
    say("  screening   a list file with one address (stands in for the full service)");
    say(&format!(
        "  worker      process {}: accounts, treasury, chain, wallet, compliance, blockchain, gateway, projector",
        worker.id()
    ));
    say(&format!("  kept in     {}", home.folder.display()));
}
