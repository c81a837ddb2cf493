//! A saga as a `const` table: a step, what it asks, what counts as an answer, how long it waits, and what takes it back, on one row.
//!
//! Three kinds of step, in this order: reversible ones, one pivot, forward ones. A [`Row`] is what the interpreter, the laws and the
//! rendered page see; the functions beside it are what the driver calls. Deliberately absent: branches and loops. A step that
//! is not needed says so when it is asked.

use custos_domain::{Digest, Millis};

/// What a saga's steps work on: the saga's own data, and the desk where it touches state and leaves its deeds.
pub trait Process: Sized + 'static {
    /// The state that an input sees, and where deeds are collected.
    type Desk<'a>;
    /// What a step can ask somebody else.
    type Question: Content;
    /// What the saga can hear.
    type Answer;
    /// A business no.
    type Refusal;

    /// Puts into the world what the interpreter decided.
    fn record(&mut self, desk: &mut Self::Desk<'_>, note: Note<Self>);

    /// The span that policy gives to the wait called `name`.
    fn span(&self, desk: &Self::Desk<'_>, name: &'static str) -> Millis;
}

/// Something whose content has a digest: the same content, the same digest.
pub trait Content {
    /// The digest of the content, without any command id.
    fn digest(&self) -> Digest;
}

/// What a local step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran<R> {
    /// It is done.
    Done,
    /// A business no: nothing was changed.
    Refused(R),
    /// Impossible; nothing was changed: a human must look.
    Wrong(&'static str),
}

/// What a step asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<Q, R> {
    /// This question.
    Send(Q),
    /// Nothing: somebody will tell.
    Listen,
    /// The step is not needed this time.
    NotNeeded,
    /// A business no before anything was asked.
    Refuse(R),
}

