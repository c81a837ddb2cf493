//! Given a request for a deposit address, expect one index per saga, and nothing handed out before it is watched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod desk;

use custos_domain::{AccountId, EthAddress};
use custos_messages::treasury::{AddressDerived, AllocateAddress, TreasuryInput};
use custos_messages::watch::{AddressRole, WatchRecord};
use custos_policy::Policy;

use desk::{HOT, Shard, chain, derived, orders, policy, saga, signed_policy, tenant, wallet, watching, words};

fn request(n: u8) -> TreasuryInput {
    let account = AccountId::derive(&tenant(), "client");
    TreasuryInput::AllocateAddress(AllocateAddress { saga: saga(n), account, wallet: wallet(), chain: chain() })
}

#[test]
fn an_address_is_derived_watched_and_only_then_handed_out() {
    let mut shard = Shard::open();
    let order = orders(&shard.give(request(1))).remove(0);
    assert_eq!(orders(&shard.fire()), std::slice::from_ref(&order), "an unanswered order is repeated under its name");
    let effects = shard.give(derived(&order, EthAddress([4; 20])));
    assert_eq!(words(&effects), [""; 0]);
    assert!(matches!(effects.watch.as_slice(), [WatchRecord::Address(entry)] if entry.role == AddressRole::Deposit));
    assert_eq!(shard.fire().watch, effects.watch, "an unconfirmed watch record is written again");
    assert_eq!(words(&shard.give(watching(EthAddress([4; 20])))), ["ready m/44'/60'/0'/0/0"]);
    assert!(shard.timers.is_empty());
    assert_eq!(words(&shard.give(request(1))), ["ready m/44'/60'/0'/0/0"], "a repeat gets the same address");
    assert_eq!(shard.give(watching(EthAddress([4; 20]))).dropped, Some("repeat"));
}

#[test]
fn every_saga_has_an_index_of_its_own() {
    let mut shard = Shard::open();
    let first = orders(&shard.give(request(1))).remove(0);
    let second = orders(&shard.give(request(2))).remove(0);
    assert_ne!(first.id, second.id);
    assert_eq!(shard.give(request(2)).dropped, Some("repeat"));
    shard.give(derived(&second, EthAddress([5; 20])));
    assert_eq!(words(&shard.give(watching(EthAddress([5; 20])))), ["ready m/44'/60'/0'/0/1"]);
    assert_eq!(shard.give(derived(&second, EthAddress([6; 20]))).dropped, Some("stale-reply"));
}

#[test]
fn what_is_not_ours_is_dropped_by_name() {
    let mut shard = Shard::open();
    let account = AccountId::derive(&tenant(), "client");
    let foreign = AllocateAddress { saga: saga(1), account, wallet: wallet(), chain: custos_domain::ChainId::eip155(5) };
    assert_eq!(shard.give(TreasuryInput::AllocateAddress(foreign)).dropped, Some("unknown-wallet"));
    assert_eq!(shard.give(watching(EthAddress([6; 20]))).dropped, Some("unknown-address"));
}

#[test]
fn an_address_that_the_signer_did_not_attest_is_not_watched_and_calls_a_human() {
    let mut shard = Shard::open();
    let order = orders(&shard.give(request(1))).remove(0);
    let TreasuryInput::AddressDerived(honest) = derived(&order, EthAddress([4; 20])) else { panic!() };
    // Somebody puts an address of their own in its place.
    let swapped = AddressDerived { address: EthAddress([0xbb; 20]), ..honest.clone() };
    let effects = shard.give(TreasuryInput::AddressDerived(swapped));
    assert_eq!(words(&effects), ["alarm AddressUnattested"]);
    assert!(effects.watch.is_empty() && shard.timers.is_empty(), "it is parked");
    assert_eq!(shard.give(watching(EthAddress([0xbb; 20]))).dropped, Some("unknown-address"));
    assert_eq!(shard.give(TreasuryInput::AddressDerived(honest.clone())).dropped, Some("stale-reply"));
    // The saga asks again, and so is the signer asked.
    assert_eq!(orders(&shard.give(request(1))), std::slice::from_ref(&order));
    assert_eq!(shard.give(TreasuryInput::AddressDerived(honest)).watch.len(), 1);
    assert_eq!(words(&shard.give(watching(EthAddress([4; 20])))), ["ready m/44'/60'/0'/0/0"]);
}

#[test]
fn a_policy_from_before_attesters_hands_out_what_the_signer_says() {
    let mut shard = Shard::bare();
    let older = Policy { attester: None, ..policy() };
    let asked = shard.give(TreasuryInput::Policy(signed_policy(&older)));
    shard.give(derived(&orders(&asked)[0], HOT));
    let order = orders(&shard.give(request(1))).remove(0);
    let TreasuryInput::AddressDerived(plain) = derived(&order, EthAddress([4; 20])) else { panic!() };
    let plain = AddressDerived { attestation: Vec::new(), ..plain };
    assert_eq!(shard.give(TreasuryInput::AddressDerived(plain)).watch.len(), 1);
}
