//! Given what nodes report, expect what the chain machine says: seen, final, taken back, alarmed, marked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod blocks;

use blocks::{Shard, asset, at, cursors, empty, facts, policy, signed, spend, transfer, words};
use custos_chain::{Chain, Entity, Key};
use custos_domain::{Amount, ChainId};
use custos_messages::SignedPolicy;
use custos_messages::chain::{BlockReport, ChainInput};
use custos_saga::machine::Machine;

fn with(mut report: BlockReport, tx: u8, code: &str) -> BlockReport {
    report.transfers.push(transfer(tx, code, 5));
    report
}

/// Blocks 1 to `to` of branch 0, from `node`, with a USDX deposit in block 2.
fn trunk(shard: &mut Shard, node: &str, to: u64) -> Vec<String> {
    let mut said = Vec::new();
    for number in 1..=to {
        let report = empty(node, at(number, 0), at(number - 1, 0));
        let report = if number == 2 { with(report, 1, "USDX") } else { report };
        said.extend(facts(&shard.report(&report)));
    }
    said
}

#[test]
fn a_deposit_is_seen_at_once_and_final_when_deep_enough_with_its_own_block_counted() {
    let mut shard = Shard::new(policy(&["a"], 4, 3, 16));
    assert_eq!(trunk(&mut shard, "a", 2), ["seen 1@2"]);
    assert_eq!(facts(&shard.report(&empty("a", at(3, 0), at(2, 0)))), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("a", at(4, 0), at(3, 0)))), ["final 1@2"]);
    assert_eq!(Chain::head(&shard.state[&Chain::key(blocks::chain())]), Some(at(4, 0)));
}

#[test]
fn one_confirmation_is_final_in_the_block_itself() {
    let mut shard = Shard::new(policy(&["a"], 1, 1, 16));
    assert_eq!(trunk(&mut shard, "a", 2), ["seen 1@2", "final 1@2"]);
}

#[test]
fn a_spend_needs_the_depth_of_the_slowest_asset() {
    let mut shard = Shard::new(policy(&["a"], 3, 1, 16));
    let mut report = empty("a", at(1, 0), at(0, 0));
    report.spends.push(spend(8));
    assert_eq!(facts(&shard.report(&report)), ["spend seen 8@1"]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 0), at(1, 0)))), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("a", at(3, 0), at(2, 0)))), ["spend final 8@1"]);
}

#[test]
fn a_reorganisation_takes_back_tip_first_and_then_says_the_new_branch_from_the_fork_up() {
    let mut shard = Shard::new(policy(&["a"], 9, 9, 16));
    trunk(&mut shard, "a", 2);
    shard.report(&with(empty("a", at(3, 0), at(2, 0)), 2, "ETH"));
    assert_eq!(
        facts(&shard.report(&with(empty("a", at(2, 1), at(1, 0)), 3, "ETH"))),
        ["unseen 2@3", "unseen 1@2", "seen 3@2"]
    );
    let back = shard.report(&with(empty("a", at(3, 1), at(2, 1)), 1, "USDX"));
    assert_eq!(words(&back)[0], "seen 1@3");
}

#[test]
fn a_reorganisation_below_finality_takes_the_credit_back_and_calls_a_human() {
    let mut shard = Shard::new(policy(&["a"], 2, 2, 16));
    assert_eq!(trunk(&mut shard, "a", 3), ["seen 1@2", "final 1@2"]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 1), at(1, 0)))), ["unseen 1@2", "alarm: deep reorg"]);
}

#[test]
fn the_very_first_block_may_be_replaced_before_and_after_it_is_final() {
    let left = ["unseen 1@2", "seen 3@1"];
    let undone = ["unseen 1@2", "seen 3@1", "alarm: deep reorg"];
    // What was final leaves the branch only when the other node has left it, too.
    for (confirmations, by_one, by_both) in [(9, &left[..], &[][..]), (2, &["alarm: nodes disagree"][..], &undone[..])] {
        let mut shard = Shard::new(policy(&["a", "b"], confirmations, confirmations, 16));
        trunk(&mut shard, "a", 4);
        trunk(&mut shard, "b", 4);
        assert_eq!(facts(&shard.report(&with(empty("a", at(1, 1), at(0, 0)), 3, "ETH"))), by_one);
        // It goes on, and what is on the new branch becomes final when the other node has come round.
        let mut said = Vec::new();
        for number in 2..=12 {
            said.extend(facts(&shard.report(&empty("a", at(number, 1), at(number - 1, 1)))));
        }
        assert_eq!(said, [""; 0]);
        assert_eq!(facts(&shard.report(&with(empty("b", at(1, 1), at(0, 0)), 3, "ETH"))), by_both);
        for number in 2..=12 {
            said.extend(facts(&shard.report(&empty("b", at(number, 1), at(number - 1, 1)))));
        }
        assert_eq!(said.iter().filter(|word| word.starts_with("final")).collect::<Vec<_>>(), ["final 3@1"]);
    }
}

