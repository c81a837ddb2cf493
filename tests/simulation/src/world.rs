//! The world: everybody who acts, and who acts when.
//!
//! One actor acts at a time; in the middle of its requests to the log others may, which is how a process is superseded, or sleeps while
//! the world goes on. Virtual time moves when nobody has anything to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use custos_journal::SimulatedCluster;

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;

/// A seat of the world, as its owner sees it: clones of the handle are the same actor.
pub struct Seat<A: ?Sized> {
    actor: Arc<Mutex<A>>,
}

impl<A: ?Sized> Clone for Seat<A> {
    fn clone(&self) -> Self {
        Self { actor: Arc::clone(&self.actor) }
    }
}

impl<A> Seat<A> {
    /// Seats an actor.
    pub fn new(actor: A) -> Self {
        Self { actor: Arc::new(Mutex::new(actor)) }
    }
}

impl<A: ?Sized> Seat<A> {
    /// The actor, when it is not acting.
    pub fn lock(&self) -> MutexGuard<'_, A> {
        self.actor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much others act in the middle of a request, once in so many requests; never if zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interleaving {
    /// Somebody else has a few turns.
    pub turns: u64,
    /// The one who asks sleeps, up to twenty seconds, while the world goes on.
    pub absence: u64,
}

/// The longest absence.
const ABSENCE_MS: u64 = 20_000;
/// Turns of others in the middle of a request, at most.
const TURNS: u64 = 6;
/// Turns during one absence, at most: a bound, so that two who wake each other come to an end.
const ABSENCE_TURNS: u64 = 2_000;

/// Everybody who acts.
pub struct World {
    cluster: Arc<SimulatedCluster>,
    hall: Arc<Hall>,
}

struct Hall {
    /// Taken whole at each turn, while others are seated or take theirs.
    seats: Mutex<Arc<Vec<Place>>>,
    state: Mutex<State>,
    diary: Diary,
}

#[derive(Clone)]
struct Place {
    actor: Arc<Mutex<dyn Actor>>,
    /// When it has something to do next, and how much had happened when it said so.
    due: Arc<Mutex<(Duration, u64)>>,
}

struct State {
    chance: Chance,
    interleaving: Interleaving,
    /// How often somebody has done something.
    changes: u64,
    turns: u64,
}

impl World {
    /// A world without anybody.
    #[must_use]
    pub fn new(cluster: Arc<SimulatedCluster>, diary: Diary, chance: Chance, interleaving: Interleaving) -> Self {
        let state = Mutex::new(State { chance, interleaving, changes: 0, turns: 0 });
        let hall = Arc::new(Hall { seats: Mutex::default(), state, diary });
        let (inside, weak) = (Arc::downgrade(&hall), Arc::downgrade(&cluster));
        if interleaving != Interleaving::default() {
            cluster.at_each_request(move |_| {
                if let (Some(hall), Some(cluster)) = (inside.upgrade(), weak.upgrade()) {
                    hall.interrupt(&cluster);
                }
            });
        }
        Self { cluster, hall }
    }

    /// Seats somebody, and gives the way to them back.
    pub fn seat<A: Actor + 'static>(&self, actor: A) -> Seat<A> {
        let seat = Seat::new(actor);
        let place = Place { actor: Arc::<Mutex<A>>::clone(&seat.actor), due: Arc::default() };
        Arc::make_mut(&mut *lock(&self.hall.seats)).push(place);
        seat
    }

    /// From now on nobody interrupts anybody, and the log is as it should be.
    pub fn heal(&self) {
        lock(&self.hall.state).interleaving = Interleaving::default();
        self.cluster.heal();
    }

    /// Turns so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        lock(&self.hall.state).turns
    }

    /// Goes on until `over`, asked now and then, or until this much virtual time or so many turns have passed; whether it was over.
    pub fn run(&self, (span, turns): (Duration, u64), mut over: impl FnMut() -> bool) -> bool {
        let until = self.cluster.now().saturating_add(span);
        for turn in 0..turns {
            if turn % 64 == 0 && over() {
                return true;
            }
            if self.cluster.now() >= until {
                return over();
            }
            self.hall.next(&self.cluster, until);
        }
        over()
    }
}

impl Hall {
    /// Somebody's turn, or time passes up to the next. Who is in the middle of a turn is not chosen.
    fn next(&self, cluster: &SimulatedCluster, until: Duration) {
        let seats = Arc::clone(&lock(&self.seats));
        let now = cluster.now();
        let changes = lock(&self.state).changes;
        let mut ready = Vec::new();
        let mut first = until;
        for place in seats.iter() {
            let (due, seen) = *lock(&place.due);
            if matches!(place.actor.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            if due <= now || seen < changes {
                ready.push(place);
            } else {
                first = first.min(due);
            }
        }
        if ready.is_empty() {
            cluster.pass(first.saturating_sub(now).max(Duration::from_millis(1)));
            return;
        }
        let drawn = lock(&self.state).chance.place(ready.len());
        if let Some(place) = ready.get(drawn) {
            self.turn(cluster, place);
        }
    }

    /// One turn of somebody who is not in the middle of one.
    fn turn(&self, cluster: &SimulatedCluster, place: &Place) {
        let mut actor = match place.actor.try_lock() {
            Ok(actor) => actor,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let step = actor.step();
        drop(actor);
        let now = cluster.now();
        let mut state = lock(&self.state);
        state.turns = state.turns.saturating_add(1);
        let due = match step {
            Step::Busy | Step::Dead => {
                state.changes = state.changes.saturating_add(1);
                now
            }
            Step::Idle(span) => now.saturating_add(span.max(Duration::from_millis(1))),
        };
        *lock(&place.due) = (due, state.changes);
    }

    /// In the middle of somebody's request.
    fn interrupt(&self, cluster: &SimulatedCluster) {
        let (turns, absence) = {
            let mut state = lock(&self.state);
            let Interleaving { turns, absence } = state.interleaving;
            let turns = if state.chance.once_in(turns) { state.chance.between(1, TURNS) } else { 0 };
            let absence = if state.chance.once_in(absence) { state.chance.between(1, ABSENCE_MS) } else { 0 };
            (turns, absence)
        };
        if turns > 0 {
            self.diary.sometimes("others act in the middle of a request");
            let seats = Arc::clone(&lock(&self.seats));
            for _ in 0..turns {
                let drawn = lock(&self.state).chance.place(seats.len());
                if let Some(place) = seats.get(drawn) {
                    self.turn(cluster, place);
                }
            }
        }
        if absence > 0 {
            self.diary.note("world", format_args!("somebody is away for {absence} ms in the middle of a request"));
            self.diary.sometimes("a process sleeps in the middle of a request");
            let until = cluster.now().saturating_add(Duration::from_millis(absence));
            for _ in 0..ABSENCE_TURNS {
                if cluster.now() >= until {
                    return;
                }
                self.next(cluster, until);
            }
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
