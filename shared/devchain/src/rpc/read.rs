//! Blocks, transactions, receipts and accounts.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, TxHash, U256},
    rpc::types::BlockTransactionsKind,
};
use serde_json::{Value, json as object};

use super::{Answer, Args, json, quantity, view::View};
use crate::block::{Block, Included, waiting};

fn kind(full: Option<bool>) -> BlockTransactionsKind {
    if full.unwrap_or_default() { BlockTransactionsKind::Full } else { BlockTransactionsKind::Hashes }
}

pub(super) fn block_by_number(view: &View<'_>, args: &Args) -> Answer {
    let kind = kind(args.optional(1)?);
    let block = view.by_number(args.required::<BlockNumberOrTag>(0)?);
    json(block.map(|block| block.to_rpc(kind)))
}

pub(super) fn block_by_hash(view: &View<'_>, args: &Args) -> Answer {
    let kind = kind(args.optional(1)?);
    let block = view.by_hash(args.required::<B256>(0)?);
    json(block.map(|block| block.to_rpc(kind)))
}

pub(super) fn block_receipts(view: &View<'_>, args: &Args) -> Answer {
    let Some(block) = view.by_id(args.required::<BlockId>(0)?)? else { return Ok(Value::Null) };
    let receipts = (0_u64..).zip(&block.included).map(|(index, one)| block.receipt(index, one));
    json(receipts.collect::<Vec<_>>())
}

/// The canonical place of a transaction: block, index, and the transaction there.
fn find<'a>(view: &View<'a>, hash: &TxHash) -> Option<(&'a Block, u64, &'a Included)> {
    let (block, index) = view.place(hash)?;
    Some((block, u64::try_from(index).ok()?, block.included.get(index)?))
}

pub(super) fn transaction(view: &View<'_>, args: &Args) -> Answer {
    let hash: TxHash = args.required(0)?;
    match find(view, &hash) {
        Some((block, index, one)) => json(block.transaction(index, one)),
        None => json(view.chain.pool.get(&hash).map(waiting)),
    }
}

pub(super) fn receipt(view: &View<'_>, args: &Args) -> Answer {
    let hash: TxHash = args.required(0)?;
    json(find(view, &hash).map(|(block, index, one)| block.receipt(index, one)))
}

pub(super) fn nonce(view: &View<'_>, args: &Args) -> Answer {
    let address: Address = args.required(0)?;
    let id: Option<BlockId> = args.optional(1)?;
    let (_, world) = view.state(id)?;
    if id.is_some_and(|id| id.is_pending()) {
        return quantity(view.chain.pool.next_nonce(address, world));
    }
    quantity(world.nonce(address))
}

pub(super) fn balance(view: &View<'_>, args: &Args) -> Answer {
    let address: Address = args.required(0)?;
    let (_, world) = view.state(args.optional(1)?)?;
    json(world.balance(address))
}

pub(super) fn code(view: &View<'_>, args: &Args) -> Answer {
    let address: Address = args.required(0)?;
    let (_, world) = view.state(args.optional(1)?)?;
    json(world.code(address))
}

pub(super) fn storage(view: &View<'_>, args: &Args) -> Answer {
    let (address, slot): (Address, U256) = (args.required(0)?, args.required(1)?);
    let (_, world) = view.state(args.optional(2)?)?;
    json(B256::from(world.storage_at(address, slot)))
}

pub(super) fn pool_status(view: &View<'_>) -> Answer {
    let (_, world) = view.state(None)?;
    let (pending, queued) = view.chain.pool.status(world);
    Ok(object!({ "pending": format!("{pending:#x}"), "queued": format!("{queued:#x}") }))
}
