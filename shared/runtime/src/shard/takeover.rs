//! Taking a shard over (rule 2): restore up to the last manifest, check that this is the same log, repair what a torn
//! transaction left behind it, and state the acquisition as a transaction of its own.

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::{Digest, HashContext};
use custos_journal::{JournalError, ShardLog, Transaction};
use custos_messages::{Record, ShardName};
use custos_saga::machine::{Machine, StateError};

use super::memory::Memory;
use super::records::{LastInput, Manifest, header, is_header, is_manifest};

static INPUT: HashContext = HashContext::new("custos 2026 input");

/// The newest logic that this binary knows. It also knows the one before, so that a replay meets the logic that ran.
pub const LOGIC: u32 = 1;

/// Why a shard cannot be taken over. None of these mends itself, save those of the log.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The log failed.
    #[error("taking over {shard}")]
    Journal {
        /// The shard.
        shard: ShardName,
        /// What it says.
        #[source]
        source: JournalError,
    },
    /// There is no manifest: topics were never provisioned, or are not those that were.
    #[error("{0} has no manifest: run `custos topics` once, before the first start")]
    NoManifest(ShardName),
    /// There are state records, yet no manifest: the state topic lost its end, and nobody knows where the shard stands.
    #[error("{0} has state records and no manifest: it cannot be provisioned")]
    Headless(ShardName),
    /// The manifest is of another log.
    #[error("{shard} stands on another log: {what} was `{expected}`, is `{found}`")]
    OtherLog {
        /// The shard.
        shard: ShardName,
        /// What differs.
        what: &'static str,
        /// In the manifest.
        expected: String,
        /// In front of us.
        found: String,
    },
    /// The log lost or changed what was already applied.
    #[error("{shard}: the input at offset {offset} is not the one that was applied: the log was truncated or rewritten")]
    InputChanged {
        /// The shard.
        shard: ShardName,
        /// Where.
        offset: u64,
    },
    /// The restored records do not hash to the manifest's root.
    #[error("{0}: the restored state does not match the manifest's state root")]
    StateRoot(ShardName),
    /// A record cannot be read.
    #[error("{shard}: the state cannot be read")]
    State {
        /// The shard.
        shard: ShardName,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The shard ran under a logic that this binary does not have.
    #[error("{shard} runs logic {found}; this binary knows up to {LOGIC}")]
    Logic {
        /// The shard.
        shard: ShardName,
        /// The manifest's.
        found: u32,
    },
}

/// A shard that was taken over.
pub struct Taken<M: Machine> {
    /// Its state.
    pub memory: Memory<M>,
    /// Where it stands; the acquisition is committed.
    pub manifest: Manifest,
    /// Records read.
    pub restored: u64,
}

/// Restores, checks, repairs and acquires.
pub fn take_over<M: Machine>(shard: ShardName, log: &mut dyn ShardLog, owner: &str) -> Result<Taken<M>, TakeoverError> {
    let journal = |source| TakeoverError::Journal { shard, source };
    let found = read_state(shard, log)?;
    let mut manifest = found.manifest.ok_or(TakeoverError::NoManifest(shard))?;
    check_log(shard, &manifest, log)?;
    if manifest.logic > LOGIC {
        return Err(TakeoverError::Logic { shard, found: manifest.logic });
    }
    let memory = Memory::<M>::load(&found.committed).map_err(|source| TakeoverError::State { shard, source })?;
    let roots = (memory.roots.state.digest(), memory.roots.outbox.digest());
    if roots != (manifest.state_root, manifest.outbox_root) {
        return Err(TakeoverError::StateRoot(shard));
    }
    manifest.transaction = manifest.transaction.saturating_add(1);
    manifest.attempt = manifest.attempt.saturating_add(1);
    manifest.owner = owner.to_owned();
    let repair =
        found.torn.into_iter().map(|key| Record { value: found.committed.get(&key).cloned(), key, headers: Vec::new() });
    log.begin(header(manifest.transaction, manifest.attempt)).map_err(journal)?;
    let acquisition = Transaction { outputs: Vec::new(), state: repair.collect(), manifest: manifest.record() };
    log.commit(acquisition).map_err(journal)?;
    log.seek(manifest.next).map_err(journal)?;
    Ok(Taken { memory, manifest, restored: found.records })
}

