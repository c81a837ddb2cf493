//! What each stream carries: for every message its protocol name, its own Protobuf message, and who may say it.
//!
//! Invariants: a protocol name belongs to one message of one stream; a message that nobody is listed for cannot be said. The rows
//! below are the table that [`Source::may_say`] reads.

use crate::accounts::AccountsInput;
use crate::chain::ChainInput;
use crate::codec::read;
use crate::treasury::TreasuryInput;
use crate::wire::to_bytes;
use crate::{Activate, DecodeError, Message, Source, TimerDue};

/// A protocol name and its speakers.
pub(crate) type Row = (&'static str, &'static [Source]);

/// The key of records that every shard gets.
const FOR_ALL: &[u8] = b"policy";

macro_rules! stream {
    ($type:ident, $rows:ident: $($variant:ident $kind:literal [$($source:ident)*])*) => {
        pub(crate) const $rows: &[Row] = &[$(($kind, &[$(Source::$source),*])),*];

        impl Message for $type {
            fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind),* }
            }

            fn subject(&self) -> String {
                self.about()
            }

            fn key(&self) -> Vec<u8> {
                self.record_key()
            }

            fn encode(&self) -> Vec<u8> {
                match self { $(Self::$variant(message) => to_bytes(message)),* }
            }

            fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
                match kind {
                    $($kind => read($kind, bytes).map(Self::$variant),)*
                    other => Err(DecodeError::unknown(other)),
                }
            }
        }
    };
}

stream!(AccountsInput, ACCOUNTS:
    OpenAccount "custos.account.requested.v1" [Gateway]
    RequestAddress "custos.address.requested.v1" [Gateway]
    RequestWithdrawal "custos.withdrawal.requested.v1" [Gateway]
    RequestTransfer "custos.transfer.requested.v1" [Gateway]
    Decide "custos.withdrawal.decided.v1" [Gateway]
    Screened "custos.screening.answered.v1" [Compliance]
    AddressReady "custos.address.ready.v1" [Treasury]
    Payment "custos.payment.reported.v1" [Treasury]
    HouseSpent "custos.nonce.house-spent.v1" [Treasury]
    Deposit "custos.deposit.reported.v1" [Chain]
    TransferIn "custos.transfer.delivered.v1" [Accounts]
    TransferAnswered "custos.transfer.answered.v1" [Accounts]
    BlockMark "custos.accounts.block-marked.v1" [Chain Treasury]
    Alarm "custos.alarm.raised.v1" [Accounts Treasury Chain]
    Policy "custos.accounts.policy-published.v1" [Operator]
);

stream!(TreasuryInput, TREASURY:
    AllocateAddress "custos.address.allocation-requested.v1" [Accounts]
    TakePayment "custos.payment.handed-over.v1" [Accounts]
    AddressDerived "custos.address.derived.v1" [Wallet]
    Watching "custos.address.watched.v1" [Blockchain]
    Estimated "custos.fee.estimated.v1" [Blockchain]
    Signed "custos.transaction.signed.v1" [Wallet]
    SignRefused "custos.transaction.sign-refused.v1" [Wallet]
    Sent "custos.transaction.sent.v1" [Blockchain]
    Spend "custos.spend.reported.v1" [Chain]
    BlockMark "custos.treasury.block-marked.v1" [Chain]
    Policy "custos.treasury.policy-published.v1" [Operator]
);

stream!(ChainInput, CHAIN:
    Block "custos.block.seen.v1" [Blockchain]
    Policy "custos.chain.policy-published.v1" [Operator]
);

impl AccountsInput {
    fn record_key(&self) -> Vec<u8> {
        let account = match self {
            Self::OpenAccount(m) => &m.account,
            Self::RequestAddress(m) => &m.account,
            Self::RequestWithdrawal(m) => &m.account,
            Self::RequestTransfer(m) => &m.account,
            Self::Decide(m) => &m.saga.account,
            Self::Screened(m) => &m.saga.account,
            Self::AddressReady(m) => &m.saga.account,
            Self::Payment(m) => &m.saga.account,
            Self::Deposit(m) => &m.account,
            Self::TransferIn(m) => &m.to,
            Self::TransferAnswered(m) => &m.saga.account,
            // One shard holds all of a wallet's nonces: what is said of one nonce stays in order.
            Self::HouseSpent(m) => return m.wallet.as_bytes().to_vec(),
            Self::BlockMark(m) => return m.chain.as_str().as_bytes().to_vec(),
            Self::Alarm(m) => return m.subject.as_bytes().to_vec(),
            Self::Policy(_) => return FOR_ALL.to_vec(),
        };
        account.as_bytes().to_vec()
    }

