//! What a nonce costs the house: gas of no-ops and of whatever pays nobody, and what changes when the chain changes its mind about a
//! payment that is settled.
//!
//! Invariant: what the sagas' entries say of a nonce and what is told here add up to what the canonical chain says of it, after
//! every fact. Accounts is told everything about the nonce each time, under a version that rises, and only when it changed.

use custos_domain::{ChainId, IntentId, TxHash, WalletId};
use custos_messages::accounts::{AccountsInput, HouseSpent, Inclusion, PaidFor};
use custos_messages::treasury::{SpendFact, SpendNews};

use crate::desk::Desk;
use crate::lifecycle::inclusion;
use crate::state::{Closed, ClosedPurpose, Entity, Key, Payment, Purpose, Spent};

impl Desk<'_, '_> {
    /// Brings the books of a nonce to what the chain says now.
    pub(crate) fn follow(&mut self, owner: Option<IntentId>, fact: &SpendFact) {
        let before = self.books_of(fact.wallet, fact.nonce, owner);
        let now = match fact.news {
            SpendNews::Seen | SpendNews::Final => {
                let succeeded = fact.succeeded && self.pays(fact.wallet, owner, &fact.tx);
                Some(Inclusion { succeeded, ..inclusion(fact) })
            }
            SpendNews::Unseen if before.holds(fact) => None,
            SpendNews::Unseen => return,
        };
        let after = Spent { now, ..before.clone() };
        self.say(owner, (fact.wallet, &fact.chain, fact.nonce), before, after);
    }

    /// A client's payment has ended, and its saga books how: the house takes out of its books what it had put there.
    pub(crate) fn settle(&mut self, closed: &Closed, nonce: u64) {
        let Some(Entity::Spent(before)) = self.state.get(&Key::Spent(closed.wallet, nonce)) else { return };
        let before = (**before).clone();
        let Some(settled) = closed.settled() else { return };
        let after = Spent { settled: Some(settled.clone()), now: Some(settled), ..before.clone() };
        self.say(Some(closed.intent), (closed.wallet, &closed.chain, nonce), before, after);
    }

    /// What the chain says now of the nonce of a payment that has ended, if anything holds it.
    pub(crate) fn consumed_now(&self, closed: &Closed, nonce: u64) -> Option<Inclusion> {
        self.books_of(closed.wallet, nonce, Some(closed.intent)).now
    }

    /// What was said last; at first, what an ended payment's saga has said by itself.
    pub(crate) fn books_of(&self, wallet: WalletId, nonce: u64, owner: Option<IntentId>) -> Spent {
        if let Some(Entity::Spent(spent)) = self.state.get(&Key::Spent(wallet, nonce)) {
            return (**spent).clone();
        }
        match owner.and_then(|intent| self.state.get(&Key::Payment(wallet, intent))) {
            Some(Entity::Closed(closed)) => Spent { version: 0, settled: closed.settled(), now: closed.settled() },
            _ => Spent::default(),
        }
    }

    /// Whether `tx` is a signature of the client's payment that has the nonce.
    fn pays(&self, wallet: WalletId, owner: Option<IntentId>, tx: &TxHash) -> bool {
        match owner.and_then(|intent| self.state.get(&Key::Payment(wallet, intent))) {
            Some(Entity::Payment(held)) => matches!(held.purpose, Purpose::Client(_)) && held.holds(tx),
            Some(Entity::Closed(held)) => {
                matches!(held.purpose, ClosedPurpose::Client { .. }) && held.ended.signatures.contains(tx)
            }
            _ => false,
        }
    }

    fn say(&mut self, owner: Option<IntentId>, at: (WalletId, &ChainId, u64), before: Spent, after: Spent) {
        if before == after {
            return;
        }
        let (wallet, chain, nonce) = at;
        let Some(entry) = self.chain_policy(chain) else { return self.drop("unknown-chain") };
        let after = Spent { version: before.version.saturating_add(1), ..after };
        let said = HouseSpent {
            wallet,
            chain: chain.clone(),
            nonce,
            version: after.version,
            gas_asset: entry.native,
            payment: owner.and_then(|intent| self.paid_for(wallet, intent)),
            settled: after.settled.clone(),
            now: after.now.clone(),
        };
        self.state.put(Key::Spent(wallet, nonce), Entity::Spent(Box::new(after)));
        self.effects.dropped = None;
        self.post(None, AccountsInput::HouseSpent(said));
    }

    fn paid_for(&self, wallet: WalletId, intent: IntentId) -> Option<PaidFor> {
        match self.state.get(&Key::Payment(wallet, intent))? {
            Entity::Payment(payment) => payment.paid_for(),
            Entity::Closed(closed) => match &closed.purpose {
                ClosedPurpose::Client { paid, .. } => Some(paid.clone()),
                ClosedPurpose::NoOp { .. } => None,
            },
            _ => None,
        }
    }
}

impl Spent {
    /// Whether the chain was last said to hold just this at the nonce.
    pub(crate) fn holds(&self, fact: &SpendFact) -> bool {
        self.now.as_ref().is_some_and(|held| held.tx == fact.tx && held.block == fact.block)
    }
}

impl Payment {
    /// The withdrawal and what it pays; none for a no-op.
    pub(crate) fn paid_for(&self) -> Option<PaidFor> {
        match &self.purpose {
            Purpose::Client(take) => {
                let intent = &take.intent;
                Some(PaidFor { saga: take.saga, asset: intent.asset.clone(), amount: intent.amount })
            }
            Purpose::NoOp { .. } => None,
        }
    }
}
