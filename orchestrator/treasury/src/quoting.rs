//! Before a signature: what would it cost, can the wallet pay it, and how long do we wait for that.

use custos_domain::{Amount, AssetKind, CommandId, Digest, EthAddress, Millis, Timestamp};
use custos_messages::accounts::{AlarmCode, PaymentRefusal};
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::FeeQuote;
use custos_messages::wallet::EthTransaction;

use crate::desk::{Desk, Timer};
use crate::fees;
use crate::state::{Fees, Hot, Lack, Outlay, Payment, Purpose, Quoting, Stage};

/// An unanswered question is repeated after at most so many times the pace at which answered ones are asked anew.
const PATIENCE_MOST: u64 = 16;

/// What is called, with what.
pub(crate) struct Call {
    pub(crate) from: EthAddress,
    pub(crate) kind: AssetKind,
    pub(crate) to: EthAddress,
    pub(crate) value: Amount,
    pub(crate) data: Vec<u8>,
}

impl Desk<'_, '_> {
    /// Whether the request agrees with the policy; the signer judges the same again.
    pub(crate) fn sound(&self, payment: &Payment) -> bool {
        let Purpose::Client(take) = &payment.purpose else { return true };
        let (intent, policy) = (&take.intent, self.policy());
        let (Some(entry), Some(asset)) = (policy.chains.get(&intent.chain), policy.assets.get(&intent.asset)) else {
            return false;
        };
        intent.from == entry.hot
            && intent.fee.asset == entry.native
            && intent.fee.max <= entry.fee_max
            && asset.asset.chain == intent.chain
            && asset.asset.kind == take.kind
            && (take.kind == AssetKind::Native) == (intent.asset == entry.native)
            && !intent.amount.is_zero()
            && intent.chain.eip155_number().is_some()
    }

    /// Asks the chain for the `asked`th time.
    pub(crate) fn ask(&mut self, payment: &Payment, asked: u32) -> Stage {
        let every = self.chain_policy(&payment.chain).map(|entry| entry.fee_every).unwrap_or_default();
        self.ask_within(payment, asked, every)
    }

    fn ask_within(&mut self, payment: &Payment, asked: u32, every: Millis) -> Stage {
        // A chain that has left the policy names no pace.
        let every = every.max(Millis::seconds(1));
        let question = self.question(payment, "quote", asked);
        self.arm(Timer::Payment(payment.wallet, payment.intent()), every);
        Stage::Quoting(Quoting { asked, question, open: true, lack: None, outbid: None })
    }

    /// Sends the question; the same question has the same name.
    pub(crate) fn question(&mut self, payment: &Payment, step: &str, asked: u32) -> CommandId {
        let call = self.call(payment);
        let content =
            Digest::of_parts("custos 2026 fee question", &[&call.from.0, &call.to.0, &call.value.to_be_bytes(), &call.data]);
        let id = CommandId::derive(payment.intent().as_bytes(), step, asked, &content);
        let Call { from, kind, to, value, data } = call;
        let order = BlockchainOrder::Estimate { intent: payment.intent(), from, kind, to, value, data };
        self.ask_chain(BlockchainCommand { id, wallet: payment.wallet, chain: payment.chain.clone(), order });
        id
    }

    /// The timer while quoting: give up at the deadline, repeat an unanswered question, else ask anew.
    pub(crate) fn ask_again(&mut self, payment: &mut Payment, last: Quoting) -> Stage {
        match self.too_late(payment, last.lack) {
            Some(reason) => self.refuse(payment, reason),
            None if last.open => match self.ask_within(payment, last.asked, self.patience(payment)) {
                Stage::Quoting(again) => Stage::Quoting(Quoting { lack: last.lack, outbid: last.outbid, ..again }),
                other => other,
            },
            None => match self.ask(payment, last.asked.saturating_add(1)) {
                Stage::Quoting(again) => Stage::Quoting(Quoting { lack: last.lack, outbid: last.outbid, ..again }),
                other => other,
            },
        }
    }

    /// How long an unanswered question waits for its answer before it is repeated: the longer, the older the payment is, within
    /// bounds. The log loses no question, so silence means that the adapter is away or has more to do than it can; repeating at one
    /// pace would give it ever more, and it would answer nobody in time again.
    fn patience(&self, payment: &Payment) -> Millis {
        let Some(entry) = self.chain_policy(&payment.chain) else { return Millis::default() };
        let granted = if matches!(payment.purpose, Purpose::Client(_)) { entry.fee_wait } else { Millis::default() };
        let taken = Timestamp(payment.deadline.0.saturating_sub(granted.0));
        let longest = Millis(entry.fee_every.0.saturating_mul(PATIENCE_MOST));
        let patience = Millis(self.at.since(taken).0 / 2).min(longest);
        // Not beyond the deadline, at which the payment may have to be refused.
        let left = payment.deadline.since(self.at);
        let patience = if left > Millis::default() { patience.min(left) } else { patience };
        patience.max(entry.fee_every)
    }

    /// The answer: sign, wait or refuse.
    pub(crate) fn quoted(&mut self, payment: &mut Payment, asked: Quoting, question: CommandId, quote: &FeeQuote) -> Stage {
        if !asked.open || asked.question != question {
            self.drop("stale-reply");
            return Stage::Quoting(asked);
        }
        let client = matches!(payment.purpose, Purpose::Client(_));
        if client && *quote == FeeQuote::WouldRevert {
            return self.refuse(payment, PaymentRefusal::WouldRevert);
        }
        if let Some(PaymentRefusal::Expired) = self.too_late(payment, None) {
            return self.refuse(payment, PaymentRefusal::Expired);
        }
        self.renew_limit(payment);
        let lack = match self.affordable(payment, quote, asked.outbid) {
            Ok((fees, outlay, nonce)) => {
                self.reserve(payment, Some(outlay));
                return self.order_first(payment, fees, nonce);
            }
            Err(lack) => lack,
        };
        if !client && asked.lack != Some(lack) {
            // It waits for ever, and every later nonce with it.
            let code = if lack == Lack::Fee { AlarmCode::FeeEnvelopeReached } else { AlarmCode::SagaParked };
            self.alarm(code, payment.intent().to_string());
        }
        match self.too_late(payment, Some(lack)) {
            Some(reason) => self.refuse(payment, reason),
            None => Stage::Quoting(Quoting { open: false, lack: Some(lack), ..asked }),
        }
    }

