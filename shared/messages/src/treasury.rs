//! What the treasury machine hears.

use custos_domain::{
    AccountId, Amount, AssetKind, BlockRef, ChainId, CommandId, Digest, EthAddress, Intent, IntentId, SagaId, TxHash,
    WalletId,
};

use crate::SignedPolicy;
use crate::accounts::Decision;

/// A message in `treasury.inbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreasuryInput {
    /// Accounts: allocate a deposit address.
    AllocateAddress(AllocateAddress),
    /// Accounts: pay. Idempotent by intent.
    TakePayment(Box<TakePayment>),
    /// Wallet: an address.
    AddressDerived(AddressDerived),
    /// Blockchain: a follower watches an address.
    Watching(Watching),
    /// Blockchain: what the chain asks for a transaction now.
    Estimated(Estimated),
    /// Wallet: a signature.
    Signed(Signed),
    /// Wallet: no signature, and none will be given for this command.
    SignRefused(SignRefused),
    /// Blockchain: what the node said to our bytes.
    Sent(Sent),
    /// Chain: a transaction of a wallet's hot address in or out of the canonical chain.
    Spend(SpendFact),
    /// Chain: everything about blocks up to here has been said.
    BlockMark(ChainMark),
    /// Operator: a new policy.
    Policy(SignedPolicy),
}

/// Allocate the next deposit address of the tenant's omnibus wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocateAddress {
    /// The saga that asks; one address per saga.
    pub saga: SagaId,
    /// Whose deposits it will receive.
    pub account: AccountId,
    /// The wallet.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
}

/// Pay an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakePayment {
    /// The withdrawal.
    pub saga: SagaId,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// What to pay.
    pub intent: Intent,
    /// How the asset exists.
    pub kind: AssetKind,
    /// The officers' decisions, for the signer.
    pub approvals: Vec<Decision>,
}

/// The signer's answer to `DeriveAddress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressDerived {
    /// The question.
    pub command: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// 0 deposits, 1 hot.
    pub branch: u32,
    /// The index.
    pub index: u32,
    /// The address.
    pub address: EthAddress,
    /// The path.
    pub path: String,
    /// Ed25519 by the signer's attestation key over [`AddressDerived::attested_bytes`], 64 bytes.
    pub attestation: Vec<u8>,
}

impl AddressDerived {
    /// What the signer's attestation is over: that `address` is the wallet's at `branch` and `index`.
    #[must_use]
    pub fn attested_bytes(wallet: &WalletId, branch: u32, index: u32, address: &EthAddress) -> Vec<u8> {
        let mut bytes = b"custos-address".to_vec();
        bytes.extend_from_slice(wallet.as_bytes());
        bytes.extend_from_slice(&branch.to_be_bytes());
        bytes.extend_from_slice(&index.to_be_bytes());
        bytes.extend_from_slice(&address.0);
        bytes
    }
}

/// A follower has the address in its watch list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The wallet of the address.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// The address.
    pub address: EthAddress,
    /// Blocks after this one are matched against it.
    pub from: BlockRef,
}

/// What the chain asks for a transaction now, and what the wallet holds there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimated {
    /// The question.
    pub command: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// The intent.
    pub intent: IntentId,
    /// The answer.
    pub quote: FeeQuote,
}

/// An answer to a fee question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeeQuote {
    /// The call would go through now.
    Quote {
        /// Gas limit to sign, with margin, at most 2^24 (EIP-7825).
        gas_limit: u64,
        /// Suggested `maxFeePerGas`, in wei.
        max_fee_per_gas: Amount,
        /// Suggested `maxPriorityFeePerGas`, in wei, at least 1.
        max_priority_fee_per_gas: Amount,
        /// The hot address's balance of the native asset at the latest block.
        native_balance: Amount,
        /// The hot address's balance of the paid asset at the latest block.
        asset_balance: Amount,
        /// The account's nonce at the latest block.
        next_nonce: u64,
    },
    /// The node says that the call would revert.
    WouldRevert,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The order.
    pub command: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// The intent.
    pub intent: IntentId,
    /// The nonce that it spends.
    pub nonce: u64,
    /// The transaction's hash.
    pub tx: TxHash,
    /// The raw signed transaction (EIP-2718).
    pub raw: Vec<u8>,
    /// Digest of `raw`.
    pub digest: Digest,
}

/// A refusal to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignRefused {
    /// The order.
    pub command: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// The intent.
    pub intent: IntentId,
    /// The nonce that was asked for.
    pub nonce: u64,
    /// Why.
    pub reason: SignRefusal,
}

/// Why the signer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignRefusal {
    /// The transaction does not pay what the intent says.
    OutsideIntent,
    /// The fee could exceed the envelope.
    OutsideEnvelope,
    /// Approvals are missing, wrong or too few under the policy.
    NotApproved,
    /// The policy is not signed by the root, or older than one already seen.
    PolicyRefused,
    /// The intent was already signed for another nonce.
    IntentTaken,
    /// The nonce was already signed for another intent.
    NonceTaken,
    /// A replacement that does not raise both fee fields by 10 %.
    WeakReplacement,
    /// The intent expired before its first signature.
    Expired,
    /// A house intent to an address that the signer does not derive, or over its cap.
    HouseRefused,
    /// Not a wallet of this signer. None says so any more, since another may know it; a log may hold it.
    UnknownWallet,
}

/// What the node said to our bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The order.
    pub command: CommandId,
    /// The wallet.
    pub wallet: WalletId,
    /// The transaction.
    pub tx: TxHash,
    /// The answer.
    pub outcome: SendOutcome,
}

/// What a node can say to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendOutcome {
    /// Taken into the pool, or already there.
    InPool,
    /// The nonce is already spent on chain: look for our hashes at that nonce.
    NonceSpent,
    /// A transaction of this nonce with too similar a fee is in the pool.
    Underpriced,
    /// The fee cap is below what this node takes now.
    FeeTooLow,
    /// The hot address cannot pay value and fee now.
    InsufficientFunds,
    /// Refused for another reason that may pass (pool full, node limits); try again.
    Retry,
    /// The node will never take these bytes.
    Invalid,
}

/// A transaction from a wallet's hot address, on or off the canonical chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendFact {
    /// The wallet.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// The transaction.
    pub tx: TxHash,
    /// Its nonce.
    pub nonce: u64,
    /// The block.
    pub block: BlockRef,
    /// Fee paid, in wei.
    pub fee: Amount,
    /// Receipt status.
    pub succeeded: bool,
    /// What happened.
    pub news: SpendNews,
}

/// What happened to a spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpendNews {
    /// In a canonical block.
    Seen,
    /// That block left the canonical chain.
    Unseen,
    /// Final.
    Final,
}

/// Everything about blocks up to `block` has been said to this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainMark {
    /// The wallet that this is for.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// The canonical block.
    pub block: BlockRef,
}
