//! What surrounds the machines: the chain with its nodes and its miner, the signer's database, the services of production as actors,
//! the bank, its officers, somebody inside who forges, and the oracles that watch the money.
//!
//! Invariants: everything here is decided by the seed; what the oracles judge they read from the chain, the events and what the
//! signer has let out. Deliberately absent: the scheduler, the hosts, and what goes wrong with the log.

pub mod around;
pub mod bank;
pub mod chain;
pub mod facts;
pub mod forger;
pub mod guard;
pub mod house;
pub mod miner;
pub mod money;
pub mod officers;
pub mod outside;
