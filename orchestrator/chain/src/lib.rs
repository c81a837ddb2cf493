//! The chain machine: per chain, the fork tree of recent blocks, and what its branches mean for money.
//!
//! Invariants: a deposit or spend is `Seen` only while its block is on the canonical branch, and `Final` only when its block is
//! deep enough on the branch of *every* configured node; when a block leaves the canonical branch, whatever was said of it is
//! taken back, tip first, before anything on the new branch is said. The canonical branch is that of the first configured
//! node, except that what is final leaves it only for a block that every configured node shows in its place. Deliberately absent: node
//! access, clocks, timers, and any judgement of what a deposit is worth.

mod branch;
mod codec;
mod finality;
mod hear;
mod inspect;
mod rules;
mod state;

use custos_domain::{BlockRef, ChainId};
use custos_messages::chain::ChainInput;
use custos_saga::machine::{Cause, Context, Effects, Machine, StateError, View};

pub use inspect::inspect;
pub use state::{Block, Entity, InForce, Key, NodeView, Said, Spend, Transfer, Tree};

/// The chain machine.
#[derive(Clone, Copy, Debug)]
pub struct Chain;

impl Chain {
    /// Where the tree of `chain` is kept.
    #[must_use]
    pub const fn key(chain: ChainId) -> Key {
        Key::Tree(chain)
    }

    /// The last applied canonical block, if `entity` is a chain's tree that has one: what the books compare at.
    #[must_use]
    pub fn head(entity: &Entity) -> Option<BlockRef> {
        match entity {
            Entity::Tree(tree) => tree.tip,
            Entity::Policy(_) | Entity::Block(_) => None,
        }
    }
}

impl Machine for Chain {
    type Input = ChainInput;
    type Key = Key;
    type Entity = Entity;

    const KIND: custos_messages::Machine = custos_messages::Machine::Chain;

    fn apply(state: &mut View<'_, Key, Entity>, input: Cause<ChainInput>, context: &Context) -> Effects {
        hear::apply(state, input, context)
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
