//! The books: every change is a journal entry whose debits equal its credits for each asset.
//!
//! Invariants, checked for every entry in every build: debits equal credits per asset; a client's part never goes below zero;
//! nothing wraps. An entry is applied whole or not at all. Deliberately absent: any knowledge of chains and sagas.

use custos_domain::{AccountId, Amount, AssetId};
use custos_messages::events::{ClientBook, HouseBook, LedgerAccount, Leg, Side};

use crate::state::{Account, Balances, House, Net};

/// Why an entry is not made. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Debits and credits differ for some asset.
    #[error("debits and credits differ")]
    Unbalanced,
    /// A client's part is smaller than what is taken out of it.
    #[error("the part is smaller than what is taken out of it")]
    Short,
    /// A sum beyond 128 bits.
    #[error("a sum does not fit")]
    Overflow,
    /// A leg of an account or shard that is not the one at hand.
    #[error("a leg belongs to another account or shard")]
    Foreign,
}

/// The code under which a saga parks when its entry is refused.
pub(crate) const LEDGER_FAULT: &str = "ledger-fault";

/// Debits equal credits for each asset. Entries have few legs, so each asset is summed where it first stands.
pub(crate) fn balanced(legs: &[Leg]) -> Result<(), LedgerError> {
    for (at, first) in legs.iter().enumerate() {
        if legs.iter().take(at).any(|before| before.asset == first.asset) {
            continue;
        }
        let (mut debits, mut credits) = (Amount::ZERO, Amount::ZERO);
        for leg in legs.iter().skip(at).filter(|leg| leg.asset == first.asset) {
            let sum = match leg.side {
                Side::Debit => &mut debits,
                Side::Credit => &mut credits,
            };
            *sum = sum.plus(leg.amount).map_err(|_| LedgerError::Overflow)?;
        }
        if debits != credits {
            return Err(LedgerError::Unbalanced);
        }
    }
    Ok(())
}

/// Where the lines of an entry stand after it: worked out beside the books, so that an entry which is not made changes nothing.
#[derive(Default)]
pub(crate) struct Lines {
    client: Vec<(AssetId, Balances)>,
    house: Vec<((HouseBook, AssetId), Net)>,
}

impl Lines {
    /// The lines after `legs` of `account`, as the client and the house of shard `partition` stand now. An account that is no
    /// client's has house legs only.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub(crate) fn after(
        legs: &[Leg],
        account: &AccountId,
        client: Option<&Account>,
        house: Option<&House>,
        partition: u32,
    ) -> Result<Self, LedgerError> {
        let mut lines = Self::default();
        for leg in legs {
            match &leg.ledger {
                LedgerAccount::Client { account: whose, book } => {
                    let client = client.filter(|_| whose == account).ok_or(LedgerError::Foreign)?;
                    let line = line(&mut lines.client, &leg.asset, || client.balances.get(&leg.asset).copied());
                    let part = line.part(*book);
                    *part = match leg.side {
                        Side::Debit => part.minus(leg.amount).map_err(|_| LedgerError::Short)?,
                        Side::Credit => part.plus(leg.amount).map_err(|_| LedgerError::Overflow)?,
                    };
                }
                LedgerAccount::House { partition: whose, .. } if *whose != partition => return Err(LedgerError::Foreign),
                LedgerAccount::House { book, .. } => {
                    let name = (*book, leg.asset.clone());
                    let net = line(&mut lines.house, &name, || house.and_then(|house| house.books.get(&name).copied()));
                    *net = net.moved(leg.side, leg.amount)?;
                }
            }
        }
        Ok(lines)
    }

    /// Writes the client's lines.
    pub(crate) fn write_client(&mut self, client: &mut Account) {
        client.balances.extend(self.client.drain(..));
    }

    /// Writes the house's lines.
    pub(crate) fn write_house(&mut self, house: &mut House) {
        house.books.extend(self.house.drain(..));
    }
}

/// The line called `name`: as this entry has left it, else as it stands in the books.
fn line<'a, N: Clone + PartialEq, L: Default>(
    lines: &'a mut Vec<(N, L)>,
    name: &N,
    stands: impl FnOnce() -> Option<L>,
) -> &'a mut L {
    let at = lines.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        lines.push((name.clone(), stands().unwrap_or_default()));
        lines.len().saturating_sub(1)
    });
    // It was found, or pushed, just now.
    let (_, line) = lines.get_mut(at).expect("a place within the lines");
    line
}

impl Balances {
    fn part(&mut self, book: ClientBook) -> &mut Amount {
        match book {
            ClientBook::Available => &mut self.available,
            ClientBook::Held => &mut self.held,
            ClientBook::Pending => &mut self.pending,
            ClientBook::Frozen => &mut self.frozen,
        }
    }
}

