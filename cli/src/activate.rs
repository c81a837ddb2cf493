//! `custos activate`: orders every shard to run the next logic, each from an input of its own inbox on.
//!
//! To be given once every process that runs machines is of a binary that knows the logic: a shard whose binary does not know it stands
//! still at the order (CUST-0001) until it is given a newer one. There is no way back.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use custos_journal::Journal;
use custos_messages::{Activate, Keyring, Machine, Postmark, ShardName, Source, Topic};
use custos_runtime::replay::last_manifest;
use custos_runtime::shard::{LOGIC, knows};

use crate::config::Config;
use crate::secrets::read_keyring;
use crate::stage::open_journal;
use crate::{ConfigArgs, say};

#[derive(Args)]
pub struct ActivateArgs {
    /// The logic: one more than the one in force.
    logic: u32,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Orders and prints. Safe to repeat: a shard that runs the logic gets no second order.
///
/// # Errors
/// This binary does not know the logic, a shard is not where it can be switched from, or the log does not take the order.
pub async fn run(args: ActivateArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let lines = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<String>> {
        let keyring = read_keyring(&config.keys)?;
        let journal = open_journal(&config.log, &config.member)?;
        activate(&*journal, &keyring, args.logic, config.provision.partitions)
    })
    .await??;
    lines.iter().for_each(|line| say(line));
    Ok(ExitCode::SUCCESS)
}

/// Orders every shard that does not run `logic` yet to run it from here on. Nothing is ordered if any shard cannot be switched.
///
/// # Errors
/// See [`run`].
pub fn activate(journal: &dyn Journal, keyring: &Keyring, logic: u32, partitions: u32) -> anyhow::Result<Vec<String>> {
    if logic != LOGIC {
        bail!("this binary activates logic {LOGIC}, not {logic}: use the one that every process runs");
    }
    let mut ordered = Vec::new();
    let mut lines = Vec::new();
    for machine in Machine::ALL {
        for partition in 0..partitions {
            let shard = ShardName { machine, partition };
            let manifest = last_manifest(journal, shard)?;
            let manifest = manifest.with_context(|| format!("{shard} has no manifest: run `custos topics` once"))?;
            if !knows(LOGIC, manifest.logic) {
                bail!("{shard} runs logic {}: nothing was ordered", manifest.logic);
            }
            if manifest.logic == logic {
                lines.push(format!("{shard}: logic {logic} is in force"));
            } else {
                ordered.push(shard);
            }
        }
    }
    let appender = journal.appender()?;
    for shard in ordered {
        let inbox = Topic::Inbox(shard.machine);
        let record = keyring.seal_message(inbox, Source::Operator, &Activate { logic }, Postmark::default());
        let offset = appender.append(inbox, shard.partition, record).with_context(|| format!("ordering {shard}"))?;
        lines.push(format!("{shard}: logic {logic} from input {offset} on"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use custos_journal::{EmbeddedJournal, Provision};

    use super::*;
    use crate::provision::provision;

    #[test]
    fn only_the_logic_of_this_binary_is_activated_and_a_shard_that_runs_it_gets_no_order() {
        let folder = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(folder.path()).unwrap();
        let keyring = Keyring::new(std::collections::BTreeMap::new());
        journal.provision(&Provision { partitions: 2, gateways: 1, replication: 1 }).unwrap();
        let bare = activate(&journal, &keyring, LOGIC, 2).unwrap_err();
        assert!(bare.to_string().contains("has no manifest"), "{bare}");
        provision(&journal, &Provision { partitions: 2, gateways: 1, replication: 1 }).unwrap();
        assert!(activate(&journal, &keyring, LOGIC + 1, 2).is_err());
        let lines = activate(&journal, &keyring, LOGIC, 2).unwrap();
        assert_eq!(lines.len(), 6);
        assert!(lines.iter().all(|line| line.ends_with("is in force")), "{lines:?}");
        for machine in Machine::ALL {
            assert_eq!(journal.bounds(Topic::Inbox(machine), 0).unwrap(), (0, 0));
        }
    }
}
