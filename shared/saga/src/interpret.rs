//! The one function that interprets every saga: a table, where an instance stands and what it hears, to where it stands then and
//! what is to be done.
//!
//! Invariants: unwinding starts with the current step, because a question that was sent may have been acted upon; before the
//! pivot a timeout unwinds, from it on a timeout sends the same question again; answers to another question are dropped; the
//! right step with a wrong answer parks; ended instances change no more. It calls nothing: each stimulus yields at most one
//! deed, and what that deed says is the next stimulus.

use custos_domain::CommandId;

use crate::step::{Kind, Moved, Row, Shape, Undo, Wait, Work};

/// Where a running saga stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// What it does there.
    pub phase: Phase,
    /// The current step's place in the table.
    pub step: usize,
    /// The number of the current question, from 1; a question sent again keeps it.
    pub attempt: u32,
    /// The question whose answer is awaited; none while the saga only listens.
    pub expected: Option<CommandId>,
    /// Bit `i`: step `i` is done and not taken back.
    pub done: u32,
}

/// What an instance does at its step. Between inputs it is waiting or ended; the others last only within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not begun.
    New,
    /// The step is being run or asked.
    Entering,
    /// Asked; the answer is awaited.
    Waiting,
    /// The same question is being sent again.
    Repeating,
    /// The step is being taken back.
    Undoing,
    /// Asked to take the step back; the answer is awaited.
    UndoWaiting,
    /// The same undo is being sent again.
    UndoRepeating,
    /// Went all the way.
    Completed,
    /// Took everything back.
    Unwound,
    /// Waits for a human.
    Parked,
}

/// What an instance hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stimulus {
    /// Begin.
    Start,
    /// What the deed that was just ordered said.
    Said(Said),
    /// An answer to the question `command`, or a fact that answers to none.
    Answer(Option<CommandId>, Verdict),
    /// The timer of this attempt is due.
    Due(u32),
}

/// What a deed says at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// Done.
    Done,
    /// Refused; nothing was changed or asked.
    Refused,
    /// Asked under this identity, or listening.
    Sent(Option<CommandId>),
    /// Not needed.
    Skipped,
    /// Impossible; nothing was changed.
    Wrong(&'static str),
}

/// What an answer means to the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Done.
    Done,
    /// No.
    Refused,
    /// Noted; still waiting.
    Wait,
    /// Not for this step.
    NotMine(&'static str),
    /// Impossible.
    Wrong(&'static str),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Run the local step. Its word is the next stimulus.
    Run(usize),
    /// Ask, under this attempt. Its word is the next stimulus.
    Ask(usize, u32),
    /// Take the step back, under this attempt. Its word is the next stimulus.
    Undo(usize, u32),
    /// Tell that the saga reached a step.
    Moved(usize, Moved),
    /// Wake this attempt when the step's wait is over.
    Arm(usize, u32),
    /// Wake this attempt when the undo is to be asked again.
    ArmUndo(usize, u32),
    /// Do not wake this attempt.
    Disarm(u32),
    /// Tell that nobody answered in time.
    TimedOut(usize),
    /// Count an input that was of no use.
    Drop(&'static str),
    /// Tell that the saga waits for a human.
    Park(usize, &'static str),
    /// Tell that it went all the way.
    Complete,
    /// Tell that it took everything back.
    Unwound,
}

impl Default for Instance {
    fn default() -> Self {
        Self { phase: Phase::New, step: 0, attempt: 0, expected: None, done: 0 }
    }
}

impl Instance {
    /// Whether it changes no more.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Unwound | Phase::Parked)
    }

    /// Whether `step` is done and not taken back.
    #[must_use]
    pub fn is_done(&self, step: usize) -> bool {
        self.done & bit(step) != 0
    }

    /// Marks `step` as done: for reading an instance back.
    pub fn mark_done(&mut self, step: usize) {
        self.done |= bit(step);
    }

    /// Whether an answer to `command` (none for a fact) is one that it waits for.
    #[must_use]
    pub fn awaits(&self, command: Option<CommandId>) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::UndoWaiting) && (command.is_none() || command == self.expected)
    }
}

