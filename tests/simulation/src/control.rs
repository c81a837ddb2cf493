//! Negative controls: one defence is taken away, and something that must never happen has to happen within a stated number of seeds,
//! none of which shows anything while the defence is there.
//!
//! Two lines against the same thing hide each other: then the world of a control has only the first (`alone`), or both are taken away.

use custos_journal::{Defence, Faults, Rate};
use custos_runtime::shard;

use crate::diary::Telling;
use crate::ledger::Reading;
use crate::process::ProcessFaults;
use crate::profile::{Around, Profile};
use crate::run::run;
use crate::surroundings::house;
use crate::surroundings::miner::ChainFaults;
use crate::world::Interleaving;

/// A defence and the world in which it is needed.
pub struct Control {
    /// What is taken away.
    pub name: &'static str,
    /// The world with it.
    pub world: fn(u64) -> Profile,
    /// Takes it away.
    pub without: fn(&mut Profile),
    /// In so many seeds it must be missed.
    pub within: u64,
    /// When it is tried.
    pub tried: Tried,
}

/// When a control is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// In every run of the tests.
    Always,
    /// In a long run: its worlds have a chain, and take their time.
    InLongRuns,
}

/// What a control has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// In which seed.
    pub seed: u64,
    /// What happened there first.
    pub violation: String,
}

/// Every control.
pub const CONTROLS: &[Control] = &[
    Control {
        name: "the bracket alone: the outputs' acknowledgement before the manifest",
        world: alone,
        without: |profile| profile.defences = profile.defences.without(Defence::BodyAcknowledged),
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the bracket, and the renewal after a slow end",
        world: late,
        without: |profile| {
            let bracket = profile.defences.without(Defence::HeaderAcknowledged).without(Defence::BodyAcknowledged);
            profile.defences = bracket.without(Defence::RenewalAfterSlowEnd);
        },
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the repair of what is torn",
        world: alone,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::Repair),
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the brokers' verification of transactions",
        world: alone,
        without: |profile| profile.brokers.verification = false,
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "restoring from committed records only",
        world: late,
        without: |profile| profile.brokers.committed = false,
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "ending what the brokers have forgotten",
        world: forgetful,
        without: |profile| profile.defences = profile.defences.without(Defence::ForgottenEnded),
        within: 20,
        tried: Tried::Always,
    },
    Control {
        name: "asking where the log ends before its end is believed",
        world: moving,
        without: |profile| profile.defences = profile.defences.without(Defence::EndConfirmed),
        within: 20,
        tried: Tried::Always,
    },
    Control {
        name: "fencing",
        world: absent,
        without: |profile| profile.brokers.fencing = false,
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the numbers of links",
        world: crossing,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::LinkSequence),
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the numbers of events",
        world: alone,
        without: |profile| profile.reading = Reading::Trusting,
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "putting a due timer into the inbox again",
        world: unanswered,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::TimerAgain),
        within: 40,
        tried: Tried::Always,
    },
    Control {
        name: "the clamp of a shard's time",
        world: drifting,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::TimeClamp),
        within: 10,
        tried: Tried::Always,
    },
    Control {
        name: "standing still before a logic that the binary does not know",
        world: rolling,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::KnownLogic),
        within: 20,
        tried: Tried::Always,
    },
    Control {
        name: "only questions without effect leave ahead of the commit",
        world: dying,
        without: |profile| profile.shards = profile.shards.without(shard::Defence::EffectsAfterCommit),
        within: 20,
        tried: Tried::InLongRuns,
    },
    Control {
        name: "the signing guard",
        world: paying,
        without: |profile| outside(profile, house::Defence::Guard),
        within: 60,
        tried: Tried::InLongRuns,
    },
    Control {
        name: "waiting for finality",
        world: paying,
        without: |profile| outside(profile, house::Defence::FinalityWait),
        within: 20,
        tried: Tried::InLongRuns,
    },
    Control {
        name: "every node must agree",
        world: paying,
        without: |profile| outside(profile, house::Defence::AllNodesAgree),
        within: 20,
        tried: Tried::InLongRuns,
    },
];

impl Control {
    /// The first seed in which the defence is missed.
    ///
    /// # Errors
    /// A world cannot be built.
    pub fn missed(&self) -> anyhow::Result<Option<Missed>> {
        for seed in 0..self.within {
            let mut profile = (self.world)(seed);
            (self.without)(&mut profile);
            if let Some(violation) = run(&profile, Telling::Hash)?.violations.into_iter().next() {
                return Ok(Some(Missed { seed, violation }));
            }
        }
        Ok(None)
    }

