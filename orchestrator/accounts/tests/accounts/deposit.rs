//! Deposits: given facts of the chain and of compliance, expect credits, quarantine, and visible reversals.

use custos_accounts::state::Balances;
use custos_domain::{AccountId, Amount, BlockRef};
use custos_messages::accounts::*;
use custos_messages::events::HouseBook;
use custos_testkit as kit;

use crate::bank::*;

fn fact(block: BlockRef) -> DepositFact {
    arrival("ann", "ETH", kit::ether("2"), "salary", block)
}

fn main_block() -> DepositFact {
    fact(kit::block("main", 100))
}

fn available(bank: &Bank) -> String {
    bank.balances("ann", "ETH").available.to_decimal(18)
}

#[test]
fn a_deposit_is_pending_until_it_is_screened_and_final_in_either_order() {
    let mut bank = Bank::open();
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Seen)));
    assert_eq!(
        told,
        [
            "started",
            "DepositSeen @100: Dr House Custody 2 ETH, Cr Pending 2 ETH",
            "DepositSeen",
            "record done",
            "screen asked",
            "> screen In, sent 0 in 0, ahead",
            "arm",
        ]
    );
    let told = story(&bank.clear());
    assert_eq!(told, ["screen answered, clear true", "screen done", "await-finality asked", "disarm"]);
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Final)));
    let credited = ["DepositCredited: Dr Pending 2 ETH, Cr Available 2 ETH", "credit done", "DepositCredited", "tell done"];
    assert_eq!(told[0], "await-finality done");
    assert_eq!(told[1..5], credited);
    assert_eq!(told[5..], ["ended Completed"]);

    let mut bank = Bank::open();
    bank.tell(deposit(&main_block(), DepositNews::Seen));
    assert_eq!(story(&bank.tell(deposit(&main_block(), DepositNews::Final))).len(), 0, "screening comes first");
    assert_eq!(available(&bank), "0");
    assert_eq!(story(&bank.clear())[2..6], credited);
    assert_eq!(available(&bank), "2");
}

#[test]
fn without_an_answer_the_screening_is_asked_again_and_nothing_is_credited() {
    let mut bank = Bank::open();
    let first = bank.tell(deposit(&main_block(), DepositNews::Seen)).commands;
    bank.tell(deposit(&main_block(), DepositNews::Final));
    for _ in 0..5 {
        assert_eq!(bank.wake().commands, first, "the same question");
        assert_eq!(available(&bank), "0");
    }
}

#[test]
fn a_refused_source_ends_frozen() {
    let mut bank = Bank::open();
    bank.tell(deposit(&main_block(), DepositNews::Seen));
    bank.screened(hit());
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Final)));
    assert_eq!(told[1], "DepositQuarantined: Dr Pending 2 ETH, Cr Frozen 2 ETH");
    assert_eq!(told[3], "DepositQuarantined");
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Unseen)));
    assert_eq!(told[0], "DepositReversed @100: Dr Frozen 2 ETH, Cr House Custody 2 ETH");
}

#[test]
fn a_deposit_that_leaves_before_the_credit_goes_silently_and_may_come_back() {
    let mut bank = Bank::open();
    bank.tell(deposit(&main_block(), DepositNews::Seen));
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Unseen)));
    assert_eq!(
        told,
        [
            "DepositUnseen @100: Cr House Custody 2 ETH, Dr Pending 2 ETH",
            "DepositUnseen",
            "record undone",
            "ended Refused(Unseen)",
            "disarm",
        ]
    );
    let fork = fact(kit::block("fork", 100));
    assert_eq!(story(&bank.tell(deposit(&fork, DepositNews::Seen)))[0], "started");
    bank.tell(deposit(&fork, DepositNews::Unseen));
    assert_eq!(story(&bank.tell(deposit(&main_block(), DepositNews::Seen)))[0], "started", "back in its first block");
    bank.clear();
    bank.tell(deposit(&main_block(), DepositNews::Final));
    assert_eq!(available(&bank), "2");
}

#[test]
fn facts_that_repeat_or_come_from_nowhere_are_of_no_use() {
    let mut bank = Bank::open();
    let told = |bank: &mut Bank, news| story(&bank.tell(deposit(&main_block(), news)));
    assert_eq!(told(&mut bank, DepositNews::Unseen), ["dropped unseen-before-seen"]);
    told(&mut bank, DepositNews::Seen);
    assert_eq!(told(&mut bank, DepositNews::Seen), ["dropped repeat"]);
    bank.clear();
    told(&mut bank, DepositNews::Final);
    assert_eq!(told(&mut bank, DepositNews::Final), ["dropped repeat"]);
    assert_eq!(told(&mut bank, DepositNews::Seen), ["dropped repeat"]);
    let stranger = arrival("eve", "ETH", kit::ether("1"), "stray", kit::block("main", 100));
    assert_eq!(story(&bank.tell(deposit(&stranger, DepositNews::Seen))), ["dropped unknown-account"]);
    let other = fact(kit::block("fork", 100));
    assert_eq!(story(&bank.tell(deposit(&other, DepositNews::Unseen))), ["dropped other-block"]);
}

#[test]
fn a_deposit_that_leaves_after_the_credit_is_reversed_visibly_and_credited_anew_when_mined_again() {
    let mut bank = Bank::open();
    bank.deposit("ann", "ETH", kit::ether("2"), "salary");
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Unseen)));
    let expected =
        ["DepositReversed @100: Dr Available 2 ETH, Cr House Custody 2 ETH", "DepositReversed", "alarm DeepReorg"];
    assert_eq!(told, expected);
    assert_eq!(story(&bank.tell(deposit(&main_block(), DepositNews::Unseen))), ["dropped repeat"]);
    let fork = fact(kit::block("fork", 101));
    bank.tell(deposit(&fork, DepositNews::Seen));
    bank.clear();
    bank.tell(deposit(&fork, DepositNews::Final));
    assert_eq!(available(&bank), "2");
}

