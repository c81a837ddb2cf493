//! Events of the feed, as JSON.

use custos_messages::accounts::{Deposit, HouseSpent, Inclusion, MarkPath, PaymentRefusal, Verdict};
use custos_messages::events::{
    ClientBook, Ending, EntryReason, EventBody, HouseBook, JournalEntry, LedgerAccount, Leg, Refusal, Request, Side,
    StepPhase,
};
use custos_readmodel::{FeedEvent, OperationKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Block, Money, Registry, time};
use crate::headers::write_position;
use crate::problem::Code;

/// An event. Its identity is `position`: after a rebuild of the read model the same event is told again under a higher `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its place in the feed; rises. What `Last-Event-ID` names.
    pub id: u64,
    /// What happened, such as `custos.deposit.credited.v1`. New types may appear.
    pub r#type: String,
    /// Time of the input that caused it.
    pub time: String,
    /// The account, or the house's account of a shard.
    pub account: String,
    /// Dense for the account, from 1.
    pub account_sequence: u64,
    /// The operation in whose story it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Its place in the log: `partition;sequence`.
    pub position: String,
    /// Its hash in the chain of its partition.
    pub hash: String,
    /// What the type says about itself.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// A page of events, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<EventView>,
    /// The cursor after the last of them: always there, since the feed grows.
    pub next_cursor: String,
}

/// Every event of an operation, in order of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Story {
    /// The operation.
    pub operation: String,
    /// Its events, those of a transfer's receiver included.
    pub items: Vec<EventView>,
}

impl EventView {
    pub(crate) fn of(registry: &Registry, told: &FeedEvent) -> Self {
        Self {
            id: told.id.0,
            r#type: told.kind.clone(),
            time: time(told.event.at),
            account: told.event.account.to_string(),
            account_sequence: told.event.sequence,
            operation: told.saga.map(|saga| saga.to_string()),
            position: write_position(told.position),
            hash: told.hash.to_string(),
            data: data(registry, &told.event.body),
        }
    }
}

fn data(registry: &Registry, body: &EventBody) -> Value {
    match body {
        EventBody::AccountOpened { tenant, key } => json!({ "tenant": tenant.as_str(), "key": key.as_str() }),
        EventBody::Started(request) => request_data(registry, request),
        EventBody::Moved { step, phase } => json!({ "step": step, "phase": phase_word(*phase) }),
        EventBody::Ended(Ending::Completed) => json!({ "ending": "completed" }),
        EventBody::Ended(Ending::Refused(refusal)) => {
            json!({ "ending": "refused", "refusal": Code::of(refusal).name(), "because": because(refusal) })
        }
        EventBody::Parked { step, code } => json!({ "step": step, "code": code }),
        EventBody::Screened { step, clear, codes, versions } => {
            json!({ "step": step, "clear": clear, "codes": codes, "versions": versions })
        }
        EventBody::ApprovalAsked { intent, digest, quorum } => {
            json!({ "intent": hex::encode(intent), "digest": digest.to_string(), "quorum": quorum })
        }
        EventBody::Decided { officer, verdict, digest, policy_version } => json!({
            "officer": officer.as_str(), "verdict": verdict_word(*verdict), "digest": digest.to_string(),
            "policy_version": policy_version,
        }),
        EventBody::AddressIssued { chain, address, wallet, path, watched_from } => json!({
            "chain": chain.as_str(), "address": address.to_string(), "wallet": wallet.to_string(), "path": path,
            "watched_from": Block::from(*watched_from),
        }),
        EventBody::DepositSeen(deposit)
        | EventBody::DepositUnseen(deposit)
        | EventBody::DepositCredited(deposit)
        | EventBody::DepositQuarantined(deposit)
        | EventBody::DepositReversed(deposit) => deposit_data(registry, deposit),
        EventBody::TransferReceived { from, asset, amount } => json!({
            "operation": from.to_string(), "from_account": from.account.to_string(), "money": registry.money(asset, *amount),
        }),
        EventBody::PaymentTaken { intent } => json!({ "intent": intent.to_string() }),
        EventBody::PaymentSigned { tx, nonce, digest, attempt } => {
            json!({ "tx": tx.to_string(), "nonce": nonce, "digest": digest.to_string(), "attempt": attempt })
        }
        EventBody::PaymentSeen(inclusion)
        | EventBody::PaymentUnseen(inclusion)
        | EventBody::PaymentFinal(inclusion)
        | EventBody::PaymentImpossible(inclusion) => inclusion_data(inclusion),
        EventBody::HouseSpent(spent) => spent_data(registry, spent),
        EventBody::Posted(entry) => entry_data(registry, entry),
        EventBody::Marked(mark) => {
            let path = match mark.path {
                MarkPath::Deposits => "deposits",
                MarkPath::Payments => "payments",
            };
            json!({ "chain": mark.chain.as_str(), "path": path, "block": Block::from(mark.block), "partition": mark.partition })
        }
        EventBody::Alarm { code, subject } => json!({ "code": super::books::alarm_word(*code), "subject": subject }),
        EventBody::PolicyAdopted { version, digest } => json!({ "version": version, "digest": digest.to_string() }),
    }
}

