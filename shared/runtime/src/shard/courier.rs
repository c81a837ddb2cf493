//! The courier: carries what leaves a shard after its commit, on a thread of its own, so that one slow inbox never holds the shard. Where
//! there is one thread for everything, the shard carries it itself, in turns of its own.
//!
//! Invariants: messages of one link leave in order; a message is reported as delivered only when it is durable in its inbox.
//! Everything is tried until it succeeds or the shard is given up; a new owner sends again what was not struck off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::{Appender, JournalError, Remedy};
use custos_messages::{Record, Topic};

use super::records::PendingId;
use crate::pace::Clock;

/// Something to carry.
pub struct Parcel {
    /// Where to.
    pub topic: Topic,
    /// Which partition.
    pub partition: u32,
    /// What.
    pub record: Record,
    /// Its place on a link, when it must be reported as delivered.
    pub id: Option<PendingId>,
}

/// The shard's side of the courier.
pub struct Courier(Legs);

enum Legs {
    /// A thread, which ends when the shard hangs up.
    Thread {
        outbox: Option<Sender<Vec<Parcel>>>,
        delivered: Arc<Mutex<VecDeque<PendingId>>>,
        thread: Option<JoinHandle<()>>,
    },
    /// The shard itself.
    Own(Box<Satchel>),
}

/// What the shard carries itself.
struct Satchel {
    appender: Arc<dyn Appender>,
    clock: Clock,
    waiting: Vec<Parcel>,
    delivered: Vec<PendingId>,
    /// Before this moment nothing is tried again.
    not_before: Instant,
    /// Ways on which nothing could be carried last.
    dead: VecDeque<Way>,
    lost: bool,
}

/// How long a parcel that the log did not take waits for the next try.
const PAUSE: Duration = Duration::from_millis(200);

impl Courier {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(name: &str, appender: Arc<dyn Appender>) -> std::io::Result<Self> {
        let (outbox, inbox) = channel();
        let delivered = Arc::new(Mutex::new(VecDeque::new()));
        let report = Arc::clone(&delivered);
        let thread = std::thread::Builder::new()
            .name(format!("courier {name}"))
            .spawn(move || carry_all(&inbox, &*appender, &report))?;
        Ok(Self(Legs::Thread { outbox: Some(outbox), delivered, thread: Some(thread) }))
    }

    /// A courier without a thread: it moves when [`Self::walk`] is called.
    #[must_use]
    pub fn own(appender: Arc<dyn Appender>, clock: Clock) -> Self {
        let not_before = clock.now();
        let (waiting, delivered, dead) = (Vec::new(), Vec::new(), VecDeque::new());
        Self(Legs::Own(Box::new(Satchel { appender, clock, waiting, delivered, not_before, dead, lost: false })))
    }

    /// Carries what waits, if there is no thread that does; whether there was anything to carry.
    pub fn walk(&mut self) -> bool {
        match &mut self.0 {
            Legs::Thread { .. } => false,
            Legs::Own(satchel) => satchel.walk(),
        }
    }

    /// Hands over parcels; they leave in this order.
    pub fn send(&mut self, parcels: Vec<Parcel>) {
        match &mut self.0 {
            Legs::Thread { outbox: Some(outbox), .. } if !parcels.is_empty() => {
                // The thread ends only when this side hangs up or a parcel can never be carried; a new owner sends again.
                drop(outbox.send(parcels));
            }
            Legs::Thread { .. } => {}
            Legs::Own(satchel) => satchel.waiting.extend(parcels),
        }
    }

    /// Whether nothing is carried any more although the shard has not hung up.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Legs::Thread { thread, .. } => thread.as_ref().is_some_and(JoinHandle::is_finished),
            Legs::Own(satchel) => satchel.lost,
        }
    }

    /// What became durable since the last call.
    #[must_use]
    pub fn delivered(&mut self) -> Vec<PendingId> {
        match &mut self.0 {
            Legs::Thread { delivered, .. } => delivered.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect(),
            Legs::Own(satchel) => std::mem::take(&mut satchel.delivered),
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if let Legs::Thread { outbox, thread, .. } = &mut self.0 {
            *outbox = None;
            if let Some(thread) = thread.take() {
                drop(thread.join());
            }
        }
    }
}

impl Satchel {
    fn walk(&mut self) -> bool {
        if self.lost || self.waiting.is_empty() || self.clock.now() < self.not_before {
            return false;
        }
        let Carried { delivered, rest } = carry(&mut self.waiting, &mut self.dead, &*self.appender);
        self.delivered.extend(delivered);
        match rest {
            Rest::None => {}
            Rest::Later => self.not_before = self.clock.now() + PAUSE,
            Rest::Never => self.lost = true,
        }
        true
    }
}

