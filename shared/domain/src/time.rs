//! Time as the log tells it: milliseconds of the Unix epoch, and spans of milliseconds.

use std::fmt;

/// A moment in milliseconds since the Unix epoch, taken from a log record and never from the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Timestamp {
    /// This moment moved forward by `span`; stays at the last representable moment on overflow.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    #[must_use]
    pub const fn minutes(n: u64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// A span of whole hours.
    #[must_use]
    pub const fn hours(n: u64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        if n >= 3_600_000 && n.is_multiple_of(3_600_000) {
            write!(f, "{} h", n / 3_600_000)
        } else if n >= 60_000 && n.is_multiple_of(60_000) {
            write!(f, "{} min", n / 60_000)
        } else if n >= 1_000 && n.is_multiple_of(1_000) {
            write!(f, "{} s", n / 1_000)
        } else {
            write!(f, "{n} ms")
        }
    }
}
