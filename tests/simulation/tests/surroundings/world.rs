//! A world without faults of the log: machines, services and everything around them take turns on a quiet log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_accounts::Accounts;
use custos_chain::Chain;
use custos_domain::Timestamp;
use custos_journal::{Journal, Provision, SimulatedCluster, SimulatedSettings};
use custos_messages::accounts::AccountsInput;
use custos_messages::chain::ChainInput;
use custos_messages::treasury::TreasuryInput;
use custos_messages::{Keyring, Machine, Mail, ShardName, Source};
use custos_runtime::host::{Host, HostSettings, Inspect};
use custos_runtime::metrics::Metrics;
use custos_runtime::ops::Desk;
use custos_runtime::pace::{Clock, Hands, Time, Turn};
use custos_runtime::post::Post;
use custos_runtime::shard::{ShardSettings, provision_shard};
use custos_runtime::standby::StandbySettings;
use custos_saga::machine::Machine as Hosted;
use custos_simulation::actor::{Actor, Step};
use custos_simulation::chance::Streams;
use custos_simulation::diary::{Diary, Telling};
use custos_simulation::surroundings::around::{Process, adapter, follow, screener, signer};
use custos_simulation::surroundings::bank::{Bank, Workload};
use custos_simulation::surroundings::chain::SharedNetwork;
use custos_simulation::surroundings::facts::SharedFacts;
use custos_simulation::surroundings::forger::Forger;
use custos_simulation::surroundings::guard::{CheckpointPaper, GuardBase, GuardFaults};
use custos_simulation::surroundings::house::{Defence, House};
use custos_simulation::surroundings::miner::{ChainFaults, Miner};
use custos_simulation::surroundings::money::MoneyOracle;
use custos_simulation::surroundings::officers::Officers;
use custos_simulation::surroundings::outside::Outside;
use custos_simulation::time::WorldClock;
use custos_treasury::Treasury;

const PARTITIONS: u32 = 2;
/// Starts of a process after each other.
const STARTS_MAX: u32 = 100;
/// Turns without virtual time between them: more means that somebody is busy for ever.
const TURNS_MAX: u32 = 200_000;

/// What a run is.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub workload: Workload,
    pub faults: ChainFaults,
    pub guard: GuardFaults,
    /// One order in so many is forged; none if zero.
    pub forged: u64,
    pub without: Option<Defence>,
    pub telling: Telling,
}

/// The world's time, as every process of it believes it.
struct Truth(WorldClock, Instant);

impl Time for Truth {
    fn now(&self) -> Instant {
        self.1 + self.0.now()
    }

    fn date(&self) -> Timestamp {
        self.0.date()
    }
}

struct Hosting<M: Hosted> {
    host: Host<M>,
}

impl<M: Hosted> Actor for Hosting<M> {
    fn name(&self) -> &str {
        M::KIND.name()
    }

    fn step(&mut self) -> Step {
        match self.host.step() {
            Ok(Turn::Again) => Step::Busy,
            Ok(Turn::Wait(span)) => Step::Idle(span),
            Err(_) => Step::Dead,
        }
    }
}

pub struct World {
    pub diary: Diary,
    pub facts: SharedFacts,
    cluster: Arc<SimulatedCluster>,
    clock: WorldClock,
    guard: GuardBase,
    bank: Seat<Bank>,
    officers: Seat<Officers>,
    miner: Seat<Miner>,
    forger: Seat<Forger>,
    oracle: Seat<MoneyOracle>,
    others: Vec<Seat<Box<dyn Actor>>>,
}

struct Seat<A> {
    actor: A,
    wakes: Duration,
}

impl<A> Seat<A> {
    const fn new(actor: A) -> Self {
        Self { actor, wakes: Duration::ZERO }
    }
}

/// Gives the actor its turn if it is due; when it is due next, unless that is now.
fn turn(actor: &mut dyn Actor, wakes: &mut Duration, now: Duration) -> Option<Duration> {
    if *wakes <= now {
        match actor.step() {
            Step::Busy => return None,
            Step::Idle(span) => *wakes = now + span,
            Step::Dead => panic!("{} died on a quiet log", actor.name()),
        }
    }
    Some(*wakes)
}

impl World {
    pub fn new(plan: &Plan) -> Self {
        let cluster = Arc::new(SimulatedCluster::new(SimulatedSettings::new(plan.seed)));
        let clock = WorldClock::new(Arc::clone(&cluster));
        let diary = Diary::new(clock.clone(), plan.telling);
        let keyring = Arc::new(custos_testkit::keyring());
        let house = House::new(PARTITIONS, plan.without);
        provision(&cluster, &keyring, &house);
        let streams = Streams::new(plan.seed);
        let network = house.network(clock.date().0 / 1_000);
        let guard = GuardBase::new(streams.faults.fork("guard"), plan.guard, diary.clone());
        let facts = SharedFacts::default();
        let outside = || Outside::new(Arc::clone(&cluster), Arc::clone(&keyring), PARTITIONS);
        let (workload, faults) = (&streams.workload, &streams.faults);
        let bank = Bank::new(
            house.clone(),
            network.clone(),
            facts.clone(),
            diary.clone(),
            clock.clone(),
            outside(),
            workload.fork("bank"),
            plan.workload,
        );
        let officers = Officers::new(facts.clone(), diary.clone(), clock.clone(), outside(), workload.fork("officers"));
        let miner =
            Miner::new(network.clone(), clock.clone(), diary.clone(), facts.clone(), faults.fork("chain"), plan.faults);
        let forger =
            Forger::new(network.clone(), guard.clone(), diary.clone(), outside(), faults.fork("forger"), plan.forged);
        let oracle =
            MoneyOracle::new(house.clone(), network.clone(), guard.clone(), facts.clone(), diary.clone(), outside());
        let process = || process(&cluster, &keyring, &clock, &diary);
        let mut others = services(&house, &network, &guard, &process);
        others.push(host::<Accounts>(&process(), custos_accounts::inspect));
        others.push(host::<Treasury>(&process(), custos_treasury::inspect));
        others.push(host::<Chain>(&process(), custos_chain::inspect));
        Self {
            diary,
            facts,
            cluster,
            clock,
            guard,
            bank: Seat::new(bank),
            officers: Seat::new(officers),
            miner: Seat::new(miner),
            forger: Seat::new(forger),
            oracle: Seat::new(oracle),
            others: others.into_iter().map(Seat::new).collect(),
        }
    }

