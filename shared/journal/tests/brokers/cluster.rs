//! What a test asks a cluster of several brokers: who leads what, and whether everybody has everything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use custos_messages::Topic;
use custos_parts::Cluster;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

pub const PATIENCE: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(10);
/// Partitions of the brokers' own topics, as the launcher sets them.
const COORDINATORS: i32 = 4;
const TRANSACTIONS: &str = "__transaction_state";

/// Leader, as the launcher counts, and replicas in step of each partition of a topic, as far as the brokers that answer know.
fn partitions(cluster: &Cluster, topic: &str) -> Option<BTreeMap<i32, (usize, usize)>> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
    let metadata = client.fetch_metadata(Some(topic), ANSWER).ok()?;
    let found = metadata.topics().iter().find(|found| found.name() == topic)?;
    let led =
        found.partitions().iter().map(|one| Some((one.id(), (usize::try_from(one.leader() - 1).ok()?, one.isr().len()))));
    led.collect()
}

fn leader(cluster: &Cluster, topic: &str, partition: i32) -> usize {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some((node, _)) = partitions(cluster, topic).and_then(|all| all.get(&partition).copied()) {
            return node;
        }
        assert!(Instant::now() < until, "{topic}[{partition}] has no leader");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The node that leads a partition.
pub fn leader_of(cluster: &Cluster, topic: Topic, partition: u32) -> usize {
    leader(cluster, topic.name(), i32::try_from(partition).unwrap())
}

/// The node that coordinates the transactions of an id.
pub fn coordinator_of(cluster: &Cluster, transactional_id: &str) -> usize {
    // As the brokers choose it: Java's hash of the text, without its sign.
    let hash = transactional_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    leader(cluster, TRANSACTIONS, (hash & i32::MAX) % COORDINATORS)
}

/// Waits until every replica of every partition is in step.
pub fn await_in_step(cluster: &Cluster) {
    let until = Instant::now() + PATIENCE;
    let mut topics: Vec<&str> = Topic::ALL.iter().map(|topic| topic.name()).collect();
    topics.push(TRANSACTIONS);
    for topic in topics {
        while !partitions(cluster, topic).is_some_and(|all| all.values().all(|(_, in_step)| *in_step == 3)) {
            assert!(Instant::now() < until, "{topic} is not in step: {:?}", partitions(cluster, topic));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Sets properties of a topic, besides those that it has been given.
pub fn alter(cluster: &Cluster, topic: Topic, properties: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
    let wanted = AlterConfig::new(ResourceSpecifier::Topic(topic.name()));
    let wanted = properties.iter().fold(wanted, |wanted, (name, value)| wanted.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let altered = futures::executor::block_on(admin.alter_configs(&[wanted], &options)).unwrap();
    altered.into_iter().for_each(|one| drop(one.unwrap()));
}
