//! `eth_getLogs` with geth's limits and errors.

use std::sync::Arc;

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, FilterBlockOption, Log},
};
use serde_json::Value;

use super::{Answer, Args, RpcError, json, view::View};
use crate::block::Block;

/// Alternatives that one topic position may list.
const TOPICS_MAX: usize = 1_000;

pub(super) fn logs(view: &View<'_>, args: &Args) -> Answer {
    let raw: Value = args.required(0)?;
    let topics = raw.get("topics").and_then(Value::as_array);
    let too_many = |position: &Value| position.as_array().is_some_and(|list| list.len() > TOPICS_MAX);
    if topics.is_some_and(|topics| topics.len() > 4 || topics.iter().any(too_many)) {
        return Err(RpcError::invalid("exceed max topics"));
    }
    let filter: Filter = args.required(0)?;
    let mut found: Vec<Log> = Vec::new();
    for block in blocks(view, &filter)? {
        found.extend(block.logs().filter(|log| filter.matches(&log.inner)));
    }
    json(found)
}

fn blocks<'a>(view: &View<'a>, filter: &Filter) -> Result<Vec<&'a Arc<Block>>, RpcError> {
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            Ok(vec![view.by_hash(hash).ok_or_else(|| RpcError::server("unknown block"))?])
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let first = view.number(from_block.unwrap_or(BlockNumberOrTag::Latest));
            let last = view.number(to_block.unwrap_or(BlockNumberOrTag::Latest));
            if first > last {
                return Err(RpcError::invalid("invalid block range params"));
            }
            if last > view.head().number() {
                return Err(RpcError::invalid("block range extends beyond current head block"));
            }
            Ok((first..=last).filter_map(|number| view.by_number(number.into())).collect())
        }
    }
}
