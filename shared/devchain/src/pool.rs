//! The transaction pool with geth's rules and geth's words (v1.17).
//!
//! Invariant: per sender and nonce at most one transaction; a sender's transactions are *pending* while their nonces follow
//! the account's without a gap, and *queued* after the first gap. Which is which is derived, never stored.
//! What is absent: eviction by size, blob transactions, and the limits for accounts with delegated code.

use std::collections::{BTreeMap, HashMap};

use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::eip2718::{Decodable2718, Encodable2718},
    primitives::{Address, TxHash, U256},
};
use revm::context_interface::cfg::gas::calculate_initial_tx_gas;

use crate::{execute::RULES, world::World};

/// EIP-7825: the most gas one transaction may ask for.
pub const GAS_CAP: u64 = 1 << 24;
/// Percent by which a replacement must raise both fee fields.
const PRICE_BUMP: u128 = 10;
/// Smallest tip, in wei per gas.
const TIP_MIN: u128 = 1;
/// Largest encoded transaction, in bytes.
const SIZE_MAX: usize = 4 * 32 * 1024;
/// EIP-3860: largest creation code, in bytes.
const INIT_CODE_MAX: usize = 49_152;
/// Transactions that the pool holds at most (geth: 4096 executable + 1024 queued).
const POOL_MAX: usize = 5_120;

/// Why a transaction was refused. `Display` is geth's own text; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each variant is its documentation; fields are the figures in it")]
pub enum PoolRefusal {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("transaction type not supported")]
    TypeNotSupported,
    #[error("tx fee ({} ether) exceeds the configured cap ({} ether)", two_places(.fee), two_places(.cap))]
    FeeAboveCap { fee: U256, cap: U256 },
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("already known")]
    AlreadyKnown,
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized { size: usize, limit: usize },
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitCodeTooLarge { size: usize, limit: usize },
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    GasAboveCap { cap: u64, gas: u64 },
    #[error("exceeds block gas limit")]
    GasAboveBlock,
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    WrongChain { have: u64, want: u64 },
    #[error("invalid sender: invalid transaction v, r, s values")]
    InvalidSignature,
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas { gas: u64, needed: u64 },
    #[error("transaction gas price below minimum: gas tip cap {tip}, minimum needed {needed}")]
    TipTooLow { tip: u128, needed: u128 },
    #[error("set code transaction must have at least one authorization tuple")]
    NoAuthorizations,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}", .cost.saturating_sub(*.balance))]
    InsufficientFunds { balance: U256, cost: U256 },
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {}",
        .queued.saturating_add(*.cost).saturating_sub(*.balance)
    )]
    Overdraft { balance: U256, queued: U256, cost: U256 },
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx bumped {bump}, overshot {}",
        .queued.saturating_add(*.bump).saturating_sub(*.balance)
    )]
    OverdraftByBump { balance: U256, queued: U256, bump: U256 },
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error("txpool is full")]
    Full,
}

/// Wei as ether with two places, rounded half up, as geth prints its fee cap.
fn two_places(wei: &U256) -> String {
    let hundredths = (*wei + U256::from(5_000_000_000_000_000_u64)) / U256::from(10_000_000_000_000_000_u64);
    let (whole, rest) = hundredths.div_rem(U256::from(100_u64));
    format!("{whole}.{rest:02}")
}

/// Where a transaction comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client's `eth_sendRawTransaction`: the RPC's own caps apply too.
    Rpc {
        /// Highest fee of one transaction, in wei.
        fee_cap: U256,
    },
    /// A block that a reorganisation dropped.
    DroppedBlock,
}

/// The chain as the pool sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tip<'a> {
    pub(crate) chain_number: u64,
    pub(crate) block_gas_limit: u64,
    pub(crate) world: &'a World,
}

/// A transaction with its sender.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) tx: TxEnvelope,
    pub(crate) from: Address,
}

