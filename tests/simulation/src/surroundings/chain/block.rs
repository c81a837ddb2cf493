//! Blocks, transactions, and what they do to balances.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolCall;

alloy::sol! {
    /// The part of ERC-20 that moves money.
    interface Erc20 {
        /// Pays the caller's tokens.
        function transfer(address to, uint256 amount) external returns (bool);
        /// A balance in base units.
        function balanceOf(address account) external view returns (uint256);
        /// Emitted by every movement of tokens.
        event Transfer(address indexed from, address indexed to, uint256 value);
    }
}

/// Gas of a payment of ether.
pub(super) const PLAIN_GAS: u64 = 21_000;
/// Gas of a token transfer.
pub(super) const TOKEN_GAS: u64 = 52_000;
/// Gas of one that reverts.
const REVERT_GAS: u64 = 30_000;

/// Which coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coin {
    /// The chain's own.
    Ether,
    /// The one token.
    Token,
}

/// What a transaction is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pays {
    /// Ether to an address.
    Ether {
        /// To whom.
        to: Address,
        /// Wei.
        wei: u128,
    },
    /// The token to an address.
    Token {
        /// To whom.
        to: Address,
        /// Base units.
        units: u128,
    },
    /// Nothing that this chain knows: it reverts.
    Nothing,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    /// Its hash.
    pub hash: B256,
    /// Who pays.
    pub from: Address,
    /// Its nonce.
    pub nonce: u64,
    /// The address in it: of the receiver or the contract.
    pub to: Address,
    /// Ether in it.
    pub value: u128,
    /// What it is made for.
    pub pays: Pays,
    /// The most gas.
    pub gas_limit: u64,
    /// `maxFeePerGas`.
    pub max_fee: u128,
    /// `maxPriorityFeePerGas`.
    pub tip: u128,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mined {
    /// The transaction.
    pub tx: Arc<Tx>,
    /// Whether it did what it was made for.
    pub succeeded: bool,
    /// Gas used.
    pub gas_used: u64,
    /// Wei for each gas.
    pub price: u128,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    wei: u128,
    nonce: u64,
    tokens: u128,
}

/// All balances after a block. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct State {
    accounts: Arc<BTreeMap<Address, Account>>,
}

/// A block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its parent.
    pub parent: B256,
    /// Seconds of the date.
    pub time: u64,
    /// Wei for each gas.
    pub base_fee: u128,
    /// What is in it.
    pub mined: Vec<Mined>,
    /// The balances after it.
    pub state: State,
}

/// The rules of a block for its transactions.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Wei for each gas.
    pub base_fee: u128,
    /// Whether the token refuses every transfer.
    pub paused: Paused,
}

/// Whether the token's transfers revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// They do.
    Yes,
    /// They do not.
    No,
}

impl Tx {
    /// Reads signed bytes; geth's words if they cannot be a transaction.
    ///
    /// # Errors
    /// What a node says.
    pub fn read(raw: &[u8], chain: u64, token: Address) -> Result<Self, String> {
        let mut rest = raw;
        let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|error| format!("rlp: {error}"))?;
        if envelope.chain_id() != Some(chain) {
            return Err("invalid sender: invalid chain id for signer".to_owned());
        }
        let from = envelope.recover_signer().map_err(|_| "invalid sender: invalid transaction v, r, s values".to_owned())?;
        let to = envelope.to().unwrap_or_default();
        let value = u128::try_from(envelope.value()).map_err(|_| "insufficient funds for gas * price + value".to_owned())?;
        Ok(Self {
            hash: *envelope.tx_hash(),
            from,
            nonce: envelope.nonce(),
            to,
            value,
            pays: purpose(to, value, envelope.input(), token),
            gas_limit: envelope.gas_limit(),
            max_fee: envelope.max_fee_per_gas(),
            tip: envelope.max_priority_fee_per_gas().unwrap_or_default(),
        })
    }

    /// The most that it can cost its sender, in wei; saturates, for nobody can pay that.
    #[must_use]
    pub fn cost(&self) -> u128 {
        self.max_fee.saturating_mul(self.gas_limit.into()).saturating_add(self.value)
    }

    /// What each gas pays at `base_fee`; `None` if it does not pay so much.
    #[must_use]
    pub fn price(&self, base_fee: u128) -> Option<u128> {
        (self.max_fee >= base_fee).then(|| self.max_fee.min(base_fee.saturating_add(self.tip)))
    }
}

