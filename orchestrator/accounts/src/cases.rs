//! Running sagas: every kind with its definition, and what all kinds have in common when the interpreter decides something.
//!
//! Invariant: a saga's record is read once, heard once and stored once per input; an ended one leaves only its fingerprint.

use custos_domain::{CommandId, Digest, Millis, SagaId};
use custos_messages::accounts::{AddressReady, AlarmCode, Decision, DepositNews, PaymentNews, Screened};
use custos_messages::compliance::Screen;
use custos_messages::events::{Ending, EventBody, Refusal, StepPhase};
use custos_messages::{Mail, Message};
use custos_saga::machine::{Command, Ordered, TimerChange, TimerId};
use custos_saga::{Content, Heard, Instance, Moved, Note, Phase, Process, Registry, Shape, drive};

use crate::deposit::DEPOSIT;
use crate::desk::Desk;
use crate::ended::ended;
use crate::issue_address::ISSUE_ADDRESS;
use crate::state::{Case, DepositCase, Entity, Finished, IssueAddress, Key, SagaRecord, Transfer, Withdrawal};
use crate::transfer::TRANSFER;
use crate::withdrawal::WITHDRAWAL;

/// Every definition that this machine knows.
pub const REGISTRY: Registry = Registry(&[&DEPOSIT, &ISSUE_ADDRESS, &TRANSFER, &WITHDRAWAL]);

/// The wait for a screening before money leaves, as policy names it.
pub(crate) const SCREENING_WAIT: &str = "screening wait";
/// The wait for officers, as policy names it.
pub(crate) const APPROVAL_WAIT: &str = "approval wait";

/// What a saga can ask somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Compliance; the identity is filled in when it is sent.
    Screen(Box<Screen>),
    /// Another machine, or another shard of this one.
    Mail(Box<Mail>),
}

impl Content for Question {
    fn digest(&self) -> Digest {
        match self {
            Self::Screen(screen) => Digest::of(&screen.encode()),
            Self::Mail(mail) => match mail.as_ref() {
                Mail::Accounts(message) => Digest::of(&message.encode()),
                Mail::Treasury(message) => Digest::of(&message.encode()),
                Mail::Chain(message) => Digest::of(&message.encode()),
            },
        }
    }
}

/// What a saga can hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Compliance.
    Screened(Screened),
    /// An officer, whose signature is checked.
    Decided(Decision),
    /// Treasury about a payment.
    Payment(PaymentNews),
    /// Treasury about an address.
    Address(AddressReady),
    /// Chain about a deposit.
    Deposit(DepositNews),
    /// The receiving account's shard: credited or refused.
    Received {
        /// Whether it was credited.
        credited: bool,
    },
}

/// An identity to be filled in when the question is sent: the digest of the content leaves it out.
pub(crate) const UNNAMED: CommandId = CommandId([0; 32]);

macro_rules! process {
    ($($case:ty),*) => { $(
        impl Process for $case {
            type Desk<'a> = Desk<'a>;
            type Question = Question;
            type Answer = Answer;
            type Refusal = Refusal;

            fn record(&mut self, desk: &mut Desk<'_>, note: Note<Self>) {
                record(desk, note);
            }

            fn span(&self, desk: &Desk<'_>, name: &'static str) -> Millis {
                span(desk, name)
            }
        }
    )* };
}
process!(Withdrawal, DepositCase, Transfer, IssueAddress);

fn span(desk: &Desk<'_>, name: &'static str) -> Millis {
    // A saga only runs under a policy; should there be none, nothing is waited for.
    desk.policy().map_or(Millis(0), |in_force| match name {
        SCREENING_WAIT => in_force.policy.screening_wait,
        APPROVAL_WAIT => in_force.policy.approval_wait,
        _ => Millis(0),
    })
}

fn record<P: Process<Question = Question, Refusal = Refusal>>(desk: &mut Desk<'_>, note: Note<P>) {
    let Some(id) = desk.saga else { return desk.drop_input("no-saga") };
    match note {
        Note::Send { step, command, question } => match question {
            Question::Screen(screen) => {
                let command = Command::Screen(Screen { id: command, ..*screen });
                desk.effects.commands.push(Ordered { command, ahead: step.ahead });
            }
            Question::Mail(mail) => desk.send(*mail),
        },
        Note::Moved(step, moved) => {
            let phase = match moved {
                Moved::Asked => StepPhase::Asked,
                Moved::Done => StepPhase::Done,
                Moved::Undone => StepPhase::Undone,
            };
            desk.tell(&id.account, EventBody::Moved { step: step.to_owned(), phase });
        }
        Note::Arm { attempt, span } => {
            let due = desk.context.at.after(span);
            desk.due = Some(due);
            desk.effects.timers.push(TimerChange::Arm(timer(&id, attempt), due));
        }
        Note::Disarm { attempt } => {
            if desk.due.take().is_some() {
                desk.effects.timers.push(TimerChange::Disarm(timer(&id, attempt)));
            }
        }
        Note::Refused(refusal) => desk.refusal = Some(refusal),
        Note::TimedOut(step) => desk.refusal = Some(Refusal::TimedOut { step: step.to_owned() }),
        Note::Dropped(code) => desk.drop_input(code),
        Note::Parked { step, code } => {
            desk.tell(&id.account, EventBody::Parked { step: step.to_owned(), code: code.to_owned() });
            desk.alarm(AlarmCode::SagaParked, id.to_string());
        }
        Note::Completed | Note::Unwound => {
            let ending = match (&desk.refusal, note) {
                (Some(refusal), _) => Ending::Refused(refusal.clone()),
                (None, Note::Completed) => Ending::Completed,
                (None, _) => Ending::Refused(Refusal::Rejected),
            };
            desk.tell(&id.account, EventBody::Ended(ending));
        }
    }
}

