//! Topics as they must be: created when missing, compared when there. Nothing that exists is changed: only a human may.

use std::time::{Duration, Instant};

use custos_messages::Topic;
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::Shared;
use super::settings::batch_bytes_max;
use super::wire::{failure, native};
use crate::{JournalError, Provision};

const OPERATION: &str = "create topics";

/// The longest outage of a shard that compaction tolerates: within it a restore still sees every header, manifest and tombstone.
const OUTAGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Answers to requests that wait are of no use later.
const REPLIES_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How a topic's property is compared.
enum Rule {
    Exactly(String),
    AtLeast(u128),
}

pub(super) fn provision(shared: &Shared, wanted: &Provision) -> Result<Vec<String>, JournalError> {
    let admin: AdminClient<DefaultClientContext> =
        shared.settings.client().create().map_err(|error| failure(OPERATION, &error))?;
    let options = AdminOptions::new()
        .request_timeout(Some(shared.settings.answer_timeout))
        .operation_timeout(Some(shared.settings.answer_timeout));
    let existing = create(shared, wanted, &admin, &options)?;
    let mut differences = Vec::new();
    for topic in Topic::ALL {
        let partitions = await_topic(shared, topic)?;
        if partitions != count(topic, wanted) {
            differences.push(format!(
                "{}: {partitions} partitions, {} are wanted; they never change",
                topic.name(),
                count(topic, wanted)
            ));
        }
    }
    let described: Vec<ResourceSpecifier<'_>> =
        existing.iter().map(|topic| ResourceSpecifier::Topic(topic.name())).collect();
    if described.is_empty() {
        return Ok(differences);
    }
    let resources =
        block_on(admin.describe_configs(&described, &options)).map_err(|error| failure("describe topics", &error))?;
    for (topic, resource) in existing.into_iter().zip(resources) {
        let resource = resource.map_err(|code| failure("describe topics", &rdkafka::error::KafkaError::AdminOp(code)))?;
        compare(shared, wanted, topic, &resource, &mut differences);
    }
    Ok(differences)
}

