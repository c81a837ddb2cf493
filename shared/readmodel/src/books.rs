//! The books as a whole: what clients are owed, what the house holds, and whether both agree.

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::{AssetId, BlockRef, ChainId, Digest, Timestamp};
use custos_messages::accounts::MarkPath;
use custos_messages::events::{ClientBook, HouseBook};
use sqlx::Row as _;

use crate::cell::Fields;
use crate::limbs::{Limbs, Net};
use crate::names::Named as _;
use crate::{ReadError, ReadModel};

/// Every book of an asset, over all accounts and shards. Debits and credits of the whole are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceSheet {
    /// The asset.
    pub asset: AssetId,
    /// Clients' free money.
    pub available: Net,
    /// Clients' held money.
    pub held: Net,
    /// Clients' money that is not final.
    pub pending: Net,
    /// Clients' frozen money.
    pub frozen: Net,
    /// Coins on chain under our keys.
    pub custody: Net,
    /// Coins that left by a payment which is not final.
    pub in_flight: Net,
    /// Fees earned.
    pub fees: Net,
    /// Gas that the house paid.
    pub gas: Net,
    /// What the bank put into the hot wallet.
    pub funding: Net,
    /// Between two shards.
    pub in_transit: Net,
    /// Cannot be attributed.
    pub suspense: Net,
    /// What all of it comes to: nothing, or the books are wrong.
    pub total: Net,
}

/// Up to where a shard's books are complete on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The shard.
    pub partition: u32,
    /// The path.
    pub path: MarkPath,
    /// The canonical block.
    pub block: BlockRef,
    /// When it was marked.
    pub at: Timestamp,
}

/// The marks of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// By partition and path.
    pub marks: Vec<Mark>,
    /// The lowest mark over all partitions and both paths; `None` while one of them has none.
    pub complete_up_to: Option<BlockRef>,
}

/// A balance that is not the sum of its legs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// An account's sixteen bytes, or the four of a house partition.
    pub holder: Vec<u8>,
    /// The book.
    pub book: String,
    /// The asset.
    pub asset: String,
}

/// Per book the sums of the four limbs, from columns `d0` to `d3`.
const SUMS: &str = "SELECT book, CAST(SUM(d0) AS BIGINT) AS d0, CAST(SUM(d1) AS BIGINT) AS d1, \
                    CAST(SUM(d2) AS BIGINT) AS d2, CAST(SUM(d3) AS BIGINT) AS d3 FROM balances WHERE asset = $1 GROUP BY book";

const CUSTODY: &str = "SELECT CAST(COALESCE(SUM(CASE side WHEN 0 THEN a0 ELSE -a0 END), 0) AS BIGINT) AS d0, \
                       CAST(COALESCE(SUM(CASE side WHEN 0 THEN a1 ELSE -a1 END), 0) AS BIGINT) AS d1, \
                       CAST(COALESCE(SUM(CASE side WHEN 0 THEN a2 ELSE -a2 END), 0) AS BIGINT) AS d2, \
                       CAST(COALESCE(SUM(CASE side WHEN 0 THEN a3 ELSE -a3 END), 0) AS BIGINT) AS d3 \
                       FROM journal_legs WHERE book = 'custody' AND asset = $1 AND chain = $2 AND block_number <= $3";

/// Balances and sums of legs that the other side does not have.
const DISCREPANCIES: &str = "WITH summed AS (SELECT holder, book, asset, \
    CAST(SUM(CASE side WHEN 0 THEN a0 ELSE -a0 END) AS BIGINT) AS d0, \
    CAST(SUM(CASE side WHEN 0 THEN a1 ELSE -a1 END) AS BIGINT) AS d1, \
    CAST(SUM(CASE side WHEN 0 THEN a2 ELSE -a2 END) AS BIGINT) AS d2, \
    CAST(SUM(CASE side WHEN 0 THEN a3 ELSE -a3 END) AS BIGINT) AS d3 \
    FROM journal_legs GROUP BY holder, book, asset) \
    SELECT holder, book, asset FROM (SELECT holder, book, asset, d0, d1, d2, d3 FROM balances \
    EXCEPT SELECT holder, book, asset, d0, d1, d2, d3 FROM summed) AS kept \
    UNION SELECT holder, book, asset FROM (SELECT holder, book, asset, d0, d1, d2, d3 FROM summed \
    EXCEPT SELECT holder, book, asset, d0, d1, d2, d3 FROM balances) AS owed";