/// The timer of a saga's question.
fn timer(id: &SagaId, attempt: u32) -> TimerId {
    TimerId([id.to_bytes().as_slice(), &attempt.to_be_bytes()].concat().into())
}

/// The saga and question whose timer this is.
fn timer_of(timer: &TimerId) -> Option<(SagaId, u32)> {
    let (id, attempt) = timer.0.split_at_checked(32)?;
    Some((SagaId::from_slice(id).ok()?, u32::from_be_bytes(attempt.try_into().ok()?)))
}

impl Case {
    /// The definition that runs it.
    pub(crate) fn shape(&self) -> &'static dyn Shape {
        match self {
            Self::Withdrawal(_) => &WITHDRAWAL,
            Self::Deposit(_) => &DEPOSIT,
            Self::Transfer(_) => &TRANSFER,
            Self::IssueAddress(_) => &ISSUE_ADDRESS,
        }
    }
}

/// Begins the saga `id`.
pub(crate) fn start(desk: &mut Desk<'_>, id: SagaId, fingerprint: Digest, case: Case) {
    let version = case.shape().version();
    let record = SagaRecord { version, instance: Instance::default(), fingerprint, due: None, refusal: None, case };
    run(desk, id, record, &Heard::Start);
}

/// Lets the saga `id` hear an answer to the question `command`, or a fact that answers to none.
pub(crate) fn hear(desk: &mut Desk<'_>, id: SagaId, command: Option<CommandId>, answer: &Answer) {
    match live(desk, &id) {
        Some(record) => run(desk, id, record, &Heard::Answer(command, answer)),
        None if ended(desk.rows, &id).is_some() => desk.drop_input("ended"),
        None => desk.drop_input("unknown-saga"),
    }
}

/// A timer is due.
pub(crate) fn due(desk: &mut Desk<'_>, timer: TimerId) {
    let Some((id, attempt)) = timer_of(&timer) else { return desk.drop_input("unknown-timer") };
    match live(desk, &id) {
        Some(record) if record.instance.attempt == attempt => match record.due {
            // The log's time decides, not the host's clock.
            Some(due) if due > desk.context.at => {
                desk.effects.timers.push(TimerChange::Arm(timer, due));
                desk.drop_input("early-timer");
            }
            Some(_) => run(desk, id, SagaRecord { due: None, ..record }, &Heard::Due(attempt)),
            None => desk.drop_input("stale-timer"),
        },
        _ => desk.drop_input("stale-timer"),
    }
}

/// The saga's record, if it has not ended.
pub(crate) fn live(desk: &Desk<'_>, id: &SagaId) -> Option<SagaRecord> {
    match desk.rows.get(&Key::Saga(*id)) {
        Some(Entity::Saga(record)) => Some(record.as_ref().clone()),
        _ => None,
    }
}

fn run(desk: &mut Desk<'_>, id: SagaId, mut record: SagaRecord, heard: &Heard<'_, Answer>) {
    let shape = record.case.shape();
    desk.saga = Some(id);
    desk.step = shape.row(record.instance.step).map_or("", |row| row.name);
    desk.refusal = record.refusal.take();
    desk.due = record.due.take();
    let instance = &mut record.instance;
    match &mut record.case {
        Case::Withdrawal(case) => drive(&WITHDRAWAL, &id, (instance, case), desk, heard),
        Case::Deposit(case) => drive(&DEPOSIT, &id, (instance, case), desk, heard),
        Case::Transfer(case) => drive(&TRANSFER, &id, (instance, case), desk, heard),
        Case::IssueAddress(case) => drive(&ISSUE_ADDRESS, &id, (instance, case), desk, heard),
    }
    record.refusal = desk.refusal.take();
    record.due = desk.due.take();
    match record.instance.phase {
        Phase::Completed | Phase::Unwound => {
            let completed = record.instance.phase == Phase::Completed && record.refusal.is_none();
            desk.rows.remove(&Key::Saga(id));
            desk.rows.put(Key::Finished(id), Entity::Finished(Finished { fingerprint: record.fingerprint, completed }));
        }
        _ => desk.rows.put(Key::Saga(id), Entity::Saga(Box::new(record))),
    }
}
