//! Values on their way into rows and out of them, and the one way to insert many rows at once.

use custos_domain::{
    AccountId, Amount, AmountError, AssetId, BlockHash, BlockRef, ChainId, Digest, EthAddress, IntentId, SagaId, Timestamp,
    TxHash, WalletId,
};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};

use crate::ReadError;
use crate::columns;
use crate::names::Named;
use crate::schema::{Holds, Table};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// The most rows of one statement; statements come in few sizes so that they stay prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// A number for a column.
pub(crate) fn int(what: &'static str, number: u64) -> Result<Cell, ReadError> {
    i64::try_from(number).map(|number| Cell::Int(Some(number))).map_err(|_| ReadError::TooLarge { what, number })
}

/// A number for a column, if there is one.
pub(crate) fn maybe_int(what: &'static str, number: Option<u64>) -> Result<Cell, ReadError> {
    number.map_or(Ok(Cell::Int(None)), |number| int(what, number))
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Int(Some(i64::from(yes)))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&[u8]> for Cell {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

impl From<Amount> for Cell {
    fn from(amount: Amount) -> Self {
        Self::Text(Some(amount.to_string()))
    }
}

impl From<SagaId> for Cell {
    fn from(saga: SagaId) -> Self {
        Self::Bytes(Some(saga.to_bytes().to_vec()))
    }
}

/// Bytes for a column, if there are any.
pub(crate) fn maybe_bytes(bytes: Option<&[u8]>) -> Cell {
    Cell::Bytes(bytes.map(<[u8]>::to_vec))
}

/// Text for a column, if there is any.
pub(crate) fn maybe_text(text: Option<&str>) -> Cell {
    Cell::Text(text.map(str::to_owned))
}

/// A saga for a column, if there is one.
pub(crate) fn maybe_saga(saga: Option<SagaId>) -> Cell {
    Cell::Bytes(saga.map(|saga| saga.to_bytes().to_vec()))
}

/// Gives `cell` to the next placeholder of `query`.
pub(crate) fn bind<'q>(query: Query<'q, Any, AnyArguments>, cell: Cell) -> Query<'q, Any, AnyArguments> {
    match cell {
        Cell::Int(value) => query.bind(value),
        Cell::Text(value) => query.bind(value),
        Cell::Bytes(value) => query.bind(value),
    }
}

/// Inserts `rows` into `table`, many per statement. `conflict` is what follows the values, such as `ON CONFLICT …`.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    table: &Table,
    rows: Vec<Vec<Cell>>,
    conflict: &str,
) -> Result<(), ReadError> {
    if columns::are_taken_by(connection) {
        return columns::insert(connection, table, &rows, conflict).await;
    }
    let mut rest = rows.into_iter();
    while rest.len() > 0 {
        let size = SIZES.into_iter().find(|size| *size <= rest.len()).unwrap_or(1);
        let sql = insert_sql(table, size, conflict);
        let cells = rest.by_ref().take(size).flatten();
        cells
            .fold(sqlx::query(AssertSqlSafe(sql)), bind)
            .execute(&mut *connection)
            .await
            .map_err(ReadError::sql(table.name))?;
    }
    Ok(())
}

fn insert_sql(table: &Table, rows: usize, conflict: &str) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let width = names.len();
    let values: Vec<String> = (0..rows)
        .map(|row| {
            let places: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(", "))
        })
        .collect();
    format!("INSERT INTO {} ({}) VALUES {} {conflict}", table.name, names.join(", "), values.join(", "))
}

/// `$first, $first+1, …`: as many placeholders as `count`.
pub(crate) fn places(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

/// Reads typed values out of a row; each error names its column.
pub(crate) struct Fields<'r>(pub(crate) &'r AnyRow);

