//! What is known outside from the event log: what clients, officers and oracles go by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use custos_domain::{AccountId, AssetId, EthAddress, IntentDigest, SagaId, TxHash};
use custos_messages::accounts::Deposit;
use custos_messages::events::{
    ClientBook, Ending, EntryReason, Event, EventBody, HouseBook, JournalEntry, LedgerAccount, Request, Side,
};

/// A saga as its events tell it.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// What was asked.
    pub request: Option<Request>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// It waits for a human.
    pub parked: bool,
    /// What its entries moved on every book, debits positive.
    pub moved: BTreeMap<(LedgerAccount, AssetId), i128>,
}

/// A deposit as its events tell it.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The last that was said of it.
    pub deposit: Deposit,
    /// What was said.
    pub standing: Standing,
}

/// Where a deposit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In a block.
    Seen,
    /// It left.
    Gone,
    /// Credited.
    Credited,
    /// Frozen.
    Quarantined,
    /// Taken back.
    Reversed,
}

/// An approval that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The withdrawal.
    pub saga: SagaId,
    /// What is signed.
    pub digest: IntentDigest,
}

/// What the events say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Accounts that exist.
    pub accounts: Vec<AccountId>,
    /// Addresses, in the order in which they were handed out.
    pub addresses: Vec<(AccountId, EthAddress)>,
    /// Approvals asked, in order.
    pub approvals: Vec<Asked>,
    /// Every saga.
    pub operations: BTreeMap<SagaId, Operation>,
    /// Every deposit by transaction and place.
    pub deposits: BTreeMap<(TxHash, u32), Arrived>,
    /// Every book, debits positive.
    pub books: BTreeMap<(LedgerAccount, AssetId), i128>,
    /// What reversals could not take back from a client and nothing has settled yet.
    pub owed: BTreeMap<(AccountId, AssetId), i128>,
}

/// Facts that several look at. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SharedFacts(Arc<Mutex<Facts>>);

impl SharedFacts {
    /// The facts, for as long as they are held.
    pub fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every operation that began has ended.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.lock().operations.values().all(|operation| operation.ending.is_some() || operation.parked)
    }
}

