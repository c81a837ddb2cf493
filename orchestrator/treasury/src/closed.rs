//! After the end: what still arrives for a payment that is over.
//!
//! How it came out never changes. A repeat of the request gets the same answer, a late signature is remembered, and when its
//! block leaves the chain below finality, a human is called and the bytes that had paid are sent until a block holds them again. If
//! they fail there, their nonce is used and nothing here can pay any more: a human is called for the payment itself. When what proved
//! a payment impossible leaves the chain, the house's no-op takes the nonce, so that later payments do not wait for it for ever.

use custos_messages::accounts::{AlarmCode, PaymentNews, Proof};
use custos_messages::treasury::{Signed, SpendFact, SpendNews, TakePayment};

use custos_domain::{Digest, IntentId};

use crate::desk::{Desk, Timer};
use crate::lifecycle::Event;
use crate::state::{Closed, ClosedPurpose, End, Entity, Key};

/// What a repeat of the request is answered with; nothing if it is another request under the same name.
pub(crate) fn repeated(closed: &Closed, take: &TakePayment) -> Option<PaymentNews> {
    match &closed.purpose {
        ClosedPurpose::Client { paid, request } if paid.saga == take.saga && *request == take.intent.digest() => {
            Some(outcome(&closed.ended.end))
        }
        ClosedPurpose::Client { .. } | ClosedPurpose::NoOp { .. } => None,
    }
}

/// An end, as accounts hears it.
pub(crate) fn outcome(end: &End) -> PaymentNews {
    match end {
        End::Final(inclusion) => PaymentNews::Final(inclusion.clone()),
        End::Impossible(consumed_by) => PaymentNews::Impossible(Proof { consumed_by: consumed_by.clone() }),
        End::Refused(reason) => PaymentNews::Refused(*reason),
    }
}

impl Desk<'_, '_> {
    /// The table of what comes after the end.
    pub(crate) fn after_end(&mut self, closed: Closed, event: Event) {
        match (&closed.ended.end, event) {
            (End::Final(_), Event::Spend(fact)) => self.spent_after_final(&closed, &fact),
            (End::Impossible(_), Event::Spend(fact)) => self.spent_after_impossible(&closed, &fact),
            // The house pays for whatever consumed the nonce that this payment was not signed for.
            (End::Refused(_), Event::Spend(fact)) if self.frees(&closed, &fact) => {
                self.alarm(AlarmCode::DeepReorg, fact.tx.to_string());
                self.fill_again(&closed, fact.nonce);
            }
            (End::Final(at) | End::Impossible(at), Event::Due) if closed.bytes().is_some() => {
                let nonce = at.nonce;
                self.send_until_mined(&closed, nonce);
            }
            (End::Final(paid) | End::Impossible(paid), Event::Signed(signed)) => {
                let nonce = paid.nonce;
                self.signed_after_end(closed, nonce, &signed);
            }
            (_, Event::SignRefused(refused)) if closed.ended.unanswered.is_some_and(|order| order.id == refused.command) => {
                self.answered(closed);
            }
            // The guard lets no signer sign what was refused.
            (End::Refused(_), Event::Signed(_)) => self.alarm(AlarmCode::SagaParked, closed.intent.to_string()),
            (End::Refused(_), Event::Spend(_))
            | (_, Event::Quoted(..) | Event::Sent(_) | Event::SignRefused(_) | Event::Due) => self.drop("stale-reply"),
        }
    }

    /// Whether the fact takes away what the chain was last said to hold at the nonce. A repeat of an older one takes nothing away.
    fn frees(&self, closed: &Closed, fact: &SpendFact) -> bool {
        let held = self.books_of(closed.wallet, fact.nonce, Some(closed.intent));
        fact.news == SpendNews::Unseen && held.holds(fact)
    }

