//! What the bank sends. These types are the documented shapes; the door reads bodies more strictly than they say.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Opens an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "key": "client-1" }))]
pub struct OpenAccountBody {
    /// The bank's own opaque reference, permanent: 1 to 255 printable ASCII characters, never a name. It is also the request's
    /// idempotency key.
    pub key: String,
}

/// Asks for a deposit address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "chain": "eip155:1" }))]
pub struct RequestAddressBody {
    /// A registered chain, CAIP-2.
    pub chain: String,
}

/// Asks for a payment to an outside address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "asset": "ETH", "amount": "0.25", "to": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "fee_max": "0.002"
}))]
pub struct WithdrawalBody {
    /// A registered asset's code.
    pub asset: String,
    /// Decimal string in the asset's unit.
    pub amount: String,
    /// With its EIP-55 checksum.
    pub to: String,
    /// The most that the chain may be paid: decimal string in the unit of the chain's own coin.
    pub fee_max: String,
}

/// Moves money to another account of the bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "to_account": "8b0c9a34-0f2f-8c1d-9a51-6c8a1b2c3d4e", "asset": "ETH", "amount": "1"
}))]
pub struct TransferBody {
    /// The receiver.
    pub to_account: String,
    /// A registered asset's code.
    pub asset: String,
    /// Decimal string in the asset's unit.
    pub amount: String,
}

/// An officer's signed yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "officer": "anna", "verdict": "approve",
    "digest": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "signature": "00…"
}))]
pub struct DecisionBody {
    /// The officer's name in the policy.
    pub officer: String,
    /// `approve` or `reject`.
    pub verdict: String,
    /// The digest of the intent that was decided upon: 64 hexadecimal digits.
    pub digest: String,
    /// Ed25519 over the bytes that the approval gives for this verdict: 128 hexadecimal digits.
    pub signature: String,
}
