//! What treasury remembers: the policy, its wallets, their addresses, and every payment that it was ever asked for.
//!
//! Invariant: a nonce has one slot and one owner; a payment that has a nonce keeps it for every attempt. States carry their data:
//! what exists only in a state is a field of that state. A payment that has ended is kept for ever, and therefore small: only what
//! answers a repeat and meets a reorganisation below finality.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, BlockRef, ChainId, CommandId, Digest, EthAddress, Intent, IntentDigest, IntentId, SagaId,
    Timestamp, TxHash, WalletId,
};
use custos_messages::SignedPolicy;
use custos_messages::accounts::{Inclusion, PaidFor, PaymentRefusal};
use custos_messages::treasury::TakePayment;
use custos_policy::Policy;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// What the house's books say of a nonce.
    Spent(WalletId, u64),
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
    /// A payment or house intent that has not ended.
    Payment(Box<Payment>),
    /// A payment or house intent that has ended.
    Closed(Box<Closed>),
    /// The owner of a nonce or of a transaction.
    Owner(IntentId),
    /// What the house's books say of a nonce.
    Spent(Box<Spent>),
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
    /// The answer did not carry the attestation that the policy asks for: nothing happens until the saga asks again.
    Unattested,
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
    /// A human must look: the signer says that a signature exists which treasury does not know.
    Parked,
    /// Over. It stands here only until the input that ended it is applied; then its record is a [`Closed`].
    Ended(Box<Ended>),
}

/// How a payment came out, and what of its life still matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it came out.
    pub end: End,
    /// Every signature that was made, all at one nonce: any of them may be mined if the chain changes its mind.
    pub signatures: Vec<TxHash>,
    /// Signed bytes of its own that may be sent again if what holds the nonce leaves the chain: those that paid, or a no-op's newest.
    pub raw: Vec<u8>,
    /// An order to sign that was not answered yet: one more signature may come of it.
    pub unanswered: Option<Unanswered>,
    /// The highest fees that signatures of an impossible payment offer, one that is only ordered included: what is to take its nonce
    /// must offer more.
    pub highest: Option<Fees>,
}

/// How a payment came out, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Paid.
    Final(Inclusion),
    /// Its nonce was consumed by what did not pay it.
    Impossible(Inclusion),
    /// Refused before any signature.
    Refused(PaymentRefusal),
}

/// An order to sign without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Its name.
    pub id: CommandId,
    /// The attempt that it orders.
    pub attempt: u32,
}

/// A payment that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The wallet that paid.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// Its intent.
    pub intent: IntentId,
    /// What it was for.
    pub purpose: ClosedPurpose,
    /// How it came out.
    pub ended: Ended,
}

/// What a payment was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosedPurpose {
    /// A client's payment.
    Client {
        /// The withdrawal and what it paid.
        paid: PaidFor,
        /// The intent's digest: a repeat that says otherwise is another request.
        request: IntentDigest,
    },
    /// The house's no-op.
    NoOp {
        /// The nonce that it was to consume.
        nonce: u64,
    },
}

/// What accounts was told last about a nonce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often it was told.
    pub version: u64,
    /// What the payment's own entries say.
    pub settled: Option<Inclusion>,
    /// What the canonical chain says.
    pub now: Option<Inclusion>,
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
    /// What a no-op offered that was too little for whatever has its nonce: it offers a tenth more.
    pub outbid: Option<Fees>,
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
    /// Nobody has answered for long, and a human was told so.
    pub overdue: bool,
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

impl Closed {
    /// The record of `payment`, which has `ended`.
    #[must_use]
    pub fn of(payment: &Payment, ended: Ended) -> Self {
        let purpose = match &payment.purpose {
            Purpose::Client(take) => {
                let Intent { asset, amount, .. } = take.intent.clone();
                ClosedPurpose::Client { paid: PaidFor { saga: take.saga, asset, amount }, request: take.intent.digest() }
            }
            Purpose::NoOp { nonce, .. } => ClosedPurpose::NoOp { nonce: *nonce },
        };
        Self { wallet: payment.wallet, chain: payment.chain.clone(), intent: payment.intent(), purpose, ended }
    }

    /// The bytes that may be sent again, and their transaction. None of a client's payment that was not made: its client has the money
    /// back.
    #[must_use]
    pub fn bytes(&self) -> Option<(TxHash, Vec<u8>)> {
        let tx = match (&self.purpose, &self.ended.end) {
            (_, End::Final(paid)) => paid.tx,
            (ClosedPurpose::NoOp { .. }, End::Impossible(_)) => *self.ended.signatures.last()?,
            (ClosedPurpose::Client { .. }, End::Impossible(_)) | (_, End::Refused(_)) => return None,
        };
        (!self.ended.raw.is_empty()).then(|| (tx, self.ended.raw.clone()))
    }

    /// What the withdrawal's own entries say for ever: nothing for a no-op, nor for what was refused.
    #[must_use]
    pub fn settled(&self) -> Option<Inclusion> {
        match (&self.purpose, &self.ended.end) {
            (ClosedPurpose::Client { .. }, End::Final(inclusion)) => Some(inclusion.clone()),
            // Whatever a stranger's transaction did, it did not pay the client's intent.
            (ClosedPurpose::Client { .. }, End::Impossible(proof)) => Some(Inclusion { succeeded: false, ..proof.clone() }),
            (ClosedPurpose::Client { .. }, End::Refused(_)) | (ClosedPurpose::NoOp { .. }, _) => None,
        }
    }
}

impl Ended {
    /// Refused before any signature.
    #[must_use]
    pub fn refused(reason: PaymentRefusal) -> Self {
        Self { end: End::Refused(reason), signatures: Vec::new(), raw: Vec::new(), unanswered: None, highest: None }
    }

    /// Its nonce consumed by a stranger before any signature was known.
    #[must_use]
    pub fn consumed(by: Inclusion) -> Self {
        Self { end: End::Impossible(by), signatures: Vec::new(), raw: Vec::new(), unanswered: None, highest: None }
    }

    /// An end in a block, after the signatures of `flight`.
    #[must_use]
    pub fn mined(end: End, flight: &Flight) -> Self {
        let paid = match &end {
            End::Final(inclusion) => flight.attempts.iter().find(|attempt| attempt.tx == inclusion.tx),
            End::Impossible(_) | End::Refused(_) => None,
        };
        let ordered = match &flight.bump {
            Bump::Ordered(order) => Some(order),
            Bump::Idle | Bump::Asked(_) => None,
        };
        // Each attempt offers more than the one before.
        let highest = ordered.map(|order| order.fees).or(flight.attempts.last().map(|attempt| attempt.fees));
        let impossible = matches!(end, End::Impossible(_));
        Self {
            end,
            signatures: flight.attempts.iter().map(|attempt| attempt.tx).collect(),
            raw: paid.map(|attempt| attempt.raw.clone()).unwrap_or_default(),
            unanswered: ordered.map(|order| Unanswered { id: order.id, attempt: order.attempt }),
            highest: highest.filter(|_| impossible),
        }
    }
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

    /// Whether `tx` is one of its signatures, as far as they are known.
    #[must_use]
    pub fn holds(&self, tx: &TxHash) -> bool {
        match &self.stage {
            Stage::Sent(flight) | Stage::Seen(flight, _) => flight.holds(tx),
            Stage::Ended(ended) => ended.signatures.contains(tx),
            Stage::Quoting(_) | Stage::Signing(_) | Stage::Parked => false,
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
