//! Taking a shard over (rule 2): restore up to the last manifest, check that this is the same log, repair what a torn
//! transaction left behind it, and state the acquisition as a transaction of its own.

use std::collections::BTreeSet;

use custos_domain::{Digest, HashContext};
use custos_journal::{JournalError, Reach, ShardLog, Transaction};
use custos_messages::{Headers, Record, ShardName};
use custos_saga::machine::{Machine, StateError};

use super::defences::{Defence, Defences};
use super::fold::{Folded, Seated};
use super::memory::Memory;
use super::records::{LastInput, Manifest, header, is_manifest};

static INPUT: HashContext = HashContext::new("custos 2026 input");

/// Whether a binary whose newest logic is `newest` knows `logic`: it knows that one and the one before.
#[must_use]
pub const fn knows(newest: u32, logic: u32) -> bool {
    logic > 0 && (logic == newest || logic.saturating_add(1) == newest)
}

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
    #[error("{shard} runs logic {found}; this binary knows up to {newest}, and the one before")]
    Logic {
        /// The shard.
        shard: ShardName,
        /// The manifest's.
        found: u32,
        /// The binary's.
        newest: u32,
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
    /// What it began with.
    pub opening: Opening,
}

/// What a takeover began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With nothing: the whole state partition was read.
    Cold,
    /// With what a standby or a checkpoint knew: only the tail was read.
    Warm,
    /// With something that did not fit and was thrown away: the whole state partition was read.
    Misfit,
}

impl Opening {
    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Misfit => "misfit",
        }
    }
}

/// Why a takeover cannot begin with what it was given.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    /// The log does not have the place.
    #[error("the log does not have offset {0}")]
    OutOfRange(u64),
    /// The log does not hold the manifest that it rests on, nor a newer one.
    #[error("the log holds neither the manifest that it rests on nor a newer one")]
    OtherManifest,
    /// With the tail it makes no state that can be taken over.
    #[error(transparent)]
    Refused(#[from] TakeoverError),
}

/// Restores, checks, repairs and acquires.
pub fn take_over<M: Machine>(shard: ShardName, log: &mut dyn ShardLog, owner: &str) -> Result<Taken<M>, TakeoverError> {
    take_over_from(shard, log, owner, None)
}

/// As [`take_over`], beginning with what a standby or a checkpoint knows of the state partition, if anything: then only what follows
/// its last manifest is read. The result is checked as if everything had been read; what does not fit is thrown away, and the
/// takeover begins with nothing.
pub fn take_over_from<M: Machine>(
    shard: ShardName,
    log: &mut dyn ShardLog,
    owner: &str,
    known: Option<Folded>,
) -> Result<Taken<M>, TakeoverError> {
    take_over_under(shard, log, owner, known, Defences::ALL)
}

/// As [`take_over_from`], with these defences alone.
pub(super) fn take_over_under<M: Machine>(
    shard: ShardName,
    log: &mut dyn ShardLog,
    owner: &str,
    known: Option<Folded>,
    defences: Defences,
) -> Result<Taken<M>, TakeoverError> {
    let mut opening = Opening::Cold;
    let mut restored = None;
    if let Some(known) = known.and_then(Folded::rewound) {
        match restore_tail::<M>(shard, log, known, defences) {
            Ok(whole) => (opening, restored) = (Opening::Warm, Some(whole)),
            Err(Misfit::Refused(TakeoverError::Journal { shard, source })) => {
                return Err(TakeoverError::Journal { shard, source });
            }
            Err(misfit) => {
                tracing::warn!(%shard, why = %super::chain(&misfit), "what was known of a shard does not fit its log: all of it is read");
                opening = Opening::Misfit;
            }
        }
    }
    let restored = match restored {
        Some(restored) => restored,
        None => {
            let found = read_state(shard, log)?;
            check::<M>(shard, log, &found, defences)?
        }
    };
    acquire(shard, log, owner, restored, opening)
}

/// What a takeover read and found right.
struct Restored<M: Machine> {
    memory: Memory<M>,
    manifest: Manifest,
    /// What undoes the torn records after the manifest.
    repair: Vec<Record>,
    records: u64,
}

