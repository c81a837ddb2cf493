//! One seed, from the first record to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custos_compliance::{Compliance, Lists};
use custos_journal::{Counts, Defences, Journal, Rate, SimulatedCluster};
use custos_messages::{Machine, Topic};
use custos_testkit::{keyring, policy, policy_root};

use crate::chance::{Chance, Streams};
use crate::diary::{Diary, Telling};
use crate::oracle::{Compacted, LogOracle, Torn};
use crate::people::{Known, Outsiders, People};
use crate::process::Process;
use crate::profile::Profile;
use crate::release::{Changes, Operator};
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::house::House;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;
use crate::town::{adapter, follower, orchestrator, provision, screener, signer};
use crate::world::{Seat, World};

/// The longest time that a world has with its faults, and the most turns: where nearly every commit fails, much is done for nothing.
const TROUBLE: (Duration, u64) = (Duration::from_secs(900), 6_000);
/// The same where there is a chain: blocks take their time.
const TROUBLE_OUTSIDE: (Duration, u64) = (Duration::from_secs(1_800), 12_000);
/// The same where payments are to be made and settled under the faults.
const TROUBLE_LONG: (Duration, u64) = (Duration::from_secs(3_600), 60_000);
/// How long it has to come to rest when nothing goes wrong any more.
const REST: (Duration, u64) = (Duration::from_secs(3_600), 200_000);
/// The same where officers may be waited for, and fees.
const REST_OUTSIDE: (Duration, u64) = (Duration::from_secs(6 * 3_600), 800_000);
/// Until the last block with something of ours in it is final everywhere.
const FINALITY: Duration = Duration::from_secs(180);
/// How long a shard has to meet what was cut off its inbox.
const CUT: Duration = Duration::from_secs(120);
/// Records that are cut off.
const CUT_RECORDS: u64 = 3;

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
    orchestrators: Vec<Seat<Process>>,
    services: Vec<Seat<Process>>,
    people: People,
    auditor: Seat<LogOracle>,
    operator: Option<Seat<Operator>>,
    facts: SharedFacts,
    /// Files of this world.
    _folder: Option<tempfile::TempDir>,
}

impl Built {
    /// Whether an operation has not ended.
    fn running(&self) -> bool {
        self.facts.lock().operations.values().any(|operation| operation.ending.is_none())
    }
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
    let trouble = match (&profile.outside, profile.long) {
        (None, _) => TROUBLE,
        (Some(_), false) => TROUBLE_OUTSIDE,
        (Some(_), true) => TROUBLE_LONG,
    };
    // Where there is a chain, what was asked is paid under the faults, too.
    let was_asked = built.world.run(trouble, || built.people.asked() && !(built.people.outsiders() && built.running()));
    diary.note("world", format_args!("from now on nothing goes wrong; everything was asked: {was_asked}"));
    heal(&built);
    if cluster.counts().markers_forgotten > 0 {
        // What a shard committed last may be open still, until it commits again or is taken over, and then readers of its state see
        // what was before.
        built.orchestrators.iter().for_each(|process| process.lock().kill());
    }
    let at_rest = if profile.cut { cut(&built, &cluster, &diary) } else { rest(&built) };
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
    let house = profile.outside.map(|outside| House::new(partitions, outside.without));
    let rules = match &house {
        Some(house) => house.signed.clone(),
        None => custos_policy::Policy { partitions, ..policy() }.sign(&policy_root())?,
    };
    let changes = |house: &&House| profile.outside.is_some_and(|outside| outside.next_policy) && house.without.is_none();
    let next_policy = house.as_ref().filter(changes).map(House::next_policy);
    provision(cluster, &keyring, &rules, partitions)?;
    let folder = tempfile::Builder::new().prefix("custos-simulation-").tempdir_in(place())?;
    let facts = SharedFacts::default();
    let world = World::new(Arc::clone(cluster), diary.clone(), streams.schedule.clone(), profile.interleaving);
    let seat = |name: String, build| {
        let chance: Chance = streams.faults.fork(&name);
        world.seat(Process::new(&name, (Arc::clone(cluster), diary.clone()), chance, profile.process, build))
    };
    let orchestrators = (0..profile.orchestrators).map(|number| {
        let name = format!("orchestrator-{number}");
        let checkpoints = profile.checkpoints.then(|| folder.path().join(&name));
        seat(name.clone(), orchestrator(name, profile, Arc::clone(&keyring), checkpoints, diary.clone()))
    });
    let orchestrators: Vec<Seat<Process>> = orchestrators.collect();
    let outside = house.map(|house| Outsiders::new(house, cluster, diary, &streams.faults, profile));
    let mut services = Vec::new();
    for number in 0..profile.services {
        let of = |name: &str| format!("{name}-{number}");
        let keyring = || Arc::clone(&keyring);
        let house = outside.as_ref().map(|outside| outside.house.clone());
        let lists = move || house.as_ref().map_or_else(|| Compliance::of(Lists::default()), House::compliance);
        services.push(seat(of("screener"), screener(lists, (profile.unanswered, diary.clone()), keyring(), partitions)));
        if let Some(Outsiders { house, network, guard }) = &outside {
            let (house, network) = (|| house.clone(), || network.clone());
            services.push(seat(of("signer"), signer(house(), guard.clone(), keyring(), partitions)));
            services.push(seat(of("adapter"), adapter(house(), network(), keyring(), partitions)));
            // Nobody runs two: they would say everything twice.
            if number == 0 {
                services.push(seat(of("follower"), follower(house(), network(), keyring(), partitions)));
            }
        }
    }
    let log = || Outside::new(Arc::clone(cluster), Arc::clone(&keyring), partitions);
    let known = Known { profile, diary, facts: &facts, log: &log, streams: &streams, cluster };
    let people = People::seat(&world, &known, outside);
    let compacted = if profile.log.compaction == Rate::NEVER { Compacted::Never } else { Compacted::Perhaps };
    let torn = if profile.defences == Defences::ALL { Torn::Never } else { Torn::Perhaps };
    let auditor = LogOracle::new(Arc::clone(cluster), Arc::clone(&keyring), partitions, (compacted, torn), diary.clone());
    let auditor = world.seat(auditor);
    let hosts = || orchestrators.iter().map(|process| process.lock().installed()).collect();
    let changes = Changes { hosts: profile.rolling.then(hosts), policy: next_policy };
    let operator = (changes.hosts.is_some() || changes.policy.is_some()).then(|| {
        let (clock, chance) = (WorldClock::new(Arc::clone(cluster)), streams.workload.fork("operator"));
        world.seat(Operator::new(diary.clone(), clock, log(), chance, changes))
    });
    Ok(Built { world, orchestrators, services, people, auditor, operator, facts, _folder: Some(folder) })
}

