//! The bank's back office: what it asks for, how it asks again, and how it gets it wrong.
//!
//! It says what the gateway says, sealed as the gateway, and hears what the gateway hears. A request without an answer is repeated
//! with its key; keys are used again with another body; requests are doubled. Each withdrawal goes to an address of its own, so that
//! the chain alone tells which of them was paid, and how often. Deposits are sent to addresses that were handed out.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::Address;
use custos_domain::{AccountId, Amount, AssetId, Digest, EthAddress, SagaId};
use custos_messages::accounts::{AccountsInput, OpenAccount, RequestAddress, RequestTransfer, RequestWithdrawal};
use custos_messages::gateway::{GatewayReply, Outcome, Subject};
use custos_messages::{Mail, ReplyTo, Source, Topic};
use custos_testkit::{account, address, asset, chain, ether, key, tenant, tusd};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::chain::{Coin, Pays, SharedNetwork};
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::house::{House, SANCTIONED};
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;

/// The partition of `gateway.replies` that the bank's gateway reads.
const INSTANCE: u32 = 0;
/// A request without an answer after so long is repeated.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the bank looks at its desk.
const LOOK: Duration = Duration::from_millis(200);
/// The same, when it has nothing more to ask for.
const REST: Duration = Duration::from_secs(10);
/// Pause between two looks at what the hot address holds.
const FUND_AGAIN: Duration = Duration::from_secs(120);
const COINS: [&str; 2] = ["ETH", "TUSD"];
/// Once in so many a client asks for more than there is.
const DARING: u64 = 12;
/// Requests that wait for an answer at the same time.
const WAITING_MAX: usize = 64;

/// How much the bank asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Accounts.
    pub accounts: u64,
    /// Deposits, withdrawals and transfers together.
    pub operations: u64,
    /// The longest pause between two of them, in milliseconds.
    pub pause_ms: u64,
    /// A request is doubled once in so many.
    pub doubled: u64,
    /// A key is used again with another body once in so many.
    pub reused: u64,
}

/// A request that was made.
#[derive(Clone, Debug)]
struct Wish {
    input: AccountsInput,
    asked_at: Duration,
    /// A key that was used before, with another body: must not be accepted.
    reused: Option<SagaId>,
}

/// What the bank heard of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Accepted(Subject),
    Refused,
    KeyReused,
}

/// The bank.
pub struct Bank {
    house: House,
    network: SharedNetwork,
    facts: SharedFacts,
    diary: Diary,
    clock: WorldClock,
    log: Outside,
    chance: Chance,
    workload: Workload,
    opened: u64,
    made: u64,
    /// When it was last looked at what the hot address holds.
    funded: Option<Duration>,
    next_at: Duration,
    correlations: u64,
    waiting: BTreeMap<[u8; 16], Wish>,
    /// What was asked, with another body under the same key.
    bodies: Vec<(SagaId, AccountsInput)>,
    /// What was heard, by saga; an answer never changes.
    heard: BTreeMap<Vec<u8>, Heard>,
}

