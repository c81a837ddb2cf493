//! Groups in which members come, die, stand still and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use custos_journal::{
    Assignment, Faults, Feed, Journal, Membership, Provision, SimulatedCluster, SimulatedJournal, SimulatedSettings, Start,
};
use custos_messages::{Machine, Topic};

use crate::counting::{input, numbers};
use crate::run::Dice;

const TOPIC: Topic = Topic::ComplianceCommands;
const PARTITIONS: u32 = 3;
const SEEDS: u64 = 150;
const STEPS: u64 = 80;
/// How long a member may be silent.
const SESSION: Duration = Duration::from_secs(6);

fn cluster(seed: u64) -> SimulatedCluster {
    let settings = SimulatedSettings { faults: Faults::drawn(seed), ..SimulatedSettings::new(seed) };
    let cluster = SimulatedCluster::new(settings);
    let wanted = Provision { partitions: PARTITIONS, gateways: 1, replication: 1 };
    cluster.process().provision(&wanted).unwrap();
    cluster
}

fn index(drawn: u64) -> usize {
    usize::try_from(drawn).unwrap()
}

struct Reader {
    process: SimulatedJournal,
    feed: Box<dyn Feed>,
}

impl Reader {
    fn join(cluster: &SimulatedCluster) -> Self {
        let process = cluster.process();
        let feed = process.consume(TOPIC, "group").unwrap();
        Self { process, feed }
    }

    /// Polls, deals with some of it, and acknowledges that.
    fn serve(&mut self, most: usize, heard: &mut BTreeSet<(u32, u64)>) {
        let Ok(entries) = self.feed.poll(4, Duration::from_millis(100)) else { return };
        for entry in entries.iter().take(most) {
            heard.insert((entry.partition, numbers(&entry.record)[0]));
            if self.feed.acknowledge(entry.partition, entry.offset).is_err() {
                return;
            }
        }
        // Who deals with less than it was given must not go on behind it: it leaves, and another hears the rest again.
        if most < entries.len() {
            self.process.kill();
        }
    }
}

#[test]
fn a_group_hears_everything_whatever_its_members_do() {
    let (mut all, mut again) = (0, 0);
    for seed in 0..SEEDS {
        let cluster = cluster(seed);
        let mut dice = Dice::new(seed);
        let mut heard = BTreeSet::new();
        let mut readers: Vec<Reader> = Vec::new();
        let mut writer = cluster.process();
        for number in 0..STEPS {
            if writer.is_killed() {
                writer = cluster.process();
            }
            let partition = u32::try_from(dice.below(PARTITIONS.into())).unwrap();
            drop(writer.appender().and_then(|appender| appender.append(TOPIC, partition, input(number))));
            readers.retain(|reader| !reader.process.is_killed());
            match dice.below(12) {
                0..3 if readers.len() < 4 => readers.push(Reader::join(&cluster)),
                3 => drop(readers.pop()),
                4 => cluster.pass(SESSION * 2),
                5 if !readers.is_empty() => readers[0].process.kill(),
                _ => {}
            }
            let count = readers.len();
            if count > 0 {
                readers[index(dice.below(u64::try_from(count).unwrap()))].serve(index(dice.below(6)), &mut heard);
            }
        }
        cluster.heal();
        readers.clear();
        cluster.pass(SESSION * 2);
        let mut last = Reader::join(&cluster);
        let before = heard.len();
        for _ in 0..STEPS * 2 {
            last.serve(4, &mut heard);
        }
        again += heard.len() - before;
        let mut expected = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let mut feed = last.process.read(TOPIC, partition, Start::Earliest).unwrap();
            let entries = feed.poll(usize::MAX, Duration::ZERO).unwrap();
            expected.extend(entries.iter().map(|entry| (partition, numbers(&entry.record)[0])));
        }
        assert_eq!(heard, expected, "seed {seed}");
        all += expected.len();
    }
    println!("records heard in groups: {all}, {again} of them by the last member");
    assert!(all > 5_000 && again > 100);
}

struct Owner {
    process: SimulatedJournal,
    seat: Box<dyn Membership>,
    held: BTreeSet<u32>,
    revoked: Vec<u32>,
    seen: Duration,
}

impl Owner {
    fn join(cluster: &SimulatedCluster, name: u64) -> Self {
        let process = cluster.process();
        let seat = process.join(Machine::Chain, &format!("member-{name}")).unwrap();
        Self { process, seat, held: BTreeSet::new(), revoked: Vec::new(), seen: cluster.now() }
    }

    fn follow(&mut self, now: Duration) {
        let Ok(change) = self.seat.poll(Duration::ZERO) else { return };
        self.seen = now;
        match change {
            Some(Assignment::Gained(partitions)) => self.held.extend(partitions),
            Some(Assignment::Revoked(partitions)) => self.revoked = partitions,
            Some(Assignment::Lost(partitions)) => {
                self.held.retain(|held| !partitions.contains(held));
                self.revoked.clear();
            }
            None => {}
        }
    }

    fn release(&mut self) {
        let revoked = std::mem::take(&mut self.revoked);
        self.held.retain(|held| !revoked.contains(held));
        drop(self.seat.released(&revoked));
    }
}

#[test]
fn members_that_are_in_time_never_hold_the_same_shard() {
    let mut changes = 0;
    for seed in 0..SEEDS {
        let cluster = cluster(seed);
        let mut dice = Dice::new(seed);
        let mut owners: Vec<Owner> = Vec::new();
        for name in 0..STEPS * 3 {
            owners.retain(|owner| !owner.process.is_killed());
            match dice.below(30) {
                0..3 if owners.len() < 3 => owners.push(Owner::join(&cluster, name)),
                3 => drop(owners.pop()),
                4 => cluster.pass(Duration::from_secs(dice.below(8))),
                5 if !owners.is_empty() => owners[0].process.kill(),
                _ => cluster.pass(Duration::from_millis(dice.below(500))),
            }
            let count = u64::try_from(owners.len()).unwrap();
            if count > 0 {
                let owner = &mut owners[index(dice.below(count))];
                let before = owner.held.clone();
                if dice.below(3) == 0 {
                    owner.release();
                }
                owner.follow(cluster.now());
                changes += usize::from(owner.held != before);
            }
            in_time_are_disjoint(&owners, cluster.now(), seed);
        }
        cluster.heal();
        owners.retain(|owner| !owner.process.is_killed());
        owners.push(Owner::join(&cluster, u64::MAX));
        for _ in 0..20 {
            for owner in &mut owners {
                owner.release();
                owner.follow(cluster.now());
            }
            cluster.pass(Duration::from_secs(1));
        }
        let held: BTreeSet<u32> = owners.iter().flat_map(|owner| owner.held.clone()).collect();
        assert_eq!(held, (0..PARTITIONS).collect(), "seed {seed}: every shard has an owner in the end");
        in_time_are_disjoint(&owners, cluster.now(), seed);
    }
    println!("changes of assignments: {changes}");
    assert!(changes > 1_000);
}

fn in_time_are_disjoint(owners: &[Owner], now: Duration, seed: u64) {
    let mut holders: BTreeMap<u32, u32> = BTreeMap::new();
    // Who was told to give up and was slow about it is late, too.
    let in_time =
        |owner: &&Owner| !owner.process.is_killed() && owner.revoked.is_empty() && now.saturating_sub(owner.seen) <= SESSION;
    for partition in owners.iter().filter(in_time).flat_map(|owner| &owner.held) {
        let holders = holders.entry(*partition).or_default();
        *holders += 1;
        assert_eq!(*holders, 1, "seed {seed}: shard {partition} is held twice");
    }
}
