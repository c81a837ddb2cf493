//! The chain of the demonstration, embedded or a real development node, and what happens on it outside of the bank's reach: payments
//! in, blocks, reorganisations.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use custos_devchain::{Clock, DevChain, Dropped, Server, Settings};
use custos_domain::{Amount, EthAddress};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::devnode::DevNode;
use crate::say;

/// How often a block is mined where the demonstration asks for blocks.
const BLOCK_TIME: Duration = Duration::from_millis(400);
/// How often a node that mines only what it is sent is sent something.
const NUDGE_TIME: Duration = Duration::from_secs(1);
/// How long a node is watched for blocks of its own.
const WATCHED: Duration = Duration::from_secs(4);

/// A chain with a token.
pub struct Town {
    node: DevNode,
    token: EthAddress,
    first_block: u64,
    embedded: Option<(DevChain, Server)>,
    pulse: Option<Pulse>,
}

/// Blocks keep coming while this lives.
struct Pulse {
    task: JoinHandle<()>,
    /// Whoever holds it holds the blocks back.
    gate: Arc<Mutex<()>>,
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a node comes to blocks.
#[derive(Clone, Copy)]
enum Beat {
    /// It is told to.
    Ordered,
    /// It mines whenever it is sent something.
    Nudged,
}

impl Town {
    /// Starts the embedded chain, deploys the token, and begins to mine.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub async fn embedded() -> anyhow::Result<Self> {
        let chain = DevChain::new(Settings { clock: Clock::Host, ..Settings::default() })?;
        let server = chain.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        chain.set_auto(Some(BLOCK_TIME));
        let node = DevNode::connect(&server.url()).await?;
        let token = node.deploy_token("Test Dollar", "TUSD").await?;
        Ok(Self { node, token, first_block: 0, embedded: Some((chain, server)), pulse: None })
    }

    /// Uses the development node at `url`: deploys the token there, and keeps blocks coming if the node does not by itself.
    ///
    /// # Errors
    /// The node does not answer, is not one for development, or refuses.
    pub async fn at(url: &str) -> anyhow::Result<Self> {
        let node = DevNode::connect(url).await?;
        let first_block = node.height().await?;
        let pulse = Pulse::of(&node).await?;
        let token = node.deploy_token("Test Dollar", "TUSD").await?;
        Ok(Self { node, token, first_block, embedded: None, pulse })
    }

    /// Its JSON-RPC address.
    pub fn url(&self) -> String {
        self.node.url().to_owned()
    }

    /// What serves it, for people.
    pub fn about(&self) -> String {
        match &self.embedded {
            Some(_) => format!("embedded Ethereum chain at {}", self.node.url()),
            None => format!("{} at {}, chain {}", self.node.version(), self.node.url(), self.node.number()),
        }
    }

    /// Its EIP-155 number.
    pub const fn number(&self) -> u64 {
        self.node.number()
    }

    /// The block that was newest when the demonstration came: nothing before concerns it.
    pub const fn first_block(&self) -> u64 {
        self.first_block
    }

    /// The token's contract.
    pub const fn token(&self) -> EthAddress {
        self.token
    }

    /// Pays ether to an address.
    ///
    /// # Errors
    /// The chain refuses.
    pub async fn pay_ether(&self, to: &EthAddress, wei: Amount) -> anyhow::Result<String> {
        self.node.pay_ether(to, wei).await
    }

    /// Pays tokens to an address.
    ///
    /// # Errors
    /// The chain refuses.
    pub async fn pay_token(&self, to: &EthAddress, units: Amount) -> anyhow::Result<String> {
        self.node.mint_token(&self.token, to, units).await
    }

