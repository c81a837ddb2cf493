//! The event stream (SSE): resumes at the last event id, says that it lives every 15 s, and leaves a reader that does not keep up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use custos_domain::AccountId;
use custos_readmodel::{FeedId, ReadError, ReadModel};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::problem::chain;
use crate::server::App;
use crate::views::{EventView, Registry};

/// Events that wait for a reader.
const WAITING: usize = 64;
/// Events of one look into the read model.
const AT_ONCE: u32 = 100;
/// How often a silent stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Whose events, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) account: Option<AccountId>,
    pub(crate) after: FeedId,
}

/// Why a stream ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The reader left, or the gateway stops.
    Left,
    /// The reader took nothing for too long. It comes back with its last event id and misses nothing.
    TooSlow,
    /// The read model does not answer.
    Unread(ReadError),
}

/// A stream of events; `permit` is its place among all streams.
pub(crate) fn stream(
    app: &Arc<App>,
    wanted: Wanted,
    permit: OwnedSemaphorePermit,
) -> Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>> + use<>> {
    let (tell, told) = mpsc::channel(WAITING);
    let teller = Teller {
        model: app.model.clone(),
        registry: app.registry.clone(),
        head: app.head.clone(),
        patience: app.patience,
        stop: app.stop.clone(),
    };
    tokio::spawn(async move {
        let _permit = permit;
        match teller.pump(wanted, tell).await {
            Ended::Left => {}
            Ended::TooSlow => tracing::info!("a stream's reader is too slow and was left"),
            Ended::Unread(error) => tracing::warn!(error = %chain(&error), "a stream ends: events cannot be read"),
        }
    });
    Sse::new(ReceiverStream::new(told)).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"))
}

/// What a stream needs.
struct Teller {
    model: ReadModel,
    registry: Registry,
    head: watch::Receiver<FeedId>,
    /// How long the reader may take nothing.
    patience: Duration,
    stop: CancellationToken,
}

impl Teller {
    /// Tells events until the reader leaves or is too slow.
    async fn pump(mut self, wanted: Wanted, tell: mpsc::Sender<Result<Event, Infallible>>) -> Ended {
        let mut after = wanted.after;
        loop {
            self.head.mark_unchanged();
            let events = match self.model.events(wanted.account.as_ref(), after, AT_ONCE).await {
                Ok(events) => events,
                Err(error) => return Ended::Unread(error),
            };
            let Some(last) = events.last() else {
                tokio::select! {
                    grown = self.head.changed() => if grown.is_err() { return Ended::Left },
                    () = tell.closed() => return Ended::Left,
                    () = self.stop.cancelled() => return Ended::Left,
                }
                continue;
            };
            after = last.id;
            for told in &events {
                let view = EventView::of(&self.registry, told);
                let event = Event::default().id(view.id.to_string()).event(&view.r#type);
                // The view is plain data; an event that could not be written would be a hole, so the stream ends instead.
                let Ok(event) = event.json_data(&view) else { return Ended::Left };
                match tell.send_timeout(Ok(event), self.patience).await {
                    Ok(()) => {}
                    Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Ended::TooSlow,
                    Err(mpsc::error::SendTimeoutError::Closed(_)) => return Ended::Left,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use custos_domain::Timestamp;
    use custos_messages::events::{Event as Told, EventBody};
    use custos_messages::{Chained, Message as _};
    use custos_readmodel::Arrival;

    use super::*;

    async fn three_events(model: &ReadModel) {
        let mut previous = Chained::GENESIS;
        let arrivals = (1..=3_u64).map(|sequence| {
            let name = format!("client-{sequence}");
            let body = EventBody::AccountOpened { tenant: custos_testkit::tenant(), key: custos_testkit::key(&name) };
            let account = custos_testkit::account(&name);
            let event = Told { account, sequence: 1, at: Timestamp(sequence), saga: None, body };
            let place = Chained::place(&event, 0, sequence, previous);
            previous = place.hash;
            Arrival { partition: 0, offset: sequence, place, payload: event.encode(), event }
        });
        model.projection().apply(&arrivals.collect::<Vec<_>>()).await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_left_and_one_that_goes_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let model = ReadModel::open(&format!("sqlite://{}", folder.path().join("read.db").display())).await.unwrap();
        three_events(&model).await;
        let (_head, head) = watch::channel(FeedId::default());
        let teller = || Teller {
            model: model.clone(),
            registry: Registry(Arc::new(custos_testkit::policy())),
            head: head.clone(),
            patience: Duration::from_millis(20),
            stop: CancellationToken::new(),
        };
        let all = Wanted { account: None, after: FeedId(0) };
        let (tell, told) = mpsc::channel(2);
        assert!(matches!(teller().pump(all, tell).await, Ended::TooSlow), "two fit, the third waits in vain");
        drop(told);
        let (tell, told) = mpsc::channel(8);
        drop(told);
        assert!(matches!(teller().pump(all, tell).await, Ended::Left));
    }
}
