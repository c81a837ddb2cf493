//! What the signer is asked. It answers in `treasury.inbox`.

use custos_domain::{Amount, AssetKind, ChainId, CommandId, EthAddress, Intent, IntentId, Timestamp, WalletId};

use crate::SignedPolicy;
use crate::accounts::Decision;

/// A command to the signer. Idempotent by `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletCommand {
    /// Derived from the content; the reply carries it.
    pub id: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// What is asked.
    pub order: WalletOrder,
}

/// What a signer can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalletOrder {
    /// Derive an address.
    DeriveAddress {
        /// The chain.
        chain: ChainId,
        /// 0 deposits (`m/44'/60'/0'/0/i`), 1 hot (`m/44'/60'/1'/0/i`).
        branch: u32,
        /// The index.
        index: u32,
    },
    /// Sign a transaction from the hot address (`m/44'/60'/1'/0/0`).
    Sign(Box<SignOrder>),
}

/// Sign exactly `tx`, if it does exactly what `purpose` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOrder {
    /// Why.
    pub purpose: Purpose,
    /// What.
    pub tx: EthTransaction,
    /// The policy that the approvals are held against.
    pub policy: SignedPolicy,
    /// Time of the log at which treasury gave the order: expiry is judged by it.
    pub at: Timestamp,
}

/// What a signature is for.
#[allow(clippy::large_enum_variant, reason = "it lives in a `SignOrder`, which is boxed")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client's payment.
    Pay {
        /// The intent.
        intent: Intent,
        /// How its asset exists.
        kind: AssetKind,
        /// The officers' decisions.
        approvals: Vec<Decision>,
    },
    /// The house's own no-op: zero value from the hot address to itself, to consume a nonce.
    NoOp {
        /// `IntentId::noop(wallet, nonce)`.
        intent: IntentId,
        /// The most that it may cost, in wei.
        fee_max: Amount,
    },
}

impl Purpose {
    /// The intent that the guard remembers.
    #[must_use]
    pub const fn intent_id(&self) -> IntentId {
        match self {
            Self::Pay { intent, .. } => intent.id,
            Self::NoOp { intent, .. } => *intent,
        }
    }
}

/// An EIP-1559 transaction to be signed. The chain number is that of the wallet's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthTransaction {
    /// EIP-155 chain number.
    pub chain_number: u64,
    /// The account's nonce.
    pub nonce: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Highest total price per gas, in wei.
    pub max_fee_per_gas: Amount,
    /// Highest tip per gas, in wei.
    pub max_priority_fee_per_gas: Amount,
    /// Called or paid.
    pub to: EthAddress,
    /// Ether sent, in wei.
    pub value: Amount,
    /// Call data.
    pub data: Vec<u8>,
}

impl EthTransaction {
    /// The most that this transaction can cost in fees: gas limit times `maxFeePerGas`; `None` on overflow.
    #[must_use]
    pub fn fee_max(&self) -> Option<Amount> {
        self.max_fee_per_gas.times(u128::from(self.gas_limit)).ok()
    }

    /// The call data of ERC-20 `transfer(to, amount)`.
    #[must_use]
    pub fn erc20_transfer(to: &EthAddress, amount: Amount) -> Vec<u8> {
        let mut data = vec![0xa9, 0x05, 0x9c, 0xbb];
        data.extend_from_slice(&[0; 12]);
        data.extend_from_slice(&to.0);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&amount.to_be_bytes());
        data
    }
}
