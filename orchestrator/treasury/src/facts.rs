//! Facts about nonces: whose they are, and what a transaction means that is not one of ours.
//!
//! A stranger at one of our nonces proves something only at finality, and only when every signature for the payment is known:
//! while an order to sign is unanswered, the stranger might be the very transaction that it made.

use custos_domain::{IntentId, WalletId};
use custos_messages::accounts::AlarmCode;
use custos_messages::treasury::{Sent, SpendFact, SpendNews};

use crate::desk::Desk;
use crate::lifecycle::{Event, inclusion};
use crate::state::{Bump, Closed, Ended, Entity, Flight, Key, Payment, Purpose, Quoting, Stage};

impl Desk<'_, '_> {
    /// What the node said to bytes: routed by the transaction.
    pub(crate) fn sent(&mut self, sent: Sent) {
        match self.state.get(&Key::Tx(sent.wallet, sent.tx)) {
            Some(Entity::Owner(intent)) => {
                let intent = *intent;
                self.payment(sent.wallet, intent, Event::Sent(sent));
            }
            _ => self.drop("unknown-transaction"),
        }
    }

    /// A transaction of a hot address: routed by its nonce, and then brought into the house's books unless a client's own saga
    /// books it.
    pub(crate) fn spend(&mut self, fact: SpendFact) {
        let owner = match self.state.get(&Key::Slot(fact.wallet, fact.nonce)) {
            Some(Entity::Owner(intent)) => *intent,
            _ => {
                self.spent_without_us(&fact);
                return self.follow(None, &fact);
            }
        };
        let a_sagas = match self.state.get(&Key::Payment(fact.wallet, owner)) {
            Some(Entity::Payment(held)) => matches!(held.purpose, Purpose::Client(_)) && held.holds(&fact.tx),
            _ => false,
        };
        self.spend_of(owner, &fact);
        // Its signature may have come to light only after the house had booked it as a stranger's.
        if !a_sagas || fact.news == SpendNews::Unseen {
            self.follow(Some(owner), &fact);
        }
    }

    /// Tells the payment that has the nonce; or the no-op that takes it in that payment's place, if the transaction is the no-op's. A
    /// no-op that is not over hears of everything else, too: whatever consumes the nonce does its work.
    fn spend_of(&mut self, owner: IntentId, fact: &SpendFact) {
        let filler = IntentId::noop(&fact.wallet, fact.nonce);
        let (fills, listens) = match self.state.get(&Key::Payment(fact.wallet, filler)) {
            Some(Entity::Payment(held)) => (held.holds(&fact.tx), true),
            Some(Entity::Closed(held)) => (held.ended.signatures.contains(&fact.tx), false),
            _ => (false, false),
        };
        if !fills || filler == owner {
            self.payment(fact.wallet, owner, Event::Spend(fact.clone()));
        }
        if filler != owner && (fills || listens) {
            self.payment(fact.wallet, filler, Event::Spend(fact.clone()));
        }
    }

    /// The ended payment that has a nonce.
    pub(crate) fn closed_at(&self, wallet: WalletId, nonce: u64) -> Option<&Closed> {
        let Some(Entity::Owner(intent)) = self.state.get(&Key::Slot(wallet, nonce)) else { return None };
        match self.state.get(&Key::Payment(wallet, *intent)) {
            Some(Entity::Closed(closed)) => Some(closed),
            _ => None,
        }
    }

    /// Calls a human for a transaction at a nonce of ours that no payment of ours has signed.
    fn foreign(&mut self, fact: &SpendFact) {
        let closed = self.closed_at(fact.wallet, fact.nonce);
        if !closed.is_some_and(|closed| closed.ended.signatures.contains(&fact.tx)) {
            self.alarm(AlarmCode::ForeignSpend, fact.tx.to_string());
        }
    }

    /// A nonce that no payment of ours has: somebody else holds the key, or this state is not the only one.
    fn spent_without_us(&mut self, fact: &SpendFact) {
        let stood = self.books_of(fact.wallet, fact.nonce, None).holds(fact);
        let Some(wallet) = self.wallet_mut(fact.wallet) else { return self.drop("unknown-wallet") };
        match fact.news {
            SpendNews::Seen => self.alarm(AlarmCode::ForeignSpend, fact.tx.to_string()),
            SpendNews::Unseen if stood && wallet.next_nonce.is_some_and(|next| fact.nonce < next) => {
                // Passed over before, and free again: unless it is consumed, every later nonce waits for ever.
                let filler = IntentId::noop(&fact.wallet, fact.nonce);
                self.state.put(Key::Slot(fact.wallet, fact.nonce), Entity::Owner(filler));
                self.alarm(AlarmCode::DeepReorg, fact.tx.to_string());
                self.fill(fact.wallet, &fact.chain, fact.nonce);
            }
            SpendNews::Unseen => self.drop("foreign-spend"),
            SpendNews::Final => {
                // At finality the nonce is gone; one that we had not reached is passed over.
                wallet.next_nonce = wallet.next_nonce.map(|next| next.max(fact.nonce.saturating_add(1)));
                self.drop("foreign-spend");
            }
        }
    }

    /// A stranger while the first signature is ordered.
    pub(crate) fn stranger(&mut self, payment: &mut Payment, fact: &SpendFact) {
        let now = inclusion(fact);
        match fact.news {
            SpendNews::Seen => self.drop("stranger-not-final"),
            SpendNews::Unseen if payment.consumed.as_ref().is_some_and(|held| held.tx == now.tx) => payment.consumed = None,
            SpendNews::Unseen => self.drop("stranger-not-final"),
            SpendNews::Final if payment.consumed.as_ref() == Some(&now) => self.drop("repeat"),
            SpendNews::Final => {
                payment.consumed = Some(now);
                self.foreign(fact);
            }
        }
    }

    /// A stranger while signatures are out.
    pub(crate) fn stranger_in_flight(&mut self, payment: &mut Payment, flight: Flight, fact: &SpendFact) -> Stage {
        let unanswered = matches!(flight.bump, Bump::Ordered(_));
        if unanswered || fact.news != SpendNews::Final {
            self.stranger(payment, fact);
            return Stage::Sent(flight);
        }
        self.foreign(fact);
        self.prove(payment, &flight, inclusion(fact))
    }

    /// Only a no-op has a nonce before it is signed; whatever consumes that nonce does the no-op's work.
    pub(crate) fn spent_while_quoting(&mut self, payment: &mut Payment, asked: Quoting, fact: &SpendFact) -> Stage {
        if fact.news != SpendNews::Final || !matches!(payment.purpose, Purpose::NoOp { .. }) {
            self.drop("stranger-not-final");
            return Stage::Quoting(asked);
        }
        self.foreign(fact);
        self.disarm(crate::desk::Timer::Payment(payment.wallet, payment.intent()));
        Stage::Ended(Box::new(Ended::consumed(inclusion(fact))))
    }

    pub(crate) fn spent_while_parked(&mut self, payment: &mut Payment, fact: &SpendFact) -> Stage {
        match (&payment.purpose, fact.news) {
            (Purpose::NoOp { .. }, SpendNews::Final) => Stage::Ended(Box::new(Ended::consumed(inclusion(fact)))),
            // A human decides about a parked payment; the fact is on chain for them to read.
            _ => {
                self.drop("parked");
                Stage::Parked
            }
        }
    }
}
