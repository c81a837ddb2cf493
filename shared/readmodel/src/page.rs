//! Pages of lists: a cursor names the last item seen, so that pages neither repeat nor skip while the list grows.

use std::fmt;
use std::str::FromStr;

use custos_domain::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyPool, AssertSqlSafe};

use crate::ReadError;
use crate::cell::{Cell, Fields, bind, int};

/// The largest page.
const LARGEST: u32 = 1_000;

/// The place of an item in its list: its time, then its place in the log. Printed and parsed as `time-partition-sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the item came to be.
    pub at: Timestamp,
    /// In which partition.
    pub partition: u32,
    /// At which event of it.
    pub sequence: u64,
}

/// What part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Items after this one in the order of the list; from its beginning if `None`.
    pub after: Option<Cursor>,
    /// At most so many; held between 1 and 1000.
    pub limit: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

impl PageRequest {
    /// The first `limit` items.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at.0, self.partition, self.sequence)
    }
}

impl FromStr for Cursor {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let wrong = ReadError::Column { column: "cursor", problem: "not time-partition-sequence" };
        let mut parts = text.split('-');
        let (Some(at), Some(partition), Some(sequence), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong);
        };
        match (at.parse(), partition.parse(), sequence.parse()) {
            (Ok(at), Ok(partition), Ok(sequence)) => Ok(Self { at: Timestamp(at), partition, sequence }),
            _ => Err(wrong),
        }
    }
}

/// The order of a list by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// A list to take a page of.
#[derive(Debug)]
pub(crate) struct List {
    /// `SELECT … FROM …` without conditions.
    pub(crate) select: &'static str,
    /// The columns of time, partition and sequence, as the conditions name them.
    pub(crate) key: [&'static str; 3],
    /// The same, as the row names them.
    pub(crate) names: [&'static str; 3],
    pub(crate) order: Order,
    /// `column = value` of each.
    pub(crate) equal: Vec<(&'static str, Cell)>,
}

impl List {
    /// The page that `request` wants, each row read by `read`.
    pub(crate) async fn page<T>(
        self,
        pool: &AnyPool,
        request: PageRequest,
        read: impl Fn(&AnyRow) -> Result<T, ReadError>,
    ) -> Result<Page<T>, ReadError> {
        let limit = request.limit.clamp(1, LARGEST);
        let (direction, beyond) = match self.order {
            Order::OldestFirst => ("ASC", ">"),
            Order::NewestFirst => ("DESC", "<"),
        };
        let [at, partition, sequence] = self.key;
        let mut cells: Vec<Cell> = Vec::new();
        let mut conditions: Vec<String> = Vec::new();
        for (column, cell) in self.equal {
            cells.push(cell);
            conditions.push(format!("{column} = ${}", cells.len()));
        }
        if let Some(after) = request.after {
            let first = cells.len().saturating_add(1);
            conditions.push(format!("({at}, {partition}, {sequence}) {beyond} ({})", crate::cell::places(first, 3)));
            cells.extend([int("time", after.at.0)?, after.partition.into(), int("sequence", after.sequence)?]);
        }
        let filter = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let sql = format!(
            "{} {filter} ORDER BY {at} {direction}, {partition} {direction}, {sequence} {direction} LIMIT {}",
            self.select,
            limit.saturating_add(1)
        );
        let query = cells.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        let mut rows = query.fetch_all(pool).await.map_err(ReadError::sql(self.select))?;
        let kept = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > kept;
        rows.truncate(kept);
        let next = rows.last().filter(|_| more).map(|row| cursor(row, self.names)).transpose()?;
        let items = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }
}

fn cursor(row: &AnyRow, [at, partition, sequence]: [&'static str; 3]) -> Result<Cursor, ReadError> {
    let fields = Fields(row);
    Ok(Cursor { at: fields.time(at)?, partition: fields.u32(partition)?, sequence: fields.u64(sequence)? })
}
