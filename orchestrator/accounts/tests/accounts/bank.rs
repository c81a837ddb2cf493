//! A shard of the accounts machine without a log: applies inputs, commits each, and holds every input to the invariants.

use std::collections::BTreeMap;

use custos_accounts::Accounts;
use custos_accounts::state::{Balances, Entity, Key, Net};
use custos_domain::{AccountId, Amount, CommandId, Digest, SagaId, Timestamp};
use custos_messages::accounts::*;
use custos_messages::events::{EntryReason, Event, EventBody, HouseBook, LedgerAccount, Side};
use custos_messages::treasury::TreasuryInput;
use custos_messages::{Mail, SignedPolicy, Source};
use custos_policy::Policy;
use custos_saga::machine::{Cause, Command, Context, Effects, Machine, Reply, Settled, TimerChange, TimerId, Touched, View};
use custos_testkit as kit;

pub type State = BTreeMap<Key, Entity>;

/// See the module.
pub struct Bank {
    pub state: State,
    /// The same, as the runtime keeps it.
    kept: Kept,
    pub context: Context,
    pub inputs: Vec<(Cause<AccountsInput>, Context)>,
    pub events: Vec<Event>,
    pub timers: BTreeMap<TimerId, Timestamp>,
    /// The last screening that was asked.
    pub screen: Option<CommandId>,
}

/// One input on a state: what it becomes, and what is to be done.
pub fn apply(state: &State, input: Cause<AccountsInput>, context: &Context) -> (State, Effects) {
    let mut overlay = Touched::default();
    let effects = Accounts::apply(&mut View::new(state, &mut overlay), input, context);
    let mut after = state.clone();
    for (key, entity) in overlay {
        match entity {
            Some(entity) => after.insert(key, entity),
            None => after.remove(&key),
        };
    }
    (after, effects)
}

/// A state of which only so much is left as the runtime keeps: beside the running records what has settled, and no more of it.
#[derive(Default)]
pub struct Kept {
    standing: State,
    settled: Settled,
}

impl Kept {
    /// Hears an input and commits it.
    pub fn hear(&mut self, input: Cause<AccountsInput>, context: &Context) -> Effects {
        let mut overlay = Touched::default();
        let mut view = View::beside(&self.settled, &self.standing, &mut overlay);
        let effects = Accounts::apply(&mut view, input, context);
        for (key, entity) in overlay {
            match entity.map(|entity| (Accounts::settle(&key, &entity), entity)) {
                Some((Some((place, remains)), _)) => assert!(self.settled.insert(place, remains), "{key:?} settles once"),
                Some((None, entity)) => drop(self.standing.insert(key, entity)),
                None => drop(self.standing.remove(&key)),
            }
        }
        effects
    }

    /// What a takeover makes of the records of `state`.
    pub fn restored(state: &State) -> Self {
        let mut kept = Self::default();
        for (key, entity) in state {
            let (key, entity) =
                Accounts::decode(&Accounts::encode_key(key), &Accounts::encode_entity(entity)).expect("it was written");
            match Accounts::settle(&key, &entity) {
                Some((place, remains)) => assert!(kept.settled.insert(place, remains)),
                None => drop(kept.standing.insert(key, entity)),
            }
        }
        kept
    }

    /// Whether this is what is left of `state`.
    pub fn is_left_of(&self, state: &State) -> bool {
        self.standing.len() + self.settled.len() == state.len()
            && state.iter().all(|(key, entity)| match Accounts::settle(key, entity) {
                Some((place, remains)) => self.settled.get(&place) == Some(remains),
                None => self.standing.get(key) == Some(entity),
            })
    }
}

impl Bank {
    /// A shard that has heard nothing.
    pub fn empty() -> Self {
        let context = Context { at: Timestamp(1_700_000_000_000), partition: 0, partitions: 2, logic: 1 };
        let (state, timers) = (BTreeMap::new(), BTreeMap::new());
        let kept = Kept::default();
        Self { state, kept, context, inputs: Vec::new(), events: Vec::new(), timers, screen: None }
    }

