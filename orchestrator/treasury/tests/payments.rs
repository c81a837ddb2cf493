//! Given a payment somewhere in its life, when something happens, expect commands and news.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod desk;

use custos_domain::{Amount, EthAddress, IntentId, TxHash};
use custos_messages::Mail;
use custos_messages::accounts::AccountsInput;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{ChainMark, FeeQuote, SendOutcome, SignRefusal, SpendNews, TreasuryInput};
use custos_messages::wallet::{Purpose as SignPurpose, WalletCommand};
use custos_saga::machine::Machine;
use custos_treasury::{End, Entity, Hot, Key, Stage, Treasury};

use desk::{
    ENVELOPE, HOT, Shard, TOKEN, at, chain, derived, orders, pay, policy, questions, quote, quoted, refused, said, sends,
    sent_tx, sign_order, signed, signed_policy, spend, spent, take, wallet, words,
};

fn first(n: u8) -> IntentId {
    take(n, "ETH", 100).intent.id
}

/// The `n`th payment of 100 wei, up to its order to sign.
fn ordered(shard: &mut Shard, n: u8, code: &str) -> WalletCommand {
    let taken = shard.give(pay(&take(n, code, 100)));
    assert_eq!(words(&taken), ["taken"]);
    let quoted = shard.give(quoted(&questions(&taken)[0], quote(10)));
    orders(&quoted).remove(0)
}

/// Up to its first bytes at the node.
fn airborne(shard: &mut Shard, n: u8, code: &str) -> BlockchainCommand {
    let order = ordered(shard, n, code);
    let effects = shard.give(signed(&order));
    sends(&effects).remove(0)
}

#[test]
fn a_payment_goes_from_question_to_final_with_one_nonce_and_the_same_bytes() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let tx = &sign_order(&order).tx;
    assert_eq!((tx.nonce, tx.to, tx.value, tx.chain_number), (5, EthAddress([1; 20]), Amount::new(100), 31337));
    let effects = shard.give(signed(&order));
    assert_eq!(words(&effects), ["signed 1 at 5"]);
    let send = sends(&effects).remove(0);
    assert_eq!(words(&shard.give(said(&send, SendOutcome::InPool))), [""; 0]);
    assert_eq!(sends(&shard.fire()), std::slice::from_ref(&send), "the same bytes under the same name");
    assert_eq!(words(&shard.give(said(&send, SendOutcome::NonceSpent))), [""; 0]);
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Seen))), ["seen"]);
    assert!(shard.timers.keys().all(|timer| timer.0[0] != 3), "in a block nothing is sent");
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Final))), ["final"]);
    assert!(matches!(shard.end(first(1)), End::Final(_)));
    assert_eq!(words(&shard.give(pay(&take(1, "ETH", 100)))), ["final"], "a repeat is answered with the latest news");
    let Entity::Wallet(held) = &shard.state[&Key::Wallet(wallet())] else { panic!() };
    assert!(held.reserved.is_empty());
}

#[test]
fn a_token_is_paid_by_a_call_of_its_contract() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "USDX");
    let tx = &sign_order(&order).tx;
    assert_eq!((tx.to, tx.value), (TOKEN, Amount::ZERO));
    assert_eq!(tx.data.len(), 68);
    assert!(matches!(&sign_order(&order).purpose, SignPurpose::Pay { intent, .. } if intent.amount == Amount::new(100)));
}

#[test]
fn a_fee_above_the_envelope_is_waited_for_and_then_refused_without_a_nonce() {
    let mut shard = Shard::open();
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    let mut question = questions(&taken).remove(0);
    let mut refusal = Vec::new();
    for _ in 0..20 {
        assert!(orders(&shard.give(quoted(&question, quote(ENVELOPE / 1_000 + 1)))).is_empty());
        let effects = shard.fire();
        refusal = words(&effects);
        match questions(&effects).first() {
            Some(next) => {
                assert_ne!(next.id, question.id, "a question answered is not asked again under its name");
                question = next.clone();
            }
            None => break,
        }
    }
    assert_eq!(refusal, ["refused FeeAboveEnvelope"]);
    assert!(!shard.state.keys().any(|key| matches!(key, Key::Slot(..))));
    assert_eq!(words(&shard.give(pay(&take(1, "ETH", 100)))), ["refused FeeAboveEnvelope"]);
    assert_eq!(shard.give(quoted(&question, quote(1))).dropped, Some("stale-reply"));
}

