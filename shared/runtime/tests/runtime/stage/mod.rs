//! A machine that keeps a diary of everything it hears, and a stage to run its shards on: the embedded log behind a layer of faults.

pub mod diary;
pub mod faults;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use custos_domain::{CommandId, Digest, partition_of};
use custos_journal::{EmbeddedJournal, Entry, Journal, Provision, Start};
use custos_messages::accounts::{AccountsInput, Finding, OpenAccount, Screened};
use custos_messages::{Keyring, Machine, Postmark, Record, ReplyTo, ShardName, Source, Topic};
use custos_runtime::metrics::Metrics;
use custos_runtime::replay::{StateRecords, standing};
use custos_runtime::shard::{
    Folded, HeadStart, Identity, Manifest, Progress, ShardContext, ShardSettings, ShardStop, is_header, is_manifest,
    is_outbox_key, provision_shard, run_shard,
};
use custos_runtime::standby::StandbySettings;
use custos_saga::machine::Machine as Hosted;

use diary::{Diary, Page};
use faults::{Faults, Faulty};

pub const PARTITIONS: u32 = 2;
/// Longer than any test waits; only a test that fails comes here.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Stage {
    pub journal: Arc<dyn Journal>,
    pub faults: Arc<Faults>,
    pub keyring: Arc<Keyring>,
    pub metrics: Metrics,
    pub settings: ShardSettings,
    pub head_start: Option<HeadStart>,
    pub standby: StandbySettings,
    dir: Option<tempfile::TempDir>,
}

pub fn shard(partition: u32) -> ShardName {
    ShardName { machine: Machine::Accounts, partition }
}

pub const INBOX: Topic = Topic::Inbox(Machine::Accounts);
pub const STATE: Topic = Topic::State(Machine::Accounts);

