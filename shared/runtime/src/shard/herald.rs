//! The herald: says questions without effect ahead of the commit, on a thread of its own, so that the shard goes on applying.
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
    outbox: Option<Sender<Vec<Asked>>>,
    told: Arc<Told>,
    asked: u64,
    thread: Option<JoinHandle<()>>,
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
        Ok(Self { outbox: Some(outbox), told, asked: 0, thread: Some(thread) })
    }

    /// Lets these questions leave now.
    pub fn ask(&mut self, questions: Vec<Asked>) {
        if let (Some(outbox), false) = (&self.outbox, questions.is_empty()) {
            self.asked = self.asked.saturating_add(count(&questions));
            // A thread that has ended shows in `settle`.
            drop(outbox.send(questions));
        }
    }

    /// Waits until everything that was asked is durable; as long as the log may take for an append.
    ///
    /// # Errors
    /// The log did not take a question: the transaction must not commit.
    pub fn settle(&self) -> Result<(), JournalError> {
        let lock = self.told.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |standing: &mut Standing| standing.durable < self.asked && !standing.ended;
        let mut standing = self.told.changed.wait_while(lock, open).unwrap_or_else(PoisonError::into_inner);
        if standing.durable >= self.asked {
            return Ok(());
        }
        let reason = || JournalError::Unavailable { operation: "ask", reason: "the herald ended".to_owned() };
        Err(standing.failed.take().unwrap_or_else(reason))
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.outbox = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
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