    fn about(&self) -> String {
        match self {
            Self::OpenAccount(m) => m.account.to_string(),
            Self::RequestAddress(m) => m.account.to_string(),
            Self::RequestWithdrawal(m) => m.account.to_string(),
            Self::RequestTransfer(m) => m.account.to_string(),
            Self::Decide(m) => m.saga.to_string(),
            Self::Screened(m) => m.saga.to_string(),
            Self::AddressReady(m) => m.saga.to_string(),
            Self::Payment(m) => m.saga.to_string(),
            Self::HouseSpent(m) => m.wallet.to_string(),
            Self::Deposit(m) => m.account.to_string(),
            Self::TransferIn(m) => m.saga.to_string(),
            Self::TransferAnswered(m) => m.saga.to_string(),
            Self::BlockMark(m) => m.chain.to_string(),
            Self::Alarm(m) => m.subject.clone(),
            Self::Policy(_) => "policy".to_owned(),
        }
    }
}

impl TreasuryInput {
    fn record_key(&self) -> Vec<u8> {
        let wallet = match self {
            Self::AllocateAddress(m) => &m.wallet,
            Self::TakePayment(m) => &m.wallet,
            Self::AddressDerived(m) => &m.wallet,
            Self::Watching(m) => &m.wallet,
            Self::Estimated(m) => &m.wallet,
            Self::Signed(m) => &m.wallet,
            Self::SignRefused(m) => &m.wallet,
            Self::Sent(m) => &m.wallet,
            Self::Spend(m) => &m.wallet,
            Self::BlockMark(m) => &m.wallet,
            Self::Policy(_) => return FOR_ALL.to_vec(),
        };
        wallet.as_bytes().to_vec()
    }

    fn about(&self) -> String {
        match self {
            Self::AllocateAddress(m) => m.saga.to_string(),
            Self::TakePayment(m) => m.saga.to_string(),
            Self::AddressDerived(m) => m.wallet.to_string(),
            Self::Watching(m) => m.wallet.to_string(),
            Self::Estimated(m) => m.intent.to_string(),
            Self::Signed(m) => m.intent.to_string(),
            Self::SignRefused(m) => m.intent.to_string(),
            Self::Sent(m) => m.tx.to_string(),
            Self::Spend(m) => m.tx.to_string(),
            Self::BlockMark(m) => m.wallet.to_string(),
            Self::Policy(_) => "policy".to_owned(),
        }
    }
}

impl ChainInput {
    fn record_key(&self) -> Vec<u8> {
        match self {
            Self::Block(m) => m.chain.as_str().as_bytes().to_vec(),
            Self::Policy(_) => FOR_ALL.to_vec(),
        }
    }

    fn about(&self) -> String {
        match self {
            Self::Block(m) => m.chain.to_string(),
            Self::Policy(_) => "policy".to_owned(),
        }
    }
}

pub(crate) const RUNTIME: &[Row] =
    &[(TimerDue::KIND, &[Source::Accounts, Source::Treasury, Source::Chain]), (Activate::KIND, &[Source::Operator])];

impl Activate {
    /// The protocol name.
    pub const KIND: &str = "custos.logic.activated.v1";
}

impl Message for Activate {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn subject(&self) -> String {
        "logic".to_owned()
    }

    fn key(&self) -> Vec<u8> {
        b"logic".to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        if kind == Self::KIND { read(Self::KIND, bytes) } else { Err(DecodeError::unknown(kind)) }
    }
}

impl TimerDue {
    /// The protocol name. A machine may say it into its own inbox only.
    pub const KIND: &str = "custos.timer.due.v1";
}

impl Message for TimerDue {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn subject(&self) -> String {
        custos_domain::hex_text(&self.timer)
    }

    fn key(&self) -> Vec<u8> {
        self.timer.clone()
    }

    fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        if kind == Self::KIND { read(Self::KIND, bytes) } else { Err(DecodeError::unknown(kind)) }
    }
}