    /// A shard with the policy in force and the accounts `ann` and `bob`.
    pub fn open() -> Self {
        let mut bank = Self::empty();
        bank.tell(AccountsInput::Policy(signed(&kit::policy())));
        bank.tell(open("ann"));
        bank.tell(open("bob"));
        bank
    }

    /// As [`Self::open`], and ann has 10 ETH and 20,000 TUSD.
    pub fn funded() -> Self {
        let mut bank = Self::open();
        bank.deposit("ann", "ETH", kit::ether("10"), "salary");
        bank.deposit("ann", "TUSD", kit::tusd("20000"), "stable");
        bank
    }

    /// A whole deposit: seen, screened, final.
    pub fn deposit(&mut self, name: &str, code: &str, amount: Amount, tx: &str) {
        let fact = arrival(name, code, amount, tx, kit::block("main", 100));
        self.tell(deposit(&fact, DepositNews::Seen));
        self.clear();
        self.tell(deposit(&fact, DepositNews::Final));
    }

    /// Hears a message.
    pub fn tell(&mut self, message: AccountsInput) -> Effects {
        self.hear(Cause::Message { source: Source::Gateway, message })
    }

    /// Hears an input, holds it to the invariants, and commits it.
    pub fn hear(&mut self, input: Cause<AccountsInput>) -> Effects {
        let before = self.state.clone();
        let (after, effects) = apply(&before, input.clone(), &self.context);
        assert_eq!(apply(&before, input.clone(), &self.context), (after.clone(), effects.clone()), "replay");
        assert_eq!(
            self.kept.hear(input.clone(), &self.context),
            effects,
            "what is kept of ended sagas decides like their records"
        );
        assert!(self.kept.is_left_of(&after));
        self.inputs.push((input, self.context));
        if matches!(effects.reply, Some(Reply::Refused(_) | Reply::KeyReused)) {
            assert_eq!((&after, effects.events.len()), (&before, 0), "a no changes nothing");
        }
        self.state = after;
        self.events.extend(effects.events.iter().cloned());
        for change in &effects.timers {
            match change {
                TimerChange::Arm(id, due) => self.timers.insert(id.clone(), *due),
                TimerChange::Disarm(id) => self.timers.remove(id),
            };
        }
        for ordered in &effects.commands {
            if let Command::Screen(screen) = &ordered.command {
                self.screen = Some(screen.id);
            }
        }
        self.audit();
        effects
    }

    /// Compliance finds nothing in the last screening.
    pub fn clear(&mut self) -> Effects {
        self.screened(Finding::Clear)
    }

    /// Compliance answers the last screening.
    pub fn screened(&mut self, finding: Finding) -> Effects {
        let command = self.screen.expect("a screening was asked");
        let asked = self.asked_by(&command).expect("a saga waits for it");
        self.tell(screened(asked, command, finding))
    }

    fn asked_by(&self, command: &CommandId) -> Option<SagaId> {
        self.state.iter().find_map(|(key, entity)| match (key, entity) {
            (Key::Saga(id), Entity::Saga(record)) if record.instance.expected == Some(*command) => Some(*id),
            _ => None,
        })
    }

    /// Time passes up to the next timer, which is heard.
    pub fn wake(&mut self) -> Effects {
        let (id, due) =
            self.timers.iter().min_by_key(|(_, due)| **due).map(|(id, due)| (id.clone(), *due)).expect("a timer");
        self.timers.remove(&id);
        self.context.at = self.context.at.max(due);
        self.hear(Cause::Timer(id))
    }

    pub fn balances(&self, name: &str, code: &str) -> Balances {
        match self.state.get(&Key::Account(kit::account(name))) {
            Some(Entity::Account(account)) => account.balances.get(&kit::asset(code)).copied().unwrap_or_default(),
            _ => Balances::default(),
        }
    }

