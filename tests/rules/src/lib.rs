//! The house rules, as functions from sources to findings.
//!
//! Invariants: a checker reads nothing by itself, so that it can be given a bad sample; a finding says where, what and what to do
//! instead. `tests/house.rs` gives the checkers the files of this repository. Deliberately absent: whatever rustc, clippy or
//! rustfmt can judge.

mod imports;
mod licences;
mod pages;
mod purity;
mod shape;
mod traces;
mod tree;
mod words;

pub use imports::{Manifest, layers, owners};
pub use licences::{Licences, forbidden};
pub use pages::{decisions, error_pages, readme};
pub use purity::{ambient, lints_of_pure_crates};
pub use shape::{examples, long_files, vague_modules};
pub use traces::machine_traces;
pub use tree::{Source, host, metadata, tracked};
pub use words::unfinished;
