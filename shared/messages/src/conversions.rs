//! Every message's fields, by name: the Rust types and the messages of `proto/custos/v1` say the same.

use custos_domain::{AssetKind, BlockRef, ChainId, Fee, Intent};

use crate::accounts::*;
use crate::blockchain::{BlockchainCommand, BlockchainOrder};
use crate::chain::{BlockReport, SpendSeen, TransferSeen};
use crate::compliance::{Direction, Party, Screen};
use crate::events::*;
use crate::gateway::{GatewayReply, Outcome, Subject};
use crate::treasury::*;
use crate::wallet::{EthTransaction, Purpose, SignOrder, WalletCommand, WalletOrder};
use crate::watch::{AddressRole, WatchedAddress};
use crate::wire::{Body, Fault, Field, Wire, write_message};
use crate::{Activate, SignedPolicy, TimerDue, proto, wire_choice, wire_enum, wire_struct};

wire_struct!(proto:
    BlockRef { number, hash }
    Fee { max, asset }
    Intent { id, chain, from, to, asset, amount, fee, expires, policy_version }
    SignedPolicy { bytes, signature }
    TimerDue { timer, due }
    Activate { logic }
);

wire_choice!(proto: AssetKind in asset_kind { Native {} Erc20 { contract } } []);

impl Wire for (ChainId, BlockRef) {
    type Proto = proto::ChainBlock;

    fn put(&self) -> proto::ChainBlock {
        proto::ChainBlock { chain: self.0.put_field(), block: self.1.put_field() }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message(number, out, |out| self.write_body(out));
    }

    fn take(proto: proto::ChainBlock) -> Result<Self, Fault> {
        Ok((Field::take_field(proto.chain, "chain")?, Field::take_field(proto.block, "block")?))
    }
}

impl Body for (ChainId, BlockRef) {
    fn write_body(&self, out: &mut Vec<u8>) {
        self.0.write(proto::numbers::ChainBlock::chain, out);
        self.1.write(proto::numbers::ChainBlock::block, out);
    }
}

// Accounts.
wire_struct!(proto:
    OpenAccount { tenant, account, key }
    RequestAddress { account, key, fingerprint, chain }
    RequestWithdrawal { account, key, fingerprint, asset, amount, to, fee_max }
    RequestTransfer { account, key, fingerprint, to, asset, amount }
    Decision { saga, officer, verdict, intent, signature }
    Screened { command, saga, finding, versions }
    AddressReady { saga, wallet, chain, address, path, watched_from }
    PaymentFact { saga, news }
    Inclusion { tx, nonce, block, fee, succeeded }
    Proof { consumed_by }
    HouseSpent { wallet, chain, nonce, version, gas_asset, payment, settled, now }
    PaidFor { saga, asset, amount }
    DepositFact { account, deposit, news }
    Deposit { chain, tx, index, block, from, to, asset, amount }
    TransferIn { saga, to, asset, amount }
    TransferAnswered { saga, credited }
    BlockMark { chain, path, block, partition }
    Alarm { code, subject }
);
wire_enum!(proto:
    Verdict { Approve, Reject }
    PaymentRefusal { FeeAboveEnvelope, WalletShort, SignerRefused, Expired, WouldRevert }
    DepositNews { Seen, Unseen, Final }
    MarkPath { Deposits, Payments }
    AlarmCode { NodesDisagree, DeepReorg, FeeEnvelopeReached, ForeignSpend, LinkGap, SagaParked, NodeSilent, AddressUnattested }
);
wire_choice!(proto:
    Finding in finding { Clear {} Hit { codes } } []
    PaymentNews in payment_news { Taken {} Signed { tx, nonce, digest, attempt } } [Refused Seen Unseen Final Impossible]
);

// Treasury.
wire_struct!(proto:
    AllocateAddress { saga, account, wallet, chain }
    TakePayment { saga, wallet, intent, kind, approvals }
    AddressDerived { command, wallet, branch, index, address, path, attestation }
    Watching { wallet, chain, address, from }
    Estimated { command, wallet, intent, quote }
    Signed { command, wallet, intent, nonce, tx, raw, digest }
    SignRefused { command, wallet, intent, nonce, reason }
    Sent { command, wallet, tx, outcome }
    SpendFact { wallet, chain, tx, nonce, block, fee, succeeded, news }
    ChainMark { wallet, chain, block }
);
wire_enum!(proto:
    SignRefusal {
        OutsideIntent, OutsideEnvelope, NotApproved, PolicyRefused, IntentTaken, NonceTaken, WeakReplacement, Expired,
        HouseRefused, UnknownWallet,
    }
    SendOutcome { InPool, NonceSpent, Underpriced, FeeTooLow, InsufficientFunds, Retry, Invalid }
    SpendNews { Seen, Unseen, Final }
);
wire_choice!(proto:
    FeeQuote in fee_quote {
        Quote { gas_limit, max_fee_per_gas, max_priority_fee_per_gas, native_balance, asset_balance, next_nonce }
        WouldRevert {}
    } []
);

