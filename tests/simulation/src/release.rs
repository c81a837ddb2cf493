//! A rolling change. The release after this one is the same system with one more logic, by which every timer is due a millisecond later:
//! so that whoever decides by the wrong one leaves another state. It is installed process by process. Then the operator orders every
//! shard to switch; now and then before the last process has the release, and again when nobody answered.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use custos_messages::{Activate, Machine as Kind, Postmark, ShardName, Source, Topic};
use custos_runtime::shard::LOGIC;
use custos_saga::machine::{Cause, Context, Effects, Machine, Place, Remains, StateError, TimerChange, View};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;

/// What the next release knows.
pub const NEXT: u32 = LOGIC + 1;

/// The change begins within so many seconds, and each step of it takes so many at most.
const BEGIN_S: u64 = 60;
const STEP_S: u64 = 20;
/// How soon an order is repeated of which nobody knows whether the log has it.
const AGAIN: Duration = Duration::from_secs(1);

/// A machine as the next release has it.
pub struct Next<M>(PhantomData<M>);

impl<M: Machine> Machine for Next<M> {
    type Input = M::Input;
    type Key = M::Key;
    type Entity = M::Entity;

    const KIND: Kind = M::KIND;
    const LOGIC: u32 = NEXT;

    fn apply(state: &mut View<'_, M::Key, M::Entity>, input: Cause<M::Input>, context: &Context) -> Effects {
        let mut effects = M::apply(state, input, context);
        if context.logic == NEXT {
            for change in &mut effects.timers {
                if let TimerChange::Arm(_, due) = change {
                    due.0 = due.0.saturating_add(1);
                }
            }
        }
        effects
    }

    fn encode_key(key: &M::Key) -> Vec<u8> {
        M::encode_key(key)
    }

    fn encode_entity(entity: &M::Entity) -> Vec<u8> {
        M::encode_entity(entity)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(M::Key, M::Entity), StateError> {
        M::decode(key, value)
    }

    fn settle(key: &M::Key, entity: &M::Entity) -> Option<(Place, Remains)> {
        M::settle(key, entity)
    }
}

/// The newest logic that the release on a host knows: what the process there is started with next.
#[derive(Clone, Debug)]
pub struct Installed(Arc<AtomicU32>);

impl Default for Installed {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(LOGIC)))
    }
}

impl Installed {
    /// The logic.
    #[must_use]
    pub fn logic(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn replace(&self) {
        self.0.store(NEXT, Ordering::Relaxed);
    }
}

/// Who brings the next release, and orders the switch.
pub struct Operator {
    diary: Diary,
    clock: WorldClock,
    log: Outside,
    plan: VecDeque<(Duration, Deed)>,
}

enum Deed {
    Install(Installed),
    Order(ShardName),
}

impl Operator {
    /// An operator who gives the hosts the next release one after the other.
    #[must_use]
    pub fn new(diary: Diary, clock: WorldClock, log: Outside, mut chance: Chance, hosts: Vec<Installed>) -> Self {
        let mut at = Duration::from_secs(chance.below(BEGIN_S));
        let mut deeds: Vec<Deed> = hosts.into_iter().map(Deed::Install).collect();
        let of = |machine| (0..log.partitions()).map(move |partition| Deed::Order(ShardName { machine, partition }));
        let orders: Vec<Deed> = Kind::ALL.into_iter().flat_map(of).collect();
        // Too early by one host: whatever that one owns stands still until it has the release, too.
        let last = if chance.once_in(3) { deeds.pop() } else { None };
        deeds.extend(orders);
        deeds.extend(last);
        let plan = deeds.into_iter().map(|deed| {
            at = at.saturating_add(Duration::from_secs(chance.below(STEP_S)));
            (at, deed)
        });
        let plan = plan.collect();
        Self { diary, clock, log, plan }
    }

    /// Whether the change is complete.
    #[must_use]
    pub fn done(&self) -> bool {
        self.plan.is_empty()
    }

    fn order(&mut self, shard: ShardName) -> bool {
        let inbox = Topic::Inbox(shard.machine);
        let order = Activate { logic: NEXT };
        let record = self.log.keyring().seal_message(inbox, Source::Operator, &order, Postmark::default());
        self.diary.note("operator", format_args!("orders {shard} to switch to logic {NEXT}"));
        self.log.write(inbox, shard.partition, record)
    }
}

impl Actor for Operator {
    fn name(&self) -> &str {
        "operator"
    }

    fn step(&mut self) -> Step {
        let now = self.clock.now();
        let Some((at, deed)) = self.plan.pop_front() else { return Step::Idle(Duration::from_secs(3_600)) };
        if at > now {
            self.plan.push_front((at, deed));
            return Step::Idle(at.saturating_sub(now));
        }
        match deed {
            Deed::Install(host) => host.replace(),
            Deed::Order(shard) => {
                if !self.order(shard) {
                    self.plan.push_front((now.saturating_add(AGAIN), Deed::Order(shard)));
                }
            }
        }
        Step::Busy
    }
}
