//! The books against the chains, as the bank reads them.

use custos_domain::Amount;
use custos_messages::accounts::AlarmCode;
use custos_messages::events::Side;
use custos_readmodel::{AlarmView, Net};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Block, time};
use crate::headers::write_position;
use crate::reconciliation::{AlteredRow, AssetBooks, Books, Difference};

/// The books of all registered assets. Amounts are decimal strings in the asset's unit; a minus stands before what is on the side
/// where it should not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BooksView {
    /// Whether every asset agrees with its chain and no row was altered.
    pub matches: bool,
    /// By asset.
    pub assets: Vec<BooksLine>,
    /// Rows that contradict each other: somebody else has written into the read model.
    pub altered: Vec<AlteredRowView>,
    /// The newest alarms.
    pub alarms: Vec<AlarmLine>,
}

/// The books of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BooksLine {
    /// The asset.
    pub asset: String,
    /// Its chain.
    pub chain: String,
    /// Whether its books balance and agree with the chain.
    pub matches: bool,
    /// Clients' free money.
    pub available: String,
    /// Clients' held money.
    pub held: String,
    /// Clients' money that is not final.
    pub pending: String,
    /// Clients' frozen money.
    pub frozen: String,
    /// The four above together.
    pub claims: String,
    /// Fees earned.
    pub fees: String,
    /// What the bank put into the hot wallet.
    pub funding: String,
    /// Between two shards.
    pub in_transit: String,
    /// Cannot be attributed.
    pub suspense: String,
    /// Gas that the house paid.
    pub gas: String,
    /// Coins that left by a payment which is not final.
    pub in_flight: String,
    /// Coins on chain under our keys, as the books stand now.
    pub custody: String,
    /// The block at which books and chain are compared; absent until every shard's books are complete up to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// Coins under our keys at that block, by the books.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custody_at_block: Option<String>,
    /// Coins under our keys at that block, by the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_chain: Option<String>,
    /// Chain less books.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

/// A balance that is not the sum of its legs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlteredRowView {
    /// An account, or `house@partition`.
    pub holder: String,
    /// The book.
    pub book: String,
    /// The asset.
    pub asset: String,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmLine {
    /// What.
    pub code: String,
    /// About what.
    pub subject: String,
    /// When.
    pub at: String,
    /// The event.
    pub position: String,
}

impl From<&Books> for BooksView {
    fn from(books: &Books) -> Self {
        Self {
            matches: books.matches(),
            assets: books.assets.iter().map(BooksLine::from).collect(),
            altered: books.altered.iter().cloned().map(AlteredRowView::from).collect(),
            alarms: books.alarms.iter().map(AlarmLine::from).collect(),
        }
    }
}

impl From<&AssetBooks> for BooksLine {
    fn from(books: &AssetBooks) -> Self {
        let decimals = books.decimals;
        let owed = |net: Net| signed(net, Side::Credit, decimals);
        let owned = |net: Net| signed(net, Side::Debit, decimals);
        let sheet = &books.sheet;
        Self {
            asset: sheet.asset.to_string(),
            chain: books.chain.to_string(),
            matches: books.matches(),
            available: owed(sheet.available),
            held: owed(sheet.held),
            pending: owed(sheet.pending),
            frozen: owed(sheet.frozen),
            claims: owed(books.claims),
            fees: owed(sheet.fees),
            funding: owed(sheet.funding),
            in_transit: owed(sheet.in_transit),
            suspense: owed(sheet.suspense),
            gas: owned(sheet.gas),
            in_flight: owned(sheet.in_flight),
            custody: owned(sheet.custody),
            block: books.block.map(Block::from),
            custody_at_block: books.custody.map(owned),
            on_chain: books.on_chain.map(|amount| amount.to_decimal(decimals)),
            difference: books.difference.map(|difference| match difference {
                Difference::None => Amount::ZERO.to_decimal(decimals),
                Difference::ChainHasMore(amount) => amount.to_decimal(decimals),
                Difference::BooksHaveMore(amount) => format!("-{}", amount.to_decimal(decimals)),
            }),
        }
    }
}

fn signed(net: Net, normal: Side, decimals: u8) -> String {
    let sign = if net.side == normal || net.amount.is_zero() { "" } else { "-" };
    format!("{sign}{}", net.amount.to_decimal(decimals))
}

impl From<AlteredRow> for AlteredRowView {
    fn from(row: AlteredRow) -> Self {
        Self { holder: row.holder, book: row.book, asset: row.asset }
    }
}

impl From<&AlarmView> for AlarmLine {
    fn from(alarm: &AlarmView) -> Self {
        Self {
            code: alarm_word(alarm.code).to_owned(),
            subject: alarm.subject.clone(),
            at: time(alarm.at),
            position: write_position(alarm.position),
        }
    }
}

pub(crate) const fn alarm_word(code: AlarmCode) -> &'static str {
    match code {
        AlarmCode::NodesDisagree => "nodes-disagree",
        AlarmCode::DeepReorg => "deep-reorg",
        AlarmCode::FeeEnvelopeReached => "fee-envelope-reached",
        AlarmCode::ForeignSpend => "foreign-spend",
        AlarmCode::LinkGap => "link-gap",
        AlarmCode::SagaParked => "saga-parked",
        AlarmCode::NodeSilent => "node-silent",
        AlarmCode::AddressUnattested => "address-unattested",
    }
}
