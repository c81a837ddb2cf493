//! Accounts, addresses, balances and deposits.

use custos_readmodel as model;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Block, Money, Registry, time};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    pub id: String,
    /// The bank's own reference.
    pub key: String,
    /// When it was opened.
    pub opened_at: String,
}

/// A page of accounts, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountPage {
    /// The accounts.
    pub items: Vec<AccountView>,
    /// The cursor of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A deposit address. It is listed only once deposits to it are seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressView {
    /// The chain, CAIP-2.
    pub chain: String,
    /// The address with its EIP-55 checksum.
    pub address: String,
    /// The operation that issued it.
    pub operation: Option<String>,
    /// The derivation path.
    pub path: String,
    /// Deposits in blocks after this one are seen.
    pub watched_from: Block,
    /// When it was issued.
    pub issued_at: String,
}

/// The addresses of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Oldest first.
    pub items: Vec<AddressView>,
}

/// What an account has of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceView {
    /// The asset's code.
    pub asset: String,
    /// Free to use.
    pub available: Money,
    /// Taken out of available for running operations.
    pub held: Money,
    /// Arrived, not final.
    pub pending: Money,
    /// Arrived, and refused by screening.
    pub frozen: Money,
}

/// The balances of an account; assets that it never had are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalancesView {
    /// The account.
    pub account: String,
    /// By asset.
    pub items: Vec<BalanceView>,
}

/// A deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DepositView {
    /// The account.
    pub account: String,
    /// Its operation.
    pub operation: Option<String>,
    /// `pending`, `unseen`, `credited`, `quarantined` or `reversed`.
    pub status: String,
    /// The chain.
    pub chain: String,
    /// The transaction.
    pub tx: String,
    /// The transfer within the transaction.
    pub index: u32,
    /// The block where it was seen last.
    pub block: Block,
    /// Who sent it, as the transfer says.
    pub from: String,
    /// Our address.
    pub to: String,
    /// What.
    pub money: Money,
    /// When it was first seen.
    pub seen_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A page of deposits, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DepositPage {
    /// The deposits.
    pub items: Vec<DepositView>,
    /// The cursor of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<model::Account> for AccountView {
    fn from(account: model::Account) -> Self {
        Self { id: account.account.to_string(), key: account.key, opened_at: time(account.opened_at) }
    }
}

impl From<model::AddressRow> for AddressView {
    fn from(row: model::AddressRow) -> Self {
        Self {
            chain: row.chain.to_string(),
            address: row.address.to_string(),
            operation: row.saga.map(|saga| saga.to_string()),
            path: row.path,
            watched_from: row.watched_from.into(),
            issued_at: time(row.issued_at),
        }
    }
}

impl BalanceView {
    pub(crate) fn of(registry: &Registry, row: &model::Balances) -> Self {
        let money = |amount| registry.money(&row.asset, amount);
        Self {
            asset: row.asset.to_string(),
            available: money(row.available),
            held: money(row.held),
            pending: money(row.pending),
            frozen: money(row.frozen),
        }
    }
}

impl DepositView {
    pub(crate) fn of(registry: &Registry, row: &model::DepositView) -> Self {
        let deposit = &row.deposit;
        Self {
            account: row.account.to_string(),
            operation: row.saga.map(|saga| saga.to_string()),
            status: row.status.as_str().to_owned(),
            chain: deposit.chain.to_string(),
            tx: deposit.tx.to_string(),
            index: deposit.index,
            block: deposit.block.into(),
            from: deposit.from.to_string(),
            to: deposit.to.to_string(),
            money: registry.money(&deposit.asset, deposit.amount),
            seen_at: time(row.seen_at),
            updated_at: time(row.updated_at),
        }
    }
}
