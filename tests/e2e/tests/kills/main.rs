//! Processes are killed while money moves: at random moments, when operations have reached a step, and inside of what must not
//! tear. However often that happens, every withdrawal is paid exactly once, every balance is exact, and the log proves itself.

mod fleet;
mod history;
mod moment;
mod report;
mod takeover;
mod takeovers;

use std::time::Instant;

use anyhow::ensure;
use custos_e2e::{Chance, Part, Stream, World};

use fleet::Fleet;
use history::History;
use moment::{GUARD_RECORDED, Moment, OPEN_TRANSACTION, Point};
use report::Report;

/// How often things are killed.
struct Extent {
    /// Each part, at random moments.
    times: usize,
    /// Inside an open transaction, and between guard record and reply.
    at_points: usize,
    /// An orchestrator that stops and goes on after others have taken over.
    freezes: usize,
}

impl Extent {
    fn wanted() -> Self {
        if std::env::var_os("CUSTOS_TEST_LONG").is_some() {
            Self { times: 20, at_points: 10, freezes: 3 }
        } else {
            Self { times: 3, at_points: 2, freezes: 1 }
        }
    }
}

/// One round in so many has a withdrawal that officers must approve.
const APPROVED_EVERY: usize = 3;
/// After so many rounds no moment is waited for any more: what was not met is told at the end.
const MOMENTS: usize = 60;
/// The most attempts to kill a process at a point.
const INSIST: usize = 40;

async fn nothing_is_lost_or_paid_twice(world: &mut World, processes: &[(String, Vec<Part>)]) -> anyhow::Result<()> {
    let (begun, extent) = (Instant::now(), Extent::wanted());
    let mut stream = Stream::open(world, APPROVED_EVERY).await?;
    let mut fleet = Fleet::of(world, processes, Chance::from_environment()?)?;
    let mut rounds = 0;
    while fleet.killed_least() < extent.times || (fleet.lacks_a_moment() && rounds < MOMENTS) {
        stream.flow(world).await?;
        fleet.kill_some(world).await?;
        rounds += 1;
    }
    for (part, point) in [(Part::Wallet, GUARD_RECORDED), (Part::Accounts, OPEN_TRANSACTION)] {
        for _ in 0..INSIST {
            if fleet.killed_at(point) >= extent.at_points {
                break;
            }
            fleet.insist(world, part, Point { name: point.to_owned(), time: 1 }).await?;
            stream.flow(world).await?;
            fleet.kill_at_a_point(world).await?;
        }
        ensure!(fleet.killed_at(point) >= extent.at_points, "too few kills: {point}");
    }
    // The door lies behind the log while a projector is away, and only the log says where an operation stood when a process was killed.
    // One process keeps the embedded log to itself.
    for _ in 0..if processes.len() > 1 { INSIST } else { 0 } {
        if Report::of(fleet.kills(), &History::read(world).await?).covers_late_steps().is_ok() {
            break;
        }
        fleet.want(Moment::Seen);
        stream.flow(world).await?;
        fleet.kill_some(world).await?;
    }
    fleet.at_ease(world).await?;
    let killing = begun.elapsed();
    stream.ends_exact(world).await?;
    world.books_match().await?;
    fleet.stop().await?;
    let history = History::read(world).await?;
    let report = Report::of(fleet.kills(), &history);
    let said = world.audit_healthy().await?;
    eprintln!("{}: each paid exactly once\n{}{}{said}", stream.told(), report.tables(), takeovers::told(world)?);
    for kind in ["withdrawal", "deposit", "transfer", "issue-address"] {
        eprintln!("{} operations of the kind {kind}", history.count(kind));
    }
    eprintln!("{} kills in {killing:.0?}; all was exact and proven after {:.0?}", fleet.kills().len(), begun.elapsed());
    report.covers_late_steps()
}

/// Fails while the world still stands, so that what its processes said is kept.
async fn holds(mut world: World, processes: &[(String, Vec<Part>)]) {
    if let Err(error) = nothing_is_lost_or_paid_twice(&mut world, processes).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_holds_everything_is_killed_and_nothing_is_lost_or_paid_twice() {
    let world = World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"));
    holds(world, &[("all".to_owned(), Part::ALL.to_vec())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_every_part_on_kafka_and_postgresql_are_killed_and_nothing_is_lost_or_paid_twice() {
    let world = World::on_servers("kills on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    let Some(mut world) = world else { return };
    let mut processes = Vec::new();
    for part in Part::ALL {
        let second = format!("{}-2", part.name());
        world.start_beside(&second, &[part]).await.unwrap_or_else(|error| panic!("{error:?}"));
        processes.extend([(part.name().to_owned(), vec![part]), (second, vec![part])]);
    }
    holds(world, &processes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shards_of_an_orchestrator_that_is_killed_or_hangs_are_taken_over_by_another() {
    let world = World::on_servers_alone("a takeover on servers").await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some(mut world) = world
        && let Err(error) = takeover::others_go_on(&mut world, Extent::wanted().freezes).await
    {
        panic!("{error:?}");
    }
}
