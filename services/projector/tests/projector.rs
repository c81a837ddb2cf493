//! The projector against the embedded journal and SQLite.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use custos_domain::{AccountId, Digest, IdempotencyKey, TenantId, Timestamp};
use custos_journal::{Appender, EmbeddedJournal, Journal, Provision, Start};
use custos_messages::events::{Event, EventBody, Position};
use custos_messages::{Chained, Headers, Keyring, Record, Secret, Source, Topic};
use custos_projector::{Projector, ProjectorError};
use custos_readmodel::{PageRequest, ReadError, ReadModel};
use custos_runtime::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 2;
const SOON: Duration = Duration::from_secs(30);

/// A log, who writes it, and an empty read model.
struct Stage {
    folder: tempfile::TempDir,
    journal: Arc<dyn Journal>,
    appender: Box<dyn Appender>,
    keyring: Arc<Keyring>,
    heads: BTreeMap<u32, (u64, Digest)>,
    told: u64,
}

/// A projector at work.
struct Working {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ProjectorError>>,
    projector: Projector,
    metrics: Metrics,
}

fn keyring(byte: u8) -> Arc<Keyring> {
    Arc::new(Keyring::new(BTreeMap::from([(Source::Accounts, Secret::new(&[byte; 32]).unwrap())])))
}

impl Stage {
    fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal: Arc<dyn Journal> = Arc::new(EmbeddedJournal::open(folder.path()).unwrap());
        journal.provision(&Provision { partitions: PARTITIONS, gateways: 1, replication: 1 }).unwrap();
        let appender = journal.appender().unwrap();
        Self { folder, journal, appender, keyring: keyring(7), heads: BTreeMap::new(), told: 0 }
    }

    async fn model(&self, name: &str) -> ReadModel {
        ReadModel::open(&format!("sqlite://{}", self.folder.path().join(name).display())).await.unwrap()
    }

    /// The next event of `partition`, sealed, not yet in the log.
    fn next(&mut self, partition: u32) -> Record {
        let tenant = TenantId::new("alpha").unwrap();
        self.told += 1;
        let key = IdempotencyKey::new(&format!("client-{}", self.told)).unwrap();
        let account = AccountId::derive(&tenant, key.as_str());
        let body = EventBody::AccountOpened { tenant, key };
        let event = Event { account, sequence: 1, at: Timestamp(1_700_000_000_000 + self.told), saga: None, body };
        let (last, previous) = self.heads.get(&partition).copied().unwrap_or((0, Chained::GENESIS));
        let place = Chained::place(&event, partition, last + 1, previous);
        self.heads.insert(partition, (place.sequence, place.hash));
        self.keyring.seal_event(&event, &place, None)
    }

    fn append(&self, partition: u32, record: Record) {
        self.appender.append_all(vec![(Topic::Events, partition, record)]).unwrap();
    }

    fn tell(&mut self, count: u32) {
        for n in 0..count {
            let partition = n % PARTITIONS;
            let record = self.next(partition);
            self.append(partition, record);
        }
    }

    fn work(&self, model: &ReadModel) -> Working {
        let metrics = Metrics::default();
        let projector =
            Projector::new(self.journal.clone(), self.keyring.clone(), model.clone()).counted_in(metrics.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (projector, stop) = (projector.clone(), stop.clone());
            async move { projector.run(stop).await }
        });
        Working { stop, task, projector, metrics }
    }

    async fn caught_up(&self, model: &ReadModel) {
        for (partition, (sequence, _)) in &self.heads {
            model.wait_for(Position { partition: *partition, sequence: *sequence }, SOON).await.unwrap();
        }
    }
}

impl Working {
    async fn stopped(self) -> Result<(), ProjectorError> {
        self.stop.cancel();
        self.ended().await
    }

