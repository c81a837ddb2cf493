//! The policy's bytes. Maps are lists sorted by their key: one policy has one encoding.

use std::collections::BTreeMap;

use custos_domain::{Asset, AssetKind, ChainId, OfficerId};
use custos_messages::wire::{self, Body, Fault, Field, Wire, WireError};
use prost::Message as _;

use crate::{AssetPolicy, ChainPolicy, Policy, PolicyError, proto};

impl Policy {
    /// The bytes; the same policy always gives the same.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::to_bytes(self)
    }

    /// Reads bytes without judging the policy: see [`Policy::check`].
    ///
    /// # Errors
    /// Malformed Protobuf, or the first field that is absent, wrong or out of order. There are no defaults.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        wire::from_bytes(bytes).map_err(|problem| match problem {
            WireError::Malformed(source) => PolicyError::Malformed(source),
            WireError::Field(Fault { field, problem }) => PolicyError::Field { field, problem },
        })
    }
}

/// A map from a list that must be sorted and without repeats.
fn sorted<K: Ord, V, P>(
    list: Vec<P>,
    field: &'static str,
    read: impl Fn(P) -> Result<(K, V), Fault>,
) -> Result<BTreeMap<K, V>, Fault> {
    let mut map = BTreeMap::new();
    for item in list {
        let (key, value) = read(item).map_err(|fault| fault.of(field))?;
        if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Fault { field, problem: "is not sorted, or names something twice" });
        }
        map.insert(key, value);
    }
    Ok(map)
}

impl Wire for Policy {
    type Proto = proto::Policy;

    fn put(&self) -> proto::Policy {
        proto::Policy {
            version: self.version.put_field(),
            tenant: self.tenant.put_field(),
            partitions: self.partitions.put_field(),
            chains: self.chains.iter().map(|(chain, policy)| put_chain(chain, policy)).collect(),
            assets: self.assets.values().map(AssetPolicy::put).collect(),
            officers: self.officers.iter().map(|(name, key)| put_officer(name, key)).collect(),
            quorum: self.quorum.put_field(),
            approval_wait: self.approval_wait.put_field(),
            screening_wait: self.screening_wait.put_field(),
            intent_validity: self.intent_validity.put_field(),
            attester: self.attester.put_field(),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        wire::write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::Policy) -> Result<Self, Fault> {
        Ok(Self {
            version: Field::take_field(proto.version, "version")?,
            tenant: Field::take_field(proto.tenant, "tenant")?,
            partitions: Field::take_field(proto.partitions, "partitions")?,
            chains: sorted(proto.chains, "chains", take_chain)?,
            assets: sorted(proto.assets, "assets", |item| {
                AssetPolicy::take(item).map(|policy| (policy.asset.id.clone(), policy))
            })?,
            officers: sorted(proto.officers, "officers", |item| {
                Ok((OfficerId::take_field(item.name, "name")?, Field::take_field(item.key, "key")?))
            })?,
            quorum: Field::take_field(proto.quorum, "quorum")?,
            approval_wait: Field::take_field(proto.approval_wait, "approval_wait")?,
            screening_wait: Field::take_field(proto.screening_wait, "screening_wait")?,
            intent_validity: Field::take_field(proto.intent_validity, "intent_validity")?,
            attester: Field::take_field(proto.attester, "attester")?,
        })
    }
}

/// Policies are written once and read for ever: the generated form writes them.
impl Body for Policy {
    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend(self.put().encode_to_vec());
    }
}

fn put_officer(name: &OfficerId, key: &[u8; 32]) -> proto::Officer {
    proto::Officer { name: name.put_field(), key: key.put_field() }
}

fn put_chain(chain: &ChainId, policy: &ChainPolicy) -> proto::ChainPolicy {
    proto::ChainPolicy {
        chain: chain.put_field(),
        native: policy.native.put_field(),
        hot: policy.hot.put_field(),
        nodes: policy.nodes.put_field(),
        kept_blocks: policy.kept_blocks.put_field(),
        mark_every: policy.mark_every.put_field(),
        fee_max: policy.fee_max.put_field(),
        house_fee_max: policy.house_fee_max.put_field(),
        fee_wait: policy.fee_wait.put_field(),
        fee_every: policy.fee_every.put_field(),
        resend_every: policy.resend_every.put_field(),
        bump_after: policy.bump_after.put_field(),
    }
}

fn take_chain(proto: proto::ChainPolicy) -> Result<(ChainId, ChainPolicy), Fault> {
    let policy = ChainPolicy {
        native: Field::take_field(proto.native, "native")?,
        hot: Field::take_field(proto.hot, "hot")?,
        nodes: Field::take_field(proto.nodes, "nodes")?,
        kept_blocks: Field::take_field(proto.kept_blocks, "kept_blocks")?,
        mark_every: Field::take_field(proto.mark_every, "mark_every")?,
        fee_max: Field::take_field(proto.fee_max, "fee_max")?,
        house_fee_max: Field::take_field(proto.house_fee_max, "house_fee_max")?,
        fee_wait: Field::take_field(proto.fee_wait, "fee_wait")?,
        fee_every: Field::take_field(proto.fee_every, "fee_every")?,
        resend_every: Field::take_field(proto.resend_every, "resend_every")?,
        bump_after: Field::take_field(proto.bump_after, "bump_after")?,
    };
    Ok((Field::take_field(proto.chain, "chain")?, policy))
}

impl Wire for AssetPolicy {
    type Proto = proto::AssetPolicy;

    fn put(&self) -> proto::AssetPolicy {
        use proto::asset_form::{Erc20, Is, Native};
        let form = match &self.asset.kind {
            AssetKind::Native => Is::Native(Native {}),
            AssetKind::Erc20 { contract } => Is::Erc20(Erc20 { contract: contract.put_field() }),
        };
        let asset = proto::Asset {
            id: self.asset.id.put_field(),
            chain: self.asset.chain.put_field(),
            form: Some(proto::AssetForm { is: Some(form) }),
            decimals: u32::from(self.asset.decimals).put_field(),
        };
        proto::AssetPolicy {
            asset: Some(asset),
            confirmations: self.confirmations.put_field(),
            approval_from: self.approval_from.put_field(),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        wire::write_bytes(number, &self.put().encode_to_vec(), out);
    }

    fn take(proto: proto::AssetPolicy) -> Result<Self, Fault> {
        use proto::asset_form::Is;
        let asset = proto.asset.ok_or(Fault { field: "asset", problem: "is absent" })?;
        let kind = match asset.form.and_then(|form| form.is) {
            None => return Err(Fault { field: "form", problem: "is absent or an unknown choice" }),
            Some(Is::Native(_)) => AssetKind::Native,
            Some(Is::Erc20(token)) => AssetKind::Erc20 { contract: Field::take_field(token.contract, "contract")? },
        };
        let decimals = u32::take_field(asset.decimals, "decimals")?;
        let asset = Asset {
            id: Field::take_field(asset.id, "id")?,
            chain: Field::take_field(asset.chain, "chain")?,
            kind,
            decimals: u8::try_from(decimals).map_err(|_| Fault { field: "decimals", problem: "is above 255" })?,
        };
        Ok(Self {
            asset,
            confirmations: Field::take_field(proto.confirmations, "confirmations")?,
            approval_from: Field::take_field(proto.approval_from, "approval_from")?,
        })
    }
}