// Chain.
wire_struct!(proto:
    BlockReport { node, chain, block, parent, time, transfers, spends }
    TransferSeen { tx, index, from, to, account, asset, amount }
    SpendSeen { wallet, tx, nonce, fee, succeeded }
);

// Commands.
wire_struct!(proto:
    WalletCommand { id, wallet, order }
    SignOrder { purpose, tx, policy, at }
    EthTransaction { chain_number, nonce, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, to, value, data }
    BlockchainCommand { id, wallet, chain, order }
    Screen { id, saga, account, direction, party, asset, amount, sent_last_day, sent_count_last_day }
);
wire_enum!(proto: Direction { In, Out, Internal });
wire_choice!(proto:
    WalletOrder in wallet_order { DeriveAddress { chain, branch, index } } [Sign]
    Purpose in purpose { Pay { intent, kind, approvals } NoOp { intent, fee_max } } []
    BlockchainOrder in blockchain_order { Estimate { intent, from, kind, to, value, data } Send { tx, raw } } []
    Party in party { Address { chain, address } } [Account]
);

// Watch list.
wire_struct!(proto: WatchedAddress { chain, address, account, wallet, role });
wire_enum!(proto: AddressRole { Deposit, Hot });

// Gateway.
wire_struct!(proto:
    GatewayReply { correlation, outcome }
    Position { partition, sequence }
);
wire_choice!(proto:
    Outcome in outcome { Accepted { subject, position } KeyReused {} } [Refused]
    Subject in subject {} [Account Operation]
);

// Events.
wire_struct!(proto:
    Event { account, sequence, at, saga, body }
    JournalEntry { reason, block, legs }
    Leg { ledger, asset, amount, side }
);
wire_enum!(proto:
    StepPhase { Asked, Done, Undone }
    EntryReason {
        DepositSeen, DepositUnseen, DepositCredited, DepositQuarantined, DepositReversed, Hold, Release, PaymentSeen,
        PaymentUnseen, PaymentSettled, HouseGas, TransferOut, TransferIn, HouseSpent, HouseUnspent,
        ShortageCollected,
    }
    Side { Debit, Credit }
    ClientBook { Available, Held, Pending, Frozen }
    HouseBook { Custody, InFlight, Fees, Gas, Funding, InTransit, Suspense }
);
wire_choice!(proto:
    EventBody in event_body {
        AccountOpened { tenant, key }
        Moved { step, phase }
        Parked { step, code }
        Screened { step, clear, codes, versions }
        ApprovalAsked { intent, digest, quorum }
        Decided { officer, verdict, digest, policy_version }
        AddressIssued { chain, address, wallet, path, watched_from }
        TransferReceived { from, asset, amount }
        PaymentTaken { intent }
        PaymentSigned { tx, nonce, digest, attempt }
        Alarm { code, subject }
        PolicyAdopted { version, digest }
    } [
        Started Ended DepositSeen DepositUnseen DepositCredited DepositQuarantined DepositReversed
        PaymentSeen PaymentUnseen PaymentFinal PaymentImpossible HouseSpent Posted Marked
    ]
    Request in request {
        Address { key, chain }
        Withdrawal { key, asset, amount, to, fee_max, fee_asset, intent }
        Transfer { key, to, asset, amount }
    } [Deposit]
    Ending in ending { Completed {} } [Refused]
    Refusal in refusal {
        InsufficientFunds {} UnknownAccount {} UnknownAsset {} UnknownChain {} ZeroAmount {} FeeAbovePolicy {} SameAccount {}
        Screening { codes } TimedOut { step } Rejected {} Impossible {} ReceiverRefused {} NothingToDecide {} BadDecision {}
        NoPolicy {} Unseen {}
    } [Payment]
    LedgerAccount in ledger_account { Client { account, book } House { partition, book } } []
);
