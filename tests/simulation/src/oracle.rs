//! The oracles of the log: they read it as an auditor would, and believe nobody's memory.
//!
//! All the time: manifests of a shard count on, each owner's attempt is newer than the one before, and no place in an inbox is passed
//! twice. At rest: every shard is what its inbox makes of it (state, timers, links, events, byte for byte), the chain of events is
//! whole, everything that was put into an inbox was applied or put aside, and nothing was put aside that should not be. It replays with
//! the machines of the next release, which decide as these do until a shard is ordered to switch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use custos_accounts::Accounts;
use custos_chain::Chain;
use custos_domain::Digest;
use custos_journal::{Journal, SimulatedCluster, SimulatedJournal, Start};
use custos_messages::{Keyring, Machine as Kind, Record, ShardName, Topic};
use custos_runtime::audit::{Head, audit_events};
use custos_runtime::replay::{Replay, ReplayError, last_manifest, replay_into, verify};
use custos_runtime::shard::{Manifest, input_digest, is_manifest};
use custos_saga::machine::Machine;
use custos_treasury::Treasury;

use crate::actor::{Actor, Step};
use crate::diary::Diary;
use crate::release::Next;

const LOOK: Duration = Duration::from_secs(1);
const MOST: usize = 1_000;

/// What shards say within their transactions.
const OUTPUTS: &[Topic] =
    &[Topic::Events, Topic::ComplianceCommands, Topic::WalletCommands, Topic::BlockchainCommands, Topic::Addresses];
/// Among it are questions without effect, which may leave ahead of the commit: screening, and what a transaction will cost.
const ASKED_AHEAD: &[Topic] = &[Topic::ComplianceCommands, Topic::BlockchainCommands];

/// Whether older records of a state partition may have been compacted away before they were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// They may.
    Perhaps,
    /// They may not.
    Never,
}

/// Whether a transaction may be torn: shown in part, and written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// It may.
    Perhaps,
    /// It may not.
    Never,
}

/// The oracle.
pub struct LogOracle {
    cluster: Arc<SimulatedCluster>,
    journal: SimulatedJournal,
    keyring: Arc<Keyring>,
    partitions: u32,
    compacted: Compacted,
    torn: Torn,
    diary: Diary,
    last: BTreeMap<ShardName, Manifest>,
    next: BTreeMap<ShardName, u64>,
}

impl LogOracle {
    /// An oracle that has seen nothing.
    #[must_use]
    pub fn new(
        cluster: Arc<SimulatedCluster>,
        keyring: Arc<Keyring>,
        partitions: u32,
        (compacted, torn): (Compacted, Torn),
        diary: Diary,
    ) -> Self {
        let journal = cluster.process();
        let (last, next) = (BTreeMap::new(), BTreeMap::new());
        Self { cluster, journal, keyring, partitions, compacted, torn, diary, last, next }
    }

    fn shards(&self) -> Vec<ShardName> {
        let machines = [Kind::Accounts, Kind::Treasury, Kind::Chain];
        let of = |machine| (0..self.partitions).map(move |partition| ShardName { machine, partition });
        machines.into_iter().flat_map(of).collect()
    }

    fn look(&mut self) -> bool {
        // A broken connection is made again: readers outside do not die.
        if self.journal.is_killed() {
            self.journal = self.cluster.process();
        }
        let mut news = false;
        for shard in self.shards() {
            let from = self.next.get(&shard).copied();
            let records = read(&self.journal, Topic::State(shard.machine), shard.partition, from);
            for (offset, record) in records {
                news = true;
                self.next.insert(shard, offset.saturating_add(1));
                if is_manifest(&record) {
                    self.manifest(shard, &record);
                }
            }
        }
        news
    }

    fn manifest(&mut self, shard: ShardName, record: &Record) {
        let manifest = match Manifest::read(record.value.as_deref().unwrap_or_default()) {
            Ok(manifest) => manifest,
            Err(error) => return self.diary.violation(format!("{shard}: a manifest that cannot be read: {error}")),
        };
        if let Some(last) = self.last.get(&shard) {
            let counts_on = match self.compacted {
                Compacted::Never => manifest.transaction == last.transaction.saturating_add(1),
                Compacted::Perhaps => manifest.transaction > last.transaction,
            };
            let forward = manifest.attempt >= last.attempt
                && manifest.next >= last.next
                && manifest.event_sequence >= last.event_sequence
                && manifest.logic >= last.logic
                && manifest.last.map(|input| input.at) >= last.last.map(|input| input.at);
            if !counts_on || !forward {
                self.diary.violation(format!("{shard}: after {last:?} stands {manifest:?}"));
            }
            if manifest.logic > last.logic {
                self.diary.sometimes("a shard switches its logic");
            }
            if manifest.attempt > last.attempt {
                self.diary.sometimes("a shard changes its owner");
            }
        }
        self.last.insert(shard, manifest);
    }

    fn verify(&self, shard: ShardName) -> Option<Replay> {
        let outcome = match shard.machine {
            Kind::Accounts => self.replayed::<Next<Accounts>>(shard.partition),
            Kind::Treasury => self.replayed::<Next<Treasury>>(shard.partition),
            Kind::Chain => self.replayed::<Next<Chain>>(shard.partition),
        };
        outcome.map_err(|error| self.diary.violation(format!("replay: {}", told(&error)))).ok()
    }

    fn replayed<M: Machine>(&self, partition: u32) -> Result<Replay, ReplayError> {
        // Asked with a connection of its own, which nobody kills.
        verify::<M>(&self.cluster.process(), &self.keyring, partition, self.partitions)
    }

