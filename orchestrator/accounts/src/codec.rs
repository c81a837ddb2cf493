//! State records to bytes and back.
//!
//! Invariants: the same record always gives the same bytes; keys keep their order; every value names its schema, and one that this
//! binary does not know is refused. A running saga names its definition, version and step, never a place in a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_domain::{AccountId, Amount, AssetId, ChainId, SagaId, TxHash, WalletId};
use custos_messages::SignedPolicy;
use custos_messages::accounts::HouseSpent;
use custos_messages::wire::{Body, Fault, Field, Wire, from_bytes, to_bytes, write_bytes, write_message, write_number};
use custos_messages::{wire_enum, wire_struct};
use custos_policy::read_trusted;
use custos_saga::machine::StateError;
use custos_saga::participant::Entry;
use custos_saga::{Instance, Phase};
use prost::Message;

use crate::cases::REGISTRY;
use crate::state::{
    Account, Balances, Case, DepositCase, DepositKey, DepositRecord, DepositStatus, Entity, Finished, House, InForce,
    IssueAddress, Key, Net, Paid, SagaRecord, SentHour, Transfer, Withdrawal,
};

mod proto {
    #![allow(missing_docs, clippy::all, clippy::as_conversions)]
    include!(concat!(env!("OUT_DIR"), "/custos.state.v1.accounts.rs"));

    #[allow(non_snake_case, non_upper_case_globals, dead_code)]
    pub mod numbers {
        include!(concat!(env!("OUT_DIR"), "/custos.state.v1.accounts.numbers.rs"));
    }
}

use proto::record::Is;

/// 2: what reversals left owed stands in the account. A record of another schema is refused by name.
const SCHEMA: u32 = 2;

const POLICY: u8 = 0x10;
const HOUSE: u8 = 0x11;
const ACCOUNT: u8 = 0x12;
const SAGA: u8 = 0x13;
const FINISHED: u8 = 0x14;
const DEPOSIT: u8 = 0x15;
const RECEIVED: u8 = 0x16;
const HOUSE_SPEND: u8 = 0x17;

pub(crate) fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Policy => vec![POLICY],
        Key::House => vec![HOUSE],
        Key::Account(id) => joined(ACCOUNT, &[id.as_bytes()]),
        Key::Saga(id) => joined(SAGA, &[&id.to_bytes()]),
        Key::Finished(id) => joined(FINISHED, &[&id.to_bytes()]),
        Key::Deposit(DepositKey { tx, index, chain }) => {
            joined(DEPOSIT, &[tx.as_bytes(), &index.to_be_bytes(), chain.as_str().as_bytes()])
        }
        Key::Received(id) => joined(RECEIVED, &[&id.to_bytes()]),
        Key::HouseSpend(wallet, nonce) => joined(HOUSE_SPEND, &[wallet.as_bytes(), &nonce.to_be_bytes()]),
    }
}

