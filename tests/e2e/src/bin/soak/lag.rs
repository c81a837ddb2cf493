//! Nothing waits any more: no input in an inbox, no event of the log before the read model, and in an outbox no more than what the
//! last transaction of a shard has put there, which only its next transaction strikes off.

use anyhow::{Context, bail, ensure};
use custos_e2e::{LONG, World, until};
use custos_messages::Topic;

/// Gauges, with the most that each may show at rest.
const GAUGES: [(&str, u64); 2] = [("custos_shard_lag_inputs", 0), ("custos_shard_outbox_messages", 32)];
/// One for each machine, at least.
const SHARDS_MIN: usize = 3;

/// Waits until every gauge of every process is at rest.
pub async fn is_zero(world: &World) -> anyhow::Result<()> {
    for (gauge, most) in GAUGES {
        until(&format!("{gauge} is at most {most} everywhere"), LONG, || async {
            let mut seen = 0;
            for (name, _) in world.pids() {
                for line in world.installation.metrics(&name).await?.lines().filter(|line| line.starts_with(gauge)) {
                    let figure = line.split_whitespace().nth(1).with_context(|| line.to_owned())?;
                    if figure.parse::<u64>()? > most {
                        bail!("{name} says {line}");
                    }
                    seen += 1;
                }
            }
            ensure!(seen >= SHARDS_MIN, "{seen} figures of {gauge}, at least {SHARDS_MIN} must be there");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// The log holds exactly so many events: none of them stands before the read model that showed them. Stops what runs, if the log has
/// one owner.
pub async fn of_events_is_zero(world: &mut World, shown: usize) -> anyhow::Result<()> {
    let written = world.in_the_log(|hand| hand.read_all(Topic::Events)).await?.len();
    ensure!(written == shown, "{written} events in the log, {shown} in the read model");
    Ok(())
}