#[test]
fn the_first_block_may_be_replaced_by_one_that_the_second_node_told_of_before_the_first_spoke() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    for number in 1..=4 {
        shard.report(&empty("b", at(number, 1), at(number - 1, if number == 1 { 0 } else { 1 })));
    }
    trunk(&mut shard, "a", 2);
    let head = |shard: &Shard| Chain::head(&shard.state[&Chain::key(blocks::chain())]);
    assert_eq!(head(&shard), Some(at(2, 0)));
    let mut said = Vec::new();
    for number in 1..=4 {
        let report = empty("a", at(number, 1), at(number - 1, if number == 1 { 0 } else { 1 }));
        said.extend(facts(&shard.report(&report)));
    }
    assert_eq!((said, head(&shard)), (vec!["unseen 1@2".to_owned()], Some(at(4, 1))));
    let Entity::Tree(tree) = &shard.state[&Chain::key(blocks::chain())] else { panic!() };
    assert_eq!((tree.settled, tree.pending.len()), (Some(at(3, 1)), 0));
}

#[test]
fn one_node_alone_undoes_nothing_that_was_final() {
    let mut shard = Shard::new(policy(&["a", "b", "c"], 2, 2, 16));
    for node in ["a", "b", "c"] {
        trunk(&mut shard, node, 4);
    }
    let head = |shard: &Shard| Chain::head(&shard.state[&Chain::key(blocks::chain())]);
    // The first node, whose head decides, shows a block of its own at a final height; a human is called once.
    let alone = shard.report(&with(empty("a", at(2, 1), at(1, 0)), 3, "ETH"));
    assert_eq!((facts(&alone), head(&shard)), (vec!["alarm: nodes disagree".to_owned()], Some(at(4, 0))));
    assert_eq!(words(&shard.report(&empty("a", at(3, 1), at(2, 1)))), [""; 0]);
    // The others go on, and nothing becomes final beyond what the first node stands on.
    for node in ["b", "c"] {
        assert_eq!(words(&shard.report(&with(empty(node, at(5, 0), at(4, 0)), 4, "ETH"))), [""; 0]);
    }
    // It comes back through blocks that are known, the lowest of them below what is final.
    let mut said = Vec::new();
    for number in 2..=5 {
        let report = empty("a", at(number, 0), at(number - 1, 0));
        said.extend(facts(&shard.report(&if number == 5 { with(report, 4, "ETH") } else { report })));
    }
    assert_eq!((said, head(&shard)), (vec!["seen 4@5".to_owned()], Some(at(5, 0))));
    // All leave it, one after the other: undone when the last has.
    let leave = |node| with(empty(node, at(2, 2), at(1, 0)), 5, "ETH");
    assert_eq!(facts(&shard.report(&leave("b"))), [""; 0]);
    assert_eq!(facts(&shard.report(&leave("a"))), ["alarm: nodes disagree"]);
    assert_eq!(facts(&shard.report(&leave("c"))), ["unseen 4@5", "unseen 1@2", "seen 5@2", "alarm: deep reorg"]);
}

#[test]
fn two_nodes_that_contradict_each_other_undo_nothing_that_was_final() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    trunk(&mut shard, "a", 6);
    trunk(&mut shard, "b", 6);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 1), at(1, 0)))), ["alarm: nodes disagree"]);
    assert_eq!(words(&shard.report(&empty("b", at(2, 2), at(1, 0)))), [""; 0], "they left it for different blocks");
    // The first node is back on the branch and merely behind, when the other shows another block.
    assert_eq!(words(&shard.report(&empty("a", at(2, 0), at(1, 0)))), [""; 0]);
    assert_eq!(words(&shard.report(&empty("b", at(2, 3), at(1, 0)))), [""; 0]);
    let facts = custos_chain::inspect(&shard.state, &Default::default(), "eip155:31337");
    let held = facts.iter().find(|(name, _)| name == "held").map(|(_, what)| what.as_str()).unwrap();
    assert!(held.starts_with("node a, whose head decides, is at 2 "), "{held}");
}

