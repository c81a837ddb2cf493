//! Withdrawal: send a client's coins to an outside address, or give them back.
//!
//! Invariants: a hold is released only while no signature can exist, or with treasury's proof that every signature is worthless;
//! once treasury has signed we only go forward. Whatever is in a block is in the books under that block. Deliberately absent:
//! nonces, fees and transactions; they are treasury's.

use custos_domain::{Amount, AssetId, Millis};
use custos_messages::Mail;
use custos_messages::accounts::{Decision, Inclusion, PaymentNews, Verdict};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::{ClientBook, EntryReason, EventBody, HouseBook, Refusal};
use custos_messages::treasury::{TakePayment, TreasuryInput};
use custos_policy::{approved as approved_by, verify_decision};
use custos_saga::{Ask, Judged, Ran, Saga};

use crate::cases::{APPROVAL_WAIT, Answer, Question, SCREENING_WAIT, UNNAMED};
use crate::desk::Desk;
use crate::ledger::{LEDGER_FAULT, LedgerError, Legs};
use crate::screening::tell_finding;
use crate::state::{Paid, Withdrawal};
use crate::velocity::hour_of;

type Step = custos_saga::Step<Withdrawal>;

/// The table.
pub const WITHDRAWAL: Saga<Withdrawal> = Saga {
    name: "withdrawal",
    version: 1,
    purpose: "Send a client's coins to an outside address, or give them back.",
    no_pivot: None,
    steps: &[
        Step::local("hold-funds", hold_funds)
            .about("amount, and the fee envelope of a native payment, from available to held")
            .undo("release-funds", release_funds),
        Step::ask("screen", screen, screened)
            .about("compliance about the destination and what was sent in the last day")
            .within_policy(SCREENING_WAIT)
            .ahead(),
        Step::ask("approve", ask_approval, approved)
            .about("a quorum of officers, where policy wants them, to sign the intent")
            .within_policy(APPROVAL_WAIT)
            .harmless("a signature approves this intent alone, and it is never paid"),
        Step::ask("screen-again", screen_again, screened)
            .about("compliance again, if officers took their time")
            .within_policy(SCREENING_WAIT)
            .ahead(),
        // From here a signature may exist: a bearer cheque. Only treasury's word that none was made still unwinds.
        Step::pivot("pay", hand_to_treasury, taken_over)
            .about("treasury to take the payment over and sign it; its no means that nothing was signed")
            .resend_every(Millis::minutes(1)),
        Step::forward("await-finality", hand_to_treasury, paid_or_impossible)
            .about("treasury how it came out: paid and final, or impossible with proof")
            .resend_every(Millis::minutes(30)),
        Step::forward_local("settle", settle).about("held pays what left, or goes back to available with the proof"),
    ],
};

impl Withdrawal {
    fn is_native(&self) -> bool {
        self.intent.asset == self.intent.fee.asset
    }

    /// What is held: for a native payment the fee envelope as well; the gas of tokens is the house's.
    pub(crate) fn hold(&self) -> Result<Amount, LedgerError> {
        if self.is_native() {
            self.intent.amount.plus(self.intent.fee.max).map_err(|_| LedgerError::Overflow)
        } else {
            Ok(self.intent.amount)
        }
    }
}

