//! What a development chain is made of, parsed once before it starts.

use std::time::Duration;

use alloy::primitives::{Address, U256};

use crate::keys::{DEV_KEYS, dev_address};

/// One ether in wei.
pub const ETHER: u128 = 1_000_000_000_000_000_000;

/// Where block times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Every block is this many seconds after its parent: the same run gives the same hashes.
    Stepped(u64),
    /// The host's time, but always later than the parent.
    Host,
}

/// Settings of a development chain. `Settings::default()` is a deterministic chain for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// EIP-155 chain number.
    pub chain_number: u64,
    /// Balances at genesis, in wei.
    pub genesis: Vec<(Address, U256)>,
    /// Unix time of the genesis block, in seconds.
    pub genesis_time: u64,
    /// Gas that fits into a block.
    pub block_gas_limit: u64,
    /// Base fee of the genesis block, in wei per gas; from there EIP-1559 rules.
    pub base_fee: u64,
    /// Where block times come from.
    pub clock: Clock,
    /// Blocks between the head and the block tagged `safe`.
    pub safe_depth: u64,
    /// Blocks between the head and the block tagged `finalized`.
    pub finalized_depth: u64,
    /// Blocks below the head whose state stays readable.
    pub state_history: u64,
    /// Highest fee, in wei, that the RPC accepts in one transaction (geth's `--rpc.txfeecap`).
    pub fee_cap: U256,
    /// Largest `eth_call` gas, as geth's `--rpc.gascap`.
    pub call_gas_cap: u64,
    /// Mining at start: see `DevChain::set_auto`.
    pub auto: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let rich = U256::from(1_000_000_u64) * U256::from(ETHER);
        Self {
            chain_number: 31_337,
            genesis: (0..DEV_KEYS).map(|index| (dev_address(index), rich)).collect(),
            genesis_time: 1_700_000_000,
            block_gas_limit: 30_000_000,
            base_fee: 1_000_000_000,
            clock: Clock::Stepped(12),
            safe_depth: 1,
            finalized_depth: 2,
            state_history: 1_024,
            fee_cap: U256::from(ETHER),
            call_gas_cap: 50_000_000,
            auto: None,
        }
    }
}