/// Memory, where there is a folder for it: a simulated disk need not be durable.
fn place() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

fn heal(built: &Built) {
    built.world.heal();
    built.orchestrators.iter().chain(&built.services).for_each(|process| process.lock().heal());
    built.people.heal();
}

/// Whether the world came to rest.
fn rest(built: &Built) -> bool {
    let limit = if built.people.outsiders() { REST_OUTSIDE } else { REST };
    if !built.world.run(limit, || is_at_rest(built)) {
        return false;
    }
    if built.people.outsiders() {
        built.world.run((FINALITY, limit.1), || false);
    }
    built.world.run(limit, || is_at_rest(built))
}

fn is_at_rest(built: &Built) -> bool {
    built.people.look();
    let changing = built.operator.as_ref().is_some_and(|operator| !operator.lock().done())
        || built.orchestrators.iter().any(|process| process.lock().is_outdated());
    !built.running() && !changing && built.people.asked() && built.auditor.lock().is_drained()
}

/// Takes away the last inputs of a shard while nobody has it, and lets everybody go on.
fn cut(built: &Built, cluster: &SimulatedCluster, diary: &Diary) -> bool {
    rest(built);
    built.orchestrators.iter().for_each(|process| process.lock().kill());
    let inbox = Topic::Inbox(Machine::Accounts);
    let end = cluster.process().bounds(inbox, 0).map_or(0, |(_, end)| end);
    cluster.truncate(inbox, 0, end.saturating_sub(CUT_RECORDS));
    diary.note("world", format_args!("the last {CUT_RECORDS} records of an inbox are lost"));
    built.people.remind();
    built.world.run((CUT, REST.1), || false);
    true
}

fn judge(built: &Built, diary: &Diary, at_rest: bool) {
    for process in &built.orchestrators {
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
        let asked = built.people.asked();
        let drained = built.auditor.lock().is_drained();
        diary.violation(format!("no rest: asked {asked}, inboxes drained {drained}, running {open:?}"));
    }
    built.people.at_rest();
    built.auditor.lock().at_rest();
}

fn note_counts(diary: &Diary, counts: &Counts) {
    for (happened, case) in [
        (counts.stray_ends, "a stray end hits another transaction"),
        (counts.late_arrivals, "a request arrives late"),
        (counts.lost_records, "a broker loses what it told nobody"),
        (counts.slow_writes, "a broker's disk is slow"),
        (counts.leaders_behind, "a new leader knows of less than was committed"),
        (counts.markers_forgotten, "a broker forgets to end a transaction"),
        (counts.kills, "a process dies"),
    ] {
        if happened > 0 {
            diary.sometimes(case);
        }
    }
}
