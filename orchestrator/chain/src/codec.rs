//! State records to bytes and back.
//!
//! Compatibility: schema 1, `proto/custos/state/v1/chain.proto`. Keys order as they do in memory within a chain.

use std::collections::BTreeSet;
use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, BlockRef, ChainId, EthAddress, NodeName, Timestamp, TxHash, WalletId,
};
use custos_messages::SignedPolicy;
use custos_policy::Policy;
use custos_saga::machine::StateError;
use prost::Message as _;

use crate::state::{Block, Entity, InForce, Key, NodeView, Said, Spend, Transfer, Tree};

#[allow(missing_docs, clippy::all, clippy::as_conversions)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/custos.state.v1.chain.rs"));
}

const SCHEMA: u32 = 1;
const POLICY: u8 = 0x10;
const TREE: u8 = 0x11;
const BLOCK: u8 = 0x12;

pub(crate) fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Policy => vec![POLICY],
        Key::Tree(chain) => [&[TREE], chain.as_str().as_bytes()].concat(),
        Key::Block(chain, at) => {
            // A chain's name never holds a zero byte, so that it ends the name.
            [&[BLOCK], chain.as_str().as_bytes(), &[0], &at.number.to_be_bytes(), at.hash.as_bytes()].concat()
        }
    }
}

pub(crate) fn encode_entity(entity: &Entity) -> Vec<u8> {
    let body = match entity {
        Entity::Policy(held) => wire::record::Body::Policy(wire::Policy {
            bytes: held.signed.bytes.clone(),
            signature: held.signed.signature.clone(),
        }),
        Entity::Tree(tree) => wire::record::Body::Tree(tree_out(tree)),
        Entity::Block(block) => wire::record::Body::Block(block_out(block)),
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
    let wrong = |field| StateError::Field { key: name(), field };
    let (own, entity) = match record.body.ok_or_else(|| wrong("body"))? {
        wire::record::Body::Policy(held) => {
            let policy = Policy::decode(&held.bytes).map_err(|_| wrong("policy"))?;
            let signed = SignedPolicy { bytes: held.bytes, signature: held.signature };
            (Key::Policy, Entity::Policy(Arc::new(InForce { signed, policy })))
        }
        wire::record::Body::Tree(tree) => {
            let tree = tree_in(tree).map_err(wrong)?;
            (Key::Tree(tree.chain.clone()), Entity::Tree(Box::new(tree)))
        }
        wire::record::Body::Block(block) => {
            let block = block_in(block).map_err(wrong)?;
            (Key::Block(block.chain.clone(), block.at), Entity::Block(Box::new(block)))
        }
    };
    if encode_key(&own) == key { Ok((own, entity)) } else { Err(StateError::Key(name())) }
}

fn tree_out(tree: &Tree) -> wire::Tree {
    let node = |(name, view): (&NodeName, &NodeView)| wire::Node {
        name: name.as_str().to_owned(),
        reported: Some(at_out(view.reported)),
        head: view.head.map(at_out),
    };
    wire::Tree {
        chain: tree.chain.as_str().to_owned(),
        tip: tree.tip.map(at_out),
        nodes: tree.nodes.iter().map(node).collect(),
        pending: tree.pending.iter().copied().map(at_out).collect(),
        floor: tree.floor,
        settled: tree.settled.map(at_out),
        marked: tree.marked.map(at_out),
        cursor: tree.cursor.map(at_out),
        ignored: tree.ignored,
        silent: names_out(&tree.silent),
        again: tree.again.iter().copied().collect(),
    }
}

fn tree_in(tree: wire::Tree) -> Result<Tree, &'static str> {
    let node = |node: wire::Node| {
        let name = NodeName::new(&node.name).map_err(|_| "nodes.name")?;
        let reported = at_in(node.reported.ok_or("nodes.reported")?)?;
        Ok((name, NodeView { reported, head: node.head.map(at_in).transpose()? }))
    };
    Ok(Tree {
        chain: ChainId::new(&tree.chain).map_err(|_| "chain")?,
        tip: tree.tip.map(at_in).transpose()?,
        nodes: tree.nodes.into_iter().map(node).collect::<Result<_, &'static str>>()?,
        pending: tree.pending.into_iter().map(at_in).collect::<Result<_, _>>()?,
        floor: tree.floor,
        settled: tree.settled.map(at_in).transpose()?,
        marked: tree.marked.map(at_in).transpose()?,
        cursor: tree.cursor.map(at_in).transpose()?,
        ignored: tree.ignored,
        silent: names_in(&tree.silent, "silent")?,
        again: tree.again.into_iter().collect(),
    })
}