/// Deletes every topic and waits until it is gone: what the controller has deleted, a broker may still name for a moment, and whoever
/// comes next would take that for an installation.
pub(super) fn remove(shared: &Shared) -> Result<(), JournalError> {
    const REMOVAL: &str = "delete topics";
    let admin: AdminClient<DefaultClientContext> =
        shared.settings.client().create().map_err(|error| failure(REMOVAL, &error))?;
    let options = AdminOptions::new()
        .request_timeout(Some(shared.settings.answer_timeout))
        .operation_timeout(Some(shared.settings.answer_timeout));
    let names = Topic::ALL.map(Topic::name);
    for result in block_on(admin.delete_topics(&names, &options)).map_err(|error| failure(REMOVAL, &error))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => return Err(JournalError::Misconfigured(format!("{name} cannot be deleted: {code}"))),
        }
    }
    let until = Instant::now() + shared.settings.answer_timeout;
    loop {
        let left = match shared.watermarks.there() {
            Ok(topics) if topics.is_empty() => return Ok(()),
            Ok(topics) => {
                let names: Vec<&str> = topics.into_iter().map(Topic::name).collect();
                JournalError::Unavailable { operation: REMOVAL, reason: format!("still there: {}", names.join(", ")) }
            }
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(left);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A topic as it is to be created.
struct Plan {
    topic: Topic,
    partitions: i32,
    properties: Vec<(&'static str, String)>,
}

fn plan(shared: &Shared, wanted: &Provision, topic: Topic) -> Result<Plan, JournalError> {
    let properties = rules(shared, wanted, topic)
        .into_iter()
        .map(|(name, rule)| match rule {
            Rule::Exactly(value) => (name, value),
            Rule::AtLeast(value) => (name, value.to_string()),
        })
        .collect();
    Ok(Plan { topic, partitions: native(count(topic, wanted))?, properties })
}

/// Creates what is missing and returns what was there.
fn create(
    shared: &Shared,
    wanted: &Provision,
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
) -> Result<Vec<Topic>, JournalError> {
    let plans = Topic::ALL.into_iter().map(|topic| plan(shared, wanted, topic)).collect::<Result<Vec<_>, _>>()?;
    let new: Vec<NewTopic<'_>> = plans
        .iter()
        .map(|plan| {
            let replication = TopicReplication::Fixed(i32::from(wanted.replication));
            let new = NewTopic::new(plan.topic.name(), plan.partitions, replication);
            plan.properties.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let until = Instant::now() + shared.settings.answer_timeout;
    loop {
        let results = block_on(admin.create_topics(&new, options)).map_err(|error| failure(OPERATION, &error))?;
        let (mut existing, mut refused) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(name) => tracing::info!(topic = name, "topic created"),
                Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => existing.extend(Topic::from_name(&name)),
                Err(other) => refused = Some(other),
            }
        }
        match refused {
            None => return Ok(existing),
            // So it is said, too, while a broker is not let in for a moment.
            Some((_, code)) if passing(code) && Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
            Some((name, code)) => {
                return Err(JournalError::Misconfigured(format!("{name} cannot be created: {code}")));
            }
        }
    }
}

/// Whether a topic may be created a moment later although it was refused now.
const fn passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::InvalidReplicationFactor | Code::NotController | Code::RequestTimedOut)
}

/// Waits until every broker that answers knows the topic and its leaders.
fn await_topic(shared: &Shared, topic: Topic) -> Result<u32, JournalError> {
    let until = Instant::now() + shared.settings.answer_timeout;
    loop {
        match shared.watermarks.partitions(topic) {
            Ok(partitions) => return Ok(partitions),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

const fn count(topic: Topic, wanted: &Provision) -> u32 {
    match topic {
        Topic::GatewayReplies => wanted.gateways,
        _ => wanted.partitions,
    }
}

/// What a topic's promises rest on.
fn rules(shared: &Shared, wanted: &Provision, topic: Topic) -> Vec<(&'static str, Rule)> {
    let exactly = |value: &str| Rule::Exactly(value.to_owned());
    let batch = u128::try_from(batch_bytes_max(shared.settings.record_bytes_max)).unwrap_or(u128::MAX);
    let mut rules = vec![
        // Broker time everywhere: what readers are told about time is part of the log.
        ("message.timestamp.type", exactly("LogAppendTime")),
        ("max.message.bytes", Rule::AtLeast(batch)),
        ("unclean.leader.election.enable", exactly("false")),
    ];
    if wanted.replication > 1 {
        rules.push(("min.insync.replicas", Rule::AtLeast(2)));
    }
    if topic.compacted() {
        rules.push(("cleanup.policy", exactly("compact")));
        rules.push(("min.compaction.lag.ms", Rule::AtLeast(OUTAGE.as_millis())));
        rules.push(("delete.retention.ms", Rule::AtLeast(OUTAGE.as_millis())));
    } else {
        rules.push(("cleanup.policy", exactly("delete")));
        rules.push(match topic {
            Topic::GatewayReplies => ("retention.ms", Rule::AtLeast(REPLIES_KEPT.as_millis())),
            _ => ("retention.ms", exactly("-1")),
        });
        rules.push(("retention.bytes", exactly("-1")));
    }
    rules
}

fn compare(shared: &Shared, wanted: &Provision, topic: Topic, found: &ConfigResource, differences: &mut Vec<String>) {
    for (name, rule) in rules(shared, wanted, topic) {
        let value = found.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
        let (kept, expected) = match &rule {
            Rule::Exactly(expected) => (value == expected, expected.clone()),
            // A negative value of a span means for ever.
            Rule::AtLeast(least) => (
                value.parse::<i128>().is_ok_and(|value| u128::try_from(value).map_or(value < 0, |value| value >= *least)),
                format!("at least {least}"),
            ),
        };
        if !kept {
            differences.push(format!("{}: {name} is {value}, wanted is {expected}", topic.name()));
        }
    }
}
