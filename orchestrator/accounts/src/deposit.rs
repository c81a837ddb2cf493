//! Deposit: money that arrived at one of our addresses becomes the client's once the chain cannot take it back.
//!
//! Invariants: nothing is credited before the chain says final and screening has answered; a source that screening refuses ends
//! frozen, never available; a deposit that leaves the chain after it was credited is taken back visibly, by a new entry, and never
//! out of what is held. Each inclusion in a block is a saga of its own.

use custos_domain::{AccountId, Amount, HashContext, Millis, SagaId};
use custos_messages::accounts::{AlarmCode, Deposit, DepositFact, DepositNews};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::{ClientBook, EntryReason, EventBody, HouseBook, Refusal, Request};
use custos_saga::{Ask, Judged, Ran, Saga};

use crate::cases::{Answer, Question, UNNAMED, hear, start};
use crate::desk::Desk;
use crate::ledger::{LEDGER_FAULT, LedgerError};
use crate::screening::tell_finding;
use crate::state::{Case, DepositCase, DepositKey, DepositRecord, DepositStatus, Entity, Key};

type Step = custos_saga::Step<DepositCase>;

/// The hash by which an inclusion of a deposit is known.
static INCLUSION: HashContext = HashContext::new("custos 2026 deposit");

/// The table.
pub const DEPOSIT: Saga<DepositCase> = Saga {
    name: "deposit",
    version: 1,
    purpose: "Credit what arrived on chain once it is final, or freeze it if its source is refused.",
    no_pivot: None,
    steps: &[
        Step::local("record", record_seen)
            .about("coins into custody, against the client's pending")
            .undo("record-gone", record_unseen),
        // Fails closed: without an answer it is asked again and nothing is credited.
        Step::ask("screen", screen, screened)
            .about("compliance about the source; a hit freezes, it does not return")
            .resend_every(Millis::minutes(5))
            .ahead(),
        Step::ask("await-finality", listen, final_on_chain)
            .about("nobody: the chain machine tells final, or that the block is gone")
            .until_told("the chain machine reports every block, and marks stall visibly if it does not")
            .harmless("listening leaves nothing"),
        Step::pivot_local("credit", credit).about("pending becomes available, or frozen if screening found something"),
        Step::forward_local("tell", tell_client).about("the client that the money is credited, or frozen"),
    ],
};

impl DepositCase {
    fn key(&self) -> DepositKey {
        key_of(&self.deposit)
    }
}

fn key_of(deposit: &Deposit) -> DepositKey {
    DepositKey { tx: deposit.tx, index: deposit.index, chain: deposit.chain.clone() }
}

fn record_of(desk: &Desk<'_>, key: &DepositKey) -> Option<DepositRecord> {
    match desk.rows.get(&Key::Deposit(key.clone())) {
        Some(Entity::Deposit(record)) => Some(record.as_ref().clone()),
        _ => None,
    }
}

fn set_status(desk: &mut Desk<'_>, key: DepositKey, status: DepositStatus) {
    if let Some(Entity::Deposit(record)) = desk.rows.get_mut(&Key::Deposit(key)) {
        record.status = status;
    }
}

fn record_seen(desk: &mut Desk<'_>, it: &mut DepositCase) -> Ran<Refusal> {
    match enter_pending(desk, it, EntryReason::DepositSeen) {
        Ok(()) => {
            desk.tell(&it.account, EventBody::DepositSeen(it.deposit.clone()));
            Ran::Done
        }
        Err(_) => Ran::Wrong(LEDGER_FAULT),
    }
}

fn record_unseen(desk: &mut Desk<'_>, it: &mut DepositCase) -> Ran<Refusal> {
    match enter_pending(desk, it, EntryReason::DepositUnseen) {
        Ok(()) => {
            desk.tell(&it.account, EventBody::DepositUnseen(it.deposit.clone()));
            set_status(desk, it.key(), DepositStatus::Unseen);
            Ran::Done
        }
        Err(_) => Ran::Wrong(LEDGER_FAULT),
    }
}

/// Custody against what is owed once it is final: the client's pending, or for the house's own money suspense.
fn enter_pending(desk: &mut Desk<'_>, it: &DepositCase, reason: EntryReason) -> Result<(), LedgerError> {
    let (account, deposit) = (it.account, &it.deposit);
    let legs = desk.legs(&account).debit_house(HouseBook::Custody, &deposit.asset, deposit.amount);
    let legs = if it.house {
        legs.credit_house(HouseBook::Suspense, &deposit.asset, deposit.amount)
    } else {
        legs.credit(ClientBook::Pending, &deposit.asset, deposit.amount)
    };
    let legs = if reason == EntryReason::DepositUnseen { legs.reversed() } else { legs };
    desk.post(&account, reason, Some((deposit.chain.clone(), deposit.block)), legs)
}

