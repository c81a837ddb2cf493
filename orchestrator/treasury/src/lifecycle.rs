//! The life of an outgoing transaction, as one table of (stage, event).
//!
//! ```text
//! quoting ─▶ signing ─▶ sent ⇄ seen ─▶ final
//!    │          │         │      └────▶ impossible   (mined and reverted)
//!    │          │         └───────────▶ impossible   (its nonce consumed by a stranger, at finality)
//!    ▼          ▼
//! refused    refused, or parked
//! ```
//! Final, impossible and refused are absorbing; what may still happen after them stands in `closed`. A replacement happens inside *sent*: another signature at the same nonce, which
//! never takes away that any of the earlier ones may be the one that is mined.

use custos_domain::{CommandId, WalletId};
use custos_messages::accounts::{AlarmCode, Inclusion, PaymentNews, PaymentRefusal, Proof};
use custos_messages::treasury::{FeeQuote, Sent, SignRefused, Signed, SpendFact, SpendNews, TakePayment};

use crate::closed;
use crate::desk::{Desk, Timer};
use crate::state::{Bump, Closed, End, Ended, Entity, Flight, Key, Payment, Purpose, Quoting, Stage};

/// What can happen to a payment.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The chain adapter answered the question.
    Quoted(CommandId, FeeQuote),
    /// The signer signed.
    Signed(Signed),
    /// The signer refused.
    SignRefused(SignRefused),
    /// The node answered.
    Sent(Sent),
    /// A transaction at the payment's nonce is in or out of the canonical chain.
    Spend(SpendFact),
    /// The payment's timer.
    Due,
}

impl Desk<'_, '_> {
    /// Takes a payment over; idempotent by intent, and repeats are answered with the latest news.
    pub(crate) fn take(&mut self, take: TakePayment) {
        let chain = take.intent.chain.clone();
        if take.wallet != WalletId::omnibus(&self.policy().tenant, &chain) {
            return self.drop("unknown-wallet");
        }
        if take.intent.policy_version > self.policy().version {
            // Accounts has the next policy already; it asks again until this shard has it, too.
            return self.drop("policy-behind");
        }
        let key = Key::Payment(take.wallet, take.intent.id);
        let again = match self.state.get(&key) {
            Some(Entity::Payment(known)) => Some(repeated(known, &take)),
            Some(Entity::Closed(known)) => Some(closed::repeated(known, &take)),
            _ => None,
        };
        match again {
            Some(Some(news)) => return self.tell(take.saga, news),
            Some(None) => return self.drop("intent-contradicts"),
            None => {}
        }
        let fee_wait = self.chain_policy(&chain).map(|entry| entry.fee_wait).unwrap_or_default();
        let mut payment = Payment {
            wallet: take.wallet,
            deadline: self.at.after(fee_wait),
            chain,
            consumed: None,
            outlay: None,
            stage: Stage::Parked,
            purpose: Purpose::Client(Box::new(take)),
        };
        self.news(&payment, PaymentNews::Taken);
        payment.stage = if self.sound(&payment) {
            self.open(payment.wallet, &payment.chain);
            self.ask(&payment, 1)
        } else {
            // What the signer would refuse by its own rules is refused here, where nothing was signed yet: a chain that the policy no
            // longer has, too.
            self.refuse(&payment, PaymentRefusal::SignerRefused)
        };
        self.keep(payment);
    }

