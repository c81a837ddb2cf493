//! The desk: where an input's handler reads and changes records, writes events and entries, and leaves what is to be done.
//!
//! Invariants: events of an account are numbered without a gap; an entry and its event are made together or not at all.

use std::sync::Arc;

use custos_domain::{AccountId, Amount, AssetId, BlockRef, ChainId, SagaId, TenantId};
use custos_messages::Mail;
use custos_messages::accounts::AlarmCode;
use custos_messages::events::{ClientBook, EntryReason, Event, EventBody, HouseBook, JournalEntry, Refusal};
use custos_saga::machine::{Context, Effects, Outbound, Place, Remains, Reply, View};

use crate::ledger::{LedgerError, Legs, Lines, balanced};
use crate::state::{Account, Balances, Entity, House, InForce, Key};

/// The state as handlers see it: a [`View`] without its lifetimes.
pub(crate) trait Rows {
    fn get(&self, key: &Key) -> Option<&Entity>;
    fn get_mut(&mut self, key: &Key) -> Option<&mut Entity>;
    fn put(&mut self, key: Key, entity: Entity);
    fn remove(&mut self, key: &Key);
    fn settled(&self, place: &Place) -> Option<Remains>;
}

impl Rows for View<'_, Key, Entity> {
    fn get(&self, key: &Key) -> Option<&Entity> {
        View::get(self, key)
    }
    fn get_mut(&mut self, key: &Key) -> Option<&mut Entity> {
        View::get_mut(self, key)
    }
    fn put(&mut self, key: Key, entity: Entity) {
        View::put(self, key, entity);
    }
    fn remove(&mut self, key: &Key) {
        View::remove(self, key);
    }
    fn settled(&self, place: &Place) -> Option<Remains> {
        View::settled(self, place)
    }
}

