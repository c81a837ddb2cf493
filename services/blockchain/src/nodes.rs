//! The nodes of all configured chains.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::transports::BoxTransport;
use custos_domain::{ChainId, NodeName};

use crate::BlockchainError;
use crate::node::Node;
use crate::settings::{BlockchainConfig, ChainConfig};

/// The nodes of all configured chains. Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    chains: Arc<BTreeMap<ChainId, Arc<Chain>>>,
}

/// A chain with its nodes.
pub(crate) struct Chain {
    pub(crate) config: ChainConfig,
    pub(crate) nodes: Vec<Arc<Node>>,
}

impl Nodes {
    /// Reaches out to every configured node. One that does not answer now is asked for its chain again before its first use.
    ///
    /// # Errors
    /// A node serves another chain, or its address cannot be used.
    pub async fn connect(config: &BlockchainConfig) -> Result<Self, BlockchainError> {
        let mut chains = BTreeMap::new();
        for chain in &config.chains {
            let mut nodes = Vec::new();
            for entry in &chain.nodes {
                let node = Node::new(chain, entry)?;
                match node.verify().await {
                    Err(error) if error.retryable() => tracing::warn!(%error, "a node does not answer yet"),
                    verified => verified?,
                }
                nodes.push(Arc::new(node));
            }
            chains.insert(chain.chain.clone(), Arc::new(Chain { config: chain.clone(), nodes }));
        }
        Ok(Self { chains: Arc::new(chains) })
    }

    /// The configured nodes, each over the transport that `reach` gives for it instead of its address. A transport ends every
    /// request on its own: nothing here times it. Each node is asked for its chain before its first use.
    #[must_use]
    pub fn over(config: &BlockchainConfig, mut reach: impl FnMut(&ChainId, &NodeName) -> BoxTransport) -> Self {
        let mut chains = BTreeMap::new();
        for chain in &config.chains {
            let names = chain.nodes.iter().map(|entry| entry.name.clone());
            let nodes = names.map(|name| {
                let transport = reach(&chain.chain, &name);
                Arc::new(Node::over(chain, name, transport))
            });
            let nodes = nodes.collect();
            chains.insert(chain.chain.clone(), Arc::new(Chain { config: chain.clone(), nodes }));
        }
        Self { chains: Arc::new(chains) }
    }

    pub(crate) fn chain(&self, chain: &ChainId) -> Result<&Arc<Chain>, BlockchainError> {
        self.chains.get(chain).ok_or_else(|| BlockchainError::UnknownChain(chain.clone()))
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chains.values()
    }
}
