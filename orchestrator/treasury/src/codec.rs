//! State records to bytes and back.
//!
//! Compatibility: schema 1, `proto/custos/state/v1/treasury.proto`. Keys order as they do in memory within a wallet. A payment's
//! request is kept as the message that it came in, under that message's own compatibility promise. Payments that had ended
//! before there was a record for them are read as that record.

mod closed;
mod payment;

use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, BlockRef, ChainId, EthAddress, IntentId, SagaId, TxHash, WalletId,
};
use custos_messages::SignedPolicy;
use custos_policy::Policy;
use custos_saga::machine::StateError;
use prost::Message as _;

use crate::state::{Allocation, AllocationStatus, Entity, Hot, InForce, Key, Wallet};

#[allow(missing_docs, clippy::all, clippy::as_conversions)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/custos.state.v1.treasury.rs"));
}

use wire::record::Body;

const SCHEMA: u32 = 1;
const POLICY: u8 = 0x10;
const WALLET: u8 = 0x11;
const ALLOCATION: u8 = 0x12;
const SAGA_INDEX: u8 = 0x13;
const ADDRESS_INDEX: u8 = 0x14;
const PAYMENT: u8 = 0x15;
const SLOT: u8 = 0x16;
const TX: u8 = 0x17;
const SPENT: u8 = 0x18;

pub(crate) fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Policy => vec![POLICY],
        Key::Wallet(wallet) => [&[WALLET], wallet.as_bytes()].concat(),
        Key::Allocation(wallet, index) => [&[ALLOCATION], wallet.as_bytes(), &index.to_be_bytes()].concat(),
        Key::SagaIndex(wallet, saga) => [&[SAGA_INDEX], wallet.as_bytes(), &saga.to_bytes()].concat(),
        Key::AddressIndex(wallet, address) => [&[ADDRESS_INDEX], wallet.as_bytes(), &address.0].concat(),
        Key::Payment(wallet, intent) => [&[PAYMENT], wallet.as_bytes(), intent.as_bytes()].concat(),
        Key::Slot(wallet, nonce) => [&[SLOT], wallet.as_bytes(), &nonce.to_be_bytes()].concat(),
        Key::Tx(wallet, tx) => [&[TX], wallet.as_bytes(), tx.as_bytes()].concat(),
        Key::Spent(wallet, nonce) => [&[SPENT], wallet.as_bytes(), &nonce.to_be_bytes()].concat(),
    }
}

/// The key of these bytes.
fn decode_key(bytes: &[u8]) -> Option<Key> {
    let (kind, rest) = bytes.split_first()?;
    if *kind == POLICY {
        return rest.is_empty().then_some(Key::Policy);
    }
    let (wallet, rest) = rest.split_at_checked(16)?;
    let wallet = WalletId::from_slice(wallet).ok()?;
    match *kind {
        WALLET => rest.is_empty().then_some(Key::Wallet(wallet)),
        ALLOCATION => Some(Key::Allocation(wallet, u32::from_be_bytes(rest.try_into().ok()?))),
        SAGA_INDEX => Some(Key::SagaIndex(wallet, SagaId::from_slice(rest).ok()?)),
        ADDRESS_INDEX => Some(Key::AddressIndex(wallet, EthAddress(rest.try_into().ok()?))),
        PAYMENT => Some(Key::Payment(wallet, IntentId::from_slice(rest).ok()?)),
        SLOT => Some(Key::Slot(wallet, u64::from_be_bytes(rest.try_into().ok()?))),
        TX => Some(Key::Tx(wallet, TxHash::from_slice(rest).ok()?)),
        SPENT => Some(Key::Spent(wallet, u64::from_be_bytes(rest.try_into().ok()?))),
        _ => None,
    }
}