impl Signed {
    pub(crate) fn hash(&self) -> TxHash {
        *self.tx.tx_hash()
    }

    /// Highest cost in wei: gas limit times fee cap, and the value. Saturates: nobody can pay that anyway.
    fn cost(&self) -> U256 {
        U256::from(self.tx.gas_limit()).saturating_mul(U256::from(self.tx.max_fee_per_gas())).saturating_add(self.tx.value())
    }

    fn tip_cap(&self) -> u128 {
        self.tx.max_priority_fee_per_gas().unwrap_or_else(|| self.tx.max_fee_per_gas())
    }
}

/// Decodes what `eth_sendRawTransaction` carries.
pub(crate) fn decode(raw: &[u8]) -> Result<TxEnvelope, PoolRefusal> {
    let mut rest = raw;
    let decoded = TxEnvelope::decode_2718(&mut rest);
    match (decoded, raw.first()) {
        (Ok(tx), _) if rest.is_empty() => Ok(tx),
        (Ok(_), _) => Err(PoolRefusal::Malformed("rlp: input contains more than one value")),
        (Err(_), None) => Err(PoolRefusal::Malformed("typed transaction too short")),
        (Err(_), Some(1)) => Err(PoolRefusal::Malformed("rlp: too few elements for types.AccessListTx")),
        (Err(_), Some(2)) => Err(PoolRefusal::Malformed("rlp: too few elements for types.DynamicFeeTx")),
        (Err(_), Some(4)) => Err(PoolRefusal::Malformed("rlp: too few elements for types.SetCodeTx")),
        (Err(_), Some(0..0x80)) => Err(PoolRefusal::TypeNotSupported),
        (Err(_), Some(0x80..)) => Err(PoolRefusal::Malformed("rlp: expected input list for types.LegacyTx")),
    }
}

#[derive(Debug, Clone)]
struct Held {
    signed: Signed,
    arrival: u64,
}

