//! The same random scripts with requests that are held back and arrive late: on Kafka through a proxy, on the model by its own means.
//!
//! What is compared: what every call is told, what a takeover reads, and what readers of committed records are shown in the end. The
//! renewal after a slow end is off, or no late end would ever hit anything. Left out, because Kafka leaves it open: offsets; and in
//! which order records for two partitions leave, so a transaction here has one record beside header and manifest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{
    Appender, Defence, Defences, Journal, KafkaJournal, KafkaSettings, Provision, RequestKind, ShardLog, SimulatedCluster,
    SimulatedSettings, SimulatedTime, Start, Transaction,
};
use custos_messages::{Headers, Record, Topic};
use custos_parts::{Api, Cluster, Deed, Fate, Proxy, Rule, When, require, start_cluster_with};

use crate::{Failure, MACHINE, PATIENCE, STATE, read_until, told};

const SCRIPTS: u64 = 6;
const SCRIPTS_LONG: u64 = 150;
const STEPS: u64 = 10;
const CLIENT: &str = "late";
/// A transaction open for so long is aborted.
const TRANSACTION: Duration = Duration::from_secs(3);
/// Pause of the client before it asks again.
const AGAIN: Duration = Duration::from_millis(100);
/// Time for markers.
const MARKERS: Duration = Duration::from_millis(60);

/// A request of a transaction, named by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add,
    Produce,
    End,
}

/// What a transaction writes between header and manifest.
#[derive(Clone, Copy, Debug)]
enum Body {
    Nothing,
    Output,
    State,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A transaction.
    Commit(Body),
    /// A transaction of which the first request of this kind is held back; its sender asks again.
    Hold(Kind, Body),
    /// A transaction that is aborted when its header stands, and whose end is held back.
    HoldAbort,
    /// What is held back arrives now.
    Release,
    /// A transaction within which what is held back arrives before the request of this kind with this number.
    ReleaseAt(Kind, u64, Body),
    /// Another takes the shard between the header and the rest; then the former owner goes on.
    Superseded,
    /// The owner does nothing for longer than a transaction may be open.
    Dawdle,
    /// The shard is taken over and read.
    Acquire,
}

fn script(seed: u64) -> Vec<Step> {
    let mut state = seed.wrapping_add(77).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let mut step = || {
        let body = [Body::Nothing, Body::Output, Body::State][usize::try_from(below(3)).unwrap_or(0)];
        match below(20) {
            0..2 => Step::Commit(body),
            2..6 => Step::Hold(Kind::End, body),
            6..10 => Step::HoldAbort,
            10 => Step::Hold(Kind::Add, body),
            11 => Step::Hold(Kind::Produce, body),
            12 => Step::Release,
            13..17 => match below(4) {
                0 => Step::ReleaseAt(Kind::Add, 0, body),
                1 => Step::ReleaseAt(Kind::Produce, below(2), body),
                _ => Step::ReleaseAt(Kind::End, 0, body),
            },
            17 => Step::Superseded,
            18 => Step::Acquire,
            _ if below(3) == 0 => Step::Dawdle,
            _ => Step::Acquire,
        }
    };
    (0..STEPS).map(|_| step()).collect()
}

/// What stands between the owner and the brokers.
trait Network {
    /// Holds the next request of this kind back.
    fn hold(&self, kind: Kind, abort: Ending);
    fn release(&self) -> usize;
    /// What is held back arrives before the next request of this kind with this number.
    fn release_at(&self, kind: Kind, number: u64);
    /// Waits until the header that was sent stands in the log.
    fn header_stands(&self);
    /// Forgets what is to happen, and not what is held back.
    fn calm(&self);
    fn forget(&self);
}

/// How the transaction that is held back ends.
#[derive(Clone, Copy)]
enum Ending {
    Commit,
    Abort,
}

struct Proxied<'a> {
    proxy: &'a Proxy,
}

impl Proxied<'_> {
    fn rule(&self, when: When, deed: Deed) {
        self.proxy.rule(Rule { client: CLIENT.to_owned(), when, deed });
    }

    const fn api(kind: Kind) -> Api {
        match kind {
            Kind::Add => Api::AddPartitionsToTxn,
            Kind::Produce => Api::Produce,
            Kind::End => Api::EndTxn,
        }
    }
}

impl Network for Proxied<'_> {
    fn hold(&self, kind: Kind, _: Ending) {
        self.rule(When::Nth(Self::api(kind), 0), Deed::Strand);
    }

    fn release(&self) -> usize {
        let released = self.proxy.release(CLIENT);
        std::thread::sleep(MARKERS);
        released
    }

    fn release_at(&self, kind: Kind, number: u64) {
        self.rule(When::Nth(Self::api(kind), number), Deed::ReleaseFirst(MARKERS));
    }

    fn header_stands(&self) {
        let until = Instant::now() + PATIENCE;
        let passed = || {
            let seen = self.proxy.take_observations(CLIENT);
            seen.iter().any(|seen| seen.api == Api::Produce && seen.fate == Fate::Passed)
        };
        while !passed() {
            assert!(Instant::now() < until, "no header");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(MARKERS);
    }

    fn calm(&self) {
        self.proxy.calm(CLIENT);
        drop(self.proxy.take_observations(CLIENT));
    }

    fn forget(&self) {
        self.proxy.forget(CLIENT);
    }
}