    /// Everybody acts until `span` has passed or `enough` is true; whether it became true.
    pub fn run(&mut self, span: Duration, mut enough: impl FnMut(&Self) -> bool) -> bool {
        let until = self.clock.now() + span;
        let mut turns = 0_u32;
        while self.clock.now() < until {
            if enough(self) {
                return true;
            }
            let now = self.clock.now();
            let mut next = Some(Duration::MAX);
            let mut sooner = |wakes: Option<Duration>| next = next.zip(wakes).map(|(one, other)| one.min(other));
            sooner(turn(&mut self.bank.actor, &mut self.bank.wakes, now));
            sooner(turn(&mut self.officers.actor, &mut self.officers.wakes, now));
            sooner(turn(&mut self.miner.actor, &mut self.miner.wakes, now));
            sooner(turn(&mut self.forger.actor, &mut self.forger.wakes, now));
            sooner(turn(&mut self.oracle.actor, &mut self.oracle.wakes, now));
            for Seat { actor, wakes } in &mut self.others {
                sooner(turn(&mut **actor, wakes, now));
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "somebody is busy for ever at {now:?}");
            if let Some(next) = next {
                let now = self.clock.now();
                if next > now {
                    self.cluster.pass(next - now);
                    turns = 0;
                }
            }
        }
        enough(self)
    }

    /// Asks for everything, heals, waits until all is settled, and compares.
    pub fn live(&mut self) {
        self.run(Duration::from_secs(6 * 3_600), |world| world.bank.actor.done() || !world.diary.violations().is_empty());
        if self.diary.violations().is_empty() {
            self.miner.actor.heal();
            self.guard.heal();
            self.forger.actor.heal();
            // Longer than the longest wait of any saga; and then until the last block is final everywhere.
            self.run(Duration::from_secs(6 * 3_600), |world| world.facts.settled());
            self.run(Duration::from_secs(180), |_| false);
            self.oracle.actor.at_rest();
        }
    }
}

fn process(cluster: &Arc<SimulatedCluster>, keyring: &Arc<Keyring>, clock: &WorldClock, diary: &Diary) -> Process {
    Process {
        journal: Arc::new(cluster.process()),
        keyring: Arc::clone(keyring),
        partitions: PARTITIONS,
        clock: Clock::of(Arc::new(Truth(clock.clone(), Instant::now()))),
        diary: diary.clone(),
    }
}

fn services(
    house: &House,
    network: &SharedNetwork,
    guard: &GuardBase,
    process: &impl Fn() -> Process,
) -> Vec<Box<dyn Actor>> {
    let paper = CheckpointPaper::default();
    let mut all = vec![
        // The database may refuse: the process is started again.
        (0..STARTS_MAX).find_map(|_| signer(house, guard, &paper, &process())).expect("a signer"),
        screener(house, &process()).expect("a screener"),
        adapter(house, network, &process()).expect("an adapter"),
    ];
    all.extend(follow(house, network, &process()).expect("followers"));
    all
}

fn host<M: Hosted>(process: &Process, inspect: Inspect<M>) -> Box<dyn Actor> {
    let clock = process.clock.clone();
    let settings = HostSettings::<M> {
        journal: Arc::clone(&process.journal),
        keyring: Arc::clone(&process.keyring),
        member: "one".to_owned(),
        partitions: PARTITIONS,
        shard: ShardSettings { clock: clock.clone(), hands: Hands::Own, ..ShardSettings::new("here:1".to_owned()) },
        standby: StandbySettings { follow: false, clock, hands: Hands::Own, ..StandbySettings::default() },
        metrics: Metrics::default(),
        inspect,
    };
    Box::new(Hosting { host: Host::open(settings, Desk::default()).expect("a host") })
}

fn provision(cluster: &Arc<SimulatedCluster>, keyring: &Arc<Keyring>, house: &House) {
    let journal = cluster.process();
    let wanted = Provision { partitions: PARTITIONS, gateways: 1, replication: 1 };
    assert_eq!(journal.provision(&wanted).expect("topics"), Vec::<String>::new());
    let post = Post::new(&journal, Arc::clone(keyring), Source::Operator, PARTITIONS).expect("a post");
    for partition in 0..PARTITIONS {
        for machine in Machine::ALL {
            let mut log = journal.acquire(machine, partition).expect("a shard");
            assert!(provision_shard(ShardName { machine, partition }, &mut *log).expect("a manifest"));
        }
        let signed = || house.signed.clone();
        for mail in [
            Mail::Accounts(AccountsInput::Policy(signed())),
            Mail::Treasury(TreasuryInput::Policy(signed())),
            Mail::Chain(ChainInput::Policy(signed())),
        ] {
            post.send_to(partition, &mail, None).expect("a policy in the log");
        }
    }
}
