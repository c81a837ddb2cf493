//! One constructor for each thing that tests need. Everything is derived from its name: the same call gives the same value in
//! every process. Nothing here is secret, and nothing here belongs into a release.

use std::collections::BTreeMap;

use custos_domain::{
    AccountId, Amount, Asset, AssetId, AssetKind, BlockHash, BlockRef, ChainId, Digest, EthAddress, Fee, IdempotencyKey,
    Intent, IntentId, Millis, NodeName, OfficerId, SagaId, TenantId, Timestamp, TxHash, WalletId,
};
use custos_messages::accounts::{Decision, Verdict};
use custos_messages::treasury::AddressDerived;
use custos_messages::{Keyring, Secret, Source};
use custos_policy::{AssetPolicy, ChainPolicy, Policy, sign_decision};
use ed25519_dalek::{Signer, SigningKey};

/// The officers of [`policy`]; two must agree.
pub const OFFICERS: [&str; 3] = ["anna", "bert", "cora"];

fn seed(what: &str, name: &str) -> [u8; 32] {
    Digest::of_parts("custos testkit", &[what.as_bytes(), name.as_bytes()]).0
}

/// The bank of all tests.
#[must_use]
pub fn tenant() -> TenantId {
    TenantId::new("alpha").expect("a valid name")
}

/// The chain of all tests: `eip155:31337`.
#[must_use]
pub fn chain() -> ChainId {
    ChainId::eip155(31_337)
}

/// The asset called `code`: `ETH` and `TUSD` are in [`policy`].
#[must_use]
pub fn asset(code: &str) -> AssetId {
    AssetId::new(code).expect("a valid asset code")
}

/// `text` in whole ether, such as `0.5`, in wei.
#[must_use]
pub fn ether(text: &str) -> Amount {
    Amount::parse(text, 18).expect("a decimal amount")
}

/// `text` in whole TUSD (6 decimals), in base units.
#[must_use]
pub fn tusd(text: &str) -> Amount {
    Amount::parse(text, 6).expect("a decimal amount")
}

/// The client's account called `name`.
#[must_use]
pub fn account(name: &str) -> AccountId {
    AccountId::derive(&tenant(), name)
}

/// The omnibus wallet on [`chain`].
#[must_use]
pub fn wallet() -> WalletId {
    WalletId::omnibus(&tenant(), &chain())
}

/// An idempotency key.
#[must_use]
pub fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("printable ASCII")
}

/// The saga of `kind` that `account(name)` asked for under `key`.
#[must_use]
pub fn saga(name: &str, kind: &str, key: &str) -> SagaId {
    SagaId::derive(&account(name), kind, key.as_bytes())
}

/// An outside address.
#[must_use]
pub fn address(name: &str) -> EthAddress {
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _] = seed("address", name);
    EthAddress(bytes)
}

/// The hash of a transaction.
#[must_use]
pub fn tx(name: &str) -> TxHash {
    TxHash(seed("tx", name))
}

/// The block at `number` on the branch called `branch`.
#[must_use]
pub fn block(branch: &str, number: u64) -> BlockRef {
    BlockRef { number, hash: BlockHash(Digest::of_parts("custos testkit", &[branch.as_bytes(), &number.to_be_bytes()]).0) }
}

/// The Ed25519 key of the officer called `name`.
#[must_use]
pub fn officer_key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&seed("officer", name))
}

/// The key that signs policies.
#[must_use]
pub fn policy_root() -> SigningKey {
    SigningKey::from_bytes(&seed("policy", "root"))
}

/// The signer's key that attests addresses.
#[must_use]
pub fn attester() -> SigningKey {
    SigningKey::from_bytes(&seed("wallet", "attester"))
}

/// What [`attester`] signs for an address.
#[must_use]
pub fn attestation(derived: &AddressDerived) -> Vec<u8> {
    let AddressDerived { wallet, branch, index, address, .. } = derived;
    attester().sign(&AddressDerived::attested_bytes(wallet, *branch, *index, address)).to_bytes().to_vec()
}

/// Version 1: two shards; ether (3 confirmations, officers from 5 ETH) and TUSD (3 confirmations, officers from 10,000) on
/// [`chain`], followed by node `a`; two of [`OFFICERS`] must agree.
#[must_use]
pub fn policy() -> Policy {
    let asset_policy = |id: &str, kind, decimals, limit| {
        let entry = Asset { id: asset(id), chain: chain(), kind, decimals };
        (asset(id), AssetPolicy { asset: entry, confirmations: 3, approval_from: limit })
    };
    let officer = |name: &str| (OfficerId::new(name).expect("a valid name"), officer_key(name).verifying_key().to_bytes());
    Policy {
        version: 1,
        tenant: tenant(),
        partitions: 2,
        chains: BTreeMap::from([(chain(), chain_policy())]),
        assets: BTreeMap::from([
            asset_policy("ETH", AssetKind::Native, 18, ether("5")),
            asset_policy("TUSD", AssetKind::Erc20 { contract: address("tusd") }, 6, tusd("10000")),
        ]),
        officers: OFFICERS.into_iter().map(officer).collect(),
        quorum: 2,
        approval_wait: Millis::hours(24),
        screening_wait: Millis::minutes(15),
        intent_validity: Millis::hours(48),
        attester: Some(attester().verifying_key().to_bytes()),
    }
}

fn chain_policy() -> ChainPolicy {
    ChainPolicy {
        native: asset("ETH"),
        hot: address("hot"),
        nodes: vec![NodeName::new("a").expect("a valid name")],
        kept_blocks: 64,
        mark_every: 1,
        fee_max: ether("0.1"),
        house_fee_max: ether("0.05"),
        fee_wait: Millis::minutes(30),
        fee_every: Millis::seconds(10),
        resend_every: Millis::seconds(30),
        bump_after: Millis::minutes(2),
    }
}

/// A keyring with every source's secret.
#[must_use]
pub fn keyring() -> Keyring {
    Keyring::new(Source::ALL.into_iter().map(|source| (source, secret(source))).collect())
}

/// The secret of `source` in [`keyring`].
#[must_use]
pub fn secret(source: Source) -> Secret {
    Secret::new(&seed("source", source.name())).expect("32 bytes")
}

/// The intent of `saga` to pay `amount` of `code` to `to`, valid for ever.
#[must_use]
pub fn intent(saga: &SagaId, code: &str, amount: Amount, to: EthAddress) -> Intent {
    Intent {
        id: IntentId::of_saga(saga),
        chain: chain(),
        from: address("hot"),
        to,
        asset: asset(code),
        amount,
        fee: Fee { max: ether("0.01"), asset: asset("ETH") },
        expires: Timestamp(u64::MAX),
        policy_version: 1,
    }
}

/// The signed decision of the officer called `officer` about `intent`.
#[must_use]
pub fn decision(saga: SagaId, intent: &Intent, officer: &str, verdict: Verdict) -> Decision {
    let digest = intent.digest();
    Decision {
        saga,
        officer: OfficerId::new(officer).expect("a valid name"),
        verdict,
        intent: digest,
        signature: sign_decision(&officer_key(officer), verdict, &digest),
    }
}