struct Found {
    manifest: Option<Manifest>,
    /// Key to value as of the last manifest, without header and manifest.
    committed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Keys written after the last manifest.
    torn: BTreeSet<Vec<u8>>,
    records: u64,
}

fn read_state(shard: ShardName, log: &mut dyn ShardLog) -> Result<Found, TakeoverError> {
    let mut found = Found { manifest: None, committed: BTreeMap::new(), torn: BTreeSet::new(), records: 0 };
    let mut open: Vec<Record> = Vec::new();
    let mut unreadable = None;
    log.restore(&mut |entry| {
        found.records = found.records.saturating_add(1);
        let record = entry.record;
        if is_header(&record) {
            return;
        }
        if !is_manifest(&record) {
            open.push(record);
            return;
        }
        match Manifest::read(record.value.as_deref().unwrap_or_default()) {
            Ok(manifest) => found.manifest = Some(manifest),
            Err(error) => unreadable = Some(error),
        }
        for Record { key, value, .. } in open.drain(..) {
            match value {
                Some(value) => drop(found.committed.insert(key, value)),
                None => drop(found.committed.remove(&key)),
            }
        }
    })
    .map_err(|source| TakeoverError::Journal { shard, source })?;
    if let Some(source) = unreadable {
        return Err(TakeoverError::State { shard, source });
    }
    found.torn.extend(open.into_iter().map(|record| record.key));
    Ok(found)
}

fn check_log(shard: ShardName, manifest: &Manifest, log: &mut dyn ShardLog) -> Result<(), TakeoverError> {
    let journal = |source| TakeoverError::Journal { shard, source };
    let here = log.identity().map_err(journal)?;
    let was = &manifest.log;
    let pairs = [
        ("cluster", was.cluster.clone(), here.cluster),
        ("inbox topic", was.inbox.clone(), here.inbox),
        ("state topic", was.state.clone(), here.state),
        ("partition count", was.partitions.to_string(), here.partitions.to_string()),
    ];
    for (what, expected, found) in pairs {
        if expected != found {
            return Err(TakeoverError::OtherLog { shard, what, expected, found });
        }
    }
    let Some(LastInput { offset, digest, .. }) = manifest.last else { return Ok(()) };
    let entry = log.inbox_at(offset).map_err(journal)?;
    match entry {
        Some(entry) if entry.offset == offset && input_digest(&entry.record) == digest => Ok(()),
        _ => Err(TakeoverError::InputChanged { shard, offset }),
    }
}

/// The digest of an input record: key, value and headers, without the trace context, which may differ on replay.
#[must_use]
pub fn input_digest(record: &Record) -> Digest {
    let headers = record.headers.iter().filter(|(name, _)| name != "traceparent");
    let mut parts: Vec<&[u8]> = vec![&record.key, record.value.as_deref().unwrap_or_default()];
    for (name, value) in headers {
        parts.push(name.as_bytes());
        parts.push(value);
    }
    INPUT.digest(&parts)
}

/// Writes the first manifest of a shard whose state partition has none; `false`, and nothing happens, if it has one. Whatever the
/// inbox holds already is applied from its first record on.
///
/// # Errors
/// The log fails, or the state partition holds records without a manifest.
pub fn provision_shard(shard: ShardName, log: &mut dyn ShardLog) -> Result<bool, TakeoverError> {
    let journal = |source| TakeoverError::Journal { shard, source };
    let found = read_state(shard, log)?;
    if found.manifest.is_some() {
        return Ok(false);
    }
    if !found.torn.is_empty() {
        return Err(TakeoverError::Headless(shard));
    }
    let manifest = Manifest {
        transaction: 1,
        attempt: 1,
        next: 0,
        last: None,
        event_sequence: 0,
        event_hash: Digest([0; 32]),
        state_root: super::root::StateRoot::default().digest(),
        outbox_root: super::root::StateRoot::default().digest(),
        logic: LOGIC,
        log: log.identity().map_err(journal)?,
        owner: String::new(),
    };
    log.begin(header(manifest.transaction, manifest.attempt)).map_err(journal)?;
    log.commit(Transaction { outputs: Vec::new(), state: Vec::new(), manifest: manifest.record() }).map_err(journal)?;
    Ok(true)
}
