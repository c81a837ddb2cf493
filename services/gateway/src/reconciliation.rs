//! The books against the chains: what the ledger says that we hold, and what the chain says at the same block.
//!
//! Invariant: both sides speak of one block **hash**, the lowest up to which every shard's books are complete; a chain that does not
//! have that block on its canonical branch gives an error and never a figure. Deliberately absent: any correction. A difference
//! is shown, and a human looks.

use std::collections::BTreeMap;
use std::time::Duration;

use custos_domain::{Amount, AmountError, AssetId, AssetKind, BlockRef, ChainId, EthAddress};
use custos_messages::events::Side;
use custos_policy::{AssetPolicy, Policy};
use custos_readmodel::{AlarmView, BalanceSheet, Net, PageRequest, ReadModel};
use custos_runtime::ops::{Holding, ask_balances};

use crate::BooksError;

/// Holdings of one question to the blockchain service.
const AT_ONCE: usize = 200;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Alarms that are named.
const ALARMS: u32 = 100;

/// The books of all registered assets, and whatever casts doubt on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// By asset.
    pub assets: Vec<AssetBooks>,
    /// Rows of the read model that contradict each other: somebody else has written there.
    pub altered: Vec<AlteredRow>,
    /// The newest alarms.
    pub alarms: Vec<AlarmView>,
}

/// A balance that is not the sum of its legs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredRow {
    /// An account's id, or `house@partition`.
    pub holder: String,
    /// The book.
    pub book: String,
    /// The asset.
    pub asset: String,
}

/// The books of an asset, and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetBooks {
    /// The registry entry's decimals.
    pub decimals: u8,
    /// The chain.
    pub chain: ChainId,
    /// Every book as it stands now.
    pub sheet: BalanceSheet,
    /// Available, held, pending and frozen of all clients.
    pub claims: Net,
    /// The block up to which every shard's books are complete; `None` until then.
    pub block: Option<BlockRef>,
    /// What the books say that we held at `block`.
    pub custody: Option<Net>,
    /// What our addresses held at `block`.
    pub on_chain: Option<Amount>,
    /// Both against each other.
    pub difference: Option<Difference>,
}

/// Chain against books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// They agree.
    None,
    /// The chain holds this much more than the books say.
    ChainHasMore(Amount),
    /// The books say this much more than the chain holds.
    BooksHaveMore(Amount),
}

impl Difference {
    fn between(on_chain: Amount, custody: Net) -> Result<Self, AmountError> {
        let books = match custody.side {
            Side::Debit => custody.amount,
            // The books are overdrawn: whatever the chain holds comes on top.
            Side::Credit => return Ok(Self::ChainHasMore(on_chain.plus(custody.amount)?)),
        };
        Ok(match on_chain.cmp(&books) {
            std::cmp::Ordering::Equal => Self::None,
            std::cmp::Ordering::Greater => Self::ChainHasMore(on_chain.minus(books)?),
            std::cmp::Ordering::Less => Self::BooksHaveMore(books.minus(on_chain)?),
        })
    }
}

impl AssetBooks {
    /// Whether the books are complete up to some block, balance, and agree with the chain there.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.difference == Some(Difference::None) && self.sheet.total.amount.is_zero()
    }
}

impl Books {
    /// Whether every asset's books agree with its chain and no row was altered. Alarms are named beside it.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.altered.is_empty() && !self.assets.is_empty() && self.assets.iter().all(AssetBooks::matches)
    }
}