#[test]
fn the_longer_a_question_is_unanswered_the_more_seldom_it_is_repeated() {
    let mut shard = Shard::open();
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    let question = questions(&taken).remove(0);
    let (mut waits, mut before) = (Vec::new(), shard.now);
    for _ in 0..40 {
        assert_eq!(questions(&shard.fire()), std::slice::from_ref(&question));
        waits.push(shard.now.since(before).0);
        before = shard.now;
    }
    let entry = &policy().chains[&chain()];
    let (every, deadline) = (entry.fee_every.0, entry.fee_wait.0);
    assert_eq!(waits[0], every);
    assert!(waits.iter().all(|wait| (every..=16 * every).contains(wait)), "{waits:?}");
    assert_eq!(*waits.last().unwrap(), 16 * every, "{waits:?}");
    let mut at = 0;
    let asked_at: Vec<u64> = waits
        .iter()
        .map(|wait| {
            at += wait;
            at
        })
        .collect();
    assert!(asked_at.contains(&deadline), "it is looked at again when its time is over: {asked_at:?}");
    // An answer is still good.
    assert_eq!(orders(&shard.give(quoted(&question, quote(10)))).len(), 1);
}

#[test]
fn the_longer_an_order_to_sign_is_unanswered_the_more_seldom_it_is_given_again() {
    let mut shard = Shard::open();
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    let question = questions(&taken).remove(0);
    let given = orders(&shard.give(quoted(&question, quote(10))));
    let (mut waits, mut before) = (Vec::new(), shard.now);
    for _ in 0..30 {
        assert_eq!(orders(&shard.fire()), given);
        waits.push(shard.now.since(before).0);
        before = shard.now;
    }
    let every = policy().chains[&chain()].resend_every.0;
    assert_eq!(waits[0], every);
    assert!(waits.iter().all(|wait| (every..=8 * every).contains(wait)), "{waits:?}");
    assert_eq!(*waits.last().unwrap(), 8 * every, "{waits:?}");
}

#[test]
fn an_unanswered_question_is_repeated_under_the_same_name() {
    let mut shard = Shard::open();
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    assert_eq!(questions(&shard.fire()), questions(&taken));
}

#[test]
fn the_wallet_must_hold_what_every_unmined_signature_may_spend() {
    let mut shard = Shard::open();
    let poor = |native: u128| FeeQuote::Quote {
        gas_limit: 1_000,
        max_fee_per_gas: Amount::new(10),
        max_priority_fee_per_gas: Amount::new(1),
        native_balance: Amount::new(native),
        asset_balance: Amount::new(native),
        next_nonce: 5,
    };
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    assert_eq!(orders(&shard.give(quoted(&questions(&taken)[0], poor(10_100)))).len(), 1);
    let taken = shard.give(pay(&take(2, "ETH", 100)));
    assert!(orders(&shard.give(quoted(&questions(&taken)[0], poor(20_199)))).is_empty(), "the first still needs its share");
    let asked = shard.fire();
    let again = questions(&asked).into_iter().chain(questions(&shard.fire())).next().unwrap();
    assert_eq!(orders(&shard.give(quoted(&again, poor(20_200)))).len(), 1);
}

#[test]
fn a_call_that_would_revert_or_an_expired_intent_is_refused_before_signing() {
    let mut shard = Shard::open();
    let taken = shard.give(pay(&take(1, "USDX", 100)));
    assert_eq!(words(&shard.give(quoted(&questions(&taken)[0], FeeQuote::WouldRevert))), ["refused WouldRevert"]);
    let mut late = take(2, "ETH", 100);
    late.intent.expires = shard.now;
    let taken = shard.give(pay(&late));
    assert_eq!(words(&shard.give(quoted(&questions(&taken)[0], quote(10)))), ["refused Expired"]);
}

#[test]
fn a_request_that_contradicts_the_policy_is_refused_at_once() {
    let mut shard = Shard::open();
    let mut other = take(1, "ETH", 100);
    other.intent.from = EthAddress([8; 20]);
    assert_eq!(words(&shard.give(pay(&other))), ["taken", "refused SignerRefused"]);
    let mut changed = other.clone();
    changed.intent.amount = Amount::new(101);
    assert_eq!(shard.give(pay(&changed)).dropped, Some("intent-contradicts"));
}

#[test]
fn a_refused_signature_gives_its_nonce_to_the_next_payment() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let effects = shard.give(refused(&order, SignRefusal::NotApproved));
    assert_eq!(words(&effects), ["refused SignerRefused"]);
    assert_eq!(sign_order(&ordered(&mut shard, 2, "ETH")).tx.nonce, 5);
}

