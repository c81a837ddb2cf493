//! The Kafka log keeps the contract, and the rules that only a real broker can break.

#![expect(clippy::print_stdout, reason = "the names of the checks that passed are what a reader of the test's output wants")]

mod bare;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_journal::{
    Assignment, Defence, Defences, Journal, JournalError, KafkaJournal, KafkaSettings, Provision, Reach, Remedy, ShardLog,
    Start, Transaction, contract,
};
use custos_messages::{Headers, Machine, Record, Topic};
use custos_parts::{Kafka, require, start_kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

type Outcome = Result<(), Box<dyn Error>>;
/// A check that may kill the broker, as long as it starts it again.
type Rule = fn(&mut Kafka) -> Outcome;

const MACHINE: Machine = Machine::Accounts;
const STATE: Topic = Topic::State(MACHINE);
const INBOX: Topic = Topic::Inbox(MACHINE);
const PATIENCE: Duration = Duration::from_secs(30);

const RULES: &[(&str, Rule)] = &[
    ("an open transaction of a dead owner is aborted by the next one", open_transaction_of_the_dead_is_aborted),
    ("a fenced owner is told so and stays without effect", fenced_owner_has_no_effect),
    ("an open transaction hides nothing of another shard", open_transaction_hides_nothing),
    ("an open transaction of a stranger in the state partition stops the acquisition", stranger_stops_the_acquisition),
    ("what the brokers have forgotten to end is ended by the next owner", what_was_forgotten_is_ended),
    ("after a slow end the producer is made anew", slow_end_renews_the_producer),
    ("a doubtful owner does not fence a newer one that has written", doubtful_owner_does_not_fence),
    ("header first and manifest last, in each transaction", header_first_and_manifest_last),
    ("no manifest is written when an output was refused", no_manifest_after_a_refused_output),
    ("topics that differ are named", differences_are_named),
    ("a partition that is not there is not waited for", what_is_not_there_is_not_waited_for),
    ("a reader never falls back to another offset", reader_never_falls_back),
    ("a header whose name is no text ends no reader", name_that_is_no_text_ends_no_reader),
    ("what a member notes becomes the offset of its group", notes_become_offsets),
    ("a broker that was killed loses nothing", killed_broker_loses_nothing),
    // Last: it takes the settings of a topic away.
    ("a state partition whose beginning is gone is not restored from there", trimmed_state_is_out_of_range),
];

#[test]
fn kafka_keeps_the_contract() -> Outcome {
    let Some(kafka) = require("kafka", start_kafka()) else { return Ok(()) };
    let journal = journal(&kafka)?;
    let mut broken = Vec::new();
    for (name, check) in contract::CHECKS {
        say(name, check(&journal).map_err(Into::into), &mut broken);
    }
    drop(journal);
    let reopen = || -> Result<Arc<dyn Journal>, JournalError> { Ok(Arc::new(KafkaJournal::new(settings(&kafka))?)) };
    for (name, check) in contract::REOPEN_CHECKS {
        say(name, check(&reopen).map_err(Into::into), &mut broken);
    }
    assert!(broken.is_empty(), "broken on {}: {broken:#?}", kafka.kind());
    Ok(())
}

#[test]
fn kafka_keeps_the_rules_of_transactions() -> Outcome {
    let Some(mut kafka) = require("kafka", start_kafka()) else { return Ok(()) };
    journal(&kafka)?;
    let mut broken = Vec::new();
    for (name, rule) in RULES {
        let outcome = catch_unwind(AssertUnwindSafe(|| rule(&mut kafka)));
        say(name, outcome.unwrap_or_else(|_| Err("an assertion failed, see above".into())), &mut broken);
    }
    assert!(broken.is_empty(), "broken on {}: {broken:#?}", kafka.kind());
    Ok(())
}

fn say(name: &str, outcome: Outcome, broken: &mut Vec<String>) {
    match outcome {
        Ok(()) => println!("holds: {name}"),
        Err(error) => {
            println!("BROKEN: {name}: {error}");
            broken.push(format!("{name}: {error}"));
        }
    }
}

fn settings(kafka: &Kafka) -> KafkaSettings {
    KafkaSettings::new(kafka.bootstrap(), "journal-test")
}

fn journal(kafka: &Kafka) -> Result<KafkaJournal, JournalError> {
    let journal = KafkaJournal::new(settings(kafka))?;
    journal.provision(&contract::PROVISION)?;
    Ok(journal)
}

fn record(key: &str) -> Record {
    Record { key: key.into(), value: Some(key.into()), headers: Headers::new() }
}

fn rest(name: &str) -> Transaction {
    Transaction {
        outputs: vec![(Topic::Events, record(&format!("{name}.event")))],
        state: vec![record(&format!("{name}.1")), record(&format!("{name}.2"))],
        manifest: record(&format!("{name}.manifest")),
    }
}

fn commit(shard: &mut dyn ShardLog, name: &str) -> Result<(), JournalError> {
    shard.begin(record(&format!("{name}.header")))?;
    shard.commit(rest(name))
}

fn whole(name: &str) -> Vec<String> {
    ["header", "1", "2", "manifest"].map(|part| format!("{name}.{part}")).to_vec()
}

fn restored(shard: &mut dyn ShardLog) -> Result<Vec<String>, JournalError> {
    let mut keys = Vec::new();
    shard.restore(&mut |entry| keys.push(String::from_utf8_lossy(&entry.record.key).into_owned()))?;
    Ok(keys)
}

/// Every record that a broker holds in a partition, committed or not, with its offset.
fn everything(kafka: &Kafka, topic: Topic, partition: i32) -> Result<Vec<(i64, String)>, Box<dyn Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", "witness")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic.name(), partition, Offset::Beginning)?;
    consumer.assign(&place)?;
    let until = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while Instant::now() < until {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                found.push((message.offset(), String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return Ok(found),
            Some(Err(error)) => println!("witness: {error}"),
            None => {}
        }
    }
    Err("the witness saw no end".into())
}

/// Waits until the broker holds a record, committed or not.
fn arrives(kafka: &Kafka, topic: Topic, partition: i32, key: &str) -> Outcome {
    let until = Instant::now() + PATIENCE;
    while !everything(kafka, topic, partition)?.iter().any(|(_, found)| found == key) {
        assert!(Instant::now() < until, "`{key}` did not arrive");
    }
    Ok(())
}

fn expect_key(journal: &dyn Journal, topic: Topic, partition: u32, from: u64, key: &str) -> Outcome {
    let mut feed = journal.read(topic, partition, Start::At(from))?;
    let entries = feed.poll(1, PATIENCE)?;
    let first = entries.first().ok_or_else(|| format!("`{key}` is hidden"))?;
    if first.record.key == key.as_bytes() { Ok(()) } else { Err(format!("found {first:?} instead of `{key}`").into()) }
}

fn open_transaction_of_the_dead_is_aborted(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let mut owner = journal.acquire(MACHINE, 0)?;
    commit(owner.as_mut(), "before")?;
    owner.begin(record("dead.header"))?;
    arrives(kafka, STATE, 0, "dead.header")?;
    // Dropped without an abort, as by a crash: the transaction stays open at the broker.
    drop(owner);
    let begun = Instant::now();
    let mut next = journal.acquire(MACHINE, 0)?;
    println!("  acquired after {:?}", begun.elapsed());
    assert_eq!(restored(next.as_mut())?, whole("before"));
    commit(next.as_mut(), "after")?;
    assert_eq!(restored(next.as_mut())?, [whole("before"), whole("after")].concat());
    Ok(())
}

fn fenced_owner_has_no_effect(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let mut old = journal.acquire(MACHINE, 0)?;
    let before = restored(old.as_mut())?;
    old.begin(record("old.header"))?;
    arrives(kafka, STATE, 0, "old.header")?;
    let mut new = journal.acquire(MACHINE, 0)?;
    let refused = old.commit(rest("old"));
    let Err(error @ JournalError::Fenced { .. }) = &refused else { return Err(format!("{refused:?}").into()) };
    assert_eq!(error.remedy(), Remedy::Drop);
    assert!(old.begin(record("again.header")).is_err(), "a fenced owner begins again");
    commit(new.as_mut(), "new")?;
    assert_eq!(restored(new.as_mut())?, [before, whole("new")].concat());
    Ok(())
}

fn open_transaction_hides_nothing(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let (events, (_, inbox)) = (journal.bounds(Topic::Events, 0)?.1, journal.bounds(INBOX, 1)?);
    let mut open = journal.acquire(MACHINE, 1)?;
    let mut ours = journal.acquire(MACHINE, 0)?;
    open.begin(record("open.header"))?;
    arrives(kafka, STATE, 1, "open.header")?;
    commit(ours.as_mut(), "ours")?;
    expect_key(&journal, Topic::Events, 0, events, "ours.event")?;
    // What others append to the inbox of the shard that has a transaction open is seen at once, too.
    journal.appender()?.append(INBOX, 1, record("message"))?;
    expect_key(&journal, INBOX, 1, inbox, "message")?;
    open.abort()?;
    commit(open.as_mut(), "closed")?;
    Ok(())
}

fn stranger_stops_the_acquisition(kafka: &mut Kafka) -> Outcome {
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("transactional.id", "stranger")
        .set("transaction.timeout.ms", "60000")
        .create()?;
    stranger.init_transactions(PATIENCE)?;
    stranger.begin_transaction()?;
    let message = BaseRecord::<str, str>::to(STATE.name()).partition(0).key("stranger").payload("stranger");
    stranger.send(message).map_err(|(error, _)| error)?;
    stranger.flush(PATIENCE)?;
    let hasty = KafkaJournal::new(KafkaSettings { decided_timeout: Duration::from_millis(300), ..settings(kafka) })?;
    let refused = hasty.acquire(MACHINE, 0).map(|_| ());
    let Err(JournalError::Misconfigured(reason)) = &refused else { return Err(format!("{refused:?}").into()) };
    assert!(reason.contains("open transactions of others"), "{reason}");
    stranger.abort_transaction(PATIENCE)?;
    hasty.acquire(MACHINE, 1)?;
    journal(kafka)?.acquire(MACHINE, 0)?;
    Ok(())
}

/// A record within a transaction of which the coordinator does not know: as a broker leaves it that forgets a marker.
fn what_was_forgotten_is_ended(kafka: &mut Kafka) -> Outcome {
    if kafka.kind() == "external" {
        return Ok(());
    }
    let hasty = KafkaJournal::new(KafkaSettings { decided_timeout: Duration::from_secs(5), ..settings(kafka) })?;
    let mut owner = hasty.acquire(MACHINE, 0)?;
    let before = restored(owner.as_mut())?;
    commit(owner.as_mut(), "kept")?;
    drop(owner);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    let verify = |on: &str| -> Outcome {
        let wanted = AlterConfig::new(ResourceSpecifier::Broker(1)).set("transaction.partition.verification.enable", on);
        let altered = futures::executor::block_on(admin.alter_configs(&[wanted], &AdminOptions::new()))?;
        Ok(altered.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| code.to_string()))?)
    };
    verify("false")?;
    let id = format!("custos.{}.0", MACHINE.name());
    let producer = bare::init_producer(kafka.bootstrap(), &id)?;
    let written = bare::Written { key: b"forgotten", header: b"header", within: Some((&id, producer)) };
    let until = Instant::now() + PATIENCE;
    // The setting takes a moment.
    while let Err(error) = bare::produce(kafka.bootstrap(), (STATE.name(), 0), &written) {
        assert!(Instant::now() < until, "{error}");
    }
    verify("true")?;
    let patient = KafkaSettings {
        decided_timeout: Duration::from_secs(1),
        defences: Defences::ALL.without(Defence::ForgottenEnded),
        ..settings(kafka)
    };
    let waits = KafkaJournal::new(patient)?.acquire(MACHINE, 0).map(|_| ());
    let Err(JournalError::Misconfigured(_)) = &waits else { return Err(format!("nothing was left open: {waits:?}").into()) };
    let mut next = hasty.acquire(MACHINE, 0)?;
    let kept = [before, whole("kept")].concat();
    assert_eq!(restored(next.as_mut())?, kept);
    commit(next.as_mut(), "after")?;
    assert_eq!(restored(next.as_mut())?, [kept, whole("after")].concat());
    Ok(())
}

