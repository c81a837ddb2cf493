//! Accounts: the machine that runs the bank's sagas and keeps its books, keyed by account.
//!
//! Invariants: see `ledger` for money, `cases` for sagas, `door` for requests. `apply` is a function of its arguments: the same
//! log gives the same state and the same events, byte for byte. Deliberately absent: transactions, nonces and fees (treasury),
//! blocks and confirmations (chain), lists (compliance), any I/O.

mod cases;
mod codec;
mod deposit;
mod desk;
mod door;
mod ended;
mod house;
mod inspect;
mod issue_address;
mod ledger;
mod screening;
pub mod state;
mod transfer;
mod velocity;
mod withdrawal;

use std::sync::Arc;

use custos_messages::SignedPolicy;
use custos_messages::accounts::{AccountsInput, BlockMark};
use custos_messages::events::EventBody;
use custos_policy::{policy_digest, read_trusted};
use custos_saga::machine::{Cause, Context, Effects, Machine, Place, Remains, StateError, View};

pub use cases::REGISTRY;
pub use deposit::DEPOSIT;
pub use inspect::inspect;
pub use issue_address::ISSUE_ADDRESS;
pub use ledger::LedgerError;
pub use transfer::TRANSFER;
pub use withdrawal::WITHDRAWAL;

use crate::cases::{Answer, due, hear};
use crate::desk::Desk;
use crate::state::{Entity, InForce, Key};

/// The accounts machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounts;

impl Machine for Accounts {
    type Input = AccountsInput;
    type Key = Key;
    type Entity = Entity;

    const KIND: custos_messages::Machine = custos_messages::Machine::Accounts;

    fn apply(state: &mut View<'_, Key, Entity>, input: Cause<AccountsInput>, context: &Context) -> Effects {
        let mut desk = Desk::new(state, *context);
        match input {
            Cause::Timer(timer) => due(&mut desk, timer),
            Cause::Message { message, .. } => dispatch(&mut desk, message),
        }
        desk.effects
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

    fn settle(key: &Key, entity: &Entity) -> Option<(Place, Remains)> {
        ended::settle(key, entity)
    }
}

fn dispatch(desk: &mut Desk<'_>, message: AccountsInput) {
    match message {
        AccountsInput::OpenAccount(request) => door::open_account(desk, request),
        AccountsInput::RequestAddress(request) => door::request_address(desk, request),
        AccountsInput::RequestWithdrawal(request) => door::request_withdrawal(desk, request),
        AccountsInput::RequestTransfer(request) => door::request_transfer(desk, request),
        AccountsInput::Decide(decision) => door::decide(desk, decision),
        AccountsInput::Screened(screened) => {
            hear(desk, screened.saga, Some(screened.command), &Answer::Screened(screened.clone()));
        }
        AccountsInput::AddressReady(ready) => hear(desk, ready.saga, None, &Answer::Address(ready.clone())),
        AccountsInput::Payment(fact) => hear(desk, fact.saga, None, &Answer::Payment(fact.news)),
        AccountsInput::HouseSpent(said) => house::heard(desk, &said),
        AccountsInput::Deposit(fact) => deposit::heard(desk, &fact),
        AccountsInput::TransferIn(order) => transfer::receive(desk, &order),
        AccountsInput::TransferAnswered(answer) => {
            hear(desk, answer.saga, None, &Answer::Received { credited: answer.credited });
        }
        AccountsInput::BlockMark(mark) => marked(desk, mark),
        AccountsInput::Alarm(alarm) => desk.alarm(alarm.code, alarm.subject),
        AccountsInput::Policy(signed) => adopt(desk, signed),
    }
}

fn marked(desk: &mut Desk<'_>, mark: BlockMark) {
    if mark.partition == desk.context.partition {
        desk.tell_house(EventBody::Marked(mark));
    } else {
        desk.drop_input("other-partition");
    }
}

/// Takes a newer policy into force. Its signature is the signer's question; here it comes from an authenticated record of the log.
fn adopt(desk: &mut Desk<'_>, signed: SignedPolicy) {
    let Ok(policy) = read_trusted(&signed) else { return desk.drop_input("unreadable-policy") };
    if let Some(before) = desk.policy() {
        if policy.version <= before.policy.version {
            return desk.drop_input("old-policy");
        }
        if policy.tenant != before.policy.tenant {
            return desk.drop_input("other-tenant");
        }
    }
    let (version, digest) = (policy.version, policy_digest(&signed.bytes));
    desk.rows.put(Key::Policy, Entity::Policy(Arc::new(InForce { signed, policy })));
    desk.tell_house(EventBody::PolicyAdopted { version, digest });
}
