//! Everything between Custos and chain nodes: fees and sending for treasury, blocks for the chain machine, balances for operators.
//!
//! Invariants: nobody else talks to a node; a node that serves another chain is refused; blocks are reported in the order of
//! their parents, none left out, each durable before the next; the watch list is complete up to a moment after the block
//! existed. Deliberately absent: state (a follower restarts from the log), keys, nonces and any decision about money.

mod adapter;
mod branch;
mod error;
mod estimate;
mod follow;
mod frames;
mod metrics;
mod node;
mod nodes;
mod reader;
mod scan;
mod settings;
mod stretch;
mod tokens;
mod verdict;
mod watch;

pub use adapter::Adapter;
pub use error::BlockchainError;
pub use follow::{FollowSettings, Follower, LEAD_MAX, followers};
pub use nodes::Nodes;
pub use reader::BalanceReader;
pub use settings::{
    BlockchainConfig, BlockchainSettings, ChainConfig, ChainSettings, NodeConfig, NodeSettings, NodeUrl, TokenSettings,
};