#[test]
fn a_refused_signature_below_others_is_filled_with_a_no_op() {
    let mut shard = Shard::open();
    let low = ordered(&mut shard, 1, "ETH");
    assert_eq!(sign_order(&ordered(&mut shard, 2, "ETH")).tx.nonce, 6);
    let effects = shard.give(refused(&low, SignRefusal::Expired));
    assert_eq!(words(&effects), ["refused Expired"]);
    let effects = shard.give(quoted(&questions(&effects)[0], quote(10)));
    let order = orders(&effects).remove(0);
    let noop = IntentId::noop(&wallet(), 5);
    assert!(matches!(sign_order(&order).purpose, SignPurpose::NoOp { intent, .. } if intent == noop));
    let tx = &sign_order(&order).tx;
    assert_eq!((tx.nonce, tx.to, tx.value, tx.data.len()), (5, HOT, Amount::ZERO, 0));
    let effects = shard.give(signed(&order));
    assert_eq!(words(&effects), [""; 0], "no withdrawal waits for a no-op");
    let send = sends(&effects).remove(0);
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Seen))), ["house 21 for 0 at 5"]);
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Final))), [""; 0], "it is in the books already");
    assert!(matches!(shard.end(noop), End::Final(_)));
    let gone = shard.give(spend(sent_tx(&send), 5, SpendNews::Unseen));
    assert_eq!(words(&gone), ["alarm DeepReorg", "house 0 for 0 at 5"]);
    assert_eq!(sends(&gone), [send]);
}

#[test]
fn a_nonce_that_the_guard_gave_to_something_unknown_is_filled_so_that_later_ones_do_not_wait() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let effects = shard.give(refused(&order, SignRefusal::NonceTaken));
    assert_eq!(words(&effects), ["alarm ForeignSpend", "refused SignerRefused"]);
    let filler = orders(&shard.give(quoted(&questions(&effects)[0], quote(10)))).remove(0);
    assert_eq!(sign_order(&filler).tx.nonce, 5);
    assert_eq!(sign_order(&ordered(&mut shard, 2, "ETH")).tx.nonce, 6);
}

#[test]
fn a_no_op_outbids_what_treasury_does_not_know_by_a_tenth_at_a_time_and_no_further_than_the_house_may_spend() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let effects = shard.give(refused(&order, SignRefusal::NonceTaken));
    let mut filler = orders(&shard.give(quoted(&questions(&effects)[0], quote(10)))).remove(0);
    let offer = |order: &WalletCommand| {
        let tx = &sign_order(order).tx;
        (tx.max_fee_per_gas.base_units(), tx.max_priority_fee_per_gas.base_units(), u128::from(tx.gas_limit))
    };
    let mut offered = vec![offer(&filler)];
    loop {
        let effects = shard.give(refused(&filler, SignRefusal::WeakReplacement));
        assert_eq!(words(&effects), [""; 0], "no human is called while it can offer more");
        let effects = shard.give(quoted(&questions(&effects)[0], quote(10)));
        let Some(next) = orders(&effects).pop() else {
            assert_eq!(words(&effects), ["alarm FeeEnvelopeReached"]);
            break;
        };
        offered.push(offer(&next));
        filler = next;
    }
    let (fee, tip, gas) = offered.pop().unwrap();
    assert!(fee == tip && fee * gas <= ENVELOPE && (fee + 1) * gas > ENVELOPE, "the last offer is all: {fee} {tip} {gas}");
    assert!(offered.windows(2).all(|pair| pair[1].0 == pair[0].0 + pair[0].0.div_ceil(10)), "{offered:?}");
    assert!(offered.len() > 5, "{offered:?}");
    // Another estimate of gas is no reason to offer the same again, or less.
    let effects = shard.fire();
    let FeeQuote::Quote { max_fee_per_gas, max_priority_fee_per_gas, native_balance, asset_balance, next_nonce, .. } =
        quote(10)
    else {
        panic!()
    };
    let dearer = FeeQuote::Quote {
        gas_limit: 1_001,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        native_balance,
        asset_balance,
        next_nonce,
    };
    let effects = shard.give(quoted(&questions(&effects)[0], dearer));
    assert_eq!((orders(&effects).len(), words(&effects)), (0, Vec::new()));
}

#[test]
fn an_order_that_nobody_answers_calls_a_human_once_and_stays() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    assert_eq!(words(&shard.fire()), [""; 0], "not yet");
    shard.now.0 += 3_600_000;
    let effects = shard.fire();
    assert_eq!((words(&effects), orders(&effects)), (vec!["alarm SagaParked".to_owned()], vec![order.clone()]));
    shard.now.0 += 3_600_000;
    let effects = shard.fire();
    assert_eq!((words(&effects), orders(&effects)), (Vec::new(), vec![order.clone()]));
    assert_eq!(sends(&shard.give(signed(&order))).len(), 1);
}

#[test]
fn a_signature_after_a_refusal_calls_a_human() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    shard.give(refused(&order, SignRefusal::NotApproved));
    assert_eq!(words(&shard.give(signed(&order))), ["alarm SagaParked"]);
}

