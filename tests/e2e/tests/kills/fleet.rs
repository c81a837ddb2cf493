//! The processes of a world, each of which may end at any moment, as in a power cut: killed, started again, and counted.

use std::time::Duration;

use anyhow::{Context, bail};
use custos_e2e::{CONFIRMATIONS, Chance, Part, Process, World, host_ms};
use tokio::time::Instant;

use crate::moment::{Moment, Point, has_come, seen};

/// The longest that is waited before a kill at a random moment, in milliseconds.
const MOMENT_MS: u64 = 900;
/// How long is waited for an operation to reach a step.
const STEP_WITHIN: Duration = Duration::from_secs(3);
/// How long a process may take to come to the point at which it is to be killed.
const POINT_WITHIN: Duration = Duration::from_secs(30);
/// The same, where that needs several services, each of which may first have to notice that another is gone.
const LATE_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);
/// How long after a block another one is mined, where a payment is to be seen in one.
const BLOCK_EVERY: Duration = Duration::from_secs(1);

/// How long what was killed may stay away, in milliseconds: longer than a session of the log's groups, so that others take over.
const AWAY_MS: u64 = 9_000;

/// A process.
struct Target {
    name: String,
    part: &'static str,
    parts: Vec<Part>,
    state: State,
    /// Where it stands still once it comes there.
    armed: Option<Point>,
    killed: u32,
}

enum State {
    Runs(Box<Process>),
    /// Killed, and not to be started before.
    Away(Instant),
}

/// A kill.
pub struct Kill {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was killed; `all` for a process that holds everything.
    pub part: &'static str,
    /// At what moment.
    pub moment: Moment,
}

/// The processes.
pub struct Fleet {
    targets: Vec<Target>,
    chance: Chance,
    /// Whether another process goes on while one is away.
    twins: bool,
    kills: Vec<Kill>,
    /// Moments that must come and have not yet.
    wanted: Vec<Moment>,
}

