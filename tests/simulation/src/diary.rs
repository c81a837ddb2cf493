//! The world's diary: what happened (hashed, and on demand as a story), which interesting cases were met, and what must never happen
//! and did.
//!
//! Invariant: what is noted is decided by the seed alone: no address in memory, no clock of the host, no order of a hash map.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::time::WorldClock;

/// Everybody writes into the same one: clones are the same diary.
#[derive(Clone)]
pub struct Diary {
    clock: WorldClock,
    pages: Arc<Mutex<Pages>>,
}

struct Pages {
    hasher: blake3::Hasher,
    line: String,
    story: Option<Vec<String>>,
    cases: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

/// Whether what happens is kept as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Only its hash.
    Hash,
    /// All of it.
    Story,
}

impl Diary {
    /// An empty one.
    #[must_use]
    pub fn new(clock: WorldClock, telling: Telling) -> Self {
        let story = (telling == Telling::Story).then(Vec::new);
        let (line, cases, violations) = (String::new(), BTreeMap::new(), Vec::new());
        Self { clock, pages: Arc::new(Mutex::new(Pages { hasher: blake3::Hasher::new(), line, story, cases, violations })) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what somebody did.
    pub fn note(&self, who: &str, what: Arguments<'_>) {
        let at = self.clock.now().as_millis();
        let mut pages = self.pages();
        let pages = &mut *pages;
        pages.line.clear();
        // Writing into a string does not fail.
        if write!(pages.line, "{at:>10} {who}: {what}").is_ok() {
            pages.hasher.update(pages.line.as_bytes());
            pages.hasher.update(b"\n");
            if let Some(story) = &mut pages.story {
                story.push(pages.line.clone());
            }
        }
    }

    /// An interesting case was met. The names are those of the catalogue.
    pub fn sometimes(&self, case: &'static str) {
        let mut pages = self.pages();
        let met = pages.cases.entry(case).or_default();
        *met = met.saturating_add(1);
    }

    /// Something happened that must never happen.
    pub fn violation(&self, what: String) {
        self.note("VIOLATION", format_args!("{what}"));
        self.pages().violations.push(what);
    }

    /// Notes a violation unless `holds`.
    pub fn always(&self, holds: Holds, what: impl FnOnce() -> String) {
        if holds == Holds::No {
            self.violation(what());
        }
    }

    /// What must never happen and did.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.pages().violations.clone()
    }

    /// How often each case was met.
    #[must_use]
    pub fn cases(&self) -> BTreeMap<&'static str, u64> {
        self.pages().cases.clone()
    }

    /// A hash over everything that was noted.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.pages().hasher.finalize().as_bytes()
    }

    /// Everything that was noted; empty unless it was to be kept.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.pages().story.clone().unwrap_or_default()
    }
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
