//! What the node can be told to do wrong, and the log of what it was asked.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests that the log keeps; older ones are forgotten.
pub(crate) const REQUESTS_MAX: usize = 20_000;

/// How the node misbehaves towards its clients over HTTP. The default is an honest node; calls in process are never lied to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Lies {
    /// So many sends are accepted into the pool and never answered: the client's own timeout must end them.
    pub accept_and_time_out_sends: u32,
    /// So many sends are answered with their hash and forgotten.
    pub drop_sends: u32,
    /// Every answer waits so long, in milliseconds.
    pub delay_ms: u64,
    /// The node shows itself so many blocks behind its true head.
    pub stale_head: u64,
    /// Methods that answer with an error (-32603).
    pub error_on: BTreeSet<String>,
}

impl Lies {
    pub(crate) fn delay(&self) -> Option<Duration> {
        (self.delay_ms > 0).then(|| Duration::from_millis(self.delay_ms))
    }
}

/// What happens to one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendFate {
    Honest,
    AcceptAndNeverAnswer,
    AnswerAndForget,
}

impl Lies {
    /// Takes one send off the counters.
    pub(crate) fn next_send(&mut self) -> SendFate {
        if self.accept_and_time_out_sends > 0 {
            self.accept_and_time_out_sends = self.accept_and_time_out_sends.saturating_sub(1);
            SendFate::AcceptAndNeverAnswer
        } else if self.drop_sends > 0 {
            self.drop_sends = self.drop_sends.saturating_sub(1);
            SendFate::AnswerAndForget
        } else {
            SendFate::Honest
        }
    }
}

/// One request that arrived over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The JSON-RPC method.
    pub method: String,
    /// Its parameters, as they came.
    pub params: Value,
    /// Milliseconds since the chain was made.
    pub at_ms: u64,
}

/// The last requests, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestLog(VecDeque<Request>);

impl RequestLog {
    pub(crate) fn push(&mut self, request: Request) {
        if self.0.len() >= REQUESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.0.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