impl Fields<'_> {
    pub(crate) fn cell(&self, column: &'static str, holds: Holds) -> Result<Cell, ReadError> {
        Ok(match holds {
            Holds::Int => Cell::Int(self.maybe_i64(column)?),
            Holds::Text => Cell::Text(self.maybe_text(column)?),
            Holds::Bytes => Cell::Bytes(self.maybe_bytes(column)?),
        })
    }

    pub(crate) fn maybe_i64(&self, column: &'static str) -> Result<Option<i64>, ReadError> {
        self.0.try_get(column).map_err(ReadError::sql(column))
    }

    pub(crate) fn maybe_text(&self, column: &'static str) -> Result<Option<String>, ReadError> {
        self.0.try_get(column).map_err(ReadError::sql(column))
    }

    pub(crate) fn maybe_bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.try_get(column).map_err(ReadError::sql(column))
    }

    pub(crate) fn i64(&self, column: &'static str) -> Result<i64, ReadError> {
        self.maybe_i64(column)?.ok_or(absent(column))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, ReadError> {
        self.maybe_text(column)?.ok_or(absent(column))
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, ReadError> {
        self.maybe_bytes(column)?.ok_or(absent(column))
    }

    pub(crate) fn maybe_u64(&self, column: &'static str) -> Result<Option<u64>, ReadError> {
        let whole = |number| u64::try_from(number).map_err(|_| ReadError::Column { column, problem: "below zero" });
        self.maybe_i64(column)?.map(whole).transpose()
    }

    pub(crate) fn u64(&self, column: &'static str) -> Result<u64, ReadError> {
        self.maybe_u64(column)?.ok_or(absent(column))
    }

    pub(crate) fn u32(&self, column: &'static str) -> Result<u32, ReadError> {
        u32::try_from(self.i64(column)?).map_err(|_| ReadError::Column { column, problem: "not a 32-bit number" })
    }

    pub(crate) fn yes(&self, column: &'static str) -> Result<bool, ReadError> {
        Ok(self.i64(column)? != 0)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, ReadError> {
        self.u64(column).map(Timestamp)
    }

    pub(crate) fn named<T: Named>(&self, column: &'static str) -> Result<T, ReadError> {
        T::from_word(&self.text(column)?)
    }

    pub(crate) fn maybe_named<T: Named>(&self, column: &'static str) -> Result<Option<T>, ReadError> {
        self.maybe_text(column)?.map(|word| T::from_word(&word)).transpose()
    }

    pub(crate) fn maybe_amount(&self, column: &'static str) -> Result<Option<Amount>, ReadError> {
        let parse =
            |digits: String| Amount::parse(&digits, 0).map_err(|source: AmountError| ReadError::Amount { column, source });
        self.maybe_text(column)?.map(parse).transpose()
    }

    pub(crate) fn amount(&self, column: &'static str) -> Result<Amount, ReadError> {
        self.maybe_amount(column)?.ok_or(absent(column))
    }

    pub(crate) fn asset(&self, column: &'static str) -> Result<AssetId, ReadError> {
        AssetId::new(&self.text(column)?).map_err(|source| ReadError::Asset { column, source })
    }

    pub(crate) fn chain(&self, column: &'static str) -> Result<ChainId, ReadError> {
        ChainId::new(&self.text(column)?).map_err(|source| ReadError::Asset { column, source })
    }

    pub(crate) fn address(&self, column: &'static str) -> Result<EthAddress, ReadError> {
        let wrong = |_| ReadError::Column { column, problem: "not 20 bytes" };
        <[u8; 20]>::try_from(self.bytes(column)?).map(EthAddress).map_err(wrong)
    }

    pub(crate) fn account(&self, column: &'static str) -> Result<AccountId, ReadError> {
        AccountId::from_slice(&self.bytes(column)?).map_err(|source| ReadError::Id { column, source })
    }

    pub(crate) fn wallet(&self, column: &'static str) -> Result<WalletId, ReadError> {
        WalletId::from_slice(&self.bytes(column)?).map_err(|source| ReadError::Id { column, source })
    }

    pub(crate) fn maybe_saga(&self, column: &'static str) -> Result<Option<SagaId>, ReadError> {
        let read = |bytes: Vec<u8>| SagaId::from_slice(&bytes).map_err(|source| ReadError::Id { column, source });
        self.maybe_bytes(column)?.map(read).transpose()
    }

    pub(crate) fn saga(&self, column: &'static str) -> Result<SagaId, ReadError> {
        self.maybe_saga(column)?.ok_or(absent(column))
    }

    pub(crate) fn digest(&self, column: &'static str) -> Result<Digest, ReadError> {
        Digest::from_slice(&self.bytes(column)?).map_err(|source| ReadError::Id { column, source })
    }

    pub(crate) fn maybe_tx(&self, column: &'static str) -> Result<Option<TxHash>, ReadError> {
        let read = |bytes: Vec<u8>| TxHash::from_slice(&bytes).map_err(|source| ReadError::Id { column, source });
        self.maybe_bytes(column)?.map(read).transpose()
    }

    pub(crate) fn maybe_intent(&self, column: &'static str) -> Result<Option<IntentId>, ReadError> {
        let read = |bytes: Vec<u8>| IntentId::from_slice(&bytes).map_err(|source| ReadError::Id { column, source });
        self.maybe_bytes(column)?.map(read).transpose()
    }

    /// The block of `number` and `hash`, if both are there.
    pub(crate) fn maybe_block(&self, number: &'static str, hash: &'static str) -> Result<Option<BlockRef>, ReadError> {
        match (self.maybe_u64(number)?, self.maybe_bytes(hash)?) {
            (Some(number), Some(bytes)) => {
                let hash = BlockHash::from_slice(&bytes).map_err(|source| ReadError::Id { column: hash, source })?;
                Ok(Some(BlockRef { number, hash }))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn block(&self, number: &'static str, hash: &'static str) -> Result<BlockRef, ReadError> {
        self.maybe_block(number, hash)?.ok_or(absent(number))
    }
}

const fn absent(column: &'static str) -> ReadError {
    ReadError::Column { column, problem: "absent" }
}
