//! The waiting room: requests that wait for their answer on this instance's partition of `gateway.replies`.
//!
//! Best effort by design: an answer that nobody waits for is dropped, and an answer that does not come leaves the outcome unknown.
//! Only an answer that accounts has sealed is given to anybody; what nobody may say here is put aside and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use custos_journal::{Entry, Feed, Journal, JournalError, Remedy, Start};
use custos_messages::gateway::{GatewayReply, Outcome};
use custos_messages::{Envelope, Keyring, Rejection, Source, Topic};
use custos_runtime::metrics::Metrics;
use custos_runtime::quarantine::Quarantine;
use tokio::sync::oneshot;

use crate::GatewayError;
use crate::problem::chain;

/// Records of one look.
const AT_ONCE: usize = 500;
/// How long one look waits; also how soon the reader notices that it shall stop.
const LOOK: Duration = Duration::from_millis(200);
/// The pause after a log that does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Requests that wait, by correlation, and the keys that are being accepted.
#[derive(Default)]
pub(crate) struct WaitingRoom {
    waiting: Mutex<BTreeMap<[u8; 16], oneshot::Sender<Outcome>>>,
    keys: Mutex<BTreeSet<Vec<u8>>>,
}

/// A place in the waiting room; leaving gives it up.
pub(crate) struct Seat {
    room: Arc<WaitingRoom>,
    pub(crate) correlation: [u8; 16],
    pub(crate) answer: oneshot::Receiver<Outcome>,
}

/// A key that this instance is accepting; dropping it lets the next request with it in.
pub(crate) struct KeyGuard {
    room: Arc<WaitingRoom>,
    key: Vec<u8>,
}

impl WaitingRoom {
    /// Takes a seat under a random correlation.
    pub(crate) fn sit(self: &Arc<Self>) -> Result<Seat, GatewayError> {
        let mut correlation = [0; 16];
        getrandom::fill(&mut correlation).map_err(GatewayError::Randomness)?;
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, tell);
        Ok(Seat { room: Arc::clone(self), correlation, answer })
    }

    /// Claims a key; `None` while another request with it is being accepted here.
    pub(crate) fn claim(self: &Arc<Self>, key: Vec<u8>) -> Option<KeyGuard> {
        let fresh = self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        fresh.then(|| KeyGuard { room: Arc::clone(self), key })
    }

    fn tell(&self, reply: GatewayReply) {
        let seat = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&reply.correlation);
        // Whoever waited may have left: the truth is in the events.
        let _ = seat.map(|seat| seat.send(reply.outcome));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.correlation);
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.room.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Reads one partition of replies for a waiting room.
pub(crate) struct Reader {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) instance: u32,
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Reader {
    /// The place after everything that is there now: what comes later may be for us. And the way into quarantine.
    pub(crate) fn open(&self) -> Result<(Box<dyn Feed>, Quarantine), JournalError> {
        let feed = self.journal.read(Topic::GatewayReplies, self.instance, Start::Latest)?;
        Ok((feed, Quarantine::open(&*self.journal, self.metrics.clone(), "gateway")?))
    }

    /// Reads until it shall stop. Blocks: it belongs on a thread of its own.
    ///
    /// # Errors
    /// The log cannot be used any more.
    pub(crate) fn run(&self, mut feed: Box<dyn Feed>, quarantine: &Quarantine) -> Result<(), JournalError> {
        let mut next = None;
        while !self.stop.load(Ordering::Acquire) {
            match feed.poll(AT_ONCE, LOOK) {
                Ok(entries) => {
                    for entry in entries {
                        next = Some(entry.offset.saturating_add(1));
                        self.take(&entry, quarantine);
                    }
                }
                Err(error) if error.remedy() == Remedy::Halt => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "replies cannot be read; requests stay unknown meanwhile");
                    std::thread::sleep(PAUSE);
                    let from = next.map_or(Start::Latest, Start::At);
                    if let Ok(again) = self.journal.read(Topic::GatewayReplies, self.instance, from) {
                        feed = again;
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, entry: &Entry, quarantine: &Quarantine) {
        // Other machines may answer others; here it is accounts that decides.
        let by_accounts = |(envelope, reply): (Envelope, GatewayReply)| match envelope {
            Envelope { source: Source::Accounts, .. } => Ok(reply),
            Envelope { source: from, kind, .. } => Err(Rejection::NotAllowed { from, kind }),
        };
        let opened = self.keyring.open_message::<GatewayReply>(Topic::GatewayReplies, &entry.record);
        match opened.and_then(by_accounts) {
            Ok(reply) => self.room.tell(reply),
            Err(rejection) => {
                tracing::error!(
                    offset = entry.offset,
                    code = rejection.code(),
                    "a reply that cannot be trusted is put aside"
                );
                // Best effort, as all of this: whoever waits for a true reply does not wait for a false one.
                if let Err(error) = quarantine.reject(Topic::GatewayReplies, entry, &rejection) {
                    tracing::warn!(error = %chain(&error), "it could not be put aside, and stays where it is");
                }
            }
        }
    }
}
