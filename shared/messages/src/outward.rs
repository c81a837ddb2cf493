//! What leaves the machines: commands, events, watch-list records and replies.
//!
//! Each of these has one Protobuf message for all its variants, which holds a choice; the protocol name says which, and must agree.

use crate::blockchain::{BlockchainCommand, BlockchainOrder};
use crate::codec::read;
use crate::compliance::Screen;
use crate::events::{Event, EventBody};
use crate::gateway::{GatewayReply, Outcome};
use crate::streams::Row;
use crate::wallet::{WalletCommand, WalletOrder};
use crate::watch::WatchRecord;
use crate::wire::{self, Wire};
use crate::{DecodeError, Message, Source};

macro_rules! kinds {
    ($rows:ident, $speakers:expr; $($kind:literal)*) => {
        pub(crate) const $rows: &[Row] = &[$(($kind, $speakers)),*];
    };
}

kinds!(COMPLIANCE, &[Source::Accounts]; "custos.screening.asked.v1");
kinds!(WALLET, &[Source::Treasury]; "custos.address.derive.v1" "custos.transaction.sign.v1");
kinds!(BLOCKCHAIN, &[Source::Treasury]; "custos.fee.estimate.v1" "custos.transaction.send.v1");
kinds!(WATCH_ADDRESS, &[Source::Treasury]; "custos.watch.address.v1");
kinds!(WATCH_CURSOR, &[Source::Chain]; "custos.watch.cursor.v1");
kinds!(REPLIES, &[Source::Accounts, Source::Treasury, Source::Chain];
    "custos.request.accepted.v1" "custos.request.refused.v1" "custos.request.key-reused.v1");
kinds!(EVENTS, &[Source::Accounts];
    "custos.account.opened.v1" "custos.operation.started.v1" "custos.operation.moved.v1" "custos.operation.ended.v1"
    "custos.operation.parked.v1" "custos.operation.screened.v1" "custos.approval.asked.v1" "custos.approval.decided.v1"
    "custos.address.issued.v1" "custos.deposit.seen.v1" "custos.deposit.unseen.v1" "custos.deposit.credited.v1"
    "custos.deposit.quarantined.v1" "custos.deposit.reversed.v1" "custos.transfer.received.v1" "custos.payment.taken.v1"
    "custos.payment.signed.v1" "custos.payment.seen.v1" "custos.payment.unseen.v1" "custos.payment.final.v1"
    "custos.payment.impossible.v1" "custos.journal.posted.v1" "custos.books.marked.v1" "custos.alarm.recorded.v1"
    "custos.policy.adopted.v1" "custos.house.spent.v1");

/// Reads a message that holds a choice, and insists that the choice is the one that `kind` says.
fn read_choice<T>(kind: &str, bytes: &[u8], rows: &'static [Row]) -> Result<T, DecodeError>
where
    T: Message + Wire<Proto: prost::Message + Default>,
{
    let (known, _) = rows.iter().find(|(known, _)| *known == kind).ok_or_else(|| DecodeError::unknown(kind))?;
    let message: T = read(known, bytes)?;
    if message.kind() == kind {
        Ok(message)
    } else {
        Err(DecodeError::Field { kind: known, field: "is", problem: "contradicts the message type" })
    }
}

impl Message for Screen {
    fn kind(&self) -> &'static str {
        "custos.screening.asked.v1"
    }

    fn subject(&self) -> String {
        self.saga.to_string()
    }

    fn key(&self) -> Vec<u8> {
        self.account.as_bytes().to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        read_choice(kind, bytes, COMPLIANCE)
    }
}

impl Message for WalletCommand {
    fn kind(&self) -> &'static str {
        match self.order {
            WalletOrder::DeriveAddress { .. } => "custos.address.derive.v1",
            WalletOrder::Sign(_) => "custos.transaction.sign.v1",
        }
    }

    fn subject(&self) -> String {
        self.wallet.to_string()
    }

    fn key(&self) -> Vec<u8> {
        self.wallet.as_bytes().to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        read_choice(kind, bytes, WALLET)
    }
}

