//! What a call costs now, and what the hot address holds: one answer, from one node, at one block.
//!
//! Invariants: integers only; the gas limit is never below what the protocol asks before execution (EIP-7623) nor above what it
//! takes at all (EIP-7825); "would revert" only on the node's own word, and never because the hot address holds too little:
//! then the balances say so, and treasury waits for funds.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use custos_domain::{Amount, AssetKind};
use custos_messages::treasury::FeeQuote;

use crate::BlockchainError;
use crate::node::{CallRequest, Erc20, Node};

/// The most gas that a transaction may name (EIP-7825).
const GAS_MAX: u64 = 1 << 24;
/// What every transaction costs before execution.
const GAS_MIN: u64 = 21_000;
/// EIP-7623: gas per token of call data, of which a zero byte is one and any other four.
const FLOOR_PER_TOKEN: u64 = 10;
/// Named when nothing can be estimated because the funds are not there. Never signed: the balances forbid it.
const GAS_UNFUNDED: u64 = 100_000;

/// A question: what would this call cost from this address?
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) call: CallRequest,
    pub(crate) kind: AssetKind,
    /// The least tip to suggest.
    pub(crate) tip_floor: u128,
}

/// Asks `node`.
pub(crate) async fn estimate(node: &Node, question: &Question) -> Result<FeeQuote, BlockchainError> {
    let Question { call, kind, tip_floor } = question;
    let head = node.latest().await?;
    let native = node.balance(call.from, head.hash).await?;
    let asset = match kind {
        AssetKind::Native => native,
        AssetKind::Erc20 { contract } => {
            let contract = Address::from(contract.0);
            let balance = node.token_balance(contract, call.from, head.hash).await?;
            balance.ok_or_else(|| node.nonsense("eth_call", format!("{contract} does not say a balance")))?
        }
    };
    let next_nonce = node.nonce(call.from, head.hash).await?;
    let unfunded = native < call.value || asset < paid(call);
    let gas = match node.gas(call).await {
        Ok(gas) => gas,
        Err(BlockchainError::Refused { .. }) if unfunded => None,
        Err(error) => return Err(error),
    };
    let gas_limit = match gas {
        Some(gas) => limit(gas, &call.data),
        None if unfunded => limit(GAS_UNFUNDED, &call.data),
        None => return Ok(FeeQuote::WouldRevert),
    };
    let amount = |what: &str, value: U256| {
        u128::try_from(value).map(Amount::new).map_err(|_| node.nonsense("estimate", format!("{what} of {value}")))
    };
    let tip = node.tip().await?.max(U256::from(*tip_floor)).max(U256::from(1_u8));
    let base_fee = head.base_fee_per_gas.unwrap_or_default();
    Ok(FeeQuote::Quote {
        gas_limit,
        max_fee_per_gas: amount("fee", base_fee.saturating_mul(U256::from(2_u8)).saturating_add(tip))?,
        max_priority_fee_per_gas: amount("tip", tip)?,
        native_balance: at_most(native),
        asset_balance: at_most(asset),
        next_nonce,
    })
}

/// The token amount that the call pays, if it is an ERC-20 transfer.
fn paid(call: &CallRequest) -> U256 {
    Erc20::transferCall::abi_decode(&call.data).map(|transfer| transfer.amount).unwrap_or_default()
}

/// A balance may be more than an amount can say; then that much is enough.
fn at_most(balance: U256) -> Amount {
    Amount::new(balance.saturating_to())
}

/// The limit to sign: a fifth more than needed now, within the protocol's bounds.
fn limit(gas: u64, data: &Bytes) -> u64 {
    let tokens = data.iter().map(|byte| if *byte == 0 { 1_u64 } else { 4 }).fold(0, u64::saturating_add);
    let floor = GAS_MIN.saturating_add(tokens.saturating_mul(FLOOR_PER_TOKEN));
    gas.saturating_add(gas.div_ceil(5)).max(floor).min(GAS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_has_a_margin_a_floor_and_a_cap() {
        let table: [(u64, &[u8], u64); 6] = [
            (21_000, &[], 25_200),
            (0, &[], 21_000),
            (50_001, &[], 60_002),
            // 21000 + 10 * (3 + 4 * 1000)
            (22_000, &[vec![0_u8; 3], vec![1; 1_000]].concat(), 61_030),
            (16_000_000, &[], 16_777_216),
            (u64::MAX, &[], 16_777_216),
        ];
        for (gas, data, expected) in table {
            assert_eq!(limit(gas, &Bytes::copy_from_slice(data)), expected, "{gas}");
        }
    }
}
