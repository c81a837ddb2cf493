//! Signatures: ordering the first, ordering replacements, and giving bytes to the node until they are final.
//!
//! The nonce is taken in the transaction that orders the first signature. An order, once given, is repeated to the letter until
//! it is answered; bytes, once signed, are sent to the letter until they are final.

use custos_domain::{ChainId, CommandId, Digest, IntentId, Millis, Timestamp, TxHash, WalletId};
use custos_messages::accounts::{AlarmCode, PaymentNews, PaymentRefusal};
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{FeeQuote, SendOutcome, Sent, SignRefusal, SignRefused, Signed};
use custos_messages::wallet::{EthTransaction, Purpose as SignPurpose, SignOrder, WalletCommand, WalletOrder};

use crate::desk::{Desk, Timer};
use crate::fees;
use crate::state::{Attempt, Bump, Ended, Entity, Fees, Flight, Key, Lack, Order, Payment, Purpose, Quoting, Stage};

/// What is out is given again after at most so many times the policy's pace.
const RESEND_MOST: u64 = 8;
/// How long a no-op waits that the signer has refused.
const NO_OP_AGAIN: Millis = Millis::hours(1);
/// When an order stands unanswered for so long, a human is called: it may be that no signer knows the wallet.
const OVERDUE: Millis = Millis::hours(1);

impl Desk<'_, '_> {
    /// Takes the nonce and orders the first signature, in one transaction.
    pub(crate) fn order_first(&mut self, payment: &Payment, fees: Fees, nonce: u64) -> Stage {
        if let (Purpose::Client(_), Some(wallet)) = (&payment.purpose, self.wallet_mut(payment.wallet)) {
            wallet.next_nonce = Some(nonce.saturating_add(1));
        }
        // A no-op fills a nonce that is its own already, or that stays another payment's.
        if matches!(payment.purpose, Purpose::Client(_)) {
            self.state.put(Key::Slot(payment.wallet, nonce), Entity::Owner(payment.intent()));
        }
        let order = Box::new(self.order(payment, nonce, 1, fees));
        self.order_again(payment, order)
    }

    /// Gives an order, the first time or again.
    pub(crate) fn order_again(&mut self, payment: &Payment, order: Box<Order>) -> Stage {
        self.give_order(payment, &order);
        self.arm_resend(payment, order.at);
        Stage::Signing(order)
    }

    /// The timer while the first signature is ordered: the same order again.
    pub(crate) fn unsigned(&mut self, payment: &Payment, mut order: Box<Order>) -> Stage {
        self.tell_overdue(payment, &mut order);
        self.order_again(payment, order)
    }

    fn tell_overdue(&mut self, payment: &Payment, order: &mut Order) {
        if !order.overdue && self.at >= order.at.after(OVERDUE) {
            order.overdue = true;
            self.alarm(AlarmCode::SagaParked, payment.intent().to_string());
        }
    }

    fn arm_resend(&mut self, payment: &Payment, since: Timestamp) {
        self.resend_later(payment.wallet, payment.intent(), &payment.chain, since);
    }

    /// Arms the timer that gives bytes or orders again: the more seldom, the longer they have been out, within bounds. The log loses
    /// none of them, so a repeat is insurance, and a participant that has fallen behind must not be given ever more.
    pub(crate) fn resend_later(&mut self, wallet: WalletId, intent: IntentId, chain: &ChainId, since: Timestamp) {
        let every = self.chain_policy(chain).map(|entry| entry.resend_every).unwrap_or_default().max(Millis::seconds(1));
        let longest = Millis(every.0.saturating_mul(RESEND_MOST));
        let pause = Millis(self.at.since(since).0 / 2).min(longest).max(every);
        self.arm(Timer::Payment(wallet, intent), pause);
    }

    fn order(&self, payment: &Payment, nonce: u64, attempt: u32, fees: Fees) -> Order {
        let policy = self.held.signed.clone();
        let tx = self.transaction(payment, nonce, &fees);
        let parts: [&[u8]; 10] = [
            &tx.chain_number.to_be_bytes(),
            &tx.nonce.to_be_bytes(),
            &tx.gas_limit.to_be_bytes(),
            &tx.max_fee_per_gas.to_be_bytes(),
            &tx.max_priority_fee_per_gas.to_be_bytes(),
            &tx.to.0,
            &tx.value.to_be_bytes(),
            &tx.data,
            &policy.bytes,
            &self.at.0.to_be_bytes(),
        ];
        let content = Digest::of_parts("custos 2026 sign order", &parts);
        let id = CommandId::derive(payment.intent().as_bytes(), "sign", attempt, &content);
        Order { id, attempt, nonce, fees, policy, at: self.at, overdue: false }
    }