#[test]
fn an_order_under_a_policy_that_the_signer_holds_to_be_old_is_given_again_under_the_next() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    shard.publish(2);
    let again = orders(&shard.give(refused(&order, SignRefusal::PolicyRefused))).remove(0);
    assert_ne!(again.id, order.id);
    assert_eq!(sign_order(&again).tx, sign_order(&order).tx);
    assert_ne!(sign_order(&again).policy, sign_order(&order).policy);
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::PolicyRefused))), [""; 0], "a repeat for the old order");
    assert_eq!(sends(&shard.give(signed(&again))).len(), 1);
}

#[test]
fn an_order_that_is_refused_for_its_policy_waits_for_the_next_one_for_a_while_and_is_then_refused() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::PolicyRefused))), [""; 0]);
    assert!((0..9).any(|_| orders(&shard.fire()).contains(&order)), "it is given again");
    let mut twin = shard.clone();
    twin.publish(2);
    assert_ne!(orders(&twin.give(refused(&order, SignRefusal::PolicyRefused))).remove(0).id, order.id);
    shard.now.0 += 61_000;
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::PolicyRefused))), ["refused SignerRefused"]);
}

#[test]
fn a_payment_that_is_asked_under_the_next_policy_waits_until_it_is_here() {
    let mut shard = Shard::open();
    let mut early = take(1, "ETH", 100);
    early.intent.policy_version = 2;
    assert_eq!(shard.give(pay(&early)).dropped, Some("policy-behind"));
    shard.publish(2);
    assert_eq!(words(&shard.give(pay(&early))), ["taken"]);
}

#[test]
fn a_replacement_that_the_signer_refuses_for_its_policy_is_asked_for_again() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let asked = shard.give(said(&send, SendOutcome::FeeTooLow));
    let order = orders(&shard.give(quoted(&questions(&asked)[0], quote(500)))).remove(0);
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::PolicyRefused))), ["alarm SagaParked"]);
    assert!((0..99).any(|_| !questions(&shard.fire()).is_empty()), "it is not stuck");
}

#[test]
fn a_payment_on_a_chain_that_the_policy_no_longer_has_is_refused_for_good() {
    let mut shard = Shard::open();
    shard.leave_chain(2);
    assert_eq!(words(&shard.give(pay(&take(1, "ETH", 100)))), ["taken", "refused SignerRefused"]);
    shard.publish(3);
    assert_eq!(
        words(&shard.give(pay(&take(1, "ETH", 100)))),
        ["refused SignerRefused"],
        "the chain is back, the money was given back"
    );
}

#[test]
fn a_signature_that_treasury_does_not_know_parks_the_payment() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::IntentTaken))), ["alarm SagaParked"]);
    assert_eq!(*shard.stage(first(1)), Stage::Parked);
}

#[test]
fn bytes_that_stay_out_of_a_block_are_replaced_within_the_envelope_and_then_a_human_is_called() {
    let mut shard = Shard::open();
    let mut send = airborne(&mut shard, 1, "ETH");
    let mut last = (Amount::new(10), Amount::new(2));
    let mut alarms = Vec::new();
    let mut hashes = vec![sent_tx(&send)];
    for _ in 0..400 {
        let effects = shard.fire();
        if let Some(next) = sends(&effects).first() {
            assert_eq!(next.id, send.id);
        }
        for question in questions(&effects) {
            let effects = shard.give(quoted(&question, quote(1)));
            alarms.extend(words(&effects));
            for order in orders(&effects) {
                let tx = sign_order(&order).tx.clone();
                let fees = (tx.max_fee_per_gas, tx.max_priority_fee_per_gas);
                assert_eq!((tx.nonce, tx.gas_limit), (5, 1_000));
                assert!(fees.0.base_units() * 10 >= last.0.base_units() * 11, "{fees:?} after {last:?}");
                assert!(fees.1.base_units() * 10 >= last.1.base_units() * 11, "{fees:?} after {last:?}");
                assert!(tx.fee_max().unwrap() <= Amount::new(ENVELOPE));
                last = fees;
                send = sends(&shard.give(signed(&order))).remove(0);
                hashes.push(sent_tx(&send));
            }
        }
        if !alarms.is_empty() {
            break;
        }
    }
    assert_eq!(alarms, ["alarm FeeEnvelopeReached"]);
    assert!(hashes.len() > 10, "{}", hashes.len());
    assert_eq!(sends(&shard.fire()), [send], "the newest bytes go on being sent");
    // Any of the signatures may be the one that is mined.
    assert_eq!(words(&shard.give(spend(hashes[3], 5, SpendNews::Seen))), ["seen"]);
    assert_eq!(words(&shard.give(spend(hashes[3], 5, SpendNews::Final))), ["final"]);
}

