//! The ground of the end-to-end tests: a chain, an installation of Custos, its processes, and the bank that uses it.
//!
//! A test makes a [`World`], does what a bank, its officers and the chain would do, and waits for conditions, each with a deadline.
//! The product is only met from outside: as a program, over its REST door, and on the chain. Nothing here looks into its log or
//! its tables, except for the [`Hand`] of somebody inside. When a test fails, the folder with every process's output is kept and its path is printed.

mod bank;
mod brokers;
mod chance;
mod copy;
mod door;
mod ethereum;
mod hand;
mod installation;
mod ledger;
mod log;
mod owners;
mod process;
mod recorder;
mod relay;
mod rpc;
mod stream;
mod wait;
mod world;

pub use bank::{Bank, Refused, Withdrawal};
pub use brokers::{Brokers, LANES};
pub use chance::{Chance, host_ms};
pub use copy::LogCopy;
pub use door::{Branch, Door};
pub use ethereum::{ETHER, Ethereum, GWEI, Mined, Paid, fees};
pub use hand::Hand;
pub use installation::{Ground, Installation, Part};
pub use ledger::{Balance, base_units, decimal, text};
pub use log::read_all;
pub use owners::only_owners_committed;
pub use process::{Finished, Process};
pub use relay::{Link, Relay};
pub use stream::Stream;
pub use wait::{LONG, SHORT, until};
pub use world::{APPROVAL_LIMIT, CONFIRMATIONS, World};