fn joined(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().fold(1, |length: usize, part| length.saturating_add(part.len()));
    let mut key = Vec::with_capacity(length);
    key.push(kind);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn decode_key(bytes: &[u8]) -> Option<Key> {
    let (kind, rest) = bytes.split_first()?;
    let saga = || SagaId::from_slice(rest).ok();
    match (*kind, rest.is_empty()) {
        (POLICY, true) => Some(Key::Policy),
        (HOUSE, true) => Some(Key::House),
        (ACCOUNT, _) => AccountId::from_slice(rest).ok().map(Key::Account),
        (SAGA, _) => saga().map(Key::Saga),
        (FINISHED, _) => saga().map(Key::Finished),
        (RECEIVED, _) => saga().map(Key::Received),
        (HOUSE_SPEND, _) => {
            let (wallet, nonce) = rest.split_at_checked(16)?;
            let nonce = u64::from_be_bytes(nonce.try_into().ok()?);
            Some(Key::HouseSpend(WalletId::from_slice(wallet).ok()?, nonce))
        }
        (DEPOSIT, _) => {
            let (tx, rest) = rest.split_at_checked(32)?;
            let (index, chain) = rest.split_at_checked(4)?;
            let chain = ChainId::new(std::str::from_utf8(chain).ok()?).ok()?;
            let index = u32::from_be_bytes(index.try_into().ok()?);
            Some(Key::Deposit(DepositKey { tx: TxHash::from_slice(tx).ok()?, index, chain }))
        }
        _ => None,
    }
}

/// Room for most records, so that writing them moves nothing.
const ROOM: usize = 512;

pub(crate) fn encode_entity(entity: &Entity) -> Vec<u8> {
    use proto::numbers::{HouseSpend, Policy, Received, Record};
    let mut out = Vec::with_capacity(ROOM);
    SCHEMA.write(Record::schema, &mut out);
    match entity {
        Entity::Policy(in_force) => write_message(Record::Policy, &mut out, |out| {
            in_force.signed.bytes.write(Policy::bytes, out);
            in_force.signed.signature.write(Policy::signature, out);
        }),
        Entity::House(house) => house.write(Record::House, &mut out),
        Entity::Account(account) => account.write(Record::Account, &mut out),
        Entity::Saga(saga) => saga.write(Record::Saga, &mut out),
        Entity::Finished(finished) => finished.write(Record::Finished, &mut out),
        Entity::Deposit(deposit) => deposit.write(Record::Deposit, &mut out),
        Entity::Received(entry) => {
            write_message(Record::Received, &mut out, |out| write_enum(Received::entry, put_entry(*entry), out));
        }
        Entity::HouseSpend(said) => {
            write_message(Record::HouseSpend, &mut out, |out| said.write(HouseSpend::said, out));
        }
    }
    out.shrink_to_fit();
    debug_assert_eq!(out, generated(entity), "both ways of writing give the same bytes");
    out
}

/// The record in the generated form: what the direct way of writing is held against wherever assertions are on.
fn generated(entity: &Entity) -> Vec<u8> {
    let is = match entity {
        Entity::Policy(in_force) => Is::Policy(proto::Policy {
            bytes: Some(in_force.signed.bytes.clone()),
            signature: Some(in_force.signed.signature.clone()),
        }),
        Entity::House(house) => Is::House(house.put()),
        Entity::Account(account) => Is::Account(account.put()),
        Entity::Saga(saga) => Is::Saga(saga.put()),
        Entity::Finished(finished) => Is::Finished(finished.put()),
        Entity::Deposit(deposit) => Is::Deposit(deposit.put()),
        Entity::Received(entry) => Is::Received(proto::Received { entry: Some(put_entry(*entry)) }),
        Entity::HouseSpend(said) => Is::HouseSpend(proto::HouseSpend { said: Some(to_bytes(said.as_ref())) }),
    };
    proto::Record { schema: SCHEMA, is: Some(is) }.encode_to_vec()
}

/// Numbers of the contract's enums are above zero.
fn write_enum(number: u32, value: i32, out: &mut Vec<u8>) {
    write_number(number, u64::try_from(value).unwrap_or_default(), out);
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<(Key, Entity), StateError> {
    let name = || hex::encode(key);
    let known = decode_key(key).ok_or_else(|| StateError::Key(name()))?;
    let malformed = |source| StateError::Malformed { key: name(), source };
    let schema = proto::Schema::decode(value).map_err(malformed)?.schema;
    if schema != SCHEMA {
        return Err(StateError::Schema { key: name(), schema });
    }
    let is = proto::Record::decode(value).map_err(malformed)?.is;
    let entity = take(&known, is).map_err(|fault| StateError::Field { key: name(), field: fault.field })?;
    Ok((known, entity))
}

fn take(key: &Key, is: Option<Is>) -> Result<Entity, Fault> {
    Ok(match (key, is) {
        (Key::Policy, Some(Is::Policy(held))) => {
            let bytes = Field::take_field(held.bytes, "bytes")?;
            let signed = SignedPolicy { bytes, signature: Field::take_field(held.signature, "signature")? };
            let policy = read_trusted(&signed).map_err(|_| Fault::new("is no policy").of("policy"))?;
            Entity::Policy(Arc::new(InForce { signed, policy }))
        }
        (Key::House, Some(Is::House(house))) => Entity::House(Wire::take(house)?),
        (Key::Account(_), Some(Is::Account(account))) => Entity::Account(Box::new(Wire::take(account)?)),
        (Key::Saga(_), Some(Is::Saga(saga))) => Entity::Saga(Box::new(Wire::take(saga)?)),
        (Key::Finished(_), Some(Is::Finished(finished))) => Entity::Finished(Wire::take(finished)?),
        (Key::Deposit(_), Some(Is::Deposit(deposit))) => Entity::Deposit(Box::new(Wire::take(deposit)?)),
        (Key::HouseSpend(wallet, nonce), Some(Is::HouseSpend(held))) => {
            let said: HouseSpent = unseal(held.said, "said")?;
            if (said.wallet, said.nonce) != (*wallet, *nonce) {
                return Err(Fault::new("is of another nonce").of("said"));
            }
            Entity::HouseSpend(Box::new(said))
        }
        (Key::Received(_), Some(Is::Received(held))) => Entity::Received(take_entry(held.entry)?),
        _ => return Err(Fault::new("is absent or of another kind").of("is")),
    })
}

wire_struct!(proto:
    Transfer { account, to, asset, amount, sent_hour }
    IssueAddress { account, chain, wallet }
    Finished { fingerprint, completed }
);
wire_enum!(proto:
    Paid { Final, Impossible }
    DepositStatus { Seen, Unseen, Credited, Quarantined, Reversed }
);

fn put_entry(entry: Entry) -> i32 {
    i32::from(match entry {
        Entry::Done => proto::Entry::Done,
        Entry::Refused => proto::Entry::Refused,
        Entry::Undone => proto::Entry::Undone,
        Entry::Barred => proto::Entry::Barred,
    })
}

fn take_entry(entry: Option<i32>) -> Result<Entry, Fault> {
    match entry.and_then(|number| proto::Entry::try_from(number).ok()) {
        Some(proto::Entry::Done) => Ok(Entry::Done),
        Some(proto::Entry::Refused) => Ok(Entry::Refused),
        Some(proto::Entry::Undone) => Ok(Entry::Undone),
        Some(proto::Entry::Barred) => Ok(Entry::Barred),
        Some(proto::Entry::Unspecified) | None => Err(Fault::new("is absent or unknown").of("entry")),
    }
}

/// A field that holds the bytes of a message of custos.v1.
fn unseal<T: Wire<Proto: Message + Default>>(bytes: Option<Vec<u8>>, name: &'static str) -> Result<T, Fault> {
    unseal_some(bytes, name)?.ok_or(Fault::new("is absent").of(name))
}

fn unseal_some<T: Wire<Proto: Message + Default>>(bytes: Option<Vec<u8>>, name: &'static str) -> Result<Option<T>, Fault> {
    bytes.map(|bytes| from_bytes(&bytes)).transpose().map_err(|_| Fault::new("is no message of its kind").of(name))
}

/// Lines become a map; out of order or twice is refused, so that equal records have equal bytes.
fn ascending<K: Ord, V>(lines: Vec<(K, V)>, name: &'static str) -> Result<BTreeMap<K, V>, Fault> {
    if lines.iter().zip(lines.iter().skip(1)).all(|((one, _), (next, _))| one < next) {
        Ok(lines.into_iter().collect())
    } else {
        Err(Fault::new("is not sorted").of(name))
    }
}

impl Wire for House {
    type Proto = proto::House;

    fn put(&self) -> proto::House {
        let line = |((book, asset), net): (&(_, AssetId), &Net)| proto::HouseLine {
            book: Field::put_field(book),
            asset: asset.put_field(),
            debit: net.debit.put_field(),
            credit: net.credit.put_field(),
        };
        proto::House { sequence: self.sequence.put_field(), lines: self.books.iter().map(line).collect() }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::House) -> Result<Self, Fault> {
        let line = |line: proto::HouseLine| {
            let key = (Field::take_field(line.book, "book")?, Field::take_field(line.asset, "asset")?);
            let debit = Field::take_field(line.debit, "debit")?;
            Ok((key, Net { debit, credit: Field::take_field(line.credit, "credit")? }))
        };
        let lines = proto.lines.into_iter().map(line).collect::<Result<Vec<_>, Fault>>()?;
        Ok(Self { sequence: Field::take_field(proto.sequence, "sequence")?, books: ascending(lines, "lines")? })
    }
}

impl Body for House {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::{House, HouseLine};
        self.sequence.write(House::sequence, out);
        for ((book, asset), net) in &self.books {
            write_message(House::lines, out, |out| {
                book.write(HouseLine::book, out);
                asset.write(HouseLine::asset, out);
                net.debit.write(HouseLine::debit, out);
                net.credit.write(HouseLine::credit, out);
            });
        }
    }
}

/// What is owed, if anything is: hardly anybody owes.
fn owed(balances: &Balances) -> Option<Amount> {
    (!balances.owed.is_zero()).then_some(balances.owed)
}

impl Wire for Account {
    type Proto = proto::Account;

    fn put(&self) -> proto::Account {
        let line = |(asset, held): (&AssetId, &Balances)| proto::AccountLine {
            asset: asset.put_field(),
            available: held.available.put_field(),
            held: held.held.put_field(),
            pending: held.pending.put_field(),
            frozen: held.frozen.put_field(),
            owed: owed(held).and_then(|owed| owed.put_field()),
        };
        let sent = |(asset, hours): (&AssetId, &Vec<SentHour>)| {
            let asset = asset.clone();
            hours.clone().into_iter().map(move |entry| proto::SentLine {
                asset: asset.put_field(),
                hour: entry.hour.put_field(),
                amount: entry.amount.put_field(),
                count: entry.count.put_field(),
            })
        };
        proto::Account {
            tenant: self.tenant.put_field(),
            key: self.key.put_field(),
            sequence: self.sequence.put_field(),
            lines: self.balances.iter().map(line).collect(),
            sent: self.sent.iter().flat_map(sent).collect(),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::Account) -> Result<Self, Fault> {
        let line = |line: proto::AccountLine| {
            let balances = Balances {
                available: Field::take_field(line.available, "available")?,
                held: Field::take_field(line.held, "held")?,
                pending: Field::take_field(line.pending, "pending")?,
                frozen: Field::take_field(line.frozen, "frozen")?,
                owed: line.owed.map_or(Ok(Amount::ZERO), |owed| Field::take_field(Some(owed), "owed"))?,
            };
            Ok((Field::take_field(line.asset, "asset")?, balances))
        };
        let sent = |line: proto::SentLine| {
            let entry = SentHour {
                hour: Field::take_field(line.hour, "hour")?,
                amount: Field::take_field(line.amount, "amount")?,
                count: Field::take_field(line.count, "count")?,
            };
            Ok(((Field::take_field(line.asset, "asset")?, entry.hour), entry))
        };
        let lines = proto.lines.into_iter().map(line).collect::<Result<Vec<_>, Fault>>()?;
        let entries = proto.sent.into_iter().map(sent).collect::<Result<Vec<_>, Fault>>()?;
        let mut sent: BTreeMap<AssetId, Vec<SentHour>> = BTreeMap::new();
        for ((asset, _), entry) in ascending(entries, "sent")? {
            sent.entry(asset).or_default().push(entry);
        }
        Ok(Self {
            tenant: Field::take_field(proto.tenant, "tenant")?,
            key: Field::take_field(proto.key, "key")?,
            sequence: Field::take_field(proto.sequence, "sequence")?,
            balances: ascending(lines, "lines")?,
            sent,
        })
    }
}

impl Body for Account {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::{Account, AccountLine, SentLine};
        self.tenant.write(Account::tenant, out);
        self.key.write(Account::key, out);
        self.sequence.write(Account::sequence, out);
        for (asset, held) in &self.balances {
            write_message(Account::lines, out, |out| {
                asset.write(AccountLine::asset, out);
                held.available.write(AccountLine::available, out);
                held.held.write(AccountLine::held, out);
                held.pending.write(AccountLine::pending, out);
                held.frozen.write(AccountLine::frozen, out);
                if let Some(owed) = owed(held) {
                    owed.write(AccountLine::owed, out);
                }
            });
        }
        for (asset, hours) in &self.sent {
            for entry in hours {
                write_message(Account::sent, out, |out| {
                    asset.write(SentLine::asset, out);
                    entry.hour.write(SentLine::hour, out);
                    entry.amount.write(SentLine::amount, out);
                    entry.count.write(SentLine::count, out);
                });
            }
        }
    }
}

impl Wire for DepositRecord {
    type Proto = proto::DepositRecord;

    fn put(&self) -> proto::DepositRecord {
        proto::DepositRecord {
            block: Some(to_bytes(&self.block)),
            status: Field::put_field(&self.status),
            saga: self.saga.put_field(),
            inclusions: self.inclusions.put_field(),
            asset: self.asset.put_field(),
            amount: self.amount.put_field(),
            shortage: None,
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::DepositRecord) -> Result<Self, Fault> {
        Ok(Self {
            block: unseal(proto.block, "block")?,
            status: Field::take_field(proto.status, "status")?,
            saga: Field::take_field(proto.saga, "saga")?,
            inclusions: Field::take_field(proto.inclusions, "inclusions")?,
            asset: Field::take_field(proto.asset, "asset")?,
            amount: Field::take_field(proto.amount, "amount")?,
        })
    }
}

impl Body for DepositRecord {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::DepositRecord;
        self.block.write(DepositRecord::block, out);
        self.status.write(DepositRecord::status, out);
        self.saga.write(DepositRecord::saga, out);
        self.inclusions.write(DepositRecord::inclusions, out);
        self.asset.write(DepositRecord::asset, out);
        self.amount.write(DepositRecord::amount, out);
    }
}

impl Wire for DepositCase {
    type Proto = proto::DepositCase;

    fn put(&self) -> proto::DepositCase {
        proto::DepositCase {
            account: self.account.put_field(),
            deposit: Some(to_bytes(&self.deposit)),
            house: self.house.put_field(),
            codes: self.codes.clone(),
            is_final: self.is_final.put_field(),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::DepositCase) -> Result<Self, Fault> {
        Ok(Self {
            account: Field::take_field(proto.account, "account")?,
            deposit: unseal(proto.deposit, "deposit")?,
            house: Field::take_field(proto.house, "house")?,
            codes: proto.codes,
            is_final: Field::take_field(proto.is_final, "is_final")?,
        })
    }
}

impl Body for DepositCase {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::DepositCase;
        self.account.write(DepositCase::account, out);
        self.deposit.write(DepositCase::deposit, out);
        self.house.write(DepositCase::house, out);
        self.codes.iter().for_each(|code| code.write(DepositCase::codes, out));
        self.is_final.write(DepositCase::is_final, out);
    }
}

impl Wire for Withdrawal {
    type Proto = proto::Withdrawal;

    fn put(&self) -> proto::Withdrawal {
        proto::Withdrawal {
            account: self.account.put_field(),
            intent: Some(to_bytes(&self.intent)),
            kind: Some(to_bytes(&self.kind)),
            wallet: self.wallet.put_field(),
            quorum: self.quorum.put_field(),
            approvals: self.approvals.iter().map(to_bytes).collect(),
            sent_hour: self.sent_hour.put_field(),
            taken: self.taken.put_field(),
            attempt: self.attempt.put_field(),
            seen: self.seen.as_ref().map(to_bytes),
            outcome: self.outcome.map(|outcome| outcome.put()),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::Withdrawal) -> Result<Self, Fault> {
        let approvals = proto.approvals.into_iter().map(|bytes| unseal(Some(bytes), "approvals"));
        Ok(Self {
            account: Field::take_field(proto.account, "account")?,
            intent: unseal(proto.intent, "intent")?,
            kind: unseal(proto.kind, "kind")?,
            wallet: Field::take_field(proto.wallet, "wallet")?,
            quorum: Field::take_field(proto.quorum, "quorum")?,
            approvals: approvals.collect::<Result<_, Fault>>()?,
            sent_hour: Field::take_field(proto.sent_hour, "sent_hour")?,
            taken: Field::take_field(proto.taken, "taken")?,
            attempt: Field::take_field(proto.attempt, "attempt")?,
            seen: unseal_some(proto.seen, "seen")?,
            outcome: Field::take_field(proto.outcome, "outcome")?,
        })
    }
}

impl Body for Withdrawal {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::Withdrawal;
        self.account.write(Withdrawal::account, out);
        self.intent.write(Withdrawal::intent, out);
        self.kind.write(Withdrawal::kind, out);
        self.wallet.write(Withdrawal::wallet, out);
        self.quorum.write(Withdrawal::quorum, out);
        self.approvals.iter().for_each(|approval| approval.write(Withdrawal::approvals, out));
        self.sent_hour.write(Withdrawal::sent_hour, out);
        self.taken.write(Withdrawal::taken, out);
        self.attempt.write(Withdrawal::attempt, out);
        self.seen.iter().for_each(|seen| seen.write(Withdrawal::seen, out));
        self.outcome.iter().for_each(|outcome| outcome.write(Withdrawal::outcome, out));
    }
}

impl Wire for SagaRecord {
    type Proto = proto::Saga;

    fn put(&self) -> proto::Saga {
        use proto::saga::Case as Held;
        let shape = self.case.shape();
        let named = |step: usize| shape.row(step).map(|row| row.name.to_owned());
        let done = (0..shape.len()).filter(|step| self.instance.is_done(*step)).filter_map(named).collect();
        proto::Saga {
            definition: Some(shape.name().to_owned()),
            version: Some(self.version),
            step: named(self.instance.step),
            phase: Some(i32::from(self.proto_phase())),
            attempt: self.instance.attempt.put_field(),
            expected: self.instance.expected.put_field(),
            done,
            fingerprint: self.fingerprint.put_field(),
            due: self.due.put_field(),
            refusal: self.refusal.as_ref().map(to_bytes),
            case: Some(match &self.case {
                Case::Withdrawal(case) => Held::Withdrawal(case.put()),
                Case::Deposit(case) => Held::Deposit(case.put()),
                Case::Transfer(case) => Held::Transfer(case.put()),
                Case::IssueAddress(case) => Held::IssueAddress(case.put()),
            }),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::Saga) -> Result<Self, Fault> {
        use proto::saga::Case as Held;
        let case = match proto.case.ok_or(Fault::new("is absent").of("case"))? {
            Held::Withdrawal(case) => Case::Withdrawal(Wire::take(case)?),
            Held::Deposit(case) => Case::Deposit(Wire::take(case)?),
            Held::Transfer(case) => Case::Transfer(Wire::take(case)?),
            Held::IssueAddress(case) => Case::IssueAddress(Wire::take(case)?),
        };
        let version = Field::take_field(proto.version, "version")?;
        let shape = proto
            .definition
            .and_then(|name| REGISTRY.resolve(&name, version))
            .filter(|shape| shape.name() == case.shape().name())
            .ok_or(Fault::new("is not registered").of("definition"))?;
        let place = |name: &str| shape.index_of(name).ok_or(Fault::new("is not in the definition").of("step"));
        let phase = match proto.phase.and_then(|number| proto::Phase::try_from(number).ok()) {
            Some(proto::Phase::Waiting) => Phase::Waiting,
            Some(proto::Phase::UndoWaiting) => Phase::UndoWaiting,
            Some(proto::Phase::Parked) => Phase::Parked,
            Some(proto::Phase::Unspecified) | None => return Err(Fault::new("is absent or unknown").of("phase")),
        };
        let mut instance = Instance {
            phase,
            step: place(&proto.step.ok_or(Fault::new("is absent").of("step"))?)?,
            attempt: Field::take_field(proto.attempt, "attempt")?,
            expected: Field::take_field(proto.expected, "expected")?,
            done: 0,
        };
        for name in &proto.done {
            instance.mark_done(place(name)?);
        }
        Ok(Self {
            version,
            instance,
            fingerprint: Field::take_field(proto.fingerprint, "fingerprint")?,
            due: Field::take_field(proto.due, "due")?,
            refusal: unseal_some(proto.refusal, "refusal")?,
            case,
        })
    }
}

impl SagaRecord {
    fn proto_phase(&self) -> proto::Phase {
        match self.instance.phase {
            Phase::UndoWaiting => proto::Phase::UndoWaiting,
            Phase::Parked => proto::Phase::Parked,
            // Between inputs a saga waits or is parked; ended ones are not stored here.
            _ => proto::Phase::Waiting,
        }
    }
}

impl Body for SagaRecord {
    fn write_body(&self, out: &mut Vec<u8>) {
        use proto::numbers::Saga;
        let shape = self.case.shape();
        write_bytes(Saga::definition, shape.name().as_bytes(), out);
        self.version.write(Saga::version, out);
        let names = |number: u32, step: usize, out: &mut Vec<u8>| {
            if let Some(row) = shape.row(step) {
                write_bytes(number, row.name.as_bytes(), out);
            }
        };
        names(Saga::step, self.instance.step, out);
        write_enum(Saga::phase, i32::from(self.proto_phase()), out);
        self.instance.attempt.write(Saga::attempt, out);
        self.instance.expected.iter().for_each(|command| command.write(Saga::expected, out));
        let done = (0..shape.len()).filter(|step| self.instance.is_done(*step));
        done.for_each(|step| names(Saga::done, step, out));
        self.fingerprint.write(Saga::fingerprint, out);
        self.due.iter().for_each(|due| due.write(Saga::due, out));
        self.refusal.iter().for_each(|refusal| refusal.write(Saga::refusal, out));
        match &self.case {
            Case::Withdrawal(case) => case.write(Saga::Withdrawal, out),
            Case::Deposit(case) => case.write(Saga::Deposit, out),
            Case::Transfer(case) => case.write(Saga::Transfer, out),
            Case::IssueAddress(case) => case.write(Saga::IssueAddress, out),
        }
    }
}
