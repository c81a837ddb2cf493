//! Metrics of a process, in OpenMetrics text. Base units, `_total` counters, no ids in labels.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use custos_messages::ShardName;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::shard::{Opening, Standing, Tally};

/// Labels of a machine's metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MachineLabel {
    machine: &'static str,
}

/// Labels of what is counted by a code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabel {
    part: &'static str,
    code: &'static str,
}

/// Labels of a shard's metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShardLabel {
    machine: &'static str,
    partition: u32,
}

/// Labels of takeovers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OpeningLabel {
    machine: &'static str,
    opening: &'static str,
}

/// Labels of a service's metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartLabel {
    part: &'static str,
}

/// All metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    inputs: Family<MachineLabel, Counter>,
    dropped: Family<CodeLabel, Counter>,
    quarantined: Family<CodeLabel, Counter>,
    commits: Family<MachineLabel, Counter>,
    commit_seconds: Family<MachineLabel, Histogram>,
    shards_owned: Family<MachineLabel, Gauge>,
    shard_halted: Family<ShardLabel, Gauge>,
    shard_gauges: ShardGauges,
    takeover_seconds: Family<OpeningLabel, Histogram>,
    standby: StandbyFamilies,
    commands: Family<PartLabel, Counter>,
    setbacks: Family<PartLabel, Counter>,
}

/// What standbys hold and write.
#[derive(Clone, Default)]
struct StandbyFamilies {
    shards: Family<MachineLabel, Gauge>,
    bytes: Family<MachineLabel, Gauge>,
    written: Family<MachineLabel, Counter>,
    refused: Family<MachineLabel, Counter>,
}

impl StandbyFamilies {
    fn register(&self, registry: &mut Registry) {
        registry.register("standby_shards", "Shards of others that this process follows", self.shards.clone());
        registry.register("standby_bytes", "Keys and values that it holds for them", self.bytes.clone());
        registry.register("checkpoints_written", "Checkpoints written", self.written.clone());
        registry.register("checkpoints_refused", "Checkpoints and folds that were thrown away", self.refused.clone());
    }
}

/// The metrics of a standby.
#[derive(Clone)]
pub struct StandbyMetrics {
    machine: &'static str,
    metrics: Metrics,
}

impl StandbyMetrics {
    /// What is followed now.
    pub fn holds(&self, shards: usize, bytes: usize) {
        let label = MachineLabel { machine: self.machine };
        let narrow = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.standby.shards.get_or_create(&label).set(narrow(shards));
        self.metrics.standby.bytes.get_or_create(&label).set(narrow(bytes));
    }

    /// A checkpoint is durable.
    pub fn written(&self) {
        self.metrics.standby.written.get_or_create(&MachineLabel { machine: self.machine }).inc();
    }

    /// A checkpoint, or what was followed, was thrown away.
    pub fn refused(&self) {
        self.metrics.standby.refused.get_or_create(&MachineLabel { machine: self.machine }).inc();
    }
}

/// Where shards stand.
#[derive(Clone, Default)]
struct ShardGauges {
    lag: Family<ShardLabel, Gauge>,
    next: Family<ShardLabel, Gauge>,
    transaction: Family<ShardLabel, Gauge>,
    since_commit: Family<ShardLabel, Gauge>,
    records: Family<ShardLabel, Gauge>,
    timers: Family<ShardLabel, Gauge>,
    outbox: Family<ShardLabel, Gauge>,
}

impl ShardGauges {
    fn all(&self) -> [(&'static str, &'static str, &Family<ShardLabel, Gauge>); 7] {
        [
            ("shard_lag_inputs", "Inputs in the inbox that are not applied", &self.lag),
            ("shard_next_offset", "Offset of the first input that is not applied", &self.next),
            ("shard_transaction", "Number of the shard's last transaction", &self.transaction),
            ("shard_since_commit_seconds", "Whole seconds since the shard's last commit", &self.since_commit),
            ("shard_state_records", "Records of the machine in the shard", &self.records),
            ("shard_timers", "Armed timers of the shard", &self.timers),
            ("shard_outbox_messages", "Messages to other shards that are not durable in their inboxes", &self.outbox),
        ]
    }

    fn register(&self, registry: &mut Registry) {
        self.all().into_iter().for_each(|(name, help, family)| registry.register(name, help, family.clone()));
    }
}

/// A shard that is counted among those which this process runs.
pub struct Owned(Gauge);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one shard.
#[derive(Clone)]
pub struct ShardMetrics {
    shard: ShardName,
    metrics: Metrics,
}

