//! Three-step sagas on the real skeleton: host, service, journal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use custos_domain::AccountId;
use custos_messages::Source;
use custos_runtime::metrics::Metrics;
use custos_runtime::post::Post;
use serde_json::Value;

use crate::echo::start_message;
use crate::load::{Begin, Plan, Watch};
use crate::rig::Rig;
use crate::side::Side;

/// Clients: few enough to stay in memory, enough to spread over shards.
const ACCOUNTS: u64 = 1_024;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Course {
    /// Sagas in flight, level by level.
    pub in_flight: Vec<u64>,
    /// Before anything counts, at each level.
    pub warm: Duration,
    /// While everything counts, at each level.
    pub measured: Duration,
    /// Whether questions leave ahead of the commit: each of these in turn.
    pub ahead: Vec<bool>,
}

impl Course {
    /// The plan of one level.
    pub const fn plan(&self, in_flight: u64) -> Plan {
        Plan { in_flight, warm: self.warm, measured: self.measured }
    }
}

/// The account of saga `number`.
pub fn account(number: u64) -> AccountId {
    custos_testkit::account(&format!("bench-{}", number % ACCOUNTS))
}

/// Runs all levels and hands each figure to `tell`.
///
/// # Errors
/// The log fails, or a saga does not end.
pub fn measure(rig: &Rig, course: &Course, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let runtime = runtime()?;
    let mut next = 0;
    for ahead in &course.ahead {
        let mut side = side(rig, runtime.handle(), *ahead, next)?;
        for in_flight in &course.in_flight {
            tell(&side.level(rig, course.plan(*in_flight))?.1)?;
        }
        next = side.next;
    }
    Ok(())
}

/// The runtime of the service.
///
/// # Errors
/// The operating system refuses threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// The product, running: host, service, and a door through which sagas come in; their numbers begin at `next`.
///
/// # Errors
/// The log cannot be written.
pub fn side(rig: &Rig, handle: &tokio::runtime::Handle, ahead: bool, next: u64) -> Result<Side> {
    let post = Post::new(&*rig.journal, Arc::clone(&rig.keyring), Source::Gateway, rig.partitions)?;
    let begin: Begin = Arc::new(move |numbers| {
        let mails: Result<Vec<_>, _> =
            numbers.iter().map(|number| start_message(*number, account(*number)).map(|mail| (mail, None))).collect();
        Ok(post.send_all(&mails?)?)
    });
    let (watch, ends) = Watch::new();
    let interrupt = Arc::new(move |point: &str| {
        if let Ok(number) = point.parse() {
            watch.ended(number);
        }
    });
    let metrics = Metrics::default();
    let hands = vec![rig.echo(handle), rig.host(ahead, Some(interrupt), &metrics)];
    Ok(Side { name: "sagas", ahead, begin, ends, counted: Box::new(move || counted(&metrics)), next, _hands: hands })
}

/// Inputs and transactions so far, warm-up and drain included.
pub fn counted(metrics: &Metrics) -> (u64, u64) {
    let text = metrics.text();
    let of = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    (of("custos_inputs_total"), of("custos_commits_total"))
}