impl Net {
    fn moved(self, side: Side, amount: Amount) -> Result<Self, LedgerError> {
        let (near, far) = match side {
            Side::Debit => (self.debit, self.credit),
            Side::Credit => (self.credit, self.debit),
        };
        // What lies on the other side is used up first; only the rest counts here.
        let (near, far) = match (far.minus(amount), amount.minus(far)) {
            (Ok(rest), _) => (near, rest),
            (Err(_), Ok(rest)) => (near.plus(rest).map_err(|_| LedgerError::Overflow)?, Amount::ZERO),
            (Err(_), Err(_)) => return Err(LedgerError::Overflow),
        };
        Ok(match side {
            Side::Debit => Self { debit: near, credit: far },
            Side::Credit => Self { debit: far, credit: near },
        })
    }
}

/// The legs of one entry, written as the bank would: debit this, credit that. Legs of nothing are left out.
#[derive(Clone, Debug)]
pub(crate) struct Legs {
    partition: u32,
    account: AccountId,
    pub(crate) legs: Vec<Leg>,
}

impl Legs {
    /// Legs of `account` and of the house's books in shard `partition`.
    pub(crate) fn new(account: AccountId, partition: u32) -> Self {
        Self { partition, account, legs: Vec::new() }
    }

    fn leg(mut self, ledger: LedgerAccount, asset: &AssetId, amount: Amount, side: Side) -> Self {
        if !amount.is_zero() {
            self.legs.push(Leg { ledger, asset: asset.clone(), amount, side });
        }
        self
    }

    fn client_leg(self, book: ClientBook, asset: &AssetId, amount: Amount, side: Side) -> Self {
        let ledger = LedgerAccount::Client { account: self.account, book };
        self.leg(ledger, asset, amount, side)
    }

    fn house_leg(self, book: HouseBook, asset: &AssetId, amount: Amount, side: Side) -> Self {
        let ledger = LedgerAccount::House { partition: self.partition, book };
        self.leg(ledger, asset, amount, side)
    }

    pub(crate) fn debit(self, book: ClientBook, asset: &AssetId, amount: Amount) -> Self {
        self.client_leg(book, asset, amount, Side::Debit)
    }

    pub(crate) fn credit(self, book: ClientBook, asset: &AssetId, amount: Amount) -> Self {
        self.client_leg(book, asset, amount, Side::Credit)
    }

    pub(crate) fn debit_house(self, book: HouseBook, asset: &AssetId, amount: Amount) -> Self {
        self.house_leg(book, asset, amount, Side::Debit)
    }

    pub(crate) fn credit_house(self, book: HouseBook, asset: &AssetId, amount: Amount) -> Self {
        self.house_leg(book, asset, amount, Side::Credit)
    }

    /// These legs and then those.
    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.legs.extend_from_slice(&others.legs);
        self
    }

    /// The asset of which the client has more available after it. No entry gives a client more of two.
    pub(crate) fn made_available(&self) -> Option<AssetId> {
        let more = |leg: &&Leg| {
            leg.side == Side::Credit && matches!(leg.ledger, LedgerAccount::Client { book: ClientBook::Available, .. })
        };
        self.legs.iter().find(more).map(|leg| leg.asset.clone())
    }

    /// The same legs with sides exchanged: what takes the entry back.
    pub(crate) fn reversed(mut self) -> Self {
        for leg in &mut self.legs {
            leg.side = match leg.side {
                Side::Debit => Side::Credit,
                Side::Credit => Side::Debit,
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_balance_is_the_difference_of_its_sides_whatever_the_order() {
        let amount = Amount::new;
        let cases = [
            (vec![(Side::Debit, 5)], (5, 0)),
            (vec![(Side::Debit, 5), (Side::Credit, 3)], (2, 0)),
            (vec![(Side::Credit, 3), (Side::Debit, 5)], (2, 0)),
            (vec![(Side::Credit, 5), (Side::Debit, 5)], (0, 0)),
            (vec![(Side::Debit, u128::MAX), (Side::Credit, u128::MAX), (Side::Credit, 1)], (0, 1)),
        ];
        for (moves, (debit, credit)) in cases {
            let net = moves.iter().try_fold(Net::default(), |net, (side, units)| net.moved(*side, amount(*units)));
            assert_eq!(net, Ok(Net { debit: amount(debit), credit: amount(credit) }), "{moves:?}");
        }
        let full = Net { debit: amount(u128::MAX), credit: Amount::ZERO };
        assert_eq!(full.moved(Side::Debit, amount(1)), Err(LedgerError::Overflow));
    }

    #[test]
    fn an_entry_balances_per_asset_and_not_across_assets() {
        let (one, two) = (AssetId::new("ONE").unwrap(), AssetId::new("TWO").unwrap());
        let legs = || Legs::new(AccountId([1; 16]), 0).debit_house(HouseBook::Custody, &one, Amount::new(5));
        assert_eq!(balanced(&legs().credit(ClientBook::Pending, &one, Amount::new(5)).legs), Ok(()));
        assert_eq!(balanced(&legs().credit(ClientBook::Pending, &two, Amount::new(5)).legs), Err(LedgerError::Unbalanced));
        assert_eq!(balanced(&legs().legs), Err(LedgerError::Unbalanced));
    }
}
