//! A shard without a journal, and the words of those who write to it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use custos_domain::{
    AccountId, Amount, Asset, AssetId, AssetKind, BlockHash, BlockRef, ChainId, CommandId, Digest, EthAddress, Fee, Intent,
    IntentId, Millis, NodeName, OfficerId, SagaId, TenantId, Timestamp, TxHash, WalletId,
};
use custos_messages::accounts::{AccountsInput, Inclusion, PaymentNews};
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::Watching;
use custos_messages::treasury::{
    AddressDerived, Estimated, FeeQuote, SendOutcome, Sent, SignRefusal, SignRefused, Signed, SpendFact, SpendNews,
    TakePayment, TreasuryInput,
};
use custos_messages::wallet::{EthTransaction, SignOrder, WalletCommand, WalletOrder};
use custos_messages::watch::{AddressRole, WatchRecord};
use custos_messages::{Mail, SignedPolicy, Source};
use custos_policy::{AssetPolicy, ChainPolicy, Policy};
use custos_saga::machine::{Cause, Command, Context, Effects, Machine, TimerChange, TimerId, Touched, View};
use custos_treasury::{End, Entity, Key, Payment, Stage, Treasury};

pub const PARTITIONS: u32 = 2;
pub const HOT: EthAddress = EthAddress([9; 20]);
pub const TOKEN: EthAddress = EthAddress([7; 20]);
pub const ENVELOPE: u128 = 1_000_000;

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

pub fn wallet() -> WalletId {
    WalletId::omnibus(&tenant(), &chain())
}

pub fn asset(code: &str) -> AssetId {
    AssetId::new(code).unwrap()
}

pub fn policy() -> Policy {
    let entry = |code: &str, kind| AssetPolicy {
        asset: Asset { id: asset(code), chain: chain(), kind, decimals: 6 },
        confirmations: 3,
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
                hot: HOT,
                nodes: vec![NodeName::new("a").unwrap()],
                kept_blocks: 16,
                mark_every: 2,
                fee_max: Amount::new(ENVELOPE),
                house_fee_max: Amount::new(ENVELOPE),
                fee_wait: Millis::seconds(60),
                fee_every: Millis::seconds(10),
                resend_every: Millis::seconds(15),
                bump_after: Millis::seconds(40),
            },
        )]),
        assets: BTreeMap::from([
            (asset("ETH"), entry("ETH", AssetKind::Native)),
            (asset("USDX"), entry("USDX", AssetKind::Erc20 { contract: TOKEN })),
        ]),
        // The base point of the curve: a usable key that signs nothing here.
        officers: BTreeMap::from([(OfficerId::new("vera").unwrap(), BASE_POINT)]),
        quorum: 1,
        approval_wait: Millis::hours(24),
        screening_wait: Millis::minutes(15),
        intent_validity: Millis::hours(48),
        attester: Some(custos_testkit::attester().verifying_key().to_bytes()),
    }
}

#[derive(Clone)]
pub struct Shard {
    pub state: BTreeMap<Key, Entity>,
    pub timers: BTreeMap<TimerId, Timestamp>,
    pub now: Timestamp,
    pub partition: u32,
}

impl Shard {
    /// A shard without a policy, that owns the wallet.
    pub fn bare() -> Self {
        let partition = custos_domain::partition_of(wallet().as_bytes(), PARTITIONS);
        Self { state: BTreeMap::new(), timers: BTreeMap::new(), now: Timestamp(1_000), partition }
    }

    /// A shard whose hot address is derived and watched.
    pub fn open() -> Self {
        let mut shard = Self::bare();
        let asked = shard.give(TreasuryInput::Policy(signed_policy(&policy())));
        let derive = orders(&asked).remove(0);
        let watch = shard.give(derived(&derive, HOT)).watch;
        assert!(matches!(watch.as_slice(), [WatchRecord::Address(entry)] if entry.role == AddressRole::Hot));
        shard.give(watching(HOT));
        shard
    }

    pub fn apply(&mut self, cause: Cause<TreasuryInput>) -> Effects {
        let mut overlay = Touched::default();
        let context = Context { at: self.now, partition: self.partition, partitions: PARTITIONS, logic: 1 };
        let effects = Treasury::apply(&mut View::new(&self.state, &mut overlay), cause, &context);
        for (key, entity) in overlay {
            match entity {
                Some(entity) => self.state.insert(key, entity),
                None => self.state.remove(&key),
            };
        }
        for change in &effects.timers {
            match change {
                TimerChange::Arm(timer, due) => self.timers.insert(timer.clone(), *due),
                TimerChange::Disarm(timer) => self.timers.remove(timer),
            };
        }
        effects
    }

    pub fn give(&mut self, message: TreasuryInput) -> Effects {
        self.apply(Cause::Message { source: Source::Accounts, message })
    }