/// What an answer means to the step that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged<R> {
    /// The step is done.
    Done,
    /// A business no. At a pivot it is definite: the effect did not and will not happen.
    Refused(R),
    /// Something to remember; the step still waits.
    Wait,
    /// Not for this step.
    NotMine(&'static str),
    /// For this step, and impossible: a human must look.
    Wrong(&'static str),
}

/// What the driver tells the world.
pub enum Note<P: Process> {
    /// Send this question under this identity, for the first time or again.
    Send {
        /// The step that asks.
        step: &'static Row,
        /// The identity, the same for every repeat.
        command: custos_domain::CommandId,
        /// The question.
        question: P::Question,
    },
    /// The saga reached a step.
    Moved(&'static str, Moved),
    /// Wake the saga after this span.
    Arm {
        /// The question's number: the timer's name.
        attempt: u32,
        /// After this long.
        span: Millis,
    },
    /// The timer of this attempt is not needed any more.
    Disarm {
        /// The question's number.
        attempt: u32,
    },
    /// The saga is refused: it unwinds, or ends so.
    Refused(P::Refusal),
    /// Nobody answered at this step in time.
    TimedOut(&'static str),
    /// The input was of no use.
    Dropped(&'static str),
    /// The saga waits for a human.
    Parked {
        /// Where.
        step: &'static str,
        /// Why.
        code: &'static str,
    },
    /// The saga went all the way.
    Completed,
    /// The saga took everything back.
    Unwound,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// Asked; the answer is awaited.
    Asked,
    /// Done.
    Done,
    /// Taken back.
    Undone,
}

/// Whether a step can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Before the pivot: taken back when the saga unwinds.
    Reversible,
    /// The point of no return: only its own definite no still unwinds the saga.
    Pivot,
    /// After the pivot: only forward.
    Forward,
}

/// Who does the work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// This shard, at once.
    Local,
    /// Somebody else, who answers.
    Asked,
}

/// How long a step waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Not at all: the step is local.
    No,
    /// This long, then the saga unwinds.
    Within(Millis),
    /// As long as policy says under this name, then the saga unwinds.
    WithinPolicy(&'static str),
    /// For ever, and the same question is sent again every so often.
    ResendEvery(Millis),
    /// For ever, because of this: somebody else has promised to tell.
    UntilTold(&'static str),
}

/// How a step is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undo {
    /// It is not.
    None,
    /// At once, by this shard, under this name.
    Local(&'static str),
    /// By asking under this name, again every so often until it is answered.
    Asked(&'static str, Millis),
}

/// A step as the interpreter, the laws and the rendered page see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The step's name, unique in the table, stable: running sagas name it.
    pub name: &'static str,
    /// What it does, in one clause.
    pub about: &'static str,
    /// Whether it can be taken back.
    pub kind: Kind,
    /// Who does it.
    pub work: Work,
    /// How long it waits.
    pub wait: Wait,
    /// Whether the question may leave ahead of the commit: it has no effect.
    pub ahead: bool,
    /// How it is taken back.
    pub undo: Undo,
    /// Why nothing needs to be taken back, if the step has no effect outside the saga's own data.
    pub harmless: Option<&'static str>,
}

impl Row {
    /// Whether something remains in the world once this step was begun.
    #[must_use]
    pub const fn has_effect(&self) -> bool {
        !self.ahead && self.harmless.is_none()
    }
}

/// A local step.
pub type RunFn<P> = fn(&mut <P as Process>::Desk<'_>, &mut P) -> Ran<<P as Process>::Refusal>;
/// What a step asks.
pub type AskFn<P> = fn(&mut <P as Process>::Desk<'_>, &mut P) -> Ask<<P as Process>::Question, <P as Process>::Refusal>;
/// What an answer means.
pub type JudgeFn<P> = fn(&mut <P as Process>::Desk<'_>, &mut P, &<P as Process>::Answer) -> Judged<<P as Process>::Refusal>;
/// What takes a step back at once; a no parks the saga.
pub type UndoFn<P> = RunFn<P>;

/// The functions of a step.
pub(crate) enum Deed<P: Process> {
    Local(RunFn<P>),
    Asked(AskFn<P>, JudgeFn<P>),
}

/// The functions that take a step back.
pub(crate) enum Back<P: Process> {
    None,
    Local(UndoFn<P>),
    Asked(AskFn<P>, JudgeFn<P>),
}

impl<P: Process> Clone for Deed<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Process> Copy for Deed<P> {}
impl<P: Process> Clone for Back<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Process> Copy for Back<P> {}

/// A step: its row, and the functions behind it.
pub struct Step<P: Process> {
    pub(crate) row: Row,
    pub(crate) deed: Deed<P>,
    pub(crate) back: Back<P>,
}

impl<P: Process> Clone for Step<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Process> Copy for Step<P> {}

impl<P: Process> Step<P> {
    const fn new(name: &'static str, kind: Kind, work: Work, deed: Deed<P>) -> Self {
        let row = Row { name, about: "", kind, work, wait: Wait::No, ahead: false, undo: Undo::None, harmless: None };
        Self { row, deed, back: Back::None }
    }

    /// A step that this shard does at once. After the pivot it cannot refuse: a refusal there parks the saga.
    #[must_use]
    pub const fn local(name: &'static str, run: RunFn<P>) -> Self {
        Self::new(name, Kind::Reversible, Work::Local, Deed::Local(run))
    }

    /// A reversible step that somebody else answers.
    #[must_use]
    pub const fn ask(name: &'static str, ask: AskFn<P>, answered: JudgeFn<P>) -> Self {
        Self::new(name, Kind::Reversible, Work::Asked, Deed::Asked(ask, answered))
    }

    /// The point of no return, taken by somebody else.
    #[must_use]
    pub const fn pivot(name: &'static str, ask: AskFn<P>, answered: JudgeFn<P>) -> Self {
        Self::new(name, Kind::Pivot, Work::Asked, Deed::Asked(ask, answered))
    }

    /// The point of no return, taken by this shard at once.
    #[must_use]
    pub const fn pivot_local(name: &'static str, run: RunFn<P>) -> Self {
        Self::new(name, Kind::Pivot, Work::Local, Deed::Local(run))
    }

    /// A step after the pivot that somebody else answers.
    #[must_use]
    pub const fn forward(name: &'static str, ask: AskFn<P>, answered: JudgeFn<P>) -> Self {
        Self::new(name, Kind::Forward, Work::Asked, Deed::Asked(ask, answered))
    }

    /// A step after the pivot that this shard does at once.
    #[must_use]
    pub const fn forward_local(name: &'static str, run: RunFn<P>) -> Self {
        Self::new(name, Kind::Forward, Work::Local, Deed::Local(run))
    }

    /// What the step does, in one clause, for the rendered page.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.row.about = about;
        self
    }

    /// Unwinds when nobody answers within `span`.
    #[must_use]
    pub const fn within(mut self, span: Millis) -> Self {
        self.row.wait = Wait::Within(span);
        self
    }

    /// Unwinds when nobody answers within the span that policy gives under `name`.
    #[must_use]
    pub const fn within_policy(mut self, name: &'static str) -> Self {
        self.row.wait = Wait::WithinPolicy(name);
        self
    }

    /// Sends the same question under the same identity again every `span`, for ever.
    #[must_use]
    pub const fn resend_every(mut self, span: Millis) -> Self {
        self.row.wait = Wait::ResendEvery(span);
        self
    }

    /// Waits without a deadline, because of `why`.
    #[must_use]
    pub const fn until_told(mut self, why: &'static str) -> Self {
        self.row.wait = Wait::UntilTold(why);
        self
    }

    /// A question without effect: it may leave ahead of the commit.
    #[must_use]
    pub const fn ahead(mut self) -> Self {
        self.row.ahead = true;
        self
    }

    /// Nothing needs to be taken back, because of `why`.
    #[must_use]
    pub const fn harmless(mut self, why: &'static str) -> Self {
        self.row.harmless = Some(why);
        self
    }

    /// Taken back at once by `undo`, which the page calls `name`.
    #[must_use]
    pub const fn undo(mut self, name: &'static str, undo: UndoFn<P>) -> Self {
        self.row.undo = Undo::Local(name);
        self.back = Back::Local(undo);
        self
    }

    /// Taken back by asking, again every `resend` until answered.
    #[must_use]
    pub const fn undo_asking(mut self, name: &'static str, ask: AskFn<P>, answered: JudgeFn<P>, resend: Millis) -> Self {
        self.row.undo = Undo::Asked(name, resend);
        self.back = Back::Asked(ask, answered);
        self
    }
}

/// A saga's definition. A renamed, removed or reordered step is a new version; the old one stays registered until drained.
pub struct Saga<P: Process> {
    /// Its name, stable.
    pub name: &'static str,
    /// Raised when the table changes.
    pub version: u32,
    /// What it is for, in one sentence.
    pub purpose: &'static str,
    /// Why it has no pivot, if it has none.
    pub no_pivot: Option<&'static str>,
    /// The table.
    pub steps: &'static [Step<P>],
}

/// The table of a saga without its functions.
pub trait Shape: Sync {
    /// The saga's name.
    fn name(&self) -> &'static str;
    /// Its version.
    fn version(&self) -> u32;
    /// What it is for.
    fn purpose(&self) -> &'static str;
    /// Why it has no pivot, if it has none.
    fn no_pivot(&self) -> Option<&'static str>;
    /// The row at `index`.
    fn row(&self, index: usize) -> Option<&Row>;
    /// The index of the step called `name`.
    fn index_of(&self, name: &str) -> Option<usize> {
        (0..self.len()).find(|index| self.row(*index).is_some_and(|row| row.name == name))
    }
    /// How many steps it has.
    fn len(&self) -> usize;
    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P: Process> Shape for Saga<P> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> u32 {
        self.version
    }
    fn purpose(&self) -> &'static str {
        self.purpose
    }
    fn no_pivot(&self) -> Option<&'static str> {
        self.no_pivot
    }
    fn row(&self, index: usize) -> Option<&Row> {
        self.steps.get(index).map(|step| &step.row)
    }
    fn len(&self) -> usize {
        self.steps.len()
    }
}

/// A table of rows alone: to try out what the laws say of a definition before there are functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name.
    pub name: &'static str,
    /// Why it has no pivot, if it has none.
    pub no_pivot: Option<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// The rows of `shape`, to be changed.
    #[must_use]
    pub fn of(shape: &dyn Shape) -> Self {
        let rows = (0..shape.len()).filter_map(|index| shape.row(index).copied()).collect();
        Self { name: shape.name(), no_pivot: shape.no_pivot(), rows }
    }
}

impl Shape for Table {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> u32 {
        0
    }
    fn purpose(&self) -> &'static str {
        ""
    }
    fn no_pivot(&self) -> Option<&'static str> {
        self.no_pivot
    }
    fn row(&self, index: usize) -> Option<&Row> {
        self.rows.get(index)
    }
    fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Every definition that a machine knows, old versions included until they are drained.
#[derive(Clone, Copy)]
pub struct Registry(pub &'static [&'static dyn Shape]);

impl Registry {
    /// The definition called `name` in `version`.
    #[must_use]
    pub fn resolve(&self, name: &str, version: u32) -> Option<&'static dyn Shape> {
        self.0.iter().copied().find(|shape| shape.name() == name && shape.version() == version)
    }
}