    fn transaction(&self, payment: &Payment, nonce: u64, fees: &Fees) -> EthTransaction {
        let call = self.call(payment);
        EthTransaction {
            // Chains without a number are refused when the payment is taken.
            chain_number: payment.chain.eip155_number().unwrap_or_default(),
            nonce,
            gas_limit: fees.gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: call.to,
            value: call.value,
            data: call.data,
        }
    }

    fn give_order(&mut self, payment: &Payment, order: &Order) {
        let purpose = match &payment.purpose {
            Purpose::Client(take) => {
                SignPurpose::Pay { intent: take.intent.clone(), kind: take.kind.clone(), approvals: take.approvals.clone() }
            }
            Purpose::NoOp { fee_max, .. } => SignPurpose::NoOp { intent: payment.intent(), fee_max: *fee_max },
        };
        let tx = self.transaction(payment, order.nonce, &order.fees);
        let sign = SignOrder { purpose, tx, policy: order.policy.clone(), at: order.at };
        self.ask_signer(WalletCommand { id: order.id, wallet: payment.wallet, order: WalletOrder::Sign(Box::new(sign)) });
    }

    /// The first signature.
    pub(crate) fn first_signed(&mut self, payment: &mut Payment, order: Box<Order>, signed: Signed) -> Stage {
        let Some(attempt) = self.accept(payment, &order, signed) else { return Stage::Signing(order) };
        let flight =
            Flight { nonce: order.nonce, attempts: vec![attempt], bump: Bump::Idle, since: self.at, asked: 0, stuck: false };
        self.airborne(payment, flight)
    }

    /// A replacement's signature.
    pub(crate) fn replaced(&mut self, payment: &mut Payment, mut flight: Flight, signed: Signed) -> Stage {
        let Bump::Ordered(order) = &flight.bump else {
            self.drop("stale-reply");
            return Stage::Sent(flight);
        };
        let order = order.clone();
        let Some(attempt) = self.accept(payment, &order, signed) else { return Stage::Sent(flight) };
        flight.attempts.push(attempt);
        flight.bump = Bump::Idle;
        flight.since = self.at;
        self.airborne(payment, flight)
    }

    /// A replacement's signature after one of its forerunners was mined: remembered, not sent.
    pub(crate) fn signed_late(&mut self, payment: &Payment, mut flight: Flight, signed: Signed) -> Flight {
        let Bump::Ordered(order) = &flight.bump else {
            self.drop("stale-reply");
            return flight;
        };
        let order = order.clone();
        if let Some(attempt) = self.accept(payment, &order, signed) {
            flight.attempts.push(attempt);
            flight.bump = Bump::Idle;
        }
        flight
    }

    /// Checks that a signature answers its order, and tells accounts. None: it does not, and the order stands.
    fn accept(&mut self, payment: &Payment, order: &Order, signed: Signed) -> Option<Attempt> {
        if signed.command != order.id {
            self.drop("stale-reply");
            return None;
        }
        if signed.nonce != order.nonce || signed.digest != Digest::of(&signed.raw) {
            self.alarm(AlarmCode::SagaParked, payment.intent().to_string());
            return None;
        }
        self.state.put(Key::Tx(payment.wallet, signed.tx), Entity::Owner(payment.intent()));
        let Signed { tx, nonce, digest, raw, .. } = signed;
        self.news(payment, PaymentNews::Signed { tx, nonce, digest, attempt: order.attempt });
        Some(Attempt { tx, raw, digest, fees: order.fees })
    }

    /// A signature is known: send it, unless its nonce is consumed already.
    fn airborne(&mut self, payment: &mut Payment, flight: Flight) -> Stage {
        match payment.consumed.take() {
            Some(consumed) if flight.holds(&consumed.tx) => self.finish(payment, flight, consumed),
            Some(consumed) => self.prove(payment, &flight, consumed),
            None => {
                self.send_newest(payment, &flight);
                self.arm_resend(payment, flight.since);
                Stage::Sent(flight)
            }
        }
    }

    /// Gives the newest bytes to the node: the same bytes under the same name, however often.
    pub(crate) fn send_newest(&mut self, payment: &Payment, flight: &Flight) {
        let Some(newest) = flight.attempts.last() else { return };
        let (tx, raw) = (newest.tx, newest.raw.clone());
        self.send(payment.wallet, payment.intent(), &payment.chain, (tx, raw));
    }

    /// Gives signed bytes to the node under the name that they always have.
    pub(crate) fn send(&mut self, wallet: WalletId, intent: IntentId, chain: &ChainId, (tx, raw): (TxHash, Vec<u8>)) {
        let id = send_id(&intent, &Digest::of(&raw));
        self.ask_chain(BlockchainCommand { id, wallet, chain: chain.clone(), order: BlockchainOrder::Send { tx, raw } });
    }