fn bit(step: usize) -> u32 {
    u32::try_from(step).ok().and_then(|shift| 1_u32.checked_shl(shift)).unwrap_or(0)
}

/// What `before` becomes on hearing `stimulus`, and what is to be done.
#[must_use]
pub fn interpret(table: &dyn Shape, before: &Instance, stimulus: Stimulus) -> (Instance, Vec<Action>) {
    let mut turn = Turn { table, now: before.clone(), actions: Vec::new() };
    match (before.phase, stimulus) {
        (Phase::New, Stimulus::Start) => turn.enter(0),
        (Phase::New, _) => turn.drop("not-started"),
        (Phase::Completed | Phase::Unwound, _) => turn.drop("ended"),
        (Phase::Parked, _) => turn.drop("parked"),
        (Phase::Entering, Stimulus::Said(said)) => turn.entered(said),
        (Phase::Repeating, Stimulus::Said(said)) => turn.repeated(said, Phase::Waiting),
        (Phase::UndoRepeating, Stimulus::Said(said)) => turn.repeated(said, Phase::UndoWaiting),
        (Phase::Undoing, Stimulus::Said(said)) => turn.undone(said),
        (Phase::Waiting | Phase::UndoWaiting, Stimulus::Answer(Some(command), _)) if before.expected != Some(command) => {
            turn.drop("stale-reply");
        }
        (Phase::Waiting, Stimulus::Answer(_, verdict)) => turn.answered(verdict),
        (Phase::UndoWaiting, Stimulus::Answer(_, verdict)) => turn.undo_answered(verdict),
        (Phase::Waiting | Phase::UndoWaiting, Stimulus::Due(attempt)) if attempt != before.attempt => {
            turn.drop("stale-timer")
        }
        (Phase::Waiting, Stimulus::Due(_)) => turn.due(),
        (Phase::UndoWaiting, Stimulus::Due(_)) => {
            turn.now.phase = Phase::UndoRepeating;
            turn.act(Action::Undo(before.step, before.attempt));
        }
        (Phase::Waiting | Phase::UndoWaiting, Stimulus::Start) => turn.drop("already-started"),
        _ => turn.drop("out-of-order"),
    }
    (turn.now, turn.actions)
}

struct Turn<'a> {
    table: &'a dyn Shape,
    now: Instance,
    actions: Vec<Action>,
}

