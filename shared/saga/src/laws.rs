//! The laws of sagas, proved for a table by visiting every instance that can be reached, with every input in each.
//!
//! The laws: a saga ends only completed, unwound or parked, and can end from wherever it stands; unwinding takes back each step
//! that was begun and has an effect, exactly once, in reverse order; nothing is taken back once the pivot is passed; an ended
//! saga does nothing more; a question sent again is the same question; the same input on the same state gives the same result;
//! an answer or timer delivered again changes nothing.

use std::collections::BTreeMap;

use custos_domain::{CommandId, Digest};

use crate::interpret::{Action, Instance, Phase, Said, Stimulus, Verdict, interpret};
use crate::step::{Kind, Shape, Undo, Work};

/// What was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Distinct states of instance and world.
    pub states: usize,
    /// Pairs of state and input.
    pub pairs: usize,
    /// States that went all the way.
    pub completed: usize,
    /// States that took everything back.
    pub unwound: usize,
    /// States that wait for a human.
    pub parked: usize,
}

/// A broken law, with the inputs that break it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{law}: after {trail:?}")]
pub struct Violation {
    /// The law.
    pub law: &'static str,
    /// The inputs from the start.
    pub trail: Vec<String>,
}

/// States are few (hundreds); far more means that a table or the interpreter does not settle.
const STATES_MAX: usize = 200_000;

/// What the world saw of a saga: the other half of an explored state.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// Steps that were begun and leave something in the world, in order.
    begun: Vec<usize>,
    /// Steps that were taken back, in order.
    undone: Vec<usize>,
    pivot_passed: bool,
    /// The last question: its attempt and identity.
    question: Option<(u32, CommandId)>,
}

type State = (Instance, World);

struct Explorer<'a> {
    table: &'a dyn Shape,
    seen: BTreeMap<State, usize>,
    /// For each state: where it came from, and by what.
    origins: Vec<(usize, Option<Stimulus>)>,
    /// For each state: where it leads.
    edges: Vec<(usize, usize)>,
    census: Census,
}

/// Visits everything that `table` can do.
///
/// # Errors
/// The first law that is broken, with the way there.
pub fn prove(table: &dyn Shape) -> Result<Census, Violation> {
    let mut explorer =
        Explorer { table, seen: BTreeMap::new(), origins: Vec::new(), edges: Vec::new(), census: Census::default() };
    let start = (Instance::default(), World::default());
    explorer.seen.insert(start.clone(), 0);
    explorer.origins.push((0, None));
    let mut frontier = vec![(0, start)];
    while let Some((at, state)) = frontier.pop() {
        explorer.count(&state.0);
        for stimulus in explorer.inputs(&state) {
            explorer.census.pairs = explorer.census.pairs.saturating_add(1);
            let next = explorer.step(at, &state, stimulus)?;
            let index = match explorer.seen.get(&next) {
                Some(index) => *index,
                None => {
                    let index = explorer.origins.len();
                    if index > STATES_MAX {
                        return Err(explorer.broken("a saga settles", at, stimulus));
                    }
                    explorer.seen.insert(next.clone(), index);
                    explorer.origins.push((at, Some(stimulus)));
                    frontier.push((index, next));
                    index
                }
            };
            explorer.edges.push((at, index));
        }
    }
    explorer.census.states = explorer.origins.len();
    explorer.every_state_can_end()?;
    Ok(explorer.census)
}

