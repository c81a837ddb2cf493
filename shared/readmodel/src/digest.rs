//! One digest of everything that the read model says, so that two of them, or one before and after a rebuild, can be compared.

use std::collections::BTreeSet;

use custos_domain::Digest;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Column, Executor as _, SqlSafeStr as _, Statement as _};

use crate::cell::{Cell, Fields};
use crate::schema::{self, Table};
use crate::{ReadError, ReadModel};

impl ReadModel {
    /// The digest of all tables. The feed's ids are left out: they say in which order projectors came, not what happened.
    /// The order of rows does not matter; take it while no projector runs, or two tables may be of two moments.
    pub async fn digest(&self) -> Result<Digest, ReadError> {
        let mut parts = Vec::new();
        for table in schema::ALL {
            parts.push(table.name.as_bytes().to_vec());
            parts.push(self.table_digest(table).await?.to_vec());
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(Digest::of_parts("custos 2026 read model", &parts))
    }

    /// Columns that the database has and the read model's own list has not, or the other way round, as `table.column`: none.
    pub async fn unlisted_columns(&self) -> Result<Vec<String>, ReadError> {
        let mut unlisted = Vec::new();
        for table in schema::ALL {
            let sql = AssertSqlSafe(format!("SELECT * FROM {}", table.name)).into_sql_str();
            let statement = self.pool().prepare(sql).await.map_err(ReadError::sql(table.name))?;
            let found: BTreeSet<&str> = statement.columns().iter().map(Column::name).collect();
            let listed: BTreeSet<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            unlisted.extend(found.symmetric_difference(&listed).map(|column| format!("{}.{column}", table.name)));
        }
        Ok(unlisted)
    }

    /// The sum of the rows' digests modulo 2^256: the same for any order of rows, and rows need not fit into memory.
    async fn table_digest(&self, table: &Table) -> Result<[u8; 32], ReadError> {
        let columns: Vec<_> = table.columns.iter().filter(|(name, _)| *name != "feed_id").collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let sql = AssertSqlSafe(format!("SELECT {} FROM {}", names.join(", "), table.name));
        let mut rows = self.pool().fetch(sql);
        let mut sum = [0_u8; 32];
        while let Some(row) = rows.try_next().await.map_err(ReadError::sql(table.name))? {
            let fields = Fields(&row);
            let mut bytes = Vec::with_capacity(256);
            for (name, holds) in &columns {
                push(&mut bytes, &fields.cell(name, *holds)?);
            }
            add(&mut sum, &Digest::of(&bytes).0);
        }
        Ok(sum)
    }
}

/// A tag, then the value; what varies in length is prefixed by its length.
fn push(bytes: &mut Vec<u8>, cell: &Cell) {
    let mut sized = |tag: u8, value: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(value);
    };
    match cell {
        Cell::Int(None) | Cell::Text(None) | Cell::Bytes(None) => sized(0, &[]),
        Cell::Int(Some(number)) => sized(1, &number.to_be_bytes()),
        Cell::Text(Some(text)) => sized(2, text.as_bytes()),
        Cell::Bytes(Some(value)) => sized(3, value),
    }
}

fn add(sum: &mut [u8; 32], other: &[u8; 32]) {
    let mut carry = 0_u16;
    for (left, right) in sum.iter_mut().zip(other).rev() {
        let [high, low] = (u16::from(*left) + u16::from(*right) + carry).to_be_bytes();
        (*left, carry) = (low, u16::from(high));
    }
}
