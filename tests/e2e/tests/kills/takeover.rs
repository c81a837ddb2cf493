//! Two members share the shards; one dies and does not come back.

use std::time::Instant;

use custos_e2e::{Part, World};

use crate::stream::Stream;

const ORCHESTRATOR: [Part; 3] = [Part::Accounts, Part::Treasury, Part::Chain];

/// A second member joins, every first one is killed for good with work on its way, and all of that work ends as it must.
pub async fn another_member_goes_on(world: &mut World) -> anyhow::Result<()> {
    world.start("second", &ORCHESTRATOR).await?;
    let mut stream = Stream::open(world).await?;
    stream.flow(world).await?;
    for part in ORCHESTRATOR {
        world.take(part.name())?.kill().await?;
    }
    let killed = Instant::now();
    // A new account on every shard can only be opened by whoever has the shard now.
    for number in 0..8 {
        world.bank.open(&format!("after the kill {number}")).await?;
    }
    eprintln!("every shard of accounts serves again {:.1?} after the kill", killed.elapsed());
    stream.flow(world).await?;
    stream.ends_exact(world).await?;
    eprintln!("all work is done {:.1?} after the kill", killed.elapsed());
    world.books_match().await?;
    world.stop().await?;
    world.audit_healthy().await.map(drop)
}