impl Explorer<'_> {
    fn count(&mut self, instance: &Instance) {
        let tally = match instance.phase {
            Phase::Completed => &mut self.census.completed,
            Phase::Unwound => &mut self.census.unwound,
            Phase::Parked => &mut self.census.parked,
            _ => return,
        };
        *tally = tally.saturating_add(1);
    }

    /// Every input that this state can get: whatever its deed can say, or whatever can arrive from outside.
    fn inputs(&self, (instance, world): &State) -> Vec<Stimulus> {
        let row = self.table.row(instance.step);
        let id = self.command(instance);
        match instance.phase {
            Phase::Entering => match row.map(|row| row.work) {
                Some(Work::Local) => [Said::Done, Said::Refused, Said::Wrong("fault")].map(Stimulus::Said).to_vec(),
                _ => [Said::Sent(Some(id)), Said::Sent(None), Said::Skipped, Said::Refused].map(Stimulus::Said).to_vec(),
            },
            Phase::Repeating => vec![Stimulus::Said(Said::Sent(world.question.map(|(_, id)| id)))],
            Phase::UndoRepeating => vec![Stimulus::Said(Said::Sent(Some(id)))],
            Phase::Undoing => match row.map(|row| row.undo) {
                Some(Undo::Asked(..)) => vec![Stimulus::Said(Said::Sent(Some(id)))],
                _ => [Said::Done, Said::Wrong("fault")].map(Stimulus::Said).to_vec(),
            },
            _ => {
                let verdicts = [
                    Verdict::Done,
                    Verdict::Refused,
                    Verdict::Wait,
                    Verdict::NotMine("not-awaited"),
                    Verdict::Wrong("wrong-answer"),
                ];
                let commands = [instance.expected, None, Some(CommandId([0xff; 32]))];
                let mut all = vec![Stimulus::Start];
                all.extend((0..=instance.attempt.saturating_add(1)).map(Stimulus::Due));
                all.extend(commands.iter().flat_map(|command| verdicts.map(|verdict| Stimulus::Answer(*command, verdict))));
                all
            }
        }
    }

    /// The identity of a question whose content depends on step and direction alone, as it does in a deterministic machine.
    fn command(&self, instance: &Instance) -> CommandId {
        let undo = matches!(instance.phase, Phase::Undoing | Phase::UndoWaiting | Phase::UndoRepeating);
        let name = self.table.row(instance.step).map_or("", |row| row.name);
        CommandId::derive(if undo { b"undo" } else { b"do" }, name, instance.attempt, &Digest::of(b"content"))
    }

    fn step(&self, at: usize, state: &State, stimulus: Stimulus) -> Result<State, Violation> {
        let broken = |law| self.broken(law, at, stimulus);
        let (before, world) = state;
        let (after, actions) = interpret(self.table, before, stimulus);
        if interpret(self.table, before, stimulus) != (after.clone(), actions.clone()) {
            return Err(broken("the same input on the same state gives the same result"));
        }
        if before.ended() && (after != *before || !matches!(actions.as_slice(), [Action::Drop(_)])) {
            return Err(broken("an ended saga does nothing more"));
        }
        let deeds = actions.iter().filter(|a| matches!(a, Action::Run(_) | Action::Ask(..) | Action::Undo(..))).count();
        if deeds > 1 || (deeds == 0 && matches!(after.phase, Phase::Entering | Phase::Repeating | Phase::Undoing)) {
            return Err(broken("an input orders at most one deed, and a deed's word is waited for"));
        }
        let mut world = world.clone();
        self.witness(&mut world, before, stimulus);
        for action in &actions {
            self.permit(&world, before, &after, *action).map_err(broken)?;
        }
        if after.phase == Phase::Unwound && before.phase != Phase::Unwound {
            let mut expected = world.begun.clone();
            expected.reverse();
            if expected != world.undone {
                return Err(broken("unwinding takes back what was begun, each step once, in reverse order"));
            }
        }
        let next = (after, world);
        self.delivered_again(&next, stimulus).map_err(broken)?;
        Ok(next)
    }

    /// What the world sees when this stimulus is heard.
    fn witness(&self, world: &mut World, before: &Instance, stimulus: Stimulus) {
        let Some(row) = self.table.row(before.step) else { return };
        let effect = row.has_effect();
        match (before.phase, stimulus) {
            (Phase::Entering, Stimulus::Said(Said::Done)) => {
                if effect {
                    world.begun.push(before.step);
                }
                world.pivot_passed |= row.kind == Kind::Pivot;
            }
            (Phase::Entering, Stimulus::Said(Said::Sent(command))) => {
                if effect {
                    world.begun.push(before.step);
                }
                world.question = command.map(|command| (before.attempt, command));
            }
            (Phase::Waiting, Stimulus::Answer(command, verdict)) if before.awaits(command) => match verdict {
                Verdict::Done => world.pivot_passed |= row.kind == Kind::Pivot,
                // Only the pivot's no is definite; another question may have been acted upon before it was refused.
                Verdict::Refused if row.kind == Kind::Pivot => world.begun.retain(|step| *step != before.step),
                _ => {}
            },
            (Phase::Undoing, Stimulus::Said(Said::Done)) if effect => world.undone.push(before.step),
            (Phase::UndoWaiting, Stimulus::Answer(command, Verdict::Done)) if effect && before.awaits(command) => {
                world.undone.push(before.step);
            }
            _ => {}
        }
    }

    fn permit(&self, world: &World, before: &Instance, after: &Instance, action: Action) -> Result<(), &'static str> {
        match action {
            Action::Undo(..) | Action::Unwound if world.pivot_passed => {
                Err("nothing is taken back once the pivot is passed")
            }
            Action::Ask(_, attempt) if after.phase == Phase::Repeating && attempt != before.attempt => {
                Err("a question sent again keeps its attempt")
            }
            Action::Ask(..) if after.phase == Phase::Repeating && after.expected != before.expected => {
                Err("a question sent again keeps its identity")
            }
            Action::Park(_, "question-changed") => Err("a question sent again is the same question"),
            Action::Park(_, "no-such-step" | "broken-step") | Action::Drop("out-of-order") => Err("no state is unforeseen"),
            Action::Complete if self.table.no_pivot().is_none() && !world.pivot_passed && self.pivot_is_local() => {
                Err("a saga completes only through its pivot")
            }
            _ => Ok(()),
        }
    }

    fn pivot_is_local(&self) -> bool {
        (0..self.table.len())
            .filter_map(|at| self.table.row(at))
            .any(|row| row.kind == Kind::Pivot && row.work == Work::Local)
    }

    /// An answer to a question, or a timer, that moved the saga is of no use when it comes a second time.
    fn delivered_again(&self, (after, _): &State, stimulus: Stimulus) -> Result<(), &'static str> {
        let moved_on = match stimulus {
            Stimulus::Answer(Some(command), Verdict::Done | Verdict::Refused) => after.expected != Some(command),
            Stimulus::Due(attempt) => after.attempt != attempt,
            Stimulus::Start => true,
            _ => false,
        };
        if !moved_on || !matches!(after.phase, Phase::Waiting | Phase::UndoWaiting) {
            return Ok(());
        }
        let (again, actions) = interpret(self.table, after, stimulus);
        if again == *after && matches!(actions.as_slice(), [Action::Drop(_)]) {
            Ok(())
        } else {
            Err("an input delivered again changes nothing")
        }
    }

    /// Walks backwards from the ended states: whatever is not met can never end.
    fn every_state_can_end(&self) -> Result<(), Violation> {
        let mut back: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, to) in &self.edges {
            back.entry(*to).or_default().push(*from);
        }
        let mut ends: Vec<bool> = vec![false; self.origins.len()];
        let mut frontier: Vec<usize> = self.seen.iter().filter(|((i, _), _)| i.ended()).map(|(_, at)| *at).collect();
        while let Some(at) = frontier.pop() {
            match ends.get_mut(at) {
                Some(met) if !*met => *met = true,
                _ => continue,
            }
            frontier.extend(back.get(&at).into_iter().flatten().copied());
        }
        match ends.iter().position(|met| !met) {
            Some(at) => Err(Violation { law: "every saga can end", trail: self.trail(at) }),
            None => Ok(()),
        }
    }

    fn broken(&self, law: &'static str, at: usize, stimulus: Stimulus) -> Violation {
        let mut trail = self.trail(at);
        trail.push(format!("{stimulus:?}"));
        Violation { law, trail }
    }

    fn trail(&self, mut at: usize) -> Vec<String> {
        let mut trail = Vec::new();
        while let Some((from, Some(stimulus))) = self.origins.get(at) {
            trail.push(format!("{stimulus:?}"));
            at = *from;
        }
        trail.reverse();
        trail
    }
}
