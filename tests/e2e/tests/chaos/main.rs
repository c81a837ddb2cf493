//! The product under load while everything that it stands on is attacked: processes are killed and frozen, brokers are killed, the
//! network is cut, the disk is full. Afterwards a checker that reads nothing but the chain, the log and the REST door counts what is
//! not as it must be, and there may be nothing.
//!
//! `CUSTOS_CHAOS_SECONDS` is how long it is attacked, `CUSTOS_CHAOS_BROKERS` on how many brokers, `CUSTOS_TEST_SEED` what is drawn.

mod attack;
mod check;
mod crew;
mod disk;
#[cfg(test)]
mod network;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use custos_e2e::{Brokers, Chance, Stream, World, until};

use attack::Attackers;
use crew::Crew;

const SECONDS: u64 = 60;
/// One round in so many has a withdrawal that officers must approve: of five ether each, for which clients have to last.
const APPROVED_EVERY: usize = 40;
/// Wishes that may wait for a yes; beyond it the bank holds its breath.
const UNANSWERED_MAX: usize = 48;
/// Between the rounds of the load.
const BEAT: Duration = Duration::from_millis(900);
/// How long the product may take to finish everything once nothing attacks it any more.
const HEALED_WITHIN: Duration = Duration::from_secs(600);

fn number(variable: &str, otherwise: u64) -> anyhow::Result<u64> {
    let named = std::env::var(variable).ok().map(|text| text.parse().with_context(|| format!("{variable}={text}")));
    Ok(named.transpose()?.unwrap_or(otherwise))
}

/// Says a line that is seen whether or not the test fails.
fn say(line: &str) {
    // Nothing is lost where there is no standard error.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The bank goes on as if nothing were, as long as somebody says yes now and then.
async fn load(world: &World, stream: &mut Stream, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Acquire) {
        if stream.unanswered() < UNANSWERED_MAX {
            stream.flow(world).await?;
        }
        tokio::time::sleep(BEAT).await;
    }
    Ok(())
}

/// Blocks come and officers decide until no operation is under way.
async fn quiet(world: &World, stream: &Stream) -> anyhow::Result<()> {
    until("every operation is over", HEALED_WITHIN, || async {
        world.chain.mine(1).await?;
        let running = world.bank.get("/operations?status=running&limit=1").await?;
        let items = running.get("items").and_then(serde_json::Value::as_array).context("a page without items")?;
        ensure!(items.is_empty(), "one of them: {}", items.first().unwrap_or_default());
        ensure!(stream.unanswered() == 0, "{} wishes were not answered", stream.unanswered());
        Ok(Some(()))
    })
    .await
}

async fn withstands(world: &mut World, mut brokers: Brokers, seconds: u64) -> anyhow::Result<()> {
    let mut crew = Crew::start(world, &brokers).await?;
    world.fund().await?;
    let mut stream = Stream::open(world, APPROVED_EVERY).await?;
    let mut attackers = Attackers::new(Chance::from_environment()?, brokers.count());
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    say(&format!("chaos: {} processes, {} brokers, for {seconds} s", crew.count(), brokers.count()));
    let end = begun + Duration::from_secs(seconds);
    let attacking = async {
        let done = attackers.attack(world, &mut crew, &mut brokers, end).await;
        over.store(true, Ordering::Release);
        done
    };
    let (loaded, attacked) = tokio::join!(load(world, &mut stream, &over), attacking);
    loaded?;
    attacked?;
    let healing = Instant::now();
    attackers.heal(world, &mut crew, &mut brokers).await?;
    stream.over();
    let rested = quiet(world, &stream).await;
    let healed = healing.elapsed();
    let mut verdict = check::all(world, &mut stream).await?;
    verdict.note(rested);
    crew.keep_up(world).await?;
    verdict.found.extend(crew.stop().await?);
    if let Err(error) = world.audit_healthy().await {
        verdict.found.push(format!("the product's own audit: {error:#}"));
    }
    say(&format!("{}\n{}{}", stream.told(), attackers.told(), crew.told()));
    say(&format!(
        "healed {healed:.0?} after the last attack; {} transactions of shards; {}",
        verdict.transactions,
        verdict.told()
    ));
    for violation in &verdict.found {
        say(&format!("violation: {violation}"));
    }
    let kills = crew.killed() + attackers.brokers_killed();
    say(&format!("kills {kills}, payments {}, violations {}", verdict.payments, verdict.found.len()));
    ensure!(verdict.found.is_empty(), "{} violations", verdict.found.len());
    ensure!(verdict.payments > 0 && kills > 0, "nothing was paid or nothing was killed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_every_part_under_load_withstand_every_attack() {
    let (seconds, brokers) = match (number("CUSTOS_CHAOS_SECONDS", SECONDS), number("CUSTOS_CHAOS_BROKERS", 1)) {
        (Ok(seconds), Ok(brokers)) => (seconds, usize::try_from(brokers).unwrap_or(1)),
        (Err(error), _) | (_, Err(error)) => panic!("{error:?}"),
    };
    let world = World::on_brokers("chaos", brokers).await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Some((mut world, brokers)) = world
        && let Err(error) = withstands(&mut world, brokers, seconds).await
    {
        panic!("{error:?}");
    }
}