fn slow_end_renews_the_producer(kafka: &mut Kafka) -> Outcome {
    let suspicious = KafkaJournal::new(KafkaSettings { commit_slow: Duration::ZERO, ..settings(kafka) })?;
    let mut shard = suspicious.acquire(MACHINE, 0)?;
    let before = restored(shard.as_mut())?;
    for name in ["slow-a", "slow-b", "slow-c"] {
        commit(shard.as_mut(), name)?;
    }
    assert_eq!(suspicious.producers_opened(), 3, "one for the acquisition and one before each further transaction");
    assert_eq!(restored(shard.as_mut())?, [before, whole("slow-a"), whole("slow-b"), whole("slow-c")].concat());
    let content = journal(kafka)?;
    let mut shard = content.acquire(MACHINE, 0)?;
    for name in ["plain-a", "plain-b", "plain-c"] {
        commit(shard.as_mut(), name)?;
    }
    assert_eq!(content.producers_opened(), 1, "plain ends keep the producer");
    Ok(())
}

fn doubtful_owner_does_not_fence(kafka: &mut Kafka) -> Outcome {
    let suspicious = KafkaJournal::new(KafkaSettings { commit_slow: Duration::ZERO, ..settings(kafka) })?;
    let mut old = suspicious.acquire(MACHINE, 0)?;
    commit(old.as_mut(), "doubtful")?;
    let mut new = journal(kafka)?.acquire(MACHINE, 0)?;
    commit(new.as_mut(), "newer")?;
    let refused = old.begin(record("doubtful.header"));
    let Err(error) = &refused else { return Err("a former owner begins".into()) };
    assert_eq!(error.remedy(), Remedy::TakeOver, "{error}");
    commit(new.as_mut(), "newest")?;
    let all = restored(new.as_mut())?;
    assert!(all.ends_with(&[whole("newer"), whole("newest")].concat()), "{all:?}");
    Ok(())
}

