//! The one skeleton of all stateless services: a command in, work that is idempotent by the command's id, replies out.

use std::future::Future;
use std::time::Duration;

use custos_messages::{Mail, Message, Source, Topic};

/// A stateless service: a value with one method.
///
/// # Laws
/// `handle` may run any number of times for one command, also at the same time in two processes; each run gives the same
/// reply or a reply that its receiver drops as a repeat. The command is acknowledged after the replies are durable, or, if it could not
/// be dealt with within [`Self::PATIENCE`], without any.
pub trait Service: Send + Sync + 'static {
    /// What it is asked.
    type Command: Message + std::fmt::Debug + Send;

    /// Its consumer group and its name in logs and metrics.
    const NAME: &'static str;
    /// Where its commands arrive.
    const COMMANDS: Topic;
    /// As whom it signs its replies.
    const SOURCE: Source;
    /// How long commands that were taken together are tried again before they are let go without an answer; for ever if none. Who asks
    /// such a service repeats the question until there is an answer.
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

    /// Does what `command` asks.
    fn handle(&self, command: Self::Command) -> impl Future<Output = Result<Vec<Mail>, Setback>> + Send;
}

/// Why a command could not be dealt with now. A business "no" is a reply and never a setback.
#[derive(Debug, thiserror::Error)]
pub enum Setback {
    /// Try the same command again after a pause.
    #[error("to be tried again")]
    Retry(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The service cannot go on: it stops, and a human must look.
    #[error("cannot go on")]
    Halt(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Setback {
    /// Try again later because of `cause`.
    pub fn retry(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Retry(cause.into())
    }

    /// Stop because of `cause`.
    pub fn halt(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Halt(cause.into())
    }
}
