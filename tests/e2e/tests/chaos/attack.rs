//! What is done to the product, one thing after another, in an order and at moments that are drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use custos_e2e::{Brokers, Chance, LANES, Link, Part, World};

use crate::crew::Crew;
use crate::say;

/// Between two attacks, in milliseconds.
const PAUSE_MS: u64 = 2_500;
/// Longer than a session of the log's groups (6 s) and than an open transaction may last (10 s).
const FROZEN: Duration = Duration::from_secs(11);
const FROZEN_MORE_MS: u64 = 4_000;
/// How long what was killed may stay away, in milliseconds.
const AWAY_MS: u64 = 8_000;
/// A storm kills a part's processes so often, with so long between.
const STORM: u32 = 4;
const LULL: Duration = Duration::from_millis(700);

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    /// Some processes are killed at once.
    Kill,
    /// A process hangs for longer than sessions and transactions last, and goes on.
    Freeze,
    /// Between some processes and all brokers nothing arrives any more, for a while.
    Silence,
    /// The connections between some processes and all brokers break, for a while.
    Break,
    /// A broker is killed and comes back.
    Broker,
    /// A part's processes are killed again and again.
    Storm,
    /// A part's processes are stopped and started one after another.
    Roll,
}

impl Attack {
    /// Every kind, as often as it is drawn.
    const DRAWN: [Self; 10] = [
        Self::Kill,
        Self::Kill,
        Self::Kill,
        Self::Freeze,
        Self::Freeze,
        Self::Silence,
        Self::Break,
        Self::Broker,
        Self::Storm,
        Self::Roll,
    ];
    /// What comes first, so that even a short run has met every kind.
    const FIRST: [Self; 7] = [Self::Freeze, Self::Kill, Self::Broker, Self::Silence, Self::Storm, Self::Break, Self::Roll];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "processes killed",
            Self::Freeze => "a process frozen",
            Self::Silence => "network silent",
            Self::Break => "network broken",
            Self::Broker => "a broker killed",
            Self::Storm => "a restart storm",
            Self::Roll => "a part rolled",
        }
    }
}

/// Those who attack.
pub struct Attackers {
    chance: Chance,
    done: BTreeMap<Attack, u32>,
    brokers: usize,
    brokers_killed: u32,
}

impl Attackers {
    /// They draw from `chance`.
    pub const fn new(chance: Chance, brokers: usize) -> Self {
        Self { chance, done: BTreeMap::new(), brokers, brokers_killed: 0 }
    }

    /// One attack after another until then.
    pub async fn attack(
        &mut self,
        world: &World,
        crew: &mut Crew,
        brokers: &mut Brokers,
        until: Instant,
    ) -> anyhow::Result<()> {
        let mut first = Attack::FIRST.into_iter();
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(self.chance.below(PAUSE_MS))).await;
            let Some(attack) = first.next().or_else(|| self.chance.of(&Attack::DRAWN)) else { continue };
            self.perform(attack, world, crew, brokers).await?;
            crew.keep_up(world).await?;
            *self.done.entry(attack).or_default() += 1;
            let left = until.saturating_duration_since(Instant::now());
            say(&format!("chaos: {}; {left:.0?} left", attack.name()));
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        attack: Attack,
        world: &World,
        crew: &mut Crew,
        brokers: &mut Brokers,
    ) -> anyhow::Result<()> {
        match attack {
            Attack::Kill => {
                let most = 1 + self.chance.below(4);
                let chosen: Vec<usize> = (0..most).map(|_| self.place(crew)).collect();
                crew.kill(&chosen).await?;
                if self.chance.percent(30) {
                    self.while_away().await;
                }
            }
            Attack::Freeze => {
                let chosen = [self.place(crew)];
                crew.freeze(&chosen);
                tokio::time::sleep(FROZEN + Duration::from_millis(self.chance.below(FROZEN_MORE_MS))).await;
                crew.thaw(&chosen);
            }
            Attack::Silence | Attack::Break => {
                let lane = usize::try_from(self.chance.below(u64::try_from(LANES)?))?;
                brokers.link(lane, if attack == Attack::Silence { Link::Silent } else { Link::Broken });
                self.while_away().await;
                brokers.link(lane, Link::Up);
            }
            Attack::Broker => {
                let broker = usize::try_from(self.chance.below(u64::try_from(self.brokers)?))?;
                brokers.kill(broker).await?;
                self.brokers_killed += 1;
                if self.brokers > 1 {
                    self.while_away().await;
                }
                brokers.start_again(broker).await?;
            }
            Attack::Storm => {
                let places = crew.of(self.part());
                for _ in 0..STORM {
                    crew.kill(&places).await?;
                    crew.keep_up(world).await?;
                    tokio::time::sleep(LULL).await;
                }
            }
            Attack::Roll => {
                for place in crew.of(self.part()) {
                    crew.roll(world, place).await?;
                }
            }
        }
        Ok(())
    }

    /// Everything is given back.
    pub async fn heal(&mut self, world: &World, crew: &mut Crew, brokers: &mut Brokers) -> anyhow::Result<()> {
        (0..LANES).for_each(|lane| brokers.link(lane, Link::Up));
        for broker in 0..brokers.count() {
            brokers.start_again(broker).await?;
        }
        crew.thaw(&(0..crew.count()).collect::<Vec<_>>());
        crew.keep_up(world).await
    }

    async fn while_away(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.chance.below(AWAY_MS))).await;
    }

    fn place(&mut self, crew: &Crew) -> usize {
        let drawn = self.chance.below(u64::try_from(crew.count()).unwrap_or(u64::MAX));
        usize::try_from(drawn).unwrap_or_default()
    }

    fn part(&mut self) -> Part {
        self.chance.of(&Part::ALL).unwrap_or(Part::Accounts)
    }

    /// How often a broker was killed.
    pub const fn brokers_killed(&self) -> u32 {
        self.brokers_killed
    }

    /// What was done, in words.
    pub fn told(&self) -> String {
        let mut text = String::new();
        for (attack, count) in &self.done {
            // Writing into a text does not fail.
            let _ = writeln!(text, "  {:<20} {count:>4}", attack.name());
        }
        text
    }
}
