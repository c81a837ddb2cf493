//! `custos topics`: creates what is missing, checks what is there, writes the first manifest of each shard, publishes the policy.
//!
//! Safe to repeat, also on a running installation: a shard that has a manifest is never touched, and machines drop a policy that
//! is not newer than theirs.

use std::time::{Duration, Instant};

use anyhow::Context;
use custos_domain::partition_of;
use custos_journal::{Journal, Provision, Remedy};
use custos_messages::accounts::AccountsInput;
use custos_messages::chain::ChainInput;
use custos_messages::treasury::TreasuryInput;
use custos_messages::{Keyring, Machine, Mail, Postmark, ShardName, SignedPolicy, Source};
use custos_runtime::replay::{ReplayError, standing};
use custos_runtime::shard::{TakeoverError, provision_shard};

use crate::config::Config;
use crate::policy::{fits, read_signed};
use crate::secrets::read_keyring;
use crate::stage::open_journal;

/// How often a first manifest is written that is not there afterwards.
const MANIFEST_TRIES: u32 = 3;
/// How long it is looked for each time.
const MANIFEST_WAIT: Duration = Duration::from_secs(2);
/// How long a log that does not answer is asked.
const LOG_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What provisioning found and did, a line each.
#[derive(Debug, Default)]
pub struct Report {
    /// What was done.
    pub done: Vec<String>,
    /// What only a human may mend.
    pub differences: Vec<String>,
}

/// Provisions topics and shards.
///
/// # Errors
/// The log cannot be reached or refuses.
pub fn provision(journal: &dyn Journal, wanted: &Provision) -> anyhow::Result<Report> {
    let mut report = Report { differences: journal.provision(wanted).context("topics")?, ..Report::default() };
    for machine in Machine::ALL {
        for partition in 0..wanted.partitions {
            let shard = ShardName { machine, partition };
            // A partition that holds markers only, after a crash of the first provisioning, still needs its manifest.
            if !has_manifest(journal, shard, LOG_PATIENCE)? && first_manifest(journal, shard)? {
                report.done.push(format!("{shard}: first manifest written"));
            }
        }
    }
    Ok(report)
}

/// Writes the first manifest of a shard and waits until it can be read: a broker may say that it is committed and forget to end it,
/// which the next acquisition does. What may succeed a moment later is tried again. Returns whether there was none.
fn first_manifest(journal: &dyn Journal, shard: ShardName) -> anyhow::Result<bool> {
    let mut written = false;
    let mut last = None;
    for _ in 0..MANIFEST_TRIES {
        match write_manifest(journal, shard) {
            Ok(true) => written = true,
            Ok(false) => return Ok(written),
            Err(error) if !passes(&error) => return Err(error.into()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(%shard, error = format!("{error:#}"), "the first manifest is tried again");
                last = Some(error);
            }
        }
        // It may stand there all the same: the commit of which no answer came.
        let until = Instant::now() + MANIFEST_WAIT;
        while Instant::now() < until {
            if has_manifest(journal, shard, Duration::ZERO).unwrap_or(false) {
                return Ok(written);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    let last = last.unwrap_or_else(|| anyhow::anyhow!("it is committed and cannot be read"));
    Err(last.context(format!("the first manifest of {shard}")))
}

/// Whether a shard has a manifest; for so long as `patience` a log that does not answer is asked again.
fn has_manifest(journal: &dyn Journal, shard: ShardName, patience: Duration) -> Result<bool, ReplayError> {
    let until = Instant::now() + patience;
    loop {
        match standing(journal, shard) {
            Ok(_) => return Ok(true),
            Err(ReplayError::NoManifest(_)) => return Ok(false),
            Err(ReplayError::Journal { source, .. }) if source.remedy() == Remedy::Retry && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
}

fn passes(error: &TakeoverError) -> bool {
    matches!(error, TakeoverError::Journal { source, .. } if source.remedy() != Remedy::Halt)
}

fn write_manifest(journal: &dyn Journal, shard: ShardName) -> Result<bool, TakeoverError> {
    let acquired = journal.acquire(shard.machine, shard.partition);
    let mut log = acquired.map_err(|source| TakeoverError::Journal { shard, source })?;
    provision_shard(shard, &mut *log)
}

/// Appends the policy to every partition of every inbox.
///
/// # Errors
/// The log does not take it.
pub fn publish(journal: &dyn Journal, keyring: &Keyring, policy: &SignedPolicy, partitions: u32) -> anyhow::Result<()> {
    let appender = journal.appender()?;
    for machine in Machine::ALL {
        let mail = match machine {
            Machine::Accounts => Mail::Accounts(AccountsInput::Policy(policy.clone())),
            Machine::Treasury => Mail::Treasury(TreasuryInput::Policy(policy.clone())),
            Machine::Chain => Mail::Chain(ChainInput::Policy(policy.clone())),
        };
        for partition in 0..partitions {
            let record = mail.seal(keyring, Source::Operator, Postmark::default());
            appender.append(mail.topic(), partition, record).with_context(|| format!("{}/{partition}", machine.name()))?;
        }
    }
    Ok(())
}

/// The shard of `machine` that `key` belongs to.
#[must_use]
pub fn shard_of(machine: Machine, key: &[u8], partitions: u32) -> ShardName {
    ShardName { machine, partition: partition_of(key, partitions) }
}

/// All of `custos topics`.
///
/// # Errors
/// The log, the keys or the policy are not usable.
pub fn run(config: &Config) -> anyhow::Result<Report> {
    let (signed, policy) = read_signed(&config.policy, &config.policy_root)?;
    fits(&policy, &config.tenant, config.provision.partitions)?;
    let keyring = read_keyring(&config.keys)?;
    let journal = open_journal(&config.log, &config.member)?;
    let mut report = provision(&*journal, &config.provision)?;
    publish(&*journal, &keyring, &signed, config.provision.partitions)?;
    report.done.push(format!("policy {} is published to every shard", policy.version));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use custos_journal::EmbeddedJournal;

    use super::*;

    #[test]
    fn a_first_manifest_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(folder.path()).unwrap();
        let wanted = Provision { partitions: 1, gateways: 1, replication: 1 };
        journal.provision(&wanted).unwrap();
        let shard = ShardName { machine: Machine::Chain, partition: 0 };
        assert!(first_manifest(&journal, shard).unwrap());
        assert!(!first_manifest(&journal, shard).unwrap());
        assert_eq!(provision(&journal, &wanted).unwrap().done.len(), 2, "the other two machines");
        assert_eq!(provision(&journal, &wanted).unwrap().done, Vec::<String>::new());
    }
}