    /// Debit side positive: what the house's book holds.
    pub fn house(&self, book: HouseBook, code: &str) -> Net {
        match self.state.get(&Key::House) {
            Some(Entity::House(house)) => house.books.get(&(book, kit::asset(code))).copied().unwrap_or_default(),
            _ => Net::default(),
        }
    }

    /// What must be true after every input.
    fn audit(&self) {
        let mut sequences: BTreeMap<AccountId, u64> = BTreeMap::new();
        let mut books: BTreeMap<(LedgerAccount, String), (u128, u128)> = BTreeMap::new();
        for event in &self.events {
            let last = sequences.entry(event.account).or_default();
            assert_eq!(event.sequence, *last + 1, "dense events of {}", event.account);
            *last = event.sequence;
            let EventBody::Posted(entry) = &event.body else { continue };
            let mut sums: BTreeMap<&str, (u128, u128)> = BTreeMap::new();
            for leg in &entry.legs {
                let (debits, credits) = books.entry((leg.ledger.clone(), leg.asset.to_string())).or_default();
                let (debit_sum, credit_sum) = sums.entry(leg.asset.as_str()).or_default();
                let units = leg.amount.base_units();
                match leg.side {
                    Side::Debit => (*debits += units, *debit_sum += units),
                    Side::Credit => (*credits += units, *credit_sum += units),
                };
            }
            assert!(!sums.is_empty() && sums.values().all(|(debits, credits)| debits == credits), "{entry:?}");
        }
        for ((ledger, code), (debits, credits)) in &books {
            let (debit, credit) = self.state_of(ledger, code);
            assert_eq!(debit + credits, credit + debits, "events and state of {ledger:?} {code}");
        }
        self.audit_holds();
        self.audit_order();
        self.audit_codec();
    }

    /// No release once a signature exists, unless with proof; no credit of a client's deposit without a screening.
    fn audit_order(&self) {
        let mut said: BTreeMap<SagaId, Vec<&str>> = BTreeMap::new();
        for event in &self.events {
            let Some(saga) = event.saga else { continue };
            let before = said.entry(saga).or_default();
            match &event.body {
                EventBody::PaymentSigned { .. } => before.push("signed"),
                EventBody::PaymentImpossible(_) => before.push("impossible"),
                EventBody::Screened { clear: true, .. } => before.push("clear"),
                EventBody::Ended(_) => before.push("ended"),
                EventBody::Posted(entry) if entry.reason == EntryReason::Release => {
                    assert!(
                        !before.contains(&"signed") || before.contains(&"impossible"),
                        "{saga} released a signed payment"
                    );
                }
                EventBody::DepositCredited(_) => {
                    let house = saga.account == AccountId::house(&kit::tenant(), 0);
                    assert!(house || before.contains(&"clear"), "{saga} credited unscreened money");
                }
                EventBody::Moved { .. } => assert!(!before.contains(&"ended"), "{saga} moved after its end"),
                _ => {}
            }
        }
    }

    fn state_of(&self, ledger: &LedgerAccount, code: &str) -> (u128, u128) {
        match ledger {
            LedgerAccount::House { book, .. } => {
                let net = self.house(*book, code);
                assert!(net.debit.is_zero() || net.credit.is_zero());
                (net.debit.base_units(), net.credit.base_units())
            }
            LedgerAccount::Client { account, book } => {
                let Some(Entity::Account(found)) = self.state.get(&Key::Account(*account)) else { panic!("no account") };
                let part = found.balances.get(&kit::asset(code)).copied().unwrap_or_default();
                use custos_messages::events::ClientBook::{Available, Frozen, Held, Pending};
                let amount = match book {
                    Available => part.available,
                    Held => part.held,
                    Pending => part.pending,
                    Frozen => part.frozen,
                };
                (0, amount.base_units())
            }
        }
    }

