//! The kernel: what a deterministic machine is, and how a saga is written as a table and interpreted.
//!
//! Invariants: deciding is pure and doing is data. Nothing here or in a machine reads a clock, draws a random number, performs
//! I/O or depends on the order of a hash map; the same state and the same input give the same bytes.

mod check;
mod drive;
mod interpret;
pub mod laws;
pub mod machine;
pub mod participant;
mod render;
mod settled;
mod step;
mod touched;

pub use check::{Flaw, check};
pub use drive::{Heard, drive};
pub use interpret::{Action, Instance, Phase, Said, Stimulus, Verdict, interpret};
pub use render::page;
pub use step::{
    Ask, AskFn, Content, JudgeFn, Judged, Kind, Moved, Note, Process, Ran, Registry, Row, RunFn, Saga, Shape, Step, Table,
    Undo, UndoFn, Wait, Work,
};
