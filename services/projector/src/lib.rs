//! The projector: reads the event log and folds it into the read model, as fast as it comes.
//!
//! One thread per partition reads (the log's calls block); one task folds, so that what several partitions have at one moment
//! becomes one SQL transaction. Invariants: reading begins where the read model says, never where this process thinks it is; what
//! is no event that accounts has sealed for its place is put aside, counted, and holds nobody up; an event that is missing, not
//! readable, or does not follow the one before stops the projector, and a human must look. Any number of projectors may run
//! beside each other. Deliberately absent: a consumer group, and any memory of its own.

mod error;
mod progress;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use custos_journal::Journal;
use custos_messages::{Keyring, Topic};
use custos_readmodel::{Arrival, Place, ReadError, ReadModel};
use custos_runtime::metrics::Metrics;
use custos_runtime::quarantine::Quarantine;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use error::ProjectorError;
pub use progress::{PartitionProgress, Progress};

use error::Remedy;
use reader::{Reader, Readers, Reading};

/// How it is called in metrics.
const NAME: &str = "projector";
/// How often a projector that has nothing to fold looks whether the read model is still where it was.
const LOOK: Duration = Duration::from_secs(1);
/// The most events of one SQL transaction.
const BATCH: usize = 2_000;
/// Readings that may wait to be folded; then the readers wait.
const WAITING: usize = 16;
/// The pause before another try, doubled each time up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Folds the event log into a read model.
#[derive(Clone)]
pub struct Projector {
    journal: Arc<dyn Journal>,
    keyring: Arc<Keyring>,
    model: ReadModel,
    progress: Progress,
    metrics: Metrics,
}

/// How one spell of reading ended.
enum Spell {
    /// It was asked to stop.
    Stopped,
    /// Something failed; whether anything was folded before.
    Failed { cause: ProjectorError, advanced: bool },
}