impl Message for BlockchainCommand {
    fn kind(&self) -> &'static str {
        match self.order {
            BlockchainOrder::Estimate { .. } => "custos.fee.estimate.v1",
            BlockchainOrder::Send { .. } => "custos.transaction.send.v1",
        }
    }

    fn subject(&self) -> String {
        self.wallet.to_string()
    }

    fn key(&self) -> Vec<u8> {
        self.wallet.as_bytes().to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        read_choice(kind, bytes, BLOCKCHAIN)
    }
}

impl Message for WatchRecord {
    fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "custos.watch.address.v1",
            Self::Cursor { .. } => "custos.watch.cursor.v1",
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Address(watched) => format!("{}/{}", watched.chain, watched.address),
            Self::Cursor { chain, .. } => chain.to_string(),
        }
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Self::Address(watched) => [watched.chain.as_str().as_bytes(), &[0], &watched.address.0].concat(),
            Self::Cursor { chain, .. } => chain.as_str().as_bytes().to_vec(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Address(watched) => wire::to_bytes(watched),
            Self::Cursor { chain, block } => wire::to_bytes(&(chain.clone(), *block)),
        }
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        match kind {
            "custos.watch.address.v1" => read("custos.watch.address.v1", bytes).map(Self::Address),
            "custos.watch.cursor.v1" => {
                let (chain, block) = read("custos.watch.cursor.v1", bytes)?;
                Ok(Self::Cursor { chain, block })
            }
            other => Err(DecodeError::unknown(other)),
        }
    }
}

impl Message for GatewayReply {
    fn kind(&self) -> &'static str {
        match self.outcome {
            Outcome::Accepted { .. } => "custos.request.accepted.v1",
            Outcome::Refused(_) => "custos.request.refused.v1",
            Outcome::KeyReused => "custos.request.key-reused.v1",
        }
    }

    fn subject(&self) -> String {
        custos_domain::hex_text(&self.correlation)
    }

    fn key(&self) -> Vec<u8> {
        self.correlation.to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        read_choice(kind, bytes, REPLIES)
    }
}

impl Message for Event {
    fn kind(&self) -> &'static str {
        match self.body {
            EventBody::AccountOpened { .. } => "custos.account.opened.v1",
            EventBody::Started(_) => "custos.operation.started.v1",
            EventBody::Moved { .. } => "custos.operation.moved.v1",
            EventBody::Ended(_) => "custos.operation.ended.v1",
            EventBody::Parked { .. } => "custos.operation.parked.v1",
            EventBody::Screened { .. } => "custos.operation.screened.v1",
            EventBody::ApprovalAsked { .. } => "custos.approval.asked.v1",
            EventBody::Decided { .. } => "custos.approval.decided.v1",
            EventBody::AddressIssued { .. } => "custos.address.issued.v1",
            EventBody::DepositSeen(_) => "custos.deposit.seen.v1",
            EventBody::DepositUnseen(_) => "custos.deposit.unseen.v1",
            EventBody::DepositCredited(_) => "custos.deposit.credited.v1",
            EventBody::DepositQuarantined(_) => "custos.deposit.quarantined.v1",
            EventBody::DepositReversed(_) => "custos.deposit.reversed.v1",
            EventBody::TransferReceived { .. } => "custos.transfer.received.v1",
            EventBody::PaymentTaken { .. } => "custos.payment.taken.v1",
            EventBody::PaymentSigned { .. } => "custos.payment.signed.v1",
            EventBody::PaymentSeen(_) => "custos.payment.seen.v1",
            EventBody::PaymentUnseen(_) => "custos.payment.unseen.v1",
            EventBody::PaymentFinal(_) => "custos.payment.final.v1",
            EventBody::PaymentImpossible(_) => "custos.payment.impossible.v1",
            EventBody::HouseSpent(_) => "custos.house.spent.v1",
            EventBody::Posted(_) => "custos.journal.posted.v1",
            EventBody::Marked(_) => "custos.books.marked.v1",
            EventBody::Alarm { .. } => "custos.alarm.recorded.v1",
            EventBody::PolicyAdopted { .. } => "custos.policy.adopted.v1",
        }
    }

    fn subject(&self) -> String {
        self.account.to_string()
    }

    fn key(&self) -> Vec<u8> {
        self.account.as_bytes().to_vec()
    }

    fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        read_choice(kind, bytes, EVENTS)
    }
}