    /// Moves time to the first armed timer and fires it.
    pub fn fire(&mut self) -> Effects {
        let (timer, due) =
            self.timers.iter().min_by_key(|(_, due)| **due).map(|(timer, due)| (timer.clone(), *due)).unwrap();
        self.timers.remove(&timer);
        self.now = self.now.max(due);
        self.apply(Cause::Timer(timer))
    }

    /// The next policy, which says the same.
    pub fn publish(&mut self, version: u32) {
        self.give(TreasuryInput::Policy(signed_policy(&Policy { version, ..policy() })));
    }

    /// The next policy, with another chain in place of this one.
    pub fn leave_chain(&mut self, version: u32) {
        let other = ChainId::eip155(2);
        let mut policy = Policy { version, ..policy() };
        policy.chains = policy.chains.into_values().map(|entry| (other.clone(), entry)).collect();
        policy.assets.values_mut().for_each(|entry| entry.asset.chain = other.clone());
        self.give(TreasuryInput::Policy(signed_policy(&policy)));
    }

    pub fn payment(&self, intent: IntentId) -> &Payment {
        match &self.state[&Key::Payment(wallet(), intent)] {
            Entity::Payment(payment) => payment,
            other => panic!("{other:?}"),
        }
    }

    /// How the payment came out.
    pub fn end(&self, intent: IntentId) -> &End {
        match &self.state[&Key::Payment(wallet(), intent)] {
            Entity::Closed(closed) => &closed.ended.end,
            other => panic!("{other:?}"),
        }
    }

    pub fn stage(&self, intent: IntentId) -> &Stage {
        &self.payment(intent).stage
    }
}

pub fn signed_policy(policy: &Policy) -> SignedPolicy {
    SignedPolicy { bytes: policy.encode(), signature: vec![0; 64] }
}

pub fn saga(n: u8) -> SagaId {
    SagaId::derive(&AccountId::derive(&tenant(), "client"), "withdrawal", &[n])
}

/// The payment of `amount` that the `n`th withdrawal asks for.
pub fn take(n: u8, code: &str, amount: u128) -> TakePayment {
    let kind = if code == "ETH" { AssetKind::Native } else { AssetKind::Erc20 { contract: TOKEN } };
    let intent = Intent {
        id: IntentId::of_saga(&saga(n)),
        chain: chain(),
        from: HOT,
        to: EthAddress([n; 20]),
        asset: asset(code),
        amount: Amount::new(amount),
        fee: Fee { max: Amount::new(ENVELOPE), asset: asset("ETH") },
        expires: Timestamp(10_000_000),
        policy_version: 1,
    };
    TakePayment { saga: saga(n), wallet: wallet(), intent, kind, approvals: Vec::new() }
}

pub fn pay(take: &TakePayment) -> TreasuryInput {
    TreasuryInput::TakePayment(Box::new(take.clone()))
}

pub fn orders(effects: &Effects) -> Vec<WalletCommand> {
    let order = |ordered: &custos_saga::machine::Ordered| match &ordered.command {
        Command::Wallet(command) => {
            assert!(!ordered.ahead, "an order to the signer never leaves ahead of the commit");
            Some(command.clone())
        }
        _ => None,
    };
    effects.commands.iter().filter_map(order).collect()
}

pub fn questions(effects: &Effects) -> Vec<BlockchainCommand> {
    let question = |ordered: &custos_saga::machine::Ordered| match &ordered.command {
        Command::Blockchain(command) if matches!(command.order, BlockchainOrder::Estimate { .. }) => {
            assert!(ordered.ahead);
            Some(command.clone())
        }
        _ => None,
    };
    effects.commands.iter().filter_map(question).collect()
}

pub fn sends(effects: &Effects) -> Vec<BlockchainCommand> {
    let send = |ordered: &custos_saga::machine::Ordered| match &ordered.command {
        Command::Blockchain(command) if matches!(command.order, BlockchainOrder::Send { .. }) => {
            assert!(!ordered.ahead, "bytes never leave ahead of the commit");
            Some(command.clone())
        }
        _ => None,
    };
    effects.commands.iter().filter_map(send).collect()
}

pub fn sign_order(command: &WalletCommand) -> &SignOrder {
    match &command.order {
        WalletOrder::Sign(order) => order,
        other @ WalletOrder::DeriveAddress { .. } => panic!("{other:?}"),
    }
}

pub fn quote(fee: u128) -> FeeQuote {
    FeeQuote::Quote {
        gas_limit: 1_000,
        max_fee_per_gas: Amount::new(fee),
        max_priority_fee_per_gas: Amount::new(2),
        native_balance: Amount::new(10_000_000),
        asset_balance: Amount::new(1_000),
        next_nonce: 5,
    }
}

pub fn quoted(question: &BlockchainCommand, quote: FeeQuote) -> TreasuryInput {
    let BlockchainOrder::Estimate { intent, .. } = &question.order else { panic!() };
    TreasuryInput::Estimated(Estimated { command: question.id, wallet: question.wallet, intent: *intent, quote })
}

