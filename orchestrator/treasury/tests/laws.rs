//! Laws of treasury, by enumeration of every (stage, event) and by random histories of a world that repeats, delays and lies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod desk;

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::{Amount, IntentId, TxHash};
use custos_messages::Mail;
use custos_messages::accounts::{AccountsInput, HouseSpent, Inclusion, PaymentNews};
use custos_messages::blockchain::BlockchainCommand;
use custos_messages::treasury::{FeeQuote, SendOutcome, SignRefusal, SpendFact, SpendNews, TreasuryInput};
use custos_messages::wallet::{EthTransaction, WalletCommand};
use custos_saga::machine::{Effects, Machine};
use custos_treasury::{Bump, End, Entity, Key, Stage, Treasury};
use proptest::prelude::*;

use desk::{
    ENVELOPE, Shard, orders, pay, questions, quote, quoted, refused, said, sends, sent_tx, sign_order, signed, spend, spent,
    take, wallet,
};

const OUTCOMES: [SendOutcome; 7] = [
    SendOutcome::InPool,
    SendOutcome::NonceSpent,
    SendOutcome::Underpriced,
    SendOutcome::FeeTooLow,
    SendOutcome::InsufficientFunds,
    SendOutcome::Retry,
    SendOutcome::Invalid,
];
const REFUSALS: [SignRefusal; 10] = [
    SignRefusal::OutsideIntent,
    SignRefusal::OutsideEnvelope,
    SignRefusal::NotApproved,
    SignRefusal::PolicyRefused,
    SignRefusal::IntentTaken,
    SignRefusal::NonceTaken,
    SignRefusal::WeakReplacement,
    SignRefusal::Expired,
    SignRefusal::HouseRefused,
    SignRefusal::UnknownWallet,
];
const NEWS: [SpendNews; 3] = [SpendNews::Seen, SpendNews::Unseen, SpendNews::Final];

/// What the world was asked so far, and what it may say at any time, again and again.
#[derive(Clone, Default)]
struct World {
    questions: Vec<BlockchainCommand>,
    signs: Vec<WalletCommand>,
    sends: Vec<BlockchainCommand>,
}

impl World {
    fn note(&mut self, effects: &Effects) {
        self.questions.extend(questions(effects));
        let signs = orders(effects);
        self.signs.extend(
            signs.into_iter().filter(|command| matches!(command.order, custos_messages::wallet::WalletOrder::Sign(_))),
        );
        self.sends.extend(sends(effects));
        // The world's memory is bounded: the newest of each.
        for _ in 12..self.questions.len() {
            self.questions.remove(0);
        }
    }

    /// Everything that could be said now.
    fn inputs(&self) -> Vec<TreasuryInput> {
        let mut inputs = vec![pay(&take(1, "ETH", 100)), pay(&take(2, "USDX", 100)), pay(&take(3, "ETH", 100))];
        let quotes = [quote(10), quote(50), quote(ENVELOPE), FeeQuote::WouldRevert];
        for question in &self.questions {
            inputs.extend(quotes.iter().map(|quote| quoted(question, quote.clone())));
        }
        for order in &self.signs {
            inputs.push(signed(order));
            inputs.extend(REFUSALS.map(|reason| refused(order, reason)));
        }
        for send in &self.sends {
            inputs.extend(OUTCOMES.map(|outcome| said(send, outcome)));
        }
        let ours = self.sends.iter().map(sent_tx);
        for tx in ours.chain([TxHash([0xee; 32])]).collect::<BTreeSet<_>>() {
            for nonce in 5..8 {
                for news in NEWS {
                    let mut reverted = spent(tx, nonce, news);
                    reverted.succeeded = false;
                    inputs.extend([spend(tx, nonce, news), TreasuryInput::Spend(reverted)]);
                }
            }
        }
        inputs
    }
}

/// A state without what only counts.
fn state(shard: &Shard) -> BTreeMap<Vec<u8>, Vec<u8>> {
    shard.state.iter().map(|(key, entity)| (Treasury::encode_key(key), Treasury::encode_entity(entity))).collect()
}

fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Quoting(_) => "quoting",
        Stage::Signing(_) => "signing",
        Stage::Sent(flight) => match flight.bump {
            Bump::Idle => "sent",
            Bump::Asked(_) => "sent, asked",
            Bump::Ordered(_) => "sent, ordered",
        },
        Stage::Seen(..) => "seen",
        Stage::Parked => "parked",
        Stage::Ended(_) => panic!("an end has a record of its own"),
    }
}

/// Where a payment stands, if that is what the record is of.
fn place(entity: &Entity) -> Option<&'static str> {
    match entity {
        Entity::Payment(payment) => Some(stage_name(&payment.stage)),
        Entity::Closed(closed) => Some(match closed.ended.end {
            End::Final(_) => "final",
            End::Impossible(_) => "impossible",
            End::Refused(_) => "refused",
        }),
        _ => None,
    }
}

#[test]
fn every_event_in_every_reachable_stage_is_answered_and_the_end_is_the_end() {
    let mut start = Shard::open();
    let mut world = World::default();
    world.note(&start.give(pay(&take(1, "USDX", 100))));
    let mut frontier = vec![(start, world)];
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut stages: BTreeSet<&str> = BTreeSet::new();
    let mut steps = 0_usize;
    // Breadth first over kinds of situation: the stages of all payments, the bump, and whether a stranger was final.
    while let Some((shard, world)) = frontier.pop() {
        for input in world.inputs().into_iter().map(Some).chain([None]) {
            let mut next = shard.clone();
            let mut after = world.clone();
            let effects = match input {
                Some(input) => next.give(input),
                None if next.timers.is_empty() => continue,
                None => next.fire(),
            };
            after.note(&effects);
            steps += 1;
            let mut situation = Vec::new();
            for (key, entity) in &next.state {
                let Some(stage) = place(entity) else { continue };
                stages.insert(stage);
                situation.push((
                    stage,
                    matches!(entity, Entity::Payment(payment) if payment.consumed.is_some()),
                    matches!(key, Key::Payment(_, id) if *id == IntentId::noop(&wallet(), 5)),
                ));
                let anew = |before: &custos_treasury::Closed| {
                    matches!(before.purpose, custos_treasury::ClosedPurpose::NoOp { .. })
                        && before.ended.signatures.is_empty()
                };
                if let Some(Entity::Closed(before)) = shard.state.get(key)
                    // A no-op that had no signature begins anew when its nonce is free again.
                    && !(anew(before) && matches!(entity, Entity::Payment(_)))
                {
                    let Entity::Closed(after) = entity else { panic!("{before:?} became {entity:?}") };
                    assert_eq!(before.ended.end, after.ended.end, "an end is the end");
                }
            }
            if known.len() < 220 && known.insert(format!("{situation:?}")) {
                frontier.push((next, after));
            }
        }
    }
    let expected =
        ["final", "impossible", "parked", "quoting", "refused", "seen", "sent", "sent, asked", "sent, ordered", "signing"];
    assert_eq!(stages.into_iter().collect::<Vec<_>>(), expected);
    assert!(steps > 2_000, "{steps}");
}

/// What must hold of everything that was ever ordered and said.
#[derive(Default)]
struct Witness {
    nonces: BTreeMap<IntentId, u64>,
    attempts: BTreeMap<IntentId, Vec<EthTransaction>>,
    orders: BTreeMap<custos_domain::CommandId, WalletCommand>,
    refused_orders: BTreeSet<custos_domain::CommandId>,
    bytes: BTreeMap<custos_domain::CommandId, BlockchainCommand>,
    owners: BTreeMap<u64, IntentId>,
    ends: BTreeMap<Vec<u8>, PaymentNews>,
    ended: BTreeMap<IntentId, PaymentNews>,
}