struct Modelled {
    cluster: Arc<SimulatedCluster>,
}

impl Modelled {
    const fn is(kind: Kind, found: RequestKind) -> bool {
        match kind {
            Kind::Add => matches!(found, RequestKind::Add),
            Kind::Produce => matches!(found, RequestKind::Produce(_)),
            Kind::End => matches!(found, RequestKind::Commit | RequestKind::Abort),
        }
    }
}

impl Network for Modelled {
    fn hold(&self, kind: Kind, ending: Ending) {
        self.cluster.hold_next(match (kind, ending) {
            (Kind::Add, _) => RequestKind::Add,
            (Kind::Produce, _) => RequestKind::Produce(STATE),
            (Kind::End, Ending::Commit) => RequestKind::Commit,
            (Kind::End, Ending::Abort) => RequestKind::Abort,
        });
    }

    fn release(&self) -> usize {
        self.cluster.release()
    }

    fn release_at(&self, kind: Kind, number: u64) {
        let (met, cluster) = (AtomicU64::new(0), Arc::downgrade(&self.cluster));
        self.cluster.at_each_request(move |found| {
            if Self::is(kind, found)
                && met.fetch_add(1, Ordering::Relaxed) == number
                && let Some(cluster) = cluster.upgrade()
            {
                cluster.release();
            }
        });
    }

    fn header_stands(&self) {}

    fn calm(&self) {
        self.cluster.at_each_request(|_| {});
    }

    fn forget(&self) {
        self.cluster.heal();
    }
}

struct Stage<'a> {
    journal: &'a dyn Journal,
    network: &'a dyn Network,
    appender: Box<dyn Appender>,
    owner: Option<Box<dyn ShardLog>>,
    tag: String,
    written: u64,
    base: [u64; 2],
}

impl Stage<'_> {
    fn record(&mut self, what: &str) -> Record {
        self.written += 1;
        let key = format!("{}/{what}-{}", self.tag, self.written);
        Record { key: key.clone().into(), value: Some(key.into()), headers: Headers::new() }
    }

    fn keys<'b>(&self, records: impl Iterator<Item = &'b Record>) -> String {
        let tag = format!("{}/", self.tag);
        let ours = records.filter_map(|record| String::from_utf8_lossy(&record.key).strip_prefix(&tag).map(str::to_owned));
        ours.collect::<Vec<_>>().join(" ")
    }

    /// A failed owner is followed by another.
    fn owner(&mut self) -> Result<String, Failure> {
        if self.owner.is_some() { Ok(String::new()) } else { self.acquire() }
    }

    fn acquire(&mut self) -> Result<String, Failure> {
        self.owner = None;
        let mut owner = self.journal.acquire(MACHINE, 0)?;
        let mut found = Vec::new();
        owner.restore(&mut |entry| found.push(entry.record))?;
        self.owner = Some(owner);
        Ok(format!("reads {}", self.keys(found.iter())))
    }

    fn begin(&mut self) -> String {
        let header = self.record("header");
        let Some(owner) = &mut self.owner else { return "nobody".to_owned() };
        told(owner.begin(header))
    }

    fn finish(&mut self, body: Body) -> String {
        let mut transaction = Transaction::default();
        match body {
            Body::Nothing => {}
            Body::Output => transaction.outputs.push((Topic::Events, self.record("event"))),
            Body::State => transaction.state.push(self.record("state")),
        }
        transaction.manifest = self.record("manifest");
        let Some(owner) = &mut self.owner else { return "nobody".to_owned() };
        told(owner.commit(transaction))
    }

    /// A whole transaction; after anything but success its owner is gone.
    fn commit(&mut self, body: Body) -> String {
        let begun = self.begin();
        let ended = if begun == "done" { self.finish(body) } else { "not begun".to_owned() };
        if ended != "done" {
            self.owner = None;
        }
        format!("{begun}, {ended}")
    }

    fn step(&mut self, step: Step) -> Result<String, Failure> {
        let before = self.owner()?;
        let after = match step {
            Step::Commit(body) => self.commit(body),
            Step::Hold(kind, body) => {
                self.network.hold(kind, Ending::Commit);
                self.commit(body)
            }
            Step::HoldAbort => {
                self.network.hold(Kind::End, Ending::Abort);
                let begun = self.begin();
                self.network.header_stands();
                let aborted = self.owner.as_mut().map_or("nobody".to_owned(), |owner| told(owner.abort()));
                if aborted != "done" {
                    self.owner = None;
                }
                format!("{begun}, {aborted}")
            }
            Step::Release => format!("{}", self.network.release()),
            Step::ReleaseAt(kind, number, body) => {
                self.network.release_at(kind, number);
                let said = self.commit(body);
                self.network.calm();
                said
            }
            Step::Superseded => self.superseded()?,
            Step::Dawdle => {
                let begun = self.begin();
                self.network.header_stands();
                std::thread::sleep(TRANSACTION + Duration::from_secs(1));
                let ended = self.finish(Body::Nothing);
                self.owner = None;
                format!("{begun}, {ended}")
            }
            Step::Acquire => self.acquire()?,
        };
        self.network.calm();
        Ok(format!("{before}; {after}"))
    }

    fn superseded(&mut self) -> Result<String, Failure> {
        let begun = self.begin();
        self.network.header_stands();
        let former = self.owner.take();
        let read = self.acquire()?;
        let next = std::mem::replace(&mut self.owner, former);
        let refused = self.finish(Body::State);
        self.owner = next;
        Ok(format!("{begun}, {read}, {refused}"))
    }

    /// Everything that a reader of committed records is shown in the end.
    fn conclude(mut self) -> Result<Vec<String>, Failure> {
        self.network.forget();
        self.acquire()?;
        let mut lines = Vec::new();
        for (topic, base) in [(STATE, self.base[0]), (Topic::Events, self.base[1])] {
            let last = self.record("last");
            self.appender.append(topic, 0, last.clone())?;
            let mut feed = self.journal.read(topic, 0, Start::At(base))?;
            let entries = read_until(feed.as_mut(), &last.key)?;
            lines.push(format!("{}: {}", topic.name(), self.keys(entries.iter().map(|entry| &entry.record))));
        }
        Ok(lines)
    }
}

