//! Runs a saga for one input: asks the interpreter what is to be done, does it at the desk, and tells it what came of it.
//!
//! Invariant: whatever the table holds, a turn ends after a bounded number of deeds.

use custos_domain::{CommandId, SagaId};

use crate::interpret::{Action, Instance, Said, Stimulus, Verdict, interpret};
use crate::step::{Ask, Back, Content, Deed, Judged, Note, Process, Ran, Row, RunFn, Saga, Undo, Wait};

/// What a saga hears from outside.
pub enum Heard<'a, A> {
    /// Begin.
    Start,
    /// An answer to a question, or a fact that answers to none.
    Answer(Option<CommandId>, &'a A),
    /// The timer of this attempt is due.
    Due(u32),
}

/// The most deeds of one turn: every step of the largest table forward and back.
const DEEDS_MAX: usize = 128;

/// Lets the saga `id` hear something, until it waits or ends.
pub fn drive<P: Process>(
    saga: &'static Saga<P>,
    id: &SagaId,
    case: (&mut Instance, &mut P),
    desk: &mut P::Desk<'_>,
    heard: &Heard<'_, P::Answer>,
) {
    let (instance, process) = case;
    let mut next = Some(match heard {
        Heard::Start => Stimulus::Start,
        Heard::Due(attempt) => Stimulus::Due(*attempt),
        Heard::Answer(command, answer) => {
            let verdict = judge(saga, instance, process, desk, *command, answer);
            Stimulus::Answer(*command, verdict)
        }
    });
    for _ in 0..DEEDS_MAX {
        let Some(stimulus) = next.take() else { return };
        let (after, actions) = interpret(saga, instance, stimulus);
        *instance = after;
        for action in actions {
            if let Some(said) = perform(saga, id, process, desk, action) {
                next = Some(Stimulus::Said(said));
            }
        }
    }
}

fn judge<P: Process>(
    saga: &'static Saga<P>,
    instance: &Instance,
    process: &mut P,
    desk: &mut P::Desk<'_>,
    command: Option<CommandId>,
    answer: &P::Answer,
) -> Verdict {
    if !instance.awaits(command) {
        return Verdict::NotMine("stale-reply");
    }
    let Some(step) = saga.steps.get(instance.step) else { return Verdict::NotMine("no-such-step") };
    let undoing = instance.phase == crate::interpret::Phase::UndoWaiting;
    let judged = match (undoing, &step.deed, &step.back) {
        (false, Deed::Asked(_, answered), _) | (true, _, Back::Asked(_, answered)) => answered(desk, process, answer),
        _ => Judged::NotMine("not-awaited"),
    };
    match judged {
        Judged::Done => Verdict::Done,
        Judged::Wait => Verdict::Wait,
        Judged::NotMine(code) => Verdict::NotMine(code),
        Judged::Wrong(code) => Verdict::Wrong(code),
        Judged::Refused(refusal) => {
            process.record(desk, Note::Refused(refusal));
            Verdict::Refused
        }
    }
}

fn perform<P: Process>(
    saga: &'static Saga<P>,
    id: &SagaId,
    process: &mut P,
    desk: &mut P::Desk<'_>,
    action: Action,
) -> Option<Said> {
    let step = |index: usize| saga.steps.get(index);
    let name = |index: usize| step(index).map_or("", |step| step.row.name);
    let note = match action {
        Action::Run(index) => {
            return Some(match step(index)?.deed {
                Deed::Local(local) => run(local, process, desk),
                Deed::Asked(..) => Said::Wrong("broken-step"),
            });
        }
        Action::Ask(index, attempt) => {
            let step = step(index)?;
            let Deed::Asked(ask, _) = step.deed else { return Some(Said::Wrong("broken-step")) };
            return Some(send(ask(desk, process), (id, &step.row, step.row.name, attempt), process, desk));
        }
        Action::Undo(index, attempt) => {
            let step = step(index)?;
            return Some(match (step.back, step.row.undo) {
                (Back::Local(undo), _) => run(undo, process, desk),
                (Back::Asked(ask, _), Undo::Asked(name, _)) => {
                    send(ask(desk, process), (id, &step.row, name, attempt), process, desk)
                }
                _ => Said::Wrong("broken-step"),
            });
        }
        Action::Arm(index, attempt) => Note::Arm { attempt, span: span(&step(index)?.row, process, desk)? },
        Action::ArmUndo(index, attempt) => {
            let Undo::Asked(_, span) = step(index)?.row.undo else { return None };
            Note::Arm { attempt, span }
        }
        Action::Disarm(attempt) => Note::Disarm { attempt },
        Action::Moved(index, moved) => Note::Moved(name(index), moved),
        Action::TimedOut(index) => Note::TimedOut(name(index)),
        Action::Drop(code) => Note::Dropped(code),
        Action::Park(index, code) => Note::Parked { step: name(index), code },
        Action::Complete => Note::Completed,
        Action::Unwound => Note::Unwound,
    };
    process.record(desk, note);
    None
}

fn span<P: Process>(row: &Row, process: &P, desk: &P::Desk<'_>) -> Option<custos_domain::Millis> {
    match row.wait {
        Wait::Within(span) | Wait::ResendEvery(span) => Some(span),
        Wait::WithinPolicy(name) => Some(process.span(desk, name)),
        Wait::No | Wait::UntilTold(_) => None,
    }
}

fn run<P: Process>(run: RunFn<P>, process: &mut P, desk: &mut P::Desk<'_>) -> Said {
    match run(desk, process) {
        Ran::Done => Said::Done,
        Ran::Wrong(code) => Said::Wrong(code),
        Ran::Refused(refusal) => {
            process.record(desk, Note::Refused(refusal));
            Said::Refused
        }
    }
}

type Ticket<'a> = (&'a SagaId, &'static Row, &'static str, u32);

fn send<P: Process>(
    ask: Ask<P::Question, P::Refusal>,
    (id, row, name, attempt): Ticket<'_>,
    process: &mut P,
    desk: &mut P::Desk<'_>,
) -> Said {
    match ask {
        Ask::Listen => Said::Sent(None),
        Ask::NotNeeded => Said::Skipped,
        Ask::Send(question) => {
            let command = CommandId::derive(&id.to_bytes(), name, attempt, &question.digest());
            process.record(desk, Note::Send { step: row, command, question });
            Said::Sent(Some(command))
        }
        Ask::Refuse(refusal) => {
            process.record(desk, Note::Refused(refusal));
            Said::Refused
        }
    }
}
