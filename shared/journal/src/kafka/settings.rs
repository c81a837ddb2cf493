//! Where the cluster is and how long things may take; each kind of client draws its configuration from here.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::bracket::Defences;

/// Where the cluster is and how long things may take.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, several with commas.
    pub bootstrap: String,
    /// How this process names itself to the brokers.
    pub client_id: String,
    /// A member of a group that is silent for so long loses its shards. The broker's floor is usually 6 s.
    pub session_timeout: Duration,
    /// A transaction open for so long is aborted by the cluster.
    pub transaction_timeout: Duration,
    /// Pause before the client repeats a failed request. Far above the duration of a normal commit, so that a repeated end of a
    /// transaction shows by its duration.
    pub retry_backoff: Duration,
    /// An end of a transaction that took longer counts as repeated: the producer is made anew. At most half of `retry_backoff`.
    pub commit_slow: Duration,
    /// How long a call waits for the cluster before it says [`crate::JournalError::Unavailable`].
    pub answer_timeout: Duration,
    /// How long an acquisition waits for transactions of others in the state partition to be decided.
    pub decided_timeout: Duration,
    /// How long a revoked shard may take to be released before it is given up without asking.
    pub release_timeout: Duration,
    /// The largest record: key, value and headers.
    pub record_bytes_max: usize,
    /// What keeps torn transactions from doing harm. Nothing but a test that shows what each is for has fewer than all.
    pub defences: Defences,
    /// Further properties of the client, such as those for TLS and SASL. They never override what promises rest on.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// Settings with the values that production begins with.
    #[must_use]
    pub fn new(bootstrap: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: client_id.into(),
            session_timeout: Duration::from_secs(6),
            transaction_timeout: Duration::from_secs(10),
            retry_backoff: Duration::from_secs(1),
            commit_slow: Duration::from_millis(500),
            answer_timeout: Duration::from_secs(30),
            decided_timeout: Duration::from_secs(45),
            release_timeout: Duration::from_secs(5),
            record_bytes_max: 1_000_000,
            defences: Defences::ALL,
            properties: BTreeMap::new(),
        }
    }

    /// What every client has.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// A plain idempotent producer.
    pub(super) fn plain_producer(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("message.timeout.ms", millis(self.answer_timeout));
        config
    }

    /// The producer of a shard.
    pub(super) fn shard_producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer();
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", millis(self.transaction_timeout))
            .set("message.timeout.ms", millis(self.transaction_timeout))
            .set("retry.backoff.ms", millis(self.retry_backoff))
            .set("retry.backoff.max.ms", millis(self.retry_backoff.max(Duration::from_secs(1))));
        config
    }

    fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("delivery.report.only.error", "false")
            .set("message.max.bytes", (self.record_bytes_max.saturating_add(BATCH_OVERHEAD)).to_string());
        config
    }

    /// A reader of assigned partitions at explicit offsets. The group's name is only what the library asks for: nobody joins.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.consumer("custos.reader");
        config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        config
    }

    /// A member of a group of readers. A group that is new begins at the first record; nothing else makes it move.
    pub(super) fn group_reader(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        self.membership(&mut config);
        // A batch of a slow service may take long, and its session tells that the process lives.
        config.set("max.poll.interval.ms", millis(SLOW_BATCH)).set("auto.offset.reset", "earliest");
        config
    }

    /// A member of a group that only shares shards and reads nothing. The member's name is stable, so that a process that comes
    /// back under it takes its shards at once.
    pub(super) fn group_member(&self, group: &str, member: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        self.membership(&mut config);
        config.set("group.instance.id", member).set("auto.offset.reset", "latest");
        config
    }

    fn membership(&self, config: &mut ClientConfig) {
        let beat = self.session_timeout / 6;
        let poll_most = self.release_timeout.saturating_mul(3).max(self.session_timeout.saturating_mul(3));
        config
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(beat))
            .set("max.poll.interval.ms", millis(poll_most));
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // Not `check.crcs`: after a batch that fails it, librdkafka 2.12 goes on reading at a wrong place (it takes the length of the
            // batch for a position), which ends the process by an assertion. TLS keeps bytes whole on their way, and seals tell the rest.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "16384");
        config
    }
}

/// How long a member of a group of readers may deal with what it was given.
const SLOW_BATCH: Duration = Duration::from_secs(120);

/// What a batch of one record may hold beyond its key, value and headers.
const BATCH_OVERHEAD: usize = 8_192;

/// The topic's limit for batches, above what any producer here makes.
pub(super) const fn batch_bytes_max(record_bytes_max: usize) -> usize {
    record_bytes_max.saturating_add(6 * BATCH_OVERHEAD)
}

fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}
