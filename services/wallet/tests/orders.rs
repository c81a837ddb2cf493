//! What the signer signs and what it refuses, order by order.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on panics; what was not run is printed")]

mod fixture;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use custos_domain::{Amount, AssetKind, ChainId, CommandId, Digest, EthAddress, IntentId, Timestamp, WalletId};
use custos_messages::accounts::Verdict;
use custos_messages::treasury::{AddressDerived, SignRefusal, TreasuryInput};
use custos_messages::wallet::{Purpose, SignOrder, WalletCommand, WalletOrder};
use custos_policy::attested;
use fixture::*;

fn bent(mut order: SignOrder, bend: impl FnOnce(&mut SignOrder)) -> SignOrder {
    bend(&mut order);
    order
}

/// Every way in which a payment in ether can be wrong, with the refusal it earns.
fn wrong_payments(world: &World) -> Vec<(&'static str, SignOrder, SignRefusal)> {
    use SignRefusal::{Expired, OutsideEnvelope, OutsideIntent};
    let pay = |bend: fn(&mut SignOrder)| bent(world.order(1, 0), bend);
    vec![
        ("pays another", pay(|o| o.tx.to = EthAddress([9; 20])), OutsideIntent),
        ("pays less", pay(|o| o.tx.value = o.tx.value.minus(Amount::new(1)).unwrap()), OutsideIntent),
        ("pays more", pay(|o| o.tx.value = o.tx.value.plus(Amount::new(1)).unwrap()), OutsideIntent),
        ("carries data", pay(|o| o.tx.data = vec![0]), OutsideIntent),
        ("on another chain number", pay(|o| o.tx.chain_number = 1), OutsideIntent),
        ("for another chain", pay(|o| intent_of(o).chain = ChainId::eip155(1)), OutsideIntent),
        ("from another address", pay(|o| intent_of(o).from = EthAddress([9; 20])), OutsideIntent),
        ("of an unregistered asset", pay(|o| intent_of(o).asset = asset("BTC")), OutsideIntent),
        ("of a token, paid in ether", pay(|o| intent_of(o).asset = asset("USDX")), OutsideIntent),
        ("of nothing", pay(|o| (intent_of(o).amount, o.tx.value) = (Amount::ZERO, Amount::ZERO)), OutsideIntent),
        ("nonce beyond what is kept", pay(|o| o.tx.nonce = u64::MAX), OutsideIntent),
        ("asked under a later policy", pay(|o| intent_of(o).policy_version = 2), SignRefusal::PolicyRefused),
        ("fee above the envelope", pay(|o| o.tx.gas_limit = 200_001), OutsideEnvelope),
        ("fee that overflows", pay(|o| o.tx.max_fee_per_gas = Amount::new(u128::MAX)), OutsideEnvelope),
        ("fee in another asset", pay(|o| intent_of(o).fee.asset = asset("USDX")), OutsideEnvelope),
        ("tip above the fee", pay(|o| o.tx.max_priority_fee_per_gas = Amount::new(100 * GWEI + 1)), OutsideEnvelope),
        (
            "more gas than a chain takes",
            pay(|o| {
                (o.tx.gas_limit, o.tx.max_fee_per_gas, o.tx.max_priority_fee_per_gas) =
                    ((1 << 24) + 1, Amount::new(1), Amount::new(1))
            }),
            OutsideEnvelope,
        ),
        (
            "envelope above the policy's",
            pay(|o| (intent_of(o).fee.max, o.tx.gas_limit) = (Amount::new(u128::MAX), 400_001)),
            OutsideEnvelope,
        ),
        ("too late", pay(|o| o.at = Timestamp(10_001)), Expired),
    ]
}

