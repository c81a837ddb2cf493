//! What the chain adapter is asked. It answers in `treasury.inbox`, and reports blocks to `chain.inbox`.

use custos_domain::{Amount, AssetKind, ChainId, CommandId, EthAddress, IntentId, TxHash, WalletId};

/// A command to the chain adapter. Idempotent by `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockchainCommand {
    /// Derived from the content; the reply carries it.
    pub id: CommandId,
    /// The wallet concerned.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// What is asked.
    pub order: BlockchainOrder,
}

/// What the adapter can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockchainOrder {
    /// What would this cost now? A question, without effect.
    Estimate {
        /// The intent.
        intent: IntentId,
        /// The hot address.
        from: EthAddress,
        /// The asset that is paid.
        kind: AssetKind,
        /// Called or paid.
        to: EthAddress,
        /// Ether sent, in wei.
        value: Amount,
        /// Call data.
        data: Vec<u8>,
    },
    /// Give these bytes to the node. The same bytes may be given any number of times.
    Send {
        /// The transaction.
        tx: TxHash,
        /// The signed bytes.
        raw: Vec<u8>,
    },
}
