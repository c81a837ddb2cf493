//! A room of its own in a PostgreSQL database that others use, too: a schema, and the address that leads into it.

use sqlx::{Connection as _, Executor as _};

use crate::ReadError;

/// Makes an empty schema in the database at `url`. `name` consists of small letters, digits and underscores.
///
/// # Errors
/// The database does not answer, refuses, or has such a schema already.
pub async fn create_schema(url: &str, name: &str) -> Result<(), ReadError> {
    order(url, "create a schema", format!("CREATE SCHEMA {}", plain(name)?)).await
}

/// Removes a schema with everything in it.
///
/// # Errors
/// The database does not answer, or has no such schema.
pub async fn drop_schema(url: &str, name: &str) -> Result<(), ReadError> {
    order(url, "drop a schema", format!("DROP SCHEMA {} CASCADE", plain(name)?)).await
}

/// The address of the schema `name` in the database at `url`: everything that is made or asked through it is in the schema.
#[must_use]
pub fn in_schema(url: &str, name: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}options=-csearch_path%3D{name}")
}

/// The name becomes part of a statement: nothing but plain letters may be in it.
fn plain(name: &str) -> Result<&str, ReadError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.bytes().all(fits) { Ok(name) } else { Err(ReadError::Schema { name: name.to_owned() }) }
}

async fn order(url: &str, operation: &'static str, statement: String) -> Result<(), ReadError> {
    let mut connection = sqlx::PgConnection::connect(url).await.map_err(ReadError::sql("connect"))?;
    connection.execute(sqlx::AssertSqlSafe(statement)).await.map_err(ReadError::sql(operation))?;
    connection.close().await.map_err(ReadError::sql("disconnect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_more_than_a_name_does_not_become_a_statement() {
        assert!(plain("custos_demo_0a").is_ok());
        for name in ["", "Custos", "a; DROP SCHEMA public", "a b", "a\"b"] {
            assert!(plain(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_way_into_a_schema_keeps_what_the_address_says_already() {
        assert_eq!(in_schema("postgres://h/d", "s"), "postgres://h/d?options=-csearch_path%3Ds");
        assert_eq!(in_schema("postgres://h/d?a=b", "s"), "postgres://h/d?a=b&options=-csearch_path%3Ds");
    }
}
