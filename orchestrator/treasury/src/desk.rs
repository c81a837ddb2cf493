//! One input on treasury's desk: whom it concerns, and how effects are put into words.

use std::sync::Arc;

use custos_domain::{ChainId, IntentId, Millis, SagaId, Timestamp, WalletId};
use custos_messages::Mail;
use custos_messages::accounts::{AccountsInput, Alarm, AlarmCode, BlockMark, MarkPath, PaymentFact, PaymentNews};
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{ChainMark, TreasuryInput};
use custos_messages::wallet::{WalletCommand, WalletOrder};
use custos_policy::{ChainPolicy, Policy};
use custos_saga::machine::{Cause, Command, Context, Effects, Ordered, Outbound, TimerChange, TimerId, View};

use crate::lifecycle::Event;
use crate::state::{Closed, Entity, InForce, Key, Payment, Purpose, Stage, Wallet};

/// The state, the rules, the time, and what is to be done.
pub(crate) struct Desk<'v, 'a> {
    pub(crate) state: &'v mut View<'a, Key, Entity>,
    pub(crate) held: Arc<InForce>,
    pub(crate) at: Timestamp,
    pub(crate) context: Context,
    pub(crate) effects: Effects,
}

/// What a timer is about. Its bytes: one for the kind, then the wallet, then the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    Hot(WalletId),
    Address(WalletId, u32),
    Payment(WalletId, IntentId),
}

/// Applies one input.
pub(crate) fn apply(state: &mut View<'_, Key, Entity>, input: Cause<TreasuryInput>, context: &Context) -> Effects {
    let held = match state.get(&Key::Policy) {
        Some(Entity::Policy(held)) => Some(Arc::clone(held)),
        _ => None,
    };
    if let Cause::Message { message: TreasuryInput::Policy(signed), .. } = input {
        return crate::wallets::adopt(state, held.as_deref(), signed, context);
    }
    let Some(held) = held else { return Effects { dropped: Some("no-policy"), ..Effects::default() } };
    let mut desk = Desk { state, held, at: context.at, context: *context, effects: Effects::default() };
    match input {
        Cause::Message { message, .. } => desk.hear(message),
        Cause::Timer(timer) => desk.due(&timer),
    }
    desk.effects
}

impl Desk<'_, '_> {
    fn hear(&mut self, message: TreasuryInput) {
        match message {
            TreasuryInput::AllocateAddress(request) => self.allocate(&request),
            TreasuryInput::TakePayment(take) => self.take(*take),
            TreasuryInput::AddressDerived(derived) => self.derived(derived),
            TreasuryInput::Watching(watching) => self.watching(&watching),
            TreasuryInput::Estimated(answer) => {
                self.payment(answer.wallet, answer.intent, Event::Quoted(answer.command, answer.quote));
            }
            TreasuryInput::Signed(signed) => self.payment(signed.wallet, signed.intent, Event::Signed(signed)),
            TreasuryInput::SignRefused(refused) => {
                self.payment(refused.wallet, refused.intent, Event::SignRefused(refused));
            }
            TreasuryInput::Sent(sent) => self.sent(sent),
            TreasuryInput::Spend(fact) => self.spend(fact),
            TreasuryInput::BlockMark(mark) => self.pass_on(&mark),
            // Handled before a desk exists.
            TreasuryInput::Policy(_) => self.drop("old-policy"),
        }
    }

    fn due(&mut self, timer: &TimerId) {
        match Timer::read(timer) {
            Some(Timer::Hot(wallet)) => self.hot_due(wallet),
            Some(Timer::Address(wallet, index)) => self.address_due(wallet, index),
            Some(Timer::Payment(wallet, intent)) => self.payment(wallet, intent, Event::Due),
            None => self.drop("no-such-timer"),
        }
    }

    /// The mark goes on to every accounts shard: all that treasury had to say about blocks up to here, it has said.
    fn pass_on(&mut self, mark: &ChainMark) {
        if mark.wallet != WalletId::omnibus(&self.policy().tenant, &mark.chain) {
            return self.drop("unknown-wallet");
        }
        for partition in 0..self.policy().partitions {
            let mark = BlockMark { chain: mark.chain.clone(), path: MarkPath::Payments, block: mark.block, partition };
            self.post(Some(partition), AccountsInput::BlockMark(mark));
        }
    }

