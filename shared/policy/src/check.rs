//! What makes a policy fit to be in force.

use std::collections::BTreeSet;

use custos_domain::{AssetKind, ChainId, EthAddress, Millis};
use ed25519_dalek::VerifyingKey;

use crate::{AssetPolicy, ChainPolicy, Policy, PolicyError};

/// More decimals than any amount of 128 bits can show.
const DECIMALS_MAX: u8 = 38;

/// Followers stop a bounded number of blocks beyond what is final; finality must lie well within.
const CONFIRMATIONS_MAX: u32 = 4_096;

/// A defect: where, which field, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    pub(crate) place: String,
    pub(crate) field: &'static str,
    pub(crate) problem: &'static str,
}

struct Findings(Vec<Defect>);

impl Findings {
    fn unless(&mut self, fine: bool, place: &str, field: &'static str, problem: &'static str) {
        if !fine {
            self.0.push(Defect { place: place.to_owned(), field, problem });
        }
    }
}

impl Policy {
    /// Whether the policy contradicts neither itself nor what money needs.
    ///
    /// # Errors
    /// The first defect.
    pub fn check(&self) -> Result<(), PolicyError> {
        match self.defects().into_iter().next() {
            None => Ok(()),
            Some(Defect { field, problem, .. }) => Err(PolicyError::Field { field, problem }),
        }
    }

    pub(crate) fn defects(&self) -> Vec<Defect> {
        let mut found = Findings(Vec::new());
        found.unless(self.version > 0, "", "version", "starts at 1");
        found.unless((1..=1024).contains(&self.partitions), "", "partitions", "is not between 1 and 1024");
        found.unless(!self.chains.is_empty(), "", "chains", "names no chain");
        let officers = u32::try_from(self.officers.len()).unwrap_or(u32::MAX);
        found.unless((1..=officers).contains(&self.quorum), "", "quorum", "is not between 1 and the number of officers");
        for (field, wait) in [
            ("approval_wait", self.approval_wait),
            ("screening_wait", self.screening_wait),
            ("intent_validity", self.intent_validity),
        ] {
            found.unless(wait > Millis(0), "", field, "is no time at all");
        }
        found.unless(self.intent_validity >= self.approval_wait, "", "intent_validity", "is shorter than approval_wait");
        let usable = |key: &[u8; 32]| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak());
        found.unless(self.attester.iter().all(usable), "", "attester", "is not a usable Ed25519 public key");
        self.check_officers(&mut found);
        self.chains.iter().for_each(|(chain, policy)| self.check_chain(chain, policy, &mut found));
        self.check_assets(&mut found);
        found.0
    }

    fn check_officers(&self, found: &mut Findings) {
        let mut keys = BTreeSet::new();
        for (name, key) in &self.officers {
            let place = format!("officers.{name}");
            let usable = VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak());
            found.unless(usable, &place, "key", "is not a usable Ed25519 public key");
            found.unless(keys.insert(key), &place, "key", "belongs to another officer too");
        }
    }

    fn check_chain(&self, chain: &ChainId, policy: &ChainPolicy, found: &mut Findings) {
        let place = format!("chains.{chain}");
        let native = self.assets.get(&policy.native).map(|entry| &entry.asset);
        let fits = native.is_some_and(|asset| asset.chain == *chain && asset.kind == AssetKind::Native);
        let distinct = policy.nodes.iter().collect::<BTreeSet<_>>().len() == policy.nodes.len();
        let of_chain = |entry: &&AssetPolicy| entry.asset.chain == *chain;
        let deepest = self.assets.values().filter(of_chain).map(|entry| entry.confirmations).max().unwrap_or(0);
        found.unless(chain.eip155_number().is_some(), &place, "chain", "is not an eip155 chain");
        found.unless(fits, &place, "native", "is not registered as this chain's own coin");
        found.unless(policy.hot != EthAddress([0; 20]), &place, "hot", "is the zero address");
        found.unless(
            (1..=2).contains(&policy.nodes.len()) && distinct,
            &place,
            "nodes",
            "are not one or two different nodes",
        );
        found.unless(policy.kept_blocks > deepest, &place, "kept_blocks", "is not above the confirmations of every asset");
        found.unless(policy.mark_every > 0, &place, "mark_every", "is no block at all");
        found.unless(!policy.fee_max.is_zero(), &place, "fee_max", "is nothing");
        found.unless(!policy.house_fee_max.is_zero(), &place, "house_fee_max", "is nothing");
        for (field, wait) in [
            ("fee_wait", policy.fee_wait),
            ("fee_every", policy.fee_every),
            ("resend_every", policy.resend_every),
            ("bump_after", policy.bump_after),
        ] {
            found.unless(wait > Millis(0), &place, field, "is no time at all");
        }
        found.unless(policy.fee_every <= policy.fee_wait, &place, "fee_every", "is longer than fee_wait");
    }

    fn check_assets(&self, found: &mut Findings) {
        let mut forms = BTreeSet::new();
        for (id, entry) in &self.assets {
            let place = format!("assets.{id}");
            let contract = match entry.asset.kind {
                AssetKind::Native => None,
                AssetKind::Erc20 { contract } => Some(contract),
            };
            found.unless(entry.asset.id == *id, &place, "id", "differs from the name it is registered under");
            found.unless(self.chains.contains_key(&entry.asset.chain), &place, "chain", "is not a chain of this policy");
            found.unless(forms.insert((&entry.asset.chain, contract)), &place, "form", "is registered twice");
            found.unless(entry.asset.decimals <= DECIMALS_MAX, &place, "decimals", "is above 38");
            found.unless(entry.confirmations > 0, &place, "confirmations", "is below 1");
            let reachable = entry.confirmations <= CONFIRMATIONS_MAX;
            found.unless(reachable, &place, "confirmations", "is above 4096: followers stop before so many blocks");
        }
    }
}