impl Bank {
    /// A bank with this to do.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "everything that surrounds it, once")]
    pub fn new(
        house: House,
        network: SharedNetwork,
        facts: SharedFacts,
        diary: Diary,
        clock: WorldClock,
        log: Outside,
        chance: Chance,
        workload: Workload,
    ) -> Self {
        Self {
            house,
            network,
            facts,
            diary,
            clock,
            log,
            chance,
            workload,
            opened: 0,
            made: 0,
            funded: None,
            next_at: Duration::ZERO,
            correlations: 0,
            waiting: BTreeMap::new(),
            bodies: Vec::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Whether it has asked for everything, and knows what became of each request.
    #[must_use]
    pub fn done(&self) -> bool {
        self.made >= self.workload.operations && self.waiting.is_empty()
    }

    /// From now on it asks for nothing new, only again for what has no answer.
    pub const fn rest(&mut self) {
        self.made = self.workload.operations;
    }

    fn hear(&mut self) -> bool {
        let entries = self.log.look(Topic::GatewayReplies, INSTANCE);
        let news = !entries.is_empty();
        for entry in entries {
            let opened = self.log.keyring().open_message::<GatewayReply>(Topic::GatewayReplies, &entry.record);
            let Ok((_, GatewayReply { correlation, outcome })) = opened else {
                self.diary.violation("a reply that cannot be opened".to_owned());
                continue;
            };
            if let Some(wish) = self.waiting.remove(&correlation) {
                self.answered(&wish, outcome);
            }
        }
        news
    }

    fn answered(&mut self, wish: &Wish, outcome: Outcome) {
        let heard = match outcome {
            Outcome::Accepted { subject, .. } => Heard::Accepted(subject),
            Outcome::Refused(_) => Heard::Refused,
            Outcome::KeyReused => Heard::KeyReused,
        };
        if let Some(saga) = wish.reused {
            self.diary.sometimes("a key is used again with another body");
            if heard == Heard::Accepted(Subject::Operation(saga)) {
                self.diary.violation(format!("{saga} is accepted with another body than its first"));
            }
            return;
        }
        let name = wish.input_name();
        if heard == Heard::KeyReused {
            self.diary.violation(format!("the same request is called another: {:?}", wish.input));
        }
        match self.heard.insert(name, heard.clone()) {
            Some(before) if matches!((&before, &heard), (Heard::Accepted(_), Heard::Refused)) => {
                self.diary.violation(format!("accepted, then refused: {:?}", wish.input));
            }
            _ => {}
        }
    }

    fn ask(&mut self, input: AccountsInput, reused: Option<SagaId>) {
        self.correlations = self.correlations.saturating_add(1);
        let [a, b, c, d, e, f, g, h] = self.correlations.to_be_bytes();
        let correlation = [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0];
        let said =
            self.log.say(Source::Gateway, &Mail::Accounts(input.clone()), Some(ReplyTo { instance: INSTANCE, correlation }));
        if !said {
            self.diary.sometimes("the bank does not know whether its request arrived");
        }
        self.waiting.insert(correlation, Wish { input, asked_at: self.clock.now(), reused });
    }

    /// Asks again for what has no answer, with the same key.
    fn ask_again(&mut self) -> bool {
        let now = self.clock.now();
        let late: Vec<[u8; 16]> = self
            .waiting
            .iter()
            .filter(|(_, wish)| now.saturating_sub(wish.asked_at) >= PATIENCE)
            .map(|(name, _)| *name)
            .collect();
        for correlation in &late {
            if let Some(wish) = self.waiting.remove(correlation) {
                self.diary.sometimes("the bank repeats a request with its key");
                self.ask(wish.input, wish.reused);
            }
        }
        !late.is_empty()
    }

    fn client(&mut self) -> AccountId {
        account(&format!("client-{}", self.chance.below(self.workload.accounts)))
    }

    fn open_accounts(&mut self) {
        let name = format!("client-{}", self.opened);
        self.opened = self.opened.saturating_add(1);
        let (tenant, account, key) = (tenant(), account(&name), key(&name));
        self.ask(AccountsInput::OpenAccount(OpenAccount { tenant, account, key }), None);
        let fingerprint = fingerprint(&[account.as_bytes(), chain().as_str().as_bytes()]);
        let key = custos_testkit::key("address");
        self.ask(AccountsInput::RequestAddress(RequestAddress { account, key, fingerprint, chain: chain() }), None);
    }

    /// The house puts coins and fees into its hot address, and again when a reorganisation has taken them.
    fn fund(&mut self, now: Duration) {
        if self.funded.is_some_and(|at| now < at.saturating_add(FUND_AGAIN)) {
            return;
        }
        self.funded = Some(now);
        let mut network = self.network.lock();
        let hot = Address::from(self.house.hot().0);
        if network.head().is_some_and(|head| head.state.balance(Coin::Ether, &hot) > 0) {
            return;
        }
        let treasurer = Address::from(address("treasurer").0);
        network.pay(treasurer, Pays::Ether { to: hot, wei: ether("100000").base_units() });
        network.pay(treasurer, Pays::Token { to: hot, units: tusd("100000000").base_units() });
    }

    fn one_more(&mut self) {
        self.made = self.made.saturating_add(1);
        let number = self.made;
        match self.chance.below(10) {
            0..=3 => self.deposit(),
            4..=7 => self.withdrawal(number),
            _ => self.transfer(number),
        }
    }

    fn deposit(&mut self) {
        let addresses = self.facts.lock().addresses.clone();
        let Some((_, to)) = self.chance.pick(&addresses).copied() else { return };
        let sender = if self.chance.once_in(10) { SANCTIONED.to_owned() } else { format!("payer-{}", self.chance.below(5)) };
        let from = Address::from(address(&sender).0);
        let pays = if self.chance.coin() {
            let wei = ether("1").base_units().saturating_mul(self.chance.between(1, 20).into());
            Pays::Ether { to: Address::from(to.0), wei }
        } else {
            let units = tusd("1000").base_units().saturating_mul(self.chance.between(1, 40).into());
            Pays::Token { to: Address::from(to.0), units }
        };
        let tx = self.network.lock().pay(from, pays);
        self.diary.note("bank", format_args!("{sender} sends {pays:?} by {tx}"));
    }

    /// A client with a coin, mostly one who has some of it.
    fn purse(&mut self) -> (AccountId, AssetId) {
        let (anybody, coin) = (self.client(), asset(if self.chance.coin() { "ETH" } else { "TUSD" }));
        if self.chance.once_in(DARING) {
            return (anybody, coin);
        }
        let clients = 0..self.workload.accounts;
        let all = clients.flat_map(|number| COINS.map(|code| (account(&format!("client-{number}")), asset(code))));
        let facts = self.facts.lock();
        let full: Vec<_> = all.filter(|(account, code)| facts.available(*account, code) > 0).collect();
        drop(facts);
        self.chance.pick(&full).cloned().unwrap_or((anybody, coin))
    }

    /// An amount that a client has, or has not.
    fn amount(&mut self, from: AccountId, code: &AssetId) -> Amount {
        let available = self.facts.lock().available(from, code);
        let parts = u128::from(self.chance.between(1, 8));
        let units = match self.chance.below(DARING) {
            0 => available.saturating_mul(2).saturating_add(1),
            _ => available.checked_div(parts).unwrap_or(0),
        };
        Amount::new(units.max(1))
    }

    fn withdrawal(&mut self, number: u64) {
        let (account, asset) = self.purse();
        let amount = self.amount(account, &asset);
        let to = if self.chance.once_in(20) { address(SANCTIONED) } else { address(&format!("receiver-{number}")) };
        let name = format!("w{number}");
        // A sanctioned receiver would be one address for many: it is refused, so it never is.
        let fee_max = if self.chance.once_in(30) { ether("1") } else { ether("0.05") };
        let request = |amount: Amount| {
            let parts: [&[u8]; 5] =
                [account.as_bytes(), asset.as_str().as_bytes(), &amount.to_be_bytes(), &to.0, &fee_max.to_be_bytes()];
            let (key, asset, fingerprint) = (key(&name), asset.clone(), fingerprint(&parts));
            AccountsInput::RequestWithdrawal(RequestWithdrawal { account, key, fingerprint, asset, amount, to, fee_max })
        };
        let saga = SagaId::derive(&account, "withdrawal", name.as_bytes());
        self.diary.note("bank", format_args!("asks for {saga}: {amount:?} {asset} to {to}"));
        self.ask_variously(saga, request(amount), request(Amount::new(amount.base_units().saturating_add(1))));
    }

    fn transfer(&mut self, number: u64) {
        let ((account, asset), to) = (self.purse(), self.client());
        let amount = self.amount(account, &asset);
        let name = format!("t{number}");
        let request = |amount: Amount| {
            let parts: [&[u8]; 4] = [account.as_bytes(), to.as_bytes(), asset.as_str().as_bytes(), &amount.to_be_bytes()];
            let (key, asset, fingerprint) = (key(&name), asset.clone(), fingerprint(&parts));
            AccountsInput::RequestTransfer(RequestTransfer { account, key, fingerprint, to, asset, amount })
        };
        let saga = SagaId::derive(&account, "transfer", name.as_bytes());
        self.ask_variously(saga, request(amount), request(Amount::new(amount.base_units().saturating_add(1))));
    }

    fn ask_variously(&mut self, saga: SagaId, request: AccountsInput, other: AccountsInput) {
        self.ask(request.clone(), None);
        if self.chance.once_in(self.workload.doubled) {
            self.diary.sometimes("the bank doubles a request");
            self.ask(request, None);
        }
        self.bodies.push((saga, other));
        if self.chance.once_in(self.workload.reused)
            && let Some((saga, other)) = self.chance.pick(&self.bodies).cloned()
            // The first must have begun: a request that was refused leaves nothing, and another body is then the first.
            && self.facts.lock().operations.contains_key(&saga)
        {
            self.ask(other, Some(saga));
        }
    }
}

impl Wish {
    /// By what its answers are compared.
    fn input_name(&self) -> Vec<u8> {
        let (account, key) = match &self.input {
            AccountsInput::OpenAccount(asked) => (asked.account, "open"),
            AccountsInput::RequestAddress(asked) => (asked.account, "address"),
            AccountsInput::RequestWithdrawal(asked) => (asked.account, asked.key.as_str()),
            AccountsInput::RequestTransfer(asked) => (asked.account, asked.key.as_str()),
            _ => return Vec::new(),
        };
        let mut name = account.as_bytes().to_vec();
        name.extend_from_slice(key.as_bytes());
        name
    }
}

impl Actor for Bank {
    fn name(&self) -> &str {
        "bank"
    }

    fn step(&mut self) -> Step {
        if self.hear() || self.ask_again() {
            return Step::Busy;
        }
        let now = self.clock.now();
        if self.waiting.len() >= WAITING_MAX || now < self.next_at {
            return Step::Idle(LOOK);
        }
        if self.opened < self.workload.accounts {
            self.open_accounts();
            return Step::Busy;
        }
        if self.facts.lock().addresses.is_empty() {
            return Step::Idle(LOOK);
        }
        self.fund(now);
        if self.made < self.workload.operations {
            self.one_more();
            self.next_at = now.saturating_add(Duration::from_millis(self.chance.below(self.workload.pause_ms)));
            return Step::Busy;
        }
        Step::Idle(if self.waiting.is_empty() { REST } else { LOOK })
    }
}

/// The digest by which the door knows a repeat.
fn fingerprint(parts: &[&[u8]]) -> Digest {
    Digest::of_parts("custos 2026 request", parts)
}

/// An outside address that the bank pays.
#[must_use]
pub fn receiver(number: u64) -> EthAddress {
    address(&format!("receiver-{number}"))
}
