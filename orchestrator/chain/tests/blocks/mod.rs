//! A shard without a journal, and blocks to feed it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use custos_chain::{Chain, Entity, InForce, Key};
use custos_domain::{
    AccountId, Amount, Asset, AssetId, AssetKind, BlockHash, BlockRef, ChainId, Digest, EthAddress, Millis, NodeName,
    OfficerId, TenantId, Timestamp, TxHash, WalletId,
};
use custos_messages::accounts::{AccountsInput, AlarmCode, DepositNews, MarkPath};
use custos_messages::chain::{BlockReport, ChainInput, SpendSeen, TransferSeen};
use custos_messages::treasury::{SpendNews, TreasuryInput};
use custos_messages::watch::WatchRecord;
use custos_messages::{Mail, SignedPolicy, Source};
use custos_policy::{AssetPolicy, ChainPolicy, Policy};
use custos_saga::machine::{Cause, Context, Effects, Machine, Outbound, Touched, View};

pub const PARTITIONS: u32 = 2;

const BASE_POINT: [u8; 32] = {
    let mut point = [0x66; 32];
    point[0] = 0x58;
    point
};

pub fn chain() -> ChainId {
    ChainId::eip155(31337)
}

pub fn tenant() -> TenantId {
    TenantId::new("bank").unwrap()
}

pub fn asset(code: &str) -> AssetId {
    AssetId::new(code).unwrap()
}

/// ETH final at `eth`, USDX at `usdx`, on the chain of [`chain`], followed by `nodes`.
pub fn policy(nodes: &[&str], eth: u32, usdx: u32, kept_blocks: u32) -> Policy {
    let entry = |code: &str, kind: AssetKind, confirmations| AssetPolicy {
        asset: Asset { id: asset(code), chain: chain(), kind, decimals: 6 },
        confirmations,
        approval_from: Amount::new(1_000),
    };
    Policy {
        version: 1,
        tenant: tenant(),
        partitions: PARTITIONS,
        chains: BTreeMap::from([(
            chain(),
            ChainPolicy {
                native: asset("ETH"),
                hot: EthAddress([9; 20]),
                nodes: nodes.iter().map(|name| NodeName::new(name).unwrap()).collect(),
                kept_blocks,
                mark_every: 2,
                fee_max: Amount::new(1_000_000),
                house_fee_max: Amount::new(1_000_000),
                fee_wait: Millis::minutes(10),
                fee_every: Millis::seconds(10),
                resend_every: Millis::seconds(30),
                bump_after: Millis::minutes(2),
            },
        )]),
        assets: BTreeMap::from([
            (asset("ETH"), entry("ETH", AssetKind::Native, eth)),
            (asset("USDX"), entry("USDX", AssetKind::Erc20 { contract: EthAddress([7; 20]) }, usdx)),
        ]),
        // The base point of the curve: a usable key that signs nothing here.
        officers: BTreeMap::from([(OfficerId::new("vera").unwrap(), BASE_POINT)]),
        quorum: 1,
        approval_wait: Millis::hours(24),
        screening_wait: Millis::minutes(15),
        intent_validity: Millis::hours(48),
        attester: None,
    }
}

pub fn signed(policy: &Policy) -> SignedPolicy {
    SignedPolicy { bytes: policy.encode(), signature: vec![0; 64] }
}

pub struct Shard {
    pub state: BTreeMap<Key, Entity>,
}

impl Shard {
    pub fn new(policy: Policy) -> Self {
        let signed = signed(&policy);
        let held = Entity::Policy(Arc::new(InForce { signed, policy }));
        Self { state: BTreeMap::from([(Key::Policy, held)]) }
    }

    pub fn give(&mut self, input: ChainInput) -> Effects {
        let mut overlay = Touched::default();
        let context = Context { at: Timestamp(1), partition: 0, partitions: PARTITIONS, logic: 1 };
        let cause = Cause::Message { source: Source::Blockchain, message: input };
        let effects = Chain::apply(&mut View::new(&self.state, &mut overlay), cause, &context);
        for (key, entity) in overlay {
            match entity {
                Some(entity) => self.state.insert(key, entity),
                None => self.state.remove(&key),
            };
        }
        effects
    }