    /// Whether everything that stands in an inbox is applied.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let journal = self.cluster.process();
        self.shards().into_iter().all(|shard| {
            let end = journal.bounds(Topic::Inbox(shard.machine), shard.partition).map(|(_, end)| end);
            let next = last_manifest(&journal, shard).ok().flatten().map(|manifest| manifest.next);
            matches!((end, next), (Ok(end), Some(next)) if next >= end)
        })
    }

    /// Everything that must hold when the world is at rest.
    pub fn at_rest(&mut self) {
        self.look();
        let journal = self.cluster.process();
        let mut quarantined: u64 = 0;
        for shard in self.shards() {
            if let Some(replay) = self.verify(shard) {
                quarantined = quarantined.saturating_add(replay.quarantined);
            }
        }
        for partition in 0..self.partitions {
            let shard = ShardName { machine: Kind::Accounts, partition };
            let head = self.last.get(&shard).map(|manifest| Head {
                partition,
                sequence: manifest.event_sequence,
                hash: manifest.event_hash,
            });
            if let Err(finding) = audit_events(&journal, &self.keyring, partition, None, head) {
                self.diary.violation(format!("audit of partition {partition}: {}", told(&finding)));
            }
        }
        self.judge_outputs();
        self.judge_quarantine(&journal, quarantined);
    }

    /// What readers of committed records are shown is what the inboxes decide: nothing of it is missing, and nothing else is there.
    fn judge_outputs(&self) {
        for partition in 0..self.partitions {
            let mut decided: BTreeMap<Topic, BTreeSet<Digest>> = BTreeMap::new();
            self.decide::<Next<Accounts>>(partition, &mut decided);
            self.decide::<Next<Treasury>>(partition, &mut decided);
            self.decide::<Next<Chain>>(partition, &mut decided);
            for topic in OUTPUTS {
                let decided = decided.remove(topic).unwrap_or_default();
                self.judge_output(*topic, partition, &decided);
            }
        }
    }

    /// What a shard's inbox makes it say.
    fn decide<M: Machine>(&self, partition: u32, decided: &mut BTreeMap<Topic, BTreeSet<Digest>>) {
        let journal = self.cluster.process();
        let mut output = |topic: Topic, record: &Record| {
            decided.entry(topic).or_default().insert(input_digest(record));
        };
        let place = (partition, self.partitions);
        if let Err(error) = replay_into::<M>(&journal, &self.keyring, place, None, &mut output) {
            self.diary.violation(format!("replay of what a shard said: {}", told(&error)));
        }
    }

    fn judge_output(&self, topic: Topic, partition: u32, decided: &BTreeSet<Digest>) {
        let records = read(&self.cluster.process(), topic, partition, None);
        let shown: BTreeSet<Digest> = records.iter().map(|(_, record)| input_digest(record)).collect();
        let name = topic.name();
        if shown.len() < records.len() {
            self.diary.sometimes("an output stands in the log twice");
            // Questions without effect may be asked again by whoever comes after; what has an effect is said by one transaction.
            // So is what brokers forgot to end: it is taken back, and said again.
            let whole = self.torn == Torn::Never && self.cluster.counts().markers_forgotten == 0;
            if whole && !ASKED_AHEAD.contains(&topic) {
                self.diary.violation(format!("{name}/{partition}: outputs of transactions that did not commit are shown"));
            }
        }
        let (lost, foreign) = (decided.difference(&shown).count(), shown.difference(decided).count());
        // A forger writes orders of his own.
        if lost > 0 || (foreign > 0 && topic != Topic::WalletCommands) {
            self.diary.violation(format!(
                "{name}/{partition}: {lost} outputs are lost, and {foreign} are there that no input decides"
            ));
        }
    }

    fn judge_quarantine(&self, journal: &SimulatedJournal, quarantined: u64) {
        let mut put_aside = BTreeMap::new();
        for partition in 0..self.partitions {
            for (_, record) in read(journal, Topic::Quarantine, partition, None) {
                let text = |name: &str| {
                    let value = record.headers.get(&format!("custos_quarantine_{name}")).unwrap_or_default();
                    String::from_utf8_lossy(value).into_owned()
                };
                put_aside.insert((text("topic"), text("partition"), text("offset")), text("reason"));
            }
        }
        // Nobody here writes what cannot be read.
        if quarantined > 0 || !put_aside.is_empty() {
            let why: Vec<&String> = put_aside.values().take(3).collect();
            self.diary.violation(format!("{quarantined} inputs were put aside: {why:?}"));
        }
    }
}

impl Actor for LogOracle {
    fn name(&self) -> &str {
        "auditor"
    }

    fn step(&mut self) -> Step {
        // What an auditor sees changes nothing for anybody else.
        self.look();
        Step::Idle(LOOK)
    }
}

/// Every committed record of a partition from an offset on.
fn read(journal: &SimulatedJournal, topic: Topic, partition: u32, from: Option<u64>) -> Vec<(u64, Record)> {
    let Ok((first, _)) = journal.bounds(topic, partition) else { return Vec::new() };
    let start = Start::At(from.unwrap_or(first).max(first));
    let Ok(mut feed) = journal.read(topic, partition, start) else { return Vec::new() };
    let mut all = Vec::new();
    // A short read is not the end, an empty one is.
    while let Ok(entries) = feed.poll(MOST, Duration::ZERO) {
        if entries.is_empty() {
            break;
        }
        all.extend(entries.into_iter().map(|entry| (entry.offset, entry.record)));
    }
    all
}

/// An error with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
