//! The catalogue of interesting cases. A long run in which one of them was never met has not tested what it claims to.

use std::collections::BTreeMap;

/// Every case that a long run must meet.
pub const CATALOGUE: &[&str] = &[
    "a broker loses what it told nobody",
    "a host's clock jumps",
    "a key is used again with another body",
    "a checkpoint is damaged",
    "a process dies",
    "a process sleeps in the middle of a request",
    "a process stands still",
    "a request arrives late",
    "a shard changes its owner",
    "a stray end hits another transaction",
    "an event stands in the log twice",
    "an output stands in the log twice",
    "killed after a commit",
    "killed at a named point",
    "killed between two turns",
    "others act in the middle of a request",
    "the bank does not know whether its request arrived",
    "the bank doubles a request",
    "the bank repeats a request with its key",
];

/// The cases of the catalogue that were never met.
#[must_use]
pub fn unmet(cases: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    CATALOGUE.iter().filter(|case| !cases.contains_key(*case)).copied().collect()
}
