//! What is printed about kills: two tables and the takeovers. Columns are parts, `.` is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::ensure;

use crate::fleet::Kill;
use crate::history::{History, PLACES};
use crate::moment::Moment;

/// Kills by part and by where operations stood.
pub struct Report<'k> {
    kills: &'k [Kill],
    parts: Vec<&'static str>,
    /// Kills and operations, by place and part.
    standing: BTreeMap<(usize, &'static str), (u32, u32)>,
}

impl<'k> Report<'k> {
    /// Looks up each kill in the history.
    pub fn of(kills: &'k [Kill], history: &History) -> Self {
        let mut standing: BTreeMap<(usize, &'static str), (u32, u32)> = BTreeMap::new();
        for kill in kills {
            for (place, operations) in history.at(kill.at_ms) {
                let (killed, stood) = standing.entry((place, kill.part)).or_default();
                (*killed, *stood) = (*killed + 1, *stood + operations);
            }
        }
        let parts: BTreeSet<&'static str> = kills.iter().map(|kill| kill.part).collect();
        Self { kills, parts: parts.into_iter().collect(), standing }
    }

    /// How many kills there were while an operation stood at a place that begins so.
    fn killed_while(&self, kind: &str, step: &str) -> u32 {
        let here = |place: usize| PLACES.get(place).is_some_and(|place| place.0 == kind && place.1.starts_with(step));
        self.standing.iter().filter(|((place, _), _)| here(*place)).map(|(_, (kills, _))| kills).sum()
    }

    /// Late steps must have been hit as well as early ones.
    pub fn covers_late_steps(&self) -> anyhow::Result<()> {
        for (kind, step) in
            [("withdrawal", "approve"), ("withdrawal", "await-finality: in a block"), ("deposit", "await-finality")]
        {
            ensure!(self.killed_while(kind, step) > 0, "nothing was killed while a {kind} stood at {step}");
        }
        Ok(())
    }

    /// The tables.
    pub fn tables(&self) -> String {
        let mut text = String::from("kills by the last committed step of each operation under way (kills/operations):\n");
        self.head(&mut text);
        for (index, (kind, step)) in PLACES.iter().enumerate() {
            let cell = |part: &&'static str| match self.standing.get(&(index, *part)) {
                Some((kills, operations)) => format!("{kills}/{operations}"),
                None => ".".to_owned(),
            };
            self.row(&mut text, &format!("{kind} {step}"), self.parts.iter().map(cell));
        }
        text.push_str("kills by their moment:\n");
        self.head(&mut text);
        let moments: BTreeSet<&Moment> = self.kills.iter().map(|kill| &kill.moment).collect();
        for moment in moments {
            let counts = self.parts.iter().map(|part| self.count(|kill| kill.part == *part && kill.moment == *moment));
            self.row(&mut text, &moment.name(), counts);
        }
        let all = self.parts.iter().map(|part| self.count(|kill| kill.part == *part));
        self.row(&mut text, "all", all);
        text
    }

    fn count(&self, wanted: impl Fn(&Kill) -> bool) -> String {
        match self.kills.iter().filter(|kill| wanted(kill)).count() {
            0 => ".".to_owned(),
            some => some.to_string(),
        }
    }

    fn head(&self, text: &mut String) {
        self.row(text, "", self.parts.iter().map(|part| (*part).to_owned()));
    }

    fn row(&self, text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
        // Writing into a text does not fail.
        let _ = write!(text, "  {name:<42}");
        for cell in cells {
            let _ = write!(text, " {cell:>11}");
        }
        text.push('\n');
    }
}