/// Stands for a signature: bytes that are a function of the transaction.
pub fn bytes(tx: &EthTransaction) -> Vec<u8> {
    format!("{tx:?}").into_bytes()
}

pub fn hash(raw: &[u8]) -> TxHash {
    TxHash(Digest::of(raw).0)
}

pub fn signed(command: &WalletCommand) -> TreasuryInput {
    let order = sign_order(command);
    let raw = bytes(&order.tx);
    TreasuryInput::Signed(Signed {
        command: command.id,
        wallet: command.wallet,
        intent: order.purpose.intent_id(),
        nonce: order.tx.nonce,
        tx: hash(&raw),
        digest: Digest::of(&raw),
        raw,
    })
}

pub fn refused(command: &WalletCommand, reason: SignRefusal) -> TreasuryInput {
    let order = sign_order(command);
    TreasuryInput::SignRefused(SignRefused {
        command: command.id,
        wallet: command.wallet,
        intent: order.purpose.intent_id(),
        nonce: order.tx.nonce,
        reason,
    })
}

pub fn derived(command: &WalletCommand, address: EthAddress) -> TreasuryInput {
    let WalletOrder::DeriveAddress { branch, index, .. } = &command.order else { panic!() };
    let mut derived = AddressDerived {
        command: command.id,
        wallet: command.wallet,
        branch: *branch,
        index: *index,
        address,
        path: format!("m/44'/60'/{branch}'/0/{index}"),
        attestation: Vec::new(),
    };
    derived.attestation = custos_testkit::attestation(&derived);
    TreasuryInput::AddressDerived(derived)
}

pub fn said(send: &BlockchainCommand, outcome: SendOutcome) -> TreasuryInput {
    TreasuryInput::Sent(Sent { command: send.id, wallet: send.wallet, tx: sent_tx(send), outcome })
}

pub fn watching(address: EthAddress) -> TreasuryInput {
    TreasuryInput::Watching(Watching { wallet: wallet(), chain: chain(), address, from: at(3) })
}

pub fn sent_tx(send: &BlockchainCommand) -> TxHash {
    match &send.order {
        BlockchainOrder::Send { tx, .. } => *tx,
        other @ BlockchainOrder::Estimate { .. } => panic!("{other:?}"),
    }
}

pub fn at(number: u64) -> BlockRef {
    BlockRef { number, hash: BlockHash([u8::try_from(number % 200).unwrap(); 32]) }
}

pub fn spent(tx: TxHash, nonce: u64, news: SpendNews) -> SpendFact {
    let (wallet, chain) = (wallet(), chain());
    SpendFact { wallet, chain, tx, nonce, block: at(10), fee: Amount::new(21), succeeded: true, news }
}

pub fn spend(tx: TxHash, nonce: u64, news: SpendNews) -> TreasuryInput {
    TreasuryInput::Spend(spent(tx, nonce, news))
}

/// What accounts is told, in words: `taken`, `signed 1 at 5`, `house 21 for 0 at 5` (the fee now for the fee that was settled), `alarm FeeEnvelopeReached`, `mark 4 to 0`.
pub fn words(effects: &Effects) -> Vec<String> {
    let word = |outbound: &custos_saga::machine::Outbound| match &outbound.message {
        Mail::Accounts(AccountsInput::Payment(fact)) => match &fact.news {
            PaymentNews::Taken => "taken".to_owned(),
            PaymentNews::Refused(reason) => format!("refused {reason:?}"),
            PaymentNews::Signed { nonce, attempt, .. } => format!("signed {attempt} at {nonce}"),
            PaymentNews::Seen(_) => "seen".to_owned(),
            PaymentNews::Unseen(_) => "unseen".to_owned(),
            PaymentNews::Final(_) => "final".to_owned(),
            PaymentNews::Impossible(_) => "impossible".to_owned(),
        },
        Mail::Accounts(AccountsInput::HouseSpent(said)) => {
            let fee = |inclusion: &Option<Inclusion>| inclusion.as_ref().map_or(0, |held| held.fee.base_units());
            format!("house {} for {} at {}", fee(&said.now), fee(&said.settled), said.nonce)
        }
        Mail::Accounts(AccountsInput::Alarm(alarm)) => format!("alarm {:?}", alarm.code),
        Mail::Accounts(AccountsInput::AddressReady(ready)) => format!("ready {}", ready.path),
        Mail::Accounts(AccountsInput::BlockMark(mark)) => {
            assert_eq!(outbound.partition, Some(mark.partition));
            format!("mark {} to {}", mark.block.number, mark.partition)
        }
        other => panic!("{other:?}"),
    };
    effects.messages.iter().map(word).collect()
}

pub fn nothing(id: u8) -> CommandId {
    CommandId([id; 32])
}
