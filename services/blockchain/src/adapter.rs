//! The service: answers treasury's questions about fees, and gives its bytes to the nodes.
//!
//! Invariants: the bytes go out as they came; an effect that is not known is said to be tried again, which is harmless because
//! the bytes are the same. Deliberately absent: memory of any kind, and any decision about nonces or fees.

use std::sync::Arc;

use alloy::primitives::{Address, Bytes, U256, keccak256};
use custos_domain::TxHash;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{Estimated, FeeQuote, SendOutcome, Sent, TreasuryInput};
use custos_messages::{Mail, Source, Topic};
use custos_runtime::service::{Service, Setback};

use crate::BlockchainError;
use crate::estimate::{Question, estimate};
use crate::node::{CallRequest, Node};
use crate::nodes::{Chain, Nodes};
use crate::verdict::{together, verdict};

/// The service.
pub struct Adapter {
    nodes: Nodes,
}

impl Adapter {
    /// An adapter of these nodes.
    #[must_use]
    pub const fn new(nodes: Nodes) -> Self {
        Self { nodes }
    }

    async fn answer(&self, command: BlockchainCommand) -> Result<TreasuryInput, BlockchainError> {
        let BlockchainCommand { id, wallet, chain, order } = command;
        let chain = self.nodes.chain(&chain)?;
        Ok(match order {
            BlockchainOrder::Estimate { intent, from, kind, to, value, data } => {
                let call = CallRequest {
                    from: Address::from(from.0),
                    to: Address::from(to.0),
                    value: U256::from(value.base_units()),
                    data: data.into(),
                };
                let quote = ask(chain, &Question { call, kind, tip_floor: chain.config.tip_floor }).await?;
                TreasuryInput::Estimated(Estimated { command: id, wallet, intent, quote })
            }
            BlockchainOrder::Send { tx, raw } => {
                let outcome = send(chain, tx, raw.into()).await;
                TreasuryInput::Sent(Sent { command: id, wallet, tx, outcome })
            }
        })
    }
}

impl Service for Adapter {
    type Command = BlockchainCommand;

    const NAME: &'static str = "blockchain";
    const COMMANDS: Topic = Topic::BlockchainCommands;
    const SOURCE: Source = Source::Blockchain;

    async fn handle(&self, command: BlockchainCommand) -> Result<Vec<Mail>, Setback> {
        let answer = self.answer(command).await.map_err(BlockchainError::into_setback)?;
        Ok(vec![Mail::Treasury(answer)])
    }
}

/// The first answer of any node; the last error when none answers.
async fn ask(chain: &Chain, question: &Question) -> Result<FeeQuote, BlockchainError> {
    let mut failure = BlockchainError::UnknownChain(chain.config.chain.clone());
    for node in &chain.nodes {
        match estimate(node, question).await {
            Ok(quote) => return Ok(quote),
            Err(error) => {
                tracing::warn!(%error, "a node gives no estimate");
                failure = error;
            }
        }
    }
    Err(failure)
}

/// Gives the bytes to all nodes at once.
async fn send(chain: &Chain, tx: TxHash, raw: Bytes) -> SendOutcome {
    if keccak256(&raw).0 != tx.0 {
        tracing::error!(%tx, "bytes that are not the transaction they are said to be");
        return SendOutcome::Invalid;
    }
    let sends = chain.nodes.iter().map(|node| send_to(Arc::clone(node), tx, raw.clone()));
    together(futures::future::join_all(sends).await)
}

async fn send_to(node: Arc<Node>, tx: TxHash, raw: Bytes) -> SendOutcome {
    match node.send(&raw).await {
        Ok(hash) if hash.0 == tx.0 => SendOutcome::InPool,
        Ok(hash) => {
            tracing::error!(node = node.name().as_str(), %tx, %hash, "a node took the bytes under another hash");
            SendOutcome::Retry
        }
        Err(BlockchainError::Refused { message, .. }) => {
            let outcome = verdict(&message);
            tracing::info!(node = node.name().as_str(), %tx, message, ?outcome, "a node refuses the bytes");
            outcome
        }
        Err(error) => {
            tracing::warn!(%tx, %error, "whether a node has the bytes is not known");
            SendOutcome::Retry
        }
    }
}