    /// The table.
    pub(crate) fn step(&mut self, payment: &mut Payment, event: Event) {
        let stage = std::mem::replace(&mut payment.stage, Stage::Parked);
        payment.stage = match (stage, event) {
            (Stage::Quoting(asked), Event::Quoted(question, quote)) => self.quoted(payment, asked, question, &quote),
            (Stage::Quoting(asked), Event::Due) => self.ask_again(payment, asked),
            (Stage::Quoting(asked), Event::Spend(fact)) => self.spent_while_quoting(payment, asked, &fact),

            (Stage::Signing(order), Event::Signed(signed)) => self.first_signed(payment, order, signed),
            (Stage::Signing(order), Event::SignRefused(refused)) => self.first_refused(payment, order, &refused),
            (Stage::Signing(order), Event::Due) => self.unsigned(payment, order),
            (Stage::Signing(order), Event::Spend(fact)) => {
                self.stranger(payment, &fact);
                Stage::Signing(order)
            }

            (Stage::Sent(flight), Event::Quoted(question, quote)) => {
                Stage::Sent(self.bump_quoted(payment, flight, question, &quote))
            }
            (Stage::Sent(flight), Event::Signed(signed)) => self.replaced(payment, flight, signed),
            (Stage::Sent(flight), Event::SignRefused(refused)) => self.replacement_refused(payment, flight, &refused),
            (Stage::Sent(flight), Event::Sent(sent)) => Stage::Sent(self.node_said(payment, flight, &sent)),
            (Stage::Sent(flight), Event::Due) => Stage::Sent(self.send_again(payment, flight)),
            (Stage::Sent(flight), Event::Spend(fact)) => self.spent_while_sent(payment, flight, &fact),

            (Stage::Seen(flight, seen), Event::Spend(fact)) => self.spent_while_seen(payment, flight, seen, &fact),
            (Stage::Seen(flight, seen), Event::Signed(signed)) => {
                Stage::Seen(self.signed_late(payment, flight, signed), seen)
            }
            (Stage::Seen(flight, seen), event) => Stage::Seen(self.bump_over(flight, &event), seen),

            (Stage::Parked, Event::Spend(fact)) => self.spent_while_parked(payment, &fact),

            // Nothing was ordered yet, so nobody can have answered or sent.
            (stage @ Stage::Quoting(_), Event::Signed(_) | Event::SignRefused(_) | Event::Sent(_))
            // The first signature is ordered: the question is closed, and there are no bytes to send.
            | (stage @ Stage::Signing(_), Event::Quoted(..) | Event::Sent(_))
            // A human decides: late answers, late timers.
            | (
                stage @ Stage::Parked,
                Event::Quoted(..) | Event::Signed(_) | Event::SignRefused(_) | Event::Sent(_) | Event::Due,
            )
            // Never stored: an end has a record of its own.
            | (stage @ Stage::Ended(_), _) => {
                self.drop("stale-reply");
                stage
            }
        };
    }

    /// Ends a payment before any signature; the answer is remembered for ever.
    pub(crate) fn refuse(&mut self, payment: &Payment, reason: PaymentRefusal) -> Stage {
        self.disarm(Timer::Payment(payment.wallet, payment.intent()));
        self.news(payment, PaymentNews::Refused(reason));
        Stage::Ended(Box::new(Ended::refused(reason)))
    }

    /// One of ours is mined at finality: paid, or, if it reverted, proof that nothing can be paid any more.
    pub(crate) fn finish(&mut self, payment: &mut Payment, flight: Flight, inclusion: Inclusion) -> Stage {
        let done = inclusion.succeeded || matches!(payment.purpose, Purpose::NoOp { .. });
        if !done {
            return self.prove(payment, &flight, inclusion);
        }
        self.news(payment, PaymentNews::Final(inclusion.clone()));
        self.close(payment, &flight, End::Final(inclusion))
    }

    /// The nonce of every signature was consumed, at finality, by something that does not pay.
    pub(crate) fn prove(&mut self, payment: &mut Payment, flight: &Flight, consumed_by: Inclusion) -> Stage {
        self.news(payment, PaymentNews::Impossible(Proof { consumed_by: consumed_by.clone() }));
        self.close(payment, flight, End::Impossible(consumed_by))
    }

    fn close(&mut self, payment: &mut Payment, flight: &Flight, end: End) -> Stage {
        self.reserve(payment, None);
        payment.consumed = None;
        self.disarm(Timer::Payment(payment.wallet, payment.intent()));
        for attempt in &flight.attempts {
            self.state.remove(&Key::Tx(payment.wallet, attempt.tx));
        }
        let mut ended = Ended::mined(end, flight);
        if let (Purpose::NoOp { .. }, End::Impossible(_), Some(newest)) =
            (&payment.purpose, &ended.end, flight.attempts.last())
        {
            ended.raw.clone_from(&newest.raw);
        }
        self.settle(&Closed::of(payment, ended.clone()), flight.nonce);
        Stage::Ended(Box::new(ended))
    }

    /// Stops, and calls a human.
    pub(crate) fn park(&mut self, payment: &mut Payment) -> Stage {
        self.reserve(payment, None);
        self.disarm(Timer::Payment(payment.wallet, payment.intent()));
        self.alarm(AlarmCode::SagaParked, payment.intent().to_string());
        Stage::Parked
    }

