//! The words that the tables use for the kinds of things. They are part of the schema: a change needs a migration.

use custos_messages::accounts::{AlarmCode, MarkPath, Verdict};
use custos_messages::events::{ClientBook, EntryReason, HouseBook, Refusal, Request, StepPhase};

use crate::ReadError;

/// A kind of thing with a name in the tables.
pub(crate) trait Named: Copy + Sized + 'static {
    const ALL: &'static [Self];
    const COLUMN: &'static str;
    fn word(self) -> &'static str;

    fn from_word(word: &str) -> Result<Self, ReadError> {
        let unknown = ReadError::Column { column: Self::COLUMN, problem: "unknown word" };
        Self::ALL.iter().copied().find(|value| value.word() == word).ok_or(unknown)
    }
}

macro_rules! named {
    ($name:ty, $column:literal, $($variant:path => $word:literal),+ $(,)?) => {
        impl Named for $name {
            const ALL: &'static [Self] = &[$($variant),+];
            const COLUMN: &'static str = $column;
            fn word(self) -> &'static str {
                match self {
                    $($variant => $word),+
                }
            }
        }
    };
}

/// What a saga does for its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    /// Issues a deposit address.
    IssueAddress,
    /// Pays to an outside address.
    Withdrawal,
    /// Moves money to another account.
    Transfer,
    /// Credits what arrived.
    Deposit,
}

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationStatus {
    /// At work or waiting for an answer.
    Running,
    /// Waiting for a human.
    Parked,
    /// Done as asked. Never changes.
    Completed,
    /// Refused; everything held was given back. Never changes.
    Refused,
}

/// Where a deposit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DepositStatus {
    /// In a block, not final.
    Pending,
    /// Left the canonical chain before it was credited.
    Unseen,
    /// Credited.
    Credited,
    /// Final, and frozen because of its source.
    Quarantined,
    /// Left the canonical chain after it was credited or frozen: taken back.
    Reversed,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentStatus {
    /// Treasury has it; no signature is known.
    Taken,
    /// Signed, in no block.
    Signed,
    /// In a block, not final.
    Seen,
    /// Paid and final. Never changes.
    Final,
    /// Can never be paid any more. Never changes.
    Impossible,
}

named!(OperationKind, "kind",
    Self::IssueAddress => "issue-address", Self::Withdrawal => "withdrawal", Self::Transfer => "transfer",
    Self::Deposit => "deposit");
named!(OperationStatus, "status",
    Self::Running => "running", Self::Parked => "parked", Self::Completed => "completed", Self::Refused => "refused");
named!(DepositStatus, "status",
    Self::Pending => "pending", Self::Unseen => "unseen", Self::Credited => "credited",
    Self::Quarantined => "quarantined", Self::Reversed => "reversed");
named!(PaymentStatus, "status",
    Self::Taken => "taken", Self::Signed => "signed", Self::Seen => "seen", Self::Final => "final",
    Self::Impossible => "impossible");
named!(StepPhase, "phase", Self::Asked => "asked", Self::Done => "done", Self::Undone => "undone");
named!(Verdict, "verdict", Self::Approve => "approve", Self::Reject => "reject");
named!(MarkPath, "path", Self::Deposits => "deposits", Self::Payments => "payments");
named!(ClientBook, "book",
    Self::Available => "available", Self::Held => "held", Self::Pending => "pending", Self::Frozen => "frozen");
named!(HouseBook, "book",
    Self::Custody => "custody", Self::InFlight => "in-flight", Self::Fees => "fees", Self::Gas => "gas",
    Self::Funding => "funding", Self::InTransit => "in-transit", Self::Suspense => "suspense");
named!(AlarmCode, "code",
    Self::NodesDisagree => "nodes-disagree", Self::DeepReorg => "deep-reorg",
    Self::FeeEnvelopeReached => "fee-envelope-reached", Self::ForeignSpend => "foreign-spend",
    Self::LinkGap => "link-gap", Self::SagaParked => "saga-parked", Self::NodeSilent => "node-silent",
    Self::AddressUnattested => "address-unattested");
named!(EntryReason, "reason",
    Self::DepositSeen => "deposit-seen", Self::DepositUnseen => "deposit-unseen",
    Self::DepositCredited => "deposit-credited", Self::DepositQuarantined => "deposit-quarantined",
    Self::DepositReversed => "deposit-reversed", Self::Hold => "hold", Self::Release => "release",
    Self::PaymentSeen => "payment-seen", Self::PaymentUnseen => "payment-unseen",
    Self::PaymentSettled => "payment-settled", Self::HouseGas => "house-gas", Self::TransferOut => "transfer-out",
    Self::TransferIn => "transfer-in", Self::HouseSpent => "house-spent", Self::HouseUnspent => "house-unspent",
    Self::ShortageCollected => "shortage-collected");

macro_rules! public_words {
    ($($name:ty),+) => {
        $(impl $name {
            /// The word for it, as in the tables.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.word()
            }

            /// The kind that `word` stands for.
            ///
            /// # Errors
            /// [`ReadError::Column`] if there is none.
            pub fn parse(word: &str) -> Result<Self, ReadError> {
                Self::from_word(word)
            }
        })+
    };
}
public_words!(OperationKind, OperationStatus, DepositStatus, PaymentStatus);

impl OperationStatus {
    /// Whether nothing changes it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Refused)
    }
}

impl OperationKind {
    /// The kind that `request` asks for.
    #[must_use]
    pub const fn of(request: &Request) -> Self {
        match request {
            Request::Address { .. } => Self::IssueAddress,
            Request::Withdrawal { .. } => Self::Withdrawal,
            Request::Transfer { .. } => Self::Transfer,
            Request::Deposit(_) => Self::Deposit,
        }
    }
}

/// The code of a refusal, as in the tables and for the bank. Stable.
#[must_use]
pub fn refusal_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::InsufficientFunds => "insufficient-funds",
        Refusal::UnknownAccount => "unknown-account",
        Refusal::UnknownAsset => "unknown-asset",
        Refusal::UnknownChain => "unknown-chain",
        Refusal::ZeroAmount => "zero-amount",
        Refusal::FeeAbovePolicy => "fee-above-policy",
        Refusal::SameAccount => "same-account",
        Refusal::Screening { .. } => "screening",
        Refusal::TimedOut { .. } => "timed-out",
        Refusal::Rejected => "rejected",
        Refusal::Payment(_) => "payment-refused",
        Refusal::Impossible => "impossible",
        Refusal::ReceiverRefused => "receiver-refused",
        Refusal::NothingToDecide => "nothing-to-decide",
        Refusal::BadDecision => "bad-decision",
        Refusal::NoPolicy => "no-policy",
        Refusal::Unseen => "unseen",
    }
}