fn screen(desk: &mut Desk<'_>, it: &mut DepositCase) -> Ask<Question, Refusal> {
    let Some(saga) = desk.saga else { return Ask::Refuse(Refusal::UnknownAccount) };
    if it.house {
        return Ask::NotNeeded;
    }
    let deposit = &it.deposit;
    Ask::Send(Question::Screen(Box::new(Screen {
        id: UNNAMED,
        saga,
        account: saga.account,
        direction: Direction::In,
        party: Party::Address { chain: deposit.chain.clone(), address: deposit.from },
        asset: deposit.asset.clone(),
        amount: deposit.amount,
        sent_last_day: Amount::ZERO,
        sent_count_last_day: 0,
    })))
}

fn screened(desk: &mut Desk<'_>, it: &mut DepositCase, answer: &Answer) -> Judged<Refusal> {
    match answer {
        Answer::Screened(screened) => {
            it.codes = tell_finding(desk, &it.account, screened);
            Judged::Done
        }
        Answer::Deposit(DepositNews::Final) if !it.is_final => {
            it.is_final = true;
            Judged::Wait
        }
        Answer::Deposit(DepositNews::Unseen) => Judged::Refused(Refusal::Unseen),
        _ => Judged::NotMine("repeat"),
    }
}

fn listen(_: &mut Desk<'_>, it: &mut DepositCase) -> Ask<Question, Refusal> {
    if it.is_final { Ask::NotNeeded } else { Ask::Listen }
}

fn final_on_chain(_: &mut Desk<'_>, it: &mut DepositCase, answer: &Answer) -> Judged<Refusal> {
    match answer {
        Answer::Deposit(DepositNews::Final) => {
            it.is_final = true;
            Judged::Done
        }
        Answer::Deposit(DepositNews::Unseen) => Judged::Refused(Refusal::Unseen),
        _ => Judged::NotMine("not-awaited"),
    }
}

fn credit(desk: &mut Desk<'_>, it: &mut DepositCase) -> Ran<Refusal> {
    let key = it.key();
    if record_of(desk, &key).is_none() {
        return Ran::Wrong("no-deposit-record");
    }
    let (account, asset, amount) = (it.account, &it.deposit.asset, it.deposit.amount);
    let clear = it.codes.is_empty();
    let legs = desk.legs(&account);
    let legs = match (it.house, clear) {
        (true, _) => legs.debit_house(HouseBook::Suspense, asset, amount).credit_house(HouseBook::Funding, asset, amount),
        (false, true) => legs.debit(ClientBook::Pending, asset, amount).credit(ClientBook::Available, asset, amount),
        (false, false) => legs.debit(ClientBook::Pending, asset, amount).credit(ClientBook::Frozen, asset, amount),
    };
    let (reason, status) = if clear {
        (EntryReason::DepositCredited, DepositStatus::Credited)
    } else {
        (EntryReason::DepositQuarantined, DepositStatus::Quarantined)
    };
    if desk.post(&account, reason, None, legs).is_err() {
        return Ran::Wrong(LEDGER_FAULT);
    }
    set_status(desk, key, status);
    Ran::Done
}

fn tell_client(desk: &mut Desk<'_>, it: &mut DepositCase) -> Ran<Refusal> {
    let deposit = it.deposit.clone();
    let body =
        if it.codes.is_empty() { EventBody::DepositCredited(deposit) } else { EventBody::DepositQuarantined(deposit) };
    desk.tell(&it.account, body);
    Ran::Done
}

/// The chain machine says what became of a deposit.
pub(crate) fn heard(desk: &mut Desk<'_>, fact: &DepositFact) {
    let Some(in_force) = desk.policy() else { return desk.drop_input("no-policy") };
    let policy = &in_force.policy;
    let house = fact.account == AccountId::house(&policy.tenant, 0);
    if !house && desk.account(&fact.account).is_none() {
        return desk.drop_input("unknown-account");
    }
    let record = record_of(desk, &key_of(&fact.deposit));
    // What is in the books is heard of to its end, whatever the policy lists by then.
    let listed = record.is_some() || policy.assets.contains_key(&fact.deposit.asset);
    if fact.deposit.amount.is_zero() || !listed {
        return desk.drop_input("not-a-deposit");
    }
    match (record, fact.news) {
        (None, DepositNews::Unseen) => desk.drop_input("unseen-before-seen"),
        (None, DepositNews::Seen | DepositNews::Final) => begin(desk, fact, house, None),
        (Some(record), news) if record.block == fact.deposit.block => same_block(desk, fact, house, record, news),
        (Some(_), DepositNews::Unseen) => desk.drop_input("other-block"),
        (Some(record), DepositNews::Seen | DepositNews::Final) => other_block(desk, fact, house, record),
    }
}

