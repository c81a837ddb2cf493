//! `custos serve`: runs parts until a signal or the end of any of them.

use anyhow::{Context, anyhow};
use custos_runtime::health::{Condition, serve_health};
use custos_runtime::ops::serve_desk;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::config::Config;
use crate::interrupt;
use crate::parts::{Ended, Part, start};
use crate::stage::Stage;

/// What `serve` prints on standard output when every part is up.
pub const SERVING: &str = "serving ";

/// Runs `parts` of `config`.
///
/// # Errors
/// A part cannot start, or ended without being told to.
pub async fn serve(config: Config, parts: &[Part]) -> anyhow::Result<()> {
    let stage = Stage::open(config, interrupt::armed())?;
    let (ended, mut endings) = channel(Part::ALL.len());
    let health = tokio::spawn(serve_health(stage.config.health, stage.health.clone(), stage.metrics.clone(), stage.token()));
    let mut reader = None;
    for part in parts {
        reader = start(*part, &stage, &ended).await?.or(reader);
    }
    drop(ended);
    let ops = tokio::spawn(serve_desk(stage.desk.clone(), reader, stage.config.ops, stage.token()));
    announce(parts);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ending = endings.recv() => Err(failure(ending, &stage)),
        ended = health => Err(anyhow!("health and metrics: {ended:?}")),
        ended = ops => Err(anyhow!("operators' questions: {ended:?}")),
    };
    stage.stop();
    let orderly = drain(&mut endings, &stage).await;
    outcome.and(orderly)
}

#[expect(clippy::print_stdout, reason = "whoever started the process waits for this line")]
fn announce(parts: &[Part]) {
    let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
    println!("{SERVING}{}", names.join(" "));
}

fn failure(ending: Option<Ended>, stage: &Stage) -> anyhow::Error {
    let Some(Ended { part, how }) = ending else { return anyhow!("every part ended") };
    let error = how.err().unwrap_or_else(|| anyhow!("it ended without being told to"));
    stage.health.set(part.name(), Condition::Failed(format!("{error:#}")));
    tracing::error!(%part, error = format!("{error:#}"), "a part ended: the process stops");
    error.context(format!("{part}"))
}

/// Waits until every part has given up what it holds.
async fn drain(endings: &mut Receiver<Ended>, stage: &Stage) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(Ended { part, how }) = endings.recv().await {
        if let Err(error) = how {
            stage.health.set(part.name(), Condition::Failed(format!("{error:#}")));
            first = first.and(Err(error).with_context(|| part.to_string()));
        }
    }
    first
}