fn header_first_and_manifest_last(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let mut shard = journal.acquire(MACHINE, 1)?;
    let names: Vec<String> = (0..20).map(|number| format!("bracket-{number}")).collect();
    for name in &names {
        commit(shard.as_mut(), name)?;
    }
    let found = everything(kafka, STATE, 1)?;
    let ours: Vec<(i64, String)> = found.into_iter().filter(|(_, key)| key.starts_with("bracket-")).collect();
    let keys: Vec<String> = ours.iter().map(|(_, key)| key.clone()).collect();
    assert_eq!(keys, names.iter().flat_map(|name| whole(name)).collect::<Vec<_>>());
    for (transaction, name) in ours.chunks(4).zip(&names) {
        let first = transaction.first().map_or(0, |(offset, _)| *offset);
        let last = transaction.last().map_or(0, |(offset, _)| *offset);
        assert_eq!(last - first, 3, "{name} is interrupted by a marker");
    }
    Ok(())
}

fn no_manifest_after_a_refused_output(kafka: &mut Kafka) -> Outcome {
    // This journal believes that the log takes more than the topics were made for, so the broker is who refuses.
    let bold = KafkaJournal::new(KafkaSettings { record_bytes_max: 4_000_000, ..settings(kafka) })?;
    let mut shard = bold.acquire(MACHINE, 0)?;
    let before = restored(shard.as_mut())?;
    shard.begin(record("refused.header"))?;
    let mut transaction = rest("refused");
    let big = Record { value: Some(vec![7; 3_000_000]), ..record("refused.big") };
    transaction.outputs.push((Topic::Events, big));
    let outcome = shard.commit(transaction);
    let Err(error) = &outcome else { return Err("a refused output was committed".into()) };
    assert_eq!(error.remedy(), Remedy::TakeOver, "{error}");
    let found = everything(kafka, STATE, 0)?;
    assert!(!found.iter().any(|(_, key)| key == "refused.manifest"), "the manifest was written");
    assert!(shard.begin(record("more.header")).is_err(), "the failed producer is used again");
    drop(shard);
    let mut next = bold.acquire(MACHINE, 0)?;
    assert_eq!(restored(next.as_mut())?, before);
    Ok(())
}