impl Witness {
    fn watch(&mut self, effects: &Effects) {
        for command in orders(effects) {
            if !matches!(command.order, custos_messages::wallet::WalletOrder::Sign(_)) {
                continue;
            }
            let order = sign_order(&command);
            let intent = order.purpose.intent_id();
            if let Some(before) = self.orders.insert(command.id, command.clone()) {
                assert_eq!(before, command, "one name, one order");
                continue;
            }
            let nonce = *self.nonces.entry(intent).or_insert(order.tx.nonce);
            assert_eq!(nonce, order.tx.nonce, "one nonce per intent");
            let owner = *self.owners.entry(nonce).or_insert(intent);
            let no_op = intent == IntentId::noop(&wallet(), nonce);
            assert!(owner == intent || no_op, "one payment per nonce, and the house's no-op in its place");
            if owner != intent {
                // It takes the nonce from everything that was signed there, and only after the end.
                let end = self.ended.get(&owner);
                assert!(
                    matches!(end, Some(PaymentNews::Impossible(_))),
                    "a no-op in the place of a payment that is {end:?}"
                );
                let tenth = |old: Amount, new: Amount| new.base_units() * 10 >= old.base_units() * 11;
                for earlier in self.attempts.get(&owner).into_iter().flatten() {
                    assert!(tenth(earlier.max_fee_per_gas, order.tx.max_fee_per_gas));
                    assert!(tenth(earlier.max_priority_fee_per_gas, order.tx.max_priority_fee_per_gas));
                }
            }
            assert!(order.tx.fee_max().unwrap() <= Amount::new(ENVELOPE));
            let attempts = self.attempts.entry(intent).or_default();
            for earlier in attempts.iter() {
                let tenth = |old: Amount, new: Amount| new.base_units() * 10 >= old.base_units() * 11;
                assert!(tenth(earlier.max_fee_per_gas, order.tx.max_fee_per_gas));
                assert!(tenth(earlier.max_priority_fee_per_gas, order.tx.max_priority_fee_per_gas));
                assert_eq!((earlier.to, earlier.value, &earlier.data), (order.tx.to, order.tx.value, &order.tx.data));
                assert_eq!(earlier.gas_limit, order.tx.gas_limit);
            }
            attempts.push(order.tx.clone());
        }
        for send in sends(effects) {
            assert_eq!(*self.bytes.entry(send.id).or_insert_with(|| send.clone()), send, "one name, the same bytes");
        }
        for outbound in &effects.messages {
            let Mail::Accounts(AccountsInput::Payment(fact)) = &outbound.message else { continue };
            let intent = IntentId::of_saga(&fact.saga);
            match &fact.news {
                PaymentNews::Refused(_) => {
                    let open = self.orders.values().filter(|order| sign_order(order).purpose.intent_id() == intent);
                    let unanswered = open.filter(|order| !self.refused_orders.contains(&order.id)).count();
                    assert_eq!(unanswered, 0, "refused although an order to sign was not refused");
                }
                PaymentNews::Final(_) | PaymentNews::Impossible(_) => {}
                PaymentNews::Taken | PaymentNews::Signed { .. } | PaymentNews::Seen(_) | PaymentNews::Unseen(_) => continue,
            }
            self.ended.insert(intent, fact.news.clone());
            let end = self.ends.entry(fact.saga.to_bytes().to_vec()).or_insert_with(|| fact.news.clone());
            assert_eq!(*end, fact.news, "one end, for ever");
        }
    }

    /// The guard forgets a pair that was refused: no signature was made for it.
    fn refuse(&mut self, command: &WalletCommand) {
        let order = sign_order(command);
        let intent = order.purpose.intent_id();
        self.refused_orders.insert(command.id);
        let attempts = self.attempts.entry(intent).or_default();
        attempts.retain(|tx| *tx != order.tx);
        if attempts.is_empty() && self.owners.get(&order.tx.nonce) == Some(&intent) {
            self.owners.remove(&order.tx.nonce);
            self.nonces.remove(&intent);
        }
    }
}

/// A signer that answers each order one way only: the law under which treasury works.
fn signer(
    command: &WalletCommand,
    choice: u8,
    answers: &mut BTreeMap<custos_domain::CommandId, TreasuryInput>,
) -> TreasuryInput {
    let first = match choice % 4 {
        0 => refused(
            command,
            [SignRefusal::NotApproved, SignRefusal::Expired, SignRefusal::WeakReplacement][usize::from(choice / 4) % 3],
        ),
        _ => signed(command),
    };
    answers.entry(command.id).or_insert(first).clone()
}