    /// In a block: a replacement that was only asked for is not ordered any more; one that is ordered stays so.
    fn bump_over(&mut self, mut flight: Flight, event: &Event) -> Flight {
        match (&flight.bump, event) {
            (Bump::Asked(question), Event::Quoted(answered, _)) if question == answered => flight.bump = Bump::Idle,
            (Bump::Ordered(order), Event::SignRefused(refused)) if order.id == refused.command => flight.bump = Bump::Idle,
            (_, Event::Sent(_) | Event::Due) => self.drop("in-a-block"),
            _ => self.drop("stale-reply"),
        }
        flight
    }

    fn spent_while_sent(&mut self, payment: &mut Payment, flight: Flight, fact: &SpendFact) -> Stage {
        match (flight.holds(&fact.tx), fact.news) {
            (true, SpendNews::Seen) => self.seen(payment, flight, inclusion(fact)),
            (true, SpendNews::Final) => self.finish(payment, flight, inclusion(fact)),
            (true, SpendNews::Unseen) => {
                self.drop("repeat");
                Stage::Sent(flight)
            }
            (false, _) => self.stranger_in_flight(payment, flight, fact),
        }
    }

    fn spent_while_seen(&mut self, payment: &mut Payment, flight: Flight, seen: Inclusion, fact: &SpendFact) -> Stage {
        let now = inclusion(fact);
        match (flight.holds(&fact.tx), fact.news) {
            (true, SpendNews::Seen) if now == seen => {
                self.drop("repeat");
                Stage::Seen(flight, seen)
            }
            (true, SpendNews::Seen) => self.seen(payment, flight, now),
            (true, SpendNews::Final) => self.finish(payment, flight, now),
            (true, SpendNews::Unseen) if now.tx == seen.tx && now.block == seen.block => self.unseen(payment, flight, now),
            (true, SpendNews::Unseen) => {
                self.drop("repeat");
                Stage::Seen(flight, seen)
            }
            (false, SpendNews::Final) => self.stranger_in_flight(payment, flight, fact),
            (false, _) => {
                self.drop("stranger-not-final");
                Stage::Seen(flight, seen)
            }
        }
    }

    fn seen(&mut self, payment: &mut Payment, flight: Flight, inclusion: Inclusion) -> Stage {
        self.reserve(payment, None);
        self.disarm(Timer::Payment(payment.wallet, payment.intent()));
        self.news(payment, PaymentNews::Seen(inclusion.clone()));
        Stage::Seen(flight, inclusion)
    }

    fn unseen(&mut self, payment: &mut Payment, flight: Flight, inclusion: Inclusion) -> Stage {
        self.news(payment, PaymentNews::Unseen(inclusion));
        let outlay = flight.attempts.last().and_then(|attempt| self.outlay(payment, &attempt.fees));
        self.reserve(payment, outlay);
        Stage::Sent(self.send_again(payment, flight))
    }
}

/// What a repeat of the request for `payment` is answered with; nothing if it is another request under the same name.
fn repeated(payment: &Payment, take: &TakePayment) -> Option<PaymentNews> {
    match &payment.purpose {
        Purpose::Client(held) if held.intent == take.intent && held.saga == take.saga => Some(latest(&payment.stage)),
        Purpose::Client(_) | Purpose::NoOp { .. } => None,
    }
}

fn latest(stage: &Stage) -> PaymentNews {
    match stage {
        Stage::Quoting(Quoting { .. }) | Stage::Signing(_) | Stage::Parked => PaymentNews::Taken,
        Stage::Sent(flight) => flight.attempts.last().map_or(PaymentNews::Taken, |attempt| PaymentNews::Signed {
            tx: attempt.tx,
            nonce: flight.nonce,
            digest: attempt.digest,
            attempt: u32::try_from(flight.attempts.len()).unwrap_or(u32::MAX),
        }),
        Stage::Seen(_, inclusion) => PaymentNews::Seen(inclusion.clone()),
        Stage::Ended(ended) => closed::outcome(&ended.end),
    }
}

/// A fact, as accounts reads it.
pub(crate) fn inclusion(fact: &SpendFact) -> Inclusion {
    Inclusion { tx: fact.tx, nonce: fact.nonce, block: fact.block, fee: fact.fee, succeeded: fact.succeeded }
}
