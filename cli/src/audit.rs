//! `custos audit`: proves the event log, and that every shard's state is the fold of its inbox.
//!
//! Without trusted heads a log that was rewritten whole, by somebody who holds the keys, looks healthy: so the heads that an audit prints
//! are to be written down outside of the log and given to the next one. On the embedded journal, whose log one process holds, the
//! worker must be stopped first, or `--copy` be given: the log's file is copied and the copy is audited.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use custos_accounts::Accounts;
use custos_chain::Chain;
use custos_journal::{EmbeddedJournal, Journal};
use custos_messages::Keyring;
use custos_runtime::audit::{AuditReport, Head, audit_events};
use custos_runtime::replay::{Replay, ReplayError, verify};
use custos_treasury::Treasury;

use crate::config::{Config, LogChoice};
use crate::secrets::read_keyring;
use crate::stage::open_journal;
use crate::{ConfigArgs, say};

#[derive(Args)]
pub struct AuditArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A trusted head that an earlier audit printed, PARTITION:SEQUENCE:HASH; may be repeated.
    #[arg(long = "head")]
    heads: Vec<String>,
    /// Audit a copy of the embedded log's file, so that the worker may go on.
    #[arg(long)]
    copy: bool,
}

/// Audits and prints; exits with 1 on a finding.
///
/// # Errors
/// The configuration, the keys or the log cannot be used.
pub async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let heads =
        args.heads.iter().map(|text| text.parse::<Head>().with_context(|| format!("`{text}`"))).collect::<Result<_, _>>()?;
    let lines = tokio::task::spawn_blocking(move || audit(&config, heads, args.copy)).await??;
    lines.0.iter().for_each(|line| say(line));
    Ok(if lines.1 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Audits everything; gives what to print and whether all is proven.
///
/// # Errors
/// The keys or the log cannot be opened.
pub fn audit(config: &Config, trusted: Vec<Head>, copy: bool) -> anyhow::Result<(Vec<String>, bool)> {
    let keyring = Arc::new(read_keyring(&config.keys)?);
    let partitions = config.provision.partitions;
    let copied = match &config.log {
        LogChoice::Embedded(folder) if copy => Some(copy_log(folder)?),
        _ => None,
    };
    let journal: Arc<dyn Journal> = match &copied {
        Some(copied) => Arc::new(EmbeddedJournal::open(copied.path())?),
        None => open_journal(&config.log, &config.member)?,
    };
    let mut lines = Vec::new();
    let mut proven = true;
    for partition in 0..partitions {
        let head = trusted.iter().find(|head| head.partition == partition).copied();
        // The shard's state is read before its events, so that it names none that are not there yet.
        let replayed = replays(&*journal, &keyring, partition, partitions);
        let [accounts, ..] = &replayed;
        let shard = accounts.as_ref().ok().map(|replay| Head {
            partition,
            sequence: replay.event_sequence,
            hash: replay.event_hash,
        });
        match audit_events(&*journal, &keyring, partition, head, shard) {
            Ok(report) => lines.push(healthy(&report)),
            Err(finding) => {
                proven = false;
                lines.push(format!("events/{partition}: FOUND: {:#}", anyhow::Error::from(finding)));
            }
        }
        for replayed in replayed {
            match replayed {
                Ok(replay) => lines.push(format!(
                    "{}: state is the fold of {} inputs ({} put aside)",
                    replay.shard, replay.applied, replay.quarantined
                )),
                Err(error) => {
                    proven = false;
                    lines.push(format!("FOUND: {:#}", anyhow::Error::from(error)));
                }
            }
        }
    }
    lines.push(format!("audit: {}", if proven { "proven" } else { "not proven" }));
    Ok((lines, proven))
}

/// Repeats and foreign records harm no reader, yet whoever audits wants to know that somebody wrote into the log.
fn healthy(report: &AuditReport) -> String {
    let AuditReport { head, trusted, repeats, foreign, .. } = report;
    let trust = if trusted.is_some() { "holds the trusted head" } else { "no trusted head was given" };
    let mut more = String::new();
    if *repeats > 0 {
        more.push_str(&format!(", {repeats} records stand here again"));
    }
    if *foreign > 0 {
        more.push_str(&format!(", {foreign} records are no sealed events and are put aside"));
    }
    format!("events/{}: healthy, {trust}{more}; head to write down: {head}", head.partition)
}

fn replays(
    journal: &dyn Journal,
    keyring: &Arc<Keyring>,
    partition: u32,
    partitions: u32,
) -> [Result<Replay, ReplayError>; 3] {
    [
        verify::<Accounts>(journal, keyring, partition, partitions),
        verify::<Treasury>(journal, keyring, partition, partitions),
        verify::<Chain>(journal, keyring, partition, partitions),
    ]
}

/// A copy of the log's file beside it: what was durable when the copy was made; a frame that was being written is cut as torn.
fn copy_log(folder: &Path) -> anyhow::Result<tempfile::TempDir> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let copy = tempfile::Builder::new().prefix("audit-").tempdir_in(parent)?;
    let name = "journal.log";
    std::fs::copy(folder.join(name), copy.path().join(name)).context("the log's file cannot be copied")?;
    Ok(copy)
}