fn carry_all(inbox: &Receiver<Vec<Parcel>>, appender: &dyn Appender, delivered: &Mutex<VecDeque<PendingId>>) {
    let (mut waiting, mut dead) = (Vec::new(), VecDeque::new());
    loop {
        let more = if waiting.is_empty() { inbox.recv().ok() } else { inbox.recv_timeout(PAUSE).or_else(still_open).ok() };
        let Some(more) = more else { return };
        waiting.extend(more);
        while let Ok(more) = inbox.try_recv() {
            waiting.extend(more);
        }
        let carried = carry(&mut waiting, &mut dead, appender);
        delivered.lock().unwrap_or_else(PoisonError::into_inner).extend(carried.delivered);
        if let Rest::Never = carried.rest {
            return;
        }
    }
}

/// What became of parcels.
struct Carried {
    /// Durable, and to be reported.
    delivered: Vec<PendingId>,
    /// The others.
    rest: Rest,
}

/// What becomes of parcels that are not durable.
enum Rest {
    /// There are none.
    None,
    /// They wait for the next try.
    Later,
    /// They can never be carried.
    Never,
}

/// Where parcels go.
type Way = (Topic, u32);

/// Tries to carry everything that waits: all together, but for the ways on which nothing could be carried before; of those one is tried in
/// each round. For a partition may have no leader, and the others must neither wait for it nor hear everything again and again.
fn carry(waiting: &mut Vec<Parcel>, dead: &mut VecDeque<Way>, appender: &dyn Appender) -> Carried {
    let (replies, parcels): (Vec<_>, Vec<_>) =
        std::mem::take(waiting).into_iter().partition(|parcel| parcel.topic == Topic::GatewayReplies);
    let mut ways: BTreeMap<Way, Vec<Parcel>> = BTreeMap::new();
    for parcel in parcels {
        ways.entry((parcel.topic, parcel.partition)).or_default().push(parcel);
    }
    dead.retain(|way| ways.contains_key(way));
    let tried = dead.pop_front().and_then(|way| ways.remove_entry(&way));
    let held: Vec<Parcel> = dead.iter().filter_map(|way| ways.remove(way)).flatten().collect();
    let mut delivered = Vec::new();
    let carried = carry_ways(ways, &mut delivered, waiting, dead, appender)
        .and_then(|()| tried.map_or(Ok(()), |way| carry_one(way, &mut delivered, waiting, dead, appender)));
    waiting.extend(held);
    send_replies(replies, appender);
    let rest = match carried {
        Ok(()) if waiting.is_empty() => Rest::None,
        Ok(()) => Rest::Later,
        Err(error) => {
            tracing::error!(error = %chain(&error), "messages cannot leave: the shard must be taken over again");
            Rest::Never
        }
    };
    Carried { delivered, rest }
}

/// Carries what goes on several ways together, and where the log does not take that, each by itself.
fn carry_ways(
    ways: BTreeMap<Way, Vec<Parcel>>,
    delivered: &mut Vec<PendingId>,
    waiting: &mut Vec<Parcel>,
    dead: &mut VecDeque<Way>,
    appender: &dyn Appender,
) -> Result<(), JournalError> {
    if ways.len() > 1 {
        match append(ways.values().flatten(), appender) {
            Ok(()) => {
                delivered.extend(ways.into_values().flatten().filter_map(|parcel| parcel.id));
                return Ok(());
            }
            Err(error) if error.remedy() == Remedy::Retry => {}
            Err(error) => return Err(error),
        }
    }
    ways.into_iter().try_for_each(|way| carry_one(way, delivered, waiting, dead, appender))
}

