//! The embedded chain of the demonstration, and what happens on it outside of the bank's reach: payments in, fees, reorganisations.

use std::net::SocketAddr;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context, anyhow};
use custos_devchain::{Clock, DevChain, Dropped, Server, Settings};
use custos_domain::{Amount, EthAddress};

/// How often a block is mined.
pub const BLOCK_TIME: Duration = Duration::from_millis(400);

/// A development chain with a token, served on loopback.
pub struct Town {
    chain: DevChain,
    server: Server,
    token: Address,
}

impl Town {
    /// Starts the chain, deploys the token, and begins to mine.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub async fn start() -> anyhow::Result<Self> {
        let chain = DevChain::new(Settings { clock: Clock::Host, ..Settings::default() })?;
        let token = chain.deploy_token("Test Dollar", "TUSD")?;
        let server = chain.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        chain.set_auto(Some(BLOCK_TIME));
        Ok(Self { chain, server, token })
    }

    /// Its JSON-RPC address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Its EIP-155 number.
    pub fn number(&self) -> u64 {
        self.chain.chain_number()
    }

    /// The token's contract.
    pub fn token(&self) -> EthAddress {
        EthAddress(self.token.into())
    }

    /// Pays ether to an address.
    ///
    /// # Errors
    /// The chain refuses.
    pub fn pay_ether(&self, to: &EthAddress, wei: Amount) -> anyhow::Result<String> {
        Ok(self.chain.send_ether(Address::from(to.0), U256::from(wei.base_units()))?.to_string())
    }

    /// Pays tokens to an address.
    ///
    /// # Errors
    /// The chain refuses.
    pub fn pay_token(&self, to: &EthAddress, units: Amount) -> anyhow::Result<String> {
        Ok(self.chain.mint_token(self.token, Address::from(to.0), U256::from(units.base_units()))?.to_string())
    }

    /// What an address holds, in wei.
    pub fn ether_of(&self, address: &EthAddress) -> anyhow::Result<Amount> {
        let wei = self.chain.balance(Address::from(address.0));
        u128::try_from(wei).map(Amount::new).map_err(|_| anyhow!("a balance beyond 128 bits"))
    }

    /// The newest block's number.
    pub fn height(&self) -> u64 {
        self.chain.head().number
    }

    /// Rolls `depth` blocks back and mines empty ones in their place; what was in them waits in the pool again.
    ///
    /// # Errors
    /// The chain is shorter than that.
    pub fn roll_back(&self, depth: u64) -> anyhow::Result<(u64, u64)> {
        let before = self.height();
        let blocks = usize::try_from(depth)?.checked_add(1).context("a depth beyond measure")?;
        self.chain.set_auto(None);
        self.chain.replace(depth, Dropped::Reinject, &vec![Vec::new(); blocks])?;
        self.chain.set_auto(Some(BLOCK_TIME));
        Ok((before, self.height()))
    }
}