fn differences_are_named(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    assert_eq!(journal.provision(&contract::PROVISION)?, Vec::<String>::new());
    let other = journal.provision(&Provision { partitions: 3, ..contract::PROVISION })?;
    assert_eq!(other.len(), Topic::ALL.len() - 1, "{other:?}");
    assert!(other.iter().all(|line| line.contains("2 partitions, 3 are wanted")), "{other:?}");
    let larger = KafkaJournal::new(KafkaSettings { record_bytes_max: 9_000_000, ..settings(kafka) })?;
    let lines = larger.provision(&contract::PROVISION)?;
    assert_eq!(lines.len(), Topic::ALL.len(), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("max.message.bytes")), "{lines:?}");
    Ok(())
}

fn what_is_not_there_is_not_waited_for(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    for topic in [INBOX, STATE, Topic::Events] {
        let refused = journal.bounds(topic, 9);
        let Err(error) = &refused else { return Err(format!("{topic:?} has {refused:?}").into()) };
        assert_eq!(error.remedy(), Remedy::Halt, "{error}");
    }
    Ok(())
}

fn reader_never_falls_back(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let (_, next) = journal.bounds(INBOX, 0)?;
    let mut shard = journal.acquire(MACHINE, 0)?;
    shard.seek(next + 1_000)?;
    let refused = shard.poll(10, PATIENCE);
    let Err(error) = &refused else { return Err(format!("read {refused:?}").into()) };
    assert_eq!(error.remedy(), Remedy::Halt, "{error}");
    shard.seek(next)?;
    journal.appender()?.append(INBOX, 0, record("right-place"))?;
    let entries = shard.poll(10, PATIENCE)?;
    assert_eq!(entries.first().map(|entry| entry.offset), Some(next));
    assert_eq!(shard.position(), next + 1);
    Ok(())
}

