//! A bank without a chain: accounts, deposits as the chain machine would report them, and transfers between accounts of all shards.
//!
//! It says each thing again until it knows that it was heard, with the same key; some things it says twice on purpose, and some with a
//! key that was used before. A world with it alone is small and quick, and lives from what crosses between shards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use custos_domain::{AccountId, Amount, Digest, SagaId};
use custos_messages::accounts::{AccountsInput, Deposit, DepositFact, DepositNews, OpenAccount, RequestTransfer};
use custos_messages::gateway::{GatewayReply, Outcome, Subject};
use custos_messages::{Mail, ReplyTo, Source, Topic};
use custos_testkit::{account, address, asset, block, chain, ether, key, tenant, tx};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;

const INSTANCE: u32 = 0;
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);
/// Requests that wait for an answer at the same time.
const WAITING_MAX: usize = 32;
/// The longest pause between two requests.
const PAUSE_MS: u64 = 8_000;
/// Operations that they want when they are asked what else.
const MORE: u64 = 5;
/// How long a deposit takes from being seen to being final, at most.
const FINALITY_MS: u64 = 20_000;

/// The clients.
pub struct Clients {
    diary: Diary,
    clock: WorldClock,
    log: Outside,
    facts: SharedFacts,
    chance: Chance,
    accounts: u64,
    left: u64,
    number: u64,
    opened: u64,
    next_at: Duration,
    funded: bool,
    /// Accounts to which a deposit was sent.
    deposited: BTreeSet<AccountId>,
    waiting: BTreeMap<[u8; 16], Wish>,
    answers: BTreeMap<SagaId, bool>,
    /// A key that is to be used again, with another body.
    used: Option<(SagaId, AccountsInput)>,
    /// What the chain has still to say, and when.
    chain: Vec<(Duration, DepositFact)>,
}

struct Wish {
    input: AccountsInput,
    asked_at: Duration,
    saga: Option<SagaId>,
    /// It uses a key that was used before.
    other: bool,
}

impl Clients {
    /// Clients with so many accounts, who want so much.
    #[must_use]
    pub fn new(
        (diary, clock, facts): (Diary, WorldClock, SharedFacts),
        log: Outside,
        chance: Chance,
        (accounts, operations): (u64, u64),
    ) -> Self {
        let (waiting, answers) = (BTreeMap::new(), BTreeMap::new());
        let (number, opened, next_at, chain, left) = (0, 0, Duration::ZERO, Vec::new(), operations);
        Self {
            diary,
            clock,
            log,
            facts,
            chance,
            accounts,
            left,
            number,
            opened,
            next_at,
            funded: false,
            deposited: BTreeSet::new(),
            waiting,
            answers,
            used: None,
            chain,
        }
    }

    /// Whether everything was asked, answered and said.
    #[must_use]
    pub fn done(&self) -> bool {
        self.left == 0 && self.opened == self.accounts && self.waiting.is_empty() && self.chain.is_empty()
    }

    /// They want a little more.
    pub const fn remind(&mut self) {
        self.left = self.left.saturating_add(MORE);
    }

    fn name(number: u64) -> String {
        format!("client-{number}")
    }

    fn client(&mut self) -> AccountId {
        account(&Self::name(self.chance.below(self.accounts)))
    }

    fn ask(&mut self, wish: Wish) {
        self.number = self.number.saturating_add(1);
        let mut correlation = [0; 16];
        let (front, _) = correlation.split_at_mut(8);
        front.copy_from_slice(&self.number.to_be_bytes());
        let reply_to = Some(ReplyTo { instance: INSTANCE, correlation });
        if !self.log.say(Source::Gateway, &Mail::Accounts(wish.input.clone()), reply_to) {
            self.diary.sometimes("the bank does not know whether its request arrived");
        }
        self.waiting.insert(correlation, Wish { asked_at: self.clock.now(), ..wish });
    }

    fn open(&mut self) {
        let name = Self::name(self.opened);
        self.opened = self.opened.saturating_add(1);
        let open = OpenAccount { tenant: tenant(), account: account(&name), key: key(&name) };
        self.ask(Wish { input: AccountsInput::OpenAccount(open), asked_at: Duration::ZERO, saga: None, other: false });
    }

    /// Nobody pays to an account before its bank knows that there is one: its addresses are handed out later still.
    fn deposit(&mut self, account: AccountId) {
        if !self.deposited.insert(account) {
            return;
        }
        self.number = self.number.saturating_add(1);
        let deposit = Deposit {
            chain: chain(),
            tx: tx(&format!("deposit-{}", self.number)),
            index: 0,
            block: block("main", 100),
            from: address("payer"),
            to: address("custody"),
            asset: asset("ETH"),
            amount: ether("100"),
        };
        let now = self.clock.now();
        let seen = now.saturating_add(Duration::from_millis(500));
        let last = seen.saturating_add(Duration::from_millis(self.chance.below(FINALITY_MS)));
        self.chain.push((seen, DepositFact { account, deposit: deposit.clone(), news: DepositNews::Seen }));
        self.chain.push((last, DepositFact { account, deposit, news: DepositNews::Final }));
    }