fn seconds_histogram() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("custos");
        let metrics = Self {
            registry: Arc::default(),
            inputs: Family::default(),
            dropped: Family::default(),
            quarantined: Family::default(),
            commits: Family::default(),
            commit_seconds: Family::new_with_constructor(seconds_histogram),
            shards_owned: Family::default(),
            shard_halted: Family::default(),
            shard_gauges: ShardGauges::default(),
            takeover_seconds: Family::new_with_constructor(seconds_histogram),
            standby: StandbyFamilies::default(),
            commands: Family::default(),
            setbacks: Family::default(),
        };
        registry.register("inputs", "Inputs applied", metrics.inputs.clone());
        registry.register("dropped", "Inputs of no use: stale replies, repeats", metrics.dropped.clone());
        registry.register("quarantined", "Records put aside", metrics.quarantined.clone());
        registry.register("commits", "Transactions committed", metrics.commits.clone());
        registry.register("commit_seconds", "First input to commit", metrics.commit_seconds.clone());
        registry.register("shards_owned", "Shards that this process runs", metrics.shards_owned.clone());
        registry.register("shard_halted", "1 when a shard stands still and a human must look", metrics.shard_halted.clone());
        metrics.shard_gauges.register(&mut registry);
        let help = "Acquisition to first input, by what it began with: cold, warm, or misfit and then cold";
        registry.register("takeover_seconds", help, metrics.takeover_seconds.clone());
        metrics.standby.register(&mut registry);
        registry.register("commands", "Commands answered by a service", metrics.commands.clone());
        registry.register("setbacks", "Commands that had to be tried again", metrics.setbacks.clone());
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }
}

impl Metrics {
    /// The OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a String cannot fail.
        let _ = encode(&mut out, &registry);
        out
    }

    /// Adds a part's own metric.
    pub fn register(&self, name: &str, help: &str, metric: impl prometheus_client::registry::Metric) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// The metrics of `shard`.
    #[must_use]
    pub fn shard(&self, shard: ShardName) -> ShardMetrics {
        ShardMetrics { shard, metrics: self.clone() }
    }

    /// The metrics of the standby of `machine`.
    #[must_use]
    pub fn standby(&self, machine: custos_messages::Machine) -> StandbyMetrics {
        StandbyMetrics { machine: machine.name(), metrics: self.clone() }
    }

    /// A service answered a command.
    pub fn answered(&self, part: &'static str) {
        self.commands.get_or_create(&PartLabel { part }).inc();
    }

    /// A service has to try again.
    pub fn set_back(&self, part: &'static str) {
        self.setbacks.get_or_create(&PartLabel { part }).inc();
    }

    /// A part dropped records that were of no use to it.
    pub fn dropped(&self, part: &'static str, code: &'static str, records: u64) {
        self.dropped.get_or_create(&CodeLabel { part, code }).inc_by(records);
    }

    /// A part put a record aside.
    pub fn put_aside(&self, part: &'static str, code: &'static str) {
        self.quarantined.get_or_create(&CodeLabel { part, code }).inc();
    }
}

impl ShardMetrics {
    /// A transaction is committed.
    pub fn committed(&self, tally: &Tally, took: Duration) {
        let machine = self.shard.machine.name();
        let label = MachineLabel { machine };
        self.metrics.inputs.get_or_create(&label).inc_by(tally.applied);
        self.metrics.commits.get_or_create(&label).inc();
        self.metrics.commit_seconds.get_or_create(&label).observe(took.as_secs_f64());
        for code in &tally.dropped {
            self.metrics.dropped.get_or_create(&CodeLabel { part: machine, code }).inc();
        }
        for code in &tally.quarantined {
            self.metrics.put_aside(machine, code);
        }
    }

    /// The shard was taken over.
    pub fn taken_over(&self, opening: Opening, took: Duration) {
        let label = OpeningLabel { machine: self.shard.machine.name(), opening: opening.name() };
        self.metrics.takeover_seconds.get_or_create(&label).observe(took.as_secs_f64());
    }

    /// Counts the shard as one that this process runs, for as long as the value lives.
    #[must_use]
    pub fn own(&self) -> Owned {
        let gauge = self.metrics.shards_owned.get_or_create(&MachineLabel { machine: self.shard.machine.name() }).clone();
        gauge.inc();
        Owned(gauge)
    }

    /// Where the shard stands now.
    pub fn stands(&self, standing: &Standing) {
        let gauges = &self.metrics.shard_gauges;
        let set = |family: &Family<ShardLabel, Gauge>, value: Option<u64>| {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                family.get_or_create(&self.label()).set(value);
            }
        };
        let count = |value: usize| u64::try_from(value).ok();
        set(&gauges.lag, standing.lag);
        let Some(place) = &standing.place else { return };
        set(&gauges.next, Some(place.next));
        set(&gauges.transaction, Some(place.transaction));
        set(&gauges.since_commit, Some(place.committed.elapsed().as_secs()));
        set(&gauges.records, count(place.records));
        set(&gauges.timers, count(place.timers));
        set(&gauges.outbox, count(place.outbox));
    }

    /// The shard is not here any more: what it showed would be another owner's.
    pub fn left(&self) {
        for (_, _, family) in self.metrics.shard_gauges.all() {
            family.remove(&self.label());
        }
    }

    fn label(&self) -> ShardLabel {
        ShardLabel { machine: self.shard.machine.name(), partition: self.shard.partition }
    }

    /// The shard stands still.
    pub fn halted(&self, halted: bool) {
        self.metrics.shard_halted.get_or_create(&self.label()).set(i64::from(halted));
    }
}