#[test]
fn a_reversal_leaves_what_is_held_alone_and_the_rest_is_owed() {
    let mut bank = Bank::open();
    bank.deposit("ann", "ETH", kit::ether("2"), "salary");
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1.5")));
    let told = story(&bank.tell(deposit(&main_block(), DepositNews::Unseen)));
    assert_eq!(told[0], "DepositReversed @100: Dr Available 0.49 ETH, Dr House Suspense 1.51 ETH, Cr House Custody 2 ETH");
    assert_eq!(bank.balances("ann", "ETH").held, kit::ether("1.51"));
    // Mined again: what is owed is settled before the client gets anything.
    let fork = fact(kit::block("fork", 101));
    bank.tell(deposit(&fork, DepositNews::Seen));
    bank.clear();
    bank.tell(deposit(&fork, DepositNews::Final));
    assert_eq!(available(&bank), "0.49");
    assert_eq!(bank.house(HouseBook::Suspense, "ETH"), Default::default());
}

/// What ann owes after a deposit of 2 ether left the chain while 1.51 of them were held.
fn in_debt() -> Bank {
    let mut bank = Bank::open();
    bank.deposit("ann", "ETH", kit::ether("2"), "salary");
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1.5")));
    bank.tell(deposit(&main_block(), DepositNews::Unseen));
    assert_eq!(bank.balances("ann", "ETH").owed, kit::ether("1.51"));
    bank
}

#[test]
fn what_is_owed_is_collected_from_what_a_refused_withdrawal_gives_back() {
    let mut bank = in_debt();
    let told = story(&bank.screened(hit()));
    let given_back = told.iter().position(|line| line.starts_with("Release")).unwrap();
    assert_eq!(told[given_back + 1], "ShortageCollected: Dr Available 1.51 ETH, Cr House Suspense 1.51 ETH");
    assert_eq!(bank.balances("ann", "ETH"), Balances::default());
    assert_eq!(bank.house(HouseBook::Suspense, "ETH"), Default::default());
}

#[test]
fn what_is_owed_is_collected_from_any_other_deposit() {
    let mut bank = in_debt();
    // The same transaction in another block, where its transfer has another place: that is another deposit.
    let fork = fact(kit::block("fork", 101));
    let elsewhere = DepositFact { deposit: Deposit { index: 7, ..fork.deposit.clone() }, ..fork };
    bank.tell(deposit(&elsewhere, DepositNews::Seen));
    bank.clear();
    bank.tell(deposit(&elsewhere, DepositNews::Final));
    assert_eq!(bank.balances("ann", "ETH").owed, Amount::ZERO);
    assert_eq!(available(&bank), "0.49");
    assert_eq!(bank.house(HouseBook::Suspense, "ETH"), Default::default());
}

#[test]
fn a_deposit_of_an_asset_that_the_policy_lists_no_more_is_still_reversed() {
    let mut bank = Bank::open();
    bank.deposit("ann", "TUSD", kit::tusd("2"), "salary");
    let mut next = kit::policy();
    next.version = 2;
    next.assets.remove(&kit::asset("TUSD"));
    bank.tell(AccountsInput::Policy(signed(&next)));
    let paid = arrival("ann", "TUSD", kit::tusd("2"), "salary", kit::block("main", 100));
    assert_eq!(story(&bank.tell(deposit(&paid, DepositNews::Unseen)))[1], "DepositReversed");
    assert_eq!(bank.balances("ann", "TUSD").available, Amount::ZERO);
    let other = arrival("ann", "TUSD", kit::tusd("2"), "gift", kit::block("main", 100));
    assert_eq!(story(&bank.tell(deposit(&other, DepositNews::Seen))), ["dropped not-a-deposit"]);
}

#[test]
fn a_deposit_in_a_new_block_replaces_the_old_one_even_if_nobody_said_that_it_left() {
    let mut bank = Bank::open();
    bank.tell(deposit(&main_block(), DepositNews::Seen));
    let told = story(&bank.tell(deposit(&fact(kit::block("fork", 100)), DepositNews::Seen)));
    assert_eq!(told[0], "DepositUnseen @100: Cr House Custody 2 ETH, Dr Pending 2 ETH");
    assert!(told.contains(&"DepositSeen @100: Dr House Custody 2 ETH, Cr Pending 2 ETH".to_owned()));
    assert_eq!(bank.balances("ann", "ETH").pending, kit::ether("2"));
}

#[test]
fn the_houses_own_money_is_funding_once_it_is_final_and_is_not_screened() {
    let mut bank = Bank::open();
    let house = DepositFact { account: AccountId::house(&kit::tenant(), 0), ..main_block() };
    let told = story(&bank.tell(deposit(&house, DepositNews::Seen)));
    assert_eq!(told[1], "DepositSeen @100: Dr House Custody 2 ETH, Cr House Suspense 2 ETH");
    assert!(bank.screen.is_none());
    let told = story(&bank.tell(deposit(&house, DepositNews::Final)));
    assert_eq!(told[1], "DepositCredited: Dr House Suspense 2 ETH, Cr House Funding 2 ETH");
    assert_eq!(bank.house(HouseBook::Funding, "ETH").credit, kit::ether("2"));
    let told = story(&bank.tell(deposit(&house, DepositNews::Unseen)));
    assert_eq!(told[0], "DepositReversed @100: Dr House Funding 2 ETH, Cr House Custody 2 ETH");
}