fn check_books(shard: &Shard) {
    let Entity::Wallet(held) = &shard.state[&Key::Wallet(wallet())] else { panic!() };
    let mut native: u128 = 0;
    let mut slots = BTreeSet::new();
    for (key, entity) in &shard.state {
        match (key, entity) {
            (_, Entity::Payment(payment)) => {
                native += payment.outlay.map_or(0, |outlay| outlay.native.base_units());
                let unmined = matches!(payment.stage, Stage::Signing(_) | Stage::Sent(_));
                assert_eq!(payment.outlay.is_some(), unmined, "{:?}", payment.stage);
            }
            (Key::Slot(_, nonce), Entity::Owner(intent)) => {
                slots.insert(*nonce);
                let owner = &shard.state[&Key::Payment(wallet(), *intent)];
                assert_ne!(place(owner), Some("refused"), "a refused payment keeps no nonce");
            }
            _ => {}
        }
        let (name, bytes) = (Treasury::encode_key(key), Treasury::encode_entity(entity));
        assert!(name[0] > 0x0f);
        assert_eq!(Treasury::decode(&name, &bytes).unwrap(), (key.clone(), entity.clone()));
    }
    assert_eq!(held.reserved.get(&desk::asset("ETH")).map_or(0, |amount| amount.base_units()), native);
    let expected: BTreeSet<u64> = (5..held.next_nonce.unwrap_or(5)).collect();
    assert_eq!(slots, expected, "nonces are dense");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_world_says_and_repeats_money_moves_at_most_once(
        choices in prop::collection::vec((0_u8..8, any::<prop::sample::Index>(), any::<u8>()), 1..150),
    ) {
        let (mut shard, mut twin) = (Shard::open(), Shard::open());
        let (mut world, mut witness) = (World::default(), Witness::default());
        let mut answers = BTreeMap::new();
        let mut chain: BTreeMap<u64, TxHash> = BTreeMap::new();
        for (kind, index, choice) in choices {
            let input = match kind {
                0 => pay(&take(1 + choice % 6, if choice % 2 == 0 { "ETH" } else { "USDX" }, 100)),
                1 | 2 if !world.questions.is_empty() => {
                    let fees = [10, 12, 40, ENVELOPE];
                    quoted(index.get(&world.questions), quote(fees[usize::from(choice) % 4]))
                }
                3 | 4 if !world.signs.is_empty() => {
                    let order = index.get(&world.signs);
                    let answer = signer(order, choice, &mut answers);
                    if matches!(answer, TreasuryInput::SignRefused(_)) {
                        witness.refuse(order);
                    }
                    answer
                }
                5 if !world.sends.is_empty() => said(index.get(&world.sends), OUTCOMES[usize::from(choice) % 7]),
                6 if !world.sends.is_empty() => {
                    // The chain takes one transaction per nonce, and says of it: seen, then final.
                    let send = index.get(&world.sends);
                    let custos_messages::blockchain::BlockchainOrder::Send { raw, .. } = &send.order else { panic!() };
                    let order = world.signs.iter().find(|order| desk::bytes(&sign_order(order).tx) == *raw).unwrap();
                    let nonce = sign_order(order).tx.nonce;
                    let tx = *chain.entry(nonce).or_insert(sent_tx(send));
                    let mut fact = spent(tx, nonce, NEWS[usize::from(choice) % 3]);
                    fact.succeeded = !tx.0[0].is_multiple_of(4);
                    TreasuryInput::Spend(fact)
                }
                _ => {
                    if !shard.timers.is_empty() {
                        let effects = shard.fire();
                        prop_assert_eq!(&effects, &twin.fire());
                        world.note(&effects);
                        witness.watch(&effects);
                        check_books(&shard);
                    }
                    continue;
                }
            };
            let effects = shard.give(input.clone());
            prop_assert_eq!(&effects, &twin.give(input.clone()), "a replay says the same");
            world.note(&effects);
            witness.watch(&effects);
            check_books(&shard);
            // The same input once more changes nothing.
            let (before, timers) = (state(&shard), shard.timers.clone());
            let spare = shard.clone();
            let again = shard.give(input.clone());
            prop_assert!(state(&shard) == before, "{:?} changed the state twice: {:?}", input, again);
            prop_assert_eq!(&shard.timers, &timers, "{:?} changed timers twice", input);
            shard = spare;
        }
        prop_assert_eq!(state(&shard), state(&twin));
    }

    #[test]
    fn no_bytes_make_the_codec_panic(key in prop::collection::vec(any::<u8>(), 0..60), value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Treasury::decode(&key, &value);
    }

    #[test]
    fn damaged_records_are_errors_or_other_records_but_never_a_panic(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut shard = Shard::open();
        let taken = shard.give(pay(&take(1, "ETH", 100)));
        let order = orders(&shard.give(quoted(&questions(&taken)[0], quote(10)))).remove(0);
        shard.give(signed(&order));
        for (key, entity) in &shard.state {
            let (name, mut bytes) = (Treasury::encode_key(key), Treasury::encode_entity(entity));
            let place = at.index(bytes.len());
            let _ = Treasury::decode(&name, &bytes[..place]);
            bytes[place] ^= flip;
            let _ = Treasury::decode(&name, &bytes);
        }
    }
}

