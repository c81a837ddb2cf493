//! Transfer: move money between two accounts of the bank, whose books may lie in two shards.
//!
//! Invariants: the receiver is credited at most once per transfer, and a receiver that said no says no for ever; what is between
//! the two shards stands in transit.

use custos_domain::{Millis, SagaId};
use custos_messages::Mail;
use custos_messages::accounts::{AccountsInput, TransferAnswered, TransferIn};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::{ClientBook, EntryReason, EventBody, HouseBook, Refusal};
use custos_saga::participant::{Entry, OnDo, on_do};
use custos_saga::{Ask, Judged, Ran, Saga};

use crate::cases::{Answer, Question, SCREENING_WAIT, UNNAMED};
use crate::desk::Desk;
use crate::ledger::{LEDGER_FAULT, LedgerError};
use crate::screening::tell_finding;
use crate::state::{Entity, Key, Transfer};
use crate::velocity::hour_of;

type Step = custos_saga::Step<Transfer>;

/// The table.
pub const TRANSFER: Saga<Transfer> = Saga {
    name: "transfer",
    version: 1,
    purpose: "Move money from one account of the bank to another.",
    no_pivot: None,
    steps: &[
        Step::local("hold-funds", hold_funds)
            .about("the amount from available to held")
            .undo("release-funds", release_funds),
        Step::ask("screen", screen, screened)
            .about("compliance about the receiver and what was sent in the last day")
            .within_policy(SCREENING_WAIT)
            .ahead(),
        // From here the receiver may have the money. Only the receiver's definite no still unwinds.
        Step::pivot("credit-receiver", credit_receiver, received)
            .about("the receiver's shard to credit the amount; its no means that it never will")
            .resend_every(Millis::minutes(1)),
        Step::forward_local("settle", settle).about("held goes in transit, where the receiver's shard took it from"),
    ],
};

fn hold_funds(desk: &mut Desk<'_>, it: &mut Transfer) -> Ran<Refusal> {
    let legs = desk.legs(&it.account).debit(ClientBook::Available, &it.asset, it.amount).credit(
        ClientBook::Held,
        &it.asset,
        it.amount,
    );
    match desk.post(&it.account, EntryReason::Hold, None, legs) {
        Ok(()) => {}
        Err(LedgerError::Short) => return Ran::Refused(Refusal::InsufficientFunds),
        Err(_) => return Ran::Wrong(LEDGER_FAULT),
    }
    let at = desk.context.at;
    it.sent_hour = hour_of(at);
    if let Some(account) = desk.account_mut(&it.account) {
        account.count_sent(&it.asset, it.amount, at);
    }
    Ran::Done
}

fn release_funds(desk: &mut Desk<'_>, it: &mut Transfer) -> Ran<Refusal> {
    let legs = desk.legs(&it.account).debit(ClientBook::Held, &it.asset, it.amount).credit(
        ClientBook::Available,
        &it.asset,
        it.amount,
    );
    if desk.post(&it.account, EntryReason::Release, None, legs).is_err() {
        return Ran::Wrong(LEDGER_FAULT);
    }
    if let Some(account) = desk.account_mut(&it.account) {
        account.uncount_sent(&it.asset, it.amount, it.sent_hour);
    }
    Ran::Done
}

fn screen(desk: &mut Desk<'_>, it: &mut Transfer) -> Ask<Question, Refusal> {
    let (Some(saga), Some(account)) = (desk.saga, desk.account(&it.account)) else {
        return Ask::Refuse(Refusal::UnknownAccount);
    };
    let (sent_last_day, sent_count_last_day) = account.sent_last_day(&it.asset, it.amount, it.sent_hour, desk.context.at);
    Ask::Send(Question::Screen(Box::new(Screen {
        id: UNNAMED,
        saga,
        account: it.account,
        direction: Direction::Internal,
        party: Party::Account(it.to),
        asset: it.asset.clone(),
        amount: it.amount,
        sent_last_day,
        sent_count_last_day,
    })))
}

fn screened(desk: &mut Desk<'_>, it: &mut Transfer, answer: &Answer) -> Judged<Refusal> {
    let Answer::Screened(screened) = answer else { return Judged::NotMine("not-awaited") };
    let codes = tell_finding(desk, &it.account, screened);
    if codes.is_empty() { Judged::Done } else { Judged::Refused(Refusal::Screening { codes }) }
}

fn credit_receiver(desk: &mut Desk<'_>, it: &mut Transfer) -> Ask<Question, Refusal> {
    let Some(saga) = desk.saga else { return Ask::Refuse(Refusal::UnknownAccount) };
    let order = TransferIn { saga, to: it.to, asset: it.asset.clone(), amount: it.amount };
    Ask::Send(Question::Mail(Box::new(Mail::Accounts(AccountsInput::TransferIn(order)))))
}

fn received(_: &mut Desk<'_>, _: &mut Transfer, answer: &Answer) -> Judged<Refusal> {
    match answer {
        Answer::Received { credited: true } => Judged::Done,
        Answer::Received { credited: false } => Judged::Refused(Refusal::ReceiverRefused),
        _ => Judged::NotMine("not-awaited"),
    }
}

fn settle(desk: &mut Desk<'_>, it: &mut Transfer) -> Ran<Refusal> {
    let legs = desk.legs(&it.account).debit(ClientBook::Held, &it.asset, it.amount).credit_house(
        HouseBook::InTransit,
        &it.asset,
        it.amount,
    );
    match desk.post(&it.account, EntryReason::TransferOut, None, legs) {
        Ok(()) => Ran::Done,
        Err(_) => Ran::Wrong(LEDGER_FAULT),
    }
}

/// The receiver's side: credits once, remembers what it answered, and answers again when asked again.
pub(crate) fn receive(desk: &mut Desk<'_>, order: &TransferIn) {
    let key = Key::Received(order.saga);
    let known = match desk.rows.get(&key) {
        Some(Entity::Received(entry)) => Some(*entry),
        _ => None,
    };
    let credited = match on_do(known) {
        OnDo::SayDone => true,
        OnDo::SayRefused => false,
        OnDo::Try => {
            let credited = credit(desk, order);
            let entry = if credited { Entry::Done } else { Entry::Refused };
            desk.rows.put(key, Entity::Received(entry));
            credited
        }
    };
    if known.is_some() {
        desk.drop_input("repeat");
    }
    answer(desk, order.saga, credited);
}

fn credit(desk: &mut Desk<'_>, order: &TransferIn) -> bool {
    if desk.account(&order.to).is_none() {
        return false;
    }
    let legs = desk.legs(&order.to).debit_house(HouseBook::InTransit, &order.asset, order.amount).credit(
        ClientBook::Available,
        &order.asset,
        order.amount,
    );
    if desk.post(&order.to, EntryReason::TransferIn, None, legs).is_err() {
        return false;
    }
    let body = EventBody::TransferReceived { from: order.saga, asset: order.asset.clone(), amount: order.amount };
    desk.tell(&order.to, body);
    true
}

fn answer(desk: &mut Desk<'_>, saga: SagaId, credited: bool) {
    desk.send(Mail::Accounts(AccountsInput::TransferAnswered(TransferAnswered { saga, credited })));
}