    /// Runs a payment's lifecycle, or what is left of it after its end.
    pub(crate) fn payment(&mut self, wallet: WalletId, intent: IntentId, event: Event) {
        match self.state.get(&Key::Payment(wallet, intent)) {
            Some(Entity::Payment(payment)) => {
                let mut payment = (**payment).clone();
                self.step(&mut payment, event);
                self.keep(payment);
            }
            Some(Entity::Closed(closed)) => {
                let closed = (**closed).clone();
                self.after_end(closed, event);
            }
            _ => self.drop("unknown-intent"),
        }
    }

    /// Stores a payment; one that has ended, in little.
    pub(crate) fn keep(&mut self, mut payment: Payment) {
        let key = Key::Payment(payment.wallet, payment.intent());
        let entity = match payment.stage {
            Stage::Ended(ended) => {
                payment.stage = Stage::Parked;
                Entity::Closed(Box::new(Closed::of(&payment, *ended)))
            }
            _ => Entity::Payment(Box::new(payment)),
        };
        self.state.put(key, entity);
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.held.policy
    }

    pub(crate) fn chain_policy(&self, chain: &ChainId) -> Option<ChainPolicy> {
        self.policy().chains.get(chain).cloned()
    }

    /// A wallet's record.
    pub(crate) fn wallet_mut(&mut self, wallet: WalletId) -> Option<&mut Wallet> {
        match self.state.get_mut(&Key::Wallet(wallet)) {
            Some(Entity::Wallet(wallet)) => Some(wallet),
            _ => None,
        }
    }

    pub(crate) fn drop(&mut self, code: &'static str) {
        self.effects.dropped = Some(code);
    }

    /// Says something to accounts: to a shard, or to the shard of the account that the message is about.
    pub(crate) fn post(&mut self, partition: Option<u32>, message: AccountsInput) {
        self.effects.messages.push(Outbound { partition, message: Mail::Accounts(message) });
    }

    /// Tells the withdrawal what became of its payment; nobody waits for a house intent.
    pub(crate) fn news(&mut self, payment: &Payment, news: PaymentNews) {
        if let Purpose::Client(take) = &payment.purpose {
            self.tell(take.saga, news);
        }
    }

    /// Tells a withdrawal what became of its payment.
    pub(crate) fn tell(&mut self, saga: SagaId, news: PaymentNews) {
        self.post(None, AccountsInput::Payment(PaymentFact { saga, news }));
    }

    /// Calls a human.
    pub(crate) fn alarm(&mut self, code: AlarmCode, subject: String) {
        let partition = Some(self.context.partition);
        self.post(partition, AccountsInput::Alarm(Alarm { code, subject }));
    }

    pub(crate) fn ask_signer(&mut self, command: WalletCommand) {
        self.effects.commands.push(Ordered { command: Command::Wallet(command), ahead: false });
    }

    /// A question may leave ahead of the commit; bytes to be sent may not.
    pub(crate) fn ask_chain(&mut self, command: BlockchainCommand) {
        let ahead = matches!(command.order, BlockchainOrder::Estimate { .. });
        self.effects.commands.push(Ordered { command: Command::Blockchain(command), ahead });
    }

    pub(crate) fn arm(&mut self, timer: Timer, after: Millis) {
        // A span of nothing would fire for ever at the same moment.
        let due = self.at.after(Millis(after.0.max(1)));
        self.effects.timers.push(TimerChange::Arm(timer.id(), due));
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.effects.timers.push(TimerChange::Disarm(timer.id()));
    }
}

impl Timer {
    fn id(self) -> TimerId {
        let name = match self {
            Self::Hot(wallet) => [&[1], wallet.as_bytes()].concat(),
            Self::Address(wallet, index) => [&[2], wallet.as_bytes(), &index.to_be_bytes()].concat(),
            Self::Payment(wallet, intent) => [&[3], wallet.as_bytes(), intent.as_bytes()].concat(),
        };
        TimerId(name.into())
    }

    fn read(timer: &TimerId) -> Option<Self> {
        let (kind, rest) = timer.0.split_first()?;
        let (wallet, rest) = rest.split_at_checked(16)?;
        let wallet = WalletId::from_slice(wallet).ok()?;
        match (kind, rest) {
            (1, []) => Some(Self::Hot(wallet)),
            (2, index) => Some(Self::Address(wallet, u32::from_be_bytes(index.try_into().ok()?))),
            (3, intent) => Some(Self::Payment(wallet, IntentId::from_slice(intent).ok()?)),
            _ => None,
        }
    }
}

/// The order that derives an address.
pub(crate) fn derive_address(chain: &ChainId, branch: u32, index: u32) -> WalletOrder {
    WalletOrder::DeriveAddress { chain: chain.clone(), branch, index }
}
