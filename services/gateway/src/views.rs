//! What the bank reads: the JSON shapes of accounts, operations, approvals, events and books.
//!
//! Amounts are decimal strings in the asset's unit with base units beside them; times are RFC 3339 in UTC with milliseconds; words
//! are open lists, to which new ones may be added. Shared with clients written in Rust, such as the command line.

mod accounts;
mod approvals;
mod bodies;
mod books;
mod events;
mod operations;
mod policy;

use std::sync::Arc;

use custos_domain::{Amount, AssetId, BlockRef, Timestamp};
use custos_policy::Policy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use crate::problem::{Fault, Outcome, ProblemBody};
pub use accounts::{AccountPage, AccountView, AddressView, Addresses, BalanceView, BalancesView, DepositPage, DepositView};
pub use approvals::{ApprovalPage, ApprovalSummary, ApprovalView, DecisionRecord};
pub use bodies::{DecisionBody, OpenAccountBody, RequestAddressBody, TransferBody, WithdrawalBody};
pub use books::{AlarmLine, AlteredRowView, BooksLine, BooksView};
pub use events::{EventPage, EventView, Story};
pub use operations::{
    OperationMetadata, OperationPage, OperationRefusal, OperationView, PaymentView, ScreeningRecord, SignatureRecord,
    StepView, WithdrawalView,
};
pub use policy::{AssetView, ChainView, PolicyView};

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// Height above the genesis block.
    pub number: u64,
    /// `0x` and 64 hexadecimal digits.
    pub hash: String,
}

impl From<BlockRef> for Block {
    fn from(block: BlockRef) -> Self {
        Self { number: block.number, hash: block.hash.to_string() }
    }
}

/// An amount of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Money {
    /// The asset's code.
    pub asset: String,
    /// Decimal, in the asset's unit, exact; absent if the asset is not registered any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// The same in the smallest unit.
    pub base_units: String,
}

/// What became of a request that got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptOutcome {
    /// Accepted, now or before under the same key.
    Accepted,
    /// In the log, not answered in time: repeat it with the same key.
    Unknown,
}

/// The answer to a request that got in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The account's or operation's id. It derives from the request, so it is known even when the outcome is not.
    pub id: String,
    /// The account.
    pub account: String,
    /// What became of it.
    pub outcome: ReceiptOutcome,
    /// Whether to repeat the request with the same key.
    pub retryable: bool,
    /// For a person.
    pub detail: String,
    /// Where it can be read.
    pub location: String,
    /// Name it in the header `Custos-Position` of a read that must include this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// With `Prefer: wait=N`: the operation, done or as it stood after N seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationView>,
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn time(at: Timestamp) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
}

/// The asset registry, as far as printing needs it.
#[derive(Clone, Debug)]
pub(crate) struct Registry(pub(crate) Arc<Policy>);

impl Registry {
    pub(crate) fn decimals(&self, asset: &AssetId) -> Option<u8> {
        self.0.assets.get(asset).map(|entry| entry.asset.decimals)
    }

    pub(crate) fn money(&self, asset: &AssetId, amount: Amount) -> Money {
        Money {
            asset: asset.to_string(),
            amount: self.decimals(asset).map(|decimals| amount.to_decimal(decimals)),
            base_units: amount.to_string(),
        }
    }
}
