//! The bank's door: requests in, answers, reads, the event feed, and the comparison of the books with the chains (REST).
//!
//! Invariants: whatever is malformed is refused here and reaches no inbox; every request that changes something carries an
//! idempotency key and is durable before it is answered; an answer that did not come in time is said to be unknown, never guessed.
//! Reads come from the SQL read model alone. Deliberately absent: any decision about money. The accounts machine decides.

mod auth;
mod connections;
mod cursor;
mod docs;
mod door;
mod error;
mod headers;
mod problem;
mod reading;
mod reconciliation;
mod replies;
mod routes;
mod server;
mod settings;
mod stream;
pub mod views;

pub use auth::{ApiKey, ApiKeyEntry, ApiKeys, Role};
pub use cursor::CursorSecret;
pub use docs::{catalogue_page, openapi};
pub use error::{BooksError, GatewayError};
pub use problem::Code;
pub use reconciliation::{AlteredRow, AssetBooks, Books, Difference, reconcile};
pub use server::Gateway;
pub use settings::{CheckedGateway, GatewayConfig, GatewaySettings};
