//! Withdrawals: given an account, an input, expect these events and messages.

use custos_domain::{CommandId, SagaId};
use custos_messages::accounts::*;
use custos_messages::events::HouseBook;
use custos_testkit as kit;

use crate::bank::*;

fn id() -> SagaId {
    kit::saga("ann", "withdrawal", "w1")
}

/// A withdrawal of 1 ETH that treasury has signed.
fn signed_payment() -> Bank {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    bank.clear();
    bank.tell(payment(id(), PaymentNews::Taken));
    bank.tell(payment(id(), signature("pay", 1)));
    bank
}

fn eth(bank: &Bank) -> (String, String) {
    let part = bank.balances("ann", "ETH");
    (part.available.to_decimal(18), part.held.to_decimal(18))
}

fn pair(available: &str, held: &str) -> (String, String) {
    (available.to_owned(), held.to_owned())
}

#[test]
fn a_small_withdrawal_is_held_screened_paid_and_settled() {
    let mut bank = Bank::funded();
    let told = story(&bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1"))));
    assert_eq!(
        told,
        [
            "started",
            "Hold: Dr Available 1.01 ETH, Cr Held 1.01 ETH",
            "hold-funds done",
            "screen asked",
            "> screen Out, sent 0 in 0, ahead",
            "arm",
            "reply accepted",
        ]
    );
    let told = story(&bank.clear());
    let expected = [
        "screen answered, clear true",
        "screen done",
        "pay asked",
        "> pay 1000000000000000000 ETH, 0 approvals",
        "disarm",
        "arm",
    ];
    assert_eq!(told, expected);
    assert_eq!(story(&bank.tell(payment(id(), PaymentNews::Taken))), ["PaymentTaken"]);
    let told = story(&bank.tell(payment(id(), signature("pay", 1))));
    let expected =
        ["PaymentSigned", "pay done", "await-finality asked", "> pay 1000000000000000000 ETH, 0 approvals", "disarm", "arm"];
    assert_eq!(told, expected);
    let mined = inclusion("pay", "main", kit::ether("0.002"), true);
    let told = story(&bank.tell(payment(id(), PaymentNews::Seen(mined.clone()))));
    assert_eq!(told, ["PaymentSeen @120: Dr House InFlight 1.002 ETH, Cr House Custody 1.002 ETH", "PaymentSeen"]);
    let told = story(&bank.tell(payment(id(), PaymentNews::Final(mined))));
    assert_eq!(
        told,
        [
            "PaymentFinal",
            "await-finality done",
            "PaymentSettled: Dr Held 1.01 ETH, Cr House InFlight 1.002 ETH, Cr Available 0.008 ETH",
            "settle done",
            "ended Completed",
            "disarm",
        ]
    );
    assert_eq!(eth(&bank), pair("8.998", "0"));
    assert!(bank.timers.is_empty());
}

/// What the one withdrawal there is pays.
fn intent_of(bank: &Bank) -> custos_domain::Intent {
    let saga = |entity: &custos_accounts::state::Entity| match entity {
        custos_accounts::state::Entity::Saga(record) => Some(record.case.clone()),
        _ => None,
    };
    match bank.state.values().find_map(saga) {
        Some(custos_accounts::state::Case::Withdrawal(case)) => case.intent,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_withdrawal_waits_for_two_officers_and_is_screened_again() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    assert_eq!(story(&bank.clear())[2..], ["ApprovalAsked", "approve asked", "disarm", "arm"]);
    let intent = intent_of(&bank);
    let decide = |officer, verdict| AccountsInput::Decide(kit::decision(id(), &intent, officer, verdict));
    let anna = decide("anna", Verdict::Approve);
    assert_eq!(story(&bank.tell(anna.clone())), ["anna Approve", "reply accepted"]);
    assert_eq!(story(&bank.tell(anna.clone())), ["dropped repeat", "reply accepted"], "one officer counts once");
    let AccountsInput::Decide(mut forged) = decide("bert", Verdict::Approve) else { panic!() };
    forged.officer = kit::decision(id(), &intent, "cora", Verdict::Approve).officer;
    assert_eq!(story(&bank.tell(AccountsInput::Decide(forged))), ["reply BadDecision"]);
    let told = story(&bank.tell(decide("bert", Verdict::Approve)));
    let expected = [
        "bert Approve",
        "approve done",
        "screen-again asked",
        "> screen Out, sent 0 in 0, ahead",
        "disarm",
        "arm",
        "reply accepted",
    ];
    assert_eq!(told, expected);
    assert_eq!(story(&bank.tell(anna)), ["dropped repeat", "reply accepted"], "an answer may be lost: the same again");
    assert!(story(&bank.clear()).contains(&"> pay 6000000000000000000 ETH, 2 approvals".to_owned()));
    let late = decide("cora", Verdict::Reject);
    assert_eq!(story(&bank.tell(late)), ["reply NothingToDecide"]);
}

#[test]
fn an_approval_under_a_key_that_the_policy_no_longer_has_does_not_count_and_can_be_given_anew() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    bank.clear();
    let intent = intent_of(&bank);
    let decide = |officer| AccountsInput::Decide(kit::decision(id(), &intent, officer, Verdict::Approve));
    bank.tell(decide("anna"));
    // Anna's key is changed: by chance it is the one that dora has.
    let mut next = kit::policy();
    next.version = 2;
    let key = kit::officer_key("dora").verifying_key().to_bytes();
    next.officers.insert(custos_domain::OfficerId::new("anna").unwrap(), key);
    bank.tell(AccountsInput::Policy(signed(&next)));
    let told = story(&bank.tell(decide("bert")));
    assert_eq!(told, ["bert Approve", "reply accepted"], "the signer would not count anna's");
    let AccountsInput::Decide(mut anew) = decide("dora") else { panic!() };
    anew.officer = custos_domain::OfficerId::new("anna").unwrap();
    let told = story(&bank.tell(AccountsInput::Decide(anew)));
    assert_eq!(told[..2], ["anna Approve", "approve done"]);
}

#[test]
fn an_officer_who_says_it_again_finds_that_fewer_are_asked_for_by_now() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    bank.clear();
    let anna = AccountsInput::Decide(kit::decision(id(), &intent_of(&bank), "anna", Verdict::Approve));
    bank.tell(anna.clone());
    let next = custos_policy::Policy { version: 2, quorum: 1, ..kit::policy() };
    bank.tell(AccountsInput::Policy(signed(&next)));
    assert_eq!(story(&bank.tell(anna))[0], "approve done");
}