#[test]
fn a_fee_that_the_node_calls_too_low_is_raised_at_once() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let effects = shard.give(said(&send, SendOutcome::FeeTooLow));
    let effects = shard.give(quoted(&questions(&effects)[0], quote(500)));
    assert_eq!(sign_order(&orders(&effects)[0]).tx.max_fee_per_gas, Amount::new(500));
    assert_eq!(shard.give(said(&send, SendOutcome::FeeTooLow)).dropped, Some("known-already"));
}

#[test]
fn bytes_that_the_node_will_never_take_call_a_human_once_and_stay() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    assert_eq!(words(&shard.give(said(&send, SendOutcome::Invalid))), ["alarm SagaParked"]);
    assert_eq!(shard.give(said(&send, SendOutcome::Invalid)).dropped, Some("known-already"));
    assert_eq!(sends(&shard.fire()), [send]);
}

#[test]
fn a_block_that_is_taken_back_sends_the_same_bytes_again() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let tx = sent_tx(&send);
    shard.give(spend(tx, 5, SpendNews::Seen));
    let effects = shard.give(spend(tx, 5, SpendNews::Unseen));
    assert_eq!((words(&effects), sends(&effects)), (vec!["unseen".to_owned()], vec![send]));
    assert_eq!(words(&shard.give(spend(tx, 5, SpendNews::Seen))), ["seen"]);
}

#[test]
fn a_reverted_transfer_is_impossible_only_at_finality() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "USDX");
    let reverted = |news| {
        let mut fact = spent(sent_tx(&send), 5, news);
        fact.succeeded = false;
        TreasuryInput::Spend(fact)
    };
    assert_eq!(words(&shard.give(reverted(SpendNews::Seen))), ["seen"]);
    assert_eq!(words(&shard.give(reverted(SpendNews::Final))), ["impossible"]);
}

#[test]
fn a_stranger_at_our_nonce_is_proof_at_finality_and_calls_a_human() {
    let mut shard = Shard::open();
    airborne(&mut shard, 1, "ETH");
    let stranger = TxHash([0xee; 32]);
    assert_eq!(words(&shard.give(spend(stranger, 5, SpendNews::Seen))), ["house 21 for 0 at 5"]);
    let proven = shard.give(spend(stranger, 5, SpendNews::Final));
    // From here the withdrawal's own entries say it, and the house's say nothing more.
    assert_eq!(words(&proven), ["alarm ForeignSpend", "impossible", "house 21 for 21 at 5"]);
}

#[test]
fn a_stranger_proves_nothing_while_an_order_to_sign_is_unanswered() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let stranger = shard.give(spend(TxHash([0xee; 32]), 5, SpendNews::Final));
    assert_eq!(words(&stranger), ["alarm ForeignSpend", "house 21 for 0 at 5"]);
    assert_eq!(words(&shard.give(signed(&order))), ["signed 1 at 5", "impossible", "house 21 for 21 at 5"]);
    // Had the answer been the stranger itself, it would have been the payment.
    let order = ordered(&mut shard, 2, "ETH");
    let TreasuryInput::Signed(answer) = signed(&order) else { panic!() };
    shard.give(spend(answer.tx, 6, SpendNews::Final));
    assert_eq!(words(&shard.give(signed(&order))), ["signed 1 at 6", "final", "house 21 for 21 at 6"]);
    // And a refusal after a stranger leaves no nonce to fill.
    let order = ordered(&mut shard, 3, "ETH");
    shard.give(spend(TxHash([0xed; 32]), 7, SpendNews::Final));
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::NotApproved))), ["refused SignerRefused"]);
    assert_eq!(sign_order(&ordered(&mut shard, 4, "ETH")).tx.nonce, 8);
}

#[test]
fn a_nonce_that_nobody_was_given_calls_a_human_and_is_passed_over_at_finality() {
    let mut shard = Shard::open();
    airborne(&mut shard, 1, "ETH");
    let seen = shard.give(spend(TxHash([0xee; 32]), 6, SpendNews::Seen));
    assert_eq!(words(&seen), ["alarm ForeignSpend", "house 21 for 0 at 6"]);
    shard.give(spend(TxHash([0xee; 32]), 6, SpendNews::Final));
    assert_eq!(sign_order(&ordered(&mut shard, 2, "ETH")).tx.nonce, 7);
}

/// The payment's transaction in another block under another base fee.
fn again(tx: TxHash, fee: u128, news: SpendNews) -> TreasuryInput {
    let mut fact = spent(tx, 5, news);
    (fact.block, fact.fee) = (at(30), Amount::new(fee));
    TreasuryInput::Spend(fact)
}

