//! Follows one node's canonical chain and reports every block of it to the chain machine.
//!
//! Invariants: blocks are reported in the order of their parents and none is left out, from the cursor that the chain machine
//! wrote (or the configured first block) on; a stretch of blocks is durably reported before the next is asked for; the watch list
//! is read to its end after the last block of a stretch is fetched and before the first is matched, so that no address can have
//! been handed out before a block that was matched without it. Nothing is kept on disk: after a crash blocks are reported again,
//! which the chain machine adds up.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::primitives::B256;
use custos_domain::{BlockHash, BlockRef, Timestamp};
use custos_journal::Journal;
use custos_messages::chain::{BlockReport, ChainInput};
use custos_messages::treasury::{TreasuryInput, Watching};
use custos_messages::{Keyring, Mail, Source, TraceParent};
use custos_runtime::metrics::Metrics;
use custos_runtime::pace::Turn;
use custos_runtime::post::Post;
use custos_runtime::serve::Work;
use futures::executor;

use crate::BlockchainError;
use crate::branch::Branch;
use crate::metrics::{FollowMetrics, NodeMetrics};
use crate::node::{Block, Header, Node};
use crate::nodes::{Chain, Nodes};
use crate::scan::{Found, Scene, Tracing};
use crate::stretch;
use crate::watch::WatchList;

/// Transfers in one report: together far below the size of a record. A block with more is reported in several.
const TRANSFERS_MAX: usize = 1_000;
/// Announcements posted at once.
const ANNOUNCED_MAX: usize = 500;
/// Blocks that are walked back from a cursor that is not canonical any more.
const CURSOR_WALK: u64 = 512;
/// While another node is silent the cursor stands still, and the chain machine keeps every block above it: a follower stops so far
/// beyond, and goes on when the cursor does. Half of what the machine keeps, and at 12 s a block more than a day.
pub const LEAD_MAX: u64 = 8_192;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What followers need around them.
#[derive(Clone)]
pub struct FollowSettings {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// The keys: it seals as blockchain, and opens what treasury and chain say.
    pub keyring: Arc<Keyring>,
    /// Partitions of every machine.
    pub partitions: u32,
    /// Counters.
    pub metrics: Metrics,
    /// Where requests to nodes run. In the follower's own turns only if its nodes need no runtime.
    pub work: Work,
    /// The most blocks that are reported beyond the chain machine's cursor: see [`LEAD_MAX`].
    pub lead_max: u64,
}

/// The follower of one node of one chain. Several of one node may run at once, in one process or in many.
pub struct Follower {
    chain: Arc<Chain>,
    node: Arc<Node>,
    work: Work,
    pause: Duration,
    post: Post,
    watch: WatchList,
    branch: Option<Branch>,
    tracing: Cell<Tracing>,
    metrics: NodeMetrics,
    lead_max: u64,
}

/// One follower for every node of every chain; each is to be run on a thread of its own. Once for each process: it registers
/// metrics.
///
/// # Errors
/// The log cannot be reached.
pub fn followers(nodes: &Nodes, settings: &FollowSettings) -> Result<Vec<Follower>, BlockchainError> {
    let metrics = FollowMetrics::new(&settings.metrics);
    let mut followers = Vec::new();
    for chain in nodes.chains() {
        for node in &chain.nodes {
            let metrics = metrics.of(&chain.config.chain, node.name());
            let journal = Arc::clone(&settings.journal);
            let keyring = Arc::clone(&settings.keyring);
            followers.push(Follower {
                chain: Arc::clone(chain),
                node: Arc::clone(node),
                work: settings.work.clone(),
                pause: chain.config.poll,
                post: Post::new(&*journal, Arc::clone(&keyring), Source::Blockchain, settings.partitions)?,
                watch: WatchList::open(chain.config.chain.clone(), journal, keyring, settings.metrics.clone())?,
                branch: None,
                tracing: Cell::new(Tracing::Unknown),
                metrics,
                lead_max: settings.lead_max,
            });
        }
    }
    Ok(followers)
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// There may be more to do at once.
    Moved,
    /// Nothing to do until the node has news.
    Idle,
}

