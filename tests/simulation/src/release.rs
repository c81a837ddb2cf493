//! A rolling change. The release after this one is the same system with one more logic, by which every timer is due a millisecond later:
//! so that whoever decides by the wrong one leaves another state. It is installed process by process. Then the operator orders every
//! shard to switch; now and then before the last process has the release, and again when nobody answered.
//!
//! The next policy is brought the same way, shard by shard, each at its own time: until the last one has it, two are in force.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use custos_messages::{Activate, Machine as Kind, Postmark, ShardName, SignedPolicy, Source, Topic};
use custos_runtime::shard::LOGIC;
use custos_saga::machine::{Cause, Context, Effects, Machine, Place, Remains, StateError, TimerChange, View};

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;
use crate::town::policy_for;

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

/// Who brings the next release and orders the switch, and publishes the next policy.
pub struct Operator {
    diary: Diary,
    /// The next policy.
    policy: Option<SignedPolicy>,
    clock: WorldClock,
    log: Outside,
    plan: VecDeque<(Duration, Deed)>,
}

enum Deed {
    Install(Installed),
    Order(ShardName),
    Publish(ShardName),
}

/// What an operator is to do.
pub struct Changes {
    /// The hosts that get the next release, if it is brought.
    pub hosts: Option<Vec<Installed>>,
    /// The next policy, if there is one.
    pub policy: Option<SignedPolicy>,
}

impl Operator {
    /// An operator who makes these changes.
    #[must_use]
    pub fn new(diary: Diary, clock: WorldClock, log: Outside, mut chance: Chance, changes: Changes) -> Self {
        let of = |machine| (0..log.partitions()).map(move |partition| ShardName { machine, partition });
        let shards: Vec<ShardName> = Kind::ALL.into_iter().flat_map(of).collect();
        let mut plan = changes.hosts.map_or_else(Vec::new, |hosts| release(&mut chance, hosts, &shards));
        if changes.policy.is_some() {
            plan.extend(publication(&mut chance.fork("policy"), shards));
        }
        plan.sort_by_key(|(at, _)| *at);
        Self { diary, policy: changes.policy, clock, log, plan: plan.into() }
    }

    /// Whether the change is complete.
    #[must_use]
    pub fn done(&self) -> bool {
        self.plan.is_empty()
    }

    fn publish(&mut self, shard: ShardName) -> bool {
        let Some(policy) = &self.policy else { return true };
        let mail = policy_for(shard.machine, policy);
        let record = mail.seal(self.log.keyring(), Source::Operator, Postmark::default());
        self.diary.note("operator", format_args!("publishes the next policy to {shard}"));
        self.diary.sometimes("the policy changes");
        self.log.write(mail.topic(), shard.partition, record)
    }

    fn order(&mut self, shard: ShardName) -> bool {
        let inbox = Topic::Inbox(shard.machine);
        let order = Activate { logic: NEXT };
        let record = self.log.keyring().seal_message(inbox, Source::Operator, &order, Postmark::default());
        self.diary.note("operator", format_args!("orders {shard} to switch to logic {NEXT}"));
        self.log.write(inbox, shard.partition, record)
    }
}

/// The hosts get the next release one after the other; then every shard is ordered to switch.
fn release(chance: &mut Chance, hosts: Vec<Installed>, shards: &[ShardName]) -> Vec<(Duration, Deed)> {
    let at = Duration::from_secs(chance.below(BEGIN_S));
    let mut deeds: Vec<Deed> = hosts.into_iter().map(Deed::Install).collect();
    // Too early by one host: whatever that one owns stands still until it has the release, too.
    let last = if chance.once_in(3) { deeds.pop() } else { None };
    deeds.extend(shards.iter().copied().map(Deed::Order));
    deeds.extend(last);
    paced(chance, at, deeds)
}

/// Every shard gets the next policy, in an order that is drawn.
fn publication(chance: &mut Chance, mut shards: Vec<ShardName>) -> Vec<(Duration, Deed)> {
    let at = Duration::from_secs(chance.below(BEGIN_S));
    let mut deeds = Vec::new();
    while !shards.is_empty() {
        deeds.push(Deed::Publish(shards.swap_remove(chance.place(shards.len()))));
    }
    paced(chance, at, deeds)
}

fn paced(chance: &mut Chance, mut at: Duration, deeds: Vec<Deed>) -> Vec<(Duration, Deed)> {
    let paced = deeds.into_iter().map(|deed| {
        at = at.saturating_add(Duration::from_secs(chance.below(STEP_S)));
        (at, deed)
    });
    paced.collect()
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
            Deed::Publish(shard) => {
                if !self.publish(shard) {
                    self.plan.push_front((now.saturating_add(AGAIN), Deed::Publish(shard)));
                }
            }
        }
        Step::Busy
    }
}
