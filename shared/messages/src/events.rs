//! The public feed and audit log: what happened, in the order in which it happened to each account.
//!
//! Events last for ever: no names, no free text. Journal entries are events too. Each event has a dense sequence for its account
//! and one for its partition, and carries the hash of its predecessor in the partition (both in headers, see
//! [`Position`] and `Chained`).

use custos_domain::{
    AccountId, Amount, AssetId, BlockRef, ChainId, Digest, EthAddress, IdempotencyKey, IntentDigest, IntentId, OfficerId,
    SagaId, TenantId, Timestamp, TxHash, WalletId,
};

use crate::accounts::{AlarmCode, BlockMark, Deposit, HouseSpent, Inclusion, PaymentRefusal, Verdict};

/// A place in the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The dense sequence within it, from 1.
    pub sequence: u64,
}

/// An event as a machine states it. The runtime gives it its place in the partition and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The account.
    pub account: AccountId,
    /// Dense for the account, from 1.
    pub sequence: u64,
    /// Time of the input that caused it.
    pub at: Timestamp,
    /// The saga that it belongs to.
    pub saga: Option<SagaId>,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// An account exists.
    AccountOpened {
        /// The bank.
        tenant: TenantId,
        /// The bank's reference.
        key: IdempotencyKey,
    },
    /// A saga began.
    Started(Request),
    /// A saga reached a step.
    Moved {
        /// The step's name in the saga's table.
        step: String,
        /// Whether the step is done forward, undone, or asked.
        phase: StepPhase,
    },
    /// A saga ended.
    Ended(Ending),
    /// A saga waits for a human.
    Parked {
        /// The step where it stands.
        step: String,
        /// Why, by code.
        code: String,
    },
    /// A screening was answered.
    Screened {
        /// The step that asked.
        step: String,
        /// Whether nothing was found.
        clear: bool,
        /// What was found, by code.
        codes: Vec<String>,
        /// What it rests on.
        versions: Vec<String>,
    },
    /// An approval is awaited for this intent.
    ApprovalAsked {
        /// What officers sign: its canonical bytes.
        intent: Vec<u8>,
        /// The digest of those bytes.
        digest: IntentDigest,
        /// How many officers must agree.
        quorum: u32,
    },
    /// An officer decided.
    Decided {
        /// Who.
        officer: OfficerId,
        /// What.
        verdict: Verdict,
        /// About which intent.
        digest: IntentDigest,
        /// The policy that the officer's key stands in.
        policy_version: u32,
    },
    /// A deposit address exists.
    AddressIssued {
        /// The chain.
        chain: ChainId,
        /// The address.
        address: EthAddress,
        /// The wallet.
        wallet: WalletId,
        /// The path.
        path: String,
        /// Deposits after this block are seen.
        watched_from: BlockRef,
    },
    /// A deposit is in a block, not final.
    DepositSeen(Deposit),
    /// A deposit that was not credited left the canonical chain.
    DepositUnseen(Deposit),
    /// A deposit is credited.
    DepositCredited(Deposit),
    /// A deposit's source was refused: the money is frozen.
    DepositQuarantined(Deposit),
    /// A credited or quarantined deposit left the canonical chain: taken back, visibly.
    DepositReversed(Deposit),
    /// A transfer arrived from another account.
    TransferReceived {
        /// The sender's saga.
        from: SagaId,
        /// What.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// Treasury took the payment over.
    PaymentTaken {
        /// The intent.
        intent: IntentId,
    },
    /// A signature exists.
    PaymentSigned {
        /// The transaction.
        tx: TxHash,
        /// The nonce.
        nonce: u64,
        /// Digest of the signed bytes.
        digest: Digest,
        /// From 1; above 1 it replaces the former at the same nonce.
        attempt: u32,
    },
    /// The payment is in a block.
    PaymentSeen(Inclusion),
    /// That block left the canonical chain.
    PaymentUnseen(Inclusion),
    /// Paid and final.
    PaymentFinal(Inclusion),
    /// Can never be paid any more.
    PaymentImpossible(Inclusion),
    /// What a nonce costs the house has changed; its entries follow.
    HouseSpent(HouseSpent),
    /// Money moved in the books.
    Posted(JournalEntry),
    /// Everything about blocks up to here is in the books of this shard.
    Marked(BlockMark),
    /// A human must look.
    Alarm {
        /// What.
        code: AlarmCode,
        /// About what.
        subject: String,
    },
    /// A policy took effect in this shard.
    PolicyAdopted {
        /// Its version.
        version: u32,
        /// Digest of its bytes.
        digest: Digest,
    },
}