/// The pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    by_sender: BTreeMap<Address, BTreeMap<u64, Held>>,
    by_hash: HashMap<TxHash, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    /// Checks `tx` as geth does, in geth's order, and holds it.
    pub(crate) fn add(&mut self, tx: TxEnvelope, origin: Origin, tip: Tip<'_>) -> Result<TxHash, PoolRefusal> {
        if let Origin::Rpc { fee_cap } = origin {
            check_rpc(&tx, fee_cap)?;
        }
        if self.by_hash.contains_key(tx.tx_hash()) {
            return Err(PoolRefusal::AlreadyKnown);
        }
        check_shape(&tx, tip)?;
        let from = recover(&tx, tip.chain_number)?;
        check_gas(&tx)?;
        let signed = Signed { tx, from };
        self.check_account(&signed, tip.world)?;
        let nonce = signed.tx.nonce();
        let earlier = self.by_sender.get(&from).and_then(|list| list.get(&nonce)).map(|held| &held.signed);
        let replaced = match earlier {
            Some(earlier) if !replaces(&signed, earlier) => return Err(PoolRefusal::ReplacementUnderpriced),
            Some(earlier) => Some(earlier.hash()),
            None if self.by_hash.len() >= POOL_MAX => return Err(PoolRefusal::Full),
            None => None,
        };
        if let Some(hash) = replaced {
            self.by_hash.remove(&hash);
        }
        let hash = signed.hash();
        self.by_hash.insert(hash, (from, nonce));
        self.arrivals = self.arrivals.saturating_add(1);
        self.by_sender.entry(from).or_default().insert(nonce, Held { signed, arrival: self.arrivals });
        Ok(hash)
    }

    fn check_account(&self, signed: &Signed, world: &World) -> Result<(), PoolRefusal> {
        let (next, nonce) = (world.nonce(signed.from), signed.tx.nonce());
        if next > nonce {
            return Err(PoolRefusal::NonceTooLow { next, nonce });
        }
        let (balance, cost) = (world.balance(signed.from), signed.cost());
        if balance < cost {
            return Err(PoolRefusal::InsufficientFunds { balance, cost });
        }
        let pending = self.pending_of(signed.from, world);
        let queued = pending.iter().fold(U256::ZERO, |sum, held| sum.saturating_add(held.signed.cost()));
        match pending.iter().find(|held| held.signed.tx.nonce() == nonce).map(|held| held.signed.cost()) {
            Some(earlier) if queued.saturating_sub(earlier).saturating_add(cost) > balance => {
                // geth prints a bump below zero as a negative number; such a replacement never overdraws.
                Err(PoolRefusal::OverdraftByBump { balance, queued, bump: cost.saturating_sub(earlier) })
            }
            None if queued.saturating_add(cost) > balance => Err(PoolRefusal::Overdraft { balance, queued, cost }),
            _ => Ok(()),
        }
    }

    fn pending_of(&self, sender: Address, world: &World) -> Vec<&Held> {
        let first = world.nonce(sender);
        let (mut next, mut run) = (first, Vec::new());
        for (nonce, held) in self.by_sender.get(&sender).into_iter().flat_map(|list| list.range(first..)) {
            if *nonce != next {
                break;
            }
            run.push(held);
            next = next.saturating_add(1);
        }
        run
    }

    /// The nonce after the sender's last pending transaction.
    pub(crate) fn next_nonce(&self, sender: Address, world: &World) -> u64 {
        let pending = u64::try_from(self.pending_of(sender, world).len()).unwrap_or(u64::MAX);
        world.nonce(sender).saturating_add(pending)
    }

    /// The best transaction to execute next: highest tip at `base_fee`, then the earlier arrival; per sender in nonce order.
    /// Senders in `passed` are left alone.
    pub(crate) fn best(&self, world: &World, base_fee: u64, passed: &[Address]) -> Option<Signed> {
        self.by_sender
            .iter()
            .filter(|(sender, _)| !passed.contains(sender))
            .filter_map(|(sender, list)| list.get(&world.nonce(*sender)))
            .filter_map(|held| held.signed.tx.effective_tip_per_gas(base_fee).map(|tip| (tip, held)))
            .max_by(|(tip, held), (other_tip, other)| tip.cmp(other_tip).then(other.arrival.cmp(&held.arrival)))
            .map(|(_, held)| held.signed.clone())
    }

    /// Forgets what `world` made impossible: nonces already used and costs beyond the balance.
    pub(crate) fn settle(&mut self, world: &World) {
        for (sender, list) in &mut self.by_sender {
            let (next, balance) = (world.nonce(*sender), world.balance(*sender));
            list.retain(|nonce, held| {
                let keep = *nonce >= next && held.signed.cost() <= balance;
                if !keep {
                    self.by_hash.remove(&held.signed.hash());
                }
                keep
            });
        }
        self.by_sender.retain(|_, list| !list.is_empty());
    }

    pub(crate) fn get(&self, hash: &TxHash) -> Option<&Signed> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        self.by_sender.get(sender)?.get(nonce).map(|held| &held.signed)
    }

    pub(crate) fn remove(&mut self, hash: &TxHash) -> Option<Signed> {
        let (sender, nonce) = self.by_hash.remove(hash)?;
        let held = self.by_sender.get_mut(&sender)?.remove(&nonce)?;
        self.by_sender.retain(|_, list| !list.is_empty());
        Some(held.signed)
    }

    pub(crate) fn clear(&mut self) -> Vec<TxHash> {
        let hashes = self.hashes();
        self.by_sender.clear();
        self.by_hash.clear();
        hashes
    }

    /// Hashes of everything held, by sender and nonce.
    pub(crate) fn hashes(&self) -> Vec<TxHash> {
        self.by_sender.values().flat_map(BTreeMap::values).map(|held| held.signed.hash()).collect()
    }

    /// How many are pending, and how many queued.
    pub(crate) fn status(&self, world: &World) -> (usize, usize) {
        let pending = self.by_sender.keys().map(|sender| self.pending_of(*sender, world).len()).sum::<usize>();
        (pending, self.by_hash.len().saturating_sub(pending))
    }
}