/// See the module.
pub struct Desk<'a> {
    pub(crate) rows: &'a mut dyn Rows,
    pub(crate) context: Context,
    pub(crate) effects: Effects,
    /// The saga that is heard, if one is.
    pub(crate) saga: Option<SagaId>,
    /// The step where that saga stands.
    pub(crate) step: &'static str,
    /// Why that saga is refused.
    pub(crate) refusal: Option<Refusal>,
    /// When that saga's timer is due.
    pub(crate) due: Option<custos_domain::Timestamp>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(rows: &'a mut dyn Rows, context: Context) -> Self {
        Self { rows, context, effects: Effects::default(), saga: None, step: "", refusal: None, due: None }
    }

    pub(crate) fn policy(&self) -> Option<Arc<InForce>> {
        match self.rows.get(&Key::Policy) {
            Some(Entity::Policy(in_force)) => Some(Arc::clone(in_force)),
            _ => None,
        }
    }

    pub(crate) fn account(&self, id: &AccountId) -> Option<&Account> {
        match self.rows.get(&Key::Account(*id)) {
            Some(Entity::Account(account)) => Some(account),
            _ => None,
        }
    }

    pub(crate) fn account_mut(&mut self, id: &AccountId) -> Option<&mut Account> {
        match self.rows.get_mut(&Key::Account(*id)) {
            Some(Entity::Account(account)) => Some(account),
            _ => None,
        }
    }

    pub(crate) fn balances(&self, id: &AccountId, asset: &AssetId) -> Balances {
        self.account(id).and_then(|account| account.balances.get(asset).copied()).unwrap_or_default()
    }

    fn house(&self) -> Option<&House> {
        match self.rows.get(&Key::House) {
            Some(Entity::House(house)) => Some(house),
            _ => None,
        }
    }

    /// The house's books, opened if they were not, to be changed.
    fn change_house<T>(&mut self, change: impl FnOnce(&mut House) -> T) -> T {
        if let Some(Entity::House(house)) = self.rows.get_mut(&Key::House) {
            return change(house);
        }
        let mut house = House::default();
        let changed = change(&mut house);
        self.rows.put(Key::House, Entity::House(house));
        changed
    }

    /// The house's own account of this shard, whose events these are: marks, alarms, policies, and the house's own deposits.
    pub(crate) fn house_account(&self, tenant: &TenantId) -> AccountId {
        AccountId::house(tenant, self.context.partition)
    }

    /// Writes an event on `account`. The house's funding deposits are told on the house's account of this shard, because only
    /// one shard may number an account's events.
    pub(crate) fn tell(&mut self, account: &AccountId, body: EventBody) {
        if let Some(found) = self.account_mut(account) {
            found.sequence = found.sequence.saturating_add(1);
            let sequence = found.sequence;
            self.push(*account, sequence, body);
        } else if let Some(in_force) = self.policy() {
            let account = self.house_account(&in_force.policy.tenant);
            let sequence = self.change_house(|house| {
                house.sequence = house.sequence.saturating_add(1);
                house.sequence
            });
            self.push(account, sequence, body);
        } else {
            self.drop_input("no-account");
        }
    }

    /// Writes an event on the house's account of this shard.
    pub(crate) fn tell_house(&mut self, body: EventBody) {
        match self.policy() {
            Some(in_force) => {
                let house = self.house_account(&in_force.policy.tenant);
                self.tell(&house, body);
            }
            None => self.drop_input("no-policy"),
        }
    }

    fn push(&mut self, account: AccountId, sequence: u64, body: EventBody) {
        self.effects.events.push(Event { account, sequence, at: self.context.at, saga: self.saga, body });
    }

    /// A human must look.
    pub(crate) fn alarm(&mut self, code: AlarmCode, subject: String) {
        self.tell_house(EventBody::Alarm { code, subject });
    }

    /// Legs of `account` in this shard.
    pub(crate) fn legs(&self, account: &AccountId) -> Legs {
        Legs::new(*account, self.context.partition)
    }

    /// Makes an entry and tells it on `account`; an entry of nothing is not made. What the account owes is collected from whatever
    /// has become available by it.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing was changed.
    pub(crate) fn post(
        &mut self,
        account: &AccountId,
        reason: EntryReason,
        block: Option<(ChainId, BlockRef)>,
        legs: Legs,
    ) -> Result<(), LedgerError> {
        let credited = legs.made_available();
        self.enter(account, reason, block, legs)?;
        if let Some(asset) = credited {
            self.collect(account, &asset);
        }
        Ok(())
    }

    /// Whether entries of these legs, made one after the other, would all be made.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub(crate) fn fits(&self, account: &AccountId, legs: Legs) -> Result<(), LedgerError> {
        Lines::after(&legs.legs, account, self.account(account), self.house(), self.context.partition).map(drop)
    }

    /// The house stands in for what a reversal could not take back; here it is made good.
    fn collect(&mut self, account: &AccountId, asset: &AssetId) {
        let Balances { available, owed, .. } = self.balances(account, asset);
        if owed.is_zero() {
            return;
        }
        let taken = owed.min(available);
        let legs =
            self.legs(account).debit(ClientBook::Available, asset, taken).credit_house(HouseBook::Suspense, asset, taken);
        // Where the house's side cannot be written the client goes on owing.
        if self.enter(account, EntryReason::ShortageCollected, None, legs).is_ok() {
            self.owes(account, asset, owed.minus(taken).unwrap_or_default());
        }
    }

    /// Notes what the account owes from now on.
    pub(crate) fn owes(&mut self, account: &AccountId, asset: &AssetId, owed: Amount) {
        if let Some(line) = self.account_mut(account).and_then(|account| account.balances.get_mut(asset)) {
            line.owed = owed;
        }
    }

    fn enter(
        &mut self,
        account: &AccountId,
        reason: EntryReason,
        block: Option<(ChainId, BlockRef)>,
        legs: Legs,
    ) -> Result<(), LedgerError> {
        let legs = legs.legs;
        if legs.is_empty() {
            return Ok(());
        }
        balanced(&legs)?;
        let mut lines = Lines::after(&legs, account, self.account(account), self.house(), self.context.partition)?;
        if let Some(client) = self.account_mut(account) {
            lines.write_client(client);
        }
        self.change_house(|house| lines.write_house(house));
        self.tell(account, EventBody::Posted(JournalEntry { reason, block, legs }));
        Ok(())
    }

    pub(crate) fn send(&mut self, message: Mail) {
        self.effects.messages.push(Outbound { partition: None, message });
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        self.effects.reply = Some(reply);
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.reply(Reply::Refused(refusal));
    }

    /// Counts the input as of no use; the first reason stands.
    pub(crate) fn drop_input(&mut self, code: &'static str) {
        self.effects.dropped.get_or_insert(code);
    }

    /// What `account` has available of `asset`.
    pub(crate) fn available(&self, account: &AccountId, asset: &AssetId) -> Amount {
        self.balances(account, asset).available
    }
}
