//! What the accounts machine remembers.
//!
//! Invariants: an account's parts are unsigned and never wrap; its events are numbered without a gap; a finished saga leaves only
//! its fingerprint. Live sagas, finished ones, deposits and transfers are records of their own: an input touches what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, AssetKind, BlockRef, ChainId, Digest, IdempotencyKey, Intent, SagaId, TenantId, Timestamp,
    TxHash, WalletId,
};
use custos_messages::SignedPolicy;
use custos_messages::accounts::{Decision, Deposit, HouseSpent, Inclusion};
use custos_messages::events::{HouseBook, Refusal};
use custos_policy::Policy;
use custos_saga::Instance;
use custos_saga::participant;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The policy in force.
    Policy,
    /// The house's books of this shard.
    House,
    /// A client's account.
    Account(AccountId),
    /// A saga that has not ended, or is parked.
    Saga(SagaId),
    /// A saga that has ended.
    Finished(SagaId),
    /// A deposit, whatever block holds it.
    Deposit(DepositKey),
    /// What was answered to another account's transfer.
    Received(SagaId),
    /// A nonce that is in the house's books.
    HouseSpend(WalletId, u64),
}

/// A transfer within a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepositKey {
    /// The transaction.
    pub tx: TxHash,
    /// The transfer within it.
    pub index: u32,
    /// The chain.
    pub chain: ChainId,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// The policy in force.
    Policy(Arc<InForce>),
    /// The house's books.
    House(House),
    /// A client's account.
    Account(Box<Account>),
    /// A live saga.
    Saga(Box<SagaRecord>),
    /// An ended saga.
    Finished(Finished),
    /// A deposit.
    Deposit(Box<DepositRecord>),
    /// A transfer from another account.
    Received(participant::Entry),
    /// What treasury said last about a nonce, which is what the books hold.
    HouseSpend(Box<HouseSpent>),
}

/// A policy with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// As its signer published it; this is what the state keeps.
    pub signed: SignedPolicy,
    /// What it says.
    pub policy: Policy,
}

/// The house's books of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct House {
    /// Number of the last event on the house's account of this shard.
    pub sequence: u64,
    /// Balances.
    pub books: BTreeMap<(HouseBook, AssetId), Net>,
}

/// A balance that may lie on either side: what one shard pays, another may have received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// What is on the left beyond the right.
    pub debit: Amount,
    /// What is on the right beyond the left. One of the two is zero.
    pub credit: Amount,
}

/// A client's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The bank.
    pub tenant: TenantId,
    /// The bank's reference.
    pub key: IdempotencyKey,
    /// Number of its last event.
    pub sequence: u64,
    /// Balances per asset.
    pub balances: BTreeMap<AssetId, Balances>,
    /// What it sent out lately, per asset.
    pub sent: BTreeMap<AssetId, Vec<SentHour>>,
}

/// The parts of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    /// Free to use.
    pub available: Amount,
    /// Taken out of available by running sagas.
    pub held: Amount,
    /// Arrived, not final.
    pub pending: Amount,
    /// Arrived, refused by screening.
    pub frozen: Amount,
    /// Taken back by the chain after the client had used it: whatever becomes available settles this first.
    pub owed: Amount,
}

/// What was sent in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentHour {
    /// The hour since the Unix epoch.
    pub hour: u64,
    /// How much.
    pub amount: Amount,
    /// How many payments.
    pub count: u32,
}

/// A saga that has not ended, or is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaRecord {
    /// The version of its definition.
    pub version: u32,
    /// Where it stands.
    pub instance: Instance,
    /// Digest of the request that it came from.
    pub fingerprint: Digest,
    /// When its timer is due.
    pub due: Option<Timestamp>,
    /// Why it unwinds, or ends without what was asked.
    pub refusal: Option<Refusal>,
    /// Its own data.
    pub case: Case,
}

/// What a saga is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// Pay to an outside address.
    Withdrawal(Withdrawal),
    /// Money arrives.
    Deposit(DepositCase),
    /// Move money to another account.
    Transfer(Transfer),
    /// Issue a deposit address.
    IssueAddress(IssueAddress),
}

/// A withdrawal's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Who pays.
    pub account: AccountId,
    /// What is paid; it never changes.
    pub intent: Intent,
    /// How the asset exists.
    pub kind: AssetKind,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// How many officers must agree; zero when none is needed.
    pub quorum: u32,
    /// The officers' decisions.
    pub approvals: Vec<Decision>,
    /// The hour under which it counts as sent.
    pub sent_hour: u64,
    /// Whether treasury said that it has it.
    pub taken: bool,
    /// The highest attempt that was signed; zero while no signature exists.
    pub attempt: u32,
    /// The inclusion that is in the books.
    pub seen: Option<Inclusion>,
    /// How it came out.
    pub outcome: Option<Paid>,
}

/// How a payment came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paid {
    /// Final.
    Final,
    /// Can never be paid any more.
    Impossible,
}

/// A deposit's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositCase {
    /// Whose address was paid: a client's account, or the house's.
    pub account: AccountId,
    /// What arrived.
    pub deposit: Deposit,
    /// Whether it is the house's own funding.
    pub house: bool,
    /// What screening found.
    pub codes: Vec<String>,
    /// Whether the chain said that it is final.
    pub is_final: bool,
}

/// A transfer's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who pays.
    pub account: AccountId,
    /// Who is paid.
    pub to: AccountId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// The hour under which it counts as sent.
    pub sent_hour: u64,
}

/// An address request's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueAddress {
    /// For whom.
    pub account: AccountId,
    /// Where.
    pub chain: ChainId,
    /// The wallet that owns it.
    pub wallet: WalletId,
}

/// What stays of an ended saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Digest of the request: the same key finds it for ever.
    pub fingerprint: Digest,
    /// Whether it did what was asked.
    pub completed: bool,
}

/// A deposit, whatever block holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositRecord {
    /// The block that holds it, or held it last.
    pub block: BlockRef,
    /// Where it stands.
    pub status: DepositStatus,
    /// The saga that runs it, or ran it last.
    pub saga: SagaId,
    /// How often it was mined.
    pub inclusions: u32,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
}

/// Where a deposit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositStatus {
    /// In a block, in the books as pending.
    Seen,
    /// It left the chain before it was credited.
    Unseen,
    /// Credited.
    Credited,
    /// Frozen.
    Quarantined,
    /// It left the chain after it was credited or frozen.
    Reversed,
}