/// What a saga was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Issue an address.
    Address {
        /// The client's key.
        key: IdempotencyKey,
        /// Where.
        chain: ChainId,
    },
    /// Pay out.
    Withdrawal {
        /// The client's key.
        key: IdempotencyKey,
        /// What.
        asset: AssetId,
        /// How much.
        amount: Amount,
        /// To whom.
        to: EthAddress,
        /// The most that the chain may be paid.
        fee_max: Amount,
        /// The asset of that fee.
        fee_asset: AssetId,
        /// The intent.
        intent: IntentId,
    },
    /// Transfer.
    Transfer {
        /// The client's key.
        key: IdempotencyKey,
        /// To whom.
        to: AccountId,
        /// What.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// A deposit arrived.
    Deposit(Deposit),
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepPhase {
    /// Asked; the answer is awaited.
    Asked,
    /// Done.
    Done,
    /// Taken back.
    Undone,
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As asked.
    Completed,
    /// Unwound: everything it held was given back.
    Refused(Refusal),
}

/// A business no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not enough is available.
    InsufficientFunds,
    /// No such account.
    UnknownAccount,
    /// No such asset in the registry.
    UnknownAsset,
    /// No such chain in the registry.
    UnknownChain,
    /// An amount of nothing.
    ZeroAmount,
    /// The fee envelope is larger than policy allows.
    FeeAbovePolicy,
    /// To itself.
    SameAccount,
    /// Screening found something.
    Screening {
        /// By code.
        codes: Vec<String>,
    },
    /// Nobody answered in time.
    TimedOut {
        /// The step that waited.
        step: String,
    },
    /// An officer said no.
    Rejected,
    /// Treasury refused before any signature.
    Payment(PaymentRefusal),
    /// Can never be paid any more, with proof.
    Impossible,
    /// The receiver refused.
    ReceiverRefused,
    /// No such saga, or it does not wait for this.
    NothingToDecide,
    /// The decision's signature, officer or digest is wrong.
    BadDecision,
    /// No policy is in force yet.
    NoPolicy,
    /// The deposit left the canonical chain before it was credited.
    Unseen,
}

/// A journal entry: what moved, and why. Debits equal credits for each asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// What it is for.
    pub reason: EntryReason,
    /// The block that it reflects, when coins moved on a chain.
    pub block: Option<(ChainId, BlockRef)>,
    /// Two or more legs.
    pub legs: Vec<Leg>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryReason {
    /// A deposit in a block: custody against pending.
    DepositSeen,
    /// It left again.
    DepositUnseen,
    /// Pending becomes available (or funding, for the house).
    DepositCredited,
    /// Pending becomes frozen.
    DepositQuarantined,
    /// A credited deposit left the chain.
    DepositReversed,
    /// Available becomes held.
    Hold,
    /// Held becomes available.
    Release,
    /// A payment in a block: in flight against custody.
    PaymentSeen,
    /// It left again.
    PaymentUnseen,
    /// Held pays what was in flight; the rest of the fee hold is available again.
    PaymentSettled,
    /// The house paid gas.
    HouseGas,
    /// Sent to another account.
    TransferOut,
    /// Received from another account.
    TransferIn,
    /// A nonce was consumed at the house's cost: gas, and what a settled payment moves when it is mined again, against custody.
    HouseSpent,
    /// What consumed a nonce left the chain: taken back, a settled payment's own entries included.
    HouseUnspent,
    /// What a reversed deposit left owed, settled out of what has become available.
    ShortageCollected,
}

/// One side of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Whose.
    pub ledger: LedgerAccount,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// Which side.
    pub side: Side,
}

/// Debit or credit. Custody, gas and in-flight coins are assets and expenses of the house (debit balances); what clients and the
/// house's funders are owed are liabilities (credit balances).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Left.
    Debit,
    /// Right.
    Credit,
}

/// An account of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerAccount {
    /// A client's.
    Client {
        /// Whose.
        account: AccountId,
        /// Which part.
        book: ClientBook,
    },
    /// The house's, one per shard.
    House {
        /// The shard's partition.
        partition: u32,
        /// Which.
        book: HouseBook,
    },
}

/// The parts of a client's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientBook {
    /// Free to use.
    Available,
    /// Taken out of available for one saga.
    Held,
    /// Arrived, not final.
    Pending,
    /// Arrived, and refused by screening.
    Frozen,
}

/// The house's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HouseBook {
    /// Coins on chain under our keys (debit balance).
    Custody,
    /// Coins that left by a mined payment which is not final (debit balance while the hold still stands).
    InFlight,
    /// Fees earned.
    Fees,
    /// Gas that the house paid (debit balance).
    Gas,
    /// What the bank put into the hot wallet.
    Funding,
    /// Between two shards.
    InTransit,
    /// Cannot be attributed.
    Suspense,
}
