//! Every message survives its own bytes, and no bytes whatsoever bring a reader down.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::*;
use custos_messages::accounts::*;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::chain::*;
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::events::*;
use custos_messages::gateway::{GatewayReply, Outcome, Subject};
use custos_messages::treasury::*;
use custos_messages::wallet::{EthTransaction, Purpose, SignOrder, WalletCommand, WalletOrder};
use custos_messages::watch::{AddressRole, WatchRecord, WatchedAddress};
use custos_messages::{Activate, DecodeError, Message, SignedPolicy, Source, TimerDue};
use proptest::prelude::*;

/// A stream of numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn text(&mut self, most: u64, alphabet: &str) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let length = self.below(most) + 1;
        (0..length).map(|_| letters[usize::try_from(self.below(u64::try_from(letters.len()).unwrap())).unwrap()]).collect()
    }
}

/// A value drawn from dice; edges come up often.
trait Sample: Sized {
    fn sample(dice: &mut Dice) -> Self;
}

macro_rules! sample_structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => { $(
        impl Sample for $name {
            fn sample(dice: &mut Dice) -> Self {
                Self { $($field: Sample::sample(dice)),* }
            }
        }
    )* };
}

macro_rules! sample_enums {
    ($($name:ident { $($variant:ident),* $(,)? })*) => { $(
        impl Sample for $name {
            fn sample(dice: &mut Dice) -> Self {
                let all = [$(Self::$variant),*];
                all[usize::try_from(dice.next()).unwrap() % all.len()]
            }
        }
    )* };
}

macro_rules! sample_choices {
    ($($name:ident { $($variant:ident { $($field:ident),* })* } [$($single:ident)*])*) => { $(
        impl Sample for $name {
            fn sample(dice: &mut Dice) -> Self {
                let all: &[fn(&mut Dice) -> Self] = &[
                    $(|_dice| Self::$variant { $($field: Sample::sample(_dice)),* },)*
                    $(|dice| Self::$single(Sample::sample(dice)),)*
                ];
                all[usize::try_from(dice.next()).unwrap() % all.len()](dice)
            }
        }
    )* };
}