#[test]
fn a_record_of_a_later_schema_is_refused_by_name() {
    let shard = Shard::open();
    let key = Key::Wallet(wallet());
    let mut bytes = Treasury::encode_entity(&shard.state[&key]);
    bytes[1] = 2;
    let refused = Treasury::decode(&Treasury::encode_key(&key), &bytes);
    assert!(matches!(refused, Err(custos_saga::machine::StateError::Schema { schema: 2, .. })));
}

/// A chain that says of each nonce what it holds, takes it back, and holds something else: one fact at a time, never a lie.
#[derive(Default)]
struct Truth {
    holds: BTreeMap<u64, SpendFact>,
    blocks: u64,
}

impl Truth {
    /// What happens next at `nonce`; `ours` are the bytes that could be mined there.
    fn next(&mut self, nonce: u64, ours: &[TxHash], choice: u8) -> TreasuryInput {
        let mut fact = match self.holds.get(&nonce) {
            Some(held) if choice.is_multiple_of(3) => {
                let gone = SpendFact { news: SpendNews::Unseen, ..held.clone() };
                self.holds.remove(&nonce);
                return TreasuryInput::Spend(gone);
            }
            Some(held) => return TreasuryInput::Spend(SpendFact { news: SpendNews::Final, ..held.clone() }),
            None => {
                let stranger = TxHash([0xee; 32]);
                let tx = if choice.is_multiple_of(5) { &stranger } else { ours.first().unwrap_or(&stranger) };
                spent(*tx, nonce, SpendNews::Seen)
            }
        };
        self.blocks += 1;
        (fact.block, fact.fee) = (desk::at(10 + self.blocks), Amount::new(20 + u128::from(choice)));
        fact.succeeded = !choice.is_multiple_of(4);
        self.holds.insert(nonce, fact.clone());
        TreasuryInput::Spend(fact)
    }
}

/// An inclusion as books hold it: transaction, block, fee, and whether it paid a client's intent.
type Held = (TxHash, u64, u128, bool);

/// The books, kept by what treasury says alone.
#[derive(Default)]
struct Books {
    sagas: BTreeMap<Vec<u8>, (bool, Option<Inclusion>)>,
    house: BTreeMap<u64, HouseSpent>,
}

