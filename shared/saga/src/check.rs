//! What is wrong with a table, found before it runs: the rules that make a definition a saga.

use crate::step::{Kind, Row, Shape, Undo, Wait, Work};

/// Why a table is not a saga. Steps are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No step at all, or more than the instance can mark.
    #[error("a saga has 1 to 32 steps")]
    Size,
    /// Two steps of one name.
    #[error("two steps are called `{0}`")]
    SameName(&'static str),
    /// More than one pivot.
    #[error("`{0}` is a second pivot")]
    SecondPivot(&'static str),
    /// No pivot and no reason.
    #[error("a saga without a pivot says why")]
    NoPivot,
    /// Reversible steps stand before the pivot, forward steps after it.
    #[error("`{0}` stands on the wrong side of the pivot")]
    WrongSide(&'static str),
    /// A reversible step with an effect and nothing that takes it back.
    #[error("`{0}` has an effect and no undo")]
    NoUndo(&'static str),
    /// An undo at or after the pivot.
    #[error("`{0}` cannot be undone: it stands at or after the pivot")]
    UndoTooLate(&'static str),
    /// A question with an effect ahead of the commit.
    #[error("`{0}` has an effect and must not leave ahead of the commit")]
    Ahead(&'static str),
    /// A question at or after the pivot that is not sent again, or that gives up.
    #[error("`{0}` stands at or after the pivot and must be asked again until answered")]
    NoResend(&'static str),
    /// A question before the pivot without a limit.
    #[error("`{0}` waits without a limit")]
    NoLimit(&'static str),
    /// A local step that waits.
    #[error("`{0}` is local and cannot wait")]
    LocalWaits(&'static str),
}

/// The first flaw of a table, if it has one.
///
/// # Errors
/// A [`Flaw`] that names the step.
pub fn check(table: &dyn Shape) -> Result<(), Flaw> {
    if table.is_empty() || table.len() > 32 {
        return Err(Flaw::Size);
    }
    let mut pivot = None;
    for index in 0..table.len() {
        let Some(row) = table.row(index) else { return Err(Flaw::Size) };
        if table.index_of(row.name) != Some(index) {
            return Err(Flaw::SameName(row.name));
        }
        match (row.kind, pivot) {
            (Kind::Pivot, Some(_)) => return Err(Flaw::SecondPivot(row.name)),
            (Kind::Pivot, None) => pivot = Some(index),
            (Kind::Reversible, Some(_)) => return Err(Flaw::WrongSide(row.name)),
            (Kind::Forward, None) if table.no_pivot().is_none() => return Err(Flaw::WrongSide(row.name)),
            (Kind::Reversible, None) | (Kind::Forward, _) => {}
        }
        check_row(row)?;
    }
    if pivot.is_none() && table.no_pivot().is_none() { Err(Flaw::NoPivot) } else { Ok(()) }
}

fn check_row(row: &Row) -> Result<(), Flaw> {
    let undone = row.undo != Undo::None;
    if row.kind != Kind::Reversible && undone {
        return Err(Flaw::UndoTooLate(row.name));
    }
    if row.ahead && (row.kind != Kind::Reversible || undone || row.work == Work::Local) {
        return Err(Flaw::Ahead(row.name));
    }
    if row.kind == Kind::Reversible && row.has_effect() && !undone {
        return Err(Flaw::NoUndo(row.name));
    }
    match (row.work, row.kind, row.wait) {
        (Work::Local, _, Wait::No) => Ok(()),
        (Work::Local, _, _) => Err(Flaw::LocalWaits(row.name)),
        (Work::Asked, Kind::Reversible, Wait::No) => Err(Flaw::NoLimit(row.name)),
        (Work::Asked, Kind::Reversible, _) => Ok(()),
        (Work::Asked, Kind::Pivot | Kind::Forward, Wait::ResendEvery(_)) => Ok(()),
        (Work::Asked, Kind::Pivot | Kind::Forward, _) => Err(Flaw::NoResend(row.name)),
    }
}
