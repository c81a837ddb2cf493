//! Officers: they approve, mostly; late, twice, and against each other.

use std::collections::BTreeMap;
use std::time::Duration;

use custos_domain::OfficerId;
use custos_messages::accounts::{AccountsInput, Decision, Verdict};
use custos_messages::{Mail, Source};
use custos_policy::sign_decision;
use custos_testkit::{OFFICERS, officer_key};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::facts::{Asked, SharedFacts};
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;

const LOOK: Duration = Duration::from_secs(1);
/// An officer takes this long at most, but for the one who comes too late.
const SOON_S: u64 = 600;
/// Later than an approval is awaited.
const LATE_S: u64 = 70 * 60;

/// The officers of the bank.
pub struct Officers {
    facts: SharedFacts,
    diary: Diary,
    clock: WorldClock,
    log: Outside,
    chance: Chance,
    heard: usize,
    /// What will be said, and when; the number keeps the order of equals.
    diary_of: BTreeMap<(Duration, u64), (Asked, &'static str, Verdict)>,
    planned: u64,
}

impl Officers {
    /// Officers who know the facts.
    #[must_use]
    pub fn new(facts: SharedFacts, diary: Diary, clock: WorldClock, log: Outside, chance: Chance) -> Self {
        Self { facts, diary, clock, log, chance, heard: 0, diary_of: BTreeMap::new(), planned: 0 }
    }

    fn plan(&mut self, at: Duration, asked: Asked, officer: &'static str, verdict: Verdict) {
        self.planned = self.planned.saturating_add(1);
        self.diary_of.insert((at, self.planned), (asked, officer, verdict));
    }

    fn consider(&mut self, asked: Asked) {
        let now = self.clock.now();
        for officer in OFFICERS {
            let soon = now.saturating_add(Duration::from_secs(self.chance.below(SOON_S)));
            let verdict = if self.chance.once_in(15) { Verdict::Reject } else { Verdict::Approve };
            match self.chance.below(12) {
                0 => {
                    self.diary.sometimes("an officer decides too late");
                    self.plan(now.saturating_add(Duration::from_secs(LATE_S)), asked, officer, verdict);
                }
                1 => {
                    self.diary.sometimes("an officer decides twice");
                    self.plan(soon, asked, officer, verdict);
                    self.plan(soon, asked, officer, verdict);
                }
                2 => {
                    self.diary.sometimes("an officer contradicts himself");
                    self.plan(soon, asked, officer, Verdict::Approve);
                    self.plan(soon, asked, officer, Verdict::Reject);
                }
                _ => self.plan(soon, asked, officer, verdict),
            }
        }
    }

    fn say(&mut self, asked: Asked, officer: &'static str, verdict: Verdict) -> bool {
        let Ok(name) = OfficerId::new(officer) else { return true };
        let signature = sign_decision(&officer_key(officer), verdict, &asked.digest);
        let decision = Decision { saga: asked.saga, officer: name, verdict, intent: asked.digest, signature };
        self.diary.note(officer, format_args!("{verdict:?} of {}", asked.saga));
        self.log.say(Source::Gateway, &Mail::Accounts(AccountsInput::Decide(decision)), None)
    }
}

impl Actor for Officers {
    fn name(&self) -> &str {
        "officers"
    }

    fn step(&mut self) -> Step {
        let fresh: Vec<Asked> = self.facts.lock().approvals.get(self.heard..).unwrap_or_default().to_vec();
        self.heard = self.heard.saturating_add(fresh.len());
        for asked in fresh {
            self.consider(asked);
        }
        let now = self.clock.now();
        let due = self.diary_of.first_key_value().map(|(when, _)| *when).filter(|(at, _)| *at <= now);
        let Some((at, number)) = due else { return Step::Idle(LOOK) };
        if let Some((asked, officer, verdict)) = self.diary_of.remove(&(at, number))
            && !self.say(asked, officer, verdict)
        {
            // Not known whether it arrived: an officer says it again.
            self.plan(now.saturating_add(LOOK), asked, officer, verdict);
        }
        Step::Busy
    }
}
