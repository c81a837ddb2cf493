//! Token transfers to our addresses: what the contract's events say, credited only if its balances agree.
//!
//! A token may say one thing and do another (fee on transfer, rebasing, a faulty or hostile contract). For each token and address
//! of ours the balance before and after the block must differ by exactly what the events say; otherwise none of that block's
//! transfers of that token to that address is reported, and a human hears of it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use custos_domain::{AssetId, EthAddress};

use crate::BlockchainError;
use crate::node::{Block, Erc20, Log, Receipt};
use crate::scan::{Move, Scene};

/// One `Transfer` of a listed token.
struct TokenMove<'a> {
    asset: &'a AssetId,
    token: Address,
    tx: B256,
    index: u64,
    from: Address,
    to: Address,
    value: U256,
}

/// What the events say of one token and one address of ours.
#[derive(Default)]
struct Sums {
    received: U256,
    sent: U256,
    overflow: bool,
}

/// The credible token transfers of a block to our addresses.
pub(crate) async fn transfers(scene: &Scene<'_>, block: &Block, receipts: &[Receipt]) -> Result<Vec<Move>, BlockchainError> {
    let moves: Vec<TokenMove<'_>> = receipts
        .iter()
        .flat_map(|receipt| receipt.logs.iter().filter_map(|log| token_move(scene, receipt.transaction_hash, log)))
        .collect();
    let mut sums: BTreeMap<(Address, Address), Sums> = BTreeMap::new();
    for one in &moves {
        let ours = |address: &Address| scene.watched.contains_key(address);
        if ours(&one.to) {
            sums.entry((one.token, one.to)).or_default().receive(one.value);
        }
        if ours(&one.from) {
            sums.entry((one.token, one.from)).or_default().send(one.value);
        }
    }
    // Only who receives from somebody else can be credited.
    let credited = |one: &&TokenMove<'_>| one.from != one.to && !one.value.is_zero();
    let mut found = Vec::new();
    for ((token, address), said) in sums {
        let to_here: Vec<&TokenMove<'_>> =
            moves.iter().filter(|one| one.token == token && one.to == address).filter(credited).collect();
        if to_here.is_empty() {
            continue;
        }
        if agrees(scene, block, token, address, &said).await? {
            found.extend(to_here.into_iter().map(TokenMove::credited));
        } else {
            let transfers = u64::try_from(to_here.len()).unwrap_or(u64::MAX);
            tracing::error!(block = %block.hash, %token, %address, transfers, "a token's balances disagree with its events");
            scene.metrics.unreported("token-balance-disagrees", transfers);
        }
    }
    Ok(found)
}

async fn agrees(
    scene: &Scene<'_>,
    block: &Block,
    token: Address,
    address: Address,
    said: &Sums,
) -> Result<bool, BlockchainError> {
    let before = scene.node.token_balance(token, address, block.parent_hash).await?;
    let after = scene.node.token_balance(token, address, block.hash).await?;
    Ok(said.explains(before, after))
}

impl Sums {
    fn receive(&mut self, value: U256) {
        let (sum, overflow) = self.received.overflowing_add(value);
        (self.received, self.overflow) = (sum, self.overflow || overflow);
    }

    fn send(&mut self, value: U256) {
        let (sum, overflow) = self.sent.overflowing_add(value);
        (self.sent, self.overflow) = (sum, self.overflow || overflow);
    }

    /// Whether before + received = after + sent.
    fn explains(&self, before: Option<U256>, after: Option<U256>) -> bool {
        // A contract that was deployed in this very block had no balances before it.
        let (before, Some(after)) = (before.unwrap_or_default(), after) else { return false };
        let left = before.checked_add(self.received);
        !self.overflow && left.is_some() && left == after.checked_add(self.sent)
    }
}

impl TokenMove<'_> {
    fn credited(&self) -> Move {
        Move {
            tx: self.tx,
            index: self.index,
            from: EthAddress(self.from.0.0),
            to: self.to,
            asset: self.asset.clone(),
            value: self.value,
        }
    }
}

fn token_move<'a>(scene: &Scene<'a>, tx: B256, log: &Log) -> Option<TokenMove<'a>> {
    let asset = scene.config.tokens.get(&EthAddress(log.address.0.0))?;
    let [signature, from, to] = log.topics.as_slice() else { return None };
    if *signature != Erc20::Transfer::SIGNATURE_HASH || log.data.len() != 32 {
        return None;
    }
    Some(TokenMove {
        asset,
        token: log.address,
        tx,
        index: log.log_index.to(),
        from: Address::from_word(*from),
        to: Address::from_word(*to),
        value: U256::from_be_slice(&log.data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_balances_explain_what_events_say() {
        let units = U256::from::<u64>;
        let table = [
            (10, 0, Some(5), Some(15), true),
            (10, 0, Some(5), Some(14), false),
            (10, 0, Some(5), Some(16), false),
            (10, 4, Some(5), Some(11), true),
            (10, 15, Some(5), Some(0), true),
            (10, 16, Some(5), Some(0), false),
            (10, 0, None, Some(10), true),
            (10, 0, Some(0), None, false),
        ];
        for (received, sent, before, after, expected) in table {
            let mut said = Sums::default();
            said.receive(units(received));
            said.send(units(sent));
            assert_eq!(
                said.explains(before.map(units), after.map(units)),
                expected,
                "{received} {sent} {before:?} {after:?}"
            );
        }
        let mut said = Sums::default();
        said.receive(U256::MAX);
        said.receive(units(11));
        assert!(!said.explains(Some(units(0)), Some(units(10))));
    }
}
