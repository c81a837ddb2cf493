//! `custos demo`: everything on one machine, in front of one's eyes.
//!
//! A supervisor (this process) holds the narrator and the embedded chain; a worker process holds every part of Custos, and is the one
//! that is killed. What is shown is what the parts did: the narrator speaks to them as a bank would, by REST.

mod bank;
mod ground;
mod scenes;
mod town;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use custos_domain::{AssetId, EthAddress, TenantId};
use custos_wallet::WorkFactor;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::home::{Home, Pace, Plan, Ports, TokenPlan, create};
use crate::parts::Part;
use crate::{provision, say};

pub use bank::Bank;
use ground::{Ground, Wishes};
use scenes::{KillPoint, Scenes};
use town::Town;
use worker::Worker;

/// An address on the demonstration's screening list.
const REFUSED: EthAddress = EthAddress([0xde; 20]);
/// What a shell says of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// Shards of each machine.
const PARTITIONS: u32 = 2;

#[derive(Args)]
pub struct DemoArgs {
    /// End after the last scene instead of staying open.
    #[arg(long)]
    exit: bool,
    /// Where the worker is killed: `guard-recorded` (the guard's record is made, the signature is not told yet), `before-sign`, STEP (right
    /// after the commit of that step of the withdrawal) or `open-transaction:STEP` (before it). Any other word lists them all.
    #[arg(long, value_name = "STEP", default_value = "guard-recorded")]
    kill_at: KillPoint,
    /// Keep everything in this folder, which must not exist yet.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Use Apache Kafka at this address instead of the embedded journal. The cluster must not hold an installation; the topics that the
    /// demonstration makes are removed in the end, unless --keep is given.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Use PostgreSQL instead of SQLite files, in a fresh schema that is removed in the end, unless --keep is given.
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
    let mut stop = Stop::new()?;
    let wishes = Wishes { keep: args.keep.clone(), kafka: args.kafka.clone(), postgres: args.postgres.clone() };
    let ground = Ground::claim(wishes).await?;
    let exit = args.exit;
    let site = Site { folder: ground.folder().to_path_buf(), postgres: ground.postgres() };
    let about = ground.schema().map(|schema| format!("PostgreSQL, in a schema of its own: {schema}"));
    let mut played = tokio::spawn(async move { play(&args, &site, about).await });
    let outcome = tokio::select! {
        outcome = &mut played => outcome?,
        () = stop.come() => {
            // Whatever it was doing, its worker ends with it.
            played.abort();
            drop(played.await);
            say("\ninterrupted: the worker is gone");
            ground.clear().await;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    match outcome {
        Ok((scenes, matched)) => {
            say(&format!("\nbooks match the chains: {}", if matched { "yes" } else { "no" }));
            if !exit {
                scenes.invite();
                stop.come().await;
                say("\nstopping");
            }
            scenes.close().await?;
            ground.clear().await;
            Ok(if matched { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            ground.leave().await;
            Err(error)
        }
    }
}

/// Where the demonstration is built.
struct Site {
    folder: PathBuf,
    postgres: Option<String>,
}

async fn play(args: &DemoArgs, site: &Site, databases: Option<String>) -> anyhow::Result<(Scenes, bool)> {
    let town = match &args.ethereum {
        Some(url) => Town::at(url).await.context("--ethereum")?,
        None => Town::embedded().await.context("the embedded chain")?,
    };
    let home = create(&site.folder, &plan(args, site, &town)?)?;
    let config = prepare(&home.config).await?;
    let worker = Worker::start(&home.config, None).await?;
    introduce(args, databases, &town, &home, &worker);
    let mut scenes = Scenes::new(town, home, config, worker)?;
    let matched = scenes.play(&args.kill_at).await?;
    Ok((scenes, matched))
}

/// The orders to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn plan(args: &DemoArgs, site: &Site, town: &Town) -> anyhow::Result<Plan> {
    let [gateway, health, ops] = free_addresses()?;
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
        postgres: site.postgres.clone(),
        partitions: PARTITIONS,
        pace: Pace::FAST,
        ports: Ports { gateway, health, ops },
        work: WorkFactor::DEMONSTRATION,
        refused: vec![REFUSED],
    })
}

/// Addresses that nothing listens on, below those that systems give to outgoing connections: a worker that is started again must find
/// its own free, however many connections were made in the meantime.
fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    let mut chance = [0; 2];
    getrandom::fill(&mut chance).map_err(|error| anyhow!("no randomness: {error}"))?;
    let ports = (0..COUNT).map(|step| FIRST + (u16::from_be_bytes(chance) % COUNT + step) % COUNT);
    // Each is held until all are found.
    let held: Vec<TcpListener> = ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(N).collect();
    let addresses = held.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().map_err(|_| anyhow!("no free ports"))
}

/// Creates topics, first manifests and the policy.
async fn prepare(path: &Path) -> anyhow::Result<Config> {
    let config = Config::load(path)?;
    let same = config.clone();
    let report = tokio::task::spawn_blocking(move || provision::run(&same)).await??;
    if !report.differences.is_empty() {
        bail!("the log is not as it must be:\n{}", report.differences.join("\n"));
    }
    Ok(config)
}

fn gateway(config: &Config) -> String {
    format!("http://{}", config.gateway_at.map_or_else(String::new, |address| address.to_string()))
}

fn introduce(args: &DemoArgs, databases: Option<String>, town: &Town, home: &Home, worker: &Worker) {
    let row = |name: &str, here: &str, instead: &str| {
        say(&format!("  {name:<10}  {}", format!("{here:<50}  {instead}").trim_end()));
    };
    say("Custos, the custody core that a bank runs itself: a demonstration on one machine\n");
    row("", "here", "stands in for");
    match &args.kafka {
        Some(brokers) => row("log", &format!("Apache Kafka at {brokers}"), "-"),
        None => row("log", "embedded journal, one file", "Apache Kafka (--kafka)"),
    }
    match &databases {
        Some(schema) => row("databases", schema, "-"),
        None => row("databases", "SQLite files", "PostgreSQL (--postgres)"),
    }
    match &args.ethereum {
        Some(_) => row("chain", &town.about(), "your Ethereum network"),
        None => row("chain", &town.about(), "your Ethereum node (--ethereum)"),
    }
    row("keys", "a file, encrypted with a passphrase", "your HSM");
    row("screening", "a list file with one address", "the full compliance service");
    row("bank", "this process, over REST", "your back office and its officers");
    row("worker", &format!("process {}, everything else: the product itself", worker.id()), "-");
    say(&format!("  {:<10}  {}", "", Part::ALL.map(|part| part.name()).join(", ")));
    row("folder", &home.folder.display().to_string(), "");
    say(
        "\n  The money is worthless. The hot wallet pays what clients withdraw; held money is set aside for a withdrawal; an operation is",
    );
    say("  one payment's run through all parts, undone step by step when it is refused before anything was signed.");
}
