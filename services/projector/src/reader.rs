//! Reading one partition of the event log, on a thread of its own: the log's calls block.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::{Entry, Journal, Start};
use custos_messages::events::Event;
use custos_messages::{Chained, Keyring, Record, Rejection, Source, Topic};
use custos_readmodel::Arrival;
use custos_runtime::quarantine::Quarantine;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Progress, ProjectorError};

/// The most records of one reading.
const MOST: usize = 1_000;
/// How long one poll waits: also how soon a reader sees that it is to stop.
const WAIT: Duration = Duration::from_millis(100);
/// How often the end of the log is asked for, for the lag alone.
const ASK_END_EVERY: Duration = Duration::from_secs(1);

/// Events in order, or why there are no more.
pub(crate) type Reading = Result<Vec<Arrival>, ProjectorError>;

/// Reads one partition.
pub(crate) struct Reader {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) partition: u32,
    /// Where to begin; at the start of the log if nothing is folded.
    pub(crate) next_offset: Option<u64>,
    pub(crate) out: mpsc::Sender<Reading>,
    pub(crate) quit: CancellationToken,
    pub(crate) progress: Progress,
}

/// The threads of one spell.
#[derive(Default)]
pub(crate) struct Readers(Vec<JoinHandle<()>>);

impl Readers {
    pub(crate) fn start(&mut self, reader: Reader) -> Result<(), ProjectorError> {
        let partition = reader.partition;
        let thread = std::thread::Builder::new().name(format!("projector-{partition}")).spawn(move || reader.work());
        self.0.push(thread.map_err(|source| ProjectorError::Thread { partition, source })?);
        Ok(())
    }

    /// Waits until all threads, which have been told to, have ended.
    pub(crate) async fn finish(self) {
        let joining = tokio::task::spawn_blocking(move || {
            for thread in self.0 {
                if thread.join().is_err() {
                    tracing::error!("a reader of the event log crashed");
                }
            }
        });
        if let Err(cause) = joining.await {
            tracing::error!(%cause, "the readers of the event log could not be joined");
        }
    }
}

impl Reader {
    fn work(self) {
        if let Err(cause) = self.read() {
            // Nobody listens any more when the projector is already stopping.
            let _ = self.out.blocking_send(Err(cause));
        }
    }

    fn read(&self) -> Result<(), ProjectorError> {
        let start = self.next_offset.map_or(Start::Earliest, Start::At);
        let mut feed = self.journal.read(Topic::Events, self.partition, start)?;
        let mut asked: Option<Instant> = None;
        while !self.quit.is_cancelled() {
            if asked.is_none_or(|at| at.elapsed() >= ASK_END_EVERY) {
                let (_, end) = self.journal.bounds(Topic::Events, self.partition)?;
                self.progress.log_ends(self.partition, end);
                asked = Some(Instant::now());
            }
            let entries = feed.poll(MOST, WAIT)?;
            if entries.is_empty() {
                continue;
            }
            let mut arrivals = Vec::with_capacity(entries.len());
            let opened: Result<(), ProjectorError> = entries.into_iter().try_for_each(|entry| {
                arrivals.extend(self.open(entry)?);
                Ok(())
            });
            // What was read before an event that is not for this program is still folded.
            if self.out.blocking_send(Ok(arrivals)).is_err() {
                return Ok(());
            }
            opened?;
        }
        Ok(())
    }

    /// The event of a record. What is no link of this partition's chain, sealed by accounts, is put aside: the chain is dense, so an
    /// event that was altered into it is missed at the next. A link that cannot be read is for a newer program.
    fn open(&self, entry: Entry) -> Result<Option<Arrival>, ProjectorError> {
        let opened = self.keyring.open_message::<Event>(Topic::Events, &entry.record);
        let (ours, kind) = match &opened {
            Ok((envelope, _)) => (true, envelope.kind.clone()),
            Err(Rejection::NotAllowed { from, kind }) => (*from == Source::Accounts, kind.clone()),
            Err(Rejection::Undecodable(_)) => (true, header(&entry.record, "ce_type")),
            Err(Rejection::Oversized(_) | Rejection::Envelope(_) | Rejection::Unauthenticated(_)) => (false, String::new()),
        };
        let place = Chained::read(&entry.record);
        let linked = ours && place.is_ok_and(|place| place.holds(entry.partition, &kind, &entry.record));
        match (opened, place) {
            (Ok((_, event)), Ok(place)) if linked => {
                let Entry { partition, offset, record, .. } = entry;
                Ok(Some(Arrival { partition, offset, place, event, payload: record.value.unwrap_or_default() }))
            }
            (Err(source), _) if linked => {
                Err(ProjectorError::Unreadable { partition: entry.partition, offset: entry.offset, source })
            }
            (Err(rejection), _) => {
                self.quarantine.reject(Topic::Events, &entry, &rejection)?;
                Ok(None)
            }
            (Ok(_), _) => {
                self.quarantine.put(
                    Topic::Events,
                    &entry,
                    "misrouted",
                    "the event has no place in this partition's chain",
                )?;
                Ok(None)
            }
        }
    }
}

fn header(record: &Record, name: &str) -> String {
    record.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}
