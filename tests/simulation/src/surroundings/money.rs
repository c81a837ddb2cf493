//! The money oracles: they read the chain, the events and what the signer has let out, and nothing of anybody's memory.
//!
//! All the time: one mined payment for each intent, and of what was asked; entries that are zero; no credit before finality; holds
//! given back only while no signature can be cashed; one nonce for an intent and one intent for a nonce; refusals that moved
//! nothing. At rest: the books are the chain, to the unit, and every operation ended as the chain says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use custos_domain::{AssetId, BlockHash, EthAddress, IntentId, SagaId, WalletId};
use custos_messages::accounts::{AlarmCode, Deposit, Inclusion};
use custos_messages::events::{Ending, EntryReason, Event, EventBody, HouseBook, JournalEntry, LedgerAccount, Request};
use custos_messages::treasury::{Signed, TreasuryInput};
use custos_messages::{Chained, Machine, Topic};
use custos_testkit::{address, asset};

use crate::actor::{Actor, Step};
use crate::diary::Diary;
use crate::surroundings::chain::{Block, Coin, Network, Pays, SharedNetwork, Tx};
use crate::surroundings::facts::{Arrived, SharedFacts, Standing};
use crate::surroundings::guard::GuardBase;
use crate::surroundings::house::{CONFIRMATIONS, House, SANCTIONED};
use crate::surroundings::outside::Outside;

/// How long it waits when there is nothing new.
const LOOK: Duration = Duration::from_millis(500);

/// What is known of a signature that was let out.
#[derive(Clone, Copy, Debug)]
struct LetOut {
    intent: IntentId,
    fees: (u128, u128),
    tx: B256,
}

/// The oracles of money.
pub struct MoneyOracle {
    house: House,
    network: SharedNetwork,
    guard: GuardBase,
    facts: SharedFacts,
    diary: Diary,
    log: Outside,
    places: BTreeMap<u32, (u64, custos_domain::Digest)>,
    nonces: BTreeMap<(WalletId, u64), Vec<LetOut>>,
    bound: BTreeMap<IntentId, u64>,
    /// Intents of which nothing was signed when their clients got the money back.
    given_back: BTreeSet<IntentId>,
    /// Withdrawals by where they go: each goes to an address of its own.
    receivers: BTreeMap<Address, (SagaId, AssetId, u128)>,
    /// The branch that was looked at last, and what was found on it.
    looked_at: Vec<B256>,
    payments: BTreeMap<Address, u64>,
    /// What a human was called for.
    alarms: BTreeSet<(AlarmCode, String)>,
}