impl Fleet {
    /// Takes these processes out of the world.
    pub fn of(world: &mut World, processes: &[(String, Vec<Part>)], chance: Chance) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for (name, parts) in processes {
            let state = State::Runs(Box::new(world.take(name)?));
            let part = if let [part] = parts.as_slice() { part.name() } else { "all" };
            targets.push(Target { name: name.clone(), part, parts: parts.clone(), state, armed: None, killed: 0 });
        }
        let twins = targets.len() > 1;
        Ok(Self { targets, chance, twins, kills: Vec::new(), wanted: Moment::wanted() })
    }

    /// Kills one to four processes at once, at a moment that is drawn, and starts them again, some of them later.
    pub async fn kill_some(&mut self, world: &World) -> anyhow::Result<()> {
        self.start_those_due(world, Instant::now()).await?;
        let drawn = Moment::draw(&mut self.chance);
        let moment = self.reached(world, self.wanted.last().cloned().unwrap_or(drawn)).await?;
        self.wanted.retain(|wanted| *wanted != moment);
        let together = 1 + self.chance.below(4);
        let chosen = self.choose(together);
        self.kill(world, &chosen, moment, Later::Perhaps).await
    }

    /// Kills a process of the part at the point, once it comes there: all of them are started again so that they stand still there.
    pub async fn insist(&mut self, world: &World, part: Part, point: Point) -> anyhow::Result<()> {
        self.start_all(world).await?;
        let holders = |target: &Target| target.parts.contains(&part);
        let chosen: Vec<usize> = (0..self.targets.len()).filter(|at| self.targets.get(*at).is_some_and(holders)).collect();
        self.kill(world, &chosen, Moment::Random, Later::Armed(point)).await
    }

    /// Waits until a process stands still at its point, and kills it there. Without one, after a while nothing happens.
    pub async fn kill_at_a_point(&mut self, world: &World) -> anyhow::Result<()> {
        let deadline = Instant::now() + POINT_WITHIN;
        while self.standing().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.kill(world, &[], Moment::Random, Later::No).await
    }

    /// Waits for the moment, but no longer than until a process stands still at its point: it is killed before it holds others up.
    async fn reached(&mut self, world: &World, moment: Moment) -> anyhow::Result<Moment> {
        let begun = Instant::now();
        let drawn = Duration::from_millis(self.chance.below(MOMENT_MS));
        let (limit, blocks) = match &moment {
            Moment::Random | Moment::Point(_) => (drawn, 0),
            Moment::Step(_) => (STEP_WITHIN, 0),
            Moment::Seen => return self.reached_a_block(world, begun).await,
            Moment::Mined => (LATE_WITHIN, 1),
            Moment::Final => (LATE_WITHIN, CONFIRMATIONS),
        };
        while begun.elapsed() < limit && self.standing().is_empty() {
            if has_come(world, &moment).await {
                world.chain.mine(blocks).await?;
                if blocks > 0 {
                    // No waiting for anything: what happens with the blocks meanwhile is what is drawn.
                    tokio::time::sleep(drawn).await;
                }
                return Ok(moment);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Moment::Random)
    }

    /// Mines until a payment was seen in a block: no other block follows, so that it stays not final.
    async fn reached_a_block(&self, world: &World, begun: Instant) -> anyhow::Result<Moment> {
        let mut mined: Option<Instant> = None;
        while begun.elapsed() < LATE_WITHIN && self.standing().is_empty() {
            if seen(world).await {
                return Ok(Moment::Seen);
            }
            if mined.is_none_or(|mined| mined.elapsed() > BLOCK_EVERY) && has_come(world, &Moment::Seen).await {
                world.chain.mine(1).await?;
                mined = Some(Instant::now());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Moment::Random)
    }

    /// Those that stand still at their point.
    fn standing(&self) -> Vec<usize> {
        let stands = |target: &Target| match (&target.armed, &target.state) {
            (Some(point), State::Runs(process)) => process.said(&format!("reached {}", point.name)).is_some(),
            _ => false,
        };
        (0..self.targets.len()).filter(|at| self.targets.get(*at).is_some_and(stands)).collect()
    }

    /// Of those that run, those that were killed least come first, in an order that is drawn.
    fn choose(&mut self, together: u64) -> Vec<usize> {
        let mut order: Vec<(u32, u64, usize)> = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            if matches!(target.state, State::Runs(_)) {
                let of_part = self.killed(target.part);
                order.push((of_part, self.chance.below(u64::MAX), index));
            }
        }
        order.sort_unstable();
        order.into_iter().take(usize::try_from(together).unwrap_or(1)).map(|(_, _, index)| index).collect()
    }

    /// Kills these, and those that stand still at their point, at the same instant.
    async fn kill(&mut self, world: &World, chosen: &[usize], moment: Moment, later: Later) -> anyhow::Result<()> {
        let mut victims: Vec<(usize, Moment)> = Vec::new();
        for index in self.standing() {
            let point = self.targets.get(index).and_then(|target| target.armed.clone()).context("a point")?;
            victims.push((index, Moment::Point(point.name)));
        }
        for index in chosen {
            if !victims.iter().any(|(victim, _)| victim == index) {
                victims.push((*index, moment.clone()));
            }
        }
        let at_ms = host_ms();
        let mut ending = Vec::new();
        for (index, moment) in &victims {
            let back = Instant::now() + Duration::from_millis(self.away(&later));
            let target = self.targets.get_mut(*index).context("a target")?;
            let State::Runs(process) = std::mem::replace(&mut target.state, State::Away(back)) else {
                bail!("{} does not run", target.name);
            };
            ending.push(process.kill());
            target.killed += 1;
            target.armed = None;
            self.kills.push(Kill { at_ms, part: target.part, moment: moment.clone() });
        }
        futures::future::try_join_all(ending).await?;
        for (index, _) in victims {
            let armed = match &later {
                Later::Perhaps => self.targets.get(index).and_then(|target| Point::draw(&target.parts, &mut self.chance)),
                Later::Armed(point) => Some(point.clone()),
                Later::No => None,
            };
            self.targets.get_mut(index).context("a target")?.armed = armed;
        }
        self.start_those_due(world, Instant::now()).await
    }

    /// How long what is killed now stays away, in milliseconds.
    fn away(&mut self, later: &Later) -> u64 {
        let stays = matches!(later, Later::Perhaps) && self.twins && self.chance.percent(25);
        if stays { self.chance.below(AWAY_MS) } else { 0 }
    }

    async fn start_those_due(&mut self, world: &World, now: Instant) -> anyhow::Result<()> {
        let due =
            self.targets.iter().enumerate().filter(|(_, target)| matches!(target.state, State::Away(back) if back <= now));
        let started = due.map(|(index, target)| async move {
            let pause: Vec<String> = match &target.armed {
                Some(point) => vec!["--pause-at".to_owned(), format!("{}@{}", point.name, point.time)],
                None => Vec::new(),
            };
            let more: Vec<&str> = pause.iter().map(String::as_str).collect();
            Ok::<_, anyhow::Error>((index, world.installation.serve(&target.name, &target.parts, &more).await?))
        });
        for (index, process) in futures::future::try_join_all(started).await? {
            self.targets.get_mut(index).context("a target")?.state = State::Runs(Box::new(process));
        }
        Ok(())
    }

    /// Starts whatever is away.
    pub async fn start_all(&mut self, world: &World) -> anyhow::Result<()> {
        self.start_those_due(world, Instant::now() + Duration::from_millis(AWAY_MS)).await
    }

    /// From now on nothing stands still any more: whatever might is killed, and all of them run as they were.
    pub async fn at_ease(&mut self, world: &World) -> anyhow::Result<()> {
        for target in &mut self.targets {
            if matches!(target.state, State::Away(_)) {
                target.armed = None;
            }
        }
        self.start_all(world).await?;
        let armed = |at: &usize| self.targets.get(*at).is_some_and(|target| target.armed.is_some());
        let armed: Vec<usize> = (0..self.targets.len()).filter(armed).collect();
        self.kill(world, &armed, Moment::Random, Later::No).await
    }

    /// How often a process of the part was killed.
    fn killed(&self, part: &str) -> u32 {
        self.targets.iter().filter(|target| target.part == part).map(|target| target.killed).sum()
    }

    /// How often the part that was killed least was killed at a random moment, or at a step that was waited for.
    pub fn killed_least(&self) -> usize {
        let of_part = |target: &Target| {
            let drawn = |kill: &&Kill| kill.part == target.part && !matches!(kill.moment, Moment::Point(_));
            self.kills.iter().filter(drawn).count()
        };
        self.targets.iter().map(of_part).min().unwrap_or_default()
    }

    /// Whether a moment that must not be missing has not come yet.
    pub fn lacks_a_moment(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// From now on this moment must come once more.
    pub fn want(&mut self, moment: Moment) {
        self.wanted.push(moment);
    }

    /// How often a process was killed at a point whose name begins so.
    pub fn killed_at(&self, point: &str) -> usize {
        let there = |kill: &&Kill| matches!(&kill.moment, Moment::Point(name) if name.starts_with(point));
        self.kills.iter().filter(there).count()
    }

    /// All kills, in order.
    pub fn kills(&self) -> &[Kill] {
        &self.kills
    }

    /// Stops every process, orderly.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for target in self.targets.drain(..) {
            let State::Runs(process) = target.state else { bail!("{} does not run", target.name) };
            let errors = process.errors();
            let status = process.stop().await?;
            if !status.success() {
                bail!("{} ended with {status}\n{errors}", target.name);
            }
        }
        Ok(())
    }
}

/// What becomes of a process after its kill.
enum Later {
    /// It may stay away for a while, and come back so that it stands still somewhere.
    Perhaps,
    /// It comes back at once, to stand still here.
    Armed(Point),
    /// It comes back at once, as it was.
    No,
}
