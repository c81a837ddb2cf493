//! One block to what concerns us in it: transfers to our addresses, and transactions from our hot addresses.
//!
//! Everything is read by the block's hash, so that a reorganisation in between cannot mix two branches. Amounts of more than 128
//! bits are not reported, and counted.

use std::cell::Cell;
use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use custos_domain::{Amount, AssetId, EthAddress, TxHash};
use custos_messages::chain::{SpendSeen, TransferSeen};
use custos_messages::watch::{AddressRole, WatchedAddress};

use crate::BlockchainError;
use crate::metrics::NodeMetrics;
use crate::node::{Block, Node, Receipt};
use crate::settings::ChainConfig;
use crate::{frames, tokens};

/// Where the positions of ether begin among the indexes of a transaction's transfers; below are log indexes.
const ETHER_INDEX: u64 = 1_000_000;
/// A transaction that used no more than this executed no code.
const PLAIN_GAS: u64 = 21_000;

/// Where a block is looked at.
pub(crate) struct Scene<'a> {
    pub(crate) node: &'a Node,
    pub(crate) config: &'a ChainConfig,
    pub(crate) watched: &'a BTreeMap<Address, WatchedAddress>,
    pub(crate) metrics: &'a NodeMetrics,
    /// Learned by whichever block of a stretch shows it first.
    pub(crate) tracing: &'a Cell<Tracing>,
}

/// Money that came to one of our addresses.
pub(crate) struct Move {
    pub(crate) tx: B256,
    pub(crate) index: u64,
    pub(crate) from: EthAddress,
    pub(crate) to: Address,
    pub(crate) asset: AssetId,
    pub(crate) value: U256,
}

/// What is known of whether the node traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// Not asked yet.
    Unknown,
    /// It traced a block.
    Offered,
    /// It has no such method: ether that moves inside transactions is not seen by this follower.
    Absent,
}

/// What concerns us in a block.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) transfers: Vec<TransferSeen>,
    pub(crate) spends: Vec<SpendSeen>,
}

/// Looks through `block`.
pub(crate) async fn scan(scene: &Scene<'_>, block: &Block) -> Result<Found, BlockchainError> {
    if block.transactions.is_empty() || scene.watched.is_empty() {
        return Ok(Found::default());
    }
    let receipts = scene.node.receipts(block).await?;
    let mut moves = ether(scene, block, &receipts).await?;
    moves.extend(tokens::transfers(scene, block, &receipts).await?);
    let mut transfers: Vec<TransferSeen> = moves.into_iter().filter_map(|one| seen(scene, block, one)).collect();
    transfers.sort_by_key(|seen| (seen.tx, seen.index));
    Ok(Found { transfers, spends: spends(scene, block, &receipts)? })
}

fn seen(scene: &Scene<'_>, block: &Block, one: Move) -> Option<TransferSeen> {
    let ours = scene.watched.get(&one.to)?;
    let (Ok(index), Ok(units)) = (u32::try_from(one.index), u128::try_from(one.value)) else {
        tracing::error!(block = %block.hash, tx = %one.tx, asset = %one.asset, value = %one.value, "an amount fits no field");
        scene.metrics.unreported("amount-too-large", 1);
        return None;
    };
    Some(TransferSeen {
        tx: TxHash(one.tx.0),
        index,
        from: one.from,
        to: ours.address,
        account: ours.account,
        asset: one.asset,
        amount: Amount::new(units),
    })
}

async fn ether(scene: &Scene<'_>, block: &Block, receipts: &[Receipt]) -> Result<Vec<Move>, BlockchainError> {
    let code_ran = receipts.iter().any(|receipt| receipt.gas_used.to::<u64>() > PLAIN_GAS);
    if code_ran && let Some(moves) = traced(scene, block, receipts).await? {
        return Ok(moves);
    }
    let plain = block.transactions.iter().zip(receipts).filter_map(|(tx, receipt)| {
        let to = tx.to.filter(|to| *to != tx.from && succeeded(receipt) && scene.watched.contains_key(to))?;
        let index = ETHER_INDEX;
        let (from, asset) = (EthAddress(tx.from.0.0), scene.config.native.clone());
        (!tx.value.is_zero()).then_some(Move { tx: tx.hash, index, from, to, asset, value: tx.value })
    });
    Ok(plain.collect())
}

/// Ether by call traces; `None` when the node has none.
async fn traced(scene: &Scene<'_>, block: &Block, receipts: &[Receipt]) -> Result<Option<Vec<Move>>, BlockchainError> {
    let method = "debug_traceBlockByHash";
    if scene.tracing.get() == Tracing::Absent {
        return Ok(None);
    }
    let answer = scene.node.traces(block).await?;
    // Another block may have taught it meanwhile.
    let Some(text) = answer else {
        if scene.tracing.get() == Tracing::Offered {
            return Err(scene.node.nonsense(method, "a node that traced before says that it cannot"));
        }
        if scene.tracing.replace(Tracing::Absent) == Tracing::Unknown {
            tracing::warn!(
                node = scene.node.name().as_str(),
                "the node does not trace: ether sent by contracts is not seen"
            );
            scene.metrics.traces(false);
        }
        return Ok(None);
    };
    let traces = frames::read(text.get().to_owned()).await?.map_err(|problem| scene.node.nonsense(method, problem))?;
    let same =
        |(trace, receipt): (&frames::TracedTransaction, &Receipt)| trace.tx.is_none_or(|tx| tx == receipt.transaction_hash);
    if traces.len() != receipts.len() || !traces.iter().zip(receipts).all(same) {
        return Err(scene.node.nonsense(method, format!("not the transactions of {}", block.hash)));
    }
    let known = scene.tracing.replace(Tracing::Offered);
    if known != Tracing::Offered {
        scene.metrics.traces(true);
    }
    if known == Tracing::Absent {
        // Blocks of this stretch were looked through without traces.
        return Err(scene.node.nonsense(method, "a node that said that it cannot trace does"));
    }
    let moves = traces.into_iter().zip(receipts).filter(|(_, receipt)| succeeded(receipt)).flat_map(|(trace, receipt)| {
        trace.moves.into_iter().filter(|one| scene.watched.contains_key(&one.to)).map(|one| Move {
            tx: receipt.transaction_hash,
            index: ETHER_INDEX.saturating_add(one.position.into()),
            from: EthAddress(one.from.0.0),
            to: one.to,
            asset: scene.config.native.clone(),
            value: one.value,
        })
    });
    Ok(Some(moves.collect()))
}

fn succeeded(receipt: &Receipt) -> bool {
    receipt.status.to::<u64>() == 1
}

fn spends(scene: &Scene<'_>, block: &Block, receipts: &[Receipt]) -> Result<Vec<SpendSeen>, BlockchainError> {
    let mut spends = Vec::new();
    for (tx, receipt) in block.transactions.iter().zip(receipts) {
        let Some(ours) = scene.watched.get(&tx.from).filter(|ours| ours.role == AddressRole::Hot) else { continue };
        let fee = receipt.effective_gas_price.checked_mul(U256::from(receipt.gas_used));
        let fee = fee.and_then(|fee| u128::try_from(fee).ok());
        let fee = fee.ok_or_else(|| scene.node.nonsense("eth_getBlockReceipts", format!("the fee of {}", tx.hash)))?;
        spends.push(SpendSeen {
            wallet: ours.wallet,
            tx: TxHash(tx.hash.0),
            nonce: tx.nonce.to(),
            fee: Amount::new(fee),
            succeeded: succeeded(receipt),
        });
    }
    Ok(spends)
}