/// What a call with this value and data does.
pub(super) fn purpose(to: Address, value: u128, data: &Bytes, token: Address) -> Pays {
    if to == token {
        return match Erc20::transferCall::abi_decode(data) {
            Ok(call) if value == 0 => {
                u128::try_from(call.amount).map_or(Pays::Nothing, |units| Pays::Token { to: call.to, units })
            }
            _ => Pays::Nothing,
        };
    }
    Pays::Ether { to, wei: value }
}

impl State {
    /// A balance.
    #[must_use]
    pub fn balance(&self, coin: Coin, address: &Address) -> u128 {
        let Some(account) = self.accounts.get(address) else { return 0 };
        match coin {
            Coin::Ether => account.wei,
            Coin::Token => account.tokens,
        }
    }

    /// The next nonce.
    #[must_use]
    pub fn nonce(&self, address: &Address) -> u64 {
        self.accounts.get(address).map_or(0, |account| account.nonce)
    }

    /// Makes money out of nothing, at the beginning of the world.
    pub fn endow(&mut self, address: Address, wei: u128, tokens: u128) {
        let account = self.account(address);
        account.wei = account.wei.saturating_add(wei);
        account.tokens = account.tokens.saturating_add(tokens);
    }

    fn account(&mut self, address: Address) -> &mut Account {
        Arc::make_mut(&mut self.accounts).entry(address).or_default()
    }

    /// Whether a call would do what it is made for, and the gas that it needs; `None` if it would revert.
    #[must_use]
    pub fn gas(&self, from: &Address, pays: &Pays, paused: Paused) -> Option<u64> {
        match pays {
            Pays::Ether { .. } => Some(PLAIN_GAS),
            Pays::Token { units, .. } => {
                (paused == Paused::No && self.balance(Coin::Token, from) >= *units).then_some(TOKEN_GAS)
            }
            Pays::Nothing => None,
        }
    }

    /// Executes `tx`; `None` leaves everything as it was: it cannot stand in a block now.
    pub fn execute(&mut self, tx: &Arc<Tx>, terms: Terms) -> Option<Mined> {
        let price = tx.price(terms.base_fee)?;
        if self.nonce(&tx.from) != tx.nonce || self.balance(Coin::Ether, &tx.from) < tx.cost() {
            return None;
        }
        let wanted = self.gas(&tx.from, &tx.pays, terms.paused);
        let (gas_used, succeeded) = match wanted {
            Some(gas) if gas <= tx.gas_limit => (gas, true),
            _ => (REVERT_GAS.min(tx.gas_limit), false),
        };
        let payer = self.account(tx.from);
        payer.nonce = payer.nonce.saturating_add(1);
        payer.wei = payer.wei.saturating_sub(price.saturating_mul(gas_used.into()));
        if succeeded {
            match tx.pays {
                Pays::Ether { to, wei } => {
                    payer.wei = payer.wei.saturating_sub(wei);
                    let receiver = self.account(to);
                    receiver.wei = receiver.wei.saturating_add(wei);
                }
                Pays::Token { to, units } => {
                    payer.tokens = payer.tokens.saturating_sub(units);
                    let receiver = self.account(to);
                    receiver.tokens = receiver.tokens.saturating_add(units);
                }
                Pays::Nothing => {}
            }
        }
        Some(Mined { tx: Arc::clone(tx), succeeded, gas_used, price })
    }
}
