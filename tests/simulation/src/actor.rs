//! What acts in the world.

use std::time::Duration;

/// Something in the world that acts when it is its turn. It can be sent because it may be given its turn in the middle of another
/// actor's request to the log; there is only one thread.
pub trait Actor: Send {
    /// Its name in the story.
    fn name(&self) -> &str;
    /// One bounded piece of work; never waits.
    fn step(&mut self) -> Step;
}

/// What an actor says after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more to do at once.
    Busy,
    /// Nothing to do until this much virtual time has passed, or something changes.
    Idle(Duration),
    /// The process is dead; the world starts it again.
    Dead,
}