#[test]
fn a_new_first_node_that_is_behind_undoes_nothing_that_was_final() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    trunk(&mut shard, "a", 6);
    trunk(&mut shard, "b", 6);
    let mut second = policy(&["d", "b"], 2, 2, 16);
    second.version = 2;
    assert_eq!(shard.give(ChainInput::Policy(signed(&second))).dropped, None);
    // That it witnesses what is final is news, and no reason to let anything go.
    assert_eq!(words(&shard.report(&with(empty("d", at(2, 0), at(1, 0)), 1, "USDX"))), [""; 0]);
    assert_eq!(words(&shard.report(&empty("b", at(3, 1), at(2, 0)))), [""; 0]);
    assert_eq!(words(&shard.report(&empty("d", at(3, 0), at(2, 0)))), [""; 0]);
    assert_eq!(Chain::head(&shard.state[&Chain::key(blocks::chain())]), Some(at(6, 0)));
}

#[test]
fn what_a_node_tells_late_of_a_final_block_becomes_final_when_the_branch_is_free_again() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    for number in 1..=6 {
        shard.report(&empty("a", at(number, 0), at(number - 1, 0)));
    }
    let mut said = Vec::new();
    for number in 1..=6 {
        let report = empty("b", at(number, 0), at(number - 1, 0));
        said.extend(facts(&shard.report(&if number == 3 { with(report, 1, "ETH") } else { report })));
    }
    assert_eq!(said, ["seen 1@3", "alarm: nodes disagree"], "one of them does not tell of it");
    assert_eq!(facts(&shard.report(&empty("a", at(2, 1), at(1, 0)))), ["alarm: nodes disagree"]);
    // On its way back it tells of it.
    let mut back = Vec::new();
    for number in 2..=6 {
        let report = empty("a", at(number, 0), at(number - 1, 0));
        back.extend(facts(&shard.report(&if number == 3 { with(report, 1, "ETH") } else { report })));
    }
    assert_eq!(back, ["final 1@3"]);
    assert_eq!(Chain::head(&shard.state[&Chain::key(blocks::chain())]), Some(at(6, 0)));
}

#[test]
fn a_node_that_is_behind_has_not_left_what_was_final() {
    let mut shard = Shard::new(policy(&["a", "b"], 3, 3, 16));
    trunk(&mut shard, "a", 8);
    assert_eq!(trunk(&mut shard, "b", 4), ["final 1@2"]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 1), at(1, 0)))), ["alarm: nodes disagree"]);
    // Where nothing is final the first node is followed at once.
    let mut shard = Shard::new(policy(&["a", "b"], 3, 3, 16));
    trunk(&mut shard, "a", 8);
    assert_eq!(trunk(&mut shard, "b", 3), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 1), at(1, 0)))), ["unseen 1@2"]);
}

#[test]
fn a_fork_below_everything_that_is_known_calls_a_human_and_changes_nothing() {
    let mut shard = Shard::new(policy(&["a"], 2, 2, 16));
    trunk(&mut shard, "a", 3);
    let deeper = shard.report(&empty("a", at(1, 1), at(0, 1)));
    assert_eq!((deeper.dropped, facts(&deeper)), (Some("below-floor"), vec!["alarm: deep reorg".to_owned()]));
}

#[test]
fn nothing_is_final_until_the_second_node_is_as_deep_on_the_same_branch() {
    let mut shard = Shard::new(policy(&["a", "b"], 4, 3, 16));
    assert_eq!(trunk(&mut shard, "a", 6), ["seen 1@2"]);
    assert_eq!(trunk(&mut shard, "b", 3), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("b", at(4, 0), at(3, 0)))), ["final 1@2"]);
}

