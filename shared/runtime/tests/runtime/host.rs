//! Hosts share a machine's shards, and a shard that stands still disturbs no other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use custos_domain::Digest;
use custos_journal::{Feed, JournalError, Start};
use custos_messages::Machine;
use custos_runtime::checkpoint;
use custos_runtime::host::{HostSettings, run_host};
use custos_runtime::metrics::Metrics;
use custos_runtime::ops::Desk;
use custos_runtime::replay::verify;
use custos_runtime::shard::{Condition, Folded, Manifest, ShardStop, is_manifest};
use custos_runtime::standby::StandbySettings;

use crate::stage::diary::Diary;
use crate::stage::{PARTITIONS, PATIENCE, STATE, Stage, shard};

struct Hosting {
    desk: Desk,
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
        standby: stage.standby.clone(),
        metrics: stage.metrics.clone(),
        inspect: |_, _, _| Vec::new(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let desk = Desk::default();
    let shown = desk.clone();
    Hosting { desk, stop, thread: thread::spawn(move || run_host(&settings, &shown, &seen)) }
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

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn where_a_shard_stands_and_why_can_be_seen_from_outside_also_when_it_stands_still() {
    let stage = Stage::new();
    stage.put(0, "before event tell:9:nowhere");
    stage.put(0, "arm:a:60000");
    stage.put(1, "panic");
    let host = host(&stage, "only");
    let place = |partition| host.desk.standing(shard(partition)).and_then(|standing| standing.place);
    until("the first shard runs", || place(0).is_some_and(|place| place.next == 2));
    let place = place(0).unwrap();
    assert_eq!((place.records, place.timers, place.outbox, place.event_sequence, place.logic), (1, 1, 1, 1, 1));
    assert_eq!((place.attempt, place.waits_for.map(|id| id.sequence)), (2, Some(1)));
    let reason = || host.desk.standing(shard(1)).map(|standing| standing.condition);
    until("the second stands still", || matches!(reason(), Some(Condition::Halted(why)) if why.contains("panicked")));
    let shows = |line: &str| stage.metrics.text().lines().any(|shown| shown == line);
    until("the gauges show it", || shows("custos_shard_state_records{machine=\"accounts\",partition=\"0\"} 1"));
    assert!(shows("custos_shard_lag_inputs{machine=\"accounts\",partition=\"0\"} 0"));
    assert!(shows("custos_shard_lag_inputs{machine=\"accounts\",partition=\"1\"} 1"), "{}", stage.metrics.text());
    assert!(shows("custos_shard_outbox_messages{machine=\"accounts\",partition=\"0\"} 1"));
    host.end();
    assert!(!stage.metrics.text().contains("custos_shard_lag_inputs{"), "what nobody holds shows nothing");
}

#[test]
fn a_shard_is_counted_as_held_until_it_is_fenced_or_given_up_and_once_only() {
    let stage = Stage::new();
    let host = host(&stage, "only");
    until("both are held", || shows(&stage.metrics, "custos_shards_owned", |shards| shards == 2));
    let rival = stage.journal.acquire(Machine::Accounts, 0).unwrap();
    stage.put(0, "event");
    until("the first is fenced", || shows(&stage.metrics, "custos_shards_owned", |shards| shards == 1));
    host.end();
    assert!(shows(&stage.metrics, "custos_shards_owned", |shards| shards == 0), "{}", stage.metrics.text());
    drop(rival);
}

#[test]
fn the_group_is_told_how_far_each_shard_has_come() {
    let stage = Stage::new();
    stage.put(0, "event");
    stage.put(0, "event");
    let host = host(&stage, "only");
    until("both are noted", || (stage.faults.noted(0), stage.faults.noted(1)) == (Some(2), Some(0)));
    host.end();
}

/// Follows at once, and writes checkpoints whenever something moved.
fn eager(checkpoints: Option<&std::path::Path>) -> StandbySettings {
    StandbySettings {
        checkpoints: checkpoints.map(std::path::Path::to_path_buf),
        checkpoint_every: Duration::ZERO,
        checkpoint_records: 1,
        settle: Duration::ZERO,
        ..StandbySettings::default()
    }
}

fn shows(metrics: &Metrics, name: &str, wanted: impl Fn(u64) -> bool) -> bool {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{machine=\"accounts\"} "));
    line.is_some_and(|value| wanted(value.parse().unwrap()))
}

#[test]
fn a_host_that_followed_takes_over_warm() {
    let mut stage = Stage::new();
    let mut watches = [Watch::on(&stage, 0), Watch::on(&stage, 1)];
    let first = host(&stage, "first");
    for watch in &mut watches {
        watch.until(|manifest| manifest.owner == "first");
    }
    for partition in 0..PARTITIONS {
        stage.put(partition, "event");
    }
    watches.iter_mut().for_each(|watch| drop(watch.until(|manifest| manifest.next == 1)));
    stage.standby = eager(None);
    stage.metrics = Metrics::default();
    let second = host(&stage, "second");
    watches[1].until(|manifest| manifest.owner == "second");
    until("the second follows the shard of the first", || {
        shows(&stage.metrics, "custos_standby_shards", |shards| shards == 1)
            && shows(&stage.metrics, "custos_standby_bytes", |bytes| bytes > 0)
    });
    stage.put(0, "event again");
    watches[0].until(|manifest| manifest.next == 2);
    let warm = stage.opened("warm");
    first.end();
    watches[0].until(|manifest| manifest.owner == "second");
    until("the takeover was warm", || stage.opened("warm") == warm + 1);
    stage.put(0, "event last");
    watches[0].until(|manifest| manifest.next == 3);
    second.end();
    assert_eq!(stage.opened("misfit"), 0);
    assert_eq!(stage.heard(0, "requests"), ["event", "event again", "event last"]);
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn a_host_that_comes_back_takes_over_from_its_checkpoints_and_ignores_damaged_ones() {
    let mut stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    stage.standby = eager(Some(folder.path()));
    stage.put(0, "event");
    let first = host(&stage, "first");
    Watch::on(&stage, 0).until(|manifest| manifest.next == 1);
    let log = stage.journal.identity(Machine::Accounts).unwrap();
    let rests_past = |partition, next| {
        let found = checkpoint::read(folder.path(), shard(partition), &log).unwrap();
        let manifest =
            found.as_ref().and_then(|folded| folded.manifest()).map(|seated| Manifest::read(&seated.value).unwrap());
        manifest.is_some_and(|manifest| manifest.owner == "first" && manifest.next >= next)
    };
    until("both have a checkpoint", || rests_past(0, 1) && rests_past(1, 0));
    first.end();
    let (cold, warm) = (stage.opened("cold"), stage.opened("warm"));
    assert_eq!(cold + warm, 2);
    stage.standby = StandbySettings { follow: false, checkpoint_every: Duration::from_secs(3_600), ..stage.standby };
    let second = host(&stage, "second");
    until("both are warm", || stage.opened("warm") == warm + 2);
    second.end();
    let path = checkpoint::path_of(folder.path(), shard(0));
    std::fs::write(&path, b"custos checkpoint\nnonsense").unwrap();
    let refused = |count| shows(&stage.metrics, "custos_checkpoints_refused_total", |shown| shown >= count);
    assert!(!refused(1));
    let third = host(&stage, "third");
    until("one is cold", || (stage.opened("cold"), stage.opened("warm")) == (cold + 1, warm + 3));
    third.end();
    assert!(refused(1));
    assert_eq!(stage.heard(0, "requests"), ["event"]);
}

#[test]
fn a_checkpoint_that_lost_a_record_costs_one_cold_takeover_and_is_replaced_by_one_that_fits() {
    let mut stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    stage.put(0, "event arm:a:3600000");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let mut short = Folded::default();
    // A timer, which no later transaction says again.
    let timer = [0x02, b'a'];
    stage.read(STATE, 0).into_iter().filter(|entry| entry.record.key != timer).for_each(|entry| short.see(entry));
    checkpoint::write(folder.path(), shard(0), &short).unwrap();
    stage.standby = StandbySettings { follow: false, settle: Duration::from_secs(1), ..eager(Some(folder.path())) };
    let log = stage.journal.identity(Machine::Accounts).unwrap();
    let fits = || checkpoint::read(folder.path(), shard(0), &log).unwrap().is_some_and(|folded| folded.fits());
    assert!(!fits());
    let host = host(&stage, "only");
    until("the takeover threw it away", || stage.opened("misfit") == 1);
    stage.put(0, "event again");
    Watch::on(&stage, 0).until(|manifest| manifest.next == 2);
    until("it is replaced", fits);
    host.end();
    assert!(shows(&stage.metrics, "custos_checkpoints_refused_total", |shown| shown >= 1));
    stage.standby.checkpoint_every = Duration::from_secs(3_600);
    let again = self::host(&stage, "again");
    let warm = stage.opened("warm");
    until("the next takeovers are warm", || stage.opened("warm") > warm);
    again.end();
    assert_eq!((stage.opened("misfit"), stage.heard(0, "requests").len()), (1, 2));
}