impl MoneyOracle {
    /// Oracles over these parts.
    #[must_use]
    pub fn new(
        house: House,
        network: SharedNetwork,
        guard: GuardBase,
        facts: SharedFacts,
        diary: Diary,
        log: Outside,
    ) -> Self {
        Self {
            house,
            network,
            guard,
            facts,
            diary,
            log,
            places: BTreeMap::new(),
            nonces: BTreeMap::new(),
            bound: BTreeMap::new(),
            given_back: BTreeSet::new(),
            receivers: BTreeMap::new(),
            looked_at: Vec::new(),
            payments: BTreeMap::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// Looks at everything that is new; whether anything was.
    pub fn look(&mut self) -> bool {
        let mut news = false;
        for partition in 0..self.log.partitions() {
            for entry in self.log.look(Topic::Events, partition) {
                news = true;
                let opened = self.log.keyring().open_message::<Event>(Topic::Events, &entry.record);
                match (opened, Chained::read(&entry.record)) {
                    (Ok((_, event)), Ok(place)) => self.event(partition, &event, &place),
                    (opened, place) => {
                        let problem = format!("{:?} {:?}", opened.err(), place.err());
                        self.diary.violation(format!("an event of partition {partition} cannot be read: {problem}"));
                    }
                }
            }
            for entry in self.log.look(Topic::Inbox(Machine::Treasury), partition) {
                let opened =
                    self.log.keyring().open_message::<TreasuryInput>(Topic::Inbox(Machine::Treasury), &entry.record);
                if let Ok((_, TreasuryInput::Signed(signed))) = opened {
                    self.let_out(&signed);
                }
            }
        }
        self.look_at_chain();
        news
    }

    fn event(&mut self, partition: u32, event: &Event, place: &Chained) {
        let (last, hash) = self.places.get(&partition).copied().unwrap_or((0, Chained::GENESIS));
        if place.sequence <= last {
            // A transaction that was torn was written again, the same.
            self.diary.sometimes("an event stands in the log twice");
            return;
        }
        if place.sequence != last.saturating_add(1) || place.previous != hash {
            self.diary
                .violation(format!("partition {partition} goes from event {last} to {} on another chain", place.sequence));
        }
        self.places.insert(partition, (place.sequence, place.hash));
        if let EventBody::Alarm { code, subject } = &event.body {
            self.alarms.insert((*code, subject.clone()));
        }
        self.judge(event);
        let heard = self.facts.lock().hear(event);
        if let Err(contradiction) = heard {
            self.diary.violation(contradiction);
        }
    }

    /// What an event may say only if the chain agrees.
    fn judge(&mut self, event: &Event) {
        match &event.body {
            EventBody::Started(Request::Withdrawal { to, asset, amount, .. }) => {
                // Many may want to pay the one that is refused: nobody must.
                if let Some(saga) = event.saga.filter(|_| *to != address(SANCTIONED)) {
                    let wanted = (saga, asset.clone(), amount.base_units());
                    if let Some((other, ..)) = self.receivers.insert(Address::from(to.0), wanted) {
                        self.diary.violation(format!("{other} and {saga} pay the same address: the workload is wrong"));
                    }
                }
            }
            EventBody::DepositCredited(deposit) => self.credited(deposit),
            EventBody::PaymentFinal(inclusion) => {
                self.tell_payment(event, format_args!("is final: {inclusion:?}"));
                self.final_payment(inclusion);
            }
            EventBody::Posted(entry) => {
                if let Some(saga) = event.saga {
                    self.posted(saga, entry);
                }
            }
            EventBody::DepositReversed(deposit) => self.reversed(deposit),
            EventBody::DepositUnseen(_) => self.diary.sometimes("a deposit leaves the chain before it is credited"),
            EventBody::DepositQuarantined(_) => self.diary.sometimes("a deposit is quarantined"),
            EventBody::PaymentSigned { tx, nonce, .. } => {
                self.tell_payment(event, format_args!("is signed as {tx} at nonce {nonce}"));
            }
            EventBody::PaymentSeen(inclusion) => self.tell_payment(event, format_args!("is seen: {inclusion:?}")),
            EventBody::PaymentUnseen(inclusion) => {
                self.diary.sometimes("a payment leaves the chain");
                self.tell_payment(event, format_args!("leaves the chain: {inclusion:?}"));
            }
            EventBody::PaymentImpossible(inclusion) => {
                self.diary.sometimes("a payment becomes impossible");
                self.tell_payment(event, format_args!("is impossible: {inclusion:?}"));
            }
            EventBody::HouseSpent(said) => {
                self.diary.sometimes("the house pays for a nonce");
                self.diary.note("events", format_args!("the house: {said:?}"));
            }
            EventBody::Alarm { code, subject } => self.diary.note("events", format_args!("alarm {code:?}: {subject}")),
            EventBody::Ended(Ending::Refused(refusal)) => {
                self.diary.note("events", format_args!("{:?} is refused: {refusal:?}", event.saga));
                self.diary.sometimes("an operation is refused");
            }
            EventBody::Ended(Ending::Completed) => self.diary.sometimes("an operation is completed"),
            _ => {}
        }
    }

    fn tell_payment(&self, event: &Event, what: std::fmt::Arguments<'_>) {
        let saga = event.saga.map(|saga| saga.to_string()).unwrap_or_default();
        self.diary.note("events", format_args!("{saga} {what}"));
    }

    /// Whether the transaction succeeded in this block, and how deep every node has shown it.
    fn made_in(&self, hash: &BlockHash, tx: [u8; 32]) -> (bool, u64) {
        let network = self.network.lock();
        let hash = block(hash);
        let there = network.block(&hash).is_some_and(|block| holds(block, &[B256::new(tx)], Outcome::Succeeded));
        (there, network.shown_by_all(&hash))
    }

    fn credited(&self, deposit: &Deposit) {
        let (there, depth) = self.made_in(&deposit.block.hash, deposit.tx.0);
        if !there {
            self.diary.violation(format!("deposit {} is credited, and is not in block {}", deposit.tx, deposit.block.hash));
        }
        if depth < u64::from(CONFIRMATIONS) {
            self.diary.violation(format!("deposit {} is credited at a depth of {depth} on every node", deposit.tx));
        }
    }

    fn reversed(&self, deposit: &Deposit) {
        self.diary.sometimes("a credited deposit is reversed");
        if !self.network.lock().left_by_all(&block(&deposit.block.hash)) {
            let (tx, at) = (deposit.tx, deposit.block.hash);
            self.diary.violation(format!("deposit {tx} is reversed, and a node has never left block {at}"));
        }
    }

    fn final_payment(&self, inclusion: &Inclusion) {
        let (paid, depth) = self.made_in(&inclusion.block.hash, inclusion.tx.0);
        if !paid {
            self.diary
                .violation(format!("payment {} is final, and was not made in block {}", inclusion.tx, inclusion.block.hash));
        }
        if depth < u64::from(CONFIRMATIONS) {
            self.diary.violation(format!("payment {} is final at a depth of {depth} on every node", inclusion.tx));
        }
    }

    /// A hold that is given back while a signature exists needs proof that the nonce was used otherwise, and that is final.
    fn posted(&mut self, saga: SagaId, entry: &JournalEntry) {
        if entry.reason == EntryReason::ShortageCollected {
            self.diary.sometimes("a debt is settled");
        }
        if entry.reason != EntryReason::Release {
            return;
        }
        let intent = IntentId::of_saga(&saga);
        let records = self.guard.records();
        let own: Vec<_> = records.iter().filter(|record| record.intent == intent).collect();
        let Some(first) = own.first() else {
            self.given_back.insert(intent);
            return;
        };
        self.diary.sometimes("a hold is given back although a signature exists");
        let network = self.network.lock();
        let settled = usize::try_from(CONFIRMATIONS).ok().and_then(|depth| network.canonical().len().checked_sub(depth));
        let hot = Address::from(self.house.hot().0);
        let consumed = settled
            .and_then(|place| network.canonical().get(place))
            .is_some_and(|block| block.state.nonce(&hot) > first.nonce);
        if !consumed && network.deepest() < u64::from(CONFIRMATIONS) {
            self.diary
                .violation(format!("{saga} has its hold back while nonce {} is free and a signature exists", first.nonce));
        }
    }

    /// A signature that the signer let out.
    fn let_out(&mut self, signed: &Signed) {
        let token = Address::from(self.house.token().0);
        let chain = self.network.lock().chain();
        let tx = match Tx::read(&signed.raw, chain, token) {
            Ok(tx) => tx,
            Err(problem) => {
                self.diary.violation(format!("the signer let out what is no transaction: {problem}"));
                return;
            }
        };
        if self.given_back.contains(&signed.intent) {
            self.diary.violation(format!("{} is signed after its client has the money back", signed.intent));
        }
        if let Some(before) = self.bound.insert(signed.intent, tx.nonce)
            && before != tx.nonce
        {
            self.diary.violation(format!("{} is signed at nonce {before} and at nonce {}", signed.intent, tx.nonce));
        }
        let here = self.nonces.entry((signed.wallet, tx.nonce)).or_default();
        if here.iter().any(|known| known.tx == tx.hash) {
            return;
        }
        let house = IntentId::noop(&signed.wallet, tx.nonce);
        let again = here.iter().any(|known| known.intent == signed.intent);
        for other in here.iter().filter(|known| !again && known.intent != signed.intent) {
            // The house's no-op may take the place of what failed for good and is in no block any more, and of nothing else.
            if house == signed.intent && stood(&self.network.lock(), &[other.tx], Outcome::Failed) {
                self.diary.sometimes("a no-op takes a payment's nonce");
            } else {
                let text = format!("nonce {} is signed for {} and for {}", tx.nonce, other.intent, signed.intent);
                self.diary.violation(text);
            }
        }
        let before = here.iter().filter(|known| house == signed.intent || known.intent == signed.intent);
        let highest = before.fold((0, 0), |most: (u128, u128), known| (most.0.max(known.fees.0), most.1.max(known.fees.1)));
        let raised = |old: u128, new: u128| new.saturating_mul(100) >= old.saturating_mul(110);
        let both_raised = raised(highest.0, tx.max_fee) && raised(highest.1, tx.tip);
        if highest != (0, 0) && !both_raised {
            self.diary.violation(format!("{} is signed again without a higher fee, at nonce {}", signed.intent, tx.nonce));
        }
        here.push(LetOut { intent: signed.intent, fees: (tx.max_fee, tx.tip), tx: tx.hash });
    }

    /// What the canonical branch has paid, since it was looked at last.
    fn look_at_chain(&mut self) {
        let Self { network, payments, receivers, looked_at, diary, house, .. } = self;
        let hot = Address::from(house.hot().0);
        let network = network.lock();
        let canonical = network.canonical();
        // Mostly nothing has left the branch: the newest block that is known still stands where it stood.
        let place = looked_at.len().checked_sub(1);
        let stands = place.and_then(|place| canonical.get(place)).map(|block| block.hash);
        let same = if stands.is_some() && stands == looked_at.last().copied() {
            looked_at.len()
        } else {
            looked_at.iter().zip(canonical).take_while(|(known, block)| **known == block.hash).count()
        };
        for gone in looked_at.split_off(same) {
            for (to, ..) in network.block(&gone).into_iter().flat_map(|block| sent(block, hot)) {
                if let Some(count) = payments.get_mut(&to) {
                    *count = count.saturating_sub(1);
                }
            }
        }
        for block in canonical.iter().skip(same) {
            looked_at.push(block.hash);
            for (to, coin, amount, tx) in sent(block, hot) {
                let count = payments.entry(to).or_default();
                *count = count.saturating_add(1);
                if *count > 1 {
                    diary.violation(format!("{to} is paid {count} times, the last time by {tx}"));
                }
                if to == hot && amount == 0 {
                    *count = 0;
                    continue;
                }
                match receivers.get(&to) {
                    Some((_, asset, wanted)) if coin_of(asset) == coin && *wanted == amount => {}
                    Some((saga, asset, wanted)) => {
                        diary.violation(format!("{saga} asks for {wanted} {asset}, and {amount} {coin:?} are paid by {tx}"));
                    }
                    None => diary.violation(format!("{tx} pays {amount} {coin:?} to {to}, for which nobody asked")),
                }
            }
        }
    }

    /// Everything must be settled now: what is not is a violation.
    pub fn at_rest(&mut self) {
        while self.look() {}
        self.books_are_the_chain();
        self.operations_are_the_chain();
        self.deposits_are_the_chain();
    }

    fn books_are_the_chain(&self) {
        let facts = self.facts.lock();
        let network = self.network.lock();
        let Some(head) = network.head() else { return };
        let mut ours: Vec<EthAddress> = facts.addresses.iter().map(|(_, address)| *address).collect();
        ours.push(self.house.hot());
        ours.sort_unstable();
        ours.dedup();
        for (code, coin) in [("ETH", Coin::Ether), ("TUSD", Coin::Token)] {
            let held = ours.iter().map(|address| head.state.balance(coin, &Address::from(address.0)));
            let on_chain = held.fold(0_u128, u128::saturating_add);
            let custody = facts.books.iter().filter(|((ledger, asset), _)| {
                asset.as_str() == code && matches!(ledger, LedgerAccount::House { book: HouseBook::Custody, .. })
            });
            let books = custody.fold(0_i128, |sum, (_, net)| sum.saturating_add(*net));
            if i128::try_from(on_chain).ok() != Some(books) {
                self.diary.violation(format!("at rest the chain holds {on_chain} {code}, the books say {books}"));
            }
        }
    }

    fn operations_are_the_chain(&self) {
        let facts = self.facts.lock();
        for (to, (saga, asset, amount)) in &self.receivers {
            let paid = self.payments.get(to).copied().unwrap_or(0);
            let ending = facts.operations.get(saga).and_then(|operation| operation.ending.as_ref());
            match (ending, paid) {
                (Some(Ending::Completed), 1) | (Some(Ending::Refused(_)), 0) => {}
                (Some(Ending::Completed), 0) if self.came_out_otherwise(saga, Outcome::Succeeded, Outcome::Failed) => {
                    self.diary.sometimes("a settled payment fails when it is mined again");
                }
                (Some(Ending::Refused(_)), 1) if self.came_out_otherwise(saga, Outcome::Failed, Outcome::Succeeded) => {
                    self.diary.sometimes("an impossible payment is made when it is mined again");
                }
                (None, _) => self.diary.violation(format!("at rest {saga} has not ended")),
                (Some(ending), paid) => {
                    self.diary
                        .violation(format!("at rest {saga} over {amount} {asset} is {ending:?}, and is paid {paid} times"));
                }
            }
        }
        let others = facts.operations.iter().filter(|(_, operation)| {
            operation.ending.is_none()
                && matches!(operation.request, Some(Request::Transfer { .. } | Request::Address { .. }))
        });
        for (saga, operation) in others {
            self.diary.violation(format!("at rest {saga} has not ended: {:?}", operation.request));
        }
    }

    /// Whether a reorganisation below finality took back what the payment was settled by, its transaction came out otherwise in another
    /// block, and a human was called for it: who was told that it is final stays told, and only a human can put it right.
    fn came_out_otherwise(&self, saga: &SagaId, first: Outcome, then: Outcome) -> bool {
        let intent = IntentId::of_saga(saga);
        let signed = self.nonces.values().flatten().filter(|known| known.intent == intent);
        let hashes: Vec<B256> = signed.map(|known| known.tx).collect();
        let network = self.network.lock();
        let stands = network.canonical().iter().any(|block| holds(block, &hashes, then));
        stands && stood(&network, &hashes, first) && self.alarms.contains(&(AlarmCode::DeepReorg, intent.to_string()))
    }

    fn deposits_are_the_chain(&self) {
        let facts = self.facts.lock();
        for spendthrift in facts.spendthrifts() {
            self.diary.violation(format!("at rest {spendthrift}"));
        }
        let network = self.network.lock();
        let here: BTreeMap<[u8; 32], u64> = network
            .canonical()
            .iter()
            .flat_map(|block| block.mined.iter().filter(|one| one.succeeded).map(|one| (one.tx.hash.0, block.number)))
            .collect();
        // A transfer of a token has another place in another block: there it is another deposit.
        let stands = |arrived: &&Arrived| matches!(arrived.standing, Standing::Credited | Standing::Quarantined);
        let standing: BTreeSet<[u8; 32]> =
            facts.deposits.values().filter(stands).map(|arrived| arrived.deposit.tx.0).collect();
        for arrived in facts.deposits.values() {
            let there = here.contains_key(&arrived.deposit.tx.0);
            let holds = match arrived.standing {
                Standing::Credited | Standing::Quarantined => there,
                Standing::Gone | Standing::Reversed => !there || standing.contains(&arrived.deposit.tx.0),
                // All that is in a block is final by now.
                Standing::Seen => false,
            };
            if !holds {
                let (tx, standing) = (arrived.deposit.tx, arrived.standing);
                self.diary.violation(format!("at rest deposit {tx} is {standing:?}, on the chain: {there}"));
            }
        }
        let known: std::collections::BTreeSet<[u8; 32]> =
            facts.deposits.values().map(|arrived| arrived.deposit.tx.0).collect();
        for (account, address) in &facts.addresses {
            for (one, coin, amount) in network.paid_to(Address::from(address.0)) {
                if amount > 0 && !known.contains(&one.tx.hash.0) {
                    let tx = one.tx.hash;
                    self.diary.violation(format!("at rest {account} does not know of {amount} {coin:?} by {tx}"));
                }
            }
        }
    }
}

impl Actor for MoneyOracle {
    fn name(&self) -> &str {
        "money oracle"
    }

    fn step(&mut self) -> Step {
        if self.look() { Step::Busy } else { Step::Idle(LOOK) }
    }
}

/// How a transaction came out in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
}

/// Whether the block has one of these, which came out so.
fn holds(block: &Block, hashes: &[B256], outcome: Outcome) -> bool {
    let succeeded = outcome == Outcome::Succeeded;
    block.mined.iter().any(|one| one.succeeded == succeeded && hashes.contains(&one.tx.hash))
}

/// Whether a block that all nodes held for final, and that has left the chain since, had one of these, which came out so.
fn stood(network: &Network, hashes: &[B256], outcome: Outcome) -> bool {
    let gone = network.blocks().filter(|block| network.depth(&block.hash) == 0);
    let mut settled = gone.filter(|block| network.shown_by_all(&block.hash) >= u64::from(CONFIRMATIONS));
    settled.any(|block| holds(block, hashes, outcome))
}

/// What the hot address sent in a block: to whom, which coin, how much, by which transaction.
fn sent(block: &Block, hot: Address) -> impl Iterator<Item = (Address, Coin, u128, B256)> + '_ {
    block.mined.iter().filter(move |one| one.succeeded && one.tx.from == hot).filter_map(|one| match one.tx.pays {
        Pays::Ether { to, wei } => Some((to, Coin::Ether, wei, one.tx.hash)),
        Pays::Token { to, units } => Some((to, Coin::Token, units, one.tx.hash)),
        Pays::Nothing => None,
    })
}

fn coin_of(code: &AssetId) -> Coin {
    if *code == asset("ETH") { Coin::Ether } else { Coin::Token }
}

const fn block(hash: &BlockHash) -> B256 {
    B256::new(hash.0)
}
