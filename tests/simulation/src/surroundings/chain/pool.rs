//! A pool of transactions with geth's rules and geth's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256};

use super::block::{Coin, PLAIN_GAS, State, Tx};

/// Percent to which a replacement must raise both fee fields.
const BUMP_PERCENT: u128 = 110;

/// Why a node does not take a transaction, in geth's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// Transactions that wait, by sender and nonce.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    waiting: BTreeMap<(Address, u64), Arc<Tx>>,
}

impl Pool {
    /// Checks `tx` in geth's order against the balances at the head, and holds it.
    ///
    /// # Errors
    /// What geth says.
    pub fn add(&mut self, tx: &Arc<Tx>, state: &State) -> Result<(), Refused> {
        let no = |words: &str| Err(Refused(words.to_owned()));
        if self.holds(&tx.hash) {
            return no("already known");
        }
        if tx.tip > tx.max_fee {
            return no("max priority fee per gas higher than max fee per gas");
        }
        if tx.gas_limit < PLAIN_GAS {
            return no("intrinsic gas too low");
        }
        if tx.tip == 0 {
            return no("transaction gas price below minimum: gas tip cap 0, minimum needed 1");
        }
        let next = state.nonce(&tx.from);
        if tx.nonce < next {
            return Err(Refused(format!("nonce too low: next nonce {next}, tx nonce {}", tx.nonce)));
        }
        let balance = state.balance(Coin::Ether, &tx.from);
        let earlier = self.waiting.get(&(tx.from, tx.nonce));
        let queued = self.pending_cost(&tx.from, next).saturating_sub(earlier.map_or(0, |earlier| earlier.cost()));
        if balance < queued.saturating_add(tx.cost()) {
            return Err(Refused(format!(
                "insufficient funds for gas * price + value: balance {balance}, tx cost {}",
                tx.cost()
            )));
        }
        if earlier.is_some_and(|earlier| !raised(earlier.max_fee, tx.max_fee) || !raised(earlier.tip, tx.tip)) {
            return no("replacement transaction underpriced");
        }
        self.put(tx);
        Ok(())
    }

    /// Holds `tx` whatever it is.
    pub fn put(&mut self, tx: &Arc<Tx>) {
        self.waiting.insert((tx.from, tx.nonce), Arc::clone(tx));
    }

    /// What the sender's transactions from `next` on without a gap may cost.
    fn pending_cost(&self, from: &Address, next: u64) -> u128 {
        let own = self.waiting.range((*from, next)..).take_while(|((sender, _), _)| sender == from);
        let run = own.zip(next..).take_while(|(((_, nonce), _), expected)| nonce == expected);
        run.fold(0_u128, |sum, ((_, tx), _)| sum.saturating_add(tx.cost()))
    }

    /// Whether it holds this one.
    #[must_use]
    pub fn holds(&self, hash: &B256) -> bool {
        self.waiting.values().any(|tx| tx.hash == *hash)
    }

    /// Everything, by sender and nonce.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Tx>> {
        self.waiting.values()
    }

    /// Takes one out.
    pub fn drop_one(&mut self, hash: &B256) {
        self.waiting.retain(|_, tx| tx.hash != *hash);
    }

    /// Forgets what `state` has made impossible.
    pub fn settle(&mut self, state: &State) {
        self.waiting.retain(|(from, nonce), _| *nonce >= state.nonce(from));
    }
}

/// At least ten percent more, rounded down, and more.
fn raised(old: u128, new: u128) -> bool {
    new > old && new >= old.saturating_mul(BUMP_PERCENT) / 100
}
