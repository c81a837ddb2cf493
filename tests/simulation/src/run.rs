//! One seed, from the first record to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custos_journal::{Counts, Rate, SimulatedCluster};
use custos_testkit::{keyring, policy, policy_root};

use crate::chance::{Chance, Streams};
use crate::clients::Clients;
use crate::diary::{Diary, Telling};
use crate::ledger::EventOracle;
use crate::oracle::{Compacted, LogOracle};
use crate::process::Process;
use crate::profile::Profile;
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;
use crate::town::{orchestrator, provision, screener};
use crate::world::{Seat, World};

/// The longest time that a world has with its faults, and the most turns: where nearly every commit fails, much is done for nothing.
const TROUBLE: (Duration, u64) = (Duration::from_secs(900), 6_000);
/// How long it has to come to rest when nothing goes wrong any more.
const REST: (Duration, u64) = (Duration::from_secs(3_600), 200_000);

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Operations that ended.
    pub sagas: u64,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// Interesting cases, and how often each was met.
    pub cases: std::collections::BTreeMap<&'static str, u64>,
    /// A hash over everything that happened.
    pub trace: [u8; 32],
    /// Virtual time.
    pub lasted: Duration,
    /// Turns.
    pub turns: u64,
    /// What the log counted.
    pub counts: Counts,
    /// What happened, if it was to be kept.
    pub story: Vec<String>,
}

struct Built {
    world: World,
    processes: Vec<Seat<Process>>,
    clients: Seat<Clients>,
    events: Seat<EventOracle>,
    auditor: Seat<LogOracle>,
    facts: SharedFacts,
    /// Files of this world.
    _folder: Option<tempfile::TempDir>,
}

/// Runs the world of a profile.
///
/// # Errors
/// The world cannot be built: a folder is missing, or the log refuses its topics.
pub fn run(profile: &Profile, telling: Telling) -> anyhow::Result<Outcome> {
    let calm = custos_journal::SimulatedSettings { faults: custos_journal::Faults::NONE, ..profile.cluster(telling) };
    let cluster = Arc::new(SimulatedCluster::new(calm));
    let diary = Diary::new(WorldClock::new(Arc::clone(&cluster)), telling);
    let built = build(profile, &cluster, &diary)?;
    cluster.set_faults(profile.log);
    let was_asked = built.world.run(TROUBLE, || built.clients.lock().done());
    diary.note("world", format_args!("from now on nothing goes wrong; everything was asked: {was_asked}"));
    heal(&built);
    let at_rest = built.world.run(REST, || is_at_rest(&built));
    judge(&built, &diary, at_rest);
    let (counts, trace) = (cluster.counts(), cluster.trace());
    note_counts(&diary, &counts);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&trace).update(&diary.trace());
    let facts = built.facts.lock();
    let ended = facts.operations.values().filter(|operation| operation.ending.is_some()).count();
    let mut story = diary.story();
    story.extend(cluster.story());
    // Lines begin with their time.
    story.sort_by_key(|line| line.trim_start().split(' ').next().and_then(|at| at.parse::<u64>().ok()));
    Ok(Outcome {
        seed: profile.seed,
        sagas: u64::try_from(ended).unwrap_or(u64::MAX),
        violations: diary.violations(),
        cases: diary.cases(),
        trace: *hasher.finalize().as_bytes(),
        lasted: cluster.now(),
        turns: built.world.turns(),
        counts,
        story,
    })
}

fn build(profile: &Profile, cluster: &Arc<SimulatedCluster>, diary: &Diary) -> anyhow::Result<Built> {
    let streams = Streams::new(profile.seed);
    let keyring = Arc::new(keyring());
    let partitions = profile.partitions;
    let rules = custos_policy::Policy { partitions, ..policy() };
    provision(cluster, &keyring, &rules.sign(&policy_root())?, partitions)?;
    let folder = tempfile::Builder::new().prefix("custos-simulation-").tempdir_in(place())?;
    let list = folder.path().join("list.toml");
    std::fs::write(&list, "name = \"house\"\nversion = \"1\"\n")?;
    let (clock, facts) = (WorldClock::new(Arc::clone(cluster)), SharedFacts::default());
    let outside = || Outside::new(Arc::clone(cluster), Arc::clone(&keyring), partitions);
    let world = World::new(Arc::clone(cluster), diary.clone(), streams.schedule.clone(), profile.interleaving);
    let seat = |name: String, build| {
        let chance: Chance = streams.faults.fork(&name);
        world.seat(Process::new(&name, (Arc::clone(cluster), diary.clone()), chance, profile.process, build))
    };
    let mut processes = Vec::new();
    for number in 0..profile.orchestrators {
        let name = format!("orchestrator-{number}");
        let checkpoints = profile.checkpoints.then(|| folder.path().join(&name));
        processes.push(seat(name.clone(), orchestrator(name, profile, Arc::clone(&keyring), checkpoints, diary.clone())));
    }
    for number in 0..profile.services {
        processes.push(seat(format!("screener-{number}"), screener(list.clone(), Arc::clone(&keyring), partitions)));
    }
    let wanted = (profile.accounts, profile.operations);
    let told = (diary.clone(), clock, facts.clone());
    let clients = world.seat(Clients::new(told, outside(), streams.workload.fork("clients"), wanted));
    let events = world.seat(EventOracle::new(facts.clone(), diary.clone(), outside()));
    let compacted = if profile.log.compaction == Rate::NEVER { Compacted::Never } else { Compacted::Perhaps };
    let auditor = LogOracle::new(Arc::clone(cluster), Arc::clone(&keyring), partitions, compacted, diary.clone());
    let auditor = world.seat(auditor);
    Ok(Built { world, processes, clients, events, auditor, facts, _folder: Some(folder) })
}

/// Memory, where there is a folder for it: a simulated disk need not be durable.
fn place() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

fn heal(built: &Built) {
    built.world.heal();
    built.processes.iter().for_each(|process| process.lock().heal());
}

fn is_at_rest(built: &Built) -> bool {
    built.events.lock().look();
    let running = built.facts.lock().operations.values().any(|operation| operation.ending.is_none());
    !running && built.clients.lock().done() && built.auditor.lock().is_drained()
}

fn judge(built: &Built, diary: &Diary, at_rest: bool) {
    for process in &built.processes {
        if let Some(why) = process.lock().halted() {
            diary.violation(format!("a shard stands still: {why}"));
        }
    }
    if !at_rest {
        let facts = built.facts.lock();
        let open: Vec<String> = facts
            .operations
            .iter()
            .filter(|(_, operation)| operation.ending.is_none())
            .map(|(saga, operation)| format!("{saga} ({:?})", operation.request))
            .take(3)
            .collect();
        drop(facts);
        let asked = built.clients.lock().done();
        let drained = built.auditor.lock().is_drained();
        diary.violation(format!("no rest: asked {asked}, inboxes drained {drained}, running {open:?}"));
    }
    built.auditor.lock().at_rest();
}

fn note_counts(diary: &Diary, counts: &Counts) {
    for (happened, case) in [
        (counts.stray_ends, "a stray end hits another transaction"),
        (counts.late_arrivals, "a request arrives late"),
        (counts.lost_records, "a broker loses what it told nobody"),
        (counts.kills, "a process dies"),
    ] {
        if happened > 0 {
            diary.sometimes(case);
        }
    }
}