impl Stage {
    /// Topics, and no manifest yet.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Self::at(dir.path());
        stage.dir = Some(dir);
        stage
    }

    /// Topics and provisioned shards.
    pub fn new() -> Self {
        let stage = Self::bare();
        stage.provision();
        stage
    }

    /// The first manifest of each shard.
    pub fn provision(&self) {
        for partition in 0..PARTITIONS {
            let mut log = self.journal.acquire(Machine::Accounts, partition).unwrap();
            assert!(provision_shard(shard(partition), &mut *log).unwrap());
        }
    }

    fn at(dir: &Path) -> Self {
        Self::on(Arc::new(EmbeddedJournal::open(dir).unwrap()))
    }

    /// Topics on any log, and no manifest yet.
    pub fn on(inner: Arc<dyn Journal>) -> Self {
        let wanted = Provision { partitions: PARTITIONS, gateways: 2, replication: 1 };
        assert_eq!(inner.provision(&wanted).unwrap(), Vec::<String>::new());
        let faults = Arc::new(Faults::default());
        let settings = ShardSettings {
            batch_records: 2,
            idle_wait: Duration::from_millis(5),
            timer_again: Duration::from_millis(20),
            ..ShardSettings::new("here:1".to_owned())
        };
        Self {
            journal: Arc::new(Faulty { inner, faults: Arc::clone(&faults) }),
            faults,
            keyring: Arc::new(custos_testkit::keyring()),
            metrics: Metrics::default(),
            settings,
            head_start: None,
            standby: StandbySettings::default(),
            dir: None,
        }
    }

    pub fn append(&self, topic: Topic, partition: u32, record: Record) {
        self.journal.appender().unwrap().append(topic, partition, record).unwrap();
    }

    pub fn request(&self, script: &str, mark: Postmark) -> Record {
        self.request_at(0, script, mark)
    }

    /// A request of an account whose home is `partition`.
    fn request_at(&self, partition: u32, script: &str, mark: Postmark) -> Record {
        let (tenant, key) = (custos_testkit::tenant(), custos_testkit::key(script));
        let accounts = (0..).map(|number| custos_testkit::account(&format!("client {number}")));
        let mut at_home = accounts.filter(|account| partition_of(account.as_bytes(), PARTITIONS) == partition);
        let open = AccountsInput::OpenAccount(OpenAccount { tenant, account: at_home.next().unwrap(), key });
        self.keyring.seal_message(INBOX, Source::Gateway, &open, mark)
    }

    /// The screener's answer to some question.
    pub fn answer(&self) -> Record {
        let saga = custos_testkit::saga("ann", "withdrawal", "1");
        let command = CommandId::derive(b"diary", "screen", 1, &Digest([0; 32]));
        let screened = AccountsInput::Screened(Screened { command, saga, finding: Finding::Clear, versions: Vec::new() });
        self.keyring.seal_message(INBOX, Source::Compliance, &screened, Postmark::default())
    }

    /// Puts a script into an inbox.
    pub fn put(&self, partition: u32, script: &str) {
        self.append(INBOX, partition, self.request_at(partition, script, Postmark::default()));
    }

    pub fn put_for_reply(&self, partition: u32, script: &str, instance: u32) {
        let reply_to = Some(ReplyTo { instance, correlation: [7; 16] });
        self.append(INBOX, partition, self.request_at(partition, script, Postmark { reply_to, ..Postmark::default() }));
    }

    pub fn identity(&self, partition: u32) -> Identity {
        Identity {
            shard: shard(partition),
            partitions: PARTITIONS,
            source: Source::Accounts,
            keyring: Arc::clone(&self.keyring),
            ahead: true,
        }
    }

    /// Runs a shard on this thread until it has applied its whole inbox, or stops by itself.
    pub fn run(&self, partition: u32) -> ShardStop {
        let (_, end) = self.journal.bounds(INBOX, partition).unwrap();
        self.run_until(partition, move |manifest, _| manifest.next >= end)
    }

    /// Runs a shard until `done` holds for what it has committed.
    pub fn run_until(
        &self,
        partition: u32,
        done: impl Fn(&Manifest, &StateRecords) -> bool + Send + Sync + 'static,
    ) -> ShardStop {
        self.run_machine::<Diary>(partition, done)
    }

    /// The same with a machine of any logic.
    pub fn run_machine<M: Hosted>(
        &self,
        partition: u32,
        done: impl Fn(&Manifest, &StateRecords) -> bool + Send + Sync + 'static,
    ) -> ShardStop {
        let journal = Arc::clone(&self.journal);
        let holds = move || standing(&*journal, shard(partition)).is_ok_and(|(manifest, state)| done(&manifest, &state));
        let stop = Arc::new(AtomicBool::new(holds()));
        let mut settings = self.settings.clone();
        let (raise, inner) = (Arc::clone(&stop), settings.interrupt.take());
        settings.interrupt = Some(Arc::new(move |point| {
            if let Some(inner) = &inner {
                inner(point);
            }
            if point == "committed" && holds() {
                raise.store(true, Ordering::Release);
            }
        }));
        let (_ask, questions) = channel();
        self.faults.set_deadline(Instant::now() + PATIENCE);
        run_shard::<M>(ShardContext {
            journal: Arc::clone(&self.journal),
            identity: self.identity(partition),
            settings,
            stop,
            questions,
            metrics: self.metrics.shard(shard(partition)),
            head_start: self.head_start.clone(),
            progress: Progress::default(),
        })
    }

    /// Runs a shard again and again until it ends well; how often it was taken over again.
    pub fn run_through(&self, partition: u32) -> usize {
        for again in 0..20 {
            match self.run(partition) {
                ShardStop::Released => return again,
                ShardStop::TakeOver(_) | ShardStop::Fenced(_) => {}
                other => panic!("{}", custos_runtime::shard::describe(&other)),
            }
        }
        panic!("the shard never came through");
    }

    /// How many takeovers began with `opening`.
    pub fn opened(&self, opening: &str) -> u64 {
        let name = format!("custos_takeover_seconds_count{{machine=\"accounts\",opening=\"{opening}\"}} ");
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// What somebody knows who has seen the first `seen` records of a shard's state.
    pub fn known(&self, partition: u32, seen: usize) -> Folded {
        let mut folded = Folded::default();
        self.read(STATE, partition).into_iter().take(seen).for_each(|entry| folded.see(entry));
        folded
    }

    /// The next takeovers of any shard begin with `known`.
    pub fn begin_with(&mut self, known: Folded) {
        self.head_start = Some(Arc::new(move || Some(known.clone())));
    }

    /// Everything in a partition now.
    pub fn read(&self, topic: Topic, partition: u32) -> Vec<Entry> {
        let mut feed = self.journal.read(topic, partition, Start::Earliest).unwrap();
        let mut entries: Vec<Entry> = Vec::new();
        while !feed.at_end() {
            entries.extend(feed.poll(1_000, Duration::from_millis(10)).unwrap());
        }
        entries
    }

    pub fn manifest(&self, partition: u32) -> Manifest {
        standing(&*self.journal, shard(partition)).unwrap().0
    }

    /// A page of the diary as of the last commit.
    pub fn heard(&self, partition: u32, page: &str) -> Vec<String> {
        let (_, state) = standing(&*self.journal, shard(partition)).unwrap();
        heard_in(&state, page)
    }

    /// The outbox as of the last manifest.
    pub fn outbox(&self, partition: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        for Entry { record, .. } in self.read(STATE, partition) {
            if is_header(&record) || is_manifest(&record) || !is_outbox_key(&record.key) {
                continue;
            }
            match record.value {
                Some(value) => drop(found.insert(record.key, value)),
                None => drop(found.remove(&record.key)),
            }
        }
        found
    }

    /// The codes under which records were put aside.
    pub fn quarantined(&self, partition: u32) -> Vec<String> {
        self.read(Topic::Quarantine, partition).iter().map(|entry| header(&entry.record, "custos_quarantine_code")).collect()
    }
}

pub fn heard_in(state: &StateRecords, page: &str) -> Vec<String> {
    let key = diary::key(page);
    state.get(&key).map(|value| Page::read(value).heard).unwrap_or_default()
}

pub fn header(record: &Record, name: &str) -> String {
    record.headers.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap()).unwrap_or_default()
}
