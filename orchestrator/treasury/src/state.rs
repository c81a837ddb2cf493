//! What treasury remembers: the policy, its wallets, their addresses, and every payment that it was ever asked for.
//!
//! Invariant: a nonce has one slot and one owner; a payment that has a nonce keeps it for every attempt. States carry their data:
//! what exists only in a state is a field of that state.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, BlockRef, ChainId, CommandId, Digest, EthAddress, IntentId, SagaId, Timestamp, TxHash,
    WalletId,
};
use custos_messages::SignedPolicy;
use custos_messages::accounts::{Inclusion, PaymentRefusal};
use custos_messages::treasury::TakePayment;
use custos_policy::Policy;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The policy in force.
    Policy,
    /// A wallet.
    Wallet(WalletId),
    /// A deposit address by its index.
    Allocation(WalletId, u32),
    /// The index that a saga was given.
    SagaIndex(WalletId, SagaId),
    /// The index of an address.
    AddressIndex(WalletId, EthAddress),
    /// A payment or house intent.
    Payment(WalletId, IntentId),
    /// The owner of a nonce.
    Slot(WalletId, u64),
    /// The owner of a transaction that is not final.
    Tx(WalletId, TxHash),
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// The policy in force.
    Policy(Arc<InForce>),
    /// A wallet.
    Wallet(Wallet),
    /// A deposit address.
    Allocation(Allocation),
    /// An index.
    Index(u32),
    /// A payment or house intent.
    Payment(Box<Payment>),
    /// The owner of a nonce or of a transaction.
    Owner(IntentId),
}

/// A policy with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// As its signer published it; this is what the state keeps.
    pub signed: SignedPolicy,
    /// What it says.
    pub policy: Policy,
}

/// A wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wallet {
    /// Its name.
    pub id: WalletId,
    /// Its chain.
    pub chain: ChainId,
    /// The index of the next deposit address.
    pub next_index: u32,
    /// The next nonce of the hot address; unknown until the chain was asked once.
    pub next_nonce: Option<u64>,
    /// What signatures that are in no block may still spend, by asset; the native asset includes fees.
    pub reserved: BTreeMap<AssetId, Amount>,
    /// The hot address.
    pub hot: Hot,
}

/// How far the hot address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hot {
    /// The signer was asked for it.
    Deriving,
    /// It is the policy's, and was put on the watch list.
    Watching(EthAddress),
    /// A follower watches it.
    Watched(EthAddress),
    /// The signer derives another address than the policy names: nothing is paid.
    Wrong(EthAddress),
}

/// A deposit address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The chain.
    pub chain: ChainId,
    /// The saga that asked.
    pub saga: SagaId,
    /// Whose deposits it receives.
    pub account: AccountId,
    /// How far it is.
    pub status: AllocationStatus,
}

/// How far an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocationStatus {
    /// The signer was asked.
    Deriving,
    /// On the watch list; no follower has confirmed it yet.
    Watching {
        /// The address.
        address: EthAddress,
        /// Its derivation path.
        path: String,
    },
    /// Handed out.
    Ready {
        /// The address.
        address: EthAddress,
        /// Its derivation path.
        path: String,
        /// Deposits after this block are seen.
        from: BlockRef,
    },
}

/// A payment or house intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The wallet that pays.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// What it is for.
    pub purpose: Purpose,
    /// Until when it may wait for its fee or its funds.
    pub deadline: Timestamp,
    /// What consumed its nonce at finality, while an order to sign is still unanswered.
    pub consumed: Option<Inclusion>,
    /// What it has reserved in the wallet.
    pub outlay: Option<Outlay>,
    /// Where it stands.
    pub stage: Stage,
}

/// What a nonce is spent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client's payment.
    Client(Box<TakePayment>),
    /// The house's own transaction of nothing to itself, so that no nonce stays a gap.
    NoOp {
        /// The nonce to consume.
        nonce: u64,
        /// The most that it may cost, in wei.
        fee_max: Amount,
        /// The hot address, which sends it to itself.
        hot: EthAddress,
    },
}

/// What a signature may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlay {
    /// Wei: value and highest fee.
    pub native: Amount,
    /// Base units of the paid token; zero for a payment of the native asset.
    pub token: Amount,
}

/// Where a payment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The chain is asked what it costs; no nonce, no signature.
    Quoting(Quoting),
    /// The first signature is ordered; from here one may exist.
    Signing(Box<Order>),
    /// Signed and given to the node.
    Sent(Flight),
    /// In a canonical block.
    Seen(Flight, Inclusion),
    /// Paid, for ever.
    Final(Flight, Inclusion),
    /// Its nonce was consumed, for ever, by what did not pay it.
    Impossible(Inclusion),
    /// Refused before any signature, for ever.
    Refused(PaymentRefusal),
    /// A human must look: the signer says that a signature exists which treasury does not know.
    Parked,
}

/// The question for fee and balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoting {
    /// How often it was asked, from 1.
    pub asked: u32,
    /// The last question.
    pub question: CommandId,
    /// Whether that question is unanswered.
    pub open: bool,
    /// What the last answer lacked.
    pub lack: Option<Lack>,
}

/// What stands between a quote and a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The fee is above the envelope.
    Fee,
    /// The wallet does not hold enough.
    Funds,
}

/// The fee fields of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Gas limit.
    pub gas_limit: u64,
    /// In wei.
    pub max_fee_per_gas: Amount,
    /// In wei.
    pub max_priority_fee_per_gas: Amount,
}

/// An order to sign, exactly as it was given, so that a repeat is the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub id: CommandId,
    /// From 1; above 1 it replaces.
    pub attempt: u32,
    /// The nonce.
    pub nonce: u64,
    /// The fees.
    pub fees: Fees,
    /// The policy that it rests on.
    pub policy: SignedPolicy,
    /// When it was given.
    pub at: Timestamp,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The transaction.
    pub tx: TxHash,
    /// The signed bytes.
    pub raw: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// The fees.
    pub fees: Fees,
}

/// Signatures that exist, all at one nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Their nonce.
    pub nonce: u64,
    /// All of them, from the first; the last is the one that is sent.
    pub attempts: Vec<Attempt>,
    /// Whether a replacement is under way.
    pub bump: Bump,
    /// Since when the last attempt is out.
    pub since: Timestamp,
    /// How often the fee was asked for replacements.
    pub asked: u32,
    /// No further replacement: the envelope is reached, or signer or node said no. A human knows.
    pub stuck: bool,
}

/// A replacement under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bump {
    /// None.
    Idle,
    /// The chain is asked for the fee.
    Asked(CommandId),
    /// The signature is ordered.
    Ordered(Box<Order>),
}

impl Payment {
    /// Its intent.
    #[must_use]
    pub fn intent(&self) -> IntentId {
        match &self.purpose {
            Purpose::Client(take) => take.intent.id,
            Purpose::NoOp { nonce, .. } => IntentId::noop(&self.wallet, *nonce),
        }
    }

    /// The most that may be paid to the chain, in wei.
    #[must_use]
    pub fn envelope(&self) -> Amount {
        match &self.purpose {
            Purpose::Client(take) => take.intent.fee.max,
            Purpose::NoOp { fee_max, .. } => *fee_max,
        }
    }
}

impl Flight {
    /// Whether `tx` is one of the signatures.
    #[must_use]
    pub fn holds(&self, tx: &TxHash) -> bool {
        self.attempts.iter().any(|attempt| attempt.tx == *tx)
    }
}