/// Compares the books in `model` with the chains, asked through the blockchain service's operator address `blockchain` (host:port).
///
/// # Errors
/// See [`BooksError`]. A block that has just left the canonical branch gives one too: ask again after the next mark.
pub async fn reconcile(model: &ReadModel, blockchain: &str, policy: &Policy) -> Result<Books, BooksError> {
    let mut assets: BTreeMap<AssetId, AssetBooks> = BTreeMap::new();
    for (chain, rules) in &policy.chains {
        let block = model.marks(chain, policy.partitions).await?.complete_up_to;
        let mut ours: Vec<EthAddress> = model.addresses_of_chain(chain).await?;
        ours.push(rules.hot);
        ours.sort_unstable();
        ours.dedup();
        for (id, entry) in policy.assets.iter().filter(|(_, entry)| entry.asset.chain == *chain) {
            let mut books = sheet(model, id, entry).await?;
            if let Some(block) = block {
                let custody = model.custody_at(chain, id, block.number).await?;
                let on_chain = held(blockchain, chain, &block, &entry.asset.kind, &ours).await?;
                books.block = Some(block);
                books.custody = Some(custody);
                books.on_chain = Some(on_chain);
                books.difference = Some(Difference::between(on_chain, custody)?);
            }
            assets.insert(id.clone(), books);
        }
    }
    let altered = model.discrepancies().await?.into_iter().map(|row| AlteredRow {
        holder: holder(&row.holder),
        book: row.book,
        asset: row.asset,
    });
    let alarms = model.alarms(PageRequest::first(ALARMS)).await?.items;
    Ok(Books { assets: assets.into_values().collect(), altered: altered.collect(), alarms })
}

async fn sheet(model: &ReadModel, id: &AssetId, entry: &AssetPolicy) -> Result<AssetBooks, BooksError> {
    let sheet = model.balance_sheet(id).await?;
    let mut claims = Net::ZERO;
    for book in [sheet.available, sheet.held, sheet.pending, sheet.frozen] {
        claims = sum(claims, book)?;
    }
    Ok(AssetBooks {
        decimals: entry.asset.decimals,
        chain: entry.asset.chain.clone(),
        sheet,
        claims,
        block: None,
        custody: None,
        on_chain: None,
        difference: None,
    })
}

fn sum(one: Net, other: Net) -> Result<Net, AmountError> {
    if one.side == other.side {
        return Ok(Net { side: one.side, amount: one.amount.plus(other.amount)? });
    }
    let (larger, smaller) = if one.amount >= other.amount { (one, other) } else { (other, one) };
    Ok(Net { side: larger.side, amount: larger.amount.minus(smaller.amount)? })
}

/// What our addresses together held of an asset at `block`.
async fn held(
    blockchain: &str,
    chain: &ChainId,
    block: &BlockRef,
    kind: &AssetKind,
    ours: &[EthAddress],
) -> Result<Amount, BooksError> {
    let contract = match kind {
        AssetKind::Native => None,
        AssetKind::Erc20 { contract } => Some(*contract),
    };
    let mut all = Amount::ZERO;
    for some in ours.chunks(AT_ONCE) {
        let holdings: Vec<Holding> = some.iter().map(|address| Holding { address: *address, contract }).collect();
        let answer = ask_balances(blockchain, chain, &block.hash, &holdings, PATIENCE).await;
        let amounts = answer.map_err(|source| BooksError::Ask { chain: chain.clone(), source })?;
        for amount in amounts {
            all = all.plus(amount)?;
        }
    }
    Ok(all)
}

fn holder(bytes: &[u8]) -> String {
    match (<[u8; 16]>::try_from(bytes), <[u8; 4]>::try_from(bytes)) {
        (Ok(account), _) => custos_domain::AccountId(account).to_string(),
        (_, Ok(partition)) => format!("house@{}", u32::from_be_bytes(partition)),
        _ => hex::encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_exact_in_both_directions() {
        let books = |units| Net { side: Side::Debit, amount: Amount::new(units) };
        let cases = [
            (5, books(5), Difference::None),
            (0, Net::ZERO, Difference::None),
            (7, books(5), Difference::ChainHasMore(Amount::new(2))),
            (5, books(7), Difference::BooksHaveMore(Amount::new(2))),
            (5, Net { side: Side::Credit, amount: Amount::new(2) }, Difference::ChainHasMore(Amount::new(7))),
        ];
        for (chain, custody, expected) in cases {
            assert_eq!(Difference::between(Amount::new(chain), custody), Ok(expected));
        }
    }

    #[test]
    fn nets_of_both_sides_add_up() {
        let (owed, owned) =
            (Net { side: Side::Credit, amount: Amount::new(3) }, Net { side: Side::Debit, amount: Amount::new(5) });
        assert_eq!(sum(owed, owned), Ok(Net { side: Side::Debit, amount: Amount::new(2) }));
        assert_eq!(sum(owed, owed), Ok(Net { side: Side::Credit, amount: Amount::new(6) }));
        assert_eq!(sum(Net::ZERO, owed), Ok(owed));
    }
}
