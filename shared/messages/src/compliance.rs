//! What the compliance service is asked. It answers in `accounts.inbox`.

use custos_domain::{AccountId, Amount, AssetId, ChainId, CommandId, EthAddress, SagaId};

/// A screening. Idempotent by `id`: a question, without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Derived from the content; the reply carries it.
    pub id: CommandId,
    /// The saga that asks.
    pub saga: SagaId,
    /// The account concerned.
    pub account: AccountId,
    /// Which way the money goes.
    pub direction: Direction,
    /// The counterparty.
    pub party: Party,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// What this account already sent out of this asset in the last 24 hours, this request not counted.
    pub sent_last_day: Amount,
    /// How many payments that was.
    pub sent_count_last_day: u32,
}

/// Which way money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// A deposit: the source is screened.
    In,
    /// A withdrawal: the destination is screened.
    Out,
    /// Between two accounts of the bank.
    Internal,
}

/// The other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// An address on a chain.
    Address {
        /// The chain.
        chain: ChainId,
        /// The address.
        address: EthAddress,
    },
    /// An account of the bank.
    Account(AccountId),
}