#[test]
fn nodes_that_disagree_credit_nothing_and_alarm_once() {
    let mut shard = Shard::new(policy(&["a", "b"], 3, 3, 16));
    shard.report(&empty("a", at(1, 0), at(0, 0)));
    shard.report(&empty("b", at(1, 0), at(0, 0)));
    let mut said = Vec::new();
    for number in 2..=8 {
        let from = |branch| at(number - 1, if number == 2 { 0 } else { branch });
        said.extend(facts(&shard.report(&with(empty("a", at(number, 0), from(0)), u8::try_from(number).unwrap(), "ETH"))));
        said.extend(facts(&shard.report(&empty("b", at(number, 1), from(1)))));
    }
    assert!(said.iter().all(|word| !word.starts_with("final")), "{said:?}");
    assert_eq!(said.iter().filter(|word| word.starts_with("alarm")).count(), 1, "{said:?}");
    // The second node comes round: the deposits become final.
    let mut healed = Vec::new();
    for number in 2..=8 {
        let report = empty("b", at(number, 0), at(number - 1, 0));
        healed.extend(facts(&shard.report(&with(report, u8::try_from(number).unwrap(), "ETH"))));
    }
    assert_eq!(healed, ["final 2@2", "final 3@3", "final 4@4", "final 5@5", "final 6@6"]);
}

#[test]
fn what_one_node_does_not_see_in_a_block_that_both_share_is_not_final_until_it_does() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    let mut report = with(empty("a", at(1, 0), at(0, 0)), 1, "ETH");
    report.spends.push(spend(8));
    let mut told = facts(&shard.report(&report));
    assert_eq!(told, ["seen 1@1", "spend seen 8@1"]);
    told.clear();
    for number in 1..=5 {
        for node in ["a", "b"] {
            told.extend(facts(&shard.report(&empty(node, at(number, 0), at(number - 1, 0)))));
        }
    }
    assert_eq!(told, ["alarm: nodes disagree"], "neither the deposit nor the spend, and one call");
    report.node = custos_domain::NodeName::new("b").unwrap();
    assert_eq!(facts(&shard.report(&report)), ["final 1@1", "spend final 8@1"]);
    assert_eq!(shard.report(&report).dropped, Some("repeat"));
}

#[test]
fn reports_that_contradict_each_other_about_a_transfer_never_make_it_final() {
    let mut shard = Shard::new(policy(&["a", "b"], 1, 1, 16));
    let honest = with(empty("a", at(1, 0), at(0, 0)), 1, "ETH");
    let mut lie = honest.clone();
    lie.node = custos_domain::NodeName::new("b").unwrap();
    lie.transfers[0].amount = Amount::new(5_000_000);
    assert_eq!(facts(&shard.report(&honest)), ["seen 1@1"]);
    assert_eq!(facts(&shard.report(&lie)), ["alarm: nodes disagree"]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 0), at(1, 0)))), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("b", at(2, 0), at(1, 0)))), [""; 0]);
}

#[test]
fn several_reports_of_a_block_add_up_and_repeats_say_nothing() {
    let mut shard = Shard::new(policy(&["a"], 2, 2, 16));
    trunk(&mut shard, "a", 4);
    let late = with(empty("a", at(1, 0), at(0, 0)), 9, "ETH");
    assert_eq!(facts(&shard.report(&late)), ["seen 9@1", "final 9@1"], "a transfer of an address that was watched later");
    let before = shard.state.clone();
    assert_eq!(shard.report(&late).dropped, Some("repeat"));
    assert_eq!(shard.state, before);
}

#[test]
fn a_block_waits_for_its_parent_within_a_bound() {
    let mut shard = Shard::new(policy(&["a"], 9, 9, 4));
    shard.report(&empty("a", at(1, 0), at(0, 0)));
    assert_eq!(facts(&shard.report(&with(empty("a", at(3, 0), at(2, 0)), 3, "ETH"))), [""; 0]);
    assert_eq!(facts(&shard.report(&empty("a", at(2, 0), at(1, 0)))), ["seen 3@3"]);
    assert_eq!(shard.report(&empty("a", at(99, 0), at(98, 0))).dropped, Some("unknown-parent"));
}

#[test]
fn the_second_node_may_speak_first() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    assert_eq!(trunk(&mut shard, "b", 4), [""; 0]);
    assert_eq!(trunk(&mut shard, "a", 4), ["seen 1@2", "final 1@2"]);
}

#[test]
fn only_registered_assets_and_amounts_above_nothing_count() {
    let mut shard = Shard::new(policy(&["a"], 1, 1, 16));
    let mut report = empty("a", at(1, 0), at(0, 0));
    report.transfers = vec![transfer(1, "ETH", 0), transfer(2, "SCAM", 5)];
    assert_eq!(facts(&shard.report(&report)), [""; 0]);
    let Entity::Tree(tree) = &shard.state[&Chain::key(blocks::chain())] else { panic!() };
    assert_eq!(tree.ignored, 2);
    assert_eq!(asset("SCAM").as_str(), "SCAM");
}