#[test]
fn a_reorganisation_below_finality_sends_the_same_bytes_until_they_are_mined_and_tells_the_house_the_new_fee() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let tx = sent_tx(&send);
    shard.give(spend(tx, 5, SpendNews::Seen));
    assert_eq!(words(&shard.give(spend(tx, 5, SpendNews::Final))), ["final"]);
    let gone = shard.give(spend(tx, 5, SpendNews::Unseen));
    assert_eq!(words(&gone), ["alarm DeepReorg", "house 0 for 21 at 5"]);
    assert_eq!(sends(&gone), std::slice::from_ref(&send));
    assert_eq!(sends(&shard.fire()), std::slice::from_ref(&send), "the node may have lost them");
    let back = shard.give(again(tx, 34, SpendNews::Seen));
    assert_eq!(words(&back), ["house 34 for 21 at 5"]);
    assert!(shard.timers.is_empty(), "in a block nothing is sent");
    assert_eq!(words(&shard.give(again(tx, 34, SpendNews::Final))), [""; 0]);
    assert!(matches!(shard.end(first(1)), End::Final(paid) if paid.fee == Amount::new(21)), "what is settled stays so");
    assert_eq!(words(&shard.give(pay(&take(1, "ETH", 100)))), ["final"]);
    // The first branch wins after all: the house's books are as if nothing had been.
    shard.give(again(tx, 34, SpendNews::Unseen));
    assert_eq!(words(&shard.give(spend(tx, 5, SpendNews::Seen))), ["house 21 for 21 at 5"]);
}

#[test]
fn a_settled_payment_that_fails_when_it_is_mined_again_calls_a_human_for_the_payment_itself() {
    let mut shard = Shard::open();
    let tx = sent_tx(&airborne(&mut shard, 1, "USDX"));
    shard.give(spend(tx, 5, SpendNews::Seen));
    assert_eq!(words(&shard.give(spend(tx, 5, SpendNews::Final))), ["final"]);
    shard.give(spend(tx, 5, SpendNews::Unseen));
    let mut reverted = spent(tx, 5, SpendNews::Seen);
    (reverted.block, reverted.fee, reverted.succeeded) = (at(30), Amount::new(30), false);
    assert_eq!(words(&shard.give(TreasuryInput::Spend(reverted.clone()))), ["house 30 for 21 at 5"]);
    // It may still leave its block and succeed in another: a human who pays by hand before that pays twice.
    reverted.news = SpendNews::Final;
    let failed = shard.give(TreasuryInput::Spend(reverted));
    assert_eq!(words(&failed), ["alarm DeepReorg"]);
    let Mail::Accounts(AccountsInput::Alarm(alarm)) = &failed.messages[0].message else { panic!() };
    assert_eq!(alarm.subject, first(1).to_string());
    assert!(shard.timers.is_empty(), "the nonce is used: sending again is of no use");
    assert!(matches!(shard.end(first(1)), End::Final(_)), "what is settled stays so");
}

#[test]
fn a_proof_that_is_reorganised_away_sends_nothing_and_its_fee_is_the_houses_again() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "USDX");
    let tx = sent_tx(&send);
    let reverted = |news| {
        let mut fact = spent(tx, 5, news);
        fact.succeeded = false;
        TreasuryInput::Spend(fact)
    };
    shard.give(reverted(SpendNews::Seen));
    assert_eq!(words(&shard.give(reverted(SpendNews::Final))), ["impossible"]);
    let gone = shard.give(reverted(SpendNews::Unseen));
    assert_eq!(words(&gone), ["alarm DeepReorg", "house 0 for 21 at 5"]);
    assert!(sends(&gone).is_empty());
    assert_eq!(questions(&gone).len(), 1, "the house's no-op is to take the nonce");
    // It pays after all, and the client has the money back: the house must hear both.
    let paid = shard.give(again(tx, 30, SpendNews::Seen));
    assert_eq!(words(&paid), ["alarm DeepReorg", "house 30 for 21 at 5"]);
    let Mail::Accounts(AccountsInput::HouseSpent(said)) = &paid.messages[1].message else { panic!() };
    assert!(said.now.as_ref().unwrap().succeeded);
    assert_eq!(said.payment.as_ref().unwrap().amount, Amount::new(100));
}

