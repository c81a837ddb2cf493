//! Taking a shard over: how long it takes until a shard full of live sagas can run again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use custos_messages::{Machine, ShardName, Source, Topic};
use custos_runtime::checkpoint;
use custos_runtime::metrics::Metrics;
use custos_runtime::post::Post;
use custos_runtime::shard::{Folded, fold, take_over_from};
use serde_json::{Value, json};

use crate::echo::{EchoMachine, Key, start_message};
use crate::rig::Rig;
use crate::sagas::account;
use crate::usage;

const AT_ONCE: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
const SHARD: ShardName = ShardName { machine: Machine::Accounts, partition: 0 };

/// Fills one shard with `sagas` live sagas, stops it, and takes it over: with nothing, with what a standby knows, and with what a
/// checkpoint says. Each takeover comes after the group has noticed; reading the checkpoint is told apart.
///
/// # Errors
/// The log fails, or the sagas do not begin in time.
pub fn measure(rig: &Rig, sagas: u64) -> Result<Value> {
    fill(rig, sagas)?;
    let cold = take(rig, sagas, "cold", None)?;
    let began = Instant::now();
    let followed = fold(&*rig.journal, SHARD, None)?;
    let folded = began.elapsed();
    let held = followed.as_ref().map_or(0, Folded::bytes);
    let warm = take(rig, sagas, "warm", followed)?;
    let folder = tempfile::tempdir()?;
    let fresh = fold(&*rig.journal, SHARD, None)?;
    let began = Instant::now();
    if let Some(fresh) = &fresh {
        checkpoint::write(folder.path(), SHARD, fresh)?;
    }
    let written = began.elapsed();
    drop(fresh);
    let began = Instant::now();
    let found = checkpoint::read(folder.path(), SHARD, &rig.journal.identity(SHARD.machine)?)?;
    let read = began.elapsed();
    let from_file = take(rig, sagas, "checkpoint", found)?;
    let ms = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(json!({
        "bench": "restore",
        "log": rig.name,
        "live_sagas": sagas,
        "cold": cold,
        "warm": warm,
        "from_checkpoint": from_file,
        "fold_ms": ms(folded),
        "standby_bytes_per_saga": u64::try_from(held).unwrap_or(u64::MAX) / sagas.max(1),
        "checkpoint_write_ms": ms(written),
        "checkpoint_read_ms": ms(read),
    }))
}

/// Takes the shard over, beginning with `known`.
fn take(rig: &Rig, sagas: u64, wanted: &str, known: Option<Folded>) -> Result<Value> {
    let before = usage::resident_bytes();
    let began = Instant::now();
    let mut log = rig.journal.acquire(SHARD.machine, SHARD.partition)?;
    let acquired = began.elapsed();
    let taken = take_over_from::<EchoMachine>(SHARD, &mut *log, "bench", known)?;
    let took = began.elapsed();
    let live = taken.memory.entities.keys().filter(|key| matches!(key, Key::Saga(_))).count();
    let live = u64::try_from(live).unwrap_or(u64::MAX);
    if live != sagas {
        bail!("{live} of {sagas} sagas are live after the takeover");
    }
    let grown = usage::resident_bytes().saturating_sub(before);
    let ms = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(json!({
        "began_with": wanted,
        "opening": taken.opening.name(),
        "records_read": taken.restored,
        "acquire_ms": ms(acquired),
        "total_ms": ms(took),
        "resident_bytes_per_saga": grown / sagas.max(1),
    }))
}

/// Begins `sagas` sagas that nobody answers.
fn fill(rig: &Rig, sagas: u64) -> Result<()> {
    let post = Post::new(&*rig.journal, Arc::clone(&rig.keyring), Source::Gateway, rig.partitions)?;
    let metrics = Metrics::default();
    let _host = rig.host(true, None, &metrics);
    let mut number = 0_u64;
    while number < sagas {
        let last = sagas.min(number.saturating_add(AT_ONCE));
        let mails: Result<Vec<_>, _> =
            (number..last).map(|number| start_message(number, account(number)).map(|mail| (mail, None))).collect();
        post.send_all(&mails?)?;
        number = last;
    }
    let (_, inbox) = rig.journal.bounds(Topic::Inbox(SHARD.machine), SHARD.partition)?;
    let began = Instant::now();
    while applied(&metrics) < inbox {
        if began.elapsed() > PATIENCE {
            bail!("the sagas do not begin: {} of {inbox} inputs are applied", applied(&metrics));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn applied(metrics: &Metrics) -> u64 {
    crate::sagas::counted(metrics).0
}