pub(crate) fn encode_entity(entity: &Entity) -> Vec<u8> {
    let body = match entity {
        Entity::Policy(held) => Body::Policy(policy_out(&held.signed)),
        Entity::Wallet(wallet) => Body::Wallet(wallet_out(wallet)),
        Entity::Allocation(allocation) => Body::Allocation(allocation_out(allocation)),
        Entity::Index(index) => Body::Index(wire::Index { index: *index }),
        Entity::Payment(payment) => Body::Payment(payment::out(payment)),
        Entity::Closed(closed) => Body::Closed(closed::out(closed)),
        Entity::Spent(spent) => Body::Spent(closed::spent_out(spent)),
        Entity::Owner(intent) => Body::Owner(wire::Owner { intent: intent.0.to_vec() }),
    };
    wire::Record { schema: SCHEMA, body: Some(body) }.encode_to_vec()
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<(Key, Entity), StateError> {
    let name = || hex::encode(key);
    let malformed = |source| StateError::Malformed { key: name(), source };
    let schema = wire::Schema::decode(value).map_err(malformed)?.schema;
    if schema != SCHEMA {
        return Err(StateError::Schema { key: name(), schema });
    }
    let record = wire::Record::decode(value).map_err(malformed)?;
    let own = decode_key(key).ok_or_else(|| StateError::Key(name()))?;
    let wrong = |field| StateError::Field { key: name(), field };
    let body = record.body.ok_or_else(|| wrong("body"))?;
    let entity = match (&own, body) {
        (Key::Policy, Body::Policy(held)) => {
            let policy = Policy::decode(&held.bytes).map_err(|_| wrong("policy"))?;
            Entity::Policy(Arc::new(InForce { signed: policy_in(held), policy }))
        }
        (Key::Wallet(id), Body::Wallet(wallet)) => Entity::Wallet(wallet_in(*id, wallet).map_err(wrong)?),
        (Key::Allocation(..), Body::Allocation(held)) => Entity::Allocation(allocation_in(held).map_err(wrong)?),
        (Key::SagaIndex(..) | Key::AddressIndex(..), Body::Index(held)) => Entity::Index(held.index),
        (Key::Payment(wallet, intent), Body::Payment(held)) => {
            let payment = payment::read(*wallet, held).map_err(wrong)?;
            if payment.intent() != *intent {
                return Err(wrong("purpose"));
            }
            closed::upcast(payment)
        }
        (Key::Payment(wallet, intent), Body::Closed(held)) => {
            Entity::Closed(Box::new(closed::read((*wallet, *intent), held).map_err(wrong)?))
        }
        (Key::Spent(..), Body::Spent(held)) => Entity::Spent(Box::new(closed::spent_in(held).map_err(wrong)?)),
        (Key::Slot(..) | Key::Tx(..), Body::Owner(held)) => {
            Entity::Owner(IntentId(fixed(&held.intent, "intent").map_err(wrong)?))
        }
        _ => return Err(StateError::Key(name())),
    };
    Ok((own, entity))
}

fn policy_out(signed: &SignedPolicy) -> wire::Policy {
    wire::Policy { bytes: signed.bytes.clone(), signature: signed.signature.clone() }
}

fn policy_in(held: wire::Policy) -> SignedPolicy {
    SignedPolicy { bytes: held.bytes, signature: held.signature }
}

fn wallet_out(wallet: &Wallet) -> wire::Wallet {
    use wire::wallet::Hot as Wire;
    let reserved = |(asset, amount): (&AssetId, &Amount)| wire::Reserved {
        asset: asset.as_str().to_owned(),
        amount: amount.to_be_bytes().to_vec(),
    };
    wire::Wallet {
        chain: wallet.chain.as_str().to_owned(),
        next_index: wallet.next_index,
        next_nonce: wallet.next_nonce,
        reserved: wallet.reserved.iter().map(reserved).collect(),
        hot: Some(match wallet.hot {
            Hot::Deriving => Wire::HotDeriving(wire::Empty {}),
            Hot::Watching(address) => Wire::HotWatching(address.0.to_vec()),
            Hot::Watched(address) => Wire::HotWatched(address.0.to_vec()),
            Hot::Wrong(address) => Wire::HotWrong(address.0.to_vec()),
        }),
    }
}

fn wallet_in(id: WalletId, wallet: wire::Wallet) -> Result<Wallet, &'static str> {
    use wire::wallet::Hot as Wire;
    let reserved = |held: wire::Reserved| {
        let asset = AssetId::new(&held.asset).map_err(|_| "reserved.asset")?;
        Ok((asset, amount(&held.amount, "reserved.amount")?))
    };
    Ok(Wallet {
        id,
        chain: ChainId::new(&wallet.chain).map_err(|_| "chain")?,
        next_index: wallet.next_index,
        next_nonce: wallet.next_nonce,
        reserved: wallet.reserved.into_iter().map(reserved).collect::<Result<_, &'static str>>()?,
        hot: match wallet.hot.ok_or("hot")? {
            Wire::HotDeriving(_) => Hot::Deriving,
            Wire::HotWatching(address) => Hot::Watching(EthAddress(fixed(&address, "hot")?)),
            Wire::HotWatched(address) => Hot::Watched(EthAddress(fixed(&address, "hot")?)),
            Wire::HotWrong(address) => Hot::Wrong(EthAddress(fixed(&address, "hot")?)),
        },
    })
}

fn allocation_out(held: &Allocation) -> wire::Allocation {
    let (address, path, watched_from) = match &held.status {
        AllocationStatus::Deriving | AllocationStatus::Unattested => (Vec::new(), String::new(), None),
        AllocationStatus::Watching { address, path } => (address.0.to_vec(), path.clone(), None),
        AllocationStatus::Ready { address, path, from } => (address.0.to_vec(), path.clone(), Some(at_out(*from))),
    };
    wire::Allocation {
        chain: held.chain.as_str().to_owned(),
        saga: held.saga.to_bytes().to_vec(),
        account: held.account.0.to_vec(),
        address,
        path,
        watched_from,
        unattested: held.status == AllocationStatus::Unattested,
    }
}

fn allocation_in(held: wire::Allocation) -> Result<Allocation, &'static str> {
    let status = match (held.address.is_empty(), held.watched_from) {
        (true, None) if held.unattested => AllocationStatus::Unattested,
        (true, None) => AllocationStatus::Deriving,
        (false, _) if held.unattested => return Err("unattested"),
        (true, Some(_)) => return Err("address"),
        (false, watched) => {
            let (address, path) = (EthAddress(fixed(&held.address, "address")?), held.path);
            match watched {
                None => AllocationStatus::Watching { address, path },
                Some(from) => AllocationStatus::Ready { address, path, from: at_in(from)? },
            }
        }
    };
    Ok(Allocation {
        chain: ChainId::new(&held.chain).map_err(|_| "chain")?,
        saga: SagaId::from_slice(&held.saga).map_err(|_| "saga")?,
        account: AccountId(fixed(&held.account, "account")?),
        status,
    })
}

fn at_out(at: BlockRef) -> wire::BlockRef {
    wire::BlockRef { number: at.number, hash: at.hash.0.to_vec() }
}

fn at_in(at: wire::BlockRef) -> Result<BlockRef, &'static str> {
    Ok(BlockRef { number: at.number, hash: BlockHash(fixed(&at.hash, "hash")?) })
}

fn amount(bytes: &[u8], field: &'static str) -> Result<Amount, &'static str> {
    Ok(Amount::from_be_bytes(fixed(bytes, field)?))
}

fn fixed<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], &'static str> {
    bytes.try_into().map_err(|_| field)
}
