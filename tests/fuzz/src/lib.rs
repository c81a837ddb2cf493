//! Every decoder that reads what comes from outside, as a target that is given arbitrary bytes.
//!
//! A target fails by panicking. What it holds against the product: no panic, no hang, bounded memory; what is accepted is the same
//! after it was written and read again; what is refused is refused by an error that has a name, and changes nothing. The same
//! targets run in two ways: [`short`] over the committed corpus and seeded mutations of it, in every `cargo test`; and under
//! libFuzzer, guided by coverage, with `cargo xtask fuzz`.
//!
//! Deliberately absent: the age container of the keystore, whose work factor is part of the input: a mutated one costs minutes and
//! gigabytes by design; its content and every check around it have tests of their own.

mod mutate;
mod parts;
mod short;
mod targets;

pub use mutate::{Chance, mutate};
pub use parts::{join, split};
pub use short::short;
pub use targets::{ALL, Target, named};
