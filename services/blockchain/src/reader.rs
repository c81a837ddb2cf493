//! Reads balances for operators: what `books` compares with the ledger.

use alloy::primitives::{Address, B256, U256};
use custos_domain::{Amount, BlockHash, ChainId};
use custos_runtime::ops::{ChainReader, Holding};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::node::Node;
use crate::nodes::Nodes;

/// Reads chains through the configured nodes: the first that has the block on its canonical chain answers.
pub struct BalanceReader {
    nodes: Nodes,
}

impl BalanceReader {
    /// A reader of these nodes.
    #[must_use]
    pub const fn new(nodes: Nodes) -> Self {
        Self { nodes }
    }
}

#[tonic::async_trait]
impl ChainReader for BalanceReader {
    async fn balances(&self, chain: &ChainId, block: &BlockHash, holdings: &[Holding]) -> Result<Vec<Amount>, String> {
        let chain = self.nodes.chain(chain).map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        for node in &chain.nodes {
            match read(node, B256::from(block.0), holdings).await {
                Ok(amounts) => return Ok(amounts),
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("; "))
    }
}

/// Requests to the node at a time.
const AT_ONCE: usize = 16;

async fn read(node: &Node, block: B256, holdings: &[Holding]) -> Result<Vec<Amount>, String> {
    canonical(node, block).await?;
    let asked: Vec<_> = holdings.iter().map(|holding| held(node, block, holding)).collect();
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

async fn held(node: &Node, block: B256, holding: &Holding) -> Result<Amount, String> {
    let address = Address::from(holding.address.0);
    let held = match holding.contract {
        None => node.balance(address, block).await.map_err(|error| error.to_string())?,
        Some(contract) => {
            let said = node.token_balance(Address::from(contract.0), address, block).await;
            said.map_err(|error| error.to_string())?
                .ok_or_else(|| format!("the contract {contract} does not say a balance"))?
        }
    };
    amount(held)
}

fn amount(held: U256) -> Result<Amount, String> {
    u128::try_from(held).map(Amount::new).map_err(|_| format!("a balance of {held} base units fits no amount"))
}

/// Nodes also answer for blocks that they have left.
async fn canonical(node: &Node, block: B256) -> Result<(), String> {
    let name = node.name().as_str();
    let header = node.header_of(block).await.map_err(|error| error.to_string())?;
    let header = header.ok_or_else(|| format!("node {name} does not know block {block}"))?;
    let there = node.header_at(header.number.to()).await.map_err(|error| error.to_string())?;
    if there.is_some_and(|there| there.hash == block) {
        Ok(())
    } else {
        Err(format!("block {block} is not on the canonical chain of node {name}"))
    }
}