fn carry_one(
    (way, parcels): (Way, Vec<Parcel>),
    delivered: &mut Vec<PendingId>,
    waiting: &mut Vec<Parcel>,
    dead: &mut VecDeque<Way>,
    appender: &dyn Appender,
) -> Result<(), JournalError> {
    match append(&parcels, appender) {
        Ok(()) => delivered.extend(parcels.into_iter().filter_map(|parcel| parcel.id)),
        Err(error) if error.remedy() == Remedy::Retry => {
            tracing::warn!(error = %chain(&error), topic = way.0.name(), partition = way.1, "messages wait for the log");
            waiting.extend(parcels);
            dead.push_back(way);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn append<'a>(parcels: impl IntoIterator<Item = &'a Parcel>, appender: &dyn Appender) -> Result<(), JournalError> {
    appender.append_all(parcels.into_iter().map(|parcel| (parcel.topic, parcel.partition, parcel.record.clone())).collect())
}

/// Replies are best effort: all at once, and one by one if the log refuses that, for one of them may name a gateway that is not. Where it
/// does not answer, they are lost: everything else would wait for each of them.
fn send_replies(replies: Vec<Parcel>, appender: &dyn Appender) {
    let replies: Vec<_> = replies.into_iter().map(|parcel| (parcel.topic, parcel.partition, parcel.record)).collect();
    if replies.is_empty() {
        return;
    }
    match appender.append_all(replies.clone()) {
        Ok(()) => return,
        Err(error) if error.remedy() == Remedy::Retry => {
            return tracing::warn!(error = %chain(&error), replies = replies.len(), "replies are lost: the gateway answers `unknown`");
        }
        Err(_) => {}
    }
    for (topic, partition, record) in replies {
        if let Err(error) = appender.append(topic, partition, record) {
            tracing::warn!(error = %chain(&error), "a reply is lost: the gateway answers `unknown`");
        }
    }
}

/// A pause without new parcels is not the end; a shard that hung up is.
fn still_open(error: RecvTimeoutError) -> Result<Vec<Parcel>, RecvTimeoutError> {
    match error {
        RecvTimeoutError::Timeout => Ok(Vec::new()),
        RecvTimeoutError::Disconnected => Err(error),
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use custos_messages::{Headers, Machine, ShardName};

    use super::*;

    const DEAD: (Topic, u32) = (Topic::Inbox(Machine::Treasury), 0);

    /// A log of which one partition has no leader, until it is healed.
    #[derive(Default)]
    struct Lame(Mutex<Vec<(Topic, u32)>>, AtomicBool);

    impl Appender for Lame {
        fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError> {
            self.append_all(vec![(topic, partition, record)]).map(|()| 0)
        }

        fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError> {
            for (topic, partition, _) in records {
                if (topic, partition) == DEAD && !self.1.load(Ordering::Relaxed) {
                    return Err(JournalError::Unavailable { operation: "append", reason: "no leader".to_owned() });
                }
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push((topic, partition));
            }
            Ok(())
        }
    }

    fn parcel((topic, partition): (Topic, u32), sequence: u64) -> Parcel {
        let record = Record { key: Vec::new(), value: None, headers: Headers::new() };
        let to = ShardName { machine: Machine::Treasury, partition };
        Parcel { topic, partition, record, id: Some(PendingId { to, sequence }) }
    }

    #[test]
    fn a_partition_without_a_leader_holds_up_no_other_and_none_hears_anything_twice_for_it() {
        let (lame, alive) = (Lame::default(), (Topic::Inbox(Machine::Treasury), 1));
        let reply = Parcel { id: None, ..parcel((Topic::GatewayReplies, 0), 0) };
        let mut waiting = vec![parcel(alive, 1), reply, parcel(DEAD, 1), parcel(alive, 2), parcel(DEAD, 2)];
        let mut dead = VecDeque::new();
        let carried = carry(&mut waiting, &mut dead, &lame);
        let numbers = |ids: Vec<PendingId>| ids.into_iter().map(|id| (id.to.partition, id.sequence)).collect::<Vec<_>>();
        assert_eq!(numbers(carried.delivered), [(1, 1), (1, 2)]);
        assert!(matches!(carried.rest, Rest::Later));
        let left: Vec<u64> = waiting.iter().filter_map(|parcel| parcel.id).map(|id| id.sequence).collect();
        assert_eq!(left, [1, 2], "in their order");
        assert!(lame.0.lock().unwrap().contains(&(Topic::GatewayReplies, 0)), "a reply is sent all the same");
        lame.0.lock().unwrap().clear();
        waiting.push(parcel(alive, 3));
        assert_eq!(numbers(carry(&mut waiting, &mut dead, &lame).delivered), [(1, 3)]);
        assert_eq!(*lame.0.lock().unwrap(), [alive], "once, and nothing of before");
        lame.1.store(true, Ordering::Relaxed);
        let healed = carry(&mut waiting, &mut dead, &lame);
        assert_eq!(numbers(healed.delivered), [(0, 1), (0, 2)]);
        assert!(matches!(healed.rest, Rest::None) && waiting.is_empty() && dead.is_empty());
    }
}