    pub fn report(&mut self, report: &BlockReport) -> Effects {
        self.give(ChainInput::Block(Box::new(report.clone())))
    }
}

/// A block by a short name; equal names are equal blocks.
pub fn at(number: u64, branch: u8) -> BlockRef {
    BlockRef { number, hash: BlockHash(Digest::of_parts("test block", &[&number.to_be_bytes(), &[branch]]).0) }
}

pub fn empty(node: &str, block: BlockRef, parent: BlockRef) -> BlockReport {
    BlockReport {
        node: NodeName::new(node).unwrap(),
        chain: chain(),
        block,
        parent: parent.hash,
        time: Timestamp(block.number),
        transfers: Vec::new(),
        spends: Vec::new(),
    }
}

pub fn transfer(tx: u8, code: &str, amount: u128) -> TransferSeen {
    TransferSeen {
        tx: TxHash([tx; 32]),
        index: 0,
        from: EthAddress([1; 20]),
        to: EthAddress([2; 20]),
        account: AccountId::derive(&tenant(), "client"),
        asset: asset(code),
        amount: Amount::new(amount),
    }
}

pub fn spend(tx: u8) -> SpendSeen {
    SpendSeen {
        wallet: WalletId::omnibus(&tenant(), &chain()),
        tx: TxHash([tx; 32]),
        nonce: 0,
        fee: Amount::new(21_000),
        succeeded: true,
    }
}

/// What effects say, in words: `seen 1@3`, `final 1@3`, `mark 3`, `alarm NodesDisagree`.
pub fn words(effects: &Effects) -> Vec<String> {
    effects.messages.iter().map(word).collect()
}

fn word(outbound: &Outbound) -> String {
    match &outbound.message {
        Mail::Accounts(AccountsInput::Deposit(fact)) => {
            let news = match fact.news {
                DepositNews::Seen => "seen",
                DepositNews::Unseen => "unseen",
                DepositNews::Final => "final",
            };
            format!("{news} {}@{}", fact.deposit.tx.0[0], fact.deposit.block.number)
        }
        Mail::Treasury(TreasuryInput::Spend(fact)) => {
            let news = match fact.news {
                SpendNews::Seen => "seen",
                SpendNews::Unseen => "unseen",
                SpendNews::Final => "final",
            };
            format!("spend {news} {}@{}", fact.tx.0[0], fact.block.number)
        }
        Mail::Accounts(AccountsInput::BlockMark(mark)) => {
            assert_eq!(outbound.partition, Some(mark.partition));
            assert_eq!(mark.path, MarkPath::Deposits);
            format!("mark {} to {}", mark.block.number, mark.partition)
        }
        Mail::Treasury(TreasuryInput::BlockMark(mark)) => format!("mark {} to treasury", mark.block.number),
        Mail::Accounts(AccountsInput::Alarm(alarm)) => match alarm.code {
            AlarmCode::NodesDisagree => "alarm: nodes disagree".to_owned(),
            AlarmCode::DeepReorg => "alarm: deep reorg".to_owned(),
            AlarmCode::NodeSilent => format!("alarm: silent {}", alarm.subject),
            other => panic!("{other:?}"),
        },
        other => panic!("the chain machine never says {other:?}"),
    }
}

/// [`words`] without marks.
pub fn facts(effects: &Effects) -> Vec<String> {
    words(effects).into_iter().filter(|word| !word.starts_with("mark")).collect()
}

pub fn cursors(effects: &Effects) -> Vec<u64> {
    let number = |record: &WatchRecord| match record {
        WatchRecord::Cursor { block, .. } => block.number,
        WatchRecord::Address(_) => panic!("the chain machine writes no addresses"),
    };
    effects.watch.iter().map(number).collect()
}
