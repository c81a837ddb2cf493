//! Processes are killed while money moves: at random moments and at the two that matter most. However often that happens, every
//! withdrawal is paid exactly once, every balance is exact, and the log still proves itself.

mod killer;
mod stream;
mod takeover;

use anyhow::ensure;
use custos_e2e::{Part, World};

use killer::{GUARD_RECORDED, Killer, OPEN_TRANSACTION};
use stream::Stream;

/// How often each process is killed at a random moment.
fn times() -> u32 {
    if std::env::var_os("CUSTOS_TEST_LONG").is_some() { 20 } else { 3 }
}

async fn nothing_is_lost_or_paid_twice(world: &mut World, processes: &[(&str, Vec<Part>)]) -> anyhow::Result<()> {
    let mut stream = Stream::open(world).await?;
    let mut killer = Killer::of(world, processes)?;
    for (process, point) in points(processes) {
        stream.flow(world).await?;
        killer.at(world, process, point).await?;
    }
    while killer.killed_least() < times() {
        stream.flow(world).await?;
        killer.at_random(world, &stream).await?;
    }
    stream.ends_exact(world).await?;
    world.books_match().await?;
    killer.stop().await?;
    let said = world.audit_healthy().await?;
    eprintln!("{}{said}", killer.histogram());
    for (what, point) in [("open transaction", OPEN_TRANSACTION), ("between guard record and reply", GUARD_RECORDED)] {
        ensure!(killer.killed_at(point) > 0, "no process was killed in: {what}");
    }
    Ok(())
}

/// Which process is killed at which point.
fn points<'p>(processes: &[(&'p str, Vec<Part>)]) -> Vec<(&'p str, &'static str)> {
    let of = |part: Part| processes.iter().find(|(_, parts)| parts.contains(&part)).map(|(name, _)| *name);
    [(Part::Wallet, GUARD_RECORDED), (Part::Accounts, OPEN_TRANSACTION), (Part::Treasury, OPEN_TRANSACTION)]
        .into_iter()
        .filter_map(|(part, point)| Some((of(part)?, point)))
        .collect()
}

/// Fails while the world still stands, so that what its processes said is kept.
async fn holds(mut world: World, processes: &[(&str, Vec<Part>)]) {
    if let Err(error) = nothing_is_lost_or_paid_twice(&mut world, processes).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_holds_everything_is_killed_and_nothing_is_lost_or_paid_twice() {
    let world = World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"));
    holds(world, &[("all", Part::ALL.to_vec())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_on_kafka_and_postgresql_are_killed_and_nothing_is_lost_or_paid_twice() {
    let world = World::on_servers("kills on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(world) = world {
        holds(world, &Part::ALL.map(|part| (part.name(), vec![part]))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shards_of_a_killed_orchestrator_are_taken_over_by_another() {
    let world = World::on_servers("a takeover on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(mut world) = world
        && let Err(error) = takeover::another_member_goes_on(&mut world).await
    {
        panic!("{error:?}");
    }
}