impl Follower {
    /// Its name: chain and node.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.chain.config.chain, self.node.name().as_str())
    }

    /// Follows on the calling thread until `stop` is raised. The thread must not be an async worker.
    ///
    /// # Errors
    /// The node serves another chain, or the log cannot be used: a human must look.
    pub fn run(mut self, stop: Arc<AtomicBool>) -> Result<(), BlockchainError> {
        while !stop.load(Ordering::Acquire) {
            if let Turn::Wait(span) = self.step()? {
                std::thread::sleep(span);
            }
        }
        Ok(())
    }

    /// One turn: at most one stretch of blocks is reported. It never waits but for the node and the log; what may succeed later is
    /// done again in a later turn, from the last block on that is durably reported.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub fn step(&mut self) -> Result<Turn, BlockchainError> {
        let poll = self.chain.config.poll;
        match self.follow() {
            Ok(Progress::Moved) => {
                self.pause = poll;
                Ok(Turn::Again)
            }
            Ok(Progress::Idle) => {
                self.pause = poll;
                Ok(Turn::Wait(poll))
            }
            Err(error) if error.retryable() => {
                tracing::warn!(follower = self.name(), %error, "a step of a follower is tried again");
                self.metrics.failed();
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                Ok(Turn::Wait(pause))
            }
            Err(error) => Err(error),
        }
    }

    fn follow(&mut self) -> Result<Progress, BlockchainError> {
        let Some(branch) = &self.branch else { return self.begin() };
        let newest = branch.newest();
        let head = wait(&self.work, self.node.latest())?;
        let head = block_ref(head.number.to(), head.hash);
        let known = branch.at(head.number);
        let next = newest.map_or(self.chain.config.start_block, |last| last.number.saturating_add(1));
        if head.number < next {
            // The node is behind, or its chain became shorter: only a contradiction tells.
            if known.is_some_and(|known| known != head) {
                return self.walk_back();
            }
            self.announce()?;
            return Ok(Progress::Idle);
        }
        let settled = self.watch.cursor().map_or(self.chain.config.start_block, |cursor| cursor.number);
        let last = head.number.min(settled.saturating_add(self.lead_max));
        let Some(wanted) = last.checked_add(1).and_then(|end| NonZeroU64::new(end.saturating_sub(next))) else {
            // So far ahead that nothing is fetched: whether the node has another chain by now only a question tells.
            if let Some(last) = newest
                && wait(&self.work, self.node.header_at(last.number))?.is_some_and(|found| header_ref(&found) != last)
            {
                return self.walk_back();
            }
            self.announce()?;
            return Ok(Progress::Idle);
        };
        self.advance(next, wanted)
    }

    /// Reports the stretch of blocks from `next` on.
    fn advance(&mut self, next: u64, wanted: NonZeroU64) -> Result<Progress, BlockchainError> {
        let newest = self.branch.as_ref().and_then(Branch::newest);
        let blocks = wait(&self.work, stretch::fetch(&self.node, next, wanted))?;
        let Some(first) = blocks.first() else { return Ok(Progress::Idle) };
        if newest.is_some_and(|last| last.hash.0 != first.parent_hash.0) {
            return self.walk_back();
        }
        self.announce()?;
        let Self { node, chain, watch, metrics, tracing, .. } = self;
        let scene = Scene { node, config: &chain.config, watched: watch.watched(), metrics, tracing };
        let found = wait(&self.work, stretch::look_through(&scene, &blocks))?;
        let mails: Vec<_> = blocks.iter().zip(found).flat_map(|(block, found)| self.reports(block, found)).collect();
        self.post.send_all(&mails)?;
        for block in &blocks {
            let at = block_ref(block.number.to(), block.hash);
            if let Some(branch) = &mut self.branch {
                branch.push(at);
            }
            self.metrics.reported(at.number);
        }
        Ok(Progress::Moved)
    }

    /// Finds where to begin: the cursor if it is canonical, else the canonical block below it, else before the first block.
    fn begin(&mut self) -> Result<Progress, BlockchainError> {
        self.watch.refresh()?;
        let start = self.chain.config.start_block;
        let base = match (self.watch.cursor(), start.checked_sub(1)) {
            (Some(cursor), _) => self.below(cursor)?,
            (None, Some(before)) => wait(&self.work, self.node.header_at(before))?.map(|found| header_ref(&found)),
            (None, None) => {
                self.branch = Some(Branch::default());
                return Ok(Progress::Moved);
            }
        };
        let Some(base) = base else { return Ok(Progress::Idle) };
        tracing::info!(follower = self.name(), number = base.number, hash = %base.hash, "following from here");
        self.branch = Some(Branch::on(base));
        self.announce()?;
        Ok(Progress::Moved)
    }

    /// The highest canonical block on the branch of `cursor`; nothing while the node has not come as far.
    fn below(&self, cursor: BlockRef) -> Result<Option<BlockRef>, BlockchainError> {
        let mut at = cursor;
        for _ in 0..CURSOR_WALK {
            match wait(&self.work, self.node.header_at(at.number))? {
                Some(found) if header_ref(&found) == at => return Ok(Some(at)),
                None if at == cursor => return Ok(None),
                _ => {}
            }
            let Some(header) = wait(&self.work, self.node.header_of(B256::from(at.hash.0)))? else { break };
            let Some(number) = at.number.checked_sub(1) else { break };
            at = block_ref(number, header.parent_hash);
        }
        tracing::error!(follower = self.name(), number = cursor.number, hash = %cursor.hash, "the node does not know the cursor");
        let far = cursor.number.saturating_sub(CURSOR_WALK);
        Ok(wait(&self.work, self.node.header_at(far))?.map(|found| header_ref(&found)))
    }

    /// Cuts what was reported down to the common ancestor with the node's chain; begins anew when there is none in memory.
    fn walk_back(&mut self) -> Result<Progress, BlockchainError> {
        let Some(branch) = &mut self.branch else { return Ok(Progress::Moved) };
        for known in branch.newest_first() {
            let found = wait(&self.work, self.node.header_at(known.number))?;
            if found.is_some_and(|found| header_ref(&found) == known) {
                let left = branch.cut(known);
                self.metrics.left(left);
                tracing::warn!(node = self.node.name().as_str(), ancestor = known.number, left, "the chain was reorganised");
                return Ok(Progress::Moved);
            }
        }
        tracing::error!(node = self.node.name().as_str(), "the chain was reorganised deeper than is remembered");
        self.branch = None;
        Ok(Progress::Moved)
    }

    /// Reads the watch list to its end, and says of every record read that blocks after the last one reported are matched
    /// against it.
    fn announce(&mut self) -> Result<(), BlockchainError> {
        self.watch.refresh()?;
        let Some(from) = self.branch.as_ref().and_then(Branch::newest) else { return Ok(()) };
        for some in self.watch.fresh().chunks(ANNOUNCED_MAX) {
            let mails: Vec<_> = some
                .iter()
                .map(|known| Watching { wallet: known.wallet, chain: known.chain.clone(), address: known.address, from })
                .map(|watching| (Mail::Treasury(TreasuryInput::Watching(watching)), None))
                .collect();
            self.post.send_all(&mails)?;
        }
        self.watch.announced();
        Ok(())
    }

    /// The report of a block; in several parts if there is much in it.
    fn reports(&self, block: &Block, found: Found) -> Vec<(Mail, Option<TraceParent>)> {
        let Found { transfers, spends } = found;
        let mut parts: Vec<Vec<_>> = transfers.chunks(TRANSFERS_MAX).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let number: u64 = block.number.to();
        let mut spends = Some(spends);
        parts
            .into_iter()
            .map(|transfers| BlockReport {
                node: self.node.name().clone(),
                chain: self.chain.config.chain.clone(),
                block: block_ref(number, block.hash),
                parent: BlockHash(block.parent_hash.0),
                time: Timestamp(block.timestamp.to::<u64>().saturating_mul(1_000)),
                transfers,
                spends: spends.take().unwrap_or_default(),
            })
            .map(|report| (Mail::Chain(ChainInput::Block(Box::new(report))), None))
            .collect()
    }
}

/// Waits for a node's answer.
fn wait<F: Future>(work: &Work, answer: F) -> F::Output {
    match work {
        Work::Tokio(handle) => handle.block_on(answer),
        Work::Own => executor::block_on(answer),
    }
}

fn block_ref(number: u64, hash: B256) -> BlockRef {
    BlockRef { number, hash: BlockHash(hash.0) }
}

fn header_ref(header: &Header) -> BlockRef {
    block_ref(header.number.to(), header.hash)
}
