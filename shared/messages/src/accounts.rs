//! What the accounts machine hears.

use custos_domain::{
    AccountId, Amount, AssetId, BlockRef, ChainId, CommandId, Digest, EthAddress, IdempotencyKey, IntentDigest, OfficerId,
    SagaId, TenantId, TxHash, WalletId,
};

use crate::SignedPolicy;

/// A message in `accounts.inbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountsInput {
    /// Gateway: open an account.
    OpenAccount(OpenAccount),
    /// Gateway: issue a deposit address.
    RequestAddress(RequestAddress),
    /// Gateway: pay to an outside address.
    RequestWithdrawal(RequestWithdrawal),
    /// Gateway: move money between two accounts of the bank.
    RequestTransfer(RequestTransfer),
    /// Gateway: an officer's signed yes or no.
    Decide(Decision),
    /// Compliance: the answer to a screening.
    Screened(Screened),
    /// Treasury: an address is derived, recorded and watched.
    AddressReady(AddressReady),
    /// Treasury: what became of a payment.
    Payment(PaymentFact),
    /// Treasury: what a nonce costs the house.
    HouseSpent(HouseSpent),
    /// Chain: what became of a deposit.
    Deposit(DepositFact),
    /// Accounts: money arrives from another account of the bank.
    TransferIn(TransferIn),
    /// Accounts: the receiver's answer to a transfer.
    TransferAnswered(TransferAnswered),
    /// Chain and treasury: everything that concerns blocks up to here has been said on this path.
    BlockMark(BlockMark),
    /// Chain and treasury: something a human must look at.
    Alarm(Alarm),
    /// Operator: a new policy.
    Policy(SignedPolicy),
}

/// Open the account that the bank calls `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAccount {
    /// The bank.
    pub tenant: TenantId,
    /// `AccountId::derive(tenant, key)`.
    pub account: AccountId,
    /// The bank's own opaque reference; also the idempotency key.
    pub key: IdempotencyKey,
}

/// Issue a deposit address on `chain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAddress {
    /// For this account.
    pub account: AccountId,
    /// Idempotency key; the saga is `SagaId::derive(account, "issue-address", key)`.
    pub key: IdempotencyKey,
    /// Digest of the canonical request body: same key with another digest is a conflict.
    pub fingerprint: Digest,
    /// Where.
    pub chain: ChainId,
}

/// Pay `amount` of `asset` to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestWithdrawal {
    /// From this account.
    pub account: AccountId,
    /// Idempotency key; the saga is `SagaId::derive(account, "withdrawal", key)`.
    pub key: IdempotencyKey,
    /// Digest of the canonical request body.
    pub fingerprint: Digest,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// To whom.
    pub to: EthAddress,
    /// The most that the chain may be paid, in base units of the chain's native asset.
    pub fee_max: Amount,
}

/// Move `amount` of `asset` to the account `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTransfer {
    /// From this account.
    pub account: AccountId,
    /// Idempotency key; the saga is `SagaId::derive(account, "transfer", key)`.
    pub key: IdempotencyKey,
    /// Digest of the canonical request body.
    pub fingerprint: Digest,
    /// The receiver.
    pub to: AccountId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
}

/// An officer's yes or no to an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The withdrawal.
    pub saga: SagaId,
    /// Who decides.
    pub officer: OfficerId,
    /// Yes or no.
    pub verdict: Verdict,
    /// What was decided upon.
    pub intent: IntentDigest,
    /// Ed25519 by the officer over [`Decision::signed_bytes`], 64 bytes.
    pub signature: Vec<u8>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

impl Decision {
    /// What an officer signs: `custos-decision`, 1 for yes or 0 for no, then the canonical intent's digest.
    #[must_use]
    pub fn signed_bytes(verdict: Verdict, intent: &IntentDigest) -> Vec<u8> {
        let mut out = b"custos-decision".to_vec();
        out.push(match verdict {
            Verdict::Approve => 1,
            Verdict::Reject => 0,
        });
        out.extend_from_slice(intent.as_bytes());
        out
    }
}

/// Compliance's answer; `command` binds it to the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screened {
    /// The question.
    pub command: CommandId,
    /// The saga that asked.
    pub saga: SagaId,
    /// What was found.
    pub finding: Finding,
    /// Versions of every list and rule set that the decision rests on, `name@version`, sorted.
    pub versions: Vec<String>,
}

/// What a screening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing.
    Clear,
    /// A reason to refuse, by code such as `sanctioned-address` or `velocity`.
    Hit {
        /// Codes, sorted.
        codes: Vec<String>,
    },
}

/// An address exists, is attested and is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressReady {
    /// The saga that asked.
    pub saga: SagaId,
    /// The wallet that owns the address.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// The address.
    pub address: EthAddress,
    /// Its derivation path, such as `m/44'/60'/0'/0/7`.
    pub path: String,
    /// Deposits in blocks after this one are seen.
    pub watched_from: BlockRef,
}

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentFact {
    /// The withdrawal.
    pub saga: SagaId,
    /// What happened.
    pub news: PaymentNews,
}