/// Everything that must hold of what was read, wherever it was read from.
fn check<M: Machine>(
    shard: ShardName,
    log: &mut dyn ShardLog,
    found: &Folded,
    defences: Defences,
) -> Result<Restored<M>, TakeoverError> {
    let unreadable = |source| TakeoverError::State { shard, source };
    let seated = found.manifest().ok_or(TakeoverError::NoManifest(shard))?;
    let manifest = Manifest::read(&seated.value).map_err(unreadable)?;
    check_log(shard, &manifest, log)?;
    if defences.hold(Defence::InputDigest) {
        check_last_input(shard, &manifest, log)?;
    }
    if !knows(M::LOGIC, manifest.logic) {
        return Err(TakeoverError::Logic { shard, found: manifest.logic, newest: M::LOGIC });
    }
    let memory = Memory::<M>::load(found.committed()).map_err(unreadable)?;
    let roots = (memory.roots.state.digest(), memory.roots.outbox.digest());
    if roots != (manifest.state_root, manifest.outbox_root) {
        return Err(TakeoverError::StateRoot(shard));
    }
    let before = |key: Vec<u8>| Record { value: found.committed().get(&key).cloned(), key, headers: Headers::new() };
    let torn = if defences.hold(Defence::Repair) { found.torn() } else { BTreeSet::new() };
    let repair = torn.into_iter().map(before).collect();
    Ok(Restored { memory, manifest, repair, records: found.records() })
}

/// Continues `known`, which was rewound to its manifest.
fn restore_tail<M: Machine>(
    shard: ShardName,
    log: &mut dyn ShardLog,
    mut known: Folded,
    defences: Defences,
) -> Result<Restored<M>, Misfit> {
    let (from, rests_on) = (known.next(), known.manifest().cloned());
    let mut met = false;
    let reach = log
        .restore_from(from, &mut |entry| {
            met |= is_manifest(&entry.record);
            known.see(entry);
        })
        .map_err(|source| TakeoverError::Journal { shard, source })?;
    if reach == Reach::OutOfRange {
        return Err(Misfit::OutOfRange(from));
    }
    // Without any manifest in the tail, the log was cut: not even the one that this rests on stands there.
    if !met || known.is_of_another_log() || went_back(rests_on.as_ref(), known.manifest()) {
        return Err(Misfit::OtherManifest);
    }
    Ok(check(shard, log, &known, defences)?)
}

/// Whether the later of two manifests does not count on: the log was cut and written anew between them.
fn went_back(earlier: Option<&Seated>, later: Option<&Seated>) -> bool {
    let (Some(earlier), Some(later)) = (earlier, later) else { return true };
    let transaction = |seated: &Seated| Manifest::read(&seated.value).map_or(0, |manifest| manifest.transaction);
    earlier != later && transaction(later) <= transaction(earlier)
}

fn acquire<M: Machine>(
    shard: ShardName,
    log: &mut dyn ShardLog,
    owner: &str,
    restored: Restored<M>,
    opening: Opening,
) -> Result<Taken<M>, TakeoverError> {
    let journal = |source| TakeoverError::Journal { shard, source };
    let Restored { memory, mut manifest, repair, records } = restored;
    manifest.transaction = manifest.transaction.saturating_add(1);
    manifest.attempt = manifest.attempt.saturating_add(1);
    manifest.owner = owner.to_owned();
    log.begin(header(manifest.transaction, manifest.attempt)).map_err(journal)?;
    let acquisition = Transaction { outputs: Vec::new(), state: repair, manifest: manifest.record() };
    log.commit(acquisition).map_err(journal)?;
    log.seek(manifest.next).map_err(journal)?;
    Ok(Taken { memory, manifest, restored: records, opening })
}

fn read_state(shard: ShardName, log: &mut dyn ShardLog) -> Result<Folded, TakeoverError> {
    let mut found = Folded::default();
    log.restore(&mut |entry| found.see(entry)).map_err(|source| TakeoverError::Journal { shard, source })?;
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
    Ok(())
}

fn check_last_input(shard: ShardName, manifest: &Manifest, log: &mut dyn ShardLog) -> Result<(), TakeoverError> {
    let Some(LastInput { offset, digest, .. }) = manifest.last else { return Ok(()) };
    let entry = log.inbox_at(offset).map_err(|source| TakeoverError::Journal { shard, source })?;
    match entry {
        Some(entry) if entry.offset == offset && input_digest(&entry.record) == digest => Ok(()),
        _ => Err(TakeoverError::InputChanged { shard, offset }),
    }
}

/// The digest of an input record: key, value and headers, without the trace context, which may differ on replay.
#[must_use]
pub fn input_digest(record: &Record) -> Digest {
    let headers = record.headers.iter().filter(|(name, _)| *name != "traceparent");
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
    if found.manifest().is_some() {
        return Ok(false);
    }
    if !found.torn().is_empty() {
        return Err(TakeoverError::Headless(shard));
    }
    let manifest = Manifest::first(log.identity().map_err(journal)?);
    log.begin(header(manifest.transaction, manifest.attempt)).map_err(journal)?;
    log.commit(Transaction { outputs: Vec::new(), state: Vec::new(), manifest: manifest.record() }).map_err(journal)?;
    Ok(true)
}
