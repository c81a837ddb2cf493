//! Ends processes as a power cut would, starts them again, and keeps count.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use custos_e2e::{Part, Process, World, text};

use crate::stream::Stream;

/// The guard has its record on the disk, and nobody has heard of the signature.
pub const GUARD_RECORDED: &str = "guard-recorded";
/// A shard's transaction is begun and not committed.
pub const OPEN_TRANSACTION: &str = "open-transaction";
/// The longest that is waited before a random kill, in milliseconds.
const MOMENT_MS: u64 = 900;
const SEED: u64 = 2_026;

struct Target {
    name: String,
    parts: Vec<Part>,
    process: Option<Process>,
    killed: u32,
}

/// The processes of a world, each of which may end at any moment.
pub struct Killer {
    targets: Vec<Target>,
    chance: Chance,
    kills: BTreeMap<(String, String), u32>,
}

impl Killer {
    /// Takes these processes out of the world.
    pub fn of(world: &mut World, processes: &[(&str, Vec<Part>)]) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for (name, parts) in processes {
            let process = Some(world.take(name)?);
            targets.push(Target { name: (*name).to_owned(), parts: parts.clone(), process, killed: 0 });
        }
        let seed = std::env::var("CUSTOS_TEST_SEED").ok().map(|seed| seed.parse()).transpose()?.unwrap_or(SEED);
        eprintln!("CUSTOS_TEST_SEED={seed}");
        Ok(Self { targets, chance: Chance(seed), kills: BTreeMap::new() })
    }

    /// Starts the process again so that it stands still at the point, kills it there, and starts it as it was.
    pub async fn at(&mut self, world: &World, name: &str, point: &str) -> anyhow::Result<()> {
        let target = self.targets.iter_mut().find(|target| target.name == name).context("no such process")?;
        target.process.take().context("it does not run")?.kill().await?;
        let mut paused = world.installation.launch(&target.name, &target.parts, &["--pause-at", point])?;
        paused.says(&format!("reached {point}")).await?;
        paused.kill().await?;
        target.process = Some(world.installation.serve(&target.name, &target.parts, &[]).await?);
        *self.kills.entry((name.to_owned(), point.to_owned())).or_default() += 1;
        Ok(())
    }

    /// Kills one to three processes at once, at a random moment, and starts them again.
    pub async fn at_random(&mut self, world: &World, stream: &Stream) -> anyhow::Result<()> {
        // No waiting for anything: the moment is what is drawn.
        tokio::time::sleep(Duration::from_millis(self.chance.below(MOMENT_MS))).await;
        let step = last_step(world, stream).await.unwrap_or_else(|_| "unknown: the door was away".to_owned());
        let chosen = self.choose();
        for &index in &chosen {
            let target = self.targets.get_mut(index).context("a target")?;
            target.process.take().context("it does not run")?.kill().await?;
            target.killed += 1;
            *self.kills.entry((target.name.clone(), step.clone())).or_default() += 1;
        }
        let targets = &self.targets;
        let started = futures::future::try_join_all(chosen.into_iter().map(|index| async move {
            let target = targets.get(index).context("a target")?;
            Ok::<_, anyhow::Error>((index, world.installation.serve(&target.name, &target.parts, &[]).await?))
        }))
        .await?;
        for (index, process) in started {
            self.targets.get_mut(index).context("a target")?.process = Some(process);
        }
        Ok(())
    }

    /// Those that were killed least come first, in an order that is drawn.
    fn choose(&mut self) -> Vec<usize> {
        let mut order: Vec<(u32, u64, usize)> = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            order.push((target.killed, self.chance.below(u64::MAX), index));
        }
        order.sort_unstable();
        let together = usize::try_from(1 + self.chance.below(3)).unwrap_or(1);
        order.into_iter().take(together).map(|(_, _, index)| index).collect()
    }

    /// How often the process that was killed least was killed at a random moment.
    pub fn killed_least(&self) -> u32 {
        self.targets.iter().map(|target| target.killed).min().unwrap_or(u32::MAX)
    }

    /// How often a process was killed at this step.
    pub fn killed_at(&self, step: &str) -> u32 {
        self.kills.iter().filter(|((_, at), _)| at == step).map(|(_, count)| count).sum()
    }

    /// Stops every process, orderly.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for target in &mut self.targets {
            let process = target.process.take().context("it does not run")?;
            let errors = process.errors();
            let status = process.stop().await?;
            if !status.success() {
                bail!("{} ended with {status}\n{errors}", target.name);
            }
        }
        Ok(())
    }

    /// Kills by process and by the last step that was reached.
    pub fn histogram(&self) -> String {
        let mut lines = String::from("kills:\n");
        for ((process, step), count) in &self.kills {
            // Writing into a text does not fail.
            let _ = writeln!(lines, "  {process:<12} {step:<28} {}", "#".repeat(usize::try_from(*count).unwrap_or(0)));
        }
        lines
    }
}

/// The step that the account's newest operation has reached.
async fn last_step(world: &World, stream: &Stream) -> anyhow::Result<String> {
    let account = stream.newest_account().context("no operation yet")?;
    let path = format!("/withdrawals?account={account}");
    let page = tokio::time::timeout(Duration::from_millis(500), world.bank.get(&path)).await??;
    let newest = page.pointer("/items/0").context("no operation yet")?;
    Ok(text(newest, "/metadata/step").unwrap_or("done").to_owned())
}

/// Random numbers that are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % bound.max(1)
    }
}