    /// What an address holds, in wei.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn ether_of(&self, address: &EthAddress) -> anyhow::Result<Amount> {
        self.node.ether_of(address).await
    }

    /// The newest block's number.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn height(&self) -> anyhow::Result<u64> {
        self.node.height().await
    }

    /// Why blocks cannot be rolled back here, if they cannot.
    pub fn why_no_reorganisation(&self) -> Option<String> {
        let able = self.embedded.is_some() || self.node.version().starts_with("anvil/");
        (!able).then(|| format!("{} has no way to ask for a reorganisation (anvil has)", self.node.version()))
    }

    /// Rolls back the block that holds `tx` and everything since, and mines empty blocks in their place; what was in them waits in the
    /// pool again. Gives how many blocks that were, and the height before and after.
    ///
    /// # Errors
    /// No block holds the transaction, or the chain cannot be rolled back.
    pub async fn roll_back(&self, tx: &str) -> anyhow::Result<(u64, u64, u64)> {
        if let Some((chain, _)) = &self.embedded {
            chain.set_auto(None);
            let (before, depth) = self.depth_of(tx).await?;
            let blocks = usize::try_from(depth)?.checked_add(1).context("a depth beyond measure")?;
            chain.replace(depth, Dropped::Reinject, &vec![Vec::new(); blocks])?;
            chain.set_auto(Some(BLOCK_TIME));
            return Ok((depth, before, self.height().await?));
        }
        if let Some(why) = self.why_no_reorganisation() {
            bail!(why);
        }
        let _held = match &self.pulse {
            Some(pulse) => Some(pulse.gate.lock().await),
            None => None,
        };
        let (before, depth) = self.depth_of(tx).await?;
        let dropped = self.raw_since(before.saturating_sub(depth)).await?;
        self.node.call("anvil_reorg", json!([depth, []])).await?;
        self.node.mine().await?;
        let after = self.height().await?;
        // This node forgets what was in the blocks, so it is sent again; what its owner has sent again meanwhile is refused as known.
        for raw in dropped {
            drop(self.node.obeyed("eth_sendRawTransaction", json!([raw])).await);
        }
        Ok((depth, before, after))
    }

    /// The height, and how many blocks reach down to the transaction.
    async fn depth_of(&self, tx: &str) -> anyhow::Result<(u64, u64)> {
        let (height, block) = (self.height().await?, self.node.block_of(tx).await?);
        let block = block.with_context(|| format!("{tx} is in no block"))?;
        Ok((height, height.saturating_add(1).saturating_sub(block)))
    }

    /// Every transaction in blocks above `height`, as it was sent.
    async fn raw_since(&self, height: u64) -> anyhow::Result<Vec<Value>> {
        let mut found = Vec::new();
        for number in height.saturating_add(1)..=self.height().await? {
            let block = self.node.call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await?;
            for hash in block.get("transactions").and_then(Value::as_array).into_iter().flatten() {
                found.push(self.node.call("eth_getRawTransactionByHash", json!([hash])).await?);
            }
        }
        Ok(found)
    }
}

impl Pulse {
    /// Keeps blocks coming where the node does not by itself.
    async fn of(node: &DevNode) -> anyhow::Result<Option<Self>> {
        let beat = if node.mine().await? {
            Beat::Ordered
        } else if mines_alone(node).await? {
            return Ok(None);
        } else {
            say(&format!(
                "{} mines only what it is sent, so it is sent an empty payment every {} s",
                node.version(),
                NUDGE_TIME.as_secs()
            ));
            Beat::Nudged
        };
        let (node, gate) = (node.clone(), Arc::<Mutex<()>>::default());
        let held = Arc::clone(&gate);
        let task = tokio::spawn(async move {
            loop {
                let turn = held.lock().await;
                // A node that fails to answer once is asked again; one that is gone shows in the scenes.
                let (asked, span) = match beat {
                    Beat::Ordered => (node.mine().await.map(drop), BLOCK_TIME),
                    Beat::Nudged => (node.nudge().await, NUDGE_TIME),
                };
                drop((turn, asked));
                tokio::time::sleep(span).await;
            }
        });
        Ok(Some(Self { task, gate }))
    }
}

async fn mines_alone(node: &DevNode) -> anyhow::Result<bool> {
    let (before, until) = (node.height().await?, Instant::now() + WATCHED);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if node.height().await? > before {
            return Ok(true);
        }
    }
    Ok(false)
}
