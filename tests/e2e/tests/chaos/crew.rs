//! Two processes of every part, each on a lane of the network, started again whenever they have ended, as a bank's own supervisor
//! does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context;
use custos_e2e::{Brokers, LANES, Part, Process, World};

/// A process of one part.
struct Member {
    name: String,
    part: Part,
    process: Option<Process>,
}

/// All of them.
pub struct Crew {
    members: Vec<Member>,
    kills: BTreeMap<&'static str, u32>,
    /// Those that ended without being told to.
    gone: BTreeMap<String, u32>,
}

impl Crew {
    /// Starts them.
    pub async fn start(world: &mut World, brokers: &Brokers) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for (index, part) in Part::ALL.into_iter().enumerate() {
            for (name, lane) in [(part.name().to_owned(), index), (format!("{}-2", part.name()), index + 1)] {
                world.installation.lead(&name, &brokers.lane(lane % LANES));
                if name == part.name() {
                    world.start(&name, &[part]).await?;
                } else {
                    world.start_beside(&name, &[part]).await?;
                }
                let process = Some(world.take(&name)?);
                members.push(Member { name, part, process });
            }
        }
        Ok(Self { members, kills: BTreeMap::new(), gone: BTreeMap::new() })
    }

    /// How many processes there are.
    pub const fn count(&self) -> usize {
        self.members.len()
    }

    /// Places of the processes of a part.
    pub fn of(&self, part: Part) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.members.get(*at).is_some_and(|member| member.part == part)).collect()
    }

    /// Kills these at the same instant.
    pub async fn kill(&mut self, places: &[usize]) -> anyhow::Result<()> {
        let mut ending = Vec::new();
        for place in places {
            let Some(member) = self.members.get_mut(*place) else { continue };
            let Some(process) = member.process.take() else { continue };
            *self.kills.entry(member.part.name()).or_default() += 1;
            ending.push(process.kill());
        }
        futures::future::try_join_all(ending).await?;
        Ok(())
    }

    /// Starts again whatever does not run, and tells what had ended by itself.
    pub async fn keep_up(&mut self, world: &World) -> anyhow::Result<()> {
        for member in &mut self.members {
            if let Some(process) = &mut member.process
                && let Some(status) = process.ended()?
            {
                let said = process.errors();
                let last =
                    said.lines().rfind(|line| line.contains("ERROR") || line.starts_with("Error")).unwrap_or_default();
                // What comes first is the time.
                let last = last.split_once(' ').map_or(last, |(_, rest)| rest);
                let key = format!("{}: {status}: {last}", member.part.name());
                *self.gone.entry(key).or_default() += 1;
                member.process = None;
            }
        }
        let away = self.members.iter_mut().filter(|member| member.process.is_none());
        // Without waiting until it serves: what it needs may be away as well.
        for member in away {
            member.process = Some(world.installation.launch(&member.name, &[member.part], &[])?);
        }
        Ok(())
    }

    /// Freezes these, as machines that hang.
    pub fn freeze(&self, places: &[usize]) {
        self.each(places, Process::freeze);
    }

    /// Lets these go on.
    pub fn thaw(&self, places: &[usize]) {
        self.each(places, Process::thaw);
    }

    fn each(&self, places: &[usize], act: impl Fn(&Process) -> anyhow::Result<()>) {
        for process in places.iter().filter_map(|place| self.members.get(*place)?.process.as_ref()) {
            // One that has ended meanwhile is found when they are looked after.
            let _ = act(process);
        }
    }

    /// Stops one orderly and starts it again, as a new version is rolled out; waits until it serves.
    pub async fn roll(&mut self, world: &World, place: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(place).context("a member")?;
        if let Some(process) = member.process.take() {
            let errors = process.errors();
            let status = process.stop().await?;
            anyhow::ensure!(status.success(), "{} was told to stop and ended with {status}\n{errors}", member.name);
        }
        let mut process = world.installation.launch(&member.name, &[member.part], &[])?;
        process.says("serving ").await?;
        member.process = Some(process);
        Ok(())
    }

    /// Stops all of them orderly, and says who did not stop well.
    pub async fn stop(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for member in &mut self.members {
            let Some(process) = member.process.take() else { continue };
            let status = process.stop().await;
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => found.push(format!("{} was told to stop and ended with {status}", member.name)),
                Err(error) => found.push(format!("{error:#}")),
            }
        }
        Ok(found)
    }

    /// How many processes were killed.
    pub fn killed(&self) -> u32 {
        self.kills.values().sum()
    }

    /// Who was killed how often, and who ended by itself.
    pub fn told(&self) -> String {
        let mut text = String::from("killed:");
        for (part, count) in &self.kills {
            // Writing into a text does not fail.
            let _ = write!(text, " {part} {count}");
        }
        text.push('\n');
        for (what, count) in &self.gone {
            let _ = writeln!(text, "ended by itself and was started again: {what} ({count})");
        }
        text
    }
}
