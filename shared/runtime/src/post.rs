//! The post: how services and the gateway put messages into machines' inboxes.
//!
//! Invariant: what was posted is sealed by this process's source and durable when the call returns.

use std::sync::Arc;

use custos_domain::partition_of;
use custos_journal::{Appender, Journal, JournalError};
use custos_messages::{Keyring, Mail, Postmark, Record, ReplyTo, Source, TraceParent};

use crate::telemetry::current_trace;

/// A sealed, durable way into the inboxes.
#[derive(Clone)]
pub struct Post {
    appender: Arc<dyn Appender>,
    keyring: Arc<Keyring>,
    source: Source,
    partitions: u32,
}

impl Post {
    /// A post for `source` into inboxes of `partitions` partitions.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub fn new(journal: &dyn Journal, keyring: Arc<Keyring>, source: Source, partitions: u32) -> Result<Self, JournalError> {
        Ok(Self { appender: journal.appender()?.into(), keyring, source, partitions })
    }

    /// Posts `mail` to the partition of its key. Blocks until it is durable.
    ///
    /// # Errors
    /// The log does not take it; it may or may not have arrived, and posting it again is harmless.
    pub fn send(&self, mail: &Mail, reply_to: Option<ReplyTo>) -> Result<(), JournalError> {
        let partition = partition_of(&mail.key(), self.partitions);
        self.send_to(partition, mail, reply_to)
    }

    /// Posts `mail` to one partition, for records that are for a shard and not for a key.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_to(&self, partition: u32, mail: &Mail, reply_to: Option<ReplyTo>) -> Result<(), JournalError> {
        let record = self.seal(mail, reply_to, current_trace());
        self.appender.append(mail.topic(), partition, record).map(drop)
    }

    /// Posts several, in order for each partition.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_all(&self, mails: &[(Mail, Option<TraceParent>)]) -> Result<(), JournalError> {
        let records = mails.iter().map(|(mail, trace)| {
            (mail.topic(), partition_of(&mail.key(), self.partitions), self.seal(mail, None, trace.clone()))
        });
        self.appender.append_all(records.collect())
    }

    /// Posts `mail` without blocking the calling task.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn send_async(&self, mail: Mail, reply_to: Option<ReplyTo>) -> Result<(), JournalError> {
        let post = self.clone();
        let trace = current_trace();
        let sent = tokio::task::spawn_blocking(move || {
            let partition = partition_of(&mail.key(), post.partitions);
            post.appender.append(mail.topic(), partition, post.seal(&mail, reply_to, trace)).map(drop)
        });
        sent.await.unwrap_or_else(|panic| Err(JournalError::Unavailable { operation: "append", reason: panic.to_string() }))
    }

    fn seal(&self, mail: &Mail, reply_to: Option<ReplyTo>, trace: Option<TraceParent>) -> Record {
        mail.seal(&self.keyring, self.source, Postmark { trace, reply_to, ..Postmark::default() })
    }
}