impl Facts {
    /// Takes in an event; a contradiction in it, in words.
    ///
    /// # Errors
    /// It contradicts what was said before, or itself.
    pub fn hear(&mut self, event: &Event) -> Result<(), String> {
        let Event { account, saga, body, .. } = event;
        match body {
            EventBody::AccountOpened { .. } => self.accounts.push(*account),
            EventBody::AddressIssued { address, .. } => self.addresses.push((*account, *address)),
            EventBody::ApprovalAsked { digest, .. } => {
                self.approvals.extend(saga.map(|saga| Asked { saga, digest: *digest }));
            }
            EventBody::Started(request) => {
                let operation = saga.map(|saga| self.operations.entry(saga).or_default());
                if let Some(operation) = operation
                    && operation.request.replace(request.clone()).is_some()
                {
                    return Err(format!("{saga:?} began twice"));
                }
            }
            EventBody::Ended(ending) => return self.end(*saga, ending),
            EventBody::Parked { .. } => {
                if let Some(saga) = saga {
                    self.operations.entry(*saga).or_default().parked = true;
                }
            }
            EventBody::DepositSeen(deposit) => self.deposit(deposit, Standing::Seen),
            EventBody::DepositUnseen(deposit) => self.deposit(deposit, Standing::Gone),
            EventBody::DepositCredited(deposit) => {
                let before = self.deposits.get(&(deposit.tx, deposit.index)).map(|arrived| arrived.standing);
                self.deposit(deposit, Standing::Credited);
                if matches!(before, Some(Standing::Credited | Standing::Quarantined)) {
                    return Err(format!("deposit {} {} is credited twice", deposit.tx, deposit.index));
                }
            }
            EventBody::DepositQuarantined(deposit) => self.deposit(deposit, Standing::Quarantined),
            EventBody::DepositReversed(deposit) => self.deposit(deposit, Standing::Reversed),
            EventBody::Posted(entry) => return self.post(*account, *saga, entry),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, saga: Option<SagaId>, ending: &Ending) -> Result<(), String> {
        let Some(saga) = saga else { return Err("an end of nothing".to_owned()) };
        let operation = self.operations.entry(saga).or_default();
        operation.parked = false;
        if let Some(before) = operation.ending.replace(ending.clone()) {
            return Err(format!("{saga} ended twice: {before:?}, then {ending:?}"));
        }
        // What a call that reverted cost is the house's: gas against custody.
        let clients = |ledger: &LedgerAccount| matches!(ledger, LedgerAccount::Client { .. });
        let moved: Vec<_> = operation.moved.iter().filter(|((ledger, _), net)| clients(ledger) && **net != 0).collect();
        if matches!(ending, Ending::Refused(_)) && !moved.is_empty() {
            return Err(format!("{saga} was refused, and moved {moved:?}"));
        }
        Ok(())
    }

    fn deposit(&mut self, deposit: &Deposit, standing: Standing) {
        self.deposits.insert((deposit.tx, deposit.index), Arrived { deposit: deposit.clone(), standing });
    }

    fn post(&mut self, account: AccountId, saga: Option<SagaId>, entry: &JournalEntry) -> Result<(), String> {
        // An old debt is settled out of what an operation gave back: that is no movement of the operation's.
        let saga = saga.filter(|_| entry.reason != EntryReason::ShortageCollected);
        let mut sums: BTreeMap<AssetId, i128> = BTreeMap::new();
        for leg in &entry.legs {
            let units =
                i128::try_from(leg.amount.base_units()).map_err(|_| format!("an amount beyond reason: {entry:?}"))?;
            let signed = match leg.side {
                Side::Debit => units,
                Side::Credit => units.saturating_neg(),
            };
            add(sums.entry(leg.asset.clone()).or_default(), signed);
            add(self.books.entry((leg.ledger.clone(), leg.asset.clone())).or_default(), signed);
            if let Some(saga) = saga {
                let moved = &mut self.operations.entry(saga).or_default().moved;
                add(moved.entry((leg.ledger.clone(), leg.asset.clone())).or_default(), signed);
            }
        }
        if sums.values().any(|sum| *sum != 0) {
            return Err(format!("an entry that is not zero: {entry:?}"));
        }
        self.owe(account, entry)?;
        for leg in &entry.legs {
            let overdrawn = self.books.get(&(leg.ledger.clone(), leg.asset.clone())).is_some_and(|net| *net > 0);
            // What a client may spend or has in hold is never below nothing, except that a reversal takes back what may be spent already.
            if overdrawn && matches!(leg.ledger, LedgerAccount::Client { book: ClientBook::Held, .. }) {
                return Err(format!("{:?} is overdrawn by {entry:?}", leg.ledger));
            }
        }
        Ok(())
    }

    /// A reversal leaves a debt, and no more is collected than was owed.
    fn owe(&mut self, account: AccountId, entry: &JournalEntry) -> Result<(), String> {
        if !matches!(entry.reason, EntryReason::DepositReversed | EntryReason::ShortageCollected) {
            return Ok(());
        }
        let suspense = |ledger: &LedgerAccount| matches!(ledger, LedgerAccount::House { book: HouseBook::Suspense, .. });
        for leg in entry.legs.iter().filter(|leg| suspense(&leg.ledger)) {
            let units = i128::try_from(leg.amount.base_units()).unwrap_or(i128::MAX);
            let owed = self.owed.entry((account, leg.asset.clone())).or_default();
            add(owed, if leg.side == Side::Debit { units } else { units.saturating_neg() });
            if *owed < 0 {
                return Err(format!("more is collected from {account} than it owed: {entry:?}"));
            }
        }
        Ok(())
    }

    /// Who owes the house and may spend at the same time: none, for a debt is settled before anything may be spent.
    #[must_use]
    pub fn spendthrifts(&self) -> Vec<String> {
        let owing = self.owed.iter().filter(|(_, owed)| **owed > 0);
        let spends = owing.filter(|((account, asset), _)| self.available(*account, asset) > 0);
        spends.map(|((account, asset), owed)| format!("{account} owes {owed} {asset} and has some available")).collect()
    }

    /// What an account may spend, in base units.
    #[must_use]
    pub fn available(&self, account: AccountId, asset: &AssetId) -> u128 {
        let ledger = LedgerAccount::Client { account, book: ClientBook::Available };
        let net = self.books.get(&(ledger, asset.clone())).copied().unwrap_or(0);
        u128::try_from(net.saturating_neg()).unwrap_or(0)
    }
}

const fn add(sum: &mut i128, more: i128) {
    *sum = sum.saturating_add(more);
}
