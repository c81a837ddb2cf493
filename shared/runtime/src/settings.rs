//! Configuration is parsed once into types; every problem is reported, all together, before any port opens.

use std::fmt;

/// Everything that is wrong with a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes that the setting at `path` has a `problem`.
    pub fn add(&mut self, path: &str, problem: impl fmt::Display) {
        self.0.push(format!("{path}: {problem}"));
    }

    /// Notes the error of `result` under `path`, or gives its value.
    pub fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|problem| self.add(path, problem)).ok()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line each.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}