impl ReadModel {
    /// Every book of the asset.
    pub async fn balance_sheet(&self, asset: &AssetId) -> Result<BalanceSheet, ReadError> {
        let rows = sqlx::query(SUMS)
            .bind(asset.as_str().to_owned())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("balance sheet"))?;
        let mut books: BTreeMap<String, Limbs> = BTreeMap::new();
        for row in &rows {
            let fields = Fields(row);
            books.insert(fields.text("book")?, limbs_of(&fields)?);
        }
        let too_large = || ReadError::Column { column: "balances", problem: "a sum leaves 64 bits" };
        let all = books.values().try_fold(Limbs::default(), |all, limbs| all.plus(*limbs)).ok_or_else(too_large)?;
        let net = |limbs: Limbs, book| limbs.net().map_err(|source| ReadError::Amount { column: book, source });
        let book = |word: &'static str| net(books.get(word).copied().unwrap_or_default(), word);
        Ok(BalanceSheet {
            asset: asset.clone(),
            available: book(ClientBook::Available.word())?,
            held: book(ClientBook::Held.word())?,
            pending: book(ClientBook::Pending.word())?,
            frozen: book(ClientBook::Frozen.word())?,
            custody: book(HouseBook::Custody.word())?,
            in_flight: book(HouseBook::InFlight.word())?,
            fees: book(HouseBook::Fees.word())?,
            gas: book(HouseBook::Gas.word())?,
            funding: book(HouseBook::Funding.word())?,
            in_transit: book(HouseBook::InTransit.word())?,
            suspense: book(HouseBook::Suspense.word())?,
            total: net(all, "total")?,
        })
    }

    /// Every asset that the books know, in order of codes.
    pub async fn assets(&self) -> Result<Vec<AssetId>, ReadError> {
        let rows = sqlx::query("SELECT DISTINCT asset FROM balances").fetch_all(self.pool()).await;
        let rows = rows.map_err(ReadError::sql("assets"))?;
        let assets: BTreeSet<AssetId> = rows.iter().map(|row| Fields(row).asset("asset")).collect::<Result<_, _>>()?;
        Ok(assets.into_iter().collect())
    }

    /// What the books say we hold of `asset` on `chain` after block `block`: the custody legs of entries up to that block.
    pub async fn custody_at(&self, chain: &ChainId, asset: &AssetId, block: u64) -> Result<Net, ReadError> {
        let number = i64::try_from(block).map_err(|_| ReadError::TooLarge { what: "block", number: block })?;
        let row = sqlx::query(CUSTODY)
            .bind(asset.as_str().to_owned())
            .bind(chain.as_str().to_owned())
            .bind(number)
            .fetch_one(self.pool())
            .await
            .map_err(ReadError::sql("custody"))?;
        limbs_of(&Fields(&row))?.net().map_err(|source| ReadError::Amount { column: "custody", source })
    }

    /// The marks of `chain`, of which every one of `partitions` has two.
    pub async fn marks(&self, chain: &ChainId, partitions: u32) -> Result<Marks, ReadError> {
        let rows = sqlx::query("SELECT * FROM marks WHERE chain = $1 ORDER BY partition")
            .bind(chain.as_str().to_owned())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("marks"))?;
        let read = |row| {
            let fields = Fields(row);
            let (partition, path) = (fields.u32("partition")?, fields.named("path")?);
            let block = fields.block("block_number", "block_hash")?;
            Ok(((partition, path), Mark { partition, path, block, at: fields.time("marked_at")? }))
        };
        let marks: BTreeMap<(u32, MarkPath), Mark> = rows.iter().map(read).collect::<Result<_, ReadError>>()?;
        let wanted = (0..partitions).flat_map(|partition| MarkPath::ALL.iter().map(move |path| (partition, *path)));
        let blocks: Option<Vec<BlockRef>> = wanted.map(|key| marks.get(&key).map(|mark| mark.block)).collect();
        let complete_up_to = blocks.and_then(|blocks| blocks.into_iter().min_by_key(|block| block.number));
        Ok(Marks { marks: marks.into_values().collect(), complete_up_to })
    }

    /// Balances that are not the sum of their legs: none, or somebody else has written here.
    pub async fn discrepancies(&self) -> Result<Vec<Discrepancy>, ReadError> {
        let rows = sqlx::query(DISCREPANCIES).fetch_all(self.pool()).await.map_err(ReadError::sql("discrepancies"))?;
        let read = |row| {
            let fields = Fields(row);
            Ok(Discrepancy { holder: fields.bytes("holder")?, book: fields.text("book")?, asset: fields.text("asset")? })
        };
        rows.iter().map(read).collect()
    }

    /// The newest policy that every one of `partitions` adopted: version and digest of its bytes. `None` while one has none.
    pub async fn policy(&self, partitions: u32) -> Result<Option<(u32, Digest)>, ReadError> {
        let row = sqlx::query(
            "SELECT version, digest FROM policies GROUP BY version, digest HAVING COUNT(*) >= $1 ORDER BY version DESC LIMIT 1",
        )
        .bind(i64::from(partitions))
        .fetch_optional(self.pool())
        .await
        .map_err(ReadError::sql("policy"))?;
        let read = |row| {
            let fields = Fields(row);
            Ok((fields.u32("version")?, fields.digest("digest")?))
        };
        row.as_ref().map(read).transpose()
    }

    /// Open entries: none, for none can be committed. Asked by tests and audits.
    pub async fn open_entries(&self) -> Result<u64, ReadError> {
        let row = sqlx::query("SELECT COUNT(*) AS open FROM journal_entries WHERE sealed <> 1").fetch_one(self.pool()).await;
        let row = row.map_err(ReadError::sql("open entries"))?;
        let open: i64 = row.try_get("open").map_err(ReadError::sql("open entries"))?;
        u64::try_from(open).map_err(|_| ReadError::Column { column: "open", problem: "below zero" })
    }
}

/// The columns `d0` to `d3`.
pub(crate) fn limbs_of(fields: &Fields<'_>) -> Result<Limbs, ReadError> {
    Ok(Limbs([fields.i64("d0")?, fields.i64("d1")?, fields.i64("d2")?, fields.i64("d3")?]))
}
