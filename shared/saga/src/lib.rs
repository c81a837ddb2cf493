//! The kernel: what a deterministic machine is, and how a saga is written as a table and interpreted.
//!
//! Invariants: deciding is pure and doing is data. Nothing here or in a machine reads a clock, draws a random number, performs
//! I/O or depends on the order of a hash map; the same state and the same input give the same bytes.

pub mod machine;
