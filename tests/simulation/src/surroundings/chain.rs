//! The chain around the system: one network of truth, and nodes that show it, late, wrongly or not at all, behind JSON-RPC.
//!
//! The adapter of production talks to it through alloy's client, so that its requests, its reading of answers and its judgement run
//! here as they are. Rules are geth's where they concern us: nonces, replacement, fees, receipts, logs; a test compares the
//! answers with those of the development chain, which executes for real. Blocks follow virtual time.
//!
//! Invariants: a block's hash names its parent, its content and its branch, so no hash repeats; money is neither made nor lost but for
//! fees, which burn. Deliberately absent: contracts but one token, a gas market beyond the base fee, roots, signatures of outsiders.

mod answer;
mod block;
mod network;
mod node;
mod pool;
mod transport;

pub use block::{Block, Coin, Mined, Paused, Pays, State, Tx};
pub use network::{Fate, Network, NetworkSettings, SharedNetwork};
pub use node::{Lie, NodeView};
pub use pool::{Pool, Refused};
pub use transport::Wire;