#[test]
fn a_rejection_a_hit_and_silence_give_the_hold_back() {
    let release = "Release: Dr Held 6.01 ETH, Cr Available 6.01 ETH";
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    let told = story(&bank.screened(hit()));
    assert_eq!(told[0], "screen answered, clear false");
    assert_eq!(told[1..3], [release, "hold-funds undone"]);
    assert!(told[3].starts_with("ended Refused(Screening"));
    assert_eq!(eth(&bank), pair("10", "0"));

    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    let told = story(&bank.wake());
    assert_eq!(told, [release, "hold-funds undone", "ended Refused(TimedOut { step: \"screen\" })"]);

    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("6")));
    bank.clear();
    assert_eq!(story(&bank.wake())[2], "ended Refused(TimedOut { step: \"approve\" })");
    assert_eq!(eth(&bank), pair("10", "0"));
}

#[test]
fn treasurys_no_before_a_signature_releases_and_after_one_parks() {
    let no = |bank: &mut Bank| story(&bank.tell(payment(id(), PaymentNews::Refused(PaymentRefusal::FeeAboveEnvelope))));
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    bank.clear();
    bank.tell(payment(id(), PaymentNews::Taken));
    let told = no(&mut bank);
    let expected = [
        "Release: Dr Held 1.01 ETH, Cr Available 1.01 ETH",
        "hold-funds undone",
        "ended Refused(Payment(FeeAboveEnvelope))",
        "disarm",
    ];
    assert_eq!(told, expected);
    assert_eq!(no(&mut bank), ["dropped ended"]);

    let mut bank = signed_payment();
    let told = no(&mut bank);
    assert_eq!(told, ["parked at await-finality: refused-after-signature", "alarm SagaParked", "disarm"]);
    assert_eq!(eth(&bank), pair("8.99", "1.01"), "nothing is released without proof");
}

#[test]
fn silence_at_and_after_the_pivot_sends_the_same_payment_again_and_never_unwinds() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    let first = bank.clear().messages;
    for _ in 0..3 {
        let again = bank.wake();
        assert_eq!((again.messages.clone(), story(&again).len()), (first.clone(), 2));
    }
    bank.tell(payment(id(), signature("pay", 1)));
    for _ in 0..3 {
        assert_eq!(bank.wake().messages, first);
    }
    assert_eq!(eth(&bank), pair("8.99", "1.01"));
}

#[test]
fn a_payment_that_moves_to_another_block_and_another_attempt_stands_once_in_the_books() {
    let mut bank = signed_payment();
    let first = inclusion("pay", "main", kit::ether("0.002"), true);
    bank.tell(payment(id(), PaymentNews::Seen(first.clone())));
    assert_eq!(story(&bank.tell(payment(id(), PaymentNews::Seen(first.clone())))), ["dropped repeat"]);
    let told = story(&bank.tell(payment(id(), PaymentNews::Unseen(first.clone()))));
    assert_eq!(told, ["PaymentUnseen @120: Cr House InFlight 1.002 ETH, Dr House Custody 1.002 ETH", "PaymentUnseen"]);
    assert_eq!(story(&bank.tell(payment(id(), PaymentNews::Unseen(first)))), ["dropped not-seen"]);
    assert_eq!(story(&bank.tell(payment(id(), signature("pay-2", 2)))), ["PaymentSigned"]);
    assert_eq!(story(&bank.tell(payment(id(), signature("pay-2", 2)))), ["dropped repeat"]);
    let second = inclusion("pay-2", "fork", kit::ether("0.003"), true);
    bank.tell(payment(id(), PaymentNews::Final(second)));
    assert_eq!(eth(&bank), pair("8.997", "0"));
    assert_eq!(bank.house(HouseBook::InFlight, "ETH"), Default::default());
    assert_eq!(bank.house(HouseBook::Custody, "ETH").debit, kit::ether("8.997"));
}