/// What was asked for, with its kind.
pub(crate) fn request_data(registry: &Registry, request: &Request) -> Value {
    let kind = OperationKind::of(request).as_str();
    match request {
        Request::Address { key, chain } => json!({ "kind": kind, "key": key.as_str(), "chain": chain.as_str() }),
        Request::Withdrawal { key, asset, amount, to, fee_max, fee_asset, intent } => json!({
            "kind": kind, "key": key.as_str(), "money": registry.money(asset, *amount), "to": to.to_string(),
            "fee_max": registry.money(fee_asset, *fee_max), "intent": intent.to_string(),
        }),
        Request::Transfer { key, to, asset, amount } => json!({
            "kind": kind, "key": key.as_str(), "to_account": to.to_string(), "money": registry.money(asset, *amount),
        }),
        Request::Deposit(deposit) => {
            let mut data = deposit_data(registry, deposit);
            if let Value::Object(fields) = &mut data {
                fields.insert("kind".to_owned(), json!(kind));
            }
            data
        }
    }
}

pub(crate) fn deposit_data(registry: &Registry, deposit: &Deposit) -> Value {
    json!({
        "chain": deposit.chain.as_str(), "tx": deposit.tx.to_string(), "index": deposit.index,
        "block": Block::from(deposit.block), "from": deposit.from.to_string(), "to": deposit.to.to_string(),
        "money": registry.money(&deposit.asset, deposit.amount),
    })
}

fn inclusion_data(inclusion: &Inclusion) -> Value {
    json!({
        "tx": inclusion.tx.to_string(), "nonce": inclusion.nonce, "block": Block::from(inclusion.block),
        "fee_base_units": inclusion.fee.to_string(), "succeeded": inclusion.succeeded,
    })
}

fn spent_data(registry: &Registry, spent: &HouseSpent) -> Value {
    json!({
        "wallet": spent.wallet.to_string(), "chain": spent.chain.as_str(), "nonce": spent.nonce, "version": spent.version,
        "payment": spent.payment.as_ref().map(|payment| json!({
            "operation": payment.saga.to_string(), "money": registry.money(&payment.asset, payment.amount),
        })),
        "settled": spent.settled.as_ref().map(inclusion_data), "now": spent.now.as_ref().map(inclusion_data),
    })
}

fn entry_data(registry: &Registry, entry: &JournalEntry) -> Value {
    let legs: Vec<Value> = entry.legs.iter().map(|leg| leg_data(registry, leg)).collect();
    let block = entry.block.as_ref().map(|(chain, block)| json!({ "chain": chain.as_str(), "block": Block::from(*block) }));
    json!({ "reason": reason_word(entry.reason), "at": block, "legs": legs })
}

fn leg_data(registry: &Registry, leg: &Leg) -> Value {
    let (holder, book) = match &leg.ledger {
        LedgerAccount::Client { account, book } => (json!({ "account": account.to_string() }), client_book(*book)),
        LedgerAccount::House { partition, book } => (json!({ "house": partition }), house_book(*book)),
    };
    let side = match leg.side {
        Side::Debit => "debit",
        Side::Credit => "credit",
    };
    let money: Money = registry.money(&leg.asset, leg.amount);
    json!({ "holder": holder, "book": book, "side": side, "money": money })
}

const fn reason_word(reason: EntryReason) -> &'static str {
    match reason {
        EntryReason::DepositSeen => "deposit-seen",
        EntryReason::DepositUnseen => "deposit-unseen",
        EntryReason::DepositCredited => "deposit-credited",
        EntryReason::DepositQuarantined => "deposit-quarantined",
        EntryReason::DepositReversed => "deposit-reversed",
        EntryReason::Hold => "hold",
        EntryReason::Release => "release",
        EntryReason::PaymentSeen => "payment-seen",
        EntryReason::PaymentUnseen => "payment-unseen",
        EntryReason::PaymentSettled => "payment-settled",
        EntryReason::HouseGas => "house-gas",
        EntryReason::TransferOut => "transfer-out",
        EntryReason::TransferIn => "transfer-in",
        EntryReason::HouseSpent => "house-spent",
        EntryReason::HouseUnspent => "house-unspent",
        EntryReason::ShortageCollected => "shortage-collected",
    }
}

const fn client_book(book: ClientBook) -> &'static str {
    match book {
        ClientBook::Available => "available",
        ClientBook::Held => "held",
        ClientBook::Pending => "pending",
        ClientBook::Frozen => "frozen",
    }
}

const fn house_book(book: HouseBook) -> &'static str {
    match book {
        HouseBook::Custody => "custody",
        HouseBook::InFlight => "in-flight",
        HouseBook::Fees => "fees",
        HouseBook::Gas => "gas",
        HouseBook::Funding => "funding",
        HouseBook::InTransit => "in-transit",
        HouseBook::Suspense => "suspense",
    }
}

pub(crate) const fn phase_word(phase: StepPhase) -> &'static str {
    match phase {
        StepPhase::Asked => "asked",
        StepPhase::Done => "done",
        StepPhase::Undone => "undone",
    }
}

pub(crate) const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Reject => "reject",
    }
}

/// What a refusal adds to its code.
pub(crate) fn because(refusal: &Refusal) -> Vec<String> {
    match refusal {
        Refusal::Screening { codes } => codes.clone(),
        Refusal::TimedOut { step } => vec![step.clone()],
        Refusal::Payment(reason) => vec![payment_refusal(*reason).to_owned()],
        _ => Vec::new(),
    }
}

const fn payment_refusal(reason: PaymentRefusal) -> &'static str {
    match reason {
        PaymentRefusal::FeeAboveEnvelope => "fee-above-envelope",
        PaymentRefusal::WalletShort => "wallet-short",
        PaymentRefusal::SignerRefused => "signer-refused",
        PaymentRefusal::Expired => "expired",
        PaymentRefusal::WouldRevert => "would-revert",
    }
}
