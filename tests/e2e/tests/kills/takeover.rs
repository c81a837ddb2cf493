//! Several orchestrators share the shards: one is killed, one joins, one hangs for longer than its session and wakes up again.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use custos_e2e::{LONG, Part, Stream, World, host_ms, only_owners_committed, until};
use custos_messages::Machine;

use crate::takeovers::{self, Takeover};

const ORCHESTRATOR: [Part; 3] = [Part::Accounts, Part::Treasury, Part::Chain];
const SERVICES: [Part; 5] = [Part::Wallet, Part::Compliance, Part::Blockchain, Part::Gateway, Part::Projector];
/// Shards of each machine.
const SHARDS: u64 = 2;

/// With work on its way all the time: the shards of whoever dies or hangs go to another, and back to whoever joins.
pub async fn others_go_on(world: &mut World, freezes: usize) -> anyhow::Result<()> {
    for part in SERVICES {
        world.start(part.name(), &[part]).await?;
    }
    world.start("first", &ORCHESTRATOR).await?;
    world.start_beside("second", &ORCHESTRATOR).await?;
    world.fund().await?;
    let mut stream = Stream::open(world, crate::APPROVED_EVERY).await?;
    share(world, &["first", "second"]).await?;
    eprintln!("both orchestrators hold a shard of each machine");
    killed_for_good(world, &mut stream).await?;
    joined(world).await?;
    for _ in 0..freezes {
        frozen_and_woken(world, &mut stream).await?;
    }
    stream.ends_exact(world).await?;
    world.books_match().await?;
    world.stop().await?;
    let (manifests, changes) = only_owners_committed(world).await?;
    for (shard, attempts) in changes {
        ensure!(attempts > 3, "{shard} changed hands {attempts} times only");
    }
    eprintln!("{manifests} transactions, each by whoever had the shard then");
    let said = world.audit_healthy().await?;
    eprintln!("{}: each paid exactly once\n{}{said}", stream.told(), takeovers::told(world)?);
    Ok(())
}

async fn killed_for_good(world: &mut World, stream: &mut Stream) -> anyhow::Result<()> {
    stream.flow(world).await?;
    let first = world.take("first")?;
    let killed_ms = host_ms();
    first.kill().await?;
    stream.flow(world).await?;
    let taken = took_all(world, "second", killed_ms).await?;
    print("killed", killed_ms, &taken);
    holds(world, "second", SHARDS).await?;
    answers(world, stream, &["second"]).await?;
    stream.flow(world).await
}

async fn joined(world: &mut World) -> anyhow::Result<()> {
    let joins_ms = host_ms();
    world.start_beside("third", &ORCHESTRATOR).await?;
    let taken = took_all(world, "third", joins_ms).await?;
    print("joined", joins_ms, &taken);
    share(world, &["second", "third"]).await
}

/// The one that hangs does not know that it has lost its shards. When it goes on, it may commit nothing, and joins again.
async fn frozen_and_woken(world: &mut World, stream: &mut Stream) -> anyhow::Result<()> {
    stream.flow(world).await?;
    let frozen_ms = host_ms();
    world.process("third")?.freeze()?;
    stream.flow(world).await?;
    let taken = took_all(world, "second", frozen_ms).await?;
    print("hung", frozen_ms, &taken);
    holds(world, "second", SHARDS).await?;
    answers(world, stream, &["second"]).await?;
    stream.flow(world).await?;
    let woken_ms = host_ms();
    world.process("third")?.thaw()?;
    let taken = took_all(world, "third", woken_ms).await?;
    print("woken", woken_ms, &taken);
    share(world, &["second", "third"]).await?;
    answers(world, stream, &["second", "third"]).await
}

/// Waits until each of them holds a shard of each machine.
async fn share(world: &World, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        holds(world, name, 1).await?;
    }
    Ok(())
}

async fn holds(world: &World, name: &str, shards: u64) -> anyhow::Result<()> {
    until(&format!("`{name}` holds {shards} of each machine's shards"), LONG, || async {
        let held = held(world, name).await?;
        let all = Machine::ALL.iter().all(|machine| held.get(machine.name()) == Some(&shards));
        if all { Ok(Some(())) } else { bail!("it holds {held:?}") }
    })
    .await
}

/// How many shards a process holds, by machine, as its metrics say.
async fn held(world: &World, name: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let health = world.installation.setting(name, "process.health")?;
    let metrics = reqwest::get(format!("http://{health}/metrics")).await?.text().await?;
    let mut held = BTreeMap::new();
    for line in metrics.lines() {
        let Some(line) = line.strip_prefix("custos_shards_owned{machine=\"") else { continue };
        let (machine, count) = line.split_once("\"} ").with_context(|| format!("`{line}`"))?;
        held.insert(machine.to_owned(), count.trim().parse()?);
    }
    Ok(held)
}

/// Waits until the process has taken over a shard of each machine since then.
async fn took_all(world: &World, name: &str, since_ms: u64) -> anyhow::Result<Vec<Takeover>> {
    until(&format!("`{name}` takes over a shard of each machine"), LONG, || async {
        let mut taken = takeovers::of(&world.process(name)?.errors())?;
        taken.retain(|takeover| takeover.at_ms >= since_ms);
        let of = |machine: &Machine| taken.iter().any(|takeover| takeover.shard.starts_with(machine.name()));
        let all = Machine::ALL.iter().all(of);
        Ok(all.then_some(taken))
    })
    .await
}

fn print(what: &str, since_ms: u64, taken: &[Takeover]) {
    for takeover in taken {
        eprintln!(
            "{what}: {:<11} taken over {:>5} ms later; the group told after {:>5} ms, the acquisition ({}) took {:>4} ms",
            takeover.shard,
            takeover.at_ms.saturating_sub(since_ms),
            takeover.noticed_ms().saturating_sub(since_ms),
            takeover.opening,
            takeover.took_ms
        );
    }
}

/// Every account's shard and the chain's answer an operator, and whoever answers is one of these.
async fn answers(world: &World, stream: &Stream, owners: &[&str]) -> anyhow::Result<()> {
    let at: Vec<String> =
        owners.iter().map(|name| world.installation.setting(name, "process.ops")).collect::<anyhow::Result<_>>()?;
    for subject in stream.accounts().chain([World::chain_name()]) {
        until(&format!("the owner of {subject} answers"), LONG, || async {
            let said = world.installation.run("saga", &[subject]).await?.success()?;
            let named = at.iter().any(|address| said.contains(&format!("owned by {address}")));
            ensure!(named, "{said} is not owned by {owners:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}
