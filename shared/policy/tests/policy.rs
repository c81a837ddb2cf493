//! A policy is in force only if the root signed it and it guards money; a payment only if its officers agreed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use custos_domain::{Amount, AssetKind, EthAddress, Millis, NodeName};
use custos_messages::SignedPolicy;
use custos_messages::accounts::{Decision, Verdict};
use custos_policy::{DecisionError, Policy, PolicyError, approved, read_trusted, verify, verify_decision};
use custos_testkit::{OFFICERS, address, asset, chain, decision, ether, intent, officer_key, policy, policy_root, saga};
use proptest::prelude::*;

#[test]
fn a_signed_policy_is_read_as_it_was_and_by_its_own_root_only() {
    let signed = policy().sign(&policy_root()).unwrap();
    assert_eq!(verify(&signed, &policy_root().verifying_key()).unwrap(), policy());
    assert_eq!(read_trusted(&signed).unwrap(), policy());
    assert_eq!(policy().encode(), signed.bytes, "one policy has one encoding");

    let other = verify(&signed, &officer_key("anna").verifying_key());
    assert!(matches!(other, Err(PolicyError::Signature)));
    for at in 0..signed.bytes.len() {
        let mut forged = signed.clone();
        forged.bytes[at] ^= 1;
        assert!(matches!(verify(&forged, &policy_root().verifying_key()), Err(PolicyError::Signature)), "byte {at}");
    }
    let unsigned = SignedPolicy { signature: Vec::new(), ..signed };
    assert!(matches!(verify(&unsigned, &policy_root().verifying_key()), Err(PolicyError::Signature)));
}

#[test]
fn every_truncation_of_a_policy_is_refused() {
    let bytes = policy().encode();
    for length in 0..bytes.len() {
        let signed = SignedPolicy { bytes: bytes[..length].to_vec(), signature: Vec::new() };
        // Only its signature tells a policy that lost its last field from one of the time before that field.
        let older = Policy { attester: None, ..policy() };
        assert!(read_trusted(&signed).is_err() || older.encode() == signed.bytes, "{length} bytes");
    }
}