/// The same for tokens and no-ops.
fn wrong_tokens_and_no_ops(world: &World) -> Vec<(&'static str, SignOrder, SignRefusal)> {
    use SignRefusal::{HouseRefused, OutsideEnvelope, OutsideIntent};
    let token = |bend: fn(&mut SignOrder)| bent(world.token_order(1, 0), bend);
    let no_op = |bend: fn(&mut SignOrder)| bent(world.no_op(0), bend);
    vec![
        ("token: other contract", token(|o| o.tx.to = EthAddress([9; 20])), OutsideIntent),
        (
            "token: other kind",
            token(|o| {
                if let Purpose::Pay { kind, .. } = &mut o.purpose {
                    *kind = AssetKind::Native
                }
            }),
            OutsideIntent,
        ),
        (
            "token: contract of the order, not of the policy",
            token(|o| {
                let evil = EthAddress([9; 20]);
                o.tx.to = evil;
                if let Purpose::Pay { kind, .. } = &mut o.purpose {
                    *kind = AssetKind::Erc20 { contract: evil }
                }
            }),
            OutsideIntent,
        ),
        ("token: with ether", token(|o| o.tx.value = Amount::new(1)), OutsideIntent),
        ("token: other amount in the call", token(|o| *o.tx.data.last_mut().unwrap() ^= 1), OutsideIntent),
        ("token: longer call", token(|o| o.tx.data.push(0)), OutsideIntent),
        ("token: another function", token(|o| o.tx.data[0] = 0x09), OutsideIntent),
        ("no-op to another", no_op(|o| o.tx.to = CLIENT), HouseRefused),
        ("no-op with value", no_op(|o| o.tx.value = Amount::new(1)), HouseRefused),
        ("no-op with data", no_op(|o| o.tx.data = vec![0]), HouseRefused),
        ("no-op of another nonce", no_op(|o| o.tx.nonce = 1), HouseRefused),
        (
            "no-op under a client's id",
            no_op(|o| {
                if let Purpose::NoOp { intent, .. } = &mut o.purpose {
                    *intent = IntentId([1; 32])
                }
            }),
            HouseRefused,
        ),
        (
            "no-op above its own fee",
            no_op(|o| {
                if let Purpose::NoOp { fee_max, .. } = &mut o.purpose {
                    *fee_max = Amount::new(1)
                }
            }),
            OutsideEnvelope,
        ),
        ("no-op above the policy's fee", no_op(|o| o.tx.gas_limit = 42_001), OutsideEnvelope),
    ]
}

#[tokio::test]
async fn every_wrong_order_is_refused_for_its_reason_and_leaves_no_trace() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    for (name, order, expected) in wrong_payments(&world).into_iter().chain(wrong_tokens_and_no_ops(&world)) {
        assert_eq!(ask(&wallet, order).await.unwrap_err(), expected, "{name}");
    }
    // Had one of them been recorded, intent 1 or nonce 0 would be taken.
    assert!(ask(&wallet, world.order(1, 0)).await.is_ok());
}

#[tokio::test]
async fn right_orders_are_signed_by_the_hot_key_and_say_exactly_what_was_ordered() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    for order in [world.order(1, 0), world.token_order(2, 1), world.no_op(2)] {
        let signed = ask(&wallet, order.clone()).await.unwrap();
        let TxEnvelope::Eip1559(decoded) = TxEnvelope::decode_2718_exact(&signed.raw).unwrap() else {
            panic!("not EIP-1559")
        };
        assert_eq!(decoded.recover_signer().unwrap().into_array(), world.hot.0);
        assert_eq!(decoded.signature().normalize_s(), None, "low S");
        assert_eq!(decoded.hash().0, signed.tx.0);
        assert_eq!(signed.digest, Digest::of(&signed.raw));
        let tx = decoded.tx();
        assert_eq!((tx.chain_id, tx.nonce, tx.gas_limit), (31_337, order.tx.nonce, order.tx.gas_limit));
        assert_eq!(tx.max_fee_per_gas, order.tx.max_fee_per_gas.base_units());
        assert_eq!(tx.max_priority_fee_per_gas, order.tx.max_priority_fee_per_gas.base_units());
        assert_eq!(tx.to.to().unwrap().into_array(), order.tx.to.0);
        assert_eq!(tx.value.to::<u128>(), order.tx.value.base_units());
        assert_eq!(tx.input.to_vec(), order.tx.data);
        assert!(tx.access_list.0.is_empty());
    }
}

#[tokio::test]
async fn a_policy_counts_only_if_the_root_signed_it_and_it_is_not_older_than_one_seen() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    let forged = bent(world.order(1, 0), |o| o.policy = sign_policy_by(&officer("anna").1, &world.policy));
    assert_eq!(ask(&wallet, forged).await.unwrap_err(), SignRefusal::PolicyRefused);
    let altered = bent(world.order(1, 0), |o| *o.policy.bytes.last_mut().unwrap() ^= 1);
    assert_eq!(ask(&wallet, altered).await.unwrap_err(), SignRefusal::PolicyRefused);
    let mut elsewhere = world.policy.clone();
    elsewhere.chains.get_mut(&chain()).unwrap().hot = EthAddress([9; 20]);
    let elsewhere = bent(world.order(1, 0), |o| o.policy = sign_policy(&elsewhere));
    assert_eq!(ask(&wallet, elsewhere).await.unwrap_err(), SignRefusal::PolicyRefused);

    let first = ask(&wallet, world.order(1, 0)).await.unwrap();
    let mut newer = world.policy.clone();
    newer.version = 2;
    let shown = bent(world.order(2, 1), |o| {
        o.policy = sign_policy(&newer);
        o.tx.value = Amount::ZERO;
    });
    assert_eq!(ask(&wallet, shown).await.unwrap_err(), SignRefusal::OutsideIntent);
    // A policy is seen even if the order that showed it was refused, and a fresh process still knows.
    drop(wallet);
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    assert_eq!(ask(&wallet, world.order(2, 1)).await.unwrap_err(), SignRefusal::PolicyRefused);
    assert!(ask(&wallet, bent(world.order(2, 1), |o| o.policy = sign_policy(&newer))).await.is_ok());
    // What was signed before stays signed: a repeat is no new decision.
    assert_eq!(ask(&wallet, world.order(1, 0)).await.unwrap(), first);
}

