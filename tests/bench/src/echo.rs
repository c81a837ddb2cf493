//! The machine that is measured: three questions to an echo, one hold and one release, on the real saga kernel.
//!
//! Invariant: what is held is released by the same saga. One event for each saga, when it ends; it names the saga's number as
//! its step, so that whoever watches commits knows which sagas ended with it. Deliberately absent: every business rule.

use std::future::Future;

use custos_domain::{AccountId, Amount, AssetId, CommandId, Digest, Millis, SagaId, Timestamp};
use custos_messages::accounts::{AccountsInput, Finding, RequestTransfer, Screened};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::{Event, EventBody, Refusal, StepPhase};
use custos_messages::{Mail, Message, Source, Topic};
use custos_runtime::service::{Service, Setback};
use custos_saga::machine::{Cause, Command, Context, Effects, Machine, Ordered, StateError, TimerChange, TimerId, View};
use custos_saga::{Ask, Content, Heard, Instance, Judged, Note, Phase, Process, Ran, Saga, drive};

use crate::codec;

type Step = custos_saga::Step<Case>;

/// The table.
pub static ECHO: Saga<Case> = Saga {
    name: "echo",
    version: 1,
    purpose: "Ask three times, holding one unit meanwhile.",
    no_pivot: None,
    steps: &[
        Step::local("hold", hold).about("one unit, from available to held").undo("release", release),
        Step::ask("first", ask, answered).about("the echo").within(Millis::minutes(15)).ahead(),
        Step::ask("second", ask, answered).about("the echo").within(Millis::minutes(15)).ahead(),
        Step::ask("third", ask, answered).about("the echo").within(Millis::minutes(15)).ahead(),
        Step::pivot_local("settle", release).about("held back to available"),
    ],
};

/// The most that an account can have held: enough for every run.
const FUNDS: Amount = Amount::new(1_000_000_000_000);
const UNIT: Amount = Amount::new(1);

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An account.
    Account(AccountId),
    /// A live saga.
    Saga(SagaId),
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// An account.
    Account(Account),
    /// A live saga.
    Saga(Box<Live>),
}

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Free.
    pub available: Amount,
    /// Taken by running sagas.
    pub held: Amount,
    /// Number of its last event.
    pub sequence: u64,
}

/// A live saga.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Where it stands.
    pub instance: Instance,
    /// When its timer is due.
    pub due: Option<Timestamp>,
    /// Its own data.
    pub case: Case,
}

/// The saga's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The number under which it was asked for.
    pub number: String,
    /// What is asked about.
    pub asset: AssetId,
    /// The other side.
    pub to: AccountId,
}

/// What an input works on.
pub struct Desk<'a> {
    id: SagaId,
    context: &'a Context,
    account: Account,
    due: Option<Timestamp>,
    effects: Effects,
}

/// A question to the echo.
pub struct Question(Screen);

impl Content for Question {
    fn digest(&self) -> Digest {
        Digest::of(&self.0.encode())
    }
}

impl Process for Case {
    type Desk<'a> = Desk<'a>;
    type Question = Question;
    type Answer = Screened;
    type Refusal = Refusal;

    fn record(&mut self, desk: &mut Desk<'_>, note: Note<Self>) {
        match note {
            Note::Send { step, command, question } => {
                let command = Command::Screen(Screen { id: command, ..question.0 });
                desk.effects.commands.push(Ordered { command, ahead: step.ahead });
            }
            Note::Arm { attempt, span } => {
                let due = desk.context.at.after(span);
                desk.due = Some(due);
                desk.effects.timers.push(TimerChange::Arm(timer(&desk.id, attempt), due));
            }
            Note::Disarm { attempt } => {
                desk.due = None;
                desk.effects.timers.push(TimerChange::Disarm(timer(&desk.id, attempt)));
            }
            Note::Dropped(code) => desk.effects.dropped = Some(code),
            Note::Parked { code, .. } => desk.effects.dropped = Some(code),
            Note::Completed | Note::Unwound => {
                desk.account.sequence = desk.account.sequence.saturating_add(1);
                desk.effects.events.push(Event {
                    account: desk.id.account,
                    sequence: desk.account.sequence,
                    at: desk.context.at,
                    saga: Some(desk.id),
                    body: EventBody::Moved { step: self.number.clone(), phase: StepPhase::Done },
                });
            }
            Note::Moved(..) | Note::Refused(_) | Note::TimedOut(_) => {}
        }
    }

    fn span(&self, _: &Desk<'_>, _: &'static str) -> Millis {
        Millis::minutes(15)
    }
}

fn timer(id: &SagaId, attempt: u32) -> TimerId {
    TimerId([id.to_bytes().as_slice(), &attempt.to_be_bytes()].concat().into())
}

fn hold(desk: &mut Desk<'_>, _: &mut Case) -> Ran<Refusal> {
    match (desk.account.available.minus(UNIT), desk.account.held.plus(UNIT)) {
        (Ok(available), Ok(held)) => {
            desk.account = Account { available, held, ..desk.account };
            Ran::Done
        }
        _ => Ran::Refused(Refusal::InsufficientFunds),
    }
}

fn release(desk: &mut Desk<'_>, _: &mut Case) -> Ran<Refusal> {
    match (desk.account.available.plus(UNIT), desk.account.held.minus(UNIT)) {
        (Ok(available), Ok(held)) => {
            desk.account = Account { available, held, ..desk.account };
            Ran::Done
        }
        _ => Ran::Wrong("not-held"),
    }
}

