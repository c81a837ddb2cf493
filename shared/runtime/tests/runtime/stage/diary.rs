//! The machine: it writes down what it hears, in order, and does what the scripts say.
//!
//! A script is the idempotency key of an account request, words parted by spaces: `event`, `ask` (ahead), `order` (not ahead),
//! `tell:PARTITION:TEXT`, `arm:NAME:MILLISECONDS` from now, `disarm:NAME`, `reply`, `panic`, `close:NAME` (a page of its own that never changes
//! again; closing it a second time is written down under `again`). Any other word does nothing.

use custos_domain::{Amount, CommandId, Digest, Timestamp};
use custos_messages::accounts::{AccountsInput, Alarm, AlarmCode};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::{Event, EventBody};
use custos_messages::gateway::Subject;
use custos_messages::{Machine as Kind, Mail};
use custos_saga::machine::{
    Cause, Command, Context, Effects, Machine, Ordered, Outbound, Place, Remains, Reply, StateError, TimerChange, TimerId,
    View,
};

/// The diary of a binary whose newest logic is `NEWEST`. Under logic 2 a request is written down with its length before it, and an
/// event more is made of it.
pub struct DiaryOf<const NEWEST: u32>;

pub type Diary = DiaryOf<1>;

/// A page: what was heard, and how many events that made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub heard: Vec<String>,
    pub events: u64,
}

impl Page {
    pub fn read(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).unwrap();
        let mut lines = text.lines();
        Self { events: lines.next().unwrap().parse().unwrap(), heard: lines.map(str::to_owned).collect() }
    }
}

pub fn key(page: &str) -> Vec<u8> {
    [&[0x10], page.as_bytes()].concat()
}

impl<const NEWEST: u32> Machine for DiaryOf<NEWEST> {
    type Input = AccountsInput;
    type Key = String;
    type Entity = Page;

    const KIND: Kind = Kind::Accounts;
    const LOGIC: u32 = NEWEST;

    fn apply(state: &mut View<'_, String, Page>, input: Cause<AccountsInput>, context: &Context) -> Effects {
        let mut effects = Effects::default();
        match input {
            Cause::Timer(TimerId(name)) => note(state, "timers", String::from_utf8_lossy(&name).into_owned()),
            Cause::Message { message: AccountsInput::OpenAccount(open), .. } => {
                let script = open.key.as_str().to_owned();
                if context.logic > 1 {
                    note(state, "requests", format!("{}:{script}", script.len()));
                    effects.events.push(event(state, context.at));
                } else {
                    note(state, "requests", script.clone());
                }
                script.split(' ').for_each(|word| follow(state, word, context, &mut effects));
            }
            Cause::Message { message: AccountsInput::Alarm(alarm), .. } => note(state, "told", alarm.subject),
            Cause::Message { .. } => effects.dropped = Some("no-use"),
        }
        effects
    }

    fn encode_key(page: &String) -> Vec<u8> {
        key(page)
    }

    fn encode_entity(page: &Page) -> Vec<u8> {
        let mut lines = vec![page.events.to_string()];
        lines.extend(page.heard.iter().cloned());
        lines.join("\n").into_bytes()
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(String, Page), StateError> {
        let name = key.strip_prefix(&[0x10]).ok_or_else(|| StateError::Key("not a page".to_owned()))?;
        Ok((String::from_utf8(name.to_vec()).unwrap(), Page::read(value)))
    }

    fn settle(page: &String, _: &Page) -> Option<(Place, Remains)> {
        page.starts_with(CLOSED).then(|| (place(page), Remains([7; 14])))
    }
}

const CLOSED: &str = "closed-";

fn place(page: &str) -> Place {
    Place(Digest::of(page.as_bytes()).0[..14].try_into().unwrap())
}

fn close(state: &mut View<'_, String, Page>, name: &str) {
    let page = format!("{CLOSED}{name}");
    if state.get(&page).is_some() || state.settled(&place(&page)).is_some() {
        note(state, "again", name.to_owned());
    }
    state.put(page, Page { heard: vec![name.to_owned()], events: 0 });
}

fn note(state: &mut View<'_, String, Page>, page: &str, what: String) {
    let mut found = state.get(&page.to_owned()).cloned().unwrap_or_default();
    found.heard.push(what);
    state.put(page.to_owned(), found);
}

fn follow(state: &mut View<'_, String, Page>, word: &str, context: &Context, effects: &mut Effects) {
    let parts: Vec<&str> = word.split(':').collect();
    match parts.as_slice() {
        ["event"] => effects.events.push(event(state, context.at)),
        ["ask"] => effects.commands.push(Ordered { command: screen(state), ahead: true }),
        ["order"] => effects.commands.push(Ordered { command: screen(state), ahead: false }),
        ["tell", partition, text] => effects
            .messages
            .push(Outbound { partition: Some(partition.parse().unwrap()), message: Mail::Accounts(told(text)) }),
        ["arm", name, wait] => {
            let due = Timestamp(context.at.0 + wait.parse::<u64>().unwrap());
            effects.timers.push(TimerChange::Arm(TimerId(name.as_bytes().into()), due));
        }
        ["disarm", name] => effects.timers.push(TimerChange::Disarm(TimerId(name.as_bytes().into()))),
        ["reply"] => effects.reply = Some(Reply::Accepted(Subject::Account(custos_testkit::account("ann")))),
        ["close", name] => close(state, name),
        ["panic"] => panic!("as the script says"),
        _ => {}
    }
}

pub fn told(text: &str) -> AccountsInput {
    AccountsInput::Alarm(Alarm { code: AlarmCode::SagaParked, subject: text.to_owned() })
}

fn event(state: &mut View<'_, String, Page>, at: Timestamp) -> Event {
    let mut page = state.get(&"requests".to_owned()).cloned().unwrap_or_default();
    page.events += 1;
    let sequence = page.events;
    state.put("requests".to_owned(), page);
    let body = EventBody::Moved { step: format!("step-{sequence}"), phase: custos_messages::events::StepPhase::Done };
    let saga = Some(custos_testkit::saga("ann", "withdrawal", "1"));
    Event { account: custos_testkit::account("ann"), sequence, at, saga, body }
}

/// A question whose id says how much was heard before it: asked twice in the same place, it is the same question.
fn screen(state: &View<'_, String, Page>) -> Command {
    let heard = state.get(&"requests".to_owned()).map_or(0, |page| page.heard.len());
    let attempt = u32::try_from(heard).unwrap();
    Command::Screen(Screen {
        id: CommandId::derive(b"diary", "screen", attempt, &Digest([0; 32])),
        saga: custos_testkit::saga("ann", "withdrawal", "1"),
        account: custos_testkit::account("ann"),
        direction: Direction::Out,
        party: Party::Account(custos_testkit::account("bob")),
        asset: custos_testkit::asset("ETH"),
        amount: custos_testkit::ether("1"),
        sent_last_day: Amount::ZERO,
        sent_count_last_day: attempt,
    })
}
