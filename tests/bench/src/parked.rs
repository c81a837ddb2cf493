//! What lies still: bytes of a live saga and of a permanent idempotency key of the accounts machine, and what a million parked sagas cost
//! those that run.
//!
//! Bytes are the growth of this process's resident memory, so the allocator's own losses are in them. A live saga is a withdrawal that
//! waits for its screening: its record, its timer in both orders, and its share of the tables.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use custos_accounts::Accounts;
use custos_accounts::state::{Entity, Finished, Key};
use custos_domain::{Digest, SagaId};
use custos_messages::Source;
use custos_messages::accounts::{AccountsInput, OpenAccount, RequestWithdrawal};
use custos_runtime::shard::{Memory, Overlay};
use custos_saga::machine::{Cause, Machine as _, TimerChange, View};
use custos_testkit as kit;
use serde_json::{Value, json};

use crate::machine::deposits_and_withdrawals;
use crate::tape::{Path, Said, Tape, context};
use crate::usage;

const BATCH: u64 = 1_000;
/// Accounts over which parked sagas are spread.
const ACCOUNTS: u64 = 1_000;
/// Runs of the hot path in each shard; the fastest counts, because whatever disturbs a run makes it slower.
const RUNS: usize = 7;

/// Measures with `few` and with `many` sagas parked, each in a shard of its own, alternately.
///
/// # Errors
/// A saga does not start.
pub fn measure(few: u64, many: u64, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let tape = deposits_and_withdrawals(200, 5)?;
    let before = usage::resident_bytes();
    let mut busy = Memory::<Accounts>::default();
    park(&mut busy, 0..many)?;
    let grown = usage::resident_bytes().saturating_sub(before);
    let mut quiet = Memory::<Accounts>::default();
    park(&mut quiet, 0..few)?;
    let (mut of_few, mut of_many) = (u64::MAX, u64::MAX);
    for _ in 0..RUNS {
        of_few = of_few.min(run(&mut quiet, &tape));
        of_many = of_many.min(run(&mut busy, &tape));
    }
    tell(&json!({
        "bench": "parked",
        "what": Path::Records.about(),
        "inputs": tape.said.len(),
        "parked": [few, many],
        "ns_per_input": [of_few, of_many],
        "per_mille_of_few": of_many.saturating_mul(1_000) / of_few.max(1),
        "resident_bytes_per_live_saga": grown / many.max(1),
    }))
}

/// Measures the permanent idempotency keys of `many` ended sagas, which are all that this process holds; if `records`, as whole
/// records among the others, to compare with.
///
/// # Errors
/// A key is not kept.
pub fn keys(many: u64, records: bool, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let finished = |number: u64| Finished { fingerprint: Digest::of(&number.to_be_bytes()), completed: true };
    let before = usage::resident_bytes();
    let mut memory = Memory::<Accounts>::default();
    let began = Instant::now();
    let mut next = 0;
    while next < many {
        let last = many.min(next.saturating_add(BATCH));
        let mut overlay = Overlay::<Accounts>::default();
        for number in next..last {
            if records {
                memory.entities.insert(Key::Finished(saga(number)), Entity::Finished(finished(number)));
                continue;
            }
            overlay.entities.insert(Key::Finished(saga(number)), Some(Entity::Finished(finished(number))));
        }
        let (_, roots) = overlay.records(&memory);
        memory.merge(overlay, roots);
        next = last;
    }
    let kept_in = began.elapsed();
    give_back();
    let grown = usage::resident_bytes().saturating_sub(before);
    let held = memory.entities.len().saturating_add(memory.settled.len());
    ensure!(u64::try_from(held).ok() == Some(many), "{held} of {many} keys are kept");
    let nanos = |took: Duration| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / many.max(1);
    tell(&json!({
        "bench": "keys",
        "kept_as": if records { "records" } else { "what is left of them" },
        "keys": many,
        "resident_bytes": grown,
        "bytes_per_key": grown / many.max(1),
        "ns_per_key_kept": nanos(kept_in),
    }))
}