fn hold_funds(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ran<Refusal> {
    let asset = it.intent.asset.clone();
    let Ok(hold) = it.hold() else { return Ran::Refused(Refusal::InsufficientFunds) };
    let legs = desk.legs(&it.account).debit(ClientBook::Available, &asset, hold).credit(ClientBook::Held, &asset, hold);
    match desk.post(&it.account, EntryReason::Hold, None, legs) {
        Ok(()) => {}
        Err(LedgerError::Short) => return Ran::Refused(Refusal::InsufficientFunds),
        Err(_) => return Ran::Wrong(LEDGER_FAULT),
    }
    let at = desk.context.at;
    it.sent_hour = hour_of(at);
    if let Some(account) = desk.account_mut(&it.account) {
        account.count_sent(&asset, it.intent.amount, at);
    }
    Ran::Done
}

fn release_funds(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ran<Refusal> {
    let asset = it.intent.asset.clone();
    let Ok(hold) = it.hold() else { return Ran::Wrong(LEDGER_FAULT) };
    let legs = desk.legs(&it.account).debit(ClientBook::Held, &asset, hold).credit(ClientBook::Available, &asset, hold);
    if desk.post(&it.account, EntryReason::Release, None, legs).is_err() {
        return Ran::Wrong(LEDGER_FAULT);
    }
    if let Some(account) = desk.account_mut(&it.account) {
        account.uncount_sent(&asset, it.intent.amount, it.sent_hour);
    }
    Ran::Done
}

fn screen(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ask<Question, Refusal> {
    let (Some(saga), Some(account)) = (desk.saga, desk.account(&it.account)) else {
        return Ask::Refuse(Refusal::UnknownAccount);
    };
    let intent = &it.intent;
    let (sent_last_day, sent_count_last_day) =
        account.sent_last_day(&intent.asset, intent.amount, it.sent_hour, desk.context.at);
    Ask::Send(Question::Screen(Box::new(Screen {
        id: UNNAMED,
        saga,
        account: it.account,
        direction: Direction::Out,
        party: Party::Address { chain: intent.chain.clone(), address: intent.to },
        asset: intent.asset.clone(),
        amount: intent.amount,
        sent_last_day,
        sent_count_last_day,
    })))
}

fn screen_again(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ask<Question, Refusal> {
    if it.quorum == 0 { Ask::NotNeeded } else { screen(desk, it) }
}

fn screened(desk: &mut Desk<'_>, it: &mut Withdrawal, answer: &Answer) -> Judged<Refusal> {
    let Answer::Screened(screened) = answer else { return Judged::NotMine("not-awaited") };
    let codes = tell_finding(desk, &it.account, screened);
    if codes.is_empty() { Judged::Done } else { Judged::Refused(Refusal::Screening { codes }) }
}

fn ask_approval(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ask<Question, Refusal> {
    if it.quorum == 0 {
        return Ask::NotNeeded;
    }
    let (intent, digest) = (it.intent.canonical(), it.intent.digest());
    desk.tell(&it.account, EventBody::ApprovalAsked { intent, digest, quorum: it.quorum });
    Ask::Listen
}

fn approved(desk: &mut Desk<'_>, it: &mut Withdrawal, answer: &Answer) -> Judged<Refusal> {
    let Answer::Decided(decision) = answer else { return Judged::NotMine("not-awaited") };
    let Some(in_force) = desk.policy() else { return Judged::NotMine("no-policy") };
    let (policy, digest) = (&in_force.policy, it.intent.digest());
    let same = |known: &Decision| known.officer == decision.officer && known.verdict == decision.verdict;
    if it.approvals.iter().any(|known| same(known) && verify_decision(policy, known, &digest).is_ok()) {
        // The policy may have come to ask for fewer meanwhile.
        let suffices = approved_by(policy, &it.intent, &it.approvals).is_ok();
        return if suffices { Judged::Done } else { Judged::NotMine("repeat") };
    }
    // An earlier one under a key that the policy no longer has would count with nobody.
    it.approvals.retain(|known| !same(known));
    let policy_version = policy.version;
    let body = EventBody::Decided {
        officer: decision.officer.clone(),
        verdict: decision.verdict,
        digest: decision.intent,
        policy_version,
    };
    desk.tell(&it.account, body);
    it.approvals.push(decision.clone());
    match decision.verdict {
        Verdict::Reject => Judged::Refused(Refusal::Rejected),
        // By the policy in force, as the signer will judge: who is no officer any more does not count.
        Verdict::Approve if approved_by(policy, &it.intent, &it.approvals).is_ok() => Judged::Done,
        Verdict::Approve => Judged::Wait,
    }
}

fn hand_to_treasury(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ask<Question, Refusal> {
    let Some(saga) = desk.saga else { return Ask::Refuse(Refusal::NothingToDecide) };
    let payment = TakePayment {
        saga,
        wallet: it.wallet,
        intent: it.intent.clone(),
        kind: it.kind.clone(),
        approvals: it.approvals.clone(),
    };
    Ask::Send(Question::Mail(Box::new(Mail::Treasury(TreasuryInput::TakePayment(Box::new(payment))))))
}

fn taken_over(desk: &mut Desk<'_>, it: &mut Withdrawal, answer: &Answer) -> Judged<Refusal> {
    let Answer::Payment(news) = answer else { return Judged::NotMine("not-awaited") };
    match news {
        PaymentNews::Taken if it.taken => Judged::NotMine("repeat"),
        PaymentNews::Taken => {
            it.taken = true;
            desk.tell(&it.account, EventBody::PaymentTaken { intent: it.intent.id });
            Judged::Wait
        }
        PaymentNews::Refused(refusal) => Judged::Refused(Refusal::Payment(*refusal)),
        PaymentNews::Signed { .. } => {
            tell_signed(desk, it, news);
            Judged::Done
        }
        // Treasury says that it signed before it says anything about a block.
        PaymentNews::Seen(_) | PaymentNews::Unseen(_) | PaymentNews::Final(_) | PaymentNews::Impossible(_) => {
            Judged::Wrong("mined-before-signed")
        }
    }
}

fn tell_signed(desk: &mut Desk<'_>, it: &mut Withdrawal, news: &PaymentNews) {
    if let PaymentNews::Signed { tx, nonce, digest, attempt } = news {
        it.attempt = *attempt;
        let body = EventBody::PaymentSigned { tx: *tx, nonce: *nonce, digest: *digest, attempt: *attempt };
        desk.tell(&it.account, body);
    }
}

fn paid_or_impossible(desk: &mut Desk<'_>, it: &mut Withdrawal, answer: &Answer) -> Judged<Refusal> {
    let Answer::Payment(news) = answer else { return Judged::NotMine("not-awaited") };
    match news {
        PaymentNews::Taken => Judged::NotMine("repeat"),
        PaymentNews::Refused(_) => Judged::Wrong("refused-after-signature"),
        PaymentNews::Signed { attempt, .. } if *attempt <= it.attempt => Judged::NotMine("repeat"),
        PaymentNews::Signed { .. } => {
            tell_signed(desk, it, news);
            Judged::Wait
        }
        PaymentNews::Seen(now) if it.seen.as_ref() == Some(now) => Judged::NotMine("repeat"),
        PaymentNews::Seen(now) => book(desk, it, Some(now)).map_or(Judged::Wrong(LEDGER_FAULT), |()| Judged::Wait),
        PaymentNews::Unseen(gone) if it.seen.as_ref() != Some(gone) => Judged::NotMine("not-seen"),
        PaymentNews::Unseen(_) => book(desk, it, None).map_or(Judged::Wrong(LEDGER_FAULT), |()| Judged::Wait),
        PaymentNews::Final(paid) if !paid.succeeded => Judged::Wrong("final-but-reverted"),
        PaymentNews::Final(paid) => {
            if book(desk, it, Some(paid)).is_err() {
                return Judged::Wrong(LEDGER_FAULT);
            }
            desk.tell(&it.account, EventBody::PaymentFinal(paid.clone()));
            it.outcome = Some(Paid::Final);
            Judged::Done
        }
        PaymentNews::Impossible(proof) => {
            if book_impossible(desk, it, &proof.consumed_by).is_err() {
                return Judged::Wrong(LEDGER_FAULT);
            }
            desk.tell(&it.account, EventBody::PaymentImpossible(proof.consumed_by.clone()));
            it.outcome = Some(Paid::Impossible);
            Judged::Done
        }
    }
}

/// Brings the books from the inclusion that is in them to `now`: what is there is taken back first.
fn book(desk: &mut Desk<'_>, it: &mut Withdrawal, now: Option<&Inclusion>) -> Result<(), LedgerError> {
    if it.seen.as_ref() == now {
        return Ok(());
    }
    if let Some(before) = it.seen.clone() {
        enter(desk, it, &before, Way::Back)?;
        it.seen = None;
        desk.tell(&it.account, EventBody::PaymentUnseen(before));
    }
    if let Some(now) = now {
        enter(desk, it, now, Way::Out)?;
        desk.tell(&it.account, EventBody::PaymentSeen(now.clone()));
        it.seen = Some(now.clone());
    }
    Ok(())
}

/// Brings the books to what consumed the nonce: our own transaction that was reverted, or one that was never this payment's.
fn book_impossible(desk: &mut Desk<'_>, it: &mut Withdrawal, spent: &Inclusion) -> Result<(), LedgerError> {
    let spent = Inclusion { succeeded: false, ..spent.clone() };
    if it.seen.as_ref().is_some_and(|seen| seen.tx == spent.tx) {
        return book(desk, it, Some(&spent));
    }
    book(desk, it, None)?;
    enter(desk, it, &spent, Way::Out)?;
    it.seen = Some(spent);
    Ok(())
}

/// Which way an entry goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

/// An inclusion's entries: coins that went out of custody, or came back with the block that left.
fn enter(desk: &mut Desk<'_>, it: &Withdrawal, inclusion: &Inclusion, way: Way) -> Result<(), LedgerError> {
    let block = Some((it.intent.chain.clone(), inclusion.block));
    let (asset, gas) = (&it.intent.asset, &it.intent.fee.asset);
    let left = match (inclusion.succeeded, it.is_native()) {
        (false, _) => Amount::ZERO,
        (true, true) => it.intent.amount.plus(inclusion.fee).map_err(|_| LedgerError::Overflow)?,
        (true, false) => it.intent.amount,
    };
    // Gas of tokens and of what paid nobody is the house's.
    let house_gas = if inclusion.succeeded && it.is_native() { Amount::ZERO } else { inclusion.fee };
    let paid = move_out(desk.legs(&it.account), HouseBook::InFlight, (asset, left), way);
    let burnt = move_out(desk.legs(&it.account), HouseBook::Gas, (gas, house_gas), way);
    let reason = if way == Way::Out { EntryReason::PaymentSeen } else { EntryReason::PaymentUnseen };
    desk.fits(&it.account, paid.clone().and(&burnt))?;
    desk.post(&it.account, reason, block.clone(), paid)?;
    desk.post(&it.account, EntryReason::HouseGas, block, burnt)
}

fn move_out(legs: Legs, book: HouseBook, (asset, amount): (&AssetId, Amount), way: Way) -> Legs {
    let out = legs.debit_house(book, asset, amount).credit_house(HouseBook::Custody, asset, amount);
    if way == Way::Out { out } else { out.reversed() }
}

fn settle(desk: &mut Desk<'_>, it: &mut Withdrawal) -> Ran<Refusal> {
    match (it.outcome, it.seen.clone()) {
        (Some(Paid::Impossible), _) => {
            desk.refusal = Some(Refusal::Impossible);
            release_funds(desk, it)
        }
        (Some(Paid::Final), Some(paid)) => match settle_paid(desk, it, &paid) {
            Ok(()) => Ran::Done,
            Err(_) => Ran::Wrong(LEDGER_FAULT),
        },
        (Some(Paid::Final), None) | (None, _) => Ran::Wrong("settled-before-final"),
    }
}

fn settle_paid(desk: &mut Desk<'_>, it: &Withdrawal, paid: &Inclusion) -> Result<(), LedgerError> {
    let (asset, hold) = (&it.intent.asset, it.hold()?);
    let (fee, fee_max) = if it.is_native() { (paid.fee, it.intent.fee.max) } else { (Amount::ZERO, Amount::ZERO) };
    // A fee above the envelope cannot be signed; should it ever be mined, the client pays no more than was agreed.
    let (rest, excess) = (fee_max.minus(fee).unwrap_or(Amount::ZERO), fee.minus(fee_max).unwrap_or(Amount::ZERO));
    let left = it.intent.amount.plus(fee).map_err(|_| LedgerError::Overflow)?;
    let legs = desk
        .legs(&it.account)
        .debit(ClientBook::Held, asset, hold)
        .debit_house(HouseBook::Gas, asset, excess)
        .credit_house(HouseBook::InFlight, asset, left)
        .credit(ClientBook::Available, asset, rest);
    desk.post(&it.account, EntryReason::PaymentSettled, None, legs)
}