fn ask(desk: &mut Desk<'_>, case: &mut Case) -> Ask<Question, Refusal> {
    Ask::Send(Question(Screen {
        id: CommandId([0; 32]),
        saga: desk.id,
        account: desk.id.account,
        direction: Direction::Internal,
        party: Party::Account(case.to),
        asset: case.asset.clone(),
        amount: UNIT,
        sent_last_day: Amount::ZERO,
        sent_count_last_day: 0,
    }))
}

fn answered(_: &mut Desk<'_>, _: &mut Case, answer: &Screened) -> Judged<Refusal> {
    match answer.finding {
        Finding::Clear => Judged::Done,
        Finding::Hit { .. } => Judged::Refused(Refusal::Rejected),
    }
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct EchoMachine;

impl Machine for EchoMachine {
    type Input = AccountsInput;
    type Key = Key;
    type Entity = Entity;

    const KIND: custos_messages::Machine = custos_messages::Machine::Accounts;

    fn apply(state: &mut View<'_, Key, Entity>, input: Cause<AccountsInput>, context: &Context) -> Effects {
        match input {
            Cause::Message { message: AccountsInput::RequestTransfer(request), .. } => start(state, request, context),
            Cause::Message { message: AccountsInput::Screened(answer), .. } => {
                hear(state, answer.saga, context, &Heard::Answer(Some(answer.command), &answer))
            }
            Cause::Timer(TimerId(name)) => match name.split_first_chunk::<32>() {
                Some((id, attempt)) => match (SagaId::from_slice(id), <[u8; 4]>::try_from(attempt)) {
                    (Ok(id), Ok(attempt)) => hear(state, id, context, &Heard::Due(u32::from_be_bytes(attempt))),
                    _ => of_no_use("unknown-timer"),
                },
                None => of_no_use("unknown-timer"),
            },
            Cause::Message { .. } => of_no_use("not-for-the-echo"),
        }
    }

    fn encode_key(key: &Key) -> Vec<u8> {
        codec::encode_key(key)
    }

    fn encode_entity(entity: &Entity) -> Vec<u8> {
        codec::encode_entity(entity)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(Key, Entity), StateError> {
        codec::decode(key, value)
    }
}

fn of_no_use(code: &'static str) -> Effects {
    Effects { dropped: Some(code), ..Effects::default() }
}

fn start(state: &mut View<'_, Key, Entity>, request: RequestTransfer, context: &Context) -> Effects {
    let id = SagaId::derive(&request.account, "echo", request.key.as_str().as_bytes());
    if state.get(&Key::Saga(id)).is_some() {
        return of_no_use("repeat");
    }
    let case = Case { number: request.key.as_str().to_owned(), asset: request.asset, to: request.to };
    run(state, id, Live { instance: Instance::default(), due: None, case }, context, &Heard::Start)
}

fn hear(state: &mut View<'_, Key, Entity>, id: SagaId, context: &Context, heard: &Heard<'_, Screened>) -> Effects {
    match state.get(&Key::Saga(id)).cloned() {
        Some(Entity::Saga(live)) => run(state, id, *live, context, heard),
        _ => of_no_use("ended"),
    }
}

fn run(
    state: &mut View<'_, Key, Entity>,
    id: SagaId,
    mut live: Live,
    context: &Context,
    heard: &Heard<'_, Screened>,
) -> Effects {
    let before = match state.get(&Key::Account(id.account)) {
        Some(Entity::Account(account)) => *account,
        _ => Account { available: FUNDS, held: Amount::ZERO, sequence: 0 },
    };
    let mut desk = Desk { id, context, account: before, due: live.due, effects: Effects::default() };
    drive(&ECHO, &id, (&mut live.instance, &mut live.case), &mut desk, heard);
    live.due = desk.due;
    if desk.account != before {
        state.put(Key::Account(id.account), Entity::Account(desk.account));
    }
    if matches!(live.instance.phase, Phase::Completed | Phase::Unwound) {
        state.remove(&Key::Saga(id));
    } else {
        state.put(Key::Saga(id), Entity::Saga(Box::new(live)));
    }
    desk.effects
}

/// The echo: says yes at once.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Service for Echo {
    type Command = Screen;

    const NAME: &'static str = "echo";
    const COMMANDS: Topic = Topic::ComplianceCommands;
    const SOURCE: Source = Source::Compliance;

    fn handle(&self, command: Screen) -> impl Future<Output = Result<Vec<Mail>, Setback>> + Send {
        let versions = vec!["echo@1".to_owned()];
        let answer = Screened { command: command.id, saga: command.saga, finding: Finding::Clear, versions };
        std::future::ready(Ok(vec![Mail::Accounts(AccountsInput::Screened(answer))]))
    }
}

/// The start of saga `number`, and the account that it is about.
pub fn start_message(number: u64, account: AccountId) -> anyhow::Result<Mail> {
    Ok(Mail::Accounts(AccountsInput::RequestTransfer(RequestTransfer {
        account,
        key: custos_domain::IdempotencyKey::new(&format!("{number:012}"))?,
        fingerprint: Digest::of(&number.to_be_bytes()),
        to: AccountId([7; 16]),
        asset: AssetId::new("ETH")?,
        amount: UNIT,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_the_rules_of_a_saga() {
        assert_eq!(custos_saga::check(&ECHO), Ok(()));
    }
}