    /// What the house may spend on a no-op is the policy's in force, not that of the day on which the gap arose.
    fn renew_limit(&self, payment: &mut Payment) {
        let limit = self.chain_policy(&payment.chain).map(|entry| entry.house_fee_max);
        if let (Purpose::NoOp { fee_max, .. }, Some(limit)) = (&mut payment.purpose, limit) {
            *fee_max = limit;
        }
    }

    /// Why it is too late for a first signature, if it is. A no-op waits for ever: its nonce must be consumed.
    fn too_late(&self, payment: &Payment, lack: Option<Lack>) -> Option<PaymentRefusal> {
        let Purpose::Client(take) = &payment.purpose else { return None };
        match lack {
            _ if self.at >= take.intent.expires => Some(PaymentRefusal::Expired),
            Some(Lack::Fee) if self.at >= payment.deadline => Some(PaymentRefusal::FeeAboveEnvelope),
            Some(Lack::Funds) if self.at >= payment.deadline => Some(PaymentRefusal::WalletShort),
            _ => None,
        }
    }

    /// Fees, what they reserve, and the nonce that the wallet gives; or what lacks.
    fn affordable(
        &mut self,
        payment: &Payment,
        quote: &FeeQuote,
        outbid: Option<Fees>,
    ) -> Result<(Fees, Outlay, u64), Lack> {
        let fees = match (outbid, self.to_outbid(payment)) {
            // What it does not know may ask for another share of tip than the market does: the last offer is all that it has.
            (Some(other), _) => fees::above(&other, quote, payment.envelope())
                .or_else(|| fees::all(quote, payment.envelope()).filter(|all| fees::offers_more(all, &other))),
            (None, Some(other)) => fees::above(&other, quote, payment.envelope()),
            (None, None) => fees::first(quote, payment.envelope()),
        };
        let fees = fees.ok_or(Lack::Fee)?;
        let outlay = self.outlay(payment, &fees).ok_or(Lack::Funds)?;
        let FeeQuote::Quote { native_balance, asset_balance, next_nonce, .. } = quote else { return Err(Lack::Fee) };
        let entry = self.chain_policy(&payment.chain).ok_or(Lack::Funds)?;
        let paid = match &payment.purpose {
            Purpose::Client(take) => take.intent.asset.clone(),
            Purpose::NoOp { .. } => entry.native.clone(),
        };
        let wallet = self.wallet_mut(payment.wallet).ok_or(Lack::Funds)?;
        if !matches!(wallet.hot, Hot::Watching(_) | Hot::Watched(_)) {
            return Err(Lack::Funds);
        }
        let suffices = |balance: Amount, asset, needed: Amount| {
            let reserved = wallet.reserved.get(asset).copied().unwrap_or_default();
            reserved.plus(needed).is_ok_and(|sum| sum <= balance)
        };
        let covered = suffices(*native_balance, &entry.native, outlay.native)
            && (outlay.token.is_zero() || suffices(*asset_balance, &paid, outlay.token));
        let nonce = match payment.purpose {
            Purpose::NoOp { nonce, .. } => nonce,
            Purpose::Client(_) => wallet.next_nonce.unwrap_or(*next_nonce),
        };
        // The last number could not be followed by another.
        if covered && nonce < u64::MAX { Ok((fees, outlay, nonce)) } else { Err(Lack::Funds) }
    }

    /// The highest fees of the payment whose nonce a no-op is to take, if signatures of one exist there.
    fn to_outbid(&self, payment: &Payment) -> Option<Fees> {
        let Purpose::NoOp { nonce, .. } = payment.purpose else { return None };
        self.closed_at(payment.wallet, nonce)?.ended.highest
    }

    /// What a signature with these fees may spend.
    pub(crate) fn outlay(&self, payment: &Payment, fees: &Fees) -> Option<Outlay> {
        let highest = fees::total(fees)?;
        match &payment.purpose {
            Purpose::Client(take) if take.kind == AssetKind::Native => {
                Some(Outlay { native: highest.plus(take.intent.amount).ok()?, token: Amount::ZERO })
            }
            Purpose::Client(take) => Some(Outlay { native: highest, token: take.intent.amount }),
            Purpose::NoOp { .. } => Some(Outlay { native: highest, token: Amount::ZERO }),
        }
    }

    /// What is called on chain. It never changes for a payment, so every attempt says the same.
    pub(crate) fn call(&self, payment: &Payment) -> Call {
        match &payment.purpose {
            Purpose::Client(take) => {
                let intent = &take.intent;
                let (to, value, data) = match &take.kind {
                    AssetKind::Native => (intent.to, intent.amount, Vec::new()),
                    AssetKind::Erc20 { contract } => {
                        (*contract, Amount::ZERO, EthTransaction::erc20_transfer(&intent.to, intent.amount))
                    }
                };
                Call { from: intent.from, kind: take.kind.clone(), to, value, data }
            }
            Purpose::NoOp { hot, .. } => {
                Call { from: *hot, kind: AssetKind::Native, to: *hot, value: Amount::ZERO, data: Vec::new() }
            }
        }
    }
}
