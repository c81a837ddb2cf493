//! `custos saga`: where a saga, an account or a chain stands, and why, by asking the shard itself.
//!
//! The owner is found through the shard's last manifest in the log; on the embedded journal, whose log one process holds, through
//! the configuration.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use custos_domain::{AccountId, ChainId, SagaId};
use custos_messages::{Machine, ShardName};
use custos_runtime::ops::ask_owner;
use custos_runtime::replay::last_manifest;

use crate::config::{Config, LogChoice};
use crate::provision::shard_of;
use crate::stage::open_journal;
use crate::{ConfigArgs, say};

/// How long the owner may take to answer: what hangs does not.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct SagaArgs {
    /// A saga's id, an account's id, a chain's CAIP-2 name; or a shard such as `accounts/3`: where it stands itself, and why.
    subject: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks and prints.
///
/// # Errors
/// The subject has no known form, or its owner does not answer.
pub async fn run(args: SagaArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let (shard, asked) = match shard_named(&args.subject) {
        Some(shard) => (shard, ""),
        None => (place(&args.subject, config.provision.partitions)?, args.subject.as_str()),
    };
    let address = owner(&config, shard).await?;
    let facts = ask_owner(&address, shard, asked, PATIENCE).await?;
    if facts.is_empty() {
        say(&format!("{shard} (owned by {address}) does not know {}", args.subject));
        return Ok(ExitCode::FAILURE);
    }
    say(&format!("{} in shard {shard}, owned by {address}", args.subject));
    for fact in facts {
        say(&format!("  {:<30} {}", fact.name, fact.value));
    }
    Ok(ExitCode::SUCCESS)
}

fn shard_named(subject: &str) -> Option<ShardName> {
    let (machine, partition) = subject.split_once('/')?;
    Some(ShardName { machine: Machine::from_name(machine)?, partition: partition.parse().ok()? })
}

fn place(subject: &str, partitions: u32) -> anyhow::Result<ShardName> {
    if let Ok(saga) = SagaId::parse(subject) {
        return Ok(shard_of(Machine::Accounts, saga.account.as_bytes(), partitions));
    }
    if let Ok(account) = AccountId::parse(subject) {
        return Ok(shard_of(Machine::Accounts, account.as_bytes(), partitions));
    }
    if let Ok(chain) = ChainId::new(subject) {
        return Ok(shard_of(Machine::Chain, chain.as_str().as_bytes(), partitions));
    }
    bail!("`{subject}` is not a saga's id, an account's id, a chain's name or a shard")
}

async fn owner(config: &Config, shard: ShardName) -> anyhow::Result<String> {
    let brokers = match &config.log {
        LogChoice::Embedded(_) => return Ok(config.advertise.clone()),
        LogChoice::Kafka(_) => config.log.clone(),
    };
    let member = config.member.clone();
    let found = tokio::task::spawn_blocking(move || {
        let found = last_manifest(&*open_journal(&brokers, &member)?, shard)?;
        found.ok_or_else(|| anyhow!("{shard} has no manifest: run `custos topics` once"))
    })
    .await??;
    if found.owner.is_empty() {
        bail!("{shard} has no owner yet");
    }
    Ok(found.owner)
}