fn check_rpc(tx: &TxEnvelope, fee_cap: U256) -> Result<(), PoolRefusal> {
    let fee = U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas()));
    if !fee_cap.is_zero() && fee > fee_cap {
        return Err(PoolRefusal::FeeAboveCap { fee, cap: fee_cap });
    }
    if tx.chain_id().is_none() { Err(PoolRefusal::Unprotected) } else { Ok(()) }
}

fn check_shape(tx: &TxEnvelope, tip: Tip<'_>) -> Result<(), PoolRefusal> {
    if tx.is_eip4844() {
        return Err(PoolRefusal::TypeNotSupported);
    }
    let size = tx.encode_2718_len();
    if size > SIZE_MAX {
        return Err(PoolRefusal::Oversized { size, limit: SIZE_MAX });
    }
    let (gas, input) = (tx.gas_limit(), tx.input().len());
    if tx.is_create() && input > INIT_CODE_MAX {
        return Err(PoolRefusal::InitCodeTooLarge { size: input, limit: INIT_CODE_MAX });
    }
    if gas > GAS_CAP {
        return Err(PoolRefusal::GasAboveCap { cap: GAS_CAP, gas });
    }
    if gas > tip.block_gas_limit {
        return Err(PoolRefusal::GasAboveBlock);
    }
    if tx.max_priority_fee_per_gas().is_some_and(|priority| priority > tx.max_fee_per_gas()) {
        return Err(PoolRefusal::TipAboveFeeCap);
    }
    Ok(())
}

fn recover(tx: &TxEnvelope, want: u64) -> Result<Address, PoolRefusal> {
    match tx.chain_id() {
        Some(have) if have != want => Err(PoolRefusal::WrongChain { have, want }),
        // `recover_signer` refuses a high s (EIP-2), as geth does.
        _ => tx.recover_signer().map_err(|_| PoolRefusal::InvalidSignature),
    }
}

fn check_gas(tx: &TxEnvelope) -> Result<(), PoolRefusal> {
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let list = tx.access_list();
    let accounts = list.map_or(0, |list| count(list.len()));
    let slots = list.map_or(0, |list| count(list.iter().map(|item| item.storage_keys.len()).sum()));
    let authorizations = tx.authorization_list().map(<[_]>::len);
    let needed = calculate_initial_tx_gas(
        RULES,
        tx.input(),
        tx.is_create(),
        accounts,
        slots,
        count(authorizations.unwrap_or_default()),
        None,
    );
    let gas = tx.gas_limit();
    if gas < needed.initial_regular_gas() {
        return Err(PoolRefusal::IntrinsicGas { gas, needed: needed.initial_regular_gas() });
    }
    if gas < needed.floor_gas() {
        return Err(PoolRefusal::FloorGas { gas, needed: needed.floor_gas() });
    }
    let tip = tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas());
    if tip < TIP_MIN {
        return Err(PoolRefusal::TipTooLow { tip, needed: TIP_MIN });
    }
    if authorizations == Some(0) { Err(PoolRefusal::NoAuthorizations) } else { Ok(()) }
}

/// Both fields must rise, and by at least ten percent rounded down.
fn replaces(new: &Signed, old: &Signed) -> bool {
    let enough = |new: u128, old: u128| {
        let threshold = U256::from(old) * U256::from(100 + PRICE_BUMP) / U256::from(100_u64);
        new > old && U256::from(new) >= threshold
    };
    enough(new.tx.max_fee_per_gas(), old.tx.max_fee_per_gas()) && enough(new.tip_cap(), old.tip_cap())
}