impl Books {
    fn hear(&mut self, effects: &Effects) {
        for outbound in &effects.messages {
            match &outbound.message {
                Mail::Accounts(AccountsInput::Payment(fact)) => {
                    let (ended, seen) = self.sagas.entry(fact.saga.to_bytes().to_vec()).or_default();
                    if *ended {
                        continue;
                    }
                    match &fact.news {
                        PaymentNews::Seen(now) => *seen = Some(now.clone()),
                        PaymentNews::Unseen(_) => *seen = None,
                        PaymentNews::Final(paid) => (*ended, *seen) = (true, Some(paid.clone())),
                        PaymentNews::Impossible(proof) => {
                            let proof = Inclusion { succeeded: false, ..proof.consumed_by.clone() };
                            (*ended, *seen) = (true, Some(proof));
                        }
                        PaymentNews::Refused(_) => *ended = true,
                        PaymentNews::Taken | PaymentNews::Signed { .. } => {}
                    }
                }
                Mail::Accounts(AccountsInput::HouseSpent(said)) => {
                    let before = self.house.insert(said.nonce, said.clone());
                    assert_eq!(said.version, before.map_or(0, |before| before.version) + 1, "versions are dense");
                }
                _ => {}
            }
        }
    }

    /// What both say together that each nonce holds.
    fn sum(&self) -> BTreeMap<(u64, Held), i32> {
        let mut sum = BTreeMap::new();
        let mut add = |inclusion: &Inclusion, times: i32| {
            let Inclusion { tx, nonce, block, fee, succeeded } = inclusion;
            *sum.entry((*nonce, (*tx, block.number, fee.base_units(), *succeeded))).or_insert(0) += times;
        };
        self.sagas.values().filter_map(|(_, seen)| seen.as_ref()).for_each(|seen| add(seen, 1));
        for said in self.house.values() {
            said.settled.iter().for_each(|settled| add(settled, -1));
            said.now.iter().for_each(|now| add(now, 1));
        }
        sum.retain(|_, times| *times != 0);
        sum
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_chain_takes_back_the_books_of_every_nonce_are_what_it_says(
        choices in prop::collection::vec((0_u8..10, any::<prop::sample::Index>(), any::<u8>()), 1..120),
    ) {
        let mut shard = Shard::open();
        let (mut world, mut truth, mut books) = (World::default(), Truth::default(), Books::default());
        let mut answers = BTreeMap::new();
        // Every transaction that was signed and sent, by nonce: whether it pays a client's intent.
        let mut signed: BTreeMap<(u64, TxHash), bool> = BTreeMap::new();
        for (kind, index, choice) in choices {
            let input = match kind {
                0 => pay(&take(1 + choice % 6, if choice % 2 == 0 { "ETH" } else { "USDX" }, 100)),
                1 | 2 if !world.questions.is_empty() => quoted(index.get(&world.questions), quote(10 + u128::from(choice % 30))),
                3 | 4 if !world.signs.is_empty() => {
                    let command = index.get(&world.signs);
                    let answer = signer(command, choice, &mut answers);
                    if let TreasuryInput::Signed(made) = &answer {
                        let client = !matches!(sign_order(command).purpose, custos_messages::wallet::Purpose::NoOp { .. });
                        signed.insert((made.nonce, made.tx), client);
                    }
                    answer
                }
                5 if !world.sends.is_empty() => said(index.get(&world.sends), OUTCOMES[usize::from(choice) % 7]),
                6..=8 => {
                    let nonce = 5 + u64::from(choice % 4);
                    let ours: Vec<TxHash> = signed.range((nonce, TxHash([0; 32]))..).map_while(|((at, tx), _)| (*at == nonce).then_some(*tx)).collect();
                    truth.next(nonce, &ours, choice)
                }
                _ if shard.timers.is_empty() => continue,
                _ => {
                    let effects = shard.fire();
                    world.note(&effects);
                    books.hear(&effects);
                    continue;
                }
            };
            let effects = shard.give(input);
            world.note(&effects);
            books.hear(&effects);
            let told: BTreeMap<(u64, Held), i32> = truth.holds.values().map(|fact| {
                let pays = fact.succeeded && signed.get(&(fact.nonce, fact.tx)).copied().unwrap_or(false);
                ((fact.nonce, (fact.tx, fact.block.number, fact.fee.base_units(), pays)), 1)
            }).collect();
            prop_assert_eq!(books.sum(), told);
        }
    }
}