/// Waits until the allocator has given back what was only used on the way: it does so after a while, when it is asked for more.
fn give_back() {
    for _ in 0..30 {
        drop(std::hint::black_box(vec![1_u8; 1 << 20]));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn saga(number: u64) -> SagaId {
    let account = kit::account(&format!("parked-{}", number % ACCOUNTS));
    SagaId::derive(&account, "withdrawal", &number.to_be_bytes())
}

/// Starts sagas that nobody answers.
fn park(memory: &mut Memory<Accounts>, numbers: std::ops::Range<u64>) -> Result<()> {
    if memory.entities.is_empty() {
        let policy = kit::policy().sign(&kit::policy_root())?;
        apply(memory, vec![(Source::Operator, AccountsInput::Policy(policy))]);
        for client in 0..ACCOUNTS {
            let key = kit::key(&format!("parked-{client}"));
            let account = kit::account(key.as_str());
            apply(
                memory,
                vec![(Source::Gateway, AccountsInput::OpenAccount(OpenAccount { tenant: kit::tenant(), account, key }))],
            );
            if let Some(Entity::Account(account)) = memory.entities.get_mut(&Key::Account(account)) {
                account.balances.entry(kit::asset("ETH")).or_default().available = kit::ether("100000000");
            }
        }
    }
    let (mut next, end) = (numbers.start, numbers.end);
    while next < end {
        let last = end.min(next.saturating_add(BATCH));
        apply(memory, (next..last).map(request).collect());
        next = last;
    }
    let live = memory.entities.keys().filter(|key| matches!(key, Key::Saga(_))).count();
    ensure!(u64::try_from(live).ok() == Some(end), "{live} of {end} sagas are parked");
    Ok(())
}

fn request(number: u64) -> Said<Accounts> {
    let request = RequestWithdrawal {
        account: kit::account(&format!("parked-{}", number % ACCOUNTS)),
        key: kit::key(&format!("parked-{number}")),
        fingerprint: Digest::of(&number.to_be_bytes()),
        asset: kit::asset("ETH"),
        amount: kit::ether("0.001"),
        to: kit::address("shop"),
        fee_max: kit::ether("0.01"),
    };
    (Source::Gateway, AccountsInput::RequestWithdrawal(request))
}

fn apply(memory: &mut Memory<Accounts>, batch: Vec<Said<Accounts>>) {
    let mut overlay = Overlay::<Accounts>::default();
    for (source, message) in batch {
        let mut view = View::beside(&memory.settled, &memory.entities, &mut overlay.entities);
        let effects = Accounts::apply(&mut view, Cause::Message { source, message }, &context());
        for change in effects.timers {
            match change {
                TimerChange::Arm(id, due) => overlay.timers.insert(id, Some(due)),
                TimerChange::Disarm(id) => overlay.timers.insert(id, None),
            };
        }
    }
    let (_, roots) = overlay.records(memory);
    memory.merge(overlay, roots);
}

/// Nanoseconds per input of a run of the tape, on accounts and sagas of its own beside what is parked.
fn run(memory: &mut Memory<Accounts>, tape: &Tape<Accounts>) -> u64 {
    let settled = memory.settled.clone();
    let batches: Vec<Vec<Said<Accounts>>> = tape.said.chunks(1_000).map(<[Said<Accounts>]>::to_vec).collect();
    let began = Instant::now();
    batches.into_iter().for_each(|batch| apply(memory, batch));
    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    forget(memory, tape);
    memory.settled = settled;
    nanos / u64::try_from(tape.said.len()).unwrap_or(1).max(1)
}

/// What the tape left is taken out again, so that each run does the same.
fn forget(memory: &mut Memory<Accounts>, tape: &Tape<Accounts>) {
    for key in tape.state.keys().filter(|key| !matches!(key, Key::Policy | Key::House)) {
        memory.entities.remove(key);
    }
}