#[test]
fn marks_go_to_every_shard_after_the_facts_and_cursors_to_what_is_settled() {
    let mut shard = Shard::new(policy(&["a"], 2, 2, 4));
    let first = shard.report(&with(empty("a", at(1, 0), at(0, 0)), 1, "ETH"));
    assert_eq!(words(&first), ["seen 1@1", "mark 1 to 0", "mark 1 to 1", "mark 1 to treasury"]);
    let second = shard.report(&empty("a", at(2, 0), at(1, 0)));
    assert_eq!((words(&second), cursors(&second)), (vec!["final 1@1".to_owned()], vec![1]));
    let third = shard.report(&empty("a", at(3, 0), at(2, 0)));
    assert_eq!(words(&third), ["mark 3 to 0", "mark 3 to 1", "mark 3 to treasury"]);
    let reorganised = shard.report(&empty("a", at(3, 1), at(2, 0)));
    assert_eq!(words(&reorganised), ["mark 3 to 0", "mark 3 to 1", "mark 3 to treasury"]);
}

#[test]
fn a_long_chain_is_forgotten_below_the_kept_depth_but_never_what_is_not_final() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 5));
    trunk(&mut shard, "a", 40);
    assert_eq!(shard.state.len(), 42, "the second node has said nothing, so nothing is settled");
    trunk(&mut shard, "b", 40);
    assert!(shard.state.len() <= 9, "{}", shard.state.len());
    assert_eq!(shard.report(&empty("a", at(3, 0), at(2, 0))).dropped, Some("below-floor"));
    assert_eq!(facts(&shard.report(&empty("a", at(35, 7), at(34, 0)))), ["alarm: nodes disagree"]);
    assert_eq!(facts(&shard.report(&empty("b", at(35, 7), at(34, 0)))), ["alarm: deep reorg"]);
}

#[test]
fn what_is_not_ours_to_hear_is_dropped_by_name() {
    let mut shard = Shard::new(policy(&["a"], 2, 2, 5));
    let mut foreign = empty("a", at(1, 0), at(0, 0));
    foreign.chain = ChainId::eip155(5);
    assert_eq!(shard.report(&foreign).dropped, Some("unknown-chain"));
    assert_eq!(shard.report(&empty("c", at(1, 0), at(0, 0))).dropped, Some("unknown-node"));
    assert_eq!(shard.report(&empty("a", at(1, 0), at(1, 0))).dropped, Some("malformed-block"));
    shard.state.remove(&Key::Policy);
    assert_eq!(shard.report(&empty("a", at(1, 0), at(0, 0))).dropped, Some("no-policy"));
}

#[test]
fn a_policy_is_adopted_once_and_versions_only_rise() {
    let mut shard = Shard { state: std::collections::BTreeMap::new() };
    let mut second = policy(&["a", "b"], 2, 2, 9);
    second.version = 2;
    assert_eq!(shard.give(ChainInput::Policy(signed(&second))).dropped, None);
    assert_eq!(shard.give(ChainInput::Policy(signed(&policy(&["a"], 2, 2, 9)))).dropped, Some("old-policy"));
    assert_eq!(shard.give(ChainInput::Policy(signed(&second))).dropped, Some("old-policy"));
    let noise = SignedPolicy { bytes: vec![1, 2, 3], signature: Vec::new() };
    assert_eq!(shard.give(ChainInput::Policy(noise)).dropped, Some("unreadable-policy"));
    assert_eq!(facts(&shard.report(&with(empty("a", at(1, 0), at(0, 0)), 1, "ETH"))), ["seen 1@1"]);
}

#[test]
fn what_is_known_of_an_asset_that_the_policy_lists_no_more_comes_to_its_end() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 9));
    let paid = with(empty("a", at(1, 0), at(0, 0)), 1, "USDX");
    assert_eq!(facts(&shard.report(&paid)), ["seen 1@1"]);
    let mut next = policy(&["a", "b"], 2, 2, 9);
    next.version = 2;
    next.assets.remove(&asset("USDX"));
    assert_eq!(shard.give(ChainInput::Policy(signed(&next))).dropped, None);
    shard.report(&with(empty("b", at(1, 0), at(0, 0)), 1, "USDX"));
    shard.report(&empty("a", at(2, 0), at(1, 0)));
    assert_eq!(facts(&shard.report(&empty("b", at(2, 0), at(1, 0)))), ["final 1@1"]);
    let later = with(empty("a", at(3, 0), at(2, 0)), 2, "USDX");
    assert_eq!(facts(&shard.report(&later)), [""; 0], "a new one is not heard of");
}

