//! Hosts share a machine's shards, and a shard that stands still disturbs no other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use custos_domain::Digest;
use custos_journal::{Feed, JournalError, Start};
use custos_runtime::host::{HostSettings, run_host};
use custos_runtime::ops::Desk;
use custos_runtime::shard::{Manifest, is_manifest};

use crate::stage::diary::Diary;
use crate::stage::{PARTITIONS, PATIENCE, STATE, Stage};

struct Hosting {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), JournalError>>,
}

fn host(stage: &Stage, name: &str) -> Hosting {
    let mut shard = stage.settings.clone();
    shard.advertise = name.to_owned();
    let settings = HostSettings::<Diary> {
        journal: Arc::clone(&stage.journal),
        keyring: Arc::clone(&stage.keyring),
        member: name.to_owned(),
        partitions: PARTITIONS,
        shard,
        metrics: stage.metrics.clone(),
        inspect: |_, _| Vec::new(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    Hosting { stop, thread: thread::spawn(move || run_host(&settings, &Desk::default(), &seen)) }
}

impl Hosting {
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

/// Reads the manifests of a shard until one of them is as awaited.
struct Watch(Box<dyn Feed>);

impl Watch {
    fn on(stage: &Stage, partition: u32) -> Self {
        Self(stage.journal.read(STATE, partition, Start::Earliest).unwrap())
    }

    fn until(&mut self, done: impl Fn(&Manifest) -> bool) -> Manifest {
        loop {
            let entries = self.0.poll(1, PATIENCE).unwrap();
            let entry = entries.into_iter().next().expect("the shard never came there");
            if is_manifest(&entry.record) {
                let manifest = Manifest::read(&entry.record.value.unwrap()).unwrap();
                if done(&manifest) {
                    return manifest;
                }
            }
        }
    }
}

#[test]
fn two_hosts_share_the_shards_and_the_one_that_stays_takes_over() {
    let stage = Stage::new();
    let mut watches = [Watch::on(&stage, 0), Watch::on(&stage, 1)];
    let first = host(&stage, "first");
    for watch in &mut watches {
        watch.until(|manifest| manifest.owner == "first");
    }
    let second = host(&stage, "second");
    let mut both = watches.iter_mut();
    both.nth(1).unwrap().until(|manifest| manifest.owner == "second");
    for partition in 0..PARTITIONS {
        stage.put(partition, "shared event");
    }
    let owners: BTreeSet<String> =
        watches.iter_mut().map(|watch| watch.until(|manifest| manifest.next == 1).owner).collect();
    assert_eq!(owners, BTreeSet::from(["first".to_owned(), "second".to_owned()]));
    first.end();
    watches[0].until(|manifest| manifest.owner == "second");
    for partition in 0..PARTITIONS {
        stage.put(partition, "alone event");
    }
    for watch in &mut watches {
        let manifest = watch.until(|manifest| manifest.next == 2);
        assert_eq!((manifest.owner.as_str(), manifest.event_sequence), ("second", 2));
    }
    second.end();
    for partition in 0..PARTITIONS {
        assert_eq!(stage.heard(partition, "requests"), ["shared event", "alone event"]);
    }
}

fn halted(stage: &Stage) -> bool {
    stage.metrics.text().contains("custos_shard_halted{machine=\"accounts\",partition=\"0\"} 1")
}

#[test]
fn a_shard_that_cannot_be_taken_over_stands_still_and_the_other_runs() {
    let stage = Stage::new();
    let bad = Manifest { state_root: Digest([1; 32]), ..stage.manifest(0) };
    stage.append(STATE, 0, bad.record());
    for partition in 0..PARTITIONS {
        stage.put(partition, "event");
    }
    let host = host(&stage, "only");
    Watch::on(&stage, 1).until(|manifest| manifest.next == 1);
    host.end();
    assert_eq!(stage.heard(1, "requests"), ["event"]);
    assert_eq!(stage.heard(0, "requests"), Vec::<String>::new());
    assert_eq!(stage.manifest(0), bad, "it was not touched");
}

#[test]
fn a_machine_that_panics_stops_its_shard_with_a_page_and_no_other() {
    let stage = Stage::new();
    stage.put(0, "before");
    stage.put(0, "after");
    stage.put(0, "panic");
    stage.put(1, "event");
    let host = host(&stage, "only");
    Watch::on(&stage, 0).until(|manifest| manifest.next == 2);
    Watch::on(&stage, 1).until(|manifest| manifest.next == 1);
    while !halted(&stage) {
        thread::yield_now();
    }
    host.end();
    assert!(!halted(&stage), "nothing is held any more");
    assert_eq!(stage.heard(0, "requests"), ["before", "after"]);
    assert_eq!(stage.heard(1, "requests"), ["event"]);
}
