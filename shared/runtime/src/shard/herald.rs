//! The herald: says questions without effect ahead of the commit, on a thread of its own, so that the shard goes on applying. Where
//! there is one thread for everything, the shard says them itself.
//!
//! Invariants: questions leave in the order in which they were asked; a transaction commits only after every question that it asked
//! is durable, for nobody would ask it again. A question that left before a transaction that never commits does no harm: the next
//! owner hears the same input and asks the same question under the same id.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use custos_journal::{Appender, JournalError};
use custos_messages::{Record, Topic};

/// A question on its way: topic, partition, record.
type Asked = (Topic, u32, Record);

/// The shard's side of the herald.
pub struct Herald {
    mouth: Mouth,
    asked: u64,
}

enum Mouth {
    /// A thread, which ends when the shard hangs up.
    Thread { outbox: Option<Sender<Vec<Asked>>>, told: Arc<Told>, thread: Option<JoinHandle<()>> },
    /// The shard itself.
    Own { appender: Arc<dyn Appender>, failed: Mutex<Option<JournalError>> },
}

#[derive(Default)]
struct Told {
    standing: Mutex<Standing>,
    changed: Condvar,
}

#[derive(Default)]
struct Standing {
    /// Questions that are durable.
    durable: u64,
    /// Why no further question leaves.
    failed: Option<JournalError>,
    /// The thread has ended.
    ended: bool,
}

impl Herald {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(name: &str, appender: Arc<dyn Appender>) -> std::io::Result<Self> {
        let (outbox, inbox) = channel();
        let told = Arc::new(Told::default());
        let tell = Arc::clone(&told);
        let thread =
            std::thread::Builder::new().name(format!("herald {name}")).spawn(move || say_all(&inbox, &*appender, &tell))?;
        Ok(Self { mouth: Mouth::Thread { outbox: Some(outbox), told, thread: Some(thread) }, asked: 0 })
    }

    /// A herald without a thread: questions are durable, or have failed, when [`Self::ask`] returns.
    #[must_use]
    pub fn own(appender: Arc<dyn Appender>) -> Self {
        Self { mouth: Mouth::Own { appender, failed: Mutex::new(None) }, asked: 0 }
    }

    /// Lets these questions leave now.
    pub fn ask(&mut self, questions: Vec<Asked>) {
        if questions.is_empty() {
            return;
        }
        self.asked = self.asked.saturating_add(count(&questions));
        match &self.mouth {
            // A thread that has ended shows in `settle`.
            Mouth::Thread { outbox, .. } => drop(outbox.as_ref().map(|outbox| outbox.send(questions))),
            Mouth::Own { appender, failed } => {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.is_none() {
                    *failed = appender.append_all(questions).err();
                }
            }
        }
    }

    /// Waits until everything that was asked is durable; as long as the log may take for an append.
    ///
    /// # Errors
    /// The log did not take a question: the transaction must not commit.
    pub fn settle(&self) -> Result<(), JournalError> {
        let told = match &self.mouth {
            Mouth::Thread { told, .. } => told,
            Mouth::Own { failed, .. } => {
                return failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err);
            }
        };
        let lock = told.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |standing: &mut Standing| standing.durable < self.asked && !standing.ended;
        let mut standing = told.changed.wait_while(lock, open).unwrap_or_else(PoisonError::into_inner);
        if standing.durable >= self.asked {
            return Ok(());
        }
        let reason = || JournalError::Unavailable { operation: "ask", reason: "the herald ended".to_owned() };
        Err(standing.failed.take().unwrap_or_else(reason))
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        if let Mouth::Thread { outbox, thread, .. } = &mut self.mouth {
            *outbox = None;
            if let Some(thread) = thread.take() {
                drop(thread.join());
            }
        }
    }
}

fn count(questions: &[Asked]) -> u64 {
    u64::try_from(questions.len()).unwrap_or(u64::MAX)
}

fn say_all(inbox: &Receiver<Vec<Asked>>, appender: &dyn Appender, told: &Told) {
    while let Ok(mut questions) = inbox.recv() {
        while let Ok(more) = inbox.try_recv() {
            questions.extend(more);
        }
        let said = count(&questions);
        let outcome = appender.append_all(questions);
        let mut standing = told.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => standing.durable = standing.durable.saturating_add(said),
            Err(error) => {
                standing.failed = Some(error);
                break;
            }
        }
        drop(standing);
        told.changed.notify_all();
    }
    told.standing.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    told.changed.notify_all();
}