/// What no client library writes, a stranger with a socket does.
fn name_that_is_no_text_ends_no_reader(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    let (_, next) = journal.bounds(INBOX, 1)?;
    bare::produce(
        kafka.bootstrap(),
        (INBOX.name(), 1),
        &bare::Written { key: b"stranger", header: b"\xff\xfe", within: None },
    )?;
    journal.appender()?.append(INBOX, 1, record("after it"))?;
    let (mut alone, mut group) =
        (journal.read(INBOX, 1, Start::At(next))?, journal.consume(INBOX, "names that are no text")?);
    for feed in [&mut alone, &mut group] {
        let (mut found, until) = (Vec::new(), Instant::now() + PATIENCE);
        while !found.iter().any(|entry: &custos_journal::Entry| entry.record.key == b"after it") {
            found.extend(feed.poll(100, Duration::from_millis(100))?.into_iter().filter(|entry| entry.partition == 1));
            if Instant::now() > until {
                return Err("what stands after it does not arrive".into());
            }
        }
        let stranger =
            found.iter().find(|entry| entry.record.key == b"stranger").ok_or("the stranger's record is missing")?;
        if !stranger.record.headers.is_empty() || stranger.record.value.as_deref() != Some(b"value") {
            return Err(format!("it reads {:?}", stranger.record).into());
        }
    }
    Ok(())
}

