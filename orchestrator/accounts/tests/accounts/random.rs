//! Any order of inputs: never a panic, books that balance, no part below zero, and the same bytes on replay.
//! The fixture checks the invariants after every input.

use std::cell::RefCell;
use std::collections::BTreeSet;

use custos_accounts::Accounts;
use custos_domain::{AccountId, Amount, WalletId};
use custos_messages::accounts::*;
use custos_messages::events::Event;
use custos_saga::machine::Machine;
use custos_testkit as kit;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::bank::*;

/// What the world does next; numbers choose among few names so that inputs meet each other.
#[derive(Clone, Debug)]
enum Move {
    Deposit { who: u8, tx: u8, block: u8, news: u8, units: u8 },
    Screened { clear: bool, stale: bool },
    Withdraw { who: u8, key: u8, code: bool, units: u8 },
    Transfer { who: u8, key: u8, to: u8, units: u8 },
    Payment { who: u8, key: u8, news: u8, block: u8 },
    Decide { who: u8, key: u8, officer: u8, approve: bool },
    Deliver { which: u8 },
    Wake,
    Wait { hours: u8 },
    House { tx: u8, block: u8, news: u8 },
    Spent { version: u8, settled: u8, now: u8, code: bool },
}

fn moves() -> impl Strategy<Value = Move> {
    let (small, coin) = (0_u8..3, any::<bool>());
    prop_oneof![
        3 => (small.clone(), 0_u8..2, small.clone(), small.clone(), 1_u8..9)
            .prop_map(|(who, tx, block, news, units)| Move::Deposit { who, tx, block, news, units }),
        4 => (prop::bool::weighted(0.8), prop::bool::weighted(0.1)).prop_map(|(clear, stale)| Move::Screened { clear, stale }),
        3 => (small.clone(), small.clone(), coin, 0_u8..9).prop_map(|(who, key, code, units)| Move::Withdraw { who, key, code, units }),
        2 => (small.clone(), small.clone(), 0_u8..4, 0_u8..9).prop_map(|(who, key, to, units)| Move::Transfer { who, key, to, units }),
        6 => (small.clone(), small.clone(), 0_u8..8, small.clone()).prop_map(|(who, key, news, block)| Move::Payment { who, key, news, block }),
        2 => (small.clone(), small.clone(), small.clone(), coin).prop_map(|(who, key, officer, approve)| Move::Decide { who, key, officer, approve }),
        3 => any::<u8>().prop_map(|which| Move::Deliver { which }),
        1 => Just(Move::Wake),
        1 => (0_u8..30).prop_map(|hours| Move::Wait { hours }),
        1 => (0_u8..2, small.clone(), small).prop_map(|(tx, block, news)| Move::House { tx, block, news }),
        2 => (0_u8..20, 0_u8..4, 0_u8..4, any::<bool>())
            .prop_map(|(version, settled, now, code)| Move::Spent { version, settled, now, code }),
    ]
}

