//! Three-step sagas on the real skeleton: host, service, journal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use custos_domain::AccountId;
use custos_messages::Source;
use custos_runtime::metrics::Metrics;
use custos_runtime::post::Post;
use serde_json::{Value, json};

use crate::echo::start_message;
use crate::load::{Begin, Level, Plan, Watch, run};
use crate::rig::Rig;

/// Clients: few enough to stay in memory, enough to spread over shards.
const ACCOUNTS: u64 = 1_024;
/// Numbers of one level.
pub const LEVEL_NUMBERS: u64 = 100_000_000;

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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _echo = rig.echo(runtime.handle());
    let post = Post::new(&*rig.journal, Arc::clone(&rig.keyring), Source::Gateway, rig.partitions)?;
    let begin: Begin = Arc::new(move |numbers| {
        let mails: Result<Vec<_>, _> =
            numbers.iter().map(|number| start_message(*number, account(*number)).map(|mail| (mail, None))).collect();
        Ok(post.send_all(&mails?)?)
    });
    let mut first = 0_u64;
    for ahead in &course.ahead {
        let (watch, mut ends) = Watch::new();
        let metrics = Metrics::default();
        let seen = watch.clone();
        let interrupt = Arc::new(move |point: &str| {
            if let Ok(number) = point.parse() {
                seen.ended(number);
            }
        });
        let _host = rig.host(*ahead, Some(interrupt), &metrics);
        for in_flight in &course.in_flight {
            let before = (rig.processor_ms(), counted(&metrics));
            let level = run(course.plan(*in_flight), first, &begin, &mut ends)?;
            let after = (rig.processor_ms(), counted(&metrics));
            first = first.saturating_add(LEVEL_NUMBERS);
            let mut figure = figure("sagas", rig, *in_flight, &level);
            let more = json!({
                "ahead": ahead,
                "inputs": after.1.0.saturating_sub(before.1.0),
                "transactions": after.1.1.saturating_sub(before.1.1),
                "processor_ms": after.0.0.saturating_sub(before.0.0),
                "broker_processor_ms": rig.broker.map(|_| after.0.1.saturating_sub(before.0.1)),
            });
            merge(&mut figure, more)?;
            tell(&figure)?;
        }
    }
    Ok(())
}

/// What every level's figure says.
pub fn figure(bench: &str, rig: &Rig, in_flight: u64, level: &Level) -> Value {
    json!({
        "bench": bench,
        "log": rig.name,
        "partitions": rig.partitions,
        "in_flight": in_flight,
        "sagas": level.sagas,
        "measured_ms": u64::try_from(level.took.as_millis()).unwrap_or(u64::MAX),
        "per_second": level.per_second(),
        "p50_us": level.percentile(50),
        "p99_us": level.percentile(99),
    })
}

/// Adds the fields of `more`.
///
/// # Errors
/// One of the two is no object.
pub fn merge(figure: &mut Value, more: Value) -> Result<()> {
    match (figure, more) {
        (Value::Object(figure), Value::Object(more)) => {
            figure.extend(more);
            Ok(())
        }
        _ => Err(anyhow!("a figure is an object")),
    }
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