    /// What happens up to this seed while the defence is there: nothing must.
    ///
    /// # Errors
    /// A world cannot be built.
    pub fn with_it(&self, last: u64) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::new();
        for seed in 0..=last {
            let violations = run(&(self.world)(seed), Telling::Hash)?.violations;
            all.extend(violations.into_iter().map(|violation| format!("seed {seed}: {violation}")));
        }
        Ok(all)
    }
}

/// Late ends and late requests, in small transactions, and owners that die.
fn late(seed: u64) -> Profile {
    let log = Faults {
        end_late: Rate(4_000),
        request_late: Rate(600),
        arrival: Rate(1_000),
        marker_late: Rate(2_000),
        ..Faults::NONE
    };
    let process = ProcessFaults { kill: 300, ..ProcessFaults::default() };
    Profile { log, process, partitions: 1, batch_records: 4, follow: false, ..Profile::calm(seed) }
}

/// The same without the renewal after a slow end: the bracket alone.
fn alone(seed: u64) -> Profile {
    let late = late(seed);
    Profile { defences: late.defences.without(Defence::RenewalAfterSlowEnd), ..late }
}

/// Brokers that forget to end transactions, and owners that die.
fn forgetful(seed: u64) -> Profile {
    let log = Faults { marker_forgotten: Rate(500), marker_late: Rate(2_000), ..Faults::NONE };
    let process = ProcessFaults { kill: 300, ..ProcessFaults::default() };
    Profile { log, process, partitions: 1, batch_records: 4, follow: false, ..Profile::calm(seed) }
}

/// Leaders of partitions that move, and owners that die.
fn moving(seed: u64) -> Profile {
    let log = Faults { leader_behind: Rate(2_000), ..Faults::NONE };
    let process = ProcessFaults { kill: 300, ..ProcessFaults::default() };
    Profile { log, process, partitions: 1, batch_records: 4, follow: false, ..Profile::calm(seed) }
}

/// Owners that sleep in the middle of what they do.
fn absent(seed: u64) -> Profile {
    let interleaving = Interleaving { turns: 10, absence: 60 };
    let process = ProcessFaults { pause: 80, ..ProcessFaults::default() };
    Profile { interleaving, process, orchestrators: 3, follow: false, ..Profile::calm(seed) }
}

/// What crosses between shards is sent again, and may arrive late.
fn crossing(seed: u64) -> Profile {
    let log = Faults { append_fails: Rate(300), arrival: Rate(300), ..Faults::NONE };
    let process = ProcessFaults { kill: 150, kill_at_point: 30, ..ProcessFaults::default() };
    let outside = Around { chain: weather(), ..Around::default() };
    Profile { log, process, outside: Some(outside), operations: 20, follow: false, ..Profile::calm(seed) }
}

/// Screeners that do not answer, and clocks that go wrong.
fn unanswered(seed: u64) -> Profile {
    let process = ProcessFaults { jump: 40, drift: 50, ..ProcessFaults::default() };
    Profile { process, unanswered: 3, follow: false, ..Profile::calm(seed) }
}

/// Brokers whose clocks differ.
fn drifting(seed: u64) -> Profile {
    let log = Faults { broker_clock: Rate(500), ..Faults::NONE };
    Profile { log, follow: false, ..Profile::calm(seed) }
}

/// A release that changes while all goes on.
fn rolling(seed: u64) -> Profile {
    Profile { rolling: true, follow: false, ..Profile::calm(seed) }
}

/// A bank that pays out, and owners that die before they commit.
fn dying(seed: u64) -> Profile {
    let process = ProcessFaults { kill_at_point: 6, ..ProcessFaults::default() };
    Profile { process, outside: Some(Around::default()), ..paying(seed) }
}

/// A bank that pays out, a chain with its weather, somebody inside, and owners that die.
fn paying(seed: u64) -> Profile {
    let process = ProcessFaults { kill_at_point: 60, ..ProcessFaults::default() };
    let outside = Around { chain: weather(), forged: 2, ..Around::default() };
    Profile { process, outside: Some(outside), operations: 20, follow: false, ..Profile::calm(seed) }
}

fn weather() -> ChainFaults {
    ChainFaults { reorganisation: 6, private: 12, spike: 30, lost: 20, ..ChainFaults::default() }
}

fn outside(profile: &mut Profile, defence: house::Defence) {
    profile.outside = profile.outside.map(|outside| Around { without: Some(defence), ..outside });
}
