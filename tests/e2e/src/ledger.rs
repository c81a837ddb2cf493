//! Figures out of JSON: amounts as integers, never as floats.

use anyhow::{Context, bail};
use serde_json::Value;

/// What an account has of an asset, in base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Free to use.
    pub available: u128,
    /// Taken for running operations.
    pub held: u128,
    /// Arrived, not final.
    pub pending: u128,
    /// Arrived, refused by screening.
    pub frozen: u128,
}

impl Balance {
    /// So much available, and nothing else.
    #[must_use]
    pub const fn available(available: u128) -> Self {
        Self { available, held: 0, pending: 0, frozen: 0 }
    }

    pub(crate) fn of(view: &Value) -> anyhow::Result<Self> {
        let book = |name: &str| base_units(view.get(name).with_context(|| format!("no `{name}` in {view}"))?);
        Ok(Self { available: book("available")?, held: book("held")?, pending: book("pending")?, frozen: book("frozen")? })
    }
}

/// The base units of a money object of the API.
///
/// # Errors
/// It has none.
pub fn base_units(money: &Value) -> anyhow::Result<u128> {
    Ok(text(money, "/base_units")?.parse()?)
}

/// The text at a JSON pointer.
///
/// # Errors
/// There is none.
pub fn text<'v>(value: &'v Value, pointer: &str) -> anyhow::Result<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no text at {pointer} of {value}"))
}

/// Base units of a decimal text with up to 18 places, such as those in the balance sheet; a minus is an error.
///
/// # Errors
/// It is not such a text.
pub fn decimal(text: &str, decimals: usize) -> anyhow::Result<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > decimals {
        bail!("`{text}` has more than {decimals} places");
    }
    Ok(format!("{whole}{part:0<decimals$}").parse()?)
}
