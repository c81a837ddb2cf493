//! After the end: what still arrives for a payment that is over.
//!
//! How it came out never changes. A repeat of the request gets the same answer, a late signature is remembered, and when its
//! block leaves the chain below finality, a human is called and the bytes that had paid are sent until a block holds them again.

use custos_messages::accounts::{AlarmCode, Inclusion, PaymentNews, Proof};
use custos_messages::treasury::{Signed, SpendFact, SpendNews, TakePayment};

use custos_domain::Digest;

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
            (End::Final(paid), Event::Spend(fact)) => {
                let paid = paid.clone();
                self.spent_after_final(&closed, &paid, &fact);
            }
            (End::Impossible(proof), Event::Spend(fact)) => {
                let proof = proof.clone();
                self.spent_after_impossible(&closed, &proof, &fact);
            }
            // The house pays for whatever consumed the nonce that this payment was not signed for.
            (End::Refused(_), Event::Spend(fact)) if fact.news == SpendNews::Unseen => {
                self.alarm(AlarmCode::DeepReorg, fact.tx.to_string());
            }
            (End::Final(paid), Event::Due) => {
                let paid = paid.clone();
                self.send_until_mined(&closed, &paid);
            }
            (End::Final(paid) | End::Impossible(paid), Event::Signed(signed)) => {
                let nonce = paid.nonce;
                self.signed_after_end(closed, nonce, &signed);
            }
            (_, Event::SignRefused(refused)) if closed.ended.unanswered.is_some_and(|order| order.id == refused.command) => {
                self.answered(closed);
            }
            (End::Refused(_), Event::Spend(_) | Event::Signed(_))
            | (End::Impossible(_) | End::Refused(_), Event::Due)
            | (_, Event::Quoted(..) | Event::Sent(_) | Event::SignRefused(_)) => self.drop("stale-reply"),
        }
    }

    /// A reorganisation below finality. What is final stays final for the client; the bytes go to the node until it is true again.
    fn spent_after_final(&mut self, closed: &Closed, paid: &Inclusion, fact: &SpendFact) {
        let ours = closed.ended.signatures.contains(&fact.tx);
        match fact.news {
            SpendNews::Unseen if ours => {
                self.alarm(AlarmCode::DeepReorg, fact.tx.to_string());
                self.send_paid(closed, paid);
            }
            SpendNews::Seen if !ours => self.alarm(AlarmCode::ForeignSpend, fact.tx.to_string()),
            SpendNews::Seen => self.disarm(Timer::Payment(closed.wallet, closed.intent)),
            SpendNews::Unseen | SpendNews::Final => self.drop("after-final"),
        }
    }

    /// The proof itself was reorganised away: nothing is sent, a human is called; and again if the payment is mined after all.
    fn spent_after_impossible(&mut self, closed: &Closed, proof: &Inclusion, fact: &SpendFact) {
        let paid_after_all = fact.news == SpendNews::Seen
            && fact.succeeded
            && matches!(closed.purpose, ClosedPurpose::Client { .. })
            && closed.ended.signatures.contains(&fact.tx);
        if paid_after_all || (fact.news == SpendNews::Unseen && fact.tx == proof.tx) {
            self.alarm(AlarmCode::DeepReorg, closed.intent.to_string());
        } else {
            self.drop("after-final");
        }
    }

    fn send_until_mined(&mut self, closed: &Closed, paid: &Inclusion) {
        match self.consumed_now(closed, paid.nonce) {
            Some(_) => self.drop("in-a-block"),
            None => self.send_paid(closed, paid),
        }
    }

    fn send_paid(&mut self, closed: &Closed, paid: &Inclusion) {
        // A payment that a stranger's transaction is said to have made has no bytes here.
        if closed.ended.raw.is_empty() {
            return;
        }
        self.send(closed.wallet, closed.intent, &closed.chain, (paid.tx, closed.ended.raw.clone()));
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