fn notes_become_offsets(kafka: &mut Kafka) -> Outcome {
    let journal = journal(kafka)?;
    for _ in 0..9 {
        journal.appender()?.append(INBOX, 1, record("noted"))?;
    }
    let mut member = journal.join(MACHINE, "notes")?;
    let witness: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", format!("custos.{}", MACHINE.name()))
        .create()?;
    let mut place = TopicPartitionList::new();
    place.add_partition(INBOX.name(), 1);
    let until = Instant::now() + 2 * PATIENCE;
    let mut held = false;
    loop {
        if let Some(Assignment::Gained(partitions)) = member.poll(Duration::from_millis(100))? {
            held |= partitions.contains(&1);
        }
        if held {
            member.note(1, 7);
        }
        let found = witness.committed_offsets(place.clone(), PATIENCE)?;
        let offsets: Vec<Offset> = found.elements().iter().map(|element| element.offset()).collect();
        if offsets == [Offset::Offset(7)] {
            return Ok(());
        }
        assert!(Instant::now() < until, "the group stands at {offsets:?}; held: {held}");
    }
}

fn trimmed_state_is_out_of_range(kafka: &mut Kafka) -> Outcome {
    if kafka.kind() == "external" {
        return Ok(());
    }
    let journal = journal(kafka)?;
    let mut shard = journal.acquire(MACHINE, 1)?;
    commit(shard.as_mut(), "trimmed")?;
    drop(shard);
    drop(journal.acquire(MACHINE, 1)?);
    let (first, end) = journal.bounds(STATE, 1)?;
    let mut shard = journal.acquire(MACHINE, 1)?;
    commit(shard.as_mut(), "kept")?;
    drop(shard);
    let mut shard = journal.acquire(MACHINE, 1)?;
    assert_eq!(shard.restore_from(first, &mut |_| {})?, Reach::Whole);
    trim(kafka, STATE, 1, end)?;
    assert_eq!(shard.restore_from(first, &mut |_| panic!("shown"))?, Reach::OutOfRange);
    let mut keys = Vec::new();
    let reach = shard.restore_from(end, &mut |entry| keys.push(String::from_utf8_lossy(&entry.record.key).into_owned()))?;
    assert_eq!((reach, keys), (Reach::Whole, whole("kept")));
    Ok(())
}

/// Removes everything before `offset`, as only a wrong setting of the topic would.
fn trim(kafka: &Kafka, topic: Topic, partition: i32, offset: u64) -> Outcome {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    let policy = |value| AlterConfig::new(ResourceSpecifier::Topic(topic.name())).set("cleanup.policy", value);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let altered = futures::executor::block_on(admin.alter_configs(&[policy("compact,delete")], &options))?;
    altered.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| code.to_string()))?;
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic.name(), partition, Offset::Offset(i64::try_from(offset)?))?;
    let trimmed = futures::executor::block_on(admin.delete_records(&places, &options))?;
    trimmed.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
    futures::executor::block_on(admin.alter_configs(&[policy("compact")], &options))?;
    Ok(())
}

fn killed_broker_loses_nothing(kafka: &mut Kafka) -> Outcome {
    if kafka.kind() == "external" {
        return Ok(());
    }
    let journal = journal(kafka)?;
    let appender = journal.appender()?;
    let mut shard = journal.acquire(MACHINE, 0)?;
    commit(shard.as_mut(), "kept")?;
    let before = restored(shard.as_mut())?;
    let offset = appender.append(INBOX, 0, record("kept"))?;
    shard.begin(record("cut.header"))?;
    arrives(kafka, STATE, 0, "cut.header")?;
    kafka.kill()?;
    kafka.start_again()?;
    let begun = Instant::now();
    drop(shard);
    let until = Instant::now() + 3 * PATIENCE;
    let mut next = loop {
        match journal.acquire(MACHINE, 0) {
            Ok(shard) => break shard,
            Err(error) if error.remedy() == Remedy::Retry && Instant::now() < until => println!("  {error}"),
            Err(error) => return Err(error.into()),
        }
    };
    println!("  acquired {:?} after the broker accepted connections", begun.elapsed());
    assert_eq!(restored(next.as_mut())?, before);
    assert_eq!(next.inbox_at(offset)?.map(|entry| entry.record), Some(record("kept")));
    commit(next.as_mut(), "after-the-kill")?;
    assert_eq!(appender.append(INBOX, 0, record("later"))?, offset + 1);
    Ok(())
}