#[test]
fn records_survive_their_bytes_and_garbage_is_an_error() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 9));
    trunk(&mut shard, "a", 5);
    let mut report = empty("b", at(1, 0), at(0, 0));
    report.spends.push(spend(8));
    shard.report(&report);
    shard.report(&empty("b", at(4, 3), at(3, 3)));
    for (key, entity) in &shard.state {
        let (name, bytes) = (Chain::encode_key(key), Chain::encode_entity(entity));
        assert!(name[0] > 0x0f);
        assert_eq!(Chain::decode(&name, &bytes).unwrap(), (key.clone(), entity.clone()));
        assert!(Chain::decode(b"\x11other", &bytes).is_err());
        for cut in 0..bytes.len() {
            let _ = Chain::decode(&name, &bytes[..cut]);
            let mut flipped = bytes.clone();
            flipped[cut] ^= 0x55;
            let _ = Chain::decode(&name, &flipped);
        }
    }
    let mut later = Chain::encode_entity(&shard.state[&Chain::key(blocks::chain())]);
    later[1] = 2;
    let refused = Chain::decode(&Chain::encode_key(&Chain::key(blocks::chain())), &later);
    assert!(matches!(refused, Err(custos_saga::machine::StateError::Schema { schema: 2, .. })));
}

#[test]
fn a_silent_node_calls_a_human_once_holds_finality_back_and_loses_nothing_when_it_comes_back() {
    let mut shard = Shard::new(policy(&["a", "b"], 4, 3, 16));
    trunk(&mut shard, "a", 1);
    trunk(&mut shard, "b", 1);
    let mut said = Vec::new();
    for number in 2..=60 {
        let report = empty("a", at(number, 0), at(number - 1, 0));
        said.extend(facts(&shard.report(&if number == 5 { with(report, 1, "USDX") } else { report })));
    }
    assert_eq!(said, ["seen 1@5", "alarm: silent eip155:31337/b"]);
    let mut back = Vec::new();
    for number in 2..=60 {
        let report = empty("b", at(number, 0), at(number - 1, 0));
        back.extend(facts(&shard.report(&if number == 5 { with(report, 1, "USDX") } else { report })));
    }
    assert_eq!(back, ["final 1@5"]);
    let kept = shard.state.keys().filter(|key| matches!(key, Key::Block(..))).count();
    assert_eq!(kept, 17, "what every node agrees on is forgotten as ever");
    // Silent again: a human is called again.
    let more: Vec<String> =
        (61..=90).flat_map(|number| facts(&shard.report(&empty("a", at(number, 0), at(number - 1, 0))))).collect();
    assert_eq!(more, ["alarm: silent eip155:31337/b"]);
}

#[test]
fn a_first_node_that_falls_silent_calls_a_human_too() {
    let mut shard = Shard::new(policy(&["a", "b"], 4, 3, 16));
    trunk(&mut shard, "a", 2);
    let said: Vec<String> =
        (1..=40).flat_map(|number| facts(&shard.report(&empty("b", at(number, 0), at(number - 1, 0))))).collect();
    assert_eq!(said, ["alarm: silent eip155:31337/a"]);
}

#[test]
fn the_tree_is_bounded_however_long_a_node_is_silent() {
    let mut shard = Shard::new(policy(&["a", "b"], 2, 2, 16));
    trunk(&mut shard, "a", 1);
    trunk(&mut shard, "b", 1);
    let mut refused = 0;
    for number in 2..=16_400 {
        let effects = shard.report(&empty("a", at(number, 0), at(number - 1, 0)));
        refused += u32::from(effects.dropped == Some("too-far-ahead"));
    }
    let kept = shard.state.keys().filter(|key| matches!(key, Key::Block(..))).count();
    assert!(kept <= 16_386 && refused > 0, "{kept} blocks, {refused} refused");
    // The other comes back: what was refused is reported again by a follower that stands at the cursor, and taken.
    for number in 2..=16_000 {
        shard.report(&empty("b", at(number, 0), at(number - 1, 0)));
    }
    assert_eq!(shard.report(&empty("a", at(16_386, 0), at(16_385, 0))).dropped, None);
}