#[tokio::test]
async fn a_large_payment_needs_two_officers_of_the_policy_over_this_very_intent() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    let intent = world.intent(1, "ETH", 5_000_000 * GWEI);
    let other = world.intent(2, "ETH", 5_000_000 * GWEI);
    let order = |decisions: Vec<_>| {
        let tx = world.tx(0, intent.to, intent.amount, Vec::new());
        bent(world.pay(intent.clone(), AssetKind::Native, tx), |o| {
            if let Purpose::Pay { approvals, .. } = &mut o.purpose {
                *approvals = decisions;
            }
        })
    };
    let yes = |name| decide(name, Verdict::Approve, &intent);
    let mut forged = yes("bert");
    forged.signature[0] ^= 1;
    for (name, decisions) in [
        ("none", vec![]),
        ("one", vec![yes("anna")]),
        ("the same twice", vec![yes("anna"), yes("anna")]),
        ("one forged", vec![yes("anna"), forged]),
        ("one of no officer", vec![yes("anna"), yes("mallory")]),
        ("one for another intent", vec![yes("anna"), decide("bert", Verdict::Approve, &other)]),
        ("a rejection counted as yes", vec![yes("anna"), decide("bert", Verdict::Reject, &intent)]),
    ] {
        assert_eq!(ask(&wallet, order(decisions)).await.unwrap_err(), SignRefusal::NotApproved, "{name}");
    }
    assert!(ask(&wallet, order(vec![yes("anna"), yes("bert")])).await.is_ok());
}

#[tokio::test]
async fn house_intents_stop_at_their_daily_cap_and_go_on_the_next_day() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    assert!(ask(&wallet, world.no_op(0)).await.is_ok());
    assert!(ask(&wallet, world.no_op(1)).await.is_ok());
    assert_eq!(ask(&wallet, world.no_op(2)).await.unwrap_err(), SignRefusal::HouseRefused);
    assert!(ask(&wallet, world.no_op(1)).await.is_ok(), "a repeat does not count");
    assert!(ask(&wallet, world.order(1, 2)).await.is_ok(), "clients' payments do not count");
    let tomorrow = bent(world.no_op(3), |o| o.at = Timestamp(86_400_000));
    assert!(ask(&wallet, tomorrow).await.is_ok());
}

#[tokio::test]
async fn only_wallets_of_this_signer_are_served() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    let foreign = WalletId([5; 16]);
    // No refusal, which would be told the client: another signer may know it.
    assert_eq!(wallet.answer(command_to(foreign, world.order(1, 0))).await.unwrap(), None);
    for (id, chain, branch) in [(foreign, chain(), 0), (wallet_id(), ChainId::eip155(1), 0), (wallet_id(), chain(), 2)] {
        let order = WalletOrder::DeriveAddress { chain, branch, index: 0 };
        assert_eq!(wallet.answer(WalletCommand { id: CommandId([9; 32]), wallet: id, order }).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_address_comes_with_its_path_and_an_attestation() {
    let world = World::new();
    let wallet = world.open(&world.sqlite(), "checkpoint").await;
    let order = WalletOrder::DeriveAddress { chain: chain(), branch: 0, index: 1 };
    let command = WalletCommand { id: CommandId([9; 32]), wallet: wallet_id(), order };
    let Some(TreasuryInput::AddressDerived(derived)) = wallet.answer(command).await.unwrap() else { panic!("no address") };
    assert_eq!(derived.address.to_string(), "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
    assert_eq!(derived.path, "m/44'/60'/0'/0/1");
    let mut policy = world.policy.clone();
    assert!(attested(&policy, &derived), "a policy without an attester asks for none");
    policy.attester = Some(wallet.keys().attestation_key().to_bytes());
    assert!(attested(&policy, &derived));
    let bends: [fn(&mut AddressDerived); 5] = [
        |it| it.address.0[0] ^= 1,
        |it| it.index += 1,
        |it| it.branch += 1,
        |it| it.wallet.0[0] ^= 1,
        |it| it.attestation.clear(),
    ];
    for bend in bends {
        let mut bent = derived.clone();
        bend(&mut bent);
        assert!(!attested(&policy, &bent), "{bent:?}");
    }
}