    fn transfer(&mut self) {
        let (from, to) = (self.client(), self.client());
        let name = format!("t{}", self.left);
        let request = |units: u128| {
            let amount = Amount::new(units);
            let fingerprint = Digest::of_parts("request", &[to.as_bytes(), &amount.to_be_bytes()]);
            let (account, key, asset) = (from, key(&name), asset("ETH"));
            AccountsInput::RequestTransfer(RequestTransfer { account, key, fingerprint, to, asset, amount })
        };
        let units = ether("1").base_units().saturating_mul(u128::from(self.chance.between(1, 60)));
        let saga = SagaId::derive(&from, "transfer", name.as_bytes());
        let wish = |input, other| Wish { input, asked_at: Duration::ZERO, saga: Some(saga), other };
        self.ask(wish(request(units), false));
        if self.chance.once_in(8) {
            self.diary.sometimes("the bank doubles a request");
            self.ask(wish(request(units), false));
        }
        // The first must be in the log before: else the other body would be the first, and right.
        let earlier = self.used.take();
        if let Some((saga, input)) = earlier
            && self.facts.lock().operations.contains_key(&saga)
        {
            self.ask(Wish { input, asked_at: Duration::ZERO, saga: Some(saga), other: true });
        }
        if self.chance.once_in(5) {
            self.used = Some((saga, request(units.saturating_add(1))));
        }
    }

    fn is_funded(&self) -> bool {
        let facts = self.facts.lock();
        (0..self.accounts).all(|number| facts.available(account(&Self::name(number)), &asset("ETH")) > 0)
    }

    fn hear(&mut self) -> bool {
        let entries = self.log.look(Topic::GatewayReplies, INSTANCE);
        let news = !entries.is_empty();
        for entry in entries {
            let opened = self.log.keyring().open_message::<GatewayReply>(Topic::GatewayReplies, &entry.record);
            let Ok((_, reply)) = opened else {
                self.diary.violation("a reply that cannot be opened".to_owned());
                continue;
            };
            if let Some(wish) = self.waiting.remove(&reply.correlation) {
                self.answered(&wish, &reply.outcome);
            }
        }
        news
    }

    /// An answer never changes, and a key that was used stays used.
    fn answered(&mut self, wish: &Wish, outcome: &Outcome) {
        if let Outcome::Accepted { subject: Subject::Account(account), .. } = outcome {
            self.deposit(*account);
        }
        let accepted = matches!(outcome, Outcome::Accepted { subject: Subject::Operation(_), .. });
        let Some(saga) = wish.saga else { return };
        if wish.other {
            self.diary.sometimes("a key is used again with another body");
            if accepted {
                self.diary.violation(format!("{saga} is accepted with another body than its first"));
            }
            return;
        }
        if matches!(outcome, Outcome::KeyReused) {
            self.diary.violation(format!("the same request {saga} is called another"));
        }
        // A refusal leaves nothing behind, so the same request may be accepted later; never the other way round.
        if self.answers.insert(saga, accepted) == Some(true) && !accepted {
            self.diary.violation(format!("{saga} was accepted, then refused"));
        }
    }

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
                self.ask(wish);
            }
        }
        !late.is_empty()
    }

    /// The chain machine says what is due, until the log has it; now and then twice.
    fn report(&mut self) -> bool {
        let now = self.clock.now();
        let Some(place) = self.chain.iter().position(|(due, _)| *due <= now) else { return false };
        let Some((_, fact)) = self.chain.get(place) else { return false };
        let mail = Mail::Accounts(AccountsInput::Deposit(fact.clone()));
        let again = self.chance.once_in(6);
        if self.log.say(Source::Chain, &mail, None) && !again {
            self.chain.remove(place);
        }
        true
    }
}

impl Actor for Clients {
    fn name(&self) -> &str {
        "clients"
    }

    fn step(&mut self) -> Step {
        if self.hear() || self.ask_again() || self.report() {
            return Step::Busy;
        }
        if self.waiting.len() >= WAITING_MAX || self.clock.now() < self.next_at {
            return Step::Idle(LOOK);
        }
        if self.opened < self.accounts {
            self.open();
            return Step::Busy;
        }
        // From then on it may be spent.
        self.funded = self.funded || self.is_funded();
        let ready = self.left > 0 && self.funded;
        if ready {
            self.transfer();
            self.left = self.left.saturating_sub(1);
            if self.chance.once_in(3) {
                let pause = Duration::from_millis(self.chance.below(PAUSE_MS));
                self.next_at = self.clock.now().saturating_add(pause);
            }
            return Step::Busy;
        }
        Step::Idle(LOOK)
    }
}