macro_rules! sample_by {
    ($($type:ty: $draw:expr;)*) => { $(
        impl Sample for $type {
            fn sample(dice: &mut Dice) -> Self {
                let draw: fn(&mut Dice) -> Self = $draw;
                draw(dice)
            }
        }
    )* };
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(dice: &mut Dice) -> Self {
        (0..dice.below(4)).map(|_| T::sample(dice)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(dice: &mut Dice) -> Self {
        (dice.below(2) == 1).then(|| T::sample(dice))
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(dice: &mut Dice) -> Self {
        Self::new(T::sample(dice))
    }
}

impl<const N: usize> Sample for [u8; N] {
    fn sample(dice: &mut Dice) -> Self {
        std::array::from_fn(|_| u8::sample(dice))
    }
}

impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(dice: &mut Dice) -> Self {
        (A::sample(dice), B::sample(dice))
    }
}

const LOWER: &str = "abcxyz019-";

sample_by!(
    u8: |dice| dice.next().to_be_bytes()[0];
    u32: |dice| [0, 1, u32::MAX, u32::sample_wide(dice)][usize::try_from(dice.below(4)).unwrap()];
    u64: |dice| [0, 1, u64::MAX, dice.next()][usize::try_from(dice.below(4)).unwrap()];
    bool: |dice| dice.below(2) == 1;
    String: |dice| dice.text(12, "aZ9/' äß\u{1F600}");
    Amount: |dice| Amount::new([0, 1, u128::MAX, u128::from(dice.next())][usize::try_from(dice.below(4)).unwrap()]);
    Timestamp: |dice| Timestamp(u64::sample(dice));
    AccountId: |dice| Self(Sample::sample(dice));
    WalletId: |dice| Self(Sample::sample(dice));
    IntentId: |dice| Self(Sample::sample(dice));
    CommandId: |dice| Self(Sample::sample(dice));
    Digest: |dice| Self(Sample::sample(dice));
    TxHash: |dice| Self(Sample::sample(dice));
    BlockHash: |dice| Self(Sample::sample(dice));
    EthAddress: |dice| Self(Sample::sample(dice));
    SagaId: |dice| Self { account: Sample::sample(dice), local: Sample::sample(dice) };
    ChainId: |dice| Self::eip155(dice.next());
    AssetId: |dice| Self::new(&dice.text(16, "AZ09-.")).unwrap();
    TenantId: |dice| Self::new(&dice.text(32, LOWER)).unwrap();
    OfficerId: |dice| Self::new(&dice.text(32, LOWER)).unwrap();
    NodeName: |dice| Self::new(&dice.text(32, LOWER)).unwrap();
    IdempotencyKey: |dice| Self::new(&dice.text(255, " ~aZ09/")).unwrap();
);

trait Wide {
    fn sample_wide(dice: &mut Dice) -> Self;
}

impl Wide for u32 {
    fn sample_wide(dice: &mut Dice) -> Self {
        Self::try_from(dice.next() >> 32).unwrap()
    }
}

sample_structs!(
    BlockRef { number, hash }
    Fee { max, asset }
    Intent { id, chain, from, to, asset, amount, fee, expires, policy_version }
    SignedPolicy { bytes, signature }
    TimerDue { timer, due }
    Activate { logic }
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
    BlockReport { node, chain, block, parent, time, transfers, spends }
    TransferSeen { tx, index, from, to, account, asset, amount }
    SpendSeen { wallet, tx, nonce, fee, succeeded }
    WalletCommand { id, wallet, order }
    SignOrder { purpose, tx, policy, at }
    EthTransaction { chain_number, nonce, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, to, value, data }
    BlockchainCommand { id, wallet, chain, order }
    Screen { id, saga, account, direction, party, asset, amount, sent_last_day, sent_count_last_day }
    WatchedAddress { chain, address, account, wallet, role }
    GatewayReply { correlation, outcome }
    Position { partition, sequence }
    Event { account, sequence, at, saga, body }
    JournalEntry { reason, block, legs }
    Leg { ledger, asset, amount, side }
);

sample_enums!(
    Verdict { Approve, Reject }
    PaymentRefusal { FeeAboveEnvelope, WalletShort, SignerRefused, Expired, WouldRevert }
    DepositNews { Seen, Unseen, Final }
    MarkPath { Deposits, Payments }
    AlarmCode { NodesDisagree, DeepReorg, FeeEnvelopeReached, ForeignSpend, LinkGap, SagaParked, NodeSilent, AddressUnattested }
    SignRefusal {
        OutsideIntent, OutsideEnvelope, NotApproved, PolicyRefused, IntentTaken, NonceTaken, WeakReplacement, Expired,
        HouseRefused, UnknownWallet,
    }
    SendOutcome { InPool, NonceSpent, Underpriced, FeeTooLow, InsufficientFunds, Retry, Invalid }
    SpendNews { Seen, Unseen, Final }
    Direction { In, Out, Internal }
    AddressRole { Deposit, Hot }
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

sample_choices!(
    AssetKind { Native {} Erc20 { contract } } []
    Finding { Clear {} Hit { codes } } []
    PaymentNews { Taken {} Signed { tx, nonce, digest, attempt } } [Refused Seen Unseen Final Impossible]
    FeeQuote {
        Quote { gas_limit, max_fee_per_gas, max_priority_fee_per_gas, native_balance, asset_balance, next_nonce }
        WouldRevert {}
    } []
    WalletOrder { DeriveAddress { chain, branch, index } } [Sign]
    Purpose { Pay { intent, kind, approvals } NoOp { intent, fee_max } } []
    BlockchainOrder { Estimate { intent, from, kind, to, value, data } Send { tx, raw } } []
    Party { Address { chain, address } } [Account]
    Outcome { Accepted { subject, position } KeyReused {} } [Refused]
    Subject {} [Account Operation]
    EventBody {
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
    Request {
        Address { key, chain }
        Withdrawal { key, asset, amount, to, fee_max, fee_asset, intent }
        Transfer { key, to, asset, amount }
    } [Deposit]
    Ending { Completed {} } [Refused]
    Refusal {
        InsufficientFunds {} UnknownAccount {} UnknownAsset {} UnknownChain {} ZeroAmount {} FeeAbovePolicy {} SameAccount {}
        Screening { codes } TimedOut { step } Rejected {} Impossible {} ReceiverRefused {} NothingToDecide {} BadDecision {}
        NoPolicy {} Unseen {}
    } [Payment]
    LedgerAccount { Client { account, book } House { partition, book } } []
    AccountsInput {} [
        OpenAccount RequestAddress RequestWithdrawal RequestTransfer Decide Screened AddressReady Payment HouseSpent Deposit TransferIn
        TransferAnswered BlockMark Alarm Policy
    ]
    TreasuryInput {} [
        AllocateAddress TakePayment AddressDerived Watching Estimated Signed SignRefused Sent Spend BlockMark Policy
    ]
    ChainInput {} [Block Policy]
    WatchRecord { Cursor { chain, block } } [Address]
);

/// Draws a message, sends it through its bytes, and gives its protocol name.
fn round_trip<M: Message + Sample + PartialEq + std::fmt::Debug>(dice: &mut Dice) -> &'static str {
    let message = M::sample(dice);
    let bytes = message.encode();
    assert_eq!(bytes, message.encode(), "encoding is deterministic");
    assert_eq!(M::decode(message.kind(), &bytes).unwrap(), message);
    assert!(!message.key().is_empty() || message.kind() == TimerDue::KIND || message.kind() == "custos.alarm.raised.v1");
    message.kind()
}

/// One of every stream.
fn round_trips(dice: &mut Dice) -> [&'static str; 11] {
    [
        round_trip::<AccountsInput>(dice),
        round_trip::<TreasuryInput>(dice),
        round_trip::<ChainInput>(dice),
        round_trip::<WalletCommand>(dice),
        round_trip::<BlockchainCommand>(dice),
        round_trip::<Screen>(dice),
        round_trip::<Event>(dice),
        round_trip::<GatewayReply>(dice),
        round_trip::<WatchRecord>(dice),
        round_trip::<TimerDue>(dice),
        round_trip::<Activate>(dice),
    ]
}

#[test]
fn every_message_type_is_drawn_and_has_a_speaker() {
    let mut dice = Dice(1);
    let seen: BTreeSet<&str> = (0..2_000).flat_map(|_| round_trips(&mut dice)).collect();
    assert_eq!(seen.len(), 15 + 11 + 2 + 2 + 2 + 1 + 26 + 3 + 2 + 1 + 1, "each variant has a name of its own: {seen:?}");
    for kind in seen {
        assert!(kind.starts_with("custos.") && kind.ends_with(".v1"), "{kind}");
        assert!(Source::ALL.iter().any(|source| source.may_say(kind)), "nobody may say {kind}");
    }
}

proptest! {
    #[test]
    fn a_message_survives_its_own_bytes(seed: u64) {
        round_trips(&mut Dice(seed));
    }

    #[test]
    fn any_bytes_are_read_or_refused(seed: u64, noise: Vec<u8>, at: prop::sample::Index, with: u8) {
        let mut dice = Dice(seed);
        let message = AccountsInput::sample(&mut dice);
        let event = Event::sample(&mut dice);
        for (kind, mut bytes) in [(message.kind(), message.encode()), (event.kind(), event.encode())] {
            let place = at.index(bytes.len());
            bytes[place] = with;
            for input in [&bytes, &noise, &bytes[..place].to_vec()] {
                let _ = AccountsInput::decode(kind, input);
                let _ = TreasuryInput::decode("custos.payment.handed-over.v1", input);
                let _ = ChainInput::decode("custos.block.seen.v1", input);
                let _ = WalletCommand::decode("custos.transaction.sign.v1", input);
                let _ = Event::decode(kind, input);
                let _ = GatewayReply::decode("custos.request.refused.v1", input);
            }
        }
    }
}

#[test]
fn absent_fields_wrong_lengths_and_unknown_values_are_named() {
    let field = |kind: &str, bytes: &[u8]| match AccountsInput::decode(kind, bytes) {
        Err(DecodeError::Field { field, problem, .. }) => format!("{field} {problem}"),
        other => format!("{other:?}"),
    };
    assert_eq!(field("custos.account.requested.v1", &[]), "tenant is absent");
    assert_eq!(field("custos.account.requested.v1", b"\x0a\x01a\x12\x01x"), "account has a wrong length");
    assert_eq!(field("custos.alarm.raised.v1", b"\x08\x00\x12\x00"), "code has an unknown value");
    assert_eq!(field("custos.alarm.raised.v1", b"\x08\x63\x12\x00"), "code has an unknown value");
    assert!(matches!(AccountsInput::decode("custos.block.seen.v1", &[]), Err(DecodeError::UnknownKind(_))));
    assert!(matches!(AccountsInput::decode("custos.alarm.raised.v1", &[255]), Err(DecodeError::Malformed { .. })));
}

#[test]
fn a_choice_that_contradicts_the_message_type_is_refused() {
    let mut dice = Dice(3);
    let event = Event { body: EventBody::Started(Request::sample(&mut dice)), ..Event::sample(&mut dice) };
    assert!(matches!(
        Event::decode("custos.payment.final.v1", &event.encode()),
        Err(DecodeError::Field { field: "is", .. })
    ));
}

/// Where fuzzing begins: one message of each kind, its name on a line before its bytes. `CUSTOS_BLESS=1` writes them.
#[test]
fn fuzzing_begins_with_one_message_of_each_kind() {
    let mut samples: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    let mut dice = Dice(7);
    for _ in 0..2_000 {
        let mut keep = |kind, bytes| {
            samples.entry(kind).or_insert(bytes);
        };
        let message = AccountsInput::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = TreasuryInput::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = ChainInput::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = WalletCommand::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = BlockchainCommand::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = Screen::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = Event::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = GatewayReply::sample(&mut dice);
        keep(message.kind(), message.encode());
        let message = WatchRecord::sample(&mut dice);
        keep(message.kind(), message.encode());
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/message");
    let bless = std::env::var("CUSTOS_BLESS").is_ok_and(|value| value == "1");
    for (kind, bytes) in samples {
        let path = folder.join(kind);
        let input = [kind.as_bytes(), b"\n", &bytes].concat();
        if bless {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &input).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap_or_default(), input, "{kind}: run this test with CUSTOS_BLESS=1");
    }
}
