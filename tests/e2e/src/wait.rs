//! Waiting: a condition is asked again until it holds or its deadline has passed. There is no other waiting in these tests.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// For what a healthy product does at once.
pub const SHORT: Duration = Duration::from_secs(30);
/// For what needs timers, several steps or a busy machine.
pub const LONG: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives something. An error of the probe counts as "not yet"; the last one is told at the deadline.
///
/// # Errors
/// The deadline has passed.
pub async fn until<T, F>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = match probe().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            match last {
                None => bail!("{what}: not within {limit:?}"),
                Some(error) => return Err(error.context(format!("{what}: not within {limit:?}"))),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