    /// What an account holds is the sum of what its running sagas hold.
    fn audit_holds(&self) {
        use custos_accounts::state::Case;
        let mut holds: BTreeMap<(AccountId, String), u128> = BTreeMap::new();
        for entity in self.state.values() {
            let Entity::Saga(record) = entity else { continue };
            let (account, asset, amount) = match &record.case {
                Case::Withdrawal(it) if it.intent.asset == it.intent.fee.asset => {
                    (it.account, &it.intent.asset, it.intent.amount.plus(it.intent.fee.max).expect("a hold that was made"))
                }
                Case::Withdrawal(it) => (it.account, &it.intent.asset, it.intent.amount),
                Case::Transfer(it) => (it.account, &it.asset, it.amount),
                Case::Deposit(_) | Case::IssueAddress(_) => continue,
            };
            if record.instance.is_done(0) {
                *holds.entry((account, asset.to_string())).or_default() += amount.base_units();
            }
        }
        for (key, entity) in &self.state {
            let (Key::Account(id), Entity::Account(account)) = (key, entity) else { continue };
            for (asset, part) in &account.balances {
                let held = holds.get(&(*id, asset.to_string())).copied().unwrap_or_default();
                assert_eq!(part.held.base_units(), held, "held {asset} of {id}");
            }
        }
    }

    /// Every record comes back as it was, and keys keep their order.
    fn audit_codec(&self) {
        let mut last: Option<Vec<u8>> = None;
        for (key, entity) in &self.state {
            let (name, value) = (Accounts::encode_key(key), Accounts::encode_entity(entity));
            let read = Accounts::decode(&name, &value).expect("what was written is read");
            assert_eq!(read, (key.clone(), entity.clone()));
            assert!(name[0] > 0x0f && last.as_ref().is_none_or(|last| *last < name), "{key:?}");
            last = Some(name);
        }
    }
}

pub fn signed(policy: &Policy) -> SignedPolicy {
    policy.sign(&kit::policy_root()).expect("a policy fit to be in force")
}

pub fn open(name: &str) -> AccountsInput {
    AccountsInput::OpenAccount(OpenAccount { tenant: kit::tenant(), account: kit::account(name), key: kit::key(name) })
}

pub fn arrival(name: &str, code: &str, amount: Amount, tx: &str, block: custos_domain::BlockRef) -> DepositFact {
    let deposit = Deposit {
        chain: kit::chain(),
        tx: kit::tx(tx),
        index: 0,
        block,
        from: kit::address("payer"),
        to: kit::address(name),
        asset: kit::asset(code),
        amount,
    };
    DepositFact { account: kit::account(name), deposit, news: DepositNews::Seen }
}

pub fn deposit(fact: &DepositFact, news: DepositNews) -> AccountsInput {
    AccountsInput::Deposit(DepositFact { news, ..fact.clone() })
}

pub fn withdraw(name: &str, key: &str, code: &str, amount: Amount) -> AccountsInput {
    AccountsInput::RequestWithdrawal(RequestWithdrawal {
        account: kit::account(name),
        key: kit::key(key),
        fingerprint: Digest::of(format!("{key} {code} {amount}").as_bytes()),
        asset: kit::asset(code),
        amount,
        to: kit::address("shop"),
        fee_max: kit::ether("0.01"),
    })
}

pub fn transfer(name: &str, key: &str, to: &str, code: &str, amount: Amount) -> AccountsInput {
    AccountsInput::RequestTransfer(RequestTransfer {
        account: kit::account(name),
        key: kit::key(key),
        fingerprint: Digest::of(format!("{key} {to} {code} {amount}").as_bytes()),
        to: kit::account(to),
        asset: kit::asset(code),
        amount,
    })
}

pub fn screened(saga: SagaId, command: CommandId, finding: Finding) -> AccountsInput {
    AccountsInput::Screened(Screened { command, saga, finding, versions: vec!["lists@1".to_owned()] })
}

pub fn hit() -> Finding {
    Finding::Hit { codes: vec!["sanctioned-address".to_owned()] }
}