impl Projector {
    /// A projector of the events of `journal`, opened with `keyring` (which must know accounts' secret), into `model`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, keyring: Arc<Keyring>, model: ReadModel) -> Self {
        Self { journal, keyring, model, progress: Progress::default(), metrics: Metrics::default() }
    }

    /// The same, counting what it drops and puts aside in `metrics`.
    #[must_use]
    pub fn counted_in(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// How far it is: for metrics and health. All clones of it show the same.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Reads and folds until `stop`. What may pass (a database or log that does not answer, another projector that was faster,
    /// a read model that was emptied for a rebuild) is tried again from where the read model stands.
    ///
    /// # Errors
    /// What no second try mends: an event that is not readable, missing, or does not follow the one before; a journal entry that
    /// the database refuses.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), ProjectorError> {
        let mut pause = PAUSE;
        let mut last_gap = None;
        loop {
            let (cause, advanced) = match self.spell(&stop).await {
                Spell::Stopped => return Ok(()),
                Spell::Failed { cause, advanced } => (cause, advanced),
            };
            if advanced {
                (pause, last_gap) = (PAUSE, None);
            }
            match cause.remedy() {
                Remedy::Halt => return Err(cause),
                // A read model that was emptied looks like a gap, once: from where it stands now, the next event is the next.
                Remedy::LookAgain(gap) if last_gap == Some(gap) => return Err(cause),
                Remedy::LookAgain(gap) => last_gap = Some(gap),
                Remedy::Retry => {}
            }
            self.progress.restarted();
            cause.log_retry(pause);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Reads every partition from where the read model stands, and folds until something happens.
    async fn spell(&self, stop: &CancellationToken) -> Spell {
        let failed = |cause: ProjectorError| Spell::Failed { cause, advanced: false };
        let places = match self.model.places().await {
            Ok(places) => places,
            Err(cause) => return failed(cause.into()),
        };
        let (out, readings) = mpsc::channel(WAITING);
        let quit = stop.child_token();
        let readers = match self.start_readers(&places, &out, &quit).await {
            Ok(readers) => readers,
            Err(cause) => return failed(cause),
        };
        drop(out);
        let ended = self.fold_until(stop, readings).await;
        quit.cancel();
        readers.finish().await;
        ended
    }

    async fn start_readers(
        &self,
        places: &BTreeMap<u32, Place>,
        out: &mpsc::Sender<Reading>,
        quit: &CancellationToken,
    ) -> Result<Readers, ProjectorError> {
        let journal = self.journal.clone();
        let counting = tokio::task::spawn_blocking(move || journal.partitions(Topic::Events)).await;
        let partitions = counting.map_err(ProjectorError::Crashed)??;
        let (journal, metrics) = (self.journal.clone(), self.metrics.clone());
        let opening = tokio::task::spawn_blocking(move || Quarantine::open(&*journal, metrics, NAME)).await;
        let quarantine = Arc::new(opening.map_err(ProjectorError::Crashed)??);
        let mut readers = Readers::default();
        for partition in 0..partitions {
            let next_offset = places.get(&partition).map(|place| place.next_offset);
            self.progress.starts(partition, next_offset, places.get(&partition).map(|place| place.position));
            let reader = Reader {
                journal: self.journal.clone(),
                keyring: self.keyring.clone(),
                quarantine: quarantine.clone(),
                partition,
                next_offset,
                out: out.clone(),
                quit: quit.clone(),
                progress: self.progress.clone(),
            };
            if let Err(cause) = readers.start(reader) {
                quit.cancel();
                readers.finish().await;
                return Err(cause);
            }
        }
        Ok(readers)
    }

    /// Takes what the readers have; all that waits at one moment is one transaction.
    async fn fold_until(&self, stop: &CancellationToken, mut readings: mpsc::Receiver<Reading>) -> Spell {
        let mut projection = self.model.projection();
        let mut advanced = false;
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return Spell::Stopped,
                first = readings.recv() => first,
                () = tokio::time::sleep(LOOK) => match self.went_back().await {
                    Ok(None) => continue,
                    Ok(Some(cause)) | Err(cause) => return Spell::Failed { cause, advanced },
                },
            };
            // Readers end only when they are told to, or after they said why.
            let Some(first) = first else { return Spell::Stopped };
            let (batch, failure) = gather(first, &mut readings);
            if !batch.is_empty() {
                match projection.apply(&batch).await {
                    Ok(applied) => {
                        advanced |= applied.folded > 0;
                        self.progress.folded(&batch, applied.folded);
                        self.metrics.dropped(NAME, "event-repeat", applied.repeated);
                    }
                    Err(cause) => return Spell::Failed { cause: cause.into(), advanced },
                }
            }
            if let Some(cause) = failure {
                return Spell::Failed { cause, advanced };
            }
        }
    }
}

impl Projector {
    /// Whether the read model stands before what was folded here: it was emptied, and a quiet log would never show that.
    async fn went_back(&self) -> Result<Option<ProjectorError>, ProjectorError> {
        let places = self.model.places().await?;
        let stands = |partition| places.get(&partition).map_or(0, |place| place.position.sequence);
        let folded = self.progress.partitions().into_iter();
        let mut behind = folded.filter(|(partition, progress)| {
            progress.position.is_some_and(|position| position.sequence > stands(*partition))
        });
        Ok(behind.next().map(|(partition, _)| ProjectorError::WentBack { partition }))
    }
}

/// Everything that waits, up to a batch and up to the first failure: what was read before it is still folded.
fn gather(first: Reading, readings: &mut mpsc::Receiver<Reading>) -> (Vec<Arrival>, Option<ProjectorError>) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(reading) = next {
        match reading {
            Ok(some) => batch.extend(some),
            Err(cause) => return (batch, Some(cause)),
        }
        next = if batch.len() < BATCH { readings.try_recv().ok() } else { None };
    }
    (batch, None)
}

impl From<ReadError> for ProjectorError {
    fn from(cause: ReadError) -> Self {
        Self::Fold(cause)
    }
}