#[test]
fn a_nonce_that_is_free_again_after_its_proof_is_taken_by_a_no_op_that_outbids_whatever_was_signed() {
    let mut shard = Shard::open();
    let tx = sent_tx(&airborne(&mut shard, 1, "USDX"));
    let reverted = |news| {
        let mut fact = spent(tx, 5, news);
        fact.succeeded = false;
        TreasuryInput::Spend(fact)
    };
    let later = airborne(&mut shard, 2, "ETH");
    shard.give(reverted(SpendNews::Seen));
    shard.give(reverted(SpendNews::Final));
    let gone = shard.give(reverted(SpendNews::Unseen));
    let order = orders(&shard.give(quoted(&questions(&gone)[0], quote(10)))).remove(0);
    let no_op = IntentId::noop(&wallet(), 5);
    let tx_of = sign_order(&order).tx.clone();
    assert!(matches!(sign_order(&order).purpose, SignPurpose::NoOp { intent, .. } if intent == no_op));
    assert_eq!((tx_of.nonce, tx_of.to, tx_of.value), (5, HOT, Amount::ZERO));
    assert_eq!((tx_of.max_fee_per_gas, tx_of.max_priority_fee_per_gas), (Amount::new(11), Amount::new(3)));
    let send = sends(&shard.give(signed(&order))).remove(0);
    // The proof's block comes back: it does the no-op's work, and nobody takes it for a stranger's.
    let mut twin = shard.clone();
    assert_eq!(words(&twin.give(reverted(SpendNews::Seen))), ["house 21 for 21 at 5"]);
    assert_eq!(words(&twin.give(reverted(SpendNews::Final))), [""; 0]);
    assert!(matches!(twin.end(no_op), End::Impossible(proof) if proof.tx == tx));
    // It leaves again: the no-op's bytes are there already.
    let gone_again = twin.give(reverted(SpendNews::Unseen));
    assert_eq!(words(&gone_again), ["alarm DeepReorg", "house 0 for 21 at 5"]);
    assert_eq!(sends(&gone_again), std::slice::from_ref(&send));
    let mut due = (0..9).map(|_| twin.fire());
    assert!(due.any(|effects| sends(&effects) == [send.clone()]), "until something consumes the nonce");
    assert_eq!(words(&twin.give(spend(sent_tx(&send), 5, SpendNews::Seen))), ["house 21 for 21 at 5"]);
    // Or the no-op is mined: its gas is the house's, and the next nonce can go on.
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Seen))), ["house 21 for 21 at 5"]);
    assert_eq!(words(&shard.give(spend(sent_tx(&send), 5, SpendNews::Final))), [""; 0]);
    assert!(matches!(shard.end(no_op), End::Final(_)));
    assert!(matches!(shard.end(first(1)), End::Impossible(_)), "what is proven stays so");
    shard.give(spend(sent_tx(&later), 6, SpendNews::Seen));
    assert_eq!(words(&shard.give(spend(sent_tx(&later), 6, SpendNews::Final))), ["final"]);
}

#[test]
fn a_no_op_that_the_signer_refuses_for_now_is_ordered_again_under_the_fee_of_then() {
    let mut shard = Shard::open();
    let low = ordered(&mut shard, 1, "ETH");
    ordered(&mut shard, 2, "ETH");
    let effects = shard.give(refused(&low, SignRefusal::Expired));
    let dear = shard.give(quoted(&questions(&effects)[0], quote(ENVELOPE)));
    assert_eq!(words(&dear), ["alarm FeeEnvelopeReached"], "it waits, and every later nonce with it");
    let question = (0..99).find_map(|_| questions(&shard.fire()).pop()).unwrap();
    let order = orders(&shard.give(quoted(&question, quote(10)))).remove(0);
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::HouseRefused))), ["alarm SagaParked"]);
    let question = (0..99).find_map(|_| questions(&shard.fire()).pop()).unwrap();
    let again = orders(&shard.give(quoted(&question, quote(12)))).remove(0);
    assert_eq!((sign_order(&again).tx.nonce, sign_order(&again).tx.max_fee_per_gas), (5, Amount::new(12)));
    assert_eq!(sends(&shard.give(signed(&again))).len(), 1);
}

#[test]
fn a_nonce_that_was_passed_over_is_filled_when_it_is_free_again() {
    let mut shard = Shard::open();
    let stranger = TxHash([0xee; 32]);
    assert_eq!(sign_order(&ordered(&mut shard, 1, "ETH")).tx.nonce, 5);
    shard.give(spend(stranger, 6, SpendNews::Seen));
    shard.give(spend(stranger, 6, SpendNews::Final));
    assert_eq!(sign_order(&ordered(&mut shard, 2, "ETH")).tx.nonce, 7);
    let gone = shard.give(spend(stranger, 6, SpendNews::Unseen));
    assert_eq!(words(&gone), ["alarm DeepReorg", "house 0 for 0 at 6"]);
    let order = orders(&shard.give(quoted(&questions(&gone)[0], quote(10)))).remove(0);
    assert_eq!(sign_order(&order).tx.nonce, 6);
    assert!(shard.give(spend(stranger, 6, SpendNews::Unseen)).commands.is_empty(), "a repeat begins nothing");
}

