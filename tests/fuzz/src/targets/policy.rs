//! Policy: as people write it, as it is signed, and officers' decisions on it.

use custos_messages::SignedPolicy;
use custos_messages::accounts::Verdict;
use custos_policy::{Policy, read_trusted, verify, verify_decision};
use custos_testkit as kit;

use super::Target;

pub const TARGET: Target = Target { name: "policy", seeds, run, words: WORDS, mutations: 1_500 };

const WORDS: &[&str] = &["15 min", "18446744073709551615 h", "native", "erc20", "-1", "[chains.", "nan", "1e9", "\u{feff}"];
/// The first byte of an input says what the rest is.
const TEXT: u8 = b't';
const BYTES: u8 = b'b';
const SIGNATURE: u8 = b's';

fn seeds() -> Vec<Vec<u8>> {
    let (saga, policy) = (kit::saga("client", "withdrawal", "key"), kit::policy());
    let intent = kit::intent(&saga, "ETH", kit::ether("5"), kit::address("receiver"));
    let decision = kit::decision(saga, &intent, "anna", Verdict::Approve);
    vec![
        [&[TEXT][..], policy.to_toml().as_bytes()].concat(),
        [&[BYTES][..], &policy.encode()].concat(),
        [&[SIGNATURE][..], &decision.signature].concat(),
    ]
}

fn run(input: &[u8]) {
    match input.split_first() {
        Some((&TEXT, rest)) => text(rest),
        Some((&BYTES, rest)) => bytes(rest),
        Some((&SIGNATURE, rest)) => signature(rest),
        _ => {}
    }
}

fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Policy::from_toml(text) {
        Ok(policy) => {
            assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy.clone()), "a policy survives its own text");
            survives(&policy);
        }
        Err(problems) => assert!(problems.iter().all(|problem| !problem.is_empty()) && !problems.is_empty()),
    }
}

fn bytes(input: &[u8]) {
    let unsigned = SignedPolicy { bytes: input.to_vec(), signature: vec![0; 64] };
    assert!(verify(&unsigned, &kit::policy_root().verifying_key()).is_err(), "nobody has signed it");
    if let Ok(policy) = read_trusted(&unsigned) {
        survives(&policy);
    }
}

fn survives(policy: &Policy) {
    assert!(policy.quorum > 0 && policy.partitions > 0, "what guards money is said");
    assert_eq!(Policy::decode(&policy.encode()).ok().as_ref(), Some(policy), "a policy survives its own bytes");
    let signed = policy.sign(&kit::policy_root()).expect("a policy that was read can be signed");
    assert_eq!(verify(&signed, &kit::policy_root().verifying_key()).ok().as_ref(), Some(policy));
}

/// No signature but the officer's own counts, and his counts for this intent alone.
fn signature(input: &[u8]) {
    let (saga, policy) = (kit::saga("client", "withdrawal", "key"), kit::policy());
    let intent = kit::intent(&saga, "ETH", kit::ether("5"), kit::address("receiver"));
    let own = kit::decision(saga, &intent, "anna", Verdict::Approve);
    let mut decision = own.clone();
    decision.signature = input.to_vec();
    let counts = verify_decision(&policy, &decision, &intent.digest()).is_ok();
    assert_eq!(counts, decision.signature == own.signature, "Ed25519 signatures are unique, and checked strictly");
}