fn block_out(block: &Block) -> wire::Block {
    let transfer = |((tx, index), held): (&(TxHash, u32), &Transfer)| wire::Transfer {
        tx: tx.0.to_vec(),
        index: *index,
        from: held.from.0.to_vec(),
        to: held.to.0.to_vec(),
        account: held.account.0.to_vec(),
        asset: held.asset.as_str().to_owned(),
        amount: held.amount.to_be_bytes().to_vec(),
        said: said_out(held.said),
        disputed: held.disputed,
        witnesses: names_out(&held.witnesses),
    };
    let spend = |(tx, held): (&TxHash, &Spend)| wire::Spend {
        tx: tx.0.to_vec(),
        wallet: held.wallet.0.to_vec(),
        nonce: held.nonce,
        fee: held.fee.to_be_bytes().to_vec(),
        succeeded: held.succeeded,
        said: said_out(held.said),
        disputed: held.disputed,
        witnesses: names_out(&held.witnesses),
    };
    wire::Block {
        chain: block.chain.as_str().to_owned(),
        at: Some(at_out(block.at)),
        parent: block.parent.0.to_vec(),
        time_ms: block.time.0,
        canonical: block.canonical,
        alarmed: block.alarmed,
        transfers: block.transfers.iter().map(transfer).collect(),
        spends: block.spends.iter().map(spend).collect(),
    }
}

fn block_in(block: wire::Block) -> Result<Block, &'static str> {
    let transfer = |held: wire::Transfer| {
        let transfer = Transfer {
            from: EthAddress(fixed(&held.from, "transfers.from")?),
            to: EthAddress(fixed(&held.to, "transfers.to")?),
            account: AccountId(fixed(&held.account, "transfers.account")?),
            asset: AssetId::new(&held.asset).map_err(|_| "transfers.asset")?,
            amount: Amount::from_be_bytes(fixed(&held.amount, "transfers.amount")?),
            said: said_in(held.said())?,
            disputed: held.disputed,
            witnesses: names_in(&held.witnesses, "transfers.witnesses")?,
        };
        Ok(((TxHash(fixed(&held.tx, "transfers.tx")?), held.index), transfer))
    };
    let spend = |held: wire::Spend| {
        let spend = Spend {
            wallet: WalletId(fixed(&held.wallet, "spends.wallet")?),
            nonce: held.nonce,
            fee: Amount::from_be_bytes(fixed(&held.fee, "spends.fee")?),
            succeeded: held.succeeded,
            said: said_in(held.said())?,
            disputed: held.disputed,
            witnesses: names_in(&held.witnesses, "spends.witnesses")?,
        };
        Ok((TxHash(fixed(&held.tx, "spends.tx")?), spend))
    };
    Ok(Block {
        chain: ChainId::new(&block.chain).map_err(|_| "chain")?,
        at: at_in(block.at.ok_or("at")?)?,
        parent: BlockHash(fixed(&block.parent, "parent")?),
        time: Timestamp(block.time_ms),
        canonical: block.canonical,
        alarmed: block.alarmed,
        transfers: block.transfers.into_iter().map(transfer).collect::<Result<_, &'static str>>()?,
        spends: block.spends.into_iter().map(spend).collect::<Result<_, &'static str>>()?,
    })
}

fn names_out(names: &BTreeSet<NodeName>) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

fn names_in(names: &[String], field: &'static str) -> Result<BTreeSet<NodeName>, &'static str> {
    names.iter().map(|name| NodeName::new(name).map_err(|_| field)).collect()
}

fn at_out(at: BlockRef) -> wire::BlockRef {
    wire::BlockRef { number: at.number, hash: at.hash.0.to_vec() }
}

fn at_in(at: wire::BlockRef) -> Result<BlockRef, &'static str> {
    Ok(BlockRef { number: at.number, hash: BlockHash(fixed(&at.hash, "hash")?) })
}

fn said_out(said: Said) -> i32 {
    let said = match said {
        Said::Nothing => wire::Said::Nothing,
        Said::Seen => wire::Said::Seen,
        Said::Final => wire::Said::Final,
    };
    said.into()
}

fn said_in(said: wire::Said) -> Result<Said, &'static str> {
    match said {
        wire::Said::Unspecified => Err("said"),
        wire::Said::Nothing => Ok(Said::Nothing),
        wire::Said::Seen => Ok(Said::Seen),
        wire::Said::Final => Ok(Said::Final),
    }
}

fn fixed<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], &'static str> {
    bytes.try_into().map_err(|_| field)
}
