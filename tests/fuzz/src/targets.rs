//! The targets, one file each.

mod checkpoint;
mod config;
mod envelope;
mod estimate;
mod follower;
mod journal;
mod list;
mod mark;
mod message;
mod node;
mod policy;
mod rest;
mod state;
mod words;

/// Something that reads bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder in the corpus.
    pub name: &'static str,
    /// Inputs to begin with: well formed, and one of each kind.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input; panics if the product does what it must not.
    pub run: fn(&[u8]),
    /// Texts that mean something there.
    pub words: &'static [&'static str],
    /// Mutations of the short run: a few seconds' worth.
    pub mutations: usize,
}

/// All targets.
pub const ALL: [Target; 13] = [
    words::TARGET,
    envelope::TARGET,
    message::TARGET,
    state::TARGET,
    checkpoint::TARGET,
    journal::TARGET,
    list::TARGET,
    config::TARGET,
    policy::TARGET,
    mark::TARGET,
    estimate::TARGET,
    follower::TARGET,
    rest::TARGET,
];

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    ALL.into_iter().find(|target| target.name == name)
}