/// What happened to a payment, in treasury's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentNews {
    /// Treasury has it. From here a signature may exist.
    Taken,
    /// Refused before any signature existed: the hold may be released.
    Refused(PaymentRefusal),
    /// A signature exists.
    Signed {
        /// The transaction.
        tx: TxHash,
        /// Its nonce.
        nonce: u64,
        /// Digest of the signed bytes.
        digest: Digest,
        /// Attempt at this nonce, from 1; above 1 it replaces the former.
        attempt: u32,
    },
    /// In a block on the canonical chain.
    Seen(Inclusion),
    /// That block is no longer on the canonical chain.
    Unseen(Inclusion),
    /// Final: paid.
    Final(Inclusion),
    /// Final: can never pay any more; the hold may be released.
    Impossible(Proof),
}

/// Why treasury refused, before any signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentRefusal {
    /// The chain asked more than the envelope for the whole wait.
    FeeAboveEnvelope,
    /// The hot wallet did not hold enough for the whole wait.
    WalletShort,
    /// The signer refused.
    SignerRefused,
    /// The intent expired before it could be signed.
    Expired,
    /// The node says that the call would revert (paused or black-listed token).
    WouldRevert,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The transaction.
    pub tx: TxHash,
    /// Its nonce.
    pub nonce: u64,
    /// The block.
    pub block: BlockRef,
    /// Fee paid, in base units of the native asset.
    pub fee: Amount,
    /// Whether it did what it was made for.
    pub succeeded: bool,
}

/// Why a payment can never be made any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What consumed the nonce of every signature, at finality, without paying the intent.
    pub consumed_by: Inclusion,
}

/// What a nonce of a hot address costs beyond what a client's payment settled: gas of a no-op, of a transaction that paid nobody, or
/// of a settled payment that was mined again elsewhere. It says everything about the nonce, so the highest version alone counts;
/// a repeat or a late lower one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HouseSpent {
    /// The wallet whose hot address has the nonce.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// The nonce.
    pub nonce: u64,
    /// From 1, rising for this nonce.
    pub version: u64,
    /// The asset of every fee here: the chain's native one.
    pub gas_asset: AssetId,
    /// The client's payment that the nonce was taken for; `None` for a no-op's nonce, and for one that somebody else used.
    pub payment: Option<PaidFor>,
    /// What the payment's own entries say for ever; `None` when they say nothing about this nonce.
    pub settled: Option<Inclusion>,
    /// What consumes the nonce on the canonical chain now, `succeeded` if that pays the payment; `None` while nothing does.
    pub now: Option<Inclusion>,
}

/// A client's payment, as far as its money is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidFor {
    /// The withdrawal.
    pub saga: SagaId,
    /// What it pays.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
}

/// What became of a deposit. A deposit is (chain, tx, index); the block says on which branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositFact {
    /// The account whose address was paid.
    pub account: AccountId,
    /// The deposit.
    pub deposit: Deposit,
    /// What happened.
    pub news: DepositNews,
}

/// Money that arrived at one of our addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// The chain.
    pub chain: ChainId,
    /// The transaction.
    pub tx: TxHash,
    /// The transfer within the transaction: the log index for tokens; `1_000_000 + position in the call trace` for ether.
    pub index: u32,
    /// The block that holds it.
    pub block: BlockRef,
    /// Who sent it, as the transfer says.
    pub from: EthAddress,
    /// Our address.
    pub to: EthAddress,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
}

/// What happened to a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositNews {
    /// In a block on the canonical chain.
    Seen,
    /// That block is no longer on the canonical chain (before or after finality).
    Unseen,
    /// As deep as the asset's finality rule asks, on every configured node.
    Final,
}

/// Money for `to` from another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferIn {
    /// The sender's saga.
    pub saga: SagaId,
    /// The receiver.
    pub to: AccountId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
}

/// The receiver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferAnswered {
    /// The sender's saga.
    pub saga: SagaId,
    /// Whether the receiver exists and was credited. A refusal is definite: nothing was credited and nothing will be.
    pub credited: bool,
}

/// Which way block facts reach accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkPath {
    /// Deposits: straight from the chain machine.
    Deposits,
    /// Payments: through treasury.
    Payments,
}

/// All facts of this path about blocks up to `block` come before this mark on its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMark {
    /// The chain.
    pub chain: ChainId,
    /// The path.
    pub path: MarkPath,
    /// The canonical block.
    pub block: BlockRef,
    /// The accounts shard this mark is for; marks go to every shard.
    pub partition: u32,
}

/// Something a human must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub code: AlarmCode,
    /// The chain, wallet, transaction or saga that it is about: an opaque id.
    pub subject: String,
}

/// Kinds of alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmCode {
    /// Two nodes hold different blocks at a depth where money would be credited.
    NodesDisagree,
    /// A reorganisation reached below finality.
    DeepReorg,
    /// A payment needs a higher fee than its envelope allows.
    FeeEnvelopeReached,
    /// A transaction from our wallet that we do not know.
    ForeignSpend,
    /// A message link between shards has a gap.
    LinkGap,
    /// A saga is parked.
    SagaParked,
    /// A configured node has said nothing for so long that blocks wait for it.
    NodeSilent,
    /// An address without the attestation that the policy asks for: it is not handed out.
    AddressUnattested,
}