    async fn ended(self) -> Result<(), ProjectorError> {
        tokio::time::timeout(SOON, self.task).await.expect("the projector ends").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_folded_as_they_come_and_a_restart_goes_on_where_the_read_model_stands() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    stage.tell(40);
    let working = stage.work(&model);
    stage.caught_up(&model).await;
    stage.tell(7);
    stage.caught_up(&model).await;
    working.stopped().await.unwrap();
    stage.tell(5);
    let working = stage.work(&model);
    stage.caught_up(&model).await;
    let progress = working.projector.progress();
    working.stopped().await.unwrap();
    assert_eq!(model.accounts(PageRequest::first(100)).await.unwrap().items.len(), 52);
    assert_eq!((progress.events_folded(), progress.restarts()), (5, 0), "only what was new was read again");
    let partitions = progress.partitions();
    assert_eq!(partitions.len(), 2);
    assert!(partitions.values().all(|partition| partition.lag() == 0), "{partitions:?}");
    assert_eq!(partitions[&0].position, Some(Position { partition: 0, sequence: 27 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_projectors_beside_each_other_fold_every_event_once() {
    let mut stage = Stage::set();
    let (model, other) = (stage.model("read.db").await, stage.model("read.db").await);
    let (first, second) = (stage.work(&model), stage.work(&other));
    stage.tell(200);
    stage.caught_up(&model).await;
    let folded = [&first, &second].map(|working| working.projector.progress());
    first.stopped().await.unwrap();
    second.stopped().await.unwrap();
    assert_eq!(folded.iter().map(custos_projector::Progress::events_folded).sum::<u64>(), 200);
    let alone = stage.model("alone.db").await;
    let working = stage.work(&alone);
    stage.caught_up(&alone).await;
    working.stopped().await.unwrap();
    assert_eq!(model.digest().await.unwrap(), alone.digest().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_model_that_is_emptied_under_a_running_projector_is_folded_again() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    let working = stage.work(&model);
    stage.tell(20);
    stage.caught_up(&model).await;
    model.clear().await.unwrap();
    // The log is quiet: the running projector sees by itself that it stands elsewhere.
    stage.caught_up(&model).await;
    let emptied = model.digest().await.unwrap();
    working.stopped().await.unwrap();
    let fresh = stage.model("fresh.db").await;
    let working = stage.work(&fresh);
    stage.caught_up(&fresh).await;
    working.stopped().await.unwrap();
    assert_eq!(fresh.digest().await.unwrap(), emptied);
}

/// What nobody who may write events has written into this partition.
fn foreign(stage: &mut Stage) -> Vec<(Record, &'static str)> {
    let sealed = stage.next(0);
    let place = stage.heads.insert(0, (3, Digest([0; 32])));
    let mut altered = sealed.clone();
    altered.value.as_mut().unwrap().push(0);
    let genuine = std::mem::replace(&mut stage.keyring, keyring(8));
    let stranger = stage.next(0);
    stage.keyring = genuine;
    stage.heads.extend(place.map(|place| (0, place)));
    let without = |record: &Record, name: &str| {
        let mut record = record.clone();
        record.headers.retain(|known, _| known != name);
        record
    };
    let noise = Record { key: b"k".to_vec(), value: Some(vec![7; 9]), headers: Headers::new() };
    vec![
        (Record { value: None, ..noise.clone() }, "malformed-envelope"),
        (noise, "malformed-envelope"),
        (altered, "unauthenticated"),
        (stranger, "unauthenticated"),
        (without(&sealed, "custos_auth"), "unauthenticated"),
        (without(&sealed, "ce_type"), "malformed-envelope"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_accounts_did_not_seal_for_this_place_is_put_aside_and_holds_nothing_up() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    stage.tell(6);
    let moved = stage.journal.read(Topic::Events, 0, Start::Earliest).unwrap().poll(9, SOON).unwrap();
    let mut heads = stage.heads.clone();
    let mut expected: Vec<&str> = Vec::new();
    for (record, code) in foreign(&mut stage) {
        stage.append(0, record);
        expected.push(code);
    }
    // Sealed by accounts, and for another partition.
    stage.heads = std::mem::take(&mut heads);
    moved.into_iter().for_each(|entry| stage.append(1, entry.record));
    stage.tell(4);
    let working = stage.work(&model);
    stage.caught_up(&model).await;
    let aside = |partition| {
        let mut feed = stage.journal.read(Topic::Quarantine, partition, Start::Earliest).unwrap();
        let entries = feed.poll(99, Duration::from_millis(100)).unwrap();
        entries.into_iter().map(|entry| code(&entry.record)).collect::<Vec<String>>()
    };
    assert_eq!((aside(0), aside(1)), (expected.into_iter().map(str::to_owned).collect(), vec!["misrouted".to_owned(); 3]));
    let text = working.metrics.text();
    for line in [r#"code="malformed-envelope"} 3"#, r#"code="unauthenticated"} 3"#, r#"code="misrouted"} 3"#] {
        assert!(text.contains(&format!("custos_quarantined_total{{part=\"projector\",{line}")), "{line}: {text}");
    }
    working.stopped().await.unwrap();
    assert_eq!(model.accounts(PageRequest::first(100)).await.unwrap().items.len(), 10);
}

fn code(record: &Record) -> String {
    String::from_utf8(record.headers.get("custos_quarantine_code").unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_altered_is_put_aside_and_missed_at_the_next() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    stage.tell(6);
    let mut altered = stage.next(0);
    altered.value.as_mut().unwrap().push(0);
    stage.append(0, altered);
    stage.tell(1);
    let ended = stage.work(&model).ended().await;
    assert!(matches!(ended, Err(ProjectorError::Fold(ReadError::Gap { partition: 0, expected: 4, found: 5 }))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_of_events_are_dropped_and_counted() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    stage.tell(6);
    let working = stage.work(&model);
    stage.caught_up(&model).await;
    let before = model.digest().await.unwrap();
    for entry in stage.journal.read(Topic::Events, 0, Start::Earliest).unwrap().poll(99, SOON).unwrap() {
        stage.append(0, entry.record);
    }
    let counted = || working.metrics.text().contains(r#"custos_dropped_total{part="projector",code="event-repeat"} 3"#);
    let until = tokio::time::Instant::now() + SOON;
    while !counted() {
        assert!(tokio::time::Instant::now() < until, "{}", working.metrics.text());
        tokio::task::yield_now().await;
    }
    assert_eq!(working.projector.progress().restarts(), 0);
    working.stopped().await.unwrap();
    let after = model.digest().await.unwrap();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_event_stops_the_projector_after_a_second_look() {
    let mut stage = Stage::set();
    let model = stage.model("read.db").await;
    stage.tell(4);
    let _lost = stage.next(1);
    stage.tell(2);
    let working = stage.work(&model);
    let progress = working.projector.progress();
    let ended = working.ended().await;
    let gap = matches!(ended, Err(ProjectorError::Fold(ReadError::Gap { partition: 1, expected: 3, found: 4 })));
    assert!(gap, "{ended:?}");
    // A spell that folded something may meet the gap anew; it ends all the same.
    assert!((1..=3).contains(&progress.restarts()), "{}", progress.restarts());
}