pub fn payment(saga: SagaId, news: PaymentNews) -> AccountsInput {
    AccountsInput::Payment(PaymentFact { saga, news })
}

pub fn inclusion(tx: &str, branch: &str, fee: Amount, succeeded: bool) -> Inclusion {
    Inclusion { tx: kit::tx(tx), nonce: 0, block: kit::block(branch, 120), fee, succeeded }
}

pub fn signature(tx: &str, attempt: u32) -> PaymentNews {
    PaymentNews::Signed { tx: kit::tx(tx), nonce: 0, digest: Digest::of(tx.as_bytes()), attempt }
}

/// What an input made the machine do, a line each, in words.
pub fn story(effects: &Effects) -> Vec<String> {
    let mut lines: Vec<String> = effects.events.iter().map(|event| tale(&event.body)).collect();
    for ordered in &effects.commands {
        let ahead = if ordered.ahead { ", ahead" } else { "" };
        let Command::Screen(screen) = &ordered.command else { panic!("accounts commands compliance alone") };
        lines.push(format!(
            "> screen {:?}, sent {} in {}{ahead}",
            screen.direction, screen.sent_last_day, screen.sent_count_last_day
        ));
    }
    for sent in &effects.messages {
        lines.push(match &sent.message {
            Mail::Treasury(TreasuryInput::TakePayment(pay)) => {
                format!("> pay {} {}, {} approvals", pay.intent.amount, pay.intent.asset, pay.approvals.len())
            }
            Mail::Treasury(TreasuryInput::AllocateAddress(_)) => "> allocate address".to_owned(),
            Mail::Accounts(AccountsInput::TransferIn(order)) => format!("> transfer in {} {}", order.amount, order.asset),
            Mail::Accounts(AccountsInput::TransferAnswered(answer)) => format!("> credited {}", answer.credited),
            other => format!("> {other:?}"),
        });
    }
    for change in &effects.timers {
        lines.push(match change {
            TimerChange::Arm(..) => "arm".to_owned(),
            TimerChange::Disarm(_) => "disarm".to_owned(),
        });
    }
    lines.extend(effects.dropped.map(|code| format!("dropped {code}")));
    lines.extend(effects.reply.as_ref().map(|reply| match reply {
        Reply::Accepted(_) => "reply accepted".to_owned(),
        Reply::Refused(refusal) => format!("reply {refusal:?}"),
        Reply::KeyReused => "reply key reused".to_owned(),
    }));
    lines
}

fn tale(body: &EventBody) -> String {
    match body {
        EventBody::Moved { step, phase } => format!("{step} {phase:?}").to_lowercase(),
        EventBody::Posted(entry) => {
            let leg = |leg: &custos_messages::events::Leg| {
                let side = if leg.side == Side::Debit { "Dr" } else { "Cr" };
                let name = match &leg.ledger {
                    LedgerAccount::Client { book, .. } => format!("{book:?}"),
                    LedgerAccount::House { book, .. } => format!("House {book:?}"),
                };
                let decimals = if leg.asset.as_str() == "ETH" { 18 } else { 6 };
                format!("{side} {name} {} {}", leg.amount.to_decimal(decimals), leg.asset)
            };
            let legs: Vec<String> = entry.legs.iter().map(leg).collect();
            let block = entry.block.as_ref().map(|(_, block)| format!(" @{}", block.number)).unwrap_or_default();
            format!("{:?}{block}: {}", entry.reason, legs.join(", "))
        }
        EventBody::Ended(ending) => format!("ended {ending:?}"),
        EventBody::Parked { step, code } => format!("parked at {step}: {code}"),
        EventBody::Alarm { code, .. } => format!("alarm {code:?}"),
        EventBody::Screened { step, clear, .. } => format!("{step} answered, clear {clear}"),
        EventBody::Decided { officer, verdict, .. } => format!("{officer} {verdict:?}"),
        EventBody::Started(_) => "started".to_owned(),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
        }
    }
}
