//! What a node says about fees, by geth's rules: suggestions come from the tips of recent blocks.

use alloy::{consensus::Transaction, eips::BlockNumberOrTag, primitives::U64, rpc::types::FeeHistory};
use serde_json::Number;

use super::{Answer, Args, RpcError, json, quantity, view::View};
use crate::block::Block;

/// Blocks that a suggestion looks at.
const LOOK_BACK: u64 = 20;
/// Lowest tips taken from each block.
const PER_BLOCK: usize = 3;
/// Which of all tips is suggested, in percent.
const PERCENTILE: usize = 60;
/// What an empty block counts as, in wei per gas: geth on an idle chain says one wei.
const IDLE_TIP: u128 = 1;
/// Blocks that a fee history may span.
const HISTORY_MAX: u64 = 1_024;
/// Percentiles are counted in millionths of a percent.
const WHOLE: u128 = 100_000_000;

/// The tip to offer, in wei per gas.
pub(super) fn suggested_tip(view: &View<'_>) -> u128 {
    let head = view.head().number();
    let mut tips: Vec<u128> = Vec::new();
    // Like geth, never the genesis block.
    for number in head.saturating_add(1).saturating_sub(LOOK_BACK).max(1)..=head {
        let Some(block) = view.by_number(number.into()) else { continue };
        let mut found: Vec<u128> =
            tips_and_gas(block).into_iter().map(|(tip, _)| tip).filter(|tip| *tip > IDLE_TIP).collect();
        found.truncate(PER_BLOCK);
        if found.is_empty() {
            found.push(IDLE_TIP);
        }
        tips.extend(found);
    }
    tips.sort_unstable();
    let place = tips.len().saturating_sub(1).saturating_mul(PERCENTILE) / 100;
    tips.get(place).copied().unwrap_or(IDLE_TIP)
}

pub(super) fn gas_price(view: &View<'_>) -> Answer {
    quantity(u128::from(view.head().base_fee()).saturating_add(suggested_tip(view)))
}

/// Effective tips with the gas that paid them, lowest first.
fn tips_and_gas(block: &Block) -> Vec<(u128, u64)> {
    let base_fee = block.base_fee();
    let tip = |tx: &alloy::consensus::TxEnvelope| tx.effective_tip_per_gas(base_fee).unwrap_or_default();
    let mut tips: Vec<(u128, u64)> = block.included.iter().map(|one| (tip(&one.signed.tx), one.gas_used)).collect();
    tips.sort_unstable();
    tips
}

pub(super) fn history(view: &View<'_>, args: &Args) -> Answer {
    let count = args.required::<U64>(0)?.to::<u64>().min(HISTORY_MAX);
    let newest = view.number(args.required::<BlockNumberOrTag>(1)?);
    if newest > view.head().number() {
        return Err(RpcError::server(format!(
            "request beyond head block: requested {newest}, head {}",
            view.head().number()
        )));
    }
    let percentiles: Vec<Number> = args.optional(2)?.unwrap_or_default();
    let percentiles = percentiles.iter().map(millionths).collect::<Result<Vec<u128>, RpcError>>()?;
    if !percentiles.is_sorted() {
        return Err(RpcError::server("invalid reward percentile: not in ascending order"));
    }
    let oldest = newest.saturating_add(1).saturating_sub(count);
    let blocks: Vec<_> = (oldest..=newest).filter_map(|number| view.by_number(number.into())).collect();
    let mut base_fees: Vec<u128> = blocks.iter().map(|block| block.base_fee().into()).collect();
    let next = match view.by_number(newest.saturating_add(1).into()) {
        Some(block) => block.base_fee(),
        None => view.chain.upcoming_base_fee(),
    };
    base_fees.push(next.into());
    json(FeeHistory {
        gas_used_ratio: blocks.iter().map(|block| ratio(block.header.gas_used, block.header.gas_limit)).collect(),
        base_fee_per_blob_gas: vec![1; base_fees.len()],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        base_fee_per_gas: base_fees,
        oldest_block: oldest,
        reward: (!percentiles.is_empty()).then(|| blocks.iter().map(|block| rewards(block, &percentiles)).collect()),
    })
}

fn rewards(block: &Block, percentiles: &[u128]) -> Vec<u128> {
    let tips = tips_and_gas(block);
    let total = u128::from(block.header.gas_used);
    let at = |percentile: &u128| {
        let threshold = total.saturating_mul(*percentile) / WHOLE;
        let mut sum: u128 = 0;
        let reached = tips.iter().find(|(_, gas)| {
            sum = sum.saturating_add(u128::from(*gas));
            sum >= threshold
        });
        reached.or(tips.last()).map(|(tip, _)| *tip).unwrap_or_default()
    };
    percentiles.iter().map(at).collect()
}

/// A percentile such as `12.5` as millionths of a percent, without floating point.
fn millionths(number: &Number) -> Result<u128, RpcError> {
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let padded: String = part.chars().chain("000000".chars()).take(6).collect();
    let value = format!("{whole}{padded}").parse::<u128>().ok().filter(|value| *value <= WHOLE);
    value.ok_or_else(|| RpcError::server(format!("invalid reward percentile: {text}")))
}

/// `used / limit` with six places, as the wire wants it.
fn ratio(used: u64, limit: u64) -> f64 {
    let millionths = u128::from(used).saturating_mul(1_000_000) / u128::from(limit.max(1));
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_without_floating_point() {
        let read = |text: &str| millionths(&serde_json::from_str(text).expect("number"));
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("12.5"), Ok(12_500_000));
        assert_eq!(read("100"), Ok(WHOLE));
        assert!(read("100.1").is_err());
        assert!(read("-1").is_err());
    }
}