#[test]
fn each_rule_refuses_the_policy_that_breaks_it() {
    type Edit = fn(&mut Policy);
    let cases: [(Edit, &str); 21] = [
        (|p| p.version = 0, "version"),
        (|p| p.partitions = 0, "partitions"),
        (|p| p.chains.clear(), "chains"),
        (|p| p.quorum = 0, "quorum"),
        (|p| p.quorum = 4, "quorum"),
        (|p| p.approval_wait = Millis(0), "approval_wait"),
        (|p| p.screening_wait = Millis(0), "screening_wait"),
        (|p| p.intent_validity = Millis(1), "intent_validity"),
        (|p| p.attester = Some([0; 32]), "attester"),
        (|p| p.officers.values_mut().for_each(|key| *key = [0; 32]), "key"),
        (|p| p.officers.values_mut().for_each(|key| *key = officer_key("anna").verifying_key().to_bytes()), "key"),
        (|p| p.chains.get_mut(&chain()).unwrap().native = asset("TUSD"), "native"),
        (|p| p.chains.get_mut(&chain()).unwrap().hot = EthAddress([0; 20]), "hot"),
        (|p| p.chains.get_mut(&chain()).unwrap().nodes.clear(), "nodes"),
        (|p| p.chains.get_mut(&chain()).unwrap().nodes.push(NodeName::new("a").unwrap()), "nodes"),
        (|p| p.chains.get_mut(&chain()).unwrap().kept_blocks = 3, "kept_blocks"),
        (|p| p.chains.get_mut(&chain()).unwrap().fee_max = Amount::ZERO, "fee_max"),
        (|p| p.chains.get_mut(&chain()).unwrap().bump_after = Millis(0), "bump_after"),
        (|p| p.chains.get_mut(&chain()).unwrap().fee_every = Millis::hours(2), "fee_every"),
        (|p| p.assets.get_mut(&asset("TUSD")).unwrap().confirmations = 0, "confirmations"),
        (|p| p.assets.get_mut(&asset("TUSD")).unwrap().asset.kind = AssetKind::Native, "form"),
    ];
    policy().check().unwrap();
    for (edit, expected) in cases {
        let mut edited = policy();
        edit(&mut edited);
        match edited.check() {
            Err(PolicyError::Field { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert!(edited.sign(&policy_root()).is_err(), "what is unfit is not signed: {expected}");
    }
}

#[test]
fn the_text_form_is_read_back_as_it_was_written() {
    let text = policy().to_toml();
    assert_eq!(Policy::from_toml(&text), Ok(policy()), "{text}");
}

#[test]
fn all_problems_of_a_text_are_listed_together() {
    let text = policy().to_toml();
    let hot = address("hot").to_string();
    let text = text
        .replace("version = 1\n", "")
        .replace("approval_wait = \"24 h\"", "approval_wait = \"a day\"")
        .replace(&hot, &hot.to_lowercase())
        .replace("approval_from = \"5\"", "approval_from = 5.0")
        .replace("confirmations = 3", "confirmations = 3\ncolour = 1");
    let problems = Policy::from_toml(&text).unwrap_err();
    let of = |start: &str| problems.iter().any(|line| line.starts_with(start));
    for start in
        ["version:", "approval_wait:", "chains.eip155:31337.hot:", "assets.ETH.approval_from:", "assets.TUSD.colour:"]
    {
        assert!(of(start), "{start} is not in {problems:#?}");
    }
    assert!(Policy::from_toml("= nonsense").is_err());
    let unfit = policy().to_toml().replace("quorum = 2", "quorum = 9");
    assert_eq!(Policy::from_toml(&unfit), Err(vec!["quorum: is not between 1 and the number of officers".to_owned()]));
}

fn yes(amount: Amount, officers: &[&str]) -> (custos_domain::Intent, Vec<Decision>) {
    let saga = saga("client-1", "withdrawal", "k");
    let intent = intent(&saga, "ETH", amount, address("outside"));
    let decisions = officers.iter().map(|name| decision(saga, &intent, name, Verdict::Approve)).collect();
    (intent, decisions)
}

#[test]
fn a_payment_at_the_limit_needs_a_quorum_of_different_officers() {
    let cases: [(&str, &[&str], Result<(), DecisionError>); 6] = [
        ("4.999999999999999999", &[], Ok(())),
        ("5", &[], Err(DecisionError::TooFew { given: 0, needed: 2 })),
        ("5", &["anna"], Err(DecisionError::TooFew { given: 1, needed: 2 })),
        ("5", &["anna", "anna"], Err(DecisionError::TooFew { given: 1, needed: 2 })),
        ("5", &["anna", "nobody"], Err(DecisionError::TooFew { given: 1, needed: 2 })),
        ("5", &["anna", "cora"], Ok(())),
    ];
    for (amount, officers, expected) in cases {
        let (intent, decisions) = yes(ether(amount), officers);
        assert_eq!(approved(&policy(), &intent, &decisions), expected, "{amount} by {officers:?}");
    }
}

#[test]
fn a_no_counts_and_a_borrowed_or_altered_signature_does_not() {
    let (intent, mut decisions) = yes(ether("5"), &OFFICERS);
    decisions.push(decision(decisions[0].saga, &intent, "bert", Verdict::Reject));
    assert_eq!(approved(&policy(), &intent, &decisions), Err(DecisionError::Rejected));

    let digest = intent.digest();
    let [anna, bert, ..] = decisions.as_slice() else { panic!("three decisions") };
    let borrowed = Decision { officer: bert.officer.clone(), ..anna.clone() };
    assert_eq!(verify_decision(&policy(), anna, &digest), Ok(()));
    assert_eq!(verify_decision(&policy(), &borrowed, &digest), Err(DecisionError::Signature));
    let turned = Decision { verdict: Verdict::Reject, ..anna.clone() };
    assert_eq!(verify_decision(&policy(), &turned, &digest), Err(DecisionError::Signature));
    let (other, _) = yes(ether("6"), &[]);
    assert_eq!(verify_decision(&policy(), anna, &other.digest()), Err(DecisionError::OtherIntent));
}

proptest! {
    #[test]
    fn any_bytes_are_a_policy_or_refused(noise: Vec<u8>, at: prop::sample::Index, with: u8) {
        let mut bytes = policy().encode();
        let place = at.index(bytes.len());
        bytes[place] = with;
        for input in [bytes, noise] {
            if let Ok(read) = Policy::decode(&input) {
                let _ = read.check();
                prop_assert_eq!(Policy::decode(&read.encode()).unwrap(), read);
            }
        }
    }
}