fn same_block(desk: &mut Desk<'_>, fact: &DepositFact, house: bool, record: DepositRecord, news: DepositNews) {
    use DepositStatus::{Credited, Quarantined, Reversed, Seen, Unseen};
    if (&record.asset, record.amount) != (&fact.deposit.asset, fact.deposit.amount) {
        desk.alarm(AlarmCode::NodesDisagree, fact.deposit.tx.to_string());
        return desk.drop_input("other-amount");
    }
    match (record.status, news) {
        (Seen, DepositNews::Unseen | DepositNews::Final) => hear(desk, record.saga, None, &Answer::Deposit(news)),
        (Credited | Quarantined, DepositNews::Unseen) => reverse(desk, &fact.deposit, house, record),
        (Unseen | Reversed, DepositNews::Seen | DepositNews::Final) => begin(desk, fact, house, Some(record)),
        (Seen | Credited | Quarantined, DepositNews::Seen)
        | (Credited | Quarantined, DepositNews::Final)
        | (Unseen | Reversed, DepositNews::Unseen) => desk.drop_input("repeat"),
    }
}

/// The transaction is in another block now: what stood under the old block goes first, even if nobody said so.
fn other_block(desk: &mut Desk<'_>, fact: &DepositFact, house: bool, record: DepositRecord) {
    let (block, asset, amount) = (record.block, record.asset.clone(), record.amount);
    let before = Deposit { block, asset, amount, ..fact.deposit.clone() };
    match record.status {
        DepositStatus::Seen => hear(desk, record.saga, None, &Answer::Deposit(DepositNews::Unseen)),
        DepositStatus::Credited | DepositStatus::Quarantined => reverse(desk, &before, house, record),
        DepositStatus::Unseen | DepositStatus::Reversed => {}
    }
    match record_of(desk, &key_of(&fact.deposit)) {
        Some(record) if matches!(record.status, DepositStatus::Unseen | DepositStatus::Reversed) => {
            begin(desk, fact, house, Some(record));
        }
        // Its saga is parked: a human decides about the first inclusion before there is a second.
        _ => {
            desk.alarm(AlarmCode::DeepReorg, fact.deposit.tx.to_string());
            desk.drop_input("parked");
        }
    }
}

fn begin(desk: &mut Desk<'_>, fact: &DepositFact, house: bool, before: Option<DepositRecord>) {
    let deposit = fact.deposit.clone();
    let inclusions = before.map_or(1, |record| record.inclusions.saturating_add(1));
    let parts = [
        deposit.chain.as_str().as_bytes(),
        deposit.tx.as_bytes(),
        &deposit.index.to_be_bytes(),
        deposit.block.hash.as_bytes(),
        &inclusions.to_be_bytes(),
    ];
    let fingerprint = INCLUSION.digest(&parts);
    let saga = SagaId::derive(&fact.account, DEPOSIT.name, fingerprint.as_bytes());
    let record = DepositRecord {
        block: deposit.block,
        status: DepositStatus::Seen,
        saga,
        inclusions,
        asset: deposit.asset.clone(),
        amount: deposit.amount,
    };
    desk.rows.put(Key::Deposit(key_of(&deposit)), Entity::Deposit(Box::new(record)));
    desk.saga = Some(saga);
    desk.tell(&fact.account, EventBody::Started(Request::Deposit(deposit.clone())));
    let is_final = fact.news == DepositNews::Final;
    start(
        desk,
        saga,
        fingerprint,
        Case::Deposit(DepositCase { account: fact.account, deposit, house, codes: Vec::new(), is_final }),
    );
}

/// Takes a credited or frozen deposit back, visibly. What the client has spent or holds for something else is not touched: that
/// part stands in suspense, the client owes it, and a human looks.
fn reverse(desk: &mut Desk<'_>, deposit: &Deposit, house: bool, record: DepositRecord) {
    desk.saga = Some(record.saga);
    let account = record.saga.account;
    let (asset, amount) = (&record.asset, record.amount);
    let available = if house { Amount::ZERO } else { desk.available(&account, asset).min(amount) };
    let short = amount.minus(available).unwrap_or(Amount::ZERO);
    let owed = desk.balances(&account, asset).owed;
    let legs = desk.legs(&account);
    let (legs, owed) = match (house, record.status) {
        (true, _) => (legs.debit_house(HouseBook::Funding, asset, amount), owed),
        (false, DepositStatus::Quarantined) => (legs.debit(ClientBook::Frozen, asset, amount), owed),
        (false, _) => {
            let legs = legs.debit(ClientBook::Available, asset, available);
            (legs.debit_house(HouseBook::Suspense, asset, short), owed.plus(short).unwrap_or(Amount::new(u128::MAX)))
        }
    };
    let legs = legs.credit_house(HouseBook::Custody, asset, amount);
    let block = Some((deposit.chain.clone(), deposit.block));
    if desk.post(&account, EntryReason::DepositReversed, block, legs).is_err() {
        desk.alarm(AlarmCode::DeepReorg, deposit.tx.to_string());
        return desk.drop_input(LEDGER_FAULT);
    }
    desk.owes(&account, asset, owed);
    desk.tell(&account, EventBody::DepositReversed(deposit.clone()));
    desk.alarm(AlarmCode::DeepReorg, deposit.tx.to_string());
    set_status(desk, key_of(deposit), DepositStatus::Reversed);
}
