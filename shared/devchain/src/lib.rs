//! An Ethereum development node in one value: real signatures, real rules (Prague), real hashes and roots, geth's pool.
//!
//! The product talks to it over HTTP JSON-RPC as to any node (`DevChain::serve`); tests and the demo also hold it in process
//! and make it mine, reorganise, raise fees, lose transactions and lie.
//!
//! Invariants: a block's hash is the keccak of its RLP header and every root in it is computed; a transaction that the pool
//! refuses is refused in geth's words; after a reorganisation no hash repeats.
//!
//! What is absent: peers, a disk, blob transactions, subscriptions, consensus-layer system calls (EIP-2935, EIP-4788),
//! withdrawals.

mod block;
mod chain;
mod contracts;
mod error;
mod execute;
mod frames;
mod keys;
mod lies;
mod node;
mod pacer;
mod pool;
mod rpc;
mod server;
mod settings;
mod world;

pub use block::MinedBlock;
pub use chain::Dropped;
pub use contracts::{Token, mint_data, token_code};
pub use error::DevChainError;
pub use keys::{DEV_KEYS, dev_address, dev_key, faucet_key, sign};
pub use lies::{Lies, Request};
pub use node::DevChain;
pub use pool::{GAS_CAP, PoolRefusal};
pub use server::Server;
pub use settings::{Clock, ETHER, Settings};
