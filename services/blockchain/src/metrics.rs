//! What followers count.

use custos_domain::{ChainId, NodeName};
use custos_runtime::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    chain: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    chain: String,
    reason: &'static str,
}

/// The metrics of all followers of a process.
#[derive(Clone)]
pub(crate) struct FollowMetrics {
    block: Family<NodeLabel, Gauge>,
    tracing: Family<NodeLabel, Gauge>,
    failures: Family<NodeLabel, Counter>,
    left: Family<NodeLabel, Counter>,
    unreported: Family<ReasonLabel, Counter>,
}

/// The metrics of one follower.
#[derive(Clone)]
pub(crate) struct NodeMetrics {
    all: FollowMetrics,
    chain: ChainId,
    label: NodeLabel,
}

impl FollowMetrics {
    /// Registers them; once for each process.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let all = Self {
            block: Family::default(),
            tracing: Family::default(),
            failures: Family::default(),
            left: Family::default(),
            unreported: Family::default(),
        };
        metrics.register("follower_block", "Number of the block that was reported last", all.block.clone());
        metrics.register("follower_tracing", "1 when the node shows ether moved inside transactions", all.tracing.clone());
        metrics.register("follower_failures", "Steps that had to be tried again", all.failures.clone());
        metrics.register("follower_blocks_left", "Reported blocks that left the canonical chain", all.left.clone());
        metrics.register("transfers_unreported", "Transfers to our addresses not reported", all.unreported.clone());
        all
    }

    pub(crate) fn of(&self, chain: &ChainId, node: &NodeName) -> NodeMetrics {
        let label = NodeLabel { chain: chain.to_string(), node: node.as_str().to_owned() };
        NodeMetrics { all: self.clone(), chain: chain.clone(), label }
    }
}

impl NodeMetrics {
    /// A block was reported.
    pub(crate) fn reported(&self, number: u64) {
        self.all.block.get_or_create(&self.label).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Whether the node traces is known.
    pub(crate) fn traces(&self, traces: bool) {
        self.all.tracing.get_or_create(&self.label).set(i64::from(traces));
    }

    /// A step failed.
    pub(crate) fn failed(&self) {
        self.all.failures.get_or_create(&self.label).inc();
    }

    /// Reported blocks left the canonical chain.
    pub(crate) fn left(&self, blocks: u64) {
        self.all.left.get_or_create(&self.label).inc_by(blocks);
    }

    /// Transfers to our addresses were not reported.
    pub(crate) fn unreported(&self, reason: &'static str, transfers: u64) {
        let label = ReasonLabel { chain: self.chain.to_string(), reason };
        self.all.unreported.get_or_create(&label).inc_by(transfers);
    }
}