#[test]
fn what_consumed_the_nonce_of_a_refused_payment_is_paid_for_by_the_house() {
    let mut shard = Shard::open();
    let order = ordered(&mut shard, 1, "ETH");
    let stranger = TxHash([0xee; 32]);
    let seen = shard.give(spend(stranger, 5, SpendNews::Final));
    assert_eq!(words(&seen), ["alarm ForeignSpend", "house 21 for 0 at 5"]);
    assert_eq!(words(&shard.give(refused(&order, SignRefusal::NotApproved))), ["refused SignerRefused"]);
    assert_eq!(words(&shard.give(spend(stranger, 5, SpendNews::Unseen))), ["alarm DeepReorg", "house 0 for 0 at 5"]);
}

#[test]
fn a_replacement_that_is_signed_after_the_end_is_known_should_it_be_mined() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let asked = shard.give(said(&send, SendOutcome::FeeTooLow));
    let order = orders(&shard.give(quoted(&questions(&asked)[0], quote(500)))).remove(0);
    shard.give(spend(sent_tx(&send), 5, SpendNews::Seen));
    shard.give(spend(sent_tx(&send), 5, SpendNews::Final));
    let late = shard.give(signed(&order));
    assert_eq!((words(&late), sends(&late).len()), (vec!["signed 2 at 5".to_owned()], 0));
    assert_eq!(shard.give(signed(&order)).dropped, Some("stale-reply"));
    shard.give(spend(sent_tx(&send), 5, SpendNews::Unseen));
    let TreasuryInput::Signed(replacement) = signed(&order) else { panic!() };
    let mined = shard.give(again(replacement.tx, 40, SpendNews::Seen));
    assert_eq!(words(&mined), ["house 40 for 21 at 5"], "ours, not a stranger's");
}

#[test]
fn what_stays_of_a_payment_that_has_ended_is_small() {
    let mut shard = Shard::open();
    let send = airborne(&mut shard, 1, "ETH");
    let raw = match &send.order {
        BlockchainOrder::Send { raw, .. } => raw.len(),
        BlockchainOrder::Estimate { .. } => panic!(),
    };
    let size = |shard: &Shard| {
        let of = |(key, entity)| Treasury::encode_key(key).len() + Treasury::encode_entity(entity).len();
        let ours = |key: &Key| matches!(key, Key::Payment(..) | Key::Slot(..) | Key::Tx(..) | Key::Spent(..));
        shard.state.iter().filter(|(key, _)| ours(key)).map(of).sum::<usize>()
    };
    let live = size(&shard) - raw;
    shard.give(spend(sent_tx(&send), 5, SpendNews::Seen));
    shard.give(spend(sent_tx(&send), 5, SpendNews::Final));
    let rest = size(&shard) - raw;
    assert!(rest < 500 && rest < live * 2 / 3, "{rest} bytes besides the signed ones, of {live} while it lived");
}

#[test]
fn marks_go_on_to_every_accounts_shard() {
    let mut shard = Shard::open();
    let mark = ChainMark { wallet: wallet(), chain: chain(), block: at(4) };
    assert_eq!(words(&shard.give(TreasuryInput::BlockMark(mark))), ["mark 4 to 0", "mark 4 to 1"]);
}

#[test]
fn nothing_is_paid_from_an_address_that_the_policy_does_not_name() {
    let mut shard = Shard::bare();
    let asked = shard.give(TreasuryInput::Policy(signed_policy(&policy())));
    assert_eq!(words(&shard.give(derived(&orders(&asked)[0], EthAddress([3; 20])))), ["alarm SagaParked"]);
    let taken = shard.give(pay(&take(1, "ETH", 100)));
    assert!(orders(&shard.give(quoted(&questions(&taken)[0], quote(10)))).is_empty());
    // A policy that names the address puts it right.
    let mut second = policy();
    second.version = 2;
    second.chains.get_mut(&chain()).unwrap().hot = EthAddress([3; 20]);
    assert_eq!(shard.give(TreasuryInput::Policy(signed_policy(&second))).watch.len(), 1);
    let Entity::Wallet(held) = &shard.state[&Key::Wallet(wallet())] else { panic!() };
    assert_eq!(held.hot, Hot::Watching(EthAddress([3; 20])));
    assert_eq!(shard.give(TreasuryInput::Policy(signed_policy(&policy()))).dropped, Some("old-policy"));
}

#[test]
fn without_a_policy_nothing_is_heard() {
    let mut shard = Shard::bare();
    assert_eq!(shard.give(pay(&take(1, "ETH", 1))).dropped, Some("no-policy"));
}