const NAMES: [&str; 4] = ["ann", "bob", "eve", "nobody"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
const BRANCHES: [&str; 3] = ["main", "fork", "other"];
const NEWS: [DepositNews; 3] = [DepositNews::Seen, DepositNews::Unseen, DepositNews::Final];

struct World {
    bank: Bank,
    mail: Vec<AccountsInput>,
    told: Vec<String>,
}

impl World {
    fn play(&mut self, step: &Move) {
        let index = usize::from;
        let input = match step {
            Move::Deposit { who, tx, block, news, units } => {
                let name = NAMES[index(*who)];
                let amount = kit::ether(&units.to_string());
                let tx = format!("{name} {tx}");
                let fact = arrival(name, "ETH", amount, &tx, kit::block(BRANCHES[index(*block)], 100));
                deposit(&fact, NEWS[index(*news)])
            }
            Move::House { tx, block, news } => {
                let fact = arrival(
                    "house",
                    "ETH",
                    kit::ether("1"),
                    &format!("house {tx}"),
                    kit::block(BRANCHES[index(*block)], 100),
                );
                let account = AccountId::house(&kit::tenant(), 0);
                deposit(&DepositFact { account, ..fact }, NEWS[index(*news)])
            }
            Move::Spent { version, settled, now, code } => spent_of(*version, *settled, *now, *code),
            Move::Screened { clear, stale } => return self.screen(*clear, *stale),
            Move::Withdraw { who, key, code, units } => {
                let code = if *code { "ETH" } else { "TUSD" };
                let amount = if code == "ETH" { kit::ether(&units.to_string()) } else { kit::tusd(&format!("{units}000")) };
                withdraw(NAMES[index(*who)], KEYS[index(*key)], code, amount)
            }
            Move::Transfer { who, key, to, units } => {
                let amount = kit::ether(&units.to_string());
                transfer(NAMES[index(*who)], KEYS[index(*key)], NAMES[index(*to)], "ETH", amount)
            }
            Move::Payment { who, key, news, block } => {
                let saga = kit::saga(NAMES[index(*who)], "withdrawal", KEYS[index(*key)]);
                payment(saga, news_of(*news, BRANCHES[index(*block)]))
            }
            Move::Decide { who, key, officer, approve } => {
                return self.decide(index(*who), index(*key), index(*officer), *approve);
            }
            Move::Deliver { .. } if self.mail.is_empty() => return,
            Move::Deliver { which } => self.mail[index(*which) % self.mail.len()].clone(),
            Move::Wake if self.bank.timers.is_empty() => return,
            Move::Wake => {
                let effects = self.bank.wake();
                return self.post(&effects);
            }
            Move::Wait { hours } => {
                self.bank.context.at = self.bank.context.at.after(custos_domain::Millis::hours(u64::from(*hours)));
                return;
            }
        };
        self.hear(input);
    }

    fn hear(&mut self, input: AccountsInput) {
        let effects = self.bank.tell(input);
        self.post(&effects);
    }

    fn post(&mut self, effects: &custos_saga::machine::Effects) {
        self.told.extend(story(effects));
        for sent in &effects.messages {
            if let custos_messages::Mail::Accounts(message) = &sent.message {
                self.mail.push(message.clone());
            }
        }
    }

    /// Compliance answers the newest question that some saga still waits for, or one that nobody asked.
    fn screen(&mut self, clear: bool, stale: bool) {
        use custos_accounts::state::{Entity, Key};
        let waiting = self.bank.state.iter().find_map(|(key, entity)| match (key, entity) {
            (Key::Saga(id), Entity::Saga(record)) if !self.paying(record) => Some((*id, record.instance.expected?)),
            _ => None,
        });
        let Some((id, command)) = waiting else { return };
        let command = if stale { custos_domain::CommandId([9; 32]) } else { command };
        self.hear(screened(id, command, if clear { Finding::Clear } else { hit() }));
    }

    /// Whether the saga stands at or after its pivot, where nobody is screened.
    fn paying(&self, record: &custos_accounts::state::SagaRecord) -> bool {
        use custos_accounts::state::Case;
        match &record.case {
            Case::Withdrawal(_) => record.instance.step > 3,
            Case::Transfer(_) => record.instance.step > 1,
            Case::Deposit(_) | Case::IssueAddress(_) => false,
        }
    }

    fn decide(&mut self, who: usize, key: usize, officer: usize, approve: bool) {
        use custos_accounts::state::{Case, Entity, Key};
        let id = kit::saga(NAMES[who], "withdrawal", KEYS[key]);
        let Some(Entity::Saga(record)) = self.bank.state.get(&Key::Saga(id)) else { return };
        let Case::Withdrawal(case) = &record.case else { return };
        let verdict = if approve { Verdict::Approve } else { Verdict::Reject };
        let decision = kit::decision(id, &case.intent.clone(), kit::OFFICERS[officer], verdict);
        self.hear(AccountsInput::Decide(decision));
    }
}

/// Any word about the one nonce of this world, old ones included.
fn spent_of(version: u8, settled: u8, now: u8, code: bool) -> AccountsInput {
    let mined = |which: u8| {
        let branch = BRANCHES.get(usize::from(which))?;
        Some(inclusion("pay", branch, kit::ether(&format!("0.00{}", which + 1)), which > 0))
    };
    let (asset, amount) = if code { ("ETH", kit::ether("1")) } else { ("TUSD", kit::tusd("1000")) };
    AccountsInput::HouseSpent(HouseSpent {
        wallet: WalletId::omnibus(&kit::tenant(), &kit::chain()),
        chain: kit::chain(),
        nonce: 0,
        version: u64::from(version),
        gas_asset: kit::asset("ETH"),
        payment: Some(PaidFor { saga: kit::saga("ann", "withdrawal", "k1"), asset: kit::asset(asset), amount }),
        settled: mined(settled),
        now: mined(now),
    })
}

fn news_of(kind: u8, branch: &str) -> PaymentNews {
    let mined = |succeeded| inclusion("pay", branch, kit::ether("0.003"), succeeded);
    match kind {
        0 => PaymentNews::Taken,
        1 => PaymentNews::Refused(PaymentRefusal::WalletShort),
        2 => signature("pay", 1),
        3 => signature("pay", 2),
        4 => PaymentNews::Seen(mined(true)),
        5 => PaymentNews::Unseen(mined(true)),
        6 => PaymentNews::Final(mined(true)),
        _ => PaymentNews::Impossible(Proof { consumed_by: mined(false) }),
    }
}

/// What random orders must reach now and then to be worth anything: endings, parkings and reversals by name.
const SOMETIMES: [&str; 14] = [
    "ended Completed",
    "ended Refused(Screening",
    "ended Refused(Rejected)",
    "ended Refused(TimedOut",
    "ended Refused(Payment",
    "ended Refused(Impossible)",
    "ended Refused(Unseen)",
    "ended Refused(ReceiverRefused)",
    "parked at await-finality: refused-after-signature",
    "parked at pay: mined-before-signed",
    "DepositReversed",
    "DepositQuarantined",
    "HouseSpent @",
    "HouseUnspent @",
];

#[test]
fn whatever_happens_the_books_balance_and_a_replay_gives_the_same_bytes() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let reached = RefCell::new(BTreeSet::new());
    let played = TestRunner::new_with_rng(config, rng).run(&prop::collection::vec(moves(), 1..80), |script| {
        let mut world = World { bank: Bank::funded(), mail: Vec::new(), told: Vec::new() };
        world.hear(open("eve"));
        script.iter().for_each(|step| world.play(step));
        let hits = SOMETIMES.into_iter().filter(|name| world.told.iter().any(|line| line.starts_with(name)));
        reached.borrow_mut().extend(hits);
        let (state, events) = replay(&world.bank);
        prop_assert_eq!(bytes(&state), bytes(&world.bank.state));
        prop_assert_eq!(&events, &world.bank.events);
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
    let missed: Vec<&str> = SOMETIMES.into_iter().filter(|name| !reached.borrow().contains(name)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

fn replay(bank: &Bank) -> (State, Vec<Event>) {
    let (mut state, mut events) = (State::new(), Vec::new());
    for (input, context) in &bank.inputs {
        let (next, effects) = apply(&state, input.clone(), context);
        state = next;
        events.extend(effects.events);
    }
    (state, events)
}

fn bytes(state: &State) -> Vec<(Vec<u8>, Vec<u8>)> {
    state.iter().map(|(key, entity)| (Accounts::encode_key(key), Accounts::encode_entity(entity))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strange_bytes_are_an_error(key in prop::collection::vec(any::<u8>(), 0..80), value in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((key, entity)) = Accounts::decode(&key, &value) {
            let again = Accounts::decode(&Accounts::encode_key(&key), &Accounts::encode_entity(&entity)).unwrap();
            prop_assert_eq!(again, (key, entity));
        }
    }

    #[test]
    fn an_amount_that_does_not_fit_is_refused_and_changes_nothing(units in any::<u128>(), fee in any::<u128>()) {
        let mut bank = Bank::funded();
        let AccountsInput::RequestWithdrawal(request) = withdraw("ann", "w1", "ETH", Amount::new(units)) else { panic!() };
        bank.tell(AccountsInput::RequestWithdrawal(RequestWithdrawal { fee_max: Amount::new(fee), ..request }));
    }
}