    /// A reorganisation below finality. What is final stays final for the client; the bytes go to the node until it is true again. If
    /// they have failed for good, only a human can pay.
    fn spent_after_final(&mut self, closed: &Closed, fact: &SpendFact) {
        let ours = closed.ended.signatures.contains(&fact.tx);
        let client = matches!(closed.purpose, ClosedPurpose::Client { .. });
        match fact.news {
            SpendNews::Unseen if self.frees(closed, fact) => {
                self.alarm(AlarmCode::DeepReorg, fact.tx.to_string());
                self.send_closed(closed);
            }
            SpendNews::Seen if !ours => self.alarm(AlarmCode::ForeignSpend, fact.tx.to_string()),
            SpendNews::Seen => self.disarm(Timer::Payment(closed.wallet, closed.intent)),
            SpendNews::Final if ours && client && !fact.succeeded => {
                self.alarm(AlarmCode::DeepReorg, closed.intent.to_string());
            }
            SpendNews::Unseen | SpendNews::Final => self.drop("after-final"),
        }
    }

    /// What consumed the nonce was reorganised away: a human is called, and the house's no-op takes the nonce, for the client has the
    /// money back and nothing of this payment may be sent. A human is called again if the payment is mined after all.
    fn spent_after_impossible(&mut self, closed: &Closed, fact: &SpendFact) {
        let ours = closed.ended.signatures.contains(&fact.tx);
        let client = matches!(closed.purpose, ClosedPurpose::Client { .. });
        match fact.news {
            SpendNews::Seen if ours && client && fact.succeeded => {
                self.alarm(AlarmCode::DeepReorg, closed.intent.to_string());
            }
            SpendNews::Seen if !ours => self.alarm(AlarmCode::ForeignSpend, fact.tx.to_string()),
            SpendNews::Unseen if self.frees(closed, fact) => {
                self.alarm(AlarmCode::DeepReorg, closed.intent.to_string());
                self.fill_again(closed, fact.nonce);
            }
            SpendNews::Seen | SpendNews::Unseen | SpendNews::Final => self.drop("after-final"),
        }
    }

    /// A nonce is free again that nothing of a client's is to be sent at: unless it is consumed, every later nonce waits for ever.
    fn fill_again(&mut self, closed: &Closed, nonce: u64) {
        let filler = Key::Payment(closed.wallet, IntentId::noop(&closed.wallet, nonce));
        match self.state.get(&filler) {
            Some(Entity::Closed(over)) if over.bytes().is_some() => {
                let over = (**over).clone();
                self.send_closed(&over);
            }
            // It is under way.
            Some(Entity::Payment(_)) => {}
            // There is none, or it ended before it had a signature: nothing of it can be mined, so it begins anew.
            _ => self.fill(closed.wallet, &closed.chain, nonce),
        }
    }

    fn send_until_mined(&mut self, closed: &Closed, nonce: u64) {
        match self.consumed_now(closed, nonce) {
            Some(_) => self.drop("in-a-block"),
            None => self.send_closed(closed),
        }
    }

    /// Gives the bytes of an ended payment to the node, and again later.
    fn send_closed(&mut self, closed: &Closed) {
        // A payment that a stranger's transaction is said to have made has no bytes here.
        let Some(bytes) = closed.bytes() else { return };
        self.send(closed.wallet, closed.intent, &closed.chain, bytes);
        self.resend_later(closed.wallet, closed.intent, &closed.chain, self.at);
    }

    /// A replacement's signature that came after the end: it can be mined too, should the chain change its mind.
    fn signed_after_end(&mut self, mut closed: Closed, nonce: u64, signed: &Signed) {
        let Some(order) = closed.ended.unanswered.filter(|order| order.id == signed.command) else {
            return self.drop("stale-reply");
        };
        if signed.nonce != nonce || signed.digest != Digest::of(&signed.raw) {
            return self.alarm(AlarmCode::SagaParked, closed.intent.to_string());
        }
        if let ClosedPurpose::Client { paid, .. } = &closed.purpose {
            let (tx, digest) = (signed.tx, signed.digest);
            self.tell(paid.saga, PaymentNews::Signed { tx, nonce, digest, attempt: order.attempt });
        }
        closed.ended.signatures.push(signed.tx);
        self.answered(closed);
    }

    fn answered(&mut self, mut closed: Closed) {
        closed.ended.unanswered = None;
        self.state.put(Key::Payment(closed.wallet, closed.intent), Entity::Closed(Box::new(closed)));
    }
}
