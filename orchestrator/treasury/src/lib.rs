//! The treasury machine: per wallet, its addresses, its nonces, and every outgoing transaction from question to finality.
//!
//! Invariants: an intent has at most one nonce while any signature for it may exist, and a nonce is taken in the transaction
//! that orders the signature; the same bytes are given to the node until they are final; a payment is refused only while no
//! signature was ordered or the signer has said that none exists; it is impossible only with proof that its nonce was consumed
//! at finality by something that does not pay it. Deliberately absent: coins (bitcoin), sweeping, batching; chain access,
//! keys and clocks.

mod addresses;
mod closed;
mod codec;
mod desk;
mod facts;
mod fees;
mod house;
mod inspect;
mod lifecycle;
mod quoting;
mod signing;
mod state;
mod wallets;

use custos_messages::treasury::TreasuryInput;
use custos_saga::machine::{Cause, Context, Effects, Machine, StateError, View};

pub use inspect::inspect;
pub use state::{
    Allocation, AllocationStatus, Attempt, Bump, Closed, ClosedPurpose, End, Ended, Entity, Fees, Flight, Hot, InForce, Key,
    Lack, Order, Outlay, Payment, Purpose, Quoting, Spent, Stage, Unanswered, Wallet,
};

/// The treasury machine.
#[derive(Clone, Copy, Debug)]
pub struct Treasury;

impl Machine for Treasury {
    type Input = TreasuryInput;
    type Key = Key;
    type Entity = Entity;

    const KIND: custos_messages::Machine = custos_messages::Machine::Treasury;

    fn apply(state: &mut View<'_, Key, Entity>, input: Cause<TreasuryInput>, context: &Context) -> Effects {
        desk::apply(state, input, context)
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