/// Everything that a script can see.
fn seen(journal: &dyn Journal, network: &dyn Network, writer: &dyn Journal, seed: u64) -> Result<Vec<String>, Failure> {
    let base = [STATE, Topic::Events].map(|topic| journal.bounds(topic, 0).map(|(_, next)| next));
    let [state, events] = base;
    let mut stage = Stage {
        journal,
        network,
        appender: writer.appender()?,
        owner: None,
        tag: format!("late-{seed}"),
        written: 0,
        base: [state?, events?],
    };
    let mut lines = Vec::new();
    for step in script(seed) {
        let line = stage.step(step).map_err(|error| format!("seed {seed}, {step:?}: {error}"))?;
        lines.push(format!("{step:?}: {line}"));
    }
    lines.extend(stage.conclude()?);
    Ok(lines)
}

fn behind_a_proxy(proxy: &Proxy) -> Option<Cluster> {
    let soon = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200")];
    let cluster = require("kafka behind a proxy", start_cluster_with(&[vec![proxy.port()]], &soon))?;
    proxy.forward_to(cluster.target(0, 0)?);
    Some(cluster)
}

#[test]
fn late_requests_do_the_same_on_the_simulated_log_and_on_kafka() -> Result<(), Failure> {
    const ONE: Provision = Provision { partitions: 1, gateways: 1, replication: 1 };
    let proxy = Proxy::open()?;
    let Some(cluster) = behind_a_proxy(&proxy) else { return Ok(()) };
    let direct = KafkaJournal::new(KafkaSettings::new(cluster.bootstrap(), "direct"))?;
    direct.provision(&ONE)?;
    let long = std::env::var("CUSTOS_TEST_LONG").is_ok_and(|value| value == "1");
    let scripts = if long { SCRIPTS_LONG } else { SCRIPTS };
    let (mut lines, mut different) = (0, Vec::new());
    for seed in 0..scripts {
        // A loaded machine must not make a producer suspicious: only a repeated end is to be slow.
        let exposed = Defences::ALL.without(Defence::RenewalAfterSlowEnd);
        let real = KafkaJournal::new(KafkaSettings {
            retry_backoff: AGAIN,
            transaction_timeout: TRANSACTION,
            defences: exposed,
            ..KafkaSettings::new(proxy.address(), CLIENT)
        })?;
        let model = Arc::new(SimulatedCluster::new(SimulatedSettings {
            time: SimulatedTime::Real,
            retry_backoff: AGAIN,
            transaction_timeout: TRANSACTION,
            defences: exposed,
            ..SimulatedSettings::new(seed)
        }));
        let process = model.process();
        process.provision(&ONE)?;
        let expected = seen(&real, &Proxied { proxy: &proxy }, &direct, seed)?;
        let found = seen(&process, &Modelled { cluster: model }, &process, seed)?;
        lines += found.len();
        for (model, kafka) in found.iter().zip(&expected).filter(|(model, kafka)| model != kafka) {
            println!("seed {seed}:\n  model {model}\n  kafka {kafka}");
            different.push(seed);
        }
    }
    println!("{scripts} scripts with late requests, {lines} observations, {} different", different.len());
    assert!(different.is_empty(), "{different:?}");
    Ok(())
}
