//! Many rows as few parameters: each column is one array, written as PostgreSQL reads arrays from text.
//!
//! A row of places for each row of the table makes statements of thousands of parameters, which cost the database more than the rows
//! do. SQLite has no arrays, and no such cost: it has no server to talk to. The conversion from text is the server's own, so that a value
//! means the same either way; the digest of the read model is the same on both databases.

use custos_domain::hex_text;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::ReadError;
use crate::cell::Cell;
use crate::schema::{Holds, Table};

/// The most rows of one statement: what is sent at once stays below some megabytes.
const MOST: usize = 4_096;

/// Whether the database takes columns.
pub(crate) fn are_taken_by(connection: &AnyConnection) -> bool {
    connection.backend_name() == "PostgreSQL"
}

/// Inserts `rows` into `table`; `conflict` follows the values.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    table: &Table,
    rows: &[Vec<Cell>],
    conflict: &str,
) -> Result<(), ReadError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = insert_sql(table, conflict);
    for some in rows.chunks(MOST) {
        let columns = (0..table.columns.len()).map(|column| array(some.iter().filter_map(|row| row.get(column))));
        let query = columns.fold(sqlx::query(AssertSqlSafe(sql.clone())), sqlx::query::Query::bind);
        query.execute(&mut *connection).await.map_err(ReadError::sql(table.name))?;
    }
    Ok(())
}

fn insert_sql(table: &Table, conflict: &str) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let arrays: Vec<String> =
        table.columns.iter().zip(1..).map(|((_, holds), place): (_, usize)| array_at(*holds, place)).collect();
    format!("INSERT INTO {} ({}) SELECT * FROM UNNEST({}) {conflict}", table.name, names.join(", "), arrays.join(", "))
}

/// The array at a place.
pub(crate) fn array_at(holds: Holds, place: usize) -> String {
    let element = match holds {
        Holds::Int => "bigint",
        Holds::Text => "text",
        Holds::Bytes => "bytea",
    };
    format!("CAST(CAST(${place} AS text) AS {element}[])")
}

/// The cells as PostgreSQL reads an array from text.
pub(crate) fn array<'c>(cells: impl Iterator<Item = &'c Cell>) -> String {
    let mut text = String::from("{");
    for (cell, at) in cells.zip(0_u64..) {
        if at > 0 {
            text.push(',');
        }
        match cell {
            Cell::Int(None) | Cell::Text(None) | Cell::Bytes(None) => text.push_str("NULL"),
            Cell::Int(Some(number)) => text.push_str(&number.to_string()),
            Cell::Text(Some(said)) => quote(said, &mut text),
            Cell::Bytes(Some(bytes)) => {
                text.push_str("\"\\\\x");
                text.push_str(&hex_text(bytes));
                text.push('"');
            }
        }
    }
    text.push('}');
    text
}

fn quote(said: &str, text: &mut String) {
    text.push('"');
    for character in said.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_holds_what_it_was_given() {
        let cells = [
            Cell::Int(Some(-7)),
            Cell::Int(None),
            Cell::Text(Some(String::new())),
            Cell::Text(Some("NULL".to_owned())),
            Cell::Text(Some("a \"b\" \\ {c,d}".to_owned())),
            Cell::Text(None),
            Cell::Bytes(Some(vec![0x00, 0xff, 0x5c])),
            Cell::Bytes(Some(Vec::new())),
            Cell::Bytes(None),
        ];
        let expected = r#"{-7,NULL,"","NULL","a \"b\" \\ {c,d}",NULL,"\\x00ff5c","\\x",NULL}"#;
        assert_eq!(array(cells.iter()), expected);
        assert_eq!(array(std::iter::empty()), "{}");
    }
}
