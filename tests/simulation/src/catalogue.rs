//! The catalogue of interesting cases. A long run in which one of them was never met has not tested what it claims to.

use std::collections::BTreeMap;

/// Every case that a long run must meet.
pub const CATALOGUE: &[&str] = &[
    "a broker loses what it told nobody",
    "a broker forgets to end a transaction",
    "a broker's disk is slow",
    "a checkpoint is damaged",
    "a credited deposit is reversed",
    "a debt is settled",
    "a deposit is quarantined",
    "a deposit leaves the chain before it is credited",
    "a forged order reaches the signer",
    "a hold is given back although a signature exists",
    "a host's clock jumps",
    "a key is used again with another body",
    "a no-op takes a payment's nonce",
    "a new leader knows of less than was committed",
    "a node falls behind",
    "a node misbehaves",
    "a node shows a deposit that never was",
    "a payment becomes impossible",
    "a payment is replaced at a higher fee",
    "a payment leaves the chain",
    "a process dies",
    "a process sleeps in the middle of a request",
    "a process stands still",
    "a question is never answered",
    "a reorganisation",
    "a reorganisation below finality",
    "a request arrives late",
    "a settled payment fails when it is mined again",
    "a shard changes its owner",
    "a shard stands still before a logic that its binary does not know",
    "a shard switches its logic",
    "a signature is on record and its answer lost",
    "a stray end hits another transaction",
    "a token refuses transfers",
    "a transaction is lost from every pool",
    "an event stands in the log twice",
    "an officer contradicts himself",
    "an officer decides too late",
    "an officer decides twice",
    "an output stands in the log twice",
    "fees rise beyond what was offered",
    "killed after a commit",
    "killed at a named point",
    "killed between two turns",
    "others act in the middle of a request",
    "the bank does not know whether its request arrived",
    "the bank doubles a request",
    "the bank repeats a request with its key",
    "the guard refuses a signature",
    "the house pays for a nonce",
    "the policy changes",
];

/// The cases of the catalogue that were never met.
#[must_use]
pub fn unmet(cases: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    CATALOGUE.iter().filter(|case| !cases.contains_key(*case)).copied().collect()
}