impl Turn<'_> {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn drop(&mut self, code: &'static str) {
        self.act(Action::Drop(code));
    }

    fn park(&mut self, code: &'static str) {
        if matches!(self.now.phase, Phase::Waiting | Phase::UndoWaiting) {
            self.act(Action::Disarm(self.now.attempt));
        }
        self.now.phase = Phase::Parked;
        self.now.expected = None;
        self.act(Action::Park(self.now.step, code));
    }

    fn row(&self) -> Option<Row> {
        self.table.row(self.now.step).copied()
    }

    fn enter(&mut self, step: usize) {
        self.now.step = step;
        self.now.expected = None;
        match self.table.row(step) {
            None => {
                self.now.step = step.saturating_sub(1);
                self.now.phase = Phase::Completed;
                self.act(Action::Complete);
            }
            Some(row) => {
                self.now.phase = Phase::Entering;
                self.now.attempt = self.now.attempt.saturating_add(1);
                self.act(match row.work {
                    Work::Local => Action::Run(step),
                    Work::Asked => Action::Ask(step, self.now.attempt),
                });
            }
        }
    }

    fn finish(&mut self) {
        let step = self.now.step;
        self.now.done |= bit(step);
        self.act(Action::Moved(step, Moved::Done));
        self.enter(step.saturating_add(1));
    }

    fn entered(&mut self, said: Said) {
        let Some(row) = self.row() else { return self.park("no-such-step") };
        let step = self.now.step;
        match (row.work, said) {
            (Work::Local, Said::Done) => self.finish(),
            (Work::Asked, Said::Sent(command)) => {
                self.now.phase = Phase::Waiting;
                self.now.expected = command;
                self.act(Action::Moved(step, Moved::Asked));
                self.arm(&row);
            }
            (_, Said::Wrong(code)) => self.park(code),
            (_, Said::Skipped) => self.enter(step.saturating_add(1)),
            (_, Said::Refused) if row.kind == Kind::Forward => self.park("refused-after-pivot"),
            // It refused before anything was done or asked: the step before is the last that may have run.
            (_, Said::Refused) => self.unwind(step.checked_sub(1)),
            (Work::Local, Said::Sent(_)) | (Work::Asked, Said::Done) => self.park("broken-step"),
        }
    }

    fn arm(&mut self, row: &Row) {
        if !matches!(row.wait, Wait::No | Wait::UntilTold(_)) {
            self.act(Action::Arm(self.now.step, self.now.attempt));
        }
    }

    fn repeated(&mut self, said: Said, phase: Phase) {
        let Some(row) = self.row() else { return self.park("no-such-step") };
        match said {
            Said::Sent(command) if command == self.now.expected => {
                self.now.phase = phase;
                if phase == Phase::UndoWaiting {
                    self.act(Action::ArmUndo(self.now.step, self.now.attempt));
                } else {
                    self.arm(&row);
                }
            }
            _ => self.park("question-changed"),
        }
    }

    fn answered(&mut self, verdict: Verdict) {
        let Some(row) = self.row() else { return self.park("no-such-step") };
        match verdict {
            Verdict::Wait => {}
            Verdict::NotMine(code) => self.drop(code),
            Verdict::Wrong(code) => self.park(code),
            Verdict::Refused if row.kind == Kind::Forward => self.park("refused-after-pivot"),
            Verdict::Done => {
                self.disarm(&row);
                self.finish();
            }
            Verdict::Refused => {
                self.disarm(&row);
                self.unwind(Some(self.now.step));
            }
        }
    }

    fn disarm(&mut self, row: &Row) {
        if !matches!(row.wait, Wait::No | Wait::UntilTold(_)) {
            self.act(Action::Disarm(self.now.attempt));
        }
    }

    fn due(&mut self) {
        let Some(row) = self.row() else { return self.park("no-such-step") };
        match row.wait {
            Wait::ResendEvery(_) => {
                self.now.phase = Phase::Repeating;
                self.act(Action::Ask(self.now.step, self.now.attempt));
            }
            Wait::Within(_) | Wait::WithinPolicy(_) if row.kind == Kind::Reversible => {
                self.act(Action::TimedOut(self.now.step));
                self.unwind(Some(self.now.step));
            }
            _ => self.drop("no-deadline"),
        }
    }

    /// Takes back the last step, from `last` down, that may have run and can be taken back.
    fn unwind(&mut self, last: Option<usize>) {
        let current = self.now.step;
        self.now.expected = None;
        let next = last.and_then(|last| {
            (0..=last).rev().find(|step| {
                let begun = self.now.done & bit(*step) != 0 || (*step == current && last == current);
                begun && self.table.row(*step).is_some_and(|row| row.undo != Undo::None)
            })
        });
        match next {
            Some(step) => {
                self.now.step = step;
                self.now.phase = Phase::Undoing;
                self.now.attempt = self.now.attempt.saturating_add(1);
                self.act(Action::Undo(step, self.now.attempt));
            }
            None => {
                self.now.phase = Phase::Unwound;
                self.act(Action::Unwound);
            }
        }
    }

    fn undone(&mut self, said: Said) {
        match said {
            Said::Done | Said::Skipped => self.taken_back(),
            Said::Sent(command) => {
                self.now.phase = Phase::UndoWaiting;
                self.now.expected = command;
                self.act(Action::ArmUndo(self.now.step, self.now.attempt));
            }
            Said::Refused => self.park("undo-refused"),
            Said::Wrong(code) => self.park(code),
        }
    }

    fn undo_answered(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Done => {
                self.act(Action::Disarm(self.now.attempt));
                self.taken_back();
            }
            Verdict::Wait => {}
            Verdict::NotMine(code) => self.drop(code),
            Verdict::Refused => self.park("undo-refused"),
            Verdict::Wrong(code) => self.park(code),
        }
    }

    fn taken_back(&mut self) {
        let step = self.now.step;
        self.now.done &= !bit(step);
        self.act(Action::Moved(step, Moved::Undone));
        self.unwind(step.checked_sub(1));
    }
}