#[test]
fn an_impossible_payment_is_released_in_full_and_its_gas_is_the_houses() {
    let proof = |tx: &str| PaymentNews::Impossible(Proof { consumed_by: inclusion(tx, "main", kit::ether("0.002"), false) });
    // Our own transaction, reverted: it was seen before.
    let mut bank = signed_payment();
    let reverted = inclusion("pay", "main", kit::ether("0.002"), false);
    let told = story(&bank.tell(payment(id(), PaymentNews::Seen(reverted))));
    assert_eq!(told, ["HouseGas @120: Dr House Gas 0.002 ETH, Cr House Custody 0.002 ETH", "PaymentSeen"]);
    let told = story(&bank.tell(payment(id(), proof("pay"))));
    assert_eq!(
        told,
        [
            "PaymentImpossible",
            "await-finality done",
            "Release: Dr Held 1.01 ETH, Cr Available 1.01 ETH",
            "settle done",
            "ended Refused(Impossible)",
            "disarm",
        ]
    );
    assert_eq!(eth(&bank), pair("10", "0"));
    // Another transaction consumed the nonce, while ours still stood in a block that is gone.
    let mut bank = signed_payment();
    bank.tell(payment(id(), PaymentNews::Seen(inclusion("pay", "fork", kit::ether("0.002"), true))));
    bank.tell(payment(id(), proof("no-op")));
    assert_eq!(eth(&bank), pair("10", "0"));
    assert_eq!(bank.house(HouseBook::InFlight, "ETH"), Default::default());
    assert_eq!(bank.house(HouseBook::Gas, "ETH").debit, kit::ether("0.002"));
    assert_eq!(bank.house(HouseBook::Custody, "ETH").debit, kit::ether("9.998"));
}

#[test]
fn the_gas_of_a_token_is_the_houses_and_the_client_holds_only_the_amount() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "TUSD", kit::tusd("100")));
    bank.clear();
    bank.tell(payment(id(), signature("pay", 1)));
    let mined = inclusion("pay", "main", kit::ether("0.004"), true);
    let told = story(&bank.tell(payment(id(), PaymentNews::Seen(mined.clone()))));
    assert_eq!(
        told,
        [
            "PaymentSeen @120: Dr House InFlight 100 TUSD, Cr House Custody 100 TUSD",
            "HouseGas @120: Dr House Gas 0.004 ETH, Cr House Custody 0.004 ETH",
            "PaymentSeen",
        ]
    );
    let told = story(&bank.tell(payment(id(), PaymentNews::Final(mined))));
    assert_eq!(told[2], "PaymentSettled: Dr Held 100 TUSD, Cr House InFlight 100 TUSD");
    assert_eq!(bank.balances("ann", "TUSD").available, kit::tusd("19900"));
    assert_eq!(eth(&bank), pair("10", "0"));
}

#[test]
fn what_was_sent_in_the_last_day_is_told_to_compliance_and_what_was_refused_is_not() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    let told = story(&bank.tell(withdraw("ann", "w2", "ETH", kit::ether("2"))));
    assert!(told.contains(&"> screen Out, sent 1000000000000000000 in 1, ahead".to_owned()), "{told:?}");
    bank.screened(hit());
    let told = story(&bank.tell(transfer("ann", "t1", "bob", "ETH", kit::ether("2"))));
    assert!(told.contains(&"> screen Internal, sent 1000000000000000000 in 1, ahead".to_owned()), "{told:?}");
    bank.context.at = bank.context.at.after(custos_domain::Millis::hours(26));
    let told = story(&bank.tell(withdraw("ann", "w3", "ETH", kit::ether("1"))));
    assert!(told.contains(&"> screen Out, sent 0 in 0, ahead".to_owned()), "{told:?}");
}

#[test]
fn an_answer_to_another_question_and_a_timer_of_an_old_one_are_of_no_use() {
    let mut bank = Bank::funded();
    bank.tell(withdraw("ann", "w1", "ETH", kit::ether("1")));
    let (timer, due) = bank.timers.first_key_value().map(|(id, due)| (id.clone(), *due)).unwrap();
    let other = screened(id(), CommandId([7; 32]), Finding::Clear);
    assert_eq!(story(&bank.tell(other)), ["dropped stale-reply"]);
    let early = custos_saga::machine::Cause::Timer(timer.clone());
    assert_eq!(story(&bank.hear(early.clone())), ["arm", "dropped early-timer"]);
    bank.clear();
    bank.context.at = due;
    assert_eq!(story(&bank.hear(early)), ["dropped stale-timer"]);
    let lost = payment(kit::saga("ann", "withdrawal", "none"), PaymentNews::Taken);
    assert_eq!(story(&bank.tell(lost)), ["dropped unknown-saga"]);
}