    /// The timer while sent: the same bytes again; and, when they have been out for too long, a replacement.
    pub(crate) fn send_again(&mut self, payment: &Payment, mut flight: Flight) -> Flight {
        self.send_newest(payment, &flight);
        self.arm_resend(payment, flight.since);
        let patience = self.chain_policy(&payment.chain).map(|entry| entry.bump_after).unwrap_or_default();
        match &mut flight.bump {
            Bump::Ordered(order) => {
                self.tell_overdue(payment, order);
                self.give_order(payment, order);
            }
            Bump::Asked(_) => {
                self.question(payment, "bump", flight.asked);
            }
            Bump::Idle if !flight.stuck && self.at >= flight.since.after(patience) => self.ask_to_bump(payment, &mut flight),
            Bump::Idle => {}
        }
        flight
    }

    fn ask_to_bump(&mut self, payment: &Payment, flight: &mut Flight) {
        flight.asked = flight.asked.saturating_add(1);
        flight.bump = Bump::Asked(self.question(payment, "bump", flight.asked));
    }

    /// The fee for a replacement: order it, or stop at the envelope. Never unwind.
    pub(crate) fn bump_quoted(
        &mut self,
        payment: &mut Payment,
        mut flight: Flight,
        question: CommandId,
        quote: &FeeQuote,
    ) -> Flight {
        if flight.bump != Bump::Asked(question) {
            self.drop("stale-reply");
            return flight;
        }
        flight.bump = Bump::Idle;
        let Some(newest) = flight.attempts.last() else { return flight };
        if *quote == FeeQuote::WouldRevert {
            // It may have been mined just now, which makes a second one revert. Facts will tell.
            flight.since = self.at;
            return flight;
        }
        let raised = fees::raised(&newest.fees, quote, payment.envelope());
        let Some((fees, outlay)) = raised.and_then(|fees| Some((fees, self.outlay(payment, &fees)?))) else {
            flight.stuck = true;
            self.alarm(AlarmCode::FeeEnvelopeReached, payment.intent().to_string());
            return flight;
        };
        self.reserve(payment, Some(outlay));
        let attempt = u32::try_from(flight.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let order = self.order(payment, flight.nonce, attempt, fees);
        self.give_order(payment, &order);
        flight.bump = Bump::Ordered(Box::new(order));
        flight
    }

    /// No signature for a replacement: what is out stays out.
    pub(crate) fn replacement_refused(&mut self, payment: &mut Payment, mut flight: Flight, refused: &SignRefused) -> Stage {
        match &flight.bump {
            Bump::Ordered(order) if order.id == refused.command => {}
            _ => {
                self.drop("stale-reply");
                return Stage::Sent(flight);
            }
        }
        flight.bump = Bump::Idle;
        if let Some(consumed) = payment.consumed.take() {
            return self.prove(payment, &flight, consumed);
        }
        let outlay = flight.attempts.last().and_then(|attempt| self.outlay(payment, &attempt.fees));
        self.reserve(payment, outlay);
        let code = match refused.reason {
            SignRefusal::WeakReplacement => {
                flight.since = self.at;
                return Stage::Sent(flight);
            }
            // Ordered anew later, under the policy of then.
            SignRefusal::PolicyRefused => {
                flight.since = self.at;
                self.alarm(AlarmCode::SagaParked, payment.intent().to_string());
                return Stage::Sent(flight);
            }
            SignRefusal::OutsideEnvelope => AlarmCode::FeeEnvelopeReached,
            _ => AlarmCode::SagaParked,
        };
        flight.stuck = true;
        self.alarm(code, payment.intent().to_string());
        Stage::Sent(flight)
    }

    /// What the node said to our bytes. Only the chain's facts end a payment, never a node's answer.
    pub(crate) fn node_said(&mut self, payment: &Payment, mut flight: Flight, sent: &Sent) -> Flight {
        let intent = payment.intent();
        if !flight.attempts.iter().any(|attempt| send_id(&intent, &attempt.digest) == sent.command) {
            self.drop("stale-reply");
            return flight;
        }
        let newest = flight.attempts.last().is_some_and(|attempt| attempt.tx == sent.tx);
        match sent.outcome {
            // In the pool, or spent by one of ours (look for our hashes), or to be tried again by the timer.
            SendOutcome::InPool | SendOutcome::NonceSpent | SendOutcome::InsufficientFunds | SendOutcome::Retry => {}
            SendOutcome::Underpriced | SendOutcome::FeeTooLow if newest && flight.bump == Bump::Idle && !flight.stuck => {
                self.ask_to_bump(payment, &mut flight);
            }
            SendOutcome::Invalid if newest && !flight.stuck => {
                flight.stuck = true;
                self.alarm(AlarmCode::SagaParked, intent.to_string());
            }
            SendOutcome::Underpriced | SendOutcome::FeeTooLow | SendOutcome::Invalid => self.drop("known-already"),
        }
        flight
    }

    /// No first signature exists, and none will: the payment ends, and its nonce must not stay a gap.
    pub(crate) fn first_refused(&mut self, payment: &mut Payment, order: Box<Order>, refused: &SignRefused) -> Stage {
        if refused.command != order.id {
            self.drop("stale-reply");
            return Stage::Signing(order);
        }
        let consumed = payment.consumed.take();
        if consumed.is_none() && refused.reason == SignRefusal::PolicyRefused {
            // The signer has seen the next policy before treasury had it: the same payment under that one, once it is here.
            if order.policy != self.held.signed {
                let under_it = self.order(payment, order.nonce, order.attempt, order.fees);
                return self.order_again(payment, Box::new(under_it));
            }
            let patience = self.chain_policy(&payment.chain).map(|entry| entry.fee_wait).unwrap_or_default();
            if self.at < order.at.after(patience) {
                return Stage::Signing(order);
            }
        }
        if matches!(payment.purpose, Purpose::NoOp { .. }) {
            return match consumed {
                Some(consumed) => {
                    self.reserve(payment, None);
                    self.disarm(Timer::Payment(payment.wallet, payment.intent()));
                    Stage::Ended(Box::new(Ended::consumed(consumed)))
                }
                None => self.no_op_refused(payment, &order, refused.reason),
            };
        }
        if consumed.is_none() {
            self.give_back(payment, order.nonce, refused.reason);
        }
        let reason = match refused.reason {
            // Both say that the guard has a signature of this payment.
            SignRefusal::IntentTaken | SignRefusal::WeakReplacement => return self.park(payment),
            SignRefusal::Expired => PaymentRefusal::Expired,
            _ => PaymentRefusal::SignerRefused,
        };
        self.reserve(payment, None);
        self.refuse(payment, reason)
    }

    /// The signer's limits for the house change with the day and with the policy, so a no-op is ordered again in a while, under the fee of
    /// then; a human is called each time. What contradicts the guard's records stays so.
    fn no_op_refused(&mut self, payment: &mut Payment, order: &Order, reason: SignRefusal) -> Stage {
        use SignRefusal::{HouseRefused, OutsideEnvelope, PolicyRefused, WeakReplacement};
        if !matches!(reason, HouseRefused | OutsideEnvelope | PolicyRefused | WeakReplacement) {
            return self.park(payment);
        }
        self.reserve(payment, None);
        if reason == WeakReplacement
            && let Stage::Quoting(again) = self.ask(payment, order.attempt.saturating_add(1))
        {
            // Something that treasury does not know has the nonce at a higher fee: a tenth more, as far as the house may spend it.
            return Stage::Quoting(Quoting { outbid: Some(order.fees), ..again });
        }
        self.alarm(AlarmCode::SagaParked, payment.intent().to_string());
        self.arm(Timer::Payment(payment.wallet, payment.intent()), NO_OP_AGAIN);
        Stage::Quoting(Quoting {
            asked: order.attempt,
            question: order.id,
            open: false,
            lack: Some(Lack::Fee),
            outbid: None,
        })
    }

    /// A nonce without a signature: the next payment's, if it is the last that was given and free; else a no-op fills it.
    fn give_back(&mut self, payment: &Payment, nonce: u64, reason: SignRefusal) {
        let slot = Key::Slot(payment.wallet, nonce);
        // The guard holds a signature at this nonce that treasury does not know: no other payment can have it.
        let taken = reason == SignRefusal::NonceTaken;
        if taken {
            self.alarm(AlarmCode::ForeignSpend, format!("{}/{nonce}", payment.wallet));
        }
        let Some(wallet) = self.wallet_mut(payment.wallet) else { return };
        if !taken && wallet.next_nonce == nonce.checked_add(1) {
            wallet.next_nonce = Some(nonce);
            self.state.remove(&slot);
            return;
        }
        self.state.put(slot, Entity::Owner(IntentId::noop(&payment.wallet, nonce)));
        self.fill(payment.wallet, &payment.chain, nonce);
    }

    /// Lets the house's no-op take a nonce that must be consumed before any later one.
    pub(crate) fn fill(&mut self, wallet: WalletId, chain: &ChainId, nonce: u64) {
        let Some(entry) = self.chain_policy(chain) else { return };
        let mut filler = Payment {
            wallet,
            chain: chain.clone(),
            purpose: Purpose::NoOp { nonce, fee_max: entry.house_fee_max, hot: entry.hot },
            deadline: self.at,
            consumed: None,
            outlay: None,
            stage: Stage::Parked,
        };
        filler.stage = self.ask(&filler, 1);
        self.state.put(Key::Payment(wallet, filler.intent()), Entity::Payment(Box::new(filler)));
    }
}

fn send_id(intent: &IntentId, digest: &Digest) -> CommandId {
    CommandId::derive(intent.as_bytes(), "send", 1, digest)
}
